# Random histories: what users may do, in the order of chance, as statements for books and as changes of the model, which
# says what the books must be in the end.

package Histories;

use strict;
use warnings;
use Exporter 'import';
use List::Util qw(first maxstr min minstr shuffle uniq);
use Model;
use Psql qw(psql);
use Statements qw(quoted list rows money key as_insert as_load as_merge as_statement);
use Storable qw(dclone);
use Test::More;

our @EXPORT_OK = qw(random_history prepare_histories are_as_modelled);

my @periods = map { sprintf '2019-%02d-01', $_ } 1 .. 4;
my @services = ('Amazon EC2', 'Amazon S3', 'Tax');
my @isolation_levels = ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');

sub any { return $_[ rand @_ ] }
sub some { my $n = shift; return (shuffle @_)[ 0 .. min($n, scalar @_) - 1 ] }
sub chance { return rand() < $_[0] }
sub some_amount { return chance(0.25) ? -int rand 2000 : int rand 2000 }
sub some_day { return sprintf '2019-%02d-%02d', 1 + int rand 4, 1 + int rand 28 }
sub some_reason { return chance(0.04) ? any(undef, '', ' ') : any('a mistake', 'entered twice') }

# ---- statements ----

# The statement; or if the model refused it, that it must fail.
sub event
{
	my ($statement, $refused) = @_;
	return $refused ? sprintf('SELECT must_fail($$%s$$, %s)', $statement, quoted($refused)) : $statement;
}

# Calls a function that is called alike in both.
sub call
{
	my ($history, $function, @arguments) = @_;
	my ($refused, $count) = $history->{model}->$function(@arguments);
	my $call = sprintf '%s(%s)', $function, list(map { quoted($_) } @arguments);
	return event(defined $count ? "SELECT must_be($call, $count)" : "SELECT $call", $refused);
}

# ---- events: each changes the model and returns what does the same ----

# Of an account; hardly ever one that takes no lines.
sub some_period
{
	my ($history, $account_id) = @_;
	my @open = grep { !$history->{model}->is_barred({ account_id => $account_id, service_period => $_ }) } @periods;
	return any(@open && chance(0.96) ? @open : @periods);
}

sub new_line
{
	my ($history) = @_;
	my $account_id = any($history->{model}->accounts)->{account_id};
	return {
		account_id => $account_id,
		source_id => 'L' . ++$history->{lines},
		service_period => some_period($history, $account_id),
		service => any(@services),
		amount => some_amount(),
		creditable => chance(0.85) ? 1 : 0,
		description => any('one', 'two'),
	};
}

sub new_lines { my ($history, $n) = @_; return map { [ undef, new_line($history) ] } 1 .. $n }

# The line unchanged, or with one or two of the columns changed, hardly ever where that is refused.
sub restated
{
	my ($history, $line, $chance, @columns) = @_;
	return {%$line} unless chance($history->{model}->is_changeable($line) ? $chance : 0.02);
	my $other = { %{ new_line($history) }, creditable => 1 - $line->{creditable} };
	return { %$line, map { $_ => $other->{$_} } some(any(1, 1, 2), @columns) };
}

sub write_lines
{
	my ($history, $as_statement, @changes) = @_;
	@changes = shuffle @changes;
	return @changes ? event($as_statement->(@changes), $history->{model}->write_lines(@changes)) : ();
}

sub random_load
{
	my ($history) = @_;
	return write_lines($history, \&as_insert, new_lines($history, any(1, 1, 2, 5, 12)));
}

# Lines taken back, invoiced or not.
sub random_refund
{
	my ($history) = @_;
	my @charges = grep { $_->{amount} > 0 && (chance(0.05) || !$history->{model}->is_barred($_)) } $history->{model}->lines;
	my @refunds = map { +{ %$_, source_id => 'L' . ++$history->{lines}, amount => -$_->{amount} } } some(any(1, 2, 4), @charges);
	return write_lines($history, \&as_insert, map { [ undef, $_ ] } @refunds);
}

