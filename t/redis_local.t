#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What hosts know by themselves: refusals that Redis need not repeat, and how they count while it is away.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use RLP::Httpd;
use RLP::Redis;
use RLP::RedisPeer;

plan skip_all => RLP::Redis::missing() if RLP::Redis::missing();

my $redis = RLP::Redis->alone;
my $peer = RLP::RedisPeer->new($redis->port);

# How often it was asked to decide, since the statistics were reset.
sub decided { return $redis->calls('evalsha') }

# What is used of a client's only limit, a quota (docs/redis-format.md).
sub used {
    my ($key) = @_;
    my $value = $redis->ask('GET', $key) or return 0;
    return unpack('d<', substr $value, 32, 8) / 1000;
}

# The hosts that live, each with the millisecond of its end.
sub hosts {
    my ($prefix) = @_;
    my $value = $redis->ask('GET', "${prefix}rlp:hosts");
    return map { unpack 'd<', substr $value, 16 * $_ + 8, 8 } 0 .. length($value) / 16 - 1;
}

# --- httpd

my $patient = 'timeout=5s connect=5s recovery=200ms';

sub server {
    my ($options, $rules) = @_;
    return RLP::Httpd->new(config => "RateLimitStore shared redis url=redis://127.0.0.1:@{[ $peer->port ]}/0 $options\n"
            . "RateLimitEngine On\nRateLimitIdentity ip\n$rules\n")->start;
}

sub field {
    my ($response, $name) = @_;
    return $response->{fields}{$name} // '-';
}

# --- refusals

subtest 'a client that is refused costs no round trips' => sub {
    my $server = server("$patient prefix=r:", 'RateLimitRule site rate=10/hour');
    $redis->ask('CONFIG', 'RESETSTAT');
    my $begin = time;
    is($server->statuses(10, '/index.html'), join(' ', (200) x 10), 'ten are admitted');
    is(decided(), 10, 'by ten round trips');
    my $before = 3600;
    my @odd;
    for (1 .. 400) {
        my $response = $server->get('/index.html');
        my $retry = field($response, 'retry-after');
        push @odd, "$response->{status} $retry" if $response->{status} != 429 || $retry > $before || $retry < 300;
        push @odd, field($response, 'x-ratelimit-remaining') if field($response, 'x-ratelimit-remaining') ne '0';
        $before = $retry;
    }
    is("@odd", '', 'all others are refused, until a time that comes nearer');
    cmp_ok(decided() - 10, '<=', int((time - $begin) / 30), 'and Redis is asked once in 30 seconds whether it is still so');
    ok($server->stop, 'it stops as ever');
};

subtest 'what is changed in Redis is seen soon' => sub {
    my $server = server("$patient prefix=g:", 'RateLimitRule site rate=3600/hour cost=1800');
    is($server->statuses(4, '/index.html'), '200 200 429 429', 'used up');
    is($redis->ask('DEL', 'g:rlp:{ip:127.0.0.1}:site'), 1, 'somebody forgets it');
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 200 }), 'and it is there again');
    is($server->statuses(2, '/index.html'), '200 429', 'and no more than that');
};

# --- away

subtest 'K-14 hosts= says the share, which begins with what is left' => sub {
    my $server = server("$patient prefix=h: hosts=2", 'RateLimitRule site quota=10/year');
    my $key = 'h:rlp:{ip:127.0.0.1}:site';
    for my $outage (1, 2) {
        is($server->statuses(2, '/index.html'), '200 200', 'two of ten, counted in Redis');
        my $before = used($key);
        is($before, $outage == 1 ? 2 : 8, 'with what was counted before');
        $peer->do('say -LOADING Redis is loading the dataset in memory\r\n');
        my $left = (10 - $before) / 2;
        my $response = $server->get('/index.html');
        is($response->{status}, 200, 'it is away');
        is(field($response, 'x-ratelimit-remaining'), $left - 1, 'and of what is left this host has a half');
        is($server->statuses($left + 1, '/index.html'), join(' ', (200) x ($left - 1), 429, 429), 'and no more');
        $peer->do('pass');
        ok(RLP::Httpd::wait_for(sub { used($key) == $before + $left }, 60), 'when it is back it is told of that');
    }
    is(used($key), 9, 'and told once');
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 200 }), 'one is left');
    is($server->statuses(2, '/index.html'), '429 429', 'and no more');
    is(used($key), 10, 'which Redis knows');
    unlike($server->log_text, qr/RLP004|AH00052|exit signal/, 'nothing else went wrong');
};

