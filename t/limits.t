#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What a limit promises, asked of a real server with a clock that the test moves.

use strict;
use warnings;

use RLP::Test;
use Test::More;

my $full = 'A9 A8 A7 A6 A5 A4 A3 A2 A1 A0'; # ten at once
my $thirty = join ' ', map { 'A' . (30 - $_) } 1 .. 30;

# --- the token bucket: COUNT at once, then one each PERIOD/COUNT

script 'T-01 T-02 five a minute: five at once, the sixth in 12 seconds', '/c/t-01', '0: A4 A3 A2 A1 A0', '0: D12';
script 'T-04 T-05 what comes back is spent once', '/c/t-01',
    '0: A4 A3 A2 A1 A0', '12: A0 D12', '24: A0', '60: A2';
script 'T-07 ten a minute, used up: one each 6 seconds', '/c/t-07',
    "0: $full D6", '6: A0 D6', '12: A0 D6', '18: A0 D6', '24: A0 D6';
script 'T-09 seven a minute: nine seconds give one and a bit, and the bits add up', '/c/t-09',
    '0: A6 A5 A4 A3 A2 A1 A0', '9: A0', '18: A0', '27: A0', '60: A3';
script 'T-10 two a second: the half second is there when it is over', '/c/t-10', '0: A1', '0.1: A0', '0.2: D1', '0.5: A0';
script 'T-11 ten a second: the edge of a second gives nothing back at once', '/c/t-11', "0.99: $full", '1: D1';
script 'T-14 an idle hour fills the bucket, no more', '/c/t-01', '0: A4', '3600: A4 A3 A2 A1 A0 D12';
script 'T-15 a hundred refusals change nothing', '/c/t-01',
    '0: A4 A3 A2 A1 A0', '0: ' . join(' ', ('D12') x 50), '6: ' . join(' ', ('D6') x 50), '12: A0 D12';
script 'T-16 a burst of thirty at ten a minute', '/c/t-16', "0: $thirty D6";
script 'T-20 three in ten seconds, one at once', '/c/t-20', '0: A0', '1: D3', '3: D1', '3.34: A0';
script 'T-21 five each 5 seconds', '/c/t-21', '0: A4 A3 A2 A1 A0 D1', '2: A1 A0 D1';
script 'T-22 ten a second, three at once: never more than three', '/c/t-22', '0: A2 A1 A0', '1: A2';
script 'T-30 a burst of ten at two a minute', '/c/t-30', "0: $full D30";

# --- both ends of a promise

begin;
my $passed = 0;
for my $t (0 .. 59) {
    at $t;
    my $connection = RLP::Client->new($ENV{RLP_PORT});
    1 while get('/c/t-07', connection => $connection)->status == 200 && ++$passed;
}
is($passed, 19, 'T-23 who takes all there is has the burst and the rate: 19 in the first minute of 10/min');

my @word = (
    #  path, at once, seconds to wait, then left
    [ '/c/t-01', 5, 12, 0 ],
    [ '/c/t-30', 10, 30, 0 ],
    [ '/c/f-01', 2, 60, 1 ],
    [ '/c/h-18', 3, 34, 0 ],
);
for my $case (@word) {
    my ($path, $n, $wait, $left) = @{$case};
    begin;
    answers($n, $path);
    is(answers(1, $path), "D$wait", "H-18 $path says to come back in $wait seconds");
    at $wait - 1;
    is(answers(1, $path), 'D1', "H-18 $path refuses a second earlier");
    at $wait;
    is(answers(1, $path), "A$left", "H-18 $path keeps its word");
}

begin;
my %limit;
for (1 .. 31) {
    my $response = get('/c/t-16');
    $limit{ $response->status }{ $response->header('X-RateLimit-Limit') } = 1;
}
is_deeply(\%limit, { 200 => { 30 => 1 }, 429 => { 30 => 1 } }, 'T-18 who passes and who is refused is told the same limit');

