\echo Use "ALTER EXTENSION creditmemo UPDATE TO '1.1'" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;

-- ---------------------------------------------------------------------------------------------
-- Functions
-- ---------------------------------------------------------------------------------------------

-- the same as before, said so that it can be asked of several machines, too
CREATE OR REPLACE FUNCTION creditmemo.balance_as_of(at timestamptz)
RETURNS TABLE (account_id text, memo_id bigint, balance numeric)
LANGUAGE plpgsql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT DISTINCT ON (e.account_id, e.memo_id) e.account_id, e.memo_id, e.balance_after::numeric
	FROM creditmemo.memo_entry e
	WHERE e.recorded_at <= balance_as_of.at
	ORDER BY e.account_id, e.memo_id, e.entry_no DESC;
END
$$;

CREATE OR REPLACE FUNCTION creditmemo.predicted_allocation(payer_account_id text, service_period date)
RETURNS TABLE (provider_credit_id text, owner_account_id text, account_id text, service text, spend numeric,
	predicted numeric, actual numeric, differs boolean, rule text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	-- what there is to pay, in AWS's order: accounts by what they spend, their services by what they cost
	accounts text[] COLLATE "C";
	services text[];
	spends numeric[];
	unpaid numeric[];
	credit record;
	owners text[] COLLATE "C";
	place integer;
	at_owner boolean;
	paid numeric;
	-- what is predicted: which credit pays how much at which place
	predicted_ids text[] := '{}';
	predicted_owners text[] COLLATE "C" := '{}';
	predicted_places integer[] := '{}';
	predicted_amounts numeric[] := '{}';
BEGIN
	PERFORM creditmemo.require_payer_period(predicted_allocation.payer_account_id, predicted_allocation.service_period);
	SELECT array_agg(s.account_id ORDER BY s.account_spend DESC, s.account_id, s.spend DESC, s.service COLLATE "C"),
		array_agg(s.service ORDER BY s.account_spend DESC, s.account_id, s.spend DESC, s.service COLLATE "C"),
		array_agg(s.spend ORDER BY s.account_spend DESC, s.account_id, s.spend DESC, s.service COLLATE "C")
	INTO accounts, services, spends
	FROM (
		SELECT u.account_id, u.service, sum(u.amount) AS spend,
			sum(sum(u.amount)) OVER (PARTITION BY u.account_id) AS account_spend
		FROM creditmemo.utilization u
		JOIN creditmemo.member_account a ON a.account_id = u.account_id
		WHERE a.payer_account_id = predicted_allocation.payer_account_id
			AND u.service_period = predicted_allocation.service_period AND u.creditable
		GROUP BY u.account_id, u.service) s
	WHERE s.spend > 0;
	unpaid := spends;
	-- first of all the owners: the memos of their accounts are found by index, or shard
	SELECT array_agg(DISTINCT coalesce(p.owner_account_id, p.account_id)) INTO owners
	FROM creditmemo.provider_credit p
	WHERE p.payer_account_id = predicted_allocation.payer_account_id
		AND p.service_period = predicted_allocation.service_period AND p.provider_credit_id IS NOT NULL;
	FOR credit IN
		SELECT c.provider_credit_id, c.owner_account_id, c.amount, m.services
		FROM (
			SELECT p.provider_credit_id, coalesce(p.owner_account_id, p.account_id) AS owner_account_id,
				-sum(p.amount) AS amount
			FROM creditmemo.provider_credit p
			WHERE p.payer_account_id = predicted_allocation.payer_account_id
				AND p.service_period = predicted_allocation.service_period
			GROUP BY 1, 2) c
		LEFT JOIN (
			SELECT DISTINCT ON (m.account_id, m.provider_credit_id) m.account_id, m.provider_credit_id, m.expires_on,
				m.services, m.redeemed_on
			FROM creditmemo.credit_memo m
			WHERE m.voided_at IS NULL AND m.account_id = ANY (owners)
			ORDER BY m.account_id, m.provider_credit_id, m.memo_id) m
			ON m.account_id = c.owner_account_id AND m.provider_credit_id = c.provider_credit_id
		ORDER BY m.expires_on, cardinality(m.services), m.redeemed_on, c.owner_account_id, c.provider_credit_id
	LOOP
		place := array_position(accounts, credit.owner_account_id);
		at_owner := place IS NOT NULL;
		place := coalesce(place, 1);
		WHILE credit.amount > 0 AND place <= cardinality(accounts) LOOP
			paid := least(credit.amount, unpaid[place]);
			IF paid > 0 AND (credit.services IS NULL OR services[place] = ANY (credit.services)) THEN
				credit.amount := credit.amount - paid;
				unpaid[place] := unpaid[place] - paid;
				predicted_ids := array_append(predicted_ids, credit.provider_credit_id);
				predicted_owners := array_append(predicted_owners, credit.owner_account_id);
				predicted_places := array_append(predicted_places, place);
				predicted_amounts := array_append(predicted_amounts, paid);
			END IF;
			place := place + 1;
			IF at_owner AND accounts[place] IS DISTINCT FROM credit.owner_account_id THEN
				at_owner := false;
				place := 1;
			END IF;
		END LOOP;
	END LOOP;

	RETURN QUERY
	WITH allocated AS (
		SELECT p.provider_credit_id, p.owner_account_id, accounts[p.place] AS account_id, services[p.place] AS service,
			p.amount AS predicted, 0.00 AS actual
		FROM unnest(predicted_ids, predicted_owners, predicted_places, predicted_amounts)
			p (provider_credit_id, owner_account_id, place, amount)
		UNION ALL
		SELECT p.provider_credit_id, coalesce(p.owner_account_id, p.account_id), p.account_id, p.service, 0.00, -p.amount
		FROM creditmemo.provider_credit p
		WHERE p.payer_account_id = predicted_allocation.payer_account_id
			AND p.service_period = predicted_allocation.service_period),
	allocation AS (
		SELECT a.provider_credit_id, a.owner_account_id, a.account_id, a.service,
			round(sum(a.predicted), 2) AS predicted, round(sum(a.actual), 2) AS actual
		FROM allocated a
		GROUP BY a.provider_credit_id, a.owner_account_id, a.account_id, a.service)
	SELECT a.provider_credit_id, a.owner_account_id, a.account_id, a.service, round(coalesce(c.spend, 0), 2),
		a.predicted, a.actual,
		-- charges and credit are rounded apart: a cent says nothing
		abs(a.predicted - a.actual) > 0.01,
		CASE WHEN a.predicted = 0 THEN NULL WHEN a.account_id = a.owner_account_id THEN 'owner' ELSE 'highest spend' END
	FROM allocation a
	LEFT JOIN unnest(accounts, services, spends) c (account_id, service, spend)
		ON c.account_id = a.account_id AND c.service = a.service
	ORDER BY a.provider_credit_id, a.owner_account_id, a.account_id, a.service;
END
$$;

-- ---------------------------------------------------------------------------------------------
-- More than one machine
-- ---------------------------------------------------------------------------------------------

/*
 * Citus distributes the tables: those by account over all machines, each account's rows of all tables together;
 * the others are copied to each.  The engine works where an account's books are.  For functions that concern
 * accounts on several machines, account_work takes there what is to be done, by an ordinary INSERT, so that all
 * of it commits or nothing.
 */
CREATE TABLE creditmemo.account_work (
	account_id text COLLATE "C" NOT NULL,
	work text COLLATE "C" NOT NULL
		CHECK (work IN ('invoice', 'void invoice', 'void memo', 'close', 'reopen')),
	service_period creditmemo.service_period,
	customer_id text COLLATE "C",
	payer_account_id text COLLATE "C",
	invoice_number text COLLATE "C",
	memo_number text COLLATE "C",
	reason text
);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.account_work', '');
COMMENT ON TABLE creditmemo.account_work IS 'Where the tables are distributed: takes work to the machines that member accounts are on. Always empty: the work is done by the INSERT. Written by issue_invoice(), void_invoice(), void_memo(), close_period() and reopen_period()';
COMMENT ON COLUMN creditmemo.account_work.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.account_work.work IS 'What is to be done: invoice, void invoice, void memo, close or reopen';
COMMENT ON COLUMN creditmemo.account_work.service_period IS 'The service period to invoice, close or reopen';
COMMENT ON COLUMN creditmemo.account_work.customer_id IS 'The customer of the invoice';
COMMENT ON COLUMN creditmemo.account_work.payer_account_id IS 'The payer whose accounts are closed or reopened; null: all';
COMMENT ON COLUMN creditmemo.account_work.invoice_number IS 'The invoice to put the account on, or to take it off';
COMMENT ON COLUMN creditmemo.account_work.memo_number IS 'The credit memo to void';
COMMENT ON COLUMN creditmemo.account_work.reason IS 'Why it is voided';

CREATE TABLE creditmemo.invoice_work (
	invoice_number text COLLATE "C" NOT NULL,
	voided_at timestamptz NOT NULL,
	void_reason text NOT NULL
);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.invoice_work', '');
COMMENT ON TABLE creditmemo.invoice_work IS 'Where the tables are distributed: takes to each machine that an invoice is void. Always empty: the INSERT does it. Written by void_invoice()';
COMMENT ON COLUMN creditmemo.invoice_work.invoice_number IS 'The invoice';
COMMENT ON COLUMN creditmemo.invoice_work.voided_at IS 'When it was voided';
COMMENT ON COLUMN creditmemo.invoice_work.void_reason IS 'Why it was voided';

CREATE FUNCTION creditmemo.do_account_work() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.do_account_work() IS
'Does what the inserted row asks for, on the machine that the account is on; the row is not stored';
CREATE TRIGGER account_work_do BEFORE INSERT ON creditmemo.account_work
	FOR EACH ROW EXECUTE FUNCTION creditmemo.do_account_work();

CREATE FUNCTION creditmemo.do_invoice_work() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.do_invoice_work() IS
'Writes on the invoice that it is void; the inserted row is not stored';
CREATE TRIGGER invoice_work_do BEFORE INSERT ON creditmemo.invoice_work
	FOR EACH ROW EXECUTE FUNCTION creditmemo.do_invoice_work();

CREATE FUNCTION creditmemo.is_distributed() RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('pg_catalog.pg_dist_partition') IS NULL THEN
		RETURN false;
	END IF;
	RETURN EXISTS (
		SELECT FROM pg_dist_partition p WHERE p.logicalrelid = 'creditmemo.member_account'::regclass);
END
$$;
COMMENT ON FUNCTION creditmemo.is_distributed() IS
'Whether the tables are spread over several machines, see distribute()';

CREATE FUNCTION creditmemo.tables_beside(shard regclass, tables text[]) RETURNS regclass[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found regclass[];
BEGIN
	IF to_regclass('pg_catalog.pg_dist_shard') IS NOT NULL THEN
		-- of a table that is on each machine, those by account are not beside it
		SELECT array_agg(to_regclass(shard_name(beside.logicalrelid, beside.shardid)) ORDER BY t.place) INTO found
		FROM pg_dist_shard s
		JOIN pg_dist_partition p ON p.logicalrelid = s.logicalrelid
		CROSS JOIN unnest(tables) WITH ORDINALITY t (name, place)
		LEFT JOIN LATERAL (
			SELECT o.logicalrelid, o.shardid
			FROM pg_dist_partition q
			JOIN pg_dist_shard o ON o.logicalrelid = q.logicalrelid
			WHERE q.logicalrelid = format('creditmemo.%I', t.name)::regclass
				AND (q.partmethod = 'n'
					 OR q.colocationid = p.colocationid AND o.shardminvalue = s.shardminvalue)) beside ON true
		WHERE s.shardid = substring(shard::text FROM '_([0-9]+)$')::numeric
			AND s.logicalrelid = to_regclass(regexp_replace(shard::text, '_[0-9]+$', ''));
	END IF;
	IF found IS NULL THEN
		RAISE EXCEPTION 'table % is no shard of a distributed table', shard
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'If the table was renamed, take that back.';
	END IF;
	RETURN found;
END
$$;
COMMENT ON FUNCTION creditmemo.tables_beside(regclass, text[]) IS
'The tables that have the rows of the same member accounts as the shard; null for tables by account where the shard is of a table that is on each machine';

/*
 * What issue_invoice(), void_invoice(), void_memo(), close_period() and reopen_period() do where the tables
 * are distributed.  Those call these, with arguments that have been checked; nobody else may.  They write what
 * only triggers and those functions write, so they run as owner.
 */
CREATE FUNCTION creditmemo.issue_invoice_distributed(
	invoice_number text, customer_id text, service_period date, invoice_date date, accounts text[])
RETURNS creditmemo.invoice
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET citus.multi_shard_modify_mode = 'sequential'
AS $$
#variable_conflict use_column
DECLARE
	customer creditmemo.customer;
	invoice creditmemo.invoice;
	known text[];
	unknown text[];
	others text[];
	billings bigint;
	latest timestamptz;
BEGIN
	SELECT * INTO customer FROM creditmemo.customer c WHERE c.customer_id = issue_invoice_distributed.customer_id;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'unknown customer "%"', issue_invoice_distributed.customer_id
			USING ERRCODE = 'foreign_key_violation',
				HINT = 'Look its id up in creditmemo.customer, or insert it there first.';
	END IF;
	IF issue_invoice_distributed.invoice_number = '' THEN
		RAISE EXCEPTION 'the number of an invoice cannot be empty'
			USING ERRCODE = 'check_violation', HINT = 'Give the number that the invoice has in the ERP.';
	END IF;
	IF EXISTS (SELECT FROM creditmemo.invoice i WHERE i.invoice_number = issue_invoice_distributed.invoice_number) THEN
		RAISE EXCEPTION 'invoice number "%" is already used', issue_invoice_distributed.invoice_number
			USING ERRCODE = 'unique_violation',
				HINT = 'Give a new number; that of a voided invoice cannot be used again.';
	END IF;
	IF array_position(accounts, NULL) IS NOT NULL THEN
		RAISE EXCEPTION 'an account to invoice is null'
			USING ERRCODE = 'null_value_not_allowed',
				HINT = 'Give ids of member accounts, or null instead of the array for all.';
	END IF;

	-- each machine inserts those that it has, in their order
	INSERT INTO creditmemo.account_work (account_id, work, service_period, customer_id, invoice_number)
	SELECT a.account_id, 'invoice', issue_invoice_distributed.service_period, a.customer_id,
		issue_invoice_distributed.invoice_number
	FROM creditmemo.member_account a
	WHERE a.customer_id = issue_invoice_distributed.customer_id AND (accounts IS NULL OR a.account_id = ANY (accounts))
	ORDER BY a.account_id;
	IF accounts IS NOT NULL THEN
		SELECT array_agg(a.account_id),
			array_agg(a.account_id) FILTER (WHERE a.customer_id <> issue_invoice_distributed.customer_id)
		INTO known, others
		FROM creditmemo.member_account a
		WHERE a.account_id = ANY (accounts);
		SELECT array_agg(DISTINCT n.account_id COLLATE "C" ORDER BY n.account_id COLLATE "C") INTO unknown
		FROM unnest(accounts) n (account_id)
		WHERE n.account_id <> ALL (coalesce(known, '{}'));
		IF unknown IS NOT NULL THEN
			RAISE EXCEPTION '%', CASE cardinality(unknown) WHEN 1 THEN 'unknown member account' ELSE 'unknown member accounts' END
				USING ERRCODE = 'foreign_key_violation',
					DETAIL = format('Not in creditmemo.member_account: %s.', creditmemo.account_list(unknown)),
					HINT = 'Check the ids (leading zeros are kept), or insert what is missing into creditmemo.member_account first, with its payer account and customer.';
		END IF;
		IF others IS NOT NULL THEN
			RAISE EXCEPTION 'an invoice of customer "%" cannot bill another customer''s account', issue_invoice_distributed.customer_id
				USING ERRCODE = 'invalid_parameter_value',
					DETAIL = format('Of another customer: %s.', creditmemo.account_list(ARRAY(SELECT unnest(others) COLLATE "C" ORDER BY 1))),
					HINT = 'Invoice each customer''s accounts by themselves.';
		END IF;
	END IF;

	-- by the clocks of the machines that the accounts are on, too: what they recorded before is not later
	SELECT count(*), greatest(clock_timestamp(), max(b.clock)) INTO billings, latest
	FROM (
		SELECT clock_timestamp() AS clock
		FROM creditmemo.billing b
		WHERE b.invoice_number = issue_invoice_distributed.invoice_number) b;
	IF billings = 0 THEN
		RAISE EXCEPTION 'nothing to bill customer "%" for %', issue_invoice_distributed.customer_id,
				creditmemo.service_period_text(issue_invoice_distributed.service_period)
			USING ERRCODE = 'no_data_found',
				DETAIL = 'No open billing of that service period has lines or credit.',
				HINT = 'See what is open in creditmemo.unbilled.';
	END IF;
	INSERT INTO creditmemo.invoice
		(invoice_number, customer_id, customer_name, customer_address, service_period, invoice_date, due_date, recorded_at)
	VALUES (issue_invoice_distributed.invoice_number, customer.customer_id, customer.name, customer.address,
		issue_invoice_distributed.service_period, issue_invoice_distributed.invoice_date,
		issue_invoice_distributed.invoice_date + customer.payment_terms_days, latest)
	RETURNING * INTO invoice;
	RETURN invoice;
END
$$;
COMMENT ON FUNCTION creditmemo.issue_invoice_distributed(text, text, date, date, text[]) IS
'What issue_invoice() does where the tables are distributed';

CREATE FUNCTION creditmemo.void_invoice_distributed(invoice_number text, reason text) RETURNS creditmemo.invoice
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET citus.multi_shard_modify_mode = 'sequential'
AS $$
#variable_conflict use_column
DECLARE
	invoice creditmemo.invoice;
	latest timestamptz;
BEGIN
	SELECT * INTO invoice
	FROM creditmemo.invoice i
	WHERE i.invoice_number = void_invoice_distributed.invoice_number
	FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no invoice "%"', void_invoice_distributed.invoice_number
			USING ERRCODE = 'no_data_found', HINT = 'Look its number up in creditmemo.invoice_face.';
	END IF;
	IF invoice.voided_at IS NOT NULL THEN
		RAISE EXCEPTION 'invoice "%" is void already', void_invoice_distributed.invoice_number
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = 'The reason was: ' || invoice.void_reason, HINT = 'Nothing is left to do.';
	END IF;
	INSERT INTO creditmemo.account_work (account_id, work, customer_id, invoice_number)
	SELECT b.account_id, 'void invoice', invoice.customer_id, b.invoice_number
	FROM creditmemo.billing b
	WHERE b.invoice_number = void_invoice_distributed.invoice_number
	ORDER BY b.account_id;
	SELECT greatest(clock_timestamp(), max(b.clock)) INTO latest
	FROM (
		SELECT clock_timestamp() AS clock
		FROM creditmemo.voided_billing b
		WHERE b.invoice_number = void_invoice_distributed.invoice_number) b;
	INSERT INTO creditmemo.invoice_work (invoice_number, voided_at, void_reason)
	VALUES (void_invoice_distributed.invoice_number, latest, reason);
	SELECT * INTO invoice FROM creditmemo.invoice i WHERE i.invoice_number = void_invoice_distributed.invoice_number;
	RETURN invoice;
END
$$;
COMMENT ON FUNCTION creditmemo.void_invoice_distributed(text, text) IS
'What void_invoice() does where the tables are distributed';

CREATE FUNCTION creditmemo.void_memo_distributed(memo_number text, reason text, account_id text)
RETURNS creditmemo.credit_memo
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	memo creditmemo.credit_memo;
	owners text[];
	owner text;
BEGIN
	SELECT array_agg(m.account_id ORDER BY m.account_id) INTO owners
	FROM creditmemo.credit_memo m
	WHERE m.memo_number = void_memo_distributed.memo_number;
	IF owners IS NULL THEN
		RAISE EXCEPTION 'there is no credit memo "%"', void_memo_distributed.memo_number
			USING ERRCODE = 'no_data_found', HINT = 'Look its number up in creditmemo.memo_balance.';
	END IF;
	owner := coalesce(void_memo_distributed.account_id, owners[1]);
	IF owner <> ALL (owners) THEN
		RAISE EXCEPTION 'member account "%" has no credit memo "%"', owner, void_memo_distributed.memo_number
			USING ERRCODE = 'no_data_found',
				DETAIL = format('Accounts that have one: %s.', creditmemo.account_list(owners)),
				HINT = 'The arguments are number, reason and account.';
	END IF;
	IF void_memo_distributed.account_id IS NULL AND cardinality(owners) > 1 THEN
		RAISE EXCEPTION 'several accounts have a credit memo "%"', void_memo_distributed.memo_number
			USING ERRCODE = 'cardinality_violation',
				DETAIL = format('They are: %s.', creditmemo.account_list(owners)),
				HINT = 'Say which with account_id => ''...''.';
	END IF;
	INSERT INTO creditmemo.account_work (account_id, work, memo_number, reason)
	VALUES (owner, 'void memo', void_memo_distributed.memo_number, void_memo_distributed.reason);
	SELECT * INTO memo
	FROM creditmemo.credit_memo m
	WHERE m.account_id = owner AND m.memo_number = void_memo_distributed.memo_number;
	RETURN memo;
END
$$;
COMMENT ON FUNCTION creditmemo.void_memo_distributed(text, text, text) IS
'What void_memo() does where the tables are distributed';

CREATE FUNCTION creditmemo.change_closing(action text, service_period date, payer_account_id text, reason text)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET citus.multi_shard_modify_mode = 'sequential'
AS $$
#variable_conflict use_column
DECLARE
	closed_before bigint;
	closed_after bigint;
BEGIN
	IF NOT EXISTS (
			SELECT FROM creditmemo.payer_account p
			WHERE p.payer_account_id = change_closing.payer_account_id)
		AND change_closing.payer_account_id IS NOT NULL THEN
		RAISE EXCEPTION 'unknown payer account "%"', change_closing.payer_account_id
			USING ERRCODE = 'foreign_key_violation',
				HINT = 'Look it up in creditmemo.payer_account. A reason is given with reason => ''...''.';
	END IF;
	-- one at a time, so that the accounts can be counted
	LOCK TABLE creditmemo.period_closing IN SHARE ROW EXCLUSIVE MODE;
	SELECT count(*) INTO closed_before
	FROM creditmemo.member_account a WHERE a.closed_through >= change_closing.service_period;
	INSERT INTO creditmemo.account_work (account_id, work, service_period, payer_account_id)
	SELECT a.account_id, change_closing.action, change_closing.service_period, change_closing.payer_account_id
	FROM creditmemo.member_account a
	WHERE (change_closing.payer_account_id IS NULL OR a.payer_account_id = change_closing.payer_account_id)
		AND coalesce(a.closed_through >= change_closing.service_period, false) = (change_closing.action = 'reopen')
	ORDER BY a.account_id;
	SELECT count(*) INTO closed_after
	FROM creditmemo.member_account a WHERE a.closed_through >= change_closing.service_period;
	IF closed_after <> closed_before THEN
		INSERT INTO creditmemo.period_closing (service_period, payer_account_id, action, reason, accounts, recorded_at)
		VALUES (change_closing.service_period, change_closing.payer_account_id, change_closing.action,
			change_closing.reason, abs(closed_after - closed_before), clock_timestamp());
	END IF;
	RETURN abs(closed_after - closed_before);
END
$$;
COMMENT ON FUNCTION creditmemo.change_closing(text, date, text, text) IS
'What close_period() and reopen_period() do where the tables are distributed';

CREATE FUNCTION creditmemo.close_period_distributed(service_period date, payer_account_id text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	accounts bigint := creditmemo.change_closing('close', service_period, payer_account_id, NULL);
BEGIN
	IF service_period >= date_trunc('month', current_date) THEN
		RAISE WARNING 'service period % has not ended yet', creditmemo.service_period_text(service_period)
			USING HINT = 'If it was closed by mistake, open it again with reopen_period().';
	END IF;
	RETURN accounts;
END
$$;
COMMENT ON FUNCTION creditmemo.close_period_distributed(date, text) IS
'What close_period() does where the tables are distributed';

CREATE FUNCTION creditmemo.reopen_period_distributed(service_period date, payer_account_id text, reason text)
RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER
RETURN creditmemo.change_closing('reopen', service_period, payer_account_id, reason);
COMMENT ON FUNCTION creditmemo.reopen_period_distributed(date, text, text) IS
'What reopen_period() does where the tables are distributed';

/*
 * What verify() compares of an account is in one place.  Where the tables are distributed, each machine runs its
 * query on its shards.
 */
ALTER FUNCTION creditmemo.verify() RENAME TO verify_tables;
COMMENT ON FUNCTION creditmemo.verify_tables() IS
'What verify() finds where the tables are not distributed';

CREATE FUNCTION creditmemo.verify_shard(shard regclass)
RETURNS TABLE (problem text, account_id text, detail text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET enable_nestloop = off
SET enable_mergejoin = off
SET jit = off
SET work_mem = '64MB'
AS $$
DECLARE
	names text[] := '{customer, member_account, credit_memo, utilization, billing, memo_entry, invoice, voided_billing, voided_line}';
	tables regclass[] := creditmemo.tables_beside(shard, names);
	query text := pg_get_function_sqlbody('creditmemo.verify_tables()'::regprocedure);
BEGIN
	query := regexp_replace(query, '^\s*BEGIN ATOMIC(.*);\s*END\s*$', '\1');
	FOR i IN 1 .. cardinality(names) LOOP
		-- where the table has no name of its own in the query, it keeps the one it had
		query := regexp_replace(query, format('\mcreditmemo\.%s\M(?! [a-z])', names[i]),
			format('%s %s', tables[i], names[i]), 'g');
		query := regexp_replace(query, format('\mcreditmemo\.%s\M', names[i]), tables[i]::text, 'g');
	END LOOP;
	RETURN QUERY EXECUTE query;
END
$$;
COMMENT ON FUNCTION creditmemo.verify_shard(regclass) IS
'What verify() finds in a shard of member_account and those that have the rows of the same accounts';

CREATE FUNCTION creditmemo.verify()
RETURNS TABLE (problem text, account_id text, detail text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shards bigint;
	failed text;
	results jsonb;
BEGIN
	IF NOT creditmemo.is_distributed() THEN
		RETURN QUERY SELECT v.problem, v.account_id, v.detail FROM creditmemo.verify_tables() v;
		RETURN;
	END IF;
	SELECT count(*), string_agg(DISTINCT r.result, E'\n') FILTER (WHERE NOT r.success),
		jsonb_agg(r.result::jsonb) FILTER (WHERE r.success)
	INTO shards, failed, results
	FROM run_command_on_shards('creditmemo.member_account',
		'SELECT coalesce(jsonb_agg(v), ''[]'') FROM creditmemo.verify_shard(''%s'') v') r;
	IF failed IS NOT NULL THEN
		RAISE EXCEPTION 'the books could not be read on each machine'
			USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = failed,
				HINT = 'See that each machine is reached, and verify again.';
	END IF;
	RETURN QUERY
	SELECT f.problem, f.account_id, f.detail
	FROM jsonb_array_elements(results) r (found)
	CROSS JOIN LATERAL jsonb_to_recordset(r.found) f (problem text, account_id text, detail text)
	GROUP BY f.problem, f.account_id, f.detail
	-- that an invoice bills nothing is so if no machine has anything on it
	HAVING f.account_id IS NOT NULL OR count(*) = shards;
END
$$;
COMMENT ON FUNCTION creditmemo.verify() IS
'Checks the books from their rows: every balance, billing, entry and invoice against what it must be. No row means that they are sound';
DO $$
DECLARE
	granted record;
BEGIN
	-- whoever could call it before can do so now
	FOR granted IN
		SELECT a.grantee::regrole AS role
		FROM pg_proc p
		CROSS JOIN aclexplode(p.proacl) a
		WHERE p.oid = 'creditmemo.verify_tables()'::regprocedure AND a.grantee <> 0 AND a.grantee <> p.proowner
	LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION creditmemo.verify() TO %s', granted.role);
	END LOOP;
END
$$;

CREATE FUNCTION creditmemo.invoice_sums(invoice_number text, OUT accounts bigint, OUT total_utilization numeric,
	OUT credit_applied numeric, OUT balance_due numeric, OUT prior_balance numeric, OUT balance_of_funds numeric,
	OUT po_numbers text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET citus.allow_nested_distributed_execution = on
AS $$
BEGIN
	SELECT count(*), coalesce(sum(b.utilization), 0.00), coalesce(sum(b.credit_applied), 0.00),
		coalesce(sum(b.due), 0.00), coalesce(sum(b.prior_balance), 0.00), coalesce(sum(b.balance_of_funds), 0.00),
		string_agg(DISTINCT b.po_number COLLATE "C", ', ')
	INTO accounts, total_utilization, credit_applied, balance_due, prior_balance, balance_of_funds, po_numbers
	FROM creditmemo.invoice_body b
	WHERE b.invoice_number = invoice_sums.invoice_number;
END
$$;
COMMENT ON FUNCTION creditmemo.invoice_sums(text) IS
'What invoice_face shows of an invoice''s accounts, where the tables are distributed';

CREATE FUNCTION creditmemo.prepare_machine() RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- so that no two machines give the same id
	PERFORM setval(s.id, (g.groupid::bigint << 48) + 1, false)
	FROM pg_dist_local_group g
	CROSS JOIN unnest('{creditmemo.credit_memo_memo_id_seq, creditmemo.utilization_utilization_id_seq,
		creditmemo.provider_credit_provider_credit_line_id_seq,
		creditmemo.email_template_email_template_id_seq}'::regclass[]) s (id)
	WHERE coalesce(pg_sequence_last_value(s.id), 0) < g.groupid::bigint << 48;
	-- the accounts of an invoice are on several machines: they cannot be joined with it there
	CREATE OR REPLACE VIEW creditmemo.invoice_face AS
	SELECT i.invoice_number, i.customer_id, i.customer_name, i.customer_address, i.service_period,
		i.invoice_date, i.due_date, billed.po_numbers COLLATE "C" AS po_numbers, c.currency, billed.accounts,
		CASE WHEN billed.accounts > 1 THEN 'multiple' ELSE 'single' END AS scope,
		billed.total_utilization, billed.credit_applied, billed.balance_due, billed.prior_balance,
		billed.balance_of_funds, i.voided_at, i.void_reason
	FROM creditmemo.invoice i
	JOIN creditmemo.customer c USING (customer_id)
	CROSS JOIN LATERAL creditmemo.invoice_sums(i.invoice_number) billed;
END
$$;
COMMENT ON FUNCTION creditmemo.prepare_machine() IS
'Part of distribute(): what each machine needs besides the tables';

CREATE FUNCTION creditmemo.run_on_other_machines(command text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	failed text;
BEGIN
	-- a machine that has been asked asks no others
	IF NOT creditmemo.is_distributed() OR NOT current_setting('citus.enable_ddl_propagation')::boolean THEN
		RETURN;
	END IF;
	SELECT string_agg(format('%s:%s: %s', r.nodename, r.nodeport, r.result), E'\n') INTO failed
	FROM run_command_on_workers(format(
		'DO $do$ BEGIN SET LOCAL citus.enable_ddl_propagation = off; PERFORM creditmemo.%s; END $do$', command)) r
	WHERE NOT r.success;
	IF failed IS NOT NULL THEN
		RAISE EXCEPTION 'another machine cannot do this'
			USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = failed,
				HINT = 'See that each machine is reached, and do it again on the coordinator.';
	END IF;
END
$$;
COMMENT ON FUNCTION creditmemo.run_on_other_machines(text) IS
'Where the tables are distributed: calls a function of the extension on each other machine';

CREATE FUNCTION creditmemo.distribute(shard_count integer DEFAULT 32) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
DECLARE
	copied text[] := '{customer, payer_account, invoice, period_closing, email_template, seller, invoice_work}';
	by_account text[] := '{po_assignment, credit_memo, utilization, billing, voided_billing, voided_line, memo_entry, provider_credit, bill_account, account_work}';
	name text;
	found text;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'citus') THEN
		RAISE EXCEPTION 'the extension citus is not in this database'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Install Citus on each machine, add citus to shared_preload_libraries there, run CREATE EXTENSION citus in this database on each, and add the machines with citus_add_node().';
	END IF;
	IF NOT EXISTS (SELECT FROM pg_dist_node n WHERE n.isactive AND n.shouldhaveshards) THEN
		RAISE EXCEPTION 'no machine is there to have the tables'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Name this machine with citus_set_coordinator_host(), and add others with citus_add_node().';
	END IF;
	SELECT string_agg(format('%s:%s %s', n.nodename, n.nodeport, coalesce(r.result, 'none')), ', ') INTO found
	FROM run_command_on_all_nodes('SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = ''creditmemo''') r
	JOIN pg_dist_node n ON n.nodeid = r.nodeid
	WHERE r.result IS DISTINCT FROM (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'creditmemo');
	IF found IS NOT NULL THEN
		RAISE EXCEPTION 'machines have another version of creditmemo than this one'
			USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('They are: %s.', found),
				HINT = 'Install the same files on each, and run ALTER EXTENSION creditmemo UPDATE.';
	END IF;

	IF NOT creditmemo.is_distributed() THEN
		PERFORM set_config('citus.enable_unsafe_triggers', 'on', true);
		PERFORM set_config('citus.enable_local_reference_table_foreign_keys', 'off', true);
		PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);
		-- what is copied to the shards has been applied and checked: no trigger does that again
		PERFORM set_config('citus.propagate_set_commands', 'local', true);
		DO $do$ BEGIN SET LOCAL session_replication_role = replica; END $do$;
		FOREACH name IN ARRAY copied LOOP
			PERFORM create_reference_table(format('creditmemo.%I', name)::regclass);
		END LOOP;
		PERFORM create_distributed_table('creditmemo.member_account', 'account_id', shard_count => distribute.shard_count,
			colocate_with => 'none');
		FOREACH name IN ARRAY by_account LOOP
			PERFORM create_distributed_table(format('creditmemo.%I', name)::regclass, 'account_id',
				colocate_with => 'creditmemo.member_account');
		END LOOP;
		FOREACH name IN ARRAY 'member_account'::text || copied || by_account LOOP
			PERFORM truncate_local_data_after_distributing_table(format('creditmemo.%I', name)::regclass);
		END LOOP;
		DO $do$ BEGIN SET LOCAL session_replication_role = origin; END $do$;
	END IF;
	PERFORM creditmemo.run_on_other_machines('prepare_machine()');
	SET LOCAL citus.enable_ddl_propagation = off;
	PERFORM creditmemo.prepare_machine();
	SET LOCAL citus.enable_ddl_propagation = on;
	-- what was granted before, on each machine
	PERFORM creditmemo.grant_reader(a.grantee)
	FROM pg_proc p
	CROSS JOIN aclexplode(p.proacl) a
	WHERE p.oid = 'creditmemo.verify()'::regprocedure AND a.grantee NOT IN (0, p.proowner);
	PERFORM creditmemo.grant_biller(a.grantee)
	FROM pg_proc p
	CROSS JOIN aclexplode(p.proacl) a
	WHERE p.oid = 'creditmemo.issue_invoice(text, text, date, date, text[])'::regprocedure
		AND a.grantee NOT IN (0, p.proowner);
END
$$;
COMMENT ON FUNCTION creditmemo.distribute(integer) IS
'Spreads the tables over the machines of a Citus cluster by member account, with the books that are in them; those without an account are copied to each machine. Call it again after a machine was added';

-- ---------------------------------------------------------------------------------------------
-- Who may use it
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION creditmemo.grant_reader(role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = grant_reader.role) THEN
		RAISE EXCEPTION 'there is no such role'
			USING ERRCODE = 'undefined_object', HINT = 'Name a role; what is granted to it, its members have.';
	END IF;
	EXECUTE format($grants$
		GRANT USAGE ON SCHEMA creditmemo TO %1$s;
		GRANT SELECT ON
			creditmemo.customer, creditmemo.payer_account, creditmemo.member_account, creditmemo.period_closing,
			creditmemo.po_assignment, creditmemo.credit_memo, creditmemo.utilization, creditmemo.invoice,
			creditmemo.billing, creditmemo.voided_billing, creditmemo.voided_line, creditmemo.memo_entry,
			creditmemo.provider_credit, creditmemo.bill_account, creditmemo.seller, creditmemo.email_template,
			creditmemo.po_in_force, creditmemo.credit_use, creditmemo.memo_balance, creditmemo.memo_statement,
			creditmemo.credit_movement, creditmemo.credit_month, creditmemo.account_balance, creditmemo.unbilled,
			creditmemo.invoice_body, creditmemo.invoice_face, creditmemo.invoice_line, creditmemo.invoice_email,
			creditmemo.credit_reconciliation, creditmemo.credit_liability, creditmemo.memo_provider_credit,
			creditmemo.account_work, creditmemo.invoice_work
		TO %1$s;
		GRANT EXECUTE ON FUNCTION
			creditmemo.balance_as_of(timestamptz), creditmemo.verify(), creditmemo.verify_tables(),
			creditmemo.verify_shard(regclass), creditmemo.tables_beside(regclass, text[]), creditmemo.is_distributed(),
			creditmemo.invoice_sums(text),
			creditmemo.predicted_allocation(text, date), creditmemo.defw_waiver(text, date, text[]),
			creditmemo.require_payer_period(text, date),
			creditmemo.money_text(numeric, text), creditmemo.service_period_text(date),
			creditmemo.compose_email(text), creditmemo.email_text(text), creditmemo.email_html(text),
			creditmemo.invoice_html(text),
			creditmemo.statement_html(text, date, date, text), creditmemo.statement_text(text, date, date, text)
		TO %1$s;
		-- for tables and views that are made of ours
		GRANT USAGE ON TYPE creditmemo.money_amount, creditmemo.service_period TO %1$s;
		$grants$, grant_reader.role);
END
$$;
COMMENT ON FUNCTION creditmemo.grant_reader(regrole) IS
'Lets a role, and whoever is a member of it, read all tables and views and call the functions that change nothing';

CREATE FUNCTION creditmemo.grant_biller(role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM creditmemo.run_on_other_machines(format('grant_biller(%L)', grant_biller.role));
	PERFORM creditmemo.grant_reader(grant_biller.role);
	EXECUTE format($grants$
		GRANT INSERT (customer_id, name, address, email, currency, payment_terms_days),
			UPDATE (name, address, email, currency, payment_terms_days) ON creditmemo.customer TO %1$s;
		GRANT INSERT (payer_account_id, name), UPDATE (name) ON creditmemo.payer_account TO %1$s;
		GRANT INSERT (account_id, payer_account_id, customer_id, name),
			UPDATE (payer_account_id, customer_id, name) ON creditmemo.member_account TO %1$s;
		GRANT INSERT (account_id, assigned_at, po_number) ON creditmemo.po_assignment TO %1$s;
		GRANT INSERT (account_id, memo_number, credit_type, provider_credit_id, amount, redeemed_on, expires_on,
				services, priority, note),
			UPDATE (provider_credit_id, expires_on, priority, note) ON creditmemo.credit_memo TO %1$s;
		GRANT INSERT (service_period, account_id, service, description, amount, creditable, source_id),
			UPDATE (service_period, account_id, service, description, amount, creditable, source_id),
			DELETE ON creditmemo.utilization TO %1$s;
		GRANT INSERT (account_id, payer_account_id, owner_account_id, provider_credit_id, service_period, service,
				amount, description, source_id),
			UPDATE (account_id, payer_account_id, owner_account_id, provider_credit_id, service_period, service,
				amount, description, source_id),
			DELETE ON creditmemo.provider_credit TO %1$s;
		GRANT INSERT (payer_account_id, billing_period, account_id) ON creditmemo.bill_account TO %1$s;
		GRANT EXECUTE ON FUNCTION
			creditmemo.issue_invoice(text, text, date, date, text[]), creditmemo.void_invoice(text, text),
			creditmemo.void_memo(text, text, text),
			creditmemo.close_period(date, text), creditmemo.reopen_period(date, text, text),
			creditmemo.import_focus(regclass, text), creditmemo.import_cur(regclass, text),
			-- the parts of an import, which runs with the rights of whoever calls it: it reads his table
			creditmemo.import_bill(regclass, text, text, text), creditmemo.require_bill_columns(regclass, text[]),
			creditmemo.bill_column(regclass, text, text[]), creditmemo.warn_of_missing_bill_month(regclass, text),
			creditmemo.stage_bill(regclass, text), creditmemo.check_bill(regclass),
			creditmemo.register_bill_accounts(text), creditmemo.compare_bill(), creditmemo.lock_bill_changes(),
			creditmemo.book_bill_charges(), creditmemo.book_bill_credits(), creditmemo.account_list(text[])
		TO %1$s;
		$grants$, grant_biller.role);
	IF creditmemo.is_distributed() THEN
		-- machines name to each other all the columns of a row; triggers refuse values that are not for loaders
		EXECUTE format('GRANT INSERT ON creditmemo.utilization, creditmemo.credit_memo, creditmemo.provider_credit TO %s',
			grant_biller.role);
	END IF;
END
$$;
COMMENT ON FUNCTION creditmemo.grant_biller(regrole) IS
'Lets a role, and whoever is a member of it, do the work of billing: read all, write what is not kept by triggers, import bills and call all functions. Balances, billings and entries it cannot write, nor the letterhead and the wording of e-mails';

REVOKE ALL ON TABLE creditmemo.account_work, creditmemo.invoice_work FROM PUBLIC;
REVOKE ALL ON FUNCTION creditmemo.grant_reader(regrole), creditmemo.grant_biller(regrole),
	creditmemo.do_account_work(), creditmemo.do_invoice_work(), creditmemo.is_distributed(),
	creditmemo.tables_beside(regclass, text[]),
	creditmemo.issue_invoice_distributed(text, text, date, date, text[]),
	creditmemo.void_invoice_distributed(text, text), creditmemo.void_memo_distributed(text, text, text),
	creditmemo.change_closing(text, date, text, text), creditmemo.close_period_distributed(date, text),
	creditmemo.reopen_period_distributed(date, text, text), creditmemo.verify(), creditmemo.verify_shard(regclass),
	creditmemo.invoice_sums(text), creditmemo.prepare_machine(), creditmemo.run_on_other_machines(text),
	creditmemo.distribute(integer) FROM PUBLIC;
-- an operator for one of these types would be taken before the server's own by whoever compares our columns
REVOKE ALL ON TYPE creditmemo.money_amount, creditmemo.service_period, creditmemo.bill_import FROM PUBLIC;

-- ---------------------------------------------------------------------------------------------
-- Row security
-- ---------------------------------------------------------------------------------------------

/*
 * Where policies hide rows, sums and comparisons would be wrong without a word: better an error.  So it is with
 * those on the source of an import, and with documents.
 */
ALTER FUNCTION creditmemo.verify_tables() SET row_security = off;
ALTER FUNCTION creditmemo.predicted_allocation(text, date) SET row_security = off;
ALTER FUNCTION creditmemo.defw_waiver(text, date, text[]) SET row_security = off;
ALTER FUNCTION creditmemo.register_bill_accounts(text) SET row_security = off;
ALTER FUNCTION creditmemo.compare_bill() SET row_security = off;
ALTER FUNCTION creditmemo.lock_bill_changes() SET row_security = off;
ALTER FUNCTION creditmemo.book_bill_charges() SET row_security = off;
ALTER FUNCTION creditmemo.book_bill_credits() SET row_security = off;
ALTER FUNCTION creditmemo.stage_bill(regclass, text) SET row_security = off;
ALTER FUNCTION creditmemo.compose_email(text) SET row_security = off;
ALTER FUNCTION creditmemo.invoice_html(text) SET row_security = off;
ALTER FUNCTION creditmemo.statement_html(text, date, date, text) SET row_security = off;
ALTER FUNCTION creditmemo.statement_text(text, date, date, text) SET row_security = off;
