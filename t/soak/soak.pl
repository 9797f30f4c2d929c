#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# An hour of what happens to a server, in a few minutes or in an hour: soak.pl. SOAK_SECONDS (3600) is for all turns
# together, SOAK_MPMS ("event prefork") says whose turns. Needs libfaketime for steps of the wall clock, and redis-server;
# what is missing is said.
#
# A turn: a time of warm-up; a storm of graceful restarts, restarts, killed children, outages of Redis; the same warm-up
# again; a calm in which no process is replaced. Map changes and steps of the clock go on throughout. After each of them
# the server is idle and is looked at: memory, descriptors, places, files and the error log are to be as after the first.
# Exit code 0 if all of that is so.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use Time::HiRes qw(sleep time);

use RLP::Census;
use RLP::Httpd;
use RLP::Load;
use RLP::Redis;

my $seconds = $ENV{SOAK_SECONDS} || 3600;
my @mpms = split ' ', $ENV{SOAK_MPMS} || 'event prefork';
my ($once, $day, $places) = (3000, 400, 6);
my $mebi = 1024; # KB

# What may grow, KB: the parent by what httpd itself and libc's heap keep of a restart, a child by what its threads' heaps
# and pools settle at. A leak of 100 bytes a request, or of 8 KB a restart, is more in an hour.
my %may = (parent => 1 * $mebi, parent_restart => 6, child => 2 * $mebi);

my @said = (
    qr/AH00489|AH00094|AH00493|AH00494|AH00171|AH00173|AH00491|AH00492|AH00169/, # resuming, command line, graceful, restart, stop
    qr/AH00292|AH00163|AH00052: child pid \d+ exit signal Killed \(9\)/,
    qr/AH00288|AH03490|AH00045|AH00046|AH00485|AH10159|AH00484|AH00161/, # too few or slow children while so many are killed
    qr/AH10034/, # prefork has no HTTP/2
    qr/RLP0(?:01|09|12|13|30|31|32|33)\b/, # refusals, maps, Redis that is away
);

die RLP::Httpd::missing(), "\n" if RLP::Httpd::missing();
my ($faketime) = grep { -e } glob '/usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib/faketime/libfaketimeMT.so.1';
my $no_redis = RLP::Redis::missing();
print "No steps of the wall clock: libfaketime is missing (Debian: libfaketime)\n" if !$faketime;
print "No Redis: $no_redis\n" if $no_redis;
my $redis = $no_redis ? undef : RLP::Redis->alone;
my $failed = 0;
my @table;

$| = 1;

# --- the server

sub make_server {
    my $http2 = $RLP::Httpd::mpm ne 'prefork' && RLP::Httpd::has_module('http2');
    my $shared = $redis
        ? "RateLimitStore far redis url=redis://127.0.0.1:" . $redis->port . " \"secret=file:\@DIR\@/secret\" recovery=500ms\n" : '';
    my $server = RLP::Httpd->new(modules => [ $http2 ? 'http2' : () ]);
    my $locations = join '', map {"<Location \"$_->[0]\">\n    RateLimitRule $_->[1]\n</Location>\n"} (
        ['/plans', 'plans rate=5/s'],
        ['/window', 'window plan=none rate=300/10s algorithm=fixed-window'],
        ['/log', 'log plan=none rate=20/s algorithm=sliding-log'],
        ['/day', "day plan=none key=global quota=$day/day"],
        ['/once', "once plan=none key=global quota=$once"],
        ['/places', "places plan=none key=global concurrent=$places"],
        ['/delay', 'delay plan=none key=global rate=100/s burst=1 action=delay'],
        $redis ? (['/leased', 'leased plan=none key=global rate=200/s store=far sync=lease'],
            ['/exact', 'exact plan=none rate=20/s store=far'],
            ['/far', "far plan=none key=global concurrent=$places lease=5s store=far"]) : (),
    );
    $server->file('secret', "the secret of a soak test, 32 octets and more\n");
    $server->file('htdocs/' . substr($_, 1), "$_\n") for qw(/plans /window /log /day /once /delay /leased /exact);
    $server->file("htdocs/$_", 'x' x 3_000_000) for qw(places far);
    $server->file('time', '+' . hours_to_noon() . "h\n");
    change_map($server, 0);
    $server->{wrap} = [ 'env', "LD_PRELOAD=$faketime", 'FAKETIME_TIMESTAMP_FILE=' . $server->file('time'),
        'FAKETIME_CACHE_DURATION=1', 'FAKETIME_DONT_FAKE_MONOTONIC=1', 'DONT_FAKE_MONOTONIC=1', 'NO_FAKE_STAT=1' ]
        if $faketime;
    $server->configure(($http2 ? "Protocols h2c http/1.1\nH2Direct on\n" : '') . <<"CONF");
KeepAliveTimeout 2
RateLimitStore near shm size=1M file=store
${shared}RateLimitDelay max=1s
RateLimitPlan free rate=20/s burst=40
RateLimitPlan pro rate=200/s
RateLimitEngine On
RateLimitIdentity key=header:X-Key ip
RateLimitPlanMap key txt:keys
$locations<Location "/quota">
    SetHandler ratelimit-quota
</Location>
CONF
    return $server;
}

