import { hash } from "node:crypto";
import { SignalboxError } from "#libs/errors/index.ts";
import type { Caller } from "./auth.ts";
import { FLIGHT_BUFFER_MAX_BYTES, FLIGHT_PASSENGERS_MAX, FLIGHTS_MAX } from "./limits.ts";
import type { Reply, ReplyFacts } from "./reply.ts";
import type { RequestOptions } from "./request-options.ts";

/** The call upstream that a flight rides on. */
export interface Carrier {
  /** Somebody can take bytes again. */
  drained(): void;
  /** Nobody wants the answer any more. */
  cancel(): void;
}

/** One request that gets the shared answer; the first of a flight is the one that asked for it. */
export class Passenger {
  readonly reply: Reply;
  readonly requestId: string;
  readonly leads: boolean;
  /** Number of the next piece to take. */
  at = 0;
  blocked = false;
  readonly #flight: Flight;

  constructor(flight: Flight, reply: Reply, requestId: string, leads: boolean) {
    this.#flight = flight;
    this.reply = reply;
    this.requestId = requestId;
    this.leads = leads;
  }

  /** Its reader takes bytes again. */
  drained(): void {
    this.#flight.drained(this);
  }

  /** Its client went away; the others stay. */
  leave(): void {
    this.#flight.leave(this);
  }

  /** Who leads paid for the answer; who follows paid nothing. */
  facts(facts: ReplyFacts): ReplyFacts {
    if (this.leads) return facts;
    return { ...facts, requestId: this.requestId, costNanoUsd: 0n, warnings: [...facts.warnings, "single_flight: shared"] };
  }
}

/** One answer on its way to several clients, as the reply of the request that asked for it. */
export class Flight implements Reply {
  carrier: Carrier | undefined;
  readonly #passengers = new Set<Passenger>();
  readonly #onOver: () => void;
  #pieces: Uint8Array[] = [];
  /** Number of the first piece that is kept. */
  #base = 0;
  #bytes = 0;
  #opened: ReplyFacts | undefined;
  #finished: { readonly facts: ReplyFacts; readonly usageEvent: Uint8Array | undefined } | undefined;

  constructor(onOver: () => void) {
    this.#onOver = onOver;
  }

  /** Whether one more can get the answer from its start. */
  get joinable(): boolean {
    return this.#base === 0 && this.#passengers.size < FLIGHT_PASSENGERS_MAX;
  }

