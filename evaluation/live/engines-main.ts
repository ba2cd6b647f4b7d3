import { systemClock } from "#libs/clock/index.ts";
import type { EngineProfile } from "../engine-profile.ts";
import { SimulatedEngine } from "../engine.ts";
import { serveEngine } from "./engine-server.ts";
import { steadyClock } from "./steady-clock.ts";

// The providers of the live run, in a process of their own: `node engines-main.ts PROFILES`, profiles as a JSON list. Prints
// `{"ports":[...]}` when all listen, and lives until it is told to end.

const profiles = JSON.parse(process.argv[2] ?? "[]") as EngineProfile[];
const clock = steadyClock(systemClock);
const ports: number[] = [];
for (const profile of profiles) ports.push((await serveEngine(new SimulatedEngine(profile, clock))).port);
process.stdout.write(`${JSON.stringify({ ports })}\n`);
