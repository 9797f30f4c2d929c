#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# rlpctl on Redis: try answers there as in memory and leaves nothing behind; get and reset of what servers count.
# Needs RLPCTL and top_srcdir in the environment, and REDIS_SERVER.

use strict;
use warnings;

use File::Basename qw(dirname);
use JSON::PP qw(decode_json);
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

use lib dirname($0) . '/lib';
use RLP::Redis;
use RLP::Rlpctl qw($dir peer rlpctl scratch);

my $top = $ENV{top_srcdir} || dirname(dirname($0));
plan skip_all => 'redis-server is missing (Debian: redis-server)' if !$RLP::Redis::program;
my (undef, undef, $built) = rlpctl('', qw(try --store=redis://127.0.0.1:1/0 rate=1/s));
plan skip_all => 'rlpctl was built without Redis' if $built =~ /built without Redis/;

my $redis = RLP::Redis->alone('--unixsocket', "$dir/socket", '--requirepass', 'sesame');
is($redis->ask('AUTH', 'sesame'), 'OK', 'a server of the test\'s own');

my $url = "unix://$dir/socket";
my @there = ("--store=$url", '--password=file:' . scratch('password', "sesame\n"));

# --- try

# The requests of a case in t/unit/cases.txt.
sub lines {
    my ($answers) = @_;
    my $lines = '';
    for my $answer (split ' ', $answers) {
        my ($at, $cost, $times) = $answer =~ m{^([\d.]+)(?:\*(-?[\d.]+))?(?:x(\d+))?:} or die "not an answer: $answer\n";
        $lines .= (defined $cost ? "$at $cost\n" : "$at\n") x ($times || 1);
    }
    return $lines;
}

my ($same, $tried) = (0, 0);
open my $in, '<', "$top/t/unit/cases.txt" or die "cases.txt: $!\n";
while (<$in>) {
    chomp;
    my ($name, $limits, $answers) = split / [|] /;
    # a place is a lease there, which ends
    next if /^#/ || !defined $answers || $limits =~ /concurrent=/;
    my @words = split ' ', $limits;
    my (undef, $expected) = rlpctl(lines($answers), 'try', @words);
    my ($status, $got, $complaint) = rlpctl(lines($answers), 'try', @there, @words);
    next if $complaint =~ /in Redis/;
    $tried++;
    $same += $status == 0 && $got eq $expected;
    is($got, $expected, "$name: as in memory") || diag $complaint;
}
close $in;
cmp_ok($tried, '>', 20, 'many cases were tried');
is($redis->ask('DBSIZE'), 0, 'and nothing is left behind');

my ($status, $out, $said) = rlpctl("0 5\n0\n", 'try', '--json', @there, 'rate=5/s');
is_deeply([map { decode_json($_)->{verdict} } split /\n/, $out], ['allow', 'deny'], 'in JSON');
($status, undef, $said) = rlpctl("0\n", 'try', "--store=$url", 'rate=5/s');
is($status, 70, 'without the password');
like($said, qr/NOAUTH|Authentication/, 'the server says why');
($status, undef, $said) = rlpctl("0\n", 'try', '--store=redis://127.0.0.1:1/0', 'rate=5/s');
is($status, 70, 'nobody there');
($status, undef, $said) = rlpctl("0\n", 'try', '--store=redis://:topsecret@127.0.0.1:1/0', 'rate=5/s');
is($status, 70, 'a password as an argument');
like($said, qr/expected no password in the URL/, 'is refused');
unlike($said, qr/topsecret/, 'and not repeated');
$redis->ask(qw(CONFIG SET maxmemory 1));
($status, undef, $said) = rlpctl("0\n", 'try', @there, 'rate=5/s');
is($status, 69, 'a server that cannot count any more');
like($said, qr/^rlpctl: line 1: the store failed: Redis: .*OOM command not allowed/, 'is told from a line that is not understood, and says why');
$redis->ask(qw(CONFIG SET maxmemory 0));
($status, undef, $said) = rlpctl("0\n", 'try', @there, 'rate=2000000000000/s');
like($said, qr/expected a count and a burst of at most 1000000000000 in Redis/, 'what cannot be counted there is refused');

# --- get and reset

# What a server would have there: three of five used, by the script, under the key of a rule.
$ENV{RLP_TEST_PASSWORD} = 'sesame';
@there = ("--store=$url", '--password=env:RLP_TEST_PASSWORD', '--prefix=p:');
($status, $out, $said) = rlpctl('', 'get', @there, 'ip:192.0.2.1', 'site');
is("$status $out", '1 ', 'nothing is counted');
like($said, qr/nothing is counted under p:rlp:\{ip:192\.0\.2\.1\}:site/, 'and the key is named');
($status, $out) = rlpctl('', 'get', @there, 'ip:192.0.2.1', 'site', 'rate=5/hour');
is("$status $out", "0 allow\tremaining=5\tretry=0\treset=0\n", 'all is left');

# format 1 (docs/redis-format.md): one limit, whose state expires in an hour
my $value = 'rlp1' . pack('a8 V d<', "\x01\x02\x03\x04\x05\x06\x07\x08", 8, (time + 3600) * 1e6) . pack 'd<', 1;
$redis->ask('SET', 'p:rlp:{ip:192.0.2.1}:site', $value, 'PX', 3600_000);
($status, $out) = rlpctl('', 'get', @there, 'ip:192.0.2.1', 'site');
like("$status $out", qr/\A0 0807060504030201\tbytes=8\texpires=(?:3600|359\d)\n\z/, 'what stands there');
($status, $out) = rlpctl('', 'get', '--json', @there, 'ip:192.0.2.1', 'site');
is(decode_json($out)->{signature}, '0807060504030201', 'in JSON');
$redis->ask('SET', 'p:rlp:{ip:192.0.2.1}:other', 'something', 'PX', 3600_000);
($status, undef, $said) = rlpctl('', 'get', @there, 'ip:192.0.2.1', 'other');
is($status, 69, 'a value of another kind');
like($said, qr/expected a value of format 1/, 'is told');

($status, $out, $said) = rlpctl('', 'reset', @there, 'ip:192.0.2.1', 'site');
is("$status $out$said", '0 ', 'reset');
is(join(' ', $redis->keys_like), 'p:rlp:{ip:192.0.2.1}:other', 'takes that key away, and no other');
($status) = rlpctl('', 'reset', @there, 'ip:192.0.2.1', 'site');
is($status, 1, 'there is nothing more to reset');

for my $case (
    [['get', '--store=redis://127.0.0.1'], qr/expected IDENTITY/],
    [['get', '--store=redis://127.0.0.1', 'ip:192.0.2.1'], qr/expected RULE/],
    [['get', '--store=redis://127.0.0.1', 'nobody', 'site'], qr/expected IDENTITY/],
    [['reset', '--store=redis://127.0.0.1', 'ip:192.0.2.1', 'site', 'rate=1/s'], qr/expected IDENTITY/],
    [['get', '--store=redis://127.0.0.1', '--what', 'ip:192.0.2.1', 'site'], qr/expected --file=, --store=, .*got "--what"/],
    [['get', '--store=nowhere://127.0.0.1', 'ip:192.0.2.1', 'site'], qr/expected /],
    [['get', '--store=redis://127.0.0.1', '--password=sesame', 'ip:192.0.2.1', 'site'], qr/expected file:PATH or env:NAME/],
) {
    my ($words, $expected) = @$case;
    ($status, undef, $said) = rlpctl('', @$words);
    is($status, 64, "refused: @$words");
    like($said, $expected, 'and says why');
    unlike($said, qr/sesame/, 'without what may be a secret');
}

my $mute = RLP::Redis->alone('--rename-command', 'EVALSHA', 'elsewhere');
for my $words ([qw(get ip:192.0.2.1 site rate=5/s)], [qw(grant ip:192.0.2.1 1 site rate=5/s)]) {
    ($status, undef, $said) = rlpctl('', @$words, '--store=redis://127.0.0.1:' . $mute->port);
    is($status, 69, "$words->[0]: a server that runs no script");
    like($said, qr/^rlpctl: Redis: ERR unknown command/, 'says why');
}

# --- a cluster whose slots move while it is looked through

# The words of a command; none at the end.
sub words {
    my ($socket) = @_;
    my ($n) = (<$socket> // '') =~ /^\*(\d+)/ or return;
    my @words;
    for (1 .. $n) {
        my ($length) = (<$socket> // '') =~ /^\$(\d+)/ or return;
        read $socket, my $word, $length + 2;
        push @words, substr $word, 0, $length;
    }
    return @words;
}

# CLUSTER SLOTS: so many ranges of one server.
sub slots {
    my ($socket, $n) = @_;
    my $width = 16_384 / $n;
    my $owner = "*2\r\n\$9\r\n127.0.0.1\r\n:" . $socket->sockport . "\r\n";
    return "*$n\r\n" . join '', map { "*3\r\n:" . $_ * $width . "\r\n:" . (($_ + 1) * $width - 1) . "\r\n$owner" } 0 .. $n - 1;
}

# Its table has more ranges as soon as somebody has looked through it, or never.
sub cluster {
    my ($moves) = @_;
    return sub {
        my ($socket) = @_;
        my $ranges = 1;
        return if fork;
        while (my ($word) = words($socket)) {
            print {$socket} $word eq 'CLUSTER' ? slots($socket, $ranges) : $word eq 'SCAN' ? "*2\r\n\$1\r\n0\r\n*0\r\n" : "+OK\r\n";
            $ranges = 2 if $word eq 'SCAN' && $moves;
        }
        POSIX::_exit(0);
    };
}

# What a server says is not for the terminal to obey.
for my $error ('NOAUTH', 'ERR') {
    my $answer = sub {
        my ($socket) = @_;
        return if fork;
        print {$socket} "-$error \e]0;x\a\xff\r\n" while words($socket);
        POSIX::_exit(0);
    };
    my ($port, $pid) = peer(($answer) x 50);
    ($status, $out, $said) = rlpctl('', 'dump', "--store=redis://127.0.0.1:$port");
    is($status, 69, "$error with signs of a terminal");
    like($said, qr/^rlpctl: Redis: $error \?\]0;x\?\?$/, "$error: which have no effect");
    kill 'KILL', $pid;
    waitpid $pid, 0;
}

for my $case (
    [ 0, 'stay', 0, qr/^\z/ ],
    [ 1, 'move', 69, qr/^rlpctl: Redis: slots have moved meanwhile: try again$/ ],
) {
    my ($moves, $name, $wanted, $complaint) = @{$case};
    my ($port, $pid) = peer((cluster($moves)) x 50);
    ($status, $out, $said) = rlpctl('', 'dump', "--store=redis-cluster://127.0.0.1:$port");
    is($status, $wanted, "slots that $name: $wanted");
    like($said, $complaint, "slots that $name: what is said");
    is(scalar($out =~ /"type":"end"/), $moves ? '' : 1, "slots that $name: a dump is whole, or has no end");
    kill 'KILL', $pid;
    waitpid $pid, 0;
}

done_testing;
