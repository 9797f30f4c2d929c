#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Whom a request is counted for. RateLimitEnv always shows it as RATELIMIT_IDENTITY, here in X-Was-Identity.

use strict;
use warnings;

use MIME::Base64 qw(encode_base64);
use RLP::Test;
use Test::More;

sub identity {
    my ($path, %field) = @_;
    return get($path, %field)->header('X-Was-Identity');
}

sub user {
    my ($name) = @_;
    return (Authorization => 'Basic ' . encode_base64("$name:any", ''));
}

begin;

# --- the chain: user, organisation, known key, address

my %key = ('X-API-Key' => 'demo-pro');
my %org = ('X-Org' => 'org1');
my @chain = (
    # case, path, fields, who is counted
    [ 'I-01 a user comes first', '/c/user/chain', { user('42'), %org, %key }, qr/^user:42$/ ],
    [ 'I-02 then the organisation', '/c/chain', { %org, %key }, qr/^org:org1$/ ],
    [ 'I-03 then a known key, as a digest', '/c/chain', \%key, qr/^apikey:[0-9a-f]{32}$/ ],
    [ 'I-03 an unknown key is nobody', '/c/chain', { 'X-API-Key' => 'guessed' }, qr/^ip:127[.]0[.]0[.]1$/ ],
    [ 'I-04 then the address', '/c/chain', {}, qr/^ip:127[.]0[.]0[.]1$/ ],
    [ 'I-08 an empty value is an absent one', '/c/chain', { 'X-Org' => '', 'X-API-Key' => '' }, qr/^ip:/ ],
    [ 'I-05 a chain may end in anonymous', '/c/anonymous', {}, qr/^anonymous:global$/ ],
    [ 'a rule may count by something else', '/c/vhost', {}, qr/^vhost[+]ip:identity[.]test[+]127[.]0[.]0[.]1$/ ],
    [ 'all who come count as one', '/c/global', {}, qr/^global:global$/ ],
);
for my $case (@chain) {
    my ($name, $path, $field, $expected) = @{$case};
    like(identity($path, %{$field}), $expected, $name);
}

is(get('/c/user/i-16', user(1))->header('X-Was-Rule'), 'i-16', 'I-06 a counter belongs to the identity and the rule ...');
is(identity('/c/user/i-16', user(1)), 'user:1', 'I-06 ... user:1 and i-16');

is(identity('/c/user/chain', user('Ann')), 'user:Ann', 'I-06 a user is called as the client wrote it');
is(answers(1, '/c/user/spelt', user($_->[0])), $_->[1], "I-06 an expression takes $_->[0] for another spelling") for [ 'ann', 'A2' ], [ 'Ann', 'A1' ], [ 'ANN', 'A0' ];

my $response = get('/c/nobody');
is($response->header('X-Was-Identity'), undef, 'I-05 with nobody of the chain present the rule does not apply');
is(fields($response), '', 'I-05 and nothing is said of limits');
is(statuses(5, '/c/nobody'), '200 200 200 200 200', 'I-05 nobody is refused, then');
is(answers(1, '/c/nobody', 'X-Org' => 'here'), 'A1', 'I-05 and who is present counts alone');

# --- addresses: mod_remoteip decides, and nobody else

my @addresses = (
    # case, host, X-Forwarded-For, who is counted
    [ 'without a directive: user, then address', 'proxied', '', 'ip:127.0.0.1' ],
    [ 'I-09 a peer that is no proxy cannot name another', 'identity', '9.9.9.9', 'ip:127.0.0.1' ],
    [ 'I-10 a proxy can', 'proxied', '9.9.9.9', 'ip:9.9.9.9' ],
    [ 'I-11 the last that is no proxy counts', 'proxied', '1.2.3.4, 5.6.7.8', 'ip:1.2.3.4' ],
    [ 'I-15 IPv6 counts by /64', 'proxied', '2001:db8:1:2::1', 'ip:2001:db8:1:2::' ],
    [ 'IPv4 inside IPv6 is IPv4', 'proxied', '::ffff:192.0.2.7', 'ip:192.0.2.7' ],
);
for my $case (@addresses) {
    my ($name, $host, $forwarded, $expected) = @{$case};
    is(identity('/c/usual', Host => "$host.test", 'X-Forwarded-For' => $forwarded), $expected, $name);
}
my @masks = (
    # path, address, who is counted
    [ '/c/mask-24', '192.0.2.77', 'ip/24,64:192.0.2.0' ],
    [ '/c/mask-24', '2001:db8:1:2:3::4', 'ip/24,64:2001:db8:1:2::' ],
    [ '/c/mask-128', '2001:db8::1', 'ip/32,128:2001:db8::1' ],
    [ '/c/mask-23-49', '10.1.3.9', 'ip/23,49:10.1.2.0' ],
    [ '/c/mask-23-49', '2001:db8:1:ffff::1', 'ip/23,49:2001:db8:1:8000::' ],
);
for my $case (@masks) {
    my ($path, $address, $expected) = @{$case};
    is(identity($path, Host => 'proxied.test', 'X-Forwarded-For' => $address), $expected, "I-15 $path counts $address as $expected");
}

