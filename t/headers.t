#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What a client is told of its limits: which fields, with which numbers, on which responses.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use RLP::Test;
use Test::More;

# Our fields of a response in the order of their names, with those of a refusal.
sub told {
    my ($response) = @_;
    return join '|', sort map { "$_->[0]: $_->[1]" }
        grep { $_->[0] =~ /^(?:RateLimit|X-RateLimit|Retry-After$)/i } @{ $response->{fields} };
}

# The last of n responses.
sub after {
    my ($n, @request) = @_;
    get(@request) for 2 .. $n;
    return get(@request);
}

# --- RateLimitHeaders: five a minute, one has been used; then the sixth

my $policy = 'RateLimit-Policy: "%s";q=5;w=60';
my @settings = (
    # directive, path, an admitted request, a refused one
    [
        'none', 'both',
        "$policy|RateLimit: \"%s\";r=4;t=48|X-RateLimit-Limit: 5|X-RateLimit-Remaining: 4|X-RateLimit-Reset: 12",
        "$policy|RateLimit: \"%s\";r=0;t=12|Retry-After: 12|X-RateLimit-Limit: 5|X-RateLimit-Remaining: 0|X-RateLimit-Reset: 60",
    ],
    [ 'IETF', 'ietf', "$policy|RateLimit: \"%s\";r=4;t=48", "$policy|RateLimit: \"%s\";r=0;t=12|Retry-After: 12" ],
    [
        'Legacy', 'legacy', 'X-RateLimit-Limit: 5|X-RateLimit-Remaining: 4|X-RateLimit-Reset: 12',
        'Retry-After: 12|X-RateLimit-Limit: 5|X-RateLimit-Remaining: 0|X-RateLimit-Reset: 60',
    ],
    [
        'Legacy reset=epoch', 'epoch', 'X-RateLimit-Limit: 5|X-RateLimit-Remaining: 4|X-RateLimit-Reset: +12',
        'Retry-After: 12|X-RateLimit-Limit: 5|X-RateLimit-Remaining: 0|X-RateLimit-Reset: +60',
    ],
    [ 'Off', 'off', '', 'Retry-After: 12' ],
    [ 'IETF denied', 'denied', '', "$policy|RateLimit: \"%s\";r=0;t=12|Retry-After: 12" ],
);

begin;
for my $case (@settings) {
    my ($setting, $path, @expected) = @{$case};
    for (@expected) {
        s/%s/$path/g;
        s/\+(\d+)/clock->epoch($1)/e;
    }
    my $first = get("/c/$path");
    is(told($first), $expected[0], "H-01 H-16 RateLimitHeaders $setting: admitted");
    my $last = after(5, "/c/$path");
    is(told($last), $expected[1], "H-03 H-16 RateLimitHeaders $setting: refused");
    is($last->status, 429, "H-03 RateLimitHeaders $setting: with 429");
    is($last->header('Cache-Control'), 'no-store', "RateLimitHeaders $setting: a refusal is not to be stored");
    is($first->header('Cache-Control'), undef, "RateLimitHeaders $setting: an admitted response may be");
}

begin;
is(answers(6, '/c/both'), 'A4 A3 A2 A1 A0 D12', 'H-02 each admitted request leaves one less');

# --- several limits: the refusing one first, then the least that is left

my @several = (
    # name, path, number of the request, RateLimit-Policy, RateLimit, X-RateLimit-Limit
    [
        'a plan of two limits', 'plan', 1, '"h-plan";q=10;w=60, "h-plan-hour";q=12;w=3600',
        '"h-plan";r=9;t=54, "h-plan-hour";r=11;t=3300', 10,
    ],
    [
        'one plan by two rules has the names of both', 'same', 1,
        '"h-same@same-a";q=5;w=60, "h-same@same-b";q=5;w=60',
        '"h-same@same-a";r=4;t=48, "h-same@same-b";r=4;t=48', 5,
    ],
    [
        'a rule with the name of another\'s plan', 'named', 1, '"h-plan@named";q=10;w=60, "h-plan-hour";q=12;w=3600, "h-plan@h-plan";q=50;w=60',
        '"h-plan@named";r=9;t=54, "h-plan-hour";r=11;t=3300, "h-plan@h-plan";r=49;t=59', 10,
    ],
    [ 'H-11 the tighter one leads', 'h-11', 1, '"h-11-route";q=2;w=60, "h-11-all";q=100;w=60', '"h-11-route";r=1;t=30, "h-11-all";r=99;t=60', 2 ],
    [ 'H-11 and is used up', 'h-11', 1, '"h-11-route";q=2;w=60, "h-11-all";q=100;w=60', '"h-11-route";r=0;t=30, "h-11-all";r=98;t=59', 2 ],
    [ 'H-13 the one that refuses leads', 'h-13', 4, '"h-13-all";q=3;w=60, "h-13-route";q=10;w=60', '"h-13-all";r=0;t=20, "h-13-route";r=7;t=42', 3 ],
    [ 'a quota that is never renewed has no time', 'quota', 1, '"quota";q=3', '"quota";r=2', 3 ],
    [ 'a long number', 'long', 1, '"long";q=10001', '"long";r=10000', 10001 ],
    [ 'a longer one', 'longer', 1, '"longer";q=100000020000', '"longer";r=100000019999', 100000020000 ],
);
begin;
for my $case (@several) {
    my ($name, $path, $n, $policies, $left, $limit) = @{$case};
    my $response = after($n, "/c/$path");
    is($response->header('RateLimit-Policy'), $policies, "$name: RateLimit-Policy");
    is($response->header('RateLimit'), $left, "$name: RateLimit");
    is($response->header('X-RateLimit-Limit'), $limit, "$name: X-RateLimit-Limit");
}
is(get('/c/quota')->header('X-RateLimit-Reset'), undef, 'a quota that is never renewed has no X-RateLimit-Reset');

