# SQL made at random over all tables, views and functions, valid and not, by several sessions at once, as biller and as
# owner: the server does not crash, no error is internal, no statement hangs, and the books are sound throughout.
#
# STATEMENTS says how many (3,000), FIRST_SEED where to begin; SESSIONS how many at once (3).  A failure prints its seed and
# the statements before it; what ran at once with others need not fail again.  COUNTS=1 prints what became of them, and
# errors of ours that have no hint; KEEP=directory goes on after a failure, and keeps the lines there.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use File::Temp 'tempdir';
use FuzzedBooks qw(fuzzed_books make_biller drop_biller crashes sources);
use IPC::Open2;
use JSON::PP;
use POSIX ();
use Psql qw(drop_databases psql books_are_sound);
use RandomSql qw(any chance);
use Test::More;

my $statements = $ENV{STATEMENTS} // 3000;
my $first_seed = $ENV{FIRST_SEED} // 1;
my $sessions = $ENV{SESSIONS} // 3;
my $batch = 300;           # lines between two looks at the books
my $database_share = 15000;    # statements a database
my $directory = tempdir(CLEANUP => 1);

# RESET ALL and DISCARD ALL come back to these
$ENV{PGOPTIONS} = '-c statement_timeout=60s -c lock_timeout=2s -c search_path=creditmemo,public'
  . ' -c client_min_messages=warning';

# ---- a session: psql, given files ----

sub connect_as
{
	my ($session) = @_;
	local $ENV{PGUSER} = $session->{user};
	open my $saved, '>&', \*STDERR or die;
	open STDERR, '>>', $session->{errors} or die;
	$SIG{PIPE} = 'IGNORE';
	$session->{pid} = open2($session->{out}, $session->{in}, 'psql', '-X', '-q', '-A', '-t', '-d', $session->{database},
		'-v', 'VERBOSITY=verbose');
	open STDERR, '>&', $saved or die;
	$session->{in}->autoflush(1);
	return;
}

# Runs the lines; returns its errors, each with the line's number.
sub run_lines
{
	my ($session, @lines) = @_;
	open my $file, '>', $session->{script} or die;
	print $file map { "$_\n" } @lines;
	close $file;
	truncate $session->{errors}, 0 if $session->{marks};    # not what psql says when it cannot connect
	my $mark = 'DONE' . ++$session->{marks};
	print { $session->{in} } "\\o /dev/null\n\\i $session->{script}\n;ROLLBACK;\n\\o\n\\echo $mark\n";
	my $is_done = eval {
		local $SIG{ALRM} = sub { die "hangs\n" };
		alarm 300;
		my $line = '';
		1 while defined($line = readline $session->{out}) && $line ne "$mark\n";
		alarm 0;
		defined $line;
	};
	my @errors = errors_of($session->{errors});
	push @errors, { line => scalar @lines, state => $@ ? 'HANGS' : 'GONE', message => $@ || 'the connection is gone' } unless $is_done;
	return @errors;
}

