// Gaussian splats in WebGL: read a .splat file, sort by depth, lay them over each other.
//
// Zwicker et al., "EWA Splatting", 2002, as in Kerbl et al., "3D Gaussian Splatting for Real-Time
// Radiance Field Rendering", 2023: the covariance in the picture is J W V W' J', widened by 0.3
// square pixels; contributions below 1/255 are skipped. Sorting is by buckets of depth.

import {
  CustomBlending, DataTexture, FloatType, GLSL3, InstancedBufferAttribute, InstancedBufferGeometry,
  BufferAttribute, Mesh, OneFactor, OneMinusSrcAlphaFactor, RawShaderMaterial, Vector2,
} from "./vendor/three.min.js";

const ROW = 32; // bytes a splat
const TEXELS = 4;
const WIDE = 1024; // texels a row of the texture; a multiple of TEXELS
const BUCKETS = 1 << 16;

const VERTEX = `
precision highp float;
precision highp sampler2D;
uniform sampler2D table;
uniform mat4 modelViewMatrix, projectionMatrix;
uniform vec2 viewport;
in vec3 position;
in float index;
out vec2 sigmas;
out vec4 colour;
vec4 row(int part) {
  int at = int(index) * ${TEXELS} + part;
  return texelFetch(table, ivec2(at % ${WIDE}, at / ${WIDE}), 0);
}
void main() {
  vec4 centre = row(0), first = row(1), second = row(2);
  colour = row(3);
  vec4 seen = modelViewMatrix * vec4(centre.xyz, 1.0);
  vec4 clip = projectionMatrix * seen;
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);
  if (seen.z > -0.05 || colour.a < 1.0 / 255.0) return;
  vec2 focal = vec2(projectionMatrix[0][0], projectionMatrix[1][1]) * viewport * 0.5;
  mat3 covariance = mat3(first.x, first.y, first.z, first.y, first.w, second.x,
                         first.z, second.x, second.y);
  float z = seen.z;
  mat3 slope = mat3(-focal.x / z, 0.0, 0.0, 0.0, -focal.y / z, 0.0,
                    focal.x * seen.x / (z * z), focal.y * seen.y / (z * z), 0.0);
  mat3 turned = slope * mat3(modelViewMatrix);
  mat3 flat_ = turned * covariance * transpose(turned);
  float a = flat_[0][0] + 0.3, b = flat_[0][1], d = flat_[1][1] + 0.3;
  float middle = 0.5 * (a + d), spread = sqrt(max(0.25 * (a - d) * (a - d) + b * b, 1e-12));
  vec2 axis = abs(b) > 1e-6 ? normalize(vec2(b, middle + spread - a))
                            : (a >= d ? vec2(1.0, 0.0) : vec2(0.0, 1.0));
  vec2 deviation = sqrt(max(vec2(middle + spread, middle - spread), vec2(1e-6)));
  float reach = sqrt(2.0 * log(255.0 * colour.a));
  sigmas = position.xy * reach;
  vec2 pixels = axis * sigmas.x * deviation.x + vec2(-axis.y, axis.x) * sigmas.y * deviation.y;
  gl_Position = vec4(clip.xyz / clip.w + vec3(2.0 * pixels / viewport, 0.0), 1.0);
}`;

const FRAGMENT = `
precision highp float;
in vec2 sigmas;
in vec4 colour;
out vec4 light;
void main() {
  float alpha = min(0.99, colour.a * exp(-0.5 * dot(sigmas, sigmas)));
  if (alpha < 1.0 / 255.0) discard;
  light = vec4(colour.rgb * alpha, alpha);
}`;

export class Splats extends Mesh {
  constructor(buffer) {
    const count = Math.floor(buffer.byteLength / ROW);
    const { texels, height, centres } = table(buffer, count);
    const geometry = new InstancedBufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(new Float32Array([-1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 1, 0]), 3));
    geometry.setIndex([0, 1, 2, 0, 2, 3]);
    geometry.setAttribute("index", new InstancedBufferAttribute(new Float32Array(count), 1));
    geometry.instanceCount = count;
    const texture = new DataTexture(texels, WIDE, height, undefined, FloatType);
    texture.needsUpdate = true;
    super(geometry, new RawShaderMaterial({
      glslVersion: GLSL3, vertexShader: VERTEX, fragmentShader: FRAGMENT, transparent: true,
      depthTest: false, depthWrite: false, blending: CustomBlending, blendSrc: OneFactor,
      blendDst: OneMinusSrcAlphaFactor, blendSrcAlpha: OneFactor, blendDstAlpha: OneMinusSrcAlphaFactor,
      uniforms: { table: { value: texture }, viewport: { value: new Vector2() } },
    }));
    this.count = count;
    this.centres = centres;
    this.frustumCulled = false;
    this.depths = new Float32Array(count);
    this.starts = new Uint32Array(BUCKETS + 1);
    this.onBeforeRender = (renderer) => renderer.getDrawingBufferSize(this.material.uniforms.viewport.value);
  }

  // Order the splats from far to near, as blending needs them.
  sort(camera) {
    camera.updateMatrixWorld();
    const m = camera.matrixWorldInverse.elements;
    const { centres, depths, starts, count } = this;
    let near = Infinity, far = -Infinity;
    for (let i = 0, j = 0; i < count; i++, j += 3) {
      const depth = m[2] * centres[j] + m[6] * centres[j + 1] + m[10] * centres[j + 2];
      depths[i] = depth;
      if (depth < near) near = depth;
      if (depth > far) far = depth;
    }
    const scale = (BUCKETS - 1) / Math.max(far - near, 1e-9);
    starts.fill(0);
    for (let i = 0; i < count; i++) starts[1 + ((depths[i] - near) * scale | 0)]++;
    for (let i = 0; i < BUCKETS; i++) starts[i + 1] += starts[i];
    const order = this.geometry.attributes.index;
    for (let i = 0; i < count; i++) order.array[starts[(depths[i] - near) * scale | 0]++] = i;
    order.needsUpdate = true;
  }
}

// Positions, covariances and colours as rows of a texture of floats.
function table(buffer, count) {
  const floats = new Float32Array(buffer, 0, count * 8);
  const bytes = new Uint8Array(buffer);
  const height = Math.max(1, Math.ceil(count * TEXELS / WIDE));
  const texels = new Float32Array(WIDE * height * 4);
  const centres = new Float32Array(count * 3);
  for (let i = 0; i < count; i++) {
    const from = i * 8, byte = i * ROW + 24, to = i * TEXELS * 4;
    for (let k = 0; k < 3; k++) texels[to + k] = centres[i * 3 + k] = floats[from + k];
    const [w, x, y, z] = [4, 5, 6, 7].map((k) => (bytes[byte + k] - 128) / 128);
    const n = 1 / (Math.hypot(w, x, y, z) || 1);
    const c = covariance([w * n, x * n, y * n, z * n], floats.subarray(from + 3, from + 6));
    texels.set(c, to + 4);
    for (let k = 0; k < 4; k++) texels[to + 12 + k] = bytes[byte + k] / 255;
  }
  return { texels, height, centres };
}

// R diag(scale^2) R' as xx, xy, xz, yy, yz, zz.
function covariance([w, x, y, z], scale) {
  const r = [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ];
  const at = (i, j) => [0, 1, 2].reduce((sum, k) => sum + r[i][k] * r[j][k] * scale[k] ** 2, 0);
  return [at(0, 0), at(0, 1), at(0, 2), at(1, 1), at(1, 2), at(2, 2)];
}
