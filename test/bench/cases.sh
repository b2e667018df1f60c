# The cases of test/bench/run: a function measures one round of each.

columns='service_period, account_id, service, amount, source_id'

# ---------------------------------------------------------------------------------------------
# Loads
# ---------------------------------------------------------------------------------------------

make_load() { make_books load -v memo=1000 -v small_memo=50 -v lines="$lines" -v customer_accounts=$((accounts / 50)); }
make_tenth() { make_books tenth -v memo=1000 -v small_memo=50 -v lines=$((lines / 10)) -v accounts=$((accounts / 10)); }
make_few() { make_books few -v memo=1000 -v small_memo=50 -v lines="$lines" -v memo_every=100; }
make_rich() { make_books rich; }

# measure_load CASE BOOKS STATEMENT VARIANT...: the row trigger takes minutes, so it gets a tenth of
# accounts and lines
measure_load() {
	local name=$1 variant books statement times seconds
	need "$2"
	for variant in $(turns "${@:4}"); do
		books=$2 statement=$3 times=1
		if [ "$variant" = row_trigger ]; then
			need tenth
			books=tenth statement=${3/bill.csv/tenth.csv} times=10
		fi
		seconds=$(wall_seconds "fresh $books" "$variant" bench "$statement")
		check "$variant" bench
		record "$name" "$variant" "$seconds * $times"
	done
}

insert_bill="INSERT INTO utilization ($columns) SELECT $columns FROM public.bill"
copy_bill="COPY utilization ($columns) FROM '$work/bill.csv' (FORMAT csv)"

# write_bill BOOKS FILE
write_bill() {
	need "$1"
	[ -f "$work/$2" ] ||
		query "$1" -c "\copy (SELECT $columns FROM public.bill) TO '$work/$2' (FORMAT csv)"
}

load_insert() {
	measure_load load_insert load "$insert_bill" bare row_trigger statement_trigger creditmemo
}
few_insert() { measure_load few_insert few "$insert_bill" bare creditmemo; }
load_copy() {
	write_bill load bill.csv
	write_bill tenth tenth.csv
	measure_load load_copy load "$copy_bill" bare row_trigger statement_trigger creditmemo
}
few_copy() {
	write_bill load bill.csv
	measure_load few_copy few "$copy_bill" bare creditmemo
}

make_loaded() {
	need load
	createdb -T load loaded
	as bare query loaded -c "$insert_bill"
	as creditmemo query loaded -c "$insert_bill"
}

restate() {
	local variant seconds
	need loaded
	for variant in $(turns bare creditmemo); do
		seconds=$(wall_seconds 'fresh loaded' $variant bench \
			"$insert_bill ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount")
		check $variant bench
		record restate $variant "$seconds"
	done
}

# ---------------------------------------------------------------------------------------------
# Small statements
# ---------------------------------------------------------------------------------------------

# run_pgbench VARIANT SCRIPT PGBENCH_ARGUMENTS...: its log goes into transaction_log
run_pgbench() {
	local variant=$1 script=$2
	shift 2
	rm -f "$work"/log.*
	options='-c synchronous_commit=off' as "$variant" pgbench -n -M prepared --log --log-prefix="$work/log" \
		-D last=$((accounts - 1)) -D first=0 "$@" -f "sql/$script.pgbench" bench >"$work/pgbench.out" 2>&1 ||
		{ cat "$work/pgbench.out" >&2; exit 1; }
	cat "$work"/log.* | query postgres -c 'TRUNCATE transaction_log' \
		-c "\copy transaction_log FROM pstdin (DELIMITER ' ')"
	[ "$(query postgres -c "SELECT count(*) FROM transaction_log WHERE latency = 'failed'")" = 0 ] ||
		{ echo "$variant: transactions failed" >&2; exit 1; }
}

# measure_clients CASE VARIANTS PGBENCH_ARGUMENTS...
measure_clients() {
	local name=$1 variants=$2 variant
	shift 2
	need rich
	# shellcheck disable=SC2086
	for variant in $(turns $variants); do
		fresh rich
		run_pgbench $variant one_line -T "$seconds" "$@"
		check $variant bench
		record $name $variant "$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' "$work/pgbench.out")"
		record ${name}_p99 $variant "$(query postgres -c "
			SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY latency::numeric) / 1000 FROM transaction_log")"
	done
}

one_line() { measure_clients one_line 'bare row_trigger statement_trigger creditmemo' -c 1; }
eight_random() { measure_clients eight_random 'row_trigger statement_trigger creditmemo' -c 8 -j 2; }
eight_one_account() {
	measure_clients eight_one_account 'row_trigger statement_trigger creditmemo' -c 8 -j 2 -D last=0
}

# measure_later CASE EARLIER_LINES BEFORE LATER_LINES AFTER SESSIONS: statements of so many lines, so many
# before and after, all in one session or each kind in its own; those after count
measure_later() {
	local kinds=(-D n=0 -D earlier_lines="$2" -D later_lines="$4")
	need rich
	fresh rich
	if [ "$6" = two ]; then
		run_pgbench creditmemo two_kinds "${kinds[@]}" -D before="$3" -t "$3"
		run_pgbench creditmemo two_kinds "${kinds[@]}" -D before=0 -t "$5"
	else
		run_pgbench creditmemo two_kinds "${kinds[@]}" -D before="$3" -t $(($3 + $5))
	fi
	check creditmemo bench
	record "$1" creditmemo "$(query postgres -c "
		SELECT count(*) * 1000000 / sum(latency::numeric)
		FROM (SELECT latency FROM transaction_log ORDER BY transaction_no DESC LIMIT $5) l")"
}

