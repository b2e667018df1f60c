-- Who may do what: a reader, a biller, a loader that may only insert lines, and somebody to whom nothing is granted;
-- and what they try beyond.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;

CREATE ROLE regress_outsider;
CREATE ROLE regress_reader;
CREATE ROLE "regress_the biller";
CREATE ROLE regress_loader;
SELECT creditmemo.grant_reader('regress_reader');
SELECT creditmemo.grant_biller('"regress_the biller"');
GRANT USAGE ON SCHEMA creditmemo TO regress_loader;
GRANT INSERT (service_period, account_id, service, amount, source_id) ON creditmemo.utilization TO regress_loader;
GRANT CREATE ON SCHEMA public TO "regress_the biller";
SELECT creditmemo.grant_reader(0);
SELECT creditmemo.grant_biller(NULL);

-- ---------------------------------------------------------------------------------------------
-- What the catalogs say
-- ---------------------------------------------------------------------------------------------

CREATE VIEW public.member AS
SELECT c.oid, c.relname, c.relkind FROM pg_class c
WHERE c.relnamespace = 'creditmemo'::regnamespace AND c.relkind IN ('r', 'v', 'S');
GRANT SELECT ON public.member TO PUBLIC;

-- what there is and a reader cannot read: no row
SELECT relname FROM public.member WHERE relkind <> 'S' AND NOT has_table_privilege('regress_reader', oid, 'SELECT');
-- what he could write: no row
SELECT relname FROM public.member
WHERE CASE relkind WHEN 'S' THEN has_sequence_privilege('regress_reader', oid, 'USAGE, UPDATE')
	ELSE has_any_column_privilege('regress_reader', oid, 'INSERT, UPDATE, REFERENCES')
		OR has_table_privilege('regress_reader', oid, 'DELETE, TRUNCATE, TRIGGER') END;
SELECT has_schema_privilege('regress_reader', 'creditmemo', 'CREATE') OR has_schema_privilege('regress_the biller', 'creditmemo', 'CREATE') AS may_create;

