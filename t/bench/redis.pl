# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Decisions in Redis a second beside a bare program on hiredis, figures and never a verdict: over 1, 4 and 16
# connections in turn, RUNS times (5). builddir has t/bench/redis.
use strict;
use warnings;

use RLP::Redis;

die "redis-server is missing\n" if !$RLP::Redis::program;
my $redis = RLP::Redis->alone;
my $runs = $ENV{RUNS} || 5;

print "Decisions in Redis a second (medians of $runs; ratio: store / bare, by pairs)\n";
printf "%-12s %10s %10s %8s\n", 'connections', 'bare', 'store', 'ratio';
for my $connections (1, 4, 16) {
    my %seen;
    my $port = $redis->port;
    open my $out, '-|', "$ENV{builddir}/t/bench/redis", '-p', $port, '-c', $connections, '-s', 1, '-r', $runs or die "redis: $!\n";
    while (my $line = <$out>) {
        push @{ $seen{$1} }, $2 while $line =~ /"(\w+)":([\d.]+)/g;
    }
    close $out or die "t/bench/redis failed\n";
    my %median = map { my @v = sort { $a <=> $b } @{ $seen{$_} }; ($_ => $v[$#v / 2]) } keys %seen;
    printf "%-12s %10d %10d %8.2f\n", $connections, @median{qw(bare store ratio)};
}
