/**
 * Loaded into Portkey's process before it. With the @hono/node-server it is installed with, its answers to streams take over fetch's
 * immutable headers and fail with 500 when it adds its own: the copy that is missing there is made here, one per request.
 */
const original = globalThis.fetch;

globalThis.fetch = async (input, init) => {
  const response = await original(input, init);
  Object.defineProperty(response, "headers", { value: new Headers(response.headers) });
  return response;
};
