-- verify() finds whatever is wrong in the rows: each rule broken by hand, one at a time.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET timezone = 'UTC';
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name, currency) VALUES ('ACME', 'Acme', 'USD'), ('EURO', 'Euro', 'EUR');
INSERT INTO payer_account VALUES ('999999999998'), ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT '00001111' || n, CASE n WHEN 1001 THEN '999999999998' ELSE '999999999999' END, 'ACME'
	FROM generate_series(1000, 1006) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;

-- 1000: a limited and an unlimited memo, an invoice, a refund on a second one, an open month
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, services) VALUES
	('000011111000', 'ANY', 100, '2019-01-05', NULL), ('000011111000', 'S3', 50, '2019-01-05', '{Amazon S3}');
INSERT INTO utilization (service_period, account_id, service, amount, creditable, source_id) VALUES
	('2019-01-01', '000011111000', 'Amazon EC2', 60, true, 'a'), ('2019-01-01', '000011111000', 'Amazon S3', 30, true, 'b'),
	('2019-01-01', '000011111000', 'Tax', 5, false, 'c');
SELECT invoice_number FROM issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05', '{000011111000}');
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES
	('2019-01-01', '000011111000', 'Amazon EC2', -10, 'd'), ('2019-01-01', '000011111000', 'Amazon S3', -5, 'e');
SELECT invoice_number FROM issue_invoice('SI2', 'ACME', '2019-01-01', '2019-02-06', '{000011111000}');
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	VALUES ('2019-02-01', '000011111000', 'Amazon EC2', 20, 'f');
-- 1001: a memo that expired with its last period
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on)
	VALUES ('000011111001', 'ENDED', 70, '2019-01-05', '2019-01-31');
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111001', 'Amazon EC2', 30);
SELECT invoice_number FROM issue_invoice('SI3', 'ACME', '2019-01-01', '2019-02-05', '{000011111001}');
SELECT close_period('2019-01-01', '999999999998');
-- 1002: an invoice voided, a supplementary billing folded, another invoice
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000011111002', 'TWICE', 50, '2019-01-05');
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	VALUES ('2019-01-01', '000011111002', 'Amazon EC2', 20, 'a');
SELECT invoice_number FROM issue_invoice('SI4', 'ACME', '2019-01-01', '2019-02-05', '{000011111002}');
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	VALUES ('2019-01-01', '000011111002', 'Amazon EC2', 5, 'b');
SELECT invoice_number FROM void_invoice('SI4', 'a line was missing');
SELECT invoice_number FROM issue_invoice('SI5', 'ACME', '2019-01-01', '2019-02-06', '{000011111002}');
-- 1003: a void memo, and an open month with a service that is paid and one that is not
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, services) VALUES
	('000011111003', 'VOID', 10, '2019-01-05', NULL), ('000011111003', 'OPEN', 40, '2019-01-05', '{Amazon S3}');
SELECT memo_number FROM void_memo('VOID', 'entered twice');
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES
	('2019-01-01', '000011111003', 'Amazon EC2', 15, 'a'), ('2019-01-01', '000011111003', 'Amazon S3', 8, 'b');
-- 1004: no credit; 1005: an invoice that credit pays; 1006: a memo, nothing else
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES
	('000011111005', 'PAID', 100, '2019-01-05'), ('000011111006', 'ALONE', 5, '2019-01-05');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', '000011111004', 'Amazon EC2', 7), ('2019-01-01', '000011111005', 'Amazon EC2', 10);
SELECT invoice_number FROM issue_invoice('SI6', 'ACME', '2019-01-01', '2019-02-05', '{000011111004}');
SELECT invoice_number FROM issue_invoice('SI7', 'ACME', '2019-01-01', '2019-02-05', '{000011111005}');
SELECT * FROM verify();

-- What verify() says after the statements, which no trigger and no foreign key sees; they are undone.
CREATE TEMP TABLE seen (problem text);
CREATE FUNCTION pg_temp.broken(statements text) RETURNS TABLE (problem text, account_id text, detail text)
LANGUAGE plpgsql AS $$
DECLARE
	found text[];
BEGIN
	BEGIN
		PERFORM set_config('session_replication_role', 'replica', true);
		EXECUTE statements;
		SELECT array_agg(ARRAY[v.problem, v.account_id, v.detail]
						 ORDER BY v.problem COLLATE "C", v.account_id, v.detail COLLATE "C")
		INTO found
		FROM verify() v;
		RAISE SQLSTATE 'UNDO0';
	EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
		NULL;
	END;
	FOR i IN 1 .. coalesce(array_length(found, 1), 0) LOOP
		INSERT INTO pg_temp.seen VALUES (found[i][1]);
		RETURN QUERY VALUES (found[i][1], found[i][2], found[i][3]);
	END LOOP;
