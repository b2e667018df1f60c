-- Bills imported from FOCUS and CUR columns: the same rows from each, again, restated, and bad ones.

SELECT set_config('client_min_messages', 'warning', false) \g /dev/null
DROP EXTENSION creditmemo;
CREATE EXTENSION creditmemo;
SET datestyle = iso;
SET timezone = 'UTC';
SET search_path = creditmemo;

-- the header of a file as columns of text; paths are relative to where pg_regress was started
\set focus_1_0 `head -n 1 test/bills/focus_1_0.csv | sed 's/"//g; s/[^,][^,]*/"&" text/g'`
\set focus_1_2 `head -n 1 test/bills/focus_1_2.csv | sed 's/"//g; s/[^,][^,]*/"&" text/g'`
\set cur `head -n 1 test/bills/cur.csv | sed 's/"//g; s/[^,][^,]*/"&" text/g'`
\set cur_2_0 `head -n 1 test/bills/cur_2_0.csv | sed 's/"//g; s/[^,][^,]*/"&" text/g'`
CREATE TEMP TABLE focus_1_0 (:focus_1_0);
CREATE TEMP TABLE focus_1_2 (:focus_1_2);
CREATE TEMP TABLE cur (:cur);
CREATE TEMP TABLE cur_2_0 (:cur_2_0);
\copy focus_1_0 FROM 'test/bills/focus_1_0.csv' WITH (FORMAT csv, HEADER, NULL 'NULL')
\copy focus_1_2 FROM 'test/bills/focus_1_2.csv' WITH (FORMAT csv, HEADER)
\copy cur FROM 'test/bills/cur.csv' WITH (FORMAT csv, HEADER)
\copy cur_2_0 FROM 'test/bills/cur_2_0.csv' WITH (FORMAT csv, HEADER)

-- what is not known is registered under the customer, with its name; the line of Azure is left out
INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme'), ('HARBOR', 'Harbor');
INSERT INTO payer_account VALUES ('000990000001', 'ours');
INSERT INTO member_account (account_id, payer_account_id, customer_id, name) VALUES
	('000011111234', '000990000001', 'ACME', 'ours');
\x on
SELECT * FROM import_focus('focus_1_0', 'HARBOR') ORDER BY payer_account_id, billing_period;
\x off
SELECT * FROM payer_account ORDER BY payer_account_id;
SELECT account_id, payer_account_id, customer_id, name FROM member_account ORDER BY account_id;
SELECT service_period, account_id, service, description, amount, creditable
FROM utilization
ORDER BY service_period, account_id, service COLLATE "C", creditable DESC;
SELECT account_id, source_id FROM utilization ORDER BY account_id, source_id;
SELECT service_period, account_id, payer_account_id, service, amount, owner_account_id, provider_credit_id
FROM provider_credit
ORDER BY service_period, account_id, service COLLATE "C";
SELECT account_id, description, source_id FROM provider_credit ORDER BY account_id, source_id;

-- the others give the same rows: unchanged where they are, and the same where none are
CREATE TEMP VIEW line AS
	SELECT service_period, account_id, service, description, amount, creditable, source_id FROM utilization;
CREATE TEMP VIEW credit AS
	SELECT service_period, account_id, payer_account_id, owner_account_id, provider_credit_id, service, amount,
		description, source_id
	FROM provider_credit;
CREATE TEMP TABLE first_line AS TABLE line;
CREATE TEMP TABLE first_credit AS TABLE credit;
CREATE TEMP VIEW other_row AS
	(TABLE line EXCEPT TABLE first_line) UNION ALL (TABLE first_line EXCEPT TABLE line);
CREATE TEMP VIEW other_credit AS
	(TABLE credit EXCEPT TABLE first_credit) UNION ALL (TABLE first_credit EXCEPT TABLE credit);
CREATE FUNCTION pg_temp.import(importer regproc, source regclass)
RETURNS TABLE (payer_account_id text, billing_period date, read bigint, corrections bigint, inserted bigint, restated bigint,
	withdrawn bigint, unchanged bigint, exact_total numeric, rounded_total numeric, credits bigint,
	credit numeric, is_final boolean)
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT payer_account_id, billing_period, lines_read, corrections_read, lines_inserted,
		lines_restated, lines_withdrawn, lines_unchanged, trim_scale(exact_total), rounded_total,
		credits_read, rounded_credit, is_final
		FROM %s($1) ORDER BY 1, 2', importer) USING source;
