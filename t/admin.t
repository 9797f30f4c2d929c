#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# ratelimit-admin: who may, what no page of a browser can bring about, each action and its effect on the next request
# of another process, and the line in the log for each change.

use strict;
use warnings;

use IO::Socket::INET;
use JSON::PP qw(decode_json encode_json);
use Test::More;

use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my @json = ('Content-Type: application/json');

# An address of this machine other than loopback; nothing is sent.
sub own_address {
    my $socket = IO::Socket::INET->new(Proto => 'udp', PeerAddr => '192.0.2.254', PeerPort => 9) or return;
    my $address = $socket->sockhost;
    return $address =~ /^(?:127[.]|0[.]0)/ ? undef : $address;
}

my $own = own_address();
my $other_port = RLP::Httpd::free_port();
my $server = RLP::Httpd->new(
    clock => 1,
    modules => [qw(authn_core authn_file auth_basic authz_user authz_host alias headers remoteip)],
    config => configuration()
);
$server->file('users', "amy:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00=\n"); # hello
$server->file('keys', "key-of-zoe pro\n");
$server->file('people', "bob pro\n");
mkdir $server->file('tenant'), 0755;
$server->file('tenant/.htaccess', "AuthType Basic\nAuthName t\nAuthUserFile \"" . $server->file('users') . "\"\n");
my $listen = $own ? "Listen $own:$other_port\n" : '';
$server->configure($listen . $server->{config});
$server->start;

my $amy = 'Authorization: Basic YW15OmhlbGxv';

# One POST; the response with {json}, what its body says.
sub post {
    my ($path, $ask, @fields) = @_;
    my $body = ref $ask ? encode_json($ask) : $ask;
    my $connection = $server->connection;
    $connection->send(join("\r\n", "POST $path HTTP/1.1", 'Host: localhost', 'Connection: close',
        'Content-Length: ' . length $body, @fields, '', $body));
    my $response = $connection->response('POST');
    $response->{json} = eval { decode_json($response->{body}) };
    return $response;
}

sub admin {
    my ($ask, @fields) = @_;
    return post('/admin', $ask, @json, @fields);
}

# What an action answers; the test fails with what was refused.
sub done {
    my ($ask) = @_;
    my $response = admin($ask);
    is($response->{status}, 200, encode_json($ask)) or diag($response->{body});
    return $response->{json};
}

