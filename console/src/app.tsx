/** The shell: who looks, the way between pages, whether the server is heard. */

import { useEffect, useRef, useState } from "preact/hooks";
import { whenUnauthorized } from "./api";
import { ago } from "./format";
import { listenToKeys } from "./keys";
import { connect, disconnect, ensureConnected, restInBackground, useLive } from "./live";
import { PAGES, titleOf } from "./nav";
import { Alerts } from "./pages/alerts";
import { Audit } from "./pages/audit";
import { Drift } from "./pages/drift";
import { Hardware } from "./pages/hardware";
import { Models } from "./pages/models";
import { Overview } from "./pages/overview";
import { Playground } from "./pages/playground";
import { Registry } from "./pages/registry";
import { Reports } from "./pages/reports";
import { Requests } from "./pages/requests";
import { Rollouts } from "./pages/rollouts";
import { Link, to, usePlace, type Place } from "./router";
import { Search } from "./search";
import { admitted, current, lookWho, signIn, signOut, useSession } from "./session";
import { nextTheme, setTheme } from "./theme";
import { Dialog, Empty, Head } from "./ui";
import { Problem } from "./api";

const VIEWS: Record<string, (props: { place: Place }) => preact.JSX.Element> = {
  overview: Overview,
  models: Models,
  rollouts: Rollouts,
  playground: Playground,
  drift: Drift,
  alerts: Alerts,
  requests: Requests,
  hardware: Hardware,
  registry: Registry,
  reports: Reports,
  audit: Audit,
};

export function App() {
  const session = useSession();
  const inside = admitted(session);
  useEffect(() => {
    let timer = 0;
    const look = () => {
      lookWho().catch(() => {
        timer = window.setTimeout(look, 1000);
      });
    };
    whenUnauthorized(look);
    restInBackground(() => admitted(current()));
    connect();
    look();
    return () => window.clearTimeout(timer);
  }, []);
  useEffect(() => {
    if (inside) ensureConnected();
    else if (session) disconnect();
  }, [inside]);
  if (!session) {
    return (
      <main class="alone">
        <p role="status" class="muted">
          Asking the server who you are …
        </p>
      </main>
    );
  }
  return inside ? <Inside /> : <SignIn />;
}

function SignIn() {
  const [key, setKey] = useState("");
  const [fault, setFault] = useState("");
  const enter = async (event: Event) => {
    event.preventDefault();
    try {
      await signIn(key.trim());
    } catch (problem) {
      setFault(problem instanceof Problem ? problem.message : String(problem));
    }
  };
  return (
    <main class="alone">
      <form class="panel signin" onSubmit={(event) => void enter(event)}>
        <h1>taxiway</h1>
        <label>
          API key
          <input type="password" autocomplete="current-password" required value={key} onInput={(event) => setKey(event.currentTarget.value)} aria-describedby="signin-said" />
        </label>
        <p id="signin-said" class={fault ? "bad" : "muted"} role={fault ? "alert" : undefined}>
          {fault || "A key with the scope read shows everything; rollout and infer allow more."}
        </p>
        <button type="submit" class="primary">
          Sign in
        </button>
      </form>
    </main>
  );
}

