package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	prefix = "TICKETRUSH_"
	// As every service of ours says that it cannot start as it is set up.
	exitMisconfigured = 2

	// Longer than the gateway takes for any call: 45 s.
	requestTimeout = 50 * time.Second
	// Behind one address may be a company, or a whole town on one mobile network.
	addressStreams = 1_000
)

// settings is what the environment says. Each is described in the table below.
type settings struct {
	listenAddress    string
	metricsAddress   string
	logLevel         slog.Level
	gatewayAddress   string
	gatewayCA        string
	gatewayPlaintext bool
	publicCert       string
	publicKey        string
	publicPlaintext  bool
	token            *ownToken
	origins          []string
	proxies          []netip.Prefix
	addressStreams   int
	limitLoopback    bool
	requestTimeout   time.Duration
	signInKey        string
	authIssuer       string
	authAudience     string
	otlpEndpoint     string
	traceRatio       float64
}

type setting struct {
	name  string
	usual string
	about string
	take  func(*settings, string) error
}

var table = []setting{
	{"LISTEN_ADDRESS", "", "HOST:PORT for HTTP; off loopback only with TLS, or with PUBLIC_PLAINTEXT",
		address(func(s *settings) *string { return &s.listenAddress })},
	{"METRICS_ADDRESS", "", "HOST:PORT of the page /metrics",
		address(func(s *settings) *string { return &s.metricsAddress })},
	{"GATEWAY_ADDRESS", "", "HOST:PORT of the gateway's gRPC; off loopback only with GATEWAY_TLS_CA, or with GATEWAY_PLAINTEXT",
		address(func(s *settings) *string { return &s.gatewayAddress })},
	{"GATEWAY_TLS_CA", "", "PEM file with the CAs by which the gateway is known; without it the link is plaintext",
		text(func(s *settings) *string { return &s.gatewayCA })},
	{"GATEWAY_PLAINTEXT", "no", "yes: plaintext to a gateway on another machine, where nobody can listen in",
		flag(func(s *settings) *bool { return &s.gatewayPlaintext })},
	{"PUBLIC_TLS_CERT", "", "PEM file with the certificate that callers see, and its chain; read again when it changes",
		text(func(s *settings) *string { return &s.publicCert })},
	{"PUBLIC_TLS_KEY", "", "PEM file with its key", text(func(s *settings) *string { return &s.publicKey })},
	{"PUBLIC_PLAINTEXT", "no", "yes: plaintext off loopback, where something in front does TLS",
		flag(func(s *settings) *bool { return &s.publicPlaintext })},
	{"TOKEN", "", "token of role service, with which callers without one read what is on sale; TOKEN_FILE is read again when it changes",
		func(s *settings, value string) error { s.token.text = value; return nil }},
	{"CORS_ORIGINS", "", "origins whose pages may call from a browser, with commas between them (https://shop.example)",
		func(s *settings, value string) (err error) { s.origins, err = originsOf(value); return }},
	{"TRUSTED_PROXIES", "", "addresses and networks, with commas between them, whose x-forwarded-for is believed",
		func(s *settings, value string) (err error) { s.proxies, err = networksOf(value); return }},
	{"ADDRESS_STREAMS", strconv.Itoa(addressStreams), "streams that one address may have open",
		number(0, 1_000_000, func(s *settings, n int) { s.addressStreams = n })},
	{"LIMIT_LOOPBACK", "no", "yes: the limit counts for this machine, too",
		flag(func(s *settings) *bool { return &s.limitLoopback })},
	{"REQUEST_TIMEOUT_S", strconv.Itoa(int(requestTimeout / time.Second)), "after which a call that is no stream is given up",
		number(1, 600, func(s *settings, n int) { s.requestTimeout = time.Duration(n) * time.Second })},
	{"SIGN_IN_KEY", "", "PEM file with the local issuer's private key, for POST /v1/session; on loopback only, never in production",
		text(func(s *settings) *string { return &s.signInKey })},
	{"AUTH_ISSUER", "", "iss of the tokens that SIGN_IN_KEY signs", text(func(s *settings) *string { return &s.authIssuer })},
	{"AUTH_AUDIENCE", "", "their aud", text(func(s *settings) *string { return &s.authAudience })},
	{"OTLP_ENDPOINT", "", "URL of an OTLP receiver by gRPC (http://127.0.0.1:4317), to which traces are sent; without it there are none", endpoint},
	{"TRACE_RATIO", "0.01", "of all traces, how many are sent", ratio},
	{"LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR",
		func(s *settings, value string) (err error) { s.logLevel, err = levelOf(value); return }},
}

// load reads the settings; it returns everything that is wrong with them.
func load() (*settings, []string) {
	s, problems := &settings{token: &ownToken{}}, []string(nil)
	for _, one := range table {
		value, file, err := lookup(one.name)
		if err == nil && value == "" && one.usual == "" && strings.HasSuffix(one.name, "_ADDRESS") {
			err = fmt.Errorf("is missing")
		}
		if value == "" {
			value = one.usual
		}
		if err == nil && value != "" {
			err = one.take(s, value)
		}
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s%s: %v", prefix, one.name, err))
		}
		if one.name == "TOKEN" {
			s.token.file = file
		}
	}
	if len(problems) == 0 {
		problems = s.conflicts()
	}
	return s, problems
}

