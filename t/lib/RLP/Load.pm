# Licensed under the Apache License, Version 2.0; see LICENSE.

# Clients of many kinds that ask a server for a while, each in a process of its own, and then tell what they got:
# polite ones, those that hang up, those that read slowly, junk identities, streams of HTTP/2 that are reset.

package RLP::Load;

use strict;
use warnings;

use POSIX ();
use Time::HiRes qw(sleep time);

use RLP::Http2;
use RLP::Httpd;

my $pause = 0.01; # seconds after each request, or more: the machine has others to serve
my $keys = 50; # that the map may know
my %kind = (new => \&each_new, kept => \&kept, junk => \&junk, aborts => \&aborts, slow => \&slow, http2 => \&http2);

# Begins such clients on a server until that time: kinds, as often as they are to be. finish() has what they got.
sub begin {
    my ($class, $server, $until, @kinds) = @_;
    my $self = bless { from => [], maker => $$ }, $class;
    for my $name (@kinds) {
        my $pid = open my $from, '-|';
        die "fork: $!\n" if !defined $pid;
        if ($pid == 0) {
            my %got;
            srand $$;
            while (time < $until) {
                eval { $kind{$name}->($server, \%got); 1 } or $got{'0 /'}++; # nobody listens at this moment
                sleep $pause * (1 + rand 2);
            }
            syswrite STDOUT, join "\n", map {"$got{$_} $_"} keys %got;
            POSIX::_exit(0);
        }
        push @{ $self->{from} }, $from;
    }
    return $self;
}

# Waits for the end; how many answers of each "STATUS PATH", 0 for none.
sub finish {
    my ($self) = @_;
    my %sum;
    for my $from (@{ $self->{from} }) {
        for my $line (<$from>) {
            my ($n, $what) = $line =~ /^(\d+) (.+)/ or next;
            $sum{$what} += $n;
        }
        close $from;
    }
    return \%sum;
}

my @paths = qw(/plans /window /log /day /once /places /delay /leased /exact /index.html);

sub path { return $paths[ rand @paths ] }

sub small_path {
    my $path = path();
    return $path eq '/places' ? '/index.html' : $path;
}

sub some_key { return 'X-Key: k' . int rand $keys }

sub note {
    my ($got, $path, $response) = @_;
    $got->{ ($response ? $response->{status} : 0) . " $path" }++;
    return;
}

sub each_new {
    my ($server, $got) = @_;
    my $path = path();
    note($got, $path, eval { $server->get($path, some_key()) });
    return;
}

# A connection of its own for some requests.
sub kept {
    my ($server, $got) = @_;
    my $connection = $server->connection;
    for (1 .. 1 + rand 40) {
        my $path = path();
        $connection->send("GET $path HTTP/1.1\r\nHost: localhost\r\n" . some_key() . "\r\n\r\n");
        my $response = $connection->response('GET');
        note($got, $path, $response);
        last if !$response->{status} || ($response->{fields}{connection} // '') =~ /close/i;
        sleep $pause;
    }
    return;
}

# Each identity is another one.
sub junk {
    my ($server, $got) = @_;
    my $connection = $server->connection;
    for (1 .. 20) {
        $connection->send("GET /plans HTTP/1.1\r\nHost: localhost\r\nX-Key: junk" . int(rand 1e9) . "\r\n\r\n");
        my $response = $connection->response('GET');
        note($got, '/plans', $response);
        last if !$response->{status};
        sleep $pause / 2;
    }
    return;
}

# Hangs up in the middle of its request, or behind it.
sub aborts {
    my ($server, $got) = @_;
    my $path = (qw(/places /delay /leased /far))[ rand 4 ];
    my $text = "GET $path HTTP/1.1\r\nHost: localhost\r\n" . some_key() . "\r\n\r\n";
    my $connection = $server->connection;
    $connection->send(substr $text, 0, rand() < 0.3 ? rand length $text : length $text);
    sleep rand 0.1;
    $got->{"0 $path"}++;
    return;
}

# Keeps its place for some time, and may not read all.
sub slow {
    my ($server, $got) = @_;
    my $path = rand() < 0.5 ? '/places' : '/far';
    my $connection = $server->connection;
    $connection->send("GET $path HTTP/1.1\r\nHost: localhost\r\n\r\n");
    sleep rand 1;
    my $end = time + $RLP::Httpd::patience;
    for (1 .. rand 40) {
        last if !$connection->more($end);
    }
    $got->{"0 $path"}++;
    return;
}

# Some streams of one connection, of which one may be taken back. Responses are small: nobody here makes windows larger.
sub http2 {
    my ($server, $got) = @_;
    my $h2 = h2_begin($server);
    for (1 .. 1 + rand 5) {
        my @asked = map { my $path = small_path(); [ h2_ask($h2, 'GET', $path), $path ] } 1 .. 1 + rand 8;
        $h2->{text} .= frame(3, 0, $asked[0][0], pack 'N', 8) if rand() < 0.2;
        my @status = split ' ', h2_answers($h2, $RLP::Httpd::patience, map { $_->[0] } @asked);
        $got->{"$status[$_] $asked[$_][1]"}++ for 0 .. $#asked;
        last if grep { $_ eq '0' } @status;
        sleep $pause;
    }
    return;
}

1;
