/*
 * page.c
 *		What pages to print share: the style, the letterhead, the table of facts.
 *
 * A page stands for itself: no script, nothing from outside.  It prints on A4 and US Letter, as the
 * size is left to the printer, and on narrow screens tables with class "stacked" become blocks whose
 * cells are labelled by their data-label.
 */
#include "postgres.h"

#include "page.h"

static const char style[] =
"@page { margin: 16mm 15mm; @bottom-right { content: counter(page) \" / \" counter(pages); font: 8pt Helvetica, Arial, sans-serif; color: #56606e; } }\n"
"* { box-sizing: border-box; }\n"
"body { max-width: 58rem; margin: 0 auto; padding: 2.5rem 2rem; background: #fff; color: #1a2230;"
" font: 15px/1.45 \"Helvetica Neue\", Helvetica, Arial, \"Liberation Sans\", \"DejaVu Sans\", sans-serif;"
" overflow-wrap: anywhere; }\n"
"header { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 1rem 2rem;"
" padding-bottom: 1.25rem; border-bottom: 3px solid #23405e; }\n"
"h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; font-weight: 600; color: #23405e; }\n"
"h2 { margin: 2rem 0 .4rem; font-size: 1.05rem; font-weight: 600; color: #23405e; break-after: avoid; }\n"
"p { margin: .5rem 0; }\n"
".payment { text-align: right; }\n"
"td.date, td.period { white-space: nowrap; }\n"
".logo { display: block; max-width: 15rem; max-height: 4.5rem; margin-bottom: .6rem; }\n"
".name { font-weight: 600; }\n"
".address { white-space: pre-line; }\n"
".parties { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 1.25rem 2rem; margin: 1.5rem 0; }\n"
".parties > * { flex: 1 1 18rem; }\n"
".label, .note { color: #56606e; font-size: .87em; }\n"
"table { width: 100%; border-collapse: collapse; }\n"
"th, td { padding: .38rem .6rem; text-align: left; vertical-align: top; }\n"
"th:first-child, td:first-child { padding-left: 0; }\n"
"th:last-child, td:last-child { padding-right: 0; }\n"
"thead th { border-bottom: 1.5px solid #23405e; font-size: .87em; font-weight: 600; vertical-align: bottom; overflow-wrap: normal; }\n"
"tbody td { border-bottom: 1px solid #dde2e8; }\n"
"tr { break-inside: avoid; }\n"
".amount { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }\n"
".accounts .account { min-width: 8rem; }\n"
".facts { width: auto; }\n"
".facts th, .facts td { padding-top: .12rem; padding-bottom: .12rem; border: 0; }\n"
".facts th { font-weight: 400; color: #56606e; white-space: nowrap; }\n"
".sums { max-width: 30rem; margin-left: auto; }\n"
".sums th { font-weight: 400; }\n"
".sums th, .sums td { border-bottom: 1px solid #dde2e8; }\n"
".sums tr:last-child > *, tfoot tr > * { border-top: 2px solid #23405e; border-bottom: 0; font-weight: 600; }\n"
".sums tr:last-child > * { font-size: 1.15em; }\n"
".lines .account { break-after: avoid; }\n"
".lines .account th { padding-top: .9rem; border-bottom: 1px solid #dde2e8; font-weight: 400; }\n"
".remittance { margin-top: 2rem; padding: .9rem 1.1rem; background: #f2f5f8; break-inside: avoid; }\n"
".remittance h2 { margin-top: 0; }\n"
".void { position: fixed; top: 50%; left: 50%; margin: 0; transform: translate(-50%, -50%) rotate(-28deg);"
" white-space: nowrap; font: 700 min(26vw, 13rem)/1 Helvetica, Arial, sans-serif; letter-spacing: .04em;"
" color: rgba(190, 30, 45, .22); pointer-events: none; }\n"
"svg { display: block; width: 100%; max-width: 44rem; height: auto; margin: 1rem 0 .5rem; }\n"
"@media screen and (max-width: 640px) {\n"
"body { padding: 1.25rem 1rem; }\n"
".stacked thead { display: none; }\n"
".stacked tbody, .stacked tfoot, .stacked tr, .stacked td, .stacked th { display: block; }\n"
".stacked tr { padding: .5rem 0; border-bottom: 1px solid #dde2e8; }\n"
".stacked td, .stacked th, .stacked tfoot tr > * { padding: .1rem 0; border: 0; white-space: normal; }\n"
".stacked td[data-label] { display: flex; justify-content: space-between; gap: 1rem; }\n"
".stacked td[data-label]::before { content: attr(data-label); flex: none; color: #56606e; }\n"
".stacked td:empty { display: none; }\n"
"}\n"
"@media print {\n"
"html { font-size: 11px; }\n"
"body { max-width: none; padding: 0; font-size: 9pt; line-height: 1.35; print-color-adjust: exact; -webkit-print-color-adjust: exact; }\n"
"th, td { padding-top: .27rem; padding-bottom: .27rem; }\n"
"thead { display: table-header-group; }\n"
"tfoot { display: table-row-group; }\n"
"}\n";

