/*
 * siblings.c
 *		Where the books of a call are: the tables of the schema, or those beside the one that a trigger
 *		fired on.
 *
 * Where the tables are spread over machines, each is a set of shards: tables of its name and a number, in
 * the same schema.  The rows of an account are in one shard of each table, and a trigger fires on those.
 * Everything that is known of this is here, and in the SQL functions tables_beside() and is_distributed().
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "open_books.h"
#include "siblings.h"

/* The tables beside a shard that a trigger fired on. */
typedef struct Siblings
{
	Oid			shard;			/* the key */
	Oid			table[BOOKS_TABLES];
} Siblings;

static HTAB *known_siblings = NULL;
static bool must_forget = false;

/* Length of a name without the underscore and number that those of shards end with. */
static int
bare_length(const char *name)
{
	int			length = strlen(name);
	int			digits = 0;

	while (digits < length && isdigit((unsigned char) name[length - 1 - digits]))
		digits++;
	return digits > 0 && digits + 1 < length && name[length - 1 - digits] == '_' ?
		length - digits - 1 : length;
}

static bool
is_shard(Relation rel)
{
	const char *name = RelationGetRelationName(rel);

	return name[bare_length(name)] != '\0';
}

/* The name of the table: of a shard, that of the table that it is a shard of. */
char *
table_name(Relation rel)
{
	const char *name = RelationGetRelationName(rel);

	return pnstrdup(name, bare_length(name));
}

static bool
is_bare_name(const char *name, const char *bare)
{
	return strlen(bare) == bare_length(name) && strncmp(name, bare, strlen(bare)) == 0;
}

/* Whether the relation is the table of the schema, or a shard of it.  Null for table: any. */
bool
is_table(Relation rel, Oid schema, const char *table)
{
	return RelationGetNamespace(rel) == schema &&
		(table == NULL || is_bare_name(RelationGetRelationName(rel), table));
}

/* Whether a constraint on the table has that name, or is the one of a shard. */
bool
is_constraint(Relation rel, const char *name, const char *constraint)
{
	return is_shard(rel) ? is_bare_name(name, constraint) : strcmp(name, constraint) == 0;
}

/* Relation cache callback: a shard may have been moved or dropped. */
static void
see_change_of_shard(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	Siblings   *siblings;

	if (must_forget || hash_get_num_entries(known_siblings) == 0)
		return;
	if (relid == InvalidOid)
	{
		must_forget = true;
		return;
	}
	hash_seq_init(&scan, known_siblings);
	while ((siblings = hash_seq_search(&scan)) != NULL)
	{
		must_forget = must_forget || siblings->shard == relid;
		for (int table = 0; table < BOOKS_TABLES; table++)
			must_forget = must_forget || siblings->table[table] == relid;
	}
}

/* Forgets what is known if it may no longer be right. */
static void
prepare_known_siblings(void)
{
	HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(Siblings),
		.hcxt = TopMemoryContext};

	if (known_siblings == NULL)
	{
		known_siblings = hash_create("creditmemo siblings", 64, &control,
									 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		CacheRegisterRelcacheCallback(see_change_of_shard, (Datum) 0);
	}
	else if (must_forget)
	{
		HASH_SEQ_STATUS scan;
		Siblings   *siblings;

		hash_seq_init(&scan, known_siblings);
		while ((siblings = hash_seq_search(&scan)) != NULL)
			hash_search(known_siblings, &siblings->shard, HASH_REMOVE, NULL);
	}
	must_forget = false;
}

static Oid
own_function(Oid schema, const char *name, int nargs, const Oid *argtypes, bool missing_ok)
{
	List	   *qualified = list_make1(makeString(get_namespace_name(schema)));

	qualified = lappend(qualified, makeString(pstrdup(name)));
	return LookupFuncName(qualified, nargs, argtypes, missing_ok);
}

