#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# The arithmetic of make bench, from figures written here.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use Test::More;

my $top;

BEGIN {
    $top = abs_path($ENV{top_srcdir} || dirname(dirname($0)));
}
use lib "$top/t/lib";
use RLP::Basics ();
use RLP::Figures;
use RLP::Plot;

sub given {
    return join '', map { join("\t", @{$_}) . "\n" } @_;
}

is(RLP::Figures::median(9), 9, 'the median of one');
is(RLP::Figures::median(10, 9, 2), 9, 'of an odd number, which are numbers and no words');
is(RLP::Figures::median(4, 1, 3, 2), 2.5, 'of an even number');

is_deeply([RLP::Figures::interval(3, 1, 2)], [1, 3], 'of few runs the interval is from the least to the most');
my @many = ((10) x 20, (11) x 20, 1000);
my @interval = RLP::Figures::interval(@many);
is_deeply(\@interval, [10, 11], 'of many it is that of the median, whatever one run was');
is_deeply([RLP::Figures::interval(@many)], \@interval, 'and the same each time');
is_deeply([RLP::Figures::interval((7) * 1, (7) x 9)], [7, 7], 'and as narrow as the runs are');

is_deeply([RLP::Figures::ratios([10, 20], [9, 22])], [0.9, 1.1], 'ratios are of pairs, second to first');
is_deeply([RLP::Figures::differences([10, 20], [9, 22])], [-1, 2], 'so are differences');
ok(!eval { RLP::Figures::ratios([1, 2], [1]); 1 }, 'a run without its pair is an error');

is_deeply([map { RLP::Figures::shown($_) } 24439.4, 108.4, 99.96, 12.34, 9.996, 1.234, 0.9996, 0.98765, -12.34],
    ['24439', '108', '100', '12.3', '10.0', '1.23', '1.00', '0.988', '-12.3'], 'three digits count');

my @tables = RLP::Figures::parse(given(
    ['A', 'bare', 'ns', 10], ['A', 'bare', 'ns', 12], ['A', 'bare', 'ns', 20], ['A', 'ours & theirs', 'ns', 1],
    ['B', 'x', 'not run', 'x is missing'], ['A', 'ours & theirs', 'ratio', 0.5],
));
is(scalar @tables, 2, 'tables are told apart by their titles');
is(RLP::Figures::markdown($tables[0]), <<'TABLE', 'a table has its subjects and measures in the order they came');
## A

| | ns | ratio |
|---|---|---|
| bare | 12.0 (10.0..20.0) |  |
| ours & theirs | 1.00 | 0.500 |

TABLE
is(RLP::Figures::markdown($tables[1]), "## B\n\nNot run: x: x is missing.\n", 'what did not run is said');
ok(!eval { RLP::Figures::parse("A\tb\n"); 1 }, 'a line that is no figure is an error');

my $near = RLP::Plot::scale(10, 40);
is_deeply([map { $near->($_) } 0, 10, 40], [0, 0.25, 1], 'an axis begins at zero');
my $far = RLP::Plot::scale(1, 10_000);
is_deeply([map { sprintf '%.2f', $far->($_) } 1, 100, 10_000], ['0.00', '0.50', '1.00'], 'and is logarithmic for all sizes');
my $below = RLP::Plot::scale(-5, -1);
is_deeply([map { $below->($_) } -5, 0], [0, 1], 'zero is on it for what is negative');
is(RLP::Plot::scale(0, 0)->(0), 0, 'and when all is zero');

my $svg = RLP::Plot::svg(@tables);
is(() = $svg =~ /<circle /g, 3, 'a dot for each median');
like($svg, qr/>A: ns<.*>12\.0<.*>A: ratio</s, 'a panel for each measure, with the figures');
like($svg, qr/>ours &amp; theirs</, 'names are escaped');
my ($dot) = $svg =~ /<circle cx="([\d.]+)"/;
my ($from, $to) = $svg =~ /<line x1="([\d.]+)" x2="([\d.]+)"[^>]*stroke-width/;
ok($from < $dot && $dot < $to, 'the median lies within its bar');

SKIP: {
    skip 'xmllint is missing', 1 if system('command -v xmllint >/dev/null') != 0;
    open my $in, '|-', 'xmllint --noout -' or die "xmllint: $!\n";
    print {$in} $svg;
    ok(close $in, 'it is well-formed');
}

# --- what is said of it

sub slurp {
    my ($file) = @_;
    return RLP::Basics::slurp("$top/$file");
}

my @sections = slurp('t/bench/bench.pl') =~ /^    \[(\w+) => /mg;
cmp_ok(scalar @sections, '>', 5, 'make bench has sections');
is(join(' ', slurp('docs/benchmarks.md') =~ /^\| `(\w+)` \|/mg), "@sections", 'which docs/benchmarks.md names');
like(slurp('CONTRIBUTING.md'), qr/`make bench`.*\(sections: \Q@sections\E\)/, 'and CONTRIBUTING.md');

# --- a TMPDIR with a blank in it

for my $file (qw(haproxy nginx evasive modsecurity)) {
    unlike(slurp("t/attack/peers/$file.conf"), qr/(?<!")\@DIR\@/, "t/attack/peers/$file.conf has directories in quotes");
}
unlike(slurp('t/lib/RLP/Peer.pm'), qr{(?<!["/])\\\@DIR\\\@}, 'so have the servers of make bench');

done_testing;