-- what a biller can write, column by column
SELECT m.relname, privilege, string_agg(a.attname, ', ' ORDER BY a.attnum) AS columns
FROM public.member m
JOIN pg_attribute a ON a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN (VALUES ('INSERT'), ('UPDATE'), ('REFERENCES')) p (privilege)
WHERE m.relkind <> 'S' AND has_column_privilege('regress_the biller', m.oid, a.attnum, privilege)
GROUP BY 1, 2
ORDER BY 1, 2;
SELECT m.relname, privilege
FROM public.member m, (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE'), ('REFERENCES'), ('TRIGGER')) p (privilege)
WHERE m.relkind <> 'S' AND has_table_privilege('regress_the biller', m.oid, privilege)
ORDER BY 1, 2;
SELECT relname FROM public.member
WHERE CASE WHEN relkind = 'S' THEN has_sequence_privilege('regress_the biller', oid, 'USAGE, SELECT, UPDATE') END;

-- functions
SELECT p.proname, string_agg(r.rolname, ', ' ORDER BY r.rolname DESC) AS roles
FROM pg_proc p
LEFT JOIN pg_roles r ON r.rolname ~ '^regress_(outsider|reader|the biller)$' AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
WHERE p.pronamespace = 'creditmemo'::regnamespace
GROUP BY p.oid, p.proname
ORDER BY p.proname;

-- whoever is a member of a role has what the role has; what was granted can be taken back
CREATE ROLE regress_ana IN ROLE regress_reader;
SET ROLE regress_ana;
SELECT count(*) FROM creditmemo.memo_balance;
RESET ROLE;
REVOKE ALL ON ALL TABLES IN SCHEMA creditmemo FROM regress_reader;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA creditmemo FROM regress_reader;
REVOKE ALL ON TYPE creditmemo.money_amount, creditmemo.service_period FROM regress_reader;
REVOKE ALL ON SCHEMA creditmemo FROM regress_reader;
DROP ROLE regress_reader, regress_ana;
CREATE ROLE regress_reader;
SELECT creditmemo.grant_reader('regress_reader');

-- ---------------------------------------------------------------------------------------------
-- A month's work, as biller
-- ---------------------------------------------------------------------------------------------

SET ROLE "regress_the biller";
INSERT INTO creditmemo.customer (customer_id, name, email) VALUES ('ACME', 'Acme', 'ap@acme.example');
INSERT INTO creditmemo.customer (customer_id, name, currency) VALUES ('ACME', 'Acme Inc.', 'USD')
	ON CONFLICT (customer_id) DO UPDATE SET name = excluded.name, currency = excluded.currency;
INSERT INTO creditmemo.payer_account (payer_account_id, name) VALUES ('999999999999', 'Payer');
INSERT INTO creditmemo.member_account (account_id, payer_account_id, customer_id)
	VALUES ('000011111234', '999999999999', 'ACME'), ('000011115678', '999999999999', 'ACME');
UPDATE creditmemo.member_account SET name = 'Genome project' WHERE account_id = '000011111234';
INSERT INTO creditmemo.po_assignment (account_id, po_number) VALUES ('000011111234', 'PO-1'), ('000011115678', 'PO-2');
INSERT INTO creditmemo.credit_memo (account_id, memo_number, amount, redeemed_on)
	VALUES ('000011111234', 'CM1', 1000, '2019-01-15'), ('000011115678', 'CM2', 77.77, '2019-01-15');
UPDATE creditmemo.credit_memo SET note = 'For research', priority = 1 WHERE memo_number = 'CM1';
COPY creditmemo.utilization (service_period, account_id, service, amount, source_id) FROM stdin;
2019-01-01	000011111234	Amazon EC2	60	a
2019-01-01	000011111234	Amazon S3	40	b
2019-01-01	000011115678	Amazon EC2	12.34	a
\.
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id)
	VALUES ('2019-01-01', '000011111234', 'Amazon S3', 41, 'b')
	ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount;
UPDATE creditmemo.utilization SET amount = 40 WHERE source_id = 'b';
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '000011115678', 'Amazon S3', 1);
DELETE FROM creditmemo.utilization WHERE service = 'Amazon S3' AND account_id = '000011115678';
SELECT account_id, utilization, credit, due FROM creditmemo.unbilled ORDER BY account_id;
SELECT invoice_number, due_date FROM creditmemo.issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05');
SELECT invoice_number FROM creditmemo.void_invoice('SI1', 'wrong date');
SELECT invoice_number FROM creditmemo.issue_invoice('SI2', 'ACME', '2019-01-01', '2019-02-06');
SELECT memo_number, balance FROM creditmemo.void_memo('CM2', 'not theirs');
SELECT creditmemo.close_period('2019-01-01');
SELECT creditmemo.reopen_period('2019-01-01', reason => 'late lines');
INSERT INTO creditmemo.provider_credit (account_id, payer_account_id, service_period, amount, source_id)
	VALUES ('000011111234', '999999999999', '2019-01-01', -5, 'credit');
UPDATE creditmemo.provider_credit SET amount = -6;
DELETE FROM creditmemo.provider_credit;
CREATE TEMP TABLE bill (payer text, account text, cost numeric, category text, service text, description text, month date);
INSERT INTO bill VALUES ('999999999999', '000011111234', 7.005, 'Usage', 'Amazon EC2', '', '2019-02-01'),
	('999999999999', '000033334444', 8, 'Usage', 'Amazon EC2', '', '2019-02-01'),
	('999999999999', '000011111234', -1, 'Credit', 'Amazon EC2', 'Promo', '2019-02-01');
CREATE TEMP VIEW focus AS
SELECT payer AS billingaccountid, account AS subaccountid, cost AS billedcost, 'USD'::text AS billingcurrency,
	category AS chargecategory, service AS servicename, description AS chargedescription, month AS billingperiodstart
