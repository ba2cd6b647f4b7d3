import { connect, credsAuthenticator, type ConnectionOptions, type NatsConnection } from "@nats-io/transport-node";
import type { Clock, Random } from "#libs/clock/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import type { Subscription } from "./bus.ts";

/** What a connection to NATS needs. */
export interface NatsConnectionDeps {
  /** nats:// or tls://, with `user:password@` where needed; several separated by commas. */
  readonly url: string;
  /** Contents of a creds file. */
  readonly creds?: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Name the server shows for this connection. */
  readonly name: string;
}

/** Time for one connection attempt, ms. */
const CONNECT_TIMEOUT_MS = 2_000;
/** Pings and how many may stay unanswered: a silent server is noticed within about 3 s. */
const PING_INTERVAL_MS = 1_000;
const PING_OUT_MAX = 2;
/** Wait between connection attempts: `least + jitter * chance`, ms. Together with the time-out this heals within 5 s. */
const RETRY_LEAST_MS = 200;
const RETRY_JITTER_MS = 800;

/** Keeps one connection to NATS for ever: absent at the start, gone in between, it comes back by itself. */
export class NatsLink {
  readonly #deps: NatsConnectionDeps;
  readonly #listeners = new Set<(connected: boolean) => void>();
  readonly #freshListeners = new Set<(connection: NatsConnection) => void>();
  #connection: NatsConnection | undefined;
  #connected = false;
  #closed = false;
  readonly #ending = new AbortController();
  readonly #loop: Promise<void>;

  constructor(deps: NatsConnectionDeps) {
    this.#deps = deps;
    this.#loop = this.#run();
  }

  get connected(): boolean {
    return this.#connected;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The live connection, or undefined while away. */
  get live(): NatsConnection | undefined {
    return this.#connected ? this.#connection : undefined;
  }

  onConnection(listener: (connected: boolean) => void): Subscription {
    this.#listeners.add(listener);
    return { close: () => void this.#listeners.delete(listener) };
  }

  /** Calls `listener` with each new connection object (its subscriptions survive reconnects, nothing survives a new object), now if there is one. */
  onFresh(listener: (connection: NatsConnection) => void): Subscription {
    this.#freshListeners.add(listener);
    if (this.#connection && !this.#connection.isClosed()) listener(this.#connection);
    return { close: () => void this.#freshListeners.delete(listener) };
  }

  async close(flushMs: number): Promise<void> {
    this.#closed = true;
    const connection = this.#connection;
    this.#ending.abort();
    if (connection && this.#connected) await this.#within(flushMs, connection.flush());
    this.#set(false);
    if (connection) await this.#within(flushMs, connection.close());
    await this.#within(flushMs, this.#loop);
  }

  /** Waits for `work`, whatever becomes of it, at most `limitMs`. */
  #within(limitMs: number, work: Promise<unknown>): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#deps.clock.after(limitMs, resolve);
      const settle = (): void => {
        timer.cancel();
        resolve();
      };
      work.then(settle, settle);
    });
  }

  #set(connected: boolean): void {
    if (connected === this.#connected) return;
    this.#connected = connected;
    if (connected) this.#deps.logger.info({ server: this.#connection?.getServer() }, "bus connected");
    else if (!this.#closed) this.#deps.logger.warn({}, "bus away; going on without it");
    for (const listener of this.#listeners) listener(connected);
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      try {
        const connection = await connect(this.#options());
        if (this.#closed) {
          await connection.close();
          return;
        }
        this.#connection = connection;
        this.#set(true);
        for (const listener of this.#freshListeners) listener(connection);
        await this.#follow(connection);
      } catch (cause) {
        this.#deps.logger.debug({ err: cause }, "bus connection attempt failed");
      }
      this.#set(false);
      if (!this.#closed) await this.#deps.clock.sleep(this.#waitMs(), this.#ending.signal).catch(() => {});
    }
  }

  /** Watches the library's own reconnects; returns when it has given up on the connection object. */
  async #follow(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) {
      if (status.type === "disconnect" || status.type === "staleConnection") this.#set(false);
      else if (status.type === "reconnect") this.#set(true);
      else if (status.type === "close") return;
    }
  }

  #waitMs(): number {
    return RETRY_LEAST_MS + RETRY_JITTER_MS * this.#deps.random.next();
  }

  #options(): ConnectionOptions {
    const urls = this.#deps.url.split(",").map((text) => new URL(text.includes("://") ? text : `nats://${text}`));
    const first = urls[0]!;
    return {
      servers: urls.map((url) => url.host || url.pathname),
      name: this.#deps.name,
      timeout: CONNECT_TIMEOUT_MS,
      pingInterval: PING_INTERVAL_MS,
      maxPingOut: PING_OUT_MAX,
      maxReconnectAttempts: -1,
      ignoreAuthErrorAbort: true,
      noAsyncTraces: true,
      reconnectDelayHandler: () => this.#waitMs(),
      ...(first.username ? { user: decodeURIComponent(first.username), pass: decodeURIComponent(first.password) } : {}),
      ...(first.protocol === "tls:" ? { tls: {} } : {}),
      ...(this.#deps.creds ? { authenticator: credsAuthenticator(new TextEncoder().encode(this.#deps.creds)) } : {}),
    };
  }
}
