"use strict";
// Only what reading does not need: other tints, filters, order, search and keys for the responses.
(() => {
  const section = document.getElementById("responses");
  const controls = section?.querySelector(".controls");
  if (!controls) return;
  const LEVELS = 15, PAGE = 30, BATCH = 20;
  const MARKS = ["", " above", " visual", " above visual"];
  const named = (name) => controls.querySelector(`[name="${name}"]`);
  const [mode, verdict, order, search] = ["mode", "verdict", "order", "search"].map(named);
  const status = controls.querySelector("output");
  const all = controls.querySelector("button");
  const readout = section.querySelector(".readout");
  const swatches = [...section.querySelectorAll(".legend .scale i")];
  const unit = section.querySelector(".legend .scale .label");
  const groups = [...section.querySelectorAll(".group")];
  const cards = [...section.querySelectorAll(".response")];
  const searched = new Map();
  const modes = [...mode.options].map((option) => option.textContent);
  let arranged = cards;
  let current = null;
  let limited = true;

  const columnOf = (card, place) => (card.dataset[`v${place}`] || "").split(",");

  // the tokens of a card, one list for each paragraph of them: text, mark and place in the card
  const partsOf = (card) => {
    let first = 0;
    return [...card.querySelectorAll(".tokens[data-n]")].map((paragraph) => {
      const text = paragraph.textContent, marks = paragraph.dataset.marks || "";
      let start = 0;
      const tokens = (paragraph.dataset.n ? paragraph.dataset.n.split(",") : []).map((length, index) => {
        const end = start + Number(length);
        const token = { text: text.slice(start, end), start, end, mark: Number(marks[index] || 0), place: first++ };
        start = end;
        return token;
      });
      return { paragraph, tokens };
    });
  };

  // the classes of a number: its tint, and which side of 0 it lies on
  const linear = () => /weight$|credit$/.test(modes[mode.value]);
  const classesOf = (text) => {
    if (!text) return "";
    const value = Number(text), size = Math.abs(value);
    const share = linear() ? size / 3 : Math.log(Math.max(size, 0.01) / 0.01) / Math.log(1000);
    const level = Math.round(LEVELS * Math.min(share, 1));
    return level ? `t${level}${value < 0 ? " cold" : ""}` : "";
  };

  // neighbours of the same classes are one element, as in the page as it comes
  const paint = (card) => {
    const column = columnOf(card, mode.value);
    for (const { paragraph, tokens } of partsOf(card)) {
      const pieces = [];
      let name = null, text = "";
      const finish = () => {
        if (!text) return;
        const core = name ? text.trimStart() || text : "";
        pieces.push(text.slice(0, text.length - core.length));
        if (!core) return;
        const run = document.createElement("i");
        run.className = name;
        run.textContent = core;
        pieces.push(run);
      };
      for (const token of tokens) {
        const own = `${classesOf(column[token.place])}${MARKS[token.mark]}`.trim();
        if (own !== name) {
          finish();
          [name, text] = [own, ""];
        }
        text += token.text;
      }
      finish();
      paragraph.replaceChildren(...pieces);
    }
    card.dataset.painted = mode.value;
  };

  // the page comes tinted by its first column; cards far from the window are painted when they near
  const stale = (card) => (card.dataset.painted || "0") !== mode.value;
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) [...target.children].filter(stale).forEach(paint);
    }
  }, { rootMargin: "100%" });
  const repaint = () => {
    watcher.disconnect();
    section.querySelectorAll(".batch").forEach((batch) => watcher.observe(batch));
  };

  const legend = () => {
    const signed = modes[mode.value].endsWith("log-ratio");
    const labels = linear() ? ["0", "0.5", "1", "1.5", "2", "2.5", "≥ 3"]
      : signed ? ["≤ −10", "−1", "−0.1", "0", "0.1", "1", "≥ 10"]
      : ["≤ 0.01", "0.03", "0.1", "0.3", "1", "3", "≥ 10"];
    const values = linear() ? [0, 0.5, 1, 1.5, 2, 2.5, 3]
      : signed ? [-10, -1, -0.1, 0, 0.1, 1, 10] : [0.01, 0.03, 0.1, 0.3, 1, 3, 10];
    swatches.forEach((swatch, index) => {
      swatch.textContent = labels[index];
      swatch.className = classesOf(String(values[index]));
    });
    unit.textContent = modes[mode.value] + (linear() ? "" : ", nats");
  };

  const ordering = {
    rank: () => 0,
    dependency: (a, b) => b - a,
    "dependency-up": (a, b) => a - b,
    length: (a, b) => b - a,
    reward: (a, b) => b - a,
  };
  const keyOf = (card) => {
    const value = card.dataset[order.value.replace("-up", "")];
    return value ? Number(value) : order.value.endsWith("-up") ? Infinity : -Infinity;
  };
  const compare = (one, other) => {
    const [a, b] = [keyOf(one), keyOf(other)];
    return a === b ? 0 : ordering[order.value](a, b);
  };
  const textOf = (card) => {
    if (!searched.has(card)) {
      searched.set(card, card.querySelector(".reading").textContent.toLowerCase());
    }
    return searched.get(card);
  };
  const batches = (list) => {
    const made = [];
    for (let start = 0; start < list.length; start += BATCH) {
      const batch = document.createElement("div");
      batch.append(...list.slice(start, start + BATCH));
      batch.className = batch.children.length === BATCH ? "batch full" : "batch";
      made.push(batch);
    }
    return made;
  };

  const apply = () => {
    const wanted = search.value.trim().toLowerCase();
    let matching = 0;
    arranged = [];
    for (const group of groups) {
      const fits = verdict.value === "" || verdict.value === group.dataset.group;
      const own = !fits ? [] : cards.filter((card) => card.dataset.group === group.dataset.group
        && (!wanted || textOf(card).includes(wanted)));
      if (order.value !== "rank") own.sort(compare);
      matching += own.length;
      const shown = limited ? own.slice(0, Math.max(0, PAGE - arranged.length)) : own;
      arranged.push(...shown);
      group.hidden = !fits;
      group.replaceChildren(group.querySelector("h3"), ...batches(shown));
    }
    all.hidden = arranged.length === matching;
    status.textContent = `${arranged.length} of ${matching} matching responses shown`;
    current = null;
    repaint();
  };

  const step = (by) => {
    const list = arranged.filter((card) => !card.closest("details.more:not([open])"));
    if (!list.length) return;
    const place = current ? list.indexOf(current) + by : 0;
    current = list[Math.min(Math.max(place, 0), list.length - 1)];
    current.focus({ preventScroll: true });
    current.scrollIntoView({ block: "start" });
  };
  const keys = {
    j: () => step(1),
    k: () => step(-1),
    "/": () => search.focus(),
    t: () => {
      mode.value = (Number(mode.value) + 1) % modes.length;
      mode.dispatchEvent(new Event("change"));
    },
  };

  mode.addEventListener("change", () => { legend(); repaint(); });
  for (const control of [verdict, order]) {
    control.addEventListener("change", () => { limited = true; apply(); });
  }
  search.addEventListener("input", () => { limited = true; apply(); });
  search.addEventListener("keydown", (event) => { if (event.key === "Escape") search.blur(); });
  all.addEventListener("click", () => { limited = false; apply(); });
  controls.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, button, textarea")) return;
    if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });

  // which character lies below the pointer, and so which token
  const pointedAt = (event) => {
    const paragraph = event.target.closest(".tokens[data-n]");
    if (!paragraph) return null;
    const caret = document.caretPositionFromPoint
      ? document.caretPositionFromPoint(event.clientX, event.clientY)
      : document.caretRangeFromPoint?.(event.clientX, event.clientY);
    const node = caret?.offsetNode ?? caret?.startContainer;
    if (!node || !paragraph.contains(node)) return null;
    const before = document.createRange();
    before.setStart(paragraph, 0);
    before.setEnd(node, caret.offset ?? caret.startOffset);
    // a caret stands between two characters: the one whose box holds the pointer is meant
    const at = before.toString().length;
    const card = paragraph.closest(".response");
    const { tokens } = partsOf(card).find((part) => part.paragraph === paragraph);
    for (const place of [at, at - 1]) {
      const token = tokens.find(({ start, end }) => start <= place && place < end);
      const range = token && rangeOf(paragraph, token);
      const inside = range && [...range.getClientRects()].some((box) => box.left <= event.clientX
        && event.clientX <= box.right && box.top <= event.clientY && event.clientY <= box.bottom);
      if (inside) return { card, token, range };
    }
    return null;
  };
  const rangeOf = (paragraph, { start, end }) => {
    const range = document.createRange();
    const walker = document.createTreeWalker(paragraph, NodeFilter.SHOW_TEXT);
    let place = 0, begun = false;
    while (walker.nextNode()) {
      const next = place + walker.currentNode.length;
      if (!begun && start < next) {
        range.setStart(walker.currentNode, start - place);
        begun = true;
      }
      if (begun && end <= next) {
        range.setEnd(walker.currentNode, end - place);
        return range;
      }
      place = next;
    }
    return null;
  };
  const point = (event) => {
    const found = pointedAt(event);
    readout.hidden = !found;
    CSS.highlights?.delete("pointed");
    if (!found) return;
    const { card, token, range } = found;
    if (CSS.highlights) CSS.highlights.set("pointed", new Highlight(range));
    const values = modes.map((name, place) => [name, columnOf(card, place)[token.place]]);
    const known = values.filter(([, value]) => value).map(([name, value]) => {
      return `${name} ${String(Number(value)).replace("-", "−")}`;
    });
    const above = MARKS[token.mark].includes("above") ? ["above threshold"] : [];
    const text = token.text.slice(0, 40).replace(/ /g, "␣");
    readout.textContent = [text, ...known, ...above].join(" · ");
  };
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  section.classList.add("live");
  controls.hidden = false;
  repaint();
})();
