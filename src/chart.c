/*
 * chart.c
 *		The burn-down of an account's credit as SVG: a bar for each month, what was left at its end below
 *		what it used; months to come at the mean use, and where memos expire.
 *
 * Coordinates are whole numbers, ten to a pixel of the size for which the letters are made.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "statement.h"

#define WIDTH 4600
#define HEIGHT 2500
#define TOP 320					/* of the highest bar; above it stand the names of memos */
#define BASE 2040				/* where the bars stand */
#define RIGHT 4520
#define TICKS 5
#define CHARACTER_WIDTH 62
#define MONTH_LABEL_WIDTH 640
#define MEMO_LABEL_LENGTH 14
#define MAX_BAR_WIDTH 600

typedef struct Chart
{
	StringInfo	page;
	const Statement *statement;
	int			left;
	int64		top_amount;		/* in cents, as all amounts here */
} Chart;

static const char style[] =
"<style>\n"
"svg text { font: 110px \"Helvetica Neue\", Helvetica, Arial, \"Liberation Sans\", \"DejaVu Sans\", sans-serif; fill: #444e5c; }\n"
".rule { stroke: #dde2e8; stroke-width: 10; }\n"
".base { stroke: #56606e; stroke-width: 10; }\n"
".left { fill: #2c6aa6; }\n"
".used { fill: #a9cbe8; }\n"
".lapsed { fill: #d8a0a0; }\n"
".projected .left { fill: #e7eff7; stroke: #2c6aa6; stroke-width: 10; stroke-dasharray: 40 30; }\n"
".projected .lapsed { fill: #f7e9e9; stroke: #b35c5c; stroke-width: 10; stroke-dasharray: 40 30; }\n"
".expiry path { stroke: #b3261e; stroke-width: 15; stroke-dasharray: 60 40; }\n"
".expiry text { fill: #b3261e; }\n"
"</style>\n";

static int
height_of(const Chart *chart, int64 amount)
{
	return (int) ((int128) amount * (BASE - TOP) / chart->top_amount);
}

/* Where the month begins; one after the last, where that ends. */
static int
month_left(const Chart *chart, int month)
{
	return chart->left + (int) ((int64) month * (RIGHT - chart->left) / chart->statement->nmonths);
}

/* The least of 1, 2 and 5 times a power of ten that is at least a part of the amount. */
static int64
tick_step(int64 amount)
{
	static const int factors[] = {1, 2, 5};

	for (int64 power = 100;; power *= 10)
		for (int i = 0; i < lengthof(factors); i++)
			if (power * factors[i] >= amount / TICKS)
				return power * factors[i];
}

/* The highest bar: what there was before a month's use. */
static int64
highest_bar(const Statement *statement)
{
	int64		highest = 0;

	for (int i = 0; i < statement->nmonths; i++)
	{
		const StatementMonth *month = &statement->months[i];

		highest = Max(highest, month->balance - month->used - month->lapsed);
	}
	return highest;
}

/* An amount of the scale, without its cents. */
static char *
scale_text(const Chart *chart, int64 amount)
{
	char	   *text = statement_amount(chart->statement, amount);

	text[strlen(text) - strlen(".00")] = '\0';
	return text;
}

static void
append_scale(Chart *chart)
{
	int64		highest = highest_bar(chart->statement);
	int64		step = tick_step(highest);

	chart->top_amount = Max((highest + step - 1) / step, 1) * step;
	chart->left = 160 + CHARACTER_WIDTH * strlen(scale_text(chart, chart->top_amount));
	for (int64 amount = 0; amount <= chart->top_amount; amount += step)
	{
		int			y = BASE - height_of(chart, amount);

		append_markup(chart->page, "<path class=\"%s\" d=\"M%d %dH%d\"/><text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n",
					  amount == 0 ? "base" : "rule", chart->left, y, RIGHT, chart->left - 60, y + 38,
					  scale_text(chart, amount));
	}
}

/* Draws a part of a month's bar, from an amount up. */
static void
append_part(const Chart *chart, int month, const char *name, int64 from, int64 amount)
{
	int			width = month_left(chart, month + 1) - month_left(chart, month);
	int			gap = Max(Min(width / 7, 90), (width - MAX_BAR_WIDTH) / 2);
	int			bottom = height_of(chart, from);
	int			top = height_of(chart, from + amount);

	if (amount > 0)
		append_markup(chart->page, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>",
					  name, month_left(chart, month) + gap, BASE - top, Max(width - 2 * gap, 1),
					  top - bottom);
}

static char *
month_title(const Statement *statement, const StatementMonth *month)
{
	StringInfoData title;

	initStringInfo(&title);
	appendStringInfo(&title, "%s%s: balance %s", service_period_text(month->service_period),
					 month->is_projected ? " (projected)" : "",
					 statement_amount(statement, month->balance));
	if (month->used != 0)
		appendStringInfo(&title, ", used %s", statement_amount(statement, month->used));
	if (month->lapsed != 0)
		appendStringInfo(&title, ", void or expired %s",
						 statement_amount(statement, month->lapsed));
	return title.data;
}

