import { describe, expect, it } from "vitest";
import { applied, field, models, patience, SPARK_POINTS, together, type Told } from "../src/stream";

const FULL: Told = {
  seq: 1,
  at_ms: 1000,
  epoch: "one",
  stale: false,
  server: {},
  fields: ["rps", "eps", "pending", "ready", "p99"],
  versions: [
    { model: "fraud", version: 2, v: [95, 0.5, 2, 1, 0.009] },
    { model: "fraud", version: 3, v: [5, 0, 0, 1, 0.02] },
    { model: "iris", version: 1, v: [0, 0, 0, 1, null] },
  ],
  spark: { fraud: { rps: [1, 2], p99: [0.1, null] } },
  total: { rps: 100 },
  host: { cpu: 0.5 },
  gpus: [],
  rollouts: [],
  drift: [],
  alerts: [],
};

describe("the event stream", () => {
  it("changes only the versions that a delta names", () => {
    const after = applied(FULL, { seq: 2, at_ms: 2000, stale: false, v: { "1": [7, 0, 0, 1, 0.03] }, total: { rps: 102 } });
    expect(after.versions.map((one) => one.v[0])).toEqual([95, 7, 0]);
    expect(after.total.rps).toBe(102);
    expect(after.host.cpu).toBe(0.5);
    expect(FULL.versions[1]?.v[0]).toBe(5);
  });

  it("replaces a part whole, and leaves those that are not told", () => {
    const alerts = [{ model: "fraud", slo: "availability", state: "firing", severity: "page" }];
    const after = applied(FULL, { seq: 2, at_ms: 2000, stale: true, v: {}, alerts });
    expect(after.alerts).toEqual(alerts);
    expect(after.stale).toBe(true);
    expect(applied(after, { seq: 3, at_ms: 3000, stale: false, v: {} }).alerts).toEqual(alerts);
  });

  it("keeps a minute of each model however long it runs", () => {
    let told = FULL;
    for (let at = 2; at < 300; at += 1) told = applied(told, { seq: at, at_ms: at * 1000, stale: false, v: {} });
    expect(told.spark.fraud?.rps).toHaveLength(SPARK_POINTS);
    expect(told.spark.fraud?.rps.at(-1)).toBe(100);
    expect(told.spark.iris?.p99.every((one) => one === null)).toBe(true);
  });

  it("adds rates up, takes the slowest p99, and knows nothing where nothing is known", () => {
    expect(together(FULL, "fraud")).toEqual({ rps: 100, eps: 0.5, pending: 2, ready: 2, p99: 0.02 });
    expect(together(FULL, "iris").p99).toBeNull();
    expect(together(FULL, "other").rps).toBeNull();
    expect(models(FULL)).toEqual(["fraud", "iris"]);
    expect(field(FULL, FULL.versions[0]!, "nothing")).toBeNull();
  });

  it("waits longer each time, within bounds", () => {
    expect(patience(0, 0.5)).toBe(300);
    expect(patience(1, 0.5)).toBe(600);
    expect(patience(100, 1)).toBeLessThanOrEqual(6250);
    expect(patience(3, 0)).not.toBe(patience(3, 1));
  });
});
