#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# rlpctl dump and load of Redis: every counter with the rest of its life, from one server or all masters of a Cluster
# into another; what is there stays. Needs RLPCTL in the environment, and REDIS_SERVER.

use strict;
use warnings;

use File::Basename qw(dirname);
use JSON::PP ();
use Test::More;
use Time::HiRes qw(time);

use lib dirname($0) . '/lib';
use RLP::Redis;
use RLP::RedisSet;
use RLP::Rlpctl qw($dir peer refused rlpctl scratch);

plan skip_all => 'redis-server is missing (Debian: redis-server)' if !$RLP::Redis::program;
plan skip_all => 'rlpctl was built without Redis' if (rlpctl('', qw(dump --store=redis://127.0.0.1:1/0)))[2] =~ /built without Redis/;

my $json = JSON::PP->new->canonical;

# A value of format 1 (docs/redis-format.md) with states of so many bytes.
sub value {
    my ($number, @sizes) = @_;
    return 'rlp1' . join '', map { pack('Q< V d<', $number * 256 + $_, $sizes[$_], 2**53) . pack('C*', map { ($number + $_) % 256 } 1 .. $sizes[$_]) } 0 .. $#sizes;
}

sub fill {
    my ($server, $prefix, %values) = @_;
    $server->ask('SET', "$prefix$_", $values{$_}, 'PX', 3_600_000) for keys %values;
    return;
}

# The counters of a dump: what stands under each key, and until when; whether there was more.
sub dumped {
    my ($wanted, @store) = @_;
    my ($status, $out, $err) = rlpctl('', 'dump', @store);
    is($status, 0, 'dumped') or diag $err;
    my @objects = map { $json->decode($_) } split /\n/, $out;
    my ($header, $end) = (shift @objects, pop @objects);
    is("$header->{type} $header->{version} $header->{store} $end->{type} $end->{counters}", 'dump 1 redis end ' . @objects, 'with a header and an end');
    is(@objects, $wanted, "$wanted counters");
    return ({ map { $_->{key} => pack 'H*', $_->{value} } @objects }, { map { $_->{key} => $_->{expires} } @objects }, $out, $err);
}

sub load {
    my ($dump, @more) = @_;
    my ($status, $out, $err) = rlpctl('', 'load', '--json', @more, $dump);
    return ($status, $out =~ /^\{/ ? $json->decode($out) : {}, $err);
}

my $here = RLP::Redis->alone;
my $there = RLP::Redis->alone;
my @here = '--store=redis://127.0.0.1:' . $here->port . '/0';
my @there = '--store=redis://127.0.0.1:' . $there->port . '/0';

# --- there and back

my %values = (
    (map { ("rlp:{ip:192.0.2.$_}:site" => value($_, 8, 40)) } 1 .. 1200),
    'rlp:{user:a%2520b}:api@example.org' => value(1, 16),
    'rlp:{user:%7Bx%7D}:api' => value(2, 16),
    'rlp:{apikey:0123456789abcdef0123456789abcdef}:keys' => value(3, 65_536, 65_536, 65_536),
    'rlp:{ip:198.51.100.1}:big' => value(4, 900_000),
    'rlp:{ip:198.51.100.1}:site:00000000000000ab' => 'rlc1' . "\0" x 40,
);
fill($here, '', %values);
$here->ask('SET', 'rlp:hosts', 'x' x 16, 'PX', 10_000);
$here->ask('SET', 'other:rlp:{ip:192.0.2.1}:site', value(9, 8), 'PX', 10_000);
my ($got, $until, $text, $said) = dumped(1205, @here);
is_deeply($got, \%values, 'each with its value');
is($said, '', 'nothing was left out');
my ($soonest, $latest) = (sort { $a <=> $b } values %{$until})[0, -1];
ok($soonest > (time + 3500) * 1e6 && $latest < (time + 3700) * 1e6, 'each with the end of its life');

my $dump = scratch('dump', $text);
my ($status, $sum) = load($dump, @there);
is_deeply([ $status, $sum ], [
        0, { action => 'load', counters => 1205, overrides => 0, loaded => 1205, kept => 0, over => 0, crowded => 0, evicted => 0, overrides_loaded => 0, overrides_kept => 0 }
    ], 'loaded into another server');
is($there->ask('DBSIZE'), 1205, 'and nothing else');
is(join(' ', $there->lasting), '', 'all of them end');
my ($got_there, $until_there) = dumped(1205, @there);
is_deeply($got_there, \%values, 'with the same values');
is((grep { abs($until->{$_} - $until_there->{$_}) > 20_000_000 } keys %values), 0, 'and ends');

# --- what is there already

my ($key) = 'rlp:{ip:192.0.2.7}:site';
$there->ask('SET', $key, value(77, 8), 'PX', 1_000_000);
$there->ask('DEL', 'rlp:{ip:192.0.2.8}:site');
($status, $sum) = load($dump, @there);
is("$status: $sum->{loaded} $sum->{kept}", '1: 1 1204', 'once more: what is there stays');
is($there->ask('GET', $key), value(77, 8), 'as it is');
my $own = $there->ask('PTTL', $key);
ok($own > 0 && $own <= 1_000_000, "with its own end: $own");
($status, $sum) = load($dump, @there, '--replace');
is("$status: $sum->{loaded} $sum->{kept}", '0: 1205 0', '--replace');
is($there->ask('GET', $key), $values{$key}, 'replaces');
cmp_ok($there->ask('PTTL', $key), '>', 1_000_000, 'and its end');

# --- prefixes, even with signs of patterns

for my $prefix ('p:', 'a*b[c]?-\\^:') {
    fill($here, $prefix, "rlp:{ip:192.0.2.1}:site" => value(5, 8));
    my $shown = (dumped(1, @here, "--prefix=$prefix"))[2];
    ($status) = load(scratch('prefixed', $shown), @there, '--prefix=q:');
    is($there->ask('GET', 'q:rlp:{ip:192.0.2.1}:site'), value(5, 8), "$prefix: into another prefix");
    $there->ask('DEL', 'q:rlp:{ip:192.0.2.1}:site');
}
dumped(0, @here, '--prefix=nothing:');

# --- what is none of ours is left out, and told

$here->ask('SET', 'rlp:{ip:1}:wrong', 'something', 'PX', 100_000);
$here->ask('SET', 'rlp:{ip:2}:cut', substr(value(1, 40), 0, 40), 'PX', 100_000);
$here->ask('SET', 'rlp:{ip:3}:lasting', value(1, 40));
$here->ask('LPUSH', 'rlp:{ip:4}:list', 'x');
$here->ask('SET', 'rlp:{ip:5', value(1, 40), 'PX', 100_000);
$here->ask('SET', "rlp:{ip:6}:\n", value(1, 40), 'PX', 100_000);
$here->ask('SET', 'rlp:{ip:7}:later', value(1, 40), 'PX', 9_000_000_000_000); # ends where numbers of JSON do
(undef, undef, undef, $said) = dumped(1205, @here);
is($said, "rlpctl: left out 7 keys that hold something else than counters\n", 'what is no counter');

for my $word (qw(GET PTTL)) {
    my $without = RLP::Redis->alone('--rename-command', $word, 'elsewhere');
    fill($without, '', 'rlp:{ip:192.0.2.1}:site' => value(1, 8));
    refused("a server without $word", '', [ 'dump', '--store=redis://127.0.0.1:' . $without->port ], 69, qr/^rlpctl: Redis: ERR unknown command/);
}

# --- what has ended

my $now = int(time * 1e6);
sub lines {
    my (@objects) = @_;
    return map { $json->encode($_) . "\n" } { type => 'dump', version => 1, store => 'redis', wall => $now }, @objects, { type => 'end', counters => scalar @objects, overrides => 0 };
}
sub counter {
    my (%more) = @_;
    return { type => 'counter', key => 'rlp:{ip:203.0.113.1}:site', expires => $now + 3_600_000_000, value => unpack('H*', value(1, 8)), %more };
}
$there->ask('FLUSHALL');
($status, $sum) = load(scratch('past', lines(counter(expires => $now - 1_000_000), counter(key => 'rlp:{ip:203.0.113.2}:site', expires => $now + 60_000_000))), @there);
is("$status: $sum->{loaded} $sum->{over}", '0: 1 1', 'what has ended is left out');
is(join(' ', $there->keys_like), 'rlp:{ip:203.0.113.2}:site', 'and only that');
my $rest = $there->ask('PTTL', 'rlp:{ip:203.0.113.2}:site');
ok($rest > 0 && $rest <= 60_000, "the rest goes by the clock of the dump: $rest");

# --- what is no dump: refused before anything is loaded, with the line

$there->ask('FLUSHALL');
my %member = (
    key => [ undef, 5, '', 'x', 'rlp:hosts', 'rlp:{}:site', 'rlp:{ip:1}', 'rlp:{ip:1}:', 'rlp:{ip:1}site', 'xrlp:{ip:1}:site', 'rlp:{ip:1}:a b', "rlp:{ip:1}:\n",
        'rlp:{ip:1}:{x}', 'rlp:{ip:%}:site', 'rlp:{ip:%zz}:site', 'rlp:{ip:1}:site%', 'rlp:{{ip:1}}:site', 'rlp:{ip:1}:' . 'x' x 5000, "rlp:{ip:\x{e9}}:site" ],
    expires => [ undef, -1, 'never', 1.5, 9_007_199_254_740_993 ],
    value => [ undef, '', '00', 'x', '726c7031', '726c7032' . '00' x 40, '726c6331', '726c7031' . '00' x 19, '726c7031' . 'ff' x 28, '726c7031' . '00' x 21, '00' x 1_048_577 ],
    type => [ 'override', 'dump', undef ],
    more => [1],
);
my $table = 0;
for my $name (sort keys %member) {
    for my $value (@{ $member{$name} }, 'missing') {
        my $object = counter($name => $value);
        delete $object->{$name} if ($value // '') eq 'missing';
        next if $name eq 'more' && $value eq 'missing';
        scratch('bad', lines(counter(key => 'rlp:{ip:1}:good'), $object));
        my ($bad, undef, $complaint) = load("$dir/bad", @there);
        my $shown = substr $json->allow_nonref->encode($value), 0, 60;
        ok($bad == 65 && $complaint =~ /\Arlpctl: \Q$dir\E\/bad, line 3: [ -~]+\n\z/, "$name: $shown") or diag "$bad $complaint";
        $table++;
    }
}
cmp_ok($table, '>', 40, 'a table');
is($there->ask('DBSIZE'), 0, 'nothing was loaded');
my $of_a_file = scratch('of-a-file', $json->encode({ type => 'dump', version => 1, store => 'shm', byte_order => 'little-endian', key_id => '00' x 16, wall => 1, time => 1 }) . "\n");
refused('a dump of a file', '', [ 'load', @there, $of_a_file ], 65, qr/line 1: "store": expected redis/);
refused('into a file', '', [ 'load', "--file=$dir/none", $dump ], 65, qr/line 1: "store": expected shm/);
is((rlpctl('', 'load', '--check', @there, $dump))[0], 0, '--check');
is($there->ask('DBSIZE'), 0, 'loads nothing');

# --- servers that do not want to

my $locked = RLP::Redis->alone('--requirepass', 'sesame');
my @locked = '--store=redis://127.0.0.1:' . $locked->port . '/0';
scratch('password', "sesame\n");
refused('without the password', '', [ 'dump', @locked ], 69, qr/Redis: .*NOAUTH|Authentication/);
refused('without the password', '', [ 'load', @locked, $dump ], 69, qr/NOAUTH|Authentication/);
refused('with a wrong one', '', [ 'dump', @locked, "--password=file:$dump" ], 69, qr/WRONGPASS|invalid/);
refused('a password in the URL', '', [ 'dump', '--store=redis://:sesame@127.0.0.1:1/0' ], 64, qr/expected no password in the URL/);
is((load($dump, @locked, "--password=file:$dir/password"))[0], 0, 'with the password');
$locked->kill9;
refused('nobody there', '', [ 'dump', @locked ], 69, qr/Redis: /);
refused('nobody there', '', [ 'load', @locked, $dump ], 69, qr/Redis: /);
my $small = RLP::Redis->alone('--maxmemory', '2mb', '--maxmemory-policy', 'noeviction');
($status, $sum, $said) = load($dump, '--store=redis://127.0.0.1:' . $small->port . '/0');
is($status, 69, 'one without memory');
like($said, qr/memory/, 'says so');
like($said, qr/so far; load it once more/, 'and rlpctl, that it is half of it') if $small->ask('DBSIZE') > 0;

# A peer that refuses the first of what it is to keep, and takes the rest.
my ($port, $peer) = peer(sub {
    my ($socket) = @_;
    my $kept = 0;
    while ((<$socket> // '') =~ /^[*](\d+)/) {
        my @words = map { my ($length) = <$socket> =~ /(\d+)/; read $socket, my $word, $length + 2; $word } 1 .. $1;
        print {$socket} $words[0] =~ /^TIME/ ? sprintf("*2\r\n\$10\r\n%d\r\n\$1\r\n0\r\n", $now / 1_000_000)
            : $words[0] =~ /^SET/ && !$kept++ ? "-OOM command not allowed\r\n" : "+OK\r\n";
    }
});
my @three = map { counter(key => "rlp:{ip:203.0.113.$_}:site") } 1 .. 3;
($status, $sum, $said) = load(scratch('three', lines(@three)), "--store=redis://127.0.0.1:$port/0");
is("$status: $sum->{loaded}", '69: 2', 'what is there behind one that was refused is counted');
like($said, qr/out of memory.*so far; load it once more/s, 'and told');
waitpid $peer, 0;

my $replica = RLP::Redis->alone('--replicaof', '127.0.0.1 ' . $here->port);
refused('a replica', '', [ 'load', '--store=redis://127.0.0.1:' . $replica->port . '/0', $dump ], 69, qr/replica/);

# --- a Cluster: all masters

SKIP: {
    skip 'redis-server is older than 7', 1 if $here->ask('INFO', 'server') =~ /^redis_version:[56]/m;
    my $cluster = RLP::RedisSet->cluster;
    my ($first) = $cluster->servers;
    my @cluster = '--store=redis-cluster://127.0.0.1:' . $first->port;
    ($status, $sum, $said) = load($dump, @cluster);
    is("$status $sum->{loaded}", '0 1205', 'loaded into a Cluster') or diag $said;
    my @sizes = map { $_->ask('DBSIZE') } ($cluster->servers)[0 .. 2];
    is(grep({ $_ > 100 } @sizes), 3, "on all masters: @sizes");
    my ($got_cluster, $until_cluster, $text_cluster) = dumped(1205, @cluster);
    is_deeply($got_cluster, \%values, 'a dump has all masters');
    is((grep { abs($until->{$_} - $until_cluster->{$_}) > 20_000_000 } keys %values), 0, 'and all ends');
    $there->ask('FLUSHALL');
    is((load(scratch('of-a-cluster', $text_cluster), @there))[0], 0, 'into a server alone');
    is($there->ask('DBSIZE'), 1205, 'all of it');
    is((load($dump, @cluster))[0], 1, 'what is there stays, in a Cluster, too');
}

done_testing;
