/*
 * settle.c
 *		The engine: applies credit to billings, and gives it back.
 *
 * Callers say which accounts and periods changed by how much; lock_accounts() and then
 * settle_accounts() bring billings, memos and ledger to where the rules of design section 4 want
 * them.  An account is read, settled and written before the next one, in one order everywhere:
 * first all member accounts by id; then, account by account, billings by key and memos by id.  So
 * no two calls deadlock, and memory is bounded by the largest account.
 *
 * New charges hold their account FOR KEY SHARE: others may charge it too, and what they share, its
 * open billing and its memos, is locked row by row.  Whatever else can free or add credit holds it
 * FOR UPDATE and has it to itself.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "settle.h"

/* A credit memo of the account. */
typedef struct Memo
{
	int64		memo_id;
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
	int32		last_entry_no;	/* -1: not looked up yet */
	bool		changed;
} Memo;

/* What a service was charged over a period, and what memos limited to services have paid of it. */
typedef struct ServiceTotal
{
	text	   *service;
	int64		charged;
	int64		paid;
} ServiceTotal;

/* A service period of the account: its open billing, and what the invoiced ones come to. */
typedef struct Period
{
	DateADT		service_period;
	int64		invoiced_creditable;
	int64		invoiced_credit;
	int32		last_billing_no;
	int32		open_no;		/* 0: no open billing */
	HeapTuple	open_row;		/* null: a new one */
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
	int32		billing_no;
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

/* ---------------------------------------------------------------------------------------------
 * Accounts locked
 * ---------------------------------------------------------------------------------------------
 */

static bool
lock_account(Books *books, AccountChange *change, LockTupleMode mode)
{
	Datum		key = PointerGetDatum(change->account_id);
	TupleTableSlot *row;
	Datum		closed_through;
	bool		isnull;

	if (!find_row(books, ACCOUNT_BY_ID, 1, &key, &row) ||
		!lock_row(books, MEMBER_ACCOUNT, row, mode))
		return false;

	closed_through = get_column(books, MEMBER_ACCOUNT, row, ACCOUNT_CLOSED_THROUGH, &isnull);
	change->is_closed = !isnull;
	if (!isnull)
		change->closed_through = DatumGetDateADT(closed_through);
	change->customer_id = copy_text(get_required_column(books, MEMBER_ACCOUNT, row,
														ACCOUNT_CUSTOMER_ID),
									CurrentMemoryContext);
	return true;
}

/*
 * Locks the member accounts of the changes, which are in order of account_id, as each asks for:
 * that is what proves them to exist (design section 4, Locks).  Raises foreign_key_violation that
 * names those that do not, object_not_in_prerequisite_state for a period closed for its account.
 */
void
lock_accounts(Books *books, AccountChange *changes, int nchanges)
{
	List	   *unknown = NIL;

	for (int i = 0; i < nchanges; i++)
	{
		Assert(i == 0 || compare_text(changes[i - 1].account_id, changes[i].account_id) < 0);
		if (!lock_account(books, &changes[i], changes[i].lock))
			unknown = lappend(unknown, changes[i].account_id);
	}
	if (unknown != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg_plural("unknown member account", "unknown member accounts",
							   list_length(unknown)),
				 errdetail("Not in creditmemo.member_account: %s.", account_list_text(unknown)),
				 errhint("Insert what is missing into creditmemo.member_account first, with its payer account and customer.")));
	for (int i = 0; i < nchanges; i++)
		if (changes[i].nperiods > 0)
			refuse_closed_period(&changes[i], changes[i].periods[0].service_period);
	look_again(books);
}

/* Raises an error if the period, or one after it, has been closed for the locked account. */
void
refuse_closed_period(const AccountChange *change, DateADT service_period)
{
	if (change->is_closed && service_period <= change->closed_through)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("service period %s is closed for member account %s",
						service_period_text(service_period),
						text_to_cstring(change->account_id)),
				 errdetail("It is closed through %s: what is closed takes no more utilization, credit or invoices.",
						   service_period_text(change->closed_through)),
				 errhint("Work in a later service period.")));
}