FROM bill;
CREATE TEMP VIEW cur AS
SELECT payer AS bill_payer_account_id, account AS line_item_usage_account_id, cost AS line_item_unblended_cost,
	'USD'::text AS line_item_currency_code, category AS line_item_line_item_type,
	description AS line_item_line_item_description, service AS line_item_product_code,
	month AS bill_billing_period_start_date
FROM bill;
SELECT lines_inserted, credits_read, rounded_total FROM creditmemo.import_focus('focus', 'ACME');
UPDATE bill SET cost = cost + 1 WHERE category = 'Usage';
INSERT INTO bill VALUES ('999999999999', '000011111234', 9, 'Usage', 'Amazon S3', '', '2019-02-01');
SELECT lines_inserted, lines_restated FROM creditmemo.import_cur('cur');
DELETE FROM bill WHERE service = 'Amazon S3' OR category = 'Credit';
SELECT lines_withdrawn, lines_unchanged FROM creditmemo.import_cur('cur');
DROP TABLE bill CASCADE;
SELECT * FROM creditmemo.verify();

-- reading it
SET ROLE regress_reader;
DO $$
DECLARE
	relation regclass;
BEGIN
	FOR relation IN SELECT oid FROM public.member WHERE relkind <> 'S' LOOP
		EXECUTE format('SELECT count(*) FROM (SELECT * FROM %s) r', relation);
	END LOOP;
END
$$;
SELECT subject FROM creditmemo.invoice_email WHERE invoice_number = 'SI2';
SELECT length(creditmemo.email_text('SI2')) > 0, length(creditmemo.email_html('SI2')) > 0,
	length(creditmemo.invoice_html('SI2')) > 0, length(creditmemo.statement_text('000011111234')) > 0,
	length(creditmemo.statement_html('000011111234')) > 0;
SELECT count(*) FROM creditmemo.balance_as_of(now());
SELECT count(*) FROM creditmemo.predicted_allocation('999999999999', '2019-02-01');
SELECT count(*) FROM creditmemo.defw_waiver('999999999999', '2019-01-01', '{Amazon EC2}');
SELECT * FROM creditmemo.verify();
RESET ROLE;

-- ---------------------------------------------------------------------------------------------
-- Nobody but the owner changes what triggers keep, by any statement
-- ---------------------------------------------------------------------------------------------

-- what becomes of a statement, which is undone: its SQLSTATE, or done
CREATE FUNCTION public.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RAISE SQLSTATE 'UNDO0';
EXCEPTION WHEN OTHERS THEN
	RETURN replace(SQLSTATE, 'UNDO0', 'done');
END
$$;
CREATE FUNCTION public.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;
CREATE FUNCTION public.books() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	contents text := '';
	part text;
	relation regclass;
BEGIN
	FOR relation IN SELECT oid FROM public.member WHERE relkind = 'r' ORDER BY relname LOOP
		EXECUTE format('SELECT string_agg(r::text, E''\n'' ORDER BY r::text) FROM %s r', relation) INTO part;
		contents := concat_ws(E'\n', contents, relation, part);
	END LOOP;
	RETURN md5(contents);
END
$$;
SELECT public.books() AS before \gset

-- every column and table, in each statement that can write it
CREATE VIEW public.attempt AS
SELECT m.relname, a.attname, a.attnum, s.kind,
	format(s.statement, m.oid::regclass, a.attname, format_type(a.atttypid, NULL)) AS statement
FROM public.member m
JOIN pg_attribute a ON a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN (VALUES
	('update', 'UPDATE %1$s SET %2$I = %2$I'),
	('insert', 'INSERT INTO %1$s (%2$I) SELECT NULL::%3$s WHERE false'),
	('update in with', 'WITH w AS (UPDATE %1$s SET %2$I = %2$I RETURNING 1) SELECT count(*) FROM w'),
	('update from', 'UPDATE %1$s SET %2$I = other.%2$I FROM %1$s other WHERE false'))
	s (kind, statement)
