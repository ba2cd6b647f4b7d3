import { styleText } from "node:util";
import type { ProcessAddresses } from "./process.ts";

/** What the banner shows. */
export interface BannerFacts {
  readonly roles: readonly string[];
  readonly addresses: ProcessAddresses;
  readonly readyMs: number;
  /** Undefined = keys are needed. */
  readonly open: boolean;
  readonly backends: readonly { readonly name: string; readonly simulated: boolean }[];
  readonly color: boolean;
}

/** The lines `dev` and `serve` print when everything is ready. */
export function bannerText(facts: BannerFacts): string {
  const paint = (style: "bold" | "green" | "cyan" | "dim", value: string): string =>
    facts.color ? styleText(style, value, { validateStream: false }) : value;
  const row = (label: string, value: string, note = ""): string =>
    `  ${paint("dim", label.padEnd(8))} ${value}${note === "" ? "" : `    ${paint("dim", note)}`}`;
  const embedded = facts.roles.length > 1;
  const { api, admin, grpc, mesh } = facts.addresses;
  const lines = [
    `  ${paint("bold", "signalbox")}  ${embedded ? "embedded: " : ""}${facts.roles.filter((role) => role !== "console" || !embedded).join(" · ")}    ready in ${(facts.readyMs / 1000).toFixed(1)} s`,
  ];
  if (api)
    lines.push(
      row(
        "API",
        paint("cyan", `http://${api}/v1`),
        facts.open ? "any key works (open mode, loopback only)" : "virtual keys: signalbox keys create --tenant NAME",
      ),
    );
  lines.push(row("Admin", paint("cyan", `http://${admin}`)));
  if (grpc) lines.push(row("gRPC", grpc));
  if (mesh) lines.push(row("Mesh", mesh));
  const simulated = facts.backends.filter((backend) => backend.simulated);
  const real = facts.backends.filter((backend) => !backend.simulated);
  const dots = (list: typeof simulated): string => list.map(({ name }) => `${name} ${paint("green", "●")}`).join(" ");
  if (simulated.length > 0) lines.push(row("Backends", dots(simulated), "simulated: no key, no GPU, $0"));
  if (real.length > 0 && api)
    lines.push(
      row(
        simulated.length > 0 ? "Real" : "Backends",
        dots(real),
        simulated.length > 0 ? "real: asked for by name only, they cost money" : "",
      ),
    );
  return lines.join("\n");
}
