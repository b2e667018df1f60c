/*
 * awaited.c
 *		Statements whose AFTER triggers are to come.
 *
 * A statement may insert, update and delete (ON CONFLICT DO UPDATE, MERGE, several in WITH); the
 * server calls a trigger for each.  BEFORE triggers announce it here, the last AFTER trigger ends it.
 * What a caller has to remember of it goes behind the AwaitedStatement in a struct of his own.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "awaited.h"

static AwaitedStatement *innermost_statement = NULL;

/* Memory context callback: the statement has ended, or its (sub)transaction was aborted. */
static void
forget_statement(void *arg)
{
	for (AwaitedStatement **link = &innermost_statement; *link != NULL; link = &(*link)->outer)
		if (*link == arg)
		{
			*link = (*link)->outer;
			break;
		}
}

/*
 * Transaction callback: at its end no statement awaits a trigger, unless it was stopped half way.  The
 * server does so for a caller who asks for no more than so many rows RETURNING; the rows are there,
 * but no trigger will ever be called for them.
 */
static void
refuse_stopped_statements(XactEvent event, void *arg)
{
	if ((event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE) &&
		innermost_statement != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("a statement on table \"%s\" was stopped before its rows were settled",
						innermost_statement->table),
				 errdetail("Its triggers AFTER INSERT, UPDATE or DELETE have not been called."),
				 errhint("Let INSERT, UPDATE and DELETE ... RETURNING run to their end, without a limit of rows, and enable the triggers of the table all or none.")));
}

/*
 * The command that the statement runs as: within a transaction each that writes has its own.  It is
 * the same for all triggers of a statement, whatever ran between them.
 */
static CommandId
statement_command(void)
{
	return ActiveSnapshotSet() ? GetActiveSnapshot()->curcid : InvalidCommandId;
}

/* A new statement, innermost, in a zeroed struct of the size that begins with an AwaitedStatement. */
static AwaitedStatement *
begin_statement(const char *table, Size size)
{
	static bool listening = false;
	MemoryContext context = AllocSetContextCreate(CurTransactionContext, "creditmemo statement",
												  ALLOCSET_SMALL_SIZES);
	AwaitedStatement *statement = MemoryContextAllocZero(context, size);

	if (!listening)
	{
		RegisterXactCallback(refuse_stopped_statements, NULL);
		listening = true;
	}
	statement->outer = innermost_statement;
	statement->table = table;
	statement->command = statement_command();
	statement->context = context;
	statement->forget.func = forget_statement;
	statement->forget.arg = statement;
	MemoryContextRegisterResetCallback(context, &statement->forget);
	innermost_statement = statement;
	return statement;
}

/* In a BEFORE trigger: notes that the AFTER trigger of the operation is to come. */
AwaitedStatement *
announce_statement(const char *table, TriggerEvent operation, Size size)
{
	AwaitedStatement *statement = innermost_statement;

	while (statement != NULL && (statement->command != statement_command() ||
								 strcmp(statement->table, table) != 0))
		statement = statement->outer;
	if (statement == NULL)
		statement = begin_statement(table, size);
	statement->announced |= 1 << operation;
	statement->awaited |= 1 << operation;
	return statement;
}

/*
 * In an AFTER trigger: the statement that it belongs to, which no longer awaits it.  The BEFORE trigger of
 * a foreign key's ON DELETE CASCADE ran as a later command than the AFTER trigger, which is called with
 * those of the statement that deletes what is referred to.  A statement that nobody has announced,
 * because the BEFORE trigger is disabled or the rows are being restored, stands for itself.
 */
AwaitedStatement *
take_statement(const char *table, TriggerEvent operation, Size size)
{
	AwaitedStatement *taken = NULL;

	for (AwaitedStatement *statement = innermost_statement; statement != NULL;
		 statement = statement->outer)
	{
		if ((statement->awaited & 1 << operation) == 0 || strcmp(statement->table, table) != 0)
			continue;
		if (statement->command == statement_command())
		{
			taken = statement;
			break;
		}
		if (taken == NULL && statement->command > statement_command())
			taken = statement;
	}
	if (taken == NULL)
		taken = begin_statement(table, size);
	taken->awaited &= ~(1 << operation);
	return taken;
}

/* Whether the statement has come to the operation, be its AFTER trigger called or not. */
bool
is_announced(const AwaitedStatement *statement, TriggerEvent operation)
{
	return (statement->announced & 1 << operation) != 0;
}

/* Forgets the statement, and whatever lives in its context. */
void
end_statement(AwaitedStatement *statement)
{
	MemoryContextDelete(statement->context);
}

/*
 * Raises object_in_use while lines of utilization are not settled: a function that their statement calls
 * would find them as they are now on billings as they were.
 */
void
refuse_unsettled_lines(const char *function)
{
	for (AwaitedStatement *statement = innermost_statement; statement != NULL;
		 statement = statement->outer)
		if (strcmp(statement->table, "utilization") == 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("%s cannot be called by a statement that changes utilization", function),
					 errdetail("The lines of that statement are settled at its end."),
					 errhint("Call it in a statement of its own.")));
}
