/*
 * invoice_page.c
 *		The invoice as a page to print.
 *
 * Every figure comes from the views invoice_face, invoice_body and invoice_line, as fixed when the
 * invoice was issued.  The credit stands on the face of an invoice with one account, and in the body,
 * against its own account alone, where there are several.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "page.h"

SQL_FUNCTION(invoice_html);

enum
{
	FACE_INVOICE_NUMBER = SELLER_END, FACE_CUSTOMER_ID, FACE_CUSTOMER_NAME, FACE_CUSTOMER_ADDRESS,
	FACE_SERVICE_PERIOD, FACE_INVOICE_DATE, FACE_DUE_DATE, FACE_CURRENCY,
	FACE_IS_SINGLE, FACE_TOTAL_UTILIZATION, FACE_CREDIT_APPLIED, FACE_BALANCE_DUE, FACE_IS_VOID
};
static FigureQuery face_query = {
	"SELECT " SELLER_COLUMNS ", f.invoice_number, f.customer_id, f.customer_name, "
	"f.customer_address, f.service_period, f.invoice_date, f.due_date, f.currency, "
	"f.scope OPERATOR(pg_catalog.=) 'single', f.total_utilization, f.credit_applied, "
	"f.balance_due, f.voided_at IS NOT NULL "
	"FROM creditmemo.invoice_face f LEFT JOIN creditmemo.seller s ON true "
	"WHERE f.invoice_number OPERATOR(pg_catalog.=) $1", 1, {TEXTOID}
};

enum
{
	BODY_ACCOUNT_ID = 1, BODY_ACCOUNT_NAME, BODY_BILLING_NO, BODY_PO_NUMBER, BODY_UTILIZATION,
	BODY_CREDIT_APPLIED, BODY_DUE
};
static FigureQuery body_query = {
	"SELECT account_id, account_name, billing_no::bigint, po_number, utilization, credit_applied, due "
	"FROM creditmemo.invoice_body WHERE invoice_number OPERATOR(pg_catalog.=) $1 "
	"ORDER BY account_id", 1, {TEXTOID}
};

enum
{
	LINE_ACCOUNT_ID = 1, LINE_SERVICE, LINE_UTILIZATION
};
static FigureQuery line_query = {
	"SELECT account_id, service, utilization "
	"FROM creditmemo.invoice_line WHERE invoice_number OPERATOR(pg_catalog.=) $1 "
	"ORDER BY account_id, service COLLATE pg_catalog.\"C\"", 1, {TEXTOID}
};

/* An invoice being written. */
typedef struct InvoicePage
{
	StringInfoData page;
	Figures    *face;
	Figures    *body;
	Figures    *lines;
	const char *currency;
} InvoicePage;

/* The credit applied: blank where there is none, so that it stands beside its own account only. */
static char *
credit_text(const InvoicePage *invoice, const Figures *figures, uint64 row, int column)
{
	return sign_of(get_amount_figure(figures, row, column)) == 0 ? pstrdup("") :
		get_money_figure(figures, row, column, invoice->currency);
}

/*
 * A member account: its name, its id, and that its billing is a supplement, with breaks or gaps
 * between them.
 */
static void
append_account(InvoicePage *invoice, uint64 row, const char *gap)
{
	StringInfo	page = &invoice->page;
	char	   *name = get_text_figure(invoice->body, row, BODY_ACCOUNT_NAME);
	int64		billing_no = get_count_figure(invoice->body, row, BODY_BILLING_NO);

	if (name != NULL)
	{
		append_markup(page, "<bdi class=\"name\">%s</bdi>", name);
		appendStringInfoString(page, gap);
	}
	append_markup(page, "<bdi>%s</bdi>", get_text_figure(invoice->body, row, BODY_ACCOUNT_ID));
	if (billing_no > 1)
	{
		appendStringInfoString(page, gap);
		append_markup(page, "<span class=\"supplementary note\">Supplementary billing, no. %d of the month</span>",
					  (int) billing_no);
	}
}

/* The PO of all accounts on the invoice; null if they have none, or several. */
static char *
common_po_number(const InvoicePage *invoice)
{
	char	   *common = NULL;

	for (uint64 row = 0; row < invoice->body->numvals; row++)
	{
		char	   *po_number = get_text_figure(invoice->body, row, BODY_PO_NUMBER);

		if (po_number == NULL || (row > 0 && strcmp(po_number, common) != 0))
			return NULL;
		common = po_number;
	}
	return common;
}

