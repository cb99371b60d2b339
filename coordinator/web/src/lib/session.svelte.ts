/** Who is signed in, and what that person may do. */
import { get, post, Problem, send, sentence, whenSignedOut, type Me } from './api';
import { farm } from './farm.svelte';
import { toasts } from './toasts.svelte';

class Session {
    me = $state.raw<Me | null>(null);
    /** Whether it is known who is signed in, if anybody. */
    known = $state(false);
    problem = $state('');

    /** May act on jobs. */
    get acts() {
        return this.me?.role === 'admin' || this.me?.role === 'submitter';
    }

    get isAdmin() {
        return this.me?.role === 'admin';
    }

    async begin() {
        whenSignedOut(() => this.leave());
        // A link that is opened where the page is open already changes no more than what is after the #.
        window.addEventListener('hashchange', () => {
            const link = takeLink();
            if (link) void this.#follow(link);
        });
        const link = takeLink();
        if (link) {
            await this.signIn({ link });
        } else {
            try {
                this.#enter(await get<Me>('/api/v1/me'));
            } catch (error) {
                if (!(error instanceof Problem && error.status === 401)) {
                    this.problem = sentence(error);
                }
            }
        }
        this.known = true;
    }

    async signIn(shown: { token: string } | { link: string }) {
        this.problem = '';
        try {
            this.#enter(await post<Me>('/session', shown));
        } catch (error) {
            this.problem = sentence(error);
        }
    }

    async signOut() {
        try {
            await send('DELETE', '/session');
            this.leave();
        } catch (error) {
            const why = error instanceof Error ? error.message : String(error);
            toasts.tell(
                sentence(`You are still signed in, signing out did not work: ${why}`),
                true,
            );
        }
    }

    leave() {
        farm.stop();
        this.me = null;
    }

    /** Whoever is signed in already stays so if the link is good for nothing. */
    async #follow(link: string) {
        await this.signIn({ link });
        if (!this.me || !this.problem) return;
        toasts.tell(this.problem, true);
        this.problem = '';
    }

    #enter(me: Me) {
        if (this.me) farm.stop();
        this.me = me;
        farm.start(() => this.leave());
    }
}

/** The secret of a one-time link, which is not for the history nor for whoever looks over a shoulder. */
function takeLink() {
    const link = /^#link=([0-9a-f]{32})$/.exec(location.hash)?.[1];
    if (link) history.replaceState(null, '', '/');
    return link;
}

export const session = new Session();
