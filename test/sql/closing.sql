-- Service periods closed and opened again, and credit that ends with them.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme'), ('ZEBRA', 'Zebra');
INSERT INTO payer_account VALUES ('999999999991'), ('999999999992');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES
	('000011111234', '999999999991', 'ACME'), ('000011115678', '999999999992', 'ACME'), ('000022220000', '999999999992', 'ZEBRA');
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on) VALUES
	('000011111234', 'A', 100, '2019-01-05', '2019-02-15'), ('000011111234', 'B', 100, '2019-01-05', '2019-03-31'),
	('000011115678', 'C', 100, '2019-01-05', '2019-02-28'), ('000022220000', 'D', 100, '2019-01-05', NULL);
CREATE VIEW pg_temp.ledger AS
	SELECT memo_number, entry_no, entry_type, amount, balance_after, service_period
	FROM memo_statement
	ORDER BY account_id, memo_id, entry_no;

INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', '000011111234', 'Amazon EC2', 10), ('2019-02-01', '000011115678', 'Amazon EC2', 20);
-- what is not invoiced cannot be closed; the accounts are named
SELECT close_period('2019-02-01');
SELECT invoice_number FROM issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05');
SELECT close_period('2019-02-01', '999999999991');
SELECT account_id, closed_through FROM member_account ORDER BY account_id;
SELECT * FROM pg_temp.ledger;
SELECT memo_number, balance, status FROM memo_balance ORDER BY memo_number;
-- the others may go on
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011111234', 'Amazon EC2', 10);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000022220000', 'Amazon EC2', 10);
SELECT void_invoice('SI1', 'too late');
UPDATE utilization SET amount = 11 WHERE account_id = '000011111234';
UPDATE utilization SET amount = 10.0 WHERE account_id = '000011111234';
-- nobody closes twice
SELECT close_period('2019-02-01', '999999999991'), close_period('2019-01-01', '999999999991');
SELECT * FROM verify();

-- a memo that ends in an open month pays its usage, whenever that is loaded
SELECT invoice_number FROM issue_invoice('SI2', 'ACME', '2019-02-01', '2019-03-05');
SELECT invoice_number FROM issue_invoice('SI3', 'ZEBRA', '2019-02-01', '2019-03-05');
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000011115678', 'Amazon EC2', 7);
SELECT account_id, service_period, billing_no, credit FROM unbilled;
SELECT invoice_number FROM issue_invoice('SI4', 'ACME', '2019-02-01', '2019-03-06');

-- for all: those that were closed already stay as they are
SELECT close_period('2019-02-01');
SELECT account_id, closed_through FROM member_account ORDER BY account_id;
SELECT close_period('2019-03-01');
SELECT * FROM pg_temp.ledger;
SELECT account_id, available, pending FROM account_balance ORDER BY account_id;
SELECT * FROM verify();

-- opened again: what had expired comes back, and pays what is loaded now; later months are open again, too
SELECT reopen_period('2019-02-01', '999999999991', 'AWS restated February');
SELECT account_id, closed_through FROM member_account ORDER BY account_id;
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-02-01', '000011111234', 'Amazon EC2', 30);
SELECT * FROM pg_temp.ledger WHERE memo_number IN ('A', 'B');
SELECT reopen_period('2019-04-01', reason => 'nothing is closed there');
SELECT * FROM verify();
-- a memo that expired may be voided; it does not come back
SELECT memo_number, balance FROM void_memo('C', 'was a duplicate');
SELECT reopen_period('2019-01-01', reason => 'once more');
SELECT * FROM pg_temp.ledger WHERE memo_number = 'C';
SELECT memo_number, balance, status FROM memo_balance ORDER BY memo_number;
-- and closed again
SELECT invoice_number FROM issue_invoice('SI5', 'ACME', '2019-02-01', '2019-03-07');
SELECT close_period('2019-03-01');
SELECT * FROM pg_temp.ledger WHERE memo_number IN ('A', 'B');
SELECT service_period, payer_account_id, action, reason, accounts FROM period_closing ORDER BY recorded_at;
SELECT * FROM verify();

-- a closed month takes no more credit, even where it holds applications that cancel each other
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES ('000022221111', '999999999992', 'ZEBRA');
INSERT INTO po_assignment (account_id, po_number) VALUES ('000022221111', 'PO');
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES ('000022221111', 'E', 10, '2019-01-01');
INSERT INTO utilization (account_id, source_id, service_period, service, amount) VALUES ('000022221111', '01-a', '2019-01-01', 'Amazon EC2', 10);
SELECT invoice_number FROM issue_invoice('SI6', 'ZEBRA', '2019-01-01', '2019-02-05');
INSERT INTO utilization (account_id, source_id, service_period, service, amount) VALUES ('000022221111', '01-b', '2019-01-01', 'Amazon EC2', -4);
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, priority) VALUES ('000022221111', 'F', 10, '2019-01-01', 1);
DELETE FROM utilization WHERE account_id = '000022221111' AND source_id = '01-b';
INSERT INTO utilization (account_id, source_id, service_period, service, amount) VALUES ('000022221111', '02-a', '2019-02-01', 'Amazon EC2', 7);
SELECT close_period('2019-01-01');
SELECT memo_number, balance FROM void_memo('F', 'was a duplicate');
SELECT service_period, billing_no, utilization, credit, due FROM billing WHERE account_id = '000022221111' ORDER BY service_period, billing_no;
SELECT * FROM verify();
-- it is settled when it is opened again
SELECT reopen_period('2019-01-01', '999999999992', 'a void memo');
SELECT service_period, billing_no, utilization, credit, due FROM billing WHERE account_id = '000022221111' ORDER BY service_period, billing_no;
SELECT * FROM pg_temp.ledger WHERE memo_number IN ('E', 'F');
SELECT * FROM verify();

-- balances as of any time, from the ledger alone
SELECT recorded_at AS closed_at FROM period_closing ORDER BY recorded_at LIMIT 1 \gset
SELECT memo_number, b.balance AS balance_then, m.balance
FROM balance_as_of(:'closed_at') b
JOIN credit_memo m USING (account_id, memo_id)
ORDER BY memo_number;
SELECT count(*) FROM balance_as_of('2019-01-01');
SELECT count(*) FROM balance_as_of('infinity') b JOIN credit_memo m USING (account_id, memo_id) WHERE b.balance = m.balance;
SELECT count(*) FROM balance_as_of(NULL);
-- a month that has not ended is hardly meant
INSERT INTO payer_account VALUES ('999999999993');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES ('000022223333', '999999999993', 'ZEBRA');
SELECT close_period('9999-12-01', '999999999993');
SELECT * FROM verify();
