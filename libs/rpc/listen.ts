import type { Server } from "node:net";
import type { ListenAddress } from "#libs/config/model.ts";

/** Listens and resolves when bound; rejects with the system's error, e.g. when the port is taken. */
export function listenOn(server: Pick<Server, "listen" | "once" | "off">, { host, port }: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}
