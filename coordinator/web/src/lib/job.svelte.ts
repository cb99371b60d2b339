/** One job, watched: its steps, a state for every task, what runs, what was rendered. */
import {
    get,
    isGone,
    type Grid,
    type JobCost,
    type JobDetail,
    type JobView,
    type OutputView,
    type StepView,
    type TaskState,
    type TaskView,
    type WatchEvent,
} from './api';
import { batched, follow, type Link } from './stream';
import { TaskGrid, type State } from './grid';

const APPLY_EVERY_MS = 100;
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
    cost = $state.raw<JobCost | null>(null);
    /** Running tasks and those with failed attempts, by step and number. */
    tasks = $state.raw<ReadonlyMap<string, TaskView>>(new Map());
    /** Finished frames, by step and frame; there may be very many. */
    frames = $state.raw<readonly OutputView[]>([]);
    video = $state.raw<OutputView | null>(null);
    /** Counts outputs, whose lists by task are not watched themselves. */
    outputCount = $state(0);
    link = $state<Link>('connecting');
    /** Why it is lost. */
    why = $state('');
    /** When the latest word came. */
    heardAt = $state(0);
    /** Why nothing is shown, as long as the job could not be read. */
    missing = $state('');
    /** Why there is no such job, or not any more; nobody follows it then. */
    gone = $state('');
    /** Counts changes of states, which are not watched themselves. */
    version = $state(0);

    #pending: WatchEvent[] = [];
    #asking = false;
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
        this.#stop = follow(`/api/v1/jobs/${id}/events?states=true`, {
            begin: () => {
                if (this.grids.length === 0) void this.#ask();
            },
            events: (events) => {
                for (const event of events) this.#pending.push(event);
                this.#apply.soon();
            },
            link: (link, why = '') => {
                if (this.link !== link) this.link = link;
                if (this.why !== why) this.why = why;
                if (link === 'live') this.heardAt = Date.now();
            },
            signedOut,
            gone: (why) => this.#end(why),
        });
    }

    stop() {
        this.#stop();
        this.#apply.stop();
    }

    /** There is nothing more to be heard. */
    #end(why: string) {
        this.stop();
        this.gone = why;
    }

    task(step: number, task: number) {
        return this.tasks.get(`${step}/${task}`);
    }

    /** What a task has committed, in that order. */
    outputs(step: number, task: number): readonly OutputView[] {
        void this.outputCount;
        return this.#byTask.get(`${step}/${task}`) ?? [];
    }

    /** What no event tells: how large the steps are, and what it all cost. */
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
            this.cost = detail.cost;
            if (this.grids.length === 0) {
                this.grids = grid.steps.map(({ states, frames }) => {
                    const cells = new TaskGrid(states.length, frames);
                    cells.setRun(0, states);
                    return cells;
                });
                this.#apply.soon();
            }
            this.missing = '';
        } catch (error) {
            if (isGone(error)) this.#end(told(error));
            else this.missing = told(error);
        } finally {
            this.#asking = false;
            this.#detailAt = performance.now();
        }
    }

    /** How far each step is and what it cost so far, which no event tells. */
    async #askSteps() {
        this.#detailAt = performance.now();
        try {
            const { steps, cost } = await get<JobDetail>(`/api/v1/jobs/${this.id}`);
            this.steps = steps;
            this.cost = cost;
        } catch (error) {
            // Of all else the page says by itself that it is not live.
            if (isGone(error)) this.#end(told(error));
        }
    }

    #mark(task: TaskView) {
        const part = task.progress?.fraction ?? 0;
        this.grids[task.step]?.set(task.task, STATES[task.state], part);
    }

    #applyNow() {
        // States have no place yet.
        if (this.grids.length === 0) return;
        const events = this.#pending;
        this.#pending = [];
        let tasks: Map<string, TaskView> | undefined;
        const outputs: OutputView[] = [];
        for (const event of events) {
            if (event === 'caughtup' || event === 'anew') continue;
            if ('states' in event) {
                const { step, first, states } = event.states;
                this.grids[step]?.setRun(first, states);
                tasks ??= new Map(this.tasks);
                forget(tasks, step, first, states);
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
            } else if ('jobgone' in event) {
                // The coordinator knows better what has become of it.
                void this.#askSteps();
            }
        }
        if (tasks) this.tasks = tasks;
        this.version += 1;
        if (outputs.length > 0) this.#keep(outputs);
        this.#look();
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

    /** Asks for what no event tells, now and then and at the end. */
    #look() {
        const endedAt = this.job?.ended_at ?? null;
        if (endedAt !== null && endedAt !== this.#endedAt && !this.#asking) {
            this.#endedAt = endedAt;
            void this.#ask();
        } else if (performance.now() - this.#detailAt > DETAIL_EVERY_MS) {
            void this.#askSteps();
        }
    }
}

function told(error: unknown) {
    return error instanceof Error ? error.message : String(error);
}

/**
 * Tasks that a run of states says not to run are not shown one by one, but for those that failed. Of
 * those that wait for another attempt the stream tells next; those that somebody retries have no past.
 */
function forget(tasks: Map<string, TaskView>, step: number, first: number, states: string) {
    for (const [key, { step: of, task, failures }] of tasks) {
        const letter = of === step ? states.charAt(task - first) : '';
        const waits = letter === 'a' || letter === 'w';
        const ended = letter !== '' && letter !== 'r' && failures.length === 0;
        if (waits || ended) tasks.delete(key);
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
