import { API_PORT, loadConfigFile } from "#libs/config/index.ts";
import { createAdminClient } from "./admin-client.ts";
import type { VerbContext } from "./context.ts";
import { CliError } from "./exit.ts";
import { fieldsOf } from "./format.ts";
import { urlOf } from "./options.ts";

/** The model asked when none is named. */
const USUAL_MODEL = "chat";

/** Where the running server says its API is, and a model it has; what the file says when it does not tell. */
export async function runningServer({ io, options }: VerbContext): Promise<{ readonly apiUrl: string; readonly model: string }> {
  try {
    const answer = await createAdminClient(io, options).call("GET", "/config");
    const config = fieldsOf(answer["config"] ?? answer);
    const { host, port } = fieldsOf(fieldsOf(fieldsOf(config["server"])["api"])["listen"]);
    const models = Object.keys(fieldsOf(config["models"]));
    const model = models.includes(USUAL_MODEL) ? USUAL_MODEL : (models[0] ?? USUAL_MODEL);
    if (typeof host === "string" && typeof port === "number" && port > 0) return { apiUrl: urlOf({ host, port }), model };
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
  }
  return { apiUrl: configuredApiUrl(options.configFile), model: USUAL_MODEL };
}

/** The API's address by the configuration file, or the default one. */
function configuredApiUrl(configFile: VerbContext["options"]["configFile"]): string {
  const loaded = configFile === undefined ? undefined : loadConfigFile(configFile);
  return urlOf(loaded?.config?.server.api.listen ?? { host: "127.0.0.1", port: API_PORT });
}
