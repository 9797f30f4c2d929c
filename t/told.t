#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Lines of the log that nothing but a fault brings about: each is provoked, read, and said as often as docs/operations.md
# has it, and what becomes of requests meanwhile.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use RLP::Httpd;
use RLP::Redis;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my $examples = $ENV{C_MODULES} || ($ENV{builddir} || '.') . '/t/c-modules';
my $one_process = "StartServers 1\nServerLimit 1\n"
    . ($RLP::Httpd::mpm eq 'prefork' ? "MinSpareServers 1\nMaxSpareServers 1\nMaxRequestWorkers 1\n" : "ThreadsPerChild 8\nMaxRequestWorkers 8\n");

sub server {
    my ($config, %option) = @_;
    return RLP::Httpd->new(config => "${one_process}RateLimitEngine On\nRateLimitIdentity ip\n$config\n", %option);
}

sub lines {
    my ($server, $number) = @_;
    return grep { /\b$number: / } split /\n/, $server->log_text;
}

# Exactly so many lines with that number, each of that level and text, and no other of ours but those named.
sub told {
    my ($server, $number, $n, $level, $text, $others) = @_;
    ok(RLP::Httpd::wait_for(sub { lines($server, $number) >= $n }), "$number is said");
    my @lines = lines($server, $number);
    is(scalar @lines, $n, "$number: how often") or diag join "\n", @lines;
    is(scalar(grep { !/\[ratelimit_plans:$level\].*$number: $text/ } @lines), 0, "$number: $level, and what it says") or diag join "\n", @lines;
    my @odd = grep { !/$number|RLP001/ && (!$others || !/$others/) } lines($server, 'RLP\d+');
    return is("@odd", '', "$number: and nothing else");
}

# --- 005: too many limits for one request

SKIP: {
    skip 'httpd has no mod_setenvif', 1 if !RLP::Httpd::has_module('setenvif');
    my $rules = join "\n", map { "RateLimitRule r$_ key=who" } 1 .. 13;
    my $server = server("SetEnvIf X-Who (.+) WHO=\$1\nRateLimitIdentity who=env:WHO\nRateLimitPlanMap who txt:who unknown=next\n"
            . 'RateLimitPlan large ' . join(' ', map { "rate=9/${_}day" } 1 .. 5) . "\n"
            . 'RateLimitPlan fits ' . join(' ', map { "rate=9/${_}day" } 1 .. 4) . "\n<Location /index.html>\n$rules\n</Location>",
        modules => ['setenvif']);
    $server->file('who', "ann large\nbob fits\n");
    $server->start;
    is($server->statuses(2, '/index.html', 'X-Who: bob'), '200 200', 'RLP005: 52 limits are not too many');
    is($server->statuses(3, '/index.html', 'X-Who: ann'), '500 500 500', 'RLP005: 65 are');
    told($server, 'RLP005', 1, 'error', 'more than 64 rules or limits apply to one request: use fewer in one place');
    is($server->get('/index.html', 'X-Who: bob')->{fields}{'x-ratelimit-remaining'}, 6, 'RLP005: others are served and counted');
    is($server->get('/index.html', 'X-Who: ann')->{fields}{ratelimit}, undef, 'RLP005: no limit is told with it');
    ok($server->stop, 'RLP005: it stops as ever');
}

{
    my $path = '';
    my $rules = 'RateLimitRule met rate=9/day';
    for my $n (15, 16, 16, 16, 1) { # and one of the server: 64 in the fourth, 65 in the fifth
        $path .= '/in';
        my $section = $path =~ tr{/}{};
        $rules .= join "\n", "\n<Location $path>", (map { "RateLimitRule r$section-$_ rate=9/day method=DELETE" } 1 .. $n), '</Location>';
    }
    my $server = server($rules)->start;
    is($server->statuses(2, '/in/in/in/in'), '404 404', 'RLP005: 64 rules are not too many');
    is($server->statuses(2, '/in/in/in/in/in'), '500 500', 'RLP005: 65 are, though but one of them is for such requests');
    told($server, 'RLP005', 1, 'error', 'more than 64 rules or limits apply to one request: use fewer in one place');
    ok($server->stop, 'RLP005: it stops as ever');
}

# --- 010, 011: the file of the store