/* ---------------------------------------------------------------------------------------------
 * Billings read and locked
 * ---------------------------------------------------------------------------------------------
 */

/* The period, added where it is missing; periods stay in order. */
static Period *
get_period(Account *account, DateADT service_period)
{
	int			at = account->nperiods;
	Period	   *period;

	while (at > 0 && account->periods[at - 1].service_period >= service_period)
		at--;
	if (at < account->nperiods && account->periods[at].service_period == service_period)
		return &account->periods[at];

	if (account->nperiods == account->max_periods)
	{
		account->max_periods = Max(4, 2 * account->max_periods);
		account->periods = account->periods == NULL ?
			palloc(account->max_periods * sizeof(Period)) :
			repalloc(account->periods, account->max_periods * sizeof(Period));
	}
	period = &account->periods[at];
	memmove(period + 1, period, (account->nperiods - at) * sizeof(Period));
	account->nperiods++;
	memset(period, 0, sizeof(Period));
	period->service_period = service_period;
	period->nservices = -1;
	return period;
}

/* Reads the billings of one period of the account, or of all if that is null. */
static void
read_billings(Account *account, const DateADT *service_period)
{
	Books	   *books = account->books;
	Datum		keys[2] = {PointerGetDatum(account->change->account_id)};
	RowScan		rows;

	if (service_period != NULL)
		keys[1] = DateADTGetDatum(*service_period);
	begin_rows(&rows, books, BILLINGS_OF_ACCOUNT, ForwardScanDirection,
			   service_period != NULL ? 2 : 1, keys);
	while (next_row(&rows))
	{
		Period	   *period;
		bool		not_invoiced;
		bool		not_folded;

		(void) get_column(books, BILLING, rows.row, BILLING_INVOICE_NUMBER, &not_invoiced);
		(void) get_column(books, BILLING, rows.row, BILLING_FOLDED_INTO, &not_folded);
		period = get_period(account,
							DatumGetDateADT(get_required_column(books, BILLING, rows.row,
																BILLING_SERVICE_PERIOD)));
		period->last_billing_no = DatumGetInt32(get_required_column(books, BILLING, rows.row,
																	BILLING_NO));
		if (not_invoiced && not_folded)
		{
			period->open_no = period->last_billing_no;
			period->open_row = copy_row(rows.row);
		}
		else
		{
			period->invoiced_creditable += get_cents(books, BILLING, rows.row,
													 BILLING_CREDITABLE);
			period->invoiced_credit += get_cents(books, BILLING, rows.row, BILLING_CREDIT);
		}
	}
	end_rows(&rows);
}

/*
 * Gives the period an open billing.  Only one may do so at a time: an account that is merely
 * shared is locked FOR NO KEY UPDATE first, which lets other charges go on but for this.
 */
static void
open_billing(Account *account, DateADT service_period)
{
	Period	   *period = get_period(account, service_period);

	if (period->open_no == 0 && account->change->lock == LockTupleKeyShare)
	{
		if (!lock_account(account->books, account->change, LockTupleNoKeyExclusive))
			elog(ERROR, "member account %s has vanished",
				 text_to_cstring(account->change->account_id));
		look_again(account->books);
		period->invoiced_creditable = period->invoiced_credit = 0;
		read_billings(account, &service_period);
		period = get_period(account, service_period);
	}
	if (period->open_no == 0)
	{
		period->open_no = period->last_billing_no + 1;
		period->changed = true;
	}
}

/* Locks the open billings of the account and takes their figures as they are then. */
static void
lock_billings(Account *account)
{
	Books	   *books = account->books;

	for (int i = 0; i < account->nperiods; i++)
	{
		Period	   *period = &account->periods[i];
		Datum		keys[3] = {PointerGetDatum(account->change->account_id),
			DateADTGetDatum(period->service_period), Int32GetDatum(period->open_no)};
		TupleTableSlot *row;

		if (period->open_row == NULL)
			continue;
		if (!find_row(books, BILLINGS_OF_ACCOUNT, 3, keys, &row) ||
			!lock_row(books, BILLING, row, LockTupleNoKeyExclusive))
			elog(ERROR, "billing %d of member account %s has vanished", period->open_no,
				 text_to_cstring(account->change->account_id));
		period->open_row = copy_row(row);
		period->utilization = get_cents(books, BILLING, row, BILLING_UTILIZATION);
		period->creditable = get_cents(books, BILLING, row, BILLING_CREDITABLE);
		period->credit = get_cents(books, BILLING, row, BILLING_CREDIT);
	}
}

