#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Who has used up what there is of a path, or of a key, asks for it in other words (t/lib/RLP/Tricks.pm): nobody gets more.
# And keys of any length count when the store is full.

use strict;
use warnings;

use Test::More;

use RLP::Http2;
use RLP::Httpd;
use RLP::Tricks;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'httpd has no mod_remoteip' if !RLP::Httpd::has_module('remoteip');

my $with_http2 = $RLP::Httpd::mpm ne 'prefork' && RLP::Httpd::has_module('http2');

# A resource of which an address has five.
sub server {
    my ($config) = @_;
    my $server = RLP::Httpd->new(modules => [ 'remoteip', $with_http2 ? 'http2' : () ], clock => 1, config => <<"CONF");
RemoteIPHeader X-Client
RemoteIPInternalProxy 127.0.0.1
RateLimitStore counters shm size=1M
RateLimitEngine On
$config
CONF
    $server->file('keys', "k1 known\n");
    $server->file('htdocs/items', "the resource\n");
    $server->file('htdocs/free.txt', "hello\n");
    return $server->start;
}

sub gets {
    my ($server, $head, $address) = @_;
    my $connection = $server->connection;
    my $closing = $head =~ /^Connection:/m ? '' : "\r\nConnection: close";
    $connection->send("$head\r\nX-Client: $address$closing\r\n\r\n");
    my $response = $connection->response($head =~ /^HEAD/ ? 'HEAD' : 'GET');
    return 1 if $response->{status} == 206 || $response->{body} =~ /the resource/;
    return $head =~ m{^HEAD /items} && $response->{status} == 200;
}

sub paths_of {
    my ($name, $config) = @_;
    my $server = server($config);
    my $others = 0;

    is($server->statuses(6, '/items', 'X-Client: 10.0.0.1'), '200 200 200 200 200 429', "$name: five of the resource");
    is(join("\n", map { shown_head($_) } grep { gets($server, $_, '10.0.0.1') } heads()), '', "$name: no other words for the path give more");
    my $reach = grep { gets($server, $_, '10.0.1.' . $others++) } heads();
    cmp_ok($reach, '>=', 40, "$name: though $reach of them lead there");
    is($server->get('/free.txt', 'X-Client: 10.0.0.1')->{status}, 200, "$name: another path is free");
    return $server;
}

my $rule = "RateLimitRule items path=/items rate=5/week key=ip\n";
paths_of('path=', $rule);
paths_of('path=, MergeSlashes Off', "${rule}MergeSlashes Off\nAllowEncodedSlashes On\n");
paths_of('a section', qq{<Location "/items">\n    RateLimitRule items rate=5/week key=ip\n</Location>\n});
paths_of('files', qq{<Files "items">\n    RateLimitRule items rate=5/week key=ip\n</Files>\n});

SKIP: {
    skip 'no HTTP/2 with prefork', 2 if !$with_http2;
    my $server = server("${rule}Protocols h2c http/1.1\nH2Direct on\n");
    $server->statuses(5, '/items');
    my @around;
    for my $path (grep { length() < 127 } paths()) {
        my $h2 = h2_begin($server);
        my $status = h2_answers($h2, 20, h2_ask($h2, 'GET', $path));
        push @around, $path if $status eq '200' && $path !~ /free\.txt$/;
    }
    is(join("\n", @around), '', 'HTTP/2: no other words for the path give more');

    my $upgrade = $server->connection;
    $upgrade->send("GET /items HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAAAA\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n");
    is($upgrade->response->{status}, 429, 'HTTP/2: who is limited does not get there by an upgrade');
}

{
    my $server = server(<<'CONF');
RateLimitPlan known rate=5/week
RateLimitPlanMap key "txt:@DIR@/keys"
RateLimitIdentity key=header:X-Key ip
RateLimitRule keyed path=/free.txt rate=5/week
CONF
    is($server->statuses(6, '/free.txt', 'X-Key: k1'), '200 200 200 200 200 429', 'five of a key');
    is($server->statuses(6, '/free.txt'), '200 200 200 200 200 429', 'five of an address');
    my @around = grep { $server->get('/free.txt', @{$_})->{status} == 200 } key_fields();
    is(join("\n", map { "@{$_}" } @around), '', 'no other words for the key give more of either');
}

{
    my $server = server('RateLimitRule free path=/free.txt rate=5/week "key=text=expr:%{HTTP:X-Text}"');
    my $connection = $server->connection;
    for my $round (1 .. 150) {
        $connection->send(join '', map { "GET /free.txt HTTP/1.1\r\nHost: localhost\r\nX-Text: short-$round-$_\r\n\r\n" } 1 .. 100);
        $connection->response for 1 .. 100;
    }
    my @got = map { $server->statuses(6, '/free.txt', 'X-Text: ' . 'k' x 2000 . $_) } 1 .. 20;
    is_deeply(\@got, [ ('200 200 200 200 200 429') x 20 ], 'long keys in a store that is full of short ones: five each');
}

done_testing;
