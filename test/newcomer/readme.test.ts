import assert from "node:assert/strict";
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { freePorts } from "#deploy/local/ports.ts";
import { loadConfig } from "#libs/config/index.ts";
import { ROOT } from "../tidy/sources.ts";

const run = promisify(execFile);
const readme = readFileSync(join(ROOT, "README.md"), "utf8");
const experiments = readFileSync(join(ROOT, "docs/experiments.md"), "utf8");
const routing = readFileSync(join(ROOT, "docs/routing.md"), "utf8");

let dir: string;
let dev: ChildProcess;
let banner = "";
let ports: number[];

/** Commands of the README's fenced block behind a marker, one string each, continued lines joined. */
function commandsOf(marker: string, text = readme): string[] {
  const block = new RegExp(`<!-- example: ${marker} -->\\n\`\`\`console\\n([\\s\\S]*?)\`\`\``).exec(text)![1]!;
  return block
    .replaceAll("\\\n", " ")
    .split("\n")
    .filter((line) => line.startsWith("$ "))
    .map((line) => line.slice(2));
}

/** The README's addresses are the defaults; the test's are free ones. */
function onFreePorts(command: string): string {
  return command.replaceAll("127.0.0.1:4100", `127.0.0.1:${ports[0]}`).replaceAll("127.0.0.1:4101", `127.0.0.1:${ports[1]}`);
}

/** Runs a documented command against the test's gateway. */
async function runExample(command: string): Promise<string> {
  const env = { ...process.env, NO_COLOR: "1", SIGNALBOX_ADMIN: `http://127.0.0.1:${ports[1]}` };
  const text = onFreePorts(command).replaceAll("./bin/signalbox", `./bin/signalbox --data-dir ${dir}`);
  return (await run("bash", ["-c", text], { cwd: ROOT, env, timeout: 300_000 })).stdout;
}

before(async () => {
  dir = mkdtempSync(join(tmpdir(), "signalbox-readme-"));
  ports = await freePorts(3);
  const args = ["dev", "--data-dir", dir, "--port", String(ports[0]), "--admin-port", String(ports[1]), "--grpc-port", String(ports[2])];
  dev = spawn(join(ROOT, "bin/signalbox"), args, { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, NO_COLOR: "1" } });
  await new Promise<void>((resolve, reject) => {
    dev.stdout!.on("data", (chunk: Buffer) => {
      banner += chunk.toString();
      if (banner.includes("Backends")) resolve();
    });
    dev.once("exit", (code) => reject(new Error(`dev ended with ${code}: ${banner}`)));
  });
});

after(async () => {
  const gone = new Promise((resolve) => dev.once("exit", resolve));
  dev.kill("SIGTERM");
  await gone;
  rmSync(dir, { recursive: true, force: true });
});

test("npm start is signalbox dev", () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { scripts: Record<string, string> };
  assert.equal(scripts["start"], "./bin/signalbox dev");
});

