/*
 * utilization.c
 *		The triggers on utilization: sum what a statement changed and have it settled.
 *
 * However many lines a statement has, memory is taken for each account and period only.
 *
 * A statement may have several AFTER triggers called, see awaited.c.  If each had its accounts locked
 * and settled by itself, their ids would not be locked in one order, and a line that is replaced would
 * give credit back and take it again.  So the last one settles all.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "awaited.h"
#include "settle.h"

SQL_FUNCTION(await_utilization);
SQL_FUNCTION(apply_utilization);

struct line_sums_hash;

/* What has been taken up of a statement on utilization. */
typedef struct LinesStatement
{
	AwaitedStatement common;
	struct line_sums_hash *sums;	/* null: none has been called with lines */
	List	   *new_lines;		/* NewLines that may have to be numbered */
} LinesStatement;

/*
 * await_utilization() returns trigger: BEFORE INSERT, UPDATE OR DELETE ON utilization, FOR EACH
 * STATEMENT.  Notes that the AFTER trigger of the operation is to come.
 */
Datum
await_utilization(PG_FUNCTION_ARGS)
{
	TriggerEvent operation = trigger_operation(fcinfo);

	(void) trigger_call(fcinfo, "utilization", operation | TRIGGER_EVENT_BEFORE);
	(void) announce_statement("utilization", operation, sizeof(LinesStatement));
	return PointerGetDatum(NULL);
}

/* ---------------------------------------------------------------------------------------------
 * Lines
 * ---------------------------------------------------------------------------------------------
 */

/* The lines that an operation changed, read one after the other. */
typedef struct Lines
{
	Books	   *books;
	const TriggerData *call;
	const AttrNumber *attno;	/* by LINE_... */
	bool		has_old;
	bool		has_new;
	TransitionRows old;
	TransitionRows new;
	MemoryContext line_context; /* lives until the next line */
} Lines;

/* The transition tables of an operation that gave the table new lines. */
typedef struct NewLines
{
	Tuplestorestate *old;		/* null: inserted */
	Tuplestorestate *new;
} NewLines;

static void
begin_lines(Lines *lines, Books *books, const TriggerData *call, Tuplestorestate *old,
			Tuplestorestate *new)
{
	lines->books = books;
	lines->call = call;
	lines->attno = column_numbers(books, UTILIZATION);
	lines->has_old = old != NULL;
	lines->has_new = new != NULL;
	if (lines->has_old)
		begin_transition_rows(&lines->old, call, old);
	if (lines->has_new)
		begin_transition_rows(&lines->new, call, new);
	lines->line_context = AllocSetContextCreate(CurrentMemoryContext, "creditmemo line",
												ALLOCSET_SMALL_SIZES);
}

static void
end_lines(Lines *lines)
{
	if (lines->has_old)
		end_transition_rows(&lines->old);
	if (lines->has_new)
		end_transition_rows(&lines->new);
	MemoryContextDelete(lines->line_context);
}

/* A column that is NOT NULL, of the line that a transition table is at. */
static Datum
line_column(const Lines *lines, const TransitionRows *rows, int column)
{
	bool		isnull;
	Datum		value = slot_getattr(rows->row, lines->attno[column], &isnull);

	if (isnull)
		elog(ERROR, "column %d of utilization is null", lines->attno[column]);
	return value;
}

/* Whether a column of an updated line is as it was; amounts are compared as numbers. */
static bool
is_same_value(Lines *lines, int column)
{
	AttrNumber	attno = lines->attno[column];
	Form_pg_attribute attribute =
		TupleDescAttr(lines->new.row->tts_tupleDescriptor, attno - 1);
	bool		old_isnull;
	bool		new_isnull;
	Datum		old_value = slot_getattr(lines->old.row, attno, &old_isnull);
	Datum		new_value = slot_getattr(lines->new.row, attno, &new_isnull);

	if (old_isnull || new_isnull)
		return old_isnull && new_isnull;
	return datum_image_eq(old_value, new_value, attribute->attbyval, attribute->attlen) ||
		(column == LINE_AMOUNT &&
		 DatumGetBool(DirectFunctionCall2(numeric_eq, old_value, new_value)));
}

