import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY_PRICE_INDEX } from "#libs/money/index.ts";
import { backend, config, model, request } from "./fixture.ts";
import { type Denial, isDenial, resolve, type Resolved } from "./resolve.ts";
import { Scheduler, type Waiter } from "./scheduler.ts";
import { compileSnapshot } from "./snapshot.ts";

const CONFIG = config([backend("a")], [model("m", ["a"]), model("other", ["a"])]);
const SNAPSHOT = compileSnapshot(CONFIG, undefined, EMPTY_PRICE_INDEX);

function asked(parts: Parameters<typeof request>[1] = {}, name = "m"): Resolved {
  const resolved = resolve(request(name, parts), SNAPSHOT);
  assert.ok(!isDenial(resolved));
  return resolved;
}

const INTERACTIVE = { requestClass: 2 } as const;
const STANDARD = { requestClass: 3 } as const;
const BATCH = { requestClass: 4 } as const;

interface Scene {
  readonly scheduler: Scheduler;
  readonly log: string[];
  readonly add: (label: string, resolved: Resolved, nowMs?: number) => Waiter | Denial;
  readonly pump: (room: number, nowMs?: number) => void;
}

/** A scheduler with what became of each request by its label. */
function scene(classes = CONFIG.classes): Scene {
  const scheduler = new Scheduler({ ...CONFIG, classes });
  const log: string[] = [];
  const labels = new Map<Resolved, string>();
  return {
    scheduler,
    log,
    add: (label, resolved, nowMs = 0) => {
      labels.set(resolved, label);
      return scheduler.enqueue(resolved, nowMs, (denial) => log.push(`${label}: ${denial.reason}`));
    },
    pump: (room, nowMs = 0) => {
      let left = room;
      scheduler.pump(nowMs, (waiter) => {
        if (left === 0) return "blocked";
        left -= 1;
        log.push(labels.get(waiter.resolved)!);
        return "settled";
      });
    },
  };
}

test("interactive goes before standard, standard before batch, whenever they came", () => {
  const { add, pump, log } = scene();
  add("batch", asked(BATCH));
  add("standard", asked(STANDARD));
  add("interactive", asked(INTERACTIVE));
  pump(3);
  assert.deepEqual(log, ["interactive", "standard", "batch"]);
});

test("inside a class the earliest due first token goes first", () => {
  const { add, pump, log } = scene();
  add("patient", asked({ ...INTERACTIVE, ttftTargetMs: 5_000 }), 0);
  add("urgent", asked({ ...INTERACTIVE, ttftTargetMs: 300 }), 100);
  add("usual", asked(INTERACTIVE), 50);
  pump(3, 200);
  assert.deepEqual(log, ["urgent", "usual", "patient"]);
});

test("a request that cannot go holds back only those like it", () => {
  const { scheduler, add, log } = scene();
  add("m", asked(STANDARD));
  add("other", asked(STANDARD, "other"));
  scheduler.pump(0, (waiter) => {
    if (waiter.resolved.model.name === "m") return "blocked";
    log.push(waiter.resolved.model.name);
    return "settled";
  });
  assert.deepEqual(log, ["other"]);
  assert.equal(scheduler.depth("standard"), 1);
});

test("a newcomer lines up behind its own kind in its class and better ones, not behind worse ones", () => {
  const { scheduler, add } = scene();
  add("batch", asked(BATCH));
  assert.equal(scheduler.hasAhead(asked(STANDARD)), false);
  assert.equal(scheduler.hasAhead(asked(BATCH)), true);
  assert.equal(scheduler.hasAhead(asked(BATCH, "other")), false);
  add("standard", asked(STANDARD));
  assert.equal(scheduler.hasAhead(asked(BATCH)), true);
});

test("a full queue refuses with a time to come back, and only its own class", () => {
  const classes = { ...CONFIG.classes, standard: { ...CONFIG.classes.standard, queueMax: 2 } };
  const { add } = scene(classes);
  add("1", asked(STANDARD));
  add("2", asked(STANDARD));
  const third = add("3", asked(STANDARD));
  assert.ok("reason" in third);
  assert.equal(third.reason, "QUEUE_FULL");
  assert.ok(third.retryAfterMs >= 1_000);
  assert.ok(!("reason" in add("4", asked(BATCH))));
});

test("whoever waits longer than the class allows is refused, and a passed deadline says so", () => {
  const { scheduler, add, log } = scene();
  add("slow", asked(INTERACTIVE));
  add("late", asked({ ...INTERACTIVE, deadlineMs: 4_000 }));
  scheduler.expire(3_999);
  assert.deepEqual(log, []);
  scheduler.expire(4_000);
  assert.deepEqual(log, ["late: DEADLINE_EXCEEDED"]);
  scheduler.expire(10_000);
  assert.deepEqual(log, ["late: DEADLINE_EXCEEDED", "slow: QUEUE_FULL"]);
  assert.equal(scheduler.size, 0);
});

test("a request that would be served after its deadline at the present pace is refused at once", () => {
  const { add, pump } = scene();
  for (let count = 0; count < 100; count++) add(String(count), asked(STANDARD));
  pump(20);
  const refused = add("late", asked({ ...STANDARD, deadlineMs: 5_000 }));
  assert.ok("reason" in refused && refused.reason === "QUEUE_FULL");
  assert.ok(!("reason" in add("patient", asked(STANDARD))));
});

test("a cancelled request leaves its place", () => {
  const { scheduler, add, pump, log } = scene();
  const first = add("first", asked(STANDARD));
  add("second", asked(STANDARD));
  assert.ok(!("reason" in first));
  scheduler.cancel(first);
  scheduler.cancel(first);
  assert.equal(scheduler.depth("standard"), 1);
  pump(2);
  assert.deepEqual(log, ["second"]);
});

test("clearing refuses everyone once", () => {
  const { scheduler, add, log } = scene();
  add("a", asked(STANDARD));
  add("b", asked(BATCH));
  scheduler.clear({ reason: "SHUTTING_DOWN", detail: "", param: "", code: "", retryAfterMs: 0 });
  assert.deepEqual(log, ["a: SHUTTING_DOWN", "b: SHUTTING_DOWN"]);
  scheduler.expire(1e9);
  assert.equal(log.length, 2);
});

test("whoever can no longer be on time goes behind those who still can", () => {
  const { add, pump, log } = scene();
  add("late", asked({ ...INTERACTIVE, ttftTargetMs: 1_000 }), 0);
  add("in time", asked({ ...INTERACTIVE, ttftTargetMs: 1_000 }), 600);
  add("lenient", asked({ ...INTERACTIVE, ttftTargetMs: 5_000 }), 600);
  pump(3, 700);
  assert.deepEqual(log, ["in time", "lenient", "late"]);
});

test("a full queue gives the latest place of whoever fills it to a tenant with less in it", () => {
  const classes = { ...CONFIG.classes, standard: { ...CONFIG.classes.standard, queueMax: 3 } };
  const { add, pump, log } = scene(classes);
  for (const label of ["a1", "a2", "a3"]) add(label, asked({ ...STANDARD, tenant: "a" }));
  assert.ok("reason" in add("a4", asked({ ...STANDARD, tenant: "a" })), "not for itself");
  assert.ok(!("reason" in add("b1", asked({ ...STANDARD, tenant: "b" }))));
  assert.deepEqual(log, ["a3: QUEUE_FULL"]);
  assert.ok("reason" in add("b2", asked({ ...STANDARD, tenant: "b" })), "nobody has more than b would have then");
  pump(3);
  assert.deepEqual(log.slice(1).toSorted(), ["a1", "a2", "b1"]);
});
