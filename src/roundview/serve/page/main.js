// The page: one form to ask for an asset, one view of a job, and the list of earlier ones.

import { ask, duration, element, follow, form, json, over, sentence, size } from "./api.js";
import { MatteEditor } from "./matte.js";

const $ = (id) => document.getElementById(id);
const NAMES = {
  im3d: "IM-3D", hi3d: "Hi3D", "cascade-zero123": "Cascade-Zero123", hifi123: "HiFi-123",
  isotropic3d: "Isotropic3D", draft: "Draft", standard: "Standard", high: "High",
};
const STATES = { queued: "waiting", running: "running", done: "done", failed: "failed", cancelled: "cancelled" };
const GROUPS = [
  ["Mesh", { "asset.glb": "GLB", "asset.obj.zip": "OBJ", "asset.ply": "PLY", "asset.stl": "STL", "asset.3mf": "3MF", "asset.usdz": "USDZ" }],
  ["Splats", { "splats.ply": "PLY", "splats.splat": "SPLAT", "splats.spz": "SPZ" }],
  ["Pictures", { "turntable.mp4": "Turntable", "turntable.webp": "Turntable", "preview.png": "Preview", "views.zip": "Views" }],
  ["Record", { "record.json": "How it was made" }],
];

let options = { upload_bytes: 50e6 };
let photo = null; // The chosen file.
let matting = null; // Aborts the matte that is being made.
let leave = () => {}; // Stops following the open job.
let viewers = null;
let ticking = 0;

const editor = new MatteEditor($("matte"), { onChange: showTools });

// ---- Saying things

function complain(text) {
  $("alert").textContent = sentence(text);
  $("alert").hidden = !text;
  if (text) $("alert").scrollIntoView({ block: "nearest" });
}

const announce = (text) => { $("news").textContent = text; };
const named = (word) => NAMES[word] ?? word;

async function guarded(work) {
  complain("");
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") complain(error.message);
    return null;
  }
}

// ---- Choosing a photo

async function choose(file) {
  if (!file) return;
  complain("");
  if (file.size > options.upload_bytes) {
    return complain(`This file has ${size(file.size)}; at most ${size(options.upload_bytes)} are taken.`);
  }
  if (location.hash) location.hash = "";
  photo = file;
  $("drop").hidden = true;
  $("editor").hidden = false;
  await editor.open(file);
  if ($("whole").checked) return;
  await cutOut();
}

async function cutOut() {
  matting?.abort();
  const mine = (matting = new AbortController());
  $("matting").hidden = false;
  announce("Finding the object.");
  showTools();
  try {
    const answer = await ask("/api/matte", { ...form({ photo }), signal: mine.signal });
    await editor.setMatte(await answer.blob());
    announce("The object is cut out. Paint to correct it, or make the asset.");
  } catch (error) {
    if (error.name === "AbortError") return;
    complain(error.message);
    if (editor.photo && /no object|object is only/i.test(error.message)) {
      editor.setEmpty(); // A person may see what the network does not.
    } else {
      forgetPhoto();
    }
  } finally {
    if (matting === mine) {
      matting = null;
      $("matting").hidden = true;
      showTools();
    }
  }
}

function forgetPhoto() {
  matting?.abort();
  photo = null;
  $("file").value = "";
  $("drop").hidden = false;
  $("editor").hidden = true;
  showTools();
}

function showTools() {
  $("undo").disabled = !editor.past.length;
  $("restore").disabled = !editor.edited;
  $("size").value = editor.brush.size;
  document.querySelector(`[name=brush][value=${editor.brush.keep ? "keep" : "remove"}]`).checked = true;
  const ready = photo && (editor.ready || $("whole").checked);
  $("make").disabled = !ready;
  $("why").hidden = Boolean(ready);
  $("why").textContent = photo ? "In a moment: the object is being found." : "Choose a photo first.";
}

// ---- Asking for an asset

function settings() {
  const elevation = $("elevation").value.trim();
  return {
    recipe: $("recipe").value,
    quality: document.querySelector("[name=quality]:checked").value,
    seed: Number($("seed").value),
    faces: Number($("faces").value),
    texture_size: Number($("texture").value),
    watertight: $("watertight").checked,
    no_matte: $("whole").checked,
    photo_elevation_deg: elevation === "" ? null : Number(elevation),
  };
}

async function send(event) {
  event.preventDefault();
  if ($("make").disabled) return;
  $("make").disabled = true;
  await guarded(async () => {
    const wanted = settings();
    const mask = wanted.no_matte ? null : await editor.painted();
    const job = await json("/api/jobs", form({ photo, mask, settings: JSON.stringify(wanted) }));
    remember();
    location.hash = `job=${job.id}`;
  });
  showTools();
}

