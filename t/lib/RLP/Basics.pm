# Licensed under the Apache License, Version 2.0; see LICENSE.

# What scripts of all kinds need: files, what configure has found (in the Makefile of builddir, or else of the current
# directory), ports, and patience.

package RLP::Basics;

use strict;
use warnings;

use Exporter qw(import);
use IO::Socket::INET;
use Time::HiRes qw(time);

our @EXPORT_OK = qw(configured free_port slurp slurp_any spill wait_for);
our $patience = 30; # seconds that anything may take

my $lowest_port = 12_000;
my $ports = 20_000;
my $port_tries = 1000;
my $most_kept = 200; # of the descriptors of a process
my @kept_ports;

my $build = $ENV{builddir} || '.';

# A proxy of the user's is not for 127.0.0.1.
$ENV{no_proxy} = '*';

# root's TMPDIR may be closed to httpd's children, who are www-data then.
delete $ENV{TMPDIR} if $> == 0 && defined $ENV{TMPDIR} && system(qw(setpriv --reuid=www-data --regid=www-data --clear-groups test -x), $ENV{TMPDIR}) != 0;

sub slurp {
    my ($file) = @_;
    open my $in, '<', $file or die "$file: $!\n";
    local $/ = undef;
    my $text = <$in>;
    close $in;
    return $text;
}

# Nothing where nothing is: processes end, and logs are not begun yet.
sub slurp_any {
    my ($file) = @_;
    local ($@, $!);
    return eval { slurp($file) } // '';
}

sub spill {
    my ($file, $text) = @_;
    open my $out, '>', $file or die "$file: $!\n";
    print {$out} $text;
    close $out or die "$file: $!\n";
    return $file;
}

sub configured {
    my ($name) = @_;
    return '' if !-e "$build/Makefile";
    my ($value) = slurp("$build/Makefile") =~ /^\Q$name\E = (.*)/m;
    return $value // '';
}

# A port of 127.0.0.1 that is this script's until it ends, or has asked for very many: its UDP side is kept, so that no
# other call gives the same, here or in a test beside. It lies below those that systems give to whoever asks for any.
sub free_port {
    for (1 .. $port_tries) {
        my $port = $lowest_port + int rand $ports;
        my %at = (LocalAddr => '127.0.0.1', LocalPort => $port);
        my $kept = IO::Socket::INET->new(%at, Proto => 'udp') or next;
        IO::Socket::INET->new(%at, Listen => 1) or next;
        push @kept_ports, $kept;
        shift @kept_ports if @kept_ports > $most_kept;
        return $port;
    }
    die "no port on 127.0.0.1: $!\n";
}

# Calls it every 20 ms until it says something; what it said, or nothing after the deadline.
sub wait_for {
    my ($until, $seconds) = @_;
    my $end = time + ($seconds || $patience);
    while (1) {
        my $said = $until->();
        return $said if $said || time > $end;
        select undef, undef, undef, 0.02;
    }
}

1;
