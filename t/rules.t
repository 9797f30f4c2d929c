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
    [ 'R-11 what is a POST to many an application', 'r10.test', 'post /items', 'post/8' ],
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

# --- rules that refuse nobody

# "ACTION RULE LEFT" of so many requests, by the variables.
sub told {
    my ($n, $path, %field) = @_;
    host('apart.test');
    my @told = map {
        my $response = ask($path, %field);
        join ' ', map { $response->header("X-$_") // '-' } qw(Action Rule Left)
    } 1 .. $n;
    host('rules.test');
    return join ', ', @told;
}

begin;
is(told(4, '/dry/alone'), 'pass dry 1, pass dry 0, would-deny dry 0, would-deny dry 0', 'mode=log: what would have been refused');
is(fields(get('/dry/alone', Host => 'apart.test')), '', 'mode=log: no fields tell of it');
is(get('/dry/alone', Host => 'apart.test')->header('X-Identity'), 'ip:127.0.0.1', 'mode=log: whom it counts');
is(told(2, '/dry/again'), 'would-deny dry 0, would-deny dry 0', 'mode=log: the same name in another section is the same counter ...');
is(answers(3, '/dry/enforced', Host => 'apart.test'), 'A1 A0 D30', '... but no counter of what is enforced');

begin;
is(told(6, '/dry/both'), 'pass hard 4, pass hard 3, would-deny dry 0, would-deny dry 0, would-deny dry 0, deny hard 0',
    'mode=log beside an enforced rule: neither holds the other back');
is(in_force('apart.test', '/dry/both'), 'hard/5', 'mode=log: the fields are those of the other');
at(30);
is(told(2, '/dry/both'), 'pass hard 0, deny hard 0', 'mode=log: half a minute later both have one again');

begin;
is(told(3, '/mark'), 'pass marked 1, pass marked 0, mark marked 0', 'action=mark: over the limit');
is(statuses(2, '/mark', Host => 'apart.test'), '200 200', 'action=mark: refuses nobody');
is(fields(get('/mark', Host => 'apart.test')), '', 'action=mark: no fields tell of it');
is(told(3, '/mark/both'), 'pass hard 4, pass hard 3, mark marked 0', 'action=mark beside an enforced rule: what is marked is told of');
is(told(1, '/mark/log-only'), 'pass marked 1', 'action=mark under LogOnly: counters of its own');
is(told(2, '/mark/log-only'), 'pass marked 0, mark marked 0', 'action=mark under LogOnly: marks');
is(told(3, '/loud'), 'pass loudly 0, would-deny loudly 0, mark softly 0', 'action=mark beside mode=log: no trial hides a mark');
is(told(1, '/loud/unknown', 'X-Key' => 'nobody'), 'mark softly 0', 'action=mark beside mode=log: nor does an unknown value there');
is(told(3, '/trial'), 'pass softest 0, mark softest 0, would-deny hardest 0', 'action=mark under LogOnly: hides nobody who would be refused');

begin;
is(told(3, '/choice/dry-first'), 'pass two 1, would-deny one 0, deny two 0', 'mode=log with the highest priority takes the place of none');
is(told(2, '/choice/dry-last'), 'pass two 1, pass two 0', 'mode=log with a lower priority is not judged');

begin;
is(told(3, '/limits/concurrent'), 'pass places 0, pass places 0, pass places 0', 'mode=log: places come back');
is(told(2, '/limits/delay'), 'pass slow 0, would-deny slow 0', 'mode=log: nobody waits');
is(told(1, '/limits/unknown', 'X-Key' => 'nobody'), 'would-deny keyed -', 'mode=log: an unknown value would have been refused');
is(get('/limits/unknown', Host => 'apart.test', 'X-Key' => 'nobody')->status, 200, 'mode=log: but passes');
is(told(2, '/limits/unknown/both', 'X-Key' => 'nobody'), 'would-deny keyed -, would-deny keyed -', 'mode=log: an unknown value, beside other rules');
is(told(1, '/limits/unknown/mark', 'X-Key' => 'nobody'), '- - -', 'action=mark speaks of limits');
is(told(1, '/limits/unknown/hard', 'X-Key' => 'nobody'), 'deny hard 0', 'mode=log: an unknown value that another rule refuses');
is(told(3, '/limits/response'), 'pass answered 0, pass answered 0, pass answered 0', 'mode=log: what the response gives back');
is(told(3, '/limits/rewritten'), 'pass before 0, would-deny before 0, would-deny before 0', 'mode=log: a redirect keeps what is told');

begin;
for my $how (qw(log mark)) {
    is(statuses(3, "/limits/rewritten/$how", Host => 'apart.test'), '200 200 429', "$how: a redirect is no way round what another section enforces");
}

# --- before authentication

my %known = (Authorization => 'Basic Z29vZDpwYXNz'); # good:pass

sub early {
    my ($n, $path, %field) = @_;
    return join ' ', map { ask($path, Host => 'early.test', %field)->status } 1 .. $n;
}

begin;
is(early(3, '/late'), '401 401 401', 'phase=fixups: what authentication refuses is not counted');
is(early(3, '/guess'), '401 401 429', 'phase=early: it is');
is(early(1, '/guess', %known), 429, 'phase=early: refused before authentication');
begin;
is(answers(2, '/guess', Host => 'early.test', %known), 'A1 A0', 'phase=early: charged once, and told of what passes');
begin;
is(get('/guess', Host => 'early.test')->header('X-RateLimit-Remaining'), 1, 'phase=early: and of what authentication refuses');
get('/guess', Host => 'early.test');
is(get('/guess', Host => 'early.test', Accept => 'application/json')->header('Content-Type'), 'application/problem+json', 'phase=early: a refusal in JSON');
begin;
is(early(4, '/guess/document'), '401 401 429 429', 'phase=early: an ErrorDocument is not charged');

begin;
is(early(3, '/both', %known), '200 200 429', 'both phases: the later refuses ...');
is(in_force('early.test', '/both'), 'before/5', '... of which a request without a user never hears ...');
is(get('/both', Host => 'early.test')->header('X-RateLimit-Remaining'), 0, '... and what was charged before it stands');
begin;
is(get('/both', Host => 'early.test', %known)->header('RateLimit'), '"after";r=1;t=60, "before";r=4;t=240', 'both phases: the fields tell of all');
begin;
is(early(3, '/quiet'), '200 200 429', 'both phases, nothing told: the later refuses');
begin;
is(early(3, '/quiet/early'), '200 429 429', 'both phases, nothing told: the earlier refuses');

for my $path ('/rewritten/once', '/indexed/', '/negotiated/page') {
    begin;
    is(early(3, $path), '200 200 429', "phase=early: $path leads to a rule of its own");
}
begin;
is(answers(2, '/rewritten/twice', Host => 'early.test'), 'A8 A7', 'phase=early: a redirect is charged once');

begin;
is(in_force('early.test', '/choice/early'), 'high/2', 'priority: an early rule in place of a later one');
is(in_force('early.test', '/choice/late'), 'high/2', 'priority: a later rule in place of an early one');
is(join(' ', map { get('/dry', Host => 'early.test')->header('X-Action') } 1 .. 3), 'pass would-deny would-deny', 'phase=early mode=log');
like(get('/backend', Host => 'early.test')->header('RateLimit'), qr/^"front";r=8;t=\d+$/, 'phase=early: a field of a backend gives way');

begin;
is(early(3, '/counted', %known), '200 200 200', 'phase=early by the response: success is given back');
is(early(3, '/counted'), '401 401 429', 'phase=early by the response: failures are counted');

done_testing;

__DATA__
<VirtualHost *:${RLP_PORT}>
    ServerName early.test
    RateLimitEngine On
    AliasMatch "^/(late|guess|both|quiet|choice|dry|theirs|counted|answer)(/|$)" "${T}/htdocs/ok.txt"
    <LocationMatch "^/(late|guess|both|counted)">
        AuthType Basic
        AuthName "any name"
        AuthBasicProvider anon
        Anonymous good
        Anonymous_VerifyEmail off
        Require valid-user
    </LocationMatch>
    <Location "/late">
        RateLimitRule late rate=1/min plan=none key=ip phase=fixups
    </Location>
    <Location "/guess">
        RateLimitRule guess rate=2/min plan=none key=ip phase=early
    </Location>
    <Location "/guess/document">
        ErrorDocument 401 /answer
    </Location>
    <Location "/answer">
        RateLimitRule guess rate=2/min plan=none key=ip phase=early
    </Location>
    <Location "/both">
        RateLimitRule before rate=5/300s plan=none key=ip phase=early
        RateLimitRule after rate=2/120s key=user
    </Location>
    <Location "/quiet">
        RateLimitHeaders Off
        RateLimitRule quiet-late rate=2/min
        RateLimitRule quiet-early rate=5/min key=ip phase=early
    </Location>
    <Location "/quiet/early">
        RateLimitRule quiet-early rate=1/min key=ip phase=early
    </Location>
    <Location "/choice/early">
        RateLimitRule low rate=1/min priority=1
        RateLimitRule high rate=2/min priority=2 phase=early key=ip
    </Location>
    <Location "/choice/late">
        RateLimitRule low rate=1/min priority=1 phase=early key=ip
        RateLimitRule high rate=2/min priority=2
    </Location>
    <Location "/dry">
        RateLimitRule trial rate=1/min mode=log phase=early key=ip
        RateLimitEnv always
        Header always set X-Action "%{RATELIMIT_ACTION}e"
    </Location>
    <Location "/theirs">
        Header always set RateLimit "theirs"
    </Location>
    ProxyPreserveHost On
    ProxyPass "/backend" "http://127.0.0.1:${RLP_PORT}/theirs"
    <Location "/backend">
        RateLimitRule front rate=9/min phase=early key=ip
    </Location>
    <Location "/counted">
        RateLimitRule counted rate=2/min plan=none key=ip phase=early "count=response:%{REQUEST_STATUS} -eq 401"
    </Location>
    Alias "/indexed" "${T}/htdocs/directory"
    Alias "/rewritten" "${T}/htdocs/rewritten"
    Alias "/redirected" "${T}/htdocs/ok.txt"
    RateLimitRule redirected rate=2/min path=/redirected phase=early key=ip
    RateLimitRule page rate=2/min path=/negotiated/page.html phase=early key=ip
    <Directory "${T}/htdocs/directory">
        <Files "index.html">
            RateLimitRule index rate=2/min phase=early key=ip
        </Files>
    </Directory>
    <Directory "${T}/htdocs/negotiated">
        Options +MultiViews
    </Directory>
    <Directory "${T}/htdocs/rewritten">
        RewriteEngine On
        RewriteBase "/rewritten/"
        RewriteRule "^once$" "/redirected"
        RewriteRule "^twice$" "/answer/all"
    </Directory>
    <LocationMatch "^/(rewritten/twice|answer/all)$">
        RateLimitRule guess Off
        RateLimitRule all rate=9/min phase=early key=ip
    </LocationMatch>
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName apart.test
    RateLimitEngine On
    RateLimitEnv always
    RateLimitDelay max=5s
    Header always set X-Action "%{RATELIMIT_ACTION}e" "expr=-n reqenv('RATELIMIT_ACTION')"
    Header always set X-Rule "%{RATELIMIT_RULE}e" "expr=-n reqenv('RATELIMIT_RULE')"
    Header always set X-Identity "%{RATELIMIT_IDENTITY}e" "expr=-n reqenv('RATELIMIT_IDENTITY')"
    Header always set X-Left "%{RATELIMIT_REMAINING}e" "expr=-n reqenv('RATELIMIT_REMAINING')"
    AliasMatch "^/(?!limits/rewritten)" "${T}/htdocs/ok.txt"
    Alias "/limits/rewritten" "${T}/htdocs/rewritten/README"
    <Location "/dry">
        RateLimitRule dry rate=2/min mode=log
    </Location>
    <Location "/dry/again">
        RateLimitRule dry rate=2/min MODE=LOG
    </Location>
    <Location "/dry/enforced">
        RateLimitRule dry rate=2/min mode=enforce
    </Location>
    <Location "/dry/both">
        RateLimitRule hard rate=5/150s
    </Location>
    <Location "/mark">
        RateLimitRule marked rate=2/min action=mark
    </Location>
    <Location "/mark/both">
        RateLimitRule marked rate=2/min action=mark key=vhost+ip
        RateLimitRule hard rate=5/min
    </Location>
    <Location "/mark/log-only">
        RateLimitEngine LogOnly
    </Location>
    <Location "/loud">
        RateLimitRule softly rate=2/min action=mark
        RateLimitRule loudly rate=1/min mode=log
    </Location>
    <Location "/loud/unknown">
        RateLimitRule keyed rate=1/s mode=log key=rkey
    </Location>
    <Location "/trial">
        RateLimitEngine LogOnly
        RateLimitRule softest rate=1/min action=mark
        RateLimitRule hardest rate=2/min
    </Location>
    <Location "/choice/dry-first">
        RateLimitRule one rate=1/min priority=10 mode=log
        RateLimitRule two rate=2/min priority=0
    </Location>
    <Location "/choice/dry-last">
        RateLimitRule one rate=1/min priority=0 mode=log
        RateLimitRule two rate=2/min priority=10 key=vhost+ip
    </Location>
    <Location "/limits/concurrent">
        RateLimitRule places concurrent=1 mode=log
    </Location>
    <Location "/limits/delay">
        RateLimitRule slow rate=1/s mode=log action=delay
    </Location>
    RateLimitPlanMap rkey "txt:${RLP_TOP}/t/conf/no-keys.txt" unknown=deny
    <Location "/limits/unknown">
        RateLimitRule keyed rate=1/s mode=log key=rkey=header:X-Key
    </Location>
    <Location "/limits/unknown/both">
        RateLimitRule before-keyed rate=1/min plan=none mode=log
        RateLimitRule hard-enough rate=9/min plan=none
        RateLimitRule trial rate=1/min plan=none mode=log key=vhost
    </Location>
    <Location "/limits/unknown/mark">
        RateLimitRule keyed rate=1/s action=mark key=rkey
    </Location>
    <Location "/limits/unknown/hard">
        RateLimitRule hard quota=0 plan=none
    </Location>
    <Location "/limits/response">
        RateLimitRule answered rate=1/min mode=log "count=response:%{REQUEST_STATUS} -eq 401"
    </Location>
    <Location "/limits/rewritten">
        RateLimitRule before rate=1/min mode=log
        RewriteEngine On
        RewriteRule ".*" "/redirected"
    </Location>
    <Location "/limits/rewritten/log">
        RateLimitRule strict-log rate=9/min mode=log
        RewriteRule ".*" "/strict/log"
    </Location>
    <Location "/strict/log">
        RateLimitRule strict-log rate=2/min
    </Location>
    <Location "/limits/rewritten/mark">
        RateLimitRule strict-mark rate=9/min action=mark key=vhost+ip
        RewriteRule ".*" "/strict/mark"
    </Location>
    <Location "/strict/mark">
        RateLimitRule strict-mark rate=2/min
    </Location>
</VirtualHost>
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
