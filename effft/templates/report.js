(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const look = (black) => {
    const ink = black ? "#e6e9ed" : "#1b1f24", grid = black ? "#333a42" : "#dfe3e8", soft = black ? "#9aa6b2" : "#5a6572";
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid };
    return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: "system-ui, sans-serif" }, modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink }, axis };
  };
  const layout = (own, black) => {
    const { axis, ...rest } = look(black);
    const made = { height: 440, margin: { t: 34, r: 20, b: 60, l: 70 }, legend: { orientation: "h", y: -0.22 }, hovermode: "closest", ...rest, ...own };
    for (const name of ["xaxis", "yaxis"]) made[name] = { ...axis, ...(own[name] || {}) };
    return made;
  };
  const paint = (black) => {
    for (const [id, figure] of Object.entries(figures)) {
      const place = document.getElementById(id);
      if (place) Plotly.react(place, figure.data, layout(figure.layout, black), { responsive: true, displaylogo: false });
    }
  };
  paint(dark.matches);
  dark.addEventListener("change", () => paint(dark.matches));
  addEventListener("beforeprint", () => { document.querySelectorAll("details").forEach((d) => (d.open = true)); paint(false); });
  addEventListener("afterprint", () => paint(dark.matches));
  document.querySelectorAll("details").forEach((d) => d.addEventListener("toggle", () => d.querySelectorAll(".plot").forEach((p) => Plotly.Plots.resize(p))));
  document.querySelectorAll("thead button").forEach((button) => {
    button.addEventListener("click", () => {
      const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
      const up = head.getAttribute("aria-sort") !== "ascending", at = head.cellIndex;
      table.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => { const text = row.cells[at].textContent.trim(), number = parseFloat(text); return isNaN(number) ? text : number; };
      const rows = [...body.rows].filter((row) => !row.classList.contains("q")), quiet = [...body.rows].filter((row) => row.classList.contains("q"));
      rows.sort((a, b) => { const x = value(a), y = value(b); const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)); return up ? order : -order; });
      body.append(...rows, ...quiet);
    });
  });
  document.documentElement.dataset.ready = "yes";
})();
