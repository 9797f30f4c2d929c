# Licensed under the Apache License, Version 2.0; see LICENSE.

# Each request comes from an address that was never seen; and keys that are long, when the table is full of short ones.

use strict;
use warnings;

use RLP::Attacked qw(five limits scaled);

sub newcomers {
    my ($name) = @_;
    my $server = RLP::Attacked->start($name, five());
    my @how = (count => 4_000_000, seconds => scaled(2, 1));
    # each request of mod_evasive's has a connection of its own, which has to be so in both
    my @known = $name eq 'mod_evasive' ? () : (fields => ['X-Forwarded-For: 10.9.9.9']);
    my %free = (@how, path => '/free.txt', @known);
    $server->flood(%free, seconds => 1);
    my $memory = $server->memory;
    my ($free, $new, $share) = $server->in_turn(\%free, {@how});
    my $grown = $server->memory - $memory;
    my $refused = $new->{sent} - ($new->{200} // 0);

    return ($share >= 0.5 && $refused == 0 && $grown < 8,
        sprintf '%.0f requests/s, %.0f of one client without a limit; %d of %d not admitted; memory %+.0f MB', $new->{rate}, $free->{rate},
            $refused, $new->{sent}, $grown);
}

sub long_keys {
    my ($name) = @_;
    my %ours = limits('rate=5/week');
    $ours{config} =~ s/key=ip/"key=text=expr:%{HTTP:X-Forwarded-For}"/g;
    $ours{config} =~ s/^RemoteIP.*\n//mg;
    my $server = RLP::Attacked->start($name, %ours);
    $server->flood(count => 20_000, seconds => 60);
    my @passed = map { $server->admitted(7, '/limited.txt', 'k' x 2000 . $_) } 1 .. 50;
    my $right = grep { $_ == 5 } @passed;
    my $refused = grep { $_ == 0 } @passed;

    return ($right == 50, "$right of 50 clients with a key of 2 kB got their 5, $refused got none");
}

return (
    {
        name => 'flood of new clients', run => \&newcomers,
        promise => 'none is refused, less than 8 MB are taken, and half of the throughput stays',
    },
    {
        name => 'long keys, full table', promise => 'each gets 5, as with a short one', run => \&long_keys,
        servers => [qw(ours mod_security nginx HAProxy Varnish)],
    },
);
