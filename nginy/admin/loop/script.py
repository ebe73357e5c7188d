"""The script of the page `/loop`. It asks for the last turns once a second, and draws them.

It stops in tabs that nobody sees and while the picture is held still, so that the recording ends by
itself. It holds still, too, while the pointer is on the picture: what one looks at must not move.
Sleep and work have a scale of their own, the same for all lines; one line of real time has both.

Tested in tests/run/test_admin_loop.py.
"""

from typing import Final

from nginy.admin.loop.words import WORDS

BEGIN: Final = """\
"use strict";
(function () {
  var SHOWN = 24, KEPT = 200, period = 1000;
  var turns = [], facts = null, token = "", asked = false, busy = false, since = null;
  var held = false, followed = 0, width = 0;
  function $(id) { return document.getElementById(id); }
  function make(name, attributes, text) {
    var node = document.createElement(name);
    for (var key in attributes || {}) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    return node;
  }
  function draw(parent, name, attributes, text) {
    var node = document.createElementNS(parent.namespaceURI, name);
    for (var key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  }
  function picture(wide, high, label) {
    var svg = document.createElementNS($("blank").namespaceURI, "svg");
    svg.setAttribute("viewBox", "0 0 " + wide + " " + high);
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-label", label);
    return svg;
  }
  function time(s) {
    if (s >= 1) return Number(s.toPrecision(3)) + " s";
    if (s >= 1e-3) return Number((s * 1e3).toPrecision(3)) + " ms";
    return Number((s * 1e6).toPrecision(3)) + " µs";
  }
  function share(part, whole) {
    var percent = whole ? 100 * part / whole : 0;
    return (percent > 99 && percent < 100 ? percent.toFixed(2) : percent.toPrecision(2)) + " %";
  }
  function amount(bytes) {
    return bytes < 1024 ? bytes + " bytes" : bytes < 1 << 20 ? (bytes / 1024).toFixed(1) + " KiB" :
      (bytes / (1 << 20)).toFixed(1) + " MiB";
  }
  function total(list, of) { return list.reduce(function (sum, e) { return sum + of(e); }, 0); }
  function most(list, of) { return list.reduce(function (a, e) { return Math.max(a, of(e)); }, 0); }
  function kind(box) { return "k-" + box.kind.replace(" ", "-"); }
  function has(box, number) {
    return box.session && number >= box.session &&
      number < box.session + Math.max(box.sessions, 1);
  }
  function names(box) {
    if (!box.session) return "";
    return " *" + box.session + (box.sessions > 1 ? " to *" +
      (box.session + box.sessions - 1) : "");
  }
  var SAID = {
    AGAIN: "then there was no more (AGAIN)", MORE: "and there is more", EOF: "the end (EOF)",
    ERROR: "an error", closed: "and it is closed", waits: "no room, it waits",
    "back to sleep": "too early, back to sleep", "set again": "and set again",
    "put off": "put off until step 6", done: ""
  };
  function words(box) {
    var parts = [box.kind + names(box)];
    if (box.what) parts.push(box.what);
    if (box.bytes) parts.push(amount(box.bytes));
    if (SAID[box.outcome]) parts.push(SAID[box.outcome]);
    return parts.join(", ");
  }

  // Getting the turns.

  function pointing() {
    return $("turns").matches(":hover") || $("turns").contains(document.activeElement);
  }
  function look() {
    if (document.hidden || busy || held || pointing()) return;
    var main = document.querySelector("main");
    if (main.dataset.locked && !token) {
      token = asked ? "" : prompt("Token of nginy") || "";
      asked = true;
      if (!token) return;
    }
    busy = true;
    var stop = new AbortController();
    var timer = setTimeout(function () { stop.abort(); }, 5000);
    var last = turns.length ? turns[turns.length - 1].turn : 0, worker = $("worker").value;
    var path = "/api/v1/loop?turns=" + KEPT + "&after=" + last;
    if (worker) path += "&worker=" + worker;
    fetch(path, {
      signal: stop.signal, headers: token ? { Authorization: "Bearer " + token } : {}
    }).then(function (answer) {
      if (answer.status === 401) token = prompt("Token of nginy") || "";
      if (!answer.ok) throw new Error("status " + answer.status);
      return answer.json();
    }).then(function (found) {
      if (facts && found.pid !== facts.pid) turns = [];
      facts = found;
      turns = turns.concat(found.turns).slice(-KEPT);
      turns.forEach(function (turn, i) {
        // Step 1 of the next turn follows the work of this one.
        turn.first = i + 1 < turns.length ? turns[i + 1].steps_s[0] : 0;
      });
      since = null;
      $("stale").hidden = true;
      show();
    }).catch(function () {
      since = since || new Date();
      $("stale").hidden = false;
      $("stale").textContent = "stale since " + since.toTimeString().slice(0, 8) +
        ": nginy does not answer";
    }).finally(function () { clearTimeout(timer); busy = false; });
  }

  // Drawing.

  function serves(turn) {
    return turn.boxes.some(function (box) {
      return box.session || box.kind === "accept" || box.kind.indexOf("read") > 0;
    });
  }
  function shown() {
    var own = $("own").checked, all = $("more").getAttribute("aria-pressed") === "true";
    var found = turns.filter(function (turn) { return own || serves(turn); });
    if (followed && !all) {
      var with_it = found.filter(function (turn) {
        return turn.boxes.some(function (box) { return has(box, followed); });
      });
      if (with_it.length) {
        var end = found.indexOf(with_it[with_it.length - 1]) + 2;
        return found.slice(Math.max(Math.min(found.indexOf(with_it[0]) - 1, end - SHOWN), 0,
          end - 2 * SHOWN), end);
      }
    }
    return all ? found : found.slice(-SHOWN);
  }
  function show() {
    document.querySelectorAll(".live").forEach(function (part) { part.hidden = false; });
    // The table and the list of timers are as old as the page, and the picture says more. A page
    // that was locked has neither.
    if ($("wheel") && !$("wheel").hidden) {
      $("table").open = false;
      $("table").firstChild.textContent = "The turns before this page, as a table";
      $("wheel").hidden = true;
    }
    width = document.querySelector("main").clientWidth < 640 ? 360 : 1240;
    showWorkers();
    showFigures();
    showTime();
    showTurns(shown());
    showStory();
    showBlock();
    showBeside();
  }
  function showWorkers() {
    var select = $("worker");
    $("workers").hidden = facts.processes.length < 2;
    if (select.options.length === facts.processes.length) return;
    select.textContent = "";
    facts.processes.forEach(function (each) {
      select.appendChild(make("option", { value: each.worker }, each.worker));
    });
    select.value = facts.worker;
  }
  function figure(name, value, more) {
    var div = make("div"), dd = make("dd", {}, value);
    div.appendChild(make("dt", {}, name));
    dd.appendChild(make("small", {}, more));
    div.appendChild(dd);
    $("figures").appendChild(div);
  }
  function span() {
    return turns.length ? turns[turns.length - 1].woke_s + turns[turns.length - 1].took_s -
      turns[0].woke_s + turns[0].steps_s[1] : 0;
  }
  function showFigures() {
    var boxes = [].concat.apply([], turns.map(function (turn) { return turn.boxes; }));
    var slept = total(turns, function (turn) { return turn.steps_s[1]; });
    var longest = most(turns, function (turn) { return turn.took_s; });
    var single = most(boxes, function (box) { return box.took_s; });
    var mine = turns.filter(function (turn) { return turn.is_own; }).length;
    $("figures").textContent = "";
    var worked = total(turns, function (turn) { return turn.took_s + turn.first; });
    figure("asleep", share(slept, slept + worked), "of " + time(slept + worked) +
      ", in select()");
    figure("turns", turns.length, mine + " for this page alone");
    figure("longest turn", time(longest), "the others waited");
    figure("longest handler", time(single), "of " + boxes.length + " that ran");
    figure("connections", facts.connections, "all served by one thread");
    figure("timers", facts.timers, "which hardly ever fire");
  }
  function nice(value) {
    var power = Math.pow(10, Math.floor(Math.log10(value || 1e-6))), lead = value / power;
    return (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10) * power;
  }
  function showTime() {
    var all = span(), high = 74, svg = picture(width, high, "turns in real time");
    var left = 12, wide = width - 2 * left;
    if (!turns.length) return;
    var begin = turns[0].woke_s - turns[0].steps_s[1];
    draw(svg, "rect", { x: left, y: 10, width: wide, height: 38, rx: 6, "class": "night" });
    turns.forEach(function (turn) {
      var x = left + wide * (turn.woke_s - begin) / all;
      var main = turn.boxes.slice().sort(function (a, b) { return b.took_s - a.took_s; })[0];
      var node = draw(svg, "rect", {
        x: x.toFixed(2), y: turn.is_own ? 36 : 12, height: turn.is_own ? 10 : 34,
        width: Math.max(wide * turn.took_s / all, 1.2).toFixed(2),
        "class": main ? kind(main) : "t1"
      });
      draw(node, "title", {}, "turn " + turn.turn + ", " + time(turn.took_s));
    });
    var step = nice(all / (width < 640 ? 3 : 7));
    for (var at = 0; at < all; at += step) {
      var x = left + wide * (1 - at / all);
      if (x < 36) continue;
      draw(svg, "text", {
        x: x, y: 66, "text-anchor": at ? "middle" : "end"
      }, at ? "\\u2212" + time(at) : "now");
    }
    $("time").replaceChildren(svg);
    $("time-say").textContent = "The pale ground is sleep. Each bar is a turn, as wide as it " +
      "took, in the color of its longest handler. The low ones served this page.";
  }
  function scale(list, of) {
    var sorted = list.map(of).sort(function (a, b) { return a - b; });
    // A turn that is far longer than the rest is cut, and marked.
    return nice(Math.min(sorted[sorted.length - 1] || 1e-6,
      2.5 * (sorted[Math.floor(sorted.length * 0.8)] || 1e-6)));
  }
  function showTurns(list) {
    var narrow = width < 640, row = narrow ? 48 : 32, top = 30;
    var nap = narrow ? { x: 238, w: 110 } : { x: 136, w: 172 };
    var work = narrow ? { x: 12, w: width - 24 } : { x: 324, w: width - 324 - 84 };
    $("turns").hidden = !list.length;
    $("quiet").hidden = list.length > 0;
    $("address").textContent = facts.listener || "ADDRESS";
    if (!list.length) return;
    var longest = scale(list, function (turn) { return turn.took_s + turn.first; });
    var sleeps = nice(most(list, function (turn) { return turn.steps_s[1]; }));
    var svg = picture(width, top + list.length * row + 8, "turns, one below the other");
    if (followed) svg.setAttribute("class", "following");
    var step = nice(longest / (narrow ? 3 : 6));
    for (var at = 0; at <= longest * 1.0001; at += step) {
      var x = work.x + work.w * at / longest;
      var bottom = top + list.length * row, is_last = at + step > longest * 1.0001;
      draw(svg, "line", { x1: x, x2: x, y1: top - 6, y2: bottom, "class": "grid" });
      draw(svg, "text", {
        x: x, y: 16, "text-anchor": at ? (is_last && narrow ? "end" : "middle") : "start"
      }, at ? time(at) : "works");
    }
    if (!narrow) {
      draw(svg, "text", { x: 12, y: 16 }, "turn");
      draw(svg, "text", { x: nap.x + nap.w, y: 16, "text-anchor": "end" },
        "sleeps (full width: " + time(sleeps) + ")");
    }
    list.forEach(function (turn, i) {
      showTurn(svg, turn, top + i * row, { nap: nap, work: work, longest: longest, sleeps: sleeps,
        narrow: narrow, row: row });
    });
    var focused = $("turns").querySelector(":focus");
    $("turns").replaceChildren(svg);
    // A new picture keeps the keyboard's place among the boxes.
    if (focused) svg.querySelectorAll(".box").forEach(function (node) {
      if (node.getAttribute("aria-label") === focused.getAttribute("aria-label")) node.focus();
    });
  }
  function showTurn(svg, turn, y, to) {
    var high = 18, slept = turn.steps_s[1], bar = Math.min(slept / to.sleeps, 1) * to.nap.w;
    var line = to.narrow ? y + 12 : y + 14, base = to.narrow ? y + 20 : y + 1;
    draw(svg, "text", { x: 12, y: line, "class": "num" }, turn.turn);
    draw(svg, "rect", {
      x: to.nap.x + to.nap.w - bar, y: to.narrow ? y + 2 : y + 3, width: Math.max(bar, 0.5),
      height: to.narrow ? 12 : 14, rx: 2, "class": "sleep"
    });
    draw(svg, "text", {
      x: to.narrow ? to.nap.x - 8 : to.nap.x + to.nap.w - bar - 6, y: line, "text-anchor": "end"
    }, (to.narrow ? "slept " : "") + time(slept));
    function at(s) { return to.work.x + to.work.w * Math.min(s / to.longest, 1); }
    var end = turn.took_s + turn.first;
    // The steps, below the boxes; step 1 is the next turn's, which follows at once.
    var from = 0, step = turn.steps_s;
    [[3, step[2]], [4, step[3]], [5, step[4]], [6, step[5]], [1, turn.first]].forEach(function (s) {
      var x = at(from), wide = Math.max(at(from + s[1]) - x, 0.4);
      from += s[1];
      draw(svg, "rect", { x: x.toFixed(2), y: base + high + 1, width: wide.toFixed(2), height: 4,
        "class": "t" + s[0] });
    });
    turn.boxes.forEach(function (box) { showBox(svg, turn, box, at, base, high); });
    var is_cut = end > to.longest * 1.001;
    draw(svg, "text", {
      x: to.narrow ? 64 : at(end) + 6, y: to.narrow ? line : base + 13, "class": is_cut ? "num" : ""
    }, (is_cut ? "▸ " : "") + time(is_cut ? end : turn.took_s));
  }
  function showBox(svg, turn, box, at, base, high) {
    var x = at(box.at_s), wide = Math.max(at(box.at_s + box.took_s) - x, 1.5);
    var lit = followed && has(box, followed) ? " lit" : "";
    var text = words(box) + ": " + time(box.took_s) + ", step " + box.step + " of turn " +
      turn.turn;
    var node = draw(svg, "rect", {
      x: x.toFixed(2), y: base, width: wide.toFixed(2), height: high, rx: Math.min(3, wide / 3),
      "class": "box " + kind(box) + lit, tabindex: 0, role: "button", "aria-label": text
    });
    draw(node, "title", {}, text);
    function tell() { $("told").textContent = text; }
    node.addEventListener("mouseenter", tell);
    node.addEventListener("focus", tell);
    function choose() {
      if (!box.session) return;
      follow(followed === box.session ? 0 : box.session);
    }
    node.addEventListener("click", choose);
    node.addEventListener("keydown", function (event) {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); }
    });
    var label = box.session ? "*" + box.session : box.kind;
    if (wide > 7 * label.length + 8) {
      draw(svg, "text", {
        x: (x + wide / 2).toFixed(2), y: base + 13, "text-anchor": "middle", "class": "on" + lit
      }, label);
    }
  }
  function follow(number) {
    followed = number;
    $("follow").value = number || "";
    showTurns(shown());
    showStory();
  }

"""
END: Final = """\
  // What the visitor does.

  function press(button) {
    var on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    return on;
  }
  $("hold").addEventListener("click", function () {
    held = press(this);
    this.textContent = held ? "Go on" : "Hold still";
    look();
  });
  $("more").addEventListener("click", function () { press(this); showTurns(shown()); });
  $("own").addEventListener("change", function () { showTurns(shown()); });
  $("worker").addEventListener("change", function () { turns = []; look(); });
  $("follow").addEventListener("change", function () { follow(Number(this.value) || 0); });
  document.addEventListener("visibilitychange", look);
  window.addEventListener("resize", function () { if (facts) show(); });
  look();
  setInterval(look, period);
})();
"""
JS: Final = BEGIN + WORDS + END
