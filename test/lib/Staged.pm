# A bill's lines, as Bill has them, as staging tables in the columns in which AWS delivers them.

package Staged;

use strict;
use warnings;
use Exporter 'import';
use Bill qw(is_aws);
use JSON::PP;

our @EXPORT_OK = qw(any literal column_sets staged);

my $json = JSON::PP->new;

sub any { return $_[ rand @_ ] }
sub literal { return defined $_[0] ? sprintf "'%s'", $_[0] =~ s/'/''/gr : 'NULL' }

# ---- columns: name, kind, and the line's key or what makes its value of the line ----

sub bill_start { return "$_[0]{bill}-01 00:00:00" }
sub usage_start { return $_[0]{month} . sprintf '-%02d %02d:00:00', 1 + int rand 28, int rand 24 }

my @focus = (
	[ BillingAccountId => 'text', 'payer' ],
	[ BillingAccountName => 'text', 'payer_name' ],
	[ SubAccountId => 'text', 'account' ],
	[ SubAccountName => 'text', 'account_name' ],
	[ BilledCost => 'cost', 'cost' ],
	[ BillingCurrency => 'text', 'currency' ],
	[ BillingPeriodStart => 'time', \&bill_start ],
	[ ChargePeriodStart => 'time', \&usage_start ],
	[ ChargeCategory => 'text', 'category' ],
	[ ChargeClass => 'text', 'class' ],
	[ ChargeDescription => 'text', 'description' ],
	[ ServiceName => 'text', 'service' ],
	[ EffectiveCost => 'text', sub { any('0', 'not read') } ],
);

my %line_types = (
	Usage => [qw(Usage DiscountedUsage SavingsPlanCoveredUsage SavingsPlanNegation EdpDiscount BundledDiscount)],
	Purchase => [qw(Fee RIFee SavingsPlanUpfrontFee SavingsPlanRecurringFee)],
	Adjustment => ['Refund'],
	Tax => ['Tax'],
	Credit => ['Credit'],
);

sub is_third_party { return ($_[0]{publisher} // 'AWS') !~ /^(AWS|Amazon)\b/ }
sub billing_entity { return is_third_party($_[0]) ? 'AWS Marketplace' : any('AWS', defined $_[0]{publisher} ? 'AWS Marketplace' : ()) }

my @cur = (
	[ 'bill/PayerAccountId' => 'text', 'payer' ],
	[ 'bill/InvoiceId' => 'text', 'invoice' ],
	[ 'bill/BillingEntity' => 'text', \&billing_entity ],
	[ 'bill/BillingPeriodStartDate' => 'time', \&bill_start ],
	[ 'lineItem/UsageAccountId' => 'text', 'account' ],
	[ 'lineItem/LineItemType' => 'text', sub { any(@{ $line_types{ $_[0]{category} } }) } ],
	[ 'lineItem/UsageStartDate' => 'time', \&usage_start ],
	[ 'lineItem/UnblendedCost' => 'cost', 'cost' ],
	[ 'lineItem/CurrencyCode' => 'text', 'currency' ],
	[ 'lineItem/LineItemDescription' => 'text', 'description' ],
	[ 'lineItem/LegalEntity' => 'text', 'publisher' ],
);

sub has_name { return $_[0]{has_product_name} }
sub product_name { return has_name($_[0]) ? $_[0]{service} : undef }
sub product_code { return defined product_name($_[0]) ? 'AmazonSomething' : $_[0]{service} // $_[0]{category} }
sub product_map
{
	my ($line) = @_;
	return $json->encode({ region => 'eu-central-1', product_name => $line->{service} }) if has_name($line);
	return any(undef, '{}', '{"region": "us-east-1"}');
}

my @columns_of_agreements = ([ ProviderName => 'text', 'provider' ], [ PublisherName => 'text', 'publisher' ]);
my %columns = (
	'FOCUS 1.0' => [ @focus, @columns_of_agreements, [ InvoiceIssuerName => 'text', sub { 'somebody' } ] ],
	'FOCUS 1.2' => [ @focus, @columns_of_agreements, [ InvoiceId => 'text', 'invoice' ], [ BillingAccountType => 'text', sub { '' } ] ],
	'FOCUS 1.3' => [ @focus, [ InvoiceId => 'text', 'invoice' ],
		[ InvoiceIssuerName => 'text', 'provider' ], [ ServiceProviderName => 'text', 'publisher' ] ],
	'CUR' => [ @cur, [ 'product/ProductName' => 'text', \&product_name ], [ 'lineItem/ProductCode' => 'text', \&product_code ] ],
	'CUR 2.0' => [ @cur, [ 'product' => 'json', \&product_map ], [ 'lineItem/ProductCode' => 'text', \&product_code ],
		[ 'lineItem/UsageAccountName' => 'text', 'account_name' ], [ 'bill/PayerAccountName' => 'text', 'payer_name' ] ],
);

sub column_sets { return sort keys %columns }

# ---- how they are written: types, cases and forms that mean the same ----

my %types = (
	text => ['text'],
	json => [ 'text', 'json', 'jsonb' ],
	cost => [ 'text', 'numeric', 'double precision' ],
	time => [ 'text', 'date', 'timestamp', 'timestamptz' ],
);

# A name's words apart; CUR 2.0's names are always like that.
sub snake { return lc $_[0] =~ s/(?<=[a-z])(?=[A-Z])/_/gr =~ tr{/}{_}r }
my %spellings = (
	'FOCUS' => [ sub { $_[0] }, sub { lc $_[0] }, sub { uc $_[0] }, \&snake ],
	'CUR' => [ sub { $_[0] }, sub { lc $_[0] }, \&snake ],
	'CUR 2.0' => [ \&snake ],
);

sub scientific
{
	my ($sign, $whole, $fraction) = $_[0] =~ /^(-?)(\d+)(?:\.(\d+))?$/;
	return sprintf '%s%sE%d', $sign, $whole . ($fraction // ''), -length($fraction // '');
}

sub written
{
	my ($column, $value) = @_;
	my ($kind, $type) = @$column{qw(kind type)};
	return any(undef, $type eq 'text' ? '' : ()) unless defined $value;
	return any($value, scientific($value)) if $kind eq 'cost';
	return "$value+00" if $type eq 'timestamptz';
	return $kind eq 'time' ? any($value, $value =~ tr/ /T/r . any('', 'Z', '.000Z')) : $value;
}

sub escaped { return defined $_[0] ? $_[0] =~ s/([\\\t\n])/{ "\\" => "\\\\", "\t" => "\\t", "\n" => "\\n" }->{$1}/ger : '\\N' }

# What creates and fills a table and a view of it.  %options: without, the one of the two columns for
# time ('bill', 'usage') that there is not.
sub staged
{
	my ($name, $set, $lines, %options) = @_;
	my $without = { bill => qr/BillingPeriod/, usage => qr/ChargePeriod|UsageStart/ }->{ $options{without} // '' } // qr/^$/;
	my @columns = map { { name => $_->[0], kind => $_->[1], value => $_->[2], type => any(@{ $types{ $_->[1] } }) } }
	  grep { $_->[0] !~ $without } @{ $columns{$set} };
	my $spelling = any(@{ $spellings{$set} // $spellings{FOCUS} });
	my @rows;
	for my $line ($set =~ /CUR/ ? grep { is_aws($_) } @$lines : @$lines)
	{
		my $shown = { %$line, has_product_name => rand() < 0.5 };
		push @rows, join "\t", map { escaped(written($_, ref $_->{value} ? $_->{value}->($shown) : $shown->{ $_->{value} })) } @columns;
	}
	return join "\n",
	  sprintf('CREATE TABLE public.%s_rows (dropped text, %s);', $name, join ', ', map { sprintf '"%s" %s', $spelling->($_->{name}), $_->{type} } @columns),
	  "ALTER TABLE public.${name}_rows DROP dropped;", "COPY public.${name}_rows FROM STDIN;", @rows, '\.',
	  "CREATE VIEW public.$name AS TABLE public.${name}_rows;", '';
}

1;
