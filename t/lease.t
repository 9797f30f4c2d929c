#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# sync=lease: two servers that draw units from one Redis ahead, under requests to all of their processes at once.

use strict;
use warnings;

use POSIX ();
use Test::More;
use Time::HiRes qw(time);

use RLP::Httpd;
use RLP::Redis;

plan skip_all => RLP::Redis::missing() if RLP::Redis::missing();

my $redis = RLP::Redis->alone;
my $port = $redis->port;

# --- httpd

# Options that let a slow machine be slow.
my $store = "RateLimitStore shared redis url=redis://127.0.0.1:$port/0 timeout=5s connect=5s sync=lease";

sub server {
    my ($prefix, $rules) = @_;
    my $children = $RLP::Httpd::mpm eq 'prefork' ? '' : "StartServers 4\nServerLimit 4\nMinSpareThreads 32\n";
    return RLP::Httpd->new(config => "$children$store prefix=$prefix:\nRateLimitEngine On\nRateLimitIdentity global\n$rules\n")->start;
}

# How many of the requests of several clients at once, of n on a connection each, are admitted.
sub crowd {
    my ($clients, $n, @servers) = @_;
    my @pipes;
    for my $server (@servers) {
        for (1 .. $clients) {
            my $pid = open my $pipe, '-|';
            die "fork: $!\n" if !defined $pid;
            if ($pid == 0) {
                print client($server, $n), "\n";
                close STDOUT;
                POSIX::_exit(0);
            }
            push @pipes, $pipe;
        }
    }
    my $admitted = 0;
    $admitted += <$_> for @pipes;
    close $_ for @pipes;
    return $admitted;
}

# Ten at a time, so that a server is busy.
sub client {
    my ($server, $n) = @_;
    my ($connection, $admitted) = ($server->connection, 0);
    for (1 .. $n / 10) {
        $connection->send("GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n" x 10);
        for (1 .. 10) {
            my $response = $connection->response('GET');
            $admitted++ if $response->{status} == 200;
            $connection = $server->connection if $response->{status} == 0;
        }
    }
    return $admitted;
}

sub field {
    my ($response, $name) = @_;
    return $response->{fields}{$name} // '-';
}

# --- tests

subtest 'T-25 two servers of four processes, one limit of 1000' => sub {
    my $begin = time;
    my @servers = map { server('one', 'RateLimitRule site rate=1000/week') } 1 .. 2;
    my $admitted = crowd(2, 400, @servers);
    # what one of them has left comes back when it has been idle for a second; then the other one gets it
    RLP::Httpd::wait_for(sub { $admitted += crowd(1, 20, @servers); return $admitted >= 1000 }, 20);
    my $most = 1000 + (time - $begin) / 604.8;
    cmp_ok($admitted, '<=', $most, 'never more');
    cmp_ok($admitted, '>=', 970, 'and nearly all');
    cmp_ok($servers[$_]->get('/index.html')->{status}, '==', 429, "server $_ refuses") for 0 .. 1;
    ok($_->stop, 'it stops as ever') for @servers;
};

subtest 'T-24 50 at once, limit 5' => sub {
    my @servers = map { server('many', 'RateLimitRule site rate=5/hour') } 1 .. 2;
    my $admitted = crowd(3, 10, @servers);
    cmp_ok($admitted, '<=', 5, 'no more than five are served');
    RLP::Httpd::wait_for(sub { $admitted += crowd(1, 10, @servers); return $admitted >= 5 }, 20);
    is($admitted, 5, 'and five are');
};

subtest 'windows' => sub {
    my @servers = map { server('windows', 'RateLimitRule site rate=1000/2s algorithm=fixed-window') } 1 .. 2;
    my $first = int($redis->ask('TIME')->[0] / 2);
    my $admitted = crowd(2, 1500, @servers);
    my $last = int($redis->ask('TIME')->[0] / 2);
    cmp_ok($admitted, '<=', 1000 * ($last - $first + 1), 'none has more');
    cmp_ok($admitted, '>=', 970, 'and one at least has its units');
};

