import { create } from "@bufbuild/protobuf";
import { UsageSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { AttemptRecordSchema, RecordKind, type AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { Outcome, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { defaultBackend, defaultConfig, NO_PRICES } from "#libs/config/index.ts";
import type { BackendConfig, Config } from "#libs/config/model.ts";
import { costOf, type PriceIndex } from "#libs/money/index.ts";

/** Who calls: keys of teams of tenants, the first ones most of all. */
const TENANTS = 20;
const TEAMS_PER_TENANT = 5;
const KEYS_PER_TEAM = 2;
const MODELS = ["chat", "chat-large", "summarise", "extract", "code", "embed"];
/** Backends of one model: two engines of one's own and one in the cloud. */
const BACKENDS_PER_MODEL = 3;
/** Entries of the month: fewer are its first part, so that hours are as dense as in a whole one. */
const PER_MONTH = 10_000_000;
/** The month the entries are of. */
export const MONTH_FROM_MS = Date.UTC(2026, 9, 1);
export const MONTH_UNTIL_MS = Date.UTC(2026, 10, 1);
/** Share of attempts that are retries, of entries that arrive late (up to a day), and of estimates. */
const RETRY_SHARE = 0.02;
const LATE_SHARE = 0.01;
const DAY_MS = 86_400_000;

/** The ledger's configuration: priced backends for every model. */
export function ledgerConfig(store: Config["ledger"]["store"]): Config {
  const backends = new Map<string, BackendConfig>();
  for (const model of MODELS) {
    for (let number = 0; number < BACKENDS_PER_MODEL; number++) {
      const name = `${model}-${number}`;
      const price = { ...NO_PRICES, inputPico: BigInt(250_000 * (number + 1)), outputPico: BigInt(2_000_000 * (number + 1)) };
      backends.set(name, defaultBackend({ name, provider: number === 2 ? "openai" : "vllm", model: `org/${model}`, price }));
    }
  }
  return defaultConfig({ backends, ledger: { ...defaultConfig().ledger, store } });
}

/** Making messages field by field is slower than the ledger; these are copied. */
const NO_USAGE = { ...create(UsageSchema) };
const NO_RECORD = { ...create(AttemptRecordSchema) };

/** Settled attempts of one month in the order of time, some late, as ingresses would write them. */
export class Traffic {
  readonly #random = new SeededRandom(20_261_001);
  readonly #prices: PriceIndex;
  readonly #perMonth: number;
  #made = 0;

  constructor(prices: PriceIndex, entries: number) {
    this.#prices = prices;
    this.#perMonth = Math.max(PER_MONTH, entries);
  }

  /** The next attempt's settlement. */
  next(): AttemptRecord {
    const random = this.#random;
    const number = this.#made++;
    const step = ((MONTH_UNTIL_MS - MONTH_FROM_MS) * number) / this.#perMonth;
    const late = random.next() < LATE_SHARE ? random.next() * DAY_MS : 0;
    const startedMs = Math.max(MONTH_FROM_MS, MONTH_FROM_MS + step - late);
    // The product of two uniform numbers: few callers make most of the traffic.
    const key = Math.floor(random.next() * random.next() * TENANTS * TEAMS_PER_TENANT * KEYS_PER_TEAM);
    const team = Math.floor(key / KEYS_PER_TEAM);
    const model = MODELS[Math.floor(random.next() * random.next() * MODELS.length)]!;
    const backend = random.int(BACKENDS_PER_MODEL);
    const isRetry = random.next() < RETRY_SHARE;
    const usage = {
      ...NO_USAGE,
      inputTokens: 100 + random.int(3_000),
      cacheReadTokens: random.next() < 0.4 ? random.int(2_000) : 0,
      outputTokens: 1 + random.int(600),
    };
    const id = attemptId(startedMs, number, random);
    const cost = costOf(this.#prices, `${model}-${backend}`, usage, startedMs);
    return {
      ...NO_RECORD,
      kind: RecordKind.POST,
      attemptId: id,
      requestId: `req_${id}`,
      decisionId: id,
      attempt: isRetry ? 2 : 1,
      tenant: `tenant-${Math.floor(team / TEAMS_PER_TENANT)}`,
      team: `team-${team}`,
      keyId: `key_${key}`,
      tags: { feature: `f${random.int(10)}`, user: `u${random.int(5_000)}` },
      model,
      backend: `${model}-${backend}`,
      provider: backend === 2 ? "openai" : "vllm",
      upstreamModel: `org/${model}`,
      priceVersion: cost.priceVersion,
      reservedNanoUsd: cost.nanoUsd * 3n,
      startedAtUs: BigInt(Math.floor(startedMs * 1000)),
      durationMs: 200 + random.int(9_000),
      ttftMs: 50 + random.int(900),
      outcome: isRetry && number % 3 === 0 ? Outcome.FAILED : Outcome.OK,
      usage,
      costNanoUsd: cost.nanoUsd,
      responseId: `chatcmpl-${id}`,
      requestClass: RequestClass.INTERACTIVE,
      priceGrade: cost.grade,
      purpose: isRetry ? "waste_retry" : "billed",
      stream: true,
    };
  }
}

/** A UUIDv7: time first, so that the index of attempts grows at its end as in operation. */
function attemptId(atMs: number, number: number, random: SeededRandom): string {
  const time = Math.floor(atMs).toString(16).padStart(12, "0");
  const low = number.toString(16).padStart(12, "0");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex(random, 3)}-8${hex(random, 3)}-${low}`;
}

function hex(random: SeededRandom, digits: number): string {
  return random
    .int(16 ** digits)
    .toString(16)
    .padStart(digits, "0");
}
