/*
 * utilization.c
 *		The trigger on utilization: sums what a statement inserted and has it settled.
 *
 * However many lines a statement has, memory is taken for each account and period only.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "settle.h"
#include "trigger.h"

SQL_FUNCTION(apply_utilization);

typedef struct LineKey
{
	text	   *account_id;
	DateADT		service_period;
} LineKey;

/* The sum of the inserted lines of an account and period, in cents. */
typedef struct LineSum
{
	LineKey		key;
	uint32		hash;
	char		status;
	bool		refunds;		/* a line is negative */
	bool		numbered;		/* a line says another billing_no than 1 */
	PeriodChange *change;
	int128		utilization;
	int128		creditable;
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

/* The lines that a statement inserted, read one after the other. */
typedef struct Lines
{
	Books	   *books;
	TransitionRows inserted;
	MemoryContext line_context; /* lives until the next line */
} Lines;

/* Steps to the next line that is live. */
static bool
next_line(Lines *lines)
{
	MemoryContextReset(lines->line_context);
	while (next_transition_row(&lines->inserted))
		if (is_live(get_required_column(lines->books, UTILIZATION, lines->inserted.row,
										LINE_RECORDED_AT)))
			return true;
	return false;
}

static Datum
line_column(Lines *lines, int column)
{
	return get_required_column(lines->books, UTILIZATION, lines->inserted.row, column);
}

static LineKey
line_key(Lines *lines)
{
	LineKey		key;

	key.account_id = DatumGetTextPP(line_column(lines, LINE_ACCOUNT_ID));
	key.service_period = DatumGetDateADT(line_column(lines, LINE_SERVICE_PERIOD));
	return key;
}

/* Sums the live lines by account and period, exactly. */
static line_sums_hash *
sum_lines(Lines *lines)
{
	MemoryContext lasting = CurrentMemoryContext;
	line_sums_hash *sums = line_sums_create(lasting, 256, NULL);

	while (next_line(lines))
	{
		MemoryContext caller = MemoryContextSwitchTo(lines->line_context);
		LineKey		key = line_key(lines);
		int64		cents = get_cents(lines->books, UTILIZATION, lines->inserted.row,
									  LINE_AMOUNT);
		bool		found;
		LineSum    *sum = line_sums_insert(sums, key, &found);

		if (!found)
		{
			sum->key.account_id = copy_text(PointerGetDatum(key.account_id), lasting);
			sum->utilization = sum->creditable = 0;
			sum->refunds = sum->numbered = false;
		}
		sum->utilization += cents;
		if (DatumGetBool(line_column(lines, LINE_CREDITABLE)))
			sum->creditable += cents;
		sum->refunds |= cents < 0;
		sum->numbered |= DatumGetInt32(line_column(lines, LINE_BILLING_NO)) != 1;
		MemoryContextSwitchTo(caller);
	}
	return sums;
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
	LineSum   **sorted = palloc(sums->members * sizeof(LineSum *));
	AccountChange *changes = palloc0(sums->members * sizeof(AccountChange));
	PeriodChange *periods = palloc0(sums->members * sizeof(PeriodChange));
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
		if (sum->refunds)
			change->lock = LockTupleExclusive;
		sum->change = &periods[i];
		periods[i].service_period = sum->key.service_period;
		periods[i].utilization = sum->utilization;
		periods[i].creditable = sum->creditable;
	}
	pfree(sorted);
	return changes;
}

static bool
needs_numbering(line_sums_hash *sums)
{
	line_sums_iterator iterator;
	LineSum    *sum;

	line_sums_start_iterate(sums, &iterator);
	while ((sum = line_sums_iterate(sums, &iterator)) != NULL)
		if (sum->numbered || sum->change->billing_no != 1)
			return true;
	return false;
}

/* Writes on each line the number of the billing that took it up, where it says another. */
static void
number_lines(Lines *lines, line_sums_hash *sums)
{
	rewind_transition_rows(&lines->inserted);
	while (next_line(lines))
	{
		MemoryContext caller = MemoryContextSwitchTo(lines->line_context);
		LineKey		key = line_key(lines);
		LineSum    *sum = line_sums_lookup(sums, key);
		Datum		keys[3] = {DateADTGetDatum(key.service_period),
			PointerGetDatum(key.account_id), line_column(lines, LINE_UTILIZATION_ID)};
		RowValues	values = {0};
		TupleTableSlot *row;

		set_column(&values, LINE_BILLING_NO, Int32GetDatum(sum->change->billing_no));
		if (DatumGetInt32(line_column(lines, LINE_BILLING_NO)) != sum->change->billing_no &&
			find_row(lines->books, LINES_OF_PERIOD, 3, keys, &row))
			update_row(lines->books, UTILIZATION, copy_row(row), &values);
		MemoryContextSwitchTo(caller);
	}
}

/*
 * apply_utilization() returns trigger: AFTER INSERT ON utilization, FOR EACH STATEMENT.
 *
 * Puts the inserted lines on the open billings of their accounts and periods and has those settled.
 * Raises foreign_key_violation for unknown member accounts, object_not_in_prerequisite_state for
 * closed periods, numeric_value_out_of_range for a sum of 10^15 or more, serialization_failure
 * above READ COMMITTED.
 */
Datum
apply_utilization(PG_FUNCTION_ARGS)
{
	TriggerData *call = trigger_call(fcinfo, "utilization", TRIGGER_EVENT_INSERT);
	Books	   *books;
	Lines		lines;
	line_sums_hash *sums;

	if (tuplestore_tuple_count(call->tg_newtable) == 0)
		return PointerGetDatum(NULL);

	books = open_books(extension_schema(fcinfo));
	lines.books = books;
	lines.line_context = AllocSetContextCreate(CurrentMemoryContext, "creditmemo line",
											   ALLOCSET_SMALL_SIZES);
	begin_transition_rows(&lines.inserted, call, call->tg_newtable);
	sums = sum_lines(&lines);
	if (sums->members > 0)
	{
		int			nchanges;
		AccountChange *changes = changes_from_sums(sums, &nchanges);

		lock_accounts(books, changes, nchanges);
		settle_accounts(books, changes, nchanges);
		if (needs_numbering(sums))
			number_lines(&lines, sums);
	}
	end_transition_rows(&lines.inserted);
	close_books(books);
	return PointerGetDatum(NULL);
}
