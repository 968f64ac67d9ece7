import { url, useAsk } from "../api";
import { Drawing, type Ink } from "../chart";
import { bytes, number, when, UNKNOWN } from "../format";
import { front, pointOf, spread, type Point } from "../pareto";
import { Link, to, type Place } from "../router";
import { Answer, Badge, Empty, Head, Panel, Table } from "../ui";

interface Variant {
  variant: string;
  recipe: unknown;
  made_ms: number;
  by: string;
  verdict: unknown;
}

interface Report {
  model: string;
  version: number;
  variants: Variant[];
  profiles: { at_ms: number; by: string; facts: unknown }[];
}

export function Reports({ place }: { place: Place }) {
  const model = place.rest[0] ?? null;
  const path = url("/v1/reports", { model });
  const asked = useAsk<{ models: Report[] }>(path, 30_000);
  return (
    <>
      <Head title={model ? `Profiles of ${model}` : "Profiles and variants"} />
      <Answer asked={asked}>
        {({ models }) =>
          models.length === 0 ? (
            <Empty title="Nothing was optimized or profiled yet.">
              <p>
                <code>taxiway optimize fraud:3 --data calib.npz</code> makes variants of a registered version, and tells here what
                they gain and lose; <code>taxiway profile</code> measures under load.
              </p>
            </Empty>
          ) : (
            <>
              {models.map((one) => (
                <One key={`${one.model}:${one.version}`} report={one} path={path} />
              ))}
            </>
          )
        }
      </Answer>
    </>
  );
}

function answerOf(variant: Variant): string | null {
  const facts = variant.verdict as { verdict?: { answer?: unknown } } | null;
  return typeof facts?.verdict?.answer === "string" ? facts.verdict.answer : null;
}

function One({ report, path }: { report: Report; path: string }) {
  const points = report.variants.flatMap((one) => pointOf(one.variant, one.verdict) ?? []);
  const base: Point = { name: `v${report.version}`, speed: 1, drop: 0, upper: null, size: null };
  const best = front([base, ...points]);
  const by = new Map(points.map((one) => [one.name, one]));
  return (
    <Panel
      title={
        <>
          <Link href={to("registry", report.model)}>{report.model}</Link> v{report.version}
        </>
      }
    >
      {points.length > 0 && <Scatter report={report} points={[base, ...points]} best={best} path={path} />}
      {report.variants.length > 0 && (
        <Table
          caption={`Variants of ${report.model} v${report.version}`}
          rows={report.variants}
          name={(one) => one.variant}
          columns={[
            { name: "Variant", cell: (one) => <strong>{one.variant}</strong> },
            { name: "Speed", right: true, cell: (one) => (by.has(one.variant) ? `${number(by.get(one.variant)?.speed)} ×` : UNKNOWN) },
            { name: "Loses", right: true, cell: (one) => number(by.get(one.variant)?.drop) },
            { name: "At most", right: true, cell: (one) => number(by.get(one.variant)?.upper) },
            { name: "Size", right: true, cell: (one) => bytes(by.get(one.variant)?.size) },
            {
              name: "Verdict",
              cell: (one) => (
                <>
                  {answerOf(one) && <Badge>{answerOf(one)}</Badge>}
                  {best.has(one.variant) && <Badge mood="good">Pareto</Badge>}
                  {!one.verdict && <span class="muted">not judged</span>}
                </>
              ),
            },
            { name: "Made", cell: (one) => `${when(one.made_ms)} by ${one.by}` },
            { name: "Facts", cell: (one) => <Facts of={{ recipe: one.recipe, found: one.verdict }} /> },
          ]}
        />
      )}
      {report.profiles.map((one) => (
        <details key={one.at_ms}>
          <summary>
            Profile of {when(one.at_ms)} by {one.by}
          </summary>
          <Spread of={one.facts} />
        </details>
      ))}
    </Panel>
  );
}

function Facts({ of }: { of: unknown }) {
  return (
    <details>
      <summary>all</summary>
      <Spread of={of} />
    </details>
  );
}

