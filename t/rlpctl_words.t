#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# rlpctl: every option's wrong values, what is said of them, and the exit status. Needs RLPCTL in the environment.

use strict;
use warnings;

use File::Basename qw(dirname);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Rlpctl qw($dir refused rlpctl);

my @try = qw(try rate=1/s);
my @log = qw(simulate --plan=a=rate=1/s);

delete $ENV{RLPCTL_URL};

sub usage {
    my ($command, $which, @rows) = @_;
    for my $row (@rows) {
        my ($args, $pattern) = @{$row};
        my ($out, $err) = refused("$command @{$args}", '', [ split(/ /, $command), @{$args} ], 64, $pattern);
        is($out, '', '  nothing is printed');
        like($err, $which, '  the usage follows') if $which;
    }
    return;
}

# --- try: options first, then what the limits are

usage(
    'try', qr/^usage: rlpctl try/m,
    map { [ [ $_, 'rate=1/s' ], qr/^rlpctl: expected --json, --store=.*got "\Q$_\E"$/ ] }
        qw(--json=1 --store --store= --store=redis --store=SHM --password --delay --delay= --delay=x --delay=-1s --delay=1 --delay=1.5s),
    '--delay=1 s', '-', '-j', '--', '--JSON'
);
usage(
    'try', undef,
    [ [ '--password=env:HOME', 'rate=1/s' ],                                     qr/^rlpctl: expected --store=URL of a Redis with --password or --tls-\.\.\.=$/ ],
    [ [ '--store=redis://localhost', '--store=shm', '--password=a', 'rate=1/s' ], qr/expected --store=URL/ ],
    [ ['rate='],                             qr/^rlpctl: expected/ ],
    [ ['rate=1'],                            qr/^rlpctl: expected/ ],
    [ ['rate=0/s'],                          qr/^rlpctl: expected/ ],
    [ ['rate=-1/s'],                         qr/^rlpctl: expected/ ],
    [ ['rate=1/0s'],                         qr/^rlpctl: expected/ ],
    [ ['rate=99999999999999999999/s'],       qr/^rlpctl: expected/ ],
    [ [ 'rate=1/s', 'burst=x' ],             qr/^rlpctl: expected/ ],
    [ [ 'rate=1/s', 'burst=0' ],             qr/^rlpctl: expected/ ],
    [ [ 'rate=1/s', 'initial=2' ],           qr/^rlpctl: expected/ ],
    [ [ 'rate=1/s', 'start=yesterday' ],     qr/^rlpctl: expected/ ],
    [ ['burst=2'],                           qr/^rlpctl: expected/ ],
    [ [ 'rate=1/s', 'colour=red' ],          qr/^rlpctl: expected/ ],
    [ ['quota=1/decade'],                    qr/^rlpctl: expected/ ],
    [ ['quota=1/day@Atlantis'],              qr/^rlpctl: expected/ ],
    [ ['concurrent=0'],                      qr/^rlpctl: expected/ ],
    [ ['concurrent=many'],                   qr/^rlpctl: expected/ ],
    [ ['bandwidth=64K/s'],                   qr/^rlpctl: expected/ ],
    [ [ 'quota=5/day', 'then=rate=1/s' ],    qr/^rlpctl: expected/ ],
    [ [ ('rate=1/s') x 17 ],                 qr/^rlpctl: expected/ ],
    [ [''],                                  qr/^rlpctl: expected/ ],
);

# --- try: lines

