/*
 * billing.c
 *		The billings of the account being settled: read and locked, opened, reopened, folded, written.
 *
 * Everything read here lives in the current memory context until the next account.  Who merely
 * shares the account locks its open billings row by row, by key, because others who share it may
 * change them, too.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "account.h"

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

/* Whether an open billing has lines, or credit of which the lines are gone. */
bool
has_something_to_bill(Books *books, TupleTableSlot *row)
{
	Datum		keys[2] = {get_required_column(books, BILLING, row, BILLING_SERVICE_PERIOD),
		get_required_column(books, BILLING, row, BILLING_ACCOUNT_ID)};
	int32		billing_no = DatumGetInt32(get_required_column(books, BILLING, row, BILLING_NO));
	bool		found = get_cents(books, BILLING, row, BILLING_CREDIT) != 0;
	RowScan		rows;

	/* newest first: those of the open billing */
	begin_rows(&rows, books, LINES_OF_PERIOD, BackwardScanDirection, 2, keys);
	while (!found && next_row(&rows))
		found = billing_no == DatumGetInt32(get_required_column(books, UTILIZATION, rows.row,
																LINE_BILLING_NO));
	end_rows(&rows);
	return found;
}

/*
 * Finds the account's first period, up to the last one given, that has something to bill; false if
 * there is none.
 */
bool
find_unbilled_period(Books *books, text *account_id, DateADT last_period, DateADT *service_period)
{
	Datum		key = PointerGetDatum(account_id);
	bool		found = false;
	RowScan		rows;

	begin_rows(&rows, books, BILLINGS_OF_ACCOUNT, ForwardScanDirection, 1, &key);
	while (!found && next_row(&rows))
	{
		*service_period = DatumGetDateADT(get_required_column(books, BILLING, rows.row,
															  BILLING_SERVICE_PERIOD));
		if (*service_period > last_period)
			break;
		found = is_open_billing(books, rows.row) && has_something_to_bill(books, rows.row);
	}
	end_rows(&rows);
	return found;
}

static void
add_folding(Period *period, int32 billing_no, int32 folded_into, bool changed)
{
	Folding    *folding;

	period->foldings = period->foldings == NULL ? palloc(sizeof(Folding)) :
		repalloc(period->foldings, (period->nfoldings + 1) * sizeof(Folding));
	folding = &period->foldings[period->nfoldings++];
	folding->billing_no = billing_no;
	folding->folded_into = folded_into;
	folding->changed = changed;
}

/* The billing that lines and credit of a billing count for: itself unless it has been folded. */
int32
counts_for(const Period *period, int32 billing_no)
{
	for (int i = 0; i < period->nfoldings; i++)
		if (period->foldings[i].billing_no == billing_no)
			return period->foldings[i].folded_into;
	return billing_no;
}