function remember() {
  const { recipe, quality } = settings();
  try {
    localStorage.setItem("roundview", JSON.stringify({ recipe, quality }));
  } catch { /* Private windows may have no storage. */ }
}

function randomSeed() {
  $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
}

// ---- Following a job

function openJob(id) {
  leave();
  viewers?.close();
  $("compose").hidden = true;
  $("job").hidden = $("new").hidden = false;
  $("running").hidden = $("result").hidden = true;
  $("job-title").textContent = "Job";
  $("facts").textContent = "";
  let shown = null;
  guarded(async () => {
    await json(`/api/jobs/${id}`); // One that is gone is told plainly.
    leave = follow(id, (job) => {
      const first = shown === null;
      if (job.state !== shown?.state || job.stage !== shown?.stage) tell(job, first);
      showJob(job, shown);
      shown = job;
      if (over(job)) listJobs();
    }, () => { complain("This job was removed."); listJobs(); });
  }).then(() => $("job-title").focus({ preventScroll: true }));
}

function tell(job, first) {
  if (job.state === "running") announce(job.stage ? `Now: ${job.stage}.` : "It has begun.");
  else if (!first || job.state === "queued") announce(`The job is ${STATES[job.state]}.`);
}

function showJob(job, before) {
  const s = job.settings;
  const title = { queued: "Waiting", running: "Making it", done: "Done", failed: "It did not work", cancelled: "Cancelled" };
  $("job-title").textContent = title[job.state];
  document.title = `${title[job.state]} – roundview`;
  const facts = [named(s.recipe), named(s.quality), `seed ${s.seed}`];
  if (job.state === "done") facts.push(`took ${duration(job.ended - job.started)}`);
  $("facts").textContent = facts.join(" · ");
  $("cancel").hidden = over(job);
  $("cancel").disabled = false;
  $("running").hidden = job.state === "done";
  $("result").hidden = job.state !== "done";
  for (const picture of [$("photo"), $("photo-done")]) {
    if (picture.getAttribute("src") !== job.photo) picture.src = job.photo;
  }
  clearInterval(ticking);
  if (job.state === "failed") complain(`It did not work: ${job.reason.replace(/^photo: /, "")}`);
  if (job.state === "done") return before?.state === "done" ? null : showResult(job);
  $("preview").hidden = !job.preview;
  $("nothing").hidden = Boolean(job.preview);
  if (job.preview && $("preview").getAttribute("src") !== job.preview) $("preview").src = job.preview;
  if (over(job)) $("nothing").textContent = "There is no picture of it.";
  else $("nothing").textContent = "The first picture appears after a moment.";
  showStages(job);
  const tick = () => { $("clock").textContent = clock(job); };
  tick();
  if (!over(job)) ticking = setInterval(tick, 1000);
}

function clock(job) {
  if (job.state === "queued") return job.ahead ? `${job.ahead} before it` : "It is next.";
  if (!job.started) return "It never began.";
  if (job.ended) return `It ran for ${duration(job.ended - job.started)}.`;
  return `${duration(Date.now() / 1000 - job.started)} so far`;
}

function showStages(job) {
  const rows = job.stages.map((stage) => element("li", {},
    element("span", { className: "mark", ariaHidden: "true", textContent: "✓" }),
    element("span", { textContent: stage.name }),
    element("span", { className: "seconds", textContent: stage.resumed ? "kept" : duration(stage.seconds) })));
  const last = job.stages.at(-1)?.name;
  if (job.state === "running" && (job.fraction < 1 || job.stage !== last)) {
    const bar = element("progress", { max: 1, value: job.fraction, ariaLabel: job.stage ?? "starting" });
    rows.push(element("li", {},
      element("span", { className: "spin", ariaHidden: "true" }),
      element("span", { textContent: job.stage ?? "starting" }),
      element("span", { className: "seconds", textContent: job.stage ? `${Math.round(job.fraction * 100)} %` : "" }), bar));
  }
  $("stages").replaceChildren(...rows);
}

async function showResult(job) {
  showFiles(job);
  const { Viewers } = await import("./viewers.js"); // Half a megabyte, only when it is wanted.
  viewers ??= new Viewers($("mesh"), $("splats"));
  await viewers.open(job);
  viewers.shade($("shading").value);
}

function showFiles(job) {
  const rows = [];
  for (const [title, labels] of GROUPS) {
    const found = job.files.filter((file) => labels[file.name]);
    if (!found.length) continue;
    rows.push(element("dt", { textContent: title }),
      element("dd", {}, ...found.map((file) => link(file, labels[file.name], title))));
  }
  $("files").replaceChildren(...rows);
}

