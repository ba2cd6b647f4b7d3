import type { IncomingMessage, ServerResponse } from "node:http";
import { RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Clock, LoopLag } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import type { Caller } from "./auth.ts";
import { type Admission, refusedFacts } from "./budgets/admission.ts";
import { type BodyMemory, readBody, refusedBySize } from "./body.ts";
import { FEEDBACK_MAX_BYTES, type FeedbackDesk } from "./experiments/feedback.ts";
import type { Exchange } from "./dispatch.ts";
import type { Dispatcher } from "./dispatcher.ts";
import { internalError } from "./failures.ts";
import { HttpReply } from "./http-reply.ts";
import type { HttpServer } from "./http-server.ts";
import type { IdempotencyStore, LeadReply } from "./idempotency.ts";
import type { Intake } from "./intake.ts";
import { modelBody, modelListBody } from "./openai/models.ts";
import { LAG_RETRY_MS, LAG_SHED_BATCH_MS, LAG_SHED_MIN_REQUESTS, LAG_SHED_MS } from "./limits.ts";
import type { Arrival, Pipeline } from "./pipeline.ts";
import type { RequestLog } from "./request-log.ts";
import type { RequestMetrics } from "./request-metrics.ts";
import { type RequestOptions, readOptions } from "./request-options.ts";
import type { SingleFlight } from "./single-flight.ts";

/** What {@link HttpApi} needs. */
export interface HttpApiDeps {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly pipeline: Pipeline;
  readonly dispatcher: Dispatcher;
  readonly feedback: FeedbackDesk;
  readonly admission: Admission;
  readonly idempotency: IdempotencyStore;
  readonly singleFlight: SingleFlight;
  readonly loopLag: LoopLag;
  readonly memory: BodyMemory;
  readonly metrics: RequestMetrics;
  readonly log: RequestLog;
  /** Whether connections are to be closed after their answers. */
  readonly isClosing: () => boolean;
}

const CHAT_PATH = "/v1/chat/completions";
const EMBEDDINGS_PATH = "/v1/embeddings";
const MODELS_PATH = "/v1/models";
const FEEDBACK_PATH = "/v1/feedback";

/** One request on its way through the routes. */
interface Visit {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly arrival: Arrival;
  readonly path: string;
}

/** A request that was read and analysed, on its way to dispatch. */
interface Entering {
  readonly visit: Visit;
  readonly caller: Caller;
  readonly intake: Intake;
  readonly reply: HttpReply;
}

type Boarded = NonNullable<ReturnType<SingleFlight["board"]>>;

/** The routes of the OpenAI-compatible API. Converts HTTP to the pipeline and back; decides nothing. */
export class HttpApi {
  readonly #deps: HttpApiDeps;
  readonly #createdS: number;
  #server: HttpServer | undefined;

  constructor(deps: HttpApiDeps) {
    this.#deps = deps;
    this.#createdS = Math.floor(deps.clock.now() / 1000);
  }

  /** The server that refuses on this API's behalf. */
  attach(server: HttpServer): void {
    this.#server = server;
  }

  /** Handles one request. Never throws. */
  handle(request: IncomingMessage, response: ServerResponse, continues: boolean): void {
    const arrival = this.#deps.pipeline.arrive(request.headers);
    const visit: Visit = { request, response, arrival, path: pathOf(request.url ?? "") };
    try {
      this.#route(visit, continues);
    } catch (error) {
      this.#refuse(visit, error, []);
    }
  }

