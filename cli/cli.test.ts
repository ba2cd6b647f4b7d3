import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { runWith } from "./testing.ts";

describe("the command line alone", () => {
  it("answers 3 and one line when nothing listens", async () => {
    const { code, err } = await runWith({ SIGNALBOX_ADMIN: "127.0.0.1:1" }, ["backends", "ls"]);
    assert.equal(code, 3);
    assert.match(err, /^signalbox: nothing answers at http:\/\/127\.0\.0\.1:1 .*`signalbox dev`.*\n$/);
  });

  for (const argv of [
    ["nonsense"],
    ["keys"],
    ["keys", "create"],
    ["explain"],
    ["explain", "r1", "--last"],
    ["bench", "--rps", "0"],
    ["serve", "--role", "ingres"],
    ["costs", "--since", "yesterday"],
    ["backends", "ls", "-o", "yaml"],
  ]) {
    it(`answers 2 to \`${argv.join(" ")}\``, async () => {
      const { code, err } = await runWith({}, argv);
      assert.equal(code, 2);
      assert.notEqual(err, "");
    });
  }

  for (const argv of [["top"], ["tap"]]) {
    it(`says in one line that \`${argv.join(" ")}\` is not built`, async () => {
      const { code, err } = await runWith({}, argv);
      assert.equal(code, 2);
      assert.match(err, /^signalbox: `signalbox [a-z ]+` is not built yet\n$/);
    });
  }

  it("gives help on stdout and 0", async () => {
    const { code, out } = await runWith({}, ["--help"]);
    assert.equal(code, 0);
    assert.match(out, /ledger/);
    assert.doesNotMatch(out, /^ +tap/m);
  });

  it("hands flags and environment to what it starts, and its exit code back", async () => {
    const { code, started } = await runWith({ SIGNALBOX_CONFIG: "/tmp/a.yaml", SIGNALBOX_LOG_LEVEL: "debug" }, [
      "serve",
      "--role",
      "ingress",
      "--role",
      "provider-adapters:anthropic",
      "--admin-port",
      "0",
      "--data-dir",
      "/tmp/d",
    ]);
    assert.equal(code, 7);
    assert.partialDeepStrictEqual(started, {
      configFile: "/tmp/a.yaml",
      logLevel: "debug",
      roles: ["ingress", "provider-adapters:anthropic"],
      adminPort: 0,
      port: undefined,
      dataDir: "/tmp/d",
    });
  });

  it("renders checks and answers 1 when one fails", async () => {
    const { code, out } = await runWith({}, ["check"]);
    assert.equal(code, 1);
    assert.match(out, /fail {3}nats {4}nothing answers: start nats-server -js/);
  });

  it("validates a file, pointing at each mistake, and answers 2", async () => {
    const folder = mkdtempSync(join(tmpdir(), "signalbox-validate-"));
    const file = join(folder, "bad.yaml");
    writeFileSync(file, "version: 1\nbackends: { a: { provider: vlm, model: m } }\n");
    const { code, err } = await runWith({}, ["config", "validate", file]);
    rmSync(folder, { recursive: true });
    assert.equal(code, 2);
    assert.match(err, /bad\.yaml:2:28: backends\.a\.provider: .*did you mean "vllm"/);
  });

  it("fault: rules that do not parse or read what does not exist were valid until the server refused them, or never applied", async () => {
    const folder = mkdtempSync(join(tmpdir(), "signalbox-validate-"));
    const file = join(folder, "rules.yaml");
    const rules = `rules:\n  - { name: x, when: 'tru e (', class: batch }\n  - { name: y, when: 'tenat == "acme"', class: batch }\n`;
    writeFileSync(file, `version: 1\nbackends: { a: { provider: vllm, model: m } }\n${rules}`);
    const { code, err } = await runWith({}, ["config", "validate", file]);
    rmSync(folder, { recursive: true });
    assert.equal(code, 2);
    assert.match(err, /rules\.yaml:4:22: rules\[0\]\.when: /);
    assert.match(err, /rules\.yaml:5:22: rules\[1\]\.when: there is no "tenat", did you mean "tenant"/);
  });

  it("validates a file with a setting that has no effect, says so, and answers 0", async () => {
    const folder = mkdtempSync(join(tmpdir(), "signalbox-validate-"));
    const file = join(folder, "night.yaml");
    const night = 'schedules: { night: { tz: UTC, windows: ["22:00-06:00"] } }\nclasses: { batch: { defer_to: night } }\n';
    writeFileSync(file, `version: 1\nbackends: { a: { provider: vllm, model: m } }\n${night}`);
    const { code, out, err } = await runWith({}, ["config", "validate", file]);
    rmSync(folder, { recursive: true });
    assert.equal(code, 0);
    assert.match(out, /is valid/);
    assert.match(err, /^warning: .*night\.yaml:4:21: classes\.batch\.defer_to: has no effect yet/);
  });

  it("prints colours only on a terminal that wants them", async () => {
    assert.ok((await runWith({}, ["check"], true)).out.includes("\u001b["));
    assert.ok(!(await runWith({ NO_COLOR: "1" }, ["check"], true)).out.includes("\u001b["));
  });
});
