#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Two servers that count together in a Redis of the test's own, and what their clients see while it is away.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use RLP::Backend;
use RLP::Httpd;
use RLP::Redis;
use RLP::Rlpctl qw(rlpctl);

plan skip_all => RLP::Redis::missing() if RLP::Redis::missing();

my $redis = RLP::Redis->alone;
my $port = $redis->port;

# --- httpd

# Options that let a slow machine be slow, but where a test is about the time.
my $patient = 'timeout=5s connect=5s recovery=200ms';

sub config {
    my ($options, $rules) = @_;
    return "RateLimitStore shared redis url=redis://127.0.0.1:$port/0 $options\n"
        . "RateLimitEngine On\nRateLimitIdentity ip\n$rules\n";
}

sub server {
    return RLP::Httpd->new(config => config(@_))->start;
}

sub field {
    my ($response, $name) = @_;
    return $response->{fields}{$name} // '-';
}

subtest 'T-25 two servers, one limit' => sub {
    my @servers = map { server("$patient prefix=two:", 'RateLimitRule site rate=20/hour') } 1 .. 2;
    $redis->ask('CONFIG', 'RESETSTAT');
    my @left;
    for my $i (0 .. 19) {
        my $response = $servers[$i % 2]->get('/index.html');
        push @left, $response->{status} . '/' . field($response, 'x-ratelimit-remaining');
    }
    is("@left", join(' ', map { '200/' . (19 - $_) } 0 .. 19), 'each knows what the other has counted');
    is($redis->calls('evalsha'), 20, 'one round trip a request');
    for my $server (@servers) {
        my $response = $server->get('/index.html');
        is($response->{status}, 429, 'both refuse');
        is(field($response, 'x-ratelimit-limit'), 20, 'with the limit');
        cmp_ok(field($response, 'retry-after'), '<=', 180, 'and the time of the next');
        cmp_ok(field($response, 'retry-after'), '>', 150, 'which is that of the limit');
    }
    is_deeply($redis->ask('KEYS', 'two:rlp:{*'), ['two:rlp:{ip:127.0.0.1}:site'], 'one key');
    cmp_ok($redis->ask('PTTL', 'two:rlp:{ip:127.0.0.1}:site'), '>', 0, 'which has a TTL');
    ok($_->stop, 'it stops as ever') for @servers;
};

# Not of what is refused: that may be known without a question.
subtest 'T-28 the script is flushed' => sub {
    my $server = server("$patient prefix=flush:", 'RateLimitRule site rate=20/hour');
    my @left;
    for my $i (0 .. 5) {
        $redis->ask('SCRIPT', 'FLUSH') if $i % 2;
        push @left, field($server->get('/index.html'), 'x-ratelimit-remaining');
    }
    is("@left", '19 18 17 16 15 14', 'no difference');
    unlike($server->log_text, qr/RLP03/, 'nor is it a failure');
};

subtest 'T-25 one connection, many requests' => sub {
    my $server = server("$patient prefix=kept:", 'RateLimitRule site rate=3/hour');
    is($server->statuses(4, '/index.html'), '200 200 200 429', 'a request on a connection of its own');
    my $connection = $server->connection;
    for my $i (1 .. 3) {
        $connection->send("GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n");
        is($connection->response('GET')->{status}, 429, "request $i of a connection is counted by the same counter");
    }
    is_deeply($redis->ask('KEYS', 'kept:rlp:{*'), ['kept:rlp:{ip:127.0.0.1}:site'], 'which is one key');
};

subtest 'T-24 50 at once, limit 5' => sub {
    my @servers = map { server("$patient prefix=many:", 'RateLimitRule site rate=5/hour') } 1 .. 2;
    my @connections = map { $servers[$_ % 2]->connection } 1 .. 50;
    $_->send("GET /index.html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") for @connections;
    my %statuses;
    $statuses{ $_->response('GET')->{status} }++ for @connections;
    is_deeply(\%statuses, { 200 => 5, 429 => 45 }, 'exactly five are served');
};

