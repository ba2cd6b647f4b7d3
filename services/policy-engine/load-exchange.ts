import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type BackendLoad, type LoadPublished, LoadPublishedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { KNOWN_SAMPLES } from "./learn.ts";
import { BLOCKS_MAX, readKeys } from "./prefix-cache.ts";
import type { CompiledBackend, PolicySnapshot } from "./snapshot.ts";
import type { BackendState, EngineState } from "./state.ts";

/** A message at least this often, so that others know the engine lives, ms. */
const HEARTBEAT_MS = 1_000;

/** From this silence on an engine's load counts less (e-fold per this long), and from the second one on nothing, ms. */
const FADE_AFTER_MS = 2_000;
const DROP_AFTER_MS = 10_000;

/** Other engines heard of at once: far more than any installation has. */
const PEERS_MAX = 64;

interface Peer {
  readonly message: LoadPublished;
  readonly heardAtMs: number;
}

/**
 * Loads of all engines, by absolute vectors: what is lost is replaced by the next message, what comes twice or late changes nothing
 * (routing, section 1.14).
 */
export class LoadExchange {
  readonly #engine: string;
  readonly #epoch: number;
  readonly #state: EngineState;
  readonly #peers = new Map<string, Peer>();
  readonly #keys = new Float64Array(BLOCKS_MAX);
  #sequence = 0n;
  #published = "";
  #publishedAtMs = Number.NEGATIVE_INFINITY;

  constructor(engine: string, epoch: number, state: EngineState) {
    this.#engine = engine;
    this.#epoch = epoch;
    this.#state = state;
  }

  /** Engines heard of lately, without this one. */
  get peers(): number {
    return this.#peers.size;
  }

  /** The vector to publish now, or undefined when nothing changed since the last one and the heartbeat is not due. */
  outgoing({ backends: compiled }: PolicySnapshot, nowMs: number): Uint8Array | undefined {
    let digest = "";
    let news = false;
    for (const state of this.#state.backends) {
      if (!state.prefixNews.isEmpty) news = true;
      digest += `${state.inFlight},${Math.round(state.prefillTokens)},${state.breaker.state(nowMs).kind === "open" ? 1 : 0};`;
    }
    if (!news && digest === this.#published && nowMs - this.#publishedAtMs < HEARTBEAT_MS) return undefined;
    this.#published = digest;
    this.#publishedAtMs = nowMs;
    this.#sequence += 1n;
    const backends = this.#state.backends.map((state, at) => loadOf(compiled[at]!, state, nowMs));
    return toBinary(
      LoadPublishedSchema,
      create(LoadPublishedSchema, { engine: this.#engine, epoch: this.#epoch, sequence: this.#sequence, backends }),
    );
  }

  /** Takes in a message; an unreadable one is ignored. Call `refresh` for it to count. */
  receive(payload: Uint8Array, nowMs: number): void {
    const message = parse(payload);
    if (message === undefined || message.engine === this.#engine) return;
    const known = this.#peers.get(message.engine)?.message;
    if (known !== undefined && (message.epoch < known.epoch || (message.epoch === known.epoch && message.sequence <= known.sequence)))
      return;
    if (known === undefined && this.#peers.size >= PEERS_MAX) return;
    this.#peers.set(message.engine, { message, heardAtMs: nowMs });
    for (const load of message.backends) {
      this.#warm(load, nowMs);
      this.#learnPrefixes(load, nowMs);
    }
  }

  /** Sums the others' loads into the state. `connected`: whether their messages can arrive at all. */
  refresh(nowMs: number, connected: boolean): void {
    let stale = !connected && this.#peers.size > 0;
    for (const state of this.#state.backends) {
      state.peerInFlight = 0;
      state.peerPrefillTokens = 0;
      state.peerContextTokens = 0;
      state.peerBreakersOpen = 0;
    }
    for (const [engine, { message, heardAtMs }] of this.#peers) {
      const ageMs = nowMs - heardAtMs;
      if (ageMs >= DROP_AFTER_MS) {
        this.#peers.delete(engine);
        continue;
      }
      if (ageMs > FADE_AFTER_MS) stale = true;
      const weight = ageMs <= FADE_AFTER_MS ? 1 : Math.exp(-ageMs / FADE_AFTER_MS);
      for (const load of message.backends) this.#add(load, weight);
    }
    this.#state.loadsStale = stale;
    for (const state of this.#state.backends) state.peerInFlight = Math.round(state.peerInFlight);
  }

  #add(load: BackendLoad, weight: number): void {
    const state = this.#state.byName(load.backend);
    if (state === undefined) return;
    state.peerInFlight += weight * load.inFlight;
    state.peerPrefillTokens += weight * load.prefillTokens;
    state.peerContextTokens += weight * load.contextTokens;
    if (load.breakerOpen) state.peerBreakersOpen += 1;
  }

  /** Hashes of several prompts in a row: each is held by itself, whatever stands before it. */
  #learnPrefixes(load: BackendLoad, nowMs: number): void {
    const state = this.#state.byName(load.backend);
    if (state === undefined || load.prefixes.length === 0) return;
    for (let from = 0; from < load.prefixes.length; from += BLOCKS_MAX * 8) {
      const count = readKeys(load.prefixes.subarray(from), this.#keys);
      state.prefixes.add(this.#keys, count, state.kvCapacityTokens, nowMs);
    }
  }

  /** An engine that knows little of a backend takes over what one that knows more has learned. */
  #warm(load: BackendLoad, nowMs: number): void {
    const state = this.#state.byName(load.backend);
    if (state === undefined || state.samples >= KNOWN_SAMPLES || load.samples < KNOWN_SAMPLES) return;
    state.decodeRatio = load.decodeRatio;
    state.prefillRatio = load.prefillRatio;
    state.samples = KNOWN_SAMPLES;
    state.learnedAtMs = nowMs;
  }
}

function parse(payload: Uint8Array): LoadPublished | undefined {
  try {
    return fromBinary(LoadPublishedSchema, payload);
  } catch {
    return undefined;
  }
}

function loadOf({ structural }: CompiledBackend, state: BackendState, nowMs: number): BackendLoad {
  return {
    $typeName: "signalbox.events.v1.BackendLoad",
    backend: state.name,
    inFlight: Math.ceil(state.inFlight),
    prefillTokens: state.prefillTokens,
    contextTokens: state.contextTokens,
    decodeRatio: state.decodeRatio,
    prefillRatio: state.prefillRatio,
    samples: state.samples,
    breakerOpen: state.breaker.state(nowMs).kind === "open",
    prefixes: state.prefixNews.take(),
    structural,
  };
}
