# Licensed under the Apache License, Version 2.0; see LICENSE.

# The server behind a tested one: it counts the requests that are in flight, and answers when it is told to.
#
# A request is in flight from the last octet of its head until it is answered, or its connection ends: that lies
# within the time in which httpd has it, as long as an end is seen before the beginning that it made room for. The
# other side closes before it lets go, so each end is there to be read by then, or (two processors) an instant
# later: when there are too many, ends are looked for once more, while nobody is answered.

package RLP::Backend;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Socket qw(AF_UNIX PF_UNSPEC SOCK_STREAM);
use Time::HiRes qw(time);

my $late = 0.1; # seconds that the news of an end may take
my $patience = 30; # seconds for an answer to a command

# most: how many in flight are not too many.
sub new {
    my ($class, %option) = @_;
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 512, Blocking => 0)
        or die "no port on 127.0.0.1: $!\n";
    socketpair my $near, my $far, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die "socketpair: $!\n";
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        close $near;
        eval { RLP::Backend::Server->new($listener, $far, $option{most} // 1e9)->run; 1 } or warn $@;
        POSIX::_exit(0);
    }
    $near->autoflush(1);
    return bless { port => $listener->sockport, control => $near, pid => $pid, maker => $$ }, $class;
}

sub port { return $_[0]{port} }

sub DESTROY {
    my ($self) = @_;
    local ($?, $!, $@);
    return if $self->{maker} != $$;
    close $self->{control}; # of which it ends
    waitpid $self->{pid}, 0;
    return;
}

sub command {
    my ($self, @words) = @_;
    print { $self->{control} } "@words\n";
    IO::Select->new($self->{control})->can_read($patience) or die "the backend does not answer\n";
    my $answer = readline($self->{control}) // die "the backend has ended\n";
    chomp $answer;
    return $answer;
}

# From now on, requests are held until they are released.
sub hold { return $_[0]->command('hold') }

# From now on, each is answered after so many seconds, and those that are held at once.
sub serve {
    my ($self, $least, $most) = @_;
    return $self->command('serve', $least || 0, $most || $least || 0);
}

# Answers the first n that are held, or all; how many it were.
sub release { return $_[0]->command('release', $_[1] || 1e9) }

# Closes the connections of the requests for that path without an answer.
sub cut { return $_[0]->command('cut', $_[1]) }

# How many are in flight; the most that were since reset(); all that came since then; their paths in order of coming.
sub open { return $_[0]->command('open') }
sub most { return $_[0]->command('most') }
sub total { return $_[0]->command('total') }
sub paths { return split ' ', $_[0]->command('paths') }
sub reset { return $_[0]->command('reset') }

# Waits until so many are in flight; how many are.
sub until_open {
    my ($self, $n) = @_;
    RLP::Httpd::wait_for(sub { $self->open == $n });
    return $self->open;
}

package RLP::Backend::Server;

use strict;
use warnings;

use Time::HiRes qw(time);

sub new {
    my ($class, $listener, $control, $limit) = @_;
    $control->autoflush(1);
    return bless { listener => $listener, control => $control, limit => $limit, least => undef, connections => {},
        serial => 0, most => 0, total => 0, paths => [] }, $class;
}

