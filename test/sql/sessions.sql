-- What a session keeps of the extension does not outlive what it was made of: after the extension was dropped and made
-- again, its tables altered, plans, caches and temporary tables discarded, or a part of a transaction taken back, all of
-- it does what it did in the session's first call.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET timezone = 'UTC';
\set SHOW_CONTEXT never
CREATE SCHEMA sessions;

-- ---- everything that the extension does, for a customer of its own ----

-- What there is of the customer, by table and view, without what differs from one customer to the next.
CREATE FUNCTION sessions.books_of(key text) RETURNS TABLE (name text, row_count bigint, digest text)
LANGUAGE plpgsql AS $$
BEGIN
	FOR name IN
		SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'creditmemo'::regnamespace AND c.relkind IN ('r', 'v')
	LOOP
		EXECUTE format($sql$
			SELECT count(*), md5(string_agg(line, E'\n' ORDER BY line))
			FROM (
				SELECT regexp_replace(replace((to_jsonb(r) - '{memo_id, utilization_id, provider_credit_line_id,
						email_template_id, recorded_at, assigned_at, voided_at}'::text[])::text, $1, ''),
					'CM[0-9]+', 'CM', 'g') AS line
				FROM creditmemo.%s r
				WHERE r::text LIKE '%%' || $1 || '%%') r
			$sql$, name)
		INTO row_count, digest
		USING key;
		RETURN NEXT;
	END LOOP;
END
$$;

CREATE FUNCTION sessions.document_digest(key text, document text) RETURNS text LANGUAGE sql AS $$
	SELECT md5(regexp_replace(replace(document, key, ''), '[A-Z][a-z]+ [0-9]+, [0-9]+|[0-9]+-[0-9]+-[0-9]+| +|CM[0-9]+', ' ', 'g'))
$$;

CREATE FUNCTION sessions.keep_books(key text) RETURNS TABLE (name text, row_count bigint, digest text)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
	account text := key || '-0001';
	other text := key || '-0002';
	moment timestamptz;
BEGIN
	INSERT INTO creditmemo.customer (customer_id, name) VALUES (key, 'Customer'), (key || '-other', 'Other');
	INSERT INTO creditmemo.payer_account VALUES (key), (key || '-other');
	INSERT INTO creditmemo.member_account (account_id, payer_account_id, customer_id) VALUES
		(account, key, key), (other, key, key), (key || '-0003', key, key);
	INSERT INTO creditmemo.po_assignment (account_id, po_number) VALUES (account, 'PO'), (other, 'PO');
	INSERT INTO creditmemo.email_template (customer_id, text) VALUES (key, '{balances}');
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id, creditable) VALUES
		('2019-01-01', account, 'Amazon EC2', 40, 'a', true), ('2019-01-01', account, 'Amazon S3', 7, 'b', true),
		('2019-01-01', account, 'Tax', 3, 'c', false), ('2019-01-01', other, 'Amazon EC2', 11, 'a', true);
	INSERT INTO creditmemo.credit_memo (account_id, memo_number, amount, redeemed_on, expires_on, services) VALUES
		(account, 'A', 100, '2019-01-05', NULL, NULL), (account, 'B', 5, '2019-01-05', NULL, '{Amazon S3}'),
		(other, NULL, 20, '2019-01-05', '2019-02-28', NULL), (other, 'D', 4, '2018-12-05', '2018-12-31', NULL);
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id) VALUES
		('2019-01-01', account, 'Amazon EC2', 30, 'a'), ('2019-02-01', account, 'Amazon EC2', 9, 'd'),
		('2019-02-01', other, 'Amazon EC2', 9, 'd')
		ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount;
	UPDATE creditmemo.utilization SET amount = amount + 1 WHERE account_id = other AND source_id = 'a';
	DELETE FROM creditmemo.utilization WHERE account_id = account AND source_id = 'b';
	UPDATE creditmemo.credit_memo SET expires_on = '2019-01-31' WHERE account_id = other AND memo_number LIKE 'CM%';
	PERFORM creditmemo.issue_invoice(key || '-SI1', key, '2019-01-01', '2019-02-05');
	-- a supplementary billing, which is folded
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
		VALUES ('2019-01-01', account, 'Amazon EC2', -4);
	PERFORM creditmemo.void_invoice(key || '-SI1', 'wrong');
	PERFORM creditmemo.issue_invoice(key || '-SI2', key, '2019-01-01', '2019-02-05', ARRAY[account]);
	PERFORM creditmemo.void_memo('B', 'wrong', account);
	PERFORM creditmemo.close_period('2018-12-01', key);
	PERFORM creditmemo.reopen_period('2018-12-01', key, 'late');
	UPDATE creditmemo.member_account a SET customer_id = key || '-other', payer_account_id = key || '-other'
		WHERE a.account_id = key || '-0003';

	CREATE TEMP TABLE bill ON COMMIT DROP AS
	SELECT key AS "BillingAccountId", account_id AS "SubAccountId", cost AS "BilledCost", 'USD' AS "BillingCurrency",
		category AS "ChargeCategory", 'Amazon S3' AS "ServiceName", 'Promotional credit' AS "ChargeDescription",
		'2019-03-01' AS "ChargePeriodStart", '2019-03-01' AS "BillingPeriodStart"
	FROM (VALUES (account, 1.005, 'Usage'), (account, 1.005, 'Usage'), (key || '-0004', 8, 'Usage'), (account, -2, 'Credit'))
		line (account_id, cost, category);
	PERFORM creditmemo.import_focus('bill', key);
	UPDATE bill SET "BilledCost" = "BilledCost" * 2;
	PERFORM creditmemo.import_focus('bill');
	CREATE TEMP TABLE cur ON COMMIT DROP AS
	SELECT "BillingAccountId" AS bill_payer_account_id, "SubAccountId" AS line_item_usage_account_id,
		"BilledCost" * 2 AS line_item_unblended_cost, "BillingCurrency" AS line_item_currency_code,
		"ChargeCategory" AS line_item_line_item_type, "ChargeDescription" AS line_item_line_item_description,
		"ServiceName" AS line_item_product_code, "ChargePeriodStart" AS line_item_usage_start_date,
		"BillingPeriodStart" AS bill_billing_period_start_date
	FROM bill;
	PERFORM creditmemo.import_cur('cur');
	DROP TABLE bill, cur;

	moment := clock_timestamp();
	RETURN QUERY
	SELECT b.name, b.row_count, b.digest FROM sessions.books_of(key) b
	UNION ALL
	SELECT 'invoice_html', 2, sessions.document_digest(key, creditmemo.invoice_html(key || '-SI1')
		|| creditmemo.invoice_html(key || '-SI2'))
	UNION ALL
	SELECT 'statement_html', 1, sessions.document_digest(key, creditmemo.statement_html(account))
	UNION ALL
	SELECT 'statement_text', 1, sessions.document_digest(key, creditmemo.statement_text(account))
	UNION ALL
	SELECT 'balance_as_of', count(*), sum(b.balance)::text FROM creditmemo.balance_as_of(moment) b
		WHERE b.account_id LIKE key || '%'
	UNION ALL
	SELECT 'defw_waiver', count(*), sum(w.waiver)::text FROM creditmemo.defw_waiver(key, '2019-03-01', '{Amazon S3}') w
	UNION ALL
	SELECT 'predicted_allocation', count(*), sum(p.predicted)::text
	FROM creditmemo.predicted_allocation(key, '2019-03-01') p;
