package main

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

const domain = "ticketrush"

// Why calls are refused here; what the gateway refuses keeps the gateway's reason.
const (
	unknownPath        = "UNKNOWN_PATH"
	methodNotAllowed   = "METHOD_NOT_ALLOWED"
	malformedRequest   = "MALFORMED_REQUEST"
	requestTooLarge    = "REQUEST_TOO_LARGE"
	requestTooSlow     = "REQUEST_TOO_SLOW"
	unsupportedContent = "UNSUPPORTED_CONTENT"
	tooManyRequests    = "TOO_MANY_REQUESTS"
	tooManyStreams     = "TOO_MANY_STREAMS"
	slowReader         = "SLOW_READER"
	idempotencyKey     = "IDEMPOTENCY_KEY_MISMATCH"
	gatewayUnavailable = "GATEWAY_UNAVAILABLE"
	stopping           = "FRONTEND_STOPPING"
	internal           = "INTERNAL"
)

// Nobody knows when it will be better.
const retryAfter = time.Second

// problem is a refusal of our own. http is its status where gRPC's code says too little.
type problem struct {
	code    codes.Code
	http    int
	reason  string
	message string
	field   string // that is wrong, if it is one
}

func (p *problem) Error() string { return p.message }

// GRPCStatus lets a problem pass through gRPC's own functions.
func (p *problem) GRPCStatus() *status.Status {
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: p.reason, Domain: domain})}
	if p.field != "" {
		violation := &errdetails.BadRequest_FieldViolation{Field: p.field, Description: p.message}
		wrong := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{violation}}
		details = append(details, protoadapt.MessageV1Of(wrong))
	}
	if p.code == codes.ResourceExhausted || p.code == codes.Unavailable {
		again := &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)}
		details = append(details, protoadapt.MessageV1Of(again))
	}
	told, err := status.New(p.code, p.message).WithDetails(details...)
	if err != nil { // it has a code, and they are messages
		panic(err)
	}
	return told
}

// told is what a caller is told of an error: its google.rpc.Status, which has an ErrorInfo in any case, and the HTTP status.
func told(ctx context.Context, err error) (*spb.Status, int) {
	var own *problem
	if errors.As(err, &own) {
		code := own.http
		if code == 0 {
			code = runtime.HTTPStatusFromCode(own.code)
		}
		return own.GRPCStatus().Proto(), code
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = status.FromContextError(err).Err()
	}
	found := status.Convert(err)
	reason := reasonOf(found)
	if reason == "" {
		return told(ctx, translated(ctx, found))
	}
	code := runtime.HTTPStatusFromCode(found.Code())
	switch {
	case reason == requestTooLarge:
		code = http.StatusRequestEntityTooLarge
	case found.Code() == codes.Canceled && ctx.Err() == nil: // by the gateway, which stops
		code = http.StatusServiceUnavailable
	}
	return found.Proto(), code
}

// translated is what a status without a reason of ours means: it comes from gRPC itself, or from reading the request.
func translated(ctx context.Context, found *status.Status) *problem {
	switch found.Code() {
	case codes.InvalidArgument, codes.OutOfRange:
		return &problem{code: codes.InvalidArgument, reason: malformedRequest, message: readable(found.Message())}
	case codes.DeadlineExceeded:
		return &problem{code: codes.DeadlineExceeded, reason: gatewayUnavailable,
			message: "not answered in time; the outcome is unknown: send the same request again, with the same request_id"}
	case codes.Canceled:
		var ours *problem
		if errors.As(context.Cause(ctx), &ours) {
			return ours
		}
		if ctx.Err() != nil {
			return &problem{code: codes.Canceled, reason: "CANCELLED", message: "the caller has gone"}
		}
		fallthrough
	case codes.Unavailable:
		return &problem{code: codes.Unavailable, reason: gatewayUnavailable,
			message: "the gateway does not answer; the outcome of a write is unknown: send the same request again, with the same request_id"}
	case codes.Unauthenticated:
		return &problem{code: codes.Unauthenticated, reason: "TOKEN_INVALID", message: "the token is of no use"}
	default:
		slog.Error("call failed", "code", found.Code().String(), "error", found.Message())
		return &problem{code: codes.Internal, reason: internal, message: "an error on our side; it has been logged"}
	}
}

// readable takes out what protojson puts into its messages so that nobody relies on them.
func readable(message string) string {
	message = strings.ReplaceAll(message, "\u00a0", " ")
	return strings.TrimSpace(strings.TrimPrefix(message, "proto:"))
}

func reasonOf(found *status.Status) string {
	for _, detail := range found.Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is {
			return info.Reason
		}
	}
	return ""
}

// refuse answers with an error, in the one form that all have.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	answer, code := told(r.Context(), err)
	body := marshal(answer)
	head := w.Header()
	head.Set("Content-Type", "application/json")
	if seconds := retrySeconds(answer); seconds > 0 {
		head.Set("Retry-After", strconv.Itoa(seconds))
	}
	if code == http.StatusUnauthorized {
		head.Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

func retrySeconds(answer *spb.Status) int {
	for _, detail := range status.FromProto(answer).Details() {
		if again, is := detail.(*errdetails.RetryInfo); is {
			return max(1, int(math.Ceil(again.RetryDelay.AsDuration().Seconds())))
		}
	}
	return 0
}

// The names of the protos, and every field whether it is set or not: a reader need know no defaults.
var writing = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// marshal: what comes from the gateway may hold details of a type that we do not know; the rest is told all the same.
func marshal(message proto.Message) []byte {
	body, err := writing.Marshal(message)
	if err != nil {
		answer, is := message.(*spb.Status)
		if !is {
			panic(err) // a message of ours
		}
		return marshal(&spb.Status{Code: answer.Code, Message: answer.Message})
	}
	return body
}
