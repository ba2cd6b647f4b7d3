import { type DescFile, type DescService, toBinary } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { ServerReflection, type ServerReflectionRequest } from "#gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { rpcService, type RpcService } from "./service.ts";

type Answer =
  | { case: "fileDescriptorResponse"; value: { fileDescriptorProto: Uint8Array[] } }
  | { case: "listServicesResponse"; value: { service: { name: string }[] } }
  | { case: "errorResponse"; value: { errorCode: number; errorMessage: string } };

/** grpc.reflection in both versions, from the descriptors of the services a listener offers. */
export function reflectionServices(offered: readonly DescService[]): readonly RpcService[] {
  const services = [...offered, ServerReflection, ServerReflectionAlpha];
  const index = new DescriptorIndex(services);
  return [
    rpcService(ServerReflection, {
      async *serverReflectionInfo(requests) {
        for await (const request of requests) {
          yield { validHost: request.host, originalRequest: request, messageResponse: index.answer(request.messageRequest) };
        }
      },
    }),
    rpcService(ServerReflectionAlpha, {
      async *serverReflectionInfo(requests) {
        for await (const request of requests) {
          const question = request.messageRequest as unknown as ServerReflectionRequest["messageRequest"];
          yield { validHost: request.host, originalRequest: request, messageResponse: index.answer(question) };
        }
      },
    }),
  ];
}

class DescriptorIndex {
  readonly #services: readonly string[];
  readonly #files = new Map<string, DescFile>();
  readonly #symbols = new Map<string, DescFile>();

  constructor(services: readonly DescService[]) {
    this.#services = services.map((service) => service.typeName).sort();
    for (const service of services) this.#add(service.file);
  }

  answer(request: ServerReflectionRequest["messageRequest"]): Answer {
    switch (request.case) {
      case "listServices":
        return { case: "listServicesResponse", value: { service: this.#services.map((name) => ({ name })) } };
      case "fileByFilename":
        return fileAnswer(this.#files.get(request.value), request.value);
      case "fileContainingSymbol":
        return fileAnswer(this.#fileOf(request.value), request.value);
      case "fileContainingExtension":
      case "allExtensionNumbersOfType":
        return errorAnswer(Code.NotFound, "there are no extensions");
      case undefined:
        return errorAnswer(Code.InvalidArgument, "nothing was asked");
    }
  }

  /** File of a type, or of the type that holds the member. */
  #fileOf(symbol: string): DescFile | undefined {
    return this.#symbols.get(symbol) ?? this.#symbols.get(symbol.slice(0, Math.max(0, symbol.lastIndexOf("."))));
  }

  #add(file: DescFile): void {
    const name = `${file.name}.proto`;
    if (this.#files.has(name)) return;
    this.#files.set(name, file);
    for (const type of nestedTypes(file)) if ("typeName" in type) this.#symbols.set(type.typeName, file);
    for (const dependency of file.dependencies) this.#add(dependency);
  }
}

function fileAnswer(file: DescFile | undefined, asked: string): Answer {
  if (!file) return errorAnswer(Code.NotFound, `${asked} is unknown`);
  const found = new Set<DescFile>();
  const collect = (one: DescFile): void => {
    if (found.has(one)) return;
    found.add(one);
    one.dependencies.forEach(collect);
  };
  collect(file);
  return {
    case: "fileDescriptorResponse",
    value: { fileDescriptorProto: [...found].map((one) => toBinary(FileDescriptorProtoSchema, one.proto)) },
  };
}

function errorAnswer(errorCode: Code, errorMessage: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}
