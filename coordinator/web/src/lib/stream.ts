/**
 * Server-sent events over `fetch`: one stream that comes back by itself, and says when it is not live.
 *
 * `EventSource` does neither: it gives up on an answer that is an error, and it does not notice a
 * connection that died silently. Events are handed on in batches, as they arrived.
 */
import { isGone, Problem, refusal, type WatchEvent } from './api';

export type Link = 'connecting' | 'live' | 'lost';

export interface Listener {
    /** A new stream begins: the present state comes first, then `caughtup`. */
    begin(): void;
    events(events: WatchEvent[]): void;
    /** Of a stream that is lost also why, as what follows on a colon. */
    link(link: Link, why?: string): void;
    /** Nobody is signed in any more; the stream does not come back. */
    signedOut(): void;
    /** What the stream is of is not there; it does not come back. */
    gone?(why: string): void;
}

/** The coordinator answers at once, and then says something every 15 seconds at least. */
const SILENCE_MS = 20_000;
const AWAY = 'the coordinator does not answer';
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5_000;

/** Follows a stream until the answer is called. */
export function follow(address: string, listener: Listener): () => void {
    let stopped = false;
    let ending = new AbortController();
    let wake = () => {};
    let isNew = false;
    let lastId = '';

    const read = async () => {
        const headers: HeadersInit = lastId ? { 'Last-Event-ID': lastId } : {};
        const { signal } = ending;
        let silence: ReturnType<typeof setTimeout> | undefined;
        const listen = () => {
            clearTimeout(silence);
            silence = setTimeout(() => ending.abort(), SILENCE_MS);
        };
        listen();
        try {
            const response = await fetch(address, { headers, signal, cache: 'no-store' });
            if (!response.ok) throw await refusal(response);
            if (!response.body) return;
            listener.begin();
            const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
            let text = '';
            for (;;) {
                const { done, value } = await reader.read();
                if (done) return;
                listen();
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
            let why = AWAY;
            isNew = false;
            try {
                await read();
            } catch (error) {
                // It is tried again whatever the reason was, but for these two.
                if (error instanceof Problem) {
                    why = error.message;
                    if (error.status === 401) return stop(listener.signedOut);
                    const { gone } = listener;
                    if (gone && isGone(error)) return stop(() => gone(why));
                }
            }
            if (stopped) return;
            if (isNew) {
                // It was ended here, which says nothing of the coordinator.
                wait = FIRST_WAIT_MS;
                listener.link('connecting');
            } else {
                listener.link('lost', why);
                if (performance.now() - began > LONGEST_WAIT_MS) wait = FIRST_WAIT_MS;
                await new Promise<void>((resolve) => {
                    wake = resolve;
                    setTimeout(resolve, wait);
                });
                wait = Math.min(wait * 2, LONGEST_WAIT_MS);
            }
            ending = new AbortController();
        }
    };

    // What went over a network that was away may be dead without a sign.
    const anew = () => {
        isNew = true;
        ending.abort();
        wake();
    };

    const stop = (then?: () => void) => {
        stopped = true;
        ending.abort();
        wake();
        window.removeEventListener('online', anew);
        then?.();
    };

    window.addEventListener('online', anew);
    listener.link('connecting');
    void run();
    return () => stop();
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
