-- What people say of other billing systems, by its symptom, and what happens here instead.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999'), ('888888888888');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES
	('once', '999999999999', 'ACME'), ('back', '999999999999', 'ACME'), ('twice', '999999999999', 'ACME'),
	('in time', '888888888888', 'ACME'), ('later', '999999999999', 'ACME'), ('repeated', '999999999999', 'ACME'),
	('by hand', '999999999999', 'ACME'), ('cent', '999999999999', 'ACME'), ('thirds', '999999999999', 'ACME');
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
CREATE VIEW public.billings AS
	SELECT account_id, service_period, billing_no, invoice_number, utilization, credit, due, prior_balance, balance_after
	FROM billing
	WHERE folded_into IS NULL
	ORDER BY account_id, service_period, billing_no;

-- "One credit was used by two invoices."  The second gets what the first has left.  (Two at once: the
-- specs pairs_*, invoices with loads, memos and each other.)
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('once', 'CM-once', 100, '2019-01-15');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', 'once', 'Amazon EC2', 80), ('2019-02-01', 'once', 'Amazon EC2', 80);
SELECT invoice_number FROM issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05', '{once}');
SELECT invoice_number FROM issue_invoice('SI2', 'ACME', '2019-02-01', '2019-03-05', '{once}');
SELECT invoice_number, utilization, credit, due, prior_balance, balance_after FROM public.billings WHERE account_id = 'once';
-- nor does an invoice that is voided and issued again use it again
SELECT invoice_number FROM void_invoice('SI1', 'wrong address');
SELECT invoice_number FROM issue_invoice('SI3', 'ACME', '2019-01-01', '2019-03-06', '{once}');
SELECT service_period, invoice_number, credit, due, prior_balance, balance_after FROM public.billings WHERE account_id = 'once';
SELECT balance, applied FROM memo_balance WHERE account_id = 'once';

-- "The invoice was voided and the credit is gone."  What it had paid is on the open billing, and free
-- again when that changes; the customer is told so.
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('back', 'CM-back', 100, '2019-01-15');
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	VALUES ('2019-01-01', 'back', 'Amazon EC2', 80, 'wrong');
SELECT invoice_number FROM issue_invoice('SI4', 'ACME', '2019-01-01', '2019-02-05', '{back}');
SELECT invoice_number FROM void_invoice('SI4', 'charged to the wrong account');
SELECT available, pending, invoiced_balance FROM account_balance WHERE account_id = 'back';
DELETE FROM utilization WHERE account_id = 'back' AND source_id = 'wrong';
SELECT available, pending, invoiced_balance FROM account_balance WHERE account_id = 'back';
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', 'back', 'Amazon EC2', 95);
SELECT invoice_number FROM issue_invoice('SI5', 'ACME', '2019-02-01', '2019-03-05', '{back}');
SELECT invoice_number, credit, due, prior_balance, balance_after FROM public.billings
WHERE account_id = 'back' AND invoice_number IS NOT NULL;
-- where another month waits for it, that is paid at once
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-03-01', 'back', 'Amazon EC2', 60);
SELECT credit, due FROM unbilled WHERE account_id = 'back';
SELECT invoice_number FROM void_invoice('SI5', 'charged too much');
UPDATE utilization SET amount = 50 WHERE account_id = 'back' AND service_period = '2019-02-01';
SELECT service_period, utilization, credit, due FROM unbilled WHERE account_id = 'back' ORDER BY service_period;
SELECT entry_no, entry_type, amount, balance_after, service_period, billing_no, reverses
FROM memo_statement
WHERE account_id = 'back'
ORDER BY entry_no;

