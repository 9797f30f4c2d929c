#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# then=PLAN: when a quota is used up, a slower plan takes over instead of a refusal.

use strict;
use warnings;

use RLP::Test;
use Test::More;

my $day = 86_400;

# The plan that has judged, by the variable and by both fields.
sub told {
    my ($response) = @_;
    return join ' | ', map { $response->header($_) // '-' } qw(X-Was-Plan RateLimit-Policy RateLimit);
}

# --- three a day, then two a minute

script 'three a day, then two a minute, and the next day three again', '/c/day',
    '0: A2 A1 A0 A1 A0 D30', '30: A0 D30', '86399: A1 A0 D30', '86400: A2 A1 A0 D29', '86460: A1';
script 'a quota that is never renewed: slow for good', '/c/ever', '0: A2 A1 A0 A1 A0 D30', "$day: A1 A0 D30", '300000: A1';
script 'the plan of a map or a default goes on like a named one', '/c/default', '0: A2 A1 A0 A1 A0 D30', "$day: A2";

begin;
is(told(get('/c/day')), 'then-day | "then-day";q=3;w=86400 | "then-day";r=2;t=86400', 'the first plan is told');
at 100;
get('/c/day') for 1 .. 2;
my $slow = get('/c/day');
is(told($slow), 'then-slow | "then-slow";q=2;w=60 | "then-slow";r=1;t=30', 'then the slow one, and not the used-up quota');
is($slow->header('X-RateLimit-Limit'), 2, 'with its limit');
get('/c/day');
my $refused = get('/c/day', Accept => 'application/json');
is($refused->status, 429, 'which refuses');
is(told($refused), 'then-slow | "then-slow";q=2;w=60 | "then-slow";r=0;t=30', 'in its own name');
is($refused->header('Retry-After'), 30, 'and with its own time, not that of the quota');
like($refused->body, qr/"violated-policies":\["then-slow"\]/, 'as the body says');
at $day;
is(told(get('/c/day')), 'then-day | "then-day";q=3;w=86400 | "then-day";r=2;t=86400', 'the first one again the next day');

# --- a used-up quota neither charges nor refuses

script 'one unit left: who costs two is judged by the slow plan, who costs one by the first', '/c/cost',
    '0*2: A1', '0*2: A0', '0: A0', '0: D30', '30: A0';
script 'a request above the capacity of the quota goes to the slow plan too', '/c/large', '0*5: A5', '0*3: A0', '0*6: D30', '0*11: D';
script 'a refusal of the first plan charges nothing of it', '/c/strict', '0: A1 A0 D30 D30 D30', '60: A0', '60: A2';
begin;
is(answers(3, '/c/strict'), 'A1 A0 D30', 'the rate of the first plan refuses');
is(get('/c/strict')->header('X-Was-Plan'), 'then-strict', 'in its name, as long as the quota lasts');

# --- one counter for limits of one signature

script 'a minute in both plans is one minute: units used stay used', '/c/same', '0: A4 A3 A2 A1 A0 D30', '30: A0 D30', '90: A1';
script 'a day in both plans is one day', '/c/days', '0: A2 A1 A0 A1 A0', '0: D86400', '86400: A2 A1 A0 A1 A0 D86400';
script 'the slow plan is not charged before its time', '/c/wider', '0: A2 A1 A0', '0: A1 A0 D30';

# --- given back where it was charged

begin;
is(join(' ', map { ask('/cgi/hit/given?Status=500')->status } 1 .. 9), join(' ', (500) x 9), 'errors use up neither plan');
is(told(ask('/cgi/hit/given')), 'then-day | "then-day";q=3;w=86400 | "then-day";r=2;t=86400', 'nothing is used of the quota');
ask('/cgi/hit/given') for 1 .. 2;
is(told(ask('/cgi/hit/given?Status=500')), 'then-slow | "then-slow";q=2;w=60 | "then-slow";r=1;t=30', 'an error under the slow plan');
is(told(ask('/cgi/hit/given')), 'then-slow | "then-slow";q=2;w=60 | "then-slow";r=1;t=30', 'gives back to the slow plan, not to the quota');

# --- places held under either plan are the same ones

begin;
for my $plan ('then-places', 'then-place') {
    gate("then-$plan", 0);
    my (undef, $slow) = crowd(1, 1, "/cgi/gate/then-$plan");
    wait_for(sub { hits("then-$plan-waiting") });
    my $second = get('/c/places');
    is($second->status, 429, "one place is held under $plan, the slow plan has no other");
    is($second->header('RateLimit'), '"then-place-concurrent";r=0;t=1, "then-place";r=' . ($plan eq 'then-place' ? '8;t=48' : '10;t=60'),
        'which alone is told');
    is($second->header('Retry-After'), 1, 'for a second');
    gate("then-$plan", 1);
    is($slow && $slow->response->header('X-Was-Plan'), $plan, "the first is answered, as judged by $plan");
    ok($slow && $slow->closed, 'and ends');
    is(ask('/c/places')->header('X-Was-Plan'), 'then-place', 'then the place is free') if $plan eq 'then-places';
}
at $day;
is(get('/c/places')->header('X-Was-Plan'), 'then-places', 'the next day the first plan judges again');

# --- at once

for my $round (1 .. 3) {
    begin;
    my %got;
    $got{ answer($_) }++ for together(50, '/c/day');
    my %expected = (A2 => 1, A1 => 2, A0 => 2, D30 => 45);
    is_deeply(\%got, \%expected, "of fifty at once three go by the quota and two by the slow plan, round $round") || diag(explain \%got);
}

begin;
is(join(' ', map { get('/c/dry')->header('X-Was-Action') } 1 .. 7), 'pass pass pass pass pass would-deny would-deny',
    'a dry run goes on under the slow plan');
is(get('/c/dry')->header('X-Was-Plan'), 'then-slow', 'and says so');
begin;
is(statuses(6, '/c/quiet'), '200 200 200 200 200 429', 'it does where no field tells');

begin;
is(get('/c/two')->header('RateLimit'), '"then-day";r=2;t=86400, "of-all";r=99;t=60', 'beside another rule');
get('/c/two') for 1 .. 2;
is(get('/c/two')->header('RateLimit'), '"then-slow";r=1;t=30, "of-all";r=96;t=58', 'the slow plan too');

done_testing;

__DATA__
RateLimitPlan then-slow rate=2/min
RateLimitPlan then-day quota=3/day then=then-slow
RateLimitPlan then-ever quota=3 then=then-slow
RateLimitPlan then-ten rate=10/5min
RateLimitPlan then-large quota=3/day then=then-ten
RateLimitPlan then-strict rate=2/min quota=3/day then=then-three
RateLimitPlan then-three rate=3/hour
RateLimitPlan then-same rate=5/min quota=5/day then=then-slow
RateLimitPlan then-five quota=5/day
RateLimitPlan then-place rate=10/min concurrent=1
RateLimitPlan then-places quota=1/day concurrent=2 then=then-place
RateLimitPlan then-days quota=3/day then=then-five

<VirtualHost *:${RLP_PORT}>
    ServerName then.test
    RateLimitEngine On
    RateLimitEnv always
    RateLimitPlanDefault then-day
    Header always set X-Was-Plan "%{RATELIMIT_PLAN}e"
    Header always set X-Was-Action "%{RATELIMIT_ACTION}e"
    SetEnvIf Request_Method "." COST=1
    SetEnvIf X-Cost "^(.+)$" COST=$1
    <Location "/c/day">
        RateLimitRule day plan=then-day
    </Location>
    <Location "/c/ever">
        RateLimitRule ever plan=then-ever
    </Location>
    <Location "/c/default">
        RateLimitRule default
    </Location>
    <Location "/c/cost">
        RateLimitRule cost plan=then-day "cost=expr=%{reqenv:COST}"
    </Location>
    <Location "/c/large">
        RateLimitRule large plan=then-large "cost=expr=%{reqenv:COST}"
    </Location>
    <Location "/c/strict">
        RateLimitRule strict plan=then-strict
    </Location>
    <Location "/c/same">
        RateLimitRule same plan=then-same
    </Location>
    <Location "/c/days">
        RateLimitRule days plan=then-days
    </Location>
    <Location "/c/wider">
        RateLimitRule wider plan=then-day
    </Location>
    <LocationMatch "^/(c/places|cgi/gate/then-)">
        RateLimitRule places plan=then-places
    </LocationMatch>
    <Location "/cgi/hit/given">
        RateLimitRule given plan=then-day
        RateLimitRefund "expr=%{REQUEST_STATUS} -ge 500"
    </Location>
    <Location "/c/dry">
        RateLimitEngine LogOnly
        RateLimitRule dry plan=then-day
    </Location>
    <Location "/c/quiet">
        RateLimitEnv auto
        RateLimitHeaders Off
        RateLimitRule quiet plan=then-day
    </Location>
    <Location "/c/two">
        RateLimitRule two plan=then-day
        RateLimitRule of-all rate=100/min
    </Location>
</VirtualHost>
