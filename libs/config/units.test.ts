import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  isLoopback,
  parseBytes,
  parseCount,
  parseDurationMs,
  parseHttpUrl,
  parseInstantMs,
  parseListen,
  parseMargin,
  parseMoneyNano,
  parsePercent,
  parsePerMillionPico,
  type Parsed,
} from "./units.ts";

function valueOf<T>(parsed: Parsed<T>): T | undefined {
  return "value" in parsed ? parsed.value : undefined;
}

/** Runs a parser over rows of [text, value]; undefined = it must be refused. */
function rows<T>(parse: (raw: string) => Parsed<T>, cases: readonly (readonly [string, T | undefined])[]): void {
  for (const [text, expected] of cases) assert.deepEqual(valueOf(parse(text)), expected, text);
}

describe("units of the configuration", () => {
  it("reads durations with their unit and refuses them without", () => {
    rows(parseDurationMs, [
      ["600ms", 600],
      ["5s", 5000],
      ["1.5s", 1500],
      ["1h30m", 5_400_000],
      ["2min", 120_000],
      ["0", 0],
      ["5", undefined],
      ["-5s", undefined],
      ["5 parsecs", undefined],
      ["25d", undefined],
      ["", undefined],
    ]);
  });

  it("reads sizes in powers of 1024 and of 1000", () => {
    rows(parseBytes, [
      ["20MiB", 20 * 1024 ** 2],
      ["1GiB", 1024 ** 3],
      ["64kB", 64_000],
      ["1.5KiB", 1536],
      ["20", undefined],
      ["20Mb", undefined],
    ]);
  });

  it("reads k and M in counts as thousands and millions", () => {
    rows(parseCount, [
      ["128k", 128_000],
      ["2M", 2_000_000],
      ["1.5k", 1500],
      ["4_000", 4000],
      ["0.0001k", undefined],
      ["12q", undefined],
      ["1e3", undefined],
    ]);
    assert.equal(valueOf(parseCount(4000)), 4000);
  });

  it("reads percentages and shares between 0 and 1", () => {
    rows(parsePercent, [
      ["5%", 0.05],
      ["100%", 1],
      ["0.5%", 0.005],
      ["0.65", 0.65],
      ["101%", undefined],
      ["5", undefined],
      ["", undefined],
    ]);
    assert.equal(valueOf(parsePercent(0.9)), 0.9);
    assert.equal(valueOf(parsePercent(5)), undefined);
  });

  it("keeps points and ratios of a margin with their sign", () => {
    rows(parseMargin, [
      ["+0.5pt", 0.005],
      ["+10%", 0.1],
      ["-2%", -0.02],
      ["10", undefined],
    ]);
  });

  it("reads dollars per million tokens as pico-USD per token, exactly", () => {
    rows(parsePerMillionPico, [
      ["$0.25", 250_000n],
      ["$0.025", 25_000n],
      ["$2.00", 2_000_000n],
      ["$0.000001", 1n],
      ["$0.0000001", undefined],
      ["0.25", undefined],
      ["-$1", undefined],
    ]);
  });

  it("reads money as nano-USD, exactly, for every amount it can hold", () => {
    assert.equal(valueOf(parseMoneyNano("$500")), 500_000_000_000n);
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 999_999_999n * 10n ** 9n }), (nano) => {
        const text = `$${nano / 10n ** 9n}.${(nano % 10n ** 9n).toString().padStart(9, "0")}`;
        assert.equal(valueOf(parseMoneyNano(text)), nano);
      }),
    );
  });

  it("reads addresses to listen on", () => {
    rows(parseListen, [
      ["127.0.0.1:4100", { host: "127.0.0.1", port: 4100 }],
      ["[::1]:0", { host: "::1", port: 0 }],
      [":80", { host: "0.0.0.0", port: 80 }],
      ["localhost", undefined],
      ["a:70000", undefined],
      ["http://a:1", undefined],
    ]);
  });

  it("knows what only this machine can reach", () => {
    assert.deepEqual(["127.0.0.1", "127.1.2.3", "::1", "localhost"].map(isLoopback), [true, true, true, true]);
    assert.deepEqual(["0.0.0.0", "::", "10.0.0.1", "127.0.0.1.evil.example"].map(isLoopback), [false, false, false, false]);
  });

  it("refuses days that no calendar has", () => {
    rows(parseInstantMs, [
      ["2026-11-01", Date.UTC(2026, 10, 1)],
      ["2026-11-01T09:00:00+01:00", Date.UTC(2026, 10, 1, 8)],
      ["2026-02-30", undefined],
      ["2026-13-01", undefined],
      ["tomorrow", undefined],
    ]);
  });

  it("takes URLs without credentials and without their trailing slash", () => {
    rows(parseHttpUrl, [
      ["https://api.openai.com/v1/", "https://api.openai.com/v1"],
      ["http://gpu-a:8000/v1", "http://gpu-a:8000/v1"],
      ["https://user:pass@host/v1", undefined],
      ["file:///etc/passwd", undefined],
      ["gpu-a:8000", undefined],
    ]);
  });
});
