import type { PriceBook, PriceLine } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { overlay, resolve, type Rates } from "./rates.ts";
import { createWeekClock, isInWindows } from "./schedule.ts";

/** Name of the baseline's lines in an index. */
export const BASELINE = "baseline";

interface CompiledLine {
  readonly source: PriceLine;
  readonly effectiveFromMs: number;
  readonly priced: boolean;
  /** Resolved rates by (schedule, service tier, prompt tier), filled when first asked for. */
  readonly variants: (Rates | undefined)[];
  /** What {@link dearestRates} gives, by schedule, filled when first asked for. */
  readonly ladders: (readonly Rates[])[];
}

/** Lines of one backend, the earliest first. */
export type PriceLines = readonly CompiledLine[];

/** A price book compiled for lookups. Immutable but for its caches; replaced whole when a new book arrives. */
export interface PriceIndex {
  /** Version of the book. */
  readonly version: string;
  readonly onUnknown: "reject" | "allow_unpriced";
  readonly lines: ReadonlyMap<string, PriceLines>;
  readonly schedules: ReadonlyMap<string, (atMs: number) => boolean>;
}

/** Rates in force and how they were matched. */
export interface MatchedRates {
  readonly rates: Rates;
  readonly line: PriceLine;
}

/** Compiles a book. Throws when a schedule names an unknown time zone. */
export function compilePriceBook(book: PriceBook): PriceIndex {
  const schedules = new Map<string, (atMs: number) => boolean>();
  for (const schedule of book.schedules) {
    const minuteAt = createWeekClock(schedule.tz === "" ? "UTC" : schedule.tz);
    schedules.set(schedule.name, (atMs) => isInWindows(schedule.windows, minuteAt(atMs)));
  }
  const lines = new Map<string, CompiledLine[]>();
  const add = (line: PriceLine, backend: string): void => {
    const list = lines.get(backend);
    if (list) list.push(compileLine(line));
    else lines.set(backend, [compileLine(line)]);
  };
  for (const line of book.lines) add(line, line.backend);
  if (book.baseline) add(book.baseline, BASELINE);
  for (const list of lines.values()) list.sort((a, b) => a.effectiveFromMs - b.effectiveFromMs);
  return { version: book.version, onUnknown: book.onUnknown === "allow_unpriced" ? "allow_unpriced" : "reject", lines, schedules };
}

/** An index without prices, for the moment before the first book. */
export const EMPTY_PRICE_INDEX: PriceIndex = { version: "", onUnknown: "reject", lines: new Map(), schedules: new Map() };

function compileLine(line: PriceLine): CompiledLine {
  const priced = line.inputPico >= 0n || line.outputPico >= 0n || line.perHourNano > 0n || line.perRequestNano > 0n;
  return {
    source: line,
    effectiveFromMs: line.effectiveFromMs,
    priced: priced && line.grade !== "unknown",
    variants: [],
    ladders: [],
  };
}

/** Whether `backend` has a price at `atMs`. */
export function isPriced(index: PriceIndex, backend: string, atMs: number): boolean {
  return lineAt(index, backend, atMs)?.priced ?? false;
}

/** Whether a schedule is active; false for unknown names. */
export function isScheduleActive(index: PriceIndex, name: string, atMs: number): boolean {
  return index.schedules.get(name)?.(atMs) ?? false;
}

/**
 * The rates of `backend` at `atMs` for a prompt of `promptTokens` in all: the latest line in force, over it the first
 * active schedule, over that the service tier, over that the highest prompt tier exceeded. Undefined = no price.
 */
export function ratesAt(
  index: PriceIndex,
  backend: string,
  atMs: number,
  promptTokens: number,
  serviceTier: string,
): MatchedRates | undefined {
  const line = lineAt(index, backend, atMs);
  if (line === undefined || !line.priced) return undefined;
  const service = serviceTier === "" ? -1 : line.source.serviceTiers.findIndex((each) => each.tier === serviceTier);
  return { rates: ratesOf(index, line, atMs, promptTokens, service), line: line.source };
}

