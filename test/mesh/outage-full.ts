import { test } from "node:test";
import { meshMissing } from "../support/gateway.ts";
import { outageSuite } from "./outage.contract.ts";

// The whole of it, for `npm run test:outage`: some five minutes.
const missing = meshMissing();
const all = ["down", "slow", "refusing"] as const;
if (missing === undefined) outageSuite({ outages: all, outageMs: 60_000, boots: all, afterBootMs: 10_000, recoveryMs: 5_000 });
else test("PostgreSQL away", { skip: missing }, () => {});
