/*
 * void.c
 *		Invoices and credit memos taken back.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "account.h"
#include "awaited.h"
#include "siblings.h"
#include "work.h"

SQL_FUNCTION(void_memo);
SQL_FUNCTION(void_invoice);

static text *
get_number(FunctionCallInfo fcinfo, const char *what)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the number of the %s to void cannot be null", what),
				 errhint("Give its number and the reason.")));
	return PG_GETARG_TEXT_PP(0);
}

static void
require_not_void(Books *books, BooksTable table, TupleTableSlot *row, int voided_at,
				 int void_reason, const char *what, const text *number)
{
	bool		isnull;

	(void) get_column(books, table, row, voided_at, &isnull);
	if (!isnull)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s \"%s\" is void already", what, text_to_cstring(number)),
				 errdetail("The reason was: %s",
						   TextDatumGetCString(get_required_column(books, table, row,
																   void_reason))),
				 errhint("Nothing is left to do.")));
}

/* ---------------------------------------------------------------------------------------------
 * Credit memos
 * ---------------------------------------------------------------------------------------------
 */

/*
 * The account that has the memo: numbers are unique within an account.  If it is given, null unless
 * it has.
 */
static text *
account_of_memo(Books *books, text *memo_number, text *account_id)
{
	Datum		keys[2] = {PointerGetDatum(memo_number), PointerGetDatum(account_id)};
	List	   *account_ids = read_account_ids(books, MEMOS_BY_NUMBER, MEMO_ACCOUNT_ID,
											  account_id != NULL ? 2 : 1, keys);

	if (list_length(account_ids) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("several accounts have a credit memo \"%s\"",
						text_to_cstring(memo_number)),
				 errdetail("They are: %s.", account_list_text(account_ids)),
				 errhint("Say which with account_id => '...'.")));
	return account_ids == NIL ? NULL : linitial(account_ids);
}

pg_noreturn static void refuse_unknown_memo(Books *books, text *memo_number, text *account_id);

/* Raises the error for a number that no memo has, or none of the account if that is given. */
static void
refuse_unknown_memo(Books *books, text *memo_number, text *account_id)
{
	Datum		key = PointerGetDatum(memo_number);
	List	   *others = read_account_ids(books, MEMOS_BY_NUMBER, MEMO_ACCOUNT_ID, 1, &key);

	if (account_id != NULL && others != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("member account \"%s\" has no credit memo \"%s\"",
						text_to_cstring(account_id), text_to_cstring(memo_number)),
				 errdetail("Accounts that have one: %s.", account_list_text(others)),
				 errhint("The arguments are number, reason and account.")));
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("there is no credit memo \"%s\"", text_to_cstring(memo_number)),
			 errhint("Look its number up in creditmemo.memo_balance.")));
}

/* Voids the locked account's memo of that number; false if it has none. */
bool
void_memo_of_account(Books *books, AccountChange *account, text *memo_number)
{
	Datum		keys[2] = {PointerGetDatum(memo_number), PointerGetDatum(account->account_id)};
	TupleTableSlot *row;

	if (!find_row(books, MEMOS_BY_NUMBER, 2, keys, &row))
		return false;
	require_not_void(books, CREDIT_MEMO, row, MEMO_VOIDED_AT, MEMO_VOID_REASON, "credit memo",
					 memo_number);
	account->voided_memo = DatumGetInt64(get_required_column(books, CREDIT_MEMO, row, MEMO_ID));
	settle_accounts(books, account, 1);
	return true;
}

/*
 * void_memo(memo_number text, reason text, account_id text) returns credit_memo
 *
 * Releases what open billings hold of the memo and writes the rest off (rule Voided).  The account
 * may be null where only one has a memo of that number.  Raises null_value_not_allowed and
 * check_violation (no reason), no_data_found (no such memo), cardinality_violation (several),
 * object_not_in_prerequisite_state (void already), serialization_failure above READ COMMITTED.
 */
