/** A gateway with one backend that clients are tried against. */
export interface Target {
  /** Base URL of the API, without /v1. */
  readonly api: string;
  /** host:port of the public gRPC listener. */
  readonly grpc: string;
  /** What to ask for. */
  readonly model: string;
  /** The backend behind it. */
  readonly backend: string;
  /** The dialect the backend speaks. */
  readonly dialect: "openai" | "anthropic";
  /** Resolves when the backend's last call was left before its end. */
  left(): Promise<void>;
}
