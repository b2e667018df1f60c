-- Memos limited to services, and lines that no credit may pay.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT '00001111' || n, '999999999999', 'ACME' FROM generate_series(1000, 1003) n;
INSERT INTO po_assignment (account_id, po_number)
	SELECT account_id, 'PO' FROM member_account;

-- a limited memo pays its services only, dearest first; an unlimited one the rest
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, services) VALUES
	('000011111000', 'limited', 100, '2019-01-01', '{Amazon S3,Amazon EC2}'),
	('000011111000', 'unlimited', 100, '2019-01-01', NULL);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', '000011111000', 'Amazon S3', 30),
	('2019-01-01', '000011111000', 'Amazon RDS', 50),
	('2019-01-01', '000011111000', 'Amazon EC2', 40);
SELECT memo_number, entry_no, entry_type, amount, service, balance_after
FROM memo_statement
WHERE account_id = '000011111000'
ORDER BY memo_number, entry_no;
SELECT utilization, credit, due FROM unbilled WHERE account_id = '000011111000';

-- a refund of a service takes from it first what limited memos paid of it
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111000', 'Amazon EC2', -15);
-- and moving a charge to another service gives its limited credit back though the sum stays
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', '000011111000', 'Amazon S3', -30), ('2019-01-01', '000011111000', 'Amazon RDS', 30);
SELECT memo_number, entry_no, entry_type, amount, service, reverses, balance_after
FROM memo_statement
WHERE account_id = '000011111000' AND entry_no > 1
ORDER BY memo_number, entry_no;
SELECT utilization, credit, due FROM unbilled WHERE account_id = '000011111000';

-- lines that no credit may pay: tax stays due, with credit left
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111001', 500, '2019-01-01');
INSERT INTO utilization (service_period, account_id, service, amount, creditable) VALUES
	('2019-01-01', '000011111001', 'Amazon EC2', 100, true),
	('2019-01-01', '000011111001', 'Tax', 8.25, false);
SELECT utilization, credit, due, balance_after FROM unbilled WHERE account_id = '000011111001';
-- a refund of tax lowers what is due, a refund of the charge gives its credit back
INSERT INTO utilization (service_period, account_id, service, amount, creditable)
	VALUES ('2019-01-01', '000011111001', 'Tax', -0.25, false);
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111001', 'Amazon EC2', -10);
SELECT utilization, credit, due, balance_after FROM unbilled WHERE account_id = '000011111001';
SELECT invoice_number FROM issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05', '{000011111001}');
SELECT service, utilization, creditable, lines FROM invoice_line ORDER BY service;
\pset tuples_only on
\pset format unaligned
SELECT body_text FROM invoice_email;
\pset tuples_only off
\pset format aligned

-- a service may be limited, not creditable and refunded on different billings of the period
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, services)
	VALUES ('000011111002', 'limited', 100, '2019-01-01', '{Amazon EC2}');
INSERT INTO utilization (service_period, account_id, service, amount, creditable) VALUES
	('2019-01-01', '000011111002', 'Amazon EC2', 40, true),
	('2019-01-01', '000011111002', 'Amazon EC2', 99, false);
SELECT invoice_number FROM issue_invoice('SI2', 'ACME', '2019-01-01', '2019-02-05', '{000011111002}');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', '000011111002', 'Amazon EC2', -10), ('2019-01-01', '000011111002', 'Amazon S3', 10);
SELECT billing_no, utilization, creditable, credit, due FROM billing WHERE account_id = '000011111002' ORDER BY billing_no;
SELECT entry_no, entry_type, amount, service, reverses, balance_after
FROM memo_statement
WHERE account_id = '000011111002'
ORDER BY entry_no;

-- utilization first, memo second: the same
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', '000011111003', 'Amazon S3', 30), ('2019-01-01', '000011111003', 'Amazon RDS', 50);
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, services)
	VALUES ('000011111003', 'limited', 100, '2019-01-01', '{Amazon S3,Amazon EC2}');
SELECT utilization, credit, due FROM unbilled WHERE account_id = '000011111003';

SELECT * FROM verify();
