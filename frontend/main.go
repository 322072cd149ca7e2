// The HTTP front of TicketRush: every public RPC of the gateway as REST and JSON, by grpc-gateway; streams for browsers,
// serialised once however many watch; the OpenAPI document. It has no data and no rules of its own: the gateway decides.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	pb "ticketrush/gen/go/ticketrush/v1"
)

const (
	connectionsMax    = 10_000
	headerTimeout     = 5 * time.Second
	idleTimeout       = 2 * time.Minute
	concurrentStreams = 250 // of one HTTP/2 connection

	// A gateway that comes back is found again within a second.
	reconnectMax     = time.Second
	connectTimeout   = 5 * time.Second
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second

	// Services of ours end within 10 s: what is under way is given so long to end by itself, and then so long to be told.
	stopTimeout   = 7 * time.Second
	giveUpTimeout = time.Second
)

func main() {
	if len(os.Args) > 1 && os.Args[1] != "healthcheck" {
		fmt.Print(help())
		if os.Args[1] != "--help" && os.Args[1] != "-h" {
			os.Exit(exitMisconfigured)
		}
		return
	}
	chosen, problems := load()
	if len(problems) > 0 {
		misconfigured("settings are wrong:\n  " + strings.Join(problems, "\n  "))
	}
	if len(os.Args) > 1 {
		os.Exit(healthcheck(chosen))
	}
	logTo(os.Stdout, chosen.logLevel)
	if err := serve(chosen); err != nil {
		slog.Error("ended: " + err.Error())
		os.Exit(1)
	}
}

func misconfigured(problem string) {
	fmt.Fprintln(os.Stderr, "Cannot start, "+problem)
	os.Exit(exitMisconfigured)
}

// logTo writes JSON lines as the other services do.
func logTo(out io.Writer, level slog.Level) {
	names := map[string]string{slog.TimeKey: "time", slog.LevelKey: "level", slog.MessageKey: "message"}
	handler := slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if name, known := names[a.Key]; known && len(groups) == 0 {
			a.Key = name
		}
		if a.Key == "level" && a.Value.String() == "WARN" {
			a.Value = slog.StringValue("WARNING")
		}
		return a
	}})
	slog.SetDefault(slog.New(handler).With("logger", "frontend", "service", "frontend"))
}

// dial makes a link to the gateway. It connects when it is first used, and again whenever it is lost.
func dial(chosen *settings) (*grpc.ClientConn, error) {
	by := insecure.NewCredentials()
	if chosen.gatewayCA != "" {
		pool, err := authorities(chosen.gatewayCA)
		if err != nil {
			return nil, fmt.Errorf("%sGATEWAY_TLS_CA: %w", prefix, err)
		}
		by = credentials.NewTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})
	}
	again := backoff.Config{BaseDelay: reconnectFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMax}
	return grpc.NewClient(chosen.gatewayAddress,
		grpc.WithTransportCredentials(by),
		// A proxy that the environment names for the outside world knows no service of ours.
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		// Otherwise an idle link is closed, and the next caller waits for it.
		grpc.WithIdleTimeout(0),
		grpc.WithUserAgent("ticketrush-frontend"),
		grpc.WithUnaryInterceptor(carry(chosen.token)),
	)
}

