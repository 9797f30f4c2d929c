#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# action=delay: nobody passes before its turn, those whose turn is too far away are refused, and who goes away gives
# its turn back. Time is real here: lower bounds are exact, upper ones are for a busy machine. Where only the order of
# things counts, turns are so far apart that nobody waits for them.

use strict;
use warnings;

use IO::Select;
use Socket qw(SOL_SOCKET SO_LINGER);
use Test::More;
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime);

use RLP::Backend;
use RLP::Http2;
use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'httpd has no mod_headers or mod_status' if grep { !RLP::Httpd::has_module($_) } qw(headers status);

my $prefork = $RLP::Httpd::mpm eq 'prefork';
my $with_http2 = !$prefork && RLP::Httpd::has_module('http2');
my $late = 4; # seconds that something may come too late
my $patience = 20; # seconds that anything may take

sub now { return clock_gettime(CLOCK_MONOTONIC) }

# One process with so many threads, or so many processes: of which, with budget=, some may wait.
sub workers {
    my ($n) = @_;
    return $prefork ? "ServerLimit $n\nStartServers $n\nMinSpareServers 1\nMaxSpareServers $n\nMaxRequestWorkers $n\n"
        : "ServerLimit 1\nStartServers 1\nThreadsPerChild $n\nMaxRequestWorkers $n\nMinSpareThreads 1\nMaxSpareThreads $n\n";
}

# Rules of their own for paths: [path => words of the rule...]. The same rule below /look/ does not wait, and tells
# without changing anything when a turn would come.
sub rules {
    my (%words) = @_;
    return join '', map {
        my ($path, $words) = ($_, $words{$_});
        my ($limits) = $words =~ /^(.*?) action=/;
        qq{<Location "/$path">\nRateLimitRule $path plan=none key=global $words\n</Location>\n}
            . qq{<Location "/look/$path">\nRateLimitRule $path plan=none key=global $limits\n</Location>\n}
    } sort keys %words;
}

sub server {
    my ($workers, $config, @modules) = @_;
    my $http2 = $with_http2 ? "Protocols h2c http/1.1\nH2Direct on\n" : '';
    my $server = RLP::Httpd->new(modules => [ qw(headers log_config alias status), @modules, $with_http2 ? 'http2' : () ],
        config => workers($workers) . $http2 . <<'END' . $config);
AliasMatch "^/(?!back/|big$).*" "@DIR@/htdocs/index.html"
<Location "/server-status">
    SetHandler server-status
</Location>
CustomLog "logs/access" "%U %>s %{RATELIMIT_ACTION}e"
Header always set X-Action "expr=%{reqenv:RATELIMIT_ACTION}"
RateLimitEngine On
END
    return $server->start;
}

# Requests for that path, all at once.
sub ask {
    my ($server, $n, $path) = @_;
    my @connections = map { $server->connection } 1 .. $n;
    my $text = join("\r\n", "GET $path HTTP/1.1", 'Host: localhost', 'Connection: close') . "\r\n\r\n";
    $_->send($text) for @connections;
    return @connections;
}

# The answers of some connections, n at most, in order of coming, with the instant of each.
sub answers {
    my ($connections, $n, $seconds) = @_;
    my %waiting = map { $_->{socket} => $_ } @{$connections};
    my $end = now() + ($seconds || $patience);
    my @answers;
    while (%waiting && (!defined $n || @answers < $n)) {
        my @ready = IO::Select->new(map { $_->{socket} } values %waiting)->can_read($end - now());
        last if !@ready;
        for my $socket (@ready) {
            my $response = delete($waiting{$socket})->response('GET', $patience);
            push @answers, { %{$response}, at => now() };
        }
    }
    @{$connections} = values %waiting;
    return @answers;
}

sub statuses { return join ' ', sort map { $_->{status} } @_ }

sub actions { return map { $_->{fields}{'x-action'} || 'pass' } @_ }

