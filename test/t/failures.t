# A statement that fails fails whole, whatever it lacked and wherever that was noticed: every row of every table is as it
# was, the session goes on, what the extension keeps in it is still good, and the same statement succeeds afterwards.
#
# The n-th row written is refused for n = 1, 2, 3 ...; statements are cancelled and time out at random moments; the disk,
# memory, the lock table and temporary files are full; commits, locks and snapshots fail.
#
# MOMENTS says at how many random moments each statement is interrupted in each way (2), and how finely what is full is
# varied; ONLY which parts to run: full, interrupted, locks, memory, refused, transactions, work.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Client;
use Cluster;
use Psql qw(new_database drop_databases psql);
use Test::More;
use Time::HiRes qw(sleep time);

my $moments = $ENV{MOMENTS} // 2;

# ---- books ----

# December is invoiced, and memos end with it; January is invoiced and has a supplementary billing; February is open.
# November is closed.
sub prepare_books
{
	my ($database, $n_accounts) = @_;
	psql($database, <<"SQL");
ALTER DATABASE $database SET search_path = creditmemo, public;
ALTER DATABASE $database SET client_min_messages = error;
SET search_path = creditmemo, public;
INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT lpad(n::text, 12, '0'), '999999999999', 'ACME' FROM generate_series(1, $n_accounts) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on, services)
	SELECT account_id, kind, amount, '2018-11-01', expires_on, services
	FROM member_account, (VALUES ('plain', 100, NULL::date, NULL::text[]), ('ends', 9, '2018-12-31', NULL),
		('gone', 7, '2018-11-30', NULL), ('limited', 12, NULL, '{S3}')) m (kind, amount, expires_on, services);
SELECT close_period('2018-11-01') \\g /dev/null
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT month, account_id, service, 8
	FROM member_account, (VALUES ('2018-12-01'::date, 'Tax'), ('2019-01-01', 'EC2'), ('2019-01-01', 'S3')) l (month, service);
SELECT issue_invoice('SI0', 'ACME', '2018-12-01', '2019-01-05') \\g /dev/null
SELECT issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05') \\g /dev/null
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	SELECT month, account_id, service, amount, source
	FROM member_account, (VALUES ('2019-01-01'::date, 'EC2', 3, 'late'), ('2019-02-01', 'EC2', 50, 'a'),
		('2019-02-01', 'S3', 10, 'b')) l (month, service, amount, source);
CREATE TABLE public.bill AS
	SELECT '2019-03-01' AS "BillingPeriodStart", '999999999999' AS "BillingAccountId", account_id AS "SubAccountId",
		'2019-03-02' AS "ChargePeriodStart", cost AS "BilledCost", 'USD' AS "BillingCurrency", category AS "ChargeCategory",
		service AS "ServiceName", 'AWS' AS "PublisherName", '7' AS "InvoiceId", 'Something' AS "ChargeDescription"
	FROM member_account, (VALUES ('12.345', 'Usage', 'EC2'), ('1.2', 'Tax', 'EC2'), ('-4.5', 'Credit', 'EC2')) l (cost, category, service);

-- a hash of all rows of all tables; and one that does not mind ids and times
CREATE FUNCTION public.contents(is_exact boolean = true) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
	name text;
	rows text;
	all_rows text := '';
BEGIN
	FOR name IN
		SELECT relname FROM pg_class WHERE relnamespace = 'creditmemo'::regnamespace AND relkind = 'r' ORDER BY relname
	LOOP
		EXECUTE format('SELECT md5(string_agg(%s, E''\\n'' ORDER BY %1\$s)) FROM creditmemo.%I t',
			CASE WHEN is_exact THEN 't::text' ELSE
				'(to_jsonb(t) - ''{recorded_at,voided_at,assigned_at,utilization_id,memo_id,provider_credit_line_id}''::text[])::text' END, name)
		INTO rows;
		all_rows := concat(all_rows, name, ' ', rows, ' ');
	END LOOP;
	RETURN all_rows;
