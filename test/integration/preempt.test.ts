import { after, before, test } from "node:test";
import { startGateway, type Gateway } from "../support/gateway.ts";
import { assertBatchYields, LONE, lonely } from "../support/preemption.ts";
import { startSimulation, type Simulation } from "../support/simulated.ts";

let simulation: Simulation;
let gateway: Gateway;

before(async () => {
  simulation = await startSimulation([LONE]);
  gateway = await startGateway({ topology: "embedded", config: lonely(simulation) });
});

after(async () => {
  await gateway?.stop();
  await simulation?.stop();
});

test("an interactive request takes the place of a batch request without content, which is answered afterwards", () =>
  assertBatchYields(gateway, simulation));
