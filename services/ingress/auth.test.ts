import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { test } from "node:test";
import { toBinary } from "@bufbuild/protobuf";
import { ControlStateSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { createMemoryBus, SUBJECTS } from "#libs/bus/index.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { ControlPeer } from "#libs/peers/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { isModelAllowed, KeyBook, OPEN_CALLER, presentedKey } from "./auth.ts";
import { chatBody, controlState, FakeControl, postChat, startIngress, testConfig } from "./testing.ts";

const KEY = "sk-sb-0123456789abcdefghijklmnopqrstuvwxyz";
const digestOf = (key: string): Uint8Array => hash("sha256", key, "buffer");

function bookOf(
  control: FakeControl,
  saved?: Uint8Array,
): { book: KeyBook; clock: FakeClock; bus: ReturnType<typeof createMemoryBus>; kept: Uint8Array[] } {
  const clock = new FakeClock();
  const bus = createMemoryBus({ clock, logger: silentLogger });
  const kept: Uint8Array[] = [];
  const stateStore = { load: () => Promise.resolve(saved), save: (bytes: Uint8Array) => Promise.resolve(void kept.push(bytes)) };
  const book = new KeyBook({
    clock,
    bus,
    control: control as unknown as ControlPeer,
    logger: silentLogger,
    stateStore,
    replica: "ingress-1",
  });
  return { book, clock, bus, kept };
}

function reasonOf(act: () => unknown): string {
  try {
    act();
    return "none";
  } catch (error) {
    return (error as SignalboxError).reason;
  }
}

test("a known key resolves to its tenant, team and models", async () => {
  const control = new FakeControl();
  control.current = controlState(3n, [{ keyId: "key_1", digest: digestOf(KEY), tenant: "acme", team: "search", models: ["chat"] }]);
  const { book } = bookOf(control);
  await book.start();
  const caller = book.identify(KEY, "keys", 0);
  assert.deepEqual([caller.tenant, caller.team, caller.keyId, [...caller.models!]], ["acme", "search", "key_1", ["chat"]]);
  assert.equal(book.identify(KEY, "open", 0).tenant, "acme");
});

test("no key shorter, longer or alike ever stands for another", async () => {
  const control = new FakeControl();
  control.current = controlState(1n, [{ keyId: "key_1", digest: digestOf(KEY), tenant: "acme" }]);
  const { book } = bookOf(control);
  await book.start();
  for (let length = 0; length < KEY.length; length++) {
    assert.equal(
      reasonOf(() => book.identify(KEY.slice(0, length), "keys", 0)),
      "UNAUTHENTICATED",
    );
  }
  for (let index = 0; index < 20_000; index++) {
    assert.equal(
      reasonOf(() => book.identify(`${KEY.slice(0, 20 + (index % 20))}${index}`, "keys", 0)),
      "UNAUTHENTICATED",
    );
  }
});

test("revoked and expired keys are refused; in open mode they are nobody's", async () => {
  const control = new FakeControl();
  control.current = controlState(1n, [
    { keyId: "a", digest: digestOf("revoked"), tenant: "acme", revokedAtMs: 5 },
    { keyId: "b", digest: digestOf("expires"), tenant: "acme", expiresAtMs: 100 },
  ]);
  const { book } = bookOf(control);
  await book.start();
  assert.equal(
    reasonOf(() => book.identify("revoked", "keys", 50)),
    "UNAUTHENTICATED",
  );
  assert.equal(book.identify("expires", "keys", 50).tenant, "acme");
  assert.equal(
    reasonOf(() => book.identify("expires", "keys", 150)),
    "UNAUTHENTICATED",
  );
  assert.equal(book.identify("revoked", "open", 50), OPEN_CALLER);
});

test("an unknown key is 503, never 401, while the store cannot be asked", async () => {
  const control = new FakeControl();
  control.down = true;
  const { book, clock } = bookOf(control);
  const started = book.start();
  await clock.advanceAsync(1_000);
  await started;
  assert.equal(
    reasonOf(() => book.identify("unknown", "keys", 0)),
    "KEY_STORE_UNAVAILABLE",
  );
  assert.equal(
    reasonOf(() => book.identify(undefined, "keys", 0)),
    "UNAUTHENTICATED",
  );
  control.down = false;
  await clock.advanceAsync(2_100);
  assert.equal(
    reasonOf(() => book.identify("unknown", "keys", 0)),
    "UNAUTHENTICATED",
  );
});

test("fault: unknown keys were told 401 while the ledger could only answer from memory", async () => {
  const control = new FakeControl();
  control.current = { ...controlState(3n, [{ keyId: "key_1", digest: digestOf(KEY), tenant: "acme" }]), unconfirmed: true };
  const { book, clock, bus } = bookOf(control);
  await book.start();
  assert.equal(book.identify(KEY, "keys", 0).tenant, "acme");
  assert.equal(
    reasonOf(() => book.identify("unknown", "keys", 0)),
    "KEY_STORE_UNAVAILABLE",
  );
  // A push that was confirmed is as good as an answer, and comes sooner.
  bus.publish(SUBJECTS.controlChanged, toBinary(ControlStateSchema, { ...control.current, unconfirmed: false }));
  await clock.advanceAsync(0);
  assert.equal(
    reasonOf(() => book.identify("unknown", "keys", 0)),
    "UNAUTHENTICATED",
  );
});

test("the saved state serves known keys when the store is away at boot", async () => {
  const control = new FakeControl();
  control.down = true;
  const saved = toBinary(ControlStateSchema, controlState(9n, [{ keyId: "key_1", digest: digestOf(KEY), tenant: "acme" }]));
  const { book } = bookOf(control, saved);
  await book.start();
  assert.equal(book.identify(KEY, "keys", 0).tenant, "acme");
  assert.equal(
    reasonOf(() => book.identify("other", "keys", 0)),
    "KEY_STORE_UNAVAILABLE",
  );
});

test("a pushed state takes effect at once and is saved; an older one does not", async () => {
  const control = new FakeControl();
  control.current = controlState(5n, [{ keyId: "key_1", digest: digestOf(KEY), tenant: "acme" }]);
  const { book, clock, bus, kept } = bookOf(control);
  await book.start();
  const revoked = controlState(6n, [{ keyId: "key_1", digest: digestOf(KEY), tenant: "acme", revokedAtMs: 1 }]);
  control.current = revoked;
  bus.publish(SUBJECTS.controlChanged, toBinary(ControlStateSchema, revoked));
  await clock.advanceAsync(0);
  assert.equal(
    reasonOf(() => book.identify(KEY, "keys", 2)),
    "UNAUTHENTICATED",
  );
  bus.publish(SUBJECTS.controlChanged, toBinary(ControlStateSchema, controlState(4n, [])));
  await clock.advanceAsync(0);
  assert.equal(kept.length, 2);
  assert.equal(Buffer.concat(kept).includes(KEY), false);
});

test("a model must be allowed by the key and by the tenant", () => {
  const caller = { ...OPEN_CALLER, models: new Set(["chat"]) };
  assert.equal(isModelAllowed(caller, undefined, "gpt-4o-mini", "chat"), true);
  assert.equal(isModelAllowed(caller, ["vision"], "chat", "chat"), false);
  assert.equal(isModelAllowed(caller, undefined, "vision", "vision"), false);
  assert.equal(isModelAllowed(OPEN_CALLER, undefined, "anything", "anything"), true);
});

test("the key is read from bearer or x-api-key, whatever the scheme's case", () => {
  assert.equal(presentedKey({ authorization: "bearer abc" }), "abc");
  assert.equal(presentedKey({ "x-api-key": "abc" }), "abc");
  assert.equal(presentedKey({ authorization: "Basic abc", "x-api-key": "def" }), "def");
  assert.equal(presentedKey({ authorization: "Bearer " }), undefined);
});

test("over HTTP: 401 without a key, 403 for a model that is not the key's, and lists show only what is allowed", async () => {
  const control = new FakeControl();
  control.current = controlState(1n, [{ keyId: "key_1", digest: digestOf(KEY), tenant: "acme", models: ["chat"], maxClass: 3 }]);
  const ingress = await startIngress({ config: testConfig({ auth: { mode: "keys" } }), control });
  try {
    ingress.adapters.answers("alpha", ["hi"]);
    const codes: string[] = [];
    for (const headers of [{}, { authorization: "Bearer wrong" }] as Record<string, string>[]) {
      const response = await postChat(ingress, chatBody(), { headers });
      assert.equal(response.status, 401);
      assert.equal(response.headers.get("x-should-retry"), "false");
      codes.push(((await response.json()) as { error: { code: string } }).error.code);
    }
    assert.deepEqual(codes, ["invalid_api_key", "invalid_api_key"]);
    const headers = { authorization: `Bearer ${KEY}` };
    const forbidden = await postChat(ingress, chatBody({ model: "openai/alpha-model" }), { headers });
    assert.equal(forbidden.status, 403);
    assert.equal(((await forbidden.json()) as { error: { type: string } }).error.type, "permission_error");
    assert.equal((await postChat(ingress, chatBody({ model: "gpt-4o-mini", service_tier: "priority" }), { headers })).status, 200);
    const [request] = ingress.policy.requests;
    assert.deepEqual([request!.tenant, request!.keyId, request!.requestClass], ["acme", "key_1", 3]);
    const list = (await (await fetch(`${ingress.url}/v1/models`, { headers })).json()) as { data: { id: string }[] };
    assert.deepEqual(
      list.data.map((model) => model.id),
      ["chat", "gpt-4o-mini"],
    );
    const arm = await postChat(ingress, chatBody(), { headers: { ...headers, "x-signalbox-experiment": "a=b" } });
    assert.equal(arm.status, 403);
  } finally {
    await ingress.stop();
  }
});

test("a rotated key's old secret works until its grace ends, the new one on", async () => {
  const control = new FakeControl();
  control.current = controlState(1n, [
    { keyId: "a", digest: digestOf("new"), tenant: "acme", previousDigest: digestOf("old"), previousUntilMs: 100 },
  ]);
  const { book } = bookOf(control);
  await book.start();
  assert.deepEqual([book.identify("new", "keys", 50).keyId, book.identify("old", "keys", 50).keyId], ["a", "a"]);
  assert.equal(book.identify("new", "keys", 150).keyId, "a");
  assert.equal(
    reasonOf(() => book.identify("old", "keys", 150)),
    "UNAUTHENTICATED",
  );
});
