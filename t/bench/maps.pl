# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Plan maps of a million keys in httpd, figures and never a verdict: maps.pl BUILD. Environment: HTTPD,
# HTTPD_MODULES, RLP_MPM (event). One line of JSON: how long httpd takes to start beyond one without the map;
# memory of all its processes beyond the same; of requests that come one after another, the slowest and the 999th
# of a thousand, in five seconds with a new version of the map to read, by turns with five seconds of none: what
# else the machine does shows in both; the same start with a DBM file (of httxt2dbm), and with 3000 virtual hosts of
# a rule each.
use strict;
use warnings;
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use POSIX qw(_exit);
use Time::HiRes qw(clock_gettime sleep CLOCK_MONOTONIC);

use lib dirname($0) . '/../lib';
use RLP::Basics qw(free_port);

my $main = $$;
my ($build) = @ARGV;
my ($keys, $hosts, $reloads) = (1_000_000, 3000, 6);
my ($httpd, $modules) = @ENV{qw(HTTPD HTTPD_MODULES)};
my $mpm = $ENV{RLP_MPM} || 'event';
my $scratch = tempdir('maps.XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $server  = 0;

$SIG{$_} = sub { exit 130 } for qw(INT TERM);
END {
    if ($$ == $main) {
        my $status = $?;
        stop() if $server;
        $? = $status;
    }
}

sub now { return clock_gettime(CLOCK_MONOTONIC) }

sub median { my @v = sort { $a <=> $b } @_; return $v[$#v / 2] }

my $port = free_port();

# The whole server, which has a process group of its own.
sub stop {
    kill 'TERM', -$server;
    for (1 .. 200) {
        last if waitpid($server, POSIX::WNOHANG()) != 0;
        sleep 0.05;
    }
    kill 'KILL', -$server;
    $server = 0;
    return;
}

my $head = <<"CONF";
ServerRoot "$scratch"
DefaultRuntimeDir "$scratch"
PidFile "$scratch/pid"
ServerName localhost
Listen 127.0.0.1:$port
ErrorLog "$scratch/error.log"
LogLevel error
LoadModule mpm_${mpm}_module "$modules/mod_mpm_$mpm.so"
LoadModule authz_core_module "$modules/mod_authz_core.so"
LoadModule dir_module "$modules/mod_dir.so"
StartServers 2
MaxKeepAliveRequests 0
KeepAliveTimeout 60
DocumentRoot "$scratch/www"
<Directory />
    Require all granted
</Directory>
CONF
my $module = qq{LoadModule ratelimit_plans_module "$build/.libs/mod_ratelimit_plans.so"\nLogLevel ratelimit_plans:info\n};
my $plans = "RateLimitPlan free rate=1000000/s\nRateLimitPlan pro rate=2000000/s\nRateLimitIdentity key=header:X-Key ip\n"
    . "RateLimitEngine On\n";
my $rule = "RateLimitRule site rate=500000/s\n";

sub spill {
    my ($name, $text) = @_;
    open my $out, '>', "$scratch/$name" or die "$name: $!\n";
    print $out $text;
    close $out;
    return;
}

# The keys are of 32 digits.
sub write_map {
    my ($name, $n, $plan) = @_;
    open my $out, '>', "$scratch/$name" or die "$name: $!\n";
    print $out map { sprintf "%032x %s\n", $_, $_ == 1 ? $plan : 'free' } 1 .. $n;
    close $out;
    chmod 0644, "$scratch/$name";
    return;
}

sub connection { return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5) }

# Seconds from its command to the first answer.
sub start {
    my ($config) = @_;
    my @command = ($httpd, '-D', 'FOREGROUND', '-f', "$scratch/httpd.conf");

    spill('httpd.conf', $head . $config);
    @command = (qw(setpriv --reuid=www-data --regid=www-data --clear-groups --), @command) if $> == 0;
    my $begin = now();
    $server = fork;
    if ($server == 0) {
        setpgrp 0, 0;
        open STDOUT, '>', "$scratch/out";
        open STDERR, '>&', \*STDOUT;
        exec { $command[0] } @command or _exit(1);
    }
    setpgrp $server, $server;
    for (1 .. 10_000) {
        my $socket = connection();
        if ($socket && answer($socket, '')) {
            return now() - $begin;
        }
        sleep 0.005;
    }
    system "cat '$scratch/out' '$scratch/error.log' >&2";
    die "the server did not start\n";
}

# The limit that an answer tells, or a dash for none; nothing when there is no answer.
sub answer {
    my ($socket, $key) = @_;
    my $got = '';

    local $SIG{PIPE} = 'IGNORE';
    syswrite $socket, "GET / HTTP/1.1\r\nHost: localhost\r\n" . ($key ? "X-Key: $key\r\n" : '') . "\r\n";
    until ($got =~ /\r\n\r\n.*\n\z/s) {
        last if !sysread $socket, $got, 8192, length $got;
    }
    return if $got !~ m{^HTTP/1\.1 200};
    return $got =~ /^X-RateLimit-Limit: (\d+)/mi ? $1 : '-';
}

# The median of three starts, in seconds.
sub starts {
    my ($config) = @_;
    my @took;

    for (1 .. 3) {
        push @took, start($config);
        stop();
    }
    return median(@took);
}

# Of all processes, in MB; what they share is counted once.
sub memory {
    my $kb = 0;

    for my $stat (glob '/proc/[0-9]*/stat') {
        open my $in, '<', $stat or next;
        my ($pid, $group) = (<$in> // '') =~ /^(\d+) \(.*\) \S \d+ (\d+)/s or next;
        next if $group != $server;
        open my $maps, '<', "/proc/$pid/smaps_rollup" or next;
        $kb += (join('', <$maps>) =~ /^Pss:\s+(\d+)/m)[0] // 0;
    }
    return $kb / 1024;
}

sub reread {
    open my $in, '<', "$scratch/error.log" or return 0;
    return scalar grep { /RLP013/ } <$in>;
}

# The longest of requests within five seconds, and the 999th of a thousand, in milliseconds.
sub requests {
    my $socket = connection();
    my $end = now() + 5;
    my @took;

    while (now() < $end) {
        my $key = sprintf '%032x', 1 + int rand $keys;
        my $begin = now();
        $socket = connection() if !answer($socket, $key);
        push @took, (now() - $begin) * 1000;
        sleep 0.0005;
    }
    @took = sort { $a <=> $b } @took;
    return ($took[-1], $took[$#took * 0.999]);
}

mkdir "$scratch/www";
spill('www/index.html', "hello\n");
system 'chmod', '-R', 'a+rwX', $scratch;
write_map('keys', $keys, 'free');

my $bare = starts('');
my $with = starts("$module$plans$rule");
my $txt = starts("$module$plans${rule}RateLimitPlanMap key txt:keys\n");

start("$module$plans$rule");
my $memory_before = memory();
stop();
start("$module$plans${rule}RateLimitPlanMap key txt:keys\n");
my $memory = memory();
my (@idle, @busy);
for my $i (1 .. $reloads) {
    write_map('keys.new', $keys, $i % 2 ? 'pro' : 'free');
    sleep 0.5;
    push @idle, [requests()];
    my $before = reread();
    rename "$scratch/keys.new", "$scratch/keys";
    push @busy, [requests()];
    for (1 .. 100) {
        last if reread() > $before;
        sleep 0.1;
    }
    die "the map was not read again\n" if reread() == $before;
}
my $memory_after = memory();
stop();

my @dbm;
if (system("command -v httxt2dbm >/dev/null") == 0) {
    write_map('small', 1000, 'free');
    system "cd '$scratch' && httxt2dbm -i small -o small.dbm >/dev/null && httxt2dbm -i keys -o keys.dbm >/dev/null";
    chmod 0644, "$scratch/small.dbm", "$scratch/keys.dbm";
    push @dbm, starts("$module$plans${rule}RateLimitPlanMap key dbm:small.dbm\n");
    push @dbm, starts("$module$plans${rule}RateLimitPlanMap key dbm:keys.dbm\n");
} else {
    print "DBM files: not measured, httxt2dbm is missing\n";
}

my $vhosts = sub { join '', map { "<VirtualHost 127.0.0.1:$port>\nServerName h$_.example\n$_[0]</VirtualHost>\n" } 1 .. $hosts };
my $vhosts_bare = starts($vhosts->(''));
my $vhosts_with = starts("$module$plans${rule}RateLimitPlanMap key txt:keys\n" . $vhosts->($rule));

printf '{"mpm":"%s","keys":%d,"start_bare_s":%.3f,"start_module_s":%.3f,"start_txt_s":%.3f,"memory_txt_mb":%.1f,'
    . '"memory_after_reloads_mb":%.1f,"idle_max_ms":[%s],"reload_max_ms":[%s],"idle_999_ms":[%s],"reload_999_ms":[%s],"start_dbm_1000_s":%s,"start_dbm_s":%s,'
    . '"vhosts":%d,"start_vhosts_bare_s":%.3f,"start_vhosts_txt_s":%.3f}' . "\n",
    $mpm, $keys, $bare, $with, $txt, $memory - $memory_before, $memory_after - $memory_before,
    (map { my $rows = $_; join ',', map { sprintf '%.2f', $_->[0] } @{$rows} } \@idle, \@busy),
    (map { my $rows = $_; join ',', map { sprintf '%.2f', $_->[1] } @{$rows} } \@idle, \@busy), (map { defined ? sprintf '%.3f', $_ : 'null' } @dbm[0, 1]), $hosts, $vhosts_bare, $vhosts_with;
