# A database in which the extension was created at an earlier version, and updated, is as one in which it is new: every
# object with its definition, comment and privileges, every row and every document.  Until the update, and across it, it
# does its work; one that fails, or that meets others at work, leaves nothing half done.  Released scripts do not change.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Digest::SHA;
use File::Temp;
use Psql qw(new_database drop_databases psql run_ok books_are_sound);
use Stories qw(prepare_stories random_books);
use Test::More;

my $scripts = "$FindBin::Bin/../../sql";

# Scripts of versions that are released, and the SHA-256 of each.
my %released = (
	'creditmemo--1.0.sql' => '516938eb79ff43104552c3e44f5439b687d5809aebfddca7b5e87b9a9c18f4b1');

# Read from the files: a server need not list what it finds elsewhere than among its own.
my ($newest) = do { local (@ARGV, $/) = "$scripts/../creditmemo.control"; <> =~ /^default_version = '(.*)'/m };
my %earlier = map { m{/creditmemo--(.*?)(?:--.*)?\.sql$} ? ($1 => 1) : () } glob "$scripts/creditmemo--*.sql";
delete $earlier{$newest};
my @earlier = sort keys %earlier;

# ---- released scripts ----

sub released_scripts_are_frozen
{
	my @files = map { s{.*/}{}r } glob "$scripts/creditmemo--*.sql";
	for my $file (sort keys %released)
	{
		my $path = "$scripts/$file";
		is(-f $path ? Digest::SHA->new(256)->addfile($path)->hexdigest : 'none', $released{$file},
			"$file is as it was released: changes go into an update script");
	}
	is(join(' ', grep { !$released{$_} && !/--\Q$newest\E\.sql$/ } @files), '', "all scripts but those to $newest are released");
}

# ---- what is compared ----

# What there is of the extension, in the words of pg_dump, which shows an extension's insides only so; and what that does
# not show.  Where objects and numbers of objects stand for others of the same name is left out.
sub schema_of
{
	my ($database) = @_;
	my $dump = `pg_dump --binary-upgrade --schema-only -d $database 2>/dev/null`;
	die "pg_dump of $database failed" if $? != 0;
	$dump =~ s/'[0-9]+'::pg_catalog\.oid/OID/g;
	$dump =~ s{'[0-9A-F]+/[0-9A-F]+'::pg_catalog\.pg_lsn|'\{[0-9A-F/,]+\}'::pg_catalog\.pg_lsn\[\]}{LSN}g;
	$dump =~ s/(binary_upgrade_create_empty_extension\(.*?)'\{[0-9,]+\}'/$1OIDS/;
	$dump =~ s/WHERE oid = '[0-9]+'/WHERE oid = OID/g;
	$dump =~ s/relfrozenxid = '[0-9]+', relminmxid = '[0-9]+'|^\\(?:un)?restrict .*|^SELECT pg_catalog\.setval.*//gm;
	return $dump . psql($database, <<'SQL');
SET search_path = pg_catalog;
SELECT 'version', extversion, extrelocatable, extnamespace::regnamespace FROM pg_extension WHERE extname = 'creditmemo';
SELECT 'dumped', c::regclass, x.condition
FROM pg_extension e, unnest(e.extconfig, e.extcondition) x (c, condition)
WHERE e.extname = 'creditmemo'
ORDER BY c::regclass::text;
SELECT 'member', o.*
FROM pg_depend d
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'creditmemo'
CROSS JOIN LATERAL (
	SELECT i.type, i.identity, d.deptype, p.privtype, p.initprivs::text, obj_description(d.objid, d.classid::regclass::name) AS comment
	FROM pg_identify_object(d.classid, d.objid, d.objsubid) i
	LEFT JOIN pg_init_privs p ON p.classoid = d.classid AND p.objoid = d.objid AND p.objsubid = 0) o
ORDER BY o.type, o.identity;
SELECT 'function', p.oid::regprocedure, p.provolatile, p.proparallel, p.proleakproof, p.prosecdef, p.proconfig, p.procost, p.prorows, p.proacl, p.probin
FROM pg_proc p
WHERE p.pronamespace = 'creditmemo'::regnamespace
ORDER BY p.oid::regprocedure::text;
SELECT DISTINCT 'depends', d.deptype, o.type, o.identity, r.type, r.identity
FROM pg_depend d, pg_identify_object(d.classid, d.objid, d.objsubid) o, pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) r
WHERE d.classid <> 0 AND (o.schema = 'creditmemo' OR r.schema = 'creditmemo') AND o.identity !~ 'pg_toast|RI_Constraint' AND r.identity !~ 'pg_toast'
ORDER BY 3, 4, 5, 6, 2;
SQL
}

