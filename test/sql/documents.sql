-- What documents say: the letterhead, the wording of e-mails, statements, and what is fixed with the
-- invoice.  How they look as HTML is tested in test/t.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name, address, email) VALUES
	('ACME', 'Acme University', E'1 Campus Road\nSpringfield', 'ap@acme.example'),
	('EURO', 'Euro GmbH', NULL, NULL);
UPDATE customer SET payment_terms_days = 14 WHERE customer_id = 'EURO';
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id, name) VALUES
	('000011111234', '999999999999', 'ACME', 'Genome project'),
	('000011115678', '999999999999', 'EURO', 'Web'), ('000011119012', '999999999999', 'EURO', NULL);
INSERT INTO po_assignment (account_id, po_number) VALUES
	('000011111234', 'PO-7001'), ('000011115678', 'PO-2'), ('000011119012', 'PO-1');

-- a seller, one at most, with a logo that is no link
INSERT INTO seller (name, logo) VALUES ('Northwind', 'https://northwind.example/logo.png');
INSERT INTO seller (name, logo) VALUES ('Northwind', 'data:image/png;base64,iVBORw0KGgo="><script>');
INSERT INTO seller (name, logo, remittance)
	VALUES ('Northwind', 'data:image/png;base64,iVBORw0KGgo=', 'Bank: 123');
INSERT INTO seller (name) VALUES ('Southwind');

INSERT INTO credit_memo (account_id, amount, redeemed_on, expires_on, services, note) VALUES
	('000011111234', 1000, '2019-01-15', NULL, NULL, 'AWS promotional credit'),
	('000011111234', 60, '2019-02-03', '2019-04-30', '{Amazon S3}', NULL),
	('000011111234', 25, '2019-01-20', '2019-01-31', NULL, NULL);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', '000011111234', 'Amazon EC2', 75.50), ('2019-01-01', '000011111234', 'Amazon S3', 24.50),
	('2019-01-01', '000011115678', 'Amazon EC2', 10), ('2019-01-01', '000011119012', 'Amazon EC2', 20);
SELECT invoice_number FROM issue_invoice('SI1001', 'ACME', '2019-01-01', '2019-02-05');
SELECT invoice_number FROM issue_invoice('SI1002', 'EURO', '2019-01-01', '2019-02-05');
CREATE TEMP TABLE issued AS
	SELECT invoice_number, invoice_html(invoice_number), e.subject, e.body_text, e.body_html
	FROM invoice_email e;

-- who it is for and what the accounts were called is fixed with the invoice
UPDATE customer SET name = 'Acme College', address = 'elsewhere', email = 'new@acme.example';
UPDATE member_account SET name = 'renamed';
INSERT INTO po_assignment (account_id, po_number, assigned_at)
	SELECT account_id, 'PO-9', clock_timestamp() FROM member_account;
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-02-01', '000011111234', 'Amazon S3', 80), ('2019-01-01', '000011111234', 'Amazon EC2', -5);
SELECT customer_name, customer_address, po_numbers, prior_balance, balance_of_funds FROM invoice_face ORDER BY invoice_number;
SELECT account_name FROM invoice_body ORDER BY account_id;
SELECT count(*) FROM issued i JOIN invoice_email e USING (invoice_number)
WHERE (i.invoice_html, i.subject, i.body_text, i.body_html)
	IS NOT DISTINCT FROM (invoice_html(e.invoice_number), e.subject, e.body_text, e.body_html);
SELECT recipient FROM invoice_email WHERE invoice_number = 'SI1001';

-- a voided invoice says by service what it said, and nobody changes that
SELECT invoice_number FROM void_invoice('SI1001', 'AWS restated January');
UPDATE utilization SET amount = 4.50 WHERE service = 'Amazon S3' AND service_period = '2019-01-01';
SELECT invoice_number FROM issue_invoice('SI1003', 'ACME', '2019-01-01', '2019-02-08');
SELECT invoice_number, service, utilization, creditable, lines, voided_at IS NOT NULL AS is_void
FROM invoice_line WHERE account_id = '000011111234' ORDER BY invoice_number, service;
SELECT replace(invoice_html('SI1001'), E'<p class="void">VOID</p>\n', '') = invoice_html AS is_as_issued
FROM issued WHERE invoice_number = 'SI1001';
UPDATE voided_line SET utilization = 1;
-- services that no index can hold, and sums that no single line can have
INSERT INTO member_account VALUES ('000011113456', '999999999999', 'EURO');
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT date '2019-01-01', '000011113456', service, amount
	FROM generate_series(1, 93), (VALUES ('Amazon EC2', 999999999999999.00), ('Amazon S3', -999999999999999.00)) line (service, amount);
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-01-01', '000011113456', string_agg(md5(n::text), ''), 5 FROM generate_series(1, 400) n;
SELECT invoice_number FROM issue_invoice('SI9', 'EURO', '2019-01-01', '2019-02-05', '{000011113456}');
SELECT invoice_number FROM void_invoice('SI9', 'wrong');
SELECT line_no, left(service, 12) AS service, utilization, creditable, lines FROM voided_line WHERE invoice_number = 'SI9' ORDER BY line_no;
SELECT count(*) FROM regexp_matches(invoice_html('SI9'), '-?\$92,999,999,999,999,907.00', 'g');
DELETE FROM utilization WHERE account_id = '000011113456';
-- rows that a restore has not brought yet
BEGIN;
SET LOCAL session_replication_role = replica;
INSERT INTO invoice (invoice_number, customer_id, customer_name, service_period, invoice_date, due_date)
	VALUES ('SI8', 'EURO', 'Euro GmbH', '2019-01-01', '2019-02-05', '2019-02-05');
