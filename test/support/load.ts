import { Pool } from "undici";
import { checkSum } from "#simulator/index.ts";

/** One request as the client saw it. */
export interface ClientLine {
  readonly requestId: string;
  readonly stream: boolean;
  /** 0 = no answer at all. */
  readonly status: number;
  readonly backend: string;
  readonly attempts: number;
  /** complete: whole and checked; error_event: a stream that ended with an error; anything else is a fault the client would notice or, worse, not. */
  readonly ending: "complete" | "error_event" | "error_status" | "truncated" | "wrong_content" | "broken" | "aborted";
  readonly code: string;
  readonly costUsd: string;
}

/** Most requests of a load that goes on, as a multiple of its count. */
const COUNT_FACTOR_MAX = 10;

/** What to send. */
export interface LoadOptions {
  readonly api: string;
  readonly count: number;
  /** Whether to go on beyond `count`, up to {@link COUNT_FACTOR_MAX} times as many: on a slow machine what should happen under load takes longer than the load. */
  readonly goesOn?: () => boolean;
  /** Requests at once. */
  readonly concurrency: number;
  readonly model: string;
  /** Whether the request with this number streams. Default: every second. */
  readonly isStream?: (index: number) => boolean;
  /** Text of the user's message. */
  readonly prompt?: (index: number) => string;
  /** Whether the client leaves after the first content. */
  readonly aborts?: (index: number) => boolean;
  readonly headers?: Readonly<Record<string, string>>;
  /** Called before each request. */
  readonly onSend?: (index: number) => void;
  /** Called after each answer; what it returns is waited for before the same client sends its next request. */
  readonly onAnswer?: (line: ClientLine, done: number) => void | Promise<void>;
}

/** Sends requests at a fixed concurrency and returns what the client saw of each. */
export async function sendLoad(options: LoadOptions): Promise<ClientLine[]> {
  const pool = new Pool(options.api, { connections: options.concurrency, pipelining: 1, headersTimeout: 60_000, bodyTimeout: 60_000 });
  const lines: ClientLine[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (;;) {
      if (next >= options.count && !(next < options.count * COUNT_FACTOR_MAX && options.goesOn?.())) return;
      const index = next++;
      options.onSend?.(index);
      const line = await sendOne(pool, options, index);
      lines.push(line);
      await options.onAnswer?.(line, lines.length);
    }
  };
  await Promise.all(Array.from({ length: options.concurrency }, worker));
  await pool.destroy();
  return lines;
}

async function sendOne(pool: Pool, options: LoadOptions, index: number): Promise<ClientLine> {
  const stream = options.isStream?.(index) ?? index % 2 === 1;
  const requestId = `load-${index}`;
  const body = JSON.stringify({
    model: options.model,
    stream,
    ...(stream ? { stream_options: { include_usage: true } } : {}),
    messages: [{ role: "user", content: options.prompt?.(index) ?? `hello number ${index}` }],
  });
  const none: ClientLine = { requestId, stream, status: 0, backend: "", attempts: 0, ending: "broken", code: "", costUsd: "" };
  try {
    const answer = await pool.request({
      path: "/v1/chat/completions",
      method: "POST",
      headers: { "content-type": "application/json", "x-request-id": requestId, ...options.headers },
      body,
    });
    const facts = {
      ...none,
      status: answer.statusCode,
      backend: String(answer.headers["x-signalbox-backend"] ?? ""),
      attempts: Number(answer.headers["x-signalbox-attempts"] ?? 0),
      costUsd: String(answer.headers["x-signalbox-cost-usd"] ?? ""),
    };
    if (stream && answer.statusCode === 200 && options.aborts?.(index)) {
      for await (const chunk of answer.body) if (String(chunk).includes('"content":"')) break;
      return { ...facts, ending: "aborted" };
    }
    const text = await answer.body.text();
    if (answer.statusCode !== 200)
      return { ...facts, ending: "error_status", code: (JSON.parse(text) as { error: { code: string } }).error.code };
    return stream
      ? { ...facts, ...readStream(text) }
      : { ...facts, ending: checkSum(contentOf(text)) === "ok" ? "complete" : "wrong_content" };
  } catch (failure) {
    return { ...none, code: (failure as Error).message };
  }
}

function contentOf(text: string): string {
  return (JSON.parse(text) as { choices: { message: { content: string } }[] }).choices[0]!.message.content;
}

/** How a stream ended, its text checked against the checksum the simulator put at its end. */
export function readStream(text: string): Pick<ClientLine, "ending" | "code" | "costUsd"> {
  let content = "";
  let finished = false;
  let done = false;
  let costUsd = "";
  for (const event of text.split("\n\n")) {
    if (!event.startsWith("data: ")) continue;
    if (event === "data: [DONE]") {
      done = true;
      continue;
    }
    const chunk = JSON.parse(event.slice(6)) as {
      error?: { code: string };
      choices?: { delta: { content?: string }; finish_reason: string | null }[];
      signalbox?: { cost_usd: string };
    };
    if (chunk.error) return { ending: done ? "wrong_content" : "error_event", code: chunk.error.code, costUsd };
    content += chunk.choices?.[0]?.delta.content ?? "";
    finished ||= (chunk.choices?.[0]?.finish_reason ?? null) !== null;
    costUsd = chunk.signalbox?.cost_usd ?? costUsd;
  }
  if (!done || !finished) return { ending: "truncated", code: "", costUsd };
  return { ending: checkSum(content) === "ok" ? "complete" : "wrong_content", code: "", costUsd };
}

/** Counts by ending, for messages. */
export function endings(lines: readonly ClientLine[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { ending, status, code } of lines) {
    const key = ending === "error_status" ? `${status} ${code}` : ending === "broken" ? `broken: ${code}` : ending;
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}
