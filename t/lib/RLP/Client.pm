# Licensed under the Apache License, Version 2.0; see LICENSE.
package RLP::Client;

# A client that hides nothing: requests are sent as they are written, and a field that came twice is there twice.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw(time);

my $deadline = 20; # seconds for one answer; only a broken server takes as long

# A connection to a port on the loopback address.
sub new {
    my ($class, $port) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => $deadline)
        or die "no connection to 127.0.0.1:$port: $!\n";
    $socket->autoflush(1);
    return bless { socket => $socket, buffer => '' }, $class;
}

sub send_text {
    my ($self, $text) = @_;
    local $SIG{PIPE} = 'IGNORE';
    print { $self->{socket} } $text;
    return $self;
}

# The text of a request. Fields are given as name => value; Content-Length goes with a body.
sub request_text {
    my ($method, $path, $body, @fields) = @_;
    my $text = "$method $path HTTP/1.1\r\n";
    push @fields, 'Content-Length' => length $body if defined $body;
    while (my ($name, $value) = splice @fields, 0, 2) {
        $text .= "$name: $value\r\n";
    }
    return "$text\r\n" . ($body // '');
}

# Reads one response; undef when the server has closed instead. Without a body: an answer to HEAD.
sub response {
    my ($self, $without_body) = @_;
    while ($self->{buffer} !~ /\r\n\r\n/) {
        return if !$self->more;
    }
    my ($head, $rest) = split /\r\n\r\n/, $self->{buffer}, 2;
    $self->{buffer} = $rest;
    my ($first, @lines) = split /\r\n/, $head;
    my ($status) = $first =~ m{^HTTP/1[.]1 (\d{3})} or die "not HTTP: $first\n";
    my $response = bless { status => $status, fields => [ map { [ split /:\s*/, $_, 2 ] } @lines ] },
        'RLP::Client::Response';
    if ($status == 100) {
        return $self->response($without_body);
    }
    $response->{body} = $without_body || $status == 304 || $status == 204 ? '' : $self->body($response);
    return $response;
}

sub body {
    my ($self, $response) = @_;
    if (($response->header('Transfer-Encoding') || '') eq 'chunked') {
        my $body = '';
        while (1) {
            my $size = hex $self->line;
            $body .= $self->octets($size);
            $self->line;
            return $body if $size == 0;
        }
    }
    my $length = $response->header('Content-Length');
    if (defined $length) {
        return $self->octets($length);
    }
    1 while $self->more;
    my $body = $self->{buffer};
    $self->{buffer} = '';
    return $body;
}

sub line {
    my ($self) = @_;
    while ($self->{buffer} !~ /\n/) {
        $self->more or die "the server closed in the middle of a line\n";
    }
    $self->{buffer} =~ s/^(.*?)\r?\n//;
    return $1;
}

sub octets {
    my ($self, $n) = @_;
    while (length $self->{buffer} < $n) {
        $self->more or die "the server closed in the middle of a body\n";
    }
    return substr $self->{buffer}, 0, $n, '';
}

# Waits for more; false when the server has closed.
sub more {
    my ($self) = @_;
    IO::Select->new($self->{socket})->can_read($deadline) or die "no answer within $deadline seconds\n";
    my $n = sysread $self->{socket}, $self->{buffer}, 65_536, length $self->{buffer};
    return $n;
}

# Is there something to read, or comes before the deadline?
sub ready {
    my ($self, $within) = @_;
    return length $self->{buffer} || IO::Select->new($self->{socket})->can_read($within) ? 1 : 0;
}

# Has the server closed the connection, or does so before the deadline?
sub closed {
    my ($self, $within) = @_;
    IO::Select->new($self->{socket})->can_read($within || $deadline) or return 0;
    my $n = sysread $self->{socket}, $self->{buffer}, 1, length $self->{buffer};
    return !$n;
}

package RLP::Client::Response;

use strict;
use warnings;

sub status { return $_[0]{status} }
sub body { return $_[0]{body} }

# All values of a field, in order.
sub all {
    my ($self, $name) = @_;
    return map { $_->[1] } grep { lc $_->[0] eq lc $name } @{ $self->{fields} };
}

# The value of a field that came once; undef for none.
sub header {
    my ($self, $name) = @_;
    my @all = $self->all($name);
    die "the field $name came " . @all . " times: @all\n" if @all > 1;
    return $all[0];
}

# Names of fields that match, as they came.
sub names {
    my ($self, $pattern) = @_;
    return grep { /$pattern/i } map { $_->[0] } @{ $self->{fields} };
}

1;
