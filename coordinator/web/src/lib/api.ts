/** What the coordinator's API says, and how it is asked. The types are those of `/openapi.json`. */

export type Role = 'admin' | 'submitter' | 'viewer';
export type JobState = 'queued' | 'active' | 'paused' | 'completed' | 'canceled' | 'failed';
export type TaskState = 'waiting' | 'ready' | 'running' | 'completed' | 'failed' | 'canceled';
export type AgentState = 'online' | 'draining' | 'asleep' | 'offline';

export interface Me {
    name: string;
    role: Role;
}

export interface TaskCounts {
    total: number;
    waiting: number;
    ready: number;
    running: number;
    completed: number;
    failed: number;
    canceled: number;
}

export interface JobView {
    id: number;
    name: string;
    kind: string;
    submitter: string;
    state: JobState;
    /** The step whose turn it is, where there are several. */
    step: string | null;
    priority: number;
    reason: string | null;
    submitted_at: number;
    ended_at: number | null;
    /** It stays with its files, however old it gets. */
    kept: boolean;
    /** Only agents that have all of these get tasks of it. */
    tags: string[];
    progress: {
        tasks: TaskCounts;
        frames_total: number;
        frames_done: number;
        fraction: number;
        frames_per_minute: number;
        seconds_left: number | null;
        outputs: number;
        output_bytes: number;
    };
}

export interface StepView {
    name: string;
    after: number[];
    optional: boolean;
    tasks: TaskCounts;
    skipped: string | null;
}

export interface Failure {
    agent: string;
    kind: string;
    reason: string;
    at: number;
}

export interface TaskView {
    step: number;
    task: number;
    label: string;
    state: TaskState;
    agent: string | null;
    /** Index into the agent's devices. */
    device: number | null;
    progress: {
        stage: string;
        fraction: number;
        frame: number;
        sample: number;
        samples: number;
        memory_mib: number;
        seconds: number;
    } | null;
    failures: Failure[];
}

/** What completed attempts took on their devices. */
export interface JobCost {
    total_ms: number;
    render_ms: number;
    load_ms: number;
    saved_ms: number;
}

export interface JobDetail {
    job: JobView;
    steps: StepView[];
    tasks: TaskView[];
    cost: JobCost;
}

export interface OutputView {
    cursor: number;
    step: number;
    task: number;
    output: {
        name: string;
        role: 'frame' | 'extra' | 'preview';
        frame: number;
        blob: { hash: string; len: number };
    };
}

export interface LogView {
    cursor: number;
    agent: string;
    failed: boolean;
    at: number;
    text: string;
}

/** `first`, `first + step`, … up to `last`. */
export interface Frames {
    first: number;
    last: number;
    step: number;
}

export interface Grid {
    steps: { states: string; frames: Frames[] | null }[];
}

export interface DeviceState {
    total_mib: number;
    used_mib: number;
    others_mib: number;
    reserved_mib: number;
    instances: number;
    slots: number;
    utilisation_percent: number | null;
    temperature_c: number | null;
    power_w: number | null;
    processes: { pid: number; mib: number | null; ours: boolean }[];
    problem: string | null;
}

export interface AgentView {
    id: string;
    name: string;
    state: AgentState;
    software: string;
    runtimes: { full_version: string; path: string; engines: string[] }[];
    devices: { id: string; name: string; kind: string; memory_mib: number; driver: string }[];
    ffmpeg: boolean;
    load: {
        cores: number;
        cpu_percent: number;
        memory_total_mib: number;
        memory_available_mib: number;
        instances: number;
    };
    tasks: number;
    last_seen: number;
    device_states: DeviceState[];
    tags: string[];
    /** Hours of a week, as people write them; `null`: always. */
    schedule: string | null;
}

export interface FarmView {
    farm: string;
    software: string;
    epoch: number;
    agents_online: number;
    jobs_open: number;
    tasks_running: number;
    fraction: number;
    frames_per_minute: number;
    seconds_left: number | null;
}

export interface Decision {
    agent: string;
    device: string;
    decision: { device: number; at: number; text: string };
}

/** Somebody who has joined. */
export interface MemberView {
    id: string;
    name: string;
    role: Role | 'agent';
    joined_at: number;
}

export interface TokenView {
    name: string;
    role: Role;
    created_at: number;
    expires_at: number;
}

export interface StorageView {
    stored_bytes: number;
    pictures_bytes: number;
    limit_bytes: number | null;
    disk_free_bytes: number | null;
    disk_bytes: number | null;
    full: string | null;
    keep_days: number | null;
    keep_unfetched_days: number | null;
    keep_logs_days: number | null;
    keep_uploads_hours: number | null;
    collected_jobs: number;
    collected_files: number;
    collected_bytes: number;
}