/* Adds what the statement changed to the open billings. */
static void
add_changes(Account *account)
{
	const AccountChange *change = account->change;

	for (int i = 0; i < change->nperiods; i++)
	{
		PeriodChange *delta = &change->periods[i];
		Period	   *period = get_period(account, delta->service_period);

		period->utilization = cents_from_sum((int128) period->utilization + delta->utilization,
											 change->account_id, delta->service_period);
		period->creditable = cents_from_sum((int128) period->creditable + delta->creditable,
											change->account_id, delta->service_period);
		period->lines_changed = true;
		period->changed |= delta->utilization != 0 || delta->creditable != 0;
		delta->billing_no = period->open_no;
	}
}

/*
 * What credit may still pay of the open billing; negative: what it must give back.  This is the
 * cap of the design: C of the open billing is at most max(U, 0), and C over all billings of the
 * period at most max(sum of U over them, 0).
 */
static int64
room_for_credit(const Period *period)
{
	int64		of_billing = Max(period->creditable, 0);
	int64		of_period = Max(period->invoiced_creditable + period->creditable, 0) -
		period->invoiced_credit;

	return period->open_no == 0 ? 0 : Min(of_billing, of_period) - period->credit;
}

/* ---------------------------------------------------------------------------------------------
 * Memos read and locked
 * ---------------------------------------------------------------------------------------------
 */

static bool
is_eligible(const Memo *memo, const Period *period)
{
	return !memo->is_void && memo->first_period <= period->service_period &&
		period->service_period <= memo->last_period;
}

/* The order of spending: less than 0 if a is spent before b. */
static int
compare_spending(const Memo *a, const Memo *b)
{
	/* limited to fewer services first, unlimited last */
	uint32		a_services = (uint32) a->nservices - 1;
	uint32		b_services = (uint32) b->nservices - 1;

	if (a->priority != b->priority)
		return a->priority < b->priority ? -1 : 1;
	if (a->expires_on != b->expires_on)
		return a->expires_on < b->expires_on ? -1 : 1;
	if (a_services != b_services)
		return a_services < b_services ? -1 : 1;
	if (a->redeemed_on != b->redeemed_on)
		return a->redeemed_on < b->redeemed_on ? -1 : 1;
	return a->memo_id < b->memo_id ? -1 : a->memo_id > b->memo_id;
}

static int
compare_spending_pointers(const void *a, const void *b)
{
	return compare_spending(*(Memo *const *) a, *(Memo *const *) b);
}

static DateADT
get_end_date(Books *books, TupleTableSlot *row, int column)
{
	bool		isnull;
	Datum		value = get_column(books, CREDIT_MEMO, row, column, &isnull);

	return isnull ? DATEVAL_NOEND : DatumGetDateADT(value);
}

static void
take_memo(Books *books, TupleTableSlot *row, Memo *memo)
{
	bool		isnull;
	Datum		services;

	memo->memo_id = DatumGetInt64(get_required_column(books, CREDIT_MEMO, row, MEMO_ID));
	memo->balance = get_cents(books, CREDIT_MEMO, row, MEMO_BALANCE);
	memo->priority = DatumGetInt32(get_required_column(books, CREDIT_MEMO, row, MEMO_PRIORITY));
	memo->redeemed_on = DatumGetDateADT(get_required_column(books, CREDIT_MEMO, row,
															MEMO_REDEEMED_ON));
	memo->first_period = DatumGetDateADT(get_required_column(books, CREDIT_MEMO, row,
															 MEMO_FIRST_PERIOD));
	memo->last_period = get_end_date(books, row, MEMO_LAST_PERIOD);
	memo->expires_on = get_end_date(books, row, MEMO_EXPIRES_ON);
	(void) get_column(books, CREDIT_MEMO, row, MEMO_VOIDED_AT, &isnull);
	memo->is_void = !isnull;
	memo->nservices = 0;
	services = get_column(books, CREDIT_MEMO, row, MEMO_SERVICES, &isnull);
	if (!isnull)
	{
		Datum	   *elements;

		deconstruct_array(DatumGetArrayTypePCopy(services), TEXTOID, -1, false, TYPALIGN_INT,
						  &elements, NULL, &memo->nservices);
		memo->services = (text **) elements;
	}
	memo->last_entry_no = -1;
}