END
$$;
SELECT * FROM pg_temp.import('import_focus', 'focus_1_0');
SELECT * FROM pg_temp.import('import_focus', 'focus_1_2');
SELECT * FROM pg_temp.import('import_cur', 'cur');
SELECT * FROM pg_temp.import('import_cur', 'cur_2_0');
TABLE other_row;
TABLE other_credit;
DELETE FROM utilization;
DELETE FROM provider_credit;
SELECT sum(inserted) AS inserted FROM pg_temp.import('import_focus', 'focus_1_2');
TABLE other_row;
TABLE other_credit;
DELETE FROM utilization;
DELETE FROM provider_credit;
SELECT sum(inserted) AS inserted FROM pg_temp.import('import_cur', 'cur');
TABLE other_row;
TABLE other_credit;
DELETE FROM utilization;
DELETE FROM provider_credit;
SELECT sum(inserted) AS inserted FROM pg_temp.import('import_cur', 'cur_2_0');
TABLE other_row;
TABLE other_credit;
-- FOCUS 1.3 names the seller in another column, and AWS only as who sends the invoice
ALTER TABLE focus_1_2 DROP "ProviderName";
ALTER TABLE focus_1_2 RENAME "PublisherName" TO "ServiceProviderName";
SELECT sum(unchanged) AS unchanged FROM pg_temp.import('import_focus', 'focus_1_2');
-- columns with types: ids that have lost their zeros, a map that is one
CREATE TEMP VIEW cur_types AS
	SELECT bill_payer_account_id::bigint, line_item_usage_account_id::bigint, line_item_unblended_cost::float8,
		line_item_currency_code, line_item_line_item_type, line_item_line_item_description, line_item_product_code,
		product::jsonb, bill_billing_entity, line_item_legal_entity, line_item_usage_start_date::timestamptz,
		bill_billing_period_start_date::date
	FROM cur_2_0;
SELECT sum(unchanged) AS unchanged FROM pg_temp.import('import_cur', 'cur_types');
TABLE other_row;
TABLE other_credit;
-- whatever the session's settings
SET standard_conforming_strings = off;
SET timezone = 'America/Los_Angeles';
SET extra_float_digits = 0;
CREATE DOMAIN public.moment AS timestamptz;
CREATE DOMAIN public.cost AS float8;
CREATE TEMP VIEW cur_domains AS
	SELECT c.*, c.line_item_unblended_cost::float8::public.cost AS cost, c.line_item_usage_start_date::timestamptz::public.moment AS started
	FROM cur_2_0 c;
CREATE TEMP TABLE of_domains AS TABLE cur_domains;
ALTER TABLE of_domains DROP line_item_unblended_cost, DROP line_item_usage_start_date;
ALTER TABLE of_domains RENAME cost TO line_item_unblended_cost;
ALTER TABLE of_domains RENAME started TO line_item_usage_start_date;
SELECT sum(unchanged) AS unchanged FROM pg_temp.import('import_cur', 'of_domains');
SELECT sum(unchanged) AS unchanged FROM pg_temp.import('import_focus', 'focus_1_0');
RESET standard_conforming_strings;
RESET timezone;
RESET extra_float_digits;
-- what is missing is made, what is there is left
DELETE FROM utilization WHERE account_id = '000011111234';
DELETE FROM provider_credit WHERE service = 'AWS Data Transfer';
SELECT * FROM pg_temp.import('import_focus', 'focus_1_0');
TABLE other_row;
TABLE other_credit;
SELECT * FROM verify();

/*
 * A restated bill, from a view, of columns that have types and names with blanks.  Account 1 is open,
 * 2 invoiced, 3 closed through January; 3 has a payer of its own.
 */
CREATE TABLE public.bill (
	line int, "Billing Account ID" text DEFAULT '990000000003', sub_account_id text,
	"BILLED_COST" double precision, billingcurrency char(3) DEFAULT 'EUR',
	charge_category text DEFAULT 'Usage', "ChargeClass" text, "ServiceName" text,
	"ChargeDescription" text, "ChargePeriodStart" timestamptz DEFAULT '2019-01-31 23:30+00',
	"BillingPeriodStart" date DEFAULT '2019-01-01');
