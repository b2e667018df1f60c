/*
 * What all variants start from: accounts, the first of them with a customer each, the others so many to a
 * customer; and for every so-many-th account a credit memo that is open from January 2019 on, a third of
 * them smaller.  Lines to load are in public.bill.
 *
 * Variables: accounts, single_accounts, customer_accounts, memo_every, memo, small_memo, lines.
 */
CREATE EXTENSION creditmemo;
CREATE FUNCTION public.account(n bigint) RETURNS text LANGUAGE sql IMMUTABLE RETURN lpad(n::text, 12, '0');

CREATE FUNCTION public.month(no integer) RETURNS date LANGUAGE sql IMMUTABLE
RETURN (date '2019-01-01' + no * interval '1 month')::date;

CREATE TEMP TABLE account AS
SELECT public.account(n) AS account_id,
	CASE WHEN n < :single_accounts THEN 'S' || n ELSE 'C' || n / :customer_accounts END AS customer_id
FROM generate_series(0, :accounts - 1) n;
INSERT INTO creditmemo.customer (customer_id, name, email)
SELECT DISTINCT customer_id, 'Customer ' || customer_id, lower(customer_id) || '@customer.example' FROM account;
INSERT INTO creditmemo.payer_account (payer_account_id) VALUES ('999999999999');
INSERT INTO creditmemo.member_account (account_id, payer_account_id, customer_id)
SELECT account_id, '999999999999', customer_id FROM account;
INSERT INTO creditmemo.po_assignment (account_id, po_number)
SELECT account_id, 'PO' FROM creditmemo.member_account;
INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on)
SELECT public.account(n), CASE WHEN n / :memo_every % 3 = 0 THEN :small_memo ELSE :memo END, '2019-01-01'
FROM generate_series(0, :accounts - 1, :memo_every) n;

-- line n belongs to account n % accounts: they are in no account's order
CREATE TABLE public.bill AS
SELECT n AS line_no, public.month(0) AS service_period, public.account(n % :accounts) AS account_id,
	'Service ' || n % 7 AS service, (n::bigint * 7919 % 1009 + 1) * 0.01 AS amount, 'line ' || n AS source_id
FROM generate_series(1, :lines) n;

-- the first so many of them, as lines of another month
CREATE FUNCTION public.month_lines(no integer, lines integer)
RETURNS TABLE (service_period date, account_id text, service text, amount numeric, source_id text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT public.month(no), b.account_id, b.service, b.amount, to_char(public.month(no), 'YYYY-MM ') || b.source_id
	FROM public.bill b
	WHERE b.line_no <= lines;
END;
CREATE FUNCTION public.invoice_month(no integer) RETURNS bigint LANGUAGE sql
BEGIN ATOMIC
	SELECT count(creditmemo.issue_invoice(format('SI%s-%s', no, c.customer_id), c.customer_id,
		public.month(no), public.month(no + 1)))
	FROM creditmemo.customer c;
END;
