#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# rlpctl ban, unban, set-plan and overrides on Redis alone: what stands in the key, until when, and what becomes of what is
# no such value. Needs RLPCTL and top_srcdir in the environment, and REDIS_SERVER.

use strict;
use warnings;

use File::Basename qw(dirname);
use IO::Socket::INET;
use JSON::PP qw(decode_json);
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use lib ($ENV{top_srcdir} || dirname(dirname($0))) . '/t/lib';
use RLP::Redis;

my $rlpctl = $ENV{RLPCTL} || 'rlpctl/rlpctl';
plan skip_all => 'redis-server is missing (Debian: redis-server)' if !$RLP::Redis::program;
plan skip_all => 'rlpctl was built without Redis' if qx('$rlpctl' overrides --store=redis://127.0.0.1:1 2>&1) =~ /built without Redis/;

my $redis = RLP::Redis->alone;
my $key = 'p:rlp:orders';

# Status and what it says.
sub said {
    my ($command, @words) = @_;
    my $text = join ' ', map { my $word = $_; $word =~ s/'/'\\''/g; "'$word'" } @words;
    my $said = qx('$rlpctl' $command --store=redis://127.0.0.1:${\ $redis->port} --prefix=p: --json $text 2>&1 </dev/null);
    return ($? >> 8, $said);
}

# The answer; the test fails with what was said.
sub done {
    my (@words) = @_;
    my ($status, $said) = said(@words);
    is($status, 0, "@words") or diag($said);
    return eval { decode_json($said) } // {};
}

# IDENTITY BANNED PLAN of each, whom they hold
sub listed {
    return join ', ', sort map { "$_->{identity} " . ($_->{banned_until} ? 1 : 0) . ' ' . ($_->{set_plan} // '-') } @{ done('overrides')->{overrides} };
}

sub lines { return grep { !/^rlpo1 / } split /\n/, $redis->ask('GET', $key) }
sub version { return ($redis->ask('GET', $key) =~ /^rlpo1 (\d+)\n/)[0] }

is(listed(), '', 'nothing is there');
is($redis->ask('EXISTS', $key), 0, 'nor does a look leave anything');
my $answer = done('ban', 'ip:192.0.2.1', '2h');
is($answer->{changed} && $answer->{identity}, 'ip:192.0.2.1', 'a ban');
like($answer->{banned_until}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'until when');
is($answer->{set_plan}, undef, 'no plan');
like($redis->ask('GET', $key), qr/\Arlpo1 \d{16}\nip:192\.0\.2\.1 \d{13} 0 -\n\z/, 'as it stands there');
my ($ttl) = $redis->ask('PTTL', $key);
ok($ttl > 7_100_000 && $ttl <= 7_200_000, "the key lives as long: $ttl");
my $version = version();
is(done('set-plan', 'ip:192.0.2.1', 'gold', '5h')->{set_plan}, 'gold', 'a plan beside it');
cmp_ok(version(), '>', $version, 'has another version');
$ttl = $redis->ask('PTTL', $key);
ok($ttl > 17_900_000 && $ttl <= 18_000_000, "the key lives as long as the latest: $ttl");
done('ban', 'user:a b{c}%', '1h');
is(listed(), 'ip:192.0.2.1 1 gold, user:a b{c}% 1 -', 'all of them');
is((lines())[1] =~ s/ .*//r, 'user:a%20b%7Bc%7D%25', 'an identity stands there as in the names of keys');
$version = version();
is(done('unban', 'ip:192.0.2.9')->{changed} ? 1 : 0, 0, 'nothing to end');
is(version(), $version, 'changes nothing');
$answer = done('unban', 'ip:192.0.2.1');
is("$answer->{changed} " . ($answer->{banned_until} // '-') . " $answer->{set_plan}", '1 - gold', 'the end of a ban is not that of a plan');
is(done('set-plan', 'ip:192.0.2.1', 'none')->{set_plan}, undef, 'which ends by its own');
is(listed(), 'user:a b{c}% 1 -', 'and nothing of it is left');
$version = version();
my $year = 1901 + (gmtime)[5]; # the next, whenever that is
my $leap = $year;
$leap++ while $leap % 4 || !($leap % 100);
is(done('ban', 'user:a b{c}%', $_)->{banned_until}, $_, 'until a moment') for "$leap-02-29T23:59:59Z", "$year-12-31T00:00:00Z";
is(done('ban', 'user:a b{c}%', "$year-12-31T23:59:60Z")->{banned_until}, $year + 1 . '-01-01T00:00:00Z', 'a leap second');
$version = version();
done('unban', 'user:a b{c}%');
cmp_ok(version(), '>', $version, 'the last end is a change, too');
$ttl = $redis->ask('PTTL', $key);
ok($ttl > 0 && $ttl <= 60_000, "that is soon forgotten: $ttl");

# --- ends

done('ban', 'ip:192.0.2.1', '1s');
done('ban', 'ip:192.0.2.2', '1h');
my $end = time + 20;
sleep 0.1 while listed() ne 'ip:192.0.2.2 1 -' && time < $end;
is(listed(), 'ip:192.0.2.2 1 -', 'what has ended is gone');
done('ban', 'ip:192.0.2.3', '1h');
is(scalar(lines()), 2, 'and out of the key with the next change');
$redis->ask('DEL', $key);

# --- room

my $later = int(time * 1000) + 3_600_000;
my $full = "rlpo1 5\n" . join '', map { "user:$_ $later 0 -\n" } 1 .. 4096;
$redis->ask('SET', $key, $full, 'PX', 3_600_000);
is(scalar @{ done('overrides')->{overrides} }, 4096, 'as many as there may be');
my ($status, $said) = said('ban', 'user:more', '1h');
is($status, 65, 'one more');
like($said, qr/expected fewer than 4096 bans and plans in force/, 'is refused');
is($redis->ask('GET', $key), $full, 'and changes nothing');
done('ban', 'user:7', '2h');
done('unban', 'user:8');
done('ban', 'user:more', '1h');
is(scalar(lines()), 4096, 'what ends makes room');
$redis->ask('SET', $key, "rlpo1 5\n" . join('', map { "user:$_" . 'x' x 185 . " $later 0 -\n" } 1 .. 4400) . "ip:192.0.2.1 $later $later gold\n", 'PX', 3_600_000);
is((said('ban', 'user:more', '1h'))[0], 65, 'no room for one more where somebody else has written too many');
$answer = done('unban', 'ip:192.0.2.1');
is("$answer->{changed} " . ($answer->{banned_until} // '-') . " $answer->{set_plan}", '1 - gold', 'there, too, what there is can be ended');

# --- what somebody else has written there

for my $case (
    [ 'nothing', [ 'SET', $key, '' ], '', 0 ],
    [ 'a text', [ 'SET', $key, 'hello' ], '', 0 ],
    [ 'a list', [ 'RPUSH', $key, 'ip:192.0.2.1' ], '', 0 ],
    [ 'another format', [ 'SET', $key, "rlpo2 5\nip:192.0.2.1 $later 0 -\n" ], '', 0 ],
    [ 'no version', [ 'SET', $key, "rlpo1 x\nip:192.0.2.1 $later 0 -\n" ], '', 0 ],
    [ 'a large version', [ 'SET', $key, 'rlpo1 ' . '9' x 40 . "\nip:192.0.2.1 $later 0 -\n" ], '', 0 ],
    [ 'a million bytes', [ 'SET', $key, "rlpo1 5\n" . "ip:192.0.2.1 $later 0 -\n" x 40000 ], '', 0 ],
    [ 'lines of others', [ 'SET', $key, "rlpo1 9999999999999999\nhello\nip:192.0.2.1 $later 0 -\n$later\nip:192.0.2.2 99999999999999999 0 -\nu:\0 $later 0 -\n" ], 'ip:192.0.2.1 1 -', 4 ],
    [ 'what only looks like lines of ours', [ 'SET', $key, "rlpo1 7\nu:{1} $later 0 -\nu:% $later 0 -\nu:%2 $later 0 -\nu:%7b $later 0 -\nu:%00 $later 0 -\n" . 'u:' . 'x' x 3599 . " $later 0 -\nu:1 0 $later -gold\nu:1 $later 0 1gold\nu:1 0 $later " . 'g' x 65 . "\nu:1 $later 99999999999999 gold\nu:1 000000000000000001 $later gold\nu:{1} $later\n" ], '', 12 ],
    [ 'some of them', [ 'SET', $key, "rlpo1 7\n\nip:192.0.2.1 $later 0 -\nip:192.0.2.2 9e99 0 -\nip:%32 $later 0 -\nip:%3 $later 0 -\n" ], 'ip:192.0.2.1 1 -, ip:2 1 -', 3 ],
    )
{
    my ($name, $words, $there, $damaged) = @{$case};
    $redis->ask('DEL', $key);
    $redis->ask(@{$words});
    is(done('overrides')->{damaged}, $damaged, "$name: what is none is told");
    is(listed(), $there, "$name: nobody else is banned");
    is(done('ban', 'user:amy', '1h')->{changed} ? 1 : 0, 1, "$name: taken for none");
    like(listed(), qr/user:amy 1 -/, "$name: and overwritten");
    is(done('overrides')->{damaged}, 0, "$name: with what is none of ours");
    cmp_ok(version(), '<', 9e15, "$name: the version is one");
    cmp_ok($redis->ask('PTTL', $key), '>', 3_500_000, "$name: and it has its end");
}

# --- one identity, written in several ways

$redis->ask('SET', $key, "rlpo1 7\nip:%31 $later 0 -\nuser:a%25%62 0 $later gold\nuser:a%2562 $later 0 -\nu:1 $later 0 -\nu:1 1 0 -\n", 'PX', 3_600_000);
is(listed(), 'ip:1 1 -, u:1 1 -, user:a%62 1 -, user:a%b 0 gold', 'signs that need not be escaped, and a name twice');
for my $case ([ 'unban', 'ip:1' ], [ 'set-plan', 'user:a%b', 'none' ], [ 'unban', 'user:a%62' ], [ 'unban', 'u:1' ]) {
    is(done(@{$case})->{changed} ? 1 : 0, 1, "@{$case}: ends it all the same");
}
is(listed(), '', 'nothing is left');

# --- words

for my $case (
    [ 64, qr/expected 2 words behind ban, got 1/, 'ban', 'ip:192.0.2.1' ],
    [ 65, qr/expected a span such as/, 'ban', 'ip:192.0.2.1', 'soon' ],
    [ 65, qr/expected ten years at most/, 'ban', 'ip:192.0.2.1', '2199-01-01T00:00:00Z' ],
    [ 65, qr/expected a span such as/, 'ban', 'ip:192.0.2.1', '2001-01-01T00:00:00Z' ],
    ( map { [ 65, qr/expected a span such as/, 'ban', 'ip:192.0.2.1', $_ ] }
            map { "$year-$_" } qw(02-30T00:00:00Z 04-31T00:00:00Z 01-00T00:00:00Z 01-32T00:00:00Z 00-01T00:00:00Z 13-01T00:00:00Z),
        qw(01-01T24:00:00Z 01-01T00:60:00Z 01-01T00:00:61Z +1-01T00:00:00Z 01-01t00:00:00z 01-01T00:00:00),
        qw(01-01T00:00:00Z0 1-001T00:00:00Z), ' 1-01T00:00:00Z' ),
    ( map { [ 65, qr/expected TYPE:VALUE/, 'unban', $_ ] } qw(amy ip: :amy), '' ),
    [ 65, qr/expected an identity of 1200 bytes at most/, 'ban', 'user:' . 'x' x 1196, '1h' ],
    [ 65, qr/expected a name of/, 'set-plan', 'ip:192.0.2.1', '1gold', '1h' ],
    [ 64, qr/only a server knows what Redis counts it by/, 'ban', '--secret', 'apikey', '1h' ],
    [ 64, qr/expected either --file=PATH or --store=URL/, 'ban', '--file=there', 'ip:192.0.2.1', '1h' ],
    [ 64, qr/expected a --prefix= without braces/, 'ban', '--prefix={}', 'ip:192.0.2.1', '1h' ],
    ( map { [ 64, qr/expected no --\w+= with --store=URL, but with a server alone/, 'ban', "--$_", 'ip:192.0.2.1', '1h' ] }
            qw(url=http://h/x socket=/s host=h login=ann rule=api plan=gold method=GET ip=192.0.2.1 user=amy header=A:b env=A=b) ),
    [ 64, qr/expected --url with plans: a Redis knows no plans/, 'plans' ],
    )
{
    my ($wanted, $text, @words) = @{$case};
    my ($got, $complaint) = said(@words);
    is($got, $wanted, "refused: @words");
    like($complaint, $text, 'which is said');
}
is(qx('$rlpctl' ban --prefix=p: ip:192.0.2.1 1h 2>&1), "rlpctl: expected --store=URL with --prefix= or --tls-...=\n", 'a prefix of no Redis');
is($? >> 8, 64, 'is refused');
qx('$rlpctl' overrides --store=nowhere://127.0.0.1 2>&1);
is($? >> 8, 64, 'no URL');

# who answers, but not as Redis would
my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "no port: $!\n";
my $strange = fork // die "fork: $!\n";
if ($strange == 0) {
    alarm 300; # nor does it outlive who is gone
    while (my $client = $listener->accept) {
        print {$client} "+OK\r\n" while sysread $client, my $buffer, 65_536;
    }
    POSIX::_exit(0);
}
for my $words ('overrides', 'ban ip:192.0.2.1 1h', 'unban ip:192.0.2.1') {
    $said = qx('$rlpctl' $words --store=redis://127.0.0.1:${\ $listener->sockport} 2>&1);
    is($? >> 8, 69, "$words: an answer of somebody else");
    is($said, "rlpctl: expected an answer of Redis about bans and plans\n", 'which is said');
}
kill 'KILL', $strange;
waitpid $strange, 0;

$redis->kill9;
($status, $said) = said('ban', 'ip:192.0.2.1', '1h');
is($status, 69, 'nobody there');

done_testing;
