# Licensed under the Apache License, Version 2.0; see LICENSE.

# Servers of make bench: bare ones, and the same with a limiter. Each serves a file of 64 bytes at /t.txt from a
# directory of its own on 127.0.0.1, and logs no requests. From the environment: HTTPD, HTTPD_MODULES, MODULE_SO.

package RLP::Peer;

use strict;
use warnings;

use File::Temp ();
use parent 'RLP::Process';

use RLP::Httpd;

my $body = '0' x 64;
my $patience = 60; # seconds; valgrind is slow

# --- limiters: those that never refuse, and those that refuse all but the first requests

# Debian's mod_qos is not linked with the libpcre that it needs.
my $qos = "LoadFile libpcre.so.3\nLoadModule qos_module \@MODULES\@/mod_qos.so\nQS_ClientEntries 50000\nQS_SetEnv QS_Limit 1\n";
my $evasive = "LoadModule evasive20_module \@MODULES\@/mod_evasive20.so\nDOSLogDir \"\@DIR\@\"\n";
my $security = "LoadModule unique_id_module \@MODULES\@/mod_unique_id.so\nLoadModule security2_module \@MODULES\@/mod_security2.so\n"
    . "SecRuleEngine On\nSecRequestBodyAccess Off\nSecResponseBodyAccess Off\nSecAuditEngine Off\nSecDataDir \"\@DIR\@\"\nSecTmpDir \"\@DIR\@\"\n"
    . 'SecAction "id:1,phase:1,nolog,pass,initcol:ip=%%{REMOTE_ADDR},setvar:ip.hits=+1,deprecatevar:ip.hits=1/600"' . "\n"
    . 'SecRule IP:HITS "@gt %d" "id:2,phase:1,deny,status:429,nolog"' . "\n";
my $limit_req = "limit_req_zone \$binary_remote_addr zone=z:10m rate=%s;\nlimit_req_status 429;\nlimit_req_log_level info;\nlimit_req zone=z%s;\n";
my $stick = "stick-table type ip size 1m expire 600s store http_req_rate(%s)\nhttp-request track-sc0 src\n"
    . "http-request deny deny_status 429 if { sc_http_req_rate(0) gt %d }\n";
my $throttle = 'if (vsthrottle.is_denied(client.identity, %d, 600s)) { return (synth(429, "Too Many Requests")); }';
my $ours = "LoadModule ratelimit_plans_module \"\@MODULE\@\"\n";
my $rule = "RateLimitEngine On\nRateLimitRule site rate=%s key=ip\nRateLimitHeaders %s\n";
my ($plenty, $one) = (2_000_000_000, 1);

sub rules {
    my ($headers) = @_;
    my ($served, $counted, $refused) = map { sprintf "$ours$rule", $_, $headers } qw(100000000/hour 9000/hour 1/hour);
    return (server => 'httpd', module => 'ratelimit_plans', served => $served, counted => $counted, refused => $refused);
}

my @limiters = (
    ['httpd', server => 'httpd', served => ''],
    ['httpd again', server => 'httpd', served => ''],
    ['the module, without a rule', server => 'httpd', module => 'ratelimit_plans', served => $ours],
    ['one rule, no headers', rules('Off')],
    ['one rule, IETF headers', rules('IETF')],
    ['one rule, both sets', rules('Both')],
    ['mod_evasive', server => 'httpd', module => 'evasive20',
        served => "${evasive}DOSPageCount $plenty\nDOSSiteCount $plenty\nDOSPageInterval 1\nDOSSiteInterval 1\nDOSBlockingPeriod 10\n",
        refused => "${evasive}DOSPageCount 1\nDOSSiteCount 1\nDOSPageInterval 300\nDOSSiteInterval 300\nDOSBlockingPeriod 300\n"],
    # its counter has 16 bits with a sign
    ['mod_qos', server => 'httpd', module => 'qos', served => "${qos}QS_ClientEventLimitCount 32767 1\n",
        refused => "${qos}QS_ClientEventLimitCount 1 600\n"],
    ['mod_security', server => 'httpd', module => 'security2', served => sprintf($security, $plenty),
        refused => sprintf($security, $one)],
    ['nginx', server => 'nginx', served => ''],
    ['nginx limit_req', server => 'nginx', served => sprintf($limit_req, '1000000r/s', ' burst=1000000 nodelay'),
        refused => sprintf($limit_req, '1r/m', '')],
    ['HAProxy', server => 'haproxy', served => ''],
    ['HAProxy stick table', server => 'haproxy', served => sprintf($stick, '10s', $plenty), refused => sprintf($stick, '600s', $one)],
    ['Varnish', server => 'varnishd', served => ''],
    ['Varnish vsthrottle', server => 'varnishd', served => sprintf($throttle, $plenty), refused => sprintf($throttle, $one)],
);
my %limiter = map { my ($name, %more) = @{$_}; ($name => \%more) } @limiters;
my %bare = (httpd => 'httpd', nginx => 'nginx', haproxy => 'HAProxy', varnishd => 'Varnish');

