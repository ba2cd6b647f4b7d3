import { test } from "node:test";
import { traceSuite } from "../integration/trace.contract.ts";
import { meshMissing } from "../support/gateway.ts";

const missing = meshMissing();
if (missing === undefined) traceSuite("mesh");
else test("traces over the mesh", { skip: missing }, () => {});
