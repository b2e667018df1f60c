# Sixteen clients at once, each statement a transaction, over the same forty accounts: loads, refunds,
# lines restated, moved and deleted, whole months restated, new memos, invoices, voids of both, an old
# month loaded, invoiced, closed and reopened.  No deadlock, no error, no lost line, sound books.
#
# SECONDS says how long (15), or TRANSACTIONS_PER_CLIENT how many.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use File::Temp 'tempdir';
use Psql qw(new_database psql run_ok books_are_sound);
use Test::More;

my @share = $ENV{TRANSACTIONS_PER_CLIENT} ? ('-t', $ENV{TRANSACTIONS_PER_CLIENT}) : ('-T', $ENV{SECONDS} // 15);
my $database = new_database('creditmemo_at_once');
psql($database, <<'SQL');
SET search_path = creditmemo;
INSERT INTO customer (customer_id, name) SELECT 'C' || n, 'Customer' FROM generate_series(0, 3) n;
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT 'A' || n, '999999999999', 'C' || n % 4 FROM generate_series(10, 49) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
CREATE SEQUENCE public.invoice_numbers;
-- how many were done, counted without a lock
CREATE SEQUENCE public.restate;
CREATE SEQUENCE public.restate_month;
CREATE SEQUENCE public.delete;

CREATE FUNCTION public.any_account() RETURNS text LANGUAGE sql AS
$$ SELECT 'A' || 10 + (random() * 39)::int $$;
CREATE FUNCTION public.any_customer() RETURNS text LANGUAGE sql AS
$$ SELECT 'C' || (random() * 3)::int $$;
CREATE FUNCTION public.any_month() RETURNS date LANGUAGE sql AS
$$ SELECT make_date(2019, 1 + (random() * 2)::int, 1) $$;
CREATE FUNCTION public.any_amount() RETURNS numeric LANGUAGE sql AS
$$ SELECT ((random() * 2000)::int - 300) / 100.0 $$;
-- a line that seemed to be open
CREATE FUNCTION public.any_line(OUT account_id text, OUT source_id text) LANGUAGE sql AS $$
	SELECT u.account_id, u.source_id
	FROM creditmemo.utilization u
	JOIN creditmemo.billing b USING (account_id, service_period, billing_no)
	WHERE u.account_id = (SELECT public.any_account()) AND u.source_id IS NOT NULL AND b.invoice_number IS NULL
	ORDER BY random()
	LIMIT 1
$$;

-- What somebody else did first (invoiced the line, took all there was to bill, closed the month, voided
-- it, moved the same line there) is no failure here; whatever else is raised is one.
CREATE FUNCTION public.attempt(statement text, count_in text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
	violated text;
BEGIN
	EXECUTE statement;
	GET DIAGNOSTICS n = ROW_COUNT;
	IF n > 0 AND count_in IS NOT NULL THEN
		PERFORM nextval(count_in);
	END IF;
EXCEPTION
	WHEN object_not_in_prerequisite_state OR no_data_found THEN
		NULL;
	WHEN unique_violation THEN
		GET STACKED DIAGNOSTICS violated = CONSTRAINT_NAME;
		IF violated <> 'utilization_account_id_source_id_key' THEN
			RAISE;
		END IF;
END
$$;
SQL

my %scripts = (
	load => <<'SQL',
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
SELECT public.any_month(), public.any_account(), 'service ' || (random() * 3)::int, abs(public.any_amount())
FROM generate_series(1, 6);
SQL
	refund => <<'SQL',
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
SELECT public.any_month(), public.any_account(), 'service ' || (random() * 3)::int, public.any_amount() - 8
FROM generate_series(1, 4);
SQL
	# a line, now and then to another month or account; upwards, as the months below go through the accounts
	restate => <<'SQL',
SELECT public.attempt($$
	UPDATE creditmemo.utilization SET
		amount = public.any_amount(),
		creditable = random() < 0.9,
		service_period = CASE WHEN random() < 0.2 THEN public.any_month() ELSE service_period END,
		account_id = CASE WHEN random() < 0.1 THEN greatest(account_id, public.any_account()) ELSE account_id END
	WHERE (account_id, source_id) = (SELECT account_id, source_id FROM public.any_line())
$$, 'public.restate');
SQL
	# a month, with lines that are there and lines that are not, of a third of the accounts
	restate_month => <<'SQL',
SELECT public.attempt($$
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id)
	SELECT m.service_period, a.account_id, 'service ' || n % 4, public.any_amount(), m.service_period || ' ' || n
	FROM (SELECT public.any_month() AS service_period) m, creditmemo.member_account a, generate_series(1, 5) n
	WHERE random() < 0.3 AND NOT EXISTS (
		SELECT
		FROM creditmemo.utilization u
		JOIN creditmemo.billing b USING (account_id, service_period, billing_no)
		WHERE u.account_id = a.account_id AND u.source_id = m.service_period || ' ' || n AND b.invoice_number IS NOT NULL)
	ORDER BY a.account_id, n
	ON CONFLICT (account_id, source_id) DO UPDATE SET
		service_period = excluded.service_period, service = excluded.service, amount = excluded.amount
$$, 'public.restate_month');
SQL
	delete => <<'SQL',
SELECT public.attempt($$
	DELETE FROM creditmemo.utilization
	WHERE (account_id, source_id) = (SELECT account_id, source_id FROM public.any_line())
$$, 'public.delete');
SQL
	memo => <<'SQL',
INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on, expires_on, priority, services)
SELECT public.any_account(), (random() * 3000)::int / 100.0 + 0.01, '2019-01-15',
	CASE WHEN random() < 0.5 THEN date '2019-02-10' END, (random() * 3)::int,
	CASE WHEN random() < 0.3 THEN ARRAY['service 1', 'service 2'] END
FROM generate_series(1, 3);
SQL
	invoice => <<'SQL',
SELECT public.attempt($$
	SELECT creditmemo.issue_invoice('SI' || nextval('public.invoice_numbers'), c.customer_id, public.any_month(), '2019-06-01',
		CASE WHEN random() < 0.6 THEN (
			SELECT array_agg(a.account_id ORDER BY random())
			FROM creditmemo.member_account a
			WHERE a.customer_id = c.customer_id AND random() < 0.3) END)
	FROM (SELECT public.any_customer() AS customer_id) c
$$);
SQL
	# one that no later invoice stands in the way of
	void_invoice => <<'SQL',
SELECT public.attempt($$
	SELECT creditmemo.void_invoice(i.invoice_number, 'wrong')
	FROM (
		SELECT i.invoice_number
		FROM creditmemo.invoice i
		WHERE i.voided_at IS NULL AND i.service_period > '2010-01-01' AND NOT EXISTS (
			SELECT
			FROM creditmemo.billing b
			JOIN creditmemo.billing later USING (account_id, service_period)
			WHERE b.invoice_number = i.invoice_number AND later.billing_no > b.billing_no AND later.invoice_number IS NOT NULL)
		ORDER BY random()
		LIMIT 1) i
$$);
SQL
	void_memo => <<'SQL',
SELECT public.attempt($$
	SELECT creditmemo.void_memo(m.memo_number, 'wrong')
	FROM (
		SELECT m.memo_number
		FROM creditmemo.credit_memo m
		WHERE m.voided_at IS NULL
		ORDER BY random()
		LIMIT 1) m
$$);
SQL
	# the old month: charges, and credit that ends with it
	old => <<'SQL',
SELECT public.attempt($$
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	VALUES ('2010-01-01', public.any_account(), 'service 1', abs(public.any_amount()))
$$);
SQL
	old_memo => <<'SQL',
SELECT public.attempt($$
	INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on, expires_on)
	VALUES (public.any_account(), 9.99, '2010-01-05', '2010-01-31'), (public.any_account(), 5.01, '2010-01-06', '2010-01-31')
$$);
SQL
	invoice_old => <<'SQL',
