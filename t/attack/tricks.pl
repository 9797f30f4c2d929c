# Licensed under the Apache License, Version 2.0; see LICENSE.

# A client that has used up what it has of /items asks for the same in other words. Whoever gets the resource has got
# around the limit.

use strict;
use warnings;

use RLP::Attacked qw(limits);
use RLP::Http2;
use RLP::Tricks;

# Does it get the resource, or part of it?
sub gets {
    my ($server, $head, $address) = @_;
    my $connection = $server->connect($address);
    my $closing = $head =~ /^Connection:/m ? '' : "\r\nConnection: close";
    $connection->send("$head\r\nX-Forwarded-For: $address$closing\r\n\r\n");
    my $response = $connection->response($head =~ /^HEAD/ ? 'HEAD' : 'GET', 10);
    return 1 if $response->{status} == 206 || $response->{body} =~ /the resource/;
    return $head =~ m{^HEAD /items} && $response->{status} == 200;
}

sub tricks {
    my ($name, %ours) = @_;
    my $server = RLP::Attacked->start($name, %ours);
    my $admitted = $server->admitted(12, '/items', '10.9.9.9');
    my @all = heads();
    my @around = grep { gets($server, $_, '10.9.9.9') } @all;
    my $others = 0;
    my @reach = grep { gets($server, $_, '10.9.8.' . $others++) } @all;
    my $alive = $server->admitted(1, '/free.txt', '10.9.9.7');

    return ($admitted == 5 && $alive && !@around,
        "$admitted admitted, then " . @around . ' of ' . @all . ' ways, of which ' . @reach . ' lead to it, got around it' . (@around ? ': ' . join(' ', map { shown_head($_) } @around[0 .. ($#around < 9 ? $#around : 9)]) : ''));
}

# The same words as :path of HTTP/2.
sub tricks_h2 {
    my ($name) = @_;
    my %ours = limits('rate=1000/s', "Protocols h2c http/1.1\nH2Direct on\n");
    push @{ $ours{modules} }, 'http2';
    my $server = RLP::Attacked->start($name, %ours);
    my $admitted = $server->admitted(12, '/items');
    my @around;

    for my $path (grep { length() < 127 } paths()) {
        my $h2 = h2_begin($server);
        my $stream = h2_ask($h2, 'GET', $path);
        my $status = h2_answers($h2, 10, $stream);
        push @around, $path if $status eq '200' && $path !~ /free\.txt$/;
    }
    my $alive = $server->admitted(1, '/free.txt');
    return ($admitted == 5 && $alive && !@around, "$admitted admitted, then " . @around . ' got around it' . (@around ? ": @around" : ''));
}

# A key that is known and used up, at an address that is used up: no spelling of the field gives more.
sub keys_of_clients {
    my ($name) = @_;
    my $server = RLP::Attacked->start($name, files => [['keys', "k1 known\n"]], config => <<'CONF');
RateLimitStore counters shm size=1M
RateLimitEngine On
RateLimitPlan known rate=5/week
RateLimitPlanMap key "txt:@DIR@/htdocs/keys"
RateLimitIdentity key=header:X-Key ip
RateLimitRule keyed path=/limited.txt rate=5/week
CONF
    my $address = $server->admitted(12, '/limited.txt');
    my $key = $server->admitted(12, '/limited.txt', undef, 'X-Key: k1');
    my @fields = key_fields();
    my @around = grep { $server->admitted(1, '/limited.txt', undef, @{$_}) } @fields;

    return ($address == 5 && $key == 5 && !@around, "$address and $key admitted, then " . @around . ' of ' . @fields . ' got around it' . (@around ? ': ' . join(', ', map { "@{$_}" } @around) : ''));
}

my $promise = 'no other words for it give more of it';
my $merged = "MergeSlashes Off\nAllowEncodedSlashes On\n";

return (
    { name => 'other words for a path', promise => $promise, run => sub { tricks($_[0], limits('rate=1000/s')) } },
    { name => 'other words, MergeSlashes Off', promise => $promise, run => sub { tricks($_[0], limits('rate=1000/s', $merged)) }, servers => ['ours'] },
    { name => 'other words in HTTP/2', promise => $promise, run => \&tricks_h2, servers => ['ours'] },
    { name => 'other words for a key', promise => $promise, run => \&keys_of_clients, servers => ['ours'] },
);
