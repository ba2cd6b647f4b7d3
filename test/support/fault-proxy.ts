import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

/** What the proxy does with what passes through it. */
export type ProxyMode =
  /** Passes everything. */
  | { readonly kind: "pass" }
  /** Holds each piece on its way to the server this long, ms. */
  | { readonly kind: "delay"; readonly ms: number }
  /** Accepts, and passes nothing. */
  | { readonly kind: "hang" }
  /** Takes no connections; those open end. */
  | { readonly kind: "refuse" };

/** A TCP proxy on a port of its own that can make what is behind it slow, silent or absent. */
export interface FaultProxy {
  readonly port: number;
  /** Connections accepted so far. */
  readonly accepted: number;
  /** Changes the mode for old and new connections. What is held leaves when the mode passes again. */
  set(mode: ProxyMode): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a proxy in front of 127.0.0.1:`target`. */
export async function startFaultProxy(target: number): Promise<FaultProxy> {
  const proxy = new Proxy(target);
  await proxy.listen(0);
  return proxy;
}

class Proxy implements FaultProxy {
  port = 0;
  accepted = 0;
  readonly #target: number;
  readonly #pairs = new Set<Pair>();
  #mode: ProxyMode = { kind: "pass" };
  #server: Server | undefined;

  constructor(target: number) {
    this.#target = target;
  }

  async listen(port: number): Promise<void> {
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (client) => {
      this.accepted++;
      const pair = new Pair(client, this.#target, () => this.#pairs.delete(pair));
      this.#pairs.add(pair);
      pair.set(this.#mode);
    });
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    this.port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  async set(mode: ProxyMode): Promise<void> {
    this.#mode = mode;
    if (mode.kind === "refuse") {
      const server = this.#server;
      this.#server = undefined;
      for (const pair of this.#pairs) pair.destroy();
      if (server) await new Promise((resolve) => server.close(resolve));
      return;
    }
    if (this.#server === undefined) await this.listen(this.port);
    for (const pair of this.#pairs) pair.set(mode);
  }

  async stop(): Promise<void> {
    await this.set({ kind: "refuse" });
  }
}

/** One connection through the proxy. */
class Pair {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #onEnd: () => void;
  #mode: ProxyMode = { kind: "pass" };
  #held: { readonly bytes: Buffer; readonly timer: NodeJS.Timeout }[] = [];

  constructor(client: Socket, target: number, onEnd: () => void) {
    this.#client = client;
    this.#onEnd = onEnd;
    this.#server = connect({ host: "127.0.0.1", port: target, allowHalfOpen: true, noDelay: true });
    client.setNoDelay(true);
    client.on("data", (bytes) => this.#up(bytes));
    this.#server.on("data", (bytes) => {
      if (!client.write(bytes)) this.#server.pause();
    });
    client.on("drain", () => this.#mode.kind !== "hang" && this.#server.resume());
    client.on("end", () => this.#server.end());
    this.#server.on("end", () => client.end());
    for (const socket of [client, this.#server]) {
      socket.on("error", () => this.destroy());
      socket.on("close", () => this.destroy());
    }
  }

  set(mode: ProxyMode): void {
    this.#mode = mode;
    if (mode.kind === "hang") {
      this.#client.pause();
      this.#server.pause();
      return;
    }
    if (mode.kind === "pass") {
      const held = this.#held;
      this.#held = [];
      for (const { bytes, timer } of held) {
        clearTimeout(timer);
        this.#server.write(bytes);
      }
    }
    this.#client.resume();
    this.#server.resume();
  }

  destroy(): void {
    for (const { timer } of this.#held) clearTimeout(timer);
    this.#client.destroy();
    this.#server.destroy();
    this.#onEnd();
  }

  #up(bytes: Buffer): void {
    if (this.#mode.kind !== "delay") return void this.#server.write(bytes);
    const timer = setTimeout(() => {
      this.#held = this.#held.filter((entry) => entry.timer !== timer);
      this.#server.write(bytes);
    }, this.#mode.ms);
    this.#held.push({ bytes, timer });
  }
}