/*
 * Whether the memo's row is needed: whoever has the account to himself may touch any; new charges
 * only those that can pay them.
 */
static bool
may_change(const Account *account, const Memo *memo)
{
	if (account->change->lock == LockTupleExclusive)
		return true;
	for (int i = 0; i < account->nperiods && memo->balance > 0; i++)
		if (room_for_credit(&account->periods[i]) > 0 &&
			is_eligible(memo, &account->periods[i]))
			return true;
	return false;
}

/* Reads the account's memos, locks those that may change, and ranks them for spending. */
static void
read_memos(Account *account)
{
	Books	   *books = account->books;
	Datum		key = PointerGetDatum(account->change->account_id);
	int			max_memos = 4;
	RowScan		rows;

	account->memos = palloc(max_memos * sizeof(Memo));
	begin_rows(&rows, books, MEMOS_OF_ACCOUNT, ForwardScanDirection, 1, &key);
	while (next_row(&rows))
	{
		Memo		memo = {0};

		take_memo(books, rows.row, &memo);
		if (may_change(account, &memo))
		{
			if (!lock_row(books, CREDIT_MEMO, rows.row, LockTupleNoKeyExclusive))
				elog(ERROR, "credit memo " INT64_FORMAT " has vanished", memo.memo_id);
			take_memo(books, rows.row, &memo);
			memo.row = copy_row(rows.row);
		}
		if (account->nmemos == max_memos)
		{
			max_memos *= 2;
			account->memos = repalloc(account->memos, max_memos * sizeof(Memo));
		}
		account->memos[account->nmemos++] = memo;
	}
	end_rows(&rows);

	account->spending = palloc(account->nmemos * sizeof(Memo *));
	for (int i = 0; i < account->nmemos; i++)
		account->spending[i] = &account->memos[i];
	qsort(account->spending, account->nmemos, sizeof(Memo *), compare_spending_pointers);
	for (int i = 0; i < account->nmemos; i++)
		account->spending[i]->rank = i;

	/* others who charged the account may have added entries while we waited for its memos */
	if (account->change->lock == LockTupleKeyShare)
		look_again(books);
}

static Memo *
get_memo(const Account *account, int64 memo_id)
{
	int			low = 0;
	int			high = account->nmemos;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (account->memos[middle].memo_id < memo_id)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == account->nmemos || account->memos[low].memo_id != memo_id)
		elog(ERROR, "credit memo " INT64_FORMAT " of member account %s is missing", memo_id,
			 text_to_cstring(account->change->account_id));
	return &account->memos[low];
}

/* ---------------------------------------------------------------------------------------------
 * Services
 * ---------------------------------------------------------------------------------------------
 */

static ServiceTotal *
get_service(Period *period, const text *service)
{
	ServiceTotal *total;

	for (int i = 0; i < period->nservices; i++)
		if (compare_text(period->services[i].service, service) == 0)
			return &period->services[i];

	/* room for a power of two */
	if ((period->nservices & (period->nservices - 1)) == 0)
		period->services = period->nservices == 0 ? palloc(sizeof(ServiceTotal)) :
			repalloc(period->services, 2 * period->nservices * sizeof(ServiceTotal));
	total = &period->services[period->nservices++];
	total->service = copy_text(PointerGetDatum(service), CurrentMemoryContext);
	total->charged = total->paid = 0;
	return total;
}