CREATE VIEW public.bill_view AS SELECT * FROM public.bill;
CREATE TEMP VIEW booked AS
	SELECT service_period AS period, account_id AS account, billing_no, service, description, amount,
		creditable, source_id
	FROM utilization WHERE account_id < '4' AND length(account_id) = 1;
INSERT INTO customer (customer_id, name, currency) VALUES ('EURO', 'Euro', 'EUR');
INSERT INTO public.bill (line, sub_account_id, "ServiceName", "BILLED_COST") VALUES
	(1, '1', 'EC2', 10.004), (2, '1', 'S3', 5.25), (3, '1', 'EC2', -3),
	(4, '2', 'EC2', 20.004), (5, '2', 'S3', 7.25), (6, '2', 'EC2', 1.5), (7, '3', 'EC2', 30);
UPDATE public.bill SET charge_category = 'Credit', "ChargeDescription" = 'Promo' WHERE line = 3;
UPDATE public.bill SET charge_category = 'Tax' WHERE line = 6;
UPDATE public.bill SET "Billing Account ID" = '990000000004' WHERE line = 7;
CREATE TEMP TABLE as_first AS TABLE public.bill;
SELECT lines_inserted FROM import_focus('public.bill_view', 'EURO') ORDER BY payer_account_id;
INSERT INTO po_assignment (account_id, po_number) VALUES ('1', 'PO'), ('2', 'PO');
INSERT INTO credit_memo (account_id, amount, redeemed_on) VALUES ('1', 12, '2019-01-15'), ('2', 25, '2019-01-15');
SELECT invoice_number FROM issue_invoice('SI2', 'EURO', '2019-01-01', '2019-02-05', '{2,3}');
SELECT close_period('2019-01-01', '990000000004');
SELECT * FROM booked ORDER BY account, source_id;

-- 1: 10.104 + 0.996 = 11.10; 2: 18.004 + 1.6 + 0.4 = 20.00, where 28.75 is invoiced
UPDATE public.bill SET "BILLED_COST" = 10.104 WHERE line = 1;
UPDATE public.bill SET "BILLED_COST" = -2.5 WHERE line = 3;
UPDATE public.bill SET "BILLED_COST" = 18.004 WHERE line = 4;
UPDATE public.bill SET "BILLED_COST" = 1.6 WHERE line = 6;
DELETE FROM public.bill WHERE line IN (2, 5);
INSERT INTO public.bill (line, sub_account_id, "ServiceName", "BILLED_COST") VALUES
	(8, '1', 'Lambda', 0.996), (9, '2', 'Lambda', 0.4);
SELECT * FROM pg_temp.import('import_focus', 'public.bill_view');
SELECT * FROM booked ORDER BY account, source_id;
SELECT account_id, billing_no, utilization, creditable, credit, due, invoice_number FROM billing
WHERE account_id IN ('1', '2') ORDER BY account_id, billing_no;
SELECT account_id, service, amount FROM provider_credit WHERE account_id = '1';
SELECT * FROM pg_temp.import('import_focus', 'public.bill_view');

-- the difference is not invoiced yet: it is restated itself
UPDATE public.bill SET "BILLED_COST" = 19.004 WHERE line = 4;
INSERT INTO public.bill (line, sub_account_id, "ServiceName", "BILLED_COST") VALUES (5, '2', 'S3', 7.25);
SELECT * FROM pg_temp.import('import_focus', 'public.bill_view');
SELECT * FROM booked WHERE account = '2' ORDER BY source_id;
-- invoiced: the bill as it was first is another difference
SELECT invoice_number FROM issue_invoice('SI3', 'EURO', '2019-01-01', '2019-02-06', '{2}');
TRUNCATE public.bill;
INSERT INTO public.bill TABLE as_first;
SELECT * FROM pg_temp.import('import_focus', 'public.bill_view');
SELECT * FROM booked WHERE account < '3' ORDER BY account, source_id;
SELECT * FROM pg_temp.import('import_focus', 'public.bill_view');
SELECT account_id, billing_no, utilization, creditable, credit, due, invoice_number FROM billing
WHERE account_id IN ('1', '2') ORDER BY account_id, billing_no;

-- February's bill corrects January, which is open for 1, invoiced for 2, closed for 3
INSERT INTO public.bill (line, sub_account_id, "ServiceName", "BILLED_COST", "ChargePeriodStart",
	"BillingPeriodStart", "ChargeClass")
