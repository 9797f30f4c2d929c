# Licensed under the Apache License, Version 2.0; see LICENSE.

# The arithmetic of make bench: medians, intervals, pairs, and the tables made of them.
#
# A figure is a line of four fields with tabs between: table, subject, measure, value. Lines of the same first three
# are runs of one figure. A subject that could not be measured has the measure "not run" and the reason as its value.

package RLP::Figures;

use strict;
use warnings;

my $draws = 1000; # of the bootstrap
my $few = 6; # runs; of fewer the interval is from the least to the most

sub sorted { return sort { $a <=> $b } @_ }

sub median {
    my @v = sorted(@_);
    return @v % 2 ? $v[$#v / 2] : ($v[@v / 2 - 1] + $v[@v / 2]) / 2;
}

# Where the median lies: the least and the most, or 95 % by the bootstrap. The draws are the same each time.
sub interval {
    my @v = @_;
    return (sorted(@v))[0, -1] if @v < $few;
    my $state = 1;
    my $draw = sub {
        $state = ($state * 1_103_515_245 + 12_345) % 2**31;
        return $v[int $state / 2**31 * @v];
    };
    my @medians = sorted(map { median(map { $draw->() } @v) } 1 .. $draws);
    return @medians[$draws * 0.025, $draws * 0.975 - 1];
}

# The ratios of pairs, second to first, of two lists in the order they were taken.
sub ratios {
    my ($first, $second) = @_;
    die "as many of the one as of the other are needed\n" if @{$first} != @{$second};
    return map { $second->[$_] / $first->[$_] } 0 .. $#{$first};
}

sub differences {
    my ($first, $second) = @_;
    die "as many of the one as of the other are needed\n" if @{$first} != @{$second};
    return map { $second->[$_] - $first->[$_] } 0 .. $#{$first};
}

# --- tables

# What the text says: tables in their order, each with its measures, subjects and runs, and what could not run.
sub parse {
    my ($text) = @_;
    my (@tables, %table);

    for my $line (split /\n/, $text) {
        my ($title, $subject, $measure, $value) = split /\t/, $line;
        die "not a figure: $line\n" if !defined $value;
        my $table = $table{$title} //= { title => $title, measures => [], subjects => [], runs => {}, reasons => [] };
        push @tables, $table if !grep { $_ == $table } @tables;
        if ($measure eq 'not run') {
            push @{ $table->{reasons} }, [$subject, $value];
            next;
        }
        push @{ $table->{subjects} }, $subject if !$table->{runs}{$subject};
        push @{ $table->{measures} }, $measure if !grep { $_ eq $measure } @{ $table->{measures} };
        push @{ $table->{runs}{$subject}{$measure} }, $value;
    }
    return @tables;
}

# Three digits that count, and all those before the point.
sub shown {
    my ($value) = @_;
    my $size = abs $value;
    return sprintf $size >= 99.95 ? '%.0f' : $size >= 9.995 ? '%.1f' : $size >= 0.9995 ? '%.2f' : '%.3f', $value;
}

sub cell {
    my @runs = @_;
    return '' if !@runs;
    my ($low, $high) = map { shown($_) } interval(@runs);
    my $median = shown(median(@runs));
    return $low eq $high ? $median : "$median ($low..$high)";
}

sub markdown {
    my ($table) = @_;
    my @measures = @{ $table->{measures} };
    my $text = "## $table->{title}\n\n";

    if (@measures) {
        $text .= join(' | ', '|', @measures) . " |\n" . '|---' x (1 + @measures) . "|\n";
        for my $subject (@{ $table->{subjects} }) {
            my @cells = map { cell(@{ $table->{runs}{$subject}{$_} // [] }) } @measures;
            $text .= join(' | ', "| $subject", @cells) . " |\n";
        }
        $text .= "\n";
    }
    $text .= join '', map { "Not run: $_->[0]: $_->[1].\n" } @{ $table->{reasons} };
    return $text;
}

1;
