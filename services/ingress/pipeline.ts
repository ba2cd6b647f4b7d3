import type { IncomingHttpHeaders } from "node:http";
import type { DecideRequest } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Clock } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { scanTopLevel } from "#libs/json-bytes/index.ts";
import type { TraceContext, Tracing } from "#libs/telemetry/index.ts";
import { analyse, type AnalyseContext, analyseEmbeddings } from "./analyse.ts";
import { type Caller, isModelAllowed, type KeyBook, presentedKey } from "./auth.ts";
import { Catalog } from "./catalog.ts";
import type { Intake } from "./intake.ts";
import type { Internal } from "./internal.ts";
import { readChat } from "./openai/chat.ts";
import { readEmbeddings } from "./openai/embeddings.ts";
import { parseBody } from "./openai/parse.ts";
import { readOptions, type RequestOptions } from "./request-options.ts";
import { isResumable } from "./resume.ts";
import type { TokenFactors } from "./tokens.ts";

/** Request ids accepted from outside (product, section 4). */
const REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/;

/** What is known of a request before its body is read. */
export interface Arrival {
  readonly requestId: string;
  readonly trace: TraceContext;
  readonly rootSpanId: string;
  readonly startedAtMs: number;
  readonly startedMs: number;
}

/** What an internal request brings beside its body. */
export interface InternalParts {
  readonly requestId: string;
  readonly decide: Pick<DecideRequest, "tenant" | "tags" | "requestClass" | "deadlineMs" | "role">;
  readonly internal: Internal;
}

/** What {@link Pipeline} needs. */
export interface PipelineDeps {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly tracing: Tracing;
  readonly keys: KeyBook;
  readonly factors: TokenFactors;
  readonly nextId: () => string;
}

/** From bytes to a request dispatch can take: the same steps for HTTP and for typed callers. */
export class Pipeline {
  readonly #deps: PipelineDeps;
  #catalog: Catalog;

  constructor(deps: PipelineDeps) {
    this.#deps = deps;
    this.#catalog = new Catalog(deps.config.current);
    deps.config.onChange((config) => {
      this.#catalog = new Catalog(config);
    });
  }

  get catalog(): Catalog {
    return this.#catalog;
  }

  /** Labels and times of a request that just arrived. */
  arrive(headers: IncomingHttpHeaders): Arrival {
    const { clock, tracing, nextId } = this.#deps;
    const asked = headers["x-request-id"];
    const traceparent = headers["traceparent"];
    const tracestate = headers["tracestate"];
    return {
      requestId: typeof asked === "string" && REQUEST_ID.test(asked) ? asked : nextId(),
      trace: tracing.start(listOf(traceparent), listOf(tracestate)),
      rootSpanId: tracing.spanId(),
      startedAtMs: clock.now(),
      startedMs: clock.monotonicMs(),
    };
  }

  /** Who calls. Throws UNAUTHENTICATED or KEY_STORE_UNAVAILABLE. */
  authenticate(headers: IncomingHttpHeaders): Caller {
    const { keys, config, clock } = this.#deps;
    return keys.identify(presentedKey(headers), config.current.auth.mode, clock.now());
  }

  /** Whether the caller may use a model. */
  allows(caller: Caller, model: string): boolean {
    const tenant = this.#deps.config.current.tenants.get(caller.tenant);
    return isModelAllowed(caller, tenant?.models, model, this.#catalog.resolve(model));
  }

  /** Reads, checks and analyses a chat request. Throws SignalboxError for everything that is the caller's to fix. */
  prepare(arrival: Arrival, caller: Caller, options: RequestOptions, body: Uint8Array): Intake {
    const chat = readChat(parseBody(body));
    this.#admit(caller, chat.model, options);
    const fields = scanTopLevel(body);
    const { decide, size } = analyse({ ...this.#context(arrival, caller, options), chat, body, fields });
    return {
      ...arrival,
      decide,
      size,
      body,
      fields: numbersOf(fields),
      stream: chat.stream,
      includeUsage: chat.includeUsage,
      choices: chat.n,
      resumable: isResumable(chat),
      shareable: chat.deterministic && this.#catalog.get(chat.model)?.model?.singleFlight === true,
    };
  }

  /** The same for an embeddings request. */
  prepareEmbeddings(arrival: Arrival, caller: Caller, options: RequestOptions, body: Uint8Array): Intake {
    const request = readEmbeddings(parseBody(body));
    this.#admit(caller, request.model, options);
    const { decide, size } = analyseEmbeddings(this.#context(arrival, caller, options), request);
    return {
      ...arrival,
      decide,
      size,
      body,
      fields: numbersOf(scanTopLevel(body)),
      stream: false,
      includeUsage: false,
      choices: 1,
      resumable: false,
      shareable: false,
    };
  }

  /** A request of the gateway's own: read and analysed like a caller's, and allowed. Never streamed. */
  prepareInternal(body: Uint8Array, parts: InternalParts): Intake {
    const arrival = { ...this.arrive({}), requestId: parts.requestId };
    const chat = readChat(parseBody(body));
    const fields = scanTopLevel(body);
    const caller = { tenant: "", team: "", keyId: "", models: undefined, maxClass: 0, mayForceArm: false };
    const { decide, size } = analyse({ ...this.#context(arrival, caller, readOptions({})), chat, body, fields });
    return {
      ...arrival,
      trace: { ...arrival.trace, sampled: false },
      decide: { ...decide, ...parts.decide, explain: false },
      size,
      body,
      fields: numbersOf(fields),
      stream: false,
      includeUsage: false,
      resumable: false,
      shareable: false,
      choices: 1,
      internal: parts.internal,
    };
  }

  #admit(caller: Caller, model: string, options: RequestOptions): void {
    if (!this.allows(caller, model)) {
      throw new SignalboxError("POLICY_DENIED", `This key may not use the model '${model}'.`, { param: "model" });
    }
    if (options.forcedArm !== "" && !caller.mayForceArm) {
      throw new SignalboxError("POLICY_DENIED", "This key may not choose an experiment's arm.", {
        code: "arm_not_allowed",
        param: "x-signalbox-experiment",
      });
    }
  }

  #context(arrival: Arrival, caller: Caller, options: RequestOptions): AnalyseContext {
    const { factors, nextId, tracing } = this.#deps;
    return {
      options,
      caller,
      catalog: this.#catalog,
      factors,
      decisionId: nextId(),
      requestId: arrival.requestId,
      explain: tracing.enabled && arrival.trace.sampled,
    };
  }
}

/** As the wire's list of numbers; `Array.from` would go through an iterator. */
function numbersOf(fields: Uint32Array | undefined): number[] {
  const numbers: number[] = [];
  if (fields !== undefined) for (let at = 0; at < fields.length; at++) numbers.push(fields[at]!);
  return numbers;
}

function listOf(value: string | readonly string[] | undefined): readonly string[] {
  if (value === undefined) return [];
  return typeof value === "string" ? [value] : value;
}
