# Licensed under the Apache License, Version 2.0; see LICENSE.
package RLP::Metrics;

# Reads Prometheus' text format 0.0.4, and holds it to what promtool checks, which is asked as well where it is installed:
# lint($text) gives what is wrong with it, samples($text) a hash of series to values.

use strict;
use warnings;

use File::Temp;

my $name = qr/[a-zA-Z_:][a-zA-Z0-9_:]*/;
my $label = qr/[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"/;
my $value = qr/[+-]?(?:[0-9]+(?:[.][0-9]+)?(?:e[+-]?[0-9]+)?|Inf)|NaN/;

sub samples {
    my ($text) = @_;
    return map { /^($name(?:\{[^}]*\})?) ($value)$/ ? ($1 => $2) : () } split /\n/, $text;
}

# What is wrong with one line of comment. seen: what the metrics before it have.
sub comment_faults {
    my ($line, $seen) = @_;
    my ($word, $metric, $rest) = $line =~ /^# (HELP|TYPE) ($name) (.+)$/ or return 'no HELP or TYPE';
    my @faults;

    push @faults, "$word twice" if $seen->{$metric}{$word}++;
    push @faults, "$word behind samples" if $seen->{$metric}{samples};
    return @faults if $word eq 'HELP';
    push @faults, "unknown type $rest" if $rest !~ /^(?:counter|gauge|histogram|summary|untyped)$/;
    push @faults, 'TYPE without HELP' if !$seen->{$metric}{HELP};
    push @faults, 'a counter without _total' if $rest eq 'counter' && $metric !~ /_total$/;
    push @faults, 'a gauge with _total' if $rest eq 'gauge' && $metric =~ /_total$/;
    push @faults, 'the type is in the name' if $metric =~ /(?:counter|gauge)/;
    push @faults, 'an abbreviated unit' if $metric =~ /_(?:ms|s|sec|kb|mb)(?:_|$)/;
    return @faults;
}

sub sample_faults {
    my ($line, $seen) = @_;
    my ($metric, $labels) = $line =~ /^($name)(\{$label(?:,$label)*\})? $value$/ or return 'no sample';
    my @names = ($labels // '') =~ /[{,]($name)="/g;
    my %twice;
    my @faults;

    push @faults, 'no HELP and TYPE before it' if !$seen->{$metric}{TYPE};
    push @faults, 'the series is there twice' if $seen->{ series($metric, $labels // '') }++;
    push @faults, 'a label twice' if grep { $twice{$_}++ } @names;
    push @faults, 'a reserved label' if grep { /^__/ || $_ eq 'le' || $_ eq 'quantile' } @names;
    push @faults, 'not with the others of its metric' if $seen->{last} && $seen->{last} ne $metric && $seen->{$metric}{samples};
    $seen->{$metric}{samples}++;
    $seen->{last} = $metric;
    return @faults;
}

# The same series in any order of labels.
sub series {
    my ($metric, $labels) = @_;
    return join ' ', "series of $metric", sort $labels =~ /$label/g;
}

# What promtool has to say.
sub promtool {
    my ($text) = @_;
    our $has_promtool //= system('promtool --version >/dev/null 2>&1') == 0;
    return () if !$has_promtool;
    my $file = File::Temp->new;
    print {$file} $text;
    close $file or die "$file: $!\n";
    my $said = qx(promtool check metrics <'$file' 2>&1);
    return map {"promtool: $_"} $? ? ("exit status @{[$? >> 8]}", split /\n/, $said) : split /\n/, $said;
}

# "LINE: FAULT" each.
sub lint {
    my ($text) = @_;
    my (%seen, @found);
    push @found, 'the last line has no end' if $text !~ /\n\z/;
    for my $line (split /\n/, $text) {
        push @found, map { "$line: $_" } $line =~ /^#/ ? comment_faults($line, \%seen) : sample_faults($line, \%seen);
    }
    return (@found, promtool($text));
}

1;
