import { useState } from "preact/hooks";
import { useAsk, url } from "../api";
import { Drawing, Lines, Series, type Ink } from "../chart";
import { count, ns, number, percent, UNKNOWN, when } from "../format";
import { useLive } from "../live";
import { driftOf } from "../promql";
import { Link, to, type Place } from "../router";
import { Span, spanOf } from "../span";
import type { Cell } from "../stream";
import { Answer, Badge, Bar, Choice, Empty, Head, Panel, Stat, Table } from "../ui";

interface Learned {
  rows: number;
  of: number;
}

interface Watch {
  model: string;
  version: number | string;
  state: string;
  rows: number | null;
  evidence: Cell;
  block_evidence: Cell;
  threshold: Cell;
  alarm: boolean;
  block_alarm: boolean;
  reference?: { kind: string; rows: number; made_ns: number };
  learned?: Learned;
}

export interface CellLine {
  name: string;
  reference: number;
  now: number;
}

interface Feature {
  name: string;
  side: string;
  kind: string;
  evidence: Cell;
  since_row: number | null;
  psi?: Cell;
  js?: Cell;
  ks?: Cell;
  wasserstein?: Cell;
  cells?: CellLine[];
}

interface Day {
  began_ns: number;
  rows: number;
  p_value: Cell;
}

interface Report extends Watch {
  requests?: number;
  dropped?: number;
  promise?: number;
  alarmed_ns?: number | null;
  block_alarmed_ns?: number | null;
  looks?: { at_ns: number; rows: number; evidence: Cell }[];
  blocks?: { block_s: number; learned: number; evidence: Cell; calendar: Day[] } | null;
  left_out?: unknown[];
  features?: Feature[];
  quality?: Told | null;
}

export function Drift({ place }: { place: Place }) {
  return place.rest[0] ? <One place={place} model={place.rest[0]} /> : <List />;
}

function power(value: Cell | undefined): string {
  return value === null || value === undefined ? UNKNOWN : `10^${value.toFixed(1)}`;
}

function State({ watch }: { watch: Watch }) {
  if (watch.alarm || watch.block_alarm) return <Badge mood="bad">drifted</Badge>;
  return watch.state === "learning" || watch.learned ? <Badge mood="accent">learning</Badge> : <Badge mood="good">steady</Badge>;
}

function List() {
  const asked = useAsk<{ watches: Watch[] }>("/v1/monitor/drift", 5000);
  return (
    <>
      <Head title="Drift" />
      <p class="muted">
        Whether what comes in, and what goes out, is still what the model was made for. Evidence is an e-value: an alarm is
        false in one of a hundred versions' whole lives, however often this is looked at.
      </p>
      <Answer asked={asked}>
        {({ watches }) =>
          watches.length === 0 ? (
            <Empty title="Nothing is watched yet.">
              <p>A version is once it was asked something. Its first rows become its reference, unless it was given one:</p>
              <p>
                <code>taxiway monitor reference MODEL --data train.npz</code>
              </p>
            </Empty>
          ) : (
            <section class="panel">
              <Table
                caption="Watched versions, most evidence first"
                rows={watches}
                name={(one) => `${one.model}:${one.version}`}
                columns={[
                  {
                    name: "Version",
                    cell: (one) => <Link href={`${to("drift", one.model)}?version=${one.version}`}>{`${one.model} v${one.version}`}</Link>,
                  },
                  { name: "State", cell: (one) => <State watch={one} /> },
                  { name: "Rows", right: true, cell: (one) => (one.learned ? `${count(one.learned.rows)} of ${count(one.learned.of)} learned` : count(one.rows)) },
                  { name: "Evidence of rows", right: true, cell: (one) => power(one.evidence) },
                  { name: "Evidence of blocks", right: true, cell: (one) => power(one.block_evidence) },
                  { name: "Alarm at", right: true, cell: (one) => power(one.threshold) },
                ]}
              />
            </section>
          )
        }
      </Answer>
    </>
  );
}

function One({ place, model }: { place: Place; model: string }) {
  const { told } = useLive();
  const version = place.query.get("version");
  const path = url(`/v1/monitor/drift/${encodeURIComponent(model)}`, { version });
  const beat = told?.drift.find((one) => one.model === model && (!version || String(one.version) === version))?.state;
  const asked = useAsk<Report>(path, 5000, beat);
  return (
    <Answer asked={asked}>
      {(report) => (
        <>
          <Head
            title={
              <>
                Drift of {report.model} v{report.version} <State watch={report} />
              </>
            }
          >
            <Span place={place} />
          </Head>
          {report.learned ? <Learning learned={report.learned} /> : <Known report={report} path={path} span_s={spanOf(place)} />}
          {report.quality && <Quality quality={report.quality} path={path} />}
        </>
      )}
    </Answer>
  );
}