END
$$;
\pset tuples_only on
\pset format unaligned

-- memos
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET balance = balance - 1 WHERE memo_number = 'ANY'$$);
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET entries = entries + 1 WHERE memo_number = 'ANY'$$);
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET amount = amount + 1 WHERE memo_number = 'ANY'$$);
SELECT * FROM pg_temp.broken($$ALTER TABLE credit_memo DROP CONSTRAINT credit_memo_balance_check;
	UPDATE credit_memo SET balance = 6 WHERE memo_number = 'ALONE'$$);
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET po_number = '' WHERE memo_number = 'ALONE'$$);
SELECT * FROM pg_temp.broken($$DELETE FROM member_account WHERE account_id IN ('000011111004', '000011111006')$$);
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET amount = 999999999999999.99 WHERE account_id = '000011111000'$$);
-- void
SELECT * FROM pg_temp.broken($$ALTER TABLE credit_memo DROP CONSTRAINT credit_memo_void_check;
	UPDATE credit_memo SET voided_at = now(), void_reason = 'a mistake' WHERE memo_number IN ('ANY', 'ALONE')$$);
SELECT * FROM pg_temp.broken($$ALTER TABLE credit_memo DROP CONSTRAINT credit_memo_void_check;
	UPDATE credit_memo SET void_reason = '' WHERE memo_number = 'VOID'$$);
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET voided_at = NULL, void_reason = NULL WHERE memo_number = 'VOID'$$);
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET voided_at = '2019-02-05' WHERE memo_number = 'VOID';
	UPDATE memo_entry SET entry_type = 'expire', recorded_at = timestamptz '2019-02-04' + make_interval(days => entry_no)
	WHERE account_id = '000011111003' AND entry_type = 'void';
	UPDATE memo_entry SET recorded_at = '2019-02-04' WHERE account_id = '000011111003' AND entry_type = 'issue'$$);
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET voided_at = '2019-02-06' WHERE memo_number = 'VOID';
	UPDATE memo_entry SET recorded_at = '2019-02-05' WHERE account_id = '000011111003'$$);
SELECT * FROM pg_temp.broken($$UPDATE memo_entry SET amount = -9, balance_after = 1 WHERE entry_type = 'void'$$);
-- expiry
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET expires_on = '2019-01-31', last_period = '2019-01-01' WHERE memo_number = 'ALONE';
	UPDATE member_account SET closed_through = '2019-02-01' WHERE account_id = '000011111006'$$);
SELECT * FROM pg_temp.broken($$UPDATE member_account SET closed_through = NULL$$);
SELECT * FROM pg_temp.broken($$INSERT INTO memo_entry (account_id, memo_id, entry_no, entry_type, amount, balance_after)
	SELECT account_id, memo_id, 4, 'restore', 41, 41 FROM credit_memo WHERE memo_number = 'ENDED'$$);
-- entries
SELECT * FROM pg_temp.broken($$DELETE FROM credit_memo WHERE memo_number = 'ALONE'$$);
SELECT * FROM pg_temp.broken($$UPDATE memo_entry SET entry_no = 4 WHERE account_id = '000011111001' AND entry_no = 3$$);
SELECT * FROM pg_temp.broken($$UPDATE memo_entry SET balance_after = balance_after - 1 WHERE account_id = '000011111001' AND entry_no = 2$$);
SELECT * FROM pg_temp.broken($$UPDATE memo_entry SET recorded_at = timestamptz '2019-02-05' - make_interval(hours => entry_no)
	WHERE account_id = '000011111002'$$);
SELECT * FROM pg_temp.broken($$DELETE FROM memo_entry WHERE account_id = '000011111006'$$);
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET services = '{Amazon EC2}' WHERE memo_number = 'OPEN'$$);
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET services = '{Amazon EC2}' WHERE memo_number = 'PAID'$$);
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET redeemed_on = '2019-02-05', first_period = '2019-02-01' WHERE memo_number = 'PAID'$$);
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET expires_on = '2019-01-31', last_period = '2019-01-01' WHERE memo_number = 'ANY'$$);
-- releases
SELECT * FROM pg_temp.broken($$UPDATE memo_entry SET reverses = 1 WHERE entry_type = 'release' AND service IS NULL$$);
SELECT * FROM pg_temp.broken($$UPDATE memo_entry SET amount = amount + 60, balance_after = balance_after + 60
	WHERE entry_type = 'release' AND service IS NULL$$);
