import { create } from "@bufbuild/protobuf";
import { PriceBookSchema } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { createMemoryBus } from "#libs/bus/index.ts";
import { systemClock, systemRandom } from "#libs/clock/index.ts";
import { createConfigSource, loadConfig, withPorts } from "#libs/config/index.ts";
import { createMetrics, createLogger, noTracing } from "#libs/telemetry/index.ts";
import { createIngress } from "#services/ingress/index.ts";
import { createPolicyEngine } from "#services/policy-engine/index.ts";
import { createProviderAdapters } from "#services/provider-adapters/index.ts";
import { createSimulator, devBackends, devProfiles } from "#simulator/index.ts";
import { devConfigText } from "#deploy/dev-config.ts";
const clock = systemClock,
  random = systemRandom;
const logger = createLogger("info", "smoke");
const sim = createSimulator({ clock, random, logger, profiles: devProfiles() });
const urls = await sim.start();
const loaded = loadConfig(devConfigText({ simulated: devBackends(urls), env: {} }), { file: "x", env: {} });
if (loaded.problems) throw new Error(JSON.stringify(loaded.problems));
const config = createConfigSource(withPorts(loaded.config, { port: 0, adminPort: 0, grpcPort: 0 }));
const metrics = createMetrics();
const bus = createMemoryBus({ clock, logger });
const base = { config, clock, random, logger, metrics, bus, tracing: noTracing };
const ledger = { priceBook: async () => create(PriceBookSchema, { version: "x", onUnknown: "allow_unpriced" }) } as never;
const control = { state: async () => undefined } as never;
const adapters = createProviderAdapters({ ...base, replica: "r1" });
const policy = createPolicyEngine({ ...base, ledger, control, engineId: "e1" });
const outbox = {
  append: (r: unknown) => r,
  beforeDispatch: (cb: () => void) => cb(),
  beforeAnswer: (cb: () => void) => cb(),
  accepting: true,
};
const session = policy.openSession("i1");
const ingress = createIngress({ ...base, policy: session, adapters, control, ledger, outbox, ingressId: "i1" });
await adapters.module.start();
await policy.module.start();
await ingress.module.start();
const a = ingress.address();
const url = `http://${a.host}:${a.port}`;
for (const stream of [false, true]) {
  const r = await fetch(url + "/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "chat",
      stream,
      stream_options: stream ? { include_usage: true } : undefined,
      messages: [{ role: "user", content: "hello" }],
    }),
  });
  console.log(r.status, Object.fromEntries(r.headers));
  console.log((await r.text()).slice(0, 1500));
}
for (const model of ["sim-claude", "sim-openai", "sim-gpu-a"]) {
  const r = await fetch(url + "/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, stream: true, messages: [{ role: "user", content: "hello" }] }),
  });
  console.log(model, r.status, r.headers.get("x-signalbox-backend"), (await r.text()).length);
}
const t0 = performance.now();
let n = 0;
await Promise.all(
  Array.from({ length: 16 }, async () => {
    while (performance.now() - t0 < 3000) {
      const r = await fetch(url + "/v1/chat/completions", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ model: "chat", messages: [{ role: "user", content: "hello" }] }),
      });
      await r.text();
      if (r.status !== 200) console.log(r.status);
      n++;
    }
  }),
);
console.log("req", n);
console.log(sim.invoice().length);
process.exit(0);