END
$$;

-- ---- the first call; each later one must be like it ----

CREATE TABLE sessions.first_call AS SELECT * FROM sessions.keep_books('CUST-A');
SELECT name, row_count FROM sessions.first_call ORDER BY name;
SELECT * FROM creditmemo.verify();

-- no row: what there is of the customer is what there was of the first, and the books are sound
CREATE FUNCTION sessions.differences(key text) RETURNS TABLE (name text, row_count bigint)
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY
	SELECT d.name, d.row_count
	FROM (SELECT * FROM sessions.keep_books(key) EXCEPT TABLE sessions.first_call) d
	UNION ALL
	SELECT format('%s %s: %s', v.account_id, v.problem, v.detail), NULL
	FROM creditmemo.verify() v;
END
$$;
SELECT * FROM sessions.differences('CUST-B');

-- ---- the extension dropped and made again ----

PREPARE load (text, numeric) AS
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount) VALUES ('2019-06-01', $1, 'Amazon EC2', $2);
PREPARE unbilled (text) AS
	SELECT credit::numeric, due::numeric FROM creditmemo.unbilled WHERE account_id = $1 AND service_period = '2019-06-01';
PREPARE invoice (text, text) AS
	SELECT invoice_number FROM creditmemo.issue_invoice($1, $2, '2019-06-01', '2019-07-05');
