/**
 * Plays a story of the dashboard in headless Chromium: `node play.js STORY LINK`.
 *
 * Whoever starts it has a farm running and reads from standard output what is to be done with it, a
 * line at a time, and answers each line with one on standard input.
 */
import { createInterface } from 'node:readline';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { CONTEXT, start } from './browser.js';
import * as stories from './stories.js';

/** How long anything may take to show up. */
const PATIENCE_MS = 60_000;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** What a story has at hand. */
export class Stage {
    /** @type {string[]} */
    complaints = [];

    /**
     * @param {import('playwright-core').BrowserContext} context
     * @param {import('playwright-core').Page} page
     * @param {string} link
     */
    constructor(context, page, link) {
        this.context = context;
        this.page = page;
        this.link = link;
        this.#listen(page);
    }

    /** @param {import('playwright-core').Page} page */
    #listen(page) {
        page.on('pageerror', (error) => this.complaints.push(`${error.message}\n${error.stack}`));
        page.on('console', (message) => {
            // Answers that are no success the page tells by itself, in words.
            const known = /Failed to load resource|net::ERR_/.test(message.text());
            if (message.type() === 'error' && !known) this.complaints.push(message.text());
        });
    }

    /**
     * Another device of whoever is signed in.
     * @param {import('playwright-core').BrowserContextOptions} options
     */
    async device(options) {
        const storageState = await this.context.storageState();
        const context = await open({ ...options, storageState });
        const page = await context.newPage();
        this.#listen(page);
        return page;
    }

    /**
     * Has the other side do something with the farm, and returns its answer.
     * @param {string} deed
     */
    async ask(deed) {
        process.stdout.write(`${deed}\n`);
        const answer = await answers.next();
        if (answer.done) throw new Error('nobody answers');
        return answer.value;
    }

    /** @param {string} place */
    async go(place) {
        await this.page.evaluate((hash) => {
            location.hash = hash;
        }, place);
    }

    /**
     * Waits until something is so.
     * @param {string} what
     * @param {() => Promise<unknown>} look
     */
    async eventually(what, look) {
        const until = Date.now() + PATIENCE_MS;
        while (!(await look())) {
            if (Date.now() > until) throw new Error(`this never came: ${what}`);
            await new Promise((resolve) => setTimeout(resolve, 50));
        }
    }

    /**
     * Nothing of the page keeps out people who cannot see it, or not well.
     * @param {string} where
     */
    async isAccessible(where) {
        await this.page.evaluate(axe);
        const found = await this.page.evaluate(async () => {
            // eslint-disable-next-line @typescript-eslint/ban-ts-comment
            // @ts-ignore: it was put there a moment ago
            const { violations } = await window.axe.run(document);
            return violations.map((/** @type {any} */ { id, nodes }) => {
                const [first] = nodes;
                return `${id}: ${first.html} (${first.any.map((/** @type {any} */ a) => a.message).join('; ')})`;
            });
        });
        if (found.length > 0) throw new Error(`${where}: ${found.join('\n')}`);
    }

    /** @param {string} where */
    async fitsAPhone(where) {
        const before = this.page.viewportSize();
        await this.page.setViewportSize({ width: 390, height: 844 });
        // What is painted hears of its new size a moment later.
        await this.eventually(`${where} fits a phone`, () =>
            this.page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth),
        );
        await this.page.setViewportSize(before ?? { width: 1360, height: 900 });
    }

    /**
     * For the documents, if a folder is named for it.
     * @param {string} name
     */
    async picture(name) {
        const folder = process.env['GRANGE_PICTURES'];
        if (folder) await this.page.screenshot({ path: `${folder}/${name}.png` });
    }
}

const [, , name = '', link = ''] = process.argv;
const story = Object.entries(stories).find(([known]) => known === name)?.[1];
if (!story) throw new Error(`there is no story ${name}`);
const browser = await start();
try {
    const context = await open({});
    const stage = new Stage(context, await context.newPage(), link);
    await story(stage);
    if (stage.complaints.length > 0) throw new Error(stage.complaints.join('\n'));
} finally {
    await browser.close();
}
process.stdout.write('the end\n');
process.exit(0);

/** @param {import('playwright-core').BrowserContextOptions} options */
async function open(options) {
    // What is measured of colours shall not be on its way from one to another.
    const context = await browser.newContext({ ...CONTEXT, reducedMotion: 'reduce', ...options });
    context.setDefaultTimeout(PATIENCE_MS);
    return context;
}