sub run {
    my ($self) = @_;
    while (1) {
        my %ready = map { $_ => 1 } $self->readable($self->next_due);
        for my $connection (my @all = values %{ $self->{connections} }) { # reading ends some
            $self->read_more($connection) if $ready{ fileno($connection->{socket}) // '' }; # it may be closed by now
        }
        while (my $socket = $self->{listener}->accept) {
            $socket->blocking(0);
            $self->{connections}{ fileno $socket } = { socket => $socket, in => '' };
        }
        $self->answer($_) for grep { defined $_->{due} && $_->{due} <= time } $self->in_flight;
        if ($ready{ fileno $self->{control} }) {
            my $line = readline($self->{control}) // return;
            my ($command, @words) = split ' ', $line;
            my $method = "do_$command";
            print { $self->{control} } $self->$method(@words), "\n";
        }
    }
}

# Descriptors that can be read, after so many seconds at most.
sub readable {
    my ($self, $seconds, @only) = @_;
    my @numbers = @only ? @only
        : (fileno $self->{listener}, fileno $self->{control}, keys %{ $self->{connections} });
    my $bits = '';
    vec($bits, $_, 1) = 1 for @numbers;
    return if select($bits, undef, undef, $seconds) <= 0;
    return grep { vec $bits, $_, 1 } @numbers;
}

# Those in flight, in order of coming.
sub in_flight {
    my ($self) = @_;
    return sort { $a->{serial} <=> $b->{serial} } grep { $_->{serial} } values %{ $self->{connections} };
}

sub next_due {
    my ($self) = @_;
    my ($next) = sort { $a <=> $b } map { $_->{due} // () } $self->in_flight;
    return undef if !defined $next;
    return $next > time ? $next - time : 0;
}

sub end {
    my ($self, $connection) = @_;
    delete $self->{connections}{ fileno $connection->{socket} };
    close $connection->{socket};
    return;
}

sub read_more {
    my ($self, $connection) = @_;
    my $n = sysread $connection->{socket}, $connection->{in}, 65536, length $connection->{in};
    return if !defined $n && $!{EAGAIN};
    return $self->end($connection) if !$n;
    if ($connection->{tunnel}) {
        syswrite $connection->{socket}, $connection->{in};
        $connection->{in} = '';
    } elsif (!$connection->{serial} && $connection->{in} =~ /\r\n\r\n/) {
        $self->begin($connection);
    }
    return;
}

sub begin {
    my ($self, $connection) = @_;
    ($connection->{path}) = $connection->{in} =~ /^\S+ (\S+)/;
    $connection->{serial} = ++$self->{serial};
    $self->{total}++;
    push @{ $self->{paths} }, $connection->{path};
    $self->count;
    if ($connection->{in} =~ /^Upgrade: websocket\r$/mi) {
        $connection->{tunnel} = 1;
        $connection->{in} = '';
        syswrite $connection->{socket},
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    } elsif (defined $self->{least}) {
        $connection->{due} = time + $self->{least} + rand() * ($self->{most_wait} - $self->{least});
    }
    return;
}

# Takes note of how many are in flight, when all ends have been seen.
sub count {
    my ($self) = @_;
    my $end = time + $late;
    my $n = $self->do_open;
    while ($n > $self->{limit} && time < $end) {
        my @busy = map { fileno $_->{socket} } $self->in_flight;
        $self->read_more($_) for map { $self->{connections}{$_} } $self->readable($end - time, @busy);
        $n = $self->do_open;
    }
    $self->{most} = $n if $n > $self->{most};
    return;
}

# /status/404 is answered so; what httpd has asked has ended before it can know.
sub answer {
    my ($self, $connection) = @_;
    my $status = $connection->{path} =~ m{/status/(\d+)} ? "$1 As Told" : '200 OK';
    my $text = "$connection->{path}\n";
    syswrite $connection->{socket}, "HTTP/1.1 $status\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: "
        . length($text) . "\r\n\r\n$text";
    $self->end($connection);
    return;
}

sub do_hold {
    my ($self) = @_;
    $self->{least} = undef;
    return 'ok';
}

sub do_serve {
    my ($self, $least, $most) = @_;
    ($self->{least}, $self->{most_wait}) = ($least, $most);
    return $self->do_release(1e9);
}

sub do_release {
    my ($self, $n) = @_;
    my @held = grep { !$_->{tunnel} } $self->in_flight;
    @held = @held[ 0 .. $n - 1 ] if $n < @held;
    $self->answer($_) for @held;
    return scalar @held;
}

sub do_cut {
    my ($self, $path) = @_;
    my @cut = grep { $_->{path} eq $path } $self->in_flight;
    $self->end($_) for @cut;
    return scalar @cut;
}

sub do_open { return scalar(my @all = $_[0]->in_flight) }
sub do_most { return $_[0]{most} }
sub do_total { return $_[0]{total} }
sub do_paths { return join ' ', @{ $_[0]{paths} } }

sub do_reset {
    my ($self) = @_;
    ($self->{most}, $self->{total}, $self->{paths}) = ($self->do_open, 0, []);
    return 'ok';
}

1;
