# pg_upgrade takes the books to another server, by copying and by linking files: every table, document and sequence is
# equal, the next statements do what they would have done, and pg_dump saves the books from there.
#
# The other server is the one whose pg_config OTHER_PG_CONFIG names, or the newest that is installed with its headers;
# where there is no newer one it is the same server.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Cluster;
use Copies qw(write_books go_on contents documents sequences outcome is_copy);
use Psql qw(psql run_ok);
use Test::More;

my $root = "$FindBin::Bin/../..";
my $port = $ENV{PGPORT} + 50;
my $place = Cluster::directory();

sub ask
{
	my ($pg_config, $option) = @_;
	chomp(my $answer = `$pg_config --$option 2>/dev/null`);
	return $answer;
}

sub version { return ask($_[0], 'version') =~ /(\d+)/ ? $1 : 0 }

my $old_config = $ENV{PG_CONFIG} // 'pg_config';
my ($newest) = sort { version($b) <=> version($a) }
  grep { version($_) > version($old_config) && -e ask($_, 'pgxs') && -x ask($_, 'bindir') . '/pg_upgrade' }
  glob '/usr/lib/postgresql/*/bin/pg_config';
my $new_config = $ENV{OTHER_PG_CONFIG} // $newest // $old_config;
plan skip_all => 'pg_upgrade is not installed' unless -x ask($new_config, 'bindir') . '/pg_upgrade';
note 'from PostgreSQL ', version($old_config), ' to ', version($new_config);

# Runs a command as the user that servers run as; the test passes if it succeeds.
sub as_server
{
	my ($name, @command) = @_;
	my $script = join ' ', map { "'" . s/'/'\\''/gr . "'" } @command;
	my @as = $> == 0 ? ('su', 'postgres', '-s', '/bin/sh', '-c') : ('sh', '-c');
	return run_ok($name, @as, "cd '$place' && exec $script");
}

# Builds the extension for a server, and returns the settings by which the server finds it.  pg_upgrade to 18 loads what
# is in $libdir from there only: so the library goes by its bare name.
sub built_for
{
	my ($pg_config) = @_;
	my ($build, $installed) = map { Cluster::directory() } 1 .. 2;
	system('cp', '-r', map({ "$root/$_" } qw(Makefile creditmemo.control sql)), $build) == 0 or die 'cp';
	system("mkdir $build/src && cp $root/src/*.[ch] $build/src") == 0 or die 'cp';
	system('sed', '-i', 's,$libdir/,,', "$build/creditmemo.control") == 0 or die 'sed';
	run_ok('the extension is built for PostgreSQL ' . version($pg_config), 'make', '-s', '-C', $build, "PG_CONFIG=$pg_config",
		'with_llvm=no', "DESTDIR=$installed", 'all', 'install');
	my $sharedir = ask($pg_config, 'sharedir');
	my $libraries = "dynamic_library_path=$installed" . ask($pg_config, 'pkglibdir') . ':$libdir';
	return ("extension_control_path=$installed$sharedir:\$system", $libraries) if version($pg_config) >= 18;
	return ("extension_destdir=$installed", $libraries)
	  if system("grep -q extension_destdir $sharedir/postgresql.conf.sample") == 0;
	# it has to be there
	return ();
}

sub new_server
{
	my ($name, $pg_config, @settings) = @_;
	my $data = "$place/$name";
	as_server("initdb $name", ask($pg_config, 'bindir') . '/initdb', '-D', $data, '-U', $ENV{PGUSER}, '--auth=trust',
		'--nosync', '--locale=C', '--encoding=UTF8', version($pg_config) >= 18 ? '--no-data-checksums' : ());
	open my $file, '>>', "$data/postgresql.conf" or die "$data: $!";
	print $file map { my ($setting, $value) = split /=/, $_, 2; "$setting = '$value'\n" }
	  @settings, 'fsync=off', "port=$port", "unix_socket_directories=$place", 'listen_addresses=';
	close $file;
	return { data => $data, bin => ask($pg_config, 'bindir') };
}

sub control
{
	my ($server, $action) = @_;
	as_server($action, "$server->{bin}/pg_ctl", '-w', '-s', '-D', $server->{data}, '-l', "$server->{data}.log", $action);
}

sub start { control($_[0], 'start') }
sub stop { control($_[0], 'stop') }

my @old_settings = built_for($old_config);
my @new_settings = $new_config eq $old_config ? @old_settings : built_for($new_config);

# the servers talk to us only
local @ENV{qw(PGHOST PGPORT)} = ($place, $port);
my $old = new_server('old', $old_config, @old_settings);
my $running = $old;
END { local $?; stop($running) if $running }
start($old);
psql('postgres', 'CREATE DATABASE books');
psql('books', 'CREATE EXTENSION creditmemo');
write_books('books');
my %original = (contents => contents('books'), documents => documents('books'), sequences => sequences('books'));
psql('postgres', 'CREATE DATABASE later TEMPLATE books');
go_on('later');
$original{outcome} = outcome('later');
psql('postgres', 'DROP DATABASE later');
stop($old);
undef $running;

for my $mode ('copy', 'link')
{
	my $new = new_server("new_$mode", $new_config, @new_settings);
	as_server("pg_upgrade --$mode", "$new->{bin}/pg_upgrade", '-b', $old->{bin}, '-B', $new->{bin}, '-d', $old->{data},
		'-D', $new->{data}, '-U', $ENV{PGUSER}, '-p', $port, '-P', $port + 1, '-s', $place, $mode eq 'link' ? '--link' : ());
	if (!-e "$place/delete_old_cluster.sh")
	{
		diag map { `tail -n 20 $_` } glob "$new->{data}/pg_upgrade_output.d/*/log/*_dump_*.log $place/pg_upgrade_dump_*.log";
		last;
	}
	unlink "$place/delete_old_cluster.sh";
	start($running = $new);
	is(psql('books', "SELECT current_setting('server_version_num')::integer / 10000"),
		version($new_config), 'the server is another');
	psql('postgres', 'CREATE DATABASE restored');
	run_ok('pg_dump', "$new->{bin}/pg_dump", '-f', "$place/dump", 'books');
	run_ok('restore', 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'restored', '-f', "$place/dump");
	is_copy('books', \%original, $mode);
	is_copy('restored', \%original, "$mode, dumped and restored");
	stop($new);
	undef $running;
}

done_testing();