function Spread({ of }: { of: unknown }) {
  return (
    <Table
      caption="What was found"
      rows={spread(of)}
      name={([name]) => name}
      columns={[
        { name: "Fact", cell: ([name]) => name },
        { name: "Value", cell: ([, value]) => <span class="value">{value}</span> },
      ]}
    />
  );
}

const HEIGHT = 220;
const LEFT = 56;
const FOOT = 34;
const EDGE = 16;

function Scatter({ report, points, best, path }: { report: Report; points: Point[]; best: Set<string>; path: string }) {
  const fast = Math.max(...points.map((one) => one.speed), 1) * 1.1;
  const low = Math.min(0, ...points.map((one) => one.drop));
  const high = Math.max(...points.map((one) => one.upper ?? one.drop), low + 1e-6) * 1.1;
  const x = (speed: number, width: number) => LEFT + (speed / fast) * (width - LEFT - EDGE);
  const y = (drop: number) => HEIGHT - FOOT - ((drop - low) / (high - low)) * (HEIGHT - FOOT - EDGE);
  const draw = ({ ctx, width, colours }: Ink) => {
    ctx.strokeStyle = colours.line;
    ctx.fillStyle = colours.muted;
    for (let mark = 0; mark <= 4; mark += 1) {
      const drop = low + ((high - low) * mark) / 4;
      ctx.beginPath();
      ctx.moveTo(LEFT, y(drop));
      ctx.lineTo(width - EDGE, y(drop));
      ctx.stroke();
      ctx.textAlign = "right";
      ctx.fillText(number(drop), LEFT - 6, y(drop) + 4);
      ctx.textAlign = "center";
      ctx.fillText(`${number((fast * mark) / 4)} ×`, x((fast * mark) / 4, width), HEIGHT - FOOT + 15);
    }
    ctx.fillText("speed, times that of the version", LEFT + (width - LEFT) / 2, HEIGHT - 4);
    ctx.textAlign = "left";
    ctx.fillText("loss", 0, 10);
    const line = points.filter((one) => best.has(one.name)).sort((one, other) => one.speed - other.speed);
    ctx.strokeStyle = colours.good;
    ctx.setLineDash([4, 4]);
    ctx.beginPath();
    line.forEach((one, at) => (at ? ctx.lineTo(x(one.speed, width), y(one.drop)) : ctx.moveTo(x(one.speed, width), y(one.drop))));
    ctx.stroke();
    ctx.setLineDash([]);
    for (const one of points) {
      const colour = best.has(one.name) ? colours.good : colours.muted;
      ctx.fillStyle = colour;
      ctx.strokeStyle = colour;
      if (one.upper !== null) {
        ctx.beginPath();
        ctx.moveTo(x(one.speed, width), y(one.drop));
        ctx.lineTo(x(one.speed, width), y(one.upper));
        ctx.stroke();
      }
      ctx.beginPath();
      ctx.arc(x(one.speed, width), y(one.drop), 5, 0, 7);
      ctx.fill();
      ctx.fillStyle = colours.text;
      const right = x(one.speed, width) > width * 0.7;
      ctx.textAlign = right ? "right" : "left";
      ctx.fillText(one.name, x(one.speed, width) + (right ? -8 : 8), y(one.drop) - 7);
    }
  };
  const words = (one: Point) => `${one.name}: ${number(one.speed)} times as fast, loses ${number(one.drop)}${one.size ? `, ${bytes(one.size)}` : ""}`;
  return (
    <Drawing
      title={`Speed against loss, ${report.model} v${report.version}`}
      source={{ api: path }}
      height={HEIGHT}
      draw={draw}
      hit={(at, down, width) => {
        const near = points
          .map((one) => ({ one, far: Math.hypot(x(one.speed, width) - at, y(one.drop) - down) }))
          .sort((one, other) => one.far - other.far)[0];
        return near && near.far < 24 ? words(near.one) : null;
      }}
      head={["variant", "speed", "loss", "at most", "bytes"]}
      rows={points.map((one) => [one.name, one.speed, one.drop, one.upper, one.size])}
      label={`Speed against loss: ${points.map(words).join("; ")}`}
      legend="green: no other variant is faster and loses less; a line goes up to what is lost at most"
    />
  );
}