Datum
void_memo(PG_FUNCTION_ARGS)
{
	text	   *memo_number = get_number(fcinfo, "credit memo");
	AccountChange change = {.lock = LockTupleExclusive,.terms_changed = true};
	Datum		keys[2] = {PointerGetDatum(memo_number)};
	Books	   *books;
	Datum		result;

	require_writable_transaction("void_memo()");
	change.void_reason = get_reason(fcinfo, 1);
	if (is_done_elsewhere(fcinfo, &result))
		PG_RETURN_DATUM(result);
	books = open_books(fcinfo);
	change.account_id = account_of_memo(books, memo_number,
										PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2));
	if (change.account_id != NULL)
		lock_accounts(books, &change, 1);
	if (change.account_id == NULL || !void_memo_of_account(books, &change, memo_number))
		refuse_unknown_memo(books, memo_number, PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2));
	keys[1] = PointerGetDatum(change.account_id);
	result = written_row(books, MEMOS_BY_NUMBER, 2, keys);
	close_books(books);
	PG_RETURN_DATUM(result);
}

/* ---------------------------------------------------------------------------------------------
 * Invoices
 * ---------------------------------------------------------------------------------------------
 */

/* Locks the accounts on an invoice FOR UPDATE; each change says which billing to reopen. */
static AccountChange *
lock_accounts_on_invoice(Books *books, text *invoice_number, int *naccounts)
{
	Datum		key = PointerGetDatum(invoice_number);
	AccountChange *accounts =
		changes_for_accounts(read_account_ids(books, BILLINGS_OF_INVOICE, BILLING_ACCOUNT_ID, 1,
											  &key), LockTupleExclusive, naccounts);

	lock_accounts(books, accounts, *naccounts);

	for (int i = 0; i < *naccounts; i++)
	{
		Datum		keys[2] = {key, PointerGetDatum(accounts[i].account_id)};
		TupleTableSlot *row;

		/* not found: another session voided the invoice while we waited */
		if (!find_row(books, BILLINGS_OF_INVOICE, 2, keys, &row))
			continue;
		accounts[i].voided_period =
			DatumGetDateADT(get_required_column(books, BILLING, row, BILLING_SERVICE_PERIOD));
		accounts[i].voided_billing_no =
			DatumGetInt32(get_required_column(books, BILLING, row, BILLING_NO));
	}
	return accounts;
}

/* A line, by its primary key. */
typedef struct LineId
{
	DateADT		service_period;
	text	   *account_id;
	int64		utilization_id;
} LineId;

/*
 * Locks the lines of the period that are on no invoice's billing, those that will be moved; false if
 * somebody else has one locked, which is noted.
 */
static bool
lock_lines_to_move(Books *books, const AccountChange *account, LineId *locked_line)
{
	Datum		keys[2] = {DateADTGetDatum(account->voided_period),
		PointerGetDatum(account->account_id)};
	bool		got_all = true;
	RowScan		rows;

	begin_rows(&rows, books, LINES_OF_PERIOD, ForwardScanDirection, 2, keys);
	while (got_all && next_row(&rows))
	{
		if (DatumGetInt32(get_required_column(books, UTILIZATION, rows.row, LINE_BILLING_NO)) <=
			account->voided_billing_no)
			continue;
		locked_line->service_period = account->voided_period;
		locked_line->account_id = account->account_id;
		locked_line->utilization_id =
			DatumGetInt64(get_required_column(books, UTILIZATION, rows.row, LINE_UTILIZATION_ID));
		got_all = lock_row(books, UTILIZATION, rows.row, LockTupleNoKeyExclusive, LockWaitSkip);
	}
	end_rows(&rows);
	return got_all;
}

/* Locks all that voiding the invoice needs; false if a line is locked by somebody else. */
static bool
try_to_lock_invoice(FunctionCallInfo fcinfo, text *invoice_number, LineId *locked_line)
{
	Books	   *books = open_books(fcinfo);
	int			naccounts;
	AccountChange *accounts = lock_accounts_on_invoice(books, invoice_number, &naccounts);
	bool		got_all = true;

	for (int i = 0; i < naccounts && got_all; i++)
		got_all = accounts[i].voided_billing_no == 0 ||
			lock_lines_to_move(books, &accounts[i], locked_line);
	close_books(books);
	return got_all;
}

/* Waits for whoever has the line locked; holds nothing meanwhile, as the caller gives it up. */
static bool
wait_for_line(FunctionCallInfo fcinfo, text *invoice_number, LineId *line)
{
	Books	   *books = open_books(fcinfo);
	Datum		keys[3] = {DateADTGetDatum(line->service_period),
		PointerGetDatum(line->account_id), Int64GetDatum(line->utilization_id)};
	TupleTableSlot *row;

	if (find_row(books, LINES_OF_PERIOD, 3, keys, &row))
		(void) lock_row(books, UTILIZATION, row, LockTupleNoKeyExclusive, LockWaitBlock);
	close_books(books);
	return false;
}

