/*
 * statement_text.c
 *		The statement of a member account's credit for terminals: 80 columns where names are short.
 */
#include "postgres.h"

#include "statement.h"

#define LINE_WIDTH 80
#define BAR_WIDTH 40
#define MAX_TEXT_COLUMNS 7

/* A table of cells, row by row; columns that the mask names are aligned to the right. */
typedef struct TextTable
{
	int			ncolumns;
	int			right_aligned;
	int			width[MAX_TEXT_COLUMNS];
	List	   *rows;			/* of arrays of cells */
} TextTable;

static void
add_row(TextTable *table, const char *const *cells)
{
	const char **row = palloc(table->ncolumns * sizeof(char *));

	for (int i = 0; i < table->ncolumns; i++)
	{
		row[i] = single_line(cells[i]);
		table->width[i] = Max(table->width[i], text_width(row[i]));
	}
	table->rows = lappend(table->rows, row);
}

static void
append_table(StringInfo text, const TextTable *table)
{
	ListCell   *cell;

	foreach(cell, table->rows)
	{
		const char **row = lfirst(cell);

		for (int i = 0; i < table->ncolumns; i++)
		{
			int			pad = table->width[i] - text_width(row[i]);

			appendStringInfoString(text, i > 0 ? "  " : "");
			if (table->right_aligned & (1 << i))
				appendStringInfoSpaces(text, pad);
			appendStringInfoString(text, row[i]);
			if (!(table->right_aligned & (1 << i)) && i < table->ncolumns - 1)
				appendStringInfoSpaces(text, pad);
		}
		while (text->data[text->len - 1] == ' ')
			text->data[--text->len] = '\0';
		appendStringInfoChar(text, '\n');
	}
}

/* Appends sentences, with ends of lines where these are full. */
static void
append_paragraph(StringInfo text, const char *sentences)
{
	int			used = 0;

	appendStringInfoChar(text, '\n');
	while (*sentences != '\0')
	{
		int			gap = strspn(sentences, " ");
		int			length = strcspn(sentences + gap, " ");
		char	   *word = single_line(pnstrdup(sentences + gap, length));

		sentences += gap + length;
		if (used > 0 && used + gap + text_width(word) > LINE_WIDTH)
		{
			appendStringInfoChar(text, '\n');
			used = gap = 0;
		}
		appendStringInfo(text, "%*s%s", gap, "", word);
		used += gap + text_width(word);
	}
	appendStringInfoChar(text, '\n');
}

static void
append_facts(StringInfo text, const Statement *statement)
{
	const Figures *account = statement->account;
	char	   *name = get_text_figure(account, 0, ACCOUNT_ACCOUNT_NAME);

	appendStringInfo(text, "Statement of credit\n\n%s\nMember account %s%s%s\n%s\n\n",
					 single_line(get_text_figure(account, 0, ACCOUNT_CUSTOMER_NAME)),
					 single_line(get_text_figure(account, 0, ACCOUNT_ACCOUNT_ID)), name != NULL ? ", " : "",
					 name != NULL ? single_line(name) : "",
					 statement->is_empty ? nothing_yet : statement_periods(statement));
}

static void
append_totals(StringInfo text, const Statement *statement)
{
	const StatementMonth *total = &statement->total;
	TextTable	table = {.ncolumns = 2,.right_aligned = 1 << 1};

	add_row(&table, (const char *[]) {opening_label(statement),
			statement_amount(statement, statement->opening)});
	add_row(&table, (const char *[]) {"Credit issued", statement_amount(statement, total->issued)});
	add_row(&table, (const char *[]) {"Credit used", statement_amount(statement, total->used)});
	if (total->lapsed != 0)
		add_row(&table, (const char *[]) {"Void or expired",
				statement_amount(statement, total->lapsed)});
	add_row(&table, (const char *[]) {closing_label(statement),
			statement_amount(statement, total->balance)});
	append_table(text, &table);
}

