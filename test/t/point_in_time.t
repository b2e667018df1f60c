# A base backup that is taken while books are written, with archived WAL, gives the books back as they were at a named
# point, a time or an LSN in the midst of what was written later, and a standby that is promoted goes on where the
# server stopped: every table equal, and the next statements do what they did on the server.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Cluster;
use Copies qw(write_books contents documents go_on billings);
use File::Temp;
use POSIX ();
use Psql qw(psql run_ok books_are_sound);
use Test::More;
use Time::HiRes 'sleep';

use constant SECONDS_TO_WAIT => 60;

my $archive = Cluster::directory();
my $server = Cluster->new('original', settings => {
	archive_mode => 'on', archive_command => "cp %p $archive/%f", wal_keep_size => '256MB' });
my $scripts = File::Temp->newdir;
my $sessions = 0;

sub on_server(&) { return $server->run($_[0]) }

# A session that runs what it is given; others go on meanwhile.
sub session
{
	my ($statements) = @_;
	my $script = "$scripts/" . ++$sessions;
	open my $file, '>', $script or die "$script: $!";
	print $file "\\o /dev/null\n$statements";
	close $file;
	my $pid = fork // die "fork: $!";
	return $pid if $pid;
	$ENV{PGPORT} = $server->port;
	exec 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'books', '-f', $script or POSIX::_exit(127);
}

# Loads, refunds, memos, invoices and voids, in transactions of several, until it is told to stop.
my $load = <<'SQL';
SELECT FROM set_config('lock_timeout', '60s', false);
CREATE PROCEDURE pg_temp.load() LANGUAGE plpgsql AS $$
DECLARE
	n bigint := (SELECT count(*) FROM creditmemo.invoice);
	month date;
BEGIN
	WHILE NOT EXISTS (SELECT FROM stop) LOOP
		n := n + 1;
		month := '2019-04-01'::date + n % 5 * interval '1 month';
		INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
			SELECT month, account_id, 'Amazon EC2', n % 7 - 2 FROM creditmemo.member_account WHERE account_id < '00000000003';
		INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on)
			SELECT account_id, 3, '2019-04-01' FROM creditmemo.member_account WHERE account_id < '00000000002';
		PERFORM creditmemo.issue_invoice('W' || n, 'ACME', month, '2019-10-01');
		COMMIT;
		IF n % 3 = 0 THEN
			PERFORM creditmemo.void_invoice('W' || n, 'wrong');
			COMMIT;
		END IF;
	END LOOP;
END
$$;
CALL pg_temp.load();
SQL

sub invoices { return on_server { psql('books', 'SELECT count(*) FROM creditmemo.invoice') } }

