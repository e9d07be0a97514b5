// The mesh and the splats side by side, seen by one camera.

import {
  AmbientLight, Box3, DirectionalLight, GLTFLoader, MeshBasicMaterial, MeshNormalMaterial,
  MeshStandardMaterial, OrbitControls, PerspectiveCamera, Scene, Vector3, WebGLRenderer,
} from "./vendor/three.min.js";
import { ask } from "./api.js";
import { Splats } from "./splats.js";

const UP = new Vector3(0, 1, 0);
const FRONT = new Vector3(0, 0.25, 1).normalize();
const CORNER = new Vector3(0.35, 0.35, 1).normalize(); // A little round it shows the depth.
const DISTANCE = 2.3;
const TURN_A_SECOND = 0.6; // Radians: once round in ten seconds.

export class Viewers {
  constructor(meshPlace, splatsPlace) {
    this.places = [meshPlace, splatsPlace];
    this.panes = [];
    this.frame = 0;
    this.turning = 0;
    this.resized = new ResizeObserver(() => this.#paint());
  }

  // Show a job's files; where there is no WebGL, its turntable. `onOpened` is told what came, and
  // of how many triangles or splats it is; `onTouched` when somebody turns it by hand.
  async open(job, { onOpened, onTouched }) {
    this.close();
    const url = (name) => job.files.find((file) => file.name === name)?.url;
    const asked = [
      [url("asset.glb"), "mesh", (buffer) => readMesh(buffer)],
      [url("splats.splat"), "splats", (buffer) => new Splats(buffer)],
    ];
    const opened = (this.opened = {});
    await Promise.all(asked.map(async ([address, what, read], at) => {
      const place = this.places[at];
      if (!address) return say(place, `This job has no ${what}.`);
      say(place, "Loading…");
      let pane;
      try {
        const answer = await ask(address);
        const subject = await read(await answer.arrayBuffer());
        if (this.opened !== opened) return; // Another job was opened meanwhile.
        pane = new Pane(place, subject, what);
      } catch (error) {
        if (this.opened === opened) fallBack(place, url("turntable.mp4"), error);
        return;
      }
      this.panes.push(pane);
      this.resized.observe(place);
      pane.controls.addEventListener("change", () => this.#follow(pane));
      pane.controls.addEventListener("start", onTouched);
      onOpened(what, pane.count());
      this.#paint();
    }));
  }

  // Turn everything slowly round, or stop.
  turn(on) {
    cancelAnimationFrame(this.turning);
    if (!on) return;
    let last = performance.now();
    const step = (now) => {
      const [leader] = this.panes;
      leader?.turnBy(Math.min(now - last, 100) / 1000 * TURN_A_SECOND);
      last = now;
      this.turning = requestAnimationFrame(step);
    };
    this.turning = requestAnimationFrame(step);
  }

  close() {
    this.opened = null;
    this.turn(false);
    this.resized.disconnect();
    for (const pane of this.panes) pane.close();
    this.panes = [];
    for (const place of this.places) place.replaceChildren();
  }

  shade(kind) {
    for (const pane of this.panes) pane.shade(kind);
    this.#paint();
  }

  front() {
    for (const pane of this.panes) pane.stand(FRONT);
    this.#paint();
  }

  #follow(leader) {
    for (const pane of this.panes) {
      if (pane !== leader) pane.lookLike(leader);
    }
    this.#paint();
  }

  #paint() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.panes.forEach((pane) => pane.paint()));
  }
}