# A month loaded again, with a few restated and new lines.
sub random_reload
{
	my ($history) = @_;
	my $period = any(@periods);
	my @known = grep { $_->{service_period} eq $period && chance(0.8) } $history->{model}->lines;
	my @changes = map { [ $_, restated($history, $_, 0.4, qw(amount amount service creditable description)) ] } @known;
	return write_lines($history, \&as_load, @changes, new_lines($history, any(0, 1, 3)));
}

sub random_restatement
{
	my ($history) = @_;
	my $model = $history->{model};
	my ($changed, $deleted) = (any(0.6, 1, 1), any(0, 0, 0.3, 1));
	my @lines = some(any(1, 1, 2, 3, 6), grep { $changed < 1 || chance(0.05) || $model->is_changeable($_) } $model->lines);
	my @columns = (($history->{is_distributed} ? () : 'account_id'),
		qw(source_id service_period service creditable description), ('amount') x 6);
	my @changes = map {
		my $is_deleted = chance($model->is_changeable($_) ? $deleted : 0.05);
		[ $_, $is_deleted ? undef : restated($history, $_, $changed, @columns) ]
	} @lines;
	my $form = $history->{has_merge} && chance(0.3) ? \&as_merge : \&as_statement;
	push @changes, new_lines($history, any(0, 0, 0, 2));
	return $history->{is_distributed} ? in_parts($history, @changes) : write_lines($history, $form, @changes);
}

# Each kind of change as a statement of its own.
sub in_parts
{
	my ($history, @changes) = @_;
	my @parts = ([ grep { !$_->[1] } @changes ], [ grep { $_->[0] && $_->[1] } @changes ], [ grep { !$_->[0] } @changes ]);
	return map { write_lines($history, \&as_statement, @$_) } @parts;
}

# All lines of an open billing are withdrawn.
sub random_withdrawal
{
	my ($history) = @_;
	my $model = $history->{model};
	my ($line, @others) = shuffle grep { $model->is_changeable($_) } $model->lines or return;
	my @lines = ($line, grep { $_->{account_id} eq $line->{account_id} && $_->{service_period} eq $line->{service_period} } @others);
	return write_lines($history, \&as_statement, map { [ $_, undef ] } @lines);
}

sub random_memo
{
	my ($history) = @_;
	my $account = any($history->{model}->accounts);
	my $redeemed_on = minstr(some_day(), some_day());
	my $expires_on = chance(0.6) ? maxstr($redeemed_on, some_day()) : undef;
	$expires_on = undef if defined $expires_on && substr($expires_on, 0, 7) le $account->{closed_through} && chance(0.9);
	return {
		account_id => $account->{account_id},
		memo_number => "$history->{name}-M" . ++$history->{memos}{ $account->{account_id} },
		amount => 1 + int rand any(1000, 5000, 20000),
		redeemed_on => $redeemed_on,
		expires_on => $expires_on,
		priority => any(1, 100, 100, 100),
		services => any(undef, undef, undef, ['Amazon EC2'], [ 'Amazon S3', 'Amazon EC2' ]),
	};
}

sub random_memos
{
	my ($history) = @_;
	my @columns = qw(account_id memo_number redeemed_on expires_on priority);
	my @memos = map { random_memo($history) } 1 .. any(1, 1, 1, 3);
	my @values = map {
		my $services = $_->{services} && sprintf '{%s}', join ',', @{ $_->{services} };
		[ map { quoted($_) } @$_{@columns}, money($_->{amount}), $services ]
	} @memos;
	return event(sprintf('INSERT INTO credit_memo (%s) VALUES %s', list(@columns, 'amount', 'services'), rows(@values)),
		$history->{model}->insert_memos(@memos));
}

