/*
 * memo.c
 *		The triggers on credit_memo: a memo is stamped, issued, kept from changes by hand, and
 *		settled anew when its expiry is changed.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "account.h"
#include "awaited.h"

SQL_FUNCTION(stamp_credit_memo);
SQL_FUNCTION(issue_credit_memo);
SQL_FUNCTION(keep_credit_memo);
SQL_FUNCTION(resettle_credit_memo);

/* Columns of a row, to be replaced before it is written. */
typedef struct Replacements
{
	int			n;
	int			attno[MAX_COLUMNS];
	Datum		value[MAX_COLUMNS];
	bool		isnull[MAX_COLUMNS];
} Replacements;

static void
replace_column(Replacements *replacements, Books *books, int column, Datum value, bool isnull)
{
	int			i = replacements->n++;

	replacements->attno[i] = column_number(books, CREDIT_MEMO, column);
	replacements->value[i] = value;
	replacements->isnull[i] = isnull;
}

static HeapTuple
replaced_tuple(Replacements *replacements, TriggerData *call, HeapTuple tuple)
{
	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(call->tg_relation), replacements->n,
									 replacements->attno, replacements->value,
									 replacements->isnull);
}

/* Replaces first_period by the month of redeemed_on, last_period by that of expires_on. */
static void
replace_periods(Replacements *replacements, Books *books, TriggerData *call, HeapTuple tuple)
{
	bool		not_redeemed;
	bool		never_expires;
	Datum		redeemed_on = tuple_column(books, CREDIT_MEMO, call, tuple, MEMO_REDEEMED_ON, &not_redeemed);
	Datum		expires_on = tuple_column(books, CREDIT_MEMO, call, tuple, MEMO_EXPIRES_ON, &never_expires);

	if (!not_redeemed && DATE_NOT_FINITE(DatumGetDateADT(redeemed_on)))
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("redeemed_on of a credit memo cannot be infinite"),
				 errhint("Give the day on which the credit was redeemed with AWS.")));
	if (!never_expires && DATE_NOT_FINITE(DatumGetDateADT(expires_on)))
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("expires_on of a credit memo cannot be infinite"),
				 errhint("Leave it null for a memo that never expires.")));
	if (!not_redeemed && !never_expires &&
		DatumGetDateADT(expires_on) < DatumGetDateADT(redeemed_on))
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("a credit memo cannot expire before it was redeemed"),
				 errdetail("It was redeemed on %s and expires on %s.",
						   date_text(DatumGetDateADT(redeemed_on)),
						   date_text(DatumGetDateADT(expires_on))),
				 errhint("Check redeemed_on and expires_on.")));

	replace_column(replacements, books, MEMO_FIRST_PERIOD,
				   not_redeemed ? (Datum) 0 :
				   DateADTGetDatum(month_of(DatumGetDateADT(redeemed_on))), not_redeemed);
	replace_column(replacements, books, MEMO_LAST_PERIOD,
				   never_expires ? (Datum) 0 :
				   DateADTGetDatum(month_of(DatumGetDateADT(expires_on))), never_expires);
}

/*
 * Gives the amount, which must be positive, its two decimals.  The balance is zero until the memo
 * has been entered in the ledger: nothing can be paid from it before.
 */
static void
replace_amounts(Replacements *replacements, Books *books, TriggerData *call, HeapTuple tuple)
{
	bool		isnull;
	Datum		amount = tuple_column(books, CREDIT_MEMO, call, tuple, MEMO_AMOUNT, &isnull);
	int64		cents = isnull ? 0 : cents_from_numeric(DatumGetNumeric(amount));

	if (!isnull && cents <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("the amount of a credit memo must be greater than zero"),
				 errdetail("The amount is %s.",
						   DatumGetCString(DirectFunctionCall1(numeric_out, amount))),
				 errhint("Give the credit that the account owns as a positive amount.")));
	replace_column(replacements, books, MEMO_AMOUNT, numeric_from_cents(cents), isnull);
	replace_column(replacements, books, MEMO_BALANCE, numeric_from_cents(0), false);
	replace_column(replacements, books, MEMO_ENTRIES, Int32GetDatum(0), false);
}