subtest 'a secret identity' => sub {
    my $server = RLP::Httpd->new;
    $server->file('secret', "between hosts\n");
    $server->file('keys', "topsecret-key gold\n");
    $server->configure(config("$patient prefix=s: \"secret=file:\@DIR\@/secret\"",
        "RateLimitPlan gold rate=3/hour\nRateLimitIdentity key=header:X-Key\nRateLimitPlanMap key \"txt:\@DIR\@/keys\"\n"
            . 'RateLimitRule site plan=auto'));
    $server->start;
    is($server->statuses(4, '/index.html', 'X-Key: topsecret-key'), '200 200 200 429', 'is counted');
    my @keys = grep { /^s:rlp:\{/ } @{ $redis->ask('KEYS', '*') };
    is(scalar @keys, 1, 'under one key');
    like($keys[0], qr/\As:rlp:\{key:[0-9a-f]{32}\}:site\z/, 'that shows a digest');
    unlike($server->log_text, qr/topsecret|between hosts/, 'and no log shows it');
};

subtest 'charges are corrected, places come back' => sub {
    my $server = server("$patient prefix=c:",
        "RateLimitRefund \"expr=%{REQUEST_STATUS} == 404\"\nRateLimitRule site rate=8/hour concurrent=8");
    my @seen = map { $server->get_to_the_end('/nowhere')->{status} } 1 .. 20;
    is("@seen", join(' ', (404) x 20), 'what is not found is given back');
    is($server->statuses(9, '/index.html'), join(' ', (200) x 8, 429), 'and places are not held by who has gone');
};

subtest 'C-09 a place is held for as long as its request lasts' => sub {
    plan skip_all => 'httpd has no mod_proxy_http' if !RLP::Httpd::has_module('proxy_http');
    my $backend = RLP::Backend->new;
    my $back = $backend->port;
    $backend->hold;
    my $server = RLP::Httpd->new(modules => ['proxy', 'proxy_http'],
        config => config("$patient prefix=h:", 'RateLimitRule site concurrent=1 lease=6s')
            . "ProxyPass /back/ http://127.0.0.1:$back/back/\n")->start;
    my $other = server("$patient prefix=h:", 'RateLimitRule site concurrent=1 lease=6s');
    my $connection = $server->connection;
    $connection->send("GET /back/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    is($backend->until_open(1), 1, 'a request lasts');
    my $ends = sub { return $redis->ask('PEXPIRETIME', 'h:rlp:{ip:127.0.0.1}:site') };
    my $first = $ends->();
    is($other->get('/index.html')->{status}, 429, 'and has the place');
    RLP::Httpd::wait_for(sub { $ends->() >= $first + 6000 }, 60);
    cmp_ok($ends->(), '>=', $first + 6000, 'its lease is over, and renewed,');
    is($other->get('/index.html')->{status}, 429, 'and the place is still its own');
    $backend->release;
    is($connection->response('GET', 10)->{status}, 200, 'it ends');
    RLP::Httpd::wait_for(sub { $ends->() < 0 });
    is($other->get('/index.html')->{status}, 200, 'and another has the place');
};

subtest 'I-06 what keys are called' => sub {
    my $plans = "RateLimitPlan pro rate=9/hour\nRateLimitPlanMap ip \"expr:%{HTTP:X-Plan}\"\nRateLimitRule items rate=5/hour\n";
    my $keys = sub {
        my ($prefix, $config) = @_;
        my $server = server("$patient prefix=$prefix", $plans . $config);
        is(field($server->get('/index.html'), 'x-ratelimit-remaining'), 4, 'the limits of the rule');
        is(field($server->get('/index.html', 'X-Plan: pro'), 'x-ratelimit-remaining'), $config ? 8 : 7, 'those of a plan');
        return [ sort @{ $redis->ask('KEYS', $prefix . 'rlp:{*') } ];
    };
    is_deeply($keys->('n:', ''), ['n:rlp:{ip:127.0.0.1}:items'], 'one of the identity under a rule');
    is_deeply($keys->('r:', 'RateLimitPlanChange reset'), ['r:rlp:{ip:127.0.0.1}:items:default', 'r:rlp:{ip:127.0.0.1}:items:pro'],
        'with RateLimitPlanChange reset one for each plan');
    my $escaped = server("$patient prefix=e:", 'RateLimitRule items rate=5/hour "key=who=expr:a b"');
    is(field($escaped->get('/index.html'), 'x-ratelimit-remaining'), 4, 'an identity that has to be escaped, who:a%20b');
    is_deeply($redis->ask('KEYS', 'e:rlp:{*'), ['e:rlp:{who:a%2520b}:items'], 'of what it is called, percent signs are');
    ok($escaped->stop, 'it stops as ever');
    my @store = ("--store=redis://127.0.0.1:$port/0", '--prefix=r:');
    like((rlpctl('', 'get', @store, '--plan=pro', 'ip:127.0.0.1', 'items', 'rate=9/hour'))[1], qr/^allow\tremaining=8\t/, 'rlpctl finds it by its plan');
    is((rlpctl('', 'reset', @store, 'ip:127.0.0.1', 'items:pro'))[0], 0, 'and takes it away by its name');
    is_deeply($redis->ask('KEYS', 'r:rlp:{*'), ['r:rlp:{ip:127.0.0.1}:items:default'], 'and no other');
};

subtest 'both identities or none' => sub {
    my $server = server("$patient prefix=b:",
        "RateLimitRule tight key=ip rate=1/hour\nRateLimitRule wide key=global rate=100/hour");
    is($server->statuses(5, '/index.html'), '200 429 429 429 429', 'one refuses');
    my $other = server("$patient prefix=b:", 'RateLimitRule wide key=global rate=100/hour');
    is(field($other->get('/index.html'), 'x-ratelimit-remaining'), 98, 'and the other was not charged');
};

# --- away

my %away = (
    local => sub {
        my ($server) = @_;
        is($server->statuses(7, '/index.html'), '200 200 200 200 429 429 429', 'half of the nine that are left, counted on this host');
    },
    open => sub {
        my ($server) = @_;
        is($server->statuses(12, '/index.html'), join(' ', (200) x 12), 'all pass');
        my $response = $server->get('/index.html');
        is(join(' ', grep { /ratelimit/ } keys %{ $response->{fields} }), '', 'without fields that tell numbers');
        is($server->get('/index.html')->{fields}{'x-action'}, 'error', 'RATELIMIT_ACTION');
    },
    closed => sub {
        my ($server) = @_;
        is($server->statuses(12, '/index.html'), join(' ', (503) x 12), '503, and never 429');
        my $retry = field($server->get('/index.html'), 'retry-after');
        my $probes = () = $server->log_text =~ /RLP031/g; # none, if the machine is not slow
        like($retry, qr/\A[1-9]\d*\z/, 'with the time of the next probe');
        cmp_ok($retry, '<=', 1 + 2 * 2**$probes, 'which is recovery=, and twice as much after each');
    },
);

for my $failure (sort keys %away) {
    subtest "the server is away: failure=$failure" => sub {
        my $server = RLP::Httpd->new(modules => ['headers'], config => config(
            "timeout=5s connect=5s recovery=2s prefix=$failure: failure=$failure" . ($failure eq 'local' ? ' hosts=2' : ''),
            "Header always set X-Action %{RATELIMIT_ACTION}e env=RATELIMIT_ACTION\nRateLimitRule site rate=10/hour"))->start;
        is($server->get('/index.html')->{status}, 200, 'it is there');
        $redis->kill9;
        my $begin = time;
        $away{$failure}->($server);
        cmp_ok(time - $begin, '<', 30, 'nobody waits'); # seven that waited would take longer
        my @opened = $server->log_text =~ /RLP030: Redis at 127\.0\.0\.1:$port is not asked for now/g;
        cmp_ok(scalar @opened, '>=', 1, 'the log tells');
        cmp_ok(scalar @opened, '<=', 3, 'of the breaker, and not of each request');
        $redis->start;
        my $back = RLP::Httpd::wait_for(sub { $server->get('/index.html'); $server->log_text =~ /RLP032: Redis at \S+ is back/ }, 60);
        ok($back, 'it comes back');
        # what was counted here is told to it now, and a refusal is remembered for a second
        my $whole = RLP::Httpd::wait_for(sub {
            select undef, undef, undef, 1.1;
            $redis->ask('FLUSHALL');
            return $server->statuses(11, '/index.html') eq join ' ', (200) x 10, 429;
        }, 60);
        ok($whole, 'and the whole limit holds');
        unlike($server->log_text, qr/RLP004|AH00052|exit signal/, 'nothing else went wrong');
        ok($server->graceful, 'a graceful restart');
        is($server->get('/index.html')->{status}, 429, 'forgets nothing');
        ok($server->stop, 'it stops as ever');
    };
}

subtest 'the server hangs' => sub {
    my $server = server('timeout=1s connect=1s recovery=5s prefix=hang: failure=closed', 'RateLimitRule site rate=100/hour');
    $server->get('/index.html');
    $redis->suspend;
    my $begin = time;
    is($server->statuses(20, '/index.html'), join(' ', (503) x 20), 'nobody is served');
    # 20 that waited would take 20 s
    cmp_ok(time - $begin, '<', 12, 'and only those wait that open the breaker');
    $redis->resume;
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 200 }, 60), 'until it goes on');
};

