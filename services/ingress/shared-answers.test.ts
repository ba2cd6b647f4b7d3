import assert from "node:assert/strict";
import { once } from "node:events";
import { afterEach, beforeEach, test } from "node:test";
import { createMemoryBus, type EventBus } from "#libs/bus/index.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { systemClock } from "#libs/clock/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { SharedAnswers, type Recording, type Verdict } from "./shared-answers.ts";
import { answerBody, chatBody, postChat, startIngress, type TestIngress } from "./testing.ts";

const RECORDING: Recording = {
  stream: false,
  pieces: [Buffer.from("the "), Buffer.from("answer")],
  usageEvent: undefined,
  facts: {
    requestId: "r1",
    decisionId: "d1",
    backend: "alpha",
    model: "chat",
    attempts: 2,
    experiment: "",
    queueMs: 1,
    routeMs: 2,
    upstreamMs: 3,
    warnings: ["w"],
    costNanoUsd: 12n,
  },
};

/** A bus whose buckets answer as told. */
function busWith(clock: FakeClock, answer: <T>(work: () => Promise<T>) => Promise<T>): EventBus {
  const bus = createMemoryBus({ clock, logger: silentLogger });
  const keyValue: EventBus["keyValue"] = (name, options) => {
    const bucket = bus.keyValue(name, options);
    return {
      get: (key) => answer(() => bucket.get(key)),
      put: (key, value) => answer(() => bucket.put(key, value)),
      create: (key, value) => answer(() => bucket.create(key, value)),
      delete: (key) => answer(() => bucket.delete(key)),
      watch: (handler) => bucket.watch(handler),
    };
  };
  return new Proxy(bus, { get: (target, name) => (name === "keyValue" ? keyValue : Reflect.get(target, name, target)) });
}

/** Two ingresses' shares of one bus, in virtual time. */
function pair(): { clock: FakeClock; first: SharedAnswers; second: SharedAnswers; ask: (of: SharedAnswers, digest?: string) => Asked } {
  const clock = new FakeClock();
  const bus = createMemoryBus({ clock, logger: silentLogger });
  const make = (ingressId: string): SharedAnswers => {
    const shared = new SharedAnswers({ bus, clock, logger: silentLogger, ingressId });
    shared.start();
    return shared;
  };
  const ask = (of: SharedAnswers, digest = "body"): Asked => {
    const asked: Asked = { verdict: undefined, withdraw: () => {} };
    asked.withdraw = of.ask("key", digest, (verdict) => (asked.verdict = verdict));
    return asked;
  };
  return { clock, first: make("one"), second: make("two"), ask };
}

function kindOf({ verdict }: Asked): string | undefined {
  return verdict?.kind;
}

interface Asked {
  verdict: Verdict | undefined;
  withdraw: () => void;
}

test("the second waits for the first and gets its answer, facts and all; another body is refused", async () => {
  const { clock, first, second, ask } = pair();
  const leading = ask(first);
  await clock.advanceAsync(10);
  const following = ask(second);
  const other = ask(second, "another body");
  await clock.advanceAsync(30_000);
  assert.deepEqual([leading.verdict?.kind, following.verdict, other.verdict?.kind], ["lead", undefined, "refused"]);
  first.finished("key", "body", RECORDING);
  await clock.advanceAsync(10);
  assert.equal(following.verdict?.kind, "answer");
  const { recording } = following.verdict as Extract<Verdict, { kind: "answer" }>;
  assert.equal(Buffer.concat(recording.pieces).toString(), "the answer");
  assert.deepEqual({ ...recording.facts, requestId: "r1" }, RECORDING.facts);
  const later = ask(first);
  const different = ask(first, "another body");
  await clock.advanceAsync(10);
  assert.deepEqual([later.verdict?.kind, different.verdict?.kind], ["answer", "refused"]);
  await clock.advanceAsync(600_000);
  const afterwards = ask(second);
  await clock.advanceAsync(10);
  assert.equal(afterwards.verdict?.kind, "lead");
});

test("when the first fails, leaves, or withdraws, the next one makes the answer at once", async () => {
  const { clock, first, second, ask } = pair();
  ask(first);
  await clock.advanceAsync(10);
  const following = ask(second);
  await clock.advanceAsync(10);
  first.finished("key", "body", undefined);
  await clock.advanceAsync(10);
  assert.equal(following.verdict?.kind, "lead");
  second.finished("key", "body", undefined);
  await clock.advanceAsync(10);
  const withdrawn = ask(first);
  withdrawn.withdraw();
  await clock.advanceAsync(10);
  assert.equal(withdrawn.verdict, undefined);
  const next = ask(second);
  await clock.advanceAsync(10);
  assert.equal(next.verdict?.kind, "lead");
});

test("an ingress that dies without a word is replaced when its claim lapses", async () => {
  const { clock, first, second, ask } = pair();
  ask(first);
  await clock.advanceAsync(20_000);
  const following = ask(second);
  await clock.advanceAsync(20_000);
  assert.equal(kindOf(following), undefined, "it renews its claim as long as it lives");
  first.stop();
  await clock.advanceAsync(8_000);
  assert.equal(kindOf(following), "lead");
});

