/*
 * member.c
 *		Member accounts: the trigger on tables that refer to them, and the one that lets them move to
 *		another customer or payer.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "account.h"
#include "trigger.h"

SQL_FUNCTION(prove_member_accounts);
SQL_FUNCTION(move_member_account);

/* The account ids of the inserted rows; those of rows in a row are named once. */
static List *
inserted_account_ids(TriggerData *call)
{
	AttrNumber	attno = get_attnum(RelationGetRelid(call->tg_relation), "account_id");
	List	   *account_ids = NIL;
	TransitionRows inserted;

	if (attno == InvalidAttrNumber)
		elog(ERROR, "table \"%s\" has no column account_id",
			 RelationGetRelationName(call->tg_relation));
	begin_transition_rows(&inserted, call, call->tg_newtable);
	while (next_transition_row(&inserted))
	{
		bool		isnull;
		text	   *account_id = DatumGetTextPP(slot_getattr(inserted.row, attno, &isnull));

		if (account_ids == NIL || compare_text(llast(account_ids), account_id) != 0)
			account_ids = lappend(account_ids, copy_text(PointerGetDatum(account_id),
														 CurrentMemoryContext));
	}
	end_transition_rows(&inserted);
	return account_ids;
}

/*
 * prove_member_accounts() returns trigger: AFTER INSERT, FOR EACH STATEMENT, on a table with a
 * column account_id.
 *
 * Locks the member accounts of the inserted rows FOR KEY SHARE in order of their ids, which a
 * foreign key that is checked row by row would not (rule Locks).  Raises foreign_key_violation for
 * unknown member accounts.
 */
Datum
prove_member_accounts(PG_FUNCTION_ARGS)
{
	TriggerData *call = trigger_call(fcinfo, NULL, TRIGGER_EVENT_INSERT);
	AccountChange *accounts;
	int			naccounts;
	Books	   *books;

	if (tuplestore_tuple_count(call->tg_newtable) == 0)
		return PointerGetDatum(NULL);

	accounts = changes_for_accounts(inserted_account_ids(call), LockTupleKeyShare, &naccounts);
	books = open_books(fcinfo);
	lock_accounts(books, accounts, naccounts);
	close_books(books);
	return PointerGetDatum(NULL);
}

/* ---------------------------------------------------------------------------------------------
 * Accounts moved
 * ---------------------------------------------------------------------------------------------
 */

/* Whether a memo of the account has a balance, or would have one again if a period were reopened. */
static bool
has_credit(Books *books, text *account_id)
{
	Datum		key = PointerGetDatum(account_id);
	bool		found = false;
	RowScan		rows;

	begin_rows(&rows, books, MEMOS_OF_ACCOUNT, ForwardScanDirection, 1, &key);
	while (!found && next_row(&rows))
	{
		bool		not_void;

		(void) get_column(books, CREDIT_MEMO, rows.row, MEMO_VOIDED_AT, &not_void);
		found = not_void &&
			(get_cents(books, CREDIT_MEMO, rows.row, MEMO_BALANCE) > 0 ||
			 read_expired(books, account_id,
						  DatumGetInt64(get_required_column(books, CREDIT_MEMO, rows.row,
															MEMO_ID))) > 0);
	}
	end_rows(&rows);
	return found;
}

static bool
has_books(Books *books, text *account_id)
{
	Datum		key = PointerGetDatum(account_id);
	TupleTableSlot *row;

	return find_row(books, BILLINGS_OF_ACCOUNT, 1, &key, &row) ||
		find_row(books, MEMOS_OF_ACCOUNT, 1, &key, &row);
}

/* Raises an error if something of the account is open that belongs where it is now. */
static void
refuse_open_account(Books *books, text *account_id)
{
	DateADT		first;
	bool		unbilled = find_unbilled_period(books, account_id, DATEVAL_NOEND, &first);

	if (unbilled || has_credit(books, account_id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("member account \"%s\" cannot be moved while something of it is open",
						text_to_cstring(account_id)),
				 errdetail(unbilled ? "It has utilization that is not invoiced." :
						   "It has a credit memo with a balance, or one that expired and would come back with its month."),
				 errhint(unbilled ? "Issue the invoice first." :
						 "Void the credit memo first.")));
}

/* The currency of a customer; null if there is no such customer. */
static text *
currency_of(Books *books, text *customer_id)
{
	Datum		key = PointerGetDatum(customer_id);
	TupleTableSlot *row;

	return find_row(books, CUSTOMER_BY_ID, 1, &key, &row) ?
		copy_text(get_required_column(books, CUSTOMER, row, CUSTOMER_CURRENCY),
				  CurrentMemoryContext) : NULL;
}

/* Raises an error if the account's books would be in another currency from now on. */
static void
refuse_other_currency(Books *books, text *account_id, text *old_customer_id,
					  text *new_customer_id)
{
	text	   *old_currency = currency_of(books, old_customer_id);
	text	   *new_currency = currency_of(books, new_customer_id);

	if (old_currency != NULL && new_currency != NULL &&
		compare_text(old_currency, new_currency) != 0 && has_books(books, account_id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("member account \"%s\" has books in %s, the customer \"%s\" is billed in %s",
						text_to_cstring(account_id), text_to_cstring(old_currency),
						text_to_cstring(new_customer_id), text_to_cstring(new_currency)),
				 errhint("Move it to a customer of the same currency.")));
}

/*
 * move_member_account() returns trigger: BEFORE UPDATE ON member_account, FOR EACH ROW whose
 * customer, payer or closed_through changes.
 *
 * Raises generated_always for closed_through, which close_period() keeps: by hand, credit that ends
 * with the period would stay; object_not_in_prerequisite_state while something of the account is
 * open or where the new customer has another currency; lock_not_available where another transaction
 * is at work on the account: the UPDATE has locked it already, but not against new charges, and to
 * wait for those now could be a deadlock.
 */
Datum
move_member_account(PG_FUNCTION_ARGS)
{
	TriggerData *call = trigger_call(fcinfo, "member_account", TRIGGER_EVENT_UPDATE |
									 TRIGGER_EVENT_ROW | TRIGGER_EVENT_BEFORE);
	AccountChange change = {.lock = LockTupleExclusive,.lock_policy = LockWaitError};
	Datum		old_customer_id;
	Datum		new_customer_id;
	Books	   *books;
	bool		isnull;

	books = open_books(fcinfo);
	if (!is_same_column(call, column_number(books, MEMBER_ACCOUNT, ACCOUNT_CLOSED_THROUGH)))
		ereport(ERROR,
				(errcode(ERRCODE_GENERATED_ALWAYS),
				 errmsg("column \"closed_through\" of a member account is kept by close_period()"),
				 errhint("Call close_period() or reopen_period().")));
	change.account_id = DatumGetTextPP(tuple_column(books, MEMBER_ACCOUNT, call,
													call->tg_trigtuple, ACCOUNT_ID, &isnull));
	lock_accounts(books, &change, 1);
	refuse_open_account(books, change.account_id);
	old_customer_id = tuple_column(books, MEMBER_ACCOUNT, call, call->tg_trigtuple,
								   ACCOUNT_CUSTOMER_ID, &isnull);
	new_customer_id = tuple_column(books, MEMBER_ACCOUNT, call, call->tg_newtuple,
								   ACCOUNT_CUSTOMER_ID, &isnull);
	if (!isnull)
		refuse_other_currency(books, change.account_id, DatumGetTextPP(old_customer_id),
							  DatumGetTextPP(new_customer_id));
	close_books(books);
	return PointerGetDatum(call->tg_newtuple);
}
