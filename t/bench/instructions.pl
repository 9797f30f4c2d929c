# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Instructions of a request, in the user space of one server process, counted by valgrind: instructions.pl BUILD.
# They do not depend on what else the machine does, but for those of new clients, whose connections may be met several
# at once. Counted are 1000 requests over one connection, or 200 of a new client and connection each, after 100 others.
# Lines of figures (RLP::Figures), never a verdict. Environment: RUNS (2), and see RLP::Peer.
use strict;
use warnings;

use RLP::Figures;
use RLP::Peer;

my ($build) = @ARGV;
my $title = 'Instructions of a request';
my $runs = $ENV{RUNS} || 2;
my ($warm, $requests, $strangers) = (100, 1000, 200); # mod_qos takes long for the last
my $least = 1000; # instructions of a request, of any server
my @valgrind = (qw(valgrind -q --tool=callgrind --vgdb-poll=100000000), '--callgrind-out-file=@DIR@/cg.%p');
local $| = 1;

sub told {
    print join("\t", @_), "\n";
    return;
}

sub command {
    my ($server, @words) = @_;
    open my $out, '-|', @words or die "$words[0]: $!\n";
    my $said = join '', <$out>;
    close $out or die "$server->{name}: @words failed\n";
    return $said;
}

sub control {
    my ($server, $word) = @_;
    my $as = $> == 0 ? 'setpriv --reuid=www-data --regid=www-data --clear-groups --' : '';
    for my $pid ($server->pids) {
        my $said = qx($as callgrind_control $word $pid 2>&1);
        die "$server->{name}: callgrind_control: $said\n" if $?;
    }
    return;
}

sub load {
    my ($server, $n, @options) = @_;
    return command($server, 'timeout', 300, "$build/t/bench/load", '-a', $server->port, '-n', $n, @options);
}

# What the server has counted since it began or was set to zero; where it serves from a child, in both.
sub counted {
    my ($server) = @_;
    my $sum = 0;
    control($server, '--dump');
    for my $file (glob "\Q@{[ $server->dir ]}\E/cg.*.*") {
        my ($n) = RLP::Httpd::slurp($file) =~ /^(?:totals|summary): (\d+)/m;
        $sum += $n // 0;
        unlink $file;
    }
    die "$server->{name}: valgrind has counted nothing\n" if !$sum;
    return $sum;
}

# Instructions of a request. Strangers are clients that were never seen.
sub each_request {
    my ($name, $kind, $new) = @_;
    my $n = $new ? $strangers : $requests;
    my $server = RLP::Peer->start($name, kind => $kind, single => 1, wrap => \@valgrind);

    load($server, $warm, $new ? ('-w', 0) : ());
    control($server, '--zero');
    my $answers = load($server, $n, $new ? ('-w', $warm) : ());
    my $sum = counted($server);
    $server->stop;
    my ($good) = $answers =~ /^answers (\d+)/;
    die "it serves from a process that valgrind does not count\n" if $sum / $n < $least;
    die "$name: not what $kind requests are answered: $answers" if $kind eq 'refused' ? $good : $good < $n;
    return $sum / $n;
}

# The figures of one limiter, and of the bare server in the same run.
sub figures {
    my ($name) = @_;
    my $bare = RLP::Peer::bare($name);

    die "valgrind is missing\n" if system('command -v valgrind >/dev/null') != 0;
    for (1 .. $runs) {
        my $off = each_request($bare, 'served');
        my $on = each_request($name, 'counted');
        told($title, $name, 'bare server', $off);
        told($title, $name, 'added', $on - $off);
        if (grep { $_ eq $name } RLP::Peer::refusing()) {
            my $refused = each_request($name, 'refused');
            told($title, $name, 'refused: the whole request', $refused);
            told($title, $name, 'refused / served', $refused / $on);
        }
        my $stranger = each_request($name, 'served', 1) - each_request($bare, 'served', 1);
        told($title, $name, 'added for a new client', $stranger);
    }
    return;
}

for my $name (RLP::Peer::names()) {
    my $reason = RLP::Peer::tried($name, sub { figures($name) });

    told($title, $name, 'not run', $reason) if $reason;
}
