#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The users of docs/operations.md: what it lets them do suffices, in Redis' own words, and is no more than is needed.
# Needs RLPCTL and RLP_TOP in the environment.

use strict;
use warnings;

use Test::More;

use RLP::Httpd;
use RLP::Redis;

plan skip_all => RLP::Redis::missing() if RLP::Redis::missing();

my $rlpctl = $ENV{RLPCTL} || 'rlpctl/rlpctl';
my $text = RLP::Httpd::slurp(($ENV{RLP_TOP} || $ENV{top_srcdir} || '.') . '/docs/operations.md');
my ($httpd) = $text =~ /^    user (httpd on .+)$/m;
my ($maps) = $text =~ /^    (%R~.+)$/m;
my ($admin) = $text =~ /^    user (admin on .+)$/m;
ok($httpd && $maps && $admin, 'the lines are there') or BAIL_OUT('docs/operations.md has no ACL');

my $redis = RLP::Redis->alone;
my ($major) = $redis->ask('INFO', 'server') =~ /^redis_version:(\d+)/m;
plan skip_all => 'Redis before 6 has no ACL' if $major < 6;
$maps =~ s/%R~/~/g if $major < 7;

sub user {
    my (@words) = map { split / / } @_;
    is($redis->ask('ACL', 'SETUSER', shift @words, 'reset', @words), 'OK', 'Redis takes the user') or BAIL_OUT("ACL SETUSER @words");
    $redis->ask('ACL', 'LOG', 'RESET');
    $redis->ask('FLUSHALL');
    $redis->ask('SCRIPT', 'FLUSH');
    return;
}

# What Redis has refused to whom, but what is expected.
sub refused {
    return join ', ', sort map { my %entry = @{$_}; "$entry{reason} $entry{object} by $entry{username}" } @{ $redis->ask('ACL', 'LOG') };
}

my $url = 'redis://httpd:PASSWORD@127.0.0.1:' . $redis->port . '/0';
my $patient = 'timeout=5s connect=5s recovery=200ms secret=env:PATH';

# Rules that use all that the module asks of Redis.
sub server {
    my ($options, $config) = @_;
    return RLP::Httpd->new(config => <<"CONF")->start;
RateLimitStore far redis url=$url $patient $options
RateLimitEngine On
RateLimitIdentity key=header:X-Key ip
RateLimitPlan gold rate=9/hour
$config
CONF
}

