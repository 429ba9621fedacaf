"use strict";
// Zoom, search and details of a flame graph. Names are only ever read and written as text. The file has no character that
// would have to be escaped in XML or could end a script in HTML.
(function () {
  var svg = document.getElementById("flamegraph");
  var groups = Array.from(svg.querySelectorAll("g.frame"));
  var details = svg.getElementById("details");
  var found = svg.getElementById("found");
  var told = details.textContent;
  var width = Number(svg.dataset.width), letter = Number(svg.dataset.letter), margin = Number(svg.dataset.margin);
  var frames = groups.map(function (group) {
    return {
      group: group, rect: group.querySelector("rect"), label: group.querySelector("text"),
      title: group.querySelector("title").textContent, name: group.dataset.name,
      x: Number(group.dataset.x), w: Number(group.dataset.w), depth: Number(group.dataset.depth)
    };
  });

  function place(frame, x, w) {
    var px = margin + x * width, pw = w * width;
    frame.group.style.display = "";
    frame.rect.setAttribute("x", px.toFixed(2));
    frame.rect.setAttribute("width", Math.max(pw - 0.3, 0.1).toFixed(2));
    frame.label.setAttribute("x", (px + 3).toFixed(2));
    var room = Math.floor((pw - 6) / letter);
    frame.label.textContent = room >= frame.name.length ? frame.name : room >= 3 ? frame.name.slice(0, room - 1) + "\u2026" : "";
  }

  function zoom(to) {
    frames.forEach(function (frame) {
      var end = frame.x + frame.w, slack = 1e-9;
      frame.group.classList.remove("below");
      if (frame.x + slack >= to.x ? to.x + to.w + slack >= end : false) {
        if (frame.depth >= to.depth) {
          place(frame, (frame.x - to.x) / to.w, frame.w / to.w);
          return;
        }
      }
      if (to.depth > frame.depth ? (to.x + slack >= frame.x ? end + slack >= to.x + to.w : false) : false) {
        place(frame, 0, 1);
        frame.group.classList.add("below");
        return;
      }
      frame.group.style.display = "none";
    });
    svg.getElementById("reset").style.display = to.depth > 0 ? "" : "none";
  }

  function search(wanted) {
    var matched = [], sum = 0, end = -1;
    frames.forEach(function (frame) {
      var hit = wanted ? frame.name.toLowerCase().indexOf(wanted.toLowerCase()) >= 0 : false;
      frame.group.classList.toggle("hit", hit);
      if (hit) { matched.push(frame); }
    });
    matched.sort(function (a, b) { return a.x - b.x || b.w - a.w; });
    matched.forEach(function (frame) {
      if (frame.x + 1e-9 >= end) { sum += frame.w; end = frame.x + frame.w; }
    });
    found.textContent = wanted ? "found: " + (100 * sum).toFixed(1) + " %" : "";
  }

  function ask() {
    var wanted = window.prompt("Show functions that contain:", "");
    if (wanted !== null) { search(wanted); }
  }

  frames.forEach(function (frame) {
    frame.group.addEventListener("click", function () { zoom(frame); });
    frame.group.addEventListener("mouseenter", function () { details.textContent = frame.title; });
    frame.group.addEventListener("mouseleave", function () { details.textContent = told; });
  });
  svg.getElementById("reset").addEventListener("click", function () { zoom({ x: 0, w: 1, depth: 0 }); });
  svg.getElementById("search").addEventListener("click", ask);
  document.addEventListener("keydown", function (event) {
    if (event.key === "Escape") { zoom({ x: 0, w: 1, depth: 0 }); search(""); }
    if (event.key === "/") { event.preventDefault(); ask(); }
  });
})();
