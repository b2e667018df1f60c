-- What users add to the tables is theirs: it is run, checked and kept as on any table, in a session that has
-- written to them before.
SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET search_path = creditmemo;

INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account VALUES ('999999999999');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT lpad(n::text, 12, '0'), '999999999999', 'ACME' FROM generate_series(1, 30) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
INSERT INTO credit_memo (account_id, amount, redeemed_on) SELECT account_id, 1000, '2019-01-05' FROM member_account;
-- use(FIRST, LAST): a line for each of these accounts, in one statement
CREATE FUNCTION public.use(first integer, last integer, amount numeric DEFAULT 10) RETURNS void LANGUAGE sql AS $$
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	SELECT '2019-01-01', lpad(n::text, 12, '0'), 'Amazon EC2', use.amount FROM generate_series(first, last) n
$$;
\pset tuples_only on
\set VERBOSITY terse
\pset format unaligned
SELECT public.use(1, 2);
SELECT public.use(2, 3);
-- what it takes to write to the tables is kept for the session, but not what others may change unseen
CREATE VIEW public.kept AS SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'creditmemo books';
SELECT * FROM public.kept;

-- a trigger that runs with rights and settings of its own, for one account and for many
CREATE TABLE public.noted (what text);
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
	INSERT INTO public.noted VALUES (concat_ws(' ', TG_WHEN, TG_OP, TG_TABLE_NAME));
	RETURN NEW;
END
$$;
CREATE TRIGGER note BEFORE INSERT OR UPDATE ON memo_entry FOR EACH ROW EXECUTE FUNCTION public.note();
CREATE TRIGGER note_before BEFORE INSERT OR UPDATE ON billing FOR EACH ROW EXECUTE FUNCTION public.note();
CREATE TRIGGER note_after AFTER INSERT OR UPDATE ON billing FOR EACH ROW EXECUTE FUNCTION public.note();
SELECT public.use(2, 2);
SELECT public.use(4, 4);
SELECT public.use(1, 8);
SELECT what, count(*) FROM public.noted GROUP BY what ORDER BY what;
SELECT * FROM public.kept;
DROP TRIGGER note ON memo_entry;
DROP TRIGGER note_before ON billing;
DROP TRIGGER note_after ON billing;
TRUNCATE public.noted;

-- a trigger whose function lies in our schema
CREATE FUNCTION creditmemo.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.noted VALUES (TG_NAME); RETURN NULL; END';
CREATE TRIGGER note AFTER INSERT ON memo_entry FOR EACH ROW EXECUTE FUNCTION creditmemo.note();
SELECT public.use(1, 1);
SELECT what, count(*) FROM public.noted GROUP BY what ORDER BY what;
DROP TRIGGER note ON memo_entry;
DROP FUNCTION creditmemo.note();
-- and a guard of theirs that uses our function
CREATE TRIGGER limited BEFORE UPDATE ON billing FOR EACH ROW WHEN (new.utilization > 100)
	EXECUTE FUNCTION creditmemo.refuse_change('At most 100.');
SELECT public.use(1, 1);
SELECT public.use(1, 1, 500);
DROP TRIGGER limited ON billing;

-- generated columns, where billings were updated before one is inserted
ALTER TABLE billing ADD COLUMN tag text GENERATED ALWAYS AS (account_id || '/' || billing_no) STORED;
SELECT public.use(1, 1);
SELECT public.use(7, 9);
SELECT public.use(10, 10);
SELECT count(*), count(tag) FROM billing;
ALTER TABLE billing DROP COLUMN tag;

-- indexes of other kinds, changed between statements
CREATE INDEX words ON memo_entry USING gin (to_tsvector('simple', entry_type));
CREATE INDEX ranges ON billing USING brin (service_period);
SELECT public.use(1, 1);
SELECT public.use(11, 11);
ALTER INDEX words SET (gin_pending_list_limit = 128);
ALTER INDEX ranges SET (autosummarize = on);
SELECT public.use(1, 12);
SELECT * FROM public.kept;
DROP INDEX words;
DROP INDEX ranges;
CREATE UNIQUE INDEX once ON memo_entry (account_id, amount) WHERE account_id = '000000000013' AND entry_no > 1;
SELECT public.use(13, 13);
SELECT public.use(13, 13);
DROP INDEX once;

-- foreign keys between our tables
ALTER TABLE credit_memo ADD COLUMN compensates text REFERENCES invoice DEFERRABLE INITIALLY DEFERRED;
INSERT INTO credit_memo (account_id, amount, redeemed_on, compensates) VALUES ('000000000001', 10, '2019-01-15', 'SI9');
ALTER TABLE credit_memo DROP COLUMN compensates;
-- and to and from tables of their own
CREATE TABLE public.service (name text PRIMARY KEY);
INSERT INTO public.service VALUES ('Amazon EC2');
ALTER TABLE memo_entry ADD FOREIGN KEY (service) REFERENCES public.service;
INSERT INTO credit_memo (account_id, amount, redeemed_on, priority, services) VALUES
	('000000000014', 10, '2019-01-15', 1, '{Amazon EC2}'), ('000000000015', 10, '2019-01-15', 1, '{Amazon S3}');
