"use strict";
function openTarget() {
  let found = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = found; part; part = part.parentElement)
    if (part.tagName === "DETAILS") part.open = true;
  if (found) found.scrollIntoView();
}
addEventListener("hashchange", openTarget);
openTarget();
