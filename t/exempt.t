#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Who is exempt is never refused, nor charged, nor told of limits; RATELIMIT_ACTION, here in X-Was-Action, says so.

use strict;
use warnings;

use RLP::Test;
use Socket qw(AF_INET AF_INET6 inet_pton);
use Test::More;

my $denying = RLP::Client->new($ENV{RLP_PORT}); # kept alive: hundreds of requests

# exempt, pass or deny, for an address as mod_remoteip has it
sub action {
    my ($path, $address) = @_;
    my $response = get($path, connection => $denying, Host => 'exempt.test', 'X-Forwarded-For' => $address);
    return $response->header('X-Was-Action');
}

# --- exempt means left alone

begin;
my $response = get('/c/local');
is($response->status, 200, 'who is exempt is answered');
is($response->header('X-Was-Action'), 'exempt', 'the variable says why');
is($response->header('X-Was-Rule'), undef, 'it speaks of no rule');
is(fields($response), '', 'no field speaks of limits');
is(answers(30, '/c/local'), join(' ', ('A') x 30), 'thirty of two a minute pass');
is(answers(3, '/c/local', 'X-Forwarded-For' => '192.0.2.1'), 'A1 A0 D30', 'they were not charged: all share one counter, and it is full');
is(answers(2, '/c/local'), 'A A', 'who is exempt passes when all is used up, too');
is(answers(1, '/c/blocked'), 'A', 'a quota of nothing blocks others');
is(answers(1, '/c/blocked', 'X-Forwarded-For' => '192.0.2.1'), 'D', 'as it does');
is(get('/c/unknown', 'X-API-Key' => 'guessed')->status, 200, 'an unknown key that would be refused is not');
is(get('/c/unknown', 'X-API-Key' => 'guessed', 'X-Forwarded-For' => '192.0.2.1')->status, 403, 'as others are');
is(get('/c/dry')->header('X-Was-Action'), 'exempt', 'a dry run shows who would be exempt');
is(get('/c/off')->header('X-Was-Action'), undef, 'where nothing is judged, nobody is');

# --- networks: each one's first and last address, and those beside, against a look at all bits of all networks

sub bits {
    my ($address) = @_;
    my $packed = inet_pton($address =~ /:/ ? AF_INET6 : AF_INET, $address) // die "no address: $address\n";
    my $bits = unpack 'B*', $packed;
    return $bits =~ /^0{80}1{16}(.{32})$/ ? $1 : $bits;
}

sub address {
    my ($bits) = @_;
    return Socket::inet_ntop(length $bits == 32 ? AF_INET : AF_INET6, pack 'B*', $bits);
}

# The number before or after; none beyond the ends.
sub beside {
    my ($bits, $from, $to) = @_;
    return $bits =~ s/$from($to*)$/$to . $from x length $1/er if $bits =~ /$from/;
    return;
}

