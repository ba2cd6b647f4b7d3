import {
  CUT_KINDS,
  type CutKind,
  type FaultKind,
  type FaultOptions,
  HOLLOW_KINDS,
  type HollowKind,
  STATUS_KINDS,
  type StatusKind,
} from "./kinds.ts";

/** A fault that struck one request. */
export interface Strike {
  readonly kind: FaultKind;
  readonly options: FaultOptions;
}

/** What all faults that struck one request do to it. */
export interface FaultPlan {
  /** Names of the kinds, for the list of calls. */
  readonly names: string;
  /** Answer this error instead. */
  readonly status: { readonly kind: StatusKind; readonly options: FaultOptions } | undefined;
  /** Do this to the connection instead of answering. */
  readonly connection: "reset" | "blackhole" | "garbage" | undefined;
  readonly hollow: HollowKind | undefined;
  readonly cut:
    | { readonly kind: CutKind; readonly afterTokens: number; readonly bytes: number; readonly until: Promise<void> | undefined }
    | undefined;
  readonly slowFactor: number;
  /** Ms between single bytes; 0 = no dripping. */
  readonly dripMs: number;
  readonly usage: "normal" | "absent" | "early" | "twice" | "inconsistent" | "huge";
  readonly finish: "once" | "twice" | "none";
  /** Headers to add; 0 = none. */
  readonly extraHeaders: number;
  readonly has: (kind: FaultKind) => boolean;
}

/** Tokens written before a cut when nobody says. */
const DEFAULT_AFTER_TOKENS = 3;
const DEFAULT_GIANT_BYTES = 10 * 1024 * 1024;
const DEFAULT_MANY_HEADERS = 1000;
const DEFAULT_SLOW_FACTOR = 10;
const DEFAULT_DRIP_MS = 100;

const never = (): boolean => false;

/** The plan of a request nothing struck. */
export const NO_FAULTS: FaultPlan = {
  names: "",
  status: undefined,
  connection: undefined,
  hollow: undefined,
  cut: undefined,
  slowFactor: 1,
  dripMs: 0,
  usage: "normal",
  finish: "once",
  extraHeaders: 0,
  has: never,
};

/** Joins the faults that struck a request; of two that exclude each other the first wins. */
export function planOf(strikes: readonly Strike[]): FaultPlan {
  if (strikes.length === 0) return NO_FAULTS;
  const find = <K extends FaultKind>(kinds: readonly K[]): { kind: K; options: FaultOptions } | undefined => {
    for (const strike of strikes) {
      const kind = kinds.find((known) => known === strike.kind);
      if (kind) return { kind, options: strike.options };
    }
    return undefined;
  };
  const has = (kind: FaultKind): boolean => strikes.some((strike) => strike.kind === kind);
  const cut = find(CUT_KINDS);
  const loading = find(["loading"]);
  const slow = find(["slow"]);
  const drip = find(["drip"]);
  const many = find(["many_headers"]);
  return {
    names: strikes.map((strike) => strike.kind).join(","),
    status: find(STATUS_KINDS) ?? (loading ? { kind: "503", options: loading.options } : undefined),
    connection: find(["reset", "blackhole", "garbage"])?.kind,
    hollow: find(HOLLOW_KINDS)?.kind,
    cut: cut && {
      kind: cut.kind,
      afterTokens: cut.kind === "cut_before_first" ? 0 : (cut.options.afterTokens ?? DEFAULT_AFTER_TOKENS),
      bytes: cut.options.bytes ?? DEFAULT_GIANT_BYTES,
      until: cut.options.until,
    },
    slowFactor: slow ? (slow.options.factor ?? DEFAULT_SLOW_FACTOR) : 1,
    dripMs: drip ? (drip.options.delayMs ?? DEFAULT_DRIP_MS) : 0,
    usage: usageOf(find(["usage_absent", "usage_early", "usage_twice", "usage_inconsistent", "usage_huge"])?.kind),
    finish: has("no_finish") ? "none" : has("dup_finish") ? "twice" : "once",
    extraHeaders: many ? (many.options.bytes ?? DEFAULT_MANY_HEADERS) : 0,
    has,
  };
}

function usageOf(kind: `usage_${"absent" | "early" | "twice" | "inconsistent" | "huge"}` | undefined): FaultPlan["usage"] {
  return kind === undefined ? "normal" : (kind.slice("usage_".length) as Exclude<FaultPlan["usage"], "normal">);
}
