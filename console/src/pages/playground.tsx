import { useEffect, useState } from "preact/hooks";
import { Problem, send, url, useAsk } from "../api";
import { count, seconds } from "../format";
import { useLive } from "../live";
import { go, Link, requery, to, type Place } from "../router";
import { may, useSession } from "../session";
import { models } from "../stream";
import { concrete, curl, example, imageLayout, imageShape, isWhole, parsed, pixels, type Input, type Scale, type Tensor } from "../tensors";
import { Answer, Choice, Copy, Empty, Fault, Head, Panel, Table } from "../ui";
import type { Detail } from "./models";

export function Playground({ place }: { place: Place }) {
  const { told } = useLive();
  const names = told ? models(told) : [];
  const model = place.rest[0] ?? "";
  const first = names[0];
  useEffect(() => {
    if (!model && first) go(to("playground", first), true);
  }, [model, first]);
  if (!model) {
    return (
      <>
        <Head title="Playground" />
        {told && !first && <Empty title="No model is served yet." />}
      </>
    );
  }
  return <Try key={model} place={place} model={model} names={names.includes(model) ? names : [model, ...names]} />;
}

function Try({ place, model, names }: { place: Place; model: string; names: string[] }) {
  const asked = useAsk<Detail>(`/v1/models/${encodeURIComponent(model)}`);
  return (
    <>
      <Head title="Playground">
        <Choice<string> label="Model" value={model} options={names.map((one) => [one, one] as const)} onChange={(one) => go(to("playground", one))} />
      </Head>
      <Answer asked={asked}>
        {(detail) => {
          const ready = detail.versions.filter((one) => one.metadata);
          const said = place.query.get("version");
          const chosen = ready.find((one) => String(one.version) === said) ?? ready[0];
          if (!chosen?.metadata) {
            return (
              <Empty title={`No version of ${model} is loaded.`}>
                <Link href={to("models", model)}>See how it stands</Link>
              </Empty>
            );
          }
          return (
            <>
              <p>
                <Choice<string>
                  label="Version"
                  value={said ?? ""}
                  options={[["", "as traffic is routed"] as const, ...ready.map((one) => [String(one.version), `v${one.version}`] as const)]}
                  onChange={(one) => requery({ version: one || null })}
                />
              </p>
              <Form key={chosen.version} model={model} version={said} inputs={chosen.metadata.inputs} />
            </>
          );
        }}
      </Answer>
    </>
  );
}

interface V2 {
  model_name?: string;
  model_version?: string;
  outputs?: { name: string; datatype: string; shape: number[]; data: unknown[] }[];
}

function Form({ model, version, inputs }: { model: string; version: string | null; inputs: Tensor[] }) {
  const session = useSession();
  const [texts, setTexts] = useState<Record<string, string>>(() => Object.fromEntries(inputs.map((one) => [one.name, example(one)])));
  const [images, setImages] = useState<Record<string, Input | null>>({});
  const [answer, setAnswer] = useState<{ ms: number; answer: V2 } | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const faults: Record<string, string> = {};
  const built: Input[] = [];
  for (const one of inputs) {
    try {
      built.push(images[one.name] ?? parsed(one, texts[one.name] ?? ""));
    } catch (fault) {
      faults[one.name] = fault instanceof Error ? fault.message : String(fault);
    }
  }
  const whole = built.length === inputs.length;
  const body = { inputs: built };
  const path = url(`/v1/playground/${encodeURIComponent(model)}`, { version });
  const allowed = may(session, "infer");
  const run = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      setAnswer(await send(path, body));
    } catch (fault) {
      setAnswer(null);
      setProblem(fault instanceof Problem ? fault : new Problem(0, "", String(fault), ""));
    }
    setBusy(false);
  };
  const command = curl(location.origin + path, JSON.stringify(body));
  return (
    <div class="grid">
      <Panel title="Request">
        <form class="form" onSubmit={(event) => void run(event)}>
          {inputs.map((one) => (
            <Field
              key={one.name}
              tensor={one}
              text={texts[one.name] ?? ""}
              image={images[one.name] ?? null}
              fault={faults[one.name]}
              onText={(text) => setTexts({ ...texts, [one.name]: text })}
              onImage={(image) => setImages({ ...images, [one.name]: image })}
            />
          ))}
          <div class="row">
            <button type="submit" class="primary" disabled={!whole || busy || !allowed}>
              {busy ? "Asking …" : "Send"}
            </button>
            {!allowed && <span class="muted">Your key lacks the scope infer.</span>}
          </div>
        </form>
        {whole && (
          <details>
            <summary>As curl</summary>
            <p class="muted">Where keys are set up, add -H 'Authorization: Bearer tw_...'. Clients ask POST /v2/models/{model}/infer with the same body.</p>
            <Copy text={command} what="command" />
            <pre tabIndex={0}>{command.length > 4000 ? `${command.slice(0, 4000)} …` : command}</pre>
          </details>
        )}
      </Panel>
      <Panel title="Answer">
        <div aria-live="polite">
          {problem && <Fault problem={problem} />}
          {!problem && !answer && <p class="muted">Nothing was asked yet.</p>}
          {answer && (
            <>
              <p>
                Answered in <strong>{seconds(answer.ms / 1000)}</strong> by v{answer.answer.model_version ?? "?"}
              </p>
              {(answer.answer.outputs ?? []).map((one) => (
                <Output key={one.name} output={one} />
              ))}
            </>
          )}
        </div>
        {answer && (
          <details>
            <summary>The whole answer</summary>
            <Copy text={JSON.stringify(answer.answer)} what="answer" />
            <pre tabIndex={0}>{JSON.stringify(answer.answer, null, 1).slice(0, 20_000)}</pre>
          </details>
        )}
      </Panel>
    </div>
  );
}

