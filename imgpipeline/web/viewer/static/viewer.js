// Keyboard shortcuts, box toggles, auto-submitted forms, and updates from the server. Pages also work without it.

const LOOK_MS = 5000;
const main = document.querySelector("main");

function follow(rel) {
  const link = document.querySelector(`main a[rel="${rel}"]`);
  if (link) link.click();
}

function isTyping(event) {
  return event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, .scroll");
}

function withNext(problem, next) {
  return next ? `${problem} Next: ${next}.` : problem;
}

// In a grid, arrow keys move the focus between cards.
function moveInGrid(key) {
  const cards = [...document.querySelectorAll("[data-grid] .card")];
  if (!cards.length) return false;
  const at = cards.indexOf(document.activeElement);
  const tops = cards.map((card) => card.getBoundingClientRect().top);
  const columns = Math.max(1, tops.filter((top) => Math.abs(top - tops[0]) < 2).length);
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[key];
  if (step === undefined || (at < 0 && step < 0)) return false;
  const to = at < 0 ? 0 : Math.min(cards.length - 1, Math.max(0, at + step));
  cards[to].focus();
  cards[to].scrollIntoView({ block: "nearest" });
  return true;
}

// Marks the focused frame of the grid as reviewed, or removes the mark.
async function toggleReviewed(card) {
  const reviewed = !card.classList.contains("reviewed");
  const problem = document.getElementById("mark-problem");
  try {
    const answer = await fetch("/api/v1/reviewed", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        day: card.dataset.day,
        frames: [card.dataset.frame],
        reviewed,
        timezone: card.closest("[data-timezone]").dataset.timezone,
      }),
    });
    const said = await answer.json();
    problem.textContent = answer.ok ? "" : withNext(said.error, said.next);
    if (!answer.ok) return;
    card.classList.toggle("reviewed", reviewed);
    const count = document.getElementById("reviewed-count");
    if (count) count.textContent = said.reviewed.toLocaleString("en");
  } catch {
    problem.textContent = "The viewer does not answer.";
  }
}

// Plays newer frames one after another while the URL ends with `#play`.
const PLAY_MS = 700;
let playing = 0;

function isPlaying() {
  return location.hash === "#play";
}

function play() {
  const button = document.getElementById("play");
  const newer = document.querySelector('main a[rel="prev"]');
  clearTimeout(playing);
  if (!newer) history.replaceState(null, "", location.pathname + location.search);
  button.textContent = isPlaying() ? "Stop" : "Play";
  button.setAttribute("aria-pressed", String(isPlaying()));
  if (isPlaying()) playing = setTimeout(() => location.replace(`${newer.href}#play`), PLAY_MS);
}

function togglePlaying() {
  history.replaceState(null, "", location.pathname + location.search + (isPlaying() ? "" : "#play"));
  play();
}

function playFromGrid() {
  const cards = [...document.querySelectorAll("[data-grid] .card")];
  const card = cards.includes(document.activeElement) ? document.activeElement : cards.at(-1);
  if (card) location.assign(`${card.href}#play`);
}

function toggleBoxes() {
  document.body.classList.toggle("no-boxes");
}

document.addEventListener("keydown", (event) => {
  if (isTyping(event)) return;
  const inGrid = Boolean(document.querySelector("[data-grid]"));
  const isFrame = Boolean(document.querySelector(".picture.large"));
  if (event.key === "b") toggleBoxes();
  else if (event.key === " " && (inGrid || isFrame) && !event.target.closest("button, summary")) {
    event.preventDefault();
    if (isFrame) togglePlaying();
    else playFromGrid();
  } else if (inGrid && event.key === "r" && event.target.matches("[data-timezone] .card")) toggleReviewed(event.target);
  else if (isFrame && event.key === "r") document.querySelector("#mark button")?.click();
  else if (inGrid && event.key === "n") follow("next");
  else if (inGrid && event.key === "p") follow("prev");
  else if (inGrid && moveInGrid(event.key)) event.preventDefault();
  else if (isFrame && event.key === "t") document.querySelector('#toggles [value="tracks"]')?.click();
  else if (isFrame && event.key === "z") document.querySelector('#toggles [value="places"]')?.click();
  else if (isFrame && event.key === "ArrowRight") follow("next");
  else if (isFrame && event.key === "ArrowLeft") follow("prev");
  else if (isFrame && event.key === "u") document.querySelector(".pager a:not([rel])").click();
});

// Escape and a click elsewhere close the menu.
const menu = document.querySelector(".menu");
document.addEventListener("click", (event) => {
  if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !menu.open) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// A day and a range of days exclude each other: choosing one clears the other.
function emptyOtherDays(form, chosen) {
  const others = { day: ["from", "to"], from: ["day"], to: ["day"] }[chosen] || [];
  for (const name of others) if (form.elements[name]) form.elements[name].value = "";
}

for (const form of document.querySelectorAll("form[data-submit-on-change]")) {
  form.addEventListener("change", (event) => {
    emptyOtherDays(form, event.target.name);
    form.requestSubmit();
  });
  // Keeps empty fields out of the URL.
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
  });
}

