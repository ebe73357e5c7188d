"""The style sheet and the script of the page, which loads nothing else.

The script asks for the page every two seconds and makes the old one equal to the new one, so it
need not know what the parts mean. It stops in tabs that nobody sees. If nginy does not answer, it
says how old the page is. Buttons appear only with the script, and where changes are allowed.

Tested in tests/admin/page/test_document.py.
"""

from typing import Final

CSS: Final = """\
:root{color-scheme:light dark;--bg:#fff;--fg:#1a1c1f;--dim:#5b6168;--line:#dde1e6;--card:#f6f7f9;
--good:#0b6b2f;--goodbg:#e3f4e8;--warn:#855000;--warnbg:#fdf1d8;--bad:#b3131b;--badbg:#fde7e7;
--blue:#0b57b5;--grey:#5b6168}
@media(prefers-color-scheme:dark){:root{--bg:#14161a;--fg:#e8eaed;--dim:#a2a9b3;--line:#2c3138;
--card:#1c2026;--good:#6fd893;--goodbg:#12301d;--warn:#f2b84b;--warnbg:#3a2a0b;--bad:#ff8a8a;
--badbg:#431b1d;--blue:#82b4ff;--grey:#a2a9b3}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.45 system-ui,sans-serif}
main{max-width:1280px;margin:0 auto;padding:16px}
h1{font-size:14px;text-transform:uppercase;letter-spacing:.06em;color:var(--dim);margin:28px 0 8px}
h2{font-size:17px;margin:16px 0 6px;overflow-wrap:anywhere}
h2 span{font-size:14px;margin-left:6px}
small,.dim{color:var(--dim);font-size:13px;font-weight:400}
a{color:var(--blue)}
#verdict{font-size:22px;font-weight:650;margin:0;padding:14px 18px;border-radius:10px;
overflow-wrap:anywhere}
#verdict.good{background:var(--goodbg);color:var(--good)}
#verdict.warn{background:var(--warnbg);color:var(--warn)}
#verdict.bad{background:var(--badbg);color:var(--bad)}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}
#stale{background:var(--badbg);color:var(--bad);padding:8px 18px;border-radius:10px;font-weight:650}
#problems{list-style:none;padding:0;margin:10px 0}
#problems li{padding:4px 0 4px 12px;border-left:4px solid var(--warn);margin:4px 0;
overflow-wrap:anywhere}
#problems li.error{border-color:var(--bad)}
#problems li.notice{border-color:var(--blue)}
#problems a{color:inherit}
#figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:10px;
margin:16px 0}
#figures div{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:10px 12px}
dt{color:var(--dim);font-size:13px}
dd{margin:0;font-size:20px;font-weight:600;white-space:nowrap}
svg{display:block;width:100%;height:24px;margin-top:4px}
polyline{fill:none;stroke:var(--blue);stroke-width:1.5;vector-effect:non-scaling-stroke}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 10px;border-bottom:1px solid var(--line);vertical-align:top;
white-space:nowrap}
td[data-head=Reason],td[data-head=Ended],td[data-head=Drops]{white-space:normal}
thead th{color:var(--dim);font-size:13px;font-weight:500;white-space:nowrap}
tbody th{font-weight:600;white-space:normal;overflow-wrap:break-word;max-width:24em}
.state{white-space:nowrap;font-weight:600}
td svg{float:right;width:90px;height:16px;margin:3px 24px 0 8px}
form{margin:0 0 8px}input[type=search]{font:inherit;font-size:14px;padding:3px 8px;color:var(--fg);
background:var(--bg);border:1px solid var(--line);border-radius:6px}
.up{color:var(--good)}.draining,.maintenance{color:var(--blue)}
.ejected,.checking{color:var(--warn)}.down{color:var(--bad)}.unresolved{color:var(--grey)}
abbr{cursor:help;text-underline-offset:2px}
button{font:inherit;font-size:13px;margin:0 4px 2px 0;padding:1px 9px;color:var(--fg);
background:var(--card);border:1px solid var(--line);border-radius:6px;cursor:pointer}
#events{list-style:none;padding:0;margin:0}
#events li{padding:3px 0;overflow-wrap:anywhere}
time{color:var(--dim);font-variant-numeric:tabular-nums}
footer{margin:28px 0 8px;color:var(--dim);font-size:13px;overflow-wrap:anywhere}
footer b{color:var(--warn)}
@media(max-width:700px){main{padding:10px}#verdict{font-size:18px;padding:10px 12px}
#figures{grid-template-columns:1fr 1fr}dd{font-size:17px}
thead{position:absolute;left:-9999px}
tr{display:block;padding:8px 0;border-bottom:1px solid var(--line)}
tbody th{display:block;border:0;padding:0 0 2px;overflow-wrap:anywhere;max-width:none}
td{display:inline-block;border:0;padding:0 12px 2px 0;white-space:normal;overflow-wrap:anywhere}
td:empty{display:none}
td::before{content:attr(data-head)" ";color:var(--dim);font-size:13px}}
@media(prefers-reduced-motion:no-preference){#verdict{transition:background-color .3s}}
"""

