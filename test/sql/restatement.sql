-- Lines that are changed, moved and deleted after they were loaded.

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
INSERT INTO credit_memo (account_id, amount, redeemed_on, expires_on) VALUES
	('000011111234', 100, '2019-01-05', '2019-02-28'), ('000011111234', 50, '2019-01-05', NULL),
	('000011115678', 30, '2019-01-05', NULL);
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES
	('2019-01-01', '000011111234', 'Amazon EC2', 80, '01-a'), ('2019-01-01', '000011111234', 'Amazon S3', 40, '01-b'),
	('2019-01-01', '000011115678', 'Amazon EC2', 20, '01-a');

-- up and down: what is beyond the new sum goes back, newest application first
UPDATE utilization SET amount = 90 WHERE account_id = '000011111234' AND source_id = '01-a';
UPDATE utilization SET amount = 15 WHERE account_id = '000011111234' AND source_id = '01-a';
DELETE FROM utilization WHERE account_id = '000011111234' AND source_id = '01-b';
SELECT account_id, service_period, billing_no, utilization, credit, due FROM billing ORDER BY account_id;
SELECT memo_number, entry_no, entry_type, amount, balance_after, reverses FROM memo_statement
WHERE account_id = '000011111234'
ORDER BY memo_id, entry_no;
SELECT * FROM verify();

-- the month again: unchanged, changed and new lines in one statement; what is unchanged writes nothing
SELECT count(*) AS entries FROM memo_entry \gset
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES
	('2019-01-01', '000011111234', 'Amazon EC2', 15.00, '01-a'), ('2019-01-01', '000011115678', 'Amazon EC2', 20, '01-a')
	ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount;
SELECT count(*) - :entries AS new_entries FROM memo_entry;
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES
	('2019-01-01', '000011115678', 'Amazon EC2', 25, '01-a'), ('2019-01-01', '000011111234', 'Amazon EC2', 15, '01-a'),
	('2019-01-01', '000011111234', 'Amazon RDS', 110, '01-c')
	ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount;
SELECT memo_number, e.entry_no, e.entry_type, e.amount FROM memo_statement e ORDER BY recorded_at DESC, memo_id DESC LIMIT 3;
-- a line replaced by another of the same amount moves no credit
SELECT count(*) AS entries FROM memo_entry \gset
WITH replaced AS (DELETE FROM utilization WHERE source_id = '01-c' RETURNING *)
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	SELECT service_period, account_id, 'Amazon Aurora', amount, '01-d' FROM replaced;
UPDATE utilization SET description = 'db.r5.large' WHERE source_id = '01-d';
SELECT count(*) - :entries AS new_entries FROM memo_entry;
SELECT * FROM verify();

-- moved to another month and to another account, and back
UPDATE utilization SET service_period = '2019-03-01' WHERE source_id = '01-d';
SELECT account_id, service_period, utilization, credit FROM unbilled ORDER BY account_id, service_period;
UPDATE utilization SET account_id = '000011115678' WHERE source_id = '01-d';
SELECT account_id, service_period, utilization, credit FROM unbilled ORDER BY account_id, service_period;
-- a billing whose lines are gone stays, and is used again
SELECT account_id, service_period, billing_no, utilization, credit FROM billing ORDER BY account_id, service_period;
UPDATE utilization SET account_id = '000011111234', service_period = '2019-01-01' WHERE source_id = '01-d';
SELECT account_id, service_period, billing_no, utilization, credit FROM billing ORDER BY account_id, service_period;
SELECT * FROM verify();

-- invoiced: nothing of it changes, but the difference can be inserted, and restated again
SELECT invoice_number FROM issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05');
UPDATE utilization SET amount = 16 WHERE account_id = '000011111234' AND source_id = '01-a';
DELETE FROM utilization WHERE account_id = '000011111234';
UPDATE utilization SET amount = amount, service = service;
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES ('2019-01-01', '000011111234', 'Amazon EC2', -5, '01-e');
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES
	('2019-01-01', '000011111234', 'Amazon EC2', 15, '01-a'), ('2019-01-01', '000011111234', 'Amazon EC2', -25, '01-e')
	ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount;
SELECT account_id, source_id, billing_no, amount FROM utilization ORDER BY account_id, source_id;
SELECT account_id, billing_no, invoice_number, utilization, credit, due FROM billing
WHERE service_period = '2019-01-01'
ORDER BY account_id, billing_no;
-- lines may not be moved onto an invoice; they go on the supplementary billing
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES ('2019-04-01', '000011115678', 'Amazon S3', 3, '04-a');
UPDATE utilization SET service_period = '2019-01-01' WHERE source_id = '04-a';
SELECT source_id, billing_no FROM utilization WHERE source_id = '04-a';
SELECT * FROM verify();

