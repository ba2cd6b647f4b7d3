/** The house's import rules as data (house rules, section 2): which room may import which. A room is the longest matching prefix. */
export interface RoomRule {
  readonly room: string;
  /** Prefixes of rooms it may import, besides itself. */
  readonly may: readonly string[];
}

const FLOOR = ["libs/clock", "libs/errors", "proto/gen"];
const LOW = [
  ...FLOOR,
  "libs/config",
  "libs/resilience",
  "libs/telemetry",
  "libs/lifecycle",
  "libs/capability",
  "libs/money",
  "libs/json-bytes",
  "libs/json-schema",
  "libs/live",
  "libs/wire",
];
const LIBS = [...LOW, "libs/statistics", "libs/experiments", "libs/rules", "libs/peers", "libs/bus", "libs/rpc", "libs/outbox"];

/** Who may import whom. Tests (`*.test.ts`, `*.contract.ts`, `testing.ts`) may also import `test/support`. */
export const ROOM_RULES: readonly RoomRule[] = [
  { room: "proto/gen", may: [] },
  { room: "libs/clock", may: [] },
  { room: "libs/errors", may: [] },
  { room: "libs/lifecycle", may: [] },
  { room: "libs/json-bytes", may: FLOOR },
  { room: "libs/live", may: [] },
  { room: "libs/wire", may: ["proto/gen"] },
  { room: "libs/json-schema", may: [] },
  { room: "libs/statistics", may: FLOOR },
  { room: "libs/experiments", may: [...FLOOR, "libs/config", "libs/statistics"] },
  { room: "libs/config", may: FLOOR },
  { room: "libs/capability", may: [...FLOOR, "libs/config"] },
  { room: "libs/rules", may: [...FLOOR, "libs/config", "libs/capability"] },
  { room: "libs/telemetry", may: FLOOR },
  { room: "libs/resilience", may: FLOOR },
  { room: "libs/money", may: [...FLOOR, "libs/config"] },
  { room: "libs/peers", may: FLOOR },
  { room: "libs/bus", may: LOW },
  { room: "libs/outbox", may: [...LOW, "libs/bus"] },
  { room: "libs/rpc", may: [...LOW, "libs/peers", "libs/bus"] },
  { room: "services/ingress", may: LIBS },
  { room: "services/policy-engine", may: LIBS },
  { room: "services/health-monitor", may: LIBS },
  { room: "services/cost-ledger", may: LIBS },
  { room: "services/provider-adapters", may: LIBS },
  { room: "services/console", may: LIBS },
  { room: "simulator", may: LIBS },
  { room: "evaluation", may: [...LIBS, "services"] },
  { room: "evaluation/live", may: [...LIBS, "services", "evaluation", "deploy"] },
  { room: "bench", may: [...LIBS, "services", "simulator", "deploy"] },
  { room: "cli", may: LIBS },
  { room: "deploy", may: [...LIBS, "services", "simulator", "cli", "bench"] },
  { room: "test", may: [...LIBS, "services", "simulator", "cli", "bench", "deploy"] },
];

/** Who owns a third-party package: nobody else imports it. Tests and `bench` are free. */
export const PACKAGE_OWNERS: Readonly<Record<string, readonly string[]>> = {
  "@connectrpc/connect": ["libs/rpc", "services"],
  "@connectrpc/connect-node": ["libs/rpc"],
  "@grpc/grpc-js": ["libs/rpc"],
  "@nats-io/transport-node": ["libs/bus"],
  "@nats-io/jetstream": ["libs/bus"],
  "@nats-io/kv": ["libs/bus"],
  undici: ["services/provider-adapters/upstream"],
  "@opentelemetry/sdk-trace": ["deploy/telemetry.ts"],
  "@opentelemetry/resources": ["deploy/telemetry.ts"],
  "@opentelemetry/api": ["deploy/telemetry.ts", "libs/telemetry"],
  "@opentelemetry/exporter-trace-otlp-grpc": ["deploy/telemetry.ts"],
  "@opentelemetry/exporter-trace-otlp-http": ["deploy/telemetry.ts"],
  "@opentelemetry/exporter-trace-otlp-proto": ["deploy/telemetry.ts"],
  pino: ["libs/telemetry"],
  "prom-client": ["deploy"],
  pg: ["services/cost-ledger", "cli/check", "deploy"],
  yaml: ["libs/config", "deploy"],
  zod: ["libs/config"],
  commander: ["cli"],
  "cli-progress": ["cli", "bench", "evaluation"],
  "@pydantic/genai-prices": ["services/cost-ledger/price-book"],
  "@bufbuild/cel": ["libs/rules"],
};

/** Built-in modules with one owner (house rules, section 2). */
export const BUILTIN_OWNERS: Readonly<Record<string, readonly string[]>> = {
  "node:fs": ["libs/config", "libs/outbox", "services/cost-ledger", "cli", "deploy", "bench", "evaluation"],
  "node:fs/promises": ["libs/config", "libs/outbox", "services/cost-ledger", "cli", "deploy", "bench"],
  "node:sqlite": ["services/cost-ledger"],
  "node:child_process": ["deploy", "bench", "cli", "evaluation/live"],
};

/** Calls that only their owner may make: time, chance and the environment are arguments everywhere else. */
export const CALL_OWNERS: readonly { readonly call: RegExp; readonly name: string; readonly rooms: readonly string[] }[] = [
  { call: /\bDate\.now\(/, name: "Date.now", rooms: ["libs/clock", "deploy", "cli", "bench"] },
  { call: /\bperformance\.now\(/, name: "performance.now", rooms: ["libs/clock", "bench"] },
  { call: /\bMath\.random\(/, name: "Math.random", rooms: ["libs/clock"] },
  { call: /(?<![.\w])set(?:Timeout|Interval)\(/, name: "setTimeout/setInterval", rooms: ["libs/clock", "bench", "deploy/signals.ts"] },
  { call: /\bprocess\.env\b/, name: "process.env", rooms: ["libs/config", "deploy", "cli", "bench", "evaluation"] },
  { call: /\beval\(|\bnew Function\(/, name: "eval", rooms: [] },
  { call: /(?<![.\w])fetch\(/, name: "fetch", rooms: ["cli", "bench", "deploy"] },
];
