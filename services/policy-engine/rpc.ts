import { create } from "@bufbuild/protobuf";
import {
  DecideResponseSchema,
  ExplainResponseSchema,
  ExplainRequestSchema,
  PolicyService,
} from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import type { PolicyHost } from "#libs/peers/index.ts";
import { type RpcService, rpcService } from "#libs/rpc/service.ts";

/** Decide and Explain for any client; nothing is reserved. Sessions are served by libs/rpc straight from the host. */
export function policyRpc(host: PolicyHost): RpcService {
  return rpcService(PolicyService, {
    decide: async (request) => {
      const record = await host.explain(create(ExplainRequestSchema, { subject: { case: "dryRun", value: request } }));
      return create(DecideResponseSchema, record?.decision === undefined ? {} : { decision: record.decision });
    },
    explain: async (request) => {
      const record = await host.explain(request);
      return create(ExplainResponseSchema, record === undefined ? {} : { record });
    },
  });
}
