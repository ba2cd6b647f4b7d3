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

export interface ReplayOptions extends CommonOptions {
  /** Decisions made from then on, and before then; ms since the epoch. */
  readonly sinceMs: number;
  readonly untilMs: number;
  /** Configuration to try instead of the recorded one. */
  readonly tryConfig: string | undefined;
  /** Shares to try, by experiment and arm. */
  readonly weights: ReadonlyMap<string, ReadonlyMap<string, number>>;
  /** Backends to do without. */
  readonly without: readonly string[];
}

/** One side of a replay: what was decided, or what would have been. Costs and times as predicted for the first choices. */
export interface ReplaySide {
  readonly decisions: number;
  readonly denied: number;
  readonly cost_nano_usd: string;
  readonly mean_ttft_ms: number;
  readonly mean_tpot_ms: number;
  readonly backends: Readonly<Record<string, number>>;
  readonly arms: Readonly<Record<string, number>>;
}

/** What a replay came to, as it is printed. */
export interface ReplayReport {
  readonly records: number;
  readonly replayed: number;
  readonly same: number;
  /** Decisions that could not be replayed, by reason. */
  readonly left: Readonly<Record<string, number>>;
  readonly before: ReplaySide;
  readonly after: ReplaySide;
  readonly minutes: readonly { readonly at: string; readonly before: ReplaySide; readonly after: ReplaySide }[];
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
  /** Runs recorded decisions of the data folder through another policy; `progress` hears how many were read. */
  replay(options: ReplayOptions, progress: (records: number) => void): Promise<ReplayReport>;
}
