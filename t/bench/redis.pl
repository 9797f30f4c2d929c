# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Decisions in Redis a second beside a bare program on hiredis, over 1, 4 and 16 connections in turn; and from leases,
# without what a question costs in Redis: redis.pl BUILD. Lines of figures (RLP::Figures), never a verdict. Environment:
# RUNS (5), REDIS_SERVER.
use strict;
use warnings;

use RLP::Redis;

my ($build) = @ARGV;
my $runs = $ENV{RUNS} || 5;
my $title = 'Decisions in Redis';
my %measure = (bare => 'hiredis alone, a second', store => 'exact, a second', ratio => 'exact, ratio to hiredis alone');
local $| = 1;

sub told {
    my ($subject, $measure, $value) = @_;
    print join("\t", $title, $subject, $measure, $value), "\n";
    return;
}

sub output {
    open my $out, '-|', @_ or die "$_[0]: $!\n";
    my @lines = <$out>;
    close $out or die "$_[0] failed\n";
    return @lines;
}

sub exact {
    my ($redis, $connections) = @_;
    my $subject = "$connections connection" . ($connections > 1 ? 's' : '');
    for my $line (output("$build/t/bench/redis", '-p', $redis->port, '-c', $connections, '-s', 1, '-r', $runs)) {
        my %seen = $line =~ /"(\w+)":([\d.]+)/g;
        told($subject, $measure{$_}, $seen{$_}) for qw(bare store ratio);
    }
    return;
}

sub leased {
    my ($processes, $keys) = @_;
    my $subject = "leases, $processes process" . ($processes > 1 ? 'es' : '') . ", keys: $keys";
    for (1 .. $runs) {
        my ($line) = output("$build/t/bench/lease", '-p', $processes, '-k', $keys, '-s', 0.5);
        told($subject, 'from leases, millions/s', $line =~ /"mops":([\d.]+)/);
    }
    return;
}

if (!-x "$build/t/bench/redis") {
    told('all', 'not run', 'built without Redis');
    exit 0;
}
leased(@{$_}) for [1, 1], [1, 1000], [2, 1], [8, 1000];
if ($RLP::Redis::program) {
    my $redis = RLP::Redis->alone;
    exact($redis, $_) for 1, 4, 16;
} else {
    told('exact', 'not run', 'redis-server is missing');
}