static void
append_bars(const Chart *chart)
{
	const Statement *statement = chart->statement;

	for (int i = 0; i < statement->nmonths; i++)
	{
		const StatementMonth *month = &statement->months[i];

		append_markup(chart->page, "<g class=\"month%s\"><title>%s</title>",
					  month->is_projected ? " projected" : "", month_title(statement, month));
		append_part(chart, i, "left", 0, month->balance);
		if (!month->is_projected)
			append_part(chart, i, "used", month->balance, -month->used);
		append_part(chart, i, "lapsed", month->balance - (month->is_projected ? 0 : month->used),
					-month->lapsed);
		appendStringInfoString(chart->page, "</g>\n");
	}
}

/* Names as many of the months as there is room for. */
static void
append_month_labels(const Chart *chart)
{
	const Statement *statement = chart->statement;
	int			every = 1;

	while (every < statement->nmonths &&
		   month_left(chart, every) - month_left(chart, 0) < MONTH_LABEL_WIDTH)
		every++;
	for (int i = 0; i < statement->nmonths; i += every)
		append_markup(chart->page, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
					  Min((month_left(chart, i) + month_left(chart, i + 1)) / 2,
						  WIDTH - MONTH_LABEL_WIDTH / 2), BASE + 150,
					  short_period_text(statement->months[i].service_period));
}

/* Marks where a memo expires; names it if there is room. */
static void
append_expiry(const Chart *chart, const StatementMemo *memo, int x, int *free_from)
{
	int			length = pg_mbcharcliplen(memo->memo_number, strlen(memo->memo_number),
										  MEMO_LABEL_LENGTH);
	char	   *label = psprintf("%s%s expires", pnstrdup(memo->memo_number, length),
								 memo->memo_number[length] != '\0' ? "..." : "");

	append_markup(chart->page, "<g class=\"expiry\"><title>%s expires %s</title><path d=\"M%d %dV%d\"/>",
				  memo->memo_number, memo->expires_on, x, TOP - 100, BASE);
	if (x - CHARACTER_WIDTH * text_width(label) >= *free_from)
	{
		append_markup(chart->page, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", x, TOP - 140,
					  label);
		*free_from = x + CHARACTER_WIDTH;
	}
	appendStringInfoString(chart->page, "</g>\n");
}

static void
append_expiries(const Chart *chart)
{
	const Statement *statement = chart->statement;
	int			free_from = chart->left;

	for (int i = 0; i < statement->nmonths; i++)
		for (int j = 0; j < statement->nmemos; j++)
			if (statement->memos[j].last_period == statement->months[i].service_period)
				append_expiry(chart, &statement->memos[j], month_left(chart, i + 1), &free_from);
}

/* Appends what a colour stands for, if the chart has it. */
static void
append_key(const Chart *chart, bool is_there, const char *group, const char *name,
		   const char *meaning, int *x)
{
	if (!is_there)
		return;
	append_markup(chart->page, "<g class=\"%s\"><rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"110\" height=\"110\"/></g>"
				  "<text x=\"%d\" y=\"%d\">%s</text>\n", group, name, *x, HEIGHT - 200, *x + 170,
				  HEIGHT - 105, meaning);
	*x += 170 + CHARACTER_WIDTH * strlen(meaning) + 200;
}

static void
append_legend(const Chart *chart)
{
	const Statement *statement = chart->statement;
	bool		has_used = false;
	bool		has_lapsed = false;
	bool		has_projected = false;
	int			x = CHARACTER_WIDTH;

	for (int i = 0; i < statement->nmonths; i++)
	{
		has_used |= statement->months[i].used < 0;
		has_lapsed |= statement->months[i].lapsed < 0;
		has_projected |= statement->months[i].is_projected && statement->months[i].balance > 0;
	}
	append_key(chart, true, "key", "left", "Balance", &x);
	append_key(chart, has_used, "key", "used", "Used", &x);
	append_key(chart, has_lapsed, "key", "lapsed", "Void or expired", &x);
	append_key(chart, has_projected, "projected", "left", "Projected", &x);
}

/* Appends the chart of a statement that has months. */
void
append_chart(StringInfo page, const Statement *statement)
{
	Chart		chart = {.page = page,.statement = statement};

	append_markup(page, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\">\n"
				  "<title>Balance of credit by service period</title>\n", WIDTH, HEIGHT);
	appendStringInfoString(page, style);
	append_scale(&chart);
	append_bars(&chart);
	append_month_labels(&chart);
	append_expiries(&chart);
	append_legend(&chart);
	appendStringInfoString(page, "</svg>\n");
}