# --- all at once, through all processes and threads there are

for my $round (1 .. 5) {
    begin;
    my %status;
    $status{ $_->status }++ for together(50, '/c/t-01');
    is_deeply(\%status, { 200 => 5, 429 => 45 }, "T-24 of 50 parallel requests exactly 5 pass, round $round");
    begin;
    %status = ();
    $status{ $_->status }++ for together(100, '/c/f-03');
    is_deeply(\%status, { 200 => 10, 429 => 90 }, "F-03 of 100 at the beginning of a window exactly 10 pass, round $round");
}

# --- fixed windows: COUNT in each, aligned to the epoch

script 'F-01 two in each minute of the clock', '/c/f-01', '10: A1', '20: A0', '30: D30', '60: A1';
script 'F-02 both sides of the edge of two windows', '/c/f-01', '59: A1 A0', '60: A1 A0 D60';
begin;
is_deeply(
    [ map { at $_; get('/c/f-01')->header('X-RateLimit-Reset') } 10, 20, 60 ],
    [ 50, 40, 60 ],
    'F-01 X-RateLimit-Reset is the end of the window');

# --- stepped buckets and quotas

script 'two each half second, ten at most', '/c/stepped', "0: $full D1", '0.4: D1', '0.5: A1 A0 D1', '10: A9';
script 'a quota that is never renewed says no time', '/c/quota', '0: A2 A1 A0 D D', '900000: D';
script 'P-09 a quota of none: always refused, and never an hour to come back', '/c/blocked', '0: D D', '3600: D';

# --- several limits of one plan

script 'all limits of a plan must admit: the minute lets one each 6 seconds, the hour twelve', '/c/two',
    "0: $full D6", '6: A0 D6', '12: A0 D288', '300: A0';
script 'a refusal by one limit charges none', '/c/two', "0: $full " . join(' ', ('D6') x 20), '6: A0', '12: A0 D288';

done_testing;

__DATA__
<VirtualHost *:${RLP_PORT}>
    ServerName limits.test
    RateLimitEngine On
    <Location "/c/t-01">
        RateLimitRule t-01 rate=5/minute
    </Location>
    <Location "/c/t-07">
        RateLimitRule t-07 rate=10/minute
    </Location>
    <Location "/c/t-09">
        RateLimitRule t-09 rate=7/minute
    </Location>
    <Location "/c/t-10">
        RateLimitRule t-10 rate=2/second
    </Location>
    <Location "/c/t-11">
        RateLimitRule t-11 rate=10/second
    </Location>
    <Location "/c/t-16">
        RateLimitRule t-16 rate=10/60s burst=30
    </Location>
    <Location "/c/t-20">
        RateLimitRule t-20 rate=3/10s burst=1
    </Location>
    <Location "/c/t-21">
        RateLimitRule t-21 rate=5/5s
    </Location>
    <Location "/c/t-22">
        RateLimitRule t-22 rate=10/s burst=3
    </Location>
    <Location "/c/t-30">
        RateLimitRule t-30 rate=2/minute burst=10
    </Location>
    <Location "/c/h-18">
        RateLimitRule h-18 rate=3/100s
    </Location>
    <Location "/c/f-01">
        RateLimitRule f-01 rate=2/60s algorithm=fixed-window
    </Location>
    <Location "/c/f-03">
        RateLimitRule f-03 rate=10/60s algorithm=fixed-window
    </Location>
    <Location "/c/stepped">
        RateLimitRule stepped rate=2/500ms burst=10 algorithm=stepped-bucket
    </Location>
    <Location "/c/quota">
        RateLimitRule quota quota=3
    </Location>
    <Location "/c/blocked">
        RateLimitRule blocked quota=0
    </Location>
    <Location "/c/two">
        RateLimitRule two rate=10/minute rate=12/hour
    </Location>
</VirtualHost>
