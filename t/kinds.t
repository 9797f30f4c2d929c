#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What each kind of limit promises, asked of a real server with a clock that the test moves; limits.t has more of
# token buckets and fixed windows.

use strict;
use warnings;

use RLP::Test;
use Test::More;

# n answers, down to so many left
sub down {
    my ($n, $left) = @_;
    return join ' ', map { 'A' . ($left + $n - $_) } 1 .. $n;
}

my $ten = down(10, 0);

# --- token-bucket

script 'T-34 a new client has initial=2 of five', '/c/t-34', '0: A1 A0 D1', '1: A0 D1', '7: A4', '12: A4';
script 'T-35 initial=0 is earned from the first refusal on', '/c/t-35', '0: D1', '0.5: D1', '1: A0 D1';
script 'B-20 a cost above the capacity never passes and changes nothing', '/c/t-five', '0*6: D D', '0: A4', '0*6: D', '0*4: A0';
script 'B-22 a cost of 0 is free, and the next costs what it did', '/c/t-five',
    '0*0: A5', '0: A4 A3 A2 A1 A0', '0*0: A0 A0', '0: D1', '1: A0';
script 'V-07 costs of .5 and of 3', '/c/t-five', '0*.5: A4 A4 A3', '0*3: A0', '0: D1', '0*.5: A0 D1', '0.5*.5: A0';

# --- stepped-bucket

script 'G-14 two each half second', '/c/g-14', "0: $ten D1", '0.4: D1', '0.5: A1 A0 D1', '1: A1', '9: A9';
script 'B-01 B-04 five at once, full again later', '/c/b-five', '0: A4 A3 A2 A1 A0 D1', '20: A4';
script 'B-15 without delay the second is refused at once', '/c/b-15', '0: A0 D100 D100', '99: D1', '100: A0 D100';
script 'B-16 initial=2', '/c/b-16', '0: A1 A0 D1', '1: A0 D1';
script 'B-17 initial=0', '/c/b-17', '0: D1', '0.999: D1', '1: A0 D1';
script 'B-20 a cost above the capacity', '/c/b-five', '0*6: D', '0: A4 A3 A2 A1 A0', '0*6: D';
script 'B-22 a cost of 0 when empty', '/c/b-five', '0: A4 A3 A2 A1 A0', '0.5*0: A0', '0.5: D1', '1: A0 D1';
script 'B-26 the steps keep their phase', '/c/b-five', '0: A4 A3 A2 A1 A0', '1.9: A0', '2: A0 D1';
script 'B-27 polled each .45 s: nine in nine seconds', '/c/b-27',
    map { my $t = $_ * .45; "$t: " . (int $t > int($t - .45) && $t >= 1 ? 'A0' : 'D1') } 0 .. 21;
script 'B-30 an hour is an hour', '/c/b-30', '0: A2 A1 A0 D3600', '61: D3539', '3600: A2';
script 'B-31 costs of 1 and 5 share a bucket', '/c/b-31', '0: A99', '0*5: A94', '0: A93', '0*93: A0', '0*5: D3600';
script 'B-34 steps from start=', '/c/b-34', '9: A1 A0 D4', '13: A1 A0 D10';
script 'B-35 a cost over several steps', '/c/b-35', '0: A5 A4 A3 A2 A1 A0', '0*5: D3', '2*5: D1', '3*5: A1';

# --- leaky-bucket

script 'L-01 one, then one a second', '/c/l-01', '0: A0 D1', '0.999999: D1', '1: A0 D1', '10: A0 D1';
script 'L-02 evenly spaced, whatever the count', '/c/l-02', '0: A0 D1', '0.199999: D1', '0.2: A0 D1', '0.4: A0', '10: A0 D1';
script 'L-06 without delay nobody queues, so more than one never passes', '/c/l-01', '0*1.001: D', '0*5: D', '0: A0';
script 'L-07 costs below one', '/c/l-01', '0*.5: A0 A0 D1', '0.5*.5: A0', '1: D1', '1.5: A0';
script 'B-22 a cost of 0 in a leaky bucket', '/c/l-01', '0*0: A1', '0: A0', '0*0: A0', '0: D1';

# --- fixed-window

