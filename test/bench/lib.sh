# What test/bench/run and its cases share.

# query DATABASE PSQL_ARGUMENTS...
query() {
	psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$@"
}

# as VARIANT COMMAND...: with the variant's tables in the search path
as() {
	local variant=$1
	shift
	PGOPTIONS="-c search_path=$variant,public ${options:-}" "$@"
}

# record CASE VARIANT VALUE
record() {
	query postgres -c "INSERT INTO result VALUES ('$1', '$2', $round, $3)"
	echo "round $round, $1, $2: $3" >&2
}

# turns VARIANT...: in the order of this round
turns() {
	local first=$(((round - 1) % $#))
	echo "${@:first+1}" "${@:1:first}"
}

# fresh TEMPLATE: a copy of it, checkpointed, as database bench
fresh() {
	dropdb --if-exists bench 2>/dev/null
	createdb -T "$1" bench
	psql -X -q -d bench -c CHECKPOINT
}
export -f fresh

# wall_seconds PREPARATION VARIANT DATABASE STATEMENT
wall_seconds() {
	echo "$4" >"$work/statement.sql"
	as "$2" hyperfine --runs 1 --style none --shell bash --prepare "$1" --export-csv "$work/seconds.csv" \
		"psql -X -q -v ON_ERROR_STOP=1 -d $3 -f $work/statement.sql -o /dev/null" >/dev/null
	tail -n 1 "$work/seconds.csv" | cut -d , -f 2
}

# check VARIANT DATABASE: its books against their lines
check() {
	[ "$1" != bare ] || return 0
	as "$1" query "$2" -f sql/check.sql
	[ "$1" != creditmemo ] || verify "$2"
}

# verify DATABASE
verify() {
	[ "$(query "$1" -c 'SELECT count(*) FROM creditmemo.verify()')" = 0 ] || {
		echo "verify() finds fault with the books" >&2
		exit 1
	}
}

# analyze DATABASE: only what has rows.  Of an empty table the planner is better off without
# statistics: with them it would keep plans that scan it, while it fills.
analyze() {
	query "$1" -c "
		SELECT format('VACUUM ANALYZE %s;', c.oid::regclass)
		FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND pg_relation_size(c.oid) > 0
			AND n.nspname IN ('public', 'bare', 'creditmemo', 'row_trigger', 'statement_trigger')" |
		query "$1"
}

# need TEMPLATE: makes it, by the function make_TEMPLATE, unless it is there
need() {
	if [ -z "${made[$1]:-}" ]; then
		echo "making the books $1 ..." >&2
		made[$1]=yes
		"make_$1"
		analyze "$1"
	fi
}

# make_books NAME PSQL_ARGUMENTS...: for all variants; the arguments are variables of sql/books.sql
make_books() {
	local name=$1 variant
	shift
	createdb "$name"
	query "$name" -v accounts="$accounts" -v single_accounts=0 -v customer_accounts=100 -v memo_every=1 -v memo=1000000000 \
		-v small_memo=1000000000 -v lines=0 "$@" -f sql/books.sql -f sql/bare.sql -f sql/timing.sql
	for variant in row_trigger statement_trigger; do
		query "$name" -v schema=$variant -f sql/tables.sql -f sql/$variant.sql
	done
}
