# Licensed under the Apache License, Version 2.0; see LICENSE.

# A client that has used up what it has of /items asks for the same in other words. Whoever gets the resource has got
# around the limit.

use strict;
use warnings;

use RLP::Attacked qw(limits);
use RLP::Http2;

my @paths = (
    '/items', '/items?', '/items?a=b', '/items?/free.txt', '/items#', '//items', '///items', '/./items', '/x/../items', '/free.txt/../items', '/.//items',
    '/items/', '/items//', '/items/.', '/items/..', '/items/../items', '/x/../../items', '/../items', '/%69tems', '/ite%6ds', '/%69%74%65%6d%73', '/%2e/items',
    '/%2e%2e/items', '/x/%2e%2e/items', '/x%2f..%2fitems', '/%2fitems', '%2fitems', '/items%2f', '/items%20', '/items%00', '/items%00.txt', '/items%3f', '/items%23', '/items;',
    '/items;a=b', '/;/items', '/x;/../items', '/items.', '/items%2e', '/ITEMS', '/Items', '/%49tems', '/%2569tems', '/items%0a', '/items%0d%0a', '/items\\', '/\\items', '/x\\..\\items',
    '/%c0%ae/items', '/%u0069tems', "/items\t", '/items/x', '/items/free.txt', '/items.html', '/items.var', '/items&', '/items+', '/items,', '/*/../items', '/~/../items',
    'http://localhost/items', 'HTTP://LOCALHOST/items', 'http://localhost//items', 'http://localhost:80/items', 'http://user@localhost/items', 'http://other.test/items', 'http:///items',
    'https://localhost/items', 'http://localhost/x/../items', 'http://localhost/items/', 'items', '*', '/' . '/' x 4000 . 'items', '/' . './' x 2000 . 'items', '/' . 'x/../' x 500 . 'items',
);
my @heads = (
    'GET /items HTTP/1.0', "GET /items HTTP/1.1\r\nHost: other.test", "GET /items HTTP/1.1\r\nHost: localhost.", "GET /items HTTP/1.1\r\nHost: LOCALHOST:1",
    "GET  /items HTTP/1.1\r\nHost: localhost", "GET\t/items HTTP/1.1\r\nHost: localhost", "\r\nGET /items HTTP/1.1\r\nHost: localhost", "get /items HTTP/1.1\r\nHost: localhost",
    "HEAD /items HTTP/1.1\r\nHost: localhost\r\nX-HTTP-Method-Override: GET", "POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", "OPTIONS /items HTTP/1.1\r\nHost: localhost",
    "PROPFIND /items HTTP/1.1\r\nHost: localhost", "GET /free.txt HTTP/1.1\r\nHost: localhost\r\nX-Original-URL: /items", "GET /free.txt HTTP/1.1\r\nHost: localhost\r\nX-Rewrite-URL: /items",
    "GET /items HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-3", "GET /items HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue", "GET /items HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: *",
    "GET /items HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings",
);

# Does it get the resource, or part of it?
sub gets {
    my ($server, $head, $address) = @_;
    my $connection = $server->connect($address);
    my $closing = $head =~ /^Connection:/m ? '' : "\r\nConnection: close";
    $connection->send("$head\r\nX-Forwarded-For: $address$closing\r\n\r\n");
    my $response = $connection->response($head =~ /^HEAD/ ? 'HEAD' : 'GET', 10);
    return 1 if $response->{status} == 206 || $response->{body} =~ /the resource/;
    return $head =~ m{^HEAD /items} && $response->{status} == 200;
}

sub shown {
    my ($head) = @_;
    my ($words) = $head =~ s/\s+HTTP.*//sr =~ s/^\s*GET\s//r;
    $words .= $1 if $head =~ /\r\n((?!Host: localhost\r?$)[^\r]*)/ && $words =~ m{^/items$};
    return length $words > 40 ? substr($words, 0, 12) . '... of ' . length $words : $words =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger;
}

