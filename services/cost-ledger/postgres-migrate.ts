import type pg from "pg";
import { MIGRATIONS } from "./postgres-migrations.ts";

/** Advisory lock of this program: one migrator over all processes. */
const MIGRATION_LOCK = 7_201_002;

/** Everything the ledger does after migrating, it does as this role: it may add entries and never change or remove one. */
export const WRITER_ROLE = "signalbox_ledger_writer";

/**
 * Makes the writer role and gives it what it needs. False where this server does not let the login make roles (or use one
 * that is there): the trigger then stands alone. Roles belong to the whole server, so another database may have made it.
 */
export async function makeWriterRole(client: pg.ClientBase): Promise<boolean> {
  await client.query("BEGIN");
  try {
    await client.query("SELECT pg_advisory_xact_lock($1)", [MIGRATION_LOCK]);
    const { rows } = await client.query<{ able: boolean }>(
      `SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1) OR (SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user) AS able`,
      [WRITER_ROLE],
    );
    if (rows[0]?.able === true) await client.query(GRANTS);
    await client.query("COMMIT");
    if (rows[0]?.able !== true) return false;
    // Only a role that can be taken is worth having.
    await client.query(`SET ROLE ${WRITER_ROLE}`);
    await client.query("RESET ROLE");
    return true;
  } catch {
    await client.query("ROLLBACK").catch(() => undefined);
    return false;
  }
}

const GRANTS = `
  DO $$ BEGIN CREATE ROLE ${WRITER_ROLE} NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
  DO $$ BEGIN EXECUTE format('GRANT ${WRITER_ROLE} TO %I', current_user); EXCEPTION WHEN OTHERS THEN NULL; END $$;
  DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO ${WRITER_ROLE}', current_schema()); END $$;
  REVOKE ALL ON entries FROM ${WRITER_ROLE};
  GRANT SELECT, INSERT ON entries TO ${WRITER_ROLE};
  GRANT SELECT, INSERT ON price_books, price_periods TO ${WRITER_ROLE};
  GRANT SELECT, INSERT, UPDATE ON rollups, rollup_days, control, counters, rents, budgets, scores TO ${WRITER_ROLE};
  GRANT SELECT, INSERT, UPDATE, DELETE ON answers, observations TO ${WRITER_ROLE};
`;

/** Brings the schema up to date, once over all processes. */
export async function migrate(client: pg.ClientBase): Promise<void> {
  await client.query("BEGIN");
  try {
    await client.query("SELECT pg_advisory_xact_lock($1)", [MIGRATION_LOCK]);
    await client.query("CREATE TABLE IF NOT EXISTS schema_version (version int4 NOT NULL)");
    const { rows } = await client.query<{ version: number }>("SELECT version FROM schema_version");
    const version = rows[0]?.version ?? 0;
    if (version < MIGRATIONS.length) {
      for (const migration of MIGRATIONS.slice(version)) await client.query(migration);
      await client.query("DELETE FROM schema_version");
      await client.query("INSERT INTO schema_version VALUES ($1)", [MIGRATIONS.length]);
    }
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}
