import { useAsk } from "../api";
import { count, number, percent, seconds } from "../format";
import { useLive } from "../live";
import { alertMood } from "../moods";
import { Link, to, type Place } from "../router";
import type { Cell } from "../stream";
import { Answer, Badge, Bar, Empty, Head, Panel, Table } from "../ui";

interface Slo {
  model: string;
  name: string;
  objective: number;
  window_s: number;
  kind: string;
  budget_left: Cell;
  burn: Record<string, Cell>;
  state: string;
  good: Cell;
  bad: Cell;
}

const EXAMPLE = `monitoring:
  slos:
    fraud:
      availability_percent: 99.9
      latency: [{percent: 99, under_ms: 100}]`;

export function Alerts(_: { place: Place }) {
  const { told } = useLive();
  const beat = told?.alerts.map((one) => one.model + one.slo + one.state).join();
  const asked = useAsk<{ declared: boolean; slos: Slo[] }>("/v1/slos", 10_000, beat);
  return (
    <>
      <Head title="Alerts and error budgets" />
      {told && <Firing count={told.alerts.filter((one) => one.state === "firing").length} />}
      <Answer asked={asked}>
        {({ declared, slos }) => {
          if (!declared) {
            return (
              <Empty title="No objective is declared.">
                <p>Say in the configuration what is promised of a model; its budget and its alerts follow:</p>
                <pre tabIndex={0}>{EXAMPLE}</pre>
              </Empty>
            );
          }
          if (!slos.length) return <Empty title="Objectives are declared, of no model that is served yet." />;
          return (
            <>
              <div class="grid">
                {slos.map((one) => (
                  <Budget key={one.model + one.name} slo={one} />
                ))}
              </div>
              <Burns slos={slos} />
            </>
          );
        }}
      </Answer>
    </>
  );
}

function Firing({ count: many }: { count: number }) {
  return (
    <p role="status" class={many ? "bad" : "muted"}>
      {many ? `${many} ${many === 1 ? "alert fires" : "alerts fire"} now.` : "No alert fires now."}
    </p>
  );
}

function Budget({ slo }: { slo: Slo }) {
  const left = slo.budget_left;
  const mood = left === null ? "accent" : left < 0.1 ? "bad" : left < 0.4 ? "warn" : "good";
  return (
    <Panel
      title={
        <>
          <Link href={to("models", slo.model)}>{slo.model}</Link> {slo.name}
        </>
      }
      side={<Badge mood={alertMood(slo.state)}>{slo.state}</Badge>}
    >
      <Bar label="budget left" value={left} mood={mood} text={percent(left)} />
      <p class="muted">
        {percent(slo.objective)} promised over {seconds(slo.window_s)}; {count(slo.good)} good, {count(slo.bad)} bad
        {left !== null && left < 0 && "; the budget is overspent"}
      </p>
    </Panel>
  );
}

const WINDOWS: [string, string][] = [
  ["300", "5 min"],
  ["3600", "1 h"],
  ["21600", "6 h"],
  ["259200", "3 d"],
];

function Burns({ slos }: { slos: Slo[] }) {
  return (
    <Panel title="How fast budgets burn">
      <Table
        caption="Burn rates by window"
        rows={slos}
        name={(one) => one.model + one.name}
        columns={[
          { name: "Model", cell: (one) => one.model },
          { name: "Objective", cell: (one) => one.name },
          ...WINDOWS.map(([window, name]) => ({ name, right: true, cell: (one: Slo) => number(one.burn[window]) })),
          { name: "State", cell: (one) => <Badge mood={alertMood(one.state)}>{one.state}</Badge> },
        ]}
      />
      <p class="muted">At 1 the budget lasts exactly its window. Unknown (–) means that no requests were answered in that time.</p>
    </Panel>
  );
}
