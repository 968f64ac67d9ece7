import { describe, expect, it } from "vitest";
import { ago, bytes, count, number, percent, rate, seconds, UNKNOWN } from "../src/format";
import { gridOf } from "../src/heat";
import { matching, PAGES } from "../src/nav";
import { front, pointOf, spread } from "../src/pareto";
import { bandsOf, sharesOf } from "../src/pages/drift";
import { placeOf, to } from "../src/router";
import { quantileOf } from "../src/promql";

describe("what people read", () => {
  it("shows what is unknown as unknown, never as zero", () => {
    for (const one of [number, count, rate, seconds, bytes, percent]) {
      expect(one(null)).toBe(UNKNOWN);
      expect(one(undefined)).toBe(UNKNOWN);
      expect(one(NaN)).toBe(UNKNOWN);
    }
    expect(ago(null, 5)).toBe(UNKNOWN);
  });

  it("chooses units", () => {
    expect(seconds(0.0000123)).toBe("12.3 µs");
    expect(seconds(0.009)).toBe("9.00 ms");
    expect(seconds(2592000)).toBe("30.0 d");
    expect(bytes(8_100_000_000)).toBe("8.10 GB");
    expect(percent(0.99999)).toBe("99.999%");
    expect(number(123456)).toBe("123 k");
  });
});

describe("addresses", () => {
  it("reads what it writes", () => {
    const address = to("models", "a/b c");
    expect(address).toBe("/console/models/a%2Fb%20c");
    expect(placeOf(address, "?span=300")).toMatchObject({ page: "models", rest: ["a/b c"] });
    expect(placeOf("/console/", "").page).toBe("overview");
    expect(placeOf("/console/models/%E0%A4%A", "").rest).toEqual(["%E0%A4%A"]);
  });

  it("has one key for each page", () => {
    expect(new Set(PAGES.map((one) => one.key)).size).toBe(PAGES.length);
  });

  it("finds by the beginning first", () => {
    const all = ["overdraft", "draft", "fraud"].map((title) => ({ title, note: "model", path: title }));
    expect(matching(all, "dra").map((one) => one.title)).toEqual(["draft", "overdraft"]);
    expect(matching(all, "zzz")).toEqual([]);
  });

  it("quotes labels for Prometheus", () => {
    expect(quantileOf(0.99, "request", 'a"b')).toContain('{model="a\\"b"}');
  });
});

describe("what is drawn", () => {
  it("keeps variants that nothing beats in both ways", () => {
    const point = (name: string, speed: number, drop: number) => ({ name, speed, drop, upper: null, size: null });
    expect([...front([point("base", 1, 0), point("a", 2, 0.1), point("b", 1.5, 0.2)])]).toEqual(["base", "a"]);
  });

  it("makes no point of what was not measured", () => {
    expect(pointOf("a", { speed: null, verdict: { drop: 0.1 } })).toBeNull();
    expect(pointOf("a", null)).toBeNull();
    expect(pointOf("a", { speed: 2, size: 5, verdict: { drop: 0.1, upper: 0.2 } })).toEqual({ name: "a", speed: 2, drop: 0.1, upper: 0.2, size: 5 });
    expect(spread({ a: { b: 1, c: [1, 2] } })).toEqual([
      ["a.b", "1"],
      ["a.c", "1, 2"],
    ]);
  });

  it("compares shares of sides of other sizes", () => {
    expect(sharesOf([{ name: "a", reference: 10, now: 1 }, { name: "b", reference: 10, now: 3 }])).toEqual([
      { name: "a", reference: 0.5, now: 0.25 },
      { name: "b", reference: 0.5, now: 0.75 },
    ]);
    expect(sharesOf([{ name: "a", reference: 10, now: 0 }])[0]?.now).toBe(0);
  });

  it("tells accuracy of all rows first, then of slices", () => {
    const share = { rows: 10, accuracy: 0.9, low: 0.8, high: 0.95 };
    const told = { labelled: share, slices: [{ ...share, slice: "country", value: "DE" }], waiting: 3 };
    expect(bandsOf(told).map((one) => one.name)).toEqual(["by labels", "country = DE"]);
    expect(bandsOf({ slices: [], waiting: 0 })).toEqual([]);
  });

  it("puts columns together, and shows only buckets in use", () => {
    const heat = { step_s: 1, from_ms: 0, points: 4, le: [1, 2, 3, 4, null], counts: [[0, 0, 1, 0, 0], null, [0, 0, 2, 0, 0], [0, 0, 3, 0, 0]] };
    const grid = gridOf(heat, 2);
    expect(grid).toMatchObject({ columns: 2, each: 2, low: 1, high: 3, most: 5 });
    expect(gridOf({ ...heat, counts: [null, null] }).most).toBe(0);
  });
});
