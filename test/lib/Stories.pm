# Books to make documents of, in short words, and what is to become of them.

package Stories;

use strict;
use warnings;
use Exporter 'import';
use Psql qw(psql);

our @EXPORT_OK = qw(prepare_stories random_books literal list called insert);

# ---- SQL in ASCII, whatever the texts are ----

sub literal
{
	my ($text) = @_;
	return 'NULL' if !defined $text;
	return sprintf "E'%s'", $text =~ s/([^ !-&(-\[\]-~])/sprintf '\\U%08X', ord $1/ger;
}

sub list { return join ', ', map { literal($_) } @_ }
sub called { my ($function, @arguments) = @_; return sprintf '%s(%s)', $function, list(@arguments) }

sub insert
{
	my ($table, %row) = @_;
	my @columns = sort keys %row;
	return sprintf "INSERT INTO %s (%s) VALUES (%s);\n", $table, join(', ', @columns), list(@row{@columns});
}

# ---- short words ----

# Writes the functions of which stories are made into the database.
sub prepare_stories
{
	my ($database) = @_;
	psql($database, <<"SQL");
ALTER DATABASE $database SET search_path = creditmemo, public;
SQL
	psql($database, <<'SQL');
CREATE VIEW public.document AS
SELECT invoice_number, creditmemo.invoice_html(invoice_number), subject, body_text, body_html
FROM creditmemo.invoice_email;
-- what documents said when the invoice was issued, and what they say now
CREATE TABLE public.kept AS TABLE public.document WITH NO DATA;
CREATE TABLE public.rendered AS TABLE public.document WITH NO DATA;

-- the invoices of which they do not say the same; void ones must say that, and nothing else that is new
CREATE FUNCTION public.changed_documents() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT i.invoice_number
	FROM creditmemo.invoice i
	CROSS JOIN LATERAL (
		SELECT CASE WHEN i.voided_at IS NULL THEN '' ELSE E'<p class="void">VOID</p>\n' END) void (mark)
	LEFT JOIN public.rendered r USING (invoice_number)
	LEFT JOIN public.kept k USING (invoice_number)
	WHERE (r.subject, r.body_text, r.body_html, replace(r.invoice_html, void.mark, ''))
			IS DISTINCT FROM (k.subject, k.body_text, k.body_html, k.invoice_html)
		OR length(r.invoice_html) <> length(k.invoice_html) + length(void.mark)
	ORDER BY i.recorded_at
$$;

CREATE FUNCTION public.add_account(account_id text, customer_id text, memo numeric = NULL, payer text = '999999999999')
RETURNS void LANGUAGE sql AS $$
	INSERT INTO creditmemo.customer (customer_id, name) VALUES (customer_id, customer_id) ON CONFLICT DO NOTHING;
	INSERT INTO creditmemo.payer_account VALUES (payer) ON CONFLICT DO NOTHING;
	INSERT INTO creditmemo.member_account (account_id, payer_account_id, customer_id)
		VALUES (account_id, payer, customer_id);
	INSERT INTO creditmemo.po_assignment (account_id, po_number) VALUES (account_id, 'PO-' || account_id);
	INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on)
		SELECT account_id, memo, '2019-01-01' WHERE memo IS NOT NULL;
$$;

CREATE FUNCTION public.add_memo(account_id text, amount numeric, redeemed_on date, expires_on date,
	services text[] = NULL)
RETURNS void LANGUAGE sql AS $$
	INSERT INTO creditmemo.credit_memo (account_id, amount, redeemed_on, expires_on, services)
		VALUES (account_id, amount, redeemed_on, CASE WHEN expires_on < redeemed_on THEN redeemed_on ELSE expires_on END,
			services)
$$;

CREATE FUNCTION public.use(account_id text, service_period date, amount numeric, service text = 'Amazon EC2',
	creditable boolean = true)
RETURNS void LANGUAGE sql AS $$
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount, creditable)
		VALUES (service_period, account_id, service, amount, creditable)
