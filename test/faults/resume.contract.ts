import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import type { FaultKind, SpeedProfile } from "#simulator/index.ts";
import { startGateway, type Gateway, type TopologyName } from "../support/gateway.ts";
import { readStream } from "../support/load.ts";
import { simulatedBackend, startSimulation, type SimulatedBackend, type Simulation } from "../support/simulated.ts";

/** Tokens of the answers; the cuts come before the tenth. */
const TOKENS = 30;

/** Token by token, as models talk. */
const TALKING: SpeedProfile = { kind: "cloud", ttftMs: 5, ttftSigma: 0, itlMs: 10, itlSigma: 0 };

/** Slower ones would not be asked first: on a machine that stands still now and then everything seems slow. */
const SLA = { ttft: "60s", tpot: "10s", deadline: "120s" };

/** Tokens delivered before the answer breaks. Each has a backend of its own, so that none is avoided for what it did before. */
export const CUTS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

function withPrefill(backend: SimulatedBackend): SimulatedBackend {
  return { ...backend, profile: { ...backend.profile, capabilities: [...backend.profile.capabilities, "prefill"] } };
}

interface StreamText {
  readonly id: string;
  readonly text: string;
  readonly status: number;
}

interface Chunk {
  readonly id: string;
  readonly model: string;
  readonly created: number;
  readonly choices: readonly {
    readonly delta: { readonly role?: string; readonly content?: string };
    readonly finish_reason: string | null;
  }[];
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number; readonly total_tokens: number };
}

function chunksOf(text: string): Chunk[] {
  const events = text.split("\n\n").filter((event) => event.startsWith("data: ") && event !== "data: [DONE]");
  return events.map((event) => JSON.parse(event.slice(6)) as Chunk);
}

function checkWhole({ text, status }: StreamText): void {
  assert.equal(status, 200, text);
  assert.equal(readStream(text).ending, "complete", text);
  const chunks = chunksOf(text);
  for (const name of ["id", "model", "created"] as const) assert.equal(new Set(chunks.map((chunk) => chunk[name])).size, 1, name);
  assert.equal(chunks.filter(({ choices }) => choices[0]?.delta.role !== undefined).length, 1, text);
}

function checkResumed({ text }: StreamText, target: string): void {
  assert.equal(text.split(": resumed\n\n").length, 2, text);
  const usage = chunksOf(text).at(-1)!.usage!;
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  if (target === "engine") assert.equal(usage.completion_tokens, TOKENS, text);
}

