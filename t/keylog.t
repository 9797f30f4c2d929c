#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Refusals in the error log: who they name, how often, and what they never show. Each child has its own account, so
# a case keeps to one connection.

use strict;
use warnings;

use MIME::Base64 qw(encode_base64);
use RLP::Test;
use Test::More;

my $log = "$ENV{RLP_TOP}/t/logs/error_log";
my $read = -s $log;

# New lines of the error log that speak of refusals, from the number on.
sub told {
    open my $in, '<', $log or die "$log: $!\n";
    seek $in, $read, 0;
    my @lines = <$in>;
    $read = tell $in;
    close $in;
    chomp @lines;
    return map { /(RLP00[19]: .*)/ ? $1 : () } @lines;
}

my $connection;

sub ask_here {
    my ($path, %field) = @_;
    return get($path, connection => $connection, %field)->status;
}

# What is told of so many requests, all refused, on one connection.
sub refusals {
    my ($n, $path, %field) = @_;
    told();
    ask_here($path, %field) == 429 or die "$path is not refused\n" for 1 .. $n;
    return told();
}

sub user {
    my ($name) = @_;
    return (Authorization => 'Basic ' . encode_base64("$name:hush-password", ''));
}

sub afresh {
    begin;
    $connection = RLP::Client->new($ENV{RLP_PORT});
    return;
}

# --- who is named

my $digest = '[0-9a-f]{32}';
my @names = (
    # path, fields, how the host with plain says it, how others do
    [ '/c/keylog/ip', {}, 'ip:127[.]0[.]0[.]1', 'ip:127[.]0[.]0[.]1' ],
    [ '/c/keylog/mask', {}, 'ip/24,64:127[.]0[.]0[.]0', 'ip/24,64:127[.]0[.]0[.]0' ],
    [ '/c/keylog/global', {}, 'global:global', 'global:global' ],
    [ '/c/keylog/user', { user('ann') }, 'user:ann', "user:$digest" ],
    [ '/c/keylog/user', { user('two words%n') }, 'user:two%20words%25n', "user:$digest" ],
    [ '/c/keylog/user', { user('x' x 99) }, "user:#$digest", "user:$digest" ],
    [ '/c/keylog/org', { 'X-Org' => 'a+b' }, 'kl-org:a%2Bb', "kl-org:$digest" ],
    [ '/c/keylog/key', { 'X-API-Key' => 'some-key' }, "kl-key:$digest", "kl-key:$digest" ],
    [ '/c/keylog/joined', { 'X-Org' => 'a+b', user('ann') }, 'kl-org[+]ip/24,64[+]user:a%2Bb[+]127[.]0[.]0[.]0[+]ann',
        "kl-org[+]ip/24,64[+]user:$digest\[+]127[.]0[.]0[.]0[+]$digest" ],
);
for my $case (@names) {
    my ($path, $field, $plain, $hashed) = @{$case};
    for my $host ([ plain => $plain ], [ hashed => $hashed ]) {
        my ($name, $expected) = @{$host};
        afresh;
        my @told = refusals(1, $path, Host => "keylog-$name.test", %{$field});
        is(scalar @told, 1, "$name $path: one line");
        like($told[0], qr/^RLP001: rule \S+, plan default refuses $expected$/, "$name $path: whom it names");
    }
}
afresh;
my ($key) = map { /($digest)$/ } refusals(1, '/c/keylog/key', Host => 'keylog-hashed.test', 'X-API-Key' => 'some-key');
is(get('/c/keylog/key', Host => 'keylog-hashed.test', 'X-API-Key' => 'some-key')->header('X-Was-Identity'), "kl-key:$key",
    'a digest of a key is the one of RATELIMIT_IDENTITY');
my ($ann, $bob) = map { afresh; refusals(1, '/c/keylog/user', Host => 'keylog-hashed.test', user($_)) } qw(ann bob);
isnt($ann, $bob, 'two users have two digests');
afresh;
is((refusals(1, '/c/keylog/user', Host => 'keylog-hashed.test', user('ann')))[0], $ann, 'one user has one');

# --- how often

