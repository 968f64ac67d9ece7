import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { useAsk } from "../api";
import { Series } from "../chart";
import { count, number, percent, rate, seconds } from "../format";
import { HeatMap } from "../heat";
import { useLive } from "../live";
import { phaseMood, stateMood } from "../moods";
import { batchOf, failuresOf, pendingOf, quantileOf, requestsOf } from "../promql";
import { Link, requery, to, type Place } from "../router";
import type { Line, Wanted } from "../series";
import { Span, spanOf } from "../span";
import { field, type Cell, type RolloutLine, type Told, type Version } from "../stream";
import { Answer, Badge, Choice, Copy, Empty, Head, Panel, Table } from "../ui";

interface Listed {
  model: string;
  versions: (number | string)[];
  stages: Record<string, number>;
  state: string;
}

export interface Tensor {
  name: string;
  datatype: string;
  shape: number[];
}

export interface Detail {
  model: string;
  versions: {
    version: number | string;
    ready: boolean;
    state: string;
    reason: string;
    metadata: { platform?: string; inputs: Tensor[]; outputs: Tensor[] } | null;
    config: Record<string, unknown> | null;
    stages: string[];
  }[];
  services: RolloutLine[];
}

export function Models({ place }: { place: Place }) {
  return place.rest[0] ? <Model place={place} name={place.rest[0]} /> : <List />;
}

function List() {
  const { told } = useLive();
  const asked = useAsk<{ models: Listed[] }>("/v1/models", 10_000);
  const of = (name: string, what: string): Cell[] =>
    told ? told.versions.filter((one) => one.model === name).map((one) => field(told, one, what)) : [];
  const sum = (cells: Cell[]) => cells.reduce<number | null>((all, one) => (one === null ? all : (all ?? 0) + one), null);
  const most = (cells: Cell[]) => cells.reduce<number | null>((all, one) => (one === null ? all : Math.max(all ?? 0, one)), null);
  return (
    <>
      <Head title="Models" />
      <Answer asked={asked}>
        {({ models }) =>
          models.length === 0 ? (
            <Empty title="No model is served yet.">
              <p>
                Import one: <code>taxiway import MODEL</code>
              </p>
            </Empty>
          ) : (
            <section class="panel">
              <Table
                caption="Models that are served, or could be"
                rows={models}
                name={(one) => one.model}
                columns={[
                  { name: "Model", cell: (one) => <Link href={to("models", one.model)}>{one.model}</Link> },
                  { name: "State", cell: (one) => <Badge mood={stateMood(one.state)}>{one.state.toLowerCase()}</Badge> },
                  { name: "Versions", cell: (one) => one.versions.join(", ") || "none loaded" },
                  {
                    name: "Stages",
                    cell: (one) => Object.entries(one.stages).map(([stage, version]) => <Badge key={stage}>{`${stage} v${version}`}</Badge>),
                  },
                  { name: "Requests", right: true, cell: (one) => rate(sum(of(one.model, "rps"))) },
                  { name: "Failures", right: true, cell: (one) => rate(sum(of(one.model, "eps"))) },
                  { name: "p99", right: true, cell: (one) => seconds(most(of(one.model, "p99"))) },
                ]}
              />
            </section>
          )
        }
      </Answer>
    </>
  );
}

function Model({ place, name }: { place: Place; name: string }) {
  const { told } = useLive();
  const span_s = spanOf(place);
  const asked = useAsk<Detail>(`/v1/models/${encodeURIComponent(name)}`, 15_000);
  const versions = told?.versions.filter((one) => one.model === name) ?? [];
  const listed = asked.data?.versions ?? [];
  const said = place.query.get("version");
  const shown = versions.find((one) => String(one.version) === said) ?? versions.at(-1);
  return (
    <>
      <Head title={name}>
        {versions.length > 1 && shown && (
          <Choice<string>
            label="Version"
            value={String(shown.version)}
            options={versions.map((one) => [String(one.version), `v${one.version}`] as const)}
            onChange={(version) => requery({ version })}
          />
        )}
        <Span place={place} />
        <Link href={to("playground", name)} class="button">
          Try it
        </Link>
      </Head>
      {asked.data?.services.slice(0, 1).map((one) => (
        <p key={one.id} class="lead">
          <Badge mood={phaseMood(one.phase)}>{one.paused ? "paused" : one.phase}</Badge>
          <Link href={to("rollouts", one.id)}>rollout {one.id}</Link>
          <span class="muted">{one.reason}</span>
        </p>
      ))}
      {told && <SideBySide told={told} versions={versions} listed={listed} />}
      <Charts name={name} span_s={span_s}>
        {shown && <Stages name={name} version={shown.version} span_s={span_s} />}
        {shown && (
          <section class="panel">
            <HeatMap model={name} version={shown.version} span_s={span_s} />
          </section>
        )}
      </Charts>
      <Answer asked={asked}>{(detail) => <Live detail={detail} />}</Answer>
    </>
  );
}

