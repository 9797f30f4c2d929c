#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The documentation is true: each configuration in it passes httpd -t, each transcript comes out as printed.
#
# Needs httpd and the module: HTTPD, HTTPD_MODULES (httpd's own modules), MODULE_SO, RLPCTL, top_srcdir; what is
# not given is looked up in the Makefile of the current directory or of builddir.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use File::Copy qw(copy);
use File::Temp qw(tempdir);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Basics qw(configured free_port slurp spill wait_for);
use RLP::Process;

my $top = abs_path($ENV{top_srcdir} || dirname(dirname($0)));
my $build = abs_path($ENV{builddir} || '.');
my $httpd = $ENV{HTTPD} || configured('HTTPD');
my $modules = $ENV{HTTPD_MODULES} || configured('HTTPD_MODULES');
my $module = $ENV{MODULE_SO} || "$build/.libs/mod_ratelimit_plans.so";
my $rlpctl = $ENV{RLPCTL} || "$build/rlpctl/rlpctl";
my $shown = '127.0.0.1:8080'; # in the documentation

my $run = tempdir('docs.XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $run or die "$run: $!\n";
mkdir "$run/logs" or die "$run/logs: $!\n";

# What the documented configurations may use, as far as httpd has it and does not contain it.
my @wanted = qw(
    cache mpm_event unixd log_config authz_core authz_host authz_user authn_core authn_file auth_basic mime dir env alias
    setenvif headers rewrite remoteip proxy proxy_http ratelimit dbd
);

# --- reading

# Blocks of one language in a document: [FILE:LINE, TEXT].
sub blocks {
    my ($language, $file) = @_;
    my (@found, $at, $text);
    my $n = 0;
    for my $line (split /^/, slurp("$top/$file")) {
        $n++;
        if (defined $at && $line =~ /^```\s*$/) {
            push @found, ["$file:$at", $text];
            undef $at;
        } elsif (defined $at) {
            $text .= $line;
        } elsif ($line =~ /^```\Q$language\E\s*$/) {
            ($at, $text) = ($n, '');
        }
    }
    die "$file: the block of line $at has no end\n" if defined $at;
    return @found;
}

# Literal displays of a manual page that match.
sub displays {
    my ($file, $pattern) = @_;
    my @found = slurp("$top/$file") =~ /^\.Bd -literal[^\n]*\n(.*?)^\.Ed$/msg;
    s/\\e/\\/g for @found;
    return map { [$file, $_] } grep { $_ =~ $pattern } @found;
}

sub documents {
    return map { substr $_, 1 + length $top } sort "$top/README.md", glob "\Q$top\E/docs/*.md";
}

# --- configurations

sub load_modules {
    my %static = map { $_ => 1 } qx("$httpd" -l 2>&1) =~ /^\s+mod_(\w+)\.c$/mg;
    my @loaded = grep { !$static{$_} && -e "$modules/mod_$_.so" } @wanted;
    return join '', map { qq{LoadModule ${_}_module "$modules/mod_$_.so"\n} } @loaded;
}

# Plans that an example names and leaves to the reader.
sub missing_plans {
    my ($text) = @_;
    return join '', map { "RateLimitPlan $_ rate=1/s\n" }
        grep { $text =~ /\b$_\b/ && $text !~ /^\s*RateLimitPlan\s+$_\s/m } qw(free pro);
}

# Files that an example names are put into the run directory.
sub place_files {
    my ($text) = @_;
    my ($plan) = (missing_plans($text) . $text) =~ /^\s*RateLimitPlan\s+(\S+)/m;
    spill("$run/map", "# key  plan\n" . ($plan ? "some-key $plan\n" : ''));
    spill("$run/networks", "192.0.2.0/24\n");
    $text =~ s/\btxt:[^\s"]+/txt:map/g;
    $text =~ s/\bfile:[^\s"]+/file:networks/g;
    $text =~ s/\bfile=[^\s"]+/file=counters/g;
    $text =~ s{/var/log/apache2/}{}g;
    $text =~ s{^(\s*LoadModule\s+ratelimit_plans_module\s+)\S+}{$1"$module"}mg;
    return $text;
}

sub configtest {
    my ($name, $text) = @_;
    my $placed = place_files($text);
    my $own = $text =~ /^\s*LoadModule\s+ratelimit_plans_module/m ? '' : qq{LoadModule ratelimit_plans_module "$module"\n};

    spill("$run/example.conf", $placed);
    spill("$run/wrap.conf",
              qq{ServerRoot "$run"\nServerName 127.0.0.1\nListen 127.0.0.1:8080\n}
            . qq{PidFile httpd.pid\nDefaultRuntimeDir .\nErrorLog error.log\n}
            . load_modules() . $own
            . ($own ? missing_plans($text) : '')
            . qq{Include example.conf\n}
            . ($own && $text !~ /RateLimitEngine/ ? "RateLimitEngine On\n" : ''));
    my $said = qx("$httpd" -t -f "$run/wrap.conf" 2>&1);
    return is($said, "Syntax OK\n", "V-16 $name passes httpd -t");
}

# --- a server with the configuration of the demo

my $server;

sub demo_files {
    my ($dir) = @_;
    mkdir $_ or die "$_: $!\n" for $dir, "$dir/site", "$dir/site/api", "$dir/store";
    for my $file (qw(httpd.conf keys.txt site/index.html site/api/hello)) {
        copy("$top/conf/demo/$file", "$dir/$file") or die "$file: $!\n";
        chmod 0644, "$dir/$file" or die "$file: $!\n";
    }
    return $dir;
}

# Starts it with empty counters; the port.
sub demo_start {
    my $port = free_port();
    my $dir = demo_files("$run/demo.$port");
    my @defines = (
        qq{Define DEMO "$dir"}, "Define DEMO_PORT $port",
        qq{Define DEMO_MODULE "$module"}, qq{Define DEMO_MODULES "$modules"}
    );
    push @defines, 'Define DEMO_USER www-data', 'Define DEMO_GROUP www-data' if $> == 0;

    $server = bless { patience => 20 }, 'RLP::Process';
    $server->spawn("$dir/said", $httpd, (map { ('-C', $_) } @defines), '-d', $dir, '-f', "$dir/httpd.conf", '-DFOREGROUND');
    wait_for(sub { !$server->alive || -s "$dir/httpd.pid" });
    return $port if $server->alive && -s "$dir/httpd.pid";
    demo_stop();
    diag(slurp("$dir/said"));
    diag(slurp("$dir/error.log")) if -e "$dir/error.log";
    return 0;
}

sub demo_stop {
    $server->stop if $server;
    undef $server;
    return;
}

$SIG{INT} = $SIG{TERM} = sub { exit 1 };

# --- transcripts

sub shell {
    my ($command) = @_;
    my $said = qx($command 2>&1);
    $said =~ s/[ \t\r]+$//mg;
    $said .= "\n" if $said ne '' && $said !~ /\n\z/;
    return $said;
}

sub transcript {
    my ($name, $text) = @_;
    my $port = $text =~ /\Q$shown\E/ ? demo_start() : 0;

    for my $step (split /^(?=\$ )/m, $text) {
        my ($command, $expected) = $step =~ /^\$ ([^\n]*)\n(.*)\z/s or die "$name: expected \"\$ COMMAND\"\n";
        (my $here = $command) =~ s/\Q$shown\E/127.0.0.1:$port/g;
        is(shell($here), $expected, "V-16 $name: $command");
    }
    demo_stop();
    return;
}

# --- what there is to be true

if (!-x $httpd || !-e $module || !-x $rlpctl) {
    plan skip_all => 'httpd, the module or rlpctl is not there';
}
$ENV{PATH} = dirname(abs_path($rlpctl)) . ":$ENV{PATH}";
$ENV{http_proxy} = 'http://192.0.2.1:3128'; # a user's, which nobody is to ask

my $configurations = 0;
for my $file (documents()) {
    $configurations += configtest(@$_) ? 1 : 0 for blocks('apache', $file);
}
configtest(@$_) for displays('docs/mod_ratelimit_plans.8', qr/^RateLimitPlan /m);
configtest("conf/examples/$_", slurp("$top/conf/examples/$_"))
    for map { basename($_) } sort glob "\Q$top\E/conf/examples/*.conf";

my $installed = slurp("$top/conf/ratelimit_plans.load") . slurp("$top/conf/ratelimit_plans.conf");
configtest('conf/ratelimit_plans.conf', $installed);
(my $uncommented = $installed) =~ s/^(\s*)#(?=\S)/$1/mg;
configtest('conf/ratelimit_plans.conf with all that it offers', $uncommented);

my $transcripts = 0;
for my $file (grep { $_ ne 'docs/guide.md' } documents()) { # whose steps t/guide.t takes
    for my $block (blocks('console', $file)) {
        transcript(@$block);
        $transcripts++;
    }
}
transcript(@$_) for displays('docs/rlpctl.1', qr/^\$ /m);
ok($configurations >= 10 && $transcripts >= 3, 'there are configurations and transcripts in the documents');

# --- the demo, by the commands that ./quickstart prints

my @commands = slurp("$top/quickstart") =~ /^ +(curl .*\$url\S*)/mg;
is(scalar @commands, 3, './quickstart demo prints three commands');
my $port = demo_start();
s/\$url/http:\/\/127.0.0.1:$port/ for @commands;
my @said = map { shell($_ =~ s/^curl -i /curl -si /r) } @commands;
like($said[0], qr/\AHTTP\/1\.1 200 .*^RateLimit: "anonymous";r=4;/ms, 'the first is counted by address');
is($said[1], join(' ', (200) x 10, (429) x 2) . "\n", 'the second uses up the plan "free"');
like($said[2], qr/\AHTTP\/1\.1 200 .*^RateLimit: "pro";r=199;.*^\{"hello"/ms, 'the third has the plan "pro"');
my $page = shell("curl -si http://127.0.0.1:$port/");
like($page, qr/\AHTTP\/1\.1 200 .*<title>/s, 'the page of the demo is there');
unlike($page =~ s/\n\n.*//sr, qr/^(?:X-)?RateLimit/mi, 'and is not limited');
demo_stop();

done_testing;
