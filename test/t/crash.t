# A server that is killed at random moments while clients write keeps every statement that was acknowledged, whole, and
# of the others each whole or not at all.  Each client writes down what it is about to do and what was acknowledged; when
# the server is back the tables must hold just that.
#
# KILLS says how many (24).

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Client;
use Cluster;
use File::Temp;
use JSON::PP;
use List::Util qw(shuffle);
use POSIX ();
use Psql qw(psql);
use Test::More;

my $n_kills = $ENV{KILLS} // 24;
my $n_clients = 4;
my $json = JSON::PP->new->canonical;

# A SIGKILL leaves what the server has written with the system, so fsync does not matter.  Checkpoints are many.
my $cluster = Cluster->new('crash', initdb => ['--wal-segsize=1'], settings => {
	fsync => 'off', synchronous_commit => 'on', shared_buffers => '8MB', min_wal_size => '4MB', max_wal_size => '12MB',
	max_prepared_transactions => 40, log_checkpoints => 'on', autovacuum_naptime => '1s' });
$cluster->launch;
$cluster->await;
$ENV{PGPORT} = $cluster->port;

psql('postgres', <<"SQL");
CREATE EXTENSION creditmemo;
SET search_path = creditmemo;
INSERT INTO payer_account SELECT n::text FROM generate_series(0, $n_clients) n;
INSERT INTO customer (customer_id, name) SELECT n::text, 'Customer ' || n FROM generate_series(0, $n_clients) n;
-- all clients write to the accounts of customer 0, and each has accounts of its own
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT customer_id || '-' || n, customer_id, customer_id FROM customer, generate_series(1, 12) n;
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;

CREATE VIEW public.invoice_state AS
SELECT f.invoice_number, concat_ws('|', f.customer_id, f.service_period, f.total_utilization, f.credit_applied, f.balance_due,
	(SELECT string_agg(concat_ws(' ', b.account_id, b.po_number, b.utilization, b.credit_applied, b.due, b.prior_balance,
			b.balance_of_funds), ', ' ORDER BY b.account_id)
	 FROM invoice_body b
	 WHERE b.invoice_number = f.invoice_number)) AS says, i.voided_at IS NOT NULL AS is_void
FROM invoice_face f
JOIN invoice i USING (invoice_number);

CREATE FUNCTION public.issue(number text, customer text, month date) RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
	PERFORM creditmemo.issue_invoice(number, customer, month, '2020-01-01');
	RETURN (SELECT says FROM public.invoice_state WHERE invoice_number = number);
END
\$\$;

-- whatever clients write, under a key that only one of them changes
CREATE VIEW public.state AS
SELECT concat_ws(' ', 'line', account_id, source_id) AS key,
	concat_ws(' ', service_period, service, amount, creditable) AS value
FROM utilization
UNION ALL
SELECT concat_ws(' ', 'memo', account_id, memo_number),
	concat_ws(' ', amount, redeemed_on, expires_on, po_number, CASE WHEN voided_at IS NOT NULL THEN 'void' END)
FROM credit_memo
UNION ALL
SELECT 'invoice ' || invoice_number, concat_ws(' ', says, CASE WHEN is_void THEN 'void' END)
FROM public.invoice_state
UNION ALL
SELECT DISTINCT 'closed ' || payer_account_id, closed_through::text
FROM member_account
WHERE closed_through = '2010-01-01';
SQL

# ---- what clients do ----

sub any { return $_[ rand @_ ] }
sub chance { return rand() < $_[0] }
sub amount { my ($from, $to) = @_; return sprintf '%.2f', ($from + int rand($to - $from)) / 100 }

# A change is [ SQL, { key => what becomes of it: a value, undef for gone, or \\'any' } ].

sub unique { my ($client) = @_; return $client->{number} . '-' . ++$client->{last_number} }
sub own_account { my ($client) = @_; return $client->{number} . '-' . (1 + int rand 10) }
sub account { my ($client) = @_; return chance(0.6) ? '0-' . (1 + int rand 12) : own_account($client) }
sub month { return any(qw(2019-01-01 2019-02-01 2019-03-01)) }

sub line_values { my ($line) = @_; return "('$line->[2]', '$line->[0]', '$line->[3]', $line->[4], '$line->[5]', '$line->[1]')" }

