-- What can be changed of an issued memo, and what changing its expiry does.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES
	('000011111234', '999999999999', 'ACME'), ('000011115678', '999999999999', 'ACME');
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) VALUES
	('000011111234', 'A', 100, '2019-01-15'), ('000011111234', 'B', 100, '2019-01-16');

-- note, AWS's id and priority: the ledger stays as it is, the next line follows the priority
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111234', 'Amazon EC2', 10);
UPDATE credit_memo SET note = 'for the genome project', provider_credit_id = '12345678' WHERE memo_number = 'A';
UPDATE credit_memo SET priority = 1 WHERE memo_number = 'B';
INSERT INTO utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111234', 'Amazon EC2', 7);
SELECT memo_number, balance, note, priority FROM credit_memo ORDER BY memo_number;

-- a shorter expiry releases what it no longer may pay; others pay instead
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-02-01', '000011111234', 'Amazon EC2', 20), ('2019-03-01', '000011111234', 'Amazon EC2', 30);
SELECT memo_number, balance FROM credit_memo ORDER BY memo_number;
UPDATE credit_memo SET expires_on = '2019-02-10' WHERE memo_number = 'B';
SELECT memo_number, last_period, balance FROM credit_memo ORDER BY memo_number;
SELECT memo_number, entry_no, entry_type, amount, service_period, reverses
FROM memo_statement
ORDER BY memo_number, entry_no;

-- both end: what cannot be paid is due
UPDATE credit_memo SET expires_on = '2019-02-28';
SELECT service_period, utilization, credit, due FROM unbilled ORDER BY service_period;
-- and a longer one pays it again
UPDATE credit_memo SET expires_on = '2019-03-01' WHERE memo_number = 'A';
SELECT service_period, utilization, credit, due FROM unbilled ORDER BY service_period;
-- no end at all; the same again changes nothing
UPDATE credit_memo SET expires_on = NULL;
SELECT memo_number, last_period, balance, (SELECT max(entry_no) FROM memo_entry e WHERE e.memo_id = m.memo_id) AS entries
FROM credit_memo m
ORDER BY memo_number;
UPDATE credit_memo SET expires_on = NULL, amount = amount, balance = balance + 0.00, po_number = po_number;
SELECT memo_number, last_period, balance, (SELECT max(entry_no) FROM memo_entry e WHERE e.memo_id = m.memo_id) AS entries
FROM credit_memo m
ORDER BY memo_number;

-- what is invoiced stays paid though the memo ends before
SELECT invoice_number FROM issue_invoice('SI1', 'ACME', '2019-03-01', '2019-04-05');
UPDATE credit_memo SET expires_on = '2019-02-28';
SELECT service_period, invoice_number, utilization, credit, due FROM billing ORDER BY service_period;

-- an expiry that is not closed may not move into what is closed, nor out of it
SELECT invoice_number FROM issue_invoice('SI2', 'ACME', '2019-01-01', '2019-02-05');
SELECT close_period('2018-12-01');
UPDATE credit_memo SET expires_on = '2019-01-31';
SELECT close_period('2019-01-01');
UPDATE credit_memo SET expires_on = '2019-06-30' WHERE memo_number = 'A';
SELECT reopen_period('2019-01-01', reason => 'the credit was prolonged');
UPDATE credit_memo SET expires_on = '2019-06-30' WHERE memo_number = 'A';

SELECT * FROM verify();
