/*
 * account.c
 *		A member account's books: read and locked before it is settled, written after.
 *
 * Everything read here lives in the current memory context until the next account.  Who merely
 * shares the account locks, row by row, what others who share it may change too: its open billings
 * by key, then its memos by id.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "account.h"

/* ---------------------------------------------------------------------------------------------
 * Accounts locked
 * ---------------------------------------------------------------------------------------------
 */

/* Accounts to be locked, from a list of their ids that may be in any order and name some twice. */
AccountChange *
changes_for_accounts(List *account_ids, LockTupleMode lock, int *nchanges)
{
	AccountChange *changes;
	ListCell   *cell;

	list_sort(account_ids, compare_text_cells);
	changes = MemoryContextAllocExtended(CurrentMemoryContext,
										 Max(list_length(account_ids), 1) * sizeof(AccountChange),
										 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	*nchanges = 0;
	foreach(cell, account_ids)
		if (*nchanges == 0 ||
			compare_text(changes[*nchanges - 1].account_id, lfirst(cell)) != 0)
		{
			changes[*nchanges].account_id = lfirst(cell);
			changes[(*nchanges)++].lock = lock;
		}
	return changes;
}

static bool
lock_account(Books *books, AccountChange *change, LockTupleMode mode)
{
	Datum		key = PointerGetDatum(change->account_id);
	TupleTableSlot *row;
	Datum		closed_through;
	bool		isnull;

	if (!find_row(books, ACCOUNT_BY_ID, 1, &key, &row) ||
		!lock_row(books, MEMBER_ACCOUNT, row, mode, change->lock_policy))
		return false;

	closed_through = get_column(books, MEMBER_ACCOUNT, row, ACCOUNT_CLOSED_THROUGH, &isnull);
	change->is_closed = !isnull;
	if (!isnull)
		change->closed_through = DatumGetDateADT(closed_through);
	return true;
}

/*
 * Locks the member accounts of the changes, which are in order of account_id, as each asks for:
 * that is what proves them to exist (rule Locks).  Raises foreign_key_violation that names those
 * that do not, object_not_in_prerequisite_state for a period closed for its account.
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
				 errmsg("service period %s is closed for member account \"%s\"",
						service_period_text(service_period),
						text_to_cstring(change->account_id)),
				 errdetail("It is closed through %s: what is closed takes no more utilization, credit or invoices.",
						   service_period_text(change->closed_through)),
				 errhint("Work in a later service period.")));
}

/* ---------------------------------------------------------------------------------------------
 * Billings
 * ---------------------------------------------------------------------------------------------
 */

/* The period, added where it is missing; periods stay in order. */
Period *
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

/* Whether a billing is open: neither invoiced nor folded into another. */
bool
is_open_billing(Books *books, TupleTableSlot *row)
{
	bool		not_invoiced;
	bool		not_folded;

	(void) get_column(books, BILLING, row, BILLING_INVOICE_NUMBER, &not_invoiced);
	(void) get_column(books, BILLING, row, BILLING_FOLDED_INTO, &not_folded);
	return not_invoiced && not_folded;
}

/* Reads the billings of one period of the account, or of all if that is null. */
void
read_billings(Account *account, const DateADT *service_period)
{
	Books	   *books = account->books;
	Datum		keys[2] = {PointerGetDatum(account->change->account_id)};
	RowScan		rows;

	if (service_period != NULL)
	{
		Period	   *period = get_period(account, *service_period);

		keys[1] = DateADTGetDatum(*service_period);
		period->invoiced_creditable = period->invoiced_credit = 0;
	}
	begin_rows(&rows, books, BILLINGS_OF_ACCOUNT, ForwardScanDirection,
			   service_period != NULL ? 2 : 1, keys);
	while (next_row(&rows))
	{
		Period	   *period = get_period(account,
										DatumGetDateADT(get_required_column(books, BILLING, rows.row,
																			BILLING_SERVICE_PERIOD)));

		period->last_billing_no = DatumGetInt32(get_required_column(books, BILLING, rows.row,
																	BILLING_NO));
		if (is_open_billing(books, rows.row))
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
void
open_billing(Account *account, DateADT service_period)
{
	Period	   *period = get_period(account, service_period);

	if (period->open_no == 0 && account->change->lock == LockTupleKeyShare)
	{
		if (!lock_account(account->books, account->change, LockTupleNoKeyExclusive))
			elog(ERROR, "member account \"%s\" is gone although it was locked",
				 text_to_cstring(account->change->account_id));
		look_again(account->books);
		read_billings(account, &service_period);
	}
	if (period->open_no == 0)
	{
		period->open_no = period->last_billing_no + 1;
		period->changed = true;
	}
}

/* Locks the open billings of the account and takes their figures as they are then. */
void
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
			!lock_row(books, BILLING, row, LockTupleNoKeyExclusive, LockWaitBlock))
			elog(ERROR, "billing %d of member account \"%s\" is gone", period->open_no,
				 text_to_cstring(account->change->account_id));
		period->open_row = copy_row(row);
		period->utilization = get_cents(books, BILLING, row, BILLING_UTILIZATION);
		period->creditable = get_cents(books, BILLING, row, BILLING_CREDITABLE);
		period->credit = get_cents(books, BILLING, row, BILLING_CREDIT);
	}
}

/* ---------------------------------------------------------------------------------------------
 * Memos
 * ---------------------------------------------------------------------------------------------
 */

