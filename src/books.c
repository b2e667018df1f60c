/*
 * books.c
 *		The extension's tables, opened for one call: rows found and locked.
 *
 * open_books() before, close_books() after; tables and indexes are opened when first used.  What it
 * takes to use them (columns' numbers, indexes, constraints ready to be checked) would cost a
 * statement of one line more than its line: the books are kept for the session's next call, and made
 * anew when the server says that something has changed.
 *
 * Isolation.  Rows are looked up with the latest snapshot, so that under READ COMMITTED whatever
 * was committed before we had our locks is seen.  Under stricter levels a row that the
 * transaction's own snapshot does not see in the same version is a serialization failure: a row
 * lock alone would raise none (rule Locks).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "open_books.h"
#include "siblings.h"

/* ---------------------------------------------------------------------------------------------
 * What the tables are called
 * ---------------------------------------------------------------------------------------------
 */

const TableNames table_names[BOOKS_TABLES] = {
	[CUSTOMER] = {"customer", AccessShareLock, {
			[CUSTOMER_ID] = "customer_id",
			[CUSTOMER_NAME] = "name",
			[CUSTOMER_ADDRESS] = "address",
			[CUSTOMER_CURRENCY] = "currency",
			[CUSTOMER_PAYMENT_TERMS_DAYS] = "payment_terms_days",
	}},
	[PAYER_ACCOUNT] = {"payer_account", AccessShareLock, {
			[PAYER_ACCOUNT_ID] = "payer_account_id",
	}},
	[MEMBER_ACCOUNT] = {"member_account", RowExclusiveLock, {
			[ACCOUNT_ID] = "account_id",
			[ACCOUNT_PAYER_ACCOUNT_ID] = "payer_account_id",
			[ACCOUNT_CUSTOMER_ID] = "customer_id",
			[ACCOUNT_NAME] = "name",
			[ACCOUNT_CLOSED_THROUGH] = "closed_through",
	}},
	[PO_ASSIGNMENT] = {"po_assignment", AccessShareLock, {
			[PO_ACCOUNT_ID] = "account_id",
			[PO_ASSIGNED_AT] = "assigned_at",
			[PO_NUMBER] = "po_number",
	}},
	[CREDIT_MEMO] = {"credit_memo", RowExclusiveLock, {
			[MEMO_ACCOUNT_ID] = "account_id",
			[MEMO_ID] = "memo_id",
			[MEMO_NUMBER] = "memo_number",
			[MEMO_CREDIT_TYPE] = "credit_type",
			[MEMO_AMOUNT] = "amount",
			[MEMO_BALANCE] = "balance",
			[MEMO_ENTRIES] = "entries",
			[MEMO_REDEEMED_ON] = "redeemed_on",
			[MEMO_FIRST_PERIOD] = "first_period",
			[MEMO_EXPIRES_ON] = "expires_on",
			[MEMO_LAST_PERIOD] = "last_period",
			[MEMO_SERVICES] = "services",
			[MEMO_PRIORITY] = "priority",
			[MEMO_PO_NUMBER] = "po_number",
			[MEMO_NOTE] = "note",
			[MEMO_PROVIDER_CREDIT_ID] = "provider_credit_id",
			[MEMO_VOIDED_AT] = "voided_at",
			[MEMO_VOID_REASON] = "void_reason",
			[MEMO_RECORDED_AT] = "recorded_at",
	}},
	[UTILIZATION] = {"utilization", RowExclusiveLock, {
			[LINE_SERVICE_PERIOD] = "service_period",
			[LINE_ACCOUNT_ID] = "account_id",
			[LINE_UTILIZATION_ID] = "utilization_id",
			[LINE_SERVICE] = "service",
			[LINE_DESCRIPTION] = "description",
			[LINE_AMOUNT] = "amount",
			[LINE_CREDITABLE] = "creditable",
			[LINE_SOURCE_ID] = "source_id",
			[LINE_BILLING_NO] = "billing_no",
			[LINE_RECORDED_AT] = "recorded_at",
	}},
	[BILLING] = {"billing", RowExclusiveLock, {
			[BILLING_ACCOUNT_ID] = "account_id",
			[BILLING_SERVICE_PERIOD] = "service_period",
			[BILLING_NO] = "billing_no",
			[BILLING_UTILIZATION] = "utilization",
			[BILLING_CREDITABLE] = "creditable",
			[BILLING_CREDIT] = "credit",
			[BILLING_FOLDED_INTO] = "folded_into",
			[BILLING_INVOICE_NUMBER] = "invoice_number",
			[BILLING_PO_NUMBER] = "po_number",
			[BILLING_PAYER_ACCOUNT_ID] = "payer_account_id",
			[BILLING_ACCOUNT_NAME] = "account_name",
			[BILLING_PRIOR_BALANCE] = "prior_balance",
			[BILLING_BALANCE_AFTER] = "balance_after",
	}},
	[MEMO_ENTRY] = {"memo_entry", RowExclusiveLock, {
			[ENTRY_ACCOUNT_ID] = "account_id",
			[ENTRY_MEMO_ID] = "memo_id",
			[ENTRY_NO] = "entry_no",
			[ENTRY_TYPE] = "entry_type",
			[ENTRY_AMOUNT] = "amount",
			[ENTRY_BALANCE_AFTER] = "balance_after",
			[ENTRY_SERVICE_PERIOD] = "service_period",
			[ENTRY_BILLING_NO] = "billing_no",
			[ENTRY_SERVICE] = "service",
			[ENTRY_REVERSES] = "reverses",
			[ENTRY_RECORDED_AT] = "recorded_at",
	}},
	[INVOICE] = {"invoice", RowExclusiveLock, {
			[INVOICE_NUMBER] = "invoice_number",
			[INVOICE_CUSTOMER_ID] = "customer_id",
			[INVOICE_CUSTOMER_NAME] = "customer_name",
			[INVOICE_CUSTOMER_ADDRESS] = "customer_address",
			[INVOICE_SERVICE_PERIOD] = "service_period",
			[INVOICE_DATE] = "invoice_date",
			[INVOICE_DUE_DATE] = "due_date",
			[INVOICE_VOIDED_AT] = "voided_at",
			[INVOICE_VOID_REASON] = "void_reason",
			[INVOICE_RECORDED_AT] = "recorded_at",
	}},
	[VOIDED_BILLING] = {"voided_billing", RowExclusiveLock, {
			[VOIDED_ACCOUNT_ID] = "account_id",
			[VOIDED_INVOICE_NUMBER] = "invoice_number",
			[VOIDED_SERVICE_PERIOD] = "service_period",
			[VOIDED_BILLING_NO] = "billing_no",
			[VOIDED_UTILIZATION] = "utilization",
			[VOIDED_CREDITABLE] = "creditable",
			[VOIDED_CREDIT] = "credit",
			[VOIDED_PO_NUMBER] = "po_number",
			[VOIDED_ACCOUNT_NAME] = "account_name",
			[VOIDED_PRIOR_BALANCE] = "prior_balance",
			[VOIDED_BALANCE_AFTER] = "balance_after",
	}},
	[VOIDED_LINE] = {"voided_line", RowExclusiveLock, {
			[VOIDED_LINE_ACCOUNT_ID] = "account_id",
			[VOIDED_LINE_INVOICE_NUMBER] = "invoice_number",
			[VOIDED_LINE_NO] = "line_no",
			[VOIDED_LINE_SERVICE] = "service",
			[VOIDED_LINE_UTILIZATION] = "utilization",
			[VOIDED_LINE_CREDITABLE] = "creditable",
			[VOIDED_LINE_LINES] = "lines",
	}},
	[PERIOD_CLOSING] = {"period_closing", RowExclusiveLock, {
			[CLOSING_SERVICE_PERIOD] = "service_period",
			[CLOSING_PAYER_ACCOUNT_ID] = "payer_account_id",
			[CLOSING_ACTION] = "action",
			[CLOSING_REASON] = "reason",
			[CLOSING_ACCOUNTS] = "accounts",
			[CLOSING_RECORDED_AT] = "recorded_at",
	}},
};