WHERE m.relkind = 'r' AND a.attgenerated = ''
UNION ALL
SELECT m.relname, NULL, NULL, s.kind, format(s.statement, m.oid::regclass, m.relname)
FROM public.member m
JOIN (VALUES
	('r', 'delete', 'DELETE FROM %s WHERE false'),
	('r', 'delete in with', 'WITH w AS (DELETE FROM %s WHERE false RETURNING 1) SELECT count(*) FROM w'),
	('r', 'truncate', 'TRUNCATE %s CASCADE'),
	('r', 'insert all', 'INSERT INTO %1$s SELECT * FROM %1$s ON CONFLICT DO NOTHING'),
	('r', 'lock rows', 'SELECT 1 FROM %s FOR UPDATE'),
	('r', 'lock', 'LOCK TABLE %s IN ACCESS EXCLUSIVE MODE'),
	('r', 'trigger', 'CREATE TRIGGER mine AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()'),
	('r', 'rule', 'CREATE RULE mine AS ON INSERT TO %s DO INSTEAD NOTHING'),
	('r', 'no triggers', 'ALTER TABLE %s DISABLE TRIGGER ALL'),
	('r', 'owner', 'ALTER TABLE %s OWNER TO CURRENT_USER'),
	('r', 'inherit', 'CREATE TEMP TABLE mine () INHERITS (%s)'),
	('r', 'index', 'CREATE INDEX ON %s ((1))'),
	('r', 'policy', 'ALTER TABLE %s ENABLE ROW LEVEL SECURITY'),
	('r', 'drop', 'DROP TABLE %s CASCADE'),
	('r', 'rename', 'ALTER TABLE %s RENAME TO mine'),
	('v', 'replace', 'CREATE OR REPLACE VIEW %s AS SELECT 1'),
	('v', 'drop', 'DROP VIEW %s CASCADE'),
	('S', 'nextval', 'SELECT nextval(%L)'),
	('S', 'setval', 'SELECT setval(%L, 1)'),
	('S', 'restart', 'ALTER SEQUENCE %s RESTART'))
	s (relkind, kind, statement) ON s.relkind = m.relkind::text;
CREATE VIEW public.possible AS
SELECT relname, kind, string_agg(attname || CASE outcome WHEN 'done' THEN '' ELSE ' ' || outcome END, ', ' ORDER BY attnum) AS columns,
	max(outcome) FILTER (WHERE attname IS NULL) AS outcome
FROM (SELECT relname, attname, attnum, kind, public.outcome(statement) AS outcome FROM public.attempt) a
WHERE outcome NOT IN ('42501', '428C9')
GROUP BY relname, kind;
GRANT SELECT ON public.possible TO PUBLIC;

SELECT count(DISTINCT relname) AS tables, count(*) > 700 AS attempts FROM public.attempt;
SET ROLE "regress_the biller";
SELECT * FROM public.possible ORDER BY relname, kind;
SET ROLE regress_reader;
SELECT * FROM public.possible;
SET ROLE regress_outsider;
SELECT * FROM public.possible;
RESET ROLE;
SELECT public.books() = :'before' AS unchanged;

-- what triggers keep is kept from the owner, too, but for what a restore needs
SELECT public.try('UPDATE creditmemo.utilization SET billing_no = 2');
SELECT public.try('UPDATE creditmemo.utilization SET recorded_at = ''2001-01-01''');
SELECT public.try('UPDATE creditmemo.credit_memo SET balance = amount');
SELECT public.try('UPDATE creditmemo.billing SET credit = 0');
SELECT public.try('DELETE FROM creditmemo.memo_entry');
-- a line that is invoiced
SET ROLE "regress_the biller";
SELECT public.try('UPDATE creditmemo.utilization SET amount = 1 WHERE service_period = ''2019-01-01''');
SELECT public.try('DELETE FROM creditmemo.utilization WHERE service_period = ''2019-01-01''');
SELECT public.try($$INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id)
	VALUES ('2019-01-01', '000011111234', 'Amazon EC2', 1, 'a') ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount$$);