script 'F-01 two in each minute of the clock', '/c/f-two', '10: A1', '20: A0', '30: D30', '60: A1';
script 'F-02 both sides of an edge', '/c/f-two', '59: A1 A0', '60: A1 A0 D60';
script 'F-04 the window began 3 s ago', '/c/f-five', '3*5: A0 D2', '5*5: A0';
script 'F-06 the window began 2 s ago', '/c/f-five', '2*4: A1', '2*5: D3', '4*5: D1', '5*5: A0';
script 'F-10 two alignments are two counters', '/c/f-10', '10: A1', '20: A0', '30: D30', '60: A1 A0', '90: D30', '120: A1';
script 'F-12 refusals cost nothing', '/c/f-two', '0: A1 A0', '59: ' . join(' ', ('D1') x 50), '60: A1';
script 'F-13 a start moves the edge', '/c/f-13', '1: A0', '2.999999: D1', '3: A0 D10', '13: A0';
script 'B-20 a cost above the count of a window', '/c/f-five', '0*6: D', '0*5: A0', '0*6: D', '5: A4';
script 'B-22 a cost of 0 in a window', '/c/f-five', '0*0: A5', '0*5: A0', '0*0: A0', '0: D5';

# --- sliding-window

script 'S-18 the estimate is 9.17: one passes', '/c/s-18', "50: $ten", '65: A0 D2', '66: D1', '66.000001: A0';
script 'S-18 the window before that is forgotten', '/c/s-18', "50: $ten", '120: A9';
script 'S-08 a window and its influence', '/c/s-08', '0: A2 A1 A0 D3', '3: A1', '4: A1';
script 'S-10 refusals cost nothing', '/c/s-10', '0: A2 A1 A0', '1: ' . join(' ', ('D60') x 50), '60.000001: A0';
script 'B-20 B-22 costs in a sliding window', '/c/s-18', '0*11: D', '0*0: A10', '0*10: A0', '0*11: D', '0*0: A0', '0: D61';

# --- sliding-log

script 'S-01 S-02 three in a minute', '/c/log-three', '0: A2 A1 A0 D60', '60: A2';
script 'S-05 an age of the period no longer counts', '/c/log-two',
    '0: A1', '59.999: A0', '60: A0', '60.001: D60', '119.998: D1', '119.999: A0';
script 'S-08 three in 2 s', '/c/log-short', '0: A2 A1 A0 D2', '3: A2';
script 'S-10 refusals are not recorded', '/c/log-three', '0: A2 A1 A0', '1: ' . join(' ', ('D59') x 50), '60: A2';
script 'S-12 half a second', '/c/s-12', '0: A0', '0.1: D1', '0.5: A0 D1';
script 'S-16 another rule goes on', '/c/log-two', '0: A1 A0 D60';
is(answers(1, '/c/log-three'), 'A2', 'S-16 when this one is used up');
script 'S-17 after the window nothing is left', '/c/log-two', '0: A1', '30: A0', '100*0: A2', '100: A1';
script 'S-21 the entry that frees enough is waited for', '/c/s-21',
    '0*2: A8', '10*3: A5', '20*5: A0', '20*2: D40', '20*3: D50', '20*6: D60', '60*2: A0';
script 'B-20 a cost above the count of a log', '/c/log-three', '0*4: D', '0*3: A0', '0*4: D', '0*0: A0', '60: A2';
script 'a log of 300 is kept whole', '/c/log-300',
    '0: ' . down(100, 200), '20: ' . down(100, 100), '40: ' . down(100, 0) . ' D20', '60: ' . down(100, 0) . ' D20',
    '79.999: D1', '80: A99';