/* The columns that begin the index of a lookup, and the comparison of each with its key. */
typedef struct LookupColumns
{
	BooksTable	table;
	int			ncolumns;
	struct
	{
		int			column;
		StrategyNumber strategy;
		RegProcedure comparison;
	}			by[MAX_LOOKUP_COLUMNS];
} LookupColumns;

#define EQUAL_TEXT(column) {column, BTEqualStrategyNumber, F_TEXTEQ}
#define EQUAL_DATE(column) {column, BTEqualStrategyNumber, F_DATE_EQ}
#define EQUAL_INT4(column) {column, BTEqualStrategyNumber, F_INT4EQ}
#define EQUAL_INT8(column) {column, BTEqualStrategyNumber, F_INT8EQ}

static const LookupColumns lookup_columns[BOOKS_LOOKUPS] = {
	[CUSTOMER_BY_ID] = {CUSTOMER, 1, {EQUAL_TEXT(CUSTOMER_ID)}},
	[PAYER_BY_ID] = {PAYER_ACCOUNT, 1, {EQUAL_TEXT(PAYER_ACCOUNT_ID)}},
	[ACCOUNT_BY_ID] = {MEMBER_ACCOUNT, 1, {EQUAL_TEXT(ACCOUNT_ID)}},
	[ACCOUNTS_OF_CUSTOMER] = {MEMBER_ACCOUNT, 1, {EQUAL_TEXT(ACCOUNT_CUSTOMER_ID)}},
	[PO_BY_TIME] = {PO_ASSIGNMENT, 2, {EQUAL_TEXT(PO_ACCOUNT_ID),
			{PO_ASSIGNED_AT, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE}}},
	[MEMOS_OF_ACCOUNT] = {CREDIT_MEMO, 2, {EQUAL_TEXT(MEMO_ACCOUNT_ID), EQUAL_INT8(MEMO_ID)}},
	[MEMOS_BY_NUMBER] = {CREDIT_MEMO, 2, {EQUAL_TEXT(MEMO_NUMBER), EQUAL_TEXT(MEMO_ACCOUNT_ID)}},
	[LINES_OF_PERIOD] = {UTILIZATION, 3, {EQUAL_DATE(LINE_SERVICE_PERIOD),
			EQUAL_TEXT(LINE_ACCOUNT_ID), EQUAL_INT8(LINE_UTILIZATION_ID)}},
	[BILLINGS_OF_ACCOUNT] = {BILLING, 3, {EQUAL_TEXT(BILLING_ACCOUNT_ID),
			EQUAL_DATE(BILLING_SERVICE_PERIOD), EQUAL_INT4(BILLING_NO)}},
	[BILLINGS_OF_INVOICE] = {BILLING, 2, {EQUAL_TEXT(BILLING_INVOICE_NUMBER),
			EQUAL_TEXT(BILLING_ACCOUNT_ID)}},
	[ENTRIES_OF_MEMO] = {MEMO_ENTRY, 3, {EQUAL_TEXT(ENTRY_ACCOUNT_ID),
			EQUAL_INT8(ENTRY_MEMO_ID), EQUAL_INT4(ENTRY_NO)}},
	[ENTRIES_OF_PERIOD] = {MEMO_ENTRY, 3, {EQUAL_TEXT(ENTRY_ACCOUNT_ID),
			EQUAL_DATE(ENTRY_SERVICE_PERIOD), EQUAL_INT4(ENTRY_BILLING_NO)}},
	[INVOICE_BY_NUMBER] = {INVOICE, 1, {EQUAL_TEXT(INVOICE_NUMBER)}},
};