# Answers to n requests at once; nobody passed before its turn, that of the i-th being $turn->(i), in seconds.
sub turns {
    my ($name, $server, $n, $path, $turn) = @_;
    my $began = now();
    my @connections = ask($server, $n, $path);
    my @answers = answers(\@connections);
    is(statuses(@answers), join(' ', (200) x $n), "$name: all pass");
    my @early = grep { $answers[$_]{at} - $began < $turn->($_) } 0 .. $#answers;
    is("@early", '', "$name: nobody before its turn") or diag(join ' ', map { sprintf '%.3f', $_->{at} - $began } @answers);
    cmp_ok(now() - $began, '<', $turn->($n - 1) + $late, "$name: the last one soon after its turn");
    my $delayed = grep { $turn->($_) > 0 } 0 .. $n - 1;
    return ($delayed, @answers);
}

# In how many seconds there would be room, as a request hears that does not wait; 0 if there is.
sub look {
    my ($server, $path) = @_;
    return $server->get("/look/$path")->{fields}{'retry-after'} // 0;
}

# Waits until that is within the bounds; what it is.
sub until_look {
    my ($server, $path, $least, $most) = @_;
    my $said;
    RLP::Httpd::wait_for(sub { $said = look($server, $path); $said >= $least && $said <= $most }, $patience);
    return $said;
}

