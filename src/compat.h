/*
 * compat.h
 *		All differences between the supported servers, PostgreSQL 14 to 18.
 *
 * Code elsewhere calls the names defined here and knows one server only.
 */
#ifndef CREDITMEMO_COMPAT_H
#define CREDITMEMO_COMPAT_H

#include "access/genam.h"
#include "executor/executor.h"
#include "fmgr.h"

#if PG_VERSION_NUM < 140000
#error "creditmemo needs PostgreSQL 14 or later"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#else
/* the module's symbols are hidden but for those that the server looks for */
#undef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#endif

#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* Makes a function known to SQL.  Up to PostgreSQL 15 the server's macro does not export it. */
#define SQL_FUNCTION(function) \
	extern PGDLLEXPORT Datum function(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(function)

#if PG_VERSION_NUM >= 180000
#define compat_index_beginscan(table, index, snapshot, nkeys) \
	index_beginscan(table, index, snapshot, NULL, nkeys, 0)
#else
#define compat_index_beginscan(table, index, snapshot, nkeys) \
	index_beginscan(table, index, snapshot, nkeys, 0)
#endif

#if PG_VERSION_NUM >= 160000
#define compat_EvalPlanQualInit(epqstate, estate) \
	EvalPlanQualInit(epqstate, estate, NULL, NIL, -1, NIL)
#else
#define compat_EvalPlanQualInit(epqstate, estate) \
	EvalPlanQualInit(epqstate, estate, NULL, NIL, -1)
#endif

/*
 * Which columns of a table a write may change is kept in its range table entry up to
 * PostgreSQL 15, in the entry's permission info since.  Before 14.7 and 15.2 the entry also
 * says which generated columns are computed again; those not named would keep their old values.
 */
#if PG_VERSION_NUM >= 160000
#define compat_declare_updated_columns(estate, rte, columns, generated) \
	((void) (generated), addRTEPermissionInfo(&(estate)->es_rteperminfos, rte)->updatedCols = (columns))
#else
#define compat_declare_updated_columns(estate, rte, columns, generated) \
	((rte)->updatedCols = (columns), (rte)->extraUpdatedCols = (generated))
#endif

#if PG_VERSION_NUM >= 180000
#define compat_ExecInitRangeTable(estate, range_table) \
	ExecInitRangeTable(estate, range_table, NIL, \
					   bms_add_range(NULL, 1, list_length(range_table)))
#elif PG_VERSION_NUM >= 160000
#define compat_ExecInitRangeTable(estate, range_table) \
	ExecInitRangeTable(estate, range_table, NIL)
#else
#define compat_ExecInitRangeTable(estate, range_table) \
	ExecInitRangeTable(estate, range_table)
#endif

#endif							/* CREDITMEMO_COMPAT_H */
