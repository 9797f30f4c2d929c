#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What a request costs: a number, what the request says, or what its response says.

use strict;
use warnings;

use RLP::Test;
use Test::More;

# What is left, asked by a request that is free.
sub left {
    my ($path) = @_;
    return get($path, 'X-Free' => 1)->header('X-RateLimit-Remaining');
}

# What is left after a request.
sub left_after {
    my ($path, %field) = @_;
    ask($path, %field);
    return left($path);
}

# Lines of a kind in the error log.
sub logged {
    my ($pattern) = @_;
    open my $in, '<', "$ENV{RLP_TOP}/t/logs/error_log" or return 0;
    my $n = grep { /$pattern/ } <$in>;
    close $in;
    return $n;
}

# --- a number

script 'V-07 three units each', '/c/three', '0: A7 A4 A1 D12', '11: D1', '12: A0 D18';
script 'V-07 half a unit each', '/c/half', '0: A1 A1 A0 A0 D15', '15: A0 D15';
script 'V-07 .001 is a thousandth', '/c/thousandth', '0: ' . join(' ', ('A0') x 4, 'D1');
script 'V-07 what there is at once is not above the capacity', '/c/ten', '0: A0 D60', '60: A0';
script 'B-20 a cost above the capacity is refused for good and changes nothing', '/c/asked', '0*11: D D', '0*10: A0 D60';
script 'B-31 costs of one and of five share a bucket', '/c/asked', '0: A9', '0*5: A4', '0: A3', '0*5: D12', '12*5: A0';

begin;
is(answers(3, '/c/free'), 'A2 A2 A2', 'V-07 B-22 RateLimitCost 0 is free');
is(answers(3, '/c/unfree'), 'A1 A0 D30', 'B-22 the others pay');
my $before = fields(get('/c/free'));
is(answers(5, '/c/free'), 'A0 A0 A0 A0 A0', 'B-22 free when there is nothing left');
is(fields(get('/c/free')), $before, 'B-22 and no field changes');
begin;
is(get('/c/free')->header('X-RateLimit-Reset'), 0, 'B-22 where nothing is used, nothing comes back');
begin;
answers(3, '/c/unfree');
is(answers(1, '/c/unfree'), 'D30', 'B-22 the next request costs one, as it did before');
at 30;
is(answers(2, '/c/unfree'), 'A0 D30', 'B-22 and passes when it is its time');

begin;
is(statuses(4, '/c/quiet'), '200 200 200 429', 'costs count where no field tells of them');

# --- an expression

script 'what the request says', '/c/asked', '0*2: A8', '0*.5: A7', '0*2.5: A5', '0*0: A5', '0*6: D6', '0*5.000: A0';
for my $junk ('ten', '-1', '+1', '1e3', '0x1', '1.2345', '9999999999999999', '1 2', '2"\\') {
    begin;
    my $lines = logged('RLP006');
    is(answer(ask('/c/asked', 'X-Cost' => $junk)), 'A9', "a cost of $junk counts as one");
    is(logged('RLP006') - $lines, 1, "a cost of $junk is one line in the log");
}
begin;
my $lines = logged('RLP006');
is(answer(ask('/c/asked-two', 'X-Cost' => 'ten')), 'A9', 'junk under two rules');
is(logged('RLP006') - $lines, 1, 'is one line too');
is(answers(1, '/c/asked-two', 'X-Cost' => 3), 'A6', 'both rules pay what the request says');
is(get('/c/asked-two', 'X-Free' => 1)->header('RateLimit'), '"asked-b";r=6;t=36, "asked-c";r=16;t=48', 'each of its own');
begin;
my $kept = RLP::Client->new($ENV{RLP_PORT}); # one process answers
my $known = logged('RLP006');
get('/c/asked', 'X-Cost' => 'ten', connection => $kept) for 1 .. 5;
is(logged('RLP006') - $known, 1, 'of one process in a second, whatever comes');
at 1;
get('/c/asked', 'X-Cost' => 'ten', connection => $kept) for 1 .. 5;
is(logged('RLP006') - $known, 2, 'and one in the next');

# --- the cost of a rule, and of sections

begin;
is(get('/c/rules')->header('RateLimit'), '"own";r=8;t=48, "of-section";r=17;t=51', 'cost= of a rule goes before RateLimitCost');
is(get('/c/rules', 'X-Cost' => '4')->header('RateLimit'), '"own";r=6;t=36, "of-section";r=14;t=42', 'whatever the request says');
script '"cost=expr=EXPR"', '/c/rule-asked', '0*4: A6', '0*6: A0';
begin;
is(answer(ask('/cgi/hit/rule-late?X-Cost=7')), 'A8', 'reserve= of a rule');
is(answer(ask('/cgi/hit/rule-late')), 'A1', 'and its cost=response-header:NAME');