/* Runs a step in a subtransaction; if it returns false, the locks that it took are given up. */
static bool
keep_locks_if(bool (*step) (FunctionCallInfo, text *, LineId *), FunctionCallInfo fcinfo,
			  text *invoice_number, LineId *line)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool keep = false;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(caller);
		keep = step(fcinfo, invoice_number, line);
		if (keep)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return keep;
}

/*
 * Locks the accounts on the invoice and the lines that will be moved.  Whoever changes lines has
 * locked them before his trigger locks their accounts; so we may not wait for lines while we hold
 * accounts, but must let go and begin anew.
 */
static void
lock_accounts_and_lines(FunctionCallInfo fcinfo, text *invoice_number)
{
	LineId		line;

	while (!keep_locks_if(try_to_lock_invoice, fcinfo, invoice_number, &line))
	{
		CHECK_FOR_INTERRUPTS();
		(void) keep_locks_if(wait_for_line, fcinfo, invoice_number, &line);
	}
}

/* Raises an error if a billing of the period that came later is invoiced. */
static void
refuse_later_invoice(Books *books, const AccountChange *account)
{
	Datum		keys[2] = {PointerGetDatum(account->account_id),
		DateADTGetDatum(account->voided_period)};
	RowScan		rows;

	begin_rows(&rows, books, BILLINGS_OF_ACCOUNT, ForwardScanDirection, 2, keys);
	while (next_row(&rows))
	{
		bool		not_invoiced;
		Datum		invoice_number = get_column(books, BILLING, rows.row, BILLING_INVOICE_NUMBER,
												&not_invoiced);

		if (!not_invoiced &&
			DatumGetInt32(get_required_column(books, BILLING, rows.row, BILLING_NO)) >
			account->voided_billing_no)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a later billing of member account \"%s\" for %s is on invoice \"%s\"",
							text_to_cstring(account->account_id),
							service_period_text(account->voided_period),
							TextDatumGetCString(invoice_number)),
					 errhint("Void that invoice first.")));
	}
	end_rows(&rows);
}

/* Raises an error for accounts that have another customer now than the invoice has. */
static void
refuse_moved_accounts(Books *books, const AccountChange *accounts, int naccounts,
					  const text *customer_id)
{
	List	   *moved = NIL;

	for (int i = 0; i < naccounts; i++)
		if (!is_account_of_customer(books, accounts[i].account_id, customer_id))
			moved = lappend(moved, accounts[i].account_id);
	if (moved != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("accounts on the invoice have moved to another customer since"),
				 errdetail("They are: %s. Opened again, their billings would be the new customer's.",
						   account_list_text(moved)),
				 errhint("Move the accounts back first.")));
}

/* What the account used of a service, as the invoice says. */
typedef struct ServiceLine
{
	const text *service;		/* the key in the table of lines */
	Datum		utilization;	/* numeric: a single service may exceed what a billing may */
	Datum		creditable;
	int64		lines;
} ServiceLine;

static uint32
hash_service(const void *key, Size size)
{
	const text *service = *(const text *const *) key;

	return hash_bytes((const unsigned char *) VARDATA_ANY(service), VARSIZE_ANY_EXHDR(service));
}

static int
match_service(const void *a, const void *b, Size size)
{
	return compare_text(*(const text *const *) a, *(const text *const *) b);
}

static void
add_amount(Datum *sum, Datum amount)
{
	Datum		old = *sum;

	*sum = DirectFunctionCall2(numeric_add, old, amount);
	pfree(DatumGetPointer(old));
}

/* Adds a line of the account to its service. */
static void
add_line(Books *books, TupleTableSlot *row, HTAB *services, List **service_lines)
{
	Datum		value = get_required_column(books, UTILIZATION, row, LINE_SERVICE);
	Datum		amount = get_required_column(books, UTILIZATION, row, LINE_AMOUNT);
	const text *service = DatumGetTextPP(value);
	bool		found;
	ServiceLine *line = hash_search(services, &service, HASH_ENTER, &found);

	if (!found)
	{
		line->service = copy_text(PointerGetDatum(service), CurrentMemoryContext);
		line->utilization = numeric_from_cents(0);
		line->creditable = numeric_from_cents(0);
		line->lines = 0;
		*service_lines = lappend(*service_lines, line);
	}
	add_amount(&line->utilization, amount);
	if (DatumGetBool(get_required_column(books, UTILIZATION, row, LINE_CREDITABLE)))
		add_amount(&line->creditable, amount);
	line->lines++;
	if (PointerGetDatum(service) != value)
		pfree((void *) service);
}