subtest 'round trips' => sub {
    my $server = server('trips', 'RateLimitRule site rate=100000/s');
    crowd(4, 100, $server);
    $redis->ask('CONFIG', 'RESETSTAT');
    is(crowd(4, 1500, $server), 6000, 'all are admitted');
    my $trips = $redis->calls('evalsha');
    cmp_ok($trips, '<=', 6000 * 0.02, 'one in 50 requests asks, at most');
    diag "$trips round trips for 6000 requests" if $ENV{RLP_FIGURES};

    $server = server('refused', 'RateLimitRule site rate=5/hour');
    is(crowd(1, 10, $server), 5, 'a small limit');
    $redis->ask('CONFIG', 'RESETSTAT');
    is(crowd(2, 500, $server), 0, 'refuses');
    cmp_ok($redis->calls('evalsha'), '<=', 20, 'and remembers it');
};

subtest 'what the client is told' => sub {
    my $server = server('told', "RateLimitRule site rate=20/hour");
    my @left = map { field($server->get('/index.html'), 'x-ratelimit-remaining') } 1 .. 20;
    is("@left", join(' ', reverse 0 .. 19), 'what is left, with those who are the only host');
    my $response = $server->get('/index.html');
    is($response->{status}, 429, 'then it refuses');
    is(field($response, 'x-ratelimit-remaining'), 0, 'with nothing left');
    cmp_ok(field($response, 'retry-after'), '<=', 180, 'and the time of the next');
    cmp_ok(field($response, 'retry-after'), '>', 120, 'which is that of the limit');
};

subtest 'a plan of several limits' => sub {
    my $server = server('plan', "RateLimitPlan gold rate=6/hour quota=50/year concurrent=4\nRateLimitRule site plan=gold");
    is($server->statuses(8, '/index.html'), join(' ', (200) x 6, 429, 429), 'leased or not, all must admit');
    is(scalar @{ $redis->ask('KEYS', 'plan:rlp:{*') }, 1, 'one key');
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 429 }, 20), 'as before');
};

# What is used of the quota under a key that has nothing else, but leases (docs/redis-format.md).
sub used {
    my ($key) = @_;
    my $value = substr $redis->ask('GET', $key), 4;
    while (length $value) {
        my ($size) = unpack 'x8 V', $value;
        return unpack('x28 d<', $value) / 1000 if $size == 24;
        substr $value, 0, 20 + $size, '';
    }
    return;
}

subtest 'who is refused by another limit for longer than a lease' => sub {
    my $server = server('longer', "RateLimitRule day quota=100/year\nRateLimitRule two rate=2/hour algorithm=sliding-log");
    my $end = time + 6;
    my %seen;
    while (time < $end) {
        $seen{ $server->get('/index.html')->{status} }++;
        select undef, undef, undef, 0.05;
    }
    is($seen{200}, 2, 'has two') or diag explain \%seen;
    ok($server->stop, 'stop');
    is(used($redis->keys_like('longer:rlp:*:day')), 2, 'and pays for no more');
};

subtest 'corrections' => sub {
    my $server = server('back', "RateLimitRefund \"expr=%{REQUEST_STATUS} == 404\"\nRateLimitRule site rate=8/hour");
    my @seen = map { $server->get_to_the_end('/nowhere')->{status} } 1 .. 20;
    is("@seen", join(' ', (404) x 20), 'what is not found is given back');
    my $admitted = 0;
    RLP::Httpd::wait_for(sub { $admitted += crowd(1, 10, $server); return $admitted >= 8 }, 20);
    cmp_ok($admitted, '>=', 8, 'to the last unit');
    cmp_ok($admitted, '<=', 9, 'and no more');
};

