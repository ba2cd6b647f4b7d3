import assert from "node:assert/strict";
import { test } from "node:test";
import { type GatewayOptions, meshMissing, startGateway } from "../support/gateway.ts";
import { measureRollback } from "../support/rollback.ts";
import { simulatedBackend, startSimulation } from "../support/simulated.ts";

// `npm run test:rollback`: how long a rollback takes under load, embedded, in the mesh, and in the mesh without NATS. Figures, and no
// limits on time: the machine may be slow. SIGNALBOX_ROLLBACK_RPS makes the load smaller.
const RPS = Number(process.env["SIGNALBOX_ROLLBACK_RPS"] ?? 500);

/** Requests at once that a backend takes. */
const ROOM = { mode: "fixed", min: 2_000, max: 2_000 };

const CASES: readonly (readonly [name: string, topology: GatewayOptions["topology"], nats: boolean, limitMs: number])[] = [
  ["embedded", "embedded", true, 500],
  ["mesh", "mesh", true, 1_000],
  ["mesh without NATS", "mesh", false, 5_000],
];

/** Backends that take all of it at once: a queue is not what is measured. */
function withRoom(backends: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(backends).map(([name, backend]) => [name, { ...(backend as object), concurrency: ROOM }]));
}

const missing = meshMissing();

for (const [name, topology, nats, limitMs] of CASES) {
  test(`a rollback at ${RPS} requests/s, ${name}`, { skip: topology === "mesh" ? (missing ?? false) : false }, async (t) => {
    const simulation = await startSimulation([simulatedBackend("a", "openai", 1), simulatedBackend("b", "openai", 1)]);
    const gateway = await startGateway({
      topology,
      scale: { ingress: 3, policyEngine: 2, adapterAnthropic: 0 },
      config: { backends: withRoom(simulation.backends), models: { chat: { candidates: ["a", "b"] } } },
    });
    const processes = gateway.mesh?.processes.filter(({ role }) => role === "ingress") ?? [];
    const apis = gateway.mesh === undefined ? [gateway.api] : processes.map((each) => gateway.mesh!.url(each.name, "api"));
    const onHalf = nats ? undefined : () => gateway.nats!.stop();
    const load = { rps: RPS, beforeMs: 4_000, afterMs: 6_000, ...(onHalf === undefined ? {} : { onHalf }) };
    const figures = await measureRollback(gateway, apis, "measured", load);
    await gateway.stop();
    await simulation.stop();
    const { requests, failed, shareBefore, lastToArmMs, confirmedMs, replicas } = figures;
    t.diagnostic(
      `${requests} requests, ${failed} failed ${JSON.stringify(figures.failures)}, ${(100 * shareBefore).toFixed(1)} % to the arm before`,
    );
    t.diagnostic(`last request to the arm ${lastToArmMs.toFixed(0)} ms after the command (at most ${limitMs} wanted)`);
    t.diagnostic(`${replicas} replicas confirmed, the last after ${confirmedMs} ms`);
    t.diagnostic(figures.printed.slice(figures.printed.indexOf('"control_revision"')).trim());
    assert.equal(failed, 0);
    assert.equal(figures.exitCode, 0);
  });
}