SELECT * FROM pg_temp.broken($$UPDATE memo_entry SET service_period = '2019-02-01', billing_no = 1 WHERE entry_type = 'release' AND service IS NULL$$);
SELECT * FROM pg_temp.broken($$UPDATE memo_entry SET service = 'Amazon EC2' WHERE entry_type = 'release' AND service = 'Amazon S3'$$);
SELECT * FROM pg_temp.broken($$UPDATE memo_entry SET billing_no = CASE service_period WHEN '2019-01-01' THEN 3 - billing_no ELSE billing_no END,
	recorded_at = '2019-02-01' WHERE account_id = '000011111000'$$);
-- billings
SELECT * FROM pg_temp.broken($$UPDATE utilization SET amount = amount + 1 WHERE source_id = 'f'$$);
SELECT * FROM pg_temp.broken($$UPDATE utilization SET creditable = false WHERE source_id = 'f'$$);
SELECT * FROM pg_temp.broken($$UPDATE billing SET credit = 19 WHERE service_period = '2019-02-01'$$);
SELECT * FROM pg_temp.broken($$DELETE FROM billing WHERE service_period = '2019-02-01'$$);
SELECT * FROM pg_temp.broken($$ALTER TABLE billing DROP CONSTRAINT billing_credit_check;
	UPDATE billing SET credit = 21 WHERE service_period = '2019-02-01'$$);
SELECT * FROM pg_temp.broken($$UPDATE billing SET creditable = creditable - 1 WHERE account_id = '000011111000' AND billing_no = 2$$);
SELECT * FROM pg_temp.broken($$UPDATE utilization SET billing_no = 2 WHERE service_period = '2019-02-01';
	UPDATE memo_entry SET billing_no = 2 WHERE service_period = '2019-02-01';
	UPDATE billing SET billing_no = 2 WHERE service_period = '2019-02-01'$$);
SELECT * FROM pg_temp.broken($$UPDATE billing SET invoice_number = NULL, po_number = NULL, payer_account_id = NULL, prior_balance = NULL, balance_after = NULL
	WHERE invoice_number = 'SI1'$$);
SELECT * FROM pg_temp.broken($$UPDATE utilization SET billing_no = 2 WHERE account_id = '000011111002' AND source_id = 'b'$$);
SELECT * FROM pg_temp.broken($$INSERT INTO billing (account_id, service_period, billing_no, utilization, creditable, credit, folded_into)
	VALUES ('000011111002', '2019-01-01', 3, 0, 0, 0, 2)$$);
SELECT * FROM pg_temp.broken($$UPDATE member_account SET closed_through = '2019-02-01' WHERE account_id = '000011111000'$$);
-- services
SELECT * FROM pg_temp.broken($$UPDATE utilization SET service = 'Amazon EC2' WHERE account_id = '000011111003'$$);
-- idle credit
SELECT * FROM pg_temp.broken($$UPDATE memo_entry SET service = NULL WHERE account_id = '000011111003';
	UPDATE credit_memo SET services = NULL WHERE memo_number = 'OPEN'$$);
SELECT * FROM pg_temp.broken($$UPDATE credit_memo SET services = '{Amazon S3,Amazon EC2,Amazon RDS}' WHERE memo_number = 'OPEN'$$);
-- invoices
SELECT * FROM pg_temp.broken($$DELETE FROM utilization WHERE account_id = '000011111004';
	UPDATE billing SET utilization = 0, creditable = 0 WHERE account_id = '000011111004'$$);
SELECT * FROM pg_temp.broken($$DELETE FROM invoice WHERE invoice_number = 'SI6'$$);
SELECT * FROM pg_temp.broken($$UPDATE invoice SET service_period = '2019-02-01' WHERE invoice_number = 'SI6'$$);
SELECT * FROM pg_temp.broken($$UPDATE invoice SET voided_at = recorded_at, void_reason = 'a mistake' WHERE invoice_number = 'SI6'$$);
SELECT * FROM pg_temp.broken($$UPDATE invoice SET customer_id = 'EURO' WHERE invoice_number = 'SI6'$$);
SELECT * FROM pg_temp.broken($$UPDATE invoice SET recorded_at = '2019-02-05' WHERE invoice_number = 'SI6';
	UPDATE utilization SET recorded_at = '2019-02-06' WHERE account_id = '000011111004'$$);