sub from {
    my ($path, $address, $n) = @_;
    return answers($n || 1, $path, Host => 'proxied.test', 'X-Forwarded-For' => $address);
}
begin;
is(from('/c/i-15', '2001:db8::1'), 'A1', 'I-15 two addresses of one /64 ...');
is(from('/c/i-15', '2001:db8::2', 2), 'A0 D30', 'I-15 ... share a limit');
is(from('/c/i-15-128', '2001:db8::1', 3), 'A1 A0 D30', 'I-15 under /128 one of them ...');
is(from('/c/i-15-128', '2001:db8::2'), 'A1', 'I-15 ... leaves the other alone');
is(from('/c/i-15', '1.1.1.1', 3), 'A1 A0 D30', 'I-17 one address used up ...');
is(from('/c/i-15', '2.2.2.2'), 'A1', 'I-17 ... leaves others alone');

begin;
is(from('/c/i-15', '192.0.2.7', 2), 'A1 A0', 'I-15 an IPv4 address used up ...');
is(from('/c/i-15', '::ffff:192.0.2.7'), 'D30', 'I-15 ... is so inside IPv6, too');
is(from('/c/i-15', '::ffff:192.0.2.8'), 'A1', 'I-15 ... and all IPv4 inside IPv6 is not one /64');

my @joined = (
    # address, what is left of three for its network and host
    [ '192.0.2.1', 'A2' ], [ '192.0.2.77', 'A1' ], [ '::ffff:192.0.2.5', 'A0' ], [ '192.0.2.255', 'D20' ], [ '192.0.3.1', 'A2' ],
    [ '2001:db8:1::1', 'A2' ], [ '2001:db8:1:ffff::1', 'A1' ], [ '2001:db8:2::1', 'A2' ],
);
begin;
is(from('/c/joined', $_->[0]), $_->[1], "I-15 key=vhost+ip/24,48: $_->[0]") for @joined;
is(identity('/c/joined', Host => 'proxied.test', 'X-Forwarded-For' => '192.0.2.9'), 'vhost+ip/24,48:proxied.test+192.0.2.0', 'I-15 and what it is called');

# --- plans of addresses and hosts

my @mapped = (
    # path, host, address, what is left, what it shows
    [ '/c/network', 'mapped', '192.0.2.7', 'A1', 'the whole address has a plan' ],
    [ '/c/network', 'mapped', '192.0.2.8', 'A7', 'not its network' ],
    [ '/c/network', 'mapped', '2001:db8::7', 'A9', 'the whole address of IPv6, too' ],
    [ '/c/both', 'mapped', '192.0.2.7', 'A1', 'of two parts, the one that has a plan' ],
    [ '/c/both', 'mapped', '192.0.2.9', 'A8', 'none of two, as the host is called otherwise' ],
    [ '/c/both', 'named', '192.0.2.7', 'A9', 'the first of two that have' ],
);
begin;
for my $case (@mapped) {
    my ($path, $host, $address, $expected, $name) = @{$case};
    is(answers(1, $path, Host => "$host.test", 'X-Forwarded-For' => $address), $expected, "a plan map: $name");
}

# --- nobody but mod_remoteip reads what proxies say, and that alone which it is told to

