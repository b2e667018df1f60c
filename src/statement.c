/*
 * statement.c
 *		Where a member account's credit went over some months, and how long the rest will last.
 *
 * What happened comes from the views credit_month and credit_movement; what is added here is running
 * balances and the projection: the mean use of the last billed months, spent from the memos in
 * their order, each until its last period.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "statement.h"

SQL_FUNCTION(statement_html);
SQL_FUNCTION(statement_text);

#define MAX_STATEMENT_MONTHS 1200
#define PROJECTED_MONTHS 12		/* shown at most */
#define MAX_NAMED_MEMOS 3		/* in sentences */

/* the last date less the months of a projection */
#define MAX_PROJECTED_FROM (DATE_END_JULIAN - POSTGRES_EPOCH_JDATE - 32 * MAX_STATEMENT_MONTHS)

static FigureQuery account_query = {
	"SELECT " SELLER_COLUMNS ", a.account_id, a.name, c.customer_id, c.name, c.address, c.currency, u.months, "
	"CASE WHEN u.monthly OPERATOR(pg_catalog.>) 0 "
	"THEN GREATEST(pg_catalog.round(u.monthly, 2), 0.01) ELSE 0 END, span.first, span.last "
	"FROM creditmemo.member_account a "
	"JOIN creditmemo.customer c ON c.customer_id OPERATOR(pg_catalog.=) "
	"CASE WHEN $2 OPERATOR(pg_catalog.=) '' THEN a.customer_id ELSE $2 END "
	"JOIN creditmemo.credit_use u ON u.account_id OPERATOR(pg_catalog.=) a.account_id "
	"LEFT JOIN creditmemo.seller s ON true "
	"CROSS JOIN LATERAL (SELECT pg_catalog.min(p.period), pg_catalog.max(p.period) FROM ("
	"SELECT m.statement_period::pg_catalog.date FROM creditmemo.credit_month m "
	"WHERE m.account_id OPERATOR(pg_catalog.=) a.account_id "
	"AND m.customer_id OPERATOR(pg_catalog.=) "
	"CASE WHEN $2 OPERATOR(pg_catalog.=) '' THEN a.customer_id ELSE $2 END "
	"UNION ALL SELECT b.service_period::pg_catalog.date FROM creditmemo.billing b "
	"LEFT JOIN creditmemo.invoice i ON i.invoice_number OPERATOR(pg_catalog.=) b.invoice_number "
	"WHERE b.account_id OPERATOR(pg_catalog.=) a.account_id AND b.folded_into IS NULL "
	"AND COALESCE(i.customer_id, a.customer_id) OPERATOR(pg_catalog.=) "
	"CASE WHEN $2 OPERATOR(pg_catalog.=) '' THEN a.customer_id ELSE $2 END) p (period)"
	") span (first, last) "
	"WHERE a.account_id OPERATOR(pg_catalog.=) $1", 2, {TEXTOID, TEXTOID}
};

enum
{
	MONTH_PERIOD = 1, MONTH_ISSUED, MONTH_USED, MONTH_LAPSED, MONTH_CHANGE
};
static FigureQuery month_query = {
	"SELECT statement_period, issued, used, lapsed, change FROM creditmemo.credit_month "
	"WHERE account_id OPERATOR(pg_catalog.=) $1 AND customer_id OPERATOR(pg_catalog.=) $2 "
	"AND statement_period OPERATOR(pg_catalog.<=) $3 ORDER BY statement_period",
	3, {TEXTOID, TEXTOID, DATEOID}
};

