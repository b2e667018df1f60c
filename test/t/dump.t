# What pg_dump writes, psql and pg_restore give back, in every form and way: every table, document and sequence equal,
# nothing paid twice, and the next statements do what they do in the original.
#
# pg_restore with several jobs and single INSERTs need SET session_replication_role: see the README.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Copies qw(write_books go_on contents documents sequences outcome is_copy);
use File::Temp;
use Psql qw(new_database psql run_ok books_are_sound);
use Test::More;

my $directory = File::Temp->newdir;

sub dump_file { return "$directory/" . join '_', map { s/\W//gr } @_ }

# Dumps a database with these options, once, and returns the file.
sub dumped
{
	my ($database, @options) = @_;
	my $file = dump_file($database, @options);
	run_ok("pg_dump @options", 'pg_dump', '-w', @options, '-f', $file, $database) unless -e $file;
	return $file;
}

# Restores a file with psql or pg_restore, whichever it is for; the test passes if that succeeds.
sub restored
{
	my ($database, $file, @options) = @_;
	my @command = $file =~ /_F[cd]/ ? ('pg_restore', '--exit-on-error') : ('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f');
	run_ok("$command[0] @options", @command, $file, '-d', $database, @options);
}

sub without_triggers(&)
{
	local $ENV{PGOPTIONS} = '-c session_replication_role=replica';
	return $_[0]->();
}

my $original = new_database('creditmemo_dump');
write_books($original);
psql($original, <<'SQL');
DROP ROLE IF EXISTS regress_dump_reader;
CREATE ROLE regress_dump_reader;
GRANT USAGE ON SCHEMA creditmemo TO regress_dump_reader;
GRANT SELECT ON creditmemo.memo_balance TO regress_dump_reader;
-- objects of the user's that depend on the extension's
CREATE VIEW public.open_memo AS SELECT * FROM creditmemo.memo_balance WHERE balance > 0;
CREATE TABLE public.approval (invoice_number text COLLATE "C" REFERENCES creditmemo.invoice);
INSERT INTO public.approval VALUES ('SI6');
SQL
my %expected = (contents => contents($original), documents => documents($original), sequences => sequences($original));
run_ok('a copy that goes on', 'createdb', '--template', $original, 'creditmemo_dump_later');
go_on('creditmemo_dump_later');
$expected{outcome} = outcome('creditmemo_dump_later');
system('dropdb', 'creditmemo_dump_later');

# ---- everything, into an empty database ----

my $restores = 0;

sub restores
{
	my ($name, %way) = @_;
	my $file = dumped($original, @{ $way{dump} });
	my $restored = new_database('creditmemo_restored_' . ++$restores, without_extension => !$way{fresh});
	my $restore = sub { restored($restored, $file, @{ $way{restore} // [] }) };
	$way{without_triggers} ? without_triggers { $restore->() } : $restore->();
	is_copy($restored, \%expected, $name);
	return $restored;
}

my $plain = restores('plain', dump => []);
is(psql($plain, 'SELECT count(*) > 0 FROM open_memo'), 't', 'a view on the books is restored');
my $may_read = "SELECT has_table_privilege('regress_dump_reader', 'creditmemo.memo_balance', 'SELECT')";
is(psql($plain, $may_read), 't', 'so are rights');
restores('plain, one transaction', dump => [], restore => ['--single-transaction']);
restores('plain, cleaned first', dump => [ '--clean', '--if-exists' ]);
restores('custom', dump => ['-Fc']);
restores('custom, one transaction', dump => ['-Fc'], restore => ['--single-transaction']);
restores('directory, dumped by four jobs', dump => [ '-Fd', '-j4' ]);
restores('custom, four jobs', dump => ['-Fc'], restore => ['-j4'], without_triggers => 1);
restores('directory, four jobs', dump => [ '-Fd', '-j4' ], restore => ['-j4'], without_triggers => 1);
restores('only the extension', dump => ['--extension=creditmemo']);
my $bare = restores('no owners, no privileges', dump => [ '--no-owner', '--no-privileges' ]);
is(psql($bare, $may_read), 'f', 'no privileges');

# ---- as INSERTs: a billing or entry may come before the one that it refers to ----

for my $form ('--inserts', '--column-inserts')
{
	restores($form, dump => [$form], without_triggers => 1);
	my $refused = new_database("creditmemo_refused$form" =~ s/-/_/gr, without_extension => 1);
	my $file = dumped($original, $form);
	my $error = `psql -X -q -v ON_ERROR_STOP=1 -d $refused -f $file 2>&1 >/dev/null`;
	like($error, qr/folded_into_fkey/, "$form: the tables are in order, their rows are not");
}
restores('many rows an INSERT', dump => [ '--inserts', '--rows-per-insert=100000' ]);

# ---- data only, into a database with the extension ----

my @data = ('--data-only', '--schema=creditmemo');
restores('data, plain', dump => [@data], fresh => 1);
restores('data, custom', dump => [ '-Fc', @data ], fresh => 1);
restores('data of a custom dump', dump => ['-Fc'], restore => [@data], fresh => 1);
restores('data, triggers disabled by the dump', dump => [ @data, '--disable-triggers' ], fresh => 1);
restores('data, triggers disabled by pg_restore, four jobs', dump => ['-Fc'],
	restore => [ @data, '--disable-triggers', '-j4' ], fresh => 1);

# ---- by another superuser, the first of whom is not known ----

psql($original, <<"SQL");
DROP ROLE IF EXISTS regress_dump_other;
CREATE ROLE regress_dump_other SUPERUSER LOGIN PASSWORD '$ENV{PGPASSWORD}';
SQL
{
	local $ENV{PGUSER} = 'regress_dump_other';
	my $others = restores('another owner', dump => [ '-Fc', '--no-owner' ], restore => ['--no-owner']);
	is(psql($others, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'creditmemo'"), 'regress_dump_other',
		'whoever restores owns the tables');
}
Psql::drop_databases();
psql('postgres', 'DROP ROLE regress_dump_other, regress_dump_reader');

done_testing();
