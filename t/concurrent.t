#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# concurrent=N: never more than N in flight, as the server behind counts them, and each place comes back once,
# however a request ends. RLP_ROUNDS=50 for the full figure of the last case.

use strict;
use warnings;

use IO::Select;
use Socket qw(SOL_SOCKET SO_LINGER);
use Test::More;
use Time::HiRes qw(sleep time);

use RLP::Backend;
use RLP::Http2;
use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'httpd has no mod_proxy_http' if !RLP::Httpd::has_module('proxy_http');

my $prefork = $RLP::Httpd::mpm eq 'prefork';
my $with_http2 = !$prefork && RLP::Httpd::has_module('http2');
# Before 2.4.69, children crash when streams are reset in a storm (CVE-2026-57941).
my $with_resets = $with_http2 && RLP::Httpd::is_patched(69);
my $backend = RLP::Backend->new(most => 5);
my $slow = 10; # seconds in which what should happen at once does

# In one process, where there are threads: what it gives back twice would be another request's.
my $one_process = $prefork ? '' : "StartServers 1\nServerLimit 1\nThreadsPerChild 24\nMaxRequestWorkers 24\n";
my $crowd = $prefork ? "StartServers 16\nMinSpareServers 8\nMaxSpareServers 32\nServerLimit 32\nMaxRequestWorkers 32\n" : '';

# The rule is for the whole host: /index.html takes a place under it without asking the backend.
sub server {
    my ($limits, $config, @modules) = @_;
    my $port = $backend->port;
    my $server = RLP::Httpd->new(modules => [ qw(proxy proxy_http), @modules, $with_http2 ? 'http2' : () ]);
    my $proxy = qq{ProxyPass "/back/" "http://127.0.0.1:$port/back/" disablereuse=On retry=0 timeout=60\n};
    my $http2 = $with_http2 ? "Protocols h2c http/1.1\nH2Direct on\n" : '';

    $server->{common} = "$http2$config$proxy" . "RateLimitEngine On\n";
    $server->configure("$server->{common}RateLimitRule site key=ip plan=none $limits\n");
    $backend->hold;
    $backend->reset;
    return $server->start;
}

# A request that takes a place for a moment. When httpd closes the connection behind the answer, it is back.
sub look {
    my ($server) = @_;
    my $connection = ask($server, '/index.html');
    my $response = $connection->response('GET', $slow);
    $connection->closed($slow);
    return $response;
}

