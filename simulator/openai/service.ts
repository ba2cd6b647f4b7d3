import type { IncomingHttpHeaders } from "node:http";
import type { Clock } from "#libs/clock/index.ts";
import type { Answered, Asked, DialectService } from "../dialect.ts";
import type { Limited, ProviderLimits } from "../engine/buckets.ts";
import type { Call } from "../engine/call.ts";
import type { IdSource } from "../engine/ids.ts";
import type { FaultOptions, StatusKind } from "../faults/kinds.ts";
import type { JsonObject } from "../http/json.ts";
import { jsonReply, type Reply } from "../http/reply.ts";
import { retryAfterHeaders } from "../http/retry-after.ts";
import type { SimBackendProfile } from "../profile.ts";
import { isProblem, readChatCall } from "./chat-call.ts";
import { chatJson, ChatStream } from "./chat-render.ts";
import { completionJson, CompletionStream, readCompletionCall } from "./completions.ts";
import { embeddingsJson, readEmbeddingCall } from "./embeddings.ts";
import { openaiFault } from "./faults.ts";
import { contextProblem, invalid, modelProblem, type Problem, problemBody } from "./problem.ts";
import { goDuration, openaiRateHeaders } from "./rate-headers.ts";

const BAD_JSON =
  "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble figuring out how to fix this, please contact us through our help center at help.openai.com.)";

const GATEWAY_HTML =
  "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n";

/** OpenAI and the servers that speak its format. */
export class OpenAiService implements DialectService {
  readonly paths = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"];
  readonly #profile: SimBackendProfile;
  readonly #limits: ProviderLimits;
  readonly #ids: IdSource;
  readonly #clock: Clock;

  constructor(profile: SimBackendProfile, limits: ProviderLimits, ids: IdSource, clock: Clock) {
    this.#profile = profile;
    this.#limits = limits;
    this.#ids = ids;
    this.#clock = clock;
  }

  authenticate(headers: IncomingHttpHeaders, requestId: string): Reply | undefined {
    const { key, dialect } = this.#profile;
    if (key === undefined || headers.authorization === `Bearer ${key}` || headers["api-key"] === key) return undefined;
    const missing = headers.authorization === undefined;
    const message = missing
      ? "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY). You can obtain an API key from https://platform.openai.com/account/api-keys."
      : "Incorrect API key provided: ****. You can find your API key at https://platform.openai.com/account/api-keys.";
    const problem = { ...invalid(message, null, missing ? null : "invalid_api_key"), status: 401 };
    return jsonReply(401, problemBody(dialect, problem), this.headers(requestId, headers));
  }

