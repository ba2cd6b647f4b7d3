import { createHash } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { PriceBookSchema, ScheduleSchema, type PriceBook, type PriceLine, type Schedule } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { BackendConfig, Config, PriceOverride } from "#libs/config/model.ts";
import { BASELINE, blankLine } from "#libs/money/index.ts";
import { fromCatalog, type CatalogMatch } from "./catalog.ts";
import { fromPriceFile, type PriceFile } from "./litellm.ts";
import { lineOf, scheduledPrice, serviceTier, tier } from "./parts.ts";

/** Hex digits of the content hash that name a version. */
const VERSION_DIGITS = 16;

/** A book and what a person should know about it. */
export interface BuiltBook {
  readonly book: PriceBook;
  /** Backends whose price is missing or uncertain, one line each with the remedy. */
  readonly warnings: readonly string[];
}

/**
 * All prices in force under a configuration. Per backend the first of these that has one: `prices.overrides`, the
 * backend's own `price`, price files, the built-in catalogue. Equal inputs give an equal version.
 */
export function buildPriceBook(config: Config, files: readonly PriceFile[]): BuiltBook {
  const warnings: string[] = [];
  const schedules = new Map<string, Schedule>();
  for (const { name, tz, windows } of config.schedules.values()) {
    schedules.set(name, create(ScheduleSchema, { name, tz, windows: windows.flatMap(({ from, to }) => [from, to]) }));
  }
  const lines: PriceLine[] = [];
  for (const backend of config.backends.values()) {
    const base = baseLines(backend, files, schedules, warnings);
    lines.push(...withOverrides(backend.name, base, overridesOf(config, backend.name)));
  }
  for (const line of lines) {
    if (line.grade === "unknown")
      warnings.push(`backend ${line.backend} has no price: give it \`price\`, or an entry in \`prices.overrides\``);
  }
  const book = create(PriceBookSchema, {
    lines,
    schedules: [...schedules.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    onUnknown: config.prices.onUnknown,
  });
  const baseline = baselineLine(config, files, lines, warnings);
  if (baseline) book.baseline = baseline;
  book.version = createHash("sha256").update(toBinary(PriceBookSchema, book)).digest("hex").slice(0, VERSION_DIGITS);
  return { book, warnings };
}

function overridesOf(config: Config, backend: string): readonly PriceOverride[] {
  return config.prices.overrides
    .filter((override) => override.backend === backend)
    .toSorted((a, b) => a.effectiveFromMs - b.effectiveFromMs);
}

function baseLines(
  backend: BackendConfig,
  files: readonly PriceFile[],
  schedules: Map<string, Schedule>,
  warnings: string[],
): readonly PriceLine[] {
  if (backend.price) return [lineOf(backend.name, backend.price, `backends.${backend.name}.price`)];
  const match = findMatch(backend.name, backend.provider, backend.url, backend.model, files);
  if (match === undefined) return [Object.assign(blankLine(backend.name), { grade: "unknown", source: "no price found" })];
  if (match.grade === "fuzzy") {
    warnings.push(
      `price of backend ${backend.name} is a guess from ${match.lines[0]!.source}: confirm it with \`price\` or \`prices.overrides\``,
    );
  }
  for (const schedule of match.schedules) schedules.set(schedule.name, schedule);
  return match.lines;
}

function findMatch(backend: string, provider: string, url: string, model: string, files: readonly PriceFile[]): CatalogMatch | undefined {
  for (const file of files) {
    const match = fromPriceFile(file, backend, provider, model);
    if (match) return match;
  }
  return fromCatalog(backend, provider, url, model);
}

/** An override without a schedule is a whole line from its moment on; one with a schedule lies over every line from its moment on. */
function withOverrides(backend: string, base: readonly PriceLine[], overrides: readonly PriceOverride[]): readonly PriceLine[] {
  let lines = [...base];
  for (const override of overrides.filter((each) => each.schedule === undefined)) {
    const line = overrideLine(backend, override);
    lines = lines.filter((each) => each.effectiveFromMs < line.effectiveFromMs);
    lines.push(line);
  }
  for (const override of overrides) {
    if (override.schedule === undefined) continue;
    const over = scheduledPrice(override.schedule, overrideLine("", override));
    const inForce = lines.findLast((line) => line.effectiveFromMs <= override.effectiveFromMs);
    if (inForce && inForce.effectiveFromMs < override.effectiveFromMs) {
      const copy = { ...inForce, effectiveFromMs: override.effectiveFromMs, schedules: [...inForce.schedules] };
      lines.splice(lines.indexOf(inForce) + 1, 0, copy);
    }
    for (const line of lines) if (line.effectiveFromMs >= override.effectiveFromMs) line.schedules.push(over);
  }
  return lines;
}

function overrideLine(backend: string, override: PriceOverride): PriceLine {
  const line = lineOf(backend, override, `prices.overrides for ${override.backend}`);
  line.effectiveFromMs = override.effectiveFromMs;
  line.tiers = override.tiers
    .map(({ aboveTokens, price }) => tier(aboveTokens, lineOf("", price, "")))
    .sort((a, b) => a.aboveTokens - b.aboveTokens);
  line.serviceTiers = [...override.serviceTiers].map(([name, price]) => serviceTier(name, lineOf("", price, "")));
  return line;
}

function baselineLine(config: Config, files: readonly PriceFile[], lines: readonly PriceLine[], warnings: string[]): PriceLine | undefined {
  const name = config.prices.baseline;
  if (name === undefined) return undefined;
  const own = lines.findLast((line) => line.backend === name);
  if (own) return { ...own, backend: BASELINE };
  const slash = name.indexOf("/");
  const match = slash > 0 ? findMatch(BASELINE, name.slice(0, slash), "", name.slice(slash + 1), files) : undefined;
  const line = match?.lines.at(-1);
  if (line === undefined) warnings.push(`prices.baseline ${name} has no price: savings are not shown`);
  return line && { ...line, effectiveFromMs: 0 };
}
