// What the module's tests share: a provider over node:http, a configuration, a sink that remembers.
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { AttemptEnd, AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { EventBus } from "#libs/bus/index.ts";
import { createMemoryBus } from "#libs/bus/index.ts";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import type { BackendConfig, Config } from "#libs/config/model.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import type { AttemptData, AttemptHandle, AttemptSink } from "#libs/peers/index.ts";
import { type Metrics, silentLogger } from "#libs/telemetry/index.ts";
import { createProviderAdapters, type ProviderAdaptersHost } from "./index.ts";
import { backendOf, chunkOf, openOf } from "./openai/testkit.ts";

/** Counts nothing. */
export const noMetrics: Metrics = {
  counter: () => ({ with: () => ({ add: () => {} }) }),
  gauge: () => ({ with: () => ({ set: () => {} }) }),
  histogram: () => ({ with: () => ({ observe: () => {} }) }),
  onScrape: () => {},
};

/** A provider under test: what came in, and how to answer. */
export interface Provider {
  readonly url: string;
  readonly server: Server;
  readonly requests: { readonly path: string; readonly headers: IncomingMessage["headers"]; readonly body: string }[];
  answer: (request: IncomingMessage, response: ServerResponse, body: string) => void;
  close(): Promise<void>;
}

/** Starts a provider on loopback. */
export async function startProvider(answer: Provider["answer"]): Promise<Provider> {
  const provider: { -readonly [K in keyof Provider]: Provider[K] } = {
    url: "",
    requests: [],
    answer,
    server: createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const body = Buffer.concat(chunks).toString();
        provider.requests.push({ path: request.url ?? "", headers: request.headers, body });
        provider.answer(request, response, body);
      });
    }),
    close: async () => {
      provider.server.closeAllConnections();
      provider.server.close();
      await once(provider.server, "close");
    },
  };
  provider.server.listen(0, "127.0.0.1");
  await once(provider.server, "listening");
  provider.url = `http://127.0.0.1:${(provider.server.address() as AddressInfo).port}/v1`;
  return provider;
}

/** A sink that keeps what it gets and can be waited for. */
export class Recorder implements AttemptSink {
  readonly pieces: AttemptData[] = [];
  ends = 0;
  handle: AttemptHandle | undefined;
  /** Grants at once what was delivered. */
  greedy = true;
  readonly ended: Promise<AttemptEnd>;
  #resolve: (end: AttemptEnd) => void = () => {};
  #waiters: { bytes: number; wake: () => void }[] = [];

  constructor() {
    this.ended = new Promise((resolve) => (this.#resolve = resolve));
  }

  get bytes(): number {
    return this.pieces.reduce((sum, piece) => sum + piece.data.length, 0);
  }

  get text(): string {
    return Buffer.concat(this.pieces.map((piece) => piece.data)).toString();
  }

  data(data: AttemptData): void {
    if (this.ends > 0) throw new Error("data after the end");
    if (this.handle === undefined) throw new Error("data before attempt() returned");
    this.pieces.push(data);
    if (this.greedy) this.handle.consumed(data.data.length);
    this.#waiters = this.#waiters.filter((waiter) => {
      if (this.bytes < waiter.bytes) return true;
      waiter.wake();
      return false;
    });
  }

  end(end: AttemptEnd): void {
    if (this.handle === undefined) throw new Error("end before attempt() returned");
    this.ends++;
    this.#resolve(end);
  }

  /** Resolves when that many bytes were delivered. */
  async delivered(bytes: number): Promise<void> {
    if (this.bytes >= bytes) return;
    await new Promise<void>((wake) => this.#waiters.push({ bytes, wake }));
  }
}

/** Adapters over a fake clock, ready to attempt. */
export interface Rig {
  readonly host: ProviderAdaptersHost;
  readonly clock: FakeClock;
  readonly bus: EventBus;
  reload(backends: readonly BackendConfig[]): void;
  attempt(open?: Parameters<typeof openOf>[0], recorder?: Recorder): Recorder;
}

/** Adapters for these backends. */
export function createRig(
  backends: readonly BackendConfig[],
  more: { bus?: EventBus; replica?: string; only?: string; clock?: FakeClock } = {},
): Rig {
  const clock = more.clock ?? new FakeClock();
  const bus = more.bus ?? createMemoryBus({ clock, logger: silentLogger });
  const listeners = new Set<(config: Config) => void>();
  const configOf = (list: readonly BackendConfig[]): Config =>
    ({ backends: new Map(list.map((backend) => [backend.name, backend])) }) as unknown as Config;
  const source: { current: Config; onChange: ConfigSource["onChange"] } = {
    current: configOf(backends),
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  const host = createProviderAdapters({
    config: source,
    clock,
    random: new SeededRandom(1),
    logger: silentLogger,
    metrics: noMetrics,
    bus,
    replica: more.replica ?? "replica-1",
    ...(more.only === undefined ? {} : { only: more.only }),
  });
  return {
    host,
    clock,
    bus,
    reload: (list) => {
      source.current = configOf(list);
      for (const listener of listeners) listener(source.current);
    },
    attempt: (open = {}, recorder = new Recorder()) => {
      const full: AttemptOpen = openOf({ body: Buffer.from('{"model":"chat","messages":[]}'), ...open });
      recorder.handle = host.attempt(full, recorder);
      return recorder;
    },
  };
}

/** Writes these events as a stream's body, without ending it. */
export function writeEvents(response: ServerResponse, events: readonly unknown[]): void {
  if (!response.headersSent) response.writeHead(200, { "content-type": "text/event-stream" });
  for (const event of events) response.write(`data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`);
}

/** A short whole stream. */
export const WHOLE_STREAM: readonly unknown[] = [
  chunkOf({ role: "assistant", content: "" }),
  chunkOf({ content: "Hi" }),
  chunkOf({}, "stop"),
  { ...chunkOf({}), choices: [], usage: { prompt_tokens: 5, completion_tokens: 1, total_tokens: 6 } },
  "[DONE]",
];

/** A short whole body. */
export const WHOLE_BODY = {
  id: "chatcmpl-9",
  object: "chat.completion",
  created: 1_700_000_000,
  model: "m-2026",
  choices: [{ index: 0, message: { role: "assistant", content: "Hi", refusal: null }, logprobs: null, finish_reason: "stop" }],
  usage: { prompt_tokens: 5, completion_tokens: 1, total_tokens: 6 },
};

/** Answers with JSON. */
export function answerJson(response: ServerResponse, value: unknown, status = 200, headers: Record<string, string> = {}): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(value));
}

export { backendOf };
