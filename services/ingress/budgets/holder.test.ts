import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  type BudgetAsk,
  BudgetGrantSchema,
  type LeaseBudgetRequest,
  type LeaseBudgetResponse,
  LeaseBudgetResponseSchema,
} from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import type { BudgetConfig } from "#libs/config/model.ts";
import { createConfigSource, defaultConfig, type SwappableConfigSource } from "#libs/config/index.ts";
import type { SignalboxError } from "#libs/errors/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { Allowance } from "./allowance.ts";
import { BudgetHolder } from "./holder.ts";
import { Rate } from "./rate.ts";

const ROUNDS = 100;
const REQUESTS = 500;
const REPLICAS = 3;
const BOUND = 1_000n;
const AMOUNT = BOUND * 100n;
const HARD: BudgetConfig = { amountNanoUsd: AMOUNT, per: "total", mode: "hard", alert: [], team: undefined, key: undefined };

function configOf(budget: BudgetConfig): SwappableConfigSource {
  const limits = { rpm: undefined, tpm: undefined, concurrency: undefined, weight: 1 };
  const tenant = { name: "acme", teams: [], budgets: [budget], limits, models: undefined };
  return createConfigSource(defaultConfig({ tenants: new Map([["acme", tenant]]) }));
}

/** The owner's promise in its plainest form: whole or nothing, never beyond the amount, others called on when short. */
class PlainOwner {
  spent = 0n;
  away = false;
  readonly #holders = new Map<string, { spent: bigint; held: bigint; recalled: boolean }>();
  readonly #clock: FakeClock;
  readonly #random: SeededRandom;

  constructor(clock: FakeClock, random: SeededRandom) {
    this.#clock = clock;
    this.#random = random;
  }

