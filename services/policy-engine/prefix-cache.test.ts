import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { EMPTY_PRICE_INDEX } from "#libs/money/index.ts";
import { backend, chosen, config, DONE, ended, model, report, request, STARTED, world, type World } from "./fixture.ts";
import { LoadExchange } from "./load-exchange.ts";
import { PrefixCache, readKeys, tokensOf } from "./prefix-cache.ts";
import { compileSnapshot } from "./snapshot.ts";
import { EngineState } from "./state.ts";

/** Chained hashes of a prompt: block `i` depends on all before it. */
function hashesOf(seed: number, blocks: number): Uint8Array {
  const hashes = new Uint8Array(blocks * 8);
  const view = new DataView(hashes.buffer);
  for (let block = 0; block < blocks; block++) view.setBigUint64(block * 8, BigInt(seed) * 1_000_003n + BigInt(block) * 7_919n, true);
  return hashes;
}

function keysOf(hashes: Uint8Array): Float64Array {
  const keys = new Float64Array(hashes.length / 8);
  readKeys(hashes, keys);
  return keys;
}

test("blocks are 64 tokens for the first kilotoken, 256 behind it and 1,024 behind 16,384", () => {
  assert.equal(tokensOf(0), 0);
  assert.equal(tokensOf(16), 1_024);
  assert.equal(tokensOf(20), 1_024 + 4 * 256);
  assert.equal(tokensOf(76), 16_384);
  assert.equal(tokensOf(188), 131_072);
});

test("it finds the longest held prefix, as looking block by block would", () => {
  fc.assert(
    fc.property(fc.array(fc.record({ seed: fc.nat(3), blocks: fc.integer({ min: 1, max: 80 }) }), { maxLength: 30 }), (prompts) => {
      const cache = new PrefixCache();
      const longest = new Map<number, number>();
      for (const { seed, blocks } of prompts) {
        const keys = keysOf(hashesOf(seed, blocks));
        assert.equal(cache.held(keys, blocks, 0), Math.min(blocks, longest.get(seed) ?? 0));
        cache.add(keys, blocks, 0, 0);
        longest.set(seed, Math.max(blocks, longest.get(seed) ?? 0));
      }
    }),
  );
});

test("it forgets after ten minutes, beyond the engine's memory, and half of it on a restart", () => {
  const cache = new PrefixCache();
  const old = keysOf(hashesOf(1, 10));
  cache.add(old, 10, 64 * 16, 0);
  assert.equal(cache.held(old, 10, 599_999), 10);
  assert.equal(cache.held(old, 10, 600_000), 0);
  const recent = keysOf(hashesOf(2, 12));
  cache.add(recent, 12, 64 * 16, 1_000);
  assert.equal(cache.size, 16);
  assert.equal(cache.held(recent, 12, 1_000), 12);
  assert.equal(cache.held(old, 10, 1_000), 4, "the end of the older prompt went first");
  cache.halve();
  assert.equal(cache.size, 8);
});

function place(scene: World, asked: ReturnType<typeof request>): string {
  const decision = scene.now(asked);
  const name = chosen(decision)[0]!;
  scene.session.report(report(asked.decisionId, name, STARTED));
  return name;
}

function finish(scene: World, asked: ReturnType<typeof request>, name: string): void {
  scene.session.report(report(asked.decisionId, name, { case: "ended", value: ended() }));
  scene.session.report(report(asked.decisionId, name, DONE));
}

test("blocks behind a dropped one do not count though the last is held", () => {
  const cache = new PrefixCache();
  const [prompt, other] = [keysOf(hashesOf(1, 10)), keysOf(hashesOf(2, 8))];
  cache.add(prompt, 10, 64 * 16, 0);
  cache.add(prompt, 5, 64 * 16, 31_000);
  cache.add(prompt, 10, 64 * 16, 45_000);
  cache.add(other, 8, 64 * 16, 46_000);
  assert.equal(cache.size, 16);
  assert.equal(cache.held(prompt, 10, 46_000), 3);
});

test("an engine's memory holds as many tokens of a long prompt as of short ones", () => {
  const cache = new PrefixCache();
  const blocks = 16 + 60;
  const long = keysOf(hashesOf(1, blocks));
  cache.add(long, blocks, tokensOf(blocks), 0);
  assert.equal(cache.size, blocks);
  const other = keysOf(hashesOf(2, blocks));
  cache.add(other, blocks, tokensOf(blocks), 1_000);
  assert.equal(cache.held(long, blocks, 1_000), 0, "there is room for one of them");
  assert.equal(cache.size, blocks);
});

test("a short prompt beside long ones takes no more of an engine's memory than its own tokens", () => {
  // By blocks, which stand for 64 to 1,024 tokens each, a long prompt made the memory look full of short ones.
  const cache = new PrefixCache();
  const short = keysOf(hashesOf(1, 16));
  const long = keysOf(hashesOf(2, 86));
  const capacity = tokensOf(16) + tokensOf(86);
  cache.add(short, 16, capacity, 0);
  cache.add(long, 86, capacity, 1);
  assert.deepEqual([cache.held(short, 16, 2), cache.held(long, 86, 2)], [16, 86]);
  cache.add(keysOf(hashesOf(3, 1)), 1, capacity, 3);
  assert.deepEqual([cache.held(short, 16, 4), cache.held(long, 86, 4)], [15, 86]);
});

