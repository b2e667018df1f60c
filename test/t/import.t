# Random bills imported, compared with what Perl computes from their lines: utilization, provider
# credits, what import says it did, the reconciliation.  Each in all column sets, again, restated over open
# billings, over invoices and closed months, and with mistakes.  At the end several sessions import at once.
#
# BILLS says how many (30), FIRST_SEED where to begin; a failure prints its seed.

use strict;
use warnings;
use utf8;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Bill qw(is_aws bill_of reconciliation_of total money);
use File::Temp 'tempdir';
use List::Util qw(first maxstr min shuffle uniq);
use Psql qw(new_database drop_databases psql run_ok books_are_sound);
use RandomBill qw(any chance random_bill restated of_lines charges credits results unknown_accounts @months @services);
use Staged qw(literal column_sets staged);
use Test::More;

my $bills = $ENV{BILLS} // 30;
my $first_seed = $ENV{FIRST_SEED} // 1;
my $batch = 10;    # bills a database
my $directory = tempdir(CLEANUP => 1);

sub list { return join ', ', map { literal($_) } @_ }
sub texts { return 'ARRAY[' . list(@_) . ']::text[]' }
sub rows { return join ', ', map { '(' . list(@$_) . ')' } @_ }

# ---- stories: what happens to a bill, in steps, and the rows that a step must return ----

