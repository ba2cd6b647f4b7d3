import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import assert from "node:assert/strict";
import { test } from "node:test";
import { AdapterService } from "#gen/signalbox/adapter/v1/adapter_service_pb.ts";
import { ControlService } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { InferenceService } from "#gen/signalbox/inference/v1/inference_service_pb.ts";
import { startGateway } from "#test/support/gateway.ts";
import { simulatedBackend, startSimulation } from "#test/support/simulated.ts";

test("on the open RPC port control needs the admin token, inference does not, and adapters are not there", async () => {
  const simulation = await startSimulation([simulatedBackend("only", "openai", 1)]);
  const gateway = await startGateway({
    topology: "embedded",
    config: { backends: simulation.backends, models: { chat: { candidates: ["only"] } } },
  });
  try {
    const transport = createGrpcTransport({ baseUrl: `http://${gateway.grpc}` });
    const control = createClient(ControlService, transport);
    await assert.rejects(control.createKey({ tenant: "thief" }), /unauthenticated/);
    await assert.rejects(control.createKey({ tenant: "thief" }, { headers: { authorization: "Bearer wrong" } }), /unauthenticated/);
    const made = await control.createKey({ tenant: "acme" }, { headers: { authorization: `Bearer ${gateway.adminToken}` } });
    assert.match(made.key, /^sk-sbx-/);
    await assert.rejects(createClient(AdapterService, transport).describe({}), /unimplemented/);
    const answer = await createClient(InferenceService, transport).generate({
      model: "chat",
      messages: [{ role: "user", content: "hello" }],
    });
    assert.ok(answer.choices[0]!.content.length > 0);
  } finally {
    await gateway.stop();
    await simulation.stop();
  }
});
