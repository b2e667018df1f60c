# Text as nobody writes it, but somebody might: any characters that PostgreSQL can hold, in books of which
# documents are made.

package HostileText;

use strict;
use warnings;
no warnings 'nonchar';
use Exporter 'import';
use Page qw(squeezed);
use Stories qw(literal called insert);

our @EXPORT_OK = qw(shown one_line hostile_text hostile_texts hostile_books);

my @pieces = (
	'<', '>', '&', '"', "'", '{', '}', '{{', '}}', '{}', '{summary}', '{balances}', '%', '%s', '$1', '\\', '\\1', '|', '--', ' ', '  ',
	"\n", "\n\n", "\r\n", "\r", "\t", "\x{b}", "\x{c}", "\x{1}", "\x{1b}[31m", "\x{7f}", "\x{85}", "\x{2028}",
	']]>', '<![CDATA[', '<!--', '-->', '<?x?>', '<b>', '</td></tr></table>', '</style>', '<script>alert(1)</script>',
	'&amp;', '&#0;', '&lt',
	"\x{a0}", "\x{ad}", "\x{301}", "\x{200d}", "\x{200f}", "\x{202e}", "\x{2066}", "\x{feff}", "\x{5d0}\x{5d1}", "\x{645}",
	"\x{4e2d}\x{6587}", "\x{1f468}\x{200d}\x{1f469}", "\x{fdd0}", "\x{fffd}", "\x{fffe}", "\x{1fffe}", "\x{10ffff}");

sub any { return $_[ rand @_ ] }
sub chance { return rand() < $_[0] }

# Any character but NUL and the surrogates.
sub any_character
{
	my $code = 1 + int rand any(0x1f, 0x7f, 0xff, 0x7ff, 0xffff, 0x10ffff);
	return $code >= 0xd800 && $code <= 0xdfff ? 'x' : chr $code;
}

sub hostile_text
{
	my ($length) = @_;
	$length //= any(1, 2, 5, 20, 60);
	return join '', map { any(any(@pieces), any(@pieces), any_character(), any('a' .. 'z')) } 1 .. $length;
}

# As a template: braces are braces.
sub hostile_wording { return hostile_text() =~ s/([{}])/$1$1/gr }

sub is_noncharacter { my $code = ord $_[0]; return ($code & 0xfffe) == 0xfffe || $code >= 0xfdd0 && $code <= 0xfdef }

# What a page shows of a text: characters that HTML cannot hold are replaced, and Unicode's ends of lines are such.
sub shown
{
	my ($text) = @_;
	return join '', map { /[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/ || is_noncharacter($_) ? "\x{fffd}" : $_ }
	  split //, $text =~ s/[\x{2028}\x{2029}]/\n/gr;
}

# Without what may end a line or control anything.
sub one_line { my ($text) = @_; return squeezed($text =~ s/[\x01-\x1f\x7f-\x9f\x{2028}\x{2029}]/ /gr) }

# ---- books ----

# Every text that a user may write; ids are never the same again.
sub hostile_texts
{
	my ($seed) = @_;
	my @ids = qw(customer_id payer_account_id account_id other_account_id invoice_number memo_number);
	my %text = map { $_ => hostile_text() . $seed . hostile_text(1) } @ids;
	$text{$_} = hostile_text() foreach qw(customer_name address email account_name payer_name po_number credit_type note service
		other_service description seller_address remittance);
	# these may not be blank
	$text{$_} = hostile_text() . 'x' foreach qw(reason seller_name);
	$text{subject} = '{invoice_number}' . hostile_wording() . '{customer_name}{seller_name}';
	$text{text} = hostile_wording() . "x{customer_name}\n\n{remittance}" . hostile_wording()
	  . "\n\n{balances}\n\n{po_number}{customer_id}";
	@text{qw(has_seller has_template)} = (chance(0.8), chance(0.5));
	return \%text;
}

sub hostile_account
{
	my ($t, $account_id, $services) = @_;
	return (
		insert('member_account', account_id => $account_id, customer_id => $t->{customer_id},
			payer_account_id => $t->{payer_account_id}, name => $t->{account_name}),
		insert('po_assignment', account_id => $account_id, po_number => $t->{po_number}),
		insert('credit_memo', account_id => $account_id, memo_number => $t->{memo_number}, amount => any(100, 300),
			redeemed_on => '2019-01-01', expires_on => any(undef, '2019-02-20'), credit_type => $t->{credit_type},
			note => $t->{note}, services => $services),
		map {
			insert('utilization', account_id => $account_id, service_period => '2019-01-01', service => $_,
				description => $t->{description}, amount => 70)
		} @$t{qw(service other_service)});
}

sub hostile_seller
{
	my ($t) = @_;
	return if !$t->{has_seller};
	return insert('seller', name => $t->{seller_name}, address => $t->{seller_address}, remittance => $t->{remittance});
}

sub hostile_template
{
	my ($t) = @_;
	return if !$t->{has_template};
	return insert('email_template', customer_id => $t->{customer_id}, subject => $t->{subject}, text => $t->{text});
}

# Statements that write books of one customer in which every text is hostile, and keep what is shown of them;
# some of it is voided.
sub hostile_books
{
	my ($seed, $t) = @_;
	my ($number, $account_id) = map { literal($_) } @$t{qw(invoice_number account_id)};
	my $services = chance(0.5) ? '{"' . $t->{service} =~ s/(["\\])/\\$1/gr . '"}' : undef;
	return (
		"DELETE FROM seller;\n",
		hostile_seller($t),
		insert('customer', customer_id => $t->{customer_id}, name => $t->{customer_name}, address => $t->{address},
			email => $t->{email}),
		insert('payer_account', payer_account_id => $t->{payer_account_id}, name => $t->{payer_name}),
		hostile_template($t),
		(map { hostile_account($t, $_, $services) } $t->{account_id}, chance(0.7) ? $t->{other_account_id} : ()),
		'SELECT ' . called('issue', @$t{qw(invoice_number customer_id)}, '2019-01-01') . ";\n",
		chance(0.5) ? 'SELECT ' . called('void_memo', @$t{qw(memo_number reason account_id)}) . ";\n" : (),
		chance(0.5) ? 'SELECT ' . called('void_invoice', @$t{qw(invoice_number reason)}) . ";\n" : (),
		"INSERT INTO rendered SELECT * FROM document WHERE invoice_number = $number;\n",
		"INSERT INTO page SELECT $seed, k.*, $account_id, statement_html($account_id), "
		  . "statement_html($account_id, '2019-02-01', '2019-02-01') FROM kept k WHERE invoice_number = $number;\n");
}

1;