SELECT * FROM pg_temp.broken($$UPDATE invoice SET recorded_at = '2019-02-05' WHERE invoice_number = 'SI7';
	UPDATE utilization SET recorded_at = '2019-02-04' WHERE account_id = '000011111005';
	UPDATE memo_entry SET recorded_at = timestamptz '2019-02-02' + make_interval(days => 2 * entry_no) WHERE account_id = '000011111005'$$);
SELECT * FROM pg_temp.broken($$ALTER TABLE billing DROP CONSTRAINT billing_balance_check;
	UPDATE billing SET prior_balance = prior_balance + 1 WHERE invoice_number = 'SI2'$$);
SELECT * FROM pg_temp.broken($$UPDATE billing SET prior_balance = prior_balance + 1, balance_after = balance_after + 1 WHERE invoice_number = 'SI2'$$);
SELECT * FROM pg_temp.broken($$DELETE FROM billing WHERE account_id = '000011111004'$$);
SELECT * FROM pg_temp.broken($$UPDATE billing SET invoice_number = NULL, po_number = NULL, payer_account_id = NULL, prior_balance = NULL, balance_after = NULL WHERE invoice_number = 'SI6'$$);
-- voided invoices
SELECT * FROM pg_temp.broken($$UPDATE utilization SET recorded_at = '2019-02-01' WHERE account_id = '000011111002';
	UPDATE memo_entry SET recorded_at = '2019-02-01' WHERE account_id = '000011111002';
	UPDATE invoice SET recorded_at = '2019-02-05', voided_at = NULL, void_reason = NULL WHERE invoice_number = 'SI4';
	UPDATE invoice SET recorded_at = '2019-02-06' WHERE invoice_number = 'SI5'$$);
SELECT * FROM pg_temp.broken($$ALTER TABLE invoice DROP CONSTRAINT invoice_void_check;
	UPDATE invoice SET void_reason = ' ' WHERE invoice_number = 'SI4'$$);
SELECT * FROM pg_temp.broken($$ALTER TABLE billing ALTER due DROP EXPRESSION;
	UPDATE billing SET due = due - 1 WHERE account_id = '000011111004'$$);
SELECT * FROM pg_temp.broken($$DELETE FROM voided_billing$$);
SELECT * FROM pg_temp.broken($$UPDATE voided_line SET creditable = creditable - 1, utilization = utilization - 1$$);
SELECT * FROM pg_temp.broken($$UPDATE voided_billing SET service_period = '2019-03-01'$$);
SELECT * FROM pg_temp.broken($$UPDATE voided_billing SET credit = credit + 1$$);
SELECT * FROM pg_temp.broken($$UPDATE voided_billing SET prior_balance = prior_balance + 1, balance_after = balance_after + 1$$);
SELECT * FROM pg_temp.broken($$UPDATE utilization SET recorded_at = '2019-02-01' WHERE account_id = '000011111002';
	UPDATE memo_entry SET recorded_at = '2019-02-01' WHERE account_id = '000011111002';
	UPDATE invoice SET recorded_at = '2019-02-05', voided_at = '2019-02-07' WHERE invoice_number = 'SI4';
	UPDATE invoice SET recorded_at = '2019-02-06' WHERE invoice_number = 'SI5'$$);
SELECT * FROM pg_temp.broken($$UPDATE memo_entry SET recorded_at = '2019-02-01' WHERE account_id = '000011111002';
	UPDATE invoice SET recorded_at = '2019-02-05', voided_at = '2019-02-04' WHERE invoice_number = 'SI4'$$);
-- where the clock stood still, the order of events is not known
SELECT * FROM pg_temp.broken($$UPDATE utilization SET recorded_at = '2019-02-01';
	UPDATE memo_entry SET recorded_at = '2019-02-01';
	UPDATE credit_memo SET voided_at = '2019-02-01' WHERE voided_at IS NOT NULL;
	UPDATE invoice SET recorded_at = '2019-02-01', voided_at = CASE WHEN voided_at IS NOT NULL THEN timestamptz '2019-02-01' END$$);

-- nothing that it can find is missing above
SELECT DISTINCT problem[1]
FROM regexp_matches(pg_get_functiondef('verify'::regproc), 'format\(''(([^'':]|'''')*):', 'g') problem
WHERE replace(problem[1], '''''', '''') NOT IN (SELECT s.problem FROM pg_temp.seen s);
SELECT count(DISTINCT problem) FROM pg_temp.seen;
\pset tuples_only off
\pset format aligned
-- and all of it is undone
SELECT * FROM verify();
