/*
 * settle.h
 *		The engine: whatever changed for accounts and periods, it settles their billings.
 */
#ifndef CREDITMEMO_SETTLE_H
#define CREDITMEMO_SETTLE_H

#include "books.h"

/*
 * By how much a statement changed the lines of an account's service period, in cents.  Lines that it
 * changed or deleted must have been on the open billing.
 */
typedef struct PeriodChange
{
	DateADT		service_period;
	int128		utilization;
	int128		creditable;
	int32		first_billing_no;	/* of lines changed or deleted; 0: none */
	int32		last_billing_no;
	int32		billing_no;		/* set by settle_accounts(): the billing that took the change up */
} PeriodChange;

/* All that a statement changed for a member account. */
typedef struct AccountChange
{
	text	   *account_id;
	LockTupleMode lock;			/* LockTupleKeyShare: nothing but new charges; else
								 * LockTupleExclusive */
	LockWaitPolicy lock_policy; /* for the account: LockWaitBlock or LockWaitError */
	bool		terms_changed;	/* a memo's eligibility was changed */
	int			nperiods;
	PeriodChange *periods;		/* oldest first */
	int			nissued;
	int64	   *issued;			/* ids of new memos, ascending */
	text	   *void_reason;	/* of a memo to void; null: none */
	int64		voided_memo;	/* its id */
	int32		voided_billing_no;	/* a billing to take off its invoice; 0: none */
	DateADT		voided_period;	/* its service period */
	bool		is_closed;		/* set by lock_accounts(), with closed_through */
	DateADT		closed_through;
	bool		opens_periods;	/* closed_through is earlier than it was */
} AccountChange;

extern List *read_account_ids(Books *books, BooksLookup lookup, int column, int nkeys,
							  const Datum *keys);
extern AccountChange *changes_for_accounts(List *account_ids, LockTupleMode lock,
											int *nchanges);
extern void lock_accounts(Books *books, AccountChange *changes, int nchanges);
extern void settle_accounts(Books *books, AccountChange *changes, int nchanges);
extern void refuse_closed_period(const AccountChange *change, DateADT service_period);

#endif							/* CREDITMEMO_SETTLE_H */
