import { Client, credentials } from "@grpc/grpc-js";
import { create } from "@bufbuild/protobuf";
import { AttemptEndSchema, AttemptOpenSchema, Dialect, type AttemptData, type AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { AttemptResponseSchema, type AttemptResponse } from "#gen/signalbox/adapter/v1/adapter_service_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { createMemoryBus } from "#libs/bus/index.ts";
import { systemClock, systemRandom } from "#libs/clock/index.ts";
import type { AdapterHost, AdapterPeer } from "#libs/peers/index.ts";
import { createAdapterClient } from "#libs/rpc/index.ts";
import { codecOf } from "#libs/rpc/codec.ts";
import { createMeshServer } from "#libs/rpc/mesh-server.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { chatBody } from "../load/index.ts";
import { gauge, line } from "./gauge.ts";

/**
 * What an attempt costs between ingress and adapter, both ends in this process: called directly, multiplexed on one long-lived
 * stream with frames coalesced per tick, or as a server stream of its own.
 */
const BACKEND = "bench";
const CONCURRENT = 32;

/** Shapes of an answer: chunks, bytes of each, attempts a round. */
const SHAPES = [
  { name: "JSON of 600 B", chunks: 1, bytes: 600, attempts: 4_000 },
  { name: "SSE of 50 chunks", chunks: 50, bytes: 220, attempts: 500 },
] as const;

type Attempt = (done: () => void) => void;

/** An adapter that answers every attempt with `chunks` chunks, one a turn of the event loop. */
function hostOf(chunks: number, bytes: number): AdapterHost {
  const data: AttemptData = {
    $typeName: "signalbox.adapter.v1.AttemptData",
    data: Buffer.alloc(bytes, 0x78),
    content: true,
    contentEvents: 1,
  };
  const end = create(AttemptEndSchema, {
    outcome: Outcome.OK,
    usage: { inputTokens: 250, outputTokens: 50 },
    usageKnown: true,
    finishReason: "stop",
  });
  return {
    replica: "bench-1",
    backends: () => [BACKEND],
    inFlight: () => 0,
    draining: false,
    onChange: () => {},
    serves: () => true,
    attempt: (_open, sink) => {
      let left = chunks;
      const next = (): void => {
        if (left-- > 0) sink.data(data);
        if (left < 0) sink.end(end);
        else setImmediate(next);
      };
      setImmediate(next);
      return { consumed: () => {}, cancel: () => {}, replica: "bench-1" };
    },
  };
}

const open = create(AttemptOpenSchema, {
  attemptId: "0192a5d3-7c1e-7abc-8def-0123456789ab",
  requestId: "req_bench",
  attempt: 1,
  backend: BACKEND,
  model: "chat",
  dialect: Dialect.OPENAI_CHAT,
  body: Buffer.from(chatBody({ model: "chat", stream: true, promptTokens: 220 })),
  stream: true,
});

function overPeer(peer: AdapterPeer): Attempt {
  return (done) => {
    const handle = peer.attempt(open, { data: (data) => handle.consumed(data.data.length), end: () => done() });
  };
}

/** The unary-like form: one HTTP/2 stream an attempt. */
function overStreams(client: Client): Attempt {
  const request = codecOf(AttemptOpenSchema);
  const response = codecOf(AttemptResponseSchema);
  const serialize = (message: AttemptOpen): Buffer => Buffer.from(request.encode(message));
  const deserialize = (bytes: Buffer): AttemptResponse => response.decode(bytes);
  return (done) => {
    const call = client.makeServerStreamRequest("/signalbox.adapter.v1.AdapterService/Attempt", serialize, deserialize, open);
    call.on("data", () => {});
    call.on("end", done);
  };
}

/** `count` attempts, CONCURRENT of them under way. */
function drive(attempt: Attempt, count: number): Promise<void> {
  return new Promise((resolve) => {
    let begun = 0;
    let ended = 0;
    const begin = (): void => {
      if (begun++ < count) attempt(done);
    };
    const done = (): void => {
      if (++ended === count) resolve();
      else begin();
    };
    for (let index = 0; index < CONCURRENT; index++) begin();
  });
}

for (const { name, chunks, bytes, attempts } of SHAPES) {
  const host = hostOf(chunks, bytes);
  const base = { clock: systemClock, random: systemRandom, logger: silentLogger };
  const server = createMeshServer({ ...base, adapters: host, services: [], listen: { host: "127.0.0.1", port: 0 } });
  await server.start();
  const address = `127.0.0.1:${server.address().port}`;
  const far = createAdapterClient({ ...base, addresses: [address], bus: createMemoryBus(base) });
  while (!far.serves(BACKEND)) await systemClock.sleep(10);
  const client = new Client(address, credentials.createInsecure());
  line(`attempt, ${name}: in one process`, await gauge(attempts, () => drive(overPeer(host), attempts)), "an attempt");
  line(
    `attempt, ${name}: multiplexed, coalesced per tick`,
    await gauge(attempts, () => drive(overPeer(far), attempts)),
    "an attempt, both ends",
  );
  line(
    `attempt, ${name}: a server stream each`,
    await gauge(attempts, () => drive(overStreams(client), attempts)),
    "an attempt, both ends",
  );
  far.close();
  client.close();
  await server.stop();
}
