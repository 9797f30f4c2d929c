#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# All that Redis and the network may do wrong, and what the clients of httpd see of it, with each failure=.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use RLP::Httpd;
use RLP::Redis;
use RLP::RedisPeer;

plan skip_all => RLP::Redis::missing() if RLP::Redis::missing();

my $limit = 10; # of each client
my $share = 5; # of this host, while Redis is away
my $asked = 8; # requests of a client during a fault
my $patient = 'timeout=5s connect=5s'; # lets a slow machine be slow

my $redis = RLP::Redis->alone('--maxmemory-policy', 'noeviction', '--loading-process-events-interval-bytes', '1024');
my $peer = RLP::RedisPeer->new($redis->port);

# --- httpd

sub server {
    my ($failure, $url, $options) = @_;
    $options = "timeout=500ms connect=500ms $options" if $options !~ /timeout=/;
    my $server = RLP::Httpd->new(modules => ['headers', 'setenvif'], config => <<"CONF");
RateLimitStore shared redis url=$url failure=$failure hosts=2 recovery=200ms $options
RateLimitEngine On
SetEnvIf X-Client (.+) CLIENT=\$1
Header always set X-Action %{RATELIMIT_ACTION}e env=RATELIMIT_ACTION
RateLimitIdentity client=env:CLIENT ip
RateLimitRule site rate=$limit/hour
CONF
    return $server->start;
}

my @modes = qw(local open closed);
my %servers = map { $_ => server($_, 'redis://127.0.0.1:' . $peer->port . '/0', '') } @modes;

# n requests of a client: their responses, each with its time.
sub requests {
    my ($server, $client, $n) = @_;
    my @responses;
    for (1 .. $n) {
        my $begin = time;
        push @responses, $server->get('/index.html', "X-Client: $client");
        $responses[-1]{time} = time - $begin;
    }
    return @responses;
}

sub statuses { return join ' ', map { $_->{status} } @_ }

sub admitted { return scalar grep { $_->{status} == 200 } @_ }

# Is the client counted in Redis?
sub counted {
    my ($client) = @_;
    return $redis->ask('EXISTS', "rlp:{client:$client}:site") eq '1';
}

my $clients = 0;

# The time until a limit holds exactly, for clients of their own; nothing if it never does.
sub recovered {
    my ($server) = @_;
    my $begin = time;
    my $holds = RLP::Httpd::wait_for(
        sub {
            my $client = 'after' . $clients++;
            return statuses(requests($server, $client, 1)) eq '200'
                && counted($client)
                && statuses(requests($server, $client, $limit + 1)) eq join ' ', (200) x ($limit - 1), (429) x 2;
        },
        60
    );
    return $holds ? time - $begin : undef;
}

# --- what clients see while there is no answer