/** Something of an answer that a client can show: text, or a call. */
const SHOWN = /"content":"[^"]|"tool_calls":\[/;

/** Breaks only after the client has begun to read: an answer of which nothing has left begins anew elsewhere. A stall waits by itself. */
class Break {
  readonly #reads = Promise.withResolvers<void>();
  /** How much of the answer must have arrived before the break. */
  readonly #behind: RegExp;

  constructor(behind: RegExp = SHOWN) {
    this.#behind = behind;
  }

  /** What the fault is told. */
  options(kind: FaultKind, afterTokens: number): { readonly afterTokens: number; readonly until?: Promise<void> } {
    return kind === "stall" ? { afterTokens } : { afterTokens, until: this.#reads.promise };
  }

  /** Takes all that the client has read so far. */
  seen(text: string): void {
    if (this.#behind.test(text)) this.#reads.resolve();
  }
}

const TOOLS = [
  { type: "function", function: { name: "look_up", parameters: { type: "object", properties: { topic: { type: "string" } } } } },
];
const SCHEMA = {
  type: "json_schema",
  json_schema: { name: "story", schema: { type: "object", properties: { title: { type: "string" }, text: { type: "string" } } } },
};

/** What is never resumed, and what of a request makes it so. */
const NEVER = {
  "tool calls": { tools: TOOLS },
  "structured output": { response_format: SCHEMA },
  "JSON mode": { response_format: { type: "json_object" } },
  "log probabilities": { logprobs: true },
  "several choices": { n: 2 },
} as const;

/** Which breaks a suite goes through; numbers are tokens delivered before, and name the backend that breaks. */
export interface ResumeCases {
  /** One gateway for all tests, which then must not meet one backend too often; else each has its own. */
  readonly shared: boolean;
  readonly resumed: Readonly<Record<"engine" | "claude", readonly (readonly [FaultKind, readonly number[]])[]>>;
  readonly neverResumed: readonly (readonly [keyof typeof NEVER, FaultKind, number])[];
}

/** The suite over one topology. */
export function resumeSuite(topology: TopologyName, cases: ResumeCases): void {
  let simulation: Simulation;
  let gateway: Gateway | undefined;
  let requests = 0;
  let booked = 0;

  before(async () => {
    simulation = await startSimulation([
      ...CUTS.map((after) => simulatedBackend(`first-${after}`, "vllm", 1, TALKING)),
      // At once: a backend that talks could fall silent on a busy machine.
      simulatedBackend("engine", "vllm", 40),
      withPrefill(simulatedBackend("claude", "anthropic", 40)),
      simulatedBackend("plain", "openai", 20),
    ]);
  });

  after(async () => {
    await gateway?.stop();
    await simulation?.stop();
  });

  /** The failing backend is the cheapest and asked first. */
  async function freshGateway(): Promise<void> {
    await gateway?.stop();
    const models: Record<string, unknown> = {};
    for (const after of CUTS) {
      for (const target of ["engine", "claude", "nobody"]) {
        const candidates = [`first-${after}`, "plain", ...(target === "nobody" ? [] : [target])];
        models[`${target}-${after}`] = { candidates, mid_stream: "resume", sla: SLA };
      }
    }
    gateway = await startGateway({
      topology,
      config: {
        backends: simulation.backends,
        models,
        resilience: {
          timeouts: { decide: "60s", connect: "30s", first_token: "60s", idle_stream: "500ms" },
          breaker: { consecutive: 1_000_000, success_rate: "1%", min_requests: 1_000_000 },
        },
      },
    });
  }

  if (cases.shared) before(freshGateway);
  else beforeEach(freshGateway);

  async function stream(model: string, breaks: readonly Break[], more: Readonly<Record<string, unknown>> = {}): Promise<StreamText> {
    const id = `resume-${requests++}`;
    const answer = await fetch(`${gateway!.api}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-request-id": id },
      body: JSON.stringify({
        model,
        stream: true,
        stream_options: { include_usage: true },
        messages: [{ role: "user", content: `[sim tokens=${TOKENS}] tell me story ${id}` }],
        ...more,
      }),
    });
    let text = "";
    const decoder = new TextDecoder();
    for await (const piece of answer.body!) {
      text += decoder.decode(piece as Uint8Array, { stream: true });
      for (const each of breaks) each.seen(text);
    }
    return { id, text, status: answer.status };
  }

  /** A stream that breaks: the code of its error event, and whether some backend had gone on with it before. */
  async function interrupted(
    model: string,
    kind: FaultKind,
    afterTokens: number,
    more: Readonly<Record<string, unknown>> = {},
  ): Promise<{ code: string; resumed: boolean }> {
    const { simulator } = simulation;
    const cut = new Break();
    simulator.clear();
    simulator.fault(`first-${afterTokens}`, kind, cut.options(kind, afterTokens));
    const { text } = await stream(model, [cut], more);
    const error = /data: (\{"error":.*\})/.exec(text);
    const code = error ? (JSON.parse(error[1]!) as { error: { code: string } }).error.code : "never interrupted";
    return { code, resumed: text.includes(": resumed") };
  }

  for (const target of ["engine", "claude"] as const) {
    for (const [kind, cuts] of cases.resumed[target]) {
      test(`streams that end by ${kind} after ${cuts.join(", ")} tokens go on at ${target}: one whole answer, nothing lost, nothing twice`, async () => {
        const { simulator } = simulation;
        simulator.clear();
        const breaks = cuts.map(() => new Break());
        for (const [index, after] of cuts.entries()) simulator.fault(`first-${after}`, kind, breaks[index]!.options(kind, after));
        const answers = await Promise.all(cuts.map((after, index) => stream(`${target}-${after}`, [breaks[index]!])));
        booked += 2 * cuts.length;
        const entries = await gateway!.entriesAtLeast(cases.shared ? booked : 2 * cuts.length);
        for (const [index, answer] of answers.entries()) {
          checkWhole(answer);
          checkResumed(answer, target);
          const own = entries.filter(({ request_id }) => request_id === answer.id);
          const words = own.map((entry) => `${entry.backend} ${entry.outcome} ${(entry as unknown as { purpose: string }).purpose}`);
          assert.deepEqual(words.sort(), [`${target} ok resumed`, `first-${cuts[index]} failed waste_aborted`].sort());
        }
      });
    }
  }

  test("the output limit of a resumed answer is the caller's: what was delivered counts", async () => {
    for (const model of ["engine-6", "claude-6"]) {
      const cut = new Break();
      simulation.simulator.clear();
      simulation.simulator.fault("first-6", "cut", cut.options("cut", 6));
      const { text } = await stream(model, [cut], { max_tokens: 12 });
      const content = chunksOf(text).map(({ choices }) => choices[0]?.delta.content ?? "");
      assert.ok(text.includes(": resumed"), text);
      assert.ok(text.endsWith("data: [DONE]\n\n"), text);
      assert.ok(
        chunksOf(text).some(({ choices }) => choices[0]?.finish_reason === "length"),
        text,
      );
      assert.ok(content.filter((piece) => piece !== "").length <= 12, text);
    }
  });

  test("without a backend that can continue the stream ends with an explicit error", async () => {
    assert.equal((await interrupted("nobody-2", "cut", 2)).code, "stream_interrupted");
  });

  for (const [name, kind, after] of cases.neverResumed) {
    test(`${name} that end by ${kind} are never resumed`, async () => {
      assert.deepEqual(await interrupted(`engine-${after}`, kind, after, NEVER[name]), { code: "stream_interrupted", resumed: false });
    });
  }

  test("an answer that breaks twice is resumed twice", async () => {
    simulation.simulator.clear();
    const [first, second] = [new Break(), new Break(/: resumed\n\n[^]*"content":"[^"]/)];
    simulation.simulator.fault("first-4", "cut", { ...first.options("cut", 4), count: 1 });
    simulation.simulator.fault("engine", "cut", { ...second.options("cut", 5), count: 1 });
    const { text } = await stream("engine-4", [first, second]);
    assert.equal(readStream(text).ending, "complete", text);
    assert.equal(text.split(": resumed\n\n").length, 3, text);
  });
}
