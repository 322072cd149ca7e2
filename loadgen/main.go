// Makes calls that were put together elsewhere, at a rate that nobody slows down or as fast as they are answered, and
// tells when each was due, when it ended, and what came back. It is compiled so that it costs little beside what it
// measures; it knows no message of the service's.
//
// Standard input: a line of JSON (see plan), then the requests, each after its length (4 bytes, little endian).
// Standard output: a record for each call that was made (see record), each followed by its body: the response, or the
// google.rpc.Status of a refusal.
package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// plan: with a rate (calls a second) calls are made when they are due, whatever became of those before; without, each of
// in_flight callers makes its next call when the last one was answered, or when the refusal says that it may. Several
// methods are one errand: called one after the other, until one fails; count is that of all requests. The errands bear the
// tokens in turn. With ca (PEM) the server must show a certificate of that CA, for server_name.
type plan struct {
	Addresses   []string `json:"addresses"`
	Methods     []string `json:"methods"`
	Count       int      `json:"count"`
	Seconds     float64  `json:"seconds"`
	Rate        float64  `json:"rate"`
	InFlight    int      `json:"in_flight"`
	TimeoutS    float64  `json:"timeout_s"`
	Connections int      `json:"connections"`
	Tokens      []string `json:"tokens"`
	CA          string   `json:"ca"`
	ServerName  string   `json:"server_name"`
}

// record: times are seconds since the epoch, Code is gRPC's number.
type record struct {
	Number      uint32
	Code        uint32
	Due         float64
	End         float64
	RetryAfterS float64
	Length      uint32
}

type answer struct {
	record
	body []byte
}

type generator struct {
	plan        plan
	requests    [][]byte
	answers     []answer
	connections []*grpc.ClientConn
	bearers     []metadata.MD
}

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

func serve(in io.Reader, out io.Writer) error {
	g, err := read(bufio.NewReaderSize(in, 1<<20))
	if err != nil {
		return err
	}
	for _, token := range g.plan.Tokens {
		g.bearers = append(g.bearers, metadata.Pairs("authorization", "Bearer "+token))
	}
	transport := insecure.NewCredentials()
	if g.plan.CA != "" {
		trusted := x509.NewCertPool()
		if !trusted.AppendCertsFromPEM([]byte(g.plan.CA)) {
			return errors.New("ca is no certificate")
		}
		transport = credentials.NewClientTLSFromCert(trusted, g.plan.ServerName)
	}
	for number := range g.plan.Connections {
		connection, err := grpc.NewClient(g.plan.Addresses[number%len(g.plan.Addresses)],
			grpc.WithTransportCredentials(transport),
			grpc.WithNoProxy(),
			grpc.WithDisableRetry(),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
		if err != nil {
			return err
		}
		defer connection.Close()
		g.connections = append(g.connections, connection)
	}
	if g.plan.Rate > 0 {
		g.open()
	} else {
		g.closed()
	}
	return g.tell(bufio.NewWriterSize(out, 1<<20))
}

func read(in *bufio.Reader) (*generator, error) {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	g := &generator{}
	if err := json.Unmarshal(line, &g.plan); err != nil {
		return nil, err
	}
	g.requests = make([][]byte, g.plan.Count)
	g.answers = make([]answer, g.plan.Count)
	for number := range g.requests {
		var length uint32
		if err := binary.Read(in, binary.LittleEndian, &length); err != nil {
			return nil, err
		}
		g.requests[number] = make([]byte, length)
		if _, err := io.ReadFull(in, g.requests[number]); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *generator) open() {
	var calls sync.WaitGroup
	begin := time.Now()
	for number := range min(g.errands(), int(g.plan.Rate*g.plan.Seconds)) {
		due := begin.Add(time.Duration(float64(number) / g.plan.Rate * float64(time.Second)))
		time.Sleep(time.Until(due))
		calls.Add(1)
		go func() {
			defer calls.Done()
			g.run(number, due)
		}()
	}
	calls.Wait()
}

func (g *generator) errands() int {
	return len(g.requests) / len(g.plan.Methods)
}

func (g *generator) closed() {
	var callers sync.WaitGroup
	var next atomic.Int64
	end := time.Now().Add(time.Duration(g.plan.Seconds * float64(time.Second)))
	for range g.plan.InFlight {
		callers.Add(1)
		go func() {
			defer callers.Done()
			for time.Now().Before(end) {
				number := int(next.Add(1)) - 1
				if number >= g.errands() {
					return
				}
				retryAfterS := g.run(number, time.Now())
				time.Sleep(time.Duration(retryAfterS * (0.5 + rand.Float64()/2) * float64(time.Second)))
			}
		}()
	}
	callers.Wait()
}

// run does one errand; returns after how many seconds a refusal wants it again.
func (g *generator) run(errand int, due time.Time) float64 {
	for step, method := range g.plan.Methods {
		told := g.call(method, errand*len(g.plan.Methods)+step, due)
		if told.Code != 0 {
			return told.RetryAfterS
		}
		due = time.Now()
	}
	return 0
}

// call makes one call and notes what became of it.
func (g *generator) call(method string, number int, due time.Time) answer {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(g.plan.TimeoutS*float64(time.Second)))
	defer cancel()
	errand := number / len(g.plan.Methods)
	if len(g.bearers) > 0 {
		ctx = metadata.NewOutgoingContext(ctx, g.bearers[errand%len(g.bearers)])
	}
	var body []byte
	connection := g.connections[errand%len(g.connections)]
	err := connection.Invoke(ctx, method, g.requests[number], &body)
	told := answer{record{Number: uint32(number), Due: seconds(due), End: seconds(time.Now())}, body}
	if err != nil {
		refusal := status.Convert(err)
		told.Code = uint32(refusal.Code())
		for _, detail := range refusal.Details() {
			if retry, ok := detail.(*errdetails.RetryInfo); ok {
				told.RetryAfterS = retry.GetRetryDelay().AsDuration().Seconds()
			}
		}
		if told.body, err = proto.Marshal(refusal.Proto()); err != nil {
			panic(err) // it has just been read
		}
	}
	told.Length = uint32(len(told.body))
	g.answers[number] = told
	return told
}

func (g *generator) tell(out *bufio.Writer) error {
	for _, told := range g.answers {
		if told.End == 0 {
			continue
		}
		if err := binary.Write(out, binary.LittleEndian, told.record); err != nil {
			return err
		}
		if _, err := out.Write(told.body); err != nil {
			return err
		}
	}
	return out.Flush()
}

func seconds(at time.Time) float64 {
	return float64(at.UnixNano()) / 1e9
}

// raw passes messages on as they are.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(message any) ([]byte, error) { return message.([]byte), nil }

func (raw) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}
