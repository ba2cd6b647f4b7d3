import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { isIP } from "node:net";
import { SignalboxError } from "#libs/errors/index.ts";

/** Who may call the admin surface. */
export interface Guard {
  /** Throws when the Host header names something else than this machine: a page in a browser must not reach us by rebinding a name. */
  host(request: IncomingMessage): void;
  /** Throws when the admin token is missing or wrong. */
  token(request: IncomingMessage): void;
}

/** Loopback names and IP literals (which no name can be rebound to) are always allowed; `allowedHosts` adds names. */
export function createGuard(adminToken: string, allowedHosts: () => readonly string[]): Guard {
  const expected = digestOf(adminToken);
  return {
    host: (request) => {
      const name = hostName(request.headers.host);
      if (isUnboundName(name) || allowedHosts().includes(name)) return;
      throw new SignalboxError("POLICY_DENIED", `Host "${name.slice(0, 64)}" is not allowed here: add it to server.admin.allowed_hosts.`, {
        code: "host_not_allowed",
      });
    },
    token: (request) => {
      const [scheme, token] = (request.headers.authorization ?? "").split(" ");
      if (scheme?.toLowerCase() === "bearer" && token !== undefined && timingSafeEqual(digestOf(token), expected)) return;
      throw new SignalboxError(
        "UNAUTHENTICATED",
        "The admin API needs the admin token: authorization: Bearer <the text of DATA_DIR/admin.token>.",
      );
    },
  };
}

function digestOf(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

function hostName(header: string | undefined): string {
  const host = (header ?? "").toLowerCase();
  return host.startsWith("[") ? host.slice(1, host.indexOf("]")) : (host.split(":")[0] ?? "");
}

function isUnboundName(name: string): boolean {
  return name === "localhost" || name.endsWith(".localhost") || isIP(name) !== 0;
}
