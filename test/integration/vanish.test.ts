import { vanishSuite } from "./vanish.contract.ts";

vanishSuite({ topology: "embedded", clients: 100, concurrency: 20 });
