#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# rlpctl on the file of a store, whose server runs or not, and on Redis: what it says and changes is what the server counts;
# what is dumped here and loaded there goes on there.

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Copy qw(copy);
use JSON::PP qw(decode_json);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Httpd;
use RLP::Redis;
use RLP::Rlpctl qw(refused rlpctl);

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'RLPCTL names no program' if !$ENV{RLPCTL};

my $text = <<'END';
RateLimitPlan pro rate=100/week
RateLimitPlanMap apikey "txt:@DIR@/keys"
RateLimitEngine On
RateLimitRule site rate=5/week quota=50/year key=ip
RateLimitRule keys key=apikey=header:X-API-Key
RateLimitKeyLog plain
END

sub server {
    my ($store) = @_;
    my $server = RLP::Httpd->new(config => "$store\n$text");
    $server->file('keys', "key-of-zoe pro\n");
    $server->file('secret', "sixteen bytes and more\n");
    return $server->start;
}

# What the server answers to a request: its status, and what is left of the tighter limit.
sub request {
    my ($server, @headers) = @_;
    my $answer = $server->get('/index.html', @headers);
    my ($left) = ($answer->{fields}{ratelimit} // '') =~ /;r=(\d+)/;
    return join ' ', $answer->{status}, $left // '-';
}

# What rlpctl prints; it has nothing to complain of.
sub said {
    my ($input, @words) = @_;
    my ($status, $out, $err) = rlpctl($input, @words);
    is("$status $err", '0 ', "rlpctl @words[0 .. ($#words < 3 ? $#words : 3)]");
    return $out;
}

sub left {
    my (@where) = @_;
    return join ' ', map { /remaining=(\d+)/ } split /\n/, said('', 'get', @where, qw(ip:127.0.0.1 site rate=5/week quota=50/year));
}

# --- a file, of a server that runs, and one that is stopped

my $server = server('RateLimitStore x shm size=2M file=store');
my @file = '--file=' . $server->file('store');
is(request($server), '200 4', 'a request');
is(request($server, 'X-API-Key: key-of-zoe'), '200 3', 'and one with a key');
for my $state (qw(running stopped)) {
    $server->stop if $state eq 'stopped';
    is(left(@file), '3 48', "$state: get with the limits of a rule");
    my @states = split /\n/, said('', 'get', @file, '--json', 'ip:127.0.0.1');
    is(@states, 2, "$state: get without them: the counters of the identity");
    like($_, qr/\A\{"signature":"[0-9a-f]{16}","bytes":40,"expires":\d+\}\z/, "$state: as JSON") for @states;
    like(said('key-of-zoe', 'get', @file, '--secret', 'apikey', 'keys', 'rate=100/week'), qr/remaining=99\t/, "$state: of a secret");
    my ($status, undef, $err) = rlpctl('', 'get', @file, 'ip:127.0.0.2');
    is("$status $err", "1 rlpctl: nothing is counted of ip:127.0.0.2\n", "$state: of nobody");
}
{
    my @get = ($ENV{RLPCTL}, 'get', @file, qw(--secret apikey keys rate=100/week));
    open my $typing, '|-', 'sh', '-c', 'exec "$@" >/dev/null', 'sh', @get or die "sh: $!\n";
    select undef, undef, undef, 0.5; # until it waits for its secret
    is($server->try_start, '', 'who is still to type a secret keeps no server from starting');
    print {$typing} "key-of-zoe\n";
    ok(close $typing, 'and has the answer then');
}
is(left(@file), '3 48', 'all of it is there after a restart');
like(said('', 'grant', @file, '--json', qw(ip:127.0.0.1 1 site rate=5/week quota=50/year)), qr/"remaining":4,.*\n.*"remaining":49,/, 'grant beside the server');
is(request($server), '200 3', 'which it knows at once');
is(join(' ', map { request($server) } 1 .. 4), '200 2 200 1 200 0 429 0', 'used up');
my $top = decode_json(said('', 'top', @file, '--json'))->{most_refused};
is_deeply($top, [ { refused => 1, error => 0, rule => 'site', identity => 'ip:127.0.0.1' } ], 'top: who is refused, beside the server');
is(decode_json(said('', 'reset', @file, '--json', 'ip:127.0.0.1'))->{forgotten}, 2, 'reset beside the server');
is(request($server), '200 4', 'which it knows at once');
like(said('', 'ban', @file, 'ip:127.0.0.1', '1h'), qr/banned_until +2/, 'a ban beside the server');
like(request($server), qr/^429/, 'is in force');
said('', 'unban', @file, 'ip:127.0.0.1');
is(request($server), '200 3', 'until it is ended');
$server->stop;
is_deeply(decode_json(said('', 'top', @file, '--json'))->{most_refused}[0]{rule}, 'site', 'top of a server that is stopped');
said('', 'grant', @file, qw(ip:127.0.0.1 1.5 site rate=5/week quota=50/year));
is(left(@file), '4 49', 'grant of one that is stopped');
said('', 'ban', @file, 'ip:127.0.0.9', '1h');

# --- out of it and into another server's file

# The dump of a store with a key of its own.
sub strange {
    my $third = server('RateLimitStore x shm size=1M file=store');
    request($third);
    $third->stop;
    return dump_into('strange', '--file=' . $third->file('store'), '--with-key');
}

sub dump_into {
    my ($name, @words) = @_;
    my $old = umask 077;
    my ($status, $out) = rlpctl('', 'dump', @words);
    is($status, 0, "dump @words[1 .. $#words]");
    my $path = $server->file($name, $out);
    umask $old;
    return $path;
}
my $dump = dump_into('dump', @file, '--with-key');
is(decode_json(said('', 'load', '--json', '--size=4M', '--file=' . $server->file('store2'), $dump))->{loaded}, 3, 'three counters into a new file');
my $second = RLP::Httpd->new(config => "RateLimitStore x shm size=1M file=store\n$text");
$second->file('keys', "key-of-zoe pro\n");
copy($server->file('store2'), $second->file('store')) or die "$!\n";
chmod 0600, $second->file('store');
chown +(stat $server->file('store'))[4, 5], $second->file('store');
$second->start;
is(request($second), '200 3', 'another server, with another size, goes on with them');
is(request($second, 'X-API-Key: key-of-zoe'), '200 2', 'those of secrets, too');
like(said('', 'overrides', '--file=' . $second->file('store')), qr/ip:127.0.0.9/, 'and knows the ban');

# what it has used since stays; what is loaded beside it counts at once
my ($status, $out) = rlpctl('', 'load', '--json', '--file=' . $second->file('store'), $dump);
is($status, 1, 'loaded beside that server: all is there already');
is_deeply([ @{ decode_json($out) }{qw(loaded kept)} ], [ 0, 3 ], 'and stays');
is(request($second), '200 1', 'as it is');
is(decode_json(said('', 'load', '--json', '--replace', '--file=' . $second->file('store'), $dump))->{loaded}, 3, 'unless it is to be replaced');
is(request($second), '200 3', 'which the server knows at once');
$server->start;
refused('into another server that counts', '', [ 'load', '--file=' . $server->file('store'), strange() ], 65, qr/another key, and a server has this one open: stop it/);
$second->stop;
$server->stop;

# --- Redis

SKIP: {
    skip RLP::Redis::missing(), 1 if RLP::Redis::missing();
    my $redis = RLP::Redis->alone;
    my $other = RLP::Redis->alone;
    my @store = ('--store=redis://127.0.0.1:' . $redis->port . '/0', '--prefix=p:');
    my $host = server('RateLimitStore x redis url=redis://127.0.0.1:' . $redis->port . '/0 prefix=p: timeout=5s "secret=file:@DIR@/secret"');
    is(join(' ', map { request($host) } 1 .. 3), '200 4 200 3 200 2', 'requests counted in Redis');
    is(left(@store), '2 47', 'get');
    like(said('', 'grant', @store, qw(ip:127.0.0.1 1 site rate=5/week quota=50/year)), qr/remaining=3\t.*\n.*remaining=48\t/, 'grant');
    is(request($host), '200 2', 'the server knows it');
    my $there = said('', 'dump', @store);
    is((() = $there =~ /"type":"counter"/g), 1, 'dump: one key, with both limits');
    my @target = ('--store=redis://127.0.0.1:' . $other->port . '/0', '--prefix=q:');
    is(decode_json(said($there, 'load', '--json', @target))->{loaded}, 1, 'load into another server');
    is(left(@target), '2 47', 'with what is left');
    my $successor = server('RateLimitStore x redis url=redis://127.0.0.1:' . $other->port . '/0 prefix=q: timeout=5s "secret=file:@DIR@/secret"');
    is(request($successor), '200 1', 'where a host goes on');
    $successor->stop;

    like(said('', 'top', @store, '--json', qw(site rate=5/week quota=50/year)), qr/\A\{"identity":"ip:127.0.0.1","remaining":2,"quota":5,"reset":\d+\}\n\z/, 'top');
    said('', 'reset', @store, 'ip:127.0.0.1');
    is(join(' ', $redis->keys_like('*rlp:{*')), '', 'reset of all rules');
    is((rlpctl('', 'reset', @store, 'ip:127.0.0.1'))[0], 1, 'there is nothing more');
    is(request($host), '200 4', 'the server knows it');
    is(said('', 'top', @store, qw(other rate=5/week)), '', 'top of another rule');
    $host->stop;

    # many: the one with least left first
    for my $i (1 .. 130) {
        my $dumped = $there =~ s/ip:127\.0\.0\.1/ip:127.0.1.$i/r;
        said($dumped, 'load', @target) if $i <= 30;
    }
    said('', 'grant', @target, "ip:127.0.1.$_", 1, qw(site rate=5/week)) for 5 .. 8;
    my @rows = split /\n/, said('', 'top', @target, qw(site rate=5/week));
    is(@rows, 20, 'top: twenty');
    like($rows[0], qr/\Aip:127\.0\.0\.1\tremaining=1\tquota=5\treset=\d+\z/, 'the one with least left first');
    is((grep { /remaining=3/ } @rows), 0, 'those with more are not among them');
}

# --- words

for my $row (
    [ qr/expected either --file=PATH or --store=URL/, 'get', @file, '--store=redis://127.0.0.1:1', 'ip:127.0.0.1' ],
    [ qr/expected --store=URL with --password=/,      'get', @file, '--prefix=x', 'ip:127.0.0.1' ],
    [ qr/expected --file=PATH with --secret/,         'get', '--store=redis://127.0.0.1:1', '--secret', 'apikey', 'keys' ],
    [ qr/got "--color"/,                              'get', @file, '--color', 'ip:127.0.0.1' ],
    [ qr/expected IDENTITY/,                          'get', @file ],
    [ qr/expected IDENTITY/,                          'get', @file, 'amy' ],
    ( map { [ qr/expected IDENTITY/, 'get', '--store=redis://127.0.0.1:1', $_, qw(site rate=5/week) ] } '', qw(ip: :127.0.0.1 :) ),
    [ qr/expected TYPE alone/,                        'get', @file, '--secret', '' ],
    [ qr/expected RULE/,                              'get', @file, 'ip:127.0.0.1', '', 'rate=5/week' ],
    [ qr/expected RULE/,                              'reset', '--store=redis://127.0.0.1:1', 'ip:127.0.0.1', '' ],
    [ qr/got "--plan="/,                              'get', '--store=redis://127.0.0.1:1', '--plan=', qw(ip:127.0.0.1 site rate=5/week) ],
    [ qr/expected --plan=NAME of a plan/,             'get', '--store=redis://127.0.0.1:1', '--plan=a:b', qw(ip:127.0.0.1 site rate=5/week) ],
    [ qr/expected UNITS/,                             'grant', @file, 'ip:127.0.0.1' ],
    [ qr/expected UNITS/,                             'grant', @file, 'ip:127.0.0.1', 'many', 'site', 'rate=5/week' ],
    [ qr/expected UNITS/,                             'grant', @file, 'ip:127.0.0.1', '0', 'site', 'rate=5/week' ],
    [ qr/expected RULE/,                              'grant', @file, 'ip:127.0.0.1', '1' ],
    [ qr/expected neither then= nor bandwidth=/,      'get', @file, qw(ip:127.0.0.1 site quota=5/year then=pro) ],
    [ qr/expected neither then= nor bandwidth=/,      'grant', @file, qw(ip:127.0.0.1 1 site rate=5/week bandwidth=64K/s) ],
    [ qr/expected no concurrent= with --file=/,       'get', @file, qw(ip:127.0.0.1 site concurrent=4 rate=5/week) ],
    [ qr/expected no concurrent= with --file=/,       'grant', @file, qw(ip:127.0.0.1 1 site rate=5/week concurrent=4) ],
    [ qr/expected the limits/,                        'grant', @file, 'ip:127.0.0.1', '1', 'site' ],
    [ qr/expected the limits/,                        'top', '--store=redis://127.0.0.1:1', 'site' ],
    [ qr/expected the limits of the plan/,            'get', @file, '--plan=gold', 'ip:127.0.0.1' ],
    [ qr/expected the limits of the plan/,            'get', '--store=redis://127.0.0.1:1', '--plan=gold', 'ip:127.0.0.1', 'site' ],
    [ qr/expected IDENTITY and RULE, and no limits or --plan=/, 'reset', '--store=redis://127.0.0.1:1', '--plan=gold', 'ip:127.0.0.1', 'site' ],
    [ qr/expected IDENTITY and RULE, and no limits or --plan=/, 'reset', '--store=redis://127.0.0.1:1', 'ip:127.0.0.1', 'site', 'rate=5/week' ],
    [ qr/expected RULE/,                              'top', '--store=redis://127.0.0.1:1' ],
    [ qr/expected/,                                   'get', @file, 'ip:127.0.0.1', 'site', 'rate=many' ],
) {
    my ($pattern, @words) = @{$row};
    refused("rlpctl @words", '', \@words, 64, $pattern);
}
refused('a file that is not there', '', [ 'get', '--file=' . $server->file('none'), 'ip:127.0.0.1' ], 65, qr/cannot open the store file/);
refused('no store',                 '', [ 'get', "--file=$dump", 'ip:127.0.0.1' ],                    65, qr/not a store of this module|unusable/);
refused('a type and more', "key-of-zoe\n", [ 'get', @file, '--secret', 'apikey:' ], 64, qr/expected TYPE alone, such as apikey, with --secret/);
refused('no secret', '', [ 'get', @file, '--secret', 'apikey' ], 65, qr/expected a secret on standard input/);
($status, $out) = rlpctl('', 'help', 'stores');
ok($status == 0 && $out =~ /^usage: rlpctl COMMAND --file=PATH/, 'rlpctl help stores');
ok((() = $out =~ /\n/g) <= 24 && !grep({ length > 80 } split /\n/, $out), 'which fits a screen of 24 lines of 80');

done_testing;
