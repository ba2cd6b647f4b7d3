import { Agent, request as httpRequest } from "node:http";
import { readStream } from "../support/load.ts";

/** One request as its client saw it. Times in ms since the epoch, or ms. */
export interface Seen {
  /** When it was due. */
  readonly atMs: number;
  readonly tookMs: number;
  /** 0 = no answer. */
  readonly status: number;
  readonly backend: string;
  readonly ok: boolean;
  readonly what: string;
  readonly retryAfter: string;
  readonly shouldRetry: string;
}

/** Period of requests that need no backend, ms. */
const FLOOR_EVERY_MS = 100;

/** Longest a request may hang before it counts as hung, ms. */
const HUNG_MS = 70_000;

/** Sends requests at a fixed rate, open loop, every second one streamed, until stopped. */
export class Load {
  readonly seen: Seen[] = [];
  readonly #api: string;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
  readonly #open = new Set<Promise<void>>();
  readonly #timer: NodeJS.Timeout;
  readonly #floorTimer: NodeJS.Timeout;
  /** How long the gateway took for a request that needs no backend, and when: what the machine itself costs. */
  readonly floor: { readonly atMs: number; readonly tookMs: number }[] = [];
  readonly #startedMs = Date.now();
  #sent = 0;

  constructor(api: string, ratePerS: number) {
    this.#api = api;
    const gapMs = 1_000 / ratePerS;
    this.#timer = setInterval(
      () => {
        // A late timer sends what is due at once: the rate holds, and lateness counts as the gateway's.
        while (this.#startedMs + this.#sent * gapMs <= Date.now()) this.#send(this.#startedMs + this.#sent * gapMs);
      },
      Math.min(10, gapMs),
    );
    this.#floorTimer = setInterval(() => this.#sendFloor(), FLOOR_EVERY_MS);
  }

  /** Sends no more, and resolves when everything is answered. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    clearInterval(this.#floorTimer);
    await Promise.all(this.#open);
    this.#agent.destroy();
  }

  /** What was due from `fromMs` until before `untilMs`. */
  between(fromMs: number, untilMs: number): Seen[] {
    return this.seen.filter(({ atMs }) => atMs >= fromMs && atMs < untilMs);
  }

  #sendFloor(): void {
    const atMs = Date.now();
    const call = httpRequest(`${this.#api}/v1/models`, { agent: this.#agent }, (answer) => {
      answer.resume();
      answer.once("end", () => void this.floor.push({ atMs, tookMs: Date.now() - atMs }));
    });
    call.once("error", () => {});
    call.end();
  }

  #send(atMs: number): void {
    const number = this.#sent++;
    const answered = sendOne(this.#api, this.#agent, number, atMs).then((seen) => void this.seen.push(seen));
    this.#open.add(answered);
    void answered.finally(() => this.#open.delete(answered));
  }
}

function sendOne(api: string, agent: Agent, number: number, atMs: number): Promise<Seen> {
  const stream = number % 2 === 1;
  const content = `[sim tokens=16] question ${number}`;
  const body = JSON.stringify({ model: "chat", stream, messages: [{ role: "user", content }] });
  return new Promise((resolve) => {
    let head: Pick<Seen, "status" | "backend" | "retryAfter" | "shouldRetry"> = { status: 0, backend: "", retryAfter: "", shouldRetry: "" };
    const end = (ok: boolean, what: string): void => resolve({ atMs, tookMs: Date.now() - atMs, ok, what, ...head });
    const call = httpRequest(`${api}/v1/chat/completions`, {
      method: "POST",
      agent,
      timeout: HUNG_MS,
      headers: { "content-type": "application/json", "content-length": Buffer.byteLength(body) },
    });
    call.once("timeout", () => call.destroy(new Error("hung")));
    call.once("error", (error) => end(false, error.message));
    call.once("response", (answer) => {
      const header = (name: string): string => String(answer.headers[name] ?? "");
      head = {
        status: answer.statusCode!,
        backend: header("x-signalbox-backend"),
        retryAfter: header("retry-after"),
        shouldRetry: header("x-should-retry"),
      };
      const parts: Buffer[] = [];
      answer.on("data", (part: Buffer) => void parts.push(part));
      answer.once("error", (error) => end(false, error.message));
      answer.once("end", () => {
        const text = Buffer.concat(parts).toString("utf8");
        if (head.status !== 200) return end(false, `${head.status} ${codeOf(text)}`);
        const ending = stream ? readStream(text).ending : text.includes('"finish_reason":"') ? "complete" : "truncated";
        end(ending === "complete", ending);
      });
    });
    call.end(body);
  });
}

function codeOf(text: string): string {
  try {
    return (JSON.parse(text) as { error: { code: string } }).error.code;
  } catch {
    return text.slice(0, 60);
  }
}

/** The value below which this share of them lies; NaN without any. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

/** How often each kind of failure happened, in words. */
export function failuresOf(seen: readonly Seen[]): string {
  const counts = new Map<string, number>();
  for (const { ok, what } of seen) if (!ok) counts.set(what, (counts.get(what) ?? 0) + 1);
  return counts.size === 0 ? "none" : [...counts].map(([what, count]) => `${count} x ${what}`).join(", ");
}
