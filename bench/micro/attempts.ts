import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { create } from "@bufbuild/protobuf";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import {
  type AttemptData,
  AttemptDataSchema,
  type AttemptEnd,
  AttemptEndSchema,
  type AttemptOpen,
  AttemptOpenSchema,
} from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { AttemptResponseSchema } from "#gen/signalbox/adapter/v1/adapter_service_pb.ts";
import { DecideRequestSchema, DecisionSchema } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { createMemoryBus } from "#libs/bus/index.ts";
import { systemClock, systemRandom } from "#libs/clock/index.ts";
import type { AdapterHost, AdapterPeer, AttemptSink, Decision, PolicyHost, PolicySession } from "#libs/peers/index.ts";
import { createAdapterClient, createMeshServer, createPolicyClient } from "#libs/rpc/index.ts";
import { codecOf } from "#libs/wire/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";

/**
 * What the hops between the mesh's processes cost: CPU of both ends per decide, per JSON attempt and per SSE chunk, attempts
 * once multiplexed on one stream and once as a server stream each. Prints a table; asserts nothing.
 */

const DECIDES = 40_000;
const ATTEMPTS = 20_000;
const CONCURRENT = 64;
const STREAMS = 128;
const STREAM_ROUNDS = 8;
const CHUNKS = 50;
const REQUEST_BYTES = 1_024;
const ANSWER_BYTES = 600;
const CHUNK_BYTES = 64;

const base = { clock: systemClock, random: systemRandom, logger: silentLogger };

const ID = "01998f3a-5c00-7000-8000-0123456789ab";

function decision(decisionId: string): Decision {
  const candidate = (backend: string) => ({
    backend,
    predictedTtftMs: 123.5,
    predictedTpotMs: 11.5,
    costNanoUsd: 123_456n,
    queue: 1,
    inFlight: 7,
    score: 1234.5,
    upstreamModel: "meta-llama/Llama-3.3-70B-Instruct",
    provider: "vllm",
  });
  const candidates = ["gpu-a", "gpu-b", "claude", "openai"].map(candidate);
  const about = {
    configVersion: "0123abcd",
    priceVersion: "p-17",
    engine: "engine-1",
    model: "chat",
    maxAttempts: 3,
    deadlineMs: 60_000,
    seed: 12_345,
  };
  return create(DecisionSchema, { decisionId, ...about, result: { case: "allow", value: { candidates } } });
}

const END = create(AttemptEndSchema, {
  outcome: 1,
  usage: { inputTokens: 200, outputTokens: 50 },
  usageKnown: true,
  finishReason: "stop",
  upstreamModel: "llama",
  responseId: "chatcmpl-0123456789",
  ttftMs: 50,
  durationMs: 500,
  contentSeen: true,
  dispatched: true,
});

/** Answers a JSON attempt at once and an SSE attempt with one chunk per turn of the event loop. */
function benchAdapters(): AdapterHost {
  const answer = create(AttemptDataSchema, { data: new Uint8Array(ANSWER_BYTES), content: true, contentEvents: 1 });
  const chunk = create(AttemptDataSchema, { data: new Uint8Array(CHUNK_BYTES), content: true, contentEvents: 1 });
  const attempt = (open: AttemptOpen, sink: AttemptSink) => {
    let left = open.stream ? CHUNKS : 1;
    const step = (): void => {
      if (left-- > 0) {
        sink.data(open.stream ? chunk : answer);
        setImmediate(step);
      } else sink.end(END);
    };
    setImmediate(step);
    return { replica: "bench", consumed: () => {}, cancel: () => {} };
  };
  return {
    replica: "bench",
    attempt,
    serves: () => true,
    backends: () => ["gpu-a"],
    inFlight: () => 0,
    draining: false,
    onChange: () => {},
  };
}

function benchPolicy(): PolicyHost {
  return {
    openSession: (): PolicySession => ({
      decide: (request) => ({ decision: decision(request.decisionId), cancel: () => {} }),
      report: () => {},
      fallback: undefined,
      connected: true,
      onPreemption: () => undefined,
      onFallback: () => {},
      close: () => {},
    }),
    onDraining: () => {},
    explain: () => Promise.resolve(undefined),
  };
}

async function serve(): Promise<void> {
  const server = createMeshServer({
    ...base,
    listen: { host: "127.0.0.1", port: 0 },
    policy: benchPolicy(),
    adapters: benchAdapters(),
    services: [],
  });
  await server.start();
  process.on("message", () => process.send?.({ cpu: cpuUs() }));
  process.on("disconnect", () => process.exit(0));
  process.send?.({ port: server.address().port });
}

function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

async function ask(child: ChildProcess): Promise<number> {
  const answer = once(child, "message");
  child.send("cpu");
  return ((await answer)[0] as { cpu: number }).cpu;
}