test("the banner is the README's, but for times and ports", () => {
  const shown = (text: string): string[] =>
    text
      .split("\n")
      .filter((line) => /^ {2}(signalbox|API|Admin|gRPC|Backends) /.test(line))
      .map((line) =>
        line
          .replace(/ready in .*/, "")
          .replace(/:\d{4,5}/g, ":PORT")
          .trimEnd(),
      );
  const block = /\$ npm ci && npm start\n([\s\S]*?)```/.exec(readme)![1]!;
  assert.deepEqual(shown(banner), shown(block));
});

for (const [number, command] of commandsOf("two-minutes").entries()) {
  test(`example ${number + 1} of the two minutes runs: ${command.slice(0, 60)}`, async () => {
    const stdout = await runExample(command);
    if (command.startsWith("curl")) {
      assert.match(stdout, /^HTTP\/1\.1 200/);
      assert.match(stdout, /x-signalbox-backend: sim-/);
      assert.match(stdout, /x-signalbox-cost-usd: \d/);
    } else assert.notEqual(stdout.trim(), "");
  });
}

for (const [number, command] of commandsOf("feedback", experiments).entries()) {
  test(`example ${number + 1} of the experiments runs: ${command.slice(0, 60)}`, async () => {
    const stdout = await runExample(command);
    if (command.startsWith("ID=")) assert.match(stdout, /"object":"feedback".*"experiment":"cheap=/);
    else assert.match(stdout, /cheap/);
  });
}

for (const [number, command] of commandsOf("control", experiments).entries()) {
  test(`example ${number + 1} of controlling experiments runs: ${command.slice(0, 60)}`, async () => {
    const stdout = await runExample(command);
    assert.match(stdout, /replay/.test(command) ? /decisions recorded, \d+ replayed/ : /rollout|chat/);
  });
}

/** What each example of the routing page must show, by how its command begins. */
const SHOWN: readonly (readonly [command: RegExp, shown: RegExp])[] = [
  [/--ttft/, /targets: first token 700ms, each further 60ms\nchosen: sim-/],
  [/--needs vision/, /chosen: sim-(openai|claude)\n[^]*sim-gpu-a .*vision: lacks vision/],
  [/^ID=/, /model chat .*\ntargets: first token 800ms/],
  [/backends drain/, /sim-gpu-a drains/],
  [/explain -m chat$/, /sim-gpu-a .*drain: drained/],
  [/backends undrain/, /sim-gpu-a takes requests again/],
  [/backends ls/, /sim-gpu-a/],
  [/metrics/, /signalbox_backend_in_flight\{backend="sim-gpu-a"\} \d/],
];

for (const [number, command] of commandsOf("routing", routing).entries()) {
  test(`example ${number + 1} of routing runs: ${command.slice(0, 60)}`, async () => {
    const [, shown] = SHOWN.find(([begins]) => begins.test(command))!;
    assert.match(await runExample(command), shown);
  });
}

test("every metric the routing page names is served, and every file it links to exists", async () => {
  const metrics = await (await fetch(`http://127.0.0.1:${ports[1]}/metrics`)).text();
  const served = new Set(Array.from(metrics.matchAll(/^# TYPE (\S+)/gm), ([, name]) => name));
  const named = Array.from(routing.matchAll(/`((?:signalbox|gen_ai)_[a-z_]+)`/g), ([, name]) => name!);
  assert.ok(named.length > 10, "the page names metrics");
  assert.deepEqual(
    named.filter((name) => !served.has(name)),
    [],
  );
  for (const [, path] of routing.matchAll(/\]\((?!http)([^)#]+)\)/g)) assert.ok(existsSync(join(ROOT, "docs", path!)), path);
});

test("what the routing page writes as defaults is what holds without those sections", () => {
  const yaml = /```yaml\n([\s\S]*?)```/.exec(routing)![1]!;
  const sections = /^classes:[^]*?(?=^tenants:)/m;
  assert.match(yaml, sections);
  const resolvedOf = (text: string): unknown => {
    const { config, problems } = loadConfig(text, { file: "routing.yaml", env: { OPENAI_API_KEY: "key" }, dataDir: dir });
    assert.ok(config, JSON.stringify(problems));
    return { classes: config.classes, resilience: config.resilience };
  };
  assert.deepEqual(resolvedOf(yaml), resolvedOf(yaml.replace(sections, "")));
});

for (const [name, text] of [
  ["README", readme],
  ["experiments", experiments],
  ["routing", routing],
] as const) {
  test(`the configuration of the ${name} is valid`, async () => {
    const yaml = /```yaml\n([\s\S]*?)```/.exec(text)![1]!;
    const file = join(dir, "signalbox.yaml");
    writeFileSync(file, yaml);
    const { stdout } = await run(join(ROOT, "bin/signalbox"), ["config", "validate", "--config", file], { cwd: ROOT });
    assert.match(stdout, /valid/i);
  });
}

test("every npm script and file the README names exists", () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { scripts: Record<string, string> };
  for (const [, name] of readme.matchAll(/npm run ([a-z:]+)/g)) assert.ok(scripts[name!], name);
  for (const [, path] of readme.matchAll(/\]\((?!http)([^)#]+)\)/g)) assert.ok(existsSync(join(ROOT, path!)), path);
});
