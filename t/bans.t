#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# ratelimit-admin where rules count in several stores or in Redis; where a ban is in force, and where it is not; and what
# there is room for.

use strict;
use warnings;

use JSON::PP qw(decode_json encode_json);
use Test::More;

use RLP::Httpd;
use RLP::Redis;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'httpd has no mod_setenvif or mod_headers' if grep { !RLP::Httpd::has_module($_) } qw(setenvif headers);

my $me = 'ip:127.0.0.1';

sub server {
    my ($config, @modules) = @_;
    return RLP::Httpd->new(modules => [qw(setenvif headers), @modules], config => <<"END")->start;
RateLimitEngine On
SetEnvIf X-Who (.+) WHO=\$1
RateLimitIdentity who=env:WHO ip
RateLimitEnv always
Header always set X-Was "%{RATELIMIT_ACTION}e" env=RATELIMIT_ACTION
<Location "/admin">
    SetHandler ratelimit-admin
</Location>
$config
END
}

# One action, on a connection that is kept if there is one.
sub ask {
    my ($server, $ask, $connection) = @_;
    my $body = encode_json({ $ask->{action} =~ /overrides|plans/ ? () : (identity => $me), %{$ask} });
    my $kept = defined $connection;
    $connection //= $server->connection;
    $connection->send(join "\r\n", 'POST /admin HTTP/1.1', 'Host: localhost', $kept ? () : 'Connection: close',
        'Content-Type: application/json', 'Content-Length: ' . length $body, '', $body);
    my $response = $connection->response('POST');
    $response->{json} = eval { decode_json($response->{body}) } // {};
    return $response;
}