/** Runs `count` tasks, `width` at a time. */
async function run(count: number, width: number, task: () => Promise<unknown>): Promise<void> {
  let left = count;
  const worker = async (): Promise<void> => {
    while (left-- > 0) await task();
  };
  await Promise.all(Array.from({ length: width }, worker));
}

async function measure(name: string, child: ChildProcess, units: number, work: () => Promise<void>): Promise<void> {
  await work();
  const [ownBefore, otherBefore, started] = [cpuUs(), await ask(child), performance.now()];
  await work();
  const own = (cpuUs() - ownBefore) / units;
  const other = ((await ask(child)) - otherBefore) / units;
  const perSecond = Math.round((units / (performance.now() - started)) * 1000);
  const figures = [own + other, own, other].map((us) => us.toFixed(1).padStart(8)).join("");
  console.log(`${name.padEnd(44)}${figures}${String(perSecond).padStart(11)}`);
}

const opened = (stream: boolean): AttemptOpen =>
  create(AttemptOpenSchema, {
    attemptId: ID,
    requestId: `req_${ID}`,
    attempt: 1,
    backend: "gpu-a",
    model: "chat",
    dialect: 1,
    body: new Uint8Array(REQUEST_BYTES),
    fields: [1, 6, 8, 14, 17, 25, 27, 900],
    stream,
    deadlineMs: 60_000,
    connectTimeoutMs: 1_000,
    firstTokenTimeoutMs: 30_000,
    idleTimeoutMs: 30_000,
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  });

function multiplexed(peer: AdapterPeer, stream: boolean): Promise<AttemptEnd> {
  return new Promise((resolve) => {
    const handle = peer.attempt(opened(stream), {
      data: (data: AttemptData) => handle.consumed(data.data.length),
      end: resolve,
    });
  });
}

function serverStream(client: Client, stream: boolean): Promise<unknown> {
  const request = codecOf(AttemptOpenSchema);
  const response = codecOf(AttemptResponseSchema);
  return new Promise((resolve, reject) => {
    const call = client.makeServerStreamRequest(
      "/signalbox.adapter.v1.AdapterService/Attempt",
      (open: AttemptOpen) => Buffer.from(request.encode(open)),
      (bytes: Buffer) => response.decode(bytes),
      opened(stream),
      new Metadata(),
    );
    call.on("data", () => {});
    call.on("end", resolve);
    call.on("error", reject);
  });
}

async function main(): Promise<void> {
  const child = fork(fileURLToPath(import.meta.url), ["serve"]);
  const [{ port }] = (await once(child, "message")) as [{ port: number }];
  const address = `127.0.0.1:${port}`;
  const policy = createPolicyClient({ ...base, addresses: [address], ingressId: "bench", answerTimeoutMs: 25 });
  const adapters = createAdapterClient({ ...base, addresses: [address], bus: createMemoryBus(base) });
  while (!policy.connected || !adapters.serves("gpu-a")) await new Promise((resolve) => setTimeout(resolve, 10));
  const client = new Client(address, credentials.createInsecure(), { "grpc.enable_channelz": 0, "grpc.enable_retries": 0 });
  let serial = 0;
  let late = 0;
  const decide = (): Promise<unknown> => {
    const request = create(DecideRequestSchema, {
      decisionId: `${ID}-${serial++}`,
      model: "chat",
      tenant: "acme",
      keyId: "key_1",
      needs: 3,
      inputTokens: 400,
    });
    return Promise.resolve(policy.decide(request).decision).catch(() => late++);
  };
  console.log(`${"us of CPU per unit".padEnd(44)}    both  client  server      per s`);
  await measure("decide, 64 concurrent", child, DECIDES, () => run(DECIDES, CONCURRENT, decide));
  await measure("decide, one at a time", child, DECIDES / 10, () => run(DECIDES / 10, 1, decide));
  await measure("JSON attempt, multiplexed, 64 concurrent", child, ATTEMPTS, () =>
    run(ATTEMPTS, CONCURRENT, () => multiplexed(adapters, false)),
  );
  await measure("JSON attempt, server stream, 64 concurrent", child, ATTEMPTS / 10, () =>
    run(ATTEMPTS / 10, CONCURRENT, () => serverStream(client, false)),
  );
  const chunks = STREAMS * STREAM_ROUNDS * CHUNKS;
  await measure("SSE chunk, multiplexed, 128 streams", child, chunks, () =>
    run(STREAMS * STREAM_ROUNDS, STREAMS, () => multiplexed(adapters, true)),
  );
  await measure("SSE chunk, server stream, 128 streams", child, chunks / STREAM_ROUNDS, () =>
    run(STREAMS, STREAMS, () => serverStream(client, true)),
  );
  if (late > 0) console.log(`${late} decides were given up: the machine was busy with something else`);
  policy.close();
  adapters.close();
  client.close();
  child.disconnect();
}

await (process.argv[2] === "serve" ? serve() : main());
