#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What a customer has used stays used, under each kind of limit: when the plan changes, and when the server does.

use strict;
use warnings;

use RLP::Httpd;
use RLP::Test;
use Test::More;

my $full = 'A9 A8 A7 A6 A5 A4 A3 A2 A1 A0';

# --- P-07: ten of free's ten are used, then the plan is pro with a hundred, then tiny with four, then free again

my @kinds = (
    # kind, used up, then refused by free, the time at tiny, free when all is earned again
    [ 'token', $full, 'D6', 'D15', '60: A9' ],
    [ 'stepped', $full, 'D60', 'D60', '60: A9' ],
    [ 'window', $full, 'D60', 'D60', '60: A9' ],
    [ 'sliding', $full, 'D61', 'D61', '120: A9' ],
    [ 'log', $full, 'D60', 'D60', '60: A9' ],
    [ 'day', $full, 'D86400', 'D86400', '86400: A9' ],
    [ 'quota', $full, 'D', 'D', '86400: D' ],
);
for my $case (@kinds) {
    my ($kind, $used, $refused, $tiny, $again) = @{$case};
    my ($t, $answer) = split /: /, $again;

    begin;
    is(answers(11, "/c/free/$kind"), "$used $refused", "P-07 carry, $kind: ten of ten are used");
    is(answers(1, "/c/pro/$kind"), 'A89', "P-07 carry, $kind: which are ten of a hundred");
    is(answers(1, "/c/tiny/$kind"), $tiny, "P-07 carry, $kind: a downgrade is empty, not in debt");
    is(answers(1, "/c/free/$kind"), $refused, "P-07 carry, $kind: flipping back gains nothing");
    is(answers(1, "/c/pro/$kind"), 'A88', "P-07 carry, $kind: and loses nothing");
    at $t;
    is(answers(1, "/c/free/$kind"), $answer, "P-07 carry, $kind: until it is earned again");

    begin;
    my %reset = (Host => 'carry-reset.test');
    is(answers(11, "/c/free/$kind", %reset), "$used $refused", "P-07 reset, $kind: ten of ten are used");
    is(answers(1, "/c/pro/$kind", %reset), 'A99', "P-07 reset, $kind: a new plan starts full");
    is(answers(5, "/c/tiny/$kind", %reset), "A3 A2 A1 A0 $tiny", "P-07 reset, $kind: each one");
    is(answers(1, "/c/free/$kind", %reset), $refused, "P-07 reset, $kind: the old one is as it was left");
    is(answers(1, "/c/pro/$kind", %reset), 'A98', "P-07 reset, $kind: and so is the new one");
}

# sections of two plans that are asked in turn, every two seconds for three minutes
for my $kind (qw(token stepped window)) {
    begin;
    my %admitted;
    for my $turn (0 .. 89) {
        at 2 * $turn;
        for my $plan (qw(pro free)) {
            $admitted{$plan} += answers(1, "/c/$plan/$kind") =~ /A/;
        }
    }
    is($admitted{pro}, 90, "P-07 in turn, $kind: the larger plan has all that it allows");
    cmp_ok($admitted{free}, '>', 0, '... the smaller one something');
    cmp_ok($admitted{free}, '<=', 40, '... and no more than it allows');
}

# one unit passes at a time, whatever the count
begin;
is(answers(2, '/c/free/leaky'), 'A0 D6', 'P-07 carry, leaky: the one that passes ...');
is(answers(1, '/c/pro/leaky'), 'D1', 'P-07 carry, leaky: ... passes, in its own time');
at 0.6;
is(answers(1, '/c/pro/leaky'), 'A0', 'P-07 carry, leaky: of the new plan');
begin;
is(answers(2, '/c/free/leaky', Host => 'carry-reset.test'), 'A0 D6', 'P-07 reset, leaky: used');
is(answers(2, '/c/pro/leaky', Host => 'carry-reset.test'), 'A0 D1', 'P-07 reset, leaky: a new plan starts empty');

