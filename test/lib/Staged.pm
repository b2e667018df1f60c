# The lines of a bill, as Bill has them, staged as SQL, in the columns in which AWS delivers them and in all
# the ways to write the same.

package Staged;

use strict;
use warnings;
use Bill qw(is_amazon is_aws);
use Exporter 'import';
use JSON::PP;
use RandomBill qw(any chance);

our @EXPORT_OK = qw(literal column_sets staged);

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

# AWS sells there too.
sub billing_entity
{
	my ($line) = @_;
	return 'AWS' unless defined $line->{publisher};
	return is_amazon($line->{publisher}) ? any('AWS', 'AWS Marketplace') : 'AWS Marketplace';
}

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

# The service is the product's name where it has one.
sub product_name { return $_[0]{has_name} ? $_[0]{service} : undef }
sub product_code { return defined product_name($_[0]) ? 'AmazonSomething' : $_[0]{service} // $_[0]{category} }
sub product_map
{
	my ($line) = @_;
	return any(undef, '{}', '{"region": "us-east-1"}') unless $line->{has_name};
	return JSON::PP->new->encode({ region => 'us-east-1', product_name => $line->{service} });
}

my @names_of_1_0 = ([ ProviderName => 'text', 'provider' ], [ PublisherName => 'text', 'publisher' ]);
my @invoice_id = ([ InvoiceId => 'text', 'invoice' ]);
my @product_code = ([ 'lineItem/ProductCode' => 'text', \&product_code ]);
my %columns = (
	'FOCUS 1.0' => [ @focus, @names_of_1_0, [ InvoiceIssuerName => 'text', sub { 'not read' } ] ],
	'FOCUS 1.2' => [ @focus, @names_of_1_0, @invoice_id, [ BillingAccountType => 'text', sub { 'not read' } ] ],
	'FOCUS 1.3' => [ @focus, @invoice_id, [ InvoiceIssuerName => 'text', 'provider' ], [ ServiceProviderName => 'text', 'publisher' ] ],
	'CUR' => [ @cur, @product_code, [ 'product/ProductName' => 'text', \&product_name ] ],
	'CUR 2.0' => [ @cur, @product_code, [ 'product' => 'json', \&product_map ],
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

sub snake { return lc $_[0] =~ s/(?<=[a-z])(?=[A-Z])/_/gr =~ tr{/}{_}r }
my %spellings = (
	'FOCUS' => [ sub { $_[0] }, sub { lc $_[0] }, sub { uc $_[0] }, \&snake ],
	'CUR' => [ sub { $_[0] }, sub { lc $_[0] }, \&snake ],
	'CUR 2.0' => [ \&snake ],
);

sub scientific
{
	my ($whole, $fraction) = split /\./, $_[0];
	return sprintf '%s%sE%d', $whole, $fraction // '', -length($fraction // '');
}

sub written
{
	my ($column, $value) = @_;
	my ($kind, $type) = @$column{qw(kind type)};
	return any(undef, $type eq 'text' ? '' : ()) unless defined $value;
	return any($value, $value eq 'NaN' ? () : scientific($value)) if $kind eq 'cost';
	return "$value+00" if $type eq 'timestamptz';
	return $kind eq 'time' ? any($value, $value =~ tr/ /T/r . any('', 'Z', '.000Z')) : $value;
}

my %escapes = ("\\" => '\\\\', "\t" => '\t', "\n" => '\n');
sub escaped { return defined $_[0] ? $_[0] =~ s/([\\\t\n])/$escapes{$1}/gr : '\N' }

my %times = (bill => qr/BillingPeriod/, usage => qr/ChargePeriod|UsageStart/, '' => qr/^$/);

# What creates and fills a table of the set's columns, and a view of it by that name.  $without: which column for time
# there is not, 'bill' or 'usage'.
sub staged
{
	my ($name, $set, $without, @lines) = @_;
	my @columns = map { { name => $_->[0], kind => $_->[1], value => $_->[2], type => any(@{ $types{ $_->[1] } }) } }
	  grep { $_->[0] !~ $times{$without} } @{ $columns{$set} };
	my $spelling = any(@{ $spellings{$set} // $spellings{FOCUS} });
	my @rows;
	for my $line ($set =~ /CUR/ ? grep { is_aws($_) } @lines : @lines)
	{
		my $shown = { %$line, has_name => chance(0.5) };
		push @rows, join "\t", map { escaped(written($_, ref $_->{value} ? $_->{value}->($shown) : $shown->{ $_->{value} })) } @columns;
	}
	my $columns = join ', ', map { sprintf '"%s" %s', $spelling->($_->{name}), $_->{type} } @columns;
	return join "\n", "CREATE TABLE public.${name}_rows (dropped text, $columns);", "ALTER TABLE public.${name}_rows DROP dropped;",
	  "COPY public.${name}_rows FROM STDIN;", @rows, '\.', "CREATE VIEW public.$name AS TABLE public.${name}_rows;", '';
}

1;
