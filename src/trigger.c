/*
 * trigger.c
 *		What trigger functions share: the check of how they are called, rows and transition tables;
 *		and the trigger that refuses.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "siblings.h"
#include "trigger.h"

SQL_FUNCTION(refuse_change);

#define EVENT_MASK (TRIGGER_EVENT_OPMASK | TRIGGER_EVENT_ROW | TRIGGER_EVENT_TIMINGMASK)

static TriggerData *
require_trigger(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" can only be called as a trigger",
						get_func_name(fcinfo->flinfo->fn_oid)),
				 errhint("Insert into, update or delete from the table: its triggers call it.")));
	return (TriggerData *) fcinfo->context;
}

/* INSERT, UPDATE, DELETE or TRUNCATE, as a TRIGGER_EVENT_... */
TriggerEvent
trigger_operation(FunctionCallInfo fcinfo)
{
	return require_trigger(fcinfo)->tg_event & TRIGGER_EVENT_OPMASK;
}

/* Whether a statement trigger has the transition tables of its event. */
static bool
has_transition_tables(const TriggerData *call)
{
	return TRIGGER_FIRED_FOR_ROW(call->tg_event) || TRIGGER_FIRED_BEFORE(call->tg_event) ||
		((TRIGGER_FIRED_BY_DELETE(call->tg_event) || call->tg_newtable != NULL) &&
		 (TRIGGER_FIRED_BY_INSERT(call->tg_event) || call->tg_oldtable != NULL));
}

/*
 * Checks that a function is called as trigger for the event (a combination of the TRIGGER_EVENT_...
 * bits) on the extension's own table, and returns the call.  Null for table: any of them.
 */
TriggerData *
trigger_call(FunctionCallInfo fcinfo, const char *table, TriggerEvent event)
{
	TriggerData *call = require_trigger(fcinfo);

	if ((call->tg_event & EVENT_MASK) != event || !has_transition_tables(call) ||
		!is_table(call->tg_relation, extension_schema(fcinfo), table))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" belongs to triggers that CREATE EXTENSION creditmemo makes",
						get_func_name(fcinfo->flinfo->fn_oid)),
				 errhint("If the table was renamed or moved, take that back; else drop the trigger \"%s\" on table \"%s\".",
						 call->tg_trigger->tgname, RelationGetRelationName(call->tg_relation))));
	return call;
}

/*
 * Whether an inserted row is live, that is, recorded by this transaction.  An older one is being
 * restored or copied, and its effects with it (rule Live or restored).
 */
bool
is_live(const TriggerData *call, Datum recorded_at)
{
	return is_recorded_now(call->tg_relation, DatumGetTimestampTz(recorded_at));
}

/* A column of a row that a row trigger was given. */
Datum
tuple_column(Books *books, BooksTable table, const TriggerData *call, HeapTuple tuple, int column,
			 bool *isnull)
{
	return heap_getattr(tuple, column_number(books, table, column),
						RelationGetDescr(call->tg_relation), isnull);
}

/* Whether an UPDATE that a row trigger was called for leaves the column as it was. */
bool
is_same_column(const TriggerData *call, AttrNumber attno)
{
	TupleDesc	tupdesc = RelationGetDescr(call->tg_relation);
	Form_pg_attribute attribute = TupleDescAttr(tupdesc, attno - 1);
	bool		old_isnull;
	bool		new_isnull;
	Datum		old_value = heap_getattr(call->tg_trigtuple, attno, tupdesc, &old_isnull);
	Datum		new_value = heap_getattr(call->tg_newtuple, attno, tupdesc, &new_isnull);
	TypeCacheEntry *type;

	if (old_isnull || new_isnull)
		return old_isnull == new_isnull;
	type = lookup_type_cache(attribute->atttypid, TYPECACHE_EQ_OPR_FINFO);
	return DatumGetBool(FunctionCall2Coll(&type->eq_opr_finfo, attribute->attcollation,
										  old_value, new_value));
}

/* Begins to read a transition table of the call.  Others may read it too: each at its own place. */
void
begin_transition_rows(TransitionRows *rows, const TriggerData *call, Tuplestorestate *store)
{
	rows->store = store;
	rows->row = MakeSingleTupleTableSlot(RelationGetDescr(call->tg_relation),
										 &TTSOpsMinimalTuple);
	rows->read_pointer = tuplestore_alloc_read_pointer(store, EXEC_FLAG_REWIND);
	tuplestore_select_read_pointer(store, rows->read_pointer);
	tuplestore_rescan(store);
}

/* Steps to the next row; false when there is none. */
bool
next_transition_row(TransitionRows *rows)
{
	CHECK_FOR_INTERRUPTS();
	tuplestore_select_read_pointer(rows->store, rows->read_pointer);
	return tuplestore_gettupleslot(rows->store, true, false, rows->row);
}

void
end_transition_rows(TransitionRows *rows)
{
	ExecDropSingleTupleTableSlot(rows->row);
}

/*
 * refuse_change() returns trigger: BEFORE UPDATE, DELETE or TRUNCATE, for each statement, or for each
 * row that its WHEN condition picks.
 *
 * Raises restrict_violation with the trigger's argument as hint.  Our own writes go through the
 * table access method and fire no statement triggers, so whoever comes here is somebody else
 * (rule Ledger: entries are only ever added).
 */
Datum
refuse_change(PG_FUNCTION_ARGS)
{
	TriggerData *call = require_trigger(fcinfo);

	ereport(ERROR,
			(errcode(ERRCODE_RESTRICT_VIOLATION),
			 errmsg("table \"%s\" refuses this %s", table_name(call->tg_relation),
					TRIGGER_FIRED_BY_UPDATE(call->tg_event) ? "UPDATE" :
					TRIGGER_FIRED_BY_DELETE(call->tg_event) ? "DELETE" : "TRUNCATE"),
			 call->tg_trigger->tgnargs > 0 ? errhint("%s", call->tg_trigger->tgargs[0]) : 0));
	PG_RETURN_NULL();
}
