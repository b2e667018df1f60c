-- Which periods a memo may pay, and that it does not matter which came first, memo or utilization.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT '00001111' || n, '999999999999', 'ACME' FROM generate_series(1000, 1004) n;
INSERT INTO po_assignment (account_id, po_number)
	SELECT account_id, 'PO' FROM member_account;

-- memo first, utilization first
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES
	('000011111000', 'A', 70, '2019-01-15'), ('000011111000', 'B', 50, '2019-02-15');
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT month, account_id, 'Amazon EC2', 40
	FROM generate_series(date '2019-01-01', '2019-04-01', interval '1 month') month,
		(VALUES ('000011111000'), ('000011111001')) a (account_id);
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES
	('000011111001', 'A', 70, '2019-01-15'), ('000011111001', 'B', 50, '2019-02-15');
SELECT service_period, sum(credit) FILTER (WHERE account_id = '000011111000') AS memo_first,
	sum(credit) FILTER (WHERE account_id = '000011111001') AS utilization_first
FROM unbilled
GROUP BY service_period
ORDER BY service_period;
SELECT memo_number, sum(balance) FILTER (WHERE account_id = '000011111000') AS memo_first,
	sum(balance) FILTER (WHERE account_id = '000011111001') AS utilization_first
FROM memo_balance
GROUP BY memo_number
ORDER BY memo_number;

-- a memo redeemed in March pays nothing of February, whichever came first
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-02-01', '000011111002', 'Amazon EC2', 40);
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111002', 100, '2019-03-01');
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-02-01', '000011111002', 'Amazon EC2', 2), ('2019-03-01', '000011111002', 'Amazon EC2', 3);
SELECT service_period, utilization, credit, due FROM unbilled
WHERE account_id = '000011111002'
ORDER BY service_period;

-- a memo that ends in April pays April's utilization though that is loaded in June, and not May's
INSERT INTO credit_memo (account_id, amount, redeemed_on, expires_on)
	VALUES ('000011111003', 100, '2019-01-01', '2019-04-10');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-05-01', '000011111003', 'Amazon EC2', 5), ('2019-06-01', '000011111003', 'Amazon EC2', 6);
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-04-01', '000011111003', 'Amazon EC2', 4);
SELECT service_period, utilization, credit, due FROM unbilled
WHERE account_id = '000011111003'
ORDER BY service_period;

-- a month that was invoiced before the memo came is not paid; the next one is
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111004', 'Amazon EC2', 10);
SELECT invoice_number FROM issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05', '{000011111004}');
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('000011111004', 100, '2019-01-01');
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-02-01', '000011111004', 'Amazon EC2', 10);
SELECT service_period, billing_no, invoice_number, utilization, credit, due FROM billing
WHERE account_id = '000011111004'
ORDER BY service_period, billing_no;

SELECT * FROM verify();
