import { Pool } from "undici";
import { type CliActions, type CliIo, runCli } from "#cli/index.ts";
import { systemClock } from "#libs/clock/index.ts";
import type { Gateway } from "./gateway.ts";

/** What a rollback under load looked like from outside. Times are ms after the command was given. */
export interface RollbackFigures {
  readonly requests: number;
  readonly failed: number;
  /** Failures by status (0 = no answer) and error code. */
  readonly failures: Readonly<Record<string, number>>;
  /** Share of the requests before the command that went to the arm. */
  readonly shareBefore: number;
  /** When the last request was sent that still went to the arm; 0 = none after the command. */
  readonly lastToArmMs: number;
  /** Requests sent after `afterMs` counted from there: they show that it holds. */
  readonly requestsAfter: number;
  /** Exit code and output of the command. */
  readonly exitCode: number;
  readonly printed: string;
  /** Slowest confirmation that the command printed. */
  readonly confirmedMs: number;
  readonly replicas: number;
}

interface Sent {
  readonly atMs: number;
  readonly status: number;
  /** Of an error, with the beginning of its text: a figure without a cause helps nobody. */
  readonly fault: string;
  readonly arm: boolean;
}

/** How to load it. */
export interface RollbackLoad {
  readonly rps: number;
  readonly beforeMs: number;
  readonly afterMs: number;
  /** Replicas that must have applied the start, if it matters how many answer to the rollback: one that was never heard of is not waited for. */
  readonly replicas?: number;
  /** Runs when half of the time before the command is over. */
  readonly onHalf?: () => Promise<void>;
}

/** Runs a verb of the command line against a gateway. */
export async function runVerb(gateway: Gateway, ...argv: string[]): Promise<{ readonly code: number; readonly out: string }> {
  let out = "";
  const io: CliIo = {
    env: {},
    outIsTty: false,
    errIsTty: false,
    fetch,
    out: (text) => {
      out += text;
      return Promise.resolve();
    },
    err: (text) => {
      out += text;
    },
  };
  const dataDir = gateway.mesh?.dataDir("console") ?? gateway.dir;
  const code = await runCli(["--admin", gateway.admin, "--data-dir", dataDir, ...argv], {} as CliActions, io);
  return { code, out };
}

/** Requests sent after the command has returned, at least. */
const AFTER_LEAST = 10;

/** Puts half of the users of `chat` on backend `b`, loads every API evenly (open loop, ever new users), and rolls back in the middle. */
export async function measureRollback(
  gateway: Gateway,
  apis: readonly string[],
  name: string,
  load: RollbackLoad,
): Promise<RollbackFigures> {
  // A guard of its own would be first on a machine that is slow now and then.
  await runVerb(gateway, "experiments", "start", name, "--model", "chat", "--arm", "b=50%", "--on-breach", "alert");
  for (let heard = 0; heard < (load.replicas ?? 0);) {
    const { json } = await gateway.adminCall("POST", `/api/experiments/${name}/ramp`, { weights: { b: 0.5 }, wait_ms: 1_000 });
    heard = (json["replicas"] as { confirmed: boolean }[]).filter(({ confirmed }) => confirmed).length;
  }
  const pools = apis.map((api) => new Pool(api, { connections: 256, headersTimeout: 30_000, bodyTimeout: 30_000 }));
  const sent: Promise<Sent>[] = [];
  const startMs = systemClock.monotonicMs();
  let stopMs = Number.POSITIVE_INFINITY;
  let least = 0;
  const sending = (async (): Promise<void> => {
    while (systemClock.monotonicMs() < stopMs || sent.length < least) {
      const due = Math.floor(((systemClock.monotonicMs() - startMs) * load.rps) / 1_000);
      while (sent.length < due) sent.push(ask(pools[sent.length % pools.length]!, `${name}-${sent.length}`));
      await systemClock.sleep(2);
    }
  })();
  await systemClock.sleep(load.beforeMs / 2);
  await load.onHalf?.();
  await systemClock.sleep(load.beforeMs / 2);
  const calledMs = systemClock.monotonicMs();
  const { code, out } = await runVerb(gateway, "experiments", "rollback", name, "--reason", "measured", "--wait", "30s", "-o", "json");
  // On a machine that stands still the time after may be over before anything was sent in it.
  least = sent.length + AFTER_LEAST;
  stopMs = calledMs + load.afterMs;
  await sending;
  const answers = await Promise.all(sent);
  for (const pool of pools) await pool.close();
  const failed = answers.filter(({ status }) => status !== 200);
  const before = answers.filter(({ atMs }) => atMs < calledMs);
  const late = answers.filter(({ atMs, arm }) => arm && atMs >= calledMs);
  const lastToArmMs = Math.max(0, ...late.map(({ atMs }) => atMs - calledMs));
  const answer = JSON.parse(out) as {
    replicas: { replica: string; after_ms: number | null }[];
    history: { action: string; reason: string }[];
  };
  const last = answer.history.at(-1);
  if (last?.action !== "rollback" || last.reason !== "measured") throw new Error(`not rolled back by this command: ${out}`);
  return {
    requests: answers.length,
    failed: failed.length,
    failures: Object.fromEntries(
      Map.groupBy(failed, ({ status, fault }) => `${status} ${fault}`)
        .entries()
        .map(([status, each]) => [status, each.length]),
    ),
    shareBefore: before.filter(({ arm }) => arm).length / Math.max(1, before.length),
    lastToArmMs,
    requestsAfter: answers.filter(({ atMs }) => atMs > calledMs + lastToArmMs).length,
    exitCode: code,
    printed: out,
    confirmedMs: Math.max(0, ...answer.replicas.map(({ after_ms: afterMs }) => afterMs ?? Number.POSITIVE_INFINITY)),
    replicas: answer.replicas.length,
  };
}

async function ask(pool: Pool, user: string): Promise<Sent> {
  const atMs = systemClock.monotonicMs();
  try {
    const { statusCode, headers, body } = await pool.request({
      path: "/v1/chat/completions",
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "chat", user, max_tokens: 8, messages: [{ role: "user", content: `[sim tokens=8] hello ${user}` }] }),
    });
    const text = await body.text();
    return { atMs, status: statusCode, fault: statusCode === 200 ? "" : faultOf(text), arm: headers["x-signalbox-backend"] === "b" };
  } catch (error) {
    return { atMs, status: 0, fault: String(error), arm: false };
  }
}

/** Characters of an error's text that tell its kind. */
const FAULT_CHARS = 60;

function faultOf(text: string): string {
  const { error } = JSON.parse(text) as { error: { code: string | null; message: string } };
  return `${error.code ?? ""}: ${error.message.slice(0, FAULT_CHARS)}`;
}