function Inside() {
  const place = usePlace();
  const { told } = useLive();
  const [help, setHelp] = useState(false);
  const [menu, setMenu] = useState(false);
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  const address = [place.page, ...place.rest].join("/");
  useEffect(() => listenToKeys(() => setHelp(true)), []);
  useEffect(() => {
    setMenu(false);
    document.title = `${place.rest[0] ? `${place.rest[0]} · ` : ""}${titleOf(place.page)} · taxiway`;
    if (!first.current) main.current?.querySelector<HTMLElement>("h1")?.focus({ preventScroll: true });
    first.current = false;
  }, [address]);
  const View = VIEWS[place.page];
  const trouble: Record<string, number> = {
    alerts: told?.alerts.filter((one) => one.state === "firing").length ?? 0,
    drift: told?.drift.filter((one) => one.state === "drifted").length ?? 0,
    rollouts: told?.rollouts.length ?? 0,
  };
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        main.current?.focus();
      }}>
        Skip to the content
      </a>
      <header class="top">
        <button type="button" class="burger" aria-expanded={menu} aria-controls="nav" onClick={() => setMenu(!menu)}>
          <span class="hidden">Pages</span>
          <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
            <path d="M1 3h14M1 8h14M1 13h14" />
          </svg>
        </button>
        <Link href={to("overview")} class="brand">
          taxiway
        </Link>
        <Search />
        <Heard />
        <button type="button" class="icon keys-button" aria-label="Keys" title="Keys ( ? )" onClick={() => setHelp(true)}>
          ?
        </button>
        <button type="button" class="icon" aria-label="Switch dark and light" title="Dark or light ( t )" onClick={() => setTheme(nextTheme())}>
          <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
            <circle cx="8" cy="8" r="6" />
            <path class="solid" d="M8 2a6 6 0 0 1 0 12z" />
          </svg>
        </button>
        <Caller />
      </header>
      <nav id="nav" class={menu ? "side open" : "side"} aria-label="Pages">
        {["Serve", "Watch", "Know"].map((group) => (
          <div key={group}>
            <p>{group}</p>
            <ul>
              {PAGES.filter((one) => one.group === group).map((one) => (
                <li key={one.page}>
                  <Link href={to(one.page)} aria-current={one.page === place.page ? "page" : undefined}>
                    {one.title}
                    {(trouble[one.page] ?? 0) > 0 && <span class={`count ${one.page}`}>{trouble[one.page]}</span>}
                  </Link>
                </li>
              ))}
            </ul>
          </div>
        ))}
      </nav>
      <main id="main" ref={main} tabIndex={-1}>
        <Banner />
        {View ? <View key={address} place={place} /> : <Lost />}
      </main>
      {help && <Help onClose={() => setHelp(false)} />}
    </div>
  );
}

function Lost() {
  return (
    <>
      <Head title="Not found" />
      <Empty title="There is no such page.">
        <Link href={to("overview")}>Go to the overview</Link>
      </Empty>
    </>
  );
}

function Caller() {
  const session = useSession();
  if (!session?.auth || !session.caller) return null;
  return (
    <button type="button" class="small" title={session.caller.scopes.join(", ")} onClick={() => void signOut()}>
      Sign out<span class="wide-only"> {session.caller.name}</span>
    </button>
  );
}

function Heard() {
  const { link, told } = useLive();
  const state = link === "refused" ? "warn" : link !== "open" ? "bad" : told?.stale ? "warn" : "good";
  const words = link === "connecting" ? "connecting" : link === "lost" ? "reconnecting" : link === "refused" ? "not live" : told?.stale ? "stale" : "live";
  return (
    <span class={`heard ${state}`} data-link={link}>
      <i aria-hidden="true" />
      {words}
    </span>
  );
}

function Banner() {
  const { link, told } = useLive();
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (link !== "lost") return undefined;
    const timer = window.setInterval(() => setNow(Date.now()), 1000);
    return () => window.clearInterval(timer);
  }, [link]);
  let words = "";
  if (link === "lost") words = "The server does not answer: reconnecting.";
  else if (told?.stale) words = "The data plane does not answer: these are the last known numbers.";
  return (
    <div class={words ? "banner" : "banner none"}>
      <span role="status">{words}</span>
      {link === "lost" && told && <span> Last heard {ago(told.at_ms, now)}.</span>}
    </div>
  );
}

function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keys" onClose={onClose}>
      <dl class="keys">
        <div>
          <dt>
            <kbd>/</kbd>
          </dt>
          <dd>Search</dd>
        </div>
        {PAGES.map((one) => (
          <div key={one.page}>
            <dt>
              <kbd>g</kbd> <kbd>{one.key}</kbd>
            </dt>
            <dd>{one.title}</dd>
          </div>
        ))}
        <div>
          <dt>
            <kbd>t</kbd>
          </dt>
          <dd>Dark or light</dd>
        </div>
        <div>
          <dt>
            <kbd>?</kbd>
          </dt>
          <dd>These keys</dd>
        </div>
      </dl>
      <div class="row end">
        <button type="button" class="primary" onClick={onClose}>
          Close
        </button>
      </div>
    </Dialog>
  );
}
