import assert from "node:assert/strict";
import { test } from "node:test";
import { CALL, encode, HELLO, refusal, TOOLS, warningsOf } from "./request.testkit.ts";

test("a plain request becomes a plain request with the model's own limit", () => {
  assert.deepEqual(encode({}), {
    model: "claude-sonnet-4-5",
    max_tokens: 8192,
    messages: [{ role: "user", content: [{ type: "text", text: "hello" }] }],
  });
});

test("leading system and developer messages are joined into one system block", () => {
  const messages = [{ role: "system", content: "one" }, { role: "developer", content: [{ type: "text", text: "two" }] }, ...HELLO];
  assert.deepEqual(encode({ messages })["system"], [{ type: "text", text: "one\n\ntwo" }]);
});

test("a system block that is marked for caching stays apart", () => {
  const cached = { role: "system", content: [{ type: "text", text: "long", cache_control: { type: "ephemeral" } }] };
  const messages = [cached, { role: "system", content: "short" }, ...HELLO];
  assert.deepEqual(encode({ messages })["system"], [
    { type: "text", text: "long", cache_control: { type: "ephemeral" } },
    { type: "text", text: "short" },
  ]);
});

test("a later system message becomes the user's text where it stands", () => {
  const messages = [...HELLO, { role: "assistant", content: "hi" }, { role: "system", content: "be brief" }];
  assert.deepEqual((encode({ messages })["messages"] as unknown[]).at(-1), { role: "user", content: [{ type: "text", text: "be brief" }] });
  assert.match(warningsOf({ messages })[0]!, /^messages: a system message after the first turn/);
});

test("a conversation of instructions only asks the last of them", () => {
  const messages = [{ role: "system", content: "say hi" }];
  assert.deepEqual(encode({ messages })["messages"], [{ role: "user", content: [{ type: "text", text: "say hi" }] }]);
});

test("messages of one role in a row are merged and empty ones disappear", () => {
  const messages = [
    { role: "user", content: "a" },
    { role: "user", content: "" },
    { role: "user", content: [{ type: "text", text: "b" }] },
    { role: "assistant", content: "" },
    { role: "user", content: "c" },
  ];
  assert.deepEqual(encode({ messages })["messages"], [
    {
      role: "user",
      content: [
        { type: "text", text: "a" },
        { type: "text", text: "b" },
        { type: "text", text: "c" },
      ],
    },
  ]);
});

test("a conversation that begins with the assistant gets a user before it", () => {
  const messages = [{ role: "assistant", content: "hi" }, ...HELLO];
  assert.equal((encode({ messages })["messages"] as { role: string }[])[0]!.role, "user");
  assert.equal(warningsOf({ messages }).length, 1);
});

test("an assistant's text goes before its tool calls, whose arguments are parsed", () => {
  const assistant = { role: "assistant", content: "look", tool_calls: [CALL("t1", "f", '{"a":"x"}'), CALL("t2", "f", "")] };
  const messages = [
    ...HELLO,
    assistant,
    { role: "tool", tool_call_id: "t1", content: "1" },
    { role: "tool", tool_call_id: "t2", content: "2" },
  ];
  assert.deepEqual((encode({ messages, tools: TOOLS })["messages"] as unknown[])[1], {
    role: "assistant",
    content: [
      { type: "text", text: "look" },
      { type: "tool_use", id: "t1", name: "f", input: { a: "x" } },
      { type: "tool_use", id: "t2", name: "f", input: {} },
    ],
  });
});

test("all results of a turn go into one user message, first and in the order of the calls", () => {
  const messages = [
    ...HELLO,
    { role: "assistant", content: null, tool_calls: [CALL("t1"), CALL("t2")] },
    { role: "tool", tool_call_id: "t2", content: [{ type: "text", text: "two" }] },
    { role: "system", content: "hurry" },
    { role: "tool", tool_call_id: "t1", content: "one", is_error: true },
    { role: "user", content: "and?" },
  ];
  assert.deepEqual((encode({ messages, tools: TOOLS })["messages"] as unknown[]).slice(2), [
    {
      role: "user",
      content: [
        { type: "tool_result", tool_use_id: "t1", content: "one", is_error: true },
        { type: "tool_result", tool_use_id: "t2", content: [{ type: "text", text: "two" }] },
        { type: "text", text: "hurry" },
        { type: "text", text: "and?" },
      ],
    },
  ]);
});