enum
{
	MEMO_NUMBER = 1, MEMO_CREDIT_TYPE, MEMO_PO_NUMBER, MEMO_NOTE, MEMO_REDEEMED_ON,
	MEMO_FIRST_PERIOD, MEMO_EXPIRES_ON, MEMO_LAST_PERIOD, MEMO_SERVICES, MEMO_ISSUED, MEMO_USED,
	MEMO_LAPSED, MEMO_BALANCE, MEMO_LAST_MOVEMENT
};
static FigureQuery memo_query = {
	"SELECT m.memo_number, m.credit_type, m.po_number, m.note, m.redeemed_on, m.first_period, "
	"m.expires_on, m.last_period, pg_catalog.array_to_string(m.services, ', '), "
	"moved.issued, moved.used, moved.lapsed, moved.balance, moved.last "
	"FROM creditmemo.credit_memo m "
	"CROSS JOIN LATERAL (SELECT "
	"pg_catalog.sum(v.issued) AS issued, pg_catalog.sum(v.used) AS used, "
	"pg_catalog.sum(v.lapsed) AS lapsed, "
	"pg_catalog.sum(v.amount) AS balance, pg_catalog.max(v.statement_period) AS last "
	"FROM creditmemo.credit_movement v "
	"WHERE v.account_id OPERATOR(pg_catalog.=) m.account_id "
	"AND v.memo_id OPERATOR(pg_catalog.=) m.memo_id "
	"AND v.customer_id OPERATOR(pg_catalog.=) $2 "
	"AND v.statement_period OPERATOR(pg_catalog.<=) $3) moved "
	"WHERE m.account_id OPERATOR(pg_catalog.=) $1 AND moved.balance IS NOT NULL "
	"ORDER BY m.priority, m.expires_on NULLS LAST, pg_catalog.cardinality(m.services) NULLS LAST, "
	"m.redeemed_on, m.memo_id", 3, {TEXTOID, TEXTOID, DATEOID}
};

enum
{
	MOVEMENT_RECORDED_ON = 1, MOVEMENT_PERIOD, MOVEMENT_ENTRY_TYPE, MOVEMENT_MEMO_NUMBER,
	MOVEMENT_SERVICE, MOVEMENT_IS_BILLED, MOVEMENT_INVOICE_NUMBER, MOVEMENT_AMOUNT
};
static FigureQuery movement_query = {
	"SELECT pg_catalog.date(recorded_at), statement_period, entry_type, memo_number, service, "
	"service_period IS NOT NULL, invoice_number, amount "
	"FROM creditmemo.credit_movement "
	"WHERE account_id OPERATOR(pg_catalog.=) $1 AND customer_id OPERATOR(pg_catalog.=) $2 "
	"AND statement_period OPERATOR(pg_catalog.<=) $3 "
	"ORDER BY recorded_at, memo_id, entry_no", 3, {TEXTOID, TEXTOID, DATEOID}
};

/* ---------------------------------------------------------------------------------------------
 * Words
 * ---------------------------------------------------------------------------------------------
 */

const char nothing_yet[] = "There is no credit and no utilization of this customer.";
const char month_note[] =
"Credit that was returned counts in the month that had used it: a balance may differ from the one "
"that was invoiced then.";

char *
statement_amount(const Statement *statement, int64 cents)
{
	return money_text(DatumGetNumeric(numeric_from_cents(cents)), statement->currency);
}

char *
statement_periods(const Statement *statement)
{
	char	   *from = service_period_text(statement->from_period);

	return statement->from_period == statement->to_period ? from :
		psprintf("%s to %s", from, service_period_text(statement->to_period));
}

char *
opening_label(const Statement *statement)
{
	return psprintf("Balance before %s", service_period_text(statement->from_period));
}

char *
closing_label(const Statement *statement)
{
	return psprintf("Balance at the end of %s", service_period_text(statement->to_period));
}

/* What a memo is, and from when to when it pays. */
static char *
memo_terms(const Statement *statement, const Figures *memos, uint64 row)
{
	StringInfoData terms;
	char	   *services = get_text_figure(memos, row, MEMO_SERVICES);

	initStringInfo(&terms);
	append_words(&terms, statement->is_page, "%s, redeemed %s, ",
				 get_text_figure(memos, row, MEMO_CREDIT_TYPE),
				 long_date_text(get_date_figure(memos, row, MEMO_REDEEMED_ON)));
	if (figure_is_null(memos, row, MEMO_EXPIRES_ON))
		appendStringInfoString(&terms, "does not expire");
	else
		append_words(&terms, statement->is_page, "expires %s",
					 long_date_text(get_date_figure(memos, row, MEMO_EXPIRES_ON)));
	if (services != NULL)
		append_words(&terms, statement->is_page, ", for %s only", services);
	return terms.data;
}

/* What a movement is called. */
static const char *
movement_name(const char *entry_type)
{
	static const char *const names[][2] = {
		{"issue", "Issued"}, {"apply", "Applied"}, {"release", "Returned"}, {"void", "Voided"},
		{"expire", "Expired"}, {"restore", "Restored"},
	};

	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(names[i][0], entry_type) == 0)
			return names[i][1];
	elog(ERROR, "unknown type of entry \"%s\"", entry_type);
	return NULL;				/* keep compiler quiet */
}

