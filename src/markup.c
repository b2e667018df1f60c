/*
 * markup.c
 *		The one way in which documents write HTML and SVG: what comes from a value is escaped.
 *
 * Pages are ASCII: any other character is written as a reference, so that they are right in whatever
 * encoding a client, a file or a mail keeps them.  They are well-formed XML, too.
 */
#include "postgres.h"

#include "creditmemo.h"
#include "markup.h"

#define REPLACEMENT_CHARACTER 0xFFFD

/* Whether a page can hold the character: HTML and XML have no controls and noncharacters. */
static bool
is_allowed(pg_wchar character)
{
	return !(is_control_character(character) && character != '\t') &&
		!(character >= 0xFDD0 && character <= 0xFDEF) &&
		(character & 0xFFFE) != 0xFFFE;
}

static void
append_character(StringInfo page, pg_wchar character)
{
	switch (character)
	{
		case '&':
			appendStringInfoString(page, "&amp;");
			break;
		case '<':
			appendStringInfoString(page, "&lt;");
			break;
		case '>':
			appendStringInfoString(page, "&gt;");
			break;
		case '"':
			appendStringInfoString(page, "&quot;");
			break;
		case '\'':
			appendStringInfoString(page, "&#39;");
			break;
		default:
			if (!is_allowed(character))
				character = REPLACEMENT_CHARACTER;
			if (character < 0x80)
				appendStringInfoChar(page, character);
			else
				appendStringInfo(page, "&#x%X;", character);
	}
}

/*
 * Appends a text in the server's encoding; the ends of its lines (LF, CR LF, CR, and Unicode's own)
 * become what is given for them.
 */
static void
append_escaped(StringInfo page, const char *text, const char *end_of_line)
{
	const unsigned char *s = (const unsigned char *) utf8_text(text);

	for (; *s != '\0'; s += pg_utf_mblen(s))
	{
		pg_wchar	character = utf8_to_unicode(s);

		if (character == '\r' && s[1] == '\n')
			continue;
		if (character == '\r' || character == '\n' || character == LINE_SEPARATOR ||
			character == PARAGRAPH_SEPARATOR)
			appendStringInfoString(page, end_of_line);
		else
			append_character(page, character);
	}
}

/*
 * Appends markup.  The format is markup as it stands, but for %s: an argument that is escaped, fit
 * for text and for the values of attributes, and %d.
 */
void
append_markup(StringInfo page, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	for (const char *c = format; *c != '\0'; c++)
	{
		size_t		length = strcspn(c, "%");

		if (length > 0)
		{
			appendBinaryStringInfo(page, c, length);
			c += length - 1;
		}
		else if (*++c == 's')
			append_escaped(page, va_arg(arguments, const char *), "\n");
		else if (*c == 'd')
			appendStringInfo(page, "%d", va_arg(arguments, int));
		else if (*c == '%')
			appendStringInfoChar(page, '%');
		else
			elog(ERROR, "unknown conversion %%%c in markup", *c);
	}
	va_end(arguments);
}

/*
 * Appends words to a page, or to plain text.  The format is words as they stand, but for %s: an
 * argument, which is escaped and isolated on a page, so that names written from right to left leave
 * the words around them in order.
 */
void
append_words(StringInfo document, bool is_page, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	for (const char *value; (value = strstr(format, "%s")) != NULL; format = value + 2)
	{
		appendBinaryStringInfo(document, format, value - format);
		if (is_page)
			append_markup(document, "<bdi>%s</bdi>", va_arg(arguments, const char *));
		else
			appendStringInfoString(document, va_arg(arguments, const char *));
	}
	appendStringInfoString(document, format);
	va_end(arguments);
}

/* Appends a text, escaped, with a break at the end of each line. */
void
append_escaped_lines(StringInfo page, const char *text)
{
	append_escaped(page, text, "<br/>");
}
