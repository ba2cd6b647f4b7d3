import { accessSync, constants, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePorts } from "#deploy/local/ports.ts";
import { spawnServer, waitFor } from "../harness/spawn.ts";
import { CHAT_PATH, MODEL, PACED_MODEL, type BenchEnvironment, type Target } from "./target.ts";

const PORTKEY = fileURLToPath(new URL("../../node_modules/@portkey-ai/gateway/build/start-server.js", import.meta.url));

const PORTKEY_PRELOAD = fileURLToPath(new URL("./portkey-preload-main.ts", import.meta.url));

/** Portkey's gateway, from node_modules; it is told the upstream by headers. */
export const portkey: Target = {
  id: "portkey",
  title: "Portkey gateway (Node)",
  start: async (environment) => {
    if (!existsSync(PORTKEY)) return undefined;
    const [port] = await freePorts(1);
    const command = [...environment.pin, process.execPath, "--import", PORTKEY_PRELOAD, PORTKEY, "--headless", `--port=${port}`];
    const server = spawnServer(command, `${environment.folder}/portkey.log`, { NODE_ENV: "production" });
    await waitFor(server, `http://127.0.0.1:${port}/`, (status) => status < 500);
    return {
      endpoint: (isPaced) => ({
        port: port!,
        path: CHAT_PATH,
        headers: {
          authorization: "Bearer bench",
          "x-portkey-provider": "openai",
          "x-portkey-custom-host": `${upstreamOf(environment, isPaced)}`,
        },
        model: MODEL,
      }),
      roots: () => [server.pid],
      stop: () => server.stop(),
    };
  },
};

/** LiteLLM's proxy, from PATH, one worker. */
export const litellm: Target = {
  id: "litellm",
  title: "LiteLLM proxy (Python)",
  start: async (environment) => {
    const path = onPath("litellm");
    if (path === undefined) return undefined;
    const [port] = await freePorts(1);
    const file = `${environment.folder}/litellm.yaml`;
    const entry = (model: string, isPaced: boolean): string =>
      `  - { model_name: ${model}, litellm_params: { model: openai/${MODEL}, api_base: "${upstreamOf(environment, isPaced)}", api_key: bench } }\n`;
    writeFileSync(file, `model_list:\n${entry(MODEL, false)}${entry(PACED_MODEL, true)}`);
    const command = [...environment.pin, path, "--config", file, "--port", String(port), "--host", "127.0.0.1", "--num_workers", "1"];
    const server = spawnServer(command, `${environment.folder}/litellm.log`, {
      LITELLM_LOG: "ERROR",
      LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY: "true",
    });
    await waitFor(server, `http://127.0.0.1:${port}/health/liveliness`, (status) => status === 200);
    return {
      endpoint: (isPaced) => ({
        port: port!,
        path: CHAT_PATH,
        headers: { authorization: "Bearer bench" },
        model: isPaced ? PACED_MODEL : MODEL,
      }),
      roots: () => [server.pid],
      stop: () => server.stop(),
    };
  },
};

/** Bifrost's HTTP gateway, from PATH. It has one upstream a provider: the paced one is configured as another provider. */
export const bifrost: Target = {
  id: "bifrost",
  title: "Bifrost (Go)",
  start: async (environment) => {
    const path = onPath("bifrost-http") ?? onPath("bifrost");
    if (path === undefined) return undefined;
    const [port] = await freePorts(1);
    const folder = `${environment.folder}/bifrost`;
    mkdirSync(folder, { recursive: true });
    const provider = (isPaced: boolean): object => ({
      keys: [{ name: "bench", value: "bench", models: [MODEL], weight: 1 }],
      network_config: { base_url: upstreamOf(environment, isPaced).replace(/\/v1$/, "") },
      ...(isPaced ? { custom_provider_config: { base_provider_type: "openai" } } : {}),
    });
    writeFileSync(`${folder}/config.json`, JSON.stringify({ providers: { openai: provider(false), paced: provider(true) } }));
    const command = [...environment.pin, path, "-app-dir", folder, "-port", String(port), "-host", "127.0.0.1", "-log-level", "error"];
    const server = spawnServer(command, `${environment.folder}/bifrost.log`, { GOMAXPROCS: "1" });
    await waitFor(server, `http://127.0.0.1:${port}/health`, (status) => status < 500);
    return {
      endpoint: (isPaced) => ({ port: port!, path: CHAT_PATH, headers: {}, model: `${isPaced ? "paced" : "openai"}/${MODEL}` }),
      roots: () => [server.pid],
      stop: () => server.stop(),
    };
  },
};

function upstreamOf(environment: BenchEnvironment, isPaced: boolean): string {
  return `http://127.0.0.1:${isPaced ? environment.pacedPort : environment.upstreamPort}/v1`;
}

/** Path of an executable, from PATH and Debian's folders for servers; undefined when there is none. */
export function onPath(name: string): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/bin"];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
