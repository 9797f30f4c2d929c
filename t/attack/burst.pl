# Licensed under the Apache License, Version 2.0; see LICENSE.

# Requests that come at once; and far more threads than cores that want one counter.

use strict;
use warnings;

use RLP::Attacked qw(five scaled);

# The most that any of so many addresses got, each with 200 requests at once.
sub burst {
    my ($name) = @_;
    my $server = RLP::Attacked->start($name, five());
    my ($most, $answers) = (0, 0);
    my $rounds = scaled(20, 3);

    for my $round (1 .. $rounds) {
        my @connections = map { $server->connect("10.9.0.$round") } 1 .. 200;
        $_->send("GET /limited.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Forwarded-For: 10.9.0.$round\r\n\r\n") for @connections;
        my @statuses;
        while (my $connection = shift @connections) {
            push @statuses, $connection->response('GET')->{status};
        }
        my $passed = grep { $_ == 200 } @statuses;
        $answers += grep { $_ } @statuses;
        $most = $passed if $passed > $most;
    }
    return ($most <= 5 && $answers == 200 * $rounds, "$most of 200 at most, in $rounds rounds; " . (200 * $rounds - $answers) . ' not answered');
}

# One address, from so many connections at once; what passed, and requests a second with two and with that many.
sub crowd {
    my ($name) = @_;
    my $server = RLP::Attacked->start($name, five());
    my $cores = grep { /^processor/ } split /\n/, RLP::Httpd::slurp('/proc/cpuinfo');
    my $threads = 8 * $cores;
    my %one = (fields => ['X-Forwarded-For: 10.9.9.9'], depth => 1, count => scaled(12_000, 1000), seconds => 20);
    my ($few, $many, $share) = $server->in_turn({ %one, connections => $cores }, { %one, connections => $threads });
    my $passed = ($few->{200} // 0) + ($many->{200} // 0);

    return ($passed <= 5 && !$few->{0} && !$many->{0} && $share > 0.5,
        sprintf '%d admitted; %.0f requests/s with %d at once, %.0f with %d', $passed, $few->{rate}, $cores, $many->{rate}, $threads);
}

return (
    { name => 'parallel burst', promise => 'of 200 at once, 5 pass', run => \&burst },
    { name => 'crowd on one key', promise => '5 pass; 8 times more requests at once than cores take away less than half of the throughput', run => \&crowd },
);