# places: those in use are in use under any plan
gate('places', 0);
my (undef, @held) = crowd(3, 2, '/cgi/gate/places');
wait_for(sub { hits('places-waiting') == 2 });
is(ask('/c/pro/places')->header('X-RateLimit-Remaining'), 97, 'P-07 carry, places: two of two in use are two of a hundred');
is(get('/c/tiny/places')->status, 429, 'P-07 carry, places: and more than one');
gate('places', 1);
is(join(' ', map { $_->response->status } @held), '200 200', 'P-07 carry, places: they are answered');
ok($_->closed, 'and end') for @held;
is(get('/c/pro/places')->header('X-RateLimit-Remaining'), 99, 'P-07 carry, places: then all are free');

# --- restarts: two of five are used, one more in each life of the server

my %rules = (
    token => 'rate=5/week',
    stepped => 'rate=5/week algorithm=stepped-bucket',
    leaky => 'rate=1/week algorithm=leaky-bucket',
    window => 'rate=5/week algorithm=fixed-window',
    sliding => 'rate=5/week algorithm=sliding-window',
    log => 'rate=5/week algorithm=sliding-log',
    year => 'quota=5/year',
    quota => 'quota=5',
    places => 'concurrent=5',
    long => 'rate=4000/week algorithm=sliding-log',
);

