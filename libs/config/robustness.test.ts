import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import fc from "fast-check";
import { loadConfig, type LoadResult } from "./load.ts";

const EXAMPLE = readFileSync(join(import.meta.dirname, "..", "..", "deploy", "config", "mesh.yaml"), "utf8");

function load(text: string): LoadResult {
  return loadConfig(text, {
    file: "x.yaml",
    env: {},
    readFile: () => {
      throw new Error("ENOENT");
    },
  });
}

/** Either a configuration or problems that each say where: never an exception. */
function assertSane(text: string): void {
  const loaded = load(text);
  if (loaded.config) return;
  assert.ok(loaded.problems.length > 0);
  for (const problem of loaded.problems) {
    assert.ok(problem.line >= 1 && problem.column >= 1, JSON.stringify(problem));
    assert.ok(problem.path !== "" && problem.message !== "", JSON.stringify(problem));
    assert.ok(!problem.message.includes("\n"), JSON.stringify(problem));
  }
}

const LINES = EXAMPLE.split("\n");
const FRAGMENTS = [
  "- ",
  ": ",
  "{",
  "}",
  "[",
  "]",
  "&a ",
  "*a",
  "|\n",
  "'",
  '"',
  "<<: *a",
  "${env:",
  "!!binary ",
  "? ",
  "null",
  "\t",
  "\u0000",
  "%YAML 1.1\n---\n",
  "__proto__: 1",
  "%",
  "-1",
  "1e999",
  "...",
];

/** Changes that typing, merging and fuzzing make to a file. */
const mutation = fc.oneof(
  fc.record({ kind: fc.constant("delete" as const), at: fc.nat(), length: fc.nat(80) }),
  fc.record({
    kind: fc.constant("insert" as const),
    at: fc.nat(),
    text: fc.oneof(fc.constantFrom(...FRAGMENTS), fc.string({ maxLength: 12 })),
  }),
  fc.record({ kind: fc.constant("swap" as const), first: fc.nat(LINES.length - 1), second: fc.nat(LINES.length - 1) }),
  fc.record({ kind: fc.constant("indent" as const), line: fc.nat(LINES.length - 1), by: fc.integer({ min: -4, max: 8 }) }),
);

type Mutation = typeof mutation extends fc.Arbitrary<infer T> ? T : never;

function mutate(text: string, change: Mutation): string {
  if (change.kind === "delete") {
    const at = change.at % (text.length + 1);
    return text.slice(0, at) + text.slice(at + change.length);
  }
  if (change.kind === "insert") {
    const at = change.at % (text.length + 1);
    return text.slice(0, at) + change.text + text.slice(at);
  }
  const lines = text.split("\n");
  if (change.kind === "swap") {
    const first = change.first % lines.length;
    const second = change.second % lines.length;
    [lines[first], lines[second]] = [lines[second] ?? "", lines[first] ?? ""];
  } else {
    const line = change.line % lines.length;
    const old = lines[line] ?? "";
    lines[line] = change.by < 0 ? old.slice(-change.by) : " ".repeat(change.by) + old;
  }
  return lines.join("\n");
}

/** Files of which most are wrong; SIGNALBOX_FUZZ_RUNS raises it for a nightly run. */
const RUNS = Number(process.env["SIGNALBOX_FUZZ_RUNS"] ?? 100);

describe("a configuration that somebody spoilt", () => {
  it("loads or is refused with places, whatever was changed", () => {
    fc.assert(
      fc.property(fc.array(mutation, { minLength: 1, maxLength: 6 }), (changes) => {
        assertSane(changes.reduce(mutate, EXAMPLE));
      }),
      { numRuns: RUNS },
    );
  });

  it("loads or is refused when it is no configuration at all", () => {
    fc.assert(fc.property(fc.json(), assertSane), { numRuns: RUNS });
    fc.assert(fc.property(fc.string({ maxLength: 200 }), assertSane), { numRuns: RUNS });
  });
});

/** Texts made to hurt, with a word of why each is refused. */
const BOMBS: Readonly<Record<string, readonly [text: string, why: RegExp]>> = {
  "a billion laughs": [
    `a0: &a0 [x]\n${Array.from({ length: 30 }, (_, level) => `a${level + 1}: &a${level + 1} [*a${level}, *a${level}, *a${level}, *a${level}]\n`).join("")}version: 1\n`,
    /aliases/,
  ],
  "an alias of itself": ["version: 1\nbackends: &a { x: *a }\n", /anchor|deep/],
  "10 MB of text": ["a".repeat(10 * 1024 * 1024), /larger than/],
  "10 MB of keys": ["key: value\n".repeat(1_000_000), /larger than/],
  "brackets without end": ["[".repeat(500_000), /nested/],
  "braces without end": ["{a: ".repeat(100_000), /nested/],
  "dashes without end": ["- ".repeat(60_000), /nests/],
  "ever deeper indentation": [Array.from({ length: 900 }, (_, depth) => `${" ".repeat(depth)}a:\n`).join(""), /nested|deep/],
  "a list of very many": [`version: 1\nrules: [${"a,".repeat(100_000)}]`, /entries/],
};

describe("a configuration made to hurt", () => {
  for (const [name, [text, why]] of Object.entries(BOMBS)) {
    it(`${name} is refused`, (context) => {
      const began = performance.now();
      const { problems = [] } = load(text);
      context.diagnostic(`refused in ${(performance.now() - began).toFixed(1)} ms`);
      assert.ok(
        problems.some((problem) => why.test(problem.message)),
        JSON.stringify(problems.slice(0, 3)),
      );
      assertSane(text);
    });
  }

  it("reports a bounded number of problems", () => {
    const text = `version: 1\nbackends: { a: { provider: vllm, model: m } }\nmodels: { chat: { candidates: [${Array.from({ length: 20_000 }, (_, index) => `b${index}`).join(",")}] } }\n`;
    assert.equal(load(text).problems?.length, 100);
  });

  it("does not reach the prototype of anything", () => {
    const loaded = load(
      "version: 1\n__proto__: { polluted: 1 }\nbackends: { a: { provider: vllm, model: m }, constructor: { provider: vllm, model: m } }\n",
    );
    assert.equal(({} as Record<string, unknown>)["polluted"], undefined);
    assert.match(loaded.problems?.[0]?.message ?? "", /not a name/);
  });
});
