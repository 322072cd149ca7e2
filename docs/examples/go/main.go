// Buys two tickets over gRPC, as a service of yours would: go run . EVENT_ID SECTION
//
// Takes GATEWAY_ADDRESS and BUYER_TOKEN (or OPERATOR_TOKEN) from the environment: set -a; . .run/stack.env
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "ticketrush/gen/go/ticketrush/v1"
)

const (
	buyer       = "ada"
	card        = "pm_card_ok"
	wait        = 5 * time.Second
	timeout     = 20 * time.Second
	attempts    = 10 // to ask again while nothing is decided: a little under a minute
	retryPolicy = "../retry_policy.json"
)

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: go run . EVENT_ID SECTION"))
	}
	bought, err := buy(os.Args[1], os.Args[2])
	if err != nil {
		fail(err)
	}
	fmt.Println("bought", bought)
}

// buy answers which seats became the buyer's.
func buy(eventID, section string) (string, error) {
	// gRPC sends again what was refused or lost, by itself: with the same request_id, so that nothing happens twice.
	retries, err := os.ReadFile(retryPolicy)
	if err != nil {
		return "", err
	}
	conn, err := grpc.NewClient(os.Getenv("GATEWAY_ADDRESS"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(string(retries)))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	ticketing := pb.NewTicketingServiceClient(conn)
	token := cmp.Or(os.Getenv("BUYER_TOKEN"), os.Getenv("OPERATOR_TOKEN"))
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token)

	hold := &pb.ReserveRequest{
		RequestId:     uuid.NewString(),
		EventId:       eventID,
		BuyerId:       buyer,
		BestAvailable: &pb.BestAvailable{Section: section, Quantity: 2},
		Wait:          durationpb.New(wait),
	}
	held, err := decided(ctx, hold, ticketing.Reserve, func(answer *pb.ReserveResponse) bool {
		return answer.GetReservation().GetState() != pb.Reservation_STATE_PENDING
	})
	if err != nil {
		return "", err
	}
	if held.GetReservation().GetState() != pb.Reservation_STATE_HELD {
		return "", fmt.Errorf("no tickets: %s", held.GetReservation().GetRejectReason())
	}

	pay := &pb.PayRequest{
		RequestId:     uuid.NewString(),
		BuyerId:       buyer,
		ReservationId: held.GetReservation().GetReservationId(),
		PaymentMethod: card,
		Wait:          durationpb.New(wait),
	}
	paid, err := decided(ctx, pay, ticketing.Pay, func(answer *pb.PayResponse) bool {
		return answer.GetPayment().GetState() != pb.Payment_STATE_PENDING
	})
	if err != nil {
		return "", err
	}
	if paid.GetReservation().GetState() != pb.Reservation_STATE_CONFIRMED {
		return "", fmt.Errorf("not paid: %s", paid.GetPayment().GetDeclineReason())
	}
	var seats []string
	for _, one := range paid.GetReservation().GetTickets() {
		seats = append(seats, fmt.Sprintf("%s %s/%s", one.GetSection(), one.GetRow(), one.GetSeat()))
	}
	return strings.Join(seats, ", "), nil
}

// decided asks until the answer is final: the certain way to ask is the same request again.
func decided[Request, Answer any](ctx context.Context, request Request,
	ask func(context.Context, Request, ...grpc.CallOption) (Answer, error), isDecided func(Answer) bool,
) (answer Answer, err error) {
	for range attempts {
		bounded, cancel := context.WithTimeout(ctx, timeout)
		answer, err = ask(bounded, request)
		cancel()
		if err != nil || isDecided(answer) {
			break
		}
	}
	return answer, err
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(1)
}