/* Raises generated_always if an update by hand changed the column, which triggers keep. */
static void
require_same_column(Lines *lines, int column)
{
	AttrNumber	attno = lines->attno[column];

	if (!is_same_value(lines, column))
		ereport(ERROR,
				(errcode(ERRCODE_GENERATED_ALWAYS),
				 errmsg("column \"%s\" of utilization is set by triggers",
						NameStr(TupleDescAttr(lines->new.row->tts_tupleDescriptor,
											  attno - 1)->attname)),
				 errhint("Leave it out of the UPDATE.")));
}

/* Raises generated_always if a line that is inserted says on which billing it is. */
static void
require_no_billing(Lines *lines)
{
	if (DatumGetInt32(line_column(lines, &lines->new, LINE_BILLING_NO)) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_GENERATED_ALWAYS),
				 errmsg("column \"billing_no\" of utilization is set by triggers"),
				 errhint("Leave it out of the INSERT.")));
}

/* Whether an update left the line as it was; what users added to the table does not count. */
static bool
is_same_line(Lines *lines)
{
	require_same_column(lines, LINE_BILLING_NO);
	require_same_column(lines, LINE_RECORDED_AT);
	for (int column = 0; column < LINE_BILLING_NO; column++)
		if (!is_same_value(lines, column))
			return false;
	return true;
}

/* Steps to the next line that counts: that was inserted live, deleted, or changed in any column. */
static bool
next_line(Lines *lines)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		found = false;

	for (;;)
	{
		MemoryContextReset(lines->line_context);
		/* of an update, both tables have the rows in the order in which they were updated */
		if ((lines->has_old && !next_transition_row(&lines->old)) ||
			(lines->has_new && !next_transition_row(&lines->new)))
			break;
		MemoryContextSwitchTo(lines->line_context);
		if (!lines->has_new)
			found = true;
		else if (lines->has_old)
			found = !is_same_line(lines);
		else
			found = is_live(lines->call,
							line_column(lines, &lines->new, LINE_RECORDED_AT));
		MemoryContextSwitchTo(caller);
		if (found)
			break;
	}
	return found;
}

/* ---------------------------------------------------------------------------------------------
 * Sums
 * ---------------------------------------------------------------------------------------------
 */

typedef struct LineKey
{
	text	   *account_id;
	DateADT		service_period;
} LineKey;

/* What a statement changed for an account and period. */
typedef struct LineSum
{
	LineKey		key;
	uint32		hash;
	char		status;
	bool		may_free;		/* credit: a line is negative, was changed or deleted */
	int32		first_new_no;	/* lowest and highest billing_no that new lines say; */
	int32		last_new_no;	/* 0: no new lines */
	PeriodChange sum;
	PeriodChange *change;		/* the same, as it is settled */
} LineSum;

static uint32
hash_line_key(LineKey key)
{
	return hash_bytes((unsigned char *) VARDATA_ANY(key.account_id),
					  VARSIZE_ANY_EXHDR(key.account_id)) ^ murmurhash32((uint32) key.service_period);
}

static int
compare_line_keys(LineKey a, LineKey b)
{
	int			result = compare_text(a.account_id, b.account_id);

	if (result != 0)
		return result;
	return a.service_period < b.service_period ? -1 : a.service_period > b.service_period;
}

#define SH_PREFIX line_sums
#define SH_ELEMENT_TYPE LineSum
#define SH_KEY_TYPE LineKey
#define SH_KEY key
#define SH_HASH_KEY(table, key) hash_line_key(key)
#define SH_EQUAL(table, a, b) (compare_line_keys(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(table, element) (element)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static LineKey
line_key(Lines *lines, TransitionRows *rows)
{
	LineKey		key;

	key.account_id = DatumGetTextPP(line_column(lines, rows, LINE_ACCOUNT_ID));
	key.service_period = DatumGetDateADT(line_column(lines, rows, LINE_SERVICE_PERIOD));
	return key;
}

static LineSum *
get_line_sum(LinesStatement *statement, LineKey key)
{
	bool		found;
	LineSum    *sum = line_sums_insert(statement->sums, key, &found);

	if (!found)
	{
		sum->key.account_id = copy_text(PointerGetDatum(key.account_id), statement->common.context);
		sum->may_free = false;
		sum->first_new_no = sum->last_new_no = 0;
		memset(&sum->sum, 0, sizeof(PeriodChange));
		sum->sum.service_period = key.service_period;
	}
	return sum;
}

