-- Negative lines: they lower what is due before they give credit back, before the invoice and after.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT '00001111' || n, '999999999999', 'ACME' FROM generate_series(1000, 1006) n;
INSERT INTO po_assignment (account_id, po_number)
	SELECT account_id, 'PO' FROM member_account;
CREATE VIEW public.books AS
	SELECT account_id, service_period, billing_no, invoice_number, utilization, credit, due
	FROM billing
	ORDER BY account_id, service_period, billing_no;

-- before the invoice: first what is due, then the newest application
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES
	('000011111000', 'first', 60, '2019-01-01'), ('000011111000', 'second', 30, '2019-01-02');
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111000', 'Amazon EC2', 100);
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111000', 'Amazon EC2', -4);
SELECT utilization, credit, due FROM public.books WHERE account_id = '000011111000';
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111000', 'Amazon EC2', -50);
SELECT utilization, credit, due FROM public.books WHERE account_id = '000011111000';
SELECT memo_number, entry_no, entry_type, amount, balance_after, reverses
FROM memo_statement
WHERE account_id = '000011111000'
ORDER BY memo_number, entry_no;
-- below zero nothing is held; and a charge takes the credit again, the first memo's first
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111000', 'Amazon EC2', -56);
SELECT utilization, credit, due FROM public.books WHERE account_id = '000011111000';
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111000', 'Amazon EC2', 25);
SELECT utilization, credit, due FROM public.books WHERE account_id = '000011111000';
SELECT memo_number, balance FROM credit_memo WHERE account_id = '000011111000' ORDER BY memo_id;

-- one statement that charges and refunds is one sum
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-02-01', '000011111000', 'Amazon EC2', 25), ('2019-02-01', '000011111000', 'Amazon EC2', -5.50);
SELECT utilization, credit, due FROM public.books WHERE account_id = '000011111000' AND service_period = '2019-02-01';

-- after the invoice: credit goes back to the memo it came from, on a supplementary billing
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000011111001', 'M', 1000, '2019-01-01');
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111001', 'Amazon EC2', 100);
SELECT invoice_number FROM issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05', '{000011111001}');
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111001', 'Amazon EC2', -30);
SELECT billing_no, invoice_number, utilization, credit, due FROM public.books WHERE account_id = '000011111001';
SELECT entry_no, entry_type, amount, balance_after, billing_no, invoice_number, reverses
FROM memo_statement
WHERE account_id = '000011111001'
ORDER BY entry_no;
SELECT billing_no FROM utilization WHERE account_id = '000011111001' ORDER BY utilization_id;
SELECT billing_no, utilization, credit, due, prior_balance, balance_after FROM unbilled WHERE account_id = '000011111001';
SELECT invoice_number FROM issue_invoice('SI2', 'ACME', '2019-01-01', '2019-03-05', '{000011111001}');
\pset tuples_only on
\pset format unaligned
SELECT body_text FROM invoice_email WHERE invoice_number = 'SI2';
\pset tuples_only off
\pset format aligned
-- a third billing, charged this time: paid again; and refunded before its own invoice
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111001', 'Amazon EC2', 12);
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111001', 'Amazon EC2', -20);
SELECT billing_no, invoice_number, utilization, credit, due FROM public.books WHERE account_id = '000011111001';
SELECT entry_no, entry_type, amount, balance_after, billing_no, invoice_number, reverses
FROM memo_statement
WHERE account_id = '000011111001'
ORDER BY entry_no;
SELECT balance FROM credit_memo WHERE account_id = '000011111001';

-- after an invoice that credit paid in part: what was due comes back first
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000011111002', 'M', 60, '2019-01-01');
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111002', 'Amazon EC2', 100);
SELECT invoice_number FROM issue_invoice('SI3', 'ACME', '2019-01-01', '2019-02-05', '{000011111002}');
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111002', 'Amazon EC2', -30);
SELECT billing_no, invoice_number, utilization, credit, due FROM public.books WHERE account_id = '000011111002';
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111002', 'Amazon EC2', -15);
SELECT billing_no, invoice_number, utilization, credit, due FROM public.books WHERE account_id = '000011111002';
SELECT invoice_number FROM issue_invoice('SI4', 'ACME', '2019-01-01', '2019-02-05', '{000011111002}');
\pset tuples_only on
\pset format unaligned
SELECT body_text FROM invoice_email WHERE invoice_number = 'SI4';
\pset tuples_only off
\pset format aligned

-- credit that a refund frees pays the account's other open billings, oldest first
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000011111003', 'M', 100, '2019-01-01');
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111003', 'Amazon EC2', 100);
SELECT invoice_number FROM issue_invoice('SI5', 'ACME', '2019-01-01', '2019-02-05', '{000011111003}');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-03-01', '000011111003', 'Amazon EC2', 50), ('2019-02-01', '000011111003', 'Amazon EC2', 20);
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111003', 'Amazon EC2', -45);
SELECT service_period, billing_no, invoice_number, utilization, credit, due FROM public.books WHERE account_id = '000011111003';
SELECT entry_no, entry_type, amount, balance_after, service_period, billing_no, reverses
FROM memo_statement
WHERE account_id = '000011111003'
ORDER BY entry_no;

-- newest application first, over several statements, memos and invoices
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES
	('000011111004', 'A', 10, '2019-01-01'), ('000011111004', 'B', 10, '2019-01-02'), ('000011111004', 'C', 10, '2019-01-03');
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111004', 'Amazon EC2', 8);
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111004', 'Amazon EC2', 8);
SELECT invoice_number FROM issue_invoice('SI6', 'ACME', '2019-01-01', '2019-02-05', '{000011111004}');
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111004', 'Amazon EC2', 8);
SELECT invoice_number FROM issue_invoice('SI7', 'ACME', '2019-01-01', '2019-02-05', '{000011111004}');
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111004', 'Amazon EC2', -19);
SELECT memo_number, entry_no, entry_type, amount, balance_after, billing_no, invoice_number, reverses
FROM memo_statement
WHERE account_id = '000011111004'
ORDER BY recorded_at, entry_type, memo_number, entry_no;

-- a refund of an account without credit, and a billing of zero
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111005', 'Amazon EC2', -7), ('2019-01-01', '000011111006', 'Amazon EC2', 0);
SELECT account_id, utilization, credit, due FROM unbilled WHERE account_id IN ('000011111005', '000011111006') ORDER BY account_id;
SELECT invoice_number FROM issue_invoice('SI8', 'ACME', '2019-01-01', '2019-02-05', '{000011111005}');
SELECT invoice_number FROM issue_invoice('SI9', 'ACME', '2019-01-01', '2019-02-05', '{000011111006}');
\pset tuples_only on
\pset format unaligned
SELECT body_text FROM invoice_email WHERE invoice_number IN ('SI8', 'SI9') ORDER BY invoice_number;
\pset tuples_only off
\pset format aligned

DROP VIEW public.books;
SELECT * FROM verify();
