#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Requests that come at once, to all processes and threads there are: exactly as many are admitted as one after the
# other, and each is told another rest.

use strict;
use warnings;

use RLP::Test;
use Test::More;

my @crowds = (
    # name, path, how many at once, admitted, the refused are told to come back in
    [ 'T-24 a token bucket of five', '/c/t-24', 50, 5, 12 ],
    [ 'F-03 a window of ten, at its start', '/c/f-03', 100, 10, 60 ],
    [ 'steps of five', '/c/stepped', 50, 5, 60 ],
    [ 'a plan of two limits', '/c/two', 50, 3, 1200 ],
    [ 'two rules', '/c/rules', 50, 4, 15 ],
    [ 'a directory\'s index', '/directory/', 50, 5, 12 ],
);
for my $case (@crowds) {
    my ($name, $path, $crowd, $admitted, $wait) = @{$case};
    for my $round (1 .. 3) {
        begin;
        my %got;
        $got{ answer($_) }++ for together($crowd, $path);
        my %expected = map { ("A$_" => 1) } 0 .. $admitted - 1;
        $expected{"D$wait"} = $crowd - $admitted;
        is_deeply(\%got, \%expected, "$name: $crowd at once, round $round") || diag(explain \%got);
    }
}

begin;
my %dry;
$dry{ $_->header('X-Action') }++ for together(50, '/c/dry');
is_deeply(\%dry, { 'pass' => 5, 'would-deny' => 45 }, 'a dry run counts as exactly');

done_testing;

__DATA__
RateLimitPlan parallel-two rate=5/min rate=3/hour

<VirtualHost *:${RLP_PORT}>
    ServerName parallel.test
    RateLimitEngine On
    <Location "/c/t-24">
        RateLimitRule t-24 rate=5/min
    </Location>
    <Location "/c/f-03">
        RateLimitRule f-03 rate=10/min algorithm=fixed-window
    </Location>
    <Location "/c/stepped">
        RateLimitRule stepped rate=5/min algorithm=stepped-bucket
    </Location>
    <Location "/c/two">
        RateLimitRule two plan=parallel-two
    </Location>
    <Location "/c/rules">
        RateLimitRule wide rate=9/min key=global
        RateLimitRule tight rate=4/min
    </Location>
    <Location "/directory/">
        RateLimitRule directory rate=5/min
    </Location>
    <Location "/c/dry">
        RateLimitEngine LogOnly
        RateLimitEnv always
        Header always set X-Action "%{RATELIMIT_ACTION}e"
        RateLimitRule dry rate=5/min
    </Location>
</VirtualHost>