SELECT 10 * account + line, account, 'EC2', amount, started, '2019-02-01', class
FROM generate_series(1, 3) account,
	(VALUES (1, 4, '2019-02-28 23:59:59+00'::timestamptz, NULL), (2, -1.5, '2019-01-31 23:59:59+00', 'Correction'))
	charge (line, amount, started, class);
UPDATE public.bill SET "Billing Account ID" = '990000000004' WHERE sub_account_id = '3';
SELECT * FROM pg_temp.import('import_focus', 'public.bill_view');
SELECT * FROM booked WHERE source_id LIKE '%:2019-02:%' ORDER BY account, source_id;
SELECT * FROM pg_temp.import('import_focus', 'public.bill_view');
UPDATE public.bill SET "BILLED_COST" = -2 WHERE "ChargeClass" = 'Correction';
SELECT * FROM pg_temp.import('import_focus', 'public.bill_view');
SELECT * FROM booked WHERE source_id LIKE '%:2019-02:%' ORDER BY account, source_id;
-- another fraction, which only moves a cent between invoiced lines, and a line of 0.00 are nothing to bill
INSERT INTO public.bill (line, sub_account_id, "ServiceName", "BILLED_COST") VALUES
	(51, '5', 'EC2', 1.004), (52, '5', 'RDS', 1.0035), (53, '5', 'S3', 1.003);
SELECT lines_inserted FROM import_focus('public.bill_view', 'EURO') ORDER BY payer_account_id, billing_period;
SELECT service, amount FROM utilization WHERE account_id = '5' ORDER BY service;
SELECT invoice_number FROM issue_invoice('SI5', 'EURO', '2019-01-01', '2019-02-05', '{5}');
UPDATE public.bill SET "BILLED_COST" = 1.0045 WHERE line = 52;
INSERT INTO public.bill (line, sub_account_id, "ServiceName", "BILLED_COST") VALUES (54, '5', 'Lambda', 0.0001);
SELECT * FROM pg_temp.import('import_focus', 'public.bill_view');
SELECT count(*) FROM unbilled WHERE account_id = '5';
UPDATE public.bill SET "BILLED_COST" = 1.0145 WHERE line = 52;
SELECT * FROM pg_temp.import('import_focus', 'public.bill_view');
SELECT billing_no, service, description, amount FROM utilization WHERE account_id = '5' ORDER BY billing_no, service;
-- what is restated is what a fresh import would have booked
SELECT account, sum(amount) AS booked,
	(SELECT round(sum("BILLED_COST")::numeric, 2) FROM public.bill
	 WHERE sub_account_id = account AND charge_category <> 'Credit') AS billed
FROM booked GROUP BY account ORDER BY account;
SELECT * FROM verify();

/*
 * Bad bills.  Nothing has changed after any of them.
 */
CREATE TEMP TABLE good AS
	SELECT '990000000003' AS "BillingAccountId", '1' AS "SubAccountId", '1.00' AS "BilledCost",
		'EUR' AS "BillingCurrency", 'Usage' AS "ChargeCategory", 'EC2' AS "ServiceName", '' AS "ChargeDescription",
		'2019-03-01 00:00:00' AS "ChargePeriodStart", '2019-03-01T00:00:00Z' AS "BillingPeriodStart",
		'AWS' AS "ProviderName";
CREATE FUNCTION pg_temp.books() RETURNS text LANGUAGE sql AS $$
	SELECT md5(string_agg(row::text, E'\n' ORDER BY row::text))
	FROM (SELECT p::text FROM creditmemo.payer_account p UNION ALL SELECT a::text FROM creditmemo.member_account a
		  UNION ALL SELECT u::text FROM creditmemo.utilization u UNION ALL SELECT b::text FROM creditmemo.billing b
		  UNION ALL SELECT e::text FROM creditmemo.memo_entry e UNION ALL SELECT c::text FROM creditmemo.provider_credit c)
		  books (row)