# Waits until httpd has begun so many requests: those that are with the backend wait for it, and all others for a place.
sub until_begun {
    my ($server, $n) = @_;
    my ($begun, $shown) = (0, '');
    return 1 if RLP::Httpd::wait_for(sub {
        ($shown) = $server->get('/server-status?auto')->{body} =~ /^Scoreboard: (.*)/m;
        $begun = ($shown // '') =~ tr/W// - 1; # but for the one that asks
        return $begun == $n;
    }, $patience);
    return diag("$begun have begun: " . ($shown // 'no scoreboard'));
}

sub between {
    my ($got, $least, $most, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok($got >= $least && $got <= $most, $name) || diag("$got is not in $least..$most");
}

sub abort {
    my ($reset, @connections) = @_;
    for my $connection (@connections) {
        setsockopt $connection->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0) if $reset; # RST, not FIN
        close $connection->{socket};
    }
    return;
}

# --- turns

{
    my $server = server(40, "RateLimitDelay max=20s budget=90%\n" . rules(
        five => 'rate=1/500ms burst=5 algorithm=stepped-bucket action=delay',
        tenth => 'rate=1/100ms burst=1 algorithm=stepped-bucket action=delay',
        groups => 'rate=5/300ms burst=5 algorithm=stepped-bucket action=delay',
        fifth => 'rate=1/200ms burst=5 algorithm=stepped-bucket action=delay',
        two => 'rate=1/500ms burst=5 algorithm=stepped-bucket cost=2 action=delay',
        three => 'rate=1/500ms burst=5 algorithm=stepped-bucket cost=3 action=delay',
        some => 'rate=1/500ms burst=5 initial=2 algorithm=stepped-bucket action=delay',
        leaky => 'rate=1/300ms burst=10 algorithm=leaky-bucket action=delay',
        token => 'rate=1/300ms burst=2 action=delay',
        six => 'rate=1/s burst=5 algorithm=stepped-bucket "cost=expr=%{HTTP:X-Cost}" action=delay',
    ));
    my %waited;
    my $after = sub { my ($burst, $each) = @_; return sub { $_[0] < $burst ? 0 : ($_[0] - $burst + 1) * $each } };
    for my $case (
        # name, how many, path, turn of the i-th
        [ 'B-01 five at once, then one each half second', 8, 'five', $after->(5, 0.5) ],
        [ 'B-05 one each tenth of a second', 11, 'tenth', $after->(1, 0.1) ],
        [ 'B-07 groups of five', 20, 'groups', sub { int($_[0] / 5) * 0.3 } ],
        [ 'B-08 one each fifth of a second', 6, 'fifth', $after->(5, 0.2) ],
        [ 'B-09 of cost two', 3, 'two', $after->(2, 0.5) ],
        [ 'B-10 of cost three', 2, 'three', $after->(1, 0.5) ],
        [ 'B-16 two to begin with', 3, 'some', $after->(2, 0.5) ],
        [ 'a leaky bucket', 6, 'leaky', $after->(1, 0.3) ],
        [ 'a token bucket', 5, 'token', $after->(2, 0.3) ],
    ) {
        my ($name, $n, $path, $turn) = @{$case};
        my ($delayed, @answers) = turns($name, $server, $n, "/$path", $turn);
        cmp_ok(scalar(grep { $_ eq 'pass' } actions(@answers)), '>=', $n - $delayed, "$name: B-33 whose turn it is does not wait");
        $waited{$path} = grep { $_ eq 'delay' } actions(@answers);
        is(join(' ', map { $_->{fields}{'retry-after'} // () } @answers), '', "$name: without Retry-After");
        is(scalar(grep { ($_->{fields}{ratelimit} // '') =~ /^"$path";r=\d+/ && defined $_->{fields}{'x-ratelimit-limit'} } @answers),
            $n, "$name: with the fields that answers have");
    }
    my $refused = $server->get('/six', 'X-Cost: 6');
    is($refused->{status}, 429, 'a cost above the burst waits for nothing');
    is($refused->{fields}{'retry-after'}, undef, 'and is not told to come back');
    my $delays = () = RLP::Httpd::slurp($server->file('logs/access')) =~ m{^/five 200 delay$}mg;
    is($delays, $waited{five}, 'RATELIMIT_ACTION=delay in the log, for those that waited');

    # one after the other, on a connection that is kept
    my $began = now();
    my $connection = $server->connection;
    $connection->send("GET /tenth HTTP/1.1\r\nHost: localhost\r\n\r\n" x 5);
    is(join(' ', map { $connection->response->{status} } 1 .. 5), '200 200 200 200 200', 'pipelined requests wait too');
    cmp_ok(now() - $began, '>', 0.3, 'one behind the other');
    if ($with_http2) {
        $began = now();
        my $h2 = h2_begin($server);
        my @streams = map { h2_ask($h2, 'GET', '/tenth') } 1 .. 5;
        is(h2_answers($h2, $patience, @streams), '200 200 200 200 200', 'streams of HTTP/2 wait too');
        cmp_ok(now() - $began, '>', 0.3, 'each for its turn');
    }
    ok($server->stop, 'httpd stops');
}

# --- turns that are too far away, and those that nobody waits for any more: one each 20 seconds

{
    my $each = 'rate=1/20s burst=1 algorithm=stepped-bucket';
    my $server = server(20, "RateLimitDelay max=60s budget=90%\n" . rules(
        three => "$each action=delay",
        one => "$each action=delay:20s",
        gone => "$each action=delay",
        gone2 => "$each action=delay",
        empty => 'rate=1/20s burst=5 initial=0 algorithm=stepped-bucket action=delay:100ms',
        leaky => 'rate=1/20s burst=2 algorithm=leaky-bucket action=delay',
        piped => "$each action=delay",
        held => 'concurrent=1 action=delay',
    ));
    for my $case (
        # name, path, how many wait, how many are refused
        [ 'B-12 three may wait', 'three', 3, 2 ],
        [ 'B-13 one may wait', 'one', 1, 2 ],
        [ 'a queue of two', 'leaky', 2, 2 ],
    ) {
        my ($name, $path, $waiting, $refused) = @{$case};
        my @connections = ask($server, 1 + $waiting + $refused, "/$path");
        my @answers = answers(\@connections, 1 + $refused);
        is(statuses(@answers), join(' ', 200, (429) x $refused), "$name: one passes, who would wait longer is refused at once");
        # one that read the clock some microseconds before the one that passed has those to wait beyond 20 s: 21
        my @wrong = grep { $_->{status} == 429 && ($_->{fields}{'retry-after'} // 0) !~ /^(?:[1-9]|1\d|2[01])$/ } @answers;
        is(scalar @wrong, 0, "$name: and told when a wait would do");
        is(scalar @connections, $waiting, "$name: the others wait");
        abort(0, @connections);
        between(until_look($server, $path, 0, 20), 0, 20, "$name: until they go away");
    }
    my $piped = $server->connection;
    $piped->send("HEAD /piped HTTP/1.1\r\nHost: localhost\r\n\r\n" x 2);
    is($piped->response('HEAD', $late)->{status}, 200, 'pipelined: who has passed is answered while the request behind waits');
    between(until_look($server, 'piped', 21, 40), 21, 40, 'pipelined: which does');
    abort(0, $piped);
    $piped = $server->connection;
    $piped->send("HEAD /held HTTP/1.1\r\nHost: localhost\r\n\r\n" x 3);
    is(join(' ', map { $piped->response('HEAD', $late)->{status} } 1 .. 3), '200 200 200', 'pipelined: nobody waits for a place of the request before');
    my $refused = $server->get('/empty');
    is($refused->{status}, 429, 'B-17 nothing to begin with');
    between($refused->{fields}{'retry-after'} // 0, 1, 20, 'B-17 and the first turn is too far away');

    for my $reset (0, 1) {
        my $path = $reset ? 'gone2' : 'gone';
        my $name = 'B-28 clients that ' . ($reset ? 'reset' : 'hang up');
        is($server->get("/$path")->{status}, 200, "$name: the first one passes");
        my @waiting = ask($server, 3, "/$path");
        between(until_look($server, $path, 61, 80), 61, 80, "$name: three wait");
        abort($reset, @waiting);
        between(until_look($server, $path, 0, 20), 0, 20, "$name: give their turns back");
    }
    $server->stop;
    for my $max ('0', '1s') {
        $server = server(20, "RateLimitDelay max=$max budget=90%\n" . rules(capped => "$each action=delay:60s"));
        my $began = now();
        is($server->statuses(2, '/capped'), '200 429', "B-15 RateLimitDelay max=$max is the longest delay");
        cmp_ok(now() - $began, '<', $late, "B-15 max=$max: the second is refused at once");
        $server->stop;
    }
}

# --- who hangs up while it waits is not told of as one who was refused: fail2ban would lock out the impatient

{
    my $server = server(20, "RateLimitDelay max=60s budget=90%\n" . rules(left => 'rate=1/20s burst=1 algorithm=stepped-bucket action=delay'));
    my $ended = sub { return scalar(() = RLP::Httpd::slurp($server->file('logs/access')) =~ m{^/left 429 deny$}mg) };
    my $told = sub { return scalar(() = $server->log_text =~ /RLP001: rule left, plan default refuses/g) };
    is($server->get('/left')->{status}, 200, 'RLP001: one passes');
    abort(0, ask($server, 2, '/left'));
    ok(RLP::Httpd::wait_for(sub { $ended->() == 2 }), 'RLP001: two that would wait hang up');
    is($told->(), 0, 'RLP001: which is not said of them');
    like($server->get('/server-status?auto')->{body}, qr/^RateLimitRefused: 2$/m, 'RLP001: but they are counted');
    my @connections = ask($server, 4, '/left');
    is(statuses(answers(\@connections, 1)), '429', 'RLP001: of four more one would wait for too long');
    ok(RLP::Httpd::wait_for(sub { $told->() == 1 }), 'RLP001: which is said');
    abort(0, @connections);
    ok($server->stop, 'httpd stops');
}

# --- more that would wait than may: one in four, of eight

{
    my $server = server(8, "RateLimitDelay max=600s budget=25%\n" . rules(
        map { ($_ => 'rate=1/20s burst=1 algorithm=stepped-bucket action=delay') } qw(few stream killed again)));
    is($server->get('/few')->{status}, 200, 'B-34 the first one passes');
    my @waiting = ask($server, 2, '/few');
    between(until_look($server, 'few', 41, 60), 41, 60, 'B-34 two wait');
    my $began = now();
    my @surplus = ask($server, 3, '/few');
    my @answers = answers(\@surplus);
    cmp_ok(now() - $began, '<', $late, 'B-34 three more are answered at once');
    is(statuses(@answers), '429 429 429', 'B-34 refused');
    is(scalar(grep { ($_->{fields}{'retry-after'} // 0) =~ /^(?:4[1-9]|5\d|60)$/ } @answers), 3, 'B-34 with Retry-After');
    between(look($server, 'few'), 1, 60, 'B-34 and the counter is as before');
    $began = now();
    is($server->statuses(5, '/free'), '200 200 200 200 200', 'B-34 other requests are answered');
    cmp_ok(now() - $began, '<', $late, 'B-34 at once');
    abort(1, @waiting);
    between(until_look($server, 'few', 1, 20), 1, 20, 'B-34 when the two have gone away');
    @waiting = ask($server, 2, '/few');
    between(until_look($server, 'few', 41, 60), 41, 60, 'B-34 others may wait');
    abort(0, @waiting);
    until_look($server, 'few', 1, 20);

    SKIP: {
        skip 'httpd has no HTTP/2 here', 3 if !$with_http2;
        is($server->get('/stream')->{status}, 200, 'B-28 HTTP/2: the first one passes');
        my $h2 = h2_begin($server);
        my @streams = map { h2_ask($h2, 'GET', '/stream') } 1 .. 2;
        h2_answers($h2, 0, ());
        between(until_look($server, 'stream', 41, 60), 41, 60, 'B-28 HTTP/2: two streams wait');
        h2_reset($h2, $_) for @streams;
        between(until_look($server, 'stream', 1, 20), 1, 20, 'B-28 HTTP/2: and give their turns back when they are reset');
    }

    is($server->get('/killed')->{status}, 200, 'kill -9: the first one passes');
    @waiting = ask($server, 2, '/killed');
    between(until_look($server, 'killed', 41, 60), 41, 60, 'kill -9: two wait');
    my %killed = map { $_ => 1 } $server->children;
    kill 'KILL', keys %killed;
    is(statuses(answers(\@waiting)), '0 0', 'kill -9: of the processes in which they do');
    RLP::Httpd::wait_for(sub { !grep { $killed{$_} } $server->children });
    is($server->get('/again')->{status}, 200, 'kill -9: the server goes on');
    my $may = RLP::Httpd::wait_for(sub {
        push @waiting, ask($server, 2 - @waiting, '/again'); # which wait, or are refused
        answers(\@waiting, undef, 0.1);
        return look($server, 'again') > 40;
    }, $patience);
    ok($may, 'kill -9: in which two may wait again');
    is(statuses(answers([ ask($server, 1, '/again') ])), '429', 'kill -9: and no more');

    # stop
    $began = now();
    kill 'TERM', $server->pid;
    @answers = answers(\@waiting);
    like(statuses(@answers), qr/^(?:0|429) (?:0|429)$/, 'stop: those that wait are refused');
    cmp_ok(now() - $began, '<', $late, 'stop: at once');
    ok(RLP::Httpd::wait_for(sub { !$server->alive }), 'stop: httpd ends');
    cmp_ok(now() - $began, '<', 2 * $late, 'stop: promptly');
}

# --- restarts

{
    my $server = server(16, ($prefork ? '' : "ServerLimit 4\nMaxRequestWorkers 64\n") . "RateLimitDelay max=20s budget=50%\n" . rules(
        slow => 'rate=1/2s burst=1 algorithm=stepped-bucket action=delay',
        far => 'rate=1/20s burst=1 algorithm=stepped-bucket action=delay'));
    my $before = $server->generations;
    my $began = now();
    my @connections = ask($server, 4, '/slow');
    is(statuses(answers(\@connections, 1)), '200', 'graceful: the first one passes');
    between(until_look($server, 'slow', 3, 8), 3, 8, 'graceful: others wait');
    kill 'USR1', $server->pid;
    RLP::Httpd::wait_for(sub { $server->generations > $before });
    is($server->get('/free')->{status}, 200, 'graceful: the next generation answers');
    my @answers = answers(\@connections);
    is(statuses(@answers), '200 200 200', 'graceful: those that wait are answered');
    is((actions(@answers))[-1], 'delay', 'graceful: as delayed');
    cmp_ok(now() - $began, '>=', 6, 'graceful: the last not before its turn');
    is($server->get('/far')->{status}, 200, 'restart: the first one passes');
    @connections = ask($server, 1, '/far');
    until_look($server, 'far', 21, 40);
    $began = now();
    kill 'HUP', $server->pid;
    like(statuses(answers(\@connections)), qr/^(?:0|429)$/, 'restart: who waits is refused');
    cmp_ok(now() - $began, '<', $late, 'restart: at once');
    between(until_look($server, 'far', 1, 20), 1, 20, 'restart: and its turn is given back');
    ok($server->stop, 'httpd stops');
}

# --- places

SKIP: {
    skip 'httpd has no mod_proxy_http', 1 if !RLP::Httpd::has_module('proxy_http');
    my $backend = RLP::Backend->new(most => 10);
    my $port = $backend->port;
    my %places = (one => 'concurrent=1 action=delay', two => 'concurrent=2 action=delay', ten => 'concurrent=10 action=delay',
        second => 'concurrent=1 action=delay:1s', policy => "concurrent=1 action=delay:1s\nRateLimitDenyStatus 503", tenth => 'concurrent=1 action=delay:100ms', none => 'concurrent=1 action=deny');
    my $server = server(32, qq{ProxyPass "/back/" "http://127.0.0.1:$port/" disablereuse=On retry=0 timeout=60\n}
        . "RateLimitDelay max=60s budget=90%\n" . join('', map {
        qq{<Location "/back/$_">\nRateLimitRule $_ plan=none key=global $places{$_}\n</Location>\n} } sort keys %places)
        . qq{<Location "/back/both">\nRateLimitRule many plan=none key=global concurrent=10\nRateLimitRule single plan=none key=global concurrent=1 action=delay\n</Location>\n},
        qw(proxy proxy_http));
    for my $case (
        # name, path, at once, how many at most, seconds
        [ 'C-01 one place', 'one', 10, 1, 1 ],
        [ 'C-02 two places', 'two', 10, 2, 0.5 ],
        [ 'C-03 ten places', 'ten', 10, 10, 0.1 ],
    ) {
        my ($name, $path, $n, $most, $seconds) = @{$case};
        $backend->reset;
        $backend->serve(0.1);
        my $began = now();
        my @connections = ask($server, $n, "/back/$path");
        is(statuses(answers(\@connections)), join(' ', (200) x $n), "$name: all pass, a tenth of a second each");
        cmp_ok(now() - $began, '>=', $seconds, "$name: one after the other");
        cmp_ok(now() - $began, '<', $seconds + $late, "$name: without a gap");
        cmp_ok($backend->most, '<=', $most, "$name: never more at once");
    }
    my $began = now();
    $backend->serve(0.2);
    is($server->statuses(5, '/back/one'), '200 200 200 200 200', 'C-04 five in a row');
    between(now() - $began, 1, 1 + $late, 'C-04 of a fifth of a second each');

    $backend->hold;
    for my $case ([ 'C-05 a second', 'second', 1 ], [ 'C-05 a second, 503 by policy', 'policy', 1, 503 ], [ 'C-06 a tenth of a second', 'tenth', 0.1 ], [ 'C-07 no time', 'none', 0 ]) {
        my ($name, $path, $seconds, $status) = @{$case};
        my ($held) = ask($server, 1, "/back/$path");
        $backend->until_open(1);
        $began = now();
        my @connections = ask($server, 2, "/back/$path");
        my @answers = answers(\@connections);
        is(statuses(@answers), join(' ', ($status // 429) x 2), "$name is not enough");
        is(join(' ', map { $_->{fields}{'retry-after'} // '-' } @answers), '1 1', "$name: come back in a second");
        is(scalar(grep { $_->{at} - $began < $seconds } @answers), 0, "$name: nobody is refused before");
        cmp_ok(now() - $began, '<', $seconds + $late, "$name: nor much later");
        $backend->release;
        is(statuses(answers([$held])), '200', "$name: the one with the place is answered");
    }

    # another limit with places enough, for which nobody would wait
    $began = now();
    my @both = ask($server, 2, '/back/both');
    until_begun($server, 2);
    is($backend->until_open(1), 1, 'a place is waited for beside a limit that would not wait ...');
    $backend->serve(0);
    is(statuses(answers(\@both)), '200 200', '... and has places');
    $backend->hold;

    # in order of coming: each is on its way before the next
    $backend->reset;
    my @all = ask($server, 1, '/back/one/0');
    $backend->until_open(1);
    for my $i (1 .. 6) {
        push @all, ask($server, 1, "/back/one/$i");
        until_begun($server, 1 + $i);
    }
    is($backend->total, 1, 'C-18 six wait for one place');
    for my $i (1 .. 7) {
        $backend->until_open(1);
        $backend->release;
    }
    is(statuses(answers(\@all)), join(' ', (200) x 7), 'C-18 all have had it');
    my @order = map { m{/(\d+)$} } $backend->paths;
    my $wrong = grep { my $i = $_; grep { $order[$_] > $order[$i] } 0 .. $i - 1 } 0 .. $#order;
    note("C-18 order: @order");
    cmp_ok($wrong, '<=', 3, 'C-18 about in order of coming') if !$prefork; # whose processes know nothing of each other
    ok($server->stop, 'httpd stops');
}

# Who waits for a place over midnight is counted in the day in which it comes.
SKIP: {
    skip 'httpd has no mod_proxy_http', 1 if !RLP::Httpd::has_module('proxy_http');
    skip 'no clock of the test (TESTCLOCK_SO)', 1 if !RLP::Httpd::has_clock();
    my $backend = RLP::Backend->new(most => 10);
    my $port = $backend->port;
    my $server = RLP::Httpd->new(clock => 1, modules => [qw(proxy proxy_http status)], config => workers(8) . <<"END")->start;
ProxyPass "/back/" "http://127.0.0.1:$port/" disablereuse=On retry=0 timeout=60
RateLimitDelay max=60s
RateLimitEngine On
RateLimitRule day plan=none key=global quota=5/day
<Location "/back/">
    RateLimitRule place plan=none key=global concurrent=1 action=delay
</Location>
<Location "/server-status">
    SetHandler server-status
    RateLimitEngine Off
</Location>
END
    my $left = sub { $server->get('/index.html')->{fields}{'x-ratelimit-remaining'} };

    $server->set_clock(57_590); # ten seconds before midnight
    $backend->hold;
    my @held = ask($server, 1, '/back/one');
    $backend->until_open(1);
    push @held, ask($server, 1, '/back/two');
    until_begun($server, 2);
    is($backend->open, 1, 'one waits for a place');
    $server->set_clock(57_610);
    is($left->(), 4, 'a new day');
    $backend->release(1);
    is($backend->until_open(1), 1, 'a place comes');
    is($left->(), 2, 'in that day, which goes on as it was');
    $backend->release;
    is(statuses(answers(\@held)), '200 200', 'both are answered');
    ok($server->stop, 'httpd stops');
}

# A place comes free while too many look for it to let one more wait: that is no refusal for ever.
{
    my $server = server(12, "RateLimitDelay max=20s budget=10%\n" . rules(busy => 'concurrent=1 action=delay')
            . qq{<Location "/big">\nRateLimitRule busy plan=none key=global concurrent=1\n</Location>\n});
    $server->file('htdocs/big', 'x' x 30_000_000);
    my ($held) = ask($server, 1, '/big');
    ok($held->need(1000, time + $patience), 'an answer that is not read keeps its place');
    my @crowd = ask($server, 12, '/busy');
    my @answers = answers(\@crowd, 11);
    is(statuses(@answers), join(' ', (429) x 11), 'one may wait for a place: others are refused');
    abort(0, $held);
    push @answers, answers(\@crowd), map { my @connections = ask($server, 12, '/busy'); answers(\@connections) } 1 .. 60;
    my %said;
    $said{ join ' ', $_->{status}, $_->{fields}{'retry-after'} // '-' }++ for @answers;
    note(join ', ', map { "$said{$_} times $_" } sort keys %said);
    is(join(', ', grep { !/^(?:200 -|429 1)$/ } keys %said), '', 'and told to come back in a second, as are those of crowds');
    ok($server->stop, 'httpd stops');
}

done_testing;
