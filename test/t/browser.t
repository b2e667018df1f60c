# The documents in a browser, those of the demo and of customers whose names and amounts are hard to
# show: figures and names are those of the books, nothing runs or is fetched, nothing is cut off on a
# telephone or on paper, an invoice is one sheet, and e-mails can be read in the dark.
#
# With SHOTS=directory in the environment pictures of the documents are written there.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Browser;
use File::Temp;
use JSON::PP;
use Psql qw(new_database psql run_ok books_are_sound);
use Test::More;

binmode Test::More->builder->$_, ':utf8' foreach qw(output failure_output);

my ($browser, $missing) = Browser->start;
plan skip_all => $missing unless $browser;

my $WIDE = 1280;
my $NARROW = 380;
# between the margins of A4: what is wider would be printed smaller
my $PAPER = 680;
my %papers = ('A4' => [ 21, 29.7 ], 'US Letter' => [ 21.59, 27.94 ]);
my $readable_contrast = 4.5;

my $directory = File::Temp->newdir;
my $database;

# The books of the demo, and its documents.
sub make_demo
{
	$database = new_database('creditmemo_browser_demo', without_extension => 1);
	# the demo reads its bill from here
	chdir "$FindBin::Bin/../.." or die;
	run_ok('demo', 'psql', '-X', '-q', '-d', $database, '-v', "documents=$directory", '-f', 'test/demo/demo.sql');
	my %calls = ('invoice-one-account' => "invoice_html('SI1001')",
		'invoice-several-accounts' => "invoice_html('SI1002')", 'invoice-void' => "invoice_html('SI1006')",
		'email' => "email_html('SI1002')", 'statement' => "statement_html('000011111234')");
	for my $name (sort keys %calls)
	{
		open my $file, '<', "$directory/$name.html" or die "$name: $!";
		is(join('', <$file>), psql($database, "SELECT creditmemo.$calls{$name}") . "\n", "$name of the demo");
	}
}

