// Counts the frames of a plan one after another. Answers are stored in the background, and the next frames are loaded
// ahead, so that nobody waits. The browser keeps an answer until the viewer has stored it.

const page = document.getElementById("counting");
const line = page.dataset.line ? JSON.parse(page.dataset.line) : null;
const AHEAD = line ? 1 : 5;
const PLAY_MS = 150; // a frame of a clip
const CLIP_AHEAD = 20;
const BACK = 20; // frames of earlier visits to which a person can go back
const RETRY_MS = 3000;
const REQUEST_MS = 20000;
const NAME = "imgpipeline counted by";
const UNSAVED = "imgpipeline answer ";

const { day, source } = page.dataset;
const labels = JSON.parse(page.dataset.labels);
const fields = [...page.querySelectorAll("input")];
const figure = page.querySelector("figure");
const drawing = figure.querySelector("svg");
const [state, progress, hint, blind, who, notice, backButton] = [
  "state", "progress", "hint", "blind", "who", "unsaved", "back",
].map((id) => document.getElementById(id));
let by = page.dataset.by || localStorage.getItem(NAME);

// Sends a request. Returns the document, or a `problem`.
async function ask(address, options = {}) {
  try {
    const answer = await fetch(address, { ...options, signal: AbortSignal.timeout(REQUEST_MS) });
    const said = await answer.json();
    return answer.ok ? said : { problem: said.next ? `${said.error} Next: ${said.next}.` : said.error };
  } catch {
    return { problem: "The viewer does not answer.", isAway: true };
  }
}

// Answers that are not stored yet. Each has a key of its own, so that two tabs do not overwrite each other's.
let isSending = false;

function unsavedKeys() {
  return Object.keys(localStorage).filter((key) => key.startsWith(UNSAVED)).sort();
}

async function send() {
  if (isSending) return;
  isSending = true;
  let problem = "";
  for (const key of unsavedKeys()) {
    const kept = localStorage.getItem(key);
    if (!kept) continue; // another tab has sent it
    const { address, answer } = JSON.parse(kept);
    const headers = { "Content-Type": "application/json" };
    const said = await ask(address, { method: "POST", headers, body: JSON.stringify(answer) });
    if (!said.problem) localStorage.removeItem(key);
    problem = said.problem || problem;
    if (said.isAway) break;
  }
  isSending = false;
  const count = unsavedKeys().length;
  notice.hidden = !problem;
  notice.textContent = `Answers not stored yet: ${count}. ${problem} This browser keeps them and tries again.`;
  if (count && !problem) send();
}

function addAnswer(answer) {
  const key = `${UNSAVED}${Date.now()} ${Math.random()}`;
  localStorage.setItem(key, JSON.stringify({ address: `/api/v1/count/${day}`, answer }));
  send();
}

// The frames of this visit; `at` is the position of the one that is shown.
const frames = [];
let at = 0;
let samples = 0;
let left = new Set();
let isLoading = false;

function pictureOf(frame) {
  if (!frame.picture) {
    frame.picture = new Image(frame.image_width || 4, frame.image_height || 3);
    frame.picture.alt = "The frame to count";
    frame.picture.src = `/api/v1/frames/${day}/${frame.frame_id}/image`;
    const shown = () => frame === frames[at]?.now && draw();
    frame.picture.decode().then(shown, shown);
  }
  return frame.picture;
}

// A slice of time is a sample whose frames are shown one after another; `now` is the shown one.
const playButton = document.getElementById("play");
let isPlaying = true;

function turn(by) {
  const frame = frames[at];
  const position = frame.clip.indexOf(frame.now) + by;
  if (!frame.clip[position] || (by && !frame.now.picture.complete)) return;
  frame.now = frame.clip[position];
  frame.seen = Math.max(frame.seen, position + 1);
  frame.clip.slice(position, position + CLIP_AHEAD).forEach(pictureOf);
  const what = frame.now.is_counted ? "count" : "lead-in, do not count";
  document.getElementById("clip").textContent = `Frame ${position + 1} of ${frame.clip.length}: ${what}`;
  figure.classList.toggle("lead-in", !frame.now.is_counted);
  if (position === frame.clip.length - 1) play(false);
  showPicture();
  draw();
}

function play(shouldPlay = !isPlaying) {
  isPlaying = shouldPlay;
  if (isPlaying && frames[at].now === frames[at].clip.at(-1)) frames[at].now = frames[at].clip[0];
  playButton.textContent = isPlaying ? "Pause" : "Play";
}

function step(by) {
  play(false);
  turn(by);
}

