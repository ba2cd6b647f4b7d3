import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { after, before, test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { startGateway, type EntryLine, type Gateway, type TopologyName } from "../support/gateway.ts";
import { reconcile, type ReconcilePrice } from "../support/reconcile.ts";
import { attemptsSeen, HeldTime, simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

/** FIN and RST close the connection; a frozen client stays connected and never takes a byte again. */
type Way = "FIN" | "RST" | "frozen";
const WAYS: readonly Way[] = ["FIN", "RST", "frozen"];

/** How much of it. */
export interface VanishScale {
  readonly topology: TopologyName;
  readonly clients: number;
  /** Clients at once. */
  readonly concurrency: number;
  /** Longest time between a client's going and the end of its upstream call, 99th percentile, ms; undefined = measured only. */
  readonly p99Ms?: number;
}

/** A client that went. */
interface Gone {
  readonly requestId: string;
  readonly way: Way;
  readonly atMs: number;
}

/** An answer takes about this long, ms: clients go at any moment of it, and some only after it. */
const ANSWER_MS = 700;
/** How long a client that reads nothing is suffered here. */
const READER_TIMEOUT = "500ms";
/** Clients of the backend that takes two at once. */
const QUEUED = 40;
const SLOTS = 2;
/** Answers of frozen clients that the system's own buffers cannot hold: tokens, each an event of some 200 bytes. */
const HUGE_TOKENS = 60_000;
const HUGE_CLIENTS = 3;
const LOOK_MS = 20;
const QUIET_LOOKS = 10;
const SETTLE_MS = 60_000;
const COSTS: Readonly<Record<string, number>> = { a: 1, b: 1.04, narrow: 1.5, huge: 2 };

/** B11: clients vanish at a random moment; upstream ends with them, who waits is never dispatched, and the books agree with the bill. */
export function vanishSuite({ topology, clients, concurrency, p99Ms }: VanishScale): void {
  let gateway: Gateway;
  let simulation: Simulation;
  /** The backend that takes two at once, in a time of its own: it answers nobody before all that should have left have left. */
  let queue: Simulation;
  const queueTime = new HeldTime();

  before(async () => {
    const cloud = { kind: "cloud", ttftMs: 80, ttftSigma: 0.4, itlMs: 6, itlSigma: 0.3 } as const;
    const huge = simulatedBackend("huge", "openai", COSTS["huge"]!);
    simulation = await startSimulation([
      simulatedBackend("a", "openai", COSTS["a"]!, cloud),
      simulatedBackend("b", "openai", COSTS["b"]!, cloud),
      { ...huge, profile: { ...huge.profile, maxOutputTokens: HUGE_TOKENS } },
    ]);
    queue = await startSimulation([simulatedBackend("narrow", "openai", COSTS["narrow"]!, cloud)], 2, queueTime.clock);
    const narrow = { ...(queue.backends["narrow"] as object), concurrency: { mode: "fixed", max: SLOTS } };
    gateway = await startGateway({
      topology,
      scale: { adapterAnthropic: 0 },
      config: {
        server: { drain: { delay: "0s", grace: "5s" }, api: { reader_timeout: READER_TIMEOUT } },
        backends: { ...simulation.backends, narrow },
        classes: { standard: { max_wait: "300s" } },
        models: { chat: { candidates: ["a", "b"] }, queued: { candidates: ["narrow"] }, huge: { candidates: ["huge"] } },
      },
    });
  });

  after(async () => {
    await gateway?.stop();
    await simulation?.stop();
    await queue?.stop();
  });

  test(`${topology}: ${clients} clients vanish at a random moment: upstream ends with them, ledger = invoice`, async (t) => {
    const random = new SeededRandom(11);
    const gone: Gone[] = [];
    const frozen: Socket[] = [];
    // How late this process itself was: clients and providers live in it, and see nothing sooner.
    const lag = monitorEventLoopDelay({ resolution: 5 });
    lag.enable();
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let index = next++; index < clients; index = next++) {
        const way = WAYS[index % WAYS.length]!;
        const requestId = `gone-${index}`;
        const socket = await ask(gateway.api, requestId, "chat", index % 2 === 1, 40 + random.int(60));
        await sleep(random.next() * ANSWER_MS);
        gone.push({ requestId, way, atMs: Date.now() });
        leave(socket, way);
        if (way === "frozen") frozen.push(socket);
      }
    };
    await Promise.all(Array.from({ length: concurrency }, worker));
    lag.disable();
    const entries = await settled();
    for (const socket of frozen) socket.destroy();
    judge(entries);
    const late = lateness(gone, entries);
    t.diagnostic(
      `${clients} clients gone (FIN, RST, frozen a third each), ${late.length} upstream calls were running when FIN or RST came: ` +
        `ended after p50 ${quantile(late, 0.5)} ms, p99 ${quantile(late, 0.99)} ms, at most ${quantile(late, 1)} ms ` +
        `(this process was late by p50 ${Math.round(lag.percentile(50) / 1e6)} ms, p99 ${Math.round(lag.percentile(99) / 1e6)} ms); ${entries.length} entries, ` +
        `${entries.filter(({ estimated }) => estimated).length} estimated; output tokens off in streams by ${offBy(entries, true)}, in whole answers by ${offBy(entries, false)}`,
    );
    assert.ok(late.length >= clients / 4, `only ${late.length} calls were running`);
    if (p99Ms !== undefined) assert.ok(quantile(late, 0.99) <= p99Ms, `p99 ${quantile(late, 0.99)} ms`);
  });

  test(`${topology}: clients that vanish while they are queued are never dispatched`, async (t) => {
    const sockets: Socket[] = [];
    for (let index = 0; index < SLOTS; index++) sockets.push(await ask(gateway.api, `queued-${index}`, "queued", index % 2 === 1, 8));
    while (attemptsSeen(queue) < SLOTS) await sleep(LOOK_MS);
    for (let index = SLOTS; index < QUEUED; index++) sockets.push(await ask(gateway.api, `queued-${index}`, "queued", index % 2 === 1, 8));
    while ((await waitingNow()) < QUEUED - SLOTS) await sleep(LOOK_MS);
    const [first, second, ...waiting] = sockets;
    // One that stays shows that the queue still moves when all others have left it.
    const answer = once(waiting.at(-1)!, "data");
    for (const [index, socket] of waiting.slice(0, -1).entries()) leave(socket, index % 2 === 0 ? "FIN" : "RST");
    while ((await waitingNow()) > 1) await sleep(LOOK_MS);
    const running = [once(first!, "end"), once(second!, "end")];
    for (const socket of [first!, second!]) socket.resume();
    await queueTime.letGoFor(Promise.all([...running, answer]));
    const entries = await queueTime.letGoFor(settled());
    judge(entries);
    const dispatched = entries.filter(({ request_id }) => request_id.startsWith("queued-"));
    t.diagnostic(`${QUEUED} on ${SLOTS} places, ${waiting.length - 1} gone while queued: ${dispatched.length} dispatched`);
    assert.deepEqual(dispatched.map(({ request_id }) => request_id).toSorted(), ["queued-0", "queued-1", `queued-${QUEUED - 1}`]);
    for (const socket of sockets) socket.destroy();
  });

  test(`${topology}: clients that stay connected and read nothing are cut off, and upstream with them`, async (t) => {
    const before = attemptsSeen(simulation);
    const sockets = await Promise.all(
      Array.from({ length: HUGE_CLIENTS }, (_, index) => ask(gateway.api, `frozen-${index}`, "huge", true, HUGE_TOKENS)),
    );
    for (const socket of sockets) leave(socket, "frozen");
    while (attemptsSeen(simulation) - before < HUGE_CLIENTS) await sleep(LOOK_MS);
    const entries = await settled();
    judge(entries);
    const cut = entries.filter(({ request_id }) => request_id.startsWith("frozen-"));
    t.diagnostic(
      `${cut.length} readers without an end: cut after ${cut.map(({ output_tokens }) => output_tokens).join(", ")} of ${HUGE_TOKENS} tokens`,
    );
    assert.deepEqual(
      cut.map(({ outcome }) => outcome),
      Array.from({ length: HUGE_CLIENTS }, () => "canceled"),
    );
    for (const socket of sockets) socket.destroy();
  });

  /** Requests in the policy engine's queue. */
  async function waitingNow(): Promise<number> {
    const admin = gateway.mesh?.url("policy-engine", "admin") ?? gateway.admin;
    const metrics = await (await fetch(`${admin}/metrics`)).text();
    return Array.from(metrics.matchAll(/^signalbox_queue_depth\{.*\} (\d+)$/gm), ([, depth]) => Number(depth)).reduce((a, b) => a + b, 0);
  }

  /** All entries, once every call has ended upstream and in the books. */
  async function settled(): Promise<readonly EntryLine[]> {
    const started = performance.now();
    const open = (): number =>
      [simulation, queue]
        .flatMap(({ simulator }) => simulator.profiles.map(({ name }) => simulator.load(name)))
        .reduce((sum, { running, waiting }) => sum + running + waiting, 0);
    let entries = await gateway.entries();
    // What was sent last may still be on its way to a provider: it is over when it has been so for some looks.
    for (let quiet = 0; quiet < QUIET_LOOKS && performance.now() - started < SETTLE_MS;) {
      await sleep(LOOK_MS);
      entries = await gateway.entries();
      quiet = open() > 0 || entries.length < attemptsSeen(simulation) + attemptsSeen(queue) ? 0 : quiet + 1;
    }
    return entries;
  }

  function judge(entries: readonly EntryLine[]): void {
    const prices = new Map<string, ReconcilePrice>(
      Object.entries(COSTS).map(([name, cost]) => [name, { input: cost, cacheRead: cost / 10, cacheWrite: cost * 1.25, output: cost * 4 }]),
    );
    const { lost, duplicate, wrong, unmarked } = reconcile(
      [...simulation.simulator.invoice(), ...queue.simulator.invoice()],
      entries,
      prices,
    );
    // A client may go while the provider states its usage, and nobody listens any more: such an entry is an estimate and says so.
    const estimates = new Set(entries.filter(({ estimated }) => estimated).map(({ attempt_id }) => attempt_id));
    const different = wrong.filter((line) => !estimates.has(line.split(" ")[0]!));
    assert.deepEqual({ lost, duplicate, different, unmarked }, { lost: [], duplicate: [], different: [], unmarked: [] });
    const beyond = entries.filter(
      ({ estimated, cost_nano_usd, reserved_nano_usd }) => estimated && BigInt(cost_nano_usd) > BigInt(reserved_nano_usd),
    );
    assert.deepEqual(beyond, [], "estimates beyond what was reserved");
  }

  /** By how many tokens the output of estimates differs from what the provider really made: of a whole answer we see none of them. */
  function offBy(entries: readonly EntryLine[], ofStreams: boolean): string {
    const lines = simulation.simulator.invoice().filter(({ stream }) => stream === ofStreams);
    const made = new Map(lines.map((line) => [line.client_request_id, line.output_tokens]));
    const off = entries
      .filter(({ estimated, attempt_id }) => estimated && made.has(attempt_id))
      .map(({ attempt_id, output_tokens }) => Math.abs(Number(output_tokens) - made.get(attempt_id)!))
      .toSorted((a, b) => a - b);
    return off.length === 0 ? "none" : `p50 ${quantile(off, 0.5)}, p90 ${quantile(off, 0.9)}, at most ${quantile(off, 1)} (${off.length})`;
  }

  /** For each client that closed while its call ran upstream: ms until the simulator saw the call end. */
  function lateness(gone: readonly Gone[], entries: readonly EntryLine[]): number[] {
    const attempts = new Map(entries.map((entry) => [entry.attempt_id, entry.request_id]));
    const ends = new Map<string, number>();
    for (const line of simulation.simulator.invoice()) {
      const requestId = attempts.get(line.client_request_id);
      if (requestId !== undefined) ends.set(requestId, Math.max(ends.get(requestId) ?? 0, line.at_ms));
    }
    return gone
      .filter(({ way }) => way !== "frozen")
      .map(({ requestId, atMs }) => (ends.get(requestId) ?? 0) - atMs)
      .filter((ms) => ms >= 0)
      .toSorted((a, b) => a - b);
  }
}

/** Sends one request on a connection of its own and reads nothing yet. */
async function ask(api: string, requestId: string, model: string, stream: boolean, tokens: number): Promise<Socket> {
  const { hostname, port } = new URL(api);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => {});
  await once(socket, "connect");
  const body = JSON.stringify({
    model,
    stream,
    max_tokens: tokens,
    messages: [{ role: "user", content: `[sim tokens=${tokens}] are you there` }],
  });
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: ${hostname}\r\nconnection: close\r\ncontent-type: application/json\r\n` +
      `x-request-id: ${requestId}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  return socket;
}

function leave(socket: Socket, way: Way): void {
  switch (way) {
    case "FIN":
      socket.resume();
      return void socket.end();
    case "RST":
      return void socket.resetAndDestroy();
    case "frozen":
      return void socket.pause();
  }
}

function quantile(sorted: readonly number[], share: number): number {
  return Math.round(sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(sorted.length * share) - 1))] ?? Number.NaN);
}
