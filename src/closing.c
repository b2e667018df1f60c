/*
 * closing.c
 *		Service periods closed, and opened again.
 *
 * A period is closed account by account: what is closed takes no more utilization, credit, invoices
 * or voids, and credit that ends with it expires.  No job has to run for that, and the day on which
 * somebody closes does not count.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "account.h"
#include "siblings.h"
#include "work.h"

SQL_FUNCTION(close_period);
SQL_FUNCTION(reopen_period);

/* What is to be closed or opened. */
typedef struct Closing
{
	Books	   *books;
	DateADT		service_period;
	text	   *payer_account_id;	/* null: all */
	bool		reopen;
	text	   *reason;			/* of reopening */
} Closing;

/* The period to close or to reopen. */
static DateADT
get_service_period(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the service period cannot be null"),
				 errhint("Give the first day of a month.")));
	require_service_period(PG_GETARG_DATEADT(0));
	return PG_GETARG_DATEADT(0);
}

/* Opens the books.  Raises an error for an unknown payer. */
static void
begin_closing(FunctionCallInfo fcinfo, Closing *closing)
{
	Datum		key;
	TupleTableSlot *row;

	closing->payer_account_id = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	closing->books = open_books(fcinfo);
	key = PointerGetDatum(closing->payer_account_id);
	if (closing->payer_account_id != NULL &&
		!find_row(closing->books, PAYER_BY_ID, 1, &key, &row))
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("unknown payer account \"%s\"",
						text_to_cstring(closing->payer_account_id)),
				 errhint("Look it up in creditmemo.payer_account. A reason is given with reason => '...'.")));
}

static bool
is_of_payer(const Closing *closing, TupleTableSlot *row)
{
	return closing->payer_account_id == NULL ||
		compare_text(closing->payer_account_id,
					 DatumGetTextPP(get_required_column(closing->books, MEMBER_ACCOUNT, row,
														ACCOUNT_PAYER_ACCOUNT_ID))) == 0;
}

/* Whether the closing changes the account, which is locked: it may have moved before it was. */
static bool
is_concerned(const Closing *closing, const AccountChange *account)
{
	Datum		key = PointerGetDatum(account->account_id);
	bool		is_closed = account->is_closed &&
		closing->service_period <= account->closed_through;
	TupleTableSlot *row;

	return is_closed == closing->reopen &&
		find_row(closing->books, ACCOUNT_BY_ID, 1, &key, &row) && is_of_payer(closing, row);
}

/* Locks the payer's accounts FOR UPDATE and returns those that the closing changes. */
static AccountChange *
lock_accounts_to_close(const Closing *closing, int *naccounts)
{
	List	   *account_ids = NIL;
	AccountChange *accounts;
	int			nlocked;
	RowScan		rows;

	begin_rows(&rows, closing->books, ACCOUNT_BY_ID, ForwardScanDirection, 0, NULL);
	while (next_row(&rows))
		if (is_of_payer(closing, rows.row))
			account_ids = lappend(account_ids,
								  copy_text(get_required_column(closing->books, MEMBER_ACCOUNT,
																rows.row, ACCOUNT_ID),
											CurrentMemoryContext));
	end_rows(&rows);

	accounts = changes_for_accounts(account_ids, LockTupleExclusive, &nlocked);
	lock_accounts(closing->books, accounts, nlocked);
	*naccounts = 0;
	for (int i = 0; i < nlocked; i++)
		if (is_concerned(closing, &accounts[i]))
			accounts[(*naccounts)++] = accounts[i];
	return accounts;
}

static void
refuse_unbilled_accounts(const Closing *closing, const AccountChange *accounts, int naccounts)
{
	List	   *unbilled = NIL;

	for (int i = 0; i < naccounts; i++)
	{
		text	   *account_id = accounts[i].account_id;
		DateADT		first;

		if (find_unbilled_period(closing->books, account_id, closing->service_period, &first))
			unbilled = lappend(unbilled,
							   cstring_to_text(psprintf("%s (%s)", text_to_cstring(account_id),
														service_period_text(first))));
	}
	if (unbilled != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("service period %s cannot be closed before it is invoiced",
						service_period_text(closing->service_period)),
				 errdetail("Still to be billed: %s.",
						   account_list_text(unbilled)),
				 errhint("See creditmemo.unbilled, and issue invoices first.")));
}

/* Credit that ends with a period expires, even if that has not ended: then it was hardly meant. */
static void
warn_of_future_period(const Closing *closing)
{
	TimestampTz now = GetCurrentTimestamp();
	DateADT		today = DatumGetDateADT(DirectFunctionCall1(timestamptz_date,
															TimestampTzGetDatum(now)));

	if (closing->service_period >= month_of(today))
		ereport(WARNING,
				(errmsg("service period %s has not ended yet",
						service_period_text(closing->service_period)),
				 errhint("If it was closed by mistake, open it again with reopen_period().")));
}

