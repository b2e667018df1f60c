# What the import of a bill must give, computed from its lines, exactly.
#
# A line is a hash: payer, account (undef: the payer's own), bill and month (YYYY-MM), cost (decimal
# text), currency, category, class, service, description, provider, publisher, invoice; undef is null.

package Bill;

use strict;
use warnings;
use Exporter 'import';
use List::Util qw(uniq);
use Math::BigInt;

our @EXPORT_OK = qw(read_csv is_amazon is_aws bill_of charges_of utilization_of credits_of results_of reconciliation_of
	total rounded money);

# ---- amounts: integers of 10^-20; in cents once they are rounded ----

my $places = 20;
my $cent = Math::BigInt->new(10)->bpow($places - 2);

sub units
{
	my ($sign, $whole, $fraction) = $_[0] =~ /^(-?)(\d*)\.?(\d*)$/ or die "not a decimal: $_[0]";
	return Math::BigInt->new($sign . $whole . $fraction . '0' x ($places - length $fraction));
}

sub point
{
	my ($integer, $decimals) = @_;
	my $digits = sprintf '%0*s', $decimals + 1, $integer->copy->babs->bstr;
	substr $digits, -$decimals, 0, '.';
	return ($integer->is_neg ? '-' : '') . $digits;
}

sub money { return point($_[0], 2) }
sub exact { return point($_[0], $places) =~ s/\.?0+$//r }

sub total
{
	my $total = Math::BigInt->bzero;
	$total->badd($_) foreach @_;
	return $total;
}

# Half a cent away from zero.
sub rounded
{
	my ($units) = @_;
	my $cents = ($units->copy->babs + $cent / 2) / $cent;
	return $units->is_neg ? -$cents : $cents;
}

# Gives the groups amounts that sum to their rounded exact total: the largest remainders are rounded up.
sub round_together
{
	my (@groups) = @_;
	($_->{amount}, $_->{remainder}) = $_->{exact}->copy->bdiv($cent) foreach @groups;
	my $missing = rounded(total(map { $_->{exact} } @groups)) - total(map { $_->{amount} } @groups);
	my @first = sort { $b->{remainder} <=> $a->{remainder} || $a->{tie} cmp $b->{tie} } @groups;
	$_->{amount}->binc foreach @first[ 0 .. $missing - 1 ];
}

# ---- lines ----

sub is_amazon { return $_[0] =~ /^(AWS|Amazon)\b/ }
sub is_aws { return is_amazon($_[0]{provider}) }
sub is_credit { return $_[0]{category} eq 'Credit' }
sub account { return $_[0]{account} // $_[0]{payer} }
sub service { return $_[0]{service} // $_[0]{category} }

# The lines summed by key and rounded within bill, account and service period.  describe(line) gives
# what distinguishes lines there, and the first line's other values.
sub summed
{
	my ($describe, @lines) = @_;
	my %months;
	for my $line (@lines)
	{
		my ($tie, %values) = $describe->($line);
		my $group = $months{ join '|', $line->{payer}, $line->{bill}, account($line), $line->{month} }{$tie} //= {
			%values, tie => $tie, exact => Math::BigInt->bzero,
			account_id => account($line), payer_account_id => $line->{payer}, bill => $line->{bill},
			currency => $line->{currency}, service_period => "$line->{month}-01", service => service($line),
		};
		$group->{exact}->badd(units($line->{cost}));
	}
	round_together(values %$_) foreach values %months;
	return map { values %$_ } values %months;
}

my %descriptions = (tax => 'Tax', marketplace => 'Marketplace');

# What the bills charge by account, period, service and kind, as hashes of utilization's columns and more.
sub charges_of
{
	return summed(sub {
		my ($line) = @_;
		my $kind = $line->{category} eq 'Tax' ? 'tax' : is_amazon($line->{publisher} // 'AWS') ? 'charge' : 'marketplace';
		return (join("\0", service($line), $kind), description => $descriptions{$kind}, creditable => $kind eq 'charge' ? 't' : 'f',
			source_id => join ':', 'aws', @$line{qw(payer bill)}, 1, $line->{month}, $kind, service($line));
	}, grep { is_aws($_) && !is_credit($_) } @_);
}

# Those of them that become utilization: what comes to 0.00 does not.
sub utilization_of { return grep { $_->{amount} != 0 } charges_of(@_) }

# The provider credits of the bills, likewise.
sub credits_of
{
	return summed(sub {
		my ($line) = @_;
		my ($id, $owner) = $line->{description} =~ /^(.*?)(?:, credit from account: (\d+))?$/;
		return (join("\0", service($line), $line->{description}),
			provider_credit_id => $id, owner_account_id => $owner, description => $line->{description});
	}, grep { is_aws($_) && is_credit($_) } @_);
}

sub bill_of { my ($line) = @_; return join '|', $line->{payer_account_id} // $line->{payer}, @$line{qw(bill currency)} }

# What import says of each payer, bill and currency, except what it did with the lines.
sub results_of
{
	my (@lines) = grep { is_aws($_) } @_;
	my @charges = charges_of(@lines);
	my @credits = credits_of(@lines);
	my @results;
	for my $bill (uniq map { bill_of($_) } @lines)
	{
		my @here = grep { bill_of($_) eq $bill } @lines;
		my ($charged, $credited) = map { total(map { $_->{exact} } grep { bill_of($_) eq $bill } @$_) } \@charges, \@credits;
		my ($billed, $credit) = map { total(map { $_->{amount} } grep { bill_of($_) eq $bill } @$_) } \@charges, \@credits;
		my @late = grep { $_->{month} lt $_->{bill} } @here;
		my @corrections = grep { $_->{month} lt $_->{bill} || ($_->{class} // '') eq 'Correction' } @here;
		push @results, { bill => $bill, lines_read => scalar @here, late => scalar @late, corrections_read => scalar @corrections,
			exact_total => exact($charged), rounded_total => money($billed), rounding_difference => exact($billed * $cent - $charged),
			credits_read => scalar grep({ is_credit($_) } @here), exact_credit => exact($credited), rounded_credit => money($credit),
			is_final => (grep { !defined $_->{invoice} } @here) ? 'f' : 't' };
	}
	return @results;
}

# AWS's credit of each payer, account and period: what the account got, what was its own, and what others
# got of it or it got of others.
sub reconciliation_of
{
	my %months;
	for my $credit (credits_of(@_))
	{
		my ($receiver, $credited) = ($credit->{account_id}, -$credit->{amount});
		my $owner = $credit->{owner_account_id} // $receiver;
		my %figures = ($receiver => ['applied']);
		push @{ $figures{$receiver} }, $owner eq $receiver ? 'owned' : 'spill_in';
		push @{ $figures{$owner} }, 'owned', 'spill_out' if $owner ne $receiver;
		for my $account (keys %figures)
		{
			my $month = $months{"$credit->{payer_account_id}|$account|$credit->{service_period}"} //=
			  { map { $_ => Math::BigInt->bzero } qw(applied owned spill_in spill_out) };
			$month->{$_} += $_ eq 'spill_out' ? -$credited : $credited foreach @{ $figures{$account} };
		}
	}
	return \%months;
}

# ---- files ----

# The columns of a CSV file, and its rows as hashes: quoted fields, doubled quotes, NULL or nothing unquoted for null.
sub read_csv
{
	my ($file) = @_;
	open my $csv, '<:utf8', $file or die "$file: $!";
	my $text = join '', <$csv>;
	close $csv;
	my (@rows, @fields);
	while ($text =~ /\G(?:"((?:[^"]|"")*)"|([^,\r\n]*))(,|\r?\n|\z)/g)
	{
		my ($quoted, $plain, $end) = ($1, $2, $3);
		push @fields, defined $quoted ? $quoted =~ s/""/"/gr : $plain =~ /^(NULL)?$/ ? undef : $plain;
		next if $end eq ',';
		push @rows, [@fields] if @fields > 1;
		@fields = ();
		last if $end eq '';
	}
	my @columns = @{ shift @rows };
	return (\@columns, map { my %row; @row{@columns} = @$_; \%row } @rows);
}

1;
