// A page just large enough for tracectl/flamegraph.js: runs it, clicks, searches, and prints what it did as JSON.
const fs = require("fs");
const groups = JSON.parse(fs.readFileSync(0, "utf8"));

function element(fields) {
  const listeners = {}, attributes = {}, classes = new Set();
  return Object.assign({
    style: {}, dataset: {}, textContent: "", attributes,
    setAttribute: (name, value) => { attributes[name] = value; },
    addEventListener: (name, call) => { listeners[name] = call; },
    fire: (name, event) => listeners[name](event),
    classList: {
      add: name => classes.add(name), remove: name => classes.delete(name),
      toggle: (name, on) => { if (on) { classes.add(name); } else { classes.delete(name); } },
    },
  }, fields);
}

const frames = groups.map(group => {
  const parts = { rect: element(), text: element(), title: element({ textContent: group.title }) };
  const dataset = { x: group["data-x"], w: group["data-w"], depth: group["data-depth"], name: group["data-name"] };
  return element({ dataset, parts, querySelector: name => parts[name] });
});
const named = { details: element({ textContent: "help" }), found: element(), reset: element(), search: element() };
const svg = element({
  dataset: { width: "1180", letter: "6.7", margin: "10" },
  querySelectorAll: () => frames, getElementById: name => named[name],
});
global.document = element({ getElementById: () => svg });
global.window = { prompt: () => "K1" };
require(fs.realpathSync(process.argv[2]));

// Of functions of one name, the widest; rounding by the script to hundredths, and its gap between frames, taken back.
function places() {
  const found = {};
  for (const frame of frames) {
    if (frame.style.display === "none") { continue; }
    const { x, width } = frame.parts.rect.attributes;
    found[frame.dataset.name] = [Number(x), Number(width) + 0.3];
  }
  return found;
}
function near(some) {
  return Object.fromEntries(Object.entries(some).map(([name, place]) => [name, place.map(n => Math.round(n * 50) / 50)]));
}
const by = name => frames.find(frame => frame.dataset.name === name);
by("all").fire("click");
const begin = near(places());
by("w").fire("click");
const zoomed = places();
named.reset.fire("click");
const reset = near(places());
by("read").fire("mouseenter");
const details = named.details.textContent;
named.search.fire("click");
process.stdout.write(JSON.stringify({ begin, zoomed, reset, details, found: named.found.textContent }));
