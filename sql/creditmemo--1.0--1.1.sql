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

/*
 * Bills.  An import sums and compares on the machine that it was called on, in its temporary tables, with copies
 * of the rows of member_account and billing that it needs.  What becomes of the lines goes into bill_line_work,
 * with what that was decided from: where the lines are, it is compared again under locks, and done.
 */
CREATE TABLE creditmemo.bill_line_work (
	account_id text COLLATE "C" NOT NULL,
	work text COLLATE "C" NOT NULL CHECK (work IN ('lock', 'check', 'restate', 'withdraw', 'insert')),
	service_period creditmemo.service_period,
	utilization_id bigint,
	is_fixed boolean,
	billing_period creditmemo.service_period,
	service text,
	description text,
	amount creditmemo.money_amount,
	creditable boolean,
	source_id text COLLATE "C"
);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.bill_line_work', '');
COMMENT ON TABLE creditmemo.bill_line_work IS 'Where the tables are distributed: takes what an import changes of utilization to the machines that member accounts are on. Always empty: the INSERT does it. Written by imports';
COMMENT ON COLUMN creditmemo.bill_line_work.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.bill_line_work.work IS 'What is to be done: lock the account; check that a line is as it was when the bill was compared with it, and restate or withdraw it; insert one';
COMMENT ON COLUMN creditmemo.bill_line_work.service_period IS 'Month of usage of the line (first day)';
COMMENT ON COLUMN creditmemo.bill_line_work.utilization_id IS 'Id of the line';
COMMENT ON COLUMN creditmemo.bill_line_work.is_fixed IS 'Whether the line was invoiced or closed (check, restate and withdraw)';
COMMENT ON COLUMN creditmemo.bill_line_work.billing_period IS 'Month of the bill (insert): it takes the line where its month of usage is closed';
COMMENT ON COLUMN creditmemo.bill_line_work.service IS 'Service of the line (insert)';
COMMENT ON COLUMN creditmemo.bill_line_work.description IS 'What it was (insert)';
COMMENT ON COLUMN creditmemo.bill_line_work.amount IS 'What it charges now (insert and restate)';
COMMENT ON COLUMN creditmemo.bill_line_work.creditable IS 'Whether credit may pay it (insert)';
COMMENT ON COLUMN creditmemo.bill_line_work.source_id IS 'The import''s own key of the line (insert)';

CREATE FUNCTION creditmemo.do_bill_line_work() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
	tables text[];
	is_as_compared boolean;
BEGIN
	IF NOT EXISTS (SELECT FROM inserted_work) THEN
		RETURN NULL;
	END IF;
	tables := creditmemo.tables_beside(TG_RELID, '{member_account, utilization, billing}');
	-- locks and comparison as in lock_bill_changes(), of what is here
	EXECUTE format($sql$
		SELECT
		FROM %s u
		JOIN inserted_work w USING (service_period, account_id, utilization_id)
		WHERE w.work IN ('restate', 'withdraw')
		ORDER BY u.account_id, u.source_id
		FOR UPDATE OF u
		$sql$, tables[2]);
	EXECUTE format($sql$
		SELECT
		FROM %s a
		WHERE a.account_id IN (SELECT w.account_id FROM inserted_work w WHERE w.work <> 'check')
		ORDER BY a.account_id
		FOR UPDATE
		$sql$, tables[1]);
	EXECUTE format($sql$
		SELECT NOT EXISTS (
			SELECT
			FROM inserted_work w
			JOIN %s a ON a.account_id = w.account_id
			LEFT JOIN %s u ON u.service_period = w.service_period AND u.account_id = w.account_id
				AND u.utilization_id = w.utilization_id
			LEFT JOIN %s o ON o.account_id = u.account_id AND o.service_period = u.service_period
				AND o.billing_no = u.billing_no
			WHERE w.work IN ('check', 'restate', 'withdraw') AND w.is_fixed IS DISTINCT FROM
				(o.invoice_number IS NOT NULL OR coalesce(u.service_period <= a.closed_through, u.service_period IS NULL)))
		$sql$, VARIADIC tables)
	INTO is_as_compared;
	IF NOT is_as_compared THEN
		RAISE EXCEPTION 'lines of the bill were invoiced, closed or opened meanwhile'
			USING ERRCODE = 'triggered_action_exception', HINT = 'Import the bill again.';
	END IF;
	-- the statement of book_bill_charges()
	EXECUTE format($sql$
		WITH withdrawn AS (
			DELETE FROM %2$s u
			USING inserted_work w
			WHERE w.work = 'withdraw' AND u.service_period = w.service_period
				AND u.account_id = w.account_id AND u.utilization_id = w.utilization_id),
		restated AS (
			UPDATE %2$s u
			SET amount = w.amount
			FROM inserted_work w
			WHERE w.work = 'restate' AND u.service_period = w.service_period
				AND u.account_id = w.account_id AND u.utilization_id = w.utilization_id)
		INSERT INTO %2$s
			(service_period, account_id, utilization_id, service, description, amount, creditable, source_id)
		SELECT CASE WHEN w.service_period <= a.closed_through THEN w.billing_period ELSE w.service_period END,
			w.account_id, w.utilization_id, w.service,
			CASE WHEN w.service_period <= a.closed_through THEN
					concat_ws(', ', w.description, 'usage of ' || creditmemo.service_period_text(w.service_period))
				 ELSE w.description END,
			w.amount, w.creditable, w.source_id
		FROM inserted_work w
		JOIN %1$s a ON a.account_id = w.account_id
		WHERE w.work = 'insert'
		$sql$, VARIADIC tables);
	EXECUTE format('DELETE FROM %s', TG_RELID::regclass);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION creditmemo.do_bill_line_work() IS