function SideBySide({ told, versions, listed }: { told: Told; versions: Version[]; listed: Detail["versions"] }) {
  if (!versions.length) return <Empty title="No version is loaded." />;
  const of = (name: string) => (one: Version) => field(told, one, name);
  const batch = (one: Version) => {
    const runs = of("runs")(one);
    const rows = of("rows")(one);
    return runs && rows !== null ? rows / runs : null;
  };
  const known = (one: Version) => listed.find((other) => String(other.version) === String(one.version));
  return (
    <Panel title="Versions side by side">
      <Table
        caption="Versions side by side, this second"
        rows={versions}
        name={(one) => String(one.version)}
        columns={[
          { name: "Version", cell: (one) => <strong>v{one.version}</strong> },
          {
            name: "Stages",
            cell: (one) => (known(one)?.stages ?? []).map((stage) => <Badge key={stage} mood="accent">{stage}</Badge>),
          },
          { name: "Ready", cell: (one) => (of("ready")(one) === 1 ? <Badge mood="good">ready</Badge> : <Badge mood="bad">not ready</Badge>) },
          { name: "Requests", right: true, cell: (one) => rate(of("rps")(one)) },
          { name: "Failures", right: true, cell: (one) => rate(of("eps")(one)) },
          { name: "Invalid", right: true, cell: (one) => rate(of("ips")(one)) },
          { name: "p50", right: true, cell: (one) => seconds(of("p50")(one)) },
          { name: "p99", right: true, cell: (one) => seconds(of("p99")(one)) },
          { name: "Queue p99", right: true, cell: (one) => seconds(of("q99")(one)) },
          { name: "Batch", right: true, cell: (one) => number(batch(one)) },
          { name: "Waiting", right: true, cell: (one) => count(of("pending")(one)) },
        ]}
      />
    </Panel>
  );
}

function perVersion(name: string, what: string): Pick<Wanted, "pick" | "now"> {
  return {
    pick: ([, version], fields) => [{ label: `v${version}`, values: fields[what] ?? [] }],
    now: (told) =>
      Object.fromEntries(told.versions.filter((one) => one.model === name).map((one) => [`v${one.version}`, field(told, one, what)])),
  };
}

function Charts({ name, span_s, children }: { name: string; span_s: number; children: ComponentChildren }) {
  const base = useMemo(() => ({ kind: "version" as const, query: { model: name }, span_s }), [name, span_s]);
  return (
    <div class="grid">
      <section class="panel">
        <Series title="Requests per second" format={number} wanted={{ ...base, fields: "rps", ...perVersion(name, "rps") }} promql={requestsOf(name)} />
      </section>
      <section class="panel">
        <Series title="p99 latency" format={seconds} wanted={{ ...base, fields: "p99", ...perVersion(name, "p99") }} promql={quantileOf(0.99, "request", name)} />
      </section>
      {children}
      <section class="panel">
        <Series title="Rows in a batch" format={number} note="No runs in this time." wanted={{ ...base, fields: "batch", pick: perVersion(name, "batch").pick }} promql={batchOf(name)} />
      </section>
      <section class="panel">
        <Series title="Waiting requests" format={number} wanted={{ ...base, fields: "pending", ...perVersion(name, "pending") }} promql={pendingOf(name)} />
      </section>
      <section class="panel wide">
        <Series
          title="Failures per second, by reason"
          format={number}
          note="No failures in this time."
          wanted={{ ...base, fields: "*", pick: reasons }}
          promql={failuresOf(name)}
        />
      </section>
    </div>
  );
}

