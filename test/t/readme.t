# The statements of README.md run as they stand, and print what stands below them.
#
# With REWRITE_README=1 in the environment the outputs are written into README.md instead.  It quotes the last
# results of make bench.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Psql qw(new_database psql);
use Test::More;

sub contents
{
	my ($name) = @_;
	open my $file, '<:utf8', $name or die "$name: $!";
	local $/ = undef;
	return <$file>;
}

my $readme = "$FindBin::Bin/../../README.md";
my $text = contents($readme);
binmode Test::More->builder->$_, ':utf8' foreach qw(output failure_output);

my $database = new_database('creditmemo_readme', without_extension => 1);

sub output_of
{
	my ($statements) = @_;
	my $output = psql($database, "\\pset format aligned\n\\pset tuples_only off\n$statements");
	utf8::decode($output);
	# as someone sees it who types the statements
	$output =~ s/^psql:\S+: (?=NOTICE)//mg;
	$output =~ s/ +$//mg;
	return $output =~ s/\n+\z//r;
}

my $rewritten = $text =~ s{
		^```sql\n(?<statements>.*?)^```\n
		(?:\n```text\n(?<expected>.*?)^```\n)?
	}{
		my ($statements, $expected) = ($+{statements}, $+{expected} // '');
		my $output = output_of($statements);
		my ($first) = split /\n/, $statements;
		is("$output\n", $expected || "\n", $first) unless $ENV{REWRITE_README};
		"```sql\n$statements```\n" . ($output eq '' ? '' : "\n```text\n$output\n```\n");
	}gemsxr;

if ($ENV{REWRITE_README})
{
	open my $file, '>:utf8', $readme or die "$readme: $!";
	print $file $rewritten;
	close $file;
	pass('README.md is written');
}

psql($database, "DROP OWNED BY $_; DROP ROLE $_") foreach qw(finance_reader finance_biller);
ok(index($text, contents("$FindBin::Bin/../bench/results.md")) >= 0, 'what make bench measured');
done_testing();
