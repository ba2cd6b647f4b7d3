import { measureAll, ownOf, rivalsOf, routerTable } from "../compare.ts";
import { casesOf, over, sliceCount } from "../measure.ts";
import { routerOf, signalboxEntry } from "../routers.ts";
import type { Scenario } from "../scenario.ts";
import { POOLS } from "../testbed.ts";
import { SLOS } from "../workload.ts";

const ROUTERS = [
  routerOf("signalbox"),
  signalboxEntry("signalbox, no prefix hashes", { prefixes: false }, "ablation"),
  ...["round-robin", "least-connections", "p2c", "llm-d-epp@50ms", "smg-cache-aware", "dynamo-linear", "dynamo-lmetric"].map(routerOf),
];

/** 2.6 times the trace's own pace, as in the plan. */
const RATE = 8.8;

const GOAL = 0.97;

/** S4: conversations that share prefixes. */
export const prefix: Scenario = {
  id: "S4",
  title: "Shared prefixes",
  runs: (effort) => ROUTERS.length * sliceCount(effort) * effort.seeds,
  run: async (context) => {
    const slo = SLOS["mooncake-conversation"];
    const cases = casesOf(context, context.trace("mooncake-conversation"), RATE);
    const measured = await measureAll(context, POOLS.prefix, ROUTERS, cases, slo);
    const own = over(ownOf(measured).samples, ({ attainment }) => attainment);
    const closest = rivalsOf(measured)[0]!;
    return {
      text: [
        "Mooncake's conversations (12,000 prompt tokens each, a third of them seen before) at 2.6 times their own pace on eight H100. Signalbox gets the hashes the ingress makes of a prompt's first 512 KiB: 256-byte blocks up to 4 KiB, then 1 KiB, and 4 KiB behind 64 KiB; the rivals see all 512-token blocks.",
      ],
      tables: [
        routerTable(
          `mooncake-conversation at ${RATE} requests/s on ${POOLS.prefix.name} (first token within ${slo.ttftMs / 1_000} s, ${slo.tpotMs} ms per token)`,
          measured,
        ),
      ],
      plots: [],
      checks: [
        {
          what: "Targets met with shared prefixes",
          goal: "at least 97 %",
          value: `${(own.mean * 100).toFixed(1)} ± ${(own.half * 100).toFixed(1)} %`,
          met: own.mean >= GOAL,
        },
        {
          what: "Against the best baseline with shared prefixes",
          goal: "loses by at most a point",
          value: `${closest.mean.toFixed(1)} ± ${closest.half.toFixed(1)} points ahead of ${closest.id}`,
          met: closest.mean >= -1,
        },
      ],
    };
  },
};
