import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { meshMissing, startGateway, type Gateway } from "../support/gateway.ts";
import { endings, sendLoad } from "../support/load.ts";
import { assertBatchYields, LONE, lonely } from "../support/preemption.ts";
import { simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

/** Requests per victim, enough that the kill falls into the middle and the victim's return too. */
const REQUESTS = 1_500;

/** Who is killed. Streams on the killed adapter may end with an error event; nothing else may be seen. */
const VICTIMS = ["policy-engine", "health-monitor", "cost-ledger", "adapter-openai-1"] as const;

const missing = meshMissing();
if (missing !== undefined) test("services killed under load", { skip: missing }, () => {});
else {
  let gateway: Gateway;
  let simulation: Simulation;

  before(async () => {
    simulation = await startSimulation([
      simulatedBackend("a", "openai", 1),
      simulatedBackend("b", "openai", 1.05),
      simulatedBackend("c", "anthropic", 2),
      LONE,
    ]);
    const lone = lonely(simulation);
    gateway = await startGateway({
      topology: "mesh",
      config: {
        ...lone,
        // Whoever drains may be slow: nothing here is about a grace that ends.
        server: { drain: { delay: "0s", grace: "60s" } },
        backends: { ...simulation.backends, ...lone.backends },
        models: { chat: { candidates: ["a", "b", "c"] }, ...lone.models },
      },
    });
  });

  after(async () => {
    await gateway?.stop();
    await simulation?.stop();
  });

  test("a batch request without content yields to an interactive one over the mesh, and is answered afterwards", () =>
    assertBatchYields(gateway, simulation));

  test("a batch request that the ingress sent without its engine, which stood still, yields as well once the engine goes on", async () => {
    const engine = gateway.mesh!.child("policy-engine");
    engine.signal("SIGSTOP");
    await assertBatchYields(gateway, simulation, () => engine.signal("SIGCONT"));
  });

  for (const victim of VICTIMS) {
    test(`${victim} killed under load: no request fails, and it comes back`, async (t) => {
      const mesh = gateway.mesh!;
      const before = mesh.child(victim).pid();
      const lines = await sendLoad({
        api: gateway.api,
        count: REQUESTS,
        concurrency: 16,
        model: "chat",
        prompt: (index) => `[sim tokens=12] request ${index}`,
        onAnswer: (_line, done) => {
          if (done === 300) mesh.child(victim).signal("SIGKILL");
        },
      });
      t.diagnostic(`${victim}: ${JSON.stringify(endings(lines))}`);
      const bad = lines.filter(
        ({ ending, stream }) => ending !== "complete" && !(ending === "error_event" && stream && victim.startsWith("adapter")),
      );
      assert.deepEqual(endings(bad), {});
      await mesh.ready(victim);
      assert.notEqual(mesh.child(victim).pid(), before);
      const again = await sendLoad({ api: gateway.api, count: 100, concurrency: 8, model: "chat" });
      assert.deepEqual(endings(again), { complete: 100 });
    });
  }

  test("every adapter restarted one after the other by SIGTERM: no request fails, no stream is cut", async () => {
    const mesh = gateway.mesh!;
    const load = sendLoad({
      api: gateway.api,
      count: 3_000,
      concurrency: 16,
      model: "chat",
      prompt: (index) => `[sim tokens=12] request ${index}`,
    });
    for (const name of ["adapter-openai-1", "adapter-openai-2"]) {
      await mesh.child(name).stop(90_000);
      mesh.child(name).start();
      await mesh.ready(name);
    }
    assert.deepEqual(endings(await load), { complete: 3_000 });
  });

  test("the ingress drains on SIGTERM: what it took is answered", async () => {
    const mesh = gateway.mesh!;
    const load = sendLoad({
      api: gateway.api,
      count: 64,
      concurrency: 64,
      model: "chat",
      isStream: () => true,
      prompt: (index) => `[sim tokens=400] long ${index}`,
    });
    // All are in when the simulator has seen them; then the ingress is told to go.
    const seen = (): number =>
      simulation.simulator.calls().filter(({ path }) => path.includes("completions") || path.includes("messages")).length;
    const base = seen();
    while (seen() < base + 64) await new Promise((resolve) => setTimeout(resolve, 5));
    await mesh.child("ingress").stop(90_000);
    assert.deepEqual(endings(await load), { complete: 64 });
    mesh.child("ingress").start();
    await mesh.ready("ingress");
  });
}
