/** Light or dark: as the system has it, or as was chosen here. */

type Choice = 'system' | 'light' | 'dark';

const KEY = 'grange-theme';

class Theme {
    choice = $state<Choice>('system');
    /** Counts changes, for what is painted on canvases. */
    version = $state(0);
    #dark = window.matchMedia('(prefers-color-scheme: dark)');

    constructor() {
        const kept = localStorage.getItem(KEY);
        if (kept === 'light' || kept === 'dark') this.choice = kept;
        this.#dark.addEventListener('change', () => this.#show());
        this.#show();
    }

    get isDark() {
        return this.choice === 'dark' || (this.choice === 'system' && this.#dark.matches);
    }

    next() {
        const order: Choice[] = ['system', 'light', 'dark'];
        this.choice = order[(order.indexOf(this.choice) + 1) % order.length] ?? 'system';
        if (this.choice === 'system') localStorage.removeItem(KEY);
        else localStorage.setItem(KEY, this.choice);
        this.#show();
    }

    #show() {
        document.documentElement.dataset['theme'] = this.isDark ? 'dark' : 'light';
        this.version += 1;
    }
}

export const theme = new Theme();

/** A colour of the page's by the name of its variable. */
export function colour(name: string): string {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
