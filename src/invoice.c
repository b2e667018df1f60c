/*
 * invoice.c
 *		Invoices: a customer's open billings of a service period, with their figures fixed.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "account.h"
#include "awaited.h"
#include "siblings.h"
#include "work.h"

SQL_FUNCTION(issue_invoice);

typedef struct Invoice
{
	text	   *invoice_number;
	text	   *customer_id;
	text	   *customer_name;
	text	   *customer_address;	/* null: none is known */
	DateADT		service_period;
	DateADT		invoice_date;
	DateADT		due_date;
} Invoice;

/* ---------------------------------------------------------------------------------------------
 * Whom to bill
 * ---------------------------------------------------------------------------------------------
 */

/* A text column of a row, copied; null if it is null. */
static text *
copy_text_column(Books *books, BooksTable table, TupleTableSlot *row, int column)
{
	bool		isnull;
	Datum		value = get_column(books, table, row, column, &isnull);

	return isnull ? NULL : copy_text(value, CurrentMemoryContext);
}

/*
 * Fixes the due date, the invoice date and the customer's terms, and whom the invoice is addressed
 * to.  Raises foreign_key_violation for an unknown customer.
 */
static void
address_invoice(Books *books, Invoice *invoice)
{
	Datum		key = PointerGetDatum(invoice->customer_id);
	TupleTableSlot *row;
	int64		date;

	if (!find_row(books, CUSTOMER_BY_ID, 1, &key, &row))
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("unknown customer \"%s\"", text_to_cstring(invoice->customer_id)),
				 errhint("Look its id up in creditmemo.customer, or insert it there first.")));
	invoice->customer_name = copy_text_column(books, CUSTOMER, row, CUSTOMER_NAME);
	invoice->customer_address = copy_text_column(books, CUSTOMER, row, CUSTOMER_ADDRESS);
	date = (int64) invoice->invoice_date +
		DatumGetInt32(get_required_column(books, CUSTOMER, row, CUSTOMER_PAYMENT_TERMS_DAYS));
	if (!IS_VALID_DATE(date))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("due date out of range"),
				 errhint("Check the invoice date and the customer's payment terms.")));
	invoice->due_date = (DateADT) date;
}

static void
require_usable_number(Books *books, text *invoice_number)
{
	Datum		key = PointerGetDatum(invoice_number);
	TupleTableSlot *row;

	if (VARSIZE_ANY_EXHDR(invoice_number) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("the number of an invoice cannot be empty"),
				 errhint("Give the number that the invoice has in the ERP.")));
	if (find_row(books, INVOICE_BY_NUMBER, 1, &key, &row))
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("invoice number \"%s\" is already used", text_to_cstring(invoice_number)),
				 errhint("Give a new number; that of a voided invoice cannot be used again.")));
}

/* The accounts that the caller named. */
static List *
named_accounts(ArrayType *named)
{
	List	   *account_ids = NIL;
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(named, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("an account to invoice is null"),
					 errhint("Give ids of member accounts, or null instead of the array for all.")));
		account_ids = lappend(account_ids, DatumGetTextPP(elements[i]));
	}
	return account_ids;
}

/* Whether the account's customer, now, is that one. */
bool
is_account_of_customer(Books *books, text *account_id, const text *customer_id)
{
	Datum		key = PointerGetDatum(account_id);
	TupleTableSlot *row;

	return find_row(books, ACCOUNT_BY_ID, 1, &key, &row) &&
		compare_text(DatumGetTextPP(get_required_column(books, MEMBER_ACCOUNT, row,
														ACCOUNT_CUSTOMER_ID)), customer_id) == 0;
}

/*
 * Locks the accounts FOR UPDATE, in order: those that the caller named, or else all of the customer.
 * Raises an error for unknown accounts and for accounts of another customer, if they were named; one
 * that moved while we waited is left out.
 */
static AccountChange *
lock_accounts_to_bill(Books *books, const Invoice *invoice, ArrayType *named, int *naccounts)
{
	Datum		key = PointerGetDatum(invoice->customer_id);
	List	   *account_ids = named != NULL ? named_accounts(named) :
		read_account_ids(books, ACCOUNTS_OF_CUSTOMER, ACCOUNT_ID, 1, &key);
	int			nlocked;
	AccountChange *accounts = changes_for_accounts(account_ids, LockTupleExclusive, &nlocked);
	List	   *others = NIL;

	lock_accounts(books, accounts, nlocked);

	*naccounts = 0;
	for (int i = 0; i < nlocked; i++)
		if (is_account_of_customer(books, accounts[i].account_id, invoice->customer_id))
			accounts[(*naccounts)++] = accounts[i];
		else
			others = lappend(others, accounts[i].account_id);
	if (named != NULL && others != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an invoice of customer \"%s\" cannot bill another customer's account",
						text_to_cstring(invoice->customer_id)),
				 errdetail("Of another customer: %s.", account_list_text(others)),
				 errhint("Invoice each customer's accounts by themselves.")));
	return accounts;
}

