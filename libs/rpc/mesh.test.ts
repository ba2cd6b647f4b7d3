import assert from "node:assert/strict";
import { type AddressInfo, connect as connectTcp, createServer as createTcpServer, type Socket } from "node:net";
import { after, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { AdapterAnnouncedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { createMemoryBus, type EventBus, SUBJECTS } from "#libs/bus/index.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { systemClock } from "#libs/clock/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { AdapterHost, PolicyHost, PolicySession } from "#libs/peers/index.ts";
import { adapterContract, openOf, RecordingSink } from "#libs/peers/adapter.contract.ts";
import { allow, FakeAdapterHost, FakePolicyHost } from "#libs/peers/fakes.ts";
import { eventually, policyContract, reportOf, requestOf } from "#libs/peers/policy.contract.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { Metadata, Server, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import { SessionRequestFrameSchema, SessionResponseFrameSchema } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import { codecOf } from "#libs/wire/index.ts";
import { FrameSender, readFrames } from "./frames.ts";
import { bytesStream, SESSION_PATH } from "./wire.ts";
import { createAdapterClient } from "./adapter-client.ts";
import type { RpcServer } from "./connect-server.ts";
import { createMeshServer } from "./mesh-server.ts";
import { createExplainClient } from "./peer-clients.ts";
import { createPolicyClient } from "./policy-client.ts";

/** Whatever a failing test leaves open would keep the process. */
const closers: (() => void | Promise<void>)[] = [];

after(async () => {
  for (const close of closers.toReversed()) await close();
});

const base = { clock: systemClock, random: new SeededRandom(1), logger: silentLogger };

async function serve(hosts: { policy?: PolicyHost; adapters?: AdapterHost }, port = 0): Promise<{ server: RpcServer; address: string }> {
  const server = createMeshServer({ ...base, ...hosts, listen: { host: "127.0.0.1", port }, services: [] });
  closers.push(() => server.stop());
  await server.start();
  return { server, address: `127.0.0.1:${server.address().port}` };
}

function busOf(): EventBus {
  return createMemoryBus(base);
}

/** A connected session; patient, unless a test is about impatience: this machine may be busy with something else. */
async function policyAt(addresses: readonly string[], answerTimeoutMs = 60_000): Promise<PolicySession> {
  const session = createPolicyClient({ ...base, addresses, ingressId: "ingress-1", answerTimeoutMs });
  closers.push(() => session.close());
  await eventually(() => session.connected, "the connection");
  return session;
}

policyContract("far policy", async (host) => {
  const { server, address } = await serve({ policy: host });
  const session = await policyAt([address]);
  return {
    session,
    close: async () => {
      session.close();
      await server.stop();
    },
  };
});

adapterContract("far adapter", async (host) => {
  const { server, address } = await serve({ adapters: host });
  const peer = createAdapterClient({ ...base, addresses: [address], bus: busOf() });
  closers.push(() => peer.close());
  await eventually(() => peer.serves("backend-a"), "the replica");
  return {
    peer,
    close: async () => {
      peer.close();
      await server.stop();
    },
  };
});

/** A TCP relay to `port` that can stop carrying bytes without closing anything: a partition. */
async function cuttableWire(port: number): Promise<{ address: string; cut(): void; close(): void }> {
  const sockets: Socket[] = [];
  let cut = false;
  const relay = createTcpServer((near) => {
    const far = connectTcp(port, "127.0.0.1");
    sockets.push(near, far);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on("data", (bytes) => (cut ? undefined : to.write(bytes)));
      from.on("error", () => {});
      from.on("close", () => (cut ? undefined : to.destroy()));
    }
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  return {
    address: `127.0.0.1:${(relay.address() as AddressInfo).port}`,
    cut: () => (cut = true),
    close: () => {
      relay.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function isUnavailable(error: unknown): boolean {
  return error instanceof SignalboxError && error.reason === "NO_BACKEND" && error.code === "policy_unavailable";
}

test("without an engine a decide is rejected at once as policy_unavailable", async () => {
  const session = createPolicyClient({ ...base, addresses: ["127.0.0.1:1"], ingressId: "ingress-1", answerTimeoutMs: 25 });
  await assert.rejects(Promise.resolve(session.decide(requestOf("x")).decision), isUnavailable);
  session.close();
});

test("an engine that neither answers nor acknowledges is given up, and still told what becomes of the request without it", async () => {
  const heard: string[] = [];
  let decideLate: (id: string) => void = () => {};
  const server = new Server();
  const method = bytesStream(SESSION_PATH);
  const serveSession = (call: ServerDuplexStream<Buffer, Buffer>): void => {
    call.sendMetadata(new Metadata());
    const sender = new FrameSender(codecOf(SessionResponseFrameSchema), (batch, taken) => void call.write(batch, taken));
    decideLate = (id) =>
      sender.send({ $typeName: "signalbox.policy.v1.SessionResponseFrame", frame: { case: "decision", value: allow(id, "a") } });
    call.on("data", (batch: Buffer) =>
      readFrames(codecOf(SessionRequestFrameSchema), batch, ({ frame }) =>
        heard.push(frame.case === "report" ? `${frame.value.decisionId} ${frame.value.event.case}` : String(frame.case)),
      ),
    );
    call.on("end", () => call.end());
  };
  server.register(SESSION_PATH, serveSession as never, method.responseSerialize as never, method.requestDeserialize as never, "bidi");
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  const session = await policyAt([`127.0.0.1:${port}`], 25);
  await assert.rejects(Promise.resolve(session.decide(requestOf("silent")).decision), isUnavailable);
  await eventually(() => heard.includes("cancel"), "the cancellation");
  session.report(
    reportOf("silent", { case: "started", value: { $typeName: "signalbox.policy.v1.AttemptStarted", hedge: false, attempt: 1 } }),
  );
  decideLate("silent");
  await eventually(() => heard.includes("silent started"), "the attempt made without it");
  session.report(reportOf("silent", { case: "requestDone", value: { $typeName: "signalbox.policy.v1.RequestDone" } }));
  await eventually(() => heard.includes("silent requestDone"), "the release");
  decideLate("silent");
  await eventually(() => heard.length > 5, "the release of what is reserved after the end");
  assert.deepEqual(heard, ["hello", "decide", "cancel", "silent started", "silent requestDone", "silent requestDone"]);
  session.close();
  server.forceShutdown();
});

test("a lost engine rejects what is pending, its reports are dropped, and its return is noticed", async () => {
  const host = new FakePolicyHost();
  host.answer = (request) => (request.decisionId === "held" ? new Promise(() => {}) : allow(request.decisionId, "a"));
  const first = await serve({ policy: host });
  const session = await policyAt([first.address]);
  await session.decide(requestOf("before")).decision;
  const held = Promise.resolve(session.decide(requestOf("held")).decision);
  held.catch(() => {});
  await eventually(() => host.requests.length === 2, "both requests");
  await first.server.stop();
  await assert.rejects(held, isUnavailable);
  await eventually(() => !session.connected, "the loss");
  await eventually(() => host.sessions.every((one) => !one.open), "the release");
  session.report(reportOf("before", { case: "requestDone", value: { $typeName: "signalbox.policy.v1.RequestDone" } }));
  const second = await serve({ policy: host }, Number(first.address.split(":")[1]));
  await eventually(() => session.connected, "the return");
  assert.equal((await session.decide(requestOf("after")).decision).decisionId, "after");
  assert.deepEqual(host.reports, []);
  session.close();
  await second.server.stop();
});

test("requests are shared among engines, reports go to the one that decided, a draining one gets no new requests", async () => {
  const hosts = [new FakePolicyHost(), new FakePolicyHost()];
  const servers = await Promise.all(hosts.map((host) => serve({ policy: host })));
  const session = await policyAt(servers.map(({ address }) => address));
  await eventually(() => hosts.every((host) => host.sessions.length === 1), "both sessions");
  await new Promise((resolve) => setImmediate(resolve));
  let probes = 0;
  while (!hosts.every((host) => host.requests.length > 0)) await session.decide(requestOf(`warm-${probes++}`)).decision;
  for (const id of ["r1", "r2", "r3", "r4"]) {
    await session.decide(requestOf(id)).decision;
    session.report(reportOf(id, { case: "requestDone", value: { $typeName: "signalbox.policy.v1.RequestDone" } }));
  }
  await eventually(
    () => hosts.flatMap((host) => host.reports).filter(({ decisionId }) => /^r\d/.test(decisionId)).length === 4,
    "four reports",
  );
  for (const host of hosts) {
    const asked = host.requests.map((request) => request.decisionId).filter((id) => /^r\d/.test(id));
    assert.equal(asked.length, 2);
    assert.deepEqual(
      host.reports.map((report) => report.decisionId).filter((id) => /^r\d/.test(id)),
      asked,
    );
  }
  hosts[0]!.drain();
  const before = hosts[0]!.requests.length;
  const marker = hosts[1]!.requests.length;
  // the draining frame races with our next decides, as it does in life: ask until one engine alone is asked
  while (hosts[1]!.requests.length < marker + 5) await session.decide(requestOf(`probe-${probes++}`)).decision;
  const settled = hosts[0]!.requests.length;
  for (let index = 0; index < 10; index++) await session.decide(requestOf(`d${index}`)).decision;
  assert.equal(hosts[0]!.requests.length, settled);
  assert.ok(settled - before < 10);
  session.close();
  await Promise.all(servers.map(({ server }) => server.stop()));
});

test("a lost adapter ends its attempts as dispatched failures with what was seen of content", async () => {
  const host = new FakeAdapterHost();
  const { server, address } = await serve({ adapters: host });
  const peer = createAdapterClient({ ...base, addresses: [address], bus: busOf() });
  closers.push(() => peer.close());
  await eventually(() => peer.serves("backend-a"), "the replica");
  host.onAttempt = (attempt) => void attempt.send(Buffer.from("half an ans"));
  const sink = new RecordingSink();
  peer.attempt(openOf("cut"), sink);
  await eventually(() => sink.chunks.length === 1, "content");
  await server.stop();
  await eventually(() => sink.ends.length === 1, "the end");
  const end = sink.ends[0]!;
  assert.equal(end.outcome, Outcome.FAILED);
  assert.equal(end.error?.reason, "UPSTREAM_UNAVAILABLE");
  assert.deepEqual([end.dispatched, end.error?.untouched, end.contentSeen, end.contentBytes], [true, false, true, 11]);
  await eventually(() => host.attempts[0]!.ended, "the cancellation at the adapter");
  assert.equal(host.attempts[0]!.cancelled, "canceled");
  assert.equal(peer.serves("backend-a"), false);
  peer.close();
});

test("an attempt nobody serves fails untouched, after attempt() has returned", async () => {
  const peer = createAdapterClient({ ...base, bus: busOf() });
  closers.push(() => peer.close());
  const sink = new RecordingSink();
  peer.attempt(openOf("none"), sink);
  assert.equal(sink.ends.length, 0);
  await eventually(() => sink.ends.length === 1, "the end");
  assert.deepEqual([sink.ends[0]!.error?.untouched, sink.ends[0]!.dispatched], [true, false]);
  peer.close();
});

test("replicas announce themselves on the bus; the one with the least in flight is taken, a leaving one is not", async () => {
  const bus = busOf();
  const hosts = [new FakeAdapterHost("r1"), new FakeAdapterHost("r2")];
  const servers = await Promise.all(hosts.map((host) => serve({ adapters: host })));
  const peer = createAdapterClient({ ...base, bus });
  closers.push(() => peer.close());
  let sequence = 1n;
  const announce = (index: number, leaving = false): void => {
    const said = { replica: `r${index + 1}`, address: servers[index]!.address, backends: ["backend-a"], leaving, sequence: sequence++ };
    bus.publish(SUBJECTS.adapterAnnounced, toBinary(AdapterAnnouncedSchema, create(AdapterAnnouncedSchema, said)));
  };
  announce(0);
  await eventually(() => peer.serves("backend-a"), "the first replica");
  const first = peer.attempt(openOf("one"), new RecordingSink());
  assert.equal(first.replica, "r1");
  announce(1);
  await eventually(() => {
    const handle = peer.attempt(openOf("try"), new RecordingSink());
    if (handle.replica === "r2") return true;
    handle.cancel("canceled");
    return false;
  }, "the second replica");
  announce(0, true);
  announce(1, true);
  await eventually(() => !peer.serves("backend-a"), "the leaving");
  peer.close();
  await Promise.all(servers.map(({ server }) => server.stop()));
});

test("a half-open partition is noticed by both ends within seconds, without a reset", async () => {
  const policy = new FakePolicyHost();
  const adapters = new FakeAdapterHost();
  const { server, address } = await serve({ policy, adapters });
  const wire = await cuttableWire(Number(address.split(":")[1]));
  const session = await policyAt([wire.address]);
  const peer = createAdapterClient({ ...base, addresses: [wire.address], bus: busOf() });
  closers.push(() => peer.close());
  await eventually(() => peer.serves("backend-a"), "the replica");
  const sink = new RecordingSink();
  peer.attempt(openOf("cut"), sink);
  await eventually(() => adapters.attempts.length === 1, "the attempt");
  wire.cut();
  await eventually(() => !session.connected && sink.ends.length === 1, "the client's notice");
  assert.equal(sink.ends[0]!.error?.reason, "UPSTREAM_UNAVAILABLE");
  await eventually(() => policy.sessions.every((one) => !one.open) && adapters.attempts[0]!.ended, "the server's notice");
  session.close();
  peer.close();
  wire.close();
  await server.stop();
});

test("explanations are asked of every engine until one has the record", async () => {
  const hosts = [new FakePolicyHost(), new FakePolicyHost()];
  const servers = await Promise.all(hosts.map((host) => serve({ policy: host })));
  const client = createExplainClient({ ...base, addresses: servers.map(({ address }) => address) });
  const ask = () => client.explain({ $typeName: "signalbox.policy.v1.ExplainRequest", subject: { case: "id", value: "one" } });
  assert.equal(await ask(), undefined);
  hosts[1]!.record = {
    $typeName: "signalbox.policy.v1.DecisionRecord",
    decidedAtMs: 5,
    responseIds: ["r"],
    controlRevision: 0n,
    others: [],
  };
  assert.equal((await ask())?.decidedAtMs, 5);
  await servers[0]!.server.stop();
  assert.equal((await ask())?.decidedAtMs, 5);
  await servers[1]!.server.stop();
  await assert.rejects(ask(), (error: unknown) => error instanceof SignalboxError && error.code === "peer_unavailable");
  client.close();
});
