-- Rows recorded before are being restored: the insert triggers leave them as they are.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES ('000011111234', '999999999999', 'ACME');
INSERT INTO po_assignment (account_id, po_number) VALUES ('000011111234', 'PO');
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111234', 100, '2019-01-15');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon EC2', 10);

CREATE TEMP TABLE saved_memo AS SELECT to_jsonb(saved) AS row FROM credit_memo saved;
CREATE TEMP TABLE saved_line AS SELECT to_jsonb(saved) AS row FROM utilization saved;
CREATE TEMP TABLE saved_billing AS SELECT to_jsonb(saved) AS row FROM billing saved;
CREATE TEMP TABLE saved_entry AS SELECT to_jsonb(saved) AS row FROM memo_entry saved;
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;

-- as pg_restore does, table by table; the books are as they were, nothing is paid twice
INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES ('000011111234', '999999999999', 'ACME');
INSERT INTO po_assignment (account_id, po_number) VALUES ('000011111234', 'PO-of-today');
INSERT INTO utilization SELECT (jsonb_populate_record(NULL::utilization, row)).* FROM saved_line;
INSERT INTO credit_memo SELECT (jsonb_populate_record(NULL::credit_memo, row)).* FROM saved_memo;
INSERT INTO billing (account_id, service_period, billing_no, utilization, creditable, credit)
	SELECT b.account_id, b.service_period, b.billing_no, b.utilization, b.creditable, b.credit
	FROM saved_billing, jsonb_populate_record(NULL::billing, row) b;
INSERT INTO memo_entry SELECT (jsonb_populate_record(NULL::memo_entry, row)).* FROM saved_entry;
SELECT memo_number, amount, balance, po_number FROM credit_memo;
SELECT utilization, credit, due FROM unbilled;
SELECT entry_no, entry_type, amount, balance_after FROM memo_entry ORDER BY entry_no;
SELECT * FROM verify();

-- a statement may mix both: only the live lines count
BEGIN;
INSERT INTO utilization (service_period, account_id, service, amount, recorded_at) VALUES
	('2019-02-01', '000011111234', 'Amazon EC2', 5, now()),
	('2019-02-01', '000011111234', 'Amazon EC2', 7, '2019-03-01');
SELECT utilization, credit, due FROM unbilled WHERE service_period = '2019-02-01';
SELECT problem, account_id, detail FROM verify();
ROLLBACK;
SELECT * FROM verify();
