# Licensed under the Apache License, Version 2.0; see LICENSE.

# A client of HTTP/2 that speaks no more of it than the tests need, and shows what it got: statuses of streams, which
# of them have ended or were reset.

package RLP::Http2;

use strict;
use warnings;

use Exporter qw(import);
use Time::HiRes qw(time);

our @EXPORT = qw(frame h2_answers h2_ask h2_begin h2_reset);

sub frame {
    my ($type, $flags, $stream, $text) = @_;
    return substr(pack('N', length $text), 1) . pack('CCN', $type, $flags, $stream) . $text;
}

# The client's part of the beginning: no table of header fields to remember.
sub h2_begin {
    my ($server, $pushes) = @_;
    my $connection = $server->connection;
    $connection->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(4, 0, 0, pack 'nNnN', 1, 0, 2, $pushes ? 1 : 0));
    return { connection => $connection, stream => -1, status => {}, ended => {}, reset => {}, away => '' };
}

# One request; its body, if there is one, may come later or never.
sub h2_ask {
    my ($h2, $method, $path) = @_;
    my %code = (GET => "\x82", POST => "\x83");
    my $stream = $h2->{stream} += 2;
    $h2->{text} .= frame(1, $method eq 'GET' ? 5 : 4, $stream,
        "$code{$method}\x86\x04" . pack('C/a', $path) . "\x01" . pack('C/a', 'localhost'));
    return $stream;
}

# One frame of the server.
sub h2_frame {
    my ($h2, $end) = @_;
    my $connection = $h2->{connection};
    $connection->need(9, $end) or return 0;
    my ($high, $low, $type, $flags, $stream) = unpack 'CnCCN', substr $connection->{in}, 0, 9;
    my $length = $high << 16 | $low;
    $connection->need(9 + $length, $end) or return 0;
    my $text = substr substr($connection->{in}, 0, 9 + $length, ''), 9;

    if ($type == 1) { # HEADERS: the status is first, as a word of its own or a known one
        $text =~ s/\A[\x20-\x3f]+//;
        $h2->{status}{$stream} = $text =~ /\A\x88/ ? 200 : $text =~ /\A[\x08\x18\x48]\x03(\d{3})/ ? $1 : '?';
    } elsif ($type == 4 && !($flags & 1)) {
        $connection->send(frame(4, 1, 0, ''));
    } elsif ($type == 6 && !($flags & 1)) {
        $connection->send(frame(6, 1, 0, $text));
    }
    $h2->{ended}{$stream} = 1 if $type <= 1 && $flags & 1;
    $h2->{reset}{$stream} = unpack 'N', $text if $type == 3;
    $h2->{away} = unpack 'x4N', $text if $type == 7;
    return 1;
}

# Sends what has been asked, in one write; the statuses of the streams.
sub h2_answers {
    my ($h2, $seconds, @streams) = @_;
    my $end = time + $seconds;
    $h2->{connection}->send(delete $h2->{text});
    while (grep { !$h2->{ended}{$_} && !defined $h2->{reset}{$_} } @streams) {
        last if !h2_frame($h2, $end);
    }
    return join ' ', map { $h2->{status}{$_} // 0 } @streams;
}

# Takes a stream back.
sub h2_reset {
    my ($h2, $stream) = @_;
    return $h2->{connection}->send(frame(3, 0, $stream, pack 'N', 8));
}

1;