// conflicts is what is wrong between several settings.
func (s *settings) conflicts() (problems []string) {
	say := func(form string, values ...any) { problems = append(problems, fmt.Sprintf(form, values...)) }
	if (s.publicCert == "") != (s.publicKey == "") {
		say("TICKETRUSH_PUBLIC_TLS_CERT and TICKETRUSH_PUBLIC_TLS_KEY: both or none")
	}
	if s.publicCert == "" && !s.publicPlaintext && !isLoopback(s.listenAddress) {
		say("TICKETRUSH_LISTEN_ADDRESS %s can be reached from elsewhere, in plaintext: set TICKETRUSH_PUBLIC_TLS_CERT and "+
			"TICKETRUSH_PUBLIC_TLS_KEY, or listen on 127.0.0.1; TICKETRUSH_PUBLIC_PLAINTEXT=yes is for where something in "+
			"front of it does TLS", s.listenAddress)
	}
	if s.gatewayCA == "" && !s.gatewayPlaintext && !isLoopback(s.gatewayAddress) {
		say("TICKETRUSH_GATEWAY_ADDRESS %s is on another machine, and tokens would go there in plaintext: set "+
			"TICKETRUSH_GATEWAY_TLS_CA; TICKETRUSH_GATEWAY_PLAINTEXT=yes is for where nobody can listen in", s.gatewayAddress)
	}
	if s.signInKey != "" && !isLoopback(s.listenAddress) {
		say("TICKETRUSH_SIGN_IN_KEY gives tokens to whoever asks, and TICKETRUSH_LISTEN_ADDRESS %s can be reached from "+
			"elsewhere: unset it, and take tokens from an identity provider", s.listenAddress)
	}
	if s.signInKey != "" && (s.authIssuer == "" || s.authAudience == "") {
		say("TICKETRUSH_AUTH_ISSUER and TICKETRUSH_AUTH_AUDIENCE must be set beside TICKETRUSH_SIGN_IN_KEY")
	}
	return problems
}

// lookup is the value of a setting, and the file that it was read from if there is one.
func lookup(name string) (value, file string, err error) {
	value, file = os.Getenv(prefix+name), os.Getenv(prefix+name+"_FILE")
	if file == "" {
		return value, "", nil
	}
	if value != "" {
		return "", "", fmt.Errorf("%s%s_FILE is set too: unset one", prefix, name)
	}
	held, err := os.ReadFile(file)
	if err != nil {
		return "", "", fmt.Errorf("%s%s_FILE cannot be read: %w", prefix, name, err)
	}
	return strings.TrimSuffix(string(held), "\n"), file, nil
}

func help() string {
	var out strings.Builder
	out.WriteString("The HTTP front of TicketRush: REST and JSON, streams for browsers, in front of the gateway's gRPC.\n\n" +
		"usage: frontend              serves until SIGTERM\n" +
		"       frontend healthcheck  exits with 0 if the one with the same settings is ready\n\n" +
		"Settings, from the environment; each may be in a file instead, which NAME_FILE names:\n")
	for _, one := range table {
		fmt.Fprintf(&out, "  %-29s %s", prefix+one.name, one.about)
		if one.usual != "" {
			fmt.Fprintf(&out, " [%s]", one.usual)
		}
		out.WriteString("\n")
	}
	return out.String()
}

func text(field func(*settings) *string) func(*settings, string) error {
	return func(s *settings, value string) error { *field(s) = value; return nil }
}

func address(field func(*settings) *string) func(*settings, string) error {
	return func(s *settings, value string) error {
		host, port, err := net.SplitHostPort(value)
		if _, notPort := strconv.ParseUint(port, 10, 16); err != nil || host == "" || notPort != nil {
			return fmt.Errorf("must be HOST:PORT, for example 127.0.0.1:8080")
		}
		*field(s) = value
		return nil
	}
}

func flag(field func(*settings) *bool) func(*settings, string) error {
	return func(s *settings, value string) error {
		switch strings.ToLower(value) {
		case "yes", "true", "1", "on", "y", "t":
			*field(s) = true
		case "no", "false", "0", "off", "n", "f":
			*field(s) = false
		default:
			return fmt.Errorf("must be yes or no")
		}
		return nil
	}
}

func number(least, most int, take func(*settings, int)) func(*settings, string) error {
	return func(s *settings, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("must be a whole number from %d to %d", least, most)
		}
		take(s, n)
		return nil
	}
}

func levelOf(value string) (slog.Level, error) {
	levels := map[string]slog.Level{
		"DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo, "WARNING": slog.LevelWarn, "ERROR": slog.LevelError,
		"CRITICAL": slog.LevelError + 4, // as Python has it: nothing of ours is
	}
	level, known := levels[strings.ToUpper(value)]
	if !known {
		return 0, fmt.Errorf("must be DEBUG, INFO, WARNING or ERROR")
	}
	return level, nil
}

func networksOf(value string) (networks []netip.Prefix, err error) {
	for _, word := range words(value) {
		network, err := netip.ParsePrefix(word)
		if err != nil {
			one, notAddress := netip.ParseAddr(word)
			if notAddress != nil {
				return nil, fmt.Errorf("%q is no address and no network", word)
			}
			network = netip.PrefixFrom(one, one.BitLen())
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

func originsOf(value string) (origins []string, err error) {
	for _, word := range words(value) {
		parts, err := url.Parse(word)
		if err != nil || (parts.Scheme != "https" && parts.Scheme != "http") || parts.Host == "" || parts.Path != "" {
			return nil, fmt.Errorf("%q is no origin: must be like https://shop.example", word)
		}
		origins = append(origins, word)
	}
	return origins, nil
}

func words(value string) (found []string) {
	for word := range strings.SplitSeq(value, ",") {
		if word = strings.TrimSpace(word); word != "" {
			found = append(found, word)
		}
	}
	return found
}

// isLoopback: whether only this machine itself can be reached at HOST:PORT; of names, only localhost is known to be so.
func isLoopback(hostAndPort string) bool {
	host, _, err := net.SplitHostPort(hostAndPort)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}
