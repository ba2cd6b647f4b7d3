import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { defaultBackend, defaultConfig, withPorts } from "./build.ts";
import { createConfigSource } from "./config-source.ts";
import { loadConfig } from "./load.ts";
import type { Config } from "./model.ts";
import { formatProblem } from "./problems.ts";
import { diffConfigs, redact } from "./render.ts";
import { configSchema } from "./schema.ts";

const MINIMUM = "version: 1\nbackends: { local: { provider: ollama, model: llama3.2 } }\n";

function config(text: string, env: Readonly<Record<string, string>> = {}): Config {
  const loaded = loadConfig(text, { file: "/etc/signalbox/signalbox.yaml", env });
  assert.deepEqual(loaded.problems?.map(formatProblem), undefined);
  return loaded.config as Config;
}

describe("loading a configuration", () => {
  it("needs a version and one backend, and makes a model over it", () => {
    const loaded = config(MINIMUM);
    assert.deepEqual(loaded.models.get("default")?.candidates, ["local"]);
    assert.equal(loaded.backends.get("local")?.url, "http://127.0.0.1:11434/v1");
    assert.equal(loaded.backends.get("local")?.maxOutputTokens, 8192);
    assert.equal(loaded.models.get("default")?.class, "standard");
    assert.equal(loaded.models.get("default")?.midStream, "error");
  });

  it("is open while only this machine reaches it, and asks for keys as soon as others do", () => {
    assert.equal(config(MINIMUM).auth.mode, "open");
    assert.equal(config(`${MINIMUM}server: { grpc: { listen: 0.0.0.0:4102 } }\n`).auth.mode, "keys");
  });

  it("lets a child's settings replace its parent's whole", () => {
    const text =
      "version: 1\nbackends:\n  a: { provider: vllm, url: http://a/v1, model: m, context: 8k, labels: { zone: x, rack: y } }\n  b: { extends: a, url: http://b/v1, labels: { zone: z } }\n  c: { extends: b, model: n }\n";
    const { backends } = config(text);
    assert.equal(backends.get("c")?.url, "http://b/v1");
    assert.equal(backends.get("c")?.model, "n");
    assert.equal(backends.get("c")?.contextTokens, 8000);
    assert.deepEqual([...(backends.get("c")?.labels ?? [])], [["zone", "z"]]);
  });

  it("keeps money exact", () => {
    const text = `${MINIMUM}prices: { overrides: [{ backend: local, per_million: { input: $0.1, output: $12.345678 }, per_request: $0.000000001 }] }\n`;
    const [override] = config(text).prices.overrides;
    assert.equal(override?.inputPico, 100_000n);
    assert.equal(override?.outputPico, 12_345_678n);
    assert.equal(override?.perRequestNano, 1n);
  });

  it("reads rps as rpm / 60", () => {
    const text = `${MINIMUM}tenants: { acme: { limits: { rps: 50 } } }\n`;
    assert.equal(config(text).tenants.get("acme")?.limits.rpm, 3000);
  });

  it("puts an experiment on an alias onto the alias's model", () => {
    const text = `${MINIMUM}models: { chat: { candidates: [local], aliases: [gpt] } }\nexperiments: { e: { model: gpt, arms: { control: 33.3%, b: 66.7% } } }\n`;
    const experiment = config(text).experiments.get("e");
    assert.deepEqual([experiment?.model, experiment?.layer], ["chat", "chat"]);
  });

  it("resolves price files against the file's folder", () => {
    assert.deepEqual(config(`${MINIMUM}prices: { files: [prices.json, /abs.json] }\n`).prices.files, [
      "/etc/signalbox/prices.json",
      "/abs.json",
    ]);
  });

  it("gives equal texts equal versions and others others", () => {
    assert.equal(config(MINIMUM).configVersion, config(MINIMUM).configVersion);
    assert.notEqual(config(MINIMUM).configVersion, config(`${MINIMUM}# changed\n`).configVersion);
  });

  it("asks the rules' own compiler and points at the expression", () => {
    const text = `${MINIMUM}rules: [{ name: r, when: "1 +" }]\n`;
    const { problems = [] } = loadConfig(text, { file: "f", env: {}, checkRule: () => "is no expression" });
    assert.deepEqual(problems.map(formatProblem), ["f:3:26: rules[0].when: is no expression"]);
  });

  it("is frozen", () => {
    const loaded = config(MINIMUM);
    assert.throws(() => Object.assign(loaded.server.api.listen, { port: 1 }), TypeError);
  });

  it("takes a section whose lines are all commented out as absent", () => {
    assert.equal(config(`${MINIMUM}tenants:\n  # acme: {}\n`).tenants.size, 0);
  });

  it("reads text that references brought as numbers and flags", () => {
    const text = `${MINIMUM}telemetry: { capture_content: "\${env:CAPTURE}" }\nclasses: { batch: { queue: "\${env:QUEUE}" } }\n`;
    const loaded = config(text, { CAPTURE: "true", QUEUE: "12" });
    assert.deepEqual([loaded.telemetry.captureContent, loaded.classes.batch.queueMax], [true, 12]);
  });
});