SAVEPOINT restored;
SELECT invoice_html('SI8');
ROLLBACK TO restored;
SELECT email_text('SI8');
ROLLBACK;

-- no placeholder that is not known, when the template is written
INSERT INTO email_template (text) VALUES ('You owe {amount}.');
INSERT INTO email_template (text) VALUES ('You owe {balance_due.');
INSERT INTO email_template (text) VALUES ('You owe { balance_due }.');
INSERT INTO email_template (text) VALUES ('You owe {}.');
INSERT INTO email_template (text) VALUES (E' \n\t');
INSERT INTO email_template (subject) VALUES ('Invoice: {balances}');
INSERT INTO email_template (text) VALUES (E'Your credit: {balances}');
INSERT INTO email_template DEFAULT VALUES;
INSERT INTO email_template (subject, text) VALUES
	('{seller_name}: {invoice_number}', E'Hello {customer_name} {{{customer_id}}},\r\n\r\n{summary}\r\n\r\n\r\n{balances}\r\n\r\nThank you }:\r\n{seller_name}  \r\n');
UPDATE email_template SET text = '{nothing}';
INSERT INTO email_template (subject) VALUES ('another default');
INSERT INTO email_template (customer_id, subject) VALUES ('NOBODY', 'x');
INSERT INTO email_template (customer_id, subject) VALUES ('EURO', E'{service_period_iso}\n{po_number} {balance_due} {due_date_iso}');
SELECT e.invoice_number, e.recipient, e.subject, e.body_text
FROM invoice_email e WHERE voided_at IS NULL ORDER BY invoice_number;
DELETE FROM email_template;

-- statements: all months, some of them, an account without credit
SELECT close_period('2019-01-01', '999999999999');
SELECT invoice_number FROM issue_invoice('SI1004', 'ACME', '2019-02-01', '2019-03-05');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-03-01', '000011111234', 'Amazon EC2', 30);
\pset format unaligned
\pset tuples_only on
SELECT regexp_replace(statement_text('000011111234'), '[0-9]{4}-[0-9]{2}-[0-9]{2}', '(recorded)', 'g');
SELECT regexp_replace(statement_text('000011111234', '2019-02-01', '2019-02-01'), 'Credit memos.*', '');
SELECT regexp_replace(statement_text('000011111234', '2018-12-01', '2019-12-01'), 'Credit memos.*', '');
SELECT statement_text('000011115678');
\pset format aligned
\pset tuples_only off
SELECT * FROM credit_month ORDER BY account_id, statement_period;
SELECT closing.balance = available AS is_the_balance
FROM account_balance, LATERAL (SELECT sum(change) AS balance FROM credit_month m WHERE m.account_id = account_balance.account_id) closing
WHERE account_id = '000011111234';
INSERT INTO member_account VALUES ('000011110000', '999999999999', 'ACME');
SELECT statement_text('000011110000');

-- months settled out of order: what there was, and what there was before, always adds up
INSERT INTO member_account SELECT '00002222' || n, '999999999999', 'ACME' FROM generate_series(1000, 1004) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account WHERE account_id LIKE '00002222%';
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000022221000', 'A', 100, '2019-02-28');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-03-01', '000022221000', 'Amazon EC2', 100);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-03-01', '000022221000', 'Amazon EC2', -100);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000022221000', 'Amazon EC2', 100);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000022221000', 'Amazon EC2', -30);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-03-01', '000022221000', 'Amazon EC2', 5);
\pset format unaligned
\pset tuples_only on
SELECT regexp_replace(statement_text('000022221000', '2019-03-01'), '[0-9]{4}-[0-9]{2}-[0-9]{2}', '(recorded)', 'g');

