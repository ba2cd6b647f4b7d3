import type pg from "pg";
import { integers, texts } from "../postgres-binary.ts";
import type { AnswerRow, Replaced, ScoreRow, ScoreSums } from "./answers.ts";

/** The tables, for the migration that makes them. */
export const POSTGRES_SCORE_TABLES = `
  CREATE TABLE answers (tenant text NOT NULL, response_id text NOT NULL, experiment text NOT NULL, arm text NOT NULL,
    revision int8 NOT NULL, booked_at_ms int8 NOT NULL, PRIMARY KEY (tenant, response_id));
  CREATE INDEX answers_booked ON answers (booked_at_ms);
  CREATE TABLE scores (tenant text NOT NULL, response_id text NOT NULL, metric text NOT NULL, source text NOT NULL, score float8 NOT NULL,
    comment text NOT NULL, at_ms int8 NOT NULL, experiment text NOT NULL, arm text NOT NULL, revision int8 NOT NULL,
    PRIMARY KEY (tenant, response_id, metric, source));
  CREATE INDEX scores_experiment ON scores (experiment, arm);`;

const NOTE = `INSERT INTO answers SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int8[], $6::int8[])
  ON CONFLICT (tenant, response_id) DO UPDATE SET experiment = excluded.experiment, arm = excluded.arm, revision = excluded.revision,
    booked_at_ms = excluded.booked_at_ms`;

/** Notes whose answers these are; an id given again is the later answer's. */
export async function noteAnswers(client: pg.PoolClient, answers: readonly AnswerRow[]): Promise<void> {
  if (answers.length === 0) return;
  const values = [
    texts(answers.map(({ tenant }) => tenant)),
    texts(answers.map(({ responseId }) => responseId)),
    texts(answers.map(({ experiment }) => experiment)),
    texts(answers.map(({ arm }) => arm)),
    integers(answers.map(({ revision }) => revision)),
    integers(answers.map(({ bookedAtMs }) => bookedAtMs)),
  ];
  await client.query({ name: "note-answers", text: NOTE, values });
}

/** Query and reading of the answer a tenant got under an id. */
export const FIND_ANSWER = "SELECT experiment, arm, revision, booked_at_ms FROM answers WHERE tenant = $1 AND response_id = $2";

/** A row of {@link FIND_ANSWER}. */
export function answerRow(tenant: string, responseId: string, row: Readonly<Record<string, unknown>>): AnswerRow {
  return {
    tenant,
    responseId,
    experiment: row["experiment"] as string,
    arm: row["arm"] as string,
    revision: BigInt(row["revision"] as string),
    bookedAtMs: Number(row["booked_at_ms"]),
  };
}

/** Stores a score inside the transaction `client` is in. */
export async function putScore(client: pg.PoolClient, row: ScoreRow): Promise<Replaced> {
  const key = [row.tenant, row.responseId, row.metric, row.source];
  const { rows } = await client.query<{ score: number }>(
    "SELECT score FROM scores WHERE tenant = $1 AND response_id = $2 AND metric = $3 AND source = $4 FOR UPDATE",
    key,
  );
  await client.query(
    `INSERT INTO scores VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
     ON CONFLICT (tenant, response_id, metric, source) DO UPDATE SET score = excluded.score, comment = excluded.comment, at_ms = excluded.at_ms,
       experiment = excluded.experiment, arm = excluded.arm, revision = excluded.revision`,
    [...key, row.score, row.comment, Math.floor(row.atMs), row.experiment, row.arm, row.revision.toString()],
  );
  return rows[0]?.score;
}

/** Sums of the experiment $1; of all experiments when it is empty. */
export const SUM_SCORES = `SELECT experiment, arm, revision, metric, source, COUNT(*)::int8 AS count, SUM(score) AS sum, SUM(score * score) AS squares
  FROM scores WHERE experiment <> '' AND ($1::text = '' OR experiment = $1) GROUP BY experiment, arm, revision, metric, source
  ORDER BY experiment, arm, revision, metric, source`;

/** A row of {@link SUM_SCORES}. */
export function sumsRow(row: Readonly<Record<string, unknown>>): ScoreSums {
  return {
    experiment: row["experiment"] as string,
    arm: row["arm"] as string,
    revision: BigInt(row["revision"] as string),
    metric: row["metric"] as string,
    source: row["source"] as string,
    count: Number(row["count"]),
    sum: Number(row["sum"]),
    sumOfSquares: Number(row["squares"]),
  };
}