-- "The invoice was voided and the credit came back twice": by a second void, by a refund and the void,
-- by the memo's own void.
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('twice', 'CM-twice', 100, '2019-01-15');
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	VALUES ('2019-01-01', 'twice', 'Amazon EC2', 80, 'charge');
SELECT invoice_number FROM issue_invoice('SI6', 'ACME', '2019-01-01', '2019-02-05', '{twice}');
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	VALUES ('2019-01-01', 'twice', 'Amazon EC2', -30, 'refund');
SELECT balance FROM credit_memo WHERE account_id = 'twice';
SELECT invoice_number FROM void_invoice('SI6', 'refunded');
SELECT billing_no, utilization, credit, due FROM unbilled WHERE account_id = 'twice';
SELECT balance FROM credit_memo WHERE account_id = 'twice';
SELECT invoice_number FROM void_invoice('SI6', 'refunded');
DELETE FROM utilization WHERE account_id = 'twice';
SELECT balance FROM credit_memo WHERE account_id = 'twice';
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	VALUES ('2019-01-01', 'twice', 'Amazon EC2', 70, 'charge');
SELECT balance, voided_at IS NOT NULL AS is_void FROM void_memo('CM-twice', 'withdrawn by AWS');
SELECT utilization, credit, due FROM unbilled WHERE account_id = 'twice';
DELETE FROM utilization WHERE account_id = 'twice';
SELECT entry_no, entry_type, amount, balance_after, billing_no, reverses
FROM memo_statement
WHERE account_id = 'twice'
ORDER BY entry_no;

-- "The credit had expired when the bill came, although it was used in time."  The month of usage counts,
-- whenever it is loaded or invoiced: all of this happens years later.
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on)
	VALUES ('in time', 'CM-in-time', 100, '2019-01-15', '2019-02-10');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-03-01', 'in time', 'Amazon EC2', 20), ('2019-02-01', 'in time', 'Amazon EC2', 30);
SELECT service_period, credit, due FROM unbilled WHERE account_id = 'in time' ORDER BY service_period;
SELECT balance, status FROM memo_balance WHERE account_id = 'in time';
SELECT invoice_number FROM issue_invoice('SI7', 'ACME', '2019-02-01', '2019-08-05', '{in time}');
-- late lines, too, until the month is closed; that is when the rest expires, and not for longer
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', 'in time', 'Amazon EC2', 5);
SELECT billing_no, credit, due FROM unbilled WHERE account_id = 'in time' AND service_period = '2019-02-01';
SELECT invoice_number FROM issue_invoice('SI8', 'ACME', '2019-02-01', '2019-09-05', '{in time}');
SELECT close_period('2019-02-01', '888888888888');
SELECT balance, status FROM memo_balance WHERE account_id = 'in time';
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', 'in time', 'Amazon EC2', 1);
SELECT reopen_period('2019-02-01', '888888888888', 'AWS restated February');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', 'in time', 'Amazon EC2', 1);
SELECT billing_no, credit, due FROM unbilled WHERE account_id = 'in time' AND service_period = '2019-02-01';
SELECT entry_no, entry_type, amount, balance_after, service_period, billing_no
FROM memo_statement
WHERE account_id = 'in time'
ORDER BY entry_no;

-- "A credit of March paid January."  A memo pays from the month of its redemption on; also what is loaded
-- or becomes open later.
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', 'later', 'Amazon EC2', 10), ('2019-02-01', 'later', 'Amazon EC2', 20), ('2019-03-01', 'later', 'Amazon EC2', 30);
SELECT invoice_number FROM issue_invoice('SI9', 'ACME', '2019-01-01', '2019-02-05', '{later}');
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('later', 'CM-later', 100, '2019-03-31');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', 'later', 'Amazon EC2', 5);
SELECT invoice_number FROM void_invoice('SI9', 'wrong address');
SELECT service_period, credit, due FROM unbilled WHERE account_id = 'later' ORDER BY service_period;
SELECT balance FROM credit_memo WHERE account_id = 'later';

-- "The bill was loaded twice and charged twice."  With the loader's own keys a repeated load changes
-- nothing, be it ignored or written over; not even when the month is invoiced.
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('repeated', 'CM-repeated', 100, '2019-01-15');
CREATE TABLE public.bill (service_period date, account_id text, service text, amount numeric, source_id text);
INSERT INTO public.bill VALUES
	('2019-01-01', 'repeated', 'Amazon EC2', 75.50, '2019-01-a'), ('2019-01-01', 'repeated', 'Amazon S3', 30, '2019-01-b');
INSERT INTO utilization (service_period, account_id, service, amount, source_id) SELECT * FROM public.bill
	ON CONFLICT (account_id, source_id) DO NOTHING;
INSERT INTO utilization (service_period, account_id, service, amount, source_id) SELECT * FROM public.bill
	ON CONFLICT (account_id, source_id) DO NOTHING;