function reasons([, version]: string[], fields: Record<string, Cell[]>): Line[] {
  return Object.entries(fields)
    .filter(([name]) => name.startsWith("error."))
    .map(([name, values]) => ({ label: `v${version} ${name.slice(6)}`, values }));
}

const STAGES: [string, string][] = [
  ["q50", "queue p50"],
  ["i50", "infer p50"],
  ["p50", "request p50"],
];

function Stages({ name, version, span_s }: { name: string; version: number | string; span_s: number }) {
  const wanted: Wanted = {
    kind: "version",
    query: { model: name, version },
    fields: STAGES.map(([what]) => what).join(","),
    span_s,
    pick: (_, fields) => STAGES.map(([what, label]) => ({ label, values: fields[what] ?? [] })),
    now: (told) => {
      const own = told.versions.find((one) => one.model === name && String(one.version) === String(version));
      return own ? Object.fromEntries(STAGES.map(([what, label]) => [label, field(told, own, what)])) : {};
    },
  };
  return (
    <section class="panel">
      <StageBar name={name} version={version} />
      <Series title={`Stages, v${version}`} format={seconds} wanted={wanted} promql={quantileOf(0.5, "queue", name, version)} />
    </section>
  );
}

/** Where the time of the median request of this second went. */
function StageBar({ name, version }: { name: string; version: number | string }) {
  const { told } = useLive();
  const own = told?.versions.find((one) => one.model === name && String(one.version) === String(version));
  if (!told || !own) return null;
  const [queue, infer, all] = ["q50", "i50", "p50"].map((what) => field(told, own, what));
  if (all === null || all === undefined || queue === null || infer === null || queue === undefined || infer === undefined) return null;
  const rest = Math.max(0, all - queue - infer);
  const sum = queue + infer + rest || 1;
  const parts: [string, number, string][] = [
    ["queue", queue, "one"],
    ["infer", infer, "two"],
    ["the rest", rest, "three"],
  ];
  let from = 0;
  return (
    <div class="stagebar">
      <p class="muted">
        Median request now:{" "}
        {parts.map(([label, value]) => `${label} ${seconds(value)} (${percent(value / sum)})`).join(", ")}
      </p>
      <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
        {parts.map(([label, value, tone]) => {
          const x = from;
          from += (100 * value) / sum;
          return <rect key={label} class={tone} x={x} width={(100 * value) / sum} height="6" />;
        })}
      </svg>
    </div>
  );
}

function Live({ detail }: { detail: Detail }) {
  return (
    <>
      {detail.versions.map((one) => (
        <Panel
          key={one.version}
          title={
            <>
              v{one.version} <Badge mood={stateMood(one.state)}>{one.state.toLowerCase()}</Badge>
            </>
          }
        >
          {one.reason && <p class="muted">{one.reason}</p>}
          {one.metadata && <Signature version={one.version} inputs={one.metadata.inputs} outputs={one.metadata.outputs} />}
          {one.config && (
            <details>
              <summary>Live configuration</summary>
              <Copy text={JSON.stringify(one.config, null, 2)} what="configuration" />
              <pre tabIndex={0}>{JSON.stringify(one.config, null, 2)}</pre>
            </details>
          )}
        </Panel>
      ))}
    </>
  );
}

function Signature({ version, inputs, outputs }: { version: number | string; inputs: Tensor[]; outputs: Tensor[] }) {
  const rows = [...inputs.map((one) => ({ side: "input", ...one })), ...outputs.map((one) => ({ side: "output", ...one }))];
  return (
    <Table
      caption={`Signature of v${version}`}
      rows={rows}
      name={(one) => one.side + one.name}
      columns={[
        { name: "Side", cell: (one) => one.side },
        { name: "Name", cell: (one) => <code>{one.name}</code> },
        { name: "Datatype", cell: (one) => one.datatype },
        { name: "Shape", cell: (one) => `[${one.shape.join(", ")}]` },
      ]}
    />
  );
}
