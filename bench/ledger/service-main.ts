import { openNatsBus } from "#libs/bus/index.ts";
import { systemClock, systemRandom } from "#libs/clock/index.ts";
import { createConfigSource, Secret } from "#libs/config/index.ts";
import { createMetrics, silentLogger } from "#libs/telemetry/index.ts";
import { createCostLedger } from "#services/cost-ledger/index.ts";
import { ledgerConfig } from "./traffic.ts";

/** The cost ledger alone in its process, as the mesh runs it. Arguments: the store, the bus. Prints one line when it is up. */
async function main(): Promise<void> {
  const [store, nats] = process.argv.slice(2);
  const common = { clock: systemClock, random: systemRandom, logger: silentLogger };
  const bus = await openNatsBus({ ...common, url: nats!, name: "bench-ledger" });
  const host = createCostLedger({
    ...common,
    bus,
    config: createConfigSource(ledgerConfig(new Secret("store", () => store!))),
    metrics: createMetrics(),
  });
  await host.module.start();
  process.stdout.write(`${JSON.stringify({ version: (await host.ledger.priceBook()).version })}\n`);
  process.once("SIGTERM", () => {
    void host.module
      .stop()
      .then(() => bus.close())
      .then(() => process.exit(0));
  });
}

await main();
