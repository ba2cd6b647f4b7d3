import type { Config, ModelConfig } from "./model.ts";

/** The model of a name or an alias; undefined = there is none. */
export function modelNamed({ models }: Pick<Config, "models">, asked: string): ModelConfig | undefined {
  return models.get(asked) ?? [...models.values()].find(({ aliases }) => aliases.includes(asked));
}
