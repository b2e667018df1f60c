# SQL made at random over whatever is in the schema creditmemo: tables, views, functions, sequences, as the catalogs
# have them, with values that are mostly from the books.
#
#	my $sql = RandomSql->new($database, $biller, is_owner => 1, sources => [ 'public.bill' ]);
#	$sql->look(7);		# takes values out of the books; the number chooses which
#	my @lines = map { $sql->block } 1 .. 100;
#
# The biller's privileges say what users write; its owner writes no more by himself.  The caller's srand decides.  A block is a list of lines for psql, in ASCII, none of them part of a statement: one
# statement, or a transaction.  What can take the books away from their owner (triggers disabled, rows written into tables
# that triggers keep, DROP) is in transactions that are rolled back.

package RandomSql;

use strict;
use warnings;
use Exporter 'import';
use File::Temp 'tempdir';
use HostileText qw(hostile_text);
use Psql qw(rows_of psql);
use Stories qw(literal);

our @EXPORT_OK = qw(any chance);

sub any { return $_[ rand @_ ] }
sub chance { return rand() < $_[0] }
sub some { my ($share, @list) = @_; return grep { chance($share) } @list }
sub list { return join ', ', @_ }

# ---- what there is ----

sub new
{
	my ($class, $database, $role, %options) = @_;
	my $self = bless { %options, database => $database, prepared => 0, files => 0, badness => 0, focus => {} }, $class;
	$self->{directory} = tempdir(CLEANUP => 1);
	$self->{version} = int(psql($database, 'SHOW server_version_num') / 10000);
	$self->{relations} = [ relations_of($database, $role) ];
	$self->{functions} = [ functions_of($database) ];
	$self->{sequences} = [ map { $_->{name} } rows_of($database, <<'SQL') ];
SELECT oid::regclass AS name FROM pg_class WHERE relnamespace = 'creditmemo'::regnamespace AND relkind = 'S' ORDER BY 1
SQL
	$self->{views} = [ grep { $_->{relkind} eq 'v' } @{ $self->{relations} } ];
	$self->{tables} = [ grep { $_->{relkind} ne 'v' } @{ $self->{relations} } ];
	$self->{written} = [ grep { grep { $_->{may_insert} } @{ $_->{columns} } } @{ $self->{tables} } ];
	return $self;
}

# Tables and views with their columns, what the role may write, and their keys.
sub relations_of
{
	my ($database, $role) = @_;
	return rows_of($database, <<"SQL");
SELECT c.relname AS name, c.relkind, (
	SELECT json_agg(json_build_object('name', quote_ident(a.attname), 'type', format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL),
		'is_required', a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '',
		'may_insert', c.relkind = 'r' AND has_column_privilege('$role', c.oid, a.attnum, 'INSERT'),
		'may_update', c.relkind = 'r' AND has_column_privilege('$role', c.oid, a.attnum, 'UPDATE')) ORDER BY a.attnum)
	FROM pg_attribute a
	JOIN pg_type t ON t.oid = a.atttypid
	WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns, (
	SELECT coalesce(json_agg((
			SELECT json_agg(quote_ident(a.attname) ORDER BY a.attnum)
			FROM pg_attribute a
			WHERE a.attrelid = c.oid AND a.attnum = ANY (k.conkey))
		ORDER BY k.conname), '[]')
	FROM pg_constraint k
	WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u')) AS keys
FROM pg_class c
WHERE c.relnamespace = 'creditmemo'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
ORDER BY c.relname
SQL
}

sub functions_of
{
	my ($database) = @_;
	return rows_of($database, <<'SQL');
SELECT p.proname AS name, p.prokind AS kind, p.prorettype = 'trigger'::regtype AS is_trigger, p.pronargdefaults AS defaults,
	p.provariadic <> 0 AS is_variadic, (
	SELECT coalesce(json_agg(json_build_object('name', coalesce(p.proargnames[n], ''), 'type', format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL))
		ORDER BY n), '[]')
	FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY a (type, n)
	JOIN pg_type t ON t.oid = a.type) AS arguments
FROM pg_proc p
WHERE p.pronamespace = 'creditmemo'::regnamespace AND p.prokind IN ('f', 'p')
ORDER BY p.oid::regprocedure::text
SQL
}

# Takes rows out of the books, as texts.
sub look
{
	my ($self, $seed) = @_;
	my @queries = map {
		my $columns = list(map { "$_->{name}::text AS $_->{name}" } @{ $_->{columns} });
		my $limit = $_->{relkind} eq 'v' ? 12 : 40;
		my $from = $_->{relkind} eq 'v' ? "creditmemo.$_->{name} r LIMIT 200" : "creditmemo.$_->{name} r";
		"SELECT '$_->{name}' AS name, (SELECT coalesce(json_agg(r), '[]') FROM (SELECT $columns FROM (SELECT * FROM $from) r"
		  . " ORDER BY md5(r::text || '$seed') LIMIT $limit) r) AS rows"
	} grep { $_->{name} !~ /email$/ } @{ $self->{relations} };
	# others may have locked what is asked for; then what is known is good enough
	my @found = eval { rows_of($self->{database}, join "\nUNION ALL ", @queries) } or return;
	$self->{rows} = { map { $_->{name} => $_->{rows} } @found };
	my %known;
	for my $relation (sort keys %{ $self->{rows} })
	{
		for my $row (@{ $self->{rows}{$relation} })
		{
			defined $row->{$_} and push @{ $known{$_} }, $row->{$_} foreach sort keys %$row;
		}
	}
	$self->{known} = \%known;
	$self->{all_rows} = [ map { @{ $self->{rows}{$_} } } sort keys %{ $self->{rows} } ];
	return;
}

