#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# After clang-format has folded an over-long comment of one line: its following lines are indented by three
# spaces, without stars, and a "*/" that came out alone takes the last word along.

use strict;
use warnings;

for my $file (@ARGV) {
    open my $in, '<', $file or die "$file: $!\n";
    my $text = do { local $/ = undef; <$in> };
    close $in;
    my $was = $text;

    $text =~ s{^([ \t]*)(/\* .*) (\S+)\n\1 ?\*/$}{$1$2\n$1   $3 */}mg;
    $text =~ s{^([ \t]*)(/\* .*\n)((?:\1 \* .*\n)*\1 \* .*\*/)$}{
        my ($indent, $first, $rest) = ($1, $2, $3);
        $rest =~ s/^$indent \* /$indent   /mg;
        "$indent$first$rest";
    }meg;
    next if $text eq $was;
    open my $out, '>', $file or die "$file: $!\n";
    print {$out} $text;
    close $out or die "$file: $!\n";
}