# Another version of the map: plans of some keys change; each seventh has a mistake, so that the last good one stays.
sub change_map {
    my ($server, $version) = @_;
    my $text = join '', map { "k$_ " . (($_ + $version) % 3 ? 'free' : 'pro') . "\n" } 0 .. 39;
    $server->file('keys.new', $version % 7 == 6 ? "${text}k1 no-such-plan\n" : $text);
    rename $server->file('keys.new'), $server->file('keys');
    return;
}

# Ahead by more than a day, back by less: calendars have new days, and none of them twice. It begins about noon: children
# see a step up to a second apart, as no real clock would have it, and back across midnight that second would have two days.
sub hours_to_noon {
    return (36 - (localtime)[2]) % 24;
}

sub step_clock {
    my ($server, $turn) = @_;
    $turn->{hours} += $turn->{steps}++ % 3 == 1 ? -2 : 25;
    $turn->{ahead} = $turn->{hours} if $turn->{hours} > $turn->{ahead};
    $server->file('time.new', "+$turn->{hours}h\n");
    rename $server->file('time.new'), $server->file('time');
    return;
}

# --- what happens

my @always = ([ 3, sub { my ($server, $turn) = @_; change_map($server, ++$turn->{maps}) } ]);
push @always, [ 20, \&step_clock ] if $faketime;

my @storm = (
    [ 2, sub { my ($server, $turn) = @_; $turn->{kills} += $server->kill9 } ],
    [ 11, sub { my ($server, $turn) = @_; $turn->{gracefuls} += reload($server, 'graceful') } ],
    [ 41, sub { my ($server, $turn) = @_; $turn->{restarts} += reload($server, 'restart') } ],
);
push @storm, [ 17, \&outage ] if $redis;

# A mistake in the map would end httpd here, as one in its configuration does.
sub reload {
    my ($server, $how) = @_;
    change_map($server, 0);
    $server->$how && $server->alive or die "the server has ended after $how:\n" . $server->said;
    return 1;
}

# Redis does not answer for a second, or has forgotten all.
sub outage {
    my (undef, $turn) = @_;
    if ($turn->{outages}++ % 2) {
        $redis->kill9;
        sleep 1;
        $redis->start;
    } else {
        $redis->suspend;
        sleep 1;
        $redis->resume;
    }
    return;
}

