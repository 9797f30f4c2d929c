#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Which limits apply: what the map says of the identity that is counted, else the rule's own, else the default plan,
# else none.

use strict;
use warnings;

use MIME::Base64 qw(encode_base64);
use RLP::Test;
use Test::More;

sub user {
    my ($name) = @_;
    return (Authorization => 'Basic ' . encode_base64("$name:any", ''));
}

# "PLAN LIMIT REMAINING" as a request is told.
sub told {
    my ($path, %field) = @_;
    my $response = get($path, %field);
    return join ' ', map { $response->header($_) // '-' } qw(X-Was-Plan X-RateLimit-Limit X-RateLimit-Remaining);
}

begin;
my @who = (
    # case, path, fields, plan, limit, left
    [ 'P-01 without a map: the rule\'s own limits, as plan default', '/c/p-01', {}, 'default 10 9' ],
    [ 'P-02 user 1 has enterprise', '/c/user/p-02', { user(1) }, 'enterprise 1000 999' ],
    [ 'P-02 user 2 has pro', '/c/user/p-02', { user(2) }, 'pro 100 99' ],
    [ 'P-02 P-05 user 3 has no plan: the rule\'s own', '/c/user/p-02', { user(3) }, 'default 10 9' ],
    [ 'P-03 acme has enterprise', '/c/org/p-03', { 'X-Org' => 'acme' }, 'enterprise 1000 999' ],
    [ 'P-03 startup has pro', '/c/org/p-03', { 'X-Org' => 'startup' }, 'pro 100 99' ],
    [ 'P-03 another organisation has none: the rule\'s own', '/c/org/p-03', { 'X-Org' => 'other' }, 'default 10 9' ],
    [ 'joined identities: the plan of the first part that has one', '/c/user/joined', { user(2), 'X-Org' => 'acme' }, 'pro 100 99' ],
    [ 'joined identities: in the other order', '/c/user/joined-org', { user(2), 'X-Org' => 'acme' }, 'enterprise 1000 999' ],
    [ 'joined identities: the first part has none', '/c/user/joined', { user(3), 'X-Org' => 'acme' }, 'enterprise 1000 999' ],
    [ 'a rule without limits: the default plan', '/c/org/default', { 'X-Org' => 'other' }, 'free 10 9' ],
    [ 'a rule without limits: the plan of the map', '/c/org/default', { 'X-Org' => 'acme' }, 'enterprise 1000 999' ],
    [ 'plan=none: the rule\'s own for everybody', '/c/user/none', { user(1) }, 'default 5 4' ],
    [ 'plan=NAME: that plan for everybody', '/c/user/named', { user(1) }, 'pro 100 99' ],
    [ 'like= inherits, and replaces the same kind of limit', '/c/like', {}, 'trial 3 2' ],
);
for my $case (@who) {
    my ($name, $path, $field, $expected) = @{$case};
    is(told($path, %{$field}), $expected, $name);
}
is(told('/c/none', Host => 'unplanned.test'), '- - -', 'no limits, no default plan: the rule does not apply');
is(fields(get('/c/none', Host => 'unplanned.test')), '', 'and nothing is said');
is(get('/c/like')->header('RateLimit-Policy'), '"trial";q=3;w=60, "trial-day";q=500;w=86400', 'like= keeps what is of another kind');

is(fields(get('/c/elsewhere')), '', 'R-05 where no rule applies nothing is counted and nothing is said');
is(statuses(20, '/c/elsewhere'), join(' ', ('200') x 20), 'R-05 and nobody is refused');
is(told('/c/methods'), 'default 3 2', 'R-11 method=get speaks of GET');
is(request('HEAD', '/c/methods')->header('X-RateLimit-Remaining'), 1, 'R-11 and of HEAD');
is(fields(request('POST', '/c/methods', body => '')), '', 'R-11 not of POST');

begin;
is(told('/c/user/p-02', user(2)), 'pro 100 99', 'P-06 separate users ...');
is(told('/c/user/p-02', user(4)), 'pro 100 99', 'P-06 ... have separate buckets');

# --- unknown values

is(get('/c/unknown/next', 'X-API-Key' => 'nope')->header('X-Was-Identity'), 'ip:127.0.0.1', 'unknown=next: the next of the chain');
my $denied = get('/c/unknown', Host => 'deny.test', 'X-Org' => 'nope');
is($denied->status, 403, 'unknown=deny: 403');
is($denied->header('Retry-After'), undef, 'and no hour to come back');
is(get('/c/unknown', Host => 'deny401.test', 'X-Org' => 'nope')->status, 401, 'unknown=deny:401 says the status');
is(get('/c/unknown', Host => 'deny.test', 'X-Org' => 'acme')->status, 200, 'a known value passes');
is(get('/c/unknown', Host => 'deny.test')->status, 200, 'an absent value is not an unknown one');

# --- a customer moves to another plan; a rule of the same name in another section is the same counter

begin;
is(answers(11, '/c/move/free'), 'A9 A8 A7 A6 A5 A4 A3 A2 A1 A0 D6', 'P-07 carry: ten of ten used ...');
is(answers(1, '/c/move/pro'), 'A89', 'P-07 carry: ... become ten of a hundred');
is(answers(1, '/c/move/tiny'), 'D15', 'P-07 carry: a downgrade is empty, not in debt');
is(answers(1, '/c/move/daily'), 'A49', 'P-07 carry: a limit of another kind starts fresh');
is(answers(1, '/c/move/free'), 'D6', 'P-07 carry: flipping back gains nothing');
at 60;
is(answers(1, '/c/move/free'), 'A9', 'P-07 carry: a minute later all is earned again');

begin;
is(answers(11, '/c/move/free', Host => 'reset.test'), 'A9 A8 A7 A6 A5 A4 A3 A2 A1 A0 D6', 'P-07 reset: ten of ten used');
is(answers(1, '/c/move/pro', Host => 'reset.test'), 'A99', 'P-07 reset: a new plan starts full');
is(answers(1, '/c/move/free', Host => 'reset.test'), 'D6', 'P-07 reset: and the old one is as it was left');

done_testing;

__DATA__
RateLimitPlan free rate=10/min
RateLimitPlan pro rate=100/min
RateLimitPlan enterprise rate=1000/min
RateLimitPlan month rate=100/min rate=500/day
RateLimitPlan tiny rate=4/min
RateLimitPlan daily rate=50/day
RateLimitPlan trial like=month rate=3/min

<VirtualHost *:${RLP_PORT}>
    ServerName plans.test
    RateLimitEngine On
    RateLimitEnv always
    RateLimitPlanDefault free
    RateLimitPlanMap user "txt:${RLP_TOP}/t/conf/plans-users.txt"
    RateLimitPlanMap org "txt:${RLP_TOP}/t/conf/plans-orgs.txt"
    RateLimitPlanMap apikey "txt:${RLP_TOP}/t/conf/no-keys.txt" unknown=next
    Header always set X-Was-Plan "%{RATELIMIT_PLAN}e" "expr=-n reqenv('RATELIMIT_PLAN')"
    Header always set X-Was-Identity "%{RATELIMIT_IDENTITY}e" "expr=-n reqenv('RATELIMIT_IDENTITY')"
    SetEnvIf X-Org "^(.*)$" ORG=$1
    <LocationMatch "^/c/user/">
        AuthType Basic
        AuthName "any name"
        AuthBasicProvider anon
        Anonymous "*"
        Anonymous_VerifyEmail off
        Anonymous_MustGiveEmail off
        Require valid-user
    </LocationMatch>
    <LocationMatch "^/c/org/">
        RateLimitIdentity org=env:ORG
    </LocationMatch>
    <Location "/c/p-01">
        RateLimitRule p-01 rate=10/min
    </Location>
    <Location "/c/user/p-02">
        RateLimitRule p-02 rate=10/min
    </Location>
    <Location "/c/org/p-03">
        RateLimitRule p-03 rate=10/min
    </Location>
    <Location "/c/org/default">
        RateLimitRule default-plan
    </Location>
    <Location "/c/user/joined">
        RateLimitRule joined rate=10/min key=user+org
    </Location>
    <Location "/c/user/joined-org">
        RateLimitRule joined-org rate=10/min key=org+user
    </Location>
    <Location "/c/user/none">
        RateLimitRule logins plan=none rate=5/min
    </Location>
    <Location "/c/user/named">
        RateLimitRule named plan=pro
    </Location>
    <Location "/c/methods">
        RateLimitRule methods rate=3/min method=get
    </Location>
    <Location "/c/like">
        RateLimitRule like plan=trial
    </Location>
    <Location "/c/move/free">
        RateLimitRule move plan=free
    </Location>
    <Location "/c/move/pro">
        RateLimitRule move plan=pro
    </Location>
    <Location "/c/move/tiny">
        RateLimitRule move plan=tiny
    </Location>
    <Location "/c/move/daily">
        RateLimitRule move plan=daily
    </Location>
    <Location "/c/unknown/next">
        RateLimitIdentity apikey=header:X-API-Key ip
        RateLimitRule next rate=10/min
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName unplanned.test
    RateLimitEngine On
    RateLimitEnv always
    <Location "/c/none">
        RateLimitRule nothing
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName deny.test
    RateLimitEngine On
    RateLimitPlanMap org "txt:${RLP_TOP}/t/conf/plans-orgs.txt" unknown=deny
    RateLimitIdentity org ip
    SetEnvIf X-Org "^(.*)$" ORG=$1
    RateLimitRule deny rate=10/min
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName deny401.test
    RateLimitEngine On
    RateLimitPlanMap org "txt:${RLP_TOP}/t/conf/plans-orgs.txt" unknown=deny:401
    RateLimitIdentity org ip
    SetEnvIf X-Org "^(.*)$" ORG=$1
    RateLimitRule deny rate=10/min
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName reset.test
    RateLimitEngine On
    RateLimitPlanChange reset
    <Location "/c/move/free">
        RateLimitRule move plan=free
    </Location>
    <Location "/c/move/pro">
        RateLimitRule move plan=pro
    </Location>
</VirtualHost>
