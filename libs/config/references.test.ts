import assert from "node:assert/strict";
import { inspect } from "node:util";
import { describe, it } from "node:test";
import { SignalboxError } from "#libs/errors/index.ts";
import { resolveReferences, secretOf, secretText, type ReferenceSources } from "./references.ts";

const FILES: Readonly<Record<string, string>> = { "/run/region": "eu\n", "/run/key": "sk-file\n" };

function sources(env: ReferenceSources["env"] = {}): ReferenceSources {
  return {
    env,
    readFile: (path) => {
      const text = FILES[path];
      if (text === undefined) throw new Error("ENOENT");
      return text;
    },
  };
}

function resolved(text: string, env: ReferenceSources["env"] = {}): { value: unknown; problems: readonly string[] } {
  const problems: string[] = [];
  const value = resolveReferences({ labels: { region: text } }, [], sources(env), (path, message) =>
    problems.push(`${path.join(".")}: ${message}`),
  );
  return { value: (value as { labels: { region: unknown } }).labels.region, problems };
}

describe("references in the configuration", () => {
  it("stand for a variable, a default or a file, anywhere in a text", () => {
    assert.equal(resolved("http://${env:HOST}:${env:PORT:-80}/", { HOST: "gpu" }).value, "http://gpu:80/");
    assert.equal(resolved("${file:/run/region}").value, "eu");
  });

  it("take the default for an empty variable, as a shell does", () => {
    assert.equal(resolved("${env:HOST:-gpu}", { HOST: "" }).value, "gpu");
    assert.equal(resolved("${env:HOST}", { HOST: "" }).value, "");
  });

  it("are written literally with two dollar signs", () => {
    assert.equal(resolved("$${env:HOST}").value, "${env:HOST}");
  });

  it("are not looked for in what they stand for", () => {
    assert.equal(resolved("${env:A}", { A: "${env:B}" }).value, "${env:B}");
  });

  it("say what is missing", () => {
    assert.match(resolved("${env:HOST}").problems[0] ?? "", /^labels\.region: needs the environment variable HOST/);
    assert.match(resolved("${file:/nowhere}").problems[0] ?? "", /cannot be read/);
  });

  it("leave secrets unread", () => {
    const tree = { backends: { a: { key: "${env:NOT_SET}" } }, ledger: { store: "${env:NOT_SET}" } };
    const problems: string[] = [];
    assert.deepEqual(
      resolveReferences(tree, [], sources(), (_, message) => problems.push(message)),
      tree,
    );
    assert.deepEqual(problems, []);
  });
});

describe("secrets", () => {
  it("are read when they are used, without the line break of their file", () => {
    assert.equal(secretOf("${file:/run/key}", sources()).reveal(), "sk-file");
    assert.equal(secretOf("${env:KEY:-none}", sources()).reveal(), "none");
  });

  it("name their source when they are not there", () => {
    const secret = secretOf("${env:KEY}", sources());
    assert.throws(
      () => secret.reveal(),
      (error) => error instanceof SignalboxError && error.message.includes("variable KEY"),
    );
  });

  it("show nothing in any form", () => {
    const secret = secretOf("${env:KEY}", sources({ KEY: "canary" }));
    secret.reveal();
    assert.deepEqual(
      [String(secret), JSON.stringify({ secret }), inspect(secret)],
      ["[redacted]", '{"secret":"[redacted]"}', "[redacted]"],
    );
    assert.equal(secret.source, "env:KEY");
  });

  it("are literal when they are more than one reference", () => {
    assert.equal(secretText("Bearer ${env:KEY}").kind, "literal");
  });
});
