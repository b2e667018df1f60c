-- Statements of every shape and size load the same: one line, none, a hundred thousand, a million.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT lpad(n::text, 12, '0'), '999999999999', 'ACME' FROM generate_series(1, 1000) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
INSERT INTO credit_memo (account_id, amount, redeemed_on)
	SELECT account_id, 40 + right(account_id, 2)::int, '2019-01-01' FROM member_account;
CREATE VIEW public.totals AS
	SELECT (SELECT count(*) FROM utilization) AS lines, (SELECT count(*) FROM billing) AS billings,
		(SELECT count(*) FROM memo_entry WHERE entry_type = 'apply') AS applications,
		(SELECT sum(utilization) FROM billing) AS utilization, (SELECT sum(credit) FROM billing) AS credit,
		(SELECT sum(balance) FROM credit_memo) AS balance;

-- nothing at all
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-01-01', account_id, 'Amazon EC2', 1 FROM member_account WHERE false;
SELECT * FROM public.totals;

-- 100,000 lines in one statement write one billing and one application an account
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	SELECT '2019-01-01', lpad((n % 1000 + 1)::text, 12, '0'), 'Amazon EC2', (n % 100) * 0.01, 'jan-' || n
	FROM generate_series(1, 100000) n;
SELECT * FROM public.totals;

-- a repeated load is a no-op
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	SELECT '2019-01-01', lpad((n % 1000 + 1)::text, 12, '0'), 'Amazon EC2', (n % 100) * 0.01, 'jan-' || n
	FROM generate_series(1, 100000) n
	ON CONFLICT (account_id, source_id) DO NOTHING;
SELECT * FROM public.totals;

-- one that overlaps loads what is new
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES
	('2019-01-01', '000000000002', 'Amazon EC2', 0.01, 'jan-1'),
	('2019-01-01', '000000000002', 'Amazon EC2', 0.07, 'jan-100001')
	ON CONFLICT (account_id, source_id) DO NOTHING;
SELECT * FROM public.totals;

-- one hundred statements of one line, every other one rolled back
DO $$
BEGIN
	FOR n IN 1 .. 100 LOOP
		BEGIN
			INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
				VALUES ('2019-02-01', '000000000001', 'Amazon EC2', 1);
			IF n % 2 = 0 THEN
				RAISE EXCEPTION 'rolled back';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END
$$;
SELECT utilization, credit, due FROM unbilled WHERE account_id = '000000000001' AND service_period = '2019-02-01';
BEGIN;
SAVEPOINT a;
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000000000001', 'Amazon EC2', 1000);
ROLLBACK TO a;
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000000000001', 'Amazon EC2', 2);
SAVEPOINT b;
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000000000001', 'Amazon EC2', -1000);
ROLLBACK TO b;
RELEASE b;
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000000000001', 'Amazon EC2', 3);
COMMIT;
SELECT utilization, credit, due FROM unbilled WHERE account_id = '000000000001' AND service_period = '2019-02-01';

-- COPY
COPY utilization (service_period, account_id, service, amount, source_id) FROM stdin;
2019-02-01	000000000002	Amazon EC2	10.50	feb-1
2019-02-01	000000000003	Amazon EC2	0.25	feb-1
2019-02-01	000000000002	Amazon S3	0.50	feb-2
\.
SELECT account_id, utilization, credit, due FROM unbilled
WHERE service_period = '2019-02-01' AND account_id IN ('000000000002', '000000000003')
ORDER BY account_id;

-- several inserts in one statement
WITH first AS (
	INSERT INTO utilization (service_period, account_id, service, amount)
		VALUES ('2019-03-01', '000000000004', 'Amazon EC2', 1) RETURNING 1
), second AS (
	INSERT INTO utilization (service_period, account_id, service, amount)
		VALUES ('2019-03-01', '000000000004', 'Amazon EC2', 2) RETURNING 1
)
SELECT (SELECT count(*) FROM first) + (SELECT count(*) FROM second) AS lines;
SELECT utilization, credit, due FROM unbilled WHERE service_period = '2019-03-01';

-- prepared: small, then large, then small
PREPARE load (date, int, int) AS
	INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT $1, lpad(n::text, 12, '0'), 'Amazon EC2', 0.01 FROM generate_series($2, $3) n;
EXECUTE load ('2019-04-01', 7, 7);
EXECUTE load ('2019-04-01', 1, 1000);
EXECUTE load ('2019-04-01', 7, 7);
SELECT account_id, utilization, credit FROM unbilled
WHERE service_period = '2019-04-01' AND account_id BETWEEN '000000000006' AND '000000000008'
ORDER BY account_id;
DEALLOCATE load;

-- sums are exact, however large the lines in between
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-05-01', '000000000009', 'Amazon EC2', s * 999999999999999.99
	FROM generate_series(1, 200) n, (VALUES (1), (-1)) sign (s)
	ORDER BY s DESC;
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-05-01', '000000000009', 'Amazon EC2', 0.01 FROM generate_series(1, 5) n;
SELECT utilization, credit FROM unbilled WHERE service_period = '2019-05-01';

-- a million lines of one account
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-06-01', '000000000010', 'Amazon EC2', 0.01 FROM generate_series(1, 1000000) n;
SELECT utilization, credit, due FROM unbilled WHERE service_period = '2019-06-01';

SELECT * FROM public.totals;
DROP VIEW public.totals;
SELECT * FROM verify();