'Locks what the inserted rows name, compares it with what it was and changes utilization, in one statement, on the machine that the accounts are on; the rows are deleted';
CREATE TRIGGER bill_line_work_do AFTER INSERT ON creditmemo.bill_line_work
	REFERENCING NEW TABLE AS inserted_work
	FOR EACH STATEMENT EXECUTE FUNCTION creditmemo.do_bill_line_work();

CREATE FUNCTION creditmemo.new_utilization_id() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN nextval('creditmemo.utilization_utilization_id_seq');
END
$$;
COMMENT ON FUNCTION creditmemo.new_utilization_id() IS
'Part of import_focus() and import_cur(): an id for a line that bill_line_work takes to another machine';

CREATE FUNCTION creditmemo.books_of_bill(name text, lines text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
	copy text := format('pg_temp.%I', 'creditmemo_' || name);
BEGIN
	IF NOT creditmemo.is_distributed() THEN
		RETURN format('creditmemo.%I', name);
	END IF;
	IF to_regclass(copy) IS NOT NULL THEN
		EXECUTE format('DROP TABLE %s', copy);
	END IF;
	IF name = 'member_account' THEN
		EXECUTE format($sql$
			CREATE TEMP TABLE creditmemo_member_account ON COMMIT DROP AS
			SELECT a.account_id, a.customer_id, a.closed_through
			FROM creditmemo.member_account a
			WHERE a.account_id IN (SELECT l.account_id FROM pg_temp.%I l)
			$sql$, lines);
	ELSE
		EXECUTE format($sql$
			CREATE TEMP TABLE creditmemo_billing ON COMMIT DROP AS
			SELECT b.account_id, b.service_period, b.billing_no, b.invoice_number
			FROM creditmemo.billing b
			WHERE (b.account_id, b.service_period, b.billing_no) IN (
				SELECT l.account_id, l.service_period, l.billing_no FROM pg_temp.%I l)
			$sql$, lines);
	END IF;
	EXECUTE format('ANALYZE %s', copy);
	RETURN copy;
END
$$;
COMMENT ON FUNCTION creditmemo.books_of_bill(text, text) IS
'Part of import_focus() and import_cur(): what to join the lines in a temporary table with: member_account or billing; where that is distributed, a temporary copy of the rows that belong to the lines';

CREATE OR REPLACE FUNCTION creditmemo.register_bill_accounts(default_customer_id text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	unknown text[];
	registered bigint;
	wrong record;
	is_distributed boolean := creditmemo.is_distributed();
	known bigint;
	accounts text;
BEGIN
	IF default_customer_id IS NOT NULL THEN
		IF NOT EXISTS (SELECT FROM creditmemo.customer c WHERE c.customer_id = default_customer_id) THEN
			RAISE EXCEPTION 'unknown customer "%"', default_customer_id
				USING ERRCODE = 'foreign_key_violation',
					HINT = 'Insert the customer into creditmemo.customer first.';
		END IF;
		INSERT INTO creditmemo.payer_account (payer_account_id, name)
		SELECT b.payer_account_id, max(b.payer_name)
		FROM pg_temp.creditmemo_bill b
		GROUP BY b.payer_account_id
		ORDER BY b.payer_account_id
		ON CONFLICT DO NOTHING;
		IF is_distributed THEN
			SELECT count(*) INTO known
			FROM creditmemo.member_account a
			WHERE a.account_id IN (SELECT b.account_id FROM pg_temp.creditmemo_bill b);
		END IF;
		-- an account on two bills belongs to the payer of the later one
		INSERT INTO creditmemo.member_account (account_id, payer_account_id, customer_id, name)
		SELECT DISTINCT ON (b.account_id) b.account_id, b.payer_account_id, default_customer_id, b.account_name
		FROM pg_temp.creditmemo_bill b
		ORDER BY b.account_id, b.billing_period DESC, b.payer_account_id, b.account_name
		ON CONFLICT DO NOTHING;
		GET DIAGNOSTICS registered = ROW_COUNT;
		IF is_distributed THEN
			-- those that conflict are counted there
			SELECT count(*) - known INTO registered
			FROM creditmemo.member_account a
			WHERE a.account_id IN (SELECT b.account_id FROM pg_temp.creditmemo_bill b);
		END IF;
		IF registered > 0 THEN
			RAISE NOTICE 'registered % member accounts of customer "%"', registered, default_customer_id;
		END IF;
	END IF;

	SELECT array_agg(DISTINCT b.payer_account_id ORDER BY b.payer_account_id) INTO unknown
	FROM pg_temp.creditmemo_bill b
	WHERE NOT EXISTS (
		SELECT FROM creditmemo.payer_account p WHERE p.payer_account_id = b.payer_account_id);
	IF unknown IS NOT NULL THEN
		RAISE EXCEPTION 'unknown payer account' USING ERRCODE = 'foreign_key_violation',
			DETAIL = format('Not in creditmemo.payer_account: %s.', creditmemo.account_list(unknown)),
			HINT = 'Insert them first, or name a default_customer_id: then the bill''s accounts are registered.';
	END IF;
	accounts := creditmemo.books_of_bill('member_account', 'creditmemo_bill');
	EXECUTE format($sql$
		SELECT array_agg(DISTINCT b.account_id ORDER BY b.account_id)
		FROM pg_temp.creditmemo_bill b
		WHERE NOT EXISTS (SELECT FROM %s a WHERE a.account_id = b.account_id)
		$sql$, accounts)
	INTO unknown;
	IF unknown IS NOT NULL THEN
		RAISE EXCEPTION 'unknown member account' USING ERRCODE = 'foreign_key_violation',
			DETAIL = format('Not in creditmemo.member_account: %s.', creditmemo.account_list(unknown)),
			HINT = 'Insert them first, or name a default_customer_id: then they are registered under that customer.';
	END IF;

	EXECUTE format($sql$
		SELECT b.currency, c.currency AS customer_currency, c.customer_id,
			array_agg(DISTINCT b.account_id ORDER BY b.account_id) AS accounts
		FROM pg_temp.creditmemo_bill b
		JOIN %s a ON a.account_id = b.account_id
		JOIN creditmemo.customer c ON c.customer_id = a.customer_id
		WHERE c.currency <> b.currency
		GROUP BY b.currency, c.customer_id
		ORDER BY b.currency, c.customer_id
		LIMIT 1
		$sql$, accounts)
	INTO wrong;
	IF wrong.currency IS NOT NULL THEN
		RAISE EXCEPTION 'the bill is in %, customer "%" is billed in %', wrong.currency, wrong.customer_id,
				wrong.customer_currency
			USING ERRCODE = 'invalid_parameter_value',
				DETAIL = format('Member accounts: %s.', creditmemo.account_list(wrong.accounts)),
				HINT = 'Import from a view that converts the costs, or bill these accounts to a customer of the bill''s currency.';
	END IF;
END
$$;

CREATE OR REPLACE FUNCTION creditmemo.compare_bill() RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lines bigint;
BEGIN
	-- what earlier imports of the bill have booked, each line numbered from 1 among those of its key
	CREATE TEMP TABLE creditmemo_booked_line ON COMMIT DROP AS
	SELECT b.bill_key, u.account_id, substr(k.key, strpos(k.key, ':') + 1) AS line_key,
		split_part(k.key, ':', 1)::numeric AS no,
		u.service_period, u.utilization_id, u.billing_no, u.service, u.creditable, u.amount
	FROM (SELECT DISTINCT l.bill_key, l.payer_account_id, l.billing_period FROM pg_temp.creditmemo_bill l) b
	JOIN creditmemo.bill_account a ON a.payer_account_id = b.payer_account_id AND a.billing_period = b.billing_period
	JOIN creditmemo.utilization u ON u.account_id = a.account_id
		-- begins with the bill's key: after the colon that it ends with comes the semicolon
		AND u.source_id >= b.bill_key AND u.source_id < left(b.bill_key, -1) || ';'
	CROSS JOIN LATERAL substr(u.source_id, length(b.bill_key) + 1) AS k (key)
	-- whoever may insert lines may give them keys like these
	WHERE k.key ~ '^[1-9][0-9]*:(?!0000)[0-9]{4}-(0[1-9]|1[0-2]):';
	GET DIAGNOSTICS lines = ROW_COUNT;
	ANALYZE pg_temp.creditmemo_booked_line;
	RAISE NOTICE 'comparing with % lines of earlier imports', lines;

	EXECUTE format($sql$
		CREATE TEMP TABLE creditmemo_bill_change ON COMMIT DROP AS
		SELECT l.bill_key, l.account_id, l.line_key, l.no, l.last_no, l.is_fixed, l.service_period, l.utilization_id,
			l.service, l.creditable, l.open_amount AS amount,
			CASE WHEN l.first_no IS NULL THEN
					CASE WHEN l.open_amount <> 0 AND (l.no IS NULL OR l.no = l.last_no AND NOT l.is_billed) THEN 'insert' END
				 WHEN l.no IS NULL OR l.is_fixed OR l.is_billed AND l.booked_amount = l.open_amount THEN NULL
				 WHEN l.no > l.first_no OR l.open_amount = 0 THEN 'withdraw'
				 WHEN l.amount <> l.open_amount THEN 'restate' END AS action
		FROM (
			SELECT l.*, bool_or(l.no IS NULL) OVER line_key AS is_billed,
				coalesce(sum(l.amount) FILTER (WHERE l.no IS NULL) OVER line_key, 0)
					- coalesce(sum(l.amount) FILTER (WHERE l.is_fixed) OVER line_key, 0) AS open_amount,
				sum(l.amount) FILTER (WHERE l.no IS NOT NULL AND NOT l.is_fixed) OVER line_key AS booked_amount,
				min(l.no) FILTER (WHERE NOT l.is_fixed) OVER line_key AS first_no,
				max(l.no) OVER line_key AS last_no
			FROM (
				SELECT b.bill_key, b.account_id, b.line_key, b.no,
					o.invoice_number IS NOT NULL OR coalesce(b.service_period <= a.closed_through, false) AS is_fixed,
					b.service_period, b.utilization_id, b.service, b.creditable, b.amount
				FROM pg_temp.creditmemo_booked_line b
				JOIN %1$s a ON a.account_id = b.account_id
				LEFT JOIN %2$s o ON o.account_id = b.account_id
					AND o.service_period = b.service_period AND o.billing_no = b.billing_no
				UNION ALL
				SELECT l.bill_key, l.account_id, l.line_key, NULL, false, l.service_period, NULL, l.service,
					l.kind = 'charge', l.amount
				FROM pg_temp.creditmemo_bill l
				WHERE l.kind <> 'credit' AND l.amount <> 0 AND EXISTS (
					SELECT FROM pg_temp.creditmemo_booked_line b
					WHERE b.account_id = l.account_id AND b.line_key = l.line_key AND b.bill_key = l.bill_key)) l
			WINDOW line_key AS (PARTITION BY l.account_id, l.line_key, l.bill_key)) l
		$sql$, creditmemo.books_of_bill('member_account', 'creditmemo_booked_line'),
			creditmemo.books_of_bill('billing', 'creditmemo_booked_line'));
	-- what is invoiced stays rounded as it was, where another fraction only moves a cent between its lines
	UPDATE pg_temp.creditmemo_bill_change c
	SET action = NULL
	FROM (
		SELECT c.bill_key, c.account_id, left(c.line_key, 7) AS service_month
		FROM pg_temp.creditmemo_bill_change c
		WHERE c.action IS NOT NULL
		GROUP BY c.bill_key, c.account_id, left(c.line_key, 7)
		HAVING sum(c.amount) = 0 AND bool_and(c.action = 'insert' AND abs(c.amount) = 0.01)) rounded
	WHERE c.bill_key = rounded.bill_key AND c.account_id = rounded.account_id
		AND left(c.line_key, 7) = rounded.service_month AND c.action IS NOT NULL;
	ANALYZE pg_temp.creditmemo_bill_change;
END
$$;

CREATE FUNCTION creditmemo.send_bill_changes() RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_temp.creditmemo_bill_change c WHERE c.action IS NOT NULL)
		AND (SELECT count(*) FROM pg_temp.creditmemo_bill_change c WHERE c.no IS NULL)
			= (SELECT count(*) FROM pg_temp.creditmemo_bill l WHERE l.kind <> 'credit' AND l.amount <> 0) THEN
		RETURN true;
	END IF;
	INSERT INTO creditmemo.bill_line_work (account_id, work, service_period, utilization_id, is_fixed, billing_period,
		service, description, amount, creditable, source_id)
	SELECT l.account_id, 'lock', NULL::date, NULL::bigint, NULL::boolean, NULL::date, NULL, NULL, NULL::numeric,
		NULL::boolean, NULL
	FROM pg_temp.creditmemo_bill l
	GROUP BY l.account_id
	UNION ALL
	SELECT c.account_id, CASE WHEN c.action = 'insert' THEN 'check' ELSE coalesce(c.action, 'check') END,
		c.service_period, c.utilization_id, c.is_fixed, NULL, NULL, NULL, c.amount, NULL, NULL
	FROM pg_temp.creditmemo_bill_change c
	WHERE c.no IS NOT NULL
	UNION ALL
	SELECT l.account_id, 'insert', l.service_period, creditmemo.new_utilization_id(), NULL, l.billing_period,
		l.service, l.description, l.amount, l.kind = 'charge', l.bill_key || '1:' || l.line_key
	FROM pg_temp.creditmemo_bill l
	WHERE l.kind <> 'credit' AND l.amount <> 0 AND NOT EXISTS (
		SELECT FROM pg_temp.creditmemo_booked_line b
		WHERE b.account_id = l.account_id AND b.line_key = l.line_key AND b.bill_key = l.bill_key)
	UNION ALL
	SELECT c.account_id, 'insert', (left(c.line_key, 7) || '-01')::date, creditmemo.new_utilization_id(), NULL,
		(left(right(c.bill_key, 8), 7) || '-01')::date, c.service, 'Restated by AWS', c.amount, c.creditable,
		c.bill_key || (c.last_no + 1) || ':' || c.line_key
	FROM pg_temp.creditmemo_bill_change c
	WHERE c.action = 'insert'
	-- nothing conflicts; without this the rows of a shard might come in several statements
	ON CONFLICT DO NOTHING;
	RETURN true;
EXCEPTION WHEN triggered_action_exception THEN
	RETURN false;
END
$$;
COMMENT ON FUNCTION creditmemo.send_bill_changes() IS
'Part of import_focus() and import_cur(): has utilization changed where it is distributed; false if something was invoiced, closed or opened meanwhile, so that the lines have to be compared again';

CREATE FUNCTION creditmemo.book_bill_charges_distributed() RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
BEGIN
	INSERT INTO creditmemo.bill_account (payer_account_id, billing_period, account_id)
	SELECT DISTINCT l.payer_account_id, l.billing_period, l.account_id
	FROM pg_temp.creditmemo_bill l
	ON CONFLICT DO NOTHING;
	LOOP
		PERFORM creditmemo.compare_bill();
		RAISE NOTICE 'writing utilization';
		EXIT WHEN creditmemo.send_bill_changes();
		DROP TABLE pg_temp.creditmemo_booked_line, pg_temp.creditmemo_bill_change;
	END LOOP;
END
$$;
COMMENT ON FUNCTION creditmemo.book_bill_charges_distributed() IS
'What book_bill_charges() does where the tables are distributed';

CREATE OR REPLACE FUNCTION creditmemo.book_bill_charges() RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF creditmemo.is_distributed() THEN
		PERFORM creditmemo.book_bill_charges_distributed();
		RETURN;
	END IF;
	INSERT INTO creditmemo.bill_account (payer_account_id, billing_period, account_id)
	SELECT DISTINCT l.payer_account_id, l.billing_period, l.account_id
	FROM pg_temp.creditmemo_bill l
	WHERE NOT EXISTS (
		SELECT
		FROM creditmemo.bill_account b
		WHERE b.payer_account_id = l.payer_account_id AND b.billing_period = l.billing_period
			AND b.account_id = l.account_id);
	LOOP
		PERFORM creditmemo.compare_bill();
		EXIT WHEN creditmemo.lock_bill_changes();
		DROP TABLE pg_temp.creditmemo_booked_line, pg_temp.creditmemo_bill_change;
	END LOOP;

	RAISE NOTICE 'writing utilization';
	-- one statement, so that credit is settled once with all that the bill changes
	WITH withdrawn AS (
		DELETE FROM creditmemo.utilization u
		USING pg_temp.creditmemo_bill_change c
		WHERE c.action = 'withdraw' AND u.service_period = c.service_period
			AND u.account_id = c.account_id AND u.utilization_id = c.utilization_id),
	restated AS (
		UPDATE creditmemo.utilization u
		SET amount = c.amount
		FROM pg_temp.creditmemo_bill_change c
		WHERE c.action = 'restate' AND u.service_period = c.service_period
			AND u.account_id = c.account_id AND u.utilization_id = c.utilization_id)
	INSERT INTO creditmemo.utilization
		(service_period, account_id, service, description, amount, creditable, source_id)
	SELECT CASE WHEN n.service_period <= a.closed_through THEN n.billing_period ELSE n.service_period END,
		n.account_id, n.service,
		CASE WHEN n.service_period <= a.closed_through THEN
				concat_ws(', ', n.description, 'usage of ' || creditmemo.service_period_text(n.service_period))
			 ELSE n.description END,
		n.amount, n.creditable, n.source_id
	FROM (
		SELECT l.service_period, l.billing_period, l.account_id, l.service, l.description, l.amount,
			l.kind = 'charge' AS creditable, l.bill_key || '1:' || l.line_key AS source_id
		FROM pg_temp.creditmemo_bill l
		WHERE l.kind <> 'credit' AND l.amount <> 0 AND NOT EXISTS (
			SELECT FROM pg_temp.creditmemo_booked_line b
			WHERE b.account_id = l.account_id AND b.line_key = l.line_key AND b.bill_key = l.bill_key)
		UNION ALL
		SELECT (left(c.line_key, 7) || '-01')::date, (left(right(c.bill_key, 8), 7) || '-01')::date, c.account_id,
			c.service, 'Restated by AWS', c.amount, c.creditable, c.bill_key || (c.last_no + 1) || ':' || c.line_key
		FROM pg_temp.creditmemo_bill_change c
		WHERE c.action = 'insert') n
	JOIN creditmemo.member_account a ON a.account_id = n.account_id;
END
$$;

CREATE FUNCTION creditmemo.book_bill_credits_distributed() RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
	withdrawn bigint;
	written bigint;
BEGIN
	CREATE TEMP TABLE creditmemo_billed_credit ON COMMIT DROP AS
	SELECT l.account_id, l.bill_key || l.line_key AS source_id, l.payer_account_id, l.service_period, l.service,
		l.amount, l.description
	FROM pg_temp.creditmemo_bill l
	WHERE l.kind = 'credit';
	DELETE FROM creditmemo.provider_credit p
	USING (SELECT DISTINCT l.bill_key, l.payer_account_id FROM pg_temp.creditmemo_bill l) b
	WHERE p.payer_account_id = b.payer_account_id AND starts_with(p.source_id, b.bill_key)
		AND (p.account_id, p.source_id) NOT IN (
			SELECT c.account_id, c.source_id FROM pg_temp.creditmemo_billed_credit c);
	GET DIAGNOSTICS withdrawn = ROW_COUNT;
	INSERT INTO creditmemo.provider_credit AS p
		(account_id, payer_account_id, owner_account_id, provider_credit_id, service_period, service, amount,
		 description, source_id)
	SELECT b.account_id, b.payer_account_id, substring(b.description FROM '(?i)credit from account:? *([0-9]+)'),
		nullif(regexp_replace(b.description, '(?i)[ ,;(]*credit from account:? *[0-9]+[ )]*', ''), ''),
		b.service_period, b.service, b.amount, b.description, b.source_id
	FROM pg_temp.creditmemo_billed_credit b
	WHERE (b.account_id, b.source_id, b.amount) NOT IN (
		SELECT same.account_id, same.source_id, same.amount
		FROM creditmemo.provider_credit same
		WHERE (same.account_id, same.source_id) IN (
			SELECT c.account_id, c.source_id FROM pg_temp.creditmemo_billed_credit c))
	ORDER BY b.account_id, b.source_id
	ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount;
	GET DIAGNOSTICS written = ROW_COUNT;
	DROP TABLE pg_temp.creditmemo_billed_credit;
	RETURN withdrawn + written;
END
$$;
COMMENT ON FUNCTION creditmemo.book_bill_credits_distributed() IS
'What book_bill_credits() does where the tables are distributed';

CREATE OR REPLACE FUNCTION creditmemo.book_bill_credits() RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	changes bigint;
BEGIN
	IF creditmemo.is_distributed() THEN
		changes := creditmemo.book_bill_credits_distributed();
	ELSE
		WITH bill AS (
			SELECT DISTINCT l.bill_key, l.payer_account_id
			FROM pg_temp.creditmemo_bill l),
		billed AS (
			SELECT l.account_id, l.bill_key || l.line_key AS source_id, l.payer_account_id, l.service_period, l.service,
				l.amount, l.description
			FROM pg_temp.creditmemo_bill l
			WHERE l.kind = 'credit'),
		withdrawn AS (
			DELETE FROM creditmemo.provider_credit p
			USING bill b
			WHERE p.payer_account_id = b.payer_account_id AND starts_with(p.source_id, b.bill_key)
				AND NOT EXISTS (
					SELECT FROM billed WHERE billed.account_id = p.account_id AND billed.source_id = p.source_id)
			RETURNING p.account_id),
		written AS (
			INSERT INTO creditmemo.provider_credit AS p
				(account_id, payer_account_id, owner_account_id, provider_credit_id, service_period, service, amount,
				 description, source_id)
			SELECT b.account_id, b.payer_account_id, substring(b.description FROM '(?i)credit from account:? *([0-9]+)'),
				nullif(regexp_replace(b.description, '(?i)[ ,;(]*credit from account:? *[0-9]+[ )]*', ''), ''),
				b.service_period, b.service, b.amount, b.description, b.source_id
			FROM billed b
			WHERE NOT EXISTS (
				SELECT
				FROM creditmemo.provider_credit same
				WHERE same.account_id = b.account_id AND same.source_id = b.source_id AND same.amount = b.amount)
			ORDER BY b.account_id, b.source_id
			ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount
			RETURNING p.account_id)
		SELECT count(*) INTO changes FROM (TABLE withdrawn UNION ALL TABLE written) changed;
	END IF;
	RAISE NOTICE 'wrote % lines of AWS''s credit', changes;
	RETURN changes;
END
$$;

CREATE OR REPLACE FUNCTION creditmemo.import_bill(source regclass, lines text, names text, default_customer_id text)
RETURNS SETOF creditmemo.bill_import
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bill creditmemo.bill_import;
	changes bigint;
	is_distributed boolean := creditmemo.is_distributed();
BEGIN
	IF is_distributed THEN
		-- payers are on each machine: what writes them and accounts works on one shard after the other
		PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);
	END IF;
	-- names are for accounts that are registered
	PERFORM creditmemo.stage_bill(source, concat_ws(', ', lines,
		CASE WHEN default_customer_id IS NULL THEN 'NULL AS payer_name, NULL AS account_name' ELSE names END));
	PERFORM creditmemo.check_bill(source);
	IF is_distributed THEN
		-- who registers payers keeps others from writing any, and would wait for him who is to write that a bill changed
		PERFORM pg_advisory_xact_lock('creditmemo.bill_line_work'::regclass::oid::bigint);
	END IF;
	PERFORM creditmemo.register_bill_accounts(default_customer_id);
	-- one import of a payer's bills at a time
	PERFORM
	FROM creditmemo.payer_account p
	WHERE p.payer_account_id IN (SELECT b.payer_account_id FROM pg_temp.creditmemo_bill b)
	ORDER BY p.payer_account_id
	FOR NO KEY UPDATE;
	PERFORM creditmemo.book_bill_charges();
	changes := creditmemo.book_bill_credits();

	FOR bill IN EXECUTE format($sql$
		SELECT b.payer_account_id, b.billing_period, b.currency, b.lines_read, b.corrections_read,
			b.lines_to_book - coalesce(c.billed, 0) + coalesce(c.inserted, 0) AS lines_inserted,
			coalesce(c.restated, 0) AS lines_restated, coalesce(c.withdrawn, 0) AS lines_withdrawn,
			coalesce(c.booked - c.restated - c.withdrawn, 0) AS lines_unchanged,
			trim_scale(b.exact_total) AS exact_total, b.rounded_total,
			trim_scale(b.rounded_total - b.exact_total) AS rounding_difference,
			b.credits_read, trim_scale(b.exact_credit) AS exact_credit, b.rounded_credit, b.is_final
		FROM (
			SELECT b.payer_account_id, b.billing_period, b.currency, b.bill_key, sum(b.lines)::bigint AS lines_read,
				sum(b.corrections)::bigint AS corrections_read,
				count(*) FILTER (WHERE b.kind <> 'credit' AND b.amount <> 0) AS lines_to_book,
				coalesce(sum(b.cost) FILTER (WHERE b.kind <> 'credit'), 0) AS exact_total,
				coalesce(sum(b.amount) FILTER (WHERE b.kind <> 'credit'), 0.00) AS rounded_total,
				coalesce(sum(b.lines) FILTER (WHERE b.kind = 'credit'), 0)::bigint AS credits_read,
				coalesce(sum(b.cost) FILTER (WHERE b.kind = 'credit'), 0) AS exact_credit,
				coalesce(sum(b.amount) FILTER (WHERE b.kind = 'credit'), 0.00) AS rounded_credit,
				sum(b.lines) = sum(b.invoiced_lines) AS is_final
			FROM pg_temp.creditmemo_bill b
			GROUP BY b.payer_account_id, b.billing_period, b.currency, b.bill_key) b
		LEFT JOIN (
			SELECT c.bill_key, u.currency, count(*) FILTER (WHERE c.no IS NULL) AS billed, count(c.no) AS booked,
				count(*) FILTER (WHERE c.action = 'insert') AS inserted,
				count(*) FILTER (WHERE c.action = 'restate') AS restated,
				count(*) FILTER (WHERE c.action = 'withdraw') AS withdrawn
			FROM pg_temp.creditmemo_bill_change c
			JOIN %s a ON a.account_id = c.account_id
			JOIN creditmemo.customer u ON u.customer_id = a.customer_id
			GROUP BY c.bill_key, u.currency) c USING (bill_key, currency)
		ORDER BY b.payer_account_id, b.billing_period, b.currency
		$sql$, creditmemo.books_of_bill('member_account', 'creditmemo_bill_change'))
	LOOP
		RAISE NOTICE 'bill of payer account % for % in %: % lines inserted, % restated, % withdrawn, % unchanged',
			bill.payer_account_id, creditmemo.service_period_text(bill.billing_period), bill.currency,
			bill.lines_inserted, bill.lines_restated, bill.lines_withdrawn, bill.lines_unchanged;
		RETURN NEXT bill;
		changes := changes + bill.lines_inserted + bill.lines_restated + bill.lines_withdrawn;
	END LOOP;
	IF changes > 0 THEN
		-- above READ COMMITTED, whoever waits for the payer with an older snapshot has to start again
		UPDATE creditmemo.payer_account p
		SET name = p.name
		WHERE p.payer_account_id IN (SELECT b.payer_account_id FROM pg_temp.creditmemo_bill b);
	END IF;
	DROP TABLE pg_temp.creditmemo_bill, pg_temp.creditmemo_booked_line, pg_temp.creditmemo_bill_change;
	IF is_distributed THEN
		DROP TABLE pg_temp.creditmemo_member_account, pg_temp.creditmemo_billing;
	END IF;
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

