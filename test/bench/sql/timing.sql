/*
 * execution_time(): milliseconds for which the server executes a query.
 */
CREATE FUNCTION public.execution_time(query text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || query INTO plan;
	RETURN plan -> 0 ->> 'Execution Time';
END
$$;