# Lines of the log with that number, since the last look.
my %seen;
sub logged {
    my ($number) = @_;
    my @lines = grep { /\b$number:/ } split /\n/, $server->log_text;
    my @new = @lines[ ($seen{$number} || 0) .. $#lines ];
    $seen{$number} = @lines;
    return @new;
}

sub left {
    my ($path, @fields) = @_;
    my $response = $server->get($path, @fields);
    return $response->{status} == 200 ? $response->{fields}{'x-ratelimit-remaining'} : $response->{status};
}

sub configuration {
    return <<'END';
RateLimitStore x shm size=4M file=store
RateLimitPlan pro rate=100/10min
RateLimitEngine On
RateLimitIdentity user ip
RateLimitPlanMap user "txt:@DIR@/people" unknown=default
RateLimitPlanMap apikey "txt:@DIR@/keys"
Header always set X-Was "%{RATELIMIT_ACTION}e %{RATELIMIT_IDENTITY}e" env=RATELIMIT_IDENTITY
AliasMatch "^/(site|planned|kinds|aged|unlimited|dry|off|people|keys|joined|exempt|five|ten|weekly)$" "@DIR@/htdocs/index.html"
Alias "/tenant" "@DIR@/tenant"
<Directory "@DIR@/tenant">
    AllowOverride AuthConfig
</Directory>
<Location "/admin">
    SetHandler ratelimit-admin
    RateLimitRule admin rate=1/week
</Location>
<Location "/trusting">
    SetHandler ratelimit-admin
</Location>
RemoteIPHeader X-Forwarded-For
<Location "/secured">
    SetHandler ratelimit-admin
    AuthType Basic
    AuthName people
    AuthUserFile "@DIR@/users"
    Require valid-user
</Location>
<Location "/tenant/admin">
    SetHandler ratelimit-admin
    Require valid-user
</Location>
<Location "/site">
    RateLimitRule site rate=10/10min
    RateLimitRule posts rate=50/10min method=POST
    RateLimitRule conditional rate=50/10min "if=%{HTTP:X-Odd} == 'yes'"
    RateLimitRule elsewhere rate=50/10min path=/elsewhere/**
    RateLimitRule low rate=50/10min priority=1 method=POST
    RateLimitRule high rate=50/10min priority=2 method=POST
</Location>
<Location "/planned">
    RateLimitEnv always
    RateLimitRule planned rate=2/10min
</Location>
<Location "/kinds">
    RateLimitRule kinds rate=2/day rate=3/day algorithm=fixed-window rate=4/day algorithm=sliding-window \
        rate=5/day algorithm=sliding-log rate=6/day algorithm=stepped-bucket quota=7/day quota=8
</Location>
<Location "/aged">
    RateLimitRule aged rate=4/100s algorithm=sliding-window rate=4/1000s algorithm=sliding-log
</Location>
<Location "/dry">
    RateLimitEngine LogOnly
    RateLimitRule dry rate=1/day
</Location>
<Location "/off">
    RateLimitEngine Off
    RateLimitRule resting rate=1/week
</Location>
<Location "/people">
    RateLimitRule people rate=10/10min
</Location>
<Location "/keys">
    RateLimitRule keys rate=10/10min key=apikey=header:X-API-Key
</Location>
<Location "/joined">
    RateLimitRule joined rate=10/10min key=ip+apikey
    RateLimitRule known rate=10/10min key=vhost+user+ip
</Location>
<Location "/epoch">
    RateLimitHeaders Legacy reset=epoch
    RateLimitRule epoch quota=5/day
</Location>
<Location "/five">
    RateLimitRule shared rate=5/day
</Location>
<Location "/ten">
    RateLimitRule shared rate=10/day
</Location>
<Location "/weekly">
    RateLimitRule shared rate=7/week
</Location>
<Location "/exempt">
    RateLimitExempt ip 127.0.0.0/8
    RateLimitRule site rate=10/10min
</Location>
<VirtualHost *:1>
    ServerName other.test
    RateLimitEngine Off
</VirtualHost>
<VirtualHost *:@PORT@>
    ServerName localhost
    <Location "/hosted">
        RateLimitEngine LogOnly
    </Location>
</VirtualHost>
<VirtualHost *:@PORT@>
    ServerName other.test
</VirtualHost>
<VirtualHost *:@PORT@>
    ServerName wild.test
    ServerAlias *.test
    RateLimitEngine Off
</VirtualHost>
END
}

# --- who may, and how

for my $method (qw(GET HEAD PUT DELETE)) {
    my $response = $server->request($method, '/admin', @json);
    is("$response->{status} " . ($response->{fields}{allow} // ''), '405 POST', "$method is refused");
}
is($server->get('/admin?action=reset&identity=ip:127.0.0.1', @json)->{status}, 405, 'arguments of a GET change nothing');
is_deeply([ logged('RLP072') ], [], 'and leave no line of a change');

for my $case (
    [ 'a form',                     [ 'Content-Type: application/x-www-form-urlencoded' ], 415 ],
    [ 'text of a form',             [ 'Content-Type: text/plain' ],                        415 ],
    [ 'no type',                    [],                                                    415 ],
    [ 'a type that begins alike',   [ 'Content-Type: application/jsonp' ],                 415 ],
    [ 'JSON',                       [ 'Content-Type: application/json; charset=utf-8' ],   200 ],
    [ 'the field of ours',          [ 'X-RateLimit-Admin: 1' ],                            200 ],
    [ 'a foreign page',             [ @json, 'Origin: http://evil.example' ],              403 ],
    [ 'a page of a file',           [ @json, 'Origin: null' ],                             403 ],
    [ 'a name that was rebound',    [ @json, 'Origin: http://localhost' ],                 403 ],
    [ 'another site',               [ @json, 'Sec-Fetch-Site: cross-site' ],               403 ],
    [ 'what no site has begun',     [ @json, 'Sec-Fetch-Site: none' ],                     200 ],
    [ 'a proxy that speaks for somebody', [ @json, 'X-Forwarded-For: 192.0.2.7' ],         403 ],
    [ 'one that says loopback',     [ @json, 'X-Forwarded-For: 127.0.0.1' ],               403 ],
    [ 'RFC 7239',                   [ @json, 'Forwarded: for=192.0.2.7' ],                 403 ],
    [ 'a gateway',                  [ @json, 'Via: 1.1 gateway' ],                         403 ],
    )
{
    my ($name, $fields, $wanted) = @{$case};
    my $response = post('/admin', { action => 'plans' }, @{$fields});
    is($response->{status}, $wanted, "$name: $wanted") or diag($response->{body});
    like($response->{fields}{'content-type'}, $wanted == 200 ? qr{^application/json$} : qr{^application/problem\+json$}, "$name: its type");
    is(scalar(logged('RLP071')), $wanted == 403 ? 1 : 0, "$name: the log");
}
is(post('/secured', { action => 'plans' }, @json)->{status}, 401, 'where a user is demanded, httpd demands one');
is(post('/secured', { action => 'plans' }, @json, $amy)->{status}, 200, 'a user may');
is(post('/secured', { action => 'plans' }, @json, $amy, 'Origin: http://localhost')->{status}, 200, 'from a page of this site, too');
is(post('/secured', { action => 'plans' }, @json, $amy, 'Origin: http://evil.example')->{status}, 403, 'not from a foreign one');
is(post('/secured', { action => 'plans' }, @json, $amy, 'X-Forwarded-For: 192.0.2.7')->{status}, 200, 'and from afar');
is(post('/tenant/admin', { action => 'plans' }, @json, $amy)->{status}, 403, 'nobody where a .htaccess has a say');
logged('RLP071');

SKIP: {
    skip 'this machine has no address but loopback', 6 if !$own;
    my $from = sub {
        my ($path, @fields) = @_;
        my $body = encode_json({ action => 'reset', identity => 'ip:127.0.0.1' });
        my $socket = IO::Socket::INET->new(PeerAddr => $own, PeerPort => $other_port, LocalAddr => $own) or die "$own: $@\n";
        print {$socket} join "\r\n", "POST $path HTTP/1.1", 'Host: localhost', 'Connection: close',
            'Content-Length: ' . length $body, @json, @fields, '', $body;
        my ($status) = readline($socket) =~ /^\S+ (\d+)/;
        return $status;
    };
    is($from->('/admin'), 403, 'another peer may not');
    is(scalar(logged('RLP071')), 1, 'and the log says so');
    is($from->('/trusting', 'X-Forwarded-For: 127.0.0.1'), 403, 'whatever mod_remoteip makes of it');
    is(scalar(logged('RLP071')), 1, 'and the log says so, too');
    is($from->('/secured', $amy), 200, 'with a user it may');
    is($from->('/secured'), 401, 'without one, not');
}
logged('RLP072');

# --- bodies

my @bodies = (
    [ '',                                                     400, qr/expected a value at byte 0/ ],
    [ '[]',                                                   400, qr/expected an object of JSON/ ],
    [ '{"action":"plans"} x',                                 400, qr/expected nothing more at byte 19/ ],
    [ '{"action":"plans","action":"reset"}',                  400, qr/expected each name once/ ],
    [ '{"action":"plans\u0000"}',                             400, qr/expected an escape of JSON other than/ ],
    [ "{\"action\":\"pl\nans\"}",                             400, qr/in the place of a control character/ ],
    [ '[' x 10_000,                                           400, qr/expected nothing so deep at byte 8/ ],
    [ '{"action":1}',                                         400, qr/expected a string as "action"/ ],
    [ '{}',                                                   400, qr/expected "action": get, reset, grant, .* or explain$/ ],
    [ '{"action":"rest"}',                                    400, qr/got "rest" \(reset\?\)/ ],
    [ '{"action":"<b>\ud83d\ude00"}',                         400, qr/got "<b>/ ],
    [ "{\"action\":\"\xff\xfe\"}",                            400, qr/got "\x{fffd}\x{fffd}"/ ],
    [ '{"action":"get","identity":"ip:127.0.0.1","rull":"site"}', 400, qr/expected no member "rull" with the action get \(rule\?\)/ ],
    [ '{"action":"get"}',                                     400, qr/expected "identity": TYPE:VALUE with a type that is counted \(user:, ip:/ ],
    [ '{"action":"get","identity":"planet:mars"}',            400, qr/with a type that is counted/ ],
    [ '{"action":"get","identity":"ip:mars"}',                400, qr/expected an address behind "ip:"/ ],
    [ '{"action":"reset","identity":"user:bob%00x"}',         400, qr/expected an identity without %00/ ],
    [ '{"action":"ban","identity":"ip:192.0.2.1%00x","for":"1h"}', 400, qr/expected an identity without %00/ ],
    [ '{"action":"get","identity":"apikey:plainly"}',         400, qr/expected the digest of a value behind "apikey:"/ ],
    [ '{"action":"get","identity":"ip+apikey:127.0.0.1+' . '0' x 32 . '+more"}', 400, qr/expected an identity of several parts as it stands/ ],
    [ '{"action":"get","identity":"user","secret":"x"}',      400, qr/a type whose values clients choose/ ],
    [ '{"action":"get","identity":"ip:127.0.0.1","rule":"sit"}', 400, qr/expected a rule .* got "sit" \(site\?\)/ ],
    [ '{"action":"get","identity":"ip:127.0.0.1","plan":"por"}', 400, qr/expected a plan .* got "por" \(pro\?\)/ ],
    [ '{"action":"grant","identity":"ip:127.0.0.1"}',         400, qr/expected "units": a number above 0/ ],
    [ '{"action":"grant","identity":"ip:127.0.0.1","units":-5}', 400, qr/expected "units"/ ],
    [ '{"action":"grant","identity":"ip:127.0.0.1","units":0.000}', 400, qr/expected "units": a number above 0/ ],
    [ '{"action":"grant","identity":"ip:127.0.0.1","units":1e99}', 400, qr/expected "units"/ ],
    [ '{"action":"grant","identity":"ip:127.0.0.1","units":"5"}', 400, qr/expected "units"/ ],
    [ '{"action":"ban","identity":"ip:127.0.0.1"}',           400, qr/expected either "for".* or "until"/ ],
    [ '{"action":"ban","identity":"ip:127.0.0.1","for":"1h","until":"2030-01-01T00:00:00Z"}', 400, qr/expected either/ ],
    [ '{"action":"ban","identity":"ip:127.0.0.1","until":"2001-01-01T00:00:00Z"}', 400, qr/a moment to come/ ],
    [ '{"action":"ban","identity":"ip:127.0.0.1","for":"3700day"}', 400, qr/ten years away at most/ ],
    [ '{"action":"ban","identity":"ip:127.0.0.1","until":"2126-01-01T00:00:00Z"}', 400, qr/ten years away at most/ ],
    [ '{"action":"ban","identity":"ip:127.0.0.1","until":"tomorrow"}', 400, qr/a moment to come/ ],
    [ '{"action":"ban","identity":"ip:127.0.0.1","until":"2030-02-30T00:00:00Z"}', 400, qr/a moment to come/ ],
    [ '{"action":"ban","identity":"ip:127.0.0.1","until":"2030- 1-01T24:00:00Z"}', 400, qr/a moment to come/ ],
    [ '{"action":"ban","identity":"ip:127.0.0.1","for":"a while"}', 400, qr/expected either/ ],
    [ '{"action":"set-plan","identity":"ip:127.0.0.1","for":"1h"}', 400, qr/expected "plan": the name of a plan, or null/ ],
    ( map { [ qq({"action":"set-plan","identity":"ip:127.0.0.1","plan":null,$_}), 400, qr/expected no "for" and no "until" with "plan": null/ ] }
            '"for":"1h"', '"until":"2030-01-01T00:00:00Z"' ),
    [ '{"action":"set-plan","identity":"ip:127.0.0.1","plan":"pro"}', 400, qr/expected either "for"/ ],
    [ '{"action":"explain"}',                                 400, qr/expected "url"/ ],
    [ '{"action":"explain","url":"api"}',                     400, qr/expected "url"/ ],
    [ '{"action":"explain","url":"/","ip":"localhost"}',      400, qr/expected "ip": an address/ ],
    [ '{"action":"explain","url":"/","method":"GET /x"}',     400, qr/expected "method"/ ],
    [ '{"action":"explain","url":"/","method":"TRACE"}',      400, qr/expected "method": .* not TRACE/ ],
    [ '{"action":"explain","url":"/","headers":["a"]}',       400, qr/expected an object of strings as "headers"/ ],
    [ '{"action":"' . ('x' x 70_000) . '"}',                  413, qr/65536 bytes at most/ ],
);
for my $case (@bodies) {
    my ($body, $status, $detail) = @{$case};
    my $response = admin($body);
    my $name = (length $body > 60 ? substr($body, 0, 57) . '...' : $body) =~ s/[^ -~]/?/gr;
    ok($response->{status} == $status && ($response->{json}{detail} // '') =~ $detail && $response->{json}{status} == $status,
        "refused: $name") or diag("$response->{status} $response->{body}");
}
my $connection = $server->connection;
$connection->send(join "\r\n", 'POST /admin HTTP/1.1', 'Host: localhost', 'Transfer-Encoding: chunked', @json, '',
    map { sprintf "%x\r\n%s\r\nno length\r\n", length, $_ } '{"action":"reset","identity":"ip:127.0.0.1"}');
is($connection->response('POST')->{status}, 400, 'refused: a body that breaks off behind what would be a change');
is_deeply([ logged('RLP072') ], [], 'what is refused changes nothing');
is(left('/site'), 9, 'and the server is there');

# --- never charged

admin({ action => 'plans' }) for 1 .. 20;
is($server->get('/admin')->{fields}{'ratelimit'}, undef, 'no field speaks of limits there');
is(left('/site'), 8, 'none of it was charged');

# --- get, grant, reset

my $got = done({ action => 'get', identity => 'ip:127.0.0.1' });
is_deeply(
    [ @{$got}{qw(action identity banned_until set_plan set_plan_until)} ],
    [ 'get', 'ip:127.0.0.1', undef, undef, undef ], 'get: whom'
);
my ($site) = grep { $_->{rule} eq 'site' } @{ $got->{limits} };
is_deeply($site, { rule => 'site', plan => 'default', limit => 'site', quota => 10, window => 600, used => 2, remaining => 8, reset => 120 },
    'get: what is left');
is_deeply([ logged('RLP072') ], [], 'get changes nothing, and leaves no line');

is($server->statuses(9, '/site'), '200 200 200 200 200 200 200 200 429', 'all is used');
done({ action => 'grant', identity => 'ip:127.0.0.1', units => 3, rule => 'site' });
my @lines = logged('RLP072');
like("@lines", qr/RLP072: ratelimit-admin: a local process: grant 3 to ip:127.0.0.1 of rule site/, 'grant leaves a line');
is(scalar(@lines), 1, 'one line');
is($server->statuses(4, '/site'), '200 200 200 429', 'three were given, to whichever process');
done({ action => 'grant', identity => 'ip:127.0.0.1', units => 1000 });
is(left('/site'), 9, 'never above full');
done({ action => 'grant', identity => 'ip:127.0.0.1', units => 0.5, rule => 'site' });
is(done({ action => 'get', identity => 'ip:127.0.0.1', rule => 'site' })->{limits}[0]{remaining}, 9, 'halves count');
$server->get('/site') for 1 .. 20;
is(left('/site'), 429, 'used again');
done({ action => 'reset', identity => 'ip:127.0.0.1' });
like((logged('RLP072'))[-1], qr/a local process: reset ip:127.0.0.1$/, 'reset leaves a line');
is(left('/site'), 9, 'reset: as new');
$server->get('/kinds') for 1 .. 3;
is(left('/kinds'), 429, 'each kind of limit is used up');
my $kinds = done({ action => 'reset', identity => 'ip:127.0.0.1', rule => 'kinds' })->{limits};
is_deeply([ map { $_->{remaining} } @{$kinds} ], [ map { $_->{quota} } @{$kinds} ], 'and as new: ' . join ' ', map { $_->{limit} } @{$kinds});
is(scalar @{$kinds}, 7, 'seven kinds');
is(left('/kinds') . left('/kinds') . left('/kinds'), '10429', 'for requests, too');

# --- ban

is(left('/site', 'X-User: x'), 8, 'before the ban');
my $banned = done({ action => 'ban', identity => 'ip:127.0.0.1', for => '2min' });
is($banned->{changed}, JSON::PP::true, 'ban: changed');
like($banned->{banned_until}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'ban: until');
like((logged('RLP072'))[-1], qr/: ban ip:127.0.0.1 until \Q$banned->{banned_until}\E$/, 'ban leaves a line');
is($server->statuses(8, '/site'), join(' ', (429) x 8), 'the next request of any process is refused');
my $refused = $server->get('/site');
is($refused->{fields}{'retry-after'}, 120, 'until the end of the ban');
is(join(' ', grep { /ratelimit/ && !/was/ } sort keys %{ $refused->{fields} }), '', 'with no word of a limit');
is($refused->{fields}{'x-was'}, 'deny ip:127.0.0.1', 'the variables say whom');
like(join("\n", logged('RLP070')), qr/RLP070: a ban refuses ip:127.0.0.1/, 'and the log');
is($server->get('/unlimited')->{status}, 200, 'where no rule counts, no ban refuses');
is($server->get('/dry')->{status}, 200, 'nor where rules are dry');
is(left('/site', 'Authorization: Basic Ym9iOmhlbGxv'), 429, 'one address, one ban');
my $list = done({ action => 'overrides' });
is_deeply($list->{overrides}, [ { identity => 'ip:127.0.0.1', banned_until => $banned->{banned_until}, set_plan => undef, set_plan_until => undef } ],
    'overrides lists it');
ok($server->graceful, 'graceful restart');
is(left('/site'), 429, 'a ban outlives a graceful restart');
$server->stop;
$server->start;
is(left('/site'), 429, 'and a stop and start');
is(done({ action => 'unban', identity => 'ip:127.0.0.1' })->{changed}, JSON::PP::true, 'unban');
is(left('/site'), 7, 'at once; and nothing was charged meanwhile');
is(done({ action => 'unban', identity => 'ip:127.0.0.1' })->{changed}, JSON::PP::false, 'unban again changes nothing');
is(scalar(logged('RLP072')), 1, 'and leaves no second line');
done({ action => 'ban', identity => 'ip:127.0.0.1', for => '30s' });
$server->set_clock(29);
is(left('/site'), 429, 'until its last second');
$server->set_clock(31);
isnt(left('/site'), 429, 'a ban ends by itself');
is_deeply(done({ action => 'overrides' })->{overrides}, [], 'and is gone');
is(done({ action => 'ban', identity => 'ip:::ffff:127.0.0.1', for => '30s' })->{identity}, 'ip:127.0.0.1', 'IPv4 inside IPv6 is IPv4');
is(left('/site'), 429, 'and is banned');
done({ action => 'unban', identity => 'ip:::FFFF:7f00:1' });
isnt(left('/site'), 429, 'in whatever form it is written');

# --- set-plan

is(left('/planned'), 1, 'by its own limits');
my $set = done({ action => 'set-plan', identity => 'ip:127.0.0.1', plan => 'pro', for => '1h' });
is($set->{set_plan}, 'pro', 'set-plan');
like((logged('RLP072'))[-1], qr/: set-plan of ip:127.0.0.1 to pro until \S+Z$/, 'set-plan leaves a line');
is(left('/planned'), 98, 'the next request has the plan, and what was used stays used');
is($server->get('/planned')->{fields}{ratelimit}, '"pro";r=97;t=582', 'as a plan');
cmp_ok(left('/site'), '>', 90, 'wherever plans count');
is(done({ action => 'get', identity => 'ip:127.0.0.1', rule => 'planned' })->{limits}[0]{plan}, 'pro', 'get knows');
done({ action => 'ban', identity => 'ip:127.0.0.1', for => '1h' });
is(left('/planned'), 429, 'a ban beside it');
done({ action => 'unban', identity => 'ip:127.0.0.1' });
is(left('/planned'), 96, 'and without it the plan is still there');
done({ action => 'set-plan', identity => 'ip:127.0.0.1', plan => undef });
is(left('/planned'), 429, 'ended: all of its own limits is used');
done({ action => 'reset', identity => 'ip:127.0.0.1' });

# --- users and keys

is(done({ action => 'get', identity => 'user:bob', rule => 'people' })->{limits}[0]{plan}, 'pro', 'a plan map is asked');
done({ action => 'ban', identity => 'user:Zo\x{eb}' =~ s/\\x\{eb\}/%C3%AB/r, for => '1min' });
like((logged('RLP072'))[-1], qr/: ban user:[0-9a-f]{32} until/, 'users are digests in the log');
done({ action => 'unban', identity => 'user:Zo%C3%AB' });
my $key = done({ action => 'get', identity => 'apikey', secret => 'key-of-zoe', rule => 'keys' });
like($key->{identity}, qr/^apikey:[0-9a-f]{32}$/, 'keys are digests in answers');
is($key->{limits}[0]{plan}, 'pro', 'a key is known to its map');
is($server->get('/keys', 'X-API-Key: key-of-zoe')->{fields}{'x-ratelimit-remaining'}, 99, 'the key in use');
is(done({ action => 'get', identity => $key->{identity}, rule => 'keys', plan => 'pro' })->{limits}[0]{remaining}, 99, 'by its digest, too');
done({ action => 'ban', identity => $key->{identity}, for => '1min' });
is($server->get('/keys', 'X-API-Key: key-of-zoe')->{status}, 429, 'banned by its digest');
done({ action => 'unban', identity => $key->{identity} });
unlike($server->log_text, qr/key-of-zoe/, 'no key is in the log');

# --- the plan of whom nobody but a map knows

is(left('/joined', 'X-API-Key: key-of-zoe'), 99, 'two parts, of which one has a plan');
my ($joined) = map { $_->{identity} } grep { $_->{rule} eq 'joined' }
    @{ done({ action => 'explain', url => '/joined', ip => '127.0.0.1', headers => { 'X-API-Key' => 'key-of-zoe' } })->{rules} };
for my $ask ({ action => 'get', identity => $key->{identity}, rule => 'keys' }, { action => 'get', identity => $joined, rule => 'joined' },
    { action => 'grant', identity => $key->{identity}, units => 1 }) {
    my $response = admin($ask);
    is("$response->{status} $response->{json}{detail}" =~ s/(?<="plan", too).*//r, '400 expected "plan", too',
        "$ask->{action} $ask->{identity}: its plan is not made up");
}
is(done({ action => 'get', identity => $joined, rule => 'joined', plan => 'pro' })->{limits}[0]{remaining}, 99, 'with its plan it is told');
is(done({ action => 'grant', identity => $joined, rule => 'joined', plan => 'pro', units => 1 })->{limits}[0]{remaining}, 100, 'and given back');
is_deeply([ map { "$_->{rule} $_->{plan}" } @{ done({ action => 'get', identity => 'vhost+user+ip:localhost+bob+192.0.2.1', rule => 'known' })->{limits} } ],
    ['known pro'], 'of several parts, the map of one is asked');
