import { type Clock, systemClock } from "#libs/clock/index.ts";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { createSimulator, type SimBackendProfile, type Simulator, type SpeedProfile } from "#simulator/index.ts";

/** Prices of the simulated backends in tests, USD per million tokens, and the same in pico-USD per token. */
export interface TestPrice {
  readonly input: string;
  readonly cache_read: string;
  readonly cache_write?: string;
  readonly output: string;
}

/** A simulated backend and how the configuration names it. */
export interface SimulatedBackend {
  readonly profile: SimBackendProfile;
  readonly provider: "openai" | "anthropic" | "vllm";
  readonly price: TestPrice;
}

const CAPABILITIES = ["tools", "vision", "json_schema"] as const;

/** A backend that answers at once, unless told another speed. `cost` is its input price in USD per million tokens: the cheapest is asked first. */
export function simulatedBackend(
  name: string,
  provider: SimulatedBackend["provider"],
  cost: number,
  speed: SpeedProfile = { kind: "fast" },
): SimulatedBackend {
  const usd = (amount: number): string => `$${Number(amount.toFixed(6))}`;
  const price: TestPrice = { input: usd(cost), cache_read: usd(cost / 10), cache_write: usd(cost * 1.25), output: usd(cost * 4) };
  return {
    provider,
    price,
    profile: {
      name,
      dialect: provider,
      model: `${name}-model`,
      contextTokens: 128_000,
      maxOutputTokens: 8_192,
      capabilities: [...CAPABILITIES, ...(provider === "anthropic" ? [] : (["logprobs", "n"] as const))],
      speed,
    },
  };
}

/** Simulated backends that run, and the `backends` section that uses them. */
export interface Simulation {
  readonly simulator: Simulator;
  readonly backends: Readonly<Record<string, unknown>>;
  stop(): Promise<void>;
}

/** A time for simulated backends that stands still until it is let go: whoever is being answered stays so while a test looks. */
export class HeldTime {
  readonly clock = new FakeClock();

  /** Lets it go until the work is done. */
  async letGoFor<T>(work: Promise<T>): Promise<T> {
    const going = systemClock.every(1, () => this.clock.advance(20));
    try {
      return await work;
    } finally {
      going.cancel();
    }
  }
}

/** Starts the simulator over these backends, in this process and in real time unless told another. */
export async function startSimulation(list: readonly SimulatedBackend[], seed = 1, clock: Clock = systemClock): Promise<Simulation> {
  const simulator = createSimulator({
    clock,
    random: new SeededRandom(seed),
    logger: silentLogger,
    profiles: list.map(({ profile }) => profile),
  });
  const urls = await simulator.start();
  const rooted = new Map([...urls].map(([name, { url }]) => [name, url]));
  const backends = Object.fromEntries(
    list.map(({ profile, provider, price }) => [
      profile.name,
      {
        provider,
        url: provider === "anthropic" ? rooted.get(profile.name)! : `${rooted.get(profile.name)!}/v1`,
        model: profile.model,
        context: "128k",
        capabilities: profile.capabilities,
        price: { per_million: price },
      },
    ]),
  );
  return { simulator, backends, stop: () => simulator.stop() };
}

/** Inference calls the simulated providers received: each is an attempt, and each attempt has an entry. */
export function attemptsSeen({ simulator }: Simulation): number {
  return simulator.calls().filter(({ client_request_id }) => client_request_id !== "").length;
}
