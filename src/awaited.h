/*
 * awaited.h
 *		Statements whose AFTER triggers are to come.
 */
#ifndef CREDITMEMO_AWAITED_H
#define CREDITMEMO_AWAITED_H

#include "trigger.h"

/* A statement on a table, from its first trigger to its last. */
typedef struct AwaitedStatement
{
	struct AwaitedStatement *outer; /* whose triggers or functions run this one, or an older one */
	const char *table;
	CommandId	command;
	int			announced;		/* a bit for each operation of which a BEFORE trigger was called */
	int			awaited;		/* and whose AFTER trigger is to come */
	MemoryContext context;		/* all of it lives here */
	MemoryContextCallback forget;
} AwaitedStatement;

extern AwaitedStatement *announce_statement(const char *table, TriggerEvent operation, Size size);
extern AwaitedStatement *take_statement(const char *table, TriggerEvent operation, Size size);
extern bool is_announced(const AwaitedStatement *statement, TriggerEvent operation);
extern void end_statement(AwaitedStatement *statement);
extern void refuse_unsettled_lines(const char *function);

#endif							/* CREDITMEMO_AWAITED_H */
