# Licensed under the Apache License, Version 2.0; see LICENSE.

# A limited client has others, real or pretended, come by the thousand: is it limited still? The table of each server
# that has one of a fixed size holds some 12 000 addresses, so that all of it is wanted many times over.

use strict;
use warnings;

use RLP::Attacked qw(five limits scaled);

my $victim = '10.200.0.1';

sub flush {
    my ($name, $junk, $config) = @_;
    my $server = RLP::Attacked->start($name, %{$config});
    my $before = $server->admitted(12, '/limited.txt', $victim);
    my $memory = $server->memory;
    my $got = $server->flood(count => $junk, seconds => $name eq 'ours' ? 300 : 30);
    my $after = $server->admitted(12, '/limited.txt', $victim);
    my $grown = $server->memory - $memory;

    return ($before <= 5 && $after == 0 && !$got->{0},
        sprintf '%d admitted before, %d after %d others in %.0f s; %s; memory %+.0f MB', $before, $after, $got->{sent}, $got->{seconds},
            refused($got), $grown);
}

sub refused {
    my ($got) = @_;
    my %other = map { $_ => $got->{$_} } grep { /^\d+$/ && $_ != 200 } keys %{$got};
    return %other ? join ' ', map { "$other{$_} of the others got $_" } sort keys %other : 'none of the others refused';
}

# 10/min and 1000/day: what the day has lost is remembered too. Takes as many as it can in each round, with others
# between.
sub plan {
    my ($name, $junk) = @_;
    my $server = RLP::Attacked->start($name, limits('rate=10/min rate=1000/day'));
    my $begin = time;
    my $before = $server->admitted(12, '/limited.txt', $victim);
    my $got = $server->flood(count => $junk, seconds => 300);
    my $after = $server->admitted(12, '/limited.txt', $victim);
    my $earned = int((time - $begin) / 6) + 2;
    my $answer = $server->ask('/limited.txt', $victim);
    my $back = int((time - $begin) / 86.4) + 1; # a thousand a day
    my ($left) = $answer->{fields}{ratelimit} =~ /w?"[^"]*(?:day|86400|-2)[^"]*";r=(\d+)/;

    return ($before == 10 && $after <= $earned && defined $left && $left <= 1000 - $before - $after + $back,
        "$before admitted before, $after (of $earned that time gives back) after $got->{sent} others in " . int($got->{seconds})
            . " s; of the day " . ($left // $answer->{fields}{ratelimit}) . ' left');
}

my @own = (servers => ['ours']);
my ($few, $many) = (20_000, scaled(2_000_000, 40_000));
my $kept = 'a limited client stays limited, and nobody is refused for want of room';

return (
    { name => '20 000 junk keys', promise => $kept, run => sub { flush($_[0], $few, { five() }) } },
    { name => 'junk keys, fixed window', promise => $kept, @own, run => sub { flush($_[0], $few, { limits('rate=5/day algorithm=fixed-window') }) } },
    { name => 'junk keys, 10/min and 1000/day', promise => 'both counters stay', @own, run => sub { plan($_[0], $few) } },
    { name => '2 000 000 junk keys', promise => $kept, run => sub { flush($_[0], $many, { five() }) } },
    { name => '2 000 000 junk keys, fixed window', promise => $kept, @own, run => sub { flush($_[0], $many, { limits('rate=5/day algorithm=fixed-window') }) } },
    { name => '2 000 000 junk keys, 10/min and 1000/day', promise => 'both counters stay', @own, run => sub { plan($_[0], $many) } },
);
