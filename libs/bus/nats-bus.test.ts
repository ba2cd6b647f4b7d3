import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock, systemRandom } from "#libs/clock/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { natsMissing, type NatsServer, startNats } from "#test/support/nats.ts";
import { busContract, collector } from "./bus.contract.ts";
import type { EventBus } from "./bus.ts";
import { createNatsBus } from "./nats-bus.ts";
import { BATCH_MAX } from "./limits.ts";
import { decodeKey, encodeKey } from "./nats-key-value.ts";
import { ACK_WAIT_MS } from "./nats-stream.ts";
import { SUBJECTS } from "./subjects.ts";
import { BUS_UNAVAILABLE } from "./unavailable.ts";

let server: NatsServer;
const open: EventBus[] = [];
const skipped = natsMissing === undefined ? {} : { skip: natsMissing };

function busAt(url: string): EventBus {
  const bus = createNatsBus({ url, clock: systemClock, random: systemRandom, logger: silentLogger, name: "test" });
  open.push(bus);
  return bus;
}

/** Resolves when the bus is (or is no longer) connected. */
async function reaches(bus: EventBus, connected: boolean): Promise<void> {
  if (bus.connected === connected) return;
  await new Promise<void>((resolve) => {
    const subscription = bus.onConnection((now) => {
      if (now !== connected) return;
      subscription.close();
      resolve();
    });
  });
}

/** A round trip through the server on the bus's own connection: everything subscribed before is known. */
async function settled(bus: EventBus): Promise<void> {
  await new Promise<void>((resolve) => {
    const subject = `test.settled.${process.hrtime.bigint()}`;
    const subscription = bus.subscribe(subject, () => {
      subscription.close();
      resolve();
    });
    bus.publish(subject, new Uint8Array(0));
  });
}

before(async () => {
  if (!natsMissing) server = await startNats();
});

after(async () => {
  await Promise.all(open.map((bus) => bus.close()));
  if (!natsMissing) await server.stop();
});

busContract(
  "nats bus",
  {
    open: async () => {
      const bus = busAt(server.url);
      await reaches(bus, true);
      return bus;
    },
    settled,
    pass: async (ms) => {
      await sleep(ms);
    },
  },
  skipped,
);

test("nats bus: starts without a server, drops live and rejects durable messages, heals by itself", skipped, async () => {
  const own = await startNats();
  await own.kill();
  const bus = busAt(own.url);
  const heard = collector<string>();
  bus.subscribe("test.heal", (message) => heard.push(Buffer.from(message.payload).toString()));
  bus.publish("test.heal", Buffer.from("lost"));
  await assert.rejects(bus.publishDurable(SUBJECTS.entryRecorded, Buffer.from("x"), "x"), (error: unknown) => {
    return error instanceof SignalboxError && error.code === BUS_UNAVAILABLE;
  });
  await own.restart();
  await reaches(bus, true);
  await settled(bus);
  bus.publish("test.heal", Buffer.from("kept"));
  assert.deepEqual(await heard.reach(1), ["kept"]);
  await bus.publishDurable(SUBJECTS.entryRecorded, Buffer.from("x"), "x");
  await bus.close();
  await own.stop();
});

test("nats bus: a server that crashes and loses its store gets stream, consumer and watchers again", skipped, async () => {
  const own = await startNats();
  const bus = busAt(own.url);
  await reaches(bus, true);
  const got = collector<string>();
  const watched = collector<string>();
  bus.consume(SUBJECTS.entryRecorded, "ledger", (batch) => {
    for (const message of batch) got.push(Buffer.from(message.payload).toString());
    return Promise.resolve();
  });
  const bucket = bus.keyValue("state");
  await bucket.put("old", Buffer.from("1"));
  bucket.watch((key, value) => watched.push(`${key}=${value ? Buffer.from(value).toString() : "gone"}`));
  await bus.publishDurable(SUBJECTS.entryRecorded, Buffer.from("before"), "before");
  await got.reach(1);
  await watched.reach(1);
  await own.kill();
  await reaches(bus, false);
  await own.restart({ wipe: true });
  await reaches(bus, true);
  await bus.publishDurable(SUBJECTS.entryRecorded, Buffer.from("after"), "after");
  assert.deepEqual(await got.reach(2), ["before", "after"]);
  assert.deepEqual(await watched.reach(2), ["old=1", "old=gone"]);
  await bucket.put("new", Buffer.from("2"));
  assert.deepEqual((await watched.reach(3))[2], "new=2");
  await bus.close();
  await own.stop();
});

test("nats bus: fault: what waited behind a batch in hand was delivered again and again", skipped, async () => {
  const own = await startNats();
  const bus = busAt(own.url);
  await reaches(bus, true);
  const count = 4 * BATCH_MAX;
  for (let index = 0; index < count; index++) await bus.publishDurable(SUBJECTS.entryRecorded, Buffer.from(`${index}`), `${index}`);
  const got = collector<string>();
  let first = true;
  bus.consume(SUBJECTS.entryRecorded, "patient", async (batch) => {
    if (first) await sleep(1.5 * ACK_WAIT_MS);
    first = false;
    for (const message of batch) got.push(`${Buffer.from(message.payload).toString()}#${message.deliveries}`);
  });
  const delivered = await got.reach(count);
  assert.deepEqual(new Set(delivered), new Set(Array.from({ length: count }, (_, index) => `${index}#1`)));
  await bus.close();
  await own.stop();
});

test("nats bus: a frozen server is noticed, and its return heals", skipped, async () => {
  const own = await startNats();
  const bus = busAt(own.url);
  await reaches(bus, true);
  process.kill(own.pid!, "SIGSTOP");
  await reaches(bus, false);
  process.kill(own.pid!, "SIGCONT");
  await reaches(bus, true);
  await bus.close();
  await own.stop();
});

test("any key survives the encoding", () => {
  for (const key of ["", "a.b", "ü=1 *>", "key/with:all\n"]) {
    assert.equal(decodeKey(encodeKey(key)), key);
    assert.match(encodeKey(key), /^[A-Za-z0-9_=-]*$/);
  }
});
