/*
 * books.h
 *		The extension's tables, opened for one call: rows found, locked and written.
 *
 * Rows are read by index and written through the table access method, as the executor and logical
 * replication do, with constraints, indexes and row triggers done by the server; but not domains, see
 * set_cents(), nor foreign keys to rows that the same call holds.
 * There is no SQL on this path: nothing to plan, so nothing planned for one row and run for a
 * million, and no name to resolve for whoever's search_path.
 */
#ifndef CREDITMEMO_BOOKS_H
#define CREDITMEMO_BOOKS_H

#include "access/htup.h"
#include "access/relscan.h"
#include "access/sdir.h"
#include "executor/tuptable.h"
#include "nodes/lockoptions.h"

#include "creditmemo.h"

typedef struct Books Books;

typedef enum BooksTable
{
	CUSTOMER,
	PAYER_ACCOUNT,
	MEMBER_ACCOUNT,
	PO_ASSIGNMENT,
	CREDIT_MEMO,
	UTILIZATION,
	BILLING,
	MEMO_ENTRY,
	INVOICE,
	VOIDED_BILLING,
	VOIDED_LINE,
	PERIOD_CLOSING
} BooksTable;
#define BOOKS_TABLES (PERIOD_CLOSING + 1)

/* The columns that the C code reads or writes, by table. */
enum
{
	CUSTOMER_ID, CUSTOMER_NAME, CUSTOMER_ADDRESS, CUSTOMER_CURRENCY, CUSTOMER_PAYMENT_TERMS_DAYS
};
enum
{
	PAYER_ACCOUNT_ID
};
enum
{
	ACCOUNT_ID, ACCOUNT_PAYER_ACCOUNT_ID, ACCOUNT_CUSTOMER_ID, ACCOUNT_NAME, ACCOUNT_CLOSED_THROUGH
};
enum
{
	PO_ACCOUNT_ID, PO_ASSIGNED_AT, PO_NUMBER
};
enum
{
	MEMO_ACCOUNT_ID, MEMO_ID, MEMO_NUMBER, MEMO_CREDIT_TYPE, MEMO_AMOUNT, MEMO_BALANCE, MEMO_ENTRIES,
	MEMO_REDEEMED_ON, MEMO_FIRST_PERIOD, MEMO_EXPIRES_ON, MEMO_LAST_PERIOD, MEMO_SERVICES, MEMO_PRIORITY,
	MEMO_PO_NUMBER, MEMO_NOTE, MEMO_PROVIDER_CREDIT_ID, MEMO_VOIDED_AT, MEMO_VOID_REASON,
	MEMO_RECORDED_AT
};
enum
{
	LINE_SERVICE_PERIOD, LINE_ACCOUNT_ID, LINE_UTILIZATION_ID, LINE_SERVICE, LINE_DESCRIPTION,
	LINE_AMOUNT, LINE_CREDITABLE, LINE_SOURCE_ID, LINE_BILLING_NO, LINE_RECORDED_AT
};
enum
{
	BILLING_ACCOUNT_ID, BILLING_SERVICE_PERIOD, BILLING_NO, BILLING_UTILIZATION,
	BILLING_CREDITABLE, BILLING_CREDIT, BILLING_FOLDED_INTO, BILLING_INVOICE_NUMBER,
	BILLING_PO_NUMBER, BILLING_PAYER_ACCOUNT_ID, BILLING_ACCOUNT_NAME, BILLING_PRIOR_BALANCE,
	BILLING_BALANCE_AFTER
};
enum
{
	ENTRY_ACCOUNT_ID, ENTRY_MEMO_ID, ENTRY_NO, ENTRY_TYPE, ENTRY_AMOUNT, ENTRY_BALANCE_AFTER,
	ENTRY_SERVICE_PERIOD, ENTRY_BILLING_NO, ENTRY_SERVICE, ENTRY_REVERSES, ENTRY_RECORDED_AT
};
enum
{
	INVOICE_NUMBER, INVOICE_CUSTOMER_ID, INVOICE_CUSTOMER_NAME, INVOICE_CUSTOMER_ADDRESS,
	INVOICE_SERVICE_PERIOD, INVOICE_DATE, INVOICE_DUE_DATE, INVOICE_VOIDED_AT,
	INVOICE_VOID_REASON, INVOICE_RECORDED_AT
};
enum
{
	VOIDED_ACCOUNT_ID, VOIDED_INVOICE_NUMBER, VOIDED_SERVICE_PERIOD, VOIDED_BILLING_NO,
	VOIDED_UTILIZATION, VOIDED_CREDITABLE, VOIDED_CREDIT, VOIDED_PO_NUMBER, VOIDED_ACCOUNT_NAME,
	VOIDED_PRIOR_BALANCE, VOIDED_BALANCE_AFTER
};
enum
{
	VOIDED_LINE_ACCOUNT_ID, VOIDED_LINE_INVOICE_NUMBER, VOIDED_LINE_NO, VOIDED_LINE_SERVICE,
	VOIDED_LINE_UTILIZATION, VOIDED_LINE_CREDITABLE, VOIDED_LINE_LINES
};
enum
{
	CLOSING_SERVICE_PERIOD, CLOSING_PAYER_ACCOUNT_ID, CLOSING_ACTION, CLOSING_REASON,
	CLOSING_ACCOUNTS, CLOSING_RECORDED_AT
};
#define MAX_COLUMNS (MEMO_RECORDED_AT + 1)

