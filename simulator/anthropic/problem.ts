import type { StatusKind } from "../faults/kinds.ts";

/** An error answer in Anthropic's terms. */
export interface AnthropicProblem {
  readonly status: number;
  readonly type: string;
  readonly message: string;
  /** Value of `x-should-retry`; undefined = not sent. */
  readonly shouldRetry?: boolean;
}

/** A 400 of the caller's making. */
export function refused(message: string): AnthropicProblem {
  return { status: 400, type: "invalid_request_error", message };
}

/** The JSON body of an error. */
export function anthropicBody(problem: AnthropicProblem, requestId: string): string {
  return JSON.stringify({ type: "error", error: { type: problem.type, message: problem.message }, request_id: requestId });
}

/** The error a status fault stands for. */
export function anthropicFault(kind: StatusKind, model: string, window: number): AnthropicProblem {
  switch (kind) {
    case "400":
      return refused("messages: Input should be a valid list");
    case "401":
      return { status: 401, type: "authentication_error", message: "invalid x-api-key", shouldRetry: false };
    case "402":
      return {
        status: 402,
        type: "billing_error",
        message: "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
      };
    case "403":
      return { status: 403, type: "permission_error", message: "Your API key does not have permission to use the specified resource." };
    case "404":
      return { status: 404, type: "not_found_error", message: `model: ${model}` };
    case "408":
      return { status: 408, type: "timeout_error", message: "Request timed out." };
    case "409":
      return { status: 409, type: "conflict_error", message: "The resource was changed by another request." };
    case "413":
      return { status: 413, type: "request_too_large", message: "Request exceeds the maximum size" };
    case "422":
      return { status: 422, type: "invalid_request_error", message: "Unprocessable request" };
    case "429-rate":
      return {
        status: 429,
        type: "rate_limit_error",
        message:
          "This request would exceed your organization's rate limit of 50 requests per minute. For details, refer to: https://docs.claude.com/en/api/rate-limits.",
      };
    case "429-quota":
      return { status: 429, type: "rate_limit_error", message: "You have reached your specified API usage limits.", shouldRetry: false };
    case "429-slow":
      return {
        status: 429,
        type: "rate_limit_error",
        message: "This request would exceed your organization's acceleration limit. Please raise your usage gradually.",
      };
    case "503":
      return { status: 503, type: "api_error", message: "Service unavailable" };
    case "504":
      return { status: 504, type: "timeout_error", message: "Request timed out." };
    case "529":
      return { status: 529, type: "overloaded_error", message: "Overloaded" };
    case "context_length":
      return refused(`prompt is too long: ${window + 1} tokens > ${window} maximum`);
    case "content_policy":
      return refused("Output blocked by content filtering policy");
    case "502-html":
    case "error":
    case "500":
      return { status: 500, type: "api_error", message: "Internal server error" };
  }
}
