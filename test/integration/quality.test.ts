import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { systemClock } from "#libs/clock/index.ts";
import { startGateway, type Gateway } from "../support/gateway.ts";
import { runVerb } from "../support/rollback.ts";

/** Users of each model, so that both arms answer somebody: none would be missed by one in 4 million. */
const USERS = 24;

interface Body {
  readonly model: string;
  readonly messages: readonly { readonly content: string }[];
}

/** Both arms and their judge: an arm answers with its name, the judge gives what `scores` says for the arm whose answer it reads. */
const scores = { control: 8, b: 4 };

function replyTo({ model, messages }: Body): string {
  if (model !== "judge") return `this is ${model}`;
  const verdict = /\{"verdict":"([0-9a-f]+)"/.exec(messages[0]!.content)![1];
  const { answer } = JSON.parse(messages[1]!.content) as { answer: { text: string } };
  return JSON.stringify({ verdict, score: answer.text.endsWith("arm-b") ? scores.b : scores.control });
}

let provider: Server;
let gateway: Gateway;
let asked = 0;

before(async () => {
  provider = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk: Buffer) => (text += chunk.toString()));
    request.on("end", () => {
      if (request.method !== "POST") return void response.end("{}");
      const body = JSON.parse(text) as Body;
      const choice = { index: 0, message: { role: "assistant", content: replyTo(body) }, finish_reason: "stop" };
      const usage = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 };
      response.setHeader("content-type", "application/json");
      response.end(
        JSON.stringify({ id: `r-${++asked}`, object: "chat.completion", created: 1, model: body.model, choices: [choice], usage }),
      );
    });
  });
  provider.listen(0, "127.0.0.1");
  await once(provider, "listening");
  const url = `http://127.0.0.1:${(provider.address() as AddressInfo).port}/v1`;
  const backend = (model: string): object => ({
    provider: "openai-compatible",
    url,
    model,
    context: "128k",
    price: { per_million: { input: "$1", output: "$1" } },
  });
  const arms = { control: "50%", b: { weight: "50%", backends: ["b"] } };
  gateway = await startGateway({
    topology: "embedded",
    config: {
      backends: { a: backend("arm-a"), b: backend("arm-b"), judge: backend("judge") },
      models: { judged: { candidates: ["a", "b"] }, scored: { candidates: ["a", "b"] }, critic: { candidates: ["judge"] } },
      experiments: {
        by_judge: { model: "judged", unit: "user", arms, judge: { model: "critic", share: "100%" } },
        by_people: { model: "scored", unit: "user", arms },
      },
    },
  });
});

after(async () => {
  await gateway?.stop();
  provider.close();
});

/** Asks as every user; the ids of the answers by the arm that gave them. */
async function askAll(model: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const ids = new Map<string, string[]>();
  for (let user = 0; user < USERS; user++) {
    const body = JSON.stringify({ model, user: `u-${user}`, messages: [{ role: "user", content: "hello" }] });
    const answer = await fetch(`${gateway.api}/v1/chat/completions`, { method: "POST", body });
    const arm = answer.headers.get("x-signalbox-experiment")!.split("=")[1]!;
    const { id } = (await answer.json()) as { id: string };
    ids.set(arm, [...(ids.get(arm) ?? []), id]);
  }
  return ids;
}

/** The line on quality in `experiments status`, once it counts this many scores of arm b: its samples, control's mean and b's. */
async function qualityAt(experiment: string, samples: number): Promise<readonly string[]> {
  for (;;) {
    const { code, out } = await runVerb(gateway, "experiments", "status", experiment);
    assert.equal(code, 0, out);
    const [, count, control, b] = /^b +quality +(\d+) +(\S+) +(\S+)/m.exec(out) ?? [];
    if (Number(count) >= samples) return [count!, control!, b!];
    await systemClock.sleep(50);
  }
}

test("the quality in `experiments status` moves by a judge's scores alone", async () => {
  const first = (await askAll("judged")).get("b")!.length;
  assert.deepEqual(await qualityAt("by_judge", first), [String(first), "0.800", "0.400"]);
  scores.b = 10;
  await askAll("judged");
  assert.deepEqual(await qualityAt("by_judge", 2 * first), [String(2 * first), "0.800", "0.700"]);
});

test("the quality in `experiments status` moves by feedback alone", async () => {
  const score = async (arm: readonly string[], value: number): Promise<void> => {
    for (const id of arm) {
      const answer = await fetch(`${gateway.api}/v1/feedback`, { method: "POST", body: JSON.stringify({ response_id: id, score: value }) });
      assert.equal(answer.status, 200, await answer.text());
    }
  };
  const ids = await askAll("scored");
  const [control, b] = [ids.get("control")!, ids.get("b")!];
  await score(control, 0.5);
  await score(b, 0.25);
  assert.deepEqual(await qualityAt("by_people", b.length), [String(b.length), "0.500", "0.250"]);
  await score((await askAll("scored")).get("b")!, 0.75);
  assert.deepEqual(await qualityAt("by_people", 2 * b.length), [String(2 * b.length), "0.500", "0.500"]);
});
