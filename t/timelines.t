#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# docs/limits.md has a section and a picture for each algorithm, its pictures are what docs/timeline makes of rlpctl's
# answers today, and its table of what gets through in a minute is what rlpctl lets through.
#
# Needs RLPCTL and top_srcdir in the environment; no server.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use File::Temp qw(tempdir);
use Test::More;

use lib dirname($0) . '/lib';
use RLP::Basics qw(slurp);
use RLP::Rlpctl qw(rlpctl);

my $top = abs_path($ENV{top_srcdir} || dirname(dirname($0)));
my $rlpctl = abs_path($ENV{RLPCTL} || 'rlpctl/rlpctl');
my $most = 8192; # bytes of a picture

my $page = slurp("$top/docs/limits.md");

# --- the pictures are current

my $made = tempdir(CLEANUP => 1);
$ENV{RLPCTL} = $rlpctl;
is(system($^X, "$top/docs/timeline", $made), 0, 'docs/timeline makes the pictures');

my @pictures = map { basename($_) } sort glob "\Q$made\E/*.svg";
is_deeply([ map { basename($_) } sort glob "\Q$top\E/docs/limits/*.svg" ],
    \@pictures, 'the pictures in docs/limits are those of timelines.txt');
for my $picture (@pictures) {
    my $kept = "$top/docs/limits/$picture";
    ok(-e $kept && slurp($kept) eq slurp("$made/$picture"), "$picture is current")
        || diag("make timelines, and look at what has changed in docs/limits/$picture");
}

# --- they are fit to be shown

for my $picture (@pictures) {
    my $svg = slurp("$made/$picture");
    ok(length $svg <= $most, "$picture has at most $most bytes") || diag('it has ' . length $svg);
    like($svg, qr{ role="img" aria-labelledby="t d">.*<title id="t">[^<]+</title>\n<desc id="d">[^<]+</desc>}s,
        "$picture says what it shows");
    unlike($svg =~ s/ xmlns="[^"]*"//r, qr{://|href|url\(|\@import|<script}, "$picture needs nothing from outside");
}

# --- they are used

my @shown = $page =~ /!\[[^\]]{20,}\]\(limits\/([\w-]+\.svg)\)/g;
is_deeply([ sort @shown ], \@pictures, 'docs/limits.md shows each picture once, and says in words what is in it');

# --- every algorithm

my (undef, undef, $complaint) = rlpctl('', 'try', 'rate=1/s', 'algorithm=x');
my ($list) = $complaint =~ /with one of ([a-z, -]+), got/;
my @algorithms = split /, /, $list // '';
ok(@algorithms >= 3, 'rlpctl names its algorithms');
for my $name (@algorithms) {
    my ($section) = $page =~ /^## \Q$name\E\n(.*?)(?=^## |\z)/ms;
    ok(defined $section, "$name has a section")
        && like($section, qr/^!\[.*\]\(limits\/\Q$name\E\.svg\)$/m, "with a picture");
}

# --- what gets through

# The most that pass within a span, of all who ask.
sub most_within {
    my ($span, @passed) = @_;
    my ($best, $first) = (0, 0);
    for my $last (0 .. $#passed) {
        $first++ while $passed[$last] - $passed[$first] >= $span;
        $best = $last - $first + 1 if $last - $first + 1 > $best;
    }
    return $best;
}

# One client asks once and, just before two minutes are over, as often as it can.
my $asked = join '', "0\n", map { ($_ / 4 . "\n") x 12 } 479 .. 960;
for my $name (@algorithms) {
    my ($second, $minute) = $page =~ /^\| `\Q$name\E` \| (\d+) \| (\d+) \|/m;
    my @passed = map { /^(\S+)\tallow/ ? $1 : () } split /\n/, (rlpctl($asked, 'try', 'rate=10/min', "algorithm=$name"))[1];
    is_deeply([ most_within(1, @passed), most_within(60, @passed) ],
        [ $second // 'none', $minute // 'none' ], "rate=10/min algorithm=$name lets through what its row says");
}

done_testing;