PREPARE page (text) AS SELECT length(creditmemo.invoice_html($1)) > 1000 AS is_page;
CREATE FUNCTION sessions.load_once(account text, amount numeric) RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
		VALUES ('2019-06-01', account, 'Amazon EC2', amount);
	RETURN (SELECT u.credit FROM creditmemo.unbilled u WHERE u.account_id = account AND u.service_period = '2019-06-01');
END
$$;
-- each of them, eight times: after five a prepared statement has its plan for good
CREATE PROCEDURE sessions.load_eight_times(key text) LANGUAGE plpgsql AS $$
BEGIN
	FOR n IN 1 .. 8 LOOP
		PERFORM sessions.load_once(key || '-0001', 1);
		EXECUTE format('EXECUTE load (%L, %s)', key || '-0001', 1);
	END LOOP;
END
$$;
CALL sessions.load_eight_times('CUST-B');
EXECUTE unbilled ('CUST-B-0001');
EXECUTE invoice ('CUST-B-SI3', 'CUST-B');
EXECUTE page ('CUST-B-SI3');

DROP EXTENSION creditmemo;
EXECUTE load ('CUST-B-0001', 1);
EXECUTE page ('CUST-B-SI3');
SELECT sessions.load_once('CUST-B-0001', 1);
CREATE EXTENSION creditmemo;
SELECT * FROM sessions.differences('CUST-C');
CALL sessions.load_eight_times('CUST-C');
EXECUTE unbilled ('CUST-C-0001');
EXECUTE invoice ('CUST-C-SI3', 'CUST-C');
EXECUTE page ('CUST-C-SI3');
SELECT * FROM creditmemo.verify();

-- in one transaction, which is taken back: what was made in it is not kept
BEGIN;
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SELECT * FROM sessions.differences('CUST-C');
ROLLBACK;
SELECT * FROM sessions.differences('CUST-D');
BEGIN;
SAVEPOINT before;
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SELECT * FROM sessions.differences('CUST-C');
ROLLBACK TO before;
SELECT * FROM sessions.differences('CUST-E');
COMMIT;

-- its place is fixed
ALTER EXTENSION creditmemo SET SCHEMA public;
CREATE EXTENSION creditmemo;
LOAD '$libdir/creditmemo';
SELECT * FROM sessions.differences('CUST-F');

-- ---- what a plan was made of has changed: columns, indexes, statistics, functions ----

