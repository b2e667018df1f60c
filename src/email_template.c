/*
 * email_template.c
 *		The wording of e-mails: text with the names of what is filled in, in braces.
 *
 * {balance_due} is a placeholder, {{ and }} are braces; so is a } that closes nothing.  Templates are
 * checked when they are written, so that no e-mail fails for its wording.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "compat.h"
#include "email_template.h"

SQL_FUNCTION(check_email_subject);
SQL_FUNCTION(check_email_text);

#define WHITE_SPACE " \t\n\v\f\r"

static const char *const placeholder_names[] = {
	[EMAIL_INVOICE_NUMBER] = "invoice_number",
	[EMAIL_CUSTOMER_ID] = "customer_id",
	[EMAIL_CUSTOMER_NAME] = "customer_name",
	[EMAIL_PO_NUMBER] = "po_number",
	[EMAIL_SELLER_NAME] = "seller_name",
	[EMAIL_REMITTANCE] = "remittance",
	[EMAIL_SERVICE_PERIOD] = "service_period",
	[EMAIL_INVOICE_DATE] = "invoice_date",
	[EMAIL_DUE_DATE] = "due_date",
	[EMAIL_SERVICE_PERIOD_ISO] = "service_period_iso",
	[EMAIL_INVOICE_DATE_ISO] = "invoice_date_iso",
	[EMAIL_DUE_DATE_ISO] = "due_date_iso",
	[EMAIL_TOTAL_UTILIZATION] = "total_utilization",
	[EMAIL_CREDIT_APPLIED] = "credit_applied",
	[EMAIL_BALANCE_DUE] = "balance_due",
	[EMAIL_PRIOR_BALANCE] = "prior_balance",
	[EMAIL_BALANCE_OF_FUNDS] = "balance_of_funds",
	[EMAIL_SUMMARY] = "summary",
	[EMAIL_BALANCES] = "balances",
};

bool
is_blank(const char *text)
{
	return text[strspn(text, WHITE_SPACE)] == '\0';
}

/* All placeholders, up to the last one that may be used, as a hint names them. */
static char *
placeholder_list(Placeholder last)
{
	StringInfoData names;

	initStringInfo(&names);
	for (Placeholder i = EMAIL_INVOICE_NUMBER; i <= last; i++)
		appendStringInfo(&names, "%s{%s}", names.len > 0 ? ", " : "", placeholder_names[i]);
	return names.data;
}

/* The placeholder that begins after the brace.  Raises check_violation for one that is unknown. */
static Placeholder
read_placeholder(const char *name, int *length)
{
	*length = strcspn(name, "{}");
	if (name[*length] != '}')
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("a brace of the e-mail template is not closed"),
				 errdetail("It begins: {%s", pnstrdup(name, pg_mbcliplen(name, *length, 40))),
				 errhint("Write {{ for a brace that is to stand in the e-mail.")));
	for (Placeholder i = EMAIL_INVOICE_NUMBER; i < lengthof(placeholder_names); i++)
		if (strlen(placeholder_names[i]) == *length &&
			memcmp(placeholder_names[i], name, *length) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION),
			 errmsg("unknown placeholder \"{%s}\" in an e-mail template", pnstrdup(name, pg_mbcliplen(name, *length, 40))),
			 errhint("There are: %s. Write {{ for a brace that is to stand in the e-mail.",
					 placeholder_list(EMAIL_BALANCES))));
	return NO_PLACEHOLDER;		/* keep compiler quiet */
}

/* Steps to the next piece of a template; false at its end. */
bool
next_piece(const char **cursor, TemplatePiece *piece)
{
	const char *start = *cursor;

	if (*start == '\0')
		return false;

	piece->placeholder = NO_PLACEHOLDER;
	piece->words = start;
	if (*start != '{' && *start != '}')
	{
		piece->length = strcspn(start, "{}");
		*cursor = start + piece->length;
	}
	else if (*start == '}' || start[1] == '{')
	{
		piece->length = 1;
		*cursor = start + (start[1] == *start ? 2 : 1);
	}
	else
	{
		piece->placeholder = read_placeholder(start + 1, &piece->length);
		*cursor = start + piece->length + 2;
	}
	return true;
}

/*
 * The next paragraph of a template: lines up to one that is blank, their ends as \n.  Null at the end
 * of the template.
 */
char *
next_paragraph(const char **cursor)
{
	StringInfoData paragraph;

	initStringInfo(&paragraph);
	while (**cursor != '\0')
	{
		int			length = strcspn(*cursor, "\r\n");
		char	   *line = pnstrdup(*cursor, length);

		*cursor += length;
		*cursor += **cursor == '\r' && (*cursor)[1] == '\n' ? 2 : **cursor != '\0';
		if (!is_blank(line))
			appendStringInfo(&paragraph, "%s%s", paragraph.len > 0 ? "\n" : "", line);
		else if (paragraph.len > 0)
			break;
	}
	return paragraph.len > 0 ? paragraph.data : NULL;
}

/* Whether nothing but white space stands beside the piece, up to the ends of its line. */
static bool
stands_alone(const char *text, const char *piece, const char *end)
{
	while (piece > text && strchr(" \t", piece[-1]) != NULL)
		piece--;
	end += strspn(end, " \t");
	return (piece == text || strchr("\r\n", piece[-1]) != NULL) && strchr("\r\n", *end) != NULL;
}

/* Raises check_violation unless the template is one, with placeholders up to the last one given. */
static void
check_template(const char *text, const char *what, Placeholder last)
{
	const char *cursor = text;
	TemplatePiece piece;

	if (is_blank(text))
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("the %s of an e-mail template is blank", what),
				 errhint("Give its wording, or null to leave it as it is without the template.")));
	while (next_piece(&cursor, &piece))
	{
		if (piece.placeholder > last)
			ereport(ERROR,
					(errcode(ERRCODE_CHECK_VIOLATION),
					 errmsg("placeholder \"{%s}\" cannot stand in the %s of an e-mail",
							placeholder_names[piece.placeholder], what),
					 errhint("These can: %s.", placeholder_list(last))));
		if (piece.placeholder == EMAIL_BALANCES && !stands_alone(text, piece.words, cursor))
			ereport(ERROR,
					(errcode(ERRCODE_CHECK_VIOLATION),
					 errmsg("placeholder \"{balances}\" does not stand on a line of its own"),
					 errdetail("It is filled in with several lines."),
					 errhint("Put the words beside it on other lines.")));
	}
}

/*
 * check_email_subject(subject text) returns boolean: the CHECK of email_template.subject.
 *
 * Returns true.  Raises check_violation for a blank subject, an unknown placeholder or one that does
 * not fit a subject, and a brace that is not closed.
 */
Datum
check_email_subject(PG_FUNCTION_ARGS)
{
	check_template(text_to_cstring(PG_GETARG_TEXT_PP(0)), "subject", EMAIL_BALANCE_OF_FUNDS);
	PG_RETURN_BOOL(true);
}

/* check_email_text(text text) returns boolean: the CHECK of email_template.text, likewise. */
Datum
check_email_text(PG_FUNCTION_ARGS)
{
	check_template(text_to_cstring(PG_GETARG_TEXT_PP(0)), "text", EMAIL_BALANCES);
	PG_RETURN_BOOL(true);
}
