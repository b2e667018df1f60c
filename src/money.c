/*
 * money.c
 *		Amounts of money: the domain's check, cents and numeric, text for documents.
 *
 * Inside, money is a count of cents in an int64; outside it is the domain money_amount, whose
 * values always fit.  Sums over any number of lines are kept in an int128 and brought back into
 * range, or refused, at the end.  There is no floating point anywhere.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "creditmemo.h"

SQL_FUNCTION(check_money_amount);
SQL_FUNCTION(money_text_sql);

/* A numeric that lives as long as the session. */
static Numeric
lasting_numeric(int64 value)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	Numeric		result = int64_to_numeric(value);

	MemoryContextSwitchTo(caller);
	return result;
}

static int32
decimals(Numeric amount)
{
	return DatumGetInt32(DirectFunctionCall1(numeric_min_scale, NumericGetDatum(amount)));
}

static bool
in_range(Numeric amount)
{
	static Numeric limit = NULL;
	static Numeric negative_limit = NULL;

	if (negative_limit == NULL)
	{
		limit = lasting_numeric(CENTS_LIMIT / 100);
		negative_limit = lasting_numeric(-(CENTS_LIMIT / 100));
	}

	/* NaN sorts above everything, so it fails the first test */
	return DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(amount),
											NumericGetDatum(limit))) &&
		DatumGetBool(DirectFunctionCall2(numeric_gt, NumericGetDatum(amount),
										 NumericGetDatum(negative_limit)));
}

static char *
numeric_text(Numeric amount)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(amount)));
}

/*
 * check_money_amount(numeric) returns boolean: the CHECK of the domain money_amount.
 *
 * Returns true.  Raises check_violation for NaN, an infinity, an absolute value of 10^15 or more,
 * or more than two decimals (rule Money: never silently rounded).
 */
Datum
check_money_amount(PG_FUNCTION_ARGS)
{
	Numeric		amount = PG_GETARG_NUMERIC(0);

	if (!in_range(amount))
	{
		if (numeric_is_nan(amount) || numeric_is_inf(amount))
			ereport(ERROR,
					(errcode(ERRCODE_CHECK_VIOLATION),
					 errmsg("%s is not an amount of money", numeric_text(amount)),
					 errhint("Look for a failed conversion or division where the amount comes from.")));
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("amount %s is out of range", numeric_text(amount)),
				 errdetail("Amounts of money are below 10^15, positive or negative."),
				 errhint("Look for a missing decimal point where the amount comes from.")));
	}
	if (decimals(amount) > 2)
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("amount %s has more than two decimals", numeric_text(amount)),
				 errdetail("Amounts of money are exact to the cent and are never rounded unseen."),
				 errhint("Round it where you can decide what happens to the difference, for example with round(sum(amount), 2).")));

	PG_RETURN_BOOL(true);
}

/*
 * Cents of a value of the domain money_amount, which is known to be finite, in range and without
 * further decimals.
 */
int64
cents_from_numeric(Numeric amount)
{
	static Numeric hundred = NULL;
	Datum		product;
	int64		cents;

	if (hundred == NULL)
		hundred = lasting_numeric(100);

	product = DirectFunctionCall2(numeric_mul, NumericGetDatum(amount),
								  NumericGetDatum(hundred));
	cents = DatumGetInt64(DirectFunctionCall1(numeric_int8, product));
	pfree(DatumGetPointer(product));
	return cents;
}

/* The numeric with two decimals of an amount in cents, in the caller's memory context. */
Datum
numeric_from_cents(int64 cents)
{
	return NumericGetDatum(int64_div_fast_to_numeric(cents, 2));
}

/* Whether a sum of cents is that of a money_amount. */
bool
is_money(int128 sum)
{
	return sum < CENTS_LIMIT && sum > -CENTS_LIMIT;
}

/*
 * Brings the sum of lines of an account and period, in cents, back to an int64.
 * Raises numeric_value_out_of_range where the sum is no money_amount.
 */
int64
cents_from_sum(int128 sum, const text *account_id, DateADT service_period)
{
	if (!is_money(sum))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("utilization of member account \"%s\" for %s is out of range",
						text_to_cstring(account_id), service_period_text(service_period)),
				 errdetail("The sum of the lines of an account and service period is below 10^15, positive or negative."),
				 errhint("Look for a missing decimal point where the amounts come from.")));
	return (int64) sum;
}

/* -1, 0 or 1. */
int
sign_of(Numeric amount)
{
	return DatumGetInt32(DirectFunctionCall1(numeric_int4,
											 DirectFunctionCall1(numeric_sign,
																 NumericGetDatum(amount))));
}

/*
 * An amount as documents show it: $1,000.00 for USD, else the ISO code before the amount, a minus
 * before either.  Takes any numeric of at most two decimals, a sum beyond money_amount too.
 */
char *
money_text(Numeric amount, const char *currency)
{
	StringInfoData text;
	char	   *digits;
	int			whole;

	if (decimals(amount) > 2)
		elog(ERROR, "amount %s has more than two decimals", numeric_text(amount));

	digits = numeric_text(DatumGetNumeric(DirectFunctionCall2(numeric_round,
															  NumericGetDatum(amount),
															  Int32GetDatum(2))));
	initStringInfo(&text);
	if (*digits == '-')
		appendStringInfoChar(&text, *digits++);
	if (strcmp(currency, "USD") == 0)
		appendStringInfoChar(&text, '$');
	else
		appendStringInfo(&text, "%s ", currency);

	for (whole = strcspn(digits, "."); whole > 0; whole--)
	{
		appendStringInfoChar(&text, *digits++);
		if (whole > 1 && whole % 3 == 1)
			appendStringInfoChar(&text, ',');
	}
	appendStringInfoString(&text, digits);
	return text.data;
}

/* The opposite of an amount, likewise: of a debt, what is owed. */
char *
opposite_text(Numeric amount, const char *currency)
{
	return money_text(DatumGetNumeric(DirectFunctionCall1(numeric_uminus,
														  NumericGetDatum(amount))), currency);
}

/* money_text(amount numeric, currency text) returns text, see above. */
Datum
money_text_sql(PG_FUNCTION_ARGS)
{
	Numeric		amount = PG_GETARG_NUMERIC(0);

	if (numeric_is_nan(amount) || numeric_is_inf(amount) || decimals(amount) > 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is not an amount of money", numeric_text(amount)),
				 errhint("Give a finite amount of at most two decimals.")));

	PG_RETURN_TEXT_P(cstring_to_text(money_text(amount,
												text_to_cstring(PG_GETARG_TEXT_PP(1)))));
}
