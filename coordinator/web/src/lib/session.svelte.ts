/** Who is signed in, and what that person may do. */
import { get, post, Problem, send, sentence, whenSignedOut, type Me } from './api';
import { farm } from './farm.svelte';

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
        const link = /^#link=([0-9a-f]{32})$/.exec(location.hash)?.[1];
        if (link) {
            // Not for the history, and not for whoever looks over a shoulder.
            history.replaceState(null, '', '/');
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
        } finally {
            this.leave();
        }
    }

    leave() {
        farm.stop();
        this.me = null;
    }

    #enter(me: Me) {
        this.me = me;
        farm.start(() => this.leave());
    }
}

export const session = new Session();
