# Invoices: their figures by the views, what their pages say, and what those must say by the figures.
# Amounts are cents.

package Invoices;

use strict;
use warnings;
use Email qw(cents money month_text day_text);
use Exporter 'import';
use List::Util qw(uniq);
use Page qw(find texts);
use Psql qw(rows_of);

our @EXPORT_OK = qw(read_invoices page_of expected_page);

my @amounts = qw(total_utilization balance_due utilization credit_applied due prior_balance balance_of_funds);

# All of them, or those for which a condition is true; each with its accounts and their lines by service.
sub read_invoices
{
	my ($database, $condition) = @_;
	$condition //= 'true';
	my @invoices = map { $_->{invoice} } rows_of($database, <<SQL);
SELECT to_jsonb(f) || jsonb_build_object('accounts', (
	SELECT json_agg(to_jsonb(b) || jsonb_build_object('lines', (
		SELECT coalesce(json_agg(l ORDER BY service COLLATE "C"), '[]')
		FROM (SELECT invoice_number, account_id, service, utilization::text FROM creditmemo.invoice_line) l
		WHERE l.invoice_number = f.invoice_number AND l.account_id = b.account_id)) ORDER BY account_id)
	FROM (
		SELECT invoice_number, account_id, account_name, billing_no, po_number, utilization::text,
			credit_applied::text, due::text, prior_balance::text, balance_of_funds::text
		FROM creditmemo.invoice_body) b
	WHERE b.invoice_number = f.invoice_number)) AS invoice
FROM (
	SELECT invoice_number, customer_id, customer_name, service_period, invoice_date, due_date, po_numbers, currency,
		voided_at, total_utilization::text, credit_applied::text, balance_due::text
	FROM creditmemo.invoice_face WHERE $condition) f
ORDER BY f.invoice_number
SQL
	count_cents($_) foreach map { ($_, map { ($_, @{ $_->{lines} }) } @{ $_->{accounts} }) } @invoices;
	return @invoices;
}

sub count_cents { my ($row) = @_; $row->{$_} = cents($row->{$_}) foreach grep { exists $row->{$_} } @amounts }

# The figures of a page, by their classes.
sub page_of
{
	my ($page) = @_;
	return {
		title => join('|', texts($page, 'head title')),
		heading => join('|', texts($page, 'h1')),
		void => [ texts($page, 'p.void') ],
		customer => [ texts($page, 'div.customer bdi') ],
		facts => [ map { row_of($_, 'td') } grep { !is_account($_) } find($page, 'table.facts tr') ],
		face => [ map { row_of($_, 'td.amount') } find($page, 'table.face tr') ],
		accounts => [ map { account_row($_) } find($page, 'table.accounts tbody tr') ],
		due_to_you => [ grep { / is due to you/ } texts($page, 'p.payment') ],
		total => [ map { amounts($_, qw(total-utilization credit-applied balance-due)) } find($page, 'table.accounts tfoot tr.total') ],
		lines => [ map { lines_of($_) } find($page, 'table.lines tbody') ],
		supplementary => scalar(find($page, '.supplementary')),
		remittance => scalar(find($page, 'div.remittance')),
	};
}

sub row_of { my ($row, $cells) = @_; return [ @{ $row->{classes} }, texts($row, $cells) ] }
sub is_account { my ($row) = @_; return grep { $_ eq 'account' } @{ $row->{classes} } }

sub amounts { my ($row, @classes) = @_; return map { my $class = $_; [ texts($row, "td.amount.$class") ] } @classes }

sub account_row
{
	my ($row) = @_;
	my @amounts = amounts($row, qw(utilization credit-applied due));
	return [ [ texts($row, 'td.account bdi') ], [ texts($row, 'td.po-number') ], @amounts ];
}

sub lines_of
{
	my ($body) = @_;
	my @lines = map { [ texts($_, 'td.service'), texts($_, 'td.amount') ] } find($body, 'tr.line');
	return [ [ texts($body, 'tr.account bdi') ], @lines ];
}

sub names_of { my ($account) = @_; return [ grep { defined } @$account{qw(account_name account_id)} ] }

sub expected_page
{
	my ($invoice, $has_remittance) = @_;
	my $money = sub { money($_[0], $invoice->{currency}) };
	my $credit = sub { $_[0] == 0 ? '' : $money->($_[0]) };
	my @accounts = @{ $invoice->{accounts} };
	my $is_single = @accounts == 1;
	my ($utilization, $applied, $due) = @$invoice{qw(total_utilization credit_applied balance_due)};
	return {
		title => "Invoice $invoice->{invoice_number}",
		heading => 'Invoice',
		void => defined $invoice->{voided_at} ? ['VOID'] : [],
		customer => [ $invoice->{customer_name} ],
		facts => [
			[ 'invoice-number', $invoice->{invoice_number} ],
			[ 'invoice-date', day_text($invoice->{invoice_date}) ],
			$due > 0 ? [ 'due-date', day_text($invoice->{due_date}) ] : (),
			[ 'service-period', month_text($invoice->{service_period}) ],
			(map { [ 'po-number', $_ ] } common_po_number(@accounts)),
			[ 'customer-id', $invoice->{customer_id} ]
		],
		face => !$is_single ? [] : [
			[ 'total-utilization', $money->($utilization) ],
			$applied ? [ 'credit-applied', $money->($applied) ] : (),
			[ 'balance-due', $money->($due) ]
		],
		accounts => $is_single ? [] : [ map {
			[ names_of($_), [ $_->{po_number} // '' ], [ $money->($_->{utilization}) ],
				[ $credit->($_->{credit_applied}) ], [ $money->($_->{due}) ] ]
		} @accounts ],
		due_to_you => [ $due < 0 ? money(-$due, $invoice->{currency}) . ' is due to you.' : () ],
		total => $is_single ? [] : [ [ $money->($utilization) ], [ $credit->($applied) ], [ $money->($due) ] ],
		lines => [ map {
			[ $is_single ? [] : names_of($_), map { [ $_->{service}, $money->($_->{utilization}) ] } @{ $_->{lines} } ]
		} grep { @{ $_->{lines} } } @accounts ],
		supplementary => occurrences($is_single, @accounts),
		remittance => $has_remittance && $due > 0 ? 1 : 0,
	};
}

# None where accounts differ.
sub common_po_number
{
	my ($po_number, @others) = uniq(map { $_->{po_number} // '' } @_);
	return @others || $po_number eq '' ? () : $po_number;
}

# Of several accounts each stands in the body and above its lines.
sub occurrences
{
	my ($is_single, @accounts) = @_;
	my @supplementary = grep { $_->{billing_no} > 1 } @accounts;
	return @supplementary + ($is_single ? 0 : grep { @{ $_->{lines} } } @supplementary);
}

1;
