package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "ticketrush/gen/go/ticketrush/v1"
)

const (
	idempotencyHeader = "Idempotency-Key"
	keyBytesMax       = 255
	forwardedFor      = "x-forwarded-for"
	authorization     = "authorization"
)

// What of a request's headers goes along with its call. Nothing else does.
var carried = []string{authorization, "traceparent", "tracestate", "x-request-id"}

// What is on sale: callers without a token see it, too.
var public = map[string]bool{
	pb.CatalogService_ListEvents_FullMethodName:     true,
	pb.CatalogService_GetEvent_FullMethodName:       true,
	pb.TicketingService_ListTickets_FullMethodName:  true,
	pb.TicketingService_WatchTickets_FullMethodName: true,
}

// keySpace is that of the request_ids that are derived from keys. Never changes: the same key names the same request for ever.
var keySpace = uuid.MustParse("b58f1b4c-6a0a-4c53-9a0e-2f9d4b1f7c11")

// call is what an HTTP request brings along to the RPC that it becomes.
type call struct {
	metadata metadata.MD
	key      string // of the Idempotency-Key header
	body     []byte
	rpc      string // the full name, once it is known
	pattern  string // of its path, once it is known
	isStream bool
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	found, _ := ctx.Value(callKey{}).(*call)
	return found
}

// callFrom reads the headers.
func callFrom(r *http.Request, client string) (*call, error) {
	made := &call{metadata: metadata.MD{}}
	for _, name := range carried {
		value := r.Header.Get(name)
		if !isPrintable(value) {
			return nil, malformed("the header " + name + " may hold printable ASCII alone")
		}
		if value != "" {
			made.metadata.Set(name, value)
		}
	}
	made.metadata.Set(forwardedFor, client)
	// As an item of a structured header it is quoted; most write it bare.
	made.key = strings.Trim(r.Header.Get(idempotencyHeader), `"`)
	if len(made.key) > keyBytesMax || !isPrintable(made.key) {
		return nil, malformed("the header Idempotency-Key may hold 255 printable ASCII characters")
	}
	return made, nil
}

// outgoing is the context of a call to the gateway: with the caller's token, or with ours where that is enough.
func (c *call) outgoing(ctx context.Context, method string, own *ownToken) context.Context {
	along := c.metadata
	if public[method] && len(along.Get(authorization)) == 0 {
		if token := own.current(); token != "" {
			along = along.Copy()
			along.Set(authorization, "Bearer "+token)
		}
	}
	return metadata.NewOutgoingContext(ctx, along)
}

// carry is what every unary call passes on its way: what goes along, and what its request_id is.
func carry(own *ownToken) grpc.UnaryClientInterceptor {
	return func(
		ctx context.Context, method string, request, reply any, link *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
	) error {
		made := callOf(ctx)
		if made == nil { // of our own, for the gateway's health
			return invoke(ctx, method, request, reply, link, options...)
		}
		made.rpc = method
		message := request.(proto.Message)
		if err := made.refuseWhatThePathSays(ctx); err != nil {
			return err
		}
		if err := made.settleRequestID(message.ProtoReflect()); err != nil {
			return err
		}
		return invoke(made.outgoing(ctx, method, own), method, request, reply, link, options...)
	}
}

var inPath = regexp.MustCompile(`\{([a-z_.]+)[=}]`)

// refuseWhatThePathSays: of two places that could differ, one would be silently without effect.
func (c *call) refuseWhatThePathSays(ctx context.Context) error {
	c.pattern, _ = runtime.HTTPPathPattern(ctx)
	for _, found := range inPath.FindAllStringSubmatch(c.pattern, -1) {
		if hasField(c.body, strings.Split(found[1], ".")) {
			return &problem{code: codes.InvalidArgument, reason: malformedRequest, field: found[1],
				message: found[1] + " is in the path: leave it out of the body"}
		}
	}
	return nil
}

func hasField(body []byte, path []string) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return false
	}
	for name, value := range fields {
		// JSON may call it by either of its names.
		if strings.EqualFold(strings.ReplaceAll(name, "_", ""), strings.ReplaceAll(path[0], "_", "")) {
			return len(path) == 1 || hasField(value, path[1:])
		}
	}
	return false
}

// settleRequestID fills request_id from the Idempotency-Key header.
func (c *call) settleRequestID(message protoreflect.Message) error {
	field := message.Descriptor().Fields().ByName("request_id")
	if field == nil || c.key == "" {
		return nil // reads are repeated without a key
	}
	id := requestID(c.key, c.subject())
	said := message.Get(field).String()
	if said == "" {
		message.Set(field, protoreflect.ValueOfString(id))
	} else if !strings.EqualFold(said, id) {
		return &problem{code: codes.InvalidArgument, reason: idempotencyKey, field: "request_id",
			message: "request_id and the header Idempotency-Key differ: send one of them, or the same in both"}
	}
	return nil
}

// requestID is the key itself if it is a UUID, else derived from it and whose it is: request_ids of organisers are the whole
// house's, and "1" is a key that two may think of.
func requestID(key, subject string) string {
	if id, err := uuid.Parse(key); err == nil && len(key) == len(uuid.Nil.String()) {
		return id.String()
	}
	return uuid.NewSHA1(keySpace, []byte(subject+"\n"+key)).String()
}

// subject is whose token it says it is. Nobody has checked that yet: the gateway will, and refuses what is not true.
func (c *call) subject() string {
	parts := strings.Split(strings.Join(c.metadata.Get(authorization), ""), ".")
	if len(parts) != 3 {
		return ""
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var known struct {
		Subject string `json:"sub"`
	}
	_ = json.Unmarshal(claims, &known)
	return known.Subject
}

func malformed(message string) *problem {
	return &problem{code: codes.InvalidArgument, reason: malformedRequest, message: message}
}

// isPrintable: gRPC carries nothing else in metadata.
func isPrintable(value string) bool {
	for i := range len(value) {
		if value[i] < 0x20 || value[i] > 0x7e {
			return false
		}
	}
	return true
}