/* ---------------------------------------------------------------------------------------------
 * What happened
 * ---------------------------------------------------------------------------------------------
 */

/* The memos, but for those that had ended before the statement begins. */
static void
read_memos(Statement *statement, Datum *arguments)
{
	Figures    *memos = read_figures(&memo_query, arguments);

	statement->memos = palloc0(Max(memos->numvals, 1) * sizeof(StatementMemo));
	for (uint64 i = 0; i < memos->numvals; i++)
	{
		StatementMemo *memo = &statement->memos[statement->nmemos];
		bool		expires = !figure_is_null(memos, i, MEMO_EXPIRES_ON);

		memo->balance = get_cents_figure(memos, i, MEMO_BALANCE);
		if (memo->balance == 0 &&
			get_date_figure(memos, i, MEMO_LAST_MOVEMENT) < statement->from_period)
			continue;
		statement->nmemos++;
		memo->memo_number = get_text_figure(memos, i, MEMO_NUMBER);
		memo->terms = memo_terms(statement, memos, i);
		memo->is_limited = !figure_is_null(memos, i, MEMO_SERVICES);
		memo->po_number = get_text_figure(memos, i, MEMO_PO_NUMBER);
		memo->note = get_text_figure(memos, i, MEMO_NOTE);
		memo->first_period = get_date_figure(memos, i, MEMO_FIRST_PERIOD);
		memo->last_period = expires ? get_date_figure(memos, i, MEMO_LAST_PERIOD) : DATEVAL_NOEND;
		memo->expires_on = expires ?
			long_date_text(get_date_figure(memos, i, MEMO_EXPIRES_ON)) : NULL;
		memo->issued = get_cents_figure(memos, i, MEMO_ISSUED);
		memo->used = get_cents_figure(memos, i, MEMO_USED);
		memo->lapsed = get_cents_figure(memos, i, MEMO_LAPSED);
	}
}

/* What a movement of the statement's months is. */
static void
describe_movement(StatementMovement *movement, const Figures *movements, uint64 row)
{
	movement->recorded_on = date_text(get_date_figure(movements, row, MOVEMENT_RECORDED_ON));
	movement->period = short_period_text(get_date_figure(movements, row, MOVEMENT_PERIOD));
	movement->movement = movement_name(get_text_figure(movements, row, MOVEMENT_ENTRY_TYPE));
	movement->service = get_text_figure(movements, row, MOVEMENT_SERVICE);
	movement->memo_number = get_text_figure(movements, row, MOVEMENT_MEMO_NUMBER);
	movement->invoice = get_text_figure(movements, row, MOVEMENT_INVOICE_NUMBER);
	if (movement->invoice == NULL)
		movement->invoice = get_flag_figure(movements, row, MOVEMENT_IS_BILLED) ?
			"not invoiced yet" : "";
}

/* Movements of earlier months that were recorded one after the other are one movement here. */
static StatementMovement *
earlier_months(Statement *statement)
{
	StatementMovement *movement;

	if (statement->nmovements > 0 &&
		statement->movements[statement->nmovements - 1].is_earlier)
		return &statement->movements[statement->nmovements - 1];
	movement = &statement->movements[statement->nmovements++];
	movement->is_earlier = true;
	movement->recorded_on = movement->period = movement->memo_number = movement->invoice = "";
	movement->movement = "Earlier months";
	return movement;
}

/*
 * The movements in the order in which they were recorded, with those of earlier months between them
 * where some were: so the running balance is one that there was, but for later months' movements.
 */
static void
read_movements(Statement *statement, Datum *arguments)
{
	Figures    *movements = read_figures(&movement_query, arguments);
	int64		balance = 0;

	statement->movements = palloc0(Max(movements->numvals, 1) * sizeof(StatementMovement));
	for (uint64 row = 0; row < movements->numvals; row++)
	{
		int64		amount = get_cents_figure(movements, row, MOVEMENT_AMOUNT);
		StatementMovement *movement;

		if (get_date_figure(movements, row, MOVEMENT_PERIOD) < statement->from_period)
			movement = earlier_months(statement);
		else
		{
			movement = &statement->movements[statement->nmovements++];
			describe_movement(movement, movements, row);
		}
		if (strcmp(get_text_figure(movements, row, MOVEMENT_ENTRY_TYPE), "release") == 0)
			statement->has_returned = true;
		movement->amount += amount;
		balance += amount;
		movement->balance = balance;
	}
}

