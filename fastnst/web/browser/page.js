// The page: chooses a source and a style, sends the newest frame to the worker, shows what comes back.
import * as sources from "./sources.js";

const TARGET = 1000 / 15;  // ms for a frame
const SIDES = [96, 128, 160, 192, 256, 320, 384, 512, 640, 768];  // px, long sides that frames may have
const get = id => document.getElementById(id);
const say = text => { get("message").textContent = text; };
const canvas = get("result"), context = canvas.getContext("2d");

export const state = { source: null, latest: null, styles: [], engine: "" };
const { nets, styles } = await (await fetch("styles.json")).json();
let side = 256, changed = true, recorder = null, frames = [], own = null;

/** A worker as a function that answers one message after another. */
function worker() {
  const made = new Worker("worker.js", { type: "module" });
  let last = Promise.resolve();
  const ask = (message, transferred) => new Promise((resolve, reject) => {
    made.onmessage = ({ data }) => data.error ? reject(new Error(data.error)) : resolve(data);
    made.onerror = error => reject(new Error(error.message || "The worker cannot start."));
    made.postMessage(message, transferred);
  });
  const asked = (message, transferred = []) => (last = last.catch(() => {}).then(() => ask(message, transferred)));
  const engine = new URLSearchParams(location.search).get("engine");
  return { asked, started: asked({ kind: "start", engine }) };
}

const painter = worker();
let onlooker = null;  // looks at paintings, in a worker of its own: frames go on meanwhile

// Styles

async function embeddings(name) {
  const { numbers } = nets[name], data = await (await fetch(`nets/${name}.embeddings`)).arrayBuffer();
  return i => new Float32Array(data, 4 * numbers * i, numbers);
}

function addStyle(style) {
  const i = state.styles.push(style) - 1;
  const tile = document.createElement("label");
  tile.innerHTML = '<input type="radio" name="style"><img alt="" width="128" height="96"><span></span>';
  tile.querySelector("input").value = i;
  tile.querySelector("img").src = style.thumbnail;
  tile.querySelector("span").textContent = style.title;
  get("styles").append(tile);
  get("second").append(new Option(style.title, i));
  return tile;
}

const chosen = () => state.styles[get("style-form").elements.style?.value ?? 0];
const second = () => state.styles[get("second").value];
const value = id => Number(get(id).value);

/** What the worker is to run for the choices made: nets, embeddings, shares. */
function passes() {
  const share = second() ? value("blend") : 0, strength = value("strength");
  const parts = [[chosen(), 1 - share], [second(), share]].filter(([style, part]) => style && part > 0);
  // Films have none: strokes would dance.
  const brushwork = state.source.moves ? 0 : parts.reduce((sum, [style, part]) => sum + part * nets[style.net].brushwork, 0);
  const one = parts.every(([style]) => style.net === parts[0][0].net) && nets[parts[0][0].net].numbers > 0;
  if (!one) {
    return { passes: parts.map(([{ net, embedding }, share]) => ({ file: nets[net].file, embedding, share })), strength, brushwork };
  }
  const { file, painting } = nets[parts[0][0].net];
  let embedding = mix(parts.map(([style, part]) => [style.embedding, part]));
  const between = painting && strength < 1 && own?.net === parts[0][0].net && own.embedding;
  if (between) embedding = mix([[own.embedding, 1 - strength], [embedding, strength]]);
  return { passes: [{ file, embedding, share: 1 }], strength: between ? 1 : strength, brushwork };
}

function mix(parts) {
  const embedding = new Float32Array(parts[0][0].length);
  for (const [numbers, part] of parts) for (let i = 0; i < embedding.length; i++) embedding[i] += part * numbers[i];
  return embedding;
}

/** The embedding of what a bitmap shows, seen with its short side at `size` px. */
async function look(net, bitmap, size, weight) {
  onlooker ??= worker();
  await onlooker.started;
  const scale = size / Math.min(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width, bitmap.height].map(x => Math.round(x * scale));
  const message = { kind: "look", file: nets[net].painting, bitmap, width, height, weight };
  return (await onlooker.asked(message, [bitmap])).embedding;
}