subtest 'K-13 failure=closed before the breaker opens, with an ErrorDocument that has its own Retry-After' => sub {
    plan skip_all => 'httpd has no mod_asis' if !RLP::Httpd::has_module('asis');
    my $server = RLP::Httpd->new(modules => ['asis'], config => config("timeout=200ms connect=200ms failure-threshold=1000 prefix=told: failure=closed",
        "RateLimitRule site rate=100/hour\nErrorDocument 503 /busy.asis\n<Files \"*.asis\">\n    SetHandler send-as-is\n</Files>"));
    $server->file('htdocs/busy.asis', "Status: 503 Busy\nRetry-After: 99\nContent-Type: text/plain\n\nbusy\n");
    $server->start;
    $redis->suspend;
    my @answers = map { $server->get('/index.html') } 1 .. 3;
    $redis->resume;
    is(join(' ', map { "$_->{status} $_->{body}" } @answers), join(' ', ("503 busy\n") x 3), 'it is the body');
    is(join(' ', map { field($_, 'retry-after') } @answers), '1 1 1', 'while each request asks Redis, a client is to come again in a second');
    ok($server->stop, 'it stops');
};

# Of eight, one in four: by what this host knows, and nothing of it in Redis.
subtest 'B-34 who waits is counted on this host' => sub {
    my $few = $RLP::Httpd::mpm eq 'prefork' ? "ServerLimit 8\nStartServers 8\nMaxRequestWorkers 8\n"
        : "ServerLimit 1\nStartServers 1\nThreadsPerChild 8\nMaxRequestWorkers 8\n";
    my $rule = 'RateLimitRule few rate=1/20s burst=1 algorithm=stepped-bucket';
    my $server = RLP::Httpd->new(config => $few . config("$patient prefix=wait:", <<"END"))->start;
RateLimitDelay max=600s budget=25%
<Location "/index.html">
    $rule action=delay
</Location>
<Location "/look">
    $rule
</Location>
END
    is($server->statuses(1, '/index.html'), '200', 'the first one passes');
    my @waiting = map { my $c = $server->connection; $c->send("GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n"); $c } 1 .. 2;
    ok(RLP::Httpd::wait_for(sub { field($server->get('/look'), 'retry-after') =~ /\A(?:4[1-9]|5\d|60)\z/ }), 'two wait');
    is($server->statuses(3, '/index.html'), '429 429 429', 'no more may');
    is(join(' ', grep { $_ ne 'wait:rlp:hosts' } @{ $redis->ask('KEYS', 'wait:*') }), 'wait:rlp:{ip:127.0.0.1}:few', 'Redis knows of no more than the limit');
    ok($server->stop, 'it stops');
};

