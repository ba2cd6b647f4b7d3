import type { ServerResponse } from "node:http";
import type { Clock } from "#libs/clock/index.ts";
import type { Asked } from "./dialect.ts";
import type { Engine, JobSink, RunningJob } from "./engine/engine.ts";
import { type Generation, type Step, stepsOf } from "./engine/generate.ts";
import type { AnswerFrame, StreamRenderer } from "./engine/render.ts";
import type { FaultPlan } from "./faults/plan.ts";
import { BodyWriter } from "./http/body-writer.ts";
import { flood, hollowJson, writeGiantLine } from "./faults/act.ts";
import { addFiller } from "./http/reply.ts";

/** How an exchange ended, for the invoice. */
export interface ExchangeEnd {
  /** Whether prompt processing began: only then is anything billed. */
  readonly started: boolean;
  readonly outputTokens: number;
  readonly reasoningTokens: number;
  readonly completed: boolean;
  readonly canceled: boolean;
  readonly stated: boolean;
}

/** What an exchange is about. */
export interface ExchangeInput {
  readonly asked: Asked;
  readonly generation: Generation;
  readonly frame: AnswerFrame;
  readonly headers: readonly string[];
  /** Called once, when the answer is out or given up. */
  readonly ended: (end: ExchangeEnd) => void;
}

/** Tokens computed between two looks at the clock where nobody watches them. */
const UNWATCHED_BATCH = 16;

/** Time a peer gets to read what was written before its connection is reset, ms. */
const RESET_DELAY_MS = 5;

/** One answer on its way: takes tokens from the engine and writes them, or what the faults make of them. */
export class Exchange implements JobSink {
  readonly #input: ExchangeInput;
  readonly #response: ServerResponse;
  readonly #clock: Clock;
  readonly #plan: FaultPlan;
  readonly #writer: BodyWriter;
  readonly #steps: readonly Step[];
  readonly #renderer: StreamRenderer | undefined;
  readonly #left: number[];
  #job: RunningJob | undefined;
  #at = 0;
  #computed = 0;
  #reasoning = 0;
  #opened = false;
  #halted = false;
  #cutDone = false;
  #waits = false;
  #allComputed = false;
  #finishedWriting = false;
  #stated = false;
  #settled = false;

  constructor(input: ExchangeInput, response: ServerResponse, clock: Clock) {
    this.#input = input;
    this.#response = response;
    this.#clock = clock;
    this.#plan = input.frame.plan;
    this.#writer = new BodyWriter(response, clock, this.#plan);
    const streams = input.asked.call.stream;
    this.#steps = streams ? stepsOf(input.generation) : [];
    this.#renderer = streams ? input.asked.stream(input.generation, input.frame) : undefined;
    this.#left = input.generation.choices.map((choice) => choice.tokens);
  }

