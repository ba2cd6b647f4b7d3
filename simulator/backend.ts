import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Clock, Random, Timer } from "#libs/clock/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { AnthropicService } from "./anthropic/service.ts";
import type { Answered, Asked, DialectService } from "./dialect.ts";
import { ProviderLimits } from "./engine/buckets.ts";
import { Engine } from "./engine/engine.ts";
import { generate } from "./engine/generate.ts";
import { IdSource } from "./engine/ids.ts";
import { infoJson, metricsText, modelsJson } from "./engine/info.ts";
import { PrefixCache } from "./engine/prefix-cache.ts";
import { Exchange } from "./exchange.ts";
import { FaultRegistry } from "./faults/registry.ts";
import type { FaultPlan } from "./faults/plan.ts";
import { isObject, type JsonObject } from "./http/json.ts";
import { readBody } from "./http/read-body.ts";
import { jsonReply, send } from "./http/reply.ts";
import { BoundedLines, type CallLine, type InvoiceLine } from "./invoice.ts";
import { OpenAiService } from "./openai/service.ts";
import type { SimBackendProfile } from "./profile.ts";

/** Answer length when the profile has none. */
const DEFAULT_ANSWER = { medianTokens: 24, sigma: 0.5 };

/** Requests waiting in an engine's queue; beyond, it answers 503 as Ollama does. */
const WAITING_MAX = 10_000;

/** How often a backend looks whether it should refuse connections, ms. */
const REFUSE_CHECK_MS = 20;

/** Longest idle time of a connection under `keepalive_jitter` when nobody says, ms. */
const JITTER_MAX_MS = 5000;

/** Pending connections: load tests open hundreds at once. */
const BACKLOG = 1024;

/** What a backend is made of. */
export interface BackendDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly timeScale: number;
}

/** One simulated backend: a listener, a dialect, an engine, faults and an invoice. */
export class Backend {
  readonly profile: SimBackendProfile;
  readonly faults: FaultRegistry;
  readonly engine: Engine;
  readonly invoice = new BoundedLines<InvoiceLine>();
  readonly calls = new BoundedLines<CallLine>();
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #cache: PrefixCache;
  readonly #limits: ProviderLimits;
  readonly #ids: IdSource;
  readonly #service: DialectService;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;
  #watch: Timer | undefined;
  #listening = false;

  constructor(profile: SimBackendProfile, deps: BackendDeps) {
    const { clock, random } = deps;
    this.profile = profile;
    this.#clock = clock;
    this.#random = random;
    this.faults = new FaultRegistry(clock, random);
    this.engine = new Engine(clock, random.int(2 ** 31), profile.speed, deps.timeScale);
    this.#cache = new PrefixCache(profile.speed.kind === "engine" ? profile.speed.kvCapacityTokens : profile.contextTokens * 4);
    this.#limits = new ProviderLimits(profile.limits, clock.now());
    this.#ids = new IdSource(random);
    const Service = profile.dialect === "anthropic" ? AnthropicService : OpenAiService;
    this.#service = new Service(profile, this.#limits, this.#ids, clock);
  }

  /** Root address, without the `/v1` that OpenAI's SDK wants. */
  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  /** Rejects when the profile's port is taken. */
  async start(): Promise<void> {
    this.#port = this.profile.port ?? 0;
    await this.#listen();
  }

  /** Ends every connection. */
  async stop(): Promise<void> {
    this.#watch?.cancel();
    this.#watch = undefined;
    await this.#close(true);
  }

