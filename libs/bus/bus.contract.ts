import assert from "node:assert/strict";
import { test } from "node:test";
import type { BusMessage, EventBus } from "./bus.ts";
import { SUBJECTS, subjectOf } from "./subjects.ts";

/** How a suite gets its buses. */
export interface BusUnderTest {
  /** A bus that shares everything with the others of one group (the in-memory one: the same object). */
  open(): Promise<EventBus>;
  /** Resolves when what was subscribed on `bus` is known wherever messages are routed. */
  settled(bus: EventBus): Promise<void>;
  /** Lets `ms` of the bus's time pass. */
  pass(ms: number): Promise<void>;
}

const text = (payload: Uint8Array): string => Buffer.from(payload).toString();
const bytes = (value: string): Uint8Array => new Uint8Array(Buffer.from(value));

/** Collects items and resolves when there are enough; fails loudly instead of hanging. */
export function collector<T>(): { push(item: T): void; readonly items: T[]; reach(count: number): Promise<T[]> } {
  const items: T[] = [];
  const waiting: { count: number; resolve: (all: T[]) => void }[] = [];
  return {
    items,
    push: (item) => {
      items.push(item);
      for (const one of waiting) if (items.length >= one.count) one.resolve(items);
    },
    reach: (count) =>
      new Promise((resolve, reject) => {
        if (items.length >= count) return resolve(items);
        const timer = setTimeout(() => reject(new Error(`${items.length} of ${count} arrived: ${JSON.stringify(items)}`)), 60_000);
        waiting.push({
          count,
          resolve: (all) => {
            clearTimeout(timer);
            resolve(all);
          },
        });
      }),
  };
}

let serial = 0;
const fresh = (name: string): string => `${name}-${process.pid}-${serial++}`;

