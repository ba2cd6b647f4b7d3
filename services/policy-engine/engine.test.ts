import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { CAPABILITY_BITS } from "#libs/capability/index.ts";
import { type CapabilityName, CAPABILITY_NAMES, type Config } from "#libs/config/index.ts";
import { compilePriceBook, upperBound } from "#libs/money/index.ts";
import { type DecideRequest, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { Engine } from "./engine.ts";
import { backend, book, config, model, request } from "./fixture.ts";
import { recordOf } from "./records.ts";
import { replay } from "./replay.ts";
import { compileSnapshot, type PolicySnapshot } from "./snapshot.ts";
import { type BackendState, EngineState } from "./state.ts";

/** Cases in all, and requests asked of one drawn policy and state. */
const CASES = 100_000;
const REQUESTS_PER_WORLD = 200;
const NOW = { monoMs: 1_000_000, wallMs: 1_790_000_000_000 };

/** Draws policies, states and requests from one seed. */
class Drawer {
  readonly random: SeededRandom;
  constructor(seed: number) {
    this.random = new SeededRandom(seed);
  }
  chance(share: number): boolean {
    return this.random.next() < share;
  }
  one<T>(values: readonly T[]): T {
    return values[this.random.int(values.length)]!;
  }
  some<T>(values: readonly T[], share: number): T[] {
    return values.filter(() => this.chance(share));
  }

  config(): Config {
    const names = Array.from({ length: 1 + this.random.int(12) }, (_, index) => `b${index}`);
    const backends = names.map((name) =>
      backend(name, {
        provider: this.one(["vllm", "openai", "anthropic", "llamacpp"] as const),
        capabilities: new Set(this.some(CAPABILITY_NAMES, 0.7)),
        contextTokens: this.one([2_000, 8_000, 128_000]),
        labels: new Map(this.chance(0.7) ? [["residency", this.one(["eu", "us"])]] : []),
        limits: { rpm: this.chance(0.2) ? 1 + this.random.int(5) : undefined, tpm: undefined },
        concurrency: { mode: "fixed", min: 1, max: 1 + this.random.int(8) },
      }),
    );
    const requires: ReadonlySet<CapabilityName> = new Set(this.some(CAPABILITY_NAMES, 0.05));
    return config(
      backends,
      [model("m", this.some(names, 0.9), { class: this.one(["interactive", "standard", "batch"] as const), requires })],
      {
        rules: [
          { name: "eu", when: 'tags.region == "eu"', require: new Map([["residency", "eu"]]), exclude: [], class: undefined },
          { name: "long", when: "request.input_tokens > 3k", require: new Map(), exclude: ["b0", "b1"], class: "batch" },
        ],
      },
    );
  }

  snapshot(): PolicySnapshot {
    const drawn = this.config();
    const names = [...drawn.backends.keys()];
    const priced = this.some(names, 0.9).map(
      (name) =>
        [
          name,
          this.chance(0.5) ? { rent: 1 + this.random.next() } : { input: 5 * this.random.next(), output: 20 * this.random.next() },
        ] as const,
    );
    const prices = { ...book(Object.fromEntries(priced)), onUnknown: this.one(["reject", "allow_unpriced"]) };
    const drained = this.some(names, 0.1);
    return compileSnapshot(drawn, { drainedBackends: drained, keys: [] } as never, compilePriceBook(prices));
  }

  disturb(state: BackendState): void {
    state.inFlight = this.random.int(6);
    state.contextTokens = this.random.int(50_000);
    state.prefillTokens = this.random.int(20_000);
    state.decodeRatio = 0.2 + 4 * this.random.next();
    state.prefillRatio = 0.2 + 4 * this.random.next();
    state.samples = this.random.int(60);
    state.learnedAtMs = NOW.monoMs - this.random.int(100_000);
    state.degraded = this.chance(0.1);
    state.ejected = this.chance(0.1);
    state.healthAtMs = NOW.monoMs - this.random.int(20_000);
    state.kvCapacityTokens = this.chance(0.5) ? 60_000 : 0;
    if (this.chance(0.1)) state.rates.block(this.random.int(10_000), NOW.monoMs);
    for (let count = this.random.int(20); count > 0; count--) state.rates.take(10, NOW.monoMs);
    if (this.chance(0.3))
      for (let count = 0; count < 5; count++) state.breaker.on({ kind: "failure" }, NOW.monoMs - this.random.int(6_000), this.random);
    if (state.breaker.state(NOW.monoMs).kind === "half_open" && this.chance(0.5)) state.breaker.admit(NOW.monoMs);
  }

  request(snapshot: PolicySnapshot): DecideRequest {
    const bits = this.some(Object.values(CAPABILITY_BITS), 0.06);
    return request("m", {
      needs: bits.reduce((mask, bit) => mask | (1 << bit), 0),
      inputTokens: this.one([10, 500, 1_900, 3_500, 7_500, 100_000]),
      maxOutputTokens: this.one([0, 0, 100, 4_000]),
      stream: this.chance(0.5),
      requestClass: this.random.int(5) as RequestClass,
      tags: this.chance(0.3) ? { region: this.one(["eu", "us"]) } : {},
      maxCostNanoUsd: this.chance(0.2) ? BigInt(this.random.int(5_000_000)) : 0n,
      exclude: this.some([...snapshot.indexOf.keys()], 0.05),
    });
  }
}

/** The hard constraints, written again without the engine's arrays. Returns what a candidate violates. */
function violation(name: string, asked: DecideRequest, snapshot: PolicySnapshot, state: EngineState): string | undefined {
  const index = snapshot.indexOf.get(name)!;
  const { config: facts } = snapshot.backends[index]!;
  const backendState = state.backends[index]!;
  const required = snapshot.models.get(asked.model)!.requires | asked.needs;
  for (const [capability, bit] of Object.entries(CAPABILITY_BITS)) {
    if ((required & (1 << bit)) !== 0 && !facts.capabilities.has(capability as CapabilityName)) return capability;
  }
  // Embeddings hold many inputs, each with a context of its own.
  const hasOneContext = (required & (1 << CAPABILITY_BITS.embeddings)) === 0;
  if (hasOneContext && Math.ceil(asked.inputTokens * 1.1) + Math.max(1, asked.maxOutputTokens) > facts.contextTokens) return "context";
  if (asked.tags["region"] === "eu" && facts.labels.get("residency") !== "eu") return "residency";
  if (asked.tags["region"] !== "eu" && asked.inputTokens > 3_000 && (name === "b0" || name === "b1")) return "rule";
  if (asked.exclude.includes(name)) return "tried";
  if (snapshot.drained[index] === 1) return "drain";
  if (backendState.ejected && NOW.monoMs - backendState.healthAtMs < 10_000 && backendState.breaker.state(NOW.monoMs).kind === "closed")
    return "ejected";
  if (backendState.rates.waitMs(asked.inputTokens, NOW.monoMs) > 0) return "rate limit";
  const priced = upperBound(snapshot.prices, name, 1, 1, NOW.wallMs) !== undefined;
  if (!priced && snapshot.prices.onUnknown === "reject") return "price";
  return undefined;
}

test("a hundred thousand random cases break no hard constraint, and each decision is made again from its record", () => {
  const seed = 20_260_921;
  const drawer = new Drawer(seed);
  const engine = new Engine("e");
  const counts = { allow: 0, deny: 0, wait: 0 };
  for (let done = 0; done < CASES; done += REQUESTS_PER_WORLD) {
    const snapshot = drawer.snapshot();
    const state = new EngineState(snapshot, 0);
    for (const each of state.backends) drawer.disturb(each);
    state.loadsStale = drawer.chance(0.3);
    const configured = Array.from(snapshot.models.get("m")!.candidates, (index) => snapshot.backends[index]!.name);
    for (let count = 0; count < REQUESTS_PER_WORLD; count++) {
      const asked = drawer.request(snapshot);
      const options = { seed: drawer.random.int(2 ** 32), explain: true, live: drawer.chance(0.7), lift: drawer.chance(0.1) ? 1 : 0 };
      const verdict = engine.decide(asked, snapshot, state, NOW, options);
      if (verdict.kind === "wait") {
        counts.wait++;
        continue;
      }
      const { decision } = verdict.evidence;
      if (count % 20 === 0) {
        const again = engine.decide(asked, snapshot, state, NOW, options);
        assert.deepEqual(again.kind === "decided" && again.evidence.decision, decision, `seed ${seed}: not a function of its arguments`);
      }
      if (decision.result.case !== "allow") {
        counts.deny++;
        assert.ok(decision.result.case === "deny" && decision.result.value.reason !== "");
        continue;
      }
      counts.allow++;
      const { candidates } = decision.result.value;
      assert.equal(new Set(candidates.map((each) => each.backend)).size, candidates.length);
      for (const candidate of candidates) {
        assert.equal(
          violation(candidate.backend, asked, snapshot, state),
          undefined,
          `seed ${seed}, ${asked.decisionId}: ${candidate.backend}`,
        );
        const breaker = state.byName(candidate.backend)!.breaker.state(NOW.monoMs);
        assert.ok(
          breaker.kind === "closed" || (candidate.standing === "trial" && candidate === candidates[0]),
          `${candidate.backend} is ${breaker.kind}`,
        );
        assert.ok(Number.isFinite(candidate.score) && candidate.predictedTtftMs > 0 && candidate.costNanoUsd >= 0n);
      }
      for (const candidate of decision.excluded) assert.ok(candidate.excluded!.requirement !== "" && candidate.excluded!.detail !== "");
      assert.equal(candidates.length + decision.excluded.length, configured.length, "every candidate is accounted for");
      const order = replay(recordOf(verdict.evidence), configured, options.live);
      assert.deepEqual(
        order,
        candidates.map((each) => each.backend),
        `seed ${seed}, ${asked.decisionId}: replay differs`,
      );
    }
  }
  console.log(`# ${JSON.stringify(counts)}`);
  assert.ok(counts.allow > CASES / 10 && counts.deny > CASES / 10 && counts.wait > CASES / 200, JSON.stringify(counts));
});

function soleDenial(parts: Parameters<typeof backend>[1], asked: DecideRequest, prepare: (state: BackendState) => void = () => {}): string {
  const snapshot = compileSnapshot(
    config([backend("a", parts)], [model("m", ["a"])]),
    undefined,
    compilePriceBook(book({ a: { input: 1_000, output: 1_000 } })),
  );
  const state = new EngineState(snapshot, 0);
  prepare(state.backends[0]!);
  const verdict = new Engine("e").decide(asked, snapshot, state, NOW, { seed: 1, explain: false, live: true, lift: 0 });
  assert.ok(verdict.kind === "decided" && verdict.evidence.decision.result.case === "deny");
  const { reason } = verdict.evidence.decision.result.value;
  return `${reason} ${verdict.evidence.decision.excluded[0]?.excluded?.requirement}`;
}

test("an empty set is judged by capability, context, cost, rate limit and health, in that order", () => {
  const sick = (state: BackendState): void => {
    for (let count = 0; count < 5; count++) state.breaker.on({ kind: "failure" }, NOW.monoMs, new SeededRandom(1));
  };
  const limitedAndSick = (state: BackendState): void => {
    sick(state);
    state.rates.block(5_000, NOW.monoMs);
  };
  assert.equal(soleDenial({ capabilities: new Set() }, request("m", { needs: 1 }), limitedAndSick), "NO_CAPABLE_BACKEND tools");
  assert.equal(soleDenial({ contextTokens: 100 }, request("m"), limitedAndSick), "NO_CAPABLE_BACKEND context");
  assert.equal(soleDenial({}, request("m", { maxCostNanoUsd: 1n }), limitedAndSick), "NO_CAPABLE_BACKEND cost");
  assert.equal(soleDenial({}, request("m"), limitedAndSick), "UPSTREAM_RATE_LIMITED rate_limit");
  assert.equal(soleDenial({}, request("m"), sick), "NO_BACKEND health");
});

test("who does not fit a context hears of the estimate, and of the answer where it is limited", () => {
  const snapshot = compileSnapshot(
    config([backend("a", { contextTokens: 1_000 })], [model("m", ["a"])]),
    undefined,
    compilePriceBook(book({ a: { input: 1, output: 1 } })),
  );
  const detailOf = (asked: DecideRequest): string | undefined => {
    const options = { seed: 1, explain: true, live: false, lift: 0 };
    const verdict = new Engine("e").decide(asked, snapshot, new EngineState(snapshot, 0), NOW, options);
    assert.ok(verdict.kind === "decided");
    return verdict.evidence.decision.excluded[0]?.excluded?.detail;
  };
  assert.equal(detailOf(request("m", { inputTokens: 950 })), "about 950 prompt tokens (10 % to spare) do not fit its 1000");
  assert.equal(
    detailOf(request("m", { inputTokens: 500, maxOutputTokens: 600 })),
    "about 500 prompt tokens (10 % to spare) and 600 for the answer do not fit its 1000",
  );
});

test("time-outs adapt only while another candidate can take over, and answers in one piece get their generation time", () => {
  const snapshot = compileSnapshot(
    config([backend("a"), backend("b")], [model("m", ["a", "b"]), model("one", ["a"])]),
    undefined,
    compilePriceBook(book({})),
  );
  const state = new EngineState(snapshot, 0);
  const first = (asked: DecideRequest): number => {
    const verdict = new Engine("e").decide(asked, snapshot, state, NOW, { seed: 1, explain: false, live: true, lift: 0 });
    assert.ok(verdict.kind === "decided" && verdict.evidence.decision.result.case === "allow");
    return verdict.evidence.decision.result.value.candidates[0]!.firstTokenTimeoutMs;
  };
  assert.equal(first(request("m")), 3 * 900);
  assert.equal(first(request("one")), 30_000);
  assert.equal(first(request("one", { stream: false, maxOutputTokens: 100 })), 30_000 + 100 * 12);
});

test("an engine that takes a priority is told the class, lower first; others are told nothing", () => {
  const snapshot = compileSnapshot(
    config([backend("told", { enginePriority: true }), backend("plain")], [model("told-only", ["told"]), model("plain-only", ["plain"])]),
    undefined,
    compilePriceBook(book({})),
  );
  const state = new EngineState(snapshot, 0);
  const of = (name: string, requestClass: RequestClass): readonly [number, boolean] => {
    const options = { seed: 1, explain: false, live: true, lift: 0 };
    const verdict = new Engine("e").decide(request(name, { requestClass }), snapshot, state, NOW, options);
    assert.ok(verdict.kind === "decided" && verdict.evidence.decision.result.case === "allow");
    const { enginePriority, enginePrioritySet } = verdict.evidence.decision.result.value.candidates[0]!;
    return [enginePriority, enginePrioritySet];
  };
  assert.deepEqual(of("told-only", RequestClass.INTERACTIVE), [1, true]);
  assert.deepEqual(of("told-only", RequestClass.STANDARD), [2, true]);
  assert.deepEqual(of("told-only", RequestClass.BATCH), [10, true]);
  assert.deepEqual(of("plain-only", RequestClass.BATCH), [0, false]);
});