# Those with something to measure beside the bare server.
sub names { return grep { bare($_) ne $_ } map { $_->[0] } @limiters }

sub bare { return $bare{ $limiter{ $_[0] }{server} } }

sub refusing { return grep { $limiter{$_}{refused} } names() }

# Those of httpd that can have a port without their limiter beside one with it: ours, and no limiter at all.
sub paired { return grep { $limiter{$_}{counted} || $_ eq 'httpd again' } names() }

# --- servers: what is before and behind the lines of a limiter, and the command

sub httpd_text {
    my ($self, $lines) = @_;
    my @load = grep { !RLP::Httpd::is_static($_) } qw(mpm_event authz_core);
    my $threads = $self->{single} ? 2 : 64;
    $lines = paired_text($self, $lines) if $self->{paired};
    return qq{ServerRoot "\@DIR\@"\nDefaultRuntimeDir "\@DIR\@"\nPidFile "\@DIR\@/pid"\nServerName localhost\n}
        . qq{Listen 127.0.0.1:$self->{port}\nErrorLog "\@DIR\@/error.log"\nLogLevel error\n}
        . join('', map { qq{LoadModule ${_}_module "\@MODULES\@/mod_$_.so"\n} } @load)
        . "ServerLimit 1\nStartServers 1\nThreadsPerChild $threads\nThreadLimit $threads\nMaxRequestWorkers $threads\n"
        . "MinSpareThreads 1\nMaxSpareThreads $threads\nAsyncRequestWorkerFactor 50\nTimeout 300\nKeepAliveTimeout 300\n"
        . qq{MaxKeepAliveRequests 0\nDocumentRoot "\@DIR\@/www"\n<Directory />\n    AllowOverride None\n    Require all granted\n</Directory>\n$lines};
}

# The limiter for one of two ports; modules are loaded for both.
sub paired_text {
    my ($self, $lines) = @_;
    my $load = join '', $lines =~ /^(LoadModule.*\n)/mg;
    my $rest = $lines =~ s/^LoadModule.*\n//mgr;
    return "Listen 127.0.0.1:$self->{without}\n$load<VirtualHost 127.0.0.1:$self->{without}>\n</VirtualHost>\n"
        . "<VirtualHost 127.0.0.1:$self->{port}>\n$rest</VirtualHost>\n";
}

sub nginx_text {
    my ($self, $lines) = @_;
    my $temp = join '', map { qq{${_}_temp_path "\@DIR\@/$_";\n} } qw(client_body proxy fastcgi uwsgi scgi);
    return 'daemon off;' . ($self->{single} ? ' master_process off;' : '') . " worker_processes 1;\npid \"\@DIR\@/pid\";\n"
        . "error_log \"\@DIR\@/error.log\" crit;\nevents { worker_connections 1024; }\nhttp {\naccess_log off;\n"
        . "keepalive_requests 1000000000;\nkeepalive_timeout 300s;\ndefault_type text/plain;\n$temp$lines"
        . "server { listen 127.0.0.1:$self->{port}; root \"\@DIR\@/www\"; }\n}\n";
}

sub haproxy_text {
    my ($self, $lines) = @_;
    my $timeouts = join '', map { "timeout $_ 300s\n" } qw(client server connect http-keep-alive);
    return "global\nnbthread 1\nmaxconn 2000\ndefaults\nmode http\n${timeouts}frontend f\nbind 127.0.0.1:$self->{port}\n$lines"
        . qq{http-request return status 200 content-type text/plain string "$body"\n};
}

sub varnishd_text {
    my ($self, $lines) = @_;
    return qq{vcl 4.1;\nimport vsthrottle;\nbackend default none;\nsub vcl_recv {\n$lines\nreturn (synth(200, "OK"));\n}\n}
        . qq{sub vcl_synth {\nset resp.http.Content-Type = "text/plain";\nset resp.body = "$body";\nreturn (deliver);\n}\n};
}

