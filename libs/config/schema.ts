import { z } from "zod";
import { CAPABILITY_NAMES, CLASS_NAMES, PROVIDER_NAMES } from "./names.ts";
import {
  count,
  countOrZero,
  decimal,
  duration,
  flag,
  httpUrl,
  instant,
  listen,
  margin,
  money,
  name,
  named,
  perMillion,
  share,
  size,
  text,
  timeout,
} from "./schema-leaves.ts";

const texts = z.array(text);
const capability = z.enum(CAPABILITY_NAMES);
const className = z.enum(CLASS_NAMES);

const server = z.strictObject({
  api: z
    .strictObject({
      listen: listen.optional(),
      max_body: size.optional(),
      header_timeout: timeout.optional(),
      body_timeout: timeout.optional(),
      reader_timeout: timeout.optional(),
      max_headers: size.optional(),
      max_connections: count.optional(),
    })
    .optional(),
  admin: z.strictObject({ listen: listen.optional(), allowed_hosts: texts.optional() }).optional(),
  grpc: z.strictObject({ listen: listen.optional(), reflection: flag.optional() }).optional(),
  drain: z.strictObject({ delay: duration.optional(), grace: duration.optional() }).optional(),
});

const perMillionPrices = z.strictObject({
  input: perMillion.optional(),
  cache_read: perMillion.optional(),
  cache_write: perMillion.optional(),
  cache_write_1h: perMillion.optional(),
  output: perMillion.optional(),
  reasoning: perMillion.optional(),
  audio_input: perMillion.optional(),
  audio_output: perMillion.optional(),
  image_input: perMillion.optional(),
});

const priceFields = {
  per_million: perMillionPrices.optional(),
  per_request: money.optional(),
  web_search: money.optional(),
  per_hour: money.optional(),
};
const price = z.strictObject(priceFields);

const backend = z.strictObject({
  extends: text.optional(),
  provider: z.enum(PROVIDER_NAMES).optional(),
  url: httpUrl.optional(),
  key: text.optional(),
  model: text.optional(),
  context: count.optional(),
  max_output: count.optional(),
  capabilities: z.array(capability).optional(),
  concurrency: z.strictObject({ mode: z.enum(["adaptive", "fixed"]).optional(), min: count.optional(), max: count.optional() }).optional(),
  metrics: z.strictObject({ url: httpUrl }).optional(),
  price: price.optional(),
  labels: z.record(text, text).optional(),
  limits: z
    .strictObject({ rpm: count.optional(), rps: decimal("a number of requests per second", 0.01).optional(), tpm: count.optional() })
    .optional(),
  anthropic_version: text.optional(),
  service_tiers: flag.optional(),
  params_b: decimal("a number of billions of parameters such as 70", 0.001).optional(),
  engine_priority: flag.optional(),
});

const prices = z.strictObject({
  on_unknown: z.enum(["reject", "allow_unpriced"]).optional(),
  baseline: text.optional(),
  files: texts.optional(),
  overrides: z
    .array(
      z.strictObject({
        backend: text,
        effective_from: instant.optional(),
        schedule: text.optional(),
        ...priceFields,
        tiers: z.array(z.strictObject({ above: countOrZero, ...priceFields })).optional(),
        service_tiers: z.record(text, price).optional(),
      }),
    )
    .optional(),
});

const model = z.strictObject({
  aliases: z.array(name).optional(),
  candidates: texts.min(1, { error: "is empty, name at least one backend" }),
  requires: z.array(capability).optional(),
  sla: z.strictObject({ ttft: timeout.optional(), tpot: timeout.optional(), deadline: timeout.optional() }).optional(),
  class: className.optional(),
  mid_stream: z.enum(["resume", "error"]).optional(),
  single_flight: flag.optional(),
});

const rule = z.strictObject({
  name,
  when: text,
  require: z.record(text, text).optional(),
  exclude: texts.optional(),
  class: className.optional(),
});

const classSettings = z.strictObject({
  ceiling: share.optional(),
  queue: count.optional(),
  max_wait: timeout.optional(),
  min_share: share.optional(),
  defer_to: text.optional(),
});

