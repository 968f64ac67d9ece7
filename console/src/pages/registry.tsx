import { useAsk } from "../api";
import { bytes, count, UNKNOWN, when } from "../format";
import { Link, to, type Place } from "../router";
import { Answer, Badge, Copy, Empty, Head, Panel, Stat, Table } from "../ui";

interface Overview {
  there: boolean;
  info: { models: number; versions: number; blobs: number; size: number; entries: number; head: string } | null;
  models: { model: string; versions: number; changed_ms: number; aliases: Record<string, number>; tags: Record<string, string> }[];
}

interface Edge {
  child: string;
  kind: string;
  parent: string;
  at_ms: number;
  by: string;
}

interface Kept {
  model: string;
  versions: {
    version: number;
    digest: string;
    framework: string;
    created_ms: number;
    created_by: string;
    origin: Record<string, unknown>;
    tags: Record<string, string>;
    variants: string[];
  }[];
  moves: { alias: string; from: number | null; to: number | null; at_ms: number; by: string; why: string }[];
  edges: Edge[];
}

export function Registry({ place }: { place: Place }) {
  return place.rest[0] ? <One name={place.rest[0]} /> : <All />;
}

function words(of: Record<string, unknown>): string {
  return Object.entries(of)
    .map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(", ");
}

function All() {
  const asked = useAsk<Overview>("/v1/registry", 15_000);
  return (
    <>
      <Head title="Registry" />
      <Answer asked={asked}>
        {({ there, info, models }) =>
          !there ? (
            <Empty title="There is no registry.">
              <p>
                Name one in the configuration, as <code>registry.url: sqlite:///registry.db</code>, then import a model:{" "}
                <code>taxiway import MODEL</code>
              </p>
            </Empty>
          ) : (
            <>
              {info && (
                <dl class="stats">
                  <Stat name="Models" value={count(info.models)} />
                  <Stat name="Versions" value={count(info.versions)} />
                  <Stat name="Files" value={count(info.blobs)} note={bytes(info.size)} />
                  <Stat name="Changes" value={count(info.entries)} note={info.head ? `head ${info.head.slice(0, 10)}` : undefined} />
                </dl>
              )}
              {models.length === 0 ? (
                <Empty title="It holds no model yet.">
                  <p>
                    Import one: <code>taxiway import MODEL</code>
                  </p>
                </Empty>
              ) : (
                <section class="panel">
                  <Table
                    caption="Registered models"
                    rows={models}
                    name={(one) => one.model}
                    columns={[
                      { name: "Model", cell: (one) => <Link href={to("registry", one.model)}>{one.model}</Link> },
                      { name: "Versions", right: true, cell: (one) => count(one.versions) },
                      { name: "Aliases", cell: (one) => Object.entries(one.aliases).map(([alias, version]) => <Badge key={alias} mood="accent">{`${alias} v${version}`}</Badge>) },
                      { name: "Tags", cell: (one) => words(one.tags) || <span class="muted">none</span> },
                      { name: "Changed", cell: (one) => when(one.changed_ms) },
                    ]}
                  />
                </section>
              )}
            </>
          )
        }
      </Answer>
    </>
  );
}

function One({ name }: { name: string }) {
  const asked = useAsk<Kept>(`/v1/registry/${encodeURIComponent(name)}`, 15_000);
  return (
    <>
      <Head title={`Registry: ${name}`} />
      <Answer asked={asked}>
        {({ versions, moves, edges }) =>
          versions.length === 0 ? (
            <Empty title={`${name} is not registered.`}>
              <p>
                It may be served from a file. To register it: <code>taxiway import {name}</code>
              </p>
            </Empty>
          ) : (
            <>
              <Panel title="Versions">
                <Table
                  caption="Versions, newest first"
                  rows={versions}
                  name={(one) => String(one.version)}
                  columns={[
                    { name: "Version", cell: (one) => <strong>v{one.version}</strong> },
                    { name: "Framework", cell: (one) => one.framework },
                    { name: "Made", cell: (one) => when(one.created_ms) },
                    { name: "By", cell: (one) => one.created_by },
                    { name: "Origin", cell: (one) => words(one.origin) || UNKNOWN },
                    { name: "Variants", cell: (one) => (one.variants.length ? one.variants.map((variant) => <Badge key={variant}>{variant}</Badge>) : <span class="muted">none</span>) },
                    { name: "Tags", cell: (one) => words(one.tags) || <span class="muted">none</span> },
                    { name: "Digest", cell: (one) => <span class="right"><code>{one.digest.slice(0, 19)}</code> <Copy text={one.digest} what="digest" /></span> },
                  ]}
                />
              </Panel>
              <Panel title="Lineage">
                <Lineage name={name} edges={edges} versions={versions.map((one) => one.version)} />
              </Panel>
              <Panel title="Moves of aliases">
                {moves.length === 0 ? (
                  <p class="muted">No alias was moved yet.</p>
                ) : (
                  <Table
                    caption="Moves of aliases, newest first"
                    rows={moves}
                    columns={[
                      { name: "When", cell: (one) => <span class="right">{when(one.at_ms)}</span> },
                      { name: "Alias", cell: (one) => <Badge mood="accent">{one.alias}</Badge> },
                      { name: "From", cell: (one) => (one.from === null ? "nothing" : `v${one.from}`) },
                      { name: "To", cell: (one) => (one.to === null ? "nothing" : `v${one.to}`) },
                      { name: "By", cell: (one) => one.by },
                      { name: "Why", cell: (one) => one.why },
                    ]}
                  />
                )}
              </Panel>
            </>
          )
        }
      </Answer>
    </>
  );
}

/** What each came from, as a tree: a version, and below it what was made of it. */
function Lineage({ name, edges, versions }: { name: string; edges: Edge[]; versions: number[] }) {
  if (!edges.length) return <p class="muted">Nothing is known of where these came from.</p>;
  const children = new Set(edges.map((one) => one.child));
  const below = (parent: string) => edges.filter((one) => one.parent === parent);
  const roots = [...new Set(edges.map((one) => one.parent).filter((one) => !children.has(one)))];
  const seen = new Set<string>();
  const branch = (of: string, depth: number) => {
    if (seen.has(of) || depth > 12) return null;
    seen.add(of);
    const own = below(of);
    if (!own.length) return null;
    return (
      <ul>
        {own.map((one) => (
          <li key={one.child + one.kind}>
            <Badge>{one.kind}</Badge> <strong>{one.child}</strong>{" "}
            <span class="muted">
              {when(one.at_ms)} by {one.by}
            </span>
            {branch(one.child, depth + 1)}
          </li>
        ))}
      </ul>
    );
  };
  return (
    <div class="tree" aria-label={`Lineage of ${versions.length} versions of ${name}`} role="group">
      {roots.map((root) => (
        <div key={root}>
          <code>{root}</code>
          {branch(root, 0)}
        </div>
      ))}
    </div>
  );
}