/* ---------------------------------------------------------------------------------------------
 * What to bill
 * ---------------------------------------------------------------------------------------------
 */

/* The open billings of an account, as an invoice for one of them sees them. */
typedef struct OpenBillings
{
	HeapTuple	billing;		/* the one to invoice; null: there is nothing to bill */
	int64		credit;			/* on it */
	int64		credit_elsewhere;	/* on the others */
} OpenBillings;

/* Finds the account's open billings and locks the one of the period. */
static OpenBillings
find_open_billings(Books *books, text *account_id, DateADT service_period)
{
	Datum		key = PointerGetDatum(account_id);
	OpenBillings open = {0};
	RowScan		rows;

	begin_rows(&rows, books, BILLINGS_OF_ACCOUNT, ForwardScanDirection, 1, &key);
	while (next_row(&rows))
	{
		int64		credit;

		if (!is_open_billing(books, rows.row))
			continue;
		credit = get_cents(books, BILLING, rows.row, BILLING_CREDIT);
		if (DatumGetDateADT(get_required_column(books, BILLING, rows.row,
												BILLING_SERVICE_PERIOD)) == service_period)
		{
			if (!lock_row(books, BILLING, rows.row, LockTupleNoKeyExclusive, LockWaitBlock))
				elog(ERROR, "an open billing of member account \"%s\" is gone",
					 text_to_cstring(account_id));
			open.credit = credit;
			if (has_something_to_bill(books, rows.row))
				open.billing = copy_row(rows.row);
		}
		else
			open.credit_elsewhere += credit;
	}
	end_rows(&rows);
	return open;
}

/* The balances of the account's memos; they come to a money_amount, see require_total_in_range(). */
static int64
sum_of_balances(Books *books, text *account_id)
{
	Datum		key = PointerGetDatum(account_id);
	int64		sum = 0;
	RowScan		rows;

	begin_rows(&rows, books, MEMOS_OF_ACCOUNT, ForwardScanDirection, 1, &key);
	while (next_row(&rows))
		sum += get_cents(books, CREDIT_MEMO, rows.row, MEMO_BALANCE);
	end_rows(&rows);
	return sum;
}

static void
set_text(RowValues *values, int column, const text *value)
{
	if (value != NULL)
		set_column(values, column, PointerGetDatum(value));
}

/* Sets what the locked account is called now, which payer it is linked to, and its PO in force. */
static void
set_account(Books *books, text *account_id, RowValues *billing)
{
	Datum		key = PointerGetDatum(account_id);
	TupleTableSlot *row;

	if (!find_row(books, ACCOUNT_BY_ID, 1, &key, &row))
		elog(ERROR, "member account \"%s\" is gone although it was locked",
			 text_to_cstring(account_id));
	set_text(billing, BILLING_ACCOUNT_NAME,
			 copy_text_column(books, MEMBER_ACCOUNT, row, ACCOUNT_NAME));
	set_text(billing, BILLING_PAYER_ACCOUNT_ID,
			 copy_text_column(books, MEMBER_ACCOUNT, row, ACCOUNT_PAYER_ACCOUNT_ID));
	set_text(billing, BILLING_PO_NUMBER, po_in_force(books, account_id));
}

/*
 * Puts the open billing of the account on the invoice; false if there is nothing to bill.  Fixes
 * its PO, its payer, its account's name and its balances: what is left for future use is the
 * balances of all the account's memos and the credit on its other open billings (rule Fixed when
 * invoiced).  It is negative where this one uses what another month's refund gives back that is not invoiced yet.
 */
static bool
invoice_account(Books *books, const Invoice *invoice, const AccountChange *account)
{
	OpenBillings open = find_open_billings(books, account->account_id, invoice->service_period);
	int64		balance_after;
	RowValues	values = {0};

	if (open.billing == NULL)
		return false;
	refuse_closed_period(account, invoice->service_period);

	balance_after = sum_of_balances(books, account->account_id) + open.credit_elsewhere;
	set_column(&values, BILLING_INVOICE_NUMBER, PointerGetDatum(invoice->invoice_number));
	set_cents(&values, BILLING_PRIOR_BALANCE, balance_after + open.credit);
	set_cents(&values, BILLING_BALANCE_AFTER, balance_after);
	set_account(books, account->account_id, &values);
	update_row(books, BILLING, open.billing, &values);
	return true;
}

