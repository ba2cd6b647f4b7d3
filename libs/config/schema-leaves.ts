import { z } from "zod";
import {
  parseBytes,
  parseCount,
  parseDurationMs,
  parseHttpUrl,
  parseInstantMs,
  parseListen,
  parseMargin,
  parseMoneyNano,
  parsePercent,
  parsePerMillionPico,
  type Parsed,
} from "./units.ts";

/** A setting written as text or a number and read by `parse`. */
function leaf<T>(what: string, parse: (raw: string | number) => Parsed<T>) {
  return z
    .union([z.string(), z.number()], { error: `must be ${what}` })
    .transform((raw, context): T => {
      const parsed = parse(raw);
      if ("value" in parsed) return parsed.value;
      context.issues.push({ code: "custom", message: parsed.error, input: raw });
      return z.NEVER;
    })
    .meta({ description: what });
}

function atLeast(min: number, parse: (raw: string | number) => Parsed<number>, message: string) {
  return (raw: string | number): Parsed<number> => {
    const parsed = parse(raw);
    return "value" in parsed && parsed.value < min ? { error: message } : parsed;
  };
}

export const duration = leaf("a duration such as 600ms, 5s or 1h", parseDurationMs);
/** A duration that must not be 0: a time-out of nothing refuses everything. */
export const timeout = leaf("a duration such as 600ms, 5s or 1h", atLeast(1, parseDurationMs, "is too short, write at least 1ms"));
export const size = leaf("a size such as 512KiB, 20MiB or 1GiB", atLeast(1, parseBytes, "is too small, write at least 1B"));
export const share = leaf("a percentage such as 5%", parsePercent);
export const margin = leaf("a margin such as +10% or +0.5pt", parseMargin);
export const count = leaf("a count such as 4000, 128k or 2M", atLeast(1, parseCount, "is 0, write at least 1"));
export const countOrZero = leaf("a count such as 0, 4000, 128k or 2M", parseCount);
export const money = leaf("an amount such as $20 or $0.25", parseMoneyNano);
export const perMillion = leaf("dollars per million tokens such as $0.25", parsePerMillionPico);
export const listen = leaf("an address such as 127.0.0.1:4100", parseListen);
export const instant = leaf("a date such as 2026-11-01 or 2026-11-01T09:00:00Z", parseInstantMs);

/** A number that may have a fraction, at least `min`. */
export function decimal(what: string, min: number) {
  return leaf(what, (raw) => {
    const value = typeof raw === "number" ? raw : raw.trim() === "" ? Number.NaN : Number(raw);
    return value >= min && Number.isFinite(value) ? { value } : { error: `must be ${what}` };
  });
}

/** Longest text of a setting: names, URLs, paths and expressions fit. */
const TEXT_MAX = 4_096;

export const text = z
  .string({ error: "must be text: put it in quotes" })
  .refine((value) => value.trim() !== "", { error: "is empty, give it a value or remove the line" })
  .refine((value) => value.length <= TEXT_MAX, { error: `is longer than ${TEXT_MAX} characters` });

export const flag = z
  .union([z.boolean(), z.enum(["true", "false"])], { error: "must be true or false" })
  .transform((value) => value === true || value === "true");

export const httpUrl = text.transform((raw, context): string => {
  const parsed = parseHttpUrl(raw);
  if ("value" in parsed) return parsed.value;
  context.issues.push({ code: "custom", message: parsed.error, input: raw });
  return z.NEVER;
});

/** Names of things: they become metric labels, header values and command-line arguments. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$/;
export const name = z.string().regex(NAME, { error: "is not a name, use letters, digits and . _ : / - (at most 128)" });

/** A mapping of names to things. */
export function named<T extends z.ZodType>(of: T) {
  return z.record(name, of);
}