/* ---------------------------------------------------------------------------------------------
 * Books kept
 * ---------------------------------------------------------------------------------------------
 */

/* What ends with the call that has the books open, be it by an error. */
typedef struct OpenBooks
{
	Books	   *books;			/* null: closed, and kept */
	MemoryContext context;
	MemoryContextCallback discard;
} OpenBooks;

/*
 * The books of earlier calls, which the next one opens again: those of the schema's own tables, and of the
 * shards that the session has worked on.
 */
#define MAX_KEPT_BOOKS 64
static Books *kept_books[MAX_KEPT_BOOKS];
static int	n_kept_books = 0;
static int	n_open_books = 0;

/* How many changes this session has seen that may concern our tables. */
static uint64 changes_seen = 0;

/* Relation cache callback: a relation has changed.  Of open books nobody knows all the tables yet. */
static void
see_change_of_relation(Datum arg, Oid relid)
{
	if (n_open_books > 0 || relid == InvalidOid)
		changes_seen++;
	for (int i = 0; i < n_kept_books; i++)
		for (int table = 0; table < BOOKS_TABLES; table++)
			if (kept_books[i]->table[table].relid == relid)
				changes_seen++;
}

/* System cache callback: a function or a type, which constraints may use, has changed. */
static void
see_change_of_expression(Datum arg, int cacheid, uint32 hash)
{
	changes_seen++;
}