sub make_books
{
	$database = new_database('creditmemo_browser');
	psql($database, <<'END');
SET search_path = creditmemo;
INSERT INTO seller (name, address, logo, remittance) VALUES
	('Cloud Reseller', E'1 Cloud Street\nSpringfield',
	 'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAFoAAAAeAQMAAACWr5s7AAAAA1BMVEUjQF7h2/aVAAAADUlEQVR42mNgGAUDDwABhgABuR++UwAAAABJRU5ErkJggg==',
	 E'Bank of Springfield\nAccount 0001 & <more>');
INSERT INTO customer (customer_id, name, email, currency, address) VALUES
	('ONE', 'Acme University', 'ap@acme.example', 'USD', E'Accounts Payable\n1 College Road'),
	('NASTY', '</td><script>alert(1)</script>', NULL, 'EUR', repeat('A', 200) || E'\n<b>&amp;</b>');
INSERT INTO payer_account VALUES ('990000000001');
INSERT INTO member_account (account_id, payer_account_id, customer_id, name) VALUES
	('000011111234', '990000000001', 'ONE', 'Genome project'),
	('500000000001', '990000000001', 'NASTY', repeat('W', 200)),
	('500000000002', '990000000001', 'NASTY', E'\u05d7\u05e9\u05d1\u05d5\u05df (123) \u062d\u0633\u0627\u0628'),
	('500000000003', '990000000001', 'NASTY', repeat(E'\u96f2\u7aef\u8a08\u7b97', 50)),
	('500000000004', '990000000001', 'NASTY', '</td><script>alert(1)</script>'),
	('500000000005', '990000000001', 'NASTY', E'&amp; "two" \'one\' <b> &#66; \U0001F600'),
	('500000000006', '990000000001', 'NASTY', NULL);
INSERT INTO po_assignment (account_id, po_number) VALUES
	('000011111234', 'PO-7001'), ('500000000001', repeat('P', 200)),
	('500000000003', '"><img src=x onerror=alert(1)>');
INSERT INTO credit_memo (account_id, memo_number, amount, redeemed_on, expires_on, note) VALUES
	('000011111234', 'CM1', 1000, '2019-01-15', NULL, NULL),
	('000011111234', 'CM2', 150, '2019-01-01', '2019-01-31', NULL),
	('000011111234', 'CM3', 7, '2019-02-01', NULL, NULL),
	('500000000001', repeat('M', 200), 99999999999999.99, '2019-01-01', NULL, repeat('N', 200)),
	('500000000003', '</title><script>alert(1)</script>', 98765432109876.54, '2019-01-01', '2019-04-30', '<b>');
INSERT INTO email_template (customer_id, subject, text) VALUES
	('NASTY', 'For {customer_name}', E'Dear {customer_name},\n\n{summary}\n\n<script>alert(1)</script>\n\n'
	 || repeat('T', 200) || E'\n\n{balances}\n\n{remittance}');

CREATE TEMP TABLE charge (service_period date, account_id text, service text, amount numeric);
INSERT INTO charge VALUES
	('2019-01-01', '000011111234', 'Amazon EC2', 80), ('2019-01-01', '000011111234', 'Amazon S3', 20),
	('2019-02-01', '000011111234', 'Amazon EC2', 300),
	('2019-03-01', '000011111234', 'Amazon EC2', 800.5),
	('2019-01-01', '500000000001', repeat('S', 200), 99999999999999.99),
	('2019-01-01', '500000000002', E'\u05e9\u05d9\u05e8\u05d5\u05ea 7', 12345678901234.56),
	('2019-01-01', '500000000003', '</script><script>alert(1)</script>', 77777777777777.77),
	('2019-01-01', '500000000003', E'\u96f2\u7aef', 0.01),
	('2019-01-01', '500000000004', 'refund', -11111111111111.11),
	('2019-01-01', '500000000005', 'Amazon S3', 5);
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT * FROM charge WHERE service_period = '2019-01-01';
SELECT issue_invoice('SI1', 'ONE', '2019-01-01', '2019-02-05');
SELECT issue_invoice('SI2', 'NASTY', '2019-01-01', '2019-02-05');
SELECT close_period('2019-01-01');
SELECT void_memo('CM3', 'wrong');
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT * FROM charge WHERE service_period = '2019-02-01';
SELECT issue_invoice('SI3', 'ONE', '2019-02-01', '2019-03-05');
-- supplementary: a refund gives credit back
INSERT INTO utilization (service_period, account_id, service, amount) VALUES
	('2019-02-01', '000011111234', 'Amazon EC2', -40);
SELECT issue_invoice('SI4', 'ONE', '2019-02-01', '2019-03-06');
INSERT INTO utilization (service_period, account_id, service, amount)
	SELECT * FROM charge WHERE service_period = '2019-03-01';
SELECT issue_invoice('SI5', 'ONE', '2019-03-01', '2019-04-05');
-- the void one says what it said
SELECT void_invoice('SI5', 'wrong');
UPDATE utilization SET amount = amount + 1 WHERE service_period = '2019-03-01';
END
	books_are_sound($database);
}

# The JSON values that a query returns, in its order.
sub rows
{
	my ($query) = @_;
	return decode_json(psql($database, "SELECT coalesce(json_agg(line), '[]') FROM ($query) found (line)"));
}

sub literal
{
	my ($text) = @_;
	return "'" . $text =~ s/'/''/gr . "'";
}

# Writes a document to a file and opens that.
sub open_document
{
	my ($name, $function, @arguments) = @_;
	my $page = psql($database, "SELECT creditmemo.$function(" . join(', ', map { literal($_) } @arguments) . ')');
	unlike($page, qr/[^\x00-\x7f]/, "$name is ASCII");
	my $path = "$directory/" . $name =~ s/\W+/_/gr . '.html';
	open my $file, '>', $path or die "$path: $!";
	print $file $page;
	close $file;
	$browser->emulate('screen', 'light');
	$browser->resize($WIDE, 800);
	$browser->visit("file://$path");
	is_deeply([ grep { !/^data:/ } $browser->requested_urls ], ["file://$path"], "$name fetches nothing");
}

# A script returns a list of what is wrong; the test passes if there is nothing.
sub finds_nothing
{
	my ($test, $script, @arguments) = @_;
	my $found = $browser->evaluate($script, @arguments);
	ok(!@$found, $test) or diag join "\n", @$found;
}

