/*
 * write.c
 *		The extension's tables: rows inserted and updated.
 *
 * The server's functions for logical replication do the work: ExecSimpleRelationInsert() and
 * ExecSimpleRelationUpdate(), with constraints, indexes and row triggers.  What they want to be told
 * of a table is its target, which is kept with the books.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_relation.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "open_books.h"
#include "siblings.h"

/* ---------------------------------------------------------------------------------------------
 * Targets
 * ---------------------------------------------------------------------------------------------
 */

/* The columns that update_row() may change: all of ours but those of keys that others refer to. */
static Bitmapset *
updated_columns(const OpenTable *open, BooksTable table)
{
	Bitmapset  *key = RelationGetIndexAttrBitmap(open->rel, INDEX_ATTR_BITMAP_KEY);
	Bitmapset  *columns = NULL;

	for (int column = 0; column < MAX_COLUMNS; column++)
	{
		int			attribute = open->attno[column] - FirstLowInvalidHeapAttributeNumber;

		if (table_names[table].column[column] == NULL)
			break;
		if (!bms_is_member(attribute, key))
			columns = bms_add_member(columns, attribute);
	}
	return columns;
}

/*
 * Foreign keys of ours that need not be looked up when we write: the same call has locked or written
 * the rows referred to.
 */
static const char *const proved_references[] = {
	"credit_memo_account_id_fkey",
	"billing_account_id_fkey",
	"billing_account_id_service_period_folded_into_fkey",
	"billing_invoice_number_service_period_fkey",
	"memo_entry_account_id_memo_id_fkey",
	"memo_entry_account_id_service_period_billing_no_fkey",
	"memo_entry_account_id_memo_id_reverses_fkey",
	"voided_billing_account_id_service_period_billing_no_fkey"
};

/*
 * Whether it is one of our own row triggers, which CREATE EXTENSION makes to keep others from writing what
 * we write.  refuse_change() may guard what somebody else wants guarded, from us too.
 */
static bool
is_own_trigger(const Books *books, const Trigger *trigger)
{
	return getExtensionOfObject(ProcedureRelationId, trigger->tgfoid) == books->extension &&
		strcmp(get_func_name(trigger->tgfoid), "refuse_change") != 0;
}

/* Whether it looks up a foreign key that we have proved.  No key that is referred to ever changes. */
static bool
is_proved_reference(const Books *books, Relation rel, const Trigger *trigger)
{
	char	   *constraint = get_constraint_name(trigger->tgconstraint);

	for (int i = 0; i < lengthof(proved_references); i++)
		if (get_rel_namespace(trigger->tgconstrrelid) == books->schema &&
			is_constraint(rel, constraint, proved_references[i]))
			return true;
	return false;
}

/*
 * Leaves to a target the row triggers that others have put on the table, and foreign keys that are not
 * proved: with triggers of others none is, since those could delete the row that it refers to.
 */
static void
keep_triggers_of_others(Books *books, ResultRelInfo *target)
{
	TriggerDesc *triggers = target->ri_TrigDesc;
	bool		has_triggers_of_others = false;
	int			n = 0;

	if (triggers == NULL)
		return;
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (TRIGGER_FOR_ROW(trigger->tgtype) &&
			RI_FKey_trigger_type(trigger->tgfoid) == RI_TRIGGER_NONE &&
			!is_own_trigger(books, trigger))
			has_triggers_of_others = true;
	}
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (!TRIGGER_FOR_ROW(trigger->tgtype))
			continue;
		if (RI_FKey_trigger_type(trigger->tgfoid) == RI_TRIGGER_NONE ? is_own_trigger(books, trigger) :
			!has_triggers_of_others && is_proved_reference(books, target->ri_RelationDesc, trigger))
			continue;
		triggers->triggers[n] = *trigger;
		/* it may remember something from one row to the next */
		fmgr_info_cxt(trigger->tgfoid, &target->ri_TrigFunctions[n], books->context);
		n++;
	}
	triggers->numtriggers = n;
	if (n == 0)
		target->ri_TrigDesc = NULL;
}

