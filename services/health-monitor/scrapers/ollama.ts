import type { Scrape } from "./scrape.ts";

/** Models listed at most: more than fit any memory. */
const MODELS_MAX = 256;

/** Ollama's `/api/ps`: which models are in memory. It states no load. */
export function scrapeOllama(text: string): Scrape | undefined {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    return undefined;
  }
  const models = (answer as { models?: unknown } | null)?.models;
  if (!Array.isArray(models)) return undefined;
  const names = models.slice(0, MODELS_MAX).flatMap((entry: unknown) => {
    const { model, name } = (entry ?? {}) as { model?: unknown; name?: unknown };
    return typeof model === "string" ? [model] : typeof name === "string" ? [name] : [];
  });
  // "latest" is what a name without a tag means
  const loadedModels = [...new Set(names.flatMap((name) => (name.endsWith(":latest") ? [name, name.slice(0, -7)] : [name])))];
  return { running: 0, waiting: 0, kvUsage: -1, kvCapacityTokens: 0, preemptions: -1, generation: -1, loadedModels };
}
