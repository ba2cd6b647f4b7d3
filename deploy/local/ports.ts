import { createServer, type Server } from "node:net";
import { systemRandom } from "#libs/clock/index.ts";

/** Below the ports systems give to outgoing connections (32768 and up on Linux): one of those could take a port between our look and its use. */
const FIRST = 12_000;
const LAST = 32_000;

/** `count` free ports on 127.0.0.1, all different. They are free now; whoever binds them first has them. */
export async function freePorts(count: number): Promise<number[]> {
  const held = new Map<number, Server>();
  while (held.size < count) {
    const port = FIRST + systemRandom.int(LAST - FIRST);
    const server = held.has(port) ? undefined : await listen(port);
    if (server) held.set(port, server);
  }
  await Promise.all([...held.values()].map((server) => new Promise((resolve) => void server.close(resolve))));
  return [...held.keys()];
}

/** A listener on the port, or undefined when it is taken. */
function listen(port: number): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}