$$;
SELECT pg_temp.books() AS before \gset
-- imports the good bill as the statements make it a bad one
CREATE FUNCTION pg_temp.try(changes text, import text DEFAULT $$import_focus('bad')$$)
RETURNS TABLE (error text) LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	CREATE TEMP TABLE bad AS TABLE good;
	EXECUTE changes;
	EXECUTE 'SELECT lines_inserted FROM ' || import INTO message;
	RAISE EXCEPTION 'no error' USING ERRCODE = 'ZZ000', DETAIL = message || ' lines inserted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN QUERY VALUES (CASE SQLSTATE WHEN 'ZZ000' THEN message ELSE SQLSTATE || ': ' || message END);
	IF detail <> '' THEN
		RETURN QUERY VALUES ('DETAIL: ' || detail);
	END IF;
	IF hint <> '' THEN
		RETURN QUERY VALUES ('HINT: ' || hint);
	END IF;
END
$$;
\pset tuples_only on
\pset format unaligned

-- as it is
SELECT pg_temp.try('');
-- columns
SELECT pg_temp.try($$ALTER TABLE bad DROP "BilledCost"$$);
SELECT pg_temp.try($$ALTER TABLE bad DROP "BilledCost", DROP "SubAccountId", DROP "ServiceName"$$);
SELECT pg_temp.try($$ALTER TABLE bad DROP "ChargePeriodStart"$$);
SELECT pg_temp.try($$ALTER TABLE bad DROP "BillingPeriodStart"$$);
SELECT pg_temp.try($$ALTER TABLE bad DROP "ChargePeriodStart", DROP "BillingPeriodStart"$$);
SELECT pg_temp.try($$ALTER TABLE bad DROP "ProviderName"$$);
SELECT pg_temp.try($$ALTER TABLE bad ADD billed_cost text$$);
SELECT pg_temp.try($$ALTER TABLE bad ADD provider_name text$$);
SELECT pg_temp.try($$ALTER TABLE bad ADD "Tags" jsonb, ADD tags jsonb$$);
SELECT pg_temp.try($$ALTER TABLE bad ALTER "BilledCost" TYPE boolean USING true$$);
SELECT pg_temp.try('', $$import_cur('bad')$$);
SELECT pg_temp.try('', $$import_focus('cur')$$);
-- costs
SELECT pg_temp.try($$UPDATE bad SET "BilledCost" = '1,234.50'$$);
SELECT pg_temp.try($$UPDATE bad SET "BilledCost" = 'ten'$$);
SELECT pg_temp.try($$UPDATE bad SET "BilledCost" = 'NaN'$$);
SELECT pg_temp.try($$UPDATE bad SET "BilledCost" = '-Infinity'$$);
SELECT pg_temp.try($$ALTER TABLE bad ALTER "BilledCost" TYPE float8 USING 'NaN'$$);
SELECT pg_temp.try($$UPDATE bad SET "BilledCost" = NULL$$);
SELECT pg_temp.try($$UPDATE bad SET "BilledCost" = ''$$);
SELECT pg_temp.try($$UPDATE bad SET "BilledCost" = '1e15'$$);
SELECT pg_temp.try($$UPDATE bad SET "BilledCost" = '1.5E-7'$$);
-- accounts
SELECT pg_temp.try($$UPDATE bad SET "SubAccountId" = '404'$$);
SELECT pg_temp.try($$INSERT INTO bad SELECT '990000000003', 'unknown-' || lpad(n::text, 2, '0'), '1', 'EUR', 'Usage',
	'EC2', '', '2019-03-01', '2019-03-01', 'AWS' FROM generate_series(13, 1, -1) n$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingAccountId" = '405'$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingAccountId" = '405', "SubAccountId" = '404'$$, $$import_focus('bad', 'NOBODY')$$);
