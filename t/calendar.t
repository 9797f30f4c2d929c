#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Quotas of calendar periods: each begins with its midnight, in its zone, however long the one before was.

use strict;
use warnings;

use POSIX qw(mktime tzset);
use RLP::Test;
use Test::More;
use Time::Local qw(timegm);

my $day = 86_400;

# --- edges

# The seconds of this case at which the next period begins, from t=0 (a midnight in UTC) on.
sub next_edge {
    my ($period) = @_;
    my (undef, undef, undef, $mday, $month, $year, $wday) = gmtime clock->epoch(0);
    return $day if $period eq 'day';
    return (7 - ($wday + 6) % 7) * $day if $period eq 'week'; # until Monday
    my $begin = $period eq 'year' ? timegm(0, 0, 0, 1, 0, $year + 1) : timegm(0, 0, 0, 1, ($month + 1) % 12, $year + ($month == 11));
    return $begin - clock->epoch(0);
}

# The same for a midnight of a zone, this many days ahead.
sub midnight {
    my ($zone, $days) = @_;
    local $ENV{TZ} = $zone;
    tzset();
    my (undef, undef, undef, $mday, $month, $year) = localtime clock->epoch(0);
    my $at = mktime(0, 0, 0, $mday + $days, $month, $year, 0, 0, -1);
    delete $ENV{TZ};
    tzset();
    return $at - clock->epoch(0);
}

# Three in a period that ends at `end`, and three in the next one.
sub edge {
    my ($name, $path, $end, $begin) = @_;
    my @happened;
    for my $t ($begin || 0, $end - 1, $end) {
        at $t;
        push @happened, answers($t < $end ? 4 : 3, $path) =~ s/\bA2 A1 A0\b/three/r;
    }
    my $left = $end - ($begin || 0);
    is(join(' | ', @happened), "three D$left | D1 D1 D1 D1 | three", $name);
    return;
}

for my $period (qw(day week month year)) {
    begin;
    edge("quota=3/$period: until the next one begins", "/c/$period", next_edge($period));
}
begin;
at $day - 1;
is(answers(3, '/c/day'), 'A2 A1 A0', 'three in the last second of a day');
at $day;
is(answers(4, '/c/day'), "A2 A1 A0 D$day", 'and three in the first one of the next: days do not slide');

begin;
my $leap = (gmtime clock->epoch(400 * $day))[5]; # a year that no test has seen, in the count of gmtime
$leap++ while $leap % 4;
my $february = timegm(0, 0, 0, 1, 1, $leap) - clock->epoch(0);
at $february;
is(answers(4, '/c/month'), 'A2 A1 A0 D' . 29 * $day, 'February of a leap year has 29 days');
at $february + 29 * $day - 1;
is(answers(1, '/c/month'), 'D1', 'all of them');
at $february + 29 * $day;
is(answers(4, '/c/month'), 'A2 A1 A0 D' . 31 * $day, 'and March 31');

# --- zones

for my $case ([ 'Europe/Berlin', '/c/berlin' ], [ 'Asia/Kathmandu', '/c/kathmandu' ], [ 'America/New_York', '/c/new-york' ]) {
    my ($zone, $path) = @{$case};
    begin;
    edge("$zone has midnights of its own", $path, midnight($zone, 2), midnight($zone, 1));
}
for my $case ([ 'spring', 2, 23 ], [ 'autumn', 9, 25 ]) {
    my ($when, $month, $hours) = @{$case};
    my $sunday = 31 - (gmtime timegm(0, 0, 0, 31, $month, $leap))[6]; # the last of the month
    begin;
    at timegm(0, 0, 12, $sunday - 5, $month, $leap) - clock->epoch(0);
    begin;
    my ($begin) = grep { midnight('Europe/Berlin', $_ + 1) - midnight('Europe/Berlin', $_) != $day } 0 .. 5;
    is((midnight('Europe/Berlin', $begin + 1) - midnight('Europe/Berlin', $begin)) / 3600, $hours, "$when: a day of $hours hours in Berlin");
    edge("$when: is counted as one", '/c/berlin', midnight('Europe/Berlin', $begin + 1), midnight('Europe/Berlin', $begin));
}

