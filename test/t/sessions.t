# Sessions beside others and under settings of the server: prepared transactions that another session ends, views in
# parallel workers, the extension in several databases at once.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Cluster;
use Psql qw(new_database drop_databases psql books_are_sound);
use Stories qw(prepare_stories random_books);
use Test::More;

my $cluster = Cluster->new('sessions', settings => { max_prepared_transactions => 10, max_worker_processes => 8,
	max_parallel_workers => 8, autovacuum => 'off' });
$cluster->start;

# Runs a statement that is to fail, and returns the error.
sub error_of
{
	my ($database, $statements) = @_;
	eval { psql($database, $statements) };
	return $@;
}

# Every row of every table.
sub contents
{
	my ($database) = @_;
	my @tables = split /\n/, psql($database, <<'SQL');
SELECT relname FROM pg_class WHERE relnamespace = 'creditmemo'::regnamespace AND relkind = 'r' ORDER BY relname
SQL
	return psql($database, join("\nUNION ALL\n", map { "SELECT '$_', t::text FROM creditmemo.$_ t" } @tables) . "\nORDER BY 1, 2");
}

# ---- prepared transactions ----

sub prepared_transactions
{
	my $database = new_database('creditmemo_prepared');
	psql($database, <<'SQL');
SET search_path = creditmemo;
INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('P1');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT n, 'P1', 'ACME' FROM generate_series(1, 3) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('1', 'M', 100, '2019-01-05'), ('2', 'M', 100, '2019-01-05');
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	SELECT '2019-01-01', account_id, 'Amazon EC2', 10, 'a' FROM member_account;
SQL
	# each is possible by itself, and after those before it
	my @changes = (
		[ 'load', "INSERT INTO utilization (service_period, account_id, service, amount, source_id)
			VALUES ('2019-01-01', '1', 'Amazon EC2', 5, 'b'), ('2019-02-01', '2', 'Amazon EC2', 5, 'b')" ],
		[ 'restate', "INSERT INTO utilization (service_period, account_id, service, amount, source_id)
			VALUES ('2019-01-01', '1', 'Amazon EC2', 7, 'a'), ('2019-01-01', '2', 'Amazon EC2', 4, 'c')
			ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount" ],
		[ 'delete', "DELETE FROM utilization WHERE source_id = 'a' AND account_id = '3'" ],
		[ 'memo', "INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('1', 'N', 5, '2019-01-05')" ],
		[ 'expiry', "UPDATE credit_memo SET expires_on = '2019-01-31' WHERE memo_number = 'M'" ],
		[ 'invoice', "SELECT issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05')" ],
		[ 'void invoice', "SELECT void_invoice('SI1', 'wrong')" ],
		[ 'void memo', "SELECT void_memo('M', 'wrong', '1')" ],
		[ 'close', "SELECT close_period('2018-12-01')" ]);

	for my $change (@changes)
	{
		my ($name, $statement) = @$change;
		my $before = contents($database);
		my $prepare = "SET search_path = creditmemo;\n\\o /dev/null\nBEGIN;\n$statement;\nPREPARE TRANSACTION 'one'";
		psql($database, $prepare);
		is(contents($database), $before, "$name: prepared, others see nothing of it");
		like(error_of($database, "SET search_path = creditmemo;\nSET lock_timeout = '20ms';\n$statement"), qr/canceling statement due to lock timeout/,
			"$name: others wait for its accounts") if $name =~ /^(restate|invoice)$/;
		psql($database, "ROLLBACK PREPARED 'one'");
		is(contents($database), $before, "$name: rolled back by another session");
		psql($database, $prepare);
		if ($name =~ /^(load|invoice)$/)
		{
			$cluster->stop('immediate');
			$cluster->start;
			is(contents($database), $before, "$name: still prepared after a crash");
		}
		psql($database, "COMMIT PREPARED 'one'");
		isnt(contents($database), $before, "$name: committed by another session");
		books_are_sound($database, "$name: the books are sound");
	}

	# a session goes on with what it keeps after its transaction became somebody else's
	is(psql($database, <<'SQL'), "5.00\n7.00\n12.00", 'a session goes on after it prepared');
SET search_path = creditmemo;
BEGIN;
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-05-01', '3', 'Amazon EC2', 5);
SELECT due FROM unbilled WHERE account_id = '3' AND service_period = '2019-05-01';
PREPARE TRANSACTION 'one';
BEGIN;
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-05-01', '2', 'Amazon EC2', 7);
SELECT due FROM unbilled WHERE account_id = '2' AND service_period = '2019-05-01';
PREPARE TRANSACTION 'two';
COMMIT PREPARED 'two';
COMMIT PREPARED 'one';
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-05-01', '3', 'Amazon EC2', 7);
SELECT due FROM unbilled WHERE account_id = '3' AND service_period = '2019-05-01';
SQL

	# what is never settled is not prepared either
	my $before = contents($database);
	like(error_of($database, <<'SQL'), qr/stopped before its rows were settled/, 'what is not settled cannot be prepared');
SET search_path = creditmemo;
BEGIN;
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-06-01', '3', 'Amazon EC2', 7 FROM set_config('session_replication_role', 'replica', true);
PREPARE TRANSACTION 'one';
SQL
	is(contents($database), $before, 'and is undone');
	like(error_of($database, <<'SQL'), qr/cannot PREPARE a transaction that has operated on temporary objects/, 'an import cannot be prepared');
BEGIN;
CREATE TEMP TABLE bill AS
SELECT 'P1' AS "BillingAccountId", '3' AS "SubAccountId", 8 AS "BilledCost", 'USD' AS "BillingCurrency",
	'Usage' AS "ChargeCategory", 'Amazon S3' AS "ServiceName", NULL AS "ChargeDescription",
	'2019-07-01' AS "ChargePeriodStart", '2019-07-01' AS "BillingPeriodStart";
COMMIT;
BEGIN;
SELECT count(*) FROM creditmemo.import_focus('bill');
PREPARE TRANSACTION 'one';
SQL
	is(contents($database), $before, 'and is undone, too');
	is(psql($database, 'SELECT count(*) FROM pg_prepared_xacts'), '0', 'nothing is left prepared');
	books_are_sound($database);
}

# ---- parallel workers ----

sub parallel_queries
{
	my $database = new_database('creditmemo_parallel');
	srand 1;
	prepare_stories($database);
	psql($database, "SET client_min_messages = error;\n\\o /dev/null\n" . random_books());
	# of some accounts enough to be worth it
	psql($database, <<'SQL');
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	SELECT '2020-06-01', a.account_id, 'Amazon EC2', 1 FROM creditmemo.member_account a, generate_series(1, 500);
INSERT INTO creditmemo.provider_credit (account_id, payer_account_id, service_period, service, amount)
	SELECT a.account_id, a.payer_account_id, '2020-06-01', 'Amazon EC2', -1 FROM creditmemo.member_account a;
ANALYZE;
SQL
	my $force = psql($database, "SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')");
	my $eager = <<"SQL";
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET min_parallel_index_scan_size = 0;
SET max_parallel_workers_per_gather = 3;
SQL
	my %modes = ('workers' => $eager, 'everything in a worker' => "$eager\nSET $force = on;",
		'without the leader' => "$eager\nSET parallel_leader_participation = off;\nSET enable_indexscan = off;\nSET enable_bitmapscan = off;");

	my @relations = split /\n/, psql($database, <<'SQL');
SELECT relname FROM pg_class WHERE relnamespace = 'creditmemo'::regnamespace AND relkind IN ('r', 'v') ORDER BY relname
SQL
	my %queries = ((map { ($_ => "SELECT t::text FROM creditmemo.$_ t ORDER BY 1") } @relations),
		'totals' => 'SELECT service, sum(amount), count(*) FROM creditmemo.utilization GROUP BY service ORDER BY service COLLATE "C"',
		'verify()' => 'SELECT * FROM creditmemo.verify()',
		'balance_as_of()' => "SELECT * FROM creditmemo.balance_as_of('infinity') ORDER BY 1, 2",
		'money_text()' => "SELECT creditmemo.money_text(amount, 'USD'), creditmemo.service_period_text(service_period), count(*)
			FROM creditmemo.utilization GROUP BY 1, 2 ORDER BY 1, 2",
		'documents' => 'SELECT creditmemo.invoice_html(invoice_number), creditmemo.email_text(invoice_number) FROM creditmemo.invoice ORDER BY invoice_number',
		'statements' => 'SELECT creditmemo.statement_html(account_id), creditmemo.statement_text(account_id) FROM creditmemo.member_account ORDER BY account_id',
		'domains' => "SELECT count(amount::text::creditmemo.money_amount), count(service_period::text::creditmemo.service_period) FROM creditmemo.utilization",
		'waivers' => "SELECT * FROM creditmemo.payer_account p, creditmemo.defw_waiver(p.payer_account_id, '2020-06-01', '{Amazon EC2}') ORDER BY 1, 3",
		'allocation' => "SELECT * FROM creditmemo.payer_account p, creditmemo.predicted_allocation(p.payer_account_id, '2020-06-01') ORDER BY p, 3, 4, 5");
	for my $query (sort keys %queries)
	{
		my $serial = psql($database, "SET max_parallel_workers_per_gather = 0;\n$queries{$query}");
		is(psql($database, "$modes{$_}\n$queries{$query}"), $serial, "$query: $_") foreach sort keys %modes;
	}
	for my $relation (@relations)
	{
		my $plan = psql($database, "$modes{'everything in a worker'}\nEXPLAIN SELECT * FROM creditmemo.$relation");
		# documents are read by functions that make no promise
		my $is_serial = $relation eq 'invoice_email';
		ok(($plan =~ /Gather/ xor $is_serial), $is_serial ? "$relation is not parallel" : "$relation is parallel") or diag $plan;
	}
	like(psql($database, "$modes{'everything in a worker'}\nEXPLAIN $queries{$_}"), qr/Gather/, "$_ is parallel")
	  foreach 'money_text()', 'domains', 'totals';
	like(psql($database, "$modes{'without the leader'}\nEXPLAIN ANALYZE SELECT * FROM creditmemo.$_"), qr/Workers Launched: [1-3]/,
		"$_ with workers") foreach qw(utilization billing unbilled invoice_line credit_reconciliation);

	# statements that write in a session that would have everything in parallel
	psql($database, <<"SQL");
$modes{'everything in a worker'}
\\o /dev/null
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	SELECT '2020-07-01', u.account_id, u.service, sum(u.amount) FROM creditmemo.utilization u GROUP BY u.account_id, u.service;
UPDATE creditmemo.utilization SET amount = amount + 1 WHERE service_period = '2020-07-01';
SELECT count(creditmemo.issue_invoice(customer_id || '-last', customer_id, '2020-07-01', '2020-08-05'))
FROM (SELECT DISTINCT customer_id FROM creditmemo.unbilled WHERE service_period = '2020-07-01') c;
-- what somebody says can be done in a worker
CREATE FUNCTION public.in_worker(statement text) RETURNS text LANGUAGE plpgsql PARALLEL SAFE COST 100000 AS
	'DECLARE result text; BEGIN EXECUTE statement INTO result; RETURN result; END';
SQL
	for my $call ("close_period('2018-01-01')", "reopen_period('2018-01-01', NULL, 'late')", "void_memo('CM1', 'wrong')",
		"void_invoice('none', 'wrong')", "issue_invoice('none', 'none', '2020-01-01')")
	{
		my ($function) = $call =~ /^(\w+)/;
		my $quoted = $call =~ s/'/''/gr;
		like(error_of($database, "$modes{'without the leader'}\nSET $force = on;\n"
			  . "SELECT public.in_worker('SELECT creditmemo.$quoted') FROM creditmemo.customer;"),
			qr/cannot execute $function\(\) during a parallel operation/, "$function() refuses to run in a worker");
	}
	books_are_sound($database);
}

# ---- several databases ----

sub several_databases
{
	my @databases = map { new_database("creditmemo_several_$_") } 1 .. 3;
	my $script = join '', map { <<"SQL" } (@databases) x 2;
\\c $_
INSERT INTO creditmemo.customer (customer_id, name) VALUES ('ACME', 'Acme') ON CONFLICT DO NOTHING;
INSERT INTO creditmemo.payer_account VALUES ('P1') ON CONFLICT DO NOTHING;
INSERT INTO creditmemo.member_account (account_id, payer_account_id, customer_id) VALUES ('1', 'P1', 'ACME') ON CONFLICT DO NOTHING;
INSERT INTO creditmemo.po_assignment (account_id, po_number) VALUES ('1', 'PO');
INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on) VALUES ('1', 10, '2019-01-05');
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '1', 'Amazon EC2', 4);
SQL
	psql('postgres', $script);
	for my $database (@databases)
	{
		is(psql($database, 'SELECT utilization, credit FROM creditmemo.unbilled'), '8.00|8.00', "$database has its own books");
		books_are_sound($database);
	}
	psql($databases[0], 'DROP EXTENSION creditmemo');
	is(psql($databases[1], 'SELECT utilization, credit FROM creditmemo.unbilled'), '8.00|8.00', 'dropped in one, it is there in the others');
	for my $schema ('public', 'elsewhere')
	{
		like(error_of($databases[0], "CREATE SCHEMA IF NOT EXISTS $schema; CREATE EXTENSION creditmemo SCHEMA $schema"),
			qr/extension "creditmemo" must be installed in schema "creditmemo"/, "it cannot be created in schema $schema");
	}
	like(error_of($databases[1], 'CREATE SCHEMA elsewhere; ALTER EXTENSION creditmemo SET SCHEMA elsewhere'),
		qr/extension "creditmemo" does not support SET SCHEMA/, 'nor moved');
	psql($databases[0], 'CREATE EXTENSION creditmemo');
	books_are_sound($databases[0]);
}

$cluster->run(sub {
	prepared_transactions();
	parallel_queries();
	several_databases();
	drop_databases();
});

done_testing();
