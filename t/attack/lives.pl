# Licensed under the Apache License, Version 2.0; see LICENSE.

# A limit has to outlive a reload, and children that are killed.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use RLP::Attacked qw(five limits scaled);

my $clients = 2000;

sub reload {
    my ($name) = @_;
    my $server = RLP::Attacked->start($name, five());
    my $before = $server->admitted(3, '/limited.txt', '10.9.9.9');
    my $blocked = $server->admitted(12, '/limited.txt', '10.9.9.8');
    my $done = $server->graceful;
    my $after = $server->admitted(12, '/limited.txt', '10.9.9.9');
    my $again = $server->admitted(12, '/limited.txt', '10.9.9.8');

    return ($done && $before + $after == 5 && $blocked == 5 && $again == 0,
        "$before before and $after after; of a limited client $blocked before and $again after" . ($done ? '' : '; the reload did not end'));
}

# Are all 32 places there again that requests of ours held?
sub places {
    my ($server) = @_;
    my $answer = $server->ask('/free.txt');
    return ($answer->{fields}{ratelimit} // '') =~ /"places";r=31\b/;
}

# What the log of ours tells, but for refusals, and how often.
sub told {
    my ($server) = @_;
    my %lines;
    for my $line ($server->log_text =~ /\b(RLP(?!001)\d+: .*)/g) {
        $lines{ substr $line =~ s/\d\d+/N/gr, 0, 100 }++;
    }
    return map { "; $lines{$_} times $_" } sort keys %lines;
}

# Clients ask again and again, each for as much as it gets, while a child is killed each 100 ms.
sub killed {
    my ($name) = @_;
    my %ours = limits('rate=5/week', "RateLimitRule places concurrent=32 key=global\n");
    my $server = RLP::Attacked->start($name, %ours);
    my $end = time + scaled($name eq 'ours' ? 60 : 15, 5);
    my ($kills, $passed, $unanswered) = (0, 0, 0);
    my $due = time + 0.1; # through all rounds: one may take less than that

    while (time < $end) {
        my $flood = $server->begin_flood(count => $clients, connections => 8, depth => 1, seconds => 30);
        while (!$server->flood_is_over($flood, $due > time ? $due - time : 0)) {
            my @children = $server->children;
            $kills += kill 'KILL', $children[rand @children] if @children;
            $due = time + 0.1;
        }
        my $got = $server->flooded($flood);
        $passed += $got->{200} // 0;
        $unanswered += ($got->{0} // 0) + $got->{again};
    }
    my $back = RLP::Httpd::wait_for(sub { eval { $server->admitted(1, '/limited.txt', '10.250.0.1') } }, 20);
    for (1 .. 6) {
        last if !$back;
        my $got = $server->flood(count => $clients, connections => 8, depth => 1, seconds => 30);
        $passed += $got->{200} // 0;
    }
    $back &&= RLP::Httpd::wait_for(sub { places($server) }, 20) if $name eq 'ours';
    return ($kills && !!$back && $passed <= 5 * $clients && $passed + $unanswered >= 5 * $clients,
        "$kills kills: $passed admitted of " . 5 * $clients . ", $unanswered questions lost in $server->{loads} rounds; " . ($back ? 'answers afterwards' : 'does not answer afterwards') . ($name eq 'ours' ? join '', told($server) : ''));
}

return (
    { name => 'graceful reload in mid-limit', promise => '5 in all, before and after', run => \&reload },
    { name => 'kill -9 each 100 ms', promise => 'never more than the limit; what is missing was on its way; all places come back', run => \&killed },
);
