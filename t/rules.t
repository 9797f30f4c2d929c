#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The choice of rules: by path, method and priority; dry runs and marks; rules before authentication.

use strict;
use warnings;

use RLP::Test;
use Test::More;

# "RULE/LIMIT ..." of all limits in force for a request, by RateLimit-Policy.
sub in_force {
    my ($host, $path, $method) = @_;
    my $policies = request($method || 'GET', $path, Host => $host)->header('RateLimit-Policy') // '';
    return join ' ', sort map { s/"//gr =~ s/;q=/\//r =~ s/;w=.*//r } split /, /, $policies;
}

# --- R-*: which rules apply

my @cases = (
    # id, host, "METHOD PATH", rules and their limits
    [ 'R-01', 'r0.test', 'GET /items', 'items/10' ],
    [ 'R-02', 'r0.test', 'POST /items', 'items/10' ],
    [ 'R-03', 'r0.test', 'GET /users', 'default-rule/5' ],
    [ 'R-04', 'r0.test', 'GET /any/deep/path', 'default-rule/5' ],
    [ 'R-04 the root', 'r0.test', 'GET /', 'default-rule/5' ],
    [ 'R-05', 'r05.test', 'GET /unknown', '' ],
    [ 'R-06', 'r06.test', 'GET /items', 'items/10' ],
    [ 'R-06 the fallback', 'r06.test', 'DELETE /unknown/path', 'fallback/7' ],
    [ 'R-07', 'r07.test', 'GET /items', 'items/10' ],
    [ 'R-09', 'r09.test', 'GET /any', 'always/9 ten/10' ],
    [ 'R-09 the first of equals', 'r09.test', 'GET /equal', 'always/9 equal-one/21' ],
    [ 'R-09 where the highest does not match', 'r09.test', 'POST /any', 'always/9 five/5' ],
    [ 'R-10', 'r10.test', 'GET /items', 'default-rule/5' ],
    [ 'R-10 then', 'r10.test', 'POST /items', 'post/8' ],
    [ 'R-11', 'r10.test', 'PUT /lower', 'lower/6' ],
    [ 'R-13', 'globs.test', 'GET /items/1', 'item/2' ],
    [ 'R-13', 'globs.test', 'GET /items/abc', 'item/2' ],
    [ 'R-14', 'globs.test', 'GET /items/1/edit', '' ],
    [ 'R-14', 'globs.test', 'GET /items', 'items/1' ],
    [ 'R-15', 'globs.test', 'GET /v1/items/123', 'v1/3' ],
    [ 'R-15', 'globs.test', 'GET /v1/posts/123', 'v1/3' ],
    [ 'R-15', 'globs.test', 'GET /v1/posts/999', '' ],
    [ 'R-16', 'globs.test', 'GET /api', 'api/4' ],
    [ 'R-16 R-20', 'globs.test', 'GET /api/users', 'api/4' ],
    [ 'R-16', 'globs.test', 'GET /api/v1/orders/123', 'api/4' ],
    [ 'R-17', 'globs.test', 'GET /apix/v1', '' ],
    [ 'R-18', 'globs.test', 'GET /api/health', 'api/4 health/5' ],
    [ 'R-18', 'globs.test', 'GET /api/v1/health', 'api/4 health/5' ],
    [ 'R-18', 'globs.test', 'GET /api/v1/internal/health', 'api/4 health/5' ],
    [ 'R-22', 'globs.test', 'GET /items/', 'items/1' ],
    (map { [ 'R-23', 'globs.test', "GET $_", 'items/1' ] }
        qw(//items /./items /a/../items /%69tems /items/. /%2e/items ///items// http://globs.test/items)),
    [ 'R-23 for another server', '127.0.0.9', 'GET http://127.0.0.9:1/x/..//%69tems?x', 'items/1' ],
    [ 'R-23 slashes that httpd leaves', 'slashes.test', 'GET //items', 'items/1' ],
    [ 'R-25', 'globs.test', 'GET /Items', '' ],
    [ 'R-26', 'globs.test', 'GET /items?x=1', 'items/1' ],
    [ 'R-26 what looks like a path', 'globs.test', 'GET /other?x=/items', '' ],
    [ 'R-28', 'globs.test', 'GET ' . '/s' x 81, '' ],
    [ 'R-28 which would match', 'globs.test', 'GET ' . '/s' x 81 . '/end', 'six/6' ],
    [ 'R-29', 'r29.test', 'GET /api/users', 'users/3' ],
    [ 'R-29 beside it', 'r29.test', 'GET /api/user', 'api/4' ],
    [ 'R-31', 'r31.test', 'GET /', 'text/3' ],
    [ 'a deeper section', 'deeper.test', 'GET /items', 'high/2' ],
    [ 'a deeper section by a name that is known', 'deeper.test', 'GET /same', 'low/4' ],
    [ 'a deeper section without the rule', 'deeper.test', 'GET /off', 'middle/5' ],
);
begin;
for my $case (@cases) {
    my ($id, $host, $line, $expected) = @{$case};
    my ($method, $path) = split / /, $line;
    is(in_force($host, $path, $method), $expected, "$id: $line");
}
is(fields(get('/unknown', Host => 'r05.test')), '', 'R-05: nothing is said');

begin;
is(answers(1, '/items', Host => 'r0.test'), 'A9', 'R-01: what another alternative counts ...');
is(answers(5, '/users', Host => 'r0.test'), 'A4 A3 A2 A1 A0', '... is not charged ...');
is(answers(1, '/items', Host => 'r0.test'), 'A8', '... nor uses up the one that applies');
is(answers(1, '/users', Host => 'r0.test'), 'D12', '... in either direction');

# --- a path that changes on the way

my @changed = (
    # how, path
    [ 'mod_rewrite in the server, passed through', '/rewrite/server' ],
    [ 'mod_rewrite in a directory', '/rewritten/once' ],
    [ 'DirectoryIndex', '/indexed/' ],
    [ 'FallbackResource', '/fallback/x' ],
    [ 'MultiViews', '/negotiated/page' ],
);
for my $case (@changed) {
    my ($how, $path) = @{$case};
    begin;
    is(statuses(3, $path), '200 200 429', "$how: the rule of the path that answers is judged");
}
begin;
is(statuses(3, '/rewritten/first'), '200 200 429', 'a redirect: the rule of the path asked for is judged');
begin;
is(in_force('rules.test', '/rewritten/both'), 'here/9 there/2', 'a redirect: the rules of both paths are judged');
begin;
is(answers(2, '/there'), 'A1 A0', 'a path that stays is judged once');
is(statuses(1, '/rewritten/both'), 429, 'what the other path counts refuses the redirected request');

done_testing;

__DATA__
<VirtualHost *:${RLP_PORT}>
    ServerName r0.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    RateLimitRule default-rule path=/** rate=5/min priority=0
    RateLimitRule items path=/items rate=10/min priority=10
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName r05.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    RateLimitRule items path=/items rate=10/min priority=10
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName r06.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    RateLimitRule items path=/items rate=10/min priority=10
    RateLimitRule fallback rate=7/min priority=0
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName r07.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    RateLimitRule items path=/items rate=10/min priority=10
    RateLimitRule default-rule path=/** rate=5/min priority=0
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName r09.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    RateLimitRule zero rate=1/min priority=0
    RateLimitRule ten rate=10/min priority=10 method=GET
    RateLimitRule always rate=9/min
    RateLimitRule five rate=5/min priority=5
    RateLimitRule equal-one rate=21/min priority=20 path=/equal
    RateLimitRule equal-two rate=22/min priority=20 path=/equal
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName r10.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    RateLimitRule default-rule rate=5/min priority=0
    RateLimitRule post path=/items method=POST rate=8/min priority=5
    RateLimitRule lower path=/lower method=put rate=6/min priority=5
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName globs.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    RateLimitRule items path=/items rate=1/min burst=1 key=vhost "cost=0"
    RateLimitRule item path=/items/* rate=2/min
    RateLimitRule v1 path=/v1/*/123 rate=3/min
    RateLimitRule api path=/api/** rate=4/min cost=0
    RateLimitRule health path=/api/**/health rate=5/min
    RateLimitRule six path=/**/s/**/s/**/s/**/s/**/s/**/end rate=6/min
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName slashes.test
    RateLimitEngine On
    MergeSlashes Off
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    RateLimitRule items path=/items rate=1/min
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName forward.test
    ServerAlias 127.0.0.9
    RateLimitEngine On
    ProxyRequests On
    RateLimitRule items path=/items rate=1/min
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName r29.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    RateLimitRule users path=/api/users rate=3/min priority=10
    RateLimitRule api path=/api/** rate=4/min priority=0
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName r31.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    RateLimitRule nine rate=2/min priority=9
    RateLimitRule text rate=3/min "priority=10"
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName deeper.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    RateLimitRule low rate=3/min priority=1
    RateLimitRule middle rate=5/min priority=5
    <Location "/items">
        RateLimitRule high rate=2/min priority=10
    </Location>
    <Location "/same">
        RateLimitRule low rate=4/min priority=6
    </Location>
    <Location "/off">
        RateLimitRule low Off
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName rules.test
    RateLimitEngine On
    RewriteEngine On
    RewriteRule "^/rewrite/server$" "/passed/through" [PT]
    AliasMatch "^/(passed|there)(/|$)" "${T}/htdocs/ok.txt"
    RateLimitRule passed path=/passed/* rate=2/min
    RateLimitRule index path=/indexed/index.html rate=2/min
    RateLimitRule fallback path=/answers rate=2/min
    RateLimitRule page path=/negotiated/page.html rate=2/min
    RateLimitRule first path=/*/first rate=2/min
    RateLimitRule here path=/rewritten/both rate=9/min
    RateLimitRule there path=/there rate=2/min
    RateLimitRule once path=/redirected rate=2/min

    Alias "/indexed" "${T}/htdocs/directory"
    Alias "/fallback" "${T}/htdocs/directory"
    Alias "/answers" "${T}/htdocs/ok.txt"
    Alias "/redirected" "${T}/htdocs/ok.txt"
    Alias "/rewritten" "${T}/htdocs/rewritten"
    <Location "/fallback">
        FallbackResource /answers
    </Location>
    <Directory "${T}/htdocs/rewritten">
        RewriteEngine On
        RewriteBase "/rewritten/"
        RewriteRule "^once$" "/redirected"
        RewriteRule "^first$" "/ok.txt"
        RewriteRule "^both$" "/there"
    </Directory>
    <Directory "${T}/htdocs/negotiated">
        Options +MultiViews
    </Directory>
</VirtualHost>