ALTER TABLE creditmemo.utilization ADD COLUMN region text;
CALL sessions.load_eight_times('CUST-F');
ALTER TABLE creditmemo.billing ADD COLUMN region text DEFAULT 'somewhere';
CALL sessions.load_eight_times('CUST-F');
CREATE INDEX ON creditmemo.billing (service_period);
CALL sessions.load_eight_times('CUST-F');
DROP INDEX creditmemo.billing_service_period_idx;
CALL sessions.load_eight_times('CUST-F');
ANALYZE creditmemo.billing, creditmemo.utilization, creditmemo.credit_memo;
CALL sessions.load_eight_times('CUST-F');
CREATE OR REPLACE FUNCTION creditmemo.check_money_amount(numeric) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/creditmemo';
CALL sessions.load_eight_times('CUST-F');
REINDEX TABLE creditmemo.billing;
CALL sessions.load_eight_times('CUST-F');
CLUSTER creditmemo.memo_entry USING memo_entry_pkey;
VACUUM FULL creditmemo.billing;
CALL sessions.load_eight_times('CUST-F');
ALTER TABLE creditmemo.utilization ALTER COLUMN description SET STORAGE EXTERNAL, ALTER COLUMN service SET STATISTICS 10;
CALL sessions.load_eight_times('CUST-F');
EXECUTE unbilled ('CUST-F-0001');
ALTER TABLE creditmemo.utilization DROP COLUMN region;
ALTER TABLE creditmemo.billing DROP COLUMN region;
EXECUTE invoice ('CUST-F-SI3', 'CUST-F');
EXECUTE page ('CUST-F-SI3');
SELECT * FROM creditmemo.verify();

-- an index that it cannot do without
BEGIN;
ALTER TABLE creditmemo.member_account RENAME CONSTRAINT member_account_pkey TO other_name;
CALL sessions.load_eight_times('CUST-F');
DROP INDEX creditmemo.member_account_customer_id_idx;
CALL sessions.load_eight_times('CUST-F');
ROLLBACK;
SELECT * FROM sessions.differences('CUST-G');

-- columns that a user added before the session had used a table, or after that, and dropped again
CREATE PROCEDURE sessions.add_columns() LANGUAGE plpgsql AS $$
DECLARE
	relation regclass;
BEGIN
	FOR relation IN
		SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'creditmemo'::regnamespace AND c.relkind = 'r' ORDER BY c.relname
	LOOP
		EXECUTE format('ALTER TABLE %s ADD COLUMN a text, ADD COLUMN b integer DEFAULT 7, ADD COLUMN c numeric[]', relation);
	END LOOP;
END
$$;
CREATE PROCEDURE sessions.drop_columns() LANGUAGE plpgsql AS $$
DECLARE
	relation regclass;
BEGIN
	FOR relation IN
		SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'creditmemo'::regnamespace AND c.relkind = 'r' ORDER BY c.relname
	LOOP
		EXECUTE format('ALTER TABLE %s DROP COLUMN a, DROP COLUMN b, DROP COLUMN c', relation);
	END LOOP;
END
$$;
CALL sessions.add_columns();
CALL sessions.load_eight_times('CUST-G');
CALL sessions.drop_columns();
CALL sessions.load_eight_times('CUST-G');
EXECUTE unbilled ('CUST-G-0001');
SELECT * FROM sessions.differences('CUST-H');
-- rows that were written before and after
SELECT invoice_number, voided_at IS NOT NULL AS is_void FROM creditmemo.void_invoice('CUST-G-SI2', 'wrong');
EXECUTE invoice ('CUST-G-SI3', 'CUST-G');
\c -
SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
SET datestyle = iso;
SET timezone = 'UTC';
CALL sessions.add_columns();
CALL sessions.drop_columns();
SELECT * FROM sessions.differences('CUST-I');
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
CALL sessions.add_columns();
CALL sessions.drop_columns();
SELECT * FROM sessions.differences('CUST-J');

-- ---- renamed, moved ----

ALTER TABLE creditmemo.billing RENAME TO bill;
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	VALUES ('2019-06-01', 'CUST-J-0001', 'Amazon EC2', 1);
ALTER TABLE creditmemo.bill RENAME TO billing;
SELECT * FROM sessions.differences('CUST-K');
ALTER TABLE creditmemo.utilization RENAME TO line;
INSERT INTO creditmemo.line (service_period, account_id, service, amount)
	VALUES ('2019-06-01', 'CUST-J-0001', 'Amazon EC2', 1);
