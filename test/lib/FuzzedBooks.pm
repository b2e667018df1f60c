# Books for statements made at random, and a role that may do what a biller does.

package FuzzedBooks;

use strict;
use warnings;
use Exporter 'import';
use Psql qw(new_database psql);
use RandomBill qw(random_bill);
use Staged qw(column_sets staged);

our @EXPORT_OK = qw(fuzzed_books make_biller drop_biller crashes sources);

my $biller = 'regress_fuzz_biller';

sub make_biller
{
	psql('postgres', <<"SQL");
SET client_min_messages = error;
DROP ROLE IF EXISTS $biller;
CREATE ROLE $biller LOGIN PASSWORD '@{[ $ENV{PGPASSWORD} // '' ]}';
SQL
	return $biller;
}

sub drop_biller { psql('postgres', "DROP ROLE IF EXISTS $biller"); return }

sub sources { return map { my $set = $_; map { 'public.' . lc($set =~ s/\W/_/gr) . "_$_" } 1 .. 2 } column_sets() }

# Creates a database with the books of three customers, and bills to import.
sub fuzzed_books
{
	my ($name) = @_;
	my $database = new_database($name);
	my @bills = map {
		my $set = $_;
		map { staged(lc($set =~ s/\W/_/gr) . "_$_", $set, '', @{ random_bill($_)->{lines} }) } 1 .. 2
	} column_sets();
	psql($database, join '', "SET client_min_messages = warning;\n", @bills, <<"SQL");
CREATE FUNCTION public.grant_biller_without_function(role regrole) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
	EXECUTE format('
		GRANT USAGE ON SCHEMA creditmemo TO %1\$s;
		GRANT SELECT ON ALL TABLES IN SCHEMA creditmemo TO %1\$s;
		GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA creditmemo TO %1\$s;
		GRANT USAGE ON ALL SEQUENCES IN SCHEMA creditmemo TO %1\$s;
		GRANT INSERT, UPDATE, DELETE ON creditmemo.customer, creditmemo.payer_account, creditmemo.po_assignment,
			creditmemo.provider_credit, creditmemo.seller, creditmemo.email_template TO %1\$s;
		GRANT INSERT (account_id, payer_account_id, customer_id, name), UPDATE (account_id, payer_account_id, customer_id, name),
			DELETE ON creditmemo.member_account TO %1\$s;
		GRANT INSERT (account_id, amount, redeemed_on, memo_number, credit_type, provider_credit_id, expires_on, services,
			priority, note), UPDATE (provider_credit_id, expires_on, priority, note, services, amount), DELETE
			ON creditmemo.credit_memo TO %1\$s;
		GRANT INSERT (service_period, account_id, service, amount, description, creditable, source_id),
			UPDATE (service_period, account_id, service, amount, description, creditable, source_id), DELETE
			ON creditmemo.utilization TO %1\$s', role);
END
\$\$;
DO \$\$
BEGIN
	IF to_regprocedure('creditmemo.grant_biller(regrole)') IS NOT NULL THEN
		PERFORM creditmemo.grant_biller('$biller');
	ELSE
		PERFORM public.grant_biller_without_function('$biller');
	END IF;
	DROP FUNCTION public.grant_biller_without_function;
	EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO $biller', current_database());
END
\$\$;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO $biller;
SET search_path = creditmemo;
INSERT INTO customer (customer_id, name, email, currency) VALUES
	('ACME', 'Acme', 'ap\@acme.example', 'USD'), ('HARBOR', 'Blue Harbor', NULL, 'USD'), ('EURO', 'Euro', NULL, 'EUR');
INSERT INTO payer_account VALUES ('P1'), ('P2');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT 'A' || n, 'P' || 1 + n % 2, (ARRAY['ACME', 'HARBOR', 'EURO'])[1 + n / 6] FROM generate_series(0, 14) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
INSERT INTO credit_memo (account_id, amount, redeemed_on, expires_on, services)
	SELECT account_id, 50 + 100 * n, '2019-01-15', CASE n WHEN 2 THEN date '2019-03-31' END,
		CASE n WHEN 3 THEN ARRAY['Amazon EC2', 'Amazon S3'] END
	FROM member_account, generate_series(1, 3) n;
INSERT INTO utilization (account_id, service_period, service, amount, creditable, source_id)
	SELECT account_id, make_date(2019, month, 1), service, 20 * month + n, service <> 'Tax', month || service || n
	FROM member_account, generate_series(1, 5) month, unnest(ARRAY['Amazon EC2', 'Amazon S3', 'Tax']) service, generate_series(1, 2) n;
INSERT INTO seller (name) VALUES ('Northwind');
SELECT issue_invoice('SI1', 'ACME', '2019-01-01'), issue_invoice('SI2', 'HARBOR', '2019-01-01'), issue_invoice('SI3', 'ACME', '2019-02-01') \\g /dev/null
SELECT void_invoice('SI2', 'wrong') \\g /dev/null
SQL
	return $database;
}

# Changes when the server has been through a crash.
sub crashes
{
	return psql('postgres', "SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
}

1;
