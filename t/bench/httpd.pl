# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Servers with a limiter beside the same without one, under load in interleaved slices: httpd.pl BUILD WHAT. The servers
# have one CPU, the load another. Each start of the two servers is a run, and its figures are medians over pairs of
# slices. Lines of figures (RLP::Figures), never a verdict. Environment: RUNS (5), and see RLP::Peer. WHAT is one of
#
#   httpd    clients that are known: throughput and CPU time of a request, then latency at half of the load that the
#            bare server bears
#   flood    each request from a client that was never seen, on a connection of its own
#   refused  requests refused, beside the same limiter when it lets all pass
#
# Two starts of the same server differ by more than a limiter takes. So the first two also measure one server with two
# ports, of which one has no limiter: what differs between starts meets both.
use strict;
use warnings;

use RLP::Figures;
use RLP::Peer;

my ($build, $what) = @ARGV;
my $runs = $ENV{RUNS} || 5;
my ($pairs, $length) = (1000, 5); # slices, and their milliseconds: a shared machine is half as fast every now and then
my $connections = 8;
my ($latency_pairs, $latency_length) = (6, 300);
my %title = (
    httpd => 'Requests of known clients, with a limiter and without',
    flood => 'Requests of new clients, with a limiter and without',
    refused => 'Requests refused and served',
);
my $title = $title{ $what // '' } or die "usage: httpd.pl BUILD httpd|flood|refused\n";
my $paired_title = $title =~ s/, .*/, of one server by two ports, with a limiter and without/r;
my $cpus = qx(getconf _NPROCESSORS_ONLN);
my $seen = 0; # addresses that were used up
local $| = 1;

sub told {
    my ($table, $name, $measure, $value) = @_;
    print join("\t", $table, $name, $measure, $value), "\n";
    return;
}

# On a CPU of its own, where there are two.
sub on {
    my ($cpu) = @_;
    return $cpus > 1 ? ('taskset', '-c', $cpu) : ();
}

# What the client says of the two servers, each with the port to load: lists of the columns, by side and column; and
# the answers.
sub slices {
    my ($first, $first_port, $second, $second_port, @options) = @_;
    my @words = (on(1), "$build/t/bench/load", '-a', $first_port, '-b', $second_port, '-x', join(',', $first->pids),
        '-y', join(',', $second->pids), @options);
    my %side;
    open my $out, '-|', @words or die "load: $!\n";
    while (my $line = <$out>) {
        my ($side, @columns) = split ' ', $line;
        if ($side eq 'answers') {
            $side{answers} = $line;
            next;
        }
        push @{ $side{$side}[$_] }, $columns[$_] for 0 .. 3;
    }
    close $out or die "no load on $first->{name} and $second->{name}\n";
    return \%side;
}

# Which of the two starts first alternates.
sub both {
    my ($run, $first, $second) = @_;
    return ($first->(), $second->()) if $run % 2;
    my $started = $second->();
    return ($first->(), $started);
}

sub compare {
    my ($table, $name, $side) = @_;
    my ($off, $on) = @{$side}{qw(a b)};
    my $median = \&RLP::Figures::median;

    told($table, $name, 'requests/s, ratio', $median->(RLP::Figures::ratios($off->[0], $on->[0])));
    told($table, $name, 'CPU, ratio', $median->(RLP::Figures::ratios($off->[1], $on->[1])));
    told($table, $name, 'CPU added, us', $median->(RLP::Figures::differences($off->[1], $on->[1])));
    told($table, $name, 'requests/s without', $median->(@{ $off->[0] }));
    return;
}

sub latency {
    my ($name, $off, $on, $rate) = @_;
    my $side = slices($off, $off->port, $on, $on->port, '-p', $latency_pairs, '-t', $latency_length, '-r', int $rate);
    my $median = \&RLP::Figures::median;

    told($title, $name, 'p99 at half load without, us', $median->(@{ $side->{a}[3] }));
    told($title, $name, 'p99 at half load, us', $median->(@{ $side->{b}[3] }));
    return;
}

# The words of a load; a flood goes on with clients that were not seen before.
sub load {
    my @words = ('-p', $pairs, '-t', $length, '-c', $connections);

    return @words if $what ne 'flood';
    push @words, '-w', $seen;
    $seen += 500_000;
    return @words;
}

sub paired {
    my ($name) = @_;
    my $server = RLP::Peer->start($name, paired => 1, wrap => [on(0)]);

    compare($paired_title, $name, slices($server, $server->without_port, $server, $server->port, load()));
    $server->stop;
    return;
}

# Two servers, started in turn: the bare one or one that lets all pass, and the one that is measured.
sub figures {
    my ($name, $run) = @_;
    my ($beside, $kind) = $what eq 'refused' ? ($name, 'refused') : (RLP::Peer::bare($name), 'served');
    my @wrap = (wrap => [on(0)]);
    my ($off, $on) = both($run, sub { RLP::Peer->start($beside, kind => 'served', @wrap) },
        sub { RLP::Peer->start($name, kind => $kind, @wrap) });
    my $side = slices($off, $off->port, $on, $on->port, load());

    compare($title, $name, $side);
    latency($name, $off, $on, RLP::Figures::median(@{ $side->{a}[0] }) / 2) if $what eq 'httpd';
    $_->stop for $off, $on;
    return;
}

# Or why there are none.
sub tried {
    my ($table, $name, $measure) = @_;
    my $reason = RLP::Peer::tried($name, $measure);

    told($table, $name, 'not run', $reason) if $reason;
    return;
}

for my $run (1 .. $runs) {
    for my $name ($what eq 'refused' ? RLP::Peer::refusing() : RLP::Peer::names()) {
        tried($title, $name, sub { figures($name, $run) });
    }
    for my $name ($what eq 'refused' ? () : RLP::Peer::paired()) {
        tried($paired_title, $name, sub { paired($name) });
    }
}