sub damage {
    my ($server, $how) = @_;
    my $file = $server->file('counters');
    return RLP::Httpd::spill($file, "no counters\n" x 1000) if $how eq 'other content';
    return chmod 0644, $file if $how eq 'others may read it';
    return truncate $file, 4096 if $how eq 'cut short';
    return link $file, $server->file('second') if $how eq 'a second name';
    return RLP::Httpd::spill($file, '');
}

for my $how ('other content', 'others may read it', 'cut short', 'a second name') {
    my $server = server("RateLimitStore s shm size=1M file=counters\nRateLimitRule site rate=2/week")->start;
    is($server->statuses(3, '/index.html'), '200 200 429', "RLP010 $how: before");
    ok($server->stop && damage($server, $how), "RLP010 $how: done to it");
    $server->start;
    is($server->statuses(3, '/index.html'), '200 200 429', "RLP010 $how: begun anew");
    # the start reads the configuration once, and opens the store once
    told($server, 'RLP010', 1, 'warn', '.*counters');
    ok($server->graceful, "RLP010 $how: a graceful restart");
    is($server->statuses(1, '/index.html'), '429', "RLP010 $how: which forgets nothing");
    is(scalar(my @again = lines($server, 'RLP010')), 1, "RLP010 $how: and says it no more");
    is($server->stop && (stat $server->file('counters'))[2] & 0777, 0600, "RLP010 $how: nobody else may read it");
}

{
    my $config = "${one_process}RateLimitEngine On\nRateLimitRule site rate=9/week\nRateLimitStore s shm ";
    my $server = RLP::Httpd->new(config => "${config}size=1M file=one\n")->start;
    my $left = sub { return $server->get('/index.html')->{fields}{'x-ratelimit-remaining'} };
    is($left->(), 8, 'RLP011: before');
    my @steps = (
        # options of the store, lines in all, what it is
        [ 'size=1M file=one', 0, 'the same' ],
        [ 'size=2M file=one', 1, 'another size' ],
        [ 'size=2M file=two', 2, 'another file' ],
        [ 'size=1M file=one', 2, 'as before' ],
        [ 'size=1M file=two', 3, 'another file alone' ],
    );
    my $rest = 8;
    for my $step (@steps) {
        my ($options, $n, $name) = @{$step};
        $server->configure("$config$options\n");
        ok($server->graceful, "RLP011 $name: a graceful restart");
        is($left->(), --$rest, "RLP011 $name: counters stay");
        is(scalar(my @said = lines($server, 'RLP011')), $n, "RLP011 $name: $n lines");
    }
    told($server, 'RLP011', 3, 'notice', 'the store stays .*/one with 1048576 bytes until the next stop and start');
    ok(!-e $server->file('two'), 'RLP011: no other file is made');
    ok($server->stop && $server->start, 'RLP011: a stop and a start');
    is($left->(), 8, 'RLP011: which takes the new file');
    is(scalar(my @said = lines($server, 'RLP011')), 3, 'RLP011: and has nothing to say');
}

# --- 007, 015, 016: children that miss files or threads; 008, 021, 022: providers that miss something