/* Raises an error if the statement gave a value to what only triggers may set. */
static void
require_unset(Books *books, TriggerData *call, HeapTuple tuple)
{
	static const int kept[] = {MEMO_BALANCE, MEMO_ENTRIES, MEMO_FIRST_PERIOD, MEMO_LAST_PERIOD,
	MEMO_PO_NUMBER, MEMO_VOIDED_AT, MEMO_VOID_REASON};

	for (int i = 0; i < lengthof(kept); i++)
	{
		AttrNumber	attno = column_number(books, CREDIT_MEMO, kept[i]);

		if (!heap_attisnull(tuple, attno, NULL))
			ereport(ERROR,
					(errcode(ERRCODE_GENERATED_ALWAYS),
					 errmsg("column \"%s\" of a new credit memo is set by triggers",
							get_attname(RelationGetRelid(call->tg_relation), attno, false)),
					 errhint("Leave it out of the INSERT.")));
	}
}

/*
 * stamp_credit_memo() returns trigger: BEFORE INSERT ON credit_memo, FOR EACH ROW.
 *
 * Sets number, balance, entries, first and last period, and the PO in force (rules PO and Time).  A row
 * recorded before is being restored and is left as it is.  Where the account has no PO an empty one
 * is set: issue_credit_memo() will name all such accounts, or the unknown ones.
 */
Datum
stamp_credit_memo(PG_FUNCTION_ARGS)
{
	TriggerData *call = trigger_call(fcinfo, "credit_memo", TRIGGER_EVENT_INSERT |
									 TRIGGER_EVENT_ROW | TRIGGER_EVENT_BEFORE);
	Books	   *books = open_books(fcinfo);
	HeapTuple	tuple = call->tg_trigtuple;
	bool		isnull;
	Datum		value = tuple_column(books, CREDIT_MEMO, call, tuple, MEMO_RECORDED_AT, &isnull);

	if (!isnull && is_live(call, value))
	{
		Replacements replacements = {0};

		announce_statement("credit_memo", TRIGGER_EVENT_INSERT, sizeof(AwaitedStatement));
		require_unset(books, call, tuple);
		replace_amounts(&replacements, books, call, tuple);
		replace_periods(&replacements, books, call, tuple);

		(void) tuple_column(books, CREDIT_MEMO, call, tuple, MEMO_NUMBER, &isnull);
		if (isnull)
		{
			value = tuple_column(books, CREDIT_MEMO, call, tuple, MEMO_ID, &isnull);
			replace_column(&replacements, books, MEMO_NUMBER,
						   CStringGetTextDatum(psprintf("CM" INT64_FORMAT, DatumGetInt64(value))),
						   isnull);
		}

		value = tuple_column(books, CREDIT_MEMO, call, tuple, MEMO_ACCOUNT_ID, &isnull);
		if (!isnull)
		{
			text	   *po_number = po_in_force(books, DatumGetTextPP(value));

			replace_column(&replacements, books, MEMO_PO_NUMBER,
						   po_number != NULL ? PointerGetDatum(po_number) : CStringGetTextDatum(""),
						   false);
		}
		tuple = replaced_tuple(&replacements, call, tuple);
	}
	close_books(books);
	return PointerGetDatum(tuple);
}

/* ---------------------------------------------------------------------------------------------
 * Memos inserted
 * ---------------------------------------------------------------------------------------------
 */

/* A memo that the statement inserted or changed. */
typedef struct StatementMemo
{
	text	   *account_id;
	int64		memo_id;
	DateADT		earliest_end;	/* the earlier of old and new last period */
	bool		lacks_po;
} StatementMemo;

static int
compare_statement_memos(const void *a, const void *b)
{
	const StatementMemo *x = a;
	const StatementMemo *y = b;
	int			result = compare_text(x->account_id, y->account_id);

	if (result != 0)
		return result;
	return x->memo_id < y->memo_id ? -1 : x->memo_id > y->memo_id;
}

/*
 * Sorts the memos and turns them into changes by account: each account with its memos as issued
 * ones, or as ones whose terms have changed.
 */
static AccountChange *
changes_from_memos(StatementMemo *memos, int nmemos, bool issued, int *nchanges)
{
	AccountChange *changes = allocate_huge(nmemos * sizeof(AccountChange));
	int64	   *memo_ids = allocate_huge(nmemos * sizeof(int64));

	qsort(memos, nmemos, sizeof(StatementMemo), compare_statement_memos);
	*nchanges = 0;
	for (int i = 0; i < nmemos; i++)
	{
		AccountChange *change;

		if (i == 0 || compare_text(memos[i - 1].account_id, memos[i].account_id) != 0)
		{
			change = &changes[(*nchanges)++];
			change->account_id = memos[i].account_id;
			change->lock = LockTupleExclusive;
			change->terms_changed = !issued;
			change->issued = &memo_ids[i];
		}
		change = &changes[*nchanges - 1];
		if (issued)
			change->issued[change->nissued++] = memos[i].memo_id;
	}
	return changes;
}

