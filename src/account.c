/*
 * account.c
 *		Member accounts, locked before they are settled.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "account.h"

/* The account ids of the rows of a look-up, which are in the column. */
List *
read_account_ids(Books *books, BooksLookup lookup, int column, int nkeys, const Datum *keys)
{
	List	   *account_ids = NIL;
	RowScan		rows;

	begin_rows(&rows, books, lookup, ForwardScanDirection, nkeys, keys);
	while (next_row(&rows))
		account_ids = lappend(account_ids,
							  copy_text(get_required_column(books, rows.table, rows.row, column),
										CurrentMemoryContext));
	end_rows(&rows);
	return account_ids;
}

/* Accounts to be locked, from a list of their ids that may be in any order and name some twice. */
AccountChange *
changes_for_accounts(List *account_ids, LockTupleMode lock, int *nchanges)
{
	AccountChange *changes;
	ListCell   *cell;

	list_sort(account_ids, compare_text_cells);
	changes = allocate_huge(Max(list_length(account_ids), 1) * sizeof(AccountChange));
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

/* Locks the account, in the mode, and notes what is closed for it; false if there is none. */
bool
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
				 errhint("Check the ids (leading zeros are kept), or insert what is missing into creditmemo.member_account first, with its payer account and customer.")));
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
				 errdetail("It is closed through %s: what is closed takes no more utilization, credit, invoices or voids.",
						   service_period_text(change->closed_through)),
				 errhint("Work in a later service period, or open this one again with reopen_period().")));
}
