# Licensed under the Apache License, Version 2.0; see LICENSE.

# Runs rlpctl with what it reads, and keeps what it says; files for it to read, and scripted peers to ask.

package RLP::Rlpctl;

use strict;
use warnings;

use Exporter qw(import);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use POSIX ();
use Test::More;

use RLP::Basics qw(slurp spill);

our @EXPORT_OK = qw($dir peer refused rlpctl scratch);
our $dir = tempdir(CLEANUP => 1);

my $program = $ENV{RLPCTL} || 'rlpctl/rlpctl';

# Exit status, what it printed and what it complained of.
sub rlpctl {
    my ($input, @args) = @_;
    my ($in, $out, $err) = map { File::Temp->new } 1 .. 3;
    binmode $in;
    print {$in} $input;
    $in->flush;
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        open STDIN, '<', $in->filename or POSIX::_exit(127);
        open STDOUT, '>', $out->filename or POSIX::_exit(127);
        open STDERR, '>', $err->filename or POSIX::_exit(127);
        exec { $program } $program, @args or POSIX::_exit(127);
    }
    # one that waits for what never comes ends the test, not the patience of who runs it
    local $SIG{ALRM} = sub { kill 'KILL', $pid; die "rlpctl @args does not end\n" };
    alarm 300;
    waitpid $pid, 0;
    alarm 0;
    my $status = $? & 127 ? 'signal ' . ($? & 127) : $? >> 8;
    return ($status, map { slurp($_->filename) // '' } $out, $err);
}

# A file in the directory; its path.
sub scratch {
    my ($name, @text) = @_;
    return spill("$dir/$name", join '', @text);
}

# A row of what is refused: the name of the test, what is read, the arguments, exit status and complaint.
sub refused {
    my ($name, $input, $args, $wanted, $complaint) = @_;
    my ($status, $out, $err) = rlpctl($input, @{$args});
    my ($first) = split /\n/, $err;
    ok("$status" eq "$wanted" && ($first // '') =~ $complaint, "$name: $wanted") or diag("$status: $err");
    return ($out, $err);
}

# A server of this script: calls the function with each connection in turn, and ends with them. Its port and its process.
sub peer {
    my (@scripts) = @_;
    my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', Proto => 'tcp') or die "listen: $!\n";
    my $port = $listener->sockport;
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        local $SIG{PIPE} = 'IGNORE';
        alarm 300; # nor does it outlive who is gone
        for my $script (@scripts) {
            my $socket = $listener->accept or last;
            binmode $socket;
            $socket->autoflush(1);
            $script->($socket);
            close $socket;
        }
        POSIX::_exit(0);
    }
    return ($port, $pid);
}

1;