/* The part of the bar's width that the amount is of the highest one. */
static char *
bar_text(char c, int64 amount, int64 highest)
{
	int			width = highest > 0 ? (int) ((int128) amount * BAR_WIDTH / highest) : 0;
	char	   *bar = palloc(BAR_WIDTH + 1);

	if (amount > 0)
		width = Max(width, 1);
	memset(bar, c, width);
	bar[width] = '\0';
	return bar;
}

/* What of a month's balance became void or expired, behind its bar. */
static char *
lapse_text(const Statement *statement, const StatementMonth *month)
{
	return month->lapsed == 0 ? "" :
		psprintf(" (%s void or expired)", statement_amount(statement, month->lapsed));
}

static void
append_months(StringInfo text, const Statement *statement)
{
	TextTable	table = {.ncolumns = 3,.right_aligned = 1 << 1};
	int64		highest = 0;

	for (int i = 0; i < statement->nmonths; i++)
		highest = Max(highest, statement->months[i].balance);
	for (int i = 0; i < statement->nmonths; i++)
	{
		const StatementMonth *month = &statement->months[i];

		add_row(&table, (const char *[]) {service_period_text(month->service_period),
				statement_amount(statement, month->balance),
				psprintf("%s%s", bar_text(month->is_projected ? '.' : '#', month->balance, highest),
						 lapse_text(statement, month))});
	}
	appendStringInfo(text, "\nBalance at the end of each month%s\n\n",
					 statement->months[statement->nmonths - 1].is_projected ?
					 ", dotted where it is projected" : "");
	append_table(text, &table);
	if (statement->has_returned)
		append_paragraph(text, month_note);
	if (statement->projection != NULL)
		append_paragraph(text, statement->projection);
}

static void
append_memos(StringInfo text, const Statement *statement)
{
	appendStringInfoString(text, "\nCredit memos, in the order in which they are spent\n");
	for (int i = 0; i < statement->nmemos; i++)
	{
		const StatementMemo *memo = &statement->memos[i];

		appendStringInfo(text, "\n%s, PO %s\n  %s\n", single_line(memo->memo_number),
						 single_line(memo->po_number), single_line(memo->terms));
		if (memo->note != NULL)
			appendStringInfo(text, "  %s\n", single_line(memo->note));
		appendStringInfo(text, "  issued %s, used %s", statement_amount(statement, memo->issued),
						 statement_amount(statement, -memo->used));
		if (memo->lapsed != 0)
			appendStringInfo(text, ", void or expired %s",
							 statement_amount(statement, -memo->lapsed));
		appendStringInfo(text, ", balance %s\n", statement_amount(statement, memo->balance));
	}
}

static void
append_movements(StringInfo text, const Statement *statement)
{
	TextTable	table = {.ncolumns = 7,.right_aligned = 1 << 5 | 1 << 6};

	add_row(&table, (const char *[]) {"Recorded", "Period", "Movement", "Memo", "Invoice", "Amount",
			"Balance"});
	for (int i = 0; i < statement->nmovements; i++)
	{
		const StatementMovement *movement = &statement->movements[i];

		add_row(&table, (const char *[]) {movement->recorded_on, movement->period,
				movement->service == NULL ? movement->movement :
				psprintf("%s, %s", movement->movement, movement->service), movement->memo_number, movement->invoice,
				statement_amount(statement, movement->amount),
				statement_amount(statement, movement->balance)});
	}
	appendStringInfoString(text, "\nMovements, in the order in which they were recorded\n\n");
	append_table(text, &table);
}

/* Appends the statement as text: what statement_page.c shows, with a bar for each month. */
void
append_statement_text(StringInfo text, const Statement *statement)
{
	append_facts(text, statement);
	if (statement->is_empty)
		return;
	append_totals(text, statement);
	if (statement->nmonths > 0)
		append_months(text, statement);
	if (statement->nmemos > 0)
		append_memos(text, statement);
	if (statement->nmovements > 0)
		append_movements(text, statement);
}
