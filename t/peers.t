#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# What docs/comparison.md says of others and of this module: each claim has a mark such as E1, and a test of that name here,
# which runs the peer. Needs Debian's libapache2-mod-evasive, libapache2-mod-qos, libapache2-mod-security2 and nginx; what
# is missing is skipped. Not a part of make check: make check-peers.

use strict;
use warnings;

use File::Basename qw(dirname);
use IO::Socket::INET;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use lib dirname($0) . '/lib';
use RLP::Httpd;

my $top = $ENV{top_srcdir} || dirname(dirname($0));
my $document = RLP::Httpd::slurp("$top/docs/comparison.md");
my ($nginx) = grep { -x } map { "$_/nginx" } (split /:/, $ENV{PATH}), '/usr/sbin';

$RLP::Httpd::mpm = 'prefork'; # one request a process: limits that are not shared show
plan skip_all => 'of others: make check-peers' if !$ENV{RLP_PEERS};
plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

# --- requests

# How many of n requests passed, one after the other.
sub admitted {
    my ($server, $n, $path, @fields) = @_;
    my %seen;
    $seen{ $server->get($path, @fields)->{status} }++ for 1 .. $n;
    return $seen{200} // 0;
}

# And of n at once: all are sent before the first answer is read.
sub admitted_at_once {
    my ($server, $n, $path) = @_;
    my @open = map { $server->connection } 1 .. $n;
    $_->send("GET $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") for @open;
    return scalar grep { $_->response->{status} == 200 } @open;
}

# What a refusal looks like: its status, and which fields tell when to come again, or what is left.
sub refusal {
    my ($server, $path, @fields) = @_;
    my $said;
    for (1 .. 200) {
        $said = $server->get($path, @fields);
        last if $said->{status} != 200;
    }
    my @told = grep { /^(?:retry-after|(?:x-)?ratelimit.*)$/ } sort keys %{ $said->{fields} };
    return join ' ', $said->{status}, @told;
}

# How many pass of those who ask without a pause, for so many seconds.
sub hammered {
    my ($server, $seconds, $path) = @_;
    my $passed = 0;
    for (my $until = time + $seconds; time < $until;) {
        $passed += $server->get($path)->{status} == 200;
    }
    return $passed;
}

# An address of the internet, one for each number.
sub address {
    my ($i) = @_;
    return '20.' . join '.', $i >> 16, $i >> 8 & 255, $i & 255;
}

# kB of memory that its processes take.
sub resident {
    my ($server) = @_;
    my $sum = 0;
    $sum += $_ for map { RLP::Httpd::slurp("/proc/$_/status") =~ /^VmRSS:\s+(\d+)/m } $server->children;
    return $sum;
}

sub httpd_with {
    my ($modules, $config) = @_;
    my $server = RLP::Httpd->new(modules => $modules, config => $config);
    $server->file('htdocs/page.html', "page\n");
    return $server;
}

# Is the directive allowed in a section?
sub in_section {
    my ($modules, $before, $line) = @_;
    my ($status, $said) = httpd_with($modules, "$before<Location /page.html>\n$line\n</Location>\n")->configtest;
    return $status == 0 ? 'yes' : $said =~ /not allowed (?:here|in)|cannot occur within/ ? 'no' : $said;
}

# The directives of a module, by how they begin.
sub directives {
    my ($modules, $before, $begin) = @_;
    my ($status, $said) = httpd_with($modules, $before)->configtest('-L');
    return $status == 0 ? $said =~ /^<?($begin\w+)/mg : ();
}

sub version {
    my ($package) = @_;
    my ($version) = qx(dpkg-query -W -f '\${Version}' '$package' 2>/dev/null) =~ /^(?:\d+:)?([\d.]+)/;
    return $version;
}

sub versioned {
    my ($name, $package) = @_;
    my $version = version($package) // '';
    return like($document, qr/\b\Q$name\E \Q$version\E(?!\.?\d)/, "$name: the document speaks of version $version");
}

# --- this module

