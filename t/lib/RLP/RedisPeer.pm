# Licensed under the Apache License, Version 2.0; see LICENSE.

# What stands between httpd and Redis: passes all on, until it is told to do what a server or a network should not.

package RLP::RedisPeer;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(time);

use RLP::Httpd;

my %running; # by process id: who started it

# Passes on to a port, until do() says otherwise.
sub new {
    my ($class, $to) = @_;
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 64, ReuseAddr => 1)
        or die "no port on 127.0.0.1: $!\n";
    socketpair my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die "socketpair: $!\n";
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        close $ours;
        local $SIG{TERM} = 'DEFAULT';
        eval { serve($listener, $theirs, $to); 1 } or print {*STDERR} $@;
        POSIX::_exit(0);
    }
    close $theirs;
    $running{$pid} = $$;
    return bless { pid => $pid, control => $ours, port => $listener->sockport }, $class;
}

sub port { return $_[0]{port} }

# From now on, one of
#   pass               all as it is
#   slow SECONDS       replies are late
#   dribble SECONDS    a byte of a reply in so many
#   lose TEXT          who sends TEXT has no reply any more to what he sends; \r and \n are replaced
#   cut                nothing gets through in either direction, as when a cable is out
#   say TEXT           answers each command itself; \r, \n and PORT (its own) are replaced, and xN* by N times x
# and how many commands it has seen until now; with "lose", how often TEXT.
sub do {
    my ($self, @what) = @_;
    syswrite $self->{control}, "@what\n";
    sysread $self->{control}, my $seen, 64;
    return $seen;
}

END {
    my $status = $?;
    for my $pid (grep { $running{$_} == $$ } keys %running) {
        kill 'KILL', $pid;
        waitpid $pid, 0;
    }
    $? = $status;
}

# --- the process

my $mode = 'pass';
my $value = '';
my $seen = 0; # commands
my $heard = 0; # what was to be lost
my (%to, %in); # of a socket: its other end; what a client sent, but for whole commands
my %lost; # clients that have no reply any more
my @late; # [socket, bytes, when]

sub serve {
    my ($listener, $control, $port) = @_;
    my $select = IO::Select->new($listener, $control);
    while (1) {
        for my $socket ($select->can_read(@late ? 0.002 : 0.2)) {
            if ($socket == $control) {
                command($control, $listener->sockport) or return;
            } elsif ($mode eq 'cut') {
                select undef, undef, undef, 0.005; # unread, and unaccepted
            } elsif ($socket == $listener) {
                greet($listener, $port, $select);
            } else {
                pass($socket, $select);
            }
        }
        send_late();
    }
    return;
}

sub command {
    my ($control, $port) = @_;
    sysread $control, my $line, 1024 or return 0;
    chomp $line;
    ($mode, $value) = split / /, $line, 2;
    $value //= '';
    $value =~ s/\\r/\r/g;
    $value =~ s/\\n/\n/g;
    $value =~ s/PORT/$port/g;
    $value =~ s/x(\d+)\*/'x' x $1/e;
    my $n = $mode eq 'lose' ? $heard : $seen;
    syswrite $control, "$n\n";
    return 1;
}

sub greet {
    my ($listener, $port, $select) = @_;
    my $client = $listener->accept or return;
    my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or return;
    @to{ $client, $server } = ($server, $client);
    $in{$client} = '';
    $select->add($client, $server);
    return;
}

sub pass {
    my ($socket, $select) = @_;
    my $other = $to{$socket} or return;
    if (!sysread $socket, my $bytes, 65536) {
        $select->remove($socket, $other);
        delete @to{ $socket, $other };
        delete @in{ $socket, $other };
        delete @lost{ $socket, $other };
        close $_ for $socket, $other;
    } elsif (exists $in{$socket}) {
        from_client($socket, $other, $bytes);
    } else {
        from_server($other, $bytes);
    }
    return;
}

sub from_client {
    my ($client, $server, $bytes) = @_;
    $in{$client} .= $bytes;
    if ($mode eq 'lose' && index($in{$client}, $value) >= 0) {
        $lost{$client} = 1;
        $heard++;
    }
    my $n = whole(\$in{$client});
    $seen += $n;
    if ($mode eq 'say') {
        syswrite $client, $value x $n;
    } else {
        syswrite $server, $bytes;
    }
    return;
}

# Takes the commands that have come as a whole; how many.
sub whole {
    my ($in) = @_;
    my $n = 0;
    while ($$in =~ /\A\*(\d+)\r\n/g) {
        my ($left, $at) = ($1, pos $$in);
        while ($left > 0 && substr($$in, $at, 16) =~ /\A\$(\d+)\r\n/) {
            $at += length($1) + 5 + $1;
            $left--;
        }
        last if $left > 0 || $at > length $$in;
        substr $$in, 0, $at, '';
        $n++;
    }
    return $n;
}

sub from_server {
    my ($client, $bytes) = @_;
    if ($mode eq 'slow') {
        push @late, [$client, $bytes, time + $value];
    } elsif ($mode eq 'dribble') {
        my $at = time;
        push @late, map { [$client, $_, $at += $value] } split //, $bytes;
    } elsif ($mode ne 'say' && !$lost{$client}) {
        syswrite $client, $bytes;
    }
    return;
}

sub send_late {
    my $now = time;
    while (@late && $late[0][2] <= $now) {
        my ($client, $bytes) = @{ shift @late };
        syswrite $client, $bytes if $client->opened;
    }
    return;
}

1;
