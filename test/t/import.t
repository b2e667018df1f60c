# Random bills imported, compared with what Perl computes from their lines: utilization, provider
# credits, what import says it did, the reconciliation.  Each bill in all column sets, again, restated
# over open billings, invoices and closed months.  At the end several sessions import one bill at once.
#
# BILLS says how many (30), FIRST_SEED where to begin; a failure names its seed.

use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Bill qw(is_aws bill_of utilization_of credits_of results_of reconciliation_of total money);
use File::Temp 'tempdir';
use List::Util qw(maxstr min shuffle uniq);
use Psql qw(new_database drop_databases psql run_ok books_are_sound);
use Staged qw(any literal column_sets staged);
use Test::More;

my $bills = $ENV{BILLS} // 30;
my $first_seed = $ENV{FIRST_SEED} // 1;
my $batch = 10;    # bills a database
my $directory = $ENV{KEEP_SCRIPTS_IN} // tempdir(CLEANUP => 1);

my @months = qw(2023-11 2023-12 2024-01 2024-02);
my @services = ('Amazon EC2', 'amazon ec2', 'Amazon S3', q(O'Reilly "Books"), 'a:b::c', '# 1 Hosting', 'Übersetzung ☃',
	'back\slash', '50% off_', 'NULL', 'Tax', 'aws:1:2024-01:1:2024-01:creditable:x', undef);
my @agreements = ('AWS', 'Amazon Web Services, Inc.', 'AWS EMEA SARL');
my @publishers = (undef, @agreements, 'Red Hat Inc.', 'Amazonia Oy', 'AWSome Ltd.');

sub chance { return rand() < $_[0] }
sub list { return join ', ', map { literal($_) } @_ }
sub texts { return 'ARRAY[' . list(@_) . ']::text[]' }

# ---- random bills ----

# What a double reads as.
sub shortest { my ($double) = @_; foreach (15, 16) { my $text = sprintf "%.${_}g", $double; return $text if $text == $double } return sprintf '%.17g', $double }

# At most 15 digits or a double's own, so that a double keeps them.  Some are used again, so that remainders are equal.
sub random_cost
{
	my ($bill) = @_;
	return $bill->{cost} if defined $bill->{cost} && chance(0.3);
	my $decimals = any(0 .. 11);
	my $cost = any(
		sprintf('%.*f', $decimals, rand(any(0.1, 10, 10**min(6, 15 - $decimals)))),
		sprintf('%d.%02d5', rand 9, rand 99), shortest(1 + rand 9), '0.00000000001', '0.00333333333', '0');
	return $bill->{cost} = $cost =~ /[1-9]/ && chance(0.2) ? "-$cost" : $cost;
}

sub random_line
{
	my ($bill) = @_;
	return foreign_line($bill) if chance(0.03);
	my $account = any(@{ $bill->{accounts} });
	my $payer = !$ENV{NO_CROSS} && chance(0.05) ? any(@{ $bill->{payers} }) : $account->{payer};
	my $month = any(@{ $bill->{months} });
	my $is_correction = $bill->{has_corrections} && chance(0.15);
	my $category = any(('Usage') x 5, 'Purchase', 'Tax', 'Adjustment', 'Credit', 'Credit');
	my $line = {
		payer => $payer,
		payer_name => "Payer $payer",
		account => $account->{account_id} eq $payer && chance(0.7) ? undef : $account->{account_id},
		account_name => $account->{name},
		bill => $month,
		month => $is_correction ? any(grep { $_ lt $month } @months) : $month,
		cost => random_cost($bill),
		currency => $account->{currency},
		category => $category,
		class => any(undef, undef, 'Correction'),
		service => any(@services),
		description => any("Something, 5% of it"),
		provider => any(@agreements),
		publisher => any(@publishers),
		invoice => any('INV-1', 'INV-2', $bill->{is_final} ? () : undef),
	};
	return $line unless $category eq 'Credit';
	my $owner = any(undef, "9$bill->{seed}", map { $_->{account_id} } @{ $bill->{accounts} });
	$line->{description} = any('AWS Activate', "Migration, 'phase 2'") . (defined $owner ? ", credit from account: $owner" : '');
	$line->{cost} = "-$line->{cost}" if $line->{cost} =~ /^[\d.]*[1-9]/ && chance(0.8);
	return $line;
}

sub foreign_line
{
	my ($bill) = @_;
	my $month = any(@{ $bill->{months} });
	return { payer => 'elsewhere', account => '/subscriptions/1', bill => $month, month => $month, cost => random_cost($bill),
		currency => 'GBP', category => any('Usage', 'Credit'), service => 'Storage', description => 'something',
		provider => any('Microsoft', 'AWSome Ltd.', 'Amazonia Oy'), publisher => 'Microsoft' };
}

# What the import of the bill must give, computed once.
sub charges { my ($bill) = @_; return @{ $bill->{charges} //= [ utilization_of(@{ $bill->{lines} }) ] } }
sub credits { my ($bill) = @_; return @{ $bill->{credits} //= [ credits_of(@{ $bill->{lines} }) ] } }
sub results { my ($bill) = @_; return @{ $bill->{results} //= [ results_of(@{ $bill->{lines} }) ] } }
sub of_lines { my ($bill, @lines) = @_; return { %$bill, lines => \@lines, charges => undef, credits => undef, results => undef } }

sub random_bill
{
	my ($seed) = @_;
	srand $seed;
	my $id = sprintf '%05d', $seed;
	my $bill = {
		seed => $seed,
		customers => { USD => "C$id", EUR => "E$id" },
		payers => [ map { any('', '0') . "7$id$_" } 1 .. any(1, 2, 3) ],
		months => any([ $months[2] ], [ @months[ 2, 3 ] ]),
		without => any('', '', 'bill', 'usage'),
		is_final => chance(0.5),
	};
	$bill->{has_corrections} = !$bill->{without};
	$bill->{accounts} = [ (map { { account_id => $_, payer => $_, currency => 'USD', name => "Payer $_" } } @{ $bill->{payers} }),
		map { { account_id => "$_$id", payer => any(@{ $bill->{payers} }), currency => any('USD', 'USD', $ENV{NO_EUR} ? 'USD' : 'EUR'), name => "Account $_" } }
		  ('1', '01', '001', '2', 'A_')[ 0 .. any(1 .. 4) ] ];
	$_->{is_known} = $_->{currency} eq 'EUR' || chance(0.8) foreach @{ $bill->{accounts} };
	$bill->{lines} = [ map { random_line($bill) } 1 .. 20 * @{ $bill->{payers} } * @{ $bill->{months} } ];
	return $bill;
}

# Lines changed, dropped and added, and sometimes all of an account dropped; but every bill keeps a line,
# and those of closed months all of them.
sub restated
{
	my ($bill) = @_;
	my $dropped = chance(0.3) ? any(@{ $bill->{accounts} })->{account_id} : '';
	my $closed = $bill->{closed} // '';
	my (%kept, @lines);
	for my $line (shuffle @{ $bill->{lines} })
	{
		my $must_stay = $line->{bill} le $closed || is_aws($line) && !$kept{ bill_of($line) }++;
		next if !$must_stay && (chance(0.1) || ($line->{account} // '') eq $dropped);
		my $other = random_line($bill);
		push @lines, $line->{bill} le $closed || chance(0.8) || !is_aws($line) || !is_aws($other) ? $line
		  : { %$line, cost => $other->{cost}, chance(0.3) ? (service => $other->{service}) : () };
	}
	my @new = grep { $_->{bill} gt $closed && $kept{ bill_of($_) } } map { random_line($bill) } 1 .. any(0, 3, 10);
	return of_lines($bill, @lines, @new);
}

# ---- scripts: statements, each with the rows that it must return ----

sub run_statement { my ($script, $sql) = @_; push @$script, { sql => $sql }; return }
sub expect { my ($script, $name, $sql, @rows) = @_; push @$script, { name => $name, sql => $sql, expected => join "\n", sort @rows }; return }
sub expect_none { my ($script, $name, $sql) = @_; return expect($script, $name, $sql) }
sub row { return join '|', map { $_ // '' } @_ }

# The script as psql runs it, and the steps that turned out wrong, as [name, expected, got].
sub wrong_steps
{
	my ($database, $script) = @_;
	my $sql = join '', "SET search_path = creditmemo;\nSET client_min_messages = warning;\n",
	  map { "\\echo STEP $_\n$script->[$_]{sql};\n" } 0 .. $#$script;
	my $output = eval { psql($database, $sql) } // $@;
	utf8::decode($output);
	$output .= "\n";
	my %got = $output =~ /^STEP (\d+)\n(.*?)(?=^STEP|\z)/msg;
	my ($last) = sort { $b <=> $a } keys %got;
	my @wrong;
	for my $n (0 .. $last // -1)
	{
		my ($step, $rows) = ($script->[$n], join "\n", sort split /\n/, $got{$n});
		push @wrong, [ $step->{name}, $step->{expected}, $rows ] if defined $step->{name} && $rows ne $step->{expected};
	}
	push @wrong, [ 'the end', '', $output =~ s/.*^STEP/STEP/msr ] if ($last // -1) != $#$script || $output =~ /ERROR/;
	return ($sql, @wrong);
}

sub ours { my ($bill) = @_; return 'account_id IN (SELECT account_id FROM member_account WHERE customer_id IN (' . list(values %{ $bill->{customers} }) . '))' }
sub our_payers { my ($bill) = @_; return 'payer_account_id IN (' . list(@{ $bill->{payers} }) . ')' }

sub expect_sound { my ($script, $when) = @_; return expect_none($script, "$when: verify()", 'SELECT * FROM verify()') }

sub expect_credits
{
	my ($script, $when, $bill) = @_;
	expect($script, "$when: provider credits", q(SELECT account_id, payer_account_id, owner_account_id, provider_credit_id, to_char(service_period, 'YYYY-MM-DD'),
		service, amount, description FROM provider_credit WHERE ) . ours($bill),
		map { row(@$_{qw(account_id payer_account_id owner_account_id provider_credit_id service_period service)}, money($_->{amount}), $_->{description}) }
		  credits($bill));
}

sub expect_lines
{
	my ($script, $when, $bill) = @_;
	expect($script, "$when: lines", q(SELECT account_id, source_id, to_char(service_period, 'YYYY-MM-DD'), service, description, amount, creditable FROM utilization WHERE )
		. ours($bill), map { row(@$_{qw(account_id source_id service_period service description)}, money($_->{amount}), $_->{creditable}) } charges($bill));
	return expect_credits($script, $when, $bill);
}

# Over invoices and closed months: what there is of each line of the bill, whatever lines it is on.
sub expect_sums
{
	my ($script, $when, $bill) = @_;
	my ($ours, %totals) = (ours($bill));
	push @{ $totals{ row($_->{account_id}, @$_{qw(payer_account_id bill)}, substr $_->{service_period}, 0, 7) } }, $_->{amount} foreach charges($bill);
	expect($script, "$when: totals", qq(SELECT account_id, split_part(source_id, ':', 2), split_part(source_id, ':', 3), split_part(source_id, ':', 5), sum(amount)
		FROM utilization WHERE $ours GROUP BY 1, 2, 3, 4 HAVING sum(amount) <> 0),
		map { row($_, money(total(@{ $totals{$_} }))) } grep { total(@{ $totals{$_} }) != 0 } keys %totals);
	# where rounding only moved a cent between invoiced lines, it was left there
	expect_none($script, "$when: sums that are more than a cent away", sprintf <<'SQL', $ours, join ', ', "('', '', 0)", map { '(' . list(@$_{qw(account_id source_id)}) . ', ' . money($_->{amount}) . ')' } charges($bill));
SELECT account_id, source_id, u.amount, b.amount
FROM (SELECT account_id, regexp_replace(source_id, '^(aws:[^:]*:[^:]*):\d+:', '\1:1:') AS source_id, sum(amount) AS amount FROM utilization WHERE %s GROUP BY 1, 2) u
FULL JOIN (VALUES %s) b (account_id, source_id, amount) USING (account_id, source_id)
WHERE abs(coalesce(u.amount, 0) - coalesce(b.amount, 0)) > 0.01
SQL
	return expect_credits($script, $when, $bill);
}

# What import does with the lines of the bill after those of another, over open billings.
sub counts
{
	my ($old, $new) = @_;
	my %was = map { ("$_->{account_id} $_->{source_id}" => $_) } charges($old);
	my %counts = map { $_->{bill} => { inserted => 0, restated => 0, withdrawn => 0, unchanged => 0 } } results($new);
	for my $line (charges($new))
	{
		my $was = delete $was{"$line->{account_id} $line->{source_id}"};
		my $is_unchanged = $was && $was->{amount} == $line->{amount};
		$counts{ bill_of($line) }{ $is_unchanged ? 'unchanged' : $was ? 'restated' : 'inserted' }++;
	}
	$counts{ bill_of($_) }{withdrawn}++ foreach values %was;
	return \%counts;
}

sub call { my ($set, $table, $customer_id) = @_; return sprintf q(%s('public.%s', %s)), $set =~ /CUR/ ? 'import_cur' : 'import_focus', $table, literal($customer_id) }
sub unknown { my ($bill) = @_; my %is_used = map { ($_->{account} // $_->{payer}) => 1 } grep { is_aws($_) } @{ $bill->{lines} }; return grep { !$_->{is_known} && $is_used{ $_->{account_id} } } @{ $bill->{accounts} } }

# That the import of the bill raises this error, which says something that matches.
sub refuse
{
	my ($script, $bill, $set, $sqlstate, $pattern) = @_;
	my $table = "bill_$bill->{seed}_" . @$script;
	run_statement($script, staged($table, $set, $bill->{lines}, without => $bill->{without}));
	return run_statement($script, sprintf 'SELECT public.must_fail(%s, %s, %s) \g /dev/null',
		literal('SELECT count(*) FROM ' . call($set, $table)), literal($sqlstate), literal($pattern));
}

# Stages the bill in the columns of the set and imports it.  $counts: what it does with the lines, where that
# is said.
sub import_bill
{
	my ($script, $when, $bill, $set, $counts) = @_;
	my $table = "bill_$bill->{seed}_" . @$script;
	my @figures = ('lines_read', $set =~ /CUR/ ? 'late' : 'corrections_read', qw(credits_read exact_total rounded_total rounding_difference exact_credit rounded_credit));
	my @counted = $counts ? qw(inserted restated withdrawn unchanged) : ();
	run_statement($script, staged($table, $set, $bill->{lines}, without => $bill->{without}));
	expect($script, "$when: result", sprintf(q(SELECT payer_account_id, to_char(billing_period, 'YYYY-MM'), currency, lines_read, corrections_read, credits_read,
		trim_scale(exact_total), round(rounded_total, 2), trim_scale(rounding_difference), trim_scale(exact_credit), round(rounded_credit, 2), is_final %s FROM %s),
		join('', map { ", lines_$_" } @counted), call($set, $table, unknown($bill) ? $bill->{customers}{USD} : undef)),
		map { row($_->{bill}, @$_{@figures}, $set eq 'FOCUS 1.0' ? 'f' : $_->{is_final}, @counted ? @{ $counts->{ $_->{bill} } }{@counted} : ()) } results($bill));
	return $table;
}

# Imports the bill again; not a row may be another.
sub import_again
{
	my ($script, $when, $bill, $set, $is_open) = @_;
	run_statement($script, 'CREATE TEMP TABLE before AS SELECT * FROM public.books()');
	import_bill($script, $when, $bill, $set, $is_open ? counts($bill, $bill) : undef);
	expect_none($script, "$when: changes nothing", '(SELECT * FROM before EXCEPT SELECT * FROM public.books()) UNION ALL (SELECT * FROM public.books() EXCEPT SELECT * FROM before)');
	run_statement($script, 'DROP TABLE before');
}

sub expect_reconciliation
{
	my ($script, $when, $bill) = @_;
	my ($months, $payers) = (reconciliation_of(@{ $bill->{lines} }), our_payers($bill));
	expect($script, "$when: reconciliation", qq(SELECT payer_account_id, account_id, to_char(service_period, 'YYYY-MM-DD'), aws_applied, aws_owned, spill_in, spill_out
		FROM credit_reconciliation WHERE $payers AND (aws_applied <> 0 OR aws_owned <> 0 OR spill_in <> 0 OR spill_out <> 0)),
		map { my $month = $months->{$_}; row($_, map { money($_) } @$month{qw(applied owned spill_in spill_out)}) }
		grep { my $month = $months->{$_}; grep { $_ != 0 } values %$month } keys %$months);
	expect_none($script, "$when: reconciliation, figures that contradict each other", <<"SQL");
WITH r AS (SELECT * FROM credit_reconciliation WHERE $payers),
	by_payer AS (SELECT payer_account_id, service_period, sum(aws_applied) AS applied, sum(spill_in + spill_out) AS spill FROM r GROUP BY 1, 2),
	credits AS (SELECT payer_account_id, service_period, -sum(amount) AS applied FROM provider_credit WHERE $payers GROUP BY 1, 2),
	by_account AS (SELECT account_id, service_period, sum(memo_applied) AS applied FROM r GROUP BY 1, 2),
	memos AS (SELECT account_id, service_period, -sum(amount) AS applied FROM memo_entry WHERE entry_type IN ('apply', 'release') AND @{[ ours($bill) ]} GROUP BY 1, 2)
SELECT 'spill', payer_account_id FROM by_payer WHERE spill <> 0
UNION ALL SELECT 'total', payer_account_id FROM by_payer FULL JOIN credits c USING (payer_account_id, service_period)
	WHERE coalesce(by_payer.applied, 0) <> coalesce(c.applied, 0)
UNION ALL SELECT 'memos', account_id FROM by_account FULL JOIN memos m USING (account_id, service_period)
	WHERE coalesce(by_account.applied, 0) <> coalesce(m.applied, 0)
UNION ALL SELECT 'parts', account_id FROM r WHERE aws_applied <> aws_owned + spill_in + spill_out
UNION ALL SELECT 'difference', account_id FROM r WHERE difference <> aws_owned - memo_applied
UNION ALL SELECT 'to date', account_id
	FROM (SELECT account_id, difference_to_date, sum(difference) OVER (PARTITION BY account_id ORDER BY service_period, payer_account_id) AS running FROM r) r
	WHERE difference_to_date <> running
SQL
}

# ---- what happens to a bill ----

sub register
{
	my ($script, $bill, @accounts) = @_;
	return unless @accounts;
	run_statement($script, 'INSERT INTO payer_account VALUES ' . join(', ', map { '(' . list($_, "Payer $_") . ')' } uniq map { $_->{payer} } @accounts) . ' ON CONFLICT DO NOTHING');
	run_statement($script, 'INSERT INTO member_account (account_id, payer_account_id, customer_id, name) VALUES '
		. join ', ', map { '(' . list(@$_{qw(account_id payer)}, $bill->{customers}{ $_->{currency} }, $_->{name}) . ')' } @accounts);
	return;
}

sub issue_memos
{
	my ($script, $bill) = @_;
	my $account_id = any(@{ $bill->{accounts} })->{account_id};
	my $services = any(undef, undef, texts(grep { defined } (shuffle @services)[ 0, 1, 2 ]));
	run_statement($script, sprintf(q(INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account WHERE %s ON CONFLICT DO NOTHING), ours($bill)));
	run_statement($script, sprintf(q(INSERT INTO credit_memo (account_id, amount, redeemed_on, expires_on, services)
		SELECT account_id, %d.%02d, '2023-11-05', %s, %s FROM member_account WHERE account_id IN (%s)),
		rand any(5, 5000), 1 + rand 99, any('NULL', q('2024-12-31')), $services // 'NULL',
		list(map { $_->{account_id} } grep { $_->{account_id} eq $account_id || chance(0.3) } @{ $bill->{accounts} })));
	return;
}

sub invoice
{
	my ($script, $bill, $through, @accounts) = @_;
	return run_statement($script, sprintf q(SELECT public.invoice(%s, '%s-01') \g /dev/null), texts(map { $_->{account_id} } @accounts), $through);
}

# Most of the time only the months before the bills; of the first of two bills, too.
sub close_months
{
	my ($script, $bill) = @_;
	my $through = maxstr($bill->{closed} // '', @{ $bill->{months} } == 2 && chance(0.3) ? $months[2] : $months[1]);
	invoice($script, $bill, $through, @{ $bill->{accounts} });
	run_statement($script, sprintf q(SELECT close_period('%s-01', payer_account_id) FROM payer_account WHERE %s \g /dev/null), $through, our_payers($bill));
	return { %$bill, closed => $through };
}

# The lines, with a charge of a closed bill changed.
sub changed_where_closed
{
	my ($bill) = @_;
	my ($changed, @others) = sort { is_changeable($bill, $b) - is_changeable($bill, $a) } @{ $bill->{lines} };
	return ({ %$changed, cost => $changed->{cost} + 10 }, @others);
}

sub is_changeable { my ($bill, $line) = @_; return is_aws($line) && $line->{category} ne 'Credit' && $line->{bill} le $bill->{closed} ? 1 : 0 }

sub story
{
	my ($bill) = @_;
	my @sets = column_sets();
	my @accounts = @{ $bill->{accounts} };
	my $nothing = of_lines($bill);
	my @script;
	run_statement(\@script, sprintf q(SET TimeZone = '%s'), any('UTC', 'America/New_York', 'Asia/Tokyo'));
	run_statement(\@script, sprintf q(SET DateStyle = '%s'), any('ISO', 'German', 'SQL, DMY'));
	run_statement(\@script, sprintf 'SET extra_float_digits = %d', any(1, 0, -5));
	run_statement(\@script, 'INSERT INTO customer (customer_id, name, currency) VALUES ' . join ', ',
		map { '(' . list($bill->{customers}{$_}, 'Customer', $_) . ')' } sort keys %{ $bill->{customers} });
	register(\@script, $bill, grep { $_->{is_known} } @accounts);
	issue_memos(\@script, $bill) if chance(0.7);

	refuse(\@script, $bill, any(@sets), '23503', join '|', map { $_->{account_id} } unknown($bill)) if unknown($bill);

	# each column set, into the empty books
	for my $set (@sets)
	{
		run_statement(\@script, 'BEGIN');
		import_bill(\@script, $set, $bill, $set, counts($nothing, $bill));
		expect_lines(\@script, $set, $bill);
		expect(\@script, "$set: names", 'SELECT account_id, name FROM member_account WHERE name IS NOT NULL AND ' . ours($bill),
			map { row(@$_{qw(account_id name)}) } grep { defined $_->{name} } (grep { $_->{is_known} } @accounts), $set eq 'CUR' ? () : unknown($bill));
		run_statement(\@script, 'ROLLBACK');
	}
	import_bill(\@script, 'first', $bill, any(@sets), counts($nothing, $bill));
	expect_lines(\@script, 'first', $bill);
	expect_sound(\@script, 'first');
	import_again(\@script, 'again', $bill, any(@sets), 1);
	issue_memos(\@script, $bill);
	expect_reconciliation(\@script, 'first', $bill);

	# restated over open billings
	my $second = restated($bill);
	my $counts = counts($bill, $second);
	import_bill(\@script, 'restated', $second, any(@sets), $counts);
	expect_lines(\@script, 'restated', $second);
	expect_sound(\@script, 'restated');
	import_again(\@script, 'restated, again', $second, any(@sets), 1);
	$bill = $second;

	# over invoices and closed months, and then over invoices with differences
	for my $round ('invoiced', 'invoiced twice')
	{
		invoice(\@script, $bill, any(@months), grep { chance(0.6) } @accounts);
		$bill = close_months(\@script, $bill) if chance(0.3);
		run_statement(\@script, 'CREATE TEMP TABLE fixed AS SELECT u.* FROM utilization u JOIN billing b USING (account_id, service_period, billing_no) WHERE b.invoice_number IS NOT NULL');
		$bill = restated($bill);
		import_bill(\@script, $round, $bill, any(@sets));
		expect_sums(\@script, $round, $bill);
		expect_none(\@script, "$round: lines that were invoiced", 'SELECT * FROM fixed EXCEPT SELECT * FROM utilization');
		expect_sound(\@script, $round);
		import_again(\@script, "$round, again", $bill, any(@sets));
		issue_memos(\@script, $bill) if chance(0.5);
		expect_reconciliation(\@script, $round, $bill);
		run_statement(\@script, 'DROP TABLE fixed');
	}
	refuse(\@script, of_lines($bill, changed_where_closed($bill)), any(@sets), '55000', 'closed') if ($bill->{closed} // '') ge $bill->{months}[0];
	run_statement(\@script, sprintf q(SELECT public.void_newest(%s) \g /dev/null), texts(values %{ $bill->{customers} }));
	import_bill(\@script, 'an invoice voided', $bill, any(@sets));
	expect_sums(\@script, 'an invoice voided', $bill);
	import_again(\@script, 'an invoice voided, again', $bill, any(@sets));
	$bill = restated($bill);
	import_bill(\@script, 'restated after that', $bill, any(@sets));
	expect_sums(\@script, 'restated after that', $bill);
	expect_sound(\@script, 'restated after that');
	return \@script;
}

sub new_books
{
	my $database = new_database('creditmemo_import');
	psql($database, <<'SQL');
SET search_path = creditmemo;
CREATE SEQUENCE public.invoice_numbers;

-- every row of every table, with the transaction that wrote it
CREATE FUNCTION public.books() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	books regclass;
BEGIN
	FOR books IN SELECT oid FROM pg_class WHERE relnamespace = 'creditmemo'::regnamespace AND relkind = 'r' LOOP
		RETURN QUERY EXECUTE format('SELECT %L || t.xmin || t::text FROM %s t', books, books);
	END LOOP;
END
$$;

-- invoices what is open of the accounts
CREATE FUNCTION public.invoice(accounts text[], through date) RETURNS void LANGUAGE plpgsql SET search_path = creditmemo AS $$
DECLARE
	month record;
BEGIN
	FOR month IN
		SELECT a.customer_id, b.service_period, array_agg(b.account_id) AS accounts
		FROM billing b JOIN member_account a USING (account_id)
		WHERE b.account_id = ANY (invoice.accounts) AND b.service_period <= through AND b.invoice_number IS NULL
			AND EXISTS (SELECT FROM utilization u WHERE (u.account_id, u.service_period, u.billing_no) = (b.account_id, b.service_period, b.billing_no))
		GROUP BY 1, 2
	LOOP
		PERFORM issue_invoice('SI' || nextval('public.invoice_numbers'), month.customer_id, month.service_period, '2024-06-01', month.accounts);
	END LOOP;
END
$$;

-- the newest invoice of the customers, unless all are of closed months
CREATE FUNCTION public.void_newest(customers text[]) RETURNS void LANGUAGE sql SET search_path = creditmemo AS $$
	SELECT void_invoice(invoice_number, 'wrong')
	FROM invoice i
	WHERE customer_id = ANY (customers) AND voided_at IS NULL AND NOT EXISTS (
		SELECT FROM billing b JOIN member_account a USING (account_id)
		WHERE b.invoice_number = i.invoice_number AND a.closed_through >= b.service_period)
	ORDER BY recorded_at DESC
	LIMIT 1
$$;

-- what somebody else did first is no failure here
CREATE FUNCTION public.attempt(statement text) RETURNS void LANGUAGE plpgsql SET search_path = creditmemo AS $$
BEGIN
	EXECUTE statement;
EXCEPTION WHEN object_not_in_prerequisite_state OR no_data_found THEN
	NULL;
END
$$;

-- must_fail(statement, sqlstate, pattern): a statement that must raise an error that matches both
CREATE FUNCTION public.must_fail(statement text, expected text, pattern text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RAISE 'no error: %', statement;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	IF SQLSTATE !~ expected OR concat_ws(' ', SQLERRM, detail, hint) !~ pattern THEN
		RAISE;
	END IF;
END
$$;
SQL
	return $database;
}

sub show_wrong
{
	my ($seed, $sql, @wrong) = @_;
	my $file = "$directory/import_$seed.sql";
	open my $script, '>:utf8', $file or die "$file: $!";
	print $script $sql;
	close $script;
	diag("again with: FIRST_SEED=$seed BILLS=1 test/with-server prove test/t/import.t; the script: $file");
	for my $step (@wrong)
	{
		my ($name, $expected, $got) = @$step;
		my %expected = map { $_ => 1 } split /\n/, $expected;
		my %got = map { $_ => 1 } split /\n/, $got;
		diag("seed $seed, ", $name // 'a statement');
		diag("  expected: $_") foreach sort grep { !$got{$_} } keys %expected;
		diag("  got:      $_") foreach sort grep { !$expected{$_} } keys %got;
	}
}

for (my $seed = $first_seed; $seed < $first_seed + $bills; $seed += $batch)
{
	my $database = new_books();
	for my $each ($seed .. $seed + $batch - 1)
	{
		last if $each >= $first_seed + $bills;
		my $script = story(random_bill($each));
		my ($sql, @wrong) = wrong_steps($database, $script);
		ok(!@wrong, "bill of seed $each: " . grep({ defined $_->{name} } @$script) . ' checks') or show_wrong($each, $sql, @wrong);
	}
	books_are_sound($database);
	drop_databases();
}

# ---- mistakes, each in a copy of a good bill ----

my $good = <<'SQL';
CREATE TABLE public.good ("BillingAccountId" text, "SubAccountId" text, "BilledCost" text, "BillingCurrency" text, "ChargeCategory" text,
	"ServiceName" text, "ChargeDescription" text, "ChargePeriodStart" text, "BillingPeriodStart" text, "ProviderName" text);
INSERT INTO public.good VALUES
	('P1', '0001', '1.005', 'USD', 'Usage', 'Amazon EC2', 'Hours', '2024-01-05 00:00:00', '2024-01-01 00:00:00', 'AWS'),
	('P1', '0002', '2.005', 'USD', 'Tax', NULL, 'VAT', '2024-01-06 00:00:00', '2024-01-01 00:00:00', 'AWS'),
	('P1', '0001', '-0.50', 'USD', 'Credit', 'Amazon EC2', 'Promotion', '2024-01-07 00:00:00', '2024-01-01 00:00:00', 'AWS');
INSERT INTO creditmemo.customer VALUES ('C1', 'Customer');
INSERT INTO creditmemo.payer_account VALUES ('P1');
INSERT INTO creditmemo.member_account VALUES ('0001', 'P1', 'C1'), ('0002', 'P1', 'C1');
SQL
my $with = 'UPDATE wrong SET %s WHERE "SubAccountId" = \'0002\'';
my @mistakes = (
	[ 'two columns missing', 'ALTER TABLE wrong DROP "BilledCost", DROP "ServiceName"', '42703', 'BilledCost.*ServiceName|ServiceName.*BilledCost' ],
	[ 'no column for time', 'ALTER TABLE wrong DROP "ChargePeriodStart", DROP "BillingPeriodStart"', '42703', 'PeriodStart' ],
	[ 'a column twice', 'ALTER TABLE wrong ADD billed_cost text', '42702', 'billed_?cost' ],
	[ 'text for a cost', sprintf($with, q("BilledCost" = '12,50')), '22P02', '12,50' ],
	[ 'a month that is not ISO', sprintf($with, q("ChargePeriodStart" = '01/06/2024')), '22P02|2200[78]', '01/06/2' ],
	[ 'a month that there is not', sprintf($with, q("BillingPeriodStart" = '2024-13-01')), '22P02|2200[78]', '2024-13' ],
	[ 'NaN', sprintf($with, q("BilledCost" = 'NaN')), '23514', 'NaN' ],
	[ 'NaN in a double', 'ALTER TABLE wrong ALTER "BilledCost" TYPE double precision USING \'NaN\'', '23514', 'NaN' ],
	[ 'an infinite cost', sprintf($with, q("BilledCost" = '-Infinity')), '23514', 'nfinit' ],
	[ 'another currency', sprintf($with, q("BillingCurrency" = 'EUR')), '22023', '0002' ],
	[ 'an unknown account', sprintf($with, q("SubAccountId" = '0003')), '23503', '0003' ],
	[ 'an unknown account of a credit', q(UPDATE wrong SET "SubAccountId" = '0003' WHERE "ChargeCategory" = 'Credit'), '23503', '0003' ],
	[ 'an unknown payer', sprintf($with, q("BillingAccountId" = 'P2')), '23503', 'P2' ],
	[ 'no sub-account, and the payer is none', sprintf($with, q("SubAccountId" = '')), '23503', 'P1' ],
	[ 'an unknown customer', '', '23503', 'nobody', q(import_focus('public.wrong', 'nobody')) ],
	[ 'no line of AWS', q(UPDATE wrong SET "ProviderName" = 'Microsoft'), 'P0002', '.' ],
	[ 'no line', 'DELETE FROM wrong', 'P0002', '.' ],
	[ 'no table', '', '22004', '.', 'import_focus(NULL)' ],
	[ 'FOCUS for CUR', '', '42703', '(?i)line_?item_?usage_?account_?id', q(import_cur('public.wrong')) ],
	(map { [ "no $_", sprintf($with, qq("$_" = NULL)), '23502', '.' ] } qw(BilledCost BillingCurrency ChargeCategory BillingAccountId)),
	[ 'no time', sprintf($with, '"ChargePeriodStart" = NULL, "BillingPeriodStart" = NULL'), '23502', '.' ]);

my $database = new_books();
psql($database, $good);
my $books = psql($database, 'SELECT * FROM public.books() ORDER BY 1');
for my $mistake (@mistakes)
{
	my ($name, $change, $sqlstate, $pattern, $call) = @$mistake;
	my $error = eval { psql($database, <<"SQL") } // $@;
SET search_path = creditmemo, public;
SET client_min_messages = warning;
CREATE TABLE public.wrong AS TABLE public.good;
$change;
SELECT must_fail('SELECT * FROM ' || ${\literal($call // q(import_focus('public.wrong')))}, '$sqlstate', '$pattern');
SQL
	is($error, '', "refused: $name");
	psql($database, 'DROP TABLE public.wrong');
}
is(psql($database, 'SELECT * FROM public.books() ORDER BY 1'), $books, 'none of them changed anything');
is(psql($database, q(SET client_min_messages = warning; SELECT lines_read, lines_inserted, exact_total FROM creditmemo.import_focus('public.good'))),
	'3|2|3.01', 'the good bill is imported');

# ---- several sessions at once: a bill and what it is restated to, in any order ----

sub at_once
{
	my ($name, $clients, $times, %statements) = @_;
	my @files;
	for my $statement (sort keys %statements)
	{
		open my $file, '>', "$directory/$statement.sql" or die;
		print $file "$statements{$statement};\n";
		close $file;
		push @files, '-f', "$directory/$statement.sql";
	}
	local $ENV{PGOPTIONS} = '-c client_min_messages=warning';
	my $output = run_ok($name, 'pgbench', '-n', '-c', $clients, '-t', $times, @files, $database);
	unlike($output, qr/failed transactions: [1-9]/, 'none of them failed');
}

# That the books are those of one of the bills.
sub expect_one_of
{
	my ($name, $expectation, @bills) = @_;
	my @differences;
	for my $bill (@bills)
	{
		$expectation->(my $script = [], $name, $bill);
		my ($sql, @wrong) = wrong_steps($database, $script);
		push @differences, \@wrong;
	}
	ok(scalar(grep { !@$_ } @differences), $name) or show_wrong($first_seed, '', @{ $differences[0] });
}

my $bill;
for (my $seed = $first_seed; !$bill || $bill->{without} || unknown($bill) < 2; $seed++) { $bill = random_bill($seed) }
my $other = restated($bill);
my $customers = list(values %{ $bill->{customers} });
psql($database, join ";\n", "SET search_path = creditmemo", 'DROP TABLE public.good',
	(map { "INSERT INTO customer (customer_id, name, currency) VALUES (" . list($bill->{customers}{$_}, 'Customer', $_) . ')' } qw(USD EUR)),
	do { register(my $script = [], $bill, grep { $_->{is_known} } @{ $bill->{accounts} }); map { $_->{sql} } @$script },
	staged('bill', 'FOCUS 1.2', $bill->{lines}), staged('other', 'CUR', $other->{lines}));
my %import = (
	bill => "SELECT count(*) FROM creditmemo.import_focus('public.bill', '$bill->{customers}{USD}')",
	other => "SELECT count(*) FROM creditmemo.import_cur('public.other', '$bill->{customers}{USD}')");

at_once('a bill by four sessions, with accounts that are not known yet', 4, 1, bill => $import{bill});
expect_one_of('each line is there once', \&expect_lines, $bill);
psql($database, "INSERT INTO creditmemo.po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM creditmemo.member_account");
my $memo = 'INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on) SELECT account_id, 3, \'2023-11-01\' FROM creditmemo.member_account WHERE random() < 0.3';
at_once('restated back and forth', 4, 8, %import, memo => $memo);
expect_one_of('the lines are those of one of them', \&expect_lines, $bill, $other);
psql($database, "SELECT public.invoice(array_agg(account_id), '$months[2]-01') FROM creditmemo.member_account WHERE account_id LIKE '%1%'");
at_once('restated back and forth over invoices that come and go', 4, 12, %import,
	invoice => "SELECT public.attempt(\$\$ SELECT issue_invoice('SI' || nextval('public.invoice_numbers'), '$bill->{customers}{USD}', '$months[2]-01') \$\$)",
	void => "SELECT public.attempt(\$\$ SELECT public.void_newest(ARRAY[$customers]) \$\$)");
expect_one_of('the sums are those of one of them', \&expect_sums, $bill, $other);
# each charges the account that the other one's credit went to
psql($database, "INSERT INTO creditmemo.payer_account VALUES ('P8')");
my %crossing = (P1 => [ '0001', '0002' ], P8 => [ '0002', '0001' ]);
psql($database, sprintf <<'SQL', $_, $_, @{ $crossing{$_} }) foreach keys %crossing;
CREATE VIEW public.crossing_%s AS
	SELECT '%s' AS "BillingAccountId", account AS "SubAccountId", (random() * 100 - 20)::numeric * sign AS "BilledCost", 'USD' AS "BillingCurrency",
		category AS "ChargeCategory", 'EC2' AS "ServiceName", random()::text AS "ChargeDescription", date '2024-03-01' AS "ChargePeriodStart"
	FROM (VALUES ('%s', 1, 'Usage'), ('%s', -1, 'Credit')) line (account, sign, category)
SQL
at_once('two payers with accounts in common', 4, 60, map { $_ => "SELECT count(*) FROM creditmemo.import_focus('public.crossing_$_')" } keys %crossing);
is(psql($database, 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'), 0, 'no deadlock');
books_are_sound($database);

done_testing();
