# Licensed under the Apache License, Version 2.0; see LICENSE.

# A httpd of the test's own: started in a directory of its own with a given configuration, stopped with the test.
#
# From the environment: HTTPD, HTTPD_MODULES (httpd's own modules), MODULE_SO, TESTCLOCK_SO (a clock that the test
# sets; may be missing), RLP_MPM. What is not given is looked up in the Makefile of the current directory or of
# builddir. @DIR@ and @PORT@ in a configuration stand for the directory and the port.

package RLP::Httpd;

use strict;
use warnings;

use File::Spec ();
use File::Temp ();
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(time);

use parent 'RLP::Process';

use RLP::Basics qw(configured free_port slurp_any spill wait_for);

my $build = $ENV{builddir} || '.';
our $httpd = $ENV{HTTPD} || configured('HTTPD');
our $modules = $ENV{HTTPD_MODULES} || configured('HTTPD_MODULES');
our $module = File::Spec->rel2abs($ENV{MODULE_SO} || "$build/.libs/mod_ratelimit_plans.so");
our $clock = $ENV{TESTCLOCK_SO} ? File::Spec->rel2abs($ENV{TESTCLOCK_SO}) : '';
our $mpm = $ENV{RLP_MPM} || 'event';

our $patience = $RLP::Basics::patience;
my $epoch = 1_800_000_000; # where the test's clock begins, in seconds since 1970
my $uptime = 1_000_000; # and its monotonic time

my %static; # modules that are part of httpd

umask 022; # children of a httpd that root has started are not root, and read what tests write

# --- what there is

# What is missing to start a httpd, or nothing.
sub missing {
    return 'httpd is missing (HTTPD)' if !-x $httpd;
    return 'the modules of httpd are missing (HTTPD_MODULES)' if !-d $modules;
    return 'the module is missing (MODULE_SO)' if !-e $module;
    return has_module("mpm_$mpm") ? '' : "httpd has no mpm_$mpm";
}

sub is_static {
    my ($name) = @_;
    %static = map { $_ => 1 } qx("$httpd" -l 2>&1) =~ /^\s+mod_(\w+)\.c$/mg if !%static;
    return $static{$name};
}

sub has_module {
    my ($name) = @_;
    return is_static($name) || -e "$modules/mod_$name.so";
}

# Is httpd 2.4.N, or newer?
sub is_patched {
    my ($patch) = @_;
    my $said = qx("$httpd" -v);
    return $said =~ m{Apache/2\.4\.(\d+)} ? $1 >= $patch : 1;
}

# Was the module built with Redis?
sub has_redis {
    return slurp($module) =~ /redis-sentinel/;
}

sub has_clock {
    return $clock && -e $clock;
}

sub slurp { return slurp_any(@_) }

# --- a server that does not run yet

# config: its configuration. modules: httpd modules that it needs. clock: time stands still, see set_clock().
# umask: of the server. wrap: words in front of its command.
sub new {
    my ($class, %option) = @_;
    my $self = bless { modules => [], config => '', %option }, $class;

    $self->{temp} = File::Temp->newdir('rlp test XXXXXX', TMPDIR => 1);
    $self->{dir} = $self->{temp}->dirname;
    chmod 0755, $self->{dir} or die "$self->{dir}: $!\n";
    for my $dir (qw(logs htdocs run)) {
        mkdir "$self->{dir}/$dir", 0755 or die "$self->{dir}/$dir: $!\n";
    }
    spill("$self->{dir}/htdocs/index.html", "hello\n");
    $self->{port} = free_port();
    $self->{clock} = $self->{clock} && has_clock();
    if ($self->{clock}) {
        spill("$self->{dir}/clock", pack 'qq', 0, 0);
        $self->set_clock(0);
    }
    $self->configure($self->{config});
    return $self;
}

sub dir { return $_[0]{dir} }
sub port { return $_[0]{port} }
sub config_file { return "$_[0]{dir}/tested.conf" }

# A file in its directory, written if there is a text; the path.
sub file {
    my ($self, $name, $text) = @_;
    my $path = "$self->{dir}/$name";
    spill($path, $text) if defined $text;
    return $path;
}

# Time, in seconds since the start of the test's clock.
sub set_clock {
    my ($self, $seconds) = @_;
    return if !$self->{clock};
    open my $out, '+<', "$self->{dir}/clock" or die "$self->{dir}/clock: $!\n";
    syswrite $out, pack 'qq', map { int(($_ + $seconds) * 1_000_000) } $uptime, $epoch;
    close $out or die "$self->{dir}/clock: $!\n";
    return;
}

