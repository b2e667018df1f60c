/*
 * The job of the extension as a trigger in PL/pgSQL, FOR EACH STATEMENT, for charges: refunds and memos
 * limited to services are not supported, so it does less.  It relies on what row_trigger.sql does.
 *
 * Accounts are locked in their order, and so that each has one session at a time: what is read after
 * that is read by a new statement, and stays.  A single line is applied by statements whose plans are
 * kept; more are summed and applied by one statement a service period, which is planned each time: its
 * plan depends on how many they are.
 */
CREATE FUNCTION statement_trigger.apply_line(account_id text, service_period date, utilization numeric,
	creditable numeric) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
	unpaid numeric := creditable;
	part numeric;
	closed date;
	no integer;
	last_entry_no integer;
	memo record;
BEGIN
	SELECT a.closed_through INTO closed
	FROM statement_trigger.member_account a
	WHERE a.account_id = apply_line.account_id
	FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'unknown member account' USING ERRCODE = 'foreign_key_violation';
	ELSIF service_period <= closed THEN
		RAISE EXCEPTION 'service period is closed' USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
	LOOP
		part := 0;
		IF unpaid > 0 THEN
			SELECT m.memo_id, m.balance INTO memo
			FROM statement_trigger.credit_memo m
			WHERE m.account_id = apply_line.account_id AND m.balance > 0 AND m.voided_at IS NULL
				AND m.first_period <= apply_line.service_period
				AND (m.last_period >= apply_line.service_period OR m.last_period IS NULL)
			ORDER BY m.priority, m.expires_on, cardinality(m.services), m.redeemed_on, m.memo_id
			LIMIT 1;
			IF FOUND THEN
				part := least(memo.balance, unpaid);
			END IF;
		END IF;
		EXIT WHEN utilization = 0 AND part = 0 AND no IS NOT NULL;
		UPDATE statement_trigger.billing b
		SET utilization = b.utilization + apply_line.utilization, creditable = b.creditable + apply_line.creditable,
			credit = b.credit + part
		WHERE b.account_id = apply_line.account_id AND b.service_period = apply_line.service_period
			AND b.invoice_number IS NULL AND b.folded_into IS NULL
		RETURNING b.billing_no INTO no;
		IF NOT FOUND THEN
			INSERT INTO statement_trigger.billing
				(account_id, service_period, billing_no, utilization, creditable, credit)
			SELECT apply_line.account_id, apply_line.service_period, coalesce(max(b.billing_no), 0) + 1, apply_line.utilization,
				apply_line.creditable, part
			FROM statement_trigger.billing b
			WHERE b.account_id = apply_line.account_id AND b.service_period = apply_line.service_period
			RETURNING billing_no INTO no;
		END IF;
		EXIT WHEN part = 0;
		UPDATE statement_trigger.credit_memo m SET balance = m.balance - part, entries = m.entries + 1
		WHERE m.account_id = apply_line.account_id AND m.memo_id = memo.memo_id
		RETURNING m.entries INTO last_entry_no;
		INSERT INTO statement_trigger.memo_entry
			(account_id, memo_id, entry_no, entry_type, amount, balance_after, service_period, billing_no)
		VALUES (apply_line.account_id, memo.memo_id, last_entry_no, 'apply', -part, memo.balance - part,
			apply_line.service_period, no);
		unpaid := unpaid - part;
		EXIT WHEN unpaid = 0;
		utilization := 0;
		creditable := 0;
	END LOOP;
	RETURN no;
END
$$;

CREATE FUNCTION statement_trigger.apply_lines() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
	line record;
	period record;
	accounts record;
	no integer;
	work_mem text;
	jit text;