for (const [what, messages, param] of [
  [
    "a missing result",
    [...HELLO, { role: "assistant", tool_calls: [CALL("t1"), CALL("t2")] }, { role: "tool", tool_call_id: "t1", content: "" }],
    "messages[1].tool_calls",
  ],
  ["a result of nothing", [...HELLO, { role: "tool", tool_call_id: "t1", content: "" }], "messages[1].tool_call_id"],
  [
    "a foreign result",
    [...HELLO, { role: "assistant", tool_calls: [CALL("t1")] }, { role: "tool", tool_call_id: "x", content: "" }],
    "messages[2].tool_call_id",
  ],
  [
    "broken arguments",
    [...HELLO, { role: "assistant", tool_calls: [CALL("t1", "f", "{")] }],
    "messages[1].tool_calls[0].function.arguments",
  ],
  [
    "arguments that are no object",
    [...HELLO, { role: "assistant", tool_calls: [CALL("t1", "f", "[1]")] }],
    "messages[1].tool_calls[0].function.arguments",
  ],
  ["two calls with one id", [...HELLO, { role: "assistant", tool_calls: [CALL("t1"), CALL("t1")] }], "messages[1].tool_calls"],
  ["an unknown role", [{ role: "robot", content: "x" }], "messages[0].role"],
  ["no messages", [], "messages"],
] as const) {
  test(`${what} is refused before it costs a call`, () => {
    const error = refusal({ messages });
    assert.equal(error.httpStatus, 400);
    assert.equal(error.param, param);
  });
}

test("an id the API would refuse is rewritten the same way in call and result", () => {
  const id = "functions.f:0";
  const messages = [...HELLO, { role: "assistant", tool_calls: [CALL(id)] }, { role: "tool", tool_call_id: id, content: "r" }];
  const [, assistant, user] = encode({ messages, tools: TOOLS })["messages"] as { content: { id?: string; tool_use_id?: string }[] }[];
  assert.match(assistant!.content[0]!.id!, /^[a-zA-Z0-9_-]+$/);
  assert.equal(user!.content[0]!.tool_use_id, assistant!.content[0]!.id);
});

test("tools of the history that are not declared are declared bare and forbidden", () => {
  const messages = [...HELLO, { role: "assistant", tool_calls: [CALL("t1", "old")] }, { role: "tool", tool_call_id: "t1", content: "r" }];
  const request = encode({ messages });
  assert.deepEqual(request["tools"], [{ name: "old", input_schema: { type: "object", properties: {} } }]);
  assert.deepEqual(request["tool_choice"], { type: "none" });
});

test("deprecated functions work like tools", () => {
  const messages = [
    ...HELLO,
    { role: "assistant", content: null, function_call: { name: "f", arguments: "{}" } },
    { role: "function", name: "f", content: "r" },
  ];
  const request = encode({ messages, functions: [{ name: "f" }], function_call: { name: "f" } });
  assert.deepEqual(request["tool_choice"], { type: "tool", name: "f" });
  assert.deepEqual((request["messages"] as { content: unknown }[])[2]!.content, [
    { type: "tool_result", tool_use_id: "function_f", content: "r" },
  ]);
});

test("thinking blocks come back unmodified before the text they belong to", () => {
  const thinking = { type: "thinking", thinking: "hm", signature: "sig" };
  const redacted = { type: "redacted_thinking", data: "xyz" };
  const messages = [
    ...HELLO,
    { role: "assistant", content: "so", reasoning_content: "hm", thinking_blocks: [thinking, redacted] },
    { role: "user", content: "go on" },
  ];
  assert.deepEqual((encode({ messages })["messages"] as { content: unknown }[])[1]!.content, [
    thinking,
    redacted,
    { type: "text", text: "so" },
  ]);
});

test("images and files become blocks with their source", () => {
  const content = [
    { type: "image_url", image_url: { url: "data:image/png;base64,QUJD", detail: "high" } },
    { type: "image_url", image_url: { url: "https://example.com/a.jpg" } },
    { type: "file", file: { filename: "a.pdf", file_data: "data:application/pdf;base64,QUJD" } },
    { type: "file", file: { file_data: "data:text/plain;base64,aGk=" } },
    { type: "file", file: { file_id: "file_1" } },
  ];
  assert.deepEqual((encode({ messages: [{ role: "user", content }] })["messages"] as { content: unknown }[])[0]!.content, [
    { type: "image", source: { type: "base64", media_type: "image/png", data: "QUJD" } },
    { type: "image", source: { type: "url", url: "https://example.com/a.jpg" } },
    { type: "document", source: { type: "base64", media_type: "application/pdf", data: "QUJD" }, title: "a.pdf" },
    { type: "document", source: { type: "text", media_type: "text/plain", data: "hi" } },
    { type: "document", source: { type: "file", file_id: "file_1" } },
  ]);
});

for (const [what, part, param, code] of [
  [
    "an image from a file path",
    { type: "image_url", image_url: { url: "/etc/passwd" } },
    "messages[0].content[0].image_url.url",
    "invalid_value",
  ],
  ["audio", { type: "input_audio", input_audio: {} }, "messages[0].content[0].input_audio", "unsupported_parameter"],
  [
    "a spreadsheet",
    { type: "file", file: { file_data: "data:application/vnd.ms-excel;base64,QQ==" } },
    "messages[0].content[0].file.file_data",
    "unsupported_parameter",
  ],
] as const) {
  test(`${what} is refused with its place`, () => {
    const error = refusal({ messages: [{ role: "user", content: [part] }] });
    assert.equal(error.param, param);
    assert.equal(error.code, code);
  });
}
