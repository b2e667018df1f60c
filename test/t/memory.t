# One session does whatever a session does, statement after statement, those that fail too: its memory stays what it was.
#
# STATEMENTS says how many (5,000; the first third warms up).

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use File::Temp 'tempdir';
use Psql qw(new_database psql books_are_sound);
use Test::More;

my $statements = $ENV{STATEMENTS} // 5000;

use constant BYTES_A_STATEMENT => 30;

my $database = new_database('creditmemo_memory');
psql($database, <<'SQL');
SET search_path = creditmemo;
INSERT INTO customer (customer_id, name) SELECT 'C' || n, 'Customer' FROM generate_series(0, 9) n;
INSERT INTO payer_account VALUES ('P');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT 'A' || n, 'P', 'C' || n % 10 FROM generate_series(0, 19) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
CREATE TABLE public.bill AS SELECT 'P'::text AS "BillingAccountId", 'A' || n % 20 AS "SubAccountId", 1.005 AS "BilledCost",
	'USD'::text AS "BillingCurrency", '2030-01-01'::text AS "BillingPeriodStart", '2030-01-01'::text AS "ChargePeriodStart",
	'Usage'::text AS "ChargeCategory", NULL::text AS "ChargeClass", 'x'::text AS "ChargeDescription", 'S' || n % 3 AS "ServiceName",
	'AWS'::text AS "ProviderName", 'AWS'::text AS "PublisherName", 'I'::text AS "InvoiceId"
	FROM generate_series(1, 60) n;
SQL

# What a round does, its number being n: no two of them at the same month of the same account.
my @round = (
	"INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES (month, 'A1', 'S1', 5, 'n-1')",
	"INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES (month, 'A2', 'S2', -5, 'n-2')",
	"INSERT INTO utilization (service_period, account_id, service, amount, source_id) SELECT month, 'A' || a, 'S' || s, 7, 'n-' || s || '-' || a"
	  . ' FROM generate_series(0, 19) a, generate_series(3, 6) s',
	"INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on, services) SELECT account_id, 'Mn', 9, month, month + 40,"
	  . " CASE WHEN account_id > 'A5' THEN ARRAY['S4', 'S5'] END FROM member_account WHERE account_id <> 'A9'",
	"INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES (month, 'nobody', 'S1', 5, 'n-1')",
	"INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES (month, 'A1', 'S1', 5.001, 'n-3')",
	"INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES (month, 'A1', 'S1', 6, 'n-1')"
	  . ' ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount',
	"UPDATE utilization SET amount = amount + 1 WHERE service_period = month",
	"UPDATE utilization SET service_period = month, account_id = 'A3' WHERE source_id = 'n-2'",
	"DELETE FROM utilization WHERE source_id = 'n-1'",
	"WITH d AS (DELETE FROM utilization WHERE source_id = 'n-3-4' RETURNING *) INSERT INTO utilization (service_period, account_id, service, amount)"
	  . ' SELECT service_period, account_id, service, 3 FROM d',
	"UPDATE credit_memo SET expires_on = month + 70 WHERE memo_number = 'Mn' AND account_id = 'A2'",
	"UPDATE credit_memo SET balance = 0 WHERE memo_number = 'Mn'",
	"DELETE FROM credit_memo WHERE memo_number = 'Mn'",
	'BEGIN', "SAVEPOINT s", "INSERT INTO utilization (service_period, account_id, service, amount) VALUES (month, 'A4', 'S1', 5)",
	"INSERT INTO utilization (service_period, account_id, service, amount) VALUES (month, 'nobody', 'S1', 5)", 'ROLLBACK TO s',
	"UPDATE utilization SET amount = 1 WHERE source_id = 'n-3-5'", 'ROLLBACK TO s', 'COMMIT',
	"DO \$\$ BEGIN FOR i IN 1 .. 3 LOOP BEGIN INSERT INTO utilization (service_period, account_id, service, amount) VALUES (month, 'A6', 'S1', i);"
	  . " RAISE 'x'; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END \$\$",
	'DECLARE c CURSOR WITH HOLD FOR SELECT * FROM unbilled', 'FETCH 2 FROM c', 'CLOSE c',
	"SELECT void_memo('Mn', 'wrong', 'A3')", "SELECT void_memo('Mn', 'again', 'A3')",
	"SELECT issue_invoice('SIn-' || c, 'C' || c, month) FROM generate_series(0, 3) c",
	"SELECT issue_invoice('SIn-0', 'C0', month)", "SELECT void_invoice('SIn-1', 'wrong')", "SELECT void_invoice('SIn-1', 'again')",
	"SELECT email_text('SIn-2'), email_html('SIn-2'), invoice_html('SIn-2'), invoice_html('SIn-1')", "SELECT invoice_html('none')",
	"SELECT statement_html('A2', month, month), statement_text('A3', month, month)", "SELECT statement_text('none')",
	'ALTER TABLE utilization SET (autovacuum_enabled = true)', 'ALTER TABLE billing ALTER utilization SET STATISTICS 50',
	"INSERT INTO customer (customer_id, name) VALUES ('X', 'X')", "DELETE FROM customer WHERE customer_id = 'X'",
	"INSERT INTO email_template (text) VALUES ('{nonsense}')", 'DISCARD PLANS',
	# after which there is what is kept from one statement to the next
	"INSERT INTO utilization (service_period, account_id, service, amount) VALUES (month, 'A7', 'S1', 1)");