  ask(path: string, headers: IncomingHttpHeaders, body: JsonObject | undefined, requestId: string): Asked | Answered {
    if (!body) return this.#refuse(invalid(BAD_JSON, null, null), requestId, headers);
    if (path === "/v1/embeddings") return this.#embed(body, requestId, headers);
    const isChat = path === "/v1/chat/completions";
    const call = isChat ? readChatCall(body, this.#profile) : readCompletionCall(body, this.#profile);
    if (isProblem(call)) return this.#refuse(call, requestId, headers);
    const problem = this.#modelProblem(call.model) ?? this.#tooLong(call);
    if (problem) return this.#refuse(problem, requestId, headers);
    const id = this.#drawId(isChat);
    const drawToolId = (): string => `call_${this.#ids.alphanumeric(24)}`;
    return isChat
      ? {
          kind: "generate",
          call,
          id,
          drawToolId,
          stream: (generation, frame) => new ChatStream(call, generation, frame),
          json: (generation, frame) => chatJson(call, generation, frame),
        }
      : {
          kind: "generate",
          call,
          id,
          drawToolId,
          stream: (generation, frame) => new CompletionStream(call, generation, frame),
          json: (generation, frame) => completionJson(call, generation, frame),
        };
  }

  fault(kind: StatusKind, options: FaultOptions, model: string, requestId: string): Reply {
    if (kind === "502-html") return { status: 502, headers: ["server", "cloudflare"], contentType: "text/html", body: GATEWAY_HTML };
    const problem = openaiFault(kind, this.#profile.dialect, model, this.#profile.contextTokens);
    const headers = this.headers(requestId, {});
    const asks = kind.startsWith("429") || kind === "503" || kind === "529";
    if (asks && !(kind === "429-quota" && options.retryAfter === undefined)) headers.push(...retryAfterHeaders(options, this.#clock.now()));
    return jsonReply(problem.status, problemBody(this.#profile.dialect, problem), headers);
  }

  limited(limited: Limited, model: string, requestId: string): Reply {
    const isTokens = limited.what === "tokens";
    const unit = isTokens ? "tokens per min (TPM)" : limited.what === "requests" ? "requests per min (RPM)" : "concurrent requests";
    const message = `Rate limit reached for ${model} in organization org-simulated on ${unit}: Limit ${limited.limit}, Used ${limited.used}, Requested ${limited.requested}. Please try again in ${goDuration(limited.retryAfterMs)}. Visit https://platform.openai.com/account/rate-limits to learn more.`;
    const problem: Problem = { status: 429, message, type: isTokens ? "tokens" : "requests", param: null, code: "rate_limit_exceeded" };
    const wait = [
      "retry-after",
      String(Math.max(1, Math.ceil(limited.retryAfterMs / 1000))),
      "retry-after-ms",
      String(limited.retryAfterMs),
    ];
    return jsonReply(429, problemBody(this.#profile.dialect, problem), [...this.headers(requestId, {}), ...wait]);
  }

  plainError(status: 404 | 405 | 413 | 503, detail: string, requestId: string): Reply {
    const { dialect } = this.#profile;
    const messages = {
      404: `Invalid URL (${detail})`,
      405: `Not allowed to ${detail}.`,
      413: "The request body is larger than allowed.",
      503: "The engine is currently overloaded, please try again later",
    };
    if (dialect !== "openai" && status < 413)
      return jsonReply(status, JSON.stringify({ detail: status === 404 ? "Not Found" : "Method Not Allowed" }));
    const type = status === 503 ? "service_unavailable_error" : "invalid_request_error";
    return jsonReply(
      status,
      problemBody(dialect, { status, message: messages[status], type, param: null, code: null }),
      this.headers(requestId, {}),
    );
  }

  headers(requestId: string, incoming: IncomingHttpHeaders): string[] {
    if (this.#profile.dialect === "openai") {
      const own = [
        "x-request-id",
        requestId,
        "openai-version",
        "2020-10-01",
        "openai-organization",
        "org-simulated",
        "openai-processing-ms",
        "20",
      ];
      return [...own, ...openaiRateHeaders(this.#limits, this.#clock.now())];
    }
    if (this.#profile.dialect === "vllm")
      return ["server", "uvicorn", "x-request-id", (incoming["x-request-id"] as string | undefined) ?? requestId];
    return [];
  }

  #embed(body: JsonObject, requestId: string, headers: IncomingHttpHeaders): Answered {
    const call = readEmbeddingCall(body, this.#profile.dialect);
    if (isProblem(call)) return this.#refuse(call, requestId, headers);
    const problem = this.#modelProblem(call.model);
    if (problem) return this.#refuse(problem, requestId, headers);
    const limited = this.#limits.admit(call.promptTokens, 0, this.#clock.now());
    if (limited) return { kind: "reply", reply: this.limited(limited, call.model, requestId) };
    return { kind: "reply", reply: jsonReply(200, embeddingsJson(call), this.headers(requestId, headers)), billed: call };
  }

  #refuse(problem: Problem, requestId: string, headers: IncomingHttpHeaders): Answered {
    return {
      kind: "reply",
      reply: jsonReply(problem.status, problemBody(this.#profile.dialect, problem), this.headers(requestId, headers)),
    };
  }

  #modelProblem(model: string): Problem | undefined {
    const { dialect } = this.#profile;
    if (model === this.#profile.model || this.#profile.aliases?.includes(model)) return undefined;
    // llama.cpp serves the one model it has loaded under any name.
    return dialect === "llamacpp" ? undefined : modelProblem(dialect, model);
  }

  #tooLong(call: Call): Problem | undefined {
    const { dialect, contextTokens } = this.#profile;
    const { tokens } = call.meter;
    const asked = dialect === "openai" ? 0 : (call.maxTokens ?? 1);
    // Ollama cuts long prompts silently instead of refusing them.
    if (tokens + asked <= contextTokens || dialect === "ollama") return undefined;
    if (dialect === "vllm" && call.maxTokens !== undefined) {
      const message = `This model's maximum context length is ${contextTokens} tokens. However, you requested ${tokens + asked} tokens (${tokens} in the messages, ${asked} in the completion). Please reduce the length of the messages or completion.`;
      return invalid(message, null, "context_length_exceeded");
    }
    return contextProblem(dialect, tokens, contextTokens);
  }

  #drawId(isChat: boolean): string {
    const prefix = isChat ? "chatcmpl-" : "cmpl-";
    switch (this.#profile.dialect) {
      case "vllm":
        return prefix + this.#ids.hex(32);
      case "sglang":
        return this.#ids.hex(32);
      case "ollama":
        return `${prefix}${this.#ids.number()}`;
      case "tgi":
        return "";
      case "openai":
      case "llamacpp":
      case "anthropic":
        return prefix + this.#ids.alphanumeric(29);
    }
  }
}
