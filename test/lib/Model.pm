# The rules of README.md, "How credit is applied", once more and in another way: plain lists in
# Perl, everything settled after every statement, nothing cached, nothing locked.  What the tests
# compare the extension with.  Amounts are cents.
#
# What changes something returns the SQLSTATE of the error if the rules refuse it, or else nothing.

package Model;

use strict;
use warnings;
use List::Util qw(any first max min sum0 uniq);

my @line_columns = qw(account_id source_id service_period service amount creditable description);

sub new
{
	my ($class) = @_;
	return bless { currency => {}, account => {}, invoice => {}, closings => [], voided => [], then => [], call => 0 }, $class;
}

# ---- customers, accounts, purchase orders ----

sub add_customer
{
	my ($self, $customer_id, $currency) = @_;
	$self->{currency}{$customer_id} = $currency;
}

sub add_account
{
	my ($self, %account) = @_;    # account_id, customer_id, payer_account_id
	$self->{account}{ $account{account_id} } = {
		%account,
		po => undef,
		closed_through => '',
		memos => [],
		billings => {},    # period => [ billing 1, billing 2, ... ]
	};
}

sub assign_po
{
	my ($self, $account_id, $po) = @_;
	$self->{account}{$account_id}{po} = $po;
}

# Gives the account another customer or payer.
sub move_account
{
	my ($self, $account_id, $column, $value) = @_;
	my $account = $self->{account}{$account_id};
	return if $account->{$column} eq $value;
	return '55000' if any { $_->{balance} > 0 || _expired($_) > 0 } @{ $account->{memos} };
	return '55000' if any { _has_something_to_bill($_) } _billings($account);
	return '55000' if $column eq 'customer_id'
	  && $self->{currency}{$value} ne $self->{currency}{ $account->{customer_id} }
	  && (@{ $account->{memos} } || _billings($account));
	$account->{$column} = $value;
	return;
}

# ---- memos ----

sub insert_memos
{
	my ($self, @memos) = @_;
	return '55000' if any { _is_closed($self->{account}{ $_->{account_id} }, _month_of($_->{expires_on})) } @memos;
	my $call = ++$self->{call};
	for my $new (@memos)
	{
		my $account = $self->{account}{ $new->{account_id} };
		my $memo = {
			%$new,
			first_period => _month_of($new->{redeemed_on}),
			last_period => _month_of($new->{expires_on}),
			po => $account->{po},
			void_reason => undef,
			balance => 0,
			entries => [],
			place => scalar @{ $account->{memos} },
		};
		push @{ $account->{memos} }, $memo;
		_enter($memo, $call, 'issue', $memo->{amount});
	}
	$self->_settle($call, map { $_->{account_id} } @memos);
	return;
}

