#!/usr/bin/perl
# Licensed under the Apache License, Version 2.0; see LICENSE.

# Plan maps: where plans come from, and what becomes of them when that changes while httpd runs.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use Test::More;
use Time::HiRes qw(time);

use RLP::Httpd;

plan skip_all => RLP::Httpd::missing() if RLP::Httpd::missing();

my $plans = "RateLimitPlan free rate=10/week\nRateLimitPlan pro rate=100/week\nRateLimitPlan enterprise rate=1000/week\n";
my $keys = "${plans}RateLimitEngine On\nRateLimitIdentity key=header:X-Key ip\nRateLimitRule site rate=5/week\n";

# The limit that a request with this key is told: 5 is that of whom no plan is known.
sub limit {
    my ($server, $key) = @_;
    my $response = $server->get('/index.html', defined $key ? "X-Key: $key" : ());
    return $response->{fields}{'x-ratelimit-limit'} // $response->{status};
}

sub limits {
    my ($server, @keys) = @_;
    return join ' ', map { limit($server, $_) } @keys;
}

# --- txt

{
    my $server = RLP::Httpd->new(config => "${keys}RateLimitPlanMap key txt:keys\n");
    my ($one, $two) = map { sha256_hex($_) } 'key-one', 'a key, "two"';
    my ($binary) = grep { pack('H*', sha256_hex($_)) !~ /[\0-\x20\x7f]/ } 'a' .. 'zzz'; # its digest can be a header field
    $server->file('keys', "# keys\n\nsha256:$one enterprise # as rlpctl hash-key says it\nclear\tpro\r\n  sha256:\U$two\E free\n"
            . 'sha256:' . sha256_hex('both') . " pro\nboth enterprise\n"
            . 'sha256:' . sha256_hex($binary) . " pro\nlast pro");
    $server->start;
    is(limits($server, 'key-one', 'clear', 'a key, "two"', 'last'), '1000 100 10 100',
        'P-02 P-03 keys in clear text and as digests, whatever ends a line');
    is(limits($server, 'other', undef), '5 5', 'P-05 another key, and none: the rule\'s own limits');
    is(limits($server, "sha256:$one", "sha256:\U$one", $one, pack 'H*', sha256_hex($binary)), '5 5 5 5', 'a digest is no key: who has read the file has none');
    is(limit($server, 'both'), 1000, 'a key that stands there in both forms: clear text counts');
    is(limits($server, 'Clear', 'clea', 'clear1', 'x' x 8000), '5 5 5 5', 'nothing but the whole key, in its case');
}

done_testing;
