-- AWS's credit beside ours: who got whose, what we owe, where it should have gone; and the egress waiver.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
\set SHOW_CONTEXT never
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme'), ('HARBOR', 'Harbor');
INSERT INTO payer_account VALUES ('990000000001'), ('990000000002');
INSERT INTO member_account (account_id, payer_account_id, customer_id, name) VALUES
	('000011111234', '990000000001', 'ACME', 'Genome'), ('410022225501', '990000000001', 'HARBOR', 'Production'),
	('410022227702', '990000000001', 'HARBOR', 'Research'), ('410022229903', '990000000001', 'HARBOR', 'Archive');
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO-1' FROM member_account;

/*
 * Three months.  -1234 redeemed 100: in January AWS gives it 30 of that, 60 to -5501, 10 to -7702; in
 * February it takes 12 back from -5501; in March -1234 gets those 12.  -7702 has 5 of nobody knows whom,
 * and -5501 has 7 of an account that is not ours.
 */
INSERT INTO provider_credit (service_period, payer_account_id, account_id, owner_account_id, provider_credit_id, amount) VALUES
	('2019-01-01', '990000000001', '000011111234', '000011111234', 'Promo', -30),
	('2019-01-01', '990000000001', '410022225501', '000011111234', 'Promo', -60),
	('2019-01-01', '990000000001', '410022227702', '000011111234', 'Promo', -10),
	('2019-01-01', '990000000001', '410022227702', NULL, 'Unknown', -5),
	('2019-01-01', '990000000001', '410022225501', '777777777777', 'Foreign', -7),
	('2019-02-01', '990000000001', '410022225501', '000011111234', 'Promo', 12),
	('2019-03-01', '990000000001', '000011111234', '000011111234', 'Promo', -12);
-- our memos pay -1234 30, 50 and 20; and -5501 25, invoiced, so that it stays when the memo is void, and 10, which do not
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, provider_credit_id) VALUES
	('000011111234', 'CM-A', 100, '2019-01-15', 'Promo'), ('410022225501', 'CM-B', 40, '2019-01-15', 'Elsewhere');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', '000011111234', 'Amazon EC2', 30), ('2019-02-01', '000011111234', 'Amazon EC2', 50),
	('2019-03-01', '000011111234', 'Amazon EC2', 90), ('2019-01-01', '410022225501', 'Amazon EC2', 25),
	('2019-02-01', '410022225501', 'Amazon EC2', 10);
SELECT invoice_number FROM issue_invoice('SI1', 'HARBOR', '2019-01-01', '2019-02-05');
SELECT balance FROM void_memo('CM-B', 'issued twice');
-- a supplementary billing gives 4 of January's 30 back, and they pay March
SELECT invoice_number FROM issue_invoice('SI2', 'ACME', '2019-01-01', '2019-02-05');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon EC2', -4);
SELECT service_period, right(account_id, 4) AS account, account_name, customer_id, aws_applied, aws_owned, spill_in, spill_out,
	memo_applied, difference, difference_to_date
FROM credit_reconciliation
ORDER BY account_id, service_period;
SELECT payer_account_id, service_period, sum(spill_in + spill_out) AS spill,
	bool_and(aws_applied = aws_owned + spill_in + spill_out) AS adds_up
FROM credit_reconciliation GROUP BY payer_account_id, service_period ORDER BY 1, 2;

-- an account that goes to another payer; nothing is lost or shown twice
INSERT INTO provider_credit (service_period, payer_account_id, account_id, owner_account_id, amount) VALUES
	('2019-01-01', '990000000001', '410022229903', '410022229903', -8);
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('410022229903', 8, '2019-01-15');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '410022229903', 'Amazon S3', 20);
SELECT invoice_number FROM issue_invoice('SI3', 'HARBOR', '2019-01-01', '2019-02-06');
UPDATE member_account SET payer_account_id = '990000000002' WHERE account_id = '410022229903';
INSERT INTO provider_credit (service_period, payer_account_id, account_id, owner_account_id, amount) VALUES
	('2019-02-01', '990000000002', '410022229903', '410022229903', -3),
	('2019-02-01', '990000000002', '410022229903', '000011111234', -1);
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('410022229903', 6, '2019-02-15');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '410022229903', 'Amazon S3', 2);
SELECT payer_account_id, service_period, account_id, aws_applied, aws_owned, spill_in, spill_out, memo_applied,
	difference, difference_to_date
