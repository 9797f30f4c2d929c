#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What is given back: RateLimitRefund, and rules that count only some of the responses.

use strict;
use warnings;

use RLP::Test;
use Test::More;

# What is left, asked by a request that is free.
sub left {
    my ($path) = @_;
    return get($path, 'X-Free' => 1)->header('X-RateLimit-Remaining');
}

# Requests for a path that have ended, by the access log.
sub logged {
    my ($path) = @_;
    open my $in, '<', "$ENV{RLP_TOP}/t/logs/access_log" or return 0;
    my $n = grep { /\Q$path\E/ } <$in>;
    close $in;
    return $n;
}

sub tally {
    my %n;
    $n{$_}++ for @_;
    return join ', ', map { "$_ x $n{$_}" } sort keys %n;
}

# --- given back

my @refunds = (
    # what, path, status, left
    [ 'a success', '/cgi/hit/refund', 200, 8 ],
    [ 'an error of the client', '/cgi/hit/refund?Status=404', 404, 8 ],
    [ 'an error of a script', '/cgi/hit/refund?Status=500', 500, 10 ],
    [ 'a script that says nothing', '/cgi/mute/refund', 500, 10 ],
    [ 'an error with a page', '/cgi/mute/refund/page', 500, 10 ],
    [ 'an error with a script', '/cgi/mute/refund/script', 500, 10 ],
    [ 'an error of a backend', '/backend/cgi/hit/refund?Status=500', 500, 10 ],
    [ 'a backend that is away', '/away/refund', 503, 10 ],
    [ 'a HEAD of an error', 'HEAD /cgi/hit/refund?Status=500', 500, 10 ],
    [ 'an error that says a cost', '/cgi/hit/refund-late?X-Cost=5&Status=500', 500, 10 ],
    [ 'what a section inside gives back', '/cgi/hit/refund-inner?Status=404', 404, 10 ],
    [ 'what it does not, but the one around', '/cgi/hit/refund-inner?Status=500', 500, 8 ],
    [ 'a success that says a cost', '/cgi/hit/refund-late?X-Cost=5', 200, 5 ],
);
for my $case (@refunds) {
    my ($what, $path, $status, $left) = @{$case};
    begin;
    my $method = $path =~ s/^HEAD // ? 'HEAD' : 'GET';
    is(ask($path, method => $method)->status, $status, "RateLimitRefund, $what: $status");
    is(left('/c/refund'), $left, "RateLimitRefund, $what: $left of ten left");
}
script 'a refusal has nothing to give back', '/c/refund-refused', '0: A1 A0 D30 D30 D30', '30: A0 D30';

begin;
at 59;
my ($answered, $slow) = crowd(1, 1, '/cgi/gate/window?Status=500');
ok($slow, 'a request waits for its answer');
wait_for(sub { hits('window-waiting') });
at 60;
is(answers(2, '/c/window'), 'A1 A0', 'two in the next window');
gate('window', 1);
is($slow && $slow->response->status, 500, 'its error comes after the end of its window');
ok($slow && $slow->closed, 'and it ends');
is(left('/c/window'), 0, 'a window that is over has nothing to give to the next one');

# --- counted by the response

begin;
is(join(' ', map { answer(ask('/cgi/hit/login')) } 1 .. 8), join(' ', ('A4') x 8), 'good logins are not counted');
is(join(' ', map { ask('/cgi/hit/login?Status=401')->status } 1 .. 5), '401 401 401 401 401', 'five failed ones are');
is(ask('/cgi/hit/login')->header('Retry-After'), 720, 'then nobody gets in, for a while');
at 720;
is(ask('/cgi/hit/login')->status, 200, 'until the next unit');
is(left('/cgi/hit/login'), 1, 'which a good login gives back');
begin;
ask("/cgi/hit/login?Status=$_") for 401, 403, 401, 200;
is(left('/cgi/hit/login'), 3, 'of four answers two are 401');
begin;
is(ask('/cgi/hit/two-ways')->header('RateLimit'), '"failed";r=4;t=2880, "asked-for";r=9;t=54', 'beside a rule that counts requests');
is(ask('/cgi/hit/two-ways')->header('RateLimit'), '"failed";r=4;t=2880, "asked-for";r=8;t=48', 'which counts on');

