/*
 * siblings.h
 *		Where the books of a call are: the tables of the schema, or those beside the one that a trigger
 *		fired on.
 */
#ifndef CREDITMEMO_SIBLINGS_H
#define CREDITMEMO_SIBLINGS_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/relcache.h"

extern char *table_name(Relation rel);
extern bool is_table(Relation rel, Oid schema, const char *table);
extern bool is_constraint(Relation rel, const char *name, const char *constraint);
extern const Oid *siblings_of(Relation fired);
extern bool is_recorded_now(Relation rel, TimestampTz recorded_at);
extern bool is_done_elsewhere(FunctionCallInfo fcinfo, Datum *result);

#endif							/* CREDITMEMO_SIBLINGS_H */
