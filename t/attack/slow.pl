# Licensed under the Apache License, Version 2.0; see LICENSE.

# A crowd that waits for its turn, again and again, and slow clients beside it, who never end their requests: is there a
# worker left for others? The servers of httpd have 32.

use strict;
use warnings;

use Time::HiRes qw(time);

use RLP::Attacked qw(limits);

my $seconds = 15; # mod_qos takes an average of ten before it lets anybody wait
my $waiting = 'RateLimitDelay max=60s budget=25%' . "\n" . 'RateLimitRule slow path=/slow.txt rate=2/s burst=1 algorithm=leaky-bucket key=global action=delay' . "\n";

sub slow {
    my ($name) = @_;
    my $server = RLP::Attacked->start($name, limits('rate=1000/s', $waiting));
    my @slow = map { $server->connect } 1 .. 12;
    $_->send("GET /free.txt HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") for @slow;
    my $crowd = $server->begin_flood(path => '/slow.txt', count => 1_000_000, connections => 64, depth => 1, seconds => $seconds + 10,
        fields => ['X-Forwarded-For: 10.9.9.9']);
    $server->flood_is_over($crowd, $seconds);
    my ($longest, $failed) = (0, 0);

    for (1 .. 20) {
        my $begin = time;
        my $connection = $server->connect;
        $connection->send("GET /free.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        my $status = $connection->response('GET', 10)->{status};
        my $took = time - $begin;
        $failed++ if $status != 200;
        $longest = $took if $took > $longest;
        last if $failed;
    }
    kill 'KILL', $server->{flooding};
    close $crowd;
    return (!$failed && $longest < 5, sprintf '%s; the longest of 20 other requests took %.2f s', $failed ? 'not answered within 10 s' : 'all answered', $longest);
}

return ({
    name => 'slow clients beside a crowd that waits', promise => 'others are answered within 5 s', run => \&slow, servers => [qw(ours mod_qos nginx)],
});