/* The last month with anything in it, within the statement; before its first: there is none. */
static DateADT
last_month(const Statement *statement)
{
	return figure_is_null(statement->account, 0, ACCOUNT_LAST_PERIOD) ? DATEVAL_NOBEGIN :
		Min(statement->to_period, get_date_figure(statement->account, 0, ACCOUNT_LAST_PERIOD));
}

/* The opening balance, the months up to the last one with anything in it, and their total. */
static void
read_months(Statement *statement, Datum *arguments)
{
	Figures    *figures = read_figures(&month_query, arguments);
	DateADT		last = last_month(statement);

	if (last >= statement->from_period)
		statement->nmonths = months_between(statement->from_period, last) + 1;
	statement->months = palloc0((statement->nmonths + PROJECTED_MONTHS) * sizeof(StatementMonth));
	for (int i = 0; i < statement->nmonths; i++)
		statement->months[i].service_period = add_months(statement->from_period, i);

	for (uint64 row = 0; row < figures->numvals; row++)
	{
		DateADT		service_period = get_date_figure(figures, row, MONTH_PERIOD);
		int64		change = get_cents_figure(figures, row, MONTH_CHANGE);
		StatementMonth *month;

		if (service_period < statement->from_period)
		{
			statement->opening += change;
			continue;
		}
		if (service_period > last)
			elog(ERROR, "a movement is after the last month");
		month = &statement->months[months_between(statement->from_period, service_period)];
		month->issued = get_cents_figure(figures, row, MONTH_ISSUED);
		month->used = get_cents_figure(figures, row, MONTH_USED);
		month->lapsed = get_cents_figure(figures, row, MONTH_LAPSED);
	}

	statement->total.balance = statement->opening;
	for (int i = 0; i < statement->nmonths; i++)
	{
		StatementMonth *month = &statement->months[i];

		statement->total.issued += month->issued;
		statement->total.used += month->used;
		statement->total.lapsed += month->lapsed;
		statement->total.balance += month->issued + month->used + month->lapsed;
		month->balance = statement->total.balance;
	}
}

/* ---------------------------------------------------------------------------------------------
 * What is to be expected
 * ---------------------------------------------------------------------------------------------
 */

/* The memos' balances as they would go on, and what is to be said of that. */
typedef struct Projection
{
	DateADT		last;			/* the last month with anything in it */
	int64	   *left;			/* by memo */
	int64		monthly;		/* use */
	int			nnamed;			/* memos that the sentences name */
	int			nothers;		/* memos likewise that they do not */
	int64		others;
	StringInfoData sentences;
} Projection;

/* Appends a sentence about what is left of a memo, and what its expiry does to it; the first few. */
static void
append_expiry_sentence(const Statement *statement, Projection *projection, int memo,
					   const char *what)
{
	if (projection->nnamed == MAX_NAMED_MEMOS)
	{
		projection->nothers++;
		projection->others += projection->left[memo];
		return;
	}
	projection->nnamed++;
	append_words(&projection->sentences, statement->is_page, "  %s of %s",
				 statement_amount(statement, projection->left[memo]),
				 statement->memos[memo].memo_number);
	appendStringInfo(&projection->sentences, " %s %s.", what, statement->memos[memo].expires_on);
}

/* Ends what is left of the memos whose last period is that one, or was before; returns how much. */
static int64
end_memos(const Statement *statement, Projection *projection, DateADT service_period,
		  const char *what)
{
	int64		ended = 0;

	for (int i = 0; i < statement->nmemos; i++)
	{
		if (statement->memos[i].last_period > service_period || projection->left[i] == 0)
			continue;
		append_expiry_sentence(statement, projection, i, what);
		ended += projection->left[i];
		projection->left[i] = 0;
	}
	return ended;
}

/* Spends a month's use from the memos in their order; returns how much they had for it. */
static int64
spend_projected(const Statement *statement, Projection *projection, DateADT service_period)
{
	int64		used = 0;

	for (int i = 0; i < statement->nmemos && used < projection->monthly; i++)
	{
		int64		part = Min(projection->left[i], projection->monthly - used);

		if (service_period < statement->memos[i].first_period)
			continue;
		projection->left[i] -= part;
		used += part;
	}
	return used;
}

/*
 * Adds the months to come, the first of which loses what has ended already, until nothing is left, or
 * as many as are shown.  Returns when nothing is left; 0: not in a lifetime.
 */
