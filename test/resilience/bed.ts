import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { spawnServer, waitFor } from "#bench/harness/spawn.ts";
import { freePorts } from "#deploy/local/ports.ts";
import { simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

/** Backends of equal price: only their health tells them apart. */
export const NAMES = ["one", "two", "three", "four"] as const;

/** A quick cloud: 60 ms to the first token, 4 ms for each further one. */
const SPEED = { kind: "cloud", ttftMs: 60, ttftSigma: 0.2, itlMs: 4, itlSigma: 0.1 } as const;

const LAUNCHER = fileURLToPath(new URL("../../bin/signalbox", import.meta.url));

/** Period of the look at the breakers, ms. */
const LOOK_MS = 100;

/** A gateway in a process of its own, real sockets to simulated providers in this one. */
export interface Bed {
  readonly simulation: Simulation;
  readonly api: string;
  /** Changes of breakers seen so far, as the engine itself reports them. */
  readonly breakers: readonly { readonly atMs: number; readonly backend: string; readonly state: BreakerWord }[];
  stop(): Promise<void>;
}

/** A breaker's state in words. */
export type BreakerWord = "closed" | "half_open" | "open";

const WORDS: readonly BreakerWord[] = ["closed", "half_open", "open"];

/** Starts both with everything as the defaults have it. */
export async function startBed(): Promise<Bed> {
  const dir = mkdtempSync(join(tmpdir(), "signalbox-resilience-"));
  const simulation = await startSimulation(NAMES.map((name) => simulatedBackend(name, "openai", 1, SPEED)));
  const config = {
    version: 1,
    server: { drain: { delay: "0s", grace: "2s" } },
    backends: simulation.backends,
    models: { chat: { candidates: [...NAMES], class: "interactive", sla: { ttft: "1s", deadline: "60s" } } },
  };
  writeFileSync(join(dir, "signalbox.yaml"), stringify(config));
  const [api, admin, grpc] = await freePorts(3);
  const ports = ["--port", String(api), "--admin-port", String(admin), "--grpc-port", String(grpc)];
  const command = [LAUNCHER, "serve", "--config", join(dir, "signalbox.yaml"), "--data-dir", join(dir, "data"), ...ports];
  const server = spawnServer(command, join(dir, "log"), { SIGNALBOX_LOG_LEVEL: "warn", NO_COLOR: "1" }, dir);
  await waitFor(server, `http://127.0.0.1:${admin}/readyz`, (status) => status === 200);
  const breakers: { atMs: number; backend: string; state: BreakerWord }[] = [];
  const watch = watchBreakers(`http://127.0.0.1:${admin}/metrics`, breakers);
  return {
    simulation,
    api: `http://127.0.0.1:${api}`,
    breakers,
    stop: async () => {
      await watch();
      await server.stop();
      await simulation.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Looks at the breakers ten times a second and notes every change; the answer ends it. */
function watchBreakers(url: string, changes: { atMs: number; backend: string; state: BreakerWord }[]): () => Promise<void> {
  const known = new Map<string, BreakerWord>();
  let over = false;
  const loop = async (): Promise<void> => {
    while (!over) {
      const text = await fetch(url).then(
        (answer) => answer.text(),
        () => "",
      );
      for (const [, backend, value] of text.matchAll(/^signalbox_breaker_state\{backend="([^"]+)"\} (\d)/gm)) {
        const state = WORDS[Number(value)]!;
        if ((known.get(backend!) ?? "closed") !== state) changes.push({ atMs: Date.now(), backend: backend!, state });
        known.set(backend!, state);
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  };
  const done = loop();
  return () => {
    over = true;
    return done;
  };
}
