import type { ObservationRow } from "./source-rows.ts";

export const ALL_OBSERVATIONS = "SELECT experiment, source, run, at_ms, state FROM observations";

/** A source's later word stands against an earlier one that took longer. */
export const SAVE_OBSERVATIONS = `
  INSERT INTO observations SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::int8[], $5::text[])
  ON CONFLICT (experiment, source) DO UPDATE SET run = EXCLUDED.run, at_ms = EXCLUDED.at_ms, state = EXCLUDED.state
  WHERE observations.at_ms <= EXCLUDED.at_ms`;

/** Parameters of SAVE_OBSERVATIONS: one list per column. */
export function observationColumns(rows: readonly ObservationRow[]): (readonly (string | number)[])[] {
  return [
    rows.map(({ experiment }) => experiment),
    rows.map(({ source }) => source),
    rows.map(({ run }) => run),
    rows.map(({ atMs }) => Math.floor(atMs)),
    rows.map(({ state }) => state),
  ];
}

/** A row as read. */
export function observationRow(row: Readonly<Record<string, unknown>>): ObservationRow {
  return {
    experiment: row["experiment"] as string,
    source: row["source"] as string,
    run: row["run"] as string,
    atMs: Number(row["at_ms"]),
    state: row["state"] as string,
  };
}