my @sections = (
    # where, path, what it costs
    [ 'the server', '/c/elsewhere', 2 ],
    [ 'a section', '/c/outer', 3 ],
    [ 'a deeper section', '/c/outer/inner', 5 ],
    [ 'a deeper section in place of a field of the response', '/c/late/inner?X-Cost=9', 5 ],
    [ 'a field of the response', '/c/late', 9 ],
    [ 'a field of a script that clients are not sent', '/cgi/hit/hidden?X-Cost=7', 7 ],
    [ 'a field of a backend that clients are not sent', '/hidden/cgi/hit/x?X-Cost=7', 7 ],
    [ 'a field of an index that clients are not sent', '/indexed/?X-Cost=6', 6 ],
    [ 'a field of an index that is judged alone', '/unjudged/?X-Cost=5', 5 ],
    [ 'a field that mod_headers replaces', '/hidden/replaced/cgi/hit/x?X-Cost=7', 3 ],
    [ 'a response by its field that clients are not sent', '/hidden/counted/cgi/hit/x?X-Cost=7', 1 ],
    [ 'another response', '/hidden/counted/cgi/hit/x?X-Cost=8', 0 ],
    [ 'a response that is refunded by its field', '/hidden/given/cgi/hit/x?X-Cost=7', 0 ],
    [ 'another response', '/hidden/given/cgi/hit/x?X-Cost=8', 1 ],
    [ '.htaccess', '/costly/ok.txt', 4 ],
    [ 'a section in place of .htaccess', '/costly/ok.txt?if', 6 ],
);
for my $case (@sections) {
    my ($where, $path, $cost) = @{$case};
    begin;
    ask($path, Host => 'costs.test');
    is(get('/c/free', Host => 'costs.test')->header('X-RateLimit-Remaining'), 10 - $cost, "RateLimitCost of $where");
}

# --- the response: two are reserved

my @late = (
    # what, X-Cost, left, lines in the log
    [ 'more', '?X-Cost=4', 6, 0 ],
    [ 'more, and blanks around it', '?X-Cost=%09%204%20%09', 6, 0 ],
    [ 'less', '?X-Cost=1', 9, 0 ],
    [ 'nothing', '?X-Cost=0', 10, 0 ],
    [ 'the same', '?X-Cost=2', 8, 0 ],
    [ 'a fraction', '?X-Cost=2.5', 7, 0 ],
    [ 'all', '?X-Cost=10', 0, 0 ],
    [ 'more than there is', '?X-Cost=1000', 0, 0 ],
    [ 'as much as a number can be', '?X-Cost=999999999999999', 0, 0 ],
    [ 'nothing of it', '', 8, 0 ],
    [ 'junk', '?X-Cost=ten', 8, 1 ],
    [ 'a negative number', '?X-Cost=-5', 8, 1 ],
    [ 'a number in another field', '?X-Costs=5', 8, 0 ],
    [ 'more, with 404', '?Status=404&X-Cost=4', 6, 0 ],
    [ 'more, with 500', '?Status=500&X-Cost=4', 6, 0 ],
);
for my $case (@late) {
    my ($what, $query, $left, $lines) = @{$case};
    begin;
    my $known = logged('RLP006');
    is(ask("/cgi/hit/late$query")->header('X-RateLimit-Remaining'), 8, "a response that says $what: told what was reserved");
    is(left('/cgi/hit/late'), $left, "a response that says $what: $left left");
    is(logged('RLP006') - $known, $lines, "a response that says $what: $lines lines in the log");
}

begin;
ask('/cgi/hit/late?X-Cost=1000');
is(answers(1, '/cgi/hit/late'), 'D12', 'a debt is one bucket, no more: two units are there in 12 seconds');
at 60;
is(left('/cgi/hit/late'), 10, 'and the bucket is full again after its minute');
is(left_after('/cgi/hit/unreserved?X-Cost=4'), 6, 'with reserve=0 the response alone says it');
is(left_after('/cgi/hit/unreserved?X-Cost=4'), 2, 'and again');

# two units are earned again in 12 seconds, and then the store has forgotten the client
for my $case ([ 5, 5 ], [ 12, 7 ], [ 60, 7 ]) {
    my ($seconds, $left) = @{$case};
    my $name = "slow-$seconds";
    begin;
    my (undef, $slow) = crowd(1, 1, "/cgi/gate/$name?X-Cost=5");
    wait_for(sub { hits("$name-waiting") });
    at $seconds;
    gate($name, 1);
    is($slow && $slow->response->status, 200, "a response after $seconds seconds");
    ok($slow && $slow->closed, "a response after $seconds seconds: to the end");
    is(left('/cgi/hit/late'), $left, "a response after $seconds seconds: its three units more are charged");
}

