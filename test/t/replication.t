# Logical replication: a second server gets the books while they are written, by the initial copy and row by row, and
# has every row that the first has, nothing applied twice; and when it takes over, it goes on as the first would have.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Cluster;
use Copies qw(write_books contents go_on billings tables);
use File::Temp;
use Psql qw(psql books_are_sound);
use Stories qw(prepare_stories random_books);
use Test::More;
use Time::HiRes 'sleep';

use constant SECONDS_TO_WAIT => 60;

my $seed = $ENV{FIRST_SEED} // 1;
srand $seed;
diag "FIRST_SEED=$seed" if $ENV{FIRST_SEED};

my %settings = (wal_level => 'logical', wal_retrieve_retry_interval => '100ms');
my $publisher = Cluster->new('publisher', settings => \%settings);
my $subscriber = Cluster->new('subscriber', settings => \%settings);
my $version = $ENV{PGVERSION};

sub on_publisher(&) { return $publisher->run($_[0]) }
sub on_subscriber(&) { return $subscriber->run($_[0]) }

# Whether the subscriber has copied all tables, and gets what comes after from now on.
sub is_copied
{
	my $tables = on_publisher { scalar tables('books') };
	return on_subscriber { psql('books', <<"SQL") } eq 't';
SELECT count(*) FILTER (WHERE srsubstate = 'r') = $tables AND count(*) = $tables FROM pg_subscription_rel
SQL
}

# Waits until the subscriber has applied all that is committed.
sub catch_up
{
	my $has_caught_up = on_publisher {
		my $lsn = psql('books', 'SELECT pg_current_wal_lsn()');
		for (my $waited = 0; $waited < SECONDS_TO_WAIT; $waited += 0.1)
		{
			return 1 if psql('books', <<"SQL") eq 't';
SELECT coalesce(bool_and(replay_lsn >= '$lsn'), false) FROM pg_stat_replication WHERE application_name = 'books'
SQL
			sleep 0.1;
		}
		return 0;
	};
	ok($has_caught_up, 'the subscriber has caught up') or diag $subscriber->log;
}

sub are_equal
{
	my ($name) = @_;
	catch_up();
	is(on_subscriber { contents('books') }, on_publisher { contents('books') }, "$name: every table is equal");
	on_subscriber { books_are_sound('books', "$name: the subscriber's books are sound") };
}

$_->start foreach $publisher, $subscriber;
on_publisher {
	psql('postgres', 'CREATE DATABASE books');
	psql('books', 'CREATE EXTENSION creditmemo');
	write_books('books');
	prepare_stories('books');
	my $tables = join ', ', map { "creditmemo.$_" } tables('books');
	psql('books', 'CREATE PUBLICATION books FOR ' . ($version >= 15 ? 'TABLES IN SCHEMA creditmemo' : "TABLE $tables"));
};
on_subscriber {
	psql('postgres', 'CREATE DATABASE books');
	psql('books', 'CREATE EXTENSION creditmemo');
};

# ---- the initial copy, while books are written ----

my $script = File::Temp->new;
print $script "SET search_path = creditmemo, public;\n", random_books();
close $script;
my $writer = fork // die "fork: $!";
if ($writer == 0)
{
	$ENV{PGPORT} = $publisher->port;
	open STDOUT, '>', '/dev/null';
	exec 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'books', '-f', $script;
}
on_subscriber { psql('books', <<"SQL") };
SET client_min_messages = warning;
CREATE SUBSCRIPTION books
	CONNECTION 'host=localhost port=@{[ $publisher->port ]} dbname=books user=$ENV{PGUSER} password=$ENV{PGPASSWORD}'
	PUBLICATION books
SQL
# at least until all is copied
my $loads = 0;
until (is_copied())
{
	on_publisher { psql('books', <<"SQL") };
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
SELECT '2020-06-01', account_id, 'Amazon EC2', @{[ ++$loads % 5 - 1 ]} FROM creditmemo.member_account WHERE account_id < '1'
SQL
	die 'the subscriber does not copy: ', $subscriber->log if $loads > 2000;
}
waitpid $writer, 0;
is($?, 0, 'books are written while the subscriber copies them');
are_equal('initial copy');

