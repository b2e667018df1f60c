/*
 * po.c
 *		The customer purchase order that a member account is assigned to.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "books.h"

/*
 * The number of the PO in force for the account at this moment, in the current memory context;
 * null if none.  The clock counts, not the start of the transaction: what another session assigned
 * and committed is in force.
 */
text *
po_in_force(Books *books, text *account_id)
{
	Datum		keys[2] = {PointerGetDatum(account_id), TimestampTzGetDatum(GetCurrentTimestamp())};
	text	   *po_number = NULL;
	RowScan		rows;

	begin_rows(&rows, books, PO_BY_TIME, BackwardScanDirection, 2, keys);
	if (next_row(&rows))
		po_number = copy_text(get_required_column(books, PO_ASSIGNMENT, rows.row, PO_NUMBER),
							  CurrentMemoryContext);
	end_rows(&rows);
	return po_number;
}
