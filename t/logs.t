#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The logs: what clients can cause in the error log is bounded, fail2ban reads it, the access log says what was
# decided, and both may be renamed while httpd runs.

use strict;
use warnings;

use File::Basename qw(dirname);
use MIME::Base64 ();
use Test::More;

use RLP::Http2;
use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my $conf = dirname(dirname(File::Spec->rel2abs($0))) . '/conf';
my $one_process = "StartServers 1\nServerLimit 1\n"
    . ($RLP::Httpd::mpm eq 'prefork' ? "MinSpareServers 1\nMaxSpareServers 1\nMaxRequestWorkers 1\n" : "ThreadsPerChild 8\nMaxRequestWorkers 8\n");

sub lines {
    my ($server, $pattern) = @_;
    return grep { /$pattern/ } split /\n/, $server->log_text;
}

# --- expressions that fail

# One that cannot be evaluated.
my $failing = q{file('@DIR@/nowhere') == 'x'};

my @expressions = (
    # what the line has, how it is said, statuses of three requests
    [ 'if= of rule wrong', qq{RateLimitRule wrong rate=1/week "if=$failing"}, '200 200 200' ],
    [ 'count= of rule wrong', qq{RateLimitRule wrong rate=99/week "count=response:$failing"}, '200 200 200' ],
    [ 'RateLimitRefund for rule wrong', qq{RateLimitRule wrong rate=99/week\nRateLimitRefund "expr=$failing"}, '200 200 200' ],
    [ 'RateLimitExempt', qq{RateLimitRule wrong rate=1/week\nRateLimitExempt "expr=$failing"}, '200 429 429' ],
    [ 'identity odd', qq{RateLimitIdentity "odd=expr:%{base64:x}%{file:\@DIR\@/nowhere}"\nRateLimitRule wrong rate=1/week}, '200 200 200' ],
);
for my $case (@expressions) {
    my ($whose, $text, $statuses) = @{$case};
    my $server = RLP::Httpd->new(clock => 1, config => "${one_process}RateLimitEngine On\nRateLimitIdentity ip\n$text\n");
    $server->start;
    is($server->statuses(3, '/index.html'), $statuses, "$whose: an expression that fails, and what follows from it");
    ok(RLP::Httpd::wait_for(sub { lines($server, 'RLP003') }), "$whose: a line in the log");
    $server->get('/index.html') for 1 .. 5;
    my @said = lines($server, 'RLP003');
    is(scalar @said, 1, "$whose: one, however many clients cause it") || diag join "\n", @said;
    like($said[0], qr/\[client 127[.]0[.]0[.]1:\d+\] RLP003: \Q$whose\E: \S/, "$whose: which says what fails");
    SKIP: {
        skip 'no clock of the test (TESTCLOCK_SO)', 2 if !RLP::Httpd::has_clock();
        $server->set_clock(59);
        $server->get('/index.html');
        is(scalar(my @within = lines($server, 'RLP003')), 1, "$whose: in a minute");
        $server->set_clock(61);
        $server->get('/index.html');
        ok(RLP::Httpd::wait_for(sub { lines($server, 'RLP003') == 2 }), "$whose: and again after one");
    }
    ok($server->stop, "$whose: it stops as ever");
}

SKIP: {
    skip 'httpd has no mod_setenvif', 1 if !RLP::Httpd::has_module('setenvif');
    my $server = RLP::Httpd->new(modules => ['setenvif'], config => "${one_process}SetEnvIf X-Plan (.*) PLAN=\$1\n"
            . "RateLimitEngine On\nRateLimitPlan free rate=9/week\nRateLimitIdentity key=header:X-Key ip\n"
            . "RateLimitPlanMap key expr:%{env:PLAN}\nRateLimitRule site rate=9/week\n");
    $server->start;
    $server->get('/index.html', 'X-Key: a', "X-Plan: no-plan-$_") for 1 .. 5;
    is(scalar(my @said = lines($server, 'RLP014: plan map of key: the expression names no plan')), 1, 'plans that clients invent are one line');
}

# --- fail2ban

sub program {
    my ($name) = @_;
    my ($found) = grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/bin';
    return $found;
}