BEGIN
	SELECT l.*, count(*) OVER () AS lines INTO line FROM (SELECT * FROM inserted_lines LIMIT 2) l;
	IF NOT FOUND THEN
		RETURN NULL;
	ELSIF line.lines = 1 THEN
		IF line.amount < 0 THEN
			RAISE EXCEPTION 'refunds are not supported by this comparison';
		END IF;
		no := statement_trigger.apply_line(line.account_id, line.service_period, line.amount,
			CASE WHEN line.creditable THEN line.amount ELSE 0 END);
		IF no > 1 THEN
			UPDATE statement_trigger.utilization u SET billing_no = no
			WHERE u.service_period = line.service_period AND u.account_id = line.account_id
				AND u.utilization_id = line.utilization_id;
		END IF;
		RETURN NULL;
	END IF;

	work_mem := current_setting('work_mem');
	jit := current_setting('jit');
	PERFORM set_config('work_mem', '256MB', true), set_config('jit', 'off', true);
	EXECUTE $sql$
		SELECT count(*) FILTER (WHERE a.account_id IS NULL) AS unknown, max(a.closed_through) AS closed
		FROM (SELECT DISTINCT l.account_id FROM inserted_lines l) l
		LEFT JOIN (
			SELECT a.account_id, a.closed_through
			FROM statement_trigger.member_account a
			WHERE a.account_id IN (SELECT l.account_id FROM inserted_lines l)
			ORDER BY a.account_id
			FOR NO KEY UPDATE) a USING (account_id)
		$sql$ INTO accounts;
	IF accounts.unknown > 0 THEN
		RAISE EXCEPTION 'unknown member account' USING ERRCODE = 'foreign_key_violation';
	END IF;
	FOR period IN
		SELECT l.service_period, min(l.amount) AS least_amount
		FROM inserted_lines l
		GROUP BY l.service_period
		ORDER BY l.service_period
	LOOP
		IF period.least_amount < 0 THEN
			RAISE EXCEPTION 'refunds are not supported by this comparison';
		ELSIF period.service_period <= accounts.closed THEN
			PERFORM
			FROM inserted_lines l
			JOIN statement_trigger.member_account a USING (account_id)
			WHERE l.service_period = period.service_period AND l.service_period <= a.closed_through;
			IF FOUND THEN
				RAISE EXCEPTION 'service period is closed'
					USING ERRCODE = 'object_not_in_prerequisite_state';
			END IF;
		END IF;
		EXECUTE statement_trigger.apply_period() USING period.service_period INTO no;
		IF no > 1 THEN
			UPDATE statement_trigger.utilization u SET billing_no = b.billing_no
			FROM inserted_lines l
			JOIN statement_trigger.billing b ON b.account_id = l.account_id
				AND b.service_period = l.service_period
				AND b.invoice_number IS NULL AND b.folded_into IS NULL
			WHERE l.service_period = period.service_period AND b.billing_no > 1
				AND u.service_period = l.service_period AND u.account_id = l.account_id
				AND u.utilization_id = l.utilization_id;
		END IF;
	END LOOP;
	PERFORM set_config('work_mem', work_mem, true), set_config('jit', jit, true);
	RETURN NULL;
END
$$;

-- the statement that applies all lines of the service period $1; returns the highest billing number
CREATE FUNCTION statement_trigger.apply_period() RETURNS text LANGUAGE sql IMMUTABLE RETURN $sql$
	WITH change AS MATERIALIZED (
		SELECT l.account_id, sum(l.amount) AS utilization,
			coalesce(sum(l.amount) FILTER (WHERE l.creditable), 0) AS creditable
		FROM inserted_lines l
		WHERE l.service_period = $1
		GROUP BY l.account_id
	), memo AS (
		-- unpaid: what those before it in the order of spending leave to it
		SELECT m.account_id, m.memo_id, m.balance,
			c.creditable + m.balance - sum(m.balance) OVER (
				PARTITION BY m.account_id
				ORDER BY m.priority, m.expires_on, cardinality(m.services), m.redeemed_on, m.memo_id
				ROWS UNBOUNDED PRECEDING) AS unpaid
		FROM change c
		JOIN statement_trigger.credit_memo m ON m.account_id = c.account_id
		WHERE m.balance > 0 AND m.voided_at IS NULL AND m.first_period <= $1
			AND (m.last_period >= $1 OR m.last_period IS NULL)
	), spent AS (
		UPDATE statement_trigger.credit_memo m
		SET balance = m.balance - least(s.balance, s.unpaid), entries = m.entries + 1
		FROM memo s
		WHERE m.account_id = s.account_id AND m.memo_id = s.memo_id AND s.unpaid > 0
		RETURNING m.account_id, m.memo_id, m.balance, m.entries, least(s.balance, s.unpaid) AS paid
	), earlier AS (
		SELECT b.account_id, max(b.billing_no)
			+ (count(*) FILTER (WHERE b.invoice_number IS NULL AND b.folded_into IS NULL) = 0)::integer AS billing_no
		FROM change c
		JOIN statement_trigger.billing b ON b.account_id = c.account_id AND b.service_period = $1
		GROUP BY b.account_id
	), billed AS (
		INSERT INTO statement_trigger.billing AS b
			(account_id, service_period, billing_no, utilization, creditable, credit)
		SELECT c.account_id, $1, coalesce(e.billing_no, 1), c.utilization, c.creditable, coalesce(p.paid, 0)
		FROM change c
		LEFT JOIN earlier e ON e.account_id = c.account_id
		LEFT JOIN (SELECT s.account_id, sum(s.paid) AS paid FROM spent s GROUP BY s.account_id) p
			ON p.account_id = c.account_id
		ON CONFLICT (account_id, service_period) WHERE invoice_number IS NULL AND folded_into IS NULL
		DO UPDATE SET utilization = b.utilization + excluded.utilization,
			creditable = b.creditable + excluded.creditable, credit = b.credit + excluded.credit
		RETURNING b.account_id, b.billing_no
	), entered AS (
		INSERT INTO statement_trigger.memo_entry
			(account_id, memo_id, entry_no, entry_type, amount, balance_after, service_period, billing_no)
		SELECT s.account_id, s.memo_id, s.entries, 'apply', -s.paid, s.balance, $1, b.billing_no
		FROM spent s
		JOIN billed b ON b.account_id = s.account_id
	)
	SELECT max(b.billing_no) FROM billed b
$sql$;
CREATE TRIGGER utilization_apply AFTER INSERT ON statement_trigger.utilization
	REFERENCING NEW TABLE AS inserted_lines
	FOR EACH STATEMENT EXECUTE FUNCTION statement_trigger.apply_lines();
