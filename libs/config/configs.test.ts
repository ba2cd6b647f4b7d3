import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { loadConfig, loadConfigFile } from "./load.ts";
import { formatProblem } from "./problems.ts";

const SHIPPED = join(import.meta.dirname, "..", "..", "deploy", "config");

describe("shipped configurations", () => {
  const files = readdirSync(SHIPPED).filter((file) => file.endsWith(".yaml"));

  it("are there", () => assert.ok(files.includes("embedded.yaml") && files.includes("mesh.yaml")));

  for (const file of files) {
    it(`${file} loads with no variable set and no secret there`, () => {
      const loaded = loadConfigFile(join(SHIPPED, file), { env: {} });
      assert.deepEqual(loaded.problems?.map(formatProblem), undefined);
    });
  }
});

/** One mistake: what it is called, the file (^ marks where the problem must point), and what the message must say. */
type Mistake = readonly [name: string, yaml: string, path: string, message: RegExp];

const BACKEND = "backends: { a: { provider: vllm, model: m } }\n";

const MISTAKES: readonly Mistake[] = [
  ["broken YAML", "version: 1\nbackends: { a: [1 ^}\n", "(document)", /fix the YAML here/],
  ["a key given twice", `version: 1\n^version: 1\n${BACKEND}`, "version", /given twice/],
  ["a missing version", "^backends: { a: { provider: vllm, model: m } }\n", "version", /is missing/],
  ["another version", `version: ^2\n${BACKEND}`, "version", /must be 1/],
  ["an unknown section", `version: 1\n${BACKEND}^serverr: {}\n`, "serverr", /did you mean "server"\?/],
  ["an unknown key", `version: 1\n${BACKEND}server: { api: { ^lisen: 127.0.0.1:1 } }\n`, "server.api.lisen", /did you mean "listen"\?/],
  ["an unknown provider", "version: 1\nbackends:\n  a: { provider: ^vlm, model: m }\n", "backends.a.provider", /did you mean "vllm"\?/],
  [
    "an unknown capability",
    "version: 1\nbackends:\n  a: { provider: vllm, model: m, capabilities: [tools, ^visoin] }\n",
    "backends.a.capabilities[1]",
    /did you mean "vision"\?/,
  ],
  ["a backend without a model", "version: 1\nbackends:\n  ^a: { provider: vllm }\n", "backends.a.model", /is missing/],
  ["a backend without a provider", "version: 1\nbackends:\n  ^a: { model: m }\n", "backends.a.provider", /is missing/],
  [
    "a provider without a usual address",
    'version: 1\nbackends:\n  ^a: { provider: azure, model: m, key: "${env:K}" }\n',
    "backends.a.url",
    /base URL/,
  ],
  ["a cloud without a key", "version: 1\nbackends:\n  ^a: { provider: openai, model: m }\n", "backends.a.key", /\$\{env:OPENAI_API_KEY\}/],
  ["a literal key", "version: 1\nbackends:\n  a: { provider: openai, model: m, key: ^sk-1234 }\n", "backends.a.key", /plain text/],
  [
    "a literal key as a default",
    'version: 1\nbackends:\n  a: { provider: openai, model: m, key: ^"${env:K:-sk-1}" }\n',
    "backends.a.key",
    /plain text/,
  ],
  [
    "credentials in a URL",
    "version: 1\nbackends:\n  a: { provider: vllm, model: m, url: ^http://u:p@h/v1 }\n",
    "backends.a.url",
    /credentials/,
  ],
  ["no backends", "version: 1\n^backends: {}\n", "backends", /at least one/],
  ["an empty backend", "version: 1\nbackends:\n  ^a:\n", "backends.a", /is empty/],
  [
    "a parent that is not there",
    "version: 1\nbackends: { gpu: { provider: vllm, model: m }, b: { extends: ^gup } }\n",
    "backends.b.extends",
    /did you mean "gpu"\?/,
  ],
  [
    "parents in a circle",
    "version: 1\nbackends: { a: { provider: vllm, model: m }, b: { extends: ^b } }\n",
    "backends.b.extends",
    /circle/,
  ],
  [
    "a candidate that is not there",
    `version: 1\n${BACKEND}models: { chat: { candidates: [^b1] } }\n`,
    "models.chat.candidates[0]",
    /is not a backend/,
  ],
  [
    "a candidate given twice",
    `version: 1\n${BACKEND}models: { chat: { candidates: [a, ^a] } }\n`,
    "models.chat.candidates[1]",
    /given twice/,
  ],
  ["no candidates", `version: 1\n${BACKEND}models: { chat: { candidates: ^[] } }\n`, "models.chat.candidates", /at least one backend/],
  [
    "an alias of two models",
    `version: 1\n${BACKEND}models: { x: { candidates: [a], aliases: [z] }, y: { candidates: [a], aliases: [^z] } }\n`,
    "models.y.aliases[0]",
    /already leads to the model "x"/,
  ],
  ["a duration without unit", `version: 1\n${BACKEND}resilience: { breaker: { open: ^5 } }\n`, "resilience.breaker.open", /unit/],
  ["a list for a mapping", `version: 1\n${BACKEND}server: ^[]\n`, "server", /mapping/],
  ["a value for a list", `version: 1\n${BACKEND}models: { chat: { candidates: ^a } }\n`, "models.chat.candidates", /must be a list/],
  ["a number for text", `version: 1\n${BACKEND}prices: { baseline: ^4 }\n`, "prices.baseline", /quotes/],
  [
    "money without dollars",
    `version: 1\n${BACKEND}prices: { overrides: [{ backend: a, per_hour: ^1.9 }] }\n`,
    "prices.overrides[0].per_hour",
    /dollars/,
  ],
  [
    "a price of an unknown backend",
    `version: 1\n${BACKEND}prices: { overrides: [{ backend: ^gpu, per_hour: $1 }] }\n`,
    "prices.overrides[0].backend",
    /is not a backend/,
  ],
  ["an unknown baseline", `version: 1\n${BACKEND}prices: { baseline: ^gpt-5 }\n`, "prices.baseline", /provider\/model/],
  [
    "an unknown schedule",
    `version: 1\n${BACKEND}classes: { batch: { defer_to: ^night } }\n`,
    "classes.batch.defer_to",
    /is not a schedule/,
  ],
  [
    "an unknown time zone",
    `version: 1\n${BACKEND}schedules: { n: { tz: ^Mars, windows: ["22:00-06:00"] } }\n`,
    "schedules.n.tz",
    /time zone/,
  ],
  ["a broken window", `version: 1\n${BACKEND}schedules: { n: { windows: [^"mon 22-06"] } }\n`, "schedules.n.windows[0]", /is not a window/],
  [
    "a rule on an unknown backend",
    `version: 1\n${BACKEND}rules: [{ name: r, when: "true", exclude: [^gpu] }]\n`,
    "rules[0].exclude[0]",
    /is not a backend/,
  ],
  [
    "a rule on an unknown label",
    `version: 1\n${BACKEND}rules: [{ name: r, when: "true", require: { ^residency: eu } }]\n`,
    "rules[0].require.residency",
    /no backend has the label/,
  ],
  [
    "an experiment on an unknown model",
    `version: 1\n${BACKEND}experiments: { e: { model: ^chat, arms: { control: 100% } } }\n`,
    "experiments.e.model",
    /is not a model/,
  ],
  [
    "an experiment that would get nobody, in a second layer on its model",
    `version: 1\n${BACKEND}experiments: { e: { model: a, arms: { control: 100% } }, f: { model: a, layer: ^other, arms: { control: 100% } } }\n`,
    "experiments.f.layer",
    /is not the layer of "e", which is on the same model/,
  ],
  [
    "an arm on an unknown backend",
    `version: 1\n${BACKEND}experiments: { e: { model: a, arms: { control: 90%, b: { weight: 10%, backends: [^gpu] } } } }\n`,
    "experiments.e.arms.b.backends[0]",
    /is not a backend/,
  ],
  [
    "weights that are not all",
    `version: 1\n${BACKEND}experiments: { e: { model: a, ^arms: { control: 90%, b: 9% } } }\n`,
    "experiments.e.arms",
    /add up to 99%/,
  ],
  ["the gateway's own tenant", `version: 1\n${BACKEND}tenants: { ^system: {} }\n`, "tenants.system", /the gateway's own/],
  [
    "an arm that changes what is the caller's",
    `version: 1\n${BACKEND}experiments: { e: { model: a, arms: { control: 90%, b: { weight: 10%, ^request: { messages: [] } } } } }\n`,
    "experiments.e.arms.b.request",
    /cannot change "messages"/,
  ],
  [
    "an arm's output limit of nothing",
    `version: 1\n${BACKEND}experiments: { e: { model: a, arms: { control: 90%, b: { weight: 10%, ^request: { max_tokens: 0 } } } } }\n`,
    "experiments.e.arms.b.request",
    /must be a whole number above 0/,
  ],
  [
    "a guard the wrong way",
    `version: 1\n${BACKEND}experiments: { e: { model: a, arms: { control: 100% }, guards: { ttft: ^-10% } } }\n`,
    "experiments.e.guards.ttft",
    /may rise/,
  ],
  [
    "a budget of an unknown team",
    `version: 1\n${BACKEND}tenants: { t: { teams: [search], budgets: [{ team: ^serach, amount: $1, per: day }] } }\n`,
    "tenants.t.budgets[0].team",
    /did you mean "search"\?/,
  ],
  ["a tenant's unknown model", `version: 1\n${BACKEND}tenants: { t: { models: [^chat] } }\n`, "tenants.t.models[0]", /is not a model/],
  ["rpm and rps", `version: 1\n${BACKEND}tenants: { t: { limits: { rpm: 60, ^rps: 1 } } }\n`, "tenants.t.limits.rps", /keep one/],
  [
    "open access from elsewhere",
    `version: 1\n${BACKEND}auth: { mode: open }\nserver: { api: { listen: ^0.0.0.0:4100 } }\n`,
    "server.api.listen",
    /signalbox keys create/,
  ],
  ["an unknown role", `version: 1\n${BACKEND}mesh: { peers: { ^ingres: "h:1" } }\n`, "mesh.peers.ingres", /did you mean "ingress"\?/],
  [
    "a password in the store",
    `version: 1\n${BACKEND}ledger: { store: ^"postgres://u:secret@h/db" }\n`,
    "ledger.store",
    /password in plain text/,
  ],
  ["a store of no kind", `version: 1\n${BACKEND}ledger: { store: ^mysql }\n`, "ledger.store", /sqlite:PATH/],
  [
    "credentials of NATS in plain text",
    `version: 1\n${BACKEND}mesh: { nats: { url: "nats://h:4222", creds: ^abc } }\n`,
    "mesh.nats.creds",
    /plain text/,
  ],
  [
    "a variable that is not set",
    `version: 1\n${BACKEND}server: { api: { listen: ^"\${env:ADDRESS}" } }\n`,
    "server.api.listen",
    /ADDRESS, which is not set/,
  ],
  [
    "a file that is not there",
    `version: 1\n${BACKEND}server: { api: { listen: ^"\${file:/nowhere}" } }\n`,
    "server.api.listen",
    /cannot be read/,
  ],
  ["a reference of no kind", `version: 1\n${BACKEND}server: { api: { listen: ^"\${ADDRESS}" } }\n`, "server.api.listen", /\$\{env:NAME\}/],
  ["a merge key", `version: 1\n${BACKEND}server: { ^<<: {} }\n`, "server.<<", /extends/],
  ["an anchor that is not there", `version: 1\n${BACKEND}auth: ^*nowhere\n`, "auth", /anchor/],
  ["a key that is a list", `version: 1\n${BACKEND}server: { ^[a]: 1 }\n`, "server", /plain text/],
];

const readNothing = (): string => {
  throw new Error("ENOENT");
};

describe("a mistake in a configuration", () => {
  for (const [name, marked, path, message] of MISTAKES) {
    it(`${name} is reported at its line and column`, () => {
      const offset = marked.indexOf("^");
      const before = marked.slice(0, offset).split("\n");
      const { problems = [] } = loadConfig(marked.replace("^", ""), { file: "bad.yaml", env: {}, readFile: readNothing });
      const [found] = problems.filter((problem) => problem.path === path && message.test(problem.message));
      assert.ok(found, `no such problem among:\n${problems.map(formatProblem).join("\n")}`);
      const line = before.length;
      const column = (before.at(-1) ?? "").length + 1;
      assert.equal(formatProblem(found), `bad.yaml:${line}:${column}: ${path}: ${found.message}`);
    });
  }

  it("a setting without effect is a warning at its line, and no mistake", () => {
    const schedules = `schedules: { night: { tz: UTC, windows: ["22:00-06:00"] } }\n`;
    const text = `version: 1\n${BACKEND}${schedules}classes:\n  batch: { ceiling: 0.5, defer_to: night }\n`;
    const loaded = loadConfig(text, { file: "night.yaml", env: {} });
    assert.equal(loaded.config?.classes.batch.deferTo, "night");
    const [warning] = loaded.warnings ?? [];
    assert.match(formatProblem(warning!), /^night\.yaml:5:26: classes\.batch\.defer_to: has no effect yet: .*\/v1\/batches/);
    assert.deepEqual(loadConfig(`version: 1\n${BACKEND}`, { file: "a.yaml", env: {} }).warnings, []);
  });

  it("fault: a schedule, a rule, resumption and engine priority that could change nothing were taken without a word", () => {
    const text = `version: 1
backends:
  a: { provider: openai, key: "\${env:K}", model: m, labels: { residency: us } }
  b: { extends: a, engine_priority: true }
  engine: { provider: vllm, model: m, engine_priority: true }
schedules: { night: { tz: UTC, windows: ["22:00-06:00"] }, day: { tz: UTC, windows: ["06:00-22:00"] } }
prices: { overrides: [{ backend: a, schedule: day, per_million: { input: $1, output: $1 } }] }
models:
  clouds: { candidates: [a, b], mid_stream: resume }
  all: { candidates: [a, engine], mid_stream: resume }
rules:
  - { name: nothing, when: "true" }
  - { name: something, when: "true", class: batch }
`;
    const { warnings = [] } = loadConfig(text, { file: "idle.yaml", env: { K: "x" } });
    assert.deepEqual(
      warnings.map(({ path, line }) => `${line} ${path}`),
      ["4 backends.b.engine_priority", "6 schedules.night", "9 models.clouds.mid_stream", "12 rules[0]"],
    );
  });

  it("never stands alone: all are reported at once, in the order of the file", () => {
    const text =
      "version: 2\nbackends:\n  a: { provider: vlm, model: m, key: sk-1 }\nmodels: { chat: { candidates: [gpu-x], clas: batch } }\n";
    const { problems = [] } = loadConfig(text, { file: "bad.yaml", env: {} });
    assert.deepEqual(
      problems.map((problem) => problem.path),
      ["version", "backends.a.provider", "backends.a.key", "models.chat.candidates[0]", "models.chat.clas"],
    );
  });

  it("never shows a secret's value", () => {
    const text =
      'version: 1\nbackends: { a: { provider: openai, model: m, key: "sk-canary" } }\nledger: { store: "postgres://u:pw-canary@h/d" }\nmesh: { nats: { url: 5, creds: "creds-canary" } }\n';
    const { problems = [] } = loadConfig(text, { file: "bad.yaml", env: {} });
    assert.equal(problems.length, 4);
    assert.doesNotMatch(problems.map(formatProblem).join("\n"), /canary/);
  });
});
