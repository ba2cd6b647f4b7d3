import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import type { CliActions } from "../actions.ts";
import { runCli } from "../index.ts";
import type { CliIo } from "../io.ts";
import { confirmationText, experimentText } from "./experiment-text.ts";

const ANSWER = {
  name: "cheap",
  revision: 3,
  state: "rolled_back",
  model: "chat",
  arms: [
    { name: "control", weight: 1, backends: [], requests: 80, cost_nano_usd: "1000000" },
    { name: "b", weight: 0, backends: ["gpu-b"], requests: 20, cost_nano_usd: "0" },
  ],
  history: [{ revision: 3, action: "rollback", at: "2026-01-01T00:00:00.000Z", by: "admin", reason: "errors" }],
};

interface Called {
  readonly line: string;
  readonly body: unknown;
}

/** Runs verbs against an admin port that answers with one experiment and remembers what it was asked. */
async function runner(
  t: TestContext,
): Promise<{ readonly calls: Called[]; readonly run: (...argv: string[]) => Promise<readonly [number, string, string]> }> {
  const calls: Called[] = [];
  const server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk: Buffer) => (text += chunk.toString()));
    request.on("end", () => {
      calls.push({ line: `${request.method} ${request.url}`, body: text === "" ? undefined : JSON.parse(text) });
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(ANSWER));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const run = async (...argv: string[]): Promise<readonly [number, string, string]> => {
    let [out, err] = ["", ""];
    const io: CliIo = {
      env: {},
      outIsTty: false,
      errIsTty: false,
      fetch,
      out: (text: string) => {
        out += text;
        return Promise.resolve();
      },
      err: (text: string) => {
        err += text;
      },
    };
    const code = await runCli(["--admin", `http://127.0.0.1:${port}`, ...argv], {} as CliActions, io);
    return [code, out, err];
  };
  return { calls, run };
}

test("start, ramp, status, rollback and promote say what they mean to the admin port", async (t) => {
  const { calls, run } = await runner(t);
  await run("experiments", "start", "cheap", "--model", "chat", "--arm", "b:gpu-b=20%", "--arm", "b:gpu-c=20%", "--arm", "cloud=0.1");
  await run("experiments", "ramp", "cheap", "b=50%");
  await run("experiments", "rollback", "cheap", "--reason", "errors");
  await run("experiments", "rollback", "cheap", "--wait", "30s");
  await run("experiments", "promote", "cheap", "b");
  assert.deepEqual(calls, [
    {
      line: "POST /api/experiments",
      body: {
        name: "cheap",
        model: "chat",
        arms: [
          { name: "b", weight: 0.2, backends: ["gpu-b", "gpu-c"] },
          { name: "cloud", weight: 0.1, backends: ["cloud"] },
        ],
      },
    },
    { line: "POST /api/experiments/cheap/ramp", body: { weights: { b: 0.5 }, wait_ms: 6_000 } },
    { line: "POST /api/experiments/cheap/rollback", body: { reason: "errors", wait_ms: 6_000 } },
    { line: "POST /api/experiments/cheap/rollback", body: { wait_ms: 30_000 } },
    { line: "POST /api/experiments/cheap/promote", body: { arm: "b", wait_ms: 6_000 } },
  ]);
  const [code, out] = await run("experiments", "status", "cheap", "-o", "json");
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(out), ANSWER);
  const [, shown] = await run("experiments", "status", "cheap");
  assert.match(shown, /^cheap on chat: rolled_back, revision 3, rollback by admin at 2026-01-01T00:00:00Z: errors\n/);
  assert.match(shown, /b +0\.0% +gpu-b +20/);
});

test("a weight that is none is a usage error and reaches nobody", async (t) => {
  const { calls, run } = await runner(t);
  for (const arm of ["b=120%", "b", "=10%", "b=x"]) {
    const [code] = await run("experiments", "start", "cheap", "--model", "chat", "--arm", arm);
    assert.equal(code, 2, arm);
  }
  assert.deepEqual(calls, []);
});

test("a plan and guards are numbers on their way", async (t) => {
  const { calls, run } = await runner(t);
  const plan = ["--steps", "1%,5%,100%", "--step-time", "5m", "--step-requests", "50"];
  const guards = ["--guard", "error_rate=+0.5pt", "--guard", "quality=-2%", "--on-breach", "pause"];
  assert.equal((await run("experiments", "start", "cheap", "--model", "chat", "--arm", "b=100%", ...plan, ...guards))[0], 0);
  assert.deepEqual(calls[0]?.body, {
    name: "cheap",
    model: "chat",
    arms: [{ name: "b", weight: 0.01, backends: ["b"] }],
    steps: [0.01, 0.05, 1],
    step_ms: 300_000,
    step_requests: 50,
    guards: { error_rate: 0.005, quality: -0.02, action: "pause" },
  });
  assert.equal((await run("experiments", "start", "cheap", "--model", "chat", "--arm", "b=1%", "--guard", "speed=1%"))[0], 2);
});

test("status draws intervals, and a change says who has it and fails when somebody has not", () => {
  const metrics = { error: { count: 300, mean: 0.05, difference: 0.04, lower: 0.01, upper: 0.07 } };
  const text = experimentText({
    ...ANSWER,
    control: "control",
    valid: false,
    plan: { steps: [0.01, 0.5], step: 1, step_ms: 600_000, step_requests: 200 },
    arms: [ANSWER.arms[0], { ...ANSWER.arms[1], metrics }],
    guards: { action: "rollback", standings: [{ arm: "b", guard: "error_rate", margin: 0.005, status: "breached" }] },
  });
  assert.match(text, /plan: 1\.0% -> \[50\.0%\]/);
  assert.match(text, /sample ratio mismatch/);
  assert.match(text, /b +error +300 +- +5\.0% +\+4\.0pt +\+1\.0pt to \+7\.0pt +·{15}│·─+●─+\n/);
  assert.match(text, /guards \(rollback\): b error_rate \+0\.5pt: breached/);
  const replicas = [
    { replica: "policy-engine-1", role: "policy-engine", revision: 4, confirmed: true, after_ms: 12 },
    { replica: "policy-engine-2", role: "policy-engine", revision: 3, confirmed: false, after_ms: null },
  ];
  const told = confirmationText({ control_revision: 4, confirmed: false, replicas });
  assert.match(told, /revision 4 of the control state: 1 of 2 replicas have it/);
  assert.match(told, /policy-engine-1 +policy-engine +4 +yes +12ms/);
  assert.match(told, /policy-engine-2 +policy-engine +3 +not yet +-/);
});
