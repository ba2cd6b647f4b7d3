import type { StatusKind } from "../faults/kinds.ts";
import type { SimDialect } from "../profile.ts";
import { contextProblem, invalid, modelProblem, type Problem } from "./problem.ts";

const QUOTA =
  "You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.";
const SERVER =
  "The server had an error while processing your request. Sorry about that! You can retry your request, or contact us through our help center at help.openai.com if the error persists.";

/** The error a status fault stands for, in OpenAI's words. */
export function openaiFault(kind: StatusKind, dialect: SimDialect, model: string, window: number): Problem {
  const server = (status: number, message: string, type = "server_error", code: string | null = null): Problem => ({
    status,
    message,
    type,
    param: null,
    code,
  });
  switch (kind) {
    case "400":
      return invalid("Invalid value for 'messages'.", "messages", "invalid_value");
    case "401": {
      const message = "Incorrect API key provided: sk-sim****. You can find your API key at https://platform.openai.com/account/api-keys.";
      return { ...invalid(message, null, "invalid_api_key"), status: 401 };
    }
    case "402":
      return { ...invalid("Insufficient Balance", null, "invalid_request_error"), status: 402, type: "unknown_error" };
    case "403":
      return {
        status: 403,
        message: "Country, region, or territory not supported",
        type: "request_forbidden",
        param: null,
        code: "unsupported_country_region_territory",
      };
    case "404":
      return modelProblem(dialect, model);
    case "408":
      return server(408, "Request timed out.", "invalid_request_error", "request_timeout");
    case "409":
      return server(409, "The resource was changed by another request. Please try again.", "invalid_request_error", "conflict");
    case "413":
      return server(413, "The request body is larger than allowed.", "invalid_request_error", "request_too_large");
    case "422":
      return server(422, "The request was well-formed but could not be processed.", "invalid_request_error", "unprocessable_entity");
    case "429-rate": {
      const message = `Rate limit reached for ${model} in organization org-simulated on requests per min (RPM): Limit 500, Used 500, Requested 1. Please try again in 1s. Visit https://platform.openai.com/account/rate-limits to learn more.`;
      return server(429, message, "requests", "rate_limit_exceeded");
    }
    case "429-quota":
      return server(429, QUOTA, "insufficient_quota", "credit_balance_exhausted");
    case "429-slow":
      return server(429, "Your request rate rose too fast. Please slow down and raise it gradually.", "rate_limit_error", "slow_down");
    case "503": {
      const message =
        dialect === "llamacpp"
          ? "Loading model"
          : "The server is currently overloaded with other requests. Sorry about that! You can retry your request.";
      return server(503, message, "service_unavailable_error", "server_is_overloaded");
    }
    case "504":
      return server(504, "The upstream server did not answer in time.", "server_error", "timeout");
    case "529":
      return server(529, "The service is overloaded.", "service_unavailable_error", "overloaded");
    case "context_length":
      return contextProblem(dialect, window + 1, window);
    case "content_policy":
      return invalid("Your request was rejected as a result of our safety system.", null, "content_policy_violation");
    case "502-html":
    case "error":
    case "500":
      return server(500, SERVER);
  }
}