sub told {
    my ($server, @fields) = @_;
    my $response = $server->get('/index.html', @fields);
    return "$response->{status} " . ($response->{fields}{ratelimit} // '-') =~ s/;t=\d+//gr;
}

my $rules = "RateLimitRefund \"expr=%{REQUEST_STATUS} == 404\"\nRateLimitRule a rate=3/hour concurrent=9\nRateLimitRule b quota=99/day plan=none key=ip\n"
    . 'RateLimitRule c rate=99/hour algorithm=sliding-log plan=none';

for my $case (['', ''], ['sync=lease', ''], ['failure=local hosts=2', ''], ['failure=closed', 'p:']) {
    my ($options, $prefix) = @$case;
    user($httpd =~ s/~rlp:/~${prefix}rlp:/r);
    my $server = server($options . ($prefix ? " prefix=$prefix" : ''), $rules);
    ok(RLP::Httpd::wait_for(sub { $server->get('/nowhere')->{status} == 404 }), "\"$options\": what is given back") for 1 .. 4;
    $redis->ask('SCRIPT', 'FLUSH');
    for my $status (200, 429) {
        ok(RLP::Httpd::wait_for(sub { $server->get('/index.html')->{status} == $status }), "\"$options\": comes to answer $status");
    }
    isnt(scalar(my @keys = $redis->keys_like("${prefix}rlp:*")), 0, 'in Redis');
    is(refused(), '', 'and Redis refuses nothing');
    ok($server->stop, 'it stops as ever');
    is(refused(), '', 'nor at the end');
}

{
    user($httpd);
    my $server = server('', "RateLimitPlanMap key redis:plan:%s\nRateLimitRule r rate=5/hour");
    is(told($server, 'X-Key: alice'), '200 "r";r=4', 'without the words for maps');
    is(refused(), 'key plan:alice by httpd', 'Redis refuses the key');
}

for my $map ('redis:plan:%s', '"redis:plans %s"') {
    user($httpd, $maps);
    $redis->ask('SET', 'plan:alice', 'gold');
    $redis->ask('HSET', 'plans', 'alice', 'gold');
    my $server = server('', "RateLimitPlanMap key $map\nRateLimitRule r rate=5/hour");
    is(told($server, 'X-Key: alice'), '200 "gold";r=8', "$map: a plan");
    is(told($server, 'X-Key: bob'), '200 "r";r=4', "$map: none");
    is(refused(), '', 'Redis refuses nothing');
    unlike($server->log_text, qr/RLP017|NOPERM/, 'and the log has no word of it');
}

SKIP: {
    skip 'keys to read alone are of Redis 7', 2 if $major < 7;
    user($httpd, $maps);
    for my $key ('plan:alice', 'plans') {
        like($redis->ask('ACL', 'DRYRUN', 'httpd', 'SET', $key, 'gold'), qr/no permissions|has no/i, "httpd may not write $key");
    }
}

# --- rlpctl

sub rlpctl {
    my ($user, $command, @words) = @_;
    local $ENV{RLP_TEST_PASSWORD} = 'PASSWORD';
    local $ENV{RLP_TEST_DUMP} = $redis->dir . '/dump';
    local $ENV{LC_ALL} = 'C';
    my $store = '--store=redis://' . ($user ? "$user\@" : '') . '127.0.0.1:' . $redis->port . '/0';
    my $said = qx('$rlpctl' $command '$store' --password=env:RLP_TEST_PASSWORD @words 2>&1 </dev/null);
    return ($? >> 8) . " $said";
}

SKIP: {
    skip 'rlpctl is not built', 1 if !-x $rlpctl;
    user($httpd);
    user($admin);
    my $server = server('', 'RateLimitRule site rate=5/hour key=ip');
    is(told($server), '200 "site";r=4', 'a request');
    like(rlpctl('httpd', 'get', 'ip:127.0.0.1', 'site'), qr/\A0 [0-9a-f]{16}\t/, 'rlpctl get as httpd');
    is(refused(), '', 'Redis refuses nothing');
    like(rlpctl('httpd', 'reset', 'ip:127.0.0.1', 'site'), qr/\A[^0].*NOPERM/s, 'rlpctl reset as httpd');
    is(refused(), 'command del by httpd', 'is refused by Redis');
    $redis->ask('ACL', 'LOG', 'RESET');
    like(rlpctl('httpd', 'grant', 'ip:127.0.0.1', 0.5, 'site', 'rate=5/hour'), qr/\A0 .*remaining=4/, 'rlpctl grant as httpd');
    is(refused(), '', 'Redis refuses nothing');
    like(rlpctl('httpd', @{$_}), qr/\A0 action +$_->[0]$/m, "rlpctl $_->[0] as httpd")
        for [ 'ban', 'ip:192.0.2.1', '1h' ], [ 'set-plan', 'ip:192.0.2.1', 'gold', '1h' ], ['overrides'], [ 'unban', 'ip:192.0.2.1' ];
    is(refused(), '', 'Redis refuses nothing');
    like(rlpctl('admin', 'top', 'site', 'rate=5/hour'), qr/\A0 ip:127/, 'rlpctl top as admin');
    like(rlpctl('admin', 'dump', '>"$RLP_TEST_DUMP"'), qr/\A0 /, 'rlpctl dump as admin');
    like(rlpctl('admin', 'load', '--replace', '"$RLP_TEST_DUMP"'), qr/\A0 .*^loaded +1$/ms, 'rlpctl load as admin');
    is(refused(), '', 'Redis refuses nothing');
    like(rlpctl('admin', $_, 'ip:127.0.0.1', 'site'), qr/\A0 /, "rlpctl $_ as admin") for 'get', 'reset';
    is(join(' ', $redis->keys_like('*{ip*')), '', 'takes the key away');
    is(rlpctl('admin', 'try', 'rate=5/s'), '0 ', 'rlpctl try as admin');
    is(refused(), '', 'Redis refuses nothing');
}

# --- no word too many

{
    my @words = grep { /^\+/ } split / /, "$httpd $maps $admin";
    my %known = map { $_ => 1 } qw(+evalsha +eval +script|load +select +role +time +get +set +asking +cluster|slots +hget +del +scan +pttl);
    is(join(' ', grep { !$known{$_} } @words), '', 'no other command is allowed');
    unlike("$httpd $maps $admin", qr/allkeys|~\*|allcommands|\@all/, 'nor all keys');
}

done_testing;
