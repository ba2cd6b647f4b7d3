import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "#libs/clock/fake.ts";
import { chatBody, FakeAdapters, postChat, startIngress, type TestIngress } from "./testing.ts";

function adaptersAway(): FakeAdapters {
  const adapters = new FakeAdapters();
  for (const backend of ["alpha", "beta"]) adapters.unserved.add(backend);
  return adapters;
}

function adaptersState({ host }: TestIngress): string | undefined {
  return host.module.checks.find(({ name }) => name === "adapters")?.status().state;
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
