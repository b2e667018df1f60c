/*
 * email.c
 *		The e-mail that submits an invoice, as plain text and as HTML.
 *
 * Every figure comes from the views invoice_face and invoice_body, as fixed when the invoice was
 * issued: nothing is computed twice, and the same e-mail comes out a year later.  The words are those
 * of the customer's template, the default one, or the built-in one.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "email_template.h"
#include "figures.h"
#include "markup.h"

SQL_FUNCTION(compose_email);

#define FONT "font-family: Helvetica, Arial, sans-serif; font-size: 16px; line-height: 1.5; "

#define EMAIL_WIDTH 60			/* columns of figures; amounts end in the last */

static const char built_in_subject[] = "AWS utilization for {service_period}, invoice {invoice_number}";
static const char built_in_text[] =
"Dear Customer,\n\n"
"Attached is your AWS utilization for {service_period}.  {summary}\n\n"
"{balances}";

/* The invoice: what can be filled in, in the order of Placeholder, and more. */
enum
{
	FACE_CURRENCY = EMAIL_SUMMARY, FACE_ACCOUNTS, FACE_SUBJECT, FACE_TEXT
};
static FigureQuery face_query = {
	"SELECT f.invoice_number, f.customer_id, f.customer_name, f.po_numbers, s.name, s.remittance, "
	"f.service_period, f.invoice_date, f.due_date, f.service_period, f.invoice_date, f.due_date, "
	"f.total_utilization, f.credit_applied, "
	"f.balance_due, f.prior_balance, f.balance_of_funds, f.currency, f.accounts, "
	"COALESCE(own.subject, general.subject), COALESCE(own.text, general.text) "
	"FROM creditmemo.invoice_face f "
	"LEFT JOIN creditmemo.email_template own "
	"ON own.customer_id OPERATOR(pg_catalog.=) f.customer_id "
	"LEFT JOIN creditmemo.email_template general ON general.customer_id IS NULL "
	"LEFT JOIN creditmemo.seller s ON true "
	"WHERE f.invoice_number OPERATOR(pg_catalog.=) $1", 1, {TEXTOID}
};

StaticAssertDecl(FACE_CURRENCY == EMAIL_BALANCE_OF_FUNDS + 1,
				 "columns of figures must come first");

/* The accounts that have or had credit, with sums over all of them. */
enum
{
	BODY_ACCOUNT_ID = 1, BODY_CREDIT_APPLIED, BODY_PRIOR_BALANCE, BODY_BALANCE_OF_FUNDS,
	BODY_TOTAL_PAID, BODY_TOTAL_RETURNED, BODY_TOTAL_OF_FUNDS
};
static FigureQuery body_query = {
	"SELECT account_id, credit_applied, prior_balance, balance_of_funds, "
	"pg_catalog.sum(GREATEST(OPERATOR(pg_catalog.-) credit_applied, 0)) OVER (), "
	"pg_catalog.sum(GREATEST(credit_applied, 0)) OVER (), "
	"pg_catalog.sum(balance_of_funds) OVER () "
	"FROM creditmemo.invoice_body WHERE invoice_number OPERATOR(pg_catalog.=) $1 "
	"AND (prior_balance OPERATOR(pg_catalog.<>) 0 OR credit_applied OPERATOR(pg_catalog.<>) 0) "
	"ORDER BY account_id", 1, {TEXTOID}
};

/* An e-mail being written. */
typedef struct Email
{
	Figures    *face;
	Figures    *body;
	const char *currency;
	bool		is_multiple;	/* of several accounts */
	char	   *summary;
} Email;

/* ---------------------------------------------------------------------------------------------
 * What it says
 * ---------------------------------------------------------------------------------------------
 */