for my $field ('Forwarded', 'X-Real-IP', 'X-Client-IP', 'CF-Connecting-IP', 'True-Client-IP') {
    my $value = $field eq 'Forwarded' ? 'for=9.9.9.9' : '9.9.9.9';
    is(identity('/c/usual', Host => 'proxied.test', $field => $value), 'ip:127.0.0.1', "I-09 $field is no matter");
}
is(identity('/c/usual', Host => 'proxied.test', 'X-Forwarded-For' => $_), 'ip:127.0.0.1', "I-10 a proxy that names nobody is counted itself: $_")
    for 'unknown', '9.9.9.999', '1.2.3.4, x';
is(identity('/c/usual', Host => 'proxied.test', 'X-Forwarded-For' => '9.9.9.9, 8.8.8.8'), 'ip:8.8.8.8', 'I-11 a peer that is no proxy is counted, whomever it names');
is(identity('/c/usual', Host => 'trusted.test', 'X-Forwarded-For' => '10.0.0.1'), 'ip:127.0.0.1', 'I-10 RemoteIPTrustedProxy names no private addresses');
is(identity('/c/usual', Host => 'trusted.test', 'X-Forwarded-For' => '9.9.9.9'), 'ip:9.9.9.9', 'I-10 ... but others');

# --- cookies and expressions

my $hush = 'hush-hush-session';
my @cookies = (
    # what is special, field, who is counted
    [ 'a known one', "sid=$hush", qr/^session:[0-9a-f]{32}$/ ],
    [ 'one among others', "a=1; sid=$hush ; b=2", qr/^session:[0-9a-f]{32}$/ ],
    [ 'the first of two', "sid=$hush;sid=other", qr/^session:[0-9a-f]{32}$/ ],
    [ 'the first of two, unknown', "sid=other; sid=$hush", qr/^ip:/ ],
    [ 'an unknown one', 'sid=hush-hush-guess', qr/^ip:/ ],
    [ 'an empty one', 'sid=', qr/^ip:/ ],
    [ 'one without a value', 'sid', qr/^ip:/ ],
    [ 'a name that ends as it does', "xsid=$hush", qr/^ip:/ ],
    [ 'a name that begins as it does', "sid2=$hush", qr/^ip:/ ],
    [ 'a name in another case', "SID=$hush", qr/^ip:/ ],
    [ 'a value in another case', 'sid=' . uc $hush, qr/^ip:/ ],
    [ 'a value that has the name', "a=sid=$hush", qr/^ip:/ ],
    [ 'signs alone', ';;= ;=;; ', qr/^ip:/ ],
    [ '7 kB', 'sid=' . 'x' x 7000, qr/^ip:/ ],
);
for my $case (@cookies) {
    my ($what, $cookie, $expected) = @{$case};
    like(identity('/c/sources/chain', Cookie => $cookie), $expected, "a cookie: $what");
}
begin;
is(answers(3, '/c/sources/session', Cookie => "sid=$hush"), 'A1 A0 D30', 'a session is counted ...');
is(answers(1, '/c/sources/session', Cookie => "a=b; sid=$hush"), 'D30', '... whatever stands beside it');
is(answers(1, '/c/sources/session', Cookie => 'sid=hush-hush-other'), 'A1', '... and another one is another');

# --- what the client has sent counts, not what RequestHeader makes of it for those behind

my @hidden = (
    # way, path
    [ 'itself', '/directory/index.html' ],
    [ 'an index', '/directory/' ],
    [ 'a fallback', '/directory/nothing-here' ],
    [ 'a script that redirects inside', '/cgi/hit/once?Location=/directory/index.html' ],
);
for my $case (@hidden) {
    my ($way, $path) = @{$case};
    like(identity($path, Host => 'hidden.test', %key), qr/^apikey:[0-9a-f]{32}$/, "RequestHeader, by $way: a key that it removes");
    is(identity($path, Host => 'hidden.test', Cookie => "sid=$hush"), identity('/c/sources/chain', Cookie => "sid=$hush"), "RequestHeader, by $way: a cookie that it replaces");
    like(identity($path, Host => 'hidden.test'), qr/^ip:/, "RequestHeader, by $way: a cookie that it invents");
}
like(get('/quota?path=/directory/index.html', Host => 'hidden.test', %key)->body, qr/"identity":"apikey:[0-9a-f]{32}"/, 'RequestHeader: ratelimit-quota tells of the key');

