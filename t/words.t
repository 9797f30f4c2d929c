#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# How limits of each kind are told: in header fields, by names of their own, and in words.

use strict;
use warnings;

use RLP::Httpd;
use RLP::Test;
use Test::More;

# --- fields: one of five used ten seconds after midnight; and again when nothing is left

my @kinds = (
    # kind, limit, then the policy, what is left, X-RateLimit-Reset, and the last two when used up
    [ 'token', 'q=5;w=60', 'r=4;t=48', 12, 'r=0;t=12', 60 ],
    [ 'burst', 'q=8;w=96', 'r=7;t=84', 12, 'r=0;t=12', 96 ],
    [ 'stepped', 'q=5;w=60', 'r=4;t=48', 60, 'r=0;t=60', 60 ],
    [ 'leaky', 'q=5;w=60', 'r=0;t=12', 12, 'r=0;t=12', 12 ],
    [ 'window', 'q=5;w=60', 'r=4;t=50', 50, 'r=0;t=50', 50 ],
    [ 'sliding', 'q=5;w=60', 'r=4;t=50', 110, 'r=0;t=51', 110 ],
    [ 'log', 'q=5;w=60', 'r=4;t=48', 60, 'r=0;t=60', 60 ],
    [ 'day', 'q=5;w=86400', 'r=4;t=86390', 86390, 'r=0;t=86390', 86390 ],
    [ 'quota', 'q=5', 'r=4', undef, 'r=0', undef ],
    [ 'places', 'q=5', 'r=4', 1 ],
);
for my $case (@kinds) {
    my ($kind, $policy, $left, $reset, $none, $last) = @{$case};
    begin;
    at 10;
    my $response = ask("/c/$kind");
    is($response->header('RateLimit-Policy'), qq{"$kind";$policy}, "$kind: RateLimit-Policy");
    is($response->header('RateLimit'), qq{"$kind";$left}, "$kind: RateLimit");
    is($response->header('X-RateLimit-Reset'), $reset, "$kind: X-RateLimit-Reset");
    next if $kind eq 'places'; # each comes back, soon after its response
    my ($more) = $policy =~ /q=(\d+)/;
    $response = ask("/c/$kind") while --$more;
    is($response->header('RateLimit'), qq{"$kind";$none}, "$kind: RateLimit, all used");
    is($response->header('X-RateLimit-Reset'), $last, "$kind: X-RateLimit-Reset, all used");
    $response = get("/c/$kind");
    my $wait = $response->header('Retry-After');
    is($response->status, 429, "$kind: then refused");
    is($wait, $none =~ /t=(\d+)/ ? $1 : undef, "$kind: H-03 to come back when RateLimit says");
    next if !defined $wait;
    at 10 + $wait - 1;
    is(answers(1, "/c/$kind"), 'D1', "$kind: H-18 a second earlier it is refused");
    at 10 + $wait;
    is(get("/c/$kind")->status, 200, "$kind: H-18 then it passes");
}

begin;
my $week = get('/c/periods');
is($week->header('RateLimit-Policy'),
    '"words-periods-week";q=3;w=604800, "words-periods-month";q=4;w=2592000, "words-periods";q=5;w=31536000',
    'periods by their usual length');
my %left = $week->header('RateLimit') =~ /"([\w-]+)";r=\d;t=(\d+)/g;
my (undef, undef, undef, $mday, $month, $year, $wday) = gmtime clock->epoch(0);
is($left{'words-periods-week'}, (7 - ($wday + 6) % 7) * 86_400, 'until Monday');
is((gmtime clock->epoch($left{'words-periods-month'}))[3], 1, 'until the first of a month');
is(join('-', (gmtime clock->epoch($left{'words-periods'}))[3, 4]), '1-0', 'until the first of January');

my @names = (
    # plan, what the names of its limits have behind its own
    [ 'words-many', '- -minute -week -10s -500ms -hour -day -concurrent' ],
    [ 'words-twice', '- -minute-2 -quota' ],
    [ 'words-days', '- -day -day-2 -day-3' ],
);
for my $case (@names) {
    my ($plan, $suffixes) = @{$case};
    begin;
    my $policies = get("/c/$plan")->header('RateLimit-Policy');
    my @suffixes = map { $_ || '-' } $policies =~ /"$plan([\w-]*)"/g;
    is(join(' ', sort @suffixes), join(' ', sort split ' ', $suffixes), "the names of the limits of plan $plan are its own");
}

# --- words

