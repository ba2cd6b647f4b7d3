import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

const REPOSITORY = join(import.meta.dirname, "..");

/** Stands in for deploy/main.ts: says what it got, then exits with the code it is told, or waits for a signal. */
const MAIN = `
const [verb, code]: string[] = process.argv.slice(2);
if (verb === "wait") {
  process.on("SIGTERM", () => process.exit(7));
  setInterval(() => {}, 1000);
} else process.exitCode = Number(code);
console.log(JSON.stringify(process.argv.slice(2)));
`;

/** Makes the running Node look like one that is too old and cannot become another process. */
const OLD_NODE = `
Object.defineProperty(process, "version", { value: "v18.20.0" });
process.execve = undefined;
`;

describe("the launcher", () => {
  const root = mkdtempSync(join(tmpdir(), "signalbox-launcher-"));
  const launcher = join(root, "bin", "signalbox");
  const pinned = join(root, "node_modules", `node-${process.platform}-${process.arch}`, "bin");

  before(() => {
    cpSync(join(REPOSITORY, "bin"), join(root, "bin"), { recursive: true });
    mkdirSync(join(root, "deploy"));
    writeFileSync(join(root, "package.json"), '{ "type": "module" }');
    writeFileSync(join(root, "deploy", "main.ts"), MAIN);
    writeFileSync(join(root, "old.cjs"), OLD_NODE);
  });
  after(() => rmSync(root, { recursive: true }));

  /** Runs it; `onOutput` gets the child when it has printed something. */
  async function launch(
    args: readonly string[],
    env: Record<string, string> = {},
    onOutput?: (kill: () => void) => void,
  ): Promise<{ code: number | null; out: string; err: string }> {
    const child = spawn(process.execPath, [launcher, ...args], { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    let err = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
      onOutput?.(() => child.kill("SIGTERM"));
    });
    child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
    const [code] = (await once(child, "close")) as [number | null];
    return { code, out, err };
  }

  const asOld = { NODE_OPTIONS: `--require=${join(root, "old.cjs")}` };

  it("becomes a Node that is new enough, passing arguments and exit code", async () => {
    assert.deepEqual(await launch(["exit", "5", "two words", "--flag"]), { code: 5, out: '["exit","5","two words","--flag"]\n', err: "" });
  });

  it("takes signals as the process it became", async () => {
    assert.equal((await launch(["wait"], {}, (kill) => kill())).code, 7);
  });

  it("says what to install on an old Node without the pinned one", async () => {
    const { code, out, err } = await launch(["exit", "0"], asOld);
    assert.deepEqual([code, out], [2, ""]);
    assert.match(err, /^signalbox: needs Node 24\.17 or newer and this is v18\.20\.0: run `npm ci`.*\n$/);
  });

  it("runs the pinned Node as a child on an old one, and forwards signals", async () => {
    mkdirSync(pinned, { recursive: true });
    symlinkSync(process.execPath, join(pinned, "node"));
    assert.equal((await launch(["exit", "5"], asOld)).code, 5);
    assert.equal((await launch(["wait"], asOld, (kill) => kill())).code, 7);
  });
});
