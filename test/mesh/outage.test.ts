import { test } from "node:test";
import { meshMissing } from "../support/gateway.ts";
import { outageSuite } from "./outage.contract.ts";

const missing = meshMissing();
if (missing === undefined) outageSuite({ outages: ["slow", "refusing"], outageMs: 1_000, afterBootMs: 0, boots: ["refusing"] });
else test("PostgreSQL away", { skip: missing }, () => {});