-- how long a balance would last: nothing billed; nothing used; a cent in three months; a memo that
-- has ended in an open month, one that will, and one for a service
CREATE FUNCTION pg_temp.projection(account_id text) RETURNS text LANGUAGE sql
	RETURN substring(statement_text(account_id) FROM 'Balance at the end of each month(.*)Credit memos');
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on, services) VALUES
	('000022221001', 'A', 100, '2019-02-28', NULL, NULL), ('000022221001', 'B', 10, '2019-02-28', '2019-03-31', NULL),
	('000022221002', 'A', 100, '2019-02-28', NULL, '{Amazon S3}'), ('000022221002', 'B', 10, '2019-02-28', '2019-06-30', '{Amazon S3}'),
	('000022221003', 'A', 100, '2019-02-01', NULL, NULL),
	('000022221004', 'A', 40, '2019-02-01', '2019-02-28', NULL), ('000022221004', 'B', 30, '2019-02-01', '2019-05-01', NULL),
	('000022221004', 'C', 15, '2019-02-01', NULL, '{Amazon S3}');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-02-01', '000022221002', 'Amazon EC2', 7), ('2019-02-01', '000022221003', 'Amazon EC2', 0.01),
	('2019-03-01', '000022221003', 'Tax', -1), ('2019-04-01', '000022221003', 'Tax', -1),
	('2019-02-01', '000022221004', 'Amazon EC2', 9), ('2019-03-01', '000022221004', 'Amazon EC2', 3);
SELECT invoice_number FROM
	issue_invoice('SI21', 'ACME', '2019-02-01', '2019-03-05', '{000022221002,000022221003,000022221004}'),
	LATERAL (SELECT count(issue_invoice('SI22', 'ACME', '2019-03-01', '2019-03-05', '{000022221003,000022221004}'))) later,
	LATERAL (SELECT count(issue_invoice('SI23', 'ACME', '2019-04-01', '2019-03-05', '{000022221003}'))) latest;
SELECT account_id, pg_temp.projection(account_id) FROM member_account WHERE account_id BETWEEN '000022221001' AND '000022221004' ORDER BY 1;
\pset format aligned
\pset tuples_only off

-- an account that has moved: its new customer sees nothing of the old one
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES ('000033331000', '999999999999', 'ACME');
INSERT INTO po_assignment (account_id, po_number) VALUES ('000033331000', 'PO');
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, note) VALUES
	('000033331000', 'OLD', 20, '2019-02-05', 'of Acme'), ('000033331000', 'OLD VOID', 10, '2019-02-05', 'of Acme');
SELECT memo_number FROM void_memo('OLD VOID', 'wrong');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000033331000', 'Amazon EC2', 30);
SELECT pg_temp.projection('000033331000');
SELECT invoice_number FROM issue_invoice('SI31', 'ACME', '2019-02-01', '2019-03-05', '{000033331000}');
UPDATE member_account SET customer_id = 'EURO' WHERE account_id = '000033331000';
SELECT statement_text('000033331000');
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES
	('000033331000', 'NEW', 50, '2019-03-05'), ('000033331000', 'NEW VOID', 10, '2019-03-05');
SELECT memo_number FROM void_memo('NEW VOID', 'wrong');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-03-01', '000033331000', 'Amazon EC2', 30);
\pset format unaligned
\pset tuples_only on
SELECT regexp_replace(statement_text('000033331000'), '[0-9]{4}-[0-9]{2}-[0-9]{2}', '(recorded)', 'g');
\pset format aligned
\pset tuples_only off
SELECT split_part(statement_text('000033331000', customer_id => 'ACME'), 'Movements', 1);
SELECT customer_id, memo_number, sum(amount) FROM credit_movement WHERE account_id = '000033331000' GROUP BY 1, 2 ORDER BY 1, 2;

-- a memo that had expired and was restored is voided in the month in which it would have expired
INSERT INTO payer_account VALUES ('999999999998');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES ('000033332000', '999999999998', 'ACME');
INSERT INTO po_assignment (account_id, po_number) VALUES ('000033332000', 'PO');
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on) VALUES ('000033332000', 'A', 100, '2019-02-05', '2019-05-20');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000033332000', 'Amazon EC2', 30);
SELECT invoice_number FROM issue_invoice('SI41', 'ACME', '2019-02-01', '2019-03-05', '{000033332000}');
SELECT close_period('2019-05-01', '999999999998'), reopen_period('2019-05-01', '999999999998', 'late lines');
SELECT memo_number FROM void_memo('A', 'withdrawn', '000033332000');
SELECT statement_period, used, lapsed, change FROM credit_month WHERE account_id = '000033332000' ORDER BY 1;

SELECT statement_text('nobody');
SELECT statement_html('000011111234', customer_id => 'NOBODY');
SELECT invoice_html('nothing');
SELECT email_html('nothing');
SELECT statement_text(NULL), invoice_html(NULL), email_text(NULL);
SELECT statement_text('000011111234', '2019-01-02');
SELECT statement_text('000011111234', '2019-03-01', '2019-02-01');
SELECT statement_text('000011111234', '1919-03-01', '2019-03-01');
SELECT * FROM verify();
