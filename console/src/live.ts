/** The one event stream of this page: connects, watches that frames come, connects again. */

import { useEffect, useState } from "preact/hooks";
import { ask } from "./api";
import { applied, patience, type Delta, type Told } from "./stream";

/** `refused`: this caller sees some models only, and no stream. */
export type Link = "connecting" | "open" | "lost" | "refused";

export interface Live {
  link: Link;
  told: Told | null;
  /** Counts connections: whoever keeps points of its own asks for the gap when it changes. */
  beat: number;
}

const SILENCE_MS = 5000;
const HIDDEN_MS = 60_000;

let state: Live = { link: "connecting", told: null, beat: 0 };
const listeners = new Set<(now: Live) => void>();
let source: EventSource | null = null;
let tries = 0;
let retry = 0;
let silence = 0;
let hidden = 0;

function tell(change: Partial<Live>): void {
  state = { ...state, ...change };
  for (const one of listeners) one(state);
}

function heard(): void {
  window.clearTimeout(silence);
  silence = window.setTimeout(lost, SILENCE_MS);
}

function close(): void {
  window.clearTimeout(silence);
  window.clearTimeout(retry);
  source?.close();
  source = null;
}

function lost(): void {
  close();
  tell({ link: "lost" });
  if (tries === 1) void learnWhy();
  retry = window.setTimeout(connect, patience(tries, Math.random()));
  tries += 1;
}

/** An EventSource does not tell why it was refused. */
async function learnWhy(): Promise<void> {
  const stop = new AbortController();
  try {
    const reply = await fetch("/v1/stream", { signal: stop.signal });
    if (reply.status === 401) void ask("/v1/server").catch(() => undefined);
    if (reply.status === 403) {
      close();
      tell({ link: "refused" });
    }
  } catch {
    return;
  } finally {
    stop.abort();
  }
}

export function connect(): void {
  close();
  source = new EventSource("/v1/stream");
  source.addEventListener("full", (event) => {
    heard();
    tries = 0;
    const told = JSON.parse((event as MessageEvent<string>).data) as Told;
    tell({ link: "open", told, beat: state.link === "lost" ? state.beat + 1 : state.beat });
  });
  source.addEventListener("delta", (event) => {
    heard();
    const delta = JSON.parse((event as MessageEvent<string>).data) as Delta;
    if (state.told) tell({ told: applied(state.told, delta) });
  });
  source.addEventListener("error", lost);
  heard();
}

export function ensureConnected(): void {
  if (source === null || state.link === "lost") connect();
}

export function disconnect(): void {
  close();
  tries = 0;
  tell({ link: "connecting", told: null });
}

function rest(): void {
  close();
  tell({ link: "lost" });
}

/** A page nobody looks at holds no connection: browsers allow six to a server. */
export function restInBackground(wanted: () => boolean): void {
  document.addEventListener("visibilitychange", () => {
    window.clearTimeout(hidden);
    if (document.hidden) hidden = window.setTimeout(rest, HIDDEN_MS);
    else if (source === null && wanted()) connect();
  });
}

export function onLive(listener: (now: Live) => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function live(): Live {
  return state;
}

export function useLive(): Live {
  const [now, setNow] = useState(state);
  useEffect(() => {
    setNow(state);
    return onLive(setNow);
  }, []);
  return now;
}
