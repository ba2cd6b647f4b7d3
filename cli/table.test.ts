import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { moneyCell, msCell, shareCell, textCell } from "./format.ts";
import { table } from "./table.ts";

describe("tables", () => {
  it("align text left and numbers right, without trailing spaces", () => {
    const text = table(
      [{ title: "NAME" }, { title: "N", right: true }, { title: "NOTE" }],
      [
        ["a", "1", ""],
        ["long-name", "1000", "x"],
      ],
    );
    assert.equal(text, "NAME          N  NOTE\na             1\nlong-name  1000  x\n");
  });

  it("do not count the codes of colours", () => {
    const text = table(
      [{ title: "S" }, { title: "T" }],
      [
        ["\u001b[32mok\u001b[39m", "x"],
        ["fail", "y"],
      ],
    );
    assert.deepEqual(
      text
        .split("\n")
        .map((line) => stripVTControlCharacters(line).length)
        .slice(1, 3),
      [7, 7],
    );
  });
});

describe("cells", () => {
  it("round nano-USD half up to six decimals without floats", () => {
    assert.deepEqual(["0", "499", "500", "1234567890123456789", "-1500", "x"].map(moneyCell), [
      "$0.000000",
      "$0.000000",
      "$0.000001",
      "$1234567890.123457",
      "-$0.000002",
      "-",
    ]);
  });

  it("show times in few figures, shares as percentages, and nothing as a dash", () => {
    assert.deepEqual([4.24, 84.4, 1250, null].map(msCell), ["4.2ms", "84ms", "1.25s", "-"]);
    assert.deepEqual([shareCell(0.992), shareCell(null), textCell(""), textCell(0)], ["99.2%", "-", "-", "0"]);
  });
});
