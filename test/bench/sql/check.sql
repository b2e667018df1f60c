/*
 * Raises an error unless the books in the search path are what their lines and memos come to: the lines
 * those of public.bill (if it has any), every billing the sum of its lines, and the credit of every
 * account all that its memos can pay.  All memos can pay all lines.
 */
DO $$
BEGIN
	PERFORM
	FROM (SELECT account_id, service_period, count(*), sum(amount) FROM public.bill GROUP BY 1, 2) b
	FULL JOIN (SELECT account_id, service_period, count(*), sum(amount) FROM utilization GROUP BY 1, 2) u
		USING (account_id, service_period)
	WHERE EXISTS (SELECT FROM public.bill) AND (b.count, b.sum) IS DISTINCT FROM (u.count, u.sum);
	IF FOUND THEN
		RAISE EXCEPTION '%: the lines are not those of the bill', current_schema;
	END IF;

	PERFORM
	FROM billing b
	FULL JOIN (
		SELECT account_id, service_period, billing_no, sum(amount) AS utilization,
			coalesce(sum(amount) FILTER (WHERE creditable), 0) AS creditable
		FROM utilization
		GROUP BY 1, 2, 3) u USING (account_id, service_period, billing_no)
	LEFT JOIN (
		SELECT account_id, service_period, billing_no, -sum(amount) AS credit
		FROM memo_entry
		GROUP BY 1, 2, 3) e USING (account_id, service_period, billing_no)
	WHERE (b.utilization, b.creditable, b.credit)
			IS DISTINCT FROM (u.utilization, u.creditable, coalesce(e.credit, 0))
		OR NOT b.credit BETWEEN 0 AND b.creditable;
	IF FOUND THEN
		RAISE EXCEPTION '%: a billing is not what its lines and entries come to', current_schema;
	END IF;

	PERFORM
	FROM (SELECT account_id, sum(creditable) AS creditable, sum(credit) AS credit FROM billing GROUP BY 1) b
	LEFT JOIN (SELECT account_id, sum(amount) AS amount FROM credit_memo GROUP BY 1) m USING (account_id)
	WHERE b.credit <> least(b.creditable, coalesce(m.amount, 0));
	IF FOUND THEN
		RAISE EXCEPTION '%: credit is not what memos can pay', current_schema;
	END IF;

	PERFORM
	FROM credit_memo m
	LEFT JOIN (
		SELECT account_id, memo_id, count(*) AS entries, min(entry_no) AS first_no, max(entry_no) AS last_no,
			sum(amount) AS balance, -coalesce(sum(amount) FILTER (WHERE entry_type = 'apply'), 0) AS applied,
			(array_agg(balance_after ORDER BY entry_no DESC))[1] AS last_balance
		FROM memo_entry
		GROUP BY 1, 2) e USING (account_id, memo_id)
	WHERE (m.balance, m.balance, m.balance, m.entries, 1, e.entries)
		IS DISTINCT FROM (e.balance, e.last_balance, m.amount - e.applied, e.entries, e.first_no, e.last_no);
	IF FOUND THEN
		RAISE EXCEPTION '%: a memo''s balance is not what its entries come to', current_schema;
	END IF;
END
$$;