/* ---------------------------------------------------------------------------------------------
 * What is known of a table
 * ---------------------------------------------------------------------------------------------
 */

/*
 * Whether whoever looks up the first column finds all rows in the index.  Keys are never null, so the
 * index may leave rows out in which that column is.
 */
static bool
holds_all_keys(Relation index)
{
	List	   *predicate = RelationGetIndexPredicate(index);
	NullTest   *test;

	if (predicate == NIL)
		return true;
	test = linitial(predicate);
	return list_length(predicate) == 1 && IsA(test, NullTest) &&
		test->nulltesttype == IS_NOT_NULL && IsA(test->arg, Var) &&
		((Var *) test->arg)->varattno == index->rd_index->indkey.values[0];
}

/* The index of the table whose first columns are those of the lookup. */
static Oid
index_for_lookup(const OpenTable *open, const LookupColumns *lookup)
{
	Relation	rel = open->rel;
	List	   *indexes = RelationGetIndexList(rel);
	Oid			found = InvalidOid;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		Form_pg_index form = index->rd_index;
		bool		fits = form->indisvalid && form->indnkeyatts >= lookup->ncolumns &&
			index->rd_rel->relam == BTREE_AM_OID &&
			holds_all_keys(index);

		/* ascending, nulls last, and in the order in which the keys are compared */
		for (int i = 0; fits && i < lookup->ncolumns; i++)
			fits = form->indkey.values[i] == open->attno[lookup->by[i].column] &&
				index->rd_indoption[i] == 0 &&
				index->rd_indcollation[i] == TupleDescAttr(RelationGetDescr(rel),
														   form->indkey.values[i] - 1)->attcollation &&
				get_opcode(get_opfamily_member(index->rd_opfamily[i], index->rd_opcintype[i],
											   index->rd_opcintype[i],
											   lookup->by[i].strategy)) == lookup->by[i].comparison;
		if (fits)
			found = form->indexrelid;
		index_close(index, NoLock);
		if (fits)
			break;
	}
	list_free(indexes);

	if (!OidIsValid(found))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("an index of table \"%s\" is missing", RelationGetRelationName(rel)),
				 errhint("Restore the indexes that CREATE EXTENSION creditmemo makes.")));
	return found;
}

