/*
 * Where the figures are collected.
 */
CREATE TABLE result (
	case_name text NOT NULL,
	variant text NOT NULL,
	round integer NOT NULL,
	value numeric NOT NULL,
	PRIMARY KEY (case_name, variant, round)
);
-- what pgbench --log writes
CREATE TABLE transaction_log (
	client integer, transaction_no integer, latency text, script integer, epoch bigint, epoch_us bigint
);
