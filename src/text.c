/*
 * text.c
 *		Ids of accounts: compared byte by byte, as COLLATE "C" does, copied, and named in messages.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "creditmemo.h"

#define MAX_NAMED_ACCOUNTS 10

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