# Rarely, as the server's own caches keep something of each table that there has been.
my @rarely = ("SELECT count(*) FROM import_focus('public.bill')", "DELETE FROM utilization WHERE service_period = '2030-01-01'",
	'CREATE INDEX dn ON utilization (service)', 'DROP INDEX dn');

my $directory = tempdir(CLEANUP => 1);

sub round_of
{
	my ($n) = @_;
	my $month = sprintf "date '%d-%02d-01'", 1900 + ($n % 100), 1 + int($n / 100) % 12;
	return map { s/\bmonth\b/$month/gr =~ s/(?<=['M])n(?=[-'])|(?<=SI)n(?=-)/$n/gr =~ s/\bdn\b/d$n/gr . ";\n" } @round, $n % 20 == 1 ? @rarely : ();
}

# What the session says of itself: its contexts by name and parent, ours and those of the server, and all of its memory.
# Up to PostgreSQL 17 a context has its parent's name, since then the numbers of all above it and its own.
my $contexts = <<'SQL';
WITH context AS MATERIALIZED (
	SELECT c.name, c.used_bytes, to_jsonb(c) ->> 'parent' AS parent, to_jsonb(c) -> 'path' AS path
	FROM pg_backend_memory_contexts c)
SELECT c.name || ' in ' || coalesce(c.parent, p.name, 'nothing'), sum(c.used_bytes), count(*)
FROM context c
LEFT JOIN context p ON p.path = c.path - -1
GROUP BY 1
-- buffers for temporary tables are kept, and are many only once
UNION ALL SELECT 'all', sum(used_bytes), count(*) FROM context WHERE name <> 'LocalBufferContext'
ORDER BY 1;
SQL
my $rounds = int($statements / @round) || 3;
my $warm = int($rounds / 3) || 1;
my $script = "$directory/session.sql";
open my $file, '>', $script or die;
print $file "SET search_path = creditmemo;\nSET client_min_messages = error;\n\\o /dev/null\n";
for my $n (1 .. $rounds)
{
	print $file round_of($n);
	print $file "\\o $directory/$n\n$contexts\\o /dev/null\n" if $n == $warm || $n == $rounds;
}
close $file;
system("psql -X -q -A -t -d $database -f $script >$directory/out 2>$directory/errors");
if ($ENV{SHOW})
{
	my ($before, $after) = map { memory_after($_) } $warm, $rounds;
	for my $name (sort { ($after->{$b}[0] - ($before->{$b}[0] // 0)) <=> ($after->{$a}[0] - ($before->{$a}[0] // 0)) } keys %$after)
	{
		my $grown = $after->{$name}[0] - ($before->{$name}[0] // 0);
		diag("$name: $grown") if $grown > 1000;
	}
}
is($?, 0, "$rounds rounds of " . @round . ' statements');

sub memory_after
{
	my ($n) = @_;
	open my $file, '<', "$directory/$n" or die "$directory/$n: $!";
	my %used = map { chomp; my ($name, $bytes, $count) = split /\|/; $name => [ $bytes, $count ] } <$file>;
	return \%used;
}

open my $errors, '<', "$directory/errors" or die;
my $failed = grep { /ERROR/ } <$errors>;
cmp_ok($failed, '>', $rounds * 9, "$failed of them failed, as they should");
cmp_ok($failed, '<', $rounds * 15, 'but no others');

my ($before, $after) = (memory_after($warm), memory_after($rounds));
my $done = ($rounds - $warm) * @round;
my @ours = grep { /^creditmemo/ } sort keys %$after;
ok(@ours > 0, "contexts of ours: @ours");
for my $name ('all', 'TopMemoryContext in nothing', 'CacheMemoryContext in TopMemoryContext', @ours)
{
	die "no memory of $name was seen\n" if !$after->{$name};
	my ($bytes, $count) = map { $after->{$name}[$_] - ($before->{$name} // [ 0, 0 ])->[$_] } 0, 1;
	cmp_ok($bytes / $done, '<', BYTES_A_STATEMENT, sprintf '%s: %d bytes (and %d contexts) more after %d statements', $name, $bytes, $count, $done);
}
books_are_sound($database);

done_testing();
