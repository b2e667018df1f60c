# The books on several machines: a coordinator and workers of Citus, where the server has it.  Books that are distributed are
# those of one machine, row by row; random histories come to what the model has; machines that are stopped in the middle
# of loads lose or halve no statement; a machine is added, and shards are moved to it, while clients load.
#
# HISTORIES says how many (40), STOPS how often machines are stopped (6).

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Citus;
use Client;
use Cluster;
use Copies qw(write_books contents documents sequences go_on outcome);
use Histories qw(random_history prepare_histories are_as_modelled);
use POSIX 'WNOHANG';
use Psql qw(new_database psql run_ok books_are_sound);
use Test::More;

plan skip_all => 'this server has no Citus' unless Citus::is_installed();

my $histories = $ENV{HISTORIES} // 40;
my $stops = $ENV{STOPS} // 6;
my $clients = 4;
my $accounts_each = 10;    # accounts of a client, whose other accounts nobody loads

my $citus = Citus->new;
$citus->start_node($_) foreach qw(worker1 worker2);

sub copy_of
{
	my ($database) = @_;
	return { contents => contents($database), documents => documents($database), sequences => sequences($database) };
}

sub is_same
{
	my ($copy, $original, $name) = @_;
	is($copy->{$_}, $original->{$_}, "$name: $_ are equal") foreach sort keys %$original;
}

# ---- one machine's books, distributed ----

$citus->new_database('filled');
$citus->run(sub {
	write_books('filled');
	my $original = copy_of('filled');
	psql('filled', 'SELECT creditmemo.distribute(8)');
	is_same(copy_of('filled'), $original, 'distributed');
	books_are_sound('filled', 'the distributed books are sound');
	is(psql('filled', "SELECT sum(result::integer) FROM run_command_on_shards('creditmemo.billing', 'SELECT count(*) FROM %s')"),
		psql('filled', 'SELECT count(*) FROM creditmemo.billing'), 'what there is is on the shards');
});
new_database('creditmemo_one');
write_books('creditmemo_one');
go_on('creditmemo_one');
$citus->run(sub { go_on('filled') });
is($citus->run(sub { outcome('filled') }), outcome('creditmemo_one'), 'what comes next comes to the same as on one machine');

# ---- dumped, and restored on one machine and on several ----

my $dump = Cluster::directory() . '/filled.dump';
$citus->run(sub { run_ok('pg_dump', 'pg_dump', '--format=custom', '--extension=creditmemo', "--file=$dump", 'filled') });
sub restore
{
	my ($database) = @_;
	local $ENV{PGOPTIONS} = '-c session_replication_role=replica';
	run_ok("pg_restore into $database", 'pg_restore', "--dbname=$database", $dump);
}
new_database('creditmemo_back', without_extension => 1);
restore('creditmemo_back');
is(contents('creditmemo_back'), $citus->run(sub { contents('filled') }), 'restored on one machine, every table is equal');
books_are_sound('creditmemo_back', 'the restored books are sound');
my $insert = "INSERT INTO creditmemo.utilization (account_id, service_period, service, amount)
	SELECT account_id, '2019-07-01', 'Amazon EC2', 1 FROM creditmemo.member_account";
($citus->workers)[0]->run(sub { psql('filled', $insert) });
$citus->run(sub { run_ok('pg_dump again', 'pg_dump', '--format=custom', '--extension=creditmemo', "--file=$dump", 'filled') });
$citus->new_database('again', without_extension => 1);
$citus->run(sub {
	restore('again');
	psql('again', 'SELECT creditmemo.distribute(4)');
});
($citus->workers)[0]->run(sub { psql('again', $insert) });
$citus->run(sub {
	is(psql('again', 'SELECT count(*) - count(DISTINCT utilization_id) FROM creditmemo.utilization'), 0,
		'where the books are distributed once more, no machine gives ids that another gave before');
	books_are_sound('again', 'the books that were distributed once more are sound');
});

# ---- bills imported, and restated where some lines are invoiced ----