static void
require_po(const StatementMemo *memos, int nmemos)
{
	List	   *lacking = NIL;

	for (int i = 0; i < nmemos; i++)
		if (memos[i].lacks_po &&
			(i == 0 || compare_text(memos[i - 1].account_id, memos[i].account_id) != 0))
			lacking = lappend(lacking, memos[i].account_id);
	if (lacking != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg_plural("member account has no PO number",
							   "member accounts have no PO number", list_length(lacking)),
				 errdetail("A credit memo carries the PO that its account has. None is in force for: %s.",
						   account_list_text(lacking)),
				 errhint("Insert the PO into creditmemo.po_assignment first.")));
}

static void
take_statement_memo(Books *books, TupleTableSlot *row, StatementMemo *memo)
{
	memo->account_id = copy_text(get_required_column(books, CREDIT_MEMO, row, MEMO_ACCOUNT_ID),
								 CurrentMemoryContext);
	memo->memo_id = DatumGetInt64(get_required_column(books, CREDIT_MEMO, row, MEMO_ID));
	memo->lacks_po =
		VARSIZE_ANY_EXHDR(DatumGetTextPP(get_required_column(books, CREDIT_MEMO, row,
															 MEMO_PO_NUMBER))) == 0;
}

/*
 * In an AFTER trigger: takes the operation as done.  Returns whether the statement updates memos, too, as
 * INSERT ... ON CONFLICT DO UPDATE does: then it has those locked when it comes to the accounts.
 */
static bool
end_operation(TriggerEvent operation)
{
	AwaitedStatement *statement = take_statement("credit_memo", operation, sizeof(AwaitedStatement));
	bool		is_updating = is_announced(statement, TRIGGER_EVENT_UPDATE);

	if (statement->awaited == 0)
		end_statement(statement);
	return is_updating;
}

/* Makes the changes fail at once where another transaction is at work on the account. */
static void
do_not_wait(AccountChange *changes, int nchanges)
{
	for (int i = 0; i < nchanges; i++)
		changes[i].lock_policy = LockWaitError;
}

/*
 * issue_credit_memo() returns trigger: AFTER INSERT ON credit_memo, FOR EACH STATEMENT.
 *
 * Enters the new memos in the ledger and pays the accounts' open billings from them.  Raises
 * foreign_key_violation for unknown member accounts, object_not_in_prerequisite_state for accounts
 * without PO and memos that end in a closed period, lock_not_available where the statement also
 * updated memos and another transaction is at work on the account, serialization_failure above READ
 * COMMITTED.
 */
Datum
issue_credit_memo(PG_FUNCTION_ARGS)
{
	TriggerData *call = trigger_call(fcinfo, "credit_memo", TRIGGER_EVENT_INSERT);
	int64		max = tuplestore_tuple_count(call->tg_newtable);
	bool		is_updating = end_operation(TRIGGER_EVENT_INSERT);
	TransitionRows inserted;
	StatementMemo *memos;
	int			n = 0;
	Books	   *books;

	if (max == 0)
		return PointerGetDatum(NULL);

	books = open_books(fcinfo);
	memos = allocate_huge(max * sizeof(StatementMemo));
	begin_transition_rows(&inserted, call, call->tg_newtable);
	while (next_transition_row(&inserted))
		if (is_live(call, get_required_column(books, CREDIT_MEMO, inserted.row,
											   MEMO_RECORDED_AT)))
			take_statement_memo(books, inserted.row, &memos[n++]);
	end_transition_rows(&inserted);

	if (n > 0)
	{
		int			nchanges;
		AccountChange *changes = changes_from_memos(memos, n, true, &nchanges);

		if (is_updating)
			do_not_wait(changes, nchanges);
		lock_accounts(books, changes, nchanges);
		require_po(memos, n);
		settle_accounts(books, changes, nchanges);
	}
	close_books(books);
	return PointerGetDatum(NULL);
}