const resilience = z.strictObject({
  attempts: z.strictObject({ interactive: count.optional(), standard: count.optional(), batch: count.optional() }).optional(),
  retry: z.strictObject({ budget: share.optional(), min_per_s: decimal("a number of retries per second", 0).optional() }).optional(),
  hedge: z
    .strictObject({ budget: share.optional(), after: z.enum(["p95", "p99", "off"]).optional(), max_cost: money.optional() })
    .optional(),
  breaker: z
    .strictObject({
      consecutive: count.optional(),
      success_rate: share.optional(),
      window: timeout.optional(),
      min_requests: count.optional(),
      open: timeout.optional(),
      max_open: timeout.optional(),
      max_ejected: share.optional(),
    })
    .optional(),
  timeouts: z
    .strictObject({
      decide: timeout.optional(),
      connect: timeout.optional(),
      first_token: timeout.optional(),
      idle_stream: timeout.optional(),
    })
    .optional(),
});

const arm = z.strictObject({ weight: share, backends: texts.optional(), request: z.record(z.string(), z.json()).optional() });

const experiment = z.strictObject({
  model: text,
  unit: z.enum(["user", "tenant", "conversation", "request"]).optional(),
  layer: name.optional(),
  arms: named(z.union([share, arm])),
  guards: z
    .strictObject({
      error_rate: margin.optional(),
      ttft: margin.optional(),
      cost: margin.optional(),
      quality: margin.optional(),
      action: z.enum(["rollback", "pause", "alert"]).optional(),
    })
    .optional(),
  share_shadow: share.optional(),
  shadow_budget: money.optional(),
  steps: z.array(share).optional(),
  judge: z.strictObject({ model: text, share: share.optional(), budget: money.optional(), prompt: text.optional() }).optional(),
});

const tenant = z.strictObject({
  teams: z.array(name).optional(),
  budgets: z
    .array(
      z.strictObject({
        amount: money,
        per: z.enum(["day", "month", "total"]),
        mode: z.enum(["hard", "soft"]).optional(),
        alert: z.array(share).optional(),
        team: text.optional(),
        key: text.optional(),
      }),
    )
    .optional(),
  limits: z
    .strictObject({
      rpm: count.optional(),
      rps: decimal("a number of requests per second", 0.01).optional(),
      tpm: count.optional(),
      concurrency: count.optional(),
      weight: decimal("a weight such as 2", 0.01).optional(),
    })
    .optional(),
  models: texts.optional(),
});

const ledger = z.strictObject({
  store: text.optional(),
  outbox: z
    .strictObject({
      dir: text.optional(),
      max: size.optional(),
      on_full: z.enum(["block", "memory"]).optional(),
      durability: z.enum(["strict", "overlapped", "relaxed"]).optional(),
    })
    .optional(),
});

const telemetry = z.strictObject({
  capture_content: flag.optional(),
  traces: z.strictObject({ sample: share.optional(), always: z.array(z.enum(["error", "failover", "experiment"])).optional() }).optional(),
  decisions: z.union([share, z.strictObject({ share: share.optional(), max: size.optional() })]).optional(),
});

const mesh = z.strictObject({
  nats: z.strictObject({ url: text, creds: text.optional() }).optional(),
  tls: z.strictObject({ ca: text, cert: text, key: text }).optional(),
  peers: z.record(text, z.union([text, texts])).optional(),
  listen: listen.optional(),
  advertise: text.optional(),
});

/** `signalbox.yaml` as written: every key it may have, with the unit its value carries. Unknown keys are refused. */
export const fileSchema = z.strictObject({
  version: z.literal(1, { error: "must be 1, the version of this file's format" }),
  server: server.optional(),
  auth: z.strictObject({ mode: z.enum(["open", "keys"]) }).optional(),
  backends: named(backend),
  prices: prices.optional(),
  schedules: named(z.strictObject({ tz: text.optional(), windows: texts })).optional(),
  models: named(model).optional(),
  rules: z.array(rule).optional(),
  classes: z
    .strictObject({ interactive: classSettings.optional(), standard: classSettings.optional(), batch: classSettings.optional() })
    .optional(),
  resilience: resilience.optional(),
  experiments: named(experiment).optional(),
  tenants: named(tenant).optional(),
  ledger: ledger.optional(),
  telemetry: telemetry.optional(),
  mesh: mesh.optional(),
});

/** What the schema makes of a file: keys as written, units resolved, nothing defaulted. */
export type FileConfig = z.output<typeof fileSchema>;
export type FileBackend = FileConfig["backends"][string];

/** The file's JSON Schema (2020-12), for editors. */
export function configSchema(): Record<string, unknown> {
  return {
    ...z.toJSONSchema(fileSchema, { io: "input", unrepresentable: "any" }),
    title: "signalbox.yaml",
    description: "Configuration of Signalbox. Any text may hold ${env:NAME}, ${env:NAME:-default} or ${file:PATH}; keys must.",
  };
}