/* Learns the shape of an open table; what had been known of it is forgotten. */
static void
learn_table(Books *books, BooksTable table, OpenTable *open)
{
	MemoryContext caller = MemoryContextSwitchTo(books->context);

	for (int column = 0; column < MAX_COLUMNS; column++)
	{
		const char *name = table_names[table].column[column];

		if (name == NULL)
			break;
		open->attno[column] = get_attnum(open->relid, name);
		if (open->attno[column] == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" is missing", name,
							RelationGetRelationName(open->rel)),
					 errhint("If it was renamed or dropped, take that back; else run ALTER EXTENSION creditmemo UPDATE.")));
	}
	for (int lookup = 0; lookup < BOOKS_LOOKUPS; lookup++)
		if (lookup_columns[lookup].table == table)
			books->lookup[lookup].indexid = index_for_lookup(open, &lookup_columns[lookup]);

	/* slots that are kept may not refer to the relation cache */
	open->descriptor = CreateTupleDescCopyConstr(RelationGetDescr(open->rel));
	open->found = MakeSingleTupleTableSlot(open->descriptor, table_slot_callbacks(open->rel));
	open->replaced = MakeSingleTupleTableSlot(open->descriptor, &TTSOpsHeapTuple);
	open->written = MakeSingleTupleTableSlot(open->descriptor, &TTSOpsVirtual);
	open->insert.info = open->update.info = NULL;
	MemoryContextSwitchTo(caller);
}

/* The table, opened if it is not open yet. */
OpenTable *
get_table(Books *books, BooksTable table)
{
	OpenTable  *open = &books->table[table];

	if (open->rel != NULL)
		return open;

	if (!OidIsValid(open->relid) || books->changes != changes_seen)
	{
		open->relid = books->has_siblings ? books->sibling[table] :
			get_relname_relid(table_names[table].name, books->schema);
		open->descriptor = NULL;
		if (!OidIsValid(open->relid))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("table \"%s\" of the extension creditmemo is missing",
							table_names[table].name),
					 errhint("If it was renamed or moved, take that back; else run CREATE EXTENSION creditmemo.")));
	}
	/* once it is locked, nobody changes it any more */
	open->rel = table_open(open->relid, table_names[table].lockmode);
	if (open->descriptor == NULL || books->changes != changes_seen)
		learn_table(books, table, open);
	return open;
}

/* ---------------------------------------------------------------------------------------------
 * Books opened and closed
 * ---------------------------------------------------------------------------------------------
 */

/*
 * Error context callback: errors about what others do say what to do, whoever raises them.  And of a row
 * that violates a constraint the server shows what the writer knows; what we write he may not read.
 */
static void
explain_error(void *arg)
{
	const Books *books = arg;

	if (books->is_writing_unreadable &&
		(geterrcode() == ERRCODE_CHECK_VIOLATION || geterrcode() == ERRCODE_NOT_NULL_VIOLATION))
		errdetail("You may not read the row.");
	if (geterrcode() == ERRCODE_T_R_SERIALIZATION_FAILURE)
		errhint("Another transaction changed the same member account's books. Run the whole transaction again.");
	else if (geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE)
		errhint("Another transaction is at work on the same member account. Run the statement again when it has ended.");
}

/* The schema of the extension: that of the function being called. */
Oid
extension_schema(FunctionCallInfo fcinfo)
{
	return get_func_namespace(fcinfo->flinfo->fn_oid);
}

/* Raises the server's error where a function that writes is called and nothing may be written. */
void
require_writable_transaction(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
}

/*
 * New books, with the executor state that the server's own functions want for writing.  Its range table
 * has a place for each table, see declare_table().
 */
static Books *
make_books(Oid schema, const Oid *siblings)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "creditmemo books",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Books	   *books = palloc0(sizeof(Books));
	List	   *range_table = NIL;

	books->context = context;
	books->schema = schema;
	books->has_siblings = siblings != NULL;
	if (books->has_siblings)
		memcpy(books->sibling, siblings, sizeof(books->sibling));
	books->extension = get_extension_oid("creditmemo", false);
	books->changes = changes_seen;
	books->is_plain = true;
	books->estate = CreateExecutorState();
	for (int table = 0; table < BOOKS_TABLES; table++)
		range_table = lappend(range_table, makeNode(RangeTblEntry));
	compat_ExecInitRangeTable(books->estate, range_table);
	MemoryContextSwitchTo(caller);
	return books;
}

/* Whether the books are those of the schema's own tables, or of the siblings. */
static bool
is_of(const Books *books, Oid schema, const Oid *siblings)
{
	return books->schema == schema && books->has_siblings == (siblings != NULL) &&
		(siblings == NULL || memcmp(books->sibling, siblings, sizeof(books->sibling)) == 0);
}