# Returns what the imports did and the books but for ids, which come in another order.
sub import_bills
{
	my ($database) = @_;
	return psql($database, <<'SQL') =~ s/^psql:.*\n//mgr;
SET search_path = creditmemo, public;
SET client_min_messages = warning;
INSERT INTO customer (customer_id, name) VALUES ('C', 'Customer');
CREATE TABLE bill ("BillingAccountId" text, "SubAccountId" text, "BilledCost" numeric, "BillingCurrency" text, "ChargeCategory" text,
	"ServiceName" text, "ChargeDescription" text, "ChargePeriodStart" date, "BillingPeriodStart" date);
INSERT INTO bill
	SELECT '999999999999', lpad((n % 40)::text, 12, '0'), n * 0.0137, 'USD', CASE WHEN n % 50 = 49 THEN 'Credit' ELSE 'Usage' END,
		'Service ' || n % 3, 'Line', '2019-01-01', '2019-01-01'
	FROM generate_series(1, 600) n;
SELECT * FROM import_focus('bill', 'C');
INSERT INTO po_assignment (account_id, po_number, assigned_at) SELECT account_id, 'PO', '2018-01-01' FROM member_account;
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on) SELECT account_id, 'M', 20, '2019-01-01' FROM member_account;
SELECT * FROM import_focus('bill');
SELECT invoice_number FROM issue_invoice('SI1', 'C', '2019-01-01', '2019-02-01', (SELECT array_agg(account_id) FROM member_account WHERE account_id < '000000000020'));
UPDATE bill SET "BilledCost" = "BilledCost" * 0.7 WHERE "ServiceName" <> 'Service 2';
DELETE FROM bill WHERE "ServiceName" = 'Service 2' AND "SubAccountId" LIKE '%5';
SELECT * FROM import_focus('bill');
SELECT account_id, service_period, service, description, amount, source_id, billing_no FROM utilization ORDER BY account_id, source_id;
SELECT * FROM billing ORDER BY account_id, service_period, billing_no;
SELECT account_id, memo_number, entry_no, entry_type, amount, balance_after, billing_no, reverses FROM memo_statement ORDER BY 1, 2, 3;
SELECT account_id, owner_account_id, service, amount, source_id FROM provider_credit ORDER BY account_id, source_id;
SQL
}

new_database('creditmemo_bills');
my $imported = import_bills('creditmemo_bills');
cmp_ok(() = $imported =~ /Restated by AWS/g, '>', 10, 'bills were restated after invoices');
$citus->new_database('bills');
$citus->run(sub {
	psql('bills', 'SELECT creditmemo.distribute(8)');
	is(import_bills('bills'), $imported, 'bills are imported as on one machine');
	books_are_sound('bills', 'the imported books are sound');
});

# ---- what verify() says ----