# Every row but its times, and every document but the days of entries; with times exactly.
sub contents_of
{
	my ($database, $with_times) = @_;
	my @tables = split /\n/, psql($database, <<'SQL');
SELECT relname FROM pg_class WHERE relnamespace = 'creditmemo'::regnamespace AND relkind = 'r' ORDER BY relname
SQL
	my $times = $with_times ? '{}' : '{recorded_at, assigned_at, voided_at}';
	my $blanked = $with_times ? '\1' : ' ';
	return psql($database, join("\nUNION ALL\n",
			map { "SELECT '$_', (to_jsonb(t) - '$times'::text[])::text FROM creditmemo.$_ t" } @tables) . "\nORDER BY 1, 2;\n" . <<"SQL");
SELECT i.invoice_number, md5(creditmemo.invoice_html(i.invoice_number)), md5(e.subject || e.body_text || e.body_html)
FROM creditmemo.invoice i
JOIN creditmemo.invoice_email e USING (invoice_number)
ORDER BY i.invoice_number;
SELECT a.account_id, md5(regexp_replace(creditmemo.statement_html(a.account_id), '([A-Z][a-z]+ [0-9]+, [0-9]+)', '$blanked', 'g'))
FROM creditmemo.member_account a
ORDER BY a.account_id;
SELECT 'sequence', sequencename, last_value FROM pg_sequences WHERE schemaname = 'creditmemo' ORDER BY sequencename;
SQL
}

# The test passes if they are equal, and shows the first lines that are not if they are not.
sub is_same
{
	my ($got, $expected, $name) = @_;
	return pass($name) if $got eq $expected;
	my @files = map { my $file = File::Temp->new; binmode $file, ':utf8'; print $file "$_\n"; close $file; $file } $expected, $got;
	my @lines = split /\n/, `diff $files[0] $files[1]`;
	fail($name);
	diag(join "\n", 'lines that were expected (<) and found (>):', splice @lines, 0, 40);
	return;
}

# ---- what is done before the update and after it ----

srand 7;
my $history = "SET client_min_messages = error;\n\\o /dev/null\n" . random_books();

sub database_with
{
	my ($name, $version) = @_;
	my $database = new_database($name, without_extension => 1);
	psql($database, "CREATE EXTENSION creditmemo VERSION '$version'");
	prepare_stories($database);
	return $database;
}

# What a session does; the number is that of a month of its own.
sub work
{
	my ($month) = @_;
	my $period = sprintf '2021-%02d-01', $month;
	return <<"SQL";
EXECUTE load ('$period', 7.25);
EXECUTE load ('$period', -2.25);
SELECT use('own', '$period', 30, 'Amazon S3');
SELECT add_memo('own', 20, '$period', NULL, '{Amazon S3}');
UPDATE utilization SET amount = amount + 1 WHERE service_period = '$period' AND amount > 7;
UPDATE public.bill SET "BilledCost" = $month, "ChargePeriodStart" = '$period', "BillingPeriodStart" = '$period';
SELECT * FROM import_focus('public.bill');
SELECT issue('SI-$month', 'OWN', '$period');
SELECT use('own', '$period', -4);
EXECUTE page ('own');
SELECT void_invoice('SI-$month', 'wrong');
SELECT issue('SI-$month-2', 'OWN', '$period');
SELECT close_period('2020-12-01', 'OWN'), reopen_period('2020-12-01', 'OWN', 'late');
SQL
}