CREATE FUNCTION creditmemo.prepare_machine(id_ranges_used bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- so that no two machines give the same id
	PERFORM setval(s.id, (id_ranges_used + g.groupid << 48) + 1, false)
	FROM pg_dist_local_group g
	CROSS JOIN unnest('{creditmemo.credit_memo_memo_id_seq, creditmemo.utilization_utilization_id_seq,
		creditmemo.provider_credit_provider_credit_line_id_seq,
		creditmemo.email_template_email_template_id_seq}'::regclass[]) s (id)
	WHERE g.groupid > 0 AND coalesce(pg_sequence_last_value(s.id), 0) < 1::bigint << 48;
	-- Citus would not let a transaction write invoices that has read accounts on several machines at once
	ALTER TABLE creditmemo.billing DROP CONSTRAINT IF EXISTS billing_invoice_number_service_period_fkey;
	ALTER TABLE creditmemo.voided_billing DROP CONSTRAINT IF EXISTS voided_billing_invoice_number_fkey;
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
COMMENT ON FUNCTION creditmemo.prepare_machine(bigint) IS
'Part of distribute(): what each machine needs besides the tables, ids of its own among it: of the first range of 2^48 that is not used yet, or a later one';

CREATE FUNCTION creditmemo.run_on_other_machines(command text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	failed text;
BEGIN
	-- one that has been asked asks no others
	IF NOT current_setting('citus.enable_ddl_propagation')::boolean THEN
		RETURN;
	END IF;
	SELECT string_agg(format('%s:%s: %s', r.nodename, r.nodeport, r.result), E'\n') INTO failed
	FROM run_command_on_workers(format(
		'DO $do$ BEGIN SET LOCAL citus.enable_ddl_propagation = off; SET LOCAL lock_timeout = ''10s''; PERFORM creditmemo.%s; END $do$', command)) r
	WHERE NOT r.success;
	IF failed IS NOT NULL THEN
		RAISE EXCEPTION 'another machine cannot do this'
			USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = failed,
				HINT = 'See that each machine is reached, and do it again on the coordinator, in a transaction of its own.';
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
	by_account text[] := '{po_assignment, credit_memo, utilization, billing, voided_billing, voided_line, memo_entry, provider_credit, bill_account, account_work, bill_line_work}';
	name text;
	found text;
	id_ranges_used bigint;
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

	IF creditmemo.is_distributed() THEN
		SELECT max(r.result::bigint) INTO id_ranges_used
		FROM run_command_on_all_nodes($command$
			SELECT coalesce(max(pg_sequence_last_value(s.seqrelid)) >> 48, 0)
			FROM pg_sequence s
			JOIN pg_class c ON c.oid = s.seqrelid
			WHERE c.relnamespace = 'creditmemo'::regnamespace
			$command$) r;
	ELSE
		-- books that were distributed before bring ids of other machines
		SELECT coalesce(greatest((SELECT max(u.utilization_id) FROM creditmemo.utilization u),
			(SELECT max(m.memo_id) FROM creditmemo.credit_memo m),
			(SELECT max(p.provider_credit_line_id) FROM creditmemo.provider_credit p),
			(SELECT max(t.email_template_id) FROM creditmemo.email_template t)) >> 48, 0)
		INTO id_ranges_used;
	END IF;
	PERFORM creditmemo.run_on_other_machines(format('prepare_machine(%s)', id_ranges_used));
	IF NOT creditmemo.is_distributed() THEN
		PERFORM creditmemo.prepare_machine(id_ranges_used);
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
	-- other machines cannot be asked while they have locks of ours
	SELECT string_agg(DISTINCT a.grantee::regrole::text, ', ') INTO found
	FROM pg_proc p
	CROSS JOIN aclexplode(p.proacl) a
	WHERE p.oid = 'creditmemo.verify()'::regprocedure AND a.grantee NOT IN (0, p.proowner);
	IF found IS NOT NULL THEN
		RAISE WARNING 'roles have their rights on this machine only: %', found
			USING HINT = 'Call creditmemo.grant_reader() or creditmemo.grant_biller() for each again, in a transaction of its own.';
	END IF;
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
	IF creditmemo.is_distributed() THEN
		PERFORM creditmemo.run_on_other_machines(format('grant_reader(%L)', grant_reader.role));
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
			creditmemo.account_work, creditmemo.invoice_work, creditmemo.bill_line_work
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
	IF creditmemo.is_distributed() THEN
		PERFORM creditmemo.run_on_other_machines(format('grant_biller(%L)', grant_biller.role));
	END IF;
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
		GRANT INSERT ON creditmemo.bill_line_work TO %1$s;
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
			creditmemo.book_bill_charges(), creditmemo.book_bill_credits(), creditmemo.account_list(text[]),
			creditmemo.new_utilization_id(), creditmemo.books_of_bill(text, text),
			creditmemo.send_bill_changes(), creditmemo.book_bill_charges_distributed(), creditmemo.book_bill_credits_distributed()
		TO %1$s;
		$grants$, grant_biller.role);
	IF creditmemo.is_distributed() THEN
		-- machines name to each other all the columns of a row; triggers refuse values that are not for loaders
		EXECUTE format($grants$
			GRANT INSERT ON creditmemo.utilization, creditmemo.credit_memo, creditmemo.provider_credit TO %1$s;
			GRANT USAGE ON SEQUENCE creditmemo.utilization_utilization_id_seq, creditmemo.credit_memo_memo_id_seq,
				creditmemo.provider_credit_provider_credit_line_id_seq TO %1$s;
			$grants$, grant_biller.role);
	END IF;
END
$$;
COMMENT ON FUNCTION creditmemo.grant_biller(regrole) IS
'Lets a role, and whoever is a member of it, do the work of billing: read all, write what is not kept by triggers, import bills and call all functions. Balances, billings and entries it cannot write, nor the letterhead and the wording of e-mails';

REVOKE ALL ON TABLE creditmemo.account_work, creditmemo.invoice_work, creditmemo.bill_line_work FROM PUBLIC;
REVOKE ALL ON FUNCTION creditmemo.grant_reader(regrole), creditmemo.grant_biller(regrole),
	creditmemo.do_account_work(), creditmemo.do_invoice_work(), creditmemo.is_distributed(),
	creditmemo.tables_beside(regclass, text[]),
	creditmemo.issue_invoice_distributed(text, text, date, date, text[]),
	creditmemo.void_invoice_distributed(text, text), creditmemo.void_memo_distributed(text, text, text),
	creditmemo.change_closing(text, date, text, text), creditmemo.close_period_distributed(date, text),
	creditmemo.reopen_period_distributed(date, text, text), creditmemo.verify(), creditmemo.verify_shard(regclass),
	creditmemo.invoice_sums(text), creditmemo.prepare_machine(bigint), creditmemo.run_on_other_machines(text),
	creditmemo.do_bill_line_work(), creditmemo.new_utilization_id(), creditmemo.books_of_bill(text, text),
	creditmemo.send_bill_changes(), creditmemo.book_bill_charges_distributed(),
	creditmemo.book_bill_credits_distributed(), creditmemo.distribute(integer) FROM PUBLIC;
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
