# Licensed under the Apache License, Version 2.0; see LICENSE.

# Redis comes and goes while a limit is asked for: stopped and continued, which keeps its counters, once in so many
# milliseconds. None of the peers can have its counters there.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use RLP::Attacked qw(scaled);
use RLP::Redis;

my $burst = 300;

# What passed of one client's requests while Redis flaps. A client may have one burst more where nothing was known of it.
sub flapping {
    my ($failure) = @_;
    my $redis = RLP::Redis->alone;
    my $server = RLP::Attacked->start('ours', config => <<"CONF");
RateLimitStore shared redis url=redis://127.0.0.1:@{[ $redis->port ]} timeout=30ms failure=$failure hosts=1 recovery=300ms
RateLimitEngine On
RateLimitRule all path=/limited.txt rate=$burst/week key=ip
CONF
    my $flood = $server->begin_flood(count => 10_000_000, connections => 8, depth => 1, seconds => scaled(30, 4), fields => ['X-Any: none']);
    my $flaps = 0;

    while (!$server->flood_is_over($flood, 0.05 + rand 0.4)) {
        $flaps++ % 2 ? $redis->resume : $redis->suspend;
    }
    $redis->resume;
    my $got = $server->flooded($flood);
    my $passed = $got->{200} // 0;
    my @other = grep { !/^(?:200|429|503|again|seconds|sent|rate)$/ } keys %{$got};
    my $closed = $server->admitted(1, '/limited.txt');
    my $most = $failure eq 'local' ? 2 * $burst : $burst;

    return ($passed <= $most && $passed >= $burst - 8 * $flaps && !@other && (!$got->{503} || $failure eq 'closed') && !$closed,
        sprintf '%d changes: %d admitted of %d, %d refused, %d got 503, %d others, of %d', $flaps, $passed, $burst,
            $got->{429} // 0, $got->{503} // 0, scalar(@other), $got->{sent});
}

my @own = (servers => ['ours'], missing => \&RLP::Redis::missing);

return (
    { name => 'Redis flapping, failure=local', promise => 'one burst more at most; each request is answered, none by 5xx', run => sub { flapping('local') }, @own },
    { name => 'Redis flapping, failure=closed', promise => 'never more; each request is answered', run => sub { flapping('closed') }, @own },
);
