import { create } from "@bufbuild/protobuf";
import {
  PriceTierSchema,
  ScheduledPriceSchema,
  ScheduleSchema,
  ServiceTierPriceSchema,
  type PriceLine,
  type PriceTier,
  type Schedule,
  type ScheduledPrice,
  type ServiceTierPrice,
} from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import type { PriceFields } from "#libs/config/model.ts";
import { blankLine } from "#libs/money/index.ts";

const DAY_MINUTES = 24 * 60;

/** A line of the configuration's fields; what they do not state stays unpriced. */
export function lineOf(backend: string, fields: PriceFields, source: string): PriceLine {
  const line = blankLine(backend);
  line.inputPico = fields.inputPico ?? -1n;
  line.cacheReadPico = fields.cacheReadPico ?? -1n;
  line.cacheWritePico = fields.cacheWritePico ?? -1n;
  line.cacheWrite1hPico = fields.cacheWrite1hPico ?? -1n;
  line.outputPico = fields.outputPico ?? -1n;
  line.reasoningPico = fields.reasoningPico ?? -1n;
  line.audioInputPico = fields.audioInputPico ?? -1n;
  line.audioOutputPico = fields.audioOutputPico ?? -1n;
  line.imageInputPico = fields.imageInputPico ?? -1n;
  line.perRequestNano = fields.perRequestNano ?? -1n;
  line.webSearchNano = fields.webSearchNano ?? -1n;
  line.perHourNano = fields.perHourNano ?? -1n;
  line.grade = line.perHourNano > 0n ? "rate" : "override";
  line.source = source;
  return line;
}

/** Prices above a prompt size. */
export function tier(aboveTokens: number, line: PriceLine): PriceTier {
  return create(PriceTierSchema, { aboveTokens, line });
}

/** Prices under a schedule. */
export function scheduledPrice(schedule: string, line: PriceLine): ScheduledPrice {
  return create(ScheduledPriceSchema, { schedule, line });
}

/** Prices of a service tier. */
export function serviceTier(name: string, line: PriceLine): ServiceTierPrice {
  return create(ServiceTierPriceSchema, { tier: name, line });
}

/** A schedule of the same UTC hours every day, from `HH:MM:SSZ` texts; over midnight when the end comes first. */
export function dailyWindows(start: string, end: string): Schedule {
  const from = minuteOf(start);
  const to = minuteOf(end);
  const windows: number[] = [];
  for (let day = 0; day < 7; day++) {
    const base = day * DAY_MINUTES;
    if (to > from) windows.push(base + from, base + to);
    else windows.push(base, base + to, base + from, base + DAY_MINUTES);
  }
  return create(ScheduleSchema, { name: `utc ${start}-${end}`, tz: "UTC", windows });
}

function minuteOf(text: string): number {
  return Number(text.slice(0, 2)) * 60 + Number(text.slice(3, 5));
}
