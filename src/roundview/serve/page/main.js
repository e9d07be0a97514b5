// The page: one form to ask for an asset, one view of a job, and the list of earlier ones.

import { ask, duration, element, follow, form, json, over, sentence, size } from "./api.js";
import { MatteEditor } from "./matte.js";

const $ = (id) => document.getElementById(id);
const NAMES = {
  im3d: "IM-3D", hi3d: "Hi3D", "cascade-zero123": "Cascade-Zero123", hifi123: "HiFi-123",
  isotropic3d: "Isotropic3D", draft: "Draft", standard: "Standard", high: "High",
};
const ABOUT = {
  im3d: "Draws pictures all round, fits splats to them, redraws and fits again. A good first choice.",
  hi3d: "Draws one turn as a clip, sharpens it, fits a smooth surface. Keeps handles and rims best; slower.",
  "cascade-zero123": "Draws nearby views first, then every view from those. The quickest.",
  hifi123: "Grows a shape step by step, then its colours from the photo. The best outline of the front; the slowest.",
  isotropic3d: "Grows a shape from one impression of the photo. It resembles the photo and does not copy it.",
};
const STAGES = {
  matte: "Cut out the object", elevation: "Judge the camera's height", depth: "Judge its depth",
  prompts: "Draw nearby views", draw: "Draw the other sides", redraw: "Redraw the sides", enhance: "Sharpen the views",
  fit: "Fit splats", coarse: "Grow a rough shape", distil: "Grow the shape", tetrahedra: "Make it solid",
  "fixed views": "Draw fixed views", refine: "Refine the colours", render: "Look from all sides", field: "Fit a surface",
  mesh: "Build the mesh", unwrap: "Flatten its surface", texture: "Paint the texture", save: "Write the files",
};
const STATES = { queued: "waiting", running: "running", done: "done", failed: "failed", cancelled: "cancelled" };
const MAIN = "asset.glb";
const GROUPS = [
  ["Mesh", {
    "asset.obj.zip": ["OBJ", "older 3D programs"],
    "asset.usdz": ["USDZ", "Apple devices"], "asset.3mf": ["3MF", "printing in colour"],
    "asset.stl": ["STL", "printing, shape only"], "asset.ply": ["PLY", "measuring, research"],
  }],
  ["Splats", {
    "splats.ply": ["PLY", "every splat program"], "splats.splat": ["SPLAT", "web viewers"], "splats.spz": ["SPZ", "the smallest"],
  }],
  ["Pictures", {
    "turntable.mp4": ["Turntable", "a film, once round"], "turntable.webp": ["Turntable", "a film, once round"],
    "preview.png": ["Overview", "one sheet of everything"], "views.zip": ["Views", "what was drawn, with cameras"],
  }],
  ["Record", { "record.json": ["How it was made", "settings, times, licences"] }],
];
const AWAY = "The server does not answer. This page goes on by itself when it is back.";

let options = { upload_bytes: 50e6, took: [] };
let photo = null; // The chosen file.
let kept = null; // The job whose photo is to be used again.
let open = null; // The job that is shown, as it was last told.
let matting = null; // Aborts the matte that is being made.
let leave = () => {}; // Stops following the open job.
let viewers = null;
let ticking = 0;

const editor = new MatteEditor($("matte"), { onChange: showTools });

// ---- Saying things