END
\$\$;
CREATE FUNCTION public.problems() RETURNS text LANGUAGE sql AS
'SELECT coalesce(string_agg(v::text, E''\\n''), ''none'') FROM (SELECT * FROM creditmemo.verify() LIMIT 5) v';
SQL
	return $database;
}

# Each is possible as the books are.
my %statements = (
	load => "INSERT INTO utilization (service_period, account_id, service, amount, source_id)
		SELECT month, account_id, 'EC2', amount, month || ' new ' || amount
		FROM member_account, (VALUES ('2019-01-01'::date, 70), ('2019-02-01', -5), ('2019-03-01', 12)) l (month, amount)",
	restate => "INSERT INTO utilization (service_period, account_id, service, amount, source_id)
		SELECT '2019-02-01', account_id, 'EC2', 20, source
		FROM member_account, (VALUES ('a'), ('c')) l (source)
		ORDER BY account_id
		ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount",
	withdraw => "DELETE FROM utilization WHERE source_id IN ('a', 'late')",
	'new memos' => "INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on)
		SELECT account_id, 'new', 15, '2019-01-01' FROM member_account",
	'terms of memos' => "UPDATE credit_memo SET expires_on = '2019-01-31' WHERE memo_number = 'plain'",
	issue_invoice => "SELECT issue_invoice('SI2', 'ACME', '2019-02-01', '2019-03-05')",
	void_invoice => "SELECT void_invoice('SI1', 'wrong')",
	void_memo => "SELECT void_memo('plain', 'wrong', '000000000002')",
	close_period => "SELECT close_period('2018-12-01')",
	reopen_period => "SELECT reopen_period('2018-11-01', NULL, 'late')",
	import_focus => "SELECT import_focus('public.bill')");
my @statements = sort keys %statements;
my $documents = "SELECT length(string_agg(invoice_html(i.invoice_number), '')),
	(SELECT sum(length(body_html)) FROM invoice_email), (SELECT sum(length(statement_html(account_id))) FROM member_account)
	FROM invoice i";
my $small = "INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-02-01', '000000000001', 'EC2', 1), ('2019-02-01', '000000000003', 'S3', -1)";

# The SQLSTATE of statements that are one transaction, of which all but the last succeed.
sub state_of_all
{
	my ($client, @statements) = @_;
	my $state;
	foreach (@statements) { $state = $client->state_of($_); last if $state ne '00000' }
	return $state;
}

# What contents() says after the statement, which is rolled back.
sub contents_after
{
	my ($client, @statements) = @_;
	$client->query('BEGIN');
	my $state = state_of_all($client, @statements);
	my $contents = $state eq '00000' ? $client->query('SELECT public.contents(false), public.problems()') : "failed: $state";
	$client->query('ROLLBACK');
	return $contents;
}

# A session, and another one that looks on.
sub sessions { my ($database, %settings) = @_; return (Client->new($database, settings => \%settings), Client->new($database)) }

# ---- the n-th row written is refused ----

# Whatever is written to a table counts.  A CHECK of built-in functions only, so that the extension keeps what it keeps.
my $by_check = <<'SQL';
ALTER TABLE creditmemo.%1$I ADD CONSTRAINT fault CHECK (1 / (nextval('public.fault') - 1000) IS NOT NULL) NOT VALID
SQL
my $by_triggers = <<'SQL';
ALTER TABLE creditmemo.%1$I DROP CONSTRAINT fault;
CREATE TRIGGER fault BEFORE INSERT OR UPDATE ON creditmemo.%1$I FOR EACH ROW EXECUTE FUNCTION public.fault();
CREATE TRIGGER fault_after AFTER INSERT OR UPDATE ON creditmemo.%1$I FOR EACH ROW EXECUTE FUNCTION public.fault();
SQL

