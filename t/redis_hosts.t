#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Two hosts of four children each that count together in one Redis: to the unit, in one round trip a request, and
# with nothing there that is secret.

use strict;
use warnings;

use Test::More;

use RLP::Httpd;
use RLP::Redis;

plan skip_all => RLP::Redis::missing() if RLP::Redis::missing();

my $password = 'pass-of-redis';
my $secret = 'between-all-hosts';
my $key = 'key-of-a-client';

my $redis = RLP::Redis->alone;
my $monitor = RLP::Redis->new(port => $redis->port); # another connection
is($monitor->ask('MONITOR'), 'OK', 'what the server is asked is watched');
$redis->ask('CONFIG', 'SET', 'requirepass', $password);
$redis->ask('AUTH', $password);

# The limit alone is new with each.
sub host {
    my ($rules) = @_;
    my $server = RLP::Httpd->new;
    $server->file('password', "$password\n");
    $server->file('secret', "$secret\n");
    $server->file('keys', "$key gold\n");
    $server->configure('StartServers 4' . <<"CONF" . $rules);

RateLimitStore shared redis url=redis://127.0.0.1:@{[ $redis->port ]} "password=file:\@DIR\@/password" "secret=file:\@DIR\@/secret" timeout=10s connect=10s
RateLimitEngine On
RateLimitPlan gold rate=10/hour
RateLimitIdentity key=header:X-Key ip
RateLimitPlanMap key "txt:\@DIR\@/keys"
CONF
    return $server->start;
}

# A request on each connection at once, n times; how many responses had which status.
sub rounds {
    my ($n, @connections) = @_;
    my %statuses;
    for (1 .. $n) {
        $_->send("GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n") for @connections;
        $statuses{ $_->response('GET')->{status} }++ for @connections;
    }
    return \%statuses;
}

# How often the server was asked to decide, since the last such question. Hosts tell that they live by EVAL.
sub asked {
    my $calls = $redis->calls('evalsha');
    $redis->ask('CONFIG', 'RESETSTAT');
    return $calls;
}

subtest 'T-24 T-25 one limit of 1000, exactly' => sub {
    my @hosts = map { host("KeepAlive On\nRateLimitRule site rate=1000/week\n") } 1 .. 2;
    cmp_ok(scalar(my @children = $_->children), '>=', 4, 'four children at least') for @hosts;
    my @connections = map { $hosts[$_ % 2]->connection } 1 .. 18;
    asked();
    is_deeply(rounds(55, @connections), { 200 => 990 }, '990 are admitted');
    is(asked(), 990, 'in one round trip each');
    is_deeply(rounds(15, @connections), { 200 => 10, 429 => 260 }, 'then ten, and no more');
    cmp_ok(asked(), '<=', 270, 'in one round trip each, or none');
    ok($_->stop, 'it stops as ever') for @hosts;
};

subtest 'two hosts with the same secret' => sub {
    my @hosts = map { host("RateLimitRule site plan=auto\n") } 1 .. 2;
    my $seen = join ' ', map { $hosts[$_ % 2]->statuses(1, '/index.html', "X-Key: $key") } 1 .. 12;
    is($seen, join(' ', (200) x 10, 429, 429), 'share the counter of an API key');
    my @keys = grep { /key:/ } $redis->keys_like;
    is(scalar @keys, 1, 'which is one');
    like($keys[0], qr/\Arlp:\{key:[0-9a-f]{32}\}:site\z/, 'and shows a digest');
    for my $host (@hosts) {
        unlike($host->log_text, qr/$_/, "no log shows $_") for $password, $secret, $key;
        ok($host->stop, 'it stops as ever');
    }
};

subtest 'what is in Redis' => sub {
    cmp_ok(scalar(my @all = $redis->keys_like), '>=', 2, 'there are keys');
    is(join(' ', $redis->lasting), '', 'none without a TTL');
    is(join(' ', grep { /$password|$secret|$key/ } map { ($_, $redis->ask('GET', $_)) } $redis->keys_like), '', 'none with a secret in its name or value');
    $redis->ask('ECHO', 'that-was-all');
    my $said = '';
    RLP::Httpd::wait_for(sub { 1 while $monitor->heard(\$said); $said =~ /that-was-all/ });
    ok($said =~ /"evalsha".*that-was-all/is, 'the server was watched to the end');
    ok($said !~ /$_/, "and was not told $_") for $secret, $key, $password;
};

done_testing;
