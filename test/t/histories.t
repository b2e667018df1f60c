# Random histories, compared with the model: every balance, billing and entry.
#
# HISTORIES says how many (200), FIRST_SEED where to begin; a failure prints its seed.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Model;
use Psql qw(new_database psql books_are_sound);
use Test::More;

my $histories = $ENV{HISTORIES} // 200;
my $first_seed = $ENV{FIRST_SEED} // 1;
my $batch = 50;    # histories a psql session

my @periods = map { sprintf '2019-%02d-01', $_ } 1 .. 4;
my @services = ('Amazon EC2', 'Amazon S3', 'Tax');

sub any { return $_[ rand @_ ] }
sub chance { return rand() < $_[0] }
sub quoted { return defined $_[0] ? "'$_[0]'" : 'NULL' }
sub money { return sprintf '%s%d.%02d', $_[0] < 0 ? '-' : '', int(abs($_[0]) / 100), abs($_[0]) % 100 }
sub some_day { return sprintf '2019-%02d-%02d', 1 + int rand 4, 1 + int rand 28 }

# Each event changes the model and returns the statement that does the same.
sub random_memos
{
	my ($history) = @_;
	my @memos = map {
		my $redeemed_on = some_day();
		my $expires_on = chance(0.5) ? some_day() : undef;
		$expires_on = $redeemed_on if defined $expires_on && $expires_on lt $redeemed_on;
		{
			account_id => any(@{ $history->{accounts} }),
			memo_number => "$history->{name}-M" . ++$history->{memos},
			amount => 1 + int rand any(100, 5000),
			redeemed_on => $redeemed_on,
			expires_on => $expires_on,
			priority => any(1, 100, 100, 100),
			services => any(undef, undef, undef, ['Amazon EC2'], [ 'Amazon S3', 'Amazon EC2' ]),
		}
	} 1 .. any(1, 1, 1, 3);
	$history->{model}->insert_memos(@memos);
	return 'INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on, priority, services) VALUES '
	  . join(', ', map {
			my $services = $_->{services} ? sprintf "'{%s}'", join ',', @{ $_->{services} } : 'NULL';
			sprintf '(%s, %s, %s, %s, %s, %d, %s)', quoted($_->{account_id}), quoted($_->{memo_number}),
			  money($_->{amount}), quoted($_->{redeemed_on}), quoted($_->{expires_on}), $_->{priority}, $services
		} @memos);
}

sub random_lines
{
	my ($history) = @_;
	my @lines = map {
		{
			account_id => any(@{ $history->{accounts} }),
			service_period => any(@periods),
			service => any(@services),
			amount => chance(0.3) ? -int rand 2000 : int rand 2000,
			creditable => chance(0.85) ? 1 : 0,
		}
	} 1 .. any(1, 1, 2, 5, 12);
	$history->{model}->insert_lines(@lines);
	return 'INSERT INTO utilization (account_id, service_period, service, amount, creditable) VALUES '
	  . join(', ', map {
			sprintf '(%s, %s, %s, %s, %s)', quoted($_->{account_id}), quoted($_->{service_period}),
			  quoted($_->{service}), money($_->{amount}), $_->{creditable} ? 'true' : 'false'
		} @lines);
}

sub random_change
{
	my ($history) = @_;
	my $account_id = any(@{ $history->{accounts} });
	my $memo = any(@{ $history->{model}{account}{$account_id}{memos} });
	return random_lines($history) unless $memo;
	if (chance(0.4))
	{
		my $priority = any(1, 50, 100, 200);
		$history->{model}->change_memo($account_id, $memo->{memo_number}, priority => $priority);
		return "UPDATE credit_memo SET priority = $priority WHERE memo_number = " . quoted($memo->{memo_number});
	}
	my $expires_on = chance(0.6) ? some_day() : undef;
	$expires_on = $memo->{redeemed_on} if defined $expires_on && $expires_on lt $memo->{redeemed_on};
	$history->{model}->change_memo($account_id, $memo->{memo_number}, expires_on => $expires_on);
	return 'UPDATE credit_memo SET expires_on = ' . quoted($expires_on)
	  . ' WHERE memo_number = ' . quoted($memo->{memo_number});
}

sub random_po
{
	my ($history) = @_;
	my $account_id = any(@{ $history->{accounts} });
	my $po = "$history->{name}-PO" . ++$history->{pos};
	$history->{model}->assign_po($account_id, $po);
	return sprintf 'INSERT INTO po_assignment (account_id, po_number) VALUES (%s, %s)', quoted($account_id), quoted($po);
}