ALTER TABLE creditmemo.line RENAME TO utilization;
SELECT * FROM sessions.differences('CUST-L');
ALTER TABLE creditmemo.billing RENAME COLUMN credit TO paid;
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	VALUES ('2019-06-01', 'CUST-J-0001', 'Amazon EC2', 1);
ALTER TABLE creditmemo.billing RENAME COLUMN paid TO credit;
SELECT * FROM sessions.differences('CUST-M');
ALTER TABLE creditmemo.credit_memo SET SCHEMA public;
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	VALUES ('2019-06-01', 'CUST-J-0001', 'Amazon EC2', 1);
INSERT INTO public.credit_memo (account_id, amount, redeemed_on) VALUES ('CUST-J-0001', 1, '2019-01-05');
ALTER TABLE public.credit_memo SET SCHEMA creditmemo;
SELECT * FROM sessions.differences('CUST-N');
ALTER SCHEMA creditmemo RENAME TO memos;
SELECT memos.invoice_html('CUST-J-SI2');
ALTER SCHEMA memos RENAME TO creditmemo;
SELECT * FROM sessions.differences('CUST-O');

-- ---- discarded ----

DISCARD ALL;
SET datestyle = iso;
SET timezone = 'UTC';
SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
SELECT * FROM sessions.differences('CUST-P');
DISCARD PLANS;
SELECT * FROM sessions.differences('CUST-Q');
DISCARD TEMP;
DISCARD SEQUENCES;
SELECT * FROM sessions.differences('CUST-R');
BEGIN;
SELECT * FROM sessions.differences('CUST-S');
DISCARD PLANS;
SELECT * FROM sessions.differences('CUST-T');
DISCARD TEMP;
SELECT * FROM sessions.differences('CUST-U');
COMMIT;

-- ---- temporary tables that are called like ours ----

CREATE TEMP TABLE utilization (service_period date, account_id text, service text, amount numeric);
CREATE TEMP TABLE billing (account_id text);
CREATE TEMP TABLE memo_entry (account_id text);
CREATE TEMP TABLE member_account (account_id text);
CREATE TEMP VIEW invoice_body AS SELECT 1;
SELECT * FROM sessions.differences('CUST-V');
SET search_path = pg_temp, creditmemo;
SELECT * FROM sessions.differences('CUST-W');
INSERT INTO utilization VALUES ('2019-06-01', 'nobody', 'Amazon EC2', 1);
CREATE TRIGGER apply AFTER INSERT ON utilization REFERENCING NEW TABLE AS lines
	FOR EACH STATEMENT EXECUTE FUNCTION creditmemo.apply_utilization();
INSERT INTO utilization VALUES ('2019-06-01', 'nobody', 'Amazon EC2', 1);
RESET search_path;
-- of the import's own there may be none
CREATE TEMP TABLE creditmemo_bill (account_id text);
SELECT * FROM sessions.differences('CUST-X');
DISCARD TEMP;
SELECT * FROM sessions.differences('CUST-X');

-- ---- savepoints, and exceptions that PL/pgSQL caught ----