sub errors_of
{
	my ($path) = @_;
	open my $file, '<', $path or die;
	my @errors;
	while (my $line = <$file>)
	{
		if ($line =~ /^psql:(?:[^:]*:(\d+): )?(?:ERROR|FATAL|PANIC):  (\w{5}): (.*)/)
		{
			push @errors, { line => $1 // 0, state => $2, message => $3 };
		}
		elsif ($line =~ /^psql:.*(server closed the connection|connection to server .* (?:lost|failed))/)
		{
			push @errors, { line => 0, state => 'GONE', message => $1 };
		}
		elsif (@errors && $line =~ /^(HINT|LOCATION|CONTEXT):\s+(.*)/)
		{
			$errors[-1]{ lc $1 } = $2;
		}
	}
	return @errors;
}

sub is_wrong
{
	my ($error) = @_;
	return $error->{state} =~ /^(XX|GONE|HANGS|57014|57P|08)/;
}

# ---- a worker: batches of lines, until its share is done ----

# Of ours are errors that our functions raise, in C or PL/pgSQL.
sub own_functions
{
	my %own;
	for my $path (glob "$FindBin::Bin/../../src/*.c")
	{
		open my $file, '<', $path or die;
		/^(\w+)\(/ and $own{$1} = 1 while <$file>;
	}
	return \%own;
}

# Opens what was closed, so that there is something to do.
sub tend
{
	return ("SELECT creditmemo.reopen_period('2018-01-01', NULL, 'tended');",
		"INSERT INTO creditmemo.po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM creditmemo.member_account"
		  . " ON CONFLICT DO NOTHING;",
		"INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on) SELECT account_id, 500, '2019-01-01'"
		  . " FROM creditmemo.member_account ORDER BY random() LIMIT 4;");
}

my $is_sound = q(BEGIN ISOLATION LEVEL REPEATABLE READ; DO $$ DECLARE problem text; BEGIN SELECT v::text INTO problem FROM)
  . q( creditmemo.verify() v LIMIT 1; IF FOUND THEN RAISE 'not sound: %', problem USING ERRCODE = 'XXCM1'; END IF; END $$; COMMIT;);

sub work
{
	my ($seed, $number, $database, $share, $biller) = @_;
	my $is_owner = $number % 3 == 2;
	my $user = $is_owner ? $ENV{PGUSER} : $biller;
	my $name = "$directory/$number";
	my $session = { user => $user, database => $database, script => "$name.sql", errors => "$name.errors" };
	my $report = { seed => $seed, number => $number, user => $user, statements => 0, states => {}, without_hint => {}, wrong => [] };
	my $own = own_functions();
	srand $seed * 100 + $number;
	my $sql = RandomSql->new($database, $biller, is_owner => $is_owner, role => $biller, sources => [ sources() ]);
	for (my $n = 0; $report->{statements} < $share; $n++)
	{
		srand +($seed * 100 + $number) * 10000 + $n;
		unless ($session->{pid} && chance(0.9))
		{
			close $_ foreach grep { defined } delete @$session{qw(in out)};
			waitpid delete $session->{pid}, 0 if $session->{pid};
			connect_as($session);
		}
		$sql->look($seed + $n);
		my @lines = chance(0.3) && $is_owner ? tend() : ();
		unshift @lines, '\set ON_ERROR_ROLLBACK ' . any('on', 'on', 'on', 'off');
		push @lines, $sql->block while @lines < $batch;
		my @errors = run_lines($session, @lines);
		push @errors, run_lines($session, 'SET ROLE NONE;', $is_sound) unless grep { is_wrong($_) } @errors;
		$report->{statements} += @lines;
		for my $error (@errors)
		{
			$report->{states}{ $error->{state} }++;
			my ($function) = ($error->{location} // '') =~ /^(\w+),/;
			my $is_own = $function && ($own->{$function} || $function eq 'exec_stmt_raise' && ($error->{context} // '') =~ /creditmemo\./);
			$report->{without_hint}{"$error->{state} $function: " . $error->{message} =~ s/"[^"]*"/"..."/gr =~ s/\d+/N/gr} //= $lines[ $error->{line} - 1 ]
			  if $is_own && !defined $error->{hint};
		}
		my ($wrong) = grep { is_wrong($_) } @errors;
		next unless $wrong;
		my $last = ($wrong->{line} || @lines) - 1;
		my $first = $last > 15 ? $last - 15 : 0;
		$report->{wrong} = [ "seed $seed, session $number as $user, batch $n: $wrong->{state} $wrong->{message} ($wrong->{location})",
			map { length > 1500 ? substr($_, 0, 1500) . ' ...' : $_ } grep { defined } @lines[ $first .. $last ] ];
		if ($ENV{KEEP})
		{
			open my $kept, '>', "$ENV{KEEP}/$seed-$number-$n.sql" or die;
			print $kept map { "$_\n" } "-- $report->{wrong}[0]", @lines;
		}
		last unless $ENV{KEEP};
		delete $session->{pid};
	}
	open my $file, '>', "$name.json" or die;
	print $file JSON::PP->new->encode($report);
	close $file;
	return;
}

my (%states, %without_hint);
my $done = 0;
my $biller = make_biller();
my $started = crashes();
for (my $seed = $first_seed; $done < $statements; $seed++)
{
	my $rest = $statements - $done;
	my $share = int(($rest < $database_share ? $rest : $database_share) / $sessions) || 1;
	my $database = fuzzed_books("creditmemo_fuzz");
	my @pids = map {
		my $number = $_;
		my $pid = fork // die "fork: $!";
		unless ($pid)
		{
			eval { work($seed, $number, $database, $share, $biller); 1 } or print STDERR "session $number: $@";
			# not exit, which would drop the databases of the test
			POSIX::_exit(0);
		}
		$pid
	} 0 .. $sessions - 1;
	waitpid $_, 0 foreach @pids;
	my $failed = 0;
	for my $number (0 .. $sessions - 1)
	{
		my $path = "$directory/$number.json";
		open my $file, '<', $path or do { fail("seed $seed, session $number: died"); $failed++; next };
		my $report = JSON::PP->new->decode(join '', <$file>);
		close $file;
		unlink $path;
		$done += $report->{statements};
		$states{$_} += $report->{states}{$_} foreach keys %{ $report->{states} };
		%without_hint = (%{ $report->{without_hint} }, %without_hint);
		ok(!@{ $report->{wrong} }, "seed $seed, session $number: $report->{statements} statements") or $failed++;
		diag(join "\n", @{ $report->{wrong} }) if @{ $report->{wrong} };
	}
	diag("again with: FIRST_SEED=$seed STATEMENTS=" . $share * $sessions . " test/with-server prove test/t/fuzz.t") if $failed;
	books_are_sound($database, "seed $seed: the books are sound");
	drop_databases();
	last if $failed && !$ENV{KEEP};
}
is(crashes(), $started, 'the server has not crashed');
drop_biller();

my $errors = 0;
$errors += $_ foreach values %states;
my $succeeded = 100 * ($done - $errors) / $done;
cmp_ok($succeeded, '>', 25, sprintf '%d statements, %.0f %% succeeded', $done, $succeeded);
if ($ENV{COUNTS})
{
	diag("$states{$_} $_") foreach sort { $states{$b} <=> $states{$a} || $a cmp $b } keys %states;
	diag("no hint: $_\n    " . substr $without_hint{$_}, 0, 300) foreach sort keys %without_hint;
}

done_testing();
