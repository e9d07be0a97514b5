// The server's answers as values, its refusals as errors whose message a person can read.

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  if (answer.ok) return answer;
  let message = `The server answered ${answer.status}.`;
  try {
    message = sentence((await answer.json()).error) || message;
  } catch { /* No JSON: the status says it. */ }
  const wait = answer.headers.get("retry-after");
  if (answer.status === 429 && wait) message += ` (Try again in ${duration(Number(wait))}.)`;
  throw new Error(message);
}

export async function json(path, options) {
  return (await ask(path, options)).json();
}

export function form(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value != null) data.append(name, value);
  return { method: "POST", body: data };
}

// Follow a job until it is over; gives a function that stops following. While the server is away
// the browser tries again by itself, so one that is restarted finds us waiting.
export function follow(id, { onJob, onGone, onAway, onRefused }) {
  const events = new EventSource(`/api/jobs/${id}/events`);
  events.addEventListener("job", (event) => {
    const job = JSON.parse(event.data);
    if (over(job)) events.close();
    onJob(job);
  });
  events.addEventListener("gone", () => { events.close(); onGone(); });
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) onRefused();
    else onAway();
  });
  return () => events.close();
}

export const over = (job) => ["done", "failed", "cancelled"].includes(job.state);

export function duration(seconds, exact = 9.95) {
  if (!(seconds >= 0)) return "";
  if (seconds < exact) return `${seconds.toFixed(1)} s`;
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  if (seconds < 600 && Math.round(seconds) % 60) return `${Math.floor(Math.round(seconds) / 60)} min ${Math.round(seconds) % 60} s`;
  if (seconds < 5940) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function size(bytes) {
  if (bytes == null) return "";
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))}\u00a0kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)}\u00a0MB`;
}

export function sentence(text, first = true) {
  if (!text) return "";
  const upper = first ? text[0].toUpperCase() + text.slice(1) : text;
  return /[.!?)]$/.test(upper) ? upper : `${upper}.`;
}

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