  /** Applies what a change of faults means for the listener; call it after adding or clearing. */
  faultsChanged(): void {
    if (!this.faults.isPending("refuse") && this.#listening) return;
    this.#watch ??= this.#clock.every(REFUSE_CHECK_MS, () => this.#checkRefuse());
    this.#checkRefuse();
  }

  #checkRefuse(): void {
    const refuses = this.faults.isActive("refuse") !== undefined;
    if (refuses && this.#listening) void this.#close(false);
    else if (!refuses && !this.#listening) void this.#listen().catch(() => undefined);
    if (this.#listening && !this.faults.isPending("refuse")) {
      this.#watch?.cancel();
      this.#watch = undefined;
    }
  }

  #listen(): Promise<void> {
    this.#listening = true;
    const server = createServer(
      { keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 60_000, highWaterMark: 64 * 1024 },
      (request, response) => this.#handle(request, response),
    );
    server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    this.#server = server;
    return new Promise((resolve, reject) => {
      server.once("error", (cause: NodeJS.ErrnoException) => {
        this.#listening = false;
        const problem = `simulated backend ${this.profile.name} cannot listen on 127.0.0.1:${this.#port}: ${cause.code ?? cause.message}`;
        reject(new SignalboxError("INTERNAL", problem, { cause }));
      });
      server.listen({ port: this.#port, host: "127.0.0.1", backlog: BACKLOG }, () => {
        this.#port = (server.address() as AddressInfo).port;
        resolve();
      });
    });
  }

  #close(hard: boolean): Promise<void> {
    const server = this.#server;
    this.#listening = false;
    this.#server = undefined;
    if (hard) for (const socket of this.#sockets) socket.destroy();
    if (!server) return Promise.resolve();
    return new Promise((resolve) => {
      server.close(() => resolve());
      server.closeIdleConnections();
    });
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    // While connections are refused, one that outlived its last answer takes no further request.
    if (!this.#listening) return void request.socket.destroy();
    const target = request.url ?? "/";
    const query = target.indexOf("?");
    const path = query < 0 ? target : target.slice(0, query);
    if (path === "/invoice" || path === "/calls") {
      request.resume();
      return send(
        response,
        jsonReply(200, JSON.stringify(path === "/calls" ? this.calls.all() : this.invoice.all())),
        this.faults.strike(undefined, false),
      );
    }
    const inference = request.method === "POST" && this.#service.paths.includes(path);
    const plan = this.faults.strike(request.headers["x-sim-fault"] as string | undefined, inference);
    const line: CallLine = {
      backend: this.profile.name,
      path,
      client_request_id: (request.headers["x-client-request-id"] as string | undefined) ?? "",
      at_ms: this.#clock.now(),
      status: 0,
      faults: plan.names,
    };
    if (inference) this.calls.add(line);
    this.#jitter(request.socket, response);
    if (plan.connection) return this.#strikeConnection(plan.connection, request);
    if (!inference) return this.#info(request, response, path, plan);
    readBody(request, (body) => this.#infer(body, path, request, response, plan, line));
  }

  #strikeConnection(kind: "reset" | "blackhole" | "garbage", request: IncomingMessage): void {
    request.resume();
    if (kind === "reset") request.socket.resetAndDestroy();
    else if (kind === "garbage") request.socket.end("\u0000\u0001SIMULATED GARBAGE\r\n\r\n");
  }

  /** Under `keepalive_jitter` a connection is closed at a random time after an answer, whether or not the next request is on its way. */
  #jitter(socket: Socket, response: ServerResponse): void {
    const options = this.faults.isActive("keepalive_jitter");
    if (!options) return;
    response.on("close", () => {
      const idleMs = this.#random.next() * (options.delayMs ?? JITTER_MAX_MS);
      let busy = false;
      const onData = (): void => void (busy = true);
      socket.once("data", onData);
      this.#clock.after(idleMs, () => {
        socket.off("data", onData);
        if (!busy) socket.destroy();
      });
    });
  }

  #info(request: IncomingMessage, response: ServerResponse, path: string, plan: FaultPlan): void {
    request.resume();
    const requestId = this.#requestId();
    const denied = path.startsWith("/v1/") ? this.#service.authenticate(request.headers, requestId) : undefined;
    if (plan.status) return send(response, this.#service.fault(plan.status.kind, plan.status.options, this.profile.model, requestId), plan);
    if (request.method !== "GET" && request.method !== "HEAD") {
      const status = path.startsWith("/v1/") ? 404 : 405;
      return send(response, this.#service.plainError(status, `${request.method ?? ""} ${path}`, requestId), plan);
    }
    if (path === "/metrics") {
      const text = metricsText(this.profile, this.engine, this.#cache);
      if (text !== undefined)
        return send(response, { status: 200, headers: [], contentType: "text/plain; version=0.0.4; charset=utf-8", body: text }, plan);
    }
    if (path === "/" && this.profile.dialect === "ollama")
      return send(response, { status: 200, headers: [], contentType: "text/plain", body: "Ollama is running" }, plan);
    const info = infoJson(this.profile, path, this.engine);
    if (info !== undefined) return send(response, jsonReply(200, info), plan);
    const models =
      path === "/v1/models" || path.startsWith("/v1/models/")
        ? modelsJson(this.profile, path === "/v1/models" ? undefined : decodeURIComponent(path.slice(11)))
        : undefined;
    if (models !== undefined)
      return send(response, denied ?? jsonReply(200, models, this.#service.headers(requestId, request.headers)), plan);
    if (this.#service.paths.includes(path))
      return send(response, this.#service.plainError(405, `${request.method} on ${path}`, requestId), plan);
    send(response, this.#service.plainError(404, `${request.method} ${path}`, requestId), plan);
  }

  #infer(
    body: Buffer | undefined,
    path: string,
    request: IncomingMessage,
    response: ServerResponse,
    plan: FaultPlan,
    line: CallLine,
  ): void {
    const requestId = this.#requestId();
    const fields = body && parse(body);
    response.on("close", () => void (line.status = response.headersSent ? response.statusCode : 0));
    const model = typeof fields?.["model"] === "string" ? fields["model"] : this.profile.model;
    if (plan.status) return send(response, this.#service.fault(plan.status.kind, plan.status.options, model, requestId), plan);
    if (!body) return send(response, this.#service.plainError(413, "", requestId), plan);
    const denied = this.#service.authenticate(request.headers, requestId);
    if (denied) return send(response, denied, plan);
    const asked = this.#service.ask(path, request.headers, fields, requestId);
    if (asked.kind === "reply") return this.#replyAtOnce(asked, response, plan, line);
    const { call } = asked;
    const limited = this.#limits.admit(call.meter.tokens + (call.maxTokens ?? 0), this.engine.running, this.#clock.now());
    if (limited) return send(response, this.#service.limited(limited, call.model, requestId), plan);
    if (this.engine.waiting >= WAITING_MAX) return send(response, this.#service.plainError(503, "", requestId), plan);
    if (plan.hollow) {
      const text = plan.hollow === "empty" ? "" : this.#service.fault("500", {}, call.model, requestId).body;
      const contentType = call.stream ? "text/event-stream" : "application/json";
      return send(response, { status: 200, headers: this.#service.headers(requestId, request.headers), contentType, body: text }, plan);
    }
    this.#exchange(asked, response, plan, line, this.#service.headers(requestId, request.headers));
  }

  #replyAtOnce(answered: Answered, response: ServerResponse, plan: FaultPlan, line: CallLine): void {
    const { billed } = answered;
    if (!billed) return send(response, answered.reply, plan);
    // The engine takes its time to the first token over it, whatever it holds: the overhead that sharing a call saves.
    const job = this.engine.submit({
      promptTokens: billed.promptTokens,
      uncachedTokens: billed.promptTokens,
      steps: 1,
      sequences: 1,
      priority: 0,
      slowFactor: plan.slowFactor,
      batch: 1,
      sink: { tokens: () => true, done: () => this.#replyBilled(answered, billed, response, plan, line) },
    });
    response.on("close", () => job.cancel());
  }

  #replyBilled(
    answered: Answered,
    billed: NonNullable<Answered["billed"]>,
    response: ServerResponse,
    plan: FaultPlan,
    line: CallLine,
  ): void {
    this.invoice.add({
      backend: this.profile.name,
      client_request_id: line.client_request_id,
      response_id: "",
      model: billed.model,
      input_tokens: billed.promptTokens,
      cache_read_tokens: 0,
      cache_write_tokens: 0,
      output_tokens: 0,
      reasoning_tokens: 0,
      stream: false,
      status: 200,
      completed: true,
      canceled: false,
      stated: true,
      at_ms: this.#clock.now(),
    });
    send(response, answered.reply, plan);
  }

  #exchange(asked: Asked, response: ServerResponse, plan: FaultPlan, line: CallLine, headers: readonly string[]): void {
    const { call } = asked;
    const { profile } = this;
    const nowMs = this.#clock.now();
    const generation = generate(call, profile.answer ?? DEFAULT_ANSWER, profile.maxOutputTokens, () => asked.drawToolId());
    const cache = call.cache === "auto" ? this.#cache.useBlocks(call.meter) : this.#cache.usePoints(call.meter, call.cache, nowMs);
    const usage = { prompt: call.meter.tokens, cache, output: generation.outputTokens, reasoning: generation.reasoningTokens };
    const frame = {
      dialect: profile.dialect,
      id: asked.id,
      createdS: Math.floor(nowMs / 1000),
      model: call.model,
      usage,
      plan,
      obfuscates: profile.dialect === "openai" && profile.obfuscation !== false && call.obfuscates,
    };
    const exchange = new Exchange(
      {
        asked,
        generation,
        frame,
        headers,
        ended: (end) => {
          this.engine.counters.finish(end.completed ? generation.choices[0]!.finish : "abort");
          if (!end.started) return;
          const { read, write5m, write1h } = cache;
          this.invoice.add({
            backend: profile.name,
            client_request_id: line.client_request_id,
            response_id: asked.id,
            model: call.model,
            input_tokens: call.meter.tokens - read - write5m - write1h,
            cache_read_tokens: read,
            cache_write_tokens: write5m + write1h,
            output_tokens: end.outputTokens,
            reasoning_tokens: end.reasoningTokens,
            stream: call.stream,
            status: 200,
            completed: end.completed,
            canceled: end.canceled,
            stated: end.stated,
            at_ms: this.#clock.now(),
          });
        },
      },
      response,
      this.#clock,
    );
    exchange.start(this.engine, call.meter.tokens - cache.read);
  }

  #requestId(): string {
    return this.profile.dialect === "anthropic" ? `req_011C${this.#ids.alphanumeric(20)}` : `req_${this.#ids.hex(32)}`;
  }
}

function parse(body: Buffer): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(body.toString());
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
