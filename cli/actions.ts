/** What every verb takes. */
export interface CommonOptions {
  /** `--config` or SIGNALBOX_CONFIG; undefined: none was named. */
  readonly configFile: string | undefined;
  /** `--data-dir`, default `.signalbox`. */
  readonly dataDir: string;
  /** SIGNALBOX_LOG_LEVEL, default `info`. */
  readonly logLevel: string;
  readonly output: "table" | "json";
}

/** Ports of the command line; undefined keeps the configuration's. 0 takes a free one. */
export interface PortOptions {
  readonly port: number | undefined;
  readonly adminPort: number | undefined;
  readonly grpcPort: number | undefined;
  readonly meshPort: number | undefined;
}

export interface DevOptions extends CommonOptions, PortOptions {}

export interface ServeOptions extends CommonOptions, PortOptions {
  /** `--role`, as often as given: `ingress`, `provider-adapters:anthropic`, ...; empty: all of them in one process. */
  readonly roles: readonly string[];
}

export interface SimServeOptions extends CommonOptions {
  /** First port; each simulated backend takes the next. undefined: free ones. */
  readonly port: number | undefined;
  /** Seed of the simulated answers and delays. */
  readonly seed: number | undefined;
}

export interface BenchOptions extends CommonOptions {
  /** Base URL of the API, without `/v1`. */
  readonly apiUrl: string;
  /** Virtual key; undefined in open mode. */
  readonly key: string | undefined;
  readonly model: string;
  /** Requests begun per second, whether or not earlier ones have ended (open loop). */
  readonly rps: number;
  readonly durationMs: number;
  /** Leading part that is sent but not counted. */
  readonly warmupMs: number;
  readonly stream: boolean;
  /** Length of each prompt and of each answer asked for, tokens. */
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly seed: number;
  /** Whether a progress bar may be drawn on stderr. */
  readonly progress: boolean;
}

export type CheckOptions = CommonOptions;

/** One thing `signalbox check` looked at. */
export interface CheckResult {
  /** Short and stable: `config`, `dns`, `nats`. */
  readonly name: string;
  readonly state: "ok" | "warn" | "fail";
  /** What was found. */
  readonly detail: string;
  /** What to do about it; empty when it is ok. */
  readonly fix: string;
}

/** What the command line starts but does not do itself. Each resolves with the exit code when it has ended. */
export interface CliActions {
  dev(options: DevOptions): Promise<number>;
  serve(options: ServeOptions): Promise<number>;
  simServe(options: SimServeOptions): Promise<number>;
  /** Prints its own report. */
  bench(options: BenchOptions): Promise<number>;
  check(options: CheckOptions): Promise<readonly CheckResult[]>;
}
