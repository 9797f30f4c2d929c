#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What rules and maps ask of a store in Redis: a store beside another, what becomes of a rule's requests while Redis is
# away.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use Test::More;

use RLP::Httpd;
use RLP::Redis;

plan skip_all => RLP::Redis::missing() if RLP::Redis::missing();

my $redis = RLP::Redis->alone;
my $port = $redis->port;

# --- httpd

# Options that let a slow machine be slow.
my $patient = 'timeout=5s connect=5s recovery=30s';

sub server {
    my ($config) = @_;
    my $server = RLP::Httpd->new(modules => ['headers']);
    $server->configure("RateLimitEngine On\nRateLimitIdentity ip\n$config\n"
            . "Header always set X-Action %{RATELIMIT_ACTION}e env=RATELIMIT_ACTION\n");
    return $server->start;
}

# Status, RateLimit without times, RATELIMIT_ACTION.
sub told {
    my ($server, @fields) = @_;
    my $response = $server->get('/index.html', @fields);
    my $fields = $response->{fields};
    return join ' ', $response->{status}, ($fields->{ratelimit} // '-') =~ s/;t=\d+//gr, $fields->{'x-action'} // '-';
}

sub store {
    my ($name, $options) = @_;
    return "RateLimitStore $name redis url=redis://127.0.0.1:$port/0 $patient prefix=$name: $options\n";
}

subtest 'near and far' => sub {
    my $server = server("RateLimitStore near shm size=1M\n" . store('far', '')
            . "RateLimitRule a rate=9/hour\nRateLimitRule b rate=3/hour store=far");
    is(told($server), '200 "b";r=2, "a";r=8 -', 'a request is charged in both');
    is(join(' ', $redis->keys_like('*{*')), 'far:rlp:{ip:127.0.0.1}:b', 'what counts far away is there');
    told($server) for 1 .. 2;
    is(told($server), '429 "b";r=0, "a";r=6 deny', 'Redis refuses: what was charged near is given back') for 1 .. 3;
    $redis->ask('FLUSHALL');
    my $told; # a refusal is remembered for a moment
    ok(RLP::Httpd::wait_for(sub { ($told = told($server)) =~ /\A200/ }), 'T-28 without data it goes on');
    is($told, '200 "b";r=2, "a";r=5 -', 'and begins anew');
    $redis->ask('FLUSHALL');
    $server = server("RateLimitStore near shm size=1M\n" . store('far', '')
            . "RateLimitRule a rate=1/hour\nRateLimitRule b rate=9/hour store=far");
    is(told($server), '200 "a";r=0, "b";r=8 -', 'a request');
    $redis->ask('CONFIG', 'RESETSTAT');
    is(told($server), '429 "a";r=0 deny', 'the near store refuses') for 1 .. 3;
    unlike($redis->ask('INFO', 'commandstats'), qr/cmdstat_evalsha/, 'and Redis is not asked');
};

subtest 'far is the default, and one of another name' => sub {
    my $server = server(store('one', '') . store('two', '') . "RateLimitRule a rate=9/hour\nRateLimitRule b rate=3/hour store=two");
    is(told($server), '200 "b";r=2, "a";r=8 -', 'a request');
    is(join(' ', $redis->keys_like('one:*{*')) . ' ' . join(' ', $redis->keys_like('two:*{*')), 'one:rlp:{ip:127.0.0.1}:a two:rlp:{ip:127.0.0.1}:b', 'each has its keys');
    told($server) for 1 .. 2;
    is(told($server), '429 "b";r=0, "a";r=6 deny', 'all or none');
};

# Rules of each kind, alone and together, while Redis is away.
subtest 'failure= of a rule' => sub {
    my $where = 'path=/index.html';
    my %rules = (
        open => "RateLimitRule o rate=2/hour failure=open",
        closed => "RateLimitRule c rate=2/hour failure=closed",
        local => "RateLimitRule l rate=2/hour failure=local",
        usual => "RateLimitRule u rate=2/hour",
    );
    for my $case (
        # rules, failure= of the store, what three requests are told
        ['open', 'local', '200 - error', '200 - error', '200 - error'],
        ['closed', 'local', '503 - error', '503 - error', '503 - error'],
        ['usual', 'local', '200 "u";r=1 -', '200 "u";r=0 -', '429 "u";r=0 deny'],
        ['local', 'open', '200 "l";r=1 -', '200 "l";r=0 -', '429 "l";r=0 deny'],
        ['usual', 'open', '200 - error', '200 - error', '200 - error'],
        ['usual', 'closed', '503 - error', '503 - error', '503 - error'],
        ['open', 'closed', '200 - error', '200 - error', '200 - error'],
        ['open usual', 'local', '200 "u";r=1 error', '200 "u";r=0 error', '429 "u";r=0 deny'],
        ['open local', 'closed', '200 "l";r=1 error', '200 "l";r=0 error', '429 "l";r=0 deny'],
        ['open closed local', 'local', '503 - error', '503 - error', '503 - error'],
    ) {
        my ($names, $failure, @expected) = @$case;
        my $server = server("RateLimitStore far redis url=redis://127.0.0.1:1/0 timeout=5s connect=5s recovery=30s failure=$failure\n"
                . join "\n", map { $rules{$_} } split / /, $names);
        is(join(', ', map { told($server) } 1 .. 3), join(', ', @expected), "rules $names, failure=$failure");
    }
};

subtest 'sync= of a rule' => sub {
    for my $case (['exact', 'lease'], ['lease', 'exact'], ['', 'exact'], ['', 'lease']) {
        my ($own, $usual) = @$case;
        $redis->ask('FLUSHALL');
        my $server = server(store('far', "sync=$usual") . 'RateLimitRule r rate=100000/hour' . ($own ? " sync=$own" : ''));
        $server->get('/index.html'); # loads the script
        $redis->ask('CONFIG', 'RESETSTAT');
        is($server->statuses(40, '/index.html'), join(' ', (200) x 40), "sync=$usual of the store, " . ($own || 'none') . ' of the rule');
        my $calls = $redis->calls('evalsha');
        ($own || $usual) eq 'exact' ? is($calls, 40, 'each request asks') : cmp_ok($calls, '<', 40, 'not all requests ask');
        $server->stop;
    }
};

subtest 'a near store beside one that is away' => sub {
    my $far = "RateLimitStore far redis url=redis://127.0.0.1:1/0 timeout=5s connect=5s recovery=30s";
    my $rules = "RateLimitRule a rate=2/hour\nRateLimitRule b rate=2/hour store=far";
    my $server = server("RateLimitStore near shm\n$far failure=open\n$rules");
    is(join(', ', map { told($server) } 1 .. 3), '200 "a";r=1 error, 200 "a";r=0 error, 429 "a";r=0 deny', 'open: the near one counts');
    $server = server("RateLimitStore near shm\n$far failure=closed\n$rules");
    is(join(', ', map { told($server) } 1 .. 4), '503 - error, 503 - error, 503 - error, 503 - error', 'closed: nobody is served');
    $server = server("RateLimitStore near shm\n$far failure=local\n$rules");
    is(join(', ', map { told($server) } 1 .. 3), '200 "a";r=1, "b";r=1 -, 200 "a";r=0, "b";r=0 -, 429 "a";r=0 deny', 'local: both count');
};

subtest 'in words' => sub {
    my $server = RLP::Httpd->new(config => store('far', '')
            . "RateLimitEngine On\nRateLimitPlan p rate=2/hour concurrent=2 lease=10s\nRateLimitRule a plan=p failure=closed\n"
            . "RateLimitStore near shm\nRateLimitRule b rate=1/s plan=none store=near\nRateLimitRule c rate=1/s store=far failure=open\n");
    my ($code, $said) = $server->configtest('-D', 'DUMP_RATELIMIT');
    is($code, 0, 'a plan is for the stores of its rules alone') or diag $said;
    like($said, qr/^  a: .*, failure=closed \(/m, 'failure= of a rule');
    like($said, qr/^  c: .*, in the store far, failure=open \(/m, 'and its store');
    ($code, $said) = RLP::Httpd->new(config => store('far', '')
            . "RateLimitStore near shm\nRateLimitPlan p concurrent=2 lease=10s\nRateLimitRule b plan=p store=near\n")->configtest;
    isnt($code, 0, 'lease= in a store of this host');
    like($said, qr/line 3 of .*RateLimitPlan: expected no lease= with a store of this host/, 'is refused');
};

# --- an algorithm of another module

my $examples = $ENV{C_MODULES} || ($ENV{builddir} || '.') . '/t/c-modules';
my $strange = "$examples/mod_rlp_first_window.so";

SKIP: {
    skip 'the example modules are not built', 1 if !-e $strange;
    subtest 'T-24 T-25 an algorithm of another module' => sub {
        $redis->ask('FLUSHALL');
        my $config = qq{LoadModule rlp_first_window_module "$strange"\n} . store('far', '')
            . "RateLimitRule a rate=9/hour algorithm=first-window\nRateLimitRule b rate=100/week";
        my @servers = map { server($config) } 1 .. 2;
        my @connections = map { $servers[$_ % 2]->connection } 1 .. 30;
        $_->send("GET /index.html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") for @connections;
        my %statuses;
        $statuses{ $_->response('GET')->{status} }++ for @connections;
        is_deeply(\%statuses, { 200 => 9, 429 => 21 }, 'of 30 at once nine are served');
        # what the other server gave back of b is seen within a second
        my $told = '429 "a";r=0, "b";r=91 deny';
        ok(RLP::Httpd::wait_for(sub { told($servers[0]) eq $told }), 'and the other rule is charged for them alone');
        like(join(' ', $redis->keys_like('*{*')), qr/\Afar:rlp:\{ip:127[.]0[.]0[.]1\}:a:[0-9a-f]{16} far:rlp:\{ip:127[.]0[.]0[.]1\}:b\z/, 'a key of its own');
        my @lasting = $redis->lasting;
        is("@lasting", '', 'with a TTL');
    };
}

# --- plan maps

my $plans = "RateLimitPlan gold rate=9/hour\nRateLimitPlan free rate=1/hour\n";

sub mapped {
    my ($map, $options) = @_;
    return server(store('far', $options // 'secret=env:PATH') . "RateLimitStore near shm size=1M\n${plans}RateLimitIdentity key=header:X-Key ip\n"
            . "RateLimitPlanMap key $map\nRateLimitRule r store=near rate=5/hour");
}

subtest 'plans by keys and by fields' => sub {
    my $put = sub {
        my ($who, $plan) = @_;
        $redis->ask('SET', $_, $plan) for "plan:$who", 'plan:' . sha256_hex($who);
        $redis->ask('HSET', 'plans', $who, $plan);
    };
    for my $map ('redis:plan:%s', '"redis:plans %s"', 'redis:plan:%h', 'redis=far:plan:%s') {
        $redis->ask('FLUSHALL');
        $put->('alice', 'gold');
        my $server = mapped($map);
        like(told($server, 'X-Key: alice'), qr/"gold";r=8/, "$map: a known value");
        like(told($server, 'X-Key: bob'), qr/"r";r=4/, "$map: an unknown one");
        $put->('alice', 'free');
        $put->('bob', 'gold');
        like(told($server, 'X-Key: alice'), qr/"gold";r=7/, "$map: what was answered is remembered");
        like(told($server, 'X-Key: bob'), qr/"r";r=3/, "$map: that it is unknown, too");
        unlike($server->log_text, qr/RLP017|RLP018|alice/, 'nothing is logged');
    }
};

subtest 'what is no plan' => sub {
    $redis->ask('SET', 'plan:carol', 'golden');
    $redis->ask('LPUSH', 'plan:dave', 'gold');
    my $server = mapped('redis:plan:%s');
    like(told($server, 'X-Key: carol'), qr/"r";r=4/, 'a plan that nobody declares');
    like($server->log_text, qr/RLP018: plan map of key/, 'is told');
    $server = mapped('redis:plan:%s');
    like(told($server, 'X-Key: dave'), qr/"r";r=4/, 'a key of another type');
    like($server->log_text, qr/RLP017: plan map of key: Redis: WRONGTYPE/, 'is told in the words of Redis');
    unlike($server->log_text, qr/dave/, 'without the value');
};

subtest 'the server of the map is away' => sub {
    my $away = RLP::Redis->alone;
    $away->ask('SET', 'plan:alice', 'gold');
    my $server = server("RateLimitStore far redis url=redis://127.0.0.1:@{[ $away->port ]}/0 timeout=5s connect=5s recovery=200ms secret=env:PATH failure=local\n"
            . "RateLimitStore near shm size=1M\n${plans}RateLimitIdentity key=header:X-Key ip\n"
            . "RateLimitPlanMap key redis:plan:%s ttl=1s\nRateLimitRule r store=near rate=5/hour");
    like(told($server, 'X-Key: alice'), qr/"gold";r=8/, 'it is there');
    $away->kill9;
    select undef, undef, undef, 1.2; # ttl=
    like(told($server, 'X-Key: alice'), qr/\A200 "gold";r=7/, 'what is known stays known');
    like(told($server, 'X-Key: bob'), qr/\A200 "r";r=4/, 'another value is unknown');
    like($server->log_text, qr/RLP017: plan map of key: Redis: /, 'and the log tells');
    $away->start;
    $away->ask('SET', 'plan:bob', 'gold');
    ok(RLP::Httpd::wait_for(sub { told($server, 'X-Key: bob') =~ /"gold"/ }), 'until it is back');
    $away->kill9;
};

# --- Sentinels with a login of their own

subtest 'K-10 the login of the Sentinels' => sub {
    my $watcher = RLP::Redis->new(file => "requirepass watch\nsentinel monitor main 127.0.0.1 $port 1\n", options => ['--sentinel'])->start;
    my ($watch, $dir) = ($watcher->port, $watcher->dir);
    ok(defined $watcher->ask('PING'), 'a Sentinel');
    RLP::Httpd::spill("$dir/watch", "watch\n");
    for my $case (["sentinel-password=file:$dir/watch", 200], ["sentinel-user=default sentinel-password=file:$dir/watch", 200]) {
        my ($options, $status) = @$case;
        my $server = server("RateLimitStore far redis url=redis-sentinel://127.0.0.1:$watch/main timeout=5s connect=5s recovery=100ms prefix=w: failure=closed $options\n"
                . 'RateLimitRule r rate=100000/hour');
        # each child asks the Sentinels for itself; requests that come before the answer may open the breaker
        my $all = join ' ', ($status) x 10;
        ok(RLP::Httpd::wait_for(sub { $server->statuses(10, '/index.html') eq $all }), "answers $status with options \"$options\"");
        unlike($server->log_text, qr/watch(?!es|ed|-)/, 'the password is in no log');
    }
    $watcher->kill9;
};

for my $case (
    ['redis://localhost sentinel-user=x sentinel-password=env:PATH', 'expected sentinel-user= and sentinel-password= with url=redis-sentinel:// or url=rediss-sentinel:// only'],
    ['redis-sentinel://localhost/main sentinel-user=x', 'expected sentinel-password= with sentinel-user=, got none'],
    ['redis-sentinel://localhost/main sentinel-user=', 'expected sentinel-user=NAME, got none'],
    ['redis-sentinel://localhost/main sentinel-password=mysecret', 'sentinel-password=: expected file:PATH or env:NAME'],
) {
    my ($words, $expected) = @$case;
    my ($code, $said) = RLP::Httpd->new(config => "RateLimitStore x redis url=$words\n")->configtest;
    isnt($code, 0, "refused: $words");
    like($said, qr/\Q$expected\E/, 'and says why');
    unlike($said, qr/mysecret/, 'without what may be a secret');
}

# --- digests

for my $case (
    ['RateLimitIdentity key=header:X-Key ip', 1, 'the identity "key": expected secret='],
    ['RateLimitIdentity sid=cookie:sid ip', 1, 'the identity "sid": expected secret='],
    ['RateLimitRule r rate=1/s key=vhost+key=header:X-Key', 1, 'the identity "key": expected secret='],
    ['RateLimitRule r rate=1/s plan=none key=org=env:ORG', 0, 'a value of the identity "org" that is too long for a key has a digest in Redis that anybody can work out'],
) {
    my ($words, $refused, $expected) = @$case;
    for my $secret ('', 'secret=env:PATH') {
        my ($code, $said) = RLP::Httpd->new(config => store('far', $secret) . "RateLimitStore near shm\n$words\n")->configtest;
        is($code ? 1 : 0, $secret ? 0 : $refused, "$words $secret");
        $secret ? unlike($said, qr/secret=|work out/, 'nothing is missing') : like($said, qr/line 3 of .*\Q$expected\E/s, 'a secret is missing');
    }
}

for my $case (
    ['redis:plan', 'expected a key with %s where the value goes, or %h for its digest'],
    ['redis:', 'expected a key with %s'],
    ['redis:plan:%d', 'expected a key with %s'],
    ['"redis:a %s b"', 'expected a key with %s'],
    ['redis:plan:%s timeout=10ms', 'expected no timeout= with redis:, since the timeout= of its store is for it, too'],
    ['redis=near:plan:%s', 'expected the name of a store in Redis, got "redis=near:"'],
    ['redis=nil:plan:%s', 'expected the name of a store in Redis, got "redis=nil:"'],
) {
    my ($map, $expected) = @$case;
    my ($code, $said) = RLP::Httpd->new(config => store('far', '') . "RateLimitStore near shm\nRateLimitPlanMap user $map\n")->configtest;
    isnt($code, 0, "refused: $map");
    like($said, qr/line 3 of .*RateLimitPlanMap: \Q$expected\E/s, 'and says why');
}
my ($code, $said) = RLP::Httpd->new(config => "RateLimitPlanMap user redis:plan:%s\n")->configtest;
isnt($code, 0, 'a map without a store');
like($said, qr/line 1 of .*RateLimitPlanMap: expected a RateLimitStore of the type redis/s, 'is refused');

done_testing;