/* A date of a memo that may be null: then it is later than any. */
DateADT
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
	memo->amount = get_cents(books, CREDIT_MEMO, row, MEMO_AMOUNT);
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

/* Reads the account's memos, and locks those that may change. */
void
read_memos(Account *account, bool (*may_change) (const Account *account, const Memo *memo))
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
			if (!lock_row(books, CREDIT_MEMO, rows.row, LockTupleNoKeyExclusive, LockWaitBlock))
				elog(ERROR, "credit memo " INT64_FORMAT " is gone", memo.memo_id);
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

	/* others who charged the account may have added entries while we waited for its memos */
	if (account->change->lock == LockTupleKeyShare)
		look_again(books);
}

/* The memo, which must be there; memos are in order of memo_id. */
Memo *
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
		elog(ERROR, "credit memo " INT64_FORMAT " of member account \"%s\" is missing", memo_id,
			 text_to_cstring(account->change->account_id));
	return &account->memos[low];
}

/* ---------------------------------------------------------------------------------------------
 * Services
 * ---------------------------------------------------------------------------------------------
 */

/* The service's total in the period, null if there is none. */
ServiceTotal *
find_service(const Period *period, const text *service)
{
	for (int i = 0; i < period->nservices; i++)
		if (compare_text(period->services[i].service, service) == 0)
			return &period->services[i];
	return NULL;
}

/* The same, added where it is missing. */
ServiceTotal *
get_service(Period *period, const text *service)
{
	ServiceTotal *total = find_service(period, service);

	if (total != NULL)
		return total;

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
void
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

/* ---------------------------------------------------------------------------------------------
 * The ledger
 * ---------------------------------------------------------------------------------------------
 */

/* The number of the memo's next entry. */
int32
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

static int
compare_applications_by_entry(const void *a, const void *b)
{
	const Application *x = a;
	const Application *y = b;

	if (x->memo != y->memo)
		return x->memo < y->memo ? -1 : 1;
	return x->entry_no < y->entry_no ? -1 : x->entry_no > y->entry_no;
}

static void
take_application(Account *account, TupleTableSlot *row, Application *application)
{
	Books	   *books = account->books;
	Datum		service;
	bool		isnull;

	service = get_column(books, MEMO_ENTRY, row, ENTRY_SERVICE, &isnull);
	application->service = isnull ? NULL : copy_text(service, CurrentMemoryContext);
	application->memo = get_memo(account,
								 DatumGetInt64(get_required_column(books, MEMO_ENTRY, row,
																   ENTRY_MEMO_ID)));
	application->entry_no = DatumGetInt32(get_required_column(books, MEMO_ENTRY, row, ENTRY_NO));
	application->billing_no = DatumGetInt32(get_required_column(books, MEMO_ENTRY, row,
																ENTRY_BILLING_NO));
	application->recorded_at = DatumGetTimestampTz(get_required_column(books, MEMO_ENTRY, row,
																	   ENTRY_RECORDED_AT));
	application->left = -get_cents(books, MEMO_ENTRY, row, ENTRY_AMOUNT);
}

/* Takes what a release undid from the application, which is in an array sorted by entry. */
static void
deduct_release(Account *account, TupleTableSlot *row, Application *applications,
			   int napplications)
{
	Books	   *books = account->books;
	int64		amount = get_cents(books, MEMO_ENTRY, row, ENTRY_AMOUNT);
	Application *application;
	Application key = {
		.memo = get_memo(account, DatumGetInt64(get_required_column(books, MEMO_ENTRY, row,
																	ENTRY_MEMO_ID))),
		.entry_no = DatumGetInt32(get_required_column(books, MEMO_ENTRY, row, ENTRY_REVERSES))
	};

	application = bsearch(&key, applications, napplications, sizeof(Application),
						  compare_applications_by_entry);
	if (application == NULL || application->left < amount)
		elog(ERROR, "entry %d of credit memo " INT64_FORMAT " has been released beyond what it applied",
			 key.entry_no, key.memo->memo_id);
	application->left -= amount;
}

/* Reads the applications of credit to the period's billings, with what is left of each. */
Application *
read_applications(Account *account, const Period *period, int *napplications)
{
	Datum		keys[2] = {PointerGetDatum(account->change->account_id),
		DateADTGetDatum(period->service_period)};
	int			max = 16;
	Application *applications = palloc(max * sizeof(Application));
	int			n = 0;
	RowScan		rows;

	begin_rows(&rows, account->books, ENTRIES_OF_PERIOD, ForwardScanDirection, 2, keys);
	while (next_row(&rows))
	{
		if (get_cents(account->books, MEMO_ENTRY, rows.row, ENTRY_AMOUNT) > 0)
			continue;
		if (n == max)
		{
			max *= 2;
			applications = repalloc(applications, max * sizeof(Application));
		}
		take_application(account, rows.row, &applications[n++]);
	}
	end_rows(&rows);
	qsort(applications, n, sizeof(Application), compare_applications_by_entry);

	begin_rows(&rows, account->books, ENTRIES_OF_PERIOD, ForwardScanDirection, 2, keys);
	while (next_row(&rows))
		if (get_cents(account->books, MEMO_ENTRY, rows.row, ENTRY_AMOUNT) > 0)
			deduct_release(account, rows.row, applications, n);
	end_rows(&rows);

	*napplications = n;
	return applications;
}

/* ---------------------------------------------------------------------------------------------
 * What is written
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

/* Writes what has changed of the account. */
void
write_account(Account *account)
{
	write_billings(account);
	write_memos(account);
	write_entries(account);
}
