import { type FaultKind, faultKindOf, FAULT_KINDS, type FaultOptions, type RetryAfterForm } from "./kinds.ts";

/** A fault as it comes over HTTP, checked. */
export interface FaultOrder {
  /** A backend's name; `*` = all. */
  readonly backend: string;
  readonly kind: FaultKind;
  readonly options: FaultOptions;
}

const NUMBERS: Readonly<Record<string, keyof FaultOptions>> = {
  p: "p",
  for_ms: "forMs",
  count: "count",
  after_tokens: "afterTokens",
  factor: "factor",
  up_ms: "upMs",
  down_ms: "downMs",
  bytes: "bytes",
  delay_ms: "delayMs",
  retry_after_s: "retryAfterS",
};
const RETRY_AFTER_FORMS: readonly string[] = ["seconds", "date", "ms", "absent"] satisfies RetryAfterForm[];

/** Reads `{backend, kind, p?, for_ms?, count?, after_tokens?, ...}`; a string answer says what is wrong with it. */
export function parseFaultOrder(value: unknown): FaultOrder | string {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return "a fault is an object with backend and kind";
  const { backend, kind, ...rest } = value as Record<string, unknown>;
  if (typeof backend !== "string" || backend === "") return "backend is missing";
  const known = typeof kind === "string" ? faultKindOf(kind) : undefined;
  if (!known) return `unknown fault kind ${JSON.stringify(kind)}; known: ${FAULT_KINDS.join(", ")}`;
  const options = parseFaultOptions(rest);
  return typeof options === "string" ? options : { backend, kind: known, options };
}

/** Reads the header form `kind;after_tokens=3;retry_after=date`; undefined when it names no fault. */
export function parseFaultHeader(text: string): { kind: FaultKind; options: FaultOptions } | undefined {
  const [word, ...pairs] = text.split(";").map((part) => part.trim());
  const kind = faultKindOf(word ?? "");
  if (!kind) return undefined;
  const raw: Record<string, unknown> = {};
  for (const pair of pairs) {
    const [name = "", value = ""] = pair.split("=");
    raw[name] = name in NUMBERS ? Number(value) : value === "true" ? true : value;
  }
  const options = parseFaultOptions(raw);
  return typeof options === "string" ? undefined : { kind, options };
}

/** Reads options under their own names (`afterTokens`) or those of the wire (`after_tokens`); a string answer says what is wrong. */
export function parseFaultOptions(raw: Readonly<Record<string, unknown>>): FaultOptions | string {
  const options: Record<string, unknown> = {};
  for (const [given, value] of Object.entries(raw)) {
    const name = given.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    const target = NUMBERS[name];
    if (value === undefined || value === null) continue;
    if (target) {
      if (typeof value !== "number" || !Number.isFinite(value)) return `${name} is a number`;
      if (name === "p" && (value < 0 || value > 1)) return "p lies between 0 and 1";
      options[target] = value;
    } else if (name === "retry_after") {
      if (typeof value !== "string" || !RETRY_AFTER_FORMS.includes(value)) return `retry_after is one of ${RETRY_AFTER_FORMS.join(", ")}`;
      options["retryAfter"] = value;
    } else if (name === "until" && value instanceof Promise) {
      options["until"] = value;
    } else if (name === "everywhere") {
      options["everywhere"] = value === true;
    } else {
      return `unknown fault option ${JSON.stringify(name)}`;
    }
  }
  return options;
}