-- each of them changes the books, and is possible after those before it
CREATE TABLE sessions.statement (no integer, text text);
INSERT INTO sessions.statement VALUES
	(1, $$INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id) VALUES
		('2019-06-01', 'CUST-X-0001', 'Amazon EC2', 30, 'k'), ('2019-07-01', 'CUST-X-0002', 'Amazon EC2', 5, 'k')$$),
	(2, $$UPDATE creditmemo.utilization SET amount = amount - 2 WHERE source_id = 'k'$$),
	(3, $$INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id)
		VALUES ('2019-06-01', 'CUST-X-0001', 'Amazon EC2', 31, 'k'), ('2019-06-01', 'CUST-X-0002', 'Amazon EC2', 3, 'l')
		ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount$$),
	(4, $$INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
		VALUES ('2019-06-01', 'CUST-X-0001', 'Amazon EC2', -7)$$),
	(5, $$INSERT INTO creditmemo.credit_memo (account_id, memo_number, amount, redeemed_on)
		VALUES ('CUST-X-0002', 'N', 50, '2019-01-05'), ('CUST-X-0001', 'N', 9, '2019-01-05')$$),
	(6, $$UPDATE creditmemo.credit_memo SET expires_on = '2019-06-30' WHERE memo_number = 'N' AND account_id LIKE 'CUST-X-%'$$),
	(7, $$SELECT creditmemo.issue_invoice('CUST-X-SI3', 'CUST-X', '2019-06-01', '2019-07-05')$$),
	(8, $$INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
		VALUES ('2019-06-01', 'CUST-X-0001', 'Amazon EC2', -1)$$),
	(9, $$SELECT creditmemo.void_invoice('CUST-X-SI3', 'wrong')$$),
	(10, $$SELECT creditmemo.void_memo('N', 'wrong', 'CUST-X-0001')$$),
	(11, $$DELETE FROM creditmemo.utilization WHERE source_id = 'l'$$),
	(12, $$SELECT creditmemo.issue_invoice('CUST-X-SI4', 'CUST-X', m::date, '2019-08-05')
		FROM generate_series('2019-01-01', '2019-07-01', interval '1 month') m
		WHERE EXISTS (SELECT FROM creditmemo.unbilled u WHERE u.customer_id = 'CUST-X' AND u.service_period = m)
		LIMIT 1$$),
	(13, $$SELECT creditmemo.close_period('2018-12-01', 'CUST-X')$$),
	(14, $$SELECT creditmemo.reopen_period('2018-12-01', 'CUST-X', 'late')$$),
	(15, $$SELECT creditmemo.statement_html('CUST-X-0001') FROM creditmemo.invoice_email$$);

-- a digest of the rows of all tables
CREATE FUNCTION sessions.all_rows() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	relation name;
	digest text;
	digests text := '';
