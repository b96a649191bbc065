// The playground is large, so a chapter loads it only after a click.
for (const place of document.querySelectorAll(".playground")) {
  place.querySelector("button").addEventListener("click", () => {
    const frame = document.createElement("iframe");
    const { theme } = document.body.dataset; // of the button for dark mode; auto: the system's
    frame.src = place.dataset.source + (theme === "light" || theme === "dark" ? `&theme=${theme}` : "");
    frame.title = place.dataset.title;
    frame.allow = "cross-origin-isolated";
    place.replaceChildren(frame);
    frame.focus();
  });
}

// What is wider than the screen scrolls by itself; a keyboard must reach it.
for (const box of document.querySelectorAll(".table-wrapper, .highlight pre, .cell_output pre, div.math")) {
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
}