test("an answer too large to be shared is an error for who waits", async () => {
  const { clock, first, second, ask } = pair();
  ask(first);
  await clock.advanceAsync(10);
  const following = ask(second);
  await clock.advanceAsync(10);
  first.finished("key", "body", { ...RECORDING, pieces: [new Uint8Array(1_100_000)] });
  await clock.advanceAsync(10);
  const { error } = following.verdict as Extract<Verdict, { kind: "refused" }>;
  assert.deepEqual([error.reason, error.httpStatus], ["IDEMPOTENCY", 409]);
});

test("a bus that is away or silent holds nobody up: each ingress is on its own", async () => {
  const clock = new FakeClock();
  for (const answer of [() => Promise.reject(new Error("away")), () => new Promise<never>(() => {})]) {
    const shared = new SharedAnswers({ bus: busWith(clock, answer), clock, logger: silentLogger, ingressId: "one" });
    const verdicts: Verdict[] = [];
    shared.ask("key", "body", (verdict) => verdicts.push(verdict));
    await clock.advanceAsync(600);
    assert.deepEqual(verdicts, [{ kind: "lead" }]);
    shared.finished("key", "body", RECORDING);
    await clock.advanceAsync(600);
  }
});

let one: TestIngress;
let two: TestIngress;
beforeEach(async () => {
  const bus = createMemoryBus({ clock: systemClock, logger: silentLogger });
  one = await startIngress({ bus });
  two = await startIngress({ bus });
});
afterEach(() => Promise.all([one.stop(), two.stop()]));

const KEYED = { headers: { "idempotency-key": "once" } };

test("requests with one key at two ingresses make one call upstream and get one answer; another body is an error at both", async () => {
  const first = postChat(one, chatBody(), KEYED);
  const attempt = await one.adapters.at(0);
  const rest = Array.from({ length: 10 }, (_, index) => postChat(index % 2 === 0 ? one : two, chatBody(), KEYED));
  attempt.data(answerBody("only once"));
  attempt.ok();
  for (const answer of await Promise.all([first, ...rest])) {
    assert.equal(answer.status, 200);
    assert.ok((await answer.text()).includes("only once"));
  }
  const later = await postChat(two, chatBody(), KEYED);
  assert.equal(later.headers.get("x-signalbox-backend"), "alpha");
  assert.ok((await later.text()).includes("only once"));
  for (const ingress of [one, two]) {
    const other = await postChat(ingress, chatBody({ n: 1 }), KEYED);
    assert.deepEqual([other.status, ((await other.json()) as { error: { code: string } }).error.code], [400, "idempotency_mismatch"]);
  }
  assert.deepEqual([one.adapters.attempts.length, two.adapters.attempts.length], [1, 0]);
});

test("a stream made at one ingress is replayed whole at the other", async () => {
  one.adapters.answers("alpha", ["a", "b"]);
  const body = chatBody({ stream: true, stream_options: { include_usage: true } });
  const first = await (await postChat(one, body, KEYED)).text();
  const second = await (await postChat(two, body, KEYED)).text();
  assert.equal(first, second);
  assert.ok(first.endsWith("[DONE]\n\n"));
  assert.equal(two.adapters.attempts.length, 0);
});

test("when the client at the first ingress leaves, the one that waits at the second gets an answer of its own", async () => {
  const leaving = new AbortController();
  const gone = postChat(one, chatBody(), { ...KEYED, signal: leaving.signal }).catch(() => undefined);
  const attempt = await one.adapters.at(0);
  two.adapters.answers("alpha", ["mine"]);
  const waiting = postChat(two, chatBody({}), KEYED);
  const cancelled = once(attempt.events, "cancel");
  leaving.abort();
  await Promise.all([gone, cancelled]);
  assert.equal((await waiting).status, 200);
  assert.equal(two.adapters.attempts.length, 1);
});

test("fault: the buckets were made at the first key when the bus came after the ingress, too late for it", async () => {
  const clock = new FakeClock();
  const asked: string[] = [];
  let isThere = false;
  let connected: (state: boolean) => void = () => {};
  const bus = busWith(clock, (work) => {
    asked.push(isThere ? "there" : "away");
    return isThere ? work() : Promise.reject(new Error("bus: away"));
  });
  const late: EventBus = new Proxy(bus, {
    get: (target, name) =>
      name === "onConnection"
        ? (listener: typeof connected) => {
            connected = listener;
            return { close: () => (connected = () => {}) };
          }
        : Reflect.get(target, name, target),
  });
  const shared = new SharedAnswers({ bus: late, clock, logger: silentLogger, ingressId: "one" });
  shared.start();
  assert.deepEqual(asked, ["away", "away"]);
  isThere = true;
  connected(true);
  assert.deepEqual(asked.slice(2), ["there", "there"]);
  shared.stop();
});
