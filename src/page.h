/*
 * page.h
 *		What pages to print share: the style, the letterhead, the table of facts.
 */
#ifndef CREDITMEMO_PAGE_H
#define CREDITMEMO_PAGE_H

#include "figures.h"
#include "markup.h"

/* Columns of creditmemo.seller as s, which page queries read first. */
#define SELLER_COLUMNS "s.name, s.address, s.logo, s.remittance"
enum
{
	SELLER_NAME = 1, SELLER_ADDRESS, SELLER_LOGO, SELLER_REMITTANCE, SELLER_END
};

extern void begin_page(StringInfo page, const char *title);
extern void append_letterhead(StringInfo page, const Figures *figures, const char *heading);
extern void append_customer(StringInfo page, const char *label, const char *name,
							const char *address);
extern void append_fact(StringInfo page, const char *name, const char *label, const char *value);
extern void append_cell(StringInfo page, const char *name, const char *label, const char *value);
extern void append_amount_cell(StringInfo page, const char *name, const char *label,
							   const char *amount);
extern void append_sum(StringInfo page, const char *name, const char *label, const char *amount);
extern void end_page(StringInfo page);

#endif							/* CREDITMEMO_PAGE_H */