function Learning({ learned }: { learned: Learned }) {
  return (
    <Panel title="Learning">
      <Bar label="its first rows in service are its reference" value={learned.rows / learned.of} text={`${count(learned.rows)} of ${count(learned.of)}`} />
      <p class="muted">
        To hold it against training data from the start: <code>taxiway monitor reference MODEL --data train.npz</code>
      </p>
    </Panel>
  );
}

function Known({ report, path, span_s }: { report: Report; path: string; span_s: number }) {
  const looks = report.looks ?? [];
  const threshold = report.threshold ?? 2;
  const level = { value: threshold, label: "alarm" };
  const of = { model: report.model, version: report.version };
  return (
    <>
      <dl class="stats">
        <Stat name="Evidence of rows" value={power(report.evidence)} {...(report.alarm ? { mood: "bad" as const } : {})} note={`alarm at ${power(report.threshold)}`} />
        <Stat name="Evidence of blocks" value={power(report.block_evidence)} {...(report.block_alarm ? { mood: "bad" as const } : {})} />
        <Stat name="Rows" value={count(report.rows)} />
        <Stat name="Alarm since" value={report.alarmed_ns || report.block_alarmed_ns ? when(ns(report.alarmed_ns ?? report.block_alarmed_ns)) : "none"} />
        <Stat name="Reference" value={report.reference?.kind ?? UNKNOWN} note={report.reference ? `${count(report.reference.rows)} rows` : undefined} />
        <Stat name="False alarms" value={percent(report.promise)} note="of versions, at most" />
      </dl>
      <div class="grid">
        <section class="panel">
          <Lines
            title="Evidence by rows seen"
            columns={{ times: looks.map((one) => one.rows), lines: [{ label: "evidence, log10", values: looks.map((one) => one.evidence) }] }}
            format={number}
            time={false}
            level={level}
            source={{ promql: driftOf(report.model, report.version), api: path }}
            note="It was not looked yet."
          />
        </section>
        <section class="panel">
          <Series
            title="Evidence over time"
            format={number}
            level={level}
            promql={driftOf(report.model, report.version)}
            wanted={{
              kind: "drift",
              query: of,
              fields: "evidence,block_evidence",
              span_s,
              pick: (_, fields) => [
                { label: "rows, log10", values: fields.evidence ?? [] },
                { label: "blocks, log10", values: fields.block_evidence ?? [] },
              ],
              now: (told): Record<string, Cell> => {
                const own = told.drift.find((one) => one.model === report.model && String(one.version) === String(report.version));
                return own ? { "rows, log10": own.evidence, "blocks, log10": own.block_evidence } : {};
              },
            }}
          />
        </section>
      </div>
      <Features report={report} path={path} />
      {report.blocks && <Calendar blocks={report.blocks} path={path} />}
            {(report.left_out?.length ?? 0) > 0 && <p class="muted">Not watched: {report.left_out?.map(String).join(", ")}</p>}
    </>
  );
}

function Features({ report, path }: { report: Report; path: string }) {
  const features = [...(report.features ?? [])].sort((one, other) => (other.evidence ?? -1e9) - (one.evidence ?? -1e9));
  const [chosen, setChosen] = useState<string | null>(null);
  const name = (one: Feature) => `${one.side}:${one.name}`;
  const shown = features.find((one) => name(one) === chosen) ?? features[0];
  if (!features.length) return <Empty title="No feature is watched." />;
  return (
    <div class="grid">
      <Panel title="Features by evidence">
        <Table
          caption="Features, most evidence first"
          rows={features}
          name={name}
          columns={[
            {
              name: "Feature",
              cell: (one) => (
                <button type="button" class="small" aria-pressed={one === shown} onClick={() => setChosen(name(one))}>
                  {one.name}
                </button>
              ),
            },
            { name: "Side", cell: (one) => one.side },
            { name: "Evidence", right: true, cell: (one) => ((one.evidence ?? -1) >= (report.threshold ?? 2) ? <strong class="bad">{power(one.evidence)}</strong> : power(one.evidence)) },
            { name: "Since row", right: true, cell: (one) => count(one.since_row) },
            { name: "PSI", right: true, cell: (one) => number(one.psi) },
            { name: "JS", right: true, cell: (one) => number(one.js) },
            { name: "KS", right: true, cell: (one) => number(one.ks) },
            { name: "W", right: true, cell: (one) => number(one.wasserstein) },
          ]}
        />
        <p class="muted">PSI, JS, KS and Wasserstein tell how large a change is; they raise no alarm.</p>
      </Panel>
      <Panel
        title="Reference against now"
        side={
          <Choice<string>
            label="Feature"
            value={shown ? name(shown) : ""}
            options={features.map((one) => [name(one), one.name] as const)}
            onChange={setChosen}
          />
        }
      >
        {shown?.cells?.length ? <Cells feature={shown} cells={shown.cells} path={path} /> : <p class="muted">No cells are told of it.</p>}
      </Panel>
    </div>
  );
}