my %sees = (
    local => sub {
        my ($client, @responses) = @_;
        my $n = admitted(@responses);
        is(statuses(@responses), join(' ', (200) x $n, (429) x ($asked - $n)), 'K-14 local: served, then refused');
        cmp_ok($n, '>=', 1, 'at all');
        cmp_ok($n, '<=', $share, "and no more than this host's share");
        is(scalar(grep { !defined $_->{fields}{'x-ratelimit-limit'} } @responses), 0, 'with fields');
    },
    open => sub {
        my ($client, @responses) = @_;
        is(statuses(@responses), join(' ', (200) x $asked), 'K-12 open: all pass');
        is(join(' ', grep { /ratelimit/ } map { keys %{ $_->{fields} } } @responses), '', 'without fields that tell numbers');
        is(scalar(grep { ($_->{fields}{'x-action'} // '') ne 'error' } @responses), 0, 'RATELIMIT_ACTION');
    },
    closed => sub {
        my ($client, @responses) = @_;
        is(statuses(@responses), join(' ', (503) x $asked), 'K-13 closed: 503, never 429');
        is(scalar(grep { ($_->{fields}{'retry-after'} // '') !~ /\A[1-9]\d*\z/ } @responses), 0, 'with the time of the next probe');
    },
);

# --- faults

sub restart {
    my (@options) = @_;
    $redis->kill9;
    $redis->start(@options);
    return;
}

sub hang_up { return $redis->ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes') }

# It has something to load, and takes its time.
sub restart_slowly {
    $redis->ask('EVAL', "for i = 1, 4000 do redis.call('SET', 'filler:' .. i, 'x', 'PX', 3600000) end", 0);
    $redis->ask('SAVE');
    restart('--key-load-delay', 10_000);
    return;
}

sub loaded {
    $redis->ask('CONFIG', 'SET', 'key-load-delay', 0);
    $redis->await(qr/^loading:0/m, 'INFO', 'persistence');
    unlink $redis->dir . '/dump.rdb';
    return;
}

my $pass = sub { $peer->do('pass') };

# name, begin, end; why the breaker opens, if it does; what the log has where it does not
my @faults = (
    ['K-11 the server is killed', sub { $redis->kill9 }, sub { $redis->start }, qr/closed|connect/],
    ['K-16 the server is stopped', sub { $redis->suspend }, sub { $redis->resume }, qr/timeout/],
    ['replies are late by a second', sub { $peer->do('slow 1') }, $pass, qr/timeout/],
    ['replies come a byte each 10 ms', sub { $peer->do('dribble 0.01') }, $pass, qr/timeout/],
    ['a reply is no protocol', sub { $peer->do('say !?garbage\r\n') }, $pass, qr/not understood/],
    ['a reply is HTTP', sub { $peer->do('say HTTP/1.1 400 Bad Request\r\n\r\n') }, $pass, qr/not understood/],
    ['a reply is too large', sub { $peer->do('say $2000000\r\nx2000000*\r\n') }, $pass, qr/not understood/],
    ['replies are of the wrong kind', sub { $peer->do('say :1\r\n') }, $pass],
    ['READONLY', sub { $redis->ask('REPLICAOF', '127.0.0.1', '1') }, sub { $redis->ask('REPLICAOF', 'NO', 'ONE') }, qr/READONLY/],
    ['LOADING', \&restart_slowly, \&loaded, qr/LOADING/],
    [
        'OOM, noeviction',
        sub { $redis->ask('CONFIG', 'SET', 'maxmemory', 1) },
        sub { $redis->ask('CONFIG', 'SET', 'maxmemory', 0) },
        undef, qr/OOM command not allowed/
    ],
    [
        'NOAUTH',
        sub { $redis->ask('CONFIG', 'SET', 'requirepass', 'x'); hang_up() },
        sub { $redis->ask('CONFIG', 'SET', 'requirepass', '') },
        qr/ERR Protocol error: unauthenticated|NOAUTH/
    ],
    [
        'NOPERM',
        sub { $redis->ask('ACL', 'SETUSER', 'default', '-evalsha', '-eval') },
        sub { $redis->ask('ACL', 'SETUSER', 'default', '+@all') },
        qr/NOPERM/
    ],
    [
        'NOPERM in the script',
        sub { $redis->ask('ACL', 'SETUSER', 'default', '-time') },
        sub { $redis->ask('ACL', 'SETUSER', 'default', '+@all') },
        qr/ACL failure in script|The user executing the script can't/
    ],
    [
        'too many clients',
        sub { $redis->ask('CONFIG', 'SET', 'maxclients', 1); hang_up() },
        sub { $redis->ask('CONFIG', 'SET', 'maxclients', 1000) },
        qr/max number of clients/
    ],
    ['CLUSTERDOWN', sub { $peer->do('say -CLUSTERDOWN The cluster is down\r\n') }, $pass, qr/CLUSTERDOWN/],
    ['each slot is always elsewhere', sub { $peer->do('say -MOVED 42 127.0.0.1:PORT\r\n') }, $pass],
);

for my $fault (@faults) {
    my ($name, $begin, $end, $why, $words) = @$fault;
    subtest $name => sub {
        my $client = lc $name =~ s/\W+/-/gr;
        my %logged = map { $_ => length $servers{$_}->log_text } @modes;
        my $before = admitted(requests($servers{local}, "$client-local", 2));
        $begin->();
        for my $mode (@modes) {
            my @responses = requests($servers{$mode}, "$client-$mode", $asked);
            $sees{$mode}->($client, @responses);
            is(scalar(grep { $_->{time} > 5 } @responses), 0, 'nobody waits for long');
            my $log = sub { substr $servers{$mode}->log_text, $logged{$mode} };
            # the reason of the first probe at the latest: before, children find out that their connections ended
            my $told = !$why || RLP::Httpd::wait_for(
                sub {
                    requests($servers{$mode}, "$client-$mode", 1);
                    $log->() =~ /RLP030: Redis at \S+ is not asked for now \(.*$why/;
                }
            );
            ok($told, 'K-11 the log says why it is not asked any more') or diag $log->();
            like($log->(), qr/RLP033: Redis at \S+ answered with an error: .*$words/, 'the log has the words of Redis') if $words;
            unlike($log->(), qr/RLP004|exit signal/, 'nothing else went wrong');
        }
        $end->();
        for my $mode (@modes) {
            my $time = recovered($servers{$mode});
            ok(defined $time, 'K-08 limits hold again') and note sprintf '%s: after %.1f s', $mode, $time;
        }
        # of the limit in Redis, and of the share outside of it
        my $more = admitted(requests($servers{local}, "$client-local", $limit + 2));
        cmp_ok($before + $more, '<=', $limit + $share, 'no limit was exceeded by more than the share');
    };
}

# --- what is no fault to a client

subtest 'T-28 the script is flushed' => sub {
    for my $mode (@modes) {
        my $server = server($mode, 'redis://127.0.0.1:' . $redis->port, $patient);
        my $client = "flush-$mode";
        is(statuses(requests($server, 'before', 1)), '200', "$mode: served");
        $redis->ask('SCRIPT', 'FLUSH');
        is(statuses(requests($server, $client, 2)), '200 200', "$mode: as before");
        ok(counted($client), 'and counted');
        ok($server->stop, 'it stops as ever');
    }
};

subtest 'K-18 Redis starts without data' => sub {
    my @clients = map { "restart-$_" } @modes;
    local @servers{@modes} = map { server($_, 'redis://127.0.0.1:' . $peer->port . '/0', $patient) } @modes;
    requests($servers{ $modes[$_] }, $clients[$_], $limit) for 0 .. $#modes;
    $peer->do('cut'); # or a host would tell it at once what others had before
    restart();
    is(join(' ', $redis->keys_like), '', 'it has none');
    $peer->do('pass');
    ok(defined recovered($servers{$_}), "$_: limits hold again") for @modes;
    for my $i (0 .. $#modes) {
        ok(RLP::Httpd::wait_for(sub { requests($servers{ $modes[$i] }, $clients[$i], 1); counted($clients[$i]) }), 'all begin anew');
        is(statuses(requests($servers{ $modes[$i] }, $clients[$i], 1)), '200', 'and are served');
    }
};

# What a client that had 3 requests is answered, when its key holds something else by then.
sub spoilt {
    my ($server, @command) = @_;
    my $client = 'wrong' . $clients++;
    my $key = "rlp:{client:$client}:site";
    requests($server, $client, 3);
    $redis->ask('DEL', $key);
    $redis->ask(map { $_ eq 'KEY' ? $key : $_ } @command);
    return statuses(requests($server, $client, $limit + 1)) . ' ' . ($redis->ask('PTTL', $key) > 0 ? 'TTL' : 'none');
}

subtest 'a key holds something else' => sub {
    my $new = join ' ', (200) x $limit, 429, 'TTL';
    for my $mode (@modes) {
        for my $wrong ([qw(LPUSH KEY a)], [qw(SET KEY rlp1garbage PX 3600000)], ['SET', 'KEY', '', 'PX', 3600000]) {
            my $seen;
            my $is = RLP::Httpd::wait_for(sub { $seen = spoilt($servers{$mode}, @$wrong); $seen eq $new });
            ok($is, "$mode, $wrong->[0] '" . ($wrong->[2] || '') . "': it is taken for new") or diag $seen;
        }
    }
};

# --- one reply

# On a connection that is kept, the short way knows its client, and has asked already.
subtest 'the reply to a question is lost' => sub {
    my $url = 'redis://127.0.0.1:' . $peer->port;
    my $seconds = 4;
    for my $mode (qw(open closed)) {
        my $server = RLP::Httpd->new(config => <<"CONF")->start;
RateLimitStore shared redis url=$url failure=$mode timeout=${seconds}s connect=5s failure-threshold=1000 prefix=lost-$mode:
RateLimitEngine On
RateLimitIdentity ip
RateLimitRule site rate=$limit/hour
CONF
        my $connection = $server->connection;
        my $send = sub { $connection->send("GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n") };
        my $left = sub { $_[0]->{fields}{'x-ratelimit-remaining'} };
        for (1 .. 2) {
            $send->();
            is($left->($connection->response('GET')), $limit - $_, "$mode: counted");
        }
        my $heard = $peer->do('lose }:site'); # what children ask for themselves is not
        my $begin = time;
        $send->();
        ok(RLP::Httpd::wait_for(sub { $peer->do('lose }:site') > $heard }), 'Redis has heard it');
        $peer->do('pass');
        my $lost = $connection->response('GET');
        cmp_ok(time - $begin, '<', 1.8 * $seconds, 'it is waited for once');
        is($lost->{status}, $mode eq 'open' ? 200 : 503, 'and not asked again');
        is($left->($lost), undef, 'without fields that tell numbers');
        is($left->($server->get('/index.html')), $limit - 4, 'it was charged once');
        ok($server->stop, 'it stops as ever');
    }
};

# --- for some time

subtest 'the network is cut for 5 s' => sub {
    $peer->do('cut');
    my $end = time + 5;
    my %seen = map { $_ => {} } @modes;
    my $longest = 0;
    while (time < $end) {
        for my $mode (@modes) {
            my ($response) = requests($servers{$mode}, "cut-$mode", 1);
            $seen{$mode}{ $response->{status} }++;
            $longest = $response->{time} if $response->{time} > $longest;
        }
        sleep 0.05;
    }
    like(join(' ', sort keys %{ $seen{local} }), qr/\A200(?: 429)?\z/, 'local: served, then refused');
    cmp_ok($seen{local}{200}, '<=', $share, "by this host's share");
    is(join(' ', sort keys %{ $seen{open} }), '200', 'open: served');
    is(join(' ', sort keys %{ $seen{closed} }), '503', 'closed: refused');
    cmp_ok($longest, '<', 5, 'nobody waits for long');
    $peer->do('pass');
    ok(defined recovered($servers{$_}), "$_: limits hold again") for @modes;
};

# --- from the start

subtest 'nobody listens' => sub {
    my $port = RLP::Httpd::free_port();
    for my $mode (@modes) {
        my $server = server($mode, "redis://127.0.0.1:$port/0", '');
        $sees{$mode}->('nobody', requests($server, 'nobody', $asked));
        my @opened = $server->log_text =~ /RLP030: /g;
        cmp_ok(scalar @opened, '>=', 1, 'the log tells');
        ok($server->stop, 'it stops as ever');
    }
};

subtest 'WRONGPASS' => sub {
    $redis->ask('CONFIG', 'SET', 'requirepass', 'correct-horse');
    for my $mode (@modes) {
        my $server = server($mode, 'redis://:battery-staple@127.0.0.1:' . $redis->port . '/0', $patient);
        $sees{$mode}->('wrongpass', requests($server, 'wrongpass', $asked));
        like($server->log_text, qr/RLP030: .*\(WRONGPASS/, 'the log says why');
        unlike($server->log_text, qr/battery-staple/, 'without the password');
        ok($server->stop, 'it stops as ever');
    }
    $redis->ask('CONFIG', 'SET', 'requirepass', '');
};

subtest 'each slot is always elsewhere, of a cluster' => sub {
    $peer->do('say -MOVED 42 127.0.0.1:PORT\r\n');
    my $server = server('closed', 'redis-cluster://127.0.0.1:' . $peer->port, '');
    $sees{closed}->('moved', requests($server, 'moved', $asked));
    my $before = $peer->do('say -MOVED 42 127.0.0.1:PORT\r\n');
    my $begin = time;
    $sees{closed}->('moved', requests($server, 'moved', $asked)) for 1 .. 5;
    # a request is asked about twice at most, a child asks for the slots once a second, in two places
    my $most = 2 * 5 * $asked + $server->children * 2 * (time - $begin + 1);
    my $n = $peer->do('pass') - $before;
    cmp_ok($n, '<=', $most, 'a request follows once, and slots are asked for once a second');
    unlike($server->log_text, qr/exit signal/, 'no child dies');
    ok($server->stop, 'it stops as ever');
};

subtest 'a slot is elsewhere, and elsewhere again' => sub {
    my $server = server('closed', 'redis-cluster://127.0.0.1:' . $peer->port, 'failure-threshold=1000');
    # all children have connections
    ok(RLP::Httpd::wait_for(sub { statuses(requests($server, 'here' . $clients++, 1)) eq '200' }), 'it is here') for 1 .. 20;
    my $before = $peer->do('say -MOVED 42 127.0.0.1:PORT\r\n');
    my $begin = time;
    $sees{closed}->('moved', requests($server, 'moved', $asked)) for 1 .. 5;
    my $most = 2 * 5 * $asked + $server->children * 2 * (time - $begin + 1);
    my $n = $peer->do('pass') - $before;
    cmp_ok($n, '<=', $most, 'a request follows once, and slots are asked for once a second');
    cmp_ok($n, '>', 0, 'it does');
    ok(defined recovered($server), 'limits hold again');
    unlike($server->log_text, qr/exit signal/, 'no child dies');
    ok($server->stop, 'it stops as ever');
};

# --- the end

is(join(' ', $redis->lasting), '', 'no key without a TTL');
ok($servers{$_}->stop, "$_: it stops as ever") for @modes;

done_testing;
