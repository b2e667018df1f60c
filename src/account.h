/*
 * account.h
 *		A member account's books: its billings, memos and ledger while it is being settled.
 */
#ifndef CREDITMEMO_ACCOUNT_H
#define CREDITMEMO_ACCOUNT_H

#include "settle.h"

/* A credit memo of the account. */
typedef struct Memo
{
	int64		memo_id;
	int64		amount;
	int64		balance;
	int32		priority;
	DateADT		redeemed_on;
	DateADT		first_period;
	DateADT		last_period;	/* DATEVAL_NOEND: for ever */
	DateADT		expires_on;		/* DATEVAL_NOEND: never */
	int			nservices;		/* 0: not limited to services */
	text	  **services;
	bool		is_void;
	int			rank;			/* its place in the order of spending */
	HeapTuple	row;			/* null: read only, not locked */
	int32		entries;		/* the number of its last entry */
	bool		changed;
} Memo;

/* What a service was charged over a period, and what memos limited to services have paid of it. */
typedef struct ServiceTotal
{
	text	   *service;
	int128		charged;
	int128		paid;
} ServiceTotal;

/* A billing whose lines and credit count for another one. */
typedef struct Folding
{
	int32		billing_no;
	int32		folded_into;
	bool		changed;		/* is to be written */
} Folding;

/* A service period of the account: its open billing, and what the invoiced ones come to. */
typedef struct Period
{
	DateADT		service_period;
	int128		invoiced_creditable;
	int128		invoiced_credit;
	int32		last_billing_no;
	text	   *last_invoice;	/* number of the last invoice; null: none */
	Folding    *foldings;
	int			nfoldings;
	int32		open_no;		/* 0: no open billing */
	HeapTuple	open_row;		/* null: a new one */
	bool		was_invoiced;	/* is to be taken off its invoice */
	int64		utilization;	/* of the open billing, as are the next two */
	int64		creditable;
	int64		credit;
	bool		lines_changed;	/* even where the sums stayed: services may have moved */
	bool		changed;		/* figures that are to be written */
	ServiceTotal *services;
	int			nservices;		/* -1: not read yet */
} Period;

/* A movement of a memo's balance, to be written. */
typedef struct Entry
{
	Memo	   *memo;
	int32		entry_no;
	const char *entry_type;
	int64		amount;
	int64		balance_after;
	Period	   *period;			/* null: neither apply nor release */
	text	   *service;
	int32		reverses;
} Entry;

/* An earlier application of credit, and what of it has not been released yet. */
typedef struct Application
{
	Memo	   *memo;
	int32		entry_no;
	int32		billing_no;		/* that it counts for */
	text	   *service;
	TimestampTz recorded_at;
	int64		left;
} Application;

/* The account being settled; everything here lives until the next one. */
typedef struct Account
{
	Books	   *books;
	AccountChange *change;
	TimestampTz recorded_at;	/* of the entries, taken once all locks are held */
	Period	   *periods;		/* oldest first */
	int			nperiods;
	int			max_periods;
	Memo	   *memos;			/* by memo_id */
	int			nmemos;
	Memo	  **spending;		/* the same in the order of spending */
	List	   *entries;
} Account;

/* account.c */
extern bool lock_account(Books *books, AccountChange *change, LockTupleMode mode);

/* billing.c */
extern bool is_open_billing(Books *books, TupleTableSlot *row);
extern bool has_something_to_bill(Books *books, TupleTableSlot *row);
extern bool find_unbilled_period(Books *books, text *account_id, DateADT last_period,
								 DateADT *service_period);
extern Period *get_period(Account *account, DateADT service_period);
extern int32 counts_for(const Period *period, int32 billing_no);
extern void read_billings(Account *account, const DateADT *service_period);
extern void open_billing(Account *account, DateADT service_period);
extern void lock_billings(Account *account);
extern void reopen_billing(Account *account);
extern void read_services(Account *account, Period *period);
extern ServiceTotal *find_service(const Period *period, const text *service);
extern ServiceTotal *get_service(Period *period, const text *service);
extern void write_billings(Account *account);

/* ledger.c */
extern DateADT get_end_date(Books *books, TupleTableSlot *row, int column);
extern void read_memos(Account *account,
					   bool (*may_change) (const Account *account, const Memo *memo));
extern Memo *get_memo(const Account *account, int64 memo_id);
extern int64 read_expired(Books *books, text *account_id, int64 memo_id);
extern Application *read_applications(Account *account, const Period *period,
									  int *napplications);
extern void write_memos(Account *account);
extern void write_entries(Account *account);

#endif							/* CREDITMEMO_ACCOUNT_H */