/* Asks tables_beside() for the tables beside the shard.  Invalid: not beside it. */
static void
find_siblings(Relation shard, Oid *tables)
{
	static const Oid argtypes[] = {REGCLASSOID, TEXTARRAYOID};
	Oid			function = own_function(RelationGetNamespace(shard), "tables_beside",
										lengthof(argtypes), argtypes, false);
	Datum		names[BOOKS_TABLES];
	Datum	   *found;
	bool	   *nulls;
	int			n;

	for (int table = 0; table < BOOKS_TABLES; table++)
		names[table] = CStringGetTextDatum(table_names[table].name);
	deconstruct_array(DatumGetArrayTypeP(
		OidFunctionCall2(function, ObjectIdGetDatum(RelationGetRelid(shard)),
						 PointerGetDatum(construct_array(names, BOOKS_TABLES, TEXTOID, -1, false,
														 TYPALIGN_INT)))),
					  REGCLASSOID, sizeof(Oid), true, TYPALIGN_INT, &found, &nulls, &n);
	if (n != BOOKS_TABLES)
		elog(ERROR, "tables_beside() returned %d tables", n);
	for (int table = 0; table < BOOKS_TABLES; table++)
		tables[table] = nulls[table] ? InvalidOid : DatumGetObjectId(found[table]);
}

/*
 * The tables beside the one that a trigger fired on, by BooksTable; null where these are the schema's own
 * of the names that they have.  Valid until the next call.
 */
const Oid *
siblings_of(Relation fired)
{
	Oid			shard = RelationGetRelid(fired);
	Siblings   *siblings;

	if (!is_shard(fired))
		return NULL;
	prepare_known_siblings();
	siblings = hash_search(known_siblings, &shard, HASH_FIND, NULL);
	if (siblings == NULL)
	{
		Oid			tables[BOOKS_TABLES];

		find_siblings(fired, tables);
		siblings = hash_search(known_siblings, &shard, HASH_ENTER, NULL);
		memcpy(siblings->table, tables, sizeof(tables));
	}
	return siblings->table;
}

/*
 * Whether a row that is inserted is recorded by this transaction (rule Live or restored).  A shard's rows
 * come with the time at which the transaction began on the machine that sent them, by its clock: within
 * a day of ours.  Raises feature_not_supported for others on shards.
 */
bool
is_recorded_now(Relation rel, TimestampTz recorded_at)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();

	if (recorded_at == now || !is_shard(rel))
		return recorded_at == now;
	if (!(recorded_at > now - USECS_PER_DAY && recorded_at < now + USECS_PER_DAY))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" is distributed: it takes no rows that were recorded at another time",
						table_name(rel)),
				 errdetail("recorded_at is %s.", timestamptz_to_str(recorded_at)),
				 errhint("Leave recorded_at out of the INSERT; restore books first, and call creditmemo.distribute() then.")));
	return true;
}

/*
 * Whether the tables of the schema are spread over machines: then its functions have work done there.  Version
 * 1.0 of the extension cannot be.
 */
static bool
is_distributed(Oid schema)
{
	Oid			function = own_function(schema, "is_distributed", 0, NULL, true);

	return OidIsValid(function) && DatumGetBool(OidFunctionCall0(function));
}

/*
 * Has the work of an SQL function done where the books are, if that is not here: by the function of the
 * same arguments that is called as it is, with _distributed.  Returns whether it was.
 */
bool
is_done_elsewhere(FunctionCallInfo fcinfo, Datum *result)
{
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	Oid		   *argtypes;
	int			nargs;
	FmgrInfo	function;
	LOCAL_FCINFO(call, FUNC_MAX_ARGS);

	if (!is_distributed(schema))
		return false;
	(void) get_func_signature(fcinfo->flinfo->fn_oid, &argtypes, &nargs);
	fmgr_info(own_function(schema, psprintf("%s_distributed",
											get_func_name(fcinfo->flinfo->fn_oid)),
						   nargs, argtypes, false), &function);
	InitFunctionCallInfoData(*call, &function, nargs, InvalidOid, NULL, NULL);
	memcpy(call->args, fcinfo->args, nargs * sizeof(NullableDatum));
	*result = FunctionCallInvoke(call);
	if (call->isnull)
		elog(ERROR, "function %u returned NULL", function.fn_oid);
	return true;
}
