import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, status, type ServiceError } from "@grpc/grpc-js";
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  GenerateRequestSchema,
  GenerateResponseSchema,
  GenerateStreamRequestSchema,
  GenerateStreamResponseSchema,
  type GenerateResponse,
  type GenerateStreamResponse,
} from "#gen/signalbox/inference/v1/inference_service_pb.ts";
import type { Target } from "./targets.ts";

const SERVICE = "/signalbox.inference.v1.InferenceService";

/** What a second gRPC stack must be able to do with the inference service. */
export function grpcContract(label: string, target: () => Target): void {
  const withClient = async <T>(use: (client: Client) => Promise<T>): Promise<T> => {
    const client = new Client(target().grpc, credentials.createInsecure());
    try {
      return await use(client);
    } finally {
      client.close();
    }
  };
  const generate = (client: Client, model: string): Promise<GenerateResponse> =>
    new Promise((resolve, reject) => {
      const request = create(GenerateRequestSchema, { model, messages: [{ role: "user", content: "hello" }] });
      client.makeUnaryRequest(
        `${SERVICE}/Generate`,
        (message: typeof request) => Buffer.from(toBinary(GenerateRequestSchema, message)),
        (bytes) => fromBinary(GenerateResponseSchema, bytes),
        request,
        new Metadata(),
        (error, answer) => (error ? reject(error) : resolve(answer!)),
      );
    });

  test(`${label}: Generate answers with text, usage and where it went`, async () => {
    const answer = await withClient((client) => generate(client, target().model));
    assert.ok(answer.choices[0]!.content.length > 0);
    assert.equal(answer.choices[0]!.finishReason, "stop");
    assert.ok(answer.usage!.outputTokens > 0);
    assert.equal(answer.routing!.backend, target().backend);
  });

  test(`${label}: GenerateStream gives pieces and ends with done`, async () => {
    const events = await withClient(
      (client) =>
        new Promise<GenerateStreamResponse[]>((resolve, reject) => {
          const seen: GenerateStreamResponse[] = [];
          const request = create(GenerateStreamRequestSchema, {
            request: { model: target().model, messages: [{ role: "user", content: "hello" }] },
          });
          const call = client.makeServerStreamRequest(
            `${SERVICE}/GenerateStream`,
            (message: typeof request) => Buffer.from(toBinary(GenerateStreamRequestSchema, message)),
            (bytes) => fromBinary(GenerateStreamResponseSchema, bytes),
            request,
          );
          call.on("data", (event: GenerateStreamResponse) => seen.push(event));
          call.on("error", reject);
          call.on("end", () => resolve(seen));
        }),
    );
    assert.ok(events.length > 3);
    assert.equal(events.at(-1)!.event.case, "done");
    assert.ok(events.slice(0, -1).every(({ event }) => event.case === "delta"));
  });

  test(`${label}: an unknown model is NOT_FOUND`, async () => {
    await assert.rejects(
      withClient((client) => generate(client, "no-such-model")),
      (error: ServiceError) => error.code === status.NOT_FOUND,
    );
  });
}
