import type { ListenAddress } from "./model.ts";

/** A parsed value, or what is wrong with the text and what to write instead. */
export type Parsed<T> = { readonly value: T } | { readonly error: string };

/** Timers hold 31 bits of milliseconds, a little under 25 days. */
const DURATION_MAX_MS = 24 * 24 * 3_600_000;

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 };
const DURATION_TEXT = /^(?:\d{1,9}(?:\.\d{1,3})?(?:ms|s|min|m|h|d))+$/;
const DURATION_PART = /(\d+(?:\.\d+)?)(ms|s|min|m|h|d)/g;

/** `600ms`, `5s`, `1h30m` in milliseconds. The unit is required, except for 0. */
export function parseDurationMs(raw: string | number): Parsed<number> {
  if (raw === 0 || raw === "0") return { value: 0 };
  const text = String(raw).trim();
  if (text.length > 40 || !DURATION_TEXT.test(text))
    return { error: "is not a duration, write a number with a unit such as 600ms, 5s or 1h" };
  let total = 0;
  for (const [, amount, unit] of text.matchAll(DURATION_PART)) total += Number(amount) * (DURATION_UNITS[unit ?? ""] ?? 0);
  if (total > DURATION_MAX_MS) return { error: "is longer than 24 days, write a shorter duration" };
  return { value: total };
}

const SIZE_UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};

/** `20MiB`, `1GiB`, `64kB` in bytes. The unit is required, except for 0. */
export function parseBytes(raw: string | number): Parsed<number> {
  if (raw === 0 || raw === "0") return { value: 0 };
  const match = /^(\d{1,12}(?:\.\d{1,3})?) ?([kKMGT]?i?B)$/.exec(String(raw).trim());
  const unit = SIZE_UNITS[match?.[2] ?? ""];
  if (!match || unit === undefined) return { error: "is not a size, write a number with a unit such as 512KiB, 20MiB or 1GiB" };
  return { value: Math.round(Number(match[1]) * unit) };
}

/** `5%` or 0.05 as the ratio 0.05; between 0 and 1. */
export function parsePercent(raw: string | number): Parsed<number> {
  if (typeof raw === "number") {
    return raw >= 0 && raw <= 1 ? { value: raw } : { error: `is not a share, write it as a percentage such as 5%, or between 0 and 1` };
  }
  const match = /^(\d{1,3}(?:\.\d{1,6})?) ?%$/.exec(raw.trim());
  if (match) {
    const value = Number(match[1]) / 100;
    return value <= 1 ? { value } : { error: "is more than 100%" };
  }
  const plain = raw.trim() === "" ? Number.NaN : Number(raw);
  if (plain >= 0 && plain <= 1) return { value: plain };
  return { error: "is not a percentage, write it such as 5%" };
}

/** A margin: `+10%` as 0.1 (a ratio) or `+0.5pt` as 0.005 (points of a share); `-2%` as -0.02. */
export function parseMargin(raw: string | number): Parsed<number> {
  const match = /^([+-]?)(\d{1,3}(?:\.\d{1,6})?) ?(%|pt)$/.exec(String(raw).trim());
  if (!match) return { error: "is not a margin, write a percentage such as +10% or points such as +0.5pt" };
  const size = Number(match[2]) / 100;
  return { value: match[1] === "-" ? -size : size };
}

const COUNT_UNITS: Readonly<Record<string, bigint>> = { "": 1n, k: 1_000n, K: 1_000n, M: 1_000_000n };
/** Larger counts are typing errors: no window, quota or model has as many. */
const COUNT_MAX = 1_000_000_000_000n;

/** `128k` = 128,000 and `2M` = 2,000,000; plain numbers too. Whole and not negative. */
export function parseCount(raw: string | number): Parsed<number> {
  const match = /^(\d{1,13})(?:\.(\d{1,6}))?([kKM]?)$/.exec(String(raw).trim().replaceAll("_", ""));
  const unit = COUNT_UNITS[match?.[3] ?? ""];
  if (!match || unit === undefined) return { error: "is not a count, write a whole number such as 4000, 128k (128,000) or 2M (2,000,000)" };
  const scaled = scale(match[1] ?? "0", match[2] ?? "", 6) * unit;
  if (scaled % 1_000_000n !== 0n) return { error: "is not a whole number" };
  const count = scaled / 1_000_000n;
  return count > COUNT_MAX ? { error: "is too large" } : { value: Number(count) };
}

/** Digits with `decimals` places as an integer: ("0", "25", 3) is 250. */
function scale(whole: string, fraction: string, decimals: number): bigint {
  return BigInt(whole + fraction.padEnd(decimals, "0"));
}

function parseDollars(raw: string | number, decimals: number, example: string): Parsed<bigint> {
  const match = /^\$ ?(\d{1,9})(?:\.(\d+))?$/.exec(String(raw).trim());
  if (!match) return { error: `is not an amount of money, write dollars such as ${example}` };
  const fraction = (match[2] ?? "").replace(/0+$/, "");
  if (fraction.length > decimals)
    return { error: `has more than ${decimals} decimals, round it: smaller amounts cannot be booked exactly` };
  return { value: scale(match[1] ?? "0", fraction, decimals) };
}

/** `$0.25` in nano-USD (10^-9 dollars), exact. */
export function parseMoneyNano(raw: string | number): Parsed<bigint> {
  return parseDollars(raw, 9, "$20 or $0.25");
}

/** `$0.25` per million tokens in pico-USD (10^-12 dollars) per token, exact: dollars x 10^6. */
export function parsePerMillionPico(raw: string | number): Parsed<bigint> {
  return parseDollars(raw, 6, "$0.25 (per million tokens)");
}

/** `127.0.0.1:4100`, `[::1]:4100`, `:4100` (every interface). Port 0 takes a free one. */
export function parseListen(raw: string | number): Parsed<ListenAddress> {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]*)):(\d{1,5})$/.exec(String(raw).trim());
  const port = Number(match?.[3]);
  if (!match || port > 65_535) return { error: "is not an address to listen on, write host:port such as 127.0.0.1:4100 or [::1]:4100" };
  const host = match[1] ?? match[2] ?? "";
  return { value: { host: host === "" ? "0.0.0.0" : host, port } };
}

/** Whether only this machine can reach the host. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

const DATE_TEXT = /^(\d{4})-(\d{2})-(\d{2})(?:T\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:\d{2}))?$/;

/** `2026-11-01` (midnight UTC) or `2026-11-01T09:00:00Z`, ms since the epoch. */
export function parseInstantMs(raw: string | number): Parsed<number> {
  const text = String(raw).trim();
  const match = DATE_TEXT.exec(text);
  const time = match ? Date.parse(text) : Number.NaN;
  const monthDays = match ? new Date(Date.UTC(Number(match[1]), Number(match[2]), 0)).getUTCDate() : 0;
  if (!match || Number.isNaN(time) || Number(match[3]) > monthDays) {
    return { error: "is not a date, write it such as 2026-11-01 or 2026-11-01T09:00:00Z" };
  }
  return { value: time };
}

/** An http(s) URL without credentials, without its trailing slash. */
export function parseHttpUrl(raw: string): Parsed<string> {
  const text = raw.trim();
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || (url.protocol !== "http:" && url.protocol !== "https:") || url.hostname === "") {
    return { error: "is not a URL, write http://host:port/path or https://..." };
  }
  if (url.username !== "" || url.password !== "")
    return { error: "carries credentials, take them out of the URL and use `key: ${env:NAME}`" };
  if (url.hash !== "") return { error: "has a #fragment, which is never sent: take it out" };
  return { value: text.replace(/\/+$/, "") };
}
