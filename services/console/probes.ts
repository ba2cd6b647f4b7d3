import type { ReadinessCheck } from "#libs/lifecycle/index.ts";

/** What /readyz answers. */
export interface Readiness {
  readonly ready: boolean;
  readonly text: string;
}

/** Readiness in Kubernetes' verbose style. A degraded part keeps the process ready: it works on what it last knew. */
export function readiness(checks: readonly ReadinessCheck[], draining: boolean, verbose: boolean): Readiness {
  const rows = checks.map((check) => ({ name: check.name, ...check.status() }));
  const failed = rows.filter((row) => row.state === "failed");
  const degraded = rows.filter((row) => row.state === "degraded");
  const ready = failed.length === 0 && !draining;
  const word = draining ? "draining" : failed.length > 0 ? "not ready" : degraded.length > 0 ? "degraded" : "ok";
  if (!verbose && ready) return { ready, text: `${word}\n` };
  const lines = rows.map((row) => `[${row.state === "failed" ? "-" : "+"}]${row.name} ${row.state}${row.detail ? `: ${row.detail}` : ""}`);
  return { ready, text: `${[...lines, `readyz check ${ready ? "passed" : "failed"}: ${word}`].join("\n")}\n` };
}
