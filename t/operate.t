#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# rlpctl against a running server, as people on call use it, and on the file of a server that is stopped; exit codes.

use strict;
use warnings;

use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP qw(decode_json);
use POSIX ();
use Test::More;

use RLP::Httpd;
use RLP::Rlpctl qw(rlpctl);

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'RLPCTL names no program' if !$ENV{RLPCTL};

my $server = RLP::Httpd->new(
    modules => [qw(authn_core authn_file auth_basic authz_user)],
    config => <<'END'
RateLimitStore x shm size=4M file=store
RateLimitPlan pro rate=100/week
RateLimitPlanMap apikey "txt:@DIR@/keys"
RateLimitEngine On
RateLimitRule site rate=5/week key=ip
RateLimitRule keys key=apikey=header:X-API-Key
<Location "/ratelimit-admin">
    SetHandler ratelimit-admin
</Location>
<Location "/secured">
    SetHandler ratelimit-admin
    AuthType Basic
    AuthName people
    AuthUserFile "@DIR@/users"
    Require valid-user
</Location>
END
);
$server->file('users', "amy:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00=\n"); # hello
$server->file('keys', "key-of-zoe pro\nclef-\xe9 pro\n");
$server->start;
my $port = $server->port;
my $url = "http://127.0.0.1:$port/ratelimit-admin";
my $file = $server->file('store');

# What it prints with --json.
sub answer {
    my ($command, @words) = @_;
    my ($status, $out, $err) = rlpctl('', $command, "--url=$url", '--json', @words);
    is($status, 0, "rlpctl $command @words") or diag("$out$err");
    return decode_json($out);
}

sub left { return $server->get('/index.html')->{fields}{'x-ratelimit-remaining'} // 'none' }

# --- each action

is($server->statuses(6, '/index.html'), '200 200 200 200 200 429', 'all is used');
is(answer('get', 'ip:127.0.0.1', '--rule=site')->{limits}[0]{remaining}, 0, 'get');
answer('grant', 'ip:127.0.0.1', 2);
is($server->statuses(3, '/index.html'), '200 200 429', 'grant 2');
answer('grant', 'ip:127.0.0.1', '1.0', '--rule=site');
is($server->statuses(2, '/index.html'), '200 429', 'grant 1.0');
answer('reset', 'ip:127.0.0.1');
is(left(), 4, 'reset');
like(answer('ban', 'ip:127.0.0.1', '1h')->{banned_until}, qr/Z$/, 'ban for a span');
is($server->statuses(4, '/index.html'), '429 429 429 429', 'is in force at once');
is(answer('overrides')->{overrides}[0]{identity}, 'ip:127.0.0.1', 'overrides');
is(answer('unban', 'ip:127.0.0.1')->{banned_until}, undef, 'unban');
is(left(), 3, 'is in force at once, too');
is(answer('set-plan', 'ip:127.0.0.1', 'pro', '10min')->{set_plan}, 'pro', 'set-plan');
is(left(), 97, 'the plan counts');
is(answer('set-plan', 'ip:127.0.0.1', 'none')->{set_plan}, undef, 'set-plan none');
is(left(), 1, 'it counts no more');
is(answer('plans')->{plans}[0]{plan}, 'pro', 'plans');
is_deeply(answer('top')->{most_refused}, [ { refused => 3, error => 0, rule => 'site', identity => 'ip:127.0.0.1' } ], 'top: who was refused by limits');
my $explained = answer('explain', '/x', '--method=POST', '--ip=192.0.2.9', '--user=bob', '--header=X-API-Key: key-of-zoe', '--env=A=b');
is_deeply([ map { "$_->{rule} $_->{plan}" } @{ $explained->{rules} } ], [ 'site default', 'keys pro' ], 'explain');
my ($status, $out) = rlpctl("key-of-zoe\n", 'get', "--url=$url", '--secret', '--rule=keys', 'apikey');
like($out, qr/^identity +apikey:[0-9a-f]{32}$/m, 'a secret comes from standard input');

# --- for people

($status, $out) = rlpctl('', 'get', "--url=$url", 'ip:127.0.0.1', '--rule=site');
like($out, qr/^action +get\nidentity +ip:127.0.0.1\nbanned_until +-\n.*^limits\n +rule +plan +limit +quota +window +used +remaining +reset\n +site +default +site +5 +604800 +4 +1 +\d+\n\z/ms, 'a table')
    or diag($out);

# --- who may

my @secured = "--url=http://127.0.0.1:$port/secured";
is((rlpctl('', 'plans', @secured))[0], 77, 'without a user: exit 77');
is((rlpctl("hello\n", 'plans', @secured, '--login=amy', '--password=-'))[0], 0, 'a password from standard input');
is((rlpctl("wrong\n", 'plans', @secured, '--login=amy', '--password=-'))[0], 77, 'a wrong one: 77');
is((rlpctl('', 'plans', @secured, '--login=amy', '--password=' . $server->file('password', "hello\n")))[0], 0, 'a password from a file');
{
    local $ENV{RLPCTL_URL} = $url;
    is((rlpctl('', 'plans'))[0], 0, 'the URL from the environment');
}

# a key need not be UTF-8
{
    my @key = ("X-API-Key: clef-\xe9");
    is_deeply([ map { "$_->{rule} $_->{plan}" } @{ answer('explain', '/x', "--header=$key[0]")->{rules} } ], [ 'site default', 'keys pro' ],
        'a key in another encoding is known');
    is((rlpctl("clef-\xe9\n", 'ban', "--url=$url", '--secret', 'apikey', '1h'))[0], 0, 'and banned');
    is($server->get('/index.html', @key)->{status}, 429, 'itself');
    is((rlpctl("clef-\xe9\n", 'unban', "--url=$url", '--secret', 'apikey'))[0], 0, 'until that is ended');
}

# a UNIX socket: somebody hands the octets on
{
    my $path = $server->file('admin.sock');
    my $listener = IO::Socket::UNIX->new(Local => $path, Listen => 1) or die "$path: $!\n";
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        my $near = $listener->accept or POSIX::_exit(1);
        my $far = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or POSIX::_exit(1);
        my $request = '';
        while ($request !~ /\r\n\r\n.*\}/s && sysread $near, $request, 4096, length $request) { }
        syswrite $far, $request;
        while (sysread $far, my $text, 4096) {
            syswrite $near, $text;
        }
        POSIX::_exit(0);
    }
    is((rlpctl('', 'plans', "--socket=$path", "--url=http://localhost/ratelimit-admin"))[0], 0, 'through a UNIX socket');
    waitpid $pid, 0;
    is($?, 0, 'that it used');
    isnt((rlpctl('', 'plans', "--socket=$path.none", "--url=$url"))[0], 0, 'one that is not there');
}

