import { test } from "node:test";
import { meshMissing } from "../support/gateway.ts";
import { conformanceSuite } from "./suites.ts";

const missing = meshMissing();
if (missing === undefined) conformanceSuite("mesh");
else test("clients over the mesh", { skip: missing }, () => {});