BEGIN
	FOR relation IN
		SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'creditmemo'::regnamespace AND c.relkind = 'r' ORDER BY c.relname
	LOOP
		EXECUTE format('SELECT coalesce(md5(string_agg(r::text, E''\n'' ORDER BY r::text)), '''') FROM creditmemo.%s r', relation)
			INTO digest;
		digests := digests || digest;
	END LOOP;
	RETURN md5(digests);
END
$$;

-- every statement: taken back; taken back with what came after it, some of which had failed; and done
CREATE PROCEDURE sessions.try_statements() LANGUAGE plpgsql AS $$
DECLARE
	statement record;
	before text;
BEGIN
	FOR statement IN SELECT no, text FROM sessions.statement ORDER BY no LOOP
		before := sessions.all_rows();
		BEGIN
			EXECUTE statement.text;
			RAISE EXCEPTION 'taken back';
		EXCEPTION WHEN raise_exception THEN
			IF sessions.all_rows() <> before THEN
				RAISE WARNING 'statement % left something behind', statement.no;
			END IF;
		END;
		BEGIN
			BEGIN
				EXECUTE statement.text;
			EXCEPTION WHEN no_data_found THEN
				RAISE WARNING 'statement % found nothing', statement.no;
			END;
			BEGIN
				INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
					VALUES ('2019-08-01', 'CUST-X-0001', 'Amazon EC2', 2), ('2019-08-01', 'nobody', 'Amazon EC2', 2);
			EXCEPTION WHEN foreign_key_violation THEN
				INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
					VALUES ('2019-08-01', 'CUST-X-0001', 'Amazon EC2', 2);
			END;
			RAISE EXCEPTION 'taken back';
		EXCEPTION WHEN raise_exception THEN
			IF sessions.all_rows() <> before THEN
				RAISE WARNING 'statement % in a block left something behind', statement.no;
			END IF;
		END;
		BEGIN
			EXECUTE statement.text;
		EXCEPTION WHEN no_data_found THEN
			RAISE WARNING 'statement % cannot be caught', statement.no;
		END;
		IF EXISTS (SELECT FROM creditmemo.verify()) THEN
			RAISE WARNING 'the books are not sound after statement %', statement.no;
		END IF;
	END LOOP;
END
$$;
BEGIN;
SAVEPOINT all_of_them;
CALL sessions.try_statements();
ROLLBACK TO all_of_them;
CALL sessions.try_statements();
ROLLBACK TO all_of_them;
RELEASE all_of_them;
SAVEPOINT all_of_them;
CALL sessions.try_statements();
RELEASE all_of_them;
COMMIT;
SELECT * FROM creditmemo.verify();

-- a lock that is taken again, stronger, after its savepoint was taken back
BEGIN;
SELECT account_id FROM creditmemo.member_account WHERE account_id = 'CUST-X-0001' FOR KEY SHARE;
SAVEPOINT weak;
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount) VALUES ('2019-09-01', 'CUST-X-0001', 'Amazon EC2', 5);
SAVEPOINT strong;
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount) VALUES ('2019-09-01', 'CUST-X-0001', 'Amazon EC2', -2);
ROLLBACK TO strong;
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount) VALUES ('2019-09-01', 'CUST-X-0001', 'Amazon EC2', 3);
ROLLBACK TO weak;
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount) VALUES ('2019-09-01', 'CUST-X-0001', 'Amazon EC2', -1);
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount) VALUES ('2019-09-01', 'CUST-X-0001', 'Amazon EC2', 9);
RELEASE weak;
COMMIT;
SELECT utilization, credit FROM creditmemo.billing WHERE account_id = 'CUST-X-0001' AND service_period = '2019-09-01';
SELECT * FROM creditmemo.verify();

-- ---- cursors ----

BEGIN;
DECLARE due CURSOR FOR SELECT service_period, due FROM creditmemo.unbilled WHERE account_id = 'CUST-V-0002' ORDER BY service_period;
FETCH 1 FROM due;
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount) VALUES ('2019-10-01', 'CUST-V-0002', 'Amazon EC2', 5);
SELECT invoice_number FROM creditmemo.issue_invoice('CUST-V-SI3', 'CUST-V', '2019-02-01', '2019-07-05');
FETCH ALL FROM due;
DECLARE line CURSOR FOR SELECT * FROM creditmemo.utilization WHERE account_id = 'CUST-V-0002' AND service_period = '2019-10-01' FOR UPDATE;
MOVE 1 FROM line;
UPDATE creditmemo.utilization SET amount = 3 WHERE CURRENT OF line;
DECLARE memo CURSOR WITH HOLD FOR SELECT memo_number FROM creditmemo.memo_balance WHERE account_id = 'CUST-V-0001' ORDER BY memo_number;
DELETE FROM creditmemo.utilization WHERE CURRENT OF line;
COMMIT;
FETCH ALL FROM memo;
CLOSE memo;
-- lines that a loop has put in, and looks at one by one
CREATE FUNCTION sessions.load_and_look(stop_at integer) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	line record;
	total numeric := 0;
BEGIN
	FOR line IN
		INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
			SELECT '2019-10-01', 'CUST-V-0001', 'Amazon EC2', n FROM generate_series(1, 100) n RETURNING amount
	LOOP
		total := total + line.amount;
		EXIT WHEN line.amount = stop_at;
		PERFORM sessions.load_once('CUST-V-0002', 1);
	END LOOP;
	RETURN total;
END
$$;
SELECT sessions.load_and_look(3);
SELECT service_period, utilization FROM creditmemo.billing WHERE account_id = 'CUST-V-0001' AND service_period = '2019-10-01';
SELECT * FROM creditmemo.verify();

-- ---- as another role ----

CREATE ROLE regress_loader;
GRANT USAGE ON SCHEMA creditmemo TO regress_loader;
GRANT SELECT, INSERT ON creditmemo.utilization TO regress_loader;
GRANT SELECT ON creditmemo.unbilled TO regress_loader;
GRANT EXECUTE ON FUNCTION creditmemo.invoice_html(text) TO regress_loader;
PREPARE page (text) AS SELECT length(creditmemo.invoice_html($1)) > 1000 AS is_page;
EXECUTE page ('CUST-V-SI2');
SELECT sessions.load_once('CUST-V-0002', 1);
SET ROLE regress_loader;
SELECT sessions.load_once('CUST-V-0002', 1);
\set VERBOSITY sqlstate
EXECUTE page ('CUST-V-SI2');
\set VERBOSITY default
SELECT invoice_number FROM creditmemo.issue_invoice('CUST-V-SI4', 'CUST-V', '2019-10-01', '2019-07-05');
RESET ROLE;
EXECUTE page ('CUST-V-SI2');
SELECT * FROM sessions.differences('CUST-Y');
BEGIN;
SET LOCAL ROLE regress_loader;
SELECT sessions.load_once('CUST-Y-0001', 1);
ROLLBACK;
SELECT sessions.load_once('CUST-Y-0001', 1);
DROP OWNED BY regress_loader;
DROP ROLE regress_loader;

-- ---- without triggers: rows are written as they are, and verify() says what is missing ----

SET session_replication_role = replica;
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id)
	VALUES ('2019-11-01', 'CUST-Y-0001', 'Amazon EC2', 5, 'replica');
INSERT INTO creditmemo.credit_memo
	(account_id, memo_number, amount, balance, entries, redeemed_on, first_period, po_number)
	VALUES ('CUST-Y-0001', 'replica', 5, 5, 0, '2019-01-05', '2019-01-01', 'PO');
RESET session_replication_role;
SELECT problem, account_id, detail FROM creditmemo.verify() ORDER BY 1, 2, 3;
-- other accounts are loaded as ever, and so is that one
SELECT sessions.load_once('CUST-V-0001', 1);
SELECT sessions.load_once('CUST-Y-0001', 1);
-- taken back as it came
SET session_replication_role = replica;
DELETE FROM creditmemo.utilization WHERE source_id = 'replica';
DELETE FROM creditmemo.credit_memo WHERE memo_number = 'replica';
RESET session_replication_role;
SELECT * FROM creditmemo.verify();
-- what is done by functions needs no trigger
SET session_replication_role = replica;
SELECT invoice_number FROM creditmemo.issue_invoice('CUST-Y-SI4', 'CUST-Y', '2019-06-01', '2019-07-05');
SELECT invoice_number FROM creditmemo.void_invoice('CUST-Y-SI4', 'wrong');
RESET session_replication_role;
SELECT * FROM sessions.differences('CUST-Z');
BEGIN;
SET LOCAL session_replication_role = replica;
ROLLBACK;
SELECT sessions.load_once('CUST-Z-0001', 1);
-- half a statement without
WITH replica AS (SELECT set_config('session_replication_role', 'replica', true))
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	SELECT '2019-11-01', 'CUST-Z-0001', 'Amazon EC2', 5 FROM replica;
SELECT * FROM creditmemo.verify();

-- ---- truncated, from the tables that others refer to ----

TRUNCATE creditmemo.customer;
TRUNCATE creditmemo.customer CASCADE;
TRUNCATE creditmemo.payer_account CASCADE;
TRUNCATE creditmemo.member_account CASCADE;
TRUNCATE creditmemo.po_assignment;
SELECT * FROM sessions.differences('CUST-0');

-- ---- a table taken out of the extension, and put back: then pg_dump does not know any more that its rows are to be kept ----

ALTER EXTENSION creditmemo DROP TABLE creditmemo.billing;
SELECT * FROM sessions.differences('CUST-1');
\set VERBOSITY terse
DROP EXTENSION creditmemo;
\set VERBOSITY default
ALTER EXTENSION creditmemo ADD TABLE creditmemo.billing;
SELECT * FROM sessions.differences('CUST-2');
SELECT 'creditmemo.billing'::regclass = ANY (extconfig) AS is_dumped FROM pg_extension WHERE extname = 'creditmemo';
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SELECT * FROM sessions.differences('CUST-3');
DROP SCHEMA sessions CASCADE;
