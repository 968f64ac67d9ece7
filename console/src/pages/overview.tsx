import { Sparkline } from "../chart";
import { bytes, count, number, percent, rate, seconds } from "../format";
import { useLive } from "../live";
import { Link, to } from "../router";
import { models, together, type AlertLine, type DriftLine, type RolloutLine, type Told } from "../stream";
import { Badge, Empty, Head, Panel, Stat, Waiting } from "../ui";
import { alertMood, outcomeMood } from "../moods";

export function Overview() {
  const { told, link } = useLive();
  if (!told) {
    return (
      <>
        <Head title="Overview" />
        {link === "refused" ? (
          <Empty title="Your key is for some models only.">
            <p>
              The overview is of all of them. Each of yours has a page: <code>/console/models/NAME</code>
            </p>
          </Empty>
        ) : (
          <Waiting />
        )}
      </>
    );
  }
  const names = models(told);
  return (
    <>
      <Head title="Overview" />
      <Totals told={told} />
      <Attention told={told} />
      {names.length === 0 ? (
        <Empty title="No model is served yet.">
          <p>
            Put one into the model directory, or import one: <code>taxiway import MODEL</code>
          </p>
        </Empty>
      ) : (
        <ul class="cards" aria-label="Models">
          {names.map((name) => (
            <Card key={name} told={told} name={name} />
          ))}
        </ul>
      )}
    </>
  );
}

function Totals({ told }: { told: Told }) {
  const { total, host } = told;
  const failing = (total.eps ?? 0) > 0;
  return (
    <dl class="stats" aria-label="The whole server">
      <Stat name="Requests" value={rate(total.rps)} />
      <Stat name="Failures" value={rate(total.eps)} {...(failing ? { mood: "bad" as const } : {})} />
      <Stat name="p99" value={seconds(total.p99)} note={total.p99 === null ? "no requests in this second" : undefined} />
      <Stat name="Waiting" value={count(total.pending)} />
      <Stat name="Connections" value={count(total.connections)} />
      <Stat name="CPU" value={percent(host.cpu)} />
      <Stat name="Memory" value={bytes(host.memory_used)} note={`of ${bytes(host.memory_total)}`} />
      <Stat name="Workers ready" value={`${count(host.workers_ready)} of ${count(host.workers)}`} />
    </dl>
  );
}

function Attention({ told }: { told: Told }) {
  const drifted = told.drift.filter((one) => one.state === "drifted");
  const firing = told.alerts.filter((one) => one.state !== "ok");
  if (!drifted.length && !firing.length && !told.rollouts.length) return null;
  return (
    <Panel title="Going on now">
      <ul class="lines">
        {firing.map((one: AlertLine) => (
          <li key={`${one.model}${one.slo}${one.severity}`}>
            <Badge mood={alertMood(one.state)}>{one.state}</Badge>
            <Link href={to("alerts")}>
              {one.model}: {one.slo}
            </Link>
            <span class="muted">
              burns {number(one.burn)} times its budget{one.severity ? `, ${one.severity}` : ""}
            </span>
          </li>
        ))}
        {drifted.map((one: DriftLine) => (
          <li key={`${one.model}:${one.version}`}>
            <Badge mood="bad">drift</Badge>
            <Link href={`${to("drift", one.model)}?version=${one.version}`}>
              {one.model} v{one.version}
            </Link>
            <span class="muted">
              evidence 10^{number(one.evidence)}, alarm at 10^{number(one.threshold)}
            </span>
          </li>
        ))}
        {told.rollouts.map((one: RolloutLine) => (
          <li key={one.id}>
            <Badge mood={outcomeMood(one.outcome)}>{one.paused ? "paused" : one.phase}</Badge>
            <Link href={to("rollouts", one.id)}>{one.service}</Link>
            <span class="muted">
              candidate {percent(one.weights.candidate)}
              {one.reason && `, ${one.reason}`}
            </span>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

function Card({ told, name }: { told: Told; name: string }) {
  const now = together(told, name);
  const versions = told.versions.filter((one) => one.model === name);
  const spark = told.spark[name] ?? { rps: [], p99: [] };
  const rollout = told.rollouts.find((one) => one.service === name);
  const drifted = told.drift.some((one) => one.model === name && one.state === "drifted");
  const alert = told.alerts.find((one) => one.model === name && one.state !== "ok");
  const down = now.ready !== null && now.ready < versions.length;
  return (
    <li class="card">
      <h2>
        <Link href={to("models", name)}>{name}</Link>
      </h2>
      <p class="badges">
        {versions.map((one) => (
          <Badge key={one.version}>v{one.version}</Badge>
        ))}
        {down && <Badge mood="bad">{`${versions.length - (now.ready ?? 0)} not ready`}</Badge>}
        {drifted && <Badge mood="bad">drift</Badge>}
        {alert && <Badge mood={alertMood(alert.state)}>budget</Badge>}
        {rollout && <Badge mood="accent">rollout</Badge>}
      </p>
      <div class="pair">
        <div>
          <span class="muted">requests</span>
          <strong>{rate(now.rps)}</strong>
          <Sparkline values={spark.rps} label={`${name}: requests per second in the last minute`} />
        </div>
        <div>
          <span class="muted">p99</span>
          <strong>{seconds(now.p99)}</strong>
          <Sparkline values={spark.p99} label={`${name}: p99 in the last minute`} mood="second" />
        </div>
      </div>
      <p class="foot">
        <span class={(now.eps ?? 0) > 0 ? "bad" : "muted"}>{rate(now.eps)} failures</span>
        <span class="muted">{count(now.pending)} waiting</span>
      </p>
    </li>
  );
}
