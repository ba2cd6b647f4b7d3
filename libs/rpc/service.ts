import type { DescService } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";

/**
 * A service as its `rpc.ts` offers it: descriptor and implementation in Connect's shape. `libs/rpc` puts it on the public
 * port (Connect, gRPC, gRPC-web) and on the mesh port (grpc-js); the implementation does not know which.
 */
export interface RpcService {
  readonly descriptor: DescService;
  readonly implementation: Partial<ServiceImpl<DescService>>;
}

/** Pairs a descriptor with its implementation, keeping the types. */
export function rpcService<T extends DescService>(descriptor: T, implementation: Partial<ServiceImpl<T>>): RpcService {
  return { descriptor, implementation: implementation as Partial<ServiceImpl<DescService>> };
}