my %server = (
    httpd => { text => \&httpd_text, command => sub { ($RLP::Httpd::httpd, $_[0]{single} ? '-X' : '-DFOREGROUND', '-f', $_[1]) } },
    nginx => { text => \&nginx_text, command => sub { ('nginx', '-p', $_[0]{dir}, '-e', "$_[0]{dir}/error.log", '-c', $_[1]) } },
    haproxy => { text => \&haproxy_text, command => sub { ('haproxy', '-db', '-f', $_[1]) } },
    varnishd => { text => \&varnishd_text, command => sub {
        return ('varnishd', '-F', '-a', "127.0.0.1:$_[0]{port}", '-f', $_[1], '-s', 'malloc,64m', '-n', "$_[0]{dir}/vn", '-j', 'none',
            '-p', 'thread_pools=1', '-p', 'thread_pool_min=50');
    } },
);

# The program of a server, which may be where only root looks.
sub program {
    my ($name) = @_;
    return $RLP::Httpd::httpd if $name eq 'httpd';
    return (grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin')[0];
}

# Why it cannot run, or nothing.
sub missing {
    my ($name) = @_;
    my $limiter = $limiter{$name};
    my $module = $limiter->{module} // '';
    return "$limiter->{server} is missing" if !program($limiter->{server});
    return "httpd has no mod_$module" if $module && $module ne 'ratelimit_plans' && !-e "$RLP::Httpd::modules/mod_$module.so";
    return '';
}

# Measures it; why that cannot be done, or nothing.
sub tried {
    my ($name, $measure) = @_;
    my $reason = missing($name);

    if (!$reason && !eval { $measure->(); 1 }) {
        $reason = join ' ', split ' ', $@;
    }
    return $reason;
}

# --- life

# Starts the named; kind: served, refused, or counted, where fewer requests are served. single: one process, for a
# profiler. paired: one of paired(), which has the port without_port(), too. wrap: words in front of the command.
sub start {
    my ($class, $name, %option) = @_;
    my $limiter = $limiter{$name};
    my $server = $server{ $limiter->{server} };
    my $self = bless { name => $name, patience => $patience, scoped => 1, %option }, $class;

    $self->{temp} = File::Temp->newdir('rlpbenchXXXXXX', TMPDIR => 1);
    $self->{dir} = $self->{temp}->dirname;
    $self->{port} = RLP::Httpd::free_port();
    $self->{without} = RLP::Httpd::free_port() if $self->{paired};
    mkdir "$self->{dir}/www" or die "$self->{dir}/www: $!\n";
    RLP::Httpd::spill("$self->{dir}/www/t.txt", $body);
    my $text = $server->{text}->($self, $limiter->{ $option{kind} // 'served' } // $limiter->{served});
    my %value = (DIR => $self->{dir}, MODULES => $RLP::Httpd::modules, MODULE => $RLP::Httpd::module);
    $text =~ s/\@(DIR|MODULES|MODULE)\@/$value{$1}/g;
    my $config = RLP::Httpd::spill("$self->{dir}/server.conf", $text);
    my ($program, @words) = $server->{command}->($self, $config);
    my @wrap = map { s/\@DIR\@/$self->{dir}/r } @{ $option{wrap} // [] };
    $self->{command} = [@wrap, program($limiter->{server}), @words];
    $self->run;
    return $self;
}

sub run {
    my ($self) = @_;
    my @command = @{ $self->{command} };

    if ($> == 0) {
        unshift @command, qw(setpriv --reuid=www-data --regid=www-data --clear-groups --);
        chmod 0777, $self->{dir} or die "$self->{dir}: $!\n";
    }
    $self->spawn("$self->{dir}/said", @command);
    return if RLP::Httpd::wait_for(sub { $self->answers || !$self->alive }, $patience) && $self->{pid};
    my $said = RLP::Httpd::slurp("$self->{dir}/said") . RLP::Httpd::slurp("$self->{dir}/error.log");
    $self->stop;
    die "$self->{name} did not start: $said\n";
}

sub port { return $_[0]{port} }
sub without_port { return $_[0]{without} }
sub dir { return $_[0]{dir} }

sub answers {
    my ($self) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}) or return 0;
    syswrite $socket, "GET /t.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    return sysread($socket, my $got, 4096) ? 1 : 0;
}

1;
