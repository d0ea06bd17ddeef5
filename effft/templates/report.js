(() => {
  "use strict";
  const $$ = (query, at = document) => [...at.querySelectorAll(query)];
  const data = JSON.parse(document.getElementById("data").textContent);
  const { measures, groups, amounts, backbones, references } = data;
  const place = Object.fromEntries(measures.map((m, i) => [m.key, i]));
  const first = (kind, otherwise) => (measures.find((m) => m.kind === kind) || otherwise || {}).key;
  const state = { backbone: backbones[0], amount: "", y: place[data.home] === undefined ? first("score", measures[0]) : data.home, x: first("cost", measures[0]), pinned: new Set(), hover: "", zoom: true };

  // ---- elements, scales, numbers

  const fill = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== false && value !== undefined) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  };
  const html = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const ink = (node, look) => {
    node.classList.add("ink");
    node.style.setProperty("--l", look[0]);
    node.style.setProperty("--d", look[1]);
    return node;
  };
  const polygon = (corners, turn, radius, inner) => {
    const points = [];
    for (let i = 0; i < corners * (inner ? 2 : 1); i++) {
      const angle = turn + (i * 2 * Math.PI) / (corners * (inner ? 2 : 1)), r = inner && i % 2 ? inner : radius;
      points.push(`${(r * Math.sin(angle)).toFixed(2)} ${(-r * Math.cos(angle)).toFixed(2)}`);
    }
    return `M${points.join("L")}Z`;
  };
  const plus = "M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z";
  const SHAPES = ["M0-5.5A5.5 5.5 0 1 1 0 5.5A5.5 5.5 0 1 1 0-5.5Z", "M-5-5H5V5H-5Z", polygon(4, 0, 7), polygon(3, 0, 7), polygon(3, Math.PI, 7), plus, plus, polygon(6, 0, 6.3), polygon(5, 0, 6.5), polygon(5, 0, 7.5, 3), polygon(3, -Math.PI / 2, 7), polygon(3, Math.PI / 2, 7)];
  const mark = (look, x, y, more) => svg("path", { class: "mark", d: SHAPES[look[2]], transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})${look[2] === 6 ? " rotate(45)" : ""}`, ...more });
  const key = (look) => ink(html("span", {}, svg("svg", { width: 14, height: 14, viewBox: "-8 -8 16 16", class: "key", "aria-hidden": "true" }, svg("path", { d: SHAPES[look[2]], fill: "currentColor", transform: look[2] === 6 ? "rotate(45)" : false }))), look);

  const measure = (name) => measures[place[name]];
  const stat = (group, name) => {
    const found = group.stats[place[name]];
    return found && { mean: found[0], sd: found[1], low: found[2], high: found[3], n: found[4] };
  };
  const units = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const short = (value) => {
    const [size, name] = units.find(([least]) => Math.abs(value) >= least) || [1, ""];
    return `${Number((value / size).toPrecision(3))}${name}`;
  };
  const shown = (value, m) => (m.kind === "cost" || Math.abs(value) >= 1000 ? `${short(value)}${m.unit ? ` ${m.unit}` : ""}` : value.toFixed(3));
  const told = (one, m) => {
    if (m.kind === "cost") return `${shown(one.mean, m)} (median of ${one.n}${one.low === null ? "" : `; runs ${shown(one.low, m)} to ${shown(one.high, m)}`})`;
    return `${shown(one.mean, m)}${one.low === null ? "" : ` [${shown(one.low, m)}, ${shown(one.high, m)}]`}, n = ${one.n}`;
  };
  const titled = (m) => m.title + (m.unit ? ` (${m.unit})` : "");
  const line = (from, to, a, b) => Object.assign((value) => a + ((value - from) / (to - from || 1)) * (b - a), { from, to });
  const linear = (values, a, b, whole) => {
    let low = Math.min(...values), high = Math.max(...values);
    const size = Math.max(Math.abs(low), Math.abs(high)) || 1, room = (high - low > size * 1e-6 ? high - low : size) * 0.05;
    low -= room; high += room;
    const rough = (high - low) / Math.max(2, Math.abs(b - a) / 75), power = 10 ** Math.floor(Math.log10(rough));
    const step = Math.max(whole ? 1 : 0, [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= rough));
    const ticks = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) ticks.push(tick);
    const digits = Math.max(0, Math.min(4, -Math.floor(Math.log10(step) + 1e-9) + (String(step / power) === "2.5" ? 1 : 0)));
    return Object.assign(line(low, high, a, b), { ticks, text: (tick) => (Math.abs(tick) >= 1e4 ? short(tick) : (tick + 0).toFixed(digits)) });
  };
  const logarithmic = (values, a, b) => {
    const known = values.filter((value) => value > 0), least = Math.min(...known), most = Math.max(...known);
    const zero = known.length < values.length, start = Math.log10(least) - (zero ? 0.6 : 0.08), end = Math.log10(most) + 0.08;
    const span = line(start, end, a, b), apart = Math.abs(b - a) / (end - start);
    const steps = apart > 450 ? [1, 1.5, 2, 3, 5, 7] : apart > 130 ? [1, 2, 5] : [1], every = Math.max(1, Math.ceil(42 / apart));
    const ticks = [];
    for (let power = Math.floor(start); power <= end; power++) if (power % every === 0) for (const step of steps) ticks.push(step * 10 ** power);
    if (ticks.filter((tick) => Math.log10(tick) >= start && Math.log10(tick) <= end).length < 2) ticks.push(least, most);
    return Object.assign((value) => (value > 0 ? span(Math.log10(value)) : a), { ticks: ticks.filter((t) => Math.log10(t) >= start && Math.log10(t) <= end), text: short, zero, log: ", logarithmic" });
  };
  const scale = (m, values, a, b) => (m.kind === "cost" && values.some((value) => value > 0) ? logarithmic : linear)(values, a, b);

  // ---- what is shown, highlighted, hovered

  const now = () => groups.filter((group) => group.backbone === state.backbone && group.amount === state.amount);
  const chance = (key) => (references[key] || [])[1];
  const isLow = (group, key) => chance(key) !== undefined && stat(group, key) && stat(group, key).mean <= chance(key);
  // Without what is no better than chance, which would press all others together; at least two stay.
  const drawn = (list, ...keys) => {
    const kept = list.filter((group) => !keys.some((key) => isLow(group, key)));
    return state.zoom && new Set(kept.map((group) => group.variant)).size > 1 ? kept : list;
  };
  const leftOut = (list, kept, key) => (kept.length < list.length ? `Not drawn, no better than chance (${chance(key).toFixed(3)}): ${list.filter((g) => !kept.includes(g)).map((g) => `${g.variant} ${stat(g, key).mean.toFixed(3)}`).join(", ")}.` : "");
  const variants = () => [...new Map(groups.filter((g) => g.backbone === state.backbone).map((g) => [g.variant, g.look]))];
  const light = () => {
    const active = state.hover ? new Set([state.hover]) : state.pinned;
    document.documentElement.classList.toggle("hl", active.size > 0);
    $$("[data-v]").forEach((node) => node.classList.toggle("on", active.has(node.dataset.v)));
    $$(".chips [data-v]").forEach((chip) => chip.setAttribute("aria-pressed", state.pinned.has(chip.dataset.v)));
  };
  const pin = (variant) => { if (!state.pinned.delete(variant)) state.pinned.add(variant); light(); };
  const hover = (variant) => { state.hover = variant; light(); };
  const tip = html("div", { id: "tip", hidden: true });
  document.body.append(tip);
  const tell = (node, text) => {
    const show = (event) => {
      tip.textContent = text;
      tip.hidden = false;
      const box = tip.getBoundingClientRect(), at = event.clientX === undefined ? node.getBoundingClientRect() : { x: event.clientX, y: event.clientY };
      tip.style.left = `${Math.max(4, Math.min(at.x + 14, innerWidth - box.width - 6))}px`;
      tip.style.top = `${at.y + box.height + 24 > innerHeight ? at.y - box.height - 10 : at.y + 16}px`;
    };
    node.addEventListener("pointermove", show);
    node.addEventListener("pointerleave", () => { tip.hidden = true; });
    return node;
  };
  const series = (variant, look, ...children) => ink(svg("g", { "data-v": variant, class: "series", onpointerenter: () => hover(variant), onpointerleave: () => hover(""), onclick: () => pin(variant) }, ...children), look);

  // ---- figures

  const canvas = (width, height, title, ...children) => svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title }, ...children);
  const axes = (x, y, box, names) => {
    const parts = [];
    for (const tick of x.ticks) parts.push(svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: box.top, y2: box.bottom }), svg("text", { class: "tick", x: x(tick), y: box.bottom + 16, "text-anchor": "middle" }, x.text(tick)));
    if (x.zero) parts.push(svg("text", { class: "tick", x: box.left, y: box.bottom + 16, "text-anchor": "middle" }, "0"));
    for (const tick of y ? y.ticks : []) parts.push(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }), svg("text", { class: "tick", x: box.left - 7, y: y(tick) + 4, "text-anchor": "end" }, y.text(tick)));
    if (names[0]) parts.push(svg("text", { x: (box.left + box.right) / 2, y: box.bottom + 36, "text-anchor": "middle", class: "note" }, names[0] + (x.log || "")));
    if (names[1]) parts.push(svg("text", { x: 0, y: box.top - 12, class: "note" }, `${names[1]}${y.log || ""} ↑`));
    return parts;
  };
  const spread = (places, gap, low, high) => {
    const order = places.map((at, i) => ({ at, i })).sort((a, b) => a.at - b.at);
    order.forEach((one, i) => { if (i) one.at = Math.max(one.at, order[i - 1].at + gap); });
    for (let i = order.length - 1; i >= 0; i--) order[i].at = Math.max(low, Math.min(order[i].at, i === order.length - 1 ? high : order[i + 1].at - gap));
    const result = [];
    order.forEach((one) => { result[one.i] = one.at; });
    return result;
  };
  const textWidth = (text) => text.length * 7.1;
  const cut = (text, room) => (textWidth(text) <= room ? text : `${text.slice(0, Math.floor(room / 7.1) - 1)}…`);
  const span = (x1, y1, x2, y2, faint) => svg("line", { class: faint ? "span faint" : "span", x1, y1, x2, y2 });
  const ends = (one) => (one.low === null ? [one.mean, one.mean] : [one.low, one.high]);

  const scores = (width) => {
    const keys = data.splits.includes(state.y) ? [state.y, ...data.splits.filter((s) => s !== state.y)] : [state.y];
    const known = now().filter((g) => stat(g, state.y)), kept = drawn(known, state.y), order = [...kept].sort((a, b) => (stat(b, state.y).mean - stat(a, state.y).mean) * (measure(state.y).lower ? -1 : 1));
    if (!order.length) return null;
    const label = Math.min(width * 0.4, 30 + Math.max(...order.map((g) => textWidth(g.variant))));
    const stacked = width < 340 * keys.length, panel = stacked ? width - label : (width - label) / keys.length, row = 27, top = 34, high = top + row * order.length + 30;
    const values = keys.flatMap((k) => order.flatMap((g) => { const one = stat(g, k); return one ? [...ends(one), ...g.runs.map((r) => r.values[place[k]]).filter((v) => v !== null)] : []; }));
    const root = canvas(width, stacked ? high * keys.length : high, "Scores of every strategy");
    keys.forEach((k, i) => {
      const m = measure(k), left = label + (stacked ? 0 : i * panel), shift = stacked ? i * high : 0, right = left + panel - 18;
      const all = [...values, ...(references[k] || [])], x = scale(m, all, left + 6, right);
      const box = { left, right, top: shift + top, bottom: shift + top + row * order.length };
      root.append(...axes(x, null, box, [""]), svg("text", { x: left + 2, y: box.top - 12, class: "name" }, titled(m)));
      (references[k] || []).forEach((at, j) => root.append(tell(svg("line", { class: "ref", "stroke-dasharray": j ? "2 3" : "6 3", x1: x(at), x2: x(at), y1: box.top, y2: box.bottom }), `${j ? "chance" : "majority"} ${at.toFixed(3)}`)));
      order.forEach((g, j) => {
        const y = box.top + row * (j + 0.5), one = stat(g, k), parts = [];
        if (stacked || i === 0) parts.push(svg("text", { x: label - 10, y: y + 4, "text-anchor": "end" }, cut(g.variant, label - 10)));
        g.runs.forEach((run) => {
          const value = run.values[place[k]];
          if (value !== null) parts.push(tell(svg("circle", { class: run.fallen ? "run fallen" : "run", cx: x(value), cy: y + 7, r: run.fallen ? 3.6 : 2.6 }), `${g.variant}, seed ${run.seed}, draw ${run.draw}\n${m.title} ${shown(value, m)}${run.fallen ? "\nfar below its other runs" : ""}`));
        });
        if (one) {
          const [a, b] = ends(one);
          parts.push(span(x(a), y - 2, x(b), y - 2), tell(mark(g.look, x(one.mean), y - 2), `${g.variant}\n${m.title} ${told(one, m)}`));
        }
        root.append(series(g.variant, g.look, ...parts));
      });
    });
    return [root, leftOut(known, kept, state.y)];
  };

  const trade = (width) => {
    const mx = measure(state.x), my = measure(state.y), every = now().filter((g) => stat(g, state.x) && stat(g, state.y)), known = drawn(every, state.y);
    if (!known.length) return null;
    const high = Math.round(Math.max(300, Math.min(460, width * 0.62))), box = { left: 52, right: width - 14, top: 30, bottom: high - 46 };
    const xs = known.flatMap((g) => [stat(g, state.x).mean, ...(mx.kind === "cost" ? [] : ends(stat(g, state.x)))]), ys = known.flatMap((g) => [stat(g, state.y).mean, ...ends(stat(g, state.y))]);
    const x = scale(mx, xs, box.left + 10, box.right - 12), y = scale(my, ys, box.bottom - 8, box.top + 6);
    const root = canvas(width, high, `${my.title} against ${mx.title}`, ...axes(x, y, box, [titled(mx), titled(my)]));
    const better = (m) => (m.lower ? 1 : -1), sorted = [...known].sort((a, b) => better(mx) * (stat(a, state.x).mean - stat(b, state.x).mean) || better(my) * (stat(a, state.y).mean - stat(b, state.y).mean));
    let best = Infinity;
    const front = sorted.filter((g) => { const value = better(my) * stat(g, state.y).mean; if (value < best) { best = value; return true; } return false; });
    const steps = front.map((g, i) => { const a = x(stat(g, state.x).mean), b = y(stat(g, state.y).mean); return i ? `H${a}V${b}` : `M${a} ${b}`; }).join("");
    root.append(svg("path", { class: "front", d: `${steps}H${mx.lower ? box.right : box.left}` }));
    const taken = known.map((g) => ({ x: x(stat(g, state.x).mean) - 8, y: y(stat(g, state.y).mean) - 7, w: 16, h: 14 }));
    const free = (one) => one.x >= 0 && one.x + one.w <= width && one.y >= 0 && one.y + one.h <= box.bottom && !taken.some((o) => one.x < o.x + o.w && o.x < one.x + one.w && one.y < o.y + o.h && o.y < one.y + one.h);
    known.forEach((g) => {
      const ax = stat(g, state.x), ay = stat(g, state.y), px = x(ax.mean), py = y(ay.mean), [low, top] = ends(ay), w = textWidth(g.variant), parts = [span(px, y(low), px, y(top), true)];
      if (mx.kind !== "cost") parts.push(span(x(ends(ax)[0]), py, x(ends(ax)[1]), py, true));
      g.runs.forEach((run) => {
        const a = mx.kind === "cost" ? ax.mean : run.values[place[state.x]], b = run.values[place[state.y]];
        if (a !== null && b !== null && y(b) <= box.bottom && y(b) >= box.top) parts.push(svg("circle", { class: run.fallen ? "run fallen" : "run", cx: x(a), cy: y(b), r: 2.2 }));
      });
      const spots = [[11, -7], [-11 - w, -7], [11, -20], [11, 6], [-11 - w, -20], [-11 - w, 6], [-w / 2, -24], [-w / 2, 10], [11, 19], [-11 - w, 19], [11, -33], [-11 - w, -33]].map(([dx, dy]) => ({ x: px + dx, y: py + dy, w, h: 14 }));
      const spot = spots.find(free);
      if (spot) { taken.push(spot); parts.push(svg("text", { x: spot.x, y: spot.y + 11, class: "halo" }, g.variant)); }
      parts.push(tell(mark(g.look, px, py), `${g.variant}\n${my.title} ${told(ay, my)}\n${mx.title} ${told(ax, mx)}`));
      root.append(series(g.variant, g.look, ...parts));
    });
    return [root, leftOut(every, known, state.y)];
  };

  // Lines with their names at the right end: { name, look, dashed, label, points: [{ x, y, low, high, text }] }
  const lines = (width, title, drawn, x, y, names, high, box, extra) => {
    const root = canvas(width, high, title, ...axes(x, y, box, names)), labelled = drawn.filter((one) => one.label);
    const at = spread(labelled.map((one) => y(one.points.at(-1).y)), 14, box.top + 4, box.bottom - 2);
    drawn.forEach((one) => {
      const path = (field) => one.points.map((p) => `${x(p.x).toFixed(1)} ${y(p[field]).toFixed(1)}`), parts = [];
      if (one.points.length > 1 && one.points.every((p) => p.low !== undefined)) parts.push(svg("path", { class: "band", d: `M${path("high").join("L")}L${path("low").reverse().join("L")}Z` }));
      parts.push(svg("path", { class: "curve", d: `M${(one.step ? one.points.map((p, i) => (i ? `H${x(p.x)}V${y(p.y)}` : `${x(p.x)} ${y(p.y)}`)).join("") : path("y").join("L"))}`, "stroke-dasharray": one.dashed ? "5 4" : false }));
      if (!one.plain) one.points.forEach((p) => parts.push(tell(mark(one.look, x(p.x), y(p.y)), p.text)));
      (one.dots || []).forEach((p) => parts.push(tell(mark(one.look, x(p.x), y(p.y)), p.text)));
      const i = labelled.indexOf(one);
      if (i >= 0) {
        const end = one.points.at(-1);
        parts.push(svg("path", { class: "curve faint", d: `M${x(end.x) + 6} ${y(end.y)}L${box.right + 8} ${at[i]}` }), svg("text", { x: box.right + 11, y: at[i] + 4 }, cut(one.label, width - box.right - 11)));
      }
      root.append(series(one.name, one.look, ...parts));
    });
    root.append(...(extra || []));
    return root;
  };
  const frame = (width, labels, least) => {
    const high = Math.round(Math.max(300, least || 0, Math.min(430, width * 0.5))), room = Math.min(width * 0.42, 18 + Math.max(...labels.map(textWidth)));
    return { high, box: { left: 52, right: width - room, top: 30, bottom: high - 46 } };
  };

  const learning = (width) => {
    const m = measure(state.y), every = groups.filter((g) => g.backbone === state.backbone && stat(g, state.y));
    const weak = new Set(every.map((g) => g.variant).filter((name) => every.every((g) => g.variant !== name || isLow(g, state.y)))), kept = state.zoom && weak.size ? every.filter((g) => !weak.has(g.variant)) : every;
    const curves = variants().map(([name, look]) => {
      const own = kept.filter((g) => g.variant === name);
      const points = own.map((g) => { const one = stat(g, state.y), amount = amounts.find((a) => a.name === g.amount); return { x: amount.count, y: one.mean, low: ends(one)[0], high: ends(one)[1], text: `${name}, ${amount.label}\n${m.title} ${told(one, m)}` }; });
      return { name, look, label: name, points: points.sort((a, b) => a.x - b.x) };
    }).filter((one) => one.points.length);
    if (!curves.length) return null;
    const { high, box } = frame(width, curves.map((d) => d.label), curves.length * 15 + 90), counts = [...new Set(curves.flatMap((d) => d.points.map((p) => p.x)))];
    const x = logarithmic(counts, box.left + 10, box.right - 8);
    x.ticks = counts;
    x.text = (count) => (count >= 1e9 ? "all" : String(count));
    const y = scale(m, curves.flatMap((d) => d.points.flatMap((p) => [p.y])), box.bottom - 8, box.top + 6);
    const clip = (value) => Math.min(Math.max(value, Math.min(y.from, y.to)), Math.max(y.from, y.to));
    if (y.from !== undefined) curves.forEach((d) => d.points.forEach((p) => { p.low = clip(p.low); p.high = clip(p.high); }));
    return [lines(width, `${m.title} against the number of examples`, curves, x, y, ["labelled examples (per label, or rows)", titled(m)], high, box), weak.size && kept !== every ? `Not drawn, no better than chance: ${[...weak].join(", ")}.` : ""];
  };

  const even = (width) => {
    const query = "resources/query_milliseconds", train = "resources/train_seconds", home = data.home;
    const known = now().filter((g) => stat(g, query));
    if (!known.length) return null;
    const cost = (g, n) => (stat(g, train) ? stat(g, train).mean : 0) + (n * stat(g, query).mean) / 1000;
    const label = (g) => `${g.variant}${stat(g, home) ? ` ${stat(g, home).mean.toFixed(2)}` : ""}`;
    const { high, box } = frame(width, known.map(label), known.length * 15 + 90), counts = [];
    for (let power = 0; power <= 6; power += 0.25) counts.push(10 ** power);
    const x = logarithmic([1, 1e6], box.left + 6, box.right - 8), y = logarithmic(known.flatMap((g) => [cost(g, 1), cost(g, 1e6)]), box.bottom - 8, box.top + 6);
    const drawn = known.map((g) => ({ name: g.variant, look: g.look, label: label(g), plain: true, points: counts.map((n) => ({ x: n, y: cost(g, n) })), dots: [{ x: 1, y: cost(g, 1), text: `${g.variant}: ${shown(cost(g, 0), measure(train) || { kind: "cost", unit: "s" })} of training, ${shown(stat(g, query).mean, measure(query))} for a query\n${measure(home).title} ${told(stat(g, home), measure(home))}` }] }));
    return lines(width, "Seconds of training and answering against the number of queries", drawn, x, y, ["queries answered", "seconds in all"], high, box);
  };

  const given = (width, figure) => {
    const told = JSON.parse(figure.querySelector("script").textContent), names = told.lines.map((one) => one.name);
    const { high, box } = frame(width, names, 0), points = told.lines.flatMap((one) => one.points);
    const x = linear(points.map((p) => p[0]), box.left + 4, box.right - 8), y = linear(points.flatMap((p) => p.slice(1)), box.bottom - 4, box.top + 6);
    const drawn = told.lines.map((one) => ({ ...one, label: one.dashed ? "" : one.name, points: one.points.map((p) => ({ x: p[0], y: p[1], low: p[2], high: p[3], text: `${one.name}, ${one.dashed ? "OOD" : "in domain"}, ${told.x} ${p[0]}\n${told.y} ${p[1].toFixed(3)} [${p[2].toFixed(3)}, ${p[3].toFixed(3)}]` })) }));
    return lines(width, figure.dataset.title, drawn, x, y, [told.x, told.y], high, box);
  };

  const history = (width, figure) => {
    const studies = JSON.parse(figure.querySelector("script").textContent), { high, box } = frame(width, studies.map((s) => s.name), 0);
    const all = studies.flatMap((s) => s.trials), x = linear(all.map((t) => t[0]), box.left + 4, box.right - 8, true), y = linear(all.map((t) => t[1]), box.bottom - 4, box.top + 6);
    const drawn = studies.map((s) => {
      let best = -Infinity;
      const points = s.trials.map(([number, value]) => ({ x: number, y: (best = Math.max(best, value)) }));
      return { name: s.name, look: s.look, label: s.name, plain: true, step: true, points, dots: s.trials.map(([number, value, words]) => ({ x: number, y: value, text: `${s.name}, trial ${number}: ${value.toFixed(3)}\n${words}` })) };
    });
    return lines(width, figure.dataset.title, drawn, x, y, ["trial", `validation ${[...new Set(studies.map((s) => s.metric))].join(", ")}`], high, box);
  };

  const charts = { scores, trade, learning, even, lines: given, history };
  const store = (work) => { try { return work(sessionStorage); } catch (refused) { return null; } };
  const draw = () => {
    tip.hidden = true;
    store((kept) => kept.setItem("effft", JSON.stringify({ ...state, pinned: [...state.pinned], hover: "" })));
    $$("figure[data-chart]").forEach((figure) => {
      const plot = figure.querySelector(".plot"), made = charts[figure.dataset.chart](Math.max(280, plot.clientWidth), figure);
      const [picture, note] = Array.isArray(made) ? made : [made, ""];
      plot.replaceChildren(picture || html("p", { class: "soft" }, "Nothing of this choice was measured."), ...(note ? [html("p", { class: "left-out" }, note)] : []));
    });
    $$(".block[data-backbone]").forEach((block) => {
      const { backbone, amount, split } = block.dataset, pairs = amount !== undefined;
      block.hidden = backbone !== state.backbone || (pairs && (amount !== state.amount || (data.splits.includes(state.y) && `${split}/${data.metric}` !== state.y)));
    });
    $$("table.results").forEach(sift);
    light();
  };

  // ---- choices

  const picker = (label, value, options, change) => {
    const select = html("select", { onchange: () => { change(select.value); draw(); } }, ...options);
    select.value = value;
    return html("label", {}, label, select);
  };
  const option = (name, text) => html("option", { value: name }, text);
  const measured = () => [["score", "Scores"], ["cost", "Costs"], ["other", "Everything else"]].map(([kind, label]) => html("optgroup", { label }, ...measures.filter((m) => m.kind === kind).map((m) => option(m.key, m.title))));
  const largest = () => { const own = amounts.filter((a) => groups.some((g) => g.backbone === state.backbone && g.amount === a.name)); return own.length ? own.at(-1).name : ""; };
  const controls = () => {
    const bar = html("div", { class: "bar", role: "group", "aria-label": "What the figures show" }), picks = html("div", { class: "picks" }), chips = html("div", { class: "chips", role: "group", "aria-label": "Highlight strategies" });
    const amountsOf = () => amounts.filter((a) => groups.some((g) => g.backbone === state.backbone && g.amount === a.name)).map((a) => option(a.name, a.label));
    const build = () => {
      picks.replaceChildren();
      if (backbones.length > 1) picks.append(picker("Backbone", state.backbone, backbones.map((b) => option(b, b)), (value) => { state.backbone = value; state.amount = largest(); build(); }));
      if (amounts.length > 1) picks.append(picker("Examples", state.amount, amountsOf(), (value) => { state.amount = value; }));
      picks.append(picker("Score", state.y, measured(), (value) => { state.y = value; }), picker("Cost", state.x, measured(), (value) => { state.x = value; }));
      if (groups.some((g) => data.splits.some((k) => isLow(g, k)))) {
        const box = html("input", { type: "checkbox", onchange: () => { state.zoom = box.checked; draw(); } });
        box.checked = state.zoom;
        picks.append(html("label", { class: "check" }, box, "only above chance"));
      }
      chips.replaceChildren(...variants().map(([name, look]) => html("button", { type: "button", "data-v": name, "aria-pressed": "false", onclick: () => pin(name), onpointerenter: () => hover(name), onpointerleave: () => hover("") }, key(look), name)));
    };
    build();
    bar.append(picks, chips);
    return bar;
  };

  // ---- tables

  const clean = (cell) => (cell.querySelector("button") || cell).textContent.trim().replace(/\s+/g, " ");
  const rowsOf = (table) => [...table.rows].filter((row) => !row.hidden && !row.classList.contains("detail"));
  const cells = (table) => rowsOf(table).map((row) => [...row.cells].filter((cell) => !cell.hidden).map(clean));
  const latex = (text) => text.replace(/\\/g, "\\textbackslash ").replace(/[&%$#_{}]/g, "\\$&").replace(/±/g, "$\\pm$").replace(/~/g, "\\textasciitilde ").replace(/\^/g, "\\textasciicircum ");
  const formats = {
    Markdown: ([head, ...rows]) => [head, head.map((_, i) => (i ? "---:" : "---")), ...rows].map((row) => `| ${row.map((text) => text.replace(/\|/g, "\\|")).join(" | ")} |`).join("\n"),
    LaTeX: ([head, ...rows]) => `\\begin{tabular}{l${"r".repeat(head.length - 1)}}\n\\toprule\n${[head, ...rows].map((row, i) => `${row.map(latex).join(" & ")} \\\\${i ? "" : "\n\\midrule"}`).join("\n")}\n\\bottomrule\n\\end{tabular}`,
    CSV: (all) => all.map((row) => row.map((text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text)).join(",")).join("\n"),
  };
  const copy = async (text) => {
    try { await navigator.clipboard.writeText(text); return true; } catch (refused) {
      const area = html("textarea", { readonly: true });
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  };
  const MOST = 15; // Columns of a heat map that a phone has room for.
  const RARE = ["worst slice", "trained", "operations", "evaluation", "labels"];
  const show = (table, at, visible) => [...table.rows].forEach((row) => { if (row.cells.length > at && !row.matches(".detail, .group")) row.cells[at].hidden = !visible; });
  const fold = (table) => $$("tr.detail", table).forEach((row) => row.previousElementSibling.querySelector("button.fold").click());
  // Hides the rows that lack a word of the filter, or are of another number of examples.
  const sift = (table) => {
    const box = table.closest(".block").querySelector("input[type=search]"), words = box ? box.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
    let count = 0;
    [...table.tBodies].forEach((body) => {
      const parent = body.querySelector("tr.group"), title = parent ? parent.textContent.toLowerCase() : "", rows = [...body.rows].filter((row) => row !== parent);
      rows.forEach((row) => {
        if (row.matches(".detail")) { row.hidden = row.previousElementSibling.hidden; return; }
        const text = `${title} ${row.textContent.toLowerCase()}`;
        row.hidden = !words.every((word) => text.includes(word)) || (row.dataset.amount !== undefined && row.dataset.amount !== state.amount);
        count += row.hidden ? 0 : 1;
      });
      if (parent) parent.hidden = rows.every((row) => row.hidden);
    });
    return count;
  };
  const tools = (table) => {
    if (table.tBodies[0].rows.length < 2 && !table.matches(".results")) return;
    const status = html("span", { role: "status" }), bar = html("div", { class: "tools" }), heads = [...table.tHead.rows[0].cells];
    if (table.tBodies[0].rows.length > 5 && !table.matches(".pairs")) {
      const box = html("input", { type: "search", placeholder: "Filter rows", "aria-label": "Filter rows", oninput: () => { const count = sift(table); status.textContent = box.value ? `${count} rows` : ""; } });
      bar.append(box);
    }
    if (table.matches(".results")) {
      const list = html("div", {}, ...heads.slice(1).map((head, i) => {
        const box = html("input", { type: "checkbox", onchange: () => show(table, i + 1, box.checked) });
        box.checked = !RARE.includes(head.textContent.trim());
        show(table, i + 1, box.checked);
        return html("label", {}, box, ` ${head.textContent.trim()}`);
      }));
      bar.append(html("details", {}, html("summary", {}, "Columns"), list));
    }
    for (const [name, form] of Object.entries(formats)) bar.append(html("button", { type: "button", onclick: async () => { const all = cells(table); status.textContent = (await copy(form(all))) ? `Copied ${all.length - 1} rows as ${name}.` : "The browser refused to copy."; } }, `Copy ${name}`));
    bar.append(status);
    table.closest(".block").prepend(bar);
  };
  const number = (text) => { const value = parseFloat(text.replace(/,/g, "")); return Number.isNaN(value) ? null : value; };
  const sortable = (table) => [...table.tHead.rows[0].cells].forEach((head) => {
    const button = html("button", { type: "button", class: "sort", onclick: () => {
      const up = head.getAttribute("aria-sort") === "descending", at = head.cellIndex;
      fold(table);
      [...head.parentElement.cells].forEach((cell) => cell.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      [...table.tBodies].forEach((body) => {
        const rows = [...body.rows].filter((row) => !row.matches(".q, .group")), last = [...body.rows].filter((row) => row.matches(".q"));
        const order = (a, b) => { const [s, t] = [a, b].map((row) => clean(row.cells[at])), [x, y] = [number(s), number(t)]; return x !== null && y !== null ? x - y : x !== null ? 1 : y !== null ? -1 : t.localeCompare(s); };
        body.append(...rows.sort((a, b) => (up ? order(a, b) : order(b, a))), ...last);
      });
    } }, ...head.childNodes);
    head.append(button);
  });
  const byKey = new Map(groups.map((group) => [group.key, group]));
  const detail = (group, columns) => {
    const shownKeys = [...data.splits, `validation/${data.metric}`].filter((k) => place[k] !== undefined);
    const runs = html("table", {}, html("thead", {}, html("tr", {}, ...["run in MLflow", "seed", "draw", ...shownKeys.map((k) => measure(k).title)].map((text) => html("th", { scope: "col" }, text)))), html("tbody", {}, ...group.runs.map((run) => html("tr", {}, html("td", {}, run.id ? html("a", { href: `${data.mlflow}/#/runs/${encodeURIComponent(run.id)}`, target: "_blank", rel: "noopener noreferrer" }, `${run.id.slice(0, 8)} ↗`) : "imported"), html("td", {}, String(run.seed)), html("td", {}, String(run.draw)), ...shownKeys.map((k) => html("td", {}, run.values[place[k]] === null ? "-" : shown(run.values[place[k]], measure(k))))))));
    const settings = html("dl", { class: "settings" }, ...Object.entries(group.settings).map(([name, value]) => html("div", {}, html("dt", {}, name.replace(/_/g, " ")), html("dd", {}, value))));
    return html("tr", { class: "detail" }, html("td", { colspan: columns }, html("h3", {}, "Runs"), runs, html("h3", {}, "Settings of the first run"), settings));
  };
  $$("tr[data-key]").forEach((row) => {
    const group = byKey.get(row.dataset.key), cell = row.cells[0];
    if (!group) return;
    row.dataset.v = group.variant;
    const button = html("button", { type: "button", class: "fold", "aria-expanded": "false", onclick: () => {
      const open = button.getAttribute("aria-expanded") === "true";
      button.setAttribute("aria-expanded", String(!open));
      if (open) row.nextElementSibling.remove(); else row.after(detail(group, row.cells.length));
    } }, key(group.look), ...cell.childNodes);
    cell.append(button);
    row.addEventListener("pointerenter", () => hover(group.variant));
    row.addEventListener("pointerleave", () => hover(""));
  });
  // On a phone a row is a card whose numbers have names, and a heat map one column for every strategy.
  const narrow = (table) => {
    const names = [...table.tHead.rows[0].cells].map(clean), heat = table.matches(".slices");
    if (!heat) $$("tbody > tr > td", table).forEach((cell) => { cell.dataset.label = names[cell.cellIndex]; });
    if (!heat || names.length <= MOST) table.classList.add(heat ? "fits" : "cards");
    table.style.setProperty("--n", Math.max(4, names.length - 2));
  };
  $$("main table").forEach((table) => { narrow(table); sortable(table); tools(table); });
  $$(".pairs td").forEach((cell) => cell.classList.toggle("holds", cell.textContent.includes("*")));

  state.amount = largest();
  if (document.querySelector("meta[http-equiv=refresh]")) {
    const kept = JSON.parse(store((own) => own.getItem("effft")) || "{}");
    if (place[kept.x] !== undefined && place[kept.y] !== undefined && byKey.size && groups.some((g) => g.backbone === kept.backbone && g.amount === kept.amount)) Object.assign(state, kept, { pinned: new Set(kept.pinned) });
  }
  const start = document.getElementById("scores");
  if (start) start.before(controls());
  draw();
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; requestAnimationFrame(draw); } });
  document.documentElement.dataset.ready = "yes";
})();
