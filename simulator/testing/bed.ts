import { readFileSync } from "node:fs";
import { type ClientRequest, type IncomingMessage, request as httpRequest } from "node:http";
import { SeededRandom } from "#libs/clock/fake.ts";
import { systemClock, type Clock } from "#libs/clock/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { stringOf } from "../http/json.ts";
import { devProfiles } from "../dev.ts";
import type { SimBackendProfile, SimDialect } from "../profile.ts";
import { createSimulator, type Simulator } from "../simulator.ts";

/** A started simulator for the tests of this room: every dialect once, without waiting unless a test says otherwise. */
export interface Bed {
  readonly simulator: Simulator;
  url(backend: string): string;
  post(backend: string, path: string, body: unknown, headers?: Record<string, string>): Promise<Answer>;
  get(backend: string, path: string): Promise<Answer>;
  /** An OpenAI chat completion of a backend's model. */
  chat(backend: string, fields: Record<string, unknown>, headers?: Record<string, string>): Promise<Answer>;
  /** An Anthropic message. */
  message(fields: Record<string, unknown>, headers?: Record<string, string>): Promise<Answer>;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly text: string;
  /** Set when the connection broke before the answer's end. */
  readonly broken: string | undefined;
  json(): Loose;
  /** Parsed data of SSE events, `[DONE]` left out. */
  events(): Loose[];
}

/** JSON under test: every path may be walked with `?.`, and compared. */
export interface Loose {
  readonly [name: string]: Loose | undefined;
}

export const SPEED_OF_TESTS: SimBackendProfile["speed"] = { kind: "fast" };

export const MODELS: Readonly<Record<string, string>> = { openai: "gpt-5-mini", claude: "claude-haiku-4-5" };

/** One fast profile per dialect, named after it (`claude` for Anthropic). */
export function testProfiles(speed: SimBackendProfile["speed"] = SPEED_OF_TESTS): SimBackendProfile[] {
  const [gpu, , openai, claude] = devProfiles();
  const engines = (["vllm", "sglang", "llamacpp", "ollama", "tgi"] as SimDialect[]).map((dialect) => ({
    ...gpu!,
    name: dialect,
    dialect,
    speed,
  }));
  return [{ ...openai!, name: "openai", speed }, { ...claude!, name: "claude", speed }, ...engines];
}

export async function startBed(
  profiles: readonly SimBackendProfile[] = testProfiles(),
  seed = 7,
  clock: Clock = systemClock,
): Promise<Bed> {
  const simulator = createSimulator({ clock, random: new SeededRandom(seed), logger: silentLogger, profiles });
  const addresses = await simulator.start();
  const url = (backend: string): string => addresses.get(backend)!.url;
  const post: Bed["post"] = (backend, path, body, headers = {}) =>
    send(`${url(backend)}${path}`, "POST", typeof body === "string" ? body : JSON.stringify(body), headers);
  return {
    simulator,
    url,
    post,
    get: (backend, path) => send(`${url(backend)}${path}`, "GET", undefined, {}),
    chat: (backend, fields, headers) => {
      const { model } = profiles.find(({ name }) => name === backend)!;
      return post(
        backend,
        "/v1/chat/completions",
        { model, messages: [{ role: "user", content: "Tell me about rivers" }], ...fields },
        headers,
      );
    },
    message: (fields, headers) => {
      const body = { model: MODELS["claude"], max_tokens: 1000, messages: [{ role: "user", content: "Tell me about rivers" }], ...fields };
      return post("claude", "/v1/messages", body, { "anthropic-version": "2023-06-01", ...headers });
    },
  };
}

/** One request on a connection of its own; a broken connection is a result, not an exception, once headers came or not. */
export function send(url: string, method: string, body: string | undefined, headers: Record<string, string>): Promise<Answer> {
  return new Promise((resolve) => {
    const request: ClientRequest = httpRequest(url, { method, agent: false, headers: { "content-type": "application/json", ...headers } });
    const give = (response: IncomingMessage | undefined, text: string, broken: string | undefined): void =>
      resolve(answerOf(response, text, broken));
    request.on("error", (error: NodeJS.ErrnoException) => give(undefined, "", error.code ?? error.message));
    request.on("response", (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      const whole = (): string => Buffer.concat(chunks).toString();
      response.on("end", () => give(response, whole(), undefined));
      response.on("error", (error: NodeJS.ErrnoException) => give(response, whole(), error.code ?? error.message));
    });
    request.end(body);
  });
}

function answerOf(response: IncomingMessage | undefined, text: string, broken: string | undefined): Answer {
  return {
    status: response?.statusCode ?? 0,
    headers: response?.headers ?? {},
    text,
    broken,
    json: () => JSON.parse(text) as Loose,
    events: () => eventsOf(text),
  };
}

/** Parsed data of an SSE body's events. */
export function eventsOf(text: string): Loose[] {
  const events: Loose[] = [];
  for (const line of text.replaceAll("\r\n", "\n").split("\n")) {
    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
    events.push(JSON.parse(line.slice("data: ".length)) as Loose);
  }
  return events;
}

/** Joined text of an OpenAI stream. */
export function textOf(events: Loose[]): string {
  return events.map((event) => stringOf(event["choices"]?.[0]?.["delta"]?.["content"])).join("");
}

/** Lines of a recorded stream, or undefined where the recordings are absent. */
export function recording(path: string): string | undefined {
  const folder = process.env["SIGNALBOX_FIXTURES"] ?? new URL("../../../shared/fixtures/recorded", import.meta.url).pathname;
  try {
    return readFileSync(`${folder}/${path}`, "utf8");
  } catch {
    return undefined;
  }
}

/** Waits for something to become true, looking at every turn of the event loop; fails after `turns`. */
export async function until(isTrue: () => boolean, what: string): Promise<void> {
  for (let turn = 0; turn < 60_000; turn++) {
    if (isTrue()) return;
    await systemClock.sleep(1);
  }
  throw new Error(`never happened: ${what}`);
}