is(done({ action => 'get', identity => 'vhost+user+ip:localhost+amy+192.0.2.1', rule => 'known' })->{limits}[0]{plan}, 'default', 'and does not know everybody');
is(admin({ action => 'ban', identity => 'vhost+user+ip:localhost+bob', for => '1min' })->{status}, 400, 'a part is missing: nobody is banned');
is(done({ action => 'reset', identity => $key->{identity}, rule => 'keys' })->{limits}[0], undef, 'reset: under every plan, by a digest, too');

# --- plans and explain

my $plans = done({ action => 'plans' });
is_deeply([ map { "$_->{plan}: $_->{limits}" } @{ $plans->{plans} } ], ['pro: 100 at once, then 1 every 6 seconds'], 'plans');
is((grep { $_->{rule} eq 'kinds' } @{ $plans->{rules} })[0]{section}, '<Location "/kinds">', 'rules');

my $explained = done({ action => 'explain', url => 'http://localhost/site?x=1', ip => '192.0.2.77' });
is_deeply([ @{$explained}{qw(host path method engine verdict status)} ], [ 'localhost', '/site', 'GET', 'on', 'pass', undef ], 'explain: what');
is($explained->{headers}{RateLimit}, '"site";r=10;t=600', 'explain: what would be sent');
my %rule = map { $_->{rule} => $_ } @{ $explained->{rules} };
is_deeply([ @{ $rule{site} }{qw(applies because refuses identity plan)} ],
    [ JSON::PP::true, undef, JSON::PP::true, 'ip:192.0.2.77', 'default' ], 'explain: a rule that applies');