-- and what is restored
SELECT public.try($$INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, recorded_at)
	VALUES ('2019-03-01', '000011111234', 'Amazon EC2', 1, '2001-01-01')$$);
SELECT public.try($$INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on, recorded_at)
	VALUES ('000011111234', 1000, '2019-03-01', '2001-01-01')$$);
SELECT public.try('SET session_replication_role = replica');
SELECT public.try('SELECT creditmemo.grant_biller(''regress_outsider'')');
SELECT public.try('DROP EXTENSION creditmemo');
SELECT public.try('ALTER EXTENSION creditmemo DROP FUNCTION creditmemo.refuse_change()');
SELECT public.try('CREATE FUNCTION creditmemo.mine() RETURNS void LANGUAGE sql AS ''''');
RESET ROLE;
SELECT public.books() = :'before' AS unchanged;

-- ---------------------------------------------------------------------------------------------
-- Bills that others have prepared
-- ---------------------------------------------------------------------------------------------

-- a column whose type has a cast: no function of its owner runs as whoever imports
SET ROLE "regress_the biller";
CREATE TYPE public.word AS (w text);
CREATE FUNCTION public.word_text(public.word) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'caught'; END $$;
CREATE CAST (public.word AS text) WITH FUNCTION public.word_text(public.word);
CREATE TABLE public.others_bill AS
SELECT '999999999999' AS billingaccountid, '000033334444' AS subaccountid, 8.125 AS billedcost, 'USD' AS billingcurrency,
	'Usage' AS chargecategory, ROW('EC2')::public.word AS servicename, '' AS chargedescription, date '2019-09-01' AS billingperiodstart;
RESET ROLE;
SELECT lines_inserted FROM creditmemo.import_focus('public.others_bill');
SELECT service FROM creditmemo.utilization WHERE service_period = '2019-09-01';
DROP TABLE public.others_bill;
DROP TYPE public.word CASCADE;
-- a loader's line with a key as an import gives, but for what it says
CREATE TABLE public.bill_of_october AS
SELECT '999999999999' AS billingaccountid, '000033334444' AS subaccountid, 8.12 AS billedcost, 'USD' AS billingcurrency,
	'Usage' AS chargecategory, 'Amazon EC2' AS servicename, '' AS chargedescription, date '2019-10-01' AS billingperiodstart;
SELECT lines_inserted FROM creditmemo.import_focus('public.bill_of_october');
SET ROLE regress_loader;
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id)
SELECT '2019-10-01', '000033334444', 'Amazon EC2', 1, 'aws:999999999999:2019-10:' || key
FROM unnest('{99999999999:2019-10:charge:Amazon S3,2147483647:2019-10:charge:Amazon EC2,1:garbage:charge:x,1:0000-01:charge:x,1:2019-13:charge:x,01:2019-10:charge:Amazon EC2}'::text[]) key;
RESET ROLE;
SELECT lines_inserted, lines_withdrawn, lines_unchanged FROM creditmemo.import_focus('public.bill_of_october');
SELECT invoice_number FROM creditmemo.issue_invoice('SI-O', 'ACME', '2019-10-01', '2019-11-05', '{000033334444}');
UPDATE public.bill_of_october SET billedcost = 100;
SELECT lines_inserted, lines_withdrawn FROM creditmemo.import_focus('public.bill_of_october');
SELECT lines_inserted, lines_withdrawn FROM creditmemo.import_focus('public.bill_of_october');
-- policies on the source: a part of a bill is none
GRANT SELECT ON public.bill_of_october TO "regress_the biller";
ALTER TABLE public.bill_of_october ENABLE ROW LEVEL SECURITY;
SET ROLE "regress_the biller";
SELECT public.try('SELECT * FROM creditmemo.import_focus(''public.bill_of_october'')');
RESET ROLE;
DROP TABLE public.bill_of_october;
SELECT * FROM creditmemo.verify();

-- who may not use our types cannot put operators on them in a schema where they would be found first
SET ROLE regress_loader;
SELECT public.try('CREATE FUNCTION pg_temp.equal(creditmemo.service_period, creditmemo.service_period) RETURNS boolean LANGUAGE sql AS ''SELECT true''');
SELECT public.try('CREATE TEMP TABLE mine (amount creditmemo.money_amount)');
SET ROLE regress_reader;
CREATE TEMP TABLE kept AS SELECT * FROM creditmemo.unbilled;
DROP TABLE kept;
RESET ROLE;

