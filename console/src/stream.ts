/** What the event stream told, as one value; pure: each frame makes the next. */

export type Cell = number | null;

export interface Version {
  model: string;
  version: number | string;
  v: Cell[];
}

export interface RolloutLine {
  id: string;
  service: string;
  phase: string;
  step: number;
  baseline: number | string | null;
  weights: Record<string, number>;
  outcome: string | null;
  approval: string;
  paused: boolean;
  degraded: string;
  reason: string;
}

export interface DriftLine {
  model: string;
  version: number | string;
  state: "learning" | "steady" | "drifted";
  evidence: Cell;
  block_evidence: Cell;
  threshold: Cell;
  alarm: boolean;
  block_alarm: boolean;
}

export interface AlertLine {
  model: string;
  slo: string;
  state: string;
  severity: string;
  burn?: Cell;
}

export interface Gpu {
  gpu: string;
  uuid: string;
  lost: boolean;
  [field: string]: Cell | string | boolean;
}

export interface Spark {
  rps: Cell[];
  p99: Cell[];
}

export interface Told {
  seq: number;
  at_ms: number;
  epoch: string;
  stale: boolean;
  server: Record<string, Cell | string | boolean>;
  fields: string[];
  versions: Version[];
  spark: Record<string, Spark>;
  total: Record<string, Cell>;
  host: Record<string, Cell>;
  gpus: Gpu[];
  rollouts: RolloutLine[];
  drift: DriftLine[];
  alerts: AlertLine[];
}

export interface Delta {
  seq: number;
  at_ms: number;
  stale: boolean;
  v: Record<string, Cell[]>;
  [part: string]: unknown;
}

export const SPARK_POINTS = 60;
const WHOLE = ["server", "gpus", "rollouts", "drift", "alerts", "total", "host"] as const;

/** The sums of one model: rates add up; the slowest version's p99. */
export function together(told: Told, model: string): Record<"rps" | "eps" | "pending" | "p99" | "ready", Cell> {
  const at = (name: string) => told.fields.indexOf(name);
  const own = told.versions.filter((one) => one.model === model);
  const sum = (name: string) => {
    const found = own.map((one) => one.v[at(name)]).filter((value) => typeof value === "number");
    return found.length ? found.reduce((all, value) => all + value, 0) : null;
  };
  const slow = own.map((one) => one.v[at("p99")]).filter((value) => typeof value === "number");
  return {
    rps: sum("rps"),
    eps: sum("eps"),
    pending: sum("pending"),
    ready: sum("ready"),
    p99: slow.length ? Math.max(...slow) : null,
  };
}

export function field(told: Told, one: Version, name: string): Cell {
  return one.v[told.fields.indexOf(name)] ?? null;
}

function pushed(ring: Cell[], value: Cell): Cell[] {
  return [...ring.slice(-(SPARK_POINTS - 1)), value];
}

/** After a delta; the state before stays as it was. */
export function applied(told: Told, delta: Delta): Told {
  const versions = told.versions.map((one, at) => {
    const v = delta.v[String(at)];
    return v ? { ...one, v } : one;
  });
  const next: Told = { ...told, seq: delta.seq, at_ms: delta.at_ms, stale: delta.stale, versions };
  for (const part of WHOLE) {
    if (delta[part] !== undefined) (next as unknown as Record<string, unknown>)[part] = delta[part];
  }
  next.spark = {};
  for (const model of models(next)) {
    const now = together(next, model);
    const ring = told.spark[model] ?? { rps: [], p99: [] };
    next.spark[model] = { rps: pushed(ring.rps, now.rps), p99: pushed(ring.p99, now.p99) };
  }
  return next;
}

export function models(told: Told): string[] {
  return [...new Set(told.versions.map((one) => one.model))];
}

/** Milliseconds until the next try: longer each time, never in step with other pages. */
export function patience(tries: number, chance: number): number {
  return Math.min(5000, 300 * 2 ** Math.min(tries, 5)) * (0.75 + chance / 2);
}
