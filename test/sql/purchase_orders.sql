-- A memo keeps the PO of its account at its insert; a billing gets the one when it is invoiced.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES
	('000011111234', '999999999999', 'ACME'), ('000011115678', '999999999999', 'ACME');

INSERT INTO po_assignment (account_id, assigned_at, po_number) VALUES
	('000011111234', '2018-01-01', 'PO-0'), ('000011111234', '2019-01-01', 'PO-1'),
	('000011111234', '2999-01-01', 'PO-of-the-future');
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000011111234', 'before', 10, '2019-01-15');
INSERT INTO po_assignment (account_id, po_number) VALUES ('000011111234', 'PO-2');
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000011111234', 'after', 10, '2019-01-15');
SELECT memo_number, po_number, po_number_now FROM memo_balance ORDER BY memo_id;
SELECT account_id, po_number FROM po_in_force;

-- the clock counts, not the start of the transaction
BEGIN;
SELECT pg_sleep(0.01) \g /dev/null
INSERT INTO po_assignment (account_id, assigned_at, po_number)
	VALUES ('000011111234', clock_timestamp(), 'PO-3');
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on)
	VALUES ('000011111234', 'in the same transaction', 10, '2019-01-15');
COMMIT;
SELECT memo_number, po_number FROM credit_memo ORDER BY memo_id;

INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', '000011111234', 'Amazon EC2', 5), ('2019-01-01', '000011115678', 'Amazon EC2', 5);
SELECT account_id, po_number FROM unbilled ORDER BY account_id;
SELECT invoice_number FROM issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05');
INSERT INTO po_assignment (account_id, po_number) VALUES ('000011111234', 'PO-4');
SELECT account_id, po_number FROM invoice_body ORDER BY account_id;
SELECT memo_number, po_number, po_number_now FROM memo_balance ORDER BY memo_id;

SELECT * FROM verify();
