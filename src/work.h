/*
 * work.h
 *		Work on member accounts that is asked for on one machine and done where their books are.
 */
#ifndef CREDITMEMO_WORK_H
#define CREDITMEMO_WORK_H

#include "settle.h"

/* invoice.c */
extern void bill_account(Books *books, const AccountChange *account, text *invoice_number,
						 text *customer_id, DateADT service_period);

/* void.c */
extern bool void_memo_of_account(Books *books, AccountChange *account, text *memo_number);
extern void void_billings_here(FunctionCallInfo fcinfo, text *invoice_number, text *customer_id);
extern void void_invoice_here(Books *books, text *invoice_number, TimestampTz voided_at,
							  text *reason);

/* closing.c */
extern void close_account(Books *books, AccountChange *account, DateADT service_period,
						  text *payer_account_id, bool reopen);

#endif							/* CREDITMEMO_WORK_H */
