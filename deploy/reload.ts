import {
  createConfigSource,
  formatProblem,
  loadConfigFile,
  withPorts,
  type Config,
  type ConfigSource,
  type LoadResult,
  type PortOverrides,
} from "#libs/config/index.ts";
import { checkRule } from "#libs/rules/index.ts";

/** What a reload did: the new version, or why the old configuration stays. */
export type ReloadResult = { readonly configVersion: string } | { readonly diagnostics: readonly string[] };

/** A configuration that can be read again. */
export interface ReloadableConfig {
  readonly source: ConfigSource;
  /** Reads it again whole: swapped, or refused with the old one kept. */
  reload(): Promise<ReloadResult>;
}

/** The configuration, or the problems found in it, one line each. */
export type ConfigOutcome =
  | { readonly config: ReloadableConfig; readonly warnings: readonly string[]; readonly problems?: undefined }
  | { readonly problems: readonly string[] };

/** Opens a configuration file. What the command line says of ports and the data folder wins over the file, at reloads too. */
export function openConfigFile(path: string, dataDir: string, ports: PortOverrides): ConfigOutcome {
  const load = (): LoadResult => loadConfigFile(path, { dataDir, checkRule });
  const first = load();
  if (first.problems) return { problems: first.problems.map(formatProblem) };
  const source = createConfigSource(withPorts(first.config, ports));
  const reload = (): ReloadResult => {
    const next = load();
    if (next.problems) return { diagnostics: next.problems.map(formatProblem) };
    source.swap(withPorts(next.config, ports));
    return { configVersion: next.config.configVersion };
  };
  return { config: { source, reload: () => Promise.resolve(reload()) }, warnings: first.warnings.map(formatProblem) };
}

/** A configuration made up by the program: there is no file to read again. */
export function fixedConfig(config: Config): ReloadableConfig {
  return {
    source: createConfigSource(config),
    reload: () => Promise.resolve({ diagnostics: ["This configuration has no file: start with --config FILE to reload one."] }),
  };
}
