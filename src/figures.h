/*
 * figures.h
 *		What documents say, read from the views.
 */
#ifndef CREDITMEMO_FIGURES_H
#define CREDITMEMO_FIGURES_H

#include "executor/spi.h"

#include "creditmemo.h"

#define MAX_QUERY_ARGUMENTS 3

/* A query over the views; its plan is made once a session. */
typedef struct FigureQuery
{
	const char *text;
	int			narguments;
	Oid			argument_types[MAX_QUERY_ARGUMENTS];
	SPIPlanPtr	plan;
} FigureQuery;

/* The rows that a query found; columns are counted from 1. */
typedef SPITupleTable Figures;

extern Figures *read_figures(FigureQuery *query, Datum *arguments);
extern bool figure_is_null(const Figures *figures, uint64 row, int column);
extern char *get_text_figure(const Figures *figures, uint64 row, int column);
extern DateADT get_date_figure(const Figures *figures, uint64 row, int column);
extern int64 get_count_figure(const Figures *figures, uint64 row, int column);
extern bool get_flag_figure(const Figures *figures, uint64 row, int column);
extern Numeric get_amount_figure(const Figures *figures, uint64 row, int column);
extern char *get_money_figure(const Figures *figures, uint64 row, int column,
							  const char *currency);
extern int64 get_cents_figure(const Figures *figures, uint64 row, int column);

pg_noreturn extern void refuse_unknown_invoice(Datum invoice_number);
extern void refuse_empty_invoice(int64 accounts, const char *invoice_number);
extern Datum document_datum(MemoryContext caller, StringInfo document);

#endif							/* CREDITMEMO_FIGURES_H */
