// The photo with a veil over what will be left out, and a brush to correct it.

const LONGEST = 1024;
const UNDOS = 20;

export class MatteEditor {
  constructor(canvas, { onChange }) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.mask = document.createElement("canvas"); // White, with alpha where the object is.
    this.veil = document.createElement("canvas");
    this.edge = document.createElement("canvas");
    this.brush = { keep: true, size: 16, at: null };
    this.photo = null;
    this.ready = false;
    this.edited = false;
    this.blank = false; // Whether nothing was found to begin with.
    this.past = [];
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerleave", () => { if (!this.stroke) this.#hover(null); });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => { this.stroke = null; });
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  // Show a photo, before its matte is known.
  async open(file) {
    this.ready = this.edited = false;
    this.past = [];
    try {
      this.photo = await createImageBitmap(file);
    } catch {
      this.photo = null; // A TIFF, or broken: the server knows which.
    }
    this.#resize(this.photo ? this.photo.width : 512, this.photo ? this.photo.height : 512);
    this.draw();
    this.onChange();
  }

  // Take the server's matte, a grey picture that is white on the object.
  async setMatte(blob) {
    const picture = await createImageBitmap(blob);
    if (!this.photo) this.#resize(picture.width, picture.height);
    const context = this.mask.getContext("2d", { willReadFrequently: true });
    const { width, height } = this.mask;
    context.clearRect(0, 0, width, height);
    context.drawImage(picture, 0, 0, width, height);
    const pixels = context.getImageData(0, 0, width, height);
    for (let i = 0; i < pixels.data.length; i += 4) {
      pixels.data[i + 3] = pixels.data[i];
      pixels.data[i] = pixels.data[i + 1] = pixels.data[i + 2] = 255;
    }
    context.putImageData(pixels, 0, 0);
    this.original = pixels;
    this.blank = false;
    this.#unlock();
  }

  // Without a matte nothing is kept until it is painted.
  setEmpty() {
    const { width, height } = this.mask;
    const context = this.mask.getContext("2d", { willReadFrequently: true });
    context.clearRect(0, 0, width, height);
    this.original = context.getImageData(0, 0, width, height);
    this.blank = true;
    this.#unlock();
  }

  // The mask as a PNG, white on black; null where the server's own will do.
  async painted() {
    if (!this.edited) return null;
    const sheet = new OffscreenCanvas(this.mask.width, this.mask.height);
    const context = sheet.getContext("2d");
    context.fillStyle = "black";
    context.fillRect(0, 0, sheet.width, sheet.height);
    context.drawImage(this.mask, 0, 0);
    return sheet.convertToBlob({ type: "image/png" });
  }

  undo() {
    const last = this.past.pop();
    if (!last) return;
    this.mask.getContext("2d").putImageData(last.pixels, 0, 0);
    this.edited = last.edited;
    this.draw();
    this.onChange();
  }

  restore() {
    this.#remember();
    this.mask.getContext("2d").putImageData(this.original, 0, 0);
    this.edited = false;
    this.draw();
    this.onChange();
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    context.clearRect(0, 0, width, height);
    if (this.photo) context.drawImage(this.photo, 0, 0, width, height);
    if (this.ready) {
      const veil = this.veil.getContext("2d");
      veil.globalCompositeOperation = "source-over";
      veil.clearRect(0, 0, width, height);
      veil.fillStyle = this.photo ? "rgba(18, 24, 34, .66)" : "rgb(60, 60, 60)";
      veil.fillRect(0, 0, width, height);
      veil.fillStyle = this.#stripes(veil);
      veil.fillRect(0, 0, width, height);
      veil.globalCompositeOperation = "destination-out";
      veil.drawImage(this.mask, 0, 0);
      context.drawImage(this.veil, 0, 0);
      this.#drawEdge(context);
    }
    if (this.brush.at && this.ready) this.#drawBrush(context);
  }

