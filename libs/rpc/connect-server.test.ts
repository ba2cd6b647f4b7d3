import assert from "node:assert/strict";
import { connect as connectSocket } from "node:net";
import { after, before, test } from "node:test";
import { create, type DescMethodUnary, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { Health, HealthCheckResponse_ServingStatus as Serving } from "#gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "#gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { ControlService, GetControlStateRequestSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { LedgerService } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { systemClock } from "#libs/clock/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { createPublicRpcServer, type RpcServer } from "./connect-server.ts";
import { fromConnectError, fromGrpcError } from "./errors.ts";
import { createMeshServer } from "./mesh-server.ts";
import { createControlClient, createLedgerClient } from "./peer-clients.ts";
import { rpcService } from "./service.ts";

let healthy = true;
let streamsOpen = 0;

const control = rpcService(ControlService, {
  getControlState: ({ knownRevision }, { requestHeader }) => {
    if (knownRevision === 1n) throw new SignalboxError("RATE_LIMITED", "slow down", { retryAfterMs: 1500, param: "model", code: "finer" });
    if (knownRevision === 2n) throw new Error("secret detail");
    if (knownRevision === 3n) return {};
    return { state: { revision: 7n, drainedBackends: [requestHeader.get("x-test") ?? "none"] } };
  },
});

const ledger = rpcService(LedgerService, {
  async *exportEntries({ afterSequence }, { signal }) {
    streamsOpen++;
    try {
      for (let batch = 0; batch < 5; batch++) yield { entries: [{ sequence: BigInt(batch) }] };
      if (afterSequence === 9n) throw new SignalboxError("KEY_STORE_UNAVAILABLE", "store away");
      if (afterSequence === 8n) await new Promise((resolve) => signal.addEventListener("abort", resolve));
    } finally {
      streamsOpen--;
    }
  },
});

const base = { clock: systemClock, random: new SeededRandom(3), logger: silentLogger };
const services = [control, ledger];
let server: RpcServer;
let mesh: RpcServer;
let port = 0;

before(async () => {
  const listen = { host: "127.0.0.1", port: 0 };
  server = createPublicRpcServer({ ...base, listen, services, reflection: true, health: () => healthy });
  mesh = createMeshServer({ ...base, listen, services });
  await Promise.all([server.start(), mesh.start()]);
  port = server.address().port;
});

after(async () => {
  await Promise.all([server.stop(), mesh.stop()]);
});

function unary<M extends DescMethodUnary>(
  target: number,
  method: M,
  request: MessageShape<M["input"]>,
): Promise<MessageShape<M["output"]>> {
  const client = new Client(`127.0.0.1:${target}`, credentials.createInsecure());
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      `/${method.parent.typeName}/${method.name}`,
      (message: MessageShape<M["input"]>) => Buffer.from(toBinary(method.input, message)),
      (bytes: Buffer) => fromBinary(method.output, bytes) as MessageShape<M["output"]>,
      request,
      (error, answer) => {
        client.close();
        if (error) reject(error);
        else resolve(answer!);
      },
    );
  });
}

const stateRequest = (knownRevision: bigint) => create(GetControlStateRequestSchema, { knownRevision });

for (const [name, transport] of [
  ["gRPC", () => createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` })],
  ["gRPC-web over HTTP/1.1", () => createGrpcWebTransport({ baseUrl: `http://127.0.0.1:${port}`, httpVersion: "1.1" })],
  ["Connect over HTTP/2", () => createConnectTransport({ baseUrl: `http://127.0.0.1:${port}`, httpVersion: "2" })],
  ["Connect over HTTP/1.1", () => createConnectTransport({ baseUrl: `http://127.0.0.1:${port}`, httpVersion: "1.1" })],
] as const) {
  test(`one port serves ${name}: unary, streams, and errors with their reason`, async () => {
    const client = createClient(ControlService, transport());
    const answer = await client.getControlState({ knownRevision: 0n }, { headers: { "x-test": "seen" } });
    assert.deepEqual([answer.state?.revision, answer.state?.drainedBackends], [7n, ["seen"]]);
    await assert.rejects(client.getControlState({ knownRevision: 1n }), (error: unknown) => {
      assert.ok(error instanceof ConnectError);
      const ours = fromConnectError(error);
      assert.deepEqual(
        [ours.reason, ours.code, ours.param, ours.retryAfterMs, ours.message],
        ["RATE_LIMITED", "finer", "model", 1500, "slow down"],
      );
      return true;
    });
    const entries: bigint[] = [];
    for await (const batch of createClient(LedgerService, transport()).exportEntries({})) entries.push(batch.entries[0]!.sequence);
    assert.deepEqual(entries, [0n, 1n, 2n, 3n, 4n]);
  });
}

test("an unforeseen failure tells outside callers nothing but its reason", async () => {
  const client = createClient(ControlService, createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` }));
  await assert.rejects(client.getControlState({ knownRevision: 2n }), (error: unknown) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(fromConnectError(error).reason, "INTERNAL");
    assert.doesNotMatch(error.message, /secret/);
    return true;
  });
});

test("a second gRPC stack reads answers and reasons, from the public port and from the mesh port", async () => {
  for (const target of [port, mesh.address().port]) {
    assert.equal((await unary(target, ControlService.method.getControlState, stateRequest(0n))).state?.revision, 7n);
    await assert.rejects(unary(target, ControlService.method.getControlState, stateRequest(1n)), (error: unknown) => {
      const failure = error as ServiceError;
      assert.equal(failure.code, status.RESOURCE_EXHAUSTED);
      const ours = fromGrpcError(failure);
      assert.deepEqual([ours.reason, ours.param, ours.retryAfterMs], ["RATE_LIMITED", "model", 1500]);
      return true;
    });
  }
});

test("far control and ledger clients speak through the mesh port; errors in mid-stream and cancellation arrive", async () => {
  const addresses = ["127.0.0.1:1", `127.0.0.1:${mesh.address().port}`];
  const far = createControlClient({ ...base, addresses });
  assert.equal((await far.state(0n))?.revision, 7n);
  assert.equal(await far.state(3n), undefined);
  await assert.rejects(far.state(1n), (error: unknown) => error instanceof SignalboxError && error.reason === "RATE_LIMITED");
  far.close();
  const books = createLedgerClient({ ...base, addresses });
  const seen: bigint[] = [];
  await assert.rejects(
    async () => {
      for await (const batch of books.exportEntries({ afterSequence: 9n })) seen.push(batch[0]!.sequence);
    },
    (error: unknown) => error instanceof SignalboxError && error.reason === "KEY_STORE_UNAVAILABLE",
  );
  assert.equal(seen.length, 5);
  for await (const batch of books.exportEntries({ afterSequence: 8n })) if (batch[0]!.sequence === 4n) break;
  while (streamsOpen > 0) await new Promise((resolve) => setImmediate(resolve));
  books.close();
});

test("health answers for the process and for each service, and its watch tells of changes", async () => {
  healthy = true;
  const client = createClient(Health, createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` }));
  assert.equal((await client.check({})).status, Serving.SERVING);
  assert.equal((await client.check({ service: ControlService.typeName })).status, Serving.SERVING);
  await assert.rejects(client.check({ service: "nobody" }), (error: unknown) => error instanceof ConnectError && error.code === 5);
  const seen: Serving[] = [];
  const gone = new AbortController();
  for await (const { status: now } of client.watch({}, { signal: gone.signal })) {
    seen.push(now);
    healthy = false;
    if (seen.length === 2) break;
  }
  gone.abort();
  healthy = true;
  assert.deepEqual(seen, [Serving.SERVING, Serving.NOT_SERVING]);
});

