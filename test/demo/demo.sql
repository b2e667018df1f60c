-- Three months of a reseller of AWS with two customers, and what came after.  The variable documents
-- names a folder for the documents.

\set ON_ERROR_STOP on
\set QUIET on
\pset footer off
SET client_min_messages = warning;
SET datestyle = iso;
CREATE EXTENSION creditmemo;
SET search_path = creditmemo;

INSERT INTO seller (name, address, logo, remittance) VALUES ('Summit Cloud Resale, Inc.',
	E'200 Hill Street, Suite 4\nPortland, OR 97204', 'data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHZpZXdCb3g9IjAgMCAxMzIgMzYiPjxwYXRoIGQ9Ik00IDMwIDE4IDZsMTQgMjR6IiBmaWxsPSIjMjM0MDVlIi8+PHBhdGggZD0iTTE4IDMwIDI3IDE1bDkgMTV6IiBmaWxsPSIjMmM2YWE2Ii8+PHRleHQgeD0iNDQiIHk9IjI2IiBmb250LWZhbWlseT0iSGVsdmV0aWNhLEFyaWFsLHNhbnMtc2VyaWYiIGZvbnQtc2l6ZT0iMjIiIGZvbnQtd2VpZ2h0PSI3MDAiIGZpbGw9IiMyMzQwNWUiPnN1bW1pdDwvdGV4dD48L3N2Zz4=',
	E'By ACH to First Bank of Portland, routing 123000220, account 4400123456.\nPlease name the invoice number.');
INSERT INTO customer (customer_id, name, address, email) VALUES
	('ACME', 'Acme University', E'Accounts Payable\n1 Campus Road\nSpringfield, IL 62701', 'ap@acme.example'),
	('HARBOR', 'Blue Harbor Labs', E'80 Pier Street\nBoston, MA 02210', 'invoices@harbor.example');
INSERT INTO payer_account (payer_account_id, name) VALUES
	('990000000001', 'Reseller payer 1'), ('990000000002', 'Reseller payer 2');
INSERT INTO member_account (account_id, payer_account_id, customer_id, name) VALUES
	('000011111234', '990000000001', 'ACME', 'Genome project'),
	('410022225501', '990000000002', 'HARBOR', 'Production'),
	('410022227702', '990000000002', 'HARBOR', 'Research'),
	('410022229903', '990000000002', 'HARBOR', 'Archive');
INSERT INTO po_assignment (account_id, po_number) VALUES
	('000011111234', 'PO-7001'), ('410022225501', 'PO-8100'),
	('410022227702', 'PO-8100'), ('410022229903', 'PO-8100');
INSERT INTO credit_memo (account_id, amount, redeemed_on, expires_on, note) VALUES
	('000011111234', 1000.00, '2019-01-15', '2019-09-30', 'AWS promotional credit'),
	('410022227702', 600.00, '2019-01-20', '2020-01-31', 'AWS promotional credit');
-- moved to another purchase order: the memos keep theirs
INSERT INTO po_assignment (account_id, po_number) VALUES ('410022227702', 'PO-8200');

CREATE TEMP TABLE bill (service_period date, account_id text, service text, description text,
	amount numeric, source_id text);
\copy bill FROM 'test/demo/bill.csv' WITH (FORMAT csv, HEADER)

\echo
\echo 'CREDIT MEMOS BEFORE'
\echo 'Two accounts own credit: the only account of Acme University, and one of Blue Harbor''s three.'
\echo 'A memo keeps the purchase order (PO) that its account had when it was issued.'
\echo
SELECT memo_number AS memo, account_id, po_number AS po, amount, balance, status
FROM memo_balance ORDER BY memo_id;

\echo 'THREE MONTHS'
\echo 'Each month the bill is loaded with one INSERT, which applies the credit, and each customer invoiced.'
\echo
DO $$
DECLARE
	month date;
	customer record;
	number int := 1001;