-- ---------------------------------------------------------------------------------------------
-- Names that shadow ours
-- ---------------------------------------------------------------------------------------------

-- the trigger functions: called, or attached to a table of one's own
SET ROLE "regress_the biller";
SELECT t.proname, public.outcome(format('SELECT %s()', t.oid::regproc)) AS called,
	public.outcome(format('CREATE TEMP TABLE mine (account_id text); CREATE TRIGGER mine AFTER INSERT ON mine EXECUTE FUNCTION %s()',
		t.oid::regproc)) AS attached
FROM pg_proc t
WHERE t.pronamespace = 'creditmemo'::regnamespace AND t.prorettype = 'trigger'::regtype
ORDER BY t.proname;

-- tables, functions, operators and casts of the biller, in all schemas that come before
CREATE FUNCTION public.caught() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'caught'; END $$;
RESET ROLE;
CREATE SCHEMA hostile AUTHORIZATION "regress_the biller";
SET ROLE "regress_the biller";
DO $$
DECLARE
	name text;
	type text;
BEGIN
	FOR name IN SELECT relname FROM public.member WHERE relkind <> 'S' LOOP
		EXECUTE format('CREATE TEMP TABLE %I (account_id text)', name);
		EXECUTE format('CREATE TABLE hostile.%I (account_id text)', name);
	END LOOP;
	FOREACH type IN ARRAY ARRAY['text', 'date', 'numeric', 'integer', 'bigint', 'timestamptz', 'boolean',
			'creditmemo.money_amount', 'creditmemo.service_period'] LOOP
		EXECUTE format('CREATE FUNCTION hostile.caught(%1$s, %1$s) RETURNS boolean LANGUAGE sql AS ''SELECT public.caught()''', type);
		FOREACH name IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>='] LOOP
			EXECUTE format('CREATE OPERATOR hostile.%s (FUNCTION = hostile.caught, LEFTARG = %s, RIGHTARG = %2$s)', name, type);
			CONTINUE WHEN type NOT LIKE 'creditmemo.%';
			EXECUTE format('CREATE OPERATOR public.%s (FUNCTION = hostile.caught, LEFTARG = %s, RIGHTARG = %2$s)', name, type);
		END LOOP;
	END LOOP;
	FOREACH name IN ARRAY ARRAY['sum(numeric)', 'min(date)', 'max(date)', 'coalesce(text)', 'round(numeric, integer)', 'date(timestamptz)',
			'array_to_string(text[], text)', 'format(text, text)', 'now()', 'clock_timestamp()', 'date_trunc(text, timestamp)',
			'greatest(numeric)', 'count(text)', 'left(text, integer)', 'money_text(numeric, text)', 'check_money_amount(numeric)'] LOOP
		EXECUTE format('CREATE FUNCTION hostile.%s RETURNS text LANGUAGE sql AS ''SELECT public.caught()::text''',
			regexp_replace(name, '^(\w+)', '"\1"'));
	END LOOP;