begin;
my @crowd = together(20, '/cgi/hit/late-many?X-Cost=3');
is(scalar(grep { $_->status == 200 } @crowd), 20, 'twenty at once');
wait_for(sub { left('/cgi/hit/late-many') == 940 });
is(left('/cgi/hit/late-many'), 940, 'are each charged by their responses');

begin;
is(left_after('/cgi/hit/late?X-Cost=5', method => 'HEAD'), 5, 'HEAD is charged by its response');
begin;
is(left_after('/c/late?X-Cost=5'), 5, 'the field may be one that mod_headers sets');
begin;
is(left_after('/backend/cgi/hit/late?X-Cost=5'), 5, 'or one of a backend');

begin;
ask('/unruled/?X-Cost=5');
is(left('/cgi/hit/late'), 5, 'or one of a script that is the index of a directory without a rule');

begin;
is(answers(3, '/cgi/hit/late?X-Cost=3'), 'A8 A5 A2', 'kept alive: what one response says is charged before the next request');
wait_for(sub { left('/cgi/hit/late') == 1 });
is(left('/cgi/hit/late'), 1, 'three for each');
begin;
my $connection = RLP::Client->new($ENV{RLP_PORT});
my $text = RLP::Client::request_text('GET', '/cgi/hit/late?X-Cost=3', undef, Host => 'cost.test');
$connection->send_text($text x 2 . $text =~ s/\r\n\r\n/\r\nConnection: close\r\n\r\n/r);
is(join(' ', map { $connection->response->status } 1 .. 3), '200 200 200', 'pipelined');
ok($connection->closed, 'to the end');
is(left('/cgi/hit/late'), 1, 'pipelined: three for each');

begin;
ask('/cgi/hit/dry?X-Cost=4');
is(get('/cgi/hit/dry')->header('X-Left'), 4, 'a dry run is corrected too');

# --- however httpd turns it over inside

my @turns = (
    # how, path, left
    [ 'an index that is a script', '/scripted/?X-Cost=5', 5 ],
    [ 'a rewrite that ends at a script', '/rewritten/script?X-Cost=5', 5 ],
    [ 'a script that redirects inside', '/cgi/hit/once?Location=/cgi/hit/once?X-Cost=5', 5 ],
    [ 'an Action', '/action/ok.act?X-Cost=5', 5 ],
    [ 'an include, whose parts say nothing', '/include/three.shtml', 8 ],
    [ 'an ErrorDocument that is a script', '/error-script/missing?X-Cost=5', 8 ],
);
for my $case (@turns) {
    my ($how, $path, $left) = @{$case};
    begin;
    is(ask($path, Host => 'turns.test')->header('X-RateLimit-Remaining'), 8, "$how: two are reserved");
    is(get('/ok.txt', Host => 'turns.test', 'X-Free' => 1)->header('X-RateLimit-Remaining'), $left, "$how: corrected once");
}

done_testing;

