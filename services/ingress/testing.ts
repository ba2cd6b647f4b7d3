import { createMemoryBus, type EventBus } from "#libs/bus/index.ts";
import { type Clock, type LoopLag, systemClock } from "#libs/clock/index.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { type Config, createConfigSource, defaultBackend, defaultConfig, defaultModel } from "#libs/config/index.ts";
import type { ControlPeer, LedgerPeer } from "#libs/peers/index.ts";
import { createMetrics } from "#libs/telemetry/index.ts";
import { FakeAdapters, FakeControl, FakeOutbox, FakePolicy, KeptLog, KeptTracing, testPriceBook } from "./fakes.ts";
import { createIngress, type IngressHost } from "./module.ts";

export * from "./fakes.ts";

/** Small limits, so that tests can pass them. */
export function testConfig(parts: Partial<Config> = {}): Config {
  const base = defaultConfig();
  const model = defaultModel("chat", ["alpha", "beta"], { aliases: ["gpt-4o-mini"] });
  return defaultConfig({
    server: {
      ...base.server,
      api: { ...base.server.api, listen: { host: "127.0.0.1", port: 0 }, bodyMaxBytes: 256 * 1024 },
      drain: { delayMs: 0, graceMs: 1_000 },
    },
    auth: { mode: "open" },
    backends: new Map([
      ["alpha", defaultBackend({ name: "alpha", provider: "openai", model: "alpha-model", contextTokens: 8_000 })],
      ["beta", defaultBackend({ name: "beta", provider: "anthropic", model: "beta-model", contextTokens: 200_000 })],
    ]),
    models: new Map([["chat", model]]),
    ...parts,
  });
}

/** What a test holds of a running ingress. */
export interface TestIngress {
  readonly host: IngressHost;
  readonly url: string;
  readonly port: number;
  readonly policy: FakePolicy;
  readonly adapters: FakeAdapters;
  readonly outbox: FakeOutbox;
  readonly control: FakeControl;
  readonly log: KeptLog;
  readonly tracing: KeptTracing;
  readonly metrics: ReturnType<typeof createMetrics>;
  readonly bus: EventBus;
  stop(): Promise<void>;
}

/** Starts an ingress on a free loopback port behind fakes of everything else. With a `bus` it is one of several. */
export async function startIngress(
  options: {
    config?: Config;
    clock?: Clock;
    control?: FakeControl;
    loopLag?: LoopLag;
    ledger?: Partial<LedgerPeer>;
    bus?: EventBus;
    adapters?: FakeAdapters;
  } = {},
): Promise<TestIngress> {
  const clock = options.clock ?? systemClock;
  const log = new KeptLog();
  const bus = options.bus ?? createMemoryBus({ clock, logger: log });
  const policy = new FakePolicy();
  const adapters = options.adapters ?? new FakeAdapters();
  const outbox = new FakeOutbox();
  const control = options.control ?? new FakeControl();
  const tracing = new KeptTracing();
  const metrics = createMetrics();
  const host = createIngress({
    config: createConfigSource(options.config ?? testConfig()),
    clock,
    random: new SeededRandom(7),
    logger: log,
    metrics,
    tracing,
    bus,
    policy,
    adapters,
    control: control as unknown as ControlPeer,
    ledger: { priceBook: () => Promise.resolve(testPriceBook()), ...options.ledger } as unknown as LedgerPeer,
    outbox,
    hasPeers: options.bus !== undefined,
    ...(options.loopLag ? { loopLag: options.loopLag } : {}),
    ingressId: "test",
  });
  await host.module.start();
  const { port } = host.address();
  return {
    host, port, policy, adapters, outbox, control, log, tracing, metrics, bus,
    url: `http://127.0.0.1:${port}`,
    stop: () => host.module.stop(),
  }; // prettier-ignore
}

/** A chat request's fields. */
export function chatBody(parts: Record<string, unknown> = {}): Record<string, unknown> {
  return { model: "chat", messages: [{ role: "user", content: "hello" }], ...parts };
}

/** Posts a chat request. */
export function postChat(
  ingress: TestIngress,
  body: unknown,
  init: { headers?: Record<string, string>; signal?: AbortSignal } = {},
): Promise<Response> {
  return fetch(`${ingress.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...init.headers },
    body: typeof body === "string" || body instanceof Uint8Array ? (body as string) : JSON.stringify(body),
    ...(init.signal ? { signal: init.signal } : {}),
  });
}
