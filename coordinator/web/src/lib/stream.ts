/**
 * Server-sent events over `fetch`: one stream that comes back by itself, and says when it is not live.
 *
 * `EventSource` does neither: it gives up on an answer that is an error, and it does not notice a
 * connection that died silently. Events are handed on in batches, as they arrived.
 */
import type { WatchEvent } from './api';

export type Link = 'connecting' | 'live' | 'lost';

export interface Listener {
    /** A new stream begins: the present state comes first, then `caughtup`. */
    begin(): void;
    events(events: WatchEvent[]): void;
    link(link: Link): void;
    /** Nobody is signed in any more; the stream does not come back. */
    signedOut(): void;
}

/** The coordinator says something every 15 seconds, if only that there is nothing new. */
const SILENCE_MS = 40_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5_000;

/** Follows a stream until the answer is called. */
export function follow(address: string, listener: Listener): () => void {
    let stopped = false;
    let ending = new AbortController();
    let wake = () => {};
    let lastId = '';

    const read = async () => {
        const headers: HeadersInit = lastId ? { 'Last-Event-ID': lastId } : {};
        const init: RequestInit = { headers, signal: ending.signal, cache: 'no-store' };
        const response = await fetch(address, init);
        if (response.status === 401) {
            stopped = true;
            listener.signedOut();
            return;
        }
        if (!response.ok || !response.body) throw new Error(`status ${response.status}`);
        listener.begin();
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let silence = setTimeout(() => ending.abort(), SILENCE_MS);
        try {
            let text = '';
            for (;;) {
                const { done, value } = await reader.read();
                if (done) return;
                clearTimeout(silence);
                silence = setTimeout(() => ending.abort(), SILENCE_MS);
                listener.link('live');
                text += value;
                const end = text.lastIndexOf('\n\n');
                if (end < 0) continue;
                const { events, id } = parse(text.slice(0, end));
                text = text.slice(end + 2);
                lastId = id || lastId;
                if (events.length > 0) listener.events(events);
            }
        } finally {
            clearTimeout(silence);
        }
    };

    const run = async () => {
        let wait = FIRST_WAIT_MS;
        while (!stopped) {
            const began = performance.now();
            try {
                await read();
            } catch {
                // It is tried again, whatever the reason was.
            }
            if (stopped) return;
            listener.link('lost');
            if (performance.now() - began > LONGEST_WAIT_MS) wait = FIRST_WAIT_MS;
            await new Promise<void>((resolve) => {
                wake = resolve;
                setTimeout(resolve, wait);
            });
            wait = Math.min(wait * 2, LONGEST_WAIT_MS);
            ending = new AbortController();
        }
    };

    const soon = () => wake();
    window.addEventListener('online', soon);
    listener.link('connecting');
    void run();
    return () => {
        stopped = true;
        ending.abort();
        wake();
        window.removeEventListener('online', soon);
    };
}

/** Whole blocks of a stream (WHATWG HTML, 9.2.6): what they say, and the id of the latest. */
export function parse(text: string): { events: WatchEvent[]; id: string } {
    const events: WatchEvent[] = [];
    let id = '';
    for (const line of text.split('\n')) {
        if (line.startsWith('data:')) events.push(JSON.parse(line.slice(5)) as WatchEvent);
        else if (line.startsWith('id:')) id = line.slice(3).trim();
    }
    return { events, id };
}

/** Runs at most once per frame and per `every_ms`; in a page that nobody sees, once a second. */
export function batched(every_ms: number, run: () => void): { soon(): void; stop(): void } {
    let waiting = false;
    let last = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let stopped = false;
    const now = () => {
        waiting = false;
        last = performance.now();
        if (!stopped) run();
    };
    return {
        soon() {
            if (waiting || stopped) return;
            waiting = true;
            const left = last + every_ms - performance.now();
            if (document.hidden) timer = setTimeout(now, 1_000);
            else if (left > 4) timer = setTimeout(() => requestAnimationFrame(now), left);
            else requestAnimationFrame(now);
        },
        stop() {
            stopped = true;
            clearTimeout(timer);
        },
    };
}
