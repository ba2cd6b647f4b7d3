import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { AdminDouble, ENTRIES } from "./admin-double.testkit.ts";

const admin = new AdminDouble();
before(() => admin.start());
after(() => admin.stop());

describe("what the command line says of money", () => {
  it("exports one object per line, byte for byte as the ledger gives them", async () => {
    const { code, out } = await admin.run("ledger", "export", "-o", "json");
    assert.equal(code, 0);
    assert.deepEqual(
      out
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as unknown),
      ENTRIES,
    );
  });

  it("shows money, marks estimates and defuses control characters in tables", async () => {
    const { out } = await admin.run("ledger", "export");
    assert.match(out, /\$0\.001235 +ok/);
    assert.match(out, /\$0\.000000~ +failed/);
    assert.ok(!out.includes("\u001b"));
  });

  it("fails when an export breaks off", async () => {
    const { code, err } = await admin.run("ledger", "export", "--tenant", "broken", "-o", "json");
    assert.equal(code, 1);
    assert.match(err, /not complete/);
  });

  it("groups costs and shows what was saved", async () => {
    const { out } = await admin.run("costs", "--by", "team,model");
    assert.match(out, /search +chat +3 +30 +15 +\$1\.500000 +\$0\.000000 +\$6\.000000 +75\.0%/);
  });

  it("writes FOCUS charges: exact dollars, idle rent apart, formulas defused", async () => {
    const { out } = await admin.run("costs", "--focus");
    const [heading, used, idle] = out.split("\r\n");
    assert.match(heading!, /^BilledCost,BillingAccountId,.*,ServiceCategory,.*,Tags$/);
    assert.match(
      used!,
      /^3\.000000002,acme,acme,USD,2026-12-01T00:00:00Z,2026-11-01T00:00:00Z,Usage,,2 requests to gpu,Usage-Based,2026-12-01T00:00:00Z,2026-11-30T00:00:00Z,15,Tokens,/,
    );
    assert.ok(used!.includes(`"'=cmd(""x"")"`));
    assert.match(idle!, /^-0\.000000001,.*idle time of gpu,Recurring,/);
  });

  it("verifies: 0 and the sums when the ledger is sound, 1 and the entry when it was changed", async () => {
    const sound = await admin.run("ledger", "verify");
    assert.deepEqual([sound.code, sound.out.includes("by tenant   $0.000000")], [0, true]);
    admin.isSound = false;
    const changed = await admin.run("ledger", "verify");
    admin.isSound = true;
    assert.equal(changed.code, 1);
    assert.match(changed.out, /7 +hash +changed/);
  });

  it("sends an invoice as it is, shows every difference and answers 1", async () => {
    const file = join(admin.dataDir, "invoice.csv");
    writeFileSync(file, "id,cost\nr1,1\n");
    const { code, out } = await admin.run("ledger", "reconcile", file, "--only", "openai");
    assert.equal(code, 1);
    assert.equal(admin.calls.at(-1)?.body, "id,cost\nr1,1\n");
    assert.match(out, /not_booked +a9 +r9 +gpu +\$0\.002000 +\$0\.000000 +no entry/);
    assert.equal((await admin.run("ledger", "reconcile", join(admin.dataDir, "absent.csv"))).code, 2);
    assert.equal((await admin.run("ledger", "reconcile", "http://127.0.0.1:1/invoice")).code, 3);
  });

  it("lists budgets and rotates keys", async () => {
    assert.match(
      (await admin.run("budgets", "ls")).out,
      /acme\/\*\/month\/hard +2026-11 +\$500\.000000 +\$250\.000000 +50\.0% +\$1\.000000 +2026-12-01T00:00:00Z/,
    );
    const { out } = await admin.run("keys", "rotate", "k1", "--grace", "24h");
    assert.deepEqual(admin.calls.at(-1)?.body, { grace_ms: 86_400_000 });
    assert.match(out, /^sk-new\n\n.*works until 2026-11-02T00:00:00Z/);
  });
});
