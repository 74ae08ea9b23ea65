"use strict";
// The report's own script: contents, marks of charts by pointer and keys, and the browser of test rows. It asks nobody for anything.

const PAGE = 20;
const element = (name, text, className) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};

// ---- contents

for (const heading of document.querySelectorAll("main h2[id]")) {
  const link = element("a", heading.textContent);
  link.href = `#${heading.id}`;
  const item = element("li");
  item.append(link);
  document.getElementById("contents").append(item);
}

// ---- charts: each mark's words, where the pointer is and by arrow keys

const tip = document.getElementById("tip");
const showTip = (mark) => {
  tip.textContent = mark.getAttribute("aria-label");
  tip.hidden = false;
  const box = mark.getBoundingClientRect();
  const left = Math.min(box.left + (box.width - tip.offsetWidth) / 2, document.documentElement.clientWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left) + scrollX}px`;
  tip.style.top = `${box.top - tip.offsetHeight - 6 + scrollY}px`;
};
const hideTip = () => {
  tip.hidden = true;
  document.querySelector(".current")?.classList.remove("current");
};

for (const chart of document.querySelectorAll(".chart")) {
  const marks = [...chart.querySelectorAll('[aria-roledescription="point"], [aria-roledescription="bar"], [aria-roledescription="rect"], [role="graphics-symbol"][aria-label]')]
    .filter((mark) => !/axis|legend|title/.test(mark.getAttribute("aria-roledescription")));
  let at = -1;
  const go = (to) => {
    hideTip();
    at = (to + marks.length) % marks.length;
    marks[at].classList.add("current");
    showTip(marks[at]);
  };
  chart.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: marks.length - 1 };
    if (event.key === "Escape") hideTip();
    if (!(event.key in steps) || !marks.length) return;
    event.preventDefault();
    go(at < 0 && event.key.startsWith("Arrow") ? 0 : steps[event.key]);
  });
  chart.addEventListener("blur", () => { at = -1; hideTip(); });
  for (const mark of marks) {
    mark.addEventListener("pointerenter", () => showTip(mark));
    mark.addEventListener("pointerleave", hideTip);
  }
}

// ---- test rows

const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("filters");
if (form) browse();

function browse() {
  const shown = document.getElementById("shown-rows");
  const pager = document.getElementById("pager");
  const slices = Object.entries(data.slices).map(([kind, names]) => {
    const label = element("label", kind[0].toUpperCase() + kind.slice(1) + " ");
    const select = element("select");
    select.name = `slice-${kind}`;
    select.append(new Option("all", ""), ...names.map((name) => new Option(name, name)));
    label.append(select);
    document.getElementById("slices-chosen").append(label);
    return [kind, select];
  });
  const inList = data.lists.map((_, list) => data.rows.filter((row) => row.in.includes(list)).length);
  form.elements.list.append(...data.lists
    .map((name, list) => new Option(`${name} (${inList[list].toLocaleString("en")})`, list))
    .filter((_, list) => inList[list]));
  form.elements.order.append(...data.sorts.map((name, place) => new Option(name, place)));
  form.elements.order.parentElement.hidden = !data.sorts.length;
  form.hidden = false;
  let found = [];
  let from = 0;

  const text = (content) => (typeof content === "number" ? data.prompts[content] : content);
  const words = (row) => (row.words ??= [row.id, ...row.messages.map(([, content]) => text(content)), ...row.references, ...Object.values(row.answers)]
    .join("\n").toLowerCase());
  const wanted = () => form.elements.search.value.trim().toLowerCase();

  function find() {
    const search = wanted();
    const list = form.elements.list.value;
    const chosen = slices.filter(([, select]) => select.value);
    found = data.rows.filter((row) =>
      (list === "" || row.in.includes(Number(list))) &&
      chosen.every(([kind, select]) => row.slices?.[kind]?.includes(select.value)) &&
      (search === "" || words(row).includes(search)));
    const order = form.elements.order.value;
    if (order !== "") found.sort((one, other) => (one.by[order] ?? Infinity) - (other.by[order] ?? Infinity));
    from = 0;
    draw();
  }

  function draw() {
    shown.replaceChildren(...found.slice(from, from + PAGE).map(card));
    const count = found.length.toLocaleString("en");
    document.getElementById("found").textContent = `${count} of ${data.rows.length.toLocaleString("en")} rows`;
    const last = Math.min(from + PAGE, found.length);
    document.getElementById("place").textContent = found.length ? `${(from + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${count}` : "none";
    const [back, further] = pager.querySelectorAll("button");
    back.disabled = from === 0;
    further.disabled = last >= found.length;
    pager.hidden = found.length <= PAGE;
  }

  function card(row) {
    const details = element("details", undefined, "row");
    const summary = element("summary");
    const prompt = row.messages.filter(([role]) => role === "prompt").at(-1)?.[1] ?? row.id;
    const gist = element("span", undefined, "gist");
    write(gist, prompt.length > 300 ? `${prompt.slice(0, 300)}…` : prompt);
    const marks = element("span", undefined, "marks");
    for (const [key, title] of data.systems) {
      if (!(key in row.marks)) continue;
      marks.append(element("span", `${title} ${row.marks[key]}`, key === "student" ? "student" : ""), " ");
    }
    summary.append(gist, marks);
    details.append(summary);
    // Most rows are never opened: what stands in them is made when they are.
    details.addEventListener("toggle", () => { if (details.children.length === 1) details.append(body(row)); });
    return details;
  }

  function body(row) {
    const list = element("dl", undefined, "pairs");
    const add = (name, content, className) => {
      const value = element("dd", undefined, className);
      write(value, content);
      list.append(element("dt", name), value);
    };
    for (const [role, content] of row.messages) add(role, text(content));
    for (const reference of row.references) add("reference", reference);
    for (const [key, title] of data.systems) {
      if (!(key in row.answers)) continue;
      const score = key in row.marks ? `  ${row.marks[key]}` : "";
      const sure = row.sure?.[key] ? `\nmost likely: ${row.sure[key]}` : "";
      add(title + score, row.answers[key] + sure, key === "student" ? "student" : "");
    }
    if (row.judged) add("judge", row.judged);
    for (const [kind, names] of Object.entries(row.slices ?? {})) add(kind, names.join(", "));
    add("id", row.id);
    return list;
  }

  // Text with what was searched for marked.
  function write(into, content) {
    const search = wanted();
    const lower = content.toLowerCase();
    let at = 0;
    for (let hit = search ? lower.indexOf(search) : -1; hit >= 0; hit = lower.indexOf(search, at)) {
      into.append(content.slice(at, hit), element("mark", content.slice(hit, hit + search.length)));
      at = hit + search.length;
    }
    into.append(content.slice(at));
  }

  const turn = (pages) => { from += pages * PAGE; draw(); document.getElementById("rows").scrollIntoView(); };
  const [back, further] = pager.querySelectorAll("button");
  back.addEventListener("click", () => turn(-1));
  further.addEventListener("click", () => turn(1));
  form.addEventListener("submit", (event) => event.preventDefault());
  let waiting;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(find, 120); };
  // A search box tells of each letter, and once more when it is left, which must not fold the row that was clicked.
  form.elements.search.addEventListener("input", soon);
  form.addEventListener("change", (event) => { if (event.target !== form.elements.search) soon(); });
  find();
}

// ---- print: what is folded away on the screen stands open on paper

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details.record, main > section > details")) details.open = true;
});