class Pane {
  constructor(place, subject, what) {
    this.place = place;
    this.subject = subject;
    this.renderer = new WebGLRenderer({ antialias: what === "mesh", alpha: true });
    this.canvas = this.renderer.domElement;
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `The ${what}. Arrow keys turn it, plus and minus change the distance.`);
    this.canvas.dataset.ready = "true";
    place.replaceChildren(this.canvas);
    this.scene = new Scene();
    this.scene.add(subject, new AmbientLight(0xffffff, 1.6));
    this.camera = new PerspectiveCamera(32, 1, 0.05, 20);
    this.lamp = new DirectionalLight(0xffffff, 2.2);
    this.camera.add(this.lamp);
    this.lamp.position.set(-0.6, 1, 0.8);
    this.scene.add(this.camera);
    this.controls = new OrbitControls(this.camera, this.canvas);
    this.controls.minDistance = 0.6;
    this.controls.maxDistance = 8;
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.shade("plain");
    this.stand(CORNER);
  }

  stand(direction) {
    this.camera.position.copy(direction).multiplyScalar(DISTANCE);
    this.controls.target.set(0, 0, 0);
    this.controls.update();
  }

  turnBy(radians) {
    const offset = this.camera.position.clone().sub(this.controls.target);
    offset.applyAxisAngle(UP, radians);
    this.camera.position.copy(this.controls.target).add(offset);
    this.controls.update();
  }

  // Triangles of a mesh, or splats.
  count() {
    if (this.subject.count) return this.subject.count;
    let faces = 0;
    this.subject.traverse((part) => { faces += (part.geometry?.index?.count ?? 0) / 3; });
    return faces;
  }

  lookLike(other) {
    this.camera.position.copy(other.camera.position);
    this.camera.quaternion.copy(other.camera.quaternion);
    this.controls.target.copy(other.controls.target);
  }

  shade(kind) {
    this.subject.traverse((part) => {
      if (part.looks) part.material = part.looks[kind];
    });
  }

  paint() {
    const { clientWidth: wide, clientHeight: high } = this.place;
    if (!wide || !high) return;
    // Splats are soft: twice the pixels would cost four times as much and show no more.
    this.renderer.setPixelRatio(this.subject.sort ? 1 : Math.min(devicePixelRatio, 2));
    this.renderer.setSize(wide, high, false);
    this.camera.aspect = wide / high;
    this.camera.updateProjectionMatrix();
    this.subject.sort?.(this.camera);
    this.renderer.render(this.scene, this.camera);
  }

  close() {
    this.controls.dispose();
    this.subject.traverse((part) => {
      part.geometry?.dispose();
      for (const look of Object.values(part.looks ?? {})) look.map?.dispose();
      part.material?.uniforms?.table.value.dispose();
    });
    this.renderer.dispose();
    this.renderer.forceContextLoss();
  }

  #key(event) {
    const turns = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const closer = { "+": 0.9, "=": 0.9, "-": 1.1 }[event.key];
    const offset = this.camera.position.clone().sub(this.controls.target);
    if (turns[event.key]) {
      const [round, up] = turns[event.key];
      const radius = offset.length();
      const azimuth = Math.atan2(offset.x, offset.z) + round * 0.14;
      const height = Math.min(1.5, Math.max(-1.5, Math.asin(offset.y / radius) + up * 0.14));
      offset.set(Math.sin(azimuth) * Math.cos(height), Math.sin(height), Math.cos(azimuth) * Math.cos(height));
      offset.multiplyScalar(radius);
    } else if (closer) {
      offset.multiplyScalar(closer);
    } else {
      return;
    }
    event.preventDefault();
    this.controls.dispatchEvent({ type: "start" });
    this.camera.position.copy(this.controls.target).add(offset);
    this.controls.update();
  }
}

async function readMesh(buffer) {
  const { scene } = await new GLTFLoader().parseAsync(buffer, "");
  scene.traverse((part) => {
    if (!part.isMesh) return;
    const map = part.material.map;
    const vertexColors = Boolean(part.geometry.attributes.color);
    if (!part.geometry.attributes.normal) part.geometry.computeVertexNormals();
    part.looks = {
      plain: new MeshBasicMaterial({ map, vertexColors, side: part.material.side }),
      lit: new MeshStandardMaterial({ map, vertexColors, roughness: 0.85, side: part.material.side }),
      shape: new MeshNormalMaterial({ side: part.material.side }),
    };
  });
  // Ours is centred and of longest side 1; another is brought there.
  const box = new Box3().setFromObject(scene);
  const extent = Math.max(...box.getSize(new Vector3()).toArray());
  if (extent > 0 && Math.abs(extent - 1) > 0.2) scene.scale.multiplyScalar(1 / extent);
  return scene;
}

function say(place, text) {
  const line = document.createElement("p");
  line.textContent = text;
  place.replaceChildren(line);
}

function fallBack(place, turntable, error) {
  if (!turntable || !/webgl/i.test(error.message)) return say(place, error.message);
  const video = Object.assign(document.createElement("video"), { src: turntable, loop: true, muted: true, controls: true });
  video.setAttribute("aria-label", "The mesh on a turntable; this browser has no WebGL.");
  place.replaceChildren(video);
}
