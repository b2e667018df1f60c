# Books that are hard to copy, what a copy has to be equal to, and what it has to be able to do.

package Copies;

use strict;
use warnings;
use Exporter 'import';
use Psql qw(psql books_are_sound);
use Test::More;

our @EXPORT_OK = qw(write_books tables contents documents sequences go_on outcome billings is_copy);

# Writes books in which rows depend on each other in every way: releases that undo entries, billings that are folded
# into others, memos and invoices that are void, expired and restored, closed accounts.  In the files rows stand before
# those that they depend on: a row that was updated has moved, and what was rolled back has left room.
sub write_books
{
	my ($database) = @_;
	psql($database, <<'SQL');
SET search_path = creditmemo;
INSERT INTO customer (customer_id, name, address) VALUES
	('ACME', E'Acme\t\\N "Ltd"', E'1 Main St\nTown'), ('HARBOR', '\.', NULL), ('Z', 'A name that changes', '');
INSERT INTO payer_account VALUES ('999999999999'), ('888888888888');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT lpad(n::text, 12, '0'), '999999999999', 'ACME' FROM generate_series(1, 50) n;
INSERT INTO member_account VALUES ('H1', '888888888888', 'HARBOR', 'closed'), ('H2', '888888888888', 'HARBOR', NULL);
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
INSERT INTO po_assignment (account_id, po_number, assigned_at) VALUES ('000000000001', 'PO2', '2100-01-01');
INSERT INTO credit_memo (account_id, amount, redeemed_on, services)
	SELECT account_id, 30, '2019-01-01', CASE WHEN account_id < '1' AND account_id::int % 3 = 0 THEN '{Amazon EC2}'::text[] END
	FROM member_account;
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	SELECT '2019-01-01', account_id, 'Amazon EC2', 10 + n, n
	FROM member_account, generate_series(1, 3) n;
SELECT count(*) FROM issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05');
-- refunds give back credit that an invoice shows
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-01-01', account_id, 'Amazon EC2', -25 FROM member_account;
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-02-01', account_id, 'Amazon S3', 7 FROM member_account;
INSERT INTO provider_credit (account_id, payer_account_id, service_period, amount)
	VALUES ('000000000001', '999999999999', '2019-01-01', -5);
INSERT INTO bill_account VALUES ('999999999999', '2019-01-01', '000000000001');
UPDATE utilization SET amount = 8 WHERE service_period = '2019-02-01' AND account_id < '000000000010';
SELECT count(*) FROM issue_invoice('SI2', 'ACME', '2019-01-01', '2019-02-06', '{000000000003,000000000004}');
SELECT count(*) FROM void_invoice('SI2', 'wrong');
-- folds the supplementary billings into the first
SELECT count(*) FROM void_invoice('SI1', 'wrong, too');
SELECT count(*) FROM issue_invoice('SI3', 'ACME', '2019-01-01', '2019-02-07');
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-01-01', account_id, 'Amazon EC2', 3 FROM member_account WHERE account_id < '000000000010';
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on)
	VALUES ('000000000001', 'ends', 5, '2018-12-01', '2018-12-15'), ('H1', 'ends', 5, '2018-12-01', '2018-12-15');
SELECT count(*) FROM void_memo('CM2', 'wrong');
SELECT close_period('2018-12-01');
SELECT reopen_period('2018-12-01', '888888888888', 'late');
SELECT count(*) FROM issue_invoice('SI4', 'HARBOR', '2019-01-01', '2019-02-07');
SELECT count(*) FROM issue_invoice('SI5', 'HARBOR', '2019-02-01', '2019-03-07', '{H1}');
SELECT close_period('2019-01-01', '888888888888');
UPDATE customer SET name = 'Another name' WHERE customer_id = 'Z';
INSERT INTO seller (name, logo) VALUES ('Northwind', 'data:image/png;base64,iVBORw0KGgo=');
INSERT INTO email_template (customer_id, subject, text)
	VALUES (NULL, '{invoice_number}', E'Dear {{customer_name}},\n\n{summary}'), ('ACME', NULL, '{balances}');
-- room in the files that the next entries take
BEGIN;
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-03-01', account_id, 'Amazon S3', 1 FROM member_account WHERE account_id < '000000000040';
ROLLBACK;
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	SELECT '2019-03-01', account_id, 'Amazon EC2', 2, 'March' FROM member_account;
SQL
	psql($database, "VACUUM creditmemo.$_") foreach tables($database);
	psql($database, <<'SQL');
SET search_path = creditmemo;
DELETE FROM utilization WHERE source_id = 'March' AND account_id < '000000000040';
SELECT count(*) FROM void_invoice('SI3', 'once more');
SELECT count(*) FROM issue_invoice('SI6', 'ACME', '2019-01-01', '2019-02-07');
SQL
	is(psql($database, <<'SQL'), 't|t|t|t|t|t|t', 'the books are hard to copy');