SKIP: {
    skip 'no server of its own: ' . RLP::Httpd::missing(), 1 if RLP::Httpd::missing();
    my @words = (
        # limit, in words
        [ 'rate=5/min', '5 at once, then 1 every 12 seconds' ],
        [ 'rate=5/min burst=8 initial=2', '8 at once (2 at first), then 1 every 12 seconds' ],
        [ 'rate=5/min algorithm=stepped-bucket', '5 at once, then 5 more at the end of each minute' ],
        [ 'rate=5/min algorithm=leaky-bucket', '1 every 12 seconds, evenly spaced, 5 may queue' ],
        [ 'rate=5/min algorithm=fixed-window', 'at most 5 in each minute' ],
        [ 'rate=5/min algorithm=sliding-window', 'about 5 in any minute' ],
        [ 'rate=5/min algorithm=sliding-log', 'at most 5 in any minute' ],
        [ 'quota=1000/day', 'at most 1 000 a day (UTC)' ],
        [ 'quota=5/month@Europe/Berlin', 'at most 5 a month (Europe/Berlin)' ],
        [ 'quota=5/year@local', 'at most 5 a year (local time)' ],
        [ 'quota=5', 'at most 5 ever' ],
        [ 'quota=5 initial=2', 'at most 5 ever (2 at first)' ],
        [ 'quota=0', 'blocked' ],
        [ 'concurrent=5', 'at most 5 at the same time' ],
        [ 'rate=1/s burst=60 quota=1000/day', '60 at once, then 1 per second; at most 1 000 a day (UTC)' ],
        [ 'rate=5/min bandwidth=64K/s', '5 at once, then 1 every 12 seconds; 64 KiB per second for each response' ],
        [ 'quota=5/week then=p0', 'at most 5 a week (UTC); beyond the quota as p0' ],
    );
    my $server = RLP::Httpd->new(
        modules => ['ratelimit'],
        config => join '', "RateLimitEngine On\n",
        map { "RateLimitPlan p$_ $words[$_][0]\n<Location \"/$_\">\nRateLimitRule r$_ plan=p$_\n</Location>\n" } 0 .. $#words
    );
    my ($code, $said) = $server->configtest('-D', 'DUMP_RATELIMIT');
    is($code, 0, 'DUMP_RATELIMIT') || diag($said);
    for my $i (0 .. $#words) {
        my ($limit, $words) = @{ $words[$i] };
        is(($said =~ /^  p$i: (.*)$/m)[0], $words, "DUMP_RATELIMIT: $limit");
        like($said, qr{^  r$i in <Location "/$i">: plan p$i for everybody \(}m, "DUMP_RATELIMIT: a rule of $limit");
    }
}

{
    my $server = RLP::Httpd->new(config => "RateLimitEngine On\n<If \"-T env('a')\">\nRateLimitRule a rate=1/s\n</If>\n<Else>\nRateLimitRule b rate=1/s\n</Else>\n");
    my ($code, $said) = $server->configtest('-D', 'DUMP_RATELIMIT');
    is($code, 0, 'DUMP_RATELIMIT') || diag($said);
    is(join('; ', $said =~ /^  ([ab] in .*?>):/mg), q{a in <If "-T env('a')">; b in <Else>}, 'sections as they stand in the file');
}

done_testing;

__DATA__
RateLimitPlan words-many rate=9/s rate=100/min rate=1000/week rate=99/10s rate=98/500ms rate=1000/hour quota=1000/day concurrent=9
RateLimitPlan words-twice rate=9/min burst=2 rate=8/min burst=4 quota=9
RateLimitPlan words-days rate=9/s rate=99/day quota=98/day quota=97/day@Europe/Berlin
RateLimitPlan words-periods quota=5/year quota=3/week quota=4/month

<VirtualHost *:${RLP_PORT}>
    ServerName words.test
    RateLimitEngine On
    <Location "/c/token">
        RateLimitRule token rate=5/min
    </Location>
    <Location "/c/burst">
        RateLimitRule burst rate=5/min burst=8
    </Location>
    <Location "/c/stepped">
        RateLimitRule stepped rate=5/min algorithm=stepped-bucket
    </Location>
    <Location "/c/leaky">
        RateLimitRule leaky rate=5/min algorithm=leaky-bucket
    </Location>
    <Location "/c/window">
        RateLimitRule window rate=5/min algorithm=fixed-window
    </Location>
    <Location "/c/sliding">
        RateLimitRule sliding rate=5/min algorithm=sliding-window
    </Location>
    <Location "/c/log">
        RateLimitRule log rate=5/min algorithm=sliding-log
    </Location>
    <Location "/c/day">
        RateLimitRule day quota=5/day
    </Location>
    <Location "/c/quota">
        RateLimitRule quota quota=5
    </Location>
    <Location "/c/places">
        RateLimitRule places concurrent=5
    </Location>
    <Location "/c/periods">
        RateLimitRule periods plan=words-periods
    </Location>
    <Location "/c/words-many">
        RateLimitRule many plan=words-many
    </Location>
    <Location "/c/words-twice">
        RateLimitRule twice plan=words-twice
    </Location>
    <Location "/c/words-days">
        RateLimitRule days plan=words-days
    </Location>
</VirtualHost>
