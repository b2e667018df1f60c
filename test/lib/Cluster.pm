# Clusters of a test's own, beside the one that the environment points to: to be killed, backed up, copied.  They have
# the extension, and the same user and password.

package Cluster;

use strict;
use warnings;
use File::Temp 'tempdir';
use IO::Socket::INET;
use POSIX ();

# whoever is stopped leaves no servers behind: END is run
$SIG{$_} = sub { exit 1 } foreach qw(HUP INT TERM);

my @clusters;
my $directory;

# Creates a cluster, and does not start it.  Options: settings => { name => value } for postgresql.conf, from => the data
# directory of a base backup or of a cluster that was copied, version => of an installed server, initdb => [ options ],
# environment => { name => value } of the server.
sub new
{
	my ($class, $name, %options) = @_;
	my $self = bless { name => $name, version => $options{version} // $ENV{PGVERSION} }, $class;
	$self->{data} = $options{from} // place() . "/data-$name";
	$self->{log} = place() . "/log-$name";
	my %settings = (fsync => 'off', extension_settings(), %{ $options{settings} // {} });
	my $password = place() . '/password';
	open my $file, '>', $password or die "$password: $!";
	print $file "$ENV{PGPASSWORD}\n";
	close $file;
	to_server($password);
	if ($options{from})
	{
		write_configuration($options{from});
		to_server($options{from});
	}
	my @initdb = $options{from} ? () : ('--', "--username=$ENV{PGUSER}", "--pwfile=$password", '--nosync', '--locale=C.UTF-8',
		'--encoding=UTF8', @{ $options{initdb} // [] });
	$self->{port} = free_port();
	command('pg_createcluster', '--quiet', '--port', $self->{port}, '-d', $self->{data}, '-l', $self->{log},
		'--start-conf=manual', environment_file(%{ $options{environment} // {} }),
		(map { ('--pgoption', "$_=$settings{$_}") } sort keys %settings), $self->{version}, $name, @initdb);
	push @clusters, $self;
	return $self;
}

sub port { return $_[0]{port} }
sub data { return $_[0]{data} }

# What the server has logged since it was created.
sub log
{
	my ($self) = @_;
	open my $file, '<', $self->{log} or return '';
	return join '', <$file>;
}

# Changes postgresql.conf; undef is the default.
sub set
{
	my ($self, %settings) = @_;
	command('pg_conftool', $self->{version}, $self->{name},
		defined $settings{$_} ? ('set', $_, $settings{$_}) : ('remove', $_)) foreach sort keys %settings;
}

sub start { my ($self) = @_; command('pg_ctlcluster', $self->{version}, $self->{name}, 'start') }

# As pg_ctl's modes: smart, fast, immediate.
sub stop
{
	my ($self, $mode) = @_;
	command('pg_ctlcluster', '--mode', $mode // 'fast', $self->{version}, $self->{name}, 'stop');
}

# Starts the server, as a process of our own, and does not wait: it may be killed while it recovers.
sub launch
{
	my ($self) = @_;
	my @as_server = $> == 0 ? qw(setpriv --reuid postgres --regid postgres --init-groups) : ();
	waitpid $self->{postmaster}, 0 if $self->{postmaster};
	$self->{postmaster} = fork // die "fork: $!";
	return if $self->{postmaster};
	$SIG{$_} = 'DEFAULT' foreach qw(HUP INT TERM);
	POSIX::setsid();
	chdir '/';
	open STDIN, '<', '/dev/null';
	open STDOUT, '>>', $self->{log};
	open STDERR, '>&', \*STDOUT;
	{ exec @as_server, "/usr/lib/postgresql/$self->{version}/bin/postgres", '-D', $self->{data},
		"--config_file=$ENV{PG_CLUSTER_CONF_ROOT}/$self->{version}/$self->{name}/postgresql.conf" };
	POSIX::_exit(1);
}

# Waits until the server accepts connections; dies after a minute, with what it logged last.
sub await
{
	my ($self) = @_;
	for (1 .. 1500)
	{
		return if $self->run(sub { system('psql -X -q -d postgres -c "SELECT" >/dev/null 2>&1') == 0 });
		select undef, undef, undef, 0.03;
	}
	die "the server does not start: ", substr($self->log, -2000);
}

# The processes of the server: [ id, what it does as ps shows it ], the postmaster first; none if it is not running.
sub processes
{
	my ($self) = @_;
	open my $file, '<', "$self->{data}/postmaster.pid" or return;
	chomp(my $postmaster = <$file> // '');
	return unless $postmaster && is_alive($postmaster);
	my @processes = [ $postmaster, 'postmaster' ];
	for my $pid (map { /(\d+)$/ } glob '/proc/[0-9]*')
	{
		next unless parent($pid) == $postmaster;
		my $title = contents("/proc/$pid/cmdline") =~ tr/\0/ /r;
		push @processes, [ $pid, $title =~ s/^postgres: (?:\S*\/\S* )?//r =~ s/\s+$//r ];
	}
	return @processes;
}

# Kills processes, or all, by SIGKILL and waits until they are gone.
sub slay
{
	my ($self, @pids) = @_;
	unless (@pids)
	{
		# nor may the postmaster fork one more meanwhile
		my ($postmaster) = $self->processes or return;
		kill 'STOP', $postmaster->[0];
		@pids = map { $_->[0] } $self->processes;
	}
	kill 'KILL', @pids;
	select undef, undef, undef, 0.005 while grep { is_alive($_) } @pids;
}

sub contents { my ($path) = @_; local $/; open my $file, '<', $path or return ''; return <$file> // '' }
sub parent { return contents("/proc/$_[0]/stat") =~ /\) [^Z] (\d+)/ ? $1 : 0 }
sub is_alive { return parent($_[0]) != 0 }

sub is_running { my ($self) = @_; return system("pg_ctlcluster $self->{version} $self->{name} status >/dev/null 2>&1") == 0 }

# Runs the code with the environment pointing to this cluster, and returns what it returns.
sub run
{
	my ($self, $code) = @_;
	local $ENV{PGPORT} = $self->{port};
	return $code->();
}

# A directory that is removed at the end, and that a server may write to.
sub directory
{
	my $new = tempdir(DIR => place());
	to_server($new);
	return $new;
}

# Gives files to the user that servers run as, where we are root.
sub to_server
{
	my ($path) = @_;
	command('chown', '-R', 'postgres:', $path) if $> == 0;
}

sub place
{
	unless ($directory)
	{
		$directory = tempdir('creditmemo-XXXXXX', TMPDIR => 1, CLEANUP => 1);
		chmod 0755, $directory;
		to_server($directory);
	}
	return $directory;
}

# One above the environment's, so that tests that run at the same time on other servers do not meet.
sub free_port
{
	for my $port ($ENV{PGPORT} + 1 + @clusters .. 65535)
	{
		return $port if !-e "/var/run/postgresql/.s.PGSQL.$port.lock" && !grep({ $_->{port} == $port } @clusters)
		  && IO::Socket::INET->new(LocalAddr => 'localhost', LocalPort => $port, Listen => 1, ReuseAddr => 1);
	}
	die 'no port is free';
}

# A data directory brings its configuration with it; Debian's keep it elsewhere.
sub write_configuration
{
	my ($data) = @_;
	my %files = ('postgresql.conf' => '', 'pg_ident.conf' => '', 'pg_hba.conf' => <<'CONF');
local all all peer
host all all localhost scram-sha-256
host replication all localhost scram-sha-256
CONF
	for my $name (keys %files)
	{
		open my $file, '>', "$data/$name" or die "$data/$name: $!";
		print $file $files{$name};
		close $file;
	}
}

# The option for it.
sub environment_file
{
	my (%environment) = @_;
	return () unless %environment;
	my $path = directory() . '/environment';
	open my $file, '>', $path or die "$path: $!";
	print $file "$_ = '$environment{$_}'\n" foreach sort keys %environment;
	close $file;
	return "--environment=$path";
}

# Where servers find the extension, as test/with-server says.
sub extension_settings { return map { /^([^=]+)=(.*)$/ } split ' ', $ENV{EXTENSION_SETTINGS} // '' }

sub command
{
	my (@command) = @_;
	my $output = '';
	open my $pipe, '-|', 'sh', '-c', 'cd / && exec "$@" 2>&1', '--', @command or die "$command[0]: $!";
	while (my $line = <$pipe>)
	{
		$output .= $line;
	}
	close $pipe or die "@command: $output";
	return $output;
}

END
{
	local $?;
	foreach my $cluster (@clusters)
	{
		system("pg_ctlcluster --mode immediate $cluster->{version} $cluster->{name} stop >/dev/null 2>&1");
		waitpid $cluster->{postmaster}, 0 if $cluster->{postmaster};
		system("pg_dropcluster $cluster->{version} $cluster->{name} >/dev/null 2>&1");
	}
}

1;
