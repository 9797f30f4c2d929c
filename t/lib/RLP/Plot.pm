# Licensed under the Apache License, Version 2.0; see LICENSE.

# Tables of figures as SVG: a panel for each measure, a line for each subject, a dot at its median and a bar over its
# interval. The axis is logarithmic where the figures are of different sizes.

package RLP::Plot;

use strict;
use warnings;

use RLP::Figures;

my ($width, $label, $line, $edge) = (760, 260, 18, 90); # pixels
my $apart = 50; # times; from there on an axis is logarithmic

sub escaped {
    my ($text) = @_;
    my %entity = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&quot;');
    $text =~ s/([&<>"])/$entity{$1}/g;
    return $text;
}

sub text {
    my ($x, $y, $text, $more) = @_;
    return sprintf qq{<text x="%.1f" y="%.1f"%s>%s</text>\n}, $x, $y, $more // '', escaped($text);
}

# Where a value is on the axis, from 0 to 1.
sub scale {
    my @values = sort { $a <=> $b } @_;
    my ($least, $most) = @values[0, -1];

    if ($least > 0 && $most / $least > $apart) {
        return sub { log($_[0] / $least) / log($most / $least) };
    }
    $least = 0 if $least > 0;
    $most = 0 if $most < 0;
    my $span = $most - $least || 1;
    return sub { ($_[0] - $least) / $span };
}

# The rows of a measure: subject, median, and the ends of the interval.
sub rows {
    my ($table, $measure) = @_;
    my @rows;
    for my $subject (@{ $table->{subjects} }) {
        my $runs = $table->{runs}{$subject}{$measure} or next;
        push @rows, [$subject, RLP::Figures::median(@{$runs}), RLP::Figures::interval(@{$runs})];
    }
    return @rows;
}

# One panel from the height y on, and how high it is.
sub panel {
    my ($table, $measure, $y) = @_;
    my @rows = rows($table, $measure);
    my $where = scale(map { @{$_}[1 .. 3] } @rows);
    my $at = sub { $label + ($width - $label - $edge) * $where->($_[0]) };
    my $text = text(8, $y + 14, "$table->{title}: $measure", ' font-weight="bold"');

    $y += 24;
    for my $row (@rows) {
        my ($subject, $median, $low, $high) = @{$row};
        my $middle = $y + $line / 2;
        $text .= text($label - 8, $middle + 4, $subject, ' text-anchor="end"');
        $text .= sprintf qq{<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#ddd"/>\n}, $label, $width - $edge, $middle,
            $middle;
        $text .= sprintf qq{<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#36c" stroke-width="4"/>\n}, $at->($low),
            $at->($high), $middle, $middle;
        $text .= sprintf qq{<circle cx="%.1f" cy="%.1f" r="4" fill="#036"/>\n}, $at->($median), $middle;
        $text .= text($width - $edge + 10, $middle + 4, RLP::Figures::shown($median));
        $y += $line;
    }
    return ($text, 24 + $line * @rows + 12);
}

sub svg {
    my @tables = @_;
    my ($body, $y) = ('', 8);

    for my $table (@tables) {
        for my $measure (@{ $table->{measures} }) {
            my ($text, $height) = panel($table, $measure, $y);
            $body .= $text;
            $y += $height;
        }
    }
    return qq{<svg xmlns="http://www.w3.org/2000/svg" width="$width" height="$y" font-family="sans-serif" font-size="12">\n}
        . qq{<rect width="$width" height="$y" fill="#fff"/>\n$body</svg>\n};
}

1;
