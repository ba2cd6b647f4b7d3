import { z } from "zod";
import type { ConfigPath } from "./problems.ts";
import { fileSchema } from "./schema.ts";

/** The settings the schema knows at a path; empty where names are free. */
export function knownKeys(path: ConfigPath): readonly string[] {
  let schema: z.core.$ZodType | undefined = fileSchema;
  for (const part of path) schema = schema && child(schema, part);
  const mapping = schema && mappingOf(schema);
  return mapping instanceof z.ZodObject ? Object.keys(mapping.shape) : [];
}

function child(schema: z.core.$ZodType, part: string | number): z.core.$ZodType | undefined {
  const mapping = mappingOf(schema);
  if (mapping instanceof z.ZodObject) return (mapping.shape as Record<string, z.core.$ZodType>)[part];
  if (mapping instanceof z.ZodRecord) return mapping.valueType;
  if (mapping instanceof z.ZodArray) return mapping.element;
  return undefined;
}

/** Looks through `optional`, transforms and unions for the mapping or list inside. */
function mappingOf(schema: z.core.$ZodType): z.core.$ZodType | undefined {
  if (schema instanceof z.ZodOptional) return mappingOf(schema.unwrap());
  if (schema instanceof z.ZodPipe) return mappingOf(schema.in);
  if (schema instanceof z.ZodUnion) {
    return schema.options.map((option) => mappingOf(option)).find((option) => option !== undefined);
  }
  return schema instanceof z.ZodObject || schema instanceof z.ZodRecord || schema instanceof z.ZodArray ? schema : undefined;
}
