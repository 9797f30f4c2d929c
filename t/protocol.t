#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What goes over the wire: pipelining, bodies that never come, HTTP/2, HEAD, proxies, hostile clients.

use strict;
use warnings;

use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_LINGER);
use Test::More;
use Time::HiRes qw(time);

use RLP::Client;
use RLP::Http2;
use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my @pages = qw(free five used who org sorry alone);

sub server {
    my ($config, %option) = @_;
    my $server = RLP::Httpd->new(config => $config, clock => 1, %option);
    $server->file("htdocs/$_", "$_\n") for @pages;
    $server->file('keys', "good-key pro\n");
    return $server->start;
}

sub head {
    my ($method, $path, @fields) = @_;
    return join("\r\n", "$method $path HTTP/1.1", 'Host: localhost', @fields) . "\r\n\r\n";
}

sub statuses {
    my ($connection, $n, $method) = @_;
    return join ' ', map { $connection->response($method)->{status} } 1 .. $n;
}

# Nothing that looks like a crash, and every line of the log is one of httpd's own.
sub log_is_sound {
    my ($server, $name) = @_;
    my @lines = split /\n/, $server->log_text;
    unlike($server->log_text, qr/exit signal|segfault/i, "$name: no child has died");
    is(join("\n", grep { !/^\[\w{3} \w{3} [ \d]\d [\d:.]+ \d{4}\] \[[\w:]+\] \[pid / } @lines), '', "$name: one line for each entry of the log");
    is(join("\n", grep { /[^\x20-\x7e\t]/ } @lines), '', "$name: nothing but text in the log");
    return;
}

my $at_once = 20; # seconds, even on a slow machine: who waits for a body, or keeps the connection, does so for 60

# --- HTTP/1.1 connections

{
    my $server = server(<<'END');
KeepAliveTimeout 60
RateLimitEngine On
<Location "/five">
    RateLimitRule five rate=5/week
</Location>
<Location "/used">
    RateLimitRule used rate=1/week
</Location>
END
    my $connection = $server->connection;
    $connection->send(head('GET', '/five') x 10);
    is(statuses($connection, 10), join(' ', (200) x 5, (429) x 5), 'ten pipelined requests, a limit of 5: five pass, five do not');
    $connection->send(head('GET', '/free'));
    my $response = $connection->response;
    is("$response->{status} $response->{body}", "200 free\n", 'the connection stays usable');

    is($server->get('/used')->{status}, 200, 'the limit of the following is used up');
    $connection->send(head('GET', '/used'));
    $response = $connection->response;
    is($response->{status}, 429, 'a refused GET');
    unlike($response->{fields}{connection} // '', qr/close/i, 'does not close the connection');
    $connection->send(head('GET', '/free'));
    is($connection->response->{status}, 200, 'which takes the next request');

    $connection->send(head('POST', '/used', 'Content-Length: 0'));
    is($connection->response->{status}, 429, 'a refused POST with an empty body');
    $connection->send(head('GET', '/free'));
    is($connection->response->{status}, 200, 'does not close the connection either');

    $connection->send(head('HEAD', '/used') . head('GET', '/free'));
    $response = $connection->response('HEAD');
    is($response->{status}, 429, 'a refused HEAD');
    like($response->{fields}{'retry-after'} // '', qr/^[1-9]\d*$/, 'H-03 has Retry-After');
    is($response->{fields}{'x-ratelimit-remaining'}, 0, 'H-03 and X-RateLimit-Remaining: 0');
    like($response->{fields}{'ratelimit'} // '', qr/^"used";r=0;t=\d+$/, 'and RateLimit');
    is($response->{fields}{'cache-control'}, 'no-store', 'and Cache-Control');
    is($connection->response->{body}, "free\n", 'and no body: the next response follows at once');

    $connection->send(head('HEAD', '/used', 'Accept: application/json') . head('GET', '/free'));
    $response = $connection->response('HEAD');
    is("$response->{status} " . ($response->{fields}{'content-type'} // ''), '429 application/problem+json', 'a refused HEAD that accepts JSON');
    is($connection->response->{body}, "free\n", 'has no body');

    # HTTP/1.0
    $connection = $server->connection;
    $connection->send("GET /used HTTP/1.0\r\n\r\n");
    is($connection->response->{status}, 429, 'HTTP/1.0: refused');
    ok($connection->closed($at_once), 'and closed');
    log_is_sound($server, 'connections');
    $server->stop;
}

# --- bodies that never come

# Answered at once, before any body, and closed.
sub at_once {
    my ($server, $name, $path, $status, $text) = @_;
    my $connection = $server->connection;
    my $began = time;
    $connection->send($text);
    my $response = $connection->response('POST', $at_once);
    is($response->{status}, $status, "$name: answered") or return;
    cmp_ok(time - $began, '<', $at_once, "$name: at once");
    unlike($response->{head}, qr/^HTTP\/1.1 100/m, "$name: without 100 Continue");
    like($response->{fields}{connection} // '', qr/close/i, "$name: says that it closes the connection");
    ok($connection->closed($at_once), "$name: closed, and nothing more is said");
    return $response;
}

for my $case (
    ['httpd\'s page', ''],
    ['a text of ErrorDocument', 'ErrorDocument 429 "Slow down"'],
    ['a page of ErrorDocument', 'ErrorDocument 429 /sorry'],
    ['problem+json', '', 'Accept: application/json'],
) {
    my ($kind, $config, @fields) = @$case;
    my $server = server(<<"END");
$config
KeepAliveTimeout 60
RateLimitEngine On
RateLimitIdentity k=header:X-Key ip
RateLimitPlan pro rate=1000/week
RateLimitPlanMap k txt:keys unknown=deny
<Location "/used">
    RateLimitRule used rate=1/week
</Location>
END
    is($server->get('/used')->{status}, 200, "$kind: the limit is used up");
    my $response = at_once($server, "$kind, Content-Length", '/used', 429, head('POST', '/used', 'Content-Length: 100000', @fields));
    like($response->{fields}{'retry-after'} // '', qr/^[1-9]\d*$/, "$kind: with Retry-After");
    cmp_ok(length($response->{body} // ''), '>', 0, "$kind: with a body of its own");
    at_once($server, "$kind, part of a body", '/used', 429, head('POST', '/used', 'Content-Length: 100000', @fields) . 'x' x 1000);
    at_once($server, "$kind, chunked", '/used', 429, head('POST', '/used', 'Transfer-Encoding: chunked', @fields));
    at_once($server, "$kind, part of a chunk", '/used', 429, head('POST', '/used', 'Transfer-Encoding: chunked', @fields) . "1000\r\nabc");
    at_once($server, "$kind, Expect", '/used', 429, head('POST', '/used', 'Content-Length: 10', 'Expect: 100-continue', @fields));
    at_once($server, "$kind, an unknown key", '/used', 403, head('POST', '/used', 'Content-Length: 10', 'X-Key: unheard', @fields));
    at_once($server, "$kind, a request in the body", '/used', 429,
        head('POST', '/used', 'Content-Length: ' . length head('GET', '/free'), @fields) . head('GET', '/free'));
    log_is_sound($server, $kind);
    $server->stop;
}

# --- what httpd answers by itself, and what never reaches a rule (docs/directives.md, What is counted, and when)

{
    my $server = server("RateLimitEngine On\nRateLimitRule site rate=5/week\n");
    my $response = $server->get('/free', 'Range: bytes=1000000-');
    is($response->{status}, 416, 'a range outside of a file');
    is(join(' ', grep { /ratelimit/ } sort keys %{ $response->{fields} }),
        'ratelimit ratelimit-policy x-ratelimit-limit x-ratelimit-remaining x-ratelimit-reset', 'has all fields');
    is($server->get('/free')->{fields}{'x-ratelimit-remaining'}, 3, 'and it is counted');
    for my $line ('TRACE /free', 'OPTIONS *') {
        my $client = RLP::Client->new($server->port);
        $client->send_text("$line HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        my $answer = $client->response;
        is($answer->status, 200, "$line is answered ...");
        is($answer->header('RateLimit'), undef, '... without a rule');
    }
    is($server->get('/free')->{fields}{'x-ratelimit-remaining'}, 2, 'which has counted neither');
    $server->stop;
}

{
    my $server = RLP::Httpd->new(modules => [qw(alias mime negotiation rewrite)], clock => 1, config => <<'END');
TypesConfig /dev/null
RateLimitEngine On
RateLimitRule late rate=9/week
RewriteEngine On
RewriteRule "^/rewrite/" - [F]
Redirect "/alias/" "/elsewhere"
<Directory "@DIR@/htdocs/in">
    Options +MultiViews
    AddLanguage de .de
    AddLanguage fr .fr
    AddType text/html .html
    RewriteEngine On
    RewriteRule "^forbidden" - [F]
    RewriteRule "^gone" - [G]
    RewriteRule "^away" "/elsewhere" [R]
</Directory>
<Location "/in">
    RateLimitRule early rate=9/week phase=early key=ip
</Location>
<Directory "@DIR@/htdocs/in/alias">
    Redirect "/elsewhere"
</Directory>
END
    mkdir $server->dir . "/htdocs/$_" for qw(in in/alias);
    $server->file("htdocs/in/page.html.$_", "$_\n") for qw(de fr);
    $server->file('htdocs/in/odd.unheard', "of no type\n");
    $server->start;
    is($server->get("/$_")->{status} =~ /^(?:302|403)$/, 1, "/$_ is answered by httpd") for qw(rewrite/x alias/x);
    is($server->statuses(1, "/in/$_->[0]", 'Accept: image/png'), $_->[1], "/in/$_->[0] is, too")
        for [ 'page', 406 ], [ 'odd', 404 ], [ 'forbidden', 403 ], [ 'gone', 410 ], [ 'away', 302 ], [ 'alias/x', 302 ];
    is($server->statuses(1, '/in/page', 'Negotiate: vlist'), 300, 'and for who asks for a list of /in/page');
    is($server->get('/in/page.html.de')->{fields}{'ratelimit'}, '"early";r=1;t=67200, "late";r=8;t=537600', 'early rules have counted what directories say, others nothing');
    $server->stop;
}

SKIP: {
    skip 'httpd has no mod_allowmethods or mod_lua', 3 if grep { !RLP::Httpd::has_module($_) } qw(allowmethods lua);
    my $server = server(<<'END', modules => [qw(allowmethods lua)]);
RateLimitEngine On
RateLimitRule late rate=9/week
LuaHookFixups "@DIR@/answers.lua" answer
<Location "/">
    RateLimitRule early rate=9/week phase=early key=ip
    AllowMethods GET
</Location>
END
    $server->file('answers.lua', "function answer(r)\n  return r.uri == '/lua' and 410 or apache2.DECLINED\nend\n");
    is($server->request('POST', '/free')->{status}, 405, 'AllowMethods refuses');
    is($server->get('/lua')->{status}, 410, 'LuaHookFixups answers');
    is($server->get('/free')->{fields}{'ratelimit'}, '"early";r=6;t=403200, "late";r=8;t=537600', 'early rules have counted both, others neither');
    $server->stop;
}

SKIP: {
    skip 'httpd has no mod_speling', 1 if !RLP::Httpd::has_module('speling');
    my $server = server("CheckSpelling On\nRateLimitEngine On\nRateLimitRule site rate=2/week\n", modules => ['speling']);
    is($server->statuses(3, '/fre'), '301 301 429', 'mod_speling, loaded before this module: it looks through a directory for nobody who is refused');
    $server->stop;
}

# --- mod_cache

my $ignore = 'CacheIgnoreHeaders RateLimit RateLimit-Policy X-RateLimit-Limit X-RateLimit-Remaining X-RateLimit-Reset';
my $caches = File::Temp->newdir;
chmod 0755, "$caches" or die "$caches: $!\n"; # httpd may have been started by root

# A server with an empty cache and a rule of that rate.
sub caching_server {
    my ($rate, $config, %option) = @_;
    my $cache = File::Temp::tempdir(DIR => "$caches");
    chmod 0777, $cache or die "$cache: $!\n";
    return server("$config\nRateLimitEngine On\nRateLimitRule site rate=$rate/week\nCacheEnable disk /\nCacheRoot \"$cache\"\n"
            . "CacheMinExpire 3600\n", %option);
}

SKIP: {
    my @modules = qw(cache cache_disk);
    skip 'httpd has no mod_cache or mod_cache_disk', 17 if grep { !RLP::Httpd::has_module($_) } @modules;
    my @cases = (
        # configuration, answers, what X-RateLimit-Remaining says in them
        [ '', [(200) x 6], '1 1 1 1 1 1' ],
        [ 'CacheQuickHandler off', [ 200, 200, (429) x 4 ], '1 1 0 0 0 0' ],
        [ $ignore, [(200) x 6], '1 - - - - -' ],
        [ "CacheQuickHandler off\n$ignore", [ 200, 200, (429) x 4 ], '1 0 0 0 0 0' ],
    );
    for my $case (@cases) {
        my ($how, $expected, $left) = @{$case};
        my $server = caching_server(2, $how, modules => \@modules);
        my @answers = map { $server->get_to_the_end('/free') } 1 .. 6;
        is(join(' ', map { $_->{status} } @answers), "@{$expected}", 'mod_cache, ' . ($how || 'by default') . ': what it has is ' . ($how =~ /off/ ? 'counted' : 'not counted'));
        is(join(' ', map { $_->{fields}{'x-ratelimit-remaining'} // '-' } @answers), $left, 'and whose fields are shown');
        $server->stop;
    }

    my $index = caching_server(9, "CacheQuickHandler off\n$ignore\n<Files \"index.html\">\nRateLimitRule index rate=2/week\n</Files>", modules => [ 'dir', @modules ]);
    is(join(' ', map { $index->get_to_the_end('/')->{status} } 1 .. 3), '200 200 429', 'mod_cache, CacheQuickHandler off: it has the index, which has a rule of its own');
    $index->stop;

    my @anew = ('Cache-Control: max-age=0');
    my @kept = (
        # configuration, answers to who asks for it anew and is refused, and to the next one
        [ '', '200 429 429 200', 'has it still' ],
        [ "ForceType text/plain\nRateLimitDenyStatus 503", '200 200 200 200', 'has it for an error of the server' ],
        [ "RateLimitDenyStatus 503\nCacheStaleOnError off", '200 503 503 200', 'does not, where that is said' ],
    );
    for my $case (@kept) {
        my ($how, $expected, $what) = @{$case};
        my $server = caching_server(1, $how, modules => \@modules);
        my @answers = map { $server->get_to_the_end('/free', @{$_}) } [], \@anew, [ @anew, 'Accept: application/json' ], [];
        is(join(' ', map { $_->{status} } @answers), $expected, "mod_cache, who is refused throws nothing out: it $what");
        my %seen = map { join(' ', map { $_ // '-' } @{ $_->{fields} }{qw(content-type content-length)}) => 1 } grep { $_->{status} == 200 } @answers;
        is(join('; ', keys %seen), ($how =~ /ForceType/ ? 'text/plain' : '-') . ' 5', 'mod_cache, what it has has its own type and length, once');
        $server->stop;
    }

    my $load = join '', map { qq{LoadModule ${_}_module "$RLP::Httpd::modules/mod_$_.so"\n} } grep { !RLP::Httpd::is_static($_) } @modules;
    my $server = caching_server(5, "${load}CacheQuickHandler off\n$ignore");
    my $tag = $server->get_to_the_end('/free')->{fields}{etag};
    my $response = $server->get('/free', "If-None-Match: $tag");
    is($response->{status}, 304, 'mod_cache, loaded behind this module, says itself what has not changed');
    is($response->{fields}{'x-ratelimit-remaining'}, 3, 'with each field once');
    $server->stop;
}

# --- the instant at which a limit is renewed, by clocks that go on while it is told

{
    my $server = server("RateLimitDelay max=5s\nRateLimitEngine On\nRateLimitHeaders Legacy reset=epoch\nRateLimitRule day quota=100/day path=/free\n"
            . "RateLimitRule turn rate=1/s action=delay path=/five\n", clock => 0);
    my @resets = map { $server->get('/free')->{fields}{'x-ratelimit-reset'} % 86400 } 1 .. 10;
    is("@resets", '0 0 0 0 0 0 0 0 0 0', 'X-RateLimit-Reset of a day is a midnight');
    $server->get('/five');
    my $waited = $server->get('/five');
    cmp_ok($waited->{fields}{'x-ratelimit-reset'} - time, '<=', 2, 'what was used when the turn was given, two seconds, is told from then on');
    $server->stop;
}

# --- HTTP/2

my ($nghttp) = grep { -x "$_/nghttp" } split /:/, $ENV{PATH};

SKIP: {
    skip 'mod_http2 does not work with prefork', 1 if $RLP::Httpd::mpm eq 'prefork';
    skip 'httpd has no mod_http2', 1 if !RLP::Httpd::has_module('http2');
    my $config = "Protocols h2c http/1.1\nH2Direct on\nRateLimitEngine On\n" . join '', map {
        qq{<Location "/$_">\nRateLimitRule $_ rate=5/week\n</Location>\n} } qw(five used);
    $config .= qq{<Location "/who">\nRateLimitRule who rate=2/week\nRateLimitRule who-early rate=2/week key=ip phase=early\n</Location>\n}
        . qq{<Files "index.html">\nRateLimitRule index rate=2/week\n</Files>\n}
        . qq{<Location "/failing">\nRateLimitRule failing rate=2/week "count=response:%{REQUEST_STATUS} -eq 404"\n</Location>\n}
        . qq{<Location "/sorry">\nRateLimitRule sorry rate=1/week\nRateLimitRule sorry-early rate=1/week key=ip phase=early\n</Location>\n}
        . qq{<Location "/alone">\nRateLimitRule alone rate=1/week key=ip\n</Location>\n}
        . qq{<Location "/org">\nH2PushResource /sorry\nH2PushResource /free\nH2PushResource /alone\n</Location>\n};
    my $server = server($config, modules => [qw(dir http2)]);

    my $h2 = h2_begin($server);
    my @streams = map { h2_ask($h2, 'GET', '/five') } 1 .. 12;
    is(join(' ', sort split / /, h2_answers($h2, 20, @streams)), join(' ', (200) x 5, (429) x 7), 'HTTP/2: each stream is charged once');
    @streams = map { h2_ask($h2, 'GET', $_ % 2 ? '/five' : '/free') } 1 .. 12;
    is(h2_answers($h2, 20, @streams), join(' ', (429, 200) x 6), 'HTTP/2: refused streams do no harm to the others');
    @streams = (h2_ask($h2, 'POST', '/five'), h2_ask($h2, 'GET', '/free'));
    is(h2_answers($h2, $at_once, @streams), '429 200', 'HTTP/2: a POST whose body never comes is refused at once');
    @streams = map { h2_ask($h2, 'GET', '/free') } 1 .. 3;
    is(h2_answers($h2, 20, @streams), '200 200 200', 'HTTP/2: and the connection goes on');
    is(join(' ', grep { $_ } values %{ $h2->{reset} }) . $h2->{away}, '', 'HTTP/2: no stream has failed, nor the connection');

    if ($nghttp) {
        my $base = 'http://127.0.0.1:' . $server->port;
        my $said = join '', `nghttp -nv @{[map { "'$base/used?$_' '$base/free?$_'" } 1 .. 9]} 2>&1`;
        my %count;
        $count{$_}++ for $said =~ /:status: (\d+)/g;
        is_deeply(\%count, { 200 => 14, 429 => 4 }, 'HTTP/2, nghttp: each stream is charged once, refused ones do no harm') or diag($said);
        unlike($said, qr/recv RST_STREAM|recv GOAWAY.*error_code=(?!NO_ERROR)/, 'HTTP/2, nghttp: no stream is reset');
    }
    is($server->get('/five')->{status}, 429, 'HTTP/2: HTTP/1.1 has the same counter');

    # streams that the server pushes
    $h2 = h2_begin($server, 1);
    @streams = (h2_ask($h2, 'GET', '/org'), 2, 4, 6);
    is(h2_answers($h2, 20, @streams), '200 200 200 200', 'HTTP/2: a page and what is pushed with it');
    is($server->statuses(2, '/sorry'), '200 429', 'HTTP/2: what is pushed is not charged');
    is($server->statuses(2, '/alone'), '200 429', 'HTTP/2: nor by a rule that stands alone');
    $h2 = h2_begin($server, 1);
    @streams = (h2_ask($h2, 'GET', '/org'), 2, 4, 6);
    is(h2_answers($h2, 20, @streams), '200 200 200 200', 'HTTP/2: nor refused');

    # from HTTP/1.1 to HTTP/2: a stream would ask once more, unknown to the rules
    my @upgrade = ('Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAEAAAAA');
    my @asked = (
        # what has a rule, path, answers
        [ 'the page', '/who', '200 200 429' ],
        [ 'the index of a directory', '/', '200 200 429' ],
        [ 'the response', '/failing', '404 404 429' ],
    );
    for my $case (@asked) {
        my ($what, $path, $answers) = @{$case};
        my @got = map { my $c = $server->connection; $c->send(head('GET', $path, @upgrade)); $c->response->{status} } 1 .. 3;
        is("@got", $answers, "HTTP/2: an upgrade is no way around a rule for $what");
    }
    my $connection = $server->connection;
    $connection->send(head('GET', '/free', @upgrade));
    is($connection->response->{status}, 101, 'HTTP/2: Upgrade: h2c where there is no rule');
    $connection->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(4, 0, 0, pack 'nNnN', 1, 0, 2, 0));
    $h2 = { connection => $connection, status => {}, ended => {}, reset => {}, text => '' };
    is(h2_answers($h2, 20, 1), '200', 'HTTP/2: the request that upgrades is answered');
    log_is_sound($server, 'HTTP/2');
    ok($server->stop, 'HTTP/2: httpd stops');
}

# --- proxied requests

SKIP: {
    skip 'httpd has no mod_proxy_http', 1 if !RLP::Httpd::has_module('proxy_http');
    my $backend = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 20) or die "no port: $!\n";
    my $waiting = IO::Select->new($backend);
    my $port = $backend->sockport;
    my $server = server(<<"END", modules => [qw(proxy proxy_http)]);
ProxyPass "/back" "http://127.0.0.1:$port/"
ProxyPass "/other" "http://127.0.0.1:$port/"
RateLimitEngine On
<Location "/back">
    RateLimitRule back rate=2/week
</Location>
<Proxy "http://127.0.0.1:$port/">
    RateLimitRule proxied rate=1000/week
</Proxy>
END
    for my $left (1, 0) {
        my $client = $server->connection;
        $client->send(head('GET', '/back', 'Connection: close'));
        ok($waiting->can_read(10), 'H-04 the backend is asked for what passes') or last;
        my $asked = $backend->accept;
        my $text = '';
        while ($text !~ /\r\n\r\n/ && sysread $asked, $text, 4096, length $text) { }
        syswrite $asked, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-RateLimit-Remaining: 99\r\nRateLimit: \"theirs\";r=9\r\nConnection: close\r\n\r\nyes";
        close $asked;
        my $response = $client->response;
        is("$response->{status} $response->{body}", '200 yes', 'and answers');
        is($response->{fields}{'x-ratelimit-remaining'}, $left, 'H-07 ours replaces its X-RateLimit-Remaining');
        is(scalar(() = $response->{head} =~ /^RateLimit: /mg), 1, 'H-07 no field twice');
    }
    my %count;
    $count{ $server->get('/back')->{status} }++ for 1 .. 5;
    $count{ $server->request('POST', '/back', 'Content-Length: 100000')->{status} }++ for 1 .. 2;
    is_deeply(\%count, { 429 => 7 }, 'H-04 what does not pass is refused');
    ok(!$waiting->can_read(0), 'H-04 and the backend is not contacted');
    log_is_sound($server, 'proxy');
    $server->stop;
}

# --- a backend by HTTP/2, whose module calls it 502 when the client hangs up

SKIP: {
    skip 'mod_http2 does not work with prefork', 1 if $RLP::Httpd::mpm eq 'prefork';
    skip 'httpd has no mod_http2 or mod_proxy_http2', 1 if grep { !RLP::Httpd::has_module($_) } qw(http2 proxy_http2);
    my $server = server(<<'END', modules => [qw(http2 proxy proxy_http2)]);
Protocols h2c http/1.1
ProxyPass "/back/" "h2c://127.0.0.1:@PORT@/"
<Location "/back/">
    RateLimitEngine On
    RateLimitRule back rate=10/week concurrent=1
    RateLimitRefund "expr=%{REQUEST_STATUS} -ge 500"
    RateLimitRule answered rate=10/week "count=response:%{REQUEST_STATUS} -eq 200"
</Location>
ProxyPass "/away/" "h2c://127.0.0.1:1/"
<Location "/away/">
    RateLimitEngine On
    RateLimitRule away rate=50/week
    RateLimitRefund "expr=%{REQUEST_STATUS} -ge 500"
</Location>
END
    $server->file('htdocs/large', 'x' x 10_000_000);
    my $connection = $server->sent('GET', '/back/large');
    ok($connection->need(100_000, time + $at_once), 'a client reads some of a response');
    setsockopt $connection->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
    close $connection->{socket};
    my $response;
    RLP::Httpd::wait_for(sub { ($response = $server->get('/back/free'))->{status} == 200 }); # its place is back, and all else
    like($response->{fields}{ratelimit}, qr/"back";r=8/, 'and hangs up: RateLimitRefund gives nothing back');
    like($response->{fields}{ratelimit}, qr/"answered";r=8/, 'and count= goes by the status that was seen');

    my $h2 = h2_begin($server);
    my @streams = map { h2_ask($h2, 'GET', '/away/free') } 1 .. 20;
    is(h2_answers($h2, 20, @streams), join(' ', (503) x 20), 'errors of a backend, answered by HTTP/2');
    ok(RLP::Httpd::wait_for(sub { $server->get('/away/free')->{fields}{ratelimit} =~ /"away";r=49/ }), 'are given back');
    $server->stop;
}

# --- hostile identities

SKIP: {
    skip 'httpd has no mod_headers or mod_setenvif', 1 if grep { !RLP::Httpd::has_module($_) } qw(headers setenvif);
    my $server = server(<<'END', modules => [qw(headers setenvif)]);
LogLevel info
SetEnvIf X-Org "(?s)(.+)" ORG=$1
Header always set X-Who "%{RATELIMIT_IDENTITY}e"
RateLimitEngine On
RateLimitEnv always
RateLimitPlan pro rate=9/week
RateLimitPlanMap k txt:keys
<Location "/who">
    RateLimitIdentity k=header:X-API-Key ip
    RateLimitRule who rate=3/week
</Location>
<Location "/org">
    RateLimitIdentity o=env:ORG ip
    RateLimitRule org rate=1/week
</Location>
END
    my @children = sort $server->children;

    is($server->get('/who', 'X-API-Key: good-key')->{fields}{'x-ratelimit-remaining'}, 8, 'a known key');
    my $response = $server->get('/who', 'X-API-Key: ' . 'k' x 65_536);
    is($response->{status}, 400, 'I-14 a field of 64 kB is refused by httpd itself');
    is($response->{fields}{'x-ratelimit-remaining'}, undef, 'I-14 and counted by nobody');

    my %hostile = (
        '8 kB' => 'k' x 8000, '%00' => 'good-key%00', '%n' => '%n%n%n%s%s%s%p', 'CRLF' => 'good-key%0d%0aX-Evil: 1',
        'a fold' => "good-key\r\n evil", 'a bare CR' => "good-key\rX-Evil: 1", 'a bare LF' => "good-key\nX-Other: 1\n", 'NUL' => "good-key\0",
        'invalid UTF-8' => "good-key\xff\xfe\xc0\x80", 'controls' => "good-key\x01\x1b[31m", 'braces' => '{good-key}:who', 'quotes' => q{"good-key'`$(id)},
        'twice' => "good-key\r\nX-API-Key: good-key", 'another case' => 'GOOD-KEY', 'a part' => 'good-ke', 'more' => 'good-keys', 'backslashes' => '\\n\\x00\\',
    );
    for my $name (sort keys %hostile) {
        $response = $server->get('/who', "X-API-Key: $hostile{$name}");
        like($response->{status}, qr/^(?:200|400|429)$/, "I-14 $name in a key: the server answers");
        unlike($response->{head}, qr/^X-Evil|^Set-Cookie/mi, "I-14 $name in a key: nothing is injected");
        next if $name eq 'a bare LF'; # an end of line, by the book of HTTP
        like($response->{fields}{'x-who'} // '(null)', qr/^(?:ip:127\.0\.0\.1|\(null\))$/, "I-14 $name in a key is not known");
    }
    my $left = $server->get('/who', 'X-API-Key: good-key')->{fields}{'x-ratelimit-remaining'};
    ok($left == 7 || $left == 6, 'the known key is not affected') or diag($left);

    # values that count without a map: each its own counter, escaped, of bounded length
    my %who;
    my @values = ('a', 'a b', 'a+b', 'a:b', 'a%00', 'a%', "a\xff", "a\xfe", 'a/../b', 'a{b}', 'a"b', 'a#b', 'A', 'o:a', 'ip:127.0.0.1', '%n%s',
        'x' x 64, 'x' x 65, 'x' x 66, 'x' x 7000, 'x' x 6999 . 'y', "\xff" x 64, "\xff" x 65, '%20', "\xc3\xa4", '#' x 64);
    for my $value (@values) {
        (my $name = length $value > 20 ? substr($value, -1) . ' x ' . length $value : $value) =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ge;
        $response = $server->get('/org', "X-Org: $value");
        my $who = $response->{fields}{'x-who'} // '';
        is($response->{status}, 200, "I-14 '$name' as an identity: passes once");
        like($who, qr/^o:[A-Za-z0-9_.:\@%#-]{1,200}$/, "I-14 '$name' as an identity: escaped, of bounded length");
        $who{$who}++;
        is($server->get('/org', "X-Org: $value")->{status}, 429, "I-14 '$name' as an identity: is counted");
    }
    is(scalar keys %who, scalar @values, 'I-14 distinct values are distinct identities') or diag(explain(\%who));
    is($server->get('/org')->{fields}{'x-who'}, 'ip:127.0.0.1', 'I-08 no value is the next identity');
    is($server->get('/org', 'X-Org: ')->{fields}{'x-who'}, 'ip:127.0.0.1', 'I-08 an empty one too');

    my $log = $server->log_text;
    like($log, qr/RLP001: rule org, plan default refuses o:/, 'refusals are in the log');
    unlike(join('', grep { /RLP\d/ } split /^/, $log), qr/good-ke|x{20}|\%n/, 'but not what clients have sent');
    log_is_sound($server, 'hostile identities');
    is(join(' ', sort $server->children), "@children", 'no child was replaced') if $RLP::Httpd::mpm ne 'prefork';
    $server->stop;
}

# --- clients that go away

{
    my $server = server("RateLimitEngine On\nRateLimitRule all rate=300/week\n");
    my $answered = 0;
    for my $n (1 .. 60) {
        my $connection = $server->connection;
        my $text = head('POST', '/used', 'Content-Length: 5000') . 'x' x 300;
        $text = head('GET', '/free') x 3 if $n % 2;
        $connection->send(substr $text, 0, $n % 5 ? length $text : 20 + $n);
        setsockopt $connection->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0) if $n % 3; # RST, not FIN
        close $connection->{socket};
    }
    for my $n (1 .. 300) {
        my $status = $server->get('/free')->{status};
        $answered++ if $status == 200;
        last if $status == 429;
    }
    cmp_ok($answered, '>=', 300 - 60 * 3, 'clients that go away are charged for nothing they have not asked');
    cmp_ok($answered, '<=', 300, 'and never give a fresh limit');
    is($server->get('/free')->{status}, 429, 'the limit is reached');
    log_is_sound($server, 'aborts');
    ok($server->stop, 'httpd stops: nobody is stuck');
}

# --- modules that change the address of a request in place, as mod_rpaf does, or of its connection, as mod_cloudflare does

SKIP: {
    skip 'httpd has no mod_headers', 1 if !RLP::Httpd::has_module('headers');
    my $examples = $ENV{C_MODULES} || ($ENV{builddir} || '.') . '/t/c-modules';
    my $server = server(<<"END", modules => ['headers']);
LoadModule rlp_forwarded_module "$examples/mod_rlp_forwarded.so"
Header always set X-Who "%{RATELIMIT_IDENTITY}e"
RateLimitEngine On
RateLimitEnv always
RateLimitRule all rate=1000/week key=ip
END
    my $connection = $server->connection;
    my $who = sub {
        $connection->send(head('GET', '/free', map { "X-Forwarded-For: $_" } @_));
        return $connection->response->{fields}{'x-who'};
    };
    is($who->($_), "ip:$_", "I-10 on one connection of a proxy: $_") for qw(192.0.2.1 192.0.2.2 192.0.2.1);
    is($who->(), 'ip:127.0.0.1', 'I-10 and the proxy itself');
    is($who->('192.0.2.2'), 'ip:192.0.2.2', 'I-10 and its clients behind that');
    $server->stop;

    for my $env ('', "RateLimitEnv always\n") {
        my $usual = server(qq{LoadModule rlp_forwarded_module "$examples/mod_rlp_forwarded.so"\n${env}RateLimitEngine On\n}
                . "RateLimitRule all rate=1000/week key=ip\n");
        my $proxy = $usual->connection;
        $proxy->send(join '', map { head('GET', '/free', "X-Connecting-IP: 192.0.2.$_") } qw(1 2 1 2 3));
        is(join(' ', map { $proxy->response->{fields}{'x-ratelimit-remaining'} } 1 .. 5), '999 999 998 998 999',
            'I-10 I-16 clients on one connection whose address is changed, ' . ($env ? 'with' : 'without') . ' variables: each has a counter of its own');
        $usual->stop;
    }
}

# --- mod_remoteip

SKIP: {
    skip 'httpd has no mod_remoteip or mod_headers', 1 if grep { !RLP::Httpd::has_module($_) } qw(remoteip headers);
    my $config = <<'END';
RemoteIPHeader X-Forwarded-For
Header always set X-Who "%{RATELIMIT_IDENTITY}e"
RateLimitEngine On
RateLimitEnv always
RateLimitRule all rate=1000/week
<Location "/five">
    RateLimitIdentity ip/32,128
</Location>
<Location "/used">
    RateLimitIdentity ip/24,48
</Location>
END
    my $who = sub {
        my ($server, $address, $path) = @_;
        return $server->get($path // '/free', defined $address ? "X-Forwarded-For: $address" : ())->{fields}{'x-who'};
    };
    my $server = server("RemoteIPInternalProxy 192.0.2.0/24\n$config", modules => [qw(remoteip headers)]);
    is($who->($server, '9.9.9.9'), 'ip:127.0.0.1', 'I-09 X-Forwarded-For of an untrusted peer does not count');
    is($who->($server, $_), 'ip:127.0.0.1', "I-09 nor does '$_'") for '127.0.0.2, 9.9.9.9', 'garbage', '192.0.2.1';
    $server->stop;

    $server = server("RemoteIPInternalProxy 127.0.0.1 5.6.7.8\n$config", modules => [qw(remoteip headers)]);
    is($who->($server, '9.9.9.9'), 'ip:9.9.9.9', 'I-10 X-Forwarded-For of a RemoteIPInternalProxy counts');
    is($who->($server, '1.2.3.4, 5.6.7.8'), 'ip:1.2.3.4', 'I-11 and that of the one behind it');
    is($who->($server, '1.2.3.4, 9.9.9.9'), 'ip:9.9.9.9', 'I-11 but not that of a stranger');
    is($who->($server, undef), 'ip:127.0.0.1', 'without it the peer counts');
    is($who->($server, 'garbage'), 'ip:127.0.0.1', 'and with garbage');
    is($who->($server, '2001:db8::1'), 'ip:2001:db8::', 'I-15 IPv6 is counted by /64');
    is($who->($server, '2001:db8::2'), 'ip:2001:db8::', 'I-15 the neighbour is the same');
    is($who->($server, '2001:db8:0:1::2'), 'ip:2001:db8:0:1::', 'I-15 the next network is not');
    is($who->($server, '2001:db8::1', '/five'), 'ip/32,128:2001:db8::1', 'I-15 by /128');
    is($who->($server, '2001:db8::2', '/five'), 'ip/32,128:2001:db8::2', 'I-15 the neighbour is another');
    is($who->($server, '198.51.100.77', '/used'), 'ip/24,48:198.51.100.0', 'IPv4 by /24');
    is($who->($server, '::ffff:1.2.3.4'), 'ip:1.2.3.4', 'IPv4 inside IPv6 is IPv4');

    my $connection = $server->connection;
    my @addresses = ('9.9.9.1', undef, '9.9.9.2', '2001:db8::1', undef, '9.9.9.1');
    $connection->send(join '', map { head('GET', '/free', defined $_ ? "X-Forwarded-For: $_" : ()) } @addresses);
    is(join(' ', map { $connection->response->{fields}{'x-who'} } @addresses),
        'ip:9.9.9.1 ip:127.0.0.1 ip:9.9.9.2 ip:2001:db8:: ip:127.0.0.1 ip:9.9.9.1', 'requests of many clients on one connection');
    is($server->get('/free', 'X-Forwarded-For: 9.9.9.1')->{fields}{'x-ratelimit-remaining'}, 997, 'I-16 each with its own counter');
    $server->stop;
}

done_testing;
