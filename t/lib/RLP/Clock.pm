# Licensed under the Apache License, Version 2.0; see LICENSE.
package RLP::Clock;

# The clock of a test server (t/c-modules/rlp_testclock), moved by writing to its file. Each case begins at its own
# t=0: a midnight that no case has seen, so that nothing an earlier one has used is left.

use strict;
use warnings;

my $day = 86_400 * 1_000_000;
my $ahead = 20_832 * $day; # of the wall clock, as long as nobody sets it

# The clock whose time is in that file.
sub new {
    my ($class, $file) = @_;
    my $self = bless { file => $file, origin => $day, ahead => $ahead }, $class;
    if (-s $file) {
        my ($monotonic, $wall) = $self->face;
        $self->{origin} = $monotonic - $monotonic % $day;
        $self->{ahead} = $wall - $monotonic;
    }
    return $self;
}

sub face {
    my ($self) = @_;
    open my $in, '<:raw', $self->{file} or die "$self->{file}: $!\n";
    my $n = sysread $in, my $text, 16;
    die "$self->{file}: not a clock\n" if !$n || $n != 16;
    return unpack 'qq', $text;
}

# t=0 of a new case: some midnights later.
sub begin {
    my ($self) = @_;
    my ($monotonic) = -s $self->{file} ? $self->face : $self->{origin};
    $self->{origin} = $monotonic - $monotonic % $day + 2 * $day;
    return $self->at(0);
}

# Puts the clock to t seconds of this case.
sub at {
    my ($self, $t) = @_;
    return $self->put($self->{origin} + int($t * 1_000_000 + 0.5));
}

sub put {
    my ($self, $monotonic) = @_;
    open my $out, '+>>:raw', $self->{file} or die "$self->{file}: $!\n"; # makes it
    close $out;
    open $out, '+<:raw', $self->{file} or die "$self->{file}: $!\n";
    syswrite($out, pack 'qq', $monotonic, $monotonic + $self->{ahead}) == 16 or die "$self->{file}: $!\n";
    close $out;
    return $self;
}

# The instant t as seconds since the epoch.
sub epoch {
    my ($self, $t) = @_;
    return ($self->{origin} + $self->{ahead}) / 1_000_000 + $t;
}

# Sets the wall clock ahead, or back: nobody's counters may care.
sub step_wall {
    my ($self, $seconds) = @_;
    $self->{ahead} += $seconds * 1_000_000;
    my ($monotonic) = $self->face;
    return $self->put($monotonic);
}

1;
