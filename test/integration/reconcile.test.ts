import { reconcileSuite } from "./reconcile.contract.ts";

reconcileSuite("embedded", 10_000);
