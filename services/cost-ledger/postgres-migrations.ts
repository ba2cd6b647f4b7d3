import { COLUMNS } from "./columns.ts";
import { PRICE_PERIODS_FILL } from "./price-periods.ts";
import { POSTGRES_SCORE_TABLES } from "./scores/postgres-scores.ts";
import { ROLLUP_DAYS_FILL, ROLLUP_DIMENSIONS, ROLLUP_FILL, ROLLUP_SUMS, UNPRICED_INDEX } from "./rollups.ts";

/** Applied in order, each once; `schema_version` counts them. Entries are append-only: the trigger refuses anything else. */
export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE entries (${COLUMNS.map(({ name, postgres }) => `${name} ${postgres} NOT NULL`).join(", ")},
     PRIMARY KEY (sequence), UNIQUE (attempt_id, part));
   CREATE INDEX entries_started ON entries (started_at_us);
   CREATE FUNCTION entries_append_only() RETURNS trigger LANGUAGE plpgsql AS
     $$ BEGIN RAISE EXCEPTION 'entries are append-only'; END $$;
   CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
     FOR EACH STATEMENT EXECUTE FUNCTION entries_append_only();
   CREATE TABLE price_books (version text PRIMARY KEY, first_seen_ms int8 NOT NULL, book bytea NOT NULL);
   CREATE TABLE control (id int2 PRIMARY KEY CHECK (id = 1), revision int8 NOT NULL, state bytea NOT NULL);
   CREATE TABLE counters (name text PRIMARY KEY, value int8 NOT NULL);
   INSERT INTO counters VALUES ('duplicates', 0);`,
  `CREATE TABLE rollups (hour int8 NOT NULL, ${ROLLUP_DIMENSIONS.map((name) => `${name} text NOT NULL`).join(", ")},
     ${ROLLUP_SUMS.map(({ name }) => `${name} int8 NOT NULL`).join(", ")},
     PRIMARY KEY (hour, ${ROLLUP_DIMENSIONS.join(", ")})) WITH (fillfactor = 70);
   CREATE TABLE budgets (key text PRIMARY KEY, revision int8 NOT NULL, state text NOT NULL);
   CREATE TABLE rents (backend text PRIMARY KEY, since_ms int8 NOT NULL);
   ${ROLLUP_FILL};`,
  POSTGRES_SCORE_TABLES,
  `CREATE TABLE rollup_days (hour int8 NOT NULL, ${ROLLUP_DIMENSIONS.map((name) => `${name} text NOT NULL`).join(", ")},
     ${ROLLUP_SUMS.map(({ name }) => `${name} int8 NOT NULL`).join(", ")},
     PRIMARY KEY (hour, ${ROLLUP_DIMENSIONS.join(", ")})) WITH (fillfactor = 50);
   ${ROLLUP_DAYS_FILL};`,
  `CREATE TABLE observations (experiment text NOT NULL, source text NOT NULL, run text NOT NULL, at_ms int8 NOT NULL, state text NOT NULL,
     PRIMARY KEY (experiment, source));`,
  `CREATE TABLE price_periods (since_ms int8 NOT NULL, version text NOT NULL, PRIMARY KEY (since_ms, version));
   ${PRICE_PERIODS_FILL};`,
  UNPRICED_INDEX,
];
