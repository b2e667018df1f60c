/*
 * statement.h
 *		Where a member account's credit went over some months, and how long the rest will last.
 */
#ifndef CREDITMEMO_STATEMENT_H
#define CREDITMEMO_STATEMENT_H

#include "page.h"

/* What a month changed, and what was left at its end; in cents, signed as it moves the balance. */
typedef struct StatementMonth
{
	DateADT		service_period;
	bool		is_projected;
	int64		issued;
	int64		used;
	int64		lapsed;			/* void or expired */
	int64		balance;
} StatementMonth;

/* A memo as of the statement's end, in cents. */
typedef struct StatementMemo
{
	char	   *memo_number;
	char	   *terms;			/* what it is and when it expires; markup on a page */
	char	   *po_number;
	char	   *note;			/* null: none */
	bool		is_limited;		/* to services */
	DateADT		first_period;
	DateADT		last_period;	/* DATEVAL_NOEND: for ever */
	char	   *expires_on;		/* null: never */
	int64		issued;
	int64		used;
	int64		lapsed;
	int64		balance;
} StatementMemo;

typedef struct StatementMovement
{
	bool		is_earlier;		/* of months before the statement's, taken together */
	char	   *recorded_on;
	char	   *period;
	const char *movement;
	char	   *service;		/* null: for whatever it was */
	char	   *memo_number;
	char	   *invoice;
	int64		amount;
	int64		balance;		/* of the account */
} StatementMovement;

typedef struct Statement
{
	bool		is_page;		/* or plain text */
	Figures    *account;
	const char *currency;
	DateADT		from_period;
	DateADT		to_period;
	bool		is_empty;		/* nothing has ever happened, and no periods were given */
	int64		opening;
	StatementMonth total;		/* of the months but for projected ones */
	StatementMonth *months;
	int			nmonths;
	StatementMemo *memos;		/* in the order in which they are spent */
	int			nmemos;
	StatementMovement *movements;	/* in the order in which they were recorded */
	int			nmovements;
	bool		has_returned;	/* credit that a month had used */
	char	   *projection;		/* sentences, markup on a page; null: there is nothing to project */
} Statement;

enum
{
	ACCOUNT_ACCOUNT_ID = SELLER_END, ACCOUNT_ACCOUNT_NAME, ACCOUNT_CUSTOMER_ID,
	ACCOUNT_CUSTOMER_NAME, ACCOUNT_CUSTOMER_ADDRESS, ACCOUNT_CURRENCY, ACCOUNT_USE_MONTHS,
	ACCOUNT_USE_MONTHLY, ACCOUNT_FIRST_PERIOD, ACCOUNT_LAST_PERIOD
};

/* statement.c */
extern const char nothing_yet[];
extern const char month_note[];
extern char *statement_amount(const Statement *statement, int64 cents);
extern char *statement_periods(const Statement *statement);
extern char *opening_label(const Statement *statement);
extern char *closing_label(const Statement *statement);

/* statement_page.c */
extern void append_statement_page(StringInfo page, const Statement *statement);

/* statement_text.c */
extern void append_statement_text(StringInfo text, const Statement *statement);

/* chart.c */
extern void append_chart(StringInfo page, const Statement *statement);

#endif							/* CREDITMEMO_STATEMENT_H */