/* Adds a line's amount, or its opposite, to the sum. */
static void
add_amount(LineSum *sum, Lines *lines, TransitionRows *rows, int sign)
{
	Numeric		amount = DatumGetNumeric(line_column(lines, rows, LINE_AMOUNT));
	int64		cents = sign * cents_from_numeric(amount);

	sum->sum.utilization += cents;
	if (DatumGetBool(line_column(lines, rows, LINE_CREDITABLE)))
		sum->sum.creditable += cents;
	sum->may_free |= cents < 0;
}

/* Widens a range of billing numbers; 0 is none. */
static void
widen(int32 *first, int32 *last, int32 billing_no)
{
	if (*first == 0 || billing_no < *first)
		*first = billing_no;
	if (*last == 0 || billing_no > *last)
		*last = billing_no;
}

static void
take_new_line(LinesStatement *statement, Lines *lines)
{
	LineSum    *sum = get_line_sum(statement, line_key(lines, &lines->new));

	if (!lines->has_old)
		require_no_billing(lines);
	add_amount(sum, lines, &lines->new, 1);
	sum->may_free |= lines->has_old;
	widen(&sum->first_new_no, &sum->last_new_no,
		  DatumGetInt32(line_column(lines, &lines->new, LINE_BILLING_NO)));
}

static void
take_old_line(LinesStatement *statement, Lines *lines)
{
	LineSum    *sum = get_line_sum(statement, line_key(lines, &lines->old));

	add_amount(sum, lines, &lines->old, -1);
	sum->may_free = true;
	widen(&sum->sum.first_billing_no, &sum->sum.last_billing_no,
		  DatumGetInt32(line_column(lines, &lines->old, LINE_BILLING_NO)));
}

/* Adds what an operation changed to the statement's sums, exactly. */
static void
sum_lines(LinesStatement *statement, Lines *lines)
{
	if (statement->sums == NULL)
		statement->sums = line_sums_create(statement->common.context, 8, NULL);
	while (next_line(lines))
	{
		MemoryContext caller = MemoryContextSwitchTo(lines->line_context);

		if (lines->has_old)
			take_old_line(statement, lines);
		if (lines->has_new)
			take_new_line(statement, lines);
		MemoryContextSwitchTo(caller);
	}
}

static int
compare_line_sums(const void *a, const void *b)
{
	return compare_line_keys((*(LineSum *const *) a)->key, (*(LineSum *const *) b)->key);
}

/* Turns the sums into changes by account and, within it, by period, in order. */
static AccountChange *
changes_from_sums(line_sums_hash *sums, int *nchanges)
{
	LineSum   **sorted = allocate_huge(sums->members * sizeof(LineSum *));
	AccountChange *changes = allocate_huge(sums->members * sizeof(AccountChange));
	PeriodChange *periods = allocate_huge(sums->members * sizeof(PeriodChange));
	line_sums_iterator iterator;
	LineSum    *sum;
	int			n = 0;

	line_sums_start_iterate(sums, &iterator);
	while ((sum = line_sums_iterate(sums, &iterator)) != NULL)
		sorted[n++] = sum;
	qsort(sorted, n, sizeof(LineSum *), compare_line_sums);

	*nchanges = 0;
	for (int i = 0; i < n; i++)
	{
		AccountChange *change;

		sum = sorted[i];
		if (i == 0 || compare_text(sorted[i - 1]->key.account_id, sum->key.account_id) != 0)
		{
			change = &changes[(*nchanges)++];
			change->account_id = sum->key.account_id;
			change->lock = LockTupleKeyShare;
			change->periods = &periods[i];
		}
		change = &changes[*nchanges - 1];
		change->nperiods++;
		if (sum->may_free)
			change->lock = LockTupleExclusive;
		periods[i] = sum->sum;
		sum->change = &periods[i];
	}
	pfree(sorted);
	return changes;
}

/* ---------------------------------------------------------------------------------------------
 * Statements settled
 * ---------------------------------------------------------------------------------------------
 */

static bool
needs_numbering(line_sums_hash *sums)
{
	line_sums_iterator iterator;
	LineSum    *sum;

	line_sums_start_iterate(sums, &iterator);
	while ((sum = line_sums_iterate(sums, &iterator)) != NULL)
		if (sum->first_new_no != sum->last_new_no ||
			(sum->first_new_no != 0 && sum->first_new_no != sum->change->billing_no))
			return true;
	return false;
}

