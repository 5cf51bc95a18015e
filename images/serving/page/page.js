// Shows what the server says, as it says it. Every text is set as text: none of it is ever read as markup.
"use strict";

const STAGES = ["seen", "chosen", "writing", "installed", "first boot", "joined", "formed"];
const NAMES = { awaited: "not seen yet" };
const token = document.querySelector("meta[name=xenpair-token]").content;
const nodes = new Map(); // "cluster/node" -> { card, stage }
let closesAt = 0;

const found = (selector, within = document) => within.querySelector(selector);
const stamped = (id) => found(`#${id}`).content.firstElementChild.cloneNode(true);

/** Only where it differs: what is set again would be read aloud again, and lose what a person has selected. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function moodOf(node) {
  if (node.failed) return "failed";
  if (node.stage === "formed") return "done";
  if (node.state === "waiting") return "waiting";
  return node.stage === "awaited" ? "absent" : "busy";
}

function badgeOf(node) {
  if (node.failed) return "failed";
  const name = NAMES[node.stage] ?? node.stage;
  return node.state === "waiting" ? `${name}, waiting` : name;
}

function cardOf(node) {
  const key = `${node.cluster}/${node.node}`;
  if (!nodes.has(key)) {
    const card = stamped("node");
    say(found("h3", card), node.node);
    for (const stage of STAGES) {
      const item = document.createElement("li");
      item.textContent = stage;
      found(".stages", card).append(item);
    }
    found("button", card).setAttribute("aria-label", `Allow ${node.node} to be installed again`);
    found("button", card).addEventListener("click", () => allow(node.cluster, node.node, card));
    found("progress", card).setAttribute("aria-label", `Writing ${node.node}`);
    cardsOf(node.cluster).append(card);
    nodes.set(key, { card, badge: "" });
  }
  return nodes.get(key);
}

function cardsOf(cluster) {
  const id = `cluster-${cluster}`;
  if (!document.getElementById(id)) {
    const section = stamped("cluster");
    section.id = id;
    found("h2", section).id = `${id}-title`;
    section.setAttribute("aria-labelledby", `${id}-title`);
    say(found("h2", section), `Cluster ${cluster}`);
    found("#clusters").append(section);
  }
  return found("ul", document.getElementById(id));
}

function showNode(node, open) {
  const entry = cardOf(node);
  const { card } = entry;
  const badge = badgeOf(node);
  card.dataset.mood = moodOf(node);
  say(found(".badge", card), badge);
  const reached = STAGES.indexOf(node.stage);
  [...found(".stages", card).children].forEach((item, i) => {
    item.toggleAttribute("data-reached", i <= reached);
    if (i === reached) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  });
  const writing = node.percent !== null && !node.failed;
  found(".progress", card).hidden = !writing;
  if (writing) {
    found("progress", card).value = node.percent;
    say(found("output", card), `${Math.floor(node.percent)} %`);
  }
  say(found(".text", card), [node.step, node.text].filter(Boolean).join(": "));
  say(found(".seen", card), node.seen);
  showLog(found(".last", card), node);
  found(".again", card).hidden = !node.settled;
  found("button", card).disabled = !open || !token;
  say(found(".again p", card), againOf(node, open));
  if (entry.badge && entry.badge !== badge) announce(`${node.node}: ${badge}. ${node.failed ? node.text : ""}`);
  entry.badge = badge;
}

function showLog(details, node) {
  details.hidden = node.log.length === 0;
  if (details.hidden) return;
  const pre = found("pre", details);
  if (pre.textContent === node.log.join("\n")) return;
  pre.textContent = node.log.join("\n");
  details.open = node.failed;
  pre.scrollTop = pre.scrollHeight;
}

function againOf(node, open) {
  const given = node.given ? `Its secrets were handed out at ${clock(node.given)}.` : "It is installed.";
  if (!open) return `${given} The window has closed: start invoke serve again.`;
  return token ? `${given} Only for a machine that has to be installed anew.` : `${given} Only on the server itself.`;
}

function showStrangers(strangers) {
  const section = found("#strangers");
  section.hidden = strangers.length === 0;
  const list = found("ul", section);
  const wanted = JSON.stringify(strangers.map(({ seen, text }) => [seen, text]));
  if (list.dataset.shown === wanted) return;
  list.dataset.shown = wanted;
  list.replaceChildren(...strangers.map((stranger) => {
    const card = stamped("stranger");
    say(found("h3", card), stranger.macs[0] ?? "without a network card");
    say(found(".text", card), stranger.text || `asked for something to boot; seen: ${stranger.seen}`);
    say(found("pre", card), stranger.macs.map((mac) => `match: {mac: "${mac}"}`).join("\n"));
    return card;
  }));
}

function showLines(lines) {
  const list = found("#log");
  const below = list.scrollHeight - list.scrollTop - list.clientHeight < 8;
  list.replaceChildren(...lines.map(([at, text]) => {
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.dateTime = new Date(at * 1000).toISOString();
    time.textContent = clock(at);
    item.append(time, text);
    return item;
  }));
  if (below) list.scrollTop = list.scrollHeight;
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

function announce(text) {
  say(found("#announcements"), text);
}

function showWindow() {
  const left = Math.max(0, Math.round((closesAt - Date.now()) / 1000));
  const [hours, minutes, seconds] = [Math.floor(left / 3600), Math.floor(left / 60) % 60, left % 60];
  const two = (number) => String(number).padStart(2, "0");
  say(found("#window"), left ? `open, ${hours ? `${hours}:${two(minutes)}` : minutes}:${two(seconds)} left` : "closed");
}

function show(state) {
  closesAt = Date.now() + state.closes_in * 1000;
  const formed = state.nodes.filter((node) => node.stage === "formed" && !node.failed).length;
  say(found("#formed"), `${formed} of ${state.nodes.length}`);
  state.nodes.forEach((node) => showNode(node, state.closes_in > 0));
  showStrangers(state.strangers);
  showLines(state.lines);
  showWindow();
}

async function allow(cluster, node, card) {
  if (!window.confirm(`Let ${node} be installed again, and have its secrets once more?`)) return;
  let problem = "The server does not answer.";
  try {
    const headers = { "X-Xenpair-Token": token, "Content-Type": "application/json" };
    const answer = await fetch("/allow", { method: "POST", headers, body: JSON.stringify({ cluster, node }) });
    problem = answer.ok ? "" : (await answer.json()).error;
  } catch { /* said below */ }
  if (problem) say(found(".again p", card), problem);
  announce(problem || `${node} may be installed again`);
}

function connect() {
  const events = new EventSource("/events");
  const connection = found("#connection");
  events.onmessage = (event) => {
    say(connection, "connected");
    connection.classList.remove("bad");
    show(JSON.parse(event.data));
  };
  events.onerror = () => {
    say(connection, "gone; trying again");
    connection.classList.add("bad");
    if (events.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  };
}

setInterval(showWindow, 1000);
connect();
