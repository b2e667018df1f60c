-- Member accounts moved to another customer or payer.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name, currency) VALUES ('ACME', 'Acme', 'USD'), ('ZEBRA', 'Zebra', 'USD'), ('EURO', 'Euro', 'EUR');
INSERT INTO payer_account VALUES ('999999999991'), ('999999999992');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES
	('000011111234', '999999999991', 'ACME'), ('000011115678', '999999999991', 'ACME');
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000011111234', 'A', 100, '2019-01-05');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon EC2', 100);

-- not while something of it is open
UPDATE member_account SET customer_id = 'ZEBRA' WHERE account_id = '000011111234';
UPDATE member_account SET payer_account_id = '999999999992' WHERE account_id = '000011111234';
UPDATE member_account SET name = 'Genome project' WHERE account_id = '000011111234';
SELECT invoice_number FROM issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05');
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000011111234', 'B', 1, '2019-01-05');
UPDATE member_account SET customer_id = 'ZEBRA' WHERE account_id = '000011111234';
SELECT memo_number FROM void_memo('B', 'the account moves');
UPDATE member_account SET customer_id = 'EURO' WHERE account_id = '000011111234';
UPDATE member_account SET customer_id = 'NOBODY' WHERE account_id = '000011111234';
SELECT invoice_number, customer_id, customer_name, currency, total_utilization, credit_applied FROM invoice_face;
UPDATE member_account SET customer_id = 'ZEBRA', payer_account_id = '999999999992' WHERE account_id = '000011111234';
-- an account without books may go to another currency
UPDATE member_account SET customer_id = 'EURO' WHERE account_id = '000011115678';

-- earlier invoices keep what they said, and are not voided into somebody else's hands
SELECT invoice_number, customer_id, customer_name, currency, total_utilization, credit_applied FROM invoice_face;
SELECT invoice_number, account_id, currency, utilization, credit_applied FROM invoice_body;
SELECT void_invoice('SI1', 'wrong');
-- nor does a refund of theirs pay for somebody else
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon EC2', -60);
-- what comes from now on is the new customer's
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000011111234', 'Amazon EC2', 40);
SELECT customer_id, account_id, utilization FROM unbilled;
SELECT invoice_number FROM issue_invoice('SI2', 'ACME', '2019-02-01', '2019-03-05');
SELECT invoice_number FROM issue_invoice('SI3', 'ZEBRA', '2019-02-01', '2019-03-05');
SELECT invoice_number, customer_id, total_utilization FROM invoice_face ORDER BY invoice_number;

-- a memo that has expired would come back if its month were opened again
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on) VALUES ('000011111234', 'C', 5, '2019-03-01', '2019-03-31');
SELECT close_period('2019-03-01');
UPDATE member_account SET customer_id = 'ACME' WHERE account_id = '000011111234';
SELECT memo_number FROM void_memo('C', 'the account moves back');
UPDATE member_account SET customer_id = 'ACME' WHERE account_id = '000011111234';

SELECT * FROM verify();
