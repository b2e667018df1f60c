-- Invoices and credit memos taken back.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES
	('000011111234', '999999999999', 'ACME'), ('000011115678', '999999999999', 'ACME');
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
CREATE VIEW pg_temp.billings AS
	SELECT account_id, service_period, billing_no, invoice_number, utilization, credit, due, prior_balance, balance_after, folded_into
	FROM billing
	ORDER BY account_id, service_period, billing_no;
CREATE VIEW pg_temp.ledger AS
	SELECT memo_number, entry_no, entry_type, amount, balance_after, service_period, billing_no, invoice_number, reverses
	FROM memo_statement
	ORDER BY account_id, memo_id, entry_no;

-- a memo: what open billings hold goes back and is written off, what is invoiced stays paid
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000011111234', 'A', 100, '2019-01-05');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', '000011111234', 'Amazon EC2', 30), ('2019-02-01', '000011111234', 'Amazon EC2', 20);
SELECT invoice_number FROM issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05');
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000011111234', 'B', 15, '2019-01-06');
SELECT memo_number, amount, balance, voided_at IS NOT NULL AS is_void, void_reason
FROM void_memo('A', 'issued to the wrong account');
SELECT * FROM pg_temp.ledger;
SELECT memo_number, applied, balance, status FROM memo_balance ORDER BY memo_number;
SELECT service_period, utilization, credit, due FROM unbilled;
SELECT * FROM verify();

-- a refund of what the void memo paid comes back, and is written off at once
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon EC2', -12);
SELECT * FROM pg_temp.ledger WHERE memo_number = 'A' AND entry_no > 3;
SELECT * FROM pg_temp.billings;
SELECT * FROM verify();

-- an invoice: its billing is open again, with the supplementary one folded in; the void memo's credit is not kept
SELECT invoice_number, voided_at IS NOT NULL AS is_void, void_reason FROM void_invoice('SI1', 'wrong address');
SELECT * FROM pg_temp.billings;
SELECT * FROM pg_temp.ledger;
SELECT billing_no, amount FROM utilization ORDER BY service_period, utilization_id;
SELECT * FROM verify();
-- what it said is kept
SELECT invoice_number, total_utilization, credit_applied, balance_due, voided_at IS NOT NULL AS is_void FROM invoice_face;
SELECT invoice_number, account_id, utilization, credit_applied, due, prior_balance, balance_of_funds FROM invoice_body;

-- invoiced again, and supplemented twice: the number of a folded billing is not used again
SELECT invoice_number FROM issue_invoice('SI2', 'ACME', '2019-01-01', '2019-02-06');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon S3', 4);
SELECT invoice_number FROM issue_invoice('SI3', 'ACME', '2019-01-01', '2019-02-07');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon S3', -3);
SELECT * FROM pg_temp.billings WHERE service_period = '2019-01-01';
-- later ones first
SELECT void_invoice('SI2', 'wrong');
SELECT invoice_number FROM void_invoice('SI3', 'wrong');
SELECT invoice_number FROM void_invoice('SI2', 'wrong, too');
SELECT * FROM pg_temp.billings WHERE service_period = '2019-01-01';
SELECT billing_no, amount FROM utilization WHERE service_period = '2019-01-01' ORDER BY utilization_id;
SELECT * FROM verify();
SELECT invoice_number FROM issue_invoice('SI4', 'ACME', '2019-01-01', '2019-02-08');
SELECT * FROM pg_temp.billings WHERE service_period = '2019-01-01';
SELECT * FROM pg_temp.ledger;

-- credit that a supplementary billing gave back is taken from the right applications after folding
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000011115678', 'C', 60, '2019-01-05'), ('000011115678', 'D', 60, '2019-01-06');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011115678', 'Amazon EC2', 50);
SELECT invoice_number FROM issue_invoice('SI5', 'ACME', '2019-01-01', '2019-02-08', '{000011115678}');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011115678', 'Amazon EC2', 30);
SELECT invoice_number FROM void_invoice('SI5', 'a line was missing');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011115678', 'Amazon EC2', -45);
SELECT * FROM pg_temp.billings WHERE account_id = '000011115678';
SELECT * FROM pg_temp.ledger WHERE memo_number IN ('C', 'D');
SELECT * FROM verify();

-- an invoice of several accounts is voided for all of them
SELECT invoice_number FROM void_invoice('SI4', 'together now');
SELECT invoice_number FROM issue_invoice('SI6', 'ACME', '2019-01-01', '2019-02-09');
SELECT invoice_number FROM void_invoice('SI6', 'not quite');
SELECT * FROM pg_temp.billings WHERE folded_into IS NULL;
-- and its e-mail still says what was sent
\pset tuples_only on
\pset format unaligned
SELECT email_text('SI6');
\pset tuples_only off
\pset format aligned

-- a memo that has nothing left may be voided, too: what comes back later is written off
SELECT invoice_number FROM issue_invoice('SI7', 'ACME', '2019-01-01', '2019-02-10');
SELECT memo_number, balance, void_reason FROM void_memo('B', 'as a precaution', '000011111234');
SELECT memo_number, balance, status FROM memo_balance ORDER BY memo_number;
SELECT * FROM verify();
