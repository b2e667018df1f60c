/*
 * creditmemo.h
 *		Words that the whole extension shares: money, service periods, texts.
 */
#ifndef CREDITMEMO_H
#define CREDITMEMO_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/date.h"
#include "utils/numeric.h"

#include "compat.h"

/* money.c: money is counted in cents inside, and is numeric outside */
#define CENTS_LIMIT INT64CONST(100000000000000000)	/* 10^15 whole units */

extern int64 cents_from_numeric(Numeric amount);
extern Datum numeric_from_cents(int64 cents);
extern bool is_money(int128 sum);
extern int64 cents_from_sum(int128 sum, const text *account_id, DateADT service_period);
extern int	sign_of(Numeric amount);
extern char *money_text(Numeric amount, const char *currency);
extern char *opposite_text(Numeric amount, const char *currency);

/* period.c */
extern DateADT month_of(DateADT date);
extern DateADT add_months(DateADT service_period, int months);
extern int	months_between(DateADT first, DateADT second);
extern void require_service_period(DateADT date);
extern char *service_period_text(DateADT service_period);
extern char *short_period_text(DateADT service_period);
extern char *date_text(DateADT date);
extern char *long_date_text(DateADT date);

/* text.c */
#define LINE_SEPARATOR 0x2028
#define PARAGRAPH_SEPARATOR 0x2029

extern void *allocate_huge(Size size);
extern int	compare_text(const text *a, const text *b);
extern text *copy_text(Datum value, MemoryContext context);
extern int	compare_text_cells(const ListCell *a, const ListCell *b);
extern text *get_reason(FunctionCallInfo fcinfo, int argument);
extern char *account_list_text(List *account_ids);
extern char *utf8_text(const char *text);
extern bool is_control_character(pg_wchar character);
extern char *single_line(const char *text);
extern int	text_width(const char *text);

#endif							/* CREDITMEMO_H */
