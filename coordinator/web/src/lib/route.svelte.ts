/** What the page shows: it stands after the `#`, so that the coordinator serves one page. */

export type Route = { page: 'jobs' | 'live' | 'agents' | 'farm' } | { page: 'job'; id: number };

function read(): Route {
    const [, page, id] = location.hash.split('/');
    if (page === 'jobs' && id && /^\d+$/.test(id)) return { page: 'job', id: Number(id) };
    if (page === 'live' || page === 'agents' || page === 'farm') return { page };
    return { page: 'jobs' };
}

class Router {
    now = $state.raw<Route>(read());

    constructor() {
        window.addEventListener('hashchange', () => {
            this.now = read();
        });
    }

    go(to: string) {
        location.hash = to;
    }
}

export const router = new Router();