/* Writes on each new line the number of the billing that took it up, where it says another. */
static void
number_lines(Lines *lines, line_sums_hash *sums)
{
	Assert(lines->has_new);
	while (next_line(lines))
	{
		MemoryContext caller = MemoryContextSwitchTo(lines->line_context);
		LineKey		key = line_key(lines, &lines->new);
		LineSum    *sum = line_sums_lookup(sums, key);
		Datum		keys[3] = {DateADTGetDatum(key.service_period),
			PointerGetDatum(key.account_id),
			line_column(lines, &lines->new, LINE_UTILIZATION_ID)};
		RowValues	values = {0};
		TupleTableSlot *row;

		set_column(&values, LINE_BILLING_NO, Int32GetDatum(sum->change->billing_no));
		if (DatumGetInt32(line_column(lines, &lines->new, LINE_BILLING_NO)) !=
			sum->change->billing_no &&
			find_row(lines->books, LINES_OF_PERIOD, 3, keys, &row))
			update_row(lines->books, UTILIZATION, copy_row(row), &values);
		MemoryContextSwitchTo(caller);
	}
}

/* Settles the accounts of which the statement changed lines. */
static void
settle_statement(LinesStatement *statement, Books *books, const TriggerData *call)
{
	int			nchanges;
	AccountChange *changes = changes_from_sums(statement->sums, &nchanges);
	ListCell   *cell;

	lock_accounts(books, changes, nchanges);
	settle_accounts(books, changes, nchanges);
	if (!needs_numbering(statement->sums))
		return;
	foreach(cell, statement->new_lines)
	{
		NewLines   *new_lines = lfirst(cell);
		Lines		lines;

		begin_lines(&lines, books, call, new_lines->old, new_lines->new);
		number_lines(&lines, statement->sums);
		end_lines(&lines);
	}
}

/* Notes that the operation gave the table lines that may have to be numbered. */
static void
note_new_lines(LinesStatement *statement, const TriggerData *call)
{
	MemoryContext caller = MemoryContextSwitchTo(statement->common.context);
	NewLines   *new_lines = palloc(sizeof(NewLines));

	new_lines->old = call->tg_oldtable;
	new_lines->new = call->tg_newtable;
	statement->new_lines = lappend(statement->new_lines, new_lines);
	MemoryContextSwitchTo(caller);
}

/* Takes up what an operation changed. */
static void
take_operation(LinesStatement *statement, Books *books, const TriggerData *call)
{
	Lines		lines;

	begin_lines(&lines, books, call, call->tg_oldtable, call->tg_newtable);
	sum_lines(statement, &lines);
	end_lines(&lines);
	if (call->tg_newtable != NULL)
		note_new_lines(statement, call);
}

static bool
is_empty(const TriggerData *call)
{
	return tuplestore_tuple_count(call->tg_newtable != NULL ? call->tg_newtable :
								  call->tg_oldtable) == 0;
}

/*
 * apply_utilization() returns trigger: AFTER INSERT, UPDATE OR DELETE ON utilization, FOR EACH
 * STATEMENT.
 *
 * Puts new lines on the open billings of their accounts and periods, takes what was changed or
 * deleted off them, and has those settled when the last trigger of the statement is called (rules
 * Settled and Restatement).  Raises foreign_key_violation for unknown member accounts,
 * object_not_in_prerequisite_state for closed periods and for lines on an invoice, generated_always
 * for changes of what triggers keep, numeric_value_out_of_range for a sum of 10^15 or more,
 * serialization_failure above READ COMMITTED.
 */
Datum
apply_utilization(PG_FUNCTION_ARGS)
{
	TriggerEvent operation = trigger_operation(fcinfo);
	TriggerData *call = trigger_call(fcinfo, "utilization", operation);
	LinesStatement *statement = (LinesStatement *)
		take_statement("utilization", operation, sizeof(LinesStatement));
	bool		is_last = statement->common.awaited == 0;

	if (!is_empty(call) || (is_last && statement->sums != NULL))
	{
		Books	   *books = open_books(fcinfo);

		if (!is_empty(call))
			take_operation(statement, books, call);
		if (is_last && statement->sums->members > 0)
			settle_statement(statement, books, call);
		close_books(books);
	}
	if (is_last)
		end_statement(&statement->common);
	return PointerGetDatum(NULL);
}
