package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "ticketrush/gen/go/ticketrush/v1"
)

const (
	// Fewer than the streams that the gateway allows to a system of the house: each event watched takes one.
	seatMapsMax    = 400
	ticketsPerPart = 1_000
	// What a watcher may be behind of an event, at most; the oldest goes first.
	behindMessagesMax = 500
	behindBytesMax    = 32 << 20
	// Longer than any watcher may take for one write.
	behindMax = 15 * time.Second

	firstSnapshotMax = 30 * time.Second
	// How long seat maps may be shown that nobody keeps current any more.
	staleMax        = 15 * time.Second
	reconnectFirst  = 100 * time.Millisecond
	reconnectLatest = time.Second
)

// seatMaps are those that somebody watches now: one stream from the gateway for each event, whatever number watches it.
type seatMaps struct {
	client pb.TicketingServiceClient
	own    *ownToken

	mu    sync.Mutex
	known map[string]*seatMap
}

func newSeatMaps(client pb.TicketingServiceClient, own *ownToken) *seatMaps {
	return &seatMaps{client: client, own: own, known: map[string]*seatMap{}}
}

// join gives the seat map of an event; leave must be called. The event may turn out not to exist: see ready.
func (all *seatMaps) join(eventID string) (*seatMap, error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	found := all.known[eventID]
	if found == nil || found.failure() != nil {
		if len(all.known) >= seatMapsMax {
			return nil, &problem{code: codes.ResourceExhausted, reason: tooManyStreams, message: "too many events are watched now"}
		}
		ctx, cancel := context.WithCancel(context.Background())
		found = &seatMap{
			eventID: eventID, all: all, cancel: cancel,
			places: map[string]place{}, ready: make(chan struct{}), changed: make(chan struct{}),
		}
		all.known[eventID] = found
		upstreamWatches.Inc()
		go found.keep(ctx)
	}
	found.watchers++
	return found, nil
}

func (all *seatMaps) leave(left *seatMap) {
	all.mu.Lock()
	defer all.mu.Unlock()
	left.watchers--
	if left.watchers > 0 {
		return
	}
	left.cancel()
	upstreamWatches.Dec()
	if all.known[left.eventID] == left {
		delete(all.known, left.eventID)
	}
}

// seatMap is one event's tickets as JSON: serialised once, whoever is told of them.
type seatMap struct {
	eventID  string
	all      *seatMaps
	cancel   context.CancelFunc
	watchers int           // guarded by seatMaps.mu
	ready    chan struct{} // closed once the event was read, or could not be

	mu      sync.RWMutex
	places  map[string]place
	parts   []*part
	whole   bool // it has been read to its end once
	behind  []message
	bytes   int
	next    uint64        // the number of the message that comes after those in behind
	changed chan struct{} // closed and made anew whenever there is more to tell
	failed  error
}

type place struct {
	part, index int
}

// part is up to ticketsPerPart tickets, and the message that tells all of them, made when it is asked for.
type part struct {
	tickets  [][]byte
	versions []int64
	message  []byte
}

type message struct {
	text []byte
	told time.Time
}

var seatMapRead = []byte(`{"tickets":[],"snapshot_complete":true}`)

// waitReady returns once the event was read. An error says why it could not be.
func (m *seatMap) waitReady(ctx context.Context) error {
	timer := time.NewTimer(firstSnapshotMax)
	defer timer.Stop()
	select {
	case <-m.ready:
		return m.failure()
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return &problem{code: codes.Unavailable, reason: gatewayUnavailable, message: "the tickets could not be read in time; watch again"}
	}
}

// snapshot is the whole event in messages, and the number of the first change after it.
func (m *seatMap) snapshot() ([][]byte, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all [][]byte
	for _, one := range m.parts {
		if one.message == nil {
			one.message = messageOf(one.tickets, false)
		}
		all = append(all, one.message)
	}
	return append(all, seatMapRead), m.next
}

// since is what was told from a number on, the number after that, and what to wait for when there is nothing. It fails for
// who has fallen behind, and once the map has.
func (m *seatMap) since(number uint64) (texts [][]byte, after uint64, more <-chan struct{}, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if number+uint64(len(m.behind)) < m.next {
		slowReaders.Inc()
		return nil, 0, nil, &problem{code: codes.ResourceExhausted, reason: slowReader,
			message: "the stream fell too far behind; watch again"}
	}
	for _, one := range m.behind[uint64(len(m.behind))-(m.next-number):] {
		texts = append(texts, one.text)
	}
	if len(texts) == 0 {
		err = m.failed
	}
	return texts, m.next, m.changed, err
}

