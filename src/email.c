/*
 * email.c
 *		The e-mail that submits an invoice.
 *
 * Every figure comes from the views invoice_face and invoice_body, as fixed when the invoice was
 * issued: nothing is computed twice, and the same e-mail comes out a year later.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "creditmemo.h"

SQL_FUNCTION(email_text);

#define EMAIL_WIDTH 60			/* columns; amounts end in the last */

/* The queries' columns, in order. */
enum
{
	FACE_SERVICE_PERIOD = 1, FACE_DUE_DATE, FACE_CURRENCY, FACE_SCOPE, FACE_UTILIZATION,
	FACE_BALANCE_DUE
};
static const char face_query[] =
"SELECT service_period, due_date, currency, scope, total_utilization, balance_due "
"FROM creditmemo.invoice_face WHERE invoice_number OPERATOR(pg_catalog.=) $1";

enum
{
	BODY_ACCOUNT_ID = 1, BODY_CREDIT_APPLIED, BODY_PRIOR_BALANCE, BODY_BALANCE_OF_FUNDS,
	BODY_TOTAL_PAID, BODY_TOTAL_RETURNED, BODY_TOTAL_OF_FUNDS
};
static const char body_query[] =
"SELECT account_id, credit_applied, prior_balance, balance_of_funds, "
"pg_catalog.sum(GREATEST(OPERATOR(pg_catalog.-) credit_applied, 0)) OVER (), "
"pg_catalog.sum(GREATEST(credit_applied, 0)) OVER (), "
"pg_catalog.sum(balance_of_funds) OVER () "
"FROM creditmemo.invoice_body WHERE invoice_number OPERATOR(pg_catalog.=) $1 "
"AND (prior_balance OPERATOR(pg_catalog.<>) 0 OR credit_applied OPERATOR(pg_catalog.<>) 0) "
"ORDER BY account_id";

/* An e-mail being written; the invoice's face is at hand. */
typedef struct Email
{
	StringInfoData text;
	const char *invoice_number;
	SPITupleTable *face;
	const char *period;
	const char *currency;
} Email;

/* Runs a query for the invoice; its plan is made once a session. */
static SPITupleTable *
run_query(SPIPlanPtr *plan, const char *query, Datum invoice_number)
{
	int			result;

	if (*plan == NULL)
	{
		Oid			types[] = {TEXTOID};
		SPIPlanPtr	made = SPI_prepare(query, 1, types);

		if (made == NULL)
			elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(made);
		*plan = made;
	}
	result = SPI_execute_plan(*plan, &invoice_number, NULL, true, 0);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(result));
	return SPI_tuptable;
}

static Datum
get_value(SPITupleTable *rows, uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(rows->vals[row], rows->tupdesc, column, &isnull);

	if (isnull)
		elog(ERROR, "column \"%s\" of an invoice is null", SPI_fname(rows->tupdesc, column));
	return value;
}

/* An amount of a row, or its opposite. */
static Numeric
get_amount(SPITupleTable *rows, uint64 row, int column, bool negate)
{
	Datum		amount = get_value(rows, row, column);

	return DatumGetNumeric(negate ? DirectFunctionCall1(numeric_uminus, amount) : amount);
}

/* -1, 0 or 1. */
static int
sign_of(Numeric amount)
{
	return DatumGetInt32(DirectFunctionCall1(numeric_int4,
											 DirectFunctionCall1(numeric_sign,
																 NumericGetDatum(amount))));
}

/* Appends a label on the left and an amount on the right. */
static void
append_figure(Email *email, const char *label, Numeric amount)
{
	char	   *money = money_text(amount, email->currency);
	int			gap = EMAIL_WIDTH - pg_mbstrlen(label) - pg_mbstrlen(money);

	appendStringInfo(&email->text, "\n%s%*s%s", label, Max(gap, 2), "", money);
}

