/**
 * What the dashboard costs a browser while a job of very many tasks runs: `node measure.js LINK JOB`.
 *
 * Prints figures as one object. The time of a frame is what the page's main thread worked from one
 * frame's begin to the next one's, by Chromium's own trace, while the page asks for every frame. Time
 * of the processor leaves out when other programs had it.
 */
import { CONTEXT, start } from './browser.js';

const TRACE_MS = 6_000;
const PAINTS = 5;
const CATEGORIES = [
    'toplevel',
    'blink.user_timing',
    'devtools.timeline',
    'disabled-by-default-devtools.timeline',
    'disabled-by-default-devtools.timeline.frame',
];

/** @typedef {{ name: string, ph: string, ts: number, dur?: number, tdur?: number, pid: number, tid: number }} TraceEvent */

const [, , link = '', job = ''] = process.argv;
const browser = await start();
try {
    const context = await browser.newContext(CONTEXT);
    const page = await context.newPage();
    await page.goto(link);
    await page.getByRole('link', { name: 'Agents' }).waitFor();
    await page.goto(`${link.split('#')[0]}#/jobs/${job}`);
    const grid = page.getByRole('slider', { name: 'Frames' });
    await grid.waitFor();
    const cells = Number(await grid.getAttribute('aria-valuemax')) + 1;
    const told = () =>
        page.evaluate(async (id) => {
            const detail = await (await fetch(`/api/v1/jobs/${id}`)).json();
            return [performance.now(), detail.job.progress.tasks.completed];
        }, job);
    // Every frame is asked for, so that one which is late is seen.
    await page.evaluate(() => {
        const next = () => requestAnimationFrame(next);
        next();
        performance.mark('measured');
    });
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await browser.startTracing(page, { categories: CATEGORIES });
    await page.evaluate(() => performance.mark('measured'));
    const [beganAt = 0, before = 0] = await told();
    await new Promise((resolve) => setTimeout(resolve, TRACE_MS));
    const [endedAt = 0, after = 0] = await told();
    const trace = JSON.parse((await browser.stopTracing()).toString());
    const shown = await page.locator('.legend').innerText();
    const figures = {
        grid_cells: cells,
        grid_updates_per_s: ((after - before) * 1_000) / (endedAt - beganAt),
        ...ofFrames(trace.traceEvents),
    };
    if (after >= cells) throw new Error('the job was over before the measurement was');
    if (!/completed/.test(shown)) throw new Error(`the grid shows no updates: ${shown}`);
    await page.close();

    const paints = [];
    let bytes = 0;
    for (let round = 0; round < PAINTS; round += 1) {
        // A window of its own that is signed in, and has nothing cached.
        const fresh = await browser.newContext({
            ...CONTEXT,
            storageState: await context.storageState(),
        });
        const first = await fresh.newPage();
        await first.goto(`${link.split('#')[0]}#/jobs`);
        await first.getByRole('heading', { name: 'Jobs' }).waitFor();
        const [paint, sent] = await first.evaluate(() => {
            const own = performance
                .getEntries()
                .filter(({ name }) => new URL(name, location.href).pathname.startsWith('/assets/'));
            const files = /** @type {PerformanceResourceTiming[]} */ ([
                ...performance.getEntriesByType('navigation'),
                ...own,
            ]);
            return [
                performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? Infinity,
                files.reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0),
            ];
        });
        paints.push(paint ?? Infinity);
        bytes = sent ?? 0;
        await fresh.close();
    }
    Object.assign(figures, {
        first_paint_ms: quantile(paints, 0.5),
        files_kb: bytes / 1_000,
    });
    process.stdout.write(`${JSON.stringify(figures)}\n`);
} finally {
    await browser.close();
}

/** @param {TraceEvent[]} events */
function ofFrames(events) {
    const mark = events.findLast(({ name, ph }) => name === 'measured' && ph !== 'e');
    if (!mark) throw new Error('the trace has no mark');
    const of = (/** @type {string} */ name) =>
        events
            .filter((event) => event.name === name && event.pid === mark.pid && event.ts >= mark.ts)
            .sort((a, b) => a.ts - b.ts);
    const begins = of('BeginFrame').map(({ ts }) => ts);
    const tasks = of('RunTask').filter(({ tid, ph }) => tid === mark.tid && ph === 'X');
    if (begins.length < 100 || tasks.length < 100) {
        throw new Error(`${begins.length} frames and ${tasks.length} tasks are too few`);
    }
    const busy = [];
    const working = [];
    let at = 0;
    for (let frame = 0; frame + 1 < begins.length; frame += 1) {
        const [begin = 0, end = 0] = [begins[frame], begins[frame + 1]];
        while ((tasks[at]?.ts ?? Infinity) < begin) at += 1;
        let sum = 0;
        let work = 0;
        // A task counts for the frame in which it began, also if it goes on into the next one.
        while ((tasks[at]?.ts ?? Infinity) < end) {
            sum += tasks[at]?.dur ?? 0;
            work += tasks[at]?.tdur ?? 0;
            at += 1;
        }
        busy.push(sum / 1_000);
        working.push(work / 1_000);
    }
    const drawn = of('DrawFrame').map(({ ts }) => ts);
    const gaps = drawn.slice(1).map((ts, index) => (ts - (drawn[index] ?? ts)) / 1_000);
    const seconds = ((begins.at(-1) ?? 0) - (begins[0] ?? 0)) / 1e6;
    return {
        frame_p50_ms: quantile(busy, 0.5),
        frame_p95_ms: quantile(busy, 0.95),
        frame_p99_ms: quantile(busy, 0.99),
        frame_cpu_p95_ms: quantile(working, 0.95),
        frame_cpu_p99_ms: quantile(working, 0.99),
        task_max_ms: Math.max(...tasks.map(({ dur }) => dur ?? 0)) / 1_000,
        frames_drawn_per_s: drawn.length / seconds,
        between_frames_p95_ms: quantile(gaps, 0.95),
    };
}

/**
 * @param {number[]} values
 * @param {number} share
 */
function quantile(values, share) {
    const sorted = values.toSorted((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}
