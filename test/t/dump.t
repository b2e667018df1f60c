# What pg_dump writes, psql and pg_restore give back: every table and document equal, nothing paid
# twice, and the next insert works.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use File::Temp;
use Psql qw(new_database psql run_ok books_are_sound);
use Test::More;

my $original = new_database('creditmemo_dump');
psql($original, <<'END');
SET search_path = creditmemo;
INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT lpad(n::text, 12, '0'), '999999999999', 'ACME' FROM generate_series(1, 50) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
INSERT INTO credit_memo (account_id, amount, redeemed_on, services)
	SELECT account_id, 30, '2019-01-01', CASE WHEN account_id::int % 3 = 0 THEN '{Amazon EC2}'::text[] END
	FROM member_account;
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	SELECT '2019-01-01', account_id, 'Amazon EC2', 10 + n, n
	FROM member_account, generate_series(1, 3) n;
SELECT count(*) FROM issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05');
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-01-01', account_id, 'Amazon EC2', -25 FROM member_account;
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-02-01', account_id, 'Amazon S3', 7 FROM member_account;
INSERT INTO provider_credit (account_id, payer_account_id, service_period, amount)
	VALUES ('000000000001', '999999999999', '2019-01-01', -5);
UPDATE utilization SET amount = 8 WHERE service_period = '2019-02-01' AND account_id < '000000000010';
SELECT count(*) FROM issue_invoice('SI2', 'ACME', '2019-01-01', '2019-02-06', '{000000000003,000000000004}');
SELECT count(*) FROM void_invoice('SI2', 'wrong');
SELECT count(*) FROM void_invoice('SI1', 'wrong, too');
SELECT count(*) FROM issue_invoice('SI3', 'ACME', '2019-01-01', '2019-02-07');
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-01-01', account_id, 'Amazon EC2', 3 FROM member_account WHERE account_id < '000000000010';
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on)
	VALUES ('000000000001', 'ends', 5, '2018-12-01', '2018-12-15');
SELECT count(*) FROM void_memo('CM2', 'wrong');
SELECT close_period('2018-12-01');
INSERT INTO seller (name, logo) VALUES ('Northwind', 'data:image/png;base64,iVBORw0KGgo=');
INSERT INTO email_template (customer_id, subject, text)
	VALUES (NULL, '{invoice_number}', E'Dear {{customer_name}},\n\n{summary}'), ('ACME', NULL, '{balances}');
END
books_are_sound($original);

my @tables = split /\n/, psql($original,
	"SELECT relname FROM pg_class WHERE relnamespace = 'creditmemo'::regnamespace AND relkind = 'r'");

sub contents
{
	my ($database) = @_;
	return join "\n",
	  map { psql($database, "SELECT '$_', t FROM creditmemo.$_ t ORDER BY t::text") } @tables;
}

sub documents
{
	my ($database) = @_;
	return psql($database, <<'END');
SELECT md5(string_agg(creditmemo.invoice_html(invoice_number), '' ORDER BY invoice_number)),
	md5(string_agg(e::text, '' ORDER BY invoice_number))
FROM creditmemo.invoice_email e;
SELECT md5(string_agg(creditmemo.statement_html(account_id), '' ORDER BY account_id))
FROM creditmemo.member_account;
END
}

my $expected = contents($original);
my $expected_documents = documents($original);
my $dump = File::Temp->new;
my %restores = (
	'plain' => [ [ 'pg_dump', '-f', $dump, $original ],
		sub { [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $_[0], '-f', $dump ] } ],
	'custom' => [ [ 'pg_dump', '-Fc', '-f', $dump, $original ],
		sub { [ 'pg_restore', '--exit-on-error', '-d', $_[0], $dump ] } ]);

for my $format (sort keys %restores)
{
	my ($dump_command, $restore_command) = @{ $restores{$format} };
	my $restored = new_database("creditmemo_restored_$format", without_extension => 1);
	run_ok("$format dump", @$dump_command);
	run_ok("$format restore", @{ $restore_command->($restored) });
	is(contents($restored), $expected, "every table is equal after a $format restore");
	is(documents($restored), $expected_documents, "every document is equal after a $format restore");
	books_are_sound($restored);
	psql($restored, <<'END');
INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on) VALUES ('000000000001', 1, '2019-01-01');
DELETE FROM creditmemo.email_template WHERE customer_id = 'ACME';
INSERT INTO creditmemo.email_template (customer_id, text) VALUES ('ACME', '{summary}');
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	VALUES ('2019-02-01', '000000000001', 'Amazon S3', 7);
SELECT count(*) FROM creditmemo.void_invoice('SI3', 'wrong');
UPDATE creditmemo.utilization SET amount = amount - 1 WHERE amount > 1;
DELETE FROM creditmemo.utilization WHERE amount < 0;
SELECT creditmemo.reopen_period('2018-12-01', reason => 'late');
END
	books_are_sound($restored, 'the books are sound after the next statements');
}

done_testing();
