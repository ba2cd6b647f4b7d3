import type { SimDialect } from "../profile.ts";

/** An error answer in OpenAI's terms; the dialect decides how it is written. */
export interface Problem {
  readonly status: number;
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string | null;
  /** Extra fields some engines add beside the message. */
  readonly extra?: Readonly<Record<string, number>>;
}

/** A 400 of the caller's making. */
export function invalid(message: string, param: string | null, code: string | null): Problem {
  return { status: 400, message, type: "invalid_request_error", param, code };
}

const VLLM_TYPES: Readonly<Record<number, string>> = {
  400: "BadRequestError",
  404: "NotFoundError",
  422: "UnprocessableEntityError",
  500: "InternalServerError",
  501: "NotImplementedError",
  503: "ServiceUnavailableError",
};
const LLAMACPP_TYPES: Readonly<Record<number, string>> = {
  400: "invalid_request_error",
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  500: "server_error",
  501: "not_supported_error",
  503: "unavailable_error",
};

/** The JSON body of an error in the dialect of the backend. */
export function problemBody(dialect: SimDialect, problem: Problem): string {
  const { status, message, param } = problem;
  switch (dialect) {
    case "vllm":
      if (status === 401) return JSON.stringify({ error: "Unauthorized" });
      return JSON.stringify({ error: { message, type: VLLM_TYPES[status] ?? "Error", param, code: status } });
    case "sglang":
      return JSON.stringify({ object: "error", message, type: VLLM_TYPES[status] ?? "Error", param, code: status });
    case "llamacpp": {
      const type = problem.code === "context_length_exceeded" ? "exceed_context_size_error" : (LLAMACPP_TYPES[status] ?? "server_error");
      return JSON.stringify({ error: { code: status, message, type, ...problem.extra } });
    }
    case "ollama":
      return JSON.stringify({ error: { message, type: status === 400 ? "invalid_request_error" : "api_error", param: null, code: null } });
    case "tgi":
      return JSON.stringify({
        error: message,
        error_type: status === 422 || status === 400 ? "validation" : status === 429 ? "overloaded" : "generation",
      });
    case "openai":
    case "anthropic":
      return JSON.stringify({ error: { message, type: problem.type, param, code: problem.code } });
  }
}

/** The refusal of a prompt longer than the model's window, as the dialect says it. */
export function contextProblem(dialect: SimDialect, tokens: number, window: number): Problem {
  const code = "context_length_exceeded";
  switch (dialect) {
    case "llamacpp": {
      const message = `request (${tokens} tokens) exceeds the available context size (${window} tokens), try increasing it`;
      return { ...invalid(message, null, code), extra: { n_prompt_tokens: tokens, n_ctx: window } };
    }
    case "tgi":
      return {
        ...invalid(`Input validation error: \`inputs\` must have less than ${window} tokens. Given: ${tokens}`, null, code),
        status: 422,
      };
    case "sglang":
      return invalid(`The input (${tokens} tokens) is longer than the model's context length (${window} tokens).`, null, code);
    case "openai":
    case "anthropic":
    case "ollama":
    case "vllm": {
      const message = `This model's maximum context length is ${window} tokens. However, your messages resulted in ${tokens} tokens. Please reduce the length of the messages.`;
      return invalid(message, "messages", code);
    }
  }
}

/** The refusal of a model the backend does not serve. */
export function modelProblem(dialect: SimDialect, model: string): Problem {
  const message =
    dialect === "openai"
      ? `The model \`${model}\` does not exist or you do not have access to it.`
      : dialect === "ollama"
        ? `model "${model}" not found, try pulling it first`
        : `The model \`${model}\` does not exist.`;
  return { status: 404, message, type: "invalid_request_error", param: dialect === "vllm" ? "model" : null, code: "model_not_found" };
}