describe("a configuration in force", () => {
  it("is swapped whole before its listeners hear of it, and one that throws does not keep it from the others", () => {
    const source = createConfigSource(defaultConfig());
    const next = config(MINIMUM);
    const heard: string[] = [];
    source.onChange(() => {
      throw new Error("broken listener");
    });
    const stop = source.onChange((current) => heard.push(`${current === source.current}`));
    assert.throws(() => source.swap(next), AggregateError);
    stop();
    assert.throws(() => source.swap(defaultConfig()), AggregateError);
    assert.deepEqual(heard, ["true"]);
  });

  it("shows no secret, and its differences name where a secret comes from", () => {
    const text = (variable: string): string => `version: 1\nbackends: { a: { provider: openai, model: m, key: "\${env:${variable}}" } }\n`;
    const before = config(text("ONE"), { ONE: "canary" });
    before.backends.get("a")?.key?.reveal();
    assert.doesNotMatch(JSON.stringify(redact(before)), /canary/);
    assert.deepEqual(diffConfigs(before, config(text("TWO"))), [
      { path: "backends.a.key", kind: "changed", before: "[redacted env:ONE]", after: "[redacted env:TWO]" },
    ]);
  });

  it("takes the ports of the command line", () => {
    const moved = withPorts(config(MINIMUM), { port: 0, meshPort: 5 });
    assert.deepEqual([moved.server.api.listen.port, moved.server.admin.listen.port, moved.mesh.listen.port], [0, 4101, 5]);
  });
});

describe("building blocks", () => {
  it("give a backend its provider's facts", () => {
    const backend = defaultBackend({ name: "a", provider: "vllm", model: "m", contextTokens: 10 });
    assert.equal(backend.contextTokens, 10);
    assert.ok(backend.capabilities.has("streaming") && backend.capabilities.has("prefill"));
    const embedder = config("version: 1\nbackends: { e: { provider: vllm, model: m, capabilities: [embeddings] } }\n").backends.get("e")!;
    assert.deepEqual([...embedder.capabilities], ["embeddings"], "an engine of a model that only embeds answers nothing");
  });
});

describe("the JSON schema", () => {
  it("refuses unknown keys and knows every section", () => {
    const schema = configSchema() as { additionalProperties: unknown; properties: Record<string, unknown> };
    assert.equal(schema.additionalProperties, false);
    assert.deepEqual(Object.keys(schema.properties).toSorted(), [
      "auth",
      "backends",
      "classes",
      "experiments",
      "ledger",
      "mesh",
      "models",
      "prices",
      "resilience",
      "rules",
      "schedules",
      "server",
      "telemetry",
      "tenants",
      "version",
    ]);
  });
});