/* Writes what the account is closed through now. */
static void
write_closed_through(const Closing *closing, const AccountChange *account)
{
	Datum		key = PointerGetDatum(account->account_id);
	RowValues	values = {0};
	TupleTableSlot *row;
	HeapTuple	tuple;

	if (!find_row(closing->books, ACCOUNT_BY_ID, 1, &key, &row))
		elog(ERROR, "member account \"%s\" is gone although it was locked",
			 text_to_cstring(account->account_id));
	tuple = copy_row(row);
	set_column(&values, ACCOUNT_CLOSED_THROUGH, DateADTGetDatum(account->closed_through));
	update_row(closing->books, MEMBER_ACCOUNT, tuple, &values);
	heap_freetuple(tuple);
}

/* Notes what was closed or opened, and why. */
static void
write_closing(const Closing *closing, int naccounts)
{
	RowValues	values = {0};

	set_column(&values, CLOSING_SERVICE_PERIOD, DateADTGetDatum(closing->service_period));
	if (closing->payer_account_id != NULL)
		set_column(&values, CLOSING_PAYER_ACCOUNT_ID, PointerGetDatum(closing->payer_account_id));
	set_column(&values, CLOSING_ACTION,
			   PointerGetDatum(cstring_to_text(closing->reopen ? "reopen" : "close")));
	if (closing->reopen)
		set_column(&values, CLOSING_REASON, PointerGetDatum(closing->reason));
	set_column(&values, CLOSING_ACCOUNTS, Int64GetDatum(naccounts));
	set_column(&values, CLOSING_RECORDED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	insert_row(closing->books, PERIOD_CLOSING, &values);
}

/*
 * Closes the locked accounts through the period, or reopens it: closes them through the one before.
 * Settling them writes off what their memos have that ended, or restores it.
 */
static void
close_locked_accounts(const Closing *closing, AccountChange *accounts, int naccounts)
{
	if (!closing->reopen)
		refuse_unbilled_accounts(closing, accounts, naccounts);
	for (int i = 0; i < naccounts; i++)
	{
		accounts[i].is_closed = true;
		/* what became void while the period was closed is given back when it is open again */
		accounts[i].terms_changed = accounts[i].opens_periods = closing->reopen;
		accounts[i].closed_through = closing->reopen ?
			month_of(closing->service_period - 1) : closing->service_period;
	}
	settle_accounts(closing->books, accounts, naccounts);
	for (int i = 0; i < naccounts; i++)
		write_closed_through(closing, &accounts[i]);
}

/* Closes all accounts that the closing concerns, and returns how many there were. */
static Datum
close_accounts(Closing *closing)
{
	int			naccounts;
	AccountChange *accounts = lock_accounts_to_close(closing, &naccounts);

	close_locked_accounts(closing, accounts, naccounts);
	if (!closing->reopen)
		warn_of_future_period(closing);
	if (naccounts > 0)
		write_closing(closing, naccounts);
	close_books(closing->books);
	return Int64GetDatum(naccounts);
}

/* Closes one account, or reopens it, unless it has left the payer or is closed or open already. */
void
close_account(Books *books, AccountChange *account, DateADT service_period, text *payer_account_id,
			  bool reopen)
{
	Closing		closing = {.books = books,.service_period = service_period,
		.payer_account_id = payer_account_id,.reopen = reopen};

	if (is_concerned(&closing, account))
		close_locked_accounts(&closing, account, 1);
}

/*
 * close_period(service_period date, payer_account_id text) returns bigint
 *
 * Closes the period and all before it for the payer's member accounts, or all; memos whose last
 * period that is expire (rule Time).  Raises null_value_not_allowed, check_violation (not a service
 * period), foreign_key_violation (unknown payer), object_not_in_prerequisite_state (something is
 * still to be billed), serialization_failure above READ COMMITTED.
 */
Datum
close_period(PG_FUNCTION_ARGS)
{
	Closing		closing = {0};
	Datum		result;

	require_writable_transaction("close_period()");
	closing.service_period = get_service_period(fcinfo);
	if (is_done_elsewhere(fcinfo, &result))
		PG_RETURN_DATUM(result);
	begin_closing(fcinfo, &closing);
	PG_RETURN_DATUM(close_accounts(&closing));
}

/*
 * reopen_period(service_period date, payer_account_id text, reason text) returns bigint
 *
 * Opens the period and all after it again; memos that expired with them are restored (rule Time).
 * Raises null_value_not_allowed and check_violation (not a service period, no reason),
 * foreign_key_violation (unknown payer), serialization_failure above READ COMMITTED.
 */
Datum
reopen_period(PG_FUNCTION_ARGS)
{
	Closing		closing = {.reopen = true};
	Datum		result;

	require_writable_transaction("reopen_period()");
	closing.service_period = get_service_period(fcinfo);
	closing.reason = get_reason(fcinfo, 2);
	if (is_done_elsewhere(fcinfo, &result))
		PG_RETURN_DATUM(result);
	begin_closing(fcinfo, &closing);
	PG_RETURN_DATUM(close_accounts(&closing));
}
