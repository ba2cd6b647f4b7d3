import { test } from "node:test";
import { vanishSuite } from "../integration/vanish.contract.ts";
import { meshMissing } from "../support/gateway.ts";

// The whole of it, for `npm run test:vanish`.
const scale = { clients: 1_000, concurrency: 20, p99Ms: 250 };
vanishSuite({ topology: "embedded", ...scale });
const missing = meshMissing();
if (missing === undefined) vanishSuite({ topology: "mesh", ...scale });
else test("clients that vanish from the mesh", { skip: missing }, () => {});
