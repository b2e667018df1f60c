-- What users do wrong: SQLSTATE, message, detail and hint of each; and nothing has changed after.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme'), ('ZEBRA', 'Zebra');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES
	('000011111234', '999999999999', 'ACME'), ('000011115678', '999999999999', 'ACME'),
	('000022220000', '999999999999', 'ZEBRA');
INSERT INTO po_assignment (account_id, po_number) VALUES ('000011111234', 'PO');
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111234', 100, '2019-01-15');
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES
	('2019-01-01', '000011111234', 'Amazon EC2', 10, 'a'), ('2019-02-01', '000011111234', 'Amazon EC2', 10, 'b'),
	('2019-01-01', '000022220000', 'Amazon EC2', 10, 'a');
SELECT invoice_number FROM issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05');

CREATE FUNCTION pg_temp.books() RETURNS text LANGUAGE sql AS $$
	SELECT md5(string_agg(row::text, E'\n' ORDER BY row::text))
	FROM (SELECT c::text FROM creditmemo.credit_memo c UNION ALL SELECT u::text FROM creditmemo.utilization u
		  UNION ALL SELECT b::text FROM creditmemo.billing b UNION ALL SELECT e::text FROM creditmemo.memo_entry e
		  UNION ALL SELECT i::text FROM creditmemo.invoice i UNION ALL SELECT a::text FROM creditmemo.member_account a) books (row)
$$;
SELECT pg_temp.books() AS before \gset
CREATE FUNCTION pg_temp.try(statement text) RETURNS TABLE (error text) LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN QUERY VALUES ('no error');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN QUERY VALUES (SQLSTATE || ': ' || message);
	IF detail <> '' THEN
		RETURN QUERY VALUES ('DETAIL: ' || detail);
	END IF;
	IF hint <> '' THEN
		RETURN QUERY VALUES ('HINT: ' || hint);
	END IF;
END
$$;
\pset tuples_only on
\pset format unaligned

-- accounts
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '404', 'Amazon EC2', 1)$$);
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-01-01', 'unknown-' || lpad(n::text, 2, '0'), 'Amazon EC2', 1 FROM generate_series(13, 1, -1) n$$);
SELECT pg_temp.try($$INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('404', 1, '2019-01-01'), ('405', 1, '2019-01-01')$$);
SELECT pg_temp.try($$INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES
	('000011115678', 1, '2019-01-01'), ('000011111234', 1, '2019-01-01'), ('000022220000', 1, '2019-01-01'), ('000011115678', 1, '2019-01-01')$$);
SELECT pg_temp.try($$INSERT INTO po_assignment (account_id, po_number) VALUES ('404', 'PO'), ('000011111234', 'PO'), ('403', 'PO')$$);
SELECT pg_temp.try($$INSERT INTO provider_credit (account_id, payer_account_id, service_period, amount) VALUES ('404', '999999999999', '2019-01-01', -1)$$);
SELECT pg_temp.try($$UPDATE member_account SET customer_id = 'ZEBRA'$$);
SELECT pg_temp.try($$UPDATE member_account SET account_id = '1' WHERE account_id = '000011115678'$$);
SELECT pg_temp.try($$UPDATE customer SET currency = 'EUR'$$);

