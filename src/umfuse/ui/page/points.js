// Three places, marked in both images of a pair.

const COUNT = 3;
const NUDGE = 0.002; // share of the width or height that an arrow key moves a mark
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const clamp = (share) => Math.min(1, Math.max(0, share));

/**
 * Lets people mark places in two images.
 * @param {HTMLElement} root Holds the two `.markable`, infrared before visible.
 * @param {(complete: boolean, say: string) => void} changed Is told after every change.
 */
export class Marks {
  constructor(root, changed) {
    this.boards = [...root.querySelectorAll(".markable")];
    this.changed = changed;
    for (const board of this.boards) {
      board.querySelector("img").draggable = false;
      board.addEventListener("click", (event) => {
        if (!event.target.closest(".mark")) this.add(board, ...share(board, event));
      });
      board.addEventListener("keydown", (event) => {
        if (event.target === board && event.key === "Enter") this.add(board, 0.5, 0.5)?.focus();
      });
    }
    this.clear();
  }

  /** Shows another pair, without marks. */
  show(infrared, visible) {
    this.boards.forEach((board, index) => (board.querySelector("img").src = [infrared, visible][index]));
    this.clear();
  }

  clear() {
    for (const board of this.boards) board.querySelectorAll(".mark").forEach((mark) => mark.remove());
    this.tell();
  }

  /** Pairs of places [[x, y], [x, y]], infrared before visible, as shares of width and height. */
  pairs() {
    const [infrared, visible] = this.boards.map((board) => this.places(board));
    return infrared.map((place, index) => [place, visible[index]]);
  }

  places(board) {
    return [...board.querySelectorAll(".mark")].map((mark) => mark.place);
  }

  /** The new mark; none if all are there. */
  add(board, x, y) {
    const number = this.places(board).length + 1;
    if (number > COUNT) return null;
    const mark = document.createElement("button");
    mark.type = "button";
    mark.className = "mark";
    mark.setAttribute("aria-label", `Point ${number}, ${board.dataset.image} image`);
    mark.append(Object.assign(document.createElement("span"), { textContent: number }));
    mark.addEventListener("pointerdown", (event) => mark.setPointerCapture(event.pointerId));
    mark.addEventListener("pointermove", (event) => {
      if (mark.hasPointerCapture(event.pointerId)) put(mark, ...share(board, event));
    });
    mark.addEventListener("keydown", (event) => {
      const step = ARROWS[event.key];
      if (!step) return;
      event.preventDefault();
      const far = event.shiftKey ? 10 * NUDGE : NUDGE;
      put(mark, mark.place[0] + step[0] * far, mark.place[1] + step[1] * far);
    });
    put(mark, x, y);
    board.append(mark);
    this.tell();
    return mark;
  }

  tell() {
    const [infrared, visible] = this.boards.map((board) => this.places(board).length);
    const complete = infrared === COUNT && visible === COUNT;
    const next = complete ? null : infrared <= visible ? 0 : 1;
    this.boards.forEach((board, index) => board.classList.toggle("next", index === next));
    const number = Math.min(infrared, visible) + 1;
    const name = ["infrared", "visible"][next];
    this.changed(complete, complete ? "Three places in both images." : `Next: place ${number} in the ${name} image.`);
  }
}

function share(board, event) {
  const box = board.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

function put(mark, x, y) {
  mark.place = [clamp(x), clamp(y)];
  mark.style.left = `${mark.place[0] * 100}%`;
  mark.style.top = `${mark.place[1] * 100}%`;
}
