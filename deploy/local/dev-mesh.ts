import { systemClock, systemRandom } from "#libs/clock/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { devConfigText } from "../dev-config.ts";
import { createSimulator, devBackends, devProfiles } from "#simulator/index.ts";

/** Simulated providers for a mesh without a configuration of its own, and the configuration that uses them. */
export async function devMeshConfig(): Promise<{ readonly config: string; stop(): Promise<void> }> {
  const simulator = createSimulator({ clock: systemClock, random: systemRandom, logger: silentLogger, profiles: devProfiles() });
  const simulated = devBackends(await simulator.start());
  return { config: devConfigText({ simulated, env: process.env }), stop: () => simulator.stop() };
}