# Of each row that a selector finds, the texts of its cells that others find: '' where there is none.
sub shown_rows
{
	my ($row, @cells) = @_;
	return $browser->evaluate(<<'END', $row, \@cells);
const [row, cells] = arguments;
return Array.from(document.querySelectorAll(row), found =>
	cells.map(cell => found.querySelector(cell)?.innerText.trim() ?? ''));
END
}

# Of each row that a selector finds, its class and its td.
sub shown_facts
{
	my ($row) = @_;
	return $browser->evaluate(<<'END', $row);
return Array.from(document.querySelectorAll(arguments[0]), found =>
	[found.className, found.querySelector('td:last-child').innerText.trim()]);
END
}

sub check_inert
{
	my ($name) = @_;
	is($browser->alert_text, undef, "$name alerts nobody");
	finds_nothing("$name has nothing that runs", <<'END');
const is_active = element => /^(script|iframe|object|embed|form|base|link)$/i.test(element.localName)
	|| Array.from(element.attributes).some(({name, value}) => /^on/i.test(name) || /^\s*javascript:/i.test(value));
return Array.from(document.querySelectorAll('*')).filter(is_active).map(element => element.outerHTML);
END
}

# Texts of the books are each the whole text of an element.
sub check_texts
{
	my ($name, $query) = @_;
	my $texts = rows($query);
	cmp_ok(scalar @$texts, '>', 0, "$name has texts of the books");
	finds_nothing("$name shows them as they are", <<'END', $texts);
const shown = new Set(Array.from(document.body.querySelectorAll('*'), element => element.textContent));
return arguments[0].filter(text => !shown.has(text));
END
}

# What sticks out of the page, is cut off, or covers other text.
sub check_layout
{
	my ($name, $medium, $width) = @_;
	$browser->emulate($medium, 'light');
	$browser->resize($width, 800);
	finds_nothing("$name fits into $width pixels of $medium", <<'END', $width);
const width = arguments[0], found = [];
const describe = node => {
	const element = node.nodeType === Node.TEXT_NODE ? node.parentElement : node;
	return `${element.localName}.${element.getAttribute('class') ?? ''} "${node.textContent.trim().slice(0, 40)}"`;
};
const page = document.body.getBoundingClientRect();
const sticks_out = rect => rect.width > 0 && rect.height > 0
	&& (rect.left < page.left - 1 || rect.right > page.right + 1);
const covers = (one, other) =>
	Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1
	&& Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > Math.min(one.height, other.height) / 2;

if (document.documentElement.scrollWidth > width || page.left < 0 || page.right > width)
	found.push(`the page is ${document.documentElement.scrollWidth} wide`);
// VOID lies over everything
const elements = Array.from(document.body.querySelectorAll('*')).filter(element => !element.closest('p.void'));
for (const element of elements) {
	const in_svg = element.ownerSVGElement != null;
	if (!in_svg && sticks_out(element.getBoundingClientRect()))
		found.push('sticks out: ' + describe(element));
	if (!in_svg && getComputedStyle(element).overflowX !== 'visible' && element.scrollWidth > element.clientWidth + 1)
		found.push('cuts off: ' + describe(element));
}
const texts = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
	const node = walker.currentNode, parent = node.parentElement;
	if (!node.data.trim() || parent.closest('p.void, style, title'))
		continue;
	const range = document.createRange();
	range.selectNodeContents(node);
	const frame = parent.ownerSVGElement?.getBoundingClientRect();
	for (const rect of range.getClientRects()) {
		if (rect.width === 0 || rect.height === 0)
			continue;
		if (sticks_out(rect))
			found.push('text sticks out: ' + describe(node));
		if (frame && (rect.left < frame.left - 1 || rect.right > frame.right + 1
			|| rect.top < frame.top - rect.height / 4 || rect.bottom > frame.bottom + rect.height / 4))
			found.push('text is cut off: ' + describe(node));
		const covered = texts.find(text => text.node !== node && covers(text.rect, rect));
		if (covered)
			found.push(`${describe(node)} covers ${describe(covered.node)}`);
		texts.push({node, rect});
	}
}
return Array.from(new Set(found));
END
}

# Amounts and numbers of accounts are each on one line.
sub check_numbers
{
	my ($name) = @_;
	finds_nothing("$name breaks no number", <<'END');
const numbers = Array.from(document.querySelectorAll('td.amount, bdi'))
	.filter(element => element.localName === 'td' || /^\d{12}$/.test(element.textContent));
return numbers.filter(element => {
	const range = document.createRange();
	range.selectNodeContents(element);
	const tops = Array.from(range.getClientRects()).filter(rect => rect.width > 0).map(rect => rect.top);
	return Math.max(...tops) - Math.min(...tops) > 4;
}).map(element => element.innerText);
END
}