begin;
my @passed;
for my $t (0 .. 119) {
    at $t;
    my $connection = RLP::Client->new($ENV{RLP_PORT});
    push @passed, $t while get('/c/s-09', connection => $connection)->status == 200;
}
is(scalar @passed, 20, 'S-09 who takes all there is has twenty in two minutes of 10/min');
is(scalar(grep { $passed[ $_ + 10 ] - $passed[$_] < 60 } 0 .. $#passed - 10), 0, 'S-09 and no eleven within one');
for my $case ([ 'S-11', '/c/s-11' ], [ 'a stepped bucket', '/c/b-five' ], [ 'a sliding window', '/c/s-11-window' ]) {
    my ($what, $path) = @{$case};
    begin;
    my %status;
    $status{ $_->status }++ for together(50, $path);
    is_deeply(\%status, { 200 => 5, 429 => 45 }, "$what: of fifty at once five pass");
}
begin;
my %b24 = map { $_->status => 1 } together(20, '/c/b-24', 'X-Cost' => 10), together(20, '/c/b-24');
is_deeply(\%b24, { 200 => 1 }, 'B-24 costs of 10 and of 1 at once');
is(get('/c/b-24', 'X-Cost' => 0)->header('X-RateLimit-Remaining'), 780, 'B-24 are all charged');

# --- quota, once and for all

script 'Q-01 V-12 ten, then none for ever', '/c/q-01', '0*3: A7 A4', '0*4: A0', '0: D', '31536000: D';
script 'Q-03 initial=3', '/c/q-03', '0*3: A0', '0: D';
script 'B-20 B-22 costs under a quota', '/c/q-five', '0*6: D', '0*0: A5', '0*5: A0', '0*0: A0', '0: D';
script 'P-09 quota=0 blocks', '/c/p-09', '0: D', '86400: D';
begin;
answers(5, '/c/q-five');
my $over = get('/c/q-five');
is_deeply([ $over->status, map { $over->header($_) } qw(Retry-After X-RateLimit-Remaining X-RateLimit-Reset) ], [ 429, undef, 0, undef ],
    'Q-07 a refusal without a date has no Retry-After');
answers(3, '/c/q-day');
$over = get('/c/q-day');
is_deeply([ $over->status, map { $over->header($_) } qw(Retry-After X-RateLimit-Remaining X-RateLimit-Reset) ], [ 429, 86400, 0, 86400 ],
    'Q-07 with a date it has one');

# --- what the response says: one is reserved, or nothing

for my $kind (qw(token stepped window sliding log day quota)) {
    my $ask = sub {
        my ($path) = @_;
        ask($path);
        return get($path =~ s/[?].*//r, 'X-Free' => 1)->header('X-RateLimit-Remaining');
    };
    begin;
    is($ask->("/cgi/hit/one-$kind?X-Cost=3"), 7, "a late cost, $kind: three in all");
    is($ask->("/cgi/hit/one-$kind?X-Cost=0"), 7, "a late cost, $kind: one is given back");
    is($ask->("/cgi/hit/one-$kind?X-Cost=99"), 0, "a late cost, $kind: no debt");
    begin;
    is($ask->("/cgi/hit/none-$kind?X-Cost=3"), 7, "a late cost without reserve, $kind: three in all");
    is($ask->("/cgi/hit/none-$kind?X-Cost=2"), 5, "a late cost without reserve, $kind: and two");
}
begin;
ask('/cgi/hit/one-leaky?X-Cost=3');
is(answers(1, '/cgi/hit/one-leaky'), 'D18', 'a late cost, leaky: three have to pass');
begin;
ask('/cgi/hit/none-leaky?X-Cost=3');
is(get('/cgi/hit/none-leaky')->header('X-RateLimit-Reset'), 18, 'a late cost without reserve, leaky: three have to pass');

# --- two rates, a quota and places: one decision

script 'all of a plan must admit', '/c/whole', '0: A4 A3 A2 A1 A0 D12', '12: A0', '24: A0', '36: A0 D414', '450: A0 D450', '900: A0',
    '1800: D84600', '86399: D1', '86400: A4';
script 'what one refuses is charged to none', '/c/whole',
    '0: A4 A3 A2 A1 A0', '0: ' . join(' ', ('D12') x 20), '12: A0', '24: A0', '36: A0 D414';
begin;
gate('held', 0);
my (undef, @held) = crowd(2, 2, '/cgi/gate/held');
wait_for(sub { hits('held-waiting') == 2 });
my $full = get('/cgi/gate/held');
is($full->status, 429, 'two places are held: the third request is refused');
is($full->header('Retry-After'), 1, 'for a second');
is($full->header('RateLimit'),
    '"kinds-held-concurrent";r=0;t=1, "kinds-held";r=1;t=20, "kinds-held-hour";r=3;t=2160, "kinds-held-day";r=8;t=86400',
    'and nothing else is charged for it');
get('/cgi/gate/held') for 1 .. 5;
gate('held', 1);
is(join(' ', map { $_->response->status } @held), '200 200', 'the two are answered');
ok($_->closed, 'and end') for @held;
is(ask('/cgi/gate/held')->header('RateLimit'),
    '"kinds-held";r=0;t=20, "kinds-held-concurrent";r=1, "kinds-held-hour";r=2;t=1440, "kinds-held-day";r=7;t=86400',
    'then there is one more in this minute');
is(join(' ', map { ask('/cgi/gate/held')->status } 1 .. 9), join(' ', (429) x 9), 'which the rate refuses from then on');
at 40;
gate('held', 0);
(undef, @held) = crowd(2, 2, '/cgi/gate/held');
wait_for(sub { hits('held-waiting') == 5 });
is(hits('held-waiting'), 5, 'no refusal has kept a place');
gate('held', 1);
is(join(' ', map { $_->response->status } @held), '200 200', 'the last two');

done_testing;

__DATA__
RateLimitPlan kinds-whole rate=5/min rate=8/hour quota=10/day concurrent=20
RateLimitPlan kinds-held rate=3/min rate=5/hour quota=10/day concurrent=2

<VirtualHost *:${RLP_PORT}>
    ServerName kinds.test
    RateLimitEngine On
    # one for who asks for nothing else
    SetEnvIf Request_Method "." COST=1
    SetEnvIf X-Cost "^(.+)$" COST=$1
    RateLimitCost "expr=%{reqenv:COST}"
    <Location "/c/t-34">
        RateLimitRule t-34 rate=1/s burst=5 initial=2
    </Location>
    <Location "/c/t-35">
        RateLimitRule t-35 rate=1/s initial=0
    </Location>
    <Location "/c/t-five">
        RateLimitRule t-five rate=1/s burst=5
    </Location>
    <Location "/c/g-14">
        RateLimitRule g-14 rate=2/500ms burst=10 algorithm=stepped-bucket
    </Location>
    <Location "/c/b-five">
        RateLimitRule b-five rate=1/s burst=5 algorithm=stepped-bucket
    </Location>
    <Location "/c/b-15">
        RateLimitRule b-15 rate=1/100s algorithm=stepped-bucket
    </Location>
    <Location "/c/b-16">
        RateLimitRule b-16 rate=1/s burst=5 initial=2 algorithm=stepped-bucket
    </Location>
    <Location "/c/b-17">
        RateLimitRule b-17 rate=1/s burst=5 initial=0 algorithm=stepped-bucket
    </Location>
    <Location "/c/b-24">
        RateLimitRule b-24 rate=1000/hour
    </Location>
    <Location "/c/b-27">
        RateLimitRule b-27 rate=1/s initial=0 algorithm=stepped-bucket
    </Location>
    <Location "/c/b-30">
        RateLimitRule b-30 rate=3/3600s algorithm=stepped-bucket
    </Location>
    <Location "/c/b-31">
        RateLimitRule b-31 rate=100/h algorithm=stepped-bucket
    </Location>
    <Location "/c/b-34">
        RateLimitRule b-34 rate=2/10s algorithm=stepped-bucket start=1970-01-01T00:00:03Z
    </Location>
    <Location "/c/b-35">
        RateLimitRule b-35 rate=2/s burst=6 algorithm=stepped-bucket
    </Location>
    <Location "/c/l-01">
        RateLimitRule l-01 rate=1/s burst=5 algorithm=leaky-bucket
    </Location>
    <Location "/c/l-02">
        RateLimitRule l-02 rate=5/s algorithm=leaky-bucket
    </Location>
    <Location "/c/f-two">
        RateLimitRule f-two rate=2/60s algorithm=fixed-window
    </Location>
    <Location "/c/f-five">
        RateLimitRule f-five rate=5/5s algorithm=fixed-window
    </Location>
    <Location "/c/f-10">
        RateLimitRule f-10 rate=2/60s algorithm=fixed-window rate=2/60s algorithm=fixed-window start=1970-01-01T00:00:30Z
    </Location>
    <Location "/c/f-13">
        RateLimitRule f-13 rate=1/10s algorithm=fixed-window start=1970-01-01T00:00:03Z
    </Location>
    <Location "/c/s-08">
        RateLimitRule s-08 rate=3/2s algorithm=sliding-window
    </Location>
    <Location "/c/s-10">
        RateLimitRule s-10 rate=3/60s algorithm=sliding-window
    </Location>
    <Location "/c/s-11-window">
        RateLimitRule s-11-window rate=5/min algorithm=sliding-window
    </Location>
    <Location "/c/s-18">
        RateLimitRule s-18 rate=10/60s algorithm=sliding-window
    </Location>
    <Location "/c/log-three">
        RateLimitRule log-three rate=3/60s algorithm=sliding-log
    </Location>
    <Location "/c/log-two">
        RateLimitRule log-two rate=2/60s algorithm=sliding-log
    </Location>
    <Location "/c/log-short">
        RateLimitRule log-short rate=3/2s algorithm=sliding-log
    </Location>
    <Location "/c/log-300">
        RateLimitRule log-300 rate=300/min algorithm=sliding-log
    </Location>
    <Location "/c/s-09">
        RateLimitRule s-09 rate=10/min algorithm=sliding-log
    </Location>
    <Location "/c/s-11">
        RateLimitRule s-11 rate=5/min algorithm=sliding-log
    </Location>
    <Location "/c/s-12">
        RateLimitRule s-12 rate=1/500ms algorithm=sliding-log
    </Location>
    <Location "/c/s-21">
        RateLimitRule s-21 rate=10/60s algorithm=sliding-log
    </Location>
    <Location "/c/q-01">
        RateLimitRule q-01 quota=10
    </Location>
    <Location "/c/q-03">
        RateLimitRule q-03 quota=10 initial=3
    </Location>
    <Location "/c/q-five">
        RateLimitRule q-five quota=5
    </Location>
    <Location "/c/q-day">
        RateLimitRule q-day quota=3/day
    </Location>
    <Location "/c/p-09">
        RateLimitRule p-09 quota=0
    </Location>
    <Location "/c/whole">
        RateLimitRule whole plan=kinds-whole
    </Location>
    <LocationMatch "^/cgi/hit/one-">
        RateLimitCost response-header:X-Cost reserve=1
        RateLimitRule one-token rate=10/min "if=%{REQUEST_URI} -strmatch '*/one-token'"
        RateLimitRule one-stepped rate=10/min algorithm=stepped-bucket "if=%{REQUEST_URI} -strmatch '*/one-stepped'"
        RateLimitRule one-leaky rate=10/min algorithm=leaky-bucket "if=%{REQUEST_URI} -strmatch '*/one-leaky'"
        RateLimitRule one-window rate=10/min algorithm=fixed-window "if=%{REQUEST_URI} -strmatch '*/one-window'"
        RateLimitRule one-sliding rate=10/min algorithm=sliding-window "if=%{REQUEST_URI} -strmatch '*/one-sliding'"
        RateLimitRule one-log rate=10/min algorithm=sliding-log "if=%{REQUEST_URI} -strmatch '*/one-log'"
        RateLimitRule one-day quota=10/day "if=%{REQUEST_URI} -strmatch '*/one-day'"
        RateLimitRule one-quota quota=10 "if=%{REQUEST_URI} -strmatch '*/one-quota'"
    </LocationMatch>
    <LocationMatch "^/cgi/hit/none-">
        RateLimitCost response-header:X-Cost reserve=0
        RateLimitRule none-token rate=10/min "if=%{REQUEST_URI} -strmatch '*/none-token'"
        RateLimitRule none-stepped rate=10/min algorithm=stepped-bucket "if=%{REQUEST_URI} -strmatch '*/none-stepped'"
        RateLimitRule none-leaky rate=10/min algorithm=leaky-bucket "if=%{REQUEST_URI} -strmatch '*/none-leaky'"
        RateLimitRule none-window rate=10/min algorithm=fixed-window "if=%{REQUEST_URI} -strmatch '*/none-window'"
        RateLimitRule none-sliding rate=10/min algorithm=sliding-window "if=%{REQUEST_URI} -strmatch '*/none-sliding'"
        RateLimitRule none-log rate=10/min algorithm=sliding-log "if=%{REQUEST_URI} -strmatch '*/none-log'"
        RateLimitRule none-day quota=10/day "if=%{REQUEST_URI} -strmatch '*/none-day'"
        RateLimitRule none-quota quota=10 "if=%{REQUEST_URI} -strmatch '*/none-quota'"
    </LocationMatch>
    <If "-n req('X-Free')">
        RateLimitCost 0
    </If>
    <Location "/cgi/gate/held">
        RateLimitRule held plan=kinds-held
    </Location>
</VirtualHost>