# Lines are [ account, source, month, service, amount, creditable ].
sub write_lines
{
	my ($on_conflict, @lines) = @_;
	@lines = sort { $a->[0] cmp $b->[0] || $a->[1] cmp $b->[1] } @lines;
	return [ 'INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, creditable, source_id) VALUES '
		  . join(', ', map { line_values($_) } @lines) . $on_conflict,
		{ map { ("line $_->[0] $_->[1]" => join ' ', @$_[2 .. 5]) } @lines } ];
}

sub new_lines
{
	my ($client, $n, $from, $to, $account) = @_;
	return map { [ $account ? $account->($client) : account($client), unique($client), month(), any('EC2', 'S3'),
		amount($from, $to), any('t', 't', 't', 'f') ] } 1 .. $n;
}

sub load { my ($client) = @_; return write_lines('', new_lines($client, 2 + rand 12, 1, 3000)) }
sub refund { my ($client) = @_; return write_lines('', new_lines($client, 1 + rand 4, -2000, -1)) }

# Lines and memos of its own that seem to be open yet: the youngest.
sub some_lines
{
	my ($client) = @_;
	my @lines = shuffle grep { /^line/ } @{ $client->{young} };
	my $n = 1 + int rand 6;
	return map { [ (split)[1, 2], split ' ', $client->{model}{$_} ] } splice @lines, 0, $n;
}

sub restate
{
	my ($client) = @_;
	my @lines = some_lines($client) or return;
	return write_lines(' ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount',
		(map { [ @$_[0 .. 3], amount(-500, 3000), $_->[5] ] } @lines), new_lines($client, 1, 1, 3000));
}

sub withdraw
{
	my ($client) = @_;
	my @lines = some_lines($client) or return;
	return [ 'DELETE FROM creditmemo.utilization WHERE (account_id, source_id) IN ('
		  . join(', ', map { "('$_->[0]', '$_->[1]')" } @lines) . ')', { map { ("line $_->[0] $_->[1]" => undef) } @lines } ];
}

sub new_memos
{
	my ($client, $account) = @_;
	my @memos = map { [ $account ? $account->($client) : account($client), unique($client), amount(100, 9000), month() ] }
	  1 .. 1 + rand 3;
	return [ 'INSERT INTO creditmemo.credit_memo (account_id, memo_number, amount, redeemed_on) VALUES '
		  . join(', ', map { "('$_->[0]', '$_->[1]', $_->[2], '$_->[3]')" } @memos),
		{ map { ("memo $_->[0] $_->[1]" => "$_->[2] $_->[3] PO") } @memos } ];
}

sub any_not_void
{
	my ($client, $kind) = @_;
	return any(grep { /^$kind/ && $client->{model}{$_} !~ /void$/ } @{ $client->{young} });
}

sub void_memo
{
	my ($client) = @_;
	my $key = any_not_void($client, 'memo') // return;
	my ($account, $number) = (split ' ', $key)[1, 2];
	return [ "SELECT creditmemo.void_memo('$number', 'wrong', '$account')", { $key => "$client->{model}{$key} void" } ];
}

sub issue_invoice
{
	my ($client) = @_;
	my $number = unique($client);
	my $customer = any(0, $client->{number});
	my $month = month();
	return [ "SELECT public.issue('$number', '$customer', '$month')", { "invoice $number" => \'any' } ];
}

sub void_invoice
{
	my ($client) = @_;
	my $key = any_not_void($client, 'invoice') // return;
	my ($number) = $key =~ /(\S+)$/;
	return [ "SELECT creditmemo.void_invoice('$number', 'wrong')", { $key => "$client->{model}{$key} void" } ];
}

# Of its own payer, a month of long ago, with credit that ends with it.
sub old_memo
{
	my ($client) = @_;
	my ($account, $number) = (own_account($client), unique($client));
	return [ 'INSERT INTO creditmemo.credit_memo (account_id, memo_number, amount, redeemed_on, expires_on)'
		  . " VALUES ('$account', '$number', 9.99, '2010-01-05', '2010-01-31')",
		{ "memo $account $number" => '9.99 2010-01-05 2010-01-31 PO' } ];
}