/* Takes kept books out of those that are kept. */
static Books *
take_kept_books(int i)
{
	Books	   *books = kept_books[i];

	kept_books[i] = kept_books[--n_kept_books];
	return books;
}

/* Takes the kept books if nothing has changed since, or else makes new ones. */
static Books *
take_books(Oid schema, const Oid *siblings)
{
	static bool listening = false;

	if (!listening)
	{
		CacheRegisterRelcacheCallback(see_change_of_relation, (Datum) 0);
		CacheRegisterSyscacheCallback(PROCOID, see_change_of_expression, (Datum) 0);
		CacheRegisterSyscacheCallback(TYPEOID, see_change_of_expression, (Datum) 0);
		listening = true;
	}
	for (int i = n_kept_books - 1; i >= 0; i--)
		if (kept_books[i]->changes != changes_seen)
			MemoryContextDelete(take_kept_books(i)->context);
	for (int i = 0; i < n_kept_books; i++)
		if (is_of(kept_books[i], schema, siblings))
			return take_kept_books(i);
	return make_books(schema, siblings);
}

/* Memory context callback: the call has ended. */
static void
discard_open_books(void *arg)
{
	OpenBooks  *open = arg;

	n_open_books--;
	if (open->books != NULL)
		MemoryContextDelete(open->books->context);
}

/*
 * Opens the books for a function of the extension: those of its schema, or those beside the table that it
 * is called for as a trigger.  What the calling command wrote is seen.  Takes no table lock yet.
 */
Books *
open_books(FunctionCallInfo fcinfo)
{
	const Oid  *siblings = CALLED_AS_TRIGGER(fcinfo) ?
		siblings_of(((TriggerData *) fcinfo->context)->tg_relation) : NULL;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "creditmemo call",
												  ALLOCSET_SMALL_SIZES);
	OpenBooks  *open = MemoryContextAllocZero(context, sizeof(OpenBooks));
	Books	   *books;

	open->discard.func = discard_open_books;
	open->discard.arg = open;
	MemoryContextRegisterResetCallback(context, &open->discard);
	n_open_books++;
	open->books = books = take_books(extension_schema(fcinfo), siblings);
	books->open = open;
	open->context = context;
	CommandCounterIncrement();
	books->snapshot = RegisterSnapshot(GetLatestSnapshot());
	books->is_writing_unreadable = false;
	books->explain.callback = explain_error;
	books->explain.arg = books;
	books->explain.previous = error_context_stack;
	error_context_stack = &books->explain;
	return books;
}

/* Lets later look-ups see what has been committed meanwhile: to be called once locks are held. */
void
look_again(Books *books)
{
	UnregisterSnapshot(books->snapshot);
	books->snapshot = RegisterSnapshot(GetLatestSnapshot());
}

static void
close_lookup(OpenLookup *lookup)
{
	for (int i = 0; i <= MAX_LOOKUP_COLUMNS; i++)
		if (lookup->scan[i] != NULL)
			index_endscan(lookup->scan[i]);
	memset(lookup->scan, 0, sizeof(lookup->scan));
	index_close(lookup->index, NoLock);
	lookup->index = NULL;
}

static void
close_target(Target *target)
{
	if (target->is_open)
		ExecCloseIndices(target->info);
	target->is_open = false;
}

static void
close_table(OpenTable *open)
{
	close_target(&open->insert);
	close_target(&open->update);
	ExecClearTuple(open->replaced);
	ExecClearTuple(open->written);
	ExecClearTuple(open->found);
	table_close(open->rel, NoLock);
	open->rel = NULL;
}

/*
 * Closes the books; makes what was written visible and checks its foreign keys.  They are kept for the
 * next call if nothing has changed, and nothing of others on the tables is in the executor state.
 */