for my $line (
    [ "0\0",                  qr/line 1: expected "AT \[COST\]", got a NUL byte$/ ],
    [ "0 1\0x\n",             qr/line 1: expected "AT \[COST\]", got a NUL byte$/ ],
    [ "\n\n0 x\n",            qr/line 3: expected a number/ ],
    [ "+1\n",                 qr/line 1: expected "AT/ ],
    [ "1e3\n",                qr/line 1: expected "AT/ ],
    [ ".\n",                  qr/line 1: expected "AT/ ],
    [ "999999999999\n",       qr/line 1: expected "AT/ ],
    [ "0 1,5\n",              qr/line 1: expected a number/ ],
    [ "0 1.2345\n",           qr/line 1: expected.*three decimals/ ],
    [ '1' x 1_000_000 . "\n", qr/line 1: expected "AT/ ],
    )
{
    my $shown = (substr $line->[0], 0, 12) =~ s/[^ -~]/./gr;
    refused("try: the line $shown", $line->[0], \@try, 65, $line->[1]);
}
is_deeply([ rlpctl("0\r\n\r\n \t\n1\r\n", @try) ],
    [ 0, "0\tallow\tremaining=0\tretry=0\treset=1\n1\tallow\tremaining=0\tretry=0\treset=1\n", '' ],
    'try: CR LF, and lines of blanks');
is((rlpctl("0\nx\n", @try))[1], "0\tallow\tremaining=0\tretry=0\treset=1\n", 'try: lines before a wrong one are answered');
is((rlpctl('0', @try))[1], "0\tallow\tremaining=0\tretry=0\treset=1\n", 'try: no newline at the end');
is_deeply([ rlpctl('', @try) ], [ 0, '', '' ], 'try: nothing of nothing');
is((rlpctl(' ' x 1_000_000 . "0\n", @try))[1], "0\tallow\tremaining=0\tretry=0\treset=1\n", 'try: a million blanks before it');

# --- simulate

usage(
    'simulate', qr/^usage: rlpctl simulate/m,
    [ [],                       qr/^rlpctl: expected at least one --plan='NAME=LIMIT...'$/ ],
    [ ['--plan'],               qr/^rlpctl: expected an option with its value, got "--plan"$/ ],
    [ ['--plan=a'],             qr/^rlpctl: expected --plan='NAME=LIMIT...', such as.*got "a"$/ ],
    [ ['--plan=='],             qr/^rlpctl: expected a name of 1 to 64 letters.*got ""$/ ],
    [ ['--plan=a='],            qr/^rlpctl: plan "a": expected a limit, such as rate=10\/min, got none$/ ],
    [ ['--plan=a b=rate=1/s'],  qr/^rlpctl: expected a name.*got "a b"$/ ],
    [ ['--plan=1=rate=1/s'],    qr/^rlpctl: expected a name.*got "1"$/ ],
    [ ['--plan=a=rate=1'],      qr/^rlpctl: plan "a": expected/ ],
    [ ['--plan=a=concurrent=1'], qr/^rlpctl: plan "a": expected no concurrent=/ ],
    [ ['--plan=a=quota=1/day then=rate=1/s'], qr/^rlpctl: plan "a": expected/ ],
    [ ['--plan=a=rate=1/s bandwidth=64K/s'],  qr/^rlpctl: plan "a": expected neither then= nor bandwidth=/ ],
    [ [ map { "--plan=p$_=rate=1/s" } 1 .. 17 ], qr/^rlpctl: expected at most 16 plans$/ ],
);
usage(
    "@log", qr/^usage: rlpctl simulate/m,
    [ ['--plan=a=rate=2/s'],     qr/^rlpctl: expected plans of different names$/ ],
    [ ['--format='],             qr/^rlpctl: expected common, combined, .*got ""$/ ],
    [ ['--format=clf'],          qr/^rlpctl: expected common, combined, .*got "clf"$/ ],
    [ ['--format=%a'],           qr/with %t, got "%a"$/ ],
    [ ['--format=%t %'],         qr/^rlpctl: expected a letter behind each %/ ],
    [ ['--format=%t %{a'],       qr/^rlpctl: expected a \} behind each \{/ ],
    [ ['--format=%t %u'],        qr/^rlpctl: the log format has nothing for "ip" of --key$/ ],
    [ ['--key='],                qr/^rlpctl: expected ip, user.*got ""$/ ],
    [ ['--key=address'],         qr/^rlpctl: expected ip, user.*got "address"$/ ],
    [ ['--key=vhost'],           qr/nothing for "vhost"/ ],
    [ ['--key=ip/33'],           qr/got "ip\/33"$/ ],
    [ ['--key=ip/'],             qr/^rlpctl: expected/ ],
    [ ['--key=ip+'],             qr/^rlpctl: expected/ ],
    [ ['--key=%{X}i'],           qr/nothing for "%\{X\}i"/ ],
    [ ['--status='],             qr/^rlpctl: expected statuses such as 200,4xx or !429, got ""$/ ],
    [ ['--status=,'],            qr/got ","$/ ],
    [ ['--status=20'],           qr/got "20"$/ ],
    [ ['--status=600'],          qr/got "600"$/ ],
    [ ['--status=4x4'],          qr/got "4x4"$/ ],
    [ ['--status=200,!'],        qr/got "200,!"$/ ],
    [ ['--status=200 404'],      qr/got "200 404"$/ ],
    [ [ '--status=200', '--format=%t %a' ], qr/^rlpctl: expected %>s in the log format for --status$/ ],
    [ ['--cost='],               qr/^rlpctl: expected a number.*got ""$/ ],
    [ ['--cost=-1'],             qr/got "-1"$/ ],
    [ ['--cost=1.2345'],         qr/got "1.2345"$/ ],
    [ ['--cost=1234567890123456'], qr/at most 15 digits/ ],
    [ ['--delay='],              qr/^rlpctl: expected a span of time.*got ""$/ ],
    [ ['--delay=soon'],          qr/"soon"/ ],
    [ ['--compare=yes'],         qr/got "--compare=yes"$/ ],
    [ [ '--compare', '--format=common' ], qr/^rlpctl: expected %\{RATELIMIT_ACTION\}e in the log format, to --compare with$/ ],
    [ [ '--compare', '--format=%t %a %{RATELIMIT_ACTION}e' ], qr/^rlpctl: expected microseconds in the log format/ ],
    [ [ '--compare', '--plan=b=rate=1/s' ],                   qr/^rlpctl: expected one plan to --compare the log with$/ ],
    [ ['--json=1'],              qr/got "--json=1"$/ ],
    [ ['--html'],                qr/got "--html"$/ ],
    [ ['--colour'],              qr/got "--colour"$/ ],
    [ ['-v'],                    qr/got "-v"$/ ],
);
my $line = qq{192.0.2.1 - - [21/Nov/2025:12:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "-"\n};
refused('simulate: no line of the format', "x\ny\n",   \@log,                         65, qr/^rlpctl: no line is written as --format says$/);
refused('simulate: no such file',          '',         [ @log, "$dir/no" ],           66, qr/^rlpctl: cannot open \Q$dir\E\/no: No such file/);
refused('simulate: a directory',           '',         [ @log, $dir ],                66, qr/^rlpctl: cannot open \Q$dir\E: Is a directory$/);
refused('simulate: one of two files',      $line,      [ @log, '-', "$dir/no" ],      66, qr/^rlpctl: cannot open/);
refused('simulate: no directory for the page', $line,  [ @log, "--html=$dir/no/a" ],  74, qr/^rlpctl: cannot write \Q$dir\E\/no\/a$/);
refused('simulate: a page without a name', $line,      [ @log, '--html=' ],           74, qr/^rlpctl: cannot write $/);
is((rlpctl('', @log))[0], 0, 'simulate: an empty log is no error');
is((rlpctl($line, 'simulate', '--plan', 'a=rate=1/s', '--format', 'combined', '--key', 'ip', '--status', '200', '--cost', '1',
            '--delay', '1s', '-'))[0], 0, 'simulate: values as words of their own');

# --- what asks a server: how many words, options, and where it is

my %words = (get => 1, reset => 1, grant => 2, ban => 2, unban => 1, 'set-plan' => 3, overrides => 0, plans => 0, top => 0, explain => 1);
for my $command (sort keys %words) {
    my @right = ('ip:1') x $words{$command};
    my $n = @right + 1;
    usage(
        $command, undef,
        [ [ @right, 'more' ],         qr/^rlpctl: expected $words{$command} words behind $command, got $n$/ ],
        [ \@right,                    qr/^rlpctl: expected --url=http:\/\/HOST\[:PORT\]\/PATH of ratelimit-admin, or RLPCTL_URL/ ],
        [ [ @right, '--colour' ],     qr/^rlpctl: expected an option as rlpctl $command --help has it, got "--colour"$/ ],
        ( map { [ [ @right, "--$_=" ], qr/got "--$_="$/ ] } qw(url socket host login password file rule plan method ip user header env) ),
        [ [ @right, '--url=https://h/x' ],     qr/^rlpctl: expected http:\/\/: this program has no TLS/ ],
        [ [ @right, '--url=ftp://h/x' ],       qr/^rlpctl: expected --url=http:/ ],
        [ [ @right, '--url=http://h' ],        qr/^rlpctl: expected --url=http:/ ],
        [ [ @right, '--url=h/x' ],             qr/^rlpctl: expected --url=http:/ ],
        [ [ @right, '--url=http:///x' ],       qr/^rlpctl: expected --url=http:/ ],
        ( map { [ [ @right, "--url=http://127.0.0.1:$_/x" ], qr/^rlpctl: expected --url= with a port from 1 to 65535/ ] } qw(0 65536 99999 99999999999999999999) ),
        [ [ @right, '--socket=/' . 's' x 107 ],  qr/^rlpctl: expected --socket=PATH of at most 107 bytes$/ ],
        [ [ @right, '--url=http://a:b@h/x' ],  qr/^rlpctl: expected no name or password in the URL/ ],
        [ [ @right, '--url=http://h/x', '--login=ann' ],                        qr/^rlpctl: expected --password=FILE, or -/ ],
        [ [ @right, '--url=http://h/x', '--password=-' ],                       qr/^rlpctl: expected --login=NAME with --password$/ ],
        [ [ @right, '--url=http://h/x', '--login=ann', "--password=$dir/no" ],  qr/^rlpctl: expected a password in the first line of \Q$dir\E/ ],
        [ [ @right, '--url=http://h/x', '--login=ann', '--password=-' ],        qr/^rlpctl: expected a password in the first line of -$/ ],
    );
    if ($command =~ /^(?:overrides|plans|top|explain)$/) {
        usage($command, undef, [ [ @right, '--url=http://h/x', '--secret' ], qr/^rlpctl: expected no --secret with $command, which is of nobody$/ ]);
    } else {
        usage(
            $command, undef,
            [ [ @right, '--url=http://h/x', '--secret' ], qr/^rlpctl: expected TYPE alone, such as apikey, with --secret$/ ],
            [ [ 'apikey', @right[ 1 .. $#right ], '--url=http://h/x', '--secret' ], qr/^rlpctl: expected a secret on standard input$/ ],
        );
    }
    if ($command eq 'grant') {
        usage($command, undef, [ [ @right, "--file=$dir/store" ], qr/^rlpctl: expected UNITS/ ]);
    } elsif ($command =~ /^(?:plans|explain)$/) {
        usage($command, undef, [ [ @right, "--file=$dir/store" ], qr/^rlpctl: expected --url with $command: a file knows no plans$/ ]);
    } else {
        refused("$command --file of no store", '', [ $command, @right, "--file=$dir/store" ], 65, qr/^rlpctl: /);
        usage(
            $command, undef,
            map { [ [ @right, "--file=$dir/store", "--$_" ], qr/^rlpctl: expected no --\Q@{[ s{=.*}{}sr ]}\E= with --file=PATH, but with a server alone$/ ] }
                qw(url=http://h/x socket=/s host=h login=ann password=- rule=api plan=gold method=GET ip=192.0.2.1 user=amy header=A:b env=A=b)
        ) if $command ne 'get'; # which has options of its own there
    }
    is((rlpctl('', $command, '--help'))[0], 0, "$command --help");
}
usage('set-plan', undef, map { [ [ 'ip:1', 'none', '1h', $_ ], qr/^rlpctl: expected 2 words behind set-plan, got 3$/ ] }
        '--url=http://h/x', "--file=$dir/store");
usage('explain', undef, [ [ '/', '--header=X' ], qr/got "--header=X"$/ ], [ [ '/', '--env=X' ], qr/got "--env=X"$/ ]);

done_testing();
