# Licensed under the Apache License, Version 2.0; see LICENSE.

# A counter of 16 bits runs over when a refused client goes on.

use strict;
use warnings;

use RLP::Attacked qw(five scaled);

sub run_over {
    my ($name) = @_;
    my $server = RLP::Attacked->start($name, five());
    my $got = $server->flood(fields => ['X-Forwarded-For: 10.9.9.9'], count => scaled(70_000, 1000), connections => 1, seconds => 120);
    my $passed = $got->{200} // 0;

    return ($passed <= 5 && !$got->{0}, "$passed of $got->{sent} admitted" . ($got->{0} ? ", $got->{0} not answered" : ''));
}

return ({ name => '70 000 refused requests', promise => '5 pass', run => \&run_over });