/* The lines of the account on the invoice, by service. */
static List *
read_service_lines(Books *books, const AccountChange *account)
{
	Datum		keys[2] = {DateADTGetDatum(account->voided_period),
		PointerGetDatum(account->account_id)};
	HASHCTL		control = {.keysize = sizeof(text *),.entrysize = sizeof(ServiceLine),
		.hash = hash_service,.match = match_service,.hcxt = CurrentMemoryContext};
	HTAB	   *services = hash_create("services on an invoice", 64, &control,
									   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	List	   *service_lines = NIL;
	RowScan		rows;

	begin_rows(&rows, books, LINES_OF_PERIOD, ForwardScanDirection, 2, keys);
	while (next_row(&rows))
		if (DatumGetInt32(get_required_column(books, UTILIZATION, rows.row, LINE_BILLING_NO)) ==
			account->voided_billing_no)
			add_line(books, rows.row, services, &service_lines);
	end_rows(&rows);
	return service_lines;
}

/* Keeps what the invoice says of the account's services. */
static void
keep_voided_lines(Books *books, text *invoice_number, const AccountChange *account)
{
	int32		line_no = 0;
	ListCell   *cell;

	foreach(cell, read_service_lines(books, account))
	{
		const ServiceLine *line = lfirst(cell);
		RowValues	values = {0};

		set_column(&values, VOIDED_LINE_ACCOUNT_ID, PointerGetDatum(account->account_id));
		set_column(&values, VOIDED_LINE_INVOICE_NUMBER, PointerGetDatum(invoice_number));
		set_column(&values, VOIDED_LINE_NO, Int32GetDatum(++line_no));
		set_column(&values, VOIDED_LINE_SERVICE, PointerGetDatum(line->service));
		set_column(&values, VOIDED_LINE_UTILIZATION, line->utilization);
		set_column(&values, VOIDED_LINE_CREDITABLE, line->creditable);
		set_column(&values, VOIDED_LINE_LINES, Int64GetDatum(line->lines));
		insert_row(books, VOIDED_LINE, &values);
	}
}

/* Keeps what the invoice says of the account. */
static void
keep_voided_billing(Books *books, text *invoice_number, const AccountChange *account)
{
	static const int kept[][2] = {
		{VOIDED_ACCOUNT_ID, BILLING_ACCOUNT_ID},
		{VOIDED_INVOICE_NUMBER, BILLING_INVOICE_NUMBER},
		{VOIDED_SERVICE_PERIOD, BILLING_SERVICE_PERIOD},
		{VOIDED_BILLING_NO, BILLING_NO},
		{VOIDED_UTILIZATION, BILLING_UTILIZATION},
		{VOIDED_CREDITABLE, BILLING_CREDITABLE},
		{VOIDED_CREDIT, BILLING_CREDIT},
		{VOIDED_PO_NUMBER, BILLING_PO_NUMBER},
		{VOIDED_ACCOUNT_NAME, BILLING_ACCOUNT_NAME},
		{VOIDED_PRIOR_BALANCE, BILLING_PRIOR_BALANCE},
		{VOIDED_BALANCE_AFTER, BILLING_BALANCE_AFTER},
	};
	Datum		keys[2] = {PointerGetDatum(invoice_number), PointerGetDatum(account->account_id)};
	RowValues	values = {0};
	TupleTableSlot *row;

	if (!find_row(books, BILLINGS_OF_INVOICE, 2, keys, &row))
		elog(ERROR, "a billing of invoice \"%s\" is gone", text_to_cstring(invoice_number));
	for (int i = 0; i < lengthof(kept); i++)
	{
		bool		isnull;
		Datum		value = get_column(books, BILLING, row, kept[i][1], &isnull);

		if (!isnull)
			set_column(&values, kept[i][0], value);
	}
	insert_row(books, VOIDED_BILLING, &values);
}

/* The invoice, locked.  Raises an error if there is none, or if it is void already. */
static TupleTableSlot *
lock_invoice_to_void(Books *books, text *invoice_number)
{
	Datum		key = PointerGetDatum(invoice_number);
	TupleTableSlot *row;

	if (!find_row(books, INVOICE_BY_NUMBER, 1, &key, &row) ||
		!lock_row(books, INVOICE, row, LockTupleNoKeyExclusive, LockWaitBlock))
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("there is no invoice \"%s\"", text_to_cstring(invoice_number)),
				 errhint("Look its number up in creditmemo.invoice_face.")));
	require_not_void(books, INVOICE, row, INVOICE_VOIDED_AT, INVOICE_VOID_REASON, "invoice",
					 invoice_number);
	return row;
}

