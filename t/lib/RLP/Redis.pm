# Licensed under the Apache License, Version 2.0; see LICENSE.

# Redis servers of a test's own, on ports of the loopback, which the test starts, stops and kills; they end with it.
# REDIS_SERVER names the program.

package RLP::Redis;

use strict;
use warnings;

use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw(time);

use parent 'RLP::Process';

use RLP::Httpd;

our ($program) = grep { $_ && -x } $ENV{REDIS_SERVER}, map { "$_/redis-server" } split(/:/, $ENV{PATH}), '/usr/bin', '/usr/local/bin';

my $patience = 20; # seconds for any reply

# What is missing for tests of Redis in httpd, or nothing.
sub missing {
    return RLP::Httpd::missing() if RLP::Httpd::missing();
    return 'the module was built without Redis' if !RLP::Httpd::has_redis();
    return $program ? '' : 'redis-server is missing (Debian: redis-server)';
}

# port: instead of any. options: of the server, as a list. file: the text of a configuration file.
sub new {
    my ($class, %option) = @_;
    my $self = bless { options => [], port => RLP::Httpd::free_port(), %option }, $class;
    $self->{dir} = File::Temp->newdir('rlp-redis-XXXXXX', TMPDIR => 1);
    RLP::Httpd::spill("$self->{dir}/redis.conf", $self->{file}) if $self->{file};
    return $self;
}

sub port { return $_[0]{port} }
sub dir { return "$_[0]{dir}" }

# Starts it, with more options; it answers, though it may have no more to say than that it loads.
sub start {
    my ($self, @options) = @_;
    $self->spawn("$self->{dir}/log", $program, $self->{file} ? "$self->{dir}/redis.conf" : (), '--port', $self->{port},
        '--bind', '127.0.0.1', '--dir', "$self->{dir}", @{ $self->{options} }, @options);
    RLP::Httpd::wait_for(sub { !$self->alive || defined $self->ask('PING') });
    die "redis-server did not start:\n" . RLP::Httpd::slurp("$self->{dir}/log") if !defined $self->ask('PING');
    return $self;
}

# A server alone, which keeps nothing on its disk.
sub alone {
    my ($class, @options) = @_;
    return $class->new(options => ['--save', '', '--appendonly', 'no', @options])->start;
}

# At once; it ends so with the test, too.
sub kill9 {
    my ($self) = @_;
    close delete $self->{socket} if $self->{socket};
    kill 'KILL', $self->{pid} if $self->alive;
    return RLP::Httpd::wait_for(sub { !$self->alive });
}

sub stop { return $_[0]->kill9 }
sub suspend { return kill 'STOP', $_[0]{pid} }
sub resume { return kill 'CONT', $_[0]{pid} }

# --- commands

# A connection of the test, which it keeps: maxclients and the like may not shut it out.
sub socket {
    my ($self) = @_;
    $self->{socket} //= IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}, Timeout => 5);
    return $self->{socket};
}

# What it answers to a command given as words: text, a reference to a list, or "-" and the error; nothing if it is
# not there.
sub ask {
    my ($self, @words) = @_;
    my $socket = $self->socket or return;
    my $answer;
    $self->{in} = '';
    if (print {$socket} '*' . @words . "\r\n" . join '', map { '$' . length() . "\r\n$_\r\n" } @words) {
        $socket->flush;
        $answer = $self->reply($socket);
    }
    close delete $self->{socket} if !defined $answer;
    return $answer;
}

sub more {
    my ($self, $socket, $end) = @_;
    my $left = $end - time;
    return $left > 0 && IO::Select->new($socket)->can_read($left) && sysread $socket, $self->{in}, 65536, length $self->{in};
}

# The next n bytes, or a line without its end.
sub take {
    my ($self, $socket, $n, $end) = @_;
    while (defined $n ? length $self->{in} < $n : $self->{in} !~ /\r\n/) {
        $self->more($socket, $end) or return;
    }
    return substr $self->{in}, 0, $n // index($self->{in}, "\r\n") + 2, '';
}

sub reply {
    my ($self, $socket) = @_;
    my $end = time + $patience;
    my ($type, $rest) = ($self->take($socket, undef, $end) // return) =~ /\A(.)(.*)\r\n\z/s;
    return "-$rest" if $type eq '-';
    return $rest if $type eq '+' || $type eq ':';
    if ($type eq '$') {
        return $rest < 0 ? '' : substr $self->take($socket, $rest + 2, $end) // return, 0, $rest;
    }
    my @list;
    for (1 .. $rest) {
        push @list, $self->reply($socket) // return;
    }
    return \@list;
}

# Adds what has come without a question, as after MONITOR, to a text; false where nothing has.
sub heard {
    my ($self, $text) = @_;
    my $more = $self->more($self->socket, time + 0.1);
    $$text .= substr $self->{in}, 0, length $self->{in}, '';
    return $more;
}

# Asks until the answer matches; dies after the deadline.
sub await {
    my ($self, $pattern, @words) = @_;
    my $answer;
    RLP::Httpd::wait_for(sub { $answer = $self->ask(@words); defined $answer && $answer =~ $pattern })
        or die "@words: " . ($answer // 'no answer') . "\n";
    return $answer;
}

# The keys that match a pattern.
sub keys_like {
    my ($self, $pattern) = @_;
    return sort @{ $self->ask('KEYS', $pattern // '*') };
}

# The keys without a TTL.
sub lasting {
    my ($self) = @_;
    $self->ask('READONLY'); # a replica of a Cluster, too
    return grep { $self->ask('PTTL', $_) == -1 } $self->keys_like;
}

# How often a command was called, since CONFIG RESETSTAT.
sub calls {
    my ($self, $command) = @_;
    my ($calls) = $self->ask('INFO', 'commandstats') =~ /^cmdstat_\Q$command\E:calls=(\d+)/m;
    return $calls // 0;
}

1;