hundred_after_one() { measure_later hundred_after_one 1 2000 100 1000 one; }
hundred_fresh() { measure_later hundred_fresh 1 2000 100 1000 two; }
one_after_hundred() { measure_later one_after_hundred 100 200 1 20000 one; }
one_fresh() { measure_later one_fresh 100 200 1 20000 two; }

# ---------------------------------------------------------------------------------------------
# Beside many months
# ---------------------------------------------------------------------------------------------

make_months() {
	local month variant
	make_books months -v lines="$lines" -v single_accounts=100
	for month in $(seq 0 35); do
		for variant in bare creditmemo; do
			as $variant query months -c "
				INSERT INTO utilization ($columns)
				SELECT $columns FROM public.month_lines($month, $((lines * 10 / 36)))"
		done
		[ "$month" = 35 ] || query months -c "SELECT public.invoice_month($month)" -o /dev/null
		query months -c CHECKPOINT
	done
}

make_no_months() { make_books no_months -v lines="$lines"; }

# ten_million: each round loads a month that comes after those before
ten_million() {
	local turn variant seconds database name
	need months
	need no_months
	for turn in $(turns months:bare months:creditmemo no_months:creditmemo no_months:bare); do
		database=${turn%:*} variant=${turn#*:} name=ten_million
		[ "$database" = months ] || name+=_none
		seconds=$(wall_seconds "psql -X -q -d $database -c CHECKPOINT" "$variant" "$database" "
			INSERT INTO utilization ($columns)
			SELECT $columns FROM public.month_lines($((35 + round)), $((accounts * 2)))")
		record $name "$variant" "$seconds"
	done
}

# ---------------------------------------------------------------------------------------------
# Questions, and an invoice
# ---------------------------------------------------------------------------------------------

# measure_query CASE BOOKS QUERY ROWS: milliseconds, the median over 21 random rows of values that
# format() fills into the query
measure_query() {
	need "$2"
	record "$1" creditmemo "$(query "$2" -c "
		SELECT round(percentile_cont(0.5) WITHIN GROUP (
			ORDER BY public.execution_time(format(\$\$$3\$\$, r.value)))::numeric, 3)
		FROM (SELECT value FROM ($4) r (value) ORDER BY random() LIMIT 21) r")"
}

email_one_account() {
	measure_query email_one_account months 'SELECT * FROM creditmemo.invoice_email WHERE invoice_number = %L' \
		"SELECT invoice_number FROM creditmemo.invoice WHERE customer_id LIKE 'S%'"
}
email_hundred_accounts() {
	measure_query email_hundred_accounts months 'SELECT * FROM creditmemo.invoice_email WHERE invoice_number = %L' \
		"SELECT invoice_number FROM creditmemo.invoice WHERE customer_id LIKE 'C%'"
}
balance() {
	measure_query balance months 'SELECT * FROM creditmemo.account_balance WHERE account_id = %L' \
		'SELECT account_id FROM creditmemo.member_account'
}

# a memo for each account, issued and used in eleven months
make_entries() {
	local month
	make_books entries -v lines="$accounts"
	for month in $(seq 0 10); do
		as creditmemo query entries -c "
			INSERT INTO utilization ($columns) SELECT $columns FROM public.month_lines($month, $accounts)"
	done
}

liability() {
	measure_query liability entries 'SELECT * FROM creditmemo.credit_liability' 'VALUES (1), (2), (3)'
}
memo_balance() {
	measure_query memo_balance entries 'SELECT * FROM creditmemo.memo_balance' 'VALUES (1), (2), (3)'
}

make_invoices() {
	need loaded
	createdb -T loaded invoices
}

# invoice: each round invoices another customer
invoice() {
	need invoices
	query invoices -c CHECKPOINT
	record invoice creditmemo "$(query invoices -c "
		SELECT public.execution_time(
			\$\$SELECT creditmemo.issue_invoice('SI$round', 'C$round', '2019-01-01', '2019-02-05')\$\$)")"
	verify invoices
}

# ---------------------------------------------------------------------------------------------
# Memory
# ---------------------------------------------------------------------------------------------

# private_kilobytes PID: of the process's own memory, what it holds now
private_kilobytes() {
	sed -n 's/^RssAnon:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$1/status" 2>/dev/null || true
}

# peak_growth VARIANT STATEMENT: bytes an account by which the memory of the backend grows
peak_growth() {
	local session pid before now peak
	as "$1" query bench -c 'SELECT pg_sleep(1)' -c "$2" >/dev/null &
	session=$!
	sleep 0.5
	pid=$(query postgres -c "
		SELECT pid FROM pg_stat_activity WHERE datname = 'bench' AND backend_type = 'client backend'")
	before=$(private_kilobytes "$pid")
	peak=$before
	while kill -0 "$session" 2>/dev/null; do
		now=$(private_kilobytes "$pid")
		[ "${now:-0}" -le "$peak" ] || peak=$now
		sleep 0.02
	done
	wait "$session"
	echo $(((peak - before) * 1024 / accounts))
}

# measure_memory CASE LINES VARIANT...
measure_memory() {
	local name=$1 lines=$2 variant
	shift 2
	need load
	for variant in $(turns "$@"); do
		fresh load
		record "$name" "$variant" "$(peak_growth "$variant" "$insert_bill WHERE line_no <= $lines")"
	done
}

memory() { measure_memory memory "$lines" bare creditmemo; }
memory_few_lines() { measure_memory memory_few_lines $((lines / 5)) creditmemo; }
