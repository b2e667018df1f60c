/*
 * open_books.h
 *		What the books are made of: for reading (books.c) and writing (write.c), and nobody else.
 */
#ifndef CREDITMEMO_OPEN_BOOKS_H
#define CREDITMEMO_OPEN_BOOKS_H

#include "nodes/execnodes.h"
#include "utils/elog.h"

#include "books.h"

typedef struct TableNames
{
	const char *name;
	LOCKMODE	lockmode;
	const char *column[MAX_COLUMNS];
} TableNames;

extern const TableNames table_names[BOOKS_TABLES];

/* What it takes to insert into a table, or to update it. */
typedef struct Target
{
	ResultRelInfo *info;		/* null: has not been used yet */
	Oid		   *indexids;
	/* until the books are closed */
	bool		is_open;		/* has its table and indexes */
	bool		is_readable;	/* for the caller */
} Target;

/* A table: what is known of it, and what it takes to read and write it. */
typedef struct OpenTable
{
	/* kept with the books */
	Oid			relid;			/* invalid: not known yet */
	AttrNumber	attno[MAX_COLUMNS];
	TupleDesc	descriptor;
	TupleTableSlot *found;		/* the row of find_row() */
	TupleTableSlot *replaced;
	TupleTableSlot *written;
	Target		insert;
	Target		update;
	/* until the books are closed */
	Relation	rel;			/* null: not opened yet */
} OpenTable;

/* The index of a look-up, and scans by their number of keys. */
typedef struct OpenLookup
{
	Oid			indexid;
	Relation	index;			/* null: not opened yet */
	IndexScanDesc scan[MAX_LOOKUP_COLUMNS + 1];
} OpenLookup;

struct Books
{
	/* kept for the session */
	MemoryContext context;
	Oid			schema;
	bool		has_siblings;	/* not the schema's own tables, but these: */
	Oid			sibling[BOOKS_TABLES];
	Oid			extension;
	uint64		changes;		/* how many changes of tables had been seen */
	bool		is_plain;		/* nothing of others on the tables that were written to */
	EState	   *estate;
	OpenTable	table[BOOKS_TABLES];
	OpenLookup	lookup[BOOKS_LOOKUPS];
	/* until they are closed */
	struct OpenBooks *open;
	Snapshot	snapshot;
	bool		is_writing;
	bool		is_writing_unreadable;	/* a row that the caller has no right to read */
	ErrorContextCallback explain;
};

extern OpenTable *get_table(Books *books, BooksTable table);

#endif							/* CREDITMEMO_OPEN_BOOKS_H */