  #route(visit: Visit, continues: boolean): void {
    const { path, request } = visit;
    if (path === CHAT_PATH || path === EMBEDDINGS_PATH) {
      if (request.method !== "POST") return this.#methodNotAllowed(visit, "POST");
      return this.#infer(visit, continues);
    }
    if (path === FEEDBACK_PATH) {
      if (request.method !== "POST") return this.#methodNotAllowed(visit, "POST");
      return this.#feedback(visit, continues);
    }
    if (path === MODELS_PATH || path.startsWith(`${MODELS_PATH}/`)) {
      if (request.method !== "GET" && request.method !== "HEAD") return this.#methodNotAllowed(visit, "GET, HEAD");
      return this.#models(visit);
    }
    throw new SignalboxError("ROUTE_UNKNOWN", `There is no route ${request.method ?? ""} ${path.slice(0, 200)}.`);
  }

  #methodNotAllowed(visit: Visit, allow: string): void {
    const error = new SignalboxError("METHOD_NOT_ALLOWED", `${visit.path} only takes ${allow}.`);
    this.#refuse(visit, error, ["allow", allow]);
  }

  // ---- models

  #models(visit: Visit): void {
    const { pipeline } = this.#deps;
    const caller = pipeline.authenticate(visit.request.headers);
    if (visit.path === MODELS_PATH || visit.path === `${MODELS_PATH}/`) {
      const entries = [...pipeline.catalog.entries()].filter((entry) => pipeline.allows(caller, entry.id));
      return this.#json(visit, modelListBody(entries, this.#createdS));
    }
    const id = decodeId(visit.path.slice(MODELS_PATH.length + 1));
    const entry = id === undefined ? undefined : pipeline.catalog.get(id);
    if (entry === undefined || !pipeline.allows(caller, entry.id)) {
      throw new SignalboxError("MODEL_UNKNOWN", `The model '${(id ?? "").slice(0, 200)}' does not exist or you do not have access to it.`, {
        param: "model",
      });
    }
    this.#json(visit, modelBody(entry, this.#createdS));
  }

  #json(visit: Visit, text: string): void {
    const body = Buffer.from(text);
    const headers = ["content-type", "application/json", "content-length", String(body.length), "x-request-id", visit.arrival.requestId];
    if (this.#deps.isClosing()) headers.push("connection", "close");
    visit.response.writeHead(200, headers);
    visit.response.end(body);
  }

  // ---- feedback

  #feedback(visit: Visit, continues: boolean): void {
    const { request } = visit;
    const { config, pipeline, feedback } = this.#deps;
    refuseForeignOrigin(request.headers.origin, config.current.auth.mode);
    const caller = pipeline.authenticate(request.headers);
    this.#receive(visit, continues, FEEDBACK_MAX_BYTES, (body) => {
      feedback.accept(caller, body).then(
        (text) => this.#json(visit, text),
        (error: unknown) => this.#refuse(visit, error, []),
      );
    });
  }

  /** Reads a body of at most `maxBytes`; what it takes of the memory for bodies is given back when the response is over. */
  #receive(visit: Visit, continues: boolean, maxBytes: number, take: (body: Uint8Array) => void): void {
    const { request, response } = visit;
    const { memory } = this.#deps;
    const encoding = request.headers["content-encoding"];
    if (encoding !== undefined && encoding.toLowerCase() !== "identity") {
      throw new SignalboxError("ENCODING_UNSUPPORTED", "Request bodies must not be compressed.", { param: "content-encoding" });
    }
    const refused = refusedBySize(request, maxBytes);
    if (refused !== undefined) throw refused;
    if (continues) response.writeContinue();
    readBody(request, maxBytes, memory, (error, body) => {
      if (error !== undefined) return this.#refuse(visit, error, []);
      // What a request holds is given back when its response is over, whatever happened to it.
      response.once("close", () => memory.give(body.length));
      try {
        take(body);
      } catch (cause) {
        this.#refuse(visit, cause, []);
      }
    });
  }

  // ---- inference

  #infer(visit: Visit, continues: boolean): void {
    const { headers } = visit.request;
    const { config, pipeline } = this.#deps;
    if (headers["x-signalbox-hop"] !== undefined) {
      throw new SignalboxError("LOOP", "This request already came from a signalbox: a backend's address leads back to the gateway.");
    }
    refuseForeignOrigin(headers.origin, config.current.auth.mode);
    const caller = pipeline.authenticate(headers);
    const options = readOptions(headers);
    if (this.#deps.dispatcher.inFlight >= LAG_SHED_MIN_REQUESTS) refuseWhenLate(this.#deps.loopLag.lagMs, options);
    const maxBytes = config.current.server.api.bodyMaxBytes;
    this.#receive(visit, continues, maxBytes, (body) => this.#accept(visit, caller, options, body));
  }

  #accept(visit: Visit, caller: Caller, options: RequestOptions, body: Uint8Array): void {
    const { response, arrival } = visit;
    const { pipeline, idempotency, isClosing } = this.#deps;
    const isEmbeddings = visit.path === EMBEDDINGS_PATH;
    const intake = isEmbeddings
      ? pipeline.prepareEmbeddings(arrival, caller, options, body)
      : pipeline.prepare(arrival, caller, options, body);
    const reply = new HttpReply(response, isClosing, this.#deps.config.current.server.api.readerTimeoutMs);
    let lead: LeadReply | undefined;
    if (options.idempotencyKey !== "") {
      const admission = idempotency.admit(caller, options.idempotencyKey, body, reply, arrival.requestId);
      if (admission.kind === "follow") {
        response.once("close", admission.leave);
        return;
      }
      lead = admission.reply;
    }
    if (lead !== undefined) return this.#lead({ visit, caller, intake, reply }, lead);
    const boarded = intake.shareable ? this.#deps.singleFlight.board(caller, options, body, reply, arrival.requestId) : undefined;
    if (boarded !== undefined) {
      reply.whenDrained(() => boarded.passenger.drained());
      response.once("close", () => boarded.passenger.leave());
      if (!boarded.lead) return;
    }
    this.#go({ visit, caller, intake, reply }, undefined, boarded);
  }

  /** A request with a new idempotency key goes on once it is known that no other ingress answers it. */
  #lead(entering: Entering, lead: LeadReply): void {
    const { response } = entering.visit;
    let asking = true;
    const withdraw = lead.whenClaimed(() => {
      asking = false;
      // Its client may have left meanwhile; who follows it still wants the answer.
      if (response.closed && lead.readerGone()) return;
      try {
        this.#go(entering, lead, undefined);
      } catch (cause) {
        lead.fail(this.#errorOf(cause, entering.visit.arrival), refusedFacts(entering.intake));
      }
    });
    response.once("close", () => {
      if (asking && !response.writableEnded && lead.readerGone()) withdraw?.();
    });
  }

  /** Admits a request and dispatches it. */
  #go({ visit, caller, intake, reply }: Entering, lead: LeadReply | undefined, boarded: Boarded | undefined): void {
    const { response, arrival } = visit;
    const { dispatcher, admission } = this.#deps;
    const withdraw = admission.admit(intake, (error) => {
      for (const [name, value] of admission.headers(caller.tenant)) response.setHeader(name, value);
      if (error === undefined && boarded !== undefined) {
        boarded.flight.carrier = dispatcher.dispatch(intake, boarded.flight);
        if (response.closed || response.socket?.destroyed === true) boarded.passenger.leave();
        return;
      }
      if (error === undefined) return this.#watch(response, reply, dispatcher.dispatch(intake, lead ?? reply), lead);
      this.#deps.metrics.refused(error.httpStatus);
      this.#deps.log.refused(arrival.requestId, "POST", visit.path, error);
      (boarded?.flight ?? lead ?? reply).fail(error, refusedFacts(intake));
    });
    if (withdraw === undefined) return;
    if (boarded !== undefined) {
      boarded.flight.carrier = { drained: () => {}, cancel: withdraw };
      return;
    }
    // It waits for its budget, and its client may leave meanwhile.
    response.once("close", () => {
      if (lead !== undefined && !lead.readerGone()) return;
      withdraw();
      lead?.fail(new SignalboxError("CANCELED", "The caller went away."), refusedFacts(intake));
    });
  }

  #watch(response: ServerResponse, reply: HttpReply, exchange: Exchange, lead: LeadReply | undefined): void {
    reply.whenDrained(() => exchange.drained());
    response.once("close", () => {
      if (response.writableFinished) return;
      if (lead === undefined || lead.readerGone()) exchange.cancel();
      else exchange.drained();
    });
    // A client that left while its request was read has closed before anybody listened.
    const isGone = response.closed || response.socket?.destroyed === true;
    if (isGone && (lead === undefined || lead.readerGone())) exchange.cancel();
  }

  #refuse(visit: Visit, cause: unknown, headers: readonly string[]): void {
    const { request, response, arrival, path } = visit;
    const error = this.#errorOf(cause, arrival);
    this.#deps.metrics.refused(error.httpStatus);
    this.#deps.log.refused(arrival.requestId, request.method ?? "", path, error);
    const all = this.#deps.isClosing() ? [...headers, "connection", "close"] : headers;
    this.#server?.refuse(request, response, error, arrival.requestId, all);
  }

  #errorOf(cause: unknown, arrival: Arrival): SignalboxError {
    if (cause instanceof SignalboxError) return cause;
    this.#deps.logger.error({ err: cause, request_id: arrival.requestId }, "a request failed inside the gateway");
    return internalError(cause);
  }
}

