// Keys, box toggles, forms that submit themselves, and a look every few seconds whether the server shows something newer.
// Every page works without this module.

const LOOK_MS = 5000;
const main = document.querySelector("main");

function follow(rel) {
  const link = document.querySelector(`main a[rel="${rel}"]`);
  if (link) link.click();
}

function isTyping(event) {
  return event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, .scroll");
}

// The review grid: arrows move the focus from card to card, also up and down.
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

function toggleBoxes() {
  document.body.classList.toggle("no-boxes");
}

document.addEventListener("keydown", (event) => {
  if (isTyping(event)) return;
  const inGrid = Boolean(document.querySelector("[data-grid]"));
  const isFrame = Boolean(document.querySelector(".picture.large"));
  if (event.key === "b") toggleBoxes();
  else if (inGrid && event.key === "n") follow("next");
  else if (inGrid && event.key === "p") follow("prev");
  else if (inGrid && moveInGrid(event.key)) event.preventDefault();
  else if (isFrame && event.key === "ArrowRight") follow("next");
  else if (isFrame && event.key === "ArrowLeft") follow("prev");
  else if (isFrame && event.key === "u") document.querySelector(".pager a:not([rel])").click();
});

for (const form of document.querySelectorAll("form[data-submit-on-change]")) {
  form.addEventListener("change", () => form.requestSubmit());
  // Fields that are empty stay out of the URL.
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
  });
}

const toggles = document.getElementById("toggles");
if (toggles) {
  toggles.hidden = false;
  toggles.addEventListener("change", (event) => {
    for (const box of document.querySelectorAll(".picture.large g")) {
      if (box.dataset.label === event.target.value) box.classList.toggle("off", !event.target.checked);
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

// The overview shows news by itself; other pages offer it, so that nothing moves under the reader.
let revision = Number(document.body.dataset.revision);
let tag = "";

function showProblem(message) {
  document.getElementById("away").hidden = !message;
  document.getElementById("away-why").textContent = message || "";
}

async function refreshOverview() {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!main.contains(document.activeElement) || document.activeElement === main) {
    main.replaceChildren(...page.querySelector("main").childNodes);
    document.querySelector(".as-of time")?.replaceWith(page.querySelector(".as-of time"));
  }
}

async function look() {
  try {
    const answer = await fetch("/api/v1/status", { headers: tag ? { "If-None-Match": tag } : {} });
    tag = answer.headers.get("ETag") || "";
    const status = await answer.json();
    showProblem(status.problem && revision ? `${status.problem}${status.next ? ` Next: ${status.next}.` : ""}` : "");
    if (status.revision !== revision && status.revision > 0) {
      revision = status.revision;
      if (document.querySelector(".tiles")) await refreshOverview();
      else document.getElementById("news").hidden = false;
    }
  } catch {
    showProblem("The viewer does not answer; is imgpipeline serve running?");
  }
}

setInterval(() => document.visibilityState === "visible" && look(), LOOK_MS);