# --- what is refused

my $closed = RLP::Httpd::free_port();
for my $case (
    [ 64, qr/expected --url=/,                          'plans' ],
    [ 64, qr/this program has no TLS/,                  'plans', '--url=https://127.0.0.1/x' ],
    [ 64, qr/expected no name or password in the URL/,  'plans', "--url=http://amy:hello\@127.0.0.1:$port/secured" ],
    [ 64, qr/expected --url=http/,                      'plans', '--url=127.0.0.1' ],
    [ 64, qr/got "--color"/,                            'plans', "--url=$url", '--color' ],
    [ 64, qr/expected 1 words behind get, got 0/,       'get', "--url=$url" ],
    [ 64, qr/expected 3 words behind set-plan, got 2/,  'set-plan', "--url=$url", 'ip:127.0.0.1', 'pro' ],
    [ 64, qr/expected --password=FILE/,                 'plans', @secured, '--login=amy' ],
    [ 64, qr/expected a secret on standard input/,      'get', "--url=$url", 'apikey', '--secret' ],
    [ 64, qr/expected --url with explain/,              'explain', "--file=$file", '/' ],
    [ 65, qr/answers 400: expected "identity"/,         'get', "--url=$url", 'planet:mars' ],
    [ 65, qr/answers 400: expected "units"/,            'grant', "--url=$url", 'ip:127.0.0.1', 'many' ],
    [ 65, qr/answers 400: expected either "for"/,       'ban', "--url=$url", 'ip:127.0.0.1', 'a while' ],
    [ 65, qr/cannot open the store file/,               'unban', "--file=$file.none", 'ip:127.0.0.1' ],
    [ 69, qr/cannot reach 127.0.0.1:$closed/,           'plans', "--url=http://127.0.0.1:$closed/x" ],
    [ 69, qr/it is not ratelimit-admin/,                'plans', "--url=http://127.0.0.1:$port/nothing" ],
    )
{
    my ($wanted, $pattern, @words) = @{$case};
    my ($got, $printed, $complaint) = rlpctl('', @words);
    ok($got == $wanted && $complaint =~ /^rlpctl: .*$pattern/ && $printed eq '', "$wanted: rlpctl @words") or diag("$got $printed $complaint");
}
($status, $out) = rlpctl('', 'ban', '--help');
ok($status == 0 && $out =~ /^usage: rlpctl COMMAND/, '--help');
ok((() = $out =~ /\n/g) <= 24 && !grep({ length > 80 } split /\n/, $out), 'which fits a screen of 24 lines of 80');

