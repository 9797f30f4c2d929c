# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# make bench: figures to look at, never a verdict. bench.pl BUILD runs the sections of BENCH (all), RUNS times (5), and
# writes into BUILD/bench: SECTION.tsv, the figures of each run (RLP::Figures); SECTION.txt for those that are only
# text; machine.txt, what they were measured on; results.md, tables of all sections that were ever run there, with
# medians and intervals; and SECTION.svg, the same drawn. BENCH=none only writes the last two anew.
use strict;
use warnings;

use File::Basename qw(dirname);
use File::Path qw(make_path);

use RLP::Figures;
use RLP::Httpd;
use RLP::Plot;

my ($build) = @ARGV;
my $here = dirname($0);
my $out = "$build/bench";
my @perl = ($^X, map { "-I$_" } "$here/../lib");
my @sections = (
    [library => @perl, "$here/library.pl", $build],
    [instructions => @perl, "$here/instructions.pl", $build],
    [httpd => @perl, "$here/httpd.pl", $build, 'httpd'],
    [flood => @perl, "$here/httpd.pl", $build, 'flood'],
    [refused => @perl, "$here/httpd.pl", $build, 'refused'],
    [redis => @perl, "$here/redis.pl", $build],
    [parts => 'sh', "$here/parts.sh", $build],
);
my %wanted = map { $_ => 1 } split ' ', $ENV{BENCH} || join ' ', map { $_->[0] } @sections;
local $| = 1;

sub first_line {
    my ($command) = @_;
    my $said = qx($command 2>&1) // '';
    return $? == 0 && $said =~ /(\S[^\n]*)/ ? $1 : 'missing';
}

sub machine {
    my ($cpu) = RLP::Httpd::slurp('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)/m;
    my ($kb) = RLP::Httpd::slurp('/proc/meminfo') =~ /^MemTotal:\s*(\d+)/m;
    my @packages = qw(libapache2-mod-evasive libapache2-mod-qos libapache2-mod-security2 varnish-modules libhiredis-dev);
    my @lines = (
        [date => scalar gmtime],
        [CPUs => first_line('getconf _NPROCESSORS_ONLN') . ', ' . ($cpu // 'unknown')],
        [memory => int(($kb // 0) / 1024) . ' MiB'],
        [load => RLP::Httpd::slurp('/proc/loadavg') =~ s/ \d+\/.*\n//sr],
        [kernel => first_line('uname -sr')],
        [compiler => first_line("$ENV{CC} --version")],
        [httpd => first_line(qq{"$RLP::Httpd::httpd" -v}) =~ s/.*: //r],
        map({ [$_->[0] => first_line("PATH=\"\$PATH:/usr/sbin\" $_->[1]")] }
            [nginx => 'nginx -v'], [HAProxy => 'haproxy -v'], [Varnish => 'varnishd -V'], [Redis => 'redis-server --version'],
            [valgrind => 'valgrind --version']),
        map({ [$_ => first_line("dpkg-query -W -f '\${Version}' $_")] } @packages),
    );
    return join '', map { "$_->[0]: $_->[1]\n" } @lines;
}

# Runs a section and keeps what it says, while it says it.
sub section {
    my ($name, @command) = @_;
    my $text = '';

    print "--- $name\n";
    open my $in, '-|', @command or die "$name: $!\n";
    while (my $line = <$in>) {
        print $line;
        $text .= $line;
    }
    my $failed = !close $in;
    unlink map { "$out/$name.$_" } qw(tsv txt svg);
    RLP::Httpd::spill("$out/$name." . ($name eq 'parts' ? 'txt' : 'tsv'), $text);
    return $failed ? "$name has failed" : ();
}

# The tables of what there is, and their drawings.
sub report {
    my $text = "# Figures of make bench\n\n";

    $text .= "Medians; in brackets the least and the most of all runs, from six runs on 95 % of the median.\n\n";
    $text .= join('', map { "    $_\n" } split /\n/, RLP::Httpd::slurp("$out/machine.txt")) . "\n";
    for my $section (map { $_->[0] } @sections) {
        my @tables = RLP::Figures::parse(RLP::Httpd::slurp("$out/$section.tsv"));
        my $said = RLP::Httpd::slurp("$out/$section.txt");
        RLP::Httpd::spill("$out/$section.svg", RLP::Plot::svg(@tables)) if @tables;
        $text .= join '', map { RLP::Figures::markdown($_) . "\n" } @tables;
        $text .= "## Parts\n\n" . ($said =~ s/^/    /gmr) . "\n" if $said;
        $text .= "Section $section: not run.\n\n" if !@tables && !$said;
    }
    return $text;
}

my %known = map { $_->[0] => 1 } @sections;
$known{none} = 1;
die "no section \"$_\"; there are ", join(' ', map { $_->[0] } @sections), "\n" for grep { !$known{$_} } sort keys %wanted;
make_path($out);
RLP::Httpd::spill("$out/machine.txt", machine());
my @failed = map { section(@{$_}) } grep { $wanted{ $_->[0] } } @sections;
my $report = report();
RLP::Httpd::spill("$out/results.md", $report);
print "\n$report";
print "$_\n" for @failed;
exit(@failed ? 1 : 0);
