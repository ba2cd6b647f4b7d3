import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { AttemptEnd } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { AttemptsCompletedSchema, LoadPublishedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import {
  type BackendHealth,
  BreakerState,
  type HealthSnapshot,
  HealthSnapshotSchema,
  HealthState,
} from "#gen/signalbox/health/v1/health_service_pb.ts";
import { createMemoryBus, SUBJECTS, subjectOf } from "#libs/bus/index.ts";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import type { Config } from "#libs/config/model.ts";
import { type Metrics, silentLogger } from "#libs/telemetry/index.ts";
import { createHttpProbe } from "./http-probe.ts";
import { createHealthMonitor } from "./module.ts";
import { configOf, failedEnd, FakeProbe, okEnd } from "./testkit.ts";

const family = { with: () => ({ add: () => {}, set: () => {}, observe: () => {} }) };
const metrics: Metrics = { counter: () => family, gauge: () => family, histogram: () => family, onScrape: () => {} };

/** A monitor in virtual time with its surroundings. */
class Bench {
  readonly clock = new FakeClock();
  readonly probe = new FakeProbe();
  readonly published: HealthSnapshot[] = [];
  readonly bus = createMemoryBus({ clock: this.clock, logger: silentLogger });
  readonly monitor;
  #sequence = 0n;
  #listener: (config: Config) => void = () => {};
  #config: Config;

  constructor(config: Config) {
    this.#config = config;
    const current = (): Config => this.#config;
    const source = {
      get current() {
        return current();
      },
      onChange: (listener: (config: Config) => void) => {
        this.#listener = listener;
        return () => {};
      },
    };
    this.bus.subscribe(SUBJECTS.healthPublished, (message) => this.published.push(fromBinary(HealthSnapshotSchema, message.payload)));
    this.monitor = createHealthMonitor({
      config: source,
      clock: this.clock,
      random: new SeededRandom(5),
      logger: silentLogger,
      metrics,
      bus: this.bus,
      probe: this.probe,
      monitorId: "monitor-1",
    });
  }

  async pass(ms: number): Promise<void> {
    await this.clock.advanceAsync(ms);
  }

  reload(config: Config): void {
    this.#config = config;
    this.#listener(config);
  }

  attempts(backend: string, ...ends: AttemptEnd[]): void {
    const message = create(AttemptsCompletedSchema, { attempts: ends.map((end) => ({ backend, end })) });
    this.bus.publish(SUBJECTS.attemptCompleted, toBinary(AttemptsCompletedSchema, message));
  }

  /** What a policy engine has learned of a backend's own pace: its decode ratio. */
  learned(engine: string, backend: string, decodeRatio: number, more: { structural?: boolean; samples?: number } = {}): void {
    this.#sequence++;
    const { structural = true, samples = 100 } = more;
    const load = { backend, decodeRatio, prefillRatio: 1, samples, structural };
    const message = create(LoadPublishedSchema, { engine, epoch: 1, sequence: this.#sequence, backends: [load] });
    this.bus.publish(subjectOf(SUBJECTS.loadPublished, engine), toBinary(LoadPublishedSchema, message));
  }

  /** The engines' heartbeats: which backends each has open. */
  votes(open: Readonly<Record<string, readonly string[]>>): void {
    this.#sequence++;
    for (const [engine, backends] of Object.entries(open)) {
      const loads = backends.map((backend) => ({ backend, breakerOpen: true }));
      const message = create(LoadPublishedSchema, { engine, epoch: 1, sequence: this.#sequence, backends: loads });
      this.bus.publish(subjectOf(SUBJECTS.loadPublished, engine), toBinary(LoadPublishedSchema, message));
    }
  }

  async health(backend: string): Promise<BackendHealth> {
    const { backends } = await this.monitor.snapshot();
    return backends.find((one) => one.backend === backend)!;
  }
}

async function started(config: Config): Promise<Bench> {
  const bench = new Bench(config);
  await bench.monitor.module.start();
  await bench.pass(500);
  return bench;
}

const POOL = { chat: ["a", "b", "c", "d"] };

test("a quiet fleet is healthy and said so every second; news are published within a quarter of one", async () => {
  const bench = await started(configOf(POOL));
  bench.published.length = 0;
  await bench.pass(10_000);
  assert.ok(bench.published.length >= 9 && bench.published.length <= 11, `${bench.published.length} in 10 s`);
  assert.ok(bench.published.every((snapshot) => snapshot.backends.every((one) => one.state === HealthState.HEALTHY && one.live)));
  assert.ok(bench.published.every((snapshot, index) => index === 0 || snapshot.revision > bench.published[index - 1]!.revision));
  const before = bench.published.length;
  bench.attempts("a", okEnd());
  await bench.pass(250);
  assert.equal(bench.published.length, before + 1);
});

test("one engine of two opening its breaker ejects nobody; the second makes it agreed; closing leads over probing to healthy", async () => {
  const bench = await started(configOf(POOL));
  bench.votes({ e1: ["a"], e2: [] });
  await bench.pass(300);
  assert.equal((await bench.health("a")).state, HealthState.HEALTHY);
  assert.match((await bench.health("a")).reason, /1 of 2/);
  bench.votes({ e1: ["a"], e2: ["a"] });
  await bench.pass(300);
  const ejected = await bench.health("a");
  assert.deepEqual([ejected.state, ejected.breaker], [HealthState.EJECTED, BreakerState.OPEN]);
  bench.votes({ e1: [], e2: [] });
  await bench.pass(300);
  const probing = await bench.health("a");
  assert.deepEqual([probing.state, probing.breaker], [HealthState.PROBING, BreakerState.HALF_OPEN]);
  bench.attempts("a", okEnd(), okEnd());
  await bench.pass(300);
  assert.equal((await bench.health("a")).state, HealthState.HEALTHY);
});

test("a dead backend is probed every second while a breaker is open, and its first answer frees it at once", async () => {
  const bench = await started(configOf(POOL));
  const url = "http://a:8000/health";
  const calm = bench.probe.count(url);
  await bench.pass(10_000);
  const perTenSeconds = bench.probe.count(url) - calm;
  assert.ok(perTenSeconds >= 2 && perTenSeconds <= 3, `${perTenSeconds} calls in 10 calm seconds`);
  bench.probe.answers.set(url, "dead");
  bench.votes({ e1: ["a"], e2: [] });
  await bench.pass(3_000);
  assert.equal((await bench.health("a")).state, HealthState.EJECTED);
  const urgent = bench.probe.count(url);
  bench.votes({ e1: ["a"], e2: [] });
  await bench.pass(5_000);
  const perFive = bench.probe.count(url) - urgent;
  assert.ok(perFive >= 4 && perFive <= 7, `${perFive} calls in 5 urgent seconds`);
  bench.probe.answers.delete(url);
  bench.votes({ e1: ["a"], e2: [] });
  await bench.pass(1_400);
  const back = await bench.health("a");
  assert.deepEqual([back.state, back.breaker, back.live], [HealthState.PROBING, BreakerState.HALF_OPEN, true]);
});

test("a failed liveness call alone degrades, it does not eject", async () => {
  const bench = await started(configOf(POOL));
  bench.probe.answers.set("http://b:8000/health", { status: 503, body: "" });
  await bench.pass(12_000);
  const health = await bench.health("b");
  assert.deepEqual([health.state, health.live], [HealthState.DEGRADED, false]);
});

test("gray failure: one of four turns ten times slower and is out within 10 s, comes back on trial, and does not flap", async () => {
  const bench = await started(configOf(POOL));
  const traffic = async (seconds: number, slow: number): Promise<void> => {
    for (let second = 0; second < seconds; second++) {
      for (const backend of POOL.chat) {
        if ((await bench.health(backend)).state === HealthState.EJECTED) continue;
        const ttftMs = backend === "c" ? 100 * slow : 100;
        bench.attempts(backend, ...Array.from({ length: 5 }, () => okEnd(ttftMs)));
      }
      await bench.pass(1_000);
    }
  };
  await traffic(60, 1);
  bench.published.length = 0;
  await traffic(10, 10);
  const ejected = bench.published.flatMap(({ backends }) => backends).filter((one) => one.state === HealthState.EJECTED);
  assert.ok(ejected.length > 0 && ejected.every((one) => one.backend === "c" && /times slower/.test(one.reason)));
  for (const other of ["a", "b", "d"]) assert.equal((await bench.health(other)).state, HealthState.HEALTHY);
  const before = (await bench.health("c")).changes;
  await traffic(60, 10);
  assert.ok((await bench.health("c")).changes - before <= 8n, "flaps");
  await traffic(120, 1);
  assert.equal((await bench.health("c")).state, HealthState.HEALTHY);
});

/** A minute at the usual pace, then `seconds` in which c is ten times slower while a policy engine reports `decodeRatio` of it. */
async function slowDown(decodeRatio: number, more: { structural?: boolean; samples?: number } = {}): Promise<HealthState> {
  const bench = await started(configOf(POOL));
  const traffic = async (seconds: number, slow: number, ratio: number): Promise<void> => {
    for (let second = 0; second < seconds; second++) {
      for (const backend of POOL.chat)
        bench.attempts(backend, ...Array.from({ length: 5 }, () => okEnd(backend === "c" ? 100 * slow : 100)));
      bench.learned("one", "c", ratio, more);
      await bench.pass(1_000);
    }
  };
  await traffic(60, 1, 1);
  await traffic(10, 10, decodeRatio);
  return (await bench.health("c")).state;
}

test("an engine that is slow for what it is sent is not held to be sick", async () => {
  // A flood kept from one engine filled another: ten times slower than the clear one, it was ejected, and the flood fell upon the rest.
  assert.equal(await slowDown(1.2), HealthState.HEALTHY);
});

test("an engine that is slow by itself too is ejected, and so is one of which nobody can tell", async () => {
  assert.equal(await slowDown(5), HealthState.EJECTED);
  assert.equal(await slowDown(10), HealthState.EJECTED, "as far as ratios are learned");
  assert.equal(await slowDown(1, { structural: false }), HealthState.EJECTED);
  assert.equal(await slowDown(1, { samples: 3 }), HealthState.EJECTED);
});

test("statistics never take more than half of a pool", async () => {
  const bench = await started(configOf(POOL));
  const stall = Array.from({ length: 3 }, () => failedEnd("UPSTREAM_TIMEOUT", { contentSeen: true }));
  for (const backend of POOL.chat) bench.attempts(backend, ...stall);
  await bench.pass(500);
  const { backends } = await bench.monitor.snapshot();
  assert.equal(backends.filter((one) => one.state === HealthState.EJECTED).length, 2);
});

test("gauges are scraped four times a second while there is work, once when not, and a counter that falls is a restart", async () => {
  const bench = await started(configOf({ chat: ["a"] }));
  const url = "http://a:8000/metrics";
  const text = (running: number, tokens: number): string =>
    `vllm:num_requests_running 3\nvllm:num_requests_running ${running}\nvllm:num_requests_waiting 1\nvllm:generation_tokens_total ${tokens}\n`;
  bench.probe.answers.set(url, { status: 200, body: text(2, 1000) });
  await bench.pass(31_000);
  assert.deepEqual([(await bench.health("a")).gauges?.running, (await bench.health("a")).gauges?.restarts], [5, 0]);
  const before = bench.probe.count(url);
  await bench.pass(10_000);
  const perTen = bench.probe.count(url) - before;
  assert.ok(perTen >= 30 && perTen <= 45, `${perTen} scrapes in 10 s`);
  bench.probe.answers.set(url, { status: 200, body: text(0, 10) });
  await bench.pass(1_000);
  assert.equal((await bench.health("a")).gauges?.restarts, 1);
  assert.equal((await bench.health("a")).gauges?.scrapedAtMs !== 0, true);
});

test("backends that share an endpoint share its calls, and no key is ever needed", async () => {
  const config = configOf({ chat: ["x", "y"] }, { provider: "openai", url: "https://api.example/v1", metrics: undefined });
  const bench = new Bench(config);
  bench.probe.answers.set("https://api.example/v1/models", { status: 401, body: "" });
  await bench.monitor.module.start();
  await bench.pass(500);
  assert.deepEqual(bench.probe.calls, ["https://api.example/v1/models"]);
  assert.equal((await bench.health("y")).live, true);
});

test("a reload adds and drops backends and keeps what is known of the rest; unreadable messages are ignored", async () => {
  const bench = await started(configOf(POOL));
  bench.attempts("a", okEnd());
  await bench.pass(250);
  bench.reload(configOf({ chat: ["a", "new"] }));
  bench.bus.publish(SUBJECTS.attemptCompleted, Uint8Array.of(255, 255, 255));
  bench.bus.publish(subjectOf(SUBJECTS.loadPublished, "e"), Uint8Array.of(10));
  await bench.pass(500);
  const { backends } = await bench.monitor.snapshot();
  assert.deepEqual(
    backends.map((one) => [one.backend, one.attempts]),
    [
      ["a", 1],
      ["new", 0],
    ],
  );
  await bench.monitor.module.stop();
  const { length } = bench.published;
  await bench.pass(5_000);
  assert.equal(bench.published.length, length);
});

test("the HTTP probe reads answers, and gives up on silence and on refusal", async () => {
  const server = createServer((request, response) => {
    if (request.url === "/silent") return;
    response.statusCode = 503;
    response.end("loading");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const probe = createHttpProbe();
  assert.deepEqual(await probe.get(`http://127.0.0.1:${port}/health`, 2_000), { status: 503, body: "loading" });
  await probe.connect("127.0.0.1", port, 2_000);
  await assert.rejects(probe.get(`http://127.0.0.1:${port}/silent`, 50));
  probe.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await assert.rejects(probe.get(`http://127.0.0.1:${port}/health`, 2_000));
  await assert.rejects(probe.connect("127.0.0.1", port, 2_000));
});
