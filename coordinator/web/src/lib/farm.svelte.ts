/** The farm as it is now: one stream of events, from which everything that is shown follows. */
import type {
    AgentView,
    FarmView,
    HistoryView,
    JobView,
    OutputView,
    TaskView,
    WatchEvent,
} from './api';
import { batched, follow, type Link } from './stream';

/** An output that arrived while somebody looked. */
export interface Arrival {
    job: number;
    output: OutputView;
    at: number;
}

/** How a device did lately, a column each; times are seconds since 1970, as the charts want them. */
export interface History {
    at: number[];
    utilisation: (number | null)[];
    temperature: (number | null)[];
    memory: (number | null)[];
}

const HISTORY_MAX = 900;
const ARRIVALS_MAX = 120;
const HAPPENED_MAX = 500;
const APPLY_EVERY_MS = 100;
/** Pictures are looked at, and nobody looks at one for less. */
const SHOW_EVERY_MS = 1_000;

class Farm {
    view = $state.raw<FarmView | null>(null);
    jobs = $state.raw<ReadonlyMap<number, JobView>>(new Map());
    agents = $state.raw<ReadonlyMap<string, AgentView>>(new Map());
    arrivals = $state.raw<readonly Arrival[]>([]);
    /** What happened since the page was opened, the latest first. */
    happened = $state.raw<readonly HistoryView[]>([]);
    /** Changes when something that happened may not be among that. */
    happenedAnew = $state(0);
    rate = $state.raw<{ at: number[]; perMinute: number[] }>({ at: [], perMinute: [] });
    link = $state<Link>('connecting');
    /** Why it is lost. */
    why = $state('');
    /** When the latest word came. */
    heardAt = $state(0);
    /** Whether the present state has been told once. */
    ready = $state(false);
    histories = new Map<string, History>();
    /** Counts changes of histories, which are not watched themselves. */
    historyVersion = $state(0);

    #pending: WatchEvent[] = [];
    #beginning = false;
    #arrived: readonly Arrival[] = [];
    #apply = batched(APPLY_EVERY_MS, () => this.#applyNow());
    #show = batched(SHOW_EVERY_MS, () => this.#showNow());
    #stop = () => {};

    start(signedOut: () => void) {
        this.#stop = follow('/api/v1/events?outputs=true', {
            begin: () => {
                this.#pending = [];
                this.#beginning = true;
            },
            events: (events) => {
                for (const event of events) {
                    if (event === 'anew') {
                        // We were too slow, and something may have gone meanwhile.
                        this.#pending = [];
                        this.#beginning = true;
                    } else {
                        this.#pending.push(event);
                    }
                }
                this.#apply.soon();
            },
            link: (link, why = '') => {
                if (this.link !== link) this.link = link;
                if (this.why !== why) this.why = why;
                if (link === 'live') this.heardAt = Date.now();
            },
            signedOut,
        });
    }

    stop() {
        this.#stop();
        this.#pending = [];
        this.#arrived = [];
        this.jobs = new Map();
        this.agents = new Map();
        this.arrivals = [];
        this.happened = [];
        this.view = null;
        this.ready = false;
    }

    /** Where a task runs: its agent, and which device where that has several. */
    place({ agent, device }: TaskView): string {
        const devices = [...this.agents.values()].find(({ name }) => name === agent)?.devices ?? [];
        const name = device === null ? undefined : devices[device]?.name;
        if (agent === null || name === undefined || devices.length === 1) return agent ?? '';
        const alike = devices.filter((other) => other.name === name).length;
        return `${agent}, ${name.replace(/^NVIDIA /, '')}${alike > 1 ? ` #${device}` : ''}`;
    }

    #applyNow() {
        // Until all is told, what was known before is better than a part.
        if (this.#beginning && !this.#pending.includes('caughtup')) return;
        const events = this.#pending;
        this.#pending = [];
        let jobs: Map<number, JobView> | undefined;
        let agents: Map<string, AgentView> | undefined;
        if (this.#beginning) {
            jobs = new Map();
            agents = new Map();
            this.happenedAnew += 1;
            this.#beginning = false;
            this.ready = true;
        }
        let grown = false;
        const arrivals: Arrival[] = [];
        const happened: HistoryView[] = [];
        for (const event of events) {
            if (event === 'caughtup' || event === 'anew') continue;
            if ('job' in event) {
                jobs ??= new Map(this.jobs);
                jobs.set(event.job.id, event.job);
            } else if ('agent' in event) {
                agents ??= new Map(this.agents);
                agents.set(event.agent.id, event.agent);
                if (this.#remember(event.agent)) grown = true;
            } else if ('jobgone' in event) {
                jobs ??= new Map(this.jobs);
                jobs.delete(event.jobgone);
            } else if ('agentgone' in event) {
                agents ??= new Map(this.agents);
                agents.delete(event.agentgone);
            } else if ('farm' in event) {
                this.view = event.farm;
            } else if ('output' in event) {
                arrivals.push({ ...event.output, at: Date.now() });
            } else if ('happened' in event) {
                happened.push(event.happened);
            }
        }
        if (jobs) this.jobs = jobs;
        if (agents) this.agents = agents;
        if (grown) this.historyVersion += 1;
        if (arrivals.length > 0) {
            this.#arrived = [...arrivals.reverse(), ...this.#arrived].slice(0, ARRIVALS_MAX);
            this.#show.soon();
        }
        if (happened.length > 0) this.#tell(happened);
        this.#rememberRate();
    }

    #showNow() {
        this.arrivals = [...this.#arrived, ...this.arrivals].slice(0, ARRIVALS_MAX);
        this.#arrived = [];
    }

    /** A stream that lags leaves out what happened in between, and so do we of what is too much. */
    #tell(events: readonly HistoryView[]) {
        const all = [...events.toReversed(), ...this.happened];
        const isWhole = all.every(
            ({ cursor }, at) => at === 0 || all[at - 1]?.cursor === cursor + 1,
        );
        if (isWhole && all.length <= HAPPENED_MAX) {
            this.happened = all;
        } else {
            this.happened = events.toReversed();
            this.happenedAnew += 1;
        }
    }

    /** Returns whether there was more to remember of a device. */
    #remember(agent: AgentView) {
        const at = Date.now() / 1_000;
        let grown = false;
        agent.device_states.forEach((device, index) => {
            const key = `${agent.id}/${index}`;
            let history = this.histories.get(key);
            if (!history) {
                history = { at: [], utilisation: [], temperature: [], memory: [] };
                this.histories.set(key, history);
            }
            if (at - (history.at.at(-1) ?? 0) < 0.9) return;
            grown = true;
            history.at.push(at);
            history.utilisation.push(
                device.utilisation_percent ??
                    (agent.devices[index]?.kind === 'cpu' ? agent.load.cpu_percent : null),
            );
            history.temperature.push(device.temperature_c);
            history.memory.push(
                device.total_mib > 0 ? (device.used_mib / device.total_mib) * 100 : null,
            );
            if (history.at.length > HISTORY_MAX) {
                for (const column of Object.values(history)) (column as unknown[]).shift();
            }
        });
        return grown;
    }

    #rememberRate() {
        const at = Math.floor(Date.now() / 1_000);
        if (!this.view || this.rate.at.at(-1) === at) return;
        this.rate = {
            at: [...this.rate.at, at].slice(-HISTORY_MAX),
            perMinute: [...this.rate.perMinute, this.view.frames_per_minute].slice(-HISTORY_MAX),
        };
    }
}

export const farm = new Farm();
