import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { after, before, test, type TestContext } from "node:test";
import pg from "pg";
import { parse, stringify } from "yaml";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";
import { startGateway, type Gateway } from "../support/gateway.ts";
import { endings, sendLoad } from "../support/load.ts";
import { attemptsSeen, simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

/** What happens to PostgreSQL. */
type Outage = "down" | "slow" | "refusing";

/** How long and how hard. */
export interface OutageScale {
  readonly outages: readonly Outage[];
  /** How long each lasts under load, ms. */
  readonly outageMs: number;
  /** Outages during which ledger and ingress are killed and boot again. */
  readonly boots: readonly Outage[];
  /** How long the load goes on after those boots, ms: a killed ledger's successor gets what that one had in hand some seconds later. */
  readonly afterBootMs: number;
  /** Longest from PostgreSQL's first answer until unknown keys are answered and everything that waited is booked, ms; undefined = measured only. */
  readonly recoveryMs?: number;
}

const CLIENTS = 8;
/** Requests of one burst, and how often one begins at most, ms: 500 requests a second. */
const BURST = 100;
const BURST_MS = 200;
/** What a slow PostgreSQL takes for a query, ms. */
const SLOW_MS = 5_000;
/** Between looks at what is being waited for, ms. */
const LOOK_MS = 50;
/** Disk the outbox gets where its bound is tested, KiB. */
const OUTBOX_KIB = 256;
/** What it may take beyond that: settlements of what was in flight, KiB. */
const OUTBOX_SLACK_KIB = 128;

/** A9: PostgreSQL goes, crawls, or refuses; nobody with a known key notices, and nobody else is told a lie. */
export function outageSuite({ outages, outageMs, boots, afterBootMs, recoveryMs }: OutageScale): void {
  let gateway: Gateway;
  let simulation: Simulation;
  let proxy: FaultProxy;
  let key = "";

  const post = async (bearer: string): Promise<{ status: number; code: string }> => {
    const answer = await fetch(`${gateway.api}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${bearer}` },
      body: JSON.stringify({ model: "chat", messages: [{ role: "user", content: "[sim tokens=4] who is there" }] }),
    });
    const { error } = (await answer.json()) as { error?: { code: string } };
    return { status: answer.status, code: error?.code ?? "" };
  };
  const unknown = (): Promise<{ status: number; code: string }> => post("sk-sbx-nobodyhasthiskey");

  const until = async (isSo: () => Promise<boolean>): Promise<number> => {
    const started = performance.now();
    while (!(await isSo())) await sleep(LOOK_MS);
    return performance.now() - started;
  };

  const booked = async (): Promise<number> => Number((await gateway.adminCall("GET", "/api/ledger/summary")).json["entries"]);

  const begin = async (outage: Outage): Promise<void> => {
    if (outage === "down") gateway.postgres!.kill();
    else await proxy.set(outage === "slow" ? { kind: "delay", ms: SLOW_MS } : { kind: "refuse" });
  };
  const end = async (outage: Outage): Promise<void> => {
    if (outage === "down") gateway.postgres!.revive();
    else await proxy.set({ kind: "pass" });
  };

  /** Kills a process and resolves when it is ready again. */
  const reboot = async (name: string): Promise<void> => {
    const mesh = gateway.mesh!;
    const pid = mesh.child(name).pid();
    mesh.child(name).signal("SIGKILL");
    while (mesh.child(name).pid() === pid) await sleep(20);
    mesh.child(name).start();
    await mesh.ready(name);
  };

  before(async () => {
    simulation = await startSimulation([simulatedBackend("a", "openai", 1), simulatedBackend("b", "openai", 2)]);
    gateway = await startGateway({
      topology: "mesh",
      scale: { adapterAnthropic: 0, adapterOpenai: 1 },
      database: async (port) => (proxy = await startFaultProxy(port)).port,
      config: { auth: { mode: "keys" }, backends: simulation.backends, models: { chat: { candidates: ["a", "b"] } } },
    });
    const made = await gateway.adminCall("POST", "/api/keys", { tenant: "acme" });
    assert.ok(made.status < 300, JSON.stringify(made));
    key = made.json["key"] as string;
    await until(async () => (await post(key)).status === 200 && (await unknown()).status === 401);
  });

  after(async () => {
    await gateway?.stop();
    await proxy?.stop();
    await simulation?.stop();
  });

  /** Sends bursts with the known key for a while; asks with the unknown one beside it. Returns what the unknown one was told. */
  async function load(t: TestContext, forMs: number): Promise<Record<string, number>> {
    const told: Record<string, number> = {};
    const startMs = performance.now();
    let served = 0;
    do {
      await sleep(Math.max(0, startMs + (served / BURST) * BURST_MS - performance.now()));
      const lines = await sendLoad({
        api: gateway.api,
        count: BURST,
        concurrency: CLIENTS,
        model: "chat",
        prompt: (index) => `[sim tokens=8] question ${index}`,
        headers: { authorization: `Bearer ${key}` },
      });
      assert.deepEqual(endings(lines), { complete: BURST }, "requests with a known key");
      served += BURST;
      const { status, code } = await unknown();
      told[`${status} ${code}`] = (told[`${status} ${code}`] ?? 0) + 1;
    } while (performance.now() - startMs < forMs);
    t.diagnostic(`${served} requests with a known key, 0 failed; an unknown one: ${JSON.stringify(told)}`);
    return told;
  }

  for (const outage of outages) {
    test(`PostgreSQL ${outage} for ${outageMs / 1000} s: known keys work, unknown ones wait, and it heals by itself`, async (t) => {
      const before = await booked();
      await begin(outage);
      const noticedMs = await until(async () => (await unknown()).status !== 401);
      const told = await load(t, outageMs);
      if (boots.includes(outage)) {
        await Promise.all([reboot("cost-ledger"), reboot("ingress")]);
        for (const [what, count] of Object.entries(await load(t, afterBootMs))) told[what] = (told[what] ?? 0) + count;
      }
      assert.deepEqual(Object.keys(told), ["503 key_store_unavailable"]);
      const backlog = attemptsSeen(simulation) - before;
      await end(outage);
      const healed = until(async () => (await unknown()).status === 401);
      const caughtUp = until(async () => (await booked()) >= attemptsSeen(simulation));
      const answered = until(() => answers(gateway.postgres!.url));
      const [keysMs, ledgerMs, answeredMs] = await Promise.all([healed, caughtUp, answered]);
      t.diagnostic(
        `noticed after ${Math.round(noticedMs)} ms; PostgreSQL answered ${Math.round(answeredMs)} ms after its return, keys healed after ${Math.round(keysMs)} ms, and the ${backlog} attempts that waited were booked after ${Math.round(ledgerMs)} ms`,
      );
      assert.equal(await booked(), attemptsSeen(simulation));
      if (recoveryMs === undefined) return;
      assert.ok(keysMs - answeredMs <= recoveryMs, `keys healed ${keysMs - answeredMs} ms after PostgreSQL answered`);
      assert.ok(ledgerMs - answeredMs <= recoveryMs, `the backlog was booked ${ledgerMs - answeredMs} ms after PostgreSQL answered`);
    });
  }

  test("a full outbox refuses new requests with 503, stays within its bound, and loses nothing", async (t) => {
    const file = join(gateway.dir, "signalbox.yaml");
    const config = parse(readFileSync(file, "utf8")) as { ledger: Record<string, unknown> };
    writeFileSync(file, stringify({ ...config, ledger: { ...config.ledger, outbox: { max: `${OUTBOX_KIB}KiB`, on_full: "block" } } }));
    await reboot("ingress");
    const folder = join(gateway.mesh!.dataDir("ingress"), "outbox");
    // What was written before is booked, and leaves the disk.
    await until(async () => sizeOf(folder) < (OUTBOX_KIB / 4) * 1024);
    await proxy.set({ kind: "refuse" });
    await until(async () => (await unknown()).status !== 401);
    let served = 0;
    const seen = attemptsSeen(simulation);
    const refusal = await (async () => {
      for (;;) {
        const answers = await Promise.all(Array.from({ length: CLIENTS }, () => post(key)));
        served += answers.filter(({ status }) => status === 200).length;
        const refused = answers.find(({ status }) => status !== 200);
        if (refused) return refused;
      }
    })();
    const bytes = sizeOf(folder);
    t.diagnostic(`${served} requests until ${OUTBOX_KIB} KiB were full: then ${refusal.status} ${refusal.code}; ${bytes} bytes on disk`);
    assert.deepEqual([refusal.status, refusal.code], [503, "ledger_unavailable"]);
    assert.ok(bytes <= (OUTBOX_KIB + OUTBOX_SLACK_KIB) * 1024, `${bytes} bytes`);
    assert.equal(attemptsSeen(simulation) - seen, served, "what is refused never leaves");
    await proxy.set({ kind: "pass" });
    await until(async () => (await post(key)).status === 200);
    await until(async () => (await booked()) >= attemptsSeen(simulation));
    assert.equal(await booked(), attemptsSeen(simulation));
  });
}

/** Whether PostgreSQL answers a query. */
async function answers(connectionString: string): Promise<boolean> {
  const client = new pg.Client({ connectionString });
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.query("SELECT 1");
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

function sizeOf(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}
