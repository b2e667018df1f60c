# A real bill, imported straight from the table that COPY filled, the other providers' lines included, and
# compared to the last decimal with what Perl computes from the file.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Bill qw(read_csv is_aws charges_of utilization_of credits_of results_of reconciliation_of total rounded money);
use Cwd 'abs_path';
use Encode 'encode_utf8';
use Psql qw(new_database psql books_are_sound);
use Test::More;

my $file = $ENV{FOCUS_SAMPLE};
plan skip_all => 'FOCUS_SAMPLE names no file in FOCUS columns' unless defined $file && -f $file;
$file = abs_path($file);

my ($columns, @rows) = read_csv($file);
my @lines = map { {
	payer => $_->{BillingAccountId},
	account => $_->{SubAccountId},
	bill => substr($_->{BillingPeriodStart}, 0, 7),
	month => substr($_->{ChargePeriodStart}, 0, 7),
	cost => $_->{BilledCost},
	currency => $_->{BillingCurrency},
	category => $_->{ChargeCategory},
	class => $_->{ChargeClass},
	service => $_->{ServiceName},
	description => $_->{ChargeDescription},
	provider => $_->{ProviderName},
	publisher => $_->{PublisherName},
	invoice => $_->{InvoiceId},
} } @rows;
my @charges = utilization_of(@lines);
my $others = grep { !is_aws($_) } @lines;
cmp_ok(scalar @charges, '>', 0, sprintf 'the file has %d lines of AWS, %d of others', @lines - $others, $others);

sub rows_are
{
	my ($database, $name, $query, @rows) = @_;
	return is(join("\n", sort split /\n/, psql($database, $query)), encode_utf8(join "\n", sort map { join '|', map { $_ // '' } @$_ } @rows), $name);
}

my $database = new_database('creditmemo_focus');
psql($database, sprintf <<'END', join(', ', map { qq("$_" text) } @$columns), $file);
CREATE TABLE public.focus (%s);
\copy public.focus FROM '%s' WITH (FORMAT csv, HEADER, NULL 'NULL')
INSERT INTO creditmemo.customer (customer_id, name) VALUES ('ACME', 'Acme');
END
my $import = q(SELECT payer_account_id, to_char(billing_period, 'YYYY-MM'), currency, lines_read, corrections_read, lines_inserted, lines_unchanged,
	trim_scale(exact_total), rounded_total, trim_scale(rounding_difference), credits_read, trim_scale(exact_credit), rounded_credit, is_final
	FROM creditmemo.import_focus('public.focus', 'ACME'));
my @figures = qw(exact_total rounded_total rounding_difference credits_read exact_credit rounded_credit is_final);

# what import returns when it inserts all lines of a bill, or none
sub results
{
	my ($is_new) = @_;
	return map {
		my $result = $_;
		my $lines = grep { "$_->{payer_account_id}|$_->{bill}|$_->{currency}" eq $result->{bill} } @charges;
		[ @$result{qw(bill lines_read corrections_read)}, $is_new ? ($lines, 0) : (0, $lines), @$result{@figures} ]
	} results_of(@lines);
}

# the notices come with the rows
my @said = split /\n/, psql($database, $import);
is(join("\n", sort grep { !/NOTICE/ } @said), join("\n", sort map { join '|', @$_ } results(1)), 'import says what Perl sums up');
cmp_ok(scalar(grep { /\b$others of other providers/ } @said), '==', 1, 'and how many lines are of others');

rows_are($database, 'the lines are those of Perl', <<'END', map { [ @$_{qw(account_id source_id service_period service description)}, money($_->{amount}), $_->{creditable} ] } @charges);
SELECT account_id, source_id, service_period, service, description, amount, creditable FROM creditmemo.utilization
END
my %billed;
push @{ $billed{"$_->{account_id}|$_->{service_period}"} }, $_ foreach charges_of(@lines);
delete @billed{ grep { !grep { $_->{amount} != 0 } @{ $billed{$_} } } keys %billed };
rows_are($database, 'each account is billed its exact total, rounded', 'SELECT account_id, service_period, utilization FROM creditmemo.billing',
	map { [ $_, money(rounded(total(map { $_->{exact} } @{ $billed{$_} }))) ] } keys %billed);
rows_are($database, 'the credits are those of Perl', <<'END', map { [ @$_{qw(account_id owner_account_id provider_credit_id service_period service)}, money($_->{amount}) ] } credits_of(@lines));
SELECT account_id, owner_account_id, provider_credit_id, service_period, service, amount FROM creditmemo.provider_credit
END
my $months = reconciliation_of(@lines);
rows_are($database, 'and so is what spilled', <<'END', map { [ $_, map { money($_) } @{ $months->{$_} }{qw(applied owned spill_in spill_out)} ] } keys %$months);
SELECT payer_account_id, account_id, service_period, aws_applied, aws_owned, spill_in, spill_out FROM creditmemo.credit_reconciliation
END
SKIP: {
	skip 'another file', 1 unless grep { /391835788720/ } map { $_->{description} } @lines;
	rows_are($database, 'the credit of -8720 went to -0204', 'SELECT account_id, owner_account_id, amount FROM creditmemo.provider_credit',
		[ '11353890204', '391835788720', '-2.61' ]);
}
books_are_sound($database);

psql($database, <<'END');
INSERT INTO creditmemo.po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM creditmemo.member_account;
INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on) SELECT account_id, 0.25, '2019-01-01' FROM creditmemo.member_account;
END
is(psql($database, 'SELECT bool_and(credit = least(greatest(creditable, 0), 0.25)) FROM creditmemo.billing'), 't', 'each account is paid from its own memo');

my $all = join ' UNION ALL ', map { "SELECT xmin::text, t::text FROM creditmemo.$_ t" } qw(utilization provider_credit billing memo_entry member_account);
my $before = psql($database, "$all ORDER BY 2");
rows_are($database, 'the same bill again: import says that it is unchanged', "SET client_min_messages = warning; $import", results(0));
is(psql($database, "$all ORDER BY 2"), $before, 'and changes nothing');

my $total = money(total(map { $_->{amount} } @charges));
is(psql($database, <<'END'), $total, 'one invoice a month bills it all');
SET search_path = creditmemo;
SELECT count(*) FROM (SELECT DISTINCT service_period FROM unbilled) months, issue_invoice('SI' || service_period, 'ACME', service_period) \g /dev/null
SELECT sum(total_utilization) FROM invoice_face;
END
books_are_sound($database, 'the books are sound after the invoice');

done_testing();