sub random_invoice
{
	my ($history) = @_;
	my $number = "$history->{name}-SI" . ++$history->{invoices};
	my $period = any(@periods);
	my @accounts = chance(0.5) ? any(@{ $history->{accounts} }) : @{ $history->{accounts} };
	my $billed = $history->{model}->issue_invoice($number, $period, @accounts);
	my $statement = sprintf "SELECT issue_invoice(%s, %s, %s, '2019-06-01', %s) IS NULL", quoted($number),
	  quoted($history->{name}), quoted($period),
	  @accounts == 1 ? sprintf("'{%s}'", @accounts) : 'NULL';
	return $billed ? $statement : sprintf 'SELECT must_fail($$%s$$, %s)', $statement, quoted('P0002');
}

sub random_history
{
	my ($seed) = @_;
	srand $seed;
	my $history = { name => "H$seed", model => Model->new };
	my @script = ("INSERT INTO customer (customer_id, name) VALUES ('H$seed', 'History $seed')");
	for my $n (1 .. any(1, 2, 3))
	{
		my $account_id = "H$seed-$n";
		push @{ $history->{accounts} }, $account_id;
		$history->{model}->add_account($account_id, "H$seed");
		$history->{model}->assign_po($account_id, 'PO');
		push @script, "INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES ('$account_id', 'P', 'H$seed')",
		  "INSERT INTO po_assignment (account_id, po_number) VALUES ('$account_id', 'PO')";
	}
	for (1 .. 20 + int rand 41)
	{
		my $event = any((\&random_lines) x 8, (\&random_memos) x 4, (\&random_invoice) x 3,
			(\&random_change) x 2, \&random_po);
		push @script, $event->($history);
	}
	$history->{script} = join '', map { "$_;\n" } @script;
	$history->{expected} = $history->{model}->books;
	return $history;
}

my $database = new_database('creditmemo_histories');
psql($database, <<'SQL');
INSERT INTO creditmemo.payer_account VALUES ('P');
-- must_fail(statement, sqlstate): runs a statement that must raise just this error
CREATE FUNCTION public.must_fail(statement text, expected text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE statement;
	EXCEPTION WHEN OTHERS THEN
		IF SQLSTATE = expected THEN
			RETURN true;
		END IF;
		RAISE;
	END;
	RAISE EXCEPTION 'no error: %', statement;
END
$$;
-- the books of a history, as the model writes them
CREATE FUNCTION public.books(history text) RETURNS TABLE (line text) LANGUAGE sql
SET search_path = creditmemo AS $$
	SELECT line
	FROM (
		SELECT account_id, 1, service_period::text AS place, billing_no, concat_ws('|', 'billing', account_id, service_period, billing_no,
			trunc(utilization * 100), trunc(creditable * 100), trunc(credit * 100), coalesce(invoice_number, ''),
			coalesce(po_number, ''), coalesce(trunc(prior_balance * 100)::text, ''), coalesce(trunc(balance_after * 100)::text, ''))
		FROM billing
		UNION ALL
		SELECT account_id, 2, to_char(memo_id, '0000000000'), 0, concat_ws('|', 'memo', account_id, memo_number, trunc(amount * 100),
			trunc(balance * 100), first_period, coalesce(last_period::text, ''), po_number)
		FROM credit_memo
		UNION ALL
		SELECT account_id, 2, to_char(memo_id, '0000000000'), entry_no, concat_ws('|', 'entry', account_id, memo_number, entry_no, entry_type,
			trunc(e.amount * 100), trunc(e.balance_after * 100), coalesce(service_period::text, ''),
			coalesce(billing_no::text, ''), coalesce(service, ''), coalesce(reverses::text, ''))
		FROM memo_entry e
		JOIN credit_memo USING (account_id, memo_id)) books (account_id, kind, place, no, line)
	WHERE account_id LIKE history || '-%'
	ORDER BY account_id, kind, place, no
$$;
SQL

for (my $seed = $first_seed; $seed < $first_seed + $histories; $seed += $batch)
{
	my $last = $seed + $batch - 1;
	$last = $first_seed + $histories - 1 if $last >= $first_seed + $histories;
	my @histories = map { random_history($_) } $seed .. $last;
	my $output = psql($database, "SET search_path = creditmemo, public;\n\\o /dev/null\n"
		  . join '', map { "$_->{script}\\o\nSELECT 'BOOKS $_->{name}';\nSELECT * FROM books('$_->{name}');\n\\o /dev/null\n" } @histories);
	my %books = map { /^(\S+)\n(.*?)\n?\z/s ? ($1 => $2) : () } split /^BOOKS /m, $output;
	my @wrong = grep { ($books{ $_->{name} } // '') ne $_->{expected} } @histories;
	ok(!@wrong, "histories $seed to $last are as the model has them");
	next unless @wrong;
	diag("again with: FIRST_SEED=" . substr($wrong[0]{name}, 1) . " HISTORIES=1 test/with-server prove test/t/histories.t\n$wrong[0]{script}");
	is($books{ $wrong[0]{name} } // 'nothing', $wrong[0]{expected}, "history $wrong[0]{name}");
	last;
}
books_are_sound($database);

done_testing();