subtest 'a full Redis that still answers what writes nothing is not back' => sub {
    my $server = server("$patient prefix=full: failure=local hosts=1", 'RateLimitRule site quota=10/year "cost=expr=%{HTTP:X-Cost}"');
    my $ask = sub {
        my ($cost, $n) = @_;
        return join ' ', map { $server->get('/index.html', "X-Cost: $cost")->{status} } 1 .. $n;
    };
    my $key = 'full:rlp:{ip:127.0.0.1}:site';
    is($ask->(1, 3), '200 200 200', 'three of ten');
    $redis->ask('CONFIG', 'SET', 'maxmemory', 1);
    is($ask->(1, 9), join(' ', (200) x 7, (429) x 2), 'seven are left, counted on this host');
    for my $round (1 .. 3) {
        is($ask->(0, 8), join(' ', (200) x 8), 'Redis answers');
        is($ask->(1, 2), '429 429', 'and no counter begins anew by that');
    }
    is(used($key), 3, 'Redis was told of none');
    $redis->ask('CONFIG', 'SET', 'maxmemory', 0);
    ok(RLP::Httpd::wait_for(sub { used($key) == 10 }), 'it is told of all when it has memory again') or diag used($key);
    is($ask->(1, 2), '429 429', 'and has none left');
    ok($server->stop, 'stop');
};

subtest 'K-14 the hosts that live are counted' => sub {
    my @servers = map { server("$patient prefix=n:", 'RateLimitRule site quota=10/year') } 1 .. 2;
    my $key = 'n:rlp:{ip:127.0.0.1}:site';
    ok(RLP::Httpd::wait_for(sub { hosts('n:') == 2 }), 'both tell that they live');
    my ($from) = $redis->ask('PTTL', 'n:rlp:hosts');
    cmp_ok($from, '>', 0, 'under a key with a TTL');
    my @first = hosts('n:');
    # who has told again since has heard of the other
    ok(RLP::Httpd::wait_for(sub { 2 == grep { my $ends = $_; !grep { $_ == $ends } @first } hosts('n:') }), 'and again');
    ok(RLP::Httpd::wait_for(sub { $redis->calls('eval') > 0 }), 'by a script of its own');
    $redis->kill9;
    is($_->statuses(7, '/index.html'), '200 200 200 200 200 429 429', 'each admits a half') for @servers;
    $redis->start;
    ok(RLP::Httpd::wait_for(sub { used($key) == 10 }, 60), 'and together they tell Redis of all');
    ok(RLP::Httpd::wait_for(sub { $servers[0]->get('/index.html')->{status} == 429 }), 'which refuses');
    ok($_->graceful, 'a graceful restart') for @servers;
    ok(RLP::Httpd::wait_for(sub { hosts('n:') == 2 }), 'makes no new hosts');
    ok($servers[0]->stop, 'one stops');
    ok(RLP::Httpd::wait_for(sub { hosts('n:') == 1 }, 60), 'and is soon forgotten');
};

subtest 'a restart while Redis is away' => sub {
    my @servers = map { server("$patient prefix=w:", 'RateLimitRule site quota=10/year') } 1 .. 2;
    ok(RLP::Httpd::wait_for(sub { hosts('w:') == 2 }), 'two hosts live');
    my @first = hosts('w:');
    ok(RLP::Httpd::wait_for(sub { 2 == grep { my $ends = $_; !grep { $_ == $ends } @first } hosts('w:') }), 'and know of each other');
    is($_->statuses(2, '/index.html'), '200 200', 'two of ten, counted in Redis') for @servers;
    $redis->kill9;
    my @left = (4, 3); # a half of what was left when the host heard last
    my @restarts = map { my $how = $_; sub { $_[0]->$how } } qw(graceful restart);
    for my $i (0, 1) {
        is($servers[$i]->statuses(2, '/index.html'), '200 200', 'two on this host');
        ok($restarts[$i]->($servers[$i]), 'it restarts');
        is($servers[$i]->statuses(4, '/index.html'), join(' ', (200) x ($left[$i] - 2), (429) x (6 - $left[$i])), 'and goes on with its share');
    }
    $redis->start;
    ok($_->stop, 'it stops as ever') for @servers;
};

subtest 'other modes tell no lives' => sub {
    my $server = server("$patient prefix=o: failure=open", 'RateLimitRule site rate=10/hour');
    is($server->get('/index.html')->{status}, 200, 'it counts');
    is(scalar hosts('o:'), 0, 'and is no host');
};

done_testing;
