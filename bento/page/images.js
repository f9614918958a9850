// Pictures of beats: what each was taken for, and what that rests on.

import { explain } from "./api.js";
import { bars, make, verdict } from "./dom.js";

/** A button that shows, below it, which parts of the picture an answer rests on. */
export function saliency(png, answer, fail) {
  const place = make("div", { class: "saliency" });
  const label = answer.most_probable;
  const button = make("button", { type: "button" }, `Why ${label}?`);
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.textContent = "Looking…";
    try {
      const url = URL.createObjectURL(await explain(png, label));
      const image = make("img", { class: "pixels", src: url, alt: `Saliency for ${label}: the picture, red where it speaks for ${label}, blue where against` });
      image.addEventListener("load", () => URL.revokeObjectURL(url));
      place.replaceChildren(
        make("figure", {}, image,
          make("figcaption", {}, `Red speaks for ${label}, blue against it (occlusion: parts of the picture emptied, one after another).`)),
      );
    } catch (error) {
      button.disabled = false;
      button.textContent = `Why ${label}?`;
      fail(error);
    }
  });
  place.append(button);
  return place;
}

/** The picture as the model took it: cut to its trace, in the model's size. */
function asSeen(png) {
  return png && make("figure", { class: "seen" },
    make("img", { class: "pixels", src: `data:image/png;base64,${png}`, alt: "The picture as the model saw it" }),
    make("figcaption", {}, "As the model saw it"));
}

/** Show the answers to `files`, in their order. */
export function showImages(place, files, answer, titles, fail) {
  const seen = new Map(answer.pictures.map((picture) => [picture.beat, picture.png]));
  const cards = answer.results.map((result) => {
    const file = files[result.file];
    const url = URL.createObjectURL(file);
    const image = make("img", { class: "pixels", src: url, alt: `The picture ${file.name}` });
    image.addEventListener("load", () => URL.revokeObjectURL(url));
    return make("article", { class: "card beat" },
      make("div", {},
        make("figure", {}, image, make("figcaption", {}, file.name)),
        asSeen(seen.get(result.file))),
      make("div", {}, verdict(result, titles), bars(result.probabilities),
        result.model === answer.model.name ? null : make("p", { class: "quiet" }, `Answered by ${result.model}, the model for plain pictures.`),
        saliency(file, result, fail)),
    );
  });
  const many = cards.length === 1 ? "One beat" : `${cards.length} beats`;
  place.replaceChildren(
    make("h2", {}, many),
    make("div", { class: "beats" }, ...cards),
  );
}