function complain(text) {
  // The server calls the photo "photo", as a command line would.
  $("alert").textContent = sentence(text.replace(/^photo: (?=is )/i, "the photo ").replace(/^photo: /i, ""));
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
  if (location.hash) history.pushState(null, "", "#");
  photo = file;
  compose();
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
    if (editor.photo && /no object|object is only/i.test(error.message)) {
      complain(`${sentence(error.message)} Paint the object with the brush, or choose another photo.`);
      editor.setEmpty(); // A person may see what the network does not.
    } else {
      complain(error.message);
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
  if (!$("compose").hidden) compose();
}

// Show the form: for a photo that is to be chosen, one that is, or that of an earlier job.
function compose(job = null) {
  leave();
  clearInterval(ticking);
  viewers?.close();
  kept = job;
  open = null;
  document.title = "roundview";
  $("job").hidden = true;
  $("compose").hidden = false;
  $("new").hidden = !job;
  $("kept").hidden = !job;
  $("drop").hidden = $("steps").hidden = Boolean(job || photo);
  $("editor").hidden = Boolean(job) || !photo;
  $("compose-title").textContent = photo && !job ? "Photo and cut-out" : "Photo";
  if (job) $("kept-photo").src = job.photo;
  showTools();
  showTook();
}

function showTools() {
  $("undo").disabled = !editor.past.length;
  $("restore").disabled = !editor.edited;
  $("size").value = editor.brush.size;
  document.querySelector(`[name=brush][value=${editor.brush.keep ? "keep" : "remove"}]`).checked = true;
  const cut = editor.ready && (!editor.blank || editor.edited);
  const ready = kept || (photo && (cut || $("whole").checked));
  $("make").disabled = !ready;
  $("why").hidden = Boolean(ready);
  if (!photo) $("why").textContent = "Choose a photo first.";
  else $("why").textContent = editor.ready ? "Paint the object first." : "In a moment: the object is being found.";
  $("unshown").hidden = !photo || Boolean(editor.photo);
  $("make").textContent = kept ? "Make it again" : "Make 3D";
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
  $("make").textContent = "Sending…";
  await guarded(async () => {
    const wanted = settings();
    remember(wanted);
    if (kept) return again(kept, wanted);
    const mask = wanted.no_matte ? null : await editor.painted();
    const job = await json("/api/jobs", form({ photo, mask, settings: JSON.stringify(wanted) }));
    location.hash = `job=${job.id}`;
  });
  showTools();
}

// Have the photo of a job made again.
async function again(job, wanted) {
  const made = await json(`/api/jobs/${job.id}/again`, form({ settings: JSON.stringify(wanted) }));
  location.hash = `job=${made.id}`;
}

// Put the settings of a job into the form.
function fill(s) {
  $("recipe").value = s.recipe;
  document.querySelector(`[name=quality][value=${s.quality}]`).checked = true;
  $("seed").value = s.seed;
  $("faces").value = s.faces;
  if (![...$("texture").options].some((one) => Number(one.value) === s.texture_size)) {
    $("texture").append(new Option(s.texture_size));
  }
  $("texture").value = s.texture_size;
  $("watertight").checked = s.watertight;
  $("whole").checked = s.no_matte;
  $("elevation").value = s.photo_elevation_deg ?? "";
}

// Say what a method is, and what it took when it was last used here: nobody else's figure would do.
function showTook() {
  const recipe = $("recipe").value;
  const quality = document.querySelector("[name=quality]:checked")?.value;
  const last = options.took.find((one) => one.recipe === recipe && one.quality === quality);
  $("about").textContent = ABOUT[recipe] ?? "";
  $("took").textContent = last
    ? `Took ${duration(last.seconds)} here the last time.`
    : "Draft shows whether it will do; high takes several times as long as standard.";
}

function remember({ recipe, quality }) {
  try {
    localStorage.setItem("roundview", JSON.stringify({ recipe, quality }));
  } catch { /* Private windows may have no storage. */ }
}

// Six digits are enough, and can be read out.
const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;

// ---- Following a job

function openJob(id) {
  leave();
  viewers?.close();
  $("compose").hidden = true;
  $("job").hidden = $("new").hidden = false;
  $("running").hidden = $("result").hidden = true;
  $("reseed").hidden = $("change").hidden = $("cancel").hidden = true;
  $("job-title").textContent = "Job";
  $("facts").textContent = "";
  open = null;
  $("preview").removeAttribute("src");
  delete $("preview").dataset.from;
  let away = false;
  guarded(async () => {
    await json(`/api/jobs/${id}`); // One that is gone is told plainly.
    if (location.hash !== `#job=${id}`) return;
    leave = follow(id, {
      onJob(job) {
        const before = open;
        open = job;
        if (away) complain("");
        away = false;
        if (job.state !== before?.state || job.stage !== before?.stage) tell(job, !before);
        showJob(job, before);
        if (over(job) || job.state !== before?.state) listJobs();
      },
      onGone() { complain("This job was removed."); listJobs(); },
      onAway() {
        if (!away) complain(AWAY);
        away = true;
        clearInterval(ticking);
      },
      onRefused: () => guarded(() => json(`/api/jobs/${id}`)),
    });
  }).then(() => $("job-title").focus({ preventScroll: true }));
}

function tell(job, first) {
  if (job.state === "running") announce(job.stage ? `Now: ${stageName(job.stage)}.` : "It has begun.");
  else if (!first || job.state === "queued") announce(`The job is ${STATES[job.state]}.`);
}

function showJob(job, before) {
  const s = job.settings;
  const titles = { queued: "Waiting", running: "Making it", done: "Done", failed: "It did not work", cancelled: "Cancelled" };
  const title = job.state === "running" && !job.stage ? "Starting" : titles[job.state];
  $("job-title").textContent = title;
  const facts = [named(s.recipe), named(s.quality), `seed ${s.seed}`];
  if (job.state === "done") facts.push(`took ${duration(job.ended - job.started)}`);
  $("facts").textContent = facts.join(" · ");
  $("cancel").hidden = over(job);
  $("cancel").disabled = false;
  $("reseed").hidden = $("change").hidden = !over(job);
  $("reseed").textContent = job.state === "done" ? "Another seed" : "Try again";
  $("running").hidden = job.state === "done";
  $("result").hidden = job.state !== "done";
  for (const picture of [$("photo"), $("photo-done")]) {
    if (picture.getAttribute("src") !== job.photo) picture.src = job.photo;
  }
  clearInterval(ticking);
  const ahead = outlook(job);
  document.title = `${ahead ? `${percent(ahead.share)} ` : ""}${title} – roundview`;
  if (job.state === "failed") complain(`It did not work: ${sentence(job.reason.replace(/^photo: /, ""), false)}${advice(job.reason)}`);
  if (job.state === "done") return before?.state === "done" ? null : showResult(job);
  $("preview").hidden = !job.preview;
  $("nothing").hidden = Boolean(job.preview);
  if (job.preview) showPreview(job.preview);
  if (over(job)) $("nothing").textContent = "There is no picture of it.";
  else $("nothing").textContent = "The first picture appears when the object is cut out.";
  showStages(job, ahead);
  $("overall").hidden = !ahead || over(job);
  if (ahead) $("all").value = ahead.share;
  const tick = () => { $("clock").textContent = clock(job, ahead); };
  tick();
  if (!over(job)) ticking = setInterval(tick, 1000);
}

// Show how far a job has come; views that stand in one row are laid out in a square.
async function showPreview(url) {
  const shown = $("preview");
  if (shown.dataset.from === url) return;
  shown.dataset.from = url;
  const picture = Object.assign(new Image(), { src: url });
  try {
    await picture.decode();
  } catch {
    return; // It was replaced meanwhile: the next one is on its way.
  }
  if (shown.dataset.from !== url) return;
  const side = picture.naturalHeight, views = Math.round(picture.naturalWidth / side);
  if (views < 3) {
    shown.src = url;
    return;
  }
  const across = Math.ceil(Math.sqrt(views));
  const sheet = element("canvas", { width: across * side, height: Math.ceil(views / across) * side });
  const context = sheet.getContext("2d");
  for (let at = 0; at < views; at++) {
    context.drawImage(picture, at * side, 0, side, side, (at % across) * side, Math.floor(at / across) * side, side, side);
  }
  shown.src = sheet.toDataURL();
}

function advice(reason) {
  if (/no object|object is (only|smaller)/i.test(reason)) return " Choose the photo again and paint the object with the brush.";
  if (/memory/i.test(reason)) return " Try a lower quality, or close other programs.";
  if (/longer than/i.test(reason)) return " Try a lower quality.";
  return "";
}

const percent = (share) => `${Math.round(share * 100)} %`;

function stageName(name) {
  const [, word, round] = name.match(/^(.*?)(?: (\d+))?$/);
  return `${STAGES[word] ?? word}${round ? `, round ${Number(round) + 1}` : ""}`;
}

// How far a job is and what remains, judged by the last one of its kind and this one's own pace.
function outlook(job) {
  const before = new Map(job.expected.map((stage) => [stage.name, stage.seconds ?? 0]));
  const whole = [...before.values()].reduce((sum, seconds) => sum + seconds, 0);
  if (!whole) return null;
  let done = 0, took = 0;
  for (const stage of job.stages) {
    done += before.get(stage.name) ?? 0;
    if (before.has(stage.name)) took += stage.seconds ?? 0;
  }
  const ended = new Set(job.stages.map((stage) => stage.name));
  if (job.stage && !ended.has(job.stage)) done += (before.get(job.stage) ?? 0) * job.fraction;
  const pace = done > 3 && took > 3 ? Math.min(4, Math.max(0.25, took / done)) : 1;
  const coming = [...before.keys()].filter((name) => !ended.has(name) && name !== job.stage);
  return { share: Math.min(1, done / whole), left: Math.max(0, whole - done) * pace, coming };
}

function clock(job, ahead) {
  if (job.state === "queued") return job.ahead ? `${job.ahead} before it` : "It is next.";
  if (!job.started) return "It never began.";
  if (job.ended) return `It ran for ${duration(job.ended - job.started)}.`;
  const soFar = `${duration(Math.max(0, Date.now() / 1000 - job.started), 1)} so far`;
  if (!job.stage) return `Loading the models, ${soFar}.`;
  if (!ahead) return `${soFar}.`;
  return ahead.left > 5 ? `About ${duration(roughly(ahead.left))} left, ${soFar}.` : `Nearly done, ${soFar}.`;
}

// What cannot be known to the second is not told to the second.
function roughly(seconds) {
  const step = seconds < 60 ? 5 : seconds < 300 ? 30 : 60;
  return Math.ceil(seconds / step) * step;
}

function showStages(job, ahead) {
  const row = (kind, mark, name, note, ...more) => element("li", { className: kind },
    element("span", { className: mark ? "mark" : "spin", ariaHidden: "true", textContent: mark }),
    element("span", { textContent: stageName(name) }),
    element("span", { className: "seconds", textContent: note }), ...more);
  const rows = job.stages.map((stage) => row("ended", "✓", stage.name, stage.resumed ? "kept" : duration(stage.seconds)));
  const last = job.stages.at(-1)?.name;
  if (job.state === "running" && job.stage && (job.fraction < 1 || job.stage !== last)) {
    const bar = element("progress", { max: 1, ariaLabel: stageName(job.stage) });
    if (job.fraction > 0) bar.value = job.fraction; // Some stages do not say how far they are.
    rows.push(row("now", "", job.stage, job.fraction > 0 ? percent(job.fraction) : "", bar));
  }
  if (!over(job)) for (const name of ahead?.coming ?? []) rows.push(row("coming", "·", name, ""));
  $("stages").replaceChildren(...rows);
}

async function showResult(job) {
  showFiles(job);
  showTurning(false);
  $("mesh-what").textContent = $("splats-what").textContent = "";
  const { Viewers } = await import("./viewers.js"); // Half a megabyte, only when it is wanted.
  viewers ??= new Viewers($("mesh"), $("splats"));
  await viewers.open(job, {
    onOpened(what, count) {
      const unit = what === "mesh" ? " triangles" : "";
      $(`${what}-what`).textContent = `${count.toLocaleString("en")}${unit}`;
    },
    onTouched: () => showTurning(false),
  });
  viewers.shade($("shading").value);
}

function showTurning(on) {
  $("turn").setAttribute("aria-pressed", String(on));
  viewers?.turn(on);
}

function showFiles(job) {
  const main = job.files.find((file) => file.name === MAIN);
  const rows = [];
  if (main) {
    rows.push(element("p", { className: "best" }, link(main, "Download GLB", size(main.bytes), "main"),
      element("span", { className: "faint", textContent: "The textured mesh in one file, for viewers, engines and the web." })));
  }
  for (const [title, labels] of GROUPS) {
    const found = job.files.filter((file) => labels[file.name]);
    if (!found.length) continue;
    const order = Object.keys(labels);
    found.sort((one, other) => order.indexOf(one.name) - order.indexOf(other.name));
    rows.push(element("h4", { textContent: title }), element("ul", { className: "files" },
      ...found.map((file) => element("li", {}, link(file, ...labels[file.name], "file", title)))));
  }
  $("files").replaceChildren(...rows);
}

function link(file, label, use, kind, title = "Mesh") {
  const told = [use, kind === "file" ? size(file.bytes) : ""].filter(Boolean).join(" · ");
  const note = element("small", { textContent: told });
  const of = element("span", { className: "unseen", textContent: kind === "file" ? `${title}: ` : "" });
  const made = element("a", { href: file.url, className: kind }, of, element("span", { textContent: label }), " ", note);
  made.download = `roundview-${file.name}`;
  made.addEventListener("click", async (event) => {
    event.preventDefault();
    if (made.ariaBusy === "true") return;
    made.ariaBusy = "true";
    note.textContent = "Preparing…";
    announce(`Preparing ${label}.`);
    await guarded(async () => {
      const blob = await (await ask(file.url)).blob();
      const address = URL.createObjectURL(blob);
      element("a", { href: address, download: made.download }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
      announce(`${label} is downloaded.`);
    });
    note.textContent = told;
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

async function route() {
  const id = location.hash.match(/^#job=([0-9a-f]{16})$/)?.[1];
  const earlier = location.hash.match(/^#again=([0-9a-f]{16})$/)?.[1];
  complain("");
  clearInterval(ticking);
  listJobs();
  if (id) return openJob(id);
  compose();
  if (earlier) {
    const job = await guarded(() => json(`/api/jobs/${earlier}`));
    if (job) {
      compose(job);
      fill({ ...job.settings, seed: randomSeed() });
      showTook();
    }
  }
  const told = await guardedQuietly(() => json("/api/options")); // What jobs took may be news.
  if (told) options = told;
  showTook();
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
  $("randomise").addEventListener("click", () => { $("seed").value = randomSeed(); });
  $("recipe").addEventListener("change", showTook);
  $("qualities").addEventListener("change", showTook);
  $("kept-other").addEventListener("click", () => { forgetPhoto(); location.hash = ""; });
  $("change").addEventListener("click", () => { location.hash = `again=${open.id}`; });
  $("reseed").addEventListener("click", () => guarded(() => {
    const seed = open.state === "done" ? randomSeed() : open.settings.seed;
    return again(open, { ...open.settings, seed });
  }));
  $("compose").addEventListener("submit", send);
  $("cancel").addEventListener("click", () => guarded(async () => {
    $("cancel").disabled = true;
    const { id } = open;
    const { state } = await json(`/api/jobs/${id}`);
    if (!over({ state })) await ask(`/api/jobs/${id}`, { method: "DELETE" });
  }));
  $("new").addEventListener("click", () => { forgetPhoto(); location.hash = ""; });
  $("more").addEventListener("click", () => listJobs(true));
  $("shading").addEventListener("change", () => viewers?.shade($("shading").value));
  $("front").addEventListener("click", () => { showTurning(false); viewers?.front(); });
  $("turn").addEventListener("click", () => showTurning($("turn").getAttribute("aria-pressed") !== "true"));
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
    $("limit").textContent = size(told.upload_bytes);
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
