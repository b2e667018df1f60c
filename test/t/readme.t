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

# what Troubleshooting calls an error of ours is one
my $sources = join '', map { contents($_) } glob "$FindBin::Bin/../../{src/*.c,sql/*.sql}";
$sources =~ s/\\"/"/g;
my ($troubleshooting) = $text =~ /^## Troubleshooting\n(.*?)^## /ms;
my %servers = map { ($_ => 1) } ('deadlock detected', 'permission denied for table ...', 'could not obtain lock on row in relation "member_account"',
	'duplicate key value violates unique constraint "utilization_account_id_source_id_key"',
	'query would be affected by row-level security policy for table "..."',
	'could not extend file ...: No space left on device', 'temporary file size exceeds temp_file_limit',
	'canceling statement due to lock timeout', 'extension "creditmemo" is not available',
	'could not access file "$libdir/creditmemo": No such file or directory');
for my $heading ($troubleshooting =~ /^#### `(.*)`$/mg)
{
	my $message = join '[^\n]+?', map { quotemeta } split /\Q...\E/, $heading, -1;
	ok($servers{$heading} || $sources =~ /(?:errmsg(?:_plural)?\(|EXCEPTION )\s*["']$message/, "error: $heading");
}

psql($database, "DROP OWNED BY $_; DROP ROLE $_") foreach qw(finance_reader finance_biller);
ok(index($text, contents("$FindBin::Bin/../bench/results.md")) >= 0, 'what make bench measured');
done_testing();
