# A real bill: staged by COPY, summed to cents by account and service, loaded, and compared with
# sums that Perl computes from the file.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Cwd 'abs_path';
use Math::BigFloat;
use Psql qw(new_database psql books_are_sound);
use Test::More;

my $file = $ENV{FOCUS_SAMPLE};
plan skip_all => 'FOCUS_SAMPLE names no file in FOCUS columns' unless defined $file && -f $file;
$file = abs_path($file);

# the file as Perl reads it: quoted fields, doubled quotes, NULL unquoted for null
open my $bill, '<:utf8', $file or die "$file: $!";
my $text = join '', <$bill>;
close $bill;
my (@rows, @fields);
while ($text =~ /\G(?:"((?:[^"]|"")*)"|([^,\r\n]*))(,|\r?\n|\z)/g)
{
	my ($quoted, $plain, $end) = ($1, $2, $3);
	push @fields, defined $quoted ? $quoted =~ s/""/"/gr : $plain eq 'NULL' ? undef : $plain;
	next if $end eq ',';
	push @rows, [@fields] if @fields > 1;
	@fields = ();
	last if $end eq '';
}
my @columns = @{ shift @rows };
my %index = map { $columns[$_] => $_ } 0 .. $#columns;
my %exact;
for my $row (@rows)
{
	my %line = map { $_ => $row->[ $index{$_} ] }
	  qw(SubAccountId ServiceName BilledCost ChargeCategory ProviderName BillingPeriodStart);
	next unless $line{ProviderName} eq 'AWS' && $line{ChargeCategory} ne 'Credit';
	my $sum = $exact{ $line{SubAccountId} }{ $line{ServiceName} } //= Math::BigFloat->new(0);
	$sum->badd($line{BilledCost});
}
Math::BigFloat->round_mode('common');
my (@expected, $total);
$total = Math::BigFloat->new(0);
for my $account (sort keys %exact)
{
	my $sum = Math::BigFloat->new(0);
	$sum->badd($exact{$account}{$_}->copy->bfround(-2)) foreach keys %{ $exact{$account} };
	$total->badd($sum);
	push @expected, "$account|" . $sum->ffround(-2)->bstr;
}
cmp_ok(scalar @expected, '>', 0, 'the bill has ' . @expected . ' accounts with AWS charges');

my $database = new_database('creditmemo_focus');
my $staged = join ', ', map { qq("$_" text) } @columns;
psql($database, <<"END");
CREATE TABLE public.focus ($staged);
\\copy public.focus FROM '$file' WITH (FORMAT csv, HEADER, NULL 'NULL')
SET search_path = creditmemo, public;
INSERT INTO customer (customer_id, name) VALUES ('ACME', 'Acme');
INSERT INTO payer_account (payer_account_id)
	SELECT DISTINCT "BillingAccountId" FROM focus WHERE "ProviderName" = 'AWS';
INSERT INTO member_account (account_id, payer_account_id, customer_id)
	SELECT DISTINCT "SubAccountId", "BillingAccountId", 'ACME' FROM focus WHERE "ProviderName" = 'AWS';
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account;
INSERT INTO credit_memo (account_id, amount, redeemed_on)
	SELECT account_id, 0.25, '2024-09-01' FROM member_account;
END
my $load = <<'END';
INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, source_id)
	SELECT date_trunc('month', "BillingPeriodStart"::timestamp)::date, "SubAccountId", "ServiceName",
		round(sum("BilledCost"::numeric), 2), "BillingPeriodStart" || "ServiceName"
	FROM public.focus
	WHERE "ProviderName" = 'AWS' AND "ChargeCategory" <> 'Credit'
	GROUP BY "BillingPeriodStart", "SubAccountId", "ServiceName"
	ON CONFLICT (account_id, source_id) DO NOTHING
END
psql($database, $load);

is(psql($database, 'SELECT account_id, utilization FROM creditmemo.billing ORDER BY account_id'),
	join("\n", @expected), 'each account is billed what Perl sums up');
is(psql($database, 'SELECT sum(utilization) FROM creditmemo.unbilled'), $total->ffround(-2)->bstr,
	'and so is the payer');
is(psql($database, 'SELECT bool_and(credit = least(utilization, 0.25)) FROM creditmemo.unbilled WHERE utilization >= 0'),
	't', 'each account is paid from its own memo');
books_are_sound($database);

my $before = psql($database, 'SELECT * FROM creditmemo.billing ORDER BY account_id');
psql($database, $load);
is(psql($database, 'SELECT * FROM creditmemo.billing ORDER BY account_id'), $before,
	'the same bill loaded again changes nothing');

is(psql($database, <<'END'), $total->ffround(-2)->bstr, 'one invoice bills it all');
SET search_path = creditmemo;
SELECT count(*) FROM issue_invoice('SI1', 'ACME', '2024-09-01', '2024-10-05') \g /dev/null
SELECT total_utilization FROM invoice_face;
END
books_are_sound($database, 'the books are sound after the invoice');

done_testing();