/* Reads what each service was charged over the period, and what limited memos have paid of it. */
static void
read_services(Account *account, Period *period)
{
	Books	   *books = account->books;
	Datum		line_keys[2] = {DateADTGetDatum(period->service_period),
		PointerGetDatum(account->change->account_id)};
	Datum		entry_keys[2] = {line_keys[1], line_keys[0]};
	RowScan		rows;
	Datum		service;
	bool		isnull;

	if (period->nservices >= 0)
		return;
	period->nservices = 0;

	begin_rows(&rows, books, LINES_OF_PERIOD, ForwardScanDirection, 2, line_keys);
	while (next_row(&rows))
		if (DatumGetBool(get_required_column(books, UTILIZATION, rows.row, LINE_CREDITABLE)))
		{
			service = get_required_column(books, UTILIZATION, rows.row, LINE_SERVICE);
			get_service(period, DatumGetTextPP(service))->charged +=
				get_cents(books, UTILIZATION, rows.row, LINE_AMOUNT);
		}
	end_rows(&rows);

	begin_rows(&rows, books, ENTRIES_OF_PERIOD, ForwardScanDirection, 2, entry_keys);
	while (next_row(&rows))
	{
		service = get_column(books, MEMO_ENTRY, rows.row, ENTRY_SERVICE, &isnull);
		if (!isnull)
			get_service(period, DatumGetTextPP(service))->paid -=
				get_cents(books, MEMO_ENTRY, rows.row, ENTRY_AMOUNT);
	}
	end_rows(&rows);
}

/* What memos limited to services may still pay of the service; negative: what they must give back. */
static int64
room_for_service(const ServiceTotal *total)
{
	return Max(total->charged, 0) - total->paid;
}

/* Of the memo's services the one with the most left to pay, by name among equals; null if none. */
static ServiceTotal *
dearest_service(Account *account, Period *period, const Memo *memo)
{
	ServiceTotal *dearest = NULL;

	read_services(account, period);
	for (int i = 0; i < memo->nservices; i++)
	{
		ServiceTotal *total = NULL;

		for (int j = 0; j < period->nservices && total == NULL; j++)
			if (compare_text(period->services[j].service, memo->services[i]) == 0)
				total = &period->services[j];
		if (total == NULL || room_for_service(total) <= 0)
			continue;
		if (dearest == NULL || room_for_service(total) > room_for_service(dearest) ||
			(room_for_service(total) == room_for_service(dearest) &&
			 compare_text(total->service, dearest->service) < 0))
			dearest = total;
	}
	return dearest;
}

/* ---------------------------------------------------------------------------------------------
 * Entries
 * ---------------------------------------------------------------------------------------------
 */

static int32
next_entry_no(Account *account, Memo *memo)
{
	if (memo->last_entry_no < 0)
	{
		Datum		keys[2] = {PointerGetDatum(account->change->account_id),
			Int64GetDatum(memo->memo_id)};
		RowScan		rows;

		begin_rows(&rows, account->books, ENTRIES_OF_MEMO, BackwardScanDirection, 2, keys);
		memo->last_entry_no = next_row(&rows) ?
			DatumGetInt32(get_required_column(account->books, MEMO_ENTRY, rows.row, ENTRY_NO)) : 0;
		end_rows(&rows);
	}
	return ++memo->last_entry_no;
}

/*
 * Moves the memo's balance by the amount and notes the entry.  With a period, the amount comes
 * from its open billing, or goes to it where negative, and for a limited memo from the service.
 */
static void
post_entry(Account *account, Memo *memo, const char *entry_type, int64 amount,
		   Period *period, ServiceTotal *service, int32 reverses)
{
	Entry	   *entry = palloc(sizeof(Entry));

	Assert(memo->row != NULL && amount != 0);
	memo->balance += amount;
	memo->changed = true;
	if (period != NULL)
	{
		period->credit -= amount;
		period->changed = true;
	}
	if (service != NULL)
		service->paid -= amount;

	entry->memo = memo;
	entry->entry_no = next_entry_no(account, memo);
	entry->entry_type = entry_type;
	entry->amount = amount;
	entry->balance_after = memo->balance;
	entry->period = period;
	entry->service = service != NULL ? service->service : NULL;
	entry->reverses = reverses;
	account->entries = lappend(account->entries, entry);
}