static bool
is_function_of_others(Oid function, void *context)
{
	return function >= FirstNormalObjectId;
}

/* Expression walker: whether there is anything but built-in functions and domains of ours. */
static bool
has_something_of_others(Node *node, void *context)
{
	const Books *books = context;

	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_function_of_others, NULL) ||
		(IsA(node, CoerceToDomain) &&
		 getExtensionOfObject(TypeRelationId, ((CoerceToDomain *) node)->resulttype) !=
		 books->extension))
		return true;
	return expression_tree_walker(node, has_something_of_others, context);
}

/*
 * Whether all that a target makes the server do is ours or built in, so that nothing can change
 * without our being told, or hold on to what ends with the call: no triggers, no other kinds of index,
 * no functions of others in constraints, generated columns and indexes.
 */
static bool
is_plain_target(Books *books, const ResultRelInfo *target)
{
	TupleDesc	tupdesc = RelationGetDescr(target->ri_RelationDesc);
	const TupleConstr *constraints = tupdesc->constr;

	if (target->ri_TrigDesc != NULL)
		return false;
	for (int i = 0; i < target->ri_NumIndices; i++)
	{
		const IndexInfo *index = target->ri_IndexRelationInfo[i];

		if (target->ri_IndexRelationDescs[i]->rd_rel->relam != BTREE_AM_OID ||
			has_something_of_others((Node *) index->ii_Expressions, books) ||
			has_something_of_others((Node *) index->ii_Predicate, books))
			return false;
	}
	for (int i = 0; i < constraints->num_check; i++)
		if (has_something_of_others(stringToNode(constraints->check[i].ccbin), books))
			return false;
	for (int i = 0; i < constraints->num_defval; i++)
		if (TupleDescAttr(tupdesc, constraints->defval[i].adnum - 1)->attgenerated &&
			has_something_of_others(stringToNode(constraints->defval[i].adbin), books))
			return false;
	return true;
}

/* The columns that are computed from others. */
static Bitmapset *
generated_columns(TupleDesc columns)
{
	Bitmapset  *generated = NULL;

	for (int n = 0; n < columns->natts; n++)
		if (TupleDescAttr(columns, n)->attgenerated == ATTRIBUTE_GENERATED_STORED &&
			!TupleDescAttr(columns, n)->attisdropped)
			generated = bms_add_member(generated, n + 1 - FirstLowInvalidHeapAttributeNumber);
	return generated;
}

/* Gives the table its place in the range table. */
static void
declare_table(Books *books, BooksTable table, const OpenTable *open)
{
	RangeTblEntry *rte = exec_rt_fetch(table + 1, books->estate);

	memset(rte, 0, sizeof(RangeTblEntry));
	NodeSetTag(rte, T_RangeTblEntry);
	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(open->rel);
	rte->relkind = RELKIND_RELATION;
	rte->rellockmode = table_names[table].lockmode;
	compat_declare_updated_columns(books->estate, rte, updated_columns(open, table),
								   generated_columns(RelationGetDescr(open->rel)));
}

static void
make_target(Books *books, BooksTable table, OpenTable *open, Target *target)
{
	MemoryContext caller = MemoryContextSwitchTo(books->context);
	ResultRelInfo *info = makeNode(ResultRelInfo);

	if (open->insert.info == NULL && open->update.info == NULL)
		declare_table(books, table, open);
	InitResultRelInfo(info, open->rel, table + 1, NULL, 0);
	keep_triggers_of_others(books, info);
	ExecOpenIndices(info, false);
	target->indexids = palloc(info->ri_NumIndices * sizeof(Oid));
	for (int i = 0; i < info->ri_NumIndices; i++)
		target->indexids[i] = RelationGetRelid(info->ri_IndexRelationDescs[i]);
	target->info = info;
	MemoryContextSwitchTo(caller);
	books->is_plain = books->is_plain && is_plain_target(books, info);
}

/* Gives a target that was made for an earlier call the table and indexes that are open now. */
static void
open_target(OpenTable *open, Target *target)
{
	target->info->ri_RelationDesc = open->rel;
	for (int i = 0; i < target->info->ri_NumIndices; i++)
		target->info->ri_IndexRelationDescs[i] = index_open(target->indexids[i],
															RowExclusiveLock);
}

