/*
 * The table of medians and goals, in markdown.
 */
CREATE TEMP TABLE shown (position integer GENERATED ALWAYS AS IDENTITY, case_name text, title text, digits integer);
INSERT INTO shown (case_name, title, digits) VALUES
	('load_insert', '1,000,000 lines of 50,000 accounts with a memo, one `INSERT`, s', 2),
	('load_copy', 'the same, one `COPY`, s', 2),
	('few_insert', 'as the first, 1 % of the accounts have a memo, `INSERT`, s', 2),
	('few_copy', 'the same, `COPY`, s', 2),
	('restate', 'the million again, unchanged, `ON CONFLICT DO UPDATE`, s', 2),
	('one_line', 'a line a statement, 1 client, tps', 0),
	('one_line_p99', '99th percentile, ms', 2),
	('eight_random', 'a line a statement, 8 clients, tps', 0),
	('eight_random_p99', '99th percentile, ms', 2),
	('eight_one_account', 'the same, all on one account, tps', 0),
	('eight_one_account_p99', '99th percentile, ms', 2),
	('hundred_fresh', '100 lines a statement, fresh session, tps', 0),
	('hundred_after_one', 'the same after 2,000 statements of a line', 0),
	('one_fresh', 'a line a statement, fresh session, tps', 0),
	('one_after_hundred', 'the same after 200 statements of 100 lines', 0),
	('ten_million_none', '100,000 lines of a month into empty books, s', 2),
	('ten_million', 'the same beside 10,000,000 lines of 36 months', 2),
	('email_one_account', '`invoice_email` of one account, there, ms', 2),
	('email_hundred_accounts', '`invoice_email` of 100 accounts, ms', 2),
	('balance', '`account_balance` of an account, there, ms', 2),
	('liability', '`credit_liability` over 600,000 entries, ms', 0),
	('memo_balance', '`memo_balance` of 50,000 memos, ms', 0),
	('invoice', '`issue_invoice` of 1,000 accounts, ms', 0),
	('memory', 'memory for 20 lines an account, bytes an account', 0),
	('memory_few_lines', 'for 4 lines an account', 0);

-- what is divided by what; nothing: the figure itself
CREATE TEMP TABLE goal (
	position integer GENERATED ALWAYS AS IDENTITY,
	case_name text, label text NOT NULL, variant text, of_case text, of_variant text, relation text, bound numeric);
INSERT INTO goal (case_name, label, variant, of_case, of_variant, relation, bound)
SELECT l.case_name, g.*
FROM (VALUES ('load_insert', 1.25), ('load_copy', 1.25), ('few_insert', 1.15), ('few_copy', 1.15)) l (case_name, bound)
CROSS JOIN LATERAL (VALUES
	('%s x bare', 'creditmemo', l.case_name, 'bare', '<=', l.bound),
	('row %s x', 'row_trigger', l.case_name, 'creditmemo', '>=', 8),
	('statement %s x', 'statement_trigger', l.case_name, 'creditmemo', '>=', 1.3)
	) g (label, variant, of_case, of_variant, relation, bound)
WHERE l.case_name LIKE 'load%' OR g.variant = 'creditmemo';
INSERT INTO goal (case_name, label, variant, of_case, of_variant, relation, bound) VALUES
	('restate', '%s x bare', 'creditmemo', 'restate', 'bare', '<=', 1.2),
	('one_line', '%s x bare', 'creditmemo', 'one_line', 'bare', '>=', 0.7),
	('one_line', '%s x row', 'creditmemo', 'one_line', 'row_trigger', '>=', 1.4),
	('eight_random', '%s x row', 'creditmemo', 'eight_random', 'row_trigger', '>=', 1),
	('eight_one_account', '%s x row', 'creditmemo', 'eight_one_account', 'row_trigger', '>=', 1),
	('hundred_after_one', '%s x fresh', 'creditmemo', 'hundred_fresh', 'creditmemo', '>=', 0.95),
	('one_after_hundred', '%s x fresh', 'creditmemo', 'one_fresh', 'creditmemo', '>=', 0.95),
	('ten_million', '%s x empty', 'creditmemo', 'ten_million_none', 'creditmemo', '<=', 1.1),
	('email_one_account', '', 'creditmemo', NULL, NULL, '<=', 2),
	('email_hundred_accounts', '', 'creditmemo', NULL, NULL, '<=', 2),
	('balance', '', 'creditmemo', NULL, NULL, '<=', 2),
	('liability', '', 'creditmemo', NULL, NULL, '<=', 1000),
	('memo_balance', '', 'creditmemo', NULL, NULL, '<=', 1000),
	('invoice', '', 'creditmemo', NULL, NULL, '<=', 500),
	('memory', '', 'creditmemo', NULL, NULL, '<=', 1024),
	('memory_few_lines', '', 'creditmemo', NULL, NULL, '<=', 1024);

CREATE TEMP VIEW median AS
SELECT case_name, variant, percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS value
FROM result
GROUP BY case_name, variant;

CREATE TEMP VIEW outcome AS
SELECT g.*, m.value / coalesce(d.value, 1) AS ratio,
	CASE g.relation WHEN '<=' THEN m.value / coalesce(d.value, 1) <= g.bound
					ELSE m.value / coalesce(d.value, 1) >= g.bound END AS is_met
FROM goal g
JOIN median m ON m.case_name = g.case_name AND m.variant = g.variant
LEFT JOIN median d ON d.case_name = g.of_case AND d.variant = g.of_variant;

SELECT '| | creditmemo | bare | row trigger | statement trigger | ratio | goal | met |';
SELECT '|---|---|---|---|---|---|---|---|';
SELECT format('| %s | %s | %s |', s.title, string_agg(coalesce(
	(SELECT CASE v.variant WHEN 'creditmemo' THEN '**' ELSE '' END || round(m.value::numeric, s.digits)
		|| CASE v.variant WHEN 'creditmemo' THEN '**' ELSE '' END
		FROM median m WHERE m.case_name = s.case_name AND m.variant = v.variant), ''), ' | ' ORDER BY v.position),
	coalesce((
		SELECT format('%s | %s | %s',
			string_agg(format(o.label, round(o.ratio::numeric, 2)), ', ' ORDER BY o.position),
			string_agg(format('%s %s', o.relation, o.bound), ', ' ORDER BY o.position),
			CASE WHEN bool_and(o.is_met) THEN 'yes' ELSE 'no' END)
		FROM outcome o
		WHERE o.case_name = s.case_name
		HAVING count(*) > 0), ' | | '))
FROM shown s
CROSS JOIN (VALUES (1, 'creditmemo'), (2, 'bare'), (3, 'row_trigger'), (4, 'statement_trigger')) v (position, variant)
WHERE s.case_name IN (SELECT case_name FROM median)
GROUP BY s.position, s.case_name, s.title, s.digits
ORDER BY s.position;