SKIP: {
    skip 'no server of its own: ' . RLP::Httpd::missing(), 1 if RLP::Httpd::missing();
    my $server = RLP::Httpd->new(
        modules => ['alias'],
        clock => 1,
        config => "RateLimitEngine On\nRateLimitStore kept shm size=4M file=store\nAliasMatch \"^/\" \"\@DIR\@/htdocs/index.html\"\n"
            . join '', map { qq{<Location "/$_">\n    RateLimitRule $_ $rules{$_}\n</Location>\n} } sort keys %rules
    );
    my $ask = sub {
        return join ' ', map { "$_=" . ($server->get("/$_")->{fields}{'x-ratelimit-remaining'} // 'none') } sort keys %rules;
    };
    my $expected = sub {
        my ($left) = @_;
        return join ' ', map { "$_=" . ($_ eq 'places' ? 4 : $_ eq 'leaky' ? 0 : $_ eq 'long' ? 3995 + $left : $left) } sort keys %rules;
    };
    $server->start;
    is($ask->(), $expected->(4), 'each kind of limit, new');
    ok($server->graceful, 'graceful');
    is($ask->(), $expected->(3), 'each kind is as it was after graceful');
    ok($server->restart, 'restart');
    is($ask->(), $expected->(2), 'each kind is as it was after restart');
    ok($server->stop, 'stop');
    $server->set_clock(3600);
    $server->start;
    is($ask->(), $expected->(1), 'Q-08 each kind is as it was after stop and start');
    is($server->get('/leaky')->{status}, 429, 'the leaky bucket too');
    ok($server->stop, 'stop');
}

done_testing;

__DATA__
RateLimitPlan carry-token-free rate=10/min
RateLimitPlan carry-stepped-free rate=10/min algorithm=stepped-bucket
RateLimitPlan carry-leaky-free rate=10/min algorithm=leaky-bucket
RateLimitPlan carry-window-free rate=10/min algorithm=fixed-window
RateLimitPlan carry-sliding-free rate=10/min algorithm=sliding-window
RateLimitPlan carry-log-free rate=10/min algorithm=sliding-log
RateLimitPlan carry-day-free quota=10/day
RateLimitPlan carry-quota-free quota=10
RateLimitPlan carry-places-free concurrent=2
RateLimitPlan carry-token-pro rate=100/min
RateLimitPlan carry-stepped-pro rate=100/min algorithm=stepped-bucket
RateLimitPlan carry-leaky-pro rate=100/min algorithm=leaky-bucket
RateLimitPlan carry-window-pro rate=100/min algorithm=fixed-window
RateLimitPlan carry-sliding-pro rate=100/min algorithm=sliding-window
RateLimitPlan carry-log-pro rate=100/min algorithm=sliding-log
RateLimitPlan carry-day-pro quota=100/day
RateLimitPlan carry-quota-pro quota=100
RateLimitPlan carry-places-pro concurrent=100
RateLimitPlan carry-token-tiny rate=4/min
RateLimitPlan carry-stepped-tiny rate=4/min algorithm=stepped-bucket
RateLimitPlan carry-leaky-tiny rate=4/min algorithm=leaky-bucket
RateLimitPlan carry-window-tiny rate=4/min algorithm=fixed-window
RateLimitPlan carry-sliding-tiny rate=4/min algorithm=sliding-window
RateLimitPlan carry-log-tiny rate=4/min algorithm=sliding-log
RateLimitPlan carry-day-tiny quota=4/day
RateLimitPlan carry-quota-tiny quota=4
RateLimitPlan carry-places-tiny concurrent=2

<VirtualHost *:${RLP_PORT}>
    ServerName carry.test
    RateLimitEngine On
    <Location "/c/free">
        RateLimitRule token plan=carry-token-free "if=%{REQUEST_URI} -strmatch '*/token'"
        RateLimitRule stepped plan=carry-stepped-free "if=%{REQUEST_URI} -strmatch '*/stepped'"
        RateLimitRule leaky plan=carry-leaky-free "if=%{REQUEST_URI} -strmatch '*/leaky'"
        RateLimitRule window plan=carry-window-free "if=%{REQUEST_URI} -strmatch '*/window'"
        RateLimitRule sliding plan=carry-sliding-free "if=%{REQUEST_URI} -strmatch '*/sliding'"
        RateLimitRule log plan=carry-log-free "if=%{REQUEST_URI} -strmatch '*/log'"
        RateLimitRule day plan=carry-day-free "if=%{REQUEST_URI} -strmatch '*/day'"
        RateLimitRule quota plan=carry-quota-free "if=%{REQUEST_URI} -strmatch '*/quota'"
        RateLimitRule places plan=carry-places-free "if=%{REQUEST_URI} -strmatch '*/places'"
    </Location>
    <Location "/c/pro">
        RateLimitRule token plan=carry-token-pro "if=%{REQUEST_URI} -strmatch '*/token'"
        RateLimitRule stepped plan=carry-stepped-pro "if=%{REQUEST_URI} -strmatch '*/stepped'"
        RateLimitRule leaky plan=carry-leaky-pro "if=%{REQUEST_URI} -strmatch '*/leaky'"
        RateLimitRule window plan=carry-window-pro "if=%{REQUEST_URI} -strmatch '*/window'"
        RateLimitRule sliding plan=carry-sliding-pro "if=%{REQUEST_URI} -strmatch '*/sliding'"
        RateLimitRule log plan=carry-log-pro "if=%{REQUEST_URI} -strmatch '*/log'"
        RateLimitRule day plan=carry-day-pro "if=%{REQUEST_URI} -strmatch '*/day'"
        RateLimitRule quota plan=carry-quota-pro "if=%{REQUEST_URI} -strmatch '*/quota'"
        RateLimitRule places plan=carry-places-pro "if=%{REQUEST_URI} -strmatch '*/places'"
    </Location>
    <Location "/c/tiny">
        RateLimitRule token plan=carry-token-tiny "if=%{REQUEST_URI} -strmatch '*/token'"
        RateLimitRule stepped plan=carry-stepped-tiny "if=%{REQUEST_URI} -strmatch '*/stepped'"
        RateLimitRule leaky plan=carry-leaky-tiny "if=%{REQUEST_URI} -strmatch '*/leaky'"
        RateLimitRule window plan=carry-window-tiny "if=%{REQUEST_URI} -strmatch '*/window'"
        RateLimitRule sliding plan=carry-sliding-tiny "if=%{REQUEST_URI} -strmatch '*/sliding'"
        RateLimitRule log plan=carry-log-tiny "if=%{REQUEST_URI} -strmatch '*/log'"
        RateLimitRule day plan=carry-day-tiny "if=%{REQUEST_URI} -strmatch '*/day'"
        RateLimitRule quota plan=carry-quota-tiny "if=%{REQUEST_URI} -strmatch '*/quota'"
        RateLimitRule places plan=carry-places-tiny "if=%{REQUEST_URI} -strmatch '*/places'"
    </Location>
    <Location "/cgi/gate/places">
        RateLimitRule places plan=carry-places-free
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName carry-reset.test
    RateLimitEngine On
    RateLimitPlanChange reset
    <Location "/c/free">
        RateLimitRule token plan=carry-token-free "if=%{REQUEST_URI} -strmatch '*/token'"
        RateLimitRule stepped plan=carry-stepped-free "if=%{REQUEST_URI} -strmatch '*/stepped'"
        RateLimitRule leaky plan=carry-leaky-free "if=%{REQUEST_URI} -strmatch '*/leaky'"
        RateLimitRule window plan=carry-window-free "if=%{REQUEST_URI} -strmatch '*/window'"
        RateLimitRule sliding plan=carry-sliding-free "if=%{REQUEST_URI} -strmatch '*/sliding'"
        RateLimitRule log plan=carry-log-free "if=%{REQUEST_URI} -strmatch '*/log'"
        RateLimitRule day plan=carry-day-free "if=%{REQUEST_URI} -strmatch '*/day'"
        RateLimitRule quota plan=carry-quota-free "if=%{REQUEST_URI} -strmatch '*/quota'"
        RateLimitRule places plan=carry-places-free "if=%{REQUEST_URI} -strmatch '*/places'"
    </Location>
    <Location "/c/pro">
        RateLimitRule token plan=carry-token-pro "if=%{REQUEST_URI} -strmatch '*/token'"
        RateLimitRule stepped plan=carry-stepped-pro "if=%{REQUEST_URI} -strmatch '*/stepped'"
        RateLimitRule leaky plan=carry-leaky-pro "if=%{REQUEST_URI} -strmatch '*/leaky'"
        RateLimitRule window plan=carry-window-pro "if=%{REQUEST_URI} -strmatch '*/window'"
        RateLimitRule sliding plan=carry-sliding-pro "if=%{REQUEST_URI} -strmatch '*/sliding'"
        RateLimitRule log plan=carry-log-pro "if=%{REQUEST_URI} -strmatch '*/log'"
        RateLimitRule day plan=carry-day-pro "if=%{REQUEST_URI} -strmatch '*/day'"
        RateLimitRule quota plan=carry-quota-pro "if=%{REQUEST_URI} -strmatch '*/quota'"
        RateLimitRule places plan=carry-places-pro "if=%{REQUEST_URI} -strmatch '*/places'"
    </Location>
    <Location "/c/tiny">
        RateLimitRule token plan=carry-token-tiny "if=%{REQUEST_URI} -strmatch '*/token'"
        RateLimitRule stepped plan=carry-stepped-tiny "if=%{REQUEST_URI} -strmatch '*/stepped'"
        RateLimitRule leaky plan=carry-leaky-tiny "if=%{REQUEST_URI} -strmatch '*/leaky'"
        RateLimitRule window plan=carry-window-tiny "if=%{REQUEST_URI} -strmatch '*/window'"
        RateLimitRule sliding plan=carry-sliding-tiny "if=%{REQUEST_URI} -strmatch '*/sliding'"
        RateLimitRule log plan=carry-log-tiny "if=%{REQUEST_URI} -strmatch '*/log'"
        RateLimitRule day plan=carry-day-tiny "if=%{REQUEST_URI} -strmatch '*/day'"
        RateLimitRule quota plan=carry-quota-tiny "if=%{REQUEST_URI} -strmatch '*/quota'"
        RateLimitRule places plan=carry-places-tiny "if=%{REQUEST_URI} -strmatch '*/places'"
    </Location>
</VirtualHost>
