import { Server, type ServerDuplexStream, type ServerWritableStream } from "@grpc/grpc-js";
import { create } from "@bufbuild/protobuf";
import { AttemptOpenSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { AdapterService, type AttemptResponse, AttemptResponseSchema } from "#gen/signalbox/adapter/v1/adapter_service_pb.ts";
import { ExplainResponseSchema, PolicyService } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import type { Clock } from "#libs/clock/index.ts";
import type { ListenAddress } from "#libs/config/model.ts";
import type { AdapterHost, AttemptOpen, PolicyHost } from "#libs/peers/index.ts";
import type { Logger, Metrics } from "#libs/telemetry/index.ts";
import { bridge } from "./bridge.ts";
import { codecOf } from "#libs/wire/index.ts";
import type { RpcServer } from "./connect-server.ts";
import { healthService } from "./health.ts";
import { serveAdapter } from "./serve-adapter.ts";
import { servePolicy } from "./serve-policy.ts";
import { rpcService, type RpcService } from "./service.ts";
import { within } from "./within.ts";
import { ATTEMPTS_PATH, bytesStream, listenCredentials, type MeshTls, SERVER_OPTIONS, SESSION_PATH } from "./wire.ts";

/** Time for streams to end by themselves at the stop, ms. */
const STOP_MS = 500;

/** What the mesh listener needs. */
export interface MeshServerDeps {
  readonly listen: ListenAddress;
  readonly policy?: PolicyHost;
  readonly adapters?: AdapterHost;
  readonly services: readonly RpcService[];
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics?: Metrics;
  readonly tls?: MeshTls | undefined;
}

/** The listener other processes of the mesh reach this one at: session and attempts streams, and every other service unary. */
export function createMeshServer(deps: MeshServerDeps): RpcServer {
  const { listen, policy, adapters, services, clock, logger, tls } = deps;
  const server = new Server(SERVER_OPTIONS);
  let draining = false;
  let port = listen.port;
  const taken = new Set<string>();
  if (policy) registerBytes(server, SESSION_PATH, servePolicy(policy, logger), taken);
  if (adapters) {
    registerBytes(server, ATTEMPTS_PATH, serveAdapter(adapters, logger), taken);
    registerAttempt(server, adapters, taken);
  }
  const own = [...(adapters ? [describeService(adapters)] : []), ...(policy ? [explainService(policy)] : [])];
  const offered = [...services, ...own];
  for (const service of offered) bridge(server, service, taken, clock);
  const names = new Set(offered.map((service) => service.descriptor.typeName));
  bridge(server, healthService(names, { serving: () => true, ending: () => draining }, clock), taken, clock);
  return {
    name: "mesh",
    checks: [],
    address: () => ({ host: listen.host, port }),
    start: async () => {
      const host = listen.host.includes(":") ? `[${listen.host}]` : listen.host;
      port = await new Promise<number>((resolve, reject) => {
        server.bindAsync(`${host}:${listen.port}`, listenCredentials(tls), (error, bound) => (error ? reject(error) : resolve(bound)));
      });
      logger.info({ host: listen.host, port, tls: tls !== undefined }, "mesh listener open");
    },
    // streams go on: their hosts end what they carry, and tell the far side, when they drain themselves
    drain: async () => {
      draining = true;
      await Promise.resolve();
    },
    stop: async () => {
      const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      await within(clock, STOP_MS, closed);
      server.forceShutdown();
    },
  };
}

function registerBytes(server: Server, path: string, serve: (call: ServerDuplexStream<Buffer, Buffer>) => void, taken: Set<string>): void {
  taken.add(path);
  const method = bytesStream(path);
  server.register(path, serve as never, method.responseSerialize as never, method.requestDeserialize as never, "bidi");
}

/** One attempt as a server stream, for clients that do not multiplex. */
function registerAttempt(server: Server, host: AdapterHost, taken: Set<string>): void {
  const path = `/${AdapterService.typeName}/Attempt`;
  taken.add(path);
  const request = codecOf(AttemptOpenSchema);
  const response = codecOf(AttemptResponseSchema);
  const serve = (call: ServerWritableStream<AttemptOpen, AttemptResponse>): void => {
    const send = (event: AttemptResponse["event"], taking: () => void): void => {
      call.write({ $typeName: "signalbox.adapter.v1.AttemptResponse", event }, taking);
    };
    const handle = host.attempt(call.request, {
      data: (data) => send({ case: "data", value: data }, () => handle.consumed(data.data.length)),
      end: (end) => {
        send({ case: "end", value: end }, () => {});
        call.end();
      },
    });
    call.on("cancelled", () => handle.cancel("canceled"));
    call.on("error", () => handle.cancel("canceled"));
  };
  const serialize = (answer: AttemptResponse): Buffer => {
    const bytes = response.encode(answer);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  };
  server.register(path, serve as never, serialize as never, ((bytes: Buffer) => request.decode(bytes)) as never, "serverStream");
}

function describeService(host: AdapterHost): RpcService {
  return rpcService(AdapterService, {
    describe: () => ({
      replicaId: host.replica,
      backends: [...host.backends()],
      inFlight: host.inFlight(),
      draining: host.draining,
    }),
  });
}

function explainService(host: PolicyHost): RpcService {
  return rpcService(PolicyService, {
    explain: async (request) => {
      const record = await host.explain(request);
      return create(ExplainResponseSchema, record ? { record } : {});
    },
  });
}
