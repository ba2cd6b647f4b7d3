import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { type Config, type ExperimentConfig, Secret } from "#libs/config/index.ts";
import { backend, book, config, DONE, ended, failed, model, report, request, STARTED, world } from "./fixture.ts";
import { readBlock } from "./record-blocks.ts";
import { type RecordPort, StoredRecords } from "./records-file.ts";
import { decodePolicy, encodePolicy } from "./recorded-policy.ts";
import { type PolicyChange, WhatIf, type WhatIfReport } from "./what-if.ts";

class MemoryPort implements RecordPort {
  readonly kept: Uint8Array[] = [];
  readonly policies = new Map<string, Uint8Array>();
  append(block: Uint8Array): void {
    this.kept.push(block);
  }
  async *blocks(): AsyncIterable<Uint8Array> {
    yield* this.kept.toReversed();
  }
  keepPolicy(name: string, policy: Uint8Array): void {
    this.policies.set(name, policy);
  }
}

const NAMES = ["gpu-a", "gpu-b", "cloud", "small"];

const EXPERIMENT: ExperimentConfig = {
  name: "cheap",
  model: "chat",
  unit: "user",
  layer: "chat",
  arms: new Map([
    ["control", { weight: 0.8, backends: undefined, request: undefined }],
    ["b", { weight: 0.2, backends: ["gpu-b"], request: undefined }],
  ]),
  guards: { errorRate: undefined, ttft: undefined, cost: undefined, quality: undefined, action: "rollback" },
  shareShadow: 0,
  shadowBudgetNanoUsd: 0n,
  steps: [],
  judge: undefined,
};

function policy(): Config {
  const backends = [
    backend("gpu-a", { concurrency: { mode: "fixed", min: 8, max: 8 } }),
    backend("gpu-b"),
    backend("cloud"),
    backend("small", { contextTokens: 600 }),
  ];
  const models = [model("chat", NAMES, { aliases: ["gpt"] }), model("other", ["cloud", "small"], { sla: SLA })];
  return config(backends, models, { experiments: new Map([["cheap", EXPERIMENT]]) });
}

const SLA = { ttftMs: 300, tpotMs: undefined, deadlineMs: undefined };

const PRICES = book({
  "gpu-a": { input: 100, output: 400 },
  "gpu-b": { input: 50, output: 200 },
  cloud: { input: 1_000, output: 4_000 },
  small: { input: 300, output: 900 },
});

/** Ordinary and troubled traffic in bursts and lulls, an hour of it with 4,000 requests, recorded. */
async function recorded(requests: number): Promise<MemoryPort> {
  const port = new MemoryPort();
  let records: StoredRecords | undefined;
  const scene = await world(policy(), PRICES, 3, (clock) => (records = new StoredRecords(port, clock)));
  const random = new SeededRandom(17);
  const open: string[] = [];
  for (let count = 0; count < requests; count++) {
    const asked = request(["chat", "gpt", "other", "nobody"][random.int(20) === 0 ? 3 : random.int(3)]!, {
      unit: `user-${random.int(300)}`,
      inputTokens: 100 + random.int(2_000),
      stream: random.next() < 0.5,
    });
    const { decision } = scene.session.decide(asked);
    if (!(decision instanceof Promise) && decision.result.case === "allow") {
      const { backend: first } = decision.result.value.candidates[0]!;
      scene.session.report(report(asked.decisionId, first, STARTED));
      const ill = first === "cloud" && count % 500 > 400;
      const end = ill ? failed("UPSTREAM_UNAVAILABLE") : ended({ ttftMs: 50 + random.int(400), durationMs: 900, outputTokens: 40 });
      scene.session.report(report(asked.decisionId, first, { case: "ended", value: end }));
      open.push(asked.decisionId);
    }
    if (open.length > 20) scene.session.report(report(open.shift()!, "", DONE));
    await scene.clock.advanceAsync(random.int(count % 400 < 200 ? 60 : 3_600));
  }
  assert.ok(requests < 4_000 || scene.clock.monotonicMs() > 3_600_000, `${scene.clock.monotonicMs()} ms`);
  await scene.clock.advanceAsync(3_000);
  records!.close();
  return port;
}

function replayed(port: MemoryPort, change: Partial<PolicyChange> = {}): WhatIfReport {
  const policies = (name: string): ReturnType<typeof decodePolicy> => {
    const stored = port.policies.get(name);
    return stored && decodePolicy(stored);
  };
  const whatIf = new WhatIf(policies, { weights: new Map(), without: new Set(), ...change });
  for (const block of port.kept) for (const record of readBlock(block)) whatIf.take(record);
  return whatIf.report;
}

test("the policy that decided decides again exactly as recorded, and another one shows what it changes", async (t) => {
  const port = await recorded(4_000);
  const same = replayed(port);
  t.diagnostic(`${same.records} records, ${same.replayed} replayed, ${same.same} the same, ${JSON.stringify([...same.left])}`);
  assert.equal(same.same, same.replayed);
  assert.ok(same.replayed > 3_500);
  assert.deepEqual([...same.left.keys()], ["refused before any backend was looked at"]);
  assert.deepEqual(same.after, same.before);

  const half = replayed(port, { weights: new Map([["cheap", new Map([["b", 0.5]])]]) });
  const share = (sums: typeof half.before): number => (sums.arms.get("cheap=b") ?? 0) / same.replayed;
  assert.ok(share(half.before) > 0.1 && share(half.before) < 0.2, `${share(half.before)}`);
  assert.ok(share(half.after) > 0.25 && share(half.after) < 0.42, `${share(half.after)}`);
  assert.ok(half.after.costNanoUsd < half.before.costNanoUsd, "gpu-b is the cheaper one");
  assert.ok(half.same < half.replayed && half.same > half.replayed / 2);

  const without = replayed(port, { without: new Set(["gpu-a"]) });
  assert.equal(without.after.backends.get("gpu-a"), undefined);
  assert.ok(without.after.costNanoUsd > without.before.costNanoUsd);

  const others = { ...policy(), models: new Map([...policy().models].map(([name, each]) => [name, { ...each, candidates: ["cloud"] }])) };
  const moved = replayed(port, { config: { ...others, experiments: new Map() } });
  assert.deepEqual([...moved.after.backends.keys()], ["cloud"]);
});

test("decisions whose policy is gone are counted, not guessed", async () => {
  const port = await recorded(50);
  port.policies.clear();
  const report = replayed(port);
  assert.equal(report.replayed, 0);
  assert.ok((report.left.get("the policy they were made under is gone") ?? 0) > 30);
});

test("a recorded policy comes back whole and without secrets", () => {
  const secret = Secret.of("sk-very-secret");
  const full = { ...policy(), backends: new Map([["gpu-a", backend("gpu-a", { key: secret })]]) };
  const stored = encodePolicy(full, undefined);
  assert.equal(Buffer.from(stored).includes("very-secret"), false);
  const back = decodePolicy(stored)!;
  assert.deepEqual([...back.config.models.keys()], [...full.models.keys()]);
  assert.deepEqual(Buffer.from(encodePolicy(back.config, undefined)), Buffer.from(stored));
  assert.equal(decodePolicy(Buffer.from("{}")), undefined);
});