/* Takes the billings of the locked accounts off the invoice of the customer, and settles them. */
static void
void_billings(Books *books, text *invoice_number, const text *customer_id, AccountChange *accounts,
			  int naccounts)
{
	for (int i = 0; i < naccounts; i++)
	{
		refuse_closed_period(&accounts[i], accounts[i].voided_period);
		refuse_later_invoice(books, &accounts[i]);
	}
	refuse_moved_accounts(books, accounts, naccounts, customer_id);
	for (int i = 0; i < naccounts; i++)
	{
		keep_voided_billing(books, invoice_number, &accounts[i]);
		keep_voided_lines(books, invoice_number, &accounts[i]);
	}
	settle_accounts(books, accounts, naccounts);
}

static void
write_void(Books *books, HeapTuple invoice, TimestampTz voided_at, text *reason)
{
	RowValues	values = {0};

	set_column(&values, INVOICE_VOIDED_AT, TimestampTzGetDatum(voided_at));
	set_column(&values, INVOICE_VOID_REASON, PointerGetDatum(reason));
	update_row(books, INVOICE, invoice, &values);
}

/* Takes the billings off the invoice and settles their accounts. */
static void
void_invoice_and_billings(Books *books, text *invoice_number, text *reason)
{
	int			naccounts;
	AccountChange *accounts = lock_accounts_on_invoice(books, invoice_number, &naccounts);
	TupleTableSlot *row = lock_invoice_to_void(books, invoice_number);
	HeapTuple	invoice = copy_row(row);

	void_billings(books, invoice_number,
				  DatumGetTextPP(get_required_column(books, INVOICE, row, INVOICE_CUSTOMER_ID)),
				  accounts, naccounts);
	write_void(books, invoice, GetCurrentTimestamp(), reason);
}

/* Takes all billings that are in these books off the invoice, which is locked where the call began. */
void
void_billings_here(FunctionCallInfo fcinfo, text *invoice_number, text *customer_id)
{
	Books	   *books;
	AccountChange *accounts;
	int			naccounts;

	lock_accounts_and_lines(fcinfo, invoice_number);
	books = open_books(fcinfo);
	accounts = lock_accounts_on_invoice(books, invoice_number, &naccounts);
	void_billings(books, invoice_number, customer_id, accounts, naccounts);
	close_books(books);
}

/* Writes on the invoice that it is void, since when and why. */
void
void_invoice_here(Books *books, text *invoice_number, TimestampTz voided_at, text *reason)
{
	write_void(books, copy_row(lock_invoice_to_void(books, invoice_number)), voided_at, reason);
}

/*
 * void_invoice(invoice_number text, reason text) returns invoice
 *
 * Takes the billings off the invoice; they are open again, with what came after them folded in, and
 * are settled anew (rule Voided).  Raises null_value_not_allowed and check_violation (no reason),
 * no_data_found (no such invoice), object_not_in_prerequisite_state (void already, a closed period, a
 * later billing is invoiced, an account has moved), object_in_use (a statement on utilization is under
 * way), serialization_failure above READ COMMITTED.
 */
Datum
void_invoice(PG_FUNCTION_ARGS)
{
	text	   *invoice_number = get_number(fcinfo, "invoice");
	Datum		key = PointerGetDatum(invoice_number);
	text	   *reason;
	Books	   *books;
	Datum		result;

	require_writable_transaction("void_invoice()");
	refuse_unsettled_lines("void_invoice()");
	reason = get_reason(fcinfo, 1);
	if (is_done_elsewhere(fcinfo, &result))
		PG_RETURN_DATUM(result);
	lock_accounts_and_lines(fcinfo, invoice_number);
	books = open_books(fcinfo);
	void_invoice_and_billings(books, invoice_number, reason);
	result = written_row(books, INVOICE_BY_NUMBER, 1, &key);
	close_books(books);
	PG_RETURN_DATUM(result);
}
