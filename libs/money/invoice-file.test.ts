import assert from "node:assert/strict";
import { test } from "node:test";
import { parseInvoice } from "./invoice-file.ts";

test("the simulator's invoice is read: our id, the classes, whether the usage was told", () => {
  const [line] = parseInvoice(
    JSON.stringify([
      {
        backend: "a",
        client_request_id: "018f",
        response_id: "chatcmpl-1",
        input_tokens: 7,
        cache_read_tokens: 3,
        cache_write_tokens: 2,
        output_tokens: 5,
        reasoning_tokens: 1,
        stated: false,
      },
    ]),
  );
  assert.deepEqual(
    [line!.attemptId, line!.responseId, line!.backend, line!.unstated, line!.costNanoUsd],
    ["018f", "chatcmpl-1", "a", true, undefined],
  );
  const { usage } = line!;
  assert.deepEqual(
    [usage!.inputTokens, usage!.cacheReadTokens, usage!.cacheWriteTokens, usage!.outputTokens, usage!.reasoningTokens],
    [7, 3, 2, 5, 1],
  );
});

test("a provider's CSV is read: quotes, dollars, prompt tokens that include the cache", () => {
  const text =
    'Request ID,Prompt Tokens,Cached Tokens,Completion Tokens,Cost USD\r\n"resp,1",10,4,6,"$1,000.000000001"\r\nresp2,,,,0.25\r\n\r\n';
  const [first, second] = parseInvoice(`\uFEFF${text}`);
  assert.deepEqual(
    [first!.responseId, first!.costNanoUsd, first!.usage!.inputTokens, first!.usage!.cacheReadTokens],
    ["resp,1", 1_000_000_000_001n, 6, 4],
  );
  assert.deepEqual([second!.responseId, second!.costNanoUsd, second!.usage, second!.unstated], ["resp2", 250_000_000n, undefined, false]);
});

test("a list inside an object and JSON lines are read alike", () => {
  const line = { id: "r1", cost_nano_usd: "12" };
  for (const text of [JSON.stringify({ data: [line] }), `${JSON.stringify(line)}\n`, `${JSON.stringify(line)}\n${JSON.stringify(line)}`]) {
    assert.deepEqual([parseInvoice(text)[0]!.responseId, parseInvoice(text)[0]!.costNanoUsd], ["r1", 12n]);
  }
});

test("what cannot be an invoice is refused, and the line named", () => {
  const bad: readonly (readonly [string, RegExp])[] = [
    ["", /empty/],
    ["hello", /heading/],
    ["[1]", /line 1 .* not an object/],
    ['[{"id":"a","cost":1},{"id":"b"}]', /line 2 .* neither/],
    ['[{"id":"a","cost":"much"}]', /line 1 .* not an amount/],
    ['[{"id":"a","output_tokens":"-1"}]', /line 1 .* number of tokens/],
    ['id,cost\n"a,1\n', /row 2/],
    ['{"id":"a","cost":1}\n{', /line 2 .* not JSON/],
  ];
  for (const [text, message] of bad) assert.throws(() => parseInvoice(text), { reason: "REQUEST_MALFORMED", message }, text);
});
