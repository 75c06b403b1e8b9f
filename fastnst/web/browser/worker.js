// Runs the nets, away from the page's own thread. One message at a time: the page sends the next when it has the answer.
import { brushed } from "./brushwork.js";

const engines = { wasm: "./runtime/ort.wasm.min.mjs", webgpu: "./runtime/ort.webgpu.min.mjs" };
const sessions = new Map();
let ready;

async function start(wanted) {
  const adapter = wanted === "wasm" ? null : await navigator.gpu?.requestAdapter().catch(() => null);
  const engine = adapter ? "webgpu" : "wasm";
  const ort = await import(engines[engine]);
  ort.env.wasm.wasmPaths = new URL("runtime/", self.location).href;
  // Several threads share memory, which browsers grant to pages with the headers that serve.py sends.
  const threads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency) : 1;
  ort.env.wasm.numThreads = threads;
  const words = engine === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}`;
  return { ort, engine, words };
}

function session(file) {
  if (!sessions.has(file)) {
    const made = ready.then(({ ort, engine }) =>
      ort.InferenceSession.create(file, { executionProviders: engine === "webgpu" ? ["webgpu", "wasm"] : ["wasm"] }));
    made.catch(() => sessions.delete(file));
    sessions.set(file, made);
  }
  return sessions.get(file);
}

function pixels(bitmap, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white";  // what is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

function tensor(ort, { data, width, height }) {
  const rgb = new Uint8Array(3 * width * height);
  for (let i = 0, j = 0; j < rgb.length; i += 4) {
    rgb[j++] = data[i];
    rgb[j++] = data[i + 1];
    rgb[j++] = data[i + 2];
  }
  return new ort.Tensor("uint8", rgb, [1, height, width, 3]);
}

/**
 * passes: nets, each with its embedding if it takes one, and the shares of their results; the rest is the picture itself.
 * brushwork: of the strokes that it gets before the nets, in levels of 255.
 */
async function restyle({ bitmap, width, height, passes, strength, brushwork }) {
  const { ort } = await ready, source = pixels(bitmap, width, height), started = performance.now();
  const pictures = tensor(ort, brushed(source, brushwork)), mixed = new Float32Array(pictures.data.length);
  for (const { file, embedding, share } of passes) {
    const feeds = embedding ? { pictures, embedding: new ort.Tensor("float32", embedding, [embedding.length]) } : { pictures };
    const { data } = (await (await session(file)).run(feeds)).restyled;
    for (let i = 0; i < data.length; i++) mixed[i] += share * data[i];
  }
  const result = new ImageData(width, height);
  for (let i = 0, j = 0; i < result.data.length; i++) {
    if (i % 4 === 3) result.data[i] = 255;
    else result.data[i] = Math.round(source.data[i] + strength * (mixed[j++] - source.data[i]));
  }
  return { source, result, milliseconds: performance.now() - started };
}

/** The embedding of a painting. */
async function look({ bitmap, width, height, file, weight }) {
  const { ort } = await ready, painting = tensor(ort, pixels(bitmap, width, height));
  const style_weight = new ort.Tensor("float32", [weight], [1]);
  return { embedding: (await (await session(file)).run({ painting, style_weight })).embedding.data };
}

const answers = { start: async ({ engine }) => ({ engine: (await (ready = start(engine))).words }), restyle, look };
self.onmessage = async ({ data }) => {
  try {
    self.postMessage(await answers[data.kind](data));
  } catch (error) {
    self.postMessage({ error: error.message ?? String(error) });
  }
};
