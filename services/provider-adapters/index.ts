export { createProviderAdapters, type ProviderAdaptersDeps, type ProviderAdaptersHost } from "./module.ts";
export { adapterRpc } from "./rpc.ts";