static void
append_facts(InvoicePage *invoice)
{
	StringInfo	page = &invoice->page;
	const Figures *face = invoice->face;

	appendStringInfoString(page, "<div class=\"parties\">\n");
	append_customer(page, "Bill to", get_text_figure(face, 0, FACE_CUSTOMER_NAME),
					get_text_figure(face, 0, FACE_CUSTOMER_ADDRESS));
	appendStringInfoString(page, "<div>\n<table class=\"facts\">\n");
	append_fact(page, "invoice-number", "Invoice number",
				get_text_figure(face, 0, FACE_INVOICE_NUMBER));
	append_fact(page, "invoice-date", "Invoice date",
				long_date_text(get_date_figure(face, 0, FACE_INVOICE_DATE)));
	if (sign_of(get_amount_figure(face, 0, FACE_BALANCE_DUE)) > 0)
		append_fact(page, "due-date", "Due date",
					long_date_text(get_date_figure(face, 0, FACE_DUE_DATE)));
	append_fact(page, "service-period", "Service period",
				service_period_text(get_date_figure(face, 0, FACE_SERVICE_PERIOD)));
	append_fact(page, "po-number", "Purchase order", common_po_number(invoice));
	append_fact(page, "customer-id", "Customer", get_text_figure(face, 0, FACE_CUSTOMER_ID));
	if (get_flag_figure(face, 0, FACE_IS_SINGLE))
	{
		appendStringInfoString(page, "<tr class=\"account\"><th>Member account</th><td>");
		append_account(invoice, 0, "<br/>");
		appendStringInfoString(page, "</td></tr>\n");
	}
	appendStringInfoString(page, "</table>\n</div>\n</div>\n");
}

static void
append_single_face(InvoicePage *invoice)
{
	StringInfo	page = &invoice->page;
	const Figures *face = invoice->face;

	appendStringInfoString(page, "<table class=\"face sums\">\n");
	append_sum(page, "total-utilization",
			   psprintf("AWS utilization, %s",
						service_period_text(get_date_figure(face, 0, FACE_SERVICE_PERIOD))),
			   get_money_figure(face, 0, FACE_TOTAL_UTILIZATION, invoice->currency));
	if (sign_of(get_amount_figure(face, 0, FACE_CREDIT_APPLIED)) != 0)
		append_sum(page, "credit-applied",
				   sign_of(get_amount_figure(face, 0, FACE_CREDIT_APPLIED)) < 0 ?
				   "Credit applied" : "Credit returned to your balance",
				   get_money_figure(face, 0, FACE_CREDIT_APPLIED, invoice->currency));
	append_sum(page, "balance-due", "Balance due",
			   get_money_figure(face, 0, FACE_BALANCE_DUE, invoice->currency));
	appendStringInfoString(page, "</table>\n");
}

static void
append_accounts(InvoicePage *invoice)
{
	StringInfo	page = &invoice->page;
	const Figures *face = invoice->face;
	const Figures *body = invoice->body;

	append_markup(page, "<h2>AWS utilization, %s</h2>\n<table class=\"accounts stacked\">\n"
				  "<thead><tr><th scope=\"col\">Member account</th><th scope=\"col\">Purchase order</th><th scope=\"col\" class=\"amount\">Utilization</th>"
				  "<th scope=\"col\" class=\"amount\">Credit applied</th><th scope=\"col\" class=\"amount\">Due</th></tr></thead>\n<tbody>\n",
				  service_period_text(get_date_figure(face, 0, FACE_SERVICE_PERIOD)));
	for (uint64 row = 0; row < body->numvals; row++)
	{
		appendStringInfoString(page, "<tr><td class=\"account\">");
		append_account(invoice, row, "<br/>");
		appendStringInfoString(page, "</td>");
		append_cell(page, "po-number", "Purchase order",
					get_text_figure(body, row, BODY_PO_NUMBER));
		append_amount_cell(page, "utilization", "Utilization",
						   get_money_figure(body, row, BODY_UTILIZATION, invoice->currency));
		append_amount_cell(page, "credit-applied", "Credit applied",
						   credit_text(invoice, body, row, BODY_CREDIT_APPLIED));
		append_amount_cell(page, "due", "Due", get_money_figure(body, row, BODY_DUE, invoice->currency));
		appendStringInfoString(page, "</tr>\n");
	}
	appendStringInfoString(page, "</tbody>\n<tfoot><tr class=\"total\"><th colspan=\"2\">Total</th>");
	append_amount_cell(page, "total-utilization", "Utilization",
					   get_money_figure(face, 0, FACE_TOTAL_UTILIZATION, invoice->currency));
	append_amount_cell(page, "credit-applied", "Credit applied",
					   credit_text(invoice, face, 0, FACE_CREDIT_APPLIED));
	append_amount_cell(page, "balance-due", "Balance due",
					   get_money_figure(face, 0, FACE_BALANCE_DUE, invoice->currency));
	appendStringInfoString(page, "</tr></tfoot>\n</table>\n");
}

