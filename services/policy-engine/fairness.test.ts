import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY_PRICE_INDEX } from "#libs/money/index.ts";
import { RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { TenantConfig } from "#libs/config/index.ts";
import { backend, config, model, request } from "./fixture.ts";
import { isDenial, resolve } from "./resolve.ts";
import { Scheduler } from "./scheduler.ts";
import { compileSnapshot } from "./snapshot.ts";

const LIMITS = { rpm: undefined, tpm: undefined, concurrency: undefined };

function tenant(name: string, weight: number): [string, TenantConfig] {
  return [name, { name, teams: [], budgets: [], limits: { ...LIMITS, weight }, models: undefined }];
}

const CONFIG = config([backend("a")], [model("m", ["a"])], { tenants: new Map([tenant("gold", 2), tenant("plain", 1)]) });
const SNAPSHOT = compileSnapshot(CONFIG, undefined, EMPTY_PRICE_INDEX);

/** A backend with one place, freed every `everyMs`; says who was served when. */
class Line {
  readonly scheduler = new Scheduler(CONFIG);
  readonly served: { readonly tenant: string; readonly class: string; readonly waitedMs: number }[] = [];
  nowMs = 0;

  ask(tenantName: string, requestClass: RequestClass = RequestClass.STANDARD, tokens = 1_000): void {
    const resolved = resolve(request("m", { tenant: tenantName, requestClass, inputTokens: tokens }), SNAPSHOT);
    assert.ok(!isDenial(resolved));
    const waiter = this.scheduler.enqueue(resolved, this.nowMs, () => {});
    assert.ok(!("reason" in waiter));
  }

  serve(count: number, everyMs = 100): void {
    for (let done = 0; done < count; done++) {
      this.nowMs += everyMs;
      let free = 1;
      this.scheduler.pump(this.nowMs, (waiter) => {
        if (free === 0) return "blocked";
        free -= 1;
        const { resolved } = waiter;
        this.scheduler.served(resolved.class, resolved.request.tenant, resolved.inputTokens, this.nowMs);
        this.served.push({ tenant: resolved.request.tenant, class: resolved.class, waitedMs: this.nowMs - waiter.arrivedMs });
        return "settled";
      });
    }
  }

  count(tenantName: string, from = 0): number {
    return this.served.slice(from).filter((each) => each.tenant === tenantName).length;
  }
}

test("a tenant that floods the queue delays another by one request, not by its flood", () => {
  const line = new Line();
  for (let count = 0; count < 400; count++) line.ask("noisy");
  line.serve(100);
  for (let count = 0; count < 10; count++) line.ask("quiet");
  line.serve(20);
  assert.equal(line.count("quiet", 100), 10);
  assert.ok(Math.max(...line.served.filter((each) => each.tenant === "quiet").map((each) => each.waitedMs)) <= 2_100);
});

test("weights share the tokens, not the requests", () => {
  const line = new Line();
  for (let count = 0; count < 200; count++) {
    line.ask("gold");
    line.ask("plain");
  }
  line.serve(90);
  assert.ok(Math.abs(line.count("gold") / line.count("plain") - 2) < 0.2, `${line.count("gold")} to ${line.count("plain")}`);
  const tokens = new Line();
  for (let count = 0; count < 200; count++) {
    tokens.ask("large", 3, 4_000);
    tokens.ask("small", 3, 1_000);
  }
  tokens.serve(100);
  assert.ok(Math.abs(tokens.count("small") / tokens.count("large") - 4) < 0.5, `${tokens.count("small")} to ${tokens.count("large")}`);
});

test("silence earns no burst: who comes back is lifted to the least served of those waiting", () => {
  const line = new Line();
  for (let count = 0; count < 400; count++) line.ask("steady");
  line.serve(200);
  for (let count = 0; count < 50; count++) line.ask("sleeper");
  line.serve(40);
  assert.ok(line.count("sleeper", 200) <= 21, String(line.count("sleeper", 200)));
});

test("a newcomer served before anybody waits does not go before those served until then", () => {
  // Its counter began at nothing with its first dispatch, and a flood went before everybody until that was made up for.
  const line = new Line();
  for (let count = 0; count < 40; count++) line.scheduler.served("standard", "resident", 1_000, 0);
  for (let count = 0; count < 20; count++) line.scheduler.served("standard", "newcomer", 1_000, 0);
  for (let count = 0; count < 50; count++) line.ask("newcomer");
  for (let count = 0; count < 10; count++) line.ask("resident");
  line.serve(20);
  assert.equal(
    line.served.slice(0, 10).every((each) => each.tenant === "resident"),
    true,
    JSON.stringify(line.served.slice(0, 10)),
  );
});

test("debts halve in a minute, so a heavy user of the past is soon an ordinary one", () => {
  const line = new Line();
  const { scheduler } = line;
  scheduler.served("standard", "heavy", 64_000, 0);
  line.nowMs = 360_000;
  for (let count = 0; count < 20; count++) {
    line.ask("heavy");
    line.ask("fresh");
  }
  line.serve(20);
  assert.ok(line.count("heavy") >= 9, String(line.count("heavy")));
});

test("a prediction that charged too much is given back", () => {
  const line = new Line();
  line.scheduler.served("standard", "corrected", 10_000, 0);
  line.scheduler.correct("standard", "corrected", -9_500, 0);
  line.scheduler.served("standard", "other", 1_000, 0);
  line.ask("corrected");
  line.ask("other");
  line.serve(1);
  assert.equal(line.served[0]!.tenant, "corrected", "without the correction the other would go first");
});

test("batch work gets its guaranteed share of the tokens under any load of better classes, and not much more", () => {
  const line = new Line();
  for (let count = 0; count < 500; count++) line.ask("offline", 4);
  for (let round = 0; round < 400; round++) {
    if (line.scheduler.depth("interactive") < 20) for (let count = 0; count < 5; count++) line.ask("online", 2);
    line.serve(1);
  }
  const batch = line.served.filter((each) => each.class === "batch").length;
  assert.ok(batch >= 19 && batch <= 30, `${batch} of 400`);
});

test("whoever has waited half a minute in the standard class goes before newer interactive work", () => {
  const line = new Line();
  line.ask("patient", 3);
  for (let round = 0; round < 400; round++) {
    line.ask("online", 2);
    line.serve(1);
  }
  const waited = line.served.find((each) => each.tenant === "patient")?.waitedMs ?? Number.POSITIVE_INFINITY;
  assert.ok(waited >= 30_000 && waited <= 30_200, String(waited));
});

test("promotions stay a tenth of the dispatches however old the queue is", () => {
  const line = new Line();
  for (let count = 0; count < 300; count++) line.ask("old", 3);
  line.nowMs = 40_000;
  for (let count = 0; count < 250; count++) line.ask("online", 2);
  line.serve(200);
  assert.ok(line.count("old") <= 22, String(line.count("old")));
  assert.ok(line.count("old") >= 18, String(line.count("old")));
});

test("a light tenant that is never idle for long does not owe what others used meanwhile", () => {
  const line = new Line();
  for (let count = 0; count < 400; count++) line.ask("flood");
  line.ask("light");
  line.serve(20);
  for (let round = 0; round < 10; round++) {
    line.ask("light");
    line.serve(1);
    assert.equal(line.served.at(-1)!.tenant, "light", `round ${round}`);
    line.serve(19);
  }
});