END
$$;
RESET ROLE;
-- the owner at work, with the usual path and with one in which all of that comes first
CREATE FUNCTION public.work(n text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO creditmemo.credit_memo (account_id, memo_number, amount, redeemed_on, services)
		VALUES ('000011115678', 'CM' OPERATOR(pg_catalog.||) n, 5, '2019-04-15', '{Amazon EC2}');
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id)
		VALUES ('2019-04-01', '000011115678', 'Amazon EC2', 3, n), ('2019-04-01', '000011115678', 'Amazon S3', -1, n OPERATOR(pg_catalog.||) '-');
	UPDATE creditmemo.utilization SET amount = 4 WHERE source_id OPERATOR(pg_catalog.=) n;
	DELETE FROM creditmemo.utilization WHERE source_id OPERATOR(pg_catalog.=) (n OPERATOR(pg_catalog.||) '-');
	PERFORM creditmemo.issue_invoice('SI' OPERATOR(pg_catalog.||) n, 'ACME', '2019-04-01', '2019-05-05', '{000011115678}');
	RETURN QUERY SELECT pg_catalog.concat_ws(' ', f.invoice_number, f.credit_applied, f.balance_due)
		FROM creditmemo.invoice_face f WHERE f.invoice_number OPERATOR(pg_catalog.=) ('SI' OPERATOR(pg_catalog.||) n);
	PERFORM creditmemo.invoice_html('SI' OPERATOR(pg_catalog.||) n), creditmemo.email_html('SI' OPERATOR(pg_catalog.||) n),
		creditmemo.statement_html('000011115678'), creditmemo.statement_text('000011115678');
	PERFORM pg_catalog.count(*) FROM creditmemo.memo_balance;
	PERFORM pg_catalog.count(*) FROM creditmemo.credit_liability;
	PERFORM creditmemo.void_invoice('SI' OPERATOR(pg_catalog.||) n, 'wrong');
	PERFORM creditmemo.void_memo('CM' OPERATOR(pg_catalog.||) n, 'wrong');
	DELETE FROM creditmemo.utilization WHERE source_id OPERATOR(pg_catalog.=) n;
	PERFORM creditmemo.close_period('2018-01-01');
	PERFORM creditmemo.reopen_period('2018-01-01', NULL, 'wrong');
	PERFORM pg_catalog.count(*) FROM creditmemo.balance_as_of(pg_catalog.now());
	PERFORM pg_catalog.count(*) FROM creditmemo.predicted_allocation('999999999999', '2019-02-01');
	PERFORM pg_catalog.count(*) FROM creditmemo.defw_waiver('999999999999', '2019-01-01', '{Amazon EC2}');
	PERFORM creditmemo.import_focus('public.bill_of_may');
	RETURN QUERY SELECT problem FROM creditmemo.verify();
END
$$;
CREATE TABLE public.bill_of_may AS
SELECT '999999999999' AS billingaccountid, '000033334444' AS subaccountid, 8.125 AS billedcost, 'USD' AS billingcurrency,
	'Usage' AS chargecategory, 'Amazon EC2' AS servicename, '' AS chargedescription, date '2019-05-01' AS billingperiodstart;
SELECT * FROM public.work('7');
SET search_path = hostile, pg_temp, public, pg_catalog;
SELECT * FROM public.work('8');
-- and who begins his session so
\c -
SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
SET datestyle = iso;
SET search_path = hostile, pg_temp, public, pg_catalog;
SELECT * FROM public.work('9');
RESET search_path;

-- ---------------------------------------------------------------------------------------------
-- Row security
-- ---------------------------------------------------------------------------------------------

DO $$
DECLARE
	relation regclass;
BEGIN
	FOR relation IN SELECT oid FROM public.member WHERE relkind = 'r' LOOP
		EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
		EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
	END LOOP;
END
$$;
GRANT SELECT ON public.bill_of_may TO "regress_the biller";
CREATE POLICY lines ON creditmemo.utilization TO "regress_the biller" USING (account_id = '000011111234');
SET ROLE "regress_the biller";
SELECT count(*) FROM creditmemo.billing;
SELECT public.try($$INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
	VALUES ('2019-06-01', '000011115678', 'Amazon EC2', 1)$$);
