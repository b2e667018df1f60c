/*
 * The tables that the variants in PL/pgSQL keep, as the extension has them, with its foreign keys among
 * them; accounts and memos are copied.
 *
 * Variable: schema.
 */
CREATE SCHEMA :schema;
SET search_path = :schema;

CREATE TABLE member_account (LIKE creditmemo.member_account INCLUDING ALL);
CREATE TABLE credit_memo (LIKE creditmemo.credit_memo INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE utilization (LIKE creditmemo.utilization INCLUDING ALL);
CREATE TABLE billing (LIKE creditmemo.billing INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE memo_entry (LIKE creditmemo.memo_entry INCLUDING ALL);

INSERT INTO member_account SELECT * FROM creditmemo.member_account;
INSERT INTO credit_memo SELECT * FROM creditmemo.credit_memo;
INSERT INTO memo_entry SELECT * FROM creditmemo.memo_entry;

ALTER TABLE credit_memo
	ADD FOREIGN KEY (account_id) REFERENCES member_account DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE billing
	ADD FOREIGN KEY (account_id) REFERENCES member_account,
	ADD FOREIGN KEY (account_id, service_period, folded_into) REFERENCES billing;
ALTER TABLE memo_entry
	ADD FOREIGN KEY (account_id, memo_id) REFERENCES credit_memo,
	ADD FOREIGN KEY (account_id, service_period, billing_no) REFERENCES billing,
	ADD FOREIGN KEY (account_id, memo_id, reverses) REFERENCES memo_entry;

RESET search_path;
