// An address that leads nowhere, or not for this key.
import { me } from "../api";

export function Missing() {
  return (
    <>
      <h1>There is nothing here</h1>
      <p class="q">The address may be of another gateway, or of something that is over. <a href="/">Overview</a></p>
    </>
  );
}

export function NotForYou({ what }: { what: string }) {
  const who = me.value;
  const roles = what === "audit" ? "auditor or admin" : "operator or admin";
  return (
    <>
      <h1>{what === "audit" ? "The audit log" : "Keys"}</h1>
      <p class="q">Needs the role {roles}; your key <code>{who?.key.name}</code> is {who?.role}. <a href="/">Overview</a></p>
    </>
  );
}
