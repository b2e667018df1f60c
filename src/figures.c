/*
 * figures.c
 *		What documents say, read from the views.
 *
 * Documents compute no figure that a view has.  The queries run by SPI as the caller, between his
 * SPI_connect() and SPI_finish(), with names that no search_path changes; rows live as long as that.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "figures.h"

/* Runs the query with arguments that are not null. */
Figures *
read_figures(FigureQuery *query, Datum *arguments)
{
	int			result;

	if (query->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(query->text, query->narguments, query->argument_types);

		if (plan == NULL)
			elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		query->plan = plan;
	}
	result = SPI_execute_plan(query->plan, arguments, NULL, true, 0);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(result));
	return SPI_tuptable;
}

static Datum
get_figure(const Figures *figures, uint64 row, int column)
{
	bool		isnull;
	Datum		value;

	CHECK_FOR_INTERRUPTS();
	if (row >= figures->numvals)
		elog(ERROR, "a document has no row for column \"%s\"",
			 SPI_fname(figures->tupdesc, column));
	value = SPI_getbinval(figures->vals[row], figures->tupdesc, column, &isnull);
	if (isnull)
		elog(ERROR, "column \"%s\" of a document is null", SPI_fname(figures->tupdesc, column));
	return value;
}

bool
figure_is_null(const Figures *figures, uint64 row, int column)
{
	bool		isnull;

	(void) SPI_getbinval(figures->vals[row], figures->tupdesc, column, &isnull);
	return isnull;
}

/* A text; null if it is null. */
char *
get_text_figure(const Figures *figures, uint64 row, int column)
{
	return figure_is_null(figures, row, column) ? NULL :
		TextDatumGetCString(get_figure(figures, row, column));
}

DateADT
get_date_figure(const Figures *figures, uint64 row, int column)
{
	return DatumGetDateADT(get_figure(figures, row, column));
}

int64
get_count_figure(const Figures *figures, uint64 row, int column)
{
	return DatumGetInt64(get_figure(figures, row, column));
}

bool
get_flag_figure(const Figures *figures, uint64 row, int column)
{
	return DatumGetBool(get_figure(figures, row, column));
}

Numeric
get_amount_figure(const Figures *figures, uint64 row, int column)
{
	return DatumGetNumeric(get_figure(figures, row, column));
}

/* The same as documents show it. */
char *
get_money_figure(const Figures *figures, uint64 row, int column, const char *currency)
{
	return money_text(get_amount_figure(figures, row, column), currency);
}

/* The same in cents, of an amount that is a money_amount. */
int64
get_cents_figure(const Figures *figures, uint64 row, int column)
{
	return cents_from_numeric(get_amount_figure(figures, row, column));
}

void
refuse_unknown_invoice(Datum invoice_number)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("there is no invoice \"%s\"", TextDatumGetCString(invoice_number)),
			 errhint("Look its number up in creditmemo.invoice_face.")));
}

/* Raises an error for an invoice that has no billing, as it has while tables are being restored. */
void
refuse_empty_invoice(int64 accounts, const char *invoice_number)
{
	if (accounts == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("invoice \"%s\" has no billing", invoice_number),
				 errhint("If its tables are being restored or copied, wait for the end; else see what creditmemo.verify() says.")));
}

/* The document as a text in the caller's memory context, which outlives SPI_finish(). */
Datum
document_datum(MemoryContext caller, StringInfo document)
{
	MemoryContext working = MemoryContextSwitchTo(caller);
	text	   *result = cstring_to_text_with_len(document->data, document->len);

	MemoryContextSwitchTo(working);
	return PointerGetDatum(result);
}
