package main

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

var (
	requests = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "ticketrush_frontend_requests_total", Help: "HTTP requests answered, by the call that they became and by status.",
	}, []string{"grpc_method", "code"})
	seconds = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ticketrush_frontend_request_seconds", Help: "Seconds until a request that is no stream was answered.",
		Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
	}, []string{"grpc_method"})
	openStreams = promauto.NewGauge(prometheus.GaugeOpts{
		Name: "ticketrush_frontend_streams", Help: "Streams that are being served.",
	})
	upstreamWatches = promauto.NewGauge(prometheus.GaugeOpts{
		Name: "ticketrush_frontend_seat_maps", Help: "Events that are watched: each takes one stream of the gateway.",
	})
	slowReaders = promauto.NewCounter(prometheus.CounterOpts{
		Name: "ticketrush_frontend_slow_readers_total", Help: "Streams ended because their reader could not keep up.",
	})
)

func count(made *call, code int, took time.Duration) {
	method := made.rpc[strings.LastIndexByte(made.rpc, '/')+1:]
	requests.WithLabelValues(method, strconv.Itoa(code)).Inc()
	if method != "" && !made.isStream {
		seconds.WithLabelValues(method).Observe(took.Seconds())
	}
}

func metricsPage() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.Handler())
	return mux
}
