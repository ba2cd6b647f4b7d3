import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROLES } from "#deploy/roles.ts";
import { ROOT } from "../tidy/sources.ts";
import { readManifests, readYaml, type Container } from "./manifests.ts";

const PORTS: Readonly<Record<string, number>> = { api: 4100, admin: 4101, grpc: 4102, mesh: 4103 };
const manifests = readManifests();
const workloads = manifests.filter(({ kind }) => kind === "Deployment" || kind === "StatefulSet");

function roleOf(args: readonly string[]): string {
  return args[args.indexOf("--role") + 1]!;
}

function isRole(role: string): boolean {
  const [name, only] = role.split(":");
  return (
    (ROLES as readonly string[]).includes(name!) &&
    (only === undefined || (name === "provider-adapters" && existsSync(join(ROOT, "services/provider-adapters", only))))
  );
}

test("every manifest is valid against the schema of its kind", async () => {
  assert.ok(manifests.length > 20);
  for (const manifest of manifests) {
    const group = manifest.apiVersion.includes("/") ? manifest.apiVersion : `${manifest.apiVersion}`;
    const { file, ...data } = manifest;
    const loaded = (await import(`kubernetes-models/${group}/${manifest.kind}`)) as Record<
      string,
      new (data: unknown) => { validate(): void }
    >;
    const Model = loaded[manifest.kind]!;
    assert.doesNotThrow(() => new Model(data).validate(), `${file} ${manifest.kind}/${manifest.metadata.name}`);
  }
});

test("there is one workload per service and per adapter, started by a command the code has", () => {
  const roles = workloads.map(({ spec }) => roleOf(spec.template!.spec.containers[0]!.args!));
  assert.deepEqual(roles.toSorted(), [
    "console",
    "cost-ledger",
    "health-monitor",
    "ingress",
    "policy-engine",
    "provider-adapters:anthropic",
    "provider-adapters:openai",
  ]);
  for (const role of roles) assert.ok(isRole(role), role);
});

test("containers listen on the ports the code has", () => {
  for (const { spec } of workloads)
    for (const { name, containerPort } of spec.template!.spec.containers[0]!.ports!) assert.equal(containerPort, PORTS[name], name);
  for (const { kind, spec, metadata } of manifests) {
    if (kind !== "Service") continue;
    for (const { name, port } of (spec as unknown as { ports: { name: string; port: number }[] }).ports)
      assert.equal(port, PORTS[name], `${metadata.name}/${name}`);
  }
});

test("pods meet the restricted pod security standard", () => {
  for (const { metadata, spec } of workloads) {
    const pod = spec.template!.spec;
    assert.equal(pod.automountServiceAccountToken, false, metadata.name);
    assert.equal(pod.securityContext?.["runAsNonRoot"], true, metadata.name);
    assert.deepEqual(pod.securityContext?.["seccompProfile"], { type: "RuntimeDefault" }, metadata.name);
    assert.deepEqual(
      pod.containers[0]!.securityContext,
      { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
      metadata.name,
    );
  }
});

test("probes ask the admin port, and liveness never asks about dependencies", () => {
  for (const { metadata, spec } of workloads) {
    const container: Container = spec.template!.spec.containers[0]!;
    assert.deepEqual(container.startupProbe?.httpGet, { path: "/livez", port: "admin" }, metadata.name);
    assert.deepEqual(container.livenessProbe?.httpGet, { path: "/livez", port: "admin" }, metadata.name);
    assert.deepEqual(container.readinessProbe?.httpGet, { path: "/readyz", port: "admin" }, metadata.name);
  }
});

test("a pod that streams has time to drain: the grace of the configuration and 15 s", () => {
  const { server } = readYaml("deploy/config/compose.yaml") as { server: { drain: { delay: string; grace: string } } };
  const drainS = Number.parseInt(server.drain.delay, 10) + Number.parseInt(server.drain.grace, 10);
  for (const { metadata, spec } of workloads) {
    if (!/ingress|adapter/.test(metadata.name)) continue;
    assert.ok(spec.template!.spec.terminationGracePeriodSeconds! >= drainS + 5, metadata.name);
  }
});

test("each adapter scales on its requests in flight, by the metric the code exports", () => {
  const scalers = manifests.filter(({ kind }) => kind === "HorizontalPodAutoscaler");
  const adapters = workloads.filter(({ metadata }) => metadata.name.startsWith("adapter-")).map(({ metadata }) => metadata.name);
  assert.deepEqual(scalers.map(({ metadata }) => metadata.name).toSorted(), adapters.toSorted());
  for (const { spec } of scalers) {
    const [pods] = (spec as unknown as { metrics: { pods: { metric: { name: string } } }[] }).metrics;
    assert.equal(pods!.pods.metric.name, "signalbox_adapter_in_flight");
  }
});

test("every workload with several replicas has a disruption budget", () => {
  const budgets = manifests.filter(({ kind }) => kind === "PodDisruptionBudget").map(({ metadata }) => metadata.name);
  assert.deepEqual(
    budgets.toSorted(),
    workloads
      .filter(({ spec }) => spec.replicas! > 1)
      .map(({ metadata }) => metadata.name)
      .toSorted(),
  );
});

test("traffic is denied by default and only the adapters and the prober reach providers", () => {
  const policies = manifests.filter(({ kind }) => kind === "NetworkPolicy");
  const names = policies.map(({ metadata }) => metadata.name);
  assert.ok(names.includes("default-deny"));
  const providers = JSON.stringify(policies.find(({ metadata }) => metadata.name === "providers")!.spec);
  assert.match(providers, /"adapter-openai","adapter-anthropic","health-monitor"/);
});

test("compose runs the same commands with a read-only root and no capabilities", () => {
  const { services } = readYaml("deploy/compose.yaml") as {
    services: Record<string, { command: string[]; read_only?: boolean; cap_drop?: string[]; image: string }>;
  };
  const ours = Object.entries(services).filter(([, { image }]) => image.startsWith("signalbox"));
  assert.equal(ours.length, 7);
  for (const [name, { command, read_only, cap_drop }] of ours) {
    assert.ok(isRole(roleOf(command)), name);
    assert.equal(read_only, true, name);
    assert.deepEqual(cap_drop, ["ALL"], name);
  }
});

test("the image runs as a user without privileges and starts what exists", () => {
  const text = readFileSync(join(ROOT, "deploy/Dockerfile"), "utf8");
  assert.match(text, /^USER 65532:65532$/m);
  assert.equal(text.match(/^FROM /gm)?.length, 2);
  assert.match(text, /npm ci --omit=dev --ignore-scripts/);
  for (const [, path] of text.matchAll(/"\/app\/([^"]+\.ts)"/g)) assert.ok(existsSync(join(ROOT, path!)), path);
  for (const port of Object.values(PORTS)) assert.match(text, new RegExp(`EXPOSE .*\\b${port}\\b`));
});