is($rule{site}{limits}[0]{remaining}, 10, 'explain: with its limits');
is_deeply([ map { $rule{$_}{because} } qw(posts conditional elsewhere) ], [qw(method if path)], 'explain: why others do not');
$explained = done({ action => 'explain', url => '/site', method => 'POST', headers => { 'X-Odd' => 'yes' } });
%rule = map { $_->{rule} => $_ } @{ $explained->{rules} };
ok($rule{posts}{applies} && $rule{conditional}{applies}, 'explain: by method and header fields');
is_deeply([ map { $rule{$_}{because} } qw(high low) ], [ undef, 'another of higher priority' ], 'explain: of alternatives one');
$explained = done({ action => 'explain', url => '/people', user => 'bob', ip => '2001:db8::1' });
%rule = map { $_->{rule} => $_ } @{ $explained->{rules} };
is("$rule{people}{identity} $rule{people}{plan}", 'user:bob pro', 'explain: a user and his plan');
$explained = done({ action => 'explain', url => '/keys', headers => { 'X-API-Key' => 'key-of-zoe' } });
%rule = map { $_->{rule} => $_ } @{ $explained->{rules} };
is($rule{keys}{identity}, $key->{identity}, 'explain: a key, as its digest');
$explained = done({ action => 'explain', url => '/epoch' });
is($explained->{headers}{'X-RateLimit-Reset'} % 86400, 0, 'explain: an instant');
is(int($explained->{headers}{'X-RateLimit-Reset'} / 86400), int($server->get('/epoch')->{fields}{'x-ratelimit-reset'} / 86400), 'explain: the one that a request is told');
$explained = done({ action => 'explain', url => '/off' });
is($explained->{engine}, 'off', 'explain: engine off');
is($explained->{rules}[0]{because}, 'engine', 'explain: which is why no rule applies');
$explained = done({ action => 'explain', url => '/admin' });
is_deeply([ $explained->{verdict}, map { $_->{because} } @{ $explained->{rules} }[0] ], [ undef, 'handler' ], 'explain: a page of ours is never charged');
is(done({ action => 'explain', url => '/dry' })->{engine}, 'log-only', 'explain: a dry run');
is(done({ action => 'explain', url => 'http://other.test/site' })->{host}, 'other.test', 'explain: another host');
for my $case (
    [ 'http://other.test:@PORT@/site', 'on',       'of several hosts of a name the first on that port' ],
    [ 'http://any.test:@PORT@/site',   'off',      'one by its alias' ],
    [ 'http://other.test:1/site',      'off',      'and the one on another port' ],
    [ 'http://other.test:2/site',      'off',      'the first, where none is on that port' ],
    [ 'http://localhost:@PORT@/hosted', 'log-only', 'a virtual host, not the server of that name' ],
    [ 'http://localhost/hosted',       'log-only', 'who is asked, if he has the name' ],
    [ '/hosted',                       'log-only', 'who is asked, where no host is said' ],
    )
{
    my ($url, $engine, $name) = @{$case};
    is(done({ action => 'explain', url => $url =~ s/\@PORT\@/$server->port/er })->{engine}, $engine, "explain: $name");
}
for my $url (qw(//site ///site /./site /a/../site http://localhost//site)) {
    my $answer = done({ action => 'explain', url => $url });
    is("$answer->{host} $answer->{path}", 'localhost /site', "R-23 explain: $url is the path that a request for it has");
}
is(done({ action => 'explain', url => "/exempt" })->{verdict}, 'exempt', 'explain: who is exempt');
$server->get('/site') for 1 .. 11;
$explained = done({ action => 'explain', url => '/site', ip => '127.0.0.1' });
is("$explained->{verdict} $explained->{status}", 'deny 429', 'explain: a refusal');
is($explained->{headers}{'Retry-After'}, $server->get('/site')->{fields}{'retry-after'}, 'explain: with its Retry-After, as the server has it');
is($explained->{headers}{'X-RateLimit-Remaining'}, 0, 'explain: and its fields');
done({ action => 'ban', identity => 'ip:192.0.2.77', for => '100s' });
is(done({ action => 'explain', url => '/site', ip => '192.0.2.77' })->{headers}{'Retry-After'}, 100, 'explain: a ban');
done({ action => 'unban', identity => 'ip:192.0.2.77' });
is_deeply([ grep { /RLP072: [^:]+: [^:]+: (?:get|plans|explain)/ } split /\n/, $server->log_text ], [], 'reading leaves no line');

# --- what was used some time ago

$server->set_clock(1050);
$server->get('/aged') for 1 .. 2;
$server->set_clock(1090);
$server->get('/aged') for 1 .. 2;
is(left('/aged'), 429, 'used one after the other');
$server->set_clock(1110); # in one window or the next
my %aged = (identity => 'ip:127.0.0.1', rule => 'aged');
is(done({ action => 'grant', units => 3, %aged })->{limits}[1]{remaining}, 3, 'grant: of a log, whenever it was used');
is(join(' ', map { $_->{remaining} } @{ done({ action => 'reset', %aged })->{limits} }), '4 4', 'reset: whenever it was used');
is($server->statuses(5, '/aged'), '200 200 200 200 429', 'for requests, too');

# --- one name in several sections: a counter under two limits, and another one

my %shared = (identity => 'ip:127.0.0.1', rule => 'shared');
my $there = sub { my ($ask) = @_; return join ' ', map { "$_->{remaining}/$_->{quota}" } @{ done({ %{$ask}, %shared })->{limits} } };
is(join(' ', map { $server->statuses(@{$_}) } [ 3, '/five' ], [ 5, '/ten' ], [ 1, '/five' ], [ 8, '/weekly' ]),
    '200 200 200 200 200 200 200 200 429 200 200 200 200 200 200 200 429', 'one rule in three sections');
is($there->({ action => 'get' }), '0/5 2/10 0/7', 'get: each of its limits');
is($there->({ action => 'grant', units => 1 }), '1/5 3/10 1/7', 'grant: to each counter once');
my %dry = (identity => 'ip:127.0.0.1', rule => 'dry');
done({ action => 'reset', %dry });
is($server->statuses(2, '/dry'), '200 200', 'where the engine is LogOnly');
is(done({ action => 'get', %dry })->{limits}[0]{remaining}, 0, 'get: the dry run');
is(done({ action => 'grant', units => 1, %dry })->{limits}[0]{remaining}, 1, 'grant: to it');
is(join(' ', map { $server->statuses(@{$_}) } [ 2, '/five' ], [ 3, '/ten' ], [ 2, '/weekly' ]), '200 429 200 200 429 200 429', 'as requests see it');
is($there->({ action => 'reset' }), '5/5 10/10 7/7', 'reset: of every section');
is(join(' ', map { left($_) } qw(/weekly /ten /five)), '6 9 3', 'for requests, too');

ok($server->stop, 'it stops');

done_testing();
