/** What was done, and what could not be, in a corner for a while. */
import { sentence } from './api';

export interface Toast {
    id: number;
    text: string;
    bad: boolean;
}

const SHOWN_MS = 6_000;

class Toasts {
    list = $state.raw<readonly Toast[]>([]);
    #last = 0;

    tell(text: string, bad = false) {
        this.#last += 1;
        const toast = { id: this.#last, text, bad };
        this.list = [...this.list.slice(-3), toast];
        setTimeout(() => this.drop(toast.id), bad ? SHOWN_MS * 2 : SHOWN_MS);
    }

    drop(id: number) {
        this.list = this.list.filter((toast) => toast.id !== id);
    }

    /** Does something and tells if it went wrong. Returns whether it went well. */
    async trying(deed: () => Promise<unknown>, done?: string) {
        try {
            await deed();
            if (done) this.tell(done);
            return true;
        } catch (error) {
            this.tell(sentence(error), true);
            return false;
        }
    }
}

export const toasts = new Toasts();
