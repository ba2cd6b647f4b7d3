/** JSON from another process: looked at field by field. */
export type Fields = Readonly<Record<string, unknown>>;

/** The value as fields; empty when it is something else. */
export function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

/** The list of objects at a name; empty when it is something else. */
export function listOf(fields: Fields, name: string): readonly Fields[] {
  const value = fields[name];
  return Array.isArray(value) ? value.map(fieldsOf) : [];
}

/** A cell of text: `-` where there is nothing. Control characters are shown, not sent to the terminal. */
export function textCell(value: unknown): string {
  if (value === undefined || value === null || value === "") return "-";
  const text = typeof value === "object" ? JSON.stringify(value) : `${value as string | number | boolean | bigint}`;
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, "?");
}

/** Milliseconds in three figures: `84ms`, `1.25s`. */
export function msCell(value: unknown): string {
  if (typeof value !== "number" || !Number.isFinite(value)) return "-";
  if (value < 10) return `${value.toFixed(1)}ms`;
  return value < 1000 ? `${Math.round(value)}ms` : `${(value / 1000).toFixed(2)}s`;
}

/** A share as a percentage: `99.2%`. */
export function shareCell(value: unknown): string {
  return typeof value === "number" && Number.isFinite(value) ? `${(value * 100).toFixed(1)}%` : "-";
}

const NANO_PER_USD = 1_000_000_000n;
/** Digits after the point: a small request costs some millionths of a dollar. */
const SHOWN_DECIMALS = 6;

/** Nano-USD (text or number, as JSON carries int64) in dollars with six decimals, exactly rounded. */
export function moneyCell(value: unknown): string {
  const text = `${value as string}`;
  if (!/^-?\d+$/.test(text)) return "-";
  const nano = BigInt(text);
  const size = nano < 0n ? -nano : nano;
  const step = 10n ** BigInt(9 - SHOWN_DECIMALS);
  const rounded = ((size + step / 2n) / step) * step;
  const fraction = (rounded % NANO_PER_USD).toString().padStart(9, "0").slice(0, SHOWN_DECIMALS);
  return `${nano < 0n && rounded > 0n ? "-" : ""}$${rounded / NANO_PER_USD}.${fraction}`;
}

/** A list as comma-separated words. */
export function wordsCell(value: unknown): string {
  return Array.isArray(value) && value.length > 0 ? value.map(textCell).join(",") : "-";
}

/** An ISO time without its fraction. */
export function timeCell(value: unknown): string {
  return typeof value === "string" ? textCell(value).replace(/\.\d+Z$/, "Z") : "-";
}
