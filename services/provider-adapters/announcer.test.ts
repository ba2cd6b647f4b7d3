import assert from "node:assert/strict";
import { test } from "node:test";
import { createMemoryBus, SUBJECTS } from "#libs/bus/index.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { Announcer, type OwnState } from "./announcer.ts";

function rig(): {
  clock: FakeClock;
  bus: ReturnType<typeof createMemoryBus>;
  replica: (name: string, backends: readonly string[]) => { announcer: Announcer; changes: () => number; leave: () => void };
} {
  const clock = new FakeClock();
  const bus = createMemoryBus({ clock, logger: silentLogger });
  return {
    clock,
    bus,
    replica: (name, backends) => {
      let changes = 0;
      let leaving = false;
      const own: OwnState = { replica: name, address: "", backends: () => backends, inFlight: () => 0, leaving: () => leaving };
      const announcer = new Announcer({ bus, clock, logger: silentLogger }, own, () => changes++);
      announcer.start();
      return {
        announcer,
        changes: () => changes,
        leave: () => {
          leaving = true;
          announcer.announce();
          announcer.stop();
        },
      };
    },
  };
}

test("replicas that serve a backend are counted, others and oneself are not counted twice", async () => {
  const { clock, replica } = rig();
  const first = replica("r1", ["a", "b"]);
  replica("r2", ["b"]);
  await clock.advanceAsync(1_000);
  assert.deepEqual([first.announcer.replicasOf("a"), first.announcer.replicasOf("b")], [1, 2]);
  await clock.advanceAsync(5_000);
  assert.equal(first.changes(), 1, "the same news changes nothing");
});

test("a replica that leaves is forgotten at once, one that falls silent after three and a half seconds", async () => {
  const { clock, replica } = rig();
  const first = replica("r1", ["a"]);
  const second = replica("r2", ["a"]);
  const third = replica("r3", ["a"]);
  await clock.advanceAsync(1_000);
  assert.equal(first.announcer.replicasOf("a"), 3);
  second.leave();
  await clock.advanceAsync(1);
  assert.equal(first.announcer.replicasOf("a"), 2);
  third.announcer.stop();
  await clock.advanceAsync(2_900);
  assert.equal(first.announcer.replicasOf("a"), 2);
  await clock.advanceAsync(1_200);
  assert.equal(first.announcer.replicasOf("a"), 1);
});

test("what is no announcement is ignored", async () => {
  const { clock, bus, replica } = rig();
  const first = replica("r1", ["a"]);
  bus.publish(SUBJECTS.adapterAnnounced, Buffer.from([0xff, 0xff]));
  await clock.advanceAsync(10);
  assert.equal(first.announcer.replicasOf("a"), 1);
});
