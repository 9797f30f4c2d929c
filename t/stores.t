#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Several stores in one server: each rule counts in the one it names, and a request is charged in all or in none.

use strict;
use warnings;

use Test::More;

use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

sub server {
    my ($config) = @_;
    my $server = RLP::Httpd->new;
    $server->configure("RateLimitEngine On\nRateLimitIdentity ip\n$config\n");
    return $server->start;
}

sub left {
    my ($server, @fields) = @_;
    my $response = $server->get('/index.html', @fields);
    return "$response->{status} " . ($response->{fields}{ratelimit} // '-') =~ s/;t=\d+//gr;
}

my $two = "RateLimitStore near shm size=1M\nRateLimitStore beside shm size=1M\n";

subtest 'no store, as no rule needs one' => sub {
    my $handlers = join '', map {"<Location /$_>\nSetHandler ratelimit-$_\n</Location>\n"} qw(status quota admin);
    for my $config ('', 'RateLimitEngine On', 'RateLimitEngine LogOnly', 'RateLimitEngine Off', 'RateLimitPlan free rate=1/hour',
        "RateLimitEngine On\nRateLimitStore near shm size=1M", 'RateLimitEngine On' . "\n<Location /x>\nRateLimitHeaders legacy\n</Location>",
        "RateLimitEngine On\nRateLimitPlan free rate=1/hour\nRateLimitPlanDefault free") {
        for my $rest ('', $handlers) {
            my $server = RLP::Httpd->new;
            my $name = ($config =~ s/\n/; /gr || 'the module alone') . ($rest && ', with handlers');
            $server->configure("$config\n$rest");
            $server->start;
            is($server->statuses(3, '/index.html'), '200 200 200', $name);
            is($server->get('/none')->{status}, 404, 'a file that is not there');
            for my $path ($rest ? qw(/status /status?format=json /status?format=prometheus /quota /admin) : ()) {
                cmp_ok($server->get($path)->{status}, '<', 500, $path);
            }
            ok($server->graceful, 'a graceful restart');
            is($server->statuses(1, '/index.html'), '200', 'and again');
for my $order ($rest ? ('{"action":"plans"}', '{"action":"ban","identity":"ip:192.0.2.1","for":"1h"}', '{"action":"top"}') : ()) {
                my $connection = $server->connection;
                $connection->send("POST /admin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
                        . 'Content-Length: ' . length($order) . "\r\n\r\n$order");
                like($connection->response('POST')->{status}, qr/^(?:200|4\d\d|503)$/, $order);
            }
            unlike($server->log_text, qr/exit signal|AH00052/, 'nobody has crashed');
            $server->stop;
        }
    }
};

subtest 'each rule counts in its store' => sub {
    my $server = server("${two}RateLimitRule a rate=5/hour\nRateLimitRule b rate=9/hour store=beside");
    is(left($server), '200 "a";r=4, "b";r=8', 'both are charged');
    is(left($server), '200 "a";r=3, "b";r=7', 'and charged again');
    my $dir = $server->dir;
    ok(-s "$dir/run/ratelimit-$_.shm", "a file of the store $_") for qw(near beside);
    ok($server->graceful, 'a graceful restart');
    is(left($server), '200 "a";r=2, "b";r=6', 'forgets neither');
    ok($server->stop && $server->start, 'a stop and a start');
    is(left($server), '200 "a";r=1, "b";r=5', 'forgets neither');
};

# One rule a store; none may count twice.
sub rules {
    my ($engine, @stores) = @_;
    return join "\n", @stores, map({ /RateLimitStore (\w+)/ && "RateLimitRule $1 rate=99/week store=$1" } @stores), $engine;
}

sub rests {
    my ($server) = @_;
    my $fields = $server->get('/index.html')->{fields}{ratelimit} // '-';
    return join ' ', sort map { /"(\w+)";r=(\d+)/ ? "$1=$2" : $_ } split /, /, $fields;
}

subtest 'stores that come, go and change places at a graceful restart' => sub {
    my %store = map { $_ => "RateLimitStore $_ shm size=1M" } qw(a b c);
    my $engine = "RateLimitEngine On\nRateLimitIdentity ip\n<Location /admin>\nSetHandler ratelimit-admin\n</Location>";
    my $server = RLP::Httpd->new(config => rules($engine, $store{a}))->start;
    my $dir = $server->dir;
    is(rests($server), 'a=98', 'one');
    for my $step (
        # stores, what is left in each
        [ 'b a',   'a=97 b=98',      'another before it' ],
        [ 'a b',   'a=96 b=97',      'in another order' ],
        [ 'c a b', 'a=95 b=96 c=98', 'a third' ],
        [ 'b c',   'b=95 c=97',      'the first of all goes' ],
        [ 'c b a', 'a=94 b=94 c=96', 'and comes back' ],
        [ 'a',     'a=93',           'alone' ],
    ) {
        my ($names, $left, $name) = @$step;
        $server->configure(rules($engine, map { $store{$_} } split / /, $names));
        ok($server->graceful, "$name: a graceful restart");
        is(rests($server), $left, "$name: each has what it had");
    }
    unlike($server->log_text, qr/in use by another server|RLP011/, 'nothing is said of that');
    $server->configure(rules($engine, $store{c}, "$store{b} file=other", $store{a}));
    ok($server->graceful, 'another file: a graceful restart');
    is(rests($server), 'a=92 b=93 c=95', 'another file: and nothing is lost');
    like($server->log_text, qr{RLP011: the store stays \Q$dir\E/run/ratelimit-b\.shm with 1048576 bytes}, 'another file: which is said');
    ok($server->stop && $server->start, 'a stop and a start');
    is(rests($server), 'a=91 b=98 c=94', 'each has its file');
};

subtest 'a store in Redis comes before one of this host' => sub {
    plan skip_all => 'built without Redis' if !RLP::Httpd::has_redis();
    my $engine = "RateLimitEngine On\nRateLimitIdentity ip";
    my $near = 'RateLimitStore near shm size=1M';
    my $far = 'RateLimitStore far redis url=unix:///no/such/socket hosts=1 failure=';
    my $server = RLP::Httpd->new(config => rules($engine, $near))->start;
    is(rests($server), 'near=98', 'without');
    $server->configure(rules($engine, "${far}local", $near));
    ok($server->graceful, 'local: a graceful restart');
    is(rests($server), 'far=98 near=97', 'local: each has its file');
    $server->configure(rules($engine, "${far}open", $near));
    ok($server->graceful, 'open: a graceful restart');
    is(rests($server) =~ s/far=\d+ //r, 'near=96', 'open: it has none');
};

subtest 'bans and figures of a store that is no more' => sub {
    plan skip_all => 'built without Redis' if !RLP::Httpd::has_redis();
    my $pages = join '', map {"<Location /$_>\nSetHandler ratelimit-$_\n</Location>\n"} qw(status admin);
    my $engine = "RateLimitEngine On\nRateLimitIdentity ip\n$pages";
    my $far = 'RateLimitStore far redis url=unix:///no/such/socket failure=open';
    my $asked = sub {
        my ($server, $body) = @_;
        my $connection = $server->connection;
        $connection->send(join "\r\n", 'POST /admin HTTP/1.1', 'Host: localhost', 'Connection: close', 'Content-Type: application/json',
            'Content-Length: ' . length $body, '', $body);
        return $connection->response('POST')->{body};
    };
    my $server = RLP::Httpd->new(config => rules($engine, 'RateLimitStore near shm size=1M'))->start;
    like($asked->($server, '{"action":"ban","identity":"ip:192.0.2.1","for":"1h"}'), qr/"changed":true/, 'a ban');
    $server->configure(rules($engine, $far));
    ok($server->graceful, 'another store: a graceful restart');
    like($asked->($server, '{"action":"overrides"}'), qr/"overrides":\[\]/, 'another store: it has no bans');
    like($server->get('/status?format=json')->{body}, qr/"slots":0,"used":0,/, 'another store: nor places for counters');
    $server->configure(rules($engine, 'RateLimitStore near shm size=1M'));
    ok($server->graceful, 'as before: a graceful restart');
    like($asked->($server, '{"action":"overrides"}'), qr/"identity":"ip:192\.0\.2\.1"/, 'as before: the ban is there');
};

subtest 'all or none' => sub {
    my $server = server("${two}RateLimitRule a key=ip rate=9/hour\nRateLimitRule b rate=2/hour store=beside");
    is(left($server), '200 "b";r=1, "a";r=8', 'a request');
    is(left($server), '200 "b";r=0, "a";r=7', 'another');
    is(left($server), '429 "b";r=0, "a";r=7', 'the second store refuses: the first is not charged') for 1 .. 3;
    $server = server("${two}RateLimitRule a rate=1/hour\nRateLimitRule b rate=9/hour store=beside");
    is(left($server), '200 "a";r=0, "b";r=8', 'a request');
    is(left($server), '429 "a";r=0', 'the first refuses: the second is not asked, and tells nothing') for 1 .. 3;
    is(left($server), '429 "a";r=0', 'nor charged');
};

subtest 'charges are corrected where they were made' => sub {
    my $server = server("${two}RateLimitRefund \"expr=%{REQUEST_STATUS} == 404\"\n"
            . "RateLimitRule a rate=2/hour concurrent=2\nRateLimitRule b rate=2/hour concurrent=2 store=beside");
    ok(RLP::Httpd::wait_for(sub { $server->get('/nowhere')->{status} == 404 }), "request $_ is given back") for 1 .. 6;
};

subtest 'the same name in a deeper section' => sub {
    my $server = server("${two}RateLimitRule a rate=5/hour\n<Location /index.html>\nRateLimitRule a rate=5/hour store=beside\n</Location>");
    $server->get('/other') for 1 .. 3;
    is(left($server), '200 "a";r=4', 'counts in the store that it names itself');
};

subtest 'in words' => sub {
    my $server = RLP::Httpd->new(config => "${two}RateLimitEngine On\nRateLimitRule a rate=5/hour store=beside\nRateLimitRule b rate=5/hour\n");
    my ($code, $said) = $server->configtest('-D', 'DUMP_RATELIMIT');
    is($code, 0, 'it is fine');
    like($said, qr/^Rate limit store: 1024 kB of shared memory in the runtime directory\nRate limit store beside: 1024 kB/m, 'both stores');
    like($said, qr/^  a: .*, in the store beside \(/m, 'what a rule says of it');
    unlike($said, qr/^  b: .*store/m, 'and nothing where it says nothing');
};

done_testing;
