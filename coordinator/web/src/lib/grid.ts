/**
 * A cell for every task of a step, painted on a canvas.
 *
 * States are bytes in one array, so a hundred thousand cost a hundred kilobytes. A change marks its
 * cell; the next frame paints the marked cells and nothing else. Only a change of size or colours
 * paints all, through one buffer of pixels.
 */

import type { Frames } from './api';

/** Waiting, ready, running, completed, failed, canceled. */
export type State = 0 | 1 | 2 | 3 | 4 | 5;

/** The letters of the API's grid. */
export const LETTERS = { w: 0, a: 1, r: 2, c: 3, f: 4, x: 5 } as const satisfies Record<
    string,
    State
>;
export const NAMES = ['waiting', 'ready', 'running', 'completed', 'failed', 'canceled'] as const;

const RUNNING: State = 2;

export class TaskGrid {
    readonly states: Uint8Array;
    /** Done shares of running tasks. */
    readonly parts: Float32Array;
    readonly counts = [0, 0, 0, 0, 0, 0];
    /** Cells that are not painted as they are. */
    dirty: number[] = [];
    #marked: Uint8Array;
    #onDirty = () => {};

    constructor(
        readonly length: number,
        readonly frames: readonly Frames[] | null,
    ) {
        this.states = new Uint8Array(length);
        this.parts = new Float32Array(length);
        this.#marked = new Uint8Array(length);
        this.counts[0] = length;
    }

    /** Whoever paints; told once per batch of changes. */
    set onDirty(tell: () => void) {
        this.#onDirty = tell;
    }

    get(index: number): State {
        return (this.states[index] ?? 0) as State;
    }

    set(index: number, state: State, part = 0) {
        if (index < 0 || index >= this.length) return;
        const before = this.states[index] ?? 0;
        if (before === state && this.parts[index] === part) return;
        this.counts[before] = (this.counts[before] ?? 0) - 1;
        this.counts[state] = (this.counts[state] ?? 0) + 1;
        this.states[index] = state;
        this.parts[index] = part;
        if (this.#marked[index] === 0) {
            this.#marked[index] = 1;
            this.dirty.push(index);
            if (this.dirty.length === 1) this.#onDirty();
        }
    }

    /** From the API's letters, for tasks that follow one another. */
    setRun(first: number, letters: string) {
        const known: Record<string, State> = LETTERS;
        for (let at = 0; at < letters.length; at += 1) {
            const state = known[letters.charAt(at)] ?? 0;
            if (this.states[first + at] !== state) this.set(first + at, state);
        }
    }

    /** The marked cells, which are not marked any more. */
    takeDirty(): number[] {
        const taken = this.dirty;
        this.dirty = [];
        for (const index of taken) this.#marked[index] = 0;
        return taken;
    }

    /** What the cell stands for, in words. */
    name(index: number) {
        let left = index;
        for (const { first, last, step } of this.frames ?? []) {
            const count = Math.floor((last - first) / step) + 1;
            if (left < count) return `frame ${first + left * step}`;
            left -= count;
        }
        return `task ${index}`;
    }
}

/** How cells lie. Sizes are pixels of the page. */
export interface Layout {
    columns: number;
    rows: number;
    /** From one cell to the next, and how much of that is a gap. */
    pitch: number;
    gap: number;
    width: number;
    height: number;
}

const PITCHES = [22, 18, 15, 13, 11, 9, 8, 7, 6, 5, 4, 3, 2];

/** The largest cells with which all have room in `height_max`; more scroll. */
export function layout(count: number, width: number, height_max: number): Layout {
    for (const pitch of PITCHES) {
        const columns = Math.max(1, Math.floor(width / pitch));
        const rows = Math.ceil(count / columns);
        if (rows * pitch <= height_max || pitch === PITCHES.at(-1)) {
            const gap = pitch >= 8 ? 2 : pitch >= 4 ? 1 : 0;
            return { columns, rows, pitch, gap, width: columns * pitch, height: rows * pitch };
        }
    }
    throw new Error('there is a smallest pitch');
}

export function indexAt(of: Layout, count: number, x: number, y: number): number | null {
    const column = Math.floor(x / of.pitch);
    const row = Math.floor(y / of.pitch);
    if (column < 0 || column >= of.columns || row < 0) return null;
    const index = row * of.columns + column;
    return index < count ? index : null;
}

/** Six colours for states, and one for the part of a running cell that is not done yet. */
export interface Colours {
    states: readonly string[];
    rest: string;
}

export class Painter {
    #context: CanvasRenderingContext2D;
    #ratio = 1;

    constructor(
        readonly canvas: HTMLCanvasElement,
        readonly grid: TaskGrid,
    ) {
        const context = canvas.getContext('2d', { alpha: true });
        if (!context) throw new Error('this browser has no canvas');
        this.#context = context;
    }

    paintAll(of: Layout, colours: Colours) {
        this.#ratio = window.devicePixelRatio || 1;
        const width = Math.max(1, Math.round(of.width * this.#ratio));
        const height = Math.max(1, Math.round(of.height * this.#ratio));
        if (this.canvas.width !== width) this.canvas.width = width;
        if (this.canvas.height !== height) this.canvas.height = height;
        this.grid.takeDirty();
        const image = this.#context.createImageData(width, height);
        const pixels = new Uint32Array(image.data.buffer);
        const packed = colours.states.map((colour) => this.#packed(colour));
        const rest = this.#packed(colours.rest);
        for (let index = 0; index < this.grid.length; index += 1) {
            const { left, top, right, bottom } = this.#box(of, index);
            const state = this.grid.states[index] ?? 0;
            const colour = packed[state] ?? 0;
            const split =
                state === RUNNING ? bottom - Math.round((bottom - top) * this.#part(index)) : top;
            for (let y = top; y < bottom; y += 1) {
                pixels.fill(y < split ? rest : colour, y * width + left, y * width + right);
            }
        }
        this.#context.putImageData(image, 0, 0);
    }

    paintDirty(of: Layout, colours: Colours) {
        const context = this.#context;
        for (const index of this.grid.takeDirty()) {
            const { left, top, right, bottom } = this.#box(of, index);
            const state = this.grid.states[index] ?? 0;
            context.clearRect(left, top, right - left, bottom - top);
            let from = top;
            if (state === RUNNING) {
                from = bottom - Math.round((bottom - top) * this.#part(index));
                context.fillStyle = colours.rest;
                context.fillRect(left, top, right - left, from - top);
            }
            context.fillStyle = colours.states[state] ?? 'transparent';
            context.fillRect(left, from, right - left, bottom - from);
        }
    }

    /** Also a frame that has just begun is seen to run. */
    #part(index: number) {
        return Math.max(0.25, this.grid.parts[index] ?? 0);
    }

    /** A cell in pixels of the canvas. */
    #box(of: Layout, index: number) {
        const column = index % of.columns;
        const row = Math.floor(index / of.columns);
        return {
            left: Math.round(column * of.pitch * this.#ratio),
            top: Math.round(row * of.pitch * this.#ratio),
            right: Math.round(((column + 1) * of.pitch - of.gap) * this.#ratio),
            bottom: Math.round(((row + 1) * of.pitch - of.gap) * this.#ratio),
        };
    }

    /** A colour of the page's as the bytes of a pixel. */
    #packed(colour: string): number {
        const context = this.#context;
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        const { data } = context.getImageData(0, 0, 1, 1);
        return new Uint32Array(data.buffer)[0] ?? 0;
    }
}
