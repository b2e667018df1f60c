# The rules of README.md, "How credit is applied", once more and in another way: plain lists in
# Perl, everything settled after every statement, nothing cached, nothing locked.  What the tests
# compare the extension with.  Amounts are cents.

package Model;

use strict;
use warnings;
use List::Util qw(first max min sum0);

sub new
{
	my ($class) = @_;
	return bless { account => {}, call => 0 }, $class;
}

sub add_account
{
	my ($self, $account_id, $customer_id) = @_;
	$self->{account}{$account_id} = {
		account_id => $account_id,
		customer_id => $customer_id,
		po => undef,
		memos => [],
		lines => [],
		billings => {},    # period => [ billing 1, billing 2, ... ]
	};
}

sub assign_po
{
	my ($self, $account_id, $po) = @_;
	$self->{account}{$account_id}{po} = $po;
}

sub month_of { return defined $_[0] ? substr($_[0], 0, 7) . '-01' : undef }

sub insert_memos
{
	my ($self, @memos) = @_;
	my $call = ++$self->{call};
	for my $new (@memos)
	{
		my $account = $self->{account}{ $new->{account_id} };
		my $memo = {
			%$new,
			first_period => month_of($new->{redeemed_on}),
			last_period => month_of($new->{expires_on}),
			po => $account->{po},
			balance => 0,
			entries => [],
			place => scalar @{ $account->{memos} },
		};
		push @{ $account->{memos} }, $memo;
		_enter($memo, $call, 'issue', $memo->{amount});
	}
	$self->_settle($_, $call) foreach _accounts_of(@memos);
}

sub insert_lines
{
	my ($self, @lines) = @_;
	my $call = ++$self->{call};
	for my $line (@lines)
	{
		my $account = $self->{account}{ $line->{account_id} };
		my $billings = $account->{billings}{ $line->{service_period} } //= [];
		push @$billings, { no => 1 + @$billings }
		  unless @$billings && !defined $billings->[-1]{invoice_number};
		push @{ $account->{lines} }, { %$line, billing => $billings->[-1] };
	}
	$self->_settle($_, $call) foreach _accounts_of(@lines);
}

sub change_memo
{
	my ($self, $account_id, $memo_number, %changes) = @_;
	my $memo = first { $_->{memo_number} eq $memo_number } @{ $self->{account}{$account_id}{memos} };
	@$memo{ keys %changes } = values %changes;
	$memo->{last_period} = month_of($memo->{expires_on});
	$self->_settle($account_id, ++$self->{call});
}

