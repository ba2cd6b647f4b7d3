import type { DatabaseSync } from "node:sqlite";
import type { AnswerRow, Replaced, ScoreRow, ScoreSums } from "./answers.ts";

/** The tables, for the migration that makes them. */
export const SQLITE_SCORE_TABLES = `
  CREATE TABLE answers (tenant TEXT NOT NULL, response_id TEXT NOT NULL, experiment TEXT NOT NULL, arm TEXT NOT NULL,
    revision INTEGER NOT NULL, booked_at_ms INTEGER NOT NULL, PRIMARY KEY (tenant, response_id)) WITHOUT ROWID;
  CREATE INDEX answers_booked ON answers (booked_at_ms);
  CREATE TABLE scores (tenant TEXT NOT NULL, response_id TEXT NOT NULL, metric TEXT NOT NULL, source TEXT NOT NULL, score REAL NOT NULL,
    comment TEXT NOT NULL, at_ms INTEGER NOT NULL, experiment TEXT NOT NULL, arm TEXT NOT NULL, revision INTEGER NOT NULL,
    PRIMARY KEY (tenant, response_id, metric, source)) WITHOUT ROWID;
  CREATE INDEX scores_experiment ON scores (experiment, arm);`;

/** Notes whose answers these are; an id given again is the later answer's. */
export function noteAnswers(database: DatabaseSync, answers: readonly AnswerRow[]): void {
  if (answers.length === 0) return;
  const note = database.prepare("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)");
  for (const each of answers) note.run(each.tenant, each.responseId, each.experiment, each.arm, each.revision, each.bookedAtMs);
}

/** The answer a tenant got under an id. */
export function findAnswer(database: DatabaseSync, tenant: string, responseId: string): AnswerRow | undefined {
  const row = database
    .prepare("SELECT experiment, arm, revision, booked_at_ms FROM answers WHERE tenant = ? AND response_id = ?")
    .get(tenant, responseId);
  if (row === undefined) return undefined;
  return {
    tenant,
    responseId,
    experiment: row["experiment"] as string,
    arm: row["arm"] as string,
    revision: row["revision"] as bigint,
    bookedAtMs: Number(row["booked_at_ms"]),
  };
}

/** Stores a score inside the transaction the database is in. */
export function putScore(database: DatabaseSync, row: ScoreRow): Replaced {
  const before = database
    .prepare("SELECT score FROM scores WHERE tenant = ? AND response_id = ? AND metric = ? AND source = ?")
    .get(row.tenant, row.responseId, row.metric, row.source);
  database
    .prepare("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
    .run(
      row.tenant,
      row.responseId,
      row.metric,
      row.source,
      row.score,
      row.comment,
      Math.floor(row.atMs),
      row.experiment,
      row.arm,
      row.revision,
    );
  return before === undefined ? undefined : Number(before["score"]);
}

/** Sums of an experiment's scores; of all experiments when it is empty. */
export function sumScores(database: DatabaseSync, experiment: string): readonly ScoreSums[] {
  const rows = database
    .prepare(
      `SELECT experiment, arm, revision, metric, source, COUNT(*) AS count, SUM(score) AS sum, SUM(score * score) AS squares FROM scores
       WHERE experiment <> '' AND (? = '' OR experiment = ?) GROUP BY experiment, arm, revision, metric, source
       ORDER BY experiment, arm, revision, metric, source`,
    )
    .all(experiment, experiment);
  return rows.map((row) => ({
    experiment: row["experiment"] as string,
    arm: row["arm"] as string,
    revision: row["revision"] as bigint,
    metric: row["metric"] as string,
    source: row["source"] as string,
    count: Number(row["count"]),
    sum: Number(row["sum"]),
    sumOfSquares: Number(row["squares"]),
  }));
}
