#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# A client's request is charged once, however httpd turns it over inside; no way inside leads around a rule; and what
# is refused is not done.

use strict;
use warnings;

use RLP::Test;
use Test::More;

# --- one request, one charge: ten a minute for the whole host, so each request leaves one less

my @turns = (
    # how httpd turns it over, path, status, what the body has
    [ 'a file', '/ok.txt', 200, qr/^ok$/ ],
    [ 'an include of three files', '/include/three.shtml', 200, qr/ok\s+ok\s+hit/ ],
    [ 'the index of a directory', '/directory/', 200, qr/^the index of a directory$/ ],
    [ 'the second name of DirectoryIndex', '/second/', 200, qr/^the index of a directory$/ ],
    [ 'an index that is a script', '/scripted/', 200, qr/^hit$/ ],
    [ 'FallbackResource', '/fallback/nothing-here', 200, qr/^ok$/ ],
    [ 'a rewrite of the server', '/rewrite/server', 200, qr/^ok$/ ],
    [ 'a rewrite in a directory, an internal redirect', '/rewritten/once', 200, qr/^ok$/ ],
    [ 'two rewrites in a directory, two redirects', '/rewritten/twice', 200, qr/^ok$/ ],
    [ 'a rewrite that ends at a script', '/rewritten/script', 200, qr/^hit$/ ],
    [ 'an ErrorDocument of a file', '/error/missing', 404, qr/^ok$/ ],
    [ 'an ErrorDocument of a script', '/error-script/missing', 404, qr/^hit$/ ],
    [ 'a script that redirects inside', '/cgi/hit/once?Location=/ok.txt', 200, qr/^ok$/ ],
    [ 'a script that redirects to a script', '/cgi/hit/once?Location=/cgi/hit/once', 200, qr/^hit$/ ],
    [ 'an Action', '/action/ok.act', 200, qr/^hit$/ ],
    [ 'content negotiation', '/negotiated/page', 200, qr/^a page to choose$/ ],
    [ 'a proxied request', '/backend/ok.txt', 200, qr/^ok$/ ],
    [ 'a rewrite to a backend', '/rewrite/proxy', 200, qr/^ok$/ ],
);
for my $case (@turns) {
    my ($how, $path, $status, $body) = @{$case};
    begin;
    my $response = get($path);
    is($response->status, $status, "$how: answered");
    like($response->body, $body, "$how: body");
    is($response->header('X-RateLimit-Remaining'), 9, "$how: told what is left");
    is($response->header('RateLimit'), '"whole";r=9;t=54', "$how: told of one limit once");
    is(answers(1, '/ok.txt'), 'A8', "$how: charged once");
}

begin;
is(statuses(3, '/error-ruled/missing'), '404 404 404', 'an ErrorDocument with a rule of its own is not refused ...');
is(get('/error-ruled/missing')->header('RateLimit'), '"whole";r=6;t=36', '... nor is its rule spoken of ...');
is(answers(2, '/ruled/ok.txt'), 'A0 D60', '... nor was it charged');

begin;
is(statuses(3, '/error-bad/'), '400 400 400', 'the least error that there is has an ErrorDocument with a rule of its own ...');
is(answers(2, '/ruled/ok.txt'), 'A0 D60', '... which was not charged');

begin;
is(statuses(3, '/error-early/missing'), '404 404 404', 'an ErrorDocument with a rule of an early phase is not refused ...');
is(answers(2, '/early/ok.txt'), 'A0 D60', '... and was not charged');

# --- requests of one connection are requests

begin;
my $connection = RLP::Client->new($ENV{RLP_PORT});
is(join(' ', map { answer(get('/ok.txt', connection => $connection)) } 1 .. 3), 'A9 A8 A7', 'kept alive: each is charged');
my $text = RLP::Client::request_text('GET', '/ok.txt', undef, Host => 'once.test');
$connection->send_text($text x 3);
is(join(' ', map { answer($connection->response) } 1 .. 3), 'A6 A5 A4', 'pipelined: each is charged');

# the answers to pipelined requests may be sent together, but what each of them has back comes before the next
host 'pipelined';
for my $case (
    # what, path, status
    [ 'a place is free for the request behind', '/place/missing', 404 ],
    [ 'a script has one, too', '/cgi/hit/place', 200 ],
    [ 'what does not count is given back before the request behind', '/guess/missing', 404 ],
    [ 'and what is refunded', '/refund/missing', 404 ],
) {
    my ($what, $path, $status) = @{$case};
    begin;
    $connection = RLP::Client->new($ENV{RLP_PORT});
    $connection->send_text(RLP::Client::request_text('GET', $path, undef, Host => 'pipelined.test') x 4);
    is(join(' ', map { $connection->response->status } 1 .. 4), join(' ', ($status) x 4), "pipelined: $what");
}
host 'once';