/** The same of lines found before, without a service tier: for whoever asks again and again. */
export function ratesIn(index: PriceIndex, lines: PriceLines, atMs: number, promptTokens: number): Rates | undefined {
  const line = inForce(lines, atMs);
  return line === undefined || !line.priced ? undefined : ratesOf(index, line, atMs, promptTokens, -1);
}

/** The same where it depends neither on the prompt nor on when it is asked for, from `fromMs` on; undefined = it does, or there is none. */
export function constantRates(index: PriceIndex, lines: PriceLines, fromMs: number): Rates | undefined {
  const line = inForce(lines, fromMs);
  if (line === undefined || line !== lines.at(-1) || line.source.schedules.length > 0 || line.source.tiers.length > 0) return undefined;
  return ratesIn(index, lines, fromMs, 0);
}

function ratesOf(index: PriceIndex, line: CompiledLine, atMs: number, promptTokens: number, service: number): Rates {
  const { tiers } = line.source;
  let tier = -1;
  for (let at = 0; at < tiers.length && promptTokens > tiers[at]!.aboveTokens; at++) tier = at;
  return variantOf(line, scheduleAt(index, line, atMs), service, tier);
}

/**
 * Rates of every prompt tier and service tier at `atMs`, the base ones first, each with the dearest input rate for all input and the
 * dearest output rate for all output: what a reservation takes the most of. Empty without a price.
 */
export function dearestRates(index: PriceIndex, backend: string, atMs: number): readonly Rates[] {
  const line = lineAt(index, backend, atMs);
  if (line === undefined || !line.priced) return NO_RATES;
  const schedule = scheduleAt(index, line, atMs);
  return (line.ladders[schedule + 1] ??= ladderOf(line, schedule));
}

const NO_RATES: readonly Rates[] = [];

function ladderOf(line: CompiledLine, schedule: number): readonly Rates[] {
  const { serviceTiers, tiers } = line.source;
  const services = [-1, ...serviceTiers.keys()];
  return services.flatMap((service) => [-1, ...tiers.keys()].map((tier) => dearestOf(variantOf(line, schedule, service, tier))));
}

function dearestOf(rates: Rates): Rates {
  const input = Math.max(rates.input, rates.cacheRead, rates.cacheWrite, rates.cacheWrite1h, rates.audioInput, rates.imageInput);
  const output = Math.max(rates.output, rates.reasoning, rates.audioOutput);
  return { ...rates, input, output, reasoning: output };
}

/** The first schedule of a line that is active; -1 = none. */
function scheduleAt(index: PriceIndex, line: CompiledLine, atMs: number): number {
  const { schedules } = line.source;
  for (let at = 0; at < schedules.length; at++) if (isScheduleActive(index, schedules[at]!.schedule, atMs)) return at;
  return -1;
}

function lineAt(index: PriceIndex, backend: string, atMs: number): CompiledLine | undefined {
  const lines = index.lines.get(backend);
  return lines === undefined ? undefined : inForce(lines, atMs);
}

function inForce(lines: PriceLines, atMs: number): CompiledLine | undefined {
  for (let at = lines.length - 1; at >= 0; at--) {
    if (lines[at]!.effectiveFromMs <= atMs) return lines[at];
  }
  return undefined;
}

function variantOf(line: CompiledLine, schedule: number, service: number, tier: number): Rates {
  const { schedules, serviceTiers, tiers } = line.source;
  const key = ((schedule + 1) * (serviceTiers.length + 1) + service + 1) * (tiers.length + 1) + tier + 1;
  const known = line.variants[key];
  if (known !== undefined) return known;
  let raw = overlay(line.source, schedules[schedule]?.line);
  raw = overlay(raw, serviceTiers[service]?.line);
  raw = overlay(raw, tiers[tier]?.line);
  return (line.variants[key] = resolve(raw));
}
