package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "ticketrush/gen/go/ticketrush/v1"
)

func newMap() *seatMap {
	return &seatMap{places: map[string]place{}, ready: make(chan struct{}), changed: make(chan struct{})}
}

func change(tickets ...*pb.Ticket) *pb.WatchTicketsResponse {
	return &pb.WatchTicketsResponse{Tickets: tickets, SnapshotComplete: true}
}

func seat(id int, version int64) *pb.Ticket {
	return &pb.Ticket{TicketId: fmt.Sprintf("seat-%d", id), Version: version}
}

// oneOf is a map that has been read once, with so many seats of version 1.
func oneOf(seats int) *seatMap {
	m := newMap()
	for id := range seats {
		m.take(&pb.WatchTicketsResponse{Tickets: []*pb.Ticket{seat(id, 1)}})
	}
	m.take(change())
	return m
}

func all(texts [][]byte) string {
	var found strings.Builder
	for _, text := range texts {
		found.Write(text)
		found.WriteByte('\n')
	}
	return found.String()
}

func TestNobodyIsToldOfWhatIsOlderThanKnown(t *testing.T) {
	m := oneOf(2)
	_, number := m.snapshot()
	m.take(change(seat(0, 1), seat(1, 0)))
	if texts, _, _, err := m.since(number); len(texts) > 0 || err != nil {
		t.Fatalf("told %s, %v", all(texts), err)
	}
	m.take(change(seat(0, 2), seat(1, 1)))
	texts, _, _, _ := m.since(number)
	if found := all(texts); !strings.Contains(found, "seat-0") || strings.Contains(found, "seat-1") {
		t.Fatalf("told %s", found)
	}
}

func TestWhoComesLaterSeesTheNewestAndNothingTwice(t *testing.T) {
	m := oneOf(ticketsPerPart + 1)
	before, _ := m.snapshot()
	m.take(change(seat(3, 2), seat(ticketsPerPart+1, 1)))
	after, number := m.snapshot()
	if len(before) != 3 || len(after) != 3 { // two parts, and the word that it is complete
		t.Fatalf("%d and %d messages", len(before), len(after))
	}
	if found := all(after); strings.Count(found, `"ticket_id"`) != ticketsPerPart+2 || strings.Count(found, `"version":"2"`)+strings.Count(found, `"version": "2"`) != 1 {
		t.Fatal(found)
	}
	if texts, _, _, _ := m.since(number); len(texts) > 0 {
		t.Fatalf("told again: %s", all(texts))
	}
}

func TestWhatDidNotChangeIsNotPutTogetherAgain(t *testing.T) {
	m := oneOf(ticketsPerPart + 1)
	before, _ := m.snapshot()
	m.take(change(seat(ticketsPerPart, 2)))
	after, _ := m.snapshot()
	if &before[0][0] != &after[0][0] {
		t.Fatal("the first part was made anew")
	}
	if &before[1][0] == &after[1][0] {
		t.Fatal("the second part is the one of before")
	}
}

func TestWhoIsTooFarBehindIsEndedAndTheOthersGoOn(t *testing.T) {
	m := oneOf(1)
	_, slow := m.snapshot()
	m.take(change(seat(0, 2)))
	_, quick, _, _ := m.since(slow)
	for version := int64(3); version < behindMessagesMax+3; version++ {
		m.take(change(seat(0, version)))
	}
	if texts, _, _, err := m.since(quick); len(texts) != behindMessagesMax || err != nil {
		t.Fatalf("%d messages, %v", len(texts), err)
	}
	var refused *problem
	if _, _, _, err := m.since(slow); !errors.As(err, &refused) || refused.reason != slowReader {
		t.Fatal(err)
	}
	if len(m.behind) != behindMessagesMax {
		t.Fatalf("%d messages are kept", len(m.behind))
	}
}

func TestWhatIsKeptForTheSlowIsBoundedInBytes(t *testing.T) {
	m := oneOf(0)
	_, slow := m.snapshot()
	for range 3 {
		m.mu.Lock()
		m.tell(make([]byte, behindBytesMax/2))
		m.mu.Unlock()
	}
	if m.bytes > behindBytesMax || len(m.behind) != 2 {
		t.Fatalf("%d bytes in %d messages are kept", m.bytes, len(m.behind))
	}
	if _, _, _, err := m.since(slow); err == nil {
		t.Fatal("what is gone was not missed")
	}
}

func TestAMapThatFailedTellsWhatItHasAndThenWhy(t *testing.T) {
	m := oneOf(1)
	_, number := m.snapshot()
	m.take(change(seat(0, 2)))
	_, _, more, _ := m.since(number)
	why := errors.New("gone")
	m.fail(why)
	select {
	case <-more:
	default:
		t.Fatal("nobody was woken")
	}
	texts, number, _, err := m.since(number)
	if len(texts) != 1 || err != nil {
		t.Fatalf("%d messages, %v", len(texts), err)
	}
	if _, _, _, err := m.since(number); !errors.Is(err, why) {
		t.Fatal(err)
	}
}

func TestWhoWaitsForTheFirstMapIsToldWhenItCannotBeRead(t *testing.T) {
	m := newMap()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	why := errors.New("unknown")
	go func() {
		m.fail(why)
		m.settle()
	}()
	if err := m.waitReady(ctx); !errors.Is(err, why) {
		t.Fatal(err)
	}
}