export type HistoryKind =
    | 'job.submitted'
    | 'job.started'
    | 'job.paused'
    | 'job.resumed'
    | 'job.retried'
    | 'job.completed'
    | 'job.failed'
    | 'job.canceled'
    | 'job.deleted'
    | 'job.collected'
    | 'agent.joined'
    | 'agent.online'
    | 'agent.offline'
    | 'agent.drained'
    | 'agent.resumed'
    | 'agent.removed'
    | 'storage.full'
    | 'storage.recovered'
    | 'coordinator.started'
    | 'member.joined'
    | 'member.removed'
    | 'invitation.made'
    | 'token.made'
    | 'token.revoked'
    | 'webhook.gave_up';

export type About = 'jobs' | 'agents' | 'farm';

/** Something that happened. `text` follows on `subject` if that is not empty. */
export interface HistoryView {
    /** One more than that of what happened before. */
    cursor: number;
    at: number;
    kind: HistoryKind;
    job: number | null;
    agent: string | null;
    subject: string;
    text: string;
}

export interface Page<T> {
    items: T[];
    next: string | null;
}

export type WatchEvent =
    | { farm: FarmView }
    | { job: JobView }
    | { task: { job: number; task: TaskView } }
    | { output: { job: number; output: OutputView } }
    | { agent: AgentView }
    | { jobgone: number }
    | { agentgone: string }
    | { states: { job: number; step: number; first: number; states: string } }
    | { happened: HistoryView }
    | 'caughtup'
    | 'anew';

/** What went wrong, in the coordinator's own sentence. */
export class Problem extends Error {
    constructor(
        readonly status: number,
        detail: string,
    ) {
        super(detail);
    }
}

const AWAY = 'the coordinator does not answer: is it running, and is the network up?';

/** Whoever wants to know that nobody is signed in any more. */
let onSignedOut = () => {};

export function whenSignedOut(tell: () => void) {
    onSignedOut = tell;
}

export async function send(method: string, path: string, body?: BodyInit | object) {
    const raw = body instanceof Blob;
    const init: RequestInit = { method, credentials: 'same-origin' };
    if (body !== undefined) {
        init.body = raw ? body : JSON.stringify(body);
        init.headers = { 'Content-Type': raw ? 'application/octet-stream' : 'application/json' };
    }
    let response;
    try {
        response = await fetch(path, init);
    } catch {
        throw new Problem(0, AWAY);
    }
    if (response.ok) return response;
    if (response.status === 401 && path !== '/session') onSignedOut();
    throw await refusal(response);
}

/** What an answer that is no success says. */
export async function refusal(response: Response) {
    const problem: unknown = await response.json().catch(() => null);
    const said = problem !== null && typeof problem === 'object' && 'detail' in problem;
    return new Problem(
        response.status,
        said ? String(problem.detail) : `the coordinator answered with ${response.status}`,
    );
}

/** Whether that which was asked for is not there, or not any more. */
export function isGone(error: unknown) {
    return error instanceof Problem && (error.status === 404 || error.status === 410);
}

export async function get<T>(path: string): Promise<T> {
    return (await send('GET', path)).json() as Promise<T>;
}

export async function post<T>(path: string, body?: BodyInit | object): Promise<T> {
    return (await send('POST', path, body)).json() as Promise<T>;
}

export type JobAction = 'pause' | 'resume' | 'cancel' | 'retry' | 'keep' | 'release';

export function act(job: number, action: JobAction) {
    return post<JobView>(`/api/v1/jobs/${job}/${action}`);
}

/** Forgets a job that has ended, for good. */
export async function forget(job: number) {
    await send('DELETE', `/api/v1/jobs/${job}`);
}

export function drain(agent: string, on: boolean) {
    return post<AgentView>(`/api/v1/agents/${agent}/${on ? 'drain' : 'resume'}`);
}

export async function removeAgent(agent: string) {
    await send('DELETE', `/api/v1/agents/${agent}`);
}

/** What jobs can ask for, and when it takes tasks. */
export async function settle(agent: string, tags: string[], schedule: string | null) {
    await send('PUT', `/api/v1/agents/${agent}/tags`, { tags });
    await send('PUT', `/api/v1/agents/${agent}/schedule`, { schedule });
}

export async function prioritise(job: number, priority: number) {
    await send('PUT', `/api/v1/jobs/${job}/priority`, { priority });
}

export type Size = 'small' | 'medium' | 'large';

/** Where a small picture of an output is. */
export function picture(output: OutputView, size: Size) {
    return `/api/v1/pictures/${output.output.blob.hash}/${size}`;
}

/** Where an output itself is. */
export function original(job: number, output: OutputView) {
    const name = output.output.name.split('/').map(encodeURIComponent).join('/');
    return `/api/v1/jobs/${job}/outputs/${name}`;
}

/** What is true of anybody's sentence: it begins with a capital letter and ends with a stop. */
export function sentence(error: unknown) {
    const text = error instanceof Error ? error.message : String(error);
    const stop = /[.!?]$/.test(text) ? '' : '.';
    return text.charAt(0).toUpperCase() + text.slice(1) + stop;
}