// The line, with the name of each direction on the side to which it leads.
function drawnLine(width, height) {
  const [[ax, ay], [bx, by]] = line.points.map(([x, y]) => [x * width, y * height]);
  const far = width / 16 / Math.hypot(bx - ax, by - ay);
  const names = [[line.forward, far], [line.backward, -far]].map(([name, to]) => {
    const text = shape("text", { x: (ax + bx) / 2 + to * (ay - by), y: (ay + by) / 2 + to * (bx - ax), "font-size": width / 32 });
    text.textContent = name;
    return text;
  });
  return [shape("path", { class: "line", d: `M${ax} ${ay}L${bx} ${by}` }), ...names];
}

async function load() {
  const known = new Set(frames.map((frame) => frame.frame_id));
  const isComplete = samples && [...left].every((frame_id) => known.has(frame_id));
  if (isLoading || isComplete || frames.length - at > AHEAD) return;
  isLoading = true;
  const limit = Math.min(1000, unsavedKeys().length + 2 * AHEAD);
  const asked = new URLSearchParams({ source, by, limit, back: samples ? 0 : BACK, ...(line && { line: line.name }) });
  const found = await ask(`/api/v1/count/${day}?${asked}`);
  isLoading = false;
  state.textContent = found.problem || "";
  if (found.problem) return;
  const answered = new Set(frames.filter((frame) => frame.isAnswered).map((frame) => frame.frame_id));
  samples = found.samples;
  left = new Set(found.left.filter((frame_id) => !answered.has(frame_id)));
  for (const frame of found.frames.filter(({ frame_id }) => !known.has(frame_id))) {
    const { counts, wrong, missing, cannot_tell } = frame.answer ?? { counts: frame.counts, missing: [] };
    const numbers = labels.map((label) => counts[label] ?? "");
    const made = { ...frame, numbers, wrong: new Set(wrong), missing, cannotTell: cannot_tell, isAnswered: Boolean(frame.answer) };
    made.seen = frame.answer ? Infinity : 0; // frames of a clip
    frames.push(made);
    if (frame.answer) at += 1;
    else pictureOf(made.clip?.[0] ?? made);
  }
  if (page.hidden) show();
}

function show() {
  const frame = frames[at];
  page.hidden = !frame;
  progress.textContent = `${samples - left.size} of ${samples} counted`;
  state.textContent = frame ? "" : left.size ? "The next frame is being loaded." : "No frame is left for you. Thank you. Backspace: your last frame.";
  if (frame) {
    frame.now = frame.clip?.[0] ?? frame;
    showPicture();
    if (line) {
      play(true);
      turn(0);
    }
    for (const [position, number] of frame.numbers.entries()) fields[position].value = number;
    blind.hidden = !frame.blind;
    backButton.disabled = !at;
    hint.textContent = frame.cannotTell ? "Your answer was: cannot tell." : "";
    choose(0);
  }
  load();
}