static DateADT
project_months(Statement *statement, Projection *projection, int64 ended)
{
	StatementMonth month = {.is_projected = true,.balance = statement->total.balance};

	for (int n = 1; month.balance > 0; n++)
	{
		if (n > MAX_STATEMENT_MONTHS)
			return 0;
		month.service_period = add_months(projection->last, n);
		month.used = -spend_projected(statement, projection, month.service_period);
		month.lapsed = -ended - end_memos(statement, projection, month.service_period,
										  "would be unused when it expires on");
		month.balance += month.used + month.lapsed;
		ended = 0;
		if (n <= PROJECTED_MONTHS)
			statement->months[statement->nmonths++] = month;
	}
	return month.service_period;
}

static bool
has_limited_memo(const Statement *statement, const Projection *projection)
{
	for (int i = 0; i < statement->nmemos; i++)
		if (statement->memos[i].is_limited && projection->left[i] > 0)
			return true;
	return false;
}

/* Says how long what is left would last at the mean use, and shows it. */
static void
project_use(Statement *statement, Projection *projection, int64 use_months, int64 ended)
{
	StringInfoData sentences = projection->sentences;
	int			nnamed = projection->nnamed;
	bool		is_limited = has_limited_memo(statement, projection);
	DateADT		end;

	initStringInfo(&projection->sentences);
	end = project_months(statement, projection, ended);
	appendStringInfo(&sentences, "  At %s a month, ",
					 statement_amount(statement, projection->monthly));
	if (use_months == 1)
		appendStringInfoString(&sentences, "as in the last billed month, ");
	else
		appendStringInfo(&sentences, "the mean of the last %s billed months, ",
						 use_months == 2 ? "two" : "three");
	if (end == 0)
		appendStringInfo(&sentences, "the balance would last for more than %d years.",
						 MAX_STATEMENT_MONTHS / 12);
	else
		appendStringInfo(&sentences, projection->nnamed > nnamed || projection->nothers > 0 ?
						 "nothing would be left after %s." : "the balance would last until %s.",
						 service_period_text(end));
	appendStringInfoString(&sentences, projection->sentences.data);
	if (is_limited)
		appendStringInfoString(&sentences, "  Credit for some services only is counted as if it could pay for all.");
	projection->sentences = sentences;
}

/* How the balance would go on at the mean use of the last billed months. */
static void
project(Statement *statement)
{
	int64		use_months = get_count_figure(statement->account, 0, ACCOUNT_USE_MONTHS);
	Projection	projection = {.last = last_month(statement)};
	int64		ended;

	if (statement->nmonths == 0 || statement->total.balance <= 0 ||
		projection.last > MAX_PROJECTED_FROM ||
		projection.last < get_date_figure(statement->account, 0, ACCOUNT_LAST_PERIOD))
		return;
	projection.left = palloc(Max(statement->nmemos, 1) * sizeof(int64));
	for (int i = 0; i < statement->nmemos; i++)
		projection.left[i] = statement->memos[i].balance;
	initStringInfo(&projection.sentences);
	ended = end_memos(statement, &projection, projection.last, "can pay no later month: it expired on");
	if (use_months > 0)
		projection.monthly = get_cents_figure(statement->account, 0, ACCOUNT_USE_MONTHLY);

	if (ended < statement->total.balance && projection.monthly > 0)
		project_use(statement, &projection, use_months, ended);
	else if (ended < statement->total.balance)
	{
		appendStringInfo(&projection.sentences, "  %s", use_months == 0 ?
						 "How long the balance will last can be said once a month has been invoiced." :
						 "No credit was used in the last billed months.");
		for (int i = 0; i < statement->nmemos; i++)
			if (projection.left[i] > 0 && statement->memos[i].expires_on != NULL)
				append_expiry_sentence(statement, &projection, i, "expires on");
	}
	if (projection.nothers > 0)
		append_words(&projection.sentences, statement->is_page, "  So it is with %s of %s more.",
					 statement_amount(statement, projection.others),
					 psprintf("%d", projection.nothers));
	statement->projection = projection.sentences.data + strlen("  ");
}

/* ---------------------------------------------------------------------------------------------
 * Functions
 * ---------------------------------------------------------------------------------------------
 */

/* A period that the caller gave, or the account's. */
static DateADT
get_period_argument(FunctionCallInfo fcinfo, int argument, const Figures *account, int column,
					bool *is_empty)
{
	if (!PG_ARGISNULL(argument))
	{
		require_service_period(PG_GETARG_DATEADT(argument));
		return PG_GETARG_DATEADT(argument);
	}
	if (!figure_is_null(account, 0, column))
		return get_date_figure(account, 0, column);
	*is_empty = true;
	return DATEVAL_NOBEGIN;
}