# --- the wall clock

begin;
at 3600;
is(answers(2, '/c/day'), 'A2 A1', 'two of today');
clock->step_wall(-1800);
is(answers(1, '/c/day'), 'A0', 'half an hour back is the same day');
clock->step_wall(1800);
at $day + 0.3;
is(answers(2, '/c/day'), 'A2 A1', 'two of the next day');
clock->step_wall(-0.5);
is(answers(2, '/c/day'), 'A0 D' . ($day + 1), 'half a second back to yesterday: still the next day');
clock->step_wall(0.5);
is(answers(1, '/c/day'), "D$day", 'and on the way back');
begin;
at $day + 10;
is(answers(2, '/c/day'), 'A2 A1', 'two of another day');
clock->step_wall(-60);
is(answers(2, '/c/day'), 'A0 D50', 'a minute back to yesterday gives nothing again');
clock->step_wall(60);

# --- beside other limits, and given back

script 'a minute, a day and a month', '/c/all', '0: A1 A0 D30', '60: A1 A0', '120: A0 D86280', '86400: A1 A0 D30';
begin;
at $day - 60;
is(join(' ', map { ask('/cgi/hit/late?X-Cost=2')->status } 1 .. 2), '200 429', 'two of three a day, by the response');
at $day;
is(ask('/cgi/hit/late?X-Cost=1')->header('X-RateLimit-Remaining'), 1, 'the next day begins full');
for my $case ([ 'more', 2, 'A0' ], [ 'nothing', 0, 'A1' ]) {
    my ($what, $cost, $then) = @{$case};
    begin;
    at $day - 1;
    gate("midnight-$what", 0);
    my (undef, $slow) = crowd(1, 1, "/cgi/gate/midnight-$what?X-Cost=$cost");
    wait_for(sub { hits("midnight-$what-waiting") });
    at $day;
    is(answers(1, '/c/midnight'), 'A2', 'one of the next day');
    gate("midnight-$what", 1);
    is($slow && $slow->response->status, 200, "a request of yesterday is answered, and costs $what");
    ok($slow && $slow->closed, 'and ends');
    is(answers(1, '/c/midnight'), $then, 'more is charged today, and what was charged yesterday is not given back today');
}

done_testing;

__DATA__
<VirtualHost *:${RLP_PORT}>
    ServerName calendar.test
    RateLimitEngine On
    <Location "/c/day">
        RateLimitRule day quota=3/day
    </Location>
    <Location "/c/week">
        RateLimitRule week quota=3/week
    </Location>
    <Location "/c/month">
        RateLimitRule month quota=3/month@UTC
    </Location>
    <Location "/c/year">
        RateLimitRule year quota=3/year
    </Location>
    <Location "/c/berlin">
        RateLimitRule berlin quota=3/day@Europe/Berlin
    </Location>
    <Location "/c/kathmandu">
        RateLimitRule kathmandu quota=3/day@Asia/Kathmandu
    </Location>
    <Location "/c/new-york">
        RateLimitRule new-york quota=3/day@America/New_York
    </Location>
    <Location "/c/all">
        RateLimitRule all rate=2/min quota=5/day quota=100/month
    </Location>
    <Location "/cgi/hit/late">
        RateLimitRule late quota=3/day cost=response-header:X-Cost reserve=2
    </Location>
    <LocationMatch "^/(c/midnight|cgi/gate/midnight-\w+)$">
        RateLimitRule midnight quota=3/day
    </LocationMatch>
    <LocationMatch "^/cgi/gate/midnight-">
        RateLimitCost response-header:X-Cost
    </LocationMatch>
</VirtualHost>