SELECT public.attempt($$
	SELECT creditmemo.issue_invoice('SI' || nextval('public.invoice_numbers'), public.any_customer(), '2010-01-01', '2019-06-01')
$$);
SQL
	close => <<'SQL',
SELECT public.attempt($$ SELECT creditmemo.close_period('2010-01-01') $$);
SQL
	reopen => <<'SQL');
SELECT public.attempt($$ SELECT creditmemo.reopen_period('2010-01-01', NULL, 'late lines') $$);
SQL
my %weight = (load => 10, refund => 4, restate => 10, restate_month => 6, delete => 4, memo => 4, invoice => 5,
	void_invoice => 5, void_memo => 2, old => 1, old_memo => 1, invoice_old => 3, close => 2, reopen => 1);

my $directory = tempdir(CLEANUP => 1);
my @files;
for my $name (sort keys %scripts)
{
	open my $file, '>', "$directory/$name.sql" or die;
	print $file $scripts{$name};
	close $file;
	push @files, '-f', "$directory/$name.sql\@$weight{$name}";
}
my $output = run_ok("16 clients (@share)",
	'pgbench', '-n', '-c', 16, '-j', 2, '-M', 'simple', @share, @files, $database);
unlike($output, qr/aborted|failed transactions: [1-9]/, 'none of them failed');
is(psql($database, 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'), 0, 'no deadlock');

is(psql($database, 'SELECT sum(utilization), sum(creditable) FROM creditmemo.billing'),
	psql($database, 'SELECT round(sum(amount), 2), round(sum(amount) FILTER (WHERE creditable), 2) FROM creditmemo.utilization'),
	'no line is lost');
is(psql($database, 'SELECT sum(credit) FROM creditmemo.billing'),
	psql($database, "SELECT -sum(amount) FROM creditmemo.memo_entry WHERE entry_type IN ('apply', 'release')"),
	'nor a cent of credit');

# whatever was to be tried has happened
my %happened = (
	'lines restated' => 'SELECT last_value FROM public.restate WHERE is_called',
	'months restated' => 'SELECT last_value FROM public.restate_month WHERE is_called',
	'lines deleted' => 'SELECT last_value FROM public.delete WHERE is_called',
	'invoices' => 'SELECT count(*) FROM creditmemo.invoice WHERE voided_at IS NULL',
	'voided invoices' => 'SELECT count(*) FROM creditmemo.invoice WHERE voided_at IS NOT NULL',
	'folded billings' => 'SELECT count(*) FROM creditmemo.billing WHERE folded_into IS NOT NULL',
	'voided memos' => 'SELECT count(*) FROM creditmemo.credit_memo WHERE voided_at IS NOT NULL',
	'closings' => "SELECT count(*) FROM creditmemo.period_closing WHERE action = 'close'",
	'reopenings' => "SELECT count(*) FROM creditmemo.period_closing WHERE action = 'reopen'",
	map { ("entries: $_" => "SELECT count(*) FROM creditmemo.memo_entry WHERE entry_type = '$_'") }
	  qw(issue apply release void expire restore));
for my $what (sort keys %happened)
{
	my $count = psql($database, $happened{$what}) || 0;
	cmp_ok($count, '>', 0, "$what: $count");
}
books_are_sound($database);

done_testing();
