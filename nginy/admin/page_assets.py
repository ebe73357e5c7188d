"""The style sheet and the script of the page. Both are ours, and the page loads nothing else.

The script asks for the page every two seconds and puts its parts in place of the old ones, so it
knows nothing of what they mean. It stops in tabs that nobody sees, and if nginy does not answer,
says how old the page is. Buttons appear only with it, and where changes are allowed.

Tested in tests/admin/test_page.py.
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
th,td{text-align:left;padding:6px 10px;border-bottom:1px solid var(--line);vertical-align:top}
thead th{color:var(--dim);font-size:13px;font-weight:500;white-space:nowrap}
tbody th{font-weight:600;overflow-wrap:anywhere}
.state{white-space:nowrap;font-weight:600}
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
tbody th{display:block;border:0;padding:0 0 2px}
td{display:inline-block;border:0;padding:0 12px 2px 0}
td:empty{display:none}
td::before{content:attr(data-head)" ";color:var(--dim);font-size:13px}}
@media(prefers-reduced-motion:no-preference){#verdict{transition:background-color .3s}}
"""

JS: Final = """\
"use strict";
(function () {
  var period = 2000, since = null, token = "", busy = false, asked = false, patience = 5000;
  function headers(more) {
    var found = more || {};
    if (token) found.Authorization = "Bearer " + token;
    return found;
  }
  function ask(path, options) {
    var stop = new AbortController();
    var timer = setTimeout(function () { stop.abort(); }, patience);
    options = options || {};
    options.signal = stop.signal;
    options.headers = headers(options.headers || { Accept: "text/html" });
    return fetch(path, options).finally(function () { clearTimeout(timer); });
  }
  function stale(text) {
    var line = document.getElementById("stale");
    line.hidden = !text;
    line.textContent = text;
  }
  function put(text) {
    var found = new DOMParser().parseFromString(text, "text/html");
    var next = found.getElementById("page"), page = document.getElementById("page");
    if (!next) return;
    delete page.dataset.locked;
    var old = page.children, fresh = Array.from(next.children);
    var verdict = document.getElementById("verdict"), told = next.querySelector("#verdict");
    if (verdict.textContent !== told.textContent) verdict.textContent = told.textContent;
    verdict.className = told.className;
    Array.from(old).forEach(function (part) {
      if (part.id !== "verdict" && part.id !== "stale") part.remove();
    });
    fresh.forEach(function (part) {
      if (part.id !== "verdict" && part.id !== "stale") page.appendChild(part);
    });
    document.title = found.title;
    dress();
  }
  function dress() {
    document.querySelectorAll("button[data-state]").forEach(function (button) {
      button.hidden = false;
    });
  }
  function look() {
    if (document.hidden || busy) return;
    if (document.getElementById("page").dataset.locked && !token) {
      token = asked ? "" : prompt("Token of nginy") || "";
      asked = true;
      if (!token) return;
    }
    busy = true;
    ask("/").then(function (answer) {
      if (answer.status === 401 || answer.status === 429) token = prompt("Token of nginy") || "";
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
  function change(button) {
    var state = button.dataset.state, backend = button.dataset.backend;
    var upstream = button.dataset.upstream, conns = button.dataset.conns;
    var text = state + " " + upstream + "/" + backend + "? It has " + conns + " sessions.";
    if (!confirm(text)) return;
    var path = "/api/v1/upstreams/" + encodeURIComponent(upstream) + "/backends/" +
      encodeURIComponent(backend);
    ask(path, {
      method: "PATCH",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ state: state, reason: "by the page" })
    }).then(function (answer) {
      if (answer.ok) return look();
      if (answer.status === 401) {
        token = prompt("token") || "";
        if (token) change(button);
        return null;
      }
      return answer.json().then(function (found) { alert(found.error.message); });
    }).catch(function () { look(); });
  }
  document.addEventListener("click", function (event) {
    if (event.target.dataset && event.target.dataset.state) change(event.target);
  });
  document.addEventListener("visibilitychange", look);
  dress();
  if (document.getElementById("page").dataset.locked) look();
  setInterval(look, period);
})();
"""