const playButton = document.getElementById("play");
if (playButton) {
  playButton.hidden = false;
  playButton.addEventListener("click", togglePlaying);
  play();
}

const toggles = document.getElementById("toggles");
if (toggles) {
  toggles.hidden = false;
  toggles.addEventListener("change", (event) => {
    for (const box of document.querySelectorAll(".picture g")) {
      if (box.dataset.toggle === event.target.value) box.classList.toggle("off", !event.target.checked);
    }
  });
}

const image = document.getElementById("image");
if (image) {
  const showMissing = () => {
    document.getElementById("image-missing").hidden = false;
    image.closest(".picture").classList.add("missing");
  };
  image.addEventListener("error", showMissing);
  if (image.complete && !image.naturalWidth) showMissing();
}
for (const thumbnail of document.querySelectorAll(".card img")) {
  const mark = () => thumbnail.closest(".picture").classList.add("missing");
  thumbnail.addEventListener("error", mark);
  if (thumbnail.complete && !thumbnail.naturalWidth) mark();
}

// Overview and live page update automatically. Other pages offer newer frames, so that nothing moves under the reader.
let revision = Number(document.body.dataset.revision);
let shownMs = performance.now();

function showProblem(message) {
  document.getElementById("away").hidden = !message;
  document.getElementById("away-why").textContent = message || "";
}

function showAges() {
  const passed = (performance.now() - shownMs) / 1000;
  for (const age of document.querySelectorAll("[data-age-s]")) {
    const seconds = Math.floor(Number(age.dataset.ageS) + passed);
    const [units, step] = seconds < 3600 ? [["min", "s"], 60] : seconds < 86400 ? [["h", "min"], 3600] : [["d", "h"], 86400];
    const rest = Math.floor((seconds % step) / { s: 1, min: 60, h: 3600 }[units[1]]);
    const parts = [[Math.floor(seconds / step), units[0]], [rest, units[1]]].filter(([count]) => count);
    age.textContent = parts.length ? `${parts.map((part) => part.join(" ")).join(" ")} ago` : "now";
  }
}

async function refresh() {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (document.activeElement.closest("main :is(select, input)")) return;
  const links = () => [...main.querySelectorAll("a, [tabindex]")];
  const focused = links().indexOf(document.activeElement);
  main.replaceChildren(...page.querySelector("main").childNodes);
  links()[focused]?.focus({ preventScroll: true });
  document.querySelector(".as-of time")?.replaceWith(page.querySelector(".as-of time"));
  shownMs = performance.now();
}

async function show(status) {
  showProblem(status.problem && revision ? withNext(status.problem, status.next) : "");
  if (status.revision === revision || status.revision === 0) return;
  revision = status.revision;
  if (document.querySelector("[data-follows]")) await refresh();
  else document.getElementById("news").hidden = false;
}

async function look() {
  try {
    await show(await (await fetch("/api/v1/status")).json());
  } catch {
    showProblem("The viewer does not answer. Is imgpipeline serve running?");
  }
}

// Listens for changes of the server. Browsers limit the connections per server, so hidden pages close theirs. While the
// stream is not open, the page polls instead.
let changes = null;

function listen() {
  if (document.visibilityState !== "visible") {
    changes?.close();
    changes = null;
  } else if (!changes || changes.readyState === EventSource.CLOSED) {
    changes = new EventSource("/api/v1/changes");
    changes.addEventListener("status", (event) => show(JSON.parse(event.data)));
    changes.addEventListener("error", look);
  }
}

listen();
document.addEventListener("visibilitychange", listen);
addEventListener("pagehide", () => changes?.close());
addEventListener("pageshow", listen);
setInterval(showAges, 1000);
setInterval(() => {
  listen();
  if (changes && changes.readyState !== EventSource.OPEN) look();
}, LOOK_MS);

// Lets people draw the box of a missing object on the image, in pixels of the original.
const drawing = document.querySelector("[data-draws-box] [name=box]");
const canvas = document.querySelector(".large svg.boxes");

if (drawing && canvas) {
  const figure = canvas.closest("figure");
  let start = null;
  let drawn = null;
  const pixel = (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const { width: across, height: down } = canvas.viewBox.baseVal;
    const scale = Math.min(width / across, height / down);
    const x = (event.clientX - left - (width - across * scale) / 2) / scale;
    const y = (event.clientY - top - (height - down * scale) / 2) / scale;
    return [Math.round(Math.min(Math.max(x, 0), across)), Math.round(Math.min(Math.max(y, 0), down))];
  };
  figure.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    start = pixel(event);
    figure.setPointerCapture(event.pointerId);
  });
  figure.addEventListener("pointermove", (event) => {
    if (!start) return;
    const end = pixel(event);
    const box = [0, 1].map((at) => Math.min(start[at], end[at])).concat([0, 1].map((at) => Math.abs(start[at] - end[at])));
    if (!box[2] || !box[3]) return;
    drawing.value = box.join(", ");
    if (!drawn) {
      drawn = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      drawn.setAttribute("class", "drawn");
      canvas.append(drawn);
    }
    for (const [at, name] of ["x", "y", "width", "height"].entries()) drawn.setAttribute(name, box[at]);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    figure.addEventListener(name, () => {
      start = null;
    });
  }
}