/*
 * Puts the open billing of the locked account on the invoice of that number, if the account is the
 * customer's and has something to bill.  The invoice itself is written where the call began.
 */
void
bill_account(Books *books, const AccountChange *account, text *invoice_number, text *customer_id,
			 DateADT service_period)
{
	Invoice		invoice = {.invoice_number = invoice_number,.customer_id = customer_id,
		.service_period = service_period};

	if (is_account_of_customer(books, account->account_id, customer_id))
		(void) invoice_account(books, &invoice, account);
}

static void
require_argument(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s of an invoice cannot be null", name),
				 errhint("Give invoice number, customer, service period and, unless it is today, the invoice date.")));
}

/* Writes the invoice and returns it as a row of its table. */
static Datum
write_invoice(Books *books, const Invoice *invoice)
{
	Datum		key = PointerGetDatum(invoice->invoice_number);
	RowValues	row = {0};

	set_column(&row, INVOICE_NUMBER, PointerGetDatum(invoice->invoice_number));
	set_column(&row, INVOICE_CUSTOMER_ID, PointerGetDatum(invoice->customer_id));
	set_text(&row, INVOICE_CUSTOMER_NAME, invoice->customer_name);
	set_text(&row, INVOICE_CUSTOMER_ADDRESS, invoice->customer_address);
	set_column(&row, INVOICE_SERVICE_PERIOD, DateADTGetDatum(invoice->service_period));
	set_column(&row, INVOICE_DATE, DateADTGetDatum(invoice->invoice_date));
	set_column(&row, INVOICE_DUE_DATE, DateADTGetDatum(invoice->due_date));
	set_column(&row, INVOICE_RECORDED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	insert_row(books, INVOICE, &row);
	return written_row(books, INVOICE_BY_NUMBER, 1, &key);
}

/*
 * issue_invoice(invoice_number text, customer_id text, service_period date, invoice_date date,
 * accounts text[]) returns invoice
 *
 * Puts the open billings that have lines or credit, of the period and the customer's accounts (or the
 * given ones), on a new invoice.  Raises null_value_not_allowed, check_violation (not a service period,
 * an infinite invoice date), foreign_key_violation (unknown customer or account), unique_violation
 * (number used), invalid_parameter_value (another customer's account), no_data_found (nothing to
 * bill), object_in_use (a statement on utilization is under way), serialization_failure above READ
 * COMMITTED.
 */
Datum
issue_invoice(PG_FUNCTION_ARGS)
{
	static const char *const arguments[] = {"number", "customer", "service period", "date"};
	Invoice		invoice;
	AccountChange *accounts;
	int			naccounts;
	int			nbillings = 0;
	Books	   *books;
	Datum		result;

	require_writable_transaction("issue_invoice()");
	refuse_unsettled_lines("issue_invoice()");
	for (int i = 0; i < lengthof(arguments); i++)
		require_argument(fcinfo, i, arguments[i]);
	invoice.invoice_number = PG_GETARG_TEXT_PP(0);
	invoice.customer_id = PG_GETARG_TEXT_PP(1);
	invoice.service_period = PG_GETARG_DATEADT(2);
	invoice.invoice_date = PG_GETARG_DATEADT(3);
	require_service_period(invoice.service_period);
	if (DATE_NOT_FINITE(invoice.invoice_date))
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("the date of an invoice cannot be infinite"),
				 errhint("Give the date that the invoice shall bear.")));

	if (is_done_elsewhere(fcinfo, &result))
		PG_RETURN_DATUM(result);
	books = open_books(fcinfo);
	address_invoice(books, &invoice);
	require_usable_number(books, invoice.invoice_number);
	accounts = lock_accounts_to_bill(books, &invoice,
									 PG_ARGISNULL(4) ? NULL : PG_GETARG_ARRAYTYPE_P(4),
									 &naccounts);
	for (int i = 0; i < naccounts; i++)
		nbillings += invoice_account(books, &invoice, &accounts[i]);
	if (nbillings == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("nothing to bill customer \"%s\" for %s",
						text_to_cstring(invoice.customer_id),
						service_period_text(invoice.service_period)),
				 errdetail("No open billing of that service period has lines or credit."),
				 errhint("See what is open in creditmemo.unbilled.")));
	result = write_invoice(books, &invoice);
	close_books(books);
	PG_RETURN_DATUM(result);
}
