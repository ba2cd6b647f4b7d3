import { test } from "node:test";
import { reconcileSuite } from "../integration/reconcile.contract.ts";
import { meshMissing, type Gateway } from "../support/gateway.ts";

const REQUESTS = 10_000;

/** NATS dies a third of the way through and comes back at two thirds. */
function disturb(gateway: Gateway, done: number): void {
  if (done === Math.floor(REQUESTS / 3)) gateway.nats!.kill();
  if (done === Math.floor((2 * REQUESTS) / 3)) gateway.nats!.revive();
}

const missing = meshMissing();
if (missing === undefined) reconcileSuite("mesh", REQUESTS, disturb);
else test("reconciliation over the mesh", { skip: missing }, () => {});
