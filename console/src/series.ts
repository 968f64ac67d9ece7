/** Columns over time: from the history, then a point a second from the stream; bounded. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ask, Problem, url } from "./api";
import { live, onLive } from "./live";
import type { Cell, Told } from "./stream";

export interface Line {
  label: string;
  values: Cell[];
}

export interface Columns {
  times: number[];
  lines: Line[];
}

export interface Past {
  kind: string;
  step_s: number;
  from_ms: number;
  points: number;
  series: { name: string[]; fields: Record<string, Cell[]> }[];
}

export interface Wanted {
  /** What the history is asked. */
  kind: "version" | "host" | "gpu" | "rollout" | "drift";
  query: Record<string, string | number | undefined>;
  fields: string;
  span_s: number;
  /** The lines of an answer. */
  pick: (name: string[], fields: Record<string, Cell[]>) => Line[];
  /** The same from a frame, by label; without it the history is asked again instead. */
  now?: (told: Told) => Record<string, Cell>;
}

export const SECONDS_SPAN_S = 600;

export function historyPath(wanted: Wanted): string {
  return url("/v1/history", {
    kind: wanted.kind,
    ...wanted.query,
    fields: wanted.fields,
    span_s: wanted.span_s,
  });
}

/** Seconds, and columns of the same length. */
export function columnsOf(past: Past, pick: Wanted["pick"]): Columns {
  const times = Array.from({ length: past.points }, (_, at) => (past.from_ms + at * past.step_s * 1000) / 1000);
  const lines = past.series.flatMap((one) => pick(one.name, one.fields));
  return { times, lines: lines.map((line) => ({ ...line, values: times.map((_, at) => line.values[at] ?? null) })) };
}

/** One more point, and none older than the span. What a line does not tell is a gap. */
export function appended(columns: Columns, at_s: number, now: Record<string, Cell>, span_s: number): Columns {
  const last = columns.times.at(-1);
  if (last !== undefined && at_s - last < 0.5) return columns;
  const first = columns.times.findIndex((time) => time > at_s - span_s);
  const from = first < 0 ? columns.times.length : first;
  const known = new Set(columns.lines.map((line) => line.label));
  const fresh = Object.keys(now).filter((label) => !known.has(label));
  const old: Line[] = fresh.map((label) => ({ label, values: columns.times.map(() => null) }));
  const lines = [...columns.lines, ...old].map((line) => ({
    label: line.label,
    values: [...line.values.slice(from), now[line.label] ?? null],
  }));
  return { times: [...columns.times.slice(from), at_s], lines };
}

/** Leading times at which nothing is known say nothing. */
export function summary(values: Cell[]): { last: Cell; mean: Cell; max: Cell } {
  const known = values.filter((value): value is number => typeof value === "number");
  if (!known.length) return { last: null, mean: null, max: null };
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  return { last: values.at(-1) ?? null, mean, max: known.reduce((most, value) => Math.max(most, value)) };
}

export function csvOf(head: string[], rows: (string | number | null)[][]): string {
  const cell = (value: string | number | null) => {
    const text = value === null ? "" : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

const EMPTY: Columns = { times: [], lines: [] };

export function useSeries(wanted: Wanted): { columns: Columns; problem: Problem | null; loading: boolean } {
  const path = historyPath(wanted);
  const kept = useRef(EMPTY);
  const latest = useRef(wanted);
  latest.current = wanted;
  const [, draw] = useState(0);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [loading, setLoading] = useState(true);
  const [beat, setBeat] = useState(live().beat);
  useEffect(() => onLive((now) => setBeat(now.beat)), []);
  useEffect(() => {
    const stop = new AbortController();
    const seconds = wanted.span_s <= SECONDS_SPAN_S && wanted.now !== undefined;
    const again_ms = wanted.span_s <= SECONDS_SPAN_S ? 2000 : wanted.span_s <= 21600 ? 10_000 : 60_000;
    let timer = 0;
    let loaded = false;
    const load = async () => {
      try {
        const past = await ask<Past>(path, { signal: stop.signal });
        kept.current = columnsOf(past, latest.current.pick);
        loaded = true;
        setProblem(null);
      } catch (fault) {
        if (stop.signal.aborted) return;
        setProblem(fault instanceof Problem ? fault : new Problem(0, "", String(fault), ""));
      }
      setLoading(false);
      draw((was) => was + 1);
      if (!seconds && !stop.signal.aborted) timer = window.setTimeout(() => void load(), again_ms);
    };
    setLoading(true);
    void load();
    let seq = -1;
    const off = onLive(({ told, link }) => {
      const now = latest.current.now;
      if (!seconds || !loaded || !now || !told || link !== "open" || told.seq === seq) return;
      seq = told.seq;
      kept.current = appended(kept.current, told.at_ms / 1000, told.stale ? {} : now(told), latest.current.span_s);
      draw((was) => was + 1);
    });
    return () => {
      stop.abort();
      window.clearTimeout(timer);
      off();
    };
  }, [path, beat, wanted.now === undefined]);
  useMemo(() => {
    kept.current = EMPTY;
  }, [path]);
  return { columns: kept.current, problem, loading };
}