/** Path of a request target, without query; absolute targets lose their authority (RFC 9112, 3.2.2). */
function pathOf(target: string): string {
  let path = target;
  if (!path.startsWith("/")) {
    const at = path.indexOf("://");
    const slash = at < 0 ? -1 : path.indexOf("/", at + 3);
    path = slash < 0 ? "/" : path.slice(slash);
  }
  const query = path.indexOf("?");
  return query < 0 ? path : path.slice(0, query);
}

function decodeId(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

const LOOPBACK_ORIGIN = /^https?:\/\/(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/;

/**
 * In open mode no key keeps a web page from spending: browsers name the page's origin, and only pages of this machine may
 * call. There is no CORS either, so that their scripts cannot read answers.
 */
function refuseForeignOrigin(origin: string | undefined, mode: "open" | "keys"): void {
  if (mode !== "open" || origin === undefined || LOOPBACK_ORIGIN.test(origin)) return;
  throw new SignalboxError("POLICY_DENIED", "In open mode, web pages of other origins may not call this API.", {
    code: "origin_not_allowed",
  });
}

/** A loop that is late cannot serve what it has: new requests are refused at once, batch ones first. */
function refuseWhenLate(lagMs: number, options: RequestOptions): void {
  if (lagMs < (options.requestClass === RequestClass.BATCH ? LAG_SHED_BATCH_MS : LAG_SHED_MS)) return;
  throw new SignalboxError("QUEUE_FULL", "The gateway is overloaded at the moment.", { retryAfterMs: LAG_RETRY_MS });
}