# ---- row by row ----

on_publisher { go_on('books') };
are_equal('the next statements');
on_publisher { psql('books', <<'SQL') };
SET search_path = creditmemo, public;
-- a load of many rows, a month loaded again, one that is rolled back
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	SELECT '2020-07-01', account_id, 'Amazon EC2', n, 'July ' || n FROM member_account, generate_series(1, 100) n;
INSERT INTO utilization (service_period, account_id, service, amount, source_id)
	SELECT '2020-07-01', account_id, 'Amazon EC2', n - 2, 'July ' || n FROM member_account, generate_series(1, 100) n
	ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount;
BEGIN;
DELETE FROM utilization WHERE service_period = '2020-07-01';
ROLLBACK;
UPDATE credit_memo SET expires_on = '2020-06-30'
WHERE balance > 0 AND account_id < '000000000020' AND redeemed_on < '2020-01-01';
INSERT INTO customer (customer_id, name) VALUES ('NEW', 'New');
UPDATE member_account SET name = 'renamed' WHERE account_id = '000000000007';
DELETE FROM email_template WHERE customer_id IS NULL;
SQL
are_equal('loads and restatements');

# ---- the second takes over from the first, which is lost ----

on_subscriber { psql('books', 'ALTER SUBSCRIPTION books DISABLE') };
my @later = ("SELECT void_invoice('SI7', 'wrong')", "INSERT INTO credit_memo (account_id, amount, redeemed_on)
		SELECT account_id, 11, '2019-03-01' FROM member_account",
	"INSERT INTO utilization (service_period, account_id, service, amount)
		SELECT '2020-08-01', account_id, 'Amazon S3', 12 FROM member_account",
	"INSERT INTO provider_credit (account_id, payer_account_id, service_period, amount)
		VALUES ('000000000001', '999999999999', '2019-01-01', -5)",
	"SELECT issue_invoice('SI8', 'ACME', '2020-08-01', '2020-09-05')",
	"INSERT INTO email_template (customer_id, text) VALUES (NULL, '{summary}')",
	"INSERT INTO utilization (service_period, account_id, service, amount)
		SELECT '2020-08-01', account_id, 'Amazon S3', -5 FROM member_account");
my $later = join ";\n", 'SET search_path = creditmemo, public', '\o /dev/null', @later, '\o';

my $expected = on_publisher { psql('books', $later); billings('books') };
$publisher->stop('immediate');

on_subscriber { psql('books', <<'SQL') };
ALTER SUBSCRIPTION books SET (slot_name = NONE);
DROP SUBSCRIPTION books;
SELECT setval('creditmemo.credit_memo_memo_id_seq', max(memo_id)) FROM creditmemo.credit_memo;
SELECT setval('creditmemo.utilization_utilization_id_seq', max(utilization_id)) FROM creditmemo.utilization;
SELECT setval('creditmemo.provider_credit_provider_credit_line_id_seq', max(provider_credit_line_id))
FROM creditmemo.provider_credit;
SELECT setval('creditmemo.email_template_email_template_id_seq', max(email_template_id)) FROM creditmemo.email_template;
SQL
is(on_subscriber { psql('books', "SELECT count(*) FROM pg_sequences WHERE schemaname = 'creditmemo'") }, 4,
	'there are no other sequences');
is(on_subscriber { psql('books', $later); billings('books') }, $expected, 'the second goes on as the first would have');
on_subscriber {
	books_are_sound('books');
	is(psql('books', <<'SQL'), '', 'and gives no id that the first had given');
SELECT memo_id, count(*) FROM creditmemo.credit_memo GROUP BY memo_id HAVING count(*) > 1
UNION ALL
SELECT utilization_id, count(*) FROM creditmemo.utilization GROUP BY utilization_id HAVING count(*) > 1
SQL
};

done_testing();