subtest 'the end of a server' => sub {
    my @servers = map { server('end', 'RateLimitRule site quota=1000') } 1 .. 2;
    my $admitted = crowd(2, 100, $servers[0]);
    is($admitted, 200, 'one draws units');
    ok($servers[0]->stop, 'and stops');
    $admitted += crowd(2, 400, $servers[1]);
    is($admitted, 1000, 'what it had left came back');

    @servers = map { server('killed', 'RateLimitRule site quota=1000') } 1 .. 2;
    $admitted = crowd(2, 100, $servers[0]);
    $servers[0]->kill9;
    $admitted += crowd(2, 400, $servers[1]);
    cmp_ok($admitted, '<=', 1000, 'one that is killed takes its leases along');
    cmp_ok($admitted, '>=', 750, 'which are a quarter of the limit at most');
};

subtest 'Redis is away: failure=local' => sub {
    my $server = RLP::Httpd->new(config => "$store failure=local hosts=2 recovery=10s failure-threshold=1 prefix=local:\n"
            . "RateLimitEngine On\nRateLimitIdentity global\nRateLimitRule site rate=20/hour\n")->start;
    is(crowd(1, 10, $server), 10, 'half of it is used');
    $redis->kill9;
    # a lease of 5 at most, and half of what was left when it was drawn
    my $admitted = crowd(1, 40, $server);
    cmp_ok($admitted, '<=', 8, 'nobody begins anew');
    cmp_ok($admitted, '>', 0, 'and there is some left');
    $redis->start;
};

subtest 'Redis is away' => sub {
    my ($server, $status);
    for my $try (1 .. 5) { # what is leased goes back after an idle second, which a slow machine may have had
        $redis->start if $try > 1;
        $server = RLP::Httpd->new(config => "$store failure=closed recovery=10s failure-threshold=1 prefix=away$try:\n"
                . "RateLimitEngine On\nRateLimitIdentity global\nRateLimitRule site rate=100000/s\n")->start;
        is(crowd(2, 300, $server), 600, 'it is there');
        $redis->kill9;
        $status = $server->get('/index.html')->{status};
        last if $status == 200;
    }
    is($status, 200, 'what is leased is spent without it');
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 503 }, 20), 'and then failure= says what follows');
    unlike($server->log_text, qr/RLP004|AH00052|exit signal/, 'nothing else went wrong');
    ok($server->stop, 'it stops as ever');
};

# --- configuration

sub configured {
    my ($options, $config, @words) = @_;
    return RLP::Httpd->new(config => "RateLimitStore x redis url=redis://localhost $options\nRateLimitEngine On\n$config\n")
        ->configtest(@words);
}

my ($code, $said) = configured('sync=sometimes', '');
isnt($code, 0, 'a word that is unknown');
like($said, qr/line 1 of .*expected sync=exact or lease, got "sync=sometimes"/s, 'is refused');
my $none = qr/sync=lease has no effect here/;
for my $case (
    ['sync=lease', 'rate=5/s', 0],
    ['sync=lease', 'rate=5/s concurrent=2', 0],
    ['sync=exact', 'concurrent=2', 0],
    ['sync=lease', 'concurrent=2', 1],
    ['sync=lease', 'rate=5/s burst=4', 0],
    ['sync=lease', 'rate=5/s burst=3', 1],
    ['sync=lease', 'rate=5/s algorithm=leaky-bucket', 1],
    ['sync=lease', 'rate=5/s algorithm=stepped-bucket', 1],
    ['sync=lease', 'rate=5/s algorithm=sliding-log', 1],
    ['sync=lease', 'rate=5/s algorithm=sliding-window', 0],
    ['sync=lease', 'rate=5/s action=delay', 1],
    ['sync=lease', 'concurrent=2 sync=exact', 0],
    ['sync=exact', 'concurrent=2 sync=lease', 1],
) {
    my ($options, $limits, $warned) = @$case;
    ($code, $said) = configured($options, "RateLimitDelay max=1s\nRateLimitRule r $limits");
    is($code, 0, "$options: $limits") or diag $said;
    is($said =~ /line 4 of .*$none/s ? 1 : 0, $warned, $warned ? 'warns' : 'does not warn') or diag $said;
}
($code, $said) = configured('sync=lease', 'RateLimitRule r rate=5/s', '-D', 'DUMP_RATELIMIT');
like($said, qr/Redis at \S+; sync=lease; failure=local/, 'a dump tells');

done_testing;