/* Appends what credit did: paid all, paid a part, was returned, or nothing. */
static void
append_credit_sentence(Email *email, StringInfo summary)
{
	const Figures *body = email->body;
	int			paid = sign_of(get_amount_figure(body, 0, BODY_TOTAL_PAID));
	int			returned = sign_of(get_amount_figure(body, 0, BODY_TOTAL_RETURNED));
	int			due = sign_of(get_amount_figure(email->face, 0, EMAIL_BALANCE_DUE));
	char	   *paid_text = get_money_figure(body, 0, BODY_TOTAL_PAID, email->currency);
	char	   *returned_text = get_money_figure(body, 0, BODY_TOTAL_RETURNED, email->currency);
	int			funds = sign_of(get_amount_figure(body, 0, BODY_TOTAL_OF_FUNDS));

	if (paid > 0 && returned > 0)
		appendStringInfo(summary, "%s has been paid for by your credit balance, %s has been returned to it, and ",
						 paid_text, returned_text);
	else if (returned > 0)
		appendStringInfo(summary, "%s has been returned to your credit balance, and ", returned_text);
	else if (paid > 0 && due == 0)
		appendStringInfoString(summary, "This has been paid for by your credit balance, and ");
	else if (paid > 0 && due > 0)
		appendStringInfo(summary, "Of %s, %s has been paid for by your credit balance, and ",
						 get_money_figure(email->face, 0, EMAIL_TOTAL_UTILIZATION,
										  email->currency), paid_text);
	else if (paid > 0)
		appendStringInfo(summary, "%s has been paid for by your credit balance, and ", paid_text);
	else if (due > 0)
		appendStringInfoString(summary, "None of it could be paid for by your credit balance, and ");
	else
		appendStringInfoString(summary, "None of your credit balance has been used, and ");
	if (funds >= 0)
		appendStringInfo(summary, "%s remains for future use.",
						 get_money_figure(body, 0, BODY_TOTAL_OF_FUNDS, email->currency));
	else
		appendStringInfo(summary, "%s of it will be returned by an invoice to follow.",
						 opposite_text(get_amount_figure(body, 0, BODY_TOTAL_OF_FUNDS),
									   email->currency));
}

/* Appends what is due and when; that nothing is, where no sentence about credit says so. */
static void
append_due_sentence(Email *email, StringInfo summary)
{
	int			due = sign_of(get_amount_figure(email->face, 0, EMAIL_BALANCE_DUE));
	const char *gap = summary->len > 0 ? "  " : "";

	if (due > 0)
		appendStringInfo(summary, "%s%s is due by %s.", gap,
						 get_money_figure(email->face, 0, EMAIL_BALANCE_DUE, email->currency),
						 long_date_text(get_date_figure(email->face, 0, EMAIL_DUE_DATE)));
	else if (due < 0)
		appendStringInfo(summary, "%s%s is due to you.", gap,
						 opposite_text(get_amount_figure(email->face, 0, EMAIL_BALANCE_DUE),
									   email->currency));
	else if (summary->len == 0)
		appendStringInfoString(summary, "Nothing is due.");
}

static char *
summary_text(Email *email)
{
	StringInfoData summary;

	initStringInfo(&summary);
	if (email->body->numvals > 0)
		append_credit_sentence(email, &summary);
	append_due_sentence(email, &summary);
	return summary.data;
}

/* An account's balances: a label, as markup on a page, and an amount each. */
typedef struct BalanceLine
{
	const char *name;
	const char *label;
	const char *amount;
} BalanceLine;
#define BALANCE_LINES 3

static void
get_balance_lines(const Email *email, uint64 row, bool is_page, BalanceLine lines[BALANCE_LINES])
{
	StringInfoData utilization;

	initStringInfo(&utilization);
	append_words(&utilization, is_page, "%s Utilization %s:",
				 service_period_text(get_date_figure(email->face, 0, EMAIL_SERVICE_PERIOD)),
				 get_text_figure(email->face, 0, EMAIL_INVOICE_NUMBER));
	lines[0].name = "prior-balance";
	lines[0].label = "Prior Balance of Credit";
	lines[0].amount = get_money_figure(email->body, row, BODY_PRIOR_BALANCE, email->currency);
	lines[1].name = "utilization";
	lines[1].label = utilization.data;
	lines[1].amount = get_money_figure(email->body, row, BODY_CREDIT_APPLIED, email->currency);
	lines[2].name = "balance-of-funds";
	lines[2].label = "Balance of Funds:";
	lines[2].amount = get_money_figure(email->body, row, BODY_BALANCE_OF_FUNDS, email->currency);
}

/* Appends what stands above an account's balances. */
static void
append_heading(const Email *email, uint64 row, bool is_page, StringInfo document)
{
	char	   *ending = single_line(get_text_figure(email->body, row, BODY_ACCOUNT_ID));

	for (int length = pg_mbstrlen(ending); length > 4; length--)
		ending += pg_mblen(ending);
	append_words(document, is_page, "Member account ending in -%s", ending);
}

/* What is filled in for a placeholder, other than {balances}; null where nothing is known. */
static char *
placeholder_text(const Email *email, Placeholder placeholder)
{
	const Figures *face = email->face;

	switch (placeholder)
	{
		case EMAIL_SERVICE_PERIOD:
			return service_period_text(get_date_figure(face, 0, placeholder));
		case EMAIL_INVOICE_DATE:
		case EMAIL_DUE_DATE:
			return long_date_text(get_date_figure(face, 0, placeholder));
		case EMAIL_SERVICE_PERIOD_ISO:
			return pnstrdup(date_text(get_date_figure(face, 0, placeholder)), strlen("2019-01"));
		case EMAIL_INVOICE_DATE_ISO:
		case EMAIL_DUE_DATE_ISO:
			return date_text(get_date_figure(face, 0, placeholder));
		case EMAIL_TOTAL_UTILIZATION:
		case EMAIL_CREDIT_APPLIED:
		case EMAIL_BALANCE_DUE:
		case EMAIL_PRIOR_BALANCE:
		case EMAIL_BALANCE_OF_FUNDS:
			return get_money_figure(face, 0, placeholder, email->currency);
		case EMAIL_SUMMARY:
			return email->summary;
		default:
			return get_text_figure(face, 0, placeholder);
	}
}

