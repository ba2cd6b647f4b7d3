import { create, toBinary } from "@bufbuild/protobuf";
import { type AttemptEnd, AttemptEndSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { AttemptsCompletedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { BackendConfig, Config } from "#libs/config/model.ts";
import { type Ended, readEnded } from "./ended.ts";
import type { ProbeAnswer, ProbePort } from "./probe.ts";

/** The end of a good attempt. */
export function okEnd(ttftMs = 100, tpotMs = 10, outputTokens = 41): AttemptEnd {
  const durationMs = ttftMs + tpotMs * (outputTokens - 1);
  return create(AttemptEndSchema, { outcome: Outcome.OK, ttftMs, durationMs, usage: { outputTokens }, contentSeen: true });
}

/** The end of a failed attempt. */
export function failedEnd(reason = "UPSTREAM_UNAVAILABLE", more: { contentSeen?: boolean; busy?: boolean } = {}): AttemptEnd {
  const { contentSeen = false, busy = false } = more;
  return create(AttemptEndSchema, { outcome: Outcome.FAILED, contentSeen, error: { reason, busy } });
}

/** What the monitor reads of an end that went over the bus. */
export function endedOf(end: AttemptEnd): Ended {
  let read: Ended | undefined;
  const attempts = [{ attemptId: "a", backend: "b", replica: "r", end, endedAtMs: 5, traceparent: "00-1" }];
  readEnded(toBinary(AttemptsCompletedSchema, create(AttemptsCompletedSchema, { attempts })), (_, each) => (read = each));
  return read!;
}

/** A configuration with what the monitor reads: backends named in `pools`, one model per pool. */
export function configOf(pools: Readonly<Record<string, readonly string[]>>, backend: Partial<BackendConfig> = {}): Config {
  const names = [...new Set(Object.values(pools).flat())];
  const backends = names.map((name): [string, Partial<BackendConfig>] => [
    name,
    { name, provider: "vllm", url: `http://${name}:8000/v1`, metrics: { url: `http://${name}:8000/metrics` }, ...backend },
  ]);
  return {
    backends: new Map(backends),
    models: new Map(Object.entries(pools).map(([name, candidates]) => [name, { name, candidates }])),
    resilience: { breaker: { windowMs: 30_000, openMs: 5_000, maxOpenMs: 300_000, maxEjected: 0.5 } },
  } as unknown as Config;
}

/** Probes that answer what the test says, by URL; everything else answers 200 with nothing. */
export class FakeProbe implements ProbePort {
  readonly calls: string[] = [];
  readonly answers = new Map<string, ProbeAnswer | "dead">();

  get(url: string): Promise<ProbeAnswer> {
    this.calls.push(url);
    const answer = this.answers.get(url) ?? { status: 200, body: "" };
    return answer === "dead" ? Promise.reject(new Error("refused")) : Promise.resolve(answer);
  }

  connect(host: string, port: number): Promise<void> {
    this.calls.push(`${host}:${port}`);
    return this.answers.get(`${host}:${port}`) === "dead" ? Promise.reject(new Error("refused")) : Promise.resolve();
  }

  close(): void {}

  count(url: string): number {
    return this.calls.filter((call) => call === url).length;
  }
}
