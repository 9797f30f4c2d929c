#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# ratelimit-admin where counters are in Redis: what is given back counts on every host, and so do bans (t/orders.t has more).

use strict;
use warnings;

use JSON::PP qw(decode_json encode_json);
use Test::More;

use RLP::Httpd;
use RLP::Redis;

plan skip_all => RLP::Redis::missing() if RLP::Redis::missing();

my $redis = RLP::Redis->new->start;

sub host {
    my ($options) = @_;
    my $url = 'redis://127.0.0.1:' . $redis->port;
    return RLP::Httpd->new(config => <<"END")->start;
RateLimitStore far redis url=$url timeout=5s connect=5s $options
RateLimitPlan pro rate=100/week
RateLimitEngine On
RateLimitRule site rate=3600/hour quota=36000 cost=720
<Location "/admin">
    SetHandler ratelimit-admin
</Location>
<LocationMatch "^/(?:two|four|some)">
    RateLimitRule site Off
</LocationMatch>
<Location "/two">
    RateLimitRule shared rate=2/day
</Location>
<Location "/four">
    RateLimitRule shared rate=4/day
</Location>
<Location "/some">
    RateLimitRule there rate=4/day
    RateLimitRule here  rate=4/day failure=local
</Location>
END
}

sub asked {
    my ($host, $ask) = @_;
    my $body = encode_json($ask->{action} eq 'explain' ? $ask : { identity => 'ip:127.0.0.1', %{$ask} });
    my $connection = $host->connection;
    $connection->send(join "\r\n", 'POST /admin HTTP/1.1', 'Host: localhost', 'Connection: close',
        'Content-Type: application/json', 'Content-Length: ' . length $body, '', $body);
    return $connection->response('POST');
}

sub admin {
    my ($host, $ask) = @_;
    my $response = asked($host, $ask);
    is($response->{status}, 200, $ask->{action}) or diag($response->{body});
    return decode_json($response->{body});
}

my @away = ([ action => 'grant', units => 720 ], [ action => 'reset' ]);

for my $options ('failure=local', 'failure=open') {
    my ($one, $two) = map { host("$options prefix=" . ($options =~ tr/a-z//cdr)) } 1 .. 2;
    is($one->statuses(6, '/index.html'), '200 200 200 200 200 429', "$options: all is used");
    is($two->statuses(2, '/index.html'), '429 429', 'on the other host, too');
    cmp_ok(admin($one, { action => 'get' })->{limits}[0]{remaining}, '<', 720, 'get');
    admin($one, { action => 'grant', units => 1440 });
    is($one->statuses(1, '/index.html'), '200', 'one of two is used here');
    ok(RLP::Httpd::wait_for(sub { $two->get('/index.html')->{status} == 200 }), 'one there');
    is($one->statuses(1, '/index.html'), '429', 'and that was all');
    admin($two, { action => 'reset' });
    is($two->get('/index.html')->{fields}{'x-ratelimit-remaining'}, 2880, 'reset: as new');
    is(admin($two, { action => 'get' })->{limits}[1]{remaining}, 35280, 'each limit of it');
    admin($one, { action => 'ban', for => '1h' });
    is($one->statuses(4, '/index.html'), '429 429 429 429', 'a ban is in force in all processes of its host at once');
    ok(RLP::Httpd::wait_for(sub { admin($two, { action => 'get' })->{banned_until} }), 'and soon on the other');
    is($two->statuses(1, '/index.html'), '429', 'for requests, too');
    ok($one->graceful, 'graceful restart');
    is($one->statuses(1, '/index.html'), '429', 'which the ban outlives');
    admin($one, { action => 'unban' });
    is($one->statuses(1, '/index.html'), '200', 'until it is ended');
    my @shared = (rule => 'shared', identity => 'ip:127.0.0.1');
    is(join(' ', map { $one->statuses(@{$_}) } [ 4, '/four' ], [ 1, '/two' ], [ 1, '/four' ]), '404 404 404 404 429 429', 'a counter of two sections is used up');
    admin($one, { action => 'grant', units => 1, @shared });
    is(join(' ', map { $one->get($_)->{status} } qw(/four /four /two)), '404 429 429', 'what is given back counts at once here, in both');
    admin($one, { action => 'reset', @shared });
    is(join(' ', map { $one->get($_)->{status} } qw(/four /two)), '404 404', 'in both');
    $redis->kill9;
    is(asked($one, {@{$_}})->{status}, 503, "Redis is away: no $_->[1]") for @away;
    $redis->start;
    like($one->log_text, qr/RLP072: [^\n]*: $_->[1] [^\n]*, without an answer of the store$/m, 'which the log says') for @away;
    ok($_->stop, 'stop') for $one, $two;
}

# What explain says is what a request meets.
my %while = map { $_ => host("failure=$_ prefix=$_:") } qw(closed open);
$redis->stop;
for my $failure (sort keys %while) {
    my $host = $while{$failure};
    my $explained = admin($host, { action => 'explain', url => '/index.html' });
    my $response = $host->get('/index.html');
    is($explained->{verdict}, 'error', "failure=$failure, Redis is away: explain says so");
    is($explained->{status} // 200, $response->{status}, '... with the status of the answer');
    is(!$explained->{headers}{'Retry-After'}, !$response->{fields}{'retry-after'}, '... and Retry-After');
    my $some = admin($host, { action => 'explain', url => '/some' });
    is($some->{verdict}, 'error', '... where one rule is asked for here, too');
    is($some->{headers}{RateLimit}, $failure eq 'open' ? '"here";r=4;t=86400' : undef, '... whose limit is told');
    ok($host->stop, 'stop');
}

done_testing();
