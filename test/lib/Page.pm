# HTML pages, as the server's own XML parser reads them.
#
# A page is a tree of elements; find() chooses among them by selectors like 'table.face td.amount'.

package Page;

use strict;
use warnings;
use Exporter 'import';
use Psql qw(psql);

our @EXPORT_OK = qw(prepare_pages read_pages find text texts lines squeezed);

# Those within a line of text; all others stand by themselves.
my %is_inline = map { $_ => 1 } qw(a abbr b bdi bdo em i small span strong time);

# Writes the functions that read pages into the database.  False if its server was built without XML.
sub prepare_pages
{
	my ($database) = @_;
	my $has_xml = eval { psql($database, "SELECT '<a/>'::xml"); 1 };
	die $@ if !$has_xml && $@ !~ /unsupported XML feature/;
	psql($database, <<'SQL') if $has_xml;
-- white space in texts is one space, so that a node is one line of psql's
CREATE FUNCTION public.nodes(page text)
RETURNS TABLE (place bigint, depth integer, name text, class text, content text)
LANGUAGE sql AS $$
	SELECT n.place, n.depth, n.name, n.class, regexp_replace(n.content, '[ \t\n\r]+', ' ', 'g')
	FROM xmltable('//node()' PASSING (page::xml) COLUMNS place FOR ORDINALITY,
		depth integer PATH 'count(ancestor::*)', name text PATH 'name(.)', class text PATH '@class',
		content text PATH 'self::text()') n
$$;
SQL
	return $has_xml;
}

# The pages that a query returns in its one column: each its root element, undef where null.
sub read_pages
{
	my ($database, $query) = @_;
	my @pages;
	my @path;
	my $nodes = psql($database, <<SQL);
WITH page AS MATERIALIZED (SELECT row_number() OVER () AS page, q.html FROM ($query) q (html))
SELECT page, depth, name, class, content FROM page LEFT JOIN LATERAL public.nodes(html) ON true ORDER BY page, place;
SQL
	utf8::decode($nodes);
	for (split /\n/, $nodes)
	{
		my ($page, $depth, $name, $class, $content) = split /\|/, $_, 5;
		$#pages = $page - 1 if @pages < $page;
		next if $depth eq '';
		my $node = $name eq '' ? $content : { name => $name, classes => [ split / /, $class ], nodes => [] };
		$path[$depth] = $node;
		push @{ $path[ $depth - 1 ]{nodes} }, $node if $depth > 0;
		$pages[ $page - 1 ] = $node if $depth == 0 && ref $node;
	}
	return @pages;
}

sub below { my ($element) = @_; return map { ($_, below($_)) } grep { ref } @{ $element->{nodes} } }

sub is_chosen
{
	my ($element, $name, @classes) = @_;
	return 0 if $name ne '' && $element->{name} ne $name;
	my %has = map { $_ => 1 } @{ $element->{classes} };
	return !grep { !$has{$_} } @classes;
}

# The elements below this one that the selector chooses: names, classes or both, each below the one before.
sub find
{
	my ($element, $selector) = @_;
	my @chosen = ($element);
	for my $step (split / /, $selector)
	{
		my %seen;
		@chosen = grep { is_chosen($_, split(/\./, $step)) && !$seen{$_}++ } map { below($_) } @chosen;
	}
	return @chosen;
}

# With a single space for any white space.
sub squeezed { my ($text) = @_; return $text =~ s/[ \t\n\r]+/ /gr =~ s/^ | $//gr }

sub flat
{
	my ($node) = @_;
	return $node if !ref $node;
	my $flat = join '', map { flat($_) } @{ $node->{nodes} };
	return $is_inline{ $node->{name} } ? $flat : " $flat ";
}

# What stands in the element.
sub text { my ($element) = @_; return squeezed(flat($element)) }

sub texts { my ($element, $selector) = @_; return map { text($_) } find($element, $selector) }

1;