# What it answers; the test fails with what was refused.
sub done {
    my ($server, $action, %ask) = @_;
    my $response = ask($server, { action => $action, %ask });
    is($response->{status}, 200, join ' ', $action, map { "$_ " . ($ask{$_} // 'null') } sort keys %ask) or diag($response->{body});
    return $response->{json};
}

# RULE:REMAINING of each limit, as get says
sub limits {
    my ($server, %ask) = @_;
    return join ' ', map { "$_->{rule}:$_->{remaining}" } @{ done($server, 'get', %ask)->{limits} };
}

sub changes {
    my ($server) = @_;
    return scalar(() = $server->log_text =~ /RLP072: /g);
}

# --- variables behind rules that were judged before

{
    my $server = server(<<'END');
Header always set X-Told "%{RATELIMIT_RULE}e %{RATELIMIT_PLAN}e %{RATELIMIT_IDENTITY}e %{RATELIMIT_REMAINING}e %{RATELIMIT_RESET}e"
RateLimitPlan some rate=9/week
RateLimitPlanMap key expr:%{env:NO_PLAN} unknown=deny:401
<Location "/early">
    RateLimitRule first rate=9/week key=global phase=early
    RateLimitRule second rate=8/week key=ip
</Location>
<Location "/early/key">
    RateLimitIdentity key=header:X-Key ip
    RateLimitRule second rate=8/week
</Location>
<Location "/free">
    RateLimitRule free rate=9/week key=ip
    RateLimitCost 0
</Location>
<Location "/early/ever">
    RateLimitRule second quota=3 key=ip
</Location>
END
    my $told = sub { my $response = $server->get(@_); return "$response->{status} $response->{fields}{'x-was'} $response->{fields}{'x-told'}" };
    like($told->('/early'), qr/^404 pass second default $me 7 \d+$/, 'variables: of the rule with less left');
    is($told->('/free'), "404 pass free default $me 9 0", 'variables: nothing is used, so that all is there now');
    is($told->('/early/ever'), "404 pass second default $me 2 (null)", 'of one that is never full again, not when the other is');
    is($told->('/early/key', 'X-Key: unknown'), '401 deny second (null) (null) (null) (null)', 'of the one for which a map refuses, not of one that let it pass');
    done($server, 'ban', for => '1h');
    is($told->('/early'), "429 deny second (null) $me (null) (null)", 'of the one that a ban meets');
}

# --- several stores

{
    my $server = server("RateLimitStore near shm size=1M\nRateLimitStore beside shm size=1M\n"
            . "RateLimitRule a rate=5/week\nRateLimitRule b rate=9/week quota=20 store=beside\nRateLimitRule dry rate=3/week mode=log store=beside");
    is($server->statuses(6, '/index.html'), '200 200 200 200 200 429', 'stores: the first refuses');
    is(limits($server), 'a:0 b:4 b:15 dry:0', 'stores: get asks each in its own');
    is(limits($server, rule => 'b'), 'b:4 b:15', 'stores: or one rule in its');
    done($server, 'grant', units => 2, rule => 'b');
    is(limits($server), 'a:0 b:6 b:17 dry:0', 'stores: grant, in the second alone');
    is($server->statuses(1, '/index.html'), '429', 'stores: which does not help in the first');
    done($server, 'grant', units => 2);
    is(limits($server), 'a:2 b:8 b:19 dry:2', 'stores: grant, in both');
    is($server->statuses(3, '/index.html'), '200 200 429', 'stores: for requests, too');
    done($server, 'reset', rule => 'a');
    is(limits($server), 'a:5 b:6 b:17 dry:0', 'stores: reset of one rule');
    done($server, 'reset');
    is(limits($server), 'a:5 b:9 b:20 dry:3', 'stores: reset of all');
    done($server, 'ban', for => '1h');
    is($server->statuses(3, '/index.html'), '429 429 429', 'stores: a ban');
    is(limits($server), 'a:5 b:9 b:20 dry:3', 'stores: under which nothing is charged in either');
    ok($server->restart, 'stores: a restart');
    is($server->statuses(1, '/index.html'), '429', 'stores: which a ban outlives');
    done($server, 'unban');
    is($server->statuses(1, '/index.html'), '200', 'stores: until it is ended');
    is(limits($server), 'a:4 b:8 b:19 dry:2', 'stores: and all count again');
    ok($server->stop, 'stores: it stops as ever');
}

# --- the short ways of the rules that most sites have: one that header fields tell of, one that is silent, and several

{
    my $server = RLP::Httpd->new(config => <<'END')->start;
RateLimitEngine On
RateLimitIdentity ip
RateLimitPlan less rate=6/week
<Location "/admin">
    SetHandler ratelimit-admin
</Location>
<Location "/told">
    RateLimitRule told rate=9/week
</Location>
<Location "/silent">
    RateLimitHeaders Off
    RateLimitRule silent rate=9/week
</Location>
<Location "/two">
    RateLimitRule one rate=9/week
    RateLimitRule two rate=20/week
</Location>
<Location "/trial">
    RateLimitRule trial rate=9/week mode=log
</Location>
<Location "/marked">
    RateLimitRule marked rate=9/week action=mark
</Location>
<Location "/both">
    RateLimitRule trial rate=9/week mode=log
    RateLimitRule one rate=9/week
</Location>
END
    my $statuses = sub { # on one connection: of all but the first the address is known
        my $connection = $server->connection;
        return join ' ', map { $connection->send("GET $_ HTTP/1.1\r\nHost: localhost\r\n\r\n"); $connection->response->{status} } @_;
    };
    my @paths = qw(/told /silent /two);
    is($statuses->((@paths) x 2), '404 404 404 404 404 404', 'short ways: let pass');
    done($server, 'ban', for => '1h');
    is($statuses->((@paths) x 2), '429 429 429 429 429 429', 'short ways: a ban');
    is($server->statuses(1, $_), '429', "short ways: a ban, the first request of a connection, $_") for @paths;
    is($statuses->(qw(/trial /marked /both)), '404 404 429', 'rules that refuse nobody refuse nobody who is banned, either');
    done($server, 'unban');
    is($statuses->((@paths) x 2), '404 404 404 404 404 404', 'short ways: that is over');
    done($server, 'set-plan', plan => 'less', for => '1h');
    is($statuses->((@paths) x 3), '404 404 404 404 404 404 429 429 429', 'short ways: another plan for a time');
    ok($server->stop, 'short ways: it stops as ever');
}

# --- several who are banned

for my $case ([ 'ip:127.0.0.1' => 'global:global', 'b' ], [ 'global:global' => 'ip:127.0.0.1', 'a' ]) {
    my ($short, $long, $rule) = @{$case};
    my $server = server("RateLimitRule a rate=5/week key=ip\nRateLimitRule b rate=5/week key=global\n<Location /status>\n"
            . "SetHandler ratelimit-status\nRateLimitEngine Off\n</Location>\n<Location /quota>\nSetHandler ratelimit-quota\n</Location>");
    is(ask($server, { action => 'ban', identity => 'global:all', for => '1h' })->{json}{detail}, 'expected "identity": "global:global", as which all are counted',
        'a ban of nobody is refused');
    done($server, 'ban', identity => $short, for => '10min');
    done($server, 'ban', identity => $long, for => '2h');
    my $response = $server->get('/index.html');
    is($response->{status}, 429, "both $short and $long are banned");
    cmp_ok($response->{fields}{'retry-after'}, '>', 600, 'and who comes again after Retry-After is so after the longer ban');
    cmp_ok(decode_json($server->get('/quota')->{body})->{banned}, '>', 600, 'as ratelimit-quota says');
    like($server->get('/status?format=prometheus')->{body}, qr/\{rule="$rule",plan="",action="deny"\} 1\n/, 'it counts once, for the rule that counts who is banned so long');
    ok($server->stop, 'it stops as ever');
}

# --- rules on Redis, with what they say of it themselves

SKIP: {
    skip RLP::Redis::missing(), 1 if RLP::Redis::missing();
    my @cases = (
        # options of the store, options of the rule, get in an outage, requests in it
        [ 'failure=open', 'failure=local', 200, '200' ],
        [ 'failure=local', 'failure=open', 503, '200' ],
        [ 'failure=open', 'failure=closed', 503, '503' ],
        [ 'failure=open sync=lease', 'sync=exact', 503, '200' ],
        [ 'failure=open sync=exact', 'sync=lease failure=closed', 503, '503' ],
    [ 'failure=closed sync=lease', 'failure=open', 503, '200' ],
    );
    for my $case (@cases) {
        my ($store, $rule, $get, $status) = @{$case};
        my $redis = RLP::Redis->alone;
        my $server = server("RateLimitStore near shm size=1M\nRateLimitStore far redis url=redis://127.0.0.1:"
                . $redis->port . " timeout=5s connect=5s recovery=10s hosts=1 $store\n"
                . "RateLimitPlan pro rate=100/week\nRateLimitRule far rate=5/week store=far $rule\nRateLimitRule near rate=50/week");
        my $name = "$store, rule $rule";
        is($server->statuses(6, '/index.html'), '200 200 200 200 200 429', "$name: all is used");
        is(limits($server), 'far:0 near:45', "$name: get");
        done($server, 'grant', units => 2, rule => 'far');
        is($server->statuses(3, '/index.html'), '200 200 429', "$name: two are given");
        done($server, 'reset');
        is(limits($server), 'far:5 near:50', "$name: reset, in both");
        done($server, 'set-plan', plan => 'pro', for => '1h');
        is($server->get('/index.html')->{fields}{'x-ratelimit-limit'}, 100, "$name: a plan for a time");
        done($server, 'set-plan', plan => undef);
        is($server->statuses(1, '/index.html'), '200', "$name: and without");
        $redis->kill9;
        is(ask($server, { action => 'get', rule => 'far' })->{status}, $get, "$name: get without Redis");
        is(ask($server, { action => 'get', rule => 'near' })->{status}, 200, "$name: which the other store does not need");
        ok(RLP::Httpd::wait_for(sub { $server->statuses(1, '/index.html') eq $status }), "$name: requests without Redis, when what was drawn ahead is spent");
        done($server, 'ban', for => '1h');
        is($server->statuses(2, '/index.html'), '429 429', "$name: a ban needs no Redis");
        ok($server->graceful, "$name: a graceful restart");
        is($server->statuses(1, '/index.html'), '429', "$name: which it outlives");
        ok($server->restart, "$name: a restart");
        is($server->statuses(1, '/index.html'), '429', "$name: which it outlives");
        ok($server->stop, "$name: it stops as ever");
    }
}

# --- where a ban is in force

my $pages = "RateLimitKeyLog plain\nRateLimitStore s shm size=4M file=store\nRateLimitPlan pro rate=100/week\nRateLimitPlan gone rate=70/week\n"
    . "AliasMatch \"^/(?:ruled|exempt|dry|log|mark|both|early|early-dry|off|whos)\$\" \"\@DIR\@/htdocs/index.html\"\n"
    . "<Location /ruled>\nRateLimitRule ruled rate=50/week\n</Location>\n"
    . "<Location /exempt>\nRateLimitExempt ip 127.0.0.0/8\nRateLimitRule exempt rate=50/week\n</Location>\n"
    . "<Location /dry>\nRateLimitEngine LogOnly\nRateLimitRule dry rate=50/week\n</Location>\n"
    . "<Location /log>\nRateLimitRule log rate=50/week mode=log\n</Location>\n"
    . "<Location /mark>\nRateLimitRule mark rate=50/week action=mark\n</Location>\n"
    . "<Location /both>\nRateLimitRule both-marks rate=50/week action=mark\nRateLimitRule both rate=50/week\n</Location>\n"
    . "<Location /early>\nRateLimitRule early rate=50/week key=ip phase=early\n</Location>\n"
    . "<Location /early-dry>\nRateLimitRule early-dry rate=50/week key=ip phase=early mode=log\n</Location>\n"
    . "<Location /off>\nRateLimitEngine Off\nRateLimitRule off rate=50/week\n</Location>\n"
    . "<Location /whos>\nRateLimitRule whos key=who rate=50/week\n</Location>\n"
    . "<Location /lost>\nErrorDocument 404 /ruled\n</Location>\n"
    . "<Directory \"\@DIR\@/htdocs/listed\">\nDirectoryIndex /ruled\n</Directory>\n"
    . "<Directory \"\@DIR\@/htdocs/included\">\nOptions +Includes\nSetOutputFilter INCLUDES\n</Directory>\n";
my @paths = (
    # path, as ever, under a ban, and what was decided then
    [ '/ruled', 200, 429, 'deny', 'a rule that refuses' ],
    [ '/both', 200, 429, 'deny', 'one beside another that marks' ],
    [ '/early', 200, 429, 'deny', 'phase=early' ],
    [ '/whos', 200, 200, '-', 'a rule that counts somebody else' ],
    [ '/exempt', 200, 200, 'exempt', 'RateLimitExempt' ],
    [ '/dry', 200, 200, undef, 'LogOnly' ],
    [ '/log', 200, 200, undef, 'mode=log' ],
    [ '/mark', 200, 200, undef, 'action=mark' ],
    [ '/early-dry', 200, 200, undef, 'phase=early with mode=log' ],
    [ '/off', 200, 200, '-', 'RateLimitEngine Off' ],
    [ '/index.html', 200, 200, '-', 'no rule' ],
    [ '/lost', 404, 404, undef, 'an ErrorDocument with a rule of its own' ],
    [ '/listed/', 200, 429, 'deny', 'an internal redirect to where a rule is' ],
    [ '/included/page.html', 200, 200, '-', 'a subrequest to where a rule is' ],
);
SKIP: {
    skip 'httpd has no mod_dir, mod_alias or mod_include', 1 if grep { !RLP::Httpd::has_module($_) } qw(dir alias include);
    my $server = RLP::Httpd->new;
    mkdir $server->file("htdocs/$_"), 0755 for qw(listed included);
    $server->file('htdocs/included/page.html', "<!--#include virtual=\"/ruled\" -->\n");
    $server->{modules} = [qw(setenvif headers dir alias include)];
    $server->configure("RateLimitEngine On\nSetEnvIf X-Who (.+) WHO=\$1\nRateLimitIdentity who=env:WHO ip\nRateLimitEnv always\n"
            . "Header always set X-Was \"%{RATELIMIT_ACTION}e\" env=RATELIMIT_ACTION\n<Location /admin>\nSetHandler ratelimit-admin\n</Location>\n$pages");
    $server->start;
    my $look = sub { my ($path) = @_; my $response = $server->get($path); return ($response->{status}, $response->{fields}{'x-was'} // '-', $response->{body}) };
    for my $case (@paths) {
        my ($path, $usual, $banned, $action, $name) = @{$case};
        is(($look->($path))[0], $usual, "before the ban: $name");
    }
    my $before = limits($server);
    done($server, 'ban', for => '1h');
    my %life = ('at once' => sub { 1 }, 'after a graceful restart' => sub { $server->graceful }, 'after a restart' => sub { $server->restart },
        'after a stop and a start' => sub { $server->stop && $server->start });
    for my $life ('at once', 'after a graceful restart', 'after a restart', 'after a stop and a start') {
        ok($life{$life}->(), $life);
        for my $case (@paths) {
            my ($path, undef, $banned, $action, $name) = @{$case};
            my ($status, $was) = $look->($path);
            is($status, $banned, "a ban $life: $name");
            is($was, $action, "a ban $life: $name, in the variables") if defined $action;
        }
    }
    is((join ' ', grep { /^(?:ruled|both|early):/ } split / /, limits($server)), (join ' ', grep { /^(?:ruled|both|early):/ } split / /, $before),
        'nothing is charged under a ban');
    like(($look->('/included/page.html'))[2], qr/^hello$/m, 'what a subrequest brings is not refused');
    is($server->get('/ruled', 'X-Who: x')->{status}, 200, 'an identity before it in the chain is counted, and not banned');
    done($server, 'ban', identity => 'who:x', for => '1h');
    is($server->get($_, 'X-Who: x')->{status}, 429, "until it is, too: $_") for qw(/ruled /whos);
    done($server, 'unban');
    is(($look->('/ruled'))[0], 200, 'the end of one ban');
    is($server->get('/whos', 'X-Who: x')->{status}, 429, 'is not that of another');
    done($server, 'unban', identity => 'who:x');

    # --- plans

    my $n = changes($server);
    for my $case ([ 'por', qr/expected a plan .* got "por" \(pro\?\)/ ], [ 'Pro ', qr/expected a plan/ ], [ '', qr/expected a plan/ ], [ 'nothing-like-it', qr/got "nothing-like-it"/ ]) {
        my ($plan, $detail) = @{$case};
        my $response = ask($server, { action => 'set-plan', plan => $plan, for => '1h' });
        is($response->{status}, 400, "set-plan to \"$plan\"");
        like($response->{json}{detail}, $detail, 'is told what there is');
    }
    is(changes($server), $n, 'no plan, no change, no line');
    is_deeply(done($server, 'overrides')->{overrides}, [], 'and nothing in force');
    done($server, 'set-plan', plan => 'gone', for => '1h');
    is($server->get('/ruled')->{fields}{'x-ratelimit-limit'}, 70, 'a plan');
    $server->configure(RLP::Httpd::slurp($server->config_file) =~ s/^RateLimitPlan gone .*\n//mr);
    ok($server->graceful, 'that is configured no more');
    is($server->get('/ruled')->{fields}{'x-ratelimit-limit'}, 50, 'counts no more');
    is(done($server, 'get', rule => 'ruled')->{set_plan}, undef, 'nor is it told');
    done($server, 'set-plan', plan => 'pro', for => '1h');
    is($server->get('/ruled')->{fields}{'x-ratelimit-limit'}, 100, 'another takes its place');
    done($server, 'set-plan', plan => undef);

    # --- room

    my $room = 4096;
    my $connection = $server->connection;
    my %answers;
    $answers{ ask($server, { action => 'ban', identity => "who:w$_", for => '1h' }, $connection)->{status} }++ for 1 .. $room;
    is_deeply(\%answers, { 200 => $room }, "there is room for $room");
    my $full = ask($server, { action => 'ban', identity => 'who:x', for => '1h' });
    is("$full->{status} $full->{fields}{'content-type'}", '507 application/problem+json', 'and no more');
    like($full->{json}{detail}, qr/^expected fewer than 4096 bans and plans in force/, 'which is said');
    my $listed = sub { return join ' ', sort map { $_->{identity} } @{ done($server, 'overrides')->{overrides} } };
    my $all = join ' ', sort map { "who:w$_" } 1 .. $room;
    is($listed->(), $all, 'none is lost for it');
    is(ask($server, { action => 'set-plan', identity => 'who:y', plan => 'pro', for => '1h' })->{status}, 507, 'nor for a plan');
    is(ask($server, { action => 'ban', identity => 'who:w7', for => '2h' })->{status}, 200, 'what is there can be changed');
    is(ask($server, { action => 'set-plan', identity => 'who:w7', plan => 'pro', for => '1h' })->{status}, 200, 'in each way');
    is(scalar(grep { $server->get('/whos', "X-Who: w$_")->{status} != 429 } map { 1 + 39 * $_ } 0 .. 104), 0, 'they are in force');
    is($server->get('/whos', 'X-Who: w4097')->{status}, 200, 'what found no room is not');
    ok($server->stop && $server->start, 'a stop and a start');
    ok($listed->() eq $all, 'after which all are there');
    is(ask($server, { action => 'ban', identity => 'who:w4097', for => '1h' })->{status}, 507, 'and no more');
    done($server, 'unban', identity => 'who:w4096');
    is(ask($server, { action => 'ban', identity => 'who:w4097', for => '1h' })->{status}, 200, 'what is ended makes room');
    is($server->get('/whos', 'X-Who: w4097')->{status} . ' ' . $server->get('/whos', 'X-Who: w4096')->{status}, '429 200', 'for another');
    is(ask($server, { action => 'ban', identity => 'who:w4096', for => '1h' })->{status}, 507, 'one');
    ok($server->stop, 'it stops as ever');
}

done_testing;