/** What both buses promise. */
export function busContract(name: string, under: BusUnderTest, options: { readonly skip?: string } = {}): void {
  const skip = options.skip ?? false;

  test(`${name}: a live message reaches every subscriber, after publish has returned`, { skip }, async () => {
    const bus = await under.open();
    const subject = subjectOf("signalbox.test.live.v1", fresh("a"));
    const first = collector<string>();
    const second = collector<string>();
    bus.subscribe(subject, (message) => first.push(text(message.payload)));
    bus.subscribe(subject, (message) => second.push(`${message.subject === subject}`));
    await under.settled(bus);
    bus.publish(subject, bytes("one"));
    bus.publish(subject, bytes("two"));
    assert.deepEqual(first.items, []);
    assert.deepEqual(await first.reach(2), ["one", "two"]);
    assert.deepEqual(await second.reach(2), ["true", "true"]);
  });

  test(`${name}: wildcards match tokens, and a closed subscription hears nothing`, { skip }, async () => {
    const bus = await under.open();
    const base = `signalbox.test.${fresh("wild")}`;
    const star = collector<string>();
    const rest = collector<string>();
    bus.subscribe(`${base}.*`, (message) => star.push(text(message.payload)));
    const closed = bus.subscribe(`${base}.>`, () => assert.fail("a closed subscription was called"));
    closed.close();
    closed.close();
    bus.subscribe(`${base}.>`, (message) => rest.push(text(message.payload)));
    await under.settled(bus);
    bus.publish(`${base}.a.b`, bytes("deep"));
    bus.publish(`${base}.a`, bytes("flat"));
    assert.deepEqual(await rest.reach(2), ["deep", "flat"]);
    assert.deepEqual(await star.reach(1), ["flat"]);
  });

  test(`${name}: a queue group gets each message once, and all members work`, { skip }, async () => {
    const bus = await under.open();
    const other = await under.open();
    const subject = subjectOf("signalbox.test.queue.v1", fresh("q"));
    const got = collector<string>();
    const members = [0, 0];
    for (const [index, one] of [bus, other].entries()) {
      one.subscribe(
        subject,
        (message) => {
          members[index]!++;
          got.push(text(message.payload));
        },
        { queue: "workers" },
      );
      await under.settled(one);
    }
    for (let index = 0; index < 100; index++) bus.publish(subject, bytes(String(index)));
    await got.reach(100);
    assert.equal(new Set(got.items).size, 100);
    assert.ok(members[0]! > 0 && members[1]! > 0, `shares ${members.join(" and ")}`);
  });

  test(`${name}: a durable consumer gets what was published before it came, in order, with repeats dropped by id`, { skip }, async () => {
    const bus = await under.open();
    const mark = fresh("early");
    const got = collector<string>();
    for (let index = 0; index < 20; index++)
      await bus.publishDurable(SUBJECTS.entryRecorded, bytes(`${mark}/${index}`), `${mark}/${index}`);
    await bus.publishDurable(SUBJECTS.entryRecorded, bytes(`${mark}/again`), `${mark}/3`);
    const consumer = bus.consume(SUBJECTS.entryRecorded, fresh("ledger"), (batch) => {
      for (const message of batch) if (text(message.payload).startsWith(mark)) got.push(text(message.payload));
      return Promise.resolve();
    });
    await got.reach(20);
    await bus.publishDurable(SUBJECTS.entryRecorded, bytes(`${mark}/last`), `${mark}/last`);
    await got.reach(21);
    consumer.close();
    assert.deepEqual(got.items, [...Array.from({ length: 20 }, (_, index) => `${mark}/${index}`), `${mark}/last`]);
  });

  test(`${name}: a rejected batch is delivered again, and counts its deliveries`, { skip }, async () => {
    const bus = await under.open();
    const mark = fresh("retry");
    const seen = collector<string>();
    let failing = true;
    const consumer = bus.consume(SUBJECTS.entryRecorded, fresh("ledger"), async (batch: readonly BusMessage[]) => {
      const own = batch.filter((message) => text(message.payload).startsWith(mark));
      for (const message of own) seen.push(`${text(message.payload)}#${message.deliveries}`);
      if (own.length > 0 && failing) {
        failing = false;
        throw new Error("store away");
      }
    });
    await bus.publishDurable(SUBJECTS.entryRecorded, bytes(mark), mark);
    await seen.reach(1);
    await under.pass(1_100);
    await seen.reach(2);
    consumer.close();
    assert.deepEqual(seen.items, [`${mark}#1`, `${mark}#2`]);
  });

  test(`${name}: one handler call at a time per consumer name, over all members; another member takes over`, { skip }, async () => {
    const bus = await under.open();
    const other = await under.open();
    const mark = fresh("single");
    const durable = fresh("ledger");
    const got = collector<string>();
    let running = 0;
    let most = 0;
    const handler = async (batch: readonly BusMessage[]): Promise<void> => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setImmediate(resolve));
      for (const message of batch) if (text(message.payload).startsWith(mark)) got.push(text(message.payload));
      running--;
    };
    const first = bus.consume(SUBJECTS.entryRecorded, durable, handler);
    const second = other.consume(SUBJECTS.entryRecorded, durable, handler);
    for (let index = 0; index < 50; index++)
      await bus.publishDurable(SUBJECTS.entryRecorded, bytes(`${mark}/${index}`), `${mark}/${index}`);
    await got.reach(50);
    first.close();
    for (let index = 50; index < 60; index++)
      await bus.publishDurable(SUBJECTS.entryRecorded, bytes(`${mark}/${index}`), `${mark}/${index}`);
    await got.reach(60);
    second.close();
    assert.equal(most, 1);
    assert.equal(new Set(got.items).size, 60);
  });

  test(`${name}: key-value keeps the latest value, tells watchers, and takes any key`, { skip }, async () => {
    const bus = await under.open();
    const bucket = bus.keyValue(fresh("bucket"), { memory: true });
    assert.equal(await bucket.get("absent"), undefined);
    await bucket.put("présent .key/=", bytes("1"));
    const seen = collector<string>();
    const watch = bucket.watch((key, value) => seen.push(`${key}=${value ? text(value) : "gone"}`));
    await seen.reach(1);
    await bucket.put("présent .key/=", bytes("2"));
    await seen.reach(2);
    assert.equal(text((await bucket.get("présent .key/="))!), "2");
    await bucket.delete("présent .key/=");
    await seen.reach(3);
    assert.equal(await bucket.get("présent .key/="), undefined);
    watch.close();
    assert.deepEqual(seen.items, ["présent .key/==1", "présent .key/==2", "présent .key/==gone"]);
  });

  test(`${name}: of many who create one key exactly one does, and again when it is deleted`, { skip }, async () => {
    const bus = await under.open();
    const other = await under.open();
    const named = fresh("claims");
    const buckets = [bus, other].map((each) => each.keyValue(named, { ttlMs: 60_000, memory: true, maxBytes: 1_000 }));
    for (let round = 0; round < 3; round++) {
      const won = await Promise.all(Array.from({ length: 20 }, (_, index) => buckets[index % 2]!.create("key", bytes(`${index}`))));
      assert.equal(won.filter(Boolean).length, 1);
      assert.equal(text((await buckets[0]!.get("key"))!), `${won.indexOf(true)}`);
      await buckets[round % 2]!.delete("key");
    }
    await assert.rejects(buckets[0]!.put("large", new Uint8Array(2_000)));
  });

  test(`${name}: a value outlives its time for nobody`, { skip }, async () => {
    const bus = await under.open();
    const bucket = bus.keyValue(fresh("brief"), { ttlMs: 3_000, memory: true });
    await bucket.put("key", bytes("value"));
    assert.equal(text((await bucket.get("key"))!), "value");
    await under.pass(3_000);
    // Whoever keeps it looks at times once in a while.
    while ((await bucket.get("key")) !== undefined) await under.pass(250);
  });
}