sub wait_until
{
	my ($condition) = @_;
	for (my $waited = 0; $waited < SECONDS_TO_WAIT; $waited += 0.05)
	{
		return if (eval { psql('books', "SELECT $condition") } // $@) eq 't';
		sleep 0.05;
	}
	die "not in @{[ SECONDS_TO_WAIT ]} seconds: $condition";
}

# Loads while the code runs, before it and after it.
sub while_loading(&)
{
	my ($code) = @_;
	my $writer = session($load);
	my $load_more = sub {
		my $enough = invoices() + 5;
		on_server { wait_until("count(*) >= $enough FROM creditmemo.invoice") };
	};
	$load_more->();
	$code->();
	$load_more->();
	on_server { psql('books', 'INSERT INTO stop VALUES (true)') };
	waitpid $writer, 0;
	is($?, 0, 'the books were written meanwhile');
	on_server { psql('books', 'DELETE FROM stop') };
}

# What the books are now, and a point to come back to.
sub remember
{
	my ($name) = @_;
	return on_server {
		my %point = (contents => contents('books'), documents => documents('books'));
		# whatever comes after has a later time
		@point{qw(lsn time)} = split /\|/, psql('books', "SELECT pg_create_restore_point('$name'), clock_timestamp()");
		psql('books', 'SELECT pg_sleep(0.01)');
		return \%point;
	};
}

# The same, and what comes of going on from there.  Nobody else may be connected.
sub remember_what_comes_next
{
	my ($name) = @_;
	my $point = remember($name);
	on_server {
		psql('postgres', 'CREATE DATABASE copy TEMPLATE books');
		go_on('copy');
		$point->{outcome} = billings('copy');
		psql('postgres', 'DROP DATABASE copy');
	};
	return $point;
}

sub base_backup
{
	my ($name, @options) = @_;
	my $directory = Cluster::directory() . '/data';
	on_server {
		run_ok("base backup $name", 'pg_basebackup', '-w', '--checkpoint=fast', '--no-sync', '-D', $directory, @options);
	};
	return $directory;
}

# Recovers up to a point, and tests that the books are what they were then.  Waits there, or goes on from there.
sub recovers
{
	my ($cluster, $action, $point, $target, $value) = @_;
	$cluster->set(map({ ("recovery_target_$_" => undef) } qw(name time lsn)), "recovery_target_$target" => $value,
		recovery_target_action => $action);
	$cluster->start;
	$cluster->run(sub {
		wait_until($action eq 'pause' ? "pg_get_wal_replay_pause_state() = 'paused'" : 'NOT pg_is_in_recovery()');
		is(contents('books'), $point->{contents}, "recovery to a $target: every table is equal");
		is(documents('books'), $point->{documents}, "recovery to a $target: every document is equal");
		books_are_sound('books', "recovery to a $target: the books are sound");
	});
}

$server->start;
on_server {
	psql('postgres', 'CREATE DATABASE books');
	psql('books', 'CREATE EXTENSION creditmemo; CREATE TABLE stop (now boolean); CREATE TABLE commit_load (now boolean)');
	write_books('books');
};

# ---- backups while books are written ----

my ($backup, $standby_data);
while_loading {
	$backup = base_backup('to recover');
	$standby_data = base_backup('of a standby', '--write-recovery-conf');
};
my $before = remember('before_the_load');

# ---- points in the midst of what was written later, one while a transaction has loaded and not committed ----

while_loading { };
my $loader = session(<<'SQL');
BEGIN;
SET application_name = 'load';
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
SELECT '2019-02-01', account_id, 'Amazon S3', 1 FROM creditmemo.member_account WHERE account_id < '1';
DO $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM commit_load) LOOP
		PERFORM FROM pg_sleep(0.01);
	END LOOP;
END
$$;
COMMIT;
SQL
on_server { wait_until("count(*) = 1 FROM pg_stat_activity WHERE application_name = 'load' AND query LIKE 'DO%'") };
my $midst = remember('in_the_midst');
on_server { psql('books', 'INSERT INTO commit_load VALUES (true)') };
waitpid $loader, 0;
is($?, 0, 'a load was committed after that');
my $later = remember_what_comes_next('later');
isnt($later->{contents}, $midst->{contents}, 'it changed something');
while_loading { };

# ---- a standby that is promoted where the server stops ----

my $standby = Cluster->new('standby', from => $standby_data);
$standby->start;
my $lsn = on_server { psql('books', 'SELECT pg_current_wal_lsn()') };
my %now = on_server { (contents => contents('books'), documents => documents('books')) };
$standby->run(sub {
	wait_until("pg_last_wal_replay_lsn() >= '$lsn'");
	is(contents('books'), $now{contents}, 'standby: every table is equal');
	is(documents('books'), $now{documents}, 'standby: every document is equal');
	books_are_sound('books', 'standby: the books are sound while it stands by');
});
$standby->run(sub { psql('books', 'SELECT pg_promote()') });
on_server {
	go_on('books');
	$now{outcome} = billings('books');
	my $file = psql('books', 'SELECT pg_walfile_name(pg_switch_wal())');
	wait_until("last_archived_wal >= '$file' FROM pg_stat_archiver");
};
$standby->run(sub {
	go_on('books');
	is(billings('books'), $now{outcome}, 'standby: what comes next comes to the same');
});
$_->stop foreach $standby, $server;

# ---- recovery to a point ----

open my $signal, '>', "$backup/recovery.signal" or die "$backup: $!";
close $signal;
my $recovered = Cluster->new('recovered', from => $backup, settings => { restore_command => "cp $archive/%f %p" });
recovers($recovered, 'pause', $before, name => 'before_the_load');
$recovered->stop;
recovers($recovered, 'pause', $midst, time => $midst->{time});
$recovered->stop;
recovers($recovered, 'promote', $later, lsn => $later->{lsn});
$recovered->run(sub {
	go_on('books');
	is(billings('books'), $later->{outcome}, 'recovery: what comes next comes to the same');
});

done_testing();
