import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { run } from "node:test";
import { spec } from "node:test/reporters";

/** A part of `npm test`: files that may run side by side. */
interface Group {
  readonly name: string;
  readonly files: readonly string[];
  /** Files at once. Groups that start whole meshes run alone: the machine may have two cores. */
  readonly concurrency: number;
}

const GROUPS: readonly Group[] = [
  {
    name: "unit and contract",
    files: [
      "libs/**/*.test.ts",
      "services/**/*.test.ts",
      "simulator/**/*.test.ts",
      "cli/**/*.test.ts",
      "bench/**/*.test.ts",
      "deploy/**/*.test.ts",
    ],
    concurrency: 2,
  },
  { name: "tidy and deploy", files: ["test/tidy/*.test.ts", "test/deploy/*.test.ts", "test/support/*.test.ts"], concurrency: 2 },
  { name: "conformance", files: ["test/conformance/*.test.ts"], concurrency: 1 },
  { name: "integration", files: ["test/integration/*.test.ts", "test/newcomer/*.test.ts"], concurrency: 1 },
  { name: "simulation", files: ["test/simulation/*.test.ts"], concurrency: 2 },
  { name: "faults", files: ["test/faults/*.test.ts"], concurrency: 1 },
  { name: "mesh", files: ["test/mesh/*.test.ts"], concurrency: 1 },
];

/** A file that hangs is a failure, not a wait. One that is slow is none: the longest takes a minute here, and machines are slower. */
const FILE_TIMEOUT_MS = 900_000;

interface Totals {
  passed: number;
  failed: number;
  readonly skipped: string[];
}

async function runGroup(group: Group, totals: Totals): Promise<void> {
  const files = group.files.flatMap((pattern) => globSync(pattern)).toSorted();
  if (files.length === 0) return;
  process.stdout.write(`\n== ${group.name}: ${files.length} files\n`);
  const started = process.hrtime.bigint();
  const stream = run({ files, concurrency: group.concurrency, timeout: FILE_TIMEOUT_MS });
  stream.on("test:pass", (test) => {
    if (test.details.type === "suite") return;
    if (test.skip === undefined || test.skip === false) totals.passed++;
    else totals.skipped.push(`${test.name}: ${String(test.skip)}`);
  });
  stream.on("test:fail", () => void totals.failed++);
  const shown = stream.compose(spec);
  for await (const chunk of shown) process.stdout.write(chunk as Buffer);
  process.stdout.write(`== ${group.name}: ${Number((process.hrtime.bigint() - started) / 1_000_000n) / 1000} s\n`);
}

function runTool(name: string, command: string, args: readonly string[], cwd?: string): boolean {
  process.stdout.write(`== ${name}\n`);
  const { status } = spawnSync(command, args, { stdio: "inherit", ...(cwd === undefined ? {} : { cwd }) });
  return status === 0;
}

const only = process.argv.slice(2);
const totals: Totals = { passed: 0, failed: 0, skipped: [] };
if (only.length === 0) {
  if (!runTool("types", "tsc", ["-p", "."])) totals.failed++;
  if (!runTool("lint", "oxlint", ["--type-aware", "--deny-warnings"])) totals.failed++;
  if (!runTool("format", "oxfmt", ["--check", "."])) totals.failed++;
  if (!runTool("proto lint", "buf", ["lint"], "proto")) totals.failed++;
}
for (const group of GROUPS) if (only.length === 0 || only.some((word) => group.name.includes(word))) await runGroup(group, totals);
for (const skipped of totals.skipped) process.stdout.write(`SKIP ${skipped}\n`);
process.stdout.write(`\n${totals.passed} passed, ${totals.failed} failed, ${totals.skipped.length} skipped\n`);
// A suite that did not run has not passed: in CI the servers are there.
const skipFails = process.env["CI"] === "true" && totals.skipped.length > 0;
if (skipFails) process.stdout.write("In CI nothing may be skipped.\n");
process.exit(totals.failed > 0 || skipFails ? 1 : 0);
