// A feature phone: keys, a screen of a few lines, and one USSD session at a time.
import { GATEWAYS } from "/phone/gateways.js";

const KEYS = [["1", ""], ["2", "ABC"], ["3", "DEF"], ["4", "GHI"], ["5", "JKL"], ["6", "MNO"], ["7", "PQRS"], ["8", "TUV"],
  ["9", "WXYZ"], ["*", ""], ["0", "+"], ["#", "⇧"]];
const TAP_MS = 900; // within it, the same key takes the next letter
const ENTRY_MAX = 160;
const PERIOD_S = 120, PERIOD_NGN = 6.98; // the Nigerian regulator's price for a period that has begun
const TWICE = new Set("^{}\\[~]|€"); // take two septets

const $ = (id) => document.getElementById(id);
const settings = await (await fetch("/phone/settings.json")).json();
const code = settings.serviceCode.replace(/^\*|#$/g, "");

let session = null; // {id, gateway, msisdn, code, tail, inputs, state, startedAt, screens, waiting, ended}
let entry = "";
let letters = false;
let tapped = { key: "", at: 0, turn: 0 };

for (const [digit, small] of KEYS) {
  const key = document.createElement("button");
  key.type = "button";
  key.dataset.key = digit;
  key.setAttribute("aria-label", `Key ${digit}`);
  key.append(digit, Object.assign(document.createElement("small"), { textContent: small }));
  key.addEventListener("click", () => press(digit));
  $("keypad").append(key);
}
for (const name of settings.gateways.filter((one) => one in GATEWAYS)) {
  $("gateway").append(new Option(GATEWAYS[name].label, name));
}
for (const tail of ["", "*1*0712000002*500", "*2*123456*300", "*5"]) {
  const dial = document.createElement("button");
  dial.type = "button";
  dial.textContent = `*${code}${tail}#`;
  dial.addEventListener("click", () => { hangUp(); entry = dial.textContent; call(); });
  const item = document.createElement("li");
  item.append(dial);
  $("examples").append(item);
}
$("left").addEventListener("click", leftKey);
$("right").addEventListener("click", rightKey);
$("call").addEventListener("click", () => (session && !session.ended ? send() : call()));
$("end").addEventListener("click", hangUp);
$("drop").addEventListener("click", hangUp);
document.addEventListener("keydown", typed);
setInterval(tick, 250);
setInterval(texts, 1500);
texts();
show();

function inSession() { return session !== null && !session.ended; }

function press(key) {
  if (session?.waiting) return;
  if (session?.ended) hangUp();
  if (inSession() && key === "#") { letters = !letters; return show(); }
  const choices = letters && inSession() ? (KEYS.find(([one]) => one === key)?.[1] ?? "") + key : key;
  const now = performance.now();
  if (choices.length > 1 && key === tapped.key && now - tapped.at < TAP_MS) {
    tapped = { key, at: now, turn: (tapped.turn + 1) % choices.length };
    entry = entry.slice(0, -1) + choices[tapped.turn];
  } else if (entry.length < ENTRY_MAX) {
    tapped = { key, at: now, turn: 0 };
    entry += choices[0];
  }
  show();
}

function typed(event) {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key;
  if (key === "Enter") { if (event.target.matches("button")) event.target.blur(); event.preventDefault(); leftKey(); }
  else if (key === "Backspace") { entry = entry.slice(0, -1); show(); }
  else if (key === "Escape") hangUp();
  else if (/^[0-9*#]$/.test(key)) { flash(key); press(key); }
  else if (key.length === 1 && inSession() && key !== " " && entry.length < ENTRY_MAX) { entry += key; show(); }
}

function flash(key) {
  const button = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  button.classList.add("pressed");
  setTimeout(() => button.classList.remove("pressed"), 120);
}

function leftKey() {
  if (session?.ended) hangUp();
  else if (inSession()) send();
  else if (entry) call();
}

function rightKey() {
  if (entry) { entry = entry.slice(0, -1); show(); }
  else if (session) hangUp();
}

async function call() {
  if (!entry || inSession()) return;
  const number = entry.replace(/^\*|#$/g, "");
  const ours = number === code || number.startsWith(`${code}*`);
  session = {
    id: crypto.randomUUID().replaceAll("-", ""), gateway: GATEWAYS[$("gateway").value],
    msisdn: $("msisdn").value.replace(/\D/g, ""), code: ours ? code : number, tail: ours ? number.slice(code.length + 1) : "",
    inputs: [], state: "", startedAt: performance.now(), screens: 0, text: "", waiting: false, ended: false,
  };
  $("steps").replaceChildren();
  await step(entry, null);
}

async function send() {
  if (!session.waiting) await step(entry, entry);
}

async function step(label, typedText) {
  const mine = session, startedAt = performance.now();
  const isPin = /PIN/.test(mine.text) && /^\d{4,}$/.test(typedText ?? "");
  entry = "";
  letters = false;
  mine.waiting = true;
  if (typedText !== null) mine.inputs.push(typedText);
  show();
  let shown;
  try {
    const [path, options] = mine.gateway.call(mine, typedText);
    const answer = await fetch(path, options);
    shown = answer.ok ? await mine.gateway.read(answer, mine) : { text: `The gateway got ${answer.status}: ${await answer.text()}`, ends: true };
  } catch {
    shown = { text: "No answer: connection problem or invalid MMI code.", ends: true };
  }
  if (session !== mine) return; // it was hung up meanwhile
  Object.assign(mine, { text: shown.text, ended: shown.ends, waiting: false, endedAt: performance.now() });
  mine.screens += 1;
  note(isPin ? "••••" : label, shown.text, performance.now() - startedAt);
  show();
  $("screen").scrollTop = 0;
}

function note(label, text, ms) {
  const row = document.createElement("li");
  for (const [tag, content] of [["b", label], ["span", text.replaceAll("\n", " · ")], ["i", `${Math.round(ms)} ms`]]) {
    row.append(Object.assign(document.createElement(tag), { textContent: content, title: content }));
  }
  $("steps").append(row);
  $("steps").scrollTop = $("steps").scrollHeight;
}

function hangUp() {
  session = null;
  entry = "";
  letters = false;
  show();
}

function show() {
  const idle = session === null;
  $("screen").textContent = idle ? entry || "" : session.text || "USSD code running…";
  $("screen").classList.toggle("idle", idle);
  $("screen").classList.toggle("waiting", Boolean(session?.waiting && session.text));
  $("entry").textContent = idle ? "" : entry;
  $("entry").classList.toggle("open", inSession() && !session.waiting);
  $("mode").textContent = letters ? "Abc" : "123";
  $("left-label").textContent = idle ? (entry ? "Call" : "") : session.ended ? "OK" : "Send";
  $("right-label").textContent = entry ? "Clear" : idle ? "" : session.ended ? "" : "Cancel";
  $("drop").disabled = !inSession();
  if (!idle) $("septets").textContent = [...session.text].reduce((sum, one) => sum + (TWICE.has(one) ? 2 : 1), 0);
  tick();
}

function tick() {
  if (session === null) return;
  const seconds = ((session.ended ? session.endedAt : performance.now()) - session.startedAt) / 1000;
  $("seconds").textContent = Math.floor(seconds);
  $("screens").textContent = session.screens;
  $("price").textContent = ((Math.floor(seconds / PERIOD_S) + 1) * PERIOD_NGN).toFixed(2);
}

async function texts() {
  const msisdn = $("msisdn").value.replace(/\D/g, "");
  let found;
  try {
    const answer = await fetch(`/phone/sms.json?${new URLSearchParams({ msisdn })}`);
    found = answer.ok ? await answer.json() : [];
  } catch {
    return; // the edge starts anew, perhaps
  }
  $("texts").replaceChildren(...found.map((sms) => {
    const item = Object.assign(document.createElement("li"), { textContent: sms.text });
    item.dataset.id = sms.id;
    return item;
  }));
}