my $expected = 'RLP001: rule ip, plan default refuses ip:127.0.0.1';
afresh;
is(join('|', refusals(20, '/c/keylog/ip', Host => 'keylog-hashed.test')), $expected, 'twenty refusals, one line');
is(join('|', refusals(1, '/c/keylog/user', Host => 'keylog-hashed.test', user('ann'))), $ann, 'another identity has a line of its own');
is(join('|', refusals(1, '/c/keylog/mask', Host => 'keylog-hashed.test')), 'RLP001: rule mask, plan default refuses ip/24,64:127.0.0.0', 'another rule too');
is(join('|', refusals(2, '/c/keylog/same', Host => 'keylog-hashed.test')), 'RLP001: rule same, plan default refuses ip:127.0.0.1', 'also of the same identity');
at 59;
is(scalar(my @early = refusals(5, '/c/keylog/ip', Host => 'keylog-hashed.test')), 0, 'nothing within 60 seconds');
at 60;
is(join('|', refusals(5, '/c/keylog/ip', Host => 'keylog-hashed.test')), $expected, 'another line after 60');
afresh;
is(scalar(my @first = refusals(3, '/c/keylog/ip', Host => 'keylog-plain.test')), 1, 'repeat=5s: one line');
at 5;
is(scalar(my @second = refusals(3, '/c/keylog/ip', Host => 'keylog-plain.test')), 1, 'another one after 5 seconds');
is(scalar(my @each = refusals(3, '/c/keylog/ip', Host => 'keylog-each.test')), 3, 'repeat=0: a line each');

# --- how many

afresh;
my @crowd = map { refusals(1, '/c/keylog/ip', Host => 'keylog-crowd.test', 'X-Forwarded-For' => "192.0.2.$_") } 1 .. 70;
is(scalar @crowd, 50, 'seventy in a second: fifty lines');
like($crowd[49], qr/refuses ip:192[.]0[.]2[.]50$/, 'the first fifty');
at 1;
is(join('|', refusals(1, '/c/keylog/ip', Host => 'keylog-crowd.test', 'X-Forwarded-For' => '192.0.2.70')),
    'RLP009: 20 lines were left out: at most 50 a second|RLP001: rule ip, plan default refuses ip:192.0.2.70',
    'the next second says how many were left out, and tells of one of them');
is(scalar(my @again = refusals(1, '/c/keylog/ip', Host => 'keylog-crowd.test', 'X-Forwarded-For' => '192.0.2.1')), 0,
    'one that was told stays told');
at 2;
is(scalar(my @later = refusals(1, '/c/keylog/ip', Host => 'keylog-crowd.test', 'X-Forwarded-For' => '192.0.2.60')), 1, 'the count is said once');

# --- lines for other programs

{
    open my $in, '<', $log or die "$log: $!\n";
    my @lines = grep { /RLP001/ } <$in>;
    my $fail2ban = qr/\[client 192[.]0[.]2[.]50(?::\d+)?\] RLP001: rule \S+, plan \S+ refuses \S+$/;
    is(scalar(grep { $_ =~ $fail2ban } @lines), 1, 'the address stands where the documented expression looks for it');
    is(scalar(grep { /hush-password|some-key|two words|x{20}|a\+b/ } @lines), 0, 'no line shows a secret, or what is to be escaped');
}

done_testing;

__DATA__
<Location "/c/keylog/ip">
    RateLimitRule ip quota=0 key=ip
</Location>
<Location "/c/keylog/same">
    RateLimitRule same quota=0 key=ip
</Location>
<Location "/c/keylog/mask">
    RateLimitRule mask quota=0 key=ip/24
</Location>
<Location "/c/keylog/global">
    RateLimitRule global quota=0 key=global
</Location>
<LocationMatch "^/c/keylog/(user|joined)$">
    AuthType Basic
    AuthName "any name"
    AuthBasicProvider anon
    Anonymous "*"
    Anonymous_VerifyEmail off
    Anonymous_MustGiveEmail off
    Require valid-user
</LocationMatch>
<Location "/c/keylog/user">
    RateLimitRule user quota=0 key=user
</Location>
<Location "/c/keylog/org">
    RateLimitRule org quota=0 key=kl-org=env:ORG
</Location>
<Location "/c/keylog/key">
    RateLimitRule key quota=0 plan=none key=kl-key=header:X-API-Key
</Location>
<Location "/c/keylog/joined">
    RateLimitRule joined quota=0 key=kl-org+ip/24+user
</Location>
RateLimitPlan keylog-key rate=1/s
RateLimitPlanMap kl-key "txt:${RLP_TOP}/t/conf/keylog-keys.txt"

<VirtualHost *:${RLP_PORT}>
    ServerName keylog-hashed.test
    RateLimitEngine On
    Header always set X-Was-Identity "%{RATELIMIT_IDENTITY}e"
    SetEnvIf X-Org "^(.*)$" ORG=$1
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName keylog-plain.test
    RateLimitEngine On
    RateLimitKeyLog plain repeat=5s
    SetEnvIf X-Org "^(.*)$" ORG=$1
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName keylog-each.test
    RateLimitEngine On
    RateLimitKeyLog hash repeat=0
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName keylog-crowd.test
    RateLimitEngine On
    RemoteIPHeader X-Forwarded-For
    RemoteIPInternalProxy 127.0.0.1
</VirtualHost>