FROM credit_reconciliation
WHERE account_id = '410022229903' OR payer_account_id = '990000000002'
ORDER BY account_id, service_period, payer_account_id;
SELECT sum(memo_applied) = (SELECT -sum(amount) FROM memo_entry WHERE service_period IS NOT NULL) AS every_entry_once,
	sum(aws_applied) = (SELECT -sum(amount) FROM provider_credit) AS every_credit_once, sum(spill_in + spill_out) AS spill
FROM credit_reconciliation;
SELECT * FROM verify();

/*
 * What we owe, by age and by expiry, by days from today.
 */
INSERT INTO customer (customer_id, name, currency) VALUES ('EURO', 'Euro', 'EUR');
INSERT INTO payer_account VALUES ('990000000003');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES
	('333300000001', '990000000003', 'EURO'), ('333300000002', '990000000003', 'EURO');
INSERT INTO po_assignment (account_id, po_number) VALUES ('333300000001', 'PO-8'), ('333300000002', 'PO-9');
INSERT INTO credit_memo (account_id, amount, redeemed_on, expires_on)
SELECT '333300000001', amount, current_date - age, current_date + ends
FROM (VALUES (1, 0, NULL), (2, 90, 0), (4, 91, 90), (8, 180, 91), (16, 181, NULL), (32, 365, NULL), (64, 366, -1),
	(128, 1000, 10)) memo (amount, age, ends);
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('333300000002', 256, current_date + 1);
-- void: left out
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('333300000002', 'CM-V', 512, current_date);
SELECT balance FROM void_memo('CM-V', 'wrong');
-- 1 + 2; 4 + 8; 16 + 32; 64 + 128.  Ended 64; within 90 days 2 + 4 + 128; later 8; never 1 + 16 + 32
\x on
SELECT * FROM credit_liability WHERE customer_id = 'EURO' ORDER BY po_number;
\x off
SELECT sum(open_credit) = (SELECT sum(balance) FROM credit_memo) AS all_of_it FROM credit_liability;

/*
 * Memos and the AWS credits that they stand for.  A credit is one only with its owner: CM-8 is another's.
 */
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, provider_credit_id) VALUES
	('333300000001', 'CM-1', 10, '2019-01-15', 'Equal'), ('333300000001', 'CM-2', 10, '2019-01-15', 'Less'),
	('333300000001', 'CM-3', 10, '2019-01-15', 'More'), ('333300000001', 'CM-4', 10, '2019-01-15', 'None'),
	('333300000001', 'CM-5', 4, '2019-01-15', 'Two'), ('333300000001', 'CM-6', 6, '2019-01-15', 'Two'),
	('333300000001', 'CM-7', 6, '2019-01-15', 'Void'), ('333300000002', 'CM-8', 10, '2019-01-15', 'Equal');
SELECT balance FROM void_memo('CM-7', 'wrong');
INSERT INTO provider_credit (service_period, payer_account_id, account_id, owner_account_id, provider_credit_id, amount) VALUES
	('2019-01-01', '990000000003', '333300000001', '333300000001', 'Equal', -10),
	('2019-01-01', '990000000003', '333300000002', '333300000001', 'Less', -9.99),
	('2019-01-01', '990000000003', '333300000001', '333300000001', 'More', -6),
	('2019-02-01', '990000000003', '333300000002', '333300000001', 'More', -5),
	('2019-01-01', '990000000003', '333300000001', '333300000001', 'Two', -10),
	('2019-01-01', '990000000003', '333300000001', '333300000001', 'Void', -6),
	('2019-01-01', '990000000003', '333300000001', '333300000001', 'No memo', -3),
	('2019-01-01', '990000000003', '333300000001', NULL, 'Of nobody', -2),
	('2019-01-01', '990000000003', '333300000001', '333300000001', NULL, -1);
