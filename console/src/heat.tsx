/** How many requests took how long, over time. */

import { useAsk, url } from "./api";
import { Drawing, type Ink } from "./chart";
import { seconds, when } from "./format";
import { heatOf } from "./promql";
import { Fault, Waiting } from "./ui";

export interface Heat {
  step_s: number;
  from_ms: number;
  points: number;
  le: (number | null)[];
  counts: (number[] | null)[];
}

const LEFT = 58;
const FOOT = 18;
const HEIGHT = 190;
const MOST_COLUMNS = 150;

export interface Grid {
  columns: number;
  each: number;
  low: number;
  high: number;
  most: number;
  cells: (number[] | null)[];
}

/** Columns put together until they are wide enough to see; only the buckets in use. */
export function gridOf(heat: Heat, most_columns = MOST_COLUMNS): Grid {
  const each = Math.max(1, Math.ceil(heat.counts.length / most_columns));
  const cells: (number[] | null)[] = [];
  let low = heat.le.length;
  let high = -1;
  let most = 0;
  for (let from = 0; from < heat.counts.length; from += each) {
    const part = heat.counts.slice(from, from + each).filter((one): one is number[] => one !== null);
    if (!part.length) {
      cells.push(null);
      continue;
    }
    const sum = heat.le.map((_, bucket) => part.reduce((all, one) => all + (one[bucket] ?? 0), 0));
    sum.forEach((value, bucket) => {
      if (value <= 0) return;
      low = Math.min(low, bucket);
      high = Math.max(high, bucket);
      most = Math.max(most, value);
    });
    cells.push(sum);
  }
  return { columns: cells.length, each, low: Math.max(0, low - 1), high: Math.min(heat.le.length - 1, high + 1), most, cells };
}

function bound(heat: Heat, bucket: number): string {
  const le = heat.le[bucket];
  return le === null || le === undefined ? "more" : seconds(le);
}

function drawn(heat: Heat, grid: Grid, { ctx, width, height, colours }: Ink): void {
  const rows = grid.high - grid.low + 1;
  const wide = (width - LEFT) / grid.columns;
  const tall = (height - FOOT) / rows;
  grid.cells.forEach((cell, column) => {
    if (!cell) return;
    for (let bucket = grid.low; bucket <= grid.high; bucket += 1) {
      const value = cell[bucket] ?? 0;
      if (value <= 0) continue;
      ctx.globalAlpha = 0.12 + (0.88 * Math.log1p(value)) / Math.log1p(grid.most);
      ctx.fillStyle = colours.accent;
      ctx.fillRect(LEFT + column * wide, height - FOOT - (bucket - grid.low + 1) * tall, Math.max(1, wide - 0.5), Math.max(1, tall - 1));
    }
  });
  ctx.globalAlpha = 1;
  ctx.fillStyle = colours.muted;
  ctx.textAlign = "right";
  const every = Math.max(1, Math.ceil(14 / tall));
  for (let bucket = grid.low; bucket <= grid.high; bucket += every) {
    ctx.fillText(bound(heat, bucket), LEFT - 6, height - FOOT - (bucket - grid.low) * tall - tall / 2 + 4);
  }
  const marks = Math.max(2, Math.floor((width - LEFT) / 90));
  for (let mark = 0; mark < marks; mark += 1) {
    const at = heat.from_ms + (mark / (marks - 1)) * heat.points * heat.step_s * 1000;
    ctx.textAlign = mark === 0 ? "left" : mark === marks - 1 ? "right" : "center";
    ctx.fillText(when(at).slice(11, 16), LEFT + (mark / (marks - 1)) * (width - LEFT), height - 4);
  }
}

export function HeatMap({ model, version, span_s }: { model: string; version: string | number; span_s: number }) {
  const path = url("/v1/history/heatmap", { model, version, of: "request", span_s });
  const asked = useAsk<Heat>(path, span_s <= 600 ? 3000 : 20_000);
  const title = `Latency heat map, v${version}`;
  if (!asked.data) return asked.problem ? <Fault problem={asked.problem} /> : <Waiting />;
  const heat = asked.data;
  const grid = gridOf(heat);
  const rows = heat.counts.flatMap((cell, at) =>
    (cell ?? []).flatMap((value, bucket): (string | number)[][] =>
      value > 0 ? [[when(heat.from_ms + at * heat.step_s * 1000), bound(heat, bucket), value]] : [],
    ),
  );
  const hit = (x: number, y: number, width: number) => {
    const column = Math.floor(((x - LEFT) / (width - LEFT)) * grid.columns);
    const bucket = grid.low + Math.floor(((HEIGHT - FOOT - y) / (HEIGHT - FOOT)) * (grid.high - grid.low + 1));
    const value = grid.cells[column]?.[bucket];
    if (value === undefined || x < LEFT) return null;
    const at = when(heat.from_ms + column * grid.each * heat.step_s * 1000).slice(11);
    return `${at}: ${value} requests of ${bucket ? bound(heat, bucket - 1) : "0 s"} to ${bound(heat, bucket)}`;
  };
  return (
    <Drawing
      title={title}
      source={{ promql: heatOf(model, version), api: path }}
      height={HEIGHT}
      draw={(ink) => grid.most > 0 && drawn(heat, grid, ink)}
      hit={hit}
      head={["time", "up to", "requests"]}
      rows={rows.slice(-5000)}
      label={`${title}: ${rows.length} cells; the table in its menu has the numbers`}
      legend={grid.most > 0 ? `the stronger the colour the more requests, up to ${grid.most}` : "No requests in this time."}
    />
  );
}
