import { useAsk, url } from "../api";
import { count, seconds, UNKNOWN, when } from "../format";
import { useLive } from "../live";
import { Link, requery, to, type Place } from "../router";
import { models } from "../stream";
import { Answer, Badge, Choice, Copy, Empty, Head, Table } from "../ui";

export interface Kept {
  at_ms: number;
  model: string;
  version: number | string;
  id: string;
  trace?: string | null;
  kind: string;
  code: string;
  total_s: number | null;
  queue_s: number | null;
  infer_s: number | null;
  input_s: number | null;
  output_s: number | null;
  rows: number | null;
  worker: number | null;
}

export function Requests({ place }: { place: Place }) {
  const { told } = useLive();
  const model = place.query.get("model");
  const kind = place.query.get("kind");
  const path = url("/v1/requests", { model, kind });
  const asked = useAsk<{ kept: boolean; requests: Kept[] }>(path, 3000);
  const names = [...new Set([...(told ? models(told) : []), ...(model ? [model] : [])])];
  return (
    <>
      <Head title="Slow and failed requests">
        <Choice<string>
          label="Model"
          value={model ?? ""}
          options={[["", "all"] as const, ...names.map((one) => [one, one] as const)]}
          onChange={(one) => requery({ model: one || null })}
        />
        <Choice<string>
          label="Kind"
          value={kind ?? ""}
          options={[
            ["", "both"],
            ["slow", "slow"],
            ["failed", "failed"],
          ]}
          onChange={(one) => requery({ kind: one || null })}
        />
      </Head>
      <Answer asked={asked}>
        {({ kept, requests }) => {
          if (!kept) return <Empty title="This server keeps no requests." />;
          if (!requests.length) return <Empty title="None was slow, and none failed, since the server started." />;
          return (
            <section class="panel">
              <Key />
              <Table
                caption="Requests, newest first"
                rows={requests}
                name={(one) => `${one.at_ms}${one.id}${one.worker}${one.total_s}`}
                columns={[
                  { name: "When", cell: (one) => <span class="right">{when(one.at_ms)}</span> },
                  { name: "Kind", cell: (one) => <Badge mood={one.kind === "failed" ? "bad" : "warn"}>{one.code || one.kind}</Badge> },
                  { name: "Model", cell: (one) => <Link href={to("models", one.model)}>{`${one.model} v${one.version}`}</Link> },
                  { name: "Took", right: true, cell: (one) => seconds(one.total_s) },
                  { name: "Where", cell: (one) => <Where request={one} /> },
                  { name: "Queue", right: true, cell: (one) => seconds(one.queue_s) },
                  { name: "Infer", right: true, cell: (one) => seconds(one.infer_s) },
                  { name: "Rows", right: true, cell: (one) => count(one.rows) },
                  { name: "Worker", right: true, cell: (one) => count(one.worker) },
                  { name: "Request", cell: (one) => (one.id ? <code>{one.id}</code> : UNKNOWN) },
                  {
                    name: "Trace",
                    cell: (one) =>
                      one.trace ? (
                        <span class="right">
                          <code>{one.trace.slice(0, 8)}</code> <Copy text={one.trace} what="trace" />
                        </span>
                      ) : (
                        UNKNOWN
                      ),
                  },
                ]}
              />
            </section>
          );
        }}
      </Answer>
    </>
  );
}

const PARTS = [
  ["queue_s", "queue", "one"],
  ["input_s", "input", "four"],
  ["infer_s", "infer", "two"],
  ["output_s", "output", "five"],
] as const;

function Key() {
  return (
    <p class="muted key">
      Where the time went:{" "}
      {PARTS.map(([, name, tone]) => (
        <span key={name}>
          <svg class="swatch" width="10" height="10" aria-hidden="true">
            <rect class={tone} width="10" height="10" rx="2" />
          </svg>{" "}
          {name}{" "}
        </span>
      ))}
      <span>
        <svg class="swatch" width="10" height="10" aria-hidden="true">
          <rect class="three" width="10" height="10" rx="2" />
        </svg>{" "}
        the rest
      </span>
    </p>
  );
}

function Where({ request }: { request: Kept }) {
  const all = request.total_s;
  const known = PARTS.filter(([name]) => request[name] !== null && request[name] !== undefined);
  if (!all || !known.length) return <span class="muted">{UNKNOWN}</span>;
  let from = 0;
  const words = known.map(([name, label]) => `${label} ${seconds(request[name])}`).join(", ");
  return (
    <svg class="where" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label={words}>
      <rect class="three" width="100" height="8" />
      {known.map(([name, label, tone]) => {
        const width = Math.min(100 - from, (100 * (request[name] ?? 0)) / all);
        const x = from;
        from += width;
        return <rect key={label} class={tone} x={x} width={width} height="8" />;
      })}
    </svg>
  );
}
