/** From dropped files to a job: send the scene, answer what the farm asks of it, submit. */
import { post, type Frames, type JobView } from './api';

/** Where dropped files lie, as far as the farm is concerned. */
const FOLDER = '/dropped';
/** More rounds of questions has no scene. */
const ROUNDS_MAX = 20;

interface Blob_ {
    hash: string;
    len: number;
}

interface Scene {
    blend: string;
    files: string[];
    missing: { path: string; problem: string }[];
    needs: object;
    summary: {
        active: string;
        scenes: {
            name: string;
            engine: string;
            frame_start: number;
            frame_end: number;
            frame_step: number;
            frame_rate: object;
            output: string;
            is_movie: boolean;
            resolution: { width: number; height: number };
            resolution_percentage: number;
            samples: number | null;
        }[];
    };
}

type Reading = { scene: Scene } | { more: { libraries: string[]; folders: string[] } };

/** What somebody asks for beside the scene. */
export interface Wanted {
    frames: Frames[];
    preview: boolean;
    priority: number;
    /** Only agents that have all of these render it. */
    tags: readonly string[];
    /** Also if no agent of the farm could render it today. */
    queue_anyway: boolean;
}

/** A scene that the farm has read. */
export class ReadScene {
    constructor(
        readonly name: string,
        readonly scene: Scene,
        readonly dropped: Dropped,
    ) {}

    get active() {
        const { active, scenes } = this.scene.summary;
        return scenes.find(({ name }) => name === active) ?? scenes[0];
    }

    /** Frames as people write them. */
    get frames() {
        const scene = this.active;
        if (!scene) return '1';
        const step = scene.frame_step > 1 ? `x${scene.frame_step}` : '';
        return `${scene.frame_start}-${scene.frame_end}${step}`;
    }

    async submit({ frames, preview, ...wanted }: Wanted): Promise<JobView> {
        const { scene } = this;
        const entries = await Promise.all(
            scene.files.map(async (path) => {
                const blob = await this.dropped.send(path);
                return { path, blob: blob.hash, len: blob.len };
            }),
        );
        const manifest = await post<Blob_>('/api/v1/manifests', entries);
        const stem = this.name.replace(/\.blend$/, '');
        const animation = {
            blend: scene.blend,
            needs: scene.needs,
            shot: { frames, output: this.active?.output ?? '####' },
            preview: preview
                ? { fps: this.active?.frame_rate, output: `${stem}-preview.mp4` }
                : null,
        };
        return post<JobView>('/api/v1/jobs', {
            name: this.name,
            ...wanted,
            manifest: manifest.hash,
            kind: { animation },
        });
    }
}

/** Files that were dropped together, each sent once. */
class Dropped {
    readonly #files = new Map<string, File>();
    readonly #sent = new Map<string, Promise<Blob_>>();

    constructor(files: readonly File[]) {
        for (const file of files) this.#files.set(`${FOLDER}/${file.name}`, file);
    }

    get names() {
        return [...this.#files.values()].map(({ name }) => name);
    }

    has(path: string) {
        return this.#files.has(path);
    }

    send(path: string): Promise<Blob_> {
        let sent = this.#sent.get(path);
        if (!sent) {
            const file = this.#files.get(path);
            if (!file) return Promise.reject(new Error(`${path} was not dropped: drop it along`));
            // As a plain blob: a file's own type is none that the farm takes.
            sent = post<Blob_>('/api/v1/blobs', file.slice());
            this.#sent.set(path, sent);
        }
        return sent;
    }
}

export async function read(files: readonly File[]): Promise<ReadScene> {
    const blend = files.find(({ name }) => name.endsWith('.blend'));
    if (!blend) throw new Error('none of these is a .blend file: drop the scene, with its files');
    const dropped = new Dropped(files);
    const path = `${FOLDER}/${blend.name}`;
    const told: Record<string, { blob: string; len: number } | null> = {};
    const folders: Record<string, { files: string[]; folders: string[] } | null> = {};
    const tell = async (name: string) => {
        const { hash, len } = await dropped.send(name);
        told[name] = { blob: hash, len };
    };
    await tell(path);
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
        const answer = await post<Reading>('/api/v1/scenes', { path, files: told, folders });
        if ('scene' in answer) return new ReadScene(blend.name, answer.scene, dropped);
        for (const library of answer.more.libraries) {
            if (dropped.has(library)) await tell(library);
        }
        for (const folder of answer.more.folders) {
            if (folder === FOLDER) folders[folder] = { files: dropped.names, folders: [] };
            else if (folder === '/') folders[folder] = { files: [], folders: [FOLDER.slice(1)] };
            else folders[folder] = null;
        }
    }
    throw new Error('the scene asks for ever more files: submit it with `grange submit`');
}

/** `1-30, 35, 40-60x2`, as the command line has it; `null` for what is none of that. */
export function parseFrames(text: string): Frames[] | null {
    const found: Frames[] = [];
    for (const part of text.split(',')) {
        const match = /^\s*(-?\d+)(?:\s*-\s*(-?\d+)(?:\s*x\s*(\d+))?)?\s*$/.exec(part);
        if (!match) return null;
        const first = Number(match[1]);
        const last = match[2] === undefined ? first : Number(match[2]);
        const step = Number(match[3] ?? 1);
        if (last < first || step < 1) return null;
        found.push({ first, last, step });
    }
    return found;
}
