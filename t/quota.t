#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# ratelimit-quota tells callers their own limits as requests would meet them, is never charged, and changes nothing.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use RLP::Test;
use Test::More;

sub quota {
    my ($path, %field) = @_;
    my $response = get('/quota' . (defined $path ? "?path=$path" : ''), %field);
    is($response->status, 200, 'quota of ' . ($path // 'nothing said')) or diag($response->body);
    is($response->header('Cache-Control'), 'no-store', 'nobody keeps it');
    is($response->header('Content-Type'), 'application/json', 'JSON');
    is(join(' ', $response->names('ratelimit')), '', 'no field of a charge');
    return decode_json($response->body);
}

# RULE/PLAN:REMAINING of each limit
sub told {
    return join ' ', map { "$_->{rule}/$_->{limit}:$_->{remaining}" } @{ $_[0]{limits} };
}

begin;
my $quota = quota('/c/one');
is_deeply(
    $quota,
    {   path => '/c/one', exempt => JSON::PP::false, banned => undef, identity => 'ip:127.0.0.1',
        limits => [ { rule => 'all', plan => 'default', limit => 'all', quota => 100, window => 60, used => 0, remaining => 100, reset => 0 },
            { rule => 'one', plan => 'default', limit => 'one', quota => 5, window => 60, used => 0, remaining => 5, reset => 0 } ]
    },
    'all of it, before any request'
);
is(answers(2, '/c/one'), 'A4 A3', 'two requests');
is_deeply((quota('/c/one'))->{limits}[1],
    { rule => 'one', plan => 'default', limit => 'one', quota => 5, window => 60, used => 2, remaining => 3, reset => 24 }, 'what is left, and when it is full');
quota('/c/one') for 1 .. 10;
is(answers(1, '/c/one'), 'A2', 'asking is never charged');
is(told(quota(undef)), 'all/all:97', 'without a path: /');
is(told(quota('/c/other')), 'all/all:97', 'other rules elsewhere');
is(told(quota('/c/glob/a%2Fb')), 'all/all:97 globbed/globbed:7', 'paths are those of requests');
is(told(quota('/x/../c//one')), 'all/all:97 one/one:2', 'normalised');
is(told(quota('/c/early')), 'all/all:97 early/early:3', 'rules before authentication are told');
is(told(quota('/c/private', Authorization => 'Basic YTpi')), 'all/all:97', 'nobody is authenticated for it: it cannot try passwords');
is(told(quota('/c/dry')), 'all/all:97', 'what refuses nobody is not told');
is(told(quota('/c/off')), '', 'nothing where the engine is off');
is(quota('/c/exempt')->{exempt}, JSON::PP::true, 'who is exempt is told so');
is(told(quota('/c/keys')), 'all/all:97', 'a key that was not sent has no limits');
is(told(quota('/c/keys', 'X-API-Key' => 'guessed')), 'all/all:97', 'nor has an unknown one');
is(told(quota('/c/keys', 'X-API-Key' => 'a-key')), 'all/all:97 keys/keyplan:9', 'a known one has its plan');
unlike(get('/quota?path=/c/keys', 'X-API-Key' => 'a-key')->body, qr/a-key/, 'and is not shown');
is(told(quota('/c/methods')), 'all/all:97', 'as GET would be judged');

answers(4, '/c/one');
is_deeply([ map { @{$_}{qw(remaining used)} } (quota('/c/one'))->{limits}[1] ], [ 0, 5 ], 'nothing is left');
is(answers(1, '/c/one'), 'D12', 'as requests say');

# its own rules do not count it, in whatever phase
is(told(quota('/c/mine')), 'all/all:95 mine/mine:1 mine-early/mine-early:1', 'rules of its own location were never charged');
is(told(quota('/quota')), '', 'which it does not tell either');
get('/quota') for 1 .. 5;
is(get('/quota')->status, 200, 'it is never refused');

# what is refused
for my $case (
    [ POST   => '/quota',              405, qr/expected GET or HEAD/ ],
    [ DELETE => '/quota',              405, qr/expected GET or HEAD/ ],
    [ GET    => '/quota?pth=/',        400, qr/expected no arguments or/ ],
    [ GET    => '/quota?path=/a&path=/b', 400, qr/expected no arguments or/ ],
    [ GET    => '/quota?path=c',       400, qr/expected no arguments or/ ],
    [ GET    => '/quota?path=/%zz',    400, qr/expected no arguments or/ ],
    [ GET    => '/quota?path=/%00',    400, qr/expected no arguments or/ ],
    [ GET    => '/quota?path=http://elsewhere/', 400, qr/expected no arguments or/ ],
    )
{
    my ($method, $path, $status, $detail) = @{$case};
    my $response = request($method, $path);
    is($response->status, $status, "$method $path");
    is($response->header('Content-Type'), 'application/problem+json', 'a problem');
    like(decode_json($response->body)->{detail}, $detail, 'that says what was expected');
    is($response->header('Allow'), $status == 405 ? 'GET, HEAD' : undef, 'and what is allowed');
}
my $head = request('HEAD', '/quota');
is($head->status, 200, 'HEAD');
is($head->body, '', 'has no body');
is_deeply(quota('/c/"<script>%E2%98%83%FF')->{path}, "/c/\"<script>\x{2603}\x{fffd}", 'any path is shown as text');
unlike(get('/quota?path=/c/<script>')->body, qr/</, 'that is no markup');

# as the page of an error
begin;
for my $case ([ '/c/paged', 429, 'all/all:99 paged/paged:0' ], [ '/missing-paged', 404, 'all/all:97 paged/paged:0' ]) {
    my ($path, $status, $told) = @{$case};
    get($path);
    my $page = get($path);
    is($page->status, $status, "as the ErrorDocument of $status: with that status");
    is($page->header('Content-Type'), 'application/json', 'the same JSON');
    is(told(decode_json($page->body)), $told, 'with what is left');
}

done_testing();

__DATA__
RateLimitPlan keyplan rate=9/min
<VirtualHost *:${RLP_PORT}>
    ServerName quota.test
    RateLimitEngine On
    RateLimitIdentity ip
    RateLimitRule all rate=100/min
    <Location "/quota">
        SetHandler ratelimit-quota
        RateLimitRule mine rate=1/week
        RateLimitRule mine-early rate=1/week phase=early key=ip
    </Location>
    <Location "/c/mine">
        RateLimitRule mine rate=1/week
        RateLimitRule mine-early rate=1/week phase=early key=ip
    </Location>
    <Location "/c/one">
        RateLimitRule one rate=5/min
    </Location>
    <Location "/c/early">
        RateLimitRule early rate=3/min phase=early key=ip
    </Location>
    <Location "/c/private">
        AuthType Basic
        AuthName private
        AuthBasicProvider anon
        Anonymous *
        Require valid-user
    </Location>
    <LocationMatch "paged$">
        ErrorDocument 404 "/quota?path=/c/paged"
        ErrorDocument 429 "/quota?path=/c/paged"
    </LocationMatch>
    <Location "/c/paged">
        RateLimitRule paged rate=1/min
    </Location>
    <Location "/c/dry">
        RateLimitRule dry rate=3/min mode=log
    </Location>
    <Location "/c/off">
        RateLimitEngine Off
    </Location>
    <Location "/c/exempt">
        RateLimitExempt ip 127.0.0.0/8
    </Location>
    <Location "/c/methods">
        RateLimitRule posts rate=3/min method=POST
    </Location>
    RateLimitRule globbed rate=7/min path=/c/glob/**
    RateLimitPlanMap quotakey "txt:${T}/conf/quota-keys.txt"
    <Location "/c/keys">
        RateLimitRule keys key=quotakey=header:X-API-Key
    </Location>
</VirtualHost>
