// The API key, where the service wants one: asked for once, kept until this tab is closed.

const NAME = "ecgbeats-key";
let asking = null;

/** What goes with every request. */
export function authorization() {
  const key = sessionStorage.getItem(NAME);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Ask for a key; whether one was given. Who asks meanwhile waits for the same answer. */
export function askForKey(words) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("key-dialog");
    const field = document.getElementById("key");
    document.getElementById("key-words").textContent = words;
    field.value = "";
    let given = false;
    const submitted = (event) => {
      event.preventDefault();
      // What cannot stand in a header is no key; fetch would throw at it.
      const key = field.value.trim();
      given = /^[\x21-\x7e]+$/.test(key);
      if (given) sessionStorage.setItem(NAME, key);
      dialog.close();
    };
    const form = dialog.querySelector("form");
    const cancel = document.getElementById("key-cancel");
    const cancelled = () => dialog.close();
    form.addEventListener("submit", submitted);
    cancel.addEventListener("click", cancelled);
    dialog.addEventListener("close", () => {
      form.removeEventListener("submit", submitted);
      cancel.removeEventListener("click", cancelled);
      field.value = "";
      asking = null;
      resolve(given);
    }, { once: true });
    dialog.showModal();
    field.focus();
  });
  return asking;
}