SELECT * FROM memo_provider_credit
WHERE account_id LIKE '3333%' AND provider_credit_id IS NOT NULL
ORDER BY account_id, provider_credit_id;
-- and those above; without an id none is of the other
SELECT finding, count(*) FROM memo_provider_credit GROUP BY finding ORDER BY finding;

/*
 * Where AWS should have sent it.  Payer 4, January: -0001 uses 30 + 10, -0002 50 + 60, -0003 20.
 */
INSERT INTO payer_account VALUES ('990000000004');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT '44440000000' || n, '990000000004', 'ACME' FROM generate_series(1, 3) n;
INSERT INTO po_assignment (account_id, po_number) SELECT '44440000000' || n, 'PO-4' FROM generate_series(1, 3) n;
INSERT INTO utilization (service_period, account_id, service, amount, creditable) VALUES
	('2019-01-01', '444400000001', 'EC2', 30, true), ('2019-01-01', '444400000001', 'S3', 10, true),
	('2019-01-01', '444400000002', 'EC2', 50, true), ('2019-01-01', '444400000002', 'RDS', 60, true),
	('2019-01-01', '444400000003', 'EC2', 20, true), ('2019-01-01', '444400000003', 'Tax', 1000, false);
INSERT INTO credit_memo (account_id, amount, redeemed_on, expires_on, services, provider_credit_id) VALUES
	('444400000003', 500, '2019-01-02', '2019-12-31', '{EC2}', 'Limited'),
	('444400000001', 500, '2019-01-03', '2019-06-30', NULL, 'Soonest');
-- Soonest, 75: -0001 30 + 10, then -0002, which uses most, 35 of RDS; AWS took its EC2
-- Limited, 45: -0003 20, then the EC2 of -0002 25, and so AWS did
-- Unknown, 5: no memo, so last, and no owner: -0002, of what is left there
INSERT INTO provider_credit (service_period, payer_account_id, account_id, owner_account_id, provider_credit_id, service, amount) VALUES
	('2019-01-01', '990000000004', '444400000001', '444400000001', 'Soonest', 'EC2', -30),
	('2019-01-01', '990000000004', '444400000001', '444400000001', 'Soonest', 'S3', -10),
	('2019-01-01', '990000000004', '444400000002', '444400000001', 'Soonest', 'EC2', -35),
	('2019-01-01', '990000000004', '444400000003', '444400000003', 'Limited', 'EC2', -20),
	('2019-01-01', '990000000004', '444400000002', '444400000003', 'Limited', 'EC2', -25),
	('2019-01-01', '990000000004', '444400000002', NULL, 'Unknown', 'RDS', -5);
SELECT * FROM predicted_allocation('990000000004', '2019-01-01');
-- February: more credit than there is to pay, to an account that used nothing
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-02-01', '444400000001', 'EC2', 30), ('2019-02-01', '444400000001', 'EC2', -10),
	('2019-02-01', '444400000002', 'EC2', 5), ('2019-02-01', '444400000002', 'RDS', -5);
INSERT INTO provider_credit (service_period, payer_account_id, account_id, owner_account_id, provider_credit_id, service, amount) VALUES
	('2019-02-01', '990000000004', '444400000003', '444400000001', 'Soonest', 'EC2', -50);
SELECT * FROM predicted_allocation('990000000004', '2019-02-01');
SELECT * FROM predicted_allocation('990000000004', '2019-03-01');

/*
 * The egress waiver, of payer 5.
 */
