/** Questions and commands; a refusal is a `Problem` with the server's own words. */

import { useEffect, useState } from "preact/hooks";

export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

let onUnauthorized: () => void = () => undefined;

export function whenUnauthorized(then: () => void): void {
  onUnauthorized = then;
}

async function refusal(reply: Response): Promise<Problem> {
  const text = await reply.text();
  try {
    const told = JSON.parse(text) as Record<string, unknown>;
    const message = String(told.error ?? told.detail ?? told.title ?? reply.statusText);
    return new Problem(reply.status, String(told.code ?? ""), message, String(told.hint ?? ""));
  } catch {
    return new Problem(reply.status, "", `the server answered ${reply.status}`, "");
  }
}

export async function ask<T>(path: string, init: RequestInit = {}): Promise<T> {
  let reply: Response;
  try {
    reply = await fetch(path, { credentials: "same-origin", ...init });
  } catch (problem) {
    if (problem instanceof DOMException && problem.name === "AbortError") throw problem;
    throw new Problem(0, "unreachable", "the server does not answer", "it is asked again as soon as it does");
  }
  if (!reply.ok) {
    const problem = await refusal(reply);
    if (problem.status === 401 && !path.startsWith("/v1/console/session")) onUnauthorized();
    throw problem;
  }
  return (await reply.json()) as T;
}

export function send<T>(path: string, body: unknown, method = "POST"): Promise<T> {
  const headers = { "Content-Type": "application/json", "X-Taxiway-Console": "1" };
  return ask<T>(path, { method, headers, body: body === undefined ? null : JSON.stringify(body) });
}

/** Path and query; what is empty is left out. */
export function url(path: string, query: Record<string, string | number | null | undefined> = {}): string {
  const words = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const said = new URLSearchParams(words.map(([name, value]) => [name, String(value)])).toString();
  return said ? `${path}?${said}` : path;
}

export interface Asked<T> {
  data: T | null;
  problem: Problem | null;
  loading: boolean;
  again: () => void;
}

/** Ask when the path changes, and every `every_ms`; the last answer stays until the next one. Null asks nothing. */
export function useAsk<T>(path: string | null, every_ms = 0, beat: unknown = 0): Asked<T> {
  const [state, setState] = useState<{ path: string | null; data: T | null; problem: Problem | null }>({
    path: null,
    data: null,
    problem: null,
  });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (path === null) return undefined;
    const stop = new AbortController();
    let timer = 0;
    const go = async () => {
      try {
        const data = await ask<T>(path, { signal: stop.signal });
        if (!stop.signal.aborted) setState({ path, data, problem: null });
      } catch (problem) {
        if (stop.signal.aborted) return;
        const told = problem instanceof Problem ? problem : new Problem(0, "", String(problem), "");
        setState((was) => ({ path, data: was.path === path ? was.data : null, problem: told }));
      }
      if (every_ms && !stop.signal.aborted) timer = window.setTimeout(() => void go(), every_ms);
    };
    void go();
    return () => {
      stop.abort();
      window.clearTimeout(timer);
    };
  }, [path, every_ms, turn, beat]);
  const own = state.path === path;
  return {
    data: own ? state.data : null,
    problem: own ? state.problem : null,
    loading: path !== null && (!own || (state.data === null && state.problem === null)),
    again: () => setTurn((was) => was + 1),
  };
}