sub random_change_of_memos
{
	my ($history) = @_;
	my @memos = some(any(1, 1, 1, 3), $history->{model}->memos) or return;
	my $expires_on = chance(0.6) ? maxstr(some_day(), map { $_->{redeemed_on} } @memos) : undef;
	my ($column, $value) = chance(0.4) ? (priority => any(1, 50, 100, 200)) : (expires_on => $expires_on);
	my $keys = rows(map { [ map { quoted($_) } @$_{qw(account_id memo_number)} ] } @memos);
	return event(sprintf('UPDATE credit_memo SET %s = %s WHERE (account_id, memo_number) IN (%s)', $column, quoted($value), $keys),
		$history->{model}->change_memos($column, $value, @memos));
}

sub random_void_of_memo
{
	my ($history) = @_;
	my $memo = any(grep { !defined $_->{void_reason} || chance(0.1) } $history->{model}->memos) or return;
	return call($history, 'void_memo', $memo->{memo_number}, some_reason(), chance(0.7) ? $memo->{account_id} : undef);
}

sub random_po
{
	my ($history) = @_;
	return if $history->{is_one_transaction};    # they are told apart by its time
	my $account_id = any($history->{model}->accounts)->{account_id};
	my $po = "$history->{name}-PO" . ++$history->{pos};
	$history->{model}->assign_po($account_id, $po);
	return "INSERT INTO po_assignment (account_id, po_number) VALUES ('$account_id', '$po')";
}

sub random_move_of_account
{
	my ($history) = @_;
	my @accounts = $history->{model}->accounts;
	my @spent = grep { !grep { $_->{balance} > 0 } @{ $_->{memos} } } @accounts;
	my $account_id = any(@spent && chance(0.8) ? @spent : @accounts)->{account_id};
	my $column = any('customer_id', 'payer_account_id');
	my $value = any(@{ $history->{$column} });
	return event("UPDATE member_account SET $column = '$value' WHERE account_id = '$account_id'",
		$history->{model}->move_account($account_id, $column, $value));
}

# A month of a customer, all accounts unless some are given.
sub invoice
{
	my ($history, $customer_id, $period, @accounts) = @_;
	my @numbers = @{ $history->{invoices} };
	my $number = @numbers && chance(0.02) ? any(@numbers) : "$history->{name}-SI" . (1 + @numbers);
	my $refused = $history->{model}->issue_invoice($number, $customer_id, $period, @accounts);
	push @{ $history->{invoices} }, $number unless $refused;
	my $statement = sprintf 'SELECT issue_invoice(%s, %s)', list(map { quoted($_) } $number, $customer_id, $period, '2019-06-01'),
	  @accounts ? sprintf("'{%s}'", join ',', @accounts) : 'NULL';
	return (event($statement, $refused), $refused ? () : 'INSERT INTO kept SELECT * FROM document WHERE invoice_number = ' . quoted($number));
}

sub random_invoice
{
	my ($history) = @_;
	return invoice($history, any(@{ $history->{customer_id} }), any(@periods)) if chance(0.05);
	my $unbilled = any($history->{model}->unbilled) or return;
	my ($account, $period) = @$unbilled;
	my $customer_id = $account->{customer_id};
	my @accounts = some(2, map { $_->{account_id} } grep { $_->{customer_id} eq $customer_id || chance(0.05) } $history->{model}->accounts);
	return invoice($history, $customer_id, $period, chance(0.5) ? @accounts : ());
}

