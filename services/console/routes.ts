import { SignalboxError } from "#libs/errors/index.ts";

/** Pieces of the path a route's `:name` segments matched, URL-decoded. */
export type PathValues = Readonly<Record<string, string>>;

/** One line of the route manifest. */
export interface Route<H> {
  readonly method: "GET" | "POST" | "DELETE";
  /** Segments; `:name` matches one. */
  readonly path: string;
  /** open: no token (probes); loopback: no token while the listener is on loopback; admin: always the token. */
  readonly access: "open" | "loopback" | "admin";
  readonly handle: H;
}

/** The route for a request and its path values. Throws ROUTE_UNKNOWN or METHOD_NOT_ALLOWED. */
export function matchRoute<H>(routes: readonly Route<H>[], method: string, path: string): { route: Route<H>; values: PathValues } {
  const segments = path.split("/");
  let known = false;
  for (const route of routes) {
    const values = matchPath(route.path.split("/"), segments);
    if (!values) continue;
    if (route.method === method || (route.method === "GET" && method === "HEAD")) return { route, values };
    known = true;
  }
  if (known) throw new SignalboxError("METHOD_NOT_ALLOWED", `${method} is not allowed on ${path.slice(0, 200)}.`);
  throw new SignalboxError("ROUTE_UNKNOWN", `There is no ${path.slice(0, 200)} on the admin port.`);
}

function matchPath(pattern: readonly string[], segments: readonly string[]): PathValues | undefined {
  if (pattern.length !== segments.length) return undefined;
  const values: Record<string, string> = {};
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index]!;
    if (part.startsWith(":")) {
      if (segment === "") return undefined;
      values[part.slice(1)] = decode(segment);
    } else if (part !== segment) return undefined;
  }
  return values;
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new SignalboxError("REQUEST_MALFORMED", "The path is not valid percent-encoding.");
  }
}