open my $in, '<', "$ENV{RLP_TOP}/t/conf/exempt-networks.txt" or die "networks: $!\n";
my @prefixes;
for (<$in>) {
    s/#.*//;
    my ($host, $length) = m{^\s*([0-9a-f.:]+)(?:/(\d+))?\s*$} or next;
    my $bits = bits($host);
    $length -= 96 if defined $length && $host =~ /^::ffff:/;
    push @prefixes, [ $bits, $length // length $bits ];
}
my %asked;
for my $prefix (@prefixes) {
    my ($bits, $length) = @{$prefix};
    my $last = substr($bits, 0, $length) . '1' x (length($bits) - $length);
    $asked{$_}++ for $bits, $last, beside($bits, 1, 0), beside($last, 0, 1);
}
my @wrong;
my $inside = 0;
for my $bits (sort keys %asked) {
    my $exempt = grep { length $bits == length $_->[0] && substr($bits, 0, $_->[1]) eq substr $_->[0], 0, $_->[1] } @prefixes;
    my $action = action('/c/networks', address($bits));
    $inside++ if $exempt;
    push @wrong, address($bits) . " $action" if ($action eq 'exempt') != ($exempt > 0);
}
is(join(' ', @wrong), '', 'every edge of the networks is where it was written');
cmp_ok($inside, '>=', 30, "addresses inside were asked: $inside");
cmp_ok(keys(%asked) - $inside, '>=', 20, 'and outside');

my @addresses = (
    # path, address, what becomes of it
    [ '/c/all-4', '192.0.2.1', 'exempt', '0.0.0.0/0 is all of IPv4 ...' ],
    [ '/c/all-4', '2001:db8::1', 'pass', '... alone' ],
    [ '/c/all-6', '2001:db8::1', 'exempt', '::/0 is all of IPv6 ...' ],
    [ '/c/all-6', '192.0.2.1', 'pass', '... alone' ],
    [ '/c/one', '192.0.2.1', 'exempt', 'an address without bits is that address ...' ],
    [ '/c/one', '192.0.2.2', 'pass', '... alone' ],
    [ '/c/one', '::ffff:192.0.2.1', 'exempt', 'I-15 IPv4 inside IPv6 is IPv4 in a request' ],
    [ '/c/mapped', '192.0.2.1', 'exempt', 'I-15 and in the configuration' ],
    [ '/c/mapped', '192.0.3.1', 'pass', 'with the bits that are meant' ],
    [ '/c/all-mapped', '192.0.2.1', 'exempt', 'I-15 and all of it as IPv6 has it' ],
    [ '/c/all-mapped', '2001:db8::1', 'pass', '... alone' ],
    [ '/c/empty', '192.0.2.1', 'pass', 'an empty file is nobody' ],
);
for my $case (@addresses) {
    my ($path, $address, $expected, $name) = @{$case};
    is(action($path, $address), $expected, $name);
}
is(get('/c/one', Host => 'exempt-strict.test', 'X-Forwarded-For' => '192.0.2.1')->header('X-Was-Action'), 'pass',
    'I-09 nobody names an address that is exempt but a proxy');

# --- expressions

is(get('/c/expression', 'X-Monitor' => 'yes')->header('X-Was-Action'), 'exempt', 'an expression that is true');
is(get('/c/expression', 'X-Monitor' => 'no')->header('X-Was-Action'), 'pass', 'and one that is not');
is(get('/c/expression', 'X-Monitor' => 'no')->header('Vary'), undef, 'what it reads is no matter for caches');

# --- what is said outside holds inside, and more may be said there

is(action('/c/more', '203.0.113.200'), 'exempt', 'exempt in the section');
is(action('/c/more', '198.18.0.1'), 'exempt', 'exempt by the host, in a section that adds');
is(action('/c/more/inner', '203.0.113.200'), 'exempt', 'exempt in the section around');
is(action('/c/more/inner', '203.0.113.100'), 'exempt', 'exempt in the inner one');
is(action('/c/more', '203.0.113.100'), 'pass', 'which is not for those outside');
is(action('/c/one', '198.18.0.1'), 'exempt', 'exempt by the host, elsewhere');

# --- redirects inside

my $script = '/cgi/hit/exempt?Location=/c';
begin;
is(answers(2, "$script/counted"), 'A1 A0', 'exempt before a redirect: the rules behind it are judged ...');
is(get("$script/counted")->header('X-Was-Action'), 'deny', '... and refuse');
begin;
is(answers(3, '/cgi/hit/counted?Location=/c/local'), 'A1 A0 D30', 'exempt behind a redirect: what was counted before it is said');
is(answers(2, "$script/local"), 'A A', 'exempt on both sides');
is(get("$script/off")->header('X-Was-Action'), 'exempt', 'exempt before a redirect to where nothing is judged: the variable stays');
is(get('/exempted/')->header('X-Was-Action'), 'pass', 'exempt, but not for the index that mod_dir puts there: what is always told of that');

done_testing;

__DATA__
RateLimitPlan exempt-key rate=1000/s

<VirtualHost *:${RLP_PORT}>
    ServerName exempt.test
    RateLimitEngine On
    RateLimitEnv always
    Header always set X-Was-Action "%{RATELIMIT_ACTION}e" "expr=-n reqenv('RATELIMIT_ACTION')"
    Header always set X-Was-Rule "%{RATELIMIT_RULE}e" "expr=-n reqenv('RATELIMIT_RULE')"
    RemoteIPHeader X-Forwarded-For
    RemoteIPInternalProxy 127.0.0.1
    RateLimitExempt ip 198.18.0.0/15
    <Location "/c/local">
        RateLimitExempt ip 2001:db8::/32 127.0.0.0/8
        RateLimitRule local rate=2/min key=global
    </Location>
    <Location "/c/blocked">
        RateLimitExempt ip 127.0.0.1
        RateLimitRule blocked quota=0
    </Location>
    RateLimitPlanMap exempt-key "txt:${RLP_TOP}/t/conf/exempt-keys.txt" unknown=deny
    <Location "/c/unknown">
        RateLimitExempt ip 127.0.0.1
        RateLimitIdentity exempt-key=header:X-API-Key
        RateLimitRule unknown
    </Location>
    <Location "/c/dry">
        RateLimitEngine LogOnly
        RateLimitExempt ip 127.0.0.1
        RateLimitRule dry rate=1/min
    </Location>
    <Location "/c/off">
        RateLimitEngine Off
        RateLimitExempt ip 127.0.0.1
        RateLimitRule off rate=1/min
    </Location>
    <Location "/c/networks">
        RateLimitExempt "file:${RLP_TOP}/t/conf/exempt-networks.txt"
        RateLimitRule networks rate=1000000/s
    </Location>
    <Location "/c/all-4">
        RateLimitExempt ip 0.0.0.0/0
        RateLimitRule networks rate=1000000/s
    </Location>
    <Location "/c/all-6">
        RateLimitExempt ip ::/0
        RateLimitRule networks rate=1000000/s
    </Location>
    <Location "/c/one">
        RateLimitExempt ip 192.0.2.1
        RateLimitRule networks rate=1000000/s
    </Location>
    <Location "/c/mapped">
        RateLimitExempt ip ::ffff:192.0.2.0/120
        RateLimitRule networks rate=1000000/s
    </Location>
    <Location "/c/all-mapped">
        RateLimitExempt ip ::ffff:0:0/96
        RateLimitRule networks rate=1000000/s
    </Location>
    <Location "/c/empty">
        RateLimitExempt file:/dev/null
        RateLimitRule networks rate=1000000/s
    </Location>
    <Location "/c/expression">
        RateLimitExempt "expr=%{HTTP:X-Monitor} == 'yes'"
        RateLimitRule networks rate=1000000/s
    </Location>
    <Location "/c/more">
        RateLimitExempt ip 203.0.113.192/26
        RateLimitRule networks rate=1000000/s
    </Location>
    <Location "/c/more/inner">
        RateLimitExempt ip 203.0.113.100
    </Location>
    <Location "/c/counted">
        RateLimitRule counted rate=2/min
    </Location>
    Alias "/exempted" "${T}/htdocs/directory"
    <LocationMatch "^/exempted/$">
        RateLimitExempt ip 127.0.0.1
    </LocationMatch>
    <Location "/exempted">
        RateLimitRule networks rate=1000000/s
    </Location>
    <Location "/cgi/hit/exempt">
        RateLimitExempt ip 127.0.0.1
        RateLimitRule script rate=1/min
    </Location>
    <Location "/cgi/hit/counted">
        RateLimitRule before rate=2/min
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName exempt-strict.test
    RateLimitEngine On
    RateLimitEnv always
    Header always set X-Was-Action "%{RATELIMIT_ACTION}e" "expr=-n reqenv('RATELIMIT_ACTION')"
    RateLimitExempt ip 192.0.2.1
    RateLimitRule strict rate=1000000/s
</VirtualHost>
