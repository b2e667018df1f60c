-- A bill in FOCUS columns: imported, its AWS credit made credit memos of the accounts that own it,
-- invoiced and reconciled.

\set ON_ERROR_STOP on
\set QUIET on
\pset footer off
SET client_min_messages = warning;
SET datestyle = iso;
CREATE EXTENSION creditmemo;
SET search_path = creditmemo;

CREATE TEMP TABLE export (:columns);
\copy export FROM PROGRAM 'cat <&3' WITH (FORMAT csv, NULL 'NULL')
\set SHOW_CONTEXT never

-- one customer for all, in the currency of AWS's lines
SELECT coalesce(min(quoted) FILTER (WHERE name = 'billingcurrency'), 'NULL::text') AS currency,
	coalesce(min(quoted) FILTER (WHERE name = 'providername'), quote_literal('AWS')) AS provider
FROM (SELECT quote_ident(attname) AS quoted, lower(regexp_replace(attname, '[^[:alnum:]]', '', 'g')) AS name
	  FROM pg_attribute WHERE attrelid = 'export'::regclass AND attnum > 0) named \gset
INSERT INTO customer (customer_id, name, currency)
SELECT 'DEMO', 'Your customer', coalesce(mode() WITHIN GROUP (ORDER BY :currency), 'USD')
FROM export WHERE :currency ~ '^[A-Z]{3}$' AND :provider ~* '^(aws|amazon)';

\echo
\echo 'THE BILL'
\echo 'Costs have many decimals: each account''s services are rounded to cents so that they sum to its total.'
\echo
SET client_min_messages = notice;
CREATE TEMP TABLE imported AS SELECT * FROM import_focus('export', 'DEMO');
SET client_min_messages = warning;
\echo
SELECT payer_account_id AS payer, service_period_text(billing_period) AS month, currency AS cur,
	lines_read AS lines, lines_inserted AS booked, exact_total, rounded_total,
	rounding_difference AS difference, is_final, credits_read AS credits, rounded_credit
FROM imported ORDER BY payer_account_id, billing_period;

-- owners that used nothing are not on the bill
INSERT INTO member_account (account_id, payer_account_id, customer_id, name)
SELECT DISTINCT ON (owner_account_id) owner_account_id, payer_account_id, 'DEMO', 'not on the bill'
FROM provider_credit WHERE owner_account_id IS NOT NULL
ORDER BY owner_account_id, service_period DESC, payer_account_id
ON CONFLICT DO NOTHING;
INSERT INTO po_assignment (account_id, po_number)
SELECT DISTINCT owner_account_id, 'PO-' || right(owner_account_id, 4)
FROM provider_credit WHERE owner_account_id IS NOT NULL;
INSERT INTO credit_memo (account_id, provider_credit_id, amount, redeemed_on)
SELECT owner_account_id, provider_credit_id, -sum(amount), min(service_period)
FROM provider_credit WHERE owner_account_id IS NOT NULL
GROUP BY owner_account_id, provider_credit_id HAVING sum(amount) < 0
ORDER BY min(service_period), owner_account_id, provider_credit_id;
SELECT count(*) > 0 AS has_credit FROM provider_credit \gset

DO $$
DECLARE
	billing record;
	number int := 1001;
BEGIN
	FOR billing IN SELECT DISTINCT service_period, customer_id FROM creditmemo.unbilled ORDER BY 1, 2 LOOP
		PERFORM creditmemo.issue_invoice('SI' || number, billing.customer_id, billing.service_period,
			(billing.service_period + interval '1 month 4 days')::date);
		number := number + 1;
	END LOOP;
END
$$;

\echo 'CREDIT MEMOS'
\if :has_credit
\echo 'What AWS applied of a credit, to whichever account, is a memo of the account that owns it.'
\echo
SELECT memo_number AS memo, account_id, po_number AS po, left(provider_credit_id, 40) AS aws_credit, amount,
	applied, balance, status
FROM memo_balance ORDER BY memo_id LIMIT 20;
\else
\echo 'AWS applied no credit on this bill.'
\echo
\endif

\echo 'INVOICES, THE FACE'
\echo
SELECT invoice_number AS invoice, service_period_text(service_period) AS period, customer_name, accounts,
	total_utilization, credit_applied, balance_due
FROM invoice_face ORDER BY invoice_number;

\echo 'INVOICES, THE BODY'
\echo 'The largest lines, and those with credit.'
\echo
SELECT invoice_number AS invoice, account_id, left(account_name, 16) AS name, utilization, credit_applied, due,
	prior_balance, balance_of_funds
FROM (SELECT *, row_number() OVER (ORDER BY abs(utilization) DESC, invoice_number, account_id) AS place
	  FROM invoice_body) b
WHERE place <= 10 OR credit_applied <> 0 AND place <= 1000
ORDER BY invoice_number, utilization DESC, account_id;

\if :has_credit
\echo 'AWS''S CREDIT BESIDE OURS'
\echo 'Who got AWS''s credit (applied), whose it was (owned), what spilled from one to the other, and what our'
\echo 'memos paid.  Difference to date above zero: AWS has given it to us, and we still owe it to the account.'
\echo
SELECT to_char(service_period, 'YYYY-MM') AS month, account_id, left(account_name, 16) AS name, aws_applied AS applied,
	aws_owned AS owned, spill_in, spill_out, memo_applied AS our_memos, difference, difference_to_date AS to_date
FROM credit_reconciliation
ORDER BY service_period, greatest(abs(aws_applied), abs(aws_owned), abs(memo_applied)) DESC, account_id
LIMIT 20;

CREATE TEMP TABLE otherwise AS
	SELECT p.service_period, a.*
	FROM (SELECT DISTINCT payer_account_id, service_period FROM provider_credit) p
	CROSS JOIN LATERAL predicted_allocation(p.payer_account_id, p.service_period) a
	WHERE a.differs;
SELECT count(*) > 0 AS is_otherwise FROM otherwise \gset
\echo 'WHERE AWS''S PUBLISHED ORDER WOULD HAVE SENT IT'
\echo 'First to the owner''s account, then to the account with the highest spend, in it the costliest service.'
\if :is_otherwise
\echo 'AWS sent it otherwise here:'
\echo
SELECT to_char(service_period, 'YYYY-MM') AS month, owner_account_id AS owner, account_id,
	left(service, 36) AS service, spend, predicted, actual
FROM otherwise
ORDER BY service_period, abs(predicted - actual) DESC, account_id, service
LIMIT 20;
\else
\echo 'AWS sent it all there.'
\echo
\endif
\endif

\echo 'THE BOOKS ARE SOUND when verify() finds no problem:'
\echo
SELECT count(*) AS problems FROM verify();