# Text and what is behind it, up to the canvas of the page, differ enough.
sub check_contrast
{
	my ($name, $color_scheme) = @_;
	$browser->emulate('screen', $color_scheme);
	$browser->resize($WIDE, 800);
	finds_nothing("$name can be read when it is $color_scheme", <<'END', $readable_contrast);
const enough = arguments[0], found = [];
const pixel = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
// as red, green and blue, over what is behind it
const paint = (...colors) => {
	for (const color of colors) {
		pixel.fillStyle = color;
		pixel.fillRect(0, 0, 1, 1);
	}
	return pixel.getImageData(0, 0, 1, 1).data;
};
const luminance = rgb => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
	const share = rgb[i] / 255;
	return sum + weight * (share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4);
}, 0);
// what the browser paints where nothing else is painted depends on the page's color-scheme
const probe = document.createElement('p');
probe.style.background = 'Canvas';
document.documentElement.append(probe);
const canvas = getComputedStyle(probe).backgroundColor;
probe.remove();
for (const element of document.body.querySelectorAll('*')) {
	const has_text = Array.from(element.childNodes).some(node => node.nodeType === Node.TEXT_NODE && node.data.trim());
	if (!has_text || element.closest('p.void, svg, style, title') || element.getClientRects().length === 0)
		continue;
	const behind = [];
	for (let ancestor = element; ancestor; ancestor = ancestor.parentElement)
		behind.unshift(getComputedStyle(ancestor).backgroundColor);
	const color = getComputedStyle(element).color;
	const [darker, lighter] = [paint(canvas, ...behind), paint(canvas, ...behind, color)]
		.map(luminance).sort((one, other) => one - other);
	const contrast = (lighter + 0.05) / (darker + 0.05);
	if (contrast < enough)
		found.push(`${contrast.toFixed(1)}: ${color} on ${canvas}, ${behind}: ${element.textContent.trim().slice(0, 40)}`);
}
return found;
END
}

# VOID stands on the page, on the screen and on paper, or nowhere.
sub check_void
{
	my ($name, $is_void) = @_;
	my ($expected, $what) = $is_void ? (['VOID'], 'void') : ([], 'not void');
	for my $medium (qw(screen print))
	{
		$browser->emulate($medium, 'light');
		is_deeply($browser->evaluate(<<'END'), $expected, "$name is $what on the $medium");
return Array.from(document.querySelectorAll('p.void')).filter(element => {
	const rect = element.getBoundingClientRect();
	return element.checkVisibility({opacityProperty: true, visibilityProperty: true})
		&& rect.width > 0 && rect.height > 0 && rect.right > 0 && rect.left < innerWidth;
}).map(element => element.textContent);
END
	}
}

sub check_sheets
{
	my ($name) = @_;
	$browser->emulate('', 'light');
	for my $paper (sort keys %papers)
	{
		my $pages = () = $browser->print_pdf(@{ $papers{$paper} }) =~ m{/Type\s*/Page\b}g;
		is($pages, 1, "$name is one sheet of $paper");
	}
}

sub take_pictures
{
	my ($name) = @_;
	return unless $ENV{SHOTS};
	for my $width ($WIDE, $NARROW)
	{
		for my $color_scheme (qw(light dark))
		{
			$browser->resize($width, 800);
			$browser->emulate('screen', $color_scheme);
			my $path = "$ENV{SHOTS}/${database}_" . $name =~ s/\W+/_/gr . "_${width}_$color_scheme.png";
			open my $file, '>:raw', $path or die "$path: $!";
			print $file $browser->screenshot;
			close $file;
		}
	}
}

# What holds for every document.
sub check_page
{
	my ($name, $is_void) = @_;
	check_inert($name);
	for my $size ([ 'screen', $WIDE ], [ 'screen', $NARROW ], [ 'print', $PAPER ])
	{
		check_layout($name, @$size);
		check_numbers("$name in $size->[1] pixels");
	}
	check_contrast($name, $_) foreach qw(light dark);
	check_void($name, $is_void);
	take_pictures($name);
}

