import assert from "node:assert/strict";
import { test } from "node:test";
import { parseStat, sumTree, treeUsage } from "./process-tree.ts";

test("a stat line is read whatever the command is called", () => {
  const line = "42 (a b) S 1) S 7 1 1 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 11 0 12345 1000000 2000 184467";
  assert.deepEqual(parseStat(line), { pid: 42, parent: 7, cpuMs: 2000, rssBytes: 2000 * 4096 });
  assert.equal(parseStat("nonsense"), undefined);
});

test("a tree is the roots and their descendants, each once", () => {
  const stat = (pid: number, parent: number): { pid: number; parent: number; cpuMs: number; rssBytes: number } => ({
    pid,
    parent,
    cpuMs: pid,
    rssBytes: 1,
  });
  const stats = [stat(30, 20), stat(20, 10), stat(10, 1), stat(11, 1), stat(12, 11)];
  assert.deepEqual(sumTree([10, 20], stats), { cpuMs: 60, rssBytes: 3, processes: 3 });
  assert.deepEqual(sumTree([99], stats), { cpuMs: 0, rssBytes: 0, processes: 0 });
});

test("this process has memory", { skip: process.platform === "linux" ? false : "needs /proc" }, () => {
  assert.ok(treeUsage([process.pid]).rssBytes > 10_000_000);
});
