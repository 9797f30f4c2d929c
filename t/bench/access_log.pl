#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# An access log in combined format: LINES IDENTITIES LINES-PER-SECOND. The same each time; few of the identities have
# most of the lines.

use strict;
use warnings;

use POSIX qw(strftime);

my ($lines, $identities, $rate) = @ARGV;
my @agents = (
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36',
    'Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15',
    'curl/8.5.0',
);
my $state = 7;

# Below 1.
sub next_random {
    $state = ($state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return $state / 2_147_483_648;
}

for my $i (0 .. $lines - 1) {
    my $identity = int($identities * next_random()**3);
    my $time = strftime('%d/%b/%Y:%H:%M:%S +0000', gmtime(1_763_700_000 + int($i / $rate)));
    printf qq{10.%d.%d.%d - - [%s] "GET /api/v1/items/%d?page=%d HTTP/1.1" 200 %d "https://www.example.com/start" "%s"\n},
        $identity >> 16 & 255, $identity >> 8 & 255, $identity & 255, $time, 10_000 * next_random(), 10 * next_random(),
        50_000 * next_random(), $agents[ 3 * next_random() ];
}