sub change_memos
{
	my ($self, $column, $value, @memos) = @_;
	if ($column eq 'expires_on')
	{
		my $last_period = _month_of($value);
		for my $memo (grep { ($_->{last_period} // '') ne ($last_period // '') } @memos)
		{
			my $account = $self->{account}{ $memo->{account_id} };
			return '55000' if any { _is_closed($account, $_) } $memo->{last_period}, $last_period;
		}
		$_->{last_period} = $last_period foreach @memos;
	}
	$_->{$column} = $value foreach @memos;
	$self->_settle(++$self->{call}, map { $_->{account_id} } @memos);
	return;
}

# Of the account, or where that is undefined, of any.
sub void_memo
{
	my ($self, $memo_number, $reason, $account_id) = @_;
	my $refused = _no_reason($reason);
	return $refused if $refused;
	my @memos = grep { $_->{memo_number} eq $memo_number && (!defined $account_id || $_->{account_id} eq $account_id) }
	  $self->memos;
	return 'P0002' if !@memos;
	return '21000' if @memos > 1;
	return '55000' if defined $memos[0]{void_reason};
	$memos[0]{void_reason} = $reason;
	$self->_settle(++$self->{call}, $memos[0]{account_id});
	return;
}

# ---- lines ----

# Writes the changes of one statement, each a pair: a line and what it is to be.  Without a line, one
# is inserted; without what it is to be, the line is deleted.
sub write_lines
{
	my ($self, @changes) = @_;
	@changes = grep { !_is_same(@$_) } @changes;
	for my $change (@changes)
	{
		my ($old, $new) = @$change;
		return '55000' if $old && !$self->is_changeable($old);
		return '55000' if $new && $self->is_barred($new);
	}
	for my $change (@changes)
	{
		my ($old, $new) = @$change;
		if ($old)
		{
			my $billing = $self->_billing_of($old);
			$billing->{lines} = [ grep { $_ != $old } @{ $billing->{lines} } ];
		}
		if ($new)
		{
			my $billings = $self->{account}{ $new->{account_id} }{billings}{ $new->{service_period} } //= [];
			push @$billings, { no => 1 + @$billings, lines => [], entries => [] } unless _open_one(@$billings);
			push @{ _open_one(@$billings)->{lines} }, {%$new};
		}
	}
	$self->_settle(++$self->{call}, map { $_->{account_id} } grep { $_ } map { @$_ } @changes);
	return;
}

# Whether the line's period takes no lines: it is closed, or invoiced to a customer that the account had before.
sub is_barred
{
	my ($self, $line) = @_;
	my ($account, $period) = ($self->{account}{ $line->{account_id} }, $line->{service_period});
	my $last = first { defined $_->{invoice_number} } reverse _billings($account, $period);
	return _is_closed($account, $period)
	  || $last && $self->{invoice}{ $last->{invoice_number} }{customer_id} ne $account->{customer_id};
}

sub is_changeable
{
	my ($self, $line) = @_;
	return _is_open($self->_billing_of($line)) && !$self->is_barred($line);
}

# ---- invoices ----

# Of all accounts of the customer, unless some are given.
sub issue_invoice
{
	my ($self, $invoice_number, $customer_id, $period, @account_ids) = @_;
	return '23505' if $self->{invoice}{$invoice_number};
	return '22023' if any { $self->{account}{$_}{customer_id} ne $customer_id } @account_ids;
	my @accounts = @account_ids ? @{ $self->{account} }{ uniq @account_ids }
	  : grep { $_->{customer_id} eq $customer_id } values %{ $self->{account} };
	@accounts = grep { any { _has_something_to_bill($_) } _billings($_, $period) } @accounts;
	return 'P0002' if !@accounts;
	for my $account (@accounts)
	{
		my $billing = _open_one(_billings($account, $period));
		@$billing{qw(invoice_number po prior_balance balance_after)} =
		  ($invoice_number, $account->{po}, _balances($account, $billing));
	}
	$self->{invoice}{$invoice_number} = { customer_id => $customer_id, period => $period, void_reason => undef };
	return;
}

sub void_invoice
{
	my ($self, $invoice_number, $reason) = @_;
	my $refused = _no_reason($reason);
	return $refused if $refused;
	my $invoice = $self->{invoice}{$invoice_number} or return 'P0002';
	return '55000' if defined $invoice->{void_reason};
	my $period = $invoice->{period};
	my @accounts = grep { _billed($_, $invoice_number, $period) } values %{ $self->{account} };
	for my $account (@accounts)
	{
		my $billing = _billed($account, $invoice_number, $period);
		return '55000' if _is_closed($account, $period) || $account->{customer_id} ne $invoice->{customer_id}
		  || any { $_->{no} > $billing->{no} && defined $_->{invoice_number} } _billings($account, $period);
	}
	$invoice->{void_reason} = $reason;
	for my $account (@accounts)
	{
		my $billing = _billed($account, $invoice_number, $period);
		push @{ $self->{voided} }, [ $account->{account_id}, $invoice_number, $period, _figures($billing) ];
		_fold($account, $period, _open_one(_billings($account, $period)), $billing);
		delete @$billing{qw(invoice_number po prior_balance balance_after)};
	}
	$self->_settle(++$self->{call}, map { $_->{account_id} } @accounts);
	return;
}

# ---- periods ----

# Returns also how many accounts it closed.
sub close_period
{
	my ($self, $period, $payer) = @_;
	my @accounts = grep { $_->{payer_account_id} eq $payer && $_->{closed_through} lt $period } values %{ $self->{account} };
	for my $account (@accounts)
	{
		return '55000' if any { _has_something_to_bill($_) }
		  map { _billings($account, $_) } grep { $_ le $period } keys %{ $account->{billings} };
	}
	$_->{closed_through} = $period foreach @accounts;
	$self->_settle(++$self->{call}, map { $_->{account_id} } @accounts);
	push @{ $self->{closings} }, [ $payer, $period, 'close', '', scalar @accounts ] if @accounts;
	return (undef, scalar @accounts);
}

# Returns also how many accounts it reopened.
sub reopen_period
{
	my ($self, $period, $payer, $reason) = @_;
	my $refused = _no_reason($reason);
	return $refused if $refused;
	my @accounts = grep { $_->{payer_account_id} eq $payer && _is_closed($_, $period) } values %{ $self->{account} };
	my $call = ++$self->{call};
	for my $account (@accounts)
	{
		$account->{closed_through} = _month_before($period);
		_restore($account, $call);
	}
	$self->_settle($call, map { $_->{account_id} } @accounts);
	push @{ $self->{closings} }, [ $payer, $period, 'reopen', $reason, scalar @accounts ] if @accounts;
	return (undef, scalar @accounts);
}

# ---- what there is ----

sub accounts { my ($self) = @_; return map { $self->{account}{$_} } sort keys %{ $self->{account} } }
sub memos { return map { @{ $_->{memos} } } $_[0]->accounts }
sub lines { return map { @{ $_->{lines} } } map { _billings($_) } $_[0]->accounts }

# Account and period of each billing that has something to bill.
sub unbilled
{
	my ($self) = @_;
	my @all = map { my $account = $_; map { [ $account, $_ ] } sort keys %{ $account->{billings} } } $self->accounts;
	return grep { any { _has_something_to_bill($_) } _billings(@$_) } @all;
}

# Has books() tell the balances of now, too.
sub remember_balances
{
	my ($self) = @_;
	$self->{then} = [ map { [ @$_{qw(account_id memo_number balance)} ] } $self->memos ];
}

# Everything that the books must say, a line a row.
sub books
{
	my ($self) = @_;
	my @rows = (
		(map { [ 'closing', @$_ ] } @{ $self->{closings} }),
		(map { [ 'voided', @$_ ] } @{ $self->{voided} }),
		(map { [ 'then', @$_ ] } @{ $self->{then} }),
		map { _books_of($_) } $self->accounts);
	push @rows, [ 'invoice', $_, @{ $self->{invoice}{$_} }{qw(customer_id period void_reason)} ] foreach keys %{ $self->{invoice} };
	return join "\n", sort map { join '|', map { $_ // '' } @$_ } @rows;
}

sub _books_of
{
	my ($account) = @_;
	my $account_id = $account->{account_id};
	my @rows = [ 'account', @$account{qw(account_id customer_id payer_account_id closed_through)} ];
	my %invoice_of;    # by entry
	for my $period (keys %{ $account->{billings} })
	{
		for my $billing (_billings($account, $period))
		{
			push @rows, [ 'billing', $account_id, $period, _figures($billing), @$billing{qw(folded_into invoice_number)} ];
			$invoice_of{$_} = $billing->{invoice_number} foreach @{ $billing->{entries} };
			push @rows, [ 'line', @$_{@line_columns}, $billing->{no} ] foreach @{ $billing->{lines} };
			push @rows, [ 'unbilled', $account_id, $period, $billing->{no}, $account->{po}, _balances($account, $billing) ]
			  if _has_something_to_bill($billing);
		}
	}
	for my $memo (@{ $account->{memos} })
	{
		push @rows, [ 'memo', @$memo{qw(account_id memo_number amount balance first_period last_period po void_reason)} ];
		push @rows, [ 'entry', @$memo{qw(account_id memo_number)}, @$_{qw(no type amount balance_after period billing_no service)},
			$_->{reverses} && $_->{reverses}{no}, $invoice_of{$_} ] foreach @{ $memo->{entries} };
	}
	return @rows;
}

# ---- small rules ----

sub _month_of { return defined $_[0] ? substr($_[0], 0, 7) . '-01' : undef }

sub _month_before
{
	my ($year, $month) = split /-/, $_[0];
	return $month == 1 ? sprintf('%d-12-01', $year - 1) : sprintf('%d-%02d-01', $year, $month - 1);
}

sub _no_reason { my ($reason) = @_; return !defined $reason ? '22004' : $reason =~ /\S/ ? undef : '23514' }
sub _is_same { my ($old, $new) = @_; return $old && $new && !any { $old->{$_} ne $new->{$_} } @line_columns }
sub _is_closed { my ($account, $period) = @_; return defined $period && $period le $account->{closed_through} }
sub _is_open { my ($billing) = @_; return !defined $billing->{invoice_number} && !defined $billing->{folded_into} }
sub _open_one { return first { _is_open($_) } @_ }

sub _has_something_to_bill
{
	my ($billing) = @_;
	return _is_open($billing) && (@{ $billing->{lines} } || _credit($billing) != 0);
}

# The account's billings of the period, or all.
sub _billings
{
	my ($account, $period) = @_;
	return defined $period ? @{ $account->{billings}{$period} // [] }
	  : map { @{ $account->{billings}{$_} } } sort keys %{ $account->{billings} };
}

sub _billing_of
{
	my ($self, $line) = @_;
	return first { any { $_ == $line } @{ $_->{lines} } }
	  _billings($self->{account}{ $line->{account_id} }, $line->{service_period});
}

sub _billed
{
	my ($account, $invoice_number, $period) = @_;
	return first { ($_->{invoice_number} // '') eq $invoice_number } _billings($account, $period);
}

# What a billing says: lines, creditable ones, credit, and what is fixed when it is invoiced.
sub _figures
{
	my ($billing) = @_;
	return ($billing->{no}, (sum0 map { $_->{amount} } @{ $billing->{lines} }), _charged($billing), _credit($billing),
		@$billing{qw(po prior_balance balance_after)});
}

# The account's credit before this billing, and what is left for future use after it.
sub _balances
{
	my ($account, $billing) = @_;
	my $balance_after = sum0((map { $_->{balance} } @{ $account->{memos} }),
		map { _credit($_) } grep { _is_open($_) && $_ != $billing } _billings($account));
	return ($balance_after + _credit($billing), $balance_after);
}

# Folds the open billing, if there is one, into another; what had been folded into it goes along.
sub _fold
{
	my ($account, $period, $open, $into) = @_;
	return unless $open;
	push @{ $into->{lines} }, splice @{ $open->{lines} };
	push @{ $into->{entries} }, splice @{ $open->{entries} };
	$_->{folded_into} = $into->{no}
	  foreach grep { $_ == $open || ($_->{folded_into} // 0) == $open->{no} } _billings($account, $period);
}

# ---- settling ----

sub _enter
{
	my ($memo, $call, $type, $amount, %more) = @_;
	$memo->{balance} += $amount;
	die 'balance out of range' if $memo->{balance} < 0 || $memo->{balance} > $memo->{amount};
	my $entry = { %more, no => 1 + @{ $memo->{entries} }, call => $call, memo => $memo, type => $type,
		amount => $amount, balance_after => $memo->{balance} };
	push @{ $memo->{entries} }, $entry;
	return $entry;
}

sub _enter_on_billing
{
	my ($memo, $call, $type, $amount, $period, $billing, %more) = @_;
	push @{ $billing->{entries} },
	  _enter($memo, $call, $type, $amount, %more, period => $period, billing_no => $billing->{no});
}

# The sum of the creditable lines, of a service if it is given.
sub _charged
{
	my ($billing, $service) = @_;
	return sum0 map { $_->{amount} }
	  grep { $_->{creditable} && (!defined $service || $_->{service} eq $service) } @{ $billing->{lines} };
}

# The credit on a billing; if a service is given, that of memos which are limited to it.
sub _credit
{
	my ($billing, $service) = @_;
	return -sum0 map { $_->{amount} }
	  grep { !defined $service || ($_->{service} // '') eq $service } @{ $billing->{entries} };
}

# How much more credit the open billing may hold.
sub _room
{
	my ($account, $period, $open) = @_;
	my @billings = _billings($account, $period);
	return min(max(_charged($open), 0) - _credit($open),
		max((sum0 map { _charged($_) } @billings), 0) - sum0 map { _credit($_) } @billings);
}

# How much more limited memos may pay of a service.
sub _room_for_service
{
	my ($account, $period, $service) = @_;
	my @billings = _billings($account, $period);
	return max((sum0 map { _charged($_, $service) } @billings), 0) - sum0 map { _credit($_, $service) } @billings;
}

sub _eligible
{
	my ($memo, $period) = @_;
	return !defined $memo->{void_reason} && $memo->{first_period} le $period
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

# The applications on a billing, the newest first.
sub _applications
{
	my ($account, $billing) = @_;
	my $n = 0;
	my %rank = map { $_ => $n++ } _order($account);
	return sort {
			 $b->{call} <=> $a->{call}
		  || $rank{ $b->{memo} } <=> $rank{ $a->{memo} }
		  || $b->{no} <=> $a->{no}
	} grep { $_->{type} eq 'apply' } @{ $billing->{entries} };
}

# Returns how much it has released.
sub _release
{
	my ($call, $period, $open, $entry, $at_most) = @_;
	my $amount = max(min(_left($entry), $at_most), 0);
	_enter_on_billing($entry->{memo}, $call, 'release', $amount, $period, $open,
		service => $entry->{service}, reverses => $entry)
	  if $amount > 0;
	return $amount;
}

sub _give_back
{
	my ($account, $call, $period, $open) = @_;
	my @own = _applications($account, $open);
	my @all = (@own, map { _applications($account, $_) } reverse grep { $_ != $open } _billings($account, $period));
	for my $entry (grep { !_eligible($_->{memo}, $period) } @own)
	{
		_release($call, $period, $open, $entry, _left($entry));
	}
	my %too_much;
	for my $entry (grep { defined $_->{service} } @all)
	{
		my $service = $entry->{service};
		$too_much{$service} //= -_room_for_service($account, $period, $service);
		$too_much{$service} -= _release($call, $period, $open, $entry, $too_much{$service});
	}
	my $too_much = -_room($account, $period, $open);
	$too_much -= _release($call, $period, $open, $_, $too_much) foreach @all;
}

# What has expired of a memo and would be restored; of a void one nothing is.
sub _expired
{
	my ($memo) = @_;
	return 0 if defined $memo->{void_reason};
	return -sum0 map { $_->{amount} } grep { $_->{type} =~ /^(expire|restore)$/ } @{ $memo->{entries} };
}

sub _restore
{
	my ($account, $call) = @_;
	for my $memo (grep { !_is_closed($account, $_->{last_period}) } @{ $account->{memos} })
	{
		my $expired = _expired($memo);
		_enter($memo, $call, 'restore', $expired) if $expired > 0;
	}
}

# What is left of memos that may not be spent any more.
sub _write_off
{
	my ($account, $call) = @_;
	for my $memo (grep { $_->{balance} > 0 } @{ $account->{memos} })
	{
		my $type = defined $memo->{void_reason} ? 'void' : _is_closed($account, $memo->{last_period}) ? 'expire' : undef;
		_enter($memo, $call, $type, -$memo->{balance}) if $type;
	}
}

sub _pay
{
	my ($account, $call, $period, $open) = @_;
	for my $memo (grep { $_->{balance} > 0 && _eligible($_, $period) } _order($account))
	{
		my @services = $memo->{services} ? @{ $memo->{services} } : (undef);
		while (@services)
		{
			my %room = map { $_ => _room_for_service($account, $period, $_) } grep { defined } @services;
			@services = sort { $room{$b} <=> $room{$a} || $a cmp $b } @services if %room;
			my $service = shift @services;
			my $amount = min($memo->{balance}, _room($account, $period, $open),
				defined $service ? $room{$service} : ());
			_enter_on_billing($memo, $call, 'apply', -$amount, $period, $open, service => $service) if $amount > 0;
		}
	}
}

sub _settle
{
	my ($self, $call, @account_ids) = @_;
	for my $account (@{ $self->{account} }{ uniq @account_ids })
	{
		my @open = map { [ $_, _open_one(_billings($account, $_)) ] }
		  grep { !_is_closed($account, $_) && _open_one(_billings($account, $_)) } sort keys %{ $account->{billings} };
		_give_back($account, $call, @$_) foreach @open;
		_write_off($account, $call);
		_pay($account, $call, @$_) foreach @open;
	}
}

1;