/* What is due and when, and how to pay. */
static void
append_payment(InvoicePage *invoice)
{
	StringInfo	page = &invoice->page;
	const Figures *face = invoice->face;
	char	   *remittance = get_text_figure(face, 0, SELLER_REMITTANCE);
	int			due = sign_of(get_amount_figure(face, 0, FACE_BALANCE_DUE));

	if (due == 0)
		appendStringInfoString(page, "<p class=\"payment\">Nothing is due.</p>\n");
	else if (due > 0)
		append_markup(page, "<p class=\"payment\">Due by %s</p>\n",
					  long_date_text(get_date_figure(face, 0, FACE_DUE_DATE)));
	else
		append_markup(page, "<p class=\"payment\">%s is due to you.</p>\n",
					  opposite_text(get_amount_figure(face, 0, FACE_BALANCE_DUE),
									invoice->currency));
	if (due > 0 && remittance != NULL)
		append_markup(page, "<div class=\"remittance\">\n<h2>How to pay</h2>\n"
					  "<div class=\"address\" dir=\"auto\">%s</div>\n</div>\n", remittance);
}

/* The account's row of the body, from a row on: both are in the order of accounts. */
static uint64
find_body_row(const InvoicePage *invoice, const char *account_id, uint64 from)
{
	uint64		row = from;

	while (row < invoice->body->numvals &&
		   strcmp(get_text_figure(invoice->body, row, BODY_ACCOUNT_ID), account_id) != 0)
		row++;
	if (row == invoice->body->numvals)
		elog(ERROR, "member account \"%s\" is not on the invoice that has its lines", account_id);
	return row;
}

static void
append_lines(InvoicePage *invoice)
{
	StringInfo	page = &invoice->page;
	const Figures *lines = invoice->lines;
	const char *account_id = "";
	uint64		account = 0;

	if (lines->numvals == 0)
		return;
	appendStringInfoString(page, "<h2>Utilization by service</h2>\n<table class=\"lines\">\n"
						   "<thead><tr><th scope=\"col\">Service</th><th scope=\"col\" class=\"amount\">Utilization</th></tr></thead>\n");
	for (uint64 row = 0; row < lines->numvals; row++)
	{
		char	   *line_account_id = get_text_figure(lines, row, LINE_ACCOUNT_ID);

		if (strcmp(line_account_id, account_id) != 0)
		{
			appendStringInfoString(page, row > 0 ? "</tbody>\n<tbody>\n" : "<tbody>\n");
			account_id = line_account_id;
			account = find_body_row(invoice, account_id, account);
			if (!get_flag_figure(invoice->face, 0, FACE_IS_SINGLE))
			{
				appendStringInfoString(page, "<tr class=\"account\"><th colspan=\"2\">");
				append_account(invoice, account, " &#xB7; ");
				appendStringInfoString(page, "</th></tr>\n");
			}
		}
		append_markup(page, "<tr class=\"line\"><td class=\"service\"><bdi>%s</bdi></td><td class=\"amount\">%s</td></tr>\n",
					  get_text_figure(lines, row, LINE_SERVICE),
					  get_money_figure(lines, row, LINE_UTILIZATION, invoice->currency));
	}
	appendStringInfoString(page, "</tbody>\n</table>\n");
}

static void
append_invoice(InvoicePage *invoice)
{
	StringInfo	page = &invoice->page;

	begin_page(page, psprintf("Invoice %s", get_text_figure(invoice->face, 0,
															FACE_INVOICE_NUMBER)));
	append_letterhead(page, invoice->face, "Invoice");
	if (get_flag_figure(invoice->face, 0, FACE_IS_VOID))
		appendStringInfoString(page, "<p class=\"void\">VOID</p>\n");
	append_facts(invoice);
	if (get_flag_figure(invoice->face, 0, FACE_IS_SINGLE))
		append_single_face(invoice);
	else
		append_accounts(invoice);
	append_payment(invoice);
	append_lines(invoice);
	end_page(page);
}

/*
 * invoice_html(invoice_number text) returns text
 *
 * The invoice as fixed when it was issued (rule Fixed when invoiced), with VOID across it if it is
 * void.  Raises no_data_found for an unknown invoice, object_not_in_prerequisite_state for one
 * without a billing.  Reads as the caller.
 */
Datum
invoice_html(PG_FUNCTION_ARGS)
{
	Datum		invoice_number = PG_GETARG_DATUM(0);
	MemoryContext caller = CurrentMemoryContext;
	InvoicePage invoice;
	Datum		result;

	SPI_connect();
	invoice.face = read_figures(&face_query, &invoice_number);
	if (invoice.face->numvals == 0)
		refuse_unknown_invoice(invoice_number);
	invoice.body = read_figures(&body_query, &invoice_number);
	refuse_empty_invoice(invoice.body->numvals,
						 get_text_figure(invoice.face, 0, FACE_INVOICE_NUMBER));
	invoice.lines = read_figures(&line_query, &invoice_number);
	invoice.currency = get_text_figure(invoice.face, 0, FACE_CURRENCY);
	initStringInfo(&invoice.page);
	append_invoice(&invoice);
	result = document_datum(caller, &invoice.page);
	SPI_finish();
	PG_RETURN_DATUM(result);
}
