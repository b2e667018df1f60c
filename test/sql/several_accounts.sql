-- An invoice with several accounts: credit only against the account that owns it.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name, currency) VALUES ('ACME', 'Acme University', 'USD'), ('ZEBRA', 'Zebra', 'EUR');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES
	('000011111234', '999999999999', 'ACME'), ('000011115678', '999999999999', 'ACME'),
	('000011119012', '999999999999', 'ACME'), ('zébré-ß', '999999999999', 'ZEBRA');
INSERT INTO po_assignment (account_id, po_number)
	SELECT account_id, 'PO-' || account_id FROM member_account;

INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111234', 1000, '2019-01-15');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', '000011115678', 'Amazon EC2', 700.01),
	('2019-01-01', '000011111234', 'Amazon EC2', 100),
	('2019-01-01', '000011119012', 'Amazon S3', 49.99),
	('2019-01-01', 'zébré-ß', 'Amazon S3', 10);

SELECT invoice_number FROM issue_invoice('SI2001', 'ACME', '2019-01-01', '2019-02-05');
SELECT scope, accounts, total_utilization, credit_applied, balance_due FROM invoice_face;
SELECT account_id, utilization, credit_applied, due, prior_balance, balance_of_funds
FROM invoice_body
ORDER BY account_id;
\pset tuples_only on
\pset format unaligned
SELECT body_text FROM invoice_email;
\pset tuples_only off
\pset format aligned

-- two of them with credit; and one that has credit which this month could not use
INSERT INTO credit_memo (account_id, amount, redeemed_on, services) VALUES
	('000011115678', 500, '2019-02-01', NULL), ('000011119012', 70, '2019-02-01', '{Amazon RDS}');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-02-01', '000011115678', 'Amazon EC2', 600),
	('2019-02-01', '000011111234', 'Amazon EC2', 100),
	('2019-02-01', '000011119012', 'Amazon S3', 50);
SELECT invoice_number FROM issue_invoice('SI2002', 'ACME', '2019-02-01', '2019-03-05');
SELECT account_id, utilization, credit_applied, due, prior_balance, balance_of_funds
FROM invoice_body
WHERE invoice_number = 'SI2002'
ORDER BY account_id;
\pset tuples_only on
\pset format unaligned
SELECT body_text FROM invoice_email WHERE invoice_number = 'SI2002';
\pset tuples_only off
\pset format aligned

-- accounts of a customer on invoices of their own, named in any order and twice
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-03-01', '000011115678', 'Amazon EC2', 3),
	('2019-03-01', '000011111234', 'Amazon EC2', 1),
	('2019-03-01', '000011119012', 'Amazon S3', 2);
SELECT invoice_number FROM issue_invoice('SI2003', 'ACME', '2019-03-01', '2019-04-05', '{000011119012,000011111234,000011119012}');
SELECT account_id FROM unbilled WHERE service_period = '2019-03-01' AND customer_id = 'ACME';
SELECT invoice_number FROM issue_invoice('SI2004', 'ACME', '2019-03-01', '2019-04-05');
SELECT invoice_number, account_id, utilization FROM invoice_body
WHERE service_period = '2019-03-01'
ORDER BY invoice_number, account_id;

-- credit pending on another open billing is still the customer's when this one is invoiced
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-05-01', '000011111234', 'Amazon EC2', 30),
	('2019-04-01', '000011111234', 'Amazon EC2', 20);
SELECT available, pending, invoiced_balance FROM account_balance WHERE account_id = '000011111234';
SELECT invoice_number FROM issue_invoice('SI2005', 'ACME', '2019-05-01', '2019-06-05');
SELECT invoice_number FROM issue_invoice('SI2006', 'ACME', '2019-04-01', '2019-06-06');
SELECT invoice_number, prior_balance, credit_applied, balance_of_funds
FROM invoice_body
WHERE account_id = '000011111234'
ORDER BY invoice_number;

-- another currency, names of any script
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('zébré-ß', 1500, '2019-01-31');
SELECT invoice_number FROM issue_invoice('SI-ζ', 'ZEBRA', '2019-01-01', '2019-02-05');
\pset tuples_only on
\pset format unaligned
SELECT subject, body_text FROM invoice_email WHERE invoice_number = 'SI-ζ';
\pset tuples_only off
\pset format aligned

SELECT * FROM verify();