/* A piece of the template, other than {balances}, as the e-mail says it. */
static char *
piece_text(const Email *email, const TemplatePiece *piece)
{
	char	   *value;

	if (piece->placeholder == NO_PLACEHOLDER)
		return pnstrdup(piece->words, piece->length);
	value = placeholder_text(email, piece->placeholder);
	return value != NULL ? value : pstrdup("");
}

/* ---------------------------------------------------------------------------------------------
 * As text
 * ---------------------------------------------------------------------------------------------
 */

static void
append_text_balances(const Email *email, StringInfo text)
{
	for (uint64 row = 0; row < email->body->numvals; row++)
	{
		BalanceLine lines[BALANCE_LINES];

		if (row > 0)
			appendStringInfoString(text, "\n\n");
		if (email->is_multiple)
		{
			append_heading(email, row, false, text);
			appendStringInfoChar(text, '\n');
		}
		get_balance_lines(email, row, false, lines);
		for (int i = 0; i < BALANCE_LINES; i++)
		{
			char	   *label = single_line(lines[i].label);
			int			gap = EMAIL_WIDTH - text_width(label) - text_width(lines[i].amount);

			appendStringInfo(text, "%s%s%*s%s", i > 0 ? "\n" : "", label, Max(gap, 2), "",
							 lines[i].amount);
		}
	}
}

/* A paragraph of the template, filled in. */
static char *
fill_text(const Email *email, const char *paragraph)
{
	StringInfoData text;
	TemplatePiece piece;

	initStringInfo(&text);
	while (next_piece(&paragraph, &piece))
		if (piece.placeholder == EMAIL_BALANCES)
			append_text_balances(email, &text);
		else
			appendStringInfoString(&text, piece_text(email, &piece));
	while (text.len > 0 && is_blank(text.data + text.len - 1))
		text.data[--text.len] = '\0';
	return text.data;
}

static void
append_text(const Email *email, const char *wording, StringInfo text)
{
	char	   *paragraph;

	while ((paragraph = next_paragraph(&wording)) != NULL)
	{
		paragraph = fill_text(email, paragraph);
		if (*paragraph != '\0')
			appendStringInfo(text, "%s%s", text->len > 0 ? "\n\n" : "", paragraph);
	}
}

/* The subject: a single line, whatever is filled in. */
static void
append_subject(const Email *email, const char *wording, StringInfo subject)
{
	appendStringInfoString(subject, single_line(fill_text(email, wording)));
}

/* ---------------------------------------------------------------------------------------------
 * As HTML
 *
 * Tables and style attributes, as mail clients keep no others; no colours, so that light on dark is
 * as readable as dark on light.
 * ---------------------------------------------------------------------------------------------
 */

static void
append_html_balances(const Email *email, StringInfo page)
{
	for (uint64 row = 0; row < email->body->numvals; row++)
	{
		BalanceLine lines[BALANCE_LINES];

		appendStringInfoString(page, "<table class=\"balances\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\" style=\"margin: 0 0 24px; border-collapse: collapse\">\n");
		if (email->is_multiple)
		{
			appendStringInfoString(page, "<tr class=\"account\"><th colspan=\"2\" align=\"left\" style=\"" FONT "padding: 4px 0\">");
			append_heading(email, row, true, page);
			appendStringInfoString(page, "</th></tr>\n");
		}
		get_balance_lines(email, row, true, lines);
		for (int i = 0; i < BALANCE_LINES; i++)
		{
			const char *style = i == BALANCE_LINES - 1 ?
				"border-top: 1px solid; font-weight: bold" : "border-top: 1px solid #888888";

			append_markup(page, "<tr class=\"%s\"><td style=\"" FONT "padding: 6px 12px 6px 0; word-break: break-word; %s\">",
						  lines[i].name, style);
			appendStringInfoString(page, lines[i].label);
			append_markup(page, "</td><td class=\"amount\" align=\"right\" style=\"" FONT "padding: 6px 0; white-space: nowrap; %s\">%s</td></tr>\n",
						  style, lines[i].amount);
		}
		appendStringInfoString(page, "</table>\n");
	}
}

