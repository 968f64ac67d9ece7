import type { Mood } from "./ui";

export function outcomeMood(outcome: string | null | undefined): Mood {
  if (outcome === "pass") return "good";
  if (outcome === "fail") return "bad";
  return outcome === "error" ? "warn" : "accent";
}

export function alertMood(state: string): Mood {
  if (state === "firing") return "bad";
  return state === "ok" ? "good" : "warn";
}

export function phaseMood(phase: string): Mood {
  if (phase === "succeeded") return "good";
  if (phase === "rolled-back" || phase === "failed-infra" || phase === "rolling-back") return "bad";
  return phase === "superseded" ? "plain" : "accent";
}

export function stateMood(state: string): Mood {
  if (state === "READY") return "good";
  return state === "LOADING" || state === "UNLOADING" ? "warn" : state === "UNAVAILABLE" ? "bad" : "plain";
}