  // Stripes tell the veil from a dark background, in any colour and for any eye.
  #stripes(context) {
    const side = Math.max(6, Math.round(14 * this.#zoom()));
    const tile = new OffscreenCanvas(side, side);
    const lines = tile.getContext("2d");
    lines.strokeStyle = "rgba(255, 255, 255, .3)";
    lines.lineWidth = side / 7;
    lines.beginPath();
    for (const at of [-side, 0, side]) {
      lines.moveTo(at - 1, side + 1);
      lines.lineTo(at + side + 1, -1);
    }
    lines.stroke();
    return context.createPattern(tile, "repeat");
  }

  // A line round what is kept: the mask moved every way by its width, less the mask.
  #drawEdge(context) {
    const { width, height } = this.canvas;
    const edge = this.edge.getContext("2d");
    const wide = 1.5 * this.#zoom();
    edge.globalCompositeOperation = "source-over";
    edge.clearRect(0, 0, width, height);
    for (let at = 0; at < 8; at++) {
      edge.drawImage(this.mask, wide * Math.cos(at * Math.PI / 4), wide * Math.sin(at * Math.PI / 4));
    }
    edge.globalCompositeOperation = "destination-out";
    edge.drawImage(this.mask, 0, 0);
    edge.globalCompositeOperation = "source-in";
    edge.fillStyle = "#ffd21f";
    edge.fillRect(0, 0, width, height);
    context.drawImage(this.edge, 0, 0);
  }

  // Pixels of the picture to a pixel of the page.
  #zoom() {
    return this.canvas.width / (this.canvas.clientWidth || this.canvas.width);
  }

  #drawBrush(context) {
    const [x, y] = this.brush.at;
    for (const [colour, line] of [["rgba(0,0,0,.7)", 4], ["white", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = line * this.#zoom();
      context.beginPath();
      context.arc(x, y, this.#radius(), 0, 7);
      context.stroke();
    }
  }

  #resize(width, height) {
    const scale = Math.min(1, LONGEST / Math.max(width, height));
    for (const canvas of [this.canvas, this.mask, this.veil, this.edge]) {
      canvas.width = Math.max(1, Math.round(width * scale));
      canvas.height = Math.max(1, Math.round(height * scale));
    }
  }

  #unlock() {
    this.ready = true;
    this.edited = false;
    this.past = [];
    this.draw();
    this.onChange();
  }

  #radius() {
    return (this.brush.size / 200) * Math.max(this.canvas.width, this.canvas.height) / 2;
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * (this.canvas.width / box.width),
      (event.clientY - box.top) * (this.canvas.height / box.height)];
  }

  #press(event) {
    if (!this.ready || event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#remember();
    this.stroke = this.#at(event);
    this.#paint(this.stroke, this.stroke);
  }

  #move(event) {
    const at = this.#at(event);
    if (this.stroke) {
      this.#paint(this.stroke, at);
      this.stroke = at;
    }
    this.#hover(at);
  }

  #hover(at) {
    this.brush.at = at;
    this.draw();
  }

  #paint(from, to) {
    const context = this.mask.getContext("2d");
    context.globalCompositeOperation = this.brush.keep ? "source-over" : "destination-out";
    context.strokeStyle = "white";
    context.lineCap = "round";
    context.lineWidth = 2 * this.#radius();
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] + 0.01, to[1]);
    context.stroke();
    context.globalCompositeOperation = "source-over";
    this.edited = true;
    this.draw();
    this.onChange();
  }

  #remember() {
    const { width, height } = this.mask;
    const pixels = this.mask.getContext("2d").getImageData(0, 0, width, height);
    this.past.push({ pixels, edited: this.edited });
    if (this.past.length > UNDOS) this.past.shift();
  }

  #key(event) {
    if (!this.ready || event.altKey) return;
    if (event.ctrlKey || event.metaKey) {
      if (event.key !== "z") return;
      this.undo();
      return event.preventDefault();
    }
    const { width, height } = this.canvas;
    const step = Math.max(width, height) * (event.shiftKey ? 0.05 : 0.015);
    const [x, y] = this.brush.at ?? [width / 2, height / 2];
    const steps = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (steps[event.key]) {
      const [dx, dy] = steps[event.key];
      this.#hover([Math.min(width, Math.max(0, x + dx)), Math.min(height, Math.max(0, y + dy))]);
    } else if (event.key === " " || event.key === "Enter") {
      this.brush.at = [x, y];
      this.#remember();
      this.#paint([x, y], [x, y]);
    } else if (event.key === "k" || event.key === "r") {
      this.brush.keep = event.key === "k";
      this.onChange();
    } else if (event.key === "[" || event.key === "]") {
      this.brush.size = Math.min(60, Math.max(2, this.brush.size + (event.key === "]" ? 2 : -2)));
      this.draw();
      this.onChange();
    } else {
      return;
    }
    event.preventDefault();
  }
}