my @behind = (
    # how, path
    [ 'a rewrite', '/rewritten/guess?Status=401' ],
    [ 'a script that redirects', '/cgi/hit/login?Location=/cgi/hit/once?Status=401' ],
);
for my $case (@behind) {
    my ($how, $path) = @{$case};
    begin;
    is(join(' ', map { ask($path)->status } 1 .. 6), '401 401 401 401 401 429', "behind $how: what the client is answered counts");
}
for my $page (qw(missing closed mute)) {
    begin;
    is(join(' ', map { ask("/c/counted-$page", method => 'PUT')->status } 1 .. 6), '405 405 405 405 405 429',
        "behind an ErrorDocument that cannot be had ($page): what the client is answered counts");
}
begin;
is(ask('/c/refund-mute', method => 'PUT')->status, 405, 'an error of the client, whose ErrorDocument fails');
is(left('/c/refund'), 8, 'RateLimitRefund, too, goes by what the client is answered');
begin;
is(ask('/rewritten/two')->header('RateLimit'), '"inner";r=9;t=54, "outer";r=18;t=54', 'rules of both sides of a rewrite are charged');
is(ask('/rewritten/two?Status=500')->header('RateLimit'), '"inner";r=8;t=48, "outer";r=16;t=48', 'an error too');
is(ask('/rewritten/two')->header('RateLimit'), '"inner";r=8;t=48, "outer";r=16;t=48', 'and given back to both');
begin;
is(ask('/rewritten/one?Status=500')->header('RateLimit'), '"inner";r=9;t=54, "one";r=19;t=57', 'an error behind a rewrite');
is(ask('/rewritten/one')->header('RateLimit'), '"inner";r=9;t=54, "one";r=18;t=54', 'what a section without RateLimitRefund has charged stays charged');
begin;
gate('gone', 0);
my (undef, @gone) = crowd(5, 5, '/cgi/gate/gone?Status=401');
wait_for(sub { hits('gone-waiting') == 5 });
@gone = ();
gate('gone', 1);
wait_for(sub { logged('/cgi/gate/gone') == 5 }) || fail('requests whose clients have gone do not end');
is(ask('/cgi/hit/login')->status, 429, 'who does not wait for the answer has guessed all the same');

for my $round ([ 401, 0 ], [ 200, 5 ]) {
    my ($status, $left) = @{$round};
    begin;
    gate('login', 0);
    my ($refused, @guesses) = crowd(50, 5, "/cgi/gate/login?Status=$status");
    is(tally(map { answer($_) } @{$refused}), 'D720 x 45', "of 50 guesses at once 45 are refused while five wait for $status");
    gate('login', 1);
    is(tally(map { $_->response->status } @guesses), "$status x 5", 'the five are answered');
    is(scalar(grep { $_->closed } @guesses), 5, 'and have ended');
    is(left('/cgi/hit/login'), $left, "after answers of $status $left are left");
}

done_testing;

__DATA__
<VirtualHost *:${RLP_PORT}>
    ServerName refund.test
    RateLimitEngine On
    ProxyPass "/backend/" "http://127.0.0.1:${RLP_PORT}/"
    ProxyPass "/away/" "http://127.0.0.1:1/" disablereuse=on
    <If "-n req('X-Free')">
        RateLimitCost 0
    </If>
    <LocationMatch "/refund">
        RateLimitRule refund rate=10/min
        RateLimitCost 2
        RateLimitRefund "expr=%{REQUEST_STATUS} -ge 500"
    </LocationMatch>
    <Location "/cgi/mute/refund/page">
        ErrorDocument 500 /ok.txt
    </Location>
    <Location "/cgi/mute/refund/script">
        ErrorDocument 500 /cgi/hit/once
    </Location>
    <Location "/cgi/hit/refund-late">
        RateLimitCost response-header:X-Cost reserve=2
    </Location>
    <Location "/cgi/hit/refund-inner">
        RateLimitRefund "expr=%{REQUEST_STATUS} -eq 404"
    </Location>
    <Location "/c/refund-refused">
        RateLimitRule refund rate=2/min
        RateLimitCost 1
        RateLimitRefund "expr=%{REQUEST_STATUS} -ge 400"
    </Location>
    <LocationMatch "^/(c|cgi/gate)/window$">
        RateLimitRule window rate=2/min algorithm=fixed-window
        RateLimitRefund "expr=%{REQUEST_STATUS} -ge 500"
    </LocationMatch>

    <Directory "${T}/htdocs/rewritten">
        RewriteEngine On
        RewriteBase "/rewritten/"
        RewriteRule "^guess$" "/cgi/hit/once"
        RewriteRule "^(?:one|two)$" "/cgi/hit/inner"
    </Directory>
    <Location "/rewritten/one">
        RateLimitRule one rate=20/min
    </Location>
    <Location "/rewritten/two">
        RateLimitRule outer rate=20/min cost=2
        RateLimitRefund "expr=%{REQUEST_STATUS} -ge 500"
    </Location>
    <Location "/cgi/hit/inner">
        RateLimitRule inner rate=10/min
        RateLimitRefund "expr=%{REQUEST_STATUS} -ge 500"
    </Location>
    <LocationMatch "^/(cgi/hit/login|cgi/gate/login|cgi/gate/gone|rewritten/guess)$">
        RateLimitRule login rate=5/hour "count=response:%{REQUEST_STATUS} == 401"
    </LocationMatch>
    <LocationMatch "^/c/counted-">
        RateLimitRule counted rate=5/hour "count=response:%{REQUEST_STATUS} == 405"
    </LocationMatch>
    <Location "/c/counted-missing">
        ErrorDocument 405 /missing
    </Location>
    <Location "/c/counted-closed">
        ErrorDocument 405 /closed.txt
    </Location>
    <LocationMatch "^/c/(counted|refund)-mute">
        ErrorDocument 405 /cgi/mute/page
    </LocationMatch>
    <Location "/closed.txt">
        Require all denied
    </Location>
    <Location "/cgi/hit/two-ways">
        RateLimitRule failed rate=5/hour "count=response:%{REQUEST_STATUS} == 401"
        RateLimitRule asked-for rate=10/min
    </Location>
</VirtualHost>