function showPicture() {
  figure.querySelector("img")?.remove();
  figure.prepend(pictureOf(frames[at].now));
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function draw() {
  const { boxes, wrong, missing } = frames[at];
  const { picture, image_width, image_height } = frames[at].now;
  const width = image_width || picture.naturalWidth || 4;
  const height = image_height || picture.naturalHeight || 3;
  const colourOf = (label) => fields[labels.indexOf(label)].dataset.colour;
  figure.classList.toggle("missing", picture.complete && !picture.naturalWidth);
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const drawn = boxes.map(({ detection_number, label, x, y, width: across, height: down }) => {
    const isWrong = wrong.has(detection_number);
    const cross = isWrong ? `M${x} ${y}l${across} ${down}m${-across} 0l${across} ${-down}` : "";
    const kind = `${isWrong ? "wrong" : ""} ${label === labels[current] ? "" : "other"}`;
    return shape("path", { class: kind, d: `M${x} ${y}h${across}v${down}h${-across}z${cross}`, stroke: colourOf(label) });
  });
  const points = missing.map(([label, cx, cy]) => shape("circle", { cx, cy, r: width / 70, fill: colourOf(label) }));
  drawing.replaceChildren(...drawn, ...points, ...(line ? drawnLine(width, height) : []));
}

let current = 0; // position of the label that keys change
let isTyped = false; // whether its field has digits that Backspace deletes

function choose(position) {
  current = (position + fields.length) % fields.length;
  isTyped = false;
  fields[current].inputMode = "none"; // keeps the keyboard of a tablet closed
  fields[current].focus({ preventScroll: true });
  fields[current].select();
  draw();
}

function change(step, position = current) {
  fields[position].value = Math.max(0, Number(fields[position].value) + step);
  choose(position);
}

function leave(step) {
  const frame = frames[at];
  if (frame) frame.numbers = fields.map((field) => field.value);
  for (const shown of frame?.clip ?? [frame ?? {}]) shown.picture = null; // saves memory
  at += step;
  show();
}

function back() {
  if (at) leave(-1);
}

function store(isUnknown) {
  const frame = frames[at];
  const { frame_id, wrong, missing } = frame;
  const { picture } = frame.now;
  if (!picture.complete) return; // nobody has seen it
  if (!isUnknown && frame.seen < (frame.clip?.length ?? 0)) {
    hint.textContent = "Watch the clip to its end, then store.";
    return;
  }
  // In a blind frame, one number shows that somebody looked; the others are 0.
  const mayBeEmpty = frame.blind && fields.some((field) => field.value);
  const wanted = labels.filter((_, position) => !fields[position].validity.valid || !(fields[position].value || mayBeEmpty));
  if (!isUnknown && (wanted.length || !picture.naturalWidth)) {
    hint.textContent = wanted.length ? `Enter the number of ${wanted.join(", ")}.` : "Cannot tell: the image cannot be shown.";
    return;
  }
  const counts = Object.fromEntries(labels.map((label, position) => [label, Number(fields[position].value)]));
  const answer = isUnknown ? { cannot_tell: true } : { counts, wrong: [...wrong], missing };
  if (line) answer.line = line.name;
  Object.assign(frame, { isAnswered: true, cannotTell: isUnknown });
  left.delete(frame_id);
  leave(1);
  addAnswer({ source, frame_id, by, ...answer });
}

// A click on a box says that it is wrong, or takes that back; elsewhere, it adds an object of the current label.
function click(event) {
  const { boxes, wrong, missing } = frames[at];
  if (line) return;
  const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
  const { width, height } = drawing.viewBox.baseVal;
  if (x < 0 || y < 0 || x > width || y > height) return;
  const point = missing.findIndex(([, px, py]) => Math.hypot(px - x, py - y) < width / 50);
  const [box] = boxes
    .filter((one) => x >= one.x && y >= one.y && x <= one.x + one.width && y <= one.y + one.height)
    .sort((a, b) => a.width * a.height - b.width * b.height);
  if (point >= 0) change(-1, labels.indexOf(missing.splice(point, 1)[0][0]));
  else if (!box) missing.push([labels[current], x, y]) && change(1);
  else if (wrong.delete(box.detection_number)) change(1, labels.indexOf(box.label));
  else wrong.add(box.detection_number) && change(-1, labels.indexOf(box.label));
}

const KEYS = {
  ArrowLeft: () => choose(current - 1),
  ArrowRight: () => choose(current + 1),
  ArrowUp: () => change(1),
  ArrowDown: () => change(-1),
  Enter: () => store(false),
  "?": () => store(true),
  Backspace: back,
  u: back,
  b: () => document.body.classList.toggle("no-boxes"),
};
if (line) Object.assign(KEYS, { ArrowLeft: () => step(-1), ArrowRight: () => step(1), " ": () => play() });

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  const isElsewhere = target.closest("input, select, textarea, button, a, summary") && !fields.includes(target);
  if ((page.hidden && KEYS[key] !== back) || isElsewhere || event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === "Backspace" && isTyped) return;
  if (/^\d$/.test(key)) {
    if (!fields.includes(target)) choose(current);
    isTyped = true;
    return;
  }
  if (key.length === 1 || KEYS[key]) event.preventDefault();
  if (!event.repeat || key.startsWith("Arrow")) KEYS[key]?.();
});

for (const [position, field] of fields.entries()) {
  field.addEventListener("focus", () => position !== current && choose(position));
  field.addEventListener("pointerdown", () => {
    field.inputMode = "numeric";
  });
  for (const button of field.parentElement.querySelectorAll("button")) {
    button.addEventListener("click", () => change(Number(button.value), position));
  }
}
figure.addEventListener("mousedown", (event) => event.preventDefault()); // keeps the focus in the field
figure.addEventListener("click", click);
page.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  store(event.submitter?.value === "cannot tell");
});
backButton.addEventListener("click", back);
playButton?.addEventListener("click", () => play());
async function start() {
  who.hidden = true;
  await send(); // so that the viewer knows what was counted
  load();
  setInterval(send, RETRY_MS);
  setInterval(load, RETRY_MS);
  if (line) setInterval(() => isPlaying && !page.hidden && turn(1), PLAY_MS);
}

who.addEventListener("submit", (event) => {
  event.preventDefault();
  by = who.elements.by.value;
  localStorage.setItem(NAME, by);
  start();
});
state.textContent = "";
who.hidden = Boolean(by);
if (by) start();