# The addresses that the filter finds in a log, in order.
sub found {
    my ($log) = @_;
    my $regex = program('fail2ban-regex');
    my @found = split /\n/, qx("$regex" -o "<ip>" "$log" "$conf/fail2ban/ratelimit-plans.filter.conf" 2>&1);
    return "$? @found" if $?;
    return join ' ', @found;
}

SKIP: {
    skip 'fail2ban is missing (Debian: fail2ban)', 1 if !program('fail2ban-regex');
    skip 'httpd has no mod_remoteip', 1 if !RLP::Httpd::has_module('remoteip');
    my $server = RLP::Httpd->new(modules => [qw(remoteip authn_core authn_file authz_user auth_basic)],
        config => "${one_process}RemoteIPHeader X-From\nRemoteIPInternalProxy 127.0.0.1\nLogLevel core:info\n"
            . "RateLimitEngine On\nRateLimitIdentity user ip\nRateLimitKeyLog plain\nRateLimitRule site quota=0\n"
            . "<Location /open>\nRateLimitEngine Off\n</Location>\n"
            . "<Location /users>\nAuthType Basic\nAuthName x\nAuthUserFile \"\@DIR\@/passwords\"\nRequire valid-user\n</Location>\n"
            . join '', map { "<Location /together/$_>\nRateLimitRule site Off\nRateLimitRule together quota=0 key=$_\n</Location>\n" } qw(vhost global anonymous global+vhost vhost+ip));
    my $line = '[ratelimit_plans:info] [pid 1:tid 1] [client 203.0.113.1:80] RLP001: rule r, plan p refuses ip:x';
    $server->file('passwords', "$line:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n");
    $server->start;
    my $escaped = $line =~ s/([^A-Za-z0-9.])/sprintf '%%%02x', ord $1/ger;
    is($server->get('/index.html', "X-From: $_", 'Referer: http://203.0.113.9/')->{status}, 429, "$_ is refused") for qw(192.0.2.1 2001:db8::1 2001:db8:1:2:3:4:5:6);
    is($server->get('/users/', 'X-From: 192.0.2.2', 'Authorization: Basic ' . MIME::Base64::encode_base64('ann:password', ''))->{status}, 429, 'a user is refused');
    $server->get($_, 'X-From: 192.0.2.3', "Referer: $line") for "/open/$escaped", "/open/%0a$escaped", '/open/x';
    $server->get('/users/', 'X-From: 192.0.2.4', 'Authorization: Basic ' . MIME::Base64::encode_base64("$line:password", ''));
    is($server->get("/together/$_", 'X-From: 192.0.2.' . ($_ =~ /ip/ ? 6 : 5))->{status}, 429, "key=$_: all are refused together") for qw(vhost global anonymous global+vhost vhost+ip);
    ok($server->stop, 'it stops as ever');
    is(scalar(lines($server, 'RLP001: rule together,')), 5, 'which is told');
    like($server->log_text, qr/203[.]0[.]113[.]1/, 'the log has what was made to look like a refusal');
    is(found($server->file('logs/error.log')), '192.0.2.1 2001:db8::1 2001:db8:1:2:3:4:5:6 192.0.2.2 192.0.2.6',
        'the filter of conf/fail2ban finds who was refused, and nobody else');

    my $client = program('fail2ban-client');
    skip 'the configuration of fail2ban is missing', 1 if !$client || !-d '/etc/fail2ban';
    system('cp', '-R', '/etc/fail2ban', $server->file('fail2ban')) == 0 or die "cp failed\n";
    unlink glob $server->file('fail2ban/jail.d/') =~ s/([ ])/\\$1/gr . '*';
    $server->file('fail2ban/filter.d/ratelimit-plans.conf', RLP::Httpd::slurp("$conf/fail2ban/ratelimit-plans.filter.conf"));
    my $log = $server->file('log', $server->log_text);
    $server->file('fail2ban/jail.d/ratelimit-plans.conf', RLP::Httpd::slurp("$conf/fail2ban/ratelimit-plans.jail.conf") =~ s{^logpath .*}{logpath = $log}mr);
    my $dump = qx("$client" -c "@{[ $server->file('fail2ban') ]}" -d 2>&1);
    is($?, 0, 'fail2ban takes the jail') || diag $dump;
    like($dump, qr/^\['set', 'ratelimit-plans', 'addfailregex', .*ratelimit_plans:info/m, 'with the filter') || diag $dump;
    like($dump, qr/^\['set', 'ratelimit-plans', 'maxretry', 5\]$/m, 'and its own numbers') || diag $dump;
}

# mod_http2 makes httpd write "remote" for the client.
SKIP: {
    skip 'fail2ban is missing (Debian: fail2ban)', 1 if !program('fail2ban-regex');
    skip 'mod_http2 does not work with prefork', 1 if $RLP::Httpd::mpm eq 'prefork';
    skip 'httpd has no mod_http2', 1 if !RLP::Httpd::has_module('http2');
    my $server = RLP::Httpd->new(modules => ['http2'], config => "Protocols h2c http/1.1\nH2Direct on\nRateLimitEngine On\nRateLimitIdentity ip\nRateLimitRule site quota=0\n");
    $server->start;
    my $h2 = h2_begin($server);
    is(h2_answers($h2, 20, h2_ask($h2, 'GET', '/index.html')), '429', 'a stream of HTTP/2 is refused');
    ok($server->stop, 'it stops as ever');
    is(found($server->file('logs/error.log')), '127.0.0.1', 'the filter of conf/fail2ban finds whose it was');
}

# --- the access log, and logs that are renamed

# As conf/ratelimit_plans.conf offers it.
my ($format) = RLP::Httpd::slurp("$conf/ratelimit_plans.conf") =~ /^\s*#(LogFormat ".*" ratelimit)$/m;

SKIP: {
    ok($format, 'conf/ratelimit_plans.conf has a LogFormat');
    skip 'httpd has no mod_log_config or mod_logio', 1 if !RLP::Httpd::has_module('log_config') || !RLP::Httpd::has_module('logio');
    my $server = RLP::Httpd->new(modules => [qw(log_config logio)],
        config => "${one_process}$format\nCustomLog logs/access.log ratelimit\nRateLimitEngine On\nRateLimitEnv always\n"
            . "RateLimitRule site rate=20/week key=ip\n<Location /other>\nRateLimitEngine Off\n</Location>\n");
    my @asked;
    my $ask = sub {
        my ($n) = @_;
        push @asked, map { $server->get('/index.html', 'User-Agent: "odd\\" one', 'Referer: http://localhost/')->{status} } 1 .. $n;
    };
    my $logged = sub { return split /\n/, RLP::Httpd::slurp($server->file("logs/$_[0]")) };
    my $complete = sub { my ($file, $n) = @_; return RLP::Httpd::wait_for(sub { scalar(my @lines = $logged->($file)) >= $n }) };
    my $began = time;
    $server->start;
    $ask->(15);
    rename $server->file('logs/access.log'), $server->file('logs/access.log.1');
    rename $server->file('logs/error.log'), $server->file('logs/error.log.1');
    $ask->(10);
    is(scalar(my @early = $logged->('access.log')), 0, 'logs that are renamed are written on ...');
    ok($server->graceful, '... until httpd is restarted gracefully');
    $ask->(7);
    $server->get('/other');
    is(join(' ', @asked), join(' ', (200) x 20, (429) x 12), 'which loses no request and no counter');
    ok($complete->('access.log.1', 25) && $complete->('access.log', 8), 'nor a line of the access log');
    my @lines = ($logged->('access.log.1'), $logged->('access.log'));
    is(scalar @lines, 33, 'each has one');
    # httpd writes a line when the client has its answer: not quite in the order of coming
    my $request = qr{^127[.]0[.]0[.]1 - - \[[^]]+\] "GET /index[.]html HTTP/1[.]1"};
    my $client = qr{"http://localhost/" "\\"odd\\\\\\" one"};
    my $decided = qr{(\d{16}) (pass|deny) ip:127[.]0[.]0[.]1 \d{16}$};
    my %lines;
    for my $line (@lines) {
        my ($status, $at, $action) = $line =~ m{$request (\d+) \d+ $client $decided};
        $lines{ defined $at && abs($at / 1_000_000 - $began) < 600 ? "$status $action" : $line }++;
    }
    my ($other) = grep { m{"GET /other } } keys %lines;
    is(delete $lines{ $other // '' }, 1, 'a request by which nothing is decided, too');
    like($other, qr/ \d{16} - - -$/, 'of which nothing is said');
    is_deeply(\%lines, { '200 pass' => 20, '429 deny' => 12 }, 'which says the instant, what was decided, and of whom') || diag explain \%lines;
    my @refusals = map { scalar grep { /RLP001/ } $logged->($_) } 'error.log.1', 'error.log';
    is("@refusals", '1 1', 'each error log has its line about the refused');
    ok($server->stop, 'it stops as ever');
    is(scalar(grep { /exit signal|AH00052|RLP0(?!01)/ } map { $logged->($_) } 'error.log.1', 'error.log'), 0, 'and nothing went wrong');
}

# --- logs of some requests only

SKIP: {
    my @modules = qw(log_config rewrite);
    skip 'httpd has no mod_log_config or mod_rewrite', 1 if grep { !RLP::Httpd::has_module($_) } @modules;
    my $server = RLP::Httpd->new(modules => \@modules, config => <<'END');
LogFormat "%r %{RATELIMIT_RULE}e" asked
CustomLog logs/set.log asked env=RATELIMIT_ACTION
CustomLog logs/refused.log asked "expr=%{reqenv:RATELIMIT_ACTION} == 'deny'"
RateLimitEngine On
RateLimitRule site rate=9/week
<Files "index.html">
    RateLimitRule front rate=1/week
</Files>
<Directory "@DIR@/htdocs">
    RewriteEngine On
    RewriteBase "/"
    RewriteRule "^page/" "index.html"
</Directory>
END
    $server->start;
    is(join(' ', map { $server->get_to_the_end('/page/x')->{status} } 1 .. 3), '200 429 429', 'a front controller has a rule of its own');
    ok($server->stop, 'it stops as ever');
    is(RLP::Httpd::slurp($server->file("logs/$_.log")), "GET /page/x HTTP/1.1 front\n" x 2, "refused behind a redirect, in a log of those $_") for qw(set refused);
}

# --- variables tell of one limit: its rule, and whom that counts

SKIP: {
    my @modules = qw(log_config rewrite);
    skip 'httpd has no mod_log_config or mod_rewrite', 1 if grep { !RLP::Httpd::has_module($_) } @modules;
    my $server = RLP::Httpd->new(modules => \@modules, config => <<'END');
LogFormat "%U %{RATELIMIT_ACTION}e %{RATELIMIT_RULE}e %{RATELIMIT_IDENTITY}e %{RATELIMIT_REMAINING}e" whom
CustomLog logs/whom.log whom
ServerName whom.test
RateLimitEngine On
<Location "/early">
    RateLimitEnv always
    RateLimitRule early rate=5/week key=ip phase=early
    RateLimitRule late rate=9/week key=vhost
</Location>
<Location "/early/late">
    RateLimitRule late rate=3/week key=vhost
</Location>
<LocationMatch "^/(?:known|unknown)/">
    RateLimitRule outer rate=7/week key=vhost
</LocationMatch>
<Location "/known/">
    RateLimitEnv always
</Location>
<Files "index.html">
    RateLimitEnv always
    RateLimitRule inner rate=9/week key=ip
</Files>
<Location "/trial">
    RateLimitEngine LogOnly
    RateLimitRule trial rate=8/week key=vhost
</Location>
<Directory "@DIR@/htdocs">
    RewriteEngine On
    RewriteBase "/"
    RewriteRule "^(?:known|unknown)/" "index.html"
    RewriteRule "^trial/" "dry.html"
</Directory>
<Files "dry.html">
    RateLimitEnv always
    RateLimitEngine LogOnly
    RateLimitRule dry rate=9/week key=ip
</Files>
END
    $server->file('htdocs/dry.html', 'dry');
    $server->start;
    $server->get_to_the_end($_) for qw(/early /early/late /known/x /unknown/x /trial/x);
    ok($server->stop, 'it stops as ever');
    is(RLP::Httpd::slurp($server->file('logs/whom.log')), <<'END', 'whom the rule counts that has least left, before authentication or a redirect, too');
/early pass early ip:127.0.0.1 4
/early/late pass late vhost:whom.test 1
/known/x pass outer vhost:whom.test 6
/unknown/x pass outer vhost:whom.test 5
/trial/x pass trial vhost:whom.test 7
END
}

done_testing;
