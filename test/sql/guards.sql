-- What users add to the tables, and statements that do several things, do not lead the books astray.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT '00001111' || n, '999999999999', 'ACME' FROM generate_series(1000, 1006) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;

-- a memo pays nothing before it is in the ledger, whichever trigger comes first
WITH memo AS (
	INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111000', 100, '2019-01-05')
)
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111000', 'Amazon EC2', 50);
SELECT balance FROM credit_memo WHERE account_id = '000011111000';
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-03-01', '000011111000', 'Amazon EC2', 75);
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on) VALUES
	('000011111000', 'CM1', 100, '2019-01-05', '2019-02-28'), ('000011111000', 'CM2', 200, '2019-01-05', NULL)
	ON CONFLICT (memo_number, account_id) DO UPDATE SET expires_on = excluded.expires_on;
SELECT memo_number, balance FROM credit_memo WHERE account_id = '000011111000' ORDER BY memo_id;

-- an index that others add, in another order, is not taken for ours
CREATE INDEX po_assignment_newest_first ON po_assignment (account_id, assigned_at DESC);
REINDEX INDEX CONCURRENTLY po_assignment_pkey;
INSERT INTO po_assignment (account_id, assigned_at, po_number) VALUES ('000011111001', '2001-01-01', 'old PO');
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111001', 1, '2019-01-05');
SELECT po_number FROM credit_memo WHERE account_id = '000011111001';
DROP INDEX po_assignment_newest_first;
-- nor one that compares in another way
CREATE INDEX po_assignment_posix ON po_assignment (account_id COLLATE "POSIX", assigned_at);
ALTER TABLE po_assignment DROP CONSTRAINT po_assignment_pkey;
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111001', 1, '2019-01-05');
ALTER TABLE po_assignment ADD PRIMARY KEY (account_id, assigned_at);
DROP INDEX po_assignment_posix;

-- sums by service are exact beyond 64 bits, too
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT date '2019-01-01', '000011111002', service, amount
	FROM generate_series(1, 93), (VALUES ('Amazon EC2', 999999999999999.00), ('Amazon S3', -999999999999999.00)) line (service, amount)
	UNION ALL
	VALUES (date '2019-01-01', '000011111002', 'Amazon RDS', 7);
INSERT INTO credit_memo (account_id, amount, redeemed_on, services) VALUES ('000011111002', 5, '2019-01-05', '{Amazon EC2}');
SELECT utilization, credit FROM unbilled WHERE account_id = '000011111002';
-- and a refund takes back what was paid, no more
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111002', 'Amazon RDS', -4);
SELECT utilization, credit FROM unbilled WHERE account_id = '000011111002';
SELECT entry_type, amount, balance_after FROM memo_statement WHERE account_id = '000011111002' ORDER BY entry_no;
-- what counts is what the sums come to, not how far a statement moves them
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000011111002', 'Amazon S3', -900000000000000);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-02-01', '000011111002', 'Amazon S3', 900000000000000), ('2019-02-01', '000011111002', 'Amazon S3', 900000000000000);
SELECT utilization FROM unbilled WHERE account_id = '000011111002' AND service_period = '2019-02-01';

-- lines that go with what a user's table holds
CREATE TABLE public.bill (bill_id integer PRIMARY KEY);
ALTER TABLE utilization ADD COLUMN bill_id integer REFERENCES public.bill ON DELETE CASCADE;
INSERT INTO public.bill VALUES (1), (2), (3);
INSERT INTO utilization (service_period, account_id, service, amount, bill_id)
	SELECT '2019-01-01', '000011111003', 'Amazon EC2', 10, n FROM generate_series(1, 3) n;
BEGIN;
DELETE FROM public.bill WHERE bill_id = 1;
DELETE FROM public.bill WHERE bill_id = 2;
COMMIT;
SELECT utilization FROM unbilled WHERE account_id = '000011111003';
ALTER TABLE utilization DROP COLUMN bill_id;
DROP TABLE public.bill;

-- what is never settled is never committed
ALTER TABLE utilization DISABLE TRIGGER utilization_apply;
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111003', 'Amazon EC2', 1);
ALTER TABLE utilization ENABLE TRIGGER utilization_apply;
ALTER TABLE credit_memo DISABLE TRIGGER credit_memo_issue;
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111003', 1, '2019-01-05');
ALTER TABLE credit_memo ENABLE TRIGGER credit_memo_issue;
ALTER TABLE credit_memo DISABLE TRIGGER credit_memo_resettle;
UPDATE credit_memo SET expires_on = '2019-01-31' WHERE account_id = '000011111000';
ALTER TABLE credit_memo ENABLE TRIGGER credit_memo_resettle;
-- nor read before it is
\set SHOW_CONTEXT never
CREATE FUNCTION public.void_meanwhile() RETURNS numeric LANGUAGE sql AS $$
	SELECT 1.0 FROM creditmemo.void_invoice('SI0', 'wrong');
$$;
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-10-01', '000011111003', 'Amazon EC2', 10);
SELECT invoice_number FROM issue_invoice('SI0', 'ACME', '2019-10-01', '2019-11-05');
INSERT INTO utilization (service_period, account_id, service, amount) SELECT '2019-10-01', '000011111003', 'Amazon EC2', public.void_meanwhile();
UPDATE utilization SET service = 'Amazon S3', amount = 9 + public.void_meanwhile() WHERE service_period = '2019-10-01';
DELETE FROM utilization WHERE service_period = '2019-10-01' AND amount > public.void_meanwhile();
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-10-01', '000011111003', 'Amazon EC2', 1)
	RETURNING issue_invoice('SI00', 'ACME', '2019-10-01', '2019-11-05');
