import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { AdapterAnnouncedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { SUBJECTS } from "#libs/bus/index.ts";
import { backendOf, createRig, type Provider, startProvider, WHOLE_STREAM, writeEvents } from "./module.testkit.ts";

let provider: Provider;

before(async () => {
  provider = await startProvider(() => {});
});

after(() => provider.close());

test("a reload swaps the table and does not hurt what runs", async () => {
  let respond: (() => void) | undefined;
  const own = createRig([backendOf({ url: provider.url }), backendOf({ name: "gone", url: provider.url })]);
  await own.host.module.start();
  let changes = 0;
  own.host.onChange(() => changes++);
  provider.answer = (_, response) => {
    writeEvents(response, WHOLE_STREAM.slice(0, 2));
    respond = () => {
      writeEvents(response, WHOLE_STREAM.slice(2));
      response.end();
    };
  };
  const recorder = own.attempt({ backend: "gone" });
  await recorder.delivered(200);
  own.reload([backendOf({ url: provider.url, model: "new" })]);
  assert.deepEqual([own.host.serves("gone"), own.host.serves("b"), changes], [false, true, 1]);
  respond!();
  assert.equal((await recorder.ended).outcome, Outcome.OK);
  await own.host.module.stop();
});

test("a draining replica finishes what runs, takes nothing new and says so", async () => {
  const own = createRig([backendOf({ url: provider.url })]);
  const leaving: boolean[] = [];
  own.bus.subscribe(SUBJECTS.adapterAnnounced, (message) => void leaving.push(fromBinary(AdapterAnnouncedSchema, message.payload).leaving));
  await own.host.module.start();
  let respond: (() => void) | undefined;
  provider.answer = (_, response) => {
    writeEvents(response, WHOLE_STREAM.slice(0, 2));
    respond = () => {
      writeEvents(response, WHOLE_STREAM.slice(2));
      response.end();
    };
  };
  const recorder = own.attempt();
  await recorder.delivered(200);
  const drained = own.host.module.drain(60_000);
  assert.equal(own.host.serves("b"), false);
  assert.equal((await own.attempt().ended).error?.busy, true);
  respond!();
  assert.equal((await recorder.ended).outcome, Outcome.OK);
  await drained;
  assert.deepEqual(leaving, [false, true]);
  await own.host.module.stop();
});

test("what still runs after the grace ends with an explicit error", async () => {
  const own = createRig([backendOf({ url: provider.url })]);
  await own.host.module.start();
  provider.answer = (_, response) => writeEvents(response, WHOLE_STREAM.slice(0, 2));
  const recorder = own.attempt();
  await recorder.delivered(200);
  const drained = own.host.module.drain(5_000);
  await own.clock.advanceAsync(5_000);
  await drained;
  assert.equal((await recorder.ended).error?.reason, "UPSTREAM_UNAVAILABLE");
  await own.host.module.stop();
});

test("replicas share a backend's bound while they hear each other", async () => {
  const backends = [backendOf({ url: provider.url, concurrency: { mode: "fixed", min: 1, max: 2 } })];
  const first = createRig(backends);
  const second = createRig(backends, { bus: first.bus, clock: first.clock, replica: "replica-2" });
  await first.host.module.start();
  await second.host.module.start();
  await first.clock.advanceAsync(1_000);
  provider.answer = () => {};
  const running = [first.attempt(), first.attempt()];
  assert.equal((await running[1]!.ended).error?.busy, true);
  await second.host.module.drain(0);
  await second.host.module.stop();
  await first.clock.advanceAsync(10);
  const third = first.attempt();
  third.handle!.cancel("canceled");
  assert.equal((await third.ended).outcome, Outcome.CANCELED, "the share grew when the other left");
  running[0]!.handle!.cancel("canceled");
  await first.host.module.stop();
});

test("a dialect restriction serves only that dialect's backends", () => {
  const own = createRig(
    [backendOf({}), backendOf({ name: "claude", provider: "anthropic" }), backendOf({ name: "gem", provider: "gemini" })],
    { only: "anthropic" },
  );
  assert.deepEqual(own.host.backends(), ["claude"]);
});
