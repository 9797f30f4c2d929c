#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# ratelimit-quota of each kind of limit, of joined keys, of plans and of several stores: it says what the next request is
# told, never changes it, and knows it after restarts.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use Test::More;

use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'httpd has no mod_setenvif' if !RLP::Httpd::has_module('setenvif');
plan skip_all => 'no clock of the test (TESTCLOCK_SO)' if !RLP::Httpd::has_clock();

my @members = qw(quota window used remaining reset);

my @kinds = (
    # name, limits, seconds, then "quota window used remaining reset": at first, after 3 requests, after 5, and later
    [ 'token', 'rate=5/min', 12, '5 60 0 5 0', '5 60 3 2 36', '5 60 5 0 60', '5 60 4 1 48' ],
    [ 'burst', 'rate=5/min burst=6', 12, '6 72 0 6 0', '6 72 3 3 36', '6 72 5 1 60', '6 72 4 2 48' ],
    [ 'stepped', 'rate=5/min algorithm=stepped-bucket', 60, '5 60 0 5 0', '5 60 3 2 60', '5 60 5 0 60', '5 60 0 5 0' ],
    [ 'fixed', 'rate=5/min algorithm=fixed-window', 60, '5 60 0 5 60', '5 60 3 2 60', '5 60 5 0 60', '5 60 0 5 60' ],
    [ 'sliding', 'rate=5/min algorithm=sliding-window', 120, '5 60 0 5 0', undef, undef, '5 60 0 5 0' ],
    [ 'log', 'rate=5/min algorithm=sliding-log', 60, '5 60 0 5 0', '5 60 3 2 60', '5 60 5 0 60', '5 60 0 5 0' ],
    [ 'ever', 'quota=5', 86400, '5 - 0 5 0', '5 - 3 2 -', '5 - 5 0 -', '5 - 5 0 -' ],
    [ 'calendar', 'quota=5/day', 57600, '5 86400 0 5 57600', '5 86400 3 2 57600', '5 86400 5 0 57600', '5 86400 0 5 86400' ],
    [ 'places', 'concurrent=5', 1, '5 - 0 5 0', '5 - 0 5 0', '5 - 0 5 0', '5 - 0 5 0' ],
);
my $aliased = join '|', 'joined', 'vhosts', 'planned', 'then', 'stores', 'costly', 'leaky', map { $_->[0] } @kinds;
my $config = <<"END" . join '', map { "<Location /$_->[0]>\nRateLimitRule $_->[0] $_->[1]\n</Location>\n" } @kinds;
RateLimitStore near shm size=1M
RateLimitStore beside shm size=1M
RateLimitEngine On
RateLimitKeyLog plain
SetEnvIf X-Org (.+) ORG=\$1
SetEnvIf X-Who (.+) WHO=\$1
RateLimitIdentity org=env:ORG
RateLimitIdentity who=env:WHO
RateLimitIdentity ip
RateLimitPlan pro rate=20/week
RateLimitPlan after rate=4/week
RateLimitPlan first quota=2 then=after
RateLimitPlanMap who "txt:\@DIR\@/people"
AliasMatch "^/(?:$aliased)\$" "\@DIR\@/htdocs/index.html"
<Location /quota>
    SetHandler ratelimit-quota
</Location>
<Location /joined>
    RateLimitRule joined key=org+who rate=5/week
</Location>
<Location /vhosts>
    RateLimitRule vhosts key=vhost+ip rate=5/week
</Location>
<Location /planned>
    RateLimitRule planned key=who rate=5/week
</Location>
<Location /then>
    RateLimitRule then key=ip plan=first
</Location>
<Location /stores>
    RateLimitRule apart key=ip rate=9/week store=beside
    RateLimitRule near key=ip rate=5/week
</Location>
<Location /costly>
    RateLimitCost 2.5
    RateLimitRule costly rate=5/week
</Location>
<Location /leaky>
    RateLimitRule leaky rate=5/min algorithm=leaky-bucket
</Location>
END

my $server = RLP::Httpd->new(clock => 1, modules => [qw(setenvif alias)], config => $config);
$server->file('people', "ann pro\n");
$server->start;

# What ratelimit-quota says.
sub quota {
    my ($path, @fields) = @_;
    my $response = $server->get("/quota?path=$path", @fields);
    is($response->{status}, 200, "quota of $path @fields") or diag($response->{body});
    return decode_json($response->{body});
}