# One session: it works, in a transaction that comes to nothing, too, while the extension is updated.
sub session
{
	my ($update) = @_;
	my @work = map { work($_) } 0 .. 4;
	return <<"SQL";
SET client_min_messages = error;
\\o /dev/null
SELECT add_account('own', 'OWN', 100, 'OWN');
CREATE TABLE public.bill AS
SELECT 'OWN' AS "BillingAccountId", 'own' AS "SubAccountId", 8.005 AS "BilledCost", 'USD' AS "BillingCurrency",
	'Usage' AS "ChargeCategory", 'Amazon EC2' AS "ServiceName", NULL AS "ChargeDescription",
	'2021-01-01' AS "ChargePeriodStart", '2021-01-01' AS "BillingPeriodStart";
PREPARE load (date, numeric) AS INSERT INTO utilization (service_period, account_id, service, amount) VALUES (\$1, 'own', 'Amazon EC2', \$2);
PREPARE page (text) AS SELECT statement_html(\$1), statement_text(\$1);
$work[1]
BEGIN;
$work[2]
$update->{taken_back}
$work[3]
ROLLBACK;
$work[2]
$update->{for_good}
$work[3]
BEGIN;
$work[4]
COMMIT;
SQL
}

my $update = 'ALTER EXTENSION creditmemo UPDATE;';

# ---- the update ----

sub version_of
{
	my ($database) = @_;
	return psql($database, "SELECT extversion FROM pg_extension WHERE extname = 'creditmemo'");
}

sub updated_is_as_new
{
	my ($version, $fresh_schema, $fresh_contents) = @_;
	my $by_another = sub { my ($database) = @_; return "\\! psql -X -q -d $database -c '$update'\n" };
	my %ways = (
		'in the session' => sub { return { taken_back => $update, for_good => $update } },
		'by another session' => sub { return { taken_back => '', for_good => $by_another->(@_) } });
	for my $way (sort keys %ways)
	{
		my $database = database_with('creditmemo_updated', $version);
		psql($database, $history);
		books_are_sound($database, "at $version the books are sound");
		is(version_of($database), $version, "the library serves $version");
		psql($database, session($ways{$way}->($database)));
		is(version_of($database), $newest, "updated $way");
		is_same(schema_of($database), $fresh_schema, "updated $way, $version has the schema of $newest");
		is_same(contents_of($database), $fresh_contents, "updated $way, $version has the same books");
		books_are_sound($database);
		psql($database, 'DROP VIEW public.document; DROP EXTENSION creditmemo');
		is(psql($database, "SELECT count(*) FROM pg_depend WHERE refobjid = 'creditmemo'::regnamespace"), '0', 'dropped, it is gone');
		drop_databases();
	}
}

# Dumped at the earlier version, restored where the newest is what CREATE EXTENSION makes.
sub dump_is_restored
{
	my ($version, $fresh_schema) = @_;
	my $database = database_with('creditmemo_dumped', $version);
	psql($database, $history);
	psql($database, session({ taken_back => '', for_good => '' }));
	my $restored = new_database('creditmemo_restored', without_extension => 1);
	my $dump = File::Temp->new;
	run_ok("dump of $version", 'pg_dump', '-f', $dump, $database);
	run_ok("restored as $newest", 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $restored, '-f', $dump);
	is(version_of($restored), $newest, 'what is restored is the newest version');
	is_same(contents_of($restored, 1), contents_of($database, 1), 'with the same books, to the microsecond');
	is_same(schema_of($restored), $fresh_schema, "and the schema of $newest");
	books_are_sound($restored);
	drop_databases();
}

