import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import { AttemptDataSchema, AttemptEndSchema, AttemptOpenSchema, Dialect } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { codecOf } from "#libs/wire/index.ts";
import { anthropicCodec } from "#services/provider-adapters/anthropic/index.ts";
import { backendOf, contextOf, openOf } from "#services/provider-adapters/anthropic/testing.ts";
import { chatBody } from "../load/index.ts";
import { gauge, line } from "./gauge.ts";

/** Frames of the mesh through our codec and through protobuf-es, and the translation of one provider's dialect. */
const OPERATIONS = 20_000;

const body = Buffer.from(chatBody({ model: "chat", stream: true, promptTokens: 250 }));
const open = create(AttemptOpenSchema, {
  attemptId: "0192a5d3-7c1e-7abc-8def-0123456789ab",
  requestId: "req_0192a5d3-7c1e-7abc-8def-0123456789ab",
  attempt: 1,
  backend: "gpu-a",
  model: "chat",
  dialect: Dialect.OPENAI_CHAT,
  body,
  fields: Array.from({ length: 20 }, (_, index) => index * 50),
  stream: true,
  includeUsage: true,
  deadlineMs: 60_000,
});
const data = create(AttemptDataSchema, { data: Buffer.alloc(220, 0x78), content: true, contentEvents: 1 });
const end = create(AttemptEndSchema, {
  outcome: Outcome.OK,
  usage: { inputTokens: 250, outputTokens: 50 },
  usageKnown: true,
  finishReason: "stop",
  responseId: "chatcmpl-0192a5d37c1e",
  upstreamModel: "llama-3.3-70b",
  ttftMs: 203.7,
  durationMs: 812.4,
});

function repeat(run: () => void): () => void {
  return () => {
    for (let count = 0; count < OPERATIONS; count++) run();
  };
}

async function frame<T extends typeof open | typeof data | typeof end>(name: string, schema: GenMessage<T>, message: T): Promise<void> {
  const codec = codecOf(schema);
  const bytes = toBinary(schema, message as never);
  line(
    `${name}, ${bytes.length} B: encode + decode, ours`,
    await gauge(
      OPERATIONS,
      repeat(() => void codec.decode(codec.encode(message as never))),
    ),
    "a frame",
  );
  line(
    `${name}: encode + decode, protobuf-es`,
    await gauge(
      OPERATIONS,
      repeat(() => void fromBinary(schema, toBinary(schema, message as never))),
    ),
    "a frame",
  );
}

async function anthropic(): Promise<void> {
  const event = (type: string, rest: object): string => `event: ${type}\ndata: ${JSON.stringify({ type, ...rest })}\n\n`;
  const start = Buffer.from(event("message_start", { message: { id: "msg_1", model: "claude", content: [], usage: { input_tokens: 9 } } }));
  const delta = Buffer.from(event("content_block_delta", { index: 0, delta: { type: "text_delta", text: "a few words of it" } }));
  const context = contextOf();
  const stream = (): void => {
    const decoder = anthropicCodec.decodeStream(context, { data: () => {}, end: () => {} });
    decoder.push(start);
    for (let count = 0; count < OPERATIONS; count++) decoder.push(delta);
  };
  line("anthropic: one delta to one OpenAI chunk", await gauge(OPERATIONS, stream), "a chunk");
  const request = openOf(chatBody({ model: "chat", stream: true, promptTokens: 250 }));
  const backend = backendOf();
  line(
    "anthropic: a 1 KB request",
    await gauge(
      OPERATIONS,
      repeat(() => void anthropicCodec.encode(request, backend)),
    ),
    "a request",
  );
}

await frame("AttemptOpen", AttemptOpenSchema, open);
await frame("AttemptData", AttemptDataSchema, data);
await frame("AttemptEnd", AttemptEndSchema, end);
await anthropic();
