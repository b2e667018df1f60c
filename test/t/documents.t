# The documents: what e-mails, invoices and statements of credit say, that they say it for ever, templates,
# and that no text that a user may write spoils any of them.
#
# FUZZ says how many rounds of hostile text (60), FIRST_SEED where to begin; a failure prints its seed.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Email qw(money filled filled_text paragraphs balances values_of built_in_text email_text);
use HostileText qw(shown one_line hostile_texts hostile_books);
use Invoices qw(read_invoices page_of expected_page);
use JSON::PP;
use List::Util qw(first);
use Page qw(prepare_pages read_pages find text texts squeezed);
use Psql qw(new_database psql rows_of books_are_sound);
use Statement qw(read_accounts customers_of statement_of page_of_statement expected_statement expected_lines);
use Stories qw(prepare_stories random_books literal list called insert);
use Test::More;

my $rounds = $ENV{FUZZ} // 60;
my $first_seed = $ENV{FIRST_SEED} // 1;
my $batch = 30;    # rounds at once

binmode Test::More->builder->$_, ':utf8' foreach qw(output failure_output);

sub any { return $_[ rand @_ ] }
sub chance { return rand() < $_[0] }

# What statements print, as characters.
sub told
{
	my $output = psql(@_);
	utf8::decode($output);
	return $output;
}

# ---- comparing ----

# The value with another text for each text in it.
sub mapped
{
	my ($other, $value) = @_;
	return [ map { mapped($other, $_) } @$value ] if ref $value eq 'ARRAY';
	return { map { $_ => mapped($other, $value->{$_}) } keys %$value } if ref $value;
	return defined $value ? $other->($value) : undef;
}

sub as_shown { my ($value) = @_; return mapped(sub { squeezed(shown($_[0])) }, $value) }
sub in_ascii { my ($value) = @_; return mapped(sub { $_[0] =~ s/([^\t\n -~])/sprintf '\\x{%x}', ord $1/ger }, $value) }

my $json = JSON::PP->new->canonical->allow_nonref;

# Passes if all cases are alike, each what it is of, what is seen and what is expected; or else shows the
# first that is not.
sub alike
{
	my ($name, @cases) = @_;
	my $wrong = first { $json->encode($_->[1]) ne $json->encode($_->[2]) } @cases;
	return ok(@cases > 0, $name) if !$wrong;
	return is_deeply(in_ascii($wrong->[1]), in_ascii($wrong->[2]), "$name: $wrong->[0]");
}

# The paragraphs of an e-mail, and its balances: heading, label and amount.
sub email_of
{
	my ($page) = @_;
	my @tables = map {
		my $table = $_;
		[ [ texts($table, 'tr.account') ],
			map { [ texts($table, "tr.$_ td") ] } qw(prior-balance utilization balance-of-funds) ]
	} find($page, 'table.balances');
	return { paragraphs => [ texts($page, 'p') ], balances => \@tables };
}

