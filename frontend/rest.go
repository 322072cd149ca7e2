package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "ticketrush/gen/go/ticketrush/v1"
)

const (
	// Four times what the gateway takes of a request: names and quotes are longer than tags.
	bodyBytesMax = 64 << 10
	// 100,000 seats by name, for CreateTickets.
	largeBodyBytesMax = 16 << 20
	// Each is held whole in memory.
	largeBodiesMax = 4
	bodyTimeout    = 10 * time.Second
	// Beyond the call's own time, for a reader of the answer.
	answerTimeout = 10 * time.Second
)

// newREST is the HTTP side of every public RPC, as protos/ticketrush/v1/http.yaml maps them.
func newREST(link grpc.ClientConnInterface, watches *watches, timeout time.Duration) (http.Handler, error) {
	nothing := func(string) (string, bool) { return "", false }
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{
			MarshalOptions:   writing,
			UnmarshalOptions: protojson.UnmarshalOptions{},
		}),
		// What goes along is decided in call.go, and what comes back is the message.
		runtime.WithIncomingHeaderMatcher(nothing),
		runtime.WithOutgoingHeaderMatcher(nothing),
		runtime.WithOutgoingTrailerMatcher(nothing),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithWriteContentLength(),
		runtime.SetQueryParameterParser(&strictQuery{}),
		runtime.WithErrorHandler(func(
			_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error,
		) {
			refuse(w, r, err)
		}),
	)
	runtime.DefaultContextTimeout = 0
	ctx := context.Background()
	if err := pb.RegisterTicketingServiceHandlerClient(ctx, mux, pb.NewTicketingServiceClient(link)); err != nil {
		return nil, err
	}
	if err := pb.RegisterCatalogServiceHandlerClient(ctx, mux, pb.NewCatalogServiceClient(link)); err != nil {
		return nil, err
	}
	return routed(readBody(withinTime(compressed(mux), timeout)), map[string]watch{
		"TicketingService_WatchTickets":     watches.tickets,
		"TicketingService_WatchReservation": watches.reservation,
	}), nil
}

// watch serves a stream about the thing with that id.
type watch func(w http.ResponseWriter, r *http.Request, id string)

// routed lets through what is a call of the document: grpc-gateway itself takes any word for an id, also none or a:verb.
// Streams do not pass through it: it would serialise anew for each who watches, and its frames cost each 8 KB of stack.
func routed(next http.Handler, streams map[string]watch) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		operations, id := routes.find(r.URL.Path)
		asked, allowed := operations[r.Method], slices.Sorted(maps.Keys(operations))
		switch {
		case !utf8.ValidString(r.URL.Path):
			refuse(w, r, malformed("the path is not UTF-8"))
		case len(allowed) == 0:
			refuse(w, r, &problem{code: codes.NotFound, reason: unknownPath, message: "there is nothing at this path; see /docs"})
		case asked == nil:
			refuseMethod(w, r, allowed...)
		case streams[asked.OperationID] == nil:
			next.ServeHTTP(w, r)
		case r.URL.RawQuery != "":
			refuse(w, r, malformed("this call takes no query parameters"))
		default:
			streams[asked.OperationID](w, r, id)
		}
	})
}

// withinTime gives up a call after its time.
func withinTime(next http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// These are grpc-gateway's own ways to say what other headers say here.
		r.Header.Del("Grpc-Timeout")
		r.Header.Del("Te")
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// readBody takes the whole body before the call is made, and only one that is JSON.
func readBody(next http.Handler) http.Handler {
	large := make(chan struct{}, largeBodiesMax)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			r.Body = http.NoBody
			next.ServeHTTP(w, r)
			return
		}
		limit := int64(bodyBytesMax)
		if strings.HasSuffix(r.URL.Path, "/tickets") && (r.ContentLength > bodyBytesMax || r.ContentLength < 0) {
			select {
			case large <- struct{}{}:
				defer func() { <-large }()
				limit = largeBodyBytesMax
			default:
				refuse(w, r, &problem{code: codes.ResourceExhausted, reason: tooManyRequests,
					message: "too many large requests at once; send it again a little later"})
				return
			}
		}
		body, err := bodyOf(w, r, limit)
		if err != nil {
			refuse(w, r, err)
			return
		}
		callOf(r.Context()).body = body
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

func bodyOf(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.URL.RawQuery != "" {
		return nil, malformed("this call takes no query parameters: what they would say is in the body")
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return nil, unsupported("bodies are taken as they are, without Content-Encoding")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return nil, notRead(err, limit)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	if len(body) == 0 {
		return body, nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, unsupported("the body must be JSON, and be said to be: Content-Type: application/json")
	}
	if !json.Valid(body) {
		var anything json.RawMessage
		return nil, malformed("the body is no JSON: " + json.Unmarshal(body, &anything).Error())
	}
	return body, nil
}

func notRead(err error, limit int64) *problem {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &problem{code: codes.InvalidArgument, http: http.StatusRequestEntityTooLarge, reason: requestTooLarge,
			message: "the body is larger than any right one of this call"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &problem{code: codes.DeadlineExceeded, http: http.StatusRequestTimeout, reason: requestTooSlow,
			message: "the body did not come in " + bodyTimeout.String()}
	default:
		return malformed("the body did not come whole")
	}
}

func unsupported(message string) *problem {
	return &problem{code: codes.InvalidArgument, http: http.StatusUnsupportedMediaType, reason: unsupportedContent, message: message}
}

func refuseMethod(w http.ResponseWriter, r *http.Request, allowed ...string) {
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	refuse(w, r, &problem{code: codes.Unimplemented, http: http.StatusMethodNotAllowed, reason: methodNotAllowed,
		message: r.Method + " is not what this path is for"})
}

// strictQuery refuses parameters that the call does not have; grpc-gateway's own parser passes over them.
type strictQuery struct{ runtime.DefaultQueryParser }

func (q *strictQuery) Parse(message proto.Message, values url.Values, inPath *utilities.DoubleArray) error {
	fields := message.ProtoReflect().Descriptor().Fields()
	for name, given := range values {
		if !utf8.ValidString(strings.Join(given, "")) {
			return errors.New(name + " is not UTF-8")
		}
		if fields.ByTextName(name) == nil || inPath.HasCommonPrefix([]string{name}) {
			known := []string{}
			for i := range fields.Len() {
				if own := string(fields.Get(i).Name()); !inPath.HasCommonPrefix([]string{own}) {
					known = append(known, own)
				}
			}
			slices.Sort(known)
			return errors.New("there is no parameter " + name + "; there are: " + strings.Join(known, ", "))
		}
	}
	return q.DefaultQueryParser.Parse(message, values, inPath)
}
