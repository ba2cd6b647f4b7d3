import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import { startBed } from "./bed.ts";
import { SCENARIOS } from "./scenarios.ts";

// `npm run test:resilience`: faults on the wall clock, an embedded gateway in its own process, real sockets. Prints figures; ends with 1
// when one misses its goal.

const USAGE = `usage: npm run test:resilience -- [--only ${SCENARIOS.map(({ id }) => id).join(",")}] [--rate N] [--flap-seconds N]

  --only          these faults only
  --rate          requests a second, half of them streamed (default 60)
  --flap-seconds  how long the flapping lasts (default 300)
`;

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rate: { type: "string", default: "60" },
    "flap-seconds": { type: "string", default: "300" },
    help: { type: "boolean" },
  },
});

async function main(): Promise<boolean> {
  const only = values.only?.split(",");
  const chosen = SCENARIOS.filter(({ id }) => only === undefined || only.includes(id));
  let met = true;
  for (const scenario of chosen) {
    console.log(`\n${scenario.id}: ${scenario.title}, ${values.rate} requests/s`);
    const bed = await startBed();
    try {
      for (const figure of await scenario.run(bed, Number(values.rate), Number(values["flap-seconds"]))) {
        console.log(`  ${figure.met ? "met    " : "NOT MET"} ${figure.what}: ${figure.value} (goal: ${figure.goal})`);
        met &&= figure.met;
      }
    } finally {
      await bed.stop();
    }
    console.log(`  load average of the machine ${loadavg()[0]!.toFixed(1)}`);
  }
  return met;
}

if (values.help === true) console.log(USAGE.trimEnd());
else if (!(await main())) process.exitCode = 1;
