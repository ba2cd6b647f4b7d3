import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import { AttemptsRequestSchema } from "#gen/signalbox/adapter/v1/adapter_service_pb.ts";
import { SessionRequestSchema } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { FakeAdapterHost, FakePolicyHost } from "#libs/peers/fakes.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { serveAdapter } from "./serve-adapter.ts";
import { servePolicy } from "./serve-policy.ts";

/** A stream without a network. */
class FakeCall extends EventEmitter {
  readonly written: Buffer[] = [];
  ended = false;
  failure: unknown;

  constructor() {
    super();
    this.on("error", (cause) => (this.failure = cause));
  }

  write(batch: Buffer, taken?: () => void): boolean {
    this.written.push(batch);
    taken?.();
    return true;
  }

  sendMetadata(): void {}

  getPeer(): string {
    return "peer";
  }

  end(): void {
    this.ended = true;
  }

  get stream(): ServerDuplexStream<Buffer, Buffer> {
    return this as unknown as ServerDuplexStream<Buffer, Buffer>;
  }
}

/** Valid batches, cut, flipped and made up. */
function* mutations(rounds: number, valid: readonly Uint8Array[]): Generator<Buffer> {
  const random = new SeededRandom(7);
  for (let round = 0; round < rounds; round++) {
    const source = valid[random.int(valid.length)]!;
    const bytes =
      round % 4 === 0
        ? random.bytes(new Uint8Array(random.int(50)))
        : source.slice(0, round % 3 === 0 ? random.int(source.length) : source.length);
    for (let flip = random.int(5); flip > 0 && bytes.length > 0; flip--) bytes[random.int(bytes.length)] = random.int(256);
    yield Buffer.from(bytes);
  }
}

test("10,000 malformed session batches: each breaks its own stream at most, and what a session held is released", () => {
  const host = new FakePolicyHost();
  const serve = servePolicy(host, silentLogger);
  const session = toBinary(
    SessionRequestSchema,
    create(SessionRequestSchema, {
      frames: [
        { frame: { case: "hello", value: { ingressId: "i" } } },
        { frame: { case: "decide", value: { decisionId: "d", tags: { a: "b" } } } },
        { frame: { case: "report", value: { decisionId: "d", event: { case: "requestDone", value: {} } } } },
        { frame: { case: "cancel", value: "d" } },
      ],
    }),
  );
  let broken = 0;
  for (const batch of mutations(10_000, [session])) {
    const call = new FakeCall();
    serve(call.stream);
    call.emit("data", batch);
    if (call.failure !== undefined) broken++;
    call.emit("cancelled");
  }
  assert.ok(broken > 1_000, `${broken} broken`);
  assert.ok(host.sessions.length > 100 && host.sessions.every((one) => !one.open));
});

test("10,000 malformed attempts batches: each breaks its own stream at most, and its attempts are cancelled", async () => {
  const host = new FakeAdapterHost();
  const serve = serveAdapter(host, silentLogger);
  const attempts = toBinary(
    AttemptsRequestSchema,
    create(AttemptsRequestSchema, {
      frames: [
        { channel: 1, frame: { case: "open", value: { attemptId: "a", backend: "b", body: new Uint8Array(30), fields: [1, 2, 3, 4] } } },
        { channel: 1, frame: { case: "credit", value: 1000 } },
        { channel: 2, frame: { case: "open", value: { attemptId: "c" } } },
        { channel: 1, frame: { case: "cancel", value: { reason: "deadline" } } },
      ],
    }),
  );
  let broken = 0;
  for (const batch of mutations(10_000, [attempts])) {
    const call = new FakeCall();
    serve(call.stream);
    call.emit("data", batch);
    if (call.failure !== undefined) broken++;
    call.emit("cancelled");
  }
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(broken > 1_000, `${broken} broken`);
  assert.ok(host.attempts.length > 100 && host.attempts.every((attempt) => attempt.ended));
});

test("opening a channel twice, or decide before hello, breaks the stream", () => {
  const twice = create(AttemptsRequestSchema, {
    frames: [1, 1].map((channel) => ({ channel, frame: { case: "open", value: { backend: "b" } } as const })),
  });
  const call = new FakeCall();
  serveAdapter(new FakeAdapterHost(), silentLogger)(call.stream);
  call.emit("data", Buffer.from(toBinary(AttemptsRequestSchema, twice)));
  assert.notEqual(call.failure, undefined);
  const early = new FakeCall();
  servePolicy(new FakePolicyHost(), silentLogger)(early.stream);
  const decide = create(SessionRequestSchema, { frames: [{ frame: { case: "decide", value: { decisionId: "d" } } }] });
  early.emit("data", Buffer.from(toBinary(SessionRequestSchema, decide)));
  assert.notEqual(early.failure, undefined);
});
