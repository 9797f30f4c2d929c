#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The logs: what clients can cause in the error log is bounded, fail2ban reads it, the access log says what was
# decided, and both may be renamed while httpd runs.

use strict;
use warnings;

use File::Basename qw(dirname);
use Test::More;

use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my $conf = dirname(dirname(File::Spec->rel2abs($0))) . '/conf';
my $one_process = "StartServers 1\nServerLimit 1\n"
    . ($RLP::Httpd::mpm eq 'prefork' ? "MinSpareServers 1\nMaxSpareServers 1\nMaxRequestWorkers 1\n" : "ThreadsPerChild 8\nMaxRequestWorkers 8\n");

sub lines {
    my ($server, $pattern) = @_;
    return grep { /$pattern/ } split /\n/, $server->log_text;
}

# --- expressions that fail

# One that cannot be evaluated.
my $failing = q{file('@DIR@/nowhere') == 'x'};

my @expressions = (
    # what the line has, how it is said, statuses of three requests
    [ 'if= of rule wrong', qq{RateLimitRule wrong rate=1/week "if=$failing"}, '200 200 200' ],
    [ 'count= of rule wrong', qq{RateLimitRule wrong rate=1/week "count=response:$failing"}, '200 200 200' ],
    [ 'RateLimitRefund for rule wrong', qq{RateLimitRule wrong rate=99/week\nRateLimitRefund "expr=$failing"}, '200 200 200' ],
    [ 'RateLimitExempt', qq{RateLimitRule wrong rate=1/week\nRateLimitExempt "expr=$failing"}, '200 429 429' ],
    [ 'identity odd', qq{RateLimitIdentity "odd=expr:%{base64:x}%{file:\@DIR\@/nowhere}"\nRateLimitRule wrong rate=1/week}, '200 200 200' ],
);
for my $case (@expressions) {
    my ($whose, $text, $statuses) = @{$case};
    my $server = RLP::Httpd->new(clock => 1, config => "${one_process}RateLimitEngine On\nRateLimitIdentity ip\n$text\n");
    $server->start;
    is($server->statuses(3, '/index.html'), $statuses, "$whose: an expression that fails, and what follows from it");
    ok(RLP::Httpd::wait_for(sub { lines($server, 'RLP003') }), "$whose: a line in the log");
    $server->get('/index.html') for 1 .. 5;
    my @said = lines($server, 'RLP003');
    is(scalar @said, 1, "$whose: one, however many clients cause it") || diag join "\n", @said;
    like($said[0], qr/\[client 127[.]0[.]0[.]1:\d+\] RLP003: \Q$whose\E: \S/, "$whose: which says what fails");
    SKIP: {
        skip 'no clock of the test (TESTCLOCK_SO)', 2 if !RLP::Httpd::has_clock();
        $server->set_clock(59);
        $server->get('/index.html');
        is(scalar(my @within = lines($server, 'RLP003')), 1, "$whose: in a minute");
        $server->set_clock(61);
        $server->get('/index.html');
        ok(RLP::Httpd::wait_for(sub { lines($server, 'RLP003') == 2 }), "$whose: and again after one");
    }
    ok($server->stop, "$whose: it stops as ever");
}

SKIP: {
    skip 'httpd has no mod_setenvif', 1 if !RLP::Httpd::has_module('setenvif');
    my $server = RLP::Httpd->new(modules => ['setenvif'], config => "${one_process}SetEnvIf X-Plan (.*) PLAN=\$1\n"
            . "RateLimitEngine On\nRateLimitPlan free rate=9/week\nRateLimitIdentity key=header:X-Key ip\n"
            . "RateLimitPlanMap key expr:%{env:PLAN}\nRateLimitRule site rate=9/week\n");
    $server->start;
    $server->get('/index.html', 'X-Key: a', "X-Plan: no-plan-$_") for 1 .. 5;
    is(scalar(my @said = lines($server, 'RLP014: plan map of key: the expression names no plan')), 1, 'plans that clients invent are one line');
}

done_testing;
