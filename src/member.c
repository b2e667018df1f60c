/*
 * member.c
 *		The trigger on tables that refer to member accounts.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/rel.h"

#include "settle.h"
#include "trigger.h"

SQL_FUNCTION(prove_member_accounts);

static int
compare_account_ids(const ListCell *a, const ListCell *b)
{
	return compare_text(lfirst(a), lfirst(b));
}

/* The account ids of the inserted rows, in order and each once. */
static List *
inserted_account_ids(TriggerData *call)
{
	int			attno = SPI_fnumber(RelationGetDescr(call->tg_relation), "account_id");
	List	   *account_ids = NIL;
	TransitionRows inserted;

	begin_transition_rows(&inserted, call, call->tg_newtable);
	while (next_transition_row(&inserted))
	{
		bool		isnull;
		Datum		account_id = slot_getattr(inserted.row, attno, &isnull);

		account_ids = lappend(account_ids, copy_text(account_id, CurrentMemoryContext));
	}
	end_transition_rows(&inserted);
	list_sort(account_ids, compare_account_ids);
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
	List	   *account_ids = inserted_account_ids(call);
	AccountChange *accounts = palloc0(Max(list_length(account_ids), 1) * sizeof(AccountChange));
	int			naccounts = 0;
	ListCell   *cell;
	Books	   *books;

	foreach(cell, account_ids)
		if (naccounts == 0 ||
			compare_text(accounts[naccounts - 1].account_id, lfirst(cell)) != 0)
		{
			accounts[naccounts].account_id = lfirst(cell);
			accounts[naccounts++].lock = LockTupleKeyShare;
		}
	books = open_books(extension_schema(fcinfo));
	lock_accounts(books, accounts, naccounts);
	close_books(books);
	return PointerGetDatum(NULL);
}