# "quota window used remaining reset" of one limit; - for null
sub figures {
    my ($limit) = @_;
    return join ' ', map { $_ // '-' } @{$limit}{@members};
}

# RULE/PLAN:REMAINING of each limit
sub told {
    return join ' ', map { "$_->{rule}/$_->{plan}:$_->{remaining}" } @{ quota(@_)->{limits} };
}

# --- each kind of limit

my $round = 0;
for my $case (@kinds) {
    my ($name, $limits, $seconds, $first, $three, $five, $later) = @{$case};
    my $look = sub {
        my @limits = @{ quota("/$name")->{limits} };
        is(scalar @limits, 1, "$name: one limit");
        is("$limits[0]{rule} $limits[0]{plan}", "$name default", "$name: its rule and plan");
        return figures($limits[0]);
    };
    my $same = sub {
        my ($remaining, $what) = @_;
        my @limits = @{ quota("/$name")->{limits} };
        is("$limits[0]{used} $limits[0]{remaining}", 5 - $remaining . " $remaining", "$name: $what");
    };
    my $now = 2 * 86400 * ++$round; # where a minute begins, and eight hours after a day
    $server->set_clock($now);
    is($look->(), $first, "$name: at first");
    $server->get_to_the_end("/$name") for 1 .. 3; # where a place has come back
    defined $three ? is($look->(), $three, "$name: after three requests") : $same->(2, 'after three requests');
    my $once = $look->();
    is($look->(), $once, "$name: asking changes nothing") for 1 .. 3;
    my %life = (graceful => sub { $server->graceful }, restart => sub { $server->restart });
    for my $life ($name eq 'token' || $name eq 'log' || $name eq 'calendar' ? sort keys %life : ()) {
        ok($life{$life}->(), "$name: $life");
        is($look->(), $once, "$name: which it outlives");
    }
    $server->get_to_the_end("/$name") for 1 .. 2;
    defined $five ? is($look->(), $five, "$name: after five") : $same->(0, 'after five');
    $server->set_clock($now + $seconds);
    is($look->(), $later, "$name: $seconds s later");
    my ($remaining) = $later =~ /^(?:\S+ ){3}(\d+)/;
    my $next = $server->get("/$name");
    is("$next->{status} " . ($next->{fields}{'x-ratelimit-remaining'} // '-'),
        $remaining ? '200 ' . ($remaining - 1) : '429 0', "$name: as the next request is told");
}

# --- a bucket that lets through evenly

is(told('/leaky'), 'leaky/default:1', 'leaky: one at a time');
is($server->get('/leaky')->{status}, 200, 'leaky: one passes');
is(figures(quota('/leaky')->{limits}[0]) =~ s/^\S+ \S+ \S+ //r, '0 12', 'leaky: and the next in 12 s');

# --- joined keys, hosts

my @joined = (
    # fields, told, identity
    [ [ 'X-Org: a', 'X-Who: x' ], 'joined/default:3', 'org+who:a+x' ],
    [ [ 'X-Org: a', 'X-Who: y' ], 'joined/default:5', 'org+who:a+y' ],
    [ [ 'X-Org: b', 'X-Who: x' ], 'joined/default:5', 'org+who:b+x' ],
    [ [ 'X-Org: a+who:x', 'X-Who: x' ], 'joined/default:5', undef ],
    [ ['X-Org: a'], '', undef ],
    [ ['X-Who: x'], '', undef ],
    [ [], '', undef ],
);
$server->get('/joined', 'X-Org: a', 'X-Who: x') for 1 .. 2;
for my $case (@joined) {
    my ($fields, $expected, $identity) = @{$case};
    is(told('/joined', @{$fields}), $expected, "joined: @{$fields}");
    is(quota('/joined', @{$fields})->{identity}, $identity, 'joined: whom it counts') if defined $identity || !$expected;
}
is($server->get('/joined', 'X-Org: a', 'X-Who: x')->{fields}{'x-ratelimit-remaining'}, 2, 'joined: as requests say');
$server->get('/vhosts') for 1 .. 2;
is(told('/vhosts'), 'vhosts/default:3', 'joined with the host');
like(quota('/vhosts')->{identity}, qr/^vhost\+ip:localhost\+127[.]0[.]0[.]1$/, 'joined with the host: whom it counts');

# --- plans

is(told('/planned', 'X-Who: ann'), 'planned/pro:20', 'whom a map knows');
is(told('/planned', 'X-Who: bob'), 'planned/default:5', 'whom it does not');
$server->get('/planned', "X-Who: $_") for qw(ann ann bob);
is(told('/planned', 'X-Who: ann') . ' ' . told('/planned', 'X-Who: bob'), 'planned/pro:18 planned/default:4', 'each by his own');
my @then = ([ 0, 'then/first:2' ], [ 1, 'then/first:1' ], [ 1, 'then/after:4' ], [ 1, 'then/after:3' ], [ 3, 'then/after:0' ], [ 1, 'then/after:0' ]);
for my $step (@then) {
    my ($n, $expected) = @{$step};
    $server->get('/then') for 1 .. $n;
    is(told('/then'), $expected, "then=: $n more");
}

# --- several stores, other costs

is(told('/stores'), 'apart/default:9 near/default:5', 'several stores');
is($server->statuses(6, '/stores'), '200 200 200 200 200 429', 'several stores: requests');
is(told('/stores'), 'apart/default:4 near/default:0', 'several stores: what is left in each');
is(told('/costly'), 'costly/default:5', 'a cost of 2.5');
$server->get('/costly');
is(figures(quota('/costly')->{limits}[0]) =~ s/ \d+$//r, '5 604800 3 2', 'a cost of 2.5: whole units that are left');
is($server->statuses(2, '/costly'), '200 429', 'a cost of 2.5: twice, and no more');

# --- after restarts

my %before = map { $_ => told($_) } qw(/then /stores /costly /vhosts /quota);
my %life = (
    'a graceful restart' => sub { $server->graceful },
    'a restart' => sub { $server->restart },
    'a stop and a start' => sub { $server->stop && $server->start },
);
for my $life ('a graceful restart', 'a restart', 'a stop and a start') {
    ok($life{$life}->(), $life);
    is_deeply({ map { $_ => told($_) } keys %before }, \%before, "$life: all is told as before");
    is(told('/joined', 'X-Org: a', 'X-Who: x'), 'joined/default:2', "$life: of joined keys, too");
}
is_deeply([ grep { /RLP0(?!01)/ } split /\n/, $server->log_text ], [], 'the log has nothing but refusals');
ok($server->stop, 'it stops as ever');

done_testing;