# --- no way around a rule: <Files login.html> has two a minute

my @ways = (
    # way, path
    [ 'itself', '/login/login.html' ],
    [ 'DirectoryIndex', '/login/' ],
    [ 'a rewrite in the directory', '/login/rewritten' ],
    [ 'a rewrite of the server', '/rewrite/login' ],
    [ 'FallbackResource', '/login/fallback/nothing-here' ],
    [ 'a script that redirects inside', '/cgi/hit/once?Location=/login/login.html' ],
);
for my $case (@ways) {
    my ($way, $path) = @{$case};
    begin;
    is(answers(4, $path), 'A1 A0 D30 D30', "<Files login.html> by $way: counted and refused");
    is(answers(1, '/login/login.html'), 'D30', "<Files login.html> by $way: the same counter");
}
begin;
my $first = get('/login/');
is($first->header('RateLimit'), '"login";r=1;t=30, "whole";r=9;t=54', 'after a redirect, limits of both are told');
is($first->header('RateLimit-Policy'), '"login";q=2;w=60, "whole";q=10;w=60', 'and their policies');
get('/login/');
my $refused = get('/login/', Accept => 'application/json');
is($refused->status, 429, 'a refusal behind DirectoryIndex');
is($refused->header('Content-Type'), 'application/problem+json', 'is in JSON for who likes that');
like($refused->body, qr/"violated-policies":\["login"\]/, 'and names the rule that refused');
like(get('/login/')->body, qr/429 Too Many Requests/, 'and is the usual page for others');

# --- what is refused is not done

my @works = (
    # what, path, name of its hits
    [ 'a script', '/cgi/hit/direct', 'direct' ],
    [ 'a script behind a rewrite', '/rewritten/worker', 'worker' ],
    [ 'a script as an index', '/worker-index/', 'index' ],
    [ 'an Action', '/action/worker.act', 'action' ],
    [ 'a backend', '/backend/cgi/hit/backend', 'backend' ],
    [ 'a backend by a rewrite', '/rewrite/backend', 'rewritten-backend' ],
    [ 'an include', '/include/worker.shtml', 'included' ],
);
for my $case (@works) {
    my ($what, $path, $name) = @{$case};
    begin;
    is(statuses(10, $path), join(' ', (200) x 10), "H-04 $what: ten are admitted");
    is(hits($name), 10, "H-04 $what: and run");
    is(statuses(3, $path), '429 429 429', "H-04 $what: three are refused");
    is(answer(get($path, Accept => 'application/json')), 'D6', "H-04 $what: and one in JSON");
    is(hits($name), 10, "H-04 $what: and do not run");
}

begin;
answers(10, '/ok.txt');
my $explained = get('/refused-script/ok.txt');
is($explained->status, 429, 'an ErrorDocument 429 that is a script');
is($explained->body, "hit\n", 'runs, it is the answer');
is($explained->header('Retry-After'), 6, 'with Retry-After');
is($explained->header('X-RateLimit-Remaining'), 0, 'and what is left');
is(hits('explain'), 1, 'once');

# --- what is not told before a redirect is not told behind it

host 'untold';
begin;
is(get('/quiet')->header('RateLimit'), '"told";r=1;t=30', 'a rule that no field tells of, before a redirect to one that they do');
is(answers(4, '/quiet'), 'A0 D30 D30 D30', 'and each is charged ...');
is(get('/quiet/as-it-is')->status, 429, '... that one, too');

# --- a condition that speaks of the path

host 'conditioned';
begin;
is(answers(3, '/directory/'), 'A1 A0 D30', 'the index of a directory is judged by the rules whose if= speaks of it');
is(get('/ok.txt')->header('X-RateLimit-Remaining'), 4, 'and charged once under the others');

done_testing;