sub expected_email
{
	my ($invoice, @paragraphs) = @_;
	my @balances = map { [ [ $_->{heading} // () ], @{ $_->{figures} } ] } balances($invoice);
	return as_shown({ paragraphs => \@paragraphs, balances => \@balances });
}

# ---- books to make documents of ----

my $database = new_database('creditmemo_documents');
my $has_xml = prepare_pages($database);
diag('the server was built without XML: what pages say is not compared') if !$has_xml;
prepare_stories($database);
psql($database, <<'SQL');
INSERT INTO seller (name, address, logo, remittance) VALUES
	(E'Cloud <& Sons>', E'1 Main St\r\nSpringfield', 'data:image/gif;base64,R0lGODlhAQABAAAAACw=', E'Bank 1\nIBAN "2"');
SQL

# Statements, and what the e-mails of the invoices that they issue say: every sentence is among them.
sub story
{
	my ($statements, @said) = @_;
	psql($database, "\\o /dev/null\n$statements");
	while (my ($number, $said) = splice @said, 0, 2)
	{
		my $text = told($database, "SELECT body_text FROM kept WHERE starts_with(invoice_number, '$number')");
		like($text, $said, "the e-mail of $number");
	}
}

# All is paid, a part, nothing; a refund; tax.
story(<<'SQL',
SELECT add_account('000011111234', 'ACME', 1000);
SELECT use('000011111234', '2019-01-01', 100), issue('SI1001', 'ACME', '2019-01-01');
SELECT use('000011111234', '2019-02-01', 950, 'Amazon S3'), issue('SI1002', 'ACME', '2019-02-01');
SELECT use('000011111234', '2019-03-01', 20), issue('SI1003', 'ACME', '2019-03-01');
SELECT use('000011111234', '2019-01-01', -40), issue('SI1004', 'ACME', '2019-01-01');
SELECT use('000011111234', '2019-04-01', 30), use('000011111234', '2019-04-01', 10, 'Tax', false);
SELECT issue('SI1005', 'ACME', '2019-04-01');
SELECT use('000011111234', '2019-05-01', 4), issue('SI1006', 'ACME', '2019-05-01');
SELECT void_invoice('SI1006', 'wrong');
DELETE FROM utilization WHERE account_id = '000011111234' AND service_period = '2019-05-01';
SQL
	SI1001 => qr/2019\.  This has been paid for by your credit balance, and \$900\.00 remains for future use\.\n/,
	SI1002 => qr/  Of \$950\.00, \$900\.00 has been paid for by your credit balance, and \$0\.00 remains for future use\./,
	SI1002 => qr/  \$50\.00 is due by April 4, 2019\.\n/,
	SI1003 => qr/2019\.  \$20\.00 is due by May 5, 2019\.$/,
	SI1004 => qr/2019\.  \$40\.00 has been returned to your credit balance, and \$40\.00 remains for future use\.\n/,
	SI1005 => qr/  Of \$40\.00, \$30\.00 has been paid for/,
	SI1006 => qr/  This has been paid for/);

# Several accounts: two have credit, one, none; what came later; what was voided and issued otherwise.
story(<<'SQL',
SELECT add_account('000022222001', 'BLUE', 80), add_account('000022222002', 'BLUE'),
	add_account('000022222003', 'BLUE', 500);
UPDATE customer SET name = 'Blue Harbor', email = 'ap@blue.example', address = E'Pier 1\r\nHarbor'
	WHERE customer_id = 'BLUE';
UPDATE member_account SET name = 'Harbor ' || right(account_id, 1) WHERE customer_id = 'BLUE';
SELECT all_use('BLUE', '2019-01-01', 120), use('000022222002', '2019-01-01', 7, 'Lambda'),
	use('000022222002', '2019-01-01', 0.5, 'kinesis'), issue('SI2001', 'BLUE', '2019-01-01');
SELECT all_use('BLUE', '2019-02-01', 10), issue('SI2002', 'BLUE', '2019-02-01');
SELECT all_use('BLUE', '2019-03-01', 10), issue('SI2003', 'BLUE', '2019-03-01', '{000022222001,000022222002}');
SELECT issue('SI2004', 'BLUE', '2019-03-01');
SELECT use('000022222003', '2019-02-01', 25), use('000022222002', '2019-02-01', -5);
SELECT issue('SI2005', 'BLUE', '2019-02-01');
SELECT use('000022222003', '2019-01-01', 15), use('000022222001', '2019-01-01', -50);
SELECT issue('SI2006', 'BLUE', '2019-01-01');
SELECT all_use('BLUE', '2019-05-01', 33), use('000022222003', '2019-05-01', 0, 'Amazon SNS');
SELECT issue('SI2007', 'BLUE', '2019-05-01');
SELECT void_invoice('SI2007', 'wrong');
UPDATE utilization SET amount = 34, service = 'Amazon RDS' WHERE service_period = '2019-05-01' AND amount > 0;
SELECT use('000022222003', '2019-05-01', 1, 'Amazon SQS'), issue('SI2008', 'BLUE', '2019-05-01');
SQL
	SI2001 => qr/  Of \$367\.50, \$200\.00 has been paid for/,
	SI2001 => qr/\nMember account ending in -2001\n.*\nMember account ending in -2003\n/s,
	SI2002 => qr/^(?!.*-200[12]\n).*-2003\n/s,
	SI2003 => qr/2019\.  \$20\.00 is due by May 5, 2019\.$/,
	SI2004 => qr/  This has been paid for/,
	SI2005 => qr/  \$25\.00 has been paid for by your credit balance, and \$335\.00 remains .*  \$5\.00 is due to you\.\n/,
	SI2006 => qr/  \$15\.00 has been paid for by your credit balance, \$10\.00 has been returned to it, and /,
	SI2007 => qr/-2001\n/,
	SI2008 => qr/-2001\n/);

# What was returned is spent already, and stands on no invoice yet; credit that may not pay this; zero and less.
story(<<'SQL',
SELECT add_account('31', 'OWED', 100), use('31', '2019-01-01', 100), issue('SI3001', 'OWED', '2019-01-01');
SELECT use('31', '2019-01-01', -100), use('31', '2019-02-01', 100), issue('SI3002', 'OWED', '2019-02-01');
SELECT add_account('32', 'LIMITED'), add_memo('32', 70, '2019-01-01', NULL, '{Amazon EC2}');
SELECT use('32', '2019-01-01', 5, 'Amazon S3'), issue('SI3003', 'LIMITED', '2019-01-01');
SELECT add_account('33', 'ZERO', 9), use('33', '2019-01-01', 3), use('33', '2019-01-01', -3);
SELECT issue('SI3004', 'ZERO', '2019-01-01');
SELECT use('33', '2019-02-01', -8), issue('SI3005', 'ZERO', '2019-02-01');
SELECT add_account('34', 'NOTHING'), use('34', '2019-01-01', 0), issue('SI3006', 'NOTHING', '2019-01-01');
SELECT use('34', '2019-02-01', -0.01), issue('SI3007', 'NOTHING', '2019-02-01');
SQL
	SI3001 => qr/\$0\.00 remains/,
	SI3002 => qr/  This has been paid .*, and \$100\.00 of it will be returned by an invoice to follow\.\n/,
	SI3003 => qr/  None of it could be paid for by your credit balance, and \$70\.00 remains for future use\.  \$5\.00 is due/,
	SI3004 => qr/  None of your credit balance has been used, and \$9\.00 remains for future use\.\n/,
	SI3005 => qr/  None of your credit balance .* \$9\.00 remains for future use\.  \$8\.00 is due to you\.\n/,
	SI3006 => qr/2019\.  Nothing is due\.$/,
	SI3007 => qr/2019\.  \$0\.01 is due to you\.$/);

# Without names and purchase orders; what lapsed, was restored and voided.
story(<<'SQL',
SELECT add_account('35', 'BARE'), add_account('36', 'BARE');
DELETE FROM po_assignment WHERE account_id = '36';
SELECT use('35', '2019-01-01', 1), use('36', '2019-01-01', 2), issue('SI3008', 'BARE', '2019-01-01');
SELECT use('36', '2019-02-01', 2), issue('SI3009', 'BARE', '2019-02-01');
SELECT add_account('37', 'LAPSED', NULL, 'P37'), add_memo('37', 100, '2019-01-05', '2019-03-20');
SELECT use('37', '2019-01-01', 30), issue('SI3010', 'LAPSED', '2019-01-01');
SELECT close_period('2019-03-01', 'P37');
SELECT reopen_period('2019-03-01', 'P37', 'late');
SELECT void_memo(memo_number, 'wrong') FROM credit_memo WHERE account_id = '37';
SQL
	SI3008 => qr/\$3\.00 is due/,
	SI3009 => qr/\$2\.00 is due/,
	SI3010 => qr/\$70\.00 remains/);

# Amounts of 14 digits, sums beyond what an amount may be, other currencies and terms.
story(<<'SQL',
SELECT add_account(n::text, 'RICH', 98765432109876.54) FROM generate_series(41, 42) n;
SELECT add_account(n::text, 'RICH', 999999999999999.99) FROM generate_series(43, 45) n;
SELECT use('41', '2019-01-01', 12345678901234.56), issue('SI4001', 'RICH', '2019-01-01');
SELECT all_use('RICH', '2019-02-01', 999999999999900.99), issue('SI4002', 'RICH', '2019-02-01');
INSERT INTO customer (customer_id, name, currency, payment_terms_days) VALUES
	('EURO', 'Euro', 'EUR', 0), ('YEN', 'Yen', 'JPY', 3660);
SELECT add_account('46', 'EURO', 1000.5), use('46', '2019-01-01', 2000), issue('SI4003', 'EURO', '2019-01-01');
SELECT add_account('47', 'YEN', 1000), use('47', '2019-01-01', 123456), issue('SI4004', 'YEN', '2019-01-01');
SQL
	SI4001 => qr/^Balance of Funds: {21}\$86,419,753,208,641\.98$/m,
	SI4002 => qr/  Of \$4,999,999,999,999,504\.95, \$3,185,185,185,318,221\.49 has been paid /,
	SI4003 => qr/  Of EUR 2,000\.00, EUR 1,000\.50 has been paid .*  EUR 999\.50 is due by February 5, 2019\.\n/,
	SI4004 => qr/  Of JPY 123,456\.00, JPY 1,000\.00 .* is due by February 12, 2029\.\n/);

# Names: long ones, of many bytes, from right to left.
story(<<'SQL',
SELECT add_account('x' || n, 'NAMES', 10 * n) FROM generate_series(1, 2) n;
SELECT add_account(repeat(U&'\4E2D\6587', 30), 'NAMES', 5), add_account(U&'\05D7\05E9\05D1\05D5\05DF 7', 'NAMES', 6);
UPDATE customer SET name = repeat('W', 300), email = U&'b\00FCro@example.net',
	address = U&'Stra\00DFe 1
\05E8\05D7\05D5\05D1 2

City' WHERE customer_id = 'NAMES';
UPDATE member_account SET name = U&'\+01F600 & <Sons> \0645\0635\0631' WHERE customer_id = 'NAMES';
SELECT all_use('NAMES', '2019-01-01', 8, U&'\30B5\30FC\30D3\30B9 <b>');
SELECT issue(U&'SI5001-\03B6-\6587' || repeat('9', 40), 'NAMES', '2019-01-01');
SQL
	SI5001 => qr/ending in -x1\n.*ending in -x2\n.*ending in -\x{5d5}\x{5df} 7\n.*ending in -(?:\x{4e2d}\x{6587}){2}\n/s);

# To the letter.
is(psql($database, "SELECT email_text('SI1001')"), <<'END' =~ s/\n\z//r, 'the first example');
Dear Customer,

Attached is your AWS utilization for January 2019.  This has been paid for by your credit balance, and $900.00 remains for future use.

Prior Balance of Credit                            $1,000.00
January 2019 Utilization SI1001:                    -$100.00
Balance of Funds:                                    $900.00
END

srand $first_seed;
psql($database, "\\o /dev/null\n" . random_books());
books_are_sound($database);

# ---- what they say ----

my @invoices = read_invoices($database);
my %email = map { $_->{invoice_number} => $_ } rows_of($database, 'SELECT * FROM invoice_email');
cmp_ok(scalar @invoices, '>', 60, 'there are invoices');
alike('e-mails', map { [ $_->{invoice_number}, $email{ $_->{invoice_number} }{body_text}, email_text($_) ] } @invoices);
is(psql($database, <<'SQL'), '', 'the functions say what the view says');
SELECT invoice_number FROM invoice_email
WHERE (body_text, body_html) IS DISTINCT FROM (email_text(invoice_number), email_html(invoice_number))
SQL
is($email{SI1001}{recipient}, undef, 'the e-mail of a customer without an address');
is(psql($database, <<'SQL'), 5, 'there is no document of nothing');
SELECT num_nulls(email_text(NULL), email_html(NULL), invoice_html(NULL), statement_html(NULL), statement_text(NULL))
SQL
is(psql($database, <<'SQL'), 'P0002', 'unknown invoices and accounts');
SELECT DISTINCT error_of(format('SELECT %I(%L)', f, 'none'))
FROM unnest('{email_text,email_html,compose_email,invoice_html,statement_html,statement_text}'::text[]) f
SQL

sub invoices_are_right
{
	my ($name) = @_;
	my @read = read_invoices($database);
	my @emails = read_pages($database, 'SELECT body_html FROM invoice_email ORDER BY invoice_number');
	alike("e-mails as pages, $name", map {
		my @paragraphs = split /\n\n/, email_text($read[$_]);
		[ $read[$_]{invoice_number}, email_of($emails[$_]), expected_email($read[$_], @paragraphs[ 0, 1 ]) ]
	} 0 .. $#read);
	my @pages = read_pages($database, 'SELECT invoice_html(invoice_number) FROM invoice ORDER BY invoice_number');
	my $remittance = psql($database, 'SELECT remittance FROM seller') ne '';
	alike("invoices, $name", map {
		[ $read[$_]{invoice_number}, page_of($pages[$_]), expected_page($read[$_], $remittance) ]
	} 0 .. $#read);
}

SKIP:
{
	skip 'no XML', 5 if !$has_xml;
	invoices_are_right('with a seller');
	my ($owed, $due) = read_pages($database, "SELECT invoice_html(n) FROM unnest('{SI2005,SI2003}'::text[]) n");
	is(join('|', map { text($_) } find($owed, 'div.seller'), find($owed, 'div.remittance')),
		'Cloud <& Sons> 1 Main St Springfield', 'the seller');
	like(text(find($due, 'div.remittance')), qr/Bank 1 IBAN "2"$/, 'how to pay');
	like(text(find($due, 'div.customer')), qr/Blue Harbor Pier 1 Harbor$/, "the customer's address");
}

# The first of the lines that is not in the text, after those before it; white space is one space.  Behind the
# balance of a month may stand a bar, and what lapsed.
sub missing_line
{
	my ($text, @lines) = @_;
	my @text = map { squeezed($_) } split /\n/, $text;
	for my $line (map { squeezed($_) } @lines)
	{
		shift @text while @text && $text[0] !~ /^\Q$line\E(?: [#.]+)?(?: \(.* void or expired\))?$/;
		return $line if !@text;
	}
	return '';
}

sub random_range
{
	my @months = map { my $year = $_; map { "$year-0$_-01" } 1 .. 9 } 2019 .. 2020;
	return map { chance(0.2) ? undef : $_ } sort map { any(@months) } 1 .. 2;
}

# Of an account all of it, some months, and the same of those whose it was before; each with its arguments.
sub statements_of
{
	my ($account) = @_;
	my @ranges = ([], [ random_range() ], map { [ undef, undef, $_ ], [ random_range(), $_ ] } customers_of($account));
	return grep { $_->{statement} } map {
		my ($from, $to, $customer_id) = @$_;
		my $statement = statement_of($account, $from, $to, $customer_id);
		{ statement => $statement, arguments => list($account->{account_id}, $from, $to, $customer_id), is_all => !@$_ }
	} @ranges;
}

sub statements_are_right
{
	my ($name) = @_;
	srand $first_seed;
	my @statements = map { statements_of($_) } read_accounts($database, 'true');
	my @arguments = map { $_->{arguments} } @statements;
	my @texts = map { $_->{text} } rows_of($database, join "\nUNION ALL ", map { "SELECT statement_text($_) AS text" } @arguments);
	alike("statements as text, $name", map {
		[ $arguments[$_], missing_line($texts[$_], expected_lines($statements[$_]{statement})), '' ]
	} 0 .. $#statements);

	my %available = map { $_->{account_id} => $_->{text} }
	  rows_of($database, 'SELECT account_id, money_text(available, currency) AS text FROM account_balance');
	alike("what is left is what is available, $name", map {
		my ($account, $closing) = @{ $_->{statement} }{qw(account closing)};
		[ $account->{account_id}, money($closing, $account->{currency}), $available{ $account->{account_id} } ]
	} grep { $_->{is_all} } @statements);

	return if !$has_xml;
	my @pages = read_pages($database, 'VALUES ' . join ', ', map { "(statement_html($_))" } @arguments);
	alike("statements, $name", map {
		[ $arguments[$_], page_of_statement($pages[$_]), as_shown(expected_statement($statements[$_]{statement})) ]
	} 0 .. $#statements);
}

statements_are_right('at first');

# Nothing is fetched, run or sent from a page.
is(told($database, <<'SQL'), '', 'pages are ASCII and stand for themselves');
SELECT invoice_number FROM document, concat(invoice_html, body_html) page
WHERE page ~ '[^\t\n\x20-\x7e]' OR invoice_html !~ '^<!DOCTYPE html>\n' OR body_html !~ '^<!DOCTYPE html>\n'
	OR page ~* '<(script|link|iframe|object|embed|base|form)|javascript:|\son\w+=|url\s*\(|@import|http-equiv'
	OR replace(page, 'src="data:image/gif;base64,', '') ~* '(src|href)\s*=';
SQL

is(psql($database, <<'SQL'), '23514', 'logos from elsewhere are refused');
SELECT DISTINCT left(error_of(format('UPDATE seller SET logo = %L', logo)), 5)
FROM unnest(ARRAY['https://example.com/logo.png', 'data:text/html;base64,AAAA', 'data:image/png;base64,AA"A',
	E'data:image/png;base64,AAAA\n<b>']) logo;
SQL
is(psql($database, <<'SQL'), '23505|23514', 'there is one seller');
SELECT left(error_of($$INSERT INTO seller (name) VALUES ('x')$$), 5),
	left(error_of($$INSERT INTO seller (is_only_row, name) VALUES (false, 'x')$$), 5)
SQL

# ---- they say it for ever ----

# In a session of its own, after some statements.
sub same_as_ever
{
	my ($name, $statements) = @_;
	is(told($database, <<"SQL"), '', "documents are the same: $name");
\\o /dev/null
$statements;
\\o
TRUNCATE public.rendered;
INSERT INTO public.rendered TABLE public.document;
RESET ROLE;
RESET ALL;
SELECT changed_documents() LIMIT 5;
SQL
}

# A line of each open billing whose period is not closed.
my $of_open_billings = <<'SQL';
FROM billing b, member_account a
WHERE (b.account_id, b.service_period, b.billing_no) = (u.account_id, u.service_period, u.billing_no)
	AND a.account_id = u.account_id AND b.invoice_number IS NULL
	AND u.service_period > coalesce(a.closed_through, '2000-01-01')
SQL

my $issue_all = <<'SQL';
SELECT issue('R' || nextval('number'), u.customer_id, u.service_period)
FROM (SELECT DISTINCT customer_id, service_period FROM unbilled ORDER BY 1, 2) u
SQL

psql($database, 'CREATE SEQUENCE public.number');
same_as_ever(@$_) foreach (
	[ 'as issued' => '' ],
	[ 'customers are renamed' => <<'SQL' ],
UPDATE customer
SET name = 'Renamed ' || customer_id, address = 'elsewhere', email = 'new@example.com', payment_terms_days = 1
SQL
	[ 'accounts are renamed' => <<'SQL' ],
UPDATE member_account SET name = 'Renamed ' || account_id;
UPDATE payer_account SET name = 'Renamed'
SQL
	[ 'other purchase orders' => <<'SQL' ],
INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'NEW' FROM member_account
SQL
	[ 'new memos' => <<'SQL' ],
INSERT INTO credit_memo (account_id, amount, redeemed_on, priority)
	SELECT account_id, 12, '2018-12-01', 1 FROM member_account WHERE customer_id <> 'RICH'
SQL
	[ 'memos voided' => <<'SQL' ],
SELECT void_memo(memo_number, 'wrong', account_id) FROM credit_memo WHERE voided_at IS NULL AND memo_id % 2 = 0
SQL
	[ 'later lines' => <<'SQL' ],
SELECT try(format('SELECT use(%L, %L, 3)', account_id, service_period)) FROM billing WHERE invoice_number IS NOT NULL
SQL
	[ 'refunds' => <<'SQL' ],
SELECT try(format('SELECT use(%L, %L, -11)', account_id, service_period)) FROM billing WHERE invoice_number IS NOT NULL
SQL
	[ 'later months' => "SELECT use(account_id, '2020-08-01', 40) FROM member_account" ],
	[ 'later invoices' => $issue_all ],
	[ 'invoices voided' => <<'SQL' ],
SELECT try(format('SELECT void_invoice(%L, $$wrong$$)', invoice_number))
FROM (SELECT * FROM invoice ORDER BY recorded_at DESC) i
WHERE voided_at IS NULL AND hashtext(invoice_number) % 3 <> 0
SQL
	[ 'their lines restated' => "UPDATE utilization u SET amount = amount - 1, service = 'Other ' || service $of_open_billings" ],
	[ 'their lines deleted' => 'DELETE FROM utilization u ' . $of_open_billings =~ s/FROM/USING/r . 'AND utilization_id % 2 = 0' ],
	[ 'issued again' => $issue_all ],
	[ 'accounts moved' => <<'SQL' ],
INSERT INTO customer (customer_id, name) VALUES ('OTHER', 'Other');
SELECT void_memo(memo_number, 'moves', account_id) FROM credit_memo WHERE voided_at IS NULL;
SELECT try(format('UPDATE member_account SET customer_id = $$OTHER$$ WHERE account_id = %L', account_id))
FROM account_balance WHERE currency = 'USD'
SQL
	[ 'periods closed' => "$issue_all; SELECT close_period('2020-12-01')" ],
	[ 'periods open again' => "SELECT reopen_period('2019-01-01', NULL, 'late')" ],
);
is(psql($database, <<'SQL'), 't|t|t|t', 'all of that has happened');
SELECT count(*) > 150, count(*) FILTER (WHERE voided_at IS NOT NULL) > 50,
	(SELECT count(*) > 10 FROM member_account WHERE customer_id = 'OTHER'),
	(SELECT count(*) > 3 FROM period_closing)
FROM invoice;
SQL
books_are_sound($database);

# Things in the way of who does not say which schema is meant.
psql($database, <<'SQL');
CREATE SCHEMA decoy;
CREATE FUNCTION decoy.never(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION decoy.never(numeric, numeric) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION decoy.seven(numeric) RETURNS numeric LANGUAGE sql AS 'SELECT 7::numeric';
CREATE FUNCTION decoy.seven(numeric, numeric) RETURNS numeric LANGUAGE sql AS 'SELECT 7::numeric';
CREATE FUNCTION decoy.money_text(numeric, text) RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
CREATE FUNCTION decoy.service_period_text(date) RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
CREATE OPERATOR decoy.= (FUNCTION = decoy.never, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR decoy.<> (FUNCTION = decoy.never, LEFTARG = numeric, RIGHTARG = numeric);
CREATE OPERATOR decoy.- (FUNCTION = decoy.seven, RIGHTARG = numeric);
CREATE AGGREGATE decoy.sum (numeric) (SFUNC = decoy.seven, STYPE = numeric);
CREATE DOMAIN decoy.int8 AS text;
DO $$
BEGIN
	CREATE COLLATION decoy."C" (PROVIDER = icu, LOCALE = 'en');
EXCEPTION WHEN feature_not_supported THEN
	NULL;
END
$$;
SELECT format('CREATE VIEW decoy.%I AS SELECT * FROM creditmemo.%1$I WHERE false', relname)
	FROM pg_class WHERE relnamespace = 'creditmemo'::regnamespace AND relkind IN ('r', 'v') \gexec
CREATE ROLE creditmemo_documents_reader;
GRANT USAGE ON SCHEMA creditmemo TO creditmemo_documents_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA creditmemo TO creditmemo_documents_reader;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA creditmemo TO creditmemo_documents_reader;
GRANT SELECT ON document TO creditmemo_documents_reader;
GRANT SELECT, INSERT, TRUNCATE ON rendered TO creditmemo_documents_reader;
SQL
my $locale = psql($database, <<'SQL');
SELECT coalesce(min(collcollate) FILTER (WHERE collcollate LIKE '__\_%.utf8'), 'POSIX') FROM pg_collation
SQL
same_as_ever($_, "SET $_") foreach (
	"DateStyle = 'German, DMY'", "TimeZone = 'Pacific/Kiritimati'", "IntervalStyle = 'sql_standard'",
	'extra_float_digits = -15', "bytea_output = 'escape'", "xmlbinary = 'hex'", "xmloption = 'document'",
	"client_encoding = 'LATIN1'", "client_encoding = 'SJIS'", 'standard_conforming_strings = off',
	(map { "lc_$_ = '$locale'" } qw(messages monetary numeric time)),
	"search_path = ''", 'search_path = decoy, pg_catalog', 'ROLE creditmemo_documents_reader',
	'default_transaction_isolation = serializable', 'plan_cache_mode = force_generic_plan',
	'jit = off; SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_sort = off; SET enable_hashagg = off',
	'jit = off; SET enable_nestloop = off; SET enable_seqscan = off',
	'parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0');
psql($database, 'DROP OWNED BY creditmemo_documents_reader; DROP ROLE creditmemo_documents_reader');

invoices_are_right('after all of that') if $has_xml;
psql($database, 'DELETE FROM seller');
invoices_are_right('without a seller') if $has_xml;

# ---- templates ----

sub set_templates
{
	my (@rows) = @_;
	my $values = join ', ', map { '(' . list(@$_) . ')' } @rows;
	psql($database, "DELETE FROM email_template; INSERT INTO email_template (customer_id, subject, text) VALUES $values");
}

# Subject and text of an invoice's e-mail.
sub email_like
{
	my ($number) = @_;
	return map { @$_{qw(subject body_text)} }
	  rows_of($database, 'SELECT subject, body_text FROM invoice_email WHERE invoice_number = ' . literal($number));
}

my @placeholders = qw(invoice_number service_period service_period_iso invoice_date invoice_date_iso due_date due_date_iso
	customer_id customer_name seller_name po_number total_utilization credit_applied balance_due prior_balance balance_of_funds);
my $subject_template = join ' ', map { "$_=<{$_}>" } @placeholders;
my $text_template = "Hi {customer_name} {{{invoice_number}}}\r{{x}} } &amp;\r\n\r\n" . join("\r\n", map { "$_=<{$_}>" } @placeholders)
  . "\n\t \n{remittance}\n\n\n\n{summary}\n\n{balances}\n\n  {po_number}  \n";
for my $seller ({}, { seller_name => 'Cloud & Sons', remittance => "Bank\nIBAN" })
{
	my $with = %$seller ? 'with a seller' : 'without a seller';
	psql($database, insert('seller', name => $seller->{seller_name}, remittance => $seller->{remittance})) if %$seller;
	set_templates([ undef, $subject_template, $text_template ]);
	my %seen = map { $_->{invoice_number} => [ @$_{qw(subject body_text)} ] } rows_of($database, 'SELECT * FROM invoice_email');
	my @read = read_invoices($database);
	alike("placeholders $with", map {
		my %values = (values_of($_), %$seller);
		[ $_->{invoice_number}, $seen{ $_->{invoice_number} }, [ filled($subject_template, %values), filled_text($text_template, %values) ] ]
	} @read);
	next if !$has_xml;
	my @pages = read_pages($database, 'SELECT body_html FROM invoice_email ORDER BY invoice_number');
	alike("placeholders on pages $with", map {
		my @paragraphs = paragraphs($text_template, values_of($read[$_]), %$seller, balances => '');
		[ $read[$_]{invoice_number}, email_of($pages[$_]), expected_email($read[$_], @paragraphs) ]
	} 0 .. $#read);
}

# The customer's own wording, the default, the built-in one: subject and text each for itself.
psql($database, 'DELETE FROM email_template');
my ($built_in_subject, $built_in_text) = email_like('SI2001');
is($built_in_subject, 'AWS utilization for January 2019, invoice SI2001', 'the built-in subject');
for (
	[ 'default subject', [ 'default SI2001', $built_in_text ], [ undef, 'default {invoice_number}', undef ] ],
	[ 'default text', [ $built_in_subject, 'default SI2001' ], [ undef, undef, 'default {invoice_number}' ] ],
	[ 'own subject', [ 'own', $built_in_text ], [ 'BLUE', 'own', undef ] ],
	[ 'own text', [ $built_in_subject, 'own' ], [ 'BLUE', undef, 'own' ] ],
	[ 'own subject, default text', [ 'own', 'default' ], [ 'BLUE', 'own', undef ], [ undef, 'unused', 'default' ] ],
	[ 'own text, default subject', [ 'default', 'own' ], [ undef, 'default', 'unused' ], [ 'BLUE', undef, 'own' ] ],
	[ 'own', [ 'own', 'own text' ], [ undef, 'unused', 'unused' ], [ 'BLUE', 'own', 'own text' ] ],
	[ "another's", [ $built_in_subject, $built_in_text ], [ 'ACME', 'unused', 'unused' ] ],
  )
{
	my ($name, $expected, @rows) = @$_;
	set_templates(@rows);
	is_deeply([ email_like('SI2001') ], $expected, "wording: $name");
}

# Text is text: no markup, no placeholder in a value, and one line of subject.
psql($database, <<'SQL');
INSERT INTO customer (customer_id, name) VALUES ('BRACES', E'{prior_balance} <i>\n{{x}}');
SELECT add_account('b1', 'BRACES', 5), use('b1', '2019-01-01', 4), issue(E'SI\r\n{x}', 'BRACES', '2019-01-01');
SQL
set_templates([ undef, "{customer_name}: {invoice_number}\r\n<b>",
	"<b>bold</b> &lt; {customer_name}\n\nBefore\n{balances}\n {summary}\n{balances}\n\n" ]);
my ($subject, $text) = email_like("SI\r\n{x}");
is($subject =~ s/ +/ /gr, '{prior_balance} <i> {{x}}: SI {x} <b>', 'a subject is one line, values are not expanded');
like($text, qr/^<b>bold<\/b> &lt; \{prior_balance\} <i>\n\{\{x\}\}\n\nBefore\nPrior Balance of Credit /, 'a text is text');
SKIP:
{
	skip 'no XML', 1 if !$has_xml;
	my ($page) = read_pages($database, q{SELECT email_html(E'SI\r\n{x}')});
	is_deeply([ texts($page, 'p') ], [ '<b>bold</b> &lt; {prior_balance} <i> {{x}}', 'Before',
			'This has been paid for by your credit balance, and $1.00 remains for future use.' ], 'a page is text');
}
psql($database, 'DELETE FROM email_template');
unlike((email_like("SI\r\n{x}"))[0], qr/[\r\n]/, 'the built-in subject is one line');

# What is no template is refused when it is written, and nothing is.
my @mistakes = ('x {', '{}', '{ prior_balance}', '{prior_balance', "{prior_\nbalance}", '{Prior_Balance}', '{nothing}',
	'{invoice{number}}', '{{{x}}', '{x' . "\x{e9}" x 100, '', "\r\n \t");
my %mistakes = (
	subject => [ '{summary}', 'Your {balances}', @mistakes ],
	text => [ 'x {balances}', '{balances} x', '{balances}{balances}', '{balances}{', @mistakes ]);
for my $column (sort keys %mistakes)
{
	set_templates([ 'ACME', 'subject', 'text' ]);
	for my $mistake (map { literal($_) } @{ $mistakes{$column} })
	{
		my $insert = called('error_of', "INSERT INTO email_template (customer_id, $column) VALUES ('BLUE', $mistake)");
		my $update = called('error_of', "UPDATE email_template SET $column = $mistake");
		is(psql($database, "SELECT $insert, $update, (SELECT string_agg(subject || text, '') FROM email_template)"),
			'23514|23514|subjecttext', "not a $column: $mistake");
	}
}
set_templates([ undef, 'subject', undef ], [ 'ACME', undef, 'text' ]);
is(psql($database, <<'SQL'), "23505\n23505\n23514\n23503", 'one row for a customer, one for all, none without wording');
SELECT left(error_of('INSERT INTO email_template (customer_id, text) VALUES ' || row), 5)
FROM unnest(ARRAY[$$(NULL, 'x')$$, $$('ACME', 'x')$$, $$('BLUE', NULL)$$, $$('nobody', 'x')$$]) row
SQL
psql($database, 'DELETE FROM email_template');

# ---- statements ----

statements_are_right('after all of that');
psql($database, "SELECT add_account('new', 'ACME')");
is(psql($database, <<'SQL'), 't|t', 'the statement of an account without anything');
SELECT statement_text('new') ~ '^Statement of credit\n', statement_html('new') ~ '<h1>Statement of credit</h1>'
SQL
for (
	[ '23514', '2019-01-02' ], [ '23514', undef, '2019-01-31' ], [ '23514', '-infinity' ], [ '23514', undef, 'infinity' ],
	[ '22023', '2019-03-01', '2019-02-01' ], [ '22023', undef, '2018-01-01' ], [ '22023', '2100-01-01' ],
	[ '22023', '1900-02-01', '2000-02-01' ], [ '22023', '0100-01-01 BC' ], [ 'P0002', undef, undef, 'nobody' ],
	[ 'none', '2019-01-01', '2118-12-01' ], [ 'none', '2019-02-01', '2019-02-01', 'ACME' ])
{
	my ($expected, @arguments) = @$_;
	my @errors = map { called('error_of', 'SELECT ' . called($_, '000011111234', @arguments)) } qw(statement_html statement_text);
	is(psql($database, 'SELECT ' . join ', ', @errors), "$expected|$expected", 'the statement of ' . list(@arguments));
}

# ---- encodings ----

# In each a name, as SQL, and what pages show of it; in SQL_ASCII it need not be characters.
for (
	[ 'LATIN1', "E'\\U000000FC'", '&#xFC;' ], [ 'EUC_JP', "E'\\U00006587'", '&#x6587;' ],
	[ 'SQL_ASCII', "E'\\xC3\\xBC'", '&#xFC;' ], [ 'SQL_ASCII', "E'x\\xFF'", 'x?' ])
{
	my ($encoding, $name, $shown) = @$_;
	my $other = new_database('creditmemo_' . lc($encoding) . length $shown, encoding => $encoding);
	is(psql($other, <<"SQL"), 't|t|t|t|t', "documents in $encoding");
SET search_path = creditmemo;
\\o /dev/null
INSERT INTO customer (customer_id, name) VALUES ('A', $name);
INSERT INTO payer_account VALUES ('P');
INSERT INTO member_account (account_id, payer_account_id, customer_id) VALUES ('1', 'P', 'A');
INSERT INTO email_template (text) VALUES ('{customer_name} ' || $name);
INSERT INTO utilization (service_period, account_id, service, amount) VALUES ('2019-01-01', '1', $name, 1);
SELECT issue_invoice('SI', 'A', '2019-01-01');
\\o
SELECT strpos(invoice_html('SI'), '<bdi>$shown</bdi>') > 0, strpos(email_html('SI'), '<bdi>$shown</bdi> $shown</p>') > 0,
	strpos(statement_html('1'), '<bdi>$shown</bdi>') > 0, email_text('SI') = concat($name, ' ', $name),
	statement_text('1') ~ '^Statement of credit\\n\\n\\S+\\nMember';
SQL
}

# ---- hostile text ----

# What an e-mail must say: subject, text, and the page.
sub expected_of_email
{
	my ($t, $invoice) = @_;
	my @seller = $t->{has_seller} ? (seller_name => $t->{seller_name}, remittance => $t->{remittance}) : ();
	my %values = (values_of($invoice), @seller);
	my ($subject, $text) = $t->{has_template} ? @$t{qw(subject text)}
	  : ('AWS utilization for {service_period}, invoice {invoice_number}', built_in_text());
	my @paragraphs = paragraphs($text, %values, balances => '');
	return (filled($subject, %values), filled_text($text, %values), expected_email($invoice, @paragraphs));
}

# Of a round: each case is what it is of, what is seen and what is expected.
sub hostile_cases
{
	my ($t, $kept, $invoice, $account, @pages) = @_;
	my ($subject, $text, $email) = expected_of_email($t, $invoice);
	my @addresses = ($t->{has_seller} ? $t->{seller_address} : (), $t->{address});
	return (
		[ 'subject', squeezed($kept->{subject}), one_line($subject) ],
		[ 'text', one_line($kept->{body_text}), one_line($text) ],
		[ 'invoice', page_of($pages[0]), as_shown(expected_page({ %$invoice, voided_at => undef }, $t->{has_seller})) ],
		[ 'addresses', [ map { texts($pages[0], "$_ div.address") } qw(header div.customer) ], as_shown(\@addresses) ],
		[ 'e-mail', email_of($pages[1]), $email ],
		[ 'statement', page_of_statement($pages[2]), as_shown(expected_statement(statement_of($account))) ],
		[ 'later statement', page_of_statement($pages[3]),
			as_shown(expected_statement(statement_of($account, '2019-02-01', '2019-02-01'))) ],
		expiry_cases($t, @pages[ 2, 3 ]));
}

# A statement may say when a memo expires, in its chart and in a sentence.
my %expiries = ('g.expiry title' => '%s expires February 20, 2019', 'p.projection bdi' => '%s');
my %seen_expiries;
sub expiry_cases
{
	my ($t, @pages) = @_;
	return map {
		my $selector = $_;
		my $expected = squeezed(shown($expiries{$selector} =~ s/%s/$t->{memo_number}/r));
		my @seen = grep { !/^(?:-?\$[0-9.,]+|[A-Z][a-z]+(?: [0-9]+,)? 20[0-9]{2})$/ } map { texts($_, $selector) } @pages;
		$seen_expiries{$selector} += @seen;
		[ $selector, \@seen, [ ($expected) x @seen ] ]
	} sort keys %expiries;
}

# Rounds, each with its seed: all are written, then all are looked at.  Returns the cases of each.
sub hostile_rounds
{
	my (@seeds) = @_;
	my (%text, @script);
	for my $seed (@seeds)
	{
		srand $seed;
		$text{$seed} = hostile_texts($seed);
		push @script, "\\echo seed $seed\n\\o /dev/null\n", hostile_books($seed, $text{$seed}), "\\o\n";
	}
	psql($database, join '', "TRUNCATE page, rendered, kept;\n", @script);
	my %cases = map { $_ => [] } @seeds;
	my $is_broken = $has_xml ? 'NOT xml_is_well_formed_document(html)' : 'false';
	push @{ $cases{ $_->{seed} } }, [ 'a page', $_->{html}, 'a good page' ] foreach rows_of($database, <<"SQL");
SELECT seed, html FROM page, unnest(ARRAY[invoice_html, body_html, statement_html, later_statement_html]) html
WHERE html ~ '[^\\t\\n\\x20-\\x7e]' OR html ~* '<script' OR $is_broken
UNION ALL
SELECT seed, 'another page after a void' FROM page WHERE invoice_number IN (SELECT * FROM changed_documents())
SQL
	my @good = grep { !@{ $cases{$_} } } @seeds;
	return %cases if !@good;

	my $of_good = sprintf 'FROM page WHERE seed IN (%s)', join ', ', @good;
	if (!$has_xml)
	{
		push @{ $cases{ $_->{seed} } }, [ 'number of pages', $_->{pages}, 4 ] foreach rows_of($database,
			"SELECT seed, num_nonnulls(invoice_html, body_html, statement_html, later_statement_html) AS pages $of_good");
		return %cases;
	}

	my %kept = map { $_->{seed} => $_ } rows_of($database, "SELECT seed, subject, body_text $of_good");
	my %invoice = map { $_->{invoice_number} => $_ } read_invoices($database, "invoice_number IN (SELECT invoice_number $of_good)");
	my %account = map { $_->{account_id} => $_ } read_accounts($database, "a.account_id IN (SELECT account_id $of_good)");
	my @pages = read_pages($database, "SELECT unnest(pages) FROM (
		SELECT ARRAY[invoice_html, body_html, statement_html, later_statement_html] AS pages $of_good ORDER BY seed) p");
	for my $seed (@good)
	{
		my $t = $text{$seed};
		my ($invoice, $account) = ($invoice{ $t->{invoice_number} }, $account{ $t->{account_id} });
		$cases{$seed} = [ hostile_cases($t, $kept{$seed}, $invoice, $account, splice @pages, 0, 4) ];
	}
	return %cases;
}

psql($database, <<'SQL');
CREATE TABLE public.page AS
SELECT NULL::integer AS seed, k.*, NULL::text AS account_id, NULL::text AS statement_html, NULL::text AS later_statement_html
FROM kept k WITH NO DATA
SQL
for (my $seed = $first_seed; $seed < $first_seed + $rounds; $seed += $batch)
{
	my @seeds = grep { $_ < $first_seed + $rounds } $seed .. $seed + $batch - 1;
	my %cases = eval { hostile_rounds(@seeds) };
	if (!%cases)
	{
		my ($last) = $@ =~ /.*^seed ([0-9]+)$/ms;
		fail('hostile text ' . ($last // "$seeds[0] to $seeds[-1]"));
		diag($@);
		last;
	}
	for (@seeds)
	{
		alike("hostile text $_", @{ $cases{$_} })
		  or diag("again with: FIRST_SEED=$_ FUZZ=1 test/with-server prove test/t/documents.t");
	}
}
cmp_ok($seen_expiries{$_} // 0, '>', 0, "there are expiries in $_") foreach $has_xml && $rounds > 20 ? sort keys %expiries : ();
books_are_sound($database, 'the books are sound after hostile text');

done_testing();
