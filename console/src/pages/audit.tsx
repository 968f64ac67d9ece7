import { useEffect, useState } from "preact/hooks";
import { ask, Problem, url } from "../api";
import { count, when } from "../format";
import { Link, requery, to, type Place } from "../router";
import { Choice, Empty, Fault, Head, Table, Waiting } from "../ui";

interface Entry {
  seq: number;
  at_ms: number;
  actor: string;
  kind: string;
  subject: string;
  payload: unknown;
  hash: string;
}

interface Page {
  there: boolean;
  entries: Entry[];
  before: number | null;
}

const MOST = 2000;

export function Audit({ place }: { place: Place }) {
  const of = place.query.get("of") === "rollouts" ? "rollouts" : "registry";
  const [page, setPage] = useState<Page | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const path = of === "rollouts" ? "/v1/audit/rollouts" : "/v1/audit";
  const load = async (before: number | null) => {
    try {
      const next = await ask<Page>(url(path, { before, limit: 100 }));
      setPage((was) => (before === null || !was ? next : { ...next, entries: [...was.entries, ...next.entries] }));
      setProblem(null);
    } catch (fault) {
      setProblem(fault instanceof Problem ? fault : new Problem(0, "", String(fault), ""));
    }
  };
  useEffect(() => {
    setPage(null);
    void load(null);
  }, [path]);
  return (
    <>
      <Head title="Audit">
        <Choice<string>
          label="Changes of"
          value={of}
          options={[
            ["registry", "the registry"],
            ["rollouts", "rollouts"],
          ]}
          onChange={(one) => requery({ of: one === "registry" ? null : one })}
        />
        <button type="button" onClick={() => void load(null)}>
          Look again
        </button>
      </Head>
      {problem && <Fault problem={problem} />}
      {!page && !problem && <Waiting />}
      {page && !page.there && (
        <Empty title="There is no registry.">
          <p>
            Name one in the configuration: <code>registry.url: sqlite:///registry.db</code>
          </p>
        </Empty>
      )}
      {page?.there && page.entries.length === 0 && <Empty title="Nothing was changed yet." />}
      {page && page.entries.length > 0 && (
        <section class="panel">
          <Table
            caption="Changes, newest first"
            rows={page.entries}
            name={(one) => String(one.seq)}
            columns={[
              { name: "No.", right: true, cell: (one) => count(one.seq) },
              { name: "When", cell: (one) => <span class="right">{when(one.at_ms)}</span> },
              { name: "Who", cell: (one) => one.actor },
              { name: "What", cell: (one) => one.kind },
              { name: "Of", cell: (one) => (of === "rollouts" ? <Link href={to("rollouts", one.subject)}>{one.subject}</Link> : one.subject) },
              { name: "Said", cell: (one) => <Payload payload={one.payload} /> },
              { name: "Hash", cell: (one) => <code title={one.hash}>{one.hash.slice(0, 10)}</code> },
            ]}
          />
          {page.before !== null && page.entries.length < MOST && (
            <button type="button" onClick={() => void load(page.before)}>
              Earlier changes
            </button>
          )}
        </section>
      )}
      <p class="muted">Each entry holds the hash of the one before it: what was changed afterwards shows.</p>
    </>
  );
}

function Payload({ payload }: { payload: unknown }) {
  const text = JSON.stringify(payload);
  if (text === undefined || text === "{}" || text === "null") return <span class="muted">nothing more</span>;
  if (text.length <= 80) return <code>{text}</code>;
  return (
    <details>
      <summary>
        <code>{text.slice(0, 60)}…</code>
      </summary>
      <pre tabIndex={0}>{JSON.stringify(payload, null, 2)}</pre>
    </details>
  );
}