my @faults = (
    # number, level, text, modules, configuration, "METHOD statuses" of four requests, what follows, other lines
    [ 'RLP007', 'error', 'no request of this process can wait', 'Define STARVE_FILES',
        "RateLimitDelay max=10min\nRateLimitRule site rate=1/min burst=1 action=delay", '200 429 429 429', 'they are judged without waiting' ],
    [ 'RLP008', 'error', 'more than 1024 processes: concurrent= refuses the requests of this one', '',
        "RateLimitStore s crowded\nRateLimitRule site concurrent=5", '429 429 429 429', 'no place is given' ],
    [ 'RLP008', 'error', 'more than 1024 processes', '',
        "RateLimitStore s shm size=1M\nRateLimitStore t crowded\nRateLimitRule site rate=2/week\nRateLimitRule apart rate=9/week store=t",
        '200 200 429 429', 'limits without places are judged as ever' ],
    [ 'RLP015', 'error', 'this process does not read plan maps again when they change', 'Define STARVE_THREADS',
        "RateLimitPlan p rate=3/week\nRateLimitIdentity key=header:X-Key ip\nRateLimitPlanMap key txt:people\nRateLimitRule site rate=1/week",
        '200 200 200 429', 'what was read at the start counts' ],
    [ 'RLP016', 'error', 'this process does not ask databases for plans', 'Define STARVE_THREADS',
        "RateLimitPlan slow rate=3/week\nRateLimitIdentity key=header:X-Key ip\nRateLimitPlanMap key drowsy: unknown=next\nRateLimitRule site rate=1/week",
        '200 429 429 429', 'all values are unknown' ],
    [ 'RLP021', 'crit', 'the store is not there for this process', '',
        "RateLimitStore s absent\nRateLimitRule site rate=1/week", '200 200 200 200', 'requests pass' ],
    [ 'RLP022', 'error', 'plan map of key: its provider is not ready in this process', '',
        "RateLimitPlan p rate=3/week\nRateLimitIdentity key=header:X-Key ip\nRateLimitPlanMap key unready: unknown=next\nRateLimitRule site rate=2/week",
        '200 200 429 429', 'its values are unknown', 'RLP017' ],
);
SKIP: {
    skip 'the modules of the tests are not built', 1 if !-e "$examples/mod_rlp_starved.so";
    for my $case (@faults) {
        my ($number, $level, $text, $define, $config, $statuses, $name, $others) = @{$case};
        my $load = join '', map { qq{LoadModule rlp_${_}_module "$examples/mod_rlp_$_.so"\n} } qw(starved misfits);
        my $server = server("$load$define\n$config");
        $server->file('people', "a p\n");
        $server->start;
        is($server->statuses(4, '/index.html', 'X-Key: a'), $statuses, "$number: $name");
        told($server, $number, 1, $level, $text, $others);
        ok($server->graceful, "$number: a graceful restart");
        ok(RLP::Httpd::wait_for(sub { lines($server, $number) == 2 }), "$number: each process says it, once");
        ok($server->stop, "$number: it stops as ever");
    }
}

# --- 030 to 033: Redis

SKIP: {
    skip RLP::Redis::missing(), 1 if RLP::Redis::missing();
    for my $failure (qw(local open closed)) {
        my $redis = RLP::Redis->alone;
        my $server = server('RateLimitStore far redis url=redis://127.0.0.1:' . $redis->port
                . " failure=$failure hosts=1 timeout=5s connect=5s recovery=300ms\nRateLimitRule site rate=100/week");
        $server->start;
        is($server->statuses(2, '/index.html'), '200 200', "RLP033 $failure: before");
        is(scalar(my @before = lines($server, 'RLP03.')), 0, "RLP033 $failure: nothing is said");
        my $began = time;
        $redis->kill9;
        ok(RLP::Httpd::wait_for(sub { $server->get('/index.html'); lines($server, 'RLP031') }), "RLP031 $failure: it is asked once again");
        is(scalar(grep { !/\[ratelimit_plans:info\].*RLP031: Redis at 127[.]0[.]0[.]1:\d+ is asked once, to see whether it is back$/ } lines($server, 'RLP031')),
            0, "RLP031 $failure: at level info");
        $server->get('/index.html') for 1 .. 20;
        my @said = lines($server, 'RLP033');
        my $minutes = int((time - $began) / 60);
        ok(@said >= 1 && @said <= 1 + $minutes, "RLP033 $failure: once a minute") or diag join "\n", @said;
        like($said[0], qr/\[ratelimit_plans:warn\].*RLP033: Redis did not answer a question, failure=$failure \(said once a minute and process\)/,
            "RLP033 $failure: with what becomes of requests");
        my @order = map { /\b(RLP03\d): /g } lines($server, 'RLP03[01]');
        is("@order[0, 1]", 'RLP030 RLP031', "RLP030 $failure: first it is not asked for a while");
        $redis->start;
        ok(RLP::Httpd::wait_for(sub { $server->get('/index.html'); lines($server, 'RLP032') }), "RLP032 $failure: it is back");
        @order = map { /\b(RLP03\d): /g } lines($server, 'RLP03[0-2]');
        is("@order[-2, -1]", 'RLP031 RLP032', "RLP032 $failure: one that asked has found out");
        # one line a transition, whichever child makes it: each opening is followed by one look, the last one closes
        my %times;
        $times{$_}++ for @order;
        is($times{RLP030}, $times{RLP031}, "K-20 $failure: opened as often as looked at");
        is($times{RLP032}, 1, "K-20 $failure: closed once");
        is("@order", join(' ', ('RLP030 RLP031') x $times{RLP030}, 'RLP032'), "K-20 $failure: in this order, each told once");
        ok($server->stop, "RLP032 $failure: it stops as ever");
    }
}

done_testing;