  async leaseBudget(request: LeaseBudgetRequest): Promise<LeaseBudgetResponse> {
    await this.#clock.sleep(1 + this.#random.int(5));
    if (this.away) throw new Error("away");
    const grants = request.asks.map((ask) => create(BudgetGrantSchema, { known: true, ...this.#grant(request.holder, ask) }));
    // Some answers are lost on their way.
    if (this.#random.next() < 0.02) throw new Error("lost");
    return create(LeaseBudgetResponseSchema, { grants, holders: REPLICAS });
  }

  #grant(holder: string, ask: BudgetAsk): { granted: bigint; recall: boolean; left: bigint } {
    const known = this.#holders.get(holder) ?? { spent: 0n, held: 0n, recalled: false };
    this.spent += ask.spentTotal - known.spent;
    const recall = known.recalled;
    let held = 0n;
    for (const [id, other] of this.#holders) if (id !== holder) held += other.held;
    const available = AMOUNT - this.spent - held - ask.held;
    const granted = ask.want > 0n && available >= ask.need ? (ask.want < available / 4n ? ask.want : max(ask.need, available / 4n)) : 0n;
    this.#holders.set(holder, { spent: ask.spentTotal, held: ask.held + granted, recalled: false });
    if (ask.want > 0n && granted === 0n) for (const [id, other] of this.#holders) if (id !== holder) other.recalled = true;
    assert.ok(this.spent + held + ask.held + granted <= AMOUNT || granted === 0n);
    return { granted, recall, left: AMOUNT - this.spent };
  }
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

/** 500 requests at once at three replicas, money for exactly 100: what was spent, and how many got in. */
async function round(seed: number): Promise<{ spent: bigint; admitted: number; refused: readonly SignalboxError[] }> {
  const clock = new FakeClock();
  const random = new SeededRandom(seed);
  const owner = new PlainOwner(clock, random);
  const config = configOf(HARD);
  const holders = Array.from({ length: REPLICAS }, (_, replica) => {
    const holder = new BudgetHolder({ config, clock, ledger: owner, logger: silentLogger, holder: `ingress-${replica}` });
    holder.start();
    return holder;
  });
  let spent = 0n;
  let admitted = 0;
  const refused: SignalboxError[] = [];
  for (let number = 0; number < REQUESTS; number++) {
    const holder = holders[number % REPLICAS]!;
    const slice = holder.slice(holder.specsOf("acme")[0]!);
    holder.reserve(slice, BOUND, (error) => {
      if (error !== undefined) return void refused.push(error);
      admitted++;
      const allowance = new Allowance(holder, [slice], BOUND, () => {});
      assert.equal(allowance.begin(`a${number}`, BOUND), true);
      clock.after(20 + random.int(300), () => {
        const cost = random.next() < 0.3 ? BigInt(random.int(Number(BOUND))) : BOUND;
        spent += cost;
        allowance.end(`a${number}`, cost, 10);
        allowance.close();
        assert.ok(spent <= AMOUNT, `seed ${seed}: overspent`);
      });
    });
  }
  for (let waitedMs = 0; admitted + refused.length < REQUESTS && waitedMs < 30_000; waitedMs += 50) await clock.advanceAsync(50);
  await clock.advanceAsync(2_000);
  assert.equal(admitted + refused.length, REQUESTS, "every request is answered");
  for (const holder of holders) void holder.stop();
  return { spent, admitted, refused };
}

test(`a hard budget of ${REQUESTS} concurrent requests at ${REPLICAS} replicas is never overspent and used up (${ROUNDS} rounds, answers lost)`, async (t) => {
  let least = 100;
  for (let seed = 1; seed <= ROUNDS; seed++) {
    const { spent, refused } = await round(seed);
    least = Math.min(least, Number((spent * 10_000n) / AMOUNT) / 100);
    assert.ok(spent <= AMOUNT, `seed ${seed}: overspent`);
    assert.ok(spent * 100n >= AMOUNT * 95n, `seed ${seed}: ${spent} of ${AMOUNT}`);
    assert.ok(refused.every(({ reason, message }) => reason === "BUDGET_EXHAUSTED" && message.includes("acme/*/total/hard")));
  }
  t.diagnostic(`${ROUNDS} rounds: overspend 0, least utilisation ${least} %`);
});

test("a soft budget lets in until what is spent reaches it", async () => {
  const clock = new FakeClock();
  const owner = new PlainOwner(clock, new SeededRandom(3));
  const config = configOf({ ...HARD, mode: "soft", per: "month" });
  const holder = new BudgetHolder({ config, clock, ledger: owner, logger: silentLogger, holder: "one" });
  holder.start();
  const slice = holder.slice(holder.specsOf("acme")[0]!);
  const tried = (): SignalboxError | undefined | "waits" => {
    let answer: SignalboxError | undefined | "waits" = "waits";
    holder.reserve(slice, BOUND, (error) => (answer = error));
    return answer;
  };
  assert.equal(tried(), undefined);
  slice.settle(0n, AMOUNT);
  await clock.advanceAsync(2_100);
  const refusal = tried() as SignalboxError;
  assert.deepEqual([refusal.reason, refusal.code, refusal.httpStatus], ["BUDGET_EXHAUSTED", "budget_exceeded", 429]);
  assert.match(refusal.message, /'acme\/\*\/month\/soft' of \$0\.0001 is spent; it resets at 20\d\d-\d\d-01T00:00:00Z/);
});

test("while the ledger is away what is held still serves, and what is not is refused soon, never let in", async () => {
  const clock = new FakeClock();
  const owner = new PlainOwner(clock, new SeededRandom(4));
  const holder = new BudgetHolder({ config: configOf(HARD), clock, ledger: owner, logger: silentLogger, holder: "one" });
  holder.start();
  const slice = holder.slice(holder.specsOf("acme")[0]!);
  const answers: (SignalboxError | undefined)[] = [];
  const ask = (bound: bigint): void => void holder.reserve(slice, bound, (error) => answers.push(error));
  ask(BOUND);
  await clock.advanceAsync(500);
  owner.away = true;
  ask(BOUND);
  assert.deepEqual([...answers], [undefined, undefined]);
  ask(AMOUNT - 20n * BOUND);
  await clock.advanceAsync(5_000);
  assert.equal(answers.length, 3);
  assert.deepEqual(
    answers.slice(2).map((error) => [error?.httpStatus, error?.code]),
    [[503, "ledger_unavailable"]],
  );
});

test("a request that leaves while it waits takes nothing with it", async () => {
  const clock = new FakeClock();
  const owner = new PlainOwner(clock, new SeededRandom(5));
  const holder = new BudgetHolder({ config: configOf(HARD), clock, ledger: owner, logger: silentLogger, holder: "one" });
  const slice = holder.slice(holder.specsOf("acme")[0]!);
  const waiter = holder.reserve(slice, BOUND, () => assert.fail("it left"));
  holder.withdraw(slice, waiter!);
  await clock.advanceAsync(1_000);
  assert.equal(slice.lease.reserved, 0n);
});

test("a bucket holds a minute's worth, refills evenly, lets the too large through when full and says how long to wait", () => {
  const rate = new Rate(60, 0);
  for (let taken = 0; taken < 60; taken++) assert.equal(rate.take(1, 0), 0);
  assert.equal(rate.take(1, 0), 1_000);
  assert.equal(rate.take(1, 1_000), 0);
  assert.deepEqual([rate.remaining(11_000), rate.resetMs(11_000)], [10, 50_000]);
  assert.equal(rate.take(1_000, 61_000), 0);
  assert.ok(rate.take(1, 62_000) > 60_000);
  const shared = new Rate(100, 0);
  shared.set(50, 0);
  assert.equal(shared.remaining(0), 50);
  shared.take(50, 0);
  shared.correct(20);
  assert.equal(shared.remaining(0), 20);
});
