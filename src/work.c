/*
 * work.c
 *		Work on member accounts that is asked for on one machine and done where their books are.
 *
 * Where the tables are spread over machines, a function that was called on one of them inserts into
 * account_work what is to be done with which accounts.  The rows go where the accounts' books are; the
 * trigger there does the work in the same distributed transaction, and no row is ever stored.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "siblings.h"
#include "trigger.h"
#include "work.h"

SQL_FUNCTION(do_account_work);
SQL_FUNCTION(do_invoice_work);

/*
 * The call of the trigger on a table of that name.  Raises object_not_in_prerequisite_state where the tables
 * are not distributed: then the functions do all work themselves.
 */
static TriggerData *
work_call(FunctionCallInfo fcinfo, const char *table)
{
	TriggerData *call = trigger_call(fcinfo, table, TRIGGER_EVENT_INSERT | TRIGGER_EVENT_ROW |
									 TRIGGER_EVENT_BEFORE);

	if (siblings_of(call->tg_relation) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" takes no rows while the tables are not distributed", table),
				 errhint("Call issue_invoice(), void_invoice(), void_memo(), close_period() or reopen_period().")));
	return call;
}

/* A column of the row to be inserted, by name; null if it is null. */
static Datum
work_column(const TriggerData *call, const char *column, bool *isnull)
{
	AttrNumber	attno = get_attnum(RelationGetRelid(call->tg_relation), column);

	if (attno == InvalidAttrNumber)
		elog(ERROR, "column \"%s\" of table \"%s\" is missing", column,
			 RelationGetRelationName(call->tg_relation));
	return heap_getattr(call->tg_trigtuple, attno, RelationGetDescr(call->tg_relation), isnull);
}

static text *
work_text(const TriggerData *call, const char *column)
{
	bool		isnull;
	Datum		value = work_column(call, column, &isnull);

	return isnull ? NULL : DatumGetTextPP(value);
}

static Datum
required_work_column(const TriggerData *call, const char *column)
{
	bool		isnull;
	Datum		value = work_column(call, column, &isnull);

	if (isnull)
		elog(ERROR, "column \"%s\" of table \"%s\" is null", column,
			 RelationGetRelationName(call->tg_relation));
	return value;
}

static text *
required_work_text(const TriggerData *call, const char *column)
{
	return DatumGetTextPP(required_work_column(call, column));
}

/* Does the work on the account of the row, with the account locked FOR UPDATE. */
static void
work_on_account(FunctionCallInfo fcinfo, const TriggerData *call, const char *work)
{
	Books	   *books = open_books(fcinfo);
	AccountChange account = {.account_id = required_work_text(call, "account_id"),
	.lock = LockTupleExclusive};

	if (strcmp(work, "void memo") == 0)
	{
		account.terms_changed = true;
		account.void_reason = required_work_text(call, "reason");
	}
	lock_accounts(books, &account, 1);
	if (strcmp(work, "invoice") == 0)
		bill_account(books, &account, required_work_text(call, "invoice_number"),
					 required_work_text(call, "customer_id"),
					 DatumGetDateADT(required_work_column(call, "service_period")));
	else if (strcmp(work, "void memo") == 0)
		(void) void_memo_of_account(books, &account, required_work_text(call, "memo_number"));
	else
		close_account(books, &account,
					  DatumGetDateADT(required_work_column(call, "service_period")),
					  work_text(call, "payer_account_id"), strcmp(work, "reopen") == 0);
	close_books(books);
}

/*
 * do_account_work() returns trigger: BEFORE INSERT ON account_work, FOR EACH ROW.
 *
 * Does what the row says, and keeps it from being stored: 'invoice', 'void memo', 'close' and 'reopen' for
 * the account; 'void invoice' for all accounts on the invoice whose books are with the account's.  Raises
 * what issue_invoice(), void_invoice(), void_memo(), close_period() and reopen_period() raise.
 */
Datum
do_account_work(PG_FUNCTION_ARGS)
{
	TriggerData *call = work_call(fcinfo, "account_work");
	char	   *work = text_to_cstring(required_work_text(call, "work"));

	if (strcmp(work, "void invoice") == 0)
		void_billings_here(fcinfo, required_work_text(call, "invoice_number"),
						   required_work_text(call, "customer_id"));
	else
		work_on_account(fcinfo, call, work);
	return PointerGetDatum(NULL);
}

/*
 * do_invoice_work() returns trigger: BEFORE INSERT ON invoice_work, FOR EACH ROW.
 *
 * Writes on the invoice that it is void; the row is not stored.  Raises no_data_found (no such invoice),
 * object_not_in_prerequisite_state (void already).
 */
Datum
do_invoice_work(PG_FUNCTION_ARGS)
{
	TriggerData *call = work_call(fcinfo, "invoice_work");
	Books	   *books = open_books(fcinfo);

	void_invoice_here(books, required_work_text(call, "invoice_number"),
					  DatumGetTimestampTz(required_work_column(call, "voided_at")),
					  required_work_text(call, "void_reason"));
	close_books(books);
	return PointerGetDatum(NULL);
}
