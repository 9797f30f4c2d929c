# Licensed under the Apache License, Version 2.0; see LICENSE.

# Other words for one thing: how a client that has used up what it has of /items may ask for it again, and how the field
# X-Key: k1 may be written. t/tricks.t goes through them, and t/attack/tricks.pl, which has other servers go through them, too.

package RLP::Tricks;

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT = qw(heads key_fields shown_head paths);

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

my @fields = (
    ['X-Key:k1'], ['x-key: k1'], ['X-KEY: k1'], ["X-Key: \t k1 \t"], ['X-Key: K1'], ['X-Key: k1', 'X-Key: k1'], ['X-Key: k1', 'X-Key: other'], ['X-Key: other', 'X-Key: k1'], ['X-Key: '],
    ['X-Key: k1,k1'], ['X-Key: "k1"'], ['X-Key: k1;a'], ['X_Key: k1'], ['X-Key: k1%00'], ["X-Key: k1\x{a0}"], ["X-Key:\r\n k1"], ['X-Key: ' . 'k1' x 3000], ['X-Forwarded-For: 1.2.3.4'], ['Forwarded: for=1.2.3.4'],
    ['X-Real-IP: 1.2.3.4'], ['Via: 1.1 proxy', 'X-Key: none'], ['Connection: X-Key', 'X-Key: k1'], ['Cookie: X-Key=k1'],
);

# What may stand as the path of a request.
sub paths { return @paths }

# Requests up to their fields, with those paths and others, for HTTP/1.
sub heads {
    return (map { "GET $_ HTTP/1.1\r\nHost: localhost" } @paths), @heads;
}

# Lists of fields.
sub key_fields { return @fields }

# A head, to be read by people.
sub shown_head {
    my ($head) = @_;
    my ($words) = $head =~ s/\s+HTTP.*//sr =~ s/^\s*GET\s//r;
    $words .= $1 if $head =~ /\r\n((?!Host: localhost\r?$)[^\r]*)/ && $words =~ m{^/items$};
    return length $words > 40 ? substr($words, 0, 12) . '... of ' . length $words : $words =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger;
}

1;