at 10;
is(get('/c/window')->header('RateLimit'), '"window";r=1;t=50', 'a window says when it ends');

begin;
is(answers(4, '/c/h-13'), 'A2 A1 A0 D20', 'H-13 three for all, ten here: the fourth is refused');
is(answers(1, '/c/h-15/other'), 'A9', 'H-15 another route goes on');

# --- refusals: the body

my @bodies = (
    # name, path, Accept, type, body
    [ 'H-05 who wants JSON', 'h-05', 'application/json', 'application/problem+json', qr/^\{.*\}$/s ],
    [ 'H-05 who wants problem+json', 'h-05', 'application/problem+json, */*;q=0.1', 'application/problem+json', qr/^\{.*\}$/s ],
    [ 'who prefers HTML', 'h-05', 'text/html, application/json;q=0.5', 'text/html; charset=iso-8859-1', qr/429 Too Many Requests/ ],
    [ 'who prefers any text', 'h-05', 'application/json;q=0.5, text/*', 'text/html; charset=iso-8859-1', qr/429 Too Many Requests/ ],
    [ 'who prefers anything else', 'h-05', 'application/json;q=0.1, */*', 'text/html; charset=iso-8859-1', qr/429 Too Many Requests/ ],
    [ 'who prefers JSON and anything else to HTML', 'h-05', 'application/json;q=0.8, text/html;q=0.5, */*', 'application/problem+json', qr/^\{.*\}$/s ],
    [ 'who prefers it by more than there is', 'h-05', 'application/json;q=1.5, */*;q=0.1', 'text/html; charset=iso-8859-1', qr/429 Too Many Requests/ ],
    [ 'who takes JSON as anything', 'h-05', 'application/json, text/plain, */*', 'application/problem+json', qr/^\{.*\}$/s ],
    [ 'who takes anything', 'h-05', '*/*', 'text/html; charset=iso-8859-1', qr/429 Too Many Requests/ ],
    [ 'H-06 a text of the administrator', 'h-06-text', '*/*', 'text/html; charset=iso-8859-1', qr/^Slow down/ ],
    [ 'H-06 which goes before JSON', 'h-06-text', 'application/json', 'text/html; charset=iso-8859-1', qr/^Slow down/ ],
    [ 'H-06 a page of the administrator', 'h-06-page', '*/*', 'text/plain', qr/^ok$/ ],
);
begin;
after(5, "/c/$_") for qw(h-05 h-06-text h-06-page);
for my $case (@bodies) {
    my ($name, $path, $accept, $type, $body) = @{$case};
    my $response = get("/c/$path", Accept => $accept);
    is($response->status, 429, "$name: refused");
    is($response->header('Content-Type'), $type, "$name: type");
    like($response->body, $body, "$name: body");
    is($response->header('Retry-After'), 12, "$name: Retry-After");
    is($response->header('X-RateLimit-Remaining'), 0, "$name: X-RateLimit-Remaining");
    is($response->header('Cache-Control'), 'no-store', "$name: Cache-Control");
}
my $refused = after(6, '/c/h-05-packed', Accept => 'application/json');
is($refused->header('Content-Type'), 'application/problem+json', 'H-05 JSON in place of a compressed file in German');
is($refused->header($_), undef, "is neither: $_") for qw(Content-Encoding Content-Language);
is_deeply([ $refused->all('Cache-Control') ], ['no-store'], 'H-05 nor is it kept as long as the file: Header set is for that');
is($refused->header('X-Always'), 'yes', 'H-05 Header always set is for errors, too');
$refused = get('/c/h-05', Accept => 'application/json');
my $problem = eval { decode_json($refused->body) } || {};
is($problem->{status}, 429, 'H-05 the problem has the status');
is($problem->{detail}, 'Rate limit exceeded', 'H-05 the problem has the detail');
is($problem->{retry_after}, $refused->header('Retry-After'), 'H-05 the problem has the seconds of Retry-After');
is_deeply($problem->{'violated-policies'}, ['h-05'], 'H-05 the problem names the policy');
like($problem->{type}, qr{^https://}, 'H-05 the problem has a type');
ok($problem->{title}, 'H-05 the problem has a title');

begin;
my $denied = after(6, '/c/status');
is($denied->status, 503, 'RateLimitDenyStatus 503');
is($denied->header('Retry-After'), 12, 'RateLimitDenyStatus 503: Retry-After');
is($denied->header('Cache-Control'), 'no-store', 'RateLimitDenyStatus 503: Cache-Control');
is(decode_json(get('/c/status', Accept => 'application/json')->body)->{status}, 503, 'RateLimitDenyStatus 503: in JSON');

# --- errors, and answers without a body

my @errors = (
    # name, path, status
    [ 'H-09 a file that is missing', '/h-09/missing', 404 ],
    [ 'H-09 a script that is missing', '/cgi/missing/h-09', 404 ],
    [ 'H-09 a script that says 500', '/cgi/hit/h-09?Status=500', 500 ],
    [ 'H-09 a script that says nothing', '/cgi/mute/h-09', 500 ],
    [ 'H-09 a backend that says 404', '/backend/cgi/missing/h-09', 404 ],
    [ 'H-09 a backend that says 500', '/backend/cgi/hit/h-09?Status=500', 500 ],
    [ 'H-09 a backend that is away', '/away/h-09', 503 ],
    [ 'a method that is not allowed', 'PUT /c/h-09', 405 ],
    [ 'a method that is not allowed, with a page for it', 'PUT /c/h-09-page', 405 ],
    [ 'a method that is not allowed, with a page that is refused', 'PUT /c/h-09-closed', 405 ],
    [ 'a file that may not be read', '/h-09/unreadable', 403 ],
    [ 'what is behind a file', '/h-09/file/behind', 404 ],
    [ 'an Action of a type of file', '/h-09/action', 200 ],
    [ 'an Action that is refused', '/h-09/action-closed', 403 ],
    [ 'the slash behind a directory', '/h-09/directory', 301 ],
);
my $unreadable = "$ENV{RLP_TOP}/t/logs/h-09-unreadable";
RLP::Basics::spill($unreadable, 'x');
chmod 0, $unreadable or die "$unreadable: $!\n";
for my $case (@errors) {
    my ($name, $path, $status) = @{$case};
    begin;
    my $response = $path =~ /^(\w+) (.*)/ ? request($1, $2) : get($path);
    is($response->status, $status, "$name: $status");
    is(told($response), told(get('/c/h-09-usual')) =~ s/usual/error/gr, "$name: the fields of any response");
}

begin;
my $head = request('HEAD', '/c/both');
is($head->status, 200, 'HEAD is answered');
is(answer($head), 'A4', 'HEAD has the fields');
my $unchanged = get('/c/both', 'If-Modified-Since' => get('/c/both')->header('Last-Modified'));
is($unchanged->status, 304, 'a page that has not changed');
is($unchanged->header('X-RateLimit-Remaining'), 2, '304 has the fields');

# --- a file as httpd may answer it: each field once, whatever else stands on the response

my @files = (
    # name, path, fields of the request, status, a field of the response and its value
    [ 'a part', '/c/h-09', { Range => 'bytes=1-1' }, 206, 'Content-Range', 'bytes 1-1/3' ],
    [ 'two parts', '/c/h-09', { Range => 'bytes=0-0,2-2' }, 206, 'Content-Range', undef ],
    [ 'a part that it has not', '/c/h-09', { Range => 'bytes=10-' }, 416, 'Content-Range', undef ],
    [ 'with a field, a part that it has not', '/c/h-09-field', { Range => 'bytes=10-' }, 416, 'X-Always', 'yes' ],
    [ 'with a field and a page, a part that it has not', '/c/h-09-field-page', { Range => 'bytes=10-' }, 416, 'X-Always', undef ],
    [ 'only if it is of long ago', '/c/h-09', { 'If-Unmodified-Since' => 'Thu, 01 Jan 1970 00:00:01 GMT' }, 412, 'Content-Range', undef ],
    [ 'with a field of each answer', '/c/h-09-field', {}, 200, 'X-Always', 'yes' ],
    [ 'with a field of good answers', '/c/h-09-onsuccess', {}, 200, 'X-Success', 'yes' ],
    [ 'with a cookie', '/c/h-09-cookie', { Cookie => 'a=b' }, 200, 'Set-Cookie', 'c=d; path=/; domain=headers.test' ],
    [ 'with a cookie, by a wrong method', 'PUT /c/h-09-cookie', {}, 405, 'Set-Cookie', 'c=d; path=/; domain=headers.test' ],
    [ 'through a filter', '/h-09/filtered', {}, 200, 'Content-Type', 'text/html' ],
);
for my $case (@files) {
    my ($name, $path, $fields, $status, $field, $value) = @{$case};
    begin;
    my $response = $path =~ /^(\w+) (.*)/ ? request($1, $2) : get($path, %{$fields});
    is($response->status, $status, "a file, $name: $status");
    is($response->header($field), $value, "a file, $name: $field");
    is(told($response), told(get('/c/h-09-usual')) =~ s/usual/error/gr, "a file, $name: the fields of any response");
}
begin;
is(told(get('/c/h-09-unset')), 'RateLimit-Policy: "error";q=5;w=60|X-RateLimit-Remaining: four',
    '"Header always" unsets and edits the fields of a file');

# --- a backend that has limits of its own

my $theirs = join '&', 'X-RateLimit-Limit=999', 'X-RateLimit-Remaining=998', 'X-RateLimit-Reset=997', 'X-RateLimit-Used=1',
    'RateLimit-Policy=%22theirs%22;q=999', 'RateLimit=%22theirs%22;r=998';
my @backends = (
    # who, path
    [ 'a script', '/cgi/hit/h-07' ],
    [ 'a script behind an internal redirect', '/rewritten/h-07' ],
    [ 'a proxied backend', '/backend/cgi/hit/h-07' ],
);
for my $case (@backends) {
    my ($who, $path) = @{$case};
    begin;
    my $response = get("$path?$theirs");
    is(told($response), told(get('/c/h-07-usual')) =~ s/usual/backend/gr, "H-07 ours replace those of $who, none twice");
    $response = get("$path?Status=404&$theirs");
    is($response->status, 404, "H-07 $who says 404 ...");
    is($response->header('X-RateLimit-Limit'), 5, "H-07 ... and ours replace theirs");
    $response = get("$path?Status=429&Retry-After=33&$theirs");
    is($response->status, 429, "H-07 $who says 429 itself ...");
    is(told($response),
        'RateLimit-Policy: "theirs";q=999|RateLimit: "theirs";r=998|Retry-After: 33|X-RateLimit-Limit: 999'
            . '|X-RateLimit-Remaining: 998|X-RateLimit-Reset: 997|X-RateLimit-Used: 1',
        'H-07 ... and its fields stay, ours vanish');
    $response = get("$path?Status=429");
    is(told($response), '', "H-07 nor do ours stand on a bare 429 of $who");
    is(answers(1, '/c/h-07-after'), 'A0', "H-07 all were counted: $who");
}
is(told(get("/unlimited/cgi/hit/h-07?$theirs")) =~ tr/|//, 5, 'where no rule applies, a backend says what it likes');

# --- a backend that takes over when rules have been judged, and answers of httpd in place of one

host 'replaced';
begin;
my $ours = told(get('/ok.txt'));
my @late = (
    # who, path, status, fields of the request
    [ 'a script that is an index', '/index/', 200 ],
    [ 'a script that is an index, where a field is edited', '/index-edited/', 200 ],
    [ 'a script behind FallbackResource', '/fallback/nothing-here', 200 ],
    [ 'a backend that is an index', '/proxied/', 200 ],
    [ 'a script that redirects inside', '/cgi/hit/h-07?Location=/ok.txt', 200 ],
    [ 'a script that redirects', '/cgi/hit/h-07?Location=http://elsewhere.test/', 302 ],
    [ 'a script that has nothing new', '/cgi/hit/h-07?ETag=%22a%22', 304, 'If-None-Match' => '"a"' ],
);
for my $case (@late) {
    my ($who, $path, $status, %field) = @{$case};
    begin;
    my $response = get($path . ($path =~ /[?]/ ? '&' : '?') . $theirs, %field);
    is($response->status, $status, "H-07 $who: $status");
    is(told($response), $path =~ /edited/ ? $ours =~ s/X-RateLimit-Limit: 5/X-RateLimit-Limit: five/r : $ours, "H-07 ours replace those of $who");
}
begin;
is(get("/index/?Status=429&$theirs")->header('X-RateLimit-Limit'), 999, 'H-07 a script that is an index and says 429 itself is believed');

# --- one that stands where no rule is judged, or none is told of

host 'overtaken';
begin;
my $alone = told(get('/alone'));
for my $case (
    # where, path
    [ 'no rule is', '/unruled/' ],
    [ 'the engine is off', '/off/' ],
    [ 'its client is exempt', '/exempt/' ],
    [ 'no rule is, and a backend answers', '/proxied/' ],
    [ 'a rule is told of on refusals alone', '/denied/' ],
    [ 'a rule is not told of', '/quiet/' ],
) {
    my ($where, $path) = @{$case};
    begin;
    is(told(get("$path?$theirs")), $alone, "H-07 ours replace those of a script that takes over where $where");
    is(told(get("$path?Status=429&$theirs")) =~ tr/|//, 5, 'H-07 ... and says 429 itself: it is believed');
}

# --- a script that is known before authentication, where a rule has been judged by then

host 'foreseen';
my $scripts = "$ENV{RLP_TOP}/t/logs/h-07-scripts";
mkdir $scripts or die "$scripts: $!\n";
RLP::Basics::spill("$scripts/chosen.sh", RLP::Basics::slurp("$ENV{RLP_TOP}/t/htdocs/cgi/hit"));
chmod 0755, "$scripts/chosen.sh" or die "$scripts/chosen.sh: $!\n";
for my $case ([ 'by its name', 'chosen.sh' ], [ 'by content negotiation', 'chosen' ]) {
    my ($how, $name) = @{$case};
    begin;
    is(told(get("/$name?$theirs")),
        'RateLimit-Policy: "late";q=1;w=60, "early";q=5;w=60|RateLimit: "late";r=0;t=60, "early";r=4;t=48'
            . '|X-RateLimit-Limit: 1|X-RateLimit-Remaining: 0|X-RateLimit-Reset: 60',
        "H-07 ours replace those of a script that is found $how");
    $refused = get("/$name", Accept => 'application/json');
    is($refused->header('Content-Type'), 'application/problem+json', 'a later rule refuses it in JSON ...');
    is(told($refused),
        'RateLimit-Policy: "late";q=1;w=60, "early";q=5;w=60|RateLimit: "late";r=0;t=60, "early";r=3;t=36'
            . '|Retry-After: 60|X-RateLimit-Limit: 1|X-RateLimit-Remaining: 0|X-RateLimit-Reset: 60',
        '... with the fields of both');
}

# --- a refusal's page that is made by a script, which has fields of its own

host 'explained';
my $page_told = 'RateLimit-Policy: "page";q=5;w=60|RateLimit: "page";r=0;t=12|Retry-After: 12|X-RateLimit-Limit: 5|X-RateLimit-Remaining: 0|X-RateLimit-Reset: 60';
my @pages = (
    # who, path, status, fields
    [ 'a script', '/c/script', 429, $page_told ],
    [ 'a backend, whose status httpd takes', '/c/proxied', 200, $page_told ],
    [ 'a script, where only Retry-After is told', '/c/off', 429, 'Retry-After: 12' ],
    [ 'a script, where waiting does not help', '/c/never', 429, '' ],
    [ 'a script that is the index of a directory', '/c/indexed', 429, $page_told ],
);
for my $case (@pages) {
    my ($who, $path, $status, $told) = @{$case};
    begin;
    my $response = after(6, $path);
    is($response->status, $status, "the page of a refusal is made by $who");
    is($response->body, "hit\n", '... which was asked');
    is(told($response), $told, '... and what the refusal says is said once');
}

# --- a file that has its fields in it

begin;
is(told(get('/c/usual')), told(get('/sent.asis')) =~ s/"page"/"usual"/gr, 'ours replace those of a file that httpd sends as it is');

# --- sections on both sides of a redirect that tell otherwise

host 'retold';
my @retold = (
    # from a section with both kinds of fields to one with, path, fields
    [ 'the older ones', '/rewritten/to-legacy', 'X-RateLimit-Limit: 3|X-RateLimit-Remaining: 2|X-RateLimit-Reset: 20' ],
    [ 'those of IETF', '/rewritten/to-ietf', 'RateLimit-Policy: "ietf";q=3;w=60, "outer";q=5;w=60|RateLimit: "ietf";r=2;t=40, "outer";r=4;t=48' ],
    [
        'a quota', '/rewritten/to-quota',
        'RateLimit-Policy: "quota";q=3, "outer";q=5;w=60|RateLimit: "quota";r=2, "outer";r=4;t=48|X-RateLimit-Limit: 3|X-RateLimit-Remaining: 2',
    ],
);
for my $case (@retold) {
    my ($which, $path, $told) = @{$case};
    begin;
    is(told(get($path)), $told, "behind a redirect, a section with $which: told once, of all limits");
}

begin;
my $kept = RLP::Client->new($ENV{RLP_PORT});
for my $nth (1, 2) { # the second is known by its address
    my $large = get('/rewritten/to-large', Host => 'large.test', connection => $kept);
    like($large->header('RateLimit-Policy'), qr/^"l";q=9{15};w=\d+$/, 'behind a section without fields, what passed there is not told');
    is(
        join(' ', map { $large->header("X-RateLimit-$_") } qw(Limit Remaining Reset)),
        join(' ', 999_999_999_999_999, 999_999_999_999_999 - $nth, clock->epoch($large->header('RateLimit') =~ /;t=(\d+)/)),
        '... the longest numbers are'
    );
    is($large->header('X-Who'), 'ip:127.0.0.1', '... and nothing but them is written over');
}

# --- sections without fields before and behind redirects: what variables and fields tell of

host 'chain';
my @chains = (
    # sections, what RateLimit has left, RATELIMIT_ACTION, RATELIMIT_RULE
    [ '/untold/c/last', 'last 8', 'pass last' ],
    [ '/told/untold/c/last', 'told 4 last 8', 'pass told' ],
    [ '/told/logged/c/last', 'told 4 last 8', 'pass logged' ],
    [ '/untold/told/c/last', 'told 4 last 8', 'pass told' ],
    [ '/logged/c/last', 'last 8', 'pass logged' ],
    [ '/logged/untold/c/quiet', '', 'pass logged' ],
    [ '/logged/told/c/last', 'told 4 last 8', 'pass logged' ],
    [ '/logged/other/c/free', '', 'pass logged' ],
    [ '/told/untold/other/c/free', 'told 4', '' ],
    [ '/untold/other/c/free', '', '' ],
    [ '/exempt/c/free', '', 'exempt' ],
    [ '/exempt/c/other', '', 'exempt' ],
    [ '/exempt/other/c/free', '', 'exempt' ],
    [ '/exempt/other/c/other', '', 'exempt' ],
    [ '/exempt/other/told/c/free', 'told 4', '' ],
    [ '/exempt/told/c/free', 'told 4', '' ],
);
for my $case (@chains) {
    my ($path, $left, $variables) = @{$case};
    my $connection = RLP::Client->new($ENV{RLP_PORT});
    for my $which ('the first', 'the next, known by its address,') {
        begin;
        my $response = get($path, connection => $connection);
        is(join(' ', map { /"(\w+)";r=(\d+)/ } split /, /, $response->header('RateLimit') // ''), $left, "$path: what $which tells");
        is(join(' ', grep { defined } map { $response->header($_) } qw(X-Action X-Rule)), $variables, '... and its variables');
    }
}
for my $case ([ '/free-directory/', '"counted";r=8;t=54', undef ], [ '/free-directory/elsewhere/', undef, 'exempt' ]) {
    my ($path, $left, $action) = @{$case};
    begin;
    my $index = get($path);
    is($index->header('RateLimit'), $left, "$path: what an index tells of, in a directory whose rules exempt the client");
    is($index->header('X-Action'), $action, '... who is exempt if nothing is judged there');
}
begin;
my $unknown = get('/c/unknown', 'X-Chain' => 'nobody');
is($unknown->status, 403, 'a refusal without limits, whose page is made by a script ...');
is(told($unknown), '', '... which has no say in it');
is($unknown->header('X-Action'), 'deny', '... is a refusal for logs');

# the same where addresses are all that counts, which are known from the second request on

host 'address';
for my $path ('/picky/c/last', '/untold/c/last') {
    begin;
    my $connection = RLP::Client->new($ENV{RLP_PORT});
    for my $nth (1 .. 3) {
        my $policy = get($path, connection => $connection)->header('RateLimit-Policy');
        is($policy, '"last";q=9;w=60', "$path: request no $nth of a client tells of the section with fields");
    }
}

done_testing;

__DATA__
RateLimitPlan h-plan rate=10/min rate=12/hour
RateLimitPlan h-same rate=5/min

<VirtualHost *:${RLP_PORT}>
    ServerName headers.test
    RateLimitEngine On
    ProxyPass /backend/ http://127.0.0.1:${RLP_PORT}/
    ProxyPass /unlimited/ http://127.0.0.1:${RLP_PORT}/
    ProxyPass /away/ http://127.0.0.1:1/ disablereuse=on
    <Directory "${T}/htdocs/rewritten">
        RewriteEngine On
        RewriteBase "/rewritten/"
        RewriteRule "^h-07$" "/cgi/hit/h-07"
    </Directory>
    Alias /h-09/directory "${T}/htdocs/directory"
    <Location "/c/both">
        RateLimitRule both rate=5/min
    </Location>
    <Location "/c/ietf">
        RateLimitHeaders IETF
        RateLimitRule ietf rate=5/min
    </Location>
    <Location "/c/legacy">
        RateLimitHeaders Legacy
        RateLimitRule legacy rate=5/min
    </Location>
    <Location "/c/epoch">
        RateLimitHeaders Legacy reset=epoch
        RateLimitRule epoch rate=5/min
    </Location>
    <Location "/c/off">
        RateLimitHeaders Off
        RateLimitRule off rate=5/min
    </Location>
    <Location "/c/denied">
        RateLimitHeaders IETF denied
        RateLimitRule denied rate=5/min
    </Location>
    <Location "/c/plan">
        RateLimitRule plan plan=h-plan
    </Location>
    <Location "/c/same">
        RateLimitRule same-a plan=h-same
        RateLimitRule same-b plan=h-same key=global
    </Location>
    <Location "/c/named">
        RateLimitRule named plan=h-plan
        RateLimitRule h-plan rate=50/min
    </Location>
    <Location "/c/h-11">
        RateLimitRule h-11-all rate=100/min
        RateLimitRule h-11-route rate=2/min
    </Location>
    <Location "/c/h-13">
        RateLimitRule h-13-all rate=3/min
        RateLimitRule h-13-route rate=10/min
    </Location>
    <Location "/c/h-15">
        RateLimitRule h-15 rate=10/min
    </Location>
    <Location "/c/quota">
        RateLimitRule quota quota=3
    </Location>
    <Location "/c/longer">
        RateLimitRule longer quota=100000020000
    </Location>
    <Location "/c/long">
        RateLimitRule long quota=10001
    </Location>
    <Location "/c/window">
        RateLimitRule window rate=2/min algorithm=fixed-window
    </Location>
    <Location "/c/h-05">
        RateLimitRule h-05 rate=5/min
    </Location>
    <Location "/c/h-05-packed">
        Header set Cache-Control "public, max-age=60"
        Header always set X-Always yes
        AddEncoding gzip .txt
        AddLanguage de .txt
        RateLimitRule h-05-packed rate=5/min
    </Location>
    <Location "/c/h-06-text">
        RateLimitRule h-06-text rate=5/min
        ErrorDocument 429 "Slow down"
    </Location>
    <Location "/c/h-06-page">
        RateLimitRule h-06-page rate=5/min
        ErrorDocument 429 /c/explained
    </Location>
    <Location "/c/status">
        RateLimitDenyStatus 503
        RateLimitRule status rate=5/min
    </Location>
    Alias "/h-09/file" "${T}/htdocs/ok.txt"
    AliasMatch "^/h-09/action" "${T}/htdocs/ok.txt"
    AliasMatch "^/h-09/filtered" "${T}/htdocs/index.html"
    Alias "/h-09/unreadable" "${T}/logs/h-09-unreadable"
    <Location "/c/h-09-page">
        ErrorDocument 405 /ok.txt
    </Location>
    <Location "/c/h-09-closed">
        ErrorDocument 405 /closed.txt
    </Location>
    <Location "/closed.txt">
        Require all denied
    </Location>
    <Location "/cgi/hit/h-09-closed">
        Require all denied
    </Location>
    <Location "/h-09/action">
        Action text/plain "/cgi/hit/h-09-action"
    </Location>
    <Location "/h-09/action-closed">
        Action text/plain "/cgi/hit/h-09-closed"
    </Location>
    <Location "/h-09/filtered">
        SetOutputFilter INCLUDES
    </Location>
    <Location "/c/h-09-field">
        Header always set X-Always yes
    </Location>
    <Location "/c/h-09-field-page">
        Header always set X-Always yes
        ErrorDocument 416 /ok.txt
    </Location>
    <Location "/c/h-09-onsuccess">
        Header set X-Success yes
    </Location>
    <Location "/c/h-09-cookie">
        RewriteEngine On
        RewriteRule .* - [CO=c:d:headers.test]
    </Location>
    <Location "/c/h-09-unset">
        Header always unset RateLimit
        Header always unset X-RateLimit-Limit
        Header always unset X-RateLimit-Reset
        Header always edit X-RateLimit-Remaining 4 four
    </Location>
    <LocationMatch "^.*/h-09|^/h-09/">
        RateLimitRule error rate=5/min
    </LocationMatch>
    <Location "/c/h-09-usual">
        RateLimitRule error Off
        RateLimitRule usual rate=5/min
    </Location>
    <LocationMatch "^(?!/unlimited).*/h-07">
        RateLimitRule backend rate=5/min
    </LocationMatch>
    <Location "/c/h-07-usual">
        RateLimitRule backend Off
        RateLimitRule usual rate=5/min
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName replaced.test
    RateLimitEngine On
    RateLimitRule whole rate=5/min
    ProxyPass "/backend/" "http://127.0.0.1:${RLP_PORT}/"
    Alias "/index-edited" "${T}/htdocs/directory"
    Alias "/index" "${T}/htdocs/directory"
    Alias "/fallback" "${T}/htdocs/directory"
    Alias "/proxied" "${T}/htdocs/directory"
    <Location "/index">
        DirectoryIndex /cgi/hit/h-07
    </Location>
    <Location "/index-edited">
        DirectoryIndex /cgi/hit/h-07-edited
    </Location>
    <Location "/cgi/hit/h-07-edited">
        Header always edit X-RateLimit-Limit 5 five
    </Location>
    <Location "/fallback">
        FallbackResource /cgi/hit/h-07
    </Location>
    <Location "/proxied">
        DirectoryIndex /backend/cgi/hit/h-07
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName overtaken.test
    RateLimitEngine On
    AliasMatch "^/(?:unruled|proxied|off|exempt|denied|quiet)/" "${T}/htdocs/directory/"
    Alias "/alone" "${T}/htdocs/ok.txt"
    <LocationMatch "^/(?:alone$|unruled/|proxied/|off/|exempt/|denied/|quiet/)">
        RateLimitRule whole rate=5/min
    </LocationMatch>
    <Location "/unruled">
        DirectoryIndex /cgi/hit/h-07
    </Location>
    ProxyPass "/backend/" "http://127.0.0.1:${RLP_PORT}/"
    <Location "/proxied">
        DirectoryIndex /backend/cgi/hit/h-07
    </Location>
    <Location "/off">
        DirectoryIndex /cgi/hit/h-07-off
    </Location>
    <Location "/exempt">
        DirectoryIndex /cgi/hit/h-07-exempt
    </Location>
    <Location "/denied">
        DirectoryIndex /cgi/hit/h-07-denied
    </Location>
    <Location "/quiet">
        DirectoryIndex /cgi/hit/h-07-quiet
    </Location>
    <LocationMatch "^/cgi/hit/h-07-">
        RateLimitRule script rate=9/min
    </LocationMatch>
    <Location "/cgi/hit/h-07-off">
        RateLimitEngine Off
    </Location>
    <Location "/cgi/hit/h-07-exempt">
        RateLimitExempt ip 127.0.0.1
    </Location>
    <Location "/cgi/hit/h-07-denied">
        RateLimitHeaders Both denied
    </Location>
    <Location "/cgi/hit/h-07-quiet">
        RateLimitHeaders Off
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName foreseen.test
    ScriptAlias "/" "${T}/logs/h-07-scripts/"
    RateLimitEngine On
    RateLimitRule early rate=5/min phase=early key=ip
    RateLimitRule late rate=1/min
    <Directory "${T}/logs/h-07-scripts">
        Options +MultiViews
        MultiviewsMatch Handlers
        AddHandler cgi-script .sh
    </Directory>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName explained.test
    RateLimitEngine On
    ProxyPass "/backend/" "http://127.0.0.1:${RLP_PORT}/"
    AddType httpd/send-as-is .asis
    ErrorDocument 429 "/cgi/hit/explained?Retry-After=99&X-RateLimit-Limit=98&X-RateLimit-Used=97&RateLimit=96"
    <LocationMatch "^/(c/script|c/proxied|c/indexed|sent.asis)$">
        RateLimitRule page rate=5/min
    </LocationMatch>
    <Location "/c/proxied">
        ErrorDocument 429 "/backend/cgi/hit/explained?Retry-After=99&X-RateLimit-Limit=98&X-RateLimit-Used=97&RateLimit=96"
    </Location>
    <Location "/c/indexed">
        ErrorDocument 429 "/explained/?Retry-After=99&X-RateLimit-Limit=98&X-RateLimit-Used=97&RateLimit=96"
    </Location>
    Alias "/explained" "${T}/htdocs/directory"
    <Location "/explained">
        DirectoryIndex /cgi/hit/explained
    </Location>
    <Location "/c/off">
        RateLimitHeaders Off
        RateLimitRule off rate=5/min
    </Location>
    <Location "/c/never">
        RateLimitHeaders Off
        RateLimitRule never quota=5
    </Location>
    <Location "/c/usual">
        RateLimitRule usual rate=5/min
    </Location>
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName retold.test
    RateLimitEngine On
    Alias "/rewritten" "${T}/htdocs/rewritten"
    <Directory "${T}/htdocs/rewritten">
        RewriteEngine On
        RewriteBase "/rewritten/"
        RewriteRule "^to-(.*)$" "/c/$1"
        RateLimitRule outer rate=5/min
    </Directory>
    <Location "/c/legacy">
        RateLimitHeaders Legacy
        RateLimitRule legacy rate=3/min
    </Location>
    <Location "/c/ietf">
        RateLimitHeaders IETF
        RateLimitRule ietf rate=3/min
    </Location>
    <Location "/c/quota">
        RateLimitRule quota quota=3
    </Location>
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName large.test
    RateLimitEngine On
    RateLimitIdentity ip
    Alias "/rewritten" "${T}/htdocs/rewritten"
    <Directory "${T}/htdocs/rewritten">
        RewriteEngine On
        RewriteBase "/rewritten/"
        RewriteRule "^to-(.*)$" "/c/$1"
        RateLimitHeaders Off
        RateLimitRule quiet rate=100/min
    </Directory>
    <Location "/c/large">
        RateLimitHeaders Both reset=epoch
        RateLimitEnv always
        RateLimitRule l quota=999999999999999/month
        Header always set X-Who %{RATELIMIT_IDENTITY}e
    </Location>
</VirtualHost>
<VirtualHost *:${RLP_PORT}>
    ServerName chain.test
    RateLimitEngine On
    RateLimitIdentity ip
    RateLimitPlanMap chain "txt:${T}/conf/no-keys.txt" unknown=deny
    AliasMatch "^/(?:told|untold|logged|other|exempt)/(.*)" "${T}/htdocs/rewritten/$1"
    Header always set X-Action %{RATELIMIT_ACTION}e "expr=-n reqenv('RATELIMIT_ACTION')"
    Header always set X-Rule %{RATELIMIT_RULE}e "expr=-n reqenv('RATELIMIT_RULE')"
    <Directory "${T}/htdocs/rewritten">
        RewriteEngine On
        RewriteBase "/"
        RewriteRule "^(.+)$" "/$1"
    </Directory>
    <Location "/told">
        RateLimitRule told rate=5/min
    </Location>
    <Location "/untold">
        RateLimitHeaders Off
        RateLimitRule untold rate=4/min
    </Location>
    <Location "/logged">
        RateLimitHeaders Off
        RateLimitEnv always
        RateLimitRule logged rate=3/min
    </Location>
    <Location ~ "^/(c/)?other">
        RateLimitRule other rate=1/min method=PUT
    </Location>
    <Location "/exempt">
        RateLimitExempt ip 127.0.0.1
        RateLimitRule exempt rate=1/min
    </Location>
    AliasMatch "^/free-directory/(?:elsewhere/)?$" "${T}/htdocs/directory/"
    <Location "/free-directory">
        RateLimitExempt ip 127.0.0.1
        RateLimitRule free rate=1/min
        DirectoryIndex /c/counted
    </Location>
    <Location "/free-directory/elsewhere">
        DirectoryIndex /c/free
    </Location>
    <Location "/c/counted">
        RateLimitRule counted rate=9/min
    </Location>
    <Location "/c/last">
        RateLimitEnv always
        RateLimitRule last rate=9/min
    </Location>
    <Location "/c/quiet">
        RateLimitHeaders Off
        RateLimitEnv always
        RateLimitRule quiet rate=9/min
    </Location>
    <Location "/c/unknown">
        RateLimitIdentity chain=header:X-Chain ip
        RateLimitRule unknown rate=1/min
        ErrorDocument 403 "/cgi/hit/chain?Retry-After=99&RateLimit=96"
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName address.test
    RateLimitEngine On
    RateLimitIdentity ip
    AliasMatch "^/(?:picky|untold)/(.*)" "${T}/htdocs/rewritten/$1"
    <Directory "${T}/htdocs/rewritten">
        RewriteEngine On
        RewriteBase "/"
        RewriteRule "^(.+)$" "/$1"
    </Directory>
    <Location "/picky">
        RateLimitHeaders Off
        RateLimitRule picky rate=4/min method=GET
    </Location>
    <Location "/untold">
        RateLimitHeaders Off
        RateLimitRule untold rate=4/min
    </Location>
    <Location "/c/last">
        RateLimitRule last rate=9/min
    </Location>
</VirtualHost>