# Returns whether there was anything to bill.
sub issue_invoice
{
	my ($self, $invoice_number, $period, @account_ids) = @_;
	my $billed = 0;
	for my $account (map { $self->{account}{$_} } @account_ids)
	{
		my $open = first { !defined $_->{invoice_number} } @{ $account->{billings}{$period} // [] };
		next unless $open;
		my $elsewhere = sum0 map { _credit($account, $_) }
		  grep { !defined $_->{invoice_number} && $_ != $open } map { @$_ } values %{ $account->{billings} };
		$open->{invoice_number} = $invoice_number;
		$open->{po} = $account->{po};
		$open->{balance_after} = $elsewhere + sum0 map { $_->{balance} } @{ $account->{memos} };
		$open->{prior_balance} = $open->{balance_after} + _credit($account, $open);
		$billed = 1;
	}
	return $billed;
}

# Everything that the books must say, a line a row.
sub books
{
	my ($self) = @_;
	my @rows;
	for my $account_id (sort keys %{ $self->{account} })
	{
		my $account = $self->{account}{$account_id};
		for my $period (sort keys %{ $account->{billings} })
		{
			for my $billing (@{ $account->{billings}{$period} })
			{
				push @rows, join '|', 'billing', $account_id, $period, $billing->{no},
				  _sum($account, $billing, 0), _sum($account, $billing, 1), _credit($account, $billing),
				  map { $_ // '' } @$billing{qw(invoice_number po prior_balance balance_after)};
			}
		}
		for my $memo (@{ $account->{memos} })
		{
			push @rows, join '|', 'memo', $account_id,
			  map { $_ // '' } @$memo{qw(memo_number amount balance first_period last_period po)};
			for my $entry (@{ $memo->{entries} })
			{
				push @rows, join '|', 'entry', $account_id, $memo->{memo_number}, $entry->{no},
				  @$entry{qw(type amount balance_after)}, $entry->{period} // '',
				  $entry->{billing} ? $entry->{billing}{no} : '', $entry->{service} // '',
				  $entry->{reverses} ? $entry->{reverses}{no} : '';
			}
		}
	}
	return join "\n", @rows;
}

# ---- the rules ----

sub _accounts_of
{
	my %seen;
	return grep { !$seen{$_}++ } sort map { $_->{account_id} } @_;
}

sub _enter
{
	my ($memo, $call, $type, $amount, %more) = @_;
	$memo->{balance} += $amount;
	die 'balance out of range' if $memo->{balance} < 0 || $memo->{balance} > $memo->{amount};
	push @{ $memo->{entries} },
	  { %more, no => 1 + @{ $memo->{entries} }, call => $call, memo => $memo, type => $type,
		amount => $amount, balance_after => $memo->{balance} };
}

# The sum of a billing's lines, or of the creditable ones.
sub _sum
{
	my ($account, $billing, $creditable) = @_;
	return sum0 map { $_->{amount} }
	  grep { $_->{billing} == $billing && (!$creditable || $_->{creditable}) } @{ $account->{lines} };
}

sub _entries { return map { @{ $_->{entries} } } @{ $_[0]{memos} } }

# The credit on a billing.
sub _credit
{
	my ($account, $billing) = @_;
	return -sum0 map { $_->{amount} } grep { ($_->{billing} // 0) == $billing } _entries($account);
}

# How much more credit the open billing may hold.
sub _room
{
	my ($account, $period, $open) = @_;
	my @billings = @{ $account->{billings}{$period} };
	my $charged = sum0 map { _sum($account, $_, 1) } @billings;
	my $paid = sum0 map { _credit($account, $_) } @billings;
	return min(max(_sum($account, $open, 1), 0) - _credit($account, $open), max($charged, 0) - $paid);
}

# How much more limited memos may pay of a service.
sub _room_for_service
{
	my ($account, $period, $service) = @_;
	my $charged = sum0 map { $_->{amount} }
	  grep { $_->{creditable} && $_->{service} eq $service && $_->{service_period} eq $period }
	  @{ $account->{lines} };
	my $paid = -sum0 map { $_->{amount} }
	  grep { ($_->{service} // '') eq $service && ($_->{period} // '') eq $period } _entries($account);
	return max($charged, 0) - $paid;
}

sub _eligible
{
	my ($memo, $period) = @_;
	return $memo->{first_period} le $period
	  && (!defined $memo->{last_period} || $period le $memo->{last_period});
}

# The memos in the order of spending.
sub _order
{
	my ($account) = @_;
	return sort {
			 $a->{priority} <=> $b->{priority}
		  || ($a->{expires_on} // 'never') cmp ($b->{expires_on} // 'never')
		  || ($a->{services} ? scalar @{ $a->{services} } : 1000) <=> ($b->{services} ? scalar @{ $b->{services} } : 1000)
		  || $a->{redeemed_on} cmp $b->{redeemed_on}
		  || $a->{place} <=> $b->{place}
	} @{ $account->{memos} };
}

# What of an application has not been released.
sub _left
{
	my ($entry) = @_;
	return -$entry->{amount} - sum0 map { $_->{amount} }
	  grep { ($_->{reverses} // 0) == $entry } @{ $entry->{memo}{entries} };
}

# The period's applications: the last billing's first, in it the newest first.
sub _applications
{
	my ($account, $period) = @_;
	my %rank;
	my $n = 0;
	$rank{$_} = $n++ foreach _order($account);
	return sort {
			 $b->{billing}{no} <=> $a->{billing}{no}
		  || $b->{call} <=> $a->{call}
		  || $rank{ $b->{memo} } <=> $rank{ $a->{memo} }
		  || $b->{no} <=> $a->{no}
	} grep { $_->{type} eq 'apply' && $_->{period} eq $period } _entries($account);
}

sub _release
{
	my ($call, $period, $open, $entry, $at_most) = @_;
	my $amount = min(_left($entry), $at_most);
	_enter($entry->{memo}, $call, 'release', $amount, period => $period, billing => $open,
		service => $entry->{service}, reverses => $entry)
	  if $amount > 0;
}

sub _give_back
{
	my ($account, $call, $period, $open) = @_;
	my @applications = _applications($account, $period);
	for my $entry (grep { $_->{billing} == $open && !_eligible($_->{memo}, $period) } @applications)
	{
		_release($call, $period, $open, $entry, _left($entry));
	}
	for my $entry (grep { defined $_->{service} } @applications)
	{
		_release($call, $period, $open, $entry, -_room_for_service($account, $period, $entry->{service}));
	}
	_release($call, $period, $open, $_, -_room($account, $period, $open)) foreach @applications;
}

sub _pay
{
	my ($account, $call, $period, $open) = @_;
	for my $memo (grep { _eligible($_, $period) } _order($account))
	{
		my @services = $memo->{services} ? @{ $memo->{services} } : (undef);
		while (@services)
		{
			my %room = map { $_ => _room_for_service($account, $period, $_) } grep { defined } @services;
			@services = sort { $room{$b} <=> $room{$a} || $a cmp $b } @services if %room;
			my $service = shift @services;
			my $amount = min($memo->{balance}, _room($account, $period, $open),
				defined $service ? $room{$service} : ());
			_enter($memo, $call, 'apply', -$amount, period => $period, billing => $open, service => $service)
			  if $amount > 0;
		}
	}
}

sub _settle
{
	my ($self, $account_id, $call) = @_;
	my $account = $self->{account}{$account_id};
	my @open = grep { !defined $account->{billings}{$_}[-1]{invoice_number} }
	  sort keys %{ $account->{billings} };
	_give_back($account, $call, $_, $account->{billings}{$_}[-1]) foreach @open;
	_pay($account, $call, $_, $account->{billings}{$_}[-1]) foreach @open;
}

1;