const ROW = 30;
const NAMES = 110;

/** Shares of each side, so that references of other sizes compare. */
export function sharesOf(cells: CellLine[]): { name: string; reference: number; now: number }[] {
  const all = { reference: 0, now: 0 };
  for (const one of cells) {
    all.reference += one.reference;
    all.now += one.now;
  }
  return cells.map((one) => ({
    name: one.name,
    reference: all.reference ? one.reference / all.reference : 0,
    now: all.now ? one.now / all.now : 0,
  }));
}

function Cells({ feature, cells, path }: { feature: Feature; cells: CellLine[]; path: string }) {
  const shares = sharesOf(cells).slice(0, 40);
  const most = Math.max(...shares.map((one) => Math.max(one.reference, one.now)), 1e-9);
  const draw = ({ ctx, width, colours }: Ink) => {
    const wide = width - NAMES - 60;
    shares.forEach((one, at) => {
      const top = at * ROW;
      ctx.fillStyle = colours.text;
      ctx.textAlign = "right";
      ctx.fillText(one.name.length > 16 ? `${one.name.slice(0, 15)}…` : one.name, NAMES - 8, top + 18);
      ctx.fillStyle = colours.series[7] ?? colours.muted;
      ctx.fillRect(NAMES, top + 3, Math.max(1, (wide * one.reference) / most), 10);
      ctx.fillStyle = colours.accent;
      ctx.fillRect(NAMES, top + 14, Math.max(1, (wide * one.now) / most), 10);
      ctx.fillStyle = colours.muted;
      ctx.textAlign = "left";
      ctx.fillText(percent(one.now), NAMES + Math.max((wide * one.now) / most, 1) + 5, top + 23);
    });
  };
  return (
    <Drawing
      title={`${feature.name}: reference against now`}
      source={{ api: path }}
      height={shares.length * ROW + 4}
      draw={draw}
      hit={(_, y) => {
        const one = shares[Math.floor(y / ROW)];
        return one ? `${one.name}: reference ${percent(one.reference)}, now ${percent(one.now)}` : null;
      }}
      head={["cell", "reference", "now"]}
      rows={cells.map((one) => [one.name, one.reference, one.now])}
      label={`Shares of ${feature.name}: ${shares.map((one) => `${one.name} was ${percent(one.reference)}, is ${percent(one.now)}`).slice(0, 12).join("; ")}`}
      legend="grey is the reference, blue is now"
    />
  );
}

const DAY = 22;

function Calendar({ blocks, path }: { blocks: NonNullable<Report["blocks"]>; path: string }) {
  const days = blocks.calendar;
  if (!days.length) {
    return (
      <Panel title="Blocks">
        <Empty title="No block is complete yet.">{`A block is ${number(blocks.block_s / 3600)} hours of rows; each is held against those before it.`}</Empty>
      </Panel>
    );
  }
  const weekly = blocks.block_s === 86400;
  const first = days[0] ? new Date(days[0].began_ns / 1e6).getUTCDay() : 0;
  const offset = weekly ? (first + 6) % 7 : 0;
  const rows = 7;
  const place = (at: number) => ({ x: Math.floor((at + offset) / rows) * DAY + 34, y: ((at + offset) % rows) * DAY + 2 });
  const draw = ({ ctx, colours, width }: Ink) => {
    ctx.textAlign = "left";
    ctx.fillStyle = colours.muted;
    if (weekly) ["Mon", "", "Wed", "", "Fri", "", "Sun"].forEach((name, at) => ctx.fillText(name, 0, at * DAY + 15));
    days.forEach((one, at) => {
      const { x, y } = place(at);
      if (x > width) return;
      const p = one.p_value;
      ctx.fillStyle = p === null ? colours.line : p < 0.01 ? colours.bad : p < 0.05 ? colours.warn : colours.good;
      ctx.globalAlpha = p === null ? 1 : p < 0.05 ? 1 : 0.35 + 0.4 * (1 - p);
      ctx.fillRect(x, y, DAY - 3, DAY - 3);
    });
    ctx.globalAlpha = 1;
  };
  const words = (one: Day) => `${when(one.began_ns / 1e6).slice(0, 16)}: ${count(one.rows)} rows, p ${number(one.p_value)}`;
  const hit = (x: number, y: number) => {
    const at = Math.floor((x - 34) / DAY) * rows + Math.floor((y - 2) / DAY) - offset;
    const one = x >= 34 ? days[at] : undefined;
    return one ? words(one) : null;
  };
  return (
    <section class="panel">
      <Drawing
        title="Block calendar"
        source={{ api: path }}
        height={rows * DAY + 4}
        draw={draw}
        hit={hit}
        head={["began", "rows", "p"]}
        rows={days.map((one) => [when(one.began_ns / 1e6), one.rows, one.p_value])}
        label={`${days.length} blocks, ${days.filter((one) => one.p_value !== null && one.p_value < 0.01).length} of them with p below 0.01`}
        legend={`red: p below 0.01; amber: below 0.05; green: like the others; grey: not known. One such block is no alarm; the evidence of blocks, ${power(blocks.evidence)}, weighs all of them.`}
      />
    </section>
  );
}

