"""The part of the script of `/loop` that puts things into words: a session's story, why nothing may
block, and what is beside the turns. It stands in the middle of `script.py`.

Tested in tests/run/test_admin_loop.py.
"""

from typing import Final

WORDS: Final = """\
  // Words about it.

  function stops(number) {
    var found = [];
    turns.forEach(function (turn) {
      turn.boxes.forEach(function (box) {
        if (has(box, number)) found.push({ turn: turn, box: box });
      });
    });
    return found;
  }
  function latest() {
    for (var i = turns.length - 1; i >= 0; i--) {
      for (var j = turns[i].boxes.length - 1; j >= 0; j--) {
        var box = turns[i].boxes[j];
        if (box.session && box.kind !== "accept") return box.session;
      }
    }
    return 0;
  }
  var STORY = {
    accept: "The client is accepted.", "client read": "The client has sent something.",
    "upstream read": "The backend has sent something.", write: "There is room to send.",
    timer: "A deadline is due.", posted: "It goes on after the others have had their turn."
  };
  function says(box) {
    if (box.outcome === "put off") return "A client is waiting; it is accepted last, in step 6.";
    if (box.outcome === "EOF") {
      return (box.kind === "client read" ? "The client" : "The backend") +
        " has sent its last byte.";
    }
    if (box.what.indexOf("connected") === 0) return "The backend has answered: connected.";
    if (box.kind === "posted" && box.what) return "More of a " + box.what + " that was put off.";
    return STORY[box.kind] || "";
  }
  function showStory() {
    var number = followed || latest(), found = number ? stops(number) : [];
    $("story").hidden = !found.length;
    $("steps").textContent = "";
    if (!found.length) return;
    var worked = total(found, function (stop) { return stop.box.took_s; });
    var begin = found[0].turn.woke_s + found[0].box.at_s, last = found[found.length - 1];
    var all = last.turn.woke_s + last.box.at_s + last.box.took_s - begin;
    $("h-story").textContent = (followed ? "Session *" : "The latest session, *") + number + ": " +
      time(worked) + " of work in " + time(all);
    found.slice(0, 40).forEach(function (stop, i) {
      var box = stop.box, item = make("li"), when = stop.turn.woke_s + box.at_s - begin;
      var before = i ? found[i - 1] : null;
      if (before && before.turn !== stop.turn) {
        var gap = when - (before.turn.woke_s + before.box.at_s + before.box.took_s - begin);
        $("steps").appendChild(make("li", { "class": "gap" }, "for " + time(gap) +
          " the loop sleeps, or serves others"));
      }
      item.appendChild(make("i", { "class": kind(box) }));
      item.appendChild(make("time", {}, "turn " + stop.turn.turn + ", step " + box.step));
      item.appendChild(document.createTextNode(says(box) + " "));
      item.appendChild(make("small", {}, words(box) + ": " + time(box.took_s)));
      $("steps").appendChild(item);
    });
    var more = found.length - 40;
    if (more > 0) $("steps").appendChild(make("li", { "class": "gap" }, "and " + more + " more"));
  }
  function showBlock() {
    var crowd = turns.slice().sort(function (a, b) {
      return b.boxes.length - a.boxes.length || b.took_s - a.took_s;
    })[0];
    var text = "There is one thread. While a handler runs, nobody else is served.";
    if (crowd && crowd.boxes.length > 1) {
      var last = crowd.boxes[crowd.boxes.length - 1];
      text += " In turn " + crowd.turn + ", " + crowd.boxes.length + " handlers ran one after " +
        "the other; the last one had to wait " + time(last.at_s) + ".";
    }
    var longest = turns.slice().sort(function (a, b) { return b.took_s - a.took_s; })[0];
    if (longest) {
      text += " The longest turn here took " + time(longest.took_s) + ": for that long, nginy " +
        "noticed nothing new. A handler that waited for a disk or a name server, 100 ms perhaps, " +
        "would have kept " + (facts.connections === 1 ? "the one connection" : "all " +
        facts.connections + " connections") + " waiting " +
        Math.round(0.1 / longest.took_s).toLocaleString("en") + " times as long. So no handler " +
        "ever waits: it takes what is there, and comes back when there is more.";
    }
    $("block").textContent = text;
  }
  function card(title, big, text) {
    var node = make("div", { "class": "card" });
    node.appendChild(make("h3", {}, title));
    node.appendChild(make("p", { "class": "big" }, big));
    node.appendChild(make("p", { "class": "say" }, text));
    $("beside").appendChild(node);
    return node;
  }
  function showBeside() {
    $("beside").textContent = "";
    var node = card("Timers", facts.timers + " run", facts.fired + " have fired since the " +
      "recording began, " + facts.went_back_to_sleep + " of them too early: traffic had moved " +
      "their deadlines, and they went back to sleep.");
    var wheel = make("div", { "class": "wheel" }), list = make("ul");
    var svg = picture(120, 120, "the next deadlines, on a dial of a minute");
    draw(svg, "circle", { cx: 60, cy: 60, r: 46, "class": "ring" });
    facts.next.forEach(function (each) {
      if (each.in_s >= 60) return;
      var angle = 2 * Math.PI * each.in_s / 60, sin = Math.sin(angle), cos = -Math.cos(angle);
      draw(svg, "line", { x1: 60 + 39 * sin, y1: 60 + 39 * cos, x2: 60 + 53 * sin,
        y2: 60 + 53 * cos, "class": "hand" });
    });
    draw(svg, "text", { x: 60, y: 57, "text-anchor": "middle" }, "one");
    draw(svg, "text", { x: 60, y: 72, "text-anchor": "middle" }, "minute");
    facts.next.slice(0, 5).forEach(function (each) {
      list.appendChild(make("li", {}, "in " + time(each.in_s) + ": " + each.what +
        (each.timers > 1 ? ", " + each.timers + " at once" : " of " + each.of)));
    });
    wheel.appendChild(svg);
    wheel.appendChild(list);
    node.appendChild(wheel);
    var off = total(turns, function (turn) { return turn.put_off; });
    card("Put off until step 6", off + " in " + turns.length + " turns",
      "New clients, sessions that had used up their share of a turn, and work in slices, such as " +
      "this page. What they put off again waits for the next turn, so nobody starves.");
    card("Bytes in buffers and pipes", amount(facts.unsent_bytes),
      "Received, and not yet taken by the other side, of " + amount(facts.unsent_limit_bytes) +
      " at most; " + facts.pipes + " pipes. A session at rest holds nothing.");
  }

"""
