import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CliError, EXIT } from "./exit.ts";
import { fieldsOf, textCell, type Fields } from "./format.ts";
import type { CliIo } from "./io.ts";
import type { ClientOptions } from "./options.ts";

/** An admin call answers at once or not at all. */
const CALL_TIMEOUT_MS = 30_000;

/** The admin API of a running Signalbox. Every method throws a CliError with the exit code for what went wrong. */
export interface AdminClient {
  /** Sends one call and gives the JSON object it answers. */
  call(method: "GET" | "POST" | "DELETE", path: string, body?: Fields): Promise<Fields>;
  /** Sends a whole file and gives the JSON object it is answered with; takes as long as that takes. */
  upload(path: string, text: string): Promise<Fields>;
  /** Opens an answer of unknown length: one JSON object per line. */
  stream(path: string): Promise<ReadableStream<Uint8Array>>;
}

/** A client for the address and the token that the options name. */
export function createAdminClient(io: CliIo, options: ClientOptions): AdminClient {
  const token = readToken(options.dataDir);
  const send = async (
    method: string,
    path: string,
    body: Fields | string | undefined,
    timeoutMs: number | undefined,
  ): Promise<Response> => {
    const headers: Record<string, string> = {};
    if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
    if (body !== undefined) headers["content-type"] = "application/json";
    const answer = await reach(io, `${options.adminUrl}${path}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
      ...(timeoutMs === undefined ? {} : { signal: AbortSignal.timeout(timeoutMs) }),
    });
    if (!answer.ok) throw await refusalOf(answer, options, token !== undefined);
    return answer;
  };
  return {
    call: async (method, path, body) => {
      const answer = await send(method, path, body, CALL_TIMEOUT_MS);
      try {
        return fieldsOf(await answer.json());
      } catch {
        throw new CliError(EXIT.failed, `${options.adminUrl} did not answer JSON: is it the admin port?`);
      }
    },
    upload: async (path, text) => fieldsOf(await (await send("POST", path, text, undefined)).json()),
    stream: async (path) => {
      const answer = await send("GET", path, undefined, undefined);
      if (answer.body === null) throw new CliError(EXIT.failed, `${options.adminUrl} gave an empty answer`);
      return answer.body;
    },
  };
}

/** The token the server keeps for its own user; undefined when it is not in this folder. */
function readToken(dataDir: string): string | undefined {
  try {
    return readFileSync(join(dataDir, "admin.token"), "utf8").trim() || undefined;
  } catch {
    return undefined;
  }
}

/** Fetches; a server that is not there ends the verb with one line that says how to start it. */
export async function reach(io: CliIo, url: string, request: RequestInit, option: "--admin" | "--api" = "--admin"): Promise<Response> {
  try {
    return await io.fetch(url, { redirect: "error", ...request });
  } catch (error) {
    const origin = URL.canParse(url) ? new URL(url).origin : url;
    if (error instanceof Error && error.name === "TimeoutError")
      throw new CliError(EXIT.unreachable, `${origin} did not answer in time: is it overloaded?`);
    throw new CliError(
      EXIT.unreachable,
      `nothing answers at ${origin} (${causeOf(error)}): start it with \`signalbox dev\` or \`signalbox serve\`, or name another with ${option} URL`,
    );
  }
}

/** The system's word for what went wrong below a failed fetch. */
function causeOf(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  return code ?? (cause instanceof Error ? textCell(cause.message) : "unreachable");
}

async function refusalOf(answer: Response, options: ClientOptions, hadToken: boolean): Promise<CliError> {
  const body = fieldsOf(await answer.json().catch(() => ({})));
  const diagnostics = Array.isArray(body["diagnostics"]) ? body["diagnostics"].map((line) => `\n  ${textCell(line)}`).join("") : "";
  const message = fieldsOf(body["error"])["message"];
  const text = typeof message === "string" ? textCell(message) : `${options.adminUrl} answered ${answer.status}`;
  if (answer.status === 401 || answer.status === 403) {
    const token = join(options.dataDir, "admin.token");
    const found = hadToken ? `${token} is not the token of ${options.adminUrl}` : `there is no ${token}`;
    return new CliError(EXIT.failed, `not allowed: ${found}; name the server's data folder with --data-dir`);
  }
  return new CliError(answer.status === 400 ? EXIT.usage : EXIT.failed, `${text}${diagnostics}`);
}
