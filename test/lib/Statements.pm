# Changes of utilization lines as SQL, in the forms in which users write them.
#
# A change is a pair as Model's write_lines() takes it: a line, and what it is to be.

package Statements;

use strict;
use warnings;
use Exporter 'import';

our @EXPORT_OK = qw(quoted list rows money key as_insert as_load as_merge as_statement);

my @line_columns = qw(account_id source_id service_period service amount creditable description);

sub quoted { return defined $_[0] ? "'$_[0]'" : 'NULL' }
sub list { return join ', ', @_ }
sub rows { return list(map { '(' . list(@$_) . ')' } @_) }
sub money { return sprintf '%s%d.%02d', $_[0] < 0 ? '-' : '', int(abs($_[0]) / 100), abs($_[0]) % 100 }

sub key { my ($line) = @_; return map { quoted($_) } @$line{qw(account_id source_id)} }
sub line { my ($line) = @_; return map { literal($_, $line->{$_}) } @line_columns }
sub literal { my ($column, $value) = @_; return $column eq 'amount' ? money($value) : ($column eq 'service_period' ? 'date ' : '') . quoted($value) }
sub typed { return $_[0] . ($_[0] eq 'creditable' ? '::boolean' : '') }
sub assignments { my ($from, @columns) = @_; return list(map { "$_ = $from." . typed($_) } @columns) }

sub as_insert
{
	return sprintf 'INSERT INTO utilization (%s) VALUES %s', list(@line_columns), rows(map { [ line($_->[1]) ] } @_);
}

sub as_delete
{
	return sprintf 'DELETE FROM utilization WHERE (account_id, source_id) IN (%s)', rows(map { [ key($_->[0]) ] } @_);
}

sub as_update
{
	my (@changes) = @_;
	my @changed = grep {
		my $column = $_;
		grep { $_->[0]{$column} ne $_->[1]{$column} } @changes
	} @line_columns;
	return sprintf 'UPDATE utilization u SET %s FROM (VALUES %s) v (key_account, key_source, %s)'
	  . ' WHERE u.account_id = key_account AND u.source_id = key_source',
	  assignments('v', @changed ? @changed : 'amount'),
	  rows(map { [ key($_->[0]), line($_->[1]) ] } @changes), list(@line_columns);
}

sub as_load
{
	return as_insert(@_) . ' ON CONFLICT (account_id, source_id) DO UPDATE SET '
	  . assignments('excluded', qw(service amount creditable description));
}

sub as_merge
{
	my (@changes) = @_;
	my @rows = map { [ key($_->[0] // $_->[1]), $_->[1] ? 'false' : 'true', line($_->[1] // $_->[0]) ] } @changes;
	return sprintf 'MERGE INTO utilization u USING (VALUES %s) v (key_account, key_source, gone, %s)'
	  . ' ON u.account_id = key_account AND u.source_id = key_source'
	  . ' WHEN MATCHED AND gone THEN DELETE WHEN MATCHED THEN UPDATE SET %s WHEN NOT MATCHED THEN INSERT (%s) VALUES (%s)',
	  rows(@rows), list(@line_columns), assignments('v', @line_columns), list(@line_columns),
	  list(map { 'v.' . typed($_) } @line_columns);
}

# One statement, of several parts where the changes are of several kinds.
sub as_statement
{
	my @new = grep { !$_->[0] } @_;
	my @gone = grep { !$_->[1] } @_;
	my @kept = grep { $_->[0] && $_->[1] } @_;
	my @parts = ((@gone ? as_delete(@gone) : ()), (@kept ? as_update(@kept) : ()), (@new ? as_insert(@new) : ()));
	my $last = pop @parts;
	return @parts ? sprintf('WITH %s %s', list(map { "part$_ AS ($parts[$_])" } 0 .. $#parts), $last) : $last;
}

1;
