import { conformanceSuite } from "./suites.ts";

conformanceSuite("embedded");