# Clients for so long, and what happens meanwhile, each every so many seconds.
sub phase {
    my ($server, $turn, $name, $span, @events) = @_;
    printf "# %s: %s, %d s\n", $turn->{mpm}, $name, $span;
    my @kinds = qw(new kept kept junk aborts slow slow);
    my $end = time + $span;
    my $load = RLP::Load->begin($server, $end, @kinds, $RLP::Httpd::mpm eq 'prefork' ? () : qw(http2 http2));
    my @due = map { time + $_->[0] * (0.5 + rand) } @events;
    while (time < $end) {
        for my $i (0 .. $#events) {
            next if time < $due[$i];
            $events[$i][1]->($server, $turn);
            $due[$i] = time + $events[$i][0] * (0.5 + rand);
        }
        sleep 0.1;
    }
    my $got = $load->finish;
    $turn->{got}{$_} += $got->{$_} for keys %$got;
    return;
}

# --- what is there in the end

sub places_taken {
    my ($server, $path) = @_;
    my $text = eval { $server->get("/quota?path=$path")->{body} } // '';
    my $told = eval { decode_json($text) } or return 'unknown';
    my ($limit) = grep { !defined $_->{window} } @{ $told->{limits} };
    return $limit ? $limit->{used} : 'unknown';
}

# Waits until it is so, for clients that have just gone are noticed a little later; then what is so.
sub settled {
    my ($what, $expected) = @_;
    RLP::Httpd::wait_for(sub { $what->() eq $expected }, 60);
    return $what->();
}

sub expect {
    my ($turn, $name, $got, $expected, $is_so) = @_;
    return if $is_so // ($got eq $expected);
    push @{ $turn->{faults} }, "$name: $got, expected $expected";
    return;
}

# Looks at the idle server; compared with the first look, if there is one.
sub look {
    my ($server, $turn, $name, $first) = @_;
    for my $path ('/places', $redis ? '/far' : ()) {
        expect($turn, "$name: places taken of $path", settled(sub { places_taken($server, $path) }, 0), 0);
    }
    my $now = sub { RLP::Census->of($server) };
    if (!$first) {
        RLP::Httpd::wait_for(sub { my $one = $now->()->{descriptors}; sleep 3; $one !~ / / && $one eq $now->()->{descriptors} }, 60);
        return $now->();
    }
    for my $part (qw(descriptors parent_descriptors files)) {
        expect($turn, "$name: $part", settled(sub { $now->()->{$part} }, $first->{$part}), $first->{$part});
    }
    print "#   children have $first->{descriptors} descriptors at first, ", $now->()->{descriptors}, " now\n";
    return $now->();
}

# Lines of the error log that nobody expects.
sub unexpected {
    my ($server) = @_;
    return grep { my $line = $_; !grep { $line =~ $_ } @said } split /\n/, $server->log_text;
}

sub sum {
    my ($turn, $pattern) = @_;
    my $sum = 0;
    $sum += $turn->{got}{$_} for grep {/$pattern/} keys %{ $turn->{got} };
    return $sum;
}

# What passed of the two quotas: never more, and no unit is lost but with an answer.
sub check_quotas {
    my ($turn) = @_;
    my ($passed, $unanswered) = (sum($turn, qr{^200 /once}), sum($turn, qr{^0 /}));
    my $asked = sum($turn, qr{/once$});
    my $most = $day * (2 + int $turn->{ahead} / 24);
    expect($turn, 'passed of the quota that is never renewed', $passed, "at most $once", $passed <= $once);
    expect($turn, 'passed of it or not answered', $passed + $unanswered, "$once or all $asked",
        $passed + $unanswered >= ($asked < $once ? $asked : $once));
    my $daily = sum($turn, qr{^200 /day});
    expect($turn, 'passed of the quota of each day', $daily, "at most $most", $daily <= $most);
    $turn->{quotas} = "$passed of $once; $daily of $most";
    return;
}