/* Enters the new memos in the ledger.  Raises an error for one whose last period is closed. */
static void
issue_memos(Account *account)
{
	const AccountChange *change = account->change;

	for (int i = 0; i < change->nissued; i++)
	{
		Memo	   *memo = get_memo(account, change->issued[i]);
		int64		amount = memo->balance;

		if (change->is_closed && memo->last_period <= change->closed_through)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the credit memo ends in %s, which is closed for member account %s",
							service_period_text(memo->last_period),
							text_to_cstring(change->account_id)),
					 errdetail("It could never pay anything."),
					 errhint("Check expires_on.")));
		memo->balance = 0;
		memo->last_entry_no = 0;
		post_entry(account, memo, "issue", amount, NULL, NULL, 0);
	}
}

/* ---------------------------------------------------------------------------------------------
 * Credit given back
 * ---------------------------------------------------------------------------------------------
 */

static int
compare_applications_by_entry(const void *a, const void *b)
{
	const Application *x = a;
	const Application *y = b;

	if (x->memo != y->memo)
		return x->memo < y->memo ? -1 : 1;
	return x->entry_no < y->entry_no ? -1 : x->entry_no > y->entry_no;
}

/*
 * The order of giving back: the last billing's first, and in it the newest application; those of
 * one call in the reverse order of spending.  The open billing is always the period's last.
 */
static int
compare_applications_newest_first(const void *a, const void *b)
{
	const Application *x = a;
	const Application *y = b;

	if (x->billing_no != y->billing_no)
		return x->billing_no > y->billing_no ? -1 : 1;
	if (x->recorded_at != y->recorded_at)
		return x->recorded_at > y->recorded_at ? -1 : 1;
	if (x->memo != y->memo)
		return x->memo->rank > y->memo->rank ? -1 : 1;
	return x->entry_no > y->entry_no ? -1 : x->entry_no < y->entry_no;
}

/* Takes what a release undid from the application, which is in an array sorted by entry. */
static void
deduct_release(Application *applications, int napplications, Memo *memo, int32 entry_no,
			   int64 amount)
{
	Application key = {.memo = memo,.entry_no = entry_no};
	Application *application = bsearch(&key, applications, napplications, sizeof(Application),
									   compare_applications_by_entry);

	if (application == NULL || application->left < amount)
		elog(ERROR, "entry %d of credit memo " INT64_FORMAT " has been released beyond what it applied",
			 entry_no, memo->memo_id);
	application->left -= amount;
}

/* Reads the applications of credit to the period's billings, in the order of giving back. */
static Application *
read_applications(Account *account, const Period *period, int *napplications)
{
	Books	   *books = account->books;
	Datum		keys[2] = {PointerGetDatum(account->change->account_id),
		DateADTGetDatum(period->service_period)};
	int			max = 16;
	Application *applications = palloc(max * sizeof(Application));
	int			n = 0;
	int			nreleases = 0;

	/* the applications in a first reading, what was released of them in a second */
	for (int reading = 0; reading < 2; reading++)
	{
		RowScan		rows;

		begin_rows(&rows, books, ENTRIES_OF_PERIOD, ForwardScanDirection, 2, keys);
		while (next_row(&rows))
		{
			Memo	   *memo = get_memo(account,
										DatumGetInt64(get_required_column(books, MEMO_ENTRY,
																		  rows.row, ENTRY_MEMO_ID)));
			int64		amount = get_cents(books, MEMO_ENTRY, rows.row, ENTRY_AMOUNT);
			Datum		service;
			bool		isnull;

			if (amount > 0)
			{
				nreleases++;
				if (reading == 1)
					deduct_release(applications, n, memo,
								   DatumGetInt32(get_required_column(books, MEMO_ENTRY, rows.row,
																	 ENTRY_REVERSES)), amount);
				continue;
			}
			if (reading == 1)
				continue;
			if (n == max)
			{
				max *= 2;
				applications = repalloc(applications, max * sizeof(Application));
			}
			service = get_column(books, MEMO_ENTRY, rows.row, ENTRY_SERVICE, &isnull);
			applications[n].service = isnull ? NULL : copy_text(service, CurrentMemoryContext);
			applications[n].memo = memo;
			applications[n].entry_no = DatumGetInt32(get_required_column(books, MEMO_ENTRY,
																		 rows.row, ENTRY_NO));
			applications[n].billing_no = DatumGetInt32(get_required_column(books, MEMO_ENTRY,
																		   rows.row,
																		   ENTRY_BILLING_NO));
			applications[n].recorded_at =
				DatumGetTimestampTz(get_required_column(books, MEMO_ENTRY, rows.row,
														ENTRY_RECORDED_AT));
			applications[n].left = -amount;
			n++;
		}
		end_rows(&rows);
		if (nreleases == 0)
			break;
		qsort(applications, n, sizeof(Application), compare_applications_by_entry);
	}
	qsort(applications, n, sizeof(Application), compare_applications_newest_first);
	*napplications = n;
	return applications;
}

