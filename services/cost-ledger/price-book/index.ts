export { buildPriceBook, type BuiltBook } from "./build.ts";
export { fromCatalog, type CatalogMatch, type MatchGrade } from "./catalog.ts";
export { parsePriceFile, type PriceFile } from "./litellm.ts";
