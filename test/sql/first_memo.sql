-- The main job: $1,000.00 redeemed in January 2019 for the account ending in -1234, billed month
-- after month until the credit covers the last one in part.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name, email)
	VALUES ('ACME', 'Acme University', 'ap@acme.example');
INSERT INTO payer_account VALUES ('999999999999', 'Reseller payer');
INSERT INTO member_account (account_id, payer_account_id, customer_id, name)
	VALUES ('000011111234', '999999999999', 'ACME', 'Research');
INSERT INTO po_assignment (account_id, po_number) VALUES ('000011111234', 'PO-7001');

INSERT INTO credit_memo (account_id, amount, redeemed_on)
	VALUES ('000011111234', 1000.00, '2019-01-15')
	RETURNING memo_number, amount, first_period, last_period, po_number;
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', '000011111234', 'Amazon EC2', 75.50),
	('2019-01-01', '000011111234', 'Amazon S3', 24.50);

SELECT account_id, service_period, utilization, credit, due, prior_balance, balance_after, po_number
FROM unbilled;
SELECT invoice_number, customer_id, service_period, invoice_date, due_date, voided_at, void_reason
FROM issue_invoice('SI1001', 'ACME', '2019-01-01', '2019-02-05');
SELECT invoice_number, scope, total_utilization, credit_applied, balance_due FROM invoice_face;
SELECT invoice_number, account_id, utilization, credit_applied, due, po_number, prior_balance,
	balance_of_funds
FROM invoice_body;
SELECT * FROM invoice_line ORDER BY service;
SELECT recipient, subject FROM invoice_email;
\pset tuples_only on
\pset format unaligned
SELECT body_text FROM invoice_email;
\pset tuples_only off
\pset format aligned
SELECT entry_no, entry_type, amount, balance_after, service_period, billing_no, reverses
FROM memo_entry
ORDER BY entry_no;
SELECT memo_number, amount, applied, balance, status, months_left FROM memo_balance;
SELECT available, pending, invoiced_balance FROM account_balance;

-- eight more months, each loaded and invoiced in arrears
DO $$
BEGIN
	FOR month IN 1 .. 8 LOOP
		INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
		VALUES (date '2019-01-01' + make_interval(months => month), '000011111234', 'Amazon EC2',
				90 + month);
		PERFORM creditmemo.issue_invoice('SI' || 1001 + month, 'ACME',
			(date '2019-01-01' + make_interval(months => month))::date,
			(date '2019-02-05' + make_interval(months => month))::date);
	END LOOP;
END
$$;
SELECT f.invoice_number, f.service_period, f.total_utilization, f.credit_applied, f.balance_due,
	b.prior_balance, b.balance_of_funds
FROM invoice_face f
JOIN invoice_body b USING (invoice_number)
ORDER BY f.invoice_number;
SELECT memo_number, balance, months_left FROM memo_balance;

-- and a last one that the credit covers in part
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-10-01', '000011111234', 'Amazon EC2', 250);
SELECT available, pending, invoiced_balance FROM account_balance;
SELECT invoice_number, due_date FROM issue_invoice('SI1010', 'ACME', '2019-10-01', '2019-11-05');
SELECT total_utilization, credit_applied, balance_due FROM invoice_face WHERE invoice_number = 'SI1010';
\pset tuples_only on
\pset format unaligned
SELECT body_text FROM invoice_email WHERE invoice_number = 'SI1010';
\pset tuples_only off
\pset format aligned
SELECT memo_number, amount, applied, balance, status, months_left FROM memo_balance;
SELECT entry_no, entry_type, amount, balance_after, service_period, invoice_number
FROM memo_statement
ORDER BY entry_no;

-- without credit there is no block
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-11-01', '000011111234', 'Amazon EC2', 1234567.89);
SELECT invoice_number FROM issue_invoice('SI1011', 'ACME', '2019-11-01', '2019-12-05');
\pset tuples_only on
\pset format unaligned
SELECT body_text FROM invoice_email WHERE invoice_number = 'SI1011';
-- the first e-mail comes out as it did then
SELECT body_text FROM invoice_email WHERE invoice_number = 'SI1001';
\pset tuples_only off
\pset format aligned

-- money as documents show it
SELECT amount, currency, money_text(amount, currency)
FROM (VALUES (0, 'USD'), (0.05, 'USD'), (-0.05, 'USD'), (999.99, 'USD'), (1000, 'USD'),
			 (-1234567.8, 'USD'), (999999999999999.99, 'EUR'), (-12, 'EUR')) m (amount, currency);

SELECT * FROM verify();
