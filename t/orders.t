#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Bans and plans for a time where the first store is in Redis: in force on all hosts that count there; while Redis is away,
# comes back empty, moves or holds what nobody ordered; and where they are those of one host.

use strict;
use warnings;

use JSON::PP qw(decode_json encode_json);
use Test::More;
use Time::Local qw(timegm);

use RLP::Httpd;
use RLP::Redis;
use RLP::RedisPeer;
use RLP::RedisSet;

plan skip_all => RLP::Redis::missing() if RLP::Redis::missing();

my $key = 'rlp:orders';
my $me = 'ip:127.0.0.1';
my $rlpctl = $ENV{RLPCTL} || ($ENV{top_builddir} // '.') . '/rlpctl/rlpctl';
my $patient = 'secret=env:PATH timeout=5s connect=5s recovery=200ms';
my $rest = <<'END';
RateLimitEngine On
RateLimitIdentity key=header:X-Key ip
RateLimitPlanMap key "txt:@DIR@/keys"
RateLimitPlanDefault usual
RateLimitPlan usual rate=1000000/week
RateLimitPlan gold rate=2000000/week
RateLimitRule site plan=auto
<Location "/admin">
    SetHandler ratelimit-admin
</Location>
END

sub started {
    my ($config) = @_;
    my $host = RLP::Httpd->new;
    $host->file('keys', "sesame gold\nother usual\n");
    return $host->configure($config)->start;
}

sub host {
    my ($redis, $options, $port) = @_;
    $port //= $redis->port;
    my $usual = $options =~ /timeout=/ ? 'secret=env:PATH connect=5s recovery=200ms' : $patient;
    return started("RateLimitStore far redis url=redis://127.0.0.1:$port $usual $options\n$rest");
}

sub ask {
    my ($host, $ask) = @_;
    my $body = encode_json({ $ask->{action} eq 'overrides' ? () : (identity => $me), %{$ask} });
    my $connection = $host->connection;
    $connection->send(join "\r\n", 'POST /admin HTTP/1.1', 'Host: localhost', 'Connection: close',
        'Content-Type: application/json', 'Content-Length: ' . length $body, '', $body);
    my $response = $connection->response('POST');
    $response->{json} = eval { decode_json($response->{body}) } // {};
    return $response;
}

# What it answers; the test fails with what was refused.
sub done {
    my ($host, $action, %ask) = @_;
    my $response = ask($host, { action => $action, %ask });
    is($response->{status}, 200, join ' ', $action, map { "$_ " . ($ask{$_} // 'null') } sort keys %ask) or diag($response->{body});
    return $response->{json};
}

sub comes {
    my ($host, $status, $name, @fields) = @_;
    return ok(RLP::Httpd::wait_for(sub { $host->get('/index.html', @fields)->{status} == $status }), $name);
}

sub stays {
    my ($host, $statuses, $name) = @_;
    return is($host->statuses(scalar split(/ /, $statuses), '/index.html'), $statuses, $name);
}

sub quota { return $_[0]->get('/index.html')->{fields}{'x-ratelimit-limit'} }
sub listed { return join ' ', sort map { $_->{identity} } @{ done($_[0], 'overrides')->{overrides} } }
sub seconds { my @parts = $_[0] =~ /(\d+)/g; return timegm(reverse(@parts[3 .. 5]), $parts[2], $parts[1] - 1, $parts[0]) }
sub crashed { return scalar(() = $_[0]->log_text =~ /exit signal|AH00051|AH00052/g) }

# --- two hosts, and a third that counts elsewhere

my $redis = RLP::Redis->alone;
for my $options ('failure=local hosts=2', $RLP::Httpd::mpm eq 'event' ? 'failure=open sync=lease' : ()) {
    $redis->ask('FLUSHALL');
    my ($one, $two) = map { host($redis, $options) } 1 .. 2;
    my $else = host($redis, "$options prefix=p:");
    stays($_, '200', "$options: served") for $one, $two, $else;
    is(done($one, 'ban', for => '1h')->{changed} ? 1 : 0, 1, "$options: a ban");
    stays($one, '429 429 429 429', "$options: at once in all processes of the host");
    comes($two, 429, "$options: and soon on the other");
    stays($else, '200', "$options: not where another prefix is");
    is(listed($two), $me, "$options: which knows whom");
    my ($here, $there) = map { seconds(done($_, 'get')->{banned_until}) } $one, $two;
    cmp_ok(abs($here - $there), '<=', 1, "$options: until when"); # each rounds to the second
    done($two, 'set-plan', plan => 'gold', for => '1h');
    is(done($two, 'unban')->{changed} ? 1 : 0, 1, "$options: the other ends it");
    is(quota($two), 2000000, "$options: and has the plan");
    comes($one, 200, "$options: as does the first");
    is(quota($one), 2000000, "$options: with the plan");
    is(done($one, 'unban')->{changed} ? 1 : 0, 0, "$options: there is nothing more to end");
    ok($one->graceful, "$options: a graceful restart");
    is(quota($one), 2000000, "$options: which it outlives");
    ok($one->stop && $one->start, "$options: a stop and a start");
    ok(RLP::Httpd::wait_for(sub { quota($one) == 2000000 }), "$options: after which it comes again");
    done($one, 'set-plan', plan => undef);
    is(quota($one), 1000000, "$options: its end");
    ok(RLP::Httpd::wait_for(sub { quota($two) == 1000000 }), "$options: is that of all");
    done($one, 'ban', identity => 'key', secret => 'sesame', for => '1h');
    comes($two, 429, "$options: a secret, by the digest of all", 'X-Key: sesame');
    is($two->get('/index.html', 'X-Key: other')->{status}, 200, "$options: nobody else");
    unlike($redis->ask('GET', $key), qr/sesame/, "$options: which alone is in Redis");
    # it may have ended before a slow machine has looked: then there is another one
    my $short = RLP::Httpd::wait_for(sub {
        done($two, 'ban', for => '3s');
        RLP::Httpd::wait_for(sub { $one->get('/index.html')->{status} == 429 }, 3);
    });
    ok($short, "$options: a short one");
    comes($one, 200, "$options: ends by itself");
    is($redis->lasting, 0, "$options: no key without a TTL");

    # --- an outage

    done($one, 'ban', for => '1h');
    comes($two, 429, "$options: a ban before an outage");
    $redis->kill9;
    stays($two, '429', "$options: goes on in it");
    my $refused = ask($two, { action => 'unban' });
    is($refused->{status}, 503, "$options: nothing can be ended in it");
    like($refused->{json}{detail}, qr/^expected an answer of Redis/, "$options: which is said");
    is(ask($two, { action => 'ban', identity => 'ip:127.0.0.2', for => '1h' })->{status}, 503, "$options: nor ordered");
    is(listed($two) =~ s/ key:\S+//r, $me, "$options: and nothing is");
    is(scalar(grep { !/, without an answer of Redis$/ } $two->log_text =~ /RLP072: ([^\n]*127\.0\.0\.2[^\n]*)/g), 0, "$options: nor told as done");
    ok($two->graceful, "$options: a graceful restart in it");
    stays($two, '429', "$options: does not end it");
    $redis->start;
    comes($_, 200, "$options: Redis comes back without it") for $one, $two;
    done($two, 'ban', for => '1h');
    comes($one, 429, "$options: and has what is ordered then");
    is(crashed($_), 0, "$options: nobody has crashed") for $one, $two;
    ok($_->stop, "$options: it stops as ever") for $one, $two, $else;
}

# --- what somebody else has written there

$redis->ask('FLUSHALL');
{
    my $host = host($redis, 'failure=open');
    my $later = int(time * 1000) + 3_600_000;
    my $put = sub { $redis->ask('SET', $key, $_[0], 'PX', 3_600_000) };
    stays($host, '200', 'served');
    $put->("rlpo1 1\n$me $later 0 -\n");
    comes($host, 429, 'written by hand, as docs/redis-format.md says');
    $put->("rlpo1 2\nnobody $later 0 -\n:::: $later 0 -\nip:a+b+c+d $later 0 -\n+++:x $later 0 -\nip: $later 0 -\n" . 'u:' . 'x' x 5000 . " $later 0 -\n"
            . "key:%FF%FE $later 0 -\n127.0.0.1 $later 0 -\nip:127.0.0.1%20 $later 0 -\n$me 99999999999999 0 -\n$me $later\n$me 0 $later none-such\n");
    comes($host, 200, 'names of nobody, damaged lines and a plan that is none ban nobody');
    is(quota($host), 1000000, 'nor do they change a limit');
    ok(RLP::Httpd::wait_for(sub { $host->log_text =~ /RLP034: bans and plans in Redis: 9 in force, 3 not understood/ }), 'which is told') or diag($host->log_text);
    like(listed($host), qr/ip:127/, 'they are listed');
    $put->("rlpo1 3\n$me $later 0 -\n");
    comes($host, 429, 'a ban');
    $put->("rlpo1 3\n$me $later 0 -\n" x 50_000);
    comes($host, 200, 'ended by what is no such value');
    $redis->ask('DEL', $key);
    $redis->ask('HSET', $key, 'a', 'b');
    stays($host, '200', 'another type');
    done($host, 'ban', for => '1h');
    stays($host, '429', 'is overwritten');
    $put->("rlpo1 4\n" . join '', map { "ip:198.51.$_ $later 0 -\n" } map { my $i = $_; map { "$i.$_" } 0 .. 255 } 0 .. 15);
    comes($host, 200, 'as many as there is room for');
    my $full = ask($host, { action => 'ban', for => '1h' });
    is($full->{status}, 507, 'one more is refused') or diag($full->{body});
    is(scalar @{ done($host, 'overrides')->{overrides} }, 4096, 'all are in force');
    is(crashed($host), 0, 'nobody has crashed');

    SKIP: {
        skip 'rlpctl is not built', 1 if !-x $rlpctl;
        $redis->ask('DEL', $key);
        my $said = qx('$rlpctl' ban --store=redis://127.0.0.1:${\ $redis->port} $me 1h 2>&1);
        is($? >> 8, 0, 'rlpctl on Redis alone') or diag($said);
        comes($host, 429, 'is obeyed');
        qx('$rlpctl' unban --store=redis://127.0.0.1:${\ $redis->port} $me);
        comes($host, 200, 'in each way');
    }
    ok($host->stop, 'it stops as ever');
}

# --- an answer that is lost

$redis->ask('FLUSHALL');
{
    my $peer = RLP::RedisPeer->new($redis->port);
    my $host = host($redis, 'failure=open timeout=100ms failure-threshold=1000', $peer->port);
    stays($host, '200', 'served');
    $peer->do('lose $3\r\nban\r\n');
    my $lost = ask($host, { action => 'ban', for => '1h' });
    is($lost->{status}, 503, 'an answer that does not come');
    like($lost->{json}{detail}, qr/^expected an answer of Redis, .* comes into force if Redis has carried it out$/, 'what comes is not known');
    like($host->log_text, qr/RLP072: [^\n]*: ban ip:127\.0\.0\.1 until [^\n]*, without an answer of Redis$/m, 'which leaves its line, too');
    $peer->do('pass');
    comes($host, 429, 'but comes when Redis has carried it out');
    $redis->suspend;
    ok($host->stop, 'who looks meanwhile holds nobody up');
    $redis->resume;
    is(crashed($host), 0, 'nor does it crash');
}

# --- the file of a host

SKIP: {
    skip 'rlpctl is not built', 1 if !-x $rlpctl;
    $redis->ask('FLUSHALL');
    my ($one, $two) = map { host($redis, 'failure=local hosts=2') } 1 .. 2;
    my $file = $one->dir . '/run/ratelimit-far.shm';
    my $direct = sub { my $said = qx('$rlpctl' $_[0] --json --file='$file' $_[1] 2>&1); is($? >> 8, 0, "rlpctl @_ on its file") or diag($said); $said };
    stays($_, '200', 'served') for $one, $two;
    $direct->('ban', "$me 1h");
    stays($one, '429 429', 'a ban in its file');
    stays($two, '200', 'is for this host alone');
    like($direct->('overrides', ''), qr/"banned_until":"20/, 'as the file says');
    done($one, 'ban', identity => 'ip:127.0.0.9', for => '1h');
    ok(RLP::Httpd::wait_for(sub { listed($two) eq 'ip:127.0.0.9' }), 'a change on all');
    stays($one, '429', 'does not end it');
    done($two, 'unban', identity => 'ip:127.0.0.9');
    ok(RLP::Httpd::wait_for(sub { listed($one) eq $me }), 'nor does an end on all');
    is(done($one, 'unban')->{changed} ? 1 : 0, 1, 'unban does');
    stays($one, '200', 'at once');
    done($two, 'ban', for => '1h');
    comes($one, 429, 'a ban on all');
    $direct->('unban', $me);
    ok(RLP::Httpd::wait_for(sub { done($one, 'get')->{banned_until} }), 'does not stay ended on one');
    $direct->('ban', 'ip:127.0.0.8 1h');
    my $dump = qx('$rlpctl' dump --file='$file' 2>&1);
    is_deeply([ $dump =~ /"type":"override".*?"identity":"([^"]*)"/g ], ['ip:127.0.0.8'], 'a dump of the file has what is of this host alone') or diag($dump);
    $direct->('unban', 'ip:127.0.0.8');

    # somebody who lives holds the lock of the table
    open my $handle, '+<:raw', $file or die "$file: $!\n";
    my $bytes = do { local $/ = undef; <$handle> };
    my $at = index($bytes, 'RLPOVER') + 20;
    my $lock = sub { seek $handle, $at, 0; syswrite $handle, pack 'L', $_[0] };
    seek $handle, 0, 0;
    $lock->($$);
    my $late = ask($one, { action => 'unban' });
    is($late->{status}, 503, 'the table of the host is locked');
    like($late->{json}{detail}, qr/ordered for all hosts, and comes into force here as soon as it can$/, 'what is ordered comes later');
    like($one->log_text, qr/RLP072: [^\n]*: unban ip:127\.0\.0\.1, not in force on this host yet$/m, 'and leaves its line');
    comes($two, 200, 'on the other host as ever');
    stays($one, '429', 'not here');
    $lock->(0);
    comes($one, 200, 'until the lock is free');
    is(crashed($_), 0, 'nobody has crashed') for $one, $two;
    is(ask($one, { action => 'ban', identity => 'ip:127.0.0.1' . '%20' x 400, for => '1h' })->{status}, 400, 'an identity that is too long for any');
    ok($_->stop, 'it stops as ever') for $one, $two;
}

# --- more than a host has room for

SKIP: {
    skip 'rlpctl is not built', 1 if !-x $rlpctl;
    $redis->ask('FLUSHALL');
    my $host = host($redis, 'failure=local hosts=1');
    my $there = "--store=redis://127.0.0.1:${\ $redis->port}";
    my $file = $host->dir . '/run/ratelimit-far.shm';
    my $told = sub { my @lines = $host->log_text =~ /RLP034: ([^\n]*)/g; return join '; ', @lines };
    my $full = '1 in force, 0 not understood, and no room here for all';
    stays($host, '200', 'served');
    my ($header) = split /\n/, qx('$rlpctl' dump --file='$file');
    my $until = decode_json($header)->{time} + 3_600_000_000;
    my $lines = join '', map { encode_json($_) . "\n" } map({ {
        type => 'override', fingerprint => sprintf('%016x', 4096 + $_), digest => sprintf('%016x', $_), identity => "ip:198.51.100.$_",
        banned_until => $until, plan => undef, plan_until => undef } } 1 .. 4096), { type => 'end', counters => 0, overrides => 4096 };
    my $dump = $host->file('bans', "$header\n$lines");
    my $said = qx('$rlpctl' load --json --file='$file' '$dump' 2>&1);
    like($said, qr/"overrides_loaded":4096,/, 'bans of this host, as many as it has room for');
    is(ask($host, { action => 'ban', for => '1h' })->{status}, 503, 'one more is ordered for all hosts, and is late here');
    ok(RLP::Httpd::wait_for(sub { $told->() eq "bans and plans in Redis: $full" }), 'which is told') or diag($told->());
    qx('$rlpctl' ban $there ip:127.0.0.5 1h);
    ok(RLP::Httpd::wait_for(sub { $told->() =~ /2 in force, 0 not understood, and no room here for all$/ }), 'and again of another one');
    is(scalar(() = $told->() =~ /bans and plans/g), 2, 'once each, however often it looks');
    stays($host, '200', 'nobody is banned whom it does not know');
    ok($host->stop, 'it stops as ever');
    is(crashed($host), 0, 'nor does it crash');
}

# --- several stores, and another first one

$redis->ask('FLUSHALL');
{
    my $far = "RateLimitStore far redis url=redis://127.0.0.1:${\ $redis->port} $patient\n";
    my $near = "RateLimitStore near shm size=1M file=store\n";
    my ($one, $two) = map { started("$near$far$rest" . "RateLimitRule far rate=1000000/week store=far\n") } 1 .. 2;
    done($one, 'ban', for => '1h');
    is($redis->ask('EXISTS', $key), 0, 'the first store is in memory: a ban is not for Redis');
    stays($one, '429', 'but for this host');
    stays($two, '200', 'alone');
    $two->configure("$far$near$rest");
    ok($two->graceful, 'the first one becomes that in Redis');
    done($two, 'ban', for => '1h');
    stays($two, '429', 'a ban there');
    is($redis->ask('EXISTS', $key), 1, 'is for Redis');
    ok($two->restart, 'a restart');
    stays($two, '429', 'which it outlives at once, with a file');
    $two->configure("$near$far$rest");
    ok($two->graceful, 'the first one is in memory again');
    comes($two, 200, 'what came from Redis is not of this host');
    $two->configure("$far$near$rest");
    ok($two->graceful, 'and in Redis again');
    comes($two, 429, 'from where it comes again');
    done($two, 'unban');

    # the table lies in the file of the store in memory, whichever is the first
    my $until = done($one, 'get')->{banned_until};
    for my $stores ($near, "$far failure=open\n$near" =~ s/\n failure/ failure/r, $near . $far =~ s/\n/ failure=open\n/r) {
        $one->configure($stores . $rest);
        ok($one->graceful, 'other stores');
        stays($one, '429', 'a ban of this host goes on');
        cmp_ok(abs(seconds(done($one, 'get')->{banned_until}) - seconds($until)), '<=', 2, 'and ends when it should');
    }
    SKIP: {
        skip 'rlpctl is not built', 1 if !-x $rlpctl;
        my $said = qx('$rlpctl' overrides --json --file='${\ $one->file('store')}' 2>&1);
        my $there = eval { decode_json($said)->{overrides}[0]{banned_until} } // diag($said);
        cmp_ok(abs(seconds($there) - seconds($until)), '<=', 2, 'as rlpctl says of the file');
    }
    ok($_->stop, 'it stops as ever') for $one, $two;
}
$redis->kill9;

# --- servers that move

SKIP: {
    skip 'the topology is the same with each MPM: once is enough', 1 if $RLP::Httpd::mpm ne 'event';
    my $cluster = RLP::RedisSet->cluster;
    my $url = 'redis-cluster://' . join ',', map { '127.0.0.1:' . $_->port } ($cluster->servers)[0 .. 2];
    my ($one, $two) = map { started("RateLimitStore far redis url=$url $patient failure=open\n$rest") } 1 .. 2;
    comes($_, 200, 'a Cluster') for $one, $two;
    ok(RLP::Httpd::wait_for(sub { ask($one, { action => 'ban', for => '1h' })->{status} == 200 }), 'a ban');
    comes($two, 429, 'on the other host');
    my ($home, $slot) = $cluster->home($key);
    my $next = ($home + 1) % 3;
    $cluster->migrate($slot, $home, $next);
    $cluster->move_keys($slot, $home, $next);
    $cluster->settle($slot, $next);
    done($two, 'unban');
    comes($one, 200, 'when its slot has moved, too');
    ok($_->stop, 'it stops as ever') for $one, $two;
}
SKIP: {
    skip 'the topology is the same with each MPM: once is enough', 1 if $RLP::Httpd::mpm ne 'event';
    my $set = RLP::RedisSet->sentinels;
    my ($master, @replicas) = $set->servers;
    my $url = 'redis-sentinel://' . join(',', map { '127.0.0.1:' . $_->port } $set->watchers) . '/main';
    my ($one, $two) = map { started("RateLimitStore far redis url=$url $patient failure=open\n$rest") } 1 .. 2;
    comes($_, 200, 'Sentinels') for $one, $two;
    ok(RLP::Httpd::wait_for(sub { ask($one, { action => 'ban', for => '1h' })->{status} == 200 }), 'a ban');
    comes($two, 429, 'on the other host');
    $_->await(qr/127/, 'GET', $key) for @replicas;
    $set->hasten;
    $master->kill9;
    stays($_, '429', 'goes on while there is no master') for $one, $two;
    ok(RLP::Httpd::wait_for(sub { ask($two, { action => 'unban' })->{status} == 200 }, 60), 'and ends with the next');
    comes($one, 200, 'on the other host, too');
    ok($_->stop, 'it stops as ever') for $one, $two;
}

done_testing;