/* ---------------------------------------------------------------------------------------------
 * Memos updated
 * ---------------------------------------------------------------------------------------------
 */

static bool
may_be_changed(int column)
{
	return column == MEMO_NOTE || column == MEMO_PRIORITY || column == MEMO_EXPIRES_ON ||
		column == MEMO_PROVIDER_CREDIT_ID;
}

/*
 * keep_credit_memo() returns trigger: BEFORE UPDATE ON credit_memo, FOR EACH ROW.
 *
 * Note, priority, expires_on and provider_credit_id may be changed; last_period follows
 * expires_on.  Raises generated_always if anything else is changed by hand.
 */
Datum
keep_credit_memo(PG_FUNCTION_ARGS)
{
	TriggerData *call = trigger_call(fcinfo, "credit_memo", TRIGGER_EVENT_UPDATE |
									 TRIGGER_EVENT_ROW | TRIGGER_EVENT_BEFORE);
	TupleDesc	tupdesc = RelationGetDescr(call->tg_relation);
	HeapTuple	tuple = call->tg_newtuple;
	Replacements replacements = {0};
	Books	   *books;

	announce_statement("credit_memo", TRIGGER_EVENT_UPDATE, sizeof(AwaitedStatement));
	books = open_books(fcinfo);
	for (int column = 0; column <= MEMO_RECORDED_AT; column++)
	{
		AttrNumber	attno = column_number(books, CREDIT_MEMO, column);

		if (may_be_changed(column) || is_same_column(call, attno))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_GENERATED_ALWAYS),
				 errmsg("column \"%s\" of an issued credit memo cannot be changed",
						NameStr(TupleDescAttr(tupdesc, attno - 1)->attname)),
				 errdetail("Only note, priority, expires_on and provider_credit_id can."),
				 errhint("Issue another credit memo instead.")));
	}
	replace_periods(&replacements, books, call, tuple);
	tuple = replaced_tuple(&replacements, call, tuple);
	close_books(books);
	return PointerGetDatum(tuple);
}

/*
 * resettle_credit_memo() returns trigger: AFTER UPDATE ON credit_memo, FOR EACH STATEMENT.
 *
 * Where the last period was changed: releases what open billings hold of the memo and it may no
 * longer pay, and pays what it may pay now.  Raises object_not_in_prerequisite_state where the old
 * or the new last period is closed, lock_not_available where another transaction is at work on the
 * account, serialization_failure above READ COMMITTED.
 */
Datum
resettle_credit_memo(PG_FUNCTION_ARGS)
{
	TriggerData *call = trigger_call(fcinfo, "credit_memo", TRIGGER_EVENT_UPDATE);
	int64		max = tuplestore_tuple_count(call->tg_newtable);
	TransitionRows before,
				after;
	StatementMemo *memos;
	int			n = 0;
	Books	   *books;

	(void) end_operation(TRIGGER_EVENT_UPDATE);
	if (max == 0)
		return PointerGetDatum(NULL);

	books = open_books(fcinfo);
	memos = allocate_huge(max * sizeof(StatementMemo));
	begin_transition_rows(&before, call, call->tg_oldtable);
	begin_transition_rows(&after, call, call->tg_newtable);
	/* both tables have the rows in the order in which they were updated */
	while (next_transition_row(&before) && next_transition_row(&after))
	{
		DateADT		old_end = get_end_date(books, before.row, MEMO_LAST_PERIOD);
		DateADT		new_end = get_end_date(books, after.row, MEMO_LAST_PERIOD);

		if (old_end == new_end)
			continue;
		take_statement_memo(books, after.row, &memos[n]);
		memos[n++].earliest_end = Min(old_end, new_end);
	}
	end_transition_rows(&before);
	end_transition_rows(&after);

	if (n > 0)
	{
		int			nchanges;
		AccountChange *changes = changes_from_memos(memos, n, false, &nchanges);

		/* we hold the memos already: to wait for their accounts would be the wrong way round */
		do_not_wait(changes, nchanges);
		lock_accounts(books, changes, nchanges);
		for (int i = 0, memo = 0; memo < n; memo++)
		{
			if (compare_text(changes[i].account_id, memos[memo].account_id) != 0)
				i++;
			refuse_closed_period(&changes[i], memos[memo].earliest_end);
		}
		settle_accounts(books, changes, nchanges);
	}
	close_books(books);
	return PointerGetDatum(NULL);
}
