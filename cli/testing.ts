import { runCli, type CliActions, type CliIo } from "./index.ts";

/** What a command printed and how it ended. */
export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  /** Options of what was started. */
  readonly started: unknown;
}

/** Exit code and what stands on stderr. */
export function pick({ code, err }: Ran): readonly [number, string] {
  return [code, err];
}

/** Runs a command line with its output caught; what it would start is remembered and answers 7. */
export async function runWith(env: CliIo["env"], argv: readonly string[], isTty = false): Promise<Ran> {
  let out = "";
  let err = "";
  let started: unknown;
  const start = (options: unknown): Promise<number> => {
    started = options;
    return Promise.resolve(7);
  };
  const actions: CliActions = {
    dev: start,
    serve: start,
    simServe: start,
    bench: start,
    replay: () => Promise.reject(new Error("not asked for")),
    check: () =>
      Promise.resolve([
        { name: "config", state: "ok", detail: "fine", fix: "" },
        { name: "nats", state: "fail", detail: "nothing answers", fix: "start nats-server -js" },
      ]),
  };
  const io: CliIo = {
    env,
    out: (text) => {
      out += text;
      return Promise.resolve();
    },
    err: (text) => {
      err += text;
    },
    outIsTty: isTty,
    errIsTty: false,
    fetch: globalThis.fetch,
  };
  const code = await runCli(argv, actions, io);
  return { code, out, err, started };
}

/** A row of costs by everything FOCUS wants, of one request that used ten tokens. */
export function costRow(parts: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return {
    day: "2026-10-31",
    tenant: "acme",
    team: "search",
    key_id: "k1",
    model: "chat",
    backend: "gpu",
    provider: "vllm",
    requests: "1",
    input_tokens: "10",
    output_tokens: "5",
    cost_nano_usd: "0",
    idle_nano_usd: "0",
    ...parts,
  };
}
