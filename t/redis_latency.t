#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# How long requests wait for a Redis that does not answer: up to timeout=, until the breaker opens; then only the
# probe does. t/bench/redis_faults.pl has the figures.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use RLP::Httpd;
use RLP::Redis;
use RLP::RedisPeer;

plan skip_all => RLP::Redis::missing() if RLP::Redis::missing();

my $timeout = 0.1; # timeout=
my $more = 0.01; # what may come on top of it
my $threshold = 9; # requests until the breaker opens
my $tries = 20; # other programs may hold up all requests of a few

my $redis = RLP::Redis->alone;
my $peer = RLP::RedisPeer->new($redis->port);

sub server {
    my ($options) = @_;
    return RLP::Httpd->new(config => <<"CONF")->start;
RateLimitStore shared redis url=redis://127.0.0.1:@{[ $peer->port ]} failure=closed timeout=100ms connect=100ms failure-threshold=$threshold $options
RateLimitEngine On
RateLimitIdentity ip
RateLimitRule site path=/index.html rate=1000000/s
CONF
}

# The seconds that a request takes; its status.
sub took {
    my ($server, $path) = @_;
    my $begin = time;
    my $status = $server->get($path)->{status};
    return (time - $begin, $status);
}

sub median { return (sort { $a <=> $b } @_)[@_ / 2] }

my @faults = (
    ['K-16 the server is stopped', sub { $redis->suspend }, sub { $redis->resume }],
    ['the network is cut', sub { $peer->do('cut') }, sub { $peer->do('pass') }],
    ['replies are late by a second', sub { $peer->do('slow 1') }, sub { $peer->do('pass') }],
    ['replies come a byte each 10 ms', sub { $peer->do('dribble 0.01') }, sub { $peer->do('pass') }],
);

for my $fault (@faults) {
    my ($name, $begin, $end) = @$fault;
    subtest $name => sub {
        my (@waited, @open);
        my $longest = 0;
        my $good = RLP::Httpd::wait_for(
            sub {
                $end->();
                my $server = server('recovery=1min');
                RLP::Httpd::wait_for(sub { (took($server, '/index.html'))[1] == 200 });
                $begin->();
                my @first = map { (took($server, '/index.html'))[0] } 1 .. $threshold - 1;
                took($server, '/index.html') for 1 .. 2; # it opens
                my @then = map { (took($server, '/index.html'))[0] - (took($server, '/nowhere'))[0] } 1 .. 15;
                ($longest) = sort { $b <=> $a } $longest, @first;
                push @waited, median(@first);
                push @open, median(@then);
                $server->stop;
                return @waited >= $tries || $waited[-1] <= $timeout + $more && $open[-1] <= $more;
            },
            120
        );
        cmp_ok((sort { $a <=> $b } @waited)[0], '<=', $timeout + $more, 'a request waits for timeout= at most, and some milliseconds');
        cmp_ok((sort { $a <=> $b } @open)[0], '<=', $more, 'K-04 and not at all once the breaker is open');
        cmp_ok($longest, '<', 10, 'none waits for long');
        $end->();
    };
}

subtest 'only the probe waits' => sub {
    my $server = server('recovery=200ms');
    RLP::Httpd::wait_for(sub { (took($server, '/index.html'))[1] == 200 });
    $redis->suspend;
    my $begin = time;
    my (@slow, @statuses);
    while (time < $begin + 3 || @statuses < 300) {
        my ($seconds, $status) = took($server, '/index.html');
        push @slow, $seconds if $seconds > $timeout / 2;
        push @statuses, $status;
    }
    $redis->resume;
    is(scalar(grep { $_ != 503 } @statuses), 0, 'nobody is served');
    my $probes = () = $server->log_text =~ /RLP031/g;
    # 0.2 s after it opened, then 0.4 s, 0.8 s and so on later, each less up to 20 percent
    cmp_ok($probes, '<=', 1 + log((time - $begin) / 0.16 + 1) / log 2, 'the server is probed ever more rarely');
    cmp_ok($probes, '>=', 1, 'it is');
    note scalar(@slow), ' of ', scalar(@statuses), " requests waited, $probes probes";
};

done_testing;