subtest 'mod_ratelimit_plans' => sub {
    my $config = "RateLimitStore counters shm size=1M file=counters\nRateLimitEngine On\nRateLimitRule page rate=10/hour path=/page.html\n";
    my $server = httpd_with(['remoteip'], "RemoteIPHeader X-Forwarded-For\n$config")->start;
    is(admitted($server, 100, '/page.html'), 10, 'O1 ten of a hundred, with four processes');
    is(refusal($server, '/page.html'), '429 ratelimit ratelimit-policy retry-after x-ratelimit-limit x-ratelimit-remaining x-ratelimit-reset',
        'O2 a refusal is 429, says when to come again, and what is left');
    ok($server->graceful, 'O3 a graceful restart');
    is(admitted($server, 5, '/page.html'), 0, 'O3 and it is refused as before');
    ok($server->restart, 'O3 a restart');
    is(admitted($server, 5, '/page.html'), 0, 'O3 and it is refused as before');
    ok($server->stop && $server->start, 'O3 a stop and a start');
    is(admitted($server, 5, '/page.html'), 0, 'O3 and it is refused as before');
    is(admitted($server, 5, '/page.html', 'X-Forwarded-For: 192.0.2.9'), 5, 'O4 mod_remoteip says who it is');
    is(admitted_at_once(httpd_with([], $config)->start, 16, '/page.html'), 10, 'O1 ten of sixteen at once');

    my $junk = 0;
    $junk += $server->get('/page.html', 'X-Forwarded-For: ' . address($_))->{status} == 200 for 1 .. 20_000;
    is($junk, 20_000, 'O5 20 000 others come, where 12 400 have room');
    is(admitted($server, 5, '/page.html'), 0, 'O5 and who was refused is refused as before');
    is(in_section([], $config, 'RateLimitRule more rate=1/s'), 'yes', 'O6 in sections');
    $server->stop;

    my $dry = httpd_with([], "$config\nRateLimitEngine LogOnly\n")->start;
    is(admitted($dry, 20, '/page.html'), 20, 'O9 a dry run');
    $dry->stop;

    my $rate = httpd_with([], "RateLimitEngine On\nRateLimitRule page rate=2/s burst=1\n")->start;
    my $passed = hammered($rate, 3, '/page.html');
    ok($passed >= 5 && $passed <= 8, 'O8 who goes on asking gets on as the rate says') or diag($passed);
    $rate->stop;

    my $auth = httpd_with([qw(authn_core authn_file auth_basic authz_user)], <<'END');
RateLimitEngine On
<Location /page.html>
    RateLimitRule page rate=5/hour key=user
    AuthType Basic
    AuthName people
    AuthUserFile "@DIR@/users"
    Require valid-user
</Location>
END
    $auth->file('users', "ann:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00=\n"); # hello
    $auth->start;
    is($auth->statuses(5, '/page.html', 'Authorization: Basic YW5uOndyb25n'), '401 401 401 401 401', 'O7 five wrong passwords');
    is($auth->statuses(6, '/page.html', 'Authorization: Basic YW5uOmhlbGxv'), '200 200 200 200 200 429', 'O7 take nothing of what the user has');
    $auth->stop;
};

# --- mod_evasive

subtest 'mod_evasive' => sub {
    plan skip_all => 'it is not there' if !RLP::Httpd::has_module('evasive20');
    versioned('mod_evasive', 'libapache2-mod-evasive');
    my $config = "RemoteIPHeader X-Forwarded-For\nDOSPageCount 10\nDOSPageInterval 3600\nDOSSiteCount 100000\nDOSLogDir \"\@DIR\@/logs\"\n";
    my @modules = qw(evasive20 remoteip);
    my $server = httpd_with(\@modules, $config)->start;
    cmp_ok(admitted($server, 200, '/page.html'), '>=', 20, 'E1 twice the limit and more, with four processes');
    is(refusal($server, '/page.html'), '403', 'E2 a refusal is 403, and says nothing else');
    ok($server->graceful, 'E3 a graceful restart');
    cmp_ok(admitted($server, 5, '/page.html'), '>', 0, 'E3 and it is admitted again');
    $server->stop;

    my $single = httpd_with(\@modules, "${config}StartServers 1\nMaxRequestWorkers 1\nDOSBlockingPeriod 2\n")->start;
    cmp_ok(admitted($single, 20, '/page.html', 'X-Forwarded-For: 192.0.2.1'), '<', 20, 'E4 with one process: refused');
    is(admitted($single, 1, '/page.html', 'X-Forwarded-For: 192.0.2.2'), 0, 'E4 and so is whom mod_remoteip calls somebody else');
    my $since = time;
    my $passed = 0;
    while (time < $since + 6) {
        $passed += admitted($single, 1, '/page.html');
        sleep 0.5;
    }
    is($passed, 0, 'E5 who goes on asking stays blocked beyond DOSBlockingPeriod');
    $single->stop;
    $single = httpd_with(\@modules, "${config}StartServers 1\nMaxRequestWorkers 1\n")->start;
    my $before = resident($single);
    $single->get("/page$_.html") for 1 .. 30_000;
    cmp_ok(resident($single) - $before, '>', 1500, 'E7 its memory grows, with 30 000 pages that are not there');
    $single->stop;
    is(in_section(\@modules, '', 'DOSPageCount 2'), 'no', 'E6 not in sections');
    my @directives = directives(\@modules, '', 'DOS');
    ok(@directives > 5 && !grep({ /user|header|key|plan/i } @directives), 'E8 no directive for users, keys or plans') or diag("@directives");
};