sub tricks {
    my ($name, %ours) = @_;
    my $server = RLP::Attacked->start($name, %ours);
    my $admitted = $server->admitted(12, '/items', '10.9.9.9');
    my @all = ((map { "GET $_ HTTP/1.1\r\nHost: localhost" } @paths), @heads);
    my @around = grep { gets($server, $_, '10.9.9.9') } @all;
    my $others = 0;
    my @reach = grep { gets($server, $_, '10.9.8.' . $others++) } @all;
    my $alive = $server->admitted(1, '/free.txt', '10.9.9.7');

    return ($admitted == 5 && $alive && !@around,
        "$admitted admitted, then " . @around . ' of ' . @all . ' ways, of which ' . @reach . ' lead to it, got around it' . (@around ? ': ' . join(' ', map { shown($_) } @around[0 .. ($#around < 9 ? $#around : 9)]) : ''));
}

# The same words as :path of HTTP/2.
sub tricks_h2 {
    my ($name) = @_;
    my %ours = limits('rate=1000/s', "Protocols h2c http/1.1\nH2Direct on\n");
    push @{ $ours{modules} }, 'http2';
    my $server = RLP::Attacked->start($name, %ours);
    my $admitted = $server->admitted(12, '/items');
    my @around;

    for my $path (grep { length() < 127 } @paths) {
        my $h2 = h2_begin($server);
        my $stream = h2_ask($h2, 'GET', $path);
        my $status = h2_answers($h2, 10, $stream);
        push @around, $path if $status eq '200' && $path !~ /free\.txt$/;
    }
    my $alive = $server->admitted(1, '/free.txt');
    return ($admitted == 5 && $alive && !@around, "$admitted admitted, then " . @around . ' got around it' . (@around ? ": @around" : ''));
}

# A key that is known and used up, at an address that is used up: no spelling of the field gives more.
sub keys_of_clients {
    my ($name) = @_;
    my $server = RLP::Attacked->start($name, files => [['keys', "k1 known\n"]], config => <<'CONF');
RateLimitStore counters shm size=1M
RateLimitEngine On
RateLimitPlan known rate=5/week
RateLimitPlanMap key "txt:@DIR@/htdocs/keys"
RateLimitIdentity key=header:X-Key ip
RateLimitRule keyed path=/limited.txt rate=5/week
CONF
    my $address = $server->admitted(12, '/limited.txt');
    my $key = $server->admitted(12, '/limited.txt', undef, 'X-Key: k1');
    my @fields = (
        ['X-Key:k1'], ['x-key: k1'], ['X-KEY: k1'], ["X-Key: \t k1 \t"], ['X-Key: K1'], ['X-Key: k1', 'X-Key: k1'], ['X-Key: k1', 'X-Key: other'], ['X-Key: other', 'X-Key: k1'], ['X-Key: '],
        ['X-Key: k1,k1'], ['X-Key: "k1"'], ['X-Key: k1;a'], ['X_Key: k1'], ['X-Key: k1%00'], ["X-Key: k1\x{a0}"], ["X-Key:\r\n k1"], ['X-Key: ' . 'k1' x 3000], ['X-Forwarded-For: 1.2.3.4'], ['Forwarded: for=1.2.3.4'],
        ['X-Real-IP: 1.2.3.4'], ['Via: 1.1 proxy', 'X-Key: none'], ['Connection: X-Key', 'X-Key: k1'], ['Cookie: X-Key=k1'],
    );
    my @around = grep { $server->admitted(1, '/limited.txt', undef, @{$_}) } @fields;

    return ($address == 5 && $key == 5 && !@around, "$address and $key admitted, then " . @around . ' of ' . @fields . ' got around it' . (@around ? ': ' . join(', ', map { "@{$_}" } @around) : ''));
}

my $promise = 'no other words for it give more of it';
my $merged = "MergeSlashes Off\nAllowEncodedSlashes On\n";

return (
    { name => 'other words for a path', promise => $promise, run => sub { tricks($_[0], limits('rate=1000/s')) } },
    { name => 'other words, MergeSlashes Off', promise => $promise, run => sub { tricks($_[0], limits('rate=1000/s', $merged)) }, servers => ['ours'] },
    { name => 'other words in HTTP/2', promise => $promise, run => \&tricks_h2, servers => ['ours'] },
    { name => 'other words for a key', promise => $promise, run => \&keys_of_clients, servers => ['ours'] },
);
