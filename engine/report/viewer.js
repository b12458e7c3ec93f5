"use strict";

// Tables that sort: a click on a column's title sorts by its leading number, else by its text.
for (const table of document.querySelectorAll("table")) {
  const titles = [...table.tHead.rows[0].cells];
  titles.forEach((title, column) => {
    title.firstElementChild.addEventListener("click", () => {
      const descending = title.getAttribute("aria-sort") === "ascending";
      for (const other of titles) other.removeAttribute("aria-sort");
      title.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const body = table.tBodies[0];
      const keyed = [...body.rows].map((row) => {
        const text = row.cells[column].textContent.trim();
        return { row, text, number: parseFloat(text) };
      });
      keyed.sort((a, b) => {
        if (Number.isNaN(a.number) !== Number.isNaN(b.number)) return Number.isNaN(a.number) ? 1 : -1;
        const order = Number.isNaN(a.number)
          ? a.text.localeCompare(b.text) : a.number - b.number;
        return descending ? -order : order;
      });
      body.append(...keyed.map((entry) => entry.row));
    });
  });
}

const place = document.getElementById("viewer");
if (place) startViewer(place, JSON.parse(document.getElementById("viewer-data").textContent));

function startViewer(root, data) {
  const state = {
    stack: 0, slice: 0, mode: "beside", residual: false, low: data.low, high: data.high,
    spread: 100, zoom: 1, y: 0.5, x: 0.5, curtain: 0.5, one: 0, other: 1, chosen: new Set(),
  };
  const unpacked = new Map(); // slices by "stack/image/slice"
  let asked = 0; // drawings; only the newest is drawn

  // -- Elements ------------------------------------------------------------------------------

  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name in made && name !== "list") made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };
  const group = (name, ...children) => {
    const title = element("span", { className: "title" }, name);
    const made = element("div", { className: "group" }, title, ...children);
    made.setAttribute("role", "group");
    made.setAttribute("aria-label", name);
    return made;
  };
  const labelled = (text, input) => element("label", {}, text, input);
  const set = (change) => { Object.assign(state, change); show(); };
  const choice = (id, names, chosen, change) => {
    const options = names.map((name, i) =>
      element("option", { value: String(i), selected: i === chosen }, name));
    const made = element("select", { id }, ...options);
    made.addEventListener("change", () => change(Number(made.value)));
    return made;
  };
  const button = (text, pressed, act, id = "") => {
    const made = element("button", { type: "button", id }, text);
    if (pressed !== null) made.setAttribute("aria-pressed", String(pressed));
    made.addEventListener("click", act);
    return made;
  };
  const number = (id, value, change) => {
    const made = element("input", { type: "number", id, value: String(value), step: "10" });
    made.addEventListener("change", () => {
      if (made.value !== "" && Number.isFinite(Number(made.value))) change(Number(made.value));
    });
    return made;
  };
  const range = (id, min, max, step, value, change) => {
    const made = element("input", { type: "range", id, min, max, step, value });
    made.addEventListener("input", () => change(Number(made.value)));
    return made;
  };

  const stackNow = () => data.stacks[state.stack];
  const names = () => stackNow().images.map((image) => image.name);
  const reference = () => Math.max(0, names().indexOf(data.noisy)); // of residuals

  const sliceInput = range("slice", 0, 0, 1, 0, (value) => set({ slice: value }));
  const sliceCount = element("span", { className: "count" });
  const stackChoice = choice("stack", data.stacks.map((stack) => stack.name), 0, (value) => {
    const depth = data.stacks[value].numbers.length;
    set({ stack: value, slice: Math.min(state.slice, depth - 1) });
  });
  const besideButton = button("side by side", true, () => set({ mode: "beside" }), "beside");
  const curtainButton = button("curtain", false, () => set({ mode: "curtain" }), "curtain");
  const residualInput = element("input", { type: "checkbox", id: "residual" });
  residualInput.addEventListener("change", () => set({ residual: residualInput.checked }));
  const presets = data.presets.map((preset, i) => button(preset.name, false,
    () => set({ low: preset.low, high: preset.high }), `preset-${i}`));
  const levelInput = number("level", 0, (value) => {
    const half = (state.high - state.low) / 2;
    set({ low: value - half, high: value + half });
  });
  const widthInput = number("width", 0, (value) => {
    const middle = (state.high + state.low) / 2;
    if (value > 0) set({ low: middle - value / 2, high: middle + value / 2 });
  });
  const spreadInput = number("spread", state.spread, (value) => {
    if (value > 0) set({ spread: value });
  });
  const oneChoice = choice("one", names(), 0, (value) => set({ one: value }));
  const otherChoice = choice("other", names(), 1, (value) => set({ other: value }));
  const curtainInput = range("position", 0, 1, 0.005, 0.5, (value) => set({ curtain: value }));
  const pickers = group("Images");
  const curtainControls = group("Curtain", labelled("left", oneChoice), labelled("right", otherChoice),
    labelled("position", curtainInput));
  const zoomText = element("span", { className: "count", style: "min-width: 3.5rem" });
  const images = element("div", { className: "images" });
  const readout = element("p", { className: "readout" });
  root.append(
    element("div", { className: "bar" },
      data.stacks.length > 1 ? labelled("Scan", stackChoice)
        : element("span", {}, data.stacks[0].name),
      labelled("Slice", sliceInput), sliceCount,
      group("Show", besideButton, curtainButton),
      labelled("residual", residualInput)),
    element("div", { className: "bar" },
      group("Window", ...presets,
        labelled("level", levelInput), labelled("width", widthInput),
        labelled("residual \u00b1", spreadInput), data.unit),
      group("Zoom", button("\u2212", null, () => zoomBy(0.5), "out"), zoomText,
        button("+", null, () => zoomBy(2), "in"),
        button("whole", null, () => set({ zoom: 1, y: 0.5, x: 0.5 }), "whole"))),
    element("div", { className: "bar" }, pickers, curtainControls),
    images, readout);
  root.querySelector("#out").setAttribute("aria-label", "zoom out");
  root.querySelector("#in").setAttribute("aria-label", "zoom in");

  data.stacks[0].images.forEach((image, i) => {
    if (i < 4) state.chosen.add(image.name);
    const input = element("input", { type: "checkbox", checked: i < 4, id: `image-${i}` });
    input.addEventListener("change", () => {
      if (input.checked) state.chosen.add(image.name);
      else if (state.chosen.size > 1) state.chosen.delete(image.name);
      else input.checked = true;
      show();
    });
    pickers.append(labelled(input, image.name));
  });
  state.slice = Math.floor(stackNow().numbers.length / 2);
  state.other = Math.min(names().length - 1, reference() + 1);
  state.one = reference();
  oneChoice.value = String(state.one);
  otherChoice.value = String(state.other);

  // -- Slices --------------------------------------------------------------------------------

  async function unpack(stack, image, slice) {
    const key = `${stack}/${image}/${slice}`;
    if (!unpacked.has(key)) {
      unpacked.set(key, inflate(data.stacks[stack].images[image].slices[slice]));
    }
    return unpacked.get(key);
  }

  async function inflate(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const coded = new Uint8Array(await new Response(stream).arrayBuffer());
    const count = coded.length / 2;
    const values = new Int16Array(count);
    for (let i = 0, value = 0; i < count; i++) {
      const zigzag = coded[i] | (coded[count + i] << 8);
      value += (zigzag >>> 1) ^ -(zigzag & 1);
      values[i] = value; // wraps around like the differences did
    }
    return values;
  }

  // -- Drawing -------------------------------------------------------------------------------

  function frame(caption, label) {
    const [height, width] = stackNow().shape;
    const canvas = element("canvas", { width, height, tabIndex: 0 });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    const [dy, dx] = stackNow().spacing;
    const box = element("div", { className: "frame" }, canvas);
    box.style.aspectRatio = `${width * dx} / ${height * dy}`;
    const title = element("figcaption", { title: caption }, caption);
    images.append(element("figure", {}, title, box));
    listen(canvas);
    return { canvas, box, title };
  }

  let frames = [];
  let layout = "";
  function arrange() {
    const shown = state.mode === "curtain"
      ? [[state.one, state.other]]
      : names().map((name, i) => [i]).filter(([i]) => state.chosen.has(names()[i]));
    const wanted = JSON.stringify([state.stack, state.mode, shown]);
    if (wanted !== layout) {
      layout = wanted;
      images.replaceChildren();
      frames = shown.map((of) => {
        const title = of.map((i) => names()[i]).join(" | ");
        return { of, ...frame(title, title) };
      });
      if (state.mode === "curtain") {
        frames[0].edge = element("div", { className: "edge" });
        frames[0].box.append(frames[0].edge);
      }
      const columns = state.mode === "curtain" ? 1 : Math.min(frames.length, 4);
      const most = state.mode === "curtain" ? "min(100%, 44rem)" : "1fr";
      images.style.gridTemplateColumns = columns === 1
        ? "min(100%, 44rem)" : `repeat(${columns}, minmax(0, ${most}))`;
    }
    return frames;
  }

  function grey(values, noisy) {
    const residual = state.residual;
    const low = residual ? -state.spread : state.low;
    const width = residual ? 2 * state.spread : state.high - state.low;
    const [height, across] = stackNow().shape;
    const pixels = new ImageData(across, height);
    const out = new Uint32Array(pixels.data.buffer);
    for (let i = 0; i < values.length; i++) {
      const value = residual ? noisy[i] - values[i] : values[i];
      const level = Math.min(255, Math.max(0, Math.floor(255 * (value - low) / width + 0.5)));
      out[i] = 0xff000000 | (level * 0x10101);
    }
    return pixels;
  }

  const sheet = document.createElement("canvas");
  function paint(canvas, pixels, from = 0) {
    sheet.width = pixels.width;
    sheet.height = pixels.height;
    sheet.getContext("2d").putImageData(pixels, 0, 0);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const { width, height } = canvas;
    const [sx, sy, sw, sh] = seen(width, height);
    context.imageSmoothingEnabled = false;
    context.save();
    context.beginPath();
    context.rect(Math.round(from * width), 0, width, height);
    context.clip();
    context.drawImage(sheet, sx, sy, sw, sh, 0, 0, width, height);
    context.restore();
  }

  function seen(width, height) {
    const sw = width / state.zoom;
    const sh = height / state.zoom;
    return [state.x * (width - sw), state.y * (height - sh), sw, sh];
  }

  async function show() {
    const ticket = ++asked;
    root.dataset.pending = "yes"; // until the newest drawing is done
    controls();
    const now = arrange();
    const needed = [...new Set(now.flatMap((each) => each.of).concat(reference()))];
    const got = new Map(await Promise.all(needed.map(async (image) =>
      [image, await unpack(state.stack, image, state.slice)])));
    if (ticket !== asked) return; // a newer drawing was asked for meanwhile
    const noisy = got.get(reference());
    for (const { canvas, of, edge, title } of now) {
      paint(canvas, grey(got.get(of[0]), noisy));
      if (of.length > 1) {
        paint(canvas, grey(got.get(of[1]), noisy), state.curtain);
        edge.style.left = `${100 * state.curtain}%`;
      }
      const what = of.map((i) => names()[i]).join(" | ");
      title.textContent = state.residual ? `residual of ${what}` : what;
      canvas.setAttribute("aria-label", `${title.textContent}, slice ${sliceCount.textContent}`);
    }
    root.dataset.state = JSON.stringify({ ...state, chosen: [...state.chosen] });
    delete root.dataset.pending;
  }

  function controls() {
    const stack = stackNow();
    sliceInput.max = String(stack.numbers.length - 1);
    sliceInput.value = String(state.slice);
    sliceInput.disabled = stack.numbers.length < 2;
    sliceCount.textContent = `${stack.numbers[state.slice]} (0 to ${stack.depth - 1})`;
    sliceInput.setAttribute("aria-valuetext", `slice ${sliceCount.textContent}`);
    besideButton.setAttribute("aria-pressed", String(state.mode === "beside"));
    curtainButton.setAttribute("aria-pressed", String(state.mode === "curtain"));
    pickers.hidden = state.mode === "curtain";
    curtainControls.hidden = state.mode !== "curtain";
    curtainInput.value = String(state.curtain);
    data.presets.forEach((preset, i) => presets[i].setAttribute("aria-pressed",
      String(preset.low === state.low && preset.high === state.high)));
    levelInput.value = String((state.low + state.high) / 2);
    widthInput.value = String(state.high - state.low);
    spreadInput.value = String(state.spread);
    zoomText.textContent = `${state.zoom.toFixed(state.zoom % 1 ? 1 : 0)}\u00d7`;
  }

  // -- Pointer and keys ------------------------------------------------------------------------

  const inside = (value) => Math.min(1, Math.max(0, value));
  const zoomBy = (factor) => set({ zoom: Math.min(16, Math.max(1, state.zoom * factor)) });
  const pan = (dy, dx) => set({ y: inside(state.y + dy), x: inside(state.x + dx) });

  function listen(canvas) {
    let last = null;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
    };
    canvas.addEventListener("pointerdown", (event) => {
      last = at(event);
      canvas.setPointerCapture(event.pointerId);
      if (state.mode === "curtain" && state.zoom === 1) set({ curtain: inside(last[1]) });
    });
    canvas.addEventListener("pointerup", () => { last = null; });
    canvas.addEventListener("pointermove", (event) => {
      const [y, x] = at(event);
      tell(canvas, y, x);
      if (!last) return;
      if (state.mode === "curtain" && state.zoom === 1) set({ curtain: inside(x) });
      else if (state.zoom > 1) pan((last[0] - y) / (state.zoom - 1), (last[1] - x) / (state.zoom - 1));
      last = [y, x];
    });
    canvas.addEventListener("pointerleave", () => { readout.textContent = ""; });
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas && !event.ctrlKey) return; // the page scrolls
      event.preventDefault();
      zoomBy(event.deltaY < 0 ? 1.25 : 0.8);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = 0.25 / state.zoom;
      const most = stackNow().numbers.length - 1;
      const acts = {
        "+": () => zoomBy(2), "=": () => zoomBy(2), "-": () => zoomBy(0.5),
        "0": () => set({ zoom: 1, y: 0.5, x: 0.5 }),
        PageUp: () => set({ slice: Math.max(0, state.slice - 1) }),
        PageDown: () => set({ slice: Math.min(most, state.slice + 1) }),
        ArrowUp: () => pan(-step, 0), ArrowDown: () => pan(step, 0),
        ArrowLeft: () => pan(0, -step), ArrowRight: () => pan(0, step),
      };
      if (!(event.key in acts) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      acts[event.key]();
    });
  }

  async function tell(canvas, y, x) {
    const [sx, sy, sw, sh] = seen(canvas.width, canvas.height);
    const row = Math.min(canvas.height - 1, Math.max(0, Math.floor(sy + y * sh)));
    const column = Math.min(canvas.width - 1, Math.max(0, Math.floor(sx + x * sw)));
    const { stack, slice } = state;
    const values = await Promise.all(names().map(async (name, i) =>
      `${name} ${(await unpack(stack, i, slice))[row * canvas.width + column]}`));
    const [top, left] = stackNow().start;
    readout.textContent = `row ${top + row}, column ${left + column} (${data.unit}): ${values.join(", ")}`;
  }

  root.setAttribute("tabindex", "-1");
  show();
}
