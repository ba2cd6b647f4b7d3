import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startGateway, type Gateway, type TopologyName } from "../support/gateway.ts";
import { startOtlpSink, type OtlpSink, type SeenSpan } from "../support/otlp-sink.ts";
import { simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

const TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT = "00f067aa0ba902b7";
/** Slower ones would not be asked first: on a machine that stands still now and then everything seems slow. */
const SLA = { ttft: "60s", tpot: "10s" };
/** Requests after which chance is no excuse for a backend that was not asked. */
const TURNS_MAX = 50;

/** One trace per request, the same in every topology. */
export function traceSuite(topology: TopologyName): void {
  let gateway: Gateway;
  let simulation: Simulation;
  let sink: OtlpSink;

  before(async () => {
    sink = await startOtlpSink();
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: sink.endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" };
    // The exporter reads the environment of its own process, which embedded is this one.
    Object.assign(process.env, env);
    simulation = await startSimulation([simulatedBackend("first", "openai", 1), simulatedBackend("second", "anthropic", 2_000)]);
    gateway = await startGateway({
      topology,
      env,
      config: {
        backends: simulation.backends,
        // `lone` has one candidate: which of several is asked is chance once in a while.
        models: { chat: { candidates: ["first", "second"], sla: SLA }, lone: { candidates: ["first"] } },
        // An ingress that decides by its fallback words it otherwise and keeps no record: every decision here is an engine's.
        resilience: { timeouts: { decide: "60s" } },
        telemetry: { traces: { sample: "0%", always: ["error", "failover"] } },
      },
    });
  });

  after(async () => {
    await gateway?.stop();
    await simulation?.stop();
    await sink?.close();
  });

  const ask = async (model: string, headers: Record<string, string>, stream: boolean): Promise<Response> => {
    const answer = await fetch(`${gateway.api}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify({ model, stream, messages: [{ role: "user", content: "hello" }] }),
    });
    await answer.text();
    return answer;
  };
  const spansOf = async (traceId: string, count: number): Promise<readonly SeenSpan[]> => {
    await sink.until((spans) => spans.filter((span) => span.traceId === traceId).length >= count);
    return sink.spans.filter((span) => span.traceId === traceId);
  };

  test(`${topology}: a request is one span, its decision one, its attempt one, under the caller's trace`, async () => {
    for (const [number, stream] of [
      ["a", false],
      ["b", true],
    ] as const) {
      const traceId = `${TRACE_ID.slice(0, 31)}${number}`;
      simulation.simulator.forget();
      await ask("lone", { traceparent: `00-${traceId}-${PARENT}-01`, tracestate: "vendor=1" }, stream);
      const spans = await spansOf(traceId, 3);
      assert.equal(spans.length, 3, spans.map(({ name }) => name).join(", "));
      const root = spans.find(({ name }) => name === "POST /v1/chat/completions")!;
      const decide = spans.find(({ name }) => name === "signalbox.decide")!;
      const chat = spans.find(({ name }) => name.startsWith("chat "))!;
      assert.equal(root.parentSpanId, PARENT);
      assert.equal(decide.parentSpanId, root.spanId);
      assert.equal(chat.parentSpanId, root.spanId);
      assert.equal(chat.attributes["gen_ai.operation.name"], "chat");
      assert.equal(chat.attributes["gen_ai.provider.name"], "openai");
      assert.ok(Number(chat.attributes["gen_ai.usage.output_tokens"]) > 0);
      assert.ok(decide.events.length >= 1, "the candidate is an event of the decision");
      assert.ok(decide.attributes["signalbox.config.version"]);
    }
  });

  test(`${topology}: a failover is kept although nothing is sampled, with an attempt span for each call`, async () => {
    simulation.simulator.fault("first", "error");
    let traceId = "";
    // Exploration may ask the sound backend first: ask until the broken one was.
    for (let turn = 0, failovers = 0; failovers === 0; turn += 1) {
      assert.ok(turn < TURNS_MAX, "the cheaper backend was never asked");
      traceId = `${TRACE_ID.slice(0, 29)}c${String(turn).padStart(2, "0")}`;
      const answer = await ask("chat", { traceparent: `00-${traceId}-${PARENT}-00` }, false);
      failovers = Number(answer.headers.get("x-signalbox-attempts")) - 1;
    }
    simulation.simulator.clear();
    const spans = await spansOf(traceId, 4);
    const kinds = spans.map(({ name }) => name.split(" ")[0]!);
    assert.deepEqual(kinds.toSorted(), ["POST", "chat", "chat", "signalbox.decide"]);
    const decide = spans.find(({ name }) => name === "signalbox.decide")!;
    assert.ok(decide.events.length >= 2, "every candidate is an event of the decision");
  });

  test(`${topology}: an illegal traceparent starts a new trace instead of being passed on`, async () => {
    const answer = await ask("chat", { traceparent: "00-00000000000000000000000000000000-0000000000000000-01" }, false);
    assert.equal(answer.status, 200);
    assert.ok(!sink.spans.some(({ traceId }) => /^0+$/.test(traceId)));
  });

  const rejected = async (id: string, more: Readonly<Record<string, unknown>>): Promise<{ status: number; error: RejectionBody }> => {
    const answer = await fetch(`${gateway.api}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-request-id": id },
      body: JSON.stringify({ model: "chat", messages: [{ role: "user", content: "hello" }], ...more }),
    });
    return { status: answer.status, ...((await answer.json()) as { error: RejectionBody }) };
  };
  /** `backend: requirement` of everyone the record of a request rules out, and why it was denied. */
  const explained = async (id: string): Promise<{ readonly reason: string; readonly out: readonly string[] }> => {
    const { status, json } = await gateway.adminCall("GET", `/api/explain/${id}`);
    assert.equal(status, 200, JSON.stringify(json));
    const { denied, candidates } = json as unknown as {
      denied: { reason: string };
      candidates: { backend: string; excluded: { requirement: string } | null }[];
    };
    return { reason: denied.reason, out: candidates.map(({ backend, excluded }) => `${backend}: ${excluded?.requirement}`).toSorted() };
  };

  test(`${topology}: a rejected request says which requirement ruled out which backend, over HTTP and by its id afterwards`, async () => {
    const audio = [{ role: "user", content: [{ type: "input_audio", input_audio: { data: "UklGRg==", format: "wav" } }] }];
    const incapable = await rejected(`${topology}-audio`, { messages: audio });
    assert.deepEqual([incapable.status, incapable.error.code, incapable.error.param], [400, "no_capable_backend", "messages"]);
    assert.match(incapable.error.message, /first: audio \(lacks audio\); second: audio \(lacks audio\)/);
    assert.deepEqual(await explained(`${topology}-audio`), {
      reason: "NO_CAPABLE_BACKEND",
      out: ["first: audio", "second: audio"],
    });
    const mixed = await rejected(`${topology}-mixed`, { n: 2, messages: [{ role: "user", content: "word ".repeat(200_000) }] });
    assert.equal(mixed.status, 400);
    assert.match(mixed.error.message, /first: context \(.* do not fit its 128000\); second: n \(lacks n\)/);
    assert.deepEqual((await explained(`${topology}-mixed`)).out, ["first: context", "second: n"]);
  });

  test(`${topology}: when nobody is healthy the error and the explanation name each backend's breaker`, async () => {
    for (const name of ["first", "second"]) simulation.simulator.fault(name, "error");
    let last = await rejected(`${topology}-sick-0`, {});
    for (let turn = 1; last.status !== 503 || !last.error.message.includes("second: health"); turn++) {
      assert.ok(turn < TURNS_MAX, `still ${last.status} ${last.error.message}`);
      last = await rejected(`${topology}-sick-${turn}`, {});
      if (last.status === 503 && last.error.message.includes("second: health")) {
        assert.match(last.error.message, /first: health \(breaker .*\); second: health \(breaker .*\)/);
        assert.deepEqual(await explained(`${topology}-sick-${turn}`), { reason: "NO_BACKEND", out: ["first: health", "second: health"] });
      }
    }
    simulation.simulator.clear();
  });
}

interface RejectionBody {
  readonly message: string;
  readonly code: string;
  readonly param: string | null;
}
