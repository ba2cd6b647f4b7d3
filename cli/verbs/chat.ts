import type { Command } from "commander";
import { systemClock } from "#libs/clock/index.ts";
import { reach } from "../admin-client.ts";
import type { VerbContext, VerbRunner } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { fieldsOf, listOf, msCell, textCell, type Fields } from "../format.ts";
import { paint } from "../io.ts";
import { linesOf } from "../lines.ts";
import { runningServer } from "../running-server.ts";

interface ChatGiven {
  readonly api?: string;
  readonly key?: string;
  readonly model?: string;
  readonly stream?: boolean;
}

/** What a chat call gave. */
interface ChatResult {
  readonly content: string;
  readonly backend: string | null;
  readonly model: string | null;
  readonly requestId: string | null;
  /** To the first content; to the whole answer without a stream. */
  readonly ttftMs: number;
  readonly durationMs: number;
  readonly costUsd: string | null;
}

/** Adds `chat`. */
export function addChatVerb(program: Command, runner: VerbRunner): void {
  const chat = program
    .command("chat <message>")
    .description("ask a model something; shows the backend, the time to the first token and the cost")
    .option("-m, --model <model>", "model to ask (default: chat, else the first there is)")
    .option("--stream", "print the answer as it comes")
    .option("--api <url>", "address of the API (default: the running server's)")
    .option("--key <key>", "virtual key (environment: SIGNALBOX_API_KEY)");
  runner.run(chat, async (context, command) => {
    const given = command.opts<ChatGiven>();
    const result = await talk(context, given, command.args[0] ?? "");
    const { content, backend, model, requestId, ttftMs, durationMs, costUsd } = result;
    const facts = `backend ${textCell(backend)}  ttft ${msCell(ttftMs)}  took ${msCell(durationMs)}  cost ${costUsd === null ? "-" : `$${textCell(costUsd)}`}`;
    const text = given.stream ? "\n" : `${content}\n`;
    await context.print(
      { content, backend, model, request_id: requestId, ttft_ms: ttftMs, duration_ms: durationMs, cost_usd: costUsd },
      () => `${text}\n${paint(context.io, "dim", facts)}\n`,
    );
  });
}

async function talk(context: VerbContext, given: ChatGiven, message: string): Promise<ChatResult> {
  const { io } = context;
  const running = await runningServer(context);
  const api = given.api?.replace(/\/+$/, "").replace(/\/v1$/, "") ?? running.apiUrl;
  const key = given.key ?? (io.env["SIGNALBOX_API_KEY"] || undefined);
  const started = systemClock.monotonicMs();
  const answer = await reach(
    io,
    `${api}/v1/chat/completions`,
    {
      method: "POST",
      headers: { "content-type": "application/json", ...(key === undefined ? {} : { authorization: `Bearer ${key}` }) },
      body: JSON.stringify({
        model: given.model ?? running.model,
        messages: [{ role: "user", content: message }],
        ...(given.stream ? { stream: true, stream_options: { include_usage: true } } : {}),
      }),
    },
    "--api",
  );
  if (!answer.ok) throw await refusalOf(answer, key !== undefined);
  const elapsed = (): number => systemClock.monotonicMs() - started;
  const read = given.stream && answer.body ? readStream(context, answer.body, elapsed) : readWhole(answer, elapsed);
  const { content, ttftMs, costUsd } = await read;
  const header = (name: string): string | null => answer.headers.get(name);
  return {
    content,
    ttftMs,
    durationMs: elapsed(),
    backend: header("x-signalbox-backend"),
    model: header("x-signalbox-model"),
    requestId: header("x-request-id"),
    costUsd: costUsd ?? header("x-signalbox-cost-usd"),
  };
}

type Answer = Pick<ChatResult, "content" | "ttftMs" | "costUsd">;

async function readWhole(answer: Response, elapsed: () => number): Promise<Answer> {
  const body = fieldsOf(await answer.json().catch(() => ({})));
  const [choice] = listOf(body, "choices");
  if (choice === undefined) throw new CliError(EXIT.failed, "the API did not answer a chat completion: is it the API port?");
  const content = fieldsOf(choice["message"])["content"];
  return { content: typeof content === "string" ? content : JSON.stringify(choice["message"]), ttftMs: elapsed(), costUsd: null };
}

async function readStream({ io, options }: VerbContext, body: ReadableStream<Uint8Array>, elapsed: () => number): Promise<Answer> {
  let content = "";
  let ttftMs: number | undefined;
  let costUsd: string | null = null;
  let done = false;
  try {
    for await (const line of linesOf(body)) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice("data:".length).trim();
      if (data === "[DONE]") {
        done = true;
        continue;
      }
      const event = eventOf(data);
      const piece = fieldsOf(listOf(event, "choices")[0]?.["delta"])["content"];
      const cost = fieldsOf(event["signalbox"])["cost_usd"];
      if (typeof cost === "string") costUsd = cost;
      if (typeof piece !== "string" || piece === "") continue;
      ttftMs ??= elapsed();
      content += piece;
      if (options.output !== "json") await io.out(piece);
    }
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw new CliError(EXIT.failed, "the stream broke off before its end");
  }
  if (!done) throw new CliError(EXIT.failed, "the stream ended without [DONE]: the answer is not whole");
  return { content, ttftMs: ttftMs ?? elapsed(), costUsd };
}

function eventOf(data: string): Fields {
  let event: Fields;
  try {
    event = fieldsOf(JSON.parse(data));
  } catch {
    throw new CliError(EXIT.failed, "the stream holds an event that is not JSON");
  }
  const failure = fieldsOf(event["error"])["message"];
  if (failure !== undefined) throw new CliError(EXIT.failed, `the stream failed: ${textCell(failure)}`);
  return event;
}

async function refusalOf(answer: Response, hadKey: boolean): Promise<CliError> {
  const body = fieldsOf(await answer.json().catch(() => ({})));
  const message = fieldsOf(body["error"])["message"];
  const text = typeof message === "string" ? textCell(message) : `the API answered ${answer.status}`;
  const hint =
    answer.status === 401 && !hadKey
      ? ": name a key with --key or SIGNALBOX_API_KEY (`signalbox keys create --tenant NAME` makes one)"
      : "";
  return new CliError(answer.status === 400 || answer.status === 404 ? EXIT.usage : EXIT.failed, `${text}${hint}`);
}