sub load {
    my ($self) = @_;
    my %seen;

    my @wanted = grep { !is_static($_) && !$seen{$_}++ } "mpm_$mpm", qw(unixd authz_core), @{ $self->{modules} };
    my $text = join '', map { qq{LoadModule ${_}_module "$modules/mod_$_.so"\n} } @wanted;
    $text .= qq{LoadModule ratelimit_plans_module "$module"\n};
    if ($self->{clock}) {
        $text .= qq{LoadModule rlp_testclock_module "$clock"\nRlpTestClockFile "$self->{dir}/clock"\n};
    }
    return $text;
}

sub workers {
    return $mpm eq 'prefork'
        ? "StartServers 4\nMinSpareServers 2\nMaxSpareServers 8\nMaxRequestWorkers 16\n"
        : "StartServers 2\nServerLimit 4\nThreadsPerChild 8\nMaxRequestWorkers 32\n"
            . "MinSpareThreads 8\nMaxSpareThreads 32\n";
}

# Writes the configuration: the given one is in a file of its own, whose lines messages speak of.
sub configure {
    my ($self, $text) = @_;
    my $dir = $self->{dir};
    my $user = $> == 0 ? "User www-data\nGroup www-data\n" : '';

    $text =~ s/\@DIR\@/$dir/g;
    $text =~ s/\@PORT\@/$self->{port}/g;
    spill($self->config_file, $text);
    spill("$dir/httpd.conf",
              qq{ServerRoot "$dir"\nServerName localhost\nListen 127.0.0.1:$self->{port}\n}
            . qq{DefaultRuntimeDir "$dir/run"\nPidFile "$dir/run/httpd.pid"\nErrorLog "$dir/logs/error.log"\n}
            . qq{LogLevel warn ratelimit_plans:info\nTimeout 60\nGracefulShutdownTimeout 5\nMaxKeepAliveRequests 0\n}
            . $self->load . $user . workers()
            . qq{DocumentRoot "$dir/htdocs"\n<Directory "$dir">\n    Require all granted\n</Directory>\n}
            . qq{Include "$dir/tested.conf"\n});
    return $self;
}

# httpd -t, with further words; exit code and what it said.
sub configtest {
    my ($self, @words) = @_;
    my $pid = open my $out, '-|';
    die "fork: $!\n" if !defined $pid;
    if ($pid == 0) {
        open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
        exec {$httpd} $httpd, '-f', "$self->{dir}/httpd.conf", '-t', @words or POSIX::_exit(127);
    }
    local $/ = undef;
    my $said = <$out>;
    close $out;
    return ($? >> 8, $said // '');
}

# --- life

sub log_text {
    my ($self) = @_;
    return slurp("$self->{dir}/logs/error.log");
}

# What it said at its last start, on the terminal and in the log.
sub said {
    my ($self) = @_;
    return slurp("$self->{dir}/said") . substr $self->log_text, $self->{logged} || 0;
}

sub generations {
    my ($self) = @_;
    return scalar(() = $self->log_text =~ /resuming normal operations/g);
}

# Starts it; nothing, or what it said when it did not start.
sub try_start {
    my ($self) = @_;
    my $before = $self->generations;
    my @command = (@{ $self->{wrap} || [] }, $httpd, '-f', "$self->{dir}/httpd.conf", '-DFOREGROUND');

    $self->{logged} = length $self->log_text;
    $self->spawn("$self->{dir}/said", @command);
    wait_for(sub { !$self->alive || $self->generations > $before });
    return '' if $self->{pid} && $self->generations > $before;
    my $said = $self->said;
    $self->stop;
    return "httpd did not start:\n$said";
}

sub start {
    my ($self) = @_;
    my $error = $self->try_start;
    die $error if $error;
    return $self;
}

# Signals it and waits for the next generation and the end of the last one; false if it ended instead.
sub next_generation {
    my ($self, $signal) = @_;
    my $before = $self->generations;
    my %old = map { $_ => 1 } $self->children;

    $self->{logged} = length $self->log_text;
    kill $signal, $self->{pid};
    wait_for(sub { !$self->alive || $self->generations > $before });
    return 0 if !$self->{pid} || $self->generations == $before;
    return wait_for(sub { !grep { $old{$_} } $self->children });
}

sub graceful { return $_[0]->next_generation('USR1') }
sub restart { return $_[0]->next_generation('HUP') }

# Kills a child of it, any one.
sub kill9 {
    my ($self) = @_;
    my @children = $self->children or return 0;
    return kill 'KILL', $children[rand @children];
}

$SIG{INT} = $SIG{TERM} = sub { exit 1 };
$SIG{PIPE} = 'IGNORE';

# --- requests

sub connection {
    my ($self) = @_;
    return RLP::Httpd::Connection->new($self->{port});
}

# A connection of its own with one request sent. Fields as "Name: value".
sub sent {
    my ($self, $method, $path, @fields) = @_;
    my $connection = $self->connection;
    my @head = ("$method $path HTTP/1.1", 'Host: localhost', 'Connection: close', @fields);

    $connection->send(join("\r\n", @head) . "\r\n\r\n");
    return $connection;
}

sub request {
    my ($self, $method, @rest) = @_;
    return $self->sent($method, @rest)->response($method);
}

# What httpd does after a response, its line in the access log among it, is done when it has closed.
sub request_to_the_end {
    my ($self, $method, @rest) = @_;
    my $connection = $self->sent($method, @rest);
    my $response = $connection->response($method);
    $connection->closed or die "httpd keeps a connection that was to be closed\n";
    return $response;
}

sub get_to_the_end { return shift->request_to_the_end('GET', @_) }

sub get {
    my ($self, $path, @fields) = @_;
    return $self->request('GET', $path, @fields);
}

# The statuses of n requests.
sub statuses {
    my ($self, $n, $path, @fields) = @_;
    return join ' ', map { $self->get($path, @fields)->{status} } 1 .. $n;
}

package RLP::Httpd::Connection;

use strict;
use warnings;

use Time::HiRes qw(time);

sub new {
    my ($class, $port) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 10)
        or die "127.0.0.1:$port: $@\n";
    $socket->blocking(0);
    return bless { socket => $socket, in => '', eof => 0 }, $class;
}

