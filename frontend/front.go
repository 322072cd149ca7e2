package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzhttp"
	"github.com/rs/cors"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"

	"ticketrush/gen/openapi"
)

const (
	headerBytesMax = 16 << 10
	// Beyond that net/http itself hangs up, in plain text.
	headerBytesHard = 64 << 10
	// Smaller answers gain nothing.
	gzipFrom = 1 << 10
	// How long browsers remember what CORS allows.
	corsAge = 10 * time.Minute
	// Of IPv6 one customer, and often one machine, has so many addresses.
	ipv6Prefix    = 64
	healthTimeout = time.Second
	// How long an answer of the gateway's health counts.
	healthAge = 500 * time.Millisecond

	noPage   = "default-src 'none'; frame-ancestors 'none'"
	docsRule = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// front is everything that is served, and what is done around all of it.
type front struct {
	proxies []netip.Prefix
	origins []string
	ready   *readiness
	traces  *traces
}

func (f *front) handler(rest http.Handler, session http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/healthz", http.HandlerFunc(alive))
	mux.Handle("/readyz", f.ready)
	mux.Handle("/openapi.json", compressed(still("application/json", openapi.Document)))
	mux.Handle("/docs", under(docsRule, compressed(still("text/html; charset=utf-8", docsPage()))))
	mux.Handle("/docs.css", still("text/css; charset=utf-8", docsCSS))
	servePage(mux)
	if session != nil {
		mux.Handle("/v1/session", readBody(session))
	}
	return f.around(f.crossing(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Its own cleaning of paths answers with redirects in HTML: what is unclean is unknown.
		if found, pattern := mux.Handler(r); pattern != "" && pattern == r.URL.Path {
			found.ServeHTTP(w, r)
		} else {
			rest.ServeHTTP(w, r)
		}
	})))
}

// crossing lets pages of other origins call, where there are any that may.
func (f *front) crossing(next http.Handler) http.Handler {
	if len(f.origins) == 0 { // to the library, none are all
		return next
	}
	return cors.New(cors.Options{
		AllowedOrigins: f.origins,
		AllowedMethods: []string{http.MethodGet, http.MethodPost},
		AllowedHeaders: []string{"Authorization", "Content-Type", idempotencyHeader, "Traceparent", "Tracestate", "X-Request-Id"},
		ExposedHeaders: []string{"Retry-After", "X-Request-Id"},
		MaxAge:         int(corsAge / time.Second),
	}).Handler(next)
}

// around is what every request passes: headers for safety, a look at its own headers, its count, and what to do if we fail.
func (f *front) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", noPage)
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("X-Frame-Options", "DENY")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cache-Control", "no-store")
		if r.ContentLength != 0 {
			// Also for who is refused unread: what is left of his body is taken before the next request of the connection.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		begin, seen := time.Now(), &observed{ResponseWriter: w}
		made, err := f.look(r)
		told := func(int) {}
		if made != nil {
			told = f.traces.begin(r, made)
			r = r.WithContext(context.WithValue(r.Context(), callKey{}, made))
			if id := made.metadata.Get("x-request-id"); len(id) > 0 {
				head.Set("X-Request-Id", id[0])
			}
		}
		defer func() {
			if failure := recover(); failure != nil {
				if failure == http.ErrAbortHandler {
					panic(failure)
				}
				slog.Error("call failed", "error", fmt.Sprint(failure), "path", r.URL.Path, "stack", string(debug.Stack()))
				if seen.code == 0 {
					refuse(seen, r, &problem{code: codes.Internal, reason: internal, message: "an error on our side; it has been logged"})
				}
			}
			if made != nil {
				count(made, seen.code, time.Since(begin))
				told(seen.code)
			}
		}()
		if err != nil {
			refuse(seen, r, err)
			return
		}
		next.ServeHTTP(seen, r)
	})
}

func (f *front) look(r *http.Request) (*call, error) {
	size := len(r.RequestURI)
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(value) + len(": \r\n")
		}
	}
	if size > headerBytesMax {
		return nil, &problem{code: codes.InvalidArgument, http: http.StatusRequestHeaderFieldsTooLarge, reason: requestTooLarge,
			message: "path and headers are larger than any right ones"}
	}
	return callFrom(r, f.clientOf(r))
}

// clientOf is whose request it is: the peer, or whom a proxy that we trust says that it asks for.
func (f *front) clientOf(r *http.Request) string {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	peer, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	peer = peer.Unmap().WithZone("")
	for _, network := range f.proxies {
		if network.Contains(peer) {
			lines := r.Header.Values(forwardedFor)
			if len(lines) > 0 {
				hops := strings.Split(lines[len(lines)-1], ",")
				if client, err := netip.ParseAddr(strings.TrimSpace(hops[len(hops)-1])); err == nil {
					return client.Unmap().WithZone("").String()
				}
			}
		}
	}
	return peer.String()
}

// addressOf is whose streams count together; "" for an address without a limit.
func addressOf(client string, limitLoopback bool) string {
	ip, err := netip.ParseAddr(client)
	if err != nil {
		return client
	}
	if ip.IsLoopback() && !limitLoopback {
		return ""
	}
	if ip.Is6() {
		network, _ := ip.Prefix(ipv6Prefix)
		return network.String()
	}
	return ip.String()
}

func under(rule string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", rule)
		next.ServeHTTP(w, r)
	})
}

func compressed(next http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(gzipFrom), gzhttp.EnableZstd(false))
	if err != nil { // the options are constants
		panic(err)
	}
	return wrap(next)
}

func alive(w http.ResponseWriter, r *http.Request) {
	answerHealth(w, r, true)
}

// readiness is whether calls can be made: the gateway's own health, unless we are stopping.
type readiness struct {
	health   grpc_health_v1.HealthClient
	stopping <-chan struct{}
	place    chan struct{} // held by who looks or asks
	asked    time.Time
	serving  bool
}

func newReadiness(health grpc_health_v1.HealthClient, stopping <-chan struct{}) *readiness {
	return &readiness{health: health, stopping: stopping, place: make(chan struct{}, 1)}
}

func (one *readiness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answerHealth(w, r, one.isReady(r.Context()))
}

func (one *readiness) isReady(ctx context.Context) bool {
	select {
	case <-one.stopping:
		return false
	case <-ctx.Done():
		return false
	case one.place <- struct{}{}:
	}
	defer func() { <-one.place }()
	if time.Since(one.asked) > healthAge {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthTimeout)
		defer cancel()
		answer, err := one.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		one.serving = err == nil && answer.Status == grpc_health_v1.HealthCheckResponse_SERVING
		one.asked = time.Now()
	}
	return one.serving
}

func answerHealth(w http.ResponseWriter, r *http.Request, serving bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuseMethod(w, r, http.MethodGet, http.MethodHead)
		return
	}
	if !serving {
		refuse(w, r, &problem{code: codes.Unavailable, reason: "NOT_SERVING", message: "not ready to take calls"})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	body := `{"status":"SERVING"}`
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write([]byte(body))
}

// observed remembers how a request was answered.
type observed struct {
	http.ResponseWriter
	code int
}

func (o *observed) WriteHeader(code int) {
	if o.code == 0 && code >= 200 {
		o.code = code
	}
	o.ResponseWriter.WriteHeader(code)
}

func (o *observed) Write(body []byte) (int, error) {
	if o.code == 0 {
		o.code = http.StatusOK
	}
	return o.ResponseWriter.Write(body)
}

func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }
