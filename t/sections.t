#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Where rules stand, how sections merge, and which requests a rule speaks of.

use strict;
use warnings;

use RLP::Test;
use Test::More;

# "RULE/LIMIT ..." of all limits in force for a request, by RateLimit-Policy.
sub in_force {
    my ($path, %field) = @_;
    my $policies = get($path, %field)->header('RateLimit-Policy') // '';
    return join ' ', sort map { s/"//gr =~ s/;q=/\//r =~ s/;w=.*//r } split /, /, $policies;
}

# --- each kind of section

my @sections = (
    # where, path, fields, rules and their limits
    [ 'the server itself', '/section/server/ok.txt', { Host => 'elsewhere.test' }, 'server/900' ],
    [ 'a virtual host, beside the server', '/section/host/ok.txt', {}, 'host/800 server/900' ],
    [ 'Directory', '/section/directory/index.html', {}, 'directory/700 host/800 server/900' ],
    [ 'DirectoryMatch', '/section/match/index.html', {}, 'directorymatch/710 host/800 server/900' ],
    [ 'Files', '/section/files/files.txt', {}, 'files/600 host/800 server/900' ],
    [ 'FilesMatch', '/section/files/filesmatch.txt', {}, 'filesmatch/610 host/800 server/900' ],
    [ 'Location', '/section/location/ok.txt', {}, 'host/800 location/500 server/900' ],
    [ 'LocationMatch', '/section/locationmatch/ok.txt', {}, 'host/800 locationmatch/510 server/900' ],
    [ 'If, true', '/section/if/ok.txt', { 'X-If' => 'yes' }, 'host/800 if/400 server/900' ],
    [ 'If, false', '/section/if/ok.txt', { 'X-If' => 'no' }, 'else/410 host/800 server/900' ],
    [ 'Proxy', '/section/proxy/ok.txt', {}, 'host/800 proxy/300 server/900' ],
    [ 'Proxy, in the place of Directory and Files', '/section/proxy/files.txt', {}, 'host/800 proxy/300 server/900' ],
    [ 'Files, where SetHandler names the backend', '/section/handed/files.txt', {}, 'files/600 host/800 merged/50 server/900' ],
    [ 'Directory, where its rewrite does', '/section/directory/handed', {}, 'directory/700 host/800 server/900' ],
);
begin;
for my $case (@sections) {
    my ($where, $path, $field, $expected) = @{$case};
    is(in_force($path, %{$field}), $expected, "in $where");
}

# --- merging: Directory, Files, Location, If; the last one's rule counts

my @merged = (
    # what, path, fields, rules and their limits
    [ 'the same name replaces', '/merge/same/files.txt', {}, 'host/800 merged/50 server/900' ],
    [ 'Location comes after Files', '/merge/location/files.txt', {}, 'host/800 merged/40 server/900' ],
    [ 'If comes after Location', '/merge/location/files.txt', { 'X-If' => 'yes' }, 'host/800 merged/30 server/900' ],
    [ 'another name adds', '/merge/add/other.txt', {}, 'added/20 host/800 merged/60 server/900' ],
    [ 'Off removes', '/merge/off/other.txt', {}, 'host/800 server/900' ],
    [ 'Off removes what the server has', '/merge/server-off/other.txt', {}, 'host/800 merged/60' ],
    [ 'what was removed can come back', '/merge/off/back/other.txt', {}, 'host/800 merged/10 server/900' ],
);
begin;
for my $case (@merged) {
    my ($what, $path, $field, $expected) = @{$case};
    is(in_force($path, %{$field}), $expected, "merging: $what");
}
is(get('/engine/off/ok.txt')->header('RateLimit'), undef, 'RateLimitEngine Off in a section');
is(in_force('/engine/off/on/ok.txt'), 'host/800 server/900', 'RateLimitEngine On again in a deeper one');

# --- settings: those of the deeper section count, and else those around it

# Status, identity, action, and the fields of limits, of the first request and of the next; "+60" is an instant.
sub settings {
    my ($path) = @_;
    begin;
    my $minute = clock->epoch(60);
    return map { s/ \Q$minute\E$/ +60/r } map {
        my $response = get($path, Host => 'settings.test');
        join ' ', $response->status, map { $response->header($_) // '-' } qw(X-Identity X-Action RateLimit X-RateLimit-Reset);
    } 1 .. 2;
}

is_deeply([ settings('/outer/ok') ], [ '200 vhost:settings.test pass - -', '503 vhost:settings.test deny - +60' ], 'settings of a host');
is_deeply([ settings('/outer/inner/ok') ], [ '200 - - "settings";r=0;t=60 60', '429 ip:127.0.0.1 deny "settings";r=0;t=60 60' ], 'others in a section');
is_deeply([ settings('/outer/inner/same/ok') ], [ settings('/outer/inner/ok') ], 'which a deeper one has, too');
is_deeply([ settings('/outer/inner/back/ok') ], [ settings('/outer/ok') ], 'and back again');

begin;
is(answers(2, '/same/five'), 'A4 A3', 'the same name in two sections ...');
is(answers(2, '/same/ten'), 'A7 A6', '... is the same counter under another limit');
is(answers(1, '/same/five'), 'A0', '... in both directions');

begin;
is(answers(2, '/tenant', Host => 'one.test'), 'A1 A0', 'two hosts with a rule of the same name: one used up ...');
is(answers(2, '/tenant', Host => 'two.test'), 'A1 A0', '... leaves the other alone');
is(answers(1, '/whole', Host => 'one.test'), 'A1', 'a rule of the server counts for all hosts ...');
is(answers(2, '/whole', Host => 'two.test'), 'A0 D30', '... together');

begin;
is(answers(2, '/tenant', Host => 'twin.test'), 'A1 A0', 'two hosts with the same ServerName ...');
is(answers(1, '/tenant', Host => 'other-twin.test'), 'D30', '... count together');
is(answers(1, '/tenant', Host => 'one.test'), 'A1', '... and others apart from them');

begin;
is(answers(1, '/whole', Host => 'one.test'), 'A1', 'the server and a host have rules of one name: that of the server ...');
is(answers(3, '/whole', Host => 'twin.test'), 'A2 A1 A0', '... has another counter than that of the host ...');
is(answers(1, '/whole/deeper', Host => 'twin.test'), 'A3', '... whose deeper section has its counter under another limit');
is(answers(1, '/whole', Host => 'two.test'), 'A0', '... and other hosts go on with that of the server');

begin;
is(answers(1, '/renamed/a', Host => 'one.test'), 'A1', 'another name in a deeper section ...');
is(answers(2, '/renamed/b', Host => 'one.test'), 'A1 A0', '... is another counter');

# --- a dry run

begin;
for my $n (1 .. 4) {
    my $response = get('/dry');
    is($response->status, 200, "LogOnly: request $n passes");
    is(fields($response), '', "LogOnly: request $n is told nothing");
    is($response->header('X-Action'), $n < 3 ? 'pass' : 'would-deny', "LogOnly: what would become of request $n");
}
is(get('/dry')->header('X-Rule'), 'dry', 'LogOnly: the rule is named');
is(get('/dry')->header('X-Identity'), 'ip:127.0.0.1', 'LogOnly: and whom it counts');
is(answers(3, '/dry/on'), 'A1 A0 D30', 'LogOnly: what is enforced has counters of its own');
begin;
is(join(' ', map { get('/dry/two')->header('X-Action') } 1 .. 4), 'pass would-deny would-deny would-deny',
    'LogOnly: one of two rules is used up ...');
is(get('/dry/wide')->header('X-Left'), 5, 'LogOnly: ... and holds the other not back');

# --- of which requests a rule speaks

my @methods = (
    # path, methods counted, methods not counted
    [ '/c/method-get', [qw(GET HEAD)], [qw(POST OPTIONS)] ],
    [ '/c/method-post', [qw(POST PUT)], [qw(GET HEAD)] ],
    [ '/c/method-lower', [qw(GET)], [qw(POST)] ],
    [ '/c/method-not', [qw(GET POST)], [qw(OPTIONS)] ],
);
begin;
for my $case (@methods) {
    my ($path, $counted, $passed) = @{$case};
    my $left = 10;
    for my $method (@{$counted}) {
        $left--;
        is(request($method, $path)->header('X-RateLimit-Remaining'), $left, "R-11 $path counts $method");
    }
    is(fields(request($_, $path)), '', "R-11 $path does not count $_") for @{$passed};
}
is(get('/c/if', 'X-Client' => 'app')->header('X-RateLimit-Remaining'), 9, '"if=" is true: counted');
is(fields(get('/c/if', 'X-Client' => 'web')), '', '"if=" is false: not counted');
is(join(' ', map { get('/c/if', 'X-Client' => $_)->header('Vary') // 'none' } qw(app web)), 'none none', 'what "if=" reads is no matter for caches');
is(fields(get('/c/none')), '', 'R-05 where no rule applies, nothing is said');
is(statuses(3, '/c/none'), '200 200 200', 'R-05 nor refused');

done_testing;

__DATA__
# of the whole server; the condition spares the hosts of the other tests
RateLimitRule server rate=900/min "if=%{SERVER_NAME} in { 'sections.test', 'elsewhere.test' }"
<Location "/whole">
    RateLimitRule whole rate=2/min
    RateLimitRule server Off
</Location>

<VirtualHost *:${RLP_PORT}>
    ServerName elsewhere.test
    RateLimitEngine On
    AliasMatch "^/section/" "${T}/htdocs/ok.txt"
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName sections.test
    RateLimitEngine On
    RateLimitEnv always
    Header always set X-Action "%{RATELIMIT_ACTION}e" "expr=-n reqenv('RATELIMIT_ACTION')"
    Header always set X-Rule "%{RATELIMIT_RULE}e" "expr=-n reqenv('RATELIMIT_RULE')"
    Header always set X-Identity "%{RATELIMIT_IDENTITY}e" "expr=-n reqenv('RATELIMIT_IDENTITY')"
    Header always set X-Left "%{RATELIMIT_REMAINING}e" "expr=-n reqenv('RATELIMIT_REMAINING')"
    RateLimitRule host rate=800/min

    Alias "/section/directory" "${T}/htdocs/directory"
    Alias "/section/match" "${T}/htdocs/matched"
    Alias "/section/files" "${T}/htdocs/merge"
    ProxyPass "/section/proxy/" "http://127.0.0.1:${RLP_PORT}/"
    Alias "/section/handed" "${T}/htdocs/merge"
    <Location "/section/handed">
        SetHandler "proxy:http://127.0.0.1:${RLP_PORT}"
    </Location>
    <Directory "${T}/htdocs/directory">
        RewriteEngine On
        RewriteRule "^handed$" "http://127.0.0.1:${RLP_PORT}/ok.txt" [P]
        RateLimitRule directory rate=700/min
    </Directory>
    <DirectoryMatch "/matche[d]">
        RateLimitRule directorymatch rate=710/min
    </DirectoryMatch>
    <Files "files.txt">
        RateLimitRule files rate=600/min
        RateLimitRule merged rate=50/min
    </Files>
    <FilesMatch "^filesmatch[.]">
        RateLimitRule filesmatch rate=610/min
    </FilesMatch>
    <Location "/section/location">
        RateLimitRule location rate=500/min
    </Location>
    <LocationMatch "^/section/locationm.*$">
        RateLimitRule locationmatch rate=510/min
    </LocationMatch>
    <Location "/section/files">
        RateLimitRule merged Off
    </Location>
    <Location "/section/if">
        <If "req('X-If') == 'yes'">
            RateLimitRule if rate=400/min
        </If>
        <Else>
            RateLimitRule else rate=410/min
        </Else>
    </Location>
    <Proxy "http://127.0.0.1:${RLP_PORT}/*">
        RateLimitRule proxy rate=300/min
    </Proxy>

    AliasMatch "^/merge/.*/([a-z]+[.]txt)$" "${T}/htdocs/merge/$1"
    <Directory "${T}/htdocs/merge">
        RateLimitRule merged rate=60/min
    </Directory>
    <LocationMatch "^/merge/">
        RateLimitRule files Off
    </LocationMatch>
    <Location "/merge/location">
        RateLimitRule merged rate=40/min
        <If "req('X-If') == 'yes'">
            RateLimitRule merged rate=30/min
        </If>
    </Location>
    <Location "/merge/add">
        RateLimitRule added rate=20/min
    </Location>
    <Location "/merge/off">
        RateLimitRule merged Off
    </Location>
    <Location "/merge/off/back">
        RateLimitRule merged rate=10/min
    </Location>
    <Location "/merge/server-off">
        RateLimitRule server Off
    </Location>
    <Location "/engine/off">
        RateLimitEngine Off
    </Location>
    <Location "/engine/off/on">
        RateLimitEngine On
    </Location>

    AliasMatch "^/(c|engine|same|dry|section)(/|$)" "${T}/htdocs/ok.txt"
    <LocationMatch "^/(c|same|dry)(/|$)">
        RateLimitRule server Off
        RateLimitRule host Off
    </LocationMatch>
    <Location "/same/five">
        RateLimitRule same rate=5/min
    </Location>
    <Location "/same/ten">
        RateLimitRule same rate=10/min
    </Location>
    <Location "/dry">
        RateLimitEngine LogOnly
        RateLimitRule dry rate=2/min
    </Location>
    <Location "/dry/on">
        RateLimitEngine On
    </Location>
    <LocationMatch "^/dry/(two|wide)$">
        RateLimitRule dry Off
        RateLimitRule dry-wide rate=10/min
    </LocationMatch>
    <Location "/dry/two">
        RateLimitRule dry-tight rate=1/min
    </Location>
    <Location "/c/method-get">
        RateLimitRule method-get rate=10/min method=GET
    </Location>
    <Location "/c/method-post">
        RateLimitRule method-post rate=10/min method=POST,PUT
    </Location>
    <Location "/c/method-lower">
        RateLimitRule method-lower rate=10/min method=get
    </Location>
    <Location "/c/method-not">
        RateLimitRule method-not rate=10/min method=!OPTIONS
    </Location>
    <Location "/c/if">
        RateLimitRule if-app rate=10/min "if=req('X-Client') == 'app'"
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName one.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    <Location "/tenant">
        RateLimitRule server Off
        RateLimitRule tenant rate=2/min
    </Location>
    <Location "/renamed/a">
        RateLimitRule a rate=2/min
    </Location>
    <Location "/renamed/b">
        RateLimitRule b rate=2/min
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName two.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    <Location "/tenant">
        RateLimitRule server Off
        RateLimitRule tenant rate=2/min
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName twin.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    <Location "/tenant">
        RateLimitRule tenant rate=2/min
    </Location>
    <Location "/whole">
        RateLimitRule whole rate=3/min
    </Location>
    <Location "/whole/deeper">
        RateLimitRule whole rate=7/min
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName twin.test
    ServerAlias other-twin.test
    RateLimitEngine On
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    <Location "/tenant">
        RateLimitRule tenant rate=2/min
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName settings.test
    RateLimitEngine On
    RateLimitIdentity vhost
    RateLimitHeaders Legacy reset=epoch denied
    RateLimitDenyStatus 503
    RateLimitEnv always
    Header always set X-Action "%{RATELIMIT_ACTION}e" "expr=-n reqenv('RATELIMIT_ACTION')"
    Header always set X-Identity "%{RATELIMIT_IDENTITY}e" "expr=-n reqenv('RATELIMIT_IDENTITY')"
    AliasMatch "^/" "${T}/htdocs/ok.txt"
    <Location "/outer">
        RateLimitRule settings rate=1/min
    </Location>
    <Location "/outer/inner">
        RateLimitIdentity ip
        RateLimitHeaders Both reset=delta always
        RateLimitDenyStatus 429
        RateLimitEnv auto
    </Location>
    <Location "/outer/inner/same">
        RateLimitCost 1
    </Location>
    <Location "/outer/inner/back">
        RateLimitIdentity vhost
        RateLimitHeaders Legacy reset=epoch denied
        RateLimitDenyStatus 503
        RateLimitEnv always
    </Location>
</VirtualHost>
