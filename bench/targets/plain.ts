import { fileURLToPath } from "node:url";
import { NODE_FLAGS } from "#deploy/local/mesh.ts";
import { spawnJsonServer } from "../harness/spawn.ts";
import { CHAT_PATH, MODEL, type Target } from "./target.ts";

/** The upstream without anything in front: what everything is held against. */
export const direct: Target = {
  id: "direct",
  title: "direct (no gateway)",
  start: (environment) =>
    Promise.resolve({
      endpoint: (isPaced) => ({
        port: isPaced ? environment.pacedPort : environment.upstreamPort,
        path: CHAT_PATH,
        headers: {},
        model: MODEL,
      }),
      roots: () => [],
      stop: () => Promise.resolve(),
    }),
};

/** The bare proxy: node:http and undici, bytes passed through, on a V8 that keeps house as ours does. */
export const floor: Target = {
  id: "floor",
  title: "floor (bare node:http + undici proxy)",
  start: async (environment) => {
    const main = fileURLToPath(new URL("../proxy.ts", import.meta.url));
    const command = [...environment.pin, process.execPath, ...NODE_FLAGS, main, String(environment.upstreamPort)];
    const { server, ready } = await spawnJsonServer<{ port: number }>(command, `${environment.folder}/floor.log`);
    return {
      endpoint: (isPaced) => ({
        port: ready.port,
        path: CHAT_PATH,
        headers: isPaced ? { "x-bench-upstream-port": String(environment.pacedPort) } : {},
        model: MODEL,
      }),
      roots: () => [server.pid],
      stop: () => server.stop(),
    };
  },
};
