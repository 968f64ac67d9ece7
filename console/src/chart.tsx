/** Charts: lines over time by uPlot, anything else on a canvas. Each tells where its numbers are from. */

import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { number, UNKNOWN, when } from "./format";
import { historyPath, csvOf, summary, useSeries, type Columns, type Wanted } from "./series";
import { usePalette, type Palette } from "./theme";
import { Copy, Fault } from "./ui";

export type Format = (value: number | null | undefined) => string;

function save(name: string, content: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function fileName(title: string, ending: string): string {
  return `${title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "")}.${ending}`;
}

function savePng(canvas: HTMLCanvasElement, title: string, legend: [string, string][], colours: Palette): void {
  const scale = window.devicePixelRatio || 1;
  const image = document.createElement("canvas");
  image.width = canvas.width + 24 * scale;
  image.height = canvas.height + 64 * scale;
  const ink = image.getContext("2d");
  if (!ink) return;
  ink.fillStyle = colours.panel;
  ink.fillRect(0, 0, image.width, image.height);
  ink.drawImage(canvas, 12 * scale, 36 * scale);
  ink.fillStyle = colours.text;
  ink.font = `600 ${14 * scale}px system-ui, sans-serif`;
  ink.fillText(title, 12 * scale, 24 * scale);
  ink.font = `${12 * scale}px system-ui, sans-serif`;
  let left = 12 * scale;
  for (const [label, colour] of legend) {
    ink.fillStyle = colour;
    ink.fillRect(left, image.height - 18 * scale, 10 * scale, 10 * scale);
    ink.fillStyle = colours.text;
    ink.fillText(label, left + 14 * scale, image.height - 9 * scale);
    left += 28 * scale + ink.measureText(label).width;
  }
  image.toBlob((blob) => blob && save(fileName(title, "png"), blob));
}

export interface Source {
  promql?: string;
  api: string;
}

interface FrameProps {
  title: string;
  source: Source;
  csv: () => string;
  png: () => void;
  children: ComponentChildren;
  table?: ComponentChildren;
}

/** A figure with its menu: the query, the call, CSV, PNG, and the numbers as a table. */
export function Frame({ title, source, csv, png, children, table }: FrameProps) {
  const [open, setOpen] = useState(false);
  const [shown, setShown] = useState(false);
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const call = `curl -s '${location.origin}${source.api}'`;
  const leave = (event: KeyboardEvent) => {
    if (event.key !== "Escape") return;
    setOpen(false);
    button.current?.focus();
  };
  return (
    <figure class="chart" aria-labelledby={id} onKeyDown={leave}>
      <figcaption>
        <h2 id={id}>{title}</h2>
        <button ref={button} type="button" class="small menu" aria-expanded={open} aria-label={`${title}: source and export`} onClick={() => setOpen(!open)}>
          ⋯
        </button>
      </figcaption>
      {open && (
        <div class="source">
          {source.promql && (
            <div>
              <span class="muted">PromQL</span>
              <code>{source.promql}</code>
              <Copy text={source.promql} what="PromQL" />
            </div>
          )}
          <div>
            <span class="muted">API</span>
            <code>{call}</code>
            <Copy text={call} what="call" />
          </div>
          <div class="row">
            <button type="button" class="small" onClick={() => save(fileName(title, "csv"), new Blob([csv()], { type: "text/csv" }))}>
              CSV
            </button>
            <button type="button" class="small" onClick={png}>
              PNG
            </button>
            {table && (
              <button type="button" class="small" aria-pressed={shown} onClick={() => setShown(!shown)}>
                Table
              </button>
            )}
          </div>
        </div>
      )}
      {children}
      {open && shown && table}
    </figure>
  );
}

function useWidth(box: RefObject<HTMLDivElement>): number {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const look = () => setWidth(Math.floor(element.clientWidth));
    look();
    const watch = new ResizeObserver(look);
    watch.observe(element);
    return () => watch.disconnect();
  }, []);
  return width;
}

interface LinesProps {
  title: string;
  columns: Columns;
  format: Format;
  span_s?: number;
  source: Source;
  stepped?: boolean;
  /** Fixed upper end, as 1 of shares. */
  top?: number;
  /** A level worth a line, as a threshold. */
  level?: { value: number; label: string };
  note?: string;
  time?: boolean;
}

const HEIGHT = 170;

