/*
 * The job of the extension as one trigger in PL/pgSQL, FOR EACH ROW, for charges: refunds and memos
 * limited to services are not supported, so it does less.  One statement for each thing that is read
 * or written, each on its index.
 *
 * It relies on what holds after every statement: either the billing is paid or the memos are empty.
 * So no line is paid more than its own amount, and the billing is written once for a line and memo.
 * Memos are locked before billings, everywhere.  It is an AFTER trigger because a BEFORE trigger would
 * also charge lines that ON CONFLICT DO NOTHING leaves out; neither is faster.
 */
CREATE FUNCTION row_trigger.apply_line() RETURNS trigger
LANGUAGE plpgsql AS $$
<<line>>
DECLARE
	utilization numeric := NEW.amount;
	creditable numeric := CASE WHEN NEW.creditable THEN NEW.amount ELSE 0 END;
	unpaid numeric := creditable;
	part numeric;
	closed date;
	no integer;
	last_entry_no integer;
	memo record;
BEGIN
	IF NEW.amount < 0 THEN
		RAISE EXCEPTION 'refunds are not supported by this comparison';
	END IF;
	SELECT a.closed_through INTO closed
	FROM row_trigger.member_account a
	WHERE a.account_id = NEW.account_id
	FOR KEY SHARE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'unknown member account' USING ERRCODE = 'foreign_key_violation';
	ELSIF NEW.service_period <= closed THEN
		RAISE EXCEPTION 'service period is closed' USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
	-- a turn for each memo that pays; one that has been paid in full, or finds no memo, is the last
	LOOP
		part := 0;
		IF unpaid > 0 THEN
			SELECT m.memo_id, m.balance INTO memo
			FROM row_trigger.credit_memo m
			WHERE m.account_id = NEW.account_id AND m.balance > 0 AND m.voided_at IS NULL
				AND m.first_period <= NEW.service_period
				AND (m.last_period >= NEW.service_period OR m.last_period IS NULL)
			ORDER BY m.priority, m.expires_on, cardinality(m.services), m.redeemed_on, m.memo_id
			LIMIT 1
			FOR NO KEY UPDATE;
			IF FOUND THEN
				part := least(memo.balance, unpaid);
			END IF;
		END IF;
		EXIT WHEN utilization = 0 AND part = 0 AND no IS NOT NULL;
		LOOP
			UPDATE row_trigger.billing b
			SET utilization = b.utilization + line.utilization, creditable = b.creditable + line.creditable,
				credit = b.credit + part
			WHERE b.account_id = NEW.account_id AND b.service_period = NEW.service_period
				AND b.invoice_number IS NULL AND b.folded_into IS NULL
			RETURNING b.billing_no INTO no;
			EXIT WHEN FOUND;
			INSERT INTO row_trigger.billing
				(account_id, service_period, billing_no, utilization, creditable, credit)
			SELECT NEW.account_id, NEW.service_period, coalesce(max(b.billing_no), 0) + 1, line.utilization,
				line.creditable, part
			FROM row_trigger.billing b
			WHERE b.account_id = NEW.account_id AND b.service_period = NEW.service_period
			ON CONFLICT DO NOTHING
			RETURNING billing_no INTO no;
			EXIT WHEN FOUND;
		END LOOP;
		EXIT WHEN part = 0;
		UPDATE row_trigger.credit_memo m SET balance = m.balance - part, entries = m.entries + 1
		WHERE m.account_id = NEW.account_id AND m.memo_id = memo.memo_id
		RETURNING m.entries INTO last_entry_no;
		INSERT INTO row_trigger.memo_entry
			(account_id, memo_id, entry_no, entry_type, amount, balance_after, service_period, billing_no)
		VALUES (NEW.account_id, memo.memo_id, last_entry_no, 'apply', -part, memo.balance - part, NEW.service_period, no);
		unpaid := unpaid - part;
		EXIT WHEN unpaid = 0;
		utilization := 0;
		creditable := 0;
	END LOOP;
	IF no > 1 THEN
		UPDATE row_trigger.utilization u SET billing_no = no
		WHERE u.service_period = NEW.service_period AND u.account_id = NEW.account_id
			AND u.utilization_id = NEW.utilization_id;
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER utilization_apply AFTER INSERT ON row_trigger.utilization
	FOR EACH ROW EXECUTE FUNCTION row_trigger.apply_line();