BEGIN
	FOR month IN SELECT DISTINCT service_period FROM pg_temp.bill ORDER BY 1 LOOP
		INSERT INTO creditmemo.utilization (service_period, account_id, service, description, amount, source_id)
		SELECT service_period, account_id, service, description, amount, source_id
		FROM pg_temp.bill
		WHERE service_period = month;
		FOR customer IN SELECT DISTINCT customer_id FROM creditmemo.unbilled ORDER BY 1 LOOP
			PERFORM creditmemo.issue_invoice('SI' || number, customer.customer_id, month,
				(month + interval '1 month 4 days')::date);
			number := number + 1;
		END LOOP;
	END LOOP;
END
$$;

\echo 'INVOICES, THE FACE'
\echo
SELECT invoice_number AS invoice, service_period_text(service_period) AS period, customer_name, accounts,
	total_utilization, credit_applied, balance_due
FROM invoice_face ORDER BY invoice_number;

\echo 'INVOICES, THE BODY'
\echo 'The credit stands against the account that owns it, and against no other.'
\echo
SELECT invoice_number AS invoice, account_id, po_number AS po, utilization, credit_applied, due,
	prior_balance, balance_of_funds
FROM invoice_body ORDER BY invoice_number, account_id;

\echo 'E-MAILS'
\pset tuples_only on
\pset format unaligned
SELECT E'\nTo: ' || recipient || E'\nSubject: ' || subject || E'\n\n' || body_text
	|| E'\n\n' || repeat('-', 60)
FROM invoice_email ORDER BY invoice_number;
\pset format aligned
\pset tuples_only off

\echo
\echo 'AWS RESTATES MARCH'
\echo 'The invoice is voided, the whole bill loaded again over the old one, invoiced, and the month closed.'
\echo
SELECT void_invoice('SI1006', 'AWS restated March') \g /dev/null
UPDATE bill SET amount = 5.25
WHERE service_period = '2019-03-01' AND account_id = '410022227702' AND source_id = '2019-03-a';
INSERT INTO utilization (service_period, account_id, service, description, amount, source_id)
SELECT service_period, account_id, service, description, amount, source_id
FROM bill
ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount;
SELECT issue_invoice('SI1007', 'HARBOR', '2019-03-01', '2019-04-08') \g /dev/null
SELECT close_period('2019-03-01') \g /dev/null
SELECT invoice_number AS invoice, total_utilization, credit_applied, balance_due,
	CASE WHEN voided_at IS NOT NULL THEN 'void' ELSE '' END AS void
FROM invoice_face WHERE invoice_number IN ('SI1006', 'SI1007') ORDER BY invoice_number;

\echo 'CREDIT MEMOS AFTER'
\echo
SELECT memo_number AS memo, account_id, po_number AS po, po_number_now AS po_now, amount, applied, balance,
	status, months_left
FROM memo_balance ORDER BY memo_id;

\echo 'WHERE THE CREDIT WENT'
\echo
SELECT memo_number AS memo, entry_no AS entry, entry_type, amount, balance_after,
	service_period_text(service_period) AS period, invoice_number AS invoice
FROM memo_statement ORDER BY memo_id, entry_no;

\echo 'STATEMENT OF CREDIT'
\echo 'For a customer who asks where his credit went.'
\echo
\pset tuples_only on
\pset format unaligned
SELECT statement_text('000011111234');

\set file :documents /invoice-one-account.html
\o :file
SELECT invoice_html('SI1001');
\set file :documents /invoice-several-accounts.html
\o :file
SELECT invoice_html('SI1002');
\set file :documents /invoice-void.html
\o :file
SELECT invoice_html('SI1006');
\set file :documents /email.html
\o :file
SELECT email_html('SI1002');
\set file :documents /statement.html
\o :file
SELECT statement_html('000011111234');
\o
\pset format aligned
\pset tuples_only off

\echo 'DOCUMENTS TO LOOK AT in a browser, two invoices, one that is void, an e-mail and a statement, are in'
\echo :documents
\echo
\echo 'THE BOOKS ARE SOUND when verify() finds no problem:'
\echo
SELECT count(*) AS problems FROM verify();
