# Licensed under the Apache License, Version 2.0; see LICENSE.

# Several Redis servers that belong together: a master with its replicas and Sentinels, or a Cluster.

package RLP::RedisSet;

use strict;
use warnings;

use RLP::Httpd;
use RLP::Redis;

my $sets = 3;
my $slots = 16_384;
my ($short, $long) = (500, 5000); # milliseconds without an answer after which a server is dead
my @plain = ('--save', '', '--appendonly', 'no', '--repl-diskless-sync-delay', '0');

# --- a master, two replicas, three Sentinels

sub sentinels {
    my ($class) = @_;
    my $self = bless {}, $class;
    my $master = RLP::Redis->new(options => [@plain])->start;
    my $port = $master->port;
    $self->{servers} = [$master, map { RLP::Redis->new(options => [@plain, '--replicaof', "127.0.0.1 $port"])->start } 2 .. $sets];
    $_->await(qr/^master_link_status:up/m, 'INFO', 'replication') for @{ $self->{servers} }[1 .. $sets - 1];
    my $file = <<"CONF";
sentinel monitor main 127.0.0.1 $port 2
sentinel down-after-milliseconds main $long
sentinel failover-timeout main 3000
CONF
    $self->{watchers} = [map { RLP::Redis->new(file => $file, options => ['--sentinel'])->start } 1 .. $sets];
    # they say hello to each other each two seconds
    for my $watcher (@{ $self->{watchers} }) {
        $watcher->await(qr/sentinels=$sets,?/, 'INFO', 'sentinel');
        $watcher->await(qr/slaves=2,/, 'INFO', 'sentinel');
    }
    return $self;
}

# From now on, a server that is killed is soon found dead. Until then, one that a busy machine holds up is not.
sub hasten {
    my ($self) = @_;
    $_->ask('SENTINEL', 'SET', 'main', 'down-after-milliseconds', $short) for $self->watchers;
    $_->ask('CONFIG', 'SET', 'cluster-node-timeout', 2 * $short) for $self->{id} ? $self->servers : ();
    return;
}

sub servers { return @{ $_[0]{servers} } }
sub watchers { return @{ $_[0]{watchers} // [] } }

# --- three masters, each with a replica

# more: gives further options of each server.
sub cluster {
    my ($class, $more) = @_;
    my @options = (
        @plain, '--cluster-enabled', 'yes', '--cluster-node-timeout', $long, '--cluster-replica-validity-factor', '0',
        '--cluster-require-full-coverage', 'no'
    );
    my @servers = map { RLP::Redis->new(options => [@options, '--cluster-port', RLP::Httpd::free_port(), $more ? $more->() : ()])->start } 1 .. 2 * $sets;
    my $self = bless { servers => \@servers, id => [map { $_->ask('CLUSTER', 'MYID') } @servers] }, $class;
    for my $i (0 .. $#servers) {
        if ($i < $sets) {
            $servers[$i]->ask('CLUSTER', 'ADDSLOTSRANGE', int($i * $slots / $sets), int(($i + 1) * $slots / $sets) - 1);
        }
        $servers[$i]->ask('CLUSTER', 'SET-CONFIG-EPOCH', $i + 1);
    }
    $self->meet;
    $_->await(qr/cluster_known_nodes:6/, 'CLUSTER', 'INFO') for @servers;
    for my $i ($sets .. $#servers) {
        $servers[$i]->await(qr/\AOK/, 'CLUSTER', 'REPLICATE', $self->{id}[$i - $sets]);
        $servers[$i]->await(qr/^master_link_status:up/m, 'INFO', 'replication');
    }
    $_->await(qr/cluster_state:ok/, 'CLUSTER', 'INFO') for @servers;
    # and know of the replicas, too
    $_->await(qr/(?:\bslave\b.*){3}/s, 'CLUSTER', 'NODES') for @servers;
    return $self;
}

# The first server meets the others. Redis gives up who does not shake hands within a second: so who is missing then is
# met again.
sub meet {
    my ($self) = @_;
    my ($first, @others) = $self->servers;
    my $again = 0;
    return RLP::Httpd::wait_for(sub {
        my $known = $first->ask('CLUSTER', 'NODES');
        my @missing = grep { $known !~ /^$self->{id}[$_] /m } 1 .. @others;
        if (@missing && time > $again) {
            for my $server (@others[map { $_ - 1 } @missing]) {
                $first->ask('CLUSTER', 'MEET', '127.0.0.1', $server->port, $server->ask('CONFIG', 'GET', 'cluster-port')->[1]);
            }
            $again = time + 2;
        }
        return !@missing;
    }) || die "Redis' servers do not meet\n";
}

# The number of the master that a key was first given to, and its slot.
sub home {
    my ($self, $key) = @_;
    my $slot = $self->{servers}[0]->ask('CLUSTER', 'KEYSLOT', $key);
    return (int($slot * $sets / $slots), $slot);
}

sub replica { return $_[0]{servers}[$_[1] + $sets] }

# A slot begins to go from one master to another.
sub migrate {
    my ($self, $slot, $from, $to) = @_;
    $self->{servers}[$to]->await(qr/\AOK/, 'CLUSTER', 'SETSLOT', $slot, 'IMPORTING', $self->{id}[$from]);
    $self->{servers}[$from]->await(qr/\AOK/, 'CLUSTER', 'SETSLOT', $slot, 'MIGRATING', $self->{id}[$to]);
    return;
}

# One of its keys goes.
sub move_key {
    my ($self, $key, $from, $to) = @_;
    return $self->{servers}[$from]->ask('MIGRATE', '127.0.0.1', $self->{servers}[$to]->port, $key, 0, 5000);
}

# All that it has.
sub move_keys {
    my ($self, $slot, $from, $to) = @_;
    while (my @keys = @{ $self->{servers}[$from]->ask('CLUSTER', 'GETKEYSINSLOT', $slot, 100) }) {
        $self->move_key($_, $from, $to) for @keys;
    }
    return;
}

# It has gone.
sub settle {
    my ($self, $slot, $to) = @_;
    my @masters = @{ $self->{servers} }[0 .. $sets - 1];
    $_->await(qr/\AOK/, 'CLUSTER', 'SETSLOT', $slot, 'NODE', $self->{id}[$to]) for $masters[$to], @masters;
    return;
}

1;
