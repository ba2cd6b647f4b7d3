import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type ControlState, ControlStateSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import type { Config } from "#libs/config/model.ts";

/** What decisions were made under: configuration without secrets, control state without keys. */
export interface RecordedPolicy {
  readonly config: Config;
  readonly control: ControlState | undefined;
}

/** Names what a decision was made under. */
export function policyKey(configVersion: string, controlRevision: bigint): string {
  return `${configVersion.replaceAll(/[^A-Za-z0-9]/g, "")}-${controlRevision}`;
}

/** As it is stored. */
export function encodePolicy(config: Config, control: ControlState | undefined): Uint8Array {
  const kept = control && toBinary(ControlStateSchema, { ...control, keys: [] });
  return Buffer.from(JSON.stringify({ config, control: kept && Buffer.from(kept).toString("base64") }, tagged));
}

/** Reads a stored policy; undefined when it is none. */
export function decodePolicy(stored: Uint8Array): RecordedPolicy | undefined {
  try {
    const { config, control } = JSON.parse(Buffer.from(stored).toString("utf8"), untagged) as { config: Config; control?: string };
    if (!(config.models instanceof Map)) return undefined;
    return { config, control: control === undefined ? undefined : fromBinary(ControlStateSchema, Buffer.from(control, "base64")) };
  } catch {
    return undefined;
  }
}

/** JSON knows no maps, sets, big integers, infinities or absence: each is an object with one telling key. */
function tagged(_: string, value: unknown): unknown {
  if (value instanceof Map) return { $map: [...value] };
  if (value instanceof Set) return { $set: [...value] };
  if (typeof value === "bigint") return { $bigint: String(value) };
  if (value === Number.POSITIVE_INFINITY) return { $infinity: 1 };
  return value;
}

function untagged(_: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const { $map, $set, $bigint, $infinity } = value as { $map?: [unknown, unknown][]; $set?: unknown[]; $bigint?: string; $infinity?: 1 };
  if ($map !== undefined) return new Map($map);
  if ($set !== undefined) return new Set($set);
  if ($bigint !== undefined) return BigInt($bigint);
  return $infinity === undefined ? value : Number.POSITIVE_INFINITY;
}
