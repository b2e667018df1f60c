-- What CREATE EXTENSION makes, and that it can be dropped and made again in one session.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;

-- every table and every sequence is marked for pg_dump
SELECT c.relkind, c.relname, c.oid = ANY (e.extconfig) AS dumped
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN (SELECT extconfig FROM pg_extension WHERE extname = 'creditmemo') e
WHERE n.nspname = 'creditmemo' AND c.relkind IN ('r', 'S')
ORDER BY c.relkind, c.relname;

-- every table, view, column, function and domain is commented: no row
SELECT c.relname, a.attname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = 'creditmemo' AND c.relkind IN ('r', 'v')
	AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL);
SELECT p.oid::regprocedure
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'creditmemo' AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT t.typname
FROM pg_type t
JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = 'creditmemo' AND t.typtype = 'd' AND obj_description(t.oid, 'pg_type') IS NULL;

-- keys of the tables by account hold account_id, but where they point to what is not by account
SELECT conrelid::regclass, conname, pg_get_constraintdef(oid)
FROM pg_constraint
WHERE connamespace = 'creditmemo'::regnamespace AND contype IN ('p', 'u', 'f')
	AND conrelid IN ('creditmemo.member_account'::regclass, 'creditmemo.po_assignment'::regclass,
					 'creditmemo.credit_memo'::regclass, 'creditmemo.utilization'::regclass,
					 'creditmemo.billing'::regclass, 'creditmemo.memo_entry'::regclass,
					 'creditmemo.provider_credit'::regclass)
	AND NOT EXISTS (
		SELECT FROM pg_attribute a
		WHERE a.attrelid = conrelid AND a.attnum = ANY (conkey) AND a.attname = 'account_id')
ORDER BY 1, 2;

-- nothing is granted to PUBLIC but checks
CREATE ROLE regress_nobody;
SELECT c.relname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'creditmemo' AND c.relkind IN ('r', 'v')
	AND (has_table_privilege('regress_nobody', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
		 OR has_any_column_privilege('regress_nobody', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'));
SELECT p.proname
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'creditmemo' AND has_function_privilege('regress_nobody', p.oid, 'EXECUTE')
ORDER BY 1;
SELECT has_schema_privilege('regress_nobody', 'creditmemo', 'USAGE, CREATE');
DROP ROLE regress_nobody;

-- trigger functions serve their own triggers only
SELECT creditmemo.apply_utilization();
CREATE TABLE public.elsewhere (account_id text);
CREATE TRIGGER stray AFTER INSERT ON public.elsewhere
	FOR EACH STATEMENT EXECUTE FUNCTION creditmemo.apply_utilization();
INSERT INTO public.elsewhere VALUES ('1');
DROP TABLE public.elsewhere;
CREATE TRIGGER stray AFTER INSERT ON creditmemo.utilization
	FOR EACH STATEMENT EXECUTE FUNCTION creditmemo.apply_utilization();
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111234', 'Amazon EC2', 4);
DROP TRIGGER stray ON creditmemo.utilization;

-- it is not installed beside what somebody has put there, or may put there
-- (from PostgreSQL 18 on, the context of an error in a script quotes the script)
\set SHOW_CONTEXT never
DROP EXTENSION creditmemo;
CREATE FUNCTION creditmemo.check_money_amount(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE EXTENSION creditmemo;
DROP FUNCTION creditmemo.check_money_amount(text);
CREATE OPERATOR creditmemo.= (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text);
CREATE EXTENSION creditmemo;
DROP OPERATOR creditmemo.= (text, text);
CREATE ROLE regress_nobody;
ALTER SCHEMA creditmemo OWNER TO regress_nobody;
CREATE EXTENSION creditmemo;
ALTER SCHEMA creditmemo OWNER TO CURRENT_USER;
GRANT CREATE ON SCHEMA creditmemo TO regress_nobody;
CREATE EXTENSION creditmemo;
\set SHOW_CONTEXT errors
REVOKE CREATE ON SCHEMA creditmemo FROM regress_nobody;
DROP ROLE regress_nobody;
CREATE EXTENSION creditmemo;

-- a session that has used the extension goes on after it was dropped and made anew
INSERT INTO creditmemo.customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO creditmemo.payer_account VALUES ('999999999999');
INSERT INTO creditmemo.member_account (account_id, payer_account_id, customer_id)
	VALUES ('000011111234', '999999999999', 'ACME');
INSERT INTO creditmemo.po_assignment (account_id, po_number) VALUES ('000011111234', 'PO-1');
INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on) VALUES ('000011111234', 10, '2019-01-31');
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111234', 'Amazon EC2', 4);
SELECT balance FROM creditmemo.credit_memo;
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
INSERT INTO creditmemo.customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO creditmemo.payer_account VALUES ('999999999999');
INSERT INTO creditmemo.member_account (account_id, payer_account_id, customer_id)
	VALUES ('000011111234', '999999999999', 'ACME');
INSERT INTO creditmemo.po_assignment (account_id, po_number) VALUES ('000011111234', 'PO-1');

-- columns that users added and dropped again do not confuse it
ALTER TABLE creditmemo.member_account ADD COLUMN region text;
ALTER TABLE creditmemo.credit_memo ADD COLUMN region text;
ALTER TABLE creditmemo.utilization ADD COLUMN region text;
ALTER TABLE creditmemo.billing ADD COLUMN region text;
INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on) VALUES ('000011111234', 10, '2019-01-31');
ALTER TABLE creditmemo.member_account DROP COLUMN region;
ALTER TABLE creditmemo.credit_memo DROP COLUMN region;
ALTER TABLE creditmemo.utilization DROP COLUMN region;
ALTER TABLE creditmemo.billing DROP COLUMN region;
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111234', 'Amazon EC2', 4);
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	VALUES ('2019-01-01', '000011111234', 'Amazon EC2', -1);
SELECT balance FROM creditmemo.credit_memo;
SELECT * FROM creditmemo.verify();
