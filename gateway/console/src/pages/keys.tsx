// Keys: made, listed, revoked. A secret is shown once and kept nowhere.
import { useState } from "preact/hooks";
import { ApiFault, call, enc, me } from "../api";
import type { List, Route } from "../api";
import { failed, tell } from "../act";
import { now } from "../live";
import { refresh, useResource } from "../resource";
import { Note, Scroll, Time, Trouble, Waiting } from "../parts/marks";
import { counted, listed } from "../words/numbers";
import { unix } from "../words/times";

interface Key {
  id: string;
  name: string;
  role: string;
  routes: string[] | null;
  created_at?: string;
  created_by?: string;
  expires_at?: string | null;
  revoked_at?: string | null;
  declared?: boolean;
}

function stateOf(key: Key): "works" | "revoked" | "expired" {
  if (key.revoked_at) return "revoked";
  const end = unix(key.expires_at ?? null);
  return end !== null && end <= now.value ? "expired" : "works";
}

function Make({ routes, onMade }: { routes: string[]; onMade: (key: Key & { secret: string }) => void }) {
  const roles = me.value?.may_grant ?? [];
  const [name, setName] = useState("");
  const [role, setRole] = useState(roles[0] ?? "client");
  const [days, setDays] = useState("");
  const [only, setOnly] = useState<string[]>([]);
  const [trouble, setTrouble] = useState<string | null>(null);
  const send = async (event: Event) => {
    event.preventDefault();
    const body: Record<string, unknown> = { name: name.trim(), role };
    if (days.trim() !== "") {
      const count = Number(days.replace(",", "."));
      if (!(count > 0)) {
        setTrouble("Days are a number above 0, or empty for a key without an end.");
        return;
      }
      body.expires_in_seconds = Math.round(count * 86_400);
    }
    if (only.length > 0) body.routes = only;
    try {
      onMade(await call<Key & { secret: string }>("POST", "/keys", { body }));
      setName("");
      setTrouble(null);
      refresh("/keys");
    } catch (error) {
      setTrouble(error instanceof ApiFault ? `${error.message.charAt(0).toUpperCase()}${error.message.slice(1)}.` : "Something in this page went wrong.");
    }
  };
  return (
    <form class="make" onSubmit={(event) => void send(event)}>
      <label><span class="lab">Name</span><input class="field" required maxLength={64} autocomplete="off" value={name} onInput={(event) => setName(event.currentTarget.value)} /></label>
      <label><span class="lab">Role</span><select class="field" value={role} onChange={(event) => setRole(event.currentTarget.value)}>{roles.map((each) => <option key={each} value={each}>{each}</option>)}</select></label>
      <label><span class="lab">Ends after, days</span><input class="field" inputMode="decimal" autocomplete="off" placeholder="never" value={days} onInput={(event) => setDays(event.currentTarget.value)} /></label>
      <fieldset>
        <legend class="lab">Routes</legend>
        <span class="row">
          {only.length === 0 && <span class="s q">every route</span>}
          {routes.slice(0, 24).map((route) => <button key={route} class="pill" type="button" aria-pressed={only.includes(route)} onClick={() => setOnly(only.includes(route) ? only.filter((each) => each !== route) : [...only, route])}>{route}</button>)}
        </span>
      </fieldset>
      <button class="btn go" type="submit">Make the key</button>
      {trouble && <p class="trouble s" role="alert">{trouble}</p>}
    </form>
  );
}

export function Keys() {
  const held = useResource<List<Key>>("/keys").value;
  const routes = useResource<List<Route>>("/routes").value.data?.items.map((route) => route.name) ?? [];
  const [made, setMade] = useState<(Key & { secret: string }) | null>(null);
  const [asked, setAsked] = useState<string | null>(null);
  if (!held.data) return <><h1>Keys</h1>{held.error ? <Trouble what="The keys" message={held.error.message} /> : <Waiting what="keys" />}</>;
  const { items } = held.data;
  const works = items.filter((key) => stateOf(key) === "works").length;
  const may = me.value?.may_grant ?? [];
  const revoke = async (key: Key) => {
    try {
      await call("DELETE", `/keys/${enc(key.id)}`);
      tell({ head: `${key.name} is revoked.`, text: "Its next call is refused, and its sessions are over.", undo: null, kind: "done" });
      refresh("/keys");
    } catch (error) {
      failed(`${key.name} was not revoked.`, error);
    } finally {
      setAsked(null);
    }
  };
  return (
    <>
      <div class="spread base"><h1>{counted(works, "key")}</h1><span class="s qq">{items.length - works > 0 ? `and ${items.length - works} revoked or expired` : ""}</span></div>
      {made && (
        <div class="needs" role="status">
          <Note kind="wait" action={<button class="btn" type="button" onClick={() => setMade(null)}>I have it</button>}>
            <p><b>The secret of {made.name}, shown this once:</b></p>
            <p><code class="secret">{made.secret}</code></p>
          </Note>
        </div>
      )}
      {may.length > 0 && <section class="sub make-key" aria-labelledby="h-make"><header><h2 id="h-make">New key</h2></header><Make routes={routes} onMade={setMade} /></section>}
      <Scroll label="Keys">
        <table class="rows">
          <thead><tr><th scope="col">name</th><th scope="col">role</th><th scope="col">routes</th><th scope="col">made</th><th scope="col">ends</th><th scope="col">id</th><th scope="col"><span class="sr">revoke</span></th></tr></thead>
          <tbody>
            {items.map((key) => {
              const state = stateOf(key);
              const canRevoke = state === "works" && !key.declared && may.includes(key.role) && key.id !== me.value?.key.id;
              return (
                <tr key={`${key.id}${key.declared ? " file" : ""}`} class={state === "works" ? "" : "old"}>
                  <td><b>{key.name}</b></td>
                  <td>{key.role}</td>
                  <td class="q">{key.routes === null || key.routes === undefined ? "every route" : key.routes.length === 0 ? "none" : listed(key.routes)}</td>
                  <td class="q nb">{key.declared ? "in the file" : <>{key.created_by}, <Time exact at={key.created_at} /></>}</td>
                  <td class="nb">{state === "revoked" ? <>revoked <Time exact at={key.revoked_at} /></> : key.expires_at ? <Time exact at={key.expires_at} /> : <span class="qq">never</span>}</td>
                  <td class="mono q">{key.id}</td>
                  <td class="num">
                    {canRevoke && asked !== key.id && <button class="btn bare" type="button" onClick={() => setAsked(key.id)}>Revoke<span class="sr"> {key.name}</span>…</button>}
                    {asked === key.id && <span class="row end"><button class="btn bad" type="button" onClick={() => void revoke(key)}>Revoke {key.name} for good</button><button class="btn bare" type="button" onClick={() => setAsked(null)}>Keep it</button></span>}
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </Scroll>
    </>
  );
}
