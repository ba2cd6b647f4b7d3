import { shown, type ConfigPath, type Report } from "./problems.ts";
import { changeProblem } from "./request-change.ts";
import { secretText } from "./references.ts";
import { isTimeZone, parseWindow } from "./schedule-windows.ts";
import { listAt, mapAt, textAt, type Tree } from "./tree.ts";
import { isLoopback, parseListen, parseMargin, parsePercent } from "./units.ts";

/** Checks of values that the schema cannot make: sums, zones, addresses, secrets in the wrong place. */
export function checkValues(root: Tree, report: Report): void {
  checkSchedules(root, report);
  checkWeights(root, report);
  checkGuards(root, report);
  checkRequests(root, report);
  checkExposure(root, report);
  checkStores(root, report);
}

function checkSchedules(root: Tree, report: Report): void {
  for (const name of Object.keys(mapAt(root, "schedules"))) {
    const path = ["schedules", name];
    const zone = textAt(root, ...path, "tz");
    if (zone !== undefined && !isTimeZone(zone))
      report([...path, "tz"], `${shown(zone)} is not a time zone, write one such as Europe/Berlin or UTC`);
    for (const [index, window] of listAt(root, ...path, "windows").entries()) {
      const parsed = typeof window === "string" ? parseWindow(window) : { error: "is not a window, write it in quotes" };
      if ("error" in parsed) report([...path, "windows", index], `${shown(window)} ${parsed.error}`);
    }
  }
}

/** Shares are decimal fractions held in binary: a sum may miss 1 by its last digits. */
const SUM_TOLERANCE = 1e-9;

function checkWeights(root: Tree, report: Report): void {
  for (const name of Object.keys(mapAt(root, "experiments"))) {
    const path = ["experiments", name, "arms"];
    const arms = mapAt(root, ...path);
    let sum = 0;
    for (const arm of Object.values(arms)) {
      const weight = typeof arm === "object" ? mapAt(arm)["weight"] : arm;
      const parsed = typeof weight === "string" || typeof weight === "number" ? parsePercent(weight) : { error: "" };
      if ("error" in parsed) return; // the schema reports it
      sum += parsed.value;
    }
    if (Math.abs(sum - 1) > SUM_TOLERANCE) {
      report(
        path,
        `weights add up to ${Number((sum * 100).toFixed(6))}%, make them 100%: what is left belongs to an arm such as \`control\``,
        "key",
      );
    }
  }
}

function checkGuards(root: Tree, report: Report): void {
  for (const name of Object.keys(mapAt(root, "experiments"))) {
    const path = ["experiments", name, "guards"];
    const guards = mapAt(root, ...path);
    for (const guard of ["error_rate", "ttft", "cost", "quality"]) {
      const raw = guards[guard];
      const parsed = typeof raw === "string" || typeof raw === "number" ? parseMargin(raw) : undefined;
      if (!parsed || "error" in parsed) continue;
      if (guard === "quality" && parsed.value > 0)
        report([...path, guard], `${shown(raw)} allows no loss, write how much it may fall, such as -2%`);
      if (guard !== "quality" && parsed.value < 0)
        report([...path, guard], `${shown(raw)} asks for a gain, write how much it may rise, such as +10%`);
    }
  }
}

/** What arms change in requests. */
function checkRequests(root: Tree, report: Report): void {
  for (const name of Object.keys(mapAt(root, "experiments"))) {
    for (const arm of Object.keys(mapAt(root, "experiments", name, "arms"))) {
      const path = ["experiments", name, "arms", arm, "request"];
      const problem = changeProblem(mapAt(root, ...path));
      if (problem !== undefined) report(path, problem, "key");
    }
  }
}

/** Listeners that callers reach, with their settings. */
const CALLER_LISTENERS = ["api", "admin", "grpc"] as const;

function hostAt(root: Tree, ...path: readonly string[]): string | undefined {
  const raw = textAt(root, ...path);
  const parsed = raw === undefined ? undefined : parseListen(raw);
  return parsed && "value" in parsed ? parsed.value.host : undefined;
}

/** Whether a caller's listener is reachable from other machines. */
export function isExposed(root: Tree): boolean {
  return CALLER_LISTENERS.some((listener) => !isLoopback(hostAt(root, "server", listener, "listen") ?? "localhost"));
}

function checkExposure(root: Tree, report: Report): void {
  if (textAt(root, "auth", "mode") === "open") {
    for (const listener of CALLER_LISTENERS) {
      const host = hostAt(root, "server", listener, "listen");
      if (host === undefined || isLoopback(host)) continue;
      const hint = "set `auth: { mode: keys }` and make a key with `signalbox keys create`, or listen on 127.0.0.1";
      report(["server", listener, "listen"], `${host} can be reached by others while \`auth.mode\` is open: ${hint}`);
    }
  }
}

const STORE = /^(?:sqlite:.+|postgres(?:ql)?:\/\/.+)$/s;

function checkStores(root: Tree, report: Report): void {
  const store = textAt(root, "ledger", "store");
  if (store !== undefined) {
    const text = secretText(store);
    const written = text.kind === "literal" ? text.text : text.kind === "env" ? text.fallback : undefined;
    if (written !== undefined && written !== "" && !STORE.test(written)) {
      report(["ledger", "store"], "is not a store, write sqlite:PATH or ${env:DATABASE_URL} with postgres://...");
    }
    checkNoPassword(["ledger", "store"], written, report);
  }
  const nats = textAt(root, "mesh", "nats", "url");
  if (nats !== undefined) {
    const text = secretText(nats);
    checkNoPassword(["mesh", "nats", "url"], text.kind === "literal" ? text.text : text.kind === "env" ? text.fallback : undefined, report);
  }
  const creds = textAt(root, "mesh", "nats", "creds");
  if (creds !== undefined && secretText(creds).kind === "literal") {
    report(["mesh", "nats", "creds"], "holds credentials in plain text, keep them out of the file: write ${file:PATH}");
  }
}

/** user:password@host, or libpq's parameter. */
const PASSWORD = /:\/\/[^/?#]*:[^/?#]*@|[?&]password=/;

function checkNoPassword(path: ConfigPath, url: string | undefined, report: Report): void {
  if (url === undefined || !PASSWORD.test(url)) return;
  report(path, "holds a password in plain text, keep it out of the file: write ${env:NAME} or ${file:PATH}");
}