# At each of some commands of the script, among them the last.
sub failed_update_leaves_all_as_it_was
{
	my ($version) = @_;
	my $database = database_with('creditmemo_half_updated', $version);
	psql($database, $history);
	my $schema = schema_of($database);
	my $contents = contents_of($database, 1);
	psql($database, <<'SQL');
CREATE FUNCTION public.count_command() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('count.commands', (coalesce(nullif(current_setting('count.commands', true), ''), '0')::integer + 1)::text, false);
	IF current_setting('count.commands') = current_setting('count.fail_at', true) THEN
		RAISE EXCEPTION 'no more';
	END IF;
END
$$;
CREATE EVENT TRIGGER count_command ON ddl_command_end EXECUTE FUNCTION public.count_command();
SQL
	my $commands = psql($database, "BEGIN;\nSET count.commands = 0;\n$update\nSELECT current_setting('count.commands');\nROLLBACK;");
	cmp_ok($commands, '>', 1, "the update has $commands commands");
	my %seen;
	for my $command (grep { $_ > 0 && !$seen{$_}++ } 1, int($commands / 2), $commands - 1, $commands)
	{
		my $result = psql($database, <<"SQL");
\\set ON_ERROR_STOP off
\\set VERBOSITY terse
SET count.fail_at = $command;
SET count.commands = 0;
$update
SELECT extversion FROM pg_extension WHERE extname = 'creditmemo';
BEGIN;
INSERT INTO utilization (utilization_id, service_period, account_id, service, amount)
	VALUES (-1, '2022-01-01', 'R1-1', 'Amazon EC2', 3);
SELECT utilization FROM unbilled WHERE account_id = 'R1-1' AND service_period = '2022-01-01';
SELECT * FROM verify();
ROLLBACK;
SQL
		like($result, qr/ERROR:  no more\n\Q$version\E\n3.00$/, "an update that fails at command $command leaves $version, which works");
	}
	psql($database, "DROP EVENT TRIGGER count_command;\nDROP FUNCTION public.count_command();");
	is_same(schema_of($database), $schema, 'with the same schema');
	is_same(contents_of($database, 1), $contents, 'and the same books');
	psql($database, $update);
	is(version_of($database), $newest, 'and can be updated');
	books_are_sound($database);
	drop_databases();
}

# Runs statements in a session of their own, and returns the process.
sub in_background
{
	my ($database, $statements) = @_;
	my $script = File::Temp->new;
	print $script $statements;
	close $script;
	my $pid = fork // die "fork: $!";
	return ($pid, $script) if $pid;
	open STDOUT, '>', '/dev/null';
	exec 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $database, '-f', $script or die "psql: $!";
}

# Some load line by line, one has a transaction open.
sub update_beside_loads
{
	my ($version) = @_;
	my $database = database_with('creditmemo_loaded', $version);
	psql($database, join "\n", map { "SELECT add_account('load-$_', 'LOAD', 1000, 'LOAD');" } 1 .. 3);
	my $lines = 500;
	my @sessions = map { [ in_background($database, join '', map { "SELECT use('load-$_', '2021-01-01', 1);\n" } ($_) x $lines) ] } 1, 2;
	push @sessions, [ in_background($database, <<'SQL') ];
BEGIN;
SELECT use('load-3', '2021-01-01', 1);
SELECT pg_sleep(1);
SELECT use('load-3', '2021-01-01', -1), use('load-3', '2021-02-01', 2);
SELECT issue_invoice('SI-3', 'LOAD', '2021-02-01', '2021-03-05');
COMMIT;
SQL
	psql($database, "SELECT pg_sleep(0.1);\n$update\nALTER EXTENSION creditmemo UPDATE;");
	my $loaded = psql($database, "SELECT count(*) FROM utilization");
	for my $session (@sessions)
	{
		waitpid $session->[0], 0;
		is($?, 0, 'a session that was at work was not disturbed');
	}
	is(version_of($database), $newest, "updated while others load, after $loaded lines");
	is(psql($database, 'SELECT account_id, sum(credit) FROM billing GROUP BY account_id ORDER BY account_id'),
		"load-1|$lines.00\nload-2|$lines.00\nload-3|2.00", 'and every line is paid');
	books_are_sound($database);
	drop_databases();
}

# ----

released_scripts_are_frozen();

my $fresh = database_with('creditmemo_fresh', $newest);
psql($fresh, $history);
psql($fresh, session({ taken_back => '', for_good => '' }));
my ($fresh_schema, $fresh_contents) = (schema_of($fresh), contents_of($fresh));
books_are_sound($fresh);
psql($fresh, 'DROP VIEW public.document; DROP EXTENSION creditmemo');
is(psql($fresh, <<"SQL"), "elsewhere\nelsewhere", 'the scripts leave no setting behind');
SET search_path = elsewhere;
BEGIN;
CREATE EXTENSION creditmemo VERSION '$earlier[0]';
SHOW search_path;
ALTER EXTENSION creditmemo UPDATE;
SHOW search_path;
ROLLBACK;
SQL
drop_databases();

for my $version (@earlier)
{
	updated_is_as_new($version, $fresh_schema, $fresh_contents);
	dump_is_restored($version, $fresh_schema);
	failed_update_leaves_all_as_it_was($version);
	update_beside_loads($version);
}

done_testing();
