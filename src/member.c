/*
 * member.c
 *		The trigger on tables that refer to member accounts.
 */
#include "postgres.h"

#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "settle.h"
#include "trigger.h"

SQL_FUNCTION(prove_member_accounts);

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
	books = open_books(extension_schema(fcinfo));
	lock_accounts(books, accounts, naccounts);
	close_books(books);
	return PointerGetDatum(NULL);
}
