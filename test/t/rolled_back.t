# What a transaction does and takes back leaves no trace: every row of every table is as it was, whether
# each thing was done by itself or all of them together, and whatever ended them.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Psql qw(new_database psql books_are_sound);
use Test::More;

my $database = new_database('creditmemo_rolled_back');

# December is closed, and a memo has expired with it; January is invoiced, and another memo ends with
# it; February is invoiced, and has a supplementary billing.
psql($database, <<'SQL');
SET search_path = creditmemo;
INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme'), ('HARBOR', 'Blue Harbor');
INSERT INTO payer_account VALUES ('P1'), ('P2');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES
	('1', 'P1', 'ACME'), ('2', 'P1', 'ACME'), ('idle', 'P1', 'ACME');
INSERT INTO po_assignment (account_id, po_number) VALUES ('1', 'PO'), ('2', 'PO');
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on, services) VALUES
	('1', 'V', 30, '2019-01-01', NULL, NULL), ('2', 'K', 500, '2019-01-01', NULL, NULL),
	('1', 'S', 12, '2019-01-01', NULL, '{Amazon S3}'),
	('1', 'E', 9, '2019-01-01', '2019-01-31', NULL), ('2', 'O', 8, '2018-12-01', '2018-12-31', NULL);
SELECT close_period('2018-12-01') \g /dev/null
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-01-01', '1', 'Amazon EC2', 5), ('2019-01-01', '2', 'Amazon EC2', 6);
SELECT issue_invoice('SI1', 'ACME', '2019-01-01', '2019-02-05') \g /dev/null
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-02-01', '1', 'Amazon EC2', 20), ('2019-02-01', '2', 'Amazon EC2', 20);
SELECT issue_invoice('SI2', 'ACME', '2019-02-01', '2019-03-05') \g /dev/null
INSERT INTO utilization (service_period, account_id, service, amount, source_id) VALUES
	('2019-02-01', '1', 'Amazon EC2', 15, 'b'), ('2019-02-01', '1', 'Amazon S3', 4, 'c'),
	('2019-02-01', '2', 'Amazon EC2', 15, 'b'), ('2019-02-01', '2', 'Amazon S3', 4, 'c');
SQL
books_are_sound($database);

# each is possible by itself, and after those before it
my @changes = (
	[ 'load', "INSERT INTO utilization (service_period, account_id, service, amount)
		VALUES ('2019-02-01', '2', 'Amazon EC2', 30), ('2019-03-01', '1', 'Amazon S3', 31)" ],
	[ 'refund', "INSERT INTO utilization (service_period, account_id, service, amount)
		VALUES ('2019-02-01', '2', 'Amazon EC2', -41), ('2019-02-01', '1', 'Amazon EC2', -3)" ],
	[ 'restate', "UPDATE utilization SET amount = amount - 8 WHERE source_id = 'b'" ],
	[ 'restate a month', "INSERT INTO utilization (service_period, account_id, service, amount, source_id)
		VALUES ('2019-02-01', '1', 'Amazon EC2', 25, 'b'), ('2019-02-01', '1', 'Amazon EC2', 2, 'd')
		ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount" ],
	[ 'move a line', "UPDATE utilization SET service_period = '2019-03-01', account_id = '2', source_id = 'e'
		WHERE source_id = 'c' AND account_id = '1'" ],
	[ 'delete', "DELETE FROM utilization WHERE source_id = 'b'" ],
	[ 'memo', "INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on)
		VALUES ('2', 'M', 10, '2019-02-01'), ('1', 'M', 40, '2019-02-01')" ],
	[ 'expiry', "UPDATE credit_memo SET expires_on = '2019-02-10' WHERE memo_number = 'K'" ],
	[ 'void memo', "SELECT void_memo('V', 'wrong')" ],
	[ 'void invoice', "SELECT void_invoice('SI2', 'wrong')" ],
	[ 'invoice', "SELECT issue_invoice('SI3', 'ACME', '2019-02-01', '2019-03-06')" ],
	[ 'close', "SELECT close_period('2019-01-01')" ],
	[ 'reopen', "SELECT reopen_period('2018-12-01', NULL, 'late lines')" ],
	[ 'move an account', "UPDATE member_account SET customer_id = 'HARBOR', payer_account_id = 'P2'
		WHERE account_id = 'idle'" ]);
my $all = join ";\n", map { $_->[1] } @changes;

# every row of every table
my @tables = split /\n/, psql($database, <<'SQL');
SELECT relname
FROM pg_class
WHERE relnamespace = 'creditmemo'::regnamespace AND relkind = 'r'
ORDER BY relname
SQL
my $contents = join("\nUNION ALL\n", map { "SELECT '$_', t::text FROM creditmemo.$_ t" } @tables)
  . "\nORDER BY 1, 2";
my $before = psql($database, $contents);

# Runs the statements, their results unseen, and returns what the query says after the last of them.
sub after
{
	my ($statements, $query) = @_;
	return psql($database, "SET search_path = creditmemo;\n\\o /dev/null\n$statements;\n\\o\n$query");
}

for my $change (@changes)
{
	my ($name, $statement) = @$change;
	isnt(after("BEGIN;\n$statement", $contents), $before, "$name: changes something");
	is(after("BEGIN;\n$statement;\nROLLBACK", $contents), $before, "$name, rolled back");
}
is(after("BEGIN;\n$all;\nROLLBACK", $contents), $before, 'all of them, rolled back');
is(after("BEGIN;\nSAVEPOINT start;\n$all;\nROLLBACK TO start;\nCOMMIT", $contents), $before,
	'all of them, rolled back to a savepoint');
is(after("BEGIN;\nSAVEPOINT start;\n$all;\nROLLBACK TO start;\n$all", 'SELECT * FROM verify()'), '',
	'rolled back to a savepoint and done again, the books are sound');

# one more, which fails, and with it what came before: the transaction, or what a procedure has tried
my @failures = (
	[ "INSERT INTO utilization (service_period, account_id, service, amount)
		VALUES ('2019-03-01', 'unknown', 'Amazon EC2', 1)", 'unknown member account' ],
	[ "INSERT INTO utilization (service_period, account_id, service, amount)
		VALUES ('2019-03-01', '1', 'Amazon EC2', 1), ('2019-03-01', '1', 'Amazon EC2', 0.001)", 'two decimals' ],
	[ 'DELETE FROM utilization', 'is on invoice' ],
	[ "SELECT void_memo('V', 'again')", 'void already' ],
	[ "SELECT void_invoice('SI2', 'again')", 'void already' ],
	[ "SELECT issue_invoice('SI3', 'ACME', '2019-03-01', '2019-03-06')", 'already used' ],
	[ "SELECT close_period('2019-03-01')", 'cannot be closed' ]);
for my $failure (@failures)
{
	my ($statement, $error) = @$failure;
	eval { after("BEGIN;\n$all;\n$statement;\nCOMMIT", $contents) };
	like($@, qr/$error/, "one more fails: $error");
	is(psql($database, $contents), $before, 'and what came before it is undone');
	is(after(<<"SQL", $contents), $before, 'in a procedure that goes on, too');
DO \$do\$
BEGIN
	EXECUTE \$all\$$all\$all\$;
	EXECUTE \$failure\$$statement\$failure\$;
EXCEPTION WHEN OTHERS THEN
	IF SQLERRM !~ '$error' THEN
		RAISE;
	END IF;
END
\$do\$
SQL
}
books_are_sound($database);

# and for good
isnt(after("BEGIN;\n$all;\nCOMMIT", $contents), $before, 'committed');
books_are_sound($database);

done_testing();