# How many places are free in the end. What is given back twice may come back a moment later: so it is the most that
# some requests find, one after the other.
sub free {
    my ($server, $expected) = @_;
    my $count = sub {
        my $response = look($server);
        return $response->{status} == 200 ? ($response->{fields}{'x-ratelimit-remaining'} // -1) + 1
            : $response->{status} == 429 ? 0 : "status $response->{status}";
    };
    my $found;
    RLP::Httpd::wait_for(sub { $found = $count->(); $found eq $expected }, $slow);
    for (1 .. 5) {
        my $again = $count->();
        $found = $again if $again =~ /\D/ || $again > $found;
    }
    return $found;
}

# A request on its way, which nobody has answered yet.
sub ask {
    my ($server, $path, @fields) = @_;
    my $connection = $server->connection;
    $connection->send(join("\r\n", "GET $path HTTP/1.1", 'Host: localhost', 'Connection: close', @fields) . "\r\n\r\n");
    return $connection;
}

# n requests that the backend has got.
sub held {
    my ($server, $n, $path) = @_;
    my $before = $backend->open;
    my @connections = map { ask($server, $path // '/back/held') } 1 .. $n;
    die "the backend was not asked\n" if $backend->until_open($before + $n) != $before + $n;
    return @connections;
}

sub statuses { return join ' ', map { $_->response('GET', $slow)->{status} } @_ }

sub abort {
    my ($connection, $reset) = @_;
    setsockopt $connection->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0) if $reset; # RST, not FIN
    close $connection->{socket};
    return;
}

# --- five places

{
    my $server = server('concurrent=5', $crowd);
    is(free($server, 5), 5, 'five places are free');
    my @held = held($server, 5);
    my $began = time;
    my $refused = $server->get('/back/refused');
    is($refused->{status}, 429, 'C-07 all are taken: refused');
    cmp_ok(time - $began, '<', $slow, 'C-07 immediately');
    is($refused->{fields}{'retry-after'}, 1, 'C-07 with Retry-After: 1');
    is($refused->{fields}{'x-ratelimit-limit'}, 5, 'C-07 and the limit');
    is($refused->{fields}{'x-ratelimit-remaining'}, 0, 'C-07 and nothing left');
    is($server->statuses(20, '/back/refused'), join(' ', (429) x 20), 'C-11 so are twenty more');
    is($backend->total, 5, 'C-11 and the backend is not asked');
    $backend->release(1);
    is(free($server, 1), 1, 'C-11 they hold nothing: one answer, one place');
    $backend->release;
    is(statuses(@held), '200 200 200 200 200', 'all are answered');
    is(free($server, 5), 5, 'and all places are back');

    my @mixed = held($server, 3);
    $server->configure("$server->{common}RateLimitRule site key=ip plan=none concurrent=4\n");
    kill 'USR1', $server->pid;
    RLP::Httpd::wait_for(sub { $server->generations == 2 });
    is(free($server, 1), 1, 'graceful: those in flight hold their places under the new limit');
    $backend->release;
    is(statuses(@mixed), '200 200 200', 'and are answered');
    is(free($server, 4), 4, 'and give them back');

    my @killed = held($server, 3);
    is(free($server, 1), 1, 'three places are taken');
    kill 'KILL', $server->children;
    is(statuses(@killed), '0 0 0', 'kill -9 of all children');
    is($backend->until_open(0), 0, 'and the backend sees the end');
    is(free($server, 4), 4, 'their places come back');
    ok($server->stop, 'httpd stops');
}

# --- ways in which a request ends: each gives back one place of the two, while another request has the other one

{
    my $port = $backend->port;
    my $config = $one_process . qq{ProxyPass "/slow/" "http://127.0.0.1:$port/slow/" disablereuse=On retry=0 timeout=1\n}
        . qq{ProxyPass "/socket/" "http://127.0.0.1:$port/socket/" upgrade=websocket\n};
    my $server = server('concurrent=2', $config);
    my $websocket = sub {
        my $connection = ask($server, '/socket/talk', 'Connection: Upgrade', 'Upgrade: websocket');
        is($connection->response('HEAD', $slow)->{status}, 101, 'an upgraded connection');
        $connection->send('to and fro');
        ok($connection->need(10, time + $slow), 'on which there is talk');
        substr $connection->{in}, 0, 10, '';
        is(free($server, 0), 0, 'keeps its place');
        return $connection;
    };
    my $stream = sub {
        my $h2 = h2_begin($server);
        my $before = $backend->open;
        my $stream = h2_ask($h2, 'GET', '/back/held');
        h2_answers($h2, 0, ());
        $backend->until_open($before + 1);
        return ($h2, $stream);
    };
    $server->file('htdocs/big', 'x' x 30_000_000);
    my @ways = (
        [ 'answered', sub { my @b = held($server, 1); $backend->release; statuses(@b) } ],
        [ 'the client hangs up', sub { my ($b) = held($server, 1); abort($b); $backend->release } ],
        [ 'the client resets', sub { my ($b) = held($server, 1); abort($b, 1); $backend->release } ],
        [ 'the client resets in the middle of the answer', sub {
            my $b = ask($server, '/big');
            $b->need(1000, time + $slow);
            is(free($server, 0), 0, 'an answer that is not read keeps its place');
            abort($b, 1);
        } ],
        [ 'the backend takes too long', sub { like(statuses(ask($server, '/slow/held')), qr/^50[24]$/, 'an answer for it') } ],
        [ 'the backend hangs up', sub { my ($b) = held($server, 1); $backend->cut("/back/held"); like(statuses($b), qr/^502/, 'an answer') } ],
        [ 'the client closes an upgraded connection', sub { abort($websocket->()) } ],
        [ 'the client resets an upgraded connection', sub { abort($websocket->(), 1) } ],
        [ 'the backend closes an upgraded connection', sub { my $b = $websocket->(); $backend->cut("/socket/talk"); ok($b->closed, 'closed') } ],
        $with_http2 ? (
            [ 'HTTP/2, answered', sub { my ($h2, $n) = $stream->(); $backend->release; h2_answers($h2, $slow, $n) } ],
            [ 'HTTP/2, a stream is reset', sub { my ($h2, $n) = $stream->(); h2_reset($h2, $n); $backend->release; $h2 } ],
            [ 'HTTP/2, hung up', sub { my ($h2) = $stream->(); abort($h2->{connection}); $backend->release } ],
            [ 'HTTP/2, reset', sub { my ($h2) = $stream->(); abort($h2->{connection}, 1); $backend->release } ],
        ) : (),
    );
    for my $case (@ways) {
        my ($name, $way) = @{$case};
        my $other = ask($server, '/socket/other', 'Connection: Upgrade', 'Upgrade: websocket');
        is($other->response('HEAD', $slow)->{status}, 101, "$name: another request has a place");
        my $kept = $way->();
        is(free($server, 1), 1, "C-16 $name: its place comes back, and no other");
        abort($other);
        is(free($server, 2), 2, "C-16 $name: and that of the other request");
    }
    unlike($server->log_text, qr/exit signal/, 'no child has died');
    ok($server->stop, 'httpd stops');
}

# --- one place for the whole of a request

{
    my $server = server('concurrent=1', <<'END', qw(include rewrite mime filter));
TypesConfig /dev/null
ErrorDocument 404 /back/sorry
<Directory "@DIR@/htdocs">
    Options +Includes
    AddType text/html .shtml
    AddOutputFilter INCLUDES .shtml
    RewriteEngine On
    RewriteBase "/"
    RewriteRule "^turned$" "/back/turned"
</Directory>
END
    $server->file('htdocs/page.shtml', qq{<!--#include virtual="/back/first" --><!--#include virtual="/back/second" -->});
    for my $case (
        [ 'an internal redirect', '/turned', 200, "/back/turned\n" ],
        [ 'two subrequests', '/page.shtml', 200, "/back/first\n", "/back/second\n" ],
        [ 'an ErrorDocument', '/missing', 200, "/back/sorry\n" ],
    ) {
        my ($name, $path, $status, @parts) = @{$case};
        my $connection = ask($server, $path);
        for my $part (@parts) {
            is($backend->until_open(1), 1, "C-17 $name: the backend is asked");
            is(free($server, 0), 0, "C-17 $name: has a place");
            $backend->release;
        }
        my $response = $connection->response('GET', $slow);
        is("$response->{status} $response->{body}", join('', "$status ", @parts), "C-17 $name: one is enough");
        is(free($server, 1), 1, "C-17 $name: and it comes back");
    }
    ok($server->stop, 'httpd stops');
}

# --- more places, many places

{
    my $server = server('concurrent=1', "RateLimitDelay max=60s budget=50%\n$crowd");
    $server->configure("$server->{common}RateLimitRule site key=ip plan=none concurrent=1\n"
        . qq{<Location "/back/">\nRateLimitRule site key=ip plan=none concurrent=1 action=delay\n</Location>\n});
    ok($server->graceful, 'requests may wait for a place');
    my ($held) = held($server, 1);
    my $waiting = ask($server, '/back/waiting');
    is(free($server, 0), 0, 'the one place is taken');
    is($backend->open, 1, 'and another request waits for it');
    $server->configure("$server->{common}RateLimitRule site key=ip plan=none concurrent=5\n"
        . qq{<Location "/back/other">\nRateLimitRule site key=ip plan=none concurrent=6\n</Location>\n});
    kill 'USR1', $server->pid;
    RLP::Httpd::wait_for(sub { $server->generations == 3 });
    is(free($server, 4), 4, 'C-15 1 -> 5 or 6, as the section has it');
    is($backend->open, 1, 'C-15 which of them is unknown where one waits: it waits on');
    $server->configure("$server->{common}RateLimitRule site key=ip plan=none concurrent=5\n");
    my $before = $server->generations;
    kill 'USR1', $server->pid;
    RLP::Httpd::wait_for(sub { $server->generations > $before });
    is($backend->until_open(2), 2, 'C-15 1 -> 5: the one that waits is admitted at once, in the child that it waits in');
    is(free($server, 3), 3, 'C-15 so is who comes now');
    $backend->release;
    my @answers = map { $_->response('GET', $slow) } $held, $waiting;
    is(join(' ', map { $_->{status} } @answers), '200 200', 'C-15 both are answered');
    is($answers[1]{fields}{ratelimit}, '"site";r=0;t=1', 'C-15 and what the one is told fits to the limit that it was judged by');
    is(free($server, 5), 5, 'C-15 all five are free');

    $server->configure("$server->{common}RateLimitRule site key=ip plan=none concurrent=10000\n");
    ok($server->graceful, 'C-14 ten thousand places');
    my @held = held($server, 12);
    is(free($server, 9_988), 9_988, 'C-14 twelve of them are taken');
    $backend->release;
    is(statuses(@held), join(' ', (200) x 12), 'C-14 and answered');
    is(free($server, 10_000), 10_000, 'C-14 and come back');
    ok($server->stop, 'httpd stops');
}

# --- with other limits in one plan: all or none

{
    my $server = server('concurrent=2 rate=10/week', $crowd);
    my $rest = sub { my ($answer) = @_; return join ' ', ($answer->{fields}{ratelimit} // '') =~ /r=(\d+)/g };
    my @held = held($server, 2);
    my $refused = $server->get('/back/refused');
    is($refused->{status}, 429, 'two places and a rate: a third request is refused');
    is($refused->{fields}{'retry-after'}, 1, 'for want of a place');
    is($rest->($refused), '0 8', 'and does not count for the rate');
    is($rest->($server->get('/back/refused')), '0 8', 'however often it comes');
    $backend->release;
    is(statuses(@held), '200 200', 'the two are answered');
    my $passed = 0;
    RLP::Httpd::wait_for(sub { $passed++ if look($server)->{status} == 200; $passed == 8 }, $slow);
    is($passed, 8, 'eight more are within the rate');
    my %said;
    RLP::Httpd::wait_for(sub { $said{ $rest->(look($server)) }++; $said{'0 2'} }, $slow);
    $refused = look($server);
    cmp_ok($refused->{fields}{'retry-after'} // 0, '>', 3600, 'who is refused by the rate is told when to come back');
    is($rest->($refused), '0 2', 'and takes no place');
    ok($server->stop, 'httpd stops');
}

# --- a child on its way out, whose slot in the scoreboard another one takes: MPM worker's way

if ($RLP::Httpd::mpm eq 'worker') {
    # Some children end their threads in a way (SERVER_GRACEFUL) that keeps MPM worker from starting another one in
    # their slot for as long as they live ("scoreboard is full"): then it is tried again.
    my ($server, $held);
    my $second = sub {
        # more connections than come below, so that the second child does not end, too: then others would wait for a third
        $server = server('concurrent=2', "${one_process}MaxConnectionsPerChild 40\n");
        my ($old) = $server->children;
        ($held) = held($server, 1);
        my $came = RLP::Httpd::wait_for(sub { look($server); (my @children = $server->children) > 1 }, $slow);
        return $came && grep { $_ == $old } $server->children;
    };
    my $lost = $second->();
    for (2 .. 6) {
        last if $lost;
        $backend->release;
        $server->stop;
        $lost = $second->();
    }
    ok($lost, 'a child that has lost its slot goes on with its request');
    is(free($server, 1), 1, 'which holds its place');
    $backend->release;
    is(statuses($held), '200', 'and is answered');
    is(free($server, 2), 2, 'and gives it back');
    ok($server->stop, 'httpd stops');
}

# --- everything at once

# One client: asks, hangs up, resets, again and again until the end. What it was answered, with numbers.
sub client {
    my ($server, $seed, $end) = @_;
    my %count;
    srand $seed;
    while (time < $end) {
        my $kind = int rand($with_resets ? 6 : 4);
        eval { # httpd may be between two generations
            if ($kind < 2) {
                my $status = $server->get("/back/$seed")->{status};
                $count{$status}++;
                sleep rand 0.02 if $status != 200;
            } elsif ($kind < 4) {
                my $connection = ask($server, "/back/$seed");
                sleep rand 0.06;
                abort($connection, $kind == 3);
            } else {
                my $h2 = h2_begin($server);
                my @streams = map { h2_ask($h2, 'GET', "/back/$seed") } 1 .. 3;
                h2_answers($h2, rand 0.06, @streams);
                h2_reset($h2, $_) for grep { rand() < 0.7 } @streams;
                h2_answers($h2, 0.2, @streams) if $kind == 5;
                abort($h2->{connection}, rand() < 0.5);
            }
        };
    }
    return join ' ', %count;
}

{
    my $server = server('concurrent=5', $crowd);
    my (%count, @times);
    for my $round (1 .. $ENV{RLP_ROUNDS} || 3) {
        my $end = time + 2;
        my @clients;
        $backend->reset;
        $backend->serve(0, 0.05);
        for my $seed (1 .. 64) {
            my $pid = open my $from, '-|';
            die "fork: $!\n" if !defined $pid;
            if ($pid == 0) {
                syswrite STDOUT, client($server, "$round$seed", $end);
                POSIX::_exit(0);
            }
            push @clients, $from;
        }
        for my $deed (qw(kill kill graceful kill)) {
            sleep 0.3;
            $deed eq 'kill' ? $server->kill9 : kill 'USR1', $server->pid;
        }
        for my $from (@clients) {
            my %got = split ' ', readline($from) // '';
            $count{$_} += $got{$_} for keys %got;
            close $from;
        }
        my $last = time;
        my $free = RLP::Httpd::wait_for(sub {
            my $response = look($server);
            $last = time if $backend->open > 0;
            return ($response->{fields}{'x-ratelimit-remaining'} // '') eq '4';
        });
        push @times, time - $last;
        ok($free, "round $round: five are free after the last");
        $backend->hold;
        my @six = map { ask($server, '/back/six') } 1 .. 6;
        is($backend->until_open(5), 5, "round $round: five pass at once");
        my ($answered) = IO::Select->new(map { $_->{socket} } @six)->can_read($slow);
        my ($refused) = grep { $_->{socket} == ($answered || 0) } @six;
        is($refused ? statuses($refused) : 'none', '429', "round $round: and the sixth does not");
        $backend->release;
        is(statuses(grep { $_ != ($refused || 0) } @six), '200 200 200 200 200', "round $round: the five are answered");
        is($backend->most, 5, "round $round: never more than five in flight");
    }
    @times = sort { $a <=> $b } @times;
    note(join ', ', map { "$count{$_} times $_" } sort keys %count);
    cmp_ok($times[ $#times / 2 ], '<', 1, 'they are free within a second');
    cmp_ok($times[-1], '<', $slow, 'in each round, however busy the machine');
    is(join(' ', grep { !/^(?:200|429|0)$/ } keys %count), '', 'no request has failed');
    unlike($server->log_text, qr/exit signal (?!Killed)/, 'no child has died but of our signals');
    ok($server->stop, 'httpd stops');
}

done_testing;
