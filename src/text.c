/*
 * text.c
 *		Ids of accounts: compared byte by byte, as COLLATE "C" does, copied, and named in messages;
 *		reasons that people give; texts on a line.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "creditmemo.h"

#define MAX_NAMED_ACCOUNTS 10

/* Zeroed memory in the current context, of any size: statements may have millions of accounts. */
void *
allocate_huge(Size size)
{
	return MemoryContextAllocExtended(CurrentMemoryContext, size,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

/* Less than, equal to or greater than 0, in the order of COLLATE "C". */
int
compare_text(const text *a, const text *b)
{
	int			a_size = VARSIZE_ANY_EXHDR(a);
	int			b_size = VARSIZE_ANY_EXHDR(b);
	int			result = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(a_size, b_size));

	return result != 0 ? result : a_size - b_size;
}

/* The same for the cells of a list of texts. */
int
compare_text_cells(const ListCell *a, const ListCell *b)
{
	return compare_text(lfirst(a), lfirst(b));
}

/* A plain copy, in the context, of a text that may be compressed or toasted. */
text *
copy_text(Datum value, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	text	   *copy = DatumGetTextPCopy(value);

	MemoryContextSwitchTo(caller);
	return copy;
}

/* The reason that a function was given; raises an error if it is null or blank. */
text *
get_reason(FunctionCallInfo fcinfo, int argument)
{
	text	   *reason;

	if (PG_ARGISNULL(argument))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a reason must be given"),
				 errhint("Say with reason => '...' what whoever reads the books later needs to know.")));
	reason = PG_GETARG_TEXT_PP(argument);
	if (strspn(text_to_cstring(reason), " \t\n\r") == VARSIZE_ANY_EXHDR(reason))
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("the reason is empty"),
				 errhint("Say what whoever reads the books later needs to know.")));
	return reason;
}

/* The accounts as a message names them: at most ten, then a count. */
char *
account_list_text(List *account_ids)
{
	StringInfoData names;
	ListCell   *cell;

	initStringInfo(&names);
	foreach(cell, account_ids)
	{
		if (foreach_current_index(cell) == MAX_NAMED_ACCOUNTS)
		{
			appendStringInfo(&names, " and %d more",
							 list_length(account_ids) - MAX_NAMED_ACCOUNTS);
			break;
		}
		appendStringInfo(&names, "%s%s", foreach_current_index(cell) > 0 ? ", " : "",
						 text_to_cstring(lfirst(cell)));
	}
	return names.data;
}

/*
 * The text in UTF-8.  Where the server does not know its encoding, and it is not UTF-8, question marks
 * stand for what is not ASCII.
 */
char *
utf8_text(const char *text)
{
	int			length = strlen(text);
	char	   *copy;

	if (GetDatabaseEncoding() != PG_SQL_ASCII)
		return pg_server_to_any(text, length, PG_UTF8);
	copy = pstrdup(text);
	if (!pg_verify_mbstr(PG_UTF8, text, length, true))
		for (char *c = copy; *c != '\0'; c++)
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
	return copy;
}

/* Whether the character controls instead of being written, as ends of lines do and escapes. */
bool
is_control_character(pg_wchar character)
{
	return character < 0x20 || (character >= 0x7F && character <= 0x9F) ||
		character == LINE_SEPARATOR || character == PARAGRAPH_SEPARATOR;
}

/* A copy with a space for each control character: fit for a header of a mail, or a line of a table. */
char *
single_line(const char *text)
{
	StringInfoData line;

	initStringInfo(&line);
	for (const char *c = utf8_text(text); *c != '\0'; c += pg_utf_mblen((const unsigned char *) c))
		if (is_control_character(utf8_to_unicode((const unsigned char *) c)))
			appendStringInfoChar(&line, ' ');
		else
			appendBinaryStringInfo(&line, c, pg_utf_mblen((const unsigned char *) c));
	return pg_any_to_server(line.data, line.len, PG_UTF8);
}

/* How many columns of a terminal the text takes; control characters count as one. */
int
text_width(const char *text)
{
	int			width = 0;

	for (; *text != '\0'; text += pg_mblen(text))
		width += pg_dsplen(text) >= 0 ? pg_dsplen(text) : 1;
	return width;
}
