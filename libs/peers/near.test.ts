import { adapterContract } from "./adapter.contract.ts";
import { policyContract } from "./policy.contract.ts";

policyContract("near policy", (host) => {
  const session = host.openSession("ingress-1");
  return Promise.resolve({ session, close: () => Promise.resolve(session.close()) });
});

adapterContract("near adapter", (host) => Promise.resolve({ peer: host, close: () => Promise.resolve() }));
