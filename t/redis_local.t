#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What hosts know by themselves: refusals that Redis need not repeat, and how they count while it is away.

use strict;
use warnings;

use File::Temp ();
use IO::Socket::INET;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'the module was built without Redis' if !RLP::Httpd::has_redis();

my ($program) = grep { -x } map { "$_/redis-server" } split(/:/, $ENV{PATH}), '/usr/bin', '/usr/local/bin';
plan skip_all => 'redis-server is missing (Debian: redis-server)' if !$program;

my $dir = File::Temp->newdir('rlp-redis-XXXXXX', TMPDIR => 1);
my $port = RLP::Httpd::free_port();
my $owner = $$;
my $redis; # its process

END {
    my $status = $?;
    if ($redis && $$ == $owner) {
        kill 'KILL', $redis;
        waitpid $redis, 0;
    }
    $? = $status;
}

# --- Redis

# What it answers to a command of these words: one line, or the bulk behind it; nothing if it is not there.
sub ask {
    my (@words) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5) or return;
    print {$socket} '*' . @words . "\r\n", map { '$' . length($_) . "\r\n$_\r\n" } @words;
    my $line = <$socket> // return;
    $line =~ s/\r\n\z//;
    my ($type, $rest) = $line =~ /\A(.)(.*)\z/s;
    return $rest if $type ne '$';
    return if $rest < 0;
    read $socket, my $bulk, $rest + 2;
    return substr $bulk, 0, $rest;
}

sub redis_start {
    $redis = fork // die "fork: $!\n";
    if ($redis == 0) {
        open STDOUT, '>', "$dir/log" or POSIX::_exit(126);
        exec {$program} $program, '--port', $port, '--bind', '127.0.0.1', '--save', '', '--dir', "$dir"
            or POSIX::_exit(127);
    }
    RLP::Httpd::wait_for(sub { (ask('PING') // '') eq 'PONG' }) or die "redis-server did not start\n";
    return;
}

sub redis_kill {
    kill 'KILL', $redis;
    waitpid $redis, 0;
    undef $redis;
    return;
}

# How often it was asked to decide, since the statistics were reset.
sub decided {
    my ($calls) = ask('INFO', 'commandstats') =~ /^cmdstat_evalsha:calls=(\d+)/m;
    return $calls // 0;
}

# What is used of a client's only limit, a quota (docs/redis-format.md).
sub used {
    my ($key) = @_;
    my $value = ask('GET', $key) // return 0;
    return unpack('d<', substr $value, 32, 8) / 1000;
}

# The hosts that live, each with the millisecond of its end.
sub hosts {
    my ($prefix) = @_;
    my $value = ask('GET', "${prefix}rlp:hosts") // '';
    return map { unpack 'd<', substr $value, 16 * $_ + 8, 8 } 0 .. length($value) / 16 - 1;
}

# --- httpd

my $patient = 'timeout=5s connect=5s recovery=200ms';

sub server {
    my ($options, $rules) = @_;
    return RLP::Httpd->new(config => "RateLimitStore shared redis url=redis://127.0.0.1:$port/0 $options\n"
            . "RateLimitEngine On\nRateLimitIdentity ip\n$rules\n")->start;
}

sub field {
    my ($response, $name) = @_;
    return $response->{fields}{$name} // '-';
}

redis_start();

# --- refusals

subtest 'a client that is refused costs no round trips' => sub {
    my $server = server("$patient prefix=r:", 'RateLimitRule site rate=10/hour');
    ask('CONFIG', 'RESETSTAT');
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
    # one question a second shows whether it is still so; 20 a second or more are refused
    cmp_ok(decided() - 10, '<=', int(time - $begin), 'and Redis is asked once a second');
    ok($server->stop, 'it stops as ever');
};

subtest 'what is changed in Redis is seen soon' => sub {
    my $server = server("$patient prefix=g:", 'RateLimitRule site quota=2/year');
    is($server->statuses(4, '/index.html'), '200 200 429 429', 'used up');
    is(ask('DEL', 'g:rlp:{ip:127.0.0.1}:site'), 1, 'somebody forgets it');
    ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == 200 }), 'and it is there again');
    is($server->statuses(2, '/index.html'), '200 429', 'and no more than that');
};

# --- away

subtest 'K-14 hosts= says the share, which begins with what is left' => sub {
    my $server = server("$patient prefix=h: hosts=2", 'RateLimitRule site quota=10/year');
    my $key = 'h:rlp:{ip:127.0.0.1}:site';
    is($server->statuses(4, '/index.html'), '200 200 200 200', 'four of ten');
    is(used($key), 4, 'counted in Redis');
    redis_kill();
    my $response = $server->get('/index.html');
    is($response->{status}, 200, 'it is away');
    is(field($response, 'x-ratelimit-remaining'), 2, 'and of the six that are left this host has three');
    is($server->statuses(4, '/index.html'), '200 200 429 429', 'and no more');
    redis_start();
    ok(RLP::Httpd::wait_for(sub { used($key) == 3 }, 60), 'when it is back, though it has lost all, it is told of the three');
    is($server->statuses(8, '/index.html'), join(' ', (200) x 7, 429), 'so that seven of ten are left');
    is(used($key), 10, 'and told once');
    unlike($server->log_text, qr/RLP004|AH00052|exit signal/, 'nothing else went wrong');
};

subtest 'K-14 the hosts that live are counted' => sub {
    my @servers = map { server("$patient prefix=n:", 'RateLimitRule site quota=10/year') } 1 .. 2;
    my $key = 'n:rlp:{ip:127.0.0.1}:site';
    ok(RLP::Httpd::wait_for(sub { hosts('n:') == 2 }), 'both tell that they live');
    my ($from) = ask('PTTL', 'n:rlp:hosts');
    cmp_ok($from, '>', 0, 'under a key with a TTL');
    my @first = hosts('n:');
    # who has told again since has heard of the other
    ok(RLP::Httpd::wait_for(sub { 2 == grep { my $ends = $_; !grep { $_ == $ends } @first } hosts('n:') }), 'and again');
    ok(RLP::Httpd::wait_for(sub { my ($calls) = ask('INFO', 'commandstats') =~ /^cmdstat_eval:calls=(\d+)/m; $calls > 0 }), 'by a script of its own');
    redis_kill();
    is($_->statuses(7, '/index.html'), '200 200 200 200 200 429 429', 'each admits a half') for @servers;
    redis_start();
    ok(RLP::Httpd::wait_for(sub { used($key) == 10 }, 60), 'and together they tell Redis of all');
    ok(RLP::Httpd::wait_for(sub { $servers[0]->get('/index.html')->{status} == 429 }), 'which refuses');
    ok($_->graceful, 'a graceful restart') for @servers;
    ok(RLP::Httpd::wait_for(sub { hosts('n:') == 2 }), 'makes no new hosts');
    ok($servers[0]->stop, 'one stops');
    ok(RLP::Httpd::wait_for(sub { hosts('n:') == 1 }, 60), 'and is soon forgotten');
};

subtest 'other modes tell no lives' => sub {
    my $server = server("$patient prefix=o: failure=open", 'RateLimitRule site rate=10/hour');
    is($server->get('/index.html')->{status}, 200, 'it counts');
    is(scalar hosts('o:'), 0, 'and is no host');
};

done_testing;
