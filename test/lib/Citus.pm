# A coordinator and workers of Citus, each a cluster of its own, and databases that are on all of them.

package Citus;

use strict;
use warnings;
use Cluster;
use Psql qw(psql);

# Whether the server that the environment points to could have it.
sub is_installed { return psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'citus'") }

# A coordinator that is told of no worker yet.
sub new
{
	my ($class, %settings) = @_;
	my $self = bless { settings => \%settings, nodes => [] }, $class;
	$self->start_node('coordinator');
	return $self;
}

# Starts one more machine, which no database knows of yet.
sub start_node
{
	my ($self, $name) = @_;
	my $node = Cluster->new($name, environment => { PGPASSFILE => passwords() }, settings => {
		shared_preload_libraries => 'citus', wal_level => 'logical', max_connections => 200, max_prepared_transactions => 200,
		max_worker_processes => 40, 'citus.node_conninfo' => 'sslmode=prefer', 'citus.enable_statistics_collection' => 'off',
		%{ $self->{settings} } });
	$node->start;
	push @{ $self->{nodes} }, $node;
	return $node;
}

# What machines connect to each other with.
sub passwords
{
	my $file = Cluster::directory() . '/pgpass';
	open my $passwords, '>', $file or die "$file: $!";
	print $passwords "*:*:*:$ENV{PGUSER}:$ENV{PGPASSWORD}\n";
	close $passwords;
	chmod 0600, $file;
	Cluster::to_server($file);
	return $file;
}

sub nodes { my ($self) = @_; return @{ $self->{nodes} } }
sub coordinator { my ($self) = @_; return $self->{nodes}[0] }
sub workers { my ($self) = @_; my (undef, @workers) = $self->nodes; return @workers }

# Runs the code with the environment pointing to the coordinator.
sub run { my ($self, $code) = @_; return $self->coordinator->run($code) }

# Creates a database on all machines, whose coordinator knows the workers; with the extension, not distributed yet, unless told
# otherwise.
sub new_database
{
	my ($self, $name, %options) = @_;
	prepare($_, $name) foreach $self->nodes;
	$self->run(sub {
		psql($name, "SELECT citus_set_coordinator_host('localhost', " . $self->coordinator->port . ')');
		psql($name, "SELECT citus_set_node_property('localhost', " . $self->coordinator->port . ", 'shouldhaveshards', true)");
		psql($name, 'CREATE EXTENSION creditmemo') unless $options{without_extension};
	});
	$self->add_node($name, $_) foreach $self->workers;
	return $name;
}

sub prepare
{
	my ($node, $name) = @_;
	$node->run(sub {
		psql('postgres', "SET client_min_messages = error; CREATE DATABASE $name");
		psql($name, 'CREATE EXTENSION citus');
	});
}

# Tells the database's coordinator of a worker.
sub add_node
{
	my ($self, $name, $node) = @_;
	$self->run(sub { psql($name, "SELECT citus_add_node('localhost', " . $node->port . ')') });
}

sub drop_database
{
	my ($self, $name) = @_;
	$_->run(sub { psql('postgres', "SET client_min_messages = error; DROP DATABASE $name WITH (FORCE)") }) foreach reverse $self->nodes;
}

1;
