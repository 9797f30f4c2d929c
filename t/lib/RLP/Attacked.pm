# Licensed under the Apache License, Version 2.0; see LICENSE.

# Servers that t/attack is let loose on: httpd with our module, and its peers, each with the configuration
# t/attack/peers/NAME.conf. Where @DIR@, @PORT@ and @USER@ stand in it the server's own are put.

package RLP::Attacked;

use strict;
use warnings;

use Exporter qw(import);
use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use POSIX ();

use RLP::Httpd;

our @EXPORT_OK = qw(five limits scaled);
our $top; # of the sources
our $load; # the program that sends many requests

my $resource = "the resource\n";
my @files = (['items', $resource], map { ["$_.txt", "hello\n"] } qw(limited free slow));

# Of each server: the package it comes in, and what it is started with where that is no httpd.
my %kind = (
    ours => {},
    mod_evasive => { package => 'libapache2-mod-evasive', module => 'evasive20', config => 'evasive' },
    mod_qos => { package => 'libapache2-mod-qos', module => 'qos', config => 'qos', with => ['setenvif'], file => 'libpcre.so.3' },
    mod_security => {
        package => 'libapache2-mod-security2', module => 'security2', config => 'modsecurity', with => ['unique_id'],
    },
    nginx => { package => 'nginx', program => 'nginx', config => 'nginx', command => sub { ('-e', "$_[0]/logs/error.log", '-c', $_[1]) }, reload => 'HUP' },
    HAProxy => { package => 'haproxy', program => 'haproxy', config => 'haproxy', command => sub { ('-W', '-db', '-f', $_[1]) }, reload => 'USR2' },
    Varnish => {
        package => 'varnish', program => 'varnishd', config => 'varnish', also => 'varnish-modules',
        command => sub {
            ('-F', '-j', 'none', '-a', "127.0.0.1:$_[2]", '-f', $_[1], '-n', "$_[0]/run", '-s', 'malloc,64m',
                '-p', 'thread_pools=1', '-p', 'thread_pool_min=50', '-p', 'http_req_hdr_len=32k', '-p', 'http_req_size=96k');
        },
        reload => \&reload_varnish,
    },
);

sub names { return qw(ours mod_evasive mod_qos mod_security nginx HAProxy Varnish) }

# A number of requests, as SCALE has it, and no fewer than that.
sub scaled {
    my ($n, $least) = @_;
    my $scaled = int($n * ($ENV{SCALE} || 1));
    return $scaled > $least ? $scaled : $least;
}

