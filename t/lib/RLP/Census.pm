# Licensed under the Apache License, Version 2.0; see LICENSE.

# What a server has at a moment, by /proc: memory of its own, descriptors, files it made.

package RLP::Census;

use strict;
use warnings;

use RLP::Httpd;

# Memory that is nobody else's, in KB: what grows when something leaks. Shared memory is counted apart, by its size.
sub own_memory {
    my ($pid) = @_;
    my ($kb) = RLP::Httpd::slurp("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m;
    return $kb;
}

# What the descriptors of a process lead to, sorted, numbers of pipes and sockets left out.
sub descriptors {
    my ($pid) = @_;
    my @leads = map { readlink // () } glob "/proc/$pid/fd/*";
    s{^(/dev/shm/faketime\w+) \(deleted\)$}{$1} for @leads; # libfaketime's, whose file any of its processes removes
    s/:\[\d+\]// for @leads;
    return sort @leads;
}

sub files {
    my ($dir) = @_;
    my @names = map { glob "\Q$dir\E/$_" } 'run/*', '*';
    s{.*/}{} for @names;
    return sort @names;
}

# Of a server that is idle.
sub of {
    my ($class, $server) = @_;
    my @children = $server->children;
    my %memory = map { $_ => own_memory($_) // 0 } @children;
    my %numbers;
    for my $child (@children) {
        my @has = descriptors($child);
        $numbers{ scalar @has } = 1 if @has; # it may be gone by now
    }
    return bless {
        parent => own_memory($server->pid) // 0,
        parent_descriptors => join(' ', descriptors($server->pid)),
        children => \%memory,
        descriptors => join(' ', sort { $a <=> $b } keys %numbers), # how many the children have
        files => join(' ', files($server->dir)),
    }, $class;
}

# The child with the most memory, KB.
sub largest {
    my ($self) = @_;
    return (sort { $b <=> $a } values %{ $self->{children} })[0] // 0;
}

# The most by which a child that is in both has grown, KB; undef if there is none.
sub growth {
    my ($self, $earlier) = @_;
    my @both = grep { defined $earlier->{children}{$_} } keys %{ $self->{children} };
    return (sort { $b <=> $a } map { $self->{children}{$_} - $earlier->{children}{$_} } @both)[0];
}

1;
