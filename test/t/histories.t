# Random histories, compared with the model: every line, billing, memo, entry, invoice and closing.  The
# documents of an invoice say at the end what they said when it was issued.
#
# HISTORIES says how many (500), FIRST_SEED where to begin; a failure prints its seed.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use Histories qw(random_history prepare_histories are_as_modelled);
use List::Util 'min';
use Psql qw(new_database drop_databases psql books_are_sound);
use Test::More;

my $histories = $ENV{HISTORIES} // 500;
my $first_seed = $ENV{FIRST_SEED} // 1;
my $batch = 50;    # histories a database

for (my $seed = $first_seed; $seed < $first_seed + $histories; $seed += $batch)
{
	my $last = min($seed + $batch, $first_seed + $histories) - 1;
	my $database = new_database('creditmemo_histories');
	prepare_histories($database);
	my $has_merge = psql($database, 'SHOW server_version_num') >= 150000;
	my $as_modelled = are_as_modelled($database, "histories $seed to $last are as the model has them",
		map { random_history($_, has_merge => $has_merge) } $seed .. $last);
	books_are_sound($database);
	drop_databases();
	last unless $as_modelled;
}

done_testing();
