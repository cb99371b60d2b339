/** One job, watched: its steps, a state for every task, what runs, what was rendered. */
import {
    get,
    type Grid,
    type JobDetail,
    type JobView,
    type OutputView,
    type StepView,
    type TaskState,
    type TaskView,
    type WatchEvent,
} from './api';
import { batched, follow, type Link } from './stream';
import { LETTERS, TaskGrid, type State } from './grid';

const APPLY_EVERY_MS = 100;
/** How long counts may differ from what is shown before all is asked for anew. */
const DIFFERS_MS = 2_500;
const DETAIL_EVERY_MS = 3_000;

const STATES: Record<TaskState, State> = {
    waiting: 0,
    ready: 1,
    running: 2,
    completed: 3,
    failed: 4,
    canceled: 5,
};

export class JobWatch {
    job = $state.raw<JobView | null>(null);
    steps = $state.raw<readonly StepView[]>([]);
    grids = $state.raw<readonly TaskGrid[]>([]);
    cost = $state.raw<Grid['cost'] | null>(null);
    /** Running tasks and those with failed attempts, by step and number. */
    tasks = $state.raw<ReadonlyMap<string, TaskView>>(new Map());
    /** Finished frames, by step and frame; there may be very many. */
    frames = $state.raw<readonly OutputView[]>([]);
    video = $state.raw<OutputView | null>(null);
    /** Counts outputs, whose lists by task are not watched themselves. */
    outputCount = $state(0);
    link = $state<Link>('connecting');
    missing = $state('');

    #pending: WatchEvent[] = [];
    #live = false;
    #asking = false;
    #differsSince = 0;
    #detailAt = 0;
    #endedAt: number | null = null;
    #seen = new Set<number>();
    #byTask = new Map<string, OutputView[]>();
    #stop: () => void;
    #apply = batched(APPLY_EVERY_MS, () => this.#applyNow());

    constructor(
        readonly id: number,
        signedOut: () => void,
    ) {
        void this.#ask();
        this.#stop = follow(`/api/v1/jobs/${id}/events`, {
            begin: () => {
                this.#live = false;
            },
            events: (events) => {
                for (const event of events) this.#pending.push(event);
                this.#apply.soon();
            },
            link: (link) => {
                if (this.link !== link) this.link = link;
            },
            signedOut,
        });
    }

    stop() {
        this.#stop();
        this.#apply.stop();
    }

    task(step: number, task: number) {
        return this.tasks.get(`${step}/${task}`);
    }

    /** What a task has committed, in that order. */
    outputs(step: number, task: number): readonly OutputView[] {
        void this.outputCount;
        return this.#byTask.get(`${step}/${task}`) ?? [];
    }

    /** All states at once, and the steps. */
    async #ask() {
        if (this.#asking) return;
        this.#asking = true;
        try {
            const [grid, detail] = await Promise.all([
                get<Grid>(`/api/v1/jobs/${this.id}/grid`),
                get<JobDetail>(`/api/v1/jobs/${this.id}`),
            ]);
            this.job = detail.job;
            this.steps = detail.steps;
            this.cost = grid.cost;
            const grids = grid.steps.map(
                (step, index) => this.grids[index] ?? new TaskGrid(step.states.length, step.frames),
            );
            grid.steps.forEach((step, index) => grids[index]?.setAll(step.states));
            if (grids.length !== this.grids.length) this.grids = grids;
            this.tasks = new Map(detail.tasks.map((task) => [`${task.step}/${task.task}`, task]));
            for (const task of detail.tasks) this.#mark(task);
            this.missing = '';
        } catch (error) {
            this.missing = error instanceof Error ? error.message : String(error);
        } finally {
            this.#asking = false;
            this.#detailAt = performance.now();
        }
    }

    /** How far each step is, which no event tells. */
    async #askSteps() {
        this.#detailAt = performance.now();
        try {
            this.steps = (await get<JobDetail>(`/api/v1/jobs/${this.id}`)).steps;
        } catch {
            // The page says by itself that it is not live.
        }
    }

    #mark(task: TaskView) {
        const part = task.progress?.fraction ?? 0;
        this.grids[task.step]?.set(task.task, STATES[task.state], part);
    }

    #applyNow() {
        const events = this.#pending;
        this.#pending = [];
        let tasks: Map<string, TaskView> | undefined;
        const outputs: OutputView[] = [];
        for (const event of events) {
            if (event === 'caughtup') {
                this.#live = true;
                // What happened before the stream began may have been missed.
                void this.#ask();
            } else if ('task' in event) {
                const { task } = event.task;
                tasks ??= new Map(this.tasks);
                const key = `${task.step}/${task.task}`;
                if (task.state === 'running' || task.failures.length > 0) tasks.set(key, task);
                else tasks.delete(key);
                this.#mark(task);
            } else if ('output' in event) {
                const { output } = event.output;
                if (!this.#seen.has(output.cursor)) {
                    this.#seen.add(output.cursor);
                    outputs.push(output);
                }
            } else if ('job' in event) {
                this.job = event.job;
            }
        }
        if (tasks) this.tasks = tasks;
        if (outputs.length > 0) this.#keep(outputs);
        if (this.#live) this.#check();
    }

    #keep(outputs: OutputView[]) {
        const frames = [...this.frames];
        for (const output of outputs) {
            const key = `${output.step}/${output.task}`;
            const known = this.#byTask.get(key);
            if (known) known.push(output);
            else this.#byTask.set(key, [output]);
            if (output.output.role === 'preview') this.video = output;
            // Nearly always at the end.
            else if (output.output.role === 'frame')
                frames.splice(placeOf(frames, output), 0, output);
        }
        this.frames = frames;
        this.outputCount += outputs.length;
    }

    /** A stream that lags leaves out what happened in between. */
    #check() {
        if (!this.job || this.grids.length === 0) return;
        const { tasks } = this.job.progress;
        const count = (state: State) =>
            this.grids.reduce((sum, grid) => sum + (grid.counts[state] ?? 0), 0);
        const same =
            count(LETTERS.c) === tasks.completed &&
            count(LETTERS.f) === tasks.failed &&
            count(LETTERS.r) === tasks.running &&
            count(LETTERS.x) === tasks.canceled;
        const now = performance.now();
        if (same) this.#differsSince = 0;
        else if (this.#differsSince === 0) this.#differsSince = now;
        const stale = this.#differsSince > 0 && now - this.#differsSince > DIFFERS_MS;
        const ended = this.job.ended_at !== null && this.job.ended_at !== this.#endedAt;
        if (stale || ended) {
            this.#differsSince = 0;
            this.#endedAt = this.job.ended_at;
            void this.#ask();
        } else if (now - this.#detailAt > DETAIL_EVERY_MS) {
            void this.#askSteps();
        } else if (!same) {
            setTimeout(() => this.#apply.soon(), DIFFERS_MS);
        }
    }
}

/** Where an output belongs among those that are in order. */
function placeOf(frames: readonly OutputView[], output: OutputView): number {
    let low = 0;
    let high = frames.length;
    if (high > 0 && isBefore(frames[high - 1], output)) return high;
    while (low < high) {
        const middle = (low + high) >> 1;
        if (isBefore(frames[middle], output)) low = middle + 1;
        else high = middle;
    }
    return low;
}

function isBefore(a: OutputView | undefined, b: OutputView): boolean {
    if (!a) return false;
    if (a.step !== b.step) return a.step < b.step;
    if (a.output.frame !== b.output.frame) return a.output.frame < b.output.frame;
    return a.cursor < b.cursor;
}
