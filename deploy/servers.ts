import { accessSync, constants, readdirSync, realpathSync, statSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";

/** Servers of this machine that the mesh and its tests start themselves. */
export interface ServerPaths {
  /** The nats-server binary; undefined = not found. */
  readonly natsServer: string | undefined;
  /** The folder that holds `initdb`, `pg_ctl` and `postgres`; undefined = not found. */
  readonly postgresBin: string | undefined;
}

/** Where the look-up looks, so that a test can look elsewhere. */
export interface SearchPlaces {
  /** Folders of commands, first found wins. */
  readonly folders: readonly string[];
  /** Folders that hold one folder per PostgreSQL version, with a `bin` inside. */
  readonly postgresRoots: readonly string[];
}

/** Debian keeps servers out of users' PATH, Homebrew keeps versioned packages out of everybody's. */
const SERVER_FOLDERS = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin", "/usr/local/bin"];
const POSTGRES_ROOTS = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];
const POSTGRES_PROGRAMS = ["initdb", "pg_ctl", "postgres"];

/** PATH, then the folders of Debian and Homebrew. */
export function usualPlaces(path: string | undefined = process.env["PATH"]): SearchPlaces {
  const folders = (path ?? "").split(delimiter).filter((folder) => folder !== "");
  return { folders: [...folders, ...SERVER_FOLDERS], postgresRoots: POSTGRES_ROOTS };
}

/** Finds nats-server and PostgreSQL. Runs nothing and changes nothing. */
export function findServers(places: SearchPlaces = usualPlaces()): ServerPaths {
  return { natsServer: findProgram("nats-server", places.folders), postgresBin: findPostgres(places) };
}

/** The first executable of that name. */
export function findProgram(name: string, folders: readonly string[]): string | undefined {
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

/** The newest complete PostgreSQL of the version folders, else the one on PATH. */
function findPostgres({ folders, postgresRoots }: SearchPlaces): string | undefined {
  const isComplete = (folder: string): boolean => POSTGRES_PROGRAMS.every((program) => isExecutable(join(folder, program)));
  // A link such as /usr/local/bin/initdb leads to the folder where its companions are.
  const onPath = folders
    .map((folder) => join(folder, "initdb"))
    .filter(isExecutable)
    .map((file) => dirname(realpathSync(file)));
  return [...postgresRoots.flatMap(versionFolders), ...onPath].find(isComplete);
}

/** `ROOT/15/bin`, `ROOT/postgresql@17/bin`, newest first. */
function versionFolders(root: string): readonly string[] {
  let names: readonly string[];
  try {
    names = readdirSync(root);
  } catch {
    return []; // not a machine of that kind
  }
  return names
    .map((name) => ({ name, version: Number(/^(?:postgresql@)?(\d+)$/.exec(name)?.[1]) }))
    .filter(({ version }) => version > 0)
    .toSorted((left, right) => right.version - left.version)
    .map(({ name }) => join(root, name, "bin"));
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false; // absent, or not ours to run
  }
}
