import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, parseAllDocuments } from "yaml";
import { ROOT } from "../tidy/sources.ts";

/** A Kubernetes object, as far as the checks look. */
export interface Manifest {
  readonly file: string;
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  // The checks reach into many shapes; each one asserts what it finds.
  readonly spec: Record<string, never> & { template?: { spec: PodSpec }; replicas?: number; selector?: unknown };
}

/** A pod's specification, as far as the checks look. */
export interface PodSpec {
  readonly automountServiceAccountToken?: boolean;
  readonly terminationGracePeriodSeconds?: number;
  readonly securityContext?: Record<string, unknown>;
  readonly containers: readonly Container[];
}

/** A container, as far as the checks look. */
export interface Container {
  readonly name: string;
  readonly args?: readonly string[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly securityContext?: Record<string, unknown>;
  readonly startupProbe?: Probe;
  readonly livenessProbe?: Probe;
  readonly readinessProbe?: Probe;
}

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string };
}

/** Every Kubernetes object of deploy/kubernetes. */
export function readManifests(): Manifest[] {
  return globSync("deploy/kubernetes/*.yaml", { cwd: ROOT })
    .filter((file) => !file.endsWith("kustomization.yaml"))
    .flatMap((file) =>
      parseAllDocuments(readFileSync(join(ROOT, file), "utf8")).map((document) => ({ ...(document.toJS() as Manifest), file })),
    );
}

/** A YAML file of the repository. */
export function readYaml(path: string): Record<string, unknown> {
  return parse(readFileSync(join(ROOT, path), "utf8"), { merge: true }) as Record<string, unknown>;
}