# ---- values: SQL expressions ----

my @services = ('Amazon EC2', 'Amazon S3', 'AWS Data Transfer', 'Tax');

my %bad = (
	text => sub {
		return any("''", "' '", "'unknown'", 'repeat(E\'\U0000263a\', 5000)', "repeat('x', " . any(300, 9000, 200000) . ')',
			literal(hostile_text()), "'O''Reilly'", q('NULL'), q('%s%n'), q('{"a":'), q('{}'), "chr(127)");
	},
	numeric => sub {
		return any(0, -1, '0.001', '0.005', "'NaN'", "'Infinity'", "'-Infinity'", '999999999999999.99', '-999999999999999.99',
			'1000000000000000', '1e1000', '-1e-1000', '1e-16380', '10.10000', "'1e131071'", 99999999999999);
	},
	date => sub {
		return any(map { "'$_'" } 'infinity', '-infinity', '4713-01-01 BC', '0001-01-01', '0044-03-01 BC', '5874897-12-01', '5874897-12-31',
			'9999-12-01', '294276-12-01', '294277-01-01', '2019-02-30', '2019-01-15', '1970-01-01', '2019-13-01', 'today', '');
	},
	timestamptz => sub {
		return any(map { "'$_'" } 'infinity', '-infinity', '4714-11-24 BC', '294276-12-31 23:59:59.999999+00', '1970-01-01', 'now', '2019-02-30', '');
	},
	integer => sub { return any(0, -1, 1, 2147483647, -2147483648, 2147483648, "'x'") },
	bigint => sub { return any(0, -1, 9223372036854775807, '-9223372036854775808', '9223372036854775808', "'x'") },
	boolean => sub { return any('true', 'false', "'maybe'") },
	'text[]' => sub {
		return any("'{}'", "'{NULL}'", "'{{a,b},{c,d}}'", "'[5:6]={a,b}'", "array_fill('x'::text, ARRAY[3000])", q('{""}'), "'{a,a,a}'",
			"ARRAY(SELECT 'N' || n FROM generate_series(1, 3000) n)", "array_fill(NULL::text, ARRAY[2, 3])", "'{'",
			"ARRAY(SELECT account_id FROM creditmemo.member_account)", "ARRAY[repeat('y', 20000)]", "'[2147483647:2147483647]={a}'");
	},
	regclass => sub {
		return any("'creditmemo.billing'", "'creditmemo.invoice_body'", 'NULL', 0, "'-'", "'pg_class'", 4294967295, "'creditmemo.billing_pkey'",
			"'creditmemo.credit_memo_memo_id_seq'", "'pg_stat_activity'", "'pg_toast.pg_toast_1255'", "'no such'");
	},
	regrole => sub { return any("'regress_nobody'", 0, 10, "'pg_monitor'", 4294967295, "'-'") });
$bad{'timestamp with time zone'} = delete $bad{timestamptz};

sub bad
{
	my ($type) = @_;
	return 'NULL' if chance(0.25);
	return any(map { $_->() } map { $bad{$_} } sort keys %bad) if chance(0.05) || !$bad{$type};
	return $bad{$type}->();
}

sub month { return sprintf "'%d-%02d-01'", any((2019) x 8, 2018, 2020), 1 + int rand any(3, 6, 12) }
sub day { return sprintf "'%d-%02d-%02d'", any((2019) x 6, 2018, 2020, 2021), 1 + int rand 12, 1 + int rand 28 }
sub amount { return sprintf '%s%d.%02d', chance(0.2) ? '-' : '', int rand any(10, 100, 1000, 10000), 1 + int rand 99 }