  /** Hands the work to the engine. */
  start(engine: Engine, uncachedTokens: number): void {
    const { call } = this.#input.asked;
    this.#response.on("close", () => this.#settle());
    if (this.#renderer) this.#response.on("drain", () => this.#job?.resume());
    this.#job = engine.submit({
      promptTokens: call.meter.tokens,
      uncachedTokens,
      steps: this.#input.generation.outputTokens,
      sequences: call.choices,
      priority: call.priority,
      slowFactor: this.#plan.slowFactor,
      batch: call.stream ? 1 : UNWATCHED_BATCH,
      sink: this,
    });
  }

  tokens(upTo: number): boolean {
    this.#computed = upTo;
    if (!this.#renderer || this.#waits) return true;
    return this.#halted ? false : this.#streamTo(upTo, this.#renderer);
  }

  done(): void {
    this.#allComputed = true;
    if (this.#halted || this.#waits) return;
    if (this.#renderer) this.#finishStream(this.#renderer);
    else this.#writeJson();
  }

  #streamTo(upTo: number, renderer: StreamRenderer): boolean {
    const { cut } = this.#plan;
    let text = this.#opened ? "" : this.#open(renderer);
    let tokens = 0;
    let open = true;
    for (; this.#at < upTo; this.#at++) {
      if (cut && !this.#cutDone && this.#at >= cut.afterTokens) {
        if (text !== "" || tokens > 0) this.#writer.write(text, tokens);
        text = "";
        tokens = 0;
        if (cut.until !== undefined) return this.#await(cut, cut.until, renderer);
        if (!this.#disturb(cut.kind, cut.bytes, renderer)) return false;
      }
      const step = this.#steps[this.#at]!;
      const choice = this.#input.generation.choices[step.choice]!;
      if (choice.parts[step.part]!.kind === "reasoning") this.#reasoning++;
      text += renderer.step(step);
      tokens++;
      if (--this.#left[step.choice]! === 0) text += this.#closing(renderer, step.choice);
    }
    if (text !== "" || tokens > 0) open = text === "" ? this.#countOnly(tokens) : this.#writer.write(text, tokens);
    return open;
  }

  /** Tokens without bytes: hidden reasoning. */
  #countOnly(tokens: number): boolean {
    this.#writer.tokens += tokens;
    return true;
  }

  #closing(renderer: StreamRenderer, index: number): string {
    const { finish } = this.#plan;
    if (finish === "none") return "";
    const text = renderer.closeChoice(index);
    return finish === "twice" ? text + text : text;
  }

  #open(renderer: StreamRenderer): string {
    this.#opened = true;
    this.#writeHead("text/event-stream; charset=utf-8", undefined);
    return renderer.open();
  }

  #finishStream(renderer: StreamRenderer): void {
    let text = this.#opened ? "" : this.#open(renderer);
    // Answers without a single token have nothing that would have closed them.
    if (this.#steps.length === 0) for (let index = 0; index < this.#left.length; index++) text += this.#closing(renderer, index);
    const { cut } = this.#plan;
    if (cut && !this.#cutDone && text === "" && !this.#disturb(cut.kind, cut.bytes, renderer)) return;
    text += renderer.usage();
    if (!this.#plan.has("no_done")) text += renderer.done();
    if (text !== "") this.#writer.write(text, 0);
    this.#stated = this.#input.asked.call.wantsUsage && this.#plan.usage !== "absent";
    this.#finishedWriting = true;
    this.#writer.end();
  }

  /** Lets a fault strike when it may. The engine goes on meanwhile; what it computes is written behind the fault, if anything is. */
  #await(cut: NonNullable<FaultPlan["cut"]>, until: Promise<void>, renderer: StreamRenderer): boolean {
    this.#waits = true;
    void until.then(() => {
      if (this.#settled) return;
      this.#waits = false;
      if (!this.#disturb(cut.kind, cut.bytes, renderer)) return;
      this.#streamTo(this.#computed, renderer);
      if (this.#allComputed) this.#finishStream(renderer);
    });
    return true;
  }

  /** A cut fault. True: the stream goes on behind it. */
  #disturb(kind: NonNullable<FaultPlan["cut"]>["kind"], bytes: number, renderer: StreamRenderer | undefined): boolean {
    this.#cutDone = true;
    switch (kind) {
      case "malformed":
        this.#writer.write(`data: {"id":"${this.#input.frame.id}","object":"chat.compl\n\n`, 0);
        return true;
      case "giant_line":
        writeGiantLine(this.#response, bytes);
        return true;
      case "endless_line":
        flood(this.#response);
        break;
      case "stall":
        break;
      case "error_event":
        this.#writer.write(renderer?.error() ?? "", 0);
        this.#writer.end();
        break;
      case "cut":
      case "cut_before_first":
        this.#writer.afterFlush(() => this.#response.socket?.destroySoon());
        break;
      case "rst_after":
        this.#writer.afterFlush(() => void this.#clock.after(RESET_DELAY_MS, () => this.#response.socket?.resetAndDestroy()));
        break;
    }
    this.#halted = true;
    return false;
  }

  #writeHead(contentType: string, length: number | undefined): void {
    const headers = [...this.#input.headers, "content-type", this.#plan.has("wrong_content_type") ? "text/html" : contentType];
    if (length !== undefined) headers.push("content-length", String(length));
    else headers.push("cache-control", "no-cache");
    if (this.#plan.has("gzip")) headers.push("content-encoding", "gzip");
    addFiller(headers, this.#plan);
    this.#response.writeHead(200, headers);
  }

  #writeJson(): void {
    const { asked, generation, frame } = this.#input;
    const body = asked.json(generation, frame);
    const { cut } = this.#plan;
    this.#reasoning = generation.reasoningTokens;
    if (!cut) {
      this.#stated = this.#plan.usage !== "absent";
      this.#finishedWriting = true;
      if (this.#plan.names === "") {
        this.#writeHead("application/json", Buffer.byteLength(body));
        this.#response.end(body);
        return;
      }
      this.#writeHead("application/json", undefined);
      this.#writer.write(body, 0);
      this.#writer.end();
      return;
    }
    if (cut.kind === "stall" && cut.afterTokens < 0) {
      this.#halted = true;
      return;
    }
    const bent = hollowJson(cut.kind, body, cut.bytes);
    if (bent !== undefined) {
      this.#writeHead("application/json", Buffer.byteLength(bent));
      this.#response.end(bent);
      return;
    }
    // Half of the body, then whatever the fault does.
    this.#writeHead("application/json", cut.kind === "endless_line" ? undefined : Buffer.byteLength(body));
    this.#response.write(body.slice(0, body.length >> 1));
    this.#disturb(cut.kind === "error_event" ? "cut" : cut.kind, cut.bytes, undefined);
  }

  #settle(): void {
    if (this.#settled) return;
    this.#settled = true;
    const started = this.#job?.started ?? true;
    this.#job?.cancel();
    const completed = this.#finishedWriting && this.#response.writableFinished;
    const streams = this.#renderer !== undefined;
    const outputTokens = streams ? this.#writer.tokens : this.#computed;
    const wasOurCut = this.#halted && this.#plan.cut?.kind !== "stall" && this.#plan.cut?.kind !== "endless_line";
    this.#input.ended({
      started,
      outputTokens,
      reasoningTokens: Math.min(this.#reasoning, outputTokens),
      completed,
      canceled: !completed && !wasOurCut,
      stated: completed && this.#stated,
    });
  }
}
