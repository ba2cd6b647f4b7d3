/** What one process can run. `all` is every role in one process (embedded). */
export const ROLES = ["ingress", "policy-engine", "health-monitor", "cost-ledger", "provider-adapters", "console"] as const;

/** One role. */
export type Role = (typeof ROLES)[number];

/** What `--role` says: the role and, for adapters, the dialect folder it is limited to. */
export interface RoleChoice {
  readonly role: Role;
  /** `openai` or `anthropic`; undefined = every dialect. */
  readonly only: string | undefined;
}

/** Reads `--role`. Undefined when there is no such role. */
export function parseRole(text: string): RoleChoice | undefined {
  const [name, only] = text.split(":");
  const role = ROLES.find((known) => known === name);
  if (!role || (only !== undefined && role !== "provider-adapters")) return undefined;
  return { role, only };
}
