# A session that is kept: psql, told one statement after the other and asked what became of each.

package Client;

use strict;
use warnings;
use IPC::Open2;

my $end_of_answer = 'end of answer';

# Options: settings => { name => value } of the session.
sub new
{
	my ($class, $database, %options) = @_;
	my %settings = %{ $options{settings} // {} };
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_=$settings{$_}" } sort keys %settings;
	my $self = bless {}, $class;
	$self->{psql} = open2($self->{answers}, $self->{statements},
		'sh', '-c', 'exec psql -X -q -A -t -d "$0" 2>&1', $database);
	return $self;
}

# Sends statements, which are one by one or, joined by \;, at once; does not wait for the answer.
sub send
{
	my ($self, $statements) = @_;
	local $SIG{PIPE} = 'IGNORE';
	$self->{statements}->print("$statements;\n\\echo '$end_of_answer' :SQLSTATE\n");
	$self->{statements}->flush;
}

# What the server said: the SQLSTATE of the last statement, 00000 if it succeeded, undef if the connection was lost; and
# what was printed, errors too.
sub answer
{
	my ($self) = @_;
	my $output = '';
	while (defined(my $line = readline $self->{answers}))
	{
		return ($1, $output) if $line =~ /^$end_of_answer (\w{5})$/;
		$output .= $line;
	}
	return (undef, $output);
}

sub state_of { my ($self, $statements) = @_; $self->send($statements); return ($self->answer)[0] // 'lost' }

# What statements print, one row a line.  Dies if one fails.
sub query
{
	my ($self, $statements) = @_;
	$self->send($statements);
	my ($state, $output) = $self->answer;
	die $output if ($state // '') ne '00000' || $output =~ /ERROR:/;
	chomp $output;
	return $output;
}

# The process id of its server process.
sub backend { my ($self) = @_; return $self->{backend} //= $self->query('SELECT pg_backend_pid()') }

sub DESTROY
{
	my ($self) = @_;
	local $?;
	local $SIG{PIPE} = 'IGNORE';
	close $self->{statements};
	close $self->{answers};
	waitpid $self->{psql}, 0;
}

1;
