import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createClient, createRouterTransport } from "@connectrpc/connect";
import { AdapterService } from "#gen/signalbox/adapter/v1/adapter_service_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { backendOf, createRig, type Provider, startProvider, WHOLE_STREAM, writeEvents } from "./module.testkit.ts";
import { openOf } from "./openai/testkit.ts";
import { adapterRpc } from "./rpc.ts";

let provider: Provider;

before(async () => (provider = await startProvider(() => {})));
after(() => provider.close());

test("a client that is no ingress reads one attempt as a stream, and sees what a replica serves", async () => {
  const rig = createRig([backendOf({ url: provider.url })]);
  const service = adapterRpc(rig.host);
  const client = createClient(
    AdapterService,
    createRouterTransport((router) => void router.service(AdapterService, service.implementation)),
  );
  const described = await client.describe({});
  assert.deepEqual([described.replicaId, described.backends, described.draining], ["replica-1", ["b"], false]);
  provider.answer = (_, response) => {
    writeEvents(response, WHOLE_STREAM);
    response.end();
  };
  const kinds: string[] = [];
  let outcome: Outcome = Outcome.UNSPECIFIED;
  for await (const { event } of client.attempt(openOf({ body: Buffer.from('{"model":"m","messages":[]}') }))) {
    kinds.push(event.case ?? "");
    if (event.case === "end") outcome = event.value.outcome;
  }
  assert.deepEqual([kinds.at(-1), outcome], ["end", Outcome.OK]);
  assert.ok(kinds.length > 1);
  await rig.host.module.stop();
});

test("giving up the stream cancels the attempt upstream", async () => {
  const rig = createRig([backendOf({ url: provider.url })]);
  const service = adapterRpc(rig.host);
  const client = createClient(
    AdapterService,
    createRouterTransport((router) => void router.service(AdapterService, service.implementation)),
  );
  const closed = new Promise<void>((resolve) => {
    provider.answer = (request, response) => {
      request.socket.once("close", resolve);
      writeEvents(response, WHOLE_STREAM.slice(0, 2));
    };
  });
  const giveUp = new AbortController();
  const read = async (): Promise<void> => {
    const open = openOf({ body: Buffer.from('{"model":"m","messages":[]}') });
    for await (const { event } of client.attempt(open, { signal: giveUp.signal })) if (event.case === "data") giveUp.abort();
  };
  await assert.rejects(read(), /cancel|abort/i);
  await closed;
  assert.equal(rig.host.inFlight(), 0);
  await rig.host.module.stop();
});