void
begin_page(StringInfo page, const char *title)
{
	append_markup(page, "<!DOCTYPE html>\n"
				  "<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
				  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
				  "<title>%s</title>\n<style>\n", title);
	appendStringInfoString(page, style);
	appendStringInfoString(page, "</style>\n</head>\n<body>\n");
}

/* Appends what the page is and who it is from, if that is known. */
void
append_letterhead(StringInfo page, const Figures *figures, const char *heading)
{
	char	   *name = get_text_figure(figures, 0, SELLER_NAME);
	char	   *address = get_text_figure(figures, 0, SELLER_ADDRESS);
	char	   *logo = get_text_figure(figures, 0, SELLER_LOGO);

	append_markup(page, "<header>\n<h1>%s</h1>\n", heading);
	if (name != NULL)
	{
		appendStringInfoString(page, "<div class=\"seller\">\n");
		if (logo != NULL)
			append_markup(page, "<img class=\"logo\" alt=\"\" src=\"%s\"/>\n", logo);
		append_markup(page, "<div class=\"name\"><bdi>%s</bdi></div>\n", name);
		if (address != NULL)
			append_markup(page, "<div class=\"address\" dir=\"auto\">%s</div>\n", address);
		appendStringInfoString(page, "</div>\n");
	}
	appendStringInfoString(page, "</header>\n");
}

/* Appends the customer; null for an address: none is known. */
void
append_customer(StringInfo page, const char *label, const char *name, const char *address)
{
	append_markup(page, "<div class=\"customer\">\n<div class=\"label\">%s</div>\n"
				  "<div class=\"name\"><bdi>%s</bdi></div>\n", label, name);
	if (address != NULL)
		append_markup(page, "<div class=\"address\" dir=\"auto\">%s</div>\n", address);
	appendStringInfoString(page, "</div>\n");
}

/* Appends a row of the table "facts"; none for a null. */
void
append_fact(StringInfo page, const char *name, const char *label, const char *value)
{
	if (value != NULL)
		append_markup(page, "<tr class=\"%s\"><th scope=\"row\">%s</th><td><bdi>%s</bdi></td></tr>\n", name, label,
					  value);
}

/* Appends a cell of a stacked table; an empty one for a null or blank. */
void
append_cell(StringInfo page, const char *name, const char *label, const char *value)
{
	if (value == NULL || *value == '\0')
		append_markup(page, "<td class=\"%s\"></td>", name);
	else
		append_markup(page, "<td class=\"%s\" data-label=\"%s\"><bdi>%s</bdi></td>", name, label, value);
}

/* Appends a cell of a stacked table with an amount, which may be blank. */
void
append_amount_cell(StringInfo page, const char *name, const char *label, const char *amount)
{
	append_markup(page, "<td class=\"amount %s\" data-label=\"%s\">%s</td>", name, label, amount);
}

/* Appends a row of a table "sums". */
void
append_sum(StringInfo page, const char *name, const char *label, const char *amount)
{
	append_markup(page, "<tr class=\"%s\"><th scope=\"row\">%s</th><td class=\"amount\">%s</td></tr>\n", name, label,
				  amount);
}

void
end_page(StringInfo page)
{
	appendStringInfoString(page, "</body>\n</html>\n");
}