export interface Told {
  labelled?: Share;
  estimate?: Share & { unreliable: boolean };
  slices: (Share & { slice: string; value: string })[];
  waiting: number;
}

interface Share {
  rows: number;
  accuracy: number;
  low: number;
  high: number;
}

/** Accuracy with its interval, all rows first, then slices as they come: the worst first. */
export function bandsOf(told: Told): (Share & { name: string; unreliable: boolean })[] {
  const sure = { unreliable: false };
  return [
    ...(told.labelled ? [{ ...told.labelled, ...sure, name: "by labels" }] : []),
    ...(told.estimate ? [{ ...told.estimate, name: "estimated without labels" }] : []),
    ...told.slices.map((one) => ({ ...one, ...sure, name: `${one.slice} = ${one.value}` })),
  ];
}

const BAND = 26;
const WORDS = 170;

function Quality({ quality, path }: { quality: Told; path: string }) {
  const bands = bandsOf(quality).slice(0, 40);
  if (!bands.length) {
    return (
      <Panel title="How right it is">
        <Empty title="No label has come back yet.">
          <p>
            Send what turned out to be right as feedback, with the request&apos;s id: <code>POST /v2/models/NAME/feedback</code>. After
            200 labels the accuracy of rows without labels is estimated too.
          </p>
        </Empty>
      </Panel>
    );
  }
  const low = Math.min(0.5, ...bands.map((one) => one.low));
  const draw = ({ ctx, width, colours }: Ink) => {
    const x = (share: number) => WORDS + ((share - low) / (1 - low)) * (width - WORDS - 50);
    bands.forEach((one, at) => {
      const y = at * BAND + 13;
      ctx.fillStyle = colours.text;
      ctx.textAlign = "right";
      ctx.fillText(one.name.length > 26 ? `${one.name.slice(0, 25)}…` : one.name, WORDS - 10, y + 4);
      ctx.fillStyle = one.unreliable ? colours.warn : colours.accent;
      ctx.globalAlpha = 0.3;
      ctx.fillRect(x(one.low), y - 6, Math.max(1, x(one.high) - x(one.low)), 12);
      ctx.globalAlpha = 1;
      ctx.fillRect(x(one.accuracy) - 1.5, y - 8, 3, 16);
      ctx.fillStyle = colours.muted;
      ctx.textAlign = "left";
      ctx.fillText(percent(one.accuracy), x(1) + 8, y + 4);
    });
  };
  const words = (one: (typeof bands)[number]) =>
    `${one.name}: ${percent(one.accuracy)}, ${percent(one.low)} to ${percent(one.high)}, of ${count(one.rows)} rows${one.unreliable ? ", unreliable" : ""}`;
  return (
    <Panel title="How right it is" side={quality.estimate?.unreliable && <Badge mood="warn">estimate unreliable</Badge>}>
      <Drawing
        title="Accuracy"
        source={{ promql: "taxiway_model_accuracy_ratio", api: path }}
        height={bands.length * BAND + 4}
        draw={draw}
        hit={(_, y) => {
          const one = bands[Math.floor(y / BAND)];
          return one ? words(one) : null;
        }}
        head={["of", "rows", "accuracy", "low", "high"]}
        rows={bands.map((one) => [one.name, one.rows, one.accuracy, one.low, one.high])}
        label={bands.slice(0, 12).map(words).join("; ")}
        legend="a line is the accuracy, its band holds it with 95 %; amber: rows are unlike those that labels are known of"
      />
      {quality.waiting > 0 && <p class="muted">{count(quality.waiting)} answers wait for their labels.</p>}
    </Panel>
  );
}
