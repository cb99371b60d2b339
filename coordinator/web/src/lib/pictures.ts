/**
 * Small pictures, a few at a time: the coordinator makes those that it does not have two at once, and
 * lets nobody wait for long, but says when to ask again.
 */

const AT_ONCE = 6;
/** When a coordinator that does not answer is asked again. */
const AWAY_MS = 5_000;

let running = 0;
const waiting: (() => void)[] = [];

/** Begins when it is one's turn. Returns what ends the turn, or the waiting for it. */
export function takeTurn(begin: () => void): () => void {
    let isBegun = false;
    let isOver = false;
    const go = () => {
        isBegun = true;
        running += 1;
        begin();
    };
    if (running < AT_ONCE) go();
    else waiting.push(go);
    return () => {
        if (isOver) return;
        isOver = true;
        if (isBegun) {
            running -= 1;
            waiting.shift()?.();
        } else {
            waiting.splice(waiting.indexOf(go), 1);
        }
    };
}

/** In how many milliseconds a picture that did not come may be there; `null` if it never will. */
export async function comesIn(source: string): Promise<number | null> {
    try {
        const response = await fetch(source, { credentials: 'same-origin' });
        // Into the browser's cache.
        await response.arrayBuffer();
        if (response.ok) return 0;
        if (response.status !== 503) return null;
        return (Number(response.headers.get('Retry-After')) || 1) * 1_000;
    } catch {
        return AWAY_MS;
    }
}
