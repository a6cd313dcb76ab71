// Texts are hidden until they are shown, one by one or all. The switch holds for this tab only.
"use strict";
const shownAll = () => sessionStorage.getItem("unharm-shown") === "1";
function showTexts(all) {
  for (const part of document.querySelectorAll("details.text")) part.open = all;
  const button = document.getElementById("reveal");
  button.setAttribute("aria-pressed", String(all));
  button.textContent = all ? "Hide all texts" : "Show all texts";
}
function toggle() {
  sessionStorage.setItem("unharm-shown", shownAll() ? "0" : "1");
  showTexts(shownAll());
}
document.getElementById("reveal").addEventListener("click", toggle);
if (shownAll()) showTexts(true);

// A form leaves its empty fields out of the address.
for (const form of document.querySelectorAll("form[method=get]"))
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  });

// The permanent link to what is seen.
for (const button of document.querySelectorAll("[data-copy-link]"))
  button.addEventListener("click", async () => {
    const before = button.textContent;
    try { await navigator.clipboard.writeText(location.href); button.textContent = "Copied"; }
    catch { button.textContent = location.pathname + location.search; }
    setTimeout(() => { button.textContent = before; }, 1500);
  });

// On a phone the filters begin closed, so that the list is in sight.
const filters = document.querySelector("details.filters");
if (filters && matchMedia("(max-width: 640px)").matches) filters.open = false;

// Keys: none of them acts while something is typed or with Ctrl, Alt or Meta.
function step(direction) {
  const link = document.querySelector(`a[data-key="${direction > 0 ? "j" : "k"}"]`);
  if (link) { link.click(); return; }
  const links = [...document.querySelectorAll("a.step")];
  if (!links.length) return;
  const at = links.indexOf(document.activeElement);
  links[Math.min(links.length - 1, Math.max(0, at + direction))].focus();
}
document.addEventListener("keydown", event => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
  if (typing || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "s") toggle();
  else if (event.key === "/" && document.getElementById("search")) document.getElementById("search").focus();
  else return;
  event.preventDefault();
});

// Labels: a click or the key of a label stores it and leads to the next completion without one.
const labels = document.querySelector(".labels");
async function label(button) {
  const problem = document.getElementById("problem");
  const body = {sheet: labels.dataset.sheet, run: labels.dataset.run, id: labels.dataset.id, value: button.dataset.value};
  try {
    const answer = await fetch("/label/save", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.problem);
    for (const one of labels.children) one.setAttribute("aria-pressed", String(one === button && button.dataset.value !== ""));
    document.getElementById("count").textContent = `${told.labelled} of ${told.of} labelled`;
    problem.textContent = "";
    if (labels.dataset.following && button.dataset.value !== "") location.assign(labels.dataset.following);
  } catch (error) { problem.textContent = error.message || "The label is not stored: the server does not answer."; }
}
if (labels) {
  for (const button of labels.children) button.addEventListener("click", () => label(button));
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const button = [...labels.children].find(one => one.dataset.labelKey === event.key);
    if (button) { event.preventDefault(); label(button); }
  });
}

// Progress of a run that goes on.
const live = document.getElementById("live");
let lastSeen = "";
async function refresh() {
  const state = live.querySelector("[data-state]").dataset.state;
  if (state !== "running" && state !== "silent") return;
  try {
    const answer = await fetch(live.dataset.source);
    if (answer.ok) {
      const text = await answer.text();
      const open = document.getElementById("status")?.open;
      if (text !== lastSeen) live.innerHTML = lastSeen = text;
      const details = document.getElementById("status");
      if (details && open !== undefined) details.open = open;
    }
  } catch { /* the server has ended: what is seen stays */ }
  setTimeout(refresh, 3000);
}
if (live) setTimeout(refresh, 3000);