__DATA__
<VirtualHost *:${RLP_PORT}>
    ServerName conditioned.test
    RateLimitEngine On
    RateLimitRule index rate=2/min "if=%{REQUEST_URI} == '/directory/index.html'"
    RateLimitRule reading rate=8/min method=GET
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName untold.test
    RateLimitEngine On
    RateLimitIdentity ip
    Alias "/quiet/as-it-is" "${T}/htdocs/ok.txt"
    <Location "/quiet">
        RateLimitHeaders Off
        RateLimitRule quiet rate=5/min method=GET
        RewriteEngine On
        RewriteRule "/quiet$" "/ok.txt"
    </Location>
    <Location "/ok.txt">
        RateLimitRule told rate=2/min
    </Location>
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName pipelined.test
    RateLimitEngine On
    <LocationMatch "place">
        RateLimitRule place concurrent=1
    </LocationMatch>
    <Location "/guess">
        RateLimitRule guess rate=1/hour "count=response:%{REQUEST_STATUS} -eq 401"
    </Location>
    <Location "/refund">
        RateLimitRule refund rate=1/hour
        RateLimitRefund "expr=%{REQUEST_STATUS} -eq 404"
    </Location>
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName once.test
    RateLimitEngine On
    RateLimitRule whole rate=10/min
    RewriteEngine On
    RewriteRule "^/rewrite/server$" "/ok.txt" [PT]
    RewriteRule "^/rewrite/login$" "/login/login.html" [PT]
    RewriteRule "^/rewrite/proxy$" "http://127.0.0.1:${RLP_PORT}/ok.txt" [P]
    RewriteRule "^/rewrite/backend$" "http://127.0.0.1:${RLP_PORT}/cgi/hit/rewritten-backend" [P]
    ProxyPass "/backend/" "http://127.0.0.1:${RLP_PORT}/"

    <Directory "${T}/htdocs/include">
        Options +Includes
        AddOutputFilter INCLUDES .shtml
        AddType text/html .shtml
    </Directory>

    Alias "/second" "${T}/htdocs/directory"
    Alias "/scripted" "${T}/htdocs/directory"
    Alias "/worker-index" "${T}/htdocs/directory"
    Alias "/fallback" "${T}/htdocs/directory"
    Alias "/rewritten" "${T}/htdocs/rewritten"
    <Location "/second">
        DirectoryIndex missing.html index.html
    </Location>
    <Location "/scripted">
        DirectoryIndex /cgi/hit/once
    </Location>
    <Location "/worker-index">
        DirectoryIndex /cgi/hit/index
    </Location>
    <Location "/fallback">
        FallbackResource /ok.txt
    </Location>
    <Directory "${T}/htdocs/rewritten">
        RewriteEngine On
        RewriteBase "/rewritten/"
        RewriteRule "^once$" "/ok.txt"
        RewriteRule "^twice$" "/rewritten/once"
        RewriteRule "^script$" "/cgi/hit/once"
        RewriteRule "^worker$" "/cgi/hit/worker"
    </Directory>

    <Location "/error">
        ErrorDocument 404 /ok.txt
    </Location>
    <Location "/error-script">
        ErrorDocument 404 /cgi/hit/once
    </Location>
    <Location "/error-ruled">
        ErrorDocument 404 /ruled/ok.txt
    </Location>
    <Location "/error-early">
        ErrorDocument 404 /early/ok.txt
    </Location>
    <Location "/error-bad">
        Redirect 400
        ErrorDocument 400 /ruled/ok.txt
    </Location>
    Alias "/ruled" "${T}/htdocs"
    <Location "/ruled">
        RateLimitRule ruled rate=1/min
    </Location>
    Alias "/early" "${T}/htdocs"
    <Location "/early">
        RateLimitRule early rate=1/min key=ip phase=early
    </Location>
    AliasMatch "^/refused-script/" "${T}/htdocs/ok.txt"
    <Location "/refused-script">
        ErrorDocument 429 /cgi/hit/explain
    </Location>

    AliasMatch "^/action/" "${T}/htdocs/ok.txt"
    Action "once-action" "/cgi/hit/once"
    Action "worker-action" "/cgi/hit/action"
    <Location "/action/ok.act">
        SetHandler once-action
    </Location>
    <Location "/action/worker.act">
        SetHandler worker-action
    </Location>
    <Directory "${T}/htdocs/negotiated">
        Options +MultiViews
    </Directory>

    <Directory "${T}/htdocs/login">
        DirectoryIndex login.html
        RewriteEngine On
        RewriteBase "/login/"
        RewriteRule "^rewritten$" "login.html"
    </Directory>
    <Location "/login/fallback">
        FallbackResource /login/login.html
    </Location>
    <Files "login.html">
        RateLimitRule login rate=2/min
    </Files>
</VirtualHost>
