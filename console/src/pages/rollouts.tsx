import { useState } from "preact/hooks";
import { Problem, send, useAsk } from "../api";
import { Series } from "../chart";
import { ago, count, ns, number, percent, seconds, UNKNOWN, when } from "../format";
import { useLive } from "../live";
import { outcomeMood, phaseMood } from "../moods";
import { go, Link, to, type Place } from "../router";
import { may, useSession } from "../session";
import { Span, spanOf } from "../span";
import type { RolloutLine } from "../stream";
import { Answer, Badge, Bar, Choice, Dialog, Empty, Fault, Head, Panel, Stat, Table } from "../ui";

interface Rollout {
  id: string;
  service: string;
  generation: number;
  phase: string;
  plan_digest?: string;
  plan: { to?: string; strategy?: string; steps?: unknown[]; [word: string]: unknown };
  baseline: number | string | null;
  candidates: { arm: string; ref: string; version: number | string }[];
  created_by: string;
  created_at_ns: number;
  phase_since_ns: number;
  reason: string;
  step: number;
  approval: string;
  degraded: string;
  paused: unknown;
  active?: boolean;
}

export interface Guard {
  arm: string;
  metric: string;
  outcome: string;
  effect: number | null;
  low: number | null;
  high: number | null;
  log_e_harm: number | null;
  log_e_safe: number | null;
  harm_at: number | null;
  safe_at: number | null;
  candidate: number | null;
  baseline: number | null;
  more_events: number | null;
  more_s: number | null;
  required: boolean;
  sentence: string;
}

interface Status {
  rollout: Rollout;
  weights: Record<string, number>;
  verdict: { outcome: string; guards: Guard[]; mismatch: string; bad_requests: number; sentence: string } | null;
  evidence_s: number | null;
  allowed: string[];
  ended: boolean;
}

interface Happened {
  generation: number;
  at_ns: number;
  kind: string;
  actor: string;
  phase: string;
  reason: string;
  evidence: unknown;
  hash: string;
}

export function Rollouts({ place }: { place: Place }) {
  return place.rest[0] ? <One place={place} id={place.rest[0]} /> : <List />;
}

function List() {
  const { told } = useLive();
  const session = useSession();
  const [starting, setStarting] = useState(false);
  const beat = told?.rollouts.map((one) => one.id + one.phase).join();
  const asked = useAsk<{ rollouts: Rollout[] }>("/v1/rollouts", 15_000, beat);
  return (
    <>
      <Head title="Rollouts">
        <button type="button" class="primary" disabled={!may(session, "rollout")} onClick={() => setStarting(true)}>
          Start a rollout
        </button>
      </Head>
      {starting && <Start onClose={() => setStarting(false)} />}
      <Answer asked={asked}>
        {({ rollouts }) =>
          rollouts.length === 0 ? (
            <Empty title="There was no rollout yet.">
              <p>Start one here, or from a terminal:</p>
              <p>
                <code>taxiway rollout start fraud --to 7</code>
              </p>
            </Empty>
          ) : (
            <section class="panel">
              <Table
                caption="Rollouts, newest first"
                rows={[...rollouts].sort((one, other) => other.created_at_ns - one.created_at_ns)}
                name={(one) => one.id}
                columns={[
                  { name: "Service", cell: (one) => <Link href={to("rollouts", one.id)}>{one.service}</Link> },
                  {
                    name: "Versions",
                    cell: (one) => `${one.baseline ?? UNKNOWN} → ${one.candidates.map((other) => other.version).join(", ") || (one.plan.to ?? UNKNOWN)}`,
                  },
                  { name: "Phase", cell: (one) => <Badge mood={phaseMood(one.phase)}>{one.paused ? "paused" : one.phase}</Badge> },
                  { name: "Strategy", cell: (one) => one.plan.strategy ?? UNKNOWN },
                  { name: "Why", cell: (one) => one.reason },
                  { name: "By", cell: (one) => one.created_by },
                  { name: "Started", cell: (one) => when(ns(one.created_at_ns)) },
                ]}
              />
            </section>
          )
        }
      </Answer>
    </>
  );
}

