# A browser without a window: Chromium, told what to do by ChromeDriver (the W3C WebDriver protocol).
#
#	my ($browser, $missing) = Browser->start;
#	plan skip_all => $missing unless $browser;
#	$browser->visit($url);
#	my $title = $browser->evaluate('return document.title');
#
# Whatever the browser refuses is an error that dies with the browser's message.

package Browser;

use strict;
use warnings;
use File::Temp;
use HTTP::Tiny;
use JSON::PP;
use MIME::Base64;
use POSIX ();
use Time::HiRes qw(sleep time);

use constant SECONDS_TO_START => 30;

# No window and no GPU are needed.  Containers have neither what Chromium's sandbox wants nor much
# shared memory, and root has no sandbox at all; the pages are our own.  Nothing is to be looked up
# in the network.
my @arguments = qw(--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage
  --hide-scrollbars --disable-background-networking --no-first-run);

my $owner = $$;
my @started;

# Returns a browser, or undef and why there is none.
sub start
{
	my ($class) = @_;
	my $chromium = find_command(qw(chromium chromium-browser google-chrome google-chrome-stable));
	return (undef, 'chromium is not installed: apt-get install chromium') unless $chromium;
	my $driver = find_command('chromedriver');
	return (undef, 'chromedriver is not installed: apt-get install chromium-driver') unless $driver;

	my $self = bless {
		# profile, caches and crash reports stay here, and the user needs no home
		home => File::Temp->newdir,
		log => File::Temp->new,
		# A connection that is kept waits for acknowledgements at every request.  A proxy of the
		# environment knows nothing of this machine's ports.
		http => HTTP::Tiny->new(timeout => 60, keep_alive => 0, http_proxy => undef, proxy => undef),
	}, $class;
	push @started, $self;
	eval { $self->start_driver($driver); $self->start_session($chromium); 1 }
		or return (undef, "chromium does not start: $@");
	return $self;
}

sub find_command
{
	for my $name (@_)
	{
		for my $directory (split /:/, $ENV{PATH} // '')
		{
			return "$directory/$name" if -f "$directory/$name" && -x _;
		}
	}
	return;
}

# ChromeDriver chooses a free port and says which.
sub start_driver
{
	my ($self, $driver) = @_;
	$self->{pid} = fork // die "fork: $!";
	if ($self->{pid} == 0)
	{
		# a group of its own, so that no browser is left behind if ChromeDriver fails
		setpgrp;
		@ENV{qw(HOME TMPDIR)} = ("$self->{home}") x 2;
		delete @ENV{qw(XDG_CONFIG_HOME XDG_CACHE_HOME)};
		open STDIN, '<', '/dev/null';
		open STDOUT, '>&', $self->{log};
		open STDERR, '>&', \*STDOUT;
		{ exec $driver, '--port=0' }
		# not exit, which would drop the databases of the test
		POSIX::_exit(127);
	}
	for (my $deadline = time + SECONDS_TO_START; time < $deadline; sleep 0.05)
	{
		next unless read_log($self->{log}) =~ /started successfully on port (\d+)/;
		$self->{url} = "http://127.0.0.1:$1";
		return;
	}
	die 'chromedriver does not start: ', read_log($self->{log});
}

sub read_log
{
	my ($log) = @_;
	seek $log, 0, 0;
	return join '', <$log>;
}

sub start_session
{
	my ($self, $chromium) = @_;
	my $session = $self->request('POST', '/session', {
		capabilities => { alwaysMatch => {
			# an alert stays until someone looks
			unhandledPromptBehavior => 'ignore',
			'goog:loggingPrefs' => { performance => 'ALL' },
			'goog:chromeOptions' => { binary => $chromium, args => \@arguments } } } });
	$self->{session} = "/session/$session->{sessionId}";
}

sub request
{
	my ($self, $method, $path, $content) = @_;
	my $json = JSON::PP->new->utf8;
	my $response = $self->{http}->request($method, "$self->{url}$path", {
		headers => { 'Content-Type' => 'application/json; charset=utf-8' },
		$method eq 'POST' ? (content => $json->encode($content // {})) : () });
	my $value = eval { $json->decode($response->{content})->{value} };
	return $value if $response->{success};
	die "$method $path: ", ref $value ? "$value->{error}: $value->{message}" : $response->{content}, "\n";
}

sub command
{
	my ($self, $name, $content) = @_;
	return $self->request('POST', "$self->{session}/$name", $content);
}

# A command of Chromium's own protocol, for what WebDriver cannot do.
sub chromium_command
{
	my ($self, $name, %parameters) = @_;
	return $self->command('goog/cdp/execute', { cmd => $name, params => \%parameters });
}

sub visit
{
	my ($self, $url) = @_;
	$self->command('url', { url => $url });
}

# What the browser has asked for, pages and all, since this was last asked.
sub requested_urls
{
	my ($self) = @_;
	my @events = map { decode_json($_->{message})->{message} } @{ $self->command('se/log', { type => 'performance' }) };
	return map { $_->{params}{request}{url} } grep { $_->{method} eq 'Network.requestWillBeSent' } @events;
}

# Runs the body of a JavaScript function in the page and returns what it returns.
sub evaluate
{
	my ($self, $script, @arguments) = @_;
	return $self->command('execute/sync', { script => $script, args => \@arguments });
}

# The text of the alert that is open; undef if none is.
sub alert_text
{
	my ($self) = @_;
	my $text = eval { $self->request('GET', "$self->{session}/alert/text") };
	die $@ if $@ && $@ !~ /no such alert/;
	return $text;
}

# Sets the size of the page in CSS pixels: windows cannot be as narrow as telephones.
sub resize
{
	my ($self, $width, $height) = @_;
	$self->chromium_command('Emulation.setDeviceMetricsOverride', width => $width, height => $height,
		deviceScaleFactor => 1, mobile => JSON::PP::false);
}

# Sets screen or print, and light or dark.
sub emulate
{
	my ($self, $medium, $color_scheme) = @_;
	$self->chromium_command('Emulation.setEmulatedMedia', media => $medium,
		features => [ { name => 'prefers-color-scheme', value => $color_scheme } ]);
}

# Prints the page on paper of a size in centimetres and returns the PDF.
sub print_pdf
{
	my ($self, $width, $height) = @_;
	return decode_base64(
		$self->command('print', { page => { width => $width, height => $height }, background => JSON::PP::true }));
}

# The whole page as PNG, however long it is.
sub screenshot
{
	my ($self) = @_;
	my $image = $self->chromium_command('Page.captureScreenshot', captureBeyondViewport => JSON::PP::true);
	return decode_base64($image->{data});
}

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;
	eval { $self->request('DELETE', $self->{session}) } if $self->{session};
	kill 'TERM', -$pid;
	waitpid $pid, 0;
}

# An end by signal is an end, too: nothing is left running.
$SIG{$_} ||= sub { exit 1 } foreach qw(HUP INT TERM);

END
{
	local $?;
	if ($$ == $owner)
	{
		$_->stop foreach splice @started;
	}
}

1;