# Most of the time of one of the newest.
sub random_void_of_invoice
{
	my ($history) = @_;
	my $issued = $history->{model}{invoice};
	my @numbers = reverse grep { !defined $issued->{$_}{void_reason} || chance(0.05) } @{ $history->{invoices} } or return;
	my $number = any(@numbers[ 0 .. (chance(0.6) ? min(2, $#numbers) : $#numbers) ]);
	return call($history, 'void_invoice', $number, some_reason());
}

# Most of the time after everything was invoiced.
sub random_close
{
	my ($history) = @_;
	my $period = any(@periods[ 0, 0, 1, 1, 1, 2, 2, 3 ]);
	my $payer = any(@{ $history->{payer_account_id} });
	my @unbilled = grep { $_->[0]{payer_account_id} eq $payer && $_->[1] le $period } $history->{model}->unbilled;
	@unbilled = () if chance(0.1);
	return ((map { invoice($history, split /\|/) } uniq map { "$_->[0]{customer_id}|$_->[1]" } @unbilled),
		call($history, 'close_period', $period, $payer));
}

sub random_reopen
{
	my ($history) = @_;
	my $account = any($history->{model}->accounts);
	my @closed = grep { $_ le $account->{closed_through} } @periods;
	return call($history, 'reopen_period', any(@closed && chance(0.9) ? @closed : @periods), $account->{payer_account_id}, some_reason());
}

# An event that is rolled back, from books and model.
sub random_dry_run
{
	my ($history) = @_;
	my ($begin, $rollback) = $history->{is_one_transaction} ? ('SAVEPOINT dry_run', 'ROLLBACK TO dry_run') : ('BEGIN', 'ROLLBACK');
	local @$history{qw(model invoices is_one_transaction)} = (@{ dclone([ @$history{qw(model invoices)} ]) }, 1);
	return ($begin, one_connection($history), random_event($history), $rollback);
}

# What transactions of several statements begin with where Citus would else refuse some, saying just this.
sub one_connection { return $_[0]{is_distributed} ? "SET LOCAL citus.multi_shard_modify_mode = 'sequential'" : () }

# The balances of now are to be told at the end.
sub random_moment
{
	my ($history) = @_;
	return if @{ $history->{model}{then} };
	$history->{model}->remember_balances;
	return "INSERT INTO moment VALUES ('$history->{name}', clock_timestamp())";
}

# What no rule allows.
sub random_mistake
{
	my ($history) = @_;
	my $line = any($history->{model}->lines) or return;
	my $account = any($history->{model}->accounts);
	my $this_line = sprintf 'account_id = %s AND source_id = %s', key($line);
	my $this_account = 'account_id = ' . quoted($account->{account_id});
	return event(@{ any(
		[ "UPDATE utilization SET billing_no = billing_no + 1 WHERE $this_line", '428C9' ],
		[ "UPDATE utilization SET recorded_at = '2019-01-01' WHERE $this_line", '428C9' ],
		[ "INSERT INTO utilization (account_id, service_period, service, amount, billing_no) SELECT account_id, service_period, service, amount, 2 FROM utilization WHERE $this_line", '428C9' ],
		[ "UPDATE member_account SET closed_through = '2019-12-01' WHERE $this_account", '428C9' ],
		[ "UPDATE member_account SET account_id = 'nobody' WHERE $this_account", $history->{is_distributed} ? '0A000' : '23001' ],
		[ as_insert([ undef, { %{ new_line($history) }, account_id => 'nobody' } ]), '23503' ],
		[ "SELECT close_period('2019-01-01', 'nobody')", '23503' ],
		[ "SELECT void_memo('none', 'a mistake')", 'P0002' ],
		[ "SELECT void_invoice('none', 'a mistake')", 'P0002' ]) });
}

# ---- histories ----

my @events = (
	(\&random_load) x 6, (\&random_refund) x 2, (\&random_reload) x 3, (\&random_restatement) x 5, (\&random_withdrawal) x 2,
	(\&random_memos) x 3, (\&random_change_of_memos) x 2, (\&random_void_of_memo) x 2,
	(\&random_invoice) x 5, (\&random_void_of_invoice) x 4, (\&random_close) x 3, (\&random_reopen) x 2,
	\&random_po, \&random_move_of_account, \&random_mistake, \&random_dry_run, \&random_moment);

# Some there is nothing for, at times.
sub random_event
{
	my ($history) = @_;
	my @statements;
	@statements = any(@events)->($history) until @statements;
	return @statements;
}

# Options: has_merge, whether the server can; is_distributed, whether only what Citus can is to be done.
sub random_history
{
	my ($seed, %options) = @_;
	srand $seed;
	my $name = "H$seed";
	my $model = Model->new;
	my $history = {
		%options,
		name => $name,
		model => $model,
		customer_id => [ "$name-A", "$name-B", "$name-EUR" ],
		payer_account_id => [ map { "$name-P$_" } 1 .. any(1, 2) ],
		invoices => [],
		is_one_transaction => chance(0.2),
	};
	$model->add_customer($_, /EUR/ ? 'EUR' : 'USD') foreach @{ $history->{customer_id} };
	for my $account_id (map { "$name-$_" } 1 .. any(1, 2, 3))
	{
		my ($customer_id, $payer) = ("$name-" . any('A', 'A', 'B'), any(@{ $history->{payer_account_id} }));
		$model->add_account(account_id => $account_id, customer_id => $customer_id, payer_account_id => $payer);
		$model->assign_po($account_id, 'PO');
	}
	my @script = (
		"INSERT INTO customer (customer_id, name, currency) VALUES ('$name-A', 'A', 'USD'), ('$name-B', 'B', 'USD'), ('$name-EUR', 'E', 'EUR')",
		'INSERT INTO payer_account VALUES ' . rows(map { [ quoted($_) ] } @{ $history->{payer_account_id} }),
		'INSERT INTO member_account (account_id, customer_id, payer_account_id) VALUES '
		  . rows(map { [ map { quoted($_) } @$_{qw(account_id customer_id payer_account_id)} ] } $model->accounts),
		"INSERT INTO po_assignment (account_id, po_number) SELECT account_id, 'PO' FROM member_account WHERE account_id LIKE '$name-%'");
	push @script, 'BEGIN ISOLATION LEVEL ' . any(@isolation_levels), one_connection($history) if $history->{is_one_transaction};
	push @script, random_event($history) foreach 1 .. 20 + int rand 41;
	push @script, 'COMMIT' if $history->{is_one_transaction};
	$history->{script} = join '', map { "$_;\n" } @script;
	$history->{expected} = $model->books;
	return $history;
}

# What prints the books of a history as the model writes them, and invoices whose documents have changed.
sub books
{
	my ($name) = @_;
	my $cents = sub { return list(map { "trunc($_ * 100)" } @_) };
	my @figures = ('billing_no', $cents->(qw(utilization creditable credit)), 'po_number', $cents->(qw(prior_balance balance_after)));
	my @books = (
		[ account => 'account_id', 'customer_id', 'payer_account_id', 'closed_through', 'FROM member_account' ],
		[ line => 'account_id', 'source_id', 'service_period', 'service', $cents->('amount'), 'creditable::integer', 'description', 'billing_no', 'FROM utilization' ],
		[ billing => 'account_id', 'service_period', @figures, 'folded_into', 'invoice_number', 'FROM billing' ],
		[ unbilled => 'account_id', 'service_period', 'billing_no', 'po_number', $cents->(qw(prior_balance balance_after)), 'FROM unbilled' ],
		[ voided => 'account_id', 'invoice_number', 'service_period', @figures, 'FROM voided_billing' ],
		[ memo => 'account_id', 'memo_number', $cents->(qw(amount balance)), 'first_period', 'last_period', 'po_number', 'void_reason', 'FROM credit_memo' ],
		[ entry => 'account_id', 'memo_number', 'entry_no', 'entry_type', $cents->(qw(amount balance_after)), 'service_period', 'billing_no', 'service',
			'reverses', 'invoice_number', 'FROM memo_statement' ],
		[ then => 'account_id', 'memo_number', $cents->('b.balance'),
			"FROM (
				WITH told AS MATERIALIZED (SELECT b.* FROM moment, balance_as_of(at) b WHERE history = '$name')
				SELECT account_id, memo_number, b.balance FROM told b JOIN credit_memo USING (account_id, memo_id)) b" ],
		[ invoice => 'invoice_number', 'customer_id', 'service_period', 'void_reason', 'FROM invoice' ],
		[ closing => 'payer_account_id', 'service_period', 'action', 'reason', 'accounts', 'FROM period_closing' ],
	);
	return join '', "SELECT 'changed', changed_documents('$name');\n", map {
		my ($kind, @columns) = @$_;
		my $from = pop @columns;
		sprintf "SELECT '%s', %s %s WHERE %s LIKE '$name-%%';\n", $kind, list(@columns), $from, $columns[0]
	} @books;
}

# Gives a database what histories call.
sub prepare_histories
{
	my ($database) = @_;
	psql($database, <<'SQL');
-- must_fail(statement, sqlstate): runs a statement that must raise just this error
CREATE FUNCTION public.must_fail(statement text, expected text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RAISE 'no error: %', statement;
EXCEPTION WHEN OTHERS THEN
	-- of what fails on another machine that it copies rows to, Citus says no more than the message
	IF SQLSTATE <> expected AND NOT (SQLSTATE = 'XX000' AND creditmemo.is_distributed()) THEN
		RAISE;
	END IF;
END
$$;
CREATE FUNCTION public.must_be(actual bigint, expected bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	ASSERT actual = expected, format('%s, not %s', actual, expected);
END
$$;
CREATE TABLE public.moment (history text, at timestamptz);
-- the documents of invoices, kept when these are issued
CREATE VIEW public.document AS
SELECT i.invoice_number, creditmemo.invoice_html(i.invoice_number) AS page, e.subject, e.body_text, e.body_html
FROM creditmemo.invoice i CROSS JOIN LATERAL creditmemo.compose_email(i.invoice_number) e;
CREATE TABLE public.kept AS TABLE public.document WITH NO DATA;
-- the invoices of a history that say something else now; void ones must say that, and nothing else that is new
CREATE FUNCTION public.changed_documents(history text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT i.invoice_number
	FROM creditmemo.invoice i
	CROSS JOIN LATERAL (SELECT CASE WHEN i.voided_at IS NULL THEN '' ELSE E'<p class="void">VOID</p>\n' END) void (mark)
	LEFT JOIN public.document d USING (invoice_number)
	LEFT JOIN public.kept k USING (invoice_number)
	WHERE i.invoice_number LIKE history || '-%'
		AND ((d.subject, d.body_text, d.body_html, replace(d.page, void.mark, '')) IS DISTINCT FROM (k.subject, k.body_text, k.body_html, k.page)
			OR length(d.page) <> length(k.page) + length(void.mark))
$$;
SQL
}

sub show_difference
{
	my ($history, $books, $output) = @_;
	diag("again with: FIRST_SEED=" . substr($history->{name}, 1) . " HISTORIES=1 test/with-server prove $0\n$history->{script}");
	return diag($output) unless defined $books;
	my %expected = map { $_ => 1 } split /\n/, $history->{expected};
	my %actual = map { $_ => 1 } split /\n/, $books;
	diag("model: $_") foreach sort grep { !$actual{$_} } keys %expected;
	diag("books: $_") foreach sort grep { !$expected{$_} } keys %actual;
}

# Tests that the books are as the model has them after the histories, in a database that is prepared; returns whether.
sub are_as_modelled
{
	my ($database, $name, @histories) = @_;
	my @scripts = map { "\\o /dev/null\n$_->{script}\\o\nSELECT 'BOOKS $_->{name}';\n" . books($_->{name}) . "SELECT 'END';\n" } @histories;
	my $output = eval { psql($database, join '', "SET search_path = creditmemo, public;\n", @scripts) } // $@;
	my %books;
	$books{$1} = join "\n", sort split /\n/, $2 while $output =~ s/^BOOKS (\S+)\n(.*?)^END$//ms;
	my $wrong = first { ($books{ $_->{name} } // '') ne $_->{expected} } @histories;
	show_difference($wrong, $books{ $wrong->{name} }, $output) if !ok(!$wrong, $name);
	return !$wrong;
}

1;