SELECT account_id, service, utilization FROM invoice_line WHERE invoice_number = 'SI0';
SELECT invoice_number FROM void_invoice('SI0', 'wrong');
DELETE FROM utilization WHERE service_period = '2019-10-01';
DROP FUNCTION public.void_meanwhile();
\set SHOW_CONTEXT errors
ALTER TABLE utilization DISABLE TRIGGER utilization_await;
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111003', 'Amazon EC2', 1);
ALTER TABLE utilization ENABLE TRIGGER utilization_await;
SELECT utilization FROM unbilled WHERE account_id = '000011111003';

-- any number is a memo's id
INSERT INTO credit_memo (account_id, memo_id, amount, redeemed_on) VALUES ('000011111003', 0, 5, '2019-01-05'), ('000011111003', -1, 5, '2019-01-05');
SELECT memo_number, balance FROM void_memo('CM0', 'wrong');
SELECT memo_number, balance, status FROM memo_balance WHERE account_id = '000011111003' ORDER BY memo_id;

-- row triggers of users see what is written to billings, memos and the ledger
CREATE TABLE public.audit (entry text);
CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.audit VALUES (concat_ws(' ', TG_OP, TG_TABLE_NAME));
	RETURN NULL;
END
$$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON billing FOR EACH ROW EXECUTE FUNCTION public.audit();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON credit_memo FOR EACH ROW EXECUTE FUNCTION public.audit();
CREATE TRIGGER audit AFTER INSERT ON memo_entry FOR EACH ROW EXECUTE FUNCTION public.audit();
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111004', 100, '2019-01-05');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111004', 'Amazon EC2', 10);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111004', 'Amazon EC2', -3);
SELECT entry, count(*) FROM public.audit GROUP BY entry ORDER BY entry;
DROP TRIGGER audit ON billing;
DROP TRIGGER audit ON credit_memo;
DROP TRIGGER audit ON memo_entry;

-- and cannot keep it from being written
CREATE FUNCTION public.suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER suppress BEFORE INSERT ON memo_entry FOR EACH ROW EXECUTE FUNCTION public.suppress();
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111004', 'Amazon EC2', 1);
DROP TRIGGER suppress ON memo_entry;
CREATE TRIGGER suppress BEFORE UPDATE ON billing FOR EACH ROW EXECUTE FUNCTION public.suppress();
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111004', 'Amazon EC2', 1);
DROP TRIGGER suppress ON billing;
DROP FUNCTION public.suppress();
DROP FUNCTION public.audit();
DROP TABLE public.audit;

-- columns of users are theirs
ALTER TABLE credit_memo ADD COLUMN project json;
UPDATE credit_memo SET project = '{"genome": 1}' WHERE account_id = '000011111004';
UPDATE credit_memo SET project = '{"genome": 2}', note = 'changed' WHERE account_id = '000011111004';
SELECT project, note FROM credit_memo WHERE account_id = '000011111004';
UPDATE credit_memo SET credit_type = 'DEFW' WHERE account_id = '000011111004';
UPDATE credit_memo SET last_period = '2019-12-01' WHERE account_id = '000011111004';
ALTER TABLE credit_memo DROP COLUMN project;

-- nothing is invoiced in a transaction that only reads
BEGIN READ ONLY;
SELECT issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05');
ROLLBACK;

-- a month that is paid from what another month's refund gives back, invoiced before that
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111006', 100, '2019-01-05');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-06-01', '000011111006', 'Amazon EC2', 100);
SELECT invoice_number FROM issue_invoice('SI11', 'ACME', '2019-06-01', '2019-07-05');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-07-01', '000011111006', 'Amazon EC2', 100);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-06-01', '000011111006', 'Amazon EC2', -100);
SELECT invoice_number FROM issue_invoice('SI12', 'ACME', '2019-07-01', '2019-08-05');
SELECT invoice_number FROM issue_invoice('SI13', 'ACME', '2019-06-01', '2019-08-05');
SELECT invoice_number, prior_balance, credit_applied, balance_of_funds FROM invoice_body
WHERE account_id = '000011111006'
ORDER BY invoice_number;

-- an invoice on which one account was paid and another gave back as much
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111005', 30, '2019-01-05'), ('000011111006', 30, '2019-01-05');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-04-01', '000011111005', 'Amazon EC2', 10);
SELECT invoice_number FROM issue_invoice('SI2', 'ACME', '2019-04-01', '2019-05-05');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-04-01', '000011111005', 'Amazon EC2', -10), ('2019-04-01', '000011111006', 'Amazon EC2', 10);
SELECT invoice_number FROM issue_invoice('SI3', 'ACME', '2019-04-01', '2019-05-06');
-- and a refund that credit had no part in
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-05-01', '000011111006', 'Amazon EC2', -7);
SELECT invoice_number FROM issue_invoice('SI4', 'ACME', '2019-05-01', '2019-06-05');
\pset tuples_only on
\pset format unaligned
SELECT body_text FROM invoice_email WHERE invoice_number IN ('SI12', 'SI3', 'SI4') ORDER BY invoice_number;
\pset tuples_only off
\pset format aligned

SELECT * FROM verify();