func (m *seatMap) failure() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.failed
}

// keep follows the gateway until nobody watches, or until the map fails.
func (m *seatMap) keep(ctx context.Context) {
	defer m.settle()
	current, wait := time.Now(), reconnectFirst
	for {
		heard, err := m.follow(ctx)
		if ctx.Err() != nil {
			m.fail(ctx.Err())
			return
		}
		if heard {
			current, wait = time.Now(), reconnectFirst
		}
		if m.isFinal(err, heard) || time.Since(current) > staleMax {
			m.fail(err)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait = min(2*wait, reconnectLatest)
	}
}

// isFinal: whether to watch again would end as this did. Who waits for the first snapshot is told of anything at once; a
// stream whose token has expired goes on with the next one.
func (m *seatMap) isFinal(err error, heard bool) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.whole {
		return true
	}
	switch status.Code(err) {
	case codes.Unauthenticated:
		return !heard
	case codes.NotFound, codes.InvalidArgument, codes.PermissionDenied, codes.Unimplemented:
		return true
	}
	return false
}

// follow watches once; whether anything was heard, and how it ended.
func (m *seatMap) follow(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	along := (&call{metadata: metadata.MD{}}).outgoing(ctx, pb.TicketingService_WatchTickets_FullMethodName, m.all.own)
	stream, err := m.all.client.WatchTickets(along, &pb.WatchTicketsRequest{EventId: m.eventID})
	if err != nil {
		return false, err
	}
	for {
		told, err := stream.Recv()
		if err != nil {
			return heard, err
		}
		heard = true
		m.take(told)
	}
}

// take keeps what is newer than known, and tells it to who watches.
func (m *seatMap) take(told *pb.WatchTicketsResponse) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var fresh [][]byte
	for _, ticket := range told.Tickets {
		if m.isNew(ticket) {
			fresh = append(fresh, m.put(ticket))
		}
	}
	if !m.whole {
		if told.SnapshotComplete {
			m.whole = true
			m.settleLocked()
		}
		return // nobody has seen anything yet
	}
	if len(fresh) > 0 {
		m.tell(messageOf(fresh, true))
	}
}

func (m *seatMap) isNew(ticket *pb.Ticket) bool {
	at, known := m.places[ticket.TicketId]
	return !known || m.parts[at.part].versions[at.index] < ticket.Version
}

func (m *seatMap) put(ticket *pb.Ticket) []byte {
	text := marshal(ticket)
	if at, known := m.places[ticket.TicketId]; known {
		one := m.parts[at.part]
		one.tickets[at.index], one.versions[at.index], one.message = text, ticket.Version, nil
		return text
	}
	if len(m.parts) == 0 || len(m.parts[len(m.parts)-1].tickets) == ticketsPerPart {
		m.parts = append(m.parts, &part{})
	}
	last := m.parts[len(m.parts)-1]
	last.tickets, last.versions, last.message = append(last.tickets, text), append(last.versions, ticket.Version), nil
	m.places[ticket.TicketId] = place{len(m.parts) - 1, len(last.tickets) - 1}
	return text
}

func (m *seatMap) tell(text []byte) {
	now := time.Now()
	m.behind = append(m.behind, message{text, now})
	m.bytes += len(text)
	m.next++
	for len(m.behind) > behindMessagesMax || m.bytes > behindBytesMax || now.Sub(m.behind[0].told) > behindMax {
		m.bytes -= len(m.behind[0].text)
		m.behind[0] = message{}
		m.behind = m.behind[1:]
	}
	m.wake()
}

func (m *seatMap) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = err
	m.wake()
}

func (m *seatMap) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// settle lets those go on who wait for the first snapshot.
func (m *seatMap) settle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settleLocked()
}

func (m *seatMap) settleLocked() {
	select {
	case <-m.ready:
	default:
		close(m.ready)
	}
}

func messageOf(tickets [][]byte, whole bool) []byte {
	size := 64
	for _, ticket := range tickets {
		size += len(ticket) + 1
	}
	text := bytes.NewBuffer(make([]byte, 0, size))
	text.WriteString(`{"tickets":[`)
	for i, ticket := range tickets {
		if i > 0 {
			text.WriteByte(',')
		}
		text.Write(ticket)
	}
	text.WriteString(`],"snapshot_complete":`)
	if whole {
		text.WriteString("true}")
	} else {
		text.WriteString("false}")
	}
	return text.Bytes()
}
