# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Delay in httpd, figures and never a verdict: delay.pl BUILD. Environment: HTTPD, HTTPD_MODULES.
#
# Four threads, of which three may sleep. How long another path takes while 40 clients queue, beside an
# idle server; and how late those who sleep get their answers. One line of JSON.
use strict;
use warnings;
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use POSIX qw(_exit);
use Time::HiRes qw(clock_gettime sleep time CLOCK_MONOTONIC);

use lib dirname($0) . '/../lib';
use RLP::Basics qw(free_port);

my $main = $$;
my ($build) = @ARGV;
my ($clients, $probes, $turns, $period) = (40, 600, 100, 0.05);
my ($httpd, $modules) = @ENV{qw(HTTPD HTTPD_MODULES)};
my $scratch = tempdir('delay.XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $server  = 0;
my @load;

$SIG{$_} = sub { exit 130 } for qw(INT TERM);
END {
    if ($$ == $main) {
        my $status = $?;
        kill 'KILL', @load if @load;
        stop() if $server;
        $? = $status;
    }
}

# The whole server, which has a process group of its own.
sub stop {
    kill 'TERM', -$server;
    for (1 .. 100) {
        last if waitpid($server, POSIX::WNOHANG()) != 0;
        sleep 0.05;
    }
    kill 'KILL', -$server;
    $server = 0;
    return;
}

sub now { return clock_gettime(CLOCK_MONOTONIC) }

sub median { my @v = sort { $a <=> $b } @_; return $v[$#v / 2] }

my $port = free_port();

sub configure {
    open my $out, '>', "$scratch/httpd.conf" or die "httpd.conf: $!\n";
    print $out <<"CONF";
ServerRoot "$scratch"
DefaultRuntimeDir "$scratch"
PidFile "$scratch/pid"
ServerName localhost
Listen 127.0.0.1:$port
ErrorLog "$scratch/error.log"
LogLevel error
LoadModule mpm_event_module "$modules/mod_mpm_event.so"
LoadModule authz_core_module "$modules/mod_authz_core.so"
LoadModule ratelimit_plans_module "$build/.libs/mod_ratelimit_plans.so"
ThreadsPerChild 4
ThreadLimit 4
MaxRequestWorkers 4
ServerLimit 1
StartServers 1
MinSpareThreads 1
MaxSpareThreads 4
# as many connections as there are clients, though few threads are idle
AsyncRequestWorkerFactor 50
KeepAliveTimeout 60
MaxKeepAliveRequests 0
DocumentRoot "$scratch/www"
<Directory />
    Require all granted
</Directory>
RateLimitEngine On
RateLimitDelay max=2s budget=75%
<Location /queue>
    RateLimitRule queue rate=20/s burst=1 key=global action=delay
</Location>
<Location /turns>
    RateLimitRule turns rate=20/s burst=1 key=global action=delay
</Location>
CONF
    close $out;
    mkdir "$scratch/www";
    for my $name (qw(free queue turns)) {
        open my $file, '>', "$scratch/www/$name" or die "$name: $!\n";
        print $file '0' x 64;
        close $file;
    }
    system 'chmod', '-R', 'a+rwX', $scratch;
    return;
}

sub start {
    my @command = ($httpd, '-D', 'FOREGROUND', '-f', "$scratch/httpd.conf");

    @command = (qw(setpriv --reuid=www-data --regid=www-data --clear-groups --), @command) if $> == 0;
    $server = fork;
    if ($server == 0) {
        setpgrp 0, 0;
        open STDOUT, '>', "$scratch/out";
        open STDERR, '>&', \*STDOUT;
        exec { $command[0] } @command or _exit(1);
    }
    setpgrp $server, $server;
    for (1 .. 200) {
        return if connection();
        sleep 0.05;
    }
    system "cat '$scratch/out' '$scratch/error.log' >&2";
    die "the server did not start\n";
}

sub connection { return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5) }

sub complete {
    my ($head, $body) = split /\r\n\r\n/, $_[0], 2;

    return defined $body && $head =~ /^content-length: (\d+)/im && length $body >= $1;
}

# The answer over a connection; empty when there is none.
sub answer {
    my ($socket, $path) = @_;
    my $got = '';

    local $SIG{PIPE} = 'IGNORE';
    local $SIG{ALRM} = sub { die "no answer within ten seconds\n" };
    alarm 10;
    syswrite $socket, "GET /$path HTTP/1.1\r\nHost: localhost\r\n\r\n";
    until (complete($got)) {
        last if !sysread $socket, $got, 8192, length $got;
    }
    alarm 0;
    return complete($got) ? $got : '';
}

# The status of one request, 0 for none. A kept connection that httpd has closed in between, as it does
# when all threads are busy, is made again.
sub request {
    my ($socket, $path) = @_;
    my $got = $$socket ? answer($$socket, $path) : '';

    if ($got eq '') {
        $$socket = connection();
        $got = answer($$socket, $path) if $$socket;
    }
    return $got =~ m{^HTTP/1\.1 (\d+)} ? $1 : 0;
}

# The median milliseconds of a path without limits.
sub probe {
    my ($socket, @took);

    request(\$socket, 'free') for 1 .. 20;
    for (1 .. $probes) {
        my $begin = now();
        while (request(\$socket, 'free') != 200) { }
        push @took, (now() - $begin) * 1000;
        sleep 0.005;
    }
    return median(@took);
}

# Clients that queue until the end, and pause as long as a refusal says; each counts what it got.
sub queue {
    my ($end) = @_;
    my ($socket, %got);

    while (now() < $end) {
        my $status = request(\$socket, 'queue');
        $got{$status}++;
        sleep 0.8 + rand 0.4 if $status != 200;
    }
    return join ' ', map { $got{$_} || 0 } 200, 429, 0;
}

sub load {
    my ($end) = @_;
    my @pipes;

    for (1 .. $clients) {
        pipe my $read, my $write or die "pipe: $!\n";
        my $pid = fork;
        if ($pid == 0) {
            srand $$;
            syswrite $write, queue($end) . "\n";
            _exit(0);
        }
        push @load, $pid;
        push @pipes, $read;
    }
    return @pipes;
}

# A client by itself has its answers a period apart from the instant its first request was served, which is
# not before it was sent: milliseconds after the turns, no less than they were.
sub lateness {
    my ($socket, @late);

    request(\$socket, 'free');
    my $begin = now();
    for my $i (0 .. $turns) {
        request(\$socket, 'turns') == 200 or die "a turn was refused\n";
        push @late, (now() - $begin - $i * $period) * 1000 if $i > 0;
    }
    return @late;
}

configure();
start();
my $idle = probe();
my @late = lateness();
my @pipes = load(now() + 8);
sleep 1;
my $busy = probe();
my @got = (0, 0, 0);
for my $pipe (@pipes) {
    my @line = split ' ', <$pipe> || '0 0 0';
    $got[$_] += $line[$_] for 0 .. 2;
}
waitpid $_, 0 for @load;
@load = ();
printf '{"threads":4,"sleepers":3,"clients":%d,"idle_ms":%.3f,"busy_ms":%.3f,"ratio":%.2f,"served":%d,"refused":%d,'
    . '"failed":%d,"turns":%d,"late_ms":%.3f,"late_max_ms":%.3f}' . "\n",
    $clients, $idle, $busy, $busy / $idle, @got, scalar @late, median(@late), (sort { $b <=> $a } @late)[0];
