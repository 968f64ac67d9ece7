/** Who looks, and what they may. */

import { useEffect, useState } from "preact/hooks";
import { ask, send } from "./api";

export interface Session {
  auth: boolean;
  caller: { name: string; scopes: string[] } | null;
  version: string;
}

let session: Session | null = null;
const listeners = new Set<(now: Session | null) => void>();

function tell(now: Session): void {
  session = now;
  for (const one of listeners) one(now);
}

export async function lookWho(): Promise<Session> {
  const now = await ask<Session>("/v1/console/session");
  tell(now);
  return now;
}

export async function signIn(key: string): Promise<void> {
  tell(await send<Session>("/v1/console/session", { key }));
}

export async function signOut(): Promise<void> {
  tell(await send<Session>("/v1/console/session", undefined, "DELETE"));
}

export function admitted(now: Session | null): boolean {
  return now !== null && (!now.auth || now.caller !== null);
}

export function may(now: Session | null, scope: string): boolean {
  if (!now) return false;
  return !now.auth || (now.caller?.scopes ?? []).some((one) => one === scope || one === "admin");
}

export function current(): Session | null {
  return session;
}

export function useSession(): Session | null {
  const [now, setNow] = useState(session);
  useEffect(() => {
    setNow(session);
    listeners.add(setNow);
    return () => {
      listeners.delete(setNow);
    };
  }, []);
  return now;
}