my @expressions = (
    # what is special, fields, who is counted
    [ 'its value', { 'X-Tenant' => 'Acme' }, 'tenant:acme-' ],
    [ 'signs', { 'X-Tenant' => "a b+c%n\"\xc3\xa9" }, 'tenant:a%20b%2Bc%25n%22%C3%A9-' ],
    [ 'what begins a new line', { 'X-Tenant' => 'x%0d%0aSet-Cookie: y' }, 'tenant:x%250d%250aset-cookie:%20y-' ],
);
for my $case (@expressions) {
    my ($what, $field, $expected) = @{$case};
    is(identity('/c/sources/tenant', %{$field}), $expected, "I-14 an expression: $what");
}
like(identity('/c/sources/tenant', 'X-Tenant' => 'x' x 7000), qr/^tenant:#[0-9a-f]{32}$/, 'I-14 an expression: 7 kB become a digest');
is(identity('/c/sources/empty'), 'ip:127.0.0.1', 'I-08 an expression that makes nothing is absent');
is(identity('/c/sources/sum', 'X-Tenant' => 'T'), 'ip/24,48+sum:127.0.0.0+1%2BT', 'an expression takes the rest of the word, "+" too');
is(identity('/c/sources/cert'), 'ip:127.0.0.1', 'a certificate is absent without mod_ssl');
begin;
is(answers(3, '/c/sources/counted', 'X-Tenant' => 'one'), 'A1 A0 D30', 'what an expression makes is counted ...');
is(answers(1, '/c/sources/counted', 'X-Tenant' => 'ONE'), 'D30', '... as it makes it');
is(answers(1, '/c/sources/counted', 'X-Tenant' => 'two'), 'A1', '... each for itself');

# --- counters

begin;
my $full = 'A9 A8 A7 A6 A5 A4 A3 A2 A1 A0 D6';
is(answers(11, '/c/user/i-16', user($_)), $full, "I-16 user $_ has ten of their own") for qw(A B C);
is(answers(3, '/c/i-18-a'), 'A1 A0 D30', 'I-18 one address, one rule used up ...');
is(answers(1, '/c/i-18-b'), 'A1', 'I-18 ... the other rule is another counter');
is(answers(1, '/c/u/1'), 'A0', 'I-19 a rule of a section counts for all in it ...');
is(answers(1, '/c/u/2'), 'D60', 'I-19 ... not each path for itself');
is(answers(2, '/c/i-18-a', Host => 'proxied.test'), 'A1 A0', 'a virtual host has its own counter for a rule of the same name');

# --- values are only values

my $long = 'x' x 7000;
my @values = (
    # what is special, value, how it is counted
    [ 'a colon', 'a:b', 'org:a:b' ],
    [ 'a space', 'a b', 'org:a%20b' ],
    [ 'a percent sign', 'a%20b', 'org:a%2520b' ],
    [ 'braces', '{x}:y', 'org:%7Bx%7D:y' ],
    [ 'quotes and a backslash', '"\\', 'org:%22%5C' ],
    [ 'a plus sign', 'a+b', 'org:a%2Bb' ],
    [ 'UTF-8', "\xc3\xa9", 'org:%C3%A9' ],
    [ 'a tab', "a\tb", 'org:a%09b' ],
    [ '64 bytes', 'y' x 64, 'org:' . 'y' x 64 ],
);
for my $case (@values) {
    my ($what, $value, $expected) = @{$case};
    is(identity('/c/chain', 'X-Org' => $value), $expected, "I-14 $what in a value");
}
my ($digest) = identity('/c/chain', 'X-Org' => $long);
like($digest, qr/^org:#[0-9a-f]{32}$/, 'I-14 7 kB become a digest');
isnt(identity('/c/chain', 'X-Org' => "${long}y"), $digest, 'I-14 one more byte, another one');
isnt(identity('/c/chain', 'X-Org' => substr $digest, 4), $digest, 'I-14 nobody can name a digest');
is(answers(1, '/c/distinct', 'X-Org' => $_), 'A0', 'I-14 distinct values are distinct counters: ' . substr $_, 0, 20)
    for 'a b', 'a%20b', 'a:b', 'a', "a\tb", $long, "${long}y";

# --- a variable that is set before a redirect inside httpd, which renames it

host 'redirected';
begin;
is(answers(3, '/rewritten/acme/page'), 'A1 A0 D30', 'a variable of mod_rewrite, asked for behind its redirect: who was meant is counted');
is(answers(1, '/rewritten/other/page'), 'A1', 'and nobody else');
is(answers(1, '/ok.txt'), 'A', 'and without it nobody');

# --- and a user, whom authentication has found before one

begin;
is(answers(3, '/rewritten/1/page', user('ann')), 'A1 A0 D30', 'a user, asked for behind a redirect to where nobody logs in: ann is counted');
is(answers(1, '/rewritten/1/page', user('bob')), 'A1', 'and bob by himself');
is(answers(3, '/rewritten/2/page', user('carl')), 'A A A', 'who was not let in is not who he says, wherever the page of the error leads');
host 'identity';

# --- secrets

begin;
my $pro = identity('/c/chain', %key);
unlike($pro, qr/demo/, 'a key is nowhere in clear: not in the environment');
isnt(identity('/c/chain', 'X-API-Key' => 'demo-free'), $pro, 'another key, another digest');
is(identity('/c/chain', %key), $pro, 'the same key, the same digest');
is(answers(12, '/c/key-only', %key), 'A9 A8 A7 A6 A5 A4 A3 A2 A1 A0 D6 D6', 'a key is used up');
for my $log (qw(error_log access_log)) {
    open my $in, '<', "$ENV{RLP_TOP}/t/logs/$log" or die "$log: $!\n";
    is(scalar(grep { /demo-pro|demo-free|guessed|hush-hush/i } <$in>), 0, "a key or cookie is nowhere in clear: not in the $log");
}

done_testing;

__DATA__
RateLimitPlan i-key rate=10/min
RateLimitPlan i-session rate=2/min

<VirtualHost *:${RLP_PORT}>
    ServerName identity.test
    RateLimitEngine On
    RateLimitEnv always
    Header always set X-Was-Identity "%{RATELIMIT_IDENTITY}e" "expr=-n reqenv('RATELIMIT_IDENTITY')"
    Header always set X-Was-Rule "%{RATELIMIT_RULE}e" "expr=-n reqenv('RATELIMIT_RULE')"
    SetEnvIf X-Org "^(.*)$" ORG=$1
    RateLimitPlanMap apikey "txt:${RLP_TOP}/t/conf/identity-keys.txt"
    RateLimitIdentity user org=env:ORG apikey=header:X-API-Key ip
    RateLimitRule everything rate=1000000/s
    <LocationMatch "^/c/user/">
        AuthType Basic
        AuthName "any name"
        AuthBasicProvider anon
        Anonymous "*"
        Anonymous_VerifyEmail off
        Anonymous_MustGiveEmail off
        Require valid-user
    </LocationMatch>
    <Location "/c/user/spelt">
        RateLimitRule everything Off
        RateLimitRule spelt rate=3/min "key=login=expr:%{tolower:%{REMOTE_USER}}"
    </Location>
    RateLimitPlanMap session "txt:${RLP_TOP}/t/conf/identity-sessions.txt"
    <Location "/c/sources/chain">
        RateLimitIdentity session=cookie:sid ip
    </Location>
    <Location "/c/sources/session">
        RateLimitRule everything Off
        RateLimitRule session key=session
    </Location>
    <Location "/c/sources/tenant">
        RateLimitIdentity "tenant=expr:%{tolower:%{HTTP:X-Tenant}}-"
    </Location>
    <Location "/c/sources/counted">
        RateLimitRule everything Off
        RateLimitRule tenant rate=2/min key=tenant
    </Location>
    <Location "/c/sources/empty">
        RateLimitIdentity nothing=expr:%{HTTP:X-Nothing} ip
    </Location>
    <Location "/c/sources/sum">
        RateLimitIdentity ip/24,48+sum=expr:1+%{HTTP:X-Tenant}
    </Location>
    <Location "/c/sources/cert">
        RateLimitIdentity cert ip
    </Location>
    <Location "/c/anonymous">
        RateLimitIdentity user anonymous
    </Location>
    <Location "/c/vhost">
        RateLimitRule everything rate=1000000/s key=vhost+ip
    </Location>
    <Location "/c/global">
        RateLimitRule everything rate=1000000/s key=global
    </Location>
    <Location "/c/nobody">
        RateLimitIdentity org
        RateLimitRule everything rate=2/min
    </Location>
    <Location "/c/user/i-16">
        RateLimitRule everything Off
        RateLimitRule i-16 rate=10/min
    </Location>
    <Location "/c/i-18-a">
        RateLimitRule everything Off
        RateLimitRule i-18-a rate=2/min
    </Location>
    <Location "/c/i-18-b">
        RateLimitRule everything Off
        RateLimitRule i-18-b rate=2/min
    </Location>
    <Location "/c/u/">
        RateLimitRule everything Off
        RateLimitRule i-19 rate=1/min
    </Location>
    <Location "/c/distinct">
        RateLimitRule everything Off
        RateLimitRule distinct rate=1/min
    </Location>
    <Location "/c/key-only">
        RateLimitRule everything Off
        RateLimitRule key-only key=apikey
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName hidden.test
    RateLimitEngine On
    RateLimitEnv always
    Header always set X-Was-Identity "%{RATELIMIT_IDENTITY}e"
    RequestHeader unset X-API-Key
    RequestHeader set Cookie "sid=hush-hush-other"
    RateLimitPlanMap apikey "txt:${RLP_TOP}/t/conf/identity-keys.txt"
    RateLimitPlanMap session "txt:${RLP_TOP}/t/conf/identity-sessions.txt"
    RateLimitIdentity apikey session ip
    <Location "/directory">
        FallbackResource /directory/index.html
    </Location>
    <Files "index.html">
        RateLimitRule index rate=1000/s
    </Files>
    <Location "/quota">
        SetHandler ratelimit-quota
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName proxied.test
    RateLimitEngine On
    RateLimitEnv always
    Header always set X-Was-Identity "%{RATELIMIT_IDENTITY}e"
    RemoteIPHeader X-Forwarded-For
    RemoteIPInternalProxy 127.0.0.1 5.6.7.8
    <Location "/c/usual">
        RateLimitRule usual rate=1000/s
    </Location>
    <Location "/c/joined">
        RateLimitRule joined rate=3/min key=vhost+ip/24,48
    </Location>
    <Location "/c/mask-24">
        RateLimitRule mask-24 rate=1000/s key=ip/24,64
    </Location>
    <Location "/c/mask-128">
        RateLimitRule mask-128 rate=1000/s key=ip/32,128
    </Location>
    <Location "/c/mask-23-49">
        RateLimitRule mask-23-49 rate=1000/s key=ip/23,49
    </Location>
    <Location "/c/i-15">
        RateLimitRule i-15 rate=2/min
    </Location>
    <Location "/c/i-15-128">
        RateLimitRule i-15-128 rate=2/min key=ip/32,128
    </Location>
    <Location "/c/i-18-a">
        RateLimitRule i-18-a rate=2/min
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName Mapped.test
    Include "${RLP_TOP}/t/conf/identity-mapped.conf"
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName named.test
    Include "${RLP_TOP}/t/conf/identity-mapped.conf"
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName trusted.test
    RateLimitEngine On
    RateLimitEnv always
    Header always set X-Was-Identity "%{RATELIMIT_IDENTITY}e"
    RemoteIPHeader X-Forwarded-For
    RemoteIPTrustedProxy 127.0.0.1
    RateLimitRule usual rate=1000/s
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName redirected.test
    RateLimitEngine On
    <Directory "${T}/htdocs/rewritten">
        RewriteEngine On
        RewriteRule "^([a-z]+)/" "/ok.txt" [E=SITE:$1]
        RewriteRule "^[12]/" "/ok.txt"
    </Directory>
    <LocationMatch "^/rewritten/[12]/">
        AuthType Basic
        AuthName "any name"
        AuthBasicProvider anon
        Anonymous ann bob
        Anonymous_VerifyEmail off
        Anonymous_MustGiveEmail off
        Require valid-user
    </LocationMatch>
    <Location "/rewritten/2/">
        ErrorDocument 401 "/cgi/hit/stranger?Status=200&Location=/ok.txt"
    </Location>
    <Files "ok.txt">
        RateLimitRule front rate=2/min key=site=env:SITE
        RateLimitRule members rate=2/min key=user
    </Files>
</VirtualHost>