sub new_story { my ($bill) = @_; return { bill => $bill, steps => [] } }
sub run { my ($story, $sql) = @_; push @{ $story->{steps} }, { sql => $sql }; return }
sub expect
{
	my ($story, $name, $sql, @rows) = @_;
	my $expected = join "\n", sort map { join '|', map { $_ // '' } @$_ } @rows;
	push @{ $story->{steps} }, { sql => $sql, name => $name, expected => $expected };
	return;
}

# Whatever psql prints of each step.
sub outcome
{
	my ($database, $story) = @_;
	my @steps = @{ $story->{steps} };
	my $script = join '', "SET search_path = creditmemo;\nSET client_min_messages = error;\n",
	  map { "\\echo STEP $_\n$steps[$_]{sql};\n" } 0 .. $#steps;
	my $output = eval { psql($database, $script) } // $@;
	utf8::decode($output);
	return "$output\n" =~ /^STEP \d+\n(.*?)(?=^STEP \d|\z)/msg;
}

# The steps that did something else, with what they did.
sub wrong_steps
{
	my ($database, $story) = @_;
	my @steps = @{ $story->{steps} };
	my @outcome = outcome($database, $story);
	my @wrong;
	for my $n (0 .. $#outcome)
	{
		my $got = join "\n", sort split /\n/, $outcome[$n];
		my $is_last_of_broken = $n == $#outcome && ($n < $#steps || $got =~ /ERROR/);
		push @wrong, { %{ $steps[$n] }, got => $got } if $is_last_of_broken || defined $steps[$n]{name} && $got ne $steps[$n]{expected};
	}
	return @wrong;
}

sub show
{
	my ($seed, @wrong) = @_;
	binmode Test::More->builder->failure_output, ':utf8';
	diag("again with: FIRST_SEED=$seed BILLS=1 test/with-server prove test/t/import.t");
	for my $step (@wrong)
	{
		my ($expected, $got) = map { { map { $_ => 1 } split /\n/, $_ // '' } } @$step{qw(expected got)};
		diag("seed $seed, ", $step->{name} // substr $step->{sql}, 0, 200);
		diag("  expected: $_") foreach sort grep { !$got->{$_} } keys %$expected;
		diag("  got:      $_") foreach sort grep { !$expected->{$_} } keys %$got;
	}
	return;
}

sub our_customers { my ($story) = @_; return values %{ $story->{bill}{customers} } }
sub our_accounts { return 'account_id IN (SELECT account_id FROM member_account WHERE customer_id IN (' . list(our_customers($_[0])) . '))' }
sub our_payers { return 'payer_account_id IN (' . list(@{ $_[0]{bill}{payers} }) . ')' }

# ---- what must be ----

sub expect_sound { my ($story, $when) = @_; return expect($story, "$when: verify()", 'SELECT * FROM verify()') }

sub expect_credits
{
	my ($story, $when) = @_;
	my @columns = qw(account_id payer_account_id owner_account_id provider_credit_id service description);
	return expect($story, "$when: provider credits", sprintf(
			q(SELECT to_char(service_period, 'YYYY-MM-DD'), amount, %s FROM provider_credit WHERE %s), join(', ', @columns), our_accounts($story)),
		map { [ $_->{service_period}, money($_->{amount}), @$_{@columns} ] } credits($story->{bill}));
}

sub expect_lines
{
	my ($story, $when) = @_;
	my @columns = qw(account_id source_id service description creditable);
	expect($story, "$when: lines", sprintf(
			q(SELECT to_char(service_period, 'YYYY-MM-DD'), amount, %s FROM utilization WHERE %s), join(', ', @columns), our_accounts($story)),
		map { [ $_->{service_period}, money($_->{amount}), @$_{@columns} ] } charges($story->{bill}));
	return expect_credits($story, $when);
}

# Over invoices and closed months: what the lines of the bill come to with their differences.  Within an account's
# month of a bill a cent that only rounding moved between invoiced lines stays where it was.
sub expect_sums
{
	my ($story, $when) = @_;
	my @lines = charges($story->{bill});
	my %months;
	push @{ $months{ join '|', @$_{qw(account_id payer_account_id bill)}, substr $_->{service_period}, 0, 7 } }, $_->{amount} foreach @lines;
	my %total = map { $_ => money(total(@{ $months{$_} })) } keys %months;
	run($story, sprintf <<'SQL', our_accounts($story), rows([ '', '', '0' ], map { [ @$_{qw(account_id source_id)}, money($_->{amount}) ] } @lines));
CREATE TEMP TABLE booked AS
SELECT account_id, regexp_replace(source_id, '^(aws:[^:]*:[^:]*):\d+:', '\1:1:') AS source_id, sum(amount) AS amount
FROM utilization WHERE %s GROUP BY 1, 2;
CREATE TEMP TABLE billed AS
SELECT account_id, source_id, amount::numeric FROM (VALUES %s) billed (account_id, source_id, amount)
SQL
	expect($story, "$when: totals", <<'SQL', map { [ $_, $total{$_} ] } grep { $total{$_} ne '0.00' } keys %total);
SELECT account_id, split_part(source_id, ':', 2), split_part(source_id, ':', 3), split_part(source_id, ':', 5), sum(amount)
FROM booked GROUP BY 1, 2, 3, 4 HAVING sum(amount) <> 0
SQL
	expect($story, "$when: lines that are more than a cent away", <<'SQL');
SELECT account_id, source_id, booked.amount, billed.amount FROM booked FULL JOIN billed USING (account_id, source_id)
WHERE abs(coalesce(booked.amount, 0) - coalesce(billed.amount, 0)) > 0.01
SQL
	run($story, 'DROP TABLE booked, billed');
	return expect_credits($story, $when);
}

sub expect_names
{
	my ($story, $when, @unknown) = @_;
	my @named = grep { defined $_->{name} } (grep { $_->{is_known} } @{ $story->{bill}{accounts} }), @unknown;
	return expect($story, "$when: names", 'SELECT account_id, name FROM member_account WHERE name IS NOT NULL AND ' . our_accounts($story),
		map { [ @$_{qw(account_id name)} ] } @named);
}

sub expect_reconciliation
{
	my ($story, $when) = @_;
	my ($payers, $accounts, $months) = (our_payers($story), our_accounts($story), reconciliation_of(@{ $story->{bill}{lines} }));
	my @rows = map { my $month = $months->{$_}; [ $_, map { money($_) } @$month{qw(applied owned spill_in spill_out)} ] } keys %$months;
	expect($story, "$when: reconciliation", <<"SQL", grep { grep { $_ ne '0.00' } @$_[ 1 .. 4 ] } @rows);
SELECT payer_account_id, account_id, to_char(service_period, 'YYYY-MM-DD'), aws_applied, aws_owned, spill_in, spill_out
FROM credit_reconciliation
WHERE $payers AND (aws_applied <> 0 OR aws_owned <> 0 OR spill_in <> 0 OR spill_out <> 0)
SQL
	return expect($story, "$when: contradictions of the reconciliation", <<"SQL");
WITH r AS (
		SELECT *, sum(difference) OVER (PARTITION BY account_id ORDER BY service_period, payer_account_id) AS running
		FROM credit_reconciliation WHERE $payers),
	by_payer AS (
		SELECT payer_account_id, service_period, sum(aws_applied) AS applied, sum(spill_in + spill_out) AS spill
		FROM r GROUP BY 1, 2),
	credits AS (
		SELECT payer_account_id, service_period, -sum(amount) AS total FROM provider_credit WHERE $payers GROUP BY 1, 2),
	by_account AS (
		SELECT account_id, service_period, sum(memo_applied) AS applied FROM r GROUP BY 1, 2),
	memos AS (
		SELECT account_id, service_period, -sum(amount) AS total FROM memo_entry
		WHERE entry_type IN ('apply', 'release') AND $accounts GROUP BY 1, 2)
SELECT 'spill', payer_account_id FROM by_payer WHERE spill <> 0
UNION ALL
SELECT 'credits', payer_account_id FROM by_payer FULL JOIN credits USING (payer_account_id, service_period)
	WHERE coalesce(applied, 0) <> coalesce(total, 0)
UNION ALL
SELECT 'memos', account_id FROM by_account FULL JOIN memos USING (account_id, service_period)
	WHERE coalesce(applied, 0) <> coalesce(total, 0)
UNION ALL
SELECT 'parts', account_id FROM r WHERE aws_applied <> aws_owned + spill_in + spill_out
UNION ALL
SELECT 'difference', account_id FROM r WHERE difference <> aws_owned - memo_applied
UNION ALL
SELECT 'to date', account_id FROM r WHERE difference_to_date <> running
SQL
}

# ---- imports ----

# Stages lines in the columns of a set, and returns the call that imports them.
sub stage
{
	my ($story, $set, @lines) = @_;
	my $bill = $story->{bill};
	my $table = "bill_$bill->{seed}_" . @{ $story->{steps} };
	run($story, staged($table, $set, $bill->{without}, @lines));
	my $default_customer_id = unknown_accounts($bill) && $story->{is_registering} ? $bill->{customers}{USD} : undef;
	return sprintf q(%s('public.%s', %s)), $set =~ /CUR/ ? 'import_cur' : 'import_focus', $table, literal($default_customer_id);
}

# What import does with the lines of a bill after those of another, over open billings.
sub counts
{
	my ($old, $new) = @_;
	my %was = map { ("$_->{account_id} $_->{source_id}" => $_) } charges($old);
	my %counts = map { $_->{bill} => { inserted => 0, restated => 0, withdrawn => 0, unchanged => 0 } } results($new);
	for my $line (charges($new))
	{
		my $was = delete $was{"$line->{account_id} $line->{source_id}"};
		$counts{ bill_of($line) }{ !$was ? 'inserted' : $was->{amount} == $line->{amount} ? 'unchanged' : 'restated' }++;
	}
	$counts{ bill_of($_) }{withdrawn}++ foreach values %was;
	return \%counts;
}

# %options: set, the column set; counts, what happens to the lines, where that is to be told.
sub import_bill
{
	my ($story, $when, %options) = @_;
	my ($bill, $set, $counts) = ($story->{bill}, $options{set} // any(column_sets()), $options{counts});
	my $call = stage($story, $set, @{ $bill->{lines} });
	my @decimals = qw(exact_total rounding_difference exact_credit);
	my @others = qw(lines_read credits_read rounded_total rounded_credit);
	my @counted = $counts ? qw(inserted restated withdrawn unchanged) : ();
	my $columns = join ', ', q(payer_account_id, to_char(billing_period, 'YYYY-MM'), currency, corrections_read, is_final),
	  (map { "trim_scale($_)" } @decimals), @others, map { "lines_$_" } @counted;
	my @rows = map { [ $_->{bill}, $set =~ /CUR/ ? $_->{late} : $_->{corrections_read}, $set eq 'FOCUS 1.0' ? 'f' : $_->{is_final},
		@$_{ @decimals, @others }, @counted ? @{ $counts->{ $_->{bill} } }{@counted} : () ] } results($bill);
	return expect($story, "$when: result", "SELECT $columns FROM $call", @rows);
}

my $changed_rows = '(SELECT * FROM before EXCEPT SELECT * FROM public.books()) UNION ALL (SELECT * FROM public.books() EXCEPT SELECT * FROM before)';

# Runs steps that must leave every row as it is.
sub changing_nothing
{
	my ($story, $when, $steps) = @_;
	run($story, 'CREATE TEMP TABLE before AS SELECT * FROM public.books()');
	$steps->();
	expect($story, "$when: changes nothing", $changed_rows);
	return run($story, 'DROP TABLE before');
}

sub import_again
{
	my ($story, $when, %options) = @_;
	return changing_nothing($story, $when, sub { import_bill($story, $when, %options) });
}

# An import that must raise this error, which says something that matches.
sub refuse
{
	my ($story, $sqlstate, $pattern, @lines) = @_;
	my $call = stage($story, any(column_sets()), @lines);
	return run($story, sprintf 'SELECT public.must_fail(%s)', list("SELECT count(*) FROM $call", $sqlstate, $pattern));
}

# The bill's lines with other values in one of those of AWS that meet the condition; none if none does.
sub with_one_changed
{
	my ($bill, $condition, %values) = @_;
	my @lines = shuffle @{ $bill->{lines} };
	my $n = first { is_aws($lines[$_]) && $condition->($lines[$_]) } 0 .. $#lines;
	return () unless defined $n;
	$lines[$n] = { %{ $lines[$n] }, %values };
	return @lines;
}

sub refuse_mistakes
{
	my ($story) = @_;
	local $story->{is_registering} = 0;
	my $bill = $story->{bill};
	my ($account) = grep { $_->{is_known} } shuffle @{ $bill->{accounts} };
	my $is_of_account = sub { my ($line) = @_; return ($line->{account} // $line->{payer}) eq $account->{account_id} };
	my @mistakes = (
		[ '22023', $account && $account->{account_id}, $account ? with_one_changed($bill, $is_of_account, currency => 'GBP') : () ],
		[ '23503', 'nobody', with_one_changed($bill, sub { 1 }, account => 'nobody') ],
		[ '23514', 'NaN', with_one_changed($bill, sub { 1 }, cost => 'NaN') ]);
	return changing_nothing($story, 'mistakes', sub { refuse($story, @$_) foreach grep { @$_ > 2 } @mistakes });
}

# ---- what else happens ----

sub register
{
	my ($story, @accounts) = @_;
	my $customers = $story->{bill}{customers};
	run($story, 'INSERT INTO customer (customer_id, name, currency) VALUES ' . rows(map { [ $customers->{$_}, 'Customer', $_ ] } qw(USD EUR)));
	return unless @accounts;
	run($story, 'INSERT INTO payer_account VALUES ' . rows(map { [ $_, "Payer $_" ] } uniq map { $_->{payer} } @accounts));
	return run($story, 'INSERT INTO member_account (account_id, payer_account_id, customer_id, name) VALUES '
		. rows(map { [ @$_{qw(account_id payer)}, $customers->{ $_->{currency} }, $_->{name} ] } @accounts));
}

sub issue_memos
{
	my ($story) = @_;
	my $accounts = our_accounts($story) . sprintf ' AND account_id <> %s', literal(any(@{ $story->{bill}{accounts} })->{account_id});
	my $services = any('NULL', texts(grep { defined } (shuffle @services)[ 0 .. 3 ]));
	run($story, "INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account WHERE $accounts ON CONFLICT DO NOTHING");
	return run($story, sprintf <<"SQL", 1 + rand any(500, 500000), any('NULL', q('2024-12-31')), $services);
INSERT INTO credit_memo (account_id, amount, redeemed_on, expires_on, services)
SELECT account_id, %d * 0.01, '2023-11-05', %s, %s FROM member_account WHERE $accounts
SQL
}

sub invoice
{
	my ($story, $through, @accounts) = @_;
	return run($story, sprintf q(SELECT public.invoice(%s, '%s-01')), texts(map { $_->{account_id} } @accounts), $through);
}

# Most of the time only the months before the bills; sometimes that of the first of two bills, too.
sub close_months
{
	my ($story) = @_;
	my $bill = $story->{bill};
	my $through = maxstr($bill->{closed} // '', @{ $bill->{months} } == 2 && chance(0.3) ? $months[2] : $months[1]);
	invoice($story, $through, @{ $bill->{accounts} });
	run($story, sprintf q(SELECT close_period('%s-01', payer_account_id) FROM payer_account WHERE %s), $through, our_payers($story));
	$story->{bill} = { %$bill, closed => $through };
	return;
}

# ---- a story ----

sub import_in_each_set
{
	my ($story) = @_;
	for my $set (column_sets())
	{
		run($story, 'BEGIN');
		import_bill($story, $set, set => $set, counts => counts(of_lines($story->{bill}), $story->{bill}));
		expect_lines($story, $set);
		expect_names($story, $set, $set eq 'CUR' ? () : unknown_accounts($story->{bill}));
		run($story, 'ROLLBACK');
	}
}

sub import_over_open_billings
{
	my ($story, $when, $before) = @_;
	my $bill = $story->{bill};
	import_bill($story, $when, counts => counts($before, $bill));
	expect_lines($story, $when);
	expect_sound($story, $when);
	import_again($story, "$when, again", counts => counts($bill, $bill));
	return expect_reconciliation($story, $when);
}

sub import_over_invoices
{
	my ($story, $when) = @_;
	run($story, <<"SQL");
CREATE TEMP TABLE invoiced AS
SELECT u.* FROM utilization u JOIN billing b USING (account_id, service_period, billing_no) WHERE b.invoice_number IS NOT NULL
SQL
	import_bill($story, $when);
	expect_sums($story, $when);
	expect_sound($story, $when);
	expect($story, "$when: lines that were invoiced", 'SELECT * FROM invoiced EXCEPT SELECT * FROM utilization');
	run($story, 'DROP TABLE invoiced');
	import_again($story, "$when, again");
	return expect_reconciliation($story, $when);
}

sub story
{
	my ($bill) = @_;
	my $story = new_story($bill);
	run($story, sprintf q(SET TimeZone = '%s'), any('UTC', 'America/New_York', 'Asia/Tokyo'));
	run($story, sprintf q(SET DateStyle = '%s'), any('ISO', 'German', 'SQL, DMY'));
	run($story, sprintf 'SET extra_float_digits = %d', any(1, 0, -5));
	register($story, grep { $_->{is_known} } @{ $bill->{accounts} });
	issue_memos($story) if chance(0.7);

	my @unknown = unknown_accounts($bill);
	refuse($story, '23503', join('|', map { $_->{account_id} } @unknown), @{ $bill->{lines} }) if @unknown;
	$story->{is_registering} = 1;
	import_in_each_set($story);
	import_over_open_billings($story, 'first', of_lines($bill));
	refuse_mistakes($story);
	issue_memos($story);
	$story->{bill} = restated($bill);
	import_over_open_billings($story, 'restated', $bill);

	for my $when ('invoiced', 'invoiced twice')
	{
		invoice($story, any(@months), grep { chance(0.6) } @{ $bill->{accounts} });
		close_months($story) if chance(0.3);
		issue_memos($story) if chance(0.5);
		$story->{bill} = restated($story->{bill});
		import_over_invoices($story, $when);
	}
	my $is_closed = sub { my ($line) = @_; return $line->{category} ne 'Credit' && $line->{bill} le ($story->{bill}{closed} // '') };
	my @changed = with_one_changed($story->{bill}, $is_closed, cost => '123456');
	refuse($story, '55000', 'closed', @changed) if @changed;

	run($story, sprintf q(SELECT public.void_newest(%s)), texts(our_customers($story)));
	import_over_invoices($story, 'voided');
	$story->{bill} = restated($story->{bill});
	import_over_invoices($story, 'restated after that');
	return $story;
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
CREATE FUNCTION public.invoice(accounts text[], through date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	month record;
BEGIN
	FOR month IN
		SELECT a.customer_id, b.service_period, array_agg(b.account_id) AS accounts
		FROM billing b
		JOIN member_account a USING (account_id)
		WHERE b.account_id = ANY (invoice.accounts) AND b.service_period <= through AND b.invoice_number IS NULL AND EXISTS (
			SELECT
			FROM utilization u
			WHERE u.account_id = b.account_id AND u.service_period = b.service_period AND u.billing_no = b.billing_no)
		GROUP BY 1, 2
	LOOP
		PERFORM issue_invoice('SI' || nextval('public.invoice_numbers'), month.customer_id, month.service_period, '2024-06-01', month.accounts);
	END LOOP;
END
$$;

-- the newest invoice of the customers that is not of a closed month
CREATE FUNCTION public.void_newest(customers text[]) RETURNS void LANGUAGE sql AS $$
	SELECT void_invoice(i.invoice_number, 'wrong')
	FROM invoice i
	WHERE i.customer_id = ANY (customers) AND i.voided_at IS NULL AND NOT EXISTS (
		SELECT
		FROM billing b
		JOIN member_account a USING (account_id)
		WHERE b.invoice_number = i.invoice_number AND a.closed_through >= b.service_period)
	ORDER BY i.recorded_at DESC
	LIMIT 1
$$;

-- what somebody else did first is no failure here
CREATE FUNCTION public.attempt(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
EXCEPTION WHEN object_not_in_prerequisite_state OR no_data_found THEN
	NULL;
END
$$;

-- must_fail(statement, sqlstate, pattern): runs a statement that must raise just this error, which says something that matches
CREATE FUNCTION public.must_fail(statement text, expected text, pattern text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RAISE 'no error: %', statement;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	IF SQLSTATE <> expected OR concat_ws(' ', SQLERRM, detail) !~ pattern THEN
		RAISE;
	END IF;
END
$$;
SQL
	return $database;
}

for (my $seed = $first_seed; $seed < $first_seed + $bills; $seed += $batch)
{
	my $database = new_books();
	for my $each ($seed .. min($seed + $batch, $first_seed + $bills) - 1)
	{
		my $story = story(random_bill($each));
		my @wrong = wrong_steps($database, $story);
		ok(!@wrong, "bill of seed $each") or show($each, @wrong);
	}
	books_are_sound($database);
	drop_databases();
}

# ---- several sessions at once: a bill and what it is restated to, in any order ----

my $database = new_books();
my $bill = first { unknown_accounts($_) && @{ $_->{payers} } > 1 } map { random_bill($_) } $first_seed .. $first_seed + 100;
my $story = new_story($bill);
my $restated = restated($bill);
register($story, grep { $_->{is_known} } @{ $bill->{accounts} });
run($story, staged('bill', 'FOCUS 1.2', $bill->{without}, @{ $bill->{lines} }));
run($story, staged('restated', 'CUR', $bill->{without}, @{ $restated->{lines} }));
outcome($database, $story);

# name => [ statement, weight ]
sub at_once
{
	my ($name, $transactions, %statements) = @_;
	my @files;
	for my $statement (sort keys %statements)
	{
		my ($sql, $weight) = @{ $statements{$statement} };
		open my $file, '>', "$directory/$statement.sql" or die;
		print $file $sql;
		close $file;
		push @files, '-f', "$directory/$statement.sql\@$weight";
	}
	local $ENV{PGOPTIONS} = '-c search_path=creditmemo -c client_min_messages=warning';
	my $output = run_ok($name, 'pgbench', '-n', '-c', 4, '-t', $transactions, @files, $database);
	return unlike($output, qr/failed transactions: [1-9]/, 'none of them failed');
}

# That the books are as after the import of one of the bills.
sub are_of_one
{
	my ($name, $expectation, @bills) = @_;
	my @wrong;
	for my $each (@bills)
	{
		my $check = new_story($each);
		$expectation->($check, $name);
		push @wrong, [ wrong_steps($database, $check) ];
	}
	return ok(scalar(grep { !@$_ } @wrong), $name) || show($bill->{seed}, @{ $wrong[0] });
}

my $customer = literal($bill->{customers}{USD});
my %imports = (
	bill => [ "SELECT count(*) FROM import_focus('public.bill', $customer);", 1 ],
	restated => [ "SELECT count(*) FROM import_cur('public.restated', $customer);", 1 ]);
at_once('a bill in four sessions, with accounts that are not known yet', 1, bill => $imports{bill});
are_of_one('each line is there once', \&expect_lines, $bill);

psql($database, "INSERT INTO creditmemo.po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM creditmemo.member_account");
at_once('a bill and what it is restated to, with memos', 8, %imports, memo => [ <<'SQL', 1 ]);
INSERT INTO credit_memo (account_id, amount, redeemed_on)
SELECT account_id, 3, '2023-11-01' FROM member_account WHERE random() < 0.3;
SQL
are_of_one('the lines are those of one of them', \&expect_lines, $bill, $restated);

at_once('a bill and what it is restated to, over invoices that come and go', 40, %imports, invoice => [ <<"INVOICE", 3 ], void => [ <<"VOID", 3 ]);
SELECT public.attempt(\$\$
	SELECT issue_invoice('SI' || nextval('public.invoice_numbers'), $customer, '$months[2]-01', '2024-06-01', array_agg(account_id))
	FROM member_account
	WHERE customer_id = $customer AND random() < 0.5
\$\$);
INVOICE
SELECT public.attempt(\$\$ SELECT public.void_newest(ARRAY[$customer]) \$\$);
VOID
are_of_one('the sums are those of one of them', \&expect_sums, $bill, $restated);
# each charges the account that the other one's credit goes to
my ($here, $there) = map { literal($_) } @{ $bill->{payers} };
my %crossing = (one => [ $here, $there ], other => [ $there, $here ]);
psql($database, sprintf <<'SQL', $_, $_, $_, @{ $crossing{$_} }) foreach keys %crossing;
INSERT INTO creditmemo.payer_account VALUES ('%s');
CREATE VIEW public.%s AS
SELECT '%s' AS "BillingAccountId", account AS "SubAccountId", (random() * 100 - 20)::numeric * sign AS "BilledCost", 'USD' AS "BillingCurrency",
	category AS "ChargeCategory", 'EC2' AS "ServiceName", random()::text AS "ChargeDescription", date '2024-03-01' AS "BillingPeriodStart"
FROM (VALUES (%s, 1, 'Usage'), (%s, -1, 'Credit')) line (account, sign, category)
SQL
at_once('two payers with accounts in common', 60, map { $_ => [ "SELECT count(*) FROM import_focus('public.$_');", 1 ] } keys %crossing);
is(psql($database, 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'), 0, 'no deadlock');
books_are_sound($database);

done_testing();
