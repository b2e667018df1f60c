/*
 * statement_page.c
 *		The statement of a member account's credit as a page to print.
 */
#include "postgres.h"

#include "statement.h"

/* An amount; blank for zero, where a column has many. */
static char *
amount_or_blank(const Statement *statement, int64 cents)
{
	return cents == 0 ? pstrdup("") : statement_amount(statement, cents);
}

static void
append_facts(StringInfo page, const Statement *statement)
{
	const Figures *account = statement->account;

	appendStringInfoString(page, "<div class=\"parties\">\n");
	append_customer(page, "Customer", get_text_figure(account, 0, ACCOUNT_CUSTOMER_NAME),
					get_text_figure(account, 0, ACCOUNT_CUSTOMER_ADDRESS));
	appendStringInfoString(page, "<div>\n<table class=\"facts\">\n");
	append_fact(page, "account", "Member account",
				get_text_figure(account, 0, ACCOUNT_ACCOUNT_ID));
	append_fact(page, "account-name", "Name", get_text_figure(account, 0, ACCOUNT_ACCOUNT_NAME));
	append_fact(page, "period",
				statement->from_period == statement->to_period ? "Service period" : "Service periods",
				statement->is_empty ? "none yet" : statement_periods(statement));
	appendStringInfoString(page, "</table>\n</div>\n</div>\n");
}

static void
append_totals(StringInfo page, const Statement *statement)
{
	const StatementMonth *total = &statement->total;

	appendStringInfoString(page, "<table class=\"totals sums\">\n");
	append_sum(page, "opening", opening_label(statement),
			   statement_amount(statement, statement->opening));
	append_sum(page, "issued", "Credit issued", statement_amount(statement, total->issued));
	append_sum(page, "used", "Credit used", statement_amount(statement, total->used));
	if (total->lapsed != 0)
		append_sum(page, "lapsed", "Void or expired", statement_amount(statement, total->lapsed));
	append_sum(page, "closing", closing_label(statement),
			   statement_amount(statement, total->balance));
	appendStringInfoString(page, "</table>\n");
}

static void
append_memo(StringInfo page, const Statement *statement, const StatementMemo *memo)
{
	append_markup(page, "<tr><td class=\"memo\"><bdi class=\"name\">%s</bdi><br/>"
				  "<span class=\"terms note\">", memo->memo_number);
	appendStringInfoString(page, memo->terms);
	appendStringInfoString(page, "</span>");
	if (memo->note != NULL)
		append_markup(page, "<br/><bdi class=\"remark note\">%s</bdi>", memo->note);
	appendStringInfoString(page, "</td>");
	append_cell(page, "po-number", "Purchase order", memo->po_number);
	append_amount_cell(page, "issued", "Issued", statement_amount(statement, memo->issued));
	append_amount_cell(page, "applied", "Used", amount_or_blank(statement, memo->used));
	append_amount_cell(page, "lapsed", "Void or expired", amount_or_blank(statement, memo->lapsed));
	append_amount_cell(page, "balance", "Balance", statement_amount(statement, memo->balance));
	appendStringInfoString(page, "</tr>\n");
}

static void
append_memos(StringInfo page, const Statement *statement)
{
	appendStringInfoString(page, "<h2>Credit memos, in the order in which they are spent</h2>\n"
						   "<table class=\"memos stacked\">\n<thead><tr><th scope=\"col\">Credit memo</th><th scope=\"col\">Purchase order</th>"
						   "<th scope=\"col\" class=\"amount\">Issued</th><th scope=\"col\" class=\"amount\">Used</th>"
						   "<th scope=\"col\" class=\"amount\">Void or expired</th><th scope=\"col\" class=\"amount\">Balance</th></tr></thead>\n<tbody>\n");
	for (int i = 0; i < statement->nmemos; i++)
		append_memo(page, statement, &statement->memos[i]);
	append_markup(page, "</tbody>\n<tfoot><tr class=\"total\"><th colspan=\"5\">%s</th>"
				  "<td class=\"amount balance\">%s</td></tr></tfoot>\n</table>\n",
				  closing_label(statement),
				  statement_amount(statement, statement->total.balance));
}

static void
append_movements(StringInfo page, const Statement *statement)
{
	appendStringInfoString(page, "<h2>Movements, in the order in which they were recorded</h2>\n"
						   "<table class=\"movements stacked\">\n<thead><tr><th scope=\"col\">Recorded</th><th scope=\"col\">Service period</th>"
						   "<th scope=\"col\">Movement</th><th scope=\"col\">Credit memo</th><th scope=\"col\">Invoice</th><th scope=\"col\" class=\"amount\">Amount</th>"
						   "<th scope=\"col\" class=\"amount\">Balance</th></tr></thead>\n<tbody>\n");
	for (int i = 0; i < statement->nmovements; i++)
	{
		const StatementMovement *movement = &statement->movements[i];

		append_markup(page, "<tr class=\"%s\">", movement->is_earlier ? "earlier" : "movement");
		append_cell(page, "date", "Recorded", movement->recorded_on);
		append_cell(page, "period", "Service period", movement->period);
		append_markup(page, "<td class=\"movement\" data-label=\"Movement\">%s", movement->movement);
		if (movement->service != NULL)
			append_markup(page, ", <bdi>%s</bdi>", movement->service);
		appendStringInfoString(page, "</td>");
		append_cell(page, "memo", "Credit memo", movement->memo_number);
		append_cell(page, "invoice", "Invoice", movement->invoice);
		append_amount_cell(page, "moved", "Amount", statement_amount(statement, movement->amount));
		append_amount_cell(page, "balance", "Balance",
						   statement_amount(statement, movement->balance));
		appendStringInfoString(page, "</tr>\n");
	}
	appendStringInfoString(page, "</tbody>\n</table>\n");
}

void
append_statement_page(StringInfo page, const Statement *statement)
{
	char	   *account_id = get_text_figure(statement->account, 0, ACCOUNT_ACCOUNT_ID);

	begin_page(page, statement->is_empty ? psprintf("Statement of credit, %s", account_id) :
			   psprintf("Statement of credit, %s, %s", account_id, statement_periods(statement)));
	append_letterhead(page, statement->account, "Statement of credit");
	append_facts(page, statement);
	if (statement->is_empty)
		append_markup(page, "<p>%s</p>\n", nothing_yet);
	else
	{
		append_totals(page, statement);
		if (statement->nmonths > 0)
			append_chart(page, statement);
		if (statement->has_returned)
			append_markup(page, "<p class=\"note\">%s</p>\n", month_note);
		if (statement->projection != NULL)
			appendStringInfo(page, "<p class=\"projection\">%s</p>\n", statement->projection);
		if (statement->nmemos > 0)
			append_memos(page, statement);
		if (statement->nmovements > 0)
			append_movements(page, statement);
	}
	end_page(page);
}
