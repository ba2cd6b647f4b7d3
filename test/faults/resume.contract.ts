import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import type { FaultKind, SpeedProfile } from "#simulator/index.ts";
import { startGateway, type Gateway, type TopologyName } from "../support/gateway.ts";
import { readStream } from "../support/load.ts";
import { simulatedBackend, startSimulation, type SimulatedBackend, type Simulation } from "../support/simulated.ts";

/** Tokens of the answers; the cuts come before the tenth. */
const TOKENS = 30;

/** Slow enough that every token has left for the client before the next: an answer that breaks before that starts anew elsewhere. */
const TALKING: SpeedProfile = { kind: "cloud", ttftMs: 5, ttftSigma: 0, itlMs: 10, itlSigma: 0 };

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

/** Tries until a break met a client that had begun to read: on a busy machine the first tokens and the break can arrive in one piece. */
const TRIES = 8;

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
      simulatedBackend("engine", "vllm", 40, TALKING),
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
        models[`${target}-${after}`] = { candidates, mid_stream: "resume", sla: { deadline: "30s" } };
      }
    }
    gateway = await startGateway({
      topology,
      config: {
        backends: simulation.backends,
        models,
        resilience: {
          timeouts: { connect: "500ms", first_token: "5s", idle_stream: "500ms" },
          breaker: { consecutive: 1_000_000, success_rate: "1%", min_requests: 1_000_000 },
        },
      },
    });
  }

  if (cases.shared) before(freshGateway);
  else beforeEach(freshGateway);

  async function stream(model: string, more: Readonly<Record<string, unknown>> = {}): Promise<StreamText> {
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
    return { id, text: await answer.text(), status: answer.status };
  }

  /** The first stream that ended in an error event: its code, and whether some backend had gone on with it before. */
  async function firstInterrupted(
    model: string,
    more: Readonly<Record<string, unknown>> = {},
  ): Promise<{ code: string; resumed: boolean }> {
    for (let attempt = 0; attempt < TRIES; attempt++) {
      const { text } = await stream(model, more);
      const error = /data: (\{"error":.*\})/.exec(text);
      if (error) return { code: (JSON.parse(error[1]!) as { error: { code: string } }).error.code, resumed: text.includes(": resumed") };
    }
    return { code: "never interrupted", resumed: false };
  }

  for (const target of ["engine", "claude"] as const) {
    for (const [kind, cuts] of cases.resumed[target]) {
      test(`streams that end by ${kind} after ${cuts.join(", ")} tokens go on at ${target}: one whole answer, nothing lost, nothing twice`, async () => {
        const { simulator } = simulation;
        simulator.clear();
        for (const after of cuts) simulator.fault(`first-${after}`, kind, { afterTokens: after });
        const answers = await Promise.all(cuts.map((after) => stream(`${target}-${after}`)));
        booked += 2 * cuts.length;
        const entries = await gateway!.entriesAtLeast(cases.shared ? booked : 2 * cuts.length);
        let resumed = 0;
        for (const [index, answer] of answers.entries()) {
          checkWhole(answer);
          const own = entries.filter(({ request_id }) => request_id === answer.id);
          const words = own.map((entry) => `${entry.backend} ${entry.outcome} ${(entry as unknown as { purpose: string }).purpose}`);
          // On a busy machine the first tokens and the break can arrive in one piece: then nothing had left, and the answer began anew.
          if (!answer.text.includes(": resumed\n\n")) {
            assert.ok(
              words.some((word) => word.startsWith(`first-${cuts[index]} failed waste_`)),
              words.join(", "),
            );
            continue;
          }
          resumed++;
          checkResumed(answer, target);
          assert.deepEqual(words.sort(), [`${target} ok resumed`, `first-${cuts[index]} failed waste_aborted`].sort());
        }
        assert.ok(resumed >= cuts.length / 2, `${resumed} of ${cuts.length} were resumed`);
      });
    }
  }

  test("the output limit of a resumed answer is the caller's: what was delivered counts", async () => {
    simulation.simulator.clear();
    simulation.simulator.fault("first-6", "cut", { afterTokens: 6 });
    for (const model of ["engine-6", "claude-6"]) {
      const { text } = await stream(model, { max_tokens: 12 });
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
    simulation.simulator.clear();
    simulation.simulator.fault("first-2", "cut", { afterTokens: 2 });
    assert.equal((await firstInterrupted("nobody-2")).code, "stream_interrupted");
  });

  for (const [name, kind, after] of cases.neverResumed) {
    test(`${name} that end by ${kind} are never resumed`, async () => {
      simulation.simulator.clear();
      simulation.simulator.fault(`first-${after}`, kind, { afterTokens: after });
      assert.deepEqual(await firstInterrupted(`engine-${after}`, NEVER[name]), { code: "stream_interrupted", resumed: false });
    });
  }

  test("an answer that breaks twice is resumed twice", async () => {
    simulation.simulator.clear();
    simulation.simulator.fault("first-4", "cut", { afterTokens: 4, count: 1 });
    simulation.simulator.fault("engine", "cut", { afterTokens: 5, count: 1 });
    const { text } = await stream("engine-4");
    assert.equal(readStream(text).ending, "complete", text);
    assert.equal(text.split(": resumed\n\n").length, 3, text);
  });
}