function Start({ onClose }: { onClose: () => void }) {
  const { told } = useLive();
  const names = [...new Set(told?.versions.map((one) => one.model) ?? [])];
  const [service, setService] = useState(names[0] ?? "");
  const [version, setVersion] = useState("");
  const [strategy, setStrategy] = useState("canary");
  const [reason, setReason] = useState("");
  const [fault, setFault] = useState<Problem | null>(null);
  const begin = async (event: Event) => {
    event.preventDefault();
    try {
      const plan = { to: version.trim(), strategy };
      const status = await send<Status>("/v1/rollouts", { service, plan, reason, idempotency_key: fresh() });
      onClose();
      go(to("rollouts", status.rollout.id));
    } catch (problem) {
      setFault(problem instanceof Problem ? problem : new Problem(0, "", String(problem), ""));
    }
  };
  return (
    <Dialog title="Start a rollout" onClose={onClose}>
      <form class="form" onSubmit={(event) => void begin(event)}>
        <label>
          Service
          <input list="services" required value={service} onInput={(event) => setService(event.currentTarget.value)} />
          <datalist id="services">
            {names.map((one) => (
              <option key={one} value={one} />
            ))}
          </datalist>
        </label>
        <label>
          To version
          <input required placeholder="7" value={version} onInput={(event) => setVersion(event.currentTarget.value)} />
        </label>
        <label>
          Strategy
          <input required value={strategy} onInput={(event) => setStrategy(event.currentTarget.value)} />
        </label>
        <label>
          Reason, for the journal
          <input required value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
        </label>
        {fault && <Fault problem={fault} />}
        <div class="row end">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="primary">
            Start
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** A key nobody else has; `crypto.randomUUID` is there in secure contexts only. */
function fresh(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
}

function One({ place, id }: { place: Place; id: string }) {
  const { told } = useLive();
  const line = told?.rollouts.find((one) => one.id === id);
  const beat = line ? `${line.phase}${line.step}${line.outcome}${line.paused}${line.approval}` : "gone";
  const path = `/v1/rollouts/${encodeURIComponent(id)}`;
  const asked = useAsk<Status>(path, 3000, beat);
  const story = useAsk<{ events: Happened[] }>(`${path}/history`, 5000, beat);
  return (
    <Answer asked={asked}>
      {(status) => (
        <>
          <Head title={`Rollout of ${status.rollout.service}`}>
            <Span place={place} />
          </Head>
          <State status={status} {...(line ? { line } : {})} />
          <Buttons status={status} again={() => { asked.again(); story.again(); }} />
          <div class="grid">
            <Panel title="Weights">
              <Weights weights={line?.weights ?? status.weights} />
              <Series
                title="Weights over time"
                format={percent}
                top={1}
                stepped
                note="No weights were told in this time."
                wanted={{
                  kind: "rollout",
                  query: { name: status.rollout.service },
                  fields: "*",
                  span_s: spanOf(place),
                  pick: (_, fields) => Object.entries(fields).map(([label, values]) => ({ label, values })),
                }}
              />
            </Panel>
            <Panel title="Evidence" side={status.verdict && <Badge mood={outcomeMood(status.verdict.outcome)}>{status.verdict.outcome}</Badge>}>
              <Evidence status={status} />
            </Panel>
          </div>
          <Panel title="Story">
            <Answer asked={story}>{({ events }) => <Story events={events} />}</Answer>
          </Panel>
          <Panel title="Plan">
            <pre tabIndex={0}>{JSON.stringify(status.rollout.plan, null, 2)}</pre>
          </Panel>
        </>
      )}
    </Answer>
  );
}

function State({ status, line }: { status: Status; line?: RolloutLine }) {
  const { rollout } = status;
  const phase = line?.phase ?? rollout.phase;
  const steps = rollout.plan.steps;
  const many = Array.isArray(steps) ? steps.length : null;
  const share = (line?.weights ?? status.weights).candidate;
  return (
    <>
      <dl class="stats">
        <Stat name="Phase" value={<Badge mood={phaseMood(phase)}>{rollout.paused ? `${phase}, paused` : phase}</Badge>} />
        <Stat name="Versions" value={`${rollout.baseline ?? UNKNOWN} → ${rollout.candidates.map((one) => one.version).join(", ") || (rollout.plan.to ?? UNKNOWN)}`} />
        <Stat name="Step" value={many === null ? number(rollout.step + 1) : `${Math.min(rollout.step + 1, many)} of ${many}`} />
        <Stat name="Candidate gets" value={percent(share)} />
        <Stat name="Evidence gathered" value={seconds(status.evidence_s)} />
        <Stat name="In this phase since" value={ago(ns(rollout.phase_since_ns), Date.now())} />
        <Stat name="Started by" value={rollout.created_by || UNKNOWN} />
      </dl>
      {rollout.reason && <p>{rollout.reason}</p>}
      {rollout.degraded && (
        <p class="banner" role="status">
          {rollout.degraded}
        </p>
      )}
      {rollout.approval && <p>Waits for approval: {rollout.approval}</p>}
    </>
  );
}

const ORDER = ["approve", "promote", "advance", "pause", "resume", "extend", "abort"];
const WORDS: Record<string, string> = {
  approve: "lets the rollout take the step that waits for a person",
  promote: "goes one step on by your word, or at once to the end",
  advance: "takes the next step now, if the evidence allows it",
  extend: "gives more time to decide",
  pause: "keeps the weights as they are until it is resumed",
  resume: "goes on from where it was paused",
  abort: "gives all traffic back to the baseline",
  undo: "gives all traffic back to the version that served before this rollout",
};

function Buttons({ status, again }: { status: Status; again: () => void }) {
  const session = useSession();
  const [word, setWord] = useState<string | null>(null);
  const [said, setSaid] = useState("");
  const allowed = may(session, "rollout");
  const rank = (one: string) => (ORDER.indexOf(one) + ORDER.length + 1) % (ORDER.length + 1) || ORDER.length;
  const words = [...status.allowed].filter((one) => one !== "undo").sort((one, other) => rank(one) - rank(other));
  const undo = status.rollout.phase === "succeeded" || status.allowed.includes("undo");
  return (
    <div class="row" role="group" aria-label="What can be done">
      {words.map((one) => (
        <button
          key={one}
          type="button"
          class={one === "abort" ? "danger" : one === "promote" || one === "approve" ? "primary" : ""}
          disabled={!allowed}
          onClick={() => setWord(one)}
        >
          {capital(one)}
        </button>
      ))}
      {undo && (
        <button type="button" class="danger" disabled={!allowed} onClick={() => setWord("undo")}>
          Undo
        </button>
      )}
      {!words.length && !undo && <span class="muted">This rollout has ended: {status.rollout.phase}.</span>}
      {!allowed && <span class="muted">Your key lacks the scope rollout.</span>}
      <span role="status" class="muted">
        {said}
      </span>
      {word && (
        <Confirm
          word={word}
          status={status}
          onClose={() => setWord(null)}
          onDone={(done) => {
            setWord(null);
            setSaid(`${capital(word)}: done, the phase is ${done.rollout.phase}.`);
            if (done.rollout.id !== status.rollout.id) go(to("rollouts", done.rollout.id));
            else again();
          }}
        />
      )}
    </div>
  );
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

function Confirm({ word, status, onClose, onDone }: {
  word: string;
  status: Status;
  onClose: () => void;
  onDone: (done: Status) => void;
}) {
  const { rollout } = status;
  const [reason, setReason] = useState("");
  const [fault, setFault] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const [full, setFull] = useState(false);
  const [minutes, setMinutes] = useState("30");
  const [arm, setArm] = useState("");
  const [key] = useState(fresh);
  const extras = () => {
    if (word === "promote") return { full, ...(arm ? { arm } : {}) };
    if (word === "extend") return { by_s: Number(minutes) * 60 };
    return word === "approve" && rollout.plan_digest ? { plan_digest: rollout.plan_digest } : {};
  };
  const act = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    const path = word === "undo" ? `/v1/services/${encodeURIComponent(rollout.service)}/undo` : `/v1/rollouts/${encodeURIComponent(rollout.id)}/${word}`;
    try {
      onDone(await send<Status>(path, { ...extras(), reason, expect_generation: rollout.generation, idempotency_key: key }));
    } catch (problem) {
      setFault(problem instanceof Problem ? problem : new Problem(0, "", String(problem), ""));
      setBusy(false);
    }
  };
  const harsh = word === "abort" || word === "undo";
  return (
    <Dialog title={`${capital(word)} the rollout of ${rollout.service}?`} onClose={onClose}>
      <form class="form" onSubmit={(event) => void act(event)}>
        {WORDS[word] && (
          <p>
            <strong>{capital(word)}</strong> {WORDS[word]}.
          </p>
        )}
        <label>
          Reason, for the journal
          <input required autofocus value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
        </label>
        {word === "promote" && (
          <label class="check">
            <input type="checkbox" checked={full} onChange={(event) => setFull(event.currentTarget.checked)} /> To the end at once,
            whatever the evidence says
          </label>
        )}
        {word === "promote" && rollout.candidates.length > 1 && (
          <Choice<string>
            label="Which arm is to answer"
            value={arm}
            options={[["", "as the evidence says"] as const, ...rollout.candidates.map((one) => [one.arm, `${one.arm}, v${one.version}`] as const)]}
            onChange={setArm}
          />
        )}
        {word === "extend" && (
          <label>
            Minutes
            <input type="number" min="1" required value={minutes} onInput={(event) => setMinutes(event.currentTarget.value)} />
          </label>
        )}
        {fault && <Fault problem={fault} />}
        <div class="row end">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class={harsh ? "danger" : "primary"} disabled={busy}>
            {capital(word)}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Weights({ weights }: { weights: Record<string, number> }) {
  return (
    <>
      {Object.entries(weights).map(([arm, share]) => (
        <Bar key={arm} label={arm} value={share} text={percent(share)} />
      ))}
      {!Object.keys(weights).length && <p class="muted">No weights are known.</p>}
    </>
  );
}

function share(value: number | null, at: number | null): number | null {
  return value === null || at === null || at <= 0 ? null : value / at;
}

function Evidence({ status }: { status: Status }) {
  const { verdict } = status;
  if (!verdict) return <Empty title="Nothing was judged yet.">Evidence comes as both arms answer requests.</Empty>;
  return (
    <>
      <p>{verdict.sentence}</p>
      {verdict.mismatch && <p class="bad">{verdict.mismatch}</p>}
      {verdict.bad_requests > 0 && <p class="muted">{count(verdict.bad_requests)} requests were refused as invalid, and are left out.</p>}
      <ul class="guards">
        {verdict.guards.map((one) => (
          <li key={one.arm + one.metric}>
            <p class="lead">
              <strong>{one.metric}</strong>
              <Badge mood={outcomeMood(one.outcome)}>{one.outcome}</Badge>
              {!one.required && <span class="muted">not required</span>}
              {one.arm !== "candidate" && <span class="muted">{one.arm}</span>}
            </p>
            <p class="muted">{one.sentence}</p>
            <Bar label="harm" mood="bad" value={share(one.log_e_harm, one.harm_at)} text={`${number(one.log_e_harm)} of ${number(one.harm_at)}`} />
            <Bar label="safe" mood="good" value={share(one.log_e_safe, one.safe_at)} text={`${number(one.log_e_safe)} of ${number(one.safe_at)}`} />
            <p class="muted">
              effect {number(one.effect)} ({number(one.low)} to {number(one.high)}); seen {count(one.candidate)} of the candidate,{" "}
              {count(one.baseline)} of the baseline
              {one.more_events !== null && `; about ${count(one.more_events)} more decide it`}
              {one.more_s !== null && `, in ${seconds(one.more_s)}`}
            </p>
          </li>
        ))}
      </ul>
      <p class="muted">Evidence is the logarithm of an e-value: a guard is decided once a bar is full.</p>
    </>
  );
}

function Story({ events }: { events: Happened[] }) {
  return (
    <Table
      caption="The story, newest first"
      rows={[...events].reverse()}
      name={(one) => String(one.generation)}
      columns={[
        { name: "When", cell: (one) => <span class="right">{when(ns(one.at_ns))}</span> },
        { name: "What", cell: (one) => one.kind },
        { name: "Phase", cell: (one) => <Badge mood={phaseMood(one.phase)}>{one.phase}</Badge> },
        { name: "Who", cell: (one) => one.actor || UNKNOWN },
        {
          name: "Why",
          cell: (one) => (
            <>
              {one.reason}
              {one.evidence ? <p class="muted">{typeof one.evidence === "string" ? one.evidence : JSON.stringify(one.evidence)}</p> : null}
            </>
          ),
        },
      ]}
    />
  );
}
