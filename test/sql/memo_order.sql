-- Which memo pays first: priority, then soonest expiry, fewest services, oldest redemption, id.

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

-- three memos of different priority, expiry and age against one billing
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on, priority) VALUES
	('000011111000', 'old, never expires', 100.03, '2019-01-01', NULL, 100),
	('000011111000', 'young, expires soon', 50.01, '2019-03-01', '2019-06-30', 100),
	('000011111000', 'urgent', 10.02, '2019-02-01', '2030-12-31', 1);
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-03-01', '000011111000', 'Amazon EC2', 100.00);
SELECT memo_number, entry_no, entry_type, amount, balance_after
FROM memo_statement
WHERE account_id = '000011111000'
ORDER BY recorded_at, balance_after DESC, memo_number;

-- every rule of the order decides once: each memo of 1.00 pays two lines
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on, priority, services) VALUES
	('000011111001', '7 later id', 1, '2019-01-02', NULL, 100, NULL),
	('000011111001', '8 younger', 1, '2019-01-03', NULL, 100, NULL),
	('000011111001', '5 two services', 1, '2019-01-01', NULL, 100, '{Amazon EC2,Amazon S3}'),
	('000011111001', '4 one service', 1, '2019-01-09', NULL, 100, '{Amazon EC2}'),
	('000011111001', '6 oldest unlimited', 1, '2019-01-01', NULL, 100, NULL),
	('000011111001', '3 expires last', 1, '2019-01-01', '2021-01-31', 100, NULL),
	('000011111001', '2 expires first', 1, '2019-01-31', '2020-01-31', 100, NULL),
	('000011111001', '1 first by priority', 1, '2019-01-31', NULL, 99, NULL),
	('000011111001', '7 later id, too', 1, '2019-01-02', NULL, 100, NULL);
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111001', 'Amazon EC2', 0.50);
DO $$
BEGIN
	FOR line IN 1 .. 17 LOOP
		INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
			VALUES ('2019-01-01', '000011111001', 'Amazon EC2', 0.50);
	END LOOP;
END
$$;
SELECT memo_number, amount, balance_after
FROM memo_statement
WHERE account_id = '000011111001' AND entry_type = 'apply'
ORDER BY recorded_at;

-- one statement with all of it gives the same result
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on, priority, services)
	SELECT '000011111002', memo_number, amount, redeemed_on, expires_on, priority, services
	FROM credit_memo
	WHERE account_id = '000011111001'
	ORDER BY memo_id;
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT service_period, '000011111002', service, amount
	FROM utilization
	WHERE account_id = '000011111001';
SELECT memo_number, sum(amount) FILTER (WHERE account_id = '000011111001') AS line_by_line,
	sum(amount) FILTER (WHERE account_id = '000011111002') AS at_once
FROM memo_statement
WHERE account_id IN ('000011111001', '000011111002') AND entry_type = 'apply'
GROUP BY memo_number
ORDER BY memo_number;

-- several periods at once: the oldest is paid first
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111003', 25, '2019-01-01');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-03-01', '000011111003', 'Amazon EC2', 10),
	('2019-01-01', '000011111003', 'Amazon EC2', 10),
	('2019-02-01', '000011111003', 'Amazon EC2', 10);
SELECT service_period, utilization, credit, due
FROM unbilled
WHERE account_id = '000011111003'
ORDER BY service_period;

SELECT * FROM verify();