void
close_books(Books *books)
{
	OpenBooks  *open = books->open;
	EState	   *estate = books->estate;

	if (books->is_writing)
	{
		CommandCounterIncrement();
		AfterTriggerEndQuery(estate);
		books->is_writing = false;
	}
	for (int lookup = 0; lookup < BOOKS_LOOKUPS; lookup++)
		if (books->lookup[lookup].index != NULL)
			close_lookup(&books->lookup[lookup]);
	for (int table = 0; table < BOOKS_TABLES; table++)
		if (books->table[table].rel != NULL)
			close_table(&books->table[table]);
	ExecCloseResultRelations(estate);
	ExecResetTupleTable(estate->es_tupleTable, false);
	UnregisterSnapshot(books->snapshot);
	error_context_stack = books->explain.previous;

	if (n_open_books == 1 && books->is_plain && books->changes == changes_seen &&
		estate->es_tupleTable == NIL && estate->es_trig_target_relations == NIL)
	{
		if (n_kept_books == MAX_KEPT_BOOKS)
			MemoryContextDelete(take_kept_books(0)->context);
		kept_books[n_kept_books++] = books;
		open->books = NULL;
	}
	MemoryContextDelete(open->context);
}

/* ---------------------------------------------------------------------------------------------
 * Rows found
 * ---------------------------------------------------------------------------------------------
 */

/*
 * The scan for look-ups with so many keys, which all of a call use, one after the other.  What the
 * index allocates for it while it runs, too, must live as long: see next_row().
 */
static IndexScanDesc
get_scan(Books *books, const OpenTable *open, BooksLookup lookup, int nkeys)
{
	OpenLookup *known = &books->lookup[lookup];
	IndexScanDesc *scan = &known->scan[nkeys];

	if (known->index == NULL)
		known->index = index_open(known->indexid, AccessShareLock);
	if (*scan == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(books->open->context);

		*scan = compat_index_beginscan(open->rel, known->index, books->snapshot, nkeys);
		MemoryContextSwitchTo(caller);
	}
	return *scan;
}

/*
 * Begins a look-up of the rows whose first columns, as the lookup names them, have the keys.  They
 * come in index order, forward or backward.  The row is valid until the next one is asked for.
 */
void
begin_rows(RowScan *rows, Books *books, BooksLookup lookup, ScanDirection direction,
		   int nkeys, const Datum *keys)
{
	const LookupColumns *columns = &lookup_columns[lookup];
	OpenTable  *open = get_table(books, columns->table);
	IndexScanDesc scan = get_scan(books, open, lookup, nkeys);
	ScanKeyData scan_keys[MAX_LOOKUP_COLUMNS];

	Assert(nkeys <= columns->ncolumns);
	for (int i = 0; i < nkeys; i++)
		ScanKeyInit(&scan_keys[i], i + 1, columns->by[i].strategy,
					columns->by[i].comparison, keys[i]);

	/* no pin stays behind on the page of another row: that page could not be pruned */
	ExecClearTuple(open->found);
	rows->books = books;
	rows->table = columns->table;
	rows->direction = direction;
	rows->row = open->found;
	rows->scan = scan;
	scan->xs_snapshot = books->snapshot;
	index_rescan(scan, scan_keys, nkeys, NULL, 0);
}

pg_noreturn static void raise_serialization_failure(void);

static void
raise_serialization_failure(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update")));
}

/*
 * Steps to the next row; false when there is none.  Raises a serialization failure, under
 * REPEATABLE READ and SERIALIZABLE, where the row is not as the transaction's snapshot has it.
 */
bool
next_row(RowScan *rows)
{
	MemoryContext caller = MemoryContextSwitchTo(rows->books->open->context);
	bool		found;

	CHECK_FOR_INTERRUPTS();
	found = index_getnext_slot(rows->scan, rows->direction, rows->row);
	MemoryContextSwitchTo(caller);
	if (!found)
		return false;
	if (IsolationUsesXactSnapshot() &&
		!table_tuple_satisfies_snapshot(rows->books->table[rows->table].rel, rows->row,
										GetTransactionSnapshot()))
		raise_serialization_failure();
	return true;
}

