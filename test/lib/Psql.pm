# Databases and statements for the TAP tests, on the server that the environment points to.

package Psql;

use strict;
use warnings;
use Exporter 'import';
use File::Temp;
use JSON::PP;
use Test::More;

our @EXPORT_OK = qw(new_database drop_databases psql rows_of run_ok books_are_sound);

my @databases;

# Creates a database, with the extension and in the server's encoding unless told otherwise, and returns its name.
sub new_database
{
	my ($name, %options) = @_;
	my @encoding = $options{encoding} ? ('--encoding', $options{encoding}, '--locale=C', '--template=template0') : ();
	run_ok("createdb $name", 'createdb', @encoding, $name);
	push @databases, $name;
	psql($name, 'CREATE EXTENSION creditmemo') unless $options{without_extension};
	return $name;
}

sub drop_databases
{
	system('dropdb', '--if-exists', $_) foreach splice @databases;
}

# Runs statements and returns what they print, one row a line, columns separated by |.  Dies with
# the server's message if one fails.
sub psql
{
	my ($database, $statements) = @_;
	my $script = File::Temp->new;
	binmode $script, ':utf8';
	print $script $statements;
	close $script;
	my $output = `psql -X -q -A -t -v ON_ERROR_STOP=1 -d $database -f $script 2>&1`;
	die $output if $? != 0;
	chomp $output;
	return $output;
}

# The rows that a query returns, each by its columns, as characters.  By way of hexadecimal digits, as psql prints
# text but for noncharacters beyond U+FFFF.
sub rows_of
{
	my ($database, $query) = @_;
	my $rows = psql($database, "SELECT encode(convert_to(coalesce(json_agg(r), '[]')::text, 'UTF8'), 'hex') FROM ($query) r");
	return @{ JSON::PP->new->utf8->decode(pack 'H*', $rows) };
}

# Runs a command; the test passes if it succeeds, and shows what it printed if not.
sub run_ok
{
	my ($name, @command) = @_;
	my $log = File::Temp->new;
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		open STDOUT, '>&', $log or die;
		open STDERR, '>&', $log or die;
		exec @command or die "exec $command[0]: $!";
	}
	waitpid $pid, 0;
	my $status = $?;
	seek $log, 0, 0;
	my $output = join '', <$log>;
	ok($status == 0, $name) or diag $output;
	return $output;
}

sub books_are_sound
{
	my ($database, $name) = @_;
	is(psql($database, 'SELECT * FROM creditmemo.verify()'), '', $name // 'the books are sound');
}

END { local $?; drop_databases() }

1;