-- the books are kept whatever the writer may see
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount) VALUES ('2019-06-01', '000011111234', 'Amazon EC2', 1.5);
SELECT invoice_number FROM creditmemo.issue_invoice('SI6', 'ACME', '2019-06-01', '2019-07-05');
SELECT public.try('SELECT * FROM creditmemo.verify()');
SELECT public.try('SELECT * FROM creditmemo.import_focus(''public.bill_of_may'')');
SELECT public.try(format('SELECT creditmemo.%s', document))
FROM unnest('{invoice_html(''SI2''),email_text(''SI2''),statement_html(''000011111234''),statement_text(''000011111234'')}'::text[]) document;
SELECT public.try('SELECT * FROM creditmemo.defw_waiver(''999999999999'', ''2019-01-01'', ''{Amazon EC2}'')');
SELECT public.try('SELECT * FROM creditmemo.predicted_allocation(''999999999999'', ''2019-01-01'')');
RESET ROLE;
SELECT account_id, credit_applied FROM creditmemo.invoice_body WHERE invoice_number = 'SI6';
SELECT * FROM creditmemo.verify();
DO $$
DECLARE
	relation regclass;
BEGIN
	FOR relation IN SELECT oid FROM public.member WHERE relkind = 'r' LOOP
		EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', relation);
		EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', relation);
	END LOOP;
END
$$;

-- ---------------------------------------------------------------------------------------------
-- No error shows an amount to a role that may not read it
-- ---------------------------------------------------------------------------------------------

-- nothing that stands in the books, to somebody who may only insert lines
INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on) VALUES ('000011111234', 4242.42, '2019-08-01');
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id)
	VALUES ('2019-08-01', '000011111234', 'Amazon EC2', 987.65, 'mine');
CREATE FUNCTION public.everything_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
	context text;
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
	RETURN concat_ws(E'\n', SQLSTATE || ': ' || SQLERRM, detail, hint, split_part(context, E'\n', 1));
END
$$;
CREATE FUNCTION public.load(amount text, month text = '2019-08-01', account text = '000011111234', source text = NULL) RETURNS text
LANGUAGE sql AS $$
	SELECT public.everything_of(format('INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id)
		VALUES (%L, %L, ''Amazon EC2'', %L, %L)', month, account, amount, source))
$$;
ALTER TABLE creditmemo.billing ADD CONSTRAINT at_most_a_thousand CHECK (utilization < 1000);
ALTER TABLE creditmemo.memo_entry ADD CONSTRAINT enough CHECK (balance_after > 4000) NOT VALID;
ALTER TABLE creditmemo.credit_memo ADD CONSTRAINT at_least_a_thousand CHECK (balance = 0 OR balance > 3200);
SET ROLE regress_loader;
SELECT public.load('1');
SELECT public.load('500');
SELECT public.load('55.55');
SELECT public.load('150', '2019-09-01');
SELECT public.load('1', source => 'mine');
SELECT public.load('-5000', '2019-01-01');
SELECT public.load('999999999999999');
SELECT public.load('1', account => '000000000000');
SELECT public.outcome('SELECT amount FROM creditmemo.utilization');
SELECT public.outcome('INSERT INTO creditmemo.utilization (service_period, account_id, service, amount) VALUES (''2019-08-01'', ''000011111234'', ''x'', 1) RETURNING amount');
SET ROLE "regress_the biller";
-- who may read it sees it
SELECT public.load('500');
RESET ROLE;
ALTER TABLE creditmemo.billing DROP CONSTRAINT at_most_a_thousand;
ALTER TABLE creditmemo.credit_memo DROP CONSTRAINT at_least_a_thousand;
ALTER TABLE creditmemo.memo_entry DROP CONSTRAINT enough;
SELECT * FROM creditmemo.verify();

DROP SCHEMA hostile CASCADE;
DROP TABLE public.bill_of_may;
DROP VIEW public.possible, public.attempt, public.member;
DROP FUNCTION public.load(text, text, text, text), public.everything_of(text), public.work(text), public.try(text),
	public.outcome(text), public.books();
DROP FUNCTION public.caught() CASCADE;
DROP OWNED BY regress_reader, "regress_the biller", regress_loader;
DROP ROLE regress_outsider, regress_reader, "regress_the biller", regress_loader;