# --- mod_qos

subtest 'mod_qos' => sub {
    plan skip_all => 'it is not there' if !RLP::Httpd::has_module('qos');
    versioned('mod_qos', 'libapache2-mod-qos');
    my @modules = qw(setenvif unique_id qos);
    my ($status) = httpd_with(\@modules, '')->configtest;
    my $needs = $status != 0;
    ok($needs, 'Q1 it does not load by itself');
    my $load = $needs ? "LoadFile libpcre.so.3\n" : '';
    my $start = sub {
        my ($config) = @_;
        my $server = httpd_with([qw(setenvif unique_id)], qq{${load}LoadModule qos_module "$RLP::Httpd::modules/mod_qos.so"\n$config});
        return $server->try_start ? undef : $server;
    };
    my $limit = "SetEnvIf Request_URI /page QS_Limit=yes\nQS_ClientEventLimitCount 10 3600 QS_Limit\n";
    my $server = $start->($limit);
    ok($server, 'Q1 but after LoadFile libpcre.so.3') or return;
    my $admitted = admitted($server, 100, '/page.html');
    ok($admitted == 9 || $admitted == 10, 'Q2 the limit is one for all processes') or diag($admitted);
    is(refusal($server, '/page.html'), '500', 'Q3 a refusal is 500, and says nothing else');
    ok($server->graceful, 'Q4 a graceful restart');
    is(admitted($server, 5, '/page.html'), 0, 'Q4 and it is refused as before');
    ok($server->stop && $server->start, 'Q4 a stop and a start');
    cmp_ok(admitted($server, 5, '/page.html'), '>', 0, 'Q4 and it is admitted again');
    my $again = 0;
    for (1 .. 32_000) {
        $again += $server->get('/page.html')->{status} == 200;
    }
    cmp_ok($again, '<=', 10, 'Q5 of 32 000 requests ten pass');
    cmp_ok(admitted($server, 8000, '/page.html'), '>', 1000, 'Q5 of the next 8000 thousands do');
    $server->stop;

    $server = $start->($limit);
    $admitted = admitted_at_once($server, 16, '/page.html');
    ok($admitted == 9 || $admitted == 10, 'Q2 also of those who come at once') or diag($admitted);
    $server->stop;
    $server = $start->("QS_LogOnly on\n$limit");
    is(admitted($server, 20, '/page.html'), 20, 'Q8 a dry run');
    $server->stop;
    $server = $start->(qq{LoadModule remoteip_module "$RLP::Httpd::modules/mod_remoteip.so"\nRemoteIPHeader X-Forwarded-For\n$limit});
    admitted($server, 20, '/page.html', 'X-Forwarded-For: 20.0.0.1');
    is(admitted($server, 1, '/page.html', 'X-Forwarded-For: 20.0.0.2'), 0, 'Q9 the peer is the client, whatever mod_remoteip says');
    $server->stop;

    my $table = $start->("QS_ClientEntries 1000\nQS_ClientIpFromHeader X-Client\n$limit");
    ok($table, 'Q6 a table of 1000 clients');
    admitted($table, 20, '/page.html', 'X-Client: 192.0.2.1');
    is(admitted($table, 5, '/page.html', 'X-Client: 192.0.2.1'), 0, 'Q6 a client is refused');
    admitted($table, 1, '/page.html', 'X-Client: ' . address($_)) for 1 .. 2000;
    cmp_ok(admitted($table, 5, '/page.html', 'X-Client: 192.0.2.1'), '>', 0, 'Q6 2000 others come, and it is admitted again');
    $table->stop;
    is(in_section([qw(setenvif unique_id)], qq{${load}LoadModule qos_module "$RLP::Httpd::modules/mod_qos.so"\n}, 'QS_ClientEventLimitCount 10 3600 QS_Limit'),
        'no', 'Q7 not in sections');
    my %known = map { $_ => 1 } directives([qw(setenvif unique_id)], qq{${load}LoadModule qos_module "$RLP::Httpd::modules/mod_qos.so"\n}, 'QS_');
    is(join(' ', grep { !$known{$_} } qw(QS_SrvMaxConn QS_SrvMinDataRate QS_DenyRequestLine)), '', 'Q10 others for connections, speed and contents');
};