/** Strength runs from the picture's own style, for nets that take any: it is looked at when that is first needed. */
async function lookAtOwn() {
  const { net } = chosen(), { source } = state;
  if (!nets[net].painting || value("strength") === 1 || !source || own?.source === source && own.net === net) return;
  const looked = own = { source, net, embedding: null };  // no second look while this one lasts
  try {
    looked.embedding = await look(net, await createImageBitmap(source.element), nets[net].size, 1);
  } catch (error) {
    if (own === looked) own = null;
    throw error;
  }
  changed = true;
}

async function addPainting(file) {
  const net = Object.keys(nets).find(name => nets[name].painting);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return say(`${file.name} is not a picture.`);
  }
  if (Math.max(bitmap.width, bitmap.height) > 16 * Math.min(bitmap.width, bitmap.height)) {
    return say("This painting is too long; give a part.");
  }
  say(`Looking at ${file.name} ...`);
  const embedding = await look(net, await createImageBitmap(bitmap), nets[net].size, 1);
  const title = file.name.replace(/\.[^.]*$/, "");
  const dials = { size: nets[net].size, weight: 0 };
  const tile = addStyle({ net, embedding, title, bitmap, dials, thumbnail: URL.createObjectURL(file) });
  tile.querySelector("input").click();
  say("");
}

let looking = false, again = false;
/** Looks at the chosen painting again when its size or weight changes: the newest values, once the last look is done. */
async function dial() {
  if (chosen().dials) chosen().dials = { size: value("style-size"), weight: value("style-weight") };
  again = true;
  if (looking) return;
  looking = true;
  try {
    while (again) {
      again = false;
      const style = chosen();
      if (!style.dials) continue;
      const { size, weight } = style.dials;
      style.embedding = await look(style.net, await createImageBitmap(style.bitmap), size, 3 ** weight);
      changed = true;
    }
  } finally {
    looking = false;
  }
}

// Frames

/** The sides of a frame: of what is there now, as a camera that is turned has others. */
function sides({ width, height, moves }, changed) {
  const wanted = get("size").value, long = Math.max(width, height);
  const most = wanted !== "auto" ? Number(wanted) : moves || changed ? side : 768;
  const scale = Math.min(1, most / long);
  return [width, height].map(x => Math.max(16, Math.round(x * scale)));
}

/** Frames grow or shrink, a step at a time, until they take the time that they may. */
function adapt(milliseconds, width, height) {
  if (get("size").value !== "auto" || recorder) return;
  const possible = Math.max(width, height) * Math.sqrt(TARGET / milliseconds);
  const i = SIDES.indexOf(side);
  if (milliseconds > 1.15 * TARGET && i > 0) side = SIDES.findLast(x => x <= possible) ?? SIDES[0];
  else if (i + 1 < SIDES.length && possible > 1.1 * SIDES[i + 1]) side = SIDES[i + 1];
}

function show({ source, result }) {
  const picture = get("compare").checked ? source : result;
  const { width, height } = picture;
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  context.putImageData(picture, 0, 0);
}

async function frame() {
  const { source } = state, wasChanged = changed;
  changed = false;
  const bitmap = await createImageBitmap(source.element);
  const [width, height] = sides({ width: bitmap.width, height: bitmap.height, moves: source.moves }, wasChanged);
  const answer = await painter.asked({ kind: "restyle", bitmap, width, height, ...passes() }, [bitmap]);
  state.latest = answer;
  show(answer);
  const now = performance.now();
  frames = [...frames.filter((time, i) => now - time < 2000 || i === frames.length - 1), now];
  if (source.moves || wasChanged) adapt(answer.milliseconds, width, height);
  const rate = frames.length > 1 ? (1000 * (frames.length - 1) / (now - frames[0])).toFixed(1) : "-";
  const speed = source.moves ? `${rate} frames a second` : `${(answer.milliseconds / 1000).toFixed(2)} s`;
  get("status").textContent = `${state.engine} · ${width} x ${height} px · ${speed}`;
  return wasChanged;
}

