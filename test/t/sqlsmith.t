# sqlsmith's queries against filled books, as biller and as a role that has every privilege on the tables but owns none: the
# server does not crash, no error is internal, and the books are sound.  sqlsmith rolls back what it writes.
#
# QUERIES says how many each (400), FIRST_SEED its seed.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use File::Temp;
use FuzzedBooks qw(fuzzed_books make_biller drop_biller crashes);
use Psql qw(drop_databases new_database psql rows_of books_are_sound);
use Test::More;

plan skip_all => 'sqlsmith is not installed: apt-get install sqlsmith' if !grep { -x "$_/sqlsmith" } split /:/, $ENV{PATH};

my $queries = $ENV{QUERIES} // 400;
my $seed = $ENV{FIRST_SEED} // 1;

# The server's own parser and cast raise these, whatever the schema is.
my @allowed = (qr/^failed to find conversion function from unknown to/, qr/^invalid INTERVAL typmod/);

my $biller = make_biller();
my $writer = 'regress_fuzz_writer';
psql('postgres', <<"SQL");
SET client_min_messages = error;
DROP ROLE IF EXISTS $writer;
CREATE ROLE $writer LOGIN PASSWORD '@{[ $ENV{PGPASSWORD} // '' ]}';
SQL
my $database = fuzzed_books('creditmemo_sqlsmith');
psql($database, <<"SQL");
GRANT USAGE ON SCHEMA creditmemo TO $writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA creditmemo TO $writer;
GRANT ALL ON ALL SEQUENCES IN SCHEMA creditmemo TO $writer;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA creditmemo TO $writer;
SQL

# what sqlsmith wants to log to
my $log = new_database('creditmemo_sqlsmith_log', without_extension => 1);
psql($log, <<'SQL');
CREATE TABLE instance (id bigserial PRIMARY KEY, rev text, target text, hostname text, version text, seed text, client text,
	t timestamptz DEFAULT now());
CREATE TABLE error (id bigint, msg text, query text, target text, sqlstate text, t timestamptz DEFAULT now());
CREATE TABLE stat (id bigint PRIMARY KEY, generated bigint, level float, nodes float, updated timestamptz, retries float, impedance text);
SQL

my $started = crashes();
for my $role ($biller, $writer)
{
	my $output = File::Temp->new;
	my $server = "host=$ENV{PGHOST} port=$ENV{PGPORT} password=" . ($ENV{PGPASSWORD} // '');
	{
		local $ENV{PGOPTIONS} = '-c statement_timeout=2s -c search_path=creditmemo,public -c client_min_messages=error';
		system("sqlsmith --exclude-catalog --verbose --seed=$seed --max-queries=$queries --target='$server user=$role dbname=$database'"
			  . " --log-to='$server user=$ENV{PGUSER} dbname=$log' >$output 2>&1");
	}
	seek $output, 0, 0;
	my $said = join '', <$output>;
	my ($generated) = $said =~ /.*queries: (\d+)/s;
	cmp_ok($generated // 0, '>=', $queries * 0.9, "$role: queries done") or diag(substr $said, -2000);
	my @errors = rows_of($log, "SELECT msg, query, sqlstate FROM error WHERE sqlstate ~ '^(XX|57P|08)' OR sqlstate IS NULL OR sqlstate = '' ORDER BY id, t");
	my @wrong = grep { my $error = $_; !grep { ($error->{msg} =~ s/^ERROR:\s*//r) =~ $_ } @allowed } @errors;
	is(@wrong, 0, "$role: no internal error");
	diag("$_->{sqlstate} $_->{msg}\n", substr $_->{query}, 0, 2000) foreach @wrong[ 0 .. ($#wrong < 4 ? $#wrong : 4) ];
	if ($ENV{COUNTS})
	{
		diag("$role: $generated queries");
		diag($_) foreach split /\n/, psql($log, 'SELECT sqlstate, count(*) FROM error GROUP BY 1 ORDER BY 2 DESC');
		diag($_) foreach split /\n/, psql($log, "SELECT left(msg, 150), count(*) FROM error WHERE sqlstate ~ '^XX' GROUP BY 1 ORDER BY 2 DESC");
	}
	psql($log, 'TRUNCATE error');
	books_are_sound($database, "$role: the books are sound");
}
is(crashes(), $started, 'the server has not crashed');
drop_databases();
psql('postgres', "DROP ROLE $writer");
drop_biller();

done_testing();
