// An address that leads nowhere.
export function Missing() {
  return (
    <>
      <h1>There is nothing here</h1>
      <p class="q">The address may be of another gateway, or of something that is over. <a href="/">Overview</a></p>
    </>
  );
}