JS: Final = """\
"use strict";
(function () {
  var period = 2000, since = null, token = "", busy = false, asked = false, patience = 5000;
  function page() { return document.getElementById("page"); }
  function ask(path, options) {
    var stop = new AbortController();
    var timer = setTimeout(function () { stop.abort(); }, patience);
    options = options || {};
    options.signal = stop.signal;
    options.headers = options.headers || {};
    if (token) options.headers.Authorization = "Bearer " + token;
    return fetch(path, options).finally(function () { clearTimeout(timer); });
  }
  function stale(text) {
    var line = document.getElementById("stale");
    line.hidden = !text;
    line.textContent = text;
  }
  // Makes an old node equal to a fresh one, and touches nothing that is equal already, so it does
  // not disturb typing, selecting or pointing.
  function morph(old, fresh) {
    if (old.nodeName !== fresh.nodeName || old.id !== fresh.id) return old.replaceWith(fresh);
    if (old.nodeType === 3) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if (old === document.activeElement && old.nodeName === "INPUT") return;
    Array.from(fresh.attributes).forEach(function (each) {
      if (each.name === "hidden" && old.nodeName === "BUTTON") return;
      if (old.getAttribute(each.name) !== each.value) old.setAttribute(each.name, each.value);
    });
    Array.from(old.attributes).forEach(function (each) {
      if (!fresh.hasAttribute(each.name)) old.removeAttribute(each.name);
    });
    var had = Array.from(old.childNodes), has = Array.from(fresh.childNodes);
    has.forEach(function (each, place) {
      if (place < had.length) morph(had[place], each); else old.appendChild(each);
    });
    had.slice(has.length).forEach(function (each) { each.remove(); });
  }
  function put(text) {
    var found = new DOMParser().parseFromString(text, "text/html");
    var next = found.getElementById("page");
    if (!next) return;
    morph(page(), next);
    document.title = found.title;
    dress();
  }
  function dress() {
    document.querySelectorAll("button[data-state]").forEach(function (button) {
      button.hidden = false;
    });
  }
  function enter() {
    token = prompt("Token of nginy") || "";
    return token;
  }
  function look() {
    if (document.hidden || busy) return;
    if (page().dataset.locked && !token) {
      if (asked) return;
      asked = true;
      if (!enter()) return;
    }
    busy = true;
    ask("/" + location.search, { headers: { Accept: "text/html" } }).then(function (answer) {
      if (answer.status === 401 || answer.status === 429) enter();
      if (!answer.ok) throw new Error("status " + answer.status);
      return answer.text();
    }).then(function (text) {
      since = null;
      stale("");
      put(text);
    }).catch(function () {
      since = since || new Date();
      stale("stale since " + since.toTimeString().slice(0, 8) + ": nginy does not answer");
    }).finally(function () { busy = false; });
  }
  function refused(answer) {
    return answer.json().then(function (found) {
      var error = found.error;
      alert(error.message + (error.hint ? ", " + error.hint : ""));
    });
  }
  function send(method, path, body) {
    ask("/api/v1" + path, {
      method: method,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body)
    }).then(function (answer) {
      return answer.ok ? look() : refused(answer);
    }).catch(look);
  }
  function some(sessions, all) {
    var names = sessions.map(function (each) { return each.client + " (" + each.id + ")"; });
    if (all > names.length) names.push((all - names.length) + " more");
    return names.join("\\n");
  }
  // Asks which sessions there are, and then whether to go on.
  function change(data) {
    var place = data.upstream + "/" + data.backend, state = data.state;
    var chosen = { upstream: data.upstream, backend: data.backend };
    ask("/api/v1/sessions?limit=5&" + new URLSearchParams(chosen)).then(function (answer) {
      return answer.ok ? answer.json() : refused(answer);
    }).then(function (found) {
      if (!found) return;
      var count = found.matched, what = state === "kill" ? "End all sessions of " : state + " ";
      var text = what + place + "? It has " + (count || "no") +
        (count === 1 ? " session." : " sessions.");
      if (!confirm(count ? text + "\\n" + some(found.sessions, count) : text)) return;
      if (state === "kill") return send("POST", "/sessions/kill", { filter: chosen });
      send("PATCH", "/upstreams/" + encodeURIComponent(data.upstream) + "/backends/" +
        encodeURIComponent(data.backend), { state: state, reason: "by the page" });
    }).catch(look);
  }
  function go(url) {
    history.pushState(null, "", url);
    look();
  }
  document.addEventListener("click", function (event) {
    var from = event.target;
    if (from.dataset.state) return change(from.dataset);
    if (from.className === "go") {
      event.preventDefault();
      go(from.href);
    }
  });
  document.addEventListener("submit", function (event) {
    event.preventDefault();
    if (document.activeElement) document.activeElement.blur();
    go("/?" + new URLSearchParams(new FormData(event.target)));
  });
  window.addEventListener("popstate", look);
  document.addEventListener("visibilitychange", look);
  dress();
  if (page().dataset.locked) look();
  setInterval(look, period);
})();
"""
