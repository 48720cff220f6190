// The way in: a key, exchanged once for a cookie that no script can read, and not kept in the page.
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { ApiFault, call, me, whoAmI } from "../api";
import type { Me } from "../api";
import { SchemeSwitch } from "../parts/frame";

const trouble = signal<string | null>(null);
const busy = signal(false);

/** Signs in with `key`; says what is wrong in the form. */
export async function signIn(key: string): Promise<void> {
  busy.value = true;
  trouble.value = null;
  try {
    me.value = await exchange(key);
  } catch (error) {
    trouble.value = error instanceof ApiFault ? sentence(error.message) : "The console could not sign in.";
    me.value = null;
  } finally {
    busy.value = false;
  }
}

async function exchange(key: string): Promise<Me> {
  const told = await call<Me>("POST", "/session", { body: { key } });
  const kept = await whoAmI();
  if (kept) return kept;
  if (location.protocol !== "http:") throw new ApiFault(0, "no_cookie", "this browser keeps no cookie of the console");
  // This browser keeps no Secure cookie on plain loopback.
  await call<Me>("POST", "/session", { body: { key, plain_cookie: true } });
  return (await whoAmI()) ?? told;
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** The key of a link such as `/#token=…`: read once, and gone from the address. */
export function tokenOfLink(): string | null {
  const found = /^#token=(.+)$/.exec(location.hash)?.[1];
  if (found === undefined) return null;
  history.replaceState(null, "", location.pathname + location.search);
  return decodeURIComponent(found);
}

export function SignIn() {
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    document.title = "Sign in · Weir";
    field.current?.focus();
  }, []);
  useEffect(() => {
    if (trouble.value !== null) field.current?.focus();
  }, [trouble.value]);
  const send = (event: Event) => {
    event.preventDefault();
    const key = field.current?.value.trim() ?? "";
    if (key === "" || busy.value) return;
    if (field.current) field.current.value = "";
    void signIn(key);
  };
  return (
    <main class="signin">
      <form onSubmit={send}>
        <h1 class="brand">
          <svg viewBox="0 0 20 20" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" aria-hidden="true">
            <path d="M1.5 6h17M4 6.2V17M8 6.2V17M14.5 6.2c0 4 1.6 6.4 4 7.6M5 2.6h0M10 2.6h5" />
          </svg>
          weir
        </h1>
        <p class="q">Gateway at {location.host}</p>
        <label class="lab" for="key">Admin key</label>
        <input
          id="key" ref={field} class="field" type="password" autocomplete="off" spellcheck={false}
          aria-invalid={trouble.value !== null} aria-describedby="key-trouble"
        />
        <p class="trouble s" id="key-trouble" role="alert">{trouble.value}</p>
        <button class="btn go" type="submit" aria-disabled={busy.value}>{busy.value ? "Signing in…" : "Sign in"}</button>
        <p class="s qq">No key yet? Where one is at hand: <code>weir key create ml-team --role experimenter</code></p>
      </form>
      <SchemeSwitch />
    </main>
  );
}
