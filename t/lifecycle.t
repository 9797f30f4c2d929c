#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Counters and the server's life: restarts, killed children, damaged store files, full disks, floods.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

# A rate so slow that the figures are exact where there is no test clock.
my $on = "RateLimitEngine On\nRateLimitRule site";
my $ten = "$on rate=10/week\n";

sub server {
    my ($config, %option) = @_;
    return RLP::Httpd->new(config => $config, clock => 1, %option);
}

sub remaining {
    my ($server) = @_;
    return $server->get('/index.html')->{fields}{'x-ratelimit-remaining'} // 'none';
}

sub mode {
    my ($file) = @_;
    return sprintf '%04o', (stat $file)[2] & 07777;
}

# Lines of the module's own about its store since the last start.
sub notes {
    my ($server) = @_;
    return grep { /RLP01\d|RateLimitStore/ } split /\n/, $server->said;
}

# Puts the number of another layout where the file has its own.
sub outdate {
    my ($file) = @_;
    open my $fh, '+<:raw', $file or return;
    return seek($fh, 8, 0) && print({$fh} pack('L', 4)) && close $fh;
}

# --- restarts

{
    my $server = server("RateLimitStore x shm size=1M file=store\n$ten");
    $server->start;
    is(remaining($server), 9, 'a fresh store');
    ok($server->graceful, 'graceful');
    is(remaining($server), 8, 'counters are the same after graceful');
    ok($server->restart, 'restart');
    is(remaining($server), 7, 'counters are the same after restart');
    ok($server->stop, 'stop');
    $server->start;
    is(remaining($server), 6, 'counters are the same after stop and start');
    is(join("\n", notes($server)), '', 'and nothing is said about it');
    is($server->statuses(7, '/index.html'), '200 200 200 200 200 200 429', 'the limit is that of all its lives');

    # another size
    my $size = -s $server->file('store');
    $server->configure("RateLimitStore x shm size=4M file=store\n$on rate=20/week\n");
    ok($server->graceful, 'graceful with another size=');
    my @notes = notes($server);
    is(scalar @notes, 1, 'one line notes the size that is not taken') or diag(join "\n", @notes);
    like($notes[0] // '', qr/\Q@{[$server->file('store')]}\E/, 'and names the store file');
    is(-s $server->file('store'), $size, 'the file has its size');
    is(remaining($server), 9, 'counters are kept, of the new limit');
    $server->stop;
    $server->start;
    is(-s $server->file('store'), 5 * 1024 * 1024, 'a full start takes the new size, and that of the annex');
    is(remaining($server), 8, 'with the counters kept');
    is(join("\n", notes($server)), '', 'and without a warning');
    $server->configure("RateLimitStore x shm size=1M file=store\n$on rate=20/week\n");
    $server->stop;
    $server->start;
    is(-s $server->file('store'), $size, 'back to the smaller size');
    is(remaining($server), 7, 'with the counters kept');

    # another file
    $server->configure("RateLimitStore x shm size=1M file=other\n$on rate=20/week\n");
    ok($server->graceful, 'graceful with another file=');
    @notes = notes($server);
    is(scalar @notes, 1, 'one line notes the file that is not taken') or diag(join "\n", @notes);
    like($notes[0] // '', qr/\Q@{[$server->file('store')]}\E/, 'and names the one that stays');
    is(remaining($server), 6, 'the old store is in use');
    ok(!-e $server->file('other'), 'the other file is not there');
    $server->stop;
    $server->start;
    is(remaining($server), 19, 'a full start takes the other file');
    ok(!-e $server->file('other.new') && !-e $server->file('store.new'), 'no file is left from making stores');

    # a rule added and taken away
    $server->configure("RateLimitStore x shm size=1M file=other\nRateLimitEngine Off\n");
    ok($server->graceful, 'graceful to RateLimitEngine Off');
    is(remaining($server), 'none', 'nothing is counted');
    $server->configure("RateLimitStore x shm size=1M file=other\n$on rate=20/week\n");
    ok($server->graceful, 'graceful to RateLimitEngine On');
    is(remaining($server), 18, 'the counter is still there');
    ok($server->stop, 'the server ends when it is told to');
}

{
    my $server = server("RateLimitEngine Off\n");
    $server->start;
    ok(!-e $server->file('run/ratelimit-default.shm'), 'a server without rules has no store');
    $server->configure($ten);
    ok($server->graceful, 'rules come with a graceful restart');
    is(remaining($server), 9, 'and a store with them');
    ok(-e $server->file('run/ratelimit-default.shm'), 'in the runtime directory');
    $server->stop;
}

# Time goes on while the server does not run, no more and no less.
SKIP: {
    skip 'there is no test clock', 4 if !RLP::Httpd::has_clock();
    my $server = server("$on rate=10/10s\n");
    $server->start;
    is($server->statuses(11, '/index.html'), join(' ', (200) x 10, 429), 'a rate is used up');
    $server->stop;
    $server->set_clock(3);
    $server->start;
    is($server->statuses(4, '/index.html'), '200 200 200 429', 'three seconds without a server are three seconds');
    ok($server->restart, 'restart');
    $server->set_clock(4);
    is($server->statuses(2, '/index.html'), '200 429', 'and the one after a restart is one');
    $server->stop;
}

# The store file deleted under a running server.
{
    my $server = server("RateLimitStore x shm size=1M file=store\n$ten");
    $server->start;
    is(remaining($server), 9, 'before the store file is deleted');
    unlink $server->file('store');
    is(remaining($server), 8, 'a deleted store file counts on');
    ok($server->graceful, 'graceful');
    is(remaining($server), 7, 'after graceful too');
    $server->stop;
    $server->start;
    is(remaining($server), 9, 'stop and start begin anew');
    $server->stop;
}

# A graceful restart loads the module anew: one of another version cannot read what is in memory.
for my $restart (qw(graceful restart)) {
    my $server = server("RateLimitStore x shm size=1M file=store\n$ten");
    $server->start;
    is(remaining($server), 9, "before the module of another version: $restart");
    ok(outdate($server->file('store')), 'the store is as another version has it');
    ok($server->$restart, 'the server goes on');
    is(remaining($server), 9, 'with an empty store');
    my @notes = notes($server);
    is(scalar @notes, 1, 'and one warning') or diag(join "\n", @notes);
    like($notes[0] // '', qr/RLP010: .*written by another version/, 'which says why');
    ok($server->$restart, 'once more');
    is(remaining($server), 8, 'which forgets nothing');
    my $second = server("RateLimitStore x shm size=1M \"file=@{[$server->file('store')]}\"\n$ten");
    like($second->try_start, qr/in use by another server/, 'no second server has its file');
    ok($server->stop, 'stop');
    $server->start;
    is(remaining($server), 7, 'the file is the one of its name');
    $server->stop;
}

# A wrong configuration at a restart ends httpd, as any module's; the counters outlive that too.
{
    my $server = server($ten);
    $server->start;
    is(remaining($server), 9, 'before a wrong configuration');
    $server->configure("RateLimitRule r rate=1/fortnight\n");
    ok(!$server->graceful, 'httpd refuses the wrong configuration');
    $server->configure($ten);
    $server->stop;
    $server->start;
    is(remaining($server), 8, 'and its counters are the same afterwards');
    $server->stop;
}

# --- children that are killed

{
    my $limit = 450;
    my $server = server("$on rate=$limit/week\nRateLimitRule hold rate=1000000/week\nRateLimitHeaders Off\n");
    my ($passed, $refused, $killed, $unanswered) = (0, 0, 0, 0);
    $server->start;

    for my $round (1 .. 24) {
        my @clients;
        for my $client (1 .. 4) {
            my $pid = open my $from, '-|';
            die "fork: $!\n" if !defined $pid;
            if ($pid == 0) {
                my %count;
                for (1 .. 6) {
                    my $response = eval { $server->get('/index.html') };
                    $count{ $response ? $response->{status} : 0 }++;
                }
                syswrite STDOUT, join ' ', map { $count{$_} // 0 } 200, 429, 0;
                POSIX::_exit(0);
            }
            push @clients, $from;
        }
        $killed += $server->kill9 for 1 .. 1 + $round % 2;
        for my $from (@clients) {
            my ($ok, $no, $none) = split ' ', readline $from;
            $passed += $ok;
            $refused += $no;
            $unanswered += $none;
            close $from;
        }
    }
    note("$passed passed, $refused refused, $unanswered unanswered, $killed children killed");
    cmp_ok($killed, '>=', 20, 'children were killed in mid-load');
    cmp_ok($passed, '<=', $limit, 'kill -9 of children never gives a fresh limit');
    cmp_ok($passed + $unanswered, '>=', $limit, 'and each unit lost is that of a request without an answer');
    cmp_ok($refused, '>', 0, 'the limit was reached');
    is($server->statuses(3, '/index.html'), '429 429 429', 'it is reached still, and the server answers');
    ok($server->graceful, 'graceful after that');
    is($server->get('/index.html')->{status}, 429, 'as before');
    ok($server->stop, 'stop after that');
    $server->start;
    is($server->get('/index.html')->{status}, 429, 'and after stop and start');
    is(join("\n", notes($server)), '', 'the store is sound');
    $server->stop;
}

# Graceful restarts in mid-load: each request is answered, and the limit is exact.
{
    my $limit = 300;
    my $server = server("$on rate=$limit/week\n");
    my (@clients, %count);
    $server->start;
    for my $client (1 .. 4) {
        my $pid = open my $from, '-|';
        die "fork: $!\n" if !defined $pid;
        if ($pid == 0) {
            my @statuses = map { my $response = eval { $server->get('/index.html') }; $response ? $response->{status} : 0 } 1 .. 150;
            syswrite STDOUT, "@statuses";
            POSIX::_exit(0);
        }
        push @clients, $from;
    }
    ok($server->graceful, "graceful in mid-load, $_") for 1 .. 3;
    for my $from (@clients) {
        $count{$_}++ for split ' ', readline $from;
        close $from;
    }
    is_deeply(\%count, { 200 => $limit, 429 => 600 - $limit }, 'graceful restarts in mid-load: exactly the limit passes, all is answered');
    $server->stop;
}

# The parent killed: its children end, the next server takes the store over.
{
    my $server = server($ten);
    $server->start;
    is(remaining($server), 9, 'before the parent is killed');
    my @children = $server->children;
    kill 'KILL', $server->pid, @children;
    ok(RLP::Httpd::wait_for(sub { !$server->alive && !grep { kill 0, $_ } @children }), 'kill -9 of all');
    unlink $server->file('run/httpd.pid');
    $server->start;
    is(remaining($server), 8, 'counters are the same after kill -9 of all and start');
    $server->stop;
}

# --- two servers, one store

{
    my $first = server($ten);
    $first->start;
    my $path = $first->file('run/ratelimit-default.shm');
    my $second = server(qq{RateLimitStore x shm "file=$path"\n$ten});
    my $error = $second->try_start;
    like($error, qr/RateLimitStore: .*\Q$path\E/, 'a second server on the same store is a start-up error that names the path');
    like($error, qr/in use by another server/, 'and says why');
    is(remaining($first), 9, 'the first one goes on');
    $first->stop;
    is($second->try_start, '', 'when the first has ended, the second starts');
    is(remaining($second), 8, 'with its counters');
    $second->stop;
}

# --- files that cannot be trusted

# One warning that names the file, and an empty store.
sub distrusts {
    my ($name, $spoil, $reason) = @_;
    my $server = server("RateLimitStore x shm size=2M file=store\n$ten");
    my $path = $server->file('store');

    $server->start;
    is(remaining($server), 9, "$name: before");
    $server->stop;
    $spoil->($path);
    my $error = $server->try_start;
    is($error, '', "$name: httpd starts") or return;
    my @notes = notes($server);
    is(scalar @notes, 1, "$name: one line in the log") or diag(join "\n", @notes);
    like($notes[0] // '', qr/:warn(?:ing)?\].*\Q$path\E.*$reason.*empty/, "$name: a warning that names the file");
    is(remaining($server), 9, "$name: the store is empty");
    is(mode($path), '0600', "$name: the file is for the server alone");
    is(-s $path, 3 * 1024 * 1024, "$name: the file has its size, and that of the annex");
    $server->stop;
    $server->start;
    is(remaining($server), 8, "$name: and it is kept from then on");
    $server->stop;
    return;
}

sub patch {
    my ($path, $at, $bytes) = @_;
    open my $out, '+<', $path or die "$path: $!\n";
    seek $out, $at, 0;
    print {$out} $bytes;
    close $out or die "$path: $!\n";
    return;
}

distrusts('truncated', sub { truncate $_[0], 2_300_000 or die $! }, 'truncated');
distrusts('truncated to a page', sub { truncate $_[0], 4096 or die $! }, '');
distrusts('truncated to ten bytes', sub { truncate $_[0], 10 or die $! }, '');
distrusts('grown', sub { patch($_[0], 3 * 1024 * 1024, 'x' x 4096) }, '');
distrusts('foreign', sub { RLP::Httpd::spill($_[0], "not a store\n" x 90_000); chmod 0600, $_[0] }, 'not a store');
distrusts('small and foreign', sub { RLP::Httpd::spill($_[0], "hello\n"); chmod 0600, $_[0] }, '');
distrusts('a corrupt header', sub { patch($_[0], 8, "\xff" x 64) }, '');
distrusts('a header of noughts', sub { patch($_[0], 0, "\0" x 4096) }, '');
distrusts('world-writable', sub { chmod 0666, $_[0] or die $! }, 'other users');
distrusts('group-readable', sub { chmod 0640, $_[0] or die $! }, 'other users');
distrusts('a second name', sub { link $_[0], "$_[0].2" or die $! }, 'second name');
SKIP: {
    skip 'only root gives files away', 1 if $> != 0;
    distrusts('of another user', sub { chown scalar getpwnam('www-data'), -1, $_[0] or die $! }, 'another user');
}

# Damage behind the header, at random: nothing crashes, nobody gets into trouble.
for my $seed (1 .. 6) {
    my $server = server("RateLimitStore x shm size=1M file=store\n$on rate=10/week rate=100/week algorithm=fixed-window quota=1000\n");
    my $path = $server->file('store');
    $server->start;
    remaining($server);
    $server->stop;
    srand $seed;
    open my $out, '+<', $path or die "$path: $!\n";
    for my $page (1 .. 255) {
        next if $seed > 2 && rand() < 0.5;
        seek $out, $page * 4096, 0;
        print {$out} join '', map { chr int rand 256 } 1 .. 4096;
    }
    close $out;
    # httpd itself now and then loses a child that is told to stop while it starts its threads
    my $said = length $server->log_text;
    $server->start;
    my $statuses = $server->statuses(12, '/index.html');
    like($statuses, qr/^(?:200 ){0,11}(?:200|429)(?: 429)*$/, "a store of junk, $seed: httpd answers");
    unlike(substr($server->log_text, $said), qr/exit signal/, "a store of junk, $seed: no child dies of it");
    ok($server->stop, "a store of junk, $seed: httpd stops");
}

# The one lock of the smallest store, behind the header, is in the hands of a process that does not give it back:
# number << 32 | its beginning, as /proc/PID/stat has it. Where it is in nobody's hands, it is taken from them.
sub begun {
    my ($pid) = @_;
    return -r "/proc/$pid/stat" ? (split ' ', RLP::Httpd::slurp("/proc/$pid/stat") =~ s/.*\)//sr)[19] : 0;
}

SKIP: {
    skip 'numbers of 64 bits', 7 if length pack('J', 0) < 8;
    my $server = server("RateLimitStore x shm size=1M file=store\n$on rate=1/week\nRateLimitEnv always\n"
        . qq{Header always set X-Action "%{RATELIMIT_ACTION}e"\n}, modules => ['headers']);
    my $lock = 3 * 4096;
    $server->start;
    patch($server->file('store'), $lock, pack 'Q', $$ << 32 | begun($$) & 0xffff_ffff);
    my $answer = $server->get('/index.html');
    is($answer->{status}, 200, 'H-10: where the store fails, a request passes');
    is($answer->{fields}{'x-action'}, 'error', 'H-10: RATELIMIT_ACTION says so');
    is(join(' ', grep { /ratelimit/ } sort keys %{ $answer->{fields} }), '', 'H-10: and no header field');
    like($server->log_text, qr/RLP004/, 'H-10: and the error log');
    patch($server->file('store'), $lock, pack 'Q', $$ << 32 | begun($$) + 1 & 0xffff_ffff);
    is($server->statuses(1, '/index.html'), '200', 'a lock of a process whose number is given anew is taken from it');
    patch($server->file('store'), $lock, 'x' x 8);
    is($server->statuses(1, '/index.html'), '429', 'and one of junk');
    is($server->statuses(1, '/index.html'), '429', 'and given back');
    $server->stop;
}

# --- files that cannot be used

sub fails {
    my ($name, $server, $path, $reason) = @_;
    my $error = $server->try_start;
    like($error, qr/RateLimitStore: [^\n]*\Q$path\E[^\n]*$reason/, "$name: a start-up error that names the path");
    $server->stop;
    return;
}

{
    my $server = server("RateLimitStore x shm file=link\n$ten");
    my $path = $server->file('link');
    $server->file('target', '');
    symlink $server->file('target'), $path or die "$path: $!\n";
    fails('a symbolic link', $server, $path, 'symbolic link|Too many levels');
    is(-s $server->file('target'), 0, 'what it points to is not touched');
    unlink $path;
    symlink $server->file('nowhere'), $path or die "$path: $!\n";
    fails('a symbolic link to nothing', $server, $path, '');
    ok(!-e $server->file('nowhere'), 'which is not made');
    unlink $path;
    mkdir $path or die "$path: $!\n";
    fails('a directory', $server, $path, '');
    rmdir $path;
    POSIX::mkfifo($path, 0600) or die "$path: $!\n";
    fails('a pipe', $server, $path, '');
}
{
    my $server = server("RateLimitStore x shm file=no/such/store\n$ten");
    fails('a missing directory', $server, $server->file('no/such/store'), 'No such file or directory');
}
SKIP: {
    skip 'root may write anywhere', 1 if $> == 0;
    my $server = server("RateLimitStore x shm file=shut/store\n$ten");
    mkdir $server->file('shut'), 0500 or die "mkdir: $!\n";
    fails('a directory that may not be written', $server, $server->file('shut/store'), 'Permission denied');
}
SKIP: {
    skip 'only root mounts a small disk', 4 if $> != 0;
    skip 'no unshare(1), or mounts are not allowed here', 4
        if system(q{unshare -m sh -c 'mount -t tmpfs -o size=64k none /mnt' 2>/dev/null}) != 0;
    my $server = server("RateLimitStore x shm size=1M file=disk/store\n$ten");
    my $disk = $server->file('disk');
    mkdir $disk, 0755 or die "$disk: $!\n";
    $server->{wrap} = ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs -o size=512k none "$0" && exec "$@"', $disk];
    fails('a full disk', $server, "$disk/store", 'No space left on device');

    $server->{wrap}[4] = 'mount -t tmpfs -o size=1536k none "$0" && exec "$@"';
    is($server->try_start, '', 'a disk with just room for the store');
    is(remaining($server), 9, 'is enough');
    ok($server->stop, 'and httpd stops');
}

# No room for another size: an error, and nothing is lost.
SKIP: {
    skip 'only root mounts a small disk', 1 if $> != 0;
    my $server = server("RateLimitStore x shm size=1M file=disk/store\n$ten");
    my $disk = $server->file('disk');
    mkdir $disk, 0755 or die "$disk: $!\n";
    my $holder = open my $hold, '|-', 'unshare', '-m', 'sh', '-c', 'mount -t tmpfs -o size=3m none "$0" 2>/dev/null && exec cat', $disk;
    skip 'no unshare(1)', 1 if !$holder;
    my $mounted = RLP::Httpd::wait_for(sub { waitpid($holder, POSIX::WNOHANG()) || RLP::Httpd::slurp("/proc/$holder/mounts") =~ /rlp\\040test/ });
    skip 'mounts are not allowed here', 1 if !$mounted || $mounted == $holder;

    $server->{wrap} = ['nsenter', '-t', $holder, '-m'];
    $server->start;
    is(remaining($server), 9, 'a store on a small disk');
    $server->stop;
    $server->configure("RateLimitStore x shm size=8M file=disk/store\n$ten");
    fails('no room for another size', $server, "$disk/store", 'No space left on device');
    $server->configure("RateLimitStore x shm size=1M file=disk/store\n$ten");
    $server->start;
    is(remaining($server), 8, 'no room for another size: the counters are as they were');
    $server->stop;
    my @left = map { s{.*/}{}r } glob "'/proc/$holder/root$disk/*'";
    is("@left", 'store', 'no room for another size: and nothing else is left');
    close $hold;
}

# What lies where a new store is made.
{
    my $server = server("RateLimitStore x shm size=1M file=store\n$ten");
    my $precious = $server->file('precious', "keep me\n");
    $server->start;
    is(remaining($server), 9, 'a trap beside the store');
    $server->stop;
    symlink $precious, $server->file('store.new') or die "symlink: $!\n";
    $server->configure("RateLimitStore x shm size=2M file=store\n$ten");
    is($server->try_start, '', 'a trap beside the store: httpd starts');
    is(remaining($server), 8, 'a trap beside the store: with its counters');
    is(RLP::Httpd::slurp($precious), "keep me\n", 'a trap beside the store: no link is followed');
    ok(-f $server->file('store') && !-l $server->file('store'), 'a trap beside the store: the store is a file');
    $server->stop;
}

# --- who may read it

for my $umask (0, $> == 0 ? 0777 : 0077) { # with 0777, only root reads its own log
    my $server = server($ten, umask => $umask);
    $server->start;
    is(mode($server->file('run/ratelimit-default.shm')), '0600', sprintf 'the store file is 0600 under umask %04o', $umask);
    is(remaining($server), 9, 'and children use it');
    $server->stop;
}

# --- a flood of clients

SKIP: {
    skip 'httpd has no mod_remoteip', 1 if !RLP::Httpd::has_module('remoteip');
    my $clients = $ENV{RLP_FLOOD} || 20_000; # 1000000 takes half a minute
    my $room = $clients > 100_000 ? '16M' : '1M';
    my $rate = RLP::Httpd::has_clock() ? 'rate=10/min' : 'rate=10/hour'; # without it, time goes on
    for my $limits ("$rate rate=1000/day", "$rate algorithm=fixed-window", $rate) {
        my $server = server("RemoteIPHeader X-Forwarded-For\nRemoteIPInternalProxy 127.0.0.1\n"
            . "RateLimitStore x shm size=$room file=store\n$on $limits\n"
            . "RateLimitHeaders Off\n", modules => ['remoteip']);
        my $known = 'X-Forwarded-For: 192.0.2.1';
        my $began = time;

        $server->start;
        my $size = -s $server->file('store');
        my ($blocks) = (stat $server->file('store'))[12];
        is($server->statuses(12, '/index.html', $known), join(' ', (200) x 10, (429) x 2), "$limits: a client reaches its limit");

        my $connection = $server->connection;
        my %answers;
        for (my $i = 0; $i < $clients; $i += 500) {
            my $text = '';
            for my $n ($i .. $i + 499) {
                my $address = join '.', 10 + ($n >> 24), $n >> 16 & 255, $n >> 8 & 255, $n & 255;
                $text .= "HEAD /index.html HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: $address\r\n\r\n";
            }
            $connection->send($text);
            $answers{ $connection->response('HEAD')->{status} }++ for 1 .. 500;
        }
        is_deeply(\%answers, { 200 => $clients }, "$limits: nobody of $clients new clients is refused for lack of memory");
        is(-s $server->file('store'), $size, "$limits: the store has not grown");
        is((stat $server->file('store'))[12], $blocks, "$limits: nor what it takes on the disk");
        is($server->get('/index.html', $known)->{status}, 429, "$limits: a client that was limited before is still limited");
        unlike($server->log_text, qr/RLP00[2-9]/, "$limits: nothing in the log about it");
        note(sprintf '%.1f s', time - $began);
        $server->stop;
    }
}

done_testing;
