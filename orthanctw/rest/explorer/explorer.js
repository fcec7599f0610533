"use strict";
// A plain browser of the REST API: the address after "#" is the path that is shown.
const byId = (id) => document.getElementById(id);
const children = { patients: "studies", studies: "series", series: "instances" };

async function get(path) {
  const answer = await fetch("../" + path.replace(/^\//, ""));
  if (!answer.ok) throw new Error(answer.status + " " + path);
  return answer.json();
}

function element(name, text, href) {
  const made = document.createElement(name);
  if (href) made.href = href;
  made.textContent = text;
  return made;
}

function row(cells) {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const column = document.createElement("td");
    column.append(cell);
    line.append(column);
  }
  byId("items").append(line);
}

function describe(resource) {
  const tags = { ...resource.PatientMainDicomTags, ...resource.MainDicomTags };
  const shown = ["PatientName", "PatientID", "StudyDate", "StudyDescription", "Modality", "SeriesDescription", "InstanceNumber"];
  return shown.map((name) => tags[name]).filter(Boolean).join(" · ") || resource.ID;
}

function showTags(tags) {
  for (const [name, value] of Object.entries(tags)) {
    row([name, typeof value === "object" && value !== null ? JSON.stringify(value) : String(value)]);
  }
}

async function show() {
  byId("items").replaceChildren();
  byId("trail").replaceChildren();
  byId("problem").textContent = "";
  const [level = "patients", id] = location.hash.slice(1).split("/").filter(Boolean);
  try {
    const totals = await get("statistics");
    byId("totals").textContent = `${totals.CountPatients} patients, ${totals.CountStudies} studies, ` +
      `${totals.CountSeries} series, ${totals.CountInstances} instances, ${totals.TotalDiskSizeMB} MB`;
    if (!id) {
      for (const one of await get(level + "?expand&since=0&limit=200")) row([element("a", describe(one), `#${level}/${one.ID}`)]);
    } else if (level === "instances") {
      byId("trail").append(element("a", "file", `../instances/${id}/file`), element("a", "tags", `../instances/${id}/tags`));
      showTags(await get(`instances/${id}/simplified-tags`));
    } else {
      const child = children[level];
      byId("trail").append(element("a", "JSON", `../${level}/${id}`));
      for (const one of await get(`${level}/${id}/${child}`)) row([element("a", describe(one), `#${child}/${one.ID}`)]);
    }
  } catch (problem) {
    byId("problem").textContent = problem.message;
  }
}

async function upload(event) {
  let stored = 0, refused = 0;
  for (const file of event.target.files) {
    const answer = await fetch("../instances", { method: "POST", body: file });
    if (answer.ok) stored += 1; else refused += 1;
    byId("progress").textContent = `${stored} stored, ${refused} refused`;
  }
  event.target.value = "";
  show();
}

byId("upload").addEventListener("change", upload);
window.addEventListener("hashchange", show);
show();
