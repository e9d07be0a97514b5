// Journeys through the page in a real browser; each prints what it saw, and fails by throwing.
//
//   node journey.mjs ADDRESS CHROMIUM PHOTO SHOTS JOURNEY
//
// SHOTS is a folder for screenshots, or "-".

import { createRequire } from "node:module";
import { mkdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";

const require = createRequire(path.join(process.cwd(), "x.js"));
const { chromium } = require("playwright-core");
const [address, executablePath, photo, shots, journey] = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"],
});
const trouble = [];

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  page.on("pageerror", (error) => trouble.push(`error: ${error.message}`));
  page.on("console", (line) => {
    if (line.type() === "error" && !/status of 4\d\d|ERR_FAILED/.test(line.text())) trouble.push(`console: ${line.text()}`);
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(address) && !/^(blob|data):/.test(url)) trouble.push(`left the server: ${url}`);
  });
  await page.goto(address);
  return page;
}

async function shot(page, name) {
  if (shots === "-") return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true });
}

function claim(truth, what) {
  if (!truth) throw new Error(`it does not hold that ${what}`);
}

async function choose(page, file = photo) {
  await page.setInputFiles("#file", file);
}

async function ready(page) {
  await page.waitForFunction(() => !document.querySelector("#make").disabled);
}

async function make(page, seed) {
  await page.fill("#seed", String(seed));
  await page.click("#make");
}

const sum = (page) => page.evaluate(() => {
  const mask = document.querySelector("#matte");
  const pixels = mask.getContext("2d").getImageData(0, 0, mask.width, mask.height).data;
  return pixels.reduce((total, value) => total + value, 0);
});

async function coverage(page, place) {
  // How much of a view is not background: what is drawn differs from the colour of its corner.
  const png = await page.locator(place).screenshot();
  return page.evaluate(async (bytes) => {
    const picture = await createImageBitmap(new Blob([new Uint8Array(bytes)], { type: "image/png" }));
    const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
    context.drawImage(picture, 0, 0);
    const { data } = context.getImageData(0, 0, picture.width, picture.height);
    const corner = 4 * (6 * picture.width + 40);
    let drawn = 0;
    for (let i = 0; i < data.length; i += 4) {
      if (Math.abs(data[i] - data[corner]) + Math.abs(data[i + 1] - data[corner + 1]) + Math.abs(data[i + 2] - data[corner + 2]) > 40) drawn++;
    }
    return drawn / (data.length / 4);
  }, [...png]);
}