$citus->run(sub {
	psql('filled', "SELECT run_command_on_shards('creditmemo.memo_entry', 'ALTER TABLE %s DISABLE TRIGGER USER')");
	psql('filled', "SELECT run_command_on_shards('creditmemo.memo_entry', 'UPDATE %s SET recorded_at = recorded_at - interval ''1 day'' WHERE entry_no = 2')");
	psql('filled', "INSERT INTO creditmemo.invoice (invoice_number, customer_id, customer_name, service_period, invoice_date, due_date)
		VALUES ('nothing', 'ACME', 'Acme', '2019-01-01', '2019-01-01', '2019-01-01')");
	is(psql('filled', 'SELECT DISTINCT problem FROM creditmemo.verify() ORDER BY 1'),
		"balance after is not that of the ledger\nentry is older than the one before it\ninvoice bills nothing",
		'verify() finds what is wrong on any machine, and with invoices');
});

# ---- random histories ----

$citus->new_database('histories');
$citus->run(sub {
	psql('histories', 'SELECT creditmemo.distribute(8)');
	prepare_histories('histories');
	are_as_modelled('histories', "$histories histories are as the model has them",
		map { random_history($_, has_merge => 0, is_distributed => 1) } 1 .. $histories);
	books_are_sound('histories');
});

# ---- loads ----

$citus->new_database('loaded');
$citus->run(sub {
	psql('loaded', <<"SQL");
SELECT creditmemo.distribute(8);
SET search_path = creditmemo;
INSERT INTO customer (customer_id, name) VALUES ('C', 'Customer');
INSERT INTO payer_account VALUES ('P');
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT client || '-' || n, 'P', 'C' FROM generate_series(1, $clients) client, generate_series(1, $accounts_each) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
INSERT INTO credit_memo (account_id, amount, redeemed_on) SELECT account_id, 1000, '2019-01-01' FROM member_account;
SQL
});
my @first_nodes = $citus->nodes;
my (%acknowledged, $loads);

# A load of a line for each account of the client, known again by the number of the load.
sub load
{
	my ($client) = @_;
	$loads++;
	my @lines = map { [ "$client-$_", '2019-01-01', 'Amazon EC2', "0.$_", "$loads-$_" ] } 1 .. $accounts_each;
	my $columns = 'creditmemo.utilization (account_id, service_period, service, amount, source_id)';
	return ($loads, $loads % 2
		? "INSERT INTO $columns VALUES " . join ', ', map { '(' . join(', ', map { "'$_'" } @$_) . ')' } @lines
		: "COPY $columns FROM STDIN;\n" . join("\n", map { join "\t", @$_ } @lines) . "\n\\.\nSELECT");
}

# Sends a load from each client, does something, and notes whose were acknowledged; returns the states of the others.
sub loads_while
{
	my ($sessions, $code) = @_;
	my %sent;
	for my $client (1 .. $clients)
	{
		my ($number, $statement) = load($client);
		$sessions->[ $client - 1 ]->send($statement);
		$sent{$client} = $number;
	}
	$code->();
	my @failed;
	for my $client (1 .. $clients)
	{
		my ($state, $output) = $sessions->[ $client - 1 ]->answer;
		my $is_done = defined $state && $state eq '00000' && $output !~ /ERROR|FATAL/;
		$is_done ? ($acknowledged{ $sent{$client} } = 1) : push @failed, $output;
	}
	return @failed;
}

# Sessions of the clients, on the machines in turn.
sub sessions
{
	my (@nodes) = @_;
	return [ map { $nodes[ $_ % @nodes ]->run(sub { Client->new('loaded') }) } 1 .. $clients ];
}

sub loads_are_whole
{
	my ($name) = @_;
	$citus->run(sub {
		psql('loaded', "SELECT run_command_on_all_nodes('SELECT pg_catalog.recover_prepared_transactions()')");
		is(psql('loaded', "SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'citus%'"), 0, "$name: no transaction is left in doubt");
		my %lines = map { split /\|/ } split /\n/, psql('loaded',
			"SELECT split_part(source_id, '-', 1), count(*) FROM creditmemo.utilization GROUP BY 1");
		is(join(' ', grep { ($lines{$_} // 0) != $accounts_each } sort { $a <=> $b } keys %acknowledged), '', "$name: what was acknowledged is there");
		is(join(' ', grep { $lines{$_} != $accounts_each } sort { $a <=> $b } keys %lines), '', "$name: nothing is there in part");
		books_are_sound('loaded', "$name: the books are sound");
	});
}

# ---- machines stopped ----

my $lost = 0;
srand 1;
foreach my $stop (1 .. $stops)
{
	my $node = $first_nodes[ $stop % 3 ];
	my $sessions = sessions(@first_nodes);
	loads_while($sessions, sub {}) foreach 1 .. 3;
	$lost += loads_while($sessions, sub { select undef, undef, undef, rand 0.03; $node->stop('immediate') });
	undef $sessions;
	$node->start;
}
cmp_ok($lost, '>', 0, 'machines were stopped in the middle of loads');
loads_are_whole('after stops');

# ---- a machine added ----

my $new = $citus->start_node('worker3');
Citus::prepare($new, 'loaded');
my $before = keys %acknowledged;
my $pid = fork // die "fork: $!";
if ($pid == 0)
{
	POSIX::_exit(!eval {
		$citus->add_node('loaded', $new);
		$citus->run(sub {
			psql('loaded', 'SELECT creditmemo.distribute()');
			psql('loaded', "SELECT rebalance_table_shards('creditmemo.member_account', shard_transfer_mode => 'block_writes')");
		});
		1;
	});
}
# on the new one ids are not its own before distribute() has been called
my $sessions = sessions(@first_nodes);
my @failed;
push @failed, loads_while($sessions, sub {}) while waitpid($pid, WNOHANG) == 0;
is($?, 0, 'a machine was added and shards moved to it');
is(join('', @failed), '', 'no load failed meanwhile');
cmp_ok(keys %acknowledged, '>', $before + $clients, 'loads went on meanwhile');
undef $sessions;
is(join('', loads_while(sessions($new, @first_nodes), sub {})), '', 'clients load through the new machine, too');
$citus->run(sub {
	cmp_ok(psql('loaded', "SELECT count(*) FROM pg_dist_shard_placement p JOIN pg_dist_shard s USING (shardid)
		WHERE p.nodeport = " . $new->port . " AND s.logicalrelid = 'creditmemo.utilization'::regclass"), '>', 0, 'accounts are on the new machine');
	is(psql('loaded', 'SELECT count(*) - count(DISTINCT utilization_id) FROM creditmemo.utilization'), 0, 'no two machines gave the same id');
});
loads_are_whole('after shards were moved');

done_testing();