/* Appends what credit did: paid all, paid a part, was returned, or nothing. */
static void
append_credit_sentence(Email *email, SPITupleTable *body)
{
	Numeric		paid = get_amount(body, 0, BODY_TOTAL_PAID, false);
	Numeric		returned = get_amount(body, 0, BODY_TOTAL_RETURNED, false);
	int			due = sign_of(get_amount(email->face, 0, FACE_BALANCE_DUE, false));

	appendStringInfoString(&email->text, "  ");
	if (sign_of(paid) > 0 && sign_of(returned) > 0)
		appendStringInfo(&email->text, "%s has been paid for by your credit balance, %s has been returned to it, and ",
						 money_text(paid, email->currency), money_text(returned, email->currency));
	else if (sign_of(returned) > 0)
		appendStringInfo(&email->text, "%s has been returned to your credit balance, and ",
						 money_text(returned, email->currency));
	else if (sign_of(paid) > 0 && due == 0)
		appendStringInfoString(&email->text, "This has been paid for by your credit balance, and ");
	else if (sign_of(paid) > 0)
		appendStringInfo(&email->text, "Of %s, %s has been paid for by your credit balance, and ",
						 money_text(get_amount(email->face, 0, FACE_UTILIZATION, false),
									email->currency),
						 money_text(paid, email->currency));
	else if (due > 0)
		appendStringInfoString(&email->text, "None of it could be paid for by your credit balance, and ");
	if (sign_of(get_amount(body, 0, BODY_TOTAL_OF_FUNDS, false)) >= 0)
		appendStringInfo(&email->text, "%s remains for future use.",
						 money_text(get_amount(body, 0, BODY_TOTAL_OF_FUNDS, false),
									email->currency));
	else
		appendStringInfo(&email->text, "%s of it will be returned by an invoice to follow.",
						 money_text(get_amount(body, 0, BODY_TOTAL_OF_FUNDS, true),
									email->currency));
}

/* Appends what is due and when; that nothing is, where it needs saying. */
static void
append_due_sentence(Email *email, bool has_credit)
{
	Numeric		due = get_amount(email->face, 0, FACE_BALANCE_DUE, false);

	if (sign_of(due) > 0)
		appendStringInfo(&email->text, "  %s is due by %s.", money_text(due, email->currency),
						 long_date_text(DatumGetDateADT(get_value(email->face, 0,
																  FACE_DUE_DATE))));
	else if (sign_of(due) < 0)
		appendStringInfo(&email->text, "  %s is due to you.",
						 money_text(get_amount(email->face, 0, FACE_BALANCE_DUE, true),
									email->currency));
	else if (!has_credit)
		appendStringInfoString(&email->text, "  Nothing is due.");
}

/* Appends an account's balances; with several accounts on the invoice its number stands above. */
static void
append_balances(Email *email, SPITupleTable *body, uint64 row)
{
	appendStringInfoChar(&email->text, '\n');
	if (strcmp(TextDatumGetCString(get_value(email->face, 0, FACE_SCOPE)), "multiple") == 0)
	{
		char	   *account_id = TextDatumGetCString(get_value(body, row, BODY_ACCOUNT_ID));
		int			length = pg_mbstrlen(account_id);
		char	   *ending = account_id;

		for (; length > 4; length--)
			ending += pg_mblen(ending);
		appendStringInfo(&email->text, "\nMember account ending in -%s", ending);
	}
	append_figure(email, "Prior Balance of Credit", get_amount(body, row, BODY_PRIOR_BALANCE, false));
	append_figure(email, psprintf("%s Utilization %s:", email->period, email->invoice_number),
				  get_amount(body, row, BODY_CREDIT_APPLIED, false));
	append_figure(email, "Balance of Funds:", get_amount(body, row, BODY_BALANCE_OF_FUNDS, false));
}

/*
 * email_text(invoice_number text) returns text
 *
 * The e-mail that submits the invoice (rule Fixed when invoiced): what credit paid, what is due, and
 * for each account that has or had credit its prior balance, this month's utilization and the
 * balance of funds.  Null for an unknown invoice.  Reads as the caller.
 */
Datum
email_text(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr face_plan = NULL;
	static SPIPlanPtr body_plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	SPITupleTable *body;
	uint64		naccounts;
	Email		email;
	text	   *result;

	SPI_connect();
	email.invoice_number = text_to_cstring(PG_GETARG_TEXT_PP(0));
	email.face = run_query(&face_plan, face_query, PG_GETARG_DATUM(0));
	if (SPI_processed == 0)
	{
		SPI_finish();
		PG_RETURN_NULL();
	}
	email.period = service_period_text(DatumGetDateADT(get_value(email.face, 0,
																 FACE_SERVICE_PERIOD)));
	email.currency = TextDatumGetCString(get_value(email.face, 0, FACE_CURRENCY));
	body = run_query(&body_plan, body_query, PG_GETARG_DATUM(0));
	naccounts = SPI_processed;

	initStringInfo(&email.text);
	appendStringInfo(&email.text, "Dear Customer,\n\nAttached is your AWS utilization for %s.",
					 email.period);
	if (naccounts > 0)
		append_credit_sentence(&email, body);
	append_due_sentence(&email, naccounts > 0);
	for (uint64 row = 0; row < naccounts; row++)
		append_balances(&email, body, row);

	MemoryContextSwitchTo(caller);
	result = cstring_to_text_with_len(email.text.data, email.text.len);
	SPI_finish();
	PG_RETURN_TEXT_P(result);
}