const journeys = {
  async whole() {
    const page = await open();
    await shot(page, "1-empty");
    await choose(page);
    await ready(page);
    await shot(page, "2-matte");
    const before = await sum(page);
    const box = await page.locator("#matte").boundingBox();
    await page.check("[name=brush][value=remove]", { force: true });
    await page.mouse.move(box.x + box.width * 0.5, box.y + box.height * 0.3);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.5, box.y + box.height * 0.6, { steps: 5 });
    await page.mouse.up();
    claim((await sum(page)) !== before, "the brush paints");
    claim(await page.isEnabled("#undo"), "a stroke can be undone");
    await shot(page, "3-painted");
    await page.click("#randomise");
    claim((await page.inputValue("#seed")) !== "0", "the seed is drawn");
    await page.click("text=Draft");
    const sent = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/api/jobs"));
    await make(page, 4);
    const body = (await sent).postDataBuffer()?.toString("latin1") ?? "";
    claim(!body || body.includes('name="mask"'), "the painted matte is sent");
    await page.waitForSelector("#stages progress");
    await page.waitForSelector("#preview:not([hidden])");
    await shot(page, "4-running");
    await page.waitForSelector("#result:not([hidden])");
    await page.waitForSelector("#mesh canvas[data-ready]");
    await page.waitForSelector("#splats canvas[data-ready]");
    await page.waitForTimeout(1500);
    await shot(page, "5-done");
    const [mesh, splats] = [await coverage(page, "#mesh"), await coverage(page, "#splats")];
    console.log(JSON.stringify({ mesh, splats }));
    claim(mesh > 0.05 && splats > 0.05, "both are drawn");
    claim(Math.abs(mesh - splats) < 0.12, "both are seen by one camera");
    claim(/^12 triangles$/.test(await page.textContent("#mesh-what")), "the triangles are counted");
    await page.click("#turn");
    claim((await page.getAttribute("#turn", "aria-pressed")) === "true", "the views turn");
    await page.locator("#mesh canvas").press("ArrowRight");
    claim((await page.getAttribute("#turn", "aria-pressed")) === "false", "they stop when they are touched");
    await page.click("#front");
    for (const [label, suffix] of [["Download GLB", ".glb"], ["Mesh: OBJ", ".zip"], ["Splats: SPZ", ".spz"]]) {
      const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: new RegExp(`^${label}`) }).click()]);
      claim(download.suggestedFilename().endsWith(suffix), `${label} is named well`);
      claim(statSync(await download.path()).size > 100, `${label} holds something`);
      if (suffix === ".glb") claim(readFileSync(await download.path()).subarray(0, 4).toString() === "glTF", "a GLB comes");
    }
    claim((await page.locator("#jobs li").count()) >= 1, "the job is in the list");
    page.once("dialog", (dialog) => dialog.accept());
    await page.click("#jobs .remove");
    await page.waitForSelector("#compose:not([hidden])");
  },

  async refusals() {
    const page = await open();
    await choose(page, { name: "bad.png", mimeType: "image/png", buffer: Buffer.from("no picture") });
    await page.waitForSelector("#alert:not([hidden])");
    console.log(await page.textContent("#alert"));
    claim(/^The photo is not a picture/.test(await page.textContent("#alert")), "a bad file is told plainly");
    claim(await page.isVisible("#drop"), "another can be chosen");
    await shot(page, "6-refused");
    const grey = await page.evaluate(async () => {
      const sheet = new OffscreenCanvas(90, 90);
      const context = sheet.getContext("2d");
      context.fillStyle = "#bbb";
      context.fillRect(0, 0, 90, 90);
      return [...new Uint8Array(await (await sheet.convertToBlob({ type: "image/png" })).arrayBuffer())];
    });
    await choose(page, { name: "grey.png", mimeType: "image/png", buffer: Buffer.from(grey) });
    await page.waitForFunction(() => /No object found.* Paint the object/.test(document.querySelector("#alert").textContent));
    claim(await page.isDisabled("#make"), "nothing is made of nothing");
    await page.focus("#matte");
    await page.keyboard.press("Space");
    claim(await page.isEnabled("#make"), "what was painted can be made");
    await choose(page);
    await ready(page);
    await page.click("summary");
    await page.fill("#faces", "3");
    await page.click("#make");
    claim(await page.isVisible("#compose"), "the form refuses three triangles");
    await page.fill("#faces", "500");
    await make(page, 2);
    await page.waitForFunction(() => /no object found/.test(document.querySelector("#alert").textContent));
    claim(/no object found\. Choose the photo again/.test(await page.textContent("#alert")), "what to do is said");
    await shot(page, "7-failed");
    await page.click("#new");
    await choose(page);
    await ready(page);
    await make(page, 1);
    await page.waitForFunction(() => /SIGKILL/.test(document.querySelector("#alert").textContent));
    await page.goto(`${address}/#job=0123456789abcdef`);
    await page.waitForFunction(() => /no such job/.test(document.querySelector("#alert").textContent));
  },

  async again() {
    const page = await open();
    await choose(page);
    await ready(page);
    await page.click("text=Draft");
    await make(page, 0);
    await page.waitForSelector("#result:not([hidden])");
    const first = page.url();
    await page.click("#change");
    await page.waitForSelector("#kept:not([hidden])");
    claim(await page.isChecked("[name=quality][value=draft]"), "the settings are those of the job");
    claim((await page.inputValue("#seed")) !== "0", "but for the seed");
    claim(/Took .* here the last time/.test(await page.textContent("#took")), "it says what the last one took");
    await shot(page, "8-again");
    await make(page, 4);
    await page.waitForSelector("#stages .now");
    claim(page.url() !== first, "it is another job");
    claim(await page.isVisible("#overall progress"), "it is known how far the whole is");
    claim(/left|Nearly done/.test(await page.textContent("#clock")), "and about how long it takes");
    await shot(page, "9-expected");
    await page.waitForSelector("#result:not([hidden])");
    const second = page.url();
    await page.click("#reseed");
    await page.waitForFunction((url) => location.href !== url, second);
    await page.waitForSelector("#result:not([hidden])");
    await page.click("#change");
    await page.click("#kept-other");
    await page.waitForSelector("#drop:not([hidden])");
    claim(await page.isDisabled("#make"), "without a photo nothing can be made");
  },

  async cancel() {
    const page = await open();
    await choose(page);
    await ready(page);
    await make(page, 3);
    await page.waitForSelector("#stages progress");
    const begin = Date.now();
    await page.click("#cancel");
    await page.waitForFunction(() => document.querySelector("#job-title").textContent === "Cancelled");
    const seconds = (Date.now() - begin) / 1000;
    console.log(JSON.stringify({ seconds }));
  },

  async reload() {
    const page = await open();
    await choose(page);
    await ready(page);
    await make(page, 4);
    await page.waitForSelector("#stages progress");
    await page.reload();
    await page.waitForSelector("#stages progress");
    await page.route("**/events", (route) => route.abort());
    await page.reload();
    await page.waitForFunction(() => /does not answer.*goes on by itself/.test(document.querySelector("#alert").textContent));
    await page.unroute("**/events");
    await page.waitForSelector("#result:not([hidden])");
    claim(await page.isHidden("#alert"), "the page goes on when the server is back");
    await page.goBack();
    await page.waitForSelector("#compose:not([hidden])");
  },

  async looks() {
    for (const [name, options] of [
      ["phone-light", { viewport: { width: 375, height: 740 }, isMobile: true, hasTouch: true }],
      ["phone-dark", { viewport: { width: 375, height: 740 }, colorScheme: "dark", isMobile: true, hasTouch: true }],
      ["desktop-dark", { colorScheme: "dark" }],
    ]) {
      const page = await open(options);
      await shot(page, `${name}-1-empty`);
      await choose(page);
      await ready(page);
      await shot(page, `${name}-2-matte`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      claim(wide <= 0, `nothing sticks out at the side (${name}: ${wide} px)`);
      await make(page, 0);
      await page.waitForSelector("#splats canvas[data-ready]");
      await page.waitForTimeout(1000);
      await shot(page, `${name}-3-done`);
      claim((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0, `nothing sticks out of the result (${name})`);
      const nameless = await page.evaluate(() => [...document.querySelectorAll("button, a, input, select, canvas, img")]
        .filter((one) => one.checkVisibility() && !(one.ariaLabel || one.textContent.trim() || one.labels?.length || one.alt !== undefined && one.tagName === "IMG"))
        .map((one) => one.outerHTML.slice(0, 90)));
      claim(!nameless.length, `all can be named: ${nameless}`);
      await page.context().close();
    }
  },

  async keyboard() {
    const page = await open();
    const [chooser] = await Promise.all([page.waitForEvent("filechooser"), (async () => {
      await page.focus("#file");
      await page.keyboard.press("Enter");
    })()]);
    await chooser.setFiles(photo);
    await ready(page);
    await page.focus("#matte");
    const before = await sum(page);
    for (const key of ["r", "]", "ArrowUp", "ArrowUp", "Space"]) await page.keyboard.press(key);
    claim((await sum(page)) !== before, "the brush paints by keys");
    await page.focus("#seed");
    await page.keyboard.type("5");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#result:not([hidden])");
  },
};

try {
  await journeys[journey]();
  if (trouble.length) throw new Error(trouble.join("\n"));
  console.log("well");
} finally {
  await browser.close();
}
