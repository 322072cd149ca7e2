package main

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"
)

const (
	// The gateway takes 1,000 on one connection, and counts each until it is done with it, some moments after the answer.
	callsPerLink = 800
	// Beyond that calls wait for one another: 12,800 under way, where a front has at most streamsMax streams.
	linksMax = 16
)

// links are the connections to the gateway: another is made when each has callsPerLink calls and streams under way.
type links struct {
	dial func() (*grpc.ClientConn, error)

	mu       sync.Mutex
	all      []*grpc.ClientConn
	underWay map[*grpc.ClientConn]int
}

// newLinks makes the first connection, so that a wrong setting is noticed at once.
func newLinks(dial func() (*grpc.ClientConn, error)) (*links, error) {
	first, err := dial()
	if err != nil {
		return nil, err
	}
	first.Connect()
	return &links{dial: dial, all: []*grpc.ClientConn{first}, underWay: map[*grpc.ClientConn]int{}}, nil
}

// Invoke makes a call on the connection that has least to do.
func (ls *links) Invoke(ctx context.Context, method string, request, reply any, options ...grpc.CallOption) error {
	link, leave, err := ls.take()
	if err != nil {
		return err
	}
	defer leave()
	return link.Invoke(ctx, method, request, reply, options...)
}

// NewStream opens a stream on the connection that has least to do.
func (ls *links) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	link, leave, err := ls.take()
	if err != nil {
		return nil, err
	}
	stream, err := link.NewStream(ctx, desc, method, append(options, grpc.OnFinish(func(error) { leave() }))...)
	if err != nil {
		leave()
	}
	return stream, err
}

// take says which connection has a place, and how it is given back.
func (ls *links) take() (*grpc.ClientConn, func(), error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	least := ls.all[0]
	for _, link := range ls.all[1:] {
		if ls.underWay[link] < ls.underWay[least] {
			least = link
		}
	}
	if ls.underWay[least] >= callsPerLink && len(ls.all) < linksMax {
		another, err := ls.dial()
		if err != nil {
			return nil, nil, err
		}
		ls.all = append(ls.all, another)
		least = another
	}
	ls.underWay[least]++
	return least, sync.OnceFunc(func() {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		ls.underWay[least]--
	}), nil
}

// close ends all connections, and what is under way on them.
func (ls *links) close() error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var failed []error
	for _, link := range ls.all {
		failed = append(failed, link.Close())
	}
	return errors.Join(failed...)
}