/* Ends a paragraph and empties it for the next. */
static void
flush_paragraph(StringInfo page, StringInfo paragraph, bool *has_words)
{
	if (*has_words)
		appendStringInfo(page, "<p style=\"margin: 0 0 16px\">%s</p>\n", paragraph->data);
	resetStringInfo(paragraph);
	*has_words = false;
}

/* Appends a paragraph of the template, filled in; {balances} interrupts it. */
static void
append_html_paragraph(const Email *email, const char *wording, StringInfo page)
{
	StringInfoData paragraph;
	bool		has_words = false;
	TemplatePiece piece;

	initStringInfo(&paragraph);
	while (next_piece(&wording, &piece))
	{
		char	   *words;

		if (piece.placeholder == EMAIL_BALANCES)
		{
			flush_paragraph(page, &paragraph, &has_words);
			append_html_balances(email, page);
			continue;
		}
		words = piece_text(email, &piece);
		has_words |= !is_blank(words);
		appendStringInfoString(&paragraph, piece.placeholder != NO_PLACEHOLDER ? "<bdi>" : "");
		append_escaped_lines(&paragraph, words);
		appendStringInfoString(&paragraph, piece.placeholder != NO_PLACEHOLDER ? "</bdi>" : "");
	}
	flush_paragraph(page, &paragraph, &has_words);
}

static void
append_html(const Email *email, const char *subject, const char *wording, StringInfo page)
{
	char	   *paragraph;

	append_markup(page, "<!DOCTYPE html>\n"
				  "<html>\n<head>\n<meta charset=\"utf-8\"/>\n"
				  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
				  "<meta name=\"color-scheme\" content=\"light dark\"/>\n"
				  "<meta name=\"supported-color-schemes\" content=\"light dark\"/>\n"
				  "<title>%s</title>\n</head>\n<body style=\"margin: 0; padding: 0\">\n"
				  "<table role=\"presentation\" width=\"640\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\" style=\"width: 100%%; max-width: 640px; table-layout: fixed\">\n"
				  "<tr><td style=\"" FONT "padding: 20px; overflow-wrap: break-word; word-wrap: break-word\">\n",
				  subject);
	while ((paragraph = next_paragraph(&wording)) != NULL)
		append_html_paragraph(email, paragraph, page);
	appendStringInfoString(page, "</td></tr>\n</table>\n</body>\n</html>\n");
}

/* ---------------------------------------------------------------------------------------------
 * Functions
 * ---------------------------------------------------------------------------------------------
 */

typedef struct ComposedEmail
{
	StringInfoData subject;
	StringInfoData text;
	StringInfoData html;
} ComposedEmail;

/*
 * Composes the e-mail of an invoice, within SPI, reading as the caller.  What credit paid, what is due, and for each account that has or had credit its prior balance, this
 * month's utilization and the balance of funds (rule Fixed when invoiced).
 */
static void
compose(Datum invoice_number, ComposedEmail *composed)
{
	Email		email;
	char	   *subject;
	char	   *wording;

	email.face = read_figures(&face_query, &invoice_number);
	if (email.face->numvals == 0)
		refuse_unknown_invoice(invoice_number);
	email.body = read_figures(&body_query, &invoice_number);
	refuse_empty_invoice(get_count_figure(email.face, 0, FACE_ACCOUNTS),
						 get_text_figure(email.face, 0, EMAIL_INVOICE_NUMBER));
	email.currency = get_text_figure(email.face, 0, FACE_CURRENCY);
	email.is_multiple = get_count_figure(email.face, 0, FACE_ACCOUNTS) > 1;
	email.summary = summary_text(&email);
	subject = get_text_figure(email.face, 0, FACE_SUBJECT);
	wording = get_text_figure(email.face, 0, FACE_TEXT);

	initStringInfo(&composed->subject);
	initStringInfo(&composed->text);
	initStringInfo(&composed->html);
	append_subject(&email, subject != NULL ? subject : built_in_subject, &composed->subject);
	append_text(&email, wording != NULL ? wording : built_in_text, &composed->text);
	append_html(&email, composed->subject.data, wording != NULL ? wording : built_in_text,
				&composed->html);
}

/*
 * compose_email(invoice_number text, OUT subject text, OUT body_text text, OUT body_html text)
 *
 * The e-mail as compose() makes it.  Raises no_data_found for an unknown invoice,
 * object_not_in_prerequisite_state for one without a billing.
 */
Datum
compose_email(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	TupleDesc	tupdesc;
	ComposedEmail email;
	Datum		parts[3];
	bool		nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "compose_email() returns a row");
	SPI_connect();
	compose(PG_GETARG_DATUM(0), &email);
	parts[0] = document_datum(caller, &email.subject);
	parts[1] = document_datum(caller, &email.text);
	parts[2] = document_datum(caller, &email.html);
	SPI_finish();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, parts, nulls)));
}