sub check_memory {
    my ($turn, $first, $second, $young, $old) = @_;
    my $restarts = $turn->{gracefuls} + $turn->{restarts};
    my $parent = $second->{parent} - $first->{parent};
    my $most = $may{parent} + $may{parent_restart} * $restarts;
    my $child = $old->growth($young);
    expect($turn, 'the parent has grown by KB', $parent, "at most $most after $restarts restarts", $parent <= $most);
    expect($turn, 'the largest child after the storm, KB', $second->largest, 'at most ' . ($first->largest + $may{child}),
        $second->largest <= $first->largest + $may{child});
    expect($turn, 'a child has grown in the calm by KB', $child // 'none is left', "at most $may{child}",
        defined $child && $child <= $may{child});
    $turn->{memory} = "parent $first->{parent} to $second->{parent}, child " . $young->largest . ' to ' . $old->largest;
    return;
}

# --- a turn

sub turn {
    my ($mpm, $span) = @_;
    local $RLP::Httpd::mpm = $mpm;
    my %turn = (mpm => $mpm, span => $span, hours => hours_to_noon(), ahead => 0, faults => [],
        map { $_ => 0 } qw(kills gracefuls restarts outages maps steps));
    my $server = make_server()->start;
    my $warm = $span / 8 < 60 ? $span / 8 : 60;

    phase($server, \%turn, 'warm-up', $warm, @always);
    my $first = look($server, \%turn, 'warm-up');
    phase($server, \%turn, 'storm', ($span - 3 * $warm) * 0.6, @always, @storm);
    $redis->start if $redis && !$redis->{pid};
    phase($server, \%turn, 'warm-up', $warm, @always);
    my $second = look($server, \%turn, 'after the storm', $first);
    phase($server, \%turn, 'calm', $warm, @always);
    my $young = look($server, \%turn, 'calm', $first);
    phase($server, \%turn, 'calm', ($span - 3 * $warm) * 0.4, @always);
    my $old = look($server, \%turn, 'after the calm', $first);
    check_memory(\%turn, $first, $second, $young, $old);
    check_quotas(\%turn);
    $turn{descriptors} = "$first->{descriptors} to $old->{descriptors}";
    expect(\%turn, 'keys in Redis without an end', join(' ', $redis->lasting), '') if $redis;
    expect(\%turn, 'the server stops', $server->stop, 1);
    my @unexpected = unexpected($server);
    expect(\%turn, 'lines in the error log that nobody expects', scalar(@unexpected) . ", such as\n    " . ($unexpected[0] // ''),
        0, !@unexpected);
    my %lines;
    $lines{$_}++ for $server->log_text =~ /\b(RLP\d{3}|AH\d{5})\b/g;
    $turn{lines} = join ' ', map {"$_:$lines{$_}"} sort keys %lines;
    return \%turn;
}

sub print_turn {
    my ($turn) = @_;
    my %status;
    /^(\d+)/ && ($status{$1} += $turn->{got}{$_}) for keys %{ $turn->{got} };
    printf "%-9s %d s\n", $turn->{mpm}, $turn->{took};
    print "  answers      ", join(', ', map { ($_ || 'none') . ": $status{$_}" } sort keys %status), "\n";
    print "  storm        $turn->{kills} children killed, $turn->{gracefuls} graceful restarts, $turn->{restarts} restarts, "
        . "$turn->{outages} outages of Redis\n";
    print "  throughout   $turn->{maps} versions of the map, $turn->{steps} steps of the clock\n";
    print "  memory, KB   $turn->{memory}\n  descriptors  $turn->{descriptors} of each child\n";
    print "  quotas       $turn->{quotas}\n  log          $turn->{lines}\n";
    print "  $_\n" for @{ $turn->{faults} };
    print '  ', @{ $turn->{faults} } ? 'FAILED' : 'as at the start', "\n";
    return;
}

for my $mpm (@mpms) {
    my $begin = time;
    my $turn = turn($mpm, $seconds / @mpms);
    $turn->{took} = time - $begin;
    print_turn($turn);
    $failed += @{ $turn->{faults} } > 0;
}
exit($failed ? 1 : 0);
