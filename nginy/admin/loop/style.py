"""The style sheet of the page `/loop`. See `page.py`.

Tested in tests/admin/loop/test_page.py.
"""

from typing import Final

CSS: Final = """\
:root{color-scheme:light dark;--bg:#fff;--fg:#1a1c1f;--dim:#5b6168;--line:#dde1e6;--card:#f6f7f9;
--blue:#0b57b5;--bad:#b3131b;--badbg:#fde7e7;--night:#e9edf5;--moon:#66758f;--on:#fff;
--accept:#7a3fd1;--client:#0b63c4;--upstream:#0b7a3a;--write:#00717f;--timer:#96570a;
--posted:#b5196b;--admin:#6a727c;--other:#6d4c41;--step:#8b95a3}
@media(prefers-color-scheme:dark){:root{--bg:#14161a;--fg:#e8eaed;--dim:#a2a9b3;--line:#2c3138;
--card:#1c2026;--blue:#82b4ff;--bad:#ff8a8a;--badbg:#431b1d;--night:#1e2635;--moon:#93a3c0;
--on:#101214;--accept:#b794ff;--client:#6db3ff;--upstream:#67d68f;--write:#4fd3de;--timer:#f2b84b;
--posted:#ff86b3;--admin:#9aa3ae;--other:#cfa996;--step:#717b88}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
main{max-width:1280px;margin:0 auto;padding:16px 20px 40px}
nav{color:var(--dim);font-size:13px}
a{color:var(--blue)}
h1{font-size:30px;line-height:1.15;letter-spacing:-.02em;margin:10px 0 6px}
h2{font-size:18px;margin:28px 0 4px}
.lead{font-size:17px;max-width:62em;margin:0 0 14px}
.say{color:var(--dim);margin:0 0 8px;max-width:70em}
#stale{background:var(--badbg);color:var(--bad);padding:8px 14px;border-radius:10px;font-weight:650}
[hidden]{display:none!important}
#figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px;
margin:14px 0}
#figures div,.card{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:10px 14px}
dt{color:var(--dim);font-size:13px}
dd{margin:0;font-size:22px;font-weight:650;white-space:nowrap;letter-spacing:-.01em}
dd small{display:block;font-size:12.5px;font-weight:400;color:var(--dim);letter-spacing:0;
white-space:normal;line-height:1.35}
#six{list-style:none;display:grid;grid-template-columns:repeat(6,1fr);gap:8px;padding:0;
margin:8px 0}
#six li{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:8px 10px;
font-size:14px;line-height:1.3;position:relative}
#six b{display:block;color:var(--dim);font-size:12px}
#six li:not(:last-child)::after{content:"→";position:absolute;right:-9px;top:6px;color:var(--dim);
font-size:13px;z-index:1}
#six .s2{background:var(--night)}
#six .s1,#six .s3{border-bottom:4px solid var(--step)}#six .s2{border-bottom:4px solid var(--moon)}
#six .s4{border-bottom:4px solid var(--client)}#six .s5{border-bottom:4px solid var(--timer)}
#six .s6{border-bottom:4px solid var(--posted)}
#kinds{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;padding:0;margin:10px 0 0;
font-size:13.5px;color:var(--dim)}
#kinds b{color:var(--fg);font-weight:600}
#kinds i{display:inline-block;width:13px;height:13px;border-radius:3px;margin-right:6px;
vertical-align:-1px}
.k-accept{fill:var(--accept);background:var(--accept)}
.k-client-read{fill:var(--client);background:var(--client)}
.k-upstream-read{fill:var(--upstream);background:var(--upstream)}
.k-write{fill:var(--write);background:var(--write)}
.k-timer{fill:var(--timer);background:var(--timer)}
.k-posted{fill:var(--posted);background:var(--posted)}
.k-admin{fill:var(--admin);background:var(--admin)}
.k-other{fill:var(--other);background:var(--other)}
#controls{display:flex;flex-wrap:wrap;gap:8px 16px;align-items:center;margin:8px 0;font-size:14px}
button,select,input[type=number]{font:inherit;font-size:14px;padding:4px 12px;color:var(--fg);
background:var(--card);border:1px solid var(--line);border-radius:8px}
button{cursor:pointer}
button[aria-pressed=true]{background:var(--blue);color:var(--bg);border-color:var(--blue)}
input[type=number]{width:6.5em}
label{color:var(--dim)}
.chart{background:var(--card);border:1px solid var(--line);border-radius:12px;overflow:hidden}
svg{display:block;width:100%;height:auto}
svg text{font:12px system-ui,sans-serif;fill:var(--dim);font-variant-numeric:tabular-nums;
paint-order:stroke;stroke:var(--card);stroke-width:3px}
svg .num{fill:var(--fg);font-weight:600}
svg .on{fill:var(--on);font-weight:600;font-size:11px;pointer-events:none;stroke:none}
.night{fill:var(--night)}.sleep{fill:var(--moon);opacity:.55}
.grid{stroke:var(--line);stroke-width:1;shape-rendering:crispEdges}
.t1,.t3{fill:var(--step)}.t4{fill:var(--client)}.t5{fill:var(--timer)}.t6{fill:var(--posted)}
.box{cursor:pointer;stroke:var(--card);stroke-width:1}
.box:hover,.box:focus{outline:none;stroke:var(--fg);stroke-width:2}
.lit{stroke:var(--fg);stroke-width:2}
.following .box:not(.lit){opacity:.22}
.following .on:not(.lit){opacity:.35}
#told{position:sticky;bottom:0;margin:0;padding:8px 14px;min-height:39px;font-weight:600;
background:var(--bg)}
#story ol{margin:6px 0;padding-left:0;list-style:none;counter-reset:step;border-left:2px solid
var(--line);margin-left:6px}
#story li{padding:3px 0 3px 16px;position:relative;max-width:62em}
#story li::before{content:"";position:absolute;left:-7px;top:10px;width:12px;height:12px;
border-radius:50%;background:inherit;border:2px solid var(--bg)}
#story li i{position:absolute;left:-7px;top:9px;width:12px;height:12px;border-radius:50%}
#story li.gap{color:var(--dim);font-size:13px}
#story time{color:var(--dim);font-variant-numeric:tabular-nums;margin-right:8px}
#block{max-width:66em;margin:4px 0}
#beside{display:grid;grid-template-columns:repeat(auto-fit,minmax(290px,1fr));gap:12px}
.card h3{font-size:14px;margin:0 0 4px;color:var(--dim);font-weight:600}
.card p{margin:4px 0}
.card .big{font-size:22px;font-weight:650}
.wheel{display:flex;gap:14px;align-items:center}
.wheel svg{width:132px;flex:none}
.wheel ul{list-style:none;margin:0;padding:0;font-size:13px;line-height:1.35;min-width:0;
overflow-wrap:anywhere}
.wheel li{margin:3px 0}
.ring{fill:none;stroke:var(--line);stroke-width:10}
.hand{stroke:var(--timer);stroke-width:3;stroke-linecap:round}
.scroll{overflow-x:auto}
details{margin:26px 0 0}
summary{cursor:pointer;color:var(--dim)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th,td{text-align:left;padding:4px 10px;border-bottom:1px solid var(--line);vertical-align:top}
thead th{color:var(--dim);font-weight:500}
td:not(:last-child){white-space:nowrap}
td ol{margin:0;padding-left:1.4em}
footer{margin:28px 0 8px;color:var(--dim);font-size:13px}
@media(max-width:800px){#six{grid-template-columns:repeat(3,1fr)}}
@media(max-width:560px){main{padding:12px}h1{font-size:25px}.lead{font-size:16px}
#six{grid-template-columns:1fr 1fr}#six li::after{display:none}
#figures{grid-template-columns:1fr 1fr;gap:8px}dd{font-size:19px}th,td{padding:4px 6px}}
@media(prefers-reduced-motion:no-preference){.box,.on{transition:opacity .15s}}
"""
