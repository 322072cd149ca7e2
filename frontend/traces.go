package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
)

const (
	// What waits to be sent; what comes while it is full is dropped, for a receiver may be away for long.
	spansMax       = 4_096
	exportInterval = time.Second
	exportTimeout  = 5 * time.Second
	flushTimeout   = 2 * time.Second
)

// traces is where each call that comes by HTTP begins its span; nil while nobody traces.
type traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// newTraces sends this share of all traces to the OTLP receiver, chosen by their id: what a caller says of its own trace is not
// believed, its id is taken over, and chosen or not as any other.
func newTraces(endpoint string, ratio float64) (*traces, error) {
	if endpoint == "" {
		return nil, nil
	}
	exporter, err := otlptracegrpc.New(context.Background(), otlptracegrpc.WithEndpointURL(endpoint), otlptracegrpc.WithTimeout(exportTimeout))
	if err != nil {
		return nil, err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { slog.Warn("traces are not sent: " + err.Error()) }))
	byID := sdktrace.TraceIDRatioBased(ratio)
	about := resource.NewSchemaless(attribute.String("service.name", "frontend"), attribute.String("service.namespace", "ticketrush"))
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.ParentBased(byID, sdktrace.WithRemoteParentSampled(byID))),
		sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(spansMax), sdktrace.WithBatchTimeout(exportInterval)),
		sdktrace.WithResource(about),
	)
	return &traces{provider: provider, tracer: provider.Tracer("ticketrush")}, nil
}

// begin is the span of a request that is to become a call, whose context goes along with it. It gives what ends it.
func (t *traces) begin(r *http.Request, made *call) func(code int) {
	if t == nil || !strings.HasPrefix(r.URL.Path, "/v1/") {
		return func(int) {}
	}
	carrier := along(made.metadata)
	ctx := propagation.TraceContext{}.Extract(context.Background(), carrier)
	ctx, span := t.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer))
	propagation.TraceContext{}.Inject(ctx, carrier)
	return func(code int) {
		if span.IsRecording() {
			// The pattern, for an id is in the path itself; a stream has none.
			span.SetName(strings.TrimSpace(r.Method + " " + cmp.Or(made.pattern, made.rpc)))
			span.SetAttributes(attribute.Int("http.response.status_code", code))
			if code >= http.StatusInternalServerError {
				span.SetStatus(otelcodes.Error, http.StatusText(code))
			}
		}
		span.End()
	}
}

// stop sends what has not been sent.
func (t *traces) stop() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		slog.Warn("traces are not sent: " + err.Error())
	}
}

// along is the metadata of a call as what carries its context.
type along metadata.MD

func (a along) Get(key string) string {
	return strings.Join(metadata.MD(a).Get(key), ",")
}

func (a along) Set(key, value string) {
	metadata.MD(a).Set(key, value)
}

func (a along) Keys() []string {
	keys := make([]string, 0, len(a))
	for key := range a {
		keys = append(keys, key)
	}
	return keys
}

func endpoint(s *settings, value string) error {
	parts, err := url.Parse(value)
	if err != nil || (parts.Scheme != "http" && parts.Scheme != "https") || parts.Host == "" {
		return fmt.Errorf("must be http://HOST:PORT or https://HOST:PORT of an OTLP receiver by gRPC")
	}
	s.otlpEndpoint = value
	return nil
}

func ratio(s *settings, value string) error {
	share, err := strconv.ParseFloat(value, 64)
	if err != nil || !(share >= 0 && share <= 1) {
		return fmt.Errorf("must be a number from 0 to 1")
	}
	s.traceRatio = share
	return nil
}
