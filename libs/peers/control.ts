import type {
  ControlState,
  CreateKeyRequest,
  CreateKeyResponse,
  KeyRecord,
  RotateKeyResponse,
} from "#gen/signalbox/control/v1/control_service_pb.ts";

export type { ControlState, CreateKeyRequest, CreateKeyResponse, KeyRecord, RotateKeyResponse };

/** Control state, near or far; lives with the ledger's store. Changes are also published on the bus as whole states. */
export interface ControlPeer {
  createKey(request: CreateKeyRequest): Promise<CreateKeyResponse>;
  listKeys(tenant?: string): Promise<readonly KeyRecord[]>;
  /** Rejects with ROUTE_UNKNOWN when there is no such key. */
  revokeKey(keyId: string): Promise<KeyRecord>;
  /** Gives a key a new secret; the old one works on for `graceMs`. Rejects like {@link revokeKey}. */
  rotateKey(keyId: string, graceMs: number): Promise<RotateKeyResponse>;
  setDrain(backend: string, drained: boolean): Promise<readonly string[]>;
  /** The state, or undefined when `knownRevision` is current. */
  state(knownRevision: bigint): Promise<ControlState | undefined>;
}
