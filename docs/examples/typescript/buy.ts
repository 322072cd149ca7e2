// Buys two tickets over gRPC, as a service of yours would:
//   npm install && npm run generate && node buy.ts EVENT_ID SECTION
// Takes GATEWAY_ADDRESS and BUYER_TOKEN (or OPERATOR_TOKEN) from the environment: set -a; . .run/stack.env

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Payment_State, Reservation_State, TicketingService } from "./gen/ticketrush/v1/ticketing_pb.js";

const BUYER = "ada";
const CARD = "pm_card_ok";
const WAIT = { seconds: 5n };
const TIMEOUT_MS = 20_000;
// To ask again while nothing is decided: a little under a minute.
const ATTEMPTS = 10;

const { methodConfig: [{ retryPolicy: RETRIES }] } = JSON.parse(
  readFileSync(new URL("../retry_policy.json", import.meta.url), "utf8"),
);

// Connect takes no service config, so the same policy by hand: what was refused or lost is sent again, with the same
// request_id, so that nothing happens twice.
const retried: Interceptor = (next) => async (request) => {
  let backoffS = parseFloat(RETRIES.initialBackoff);
  for (let attempt = 1; ; attempt++) {
    try {
      return await next(request);
    } catch (error) {
      const code = Code[ConnectError.from(error).code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
      if (attempt === RETRIES.maxAttempts || !RETRIES.retryableStatusCodes.includes(code)) throw error;
      await sleep(Math.random() * backoffS * 1000);
      backoffS = Math.min(backoffS * RETRIES.backoffMultiplier, parseFloat(RETRIES.maxBackoff));
    }
  }
};

// Asks until it is decided: the certain way to ask is the same request again.
async function decided<Answer>(ask: () => Promise<Answer>, isPending: (answer: Answer) => boolean): Promise<Answer> {
  let answer = await ask();
  for (let attempt = 1; attempt < ATTEMPTS && isPending(answer); attempt++) answer = await ask();
  return answer;
}

async function main(eventId: string, section: string): Promise<void> {
  const transport = createGrpcTransport({ baseUrl: `http://${process.env.GATEWAY_ADDRESS}`, interceptors: [retried] });
  const ticketing = createClient(TicketingService, transport);
  const options = {
    timeoutMs: TIMEOUT_MS,
    headers: { authorization: `Bearer ${process.env.BUYER_TOKEN || process.env.OPERATOR_TOKEN}` },
  };

  const hold = {
    requestId: randomUUID(),
    eventId,
    buyerId: BUYER,
    bestAvailable: { section, quantity: 2 },
    wait: WAIT,
  };
  const { reservation: held } = await decided(
    () => ticketing.reserve(hold, options),
    ({ reservation }) => reservation?.state === Reservation_State.PENDING,
  );
  if (held?.state !== Reservation_State.HELD) throw new Error(`no tickets: ${held?.rejectReason}`);

  const pay = {
    requestId: randomUUID(),
    buyerId: BUYER,
    reservationId: held.reservationId,
    paymentMethod: CARD,
    wait: WAIT,
  };
  const { payment, reservation: paid } = await decided(
    () => ticketing.pay(pay, options),
    (answer) => answer.payment?.state === Payment_State.PENDING,
  );
  if (paid?.state !== Reservation_State.CONFIRMED) throw new Error(`not paid: ${payment?.declineReason}`);
  console.log(`bought ${paid.tickets.map((one) => `${one.section} ${one.row}/${one.seat}`).join(", ")}`);
}

const [eventId = "", section = ""] = process.argv.slice(2);
try {
  await main(eventId, section);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