sub ready {
    my ($self, $write, $end) = @_;
    my $bits = '';
    my $left = $end - time;

    vec($bits, fileno $self->{socket}, 1) = 1;
    my ($in, $out) = $write ? (undef, $bits) : ($bits, undef);
    return $left > 0 && select $in, $out, undef, $left;
}

# Writes all of it; false if the server has hung up.
sub send {
    my ($self, $text) = @_;
    my $end = time + $patience;

    while (length $text) {
        my $n = syswrite $self->{socket}, $text;
        if (defined $n) {
            substr $text, 0, $n, '';
        } elsif (!$!{EAGAIN} || !$self->ready(1, $end)) {
            return 0;
        }
    }
    return 1;
}

# Reads some more; false at the end and after the deadline.
sub more {
    my ($self, $end) = @_;
    while (!$self->{eof}) {
        my $n = sysread $self->{socket}, $self->{in}, 65536, length $self->{in};
        return 1 if $n;
        if (defined $n || !$!{EAGAIN}) {
            $self->{eof} = 1;
        } elsif (!$self->ready(0, $end)) {
            return 0;
        }
    }
    return 0;
}

sub need {
    my ($self, $n, $end) = @_;
    while (length $self->{in} < $n) {
        return 0 if !$self->more($end);
    }
    return 1;
}

# Takes a line, without its end.
sub line {
    my ($self, $end) = @_;
    while (index($self->{in}, "\n") < 0) {
        return if !$self->more($end);
    }
    my $line = substr $self->{in}, 0, index($self->{in}, "\n") + 1, '';
    $line =~ s/\r?\n\z//;
    return $line;
}

sub body {
    my ($self, $fields, $end) = @_;
    my $text = '';

    if (lc($fields->{'transfer-encoding'} // '') eq 'chunked') {
        while (1) {
            my $n = hex($self->line($end) // return);
            $self->need($n + 2, $end) or return;
            $text .= substr $self->{in}, 0, $n, '';
            substr $self->{in}, 0, 2, '';
            return $text if $n == 0;
        }
    }
    if (defined $fields->{'content-length'}) {
        $self->need($fields->{'content-length'}, $end) or return;
        return substr $self->{in}, 0, $fields->{'content-length'}, '';
    }
    while ($self->more($end)) { }
    return substr $self->{in}, 0, length $self->{in}, '';
}

# The next response: status, head, fields (names in small letters), body. The status is 0 if none came in time.
sub response {
    my ($self, $method, $seconds) = @_;
    my $end = time + ($seconds || $patience);
    my $status = $self->line($end) // return { status => 0, head => '', fields => {}, body => '' };
    my ($code) = $status =~ m{^HTTP/1\.[01] (\d{3})};
    my ($head, %fields) = ("$status\n");

    while (defined(my $line = $self->line($end))) {
        last if $line eq '';
        $head .= "$line\n";
        my ($name, $value) = $line =~ /^([^:]+):\s*(.*?)\s*$/ or next;
        $name = lc $name;
        $fields{$name} = defined $fields{$name} ? "$fields{$name}, $value" : $value;
    }
    my $bare = ($method // '') eq 'HEAD' || ($code // 0) =~ /^(?:1..|204|304)$/;
    my $body = $bare ? '' : $self->body(\%fields, $end);
    return { status => $code // 0, head => $head, fields => \%fields, body => $body // '' };
}

# Has the server hung up, with nothing more to say?
sub closed {
    my ($self, $seconds) = @_;
    my $end = time + ($seconds || $patience);
    return 0 if $self->{in} ne '' || $self->more($end);
    return $self->{eof};
}

1;