/* Releases up to so much of an application. */
static void
release(Account *account, Period *period, Application *application, int64 at_most)
{
	int64		amount = Min(application->left, at_most);
	ServiceTotal *service = NULL;

	if (amount <= 0)
		return;
	if (application->service != NULL)
	{
		read_services(account, period);
		service = get_service(period, application->service);
	}
	post_entry(account, application->memo, "release", amount, period, service,
			   application->entry_no);
	application->left -= amount;
}

/*
 * Gives back what the period's open billing may no longer hold: credit of memos that are no longer
 * eligible, what limited memos paid of a service beyond what it was charged, and what is beyond
 * the cap.
 */
static void
give_back(Account *account, Period *period)
{
	int			n;
	Application *applications = read_applications(account, period, &n);

	for (int i = 0; i < n; i++)
		if (applications[i].billing_no == period->open_no &&
			!is_eligible(applications[i].memo, period))
			release(account, period, &applications[i], applications[i].left);

	for (int i = 0; i < n; i++)
		if (applications[i].service != NULL)
		{
			read_services(account, period);
			release(account, period, &applications[i],
					-room_for_service(get_service(period, applications[i].service)));
		}

	for (int i = 0; i < n && room_for_credit(period) < 0; i++)
		release(account, period, &applications[i], -room_for_credit(period));

	if (room_for_credit(period) < 0)
		elog(ERROR, "member account %s has more credit in %s than its ledger shows",
			 text_to_cstring(account->change->account_id),
			 service_period_text(period->service_period));
}

/* ---------------------------------------------------------------------------------------------
 * Billings paid
 * ---------------------------------------------------------------------------------------------
 */

/* Pays the open billing from the memos that may, in the order of spending. */
static void
pay(Account *account, Period *period)
{
	for (int i = 0; i < account->nmemos && room_for_credit(period) > 0; i++)
	{
		Memo	   *memo = account->spending[i];

		if (!is_eligible(memo, period))
			continue;
		while (memo->balance > 0 && room_for_credit(period) > 0)
		{
			int64		amount = Min(memo->balance, room_for_credit(period));
			ServiceTotal *service = NULL;

			if (memo->nservices > 0)
			{
				service = dearest_service(account, period, memo);
				if (service == NULL)
					break;
				amount = Min(amount, room_for_service(service));
			}
			post_entry(account, memo, "apply", -amount, period, service, 0);
		}
	}
}

/* ---------------------------------------------------------------------------------------------
 * Books written
 * ---------------------------------------------------------------------------------------------
 */

static void
write_billings(Account *account)
{
	for (int i = 0; i < account->nperiods; i++)
	{
		Period	   *period = &account->periods[i];
		RowValues	values = {0};

		if (!period->changed)
			continue;
		set_cents(&values, BILLING_UTILIZATION, period->utilization);
		set_cents(&values, BILLING_CREDITABLE, period->creditable);
		set_cents(&values, BILLING_CREDIT, period->credit);
		if (period->open_row != NULL)
		{
			update_row(account->books, BILLING, period->open_row, &values);
			continue;
		}
		set_column(&values, BILLING_ACCOUNT_ID, PointerGetDatum(account->change->account_id));
		set_column(&values, BILLING_SERVICE_PERIOD, DateADTGetDatum(period->service_period));
		set_column(&values, BILLING_NO, Int32GetDatum(period->open_no));
		insert_row(account->books, BILLING, &values);
	}
}