async function run() {
  let failed = false, small = false;  // a picture is shown small at once, and at full size when nothing has changed meanwhile
  for (;;) {
    await new Promise(state.source?.moves ? requestAnimationFrame : resolve => setTimeout(resolve, 30));
    if (!state.source || !(state.source.moves || changed || small)) continue;
    try {
      small = await frame() && get("size").value === "auto";
      if (failed) say("");
      failed = false;
    } catch (error) {
      say(`This style cannot be run: ${error.message}`);
      failed = true;
      await new Promise(resolve => setTimeout(resolve, 1000));
    }
  }
}

async function use(open) {
  try {
    const source = await open();
    state.source?.stop();
    [state.source, changed, frames] = [source, true, []];
    say("");
    await lookAtOwn();
  } catch (error) {
    say(error.message);
  }
}

// Files out

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function record() {
  if (recorder) return recorder.stop();
  const parts = [];
  recorder = new MediaRecorder(canvas.captureStream(30), { mimeType: "video/webm", videoBitsPerSecond: 8e6 });
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.onstop = () => {
    download(new Blob(parts, { type: "video/webm" }), "painted.webm");
    [recorder, get("record").textContent] = [null, "Record"];
    get("record").setAttribute("aria-pressed", "false");
  };
  recorder.start();
  get("record").textContent = "Stop recording";
  get("record").setAttribute("aria-pressed", "true");
}

// What the controls do

const listen = (id, event, action) => get(id).addEventListener(event, action);
const file = action => event => {
  const [given] = event.target.files;
  event.target.value = "";
  if (given) action(given);
};
const open = given => use(() => given.type.startsWith("video/") ? sources.film(given) : sources.picture(given));
listen("camera", "click", () => use(sources.camera));
listen("sample", "click", () => use(sources.sample));
listen("file", "change", file(open));
listen("painting", "change", file(given => addPainting(given).catch(error => say(error.message))));
listen("size", "change", () => { changed = true; });
listen("save", "click", () => state.latest && canvas.toBlob(blob => download(blob, "painted.png")));
listen("record", "click", record);
listen("compare", "change", () => state.latest && show(state.latest));
for (const id of ["style-size", "style-weight"]) listen(id, "input", () => dial().catch(error => say(error.message)));
listen("style-form", "input", () => {
  changed = true;
  const { dials } = chosen();  // a painting's own
  get("dials").hidden = !dials;
  if (dials) [get("style-size").value, get("style-weight").value] = [dials.size, dials.weight];
  get("blend").disabled = !second();
  lookAtOwn().catch(error => say(error.message));
});
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => {
  event.preventDefault();
  const [given] = event.dataTransfer.files;
  if (!given) return;
  if (event.target.closest("#any")) addPainting(given).catch(error => say(error.message));
  else open(given);
});

for (const name of Object.keys(nets)) {
  const embedding = nets[name].numbers ? await embeddings(name) : () => null;
  for (const style of styles.filter(({ net }) => net === name)) {
    addStyle({ ...style, embedding: embedding(style.embedding), thumbnail: `nets/${name}_${style.embedding}.jpg` });
  }
}
get("styles").querySelector("input").checked = true;
const zeroShot = Object.values(nets).find(({ painting }) => painting);
get("any").hidden = !zeroShot;
if (zeroShot) [get("style-size").min, get("style-size").max] = zeroShot.sizes, get("style-size").value = zeroShot.size;
if (!window.MediaRecorder?.isTypeSupported("video/webm")) get("record").hidden = true;
try {
  state.engine = (await painter.started).engine;
  get("status").textContent = state.engine;
  say("Choose what to paint: the camera, a film, a picture or the sample.");
  run();
} catch (error) {
  say(`The runtime cannot start: ${error.message}`);
}