# What might be there by that name.
sub plausible
{
	my ($self, $name, $type) = @_;
	return "'" . any(@{ $self->{sources} }) . "'" if $type eq 'regclass' && $self->{sources};
	return any('USD', 'EUR') =~ s/.*/'$&'/r if $name eq 'currency';
	return literal(any(@services)) if $name eq 'service';
	return "'{" . list(map { qq("$_") } some(0.6, @services)) . "}'" if $type eq 'text[]' && $name =~ /service/;
	return 'ARRAY[' . list(map { $self->value('account_id', 'text') } 1 .. any(1, 2, 4)) . ']::text[]' if $type eq 'text[]';
	return sprintf "'%s%d'", uc substr($name, 0, 2), int rand 1e9 if $name =~ /_(id|number)$/ && $type eq 'text';
	return literal(any('as agreed', 'sent twice', '{customer_name}', hostile_text(3))) if $type eq 'text';
	return amount() if $type eq 'numeric';
	return $name =~ /period/ ? month() : day() if $type eq 'date';
	return any("'" . any(2019, 2026) . "-05-05'", 'now()') if $type =~ /^timestamp/;
	return any(0, 1, 2, 3, 30, 100) if $type =~ /int/;
	return any('true', 'true', 'false') if $type eq 'boolean';
	return any("'" . ($self->{role} // 'pg_monitor') . "'") if $type eq 'regrole';
	return 'NULL';
}

# How columns name what arguments mean.
my @aliases = ([ qr/period$/, 'service_period' ], [ qr/customer_id$/, 'customer_id' ], [ qr/payer_account_id$/, 'payer_account_id' ],
	[ qr/account_id$/, 'account_id' ], [ qr/invoice_number$/, 'invoice_number' ], [ qr/memo_number$/, 'memo_number' ]);

sub known
{
	my ($self, $name) = @_;
	for my $of ($name, map { $_->[1] } grep { $name =~ $_->[0] } @aliases)
	{
		return $self->{focus}{$of} if defined $self->{focus}{$of} && chance(0.7);
		return any(@{ $self->{known}{$of} }) if $self->{known}{$of};
	}
	return;
}

# Ids are new ones by that share.
sub value
{
	my ($self, $name, $type, $new) = @_;
	return bad($type) if chance($self->{badness});
	$new //= $name =~ /_(id|number)$/ ? 0.1 : 0.5;
	my $known = chance($new) ? undef : $self->known($name =~ s/"//gr);
	return defined $known && $type ne 'regclass' ? literal($known) : $self->plausible($name, $type);
}

# Statements differ in how much of them is wrong, and are about some row of the books.
sub turn
{
	my ($self) = @_;
	$self->{badness} = any((0) x 7, 0.03, 0.1, 0.4);
	$self->{focus} = any(@{ $self->{all_rows} }) // {};
	return;
}

# ---- parts of statements ----

sub of_name { my ($relation) = @_; return chance(0.9) ? "creditmemo.$relation->{name}" : $relation->{name} }

sub any_written
{
	my ($self) = @_;
	my @weights = map { ($_) x ($_->{name} eq 'utilization' ? 10 : $_->{name} eq 'credit_memo' ? 4 : 1) } @{ $self->{written} };
	return $self->{is_owner} || chance(0.93) ? any(@weights) : any(@{ $self->{relations} });
}

sub condition
{
	my ($self, $relation, $alias) = @_;
	my $row = any(@{ $self->{rows}{ $relation->{name} } // [] });
	my @columns = @{ $relation->{columns} };
	my $prefix = defined $alias ? "$alias." : '';
	if ($row && chance(0.75))
	{
		my @key = @{ any(@{ $relation->{keys} }) // [ any(@columns)->{name} ] };
		@key = some(0.7, @key) if chance(0.3);
		return join(' AND ', map { defined $row->{$_} ? "$prefix$_ = " . literal($row->{$_}) : "$prefix$_ IS NULL" } @key) || 'false';
	}
	my $column = any(@columns);
	my $value = $self->value(@$column{qw(name type)});
	return any("$prefix$column->{name} IS NULL", "$prefix$column->{name} IN ($value, " . $self->value(@$column{qw(name type)}) . ')',
		map { "$prefix$column->{name} $_ $value" } '=', '<', '>=', '<>', 'IS DISTINCT FROM');
}

# Mostly few rows.
sub where
{
	my ($self, $relation, $alias) = @_;
	return '' if chance(0.02);
	my @conditions = map { $self->condition($relation, $alias) } 1 .. any(1, 1, 1, 2);
	return ' WHERE ' . join any(' AND ', ' AND ', ' OR '), map { "($_)" } @conditions;
}

sub insert_columns
{
	my ($self, $relation) = @_;
	my @columns = @{ $relation->{columns} };
	my @may = grep { $_->{may_insert} } @columns;
	return grep { chance(0.5) } @columns if !$self->{is_owner} && (!@may || chance(0.03));
	return grep { $_->{is_required} && chance(0.995) || chance(0.4) } @may;
}

sub new_row
{
	my ($self, $relation, @columns) = @_;
	# what makes up a key by itself is to be new, mostly
	my %is_own = map { $_->[-1] => 1 } @{ $relation->{keys} };
	return map { $self->value(@$_{qw(name type)}, $is_own{ $_->{name} } && $_->{type} eq 'text' ? 0.85 : undef) } @columns;
}

sub updates
{
	my ($self, $relation, $from) = @_;
	my @may = grep { $_->{may_update} } @{ $relation->{columns} };
	@may = @{ $relation->{columns} } if !@may || !$self->{is_owner} && chance(0.05);
	my %set = map { $_->{name} => $_ } chance(0.6) ? any(@may) : (some(0.3, @may), any(@may));
	return list(map {
		my $value = defined $from && chance(0.7) ? "$from.$_" : $self->value($_, $set{$_}{type}, 0.5);
		$value = "$_ " . any('+ 1', '- 1', '* 2', '+ 0.01', '- 500', '* 0') if !defined $from && $set{$_}{type} eq 'numeric' && chance(0.3);
		"$_ = $value"
	} sort keys %set);
}

sub returning { return chance(0.75) ? '' : ' RETURNING ' . any('*', '1', 'ctid, *', 'xmin, tableoid', 'count(*)') }

# ---- statements ----

sub insert
{
	my ($self) = @_;
	my $relation = $self->any_written;
	my @columns = $self->insert_columns($relation);
	return 'INSERT INTO ' . of_name($relation) . ' DEFAULT VALUES' . returning() unless @columns;
	my $into = 'INSERT INTO ' . of_name($relation) . ' (' . list(map { $_->{name} } @columns) . ')'
	  . (chance(0.03) ? ' OVERRIDING ' . any('SYSTEM', 'USER') . ' VALUE' : '');
	my $rows = 1;
	$rows = 1 + int rand any(5, 30, 200) if chance(0.3);
	my $source = 'VALUES ' . list(map { '(' . list($self->new_row($relation, @columns)) . ')' } 1 .. $rows);
	if (chance(0.12))
	{
		my $from = chance(0.5) ? $relation : any(@{ $self->{tables} });
		my %has = map { $_->{name} => 1 } @{ $from->{columns} };
		$source = 'SELECT ' . list(map { $has{ $_->{name} } && $_->{name} !~ /source_id|number$/ && chance(0.9) ? "r.$_->{name}"
				: $self->value(@$_{qw(name type)}) . "::$_->{type}" } @columns)
		  . " FROM creditmemo.$from->{name} r" . $self->where($from, 'r') . any('', ' LIMIT ' . int rand 50, ' ORDER BY 1 LIMIT 10');
	}
	return $into . ' ' . $source . $self->on_conflict($relation) . returning();
}

sub on_conflict
{
	my ($self, $relation) = @_;
	return '' if chance(0.6);
	my $key = list(@{ any(@{ $relation->{keys} }) // ['ctid'] });
	return ' ON CONFLICT' . (chance(0.5) ? '' : " ($key)") . ' DO NOTHING' if chance(0.4);
	return " ON CONFLICT ($key) DO UPDATE SET " . $self->updates($relation, 'excluded')
	  . (chance(0.2) ? $self->where($relation, $relation->{name}) : '');
}

sub update
{
	my ($self) = @_;
	my $relation = $self->any_written;
	return 'UPDATE ' . any('', '', '', 'ONLY ') . of_name($relation) . ' r SET ' . $self->updates($relation)
	  . (chance(0.1) ? ' FROM creditmemo.member_account a' . $self->where($relation, 'r') : $self->where($relation, 'r')) . returning();
}

sub remove
{
	my ($self) = @_;
	my $relation = $self->any_written;
	my $limit = chance(0.3) ? " WHERE ctid = ANY (ARRAY(SELECT ctid FROM creditmemo.$relation->{name} LIMIT " . int(rand 4) . '))' : undef;
	return 'DELETE FROM ' . of_name($relation) . ' r' . ($limit // $self->where($relation, 'r')) . returning();
}

sub merge
{
	my ($self) = @_;
	return $self->update if $self->{version} < 15;
	my $relation = $self->any_written;
	my @columns = $self->insert_columns($relation);
	return $self->update unless @columns && @{ $relation->{keys} };
	my @key = @{ any(@{ $relation->{keys} }) };
	my %is_named = map { $_->{name} => 1 } @columns;
	push @columns, grep { my $column = $_; !$is_named{ $_->{name} } && grep { $_ eq $column->{name} } @key } @{ $relation->{columns} };
	my $rows = list(map {
		my $known = chance(0.5) && any(@{ $self->{rows}{ $relation->{name} } // [] });
		my @values = $known ? map { (defined $known->{ $_->{name} } ? literal($known->{ $_->{name} }) : 'NULL') } @columns
		  : $self->new_row($relation, @columns);
		'(' . list(map { "$values[$_]::$columns[$_]{type}" } 0 .. $#columns) . ')'
	} 1 .. any(1, 1, 3, 20));
	my $names = list(map { $_->{name} } @columns);
	my @parts = (
		' WHEN MATCHED' . any('', ' AND random() < 0.5') . ' THEN DELETE',
		' WHEN MATCHED' . any('', ' AND ' . $self->condition($relation, 'r')) . ' THEN UPDATE SET ' . $self->updates($relation, 'v'),
		' WHEN NOT MATCHED THEN INSERT (' . list(map { $_->{name} } @columns) . ') VALUES (' . list(map { "v.$_->{name}" } @columns) . ')',
		' WHEN MATCHED THEN DO NOTHING');
	my @taken = some(0.6, @parts);
	return 'MERGE INTO ' . of_name($relation) . " r USING (VALUES $rows) v ($names) ON " . join(' AND ', map { "r.$_ = v.$_" } @key)
	  . join('', @taken ? @taken : $parts[1]);
}

sub writing { my ($self) = @_; my $how = any(qw(insert insert update remove)); return $self->$how }

sub common_tables
{
	my ($self) = @_;
	my @writes = map { "w$_ AS (" . ($self->writing =~ s/ RETURNING .*//r) . ' RETURNING *)' } 1 .. any(1, 2, 2, 3);
	return 'WITH ' . list(@writes) . ' ' . any($self->writing, 'SELECT * FROM w1', 'SELECT count(*) FROM w1', $self->query);
}

sub truncate_tables
{
	my ($self) = @_;
	return 'TRUNCATE ' . list(map { of_name(any(@{ $self->{tables} })) } 1 .. any(1, 1, 2)) . any('', ' CASCADE', ' RESTART IDENTITY');
}

sub copy_text { my ($text) = @_; return $text =~ s/\\/\\\\/gr =~ s/\t/\\t/gr =~ s/\n/\\n/gr =~ s/\r/\\r/gr }

# Of values that are literals.
sub copy
{
	my ($self) = @_;
	return 'COPY (' . $self->query . ') TO STDOUT' . any('', ' (FORMAT csv)', ' (FORMAT binary)') if chance(0.2);
	my $relation = $self->any_written;
	my @columns = $self->insert_columns($relation);
	return 'COPY ' . of_name($relation) . ' TO STDOUT' unless @columns;
	my $path = sprintf '%s/%d', $self->{directory}, ++$self->{files} % 100;
	open my $file, '>', $path or die "$path: $!";
	for (1 .. 1 + int rand any(3, 30, 300))
	{
		my @values = map { s/^'(.*)'$/$1/r =~ s/^E'(.*)'$/$1/r } map { s/^NULL$/\\N/r } $self->new_row($relation, @columns);
		print $file join("\t", @values), "\n";
	}
	close $file;
	return "\\copy creditmemo.$relation->{name} (" . list(map { $_->{name} } @columns) . ") FROM '$path'";
}

sub query
{
	my ($self) = @_;
	my $relation = any(@{ $self->{relations} }, @{ $self->{views} });
	my $name = of_name($relation);
	my $where = $self->where($relation, 'r');
	my $column = any(@{ $relation->{columns} })->{name};
	return any(
		("SELECT * FROM $name r$where") x 3,
		"SELECT count(*), count(DISTINCT r.$column), max(r::text) FROM $name r$where",
		"SELECT r.$column, count(*) FROM $name r$where GROUP BY r.$column ORDER BY 2 DESC, 1 LIMIT 5",
		"SELECT row_to_json(r) FROM $name r$where ORDER BY r.$column DESC OFFSET " . int(rand 3),
		"SELECT * FROM $name r$where LIMIT " . int(rand 3),
		"SELECT * FROM creditmemo.member_account a, LATERAL (SELECT * FROM $name r$where LIMIT 2) r",
		"SELECT r.*, rank() OVER (ORDER BY r.$column) FROM $name r$where",
		"TABLE $name LIMIT 3");
}

sub locking
{
	my ($self) = @_;
	my $relation = chance(0.9) ? any(@{ $self->{tables} }) : any(@{ $self->{views} });
	return 'SELECT * FROM ' . of_name($relation) . ' r' . $self->where($relation, 'r') . any('', ' LIMIT 3')
	  . ' FOR ' . any('UPDATE', 'NO KEY UPDATE', 'SHARE', 'KEY SHARE') . any('', '', ' NOWAIT', ' SKIP LOCKED');
}

sub arguments
{
	my ($self, $function, %column) = @_;
	my @arguments = @{ $function->{arguments} };
	my $given = @arguments - (chance(0.5) ? int rand($function->{defaults} + 1) : 0);
	my @values = map {
		my $value = $column{ $_->{name} } // $self->value(@$_{qw(name type)}, $_->{name} =~ /_number$/ ? 0.4 : 0.15);
		$value =~ /^'|^NULL|^E'/ && chance(0.9) ? "$value\::$_->{type}" : $value
	} @arguments[ 0 .. $given - 1 ];
	$values[-1] = "VARIADIC $values[-1]" if $function->{is_variadic};
	return list(@values) if $function->{is_variadic} || chance(0.8);
	# by name, and now and then not those that come first
	return list(map { length $arguments[$_]{name} ? "$arguments[$_]{name} => $values[$_]" : $values[$_] } grep { chance(0.95) } 0 .. $#values);
}

my %weight = (issue_invoice => 12, void_invoice => 8, void_memo => 5, close_period => 1, reopen_period => 2, import_focus => 2, import_cur => 2,
	verify => 0, statement_html => 2, statement_text => 2, invoice_html => 2);

sub call
{
	my ($self) = @_;
	my $function = any(map { ($_) x ($weight{ $_->{name} } // 1) } @{ $self->{functions} });
	my $call = "creditmemo.$function->{name}(" . $self->arguments($function) . ')';
	return "CALL $call" if $function->{kind} eq 'p';
	return any("SELECT $call", "SELECT $call", "SELECT * FROM $call", "SELECT $call IS NULL", "SELECT count(*) FROM $call c") if chance(0.85);
	my $relation = any(@{ $self->{relations} });
	my %column = map { $_->{name} => "r.$_->{name}" } @{ $relation->{columns} };
	return "SELECT creditmemo.$function->{name}(" . $self->arguments($function, %column) . ") FROM creditmemo.$relation->{name} r"
	  . $self->where($relation, 'r') . ' LIMIT 5';
}

my @settings = (
	"search_path = creditmemo, public", "search_path = public", "search_path = pg_temp, creditmemo", "search_path = ''", "search_path = creditmemo, pg_catalog",
	"work_mem = '64kB'", "work_mem = '16MB'", "datestyle = 'German'", "datestyle = 'SQL, DMY'", "datestyle = 'Postgres, MDY'", "datestyle = 'ISO, YMD'",
	"intervalstyle = 'sql_standard'", "timezone = 'Pacific/Kiritimati'", "timezone = 'America/Los_Angeles'", "timezone = 'UTC'",
	"extra_float_digits = -15", "bytea_output = 'escape'", "plan_cache_mode = force_generic_plan", "plan_cache_mode = force_custom_plan",
	"plan_cache_mode = auto", "enable_indexscan = off", "enable_seqscan = off", "enable_hashjoin = off", "enable_sort = off", "enable_nestloop = off",
	"row_security = off", "row_security = on", "jit = off", "client_encoding = 'LATIN1'", "client_encoding = 'UTF8'", "lc_monetary = 'C'",
	"default_transaction_isolation = 'serializable'", "default_transaction_isolation = 'repeatable read'", "default_transaction_isolation = 'read committed'",
	"force_parallel_mode = on", "force_parallel_mode = off", "debug_parallel_query = on", "transform_null_equals = on", "xmloption = document", "array_nulls = off",
	"array_nulls = on", "quote_all_identifiers = on", "session_replication_role = local", "session_replication_role = origin",
	"check_function_bodies = off", "temp_buffers = 100", "client_min_messages = debug1", "client_min_messages = warning");

sub setting
{
	my ($self) = @_;
	return any('RESET ALL', 'RESET ALL', 'DISCARD PLANS', 'DISCARD TEMP', 'DISCARD SEQUENCES', 'DISCARD ALL', 'SET CONSTRAINTS ALL ' . any('IMMEDIATE', 'DEFERRED'),
		map { 'SET ' . any('', '', 'LOCAL ') . $_ } map { any(@settings) } 1 .. 10);
}

sub sequence
{
	my ($self) = @_;
	return 'SELECT ' . any('nextval', 'nextval', 'currval') . "('" . any(@{ $self->{sequences} }) . "')";
}

# What the session has besides: it may look like ours.
sub temporary
{
	my ($self) = @_;
	my $name = any(any(@{ $self->{tables} })->{name}, 'creditmemo_bill', 'creditmemo_booked_line', 'creditmemo_bill_change');
	my $like = any(@{ $self->{tables} })->{name};
	return any("CREATE TEMP TABLE $name (LIKE creditmemo.$like INCLUDING ALL)", "CREATE TEMP TABLE $name (x integer)",
		"CREATE TEMP VIEW $name AS SELECT 1 AS account_id", "DROP TABLE IF EXISTS pg_temp.$name", "DROP VIEW IF EXISTS pg_temp.$name",
		"CREATE TEMP TABLE $name AS TABLE creditmemo.$like WITH NO DATA", "TABLE $name");
}

my $quotes = 0;

sub quoted { my ($text) = @_; my $quote = '$q' . ++$quotes . '$'; return "$quote$text$quote" }

sub plain { my ($self) = @_; my $statement; 1 while ($statement = $self->statement) =~ /^\\/; return $statement }

# Errors that are to be seen are raised again.
sub anonymous_block
{
	my ($self) = @_;
	my $inner = sub { $self->turn; return 'EXECUTE ' . quoted($self->dml) . '; ' };
	my $body = join '', map {
		any($inner->(), 'BEGIN ' . join('', map { $inner->() } 1 .. any(1, 2, 3))
			. any('', '', "RAISE SQLSTATE 'CM999'; ") . "EXCEPTION WHEN OTHERS THEN IF SQLSTATE ~ '^(XX|57)' THEN RAISE; END IF; END; ",
			'FOR i IN 1 .. ' . any(2, 7) . ' LOOP BEGIN ' . $inner->()
			. "EXCEPTION WHEN OTHERS THEN IF SQLSTATE ~ '^(XX|57)' THEN RAISE; END IF; END; END LOOP; ")
	} 1 .. any(1, 2, 4);
	return 'DO ' . quoted("BEGIN $body END");
}

sub explain
{
	my ($self) = @_;
	return 'EXPLAIN ' . any('', '(ANALYZE) ', '(VERBOSE, COSTS off) ', '(ANALYZE, BUFFERS) ') . any($self->writing, $self->query, $self->merge);
}

sub dml { my ($self) = @_; my $how = any(qw(insert insert update remove merge common_tables query call call locking)); return $self->$how }

my @kinds = ((qw(insert)) x 9, (qw(update)) x 5, (qw(remove)) x 2, (qw(merge)) x 4, (qw(common_tables)) x 3, (qw(copy)) x 2, (qw(query)) x 6,
	(qw(locking)) x 2, (qw(call)) x 14, (qw(setting)) x 2, qw(anonymous_block anonymous_block explain sequence temporary truncate_tables));

sub statement
{
	my ($self) = @_;
	$self->turn;
	my $how = any(@kinds);
	return $self->$how;
}

# ---- blocks ----

sub ended { return map { /^\\/ ? $_ : "$_;" } @_ }

sub prepared
{
	my ($self) = @_;
	$self->turn;
	my $relation = any(@{ $self->{written} });
	my $name = 'p' . ++$self->{prepared} % 20;
	my @columns = $self->insert_columns($relation);
	my @executions = ('EXECUTE ' . $name) x any(1, 2, 6);
	my $prepare = "PREPARE $name AS " . any($self->insert, $self->update, $self->remove, $self->query, $self->call, $self->merge);
	if (@columns && chance(0.6))
	{
		$prepare = "PREPARE $name AS INSERT INTO creditmemo.$relation->{name} (" . list(map { $_->{name} } @columns) . ') VALUES ('
		  . list(map { "\$$_" } 1 .. @columns) . ')' . $self->on_conflict($relation);
		@executions = map { "EXECUTE $name (" . list($self->new_row($relation, @columns)) . ')' } 1 .. any(2, 7, 12);
	}
	return (ended("DEALLOCATE ALL", $prepare, @executions));
}

sub cursor
{
	my ($self) = @_;
	$self->turn;
	my $relation = any(@{ $self->{tables} });
	my $for = chance(0.4) ? "SELECT * FROM creditmemo.$relation->{name} r" . $self->where($relation, 'r') . any('', ' FOR UPDATE')
	  : any($self->query, $self->locking, $self->call);
	my @steps = map {
		any('FETCH 1 FROM c', 'FETCH ALL FROM c', 'FETCH BACKWARD 2 FROM c', 'MOVE 3 IN c', 'CLOSE c', 'FETCH ABSOLUTE -1 FROM c',
			"UPDATE creditmemo.$relation->{name} SET " . $self->updates($relation) . ' WHERE CURRENT OF c',
			"DELETE FROM creditmemo.$relation->{name} WHERE CURRENT OF c", $self->writing)
	} 1 .. any(2, 5);
	return ended('DECLARE c ' . any('', 'SCROLL ', 'NO SCROLL ', 'BINARY ') . 'CURSOR ' . any('', '', 'WITH HOLD ') . "FOR $for", @steps,
		chance(0.7) ? 'CLOSE ALL' : ());
}

# What is left to commit is checked first: an account can be deleted until then, its memos being refused only by that.
my $sound = q(DO $sound$ DECLARE problem text; BEGIN SET CONSTRAINTS ALL IMMEDIATE; SELECT v::text INTO problem FROM creditmemo.verify() v LIMIT 1; )
  . q(IF FOUND THEN RAISE 'not sound: %', problem USING ERRCODE = 'XXCM1'; END IF; END $sound$;);

sub savepoints
{
	my ($self, $depth) = @_;
	return map { $self->within($depth) } 1 .. any(1, 3) if $depth > 3;
	my $name = "s$depth";
	return ("SAVEPOINT $name;", (map { $self->within($depth) } 1 .. any(1, 2, 4)),
		any("ROLLBACK TO $name;", "ROLLBACK TO $name;", "RELEASE $name;"));
}

# What is part of a transaction.
sub within
{
	my ($self, $depth) = @_;
	return $self->savepoints($depth + 1) if chance(0.15);
	return $self->prepared if chance(0.04);
	return $self->cursor if chance(0.08);
	return ended($self->statement);
}

sub transaction
{
	my ($self) = @_;
	my @begin = 'BEGIN' . any(('') x 8, (' ISOLATION LEVEL REPEATABLE READ', ' ISOLATION LEVEL SERIALIZABLE') x 3, ' READ ONLY') . ';';
	my @within = map { $self->within(0) } 1 .. any(1, 2, 4, 8, 16);
	return (@begin, @within, chance(0.1) ? $sound : (), any('COMMIT;', 'COMMIT;', 'COMMIT AND CHAIN;', 'ROLLBACK;'), 'ROLLBACK;');
}

sub is_kept { my ($column) = @_; return $column->{name} =~ /recorded_at|balance|entries|credit$|invoice_number|billing_no/ }

# What only an owner can do, and takes back.
sub tampering
{
	my ($self) = @_;
	my $relation = any(@{ $self->{tables} });
	my ($view, $function) = (any(@{ $self->{views} }), any(grep { $_->{is_trigger} } @{ $self->{functions} }));
	my $column = any(@{ $relation->{columns} });
	my $name = "creditmemo.$relation->{name}";
	my @row = map { $self->value(@$_{qw(name type)}) } my @columns = grep { $_->{name} ne 'due' } @{ $relation->{columns} };
	return any(
		"ALTER TABLE $name DISABLE TRIGGER " . any('ALL', 'USER'), 'SET LOCAL session_replication_role = replica',
		"INSERT INTO $name (" . list(map { $_->{name} } @columns) . ') VALUES (' . list(@row) . ')',
		"UPDATE $name SET $column->{name} = " . $self->value(@$column{qw(name type)}), "DELETE FROM $name",
		"INSERT INTO creditmemo.utilization (account_id, service_period, service, amount, recorded_at) VALUES ("
		  . list($self->value('account_id', 'text'), $self->value('service_period', 'date'), "'Amazon EC2'", amount(), "now() - interval '1 day'") . ')',
		"ALTER TABLE $name ADD COLUMN added " . any('integer', 'text DEFAULT \'x\'', 'numeric NOT NULL DEFAULT 1', 'integer GENERATED ALWAYS AS (1) STORED'),
		"CREATE INDEX ON $name " . any("($column->{name})", "USING hash ($column->{name})", "(md5($column->{name}::text))"),
		"ALTER TABLE $name ENABLE ROW LEVEL SECURITY", "ALTER TABLE $name FORCE ROW LEVEL SECURITY",
		"CREATE TRIGGER mine " . any('BEFORE', 'AFTER') . ' ' . any('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'INSERT OR UPDATE') . " ON $name"
		  . any('', ' REFERENCING NEW TABLE AS n', ' REFERENCING OLD TABLE AS o NEW TABLE AS n') . ' FOR EACH ' . any('ROW', 'STATEMENT')
		  . " EXECUTE FUNCTION creditmemo.$function->{name}(" . any('', "'x'") . ')',
		"CREATE RULE mine AS ON " . any(qw(INSERT UPDATE DELETE)) . " TO $name DO " . any('INSTEAD NOTHING', 'ALSO SELECT 1'),
		"ALTER TABLE $name ADD CHECK ($column->{name} IS NOT NULL) NOT VALID", "DROP VIEW creditmemo.$view->{name}" . any('', ' CASCADE'),
		"DROP TABLE $name CASCADE", "ALTER TABLE $name SET UNLOGGED", "CLUSTER $name", "ANALYZE $name", "REINDEX TABLE $name",
		"ALTER TABLE $name ALTER $column->{name} SET DEFAULT " . $self->value(@$column{qw(name type)}),
		"ALTER TABLE $name ALTER $column->{name} DROP NOT NULL", "LOCK TABLE $name IN " . any('SHARE', 'ACCESS EXCLUSIVE', 'ROW EXCLUSIVE') . ' MODE',
		"ALTER TABLE $name RENAME TO other", "ALTER TABLE $name RENAME $column->{name} TO other", "ALTER TABLE $name DROP $column->{name} CASCADE",
		'DROP EXTENSION creditmemo' . any('', ' CASCADE'));
}

sub tampered
{
	my ($self) = @_;
	$self->turn;
	return ('BEGIN;', (map { ended($self->tampering) } 1 .. any(1, 1, 2)), (map { ended($self->statement) } 1 .. any(2, 5)), 'ROLLBACK;');
}

# A table of the session's own, with our trigger functions.
sub own_table
{
	my ($self) = @_;
	$self->turn;
	my $function = any(grep { $_->{is_trigger} } @{ $self->{functions} });
	my $like = any(@{ $self->{tables} });
	my $event = any(qw(INSERT UPDATE DELETE TRUNCATE));
	my $tables = $event eq 'INSERT' ? ' REFERENCING NEW TABLE AS n' : $event eq 'DELETE' ? ' REFERENCING OLD TABLE AS n'
	  : ' REFERENCING OLD TABLE AS o NEW TABLE AS n';
	my ($table, $column) = ($like->{name}, any(@{ $like->{columns} })->{name});
	return (
		'BEGIN;', any("CREATE TEMP TABLE $table (LIKE creditmemo.$table) ON COMMIT DROP;", "CREATE TEMP TABLE $table ($column text) ON COMMIT DROP;"),
		"CREATE TRIGGER mine " . any('AFTER', 'AFTER', 'BEFORE') . " $event ON pg_temp.$table" . any('', $tables) . ' FOR EACH ' . any('ROW', 'STATEMENT', 'STATEMENT')
		  . " EXECUTE FUNCTION creditmemo.$function->{name}();",
		"INSERT INTO pg_temp.$table SELECT * FROM creditmemo.$table LIMIT 3;", "UPDATE pg_temp.$table SET $column = NULL;", "DELETE FROM pg_temp.$table;",
		"TRUNCATE pg_temp.$table;", any('COMMIT;', 'ROLLBACK;'));
}

sub block
{
	my ($self) = @_;
	return $self->transaction if chance(0.1);
	return $self->prepared if chance(0.02);
	return $self->own_table if chance(0.015);
	return $self->tampered if $self->{is_owner} && chance(0.04);
	return ended($self->statement);
}

1;
