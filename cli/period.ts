import type { Command } from "commander";
import { parseMoment } from "./options.ts";

/** A period as the command line gives it, ISO times. */
export interface PeriodGiven {
  readonly since?: string;
  readonly until?: string;
}

/** Adds `--since` and `--until`. */
export function addPeriodOptions(command: Command): Command {
  const moment = (text: string): string => parseMoment(text, Date.now());
  return command
    .option("--since <time>", "from this time on: a date, an ISO time, or an age such as 24h", moment)
    .option("--until <time>", "before this time", moment);
}

/** The period as a query of the admin API. */
export function periodQuery(given: PeriodGiven): URLSearchParams {
  const query = new URLSearchParams();
  if (given.since !== undefined) query.set("since", given.since);
  if (given.until !== undefined) query.set("until", given.until);
  return query;
}