subtest 'no key without a TTL' => sub {
    my @lasting = $redis->lasting;
    is("@lasting", '', 'none');
};

# --- configuration

my @refused = (
    ['', qr/expected url=URL/],
    ['url=redis://localhost tls-ca=/nowhere', qr/expected tls-ca=, .* with url=rediss:.* only/],
    # where hiredis has TLS, redis_tls.t
    RLP::Httpd::slurp($RLP::Httpd::module) =~ /has no TLS/ ? ['url=rediss://localhost', qr/expected no rediss:.*no TLS/] : (),
    ['url=redis://localhost timeout=0s', qr/expected timeout= from 1ms to 10s/],
    ['url=redis://localhost failure=never', qr/expected failure=local, open or closed, got "failure=never"/],
    ['url=redis://localhost hosts=0', qr/expected hosts= from 1 to 10000/],
    ['url=redis://localhost hosts=2 hosts=3', qr/each option once, got "hosts=" again/],
    ['url=redis://localhost failure-threshold=x', qr/expected failure-threshold= from 1 to 1000/],
    ['url=redis://localhost prefix={', qr/expected a prefix=/],
    ['url=redis://localhost secret=mysecret', qr/expected file:PATH or env:NAME/],
    ['url=redis://localhost password=mysecret', qr/expected file:PATH or env:NAME/],
    ['url=redis://localhost tiemout=30ms', qr/got "tiemout" \(timeout=\?\)/],
    ['mysecret://localhost', qr/expected url=/],
);
for my $case (@refused) {
    my ($options, $expected) = @$case;
    my ($code, $said) = RLP::Httpd->new(config => "RateLimitStore x redis $options\n")->configtest;
    isnt($code, 0, "refused: redis $options");
    like($said, $expected, 'and says why');
    unlike($said, qr/mysecret/, 'without what may be a secret');
}

sub configured {
    my ($config) = @_;
    return RLP::Httpd->new(config => "RateLimitStore x redis url=redis://localhost\nRateLimitEngine On\n$config\n")->configtest;
}

my ($code, $said) = configured('RateLimitIdentity key=header:X-Key ip');
isnt($code, 0, 'an identity that is digested');
like($said, qr/line 3 of .*the identity "key": expected secret=/, 'needs a secret');
($code, $said) = configured('RateLimitRule r rate=2000000000000/s');
isnt($code, 0, 'a limit that is too large for Redis');
like($said, qr/expected a count and a burst of at most 1000000000000 in Redis/, 'is refused');
($code, $said) = configured('RateLimitRule r concurrent=2 lease=10s');
is($code, 0, "lease= is for Redis\n") or diag $said;

done_testing;