test("a conversation goes back to the engine that holds its prefix, unless that one is too busy", async () => {
  const names = ["g1", "g2", "g3"];
  const scene = await world(
    config(
      names.map((name) => backend(name, { provider: "vllm" })),
      [model("chat", names, { class: "interactive" })],
    ),
  );
  const prefixHashes = hashesOf(7, 40);
  const first = request("chat", { prefixHashes, inputTokens: 7_400 });
  const holder = place(scene, first);
  finish(scene, first, holder);
  for (let count = 0; count < 30; count++) {
    const next = request("chat", { prefixHashes, inputTokens: 7_400, explain: true });
    const decision = scene.now(next);
    assert.equal(chosen(decision)[0], holder);
    scene.session.report(report(next.decisionId, holder, DONE));
  }
  const record = await scene.host.explain({ $typeName: "signalbox.policy.v1.ExplainRequest", subject: { case: "last", value: true } });
  assert.ok(record?.decision?.result.case === "allow");
  const saved = record.decision.result.value.candidates.map((candidate) => [candidate.backend === holder, candidate.terms["saved"]]);
  assert.deepEqual(
    saved.toSorted((a, b) => Number(b[1]) - Number(a[1])),
    [
      [true, tokensOf(40)],
      [false, 0],
      [false, 0],
    ],
  );
  const seen = new Set<string>();
  for (let count = 0; count < 60; count++) seen.add(place(scene, request("chat", { prefixHashes, inputTokens: 7_400 })));
  assert.ok(seen.size > 1, "sixty at once do not fit one engine");
});

test("different tenants' prompts, having different hashes, save nothing for each other", async () => {
  const scene = await world(config([backend("g", { provider: "vllm" })], [model("chat", ["g"])]));
  place(scene, request("chat", { prefixHashes: hashesOf(1, 20) }));
  const asked = request("chat", { prefixHashes: hashesOf(2, 20) });
  scene.now(asked);
  const record = await scene.host.explain({
    $typeName: "signalbox.policy.v1.ExplainRequest",
    subject: { case: "id", value: asked.decisionId },
  });
  assert.ok(record?.decision?.result.case === "allow");
  assert.equal(record.decision.result.value.candidates[0]!.terms["saved"], 0);
});

test("engines tell each other which prefixes they placed", () => {
  const snapshot = compileSnapshot(config([backend("g", { provider: "vllm" })], [model("m", ["g"])]), undefined, EMPTY_PRICE_INDEX);
  const theirs = new EngineState(snapshot, 0);
  const mine = new EngineState(snapshot, 0);
  const there = new LoadExchange("two", 1, theirs);
  const here = new LoadExchange("one", 1, mine);
  const hashes = hashesOf(5, 30);
  here.receive(there.outgoing(snapshot, 0)!, 0);
  theirs.backends[0]!.prefixNews.add(hashes, 0);
  here.receive(there.outgoing(snapshot, 50)!, 50);
  assert.equal(mine.backends[0]!.prefixes.held(keysOf(hashes), 30, 60), 30);
  assert.equal(there.outgoing(snapshot, 100), undefined, "told once");
});

/** Serves enough interactive requests for first tokens to be known. */
async function warmUp(scene: World): Promise<void> {
  for (let count = 0; count < 120; count++) {
    const asked = request("chat", { requestClass: 2 });
    const name = place(scene, asked);
    scene.session.report(
      report(asked.decisionId, name, {
        case: "firstToken",
        value: { $typeName: "signalbox.policy.v1.AttemptFirstToken", ttftMs: 100 + (count % 10) },
      }),
    );
    finish(scene, asked, name);
    await scene.clock.advanceAsync(50);
  }
}

function hedgeOf(scene: World, parts: Parameters<typeof request>[1] = {}): number {
  const asked = request("chat", { requestClass: 2, ...parts });
  const decision = scene.now(asked);
  scene.session.report(report(asked.decisionId, "a", DONE));
  return decision.result.case === "allow" ? decision.result.value.candidates[0]!.hedgeAfterMs : -1;
}

test("a person's stream may be doubled after the 95th percentile, in another failure domain, within one in a hundred", async () => {
  const names = ["a", "b"];
  const scene = await world(config([backend("a", { url: "http://one:1" }), backend("b", { url: "http://two:1" })], [model("chat", names)]));
  assert.equal(hedgeOf(scene), 0, "nothing is known yet");
  await warmUp(scene);
  const after = hedgeOf(scene);
  assert.ok(after >= 100 && after <= 250, String(after));
  assert.equal(hedgeOf(scene, { requestClass: 3 }), 0);
  assert.equal(hedgeOf(scene, { stream: false }), 0);
  assert.equal(hedgeOf(scene, { inputTokens: 5_000 }), 0);
  for (let count = 0; count < 3; count++) {
    const asked = request("chat", { requestClass: 2 });
    scene.now(asked);
    const started = { $typeName: "signalbox.policy.v1.AttemptStarted", attempt: 2, hedge: true } as const;
    scene.session.report(report(asked.decisionId, "b", { case: "started", value: started }));
    scene.session.report(report(asked.decisionId, "b", DONE));
  }
  assert.equal(hedgeOf(scene), 0, "the budget is spent");
});

test("two backends behind one address never double each other", async () => {
  const scene = await world(
    config([backend("a", { url: "http://one:1" }), backend("b", { url: "http://one:1/other" })], [model("chat", ["a", "b"])]),
  );
  await warmUp(scene);
  assert.equal(hedgeOf(scene), 0);
});
