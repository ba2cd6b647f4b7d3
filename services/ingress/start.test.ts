import assert from "node:assert/strict";
import { test } from "node:test";
import type { PriceBook } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { FakeControl } from "./fakes.ts";
import { chatBody, FakeAdapters, postChat, startIngress, type TestIngress, testPriceBook } from "./testing.ts";

function adaptersAway(): FakeAdapters {
  const adapters = new FakeAdapters();
  for (const backend of ["alpha", "beta"]) adapters.unserved.add(backend);
  return adapters;
}

function checkOf({ host }: TestIngress, check: string): { readonly state: string } | undefined {
  return host.module.checks.find(({ name }) => name === check)?.status();
}

function stateOf(ingress: TestIngress, check: string): string | undefined {
  return checkOf(ingress, check)?.state;
}

function adaptersState(ingress: TestIngress): string | undefined {
  return stateOf(ingress, "adapters");
}

test("fault: an ingress that had just started answered 503, because it had not met its adapters yet", async () => {
  const clock = new FakeClock();
  const adapters = adaptersAway();
  let isOpen = false;
  const starting = startIngress({ clock, adapters }).then((ingress) => {
    isOpen = true;
    return ingress;
  });
  await clock.advanceAsync(1_000);
  assert.equal(isOpen, false);
  adapters.unserved.clear();
  await clock.advanceAsync(20);
  const ingress = await starting;
  adapters.answers("alpha", ["hi"]);
  assert.equal((await postChat(ingress, chatBody())).status, 200);
  assert.equal(adaptersState(ingress), "ok");
  await ingress.stop();
});

test("without any adapter the door opens all the same, not ready; once met, their loss takes no ingress out", async () => {
  const clock = new FakeClock();
  const adapters = adaptersAway();
  const starting = startIngress({ clock, adapters });
  await clock.advanceAsync(3_100);
  const ingress = await starting;
  assert.equal(adaptersState(ingress), "failed");
  assert.equal((await postChat(ingress, chatBody())).status, 503);
  adapters.unserved.clear();
  assert.equal(adaptersState(ingress), "ok");
  adapters.unserved.add("alpha").add("beta");
  assert.equal(adaptersState(ingress), "ok");
  await ingress.stop();
});

test("fault: an ingress that had met one of its adapters said it was ready, and refused what only the other serves", async () => {
  const clock = new FakeClock();
  const adapters = adaptersAway();
  const starting = startIngress({ clock, adapters });
  adapters.unserved.delete("alpha");
  await clock.advanceAsync(3_100);
  const ingress = await starting;
  assert.deepEqual(checkOf(ingress, "adapters"), { state: "failed", detail: "no adapter serves beta yet" });
  adapters.unserved.clear();
  assert.equal(adaptersState(ingress), "ok");
  await ingress.stop();
});

test("a backend whose adapter stays away keeps an ingress unready for ten seconds and no longer", async () => {
  const clock = new FakeClock();
  const adapters = adaptersAway();
  adapters.unserved.delete("alpha");
  const starting = startIngress({ clock, adapters });
  await clock.advanceAsync(3_100);
  const ingress = await starting;
  await clock.advanceAsync(6_800);
  assert.equal(adaptersState(ingress), "failed");
  await clock.advanceAsync(200);
  assert.equal(adaptersState(ingress), "degraded");
  await ingress.stop();
});

test("fault: an ingress without prices said it was ready, and its first answers had no cost", async () => {
  // Its ledger started a moment later; it asked again only after two seconds.
  const clock = new FakeClock();
  let isThere = false;
  const priceBook = (): Promise<PriceBook> => (isThere ? Promise.resolve(testPriceBook()) : Promise.reject(new Error("refused")));
  const starting = startIngress({ clock, ledger: { priceBook } });
  await clock.advanceAsync(100);
  const ingress = await starting;
  assert.equal(stateOf(ingress, "prices"), "failed");
  isThere = true;
  await clock.advanceAsync(250);
  assert.equal(stateOf(ingress, "prices"), "ok");
  await ingress.stop();
});

test("a ledger that stays away keeps an ingress unready for ten seconds and no longer", async () => {
  const clock = new FakeClock();
  const starting = startIngress({ clock, ledger: { priceBook: () => new Promise<PriceBook>(() => {}) } });
  await clock.advanceAsync(400);
  const ingress = await starting;
  await clock.advanceAsync(9_500);
  assert.equal(stateOf(ingress, "prices"), "failed");
  await clock.advanceAsync(200);
  assert.equal(stateOf(ingress, "prices"), "degraded");
  await ingress.stop();
});

test("fault: an ingress that had no keys yet said it was ready, and answered known callers 503 for two seconds", async () => {
  const clock = new FakeClock();
  const control = new FakeControl();
  control.down = true;
  const starting = startIngress({ clock, control });
  await clock.advanceAsync(400);
  const ingress = await starting;
  assert.equal(stateOf(ingress, "key-store"), "failed");
  control.down = false;
  await clock.advanceAsync(250);
  assert.equal(stateOf(ingress, "key-store"), "ok");
  control.down = true;
  await clock.advanceAsync(2_100);
  assert.equal(stateOf(ingress, "key-store"), "degraded");
  await ingress.stop();
});
