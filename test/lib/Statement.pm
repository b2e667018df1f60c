# Statements of credit: what their pages say, and what they must say by the rows of memo_entry, credit_memo
# and billing.  Amounts are cents.

package Statement;

use strict;
use warnings;
use Email qw(cents money month_text day_text);
use Exporter 'import';
use List::Util qw(maxstr minstr uniq);
use Page qw(find text texts);
use Psql qw(rows_of);

our @EXPORT_OK = qw(read_accounts customers_of statement_of page_of_statement expected_statement expected_lines);

# The accounts for which a condition is true, with all rows of theirs.
sub read_accounts
{
	my ($database, $condition) = @_;
	return map { dated($_->{account}) } rows_of($database, <<SQL);
SELECT to_jsonb(a) || jsonb_build_object('currency', c.currency,
	'customer_names', (SELECT json_object_agg(customer_id, name) FROM creditmemo.customer),
	'billings', (
		SELECT coalesce(json_agg(json_build_object('period', b.service_period, 'customer_id', i.customer_id)), '[]')
		FROM creditmemo.billing b LEFT JOIN creditmemo.invoice i USING (invoice_number)
		WHERE b.account_id = a.account_id AND folded_into IS NULL),
	'memos', (
		SELECT coalesce(json_agg(m ORDER BY priority, expires_on NULLS LAST, cardinality(services) NULLS LAST,
			redeemed_on, memo_id), '[]')
		FROM creditmemo.credit_memo m
		WHERE m.account_id = a.account_id),
	'entries', (
		SELECT coalesce(json_agg(json_build_object('memo_id', memo_id, 'type', entry_type, 'amount', amount::text,
			'service', service, 'service_period', s.service_period, 'invoice_number', invoice_number,
			'customer_id', i.customer_id, 'date', s.recorded_at::date) ORDER BY s.recorded_at, memo_id, entry_no), '[]')
		FROM creditmemo.memo_statement s LEFT JOIN creditmemo.invoice i USING (invoice_number)
		WHERE s.account_id = a.account_id)) AS account
FROM creditmemo.member_account a JOIN creditmemo.customer c USING (customer_id)
WHERE $condition ORDER BY a.account_id
SQL
}