INSERT INTO utilization (service_period, account_id, service, amount, source_id) SELECT * FROM public.bill
	ON CONFLICT (account_id, source_id) DO UPDATE SET service = excluded.service, amount = excluded.amount;
INSERT INTO utilization (service_period, account_id, service, amount, source_id) SELECT * FROM public.bill;
SELECT utilization, credit, due FROM unbilled WHERE account_id = 'repeated';
SELECT entry_no, entry_type, amount FROM memo_statement WHERE account_id = 'repeated' ORDER BY entry_no;
SELECT invoice_number FROM issue_invoice('SI10', 'ACME', '2019-01-01', '2019-02-05', '{repeated}');
INSERT INTO utilization (service_period, account_id, service, amount, source_id) SELECT * FROM public.bill
	ON CONFLICT (account_id, source_id) DO NOTHING;
INSERT INTO utilization (service_period, account_id, service, amount, source_id) SELECT * FROM public.bill
	ON CONFLICT (account_id, source_id) DO UPDATE SET service = excluded.service, amount = excluded.amount;
-- a changed line is refused then; the difference is a line of its own
UPDATE public.bill SET amount = 80 WHERE source_id = '2019-01-a';
INSERT INTO utilization (service_period, account_id, service, amount, source_id) SELECT * FROM public.bill
	ON CONFLICT (account_id, source_id) DO UPDATE SET service = excluded.service, amount = excluded.amount;
SELECT billing_no, invoice_number, utilization, credit, due FROM public.billings WHERE account_id = 'repeated';
SELECT count(*), sum(amount) FROM utilization WHERE account_id = 'repeated';
DROP TABLE public.bill;

-- "The balance changed and nobody knows why."  Each movement is an entry, and nothing else moves a balance.
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('by hand', 'CM-by-hand', 100, '2019-01-15');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', 'by hand', 'Amazon EC2', 40);
UPDATE credit_memo SET balance = 100 WHERE account_id = 'by hand';
UPDATE credit_memo SET amount = 200 WHERE account_id = 'by hand';
DELETE FROM credit_memo WHERE account_id = 'by hand';
UPDATE billing SET credit = 0 WHERE account_id = 'by hand';
UPDATE memo_entry SET amount = -30 WHERE account_id = 'by hand' AND entry_no = 2;
DELETE FROM memo_entry WHERE account_id = 'by hand';
TRUNCATE utilization;
SELECT balance FROM credit_memo WHERE account_id = 'by hand';
SELECT m.account_id, m.balance, sum(e.amount) AS entries, b.balance AS as_of_now
FROM credit_memo m
JOIN memo_entry e USING (account_id, memo_id)
JOIN balance_as_of('infinity') b USING (account_id, memo_id)
GROUP BY m.account_id, m.memo_id, b.balance
ORDER BY m.account_id;

-- "A cent is left over that can never be paid."  Amounts are cents, a fraction of one is refused instead of
-- rounded, and sums are exact: the last cent of a memo pays the last cent of a charge.
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('cent', 'CM-cent', 0.30, '2019-01-15');
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT '2019-01-01', 'cent', 'Amazon SNS', 0.01 FROM generate_series(1, 10);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-02-01', 'cent', 'Amazon SNS', 0.1), ('2019-02-01', 'cent', 'Amazon SQS', 0.1);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-03-01', 'cent', 'Amazon SNS', 0.005);
SELECT service_period, utilization, credit, due FROM unbilled WHERE account_id = 'cent' ORDER BY service_period;
SELECT amount, applied, balance, status FROM memo_balance WHERE account_id = 'cent';
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, services) VALUES
	('thirds', 'CM-thirds', 100, '2019-01-15', NULL), ('thirds', 'CM-S3', 33.34, '2019-01-15', '{Amazon S3}');
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT make_date(2019, month, 1), 'thirds', 'Amazon EC2', 33.33 FROM generate_series(1, 3) month;
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-03-01', 'thirds', 'Amazon S3', 33.35);
SELECT service_period, utilization, credit, due FROM unbilled WHERE account_id = 'thirds' ORDER BY service_period;
SELECT memo_number, amount, applied, balance, status FROM memo_balance WHERE account_id = 'thirds' ORDER BY memo_number;

DROP VIEW public.billings;
SELECT * FROM verify();