sub close_or_reopen
{
	my ($client) = @_;
	my $key = "closed $client->{number}";
	return $client->{model}{$key}
	  ? [ "SELECT creditmemo.reopen_period('2010-01-01', '$client->{number}', 'late')", { $key => undef } ]
	  : [ "SELECT creditmemo.close_period('2010-01-01', '$client->{number}')", { $key => '2010-01-01' } ];
}

my @changes = ((\&load) x 8, (\&refund) x 3, (\&restate) x 8, (\&withdraw) x 4, (\&new_memos) x 4, (\&void_memo) x 2,
	(\&issue_invoice) x 4, (\&void_invoice) x 3, \&old_memo, \&close_or_reopen);
sub change { my ($client) = @_; return any(@changes)->($client) }

# ---- transactions ----

# A transaction is { statements => [...], changes => {...}, gid => of a prepared one }.

sub of_one { my ($client) = @_; my $change = change($client) // return; return transaction([ $change->[0] ], $change) }

sub transaction
{
	my ($statements, @changes) = @_;
	return { statements => $statements, changes => { map { %{ $_->[1] } } @changes } };
}

sub of_several
{
	my ($client) = @_;
	my @changes = (load($client), any(\&refund, \&restate)->($client) // (), new_memos($client));
	return transaction([ 'BEGIN', (map { $_->[0] } @changes), 'COMMIT' ], @changes);
}

sub with_savepoints
{
	my ($client) = @_;
	my ($first, $undone, $last) = (load($client), any(\&refund, \&restate)->($client) // refund($client), new_memos($client));
	return transaction([ 'BEGIN', $first->[0], 'SAVEPOINT a', $undone->[0], 'ROLLBACK TO a', 'SAVEPOINT b', $last->[0],
		'RELEASE b', 'COMMIT' ], $first, $last);
}

# Keeps locks until it is committed: on two of the client's own accounts.
sub reserved_account { my ($client) = @_; return "$client->{number}-" . any(11, 12) }

sub prepared
{
	my ($client) = @_;
	my @changes = (write_lines('', new_lines($client, 3, -200, 1000, \&reserved_account)), new_memos($client, \&reserved_account));
	my $gid = unique($client);
	return { %{ transaction([ 'BEGIN', (map { $_->[0] } @changes), "PREPARE TRANSACTION '$gid'" ], @changes) }, gid => $gid };
}

sub next_transaction
{
	my ($client) = @_;
	my $kind = int rand 24;
	return $kind < 3 ? of_several($client) : $kind < 5 ? with_savepoints($client) :
	  $kind < 8 && !keys %{ $client->{pending} } ? prepared($client) : of_one($client);
}

# ---- clients ----

# Writes at once what must be known should the next statement be the last.
sub note_down { my ($client, @note) = @_; syswrite $client->{journal}, $json->encode(\@note) . "\n" or die "journal: $!" }

# Takes up what has become of keys.
sub apply
{
	my ($client, $transaction, $answer) = @_;
	my $changes = $transaction->{changes};
	for my $key (sort keys %$changes)
	{
		my $value = ref $changes->{$key} ? $answer : $changes->{$key};
		push @{ $client->{young} }, $key unless exists $client->{model}{$key};
		delete $client->{model}{$key};
		$client->{model}{$key} = $value if defined $value;
	}
	$client->{young} = [ grep { exists $client->{model}{$_} } @{ $client->{young} } ];
	splice @{ $client->{young} }, 0, -60 if @{ $client->{young} } > 60;
}

# What another client, or the client itself, did first: a month was closed, a line invoiced, nothing is left to bill; or it
# holds a lock.
my $expected_errors = '55000|P0002|55P03|40P01';

sub refuse_to_go_on { print STDERR "$_[0]: $_[1]"; POSIX::_exit(3) }

# Whether the statements succeeded, and what the last SELECT printed; exits when the server is gone.
sub run_statements
{
	my ($session, @statements) = @_;
	my $answer = '';
	for my $statement (@statements)
	{
		$session->send($statement);
		my ($state, $output) = $session->answer;
		POSIX::_exit(0) unless defined $state;
		if ($state ne '00000')
		{
			refuse_to_go_on($statement, $output) unless $state =~ /^(?:$expected_errors)$/;
			$session->send('ROLLBACK') if @statements > 1;
			POSIX::_exit(0) if @statements > 1 && !defined(($session->answer)[0]);
			return;
		}
		$answer = $output;
	}
	# the row; a farewell of the server may stand before or after it
	return (1, $answer =~ /^(\d+\|.*)$/m ? $1 : '');
}

sub run_transaction
{
	my ($client, $session, $transaction) = @_;
	my $id = ++$client->{last_transaction};
	note_down($client, try => $id, { %$transaction, changes => { map {
		($_ => ref $transaction->{changes}{$_} ? JSON::PP::true : $transaction->{changes}{$_}) } keys %{ $transaction->{changes} } } });
	my ($succeeded, $answer) = run_statements($session, @{ $transaction->{statements} });
	note_down($client, !$succeeded ? 'failed' : $transaction->{gid} ? 'prepared' : 'done', $id, $answer);
	return unless $succeeded;
	$client->{pending}{$id} = $transaction if $transaction->{gid};
	apply($client, $transaction, $answer) unless $transaction->{gid};
}

sub finish_prepared
{
	my ($client, $session) = @_;
	my ($id) = keys %{ $client->{pending} };
	my $transaction = delete $client->{pending}{$id};
	my $how = chance(0.7) ? 'COMMIT' : 'ROLLBACK';
	note_down($client, $how, $id);
	my ($succeeded) = run_statements($session, "$how PREPARED '$transaction->{gid}'");
	POSIX::_exit(4) unless $succeeded;
	note_down($client, finished => $id);
	apply($client, $transaction) if $how eq 'COMMIT';
}

# A client's process, until the server is gone.
sub be_client
{
	my ($client) = @_;
	srand;
	my $session = Client->new('postgres', settings => { lock_timeout => '30ms', deadlock_timeout => '20ms' });
	POSIX::_exit(6) if $session->state_of('SELECT 1') ne '00000';
	note_down($client, connected => 0);
	while (1)
	{
		run_statements($session, 'CHECKPOINT') if chance(0.004);
		if (keys %{ $client->{pending} } && chance(0.3))
		{
			finish_prepared($client, $session);
			next;
		}
		my $transaction = next_transaction($client) // next;
		run_transaction($client, $session, $transaction);
	}
}

sub start_client
{
	my ($client) = @_;
	$client->{journal} = File::Temp->new;
	$client->{process} = fork // die "fork: $!";
	return if $client->{process};
	$SIG{$_} = 'DEFAULT' foreach qw(HUP INT TERM);
	eval { be_client($client) };
	syswrite STDERR, $@;
	POSIX::_exit(5);
}

# ---- kills ----

sub of_kind
{
	my ($pattern) = @_;
	for (1 .. 200)
	{
		my @found = map { $_->[0] } grep { $_->[1] =~ $pattern } $cluster->processes;
		return @found if @found;
		select undef, undef, undef, 0.02;
	}
	die join "\n", "no process matches $pattern:", map { "@$_" } $cluster->processes;
}

# Kills the server while it recovers, as far as it is quick enough; returns how often it was.
sub kill_in_recovery
{
	my $hits = 0;
	for (1 .. 1 + int rand 3)
	{
		my $before = length $cluster->log;
		$cluster->launch;
		for (1 .. 500)
		{
			last if substr($cluster->log, $before) =~ /not properly shut down/;
			select undef, undef, undef, 0.002;
		}
		select undef, undef, undef, rand 0.03;
		$cluster->slay;
		my $logged = substr $cluster->log, $before;
		$hits++ if $logged =~ /redo starts/ && $logged !~ /ready to accept connections/;
	}
	return $hits;
}

my $kills_in_recovery = 0;
my %kills = (
	'immediate shutdown' => sub { $cluster->stop('immediate') },
	'SIGKILL of a session' => sub { $cluster->slay(any(of_kind(qr/127\.0\.0\.1|::1|\[local\]/))) },
	'SIGKILL of all processes' => sub { $cluster->slay },
	'SIGKILL of the checkpointer or a writer' => sub { $cluster->slay(any(of_kind(qr/^(?:checkpointer|walwriter|background writer)/))) },
	'SIGKILL of all, and again in recovery' => sub {
		$cluster->slay;
		$kills_in_recovery += kill_in_recovery();
	});

# ---- what is left ----

my %figures = map { ($_ => 0) } qw(acknowledged refused found absent prepared);

# What a client's journal leaves in doubt, and in its model what it knows.
sub read_journal
{
	my ($client) = @_;
	my (%open, $doubt);
	$open{$_} = { transaction => $client->{pending}{$_}, is => 'prepared' } foreach keys %{ $client->{pending} };
	open my $journal, '<', $client->{journal}->filename or die;
	while (defined(my $line = <$journal>))
	{
		my ($what, $id, $more) = @{ $json->decode($line) };
		next if $what eq 'connected';
		$client->{last_transaction} = $id if $id > $client->{last_transaction};
		$open{$id}{is} = $what;
		$open{$id}{how} = $what if $what =~ /^(?:COMMIT|ROLLBACK)$/;
		if ($what eq 'try')
		{
			$open{$id}{transaction} = $more;
			$_ = \'any' foreach grep { ref } values %{ $more->{changes} };
			/(\d+)$/ and $1 > $client->{last_number} and $client->{last_number} = $1
			  foreach $more->{gid} // (), map { (split)[-1] } keys %{ $more->{changes} };
		}
		$figures{acknowledged}++ if $what =~ /^(?:done|prepared|finished)$/;
		$figures{refused}++ if $what eq 'failed';
		apply($client, $open{$id}{transaction}, $more) if $what eq 'done';
		apply($client, $open{$id}{transaction}) if $what eq 'finished' && $open{$id}{how} eq 'COMMIT';
		delete $open{$id} if $what =~ /^(?:done|failed|finished)$/;
	}
	return \%open;
}

# Whether the keys of a transaction are as it leaves them, or as they were before it.
sub is_after
{
	my ($transaction, $actual) = @_;
	my $changes = $transaction->{changes};
	return !grep {
		my ($is, $should) = ($actual->{$_}, $changes->{$_});
		ref $should ? !defined $is : ($is // 'gone') ne ($should // 'gone')
	} keys %$changes;
}

sub is_before
{
	my ($client, $transaction, $actual) = @_;
	return !grep { ($actual->{$_} // 'gone') ne ($client->{model}{$_} // 'gone') } keys %{ $transaction->{changes} };
}

# Decides what became of a transaction in doubt; returns what is wrong with it.
sub resolve
{
	my ($client, $id, $open, $actual, $is_prepared) = @_;
	my ($transaction, $is) = @$open{qw(transaction is)};
	my $gid = $transaction->{gid};
	$client->{pending}{$id} = $transaction if defined $gid && $is_prepared->{$gid};
	if (defined $gid && $is_prepared->{$gid})
	{
		$figures{ $is eq 'try' ? 'found' : 'absent' }++ unless $is eq 'prepared';
		return is_before($client, $transaction, $actual) ? () : "$gid shows although it is only prepared";
	}
	return "$gid, which was prepared, is missing" if $is eq 'prepared';
	my $may_be_after = $is eq 'COMMIT' || ($is eq 'try' && !defined $gid);
	my $may_be_before = $is ne 'COMMIT';
	if ($may_be_after && is_after($transaction, $actual))
	{
		$figures{found}++;
		my ($any) = grep { ref $transaction->{changes}{$_} } keys %{ $transaction->{changes} };
		apply($client, $transaction, defined $any ? $actual->{$any} : undef);
		return;
	}
	$figures{ $is eq 'ROLLBACK' ? 'found' : 'absent' }++;
	return $may_be_before && is_before($client, $transaction, $actual) ? () :
	  "neither whole nor absent ($is): " . $json->encode({ %$transaction, changes => [ sort keys %{ $transaction->{changes} } ] });
}

sub differences
{
	my ($expected, $actual) = @_;
	my %keys = (%$expected, %$actual);
	return map { "$_: is " . ($actual->{$_} // 'missing') . ', should be ' . ($expected->{$_} // 'missing') }
	  grep { ($actual->{$_} // 'gone') ne ($expected->{$_} // 'gone') } sort keys %keys;
}

sub first_few { my (@lines) = @_; return join "\n", @lines > 10 ? (@lines[0 .. 9], '...') : @lines }

# Compares what there is with what clients know.
sub check
{
	my ($name, @clients) = @_;
	my %actual = map { /^([^|]*)\|(.*)$/ ? ($1 => $2) : () } split /\n/, psql('postgres', 'SELECT key, value FROM public.state');
	my %is_prepared = map { ($_ => 1) } split /\n/, psql('postgres', 'SELECT gid FROM pg_prepared_xacts');
	my @wrong;
	for my $client (@clients)
	{
		my $open = read_journal($client);
		$client->{pending} = {};
		push @wrong, resolve($client, $_, $open->{$_}, \%actual, \%is_prepared) foreach sort keys %$open;
	}
	is(first_few(@wrong), '', "$name: what was not acknowledged is there whole or not at all");
	is(first_few(differences({ map { %{ $_->{model} } } @clients }, \%actual)), '',
		"$name: what was acknowledged is there, and nothing else");
	is(psql('postgres', 'SELECT * FROM creditmemo.verify() LIMIT 10'), '', "$name: the books are sound");
	die 'what follows would fail, too' unless Test::More->builder->is_passing;
}

# Commits or rolls back what is prepared; some of it may wait for another crash.
sub finish_some
{
	my ($is_last, @clients) = @_;
	my $finished = 0;
	for my $client (@clients)
	{
		for my $id (keys %{ $client->{pending} })
		{
			next if !$is_last && chance(0.4);
			my $transaction = delete $client->{pending}{$id};
			my $commit = chance(0.8);
			psql('postgres', sprintf "%s PREPARED '%s'", $commit ? 'COMMIT' : 'ROLLBACK', $transaction->{gid});
			apply($client, $transaction) if $commit;
			$figures{prepared}++;
			$finished++;
		}
	}
	return $finished;
}

# ---- the rounds ----

my @clients = map { { number => $_, model => {}, young => [], pending => {}, last_number => 0, last_transaction => 0 } } 1 .. $n_clients;
my @kinds = sort keys %kills;
my %killed;

for my $round (1 .. $n_kills)
{
	my $kind = $kinds[ $round % @kinds ];
	start_client($_) foreach @clients;
	# whoever came after the kill would not meet it
	select undef, undef, undef, 0.01 while grep { !-s $_->{journal}->filename } @clients;
	select undef, undef, undef, 0.1 + rand 0.8;
	$kills{$kind}->();
	$killed{$kind}++;
	my @ended = map { waitpid $_->{process}, 0; $? >> 8 } @clients;
	is("@ended", join(' ', (0) x @clients), "kill $round: clients met no error that they should not");
	$cluster->launch unless $cluster->processes;
	$cluster->await;
	check("kill $round, $kind", @clients);
	if (finish_some($round == $n_kills, @clients))
	{
		$_->{journal} = File::Temp->new foreach @clients;
		check("kill $round, prepared transactions finished", @clients);
	}
}

my $log = $cluster->log;
my @checkpoints = $log =~ /checkpoint starting: (?!end-of-recovery|shutdown)/g;
diag join "\n", (map { "$killed{$_} x $_" } sort keys %killed), "of those in recovery hit: $kills_in_recovery",
  scalar(@checkpoints) . ' checkpoints while clients wrote',
  "acknowledged: $figures{acknowledged}, refused: $figures{refused}, not acknowledged: found whole $figures{found}, absent $figures{absent}",
  "prepared transactions finished after a crash: $figures{prepared}",
  'left: ' . psql('postgres', "SELECT string_agg(n || ' ' || what, ', ' ORDER BY what) FROM (
	SELECT split_part(key, ' ', 1) AS what, count(*) AS n FROM public.state GROUP BY 1) s");
cmp_ok($figures{$_}, '>', 0, "$_: $figures{$_}") foreach qw(acknowledged absent prepared);
cmp_ok($kills_in_recovery, '>', 0, "kills in recovery: $kills_in_recovery");
cmp_ok(scalar @checkpoints, '>', 0, 'checkpoints');
unlike($log, qr/PANIC|TRAP/, 'no panic');

done_testing();