# Each entry with its memo, and the month that it counts in.
sub dated
{
	my ($account) = @_;
	my %memos = map { $_->{memo_id} => $_ } @{ $account->{memos} };
	$_->{entries} = [] foreach values %memos;
	for my $entry (@{ $account->{entries} })
	{
		my $memo = $entry->{memo} = $memos{ $entry->{memo_id} };
		$entry->{amount} = cents($entry->{amount});
		$entry->{period} = period_of($entry);
		$memo->{latest} = maxstr($memo->{latest} // '', $entry->{period});
		push @{ $memo->{entries} }, $entry;
	}
	return $account;
}

# Those that its invoices were for, and whose it is now.
sub customers_of
{
	my ($account) = @_;
	return uniq($account->{customer_id}, grep { defined } map { $_->{customer_id} } @{ $account->{billings} });
}

# Whose a memo was: theirs who were billed for what it paid.  Of one that never paid anything it is known only if the
# account never moved, or the memo has a balance.
sub owner_of
{
	my ($account, $memo) = @_;
	my @paid = grep { defined $_->{service_period} } @{ $memo->{entries} };
	my ($billed) = grep { defined } map { $_->{customer_id} } @paid;
	return $billed if defined $billed;
	return @paid || $memo->{balance} > 0 || customers_of($account) == 1 ? $account->{customer_id} : '';
}

# Credit counts in the month that it is for; what is written off, in the last that the memo has to do with.
sub period_of
{
	my ($entry) = @_;
	my ($type, $memo) = @$entry{qw(type memo)};
	return $entry->{service_period} if $type eq 'apply' || $type eq 'release';
	return $memo->{first_period} if $type eq 'issue';
	return $memo->{latest} if $type eq 'void';
	return $memo->{last_period} // $memo->{latest};
}

my %kinds = (
	issue => 'issued', apply => 'used', release => 'used', void => 'lapsed', expire => 'lapsed', restore => 'lapsed');
my %names = (
	issue => 'Issued', apply => 'Applied', release => 'Returned', void => 'Voided', expire => 'Expired',
	restore => 'Restored');

# The sums of entries by kind, and of all.
sub sums
{
	my (@entries) = @_;
	my %sums = (issued => 0, used => 0, lapsed => 0, balance => 0);
	for my $entry (@entries)
	{
		$sums{$_} += $entry->{amount} foreach $kinds{ $entry->{type} }, 'balance';
	}
	return \%sums;
}

# What the statement of a customer, of now or before, says for a range of months, of all where they are undefined.
# Undefined where there is none.
sub statement_of
{
	my ($account, $from, $to, $customer_id) = @_;
	$customer_id //= $account->{customer_id};
	my @memos = grep { owner_of($account, $_) eq $customer_id } @{ $account->{memos} };
	my @all_entries = grep { owner_of($account, $_->{memo}) eq $customer_id } @{ $account->{entries} };
	my @billings = grep { ($_->{customer_id} // $account->{customer_id}) eq $customer_id } @{ $account->{billings} };
	my @months = sort map { $_->{period} } @billings, @all_entries;
	$from //= $months[0];
	$to //= $months[-1];
	return undef if !@months || $from gt $to;
	$to = maxstr($from, minstr($to, $months[-1]));
	my @entries = grep { $_->{period} le $to } @all_entries;
	return {
		account => $account,
		customer_name => $account->{customer_names}{$customer_id},
		from => $from,
		to => $to,
		opening => sums(grep { $_->{period} lt $from } @entries)->{balance},
		total => sums(grep { $_->{period} ge $from } @entries),
		closing => sums(@entries)->{balance},
		months => [ map {
			my $month = $_;
			[ $month, sums(grep { $_->{period} le $month } @entries)->{balance} ]
		} months_between($from, minstr($to, $months[-1])) ],
		memos => [ map { memo_of_statement($_, $from, $to) } @memos ],
		movements => movements($from, @entries),
	};
}

# A memo with its sums by then, unless there is none, or was spent before.
sub memo_of_statement
{
	my ($memo, $from, $to) = @_;
	my @entries = grep { $_->{period} le $to } @{ $memo->{entries} };
	my $sums = sums(@entries);
	return @entries && ($sums->{balance} || grep { $_->{period} ge $from } @entries) ? [ $memo, $sums ] : ();
}

# Entries with the balance after each; those of earlier months that follow each other are one.
sub movements
{
	my ($from, @entries) = @_;
	my @movements;
	my $balance = 0;
	for my $entry (@entries)
	{
		my $is_earlier = $entry->{period} lt $from;
		push @movements, { $is_earlier ? (is_earlier => 1) : %$entry, amount => 0 }
		  unless $is_earlier && @movements && $movements[-1]{is_earlier};
		$movements[-1]{amount} += $entry->{amount};
		$movements[-1]{balance} = $balance += $entry->{amount};
	}
	return \@movements;
}

sub months_between
{
	my ($from, $to) = @_;
	my @months;
	for (my $month = $from; $month le $to; $month = next_month($month)) { push @months, $month }
	return @months;
}

sub next_month
{
	my ($year, $month) = split /-/, $_[0];
	return $month == 12 ? sprintf('%04d-01-01', $year + 1) : sprintf('%04d-%02d-01', $year, $month + 1);
}

# ---- what it says ----

sub period_text { my ($statement) = @_; return join ' to ', map { month_text($_) } uniq(@$statement{qw(from to)}) }
sub short_month { return month_text($_[0]) =~ s/^(...)\w*/$1/r }
sub opening_label { return 'Balance before ' . month_text($_[0]{from}) }
sub closing_label { return 'Balance at the end of ' . month_text($_[0]{to}) }

sub movement_cells
{
	my ($movement, $money) = @_;
	my @amounts = map { $money->($_) } @$movement{qw(amount balance)};
	return [ 'earlier', '', '', 'Earlier months', '', '', @amounts ] if $movement->{is_earlier};
	my $name = join ', ', grep { defined } $names{ $movement->{type} }, $movement->{service};
	my $invoice = $movement->{invoice_number} // (defined $movement->{service_period} ? 'not invoiced yet' : '');
	my $month = short_month($movement->{period});
	return [ 'movement', $movement->{date}, $month, $name, $movement->{memo}{memo_number}, $invoice, @amounts ];
}

sub terms_of
{
	my ($memo) = @_;
	return join ', ', $memo->{credit_type}, 'redeemed ' . day_text($memo->{redeemed_on}),
	  defined $memo->{expires_on} ? 'expires ' . day_text($memo->{expires_on}) : 'does not expire',
	  $memo->{services} ? 'for ' . join(', ', @{ $memo->{services} }) . ' only' : ();
}

sub page_of_statement
{
	my ($page) = @_;
	return {
		title => join('|', texts($page, 'head title')),
		heading => join('|', texts($page, 'h1')),
		customer => [ texts($page, 'div.customer bdi') ],
		facts => [ map { [ @{ $_->{classes} }, texts($_, 'td') ] } find($page, 'table.facts tr') ],
		totals => [ map { [ @{ $_->{classes} }, texts($_, 'th'), texts($_, 'td.amount') ] } find($page, 'table.totals tr') ],
		months => [ map { join('|', texts($_, 'title')) =~ s/, [a-z].*//sr } grep { !is_projected($_) } find($page, 'g.month') ],
		memos => [ map { memo_row($_) } find($page, 'table.memos tbody tr') ],
		memo_total => [ texts($page, 'table.memos tfoot td.amount') ],
		movements => [ map { movement_row($_) } find($page, 'table.movements tbody tr') ],
	};
}

sub memo_row
{
	my ($row) = @_;
	my @words = map { texts($row, "td.memo .$_") } qw(name terms remark);
	return [ \@words, texts($row, 'td.po-number'), map { texts($row, "td.amount.$_") } qw(issued applied lapsed balance) ];
}

sub movement_row
{
	my ($row) = @_;
	my @cells = qw(date period movement memo invoice amount.moved amount.balance);
	return [ @{ $row->{classes} }, map { texts($row, "td.$_") } @cells ];
}

sub is_projected { my ($element) = @_; return grep { $_ eq 'projected' } @{ $element->{classes} } }

sub expected_statement
{
	my ($statement) = @_;
	my ($account, $total) = @$statement{qw(account total)};
	my $money = sub { money($_[0], $account->{currency}) };
	my $or_blank = sub { $_[0] == 0 ? '' : $money->($_[0]) };
	return {
		title => "Statement of credit, $account->{account_id}, " . period_text($statement),
		heading => 'Statement of credit',
		customer => [ $statement->{customer_name} ],
		facts => [
			[ 'account', $account->{account_id} ],
			defined $account->{name} ? [ 'account-name', $account->{name} ] : (),
			[ 'period', period_text($statement) ]
		],
		totals => [
			[ 'opening', opening_label($statement), $money->($statement->{opening}) ],
			[ 'issued', 'Credit issued', $money->($total->{issued}) ],
			[ 'used', 'Credit used', $money->($total->{used}) ],
			$total->{lapsed} ? [ 'lapsed', 'Void or expired', $money->($total->{lapsed}) ] : (),
			[ 'closing', closing_label($statement), $money->($statement->{closing}) ]
		],
		months => [ map { month_text($_->[0]) . ': balance ' . $money->($_->[1]) } @{ $statement->{months} } ],
		memos => [ map {
			my ($memo, $sums) = @$_;
			my @words = ($memo->{memo_number}, terms_of($memo), $memo->{note} // ());
			[ \@words, $memo->{po_number}, $money->($sums->{issued}), $or_blank->($sums->{used}),
				$or_blank->($sums->{lapsed}), $money->($sums->{balance}) ]
		} @{ $statement->{memos} } ],
		memo_total => [ @{ $statement->{memos} } ? $money->($statement->{closing}) : () ],
		movements => [ map { movement_cells($_, $money) } @{ $statement->{movements} } ],
	};
}

# Lines of the text, in their order, with single spaces.
sub expected_lines
{
	my ($statement) = @_;
	my $account = $statement->{account};
	my $money = sub { money($_[0], $account->{currency}) };
	my $page = expected_statement($statement);
	return (
		'Statement of credit', $statement->{customer_name},
		join(', ', "Member account $account->{account_id}", $account->{name} // ()), period_text($statement),
		(map { "$_->[1] $_->[2]" } @{ $page->{totals} }),
		(map { month_text($_->[0]) . ' ' . $money->($_->[1]) } @{ $statement->{months} }),
		(map { memo_lines($_, $money) } @{ $statement->{memos} }),
		(map { my (undef, @cells) = @$_; join ' ', grep { $_ ne '' } @cells } @{ $page->{movements} }));
}

sub memo_lines
{
	my ($pair, $money) = @_;
	my ($memo, $sums) = @$pair;
	return ("$memo->{memo_number}, PO $memo->{po_number}", terms_of($memo), $memo->{note} // (), join ', ',
		'issued ' . $money->($sums->{issued}), 'used ' . $money->(-$sums->{used}),
		$sums->{lapsed} ? 'void or expired ' . $money->(-$sums->{lapsed}) : (), 'balance ' . $money->($sums->{balance}));
}

1;