/* Sets the statement's periods.  Raises invalid_parameter_value for none, or too many, between. */
static void
set_periods(FunctionCallInfo fcinfo, Statement *statement)
{
	const Figures *account = statement->account;

	statement->from_period = get_period_argument(fcinfo, 1, account, ACCOUNT_FIRST_PERIOD,
												 &statement->is_empty);
	statement->to_period = get_period_argument(fcinfo, 2, account, ACCOUNT_LAST_PERIOD,
											   &statement->is_empty);
	if (statement->is_empty)
		return;
	if (statement->from_period > statement->to_period)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the statement would end in %s, before it begins in %s",
						service_period_text(statement->to_period),
						service_period_text(statement->from_period)),
				 errhint("Give the first period, then the last; null stands for the account's first and last.")));
	/* it can say nothing of months to come */
	if (!figure_is_null(account, 0, ACCOUNT_LAST_PERIOD))
		statement->to_period = Max(statement->from_period,
								   Min(statement->to_period,
									   get_date_figure(account, 0, ACCOUNT_LAST_PERIOD)));
	if (months_between(statement->from_period, statement->to_period) >= MAX_STATEMENT_MONTHS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the statement would be of %d months",
						months_between(statement->from_period, statement->to_period) + 1),
				 errdetail("A statement is of %d months at most.", MAX_STATEMENT_MONTHS),
				 errhint("Give the periods from which and to which you want it.")));
}

static void
refuse_unknown_account(const char *account_id, const char *customer_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 *customer_id == '\0' ? errmsg("there is no member account \"%s\"", account_id) :
			 errmsg("there is no member account \"%s\", or no customer \"%s\"", account_id, customer_id),
			 errhint("Look them up in creditmemo.account_balance.")));
}

/* Reads the statement, within SPI, as the caller.  Raises no_data_found for an unknown account. */
static void
read_statement(FunctionCallInfo fcinfo, bool is_page, Statement *statement)
{
	Datum		arguments[3];

	arguments[0] = PG_GETARG_DATUM(0);
	arguments[1] = PG_ARGISNULL(3) ? CStringGetTextDatum("") : PG_GETARG_DATUM(3);
	memset(statement, 0, sizeof(Statement));
	statement->is_page = is_page;
	statement->account = read_figures(&account_query, arguments);
	if (statement->account->numvals == 0)
		refuse_unknown_account(TextDatumGetCString(arguments[0]),
							   TextDatumGetCString(arguments[1]));
	statement->currency = get_text_figure(statement->account, 0, ACCOUNT_CURRENCY);
	set_periods(fcinfo, statement);
	if (statement->is_empty)
		return;

	arguments[1] = CStringGetTextDatum(get_text_figure(statement->account, 0,
													   ACCOUNT_CUSTOMER_ID));
	arguments[2] = DateADTGetDatum(statement->to_period);
	read_months(statement, arguments);
	read_memos(statement, arguments);
	read_movements(statement, arguments);
	project(statement);
}

/* A statement as a page or plain text. */
static Datum
write_statement(FunctionCallInfo fcinfo, bool is_page)
{
	MemoryContext caller = CurrentMemoryContext;
	Statement	statement;
	StringInfoData document;
	Datum		result;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	SPI_connect();
	read_statement(fcinfo, is_page, &statement);
	initStringInfo(&document);
	if (is_page)
		append_statement_page(&document, &statement);
	else
		append_statement_text(&document, &statement);
	result = document_datum(caller, &document);
	SPI_finish();
	PG_RETURN_DATUM(result);
}

/*
 * statement_html(account_id text, from_period date, to_period date, customer_id text) returns text
 *
 * The customer's memos of the account, every movement with its invoice, and the balance by service
 * period; null for a customer stands for the present one.  Raises no_data_found, check_violation for a date that is no service period,
 * invalid_parameter_value for periods in the wrong order or too far apart.  Reads as the caller.
 */
Datum
statement_html(PG_FUNCTION_ARGS)
{
	return write_statement(fcinfo, true);
}

/* statement_text(account_id text, ...) returns text: the same as plain text. */
Datum
statement_text(PG_FUNCTION_ARGS)
{
	return write_statement(fcinfo, false);
}