interface FieldProps {
  tensor: Tensor;
  text: string;
  image: Input | null;
  fault: string | undefined;
  onText: (text: string) => void;
  onImage: (image: Input | null) => void;
}

function Field({ tensor, text, image, fault, onText, onImage }: FieldProps) {
  const layout = imageLayout(tensor);
  const words = tensor.datatype === "BYTES";
  const id = `input-${tensor.name}`;
  return (
    <fieldset>
      <legend>
        <code>{tensor.name}</code> <span class="muted">{`${tensor.datatype} [${tensor.shape.join(", ")}]`}</span>
      </legend>
      {layout && <Picture tensor={tensor} onImage={onImage} />}
      {image ? (
        <p>
          {`An image of ${image.shape.join(" × ")}. `}
          <button type="button" class="small" onClick={() => onImage(null)}>
            Type numbers instead
          </button>
        </p>
      ) : (
        <>
          <textarea
            id={id}
            aria-label={words ? `Text of ${tensor.name}` : `Numbers of ${tensor.name}`}
            aria-invalid={fault !== undefined}
            aria-describedby={`${id}-said`}
            rows={words ? 3 : 4}
            placeholder={words ? "Type a text" : ""}
            value={text}
            onInput={(event) => onText(event.currentTarget.value)}
          />
          <p id={`${id}-said`} class={fault ? "bad" : "muted"}>
            {fault ?? (words ? "One text, or a JSON list of texts." : `Numbers, or JSON as [${concrete(tensor.shape).join(" × ")}].`)}
          </p>
          {!words && (
            <div class="row">
              <button type="button" class="small" onClick={() => onText(example(tensor))}>
                Zeros
              </button>
              <button type="button" class="small" onClick={() => onText(example(tensor, Math.random))}>
                Random
              </button>
            </div>
          )}
        </>
      )}
    </fieldset>
  );
}

function Picture({ tensor, onImage }: { tensor: Tensor; onImage: (image: Input | null) => void }) {
  const layout = imageLayout(tensor);
  const whole = isWhole(tensor.datatype);
  const [scale, setScale] = useState<Scale>(whole ? "255" : "1");
  const [file, setFile] = useState<File | null>(null);
  const [fault, setFault] = useState("");
  useEffect(() => {
    if (!file || !layout) return;
    const decode = async () => {
      try {
        const bitmap = await createImageBitmap(file);
        const canvas = document.createElement("canvas");
        canvas.width = layout.width;
        canvas.height = layout.height;
        const ink = canvas.getContext("2d");
        if (!ink) return;
        ink.drawImage(bitmap, 0, 0, layout.width, layout.height);
        const rgba = ink.getImageData(0, 0, layout.width, layout.height).data;
        const data = pixels(rgba, layout, scale, whole);
        onImage({ name: tensor.name, datatype: tensor.datatype, shape: imageShape(tensor, layout), data });
        setFault("");
      } catch {
        setFault("this browser cannot read that image");
      }
    };
    void decode();
  }, [file, scale]);
  return (
    <div class="row">
      <label>
        Image{" "}
        <input type="file" accept="image/*" onChange={(event) => setFile(event.currentTarget.files?.[0] ?? null)} />
      </label>
      <Choice<Scale>
        label="Values"
        value={scale}
        options={[
          ["255", "0 to 255"],
          ["1", "0 to 1"],
          ["imagenet", "ImageNet's mean and deviation"],
        ]}
        onChange={setScale}
      />
      {fault && <span class="bad">{fault}</span>}
    </div>
  );
}

const SHOWN = 50;

function Output({ output }: { output: NonNullable<V2["outputs"]>[number] }) {
  const flat = (Array.isArray(output.data) ? output.data : [output.data]).flat(Infinity) as unknown[];
  return (
    <>
      <p>
        <code>{output.name}</code> <span class="muted">{`${output.datatype} [${output.shape.join(", ")}]`}</span>
      </p>
      <Table
        caption={`Output ${output.name}`}
        rows={flat.slice(0, SHOWN).map((value, at) => ({ value, at }))}
        columns={[
          { name: "At", right: true, cell: (one) => count(one.at) },
          { name: "Value", cell: (one) => <span class="value">{String(one.value)}</span> },
        ]}
      />
      {flat.length > SHOWN && <p class="muted">and {count(flat.length - SHOWN)} more</p>}
    </>
  );
}