void
end_rows(RowScan *rows)
{
	index_rescan(rows->scan, NULL, rows->scan->numberOfKeys, NULL, 0);
}

/* The first row of a look-up; it is valid until the next look-up in the same table. */
bool
find_row(Books *books, BooksLookup lookup, int nkeys, const Datum *keys, TupleTableSlot **row)
{
	RowScan		rows;
	bool		found;

	begin_rows(&rows, books, lookup, ForwardScanDirection, nkeys, keys);
	found = next_row(&rows);
	end_rows(&rows);
	*row = rows.row;
	return found;
}

/*
 * Locks a row that was found and leaves its latest version in the slot; false if it has been
 * deleted.  Waits for others, raises lock_not_available, or returns false, as the policy says.  Under
 * READ COMMITTED it follows their updates, else they are a serialization failure.
 */
bool
lock_row(Books *books, BooksTable table, TupleTableSlot *row, LockTupleMode mode,
		 LockWaitPolicy policy)
{
	ItemPointerData tid = row->tts_tid;
	TM_FailureData failure;
	TM_Result	result;

	result = table_tuple_lock(books->table[table].rel, &tid, books->snapshot, row,
							  GetCurrentCommandId(false), mode, policy,
							  IsolationUsesXactSnapshot() ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION,
							  &failure);
	switch (result)
	{
		case TM_Ok:
			return true;
		case TM_WouldBlock:
			return false;
		case TM_Deleted:
			if (!IsolationUsesXactSnapshot())
				return false;
			raise_serialization_failure();
		case TM_Updated:
			raise_serialization_failure();
		case TM_SelfModified:
		case TM_Invisible:
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
					 errmsg("a row of table \"%s\" was changed by a trigger of the same statement",
							table_names[table].name),
					 errhint("Correct the trigger: it may not change the same member account's books again.")));
			break;
		default:
			elog(ERROR, "could not lock a row of table \"%s\": result %d",
				 table_names[table].name, result);
	}
	return false;
}

/* A copy of a row in the current memory context, as update_row() wants it. */
HeapTuple
copy_row(TupleTableSlot *row)
{
	HeapTuple	copy = ExecCopySlotHeapTuple(row);

	copy->t_self = row->tts_tid;
	return copy;
}

/* The row as it is after what this call wrote, as a value of its table's type. */
Datum
written_row(Books *books, BooksLookup lookup, int nkeys, const Datum *keys)
{
	TupleTableSlot *row;

	CommandCounterIncrement();
	look_again(books);
	if (!find_row(books, lookup, nkeys, keys, &row))
		elog(ERROR, "a row of table \"%s\" that was written is missing",
			 table_names[lookup_columns[lookup].table].name);
	return ExecFetchSlotHeapTupleDatum(row);
}

/* The numbers that the columns have in the table, for tuples that do not come from a look-up. */
const AttrNumber *
column_numbers(Books *books, BooksTable table)
{
	return get_table(books, table)->attno;
}

/* The same for one column. */
AttrNumber
column_number(Books *books, BooksTable table, int column)
{
	return column_numbers(books, table)[column];
}

/* The value of a column; by reference it is valid as long as the row. */
Datum
get_column(Books *books, BooksTable table, TupleTableSlot *row, int column, bool *isnull)
{
	return slot_getattr(row, column_number(books, table, column), isnull);
}

/* The same for a column that is NOT NULL. */
Datum
get_required_column(Books *books, BooksTable table, TupleTableSlot *row, int column)
{
	bool		isnull;
	Datum		value = get_column(books, table, row, column, &isnull);

	if (isnull)
		elog(ERROR, "column \"%s\" of table \"%s\" is null", table_names[table].column[column],
			 table_names[table].name);
	return value;
}

/* The same for a money_amount, in cents. */
int64
get_cents(Books *books, BooksTable table, TupleTableSlot *row, int column)
{
	return cents_from_numeric(DatumGetNumeric(get_required_column(books, table, row, column)));
}
