import type { ServerPaths } from "./servers.ts";

/** What this machine offers to install with. */
export interface Installers {
  readonly hasApt: boolean;
  readonly hasBrew: boolean;
  readonly hasSudo: boolean;
  readonly isRoot: boolean;
  /** Whether somebody can type a password for sudo. */
  readonly isInteractive: boolean;
}

/** One command: program and arguments. No shell is involved. */
export type SetupCommand = readonly string[];

/** What to do about servers that are missing. */
export type SetupPlan =
  | { readonly kind: "nothing" }
  | { readonly kind: "install"; readonly missing: readonly string[]; readonly commands: readonly SetupCommand[] }
  /** It cannot be done here; the one command that would do it. */
  | { readonly kind: "ask"; readonly missing: readonly string[]; readonly command: string };

/** The servers the mesh needs, and their packages. */
const NEEDED = [
  { name: "nats-server", apt: "nats-server", brew: "nats-server", isThere: (found: ServerPaths) => found.natsServer !== undefined },
  { name: "PostgreSQL", apt: "postgresql", brew: "postgresql@17", isThere: (found: ServerPaths) => found.postgresBin !== undefined },
];

/** Decides how to bring what is missing. */
export function planSetup(found: ServerPaths, installers: Installers): SetupPlan {
  const absent = NEEDED.filter((server) => !server.isThere(found));
  if (absent.length === 0) return { kind: "nothing" };
  const missing = absent.map(({ name }) => name);
  const aptPackages = absent.map(({ apt }) => apt);
  if (installers.hasApt && (installers.isRoot || installers.hasSudo)) {
    return { kind: "install", missing, commands: aptCommands(aptPackages, installers) };
  }
  const brewPackages = absent.map(({ brew }) => brew);
  if (installers.hasBrew) return { kind: "install", missing, commands: [["brew", "install", ...brewPackages]] };
  if (installers.hasApt) return { kind: "ask", missing, command: `su -c 'apt-get update && apt-get install -y ${aptPackages.join(" ")}'` };
  return { kind: "ask", missing, command: `brew install ${brewPackages.join(" ")}` };
}

/** Packages are looked up afresh first: an image's lists are as old as the image. */
function aptCommands(packages: readonly string[], { isRoot, isInteractive }: Installers): readonly SetupCommand[] {
  const sudo = isRoot ? [] : isInteractive ? ["sudo"] : ["sudo", "-n"];
  const apt = [...sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
  return [
    [...apt, "update"],
    [...apt, "install", "-y", "--no-install-recommends", ...packages],
  ];
}