$$;

-- of all accounts of the customer
CREATE FUNCTION public.all_use(customer text, service_period date, amount numeric, service text = 'Amazon EC2')
RETURNS void LANGUAGE sql AS $$
	INSERT INTO creditmemo.utilization (service_period, account_id, service, amount)
		SELECT service_period, a.account_id, service, amount
		FROM creditmemo.member_account a WHERE a.customer_id = customer
$$;

CREATE FUNCTION public.issue(number text, customer_id text, service_period date, accounts text[] = NULL)
RETURNS void LANGUAGE sql AS $$
	SELECT creditmemo.issue_invoice(number, customer_id, service_period,
		(service_period + interval '1 month 4 days')::date, accounts);
	INSERT INTO public.kept SELECT * FROM public.document WHERE invoice_number = number
$$;

CREATE FUNCTION public.void_newest_invoice(customer text) RETURNS void LANGUAGE sql AS $$
	SELECT creditmemo.void_invoice(i.invoice_number, 'wrong')
	FROM (
		SELECT i.invoice_number
		FROM creditmemo.invoice i
		WHERE i.customer_id = customer AND i.voided_at IS NULL
		ORDER BY i.recorded_at DESC
		LIMIT 1) i
$$;

CREATE FUNCTION public.void_newest_memo(account text) RETURNS void LANGUAGE sql AS $$
	SELECT creditmemo.void_memo(m.memo_number, 'wrong', account)
	FROM (
		SELECT m.memo_number
		FROM creditmemo.credit_memo m
		WHERE m.account_id = account AND m.voided_at IS NULL
		ORDER BY m.memo_id DESC
		LIMIT 1) m
$$;

-- runs a statement that may be refused: there is nothing to do, or a period is closed
CREATE FUNCTION public.try(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
EXCEPTION WHEN no_data_found OR object_not_in_prerequisite_state THEN
	RETURN;
END
$$;

-- the error of a statement that is to fail: its SQLSTATE, and whether there is no hint
CREATE FUNCTION public.error_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'none';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || CASE WHEN hint = '' THEN ' without a hint' ELSE '' END;
END
$$;
SQL
}

# ---- whatever happens to a few customers in five months ----

sub any { return $_[ rand @_ ] }
sub chance { return rand() < $_[0] }

sub random_event
{
	my ($customer, $n, $account) = @_;
	my $month = sprintf '2020-%02d-01', 1 + rand 5;
	my $service = any('Amazon EC2', 'Amazon S3', 'Tax');
	my $amount = sprintf '%d.%02d', int rand any(10, 100, 1000), 1 + int rand 99;
	my $signed = chance(0.25) ? "-$amount" : $amount;
	my $kind = int rand 20;
	return called('use', $account, $month, $signed, $service, $service eq 'Tax' ? 'false' : 'true') if $kind < 8;
	return called('add_memo', $account, $amount, $month, any(undef, '2020-03-20', '2020-05-20'),
		any(undef, undef, '{Amazon S3}')) if $kind < 11;
	return called('issue', "$customer-SI$n", $customer, $month, chance(0.7) ? undef : "{$account}") if $kind < 15;
	return called('void_newest_invoice', $customer) if $kind < 17;
	return called('void_newest_memo', $account) if $kind < 18;
	return any(called('close_period', $month, $customer), called('reopen_period', $month, $customer, 'late'));
}

# Each customer has a payer account of his own, so that his months close for him only.
sub random_books
{
	my @events;
	for my $customer (map { "R$_" } 1 .. 16)
	{
		my @accounts = map { "$customer-$_" } 1 .. any(1, 2, 2, 3);
		push @events, map { called('add_account', $_, $customer, undef, $customer) } @accounts;
		push @events, map { random_event($customer, $_, any(@accounts)) } 1 .. 40;
	}
	return join '', map { sprintf "SELECT try(%s);\n", literal("SELECT $_") } @events;
}

1;