/* Notes a billing that is invoiced or folded. */
static void
take_settled_billing(Books *books, TupleTableSlot *row, Period *period)
{
	bool		not_folded;
	Datum		folded_into = get_column(books, BILLING, row, BILLING_FOLDED_INTO, &not_folded);
	bool		not_invoiced;
	Datum		invoice_number = get_column(books, BILLING, row, BILLING_INVOICE_NUMBER,
											&not_invoiced);

	period->invoiced_creditable += get_cents(books, BILLING, row, BILLING_CREDITABLE);
	period->invoiced_credit += get_cents(books, BILLING, row, BILLING_CREDIT);
	if (!not_invoiced)
		period->last_invoice = copy_text(invoice_number, CurrentMemoryContext);
	if (!not_folded)
		add_folding(period, period->last_billing_no, DatumGetInt32(folded_into), false);
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
		period->nfoldings = 0;
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
			take_settled_billing(books, rows.row, period);
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

/* The period's billing, locked. */
static TupleTableSlot *
lock_billing(Account *account, const Period *period, int32 billing_no)
{
	Books	   *books = account->books;
	Datum		keys[3] = {PointerGetDatum(account->change->account_id),
		DateADTGetDatum(period->service_period), Int32GetDatum(billing_no)};
	TupleTableSlot *row;

	if (!find_row(books, BILLINGS_OF_ACCOUNT, 3, keys, &row) ||
		!lock_row(books, BILLING, row, LockTupleNoKeyExclusive, LockWaitBlock))
		elog(ERROR, "billing %d of member account \"%s\" is gone", billing_no,
			 text_to_cstring(account->change->account_id));
	return row;
}

/* Locks the open billings of the account and takes their figures as they are then. */
void
lock_billings(Account *account)
{
	Books	   *books = account->books;

	for (int i = 0; i < account->nperiods; i++)
	{
		Period	   *period = &account->periods[i];
		TupleTableSlot *row;

		if (period->open_row == NULL)
			continue;
		row = lock_billing(account, period, period->open_no);
		period->open_row = copy_row(row);
		period->utilization = get_cents(books, BILLING, row, BILLING_UTILIZATION);
		period->creditable = get_cents(books, BILLING, row, BILLING_CREDITABLE);
		period->credit = get_cents(books, BILLING, row, BILLING_CREDIT);
	}
}

/* Puts the lines of a billing on another one of the period. */
static void
move_lines(Account *account, const Period *period, int32 from, int32 to)
{
	Books	   *books = account->books;
	Datum		keys[2] = {DateADTGetDatum(period->service_period),
		PointerGetDatum(account->change->account_id)};
	RowValues	values = {0};
	RowScan		rows;

	set_column(&values, LINE_BILLING_NO, Int32GetDatum(to));
	begin_rows(&rows, books, LINES_OF_PERIOD, ForwardScanDirection, 2, keys);
	while (next_row(&rows))
		if (DatumGetInt32(get_required_column(books, UTILIZATION, rows.row,
											  LINE_BILLING_NO)) == from)
		{
			HeapTuple	line = copy_row(rows.row);

			update_row(books, UTILIZATION, line, &values);
			heap_freetuple(line);
		}
	end_rows(&rows);
}

/*
 * Takes the billing that the change names off its invoice, so that it is the period's open one.  A
 * supplementary billing that was open is folded into it (rule Voided): its lines and figures move,
 * what had been folded into it is folded into the other now.
 */
void
reopen_billing(Account *account)
{
	const AccountChange *change = account->change;
	Period	   *period = get_period(account, change->voided_period);
	int32		folded_no = period->open_no;
	TupleTableSlot *row = lock_billing(account, period, change->voided_billing_no);
	int64		creditable = get_cents(account->books, BILLING, row, BILLING_CREDITABLE);
	int64		credit = get_cents(account->books, BILLING, row, BILLING_CREDIT);

	period->invoiced_creditable -= creditable;
	period->invoiced_credit -= credit;
	period->utilization = cents_from_sum((int128) period->utilization +
										 get_cents(account->books, BILLING, row,
												   BILLING_UTILIZATION),
										 change->account_id, period->service_period);
	period->creditable = cents_from_sum((int128) period->creditable + creditable,
										change->account_id, period->service_period);
	period->credit += credit;
	period->open_no = change->voided_billing_no;
	period->open_row = copy_row(row);
	period->was_invoiced = true;
	period->lines_changed = true;
	period->changed = true;

	if (folded_no == 0)
		return;
	for (int i = 0; i < period->nfoldings; i++)
		if (period->foldings[i].folded_into == folded_no)
		{
			period->foldings[i].folded_into = period->open_no;
			period->foldings[i].changed = true;
		}
	add_folding(period, folded_no, period->open_no, true);
	move_lines(account, period, folded_no, period->open_no);
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

/*
 * Reads what each service that limited memos name was charged over the period, and what they have paid of it;
 * of other services there may be very many.
 */
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
	for (int i = 0; i < account->nmemos; i++)
		for (int j = 0; j < account->memos[i].nservices; j++)
			(void) get_service(period, account->memos[i].services[j]);

	begin_rows(&rows, books, LINES_OF_PERIOD, ForwardScanDirection, 2, line_keys);
	while (next_row(&rows))
		if (DatumGetBool(get_required_column(books, UTILIZATION, rows.row, LINE_CREDITABLE)))
		{
			ServiceTotal *total;

			service = get_required_column(books, UTILIZATION, rows.row, LINE_SERVICE);
			total = find_service(period, DatumGetTextPP(service));
			if (total != NULL)
				total->charged += get_cents(books, UTILIZATION, rows.row, LINE_AMOUNT);
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
 * What is written
 * ---------------------------------------------------------------------------------------------
 */

static void
write_foldings(Account *account, const Period *period)
{
	for (int i = 0; i < period->nfoldings; i++)
	{
		const Folding *folding = &period->foldings[i];
		RowValues	values = {0};

		if (!folding->changed)
			continue;
		set_cents(&values, BILLING_UTILIZATION, 0);
		set_cents(&values, BILLING_CREDITABLE, 0);
		set_cents(&values, BILLING_CREDIT, 0);
		set_column(&values, BILLING_FOLDED_INTO, Int32GetDatum(folding->folded_into));
		update_row(account->books, BILLING,
				   copy_row(lock_billing(account, period, folding->billing_no)), &values);
	}
}

/* Writes the billings that have changed. */
void
write_billings(Account *account)
{
	for (int i = 0; i < account->nperiods; i++)
	{
		Period	   *period = &account->periods[i];
		RowValues	values = {0};

		if (!period->changed)
			continue;
		/* first of all: there may be one open billing only */
		write_foldings(account, period);
		set_cents(&values, BILLING_UTILIZATION, period->utilization);
		set_cents(&values, BILLING_CREDITABLE, period->creditable);
		set_cents(&values, BILLING_CREDIT, period->credit);
		if (period->was_invoiced)
		{
			set_null(&values, BILLING_INVOICE_NUMBER);
			set_null(&values, BILLING_PO_NUMBER);
			set_null(&values, BILLING_PAYER_ACCOUNT_ID);
			set_null(&values, BILLING_ACCOUNT_NAME);
			set_null(&values, BILLING_PRIOR_BALANCE);
			set_null(&values, BILLING_BALANCE_AFTER);
		}
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