/* The ways in which rows are looked up: by the first so many columns of an index. */
typedef enum BooksLookup
{
	CUSTOMER_BY_ID,				/* customer_id */
	PAYER_BY_ID,				/* payer_account_id */
	ACCOUNT_BY_ID,				/* account_id */
	ACCOUNTS_OF_CUSTOMER,		/* customer_id */
	PO_BY_TIME,					/* account_id, assigned_at: up to the time given */
	MEMOS_OF_ACCOUNT,			/* account_id, memo_id */
	MEMOS_BY_NUMBER,			/* memo_number, account_id */
	LINES_OF_PERIOD,			/* service_period, account_id, utilization_id */
	BILLINGS_OF_ACCOUNT,		/* account_id, service_period, billing_no */
	BILLINGS_OF_INVOICE,		/* invoice_number, account_id */
	ENTRIES_OF_MEMO,			/* account_id, memo_id, entry_no */
	ENTRIES_OF_PERIOD,			/* account_id, service_period, billing_no */
	INVOICE_BY_NUMBER			/* invoice_number */
} BooksLookup;
#define BOOKS_LOOKUPS (INVOICE_BY_NUMBER + 1)
#define MAX_LOOKUP_COLUMNS 3

extern Oid	extension_schema(FunctionCallInfo fcinfo);
extern void require_writable_transaction(const char *function);
extern Books *open_books(FunctionCallInfo fcinfo);
extern void close_books(Books *books);
extern void look_again(Books *books);

typedef struct RowScan
{
	Books	   *books;
	BooksTable	table;
	IndexScanDesc scan;
	ScanDirection direction;
	TupleTableSlot *row;
} RowScan;

extern void begin_rows(RowScan *rows, Books *books, BooksLookup lookup,
					   ScanDirection direction, int nkeys, const Datum *keys);
extern bool next_row(RowScan *rows);
extern void end_rows(RowScan *rows);
extern bool find_row(Books *books, BooksLookup lookup, int nkeys, const Datum *keys,
					 TupleTableSlot **row);

extern bool lock_row(Books *books, BooksTable table, TupleTableSlot *row, LockTupleMode mode,
					 LockWaitPolicy policy);
extern HeapTuple copy_row(TupleTableSlot *row);
extern Datum written_row(Books *books, BooksLookup lookup, int nkeys, const Datum *keys);

extern const AttrNumber *column_numbers(Books *books, BooksTable table);
extern AttrNumber column_number(Books *books, BooksTable table, int column);
extern Datum get_column(Books *books, BooksTable table, TupleTableSlot *row, int column,
						bool *isnull);
extern Datum get_required_column(Books *books, BooksTable table, TupleTableSlot *row,
								 int column);
extern int64 get_cents(Books *books, BooksTable table, TupleTableSlot *row, int column);

/* A row to be written: the columns that have been set, the others null or as they were. */
typedef struct RowValues
{
	Datum		value[MAX_COLUMNS];
	bool		isset[MAX_COLUMNS];
	bool		isnull[MAX_COLUMNS];
} RowValues;

extern void set_column(RowValues *values, int column, Datum value);
extern void set_cents(RowValues *values, int column, int64 cents);
extern void set_null(RowValues *values, int column);
extern void insert_row(Books *books, BooksTable table, const RowValues *values);
extern void update_row(Books *books, BooksTable table, HeapTuple row, const RowValues *values);

/* invoice.c */
extern bool is_account_of_customer(Books *books, text *account_id, const text *customer_id);

/* po.c */
extern text *po_in_force(Books *books, text *account_id);

#endif							/* CREDITMEMO_BOOKS_H */
