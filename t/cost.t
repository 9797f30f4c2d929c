#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What a request costs: a number, what the request says, what its response says; and what is given back.

use strict;
use warnings;

use RLP::Test;
use Test::More;
use Time::HiRes qw(time);

# One request on a connection of its own. What is done after the response is done when httpd has closed.
sub ask {
    my ($path, %field) = @_;
    my $connection = RLP::Client->new($ENV{RLP_PORT});
    my $method = delete $field{method} || 'GET';
    my $response = request($method, $path, %field, Connection => 'close', connection => $connection);
    $connection->closed or die "httpd keeps a connection that was to be closed\n";
    return $response;
}

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

# Sends n requests at once and reads answers until `n - holds` have come: the answers, and the connections that wait.
sub crowd {
    my ($n, $holds, $path) = @_;
    my $text = RLP::Client::request_text('GET', $path, undef, Host => host(), Connection => 'close');
    my @waiting = map { RLP::Client->new($ENV{RLP_PORT}) } 1 .. $n;
    $_->send_text($text) for @waiting;
    my @responses;
    my $end = time + 10;
    while (@waiting > $holds && time < $end) {
        my @ready = grep { $_->ready(0.001) } @waiting;
        push @responses, map { $_->response } @ready;
        my %ready = map { $_ => 1 } @ready;
        @waiting = grep { !$ready{$_} } @waiting;
    }
    return (\@responses, @waiting);
}

sub tally {
    my %n;
    $n{$_}++ for @_;
    return join ', ', map { "$_ x $n{$_}" } sort keys %n;
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

# --- the cost of a rule, and of sections

begin;
is(get('/c/rules')->header('RateLimit'), '"own";r=8;t=48, "of-section";r=17;t=51', 'cost= of a rule goes before RateLimitCost');
is(get('/c/rules', 'X-Cost' => '4')->header('RateLimit'), '"own";r=6;t=36, "of-section";r=14;t=42', 'whatever the request says');
script '"cost=expr=EXPR"', '/c/rule-asked', '0*4: A6', '0*6: A0';
begin;
is(left_after('/cgi/hit/rule-late?X-Cost=7'), 3, 'cost=response-header:NAME');
is(left_after('/cgi/hit/rule-late'), 1, 'reserve= of a rule');

my @sections = (
    # where, path, what it costs
    [ 'the server', '/c/elsewhere', 2 ],
    [ 'a section', '/c/outer', 3 ],
    [ 'a deeper section', '/c/outer/inner', 5 ],
    [ 'a deeper section in place of a field of the response', '/c/late/inner?X-Cost=9', 5 ],
    [ '.htaccess', '/costly/ok.txt', 4 ],
    [ 'a section in place of .htaccess', '/costly/ok.txt?if', 6 ],
);
for my $case (@sections) {
    my ($where, $path, $cost) = @{$case};
    begin;
    ask($path, Host => 'costs.test');
    is(get('/c/elsewhere', Host => 'costs.test', 'X-Free' => 1)->header('X-RateLimit-Remaining'), 10 - $cost, "RateLimitCost of $where");
}

# --- the response: two are reserved

my @late = (
    # what, X-Cost, left, lines in the log
    [ 'more', '?X-Cost=4', 6, 0 ],
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

begin;
is(left_after('/cgi/hit/late?X-Cost=5', method => 'HEAD'), 5, 'HEAD is charged by its response');
begin;
is(left_after('/c/late?X-Cost=5'), 5, 'the field may be one that mod_headers sets');
begin;
is(left_after('/backend/cgi/hit/late?X-Cost=5'), 5, 'or one of a backend');

begin;
is(answers(3, '/cgi/hit/late?X-Cost=3'), 'A8 A5 A2', 'kept alive: what one response says is charged before the next request');
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
RLP::Test::wait_for(sub { hits('window-waiting') });
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
is(get('/cgi/hit/two-ways')->header('RateLimit'), '"failed";r=4;t=2880, "asked-for";r=9;t=54', 'beside a rule that counts requests');
is(ask('/cgi/hit/two-ways')->header('RateLimit'), '"failed";r=4;t=2880, "asked-for";r=8;t=48', 'which counts on');

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

