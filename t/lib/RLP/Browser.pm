# Licensed under the Apache License, Version 2.0; see LICENSE.
package RLP::Browser;

# A headless Chromium, driven by its debugging protocol over a pipe: opens pages, remembers what they asked for and
# complained of, evaluates scripts in them, takes pictures.

use strict;
use warnings;

use File::Temp ();
use JSON::PP ();
use MIME::Base64 qw(decode_base64);
use POSIX qw(WNOHANG);
use Time::HiRes qw(time);

our $patience = 60;

my $json = JSON::PP->new->utf8;

# The program, or nothing.
sub program {
    return (grep { -x } map { ("$_/chromium", "$_/chromium-browser", "$_/google-chrome") } split /:/, $ENV{PATH})[0];
}

sub new {
    my ($class) = @_;
    my $self = bless { id => 0, in => '', events => [], temp => File::Temp->newdir('rlp-browser-XXXXXX', TMPDIR => 1) }, $class;
    pipe my $theirs_in, my $to or die "pipe: $!\n";
    pipe my $from, my $theirs_out or die "pipe: $!\n";
    my $dir = $self->{temp}->dirname;

    $self->{pid} = fork // die "fork: $!\n";
    if ($self->{pid} == 0) {
        POSIX::setsid(); # it has children, which end with it
        my ($read, $write) = (POSIX::dup(fileno $theirs_in), POSIX::dup(fileno $theirs_out));
        my ($high_read, $high_write) = map { POSIX::dup2($_, $_ + 20) } $read, $write;
        POSIX::dup2($read + 20, 3);
        POSIX::dup2($write + 20, 4);
        open STDIN, '<', '/dev/null' or POSIX::_exit(126);
        open STDOUT, '>', '/dev/null' or POSIX::_exit(126);
        open STDERR, '>', "$dir/said" or POSIX::_exit(126);
        POSIX::close($_) for 5 .. 60;
        $ENV{HOME} = $dir;
        exec program(), qw(--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-sync
            --disable-background-networking --disable-component-update --disable-extensions --hide-scrollbars
            --remote-debugging-pipe), "--user-data-dir=$dir/profile", 'about:blank' or POSIX::_exit(127);
    }
    close $theirs_in;
    close $theirs_out;
    $from->blocking(0);
    @{$self}{qw(to from)} = ($to, $from);
    my $target = $self->call('Target.createTarget', { url => 'about:blank' })->{targetId};
    $self->{session} = $self->call('Target.attachToTarget', { targetId => $target, flatten => JSON::PP::true })->{sessionId};
    $self->call("$_.enable") for qw(Page Runtime Log Network);
    return $self;
}

# One message from the browser; dies after the deadline.
sub message {
    my ($self, $end) = @_;
    while (index($self->{in}, "\0") < 0) {
        my $bits = '';
        vec($bits, fileno $self->{from}, 1) = 1;
        my $left = $end - time;
        die "the browser does not answer\n" if $left <= 0;
        select $bits, undef, undef, $left;
        my $n = sysread $self->{from}, $self->{in}, 1 << 20, length $self->{in};
        die "the browser has ended\n" if defined $n && $n == 0;
    }
    my $text = substr $self->{in}, 0, index($self->{in}, "\0") + 1, '';
    chop $text;
    return $json->decode($text);
}

sub call {
    my ($self, $method, $arguments) = @_;
    my %message = (id => ++$self->{id}, method => $method, params => $arguments || {});
    my $end = time + $patience;

    $message{sessionId} = $self->{session} if $self->{session};
    syswrite $self->{to}, $json->encode(\%message) . "\0";
    while (1) {
        my $answer = $self->message($end);
        if (!$answer->{id}) {
            push @{ $self->{events} }, $answer;
        } elsif ($answer->{id} == $self->{id}) {
            die "$method: $answer->{error}{message}\n" if $answer->{error};
            return $answer->{result};
        }
    }
}

# Opens a page and waits until all of it is there.
sub open_page {
    my ($self, $url) = @_;
    $self->{events} = [];
    $self->call('Page.navigate', { url => $url });
    $self->until('document.readyState === "complete" && location.href !== "about:blank"');
    return;
}

# What an expression is in the page.
sub value {
    my ($self, $expression) = @_;
    my $result = $self->call('Runtime.evaluate',
        { expression => $expression, returnByValue => JSON::PP::true, awaitPromise => JSON::PP::true });
    die "$expression: $result->{exceptionDetails}{text}\n" if $result->{exceptionDetails};
    return $result->{result}{value};
}

# Waits until an expression is true; whether it came to be.
sub until {
    my ($self, $expression) = @_;
    my $end = time + $patience;
    my $true = 0;
    while (!$true && time < $end) {
        $true = $self->value("!!($expression)");
        select undef, undef, undef, 0.05 if !$true;
    }
    return $true;
}

# Addresses that the page has asked for.
sub asked {
    my ($self) = @_;
    return map { $_->{params}{request}{url} } grep { $_->{method} eq 'Network.requestWillBeSent' } @{ $self->{events} };
}

# What the console has: errors, warnings, exceptions.
sub complaints {
    my ($self) = @_;
    return map {
              $_->{method} eq 'Log.entryAdded' ? $_->{params}{entry}{text}
            : $_->{method} eq 'Runtime.exceptionThrown' ? $_->{params}{exceptionDetails}{text}
            : $_->{method} eq 'Runtime.consoleAPICalled' ? "console: $_->{params}{type}" : ()
    } @{ $self->{events} };
}

# scheme: light or dark. width: of the window.
sub look {
    my ($self, $scheme, $width) = @_;
    $self->call('Emulation.setEmulatedMedia', { features => [ { name => 'prefers-color-scheme', value => $scheme } ] });
    $self->call('Emulation.setDeviceMetricsOverride',
        { width => $width, height => 900, deviceScaleFactor => 1, mobile => $width < 600 ? JSON::PP::true : JSON::PP::false });
    return;
}

# A picture of the whole page, as a PNG.
sub picture {
    my ($self) = @_;
    return decode_base64($self->call('Page.captureScreenshot', { captureBeyondViewport => JSON::PP::true })->{data});
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $!, $@);
    my $tries = 100;
    return if !$self->{pid};
    kill 'KILL', -$self->{pid};
    waitpid $self->{pid}, 0;
    select undef, undef, undef, 0.02 while kill(0, -$self->{pid}) && $tries-- > 0;
    return;
}

1;
