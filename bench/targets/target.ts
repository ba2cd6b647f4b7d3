/** What every target is started with. */
export interface BenchEnvironment {
  /** The fake upstream: as fast as it goes, and paced. */
  readonly upstreamPort: number;
  readonly pacedPort: number;
  /** Prefix that pins a gateway to its core; empty where there is no taskset. */
  readonly pin: readonly string[];
  /** Folder for configuration, data and logs. */
  readonly folder: string;
  /** Collector for traces that discards them. */
  readonly otlpEndpoint: string;
}

/** Where requests of a scenario go. */
export interface Endpoint {
  readonly port: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly model: string;
}

/** A gateway (or what stands in its place) that is up. */
export interface RunningTarget {
  /** `isPaced` = the upstream that takes its time between chunks. */
  endpoint(isPaced: boolean): Endpoint;
  /** Processes whose CPU and memory are the gateway's, their children included by themselves. */
  roots(): readonly number[];
  stop(): Promise<void>;
}

/** One row of the comparison. */
export interface Target {
  readonly id: TargetId;
  readonly title: string;
  /** Whether its first start leaves compiled code on the disk for all others: what is measured is one of those. */
  readonly compiles?: boolean;
  /** Undefined = not installed here. Rejects when it is and does not start. */
  start(environment: BenchEnvironment): Promise<RunningTarget | undefined>;
}

export type TargetId = "direct" | "floor" | "embedded" | "mesh" | "portkey" | "litellm" | "bifrost";

/** The chat route of an OpenAI-compatible server. */
export const CHAT_PATH = "/v1/chat/completions";

/** Model names: the paced one leads to the paced upstream. */
export const MODEL = "bench";
export const PACED_MODEL = "bench-paced";
