# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Decisions of the library beside two lock-free yardsticks without plans, eviction or collision handling, run in turn:
# library.pl BUILD. "floor" has 16 bytes a key and a hash that whoever knows it can steer; "line" has a line of 64
# bytes a key and a keyed hash (t/bench/decision.c). Lines of figures (RLP::Figures), never a verdict. Environment:
# RUNS (5), SECONDS of a run (0.5).
use strict;
use warnings;

use RLP::Basics qw(slurp);

my ($build) = @ARGV;
my $runs = $ENV{RUNS} || 5;
my $seconds = $ENV{SECONDS} || 0.5;
my $title = 'Decisions of the library';
my @by_process = ([hot => 1, 1], [hot => 1, 2], [hot => 1, 8], [zipf => 1e6, 2], [zipf => 1e6, 8], [uniform => 1e6, 8]);
my @by_keys = map { my $kind = $_; map { [$kind => $_, 1] } 1e3, 1e4, 1e5, 1e6, 1e7 } qw(zipf uniform);
my %word = (hot => 'one key', zipf => 'keys, Zipf', uniform => 'keys, uniform');
my @algorithms = (
    ['token bucket', 'rate=100000000/hour'],
    ['leaky bucket', 'rate=100000000/hour algorithm=leaky-bucket', '-t', 40],
    ['fixed window', 'rate=100000000/hour algorithm=fixed-window'],
    ['sliding window', 'rate=100000000/hour algorithm=sliding-window'],
    ['sliding log of 1000', 'rate=1000/s algorithm=sliding-log', '-t', 1000],
    ['quota', 'quota=1000000000000/month'],
    ['concurrency', 'concurrent=10000'],
);
local $| = 1;

# Millions of decisions a second.
sub measured {
    my @words = ("$build/t/bench/decision", '-s', $seconds, @_);
    open my $out, '-|', @words or die "decision: $!\n";
    my $line = join '', <$out>;
    close $out or die "@words failed\n";
    return ($line =~ /"mops":([\d.]+)/)[0];
}

sub told {
    my ($table, $subject, $measure, $value) = @_;
    print join("\t", "$title$table", $subject, $measure, $value), "\n";
    return;
}

sub compared {
    my ($table, $distribution, $keys, $processes, @more) = @_;
    my $count = $distribution eq 'hot' ? '' : sprintf '10^%d ', log($keys) / log(10) + 0.5;
    my $subject = "$count$word{$distribution}, $processes process" . ($processes > 1 ? 'es' : '');
    my %mops = map { $_ => measured('-i', $_, '-d', $distribution, '-k', $keys, '-p', $processes, @more) } qw(floor line library);

    told($table, $subject, 'library, millions/s', $mops{library});
    told($table, $subject, 'time, ratio to floor', $mops{floor} / $mops{library});
    told($table, $subject, 'time, ratio to line', $mops{line} / $mops{library});
    told($table, $subject, 'floor, millions/s', $mops{floor});
    told($table, $subject, 'line, millions/s', $mops{line});
    return;
}

# Instructions of a decision, by valgrind: those of a run less those of a shorter one. What they do not explain of
# how a decision's time grows with the keys, misses of caches do.
sub instructions {
    my ($impl, $keys) = @_;
    my ($few, $more) = (256, 102_400 + 256);
    my %count;

    for my $n ($few, $more) {
        my $file = "$build/t/bench/decision.callgrind";
        system('valgrind', '-q', '--tool=callgrind', "--callgrind-out-file=$file", "$build/t/bench/decision", '-i', $impl, '-k', $keys, '-n', $n) == 0
            or die "decision -n $n failed\n";
        ($count{$n}) = slurp($file) =~ /^(?:totals|summary): (\d+)/m;
        unlink $file;
    }
    return ($count{$more} - $count{$few}) / ($more - $few);
}

sub counted {
    for my $keys (1e3, 1e4, 1e5, 1e6) {
        my $subject = sprintf '10^%d %s', log($keys) / log(10) + 0.5, $word{zipf};
        told(', instructions', $subject, $_, instructions($_, $keys)) for qw(library line floor);
    }
    return;
}

if (system('command -v valgrind >/dev/null') == 0) {
    counted();
} else {
    told(', instructions', $word{zipf}, 'not run', 'valgrind is missing');
}
for (1 .. $runs) {
    compared('', @{$_}) for @by_process, @by_keys;
    compared(', each waits for the one before', @{$_}, '-w') for [hot => 1, 1], @by_keys;
    my $bucket = measured('-d', 'hot');
    for my $algorithm (@algorithms) {
        my ($name, $limits, @options) = @{$algorithm};
        my $mops = measured('-d', 'hot', '-l', $limits, @options);
        told(', one key, by algorithm', $name, 'ns', 1000 / $mops);
        told(', one key, by algorithm', $name, 'time, ratio to a token bucket', $bucket / $mops);
    }
}
