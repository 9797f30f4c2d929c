#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# docs/guide.md, step by step: writes the files that it tells to write, restarts when it says so, and each command
# answers as printed. The paths of Debian's httpd stand for those of a server of the test's own.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Httpd;

my $top = abs_path($ENV{top_srcdir} || dirname(dirname($0)));
my $build = abs_path($ENV{builddir} || '.');
my $rlpctl = abs_path($ENV{RLPCTL} || "$build/rlpctl/rlpctl");
my @wanted = qw(log_config authz_host alias);

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();
plan skip_all => 'rlpctl or curl is not there' if !$rlpctl || !-x $rlpctl || !grep { -x "$_/curl" } split /:/, $ENV{PATH};
plan skip_all => 'httpd lacks modules' if grep { !RLP::Httpd::has_module($_) } @wanted;

# --- the guide

# What there is to do, in its order: [LINE, KIND, what stands before it, TEXT].
sub steps {
    my ($file) = @_;
    my (@found, $kind, $text, $before, $at);
    open my $in, '<', $file or die "$file: $!\n";
    while (my $line = <$in>) {
        if (defined $kind && $line =~ /^```$/) {
            push @found, [ $at, $kind, $before, $text ];
            undef $kind;
            $before = '';
        } elsif (defined $kind) {
            $text .= $line;
        } elsif ($line =~ /^```(\w+)$/) {
            ($kind, $text, $at) = ($1, '', $.);
        } elsif ($line =~ /\S/) {
            $before .= ' ' . $line =~ s/\s+\z//r;
        } else {
            $before = $before && $before =~ /:\z/ ? $before : '';
        }
    }
    close $in;
    return @found;
}

# --- the server: Debian's, as far as it matters

my $server = RLP::Httpd->new(modules => \@wanted, config => <<'END');
LogLevel warn
<VirtualHost *:@PORT@>
    DocumentRoot "@DIR@/htdocs"
    CustomLog "@DIR@/logs/access.log" "%h %l %u %t \"%r\" %>s %O"
</VirtualHost>
IncludeOptional conf-enabled/*.conf
END
my $dir = $server->dir;
my %place = ('/etc/apache2/' => '', '/var/lib/apache2/' => 'lib/', '/var/log/apache2/' => 'logs/', '/var/www/html/' => 'htdocs/');
my %debian = reverse %place;

for my $below (qw(conf-available conf-enabled lib)) {
    mkdir "$dir/$below", 0755 or die "$below: $!\n";
}
$ENV{PATH} = dirname($rlpctl) . ":$ENV{PATH}";

# Debian's paths as they are here, below the server's root.
sub here {
    my ($text) = @_;
    $text =~ s{(/etc/apache2/|/var/lib/apache2/|/var/log/apache2/|/var/www/html/)}{$place{$1}}g;
    return $text;
}

sub write_file {
    my ($before, $text) = @_;
    my ($path) = $before =~ /.*`([^`]+)`/ or return fail("which file? $before");
    my $file = here($path);
    my $old = $before =~ /Add to `/ ? RLP::Httpd::slurp("$dir/$file") : '';
    $server->file($file, $old . here($text));
    return pass("$path is written");
}

# --- commands

sub shell {
    my ($command) = @_;
    my $port = $server->port;
    $command = here($command) =~ s/\bsudo //gr =~ s{//127\.0\.0\.1/}{//127.0.0.1:$port/}gr;
    my $said = qx(cd "$dir" && { $command\n} 2>&1);
    return $said =~ s/[ \t\r]+$//mgr;
}

# What systemctl and Debian's commands for httpd do; nothing if it is none of them.
my %life = (
    'restart' => sub { return $server->alive ? $server->restart : $server->start },
    'reload' => sub { return $server->graceful },
);

sub of_httpd {
    my ($command) = @_;
    if ($command =~ /^sudo systemctl (\w+) apache2$/) {
        return $life{$1}->() ? '' : "it does not run\n";
    }
    if ($command =~ /^sudo a2enconf -q (\w+)$/) {
        return symlink("../conf-available/$1.conf", "$dir/conf-enabled/$1.conf") ? '' : "$!\n";
    }
    if ($command =~ /^sudo apachectl (configtest|-t -D \w+)(?: \| head -(\d+))?$/) {
        my ($words, $lines) = ($1, $2);
        my (undef, $said) = $server->configtest($words eq 'configtest' ? () : split / /, $words);
        return defined $lines ? join '', (split /^/, $said)[ 0 .. $lines - 1 ] : $said;
    }
    return;
}

# Without what is not the same each time: where the server lies, and the seconds that go by.
sub timeless {
    my ($text) = @_;
    $text =~ s{\Q$dir\E/(logs/|htdocs/|lib/|)}{$debian{$1}}g;
    $text =~ s/^(Retry-After: )\d+$/$1N/mg;
    $text =~ s/^( +api +(?:\S+ +)+)\d+$/$1N/mg;
    return $text;
}

# What only looks may be asked again, until it shows: a change of a file counts after some seconds.
sub looks {
    my ($command) = @_;
    return $command =~ /^sudo grep|ratelimit-quota|ratelimit-status|rlpctl (?:get|top) /;
}

sub run {
    my ($at, $command, $expected) = @_;
    if ($command =~ /^export (\w+)=(\S+)$/) {
        my ($name, $value, $port) = ($1, $2, $server->port);
        $ENV{$name} = $value =~ s{//127\.0\.0\.1/}{//127.0.0.1:$port/}r;
        return is('', $expected, "docs/guide.md:$at $command");
    }
    my $said = of_httpd($command) // shell($command);
    if (looks($command)) {
        RLP::Httpd::wait_for(sub { $said = shell($command); return timeless($said) eq timeless($expected) });
    }
    return is(timeless($said), timeless($expected), "docs/guide.md:$at $command");
}

my %done;
for my $step (steps("$top/docs/guide.md")) {
    my ($at, $kind, $before, $text) = @{$step};
    $done{$kind}++;
    if ($kind =~ /^(?:apache|text)$/) {
        write_file($before, $text);
    } elsif ($kind eq 'console') {
        run($at, /^\$ ([^\n]*)\n(.*)\z/s) for split /^(?=\$ )/m, $text;
    } else {
        is($kind, 'sh', "docs/guide.md:$at is read by people alone");
    }
}
ok(($done{apache} // 0) >= 3 && ($done{text} // 0) >= 1 && ($done{console} // 0) >= 8, 'the guide has steps');
ok($server->stop, 'the server ends as ever');

done_testing;
