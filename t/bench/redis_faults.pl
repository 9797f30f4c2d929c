# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What clients wait for while Redis does not answer, figures and never a verdict: milliseconds of requests until the
# breaker opens, less timeout=; then, once it is open, less those of a path without a rule. The first should be at
# most 10, and so should the second.
use strict;
use warnings;

use Time::HiRes qw(time);

use RLP::Httpd;
use RLP::Redis;
use RLP::RedisPeer;

die RLP::Redis::missing(), "\n" if RLP::Redis::missing();
my $timeout = 30; # milliseconds, the default
my $waiting = 50; # requests until the breaker opens
my $redis = RLP::Redis->alone;
my $peer = RLP::RedisPeer->new($redis->port);

sub took {
    my ($server, $path) = @_;
    my $begin = time;
    $server->get($path);
    return 1000 * (time - $begin);
}

sub figures {
    my @v = sort { $a <=> $b } @_;
    return map { sprintf '%8.1f', $v[$_ * $#v] } 0.5, 0.95, 1;
}

my @faults = (
    ['stopped', sub { $redis->suspend }, sub { $redis->resume }],
    ['cut', sub { $peer->do('cut') }, sub { $peer->do('pass') }],
    ['late by 1 s', sub { $peer->do('slow 1') }, sub { $peer->do('pass') }],
    ['10 ms a byte', sub { $peer->do('dribble 0.01') }, sub { $peer->do('pass') }],
    ['killed', sub { $redis->kill9 }, sub { $redis->start }],
);

print "Requests while Redis is away, ms beyond timeout= and beyond a request without a rule\n";
printf "%-14s %8s %8s %8s   %8s %8s %8s\n", '', 'waiting', '95 %', 'most', 'open', '95 %', 'most';
for my $fault (@faults) {
    my ($name, $begin, $end) = @$fault;
    my $server = RLP::Httpd->new(config => <<"CONF")->start;
RateLimitStore shared redis url=redis://127.0.0.1:@{[ $peer->port ]} timeout=${timeout}ms failure=open failure-threshold=$waiting recovery=10min
RateLimitEngine On
RateLimitIdentity ip
RateLimitRule site path=/index.html rate=1000000/s
CONF
    took($server, '/index.html') for 1 .. 50;
    $begin->();
    my @waiting = map { took($server, '/index.html') - $timeout } 1 .. $waiting - 1;
    took($server, '/index.html') for 1 .. 2;
    my @open = map { took($server, '/index.html') - took($server, '/nowhere') } 1 .. 500;
    printf "%-14s %s %s %s   %s %s %s\n", $name, figures(@waiting), figures(@open);
    $server->stop;
    $end->();
}