__DATA__
<VirtualHost *:${RLP_PORT}>
    ServerName cost.test
    RateLimitEngine On
    ProxyPass "/backend/" "http://127.0.0.1:${RLP_PORT}/"
    <If "-n req('X-Free')">
        RateLimitCost 0
    </If>
    <Location "/c/three">
        RateLimitRule three rate=10/min
        RateLimitCost 3
    </Location>
    <Location "/c/half">
        RateLimitRule half rate=2/min
        RateLimitCost .5
    </Location>
    <Location "/c/thousandth">
        RateLimitRule thousandth rate=1/s burst=.004
        RateLimitCost .001
    </Location>
    <Location "/c/ten">
        RateLimitRule ten rate=10/min cost=10
    </Location>
    <LocationMatch "^/c/(un)?free$">
        RateLimitRule free rate=2/min
    </LocationMatch>
    <Location "/c/free">
        RateLimitCost 0
    </Location>
    <Location "/c/quiet">
        RateLimitRule quiet rate=10/min
        RateLimitCost 3
        RateLimitHeaders Off
    </Location>

    # one for who asks for nothing else
    SetEnvIf Request_Method "." COST=1
    SetEnvIf X-Cost "^(.+)$" COST=$1
    <Location "/c/asked">
        RateLimitRule asked rate=10/min
        RateLimitCost "expr=%{reqenv:COST}"
    </Location>
    <Location "/c/asked-two">
        RateLimitRule asked Off
        RateLimitRule asked-b rate=10/min
        RateLimitRule asked-c rate=20/min
        RateLimitCost "expr=%{reqenv:COST}"
    </Location>
    <Location "/c/rules">
        RateLimitRule own rate=10/min cost=2
        RateLimitRule of-section rate=20/min
        RateLimitCost 3
    </Location>
    <Location "/c/rule-asked">
        RateLimitRule rule-asked rate=10/min "cost=expr=%{HTTP:X-Cost}"
        RateLimitCost 3
    </Location>
    <Location "/cgi/hit/rule-late">
        RateLimitRule rule-late rate=10/min cost=response-header:X-Cost reserve=2
    </Location>

    <LocationMatch "^/((c|cgi/hit|backend/cgi/hit)/late|cgi/gate/slow-\d+)$">
        RateLimitRule late rate=10/min
        RateLimitCost response-header:X-Cost reserve=2
    </LocationMatch>
    Alias "/unruled" "${T}/htdocs/directory"
    <Location "/unruled">
        DirectoryIndex /cgi/hit/late
    </Location>
    <Location "/c/late">
        Header set X-Cost 5
    </Location>
    <Location "/cgi/hit/late-many">
        RateLimitRule late-many rate=1000/hour
        RateLimitCost response-header:X-Cost
    </Location>
    <Location "/cgi/hit/unreserved">
        RateLimitRule unreserved rate=10/min
        RateLimitCost response-header:X-Cost reserve=0
    </Location>
    <Location "/cgi/hit/dry">
        RateLimitEngine LogOnly
        RateLimitEnv always
        RateLimitRule dry rate=10/min
        RateLimitCost response-header:X-Cost reserve=2
        Header set X-Left "%{RATELIMIT_REMAINING}e"
    </Location>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName costs.test
    RateLimitEngine On
    RateLimitRule whole rate=10/min
    RateLimitCost 2
    <Location "/c/free">
        RateLimitCost 0
    </Location>
    <Location "/c/outer">
        RateLimitCost 3
    </Location>
    <Location "/c/outer/inner">
        RateLimitCost 5
    </Location>
    <Location "/c/late">
        RateLimitCost response-header:X-Cost
        Header set X-Cost 9
    </Location>
    <Location "/c/late/inner">
        RateLimitCost 5
    </Location>
    ProxyPassMatch "^/hidden/(?:\w+/)??(cgi/hit/x)$" "http://127.0.0.1:${RLP_PORT}/$1"
    Alias "/indexed" "${T}/htdocs/directory"
    <Location "/indexed">
        DirectoryIndex /cgi/hit/hidden
        RateLimitCost response-header:X-Cost
    </Location>
    Alias "/unjudged" "${T}/htdocs/directory"
    <Location "/unjudged">
        DirectoryIndex /cgi/hit/hidden
        RateLimitEngine Off
    </Location>
    <LocationMatch "^/(?:hidden/|cgi/hit/hidden)">
        RateLimitCost response-header:X-Cost
        Header unset X-Cost
        Header always unset X-Cost
    </LocationMatch>
    <Location "/hidden/replaced">
        Header always set X-Cost 3
    </Location>
    <Location "/hidden/counted">
        RateLimitRule whole rate=10/min cost=1 "count=response:%{resp:X-Cost} == '7'"
    </Location>
    <Location "/hidden/given">
        RateLimitRule whole rate=10/min cost=1
        RateLimitRefund "expr=resp('X-Cost') == '7'"
    </Location>
    <Directory "${T}/htdocs/costly">
        AllowOverride Limit
    </Directory>
    <If "%{QUERY_STRING} == 'if'">
        RateLimitCost 6
    </If>
</VirtualHost>

<VirtualHost *:${RLP_PORT}>
    ServerName turns.test
    RateLimitEngine On
    RateLimitRule whole rate=10/min
    RateLimitCost response-header:X-Cost reserve=2
    <If "-n req('X-Free')">
        RateLimitCost 0
    </If>
    <Directory "${T}/htdocs/include">
        Options +Includes
        AddOutputFilter INCLUDES .shtml
        AddType text/html .shtml
    </Directory>
    Alias "/scripted" "${T}/htdocs/directory"
    <Location "/scripted">
        DirectoryIndex /cgi/hit/once
    </Location>
    <Directory "${T}/htdocs/rewritten">
        RewriteEngine On
        RewriteBase "/rewritten/"
        RewriteRule "^script$" "/cgi/hit/once"
    </Directory>
    <Location "/error-script">
        ErrorDocument 404 /cgi/hit/once
    </Location>
    AliasMatch "^/action/" "${T}/htdocs/ok.txt"
    Action "cost-action" "/cgi/hit/once"
    <Location "/action/ok.act">
        SetHandler cost-action
    </Location>
</VirtualHost>
