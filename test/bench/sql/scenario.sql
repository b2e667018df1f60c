/*
 * Forty accounts with one to four memos each, of all orders of spending, that run out; and the lines of
 * three months, in statements of one and of many.  Makes public.statement: what to run, in order,
 * in two parts.
 */
CREATE EXTENSION creditmemo;
INSERT INTO creditmemo.customer (customer_id, name) VALUES ('C', 'Customer');
INSERT INTO creditmemo.payer_account (payer_account_id) VALUES ('999999999999');
INSERT INTO creditmemo.member_account (account_id, payer_account_id, customer_id)
SELECT 'account ' || a, '999999999999', 'C' FROM generate_series(1, 40) a;
INSERT INTO creditmemo.po_assignment (account_id, po_number)
SELECT account_id, 'PO' FROM creditmemo.member_account;
SELECT setseed(0.5) \g /dev/null
INSERT INTO creditmemo.credit_memo (account_id, amount, priority, redeemed_on, expires_on)
SELECT 'account ' || a, 1 + (random() * 8000)::integer * 0.01, 100 + (random() * 1.4)::integer,
	date '2019-01-10' + (random() * 80)::integer,
	CASE WHEN random() < 0.6 THEN date '2019-04-10' + (random() * 3)::integer * 10 END
FROM generate_series(1, 40) a, generate_series(1, 4) m
WHERE m <= 1 + a % 4;

-- lines of one statement are in the order in which the months are settled
CREATE TABLE public.line AS
SELECT s AS statement_no, date '2019-01-01' + ((greatest(s / 12 - 1, 0) + m) || ' months')::interval AS service_period,
	'account ' || 1 + (random() * 39)::integer AS account_id, 'Service ' || n % 3 AS service,
	(random() * 1000)::integer * 0.01 AS amount, random() < 0.9 AS creditable
FROM generate_series(1, 35) s, generate_series(0, 1) m, generate_series(1, 60) n
WHERE CASE WHEN s % 3 = 0 THEN n = 1 AND m = 0 ELSE true END;
CREATE TABLE public.statement AS
SELECT s AS statement_no, CASE WHEN s <= 11 THEN 1 ELSE 2 END AS part, format('INSERT INTO utilization (service_period, account_id, service, amount, creditable) '
	'SELECT service_period, account_id, service, amount, creditable FROM public.line '
	'WHERE statement_no = %s ORDER BY service_period;', s) AS text
FROM generate_series(1, 35) s;
