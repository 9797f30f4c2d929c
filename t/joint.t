#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Two stores that answer as one: all or none, places that come back in both, plans that change over both, and restarts
# that forget neither. The test's clock stands still, but for what is about waiting.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime);

use RLP::Backend;
use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'the test has no clock of its own' if !RLP::Httpd::has_clock();

my $two = "RateLimitStore near shm size=1M\nRateLimitStore beside shm size=1M\n";

sub server {
    my ($config, @options) = @_;
    my $server = RLP::Httpd->new(modules => ['alias', 'headers', 'setenvif', 'proxy', 'proxy_http'], clock => 1, @options);
    $server->configure("${two}AliasMatch \"^/(?!back/)\" \"\@DIR\@/htdocs/index.html\"\nRateLimitEngine On\nRateLimitIdentity ip\n$config\n");
    return $server->start;
}

# Status, and what each rule has left.
sub told {
    my ($server, $path, @fields) = @_;
    my $response = $server->get($path, @fields);
    return "$response->{status} " . ($response->{fields}{ratelimit} // '-') =~ s/;t=\d+//gr;
}

# What each rule or plan has left, in the order of their names.
sub left {
    my ($server, $path) = @_;
    my @left = told($server, $path) =~ /("\w+";r=\d+)/g;
    return join ' ', sort { $a cmp $b } @left;
}

# --- all or none: three rules in every order of stores and of limits

sub permutations {
    my (@items) = @_;
    return [] if !@items;
    return map { my $i = $_; map { [$items[$i], @$_] } permutations(@items[grep { $_ != $i } 0 .. $#items]) } 0 .. $#items;
}

my @cases;
for my $pattern (0 .. 7) {
    my @stores = map { $pattern >> $_ & 1 ? 'beside' : 'near' } 0 .. 2;
    push @cases, map { { stores => \@stores, limits => $_, key => 'ip', cost => 1 } } permutations(2, 3, 5);
}
for my $keys (['ip', 'global', 'ip'], ['global', 'ip', 'ip'], ['global', 'global', 'ip']) {
    push @cases, map { { stores => ['near', 'beside', $_], limits => [4, 7, 6], keys => $keys, cost => 2 } } 'near', 'beside';
}

{
    my $config = '';
    for my $i (0 .. $#cases) {
        my $case = $cases[$i];
        my @rules = map {
            my $key = $case->{keys} ? $case->{keys}[$_] : 'ip';
            "RateLimitRule r$i-$_ plan=none rate=$case->{limits}[$_]/hour key=$key store=$case->{stores}[$_]"
        } 0 .. 2;
        $config .= "<Location \"/all/$i/\">\n" . join('', map { "$_ cost=$case->{cost}\n" } @rules) . "</Location>\n";
        # the same counters, each alone, at no cost
        $config .= "<Location \"/look/$i/$_/\">\n$rules[$_] cost=0\n</Location>\n" for 0 .. 2;
    }
    my $server = server($config);
    for my $i (0 .. $#cases) {
        my $case = $cases[$i];
        my ($least) = sort { $a <=> $b } @{ $case->{limits} };
        my $passes = int($least / $case->{cost});
        my $name = join ', ', map { "$case->{limits}[$_] $case->{stores}[$_]" } 0 .. 2;
        is($server->statuses($passes + 3, "/all/$i/"), join(' ', (200) x $passes, (429) x 3), "$name: passes as often as the least allows");
        my @left = map { $server->get("/look/$i/$_/")->{fields}{'x-ratelimit-remaining'} // '-' } 0 .. 2;
        is("@left", join(' ', map { $_ - $passes * $case->{cost} } @{ $case->{limits} }), "$name: and what is refused is charged nowhere");
    }
    ok($server->graceful, 'a graceful restart');
    my @wrong = grep {
        my $i = $_;
        my ($least) = sort { $a <=> $b } @{ $cases[$i]{limits} };
        my $used = int($least / $cases[$i]{cost}) * $cases[$i]{cost};
        grep { ($server->get("/look/$i/$_/")->{fields}{'x-ratelimit-remaining'} // '-') ne $cases[$i]{limits}[$_] - $used } 0 .. 2;
    } 0 .. $#cases;
    is("@wrong", '', 'keeps all of it, in both');
    unlike($server->log_text, qr/RLP004|exit signal/, 'and nothing went wrong');
}

# --- plans that change, over both stores

my $plans = join '', map { "RateLimitPlan $_->[0] rate=$_->[1]/min\n" } ['free', 10], ['pro', 100], ['tiny', 4];

for my $change ('carry', 'reset') {
    my $config = "RateLimitPlanChange $change\n$plans";
    for my $plan ('free', 'pro', 'tiny') {
        $config .= "<Location \"/$plan\">\nRateLimitRule a plan=$plan\nRateLimitRule b plan=$plan store=beside key=global\n</Location>\n";
        $config .= "<Location \"/a/$plan\">\nRateLimitRule a plan=$plan cost=0\nRateLimitRule b Off\n</Location>\n";
        $config .= "<Location \"/b/$plan\">\nRateLimitRule a Off\nRateLimitRule b plan=$plan store=beside key=global cost=0\n</Location>\n";
    }
    my $server = server($config);
    my $left = sub { join ' ', map { $server->get($_)->{fields}{'x-ratelimit-remaining'} // '-' } @_ };
    is($server->statuses(11, '/free'), join(' ', (200) x 10, 429), "P-07 $change: ten of ten are used");
    for my $case (
        # path, status, what is left in near and beside under each plan after it, carried and fresh
        ['/pro', 200, '89 89', '99 99'],
        ['/tiny', $change eq 'carry' ? 429 : 200, '0 0', '3 3'],
        ['/free', 429, '0 0', '0 0'],
        ['/pro', 200, '88 88', '98 98'],
    ) {
        my ($path, $status, $carried, $fresh) = @$case;
        is($server->get($path)->{status}, $status, "P-07 $change: $path");
        is($left->("/a$path", "/b$path"), $change eq 'carry' ? $carried : $fresh, "P-07 $change: $path: what both stores have");
    }
    ok($server->stop && $server->start, 'a stop and a start');
    is($left->('/a/pro', '/b/pro'), $change eq 'carry' ? '88 88' : '98 98', "P-07 $change: both stores have kept it");
    $server->set_clock(60);
    is($left->('/a/free', '/b/free', '/a/tiny', '/b/tiny'), '10 10 4 4', "P-07 $change: a minute later all is earned again, in both");
}

# --- then=, in a store beside that of another rule

{
    my $server = server("RateLimitPlan slow rate=2/min\nRateLimitPlan day quota=3/day then=slow\nRateLimitRefund \"expr=%{REQUEST_STATUS} == 404\"\n"
            . "RateLimitRule a plan=none rate=99/day\nRateLimitRule b plan=day store=beside\nRedirect 404 /gone");
    my @expected = (['"day";r=2', 98], ['"day";r=1', 97], ['"day";r=0', 96], ['"slow";r=1', 95], ['"slow";r=0', 94]);
    for my $i (0 .. $#expected) {
        my ($plan, $all) = @{ $expected[$i] };
        ok(RLP::Httpd::wait_for(sub { $server->get('/gone')->{status} == 404 }), "what is given back before request $i is charged nowhere")
            for 1 .. ($i == 3 ? 0 : 1);
        is(left($server, '/'), "\"a\";r=$all $plan", "request $i: the plan of the day, then the slow one");
    }
    like(told($server, '/'), qr/\A429 .*"slow";r=0/, 'which refuses') for 1 .. 3;
    ok($server->$_, "$_ ...") && like(told($server, '/'), qr/\A429 .*"slow";r=0/, '... keeps it') for 'graceful', 'restart';
    $server->set_clock(30);
    is(left($server, '/'), '"a";r=93 "slow";r=0', 'half a minute later one more passes, and refusals were not charged');
    $server->set_clock(86_400);
    like(left($server, '/'), qr/"day";r=2/, 'the next day the quota is there again');
}

# --- restarts

{
    my $server = server("RateLimitRule a plan=none rate=20/hour\nRateLimitRule b plan=none quota=30/day store=beside\nRateLimitRule c plan=none rate=9/hour algorithm=sliding-log store=beside");
    my $n = 0;
    for my $way ('graceful', 'restart', 'stop', 'graceful', 'stop') {
        $n++;
        is(left($server, '/'), join(' ', '"a";r=' . (20 - $n), '"b";r=' . (30 - $n), '"c";r=' . (9 - $n)), "before $way $n");
        ok($server->$way && ($way ne 'stop' || $server->start), "$way $n");
    }
    is(left($server, '/'), '"a";r=14 "b";r=24 "c";r=3', 'and none is lost');
    ok($server->stop, 'it stops');
    unlink $server->dir . '/run/ratelimit-beside.shm';
    $server->start;
    is(left($server, '/'), '"a";r=13 "b";r=29 "c";r=8', 'a file that is gone begins anew, and the other goes on');
}

# --- places of two stores

SKIP: {
    skip 'httpd has no mod_proxy_http', 1 if !RLP::Httpd::has_module('proxy_http');
    my $backend = RLP::Backend->new;
    $backend->hold;
    my $server = server('ProxyPass "/back/" "http://127.0.0.1:' . $backend->port . qq{/back/" disablereuse=On retry=0 timeout=60
RateLimitRule a plan=none concurrent=4
RateLimitRule b plan=none concurrent=2 store=beside
<Location "/a">
    RateLimitRule b Off
</Location>
<Location "/b">
    RateLimitRule a Off
</Location>});
    # places that a request finds free, its own among them, which it has given back
    my $free = sub {
        my ($path) = @_;
        my $response = $server->get_to_the_end($path);
        return $response->{status} == 429 ? 0 : ($response->{fields}{'x-ratelimit-remaining'} // -2) + 1;
    };
    # what an answered request gives back may come a moment after its answer
    my $both = sub {
        my ($expected) = @_;
        my $found = '';
        RLP::Httpd::wait_for(sub { $found = join ' ', $free->('/a'), $free->('/b'); $found eq $expected });
        return $found;
    };
    my $held = sub {
        my ($n) = @_;
        my $before = $backend->open;
        my @connections = map { $server->connection } 1 .. $n;
        $_->send("GET /back/held HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") for @connections;
        is($backend->until_open($before + $n), $before + $n, "$n more requests are with the backend");
        return @connections;
    };
    my %ends = (
        'an answer' => sub { $backend->release },
        'a cut' => sub { $backend->cut('/back/held') },
        'a client that goes' => sub {
            close $_->{socket} for @_;
            $backend->release;
        },
        'kill -9 of the children' => sub { kill 'KILL', $server->children },
    );
    for my $end (sort keys %ends) {
        is($both->('4 2'), '4 2', "$end: all places are free");
        my @held = $held->(2);
        is($both->('2 0'), '2 0', "$end: two are taken in both");
        is($server->statuses(8, '/back/refused'), join(' ', (429) x 8), "$end: the second store refuses, in every child");
        is($both->('2 0'), '2 0', "$end: and refusals hold none, in either");
        $ends{$end}->(@held);
        if ($end ne 'a client that goes') {
            my $expected = { 'an answer' => 200, 'a cut' => 502 }->{$end} // 0;
            is(join(' ', map { $_->response('GET')->{status} } @held), "$expected $expected", "$end: ends both");
        }
        is($both->('4 2'), '4 2', "$end: the places come back, in both stores");
    }
    my @held = $held->(2);
    kill 'USR1', $server->pid;
    ok(RLP::Httpd::wait_for(sub { $server->generations == 2 }), 'a graceful restart');
    is($both->('2 0'), '2 0', 'those in flight hold their places, in both stores');
    $backend->release;
    is(join(' ', map { $_->response('GET')->{status} } @held), '200 200', 'and are answered');
    is($both->('4 2'), '4 2', 'and give them back');
    ok($server->stop, 'it stops as ever');
}

# --- a turn in one store and a charge in the other; here time is real

{
    my $server = server("RateLimitDelay max=10min\nRateLimitRule a plan=none rate=2/s burst=1 action=delay\nRateLimitRule b plan=none rate=2/hour store=beside\n"
            . "<Location \"/b\">\nRateLimitRule a Off\nRateLimitRule b plan=none rate=2/hour store=beside cost=0\n</Location>", clock => 0);
    my $begin = clock_gettime(CLOCK_MONOTONIC);
    is($server->get('/')->{status}, 200, 'a request');
    is($server->get('/')->{status}, 200, 'another waits for its turn');
    cmp_ok(clock_gettime(CLOCK_MONOTONIC) - $begin, '>=', 0.499, 'as long as the first store wants it');
    is(told($server, '/b'), '200 "b";r=0', 'both are charged in the second');
    is($server->statuses(3, '/'), '429 429 429', 'where there is nothing left, nobody waits to be refused');
}
{
    my $server = server("RateLimitDelay max=10min budget=90%\nRateLimitRule a plan=none rate=1/min burst=1 action=delay\nRateLimitRule b plan=none rate=5/hour store=beside\n"
            . "<Location \"/b\">\nRateLimitRule a Off\nRateLimitRule b plan=none rate=5/hour store=beside cost=0\n</Location>", clock => 0);
    is($server->get('/')->{status}, 200, 'a request');
    my $connection = $server->connection;
    $connection->send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ok(RLP::Httpd::wait_for(sub { told($server, '/b') eq '200 "b";r=3' }), 'another waits, charged in the second store');
    close $connection->{socket};
    ok(RLP::Httpd::wait_for(sub { told($server, '/b') eq '200 "b";r=4' }), 'and goes away: its charge comes back there');
}

# --- when it was decided

{
    my $server = server("RateLimitEnv always\nHeader always set X-Time \"%{RATELIMIT_TIME}e\"\n<Location /near>\nRateLimitRule a rate=9/week store=near\n</Location>\n"
            . "<Location /beside>\nRateLimitRule b rate=9/week store=beside\n</Location>\n<Location /dry>\nRateLimitRule c rate=9/week store=beside mode=log\n</Location>", clock => 0);
    for my $path (qw(/near /beside /dry)) {
        my $time = $server->get($path)->{fields}{'x-time'};
        cmp_ok(abs($time / 1e6 - time), '<', 60, "RATELIMIT_TIME is of now, in microseconds since 1970, in one store of two: $path");
    }
    ok($server->stop, 'it stops as ever');
}

done_testing;
