/*
 * email_template.h
 *		The wording of e-mails: text with the names of what is filled in, in braces.
 */
#ifndef CREDITMEMO_EMAIL_TEMPLATE_H
#define CREDITMEMO_EMAIL_TEMPLATE_H

/* What can be filled in, in the order of the columns that email.c reads, which begin at 1. */
typedef enum Placeholder
{
	NO_PLACEHOLDER,
	EMAIL_INVOICE_NUMBER, EMAIL_CUSTOMER_ID, EMAIL_CUSTOMER_NAME, EMAIL_PO_NUMBER,
	EMAIL_SELLER_NAME, EMAIL_REMITTANCE,
	EMAIL_SERVICE_PERIOD, EMAIL_INVOICE_DATE, EMAIL_DUE_DATE,
	EMAIL_SERVICE_PERIOD_ISO, EMAIL_INVOICE_DATE_ISO, EMAIL_DUE_DATE_ISO,
	EMAIL_TOTAL_UTILIZATION, EMAIL_CREDIT_APPLIED, EMAIL_BALANCE_DUE,
	EMAIL_PRIOR_BALANCE, EMAIL_BALANCE_OF_FUNDS,
	EMAIL_SUMMARY, EMAIL_BALANCES
} Placeholder;

/* A piece of a template: words as they stand, or a placeholder. */
typedef struct TemplatePiece
{
	Placeholder placeholder;	/* NO_PLACEHOLDER: words */
	const char *words;
	int			length;
} TemplatePiece;

extern bool next_piece(const char **cursor, TemplatePiece *piece);
extern char *next_paragraph(const char **cursor);
extern bool is_blank(const char *text);

#endif							/* CREDITMEMO_EMAIL_TEMPLATE_H */
