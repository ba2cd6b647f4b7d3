import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { AdminDouble, DECISION } from "./admin-double.testkit.ts";
import { pick } from "./testing.ts";

const admin = new AdminDouble();
before(() => admin.start());
after(() => admin.stop());

describe("the command line over the admin API", () => {
  it("sends the token of the data folder", async () => {
    await admin.run("backends", "ls");
    assert.deepEqual(admin.calls.at(-1), { line: "GET /api/backends", token: "Bearer token-1", body: undefined });
  });

  it("prints a made key as one object of four fields", async () => {
    const { code, out } = await admin.run(
      "keys",
      "create",
      "--tenant",
      "acme",
      "--team",
      "search",
      "--models",
      "chat, vision",
      "-o",
      "json",
    );
    assert.equal(code, 0);
    assert.equal(out, '{"id":"k1","key":"sk-signalbox-1","tenant":"acme","team":"search"}\n');
    assert.deepEqual(admin.calls.at(-1)?.body, { tenant: "acme", team: "search", models: ["chat", "vision"] });
  });

  it("shows a made key first and says that it is shown once", async () => {
    const { out } = await admin.run("keys", "create", "--tenant", "acme");
    assert.match(out, /^sk-signalbox-1\n[^]*not shown again/);
  });

  it("aligns tables", async () => {
    const { out } = await admin.run("keys", "ls", "--tenant", "acme");
    const [title = "", row = ""] = out.split("\n");
    assert.equal(title.indexOf("TENANT"), row.indexOf("acme"));
    assert.equal(title.indexOf("MODELS"), row.indexOf("chat"));
  });

  it("encodes what it puts into a path", async () => {
    const { code, out } = await admin.run("backends", "drain", "openai/gpt-5");
    assert.equal(code, 0);
    assert.match(out, /openai\/gpt-5 drains/);
  });

  it("prints a decision as it came with -o json, and as a table without", async () => {
    assert.deepEqual(JSON.parse((await admin.run("explain", "--last", "-o", "json")).out), DECISION);
    const { out } = await admin.run("explain", "r1");
    assert.match(out, /\* +gpu +80ms +20ms +\$0\.000041 +\$0\.000000 +0 +2 +412\.3 +free\n/);
    assert.match(out, /^targets: first token 600ms, each further -\nwaited: 1\.25s\nchosen: gpu$/m);
    assert.match(out, /cloud .*residency: eu wanted/);
  });

  it("asks for a dry run with what the flags say", async () => {
    await admin.run(
      "explain",
      "-m",
      "chat",
      "--input-tokens",
      "5000",
      "--class",
      "batch",
      "--needs",
      "tools,vision",
      "--tag",
      "team=search",
      "--tag",
      "a=b=c",
      "--ttft",
      "200ms",
    );
    assert.deepEqual(admin.calls.at(-1)?.body, {
      model: "chat",
      input_tokens: 5000,
      class: "batch",
      needs: ["tools", "vision"],
      tags: { team: "search", a: "b=c" },
      ttft_ms: 200,
    });
  });

  it("sets and clears faults", async () => {
    const { out } = await admin.run("sim", "fault", "gpu", "error", "--for", "30s", "--set", "p=0.5");
    assert.deepEqual(admin.calls.at(-1)?.body, { p: 0.5, backend: "gpu", kind: "error", for_ms: 30_000 });
    assert.match(out, /for 30 s/);
    assert.equal((await admin.run("sim", "clear")).code, 0);
  });

  it("talks to the API the server names, whole and as a stream", async () => {
    const whole = await admin.run("chat", "hi", "-o", "json");
    assert.equal((JSON.parse(whole.out) as { content: string }).content, "hello chat");
    assert.match((await admin.run("chat", "hi", "--stream")).out, /^hello chat\n\nbackend gpu {2}ttft .* cost \$0\.000012/);
  });

  it("does not take a stream that fails, or that ends early, for an answer", async () => {
    assert.deepEqual(pick(await admin.run("chat", "hi", "--stream", "-m", "failing")), [
      1,
      "signalbox: the stream failed: upstream died\n",
    ]);
    assert.match((await admin.run("chat", "hi", "--stream", "-m", "cut")).err, /without \[DONE\]/);
  });

  it("answers 1 with the server's words when it refuses", async () => {
    assert.deepEqual(pick(await admin.run("keys", "revoke", "none")), [1, "signalbox: There is no key none.\n"]);
    assert.deepEqual(pick(await admin.run("explain", "busy")), [1, "signalbox: This process does not reach the policy-engine.\n"]);
  });

  it("says which token was wrong", async () => {
    const { code, err } = await admin.run("explain", "forbidden");
    assert.equal(code, 1);
    assert.match(err, /admin\.token is not the token of .*--data-dir/);
  });
});