  board(reply: Reply, requestId: string): Passenger {
    const passenger = new Passenger(this, reply, requestId, this.#passengers.size === 0 && this.#opened === undefined);
    this.#passengers.add(passenger);
    if (this.#opened !== undefined) reply.open(passenger.facts(this.#opened));
    this.#pump(passenger);
    return passenger;
  }

  leave(passenger: Passenger): void {
    if (!this.#passengers.delete(passenger)) return;
    if (this.#passengers.size > 0) return this.carrier?.drained();
    this.#onOver();
    this.carrier?.cancel();
  }

  drained(passenger: Passenger): void {
    passenger.blocked = false;
    this.#pump(passenger);
    if (!passenger.blocked) this.carrier?.drained();
  }

  open(facts: ReplyFacts): void {
    this.#opened = facts;
    for (const passenger of this.#passengers) passenger.reply.open(passenger.facts(facts));
  }

  /** False only while nobody can take more: the quick ones do not wait for the slow ones. */
  write(bytes: Uint8Array): boolean {
    this.#pieces.push(bytes);
    this.#bytes += bytes.length;
    let open = false;
    for (const passenger of this.#passengers) {
      this.#pump(passenger);
      open ||= !passenger.blocked;
    }
    if (this.#bytes > FLIGHT_BUFFER_MAX_BYTES) this.#trim();
    return open;
  }

  keepAlive(): void {
    for (const passenger of this.#passengers) if (!passenger.blocked) passenger.reply.keepAlive();
  }

  finish(facts: ReplyFacts, usageEvent: Uint8Array | undefined): void {
    this.#finished = { facts, usageEvent };
    this.#onOver();
    for (const passenger of this.#passengers) this.#pump(passenger);
  }

  whole(facts: ReplyFacts, pieces: readonly Uint8Array[]): void {
    this.#onOver();
    for (const passenger of this.#passengers) passenger.reply.whole(passenger.facts(facts), pieces);
    this.#passengers.clear();
  }

  fail(error: SignalboxError, facts: ReplyFacts): void {
    this.#onOver();
    for (const passenger of this.#passengers) passenger.reply.fail(error, passenger.facts(facts));
    this.#passengers.clear();
  }

  drop(): void {
    this.#onOver();
    for (const passenger of this.#passengers) passenger.reply.drop();
  }

  /** Of the quickest reader: the answer is stuck only when all are. */
  pendingBytes(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const { reply } of this.#passengers) least = Math.min(least, reply.pendingBytes());
    return Number.isFinite(least) ? least : 0;
  }

  #pump(passenger: Passenger): void {
    while (!passenger.blocked) {
      const piece = this.#pieces[passenger.at - this.#base];
      if (piece === undefined) break;
      passenger.at++;
      if (!passenger.reply.write(piece)) passenger.blocked = true;
    }
    if (this.#finished === undefined || passenger.at < this.#base + this.#pieces.length) return;
    this.#passengers.delete(passenger);
    passenger.reply.finish(passenger.facts(this.#finished.facts), this.#finished.usageEvent);
  }

  /** Forgets the oldest pieces; who has not taken them by then is too slow, unless it is alone. */
  #trim(): void {
    let keep = this.#base;
    for (let bytes = this.#bytes; bytes > FLIGHT_BUFFER_MAX_BYTES; keep++) bytes -= this.#pieces[keep - this.#base]!.length;
    if (this.#passengers.size === 1) for (const { at } of this.#passengers) keep = Math.min(keep, at);
    for (const piece of this.#pieces.splice(0, keep - this.#base)) this.#bytes -= piece.length;
    this.#base = keep;
    for (const passenger of this.#passengers) {
      if (passenger.at >= keep) continue;
      this.#passengers.delete(passenger);
      const error = new SignalboxError("STREAM_INTERRUPTED", "This client reads too slowly for an answer it shares.");
      passenger.reply.fail(error, passenger.facts(this.#opened!));
    }
  }
}

/**
 * Byte-identical deterministic requests share one call (routing, 1.10.5): models opt in. Scope is the virtual key, and headers
 * must be identical too, because they steer the routing. The first request leads: its attempts are the only ones, so it alone is
 * booked and charged; followers have no entry, as no provider billed them, and are told a cost of 0.
 */
export class SingleFlight {
  readonly #flights = new Map<string, Flight>();

  /** Boards a flight; `lead` = the request must be dispatched with the flight as its reply. Undefined = the request goes alone. */
  board(
    caller: Caller,
    options: RequestOptions,
    body: Uint8Array,
    reply: Reply,
    requestId: string,
  ): { readonly flight: Flight; readonly passenger: Passenger; readonly lead: boolean } | undefined {
    const key = keyOf(caller, options, body);
    const known = this.#flights.get(key);
    if (known !== undefined) return known.joinable ? { flight: known, passenger: known.board(reply, requestId), lead: false } : undefined;
    if (this.#flights.size >= FLIGHTS_MAX) return undefined;
    const flight: Flight = new Flight(() => this.#flights.delete(key));
    this.#flights.set(key, flight);
    return { flight, passenger: flight.board(reply, requestId), lead: true };
  }
}

function keyOf(caller: Caller, options: RequestOptions, body: Uint8Array): string {
  const steering = JSON.stringify({ ...options, maxCostNanoUsd: String(options.maxCostNanoUsd) });
  return `${caller.tenant}\u0000${caller.keyId}\u0000${steering}\u0000${hash("sha256", body, "base64")}`;
}
