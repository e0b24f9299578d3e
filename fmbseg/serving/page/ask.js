// What this page asks its own server.

export const GONE = "The server does not answer; is it still running?";

export function post(file, query, signal) {
  const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  return fetch(`segment?${new URLSearchParams(query)}`, { method: "POST", body: file, headers: { "Content-Type": type }, signal });
}

// Why a request was refused.
export async function told(answer) {
  const { problem, found, wanted } = await answer.json();
  return `${problem}: found ${found}; wanted ${wanted}`;
}

// The classes of requests that name none, as they are typed.
export async function ownClasses() {
  const { classes } = await (await fetch("classes")).json();
  return classes.map((one) => [one.name, ...one.synonyms].join("="));
}

// Drawn pictures: {address, words} each.
export async function examples() {
  return (await (await fetch("examples")).json()).examples;
}