SELECT public.use(14, 14);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000000000015', 'Amazon S3', 5);
ALTER TABLE memo_entry DROP CONSTRAINT memo_entry_service_fkey;
CREATE TABLE public.attachment (account_id text, memo_id bigint, FOREIGN KEY (account_id, memo_id) REFERENCES credit_memo);
INSERT INTO public.attachment SELECT account_id, memo_id FROM credit_memo WHERE account_id = '000000000014';
SELECT public.use(14, 15);
DROP TABLE public.attachment;

-- checks: added, replaced by another function, and using a plan that is no longer good
ALTER TABLE memo_entry ADD CONSTRAINT small CHECK (amount > -50);
SELECT public.use(16, 16, 60);
ALTER TABLE memo_entry DROP CONSTRAINT small;
SELECT public.use(16, 16, 60);
CREATE FUNCTION public.is_allowed(numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > -50';
ALTER TABLE memo_entry ADD CONSTRAINT allowed CHECK (public.is_allowed(amount)) NOT VALID;
SELECT public.use(17, 17, 40);
SELECT public.use(17, 17, 60);
CREATE OR REPLACE FUNCTION public.is_allowed(numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > -70';
SELECT public.use(17, 17, 60);
CREATE TABLE public.allowed (least numeric PRIMARY KEY);
INSERT INTO public.allowed SELECT -n FROM generate_series(1, 500) n;
ANALYZE public.allowed;
CREATE OR REPLACE FUNCTION public.is_allowed(numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT count(*) > 0 FROM public.allowed WHERE least = -7';
BEGIN;
SELECT public.use(18, 18);
ALTER TABLE public.allowed DROP CONSTRAINT allowed_pkey;
SELECT public.use(18, 19);
COMMIT;
SELECT * FROM public.kept;
-- it is called with the rights of whoever inserts
CREATE ROLE regress_clerk;
GRANT USAGE ON SCHEMA creditmemo TO regress_clerk;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA creditmemo TO regress_clerk;
GRANT SELECT ON public.allowed TO regress_clerk;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA creditmemo TO regress_clerk;
REVOKE EXECUTE ON FUNCTION public.is_allowed(numeric) FROM PUBLIC;
SELECT public.use(20, 20);
SET ROLE regress_clerk;
SELECT public.use(20, 21);
RESET ROLE;
ALTER TABLE memo_entry DROP CONSTRAINT allowed;
SELECT public.use(20, 20);
SET ROLE regress_clerk;
SELECT public.use(20, 21);
RESET ROLE;
DROP OWNED BY regress_clerk;
DROP ROLE regress_clerk;

-- a trigger that writes to other tables of ours, and changes one that is written next
CREATE FUNCTION public.change_tables() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('public.change_tables', true) = 'on' THEN
		INSERT INTO creditmemo.po_assignment (account_id, po_number) VALUES ('000000000030', 'nested');
		ALTER TABLE creditmemo.memo_entry ADD CONSTRAINT large CHECK (amount > -50) NOT VALID,
			ADD CONSTRAINT larger CHECK (amount > -500) NOT VALID;
	END IF;
	RETURN NEW;
END
$$;
CREATE TRIGGER change_tables BEFORE INSERT ON billing FOR EACH ROW EXECUTE FUNCTION public.change_tables();
SELECT public.use(22, 22);
SET public.change_tables = on;
BEGIN;
SELECT public.use(23, 23, 40);
ROLLBACK;
SELECT public.use(23, 23, 60);
DROP TRIGGER change_tables ON billing;
-- one that fails, caught
DO $$
BEGIN
	PERFORM public.use(24, 24);
	PERFORM public.use(25, 25, 0.001);
EXCEPTION WHEN check_violation THEN
	PERFORM public.use(26, 26);
END
$$;
SELECT public.use(24, 26);

-- a trigger that changes the books that the statement is at work on
CREATE FUNCTION public.refund_others() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
		SELECT '2019-01-01', account_id, 'Refund', -1 FROM creditmemo.billing
		WHERE account_id > NEW.account_id;
	RETURN NEW;
END
$$;
SELECT public.use(28, 30);
CREATE TRIGGER refund_others BEFORE UPDATE ON billing FOR EACH ROW WHEN (pg_trigger_depth() < 2)
	EXECUTE FUNCTION public.refund_others();
SELECT public.use(28, 30);
DROP TRIGGER refund_others ON billing;
SELECT public.use(28, 30);

-- one that deletes the account that is billed
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT '000000000031', payer_account_id, customer_id FROM member_account LIMIT 1;
CREATE FUNCTION public.delete_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM creditmemo.member_account WHERE account_id = NEW.account_id;
	RETURN NEW;
END
$$;
CREATE TRIGGER delete_account BEFORE INSERT ON billing FOR EACH ROW EXECUTE FUNCTION public.delete_account();
SELECT public.use(31, 31);
DROP TRIGGER delete_account ON billing;

-- columns added and dropped, tables written anew
ALTER TABLE memo_entry ADD COLUMN checked_by text DEFAULT current_user;
ALTER TABLE billing ADD COLUMN first text, ADD COLUMN second text;
ALTER TABLE billing DROP COLUMN first;
SELECT public.use(27, 28);
VACUUM FULL billing;
CLUSTER credit_memo USING credit_memo_pkey;
REINDEX TABLE CONCURRENTLY memo_entry;
SELECT public.use(27, 29);
SELECT * FROM public.kept;
SELECT count(*), sum(credit) FROM billing;
SELECT * FROM verify();