function link(file, label, title) {
  const made = element("a", { href: file.url, textContent: label, ariaLabel: `${title}: ${label} ${size(file.bytes)}` });
  if (file.bytes) made.append(" ", element("small", { textContent: size(file.bytes) }));
  made.download = `roundview-${file.name}`;
  made.addEventListener("click", async (event) => {
    event.preventDefault();
    if (made.ariaBusy === "true") return;
    made.ariaBusy = "true";
    announce(`Preparing ${label}.`);
    await guarded(async () => {
      const blob = await (await ask(file.url)).blob();
      const address = URL.createObjectURL(blob);
      element("a", { href: address, download: made.download }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
      announce(`${label} is downloaded.`);
    });
    made.ariaBusy = "false";
  });
  return made;
}

// ---- Earlier jobs

let oldest = null;

async function listJobs(more = false) {
  const page = await guardedQuietly(() => json(`/api/jobs?limit=18${more ? `&before=${oldest}` : ""}`));
  if (!page) return;
  const cards = page.jobs.map(card);
  if (more) $("jobs").append(...cards);
  else $("jobs").replaceChildren(...cards);
  oldest = page.next_before;
  $("more").hidden = oldest == null;
  $("history").hidden = !$("jobs").childElementCount;
}

async function guardedQuietly(work) {
  try {
    return await work();
  } catch {
    return null; // The list is not what the person asked for.
  }
}

function card(job) {
  const what = `${named(job.settings.recipe)}, ${named(job.settings.quality)}`;
  const when = new Date(job.made * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const open = element("a", { href: `#job=${job.id}` },
    element("img", { src: job.photo, alt: "", loading: "lazy" }),
    element("span", {}, what, element("br"), element("small", { className: "faint", textContent: when }), element("br"),
      element("small", { className: `state-${job.state}`, textContent: STATES[job.state] })));
  if (location.hash === `#job=${job.id}`) open.setAttribute("aria-current", "true");
  const row = element("li", {}, open);
  if (over(job)) {
    const remove = element("button", { type: "button", className: "remove", textContent: "✕", ariaLabel: `Remove ${what}, ${when}`, title: "Remove" });
    remove.addEventListener("click", () => removeJob(job, what));
    row.append(remove);
  }
  return row;
}

async function removeJob(job, what) {
  if (!confirm(`Remove this job (${what}) and all its files?`)) return;
  await guarded(() => ask(`/api/jobs/${job.id}`, { method: "DELETE" }));
  if (location.hash === `#job=${job.id}`) location.hash = "";
  await listJobs();
}

// ---- Moving about

function route() {
  const id = location.hash.match(/^#job=([0-9a-f]{16})$/)?.[1];
  complain("");
  clearInterval(ticking);
  if (id) {
    openJob(id);
  } else {
    leave();
    viewers?.close();
    document.title = "roundview";
    $("job").hidden = $("new").hidden = true;
    $("compose").hidden = false;
    showTools();
  }
  listJobs();
}

function wire() {
  $("file").addEventListener("change", () => choose($("file").files[0]));
  $("other").addEventListener("click", () => { forgetPhoto(); $("file").click(); });
  $("undo").addEventListener("click", () => editor.undo());
  $("restore").addEventListener("click", () => editor.restore());
  $("size").addEventListener("input", () => { editor.brush.size = Number($("size").value); });
  for (const choice of document.querySelectorAll("[name=brush]")) {
    choice.addEventListener("change", () => { editor.brush.keep = choice.value === "keep"; });
  }
  $("whole").addEventListener("change", () => {
    if (!$("whole").checked && photo && !editor.ready) cutOut();
    showTools();
  });
  $("randomise").addEventListener("click", randomSeed);
  $("compose").addEventListener("submit", send);
  $("cancel").addEventListener("click", () => guarded(async () => {
    $("cancel").disabled = true;
    const id = location.hash.slice(5);
    const { state } = await json(`/api/jobs/${id}`);
    if (!over({ state })) await ask(`/api/jobs/${id}`, { method: "DELETE" });
  }));
  $("new").addEventListener("click", () => { forgetPhoto(); location.hash = ""; });
  $("more").addEventListener("click", () => listJobs(true));
  $("shading").addEventListener("change", () => viewers?.shade($("shading").value));
  $("front").addEventListener("click", () => viewers?.front());
  addEventListener("hashchange", route);
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (file) choose(file);
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    addEventListener(kind, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dragging", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
    });
  }
}

async function start() {
  wire();
  const told = await guarded(() => json("/api/options"));
  if (told) {
    options = told;
    let last = {};
    try {
      last = JSON.parse(localStorage.getItem("roundview")) ?? {};
    } catch { /* Nothing kept, or nothing that we wrote. */ }
    $("recipe").append(...told.recipes.map((name) => new Option(named(name), name, false, name === last.recipe)));
    const chosen = told.qualities.includes(last.quality) ? last.quality : "standard";
    $("qualities").append(...told.qualities.map((name) => element("label", {},
      element("input", { type: "radio", name: "quality", value: name, checked: name === chosen }), named(name))));
  }
  route();
}

start();
