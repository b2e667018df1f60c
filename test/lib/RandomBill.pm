# Random bills, as Bill has them, of payers and member accounts that are in part not registered yet.
#
# The caller's srand decides.  A bill is a hash: seed, customers (by currency), payers, accounts, lines, and
# closed, the last month that is closed, once there is one.

package RandomBill;

use strict;
use warnings;
use utf8;
use Bill qw(is_aws bill_of utilization_of credits_of results_of);
use Exporter 'import';
use List::Util qw(min shuffle);

our @EXPORT_OK = qw(any chance random_bill restated of_lines charges credits results unknown_accounts @months @services);

our @months = qw(2023-11 2023-12 2024-01 2024-02);    # bills are of the last two
our @services = ('Amazon EC2', 'amazon ec2', 'Amazon S3', q(O'Reilly "Books"), 'a:b::c', '# 1 Hosting', 'Übersetzung ☃',
	'back\slash', '50% off_', 'NULL', 'Tax', 'aws:1:2024-01:1:2024-01:creditable:x', undef);
my @aws = ('AWS', 'Amazon Web Services, Inc.', 'AWS EMEA SARL');
my @others = ('Red Hat Inc.', 'Amazonia Oy', 'AWSome Ltd.');

sub any { return $_[ rand @_ ] }
sub chance { return rand() < $_[0] }

# A number with as many digits as its double reads as.
sub as_double
{
	my ($number) = @_;
	my ($digits) = grep { sprintf("%.${_}g", $number) == $number } 15, 16, 17;
	return sprintf "%.${digits}g", $number;
}

# Has no more digits than a double keeps.  Some are used again, so that remainders are equal.
sub random_cost
{
	my ($bill) = @_;
	return $bill->{cost} if defined $bill->{cost} && chance(0.3);
	my $decimals = int rand 12;
	my $cost = any('0', '0.00000000001', '0.00333333333', sprintf('%d.%02d5', rand 9, rand 99), as_double(1 + rand 9),
		map { sprintf '%.*f', $decimals, rand $_ } 0.1, 10, 10**min(6, 15 - $decimals));
	return $bill->{cost} = $cost =~ /[1-9]/ && chance(0.2) ? "-$cost" : $cost;
}

sub random_line
{
	my ($bill) = @_;
	return line_of_another_provider($bill) if chance(0.03);
	my $account = any(@{ $bill->{accounts} });
	my $payer = chance(0.05) ? any(@{ $bill->{payers} }) : $account->{payer};
	my $month = any(@{ $bill->{months} });
	my $line = {
		payer => $payer,
		payer_name => "Payer $payer",
		account => $account->{account_id} eq $payer && chance(0.7) ? undef : $account->{account_id},
		account_name => $account->{name},
		bill => $month,
		month => $bill->{has_corrections} && chance(0.15) ? any(grep { $_ lt $month } @months) : $month,
		cost => random_cost($bill),
		currency => $account->{currency},
		category => any(('Usage') x 5, 'Purchase', 'Tax', 'Adjustment', 'Credit', 'Credit'),
		class => any(undef, undef, 'Correction'),
		service => any(@services),
		description => 'Something, 5% of it',
		provider => any(@aws),
		publisher => any(undef, @aws, @others),
		invoice => any('INV-1', 'INV-2', $bill->{is_final} ? () : undef),
	};
	return $line->{category} eq 'Credit' ? as_credit($bill, $line) : $line;
}

sub as_credit
{
	my ($bill, $line) = @_;
	my $owner = any(undef, "9$bill->{seed}", map { $_->{account_id} } @{ $bill->{accounts} });
	$line->{description} = any('AWS Activate', "Migration, 'phase 2'") . (defined $owner ? ", credit from account: $owner" : '');
	$line->{cost} = "-$line->{cost}" if $line->{cost} =~ /^[\d.]*[1-9]/ && chance(0.8);
	return $line;
}

sub line_of_another_provider
{
	my ($bill) = @_;
	my $month = any(@{ $bill->{months} });
	return { payer => 'elsewhere', account => '/subscriptions/1', bill => $month, month => $month, cost => random_cost($bill),
		currency => 'GBP', category => any('Usage', 'Credit'), service => 'Storage', description => 'something',
		provider => any('Microsoft', @others), publisher => 'Microsoft' };
}

sub random_bill
{
	my ($seed) = @_;
	srand $seed;
	my $id = sprintf '%05d', $seed;
	my $bill = {
		seed => $seed,
		customers => { USD => "C$id", EUR => "E$id" },
		payers => [ map { any('', '0') . "7$id$_" } 1 .. any(1, 2, 3) ],
		months => [ @months[ 2 .. any(2, 3) ] ],
		without => any('', '', 'bill', 'usage'),    # column for time
		is_final => chance(0.5),
	};
	$bill->{has_corrections} = !$bill->{without};
	my @own = map { { account_id => $_, payer => $_, currency => 'USD', name => "Payer $_" } } @{ $bill->{payers} };
	my @members = map { { account_id => "$_$id", payer => any(@{ $bill->{payers} }), currency => any('USD', 'USD', 'EUR'), name => "Account $_" } }
	  ('1', '01', '001', '2', 'A_')[ 0 .. any(1 .. 4) ];
	$bill->{accounts} = [ @own, @members ];
	$_->{is_known} = $_->{currency} eq 'EUR' || chance(0.8) foreach @{ $bill->{accounts} };
	return of_lines($bill, map { random_line($bill) } 1 .. 20 * @{ $bill->{payers} } * @{ $bill->{months} });
}

# Lines changed, dropped and added, sometimes all of an account dropped; but every bill keeps a line, and those
# of closed months all of them.
sub restated
{
	my ($bill) = @_;
	my $dropped = chance(0.3) ? any(@{ $bill->{accounts} })->{account_id} : '';
	my $closed = $bill->{closed} // '';
	my (%is_kept, @lines);
	for my $line (shuffle @{ $bill->{lines} })
	{
		my $is_first = is_aws($line) && !$is_kept{ bill_of($line) }++;
		my $is_dropped = chance(0.1) || ($line->{account} // $line->{payer}) eq $dropped;
		next if $is_dropped && !$is_first && $line->{bill} gt $closed;
		my %change = (cost => random_cost($bill), chance(0.3) ? (service => any(@services)) : ());
		push @lines, { %$line, chance(0.2) && $line->{bill} gt $closed ? %change : () };
	}
	my @new = grep { $_->{bill} gt $closed && $is_kept{ bill_of($_) } } map { random_line($bill) } 1 .. any(0, 3, 10);
	return of_lines($bill, @lines, @new);
}

# ---- what the import of the bill must give, computed once ----

sub of_lines { my ($bill, @lines) = @_; return { %$bill, lines => \@lines, expected => {} } }
sub charges { my ($bill) = @_; return @{ $bill->{expected}{charges} //= [ utilization_of(@{ $bill->{lines} }) ] } }
sub credits { my ($bill) = @_; return @{ $bill->{expected}{credits} //= [ credits_of(@{ $bill->{lines} }) ] } }
sub results { my ($bill) = @_; return @{ $bill->{expected}{results} //= [ results_of(@{ $bill->{lines} }) ] } }

# The accounts on the bill that are not registered before the first import.
sub unknown_accounts
{
	my ($bill) = @_;
	my %is_billed = map { ($_->{account} // $_->{payer}) => 1 } grep { is_aws($_) } @{ $bill->{lines} };
	return grep { !$_->{is_known} && $is_billed{ $_->{account_id} } } @{ $bill->{accounts} };
}

1;
