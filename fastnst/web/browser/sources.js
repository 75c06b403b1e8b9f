// What can be painted. Each source has an `element` to draw, whether it `moves`, and `stop`.

const REFUSED = {
  NotAllowedError: "The camera was refused. Allow it in the browser's settings for this page, then press Camera again.",
  NotFoundError: "There is no camera here. Choose a film or a picture.",
  NotReadableError: "The camera is in use by another program.",
};

async function play(video) {
  [video.muted, video.loop, video.playsInline] = [true, true, true];
  await video.play();
  const stop = () => video.pause();
  return { element: video, moves: true, stop };
}

export async function camera() {
  if (!navigator.mediaDevices) throw new Error("Browsers give the camera to pages on localhost or by https alone.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" } });
  } catch (error) {
    throw new Error(REFUSED[error.name] ?? `The camera cannot be used: ${error.message}`);
  }
  const stop = () => stream.getTracks().forEach(track => track.stop());
  try {
    return { ...await play(Object.assign(document.createElement("video"), { srcObject: stream })), stop };
  } catch (error) {
    stop();
    throw new Error(`The camera cannot be used: ${error.message}`);
  }
}

export async function film(file) {
  const address = URL.createObjectURL(file);
  try {
    const source = await play(Object.assign(document.createElement("video"), { src: address }));
    return { ...source, stop: () => { source.stop(); URL.revokeObjectURL(address); } };
  } catch {
    URL.revokeObjectURL(address);
    throw new Error(`${file.name} is not a film that this browser plays.`);
  }
}

export async function picture(file) {
  try {
    const element = await createImageBitmap(file);
    return { element, moves: false, stop: () => element.close() };
  } catch {
    throw new Error(`${file.name} is not a picture.`);
  }
}

/** A scene drawn here, that moves: hills, a sun, and a boat on the sea. */
export function sample() {
  const element = Object.assign(document.createElement("canvas"), { width: 640, height: 480 });
  const context = element.getContext("2d");
  const fill = (color, path) => { context.fillStyle = color; context.beginPath(); path(); context.fill(); };
  const wave = (level, height, length, shift) => () => {
    context.moveTo(0, 480);
    for (let x = 0; x <= 640; x += 8) context.lineTo(x, level + height * Math.sin(x / length + shift));
    context.lineTo(640, 480);
  };
  let running = true;
  const draw = milliseconds => {
    const t = milliseconds / 1000, sky = context.createLinearGradient(0, 0, 0, 300), boat = 320 + 200 * Math.sin(t / 4);
    sky.addColorStop(0, "#3d6fb0");
    sky.addColorStop(1, "#f7c98b");
    fill(sky, () => context.rect(0, 0, 640, 480));
    fill("#fff2b8", () => context.arc(480, 130 + 20 * Math.sin(t / 3), 44, 0, 7));
    fill("#6b8f5a", wave(255, 50, 90, 1));
    fill("#41683f", wave(285, 30, 60, 4));
    fill("#2a6f8f", wave(330, 5, 30, t));
    fill("#8a3b2a", () => { context.moveTo(boat - 60, 345); context.lineTo(boat + 60, 345); context.lineTo(boat + 35, 378); context.lineTo(boat - 35, 378); });
    fill("#f4efe2", () => { context.moveTo(boat, 225); context.lineTo(boat + 55, 335); context.lineTo(boat, 335); });
    fill("#1d536f", wave(375, 8, 45, -1.3 * t));
    if (running) requestAnimationFrame(draw);
  };
  draw(0);
  return { element, moves: true, stop: () => { running = false; } };
}
