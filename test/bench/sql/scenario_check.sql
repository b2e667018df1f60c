/*
 * Raises an error unless the three variants have the same billings, memo balances and billing numbers
 * of lines.
 */
CREATE FUNCTION public.require_same(query text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	variant text;
	rows text;
	ours text;
BEGIN
	FOREACH variant IN ARRAY ARRAY['creditmemo', 'row_trigger', 'statement_trigger'] LOOP
		PERFORM set_config('search_path', variant, true);
		EXECUTE format('SELECT string_agg(q::text, E''\n'' ORDER BY q::text) FROM (%s) q', query) INTO rows;
		ours := coalesce(ours, rows);
		IF rows IS DISTINCT FROM ours THEN
			RAISE EXCEPTION '% differs: %', variant, query;
		END IF;
	END LOOP;
END
$$;
SELECT public.require_same('SELECT account_id, service_period, billing_no, trim_scale(utilization), trim_scale(creditable), trim_scale(credit) FROM billing'),
	public.require_same('SELECT account_id, memo_id, trim_scale(balance) FROM credit_memo'),
	public.require_same('SELECT account_id, service_period, billing_no, count(*), trim_scale(sum(amount)) FROM utilization GROUP BY 1, 2, 3'),
	public.require_same('SELECT account_id, memo_id, service_period, billing_no, trim_scale(sum(amount)) FROM memo_entry GROUP BY 1, 2, 3, 4') \g /dev/null