# --- somebody who lives holds the lock of bans and plans for a time

{
    my $at = index(RLP::Httpd::slurp($file), 'RLPOVER') + 20;
    open my $handle, '+<:raw', $file or die "$file: $!\n";
    my $lock = sub { sysseek $handle, $at, 0; syswrite $handle, pack 'L', $_[0] };
    is($lock->($$), 4, 'the table is locked');
    for my $case ([ "--url=$url", qr/answers 503: expected no other change under way for a second: try again$/ ], [ "--file=$file", qr/expected no other change under way$/ ]) {
        my ($where, $said) = @{$case};
        my ($got, undef, $complaint) = rlpctl('', 'ban', $where, 'ip:192.0.2.7', '1h');
        isnt($got, 0, "$where: a ban");
        like($complaint, $said, 'is refused');
    }
    $lock->(0);
    unlike((rlpctl('', 'overrides', "--url=$url"))[1], qr/192[.]0[.]2[.]7/, 'and not in force');
    is((rlpctl('', $_, "--url=$url", 'ip:192.0.2.7', $_ eq 'ban' ? '1h' : ()))[0], 0, "$_ when the lock is free") for qw(ban unban);
}

# --- the file of a server that is stopped

$server->stop;
($status, $out) = rlpctl('', 'ban', "--file=$file", '--json', 'ip:127.0.0.1', '1h');
is($status, 0, 'a ban in a file');
like(decode_json($out)->{banned_until}, qr/Z$/, 'until');
like((rlpctl('', 'overrides', "--file=$file"))[1], qr/ip:127.0.0.1/, 'it is listed');
is((rlpctl("key-of-zoe\n", 'ban', "--file=$file", 'apikey', '--secret', '1h'))[0], 0, 'of a secret');
$server->start;
is(left(), 'none', 'the server knows the ban');
is($server->get('/index.html', 'X-API-Key: key-of-zoe')->{status}, 429, 'both');
$server->stop;
is((rlpctl('', 'unban', "--file=$file", 'ip:127.0.0.1'))[0], 0, 'unban in the file');
is((rlpctl('', 'set-plan', "--file=$file", 'ip:127.0.0.1', 'pro', '1h'))[0], 0, 'set-plan in the file');
$server->start;
is(left(), 94, 'the server knows both; /nothing was a request, too');
$server->stop;
is((rlpctl('', 'set-plan', "--file=$file", 'ip:127.0.0.1', 'none'))[0], 0, 'set-plan none in the file');
($status, $out) = rlpctl('', 'reset', "--file=$file", '--json', 'ip:127.0.0.1');
is(decode_json($out)->{forgotten}, 1, 'reset in the file: one counter');
$server->start;
is(left(), 4, 'the server has it as new');
$server->stop;

# what is no store stays as it is
my $other = $server->file('other', 'x' x 3_000_000);
like((rlpctl('', 'unban', "--file=$other", 'ip:127.0.0.1'))[2], qr/is unusable: it is not a store/, 'what is no store is refused');
is(-s $other, 3_000_000, 'and not touched');
is((rlpctl('', 'unban', '--file=' . $server->file('none'), 'ip:127.0.0.1'))[0], 65, 'one that is not there is refused');
ok(!-e $server->file('none'), 'and not made');
like((rlpctl('', 'ban', "--file=$file", 'ip:127.0.0.1', 'soon'))[2], qr/expected a span/, 'no moment');
like((rlpctl('', 'ban', "--file=$file", $_, '1h'))[2], qr/expected TYPE:VALUE/, "no identity: $_") for qw(amy ip: :amy), '';
for my $type ('apikey:', 'apikey:x', '') {
    my ($got, $printed, $complaint) = rlpctl("key-of-zoe\n", 'ban', "--file=$file", '--secret', $type, '1h');
    is("$got $printed$complaint", "64 rlpctl: expected TYPE alone, such as apikey, with --secret\n", "$type is no type: nobody whom that would ban");
}
for my $list (qw(overrides top)) {
    my ($got, $printed, $complaint) = rlpctl("key-of-zoe\n", $list, "--file=$file", '--secret');
    is("$got $printed$complaint", "64 rlpctl: expected no --secret with $list, which is of nobody\n", "$list --secret");
}

done_testing();
