import { describe, expect, it } from "vitest";
import { appended, columnsOf, csvOf, summary } from "../src/series";

describe("columns over time", () => {
  const past = {
    kind: "version",
    step_s: 10,
    from_ms: 50_000,
    points: 3,
    series: [{ name: ["fraud", "3"], fields: { rps: [1, null, 3] } }],
  };

  it("takes times from the first and the step", () => {
    const columns = columnsOf(past, ([, version], fields) => [{ label: `v${version}`, values: fields.rps ?? [] }]);
    expect(columns.times).toEqual([50, 60, 70]);
    expect(columns.lines).toEqual([{ label: "v3", values: [1, null, 3] }]);
  });

  it("has gaps where a field is not told", () => {
    const columns = columnsOf(past, (_, fields) => [{ label: "p99", values: fields.p99 ?? [] }]);
    expect(columns.lines).toEqual([{ label: "p99", values: [null, null, null] }]);
  });

  it("forgets what is older than the span, and begins a line in the middle", () => {
    let columns = { times: [0, 1, 2], lines: [{ label: "a", values: [1, 2, 3] as (number | null)[] }] };
    columns = appended(columns, 3, { b: 9 }, 2.5);
    expect(columns.times).toEqual([1, 2, 3]);
    expect(columns.lines).toEqual([
      { label: "a", values: [2, 3, null] },
      { label: "b", values: [null, null, 9] },
    ]);
    for (let at = 4; at < 5000; at += 1) columns = appended(columns, at, { a: at }, 300);
    expect(columns.times).toHaveLength(300);
    expect(columns.lines.every((line) => line.values.length === 300)).toBe(true);
  });

  it("does not tell one second twice", () => {
    const columns = { times: [10], lines: [{ label: "a", values: [1] }] };
    expect(appended(columns, 10.2, { a: 2 }, 300)).toBe(columns);
  });

  it("sums up without what is not known", () => {
    expect(summary([1, null, 3])).toEqual({ last: 3, mean: 2, max: 3 });
    expect(summary([null, null])).toEqual({ last: null, mean: null, max: null });
  });

  it("quotes what CSV must quote, and lets no cell be a formula", () => {
    expect(csvOf(["a", "b"], [['x,"y"', null], ["=1+1", -2]])).toBe('a,b\r\n"x,""y""",\r\n\'=1+1,-2\r\n');
  });
});
