# Licensed under the Apache License, Version 2.0; see LICENSE.

# A PostgreSQL of the test's own, in a directory of its own, reached through a socket in it; it ends with the test.

package RLP::Postgres;

use strict;
use warnings;

use File::Temp ();
use POSIX qw(WNOHANG);

use RLP::Httpd;

my @user = $> == 0 ? qw(setpriv --reuid=www-data --regid=www-data --clear-groups --) : ();
my %running; # by process id: who started it

# Where its programs are, or nothing.
sub programs {
    my ($bin) = grep { -x "$_/initdb" && -x "$_/postgres" } (sort { $b cmp $a } glob '/usr/lib/postgresql/*/bin'), '/usr/bin';
    return $bin;
}

# One that has a database "postgres" and the user "tester", and runs.
sub new {
    my ($class) = @_;
    # a name that fits into that of a socket
    my $self = bless { bin => programs(), temp => File::Temp->newdir('rlp-pg-XXXXXX', TMPDIR => 1) }, $class;

    $self->{dir} = $self->{temp}->dirname;
    chown +(getpwnam 'www-data')[2, 3], $self->{dir} if $> == 0;
    my $said = qx(cd / && @user $self->{bin}/initdb -D $self->{dir}/data -A trust -U tester -E UTF8 --locale=C --no-sync 2>&1);
    die "initdb: $said\n" if $?;
    return $self->start;
}

sub dir { return $_[0]{dir} }

sub start {
    my ($self) = @_;
    my $dir = $self->{dir};
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        chdir '/';
        open STDOUT, '>', "$dir/log" or POSIX::_exit(126);
        open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
        my @command = (@user, "$self->{bin}/postgres", '-D', "$dir/data", '-k', $dir, '-c', 'listen_addresses=', '-c', 'fsync=off');
        exec {$command[0]} @command or POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    $running{$pid} = $$;
    RLP::Httpd::wait_for(sub { system("$self->{bin}/pg_isready -q -h $dir") == 0 }) or die RLP::Httpd::slurp("$dir/log");
    return $self;
}

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    kill 'INT', $pid;
    RLP::Httpd::wait_for(sub { waitpid($pid, WNOHANG) != 0 });
    delete $running{$pid};
    return;
}

# To it and all of its processes.
sub signal {
    my ($self, $signal) = @_;
    my @all = ($self->{pid});
    for my $stat (glob '/proc/[0-9]*/stat') {
        my ($child, $parent) = RLP::Httpd::slurp($stat) =~ /^(\d+) \(.*\) \S (\d+)/s or next;
        push @all, $child if $parent == $self->{pid};
    }
    kill $signal, @all;
    return;
}

# Runs statements, each but the last with its semicolon.
sub sql {
    my ($self, @statements) = @_;
    open my $out, '|-', "$self->{bin}/psql", '-q', '-h', $self->{dir}, '-U', 'tester', '-d', 'postgres', '-v', 'ON_ERROR_STOP=1'
        or die "psql: $!\n";
    print {$out} @statements, ";\n";
    return close $out;
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $!, $@);
    $self->stop if $self->{pid} && ($running{ $self->{pid} } // 0) == $$;
    return;
}

END {
    my $status = $?;
    kill 'KILL', grep { $running{$_} == $$ } keys %running;
    $? = $status;
}

1;