sub check_facts
{
	my ($name, $selector, $expected) = @_;
	cmp_ok(scalar @$expected, '>', 0, "$name has figures in the books");
	is_deeply(shown_facts($selector), $expected, "$name, $selector");
}

# The query's columns are classes and amounts, texts or null; those that are null are not shown.
sub facts
{
	my ($table, $condition, @facts) = @_;
	my $values = join ', ', map { "('$facts[2 * $_]', $facts[2 * $_ + 1])" } 0 .. $#facts / 2;
	return rows("SELECT json_build_array(fact.class, fact.shown) FROM $table t
		CROSS JOIN LATERAL (VALUES $values) fact (class, shown) WHERE $condition AND fact.shown IS NOT NULL");
}

sub money
{
	my ($amount) = @_;
	return "creditmemo.money_text($amount, currency)";
}

sub date
{
	my ($date) = @_;
	return "to_char($date, 'FMMonth FMDD, YYYY')";
}

# What stands of a member account: its name, its id and that the billing is a supplement.
sub account
{
	return "concat_ws(E'\\n', account_name, account_id,
		CASE WHEN billing_no > 1 THEN format('Supplementary billing, no. %s of the month', billing_no) END)";
}

sub check_invoice
{
	my ($number) = @_;
	my $name = "invoice $number";
	my $this = "invoice_number = '$number'";
	open_document($name, 'invoice_html', $number);

	check_facts($name, 'table.facts tr', facts('creditmemo.invoice_face', $this,
		'invoice-number' => 'invoice_number', 'invoice-date' => date('invoice_date'),
		'due-date' => 'CASE WHEN balance_due > 0 THEN ' . date('due_date') . ' END',
		'service-period' => 'creditmemo.service_period_text(service_period)',
		# of several accounts, only if it is that of all
		'po-number' => "(SELECT min(po_number) FROM creditmemo.invoice_body b
			WHERE b.invoice_number = t.invoice_number
			HAVING count(*) = count(po_number) AND min(po_number) = max(po_number))",
		'customer-id' => 'customer_id', 'account' => "(SELECT " . account() . " FROM creditmemo.invoice_body b
			WHERE b.invoice_number = t.invoice_number AND t.scope = 'single')"));
	my ($face) = @{ rows("SELECT to_json(f) FROM creditmemo.invoice_face f WHERE $this") };
	$face->{scope} eq 'single' ? check_face($name, $this) : check_accounts($name, $this);
	check_lines($name, $this);
	is($browser->evaluate('return document.querySelectorAll("div.remittance").length'),
		$face->{balance_due} > 0 ? 1 : 0, "$name says where to pay if something is due");
	check_texts($name, "SELECT to_json(customer_name) FROM creditmemo.invoice_face WHERE $this
		UNION ALL SELECT to_json(account_name) FROM creditmemo.invoice_body JOIN creditmemo.invoice_face f
			USING (invoice_number) WHERE $this AND account_name IS NOT NULL AND f.scope = 'multiple'
		UNION ALL SELECT to_json(po_number) FROM creditmemo.invoice_body WHERE $this AND po_number IS NOT NULL
		UNION ALL SELECT to_json(service) FROM creditmemo.invoice_line WHERE $this");
	check_sheets($name) unless $face->{customer_id} eq 'NASTY';
	check_page($name, defined $face->{voided_at});
}

# One account: the credit stands on the face.
sub check_face
{
	my ($name, $this) = @_;
	check_facts($name, 'table.face tr', facts('creditmemo.invoice_face', $this,
		'total-utilization' => money('total_utilization'),
		'credit-applied' => money('nullif(credit_applied, 0)'), 'balance-due' => money('balance_due')));
}

# Several accounts: the credit stands against its own.
sub check_accounts
{
	my ($name, $this) = @_;
	my $accounts = shown_rows('table.accounts tbody tr', map { "td.$_" }
		qw(account po-number amount.utilization amount.credit-applied amount.due));
	is_deeply($accounts, rows("SELECT json_build_array(" . account() . ", coalesce(po_number, ''), "
		. join(', ', map { "coalesce($_, '')" } money('utilization'), money('nullif(credit_applied, 0)'), money('due'))
		. ") FROM creditmemo.invoice_body WHERE $this ORDER BY account_id"), "$name, accounts");
	is_deeply(shown_rows('table.accounts tfoot tr.total', map { "td.amount.$_" }
			qw(total-utilization credit-applied balance-due)),
		rows('SELECT json_build_array(' . join(', ', map { "coalesce($_, '')" }
			money('total_utilization'), money('nullif(credit_applied, 0)'), money('balance_due'))
			. ") FROM creditmemo.invoice_face WHERE $this"), "$name, total");
}

# What each account used, service by service.
sub check_lines
{
	my ($name, $this) = @_;
	my $shown = $browser->evaluate(<<'END');
return Array.from(document.querySelectorAll('table.lines tbody'), (account, place) =>
	Array.from(account.querySelectorAll('tr.line'), line =>
		[place, line.querySelector('td.service').textContent, line.querySelector('td.amount').innerText])).flat();
END
	my $expected = rows("SELECT json_build_array(dense_rank() OVER (ORDER BY account_id) - 1, service, "
		. money('utilization') . ") FROM creditmemo.invoice_line
		JOIN creditmemo.invoice_face USING (invoice_number) WHERE $this");
	my @sorted = map { [ sort { "@$a" cmp "@$b" } @$_ ] } $shown, $expected;
	is_deeply(@sorted, "$name, lines");
}

sub check_email
{
	my ($number) = @_;
	my $name = "e-mail $number";
	my $this = "invoice_number = '$number'";
	open_document($name, 'email_html', $number);

	check_facts($name, 'table.balances tr:not(.account)', facts(
		"(SELECT * FROM creditmemo.invoice_body WHERE prior_balance <> 0 OR credit_applied <> 0 ORDER BY account_id)",
		$this, 'prior-balance' => money('prior_balance'), 'utilization' => money('credit_applied'),
		'balance-of-funds' => money('balance_of_funds')));
	my ($text) = @{ rows("SELECT to_json(creditmemo.email_text('$number'))") };
	my $shown = $browser->evaluate('return document.body.innerText');
	is(join(' ', split ' ', $shown), join(' ', split ' ', $text), "$name says what its text says");
	check_page($name, 0);
}

# Without months: of all.
sub check_statement
{
	my ($account, $from, $to) = @_;
	my $name = "statement $account" . ($from ? " from $from to $to" : '');
	open_document($name, 'statement_html', $account, $from // (), $to // ());
	$from //= '-infinity';
	$to //= 'infinity';
	my $months = "(SELECT m.*, c.currency, statement_period >= '$from' AS is_shown
		FROM creditmemo.credit_month m
		JOIN creditmemo.member_account a USING (account_id, customer_id)
		JOIN creditmemo.customer c USING (customer_id)
		WHERE m.account_id = '$account' AND m.statement_period <= '$to')";
	check_totals($name, $months);
	check_chart($name, $months);
	check_memos($name, $account) if $to eq 'infinity';
	check_movements($name, $months, $account);
	check_texts($name, "SELECT to_json(memo_number) FROM creditmemo.credit_movement
			WHERE account_id = '$account' AND statement_period BETWEEN '$from' AND '$to'
		UNION ALL SELECT to_json(c.name) FROM creditmemo.customer c
			JOIN creditmemo.member_account a USING (customer_id) WHERE a.account_id = '$account'
		UNION ALL SELECT to_json(name) FROM creditmemo.member_account
			WHERE account_id = '$account' AND name IS NOT NULL");
	check_page($name, 0);
}

sub check_totals
{
	my ($name, $months) = @_;
	my %total = map { $_ => "coalesce(sum($_) FILTER (WHERE is_shown), 0)" } qw(issued used lapsed);
	my $totals = "(SELECT coalesce(sum(change) FILTER (WHERE NOT is_shown), 0) AS opening, $total{issued} AS issued,
		$total{used} AS used, $total{lapsed} AS lapsed, sum(change) AS closing, currency
		FROM $months m GROUP BY currency)";
	check_facts($name, 'table.totals tr', facts($totals, 'true', 'opening' => money('opening'),
		'issued' => money('issued'), 'used' => money('used'), 'lapsed' => money('nullif(lapsed, 0)'),
		'closing' => money('closing')));
}

# The bars: what they say, and that the balances are as high as they say.
sub check_chart
{
	my ($name, $months) = @_;
	my $shown = $browser->evaluate(<<'END');
return Array.from(document.querySelectorAll('svg g.month:not(.projected)'), month =>
	[month.querySelector('title').textContent.replace(/, (used|void).*/, ''),
		month.querySelector('rect.left')?.getBBox().height ?? 0]);
END
	my $expected = rows("SELECT json_build_array(creditmemo.service_period_text(statement_period) || ': balance '
			|| " . money('balance') . ", balance) FROM (SELECT *, sum(change) OVER (ORDER BY statement_period) AS balance
			FROM $months m) m WHERE is_shown ORDER BY statement_period");
	is_deeply([ map { $_->[0] } @$shown ], [ map { $_->[0] } @$expected ], "$name, months of the chart");
	my ($highest) = sort { $b->[1] <=> $a->[1] } @$expected;
	my ($height) = sort { $b <=> $a } map { $_->[1] } @$shown;
	my @wrong = grep { abs($shown->[$_][1] * $highest->[1] - $expected->[$_][1] * $height) > 2 * $highest->[1] }
	  0 .. $#$expected;
	is(@wrong, 0, "$name, heights of the bars");
}

# Memos over all their time, in any order.
sub check_memos
{
	my ($name, $account) = @_;
	my $memos = "(SELECT m.*, amount - applied - balance AS lapsed, currency FROM creditmemo.memo_balance m
		JOIN creditmemo.customer USING (customer_id) WHERE account_id = '$account')";
	my $shown = shown_rows('table.memos tbody tr', 'td.memo .name', 'td.po-number',
		map { "td.amount.$_" } qw(issued applied lapsed balance));
	is_deeply([ sort { $a->[0] cmp $b->[0] } @$shown ],
		rows("SELECT json_build_array(memo_number, po_number, " . join(', ', map { "coalesce($_, '')" } money('amount'),
				money('-nullif(applied, 0)'), money('-nullif(lapsed, 0)'), money('balance'))
			. ") FROM $memos m ORDER BY memo_number"), "$name, memos");
	is_deeply(shown_rows('table.memos tfoot tr', 'td.amount.balance'),
		rows('SELECT json_build_array(' . money('sum(balance)') . ") FROM $memos m GROUP BY currency"),
		"$name, total of memos");
}

# In order of recording; those of months before the statement stand between, taken together.
sub check_movements
{
	my ($name, $months, $account) = @_;
	is_deeply(shown_rows('table.movements tbody tr',
			qw(td.period td.memo td.invoice td.amount.moved td.amount.balance)),
		rows("SELECT CASE WHEN is_shown THEN json_build_array(to_char(min(statement_period), 'Mon YYYY'),
				min(memo_number), coalesce(min(invoice_number),
					CASE WHEN min(billing_no) IS NULL THEN '' ELSE 'not invoiced yet' END), " . money('sum(amount)') . ', ' . money('(array_agg(balance ORDER BY recorded_at, memo_id, entry_no))[count(*)]') . ")
			ELSE json_build_array('', '', '', " . money('sum(amount)') . ', ' . money('(array_agg(balance ORDER BY recorded_at, memo_id, entry_no))[count(*)]') . ") END
			FROM (SELECT *, sum(amount) OVER recorded AS balance,
					count(*) FILTER (WHERE is_shown) OVER recorded AS place
				FROM creditmemo.credit_movement JOIN $months c USING (account_id, customer_id, statement_period)
				WINDOW recorded AS (ORDER BY recorded_at, memo_id, entry_no)) m
			GROUP BY is_shown, place, currency ORDER BY place, is_shown DESC"), "$name, movements");
}

make_demo();
check_invoice($_) foreach qw(SI1001 SI1002 SI1006);
check_email($_) foreach qw(SI1001 SI1002);
check_statement($_) foreach qw(000011111234 410022227702);

make_books();
check_invoice("SI$_") foreach 1 .. 5;
check_email($_) foreach qw(SI2 SI4);
check_statement($_) foreach qw(000011111234 500000000001 500000000003);
check_statement('000011111234', '2019-02-01', '2019-02-01');
open_document('statement of nothing', 'statement_html', '500000000006');
check_page('statement of nothing', 0);

$browser->stop;
done_testing();
