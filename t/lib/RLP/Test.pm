# Licensed under the Apache License, Version 2.0; see LICENSE.
package RLP::Test;

# For tests against the httpd of t/TEST.PL: requests to the virtual host of the test's name, NAME.test for t/NAME.t,
# and its clock. A case is a script of instants and answers:
#
#   script 'T-01: five a minute, five at once', '/c/t-01', '0: A4 A3 A2 A1 A0', '0: D12', '12: A0 D12';
#
# A4 is "allowed, 4 left", D12 "refused, come back in 12 seconds", D "refused for good", another status stands for itself.
# T*COST sends X-Cost: COST.

use strict;
use warnings;

use Exporter qw(import);
use RLP::Basics qw(wait_for);
use RLP::Client;
use RLP::Clock;
use Test::More;

our @EXPORT = qw(answer answers ask at begin clock crowd fields gate get hits host request script statuses together wait_for);

my $clock;
my ($host) = $0 =~ m{([^/]+)[.]t$};

# The shared server's clock.
sub clock {
    return $clock ||= RLP::Clock->new($ENV{RLP_CLOCK});
}

sub begin { return clock()->begin }
sub at { return clock()->at(@_) }

# The virtual host that requests go to: NAME.test for t/NAME.t, unless a test names another.
sub host {
    ($host) = @_ if @_;
    return $host =~ /[.]/ ? $host : "$host.test";
}

# One request on a connection of its own, or on the one given as connection; port for another server.
# Everything else are header fields; they may replace Host.
sub request {
    my ($method, $path, %field) = @_;
    my $connection = delete $field{connection} || RLP::Client->new(delete $field{port} || $ENV{RLP_PORT});
    my $body = delete $field{body};
    $field{Host} = host() if !exists $field{Host};
    $connection->send_text(RLP::Client::request_text($method, $path, $body, %field));
    return $connection->response($method eq 'HEAD');
}

sub get { return request('GET', @_) }

# One request on a connection of its own, to the end: what httpd does after a response is done when it has closed.
# Another method may be given.
sub ask {
    my ($path, %field) = @_;
    my $method = delete $field{method} || 'GET';
    my $connection = RLP::Client->new($ENV{RLP_PORT});
    my $response = request($method, $path, %field, Connection => 'close', connection => $connection);
    $connection->closed or die "httpd keeps a connection that was to be closed\n";
    return $response;
}

# Sends n requests at once and reads the answers until only so many wait for theirs: the answers, and the connections
# of those.
sub crowd {
    my ($n, $held, $path) = @_;
    my $text = RLP::Client::request_text('GET', $path, undef, Host => host(), Connection => 'close');
    my @waiting = map { RLP::Client->new($ENV{RLP_PORT}) } 1 .. $n;
    $_->send_text($text) for @waiting;
    my @responses;
    wait_for(
        sub {
            my %ready = map { $_ => 1 } grep { $_->ready(0) } @waiting;
            push @responses, map { $_->response } grep { $ready{$_} } @waiting;
            @waiting = grep { !$ready{$_} } @waiting;
            return @waiting <= $held;
        }
    );
    return (\@responses, @waiting);
}

# The same request that many times at once: all are on their way before the first answer is read.
sub together {
    my ($n, $path, %field) = @_;
    my $text = RLP::Client::request_text('GET', $path, undef, Host => host(), Connection => 'close', %field);
    my @connections = map { RLP::Client->new($ENV{RLP_PORT}) } 1 .. $n;
    $_->send_text($text) for @connections;
    my @responses;
    while (my $connection = shift @connections) { # closed as soon as it has answered: httpd waits for that
        push @responses, $connection->response;
    }
    return @responses;
}

# A response as a script writes it.
sub answer {
    my ($response) = @_;
    return 'closed' if !defined $response;
    my $left = $response->header('X-RateLimit-Remaining');
    return 'D' . ($response->header('Retry-After') // '') if $response->status == 429;
    return $response->status if $response->status != 200;
    return defined $left ? "A$left" : 'A';
}

# The answers to n requests on one connection.
sub answers {
    my ($n, $path, %field) = @_;
    my $connection = $field{connection} || RLP::Client->new(delete $field{port} || $ENV{RLP_PORT});
    return join ' ', map { answer(get($path, %field, connection => $connection)) } 1 .. $n;
}

# The statuses of n requests.
sub statuses {
    my ($n, $path, %field) = @_;
    return join ' ', map { get($path, %field)->status } 1 .. $n;
}

# Plays a script against a path from a new t=0 on; lines are "T: ANSWER...", as many requests as answers.
sub script {
    my ($name, $path, @lines) = @_;
    my @happened;
    begin();
    for my $line (@lines) {
        my ($head, $t, $cost, $expected) = $line =~ /^(([\d.]+)(?:[*]([\d.]+))?: )(.*)$/
            or die "not a line of a script: $line\n";
        my @field = defined $cost ? ('X-Cost' => $cost) : ();
        at($t);
        push @happened, $head . answers(scalar(my @n = split ' ', $expected), $path, @field);
    }
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is(join("\n", @happened), join("\n", @lines), $name);
}

# Our header fields of a response, "Name: value" each, in order; nothing else.
sub fields {
    my ($response) = @_;
    return join "\n", map { "$_->[0]: $_->[1]" }
        grep { $_->[0] =~ /^(?:X-RateLimit|RateLimit|Retry-After)/i } @{ $response->{fields} };
}

# How often a script of t/htdocs/cgi ran as /cgi/SCRIPT/NAME.
sub hits {
    my ($name) = @_;
    open my $in, '<', "$ENV{RLP_TOP}/t/logs/hits.$name" or return 0;
    my @lines = <$in>;
    close $in;
    return scalar @lines;
}

# Opens the gate that /cgi/gate/NAME waits at before it does what /cgi/hit/NAME does; or closes it.
sub gate {
    my ($name, $open) = @_;
    my $file = "$ENV{RLP_TOP}/t/logs/gate.$name";
    return unlink $file if !$open;
    open my $out, '>', $file or die "$file: $!\n";
    return close $out;
}

1;
