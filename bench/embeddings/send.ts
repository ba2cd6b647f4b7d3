import { Agent, request as httpRequest } from "node:http";

/** One request for one embedding, as its client saw it. */
export interface Embedded {
  readonly tookMs: number;
  readonly tokens: number;
  readonly ok: boolean;
}

/** Where requests go. */
export interface Destination {
  readonly url: string;
  /** Whether each asks for other dimensions, so that no two may share a call. */
  readonly alone: boolean;
}

const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
let sent = 0;

/** Sends one input and resolves when it is answered. */
export function embedOne({ url, alone }: Destination): Promise<Embedded> {
  const number = sent++;
  const dimensions = alone ? { dimensions: 8 + (number % 1_000) } : {};
  const body = JSON.stringify({ model: "embedder", input: `text number ${number}${" more".repeat(number % 7)}`, ...dimensions });
  const startMs = performance.now();
  return new Promise((resolve) => {
    const end = (ok: boolean, tokens: number): void => resolve({ tookMs: performance.now() - startMs, tokens, ok });
    const call = httpRequest(`${url}/v1/embeddings`, {
      method: "POST",
      agent,
      headers: { "content-type": "application/json", "content-length": Buffer.byteLength(body) },
    });
    call.once("error", () => end(false, 0));
    call.once("response", (answer) => {
      const parts: Buffer[] = [];
      answer.on("data", (part: Buffer) => void parts.push(part));
      answer.once("end", () => {
        const json = JSON.parse(Buffer.concat(parts).toString("utf8")) as { data?: unknown[]; usage?: { prompt_tokens: number } };
        end(answer.statusCode === 200 && json.data?.length === 1, json.usage?.prompt_tokens ?? 0);
      });
    });
    call.end(body);
  });
}

/** All at once: how many a second came back, and what they used. */
export async function burst(to: Destination, count: number): Promise<{ perS: number; tokens: number; failed: number }> {
  const startMs = performance.now();
  const all = await Promise.all(Array.from({ length: count }, () => embedOne(to)));
  const perS = (count * 1_000) / (performance.now() - startMs);
  return { perS, tokens: all.reduce((sum, { tokens }) => sum + tokens, 0), failed: all.filter(({ ok }) => !ok).length };
}

/** Open loop at a rate: how long each took, ms, in ascending order. */
export async function paced(to: Destination, ratePerS: number, count: number): Promise<number[]> {
  const all: Promise<Embedded>[] = [];
  const startMs = performance.now();
  while (all.length < count) {
    while (all.length < count && startMs + (all.length * 1_000) / ratePerS <= performance.now()) all.push(embedOne(to));
    await new Promise((resolve) => void setTimeout(resolve, 1));
  }
  return (await Promise.all(all)).map(({ tookMs }) => tookMs).sort((a, b) => a - b);
}

/** One after the other: how long each took, ms, in ascending order. */
export async function oneByOne(to: Destination, count: number): Promise<number[]> {
  const took: number[] = [];
  for (let index = 0; index < count; index++) took.push((await embedOne(to)).tookMs);
  return took.sort((a, b) => a - b);
}

/** Lets the sockets go. */
export function hangUp(): void {
  agent.destroy();
}
