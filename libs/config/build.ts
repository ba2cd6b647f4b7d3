import * as defaults from "./defaults.ts";
import type { BackendConfig, Config, PriceFields } from "./model.ts";
import { backendOf } from "./resolve-backends.ts";
import { resolveConfig } from "./resolve.ts";
import { fileSchema } from "./schema.ts";

/** A complete configuration of defaults over no backends, with the parts given put in place. For tests and for building upon. */
export function defaultConfig(parts: Partial<Config> = {}): Config {
  const file = fileSchema.parse({ version: 1, backends: {} });
  const sources = { env: {}, readFile: undefined };
  const base = resolveConfig(file, { sources, tree: {}, configVersion: "default", dataDir: defaults.DATA_DIR, near: (path) => path });
  return Object.freeze({ ...base, ...parts });
}

/** A backend with its provider's facts and the defaults filled in, and the parts given put in place. */
export function defaultBackend(parts: Partial<BackendConfig> & Pick<BackendConfig, "name" | "provider" | "model">): BackendConfig {
  const base = backendOf(parts.name, parts.provider, { model: parts.model }, { env: {}, readFile: undefined });
  return Object.freeze({ ...base, ...parts });
}

/** Price fields of which none is stated. */
export const NO_PRICES: PriceFields = Object.freeze({
  inputPico: undefined,
  cacheReadPico: undefined,
  cacheWritePico: undefined,
  cacheWrite1hPico: undefined,
  outputPico: undefined,
  reasoningPico: undefined,
  audioInputPico: undefined,
  audioOutputPico: undefined,
  imageInputPico: undefined,
  perRequestNano: undefined,
  webSearchNano: undefined,
  perHourNano: undefined,
});

/** Ports of a process; undefined keeps the configured one. */
export interface PortOverrides {
  readonly port?: number | undefined;
  readonly adminPort?: number | undefined;
  readonly grpcPort?: number | undefined;
  readonly meshPort?: number | undefined;
}

/** The configuration with the ports of the command line. */
export function withPorts(config: Config, ports: PortOverrides): Config {
  const { server, mesh } = config;
  const at = <T extends { readonly host: string; readonly port: number }>(listen: T, port: number | undefined): T =>
    port === undefined ? listen : Object.freeze({ ...listen, port });
  return Object.freeze({
    ...config,
    server: Object.freeze({
      ...server,
      api: Object.freeze({ ...server.api, listen: at(server.api.listen, ports.port) }),
      admin: Object.freeze({ ...server.admin, listen: at(server.admin.listen, ports.adminPort) }),
      grpc: Object.freeze({ ...server.grpc, listen: at(server.grpc.listen, ports.grpcPort) }),
    }),
    mesh: Object.freeze({ ...mesh, listen: at(mesh.listen, ports.meshPort) }),
  });
}
