/*
 * ledger.c
 *		The memos of the account being settled, and their entries: read, locked, written.
 *
 * Everything read here lives in the current memory context until the next account.  Who merely
 * shares the account locks the memos row by row, by id, because others who share it may change them,
 * too.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "account.h"

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
	memo->entries = DatumGetInt32(get_required_column(books, CREDIT_MEMO, row, MEMO_ENTRIES));
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
 * Entries
 * ---------------------------------------------------------------------------------------------
 */

/* What of the memo has expired and has not been restored. */
int64
read_expired(Books *books, text *account_id, int64 memo_id)
{
	Datum		keys[2] = {PointerGetDatum(account_id), Int64GetDatum(memo_id)};
	text	   *expire = cstring_to_text("expire");
	text	   *restore = cstring_to_text("restore");
	int64		expired = 0;
	RowScan		rows;

	begin_rows(&rows, books, ENTRIES_OF_MEMO, ForwardScanDirection, 2, keys);
	while (next_row(&rows))
	{
		text	   *entry_type = DatumGetTextPP(get_required_column(books, MEMO_ENTRY, rows.row,
																	ENTRY_TYPE));

		if (compare_text(entry_type, expire) == 0 || compare_text(entry_type, restore) == 0)
			expired -= get_cents(books, MEMO_ENTRY, rows.row, ENTRY_AMOUNT);
	}
	end_rows(&rows);
	return expired;
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
take_application(Account *account, const Period *period, TupleTableSlot *row,
				 Application *application)
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
	application->billing_no = counts_for(period,
										 DatumGetInt32(get_required_column(books, MEMO_ENTRY, row,
																		   ENTRY_BILLING_NO)));
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
		take_application(account, period, rows.row, &applications[n++]);
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

/* Writes the memos that have changed. */
void
write_memos(Account *account)
{
	const AccountChange *change = account->change;

	for (int i = 0; i < account->nmemos; i++)
	{
		const Memo *memo = &account->memos[i];
		RowValues	values = {0};

		if (!memo->changed)
			continue;
		set_cents(&values, MEMO_BALANCE, memo->balance);
		set_column(&values, MEMO_ENTRIES, Int32GetDatum(memo->entries));
		if (change->void_reason != NULL && memo->memo_id == change->voided_memo)
		{
			set_column(&values, MEMO_VOIDED_AT, TimestampTzGetDatum(account->recorded_at));
			set_column(&values, MEMO_VOID_REASON, PointerGetDatum(change->void_reason));
		}
		update_row(account->books, CREDIT_MEMO, memo->row, &values);
	}
}

/* Writes the new entries. */
void
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