SELECT pg_temp.try('', $$import_focus('bad', 'NOBODY')$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingAccountId" = '405', "SubAccountId" = '404'$$, $$import_focus('bad', 'EURO')$$);
SELECT pg_temp.try($$UPDATE bad SET "SubAccountId" = NULL$$);
SELECT pg_temp.try($$UPDATE bad SET "SubAccountId" = ''; INSERT INTO creditmemo.member_account
	(account_id, payer_account_id, customer_id) VALUES ('990000000003', '990000000003', 'EURO')$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingAccountId" = NULL$$);
SELECT pg_temp.try($$UPDATE bad SET "SubAccountId" = '404', "ChargeCategory" = 'Credit', "BilledCost" = '-1'$$);
-- on the bill of another payer, as it was moved within the month
SELECT pg_temp.try($$UPDATE bad SET "BillingAccountId" = '990000000004'$$);
-- currencies
SELECT pg_temp.try($$UPDATE bad SET "BillingCurrency" = 'USD'$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingCurrency" = NULL$$);
SELECT pg_temp.try($$INSERT INTO bad SELECT "BillingAccountId", '2', "BilledCost", 'USD', "ChargeCategory", "ServiceName", '',
	"ChargePeriodStart", "BillingPeriodStart", 'AWS' FROM bad$$);
SELECT pg_temp.try($$UPDATE bad SET "SubAccountId" = '404', "BillingCurrency" = 'USD'$$, $$import_focus('bad', 'EURO')$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingCurrency" = 'USD', "ChargeCategory" = 'Credit', "BilledCost" = '-1'$$);
-- categories and services
SELECT pg_temp.try($$UPDATE bad SET "ChargeCategory" = NULL$$);
SELECT pg_temp.try($$UPDATE bad SET "ChargeCategory" = 'Gift'$$);
SELECT pg_temp.try($$UPDATE bad SET "ChargeCategory" = 'credit'$$);
SELECT pg_temp.try($$UPDATE bad SET "ServiceName" = ''$$);
-- times
SELECT pg_temp.try($$UPDATE bad SET "ChargePeriodStart" = '3/1/2019'$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingPeriodStart" = 'March 2019'$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingPeriodStart" = '2019-13-01'$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingPeriodStart" = '2019-00-01'$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingPeriodStart" = '2019-3-01'$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingPeriodStart" = 'March-01-2019'$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingPeriodStart" = '2019-0301'$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingPeriodStart" = '2019-03'$$);
SELECT pg_temp.try($$UPDATE bad SET "ChargePeriodStart" = NULL$$);
SELECT pg_temp.try($$UPDATE bad SET "BillingPeriodStart" = ''$$);
SELECT pg_temp.try($$ALTER TABLE bad ALTER "BillingPeriodStart" TYPE date USING 'infinity'$$);
SELECT pg_temp.try($$UPDATE bad SET "ChargePeriodStart" = '2019-01-01', "BillingPeriodStart" = '2019-01-01',
	"BillingAccountId" = '990000000004', "SubAccountId" = '3'$$);
-- sources
SELECT pg_temp.try('DELETE FROM bad');
SELECT pg_temp.try($$UPDATE bad SET "ProviderName" = 'Microsoft'$$);
SELECT pg_temp.try('', 'import_focus(NULL)');
SELECT pg_temp.try('', 'import_cur(NULL)');
SELECT pg_temp.try('', $$import_focus('no_such_table')$$);
SELECT pg_temp.try('CREATE INDEX bad_index ON bad ("SubAccountId")', $$import_focus('bad_index')$$);
SELECT pg_temp.try('', 'import_focus(0)');
-- CUR
SELECT pg_temp.try('CREATE TEMP TABLE bad_cur AS TABLE cur; ALTER TABLE bad_cur DROP "lineItem/UnblendedCost", DROP "bill/PayerAccountId"',
	$$import_cur('bad_cur')$$);
SELECT pg_temp.try($$CREATE TEMP TABLE bad_cur AS TABLE cur_2_0; UPDATE bad_cur SET product = 'no map'$$,
	$$import_cur('bad_cur')$$);
SELECT pg_temp.try($$CREATE TEMP TABLE bad_cur AS TABLE cur; UPDATE bad_cur SET "lineItem/UnblendedCost" = 'NaN'$$,
	$$import_cur('bad_cur')$$);
SELECT pg_temp.try($$CREATE TEMP TABLE bad_cur AS TABLE cur; UPDATE bad_cur SET "lineItem/UsageStartDate" = NULL$$,
	$$import_cur('bad_cur')$$);
SELECT pg_temp.try($$CREATE TEMP TABLE bad_cur AS TABLE cur; UPDATE bad_cur SET "lineItem/LineItemType" = 'PromotionalCredit'
	WHERE "lineItem/LineItemType" = 'Credit'$$, $$import_cur('bad_cur')$$);

\pset tuples_only off
\pset format aligned
SELECT pg_temp.books() = :'before' AS nothing_has_changed;

-- how far it is, said on the way
SET client_min_messages = notice;
SELECT lines_unchanged FROM import_focus('focus_1_0') ORDER BY 1;
SELECT * FROM verify();
