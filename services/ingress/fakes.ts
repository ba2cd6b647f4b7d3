import { EventEmitter, once } from "node:events";
import { create } from "@bufbuild/protobuf";
import {
  type AttemptData,
  AttemptDataSchema,
  type AttemptEnd,
  AttemptEndSchema,
  AttemptErrorSchema,
  type AttemptOpen,
  UsageSchema,
} from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { type ControlState, ControlStateSchema, KeyRecordSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { type AttemptRecord, type PriceBook, PriceBookSchema, PriceLineSchema } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import {
  type AttemptReport,
  type Candidate,
  CandidateSchema,
  type DecideRequest,
  type Decision,
  DecisionSchema,
  DenySchema,
  MidStream,
  Outcome,
  RequestClass,
} from "#gen/signalbox/policy/v1/policy_pb.ts";
import type {
  AdapterPeer,
  AttemptHandle,
  AttemptSink,
  CancelReason,
  ControlPeer,
  ReportRequest,
  DecideTicket,
  PolicyFallback,
  PolicyPeer,
  Preemption,
} from "#libs/peers/index.ts";
import type { LogFields, Logger, SpanRecord, TraceContext, Tracing } from "#libs/telemetry/index.ts";
import type { OutboxCallback, OutboxPort } from "./outbox-port.ts";

export type Init<T> = Partial<Omit<T, "$typeName" | "$unknown">>;

/** A candidate of provider `openai` unless said otherwise. */
export function candidate(backend: string, parts: Init<Candidate> = {}): Candidate {
  return create(CandidateSchema, { backend, provider: "openai", upstreamModel: `${backend}-model`, ...parts });
}

/** A decision that allows these candidates. */
export function allow(candidates: readonly Candidate[], parts: Init<Decision> = {}): Decision {
  return create(DecisionSchema, {
    configVersion: "test",
    priceVersion: "p1",
    engine: "engine-1",
    model: "chat",
    requestClass: RequestClass.STANDARD,
    maxAttempts: 3,
    midStream: MidStream.ERROR,
    result: { case: "allow", value: { $typeName: "signalbox.policy.v1.Allow", candidates: [...candidates] } },
    ...parts,
  });
}

/** A decision that denies. */
export function deny(reason: string, detail: string, parts: { retryAfterMs?: number; param?: string; code?: string } = {}): Decision {
  const requestClass = RequestClass.STANDARD;
  return create(DecisionSchema, {
    model: "chat",
    requestClass,
    result: { case: "deny", value: create(DenySchema, { reason, detail, ...parts }) },
  });
}

/** A policy engine that answers as it is told. */
export class FakePolicy implements PolicyPeer {
  answer: (request: DecideRequest) => Decision | Promise<Decision> = (request) => {
    const names = ["alpha", "beta"].filter((name) => !request.exclude.includes(name));
    return names.length > 0 ? allow(names.map((name) => candidate(name))) : deny("NO_BACKEND", "alpha: tried; beta: tried");
  };
  fallback: PolicyFallback | undefined;
  connected = true;
  readonly #preemptionListeners: ((preemption: Preemption) => void)[] = [];
  readonly requests: DecideRequest[] = [];
  readonly reports: AttemptReport[] = [];
  readonly cancelled: string[] = [];
  readonly events = new EventEmitter();

  decide(request: DecideRequest): DecideTicket {
    this.requests.push(request);
    this.events.emit("decide");
    return { decision: this.answer(request), cancel: () => void this.cancelled.push(request.decisionId) };
  }

  report(report: AttemptReport): void {
    this.reports.push(report);
    if (report.event.case === "requestDone") this.events.emit("done");
  }

  onPreemption(listener: (preemption: Preemption) => void): void {
    this.#preemptionListeners.push(listener);
  }

  /** Asks for an attempt to yield, as an engine does. */
  preempt(preemption: Preemption): void {
    for (const listener of this.#preemptionListeners) listener(preemption);
  }

  /** Reports by kind. */
  kinds(): string[] {
    return this.reports.map((report) => report.event.case ?? "");
  }
}

/** One attempt at a fake adapter; the test plays the provider. */
export class FakeAttempt implements AttemptHandle {
  readonly replica = "fake-1";
  readonly open: AttemptOpen;
  consumedBytes = 0;
  sentBytes = 0;
  cancelReason: CancelReason | undefined;
  /** Whether a cancel is answered with an end at once, as adapters do. */
  endsOnCancel = true;
  readonly events = new EventEmitter();
  readonly #sink: AttemptSink;
  #ended = false;
  #content = 0;

  constructor(open: AttemptOpen, sink: AttemptSink) {
    this.open = open;
    this.#sink = sink;
  }

  consumed(bytes: number): void {
    this.consumedBytes += bytes;
    this.events.emit("credit");
  }

  cancel(reason: CancelReason): void {
    this.cancelReason = reason;
    this.events.emit("cancel");
    if (!this.endsOnCancel) return;
    const outcome = { canceled: Outcome.CANCELED, deadline: Outcome.DEADLINE, hedge_lost: Outcome.HEDGE_LOST }[reason];
    process.nextTick(() => this.finish({ outcome, dispatched: true, contentSeen: this.#content > 0, contentEvents: this.#content }));
  }

  /** Delivers bytes. */
  data(text: string | Uint8Array, parts: Init<AttemptData> = { content: true, contentEvents: 1 }): void {
    const bytes = typeof text === "string" ? Buffer.from(text) : text;
    this.sentBytes += bytes.length;
    this.#content += parts.contentEvents ?? 0;
    this.#sink.data(create(AttemptDataSchema, { data: bytes, ...parts }));
  }

  /** Delivers one content event of an OpenAI stream. */
  delta(content: string): void {
    this.data(
      `data: ${JSON.stringify({ id: "r1", object: "chat.completion.chunk", choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`,
    );
  }

  /** Delivers the role-only first event. */
  role(): void {
    const chunk = {
      id: "r1",
      object: "chat.completion.chunk",
      choices: [{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }],
    };
    this.data(`data: ${JSON.stringify(chunk)}\n\n`, { content: false, contentEvents: 0 });
  }

  /** Ends well, with usage 10 in and 5 out. */
  ok(parts: Init<AttemptEnd> = {}): void {
    this.finish({
      outcome: Outcome.OK,
      usage: create(UsageSchema, { inputTokens: 10, outputTokens: 5 }),
      usageKnown: true,
      finishReason: "stop",
      responseId: "r1",
      dispatched: true,
      contentSeen: this.#content > 0,
      ...parts,
    });
  }

  /** Ends badly. */
  fail(reason: string, error: Init<NonNullable<AttemptEnd["error"]>> = {}, parts: Init<AttemptEnd> = {}): void {
    this.finish({
      outcome: Outcome.FAILED,
      error: create(AttemptErrorSchema, { reason, message: "upstream said secret things", ...error }),
      dispatched: true,
      contentSeen: this.#content > 0,
      contentEvents: this.#content,
      ...parts,
    });
  }

  finish(parts: Init<AttemptEnd>): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#sink.end(create(AttemptEndSchema, parts));
  }
}

/** A whole OpenAI answer. */
export function answerBody(content: string): string {
  return JSON.stringify({
    id: "r1",
    object: "chat.completion",
    model: "m",
    choices: [{ index: 0, message: { role: "assistant", content, refusal: null }, logprobs: null, finish_reason: "stop" }],
    usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 },
  });
}

/** Adapters whose attempts are played by scripts per backend; without a script the test takes them from `next()`. */
export class FakeAdapters implements AdapterPeer {
  readonly attempts: FakeAttempt[] = [];
  readonly scripts = new Map<string, (attempt: FakeAttempt) => void>();
  readonly unserved = new Set<string>();
  readonly #events = new EventEmitter();

  attempt(open: AttemptOpen, sink: AttemptSink): AttemptHandle {
    const attempt = new FakeAttempt(open, sink);
    this.attempts.push(attempt);
    const script = this.scripts.get(open.backend);
    if (script) process.nextTick(script, attempt);
    process.nextTick(() => this.#events.emit("attempt", attempt));
    return attempt;
  }

  serves(backend: string): boolean {
    return !this.unserved.has(backend);
  }

  /** The attempt with this index, now or when it comes. */
  async at(index: number): Promise<FakeAttempt> {
    while (this.attempts.length <= index) await once(this.#events, "attempt");
    return this.attempts[index]!;
  }

  /** Makes a backend answer, whole or streamed as asked. */
  answers(backend: string, words: readonly string[]): void {
    this.scripts.set(backend, (attempt) => {
      if (attempt.open.stream) {
        attempt.role();
        for (const word of words) attempt.delta(word);
        const usage = {
          id: "r1",
          object: "chat.completion.chunk",
          choices: [],
          usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 },
        };
        attempt.ok({ usageEvent: attempt.open.includeUsage ? Buffer.from(`data: ${JSON.stringify(usage)}\n\n`) : new Uint8Array(0) });
      } else {
        attempt.data(answerBody(words.join("")));
        attempt.ok();
      }
    });
  }

  /** Makes a backend fail. */
  fails(backend: string, reason: string, error: Init<NonNullable<AttemptEnd["error"]>> = {}): void {
    this.scripts.set(backend, (attempt) => attempt.fail(reason, error));
  }
}

/** An outbox that keeps records in a list; durability by hand when told so. */
export class FakeOutbox implements OutboxPort {
  readonly records: AttemptRecord[] = [];
  accepting = true;
  /** Hold `beforeAnswer` callbacks back until `makeDurable`. */
  holdsAnswers = false;
  #waiting: OutboxCallback[] = [];

  append(record: AttemptRecord): void {
    this.records.push(record);
  }

  beforeDispatch(callback: OutboxCallback): void {
    callback();
  }

  beforeAnswer(callback: OutboxCallback): void {
    if (this.holdsAnswers) this.#waiting.push(callback);
    else callback();
  }

  /** Tells everybody who waits. */
  makeDurable(error?: Error): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const callback of waiting) callback(error);
  }

  /** `KIND backend` of every record, in order. */
  lines(): string[] {
    return this.records.map((record) => `${["?", "INTENT", "POST", "VOID", "EXPIRE"][record.kind] ?? "?"} ${record.backend}`);
  }
}

/** A control peer that answers, is down, or is asked for nothing new. */
export class FakeControl implements Pick<ControlPeer, "report"> {
  current: ControlState | undefined;
  down = false;
  asked = 0;

  report({ appliedRevision: knownRevision }: ReportRequest): Promise<ControlState | undefined> {
    this.asked++;
    if (this.down) return Promise.reject(new Error("the store is away"));
    return Promise.resolve(this.current === undefined || this.current.revision === knownRevision ? undefined : this.current);
  }
}

/** A control state with these keys. */
export function controlState(revision: bigint, keys: readonly Init<ControlState["keys"][number]>[]): ControlState {
  return create(ControlStateSchema, { revision, keys: keys.map((key) => create(KeyRecordSchema, key)) });
}

/** A price book that asks 1 nano-USD per input token and 2 per output token of `alpha` and `beta`. */
export function testPriceBook(): PriceBook {
  const line = (backend: string): PriceBook["lines"][number] =>
    create(PriceLineSchema, {
      backend,
      inputPico: 1_000n,
      cacheReadPico: -1n,
      cacheWritePico: -1n,
      cacheWrite1hPico: -1n,
      outputPico: 2_000n,
      reasoningPico: -1n,
      audioInputPico: -1n,
      audioOutputPico: -1n,
      imageInputPico: -1n,
      grade: "exact",
    });
  return create(PriceBookSchema, { version: "p1", lines: [line("alpha"), line("beta")], onUnknown: "allow_unpriced" });
}

/** Keeps log lines. */
export class KeptLog implements Logger {
  readonly lines: { level: string; fields: LogFields; message: string }[] = [];
  readonly debugEnabled = false;
  debug(): void {}
  info(fields: LogFields, message: string): void {
    this.lines.push({ level: "info", fields, message });
  }
  warn(fields: LogFields, message: string): void {
    this.lines.push({ level: "warn", fields, message });
  }
  error(fields: LogFields, message: string): void {
    this.lines.push({ level: "error", fields, message });
  }
  child(): Logger {
    return this;
  }
}

/** Keeps spans. */
export class KeptTracing implements Tracing {
  readonly enabled = true;
  readonly emitted: { context: TraceContext; spans: readonly SpanRecord[] }[] = [];
  sampled = true;
  #ids = 0;
  start(traceparent: readonly string[], tracestate: readonly string[]): TraceContext {
    const match = /^00-([0-9a-f]{32})-([0-9a-f]{16})-01$/.exec(traceparent[0] ?? "");
    if (!match) return { traceId: "0af7651916cd43dd8448eb211c80319c", parentSpanId: "", tracestate: "", sampled: this.sampled };
    return { traceId: match[1]!, parentSpanId: match[2]!, tracestate: tracestate[0] ?? "", sampled: true };
  }
  spanId(): string {
    return (++this.#ids).toString(16).padStart(16, "0");
  }
  traceparent(context: TraceContext, spanId: string): string {
    return `00-${context.traceId}-${spanId}-01`;
  }
  emit(context: TraceContext, spans: readonly SpanRecord[]): void {
    this.emitted.push({ context, spans });
  }
}