SET search_path = creditmemo;
SELECT (SELECT count(*) > 10 FROM memo_entry WHERE entry_type = 'release'),
	(SELECT count(*) > 10 FROM billing WHERE folded_into IS NOT NULL),
	(SELECT count(*) > 1 FROM voided_line),
	(SELECT count(*) = 1 FROM credit_memo WHERE voided_at IS NOT NULL),
	(SELECT count(DISTINCT closed_through) = 2 FROM member_account),
	EXISTS (SELECT FROM memo_entry r JOIN memo_entry e
		ON (e.account_id, e.memo_id, e.entry_no) = (r.account_id, r.memo_id, r.reverses)
		WHERE r.ctid < e.ctid),
	EXISTS (SELECT FROM billing f JOIN billing b
		ON (b.account_id, b.service_period, b.billing_no) = (f.account_id, f.service_period, f.folded_into)
		WHERE f.ctid < b.ctid)
SQL
	books_are_sound($database);
}

sub tables
{
	my ($database) = @_;
	return split /\n/, psql($database, <<'SQL');
SELECT relname FROM pg_class WHERE relnamespace = 'creditmemo'::regnamespace AND relkind = 'r' ORDER BY relname
SQL
}

# The rows of all tables, each as the expression says it.
sub rows_as
{
	my ($database, $expression) = @_;
	return psql($database, join("\nUNION ALL\n",
		map { "SELECT '$_', ($expression)::text COLLATE \"C\" FROM creditmemo.$_ t" } tables($database)) . "\nORDER BY 1, 2");
}

# Every row of every table.
sub contents { return rows_as($_[0], 't') }

# The same but for times, of which the server has one more to tell when it does the same again.
sub outcome { return rows_as($_[0], "to_jsonb(t) - '{recorded_at,voided_at,assigned_at}'::text[]") }

# What all of it comes to.  A server that goes on after a crash skips ids, so that the outcome is another.
sub billings
{
	my ($database) = @_;
	return psql($database, <<'SQL');
SELECT b FROM creditmemo.billing b ORDER BY b.account_id, b.service_period, b.billing_no
SQL
}

sub documents
{
	my ($database) = @_;
	return psql($database, <<'SQL');
SELECT md5(string_agg(creditmemo.invoice_html(invoice_number), '' ORDER BY invoice_number)),
	md5(string_agg(e::text, '' ORDER BY invoice_number))
FROM creditmemo.invoice_email e;
-- asked once the accounts are known, so that machines which have some need not ask others
SELECT md5(string_agg(creditmemo.statement_html(account_id), '' ORDER BY account_id))
FROM (SELECT account_id FROM creditmemo.member_account OFFSET 0) a;
SQL
}

# Where each of the sequences stands.
sub sequences
{
	my ($database) = @_;
	return psql($database, <<'SQL');
SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'creditmemo' ORDER BY sequencename
SQL
}

# The next statements, some of everything.
sub go_on
{
	my ($database) = @_;
	psql($database, <<'SQL');
SET search_path = creditmemo;
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000000000001', 1, '2019-01-01'), ('H2', 9, '2019-02-01');
DELETE FROM email_template WHERE customer_id = 'ACME';
INSERT INTO email_template (customer_id, text) VALUES ('ACME', '{summary}');
INSERT INTO provider_credit (account_id, payer_account_id, service_period, amount)
	VALUES ('000000000002', '999999999999', '2019-02-01', -7);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-02-01', '000000000001', 'Amazon S3', 7), ('2019-02-01', 'H2', 'Amazon EC2', -3),
	('2019-02-01', 'H1', 'Amazon EC2', 99);
SELECT count(*) FROM void_invoice('SI6', 'wrong');
UPDATE utilization SET amount = amount - 1 WHERE amount > 1 AND account_id < '1' AND service_period < '2019-04-01';
DELETE FROM utilization WHERE amount < 0 AND account_id < '1' AND service_period < '2019-04-01';
SELECT count(*) FROM issue_invoice('SI7', 'ACME', '2019-01-01', '2019-02-08');
SELECT count(*) FROM void_invoice('SI5', 'wrong');
SELECT count(*) FROM void_memo('CM52', 'wrong');
SELECT reopen_period('2018-12-01', reason => 'late');
SQL
	books_are_sound($database, 'the books are sound after the next statements');
}

# Tests that a database is a copy of another: of its rows, documents and sequences before go_on(), and of the outcome
# after it.
sub is_copy
{
	my ($database, $original, $name) = @_;
	is(contents($database), $original->{contents}, "$name: every table is equal");
	is(documents($database), $original->{documents}, "$name: every document is equal");
	is(sequences($database), $original->{sequences}, "$name: every sequence is equal");
	books_are_sound($database, "$name: the books are sound");
	go_on($database);
	is(outcome($database), $original->{outcome}, "$name: what comes next comes to the same");
}

1;
