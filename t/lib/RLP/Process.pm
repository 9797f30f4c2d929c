# Licensed under the Apache License, Version 2.0; see LICENSE.

# A server that a script runs, and that ends with it; a parent of packages that know what is run. Their objects may have
# umask, patience (seconds in which it ends), and scoped: it ends with its object, not only with the script.

package RLP::Process;

use strict;
use warnings;

use POSIX qw(WNOHANG);
use Scalar::Util ();

use RLP::Basics qw(slurp_any wait_for);

my %running; # by process id: who started it, and what

# What it says goes into the file.
sub spawn {
    my ($self, $said, @command) = @_;
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        POSIX::setsid();
        umask $self->{umask} if defined $self->{umask};
        open STDIN, '<', '/dev/null' or POSIX::_exit(126);
        open STDOUT, '>', $said or POSIX::_exit(126);
        open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
        exec {$command[0]} @command or POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    $running{$pid} = [$$, $self];
    Scalar::Util::weaken($running{$pid}[1]) if $self->{scoped};
    return;
}

sub pid { return $_[0]{pid} }

sub alive {
    my ($self) = @_;
    return 0 if !$self->{pid};
    return 1 if waitpid($self->{pid}, WNOHANG) == 0;
    delete $running{ delete $self->{pid} };
    return 0;
}

# Ends it with TERM; false if it had to be killed.
sub stop {
    my ($self) = @_;
    return 1 if !$self->alive;
    my @all = $self->pids;
    kill 'TERM', $self->{pid};
    return 1 if wait_for(sub { !$self->alive }, $self->{patience});
    kill 'KILL', @all;
    wait_for(sub { !$self->alive });
    return 0;
}

# Of each process its parent.
sub parents {
    my %parent;
    for my $stat (glob '/proc/[0-9]*/stat') {
        my ($pid, $parent) = slurp_any($stat) =~ /^(\d+) \(.*\) \S (\d+)/s or next;
        $parent{$pid} = $parent;
    }
    return %parent;
}

sub children {
    my ($self) = @_;
    my $pid = $self->{pid} or return;
    my %parent = parents();
    my @children = sort { $a <=> $b } grep { $parent{$_} == $pid } keys %parent;
    return @children;
}

# It and all its descendants.
sub pids {
    my ($self) = @_;
    my %parent = parents();
    my @all = my @new = $self->{pid};
    while (@new) {
        my %new = map { $_ => 1 } @new;
        @new = grep { $new{ $parent{$_} } } keys %parent;
        push @all, @new;
    }
    return @all;
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $!, $@);
    $self->stop if $self->{pid} && $running{ $self->{pid} } && $running{ $self->{pid} }[0] == $$;
    return;
}

END {
    my $status = $?;
    for my $started (values %running) {
        $started->[1]->stop if $started->[1] && $started->[0] == $$;
    }
    $? = $status;
}

1;
