import { ROLLUP_COLUMNS, ROLLUP_DIMENSIONS, ROLLUP_SUMS, DAY_HOURS, rollUp } from "./rollups.ts";
import type { EntryRow } from "./entries/index.ts";

/** Sums of roll-ups over everything with one name, in the order of {@link ROLLUP_SUMS}. */
export interface RollupCut {
  /** A dimension, or `hour`. */
  readonly by: string;
  readonly name: string;
  readonly sums: readonly bigint[];
}

/** What the roll-ups say, as of one entry. */
export interface RollupSums {
  /** Last entry they hold. */
  readonly sequence: bigint;
  /** Rows in which the roll-ups by the day are not the sums of those by the hour. */
  readonly differing: bigint;
  /** By every dimension from the days, by the hour from the hours. */
  readonly cuts: readonly RollupCut[];
}

const SUMMED = ROLLUP_SUMS.map(({ name }) => `SUM(${name})`).join(", ");
const ZEROS = ROLLUP_SUMS.slice(1)
  .map(() => "0")
  .join(", ");
const AS_DAYS = `SELECT hour - hour % ${DAY_HOURS} AS day, ${ROLLUP_DIMENSIONS.join(", ")}, ${SUMMED} FROM rollups GROUP BY hour - hour % ${DAY_HOURS}, ${ROLLUP_DIMENSIONS.join(", ")}`;
const DAYS = `SELECT ${ROLLUP_COLUMNS.join(", ")} FROM rollup_days`;
const count = (rows: string): string => `(SELECT COUNT(*) FROM (${rows}) AS differing)`;

/** Everything that is checked, in one statement because that is one snapshot. Both databases understand it. */
export const ROLLUP_CHECK = [
  `SELECT 'sequence' AS cut, '' AS name, COALESCE((SELECT MAX(sequence) FROM entries), 0), ${ZEROS}`,
  `SELECT 'differing', '', ${count(`${AS_DAYS} EXCEPT ${DAYS}`)} + ${count(`${DAYS} EXCEPT ${AS_DAYS}`)}, ${ZEROS}`,
  `SELECT 'hour', CAST(hour AS TEXT), ${SUMMED} FROM rollups GROUP BY hour`,
  ...ROLLUP_DIMENSIONS.map((name) => `SELECT '${name}', ${name}, ${SUMMED} FROM rollup_days GROUP BY ${name}`),
].join(" UNION ALL ");

/** The answer to {@link ROLLUP_CHECK}: rows as lists of cells. */
export function rollupSumsOf(rows: readonly (readonly unknown[])[]): RollupSums {
  const cuts = rows.map(([by, name, ...sums]) => ({
    by: by as string,
    name: name as string,
    sums: sums.map((sum) => BigInt(sum as string | bigint)),
  }));
  const one = (by: string): bigint => cuts.find((cut) => cut.by === by)!.sums[0]!;
  return {
    sequence: one("sequence"),
    differing: one("differing"),
    cuts: cuts.filter(({ by }) => by !== "sequence" && by !== "differing"),
  };
}

/** The same cuts, added up from entries. */
export class EntryCuts {
  readonly #cuts = new Map<string, RollupCut & { readonly sums: bigint[] }>();

  add(rows: readonly EntryRow[]): void {
    for (const { hour, dimensions, sums } of rollUp(rows)) {
      this.#addTo("hour", String(hour), sums);
      for (const [index, by] of ROLLUP_DIMENSIONS.entries()) this.#addTo(by, dimensions[index]!, sums);
    }
  }

  /** Sum of one of the columns over all names of a cut. */
  total(by: string, sum: (typeof ROLLUP_SUMS)[number]["name"]): bigint {
    const index = ROLLUP_SUMS.findIndex(({ name }) => name === sum);
    let total = 0n;
    for (const cut of this.#cuts.values()) if (cut.by === by) total += cut.sums[index]!;
    return total;
  }

  /** Where the roll-ups say something else, in words. */
  *differences(rolled: RollupSums): Generator<string> {
    const left = new Map(this.#cuts);
    for (const { by, name, sums } of rolled.cuts) {
      const key = keyOf(by, name);
      const own = left.get(key);
      left.delete(key);
      yield* differencesOf(by, name, own?.sums ?? NOTHING, sums);
    }
    for (const { by, name, sums } of left.values()) yield* differencesOf(by, name, sums, NOTHING);
    if (rolled.differing > 0n) yield `${rolled.differing} roll-ups by the day are not the sums of those by the hour`;
  }

  #addTo(by: string, name: string, sums: readonly bigint[]): void {
    const key = keyOf(by, name);
    const cut = this.#cuts.get(key);
    if (cut === undefined) this.#cuts.set(key, { by, name, sums: [...sums] });
    else for (const [index, amount] of sums.entries()) cut.sums[index]! += amount;
  }
}

const NOTHING: readonly bigint[] = ROLLUP_SUMS.map(() => 0n);

function keyOf(by: string, name: string): string {
  return `${by}\0${name}`;
}

function* differencesOf(by: string, name: string, entries: readonly bigint[], rollups: readonly bigint[]): Generator<string> {
  for (const [index, sum] of ROLLUP_SUMS.entries()) {
    if (entries[index] === rollups[index]) continue;
    yield `${by} ${JSON.stringify(name)}: the entries' ${sum.name} come to ${entries[index]}, the roll-ups' to ${rollups[index]}`;
  }
}
