"use strict";

// Values under the pointer, or at what has the keyboard's focus.
const tip = document.getElementById("tip");

function show(target, x, y) {
  const holder = target.closest && target.closest("[data-tip]");
  tip.hidden = !holder;
  if (!holder) return;
  tip.textContent = holder.dataset.tip;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(x + 12, innerWidth - box.width - 4)) + "px";
  tip.style.top = (y - box.height - 12 < 4 ? y + 16 : y - box.height - 12) + "px";
}

for (const kind of ["pointermove", "pointerdown"]) {
  document.addEventListener(kind, (event) => show(event.target, event.clientX, event.clientY));
}
document.addEventListener("focusin", (event) => {
  const box = event.target.getBoundingClientRect();
  if (event.target.matches(":focus-visible")) show(event.target, box.right, box.top);
});
document.addEventListener("scroll", () => { tip.hidden = true; }, true);

// Tables are sorted by the column whose name is clicked; numbers from the largest at first.
for (const button of document.querySelectorAll(".sort")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const rows = [...body.rows], key = (row) => row.cells[head.cellIndex].dataset.key;
    const numbers = rows.every((row) => !Number.isNaN(Number(key(row).replace("-inf", "-Infinity"))));
    const before = head.getAttribute("aria-sort");
    const up = before ? before === "descending" : !numbers;
    const number = (row) => Number(key(row).replace("-inf", "-Infinity"));
    rows.sort((a, b) => numbers
      ? (number(a) === number(b) ? 0 : number(a) < number(b) ? -1 : 1)
      : key(a).localeCompare(key(b), undefined, { numeric: true }));
    if (!up) rows.reverse();
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  });
}

// Images are enlarged when they are clicked.
const large = document.getElementById("large");
for (const tile of document.querySelectorAll(".tile")) {
  tile.addEventListener("click", () => {
    large.classList.toggle("pixels", tile.closest(".pixels") !== null);
    large.querySelector("div").replaceChildren(...[...tile.children].map((one) => one.cloneNode()));
    large.querySelector("p").textContent = tile.dataset.tip;
    tip.hidden = true;
    large.showModal();
  });
}
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });

const save = document.getElementById("save");
if (save) {
  save.addEventListener("click", () => {
    const link = document.createElement("a");
    const content = document.getElementById("results").textContent;
    link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
    link.download = "results.json";
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