# --- mod_security

subtest 'mod_security' => sub {
    plan skip_all => 'it is not there' if !RLP::Httpd::has_module('security2');
    versioned('mod_security', 'libapache2-mod-security2');
    my @modules = qw(unique_id security2 remoteip);
    my $rules = sub {
        my ($engine) = @_;
        return <<"END";
RemoteIPHeader X-Forwarded-For
SecRuleEngine $engine
SecDataDir "\@DIR\@/run"
SecAction "id:1,phase:1,nolog,pass,initcol:ip=%{REMOTE_ADDR}"
SecRule IP:COUNT "\@ge 10" "id:2,phase:1,log,deny,status:429"
SecAction "id:3,phase:1,nolog,pass,setvar:ip.count=+1,expirevar:ip.count=3600"
END
    };
    my $made = sub {
        my $server = httpd_with(\@modules, $rules->(@_));
        chmod 0777, $server->file('run') or die "run: $!\n";
        return $server->start;
    };
    my $server = $made->('On');
    is(admitted($server, 100, '/page.html'), 10, 'S1 ten of a hundred, with four processes, one after the other');
    is(refusal($server, '/page.html'), '429', 'S2 a refusal is what the rule says, and says nothing else');
    ok($server->stop && $server->start, 'S3 a stop and a start');
    is(admitted($server, 5, '/page.html'), 0, 'S3 and it is refused as before');
    is(admitted($server, 1, '/page.html', 'X-Forwarded-For: 20.0.0.2'), 1, 'S7 mod_remoteip says who it is');
    my ($file) = glob "'" . $server->file('run') . "'/*ip.pag";
    my $size = -s $file;
    admitted($server, 1, '/page.html', 'X-Forwarded-For: ' . address($_)) for 1 .. 3000;
    cmp_ok(-s $file, '>', $size + 100_000, 'S8 the file grows with each client');
    $server->stop;

    my $most = 0;
    for (1 .. 10) {
        my $parallel = $made->('On');
        my $now = admitted_at_once($parallel, 16, '/page.html');
        $most = $now if $now > $most;
        $parallel->stop;
        last if $most > 10;
    }
    cmp_ok($most, '>', 10, 'S4 of sixteen at once more than ten pass');
    my $dry = $made->('DetectionOnly');
    is(admitted($dry, 20, '/page.html'), 20, 'S5 a dry run');
    $dry->stop;
    is(in_section(\@modules, '', 'SecAction "id:4,phase:2,pass"'), 'yes', 'S6 in sections');
};

# --- nginx

# A server of nginx with requests as RLP::Httpd has them.
package Nginx; ## no critic

use parent -norequire, 'RLP::Httpd';

sub made {
    my ($class, $http, $location) = @_;
    my $server = $class->SUPER::new;
    my $dir = $server->dir;
    mkdir "$dir/temp", 0777 or die "temp: $!\n";
    my $temp = join '', map { "${_}_temp_path \"$dir/temp/$_\";\n" } qw(client_body proxy fastcgi uwsgi scgi);
    my $user = $> == 0 ? "user www-data;\n" : '';
    $server->file('nginx.conf', <<"END");
${user}worker_processes 2;
daemon off;
pid "$dir/run/nginx.pid";
error_log "$dir/logs/nginx.log";
events { worker_connections 1024; }
http {
access_log off;
$temp$http
server {
listen 127.0.0.1:@{[$server->port]};
root "$dir/htdocs";
location / { $location }
}
}
END
    $server->file('htdocs/page.html', "page\n");
    return $server;
}

sub configtest {
    my ($self) = @_;
    my $dir = $self->dir;
    my $said = qx("$nginx" -t -e "$dir/logs/nginx.log" -c "$dir/nginx.conf" 2>&1);
    return ($? >> 8, $said);
}

sub start {
    my ($self) = @_;
    my $dir = $self->dir;
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        open STDOUT, '>', "$dir/said" or POSIX::_exit(126);
        open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
        exec {$nginx} $nginx, '-e', "$dir/logs/nginx.log", '-c', "$dir/nginx.conf" or POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    $self->{started} = $$;
    RLP::Httpd::wait_for(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->port) });
    return $self;
}

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return 1;
    kill 'TERM', $pid;
    return RLP::Httpd::wait_for(sub { waitpid($pid, POSIX::WNOHANG()) == $pid });
}

sub graceful {
    my ($self) = @_;
    my %old = map { $_ => 1 } $self->children;
    kill 'HUP', $self->pid;
    return RLP::Httpd::wait_for(sub { my @now = $self->children; return @now && !grep { $old{$_} } @now });
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $!, $@);
    $self->stop if ($self->{started} // 0) == $$;
    return;
}

