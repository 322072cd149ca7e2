package main

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	pb "ticketrush/gen/go/ticketrush/v1"
)

const (
	eventStream = "text/event-stream"
	jsonLines   = "application/x-ndjson"
	streamsMax  = 5_000
	// For one write to a reader who takes nothing.
	writeTimeout = 10 * time.Second
	// Proxies end what has been silent for long; 30 s is the shortest that is usual.
	heartbeat = 15 * time.Second
)

// watches serves the calls whose answers are streams.
type watches struct {
	client   pb.TicketingServiceClient
	catalog  pb.CatalogServiceClient
	own      *ownToken
	seats    *seatMaps
	stopping <-chan struct{}
	places   *places
	front    *front
}

// tickets is WatchTickets.
func (ws *watches) tickets(w http.ResponseWriter, r *http.Request, id string) {
	leave, err := ws.admit(r)
	if err != nil {
		refuse(w, r, err)
		return
	}
	defer leave()
	eventID := strings.ToLower(id)
	if err := ws.vouch(r, eventID); err != nil {
		refuse(w, r, err)
		return
	}
	seats, err := ws.seats.join(eventID)
	if err != nil {
		refuse(w, r, err)
		return
	}
	defer ws.seats.leave(seats)
	if err := seats.waitReady(r.Context()); err != nil {
		refuse(w, r, err)
		return
	}
	out := begin(w, r)
	texts, number := seats.snapshot()
	for out.send(texts...) == nil {
		for texts = nil; len(texts) == 0; {
			var more <-chan struct{}
			if texts, number, more, err = seats.since(number); err != nil {
				out.end(r.Context(), err)
				return
			}
			if len(texts) == 0 && !ws.wait(out, r, more) {
				return
			}
		}
	}
}

// vouch lets the gateway look at a token that was brought along; what is on sale can be seen without one.
func (ws *watches) vouch(r *http.Request, eventID string) error {
	made := callOf(r.Context())
	made.rpc, made.isStream = pb.TicketingService_WatchTickets_FullMethodName, true
	if len(made.metadata.Get(authorization)) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	_, err := ws.catalog.GetEvent(ctx, &pb.GetEventRequest{EventId: eventID})
	made.rpc = pb.TicketingService_WatchTickets_FullMethodName
	return err
}

// reservation is WatchReservation: with the caller's own token, for it is nobody else's.
func (ws *watches) reservation(w http.ResponseWriter, r *http.Request, id string) {
	leave, err := ws.admit(r)
	if err != nil {
		refuse(w, r, err)
		return
	}
	defer leave()
	made := callOf(r.Context())
	made.rpc, made.isStream = pb.TicketingService_WatchReservation_FullMethodName, true
	ctx, cancel := context.WithCancel(made.outgoing(r.Context(), made.rpc, ws.own))
	defer cancel()
	stream, err := ws.client.WatchReservation(ctx, &pb.WatchReservationRequest{ReservationId: id})
	if err != nil {
		refuse(w, r, err)
		return
	}
	first, err := stream.Recv()
	if err != nil {
		refuse(w, r, err)
		return
	}
	out := begin(w, r)
	if out.send(marshal(first)) != nil {
		return
	}
	// The gateway's own bound on a slow reader reaches as far as here: one message is read ahead.
	texts, ended := make(chan []byte), make(chan error, 1)
	go func() {
		for {
			told, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case texts <- marshal(told):
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case text := <-texts:
			err = out.send(text)
		case why := <-ended:
			out.end(r.Context(), why)
			return
		case <-out.silence.C:
			err = out.beat()
		case <-ws.stopping:
			out.end(r.Context(), stoppingProblem())
			return
		case <-r.Context().Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// wait returns when there is more; false when the stream is over instead.
func (ws *watches) wait(out *stream, r *http.Request, more <-chan struct{}) bool {
	for {
		select {
		case <-more:
			return true
		case <-out.silence.C:
			if out.beat() != nil {
				return false
			}
		case <-ws.stopping:
			out.end(r.Context(), stoppingProblem())
			return false
		case <-r.Context().Done():
			return false
		}
	}
}

// admit gives a place for a stream, to be given back by calling what it returns.
func (ws *watches) admit(r *http.Request) (func(), error) {
	select {
	case <-ws.stopping:
		return nil, stoppingProblem()
	default:
	}
	return ws.places.take(ws.front.clientOf(r))
}

func stoppingProblem() *problem {
	return &problem{code: codes.Unavailable, reason: stopping, message: "this server is stopping; watch again"}
}

// stream is an answer that goes on: lines of JSON, or events for browsers.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	events  bool
	silence *time.Timer
}

func begin(w http.ResponseWriter, r *http.Request) *stream {
	s := &stream{w: w, control: http.NewResponseController(w), events: wantsEvents(r), silence: time.NewTimer(heartbeat)}
	kind := jsonLines
	if s.events {
		kind = eventStream
	}
	w.Header().Set("Content-Type", kind)
	// For nginx, which would keep it back otherwise.
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	return s
}

func wantsEvents(r *http.Request) bool {
	for _, value := range r.Header.Values("Accept") {
		for one := range strings.SplitSeq(value, ",") {
			if kind, _, err := mime.ParseMediaType(one); err == nil && kind == eventStream {
				return true
			}
		}
	}
	return false
}

// send writes messages, each the text of a JSON object; it fails for a reader who is gone or takes nothing.
func (s *stream) send(texts ...[]byte) error {
	before, after := `{"result":`, "}\n"
	if s.events {
		before, after = "data: ", "\n\n"
	}
	for _, text := range texts {
		if err := s.write(before, text, after); err != nil {
			return err
		}
	}
	return s.flush()
}

// end tells why the stream ends; lines end without a word when all is well.
func (s *stream) end(ctx context.Context, why error) {
	answer := &spb.Status{}
	if !errors.Is(why, io.EOF) {
		answer, _ = told(ctx, why)
	}
	before, after := `{"error":`, "}\n"
	if s.events {
		before, after = "event: end\ndata: ", "\n\n"
	} else if answer.Code == 0 {
		return
	}
	if s.write(before, marshal(answer), after) == nil {
		_ = s.flush()
	}
}

// beat says that we are still there, where there is a way to say it that readers pass over.
func (s *stream) beat() error {
	if s.events {
		if err := s.write(":", nil, "\n\n"); err != nil {
			return err
		}
	}
	return s.flush()
}

func (s *stream) write(before string, text []byte, after string) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := io.WriteString(s.w, before); err != nil {
		return err
	}
	if _, err := s.w.Write(text); err != nil {
		return err
	}
	_, err := io.WriteString(s.w, after)
	return err
}

func (s *stream) flush() error {
	s.silence.Reset(heartbeat)
	return s.control.Flush()
}

// places are those for streams: of all, and of each address.
type places struct {
	each          int
	limitLoopback bool

	mu    sync.Mutex
	taken map[string]int
	total int
}

// take gives a place, to be given back by calling what it returns.
func (p *places) take(client string) (func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	counted := addressOf(client, p.limitLoopback)
	if p.total >= streamsMax {
		return nil, &problem{code: codes.ResourceExhausted, reason: tooManyStreams, message: "too many streams are open"}
	}
	if counted != "" && p.taken[counted] >= p.each {
		return nil, &problem{code: codes.ResourceExhausted, reason: tooManyStreams,
			message: "this address has as many streams open as it may; end one first"}
	}
	p.total++
	p.taken[counted]++
	openStreams.Inc()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		openStreams.Dec()
		p.total--
		if p.taken[counted]--; p.taken[counted] == 0 {
			delete(p.taken, counted)
		}
	}, nil
}
