# The e-mail that submits an invoice, once more and in another way: from the figures of invoice_face
# and invoice_body, and the sentences as README.md has them.  What the tests compare email_text() and
# email_html() with.  Amounts are cents.

package Email;

use strict;
use warnings;
use Exporter 'import';
use List::Util qw(max uniq);

our @EXPORT_OK = qw(cents money month_text day_text filled filled_text paragraphs balances values_of email_text built_in_text);

my @months = qw(January February March April May June July August September October November December);
my $width = 60;    # columns; amounts end in the last

sub cents
{
	my ($amount) = @_;
	my ($minus, $whole, $part) = $amount =~ /^(-?)([0-9]+)(?:\.([0-9]{1,2}))?$/ or die "no amount: $amount";
	return ($minus ? -1 : 1) * ($whole . substr(($part // '') . '00', 0, 2));
}

# Not List::Util's, which counted in floating point once.
sub total { my $sum = 0; $sum += $_ foreach @_; return $sum }

sub money
{
	my ($cents, $currency) = @_;
	my ($whole, $part) = sprintf('%03d', abs $cents) =~ /^([0-9]+)([0-9]{2})$/;
	1 while $whole =~ s/^([0-9]+)([0-9]{3})/$1,$2/;
	return ($cents < 0 ? '-' : '') . ($currency eq 'USD' ? '$' : "$currency ") . "$whole.$part";
}

sub month_text { my ($year, $month) = split /-/, $_[0]; return sprintf '%s %d', $months[ $month - 1 ], $year }
sub day_text { my ($year, $month, $day) = split /-/, $_[0]; return sprintf '%s %d, %d', $months[ $month - 1 ], $day, $year }

# The accounts on the invoice that have or had credit.
sub with_credit
{
	my ($invoice) = @_;
	return grep { $_->{prior_balance} != 0 || $_->{credit_applied} != 0 } @{ $invoice->{accounts} };
}

# What credit did.
sub credit_clause
{
	my ($invoice, $paid, $returned) = @_;
	my ($utilization, $due) = @$invoice{qw(total_utilization balance_due)};
	my ($of, $paid_text, $returned_text) = map { money($_, $invoice->{currency}) } $utilization, $paid, $returned;
	my $by_credit = 'paid for by your credit balance';
	return "$paid_text has been $by_credit, $returned_text has been returned to it" if $paid && $returned;
	return "$returned_text has been returned to your credit balance" if $returned;
	return "This has been $by_credit" if $paid && $due == 0;
	return "Of $of, $paid_text has been $by_credit" if $paid && $due > 0;
	return "$paid_text has been $by_credit" if $paid;
	return "None of it could be $by_credit" if $due > 0;
	return 'None of your credit balance has been used';
}

sub credit_sentence
{
	my ($invoice, @accounts) = @_;
	my $paid = total(map { max(0, -$_->{credit_applied}) } @accounts);
	my $returned = total(map { max(0, $_->{credit_applied}) } @accounts);
	my $funds = total(map { $_->{balance_of_funds} } @accounts);
	my $left = money(abs $funds, $invoice->{currency});
	return join ', and ', credit_clause($invoice, $paid, $returned),
	  $funds < 0 ? "$left of it will be returned by an invoice to follow." : "$left remains for future use.";
}

sub due_sentence
{
	my ($invoice) = @_;
	my $due = $invoice->{balance_due};
	my $amount = money(abs $due, $invoice->{currency});
	return "$amount is due to you." if $due < 0;
	return $due > 0 ? "$amount is due by " . day_text($invoice->{due_date}) . '.' : ();
}

sub summary
{
	my ($invoice) = @_;
	my @accounts = with_credit($invoice);
	my @sentences = (@accounts ? credit_sentence($invoice, @accounts) : (), due_sentence($invoice));
	return join '  ', @sentences ? @sentences : 'Nothing is due.';
}

# For each account with credit the heading that it has where several are on the invoice, and the figures:
# label and amount.
sub balances
{
	my ($invoice) = @_;
	my $money = sub { money($_[0], $invoice->{currency}) };
	my $utilization = month_text($invoice->{service_period}) . " Utilization $invoice->{invoice_number}:";
	my $is_multiple = @{ $invoice->{accounts} } > 1;
	return map {
		{
			heading => $is_multiple ? 'Member account ending in -' . substr($_->{account_id}, -4) : undef,
			figures => [
				[ 'Prior Balance of Credit', $money->($_->{prior_balance}) ],
				[ $utilization, $money->($_->{credit_applied}) ],
				[ 'Balance of Funds:', $money->($_->{balance_of_funds}) ]
			],
		}
	} with_credit($invoice);
}

# Columns of a terminal.
sub width_of
{
	my ($text) = @_;
	my $wide = () = $text =~ /[\p{East_Asian_Width=Wide}\p{East_Asian_Width=Fullwidth}]/g;
	my $none = () = $text =~ /\p{Nonspacing_Mark}/g;
	return length($text) + $wide - $none;
}

sub figure_text
{
	my ($label, $amount) = @_;
	return $label . ' ' x max(2, $width - width_of($label) - length($amount)) . $amount;
}

sub balances_text
{
	my ($invoice) = @_;
	return join "\n\n", map {
		join "\n", $_->{heading} // (), map { figure_text(@$_) } @{ $_->{figures} }
	} balances($invoice);
}

# The values of the placeholders, the seller's apart.
sub values_of
{
	my ($invoice) = @_;
	my $money = sub { money($_[0], $invoice->{currency}) };
	my @accounts = @{ $invoice->{accounts} };
	return (
		(map { $_ => $invoice->{$_} } qw(invoice_number customer_id customer_name)),
		service_period => month_text($invoice->{service_period}),
		service_period_iso => substr($invoice->{service_period}, 0, 7),
		(map { ($_ => day_text($invoice->{$_}), "${_}_iso" => $invoice->{$_}) } qw(invoice_date due_date)),
		po_number => join(', ', sort(uniq(grep { defined } map { $_->{po_number} } @accounts))),
		(map { $_ => $money->($invoice->{$_}) } qw(total_utilization credit_applied balance_due)),
		(map { my $column = $_; $column => $money->(total(map { $_->{$column} } @accounts)) } qw(prior_balance balance_of_funds)),
		summary => summary($invoice),
		balances => balances_text($invoice));
}

sub filled
{
	my ($template, %values) = @_;
	return $template =~ s<(\{\{|\}\}|\{([a-z_]+)\})><defined $2 ? $values{$2} // '' : substr $1, 0, 1>ger;
}

# The paragraphs of a template filled in; those that come out blank are left out.
sub paragraphs
{
	my ($template, %values) = @_;
	return grep { /\S/a } map { filled($_, %values) } split /\n(?:[ \t\x0b\f]*\n)+/, $template =~ s/\r\n?/\n/gr;
}

sub filled_text { my ($template, %values) = @_; return join "\n\n", map { s/\s+\z//ar } paragraphs($template, %values) }

sub built_in_text { return "Dear Customer,\n\nAttached is your AWS utilization for {service_period}.  {summary}\n\n{balances}" }
sub email_text { my ($invoice) = @_; return filled_text(built_in_text(), values_of($invoice)) }

1;
