import { measureAll, ownOf, rivalsOf, routerTable } from "../compare.ts";
import { casesOf, over, ratesInWords, ratesWhere, searchRuns, sliceCount } from "../measure.ts";
import { routerOf } from "../routers.ts";
import type { Scenario } from "../scenario.ts";
import { POOLS } from "../testbed.ts";
import { SLOS } from "../workload.ts";

const ROUTERS = [
  "signalbox",
  "round-robin",
  "least-connections",
  "p2c",
  "peak-ewma-p2c",
  "llm-d-epp@50ms",
  "smg-least-load",
  "dynamo-linear",
].map(routerOf);

/** S1: four equal machines, where a router can win least. */
export const homogeneous: Scenario = {
  id: "S1",
  title: "Homogeneous pool",
  runs: (effort) => searchRuns(effort) + ROUTERS.length * sliceCount(effort) * effort.seeds,
  run: async (context) => {
    const trace = context.trace("azure-conv");
    const slo = SLOS["azure-conv"];
    const rates = await ratesWhere(context, POOLS.homogeneous, trace, 0.8, [8, 50]);
    const cases = casesOf(context, trace, rates);
    const measured = await measureAll(context, POOLS.homogeneous, ROUTERS, cases, slo);
    const attained = over(ownOf(measured).samples, ({ attainment }) => attainment).mean;
    const closest = rivalsOf(measured)[0]!;
    return {
      text: [
        "Four A100 at the load where least-connections meets the targets for 80 % of the requests. There is no speed to learn here, only load.",
      ],
      tables: [routerTable(`azure-conv at ${ratesInWords(rates)} on ${POOLS.homogeneous.name}`, measured)],
      plots: [],
      checks: [
        {
          what: "Loses to no baseline by more than a point",
          goal: "none",
          value: `${(attained * 100).toFixed(1)} %, ${closest.mean.toFixed(1)} ± ${closest.half.toFixed(1)} points ahead of ${closest.id}`,
          met: closest.mean >= -1,
        },
      ],
    };
  },
};
