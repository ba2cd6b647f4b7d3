import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { AnswerCheck, JSON_PARSE_EVERY } from "./answer-check.ts";
import { ResponseParser } from "./http-response.ts";
import type { LoadOptions } from "./options.ts";

/** How one request went. Times in ms, from `startMs`. */
export interface Outcome {
  readonly startMs: number;
  readonly endMs: number;
  /** First event with content, or first byte of a body; `endMs` where there was none. */
  readonly firstMs: number;
  readonly events: number;
  /** Undefined = a complete answer with status 2xx. */
  readonly problem: string | undefined;
}

/** What a connection tells. */
export interface ConnectionEvents {
  /** The request sent last is over; the connection is idle (or closed, then it connects again by itself at the next send). */
  done(connection: Connection, outcome: Outcome): void;
}

/** Events before the first with content: OpenAI's first event names the role. */
const EVENTS_BEFORE_CONTENT = 1;

/** One keep-alive connection with one request under way at a time. */
export class Connection {
  readonly #options: LoadOptions;
  readonly #request: Buffer;
  readonly #events: ConnectionEvents;
  readonly #check = new AnswerCheck();
  #socket: Socket | undefined;
  #parser: ResponseParser | undefined;
  #isBusy = false;
  #startMs = 0;
  #firstMs = 0;
  #seenEvents = 0;
  #status = 0;
  #isStream = false;
  #answers = 0;

  constructor(options: LoadOptions, request: Buffer, events: ConnectionEvents) {
    this.#options = options;
    this.#request = request;
    this.#events = events;
  }

  /** Sends the request; its time counts from `startMs`. Only while idle. */
  send(startMs: number): void {
    this.#isBusy = true;
    this.#startMs = startMs;
    this.#firstMs = 0;
    this.#seenEvents = 0;
    this.#status = 0;
    (this.#socket ?? this.#open()).write(this.#request);
  }

  /** Ends it without a word. */
  destroy(): void {
    this.#isBusy = false;
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  #open(): Socket {
    const { host, port, tls } = this.#options;
    const socket = tls === true ? connectTls({ host, port, servername: host }) : connectTcp({ host, port });
    const parser = this.#createParser();
    socket.setNoDelay(true);
    socket.on("data", (bytes: Buffer) => parser.push(bytes));
    socket.on("error", (error: NodeJS.ErrnoException) => this.#lost(socket, `connection: ${error.code ?? error.message}`));
    socket.on("close", () => {
      if (socket !== this.#socket) return;
      parser.close();
      this.#lost(socket, this.#status === 0 ? "connection: closed without an answer" : "connection: closed inside the answer");
    });
    this.#socket = socket;
    this.#parser = parser;
    return socket;
  }

  #createParser(): ResponseParser {
    const parser: ResponseParser = new ResponseParser({
      head: (status, isEventStream) => {
        this.#status = status;
        this.#isStream = isEventStream;
        this.#check.begin(isEventStream);
      },
      body: (bytes) => this.#body(bytes),
      end: (keepAlive) => this.#ended(keepAlive),
      malformed: (problem) => {
        if (parser === this.#parser) this.#lost(this.#socket, `malformed: ${problem}`);
      },
    });
    return parser;
  }

  #body(bytes: Buffer): void {
    this.#seenEvents += this.#check.push(bytes);
    if (this.#firstMs !== 0) return;
    if (!this.#isStream || this.#seenEvents > EVENTS_BEFORE_CONTENT) this.#firstMs = performance.now();
  }

  #ended(keepAlive: boolean): void {
    if (!this.#isBusy) return;
    const verdict = this.#check.end(this.#answers++ % JSON_PARSE_EVERY === 0);
    const isRight = this.#status >= 200 && this.#status < 300;
    const problem = !isRight
      ? `status ${this.#status}`
      : this.#isStream === this.#options.stream
        ? verdict.problem
        : "answer of the other kind";
    if (!keepAlive) {
      this.#socket?.destroy();
      this.#socket = undefined;
    }
    this.#finish(problem, verdict.events);
  }

  #lost(socket: Socket | undefined, problem: string): void {
    if (socket === undefined || socket !== this.#socket) return;
    this.#socket = undefined;
    socket.destroy();
    if (this.#isBusy) this.#finish(problem, this.#seenEvents);
  }

  #finish(problem: string | undefined, events: number): void {
    this.#isBusy = false;
    const endMs = performance.now();
    this.#events.done(this, { startMs: this.#startMs, endMs, firstMs: this.#firstMs === 0 ? endMs : this.#firstMs, events, problem });
  }
}
