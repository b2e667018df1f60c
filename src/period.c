/*
 * period.c
 *		Service periods: months of usage, held as the date of their first day.
 *
 * Every rule about time is about service periods, never about the day on which something is
 * processed.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/datetime.h"

#include "creditmemo.h"

SQL_FUNCTION(check_service_period);
SQL_FUNCTION(service_period_text_sql);

static const char *const month_names[] = {
	"January", "February", "March", "April", "May", "June", "July",
	"August", "September", "October", "November", "December"
};

static void
split_date(DateADT date, int *year, int *month, int *day)
{
	j2date(date + POSTGRES_EPOCH_JDATE, year, month, day);
}

/*
 * The service period that a finite date falls into.  Raises datetime_value_out_of_range for days of
 * the month in which dates begin.
 */
DateADT
month_of(DateADT date)
{
	int			year,
				month,
				day;

	split_date(date, &year, &month, &day);
	if (!IS_VALID_DATE(date - (day - 1)))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("service period out of range"),
				 errhint("Check the year.")));
	return date - (day - 1);
}

/*
 * The service period so many months after another, or before it.  Raises
 * datetime_value_out_of_range beyond the range of dates.
 */
DateADT
add_months(DateADT service_period, int months)
{
	int			year,
				month,
				day;

	split_date(service_period, &year, &month, &day);
	month += months - 1;
	year += month / 12 - (month % 12 < 0);
	month = (month % 12 + 12) % 12 + 1;
	if (!IS_VALID_JULIAN(year, month, 1) ||
		!IS_VALID_DATE(date2j(year, month, 1) - POSTGRES_EPOCH_JDATE))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("service period out of range"),
				 errhint("Check the year.")));
	return date2j(year, month, 1) - POSTGRES_EPOCH_JDATE;
}

/* How many months the second service period is after the first. */
int
months_between(DateADT first, DateADT second)
{
	int			first_year,
				first_month,
				second_year,
				second_month,
				day;

	split_date(first, &first_year, &first_month, &day);
	split_date(second, &second_year, &second_month, &day);
	return (second_year - first_year) * 12 + second_month - first_month;
}

/* Raises check_violation unless the date is the first day of a month. */
void
require_service_period(DateADT date)
{
	if (DATE_NOT_FINITE(date))
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("an infinite date is not a service period"),
				 errhint("Give the first day of a month.")));
	if (month_of(date) != date)
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("service period %s is not the first day of a month", date_text(date)),
				 errdetail("A service period is a month of usage, written as its first day."),
				 errhint("Use %s, or date_trunc('month', ...)::date.", date_text(month_of(date)))));
}

/* check_service_period(date) returns boolean: the CHECK of the domain service_period. */
Datum
check_service_period(PG_FUNCTION_ARGS)
{
	require_service_period(PG_GETARG_DATEADT(0));
	PG_RETURN_BOOL(true);
}

/* A service period as documents show it: January 2019. */
char *
service_period_text(DateADT service_period)
{
	int			year,
				month,
				day;

	split_date(service_period, &year, &month, &day);
	return year > 0 ? psprintf("%s %d", month_names[month - 1], year) :
		psprintf("%s %d BC", month_names[month - 1], 1 - year);
}

/* The same where room is short: Jan 2019. */
char *
short_period_text(DateADT service_period)
{
	char	   *text = service_period_text(service_period);

	return psprintf("%.3s%s", text, strchr(text, ' '));
}

/* service_period_text(service_period date) returns text, see above. */
Datum
service_period_text_sql(PG_FUNCTION_ARGS)
{
	require_service_period(PG_GETARG_DATEADT(0));
	PG_RETURN_TEXT_P(cstring_to_text(service_period_text(PG_GETARG_DATEADT(0))));
}

/* A date for messages, ISO 8601 whatever DateStyle says. */
char *
date_text(DateADT date)
{
	int			year,
				month,
				day;

	split_date(date, &year, &month, &day);
	return year > 0 ? psprintf("%04d-%02d-%02d", year, month, day) :
		psprintf("%04d-%02d-%02d BC", 1 - year, month, day);
}

/* A date for documents: February 28, 2019. */
char *
long_date_text(DateADT date)
{
	int			year,
				month,
				day;

	split_date(date, &year, &month, &day);
	return year > 0 ? psprintf("%s %d, %d", month_names[month - 1], day, year) :
		psprintf("%s %d, %d BC", month_names[month - 1], day, 1 - year);
}