/* The target of a table, ready to write a row. */
static ResultRelInfo *
get_target(Books *books, BooksTable table, OpenTable *open, Target *target)
{
	Assert(table_names[table].lockmode == RowExclusiveLock);
	if (!books->is_writing)
		AfterTriggerBeginQuery();
	books->is_writing = true;
	if (target->info == NULL)
		make_target(books, table, open, target);
	else if (!target->is_open)
		open_target(open, target);
	if (!target->is_open)
		target->is_readable = pg_class_aclcheck(open->relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
	target->is_open = true;
	books->estate->es_snapshot = books->snapshot;
	books->estate->es_output_cid = GetCurrentCommandId(true);
	ResetPerTupleExprContext(books->estate);
	return target->info;
}

/* ---------------------------------------------------------------------------------------------
 * Rows written
 * ---------------------------------------------------------------------------------------------
 */

void
set_column(RowValues *values, int column, Datum value)
{
	values->value[column] = value;
	values->isset[column] = true;
}

void
set_null(RowValues *values, int column)
{
	values->isset[column] = values->isnull[column] = true;
}

/* Sets a money_amount: domains are not checked on this way into a table. */
void
set_cents(RowValues *values, int column, int64 cents)
{
	if (!is_money(cents))
		elog(ERROR, "amount of " INT64_FORMAT " cents is out of range", cents);
	set_column(values, column, numeric_from_cents(cents));
}

/* Puts the values into the row to be written, which has the others already. */
static void
store_values(OpenTable *open, const RowValues *values)
{
	for (int column = 0; column < MAX_COLUMNS; column++)
		if (values->isset[column])
		{
			int			attribute = open->attno[column] - 1;

			open->written->tts_values[attribute] = values->value[column];
			open->written->tts_isnull[attribute] = values->isnull[column];
		}
	ExecStoreVirtualTuple(open->written);
}

/* A BEFORE trigger of somebody may have suppressed the row; then the books would be wrong. */
static void
require_written(OpenTable *open)
{
	if (!ItemPointerIsValid(&open->written->tts_tid))
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("a trigger kept a row of table \"%s\" from being written",
						RelationGetRelationName(open->rel)),
				 errhint("Drop or correct the BEFORE trigger on that table.")));
}

/* Inserts a row; columns not set are null.  Constraints are checked by the server. */
void
insert_row(Books *books, BooksTable table, const RowValues *values)
{
	OpenTable  *open = get_table(books, table);
	ResultRelInfo *target = get_target(books, table, open, &open->insert);

	ExecClearTuple(open->written);
	memset(open->written->tts_isnull, true,
		   open->written->tts_tupleDescriptor->natts * sizeof(bool));
	store_values(open, values);
	books->is_writing_unreadable = !open->insert.is_readable;
	ExecSimpleRelationInsert(target, books->estate, open->written);
	books->is_writing_unreadable = false;
	require_written(open);
}

/*
 * Updates a row that was locked, or inserted by this transaction, and copied; columns not set stay
 * as they are.  No row may be updated twice before the books are closed.  Constraints are checked by
 * the server.
 */
void
update_row(Books *books, BooksTable table, HeapTuple row, const RowValues *values)
{
	OpenTable  *open = get_table(books, table);
	ResultRelInfo *target = get_target(books, table, open, &open->update);
	EPQState	epqstate;

	ExecStoreHeapTuple(row, open->replaced, false);
	ExecClearTuple(open->written);
	heap_deform_tuple(row, RelationGetDescr(open->rel), open->written->tts_values,
					  open->written->tts_isnull);
	store_values(open, values);

	compat_EvalPlanQualInit(&epqstate, books->estate);
	books->is_writing_unreadable = !open->update.is_readable;
	ExecSimpleRelationUpdate(target, books->estate, &epqstate, open->replaced, open->written);
	books->is_writing_unreadable = false;
	require_written(open);
	EvalPlanQualEnd(&epqstate);
	ExecClearTuple(open->replaced);
}