INSERT INTO payer_account VALUES ('990000000005');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT '55550000000' || n, '990000000005', 'ACME' FROM generate_series(1, 3) n;
INSERT INTO po_assignment (account_id, po_number) SELECT '55550000000' || n, 'PO-5' FROM generate_series(1, 3) n;
INSERT INTO utilization (service_period, account_id, service, amount)
SELECT month, '55550000000' || account, service, amount
FROM (VALUES
	-- 15 % of 1000 is 150, egress 250: 100, 100, 50 of it
	(date '2019-01-01', 1, 'Out', 100), ('2019-01-01', 2, 'Out', 60), ('2019-01-01', 2, 'Out too', 40),
	('2019-01-01', 3, 'Out', 50), ('2019-01-01', 3, 'EC2', 750),
	-- egress 33.33 of 1000
	('2019-02-01', 1, 'Out', 0.01), ('2019-02-01', 3, 'Out', 33.32), ('2019-02-01', 2, 'EC2', 966.67),
	-- 15 % of 66.70 is 10.005, rounded 10.01: 3.33 each, and the two cents left over to the first two
	('2019-03-01', 1, 'Out', 10), ('2019-03-01', 2, 'Out', 10), ('2019-03-01', 3, 'Out', 10), ('2019-03-01', 3, 'EC2', 36.70),
	-- 15 % of 20.00 is 3.00: of egress 7, 2, 1 that is 2.10, 0.60, 0.30; a refund of 3 among the 7
	('2019-04-01', 1, 'Out', 10), ('2019-04-01', 1, 'Out', -3), ('2019-04-01', 2, 'Out', 2), ('2019-04-01', 3, 'Out', 1),
	('2019-04-01', 3, 'EC2', 10),
	-- an account with more refunds than egress
	('2019-05-01', 1, 'Out', -5), ('2019-05-01', 2, 'Out', 20), ('2019-05-01', 3, 'Out', 10), ('2019-05-01', 3, 'EC2', 15),
	-- all refunds
	('2019-06-01', 1, 'Out', -5), ('2019-06-01', 2, 'EC2', 100),
	-- a payer's total below zero
	('2019-07-01', 1, 'Out', 5), ('2019-07-01', 2, 'EC2', -100)) line (month, account, service, amount);
SELECT * FROM defw_waiver('990000000005', '2019-01-01', '{Out,Out too}') ORDER BY account_id;
SELECT * FROM defw_waiver('990000000005', '2019-01-01', '{Out}') ORDER BY account_id;
SELECT * FROM defw_waiver('990000000005', '2019-02-01', '{Out}') ORDER BY account_id;
SELECT * FROM defw_waiver('990000000005', '2019-03-01', '{Out}') ORDER BY account_id;
SELECT * FROM defw_waiver('990000000005', '2019-04-01', '{Out}') ORDER BY account_id;
SELECT * FROM defw_waiver('990000000005', '2019-05-01', '{Out}') ORDER BY account_id;
SELECT * FROM defw_waiver('990000000005', '2019-06-01', '{Out}') ORDER BY account_id;
SELECT * FROM defw_waiver('990000000005', '2019-07-01', '{Out}') ORDER BY account_id;
SELECT * FROM defw_waiver('990000000005', '2019-08-01', '{Out}') ORDER BY account_id;
SELECT * FROM defw_waiver('990000000005', '2019-01-01', '{}') ORDER BY account_id;
SELECT * FROM defw_waiver('404', '2019-01-01', '{Out}');
SELECT * FROM defw_waiver('990000000005', '2019-01-15', '{Out}');
SELECT * FROM predicted_allocation('990000000005', NULL);
-- and as memos, which pay what they are for
INSERT INTO credit_memo (account_id, credit_type, amount, redeemed_on, services)
SELECT account_id, 'DEFW', waiver, '2019-01-31', '{Out,Out too}'
FROM defw_waiver('990000000005', '2019-01-01', '{Out,Out too}')
RETURNING account_id, credit_type, amount;
SELECT account_id, utilization, credit, due FROM billing
WHERE account_id LIKE '5555%' AND service_period = '2019-01-01'
ORDER BY account_id;
SELECT * FROM verify();
