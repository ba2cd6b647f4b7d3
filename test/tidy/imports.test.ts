import assert from "node:assert/strict";
import { test } from "node:test";
import { BUILTIN_OWNERS, CALL_OWNERS, PACKAGE_OWNERS, ROOM_RULES } from "./rules.ts";
import { packageOf, readSources, resolveImport } from "./sources.ts";

const sources = readSources();

function roomOf(path: string): (typeof ROOM_RULES)[number] | undefined {
  return ROOM_RULES.filter(({ room }) => path.startsWith(`${room}/`)).sort((a, b) => b.room.length - a.room.length)[0];
}

const within = (path: string, rooms: readonly string[]): boolean =>
  rooms.some((room) => path === room || path.startsWith(`${room}/`) || path.startsWith(`${room}.`));

test("every source lives in a room with a rule", () => {
  assert.ok(sources.length > 100, `only ${sources.length} sources found`);
  assert.deepEqual(
    sources.filter(({ path }) => !roomOf(path)).map(({ path }) => path),
    [],
  );
});

test("rooms import only the rooms below them", () => {
  const wrong: string[] = [];
  for (const source of sources) {
    const rule = roomOf(source.path);
    for (const specifier of source.imports) {
      const target = resolveImport(source.path, specifier);
      if (!rule || target === undefined || within(target, [rule.room, ...rule.may])) continue;
      if (
        source.isTest &&
        within(target, ["test", ...ROOM_RULES.map(({ room }) => room).filter((room) => room.startsWith("libs/")), "proto/gen"])
      )
        continue;
      wrong.push(`${source.path} imports ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("a service is entered only by its door", () => {
  const wrong: string[] = [];
  for (const source of sources) {
    if (source.isTest || source.path.startsWith("bench/")) continue;
    for (const specifier of source.imports) {
      const target = resolveImport(source.path, specifier) ?? "";
      const service = /^services\/[^/]+/.exec(target)?.[0];
      if (service && !source.path.startsWith(`${service}/`) && target !== `${service}/index.ts`)
        wrong.push(`${source.path} imports ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("nothing but tests imports test/", () => {
  const wrong = sources.filter(
    ({ path, isTest, imports }) =>
      !isTest && !path.startsWith("bench/") && imports.some((specifier) => (resolveImport(path, specifier) ?? "").startsWith("test/")),
  );
  assert.deepEqual(
    wrong.map(({ path }) => path),
    [],
  );
});

test("third-party packages and built-in modules have one owner", () => {
  const wrong: string[] = [];
  for (const { path, imports, isTest } of sources) {
    if (isTest || path.startsWith("bench/")) continue;
    for (const specifier of imports) {
      const name = packageOf(specifier);
      const owners = name === undefined ? BUILTIN_OWNERS[specifier] : PACKAGE_OWNERS[name];
      if (owners && !within(path, owners)) wrong.push(`${path} imports ${specifier}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("time, chance and the environment are arguments", () => {
  const wrong: string[] = [];
  for (const { path, text, isTest } of sources) {
    if (isTest) continue;
    const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
    for (const { call, name, rooms } of CALL_OWNERS) if (call.test(code) && !within(path, rooms)) wrong.push(`${path} calls ${name}`);
  }
  assert.deepEqual(wrong, []);
});

test("no source is dead: everything is reached from an entry or a test", () => {
  const byPath = new Map(sources.map((source) => [source.path, source]));
  const entries = sources.filter(
    ({ path, isTest }) =>
      isTest ||
      /^(deploy\/(main|actions|setup|mesh)|evaluation\/(main|live\/(main|engines-main))|bench\/(run|micro\/.*|.*main|upstream|proxy|.*sink))\.ts$/.test(
        path,
      ),
  );
  const reached = new Set<string>();
  const visit = (path: string): void => {
    const source = byPath.get(path);
    if (!source || reached.has(path)) return;
    reached.add(path);
    for (const specifier of source.imports) {
      const target = resolveImport(path, specifier);
      if (target) visit(target);
    }
  };
  for (const { path } of entries) visit(path);
  assert.deepEqual(
    sources.map(({ path }) => path).filter((path) => !reached.has(path)),
    [],
  );
});

test("files stay small enough to be one idea", () => {
  const long = sources.filter(({ path, text, isTest }) => !isTest && !path.startsWith("test/") && text.split("\n").length > 401);
  assert.deepEqual(
    long.map(({ path, text }) => `${path}: ${text.split("\n").length} lines`),
    [],
  );
});

test("no room is called common, shared, utils, helpers, types or core", () => {
  const wrong = sources.filter(({ path }) =>
    path.split("/").some((part) => /^(common|shared|utils?|helpers?|types|core)(\.ts)?$/.test(part)),
  );
  assert.deepEqual(
    wrong.map(({ path }) => path),
    [],
  );
});