for (const [version, service] of [
  ["v1", ServerReflection],
  ["v1alpha", ServerReflectionAlpha],
] as const) {
  test(`reflection ${version} lists services and gives the files of a symbol`, async () => {
    const client = createClient(service as typeof ServerReflection, createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` }));
    async function* questions() {
      yield { messageRequest: { case: "listServices", value: "" } } as const;
      yield { messageRequest: { case: "fileContainingSymbol", value: "signalbox.control.v1.ControlService.GetControlState" } } as const;
      yield { messageRequest: { case: "fileByFilename", value: "absent.proto" } } as const;
    }
    const answers = [];
    for await (const answer of client.serverReflectionInfo(questions())) answers.push(answer.messageResponse);
    const [list, file, absent] = answers;
    assert.ok(list?.case === "listServicesResponse");
    const names = list.value.service.map((one) => one.name);
    for (const wanted of ["grpc.health.v1.Health", "signalbox.control.v1.ControlService", "grpc.reflection.v1.ServerReflection"]) {
      assert.ok(names.includes(wanted), wanted);
    }
    assert.ok(file?.case === "fileDescriptorResponse");
    assert.equal(fromBinary(FileDescriptorProtoSchema, file.value.fileDescriptorProto[0]!).package, "signalbox.control.v1");
    assert.ok(absent?.case === "errorResponse" && absent.value.errorCode === 5);
  });
}

test("a listener with a guard lets calls through or refuses them with a reason; health stays open", async () => {
  const guarded = createPublicRpcServer({
    ...base,
    listen: { host: "127.0.0.1", port: 0 },
    services,
    reflection: false,
    health: () => true,
    authorize: ({ requestHeader, service }) => {
      assert.ok(service.typeName.startsWith("signalbox."));
      if (requestHeader.get("authorization") !== "Bearer right") throw new SignalboxError("UNAUTHENTICATED", "no token");
    },
  });
  await guarded.start();
  const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${guarded.address().port}` });
  const client = createClient(ControlService, transport);
  await assert.rejects(
    client.getControlState({}),
    (error: unknown) => error instanceof ConnectError && fromConnectError(error).reason === "UNAUTHENTICATED",
  );
  assert.equal((await client.getControlState({}, { headers: { authorization: "Bearer right" } })).state?.revision, 7n);
  assert.equal((await createClient(Health, transport).check({})).status, Serving.SERVING);
  await guarded.stop();
});

test("a draining listener finishes the calls in hand, ends health watches, and takes no new connections", async () => {
  const draining = createPublicRpcServer({
    ...base,
    listen: { host: "127.0.0.1", port: 0 },
    services,
    reflection: false,
    health: () => true,
  });
  await draining.start();
  const baseUrl = `http://127.0.0.1:${draining.address().port}`;
  const statuses: Serving[] = [];
  let seen: () => void = () => {};
  const first = new Promise<void>((resolve) => (seen = resolve));
  const watching = (async () => {
    for await (const { status: now } of createClient(Health, createGrpcTransport({ baseUrl })).watch({})) {
      statuses.push(now);
      seen();
    }
  })();
  await first;
  await draining.drain(60_000);
  await watching;
  assert.deepEqual(statuses, [Serving.SERVING, Serving.NOT_SERVING]);
  await assert.rejects(createClient(Health, createGrpcTransport({ baseUrl })).check({}));
  await draining.stop();
});

test("garbage on the port ends that connection and nothing else", async () => {
  for (const bytes of ["\x16\x03\x01\x00\xff", "PRI * HTTP/9.9\r\n", "\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"]) {
    const socket = connectSocket(port, "127.0.0.1");
    socket.end(bytes);
    socket.resume();
    await new Promise((resolve) => socket.once("close", resolve));
  }
  assert.equal((await unary(port, ControlService.method.getControlState, stateRequest(0n))).state?.revision, 7n);
});