package main;

subtest 'nginx' => sub {
    plan skip_all => 'it is not there' if !$nginx;
    versioned('nginx', 'nginx');
    my $by_client = 'limit_req_zone $http_x_client zone=clients:1m rate=1r/m;';
    my $server = Nginx->made($by_client, 'limit_req zone=clients burst=9 nodelay;')->start;
    my @who = ('X-Client: one');
    is(admitted($server, 100, '/page.html', @who), 10, 'N1 ten of a hundred, with two processes');
    is(refusal($server, '/page.html', @who), '503', 'N2 a refusal is 503, and says nothing else');
    ok($server->graceful, 'N3 a reload');
    is(admitted($server, 5, '/page.html', @who), 0, 'N3 and it is refused as before');
    admitted($server, 1, '/page.html', "X-Client: other$_") for 1 .. 20_000;
    cmp_ok(admitted($server, 5, '/page.html', @who), '>', 0, 'N4 20 000 others come, and it is admitted again');
    admitted($server, 20, '/page.html', @who);
    ok($server->stop && $server->start, 'N3 a stop and a start');
    cmp_ok(admitted($server, 5, '/page.html', @who), '>', 0, 'N3 and it is admitted again');
    $server->stop;

    my $real = 'set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For; limit_req_zone $remote_addr zone=a:1m rate=1r/m;';
    my $address = Nginx->made($real, 'limit_req zone=a burst=9 nodelay;')->start;
    is(admitted_at_once($address, 16, '/page.html'), 10, 'N1 also of those who come at once');
    is(admitted($address, 1, '/page.html', 'X-Forwarded-For: 20.0.0.2'), 1, 'N9 its realip module says who it is');
    $address->stop;
    my $rate = Nginx->made('limit_req_zone $remote_addr zone=a:1m rate=2r/s;', 'limit_req zone=a;')->start;
    my $passed = hammered($rate, 3, '/page.html');
    ok($passed >= 5 && $passed <= 8, 'N10 who goes on asking gets on as the rate says') or diag($passed);
    $rate->stop;

    my $words = sub {
        my ($http, $location) = @_;
        return (Nginx->made($http, $location)->configtest)[0] == 0 ? 'yes' : 'no';
    };
    is($words->('limit_req_zone $remote_addr zone=a:1m rate=10r/h;', 'limit_req zone=a;'), 'no', 'N5 no rates by the hour');
    is($words->('limit_req_zone $remote_addr zone=a:1m rate=1.5r/m;', 'limit_req zone=a;'), 'no', 'N5 nor fractions');
    is($words->($by_client, 'limit_req zone=clients cost=2;'), 'no', 'N5 nor costs');
    is($words->($by_client, 'limit_req zone=clients; limit_req_status 429; limit_req_dry_run on;'), 'yes', 'N6 another status, and a dry run');
    is($words->('limit_conn_zone $remote_addr zone=c:1m;', 'limit_conn c 5; limit_rate 10k;'), 'yes', 'N6 and connections, and bandwidth');

    my $auth = Nginx->made('limit_req_zone $remote_user zone=users:1m rate=1r/m;',
        'auth_basic people; auth_basic_user_file users; limit_req zone=users burst=4 nodelay;');
    $auth->file('users', "ann:{PLAIN}right\n");
    $auth->start;
    is($auth->statuses(5, '/page.html', 'Authorization: Basic YW5uOndyb25n'), '401 401 401 401 401', 'N7 five wrong passwords');
    is($auth->statuses(1, '/page.html', 'Authorization: Basic YW5uOnJpZ2h0'), '503', 'N7 use up what the user has');
    $auth->stop;

    my $slow = Nginx->made('limit_req_zone $http_x_client zone=a:1m rate=2r/s;', 'limit_req zone=a burst=9;')->start;
    my $since = time;
    my @waiting = map { $slow->connection } 1 .. 7;
    $_->send("GET /page.html HTTP/1.1\r\nHost: localhost\r\nX-Client: one\r\nConnection: close\r\n\r\n") for @waiting;
    is(admitted($slow, 1, '/page.html'), 1, 'N8 another client');
    cmp_ok(time - $since, '<', 1, 'N8 is served while seven wait for two processes');
    is(scalar grep({ $_->response->{status} == 200 } @waiting), 7, 'N8 who pass');
    cmp_ok(time - $since, '>', 2.5, 'N8 in turns of 500 ms');
    $slow->stop;
};

done_testing;
