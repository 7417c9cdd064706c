// The viewer of mxnetseg's page. The class map is loaded once; opacity and classes are drawn here, without the network.
(() => {
  "use strict";
  const kept = {opacity: 50, hidden: new Set(), names: false};  // what the user chose, kept from image to image

  function start(box) {
    box.dataset.ready = "";
    const get = (name) => box.querySelector(".mxs-" + name);
    const width = Number(box.dataset.width), height = Number(box.dataset.height);
    const colours = JSON.parse(box.dataset.colours);  // one [red, green, blue] a class, null for the background
    const canvas = box.querySelector("canvas"), context = canvas.getContext("2d", {willReadFrequently: true});  // the processor writes it
    const boxes = [...box.querySelectorAll(".mxs-legend input")];
    const labels = new Map(boxes.map((one) => [Number(one.dataset.id), one.closest("label").textContent.trim()]));
    const slider = get("opacity"), under = get("under"), names = get("show-names");
    let ids = null, borders = null, waiting = false;

    slider.value = kept.opacity;
    names.checked = kept.names;
    for (const one of boxes) one.checked = !kept.hidden.has(labels.get(Number(one.dataset.id)));

    function shown() {
      const visible = new Set(boxes.filter((one) => one.checked).map((one) => Number(one.dataset.id)));
      box.querySelector("output").textContent = slider.value + " %";
      for (const one of box.querySelectorAll(".mxs-names span"))
        one.hidden = !names.checked || !visible.has(Number(one.dataset.id));
      const hidden = boxes.filter((one) => !one.checked).map((one) => one.dataset.id).join(",");
      get("get-overlay").href = box.dataset.overlay + "?opacity=" + slider.value + "&hidden=" + hidden +
        "&names=" + Number(names.checked);
      return visible;
    }

    function draw() {
      waiting = false;
      const visible = shown(), fill = new Uint32Array(256), edge = new Uint32Array(256);
      if (!ids) return;
      const alpha = Math.round(255 * Number(slider.value) / 100);
      colours.forEach((colour, id) => {
        if (!colour || !visible.has(id)) return;
        const packed = colour[0] | colour[1] << 8 | colour[2] << 16;
        fill[id] = (packed | alpha << 24) >>> 0;
        edge[id] = (packed | 255 << 24) >>> 0;
      });
      const data = context.createImageData(width, height), pixels = new Uint32Array(data.data.buffer);
      for (let i = 0; i < pixels.length; i++) pixels[i] = borders[i] ? edge[ids[i]] : fill[ids[i]];
      context.putImageData(data, 0, 0);
      box.dataset.drawn = String(Number(box.dataset.drawn || 0) + 1);
    }

    function changed() {
      kept.opacity = slider.value;
      kept.names = names.checked;
      for (const one of boxes) {
        const name = labels.get(Number(one.dataset.id));
        if (one.checked) kept.hidden.delete(name); else kept.hidden.add(name);
      }
      if (!waiting) requestAnimationFrame(draw);
      waiting = true;
    }

    box.addEventListener("input", changed);
    for (const [button, on] of [[get("all"), true], [get("none"), false]])
      button.addEventListener("click", () => { for (const one of boxes) one.checked = on; changed(); });
    get("stage").addEventListener("pointermove", (event) => {
      if (!ids) return;
      const frame = canvas.getBoundingClientRect();
      const x = Math.floor((event.clientX - frame.left) / frame.width * width);
      const y = Math.floor((event.clientY - frame.top) / frame.height * height);
      under.textContent = x >= 0 && y >= 0 && x < width && y < height
        ? labels.get(ids[y * width + x]) + " at " + x + ", " + y : "\u00a0";
    });
    get("stage").addEventListener("pointerleave", () => { under.textContent = "\u00a0"; });

    shown();
    if (innerWidth < 700) box.scrollIntoView({block: "start"});  // the result is below the controls
    fetch(box.dataset.ids).then((answer) => {
      if (!answer.ok) throw new Error(answer.statusText);
      return answer.arrayBuffer();
    }).then((buffer) => {
      ids = new Uint8Array(buffer, 0, width * height);
      borders = new Uint8Array(buffer, width * height);
      draw();
    }).catch(() => { under.textContent = "The class map could not be loaded: segment the image again."; });
  }

  function upload(files, from) {
    const image = [...files].find((file) => file.type.startsWith("image/")) || files[0];
    const input = document.querySelector("input[type=file]");  // Gradio's, beside its button
    if (!image || !input) return say(from + " holds no file");
    if (isTooLarge(image)) return;
    const transfer = new DataTransfer();
    transfer.items.add(image);
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
    say("");
  }

  function isTooLarge(file) {
    const most = Number(document.querySelector(".mxs-say").dataset.most);
    if (file.size <= most) return false;
    say(file.name + " has " + (file.size / 1e6).toFixed(1) + " MB, and this page takes up to " + most / 1e6 +
      " MB (--max-upload). In a terminal: mxnetseg predict --tile auto " + file.name);
    return true;
  }

  function say(text) {
    const line = document.querySelector(".mxs-say");
    if (line) line.textContent = text;
  }

  async function paste() {
    try {
      for (const item of await navigator.clipboard.read()) {
        const type = item.types.find((one) => one.startsWith("image/"));
        if (type) {
          const data = await item.getType(type);
          return upload([new File([data], "clipboard." + type.slice(6), {type})], "the clipboard");
        }
      }
      say("The clipboard holds no image.");
    } catch (problem) {
      say("The browser does not give this page the clipboard: press Ctrl+V.");
    }
  }

  document.addEventListener("change", (event) => {  // before Gradio sends the file
    if (event.target.type !== "file") return;
    if (event.target.files.length && isTooLarge(event.target.files[0])) {
      event.stopImmediatePropagation();
      event.target.value = "";
    } else {
      say("");
    }
  }, true);
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) { event.preventDefault(); upload(event.clipboardData.files, "the clipboard"); }
  });
  document.addEventListener("dragover", (event) => {
    if ([...event.dataTransfer.types].includes("Files")) { event.preventDefault(); document.body.classList.add("mxs-drag"); }
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("mxs-drag");
  });
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("mxs-drag");
    if (event.dataTransfer.files.length) { event.preventDefault(); upload(event.dataTransfer.files, "what was dropped"); }
  });
  document.addEventListener("click", (event) => { if (event.target.closest(".mxs-paste")) paste(); });

  new MutationObserver(() => {
    document.querySelectorAll(".mxs-result:not([data-ready])").forEach(start);
    const input = document.querySelector("input[type=file]");
    if (input && !input.accept) input.accept = "image/*,.tif,.tiff";
  }).observe(document.documentElement, {childList: true, subtree: true});
})();