# Our configuration for limits of an address, as t/attack/peers has it for the others: at every path but /free.txt.
sub limits {
    my ($limits, $more) = @_;
    return (modules => ['remoteip'], config => <<"CONF" . ($more // ''));
RemoteIPHeader X-Forwarded-For
RemoteIPInternalProxy 127.0.0.1
RateLimitStore counters shm size=1M
RateLimitEngine On
RateLimitRule all $limits key=ip "if=%{REQUEST_URI} !~ m#^/(?:free|slow|items)#"
RateLimitRule items path=/items rate=5/week key=ip
CONF
}

sub five { return limits('rate=5/week') }

sub program {
    my ($name) = @_;
    my ($found) = grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
    return $found;
}

# What is missing to attack it, or nothing.
sub missing {
    my ($name) = @_;
    my $kind = $kind{$name};
    return "no $kind->{program} (Debian: $kind->{package})" if $kind->{program} && !program($kind->{program});
    return RLP::Httpd::missing() if !$kind->{program} && RLP::Httpd::missing();
    return "no mod_$kind->{module}.so (Debian: $kind->{package})"
        if $kind->{module} && !RLP::Httpd::has_module($kind->{module});
    return 'no libvmod_vsthrottle.so (Debian: varnish-modules)' if $name eq 'Varnish' && !has_vmod();
    return '';
}

sub has_vmod {
    return scalar(my @found = glob '/usr/lib/*/varnish/vmods/libvmod_vsthrottle.so /usr/local/lib/varnish/vmods/libvmod_vsthrottle.so');
}

# The first line that a command prints, or nothing.
sub first_line {
    my (@command) = @_;
    my $pid = open my $out, '-|';
    die "fork: $!\n" if !defined $pid;
    if ($pid == 0) {
        open STDERR, '>', '/dev/null' or POSIX::_exit(126);
        exec {$command[0]} @command or POSIX::_exit(127);
    }
    my $line = <$out> // '';
    close $out;
    chomp $line;
    return $line;
}

# As its package says; ours says what it was built from.
sub version {
    my ($name) = @_;
    my $query = program('dpkg-query') or return 'version unknown';
    return ours_version() if $name eq 'ours';
    return join ', ', map { first_line($query, '-W', '-f', '${Version}', $_) || 'version unknown' }
        grep { defined } @{ $kind{$name} }{qw(package also)};
}

sub ours_version {
    my ($version) = RLP::Httpd::slurp("$top/configure.ac") =~ /^AC_INIT\(\[[^\]]*\], \[([^\]]*)\]/m;
    my ($httpd) = first_line($RLP::Httpd::httpd, '-v') =~ m{(Apache/\S+)};
    return join ', ', $version // 'version unknown', $httpd // ();
}

# --- a server

# config: of ours, which may need more of httpd's modules, and files in htdocs, [name, text] each.
sub start {
    my ($class, $name, %option) = @_;
    my $kind = $kind{$name};
    my $self = $kind->{program} ? own($class, $name) : httpd($name, %option);

    $self->{name} = $name;
    for my $file (@files, @{ $option{files} || [] }) {
        RLP::Httpd::spill($self->dir . "/htdocs/$file->[0]", $file->[1]);
    }
    if ($> == 0) { # its children are to write there
        chown +(getpwnam 'www-data')[2, 3], map { $self->dir . "/$_" } qw(logs run);
    }
    return $self->start;
}

sub httpd {
    my ($name, %option) = @_;
    my $kind = $kind{$name};
    my @modules = (@{ $kind->{with} || [] }, @{ $option{modules} || [] });
    my $config = $option{config};

    if ($name ne 'ours') {
        $config = RLP::Httpd::slurp("$top/t/attack/peers/$kind->{config}.conf");
    }
    my $server = RLP::Attacked::Httpd->new(modules => \@modules, config => '');
    @{$server}{qw(peer file)} = @{$kind}{qw(module file)};
    return $server->configure($config);
}

sub own {
    my ($class, $name) = @_;
    my $self = bless { kind => $kind{$name} }, 'RLP::Attacked::Other';
    $self->{temp} = File::Temp->newdir('rlp-attack-XXXXXX', TMPDIR => 1);
    $self->{dir} = $self->{temp}->dirname;
    chmod 0755, $self->{dir};
    mkdir "$self->{dir}/$_", 0755 for qw(logs htdocs run);
    $self->{port} = RLP::Httpd::free_port();
    my $text = RLP::Httpd::slurp("$top/t/attack/peers/$self->{kind}{config}.conf");
    my $user = $> == 0 ? 'user www-data;' : '';
    $text =~ s/\@DIR\@/$self->{dir}/g;
    $text =~ s/\@PORT\@/$self->{port}/g;
    $text =~ s/\@USER\@/$user/g;
    $self->{config} = RLP::Httpd::spill("$self->{dir}/server.conf", $text);
    return $self;
}

sub reload_varnish {
    my ($self) = @_;
    my @admin = (program('varnishadm'), '-n', "$self->{dir}/run");
    my $vcl = 'again' . ++$self->{reloads};
    first_line(@admin, 'vcl.load', $vcl, $self->{config});
    first_line(@admin, 'vcl.use', $vcl);
    return 1;
}

# --- what is done to each, whatever it is

package RLP::Attacked::Any;

use strict;
use warnings;

use Time::HiRes qw(time);

use RLP::Figures;

# One request on a connection of its own; the address that it pretends, or that it has with mod_evasive.
sub ask {
    my ($self, $path, $address, @fields) = @_;
    my $connection = $self->connect($address);
    $connection->send(join("\r\n", "GET $path HTTP/1.1", 'Host: localhost', 'Connection: close',
            defined $address ? "X-Forwarded-For: $address" : (), @fields) . "\r\n\r\n");
    return $connection->response('GET');
}

sub connect {
    my ($self, $address) = @_;
    my @from = $self->{name} eq 'mod_evasive' && ($address // '') =~ /^10([.].*)/ ? (LocalAddr => "127$1") : ();
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->port, Timeout => 20, @from)
        or die "127.0.0.1:@{[ $self->port ]}: $@\n";
    $socket->blocking(0);
    return bless { socket => $socket, in => '', eof => 0 }, 'RLP::Httpd::Connection';
}

# "200 200 429" of n requests.
sub statuses {
    my ($self, $n, $path, $address, @fields) = @_;
    return map { $self->ask($path, $address, @fields)->{status} } 1 .. $n;
}

# How many of n are admitted.
sub admitted {
    my ($self, @how) = @_;
    return scalar grep { $_ == 200 } $self->statuses(@how);
}

# Many requests: count, first, connections, depth, seconds, path, fields. What came of them by status, and seconds.
sub flood {
    my ($self, %how) = @_;
    return $self->flooded($self->begin_flood(%how));
}

# Two floods in turn, since a machine that is shared is not always as fast: what came of each in all, and the median
# of the second one's rate beside the first one's.
sub in_turn {
    my ($self, @how) = @_;
    my @sums = map { { sent => 0, seconds => 0 } } @how;
    my @ratios;
    for my $round (1 .. 5) {
        my @rates;
        for my $i (0, 1) {
            my $got = $self->flood(first => $sums[$i]{sent}, %{ $how[$i] });
            push @rates, $got->{rate};
            $sums[$i]{$_} += $got->{$_} for keys %{$got};
        }
        push @ratios, $rates[0] ? $rates[1] / $rates[0] : 0;
    }
    $_->{rate} = $_->{seconds} ? $_->{sent} / $_->{seconds} : 0 for @sums;
    return (@sums, RLP::Figures::median(@ratios));
}

sub begin_flood {
    my ($self, %how) = @_;
    my $own = $self->{name} eq 'mod_evasive' && !$how{fields};
    my @field = $how{fields} ? @{ $how{fields} } : 'X-Forwarded-For: @ADDRESS@';
    my $text = join("\r\n", 'GET ' . ($how{path} // '/limited.txt') . ' HTTP/1.1', 'Host: localhost', @field) . "\r\n\r\n";
    my $file = $self->dir . '/request' . ++$self->{loads};
    RLP::Httpd::spill($file, $text);
    my @command = ($RLP::Attacked::load, $self->port, $how{count}, $how{first} // 0, $how{connections} // 16, $how{depth} // 32,
        $how{seconds} // 0, $own ? 'own' : ());
    my $pid = open my $out, '-|';
    die "fork: $!\n" if !defined $pid;
    if ($pid == 0) {
        open STDIN, '<', $file or POSIX::_exit(126);
        exec {$command[0]} @command or POSIX::_exit(127);
    }
    $self->{flooding} = $pid;
    return $out;
}

sub flooded {
    my ($self, $out) = @_;
    my %got = map { split } <$out>;
    close $out;
    die "the load failed\n" if !defined $got{seconds};
    my ($seconds, $again) = delete @got{qw(seconds again)};
    my $sent = 0;
    $sent += $_ for values %got;
    return { %got, again => $again, seconds => $seconds, sent => $sent, rate => $seconds > 0 ? $sent / $seconds : 0 };
}

# Is there an answer of begin_flood(), or comes one before the deadline?
sub flood_is_over {
    my ($self, $out, $within) = @_;
    return IO::Select->new($out)->can_read($within) ? 1 : 0;
}

# Memory of its own of all its processes, in MB.
sub memory {
    my ($self) = @_;
    my $sum = 0;
    for my $pid ($self->pids) {
        $sum += $_ for RLP::Httpd::slurp("/proc/$pid/smaps_rollup") =~ /^Private_\w+:\s+(\d+)/mg;
    }
    return $sum / 1024;
}

# --- httpd, with our module or another

package RLP::Attacked::Httpd;

use strict;
use warnings;

use parent -norequire, 'RLP::Attacked::Any', 'RLP::Httpd';

# mod_remoteip takes the address from the field, for all but mod_evasive, whom it is nothing to.
sub load {
    my ($self) = @_;
    my $text = $self->SUPER::load;
    return $text if !$self->{peer};
    $text =~ s/^LoadModule ratelimit_plans_module .*\n//m;
    my $file = $self->{file} ? "LoadFile $self->{file}\n" : '';
    return $text . $file . qq{LoadModule $self->{peer}_module "$RLP::Httpd::modules/mod_$self->{peer}.so"\n};
}

# Another's log knows no level of ours.
sub configure {
    my ($self, $text) = @_;
    $self->SUPER::configure($text);
    my $file = $self->dir . '/httpd.conf';
    RLP::Httpd::spill($file, RLP::Httpd::slurp($file) =~ s/ ratelimit_plans:info//r) if $self->{peer};
    return $self;
}

package RLP::Attacked::Other;

use strict;
use warnings;

use parent -norequire, 'RLP::Attacked::Any', 'RLP::Process';

sub dir { return $_[0]{dir} }
sub port { return $_[0]{port} }

sub said {
    my ($self) = @_;
    return RLP::Httpd::slurp("$self->{dir}/said") . RLP::Httpd::slurp("$self->{dir}/logs/error.log");
}

sub answers {
    my ($self) = @_;
    return eval { $self->ask('/free.txt', undef)->{status} };
}

sub start {
    my ($self) = @_;
    my @command = (RLP::Attacked::program($self->{kind}{program}), $self->{kind}{command}->(@{$self}{qw(dir config port)}));
    $self->spawn("$self->{dir}/said", @command);
    RLP::Httpd::wait_for(sub { !$self->alive || $self->answers });
    return $self if $self->alive && $self->answers;
    my $said = $self->said;
    $self->stop;
    die "$command[0] did not start:\n$said";
}

# A reload that waits for those who are on their way; false where it does not come to an end.
sub graceful {
    my ($self) = @_;
    my $reload = $self->{kind}{reload};
    return $reload->($self) if ref $reload;
    my %old = map { $_ => 1 } $self->children;
    kill $reload, $self->{pid};
    return RLP::Httpd::wait_for(sub { my @now = $self->children; @now && !grep { $old{$_} } @now });
}

1;
