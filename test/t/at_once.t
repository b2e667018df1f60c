# Eight clients at once, each statement a transaction, over the same few accounts: loads, refunds,
# new memos, invoices.  No deadlock, no lost line, sound books.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use File::Temp 'tempdir';
use Psql qw(new_database psql run_ok books_are_sound);
use Test::More;

my $transactions = $ENV{TRANSACTIONS_PER_CLIENT} // 250;
my $database = new_database('creditmemo_at_once');
psql($database, <<'SQL');
SET search_path = creditmemo;
INSERT INTO customer (customer_id, name) SELECT 'C' || n, 'Customer' FROM generate_series(0, 3) n;
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT 'A' || n, '999999999999', 'C' || n % 4 FROM generate_series(0, 19) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
CREATE TABLE public.loaded (cents bigint);
CREATE SEQUENCE public.invoice_numbers;
CREATE FUNCTION public.invoice(customer_id text, service_period date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM creditmemo.issue_invoice('SI' || nextval('public.invoice_numbers'), customer_id, service_period, '2019-06-01');
EXCEPTION WHEN no_data_found THEN
	NULL;
END
$$;
SQL

# what is loaded is noted beside it, in the same statement, to be compared in the end
my %scripts = (
	load => <<'SQL',
WITH line AS (
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	SELECT date '2019-01-01' + make_interval(months => (random() * 2)::int), 'A' || (random() * 19)::int,
		'service ' || (random() * 3)::int, ((random() * 2000)::int + 1) / 100.0
	FROM generate_series(1, 6)
	RETURNING amount)
INSERT INTO public.loaded SELECT (sum(amount) * 100)::bigint FROM line;
SQL
	refund => <<'SQL',
WITH line AS (
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	SELECT date '2019-01-01' + make_interval(months => (random() * 2)::int), 'A' || (random() * 19)::int,
		'service ' || (random() * 3)::int, ((random() * 2000)::int - 1500) / 100.0
	FROM generate_series(1, 4)
	RETURNING amount)
INSERT INTO public.loaded SELECT (sum(amount) * 100)::bigint FROM line;
SQL
	memo => <<'SQL',
INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on, expires_on, priority, services)
SELECT 'A' || (random() * 19)::int, (random() * 3000)::int / 100.0 + 0.01, '2019-01-15',
	CASE WHEN random() < 0.5 THEN date '2019-02-10' END, (random() * 3)::int,
	CASE WHEN random() < 0.3 THEN ARRAY['service 1', 'service 2'] END
FROM generate_series(1, 3);
SQL
	invoice => <<'SQL');
\set customer random(0, 3)
\set month random(1, 3)
SELECT public.invoice('C' || :customer, make_date(2019, :month, 1));
SQL
my %weight = (load => 10, refund => 4, memo => 3, invoice => 2);

my $directory = tempdir(CLEANUP => 1);
my @files;
for my $name (sort keys %scripts)
{
	open my $file, '>', "$directory/$name.sql" or die;
	print $file $scripts{$name};
	close $file;
	push @files, '-f', "$directory/$name.sql\@$weight{$name}";
}
my $output = run_ok("8 clients, $transactions transactions each",
	'pgbench', '-n', '-c', 8, '-j', 2, '-t', $transactions, @files, $database);
like($output, qr/processed: ${\ ($transactions * 8) }\//, 'none of them failed');

is(psql($database, 'SELECT sum(utilization) FROM creditmemo.billing'),
	psql($database, 'SELECT round(sum(cents) / 100.0, 2) FROM public.loaded'), 'no line is lost');
cmp_ok(psql($database, "SELECT count(*) FROM creditmemo.memo_entry WHERE entry_type = 'release'"),
	'>', 0, 'credit was released on the way');
books_are_sound($database);

done_testing();