sub refuse_on_each_table
{
	my ($database, $how) = @_;
	psql($database, "DO \$do\$
		DECLARE name text;
		BEGIN
			FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'creditmemo'::regnamespace AND relkind = 'r' LOOP
				EXECUTE format(\$\$$how\$\$, name);
			END LOOP;
		END \$do\$");
}

my $look = "public.contents(false) || public.problems()";

# The statement with the n-th row refused, and whether it was taken back whole: 'whole', or what else.
my %refused = (
	'by itself' => sub {
		my ($client, $statement, $refuse) = @_;
		$client->query($refuse);
		return $client->state_of($statement) eq '22012' ? 'whole' : 'no error, or another one';
	},
	'after a savepoint' => sub {
		my ($client, $statement, $refuse) = @_;
		$client->query("BEGIN; $small; SAVEPOINT a; $refuse");
		my $state = $client->state_of($statement);
		$client->query('ROLLBACK TO a');
		my $is_as_expected = $client->query("$small; SELECT $look = current_setting('test.expected')");
		$client->query('ROLLBACK');
		return $state ne '22012' ? 'no error, or another one' : $is_as_expected eq 't' ? 'whole' : 'something is left';
	},
	'after a savepoint, committed' => sub {
		my ($client, $statement, $refuse) = @_;
		my $state = state_of_all($client, 'BEGIN', 'SAVEPOINT a', $refuse, $statement);
		my $end = state_of_all($client, 'ROLLBACK TO a', 'COMMIT');
		return $state eq '22012' && $end eq '00000' ? 'whole' : "$state, then $end";
	},
	'in an exception block' => sub {
		my ($client, $statement, $refuse) = @_;
		$client->send("DO \$do\$ BEGIN
			$small;
			BEGIN
				PERFORM ($refuse);
				EXECUTE \$x\$$statement\$x\$;
				RAISE 'no error';
			EXCEPTION WHEN division_by_zero THEN
				$small;
			END;
			RAISE '%', CASE WHEN $look = current_setting('test.expected') THEN 'whole' ELSE 'something is left' END;
		END \$do\$");
		my ($state, $output) = $client->answer;
		return $output =~ /ERROR:  whole\n/ ? 'whole' : $output;
	});

# How many rows the statement writes, and what the books are then, in a transaction that is rolled back.
sub count_rows
{
	my ($client, $statement) = @_;
	my $contents = contents_after($client, "SELECT setval('public.fault', 2000)", $statement);
	return ($client->query("SELECT last_value - 2000 FROM public.fault"), $contents);
}

sub test_rows_refused
{
	my $database = prepare_books(new_database('creditmemo_refused'), 3);
	psql($database, <<'SQL');
CREATE SEQUENCE public.fault START 2000;
CREATE FUNCTION public.fault() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM 1 / (nextval('public.fault') - 1000);
	RETURN new;
END
$$;
SQL
	my ($fresh, $onlooker) = sessions($database);
	my %expected = map { ($_ => contents_after($fresh, $statements{$_})) } @statements;
	my $before = $onlooker->query('SELECT public.contents()');
	my $refused = 0;
	for my $how ([ 'by a constraint', $by_check, sort keys %refused ], [ 'by triggers', $by_triggers, 'by itself' ])
	{
		my ($by, $sql, @around) = @$how;
		refuse_on_each_table($database, $sql);
		my ($client) = sessions($database);
		my $expected = $client->query("BEGIN; SELECT setval('public.fault', 2000) \\g /dev/null\n$small; $small; SELECT $look; ROLLBACK");
		$client->query("SELECT set_config('test.expected', '$expected', false)");
		for my $name (@statements)
		{
			my ($n_rows, $contents) = count_rows($client, $statements{$name});
			is($contents, $expected{$name}, "$name does what it does in a fresh session");
			for my $around (@around)
			{
				my @wrong;
				for my $n (1 .. $n_rows)
				{
					my $outcome = $refused{$around}->($client, $statements{$name}, sprintf "SELECT setval('public.fault', %d)", 1000 - $n);
					push @wrong, "row $n: $outcome" if $outcome ne 'whole';
					push @wrong, "row $n: something has changed" if $onlooker->query('SELECT public.contents()') ne $before;
				}
				is(join("\n", @wrong), '', "$name, $around: each of $n_rows rows refused $by");
				$refused += $n_rows;
			}
			is((count_rows($client, $statements{$name}))[1], $expected{$name}, "$name does it afterwards");
		}
	}
	is($onlooker->query('SELECT public.problems()'), 'none', 'the books are sound');
	diag "$refused rows refused";
}

# ---- statements interrupted ----

# Each has the session told to be interrupted, or somebody else interrupt it, after so many seconds; returns how to end that.
my %interruptions = (
	statement_timeout => sub {
		my ($client, $onlooker, $seconds) = @_;
		$client->query(sprintf 'SET statement_timeout = %d', 1 + 1000 * $seconds);
		return sub { $client->query('RESET statement_timeout') };
	},
	pg_cancel_backend => sub {
		my ($client, $onlooker, $seconds) = @_;
		my $pid = $client->backend;
		$onlooker->send("SELECT pg_sleep($seconds) \\g /dev/null\nSELECT pg_cancel_backend($pid)");
		return sub { $onlooker->answer };
	},
	lock_timeout => sub {
		my ($client, $onlooker, $seconds, $n_accounts) = @_;
		$onlooker->query(sprintf "BEGIN; SELECT FROM creditmemo.member_account WHERE account_id = '%012d' FOR UPDATE",
			4 + rand($n_accounts - 3));
		$client->query('SET lock_timeout = 1');
		return sub { $onlooker->query('COMMIT'); $client->query('RESET lock_timeout') };
	});

sub test_interrupted
{
	my $n_accounts = 300;
	my $database = prepare_books(new_database('creditmemo_interrupted'), $n_accounts);
	my ($client, $onlooker) = sessions($database);
	my $before = $onlooker->query('SELECT public.contents()');
	my %counts;
	for my $name (@statements, 'documents')
	{
		my $statement = $statements{$name} // $documents;
		my $expected = contents_after((sessions($database))[0], $statement);
		$client->query('BEGIN');
		my $started = time;
		$client->query($statement);
		my $seconds = time - $started;
		$client->query('ROLLBACK');
		my @wrong;
		for my $how ((sort keys %interruptions) x $moments)
		{
			for my $is_in_transaction (0, 1)
			{
				$client->query('SELECT 1');
				my $end = $interruptions{$how}->($client, $onlooker, rand $seconds, $n_accounts);
				# where it is quicker than that, it is taken back all the same
				my $state = $is_in_transaction ? state_of_all($client, 'BEGIN', $small, 'SAVEPOINT a', $statement)
				  : $client->state_of("$statement\\; SELECT 1 / 0");
				my $is_whole = $is_in_transaction && $state =~ /^(?:57014|55P03)/
				  ? state_of_all($client, 'ROLLBACK TO a', 'SET LOCAL statement_timeout = 0', $small) eq '00000' : 1;
				$client->state_of('ROLLBACK');
				$end->();
				$counts{ $state =~ /^(?:00000|22012)$/ ? 'too late' : "$how ($state)" }++;
				push @wrong, "$how: $state" unless $state =~ /^(?:00000|22012|57014|55P03)$/ && $is_whole;
			}
			push @wrong, "$how: something has changed" if $onlooker->query('SELECT public.contents()') ne $before;
		}
		is(join("\n", @wrong), '', sprintf '%s, which takes %d ms, interrupted', $name, 1000 * $seconds);
		is(contents_after($client, $statement), $expected, "$name does afterwards what it does in a fresh session");
	}

	# sessions that end
	for my $name (@statements)
	{
		my $victim = Client->new($database);
		my $pid = $victim->backend;
		$victim->query('BEGIN');
		$victim->send($statements{$name});
		$onlooker->query("SELECT pg_terminate_backend($pid)");
		$victim->answer;
		1 while $onlooker->query("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") ne '0' && sleep 0.01;
		is($onlooker->query('SELECT public.contents()'), $before, "$name, terminated, has changed nothing");
	}
	my $idle = Client->new($database, settings => { idle_in_transaction_session_timeout => '10ms' });
	$idle->query("BEGIN\\; $statements{load}");
	sleep 0.1;
	is($idle->state_of('SELECT 1'), 'lost', 'a session that is idle in a transaction is ended');
	is($onlooker->query('SELECT public.contents()'), $before, 'it has changed nothing');
	is($onlooker->query('SELECT public.problems()'), 'none', 'the books are sound');
	diag join ', ', map { "$_: $counts{$_}" } sort keys %counts;
}

# ---- no room on disk ----

my $mounted;
sub unmount { system('umount', '-l', $mounted) if $mounted; undef $mounted }
END { local $?; unmount() }

sub command { my (@command) = @_; system(@command) == 0 or die "@command: $?" }

# Leaves so many pages of a table in the tablespace.
sub leave_pages
{
	my ($directory, $pages) = @_;
	unlink "$directory/filler";
	my ($free) = (split ' ', (`df --block-size=1 --output=avail $directory`)[1]);
	my $size = $free - $pages * 8192;
	command('fallocate', '-l', $size, "$directory/filler") if $size > 0;
}

# Moves tables of the extension, all of them or those that it writes itself, into the tablespace, with their indexes.
sub move_tables
{
	my ($client, $tablespace, @tables) = @_;
	for my $table (@tables)
	{
		$client->query("ALTER TABLE creditmemo.$table SET TABLESPACE $tablespace");
		$client->query("ALTER INDEX creditmemo.$_ SET TABLESPACE $tablespace") foreach split /\n/,
		  $client->query("SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = indexrelid
			WHERE indrelid = 'creditmemo.$table'::regclass");
	}
}

sub test_disk_full
{
	my $directory = Cluster::directory();
	chmod 0755, $directory;
	plan_skip('a full disk needs root, to mount a small one') or return if $> != 0;
	plan_skip('a full disk needs a file system to be mounted') or return
	  if system("mount -t tmpfs -o size=64m,mode=0755 tmpfs $directory 2>/dev/null") != 0;
	$mounted = $directory;
	mkdir "$directory/space";
	Cluster::to_server("$directory/space");
	psql('postgres', "CREATE TABLESPACE regress_small LOCATION '$directory/space'");

	my %refused;
	for my $where ('all tables', 'those that triggers write')
	{
		my $database = prepare_books(new_database('creditmemo_full'), 150);
		my ($client, $onlooker) = sessions($database, work_mem => '64MB');
		my @tables = $where eq 'all tables' ? qw(utilization credit_memo memo_entry billing invoice voided_billing voided_line
			period_closing member_account provider_credit bill_account) : qw(memo_entry billing);
		psql($database, 'ALTER SYSTEM SET autovacuum = off');
		psql($database, 'SELECT pg_reload_conf()');
		# full pages, so that whatever is written needs new ones
		psql($database, join '', map { "ALTER TABLE creditmemo.$_ SET (fillfactor = 100);\nVACUUM FULL creditmemo.$_;\n" } @tables);
		move_tables($client, 'regress_small', @tables);
		my $before = $onlooker->query('SELECT public.contents()');
		for my $name (grep { !/void_memo|reopen/ } @statements)
		{
			my $statement = $statements{$name};
			my $expected = contents_after((sessions($database))[0], $statement);
			psql($database, join '', map { "VACUUM FULL creditmemo.$_;\n" } @tables);
			my (@wrong, $pages);
			for ($pages = 0; ; $pages += int(1 + $pages / $moments))
			{
				leave_pages($directory, $pages);
				my $state = $client->state_of("$statement\\; SELECT 1 / 0");
				unlink "$directory/filler";
				last if $state eq '22012';
				push @wrong, "$pages pages: $state" if $state ne '53100';
				push @wrong, "$pages pages: something has changed" if $onlooker->query('SELECT public.contents()') ne $before;
				$refused{$where}++;
				last if @wrong > 5 || $pages > 4000;
			}
			is(join("\n", @wrong), '', "$name, full with $where: refused until there is room for $pages pages");
			is(contents_after($client, $statement), $expected, "$name does it afterwards");
		}
		is($onlooker->query('SELECT public.problems()'), 'none', 'the books are sound');
		undef $client;
		undef $onlooker;
		drop_databases();
	}
	psql('postgres', 'ALTER SYSTEM RESET autovacuum');
	psql('postgres', 'SELECT pg_reload_conf()');
	psql('postgres', 'DROP TABLESPACE regress_small');
	unmount();
	diag 'disk full: ' . join ', ', map { "$refused{$_} times with $_" } sort keys %refused;
}

sub plan_skip { my ($why) = @_; SKIP: { skip $why, 1 } return 0 }

# ---- no memory ----

my @as_server = $> == 0 ? qw(setpriv --reuid postgres --regid postgres --init-groups) : ();

# Limits what a process may have of memory to what it has now and so many kilobytes.
sub limit_memory
{
	my ($pid, $kilobytes) = @_;
	my $limit = 'unlimited';
	if (defined $kilobytes)
	{
		open my $file, '<', "/proc/$pid/status" or die;
		my ($size) = join('', <$file>) =~ /^VmSize:\s+(\d+) kB/m;
		$limit = ($size + $kilobytes) * 1024;
	}
	command(@as_server, 'prlimit', "--pid=$pid", "--as=$limit:");
}

sub test_out_of_memory
{
	plan_skip('out of memory needs prlimit') or return if system('command -v prlimit >/dev/null') != 0;
	my $database = prepare_books(new_database('creditmemo_memory'), 300);
	my ($looker, $onlooker) = sessions($database);
	my $before = $onlooker->query('SELECT public.contents()');
	my $failed = 0;
	for my $name (grep { !/void_memo/ } @statements)
	{
		my $statement = $statements{$name};
		my $expected = contents_after($looker, $statement);
		# one that has not run it yet, so that its memory has to grow; libraries are loaded
		my $client = Client->new($database);
		my $pid = $client->backend;
		$client->query("LOAD 'plpgsql'; BEGIN; $small; ROLLBACK");
		my (@wrong, $kilobytes);
		for ($kilobytes = 0; ; $kilobytes += 4 * int(1 + (2 + $kilobytes / 16) / $moments))
		{
			limit_memory($pid, $kilobytes);
			$client->send("$statement\\; SELECT 1 / 0");
			my ($state, $output) = $client->answer;
			limit_memory($pid, undef) if defined $state;
			last if ($state // '') eq '22012';
			# a regular expression that runs out of memory has another SQLSTATE
			push @wrong, "$kilobytes kB: $output" if $output !~ /out of memory/ || !defined $state;
			push @wrong, "$kilobytes kB: something has changed" if $onlooker->query('SELECT public.contents()') ne $before;
			$failed++;
			last if @wrong > 3 || $kilobytes > 200000;
		}
		is(join("\n", @wrong), '', "$name: out of memory until it may have $kilobytes kB");
		is(contents_after($client, $statement), $expected, "$name does it afterwards") unless @wrong;
		is($client->backend, $client->query('SELECT pg_backend_pid()'), 'in the same session') unless @wrong;
	}
	is($onlooker->query('SELECT public.problems()'), 'none', 'the books are sound');
	diag "out of memory: $failed times";
}

# ---- little memory to work in, and no room for temporary files ----

sub test_little_work_memory
{
	my %hash;
	my $lines = 200_000;
	for my $work_mem ('64kB', '256MB')
	{
		my $database = prepare_books(new_database("creditmemo_work_$work_mem" =~ tr/A-Z/a-z/r), 500);
		my $maintenance = $work_mem eq '64kB' ? '1MB' : $work_mem;
		my ($client, $onlooker) = sessions($database, work_mem => $work_mem, maintenance_work_mem => $maintenance);
		my $before = $onlooker->query('SELECT public.contents()');
		my $load = "INSERT INTO utilization (service_period, account_id, service, amount, source_id)
			SELECT '2019-02-01', account_id, 'EC2', 0.01 + n % 100, 'many ' || n
			FROM member_account, generate_series(1, $lines / 500) n";
		my $restate = "$load ON CONFLICT (account_id, source_id) DO UPDATE SET amount = 0.02 + utilization.amount / 2";
		if ($work_mem eq '64kB')
		{
			$client->query("SET temp_file_limit = '1MB'");
			is($client->state_of($load), '53400', 'a load that needs more temporary files than it may have');
			is($onlooker->query('SELECT public.contents()'), $before, 'it has changed nothing');
			$client->query("RESET temp_file_limit");
		}
		is($client->state_of($load), '00000', "$lines lines with work_mem $work_mem");
		if ($work_mem eq '64kB')
		{
			$before = $onlooker->query('SELECT public.contents()');
			$client->query("SET temp_file_limit = '1MB'");
			is($client->state_of($_), '53400', 'a statement that needs more temporary files than it may have')
			  foreach "UPDATE utilization SET amount = amount + 1 WHERE source_id LIKE 'many%'",
			  "DELETE FROM utilization WHERE source_id LIKE 'many%'";
			is($onlooker->query('SELECT public.contents()'), $before, 'they have changed nothing');
			$client->query("RESET temp_file_limit");
		}
		is($client->state_of("UPDATE utilization SET amount = round(amount / 2, 2) WHERE source_id LIKE 'many%'"), '00000',
			'all of them restated');
		is($client->state_of("DELETE FROM utilization WHERE source_id LIKE 'many%7'"), '00000', 'some withdrawn');
		is($client->state_of($statements{issue_invoice}), '00000', 'an invoice of them');
		$hash{$work_mem} = $onlooker->query('SELECT public.contents(false)');
		is($onlooker->query('SELECT public.problems()'), 'none', 'the books are sound');
		my $files = psql($database, 'SELECT temp_files FROM pg_stat_database WHERE datname = current_database()');
		diag "work_mem $work_mem: $files temporary files";
	}
	is($hash{'64kB'}, $hash{'256MB'}, 'the books are the same with little memory to work in');
}

# ---- no more locks ----

sub test_out_of_locks
{
	my $cluster = Cluster->new('locks', settings => { max_locks_per_transaction => 10, max_connections => 10,
		max_wal_senders => 0, max_worker_processes => 0, max_prepared_transactions => 0, shared_buffers => '16MB' });
	$cluster->launch;
	$cluster->await;
	local $ENV{PGPORT} = $cluster->port;
	psql('postgres', 'CREATE EXTENSION creditmemo');
	my $database = prepare_books('postgres', 3);
	psql($database, join '', map { "CREATE TABLE public.other_$_ ();\n" } 1 .. 40);
	my ($client, $onlooker) = sessions($database);
	my $before = $onlooker->query('SELECT public.contents()');

	# the locks of which the server keeps account elsewhere are taken
	my $fill = 'LOCK ' . join(', ', map { "public.other_$_" } 1 .. 40) . ' IN ACCESS SHARE MODE';
	my $lock = 'SELECT count(pg_advisory_xact_lock_shared(n)) FROM generate_series(1, %d) n';
	$client->query("BEGIN; $fill");
	my $room = 0;
	while (state_of_all($client, 'SAVEPOINT a', sprintf $lock, $room + 100) eq '00000') { $client->query('ROLLBACK TO a'); $room += 100 }
	$client->query('ROLLBACK');
	my $failed = 0;
	for my $name (@statements)
	{
		my $expected = contents_after((sessions($database))[0], $statements{$name});
		my ($failed_before, @wrong, $left) = $failed;
		for ($left = -100; ; $left += $left < -60 ? 10 : int(1 + 2 / $moments))
		{
			$client->query("BEGIN; $fill");
			my $state = state_of_all($client, sprintf($lock, $room - $left), 'SAVEPOINT a', $statements{$name});
			if ($state eq '53200')
			{
				$client->state_of('ROLLBACK TO a');
			}
			$client->state_of('ROLLBACK');
			last if $state eq '00000';
			push @wrong, "$left left: $state" if $state ne '53200';
			push @wrong, "$left left: something has changed" if $onlooker->query('SELECT public.contents()') ne $before;
			$failed++;
			last if @wrong > 3 || $left > 300;
		}
		is(join("\n", @wrong), '', "$name: out of locks " . @{[ $failed - $failed_before ]} . ' times');
		is(contents_after($client, $statements{$name}), $expected, "$name does it afterwards");
	}
	is($onlooker->query('SELECT public.problems()'), 'none', 'the books are sound');
	diag "out of locks: $failed times";
}

# ---- commits, snapshots and other locks ----

sub test_transactions_refused
{
	my $database = prepare_books(new_database('creditmemo_transactions'), 5);
	my ($client, $onlooker) = sessions($database);
	my ($other) = sessions($database);
	my $before = $onlooker->query('SELECT public.contents()');
	my $unchanged = sub { my ($name) = @_; is($onlooker->query('SELECT public.contents()'), $before, "$name: nothing has changed") };
	my %expected = map { ($_ => contents_after($other, $statements{$_})) } @statements;
	my $all_the_same = sub {
		my ($name) = @_;
		is(join("\n", grep { contents_after($client, $statements{$_}) ne $expected{$_} } @statements), '',
			"$name: the session does what it did before");
	};

	for my $end ('COMMIT', "PREPARE TRANSACTION 'regress'")
	{
		my $prepares = psql($database, 'SHOW max_prepared_transactions');
		next if $end =~ /^PREPARE/ && !$prepares;
		for my $name (grep { !/import/ } @statements)
		{
			is(state_of_all($client, 'BEGIN', "INSERT INTO member_account VALUES ('gone', '999999999999', 'ACME')",
					"INSERT INTO po_assignment (account_id, po_number) VALUES ('gone', 'PO')",
					"DELETE FROM member_account WHERE account_id = 'gone'", $statements{$name}, $end),
				'23503', "$name: a foreign key that is violated at $end");
			$client->state_of('ROLLBACK');
		}
		$unchanged->($end);
		$all_the_same->($end);
	}

	# a statement stopped half way, and unknown accounts
	is(state_of_all($client, 'BEGIN', $small, "INSERT INTO utilization (service_period, account_id, service, amount)
		VALUES ('2019-02-01', 'nobody', 'EC2', 1)"), '23503', 'a line of an account that does not exist');
	is($client->state_of('SELECT 1'), '25P02', 'the transaction has failed');
	$client->query('ROLLBACK');
	$unchanged->('an unknown account');

	# snapshots
	for my $level ('REPEATABLE READ', 'SERIALIZABLE')
	{
		for my $name (grep { !/documents|close|reopen|import|invoice|memo/ } @statements)
		{
			$client->query("BEGIN ISOLATION LEVEL $level; SELECT 1");
			$client->query('SELECT count(*) FROM creditmemo.billing');
			$other->query("BEGIN; $small; COMMIT");
			is($client->state_of($statements{$name}), '40001', "$name, $level, after another session's statement");
			$client->query('ROLLBACK');
		}
		$before = $onlooker->query('SELECT public.contents()');
		%expected = map { ($_ => contents_after($other, $statements{$_})) } @statements;
		$all_the_same->($level);
		$unchanged->($level);
	}

	# a deadlock with somebody's own locks
	for my $name (qw(load restate withdraw void_invoice issue_invoice))
	{
		$client->query("SET deadlock_timeout = '20ms'");
		$other->query("SET deadlock_timeout = '1min'");
		$other->query("BEGIN; SELECT FROM member_account WHERE account_id = '000000000002' FOR UPDATE");
		$client->query('BEGIN; SELECT pg_advisory_xact_lock(1)');
		$other->send('SELECT pg_advisory_xact_lock(1)');
		sleep 0.05;
		is($client->state_of($statements{$name}), '40P01', "$name in a deadlock");
		$client->query('ROLLBACK');
		$other->answer;
		$other->query('ROLLBACK');
		$unchanged->("$name in a deadlock");
	}
	$all_the_same->('deadlocks');
	is($onlooker->query('SELECT public.problems()'), 'none', 'the books are sound');
}

my %tests = (refused => \&test_rows_refused, interrupted => \&test_interrupted, full => \&test_disk_full,
	memory => \&test_out_of_memory, work => \&test_little_work_memory, locks => \&test_out_of_locks,
	transactions => \&test_transactions_refused);
$tests{$_}->() foreach $ENV{ONLY} ? split ' ', $ENV{ONLY} : sort keys %tests;
done_testing();
