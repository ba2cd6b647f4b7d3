/** Rounds measured; the middle one counts, so that one disturbed round says nothing. */
const ROUNDS = 5;

/** CPU of this process, user and system, us. */
export function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Runs `run` (which does `operations` of something) a few times after one to warm up; CPU per operation in us, middle of the rounds. */
export async function gauge(operations: number, run: () => void | Promise<void>): Promise<number> {
  await run();
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const before = cpuUs();
    await run();
    rounds.push((cpuUs() - before) / operations);
  }
  return rounds.toSorted((a, b) => a - b)[ROUNDS >> 1]!;
}

/** One line of a micro-benchmark's output. */
export function line(what: string, us: number, unit: string): void {
  process.stdout.write(`${what.padEnd(64)} ${us.toFixed(2).padStart(9)} us CPU ${unit}\n`);
}