/** Lines over time, with a legend that is a table. */
export function Lines(props: LinesProps) {
  const { title, columns, format, source, span_s } = props;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const width = useWidth(box);
  const colours = usePalette();
  const level = props.level;
  const labels = columns.lines.map((line) => line.label);
  const shape = `${labels.join("\n")}|${level?.label}|${title}`;
  const colour = (at: number) => colours.series[at % colours.series.length] ?? colours.accent;
  const data = (): uPlot.AlignedData => {
    const lines = columns.lines.map((line) => line.values);
    if (level) lines.push(columns.times.map(() => level.value));
    return [columns.times, ...lines] as uPlot.AlignedData;
  };
  useEffect(() => {
    if (!box.current || !width || !columns.lines.length) return undefined;
    const axis: uPlot.Axis = {
      stroke: colours.muted,
      grid: { stroke: colours.line, width: 1 },
      ticks: { stroke: colours.line, width: 1, size: 4 },
      font: "11px system-ui, sans-serif",
    };
    const series: uPlot.Series[] = columns.lines.map((line, at) => ({
      label: line.label,
      stroke: colour(at),
      width: 1.5,
      spanGaps: false,
      points: { show: true, size: 4, fill: colour(at), filter: alone },
      ...(props.stepped && uPlot.paths.stepped ? { paths: uPlot.paths.stepped({ align: 1 }) } : {}),
    }));
    if (level) series.push({ label: level.label, stroke: colours.bad, width: 1, dash: [6, 4], points: { show: false } });
    const time = props.time !== false;
    const made = new uPlot(
      {
        width,
        height: HEIGHT,
        legend: { show: false },
        cursor: { points: { size: 6 }, drag: { x: false, y: false } },
        scales: {
          x: {
            time,
            range: (_self, least, most) => {
              if (!time) return [least, most > least ? most : least + 1];
              return span_s ? [most - span_s, most] : [least, Math.max(most, least + 1)];
            },
          },
          y: {
            range: (_self, least, most) => {
              const up = props.top ?? (most > 0 ? most * 1.1 : most < 0 ? 0 : 1);
              return [Math.min(0, (least ?? 0) * 1.1), Math.max(up || 1, level ? level.value * 1.15 : 0)];
            },
          },
        },
        series: [{}, ...series],
        axes: [
          { ...axis, space: 70, size: 28, values: time ? clock : undefined } as uPlot.Axis,
          { ...axis, size: 62, values: (_self, ticks) => ticks.map((tick) => format(tick).replace(/\.0+(?=\D|$)/, "")) },
        ],
        hooks: { setCursor: [(self) => setAt(self.cursor.idx ?? null)] },
      },
      data(),
      box.current,
    );
    plot.current = made;
    return () => {
      made.destroy();
      plot.current = null;
    };
  }, [shape, width > 0, colours, span_s]);
  useEffect(() => {
    if (width) plot.current?.setSize({ width, height: HEIGHT });
  }, [width]);
  useEffect(() => {
    plot.current?.setData(data());
  }, [columns, level?.value]);
  const [at, setAt] = useState<number | null>(null);
  const looked = at !== null && columns.times[at] !== undefined ? at : null;
  const csv = () =>
    csvOf(
      ["time", ...labels],
      columns.times.map((time, row) => [
        props.time === false ? time : new Date(time * 1000).toISOString(),
        ...columns.lines.map((line) => line.values[row] ?? null),
      ]),
    );
  const png = () => {
    if (plot.current) savePng(plot.current.ctx.canvas, title, labels.map((label, row) => [label, colour(row)]), colours);
  };
  const nothing = columns.lines.every((line) => line.values.every((value) => value === null));
  const rows = columns.times.map((_, row) => row).slice(-60).reverse();
  const told = (time: number | undefined) => (time === undefined ? UNKNOWN : props.time === false ? number(time) : when(time * 1000));
  return (
    <Frame
      title={title}
      source={source}
      csv={csv}
      png={png}
      table={
        <div class="scroll short" tabIndex={0} role="region" aria-label={`${title}: the last values`}>
          <table>
            <thead>
              <tr>
                <th scope="col">{props.time === false ? "at" : "time"}</th>
                {labels.map((label) => (
                  <th scope="col" class="right" key={label}>
                    {label}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={columns.times[row]}>
                  <td>{told(columns.times[row])}</td>
                  {columns.lines.map((line) => (
                    <td class="right" key={line.label}>
                      {format(line.values[row])}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      }
    >
      <div class="plot" ref={box} aria-hidden="true" />
      {nothing && <p class="muted nothing">{props.note ?? "Nothing was told in this time."}</p>}
      {!nothing && (
        <table class="legend">
          <thead>
            <tr>
              <th scope="col">{looked === null ? "line" : told(columns.times[looked])}</th>
              <th scope="col" class="right">{looked === null ? "now" : "then"}</th>
              <th scope="col" class="right">mean</th>
              <th scope="col" class="right">most</th>
            </tr>
          </thead>
          <tbody>
            {columns.lines.map((line, row) => {
              const said = summary(line.values);
              return (
                <tr key={line.label}>
                  <td>
                    <Swatch colour={colour(row)} /> {line.label}
                  </td>
                  <td class="right">{format(looked === null ? said.last : line.values[looked])}</td>
                  <td class="right">{format(said.mean)}</td>
                  <td class="right">{format(said.max)}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      )}
    </Frame>
  );
}

/** A value between two gaps has no line: it is drawn as a point. */
function alone(self: uPlot, series: number): number[] {
  const values = self.data[series] ?? [];
  const found: number[] = [];
  for (let at = 0; at < values.length; at += 1) {
    if (values[at] != null && values[at - 1] == null && values[at + 1] == null) found.push(at);
  }
  return found;
}

function clock(_self: uPlot, ticks: number[]): string[] {
  const wide = ticks.length > 1 && (ticks.at(-1) ?? 0) - (ticks[0] ?? 0) > 86400 * 2;
  return ticks.map((tick) => {
    const text = when(tick * 1000);
    return wide ? text.slice(5, 10) : ticks.length > 1 && (ticks[1] ?? 0) - (ticks[0] ?? 0) >= 60 ? text.slice(11, 16) : text.slice(11);
  });
}

export function Swatch({ colour }: { colour: string }) {
  return (
    <svg class="swatch" width="10" height="10" aria-hidden="true">
      <rect width="10" height="10" rx="2" fill={colour} />
    </svg>
  );
}

interface SeriesProps extends Omit<LinesProps, "columns" | "source" | "span_s"> {
  wanted: Wanted;
  promql?: string;
}

/** Lines that begin in the history and go on from the stream. */
export function Series({ wanted, promql, ...others }: SeriesProps) {
  const { columns, problem } = useSeries(wanted);
  if (problem && !columns.times.length) return <Fault problem={problem} />;
  const source = promql ? { promql, api: historyPath(wanted) } : { api: historyPath(wanted) };
  return <Lines {...others} columns={columns} span_s={wanted.span_s} source={source} />;
}

export interface Ink {
  ctx: CanvasRenderingContext2D;
  width: number;
  height: number;
  colours: Palette;
}

interface DrawingProps {
  title: string;
  source: Source;
  height: number;
  draw: (ink: Ink) => void;
  /** The words for the place under the pointer. */
  hit?: (x: number, y: number, width: number) => string | null;
  head: string[];
  rows: (string | number | null)[][];
  label: string;
  legend?: ComponentChildren;
}

/** Anything else: drawn again whenever its numbers, its width or the colours change. */
export function Drawing(props: DrawingProps) {
  const { title, source, height, draw, hit, head, rows, label } = props;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const width = useWidth(box);
  const colours = usePalette();
  const [words, setWords] = useState<string | null>(null);
  useEffect(() => {
    const ctx = canvas.current?.getContext("2d");
    if (!canvas.current || !ctx || !width) return;
    const scale = window.devicePixelRatio || 1;
    canvas.current.width = width * scale;
    canvas.current.height = height * scale;
    canvas.current.style.width = `${width}px`;
    canvas.current.style.height = `${height}px`;
    ctx.setTransform(scale, 0, 0, scale, 0, 0);
    ctx.clearRect(0, 0, width, height);
    ctx.font = "11px system-ui, sans-serif";
    draw({ ctx, width, height, colours });
  });
  const shown = rows.slice(0, 200);
  return (
    <Frame
      title={title}
      source={source}
      csv={() => csvOf(head, rows)}
      png={() => canvas.current && savePng(canvas.current, title, [], colours)}
      table={
        <div class="scroll short" tabIndex={0} role="region" aria-label={`${title}: its values`}>
          <table>
            <thead>
              <tr>
                {head.map((one) => (
                  <th scope="col" key={one}>
                    {one}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {shown.map((row, at) => (
                <tr key={at}>
                  {row.map((cell, place) => (
                    <td key={place}>{typeof cell === "number" ? number(cell) : (cell ?? UNKNOWN)}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      }
    >
      <div class="plot" ref={box}>
        <canvas
          ref={canvas}
          role="img"
          aria-label={label}
          onPointerMove={(event) => setWords(hit ? hit(event.offsetX, event.offsetY, width) : null)}
          onPointerLeave={() => setWords(null)}
        />
      </div>
      <p class="muted under">{words ?? props.legend ?? "\u00a0"}</p>
    </Frame>
  );
}

/** A line without axes. */
export function Sparkline({ values, label, mood = "accent" }: { values: (number | null)[]; label: string; mood?: string }) {
  const most = values.reduce<number>((all, value) => Math.max(all, value ?? 0), 0);
  const step = 100 / 59;
  const first = 60 - values.length;
  let path = "";
  let down = false;
  values.forEach((value, at) => {
    if (value === null) {
      down = false;
      return;
    }
    const y = 22 - (most > 0 ? (20 * value) / most : 0);
    path += `${down ? "L" : "M"}${((first + at) * step).toFixed(1)} ${y.toFixed(1)}`;
    down = true;
  });
  return (
    <svg class={`spark ${mood}`} viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label={label}>
      <path d={path} vector-effect="non-scaling-stroke" />
    </svg>
  );
}
