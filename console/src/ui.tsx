/** The small pieces pages are made of. */

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { type Problem } from "./api";
import { UNKNOWN } from "./format";

export type Mood = "good" | "warn" | "bad" | "plain" | "accent";

export function Badge({ mood = "plain", children }: { mood?: Mood; children: ComponentChildren }) {
  return <span class={`badge ${mood}`}>{children}</span>;
}

interface PanelProps {
  title: ComponentChildren;
  side?: ComponentChildren;
  children: ComponentChildren;
  wide?: boolean;
}

export function Panel({ title, side, children, wide }: PanelProps) {
  const id = useId();
  return (
    <section class={wide ? "panel wide" : "panel"} aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {side}
      </header>
      {children}
    </section>
  );
}

export function Head({ title, children }: { title: ComponentChildren; children?: ComponentChildren }) {
  return (
    <div class="head">
      <h1 tabIndex={-1}>{title}</h1>
      {children && <div class="tools">{children}</div>}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p>
        <strong>{title}</strong>
      </p>
      {children}
    </div>
  );
}

export function Fault({ problem }: { problem: Problem }) {
  return (
    <div class="fault" role="alert">
      <strong>{problem.message}</strong>
      {problem.hint && <p>{problem.hint}</p>}
      {problem.code && <code>{problem.code}</code>}
    </div>
  );
}

export function Waiting() {
  return (
    <p class="muted" role="status">
      Loading …
    </p>
  );
}

/** A refusal, or that one waits, or what is there. */
export function Answer<T>({ asked, children }: {
  asked: { data: T | null; problem: Problem | null; loading: boolean };
  children: (data: T) => ComponentChildren;
}) {
  if (asked.data === null) return asked.problem ? <Fault problem={asked.problem} /> : <Waiting />;
  return (
    <>
      {asked.problem && <Fault problem={asked.problem} />}
      {children(asked.data)}
    </>
  );
}

export function Stat({ name, value, mood, note }: {
  name: string;
  value: ComponentChildren;
  mood?: Mood;
  note?: ComponentChildren;
}) {
  return (
    <div class={`stat ${mood ?? ""}`}>
      <dt>{name}</dt>
      <dd>
        {value}
        {note && <small>{note}</small>}
      </dd>
    </div>
  );
}

export interface Column<T> {
  name: string;
  cell: (row: T) => ComponentChildren;
  right?: boolean;
}

export function Table<T>({ caption, columns, rows, name }: {
  caption: string;
  columns: Column<T>[];
  rows: T[];
  name?: (row: T) => string;
}) {
  return (
    <div class="scroll" role="region" aria-label={caption} tabIndex={0}>
      <table>
        <caption class="hidden">{caption}</caption>
        <thead>
          <tr>
            {columns.map((one) => (
              <th scope="col" key={one.name} class={one.right ? "right" : ""}>
                {one.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, at) => (
            <tr key={name ? name(row) : at}>
              {columns.map((one) => (
                <td key={one.name} class={one.right ? "right" : ""}>
                  {one.cell(row) ?? UNKNOWN}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** A share of something, 0 to 1; unknown has no bar. */
export function Bar({ label, value, mark, mood = "accent", text }: {
  label: string;
  value: number | null | undefined;
  mark?: number;
  mood?: Mood;
  text: string;
}) {
  const known = typeof value === "number" && Number.isFinite(value);
  const share = known ? Math.min(1, Math.max(0, value)) : 0;
  return (
    <div class="bar">
      <div class="bar-head">
        <span>{label}</span>
        <span>{text}</span>
      </div>
      <svg class={`bar-body ${mood}`} viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label={`${label}: ${text}`}>
        <rect class="rail" width="100" height="6" />
        {known && <rect class="fill" width={100 * share} height="6" />}
        {mark !== undefined && <rect class="mark" x={Math.min(99.2, 100 * mark)} width="0.8" height="6" />}
      </svg>
    </div>
  );
}

export function Choice<T extends string | number>({ label, value, options, onChange }: {
  label: string;
  value: T;
  options: (readonly [T, string])[];
  onChange: (value: T) => void;
}) {
  return (
    <label class="choice">
      <span>{label}</span>
      <select value={String(value)} onChange={(event) => {
        const said = event.currentTarget.value;
        const found = options.find(([one]) => String(one) === said);
        if (found) onChange(found[0]);
      }}>
        {options.map(([one, text]) => (
          <option key={one} value={String(one)}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
}

export function Dialog({ title, onClose, children }: DialogProps) {
  const box = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    box.current?.showModal();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog ref={box} aria-labelledby={id} onClose={onClose} onCancel={onClose}>
      <h2 id={id}>{title}</h2>
      {children}
    </dialog>
  );
}

export function Copy({ text, what }: { text: string; what: string }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const field = document.createElement("textarea");
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    setDone(true);
    window.setTimeout(() => setDone(false), 1500);
  };
  return (
    <button type="button" class="small" onClick={() => void copy()}>
      <span aria-live="polite">{done ? "Copied" : `Copy ${what}`}</span>
    </button>
  );
}
