/*
 * markup.h
 *		The one way in which documents write HTML and SVG.
 */
#ifndef CREDITMEMO_MARKUP_H
#define CREDITMEMO_MARKUP_H

#include "lib/stringinfo.h"

extern void append_markup(StringInfo page, const char *format,...) pg_attribute_printf(2, 3);
extern void append_words(StringInfo document, bool is_page, const char *format,...)
			pg_attribute_printf(3, 4);
extern void append_escaped_lines(StringInfo page, const char *text);

#endif							/* CREDITMEMO_MARKUP_H */
