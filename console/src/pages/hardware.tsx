import { Series } from "../chart";
import { bytes, number, percent, UNKNOWN } from "../format";
import { useLive } from "../live";
import type { Place } from "../router";
import type { Wanted } from "../series";
import { Span, spanOf } from "../span";
import type { Gpu, Told } from "../stream";
import { Badge, Bar, Empty, Head, Panel, Stat, Waiting } from "../ui";

export function Hardware({ place }: { place: Place }) {
  const { told, link } = useLive();
  const span_s = spanOf(place);
  return (
    <>
      <Head title="GPU and host">
        <Span place={place} />
      </Head>
      {told ? <Host told={told} /> : link !== "refused" && <Waiting />}
      <div class="grid">
        <section class="panel">
          <Series title="CPU of the host" format={percent} top={1} wanted={host(span_s, [["cpu", "cpu"]])} />
        </section>
        <section class="panel">
          <Series
            title="Memory"
            format={bytes}
            promql="taxiway_process_memory_bytes"
            wanted={host(span_s, [
              ["workers_bytes", "workers"],
              ["models_bytes", "models"],
              ["control_bytes", "control"],
            ])}
          />
        </section>
        <section class="panel">
          <Series
            title="Connections and requests in flight"
            format={number}
            promql="sum(taxiway_http_open_connections)"
            wanted={{
              ...host(span_s, [
                ["connections", "connections"],
                ["in_flight", "in flight"],
              ]),
              now: (now) => ({ connections: now.total.connections ?? null, "in flight": now.total.in_flight ?? null }),
            }}
          />
        </section>
      </div>
      {told && told.gpus.length === 0 && (
        <Empty title="No GPU is seen.">
          <p>One shows here as soon as the NVIDIA driver is there and monitoring.gpu is enabled; models run on the CPU.</p>
        </Empty>
      )}
      {told?.gpus.map((one) => <Card key={one.uuid} gpu={one} />)}
      {told && told.gpus.length > 0 && (
        <div class="grid">
          {GPU_CHARTS.map(([title, what, format, promql]) => (
            <section class="panel" key={what}>
              <Series title={title} format={format} promql={promql} {...(format === percent ? { top: 1 } : {})} wanted={gpus(span_s, what)} />
            </section>
          ))}
        </div>
      )}
    </>
  );
}

const GPU_CHARTS: [string, string, typeof number, string][] = [
  ["GPU kernel time", "utilization", percent, "taxiway_gpu_kernel_time_ratio"],
  ["Tensor core activity", "tensor_activity", percent, "taxiway_gpu_tensor_activity_ratio"],
  ["SM activity", "sm_activity", percent, "taxiway_gpu_sm_activity_ratio"],
  ["GPU memory", "memory_used", bytes, "taxiway_gpu_memory_used_bytes"],
  ["GPU power, W", "power_w", number, "taxiway_gpu_power_watts"],
  ["GPU temperature, °C", "temperature_c", number, "taxiway_gpu_temperature_celsius"],
];

function host(span_s: number, lines: [string, string][]): Wanted {
  return {
    kind: "host",
    query: {},
    fields: lines.map(([what]) => what).join(","),
    span_s,
    pick: (_, fields) => lines.map(([what, label]) => ({ label, values: fields[what] ?? [] })),
    now: (told) => Object.fromEntries(lines.map(([what, label]) => [label, told.host[what] ?? null])),
  };
}

function gpus(span_s: number, what: string): Wanted {
  return {
    kind: "gpu",
    query: {},
    fields: what,
    span_s,
    pick: ([uuid, index], fields) => [{ label: `GPU ${index ?? uuid}`, values: fields[what] ?? [] }],
    now: (told) => Object.fromEntries(told.gpus.map((one) => [`GPU ${one.gpu}`, amount(one, what)])),
  };
}

function amount(gpu: Gpu, what: string): number | null {
  const value = gpu[what];
  return typeof value === "number" ? value : null;
}

function Host({ told }: { told: Told }) {
  const { host: now } = told;
  const limit = now.models_limit_bytes;
  return (
    <dl class="stats">
      <Stat name="CPU" value={percent(now.cpu)} />
      <Stat name="Memory of the host" value={bytes(now.memory_used)} note={`of ${bytes(now.memory_total)}`} />
      <Stat name="Workers" value={bytes(now.workers_bytes)} note={`${number(now.workers_ready)} of ${number(now.workers)} ready`} />
      <Stat name="Models" value={bytes(now.models_bytes)} note={limit ? `of ${bytes(limit)}` : "no limit is set"} />
      <Stat name="Control process" value={bytes(now.control_bytes)} />
    </dl>
  );
}

function Card({ gpu }: { gpu: Gpu }) {
  const used = amount(gpu, "memory_used");
  const all = amount(gpu, "memory_total");
  const xid = amount(gpu, "xid");
  const throttled = amount(gpu, "throttled");
  return (
    <Panel
      title={`GPU ${gpu.gpu}`}
      side={
        <>
          <code class="muted">{gpu.uuid}</code>
          {gpu.lost && <Badge mood="bad">lost</Badge>}
          {xid !== null && xid > 0 && <Badge mood="warn">{`XID ${xid}`}</Badge>}
          {throttled !== null && throttled > 0 && <Badge mood="warn">throttled</Badge>}
        </>
      }
    >
      {gpu.lost && <p class="bad">The driver no longer answers for it: these are not its numbers of now.</p>}
      <div class="grid">
        <div>
          <Bar label="kernel time" value={amount(gpu, "utilization")} text={percent(amount(gpu, "utilization"))} />
          <Bar label="tensor cores" value={amount(gpu, "tensor_activity")} text={percent(amount(gpu, "tensor_activity"))} />
          <Bar label="SMs" value={amount(gpu, "sm_activity")} text={percent(amount(gpu, "sm_activity"))} />
        </div>
        <div>
          <Bar label="memory" value={used !== null && all ? used / all : null} text={`${bytes(used)} of ${bytes(all)}`} />
          <Bar label="memory bandwidth" value={amount(gpu, "memory_bandwidth")} text={percent(amount(gpu, "memory_bandwidth"))} />
          <p class="muted">
            {amount(gpu, "power_w") === null ? UNKNOWN : `${number(amount(gpu, "power_w"))} W`},{" "}
            {amount(gpu, "temperature_c") === null ? UNKNOWN : `${number(amount(gpu, "temperature_c"))} °C`}
          </p>
        </div>
      </div>
    </Panel>
  );
}