-- amounts
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon EC2', 1.005)$$);
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon EC2', 'NaN')$$);
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon EC2', 'Infinity')$$);
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon EC2', '-Infinity')$$);
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon EC2', 1e15)$$);
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon EC2', -1e15)$$);
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-01-01', '000011111234', 'Amazon EC2', 999999999999999.99 FROM generate_series(1, 2)$$);
-- so many that a sum in 64 bits would have come back into range
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-01-01', '000011111234', 'Amazon EC2', 999999999999999.99 FROM generate_series(1, 184)$$);
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000011111234', 'Amazon EC2', 999999999999999.99)$$);
SELECT pg_temp.try($$INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111234', 0, '2019-01-01')$$);
SELECT pg_temp.try($$INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111234', -5, '2019-01-01')$$);
SELECT pg_temp.try($$INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111234', 0.001, '2019-01-01')$$);
SELECT pg_temp.try($$INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111234', 999999999999999.99, '2019-01-01')$$);

-- periods
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-31', '000011111234', 'Amazon EC2', 1)$$);
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('infinity', '000011111234', 'Amazon EC2', 1)$$);
SELECT pg_temp.try($$SELECT issue_invoice('SI2', 'ACME', '2019-02-02', '2019-03-05')$$);
SELECT pg_temp.try($$INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111234', 1, 'infinity')$$);
SELECT pg_temp.try($$INSERT INTO credit_memo (account_id, amount, redeemed_on, expires_on) VALUES ('000011111234', 1, '2019-01-01', 'infinity')$$);
SELECT pg_temp.try($$INSERT INTO credit_memo (account_id, amount, redeemed_on, expires_on) VALUES ('000011111234', 1, '2019-01-31', '2019-01-30')$$);
SELECT pg_temp.try($$SELECT close_period('2018-12-01');
	INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2018-12-01', '000011111234', 'Amazon EC2', 1)$$);
SELECT pg_temp.try($$SELECT close_period('2018-12-01');
	INSERT INTO credit_memo (account_id, amount, redeemed_on, expires_on) VALUES ('000011111234', 1, '2018-12-01', '2018-12-31')$$);
SELECT pg_temp.try($$SELECT close_period('2019-02-01')$$);
SELECT pg_temp.try($$SELECT close_period('2019-02-02')$$);
SELECT pg_temp.try($$SELECT close_period(NULL)$$);
SELECT pg_temp.try($$SELECT close_period('4714-12-01 BC'); SELECT reopen_period('4714-12-01 BC', reason => 'wrong')$$);
SELECT pg_temp.try($$SELECT close_period('2018-12-01', '404')$$);
SELECT pg_temp.try($$SELECT reopen_period('2018-12-01')$$);
SELECT pg_temp.try($$SELECT reopen_period('2018-12-01', reason => ' ')$$);
SELECT pg_temp.try($$UPDATE member_account SET closed_through = '2018-12-01'$$);

-- repeated loads
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES ('2019-03-01', '000011111234', 'Amazon EC2', 1, 'a')$$);

-- what triggers keep
SELECT pg_temp.try($$INSERT INTO credit_memo (account_id, amount, redeemed_on, balance) VALUES ('000011111234', 1, '2019-01-01', 1)$$);
SELECT pg_temp.try($$INSERT INTO credit_memo (account_id, amount, redeemed_on, po_number) VALUES ('000011111234', 1, '2019-01-01', 'PO')$$);
SELECT pg_temp.try($$UPDATE credit_memo SET balance = 100$$);
SELECT pg_temp.try($$UPDATE credit_memo SET amount = 101$$);
SELECT pg_temp.try($$UPDATE credit_memo SET po_number = 'another'$$);
SELECT pg_temp.try($$UPDATE credit_memo SET account_id = '000011115678'$$);
SELECT pg_temp.try($$UPDATE credit_memo SET services = '{Amazon EC2}'$$);
SELECT pg_temp.try($$DELETE FROM credit_memo$$);
SELECT pg_temp.try($$TRUNCATE creditmemo.memo_entry$$);
SELECT pg_temp.try($$UPDATE memo_entry SET amount = amount$$);
SELECT pg_temp.try($$DELETE FROM memo_entry$$);
SELECT pg_temp.try($$UPDATE billing SET credit = 0$$);
SELECT pg_temp.try($$DELETE FROM billing$$);
SELECT pg_temp.try($$UPDATE invoice SET due_date = '2030-01-01'$$);
SELECT pg_temp.try($$DELETE FROM utilization$$);
SELECT pg_temp.try($$UPDATE utilization SET amount = 1$$);
SELECT pg_temp.try($$UPDATE utilization SET description = 'changed' WHERE service_period = '2019-01-01'$$);
SELECT pg_temp.try($$INSERT INTO utilization (service_period, account_id, service, amount, billing_no) VALUES ('2019-03-01', '000011111234', 'Amazon EC2', 1, 0)$$);
SELECT pg_temp.try($$UPDATE utilization SET billing_no = 2$$);
SELECT pg_temp.try($$UPDATE utilization SET recorded_at = '2019-01-01'$$);
SELECT pg_temp.try($$UPDATE utilization SET account_id = '404' WHERE service_period = '2019-02-01'$$);
SELECT pg_temp.try($$UPDATE utilization SET amount = 1e15 - 1 WHERE service_period = '2019-02-01';
	INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000011111234', 'Amazon EC2', 1)$$);
SELECT pg_temp.try($$TRUNCATE utilization$$);

-- invoices
SELECT pg_temp.try($$SELECT issue_invoice('SI1', 'ACME', '2019-02-01', '2019-03-05')$$);
SELECT pg_temp.try($$SELECT issue_invoice('SI2', 'ACME', '2019-01-01', '2019-03-05')$$);
SELECT pg_temp.try($$SELECT issue_invoice('SI2', 'ACME', '2019-02-01', '2019-03-05', '{}')$$);
SELECT pg_temp.try($$SELECT issue_invoice('SI2', 'ACME', '2019-02-01', '2019-03-05', '{000011115678}')$$);
SELECT pg_temp.try($$SELECT issue_invoice('SI2', 'ACME', '2019-02-01', '2019-03-05', '{000022220000,000011111234}')$$);
SELECT pg_temp.try($$SELECT issue_invoice('SI2', 'ACME', '2019-02-01', '2019-03-05', '{404,000011111234}')$$);
SELECT pg_temp.try($$SELECT issue_invoice('SI2', 'ACME', '2019-02-01', '2019-03-05', '{NULL}')$$);
SELECT pg_temp.try($$SELECT issue_invoice('SI2', 'NOBODY', '2019-02-01', '2019-03-05')$$);
SELECT pg_temp.try($$SELECT issue_invoice(NULL, 'ACME', '2019-02-01', '2019-03-05')$$);
SELECT pg_temp.try($$SELECT issue_invoice('', 'ACME', '2019-02-01', '2019-03-05')$$);
SELECT pg_temp.try($$SELECT issue_invoice('SI2', 'ACME', '2019-02-01', 'infinity')$$);
SELECT pg_temp.try($$SELECT void_invoice('SI404', 'wrong')$$);
SELECT pg_temp.try($$SELECT void_invoice('SI1', NULL)$$);
SELECT pg_temp.try($$SELECT void_invoice('SI1', '')$$);
SELECT pg_temp.try($$SELECT void_invoice(NULL, 'wrong')$$);
SELECT pg_temp.try($$SELECT void_invoice('SI1', 'wrong'); SELECT void_invoice('SI1', 'wrong again')$$);
SELECT pg_temp.try($$SELECT void_invoice('SI1', 'wrong'); SELECT issue_invoice('SI1', 'ACME', '2019-01-01', '2019-03-05')$$);
SELECT email_text('no such invoice') IS NULL;

-- voids of memos
SELECT pg_temp.try($$SELECT void_memo('404', 'wrong')$$);
SELECT pg_temp.try($$SELECT void_memo('CM1', 'wrong', '404')$$);
SELECT pg_temp.try($$SELECT void_memo('CM1', NULL)$$);
SELECT pg_temp.try($$SELECT void_memo('CM1', ' ')$$);
SELECT pg_temp.try($$SELECT void_memo(NULL, 'wrong')$$);
SELECT pg_temp.try($$INSERT INTO po_assignment (account_id, po_number) VALUES ('000022220000', 'PO');
	INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES
	('000011111234', 'A', 1, '2019-01-01'), ('000022220000', 'A', 1, '2019-01-01'); SELECT void_memo('A', 'wrong')$$);
SELECT pg_temp.try($$INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000011111234', 'A', 1, '2019-01-01');
	SELECT void_memo('A', 'wrong'); SELECT void_memo('A', 'wrong again')$$);

-- documents
SELECT pg_temp.try($$SELECT money_text(0.001, 'USD')$$);

\pset tuples_only off
\pset format aligned
SELECT pg_temp.books() = :'before' AS nothing_has_changed;
SELECT * FROM verify();