static void
write_memos(Account *account)
{
	for (int i = 0; i < account->nmemos; i++)
	{
		RowValues	values = {0};

		if (!account->memos[i].changed)
			continue;
		set_cents(&values, MEMO_BALANCE, account->memos[i].balance);
		update_row(account->books, CREDIT_MEMO, account->memos[i].row, &values);
	}
}

static void
write_entries(Account *account)
{
	ListCell   *cell;

	foreach(cell, account->entries)
	{
		const Entry *entry = lfirst(cell);
		RowValues	values = {0};

		set_column(&values, ENTRY_ACCOUNT_ID, PointerGetDatum(account->change->account_id));
		set_column(&values, ENTRY_MEMO_ID, Int64GetDatum(entry->memo->memo_id));
		set_column(&values, ENTRY_NO, Int32GetDatum(entry->entry_no));
		set_column(&values, ENTRY_TYPE, PointerGetDatum(cstring_to_text(entry->entry_type)));
		set_cents(&values, ENTRY_AMOUNT, entry->amount);
		set_cents(&values, ENTRY_BALANCE_AFTER, entry->balance_after);
		if (entry->period != NULL)
		{
			set_column(&values, ENTRY_SERVICE_PERIOD,
					   DateADTGetDatum(entry->period->service_period));
			set_column(&values, ENTRY_BILLING_NO, Int32GetDatum(entry->period->open_no));
		}
		if (entry->service != NULL)
			set_column(&values, ENTRY_SERVICE, PointerGetDatum(entry->service));
		if (entry->reverses != 0)
			set_column(&values, ENTRY_REVERSES, Int32GetDatum(entry->reverses));
		set_column(&values, ENTRY_RECORDED_AT, TimestampTzGetDatum(account->recorded_at));
		insert_row(account->books, MEMO_ENTRY, &values);
	}
}

/* Settles one account, see settle_accounts(). */
static void
settle_account(Books *books, AccountChange *change)
{
	Account		account = {.books = books,.change = change};
	bool		exclusive = change->lock == LockTupleExclusive;
	bool		needs_memos = exclusive;

	if (exclusive)
		read_billings(&account, NULL);
	for (int i = 0; i < change->nperiods; i++)
	{
		if (!exclusive)
			read_billings(&account, &change->periods[i].service_period);
		open_billing(&account, change->periods[i].service_period);
	}
	lock_billings(&account);
	add_changes(&account);

	for (int i = 0; i < account.nperiods; i++)
		needs_memos |= room_for_credit(&account.periods[i]) > 0;
	if (needs_memos)
		read_memos(&account);
	account.recorded_at = GetCurrentTimestamp();

	issue_memos(&account);
	for (int i = 0; i < account.nperiods && exclusive; i++)
		if (account.periods[i].open_no != 0 &&
			(account.periods[i].lines_changed || change->terms_changed))
			give_back(&account, &account.periods[i]);
	for (int i = 0; i < account.nperiods; i++)
		pay(&account, &account.periods[i]);

	write_billings(&account);
	write_memos(&account);
	write_entries(&account);
}

/*
 * Settles the accounts, which lock_accounts() has locked: takes the changes up in their open
 * billings, enters new memos, gives back credit that is no longer due, and pays what is open,
 * oldest period first (design section 4, Settled).  Leaves in each PeriodChange the number of the
 * billing that took it up.
 */
void
settle_accounts(Books *books, AccountChange *changes, int nchanges)
{
	MemoryContext account_context = AllocSetContextCreate(CurrentMemoryContext,
														  "creditmemo account",
														  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(account_context);

	for (int i = 0; i < nchanges; i++)
	{
		settle_account(books, &changes[i]);
		MemoryContextReset(account_context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(account_context);
}
