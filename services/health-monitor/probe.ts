/** What a probe got. */
export interface ProbeAnswer {
  readonly status: number;
  /** Text of the answer, cut at the port's bound. */
  readonly body: string;
}

/** The monitor's only way out: small HTTP reads and TCP connects, each with its own time-out. */
export interface ProbePort {
  /** GET without credentials, redirects not followed. Rejects when no answer arrives in time. */
  get(url: string, timeoutMs: number): Promise<ProbeAnswer>;
  /** Opens and closes a connection. Rejects when it cannot be opened in time. */
  connect(host: string, port: number, timeoutMs: number): Promise<void>;
  /** Lets go of kept connections. */
  close(): void;
}