func serve(chosen *settings) error {
	link, err := newLinks(func() (*grpc.ClientConn, error) { return dial(chosen) })
	if err != nil {
		misconfigured(err.Error())
	}
	defer func() { _ = link.close() }()
	stop := make(chan struct{})
	seen, err := newTraces(chosen.otlpEndpoint, chosen.traceRatio)
	if err != nil {
		misconfigured(fmt.Sprintf("%sOTLP_ENDPOINT: %v", prefix, err))
	}
	defer seen.stop()
	server, err := compose(chosen, link, seen, stop)
	if err != nil {
		misconfigured(err.Error())
	}
	// What is still under way when time is up.
	living, giveUp := context.WithCancelCause(context.Background())
	defer giveUp(nil)
	server.BaseContext = func(net.Listener) context.Context { return living }
	pages := &http.Server{Handler: metricsPage(), ReadHeaderTimeout: headerTimeout}
	public, own := listen("LISTEN_ADDRESS", chosen.listenAddress), listen("METRICS_ADDRESS", chosen.metricsAddress)
	ended := make(chan error, 2)
	go func() { ended <- serveOn(server, public) }()
	go func() { ended <- serveOn(pages, own) }()
	// Before anybody is told that it runs, and may want it to stop.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	slog.Info("listening", "address", public.Addr().String(), "metrics", own.Addr().String())

	select {
	case err := <-ended:
		return err
	case <-signals:
	}
	slog.Info("stopping")
	close(stop) // not ready any more, and streams end
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		slog.Error("did not stop in time, giving up what is under way", "after_s", stopTimeout.Seconds())
		giveUp(stoppingProblem())
		ctx, cancel := context.WithTimeout(context.Background(), giveUpTimeout)
		defer cancel()
		_ = server.Shutdown(ctx)
		_ = server.Close()
	}
	slog.Info("stopped")
	return nil
}

// compose puts the parts together.
func compose(chosen *settings, link *links, seen *traces, stop <-chan struct{}) (*http.Server, error) {
	ticketing := pb.NewTicketingServiceClient(link)
	front := &front{
		proxies: chosen.proxies,
		origins: chosen.origins,
		ready:   newReadiness(grpc_health_v1.NewHealthClient(link), stop),
		traces:  seen,
	}
	rest, err := newREST(link, &watches{
		client:   ticketing,
		catalog:  pb.NewCatalogServiceClient(link),
		own:      chosen.token,
		seats:    newSeatMaps(ticketing, chosen.token),
		stopping: stop,
		places:   &places{each: chosen.addressStreams, limitLoopback: chosen.limitLoopback, taken: map[string]int{}},
		front:    front,
	}, chosen.requestTimeout)
	if err != nil {
		return nil, err
	}
	var signIn http.Handler
	if chosen.signInKey != "" {
		found, err := newSession(chosen.signInKey, chosen.authIssuer, chosen.authAudience)
		if err != nil {
			return nil, fmt.Errorf("%sSIGN_IN_KEY: %w", prefix, err)
		}
		signIn = found
	}
	server := &http.Server{
		Handler:           front.handler(rest, signIn),
		ReadHeaderTimeout: headerTimeout,
		// For answers that are no stream; those have a limit for each write.
		WriteTimeout:   chosen.requestTimeout + bodyTimeout + answerTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: headerBytesHard,
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: concurrentStreams},
		ErrorLog:       slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	if chosen.publicCert != "" {
		shown, err := newCertificate(chosen.publicCert, chosen.publicKey)
		if err != nil {
			return nil, fmt.Errorf("%sPUBLIC_TLS_CERT, _KEY: %w", prefix, err)
		}
		server.TLSConfig = shown.config()
	}
	return server, nil
}

func listen(name, address string) net.Listener {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		misconfigured(fmt.Sprintf("%s%s: cannot listen on %s, is it in use? (%v)", prefix, name, address, err))
	}
	return netutil.LimitListener(listener, connectionsMax)
}

func serveOn(server *http.Server, listener net.Listener) error {
	serve := server.Serve
	if server.TLSConfig != nil {
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// healthcheck asks the one that runs with these settings whether it is ready.
func healthcheck(chosen *settings) int {
	scheme, transport := "http", &http.Transport{Proxy: nil}
	if chosen.publicCert != "" {
		// Whoever shows what is in our own file is ourselves.
		own, err := tls.LoadX509KeyPair(chosen.publicCert, chosen.publicKey)
		pool, unread := authorities(chosen.publicCert)
		if err != nil || unread != nil || len(own.Leaf.DNSNames) == 0 {
			return 1
		}
		scheme, transport.TLSClientConfig = "https", &tls.Config{RootCAs: pool, ServerName: own.Leaf.DNSNames[0]}
	}
	_, port, _ := net.SplitHostPort(chosen.listenAddress)
	client := &http.Client{Transport: transport, Timeout: 2 * healthTimeout}
	answer, err := client.Get(scheme + "://127.0.0.1:" + port + "/readyz")
	if err != nil {
		return 1
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return 1
	}
	return 0
}