-- a refund that was paid out again and then deleted: what it gave back is due, and can be invoiced
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES ('2019-04-01', '000011111234', 'Amazon S3', 500, '04-a');
DELETE FROM utilization WHERE source_id = '01-e';
SELECT account_id, service_period, billing_no, utilization, credit, due FROM unbilled WHERE account_id = '000011111234';
SELECT invoice_number FROM issue_invoice('SI2', 'ACME', '2019-01-01', '2019-02-06');
SELECT invoice_number, account_id, utilization, credit_applied, due, prior_balance, balance_of_funds FROM invoice_body ORDER BY invoice_number, account_id;
SELECT * FROM verify();

-- columns that users add are theirs, on invoices, too
ALTER TABLE utilization ADD COLUMN cost_center text;
UPDATE utilization SET cost_center = 'genomics';
ALTER TABLE utilization DROP COLUMN cost_center;

-- several statements in WITH, on the same account, are settled together
SELECT count(*) AS entries FROM memo_entry \gset
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES ('2019-05-01', '000011115678', 'Amazon S3', 2, '05-a'),
	('2019-05-01', '000011115678', 'Amazon EC2', 2, '05-b');
WITH deleted AS (DELETE FROM utilization WHERE source_id = '05-a'),
	changed AS (UPDATE utilization SET amount = 5 WHERE source_id = '05-b'),
	inserted AS (INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-05-01', '000011115678', 'Amazon S3', -1))
SELECT 1;
SELECT service_period, utilization, credit FROM unbilled WHERE account_id = '000011115678' AND service_period = '2019-05-01';
SELECT count(*) - :entries AS new_entries FROM memo_entry;

-- a statement within another, by a trigger of a user or a function, is settled by itself
CREATE FUNCTION pg_temp.book_tax() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.service <> 'Tax' THEN
		INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, creditable, source_id)
		VALUES (new.service_period, new.account_id, 'Tax', round(new.amount * 0.1, 2), false, new.source_id || '-tax')
		ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount;
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER book_tax AFTER INSERT OR UPDATE ON utilization FOR EACH ROW EXECUTE FUNCTION pg_temp.book_tax();
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES ('2019-06-01', '000011115678', 'Amazon S3', 10, '06-a')
	ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount;
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES ('2019-06-01', '000011115678', 'Amazon S3', 20, '06-a'),
	('2019-06-01', '000011115678', 'Amazon EC2', 30, '06-b')
	ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount;
DROP TRIGGER book_tax ON utilization;
SELECT source_id, service, amount FROM utilization WHERE service_period = '2019-06-01' ORDER BY source_id;
SELECT utilization, credit, due FROM unbilled WHERE service_period = '2019-06-01';
CREATE FUNCTION pg_temp.restate(source_id text, amount numeric) RETURNS numeric LANGUAGE sql AS $$
	UPDATE creditmemo.utilization u SET amount = $2 WHERE u.source_id = $1
	RETURNING (SELECT b.due FROM creditmemo.billing b WHERE b.service_period = u.service_period AND b.account_id = u.account_id) $$;
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	SELECT '2019-07-01', '000011115678', 'Amazon S3', pg_temp.restate('06-a', 21) + 1, '07-a';
SELECT service_period, utilization, credit FROM unbilled WHERE account_id = '000011115678' AND service_period > '2019-05-01' ORDER BY service_period;
-- a statement that failed is forgotten, one that had no lines does nothing
DO $$
BEGIN
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id) VALUES ('2019-07-01', '000011115678', 'Amazon S3', 1.001, '07-b')
		ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount;
EXCEPTION WHEN check_violation THEN
	UPDATE creditmemo.utilization SET amount = 23 WHERE source_id = '07-a';
END
$$;
BEGIN;
SAVEPOINT loaded;
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES ('2019-07-01', '404', 'Amazon S3', 1, '07-b')
	ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount;
ROLLBACK TO loaded;
UPDATE utilization SET amount = 24 WHERE source_id = '07-a';
UPDATE utilization SET amount = 25 WHERE source_id = 'none';
DELETE FROM utilization WHERE source_id = 'none';
COMMIT;
SELECT utilization, credit FROM unbilled WHERE account_id = '000011115678' AND service_period = '2019-07-01';

SELECT * FROM verify();
