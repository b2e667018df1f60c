/*
 * trigger.h
 *		What trigger functions share: the check of how they are called, rows and transition tables.
 */
#ifndef CREDITMEMO_TRIGGER_H
#define CREDITMEMO_TRIGGER_H

#include "commands/trigger.h"
#include "utils/tuplestore.h"

#include "books.h"

extern TriggerEvent trigger_operation(FunctionCallInfo fcinfo);
extern TriggerData *trigger_call(FunctionCallInfo fcinfo, const char *table, TriggerEvent event);

extern bool is_live(const TriggerData *call, Datum recorded_at);
extern Datum tuple_column(Books *books, BooksTable table, const TriggerData *call,
						  HeapTuple tuple, int column, bool *isnull);
extern bool is_same_column(const TriggerData *call, AttrNumber attno);

/* The rows of a transition table, read one after the other. */
typedef struct TransitionRows
{
	Tuplestorestate *store;
	int			read_pointer;
	TupleTableSlot *row;
} TransitionRows;

extern void begin_transition_rows(TransitionRows *rows, const TriggerData *call,
								  Tuplestorestate *store);
extern bool next_transition_row(TransitionRows *rows);
extern void end_transition_rows(TransitionRows *rows);

#endif							/* CREDITMEMO_TRIGGER_H */
