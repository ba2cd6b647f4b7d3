import assert from "node:assert/strict";
import { test } from "node:test";
import type { DecideRequest, Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { FOLLOW_MAX_MS } from "./leaders.ts";
import { backend, chosen, config, DONE, ended, model, report, request, STARTED, world, type World } from "./fixture.ts";

const BLOCKS = 20;
const TOKENS = 2_048;

/** Hashes of a prompt that shares its first `shared` blocks with every other of them. */
function hashes(own: number, shared = BLOCKS): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(8 * BLOCKS));
  for (let block = 0; block < BLOCKS; block++) view.setUint32(8 * block, 1 + block + (block < shared ? 0 : 1_000 * own), true);
  return new Uint8Array(view.buffer);
}

function prompt(own = 0, shared = BLOCKS): DecideRequest {
  return request("chat", { inputTokens: TOKENS, prefixHashes: hashes(own, shared) });
}

function scene(provider: "llamacpp" | "vllm", engines = 2): Promise<World> {
  const names = ["a", "b", "c"].slice(0, engines);
  return world(
    config(
      names.map((name) => backend(name, { provider, concurrency: { mode: "fixed", min: 16, max: 16 } })),
      [model("chat", names)],
    ),
  );
}

/** The decision, or undefined while it waits. */
function ask({ session }: World, asked: DecideRequest): { decision: Decision | undefined; readonly cancel: () => void } {
  const ticket = session.decide(asked);
  const seen: { decision: Decision | undefined; cancel: () => void } = { decision: undefined, cancel: () => ticket.cancel() };
  if (ticket.decision instanceof Promise) void ticket.decision.then((decision) => (seen.decision = decision));
  else seen.decision = ticket.decision;
  return seen;
}

function first(world: World, decision: Decision): void {
  const [name] = chosen(decision);
  world.session.report(
    report(decision.decisionId, name!, { case: "firstToken", value: { $typeName: "signalbox.policy.v1.AttemptFirstToken", ttftMs: 100 } }),
  );
}

function lead(world: World): Decision {
  const decision = world.now(prompt());
  world.session.report(report(decision.decisionId, chosen(decision)[0]!, STARTED));
  return decision;
}

test("of a burst with one beginning the first goes, and the others follow it to its engine once it is computed there", async () => {
  const world = await scene("llamacpp");
  const leader = lead(world);
  await world.clock.advanceAsync(40);
  const followers = [ask(world, prompt()), ask(world, prompt(1, BLOCKS - 2))];
  assert.ok(followers.every(({ decision }) => decision === undefined));
  await world.clock.advanceAsync(60);
  first(world, leader);
  await world.clock.advanceAsync(0);
  assert.equal(chosen(followers[0]!.decision!)[0], chosen(leader)[0]);
  for (const { decision } of followers) {
    assert.deepEqual([decision!.queueMs, decision!.followedMs], [60, 60]);
  }
});

test("engines that share a prefix while it is computed get all at once, and so do prompts that begin otherwise", async () => {
  const sharing = await scene("vllm");
  lead(sharing);
  assert.notEqual(ask(sharing, prompt()).decision, undefined);
  const other = await scene("llamacpp");
  lead(other);
  assert.notEqual(ask(other, prompt(1, 0)).decision, undefined);
});

test("a follower waits no longer than it gains, nor than a quarter of a second, and goes without what is not computed", async () => {
  const world = await scene("llamacpp", 1);
  lead(world);
  const follower = ask(world, prompt());
  await world.clock.advanceAsync(FOLLOW_MAX_MS - 1);
  assert.equal(follower.decision, undefined);
  await world.clock.advanceAsync(1);
  assert.equal(follower.decision!.followedMs, FOLLOW_MAX_MS);
  await world.clock.advanceAsync(FOLLOW_MAX_MS);
  assert.notEqual(ask(world, prompt()).decision, undefined, "a leader that is late is not waited for");
  const brief = await scene("llamacpp", 1);
  const short = (): DecideRequest => request("chat", { inputTokens: 128, prefixHashes: hashes(0).slice(0, 16) });
  brief.session.report(report(brief.now(short()).decisionId, "a", STARTED));
  assert.notEqual(ask(brief, short()).decision, undefined, "computing it twice takes less than waiting");
});

test("a leader that ends without a word lets its followers go, and one that was taken back is answered", async () => {
  const world = await scene("llamacpp", 1);
  const leader = lead(world);
  const [follower, gone] = [ask(world, prompt()), ask(world, prompt())];
  gone.cancel();
  await world.clock.advanceAsync(0);
  assert.deepEqual(chosen(gone.decision!), ["[CANCELED]"]);
  world.session.report(report(leader.decisionId, "a", { case: "ended", value: ended() }));
  world.session.report(report(leader.decisionId, "", DONE));
  await world.clock.advanceAsync(0);
  assert.deepEqual(chosen(follower.decision!), ["a"]);
});

test("a session that closes takes its followers along", async () => {
  const world = await scene("llamacpp", 1);
  lead(world);
  const follower = ask(world, prompt());
  world.session.close();
  await world.clock.advanceAsync(FOLLOW_MAX_MS);
  assert.deepEqual(chosen(follower.decision!), ["[CANCELED]"]);
});
