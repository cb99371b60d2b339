/** What people do with the dashboard. Each function is a story; `tests/all/web.rs` gives it a farm. */
import assert from 'node:assert/strict';

/** @typedef {import('./play.js').Stage} Stage */

/**
 * An empty farm says what comes next, and is one no more as soon as a host has joined.
 * @param {Stage} stage
 */
export async function firstStart(stage) {
    const { page } = stage;
    await page.goto(stage.link);
    assert.equal(new URL(page.url()).hash, '', 'the secret stays in the address');
    await page.getByText('has no render hosts yet').waitFor();
    await stage.isAccessible('first start');
    await stage.fitsAPhone('first start');
    await page.getByRole('button', { name: 'Make the command for a host' }).click();
    const command = await page.locator('code', { hasText: 'grange-agent --join' }).textContent();
    await stage.picture('first-start');
    await page.getByRole('button', { name: 'Copy the command' }).click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), command);
    await stage.ask(`join ${command?.split(' ').at(-1)}`);
    await page.getByText('No jobs yet').waitFor();

    // The link is good once, and without signing in there is nothing.
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByRole('heading', { name: 'Sign in to the farm' }).waitFor();
    await stage.isAccessible('sign in');
    await page.goto(stage.link);
    await page.getByText('has been used').waitFor();
    assert.equal(new URL(page.url()).hash, '', 'the secret stays in the address of an open page');
    await page.goto('about:blank');
    await page.goto(stage.link);
    await page.getByText('has been used').waitFor();
    await page.getByLabel('Token').fill('0'.repeat(32));
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('The token is unknown').waitFor();
    await page.getByLabel('Token').fill(await stage.ask('token submitter'));
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('No jobs yet').waitFor();
    await page.getByTitle(', submitter').waitFor();
    await page.goto(await stage.ask('link'));
    await page.getByTitle(', admin').waitFor();
    assert.equal(new URL(page.url()).hash, '');
    await page.goto(stage.link);
    await page.getByRole('list', { name: 'Messages' }).getByText('has been used').waitFor();
    await page.getByTitle(', admin').waitFor();
    const cookies = await stage.context.cookies();
    assert.equal(cookies.length, 1);
    const [cookie] = cookies;
    assert.ok(cookie?.httpOnly && cookie.secure && cookie.sameSite === 'Strict', 'the cookie');
    assert.equal(await page.evaluate(() => document.cookie), '');
}

/**
 * A scene is dropped, its frames arrive while one looks, and are looked at in every way.
 * @param {Stage} stage
 */
export async function rendering(stage) {
    const { page } = stage;
    await page.goto(stage.link);
    /** @type {Map<string, number>} */
    const refusals = new Map();
    await page.route('**/api/v1/pictures/**', async (route) => {
        const url = route.request().url();
        const before = refusals.get(url) ?? 0;
        if (before === 2) return route.continue();
        refusals.set(url, before + 1);
        return route.fulfill({ status: 503, headers: { 'Retry-After': '1' } });
    });
    const scene = await stage.ask('scene');
    await page.getByRole('button', { name: 'Submit a scene' }).waitFor();
    await page.locator('input[type=file]').setInputFiles(scene);
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Frames').fill('1-8, 10-11');
    const submit = dialog.getByRole('button', { name: 'Submit', exact: true });

    // Tags that hosts have are offered; of others it is said that nobody has them.
    await dialog.getByRole('button', { name: 'big' }).click();
    await dialog.getByLabel('Another tag').fill('night');
    await page.keyboard.press('Enter');
    await dialog.getByText('No host that is online has all of the tags big, night').waitFor();
    assert.ok(await submit.isDisabled());
    await dialog.getByLabel('Submit it all the same').check();
    assert.ok(await submit.isEnabled());
    await stage.isAccessible('submitting');
    await stage.fitsAPhone('submitting');
    await stage.picture('submit');
    await dialog.getByRole('button', { name: 'night' }).click();
    await stage.eventually(
        'somebody could render it',
        async () => (await dialog.getByText('No host that is online').count()) === 0,
    );
    await submit.click();
    await page.getByText('Hosts with').waitFor();
    await page.locator('.facts').getByText('big', { exact: true }).waitFor();

    // The frame grid, from outside: where its cells are is told to those who do not see it.
    const grid = page.getByRole('slider', { name: 'Frames' });
    await grid.waitFor();
    assert.equal(await grid.getAttribute('aria-valuemax'), '9');
    await page
        .getByRole('button', { name: /^preview/ })
        .getByText(/^after \w/)
        .waitFor();
    await stage.eventually('a frame runs', async () =>
        (await page.locator('.legend').textContent())?.includes('running'),
    );
    await grid.hover({ position: { x: 4, y: 4 } });
    await page.locator('.tip').getByText('frame 1').waitFor();

    // Pictures arrive while the job runs, also from a coordinator that is busy at first.
    const strip = page.locator('.strip img');
    await strip.first().waitFor();
    await isPainted(stage, strip.first());
    await page.unroute('**/api/v1/pictures/**');

    // A frame that ends while one looks tells by itself what Blender printed.
    await grid.focus();
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowRight');
    const panel = page.getByRole('complementary', { name: 'Task' });
    await panel.getByRole('heading', { name: 'frame 3' }).waitFor();
    await panel.locator('pre').getByText('Saved:').waitFor();
    await stage.go('/live');
    await page.getByText('Forecast').waitFor();
    const wall = page.locator('.wall img');
    await wall.first().waitFor();
    await isPainted(stage, wall.first());
    await stage.isAccessible('live');
    await stage.fitsAPhone('live');
    await stage.picture('live');

    await stage.go('/agents');
    await page.getByRole('heading', { name: 'host' }).waitFor();
    await page
        .getByRole('img', { name: /set aside for them/ })
        .first()
        .waitFor();
    await page.getByText('of 1 instance').first().waitFor();
    await page
        .getByRole('img', { name: /over the last minutes/ })
        .first()
        .waitFor();
    await stage.isAccessible('agents');
    await stage.fitsAPhone('agents');
    await stage.picture('agents');

    await stage.go('/jobs/1');
    await page.getByText('completed', { exact: true }).first().waitFor();
    await stage.eventually('all frames', async () => (await strip.count()) === 10);

    // A task: its picture, its file, what Blender printed.
    await grid.focus();
    await page.keyboard.press('End');
    await panel.getByRole('heading', { name: 'frame 11' }).waitFor();
    await isPainted(stage, panel.locator('.frame img'));
    await panel.locator('pre').getByText('Saved:').waitFor();
    const [download] = await Promise.all([
        page.waitForEvent('download'),
        panel.locator('.files a').first().click(),
    ]);
    assert.match(download.suggestedFilename(), /0011\.png$/);

    const [all] = await Promise.all([
        page.waitForEvent('download'),
        page.getByRole('link', { name: 'Download all' }).click(),
    ]);
    assert.equal(all.suggestedFilename(), 'job-1.zip');
    assert.equal(await all.failure(), null);

    // Two frames side by side, and the video.
    await page.getByRole('button', { name: 'Compare with …' }).click();
    const scrub = page.getByRole('slider', { name: 'Frame', exact: true });
    await scrub.focus();
    await page.keyboard.press('Home');
    assert.deepEqual(await page.locator('.tag').allTextContents(), ['11', '1']);
    await isPainted(stage, page.locator('.stage .over img'));
    const pictures = await page
        .locator('.stage img')
        .evaluateAll((images) =>
            images.map((image) => /** @type {HTMLImageElement} */ (image).src),
        );
    assert.equal(new Set(pictures).size, 2, 'a frame compared with itself');
    await stage.isAccessible('a job');
    await stage.fitsAPhone('a job');
    await stage.picture('job');
    await page.getByRole('button', { name: 'Stop comparing' }).click();
    await page.getByRole('button', { name: 'Play' }).click();
    await stage.eventually('it plays', async () => (await scrub.inputValue()) !== '0');
    await page.getByRole('button', { name: 'Stop playing' }).click();
    const video = page.locator('video').first();
    await stage.eventually('the video can be played', () =>
        video.evaluate((element) => /** @type {HTMLVideoElement} */ (element).readyState >= 1),
    );

    // In the dark, too.
    await page.getByRole('button', { name: /^Colours/ }).click();
    await page.getByRole('button', { name: /^Colours/ }).click();
    assert.equal(await page.locator('html').getAttribute('data-theme'), 'dark');
    await stage.isAccessible('a job in the dark');
    await stage.picture('job-dark');
    for (const place of ['/jobs', '/live', '/agents', '/farm']) {
        await stage.go(place);
        const heading = page.getByRole('heading', { level: 1 });
        await heading.waitFor();
        await stage.eventually('the focus is where the page begins', () =>
            heading.evaluate((element) => element === document.activeElement),
        );
        await stage.isAccessible(`${place} in the dark`);
    }
    await stage.fitsAPhone('farm');
}

/**
 * A host with two GPUs: what each renders is below it, and a frame says on which one it is.
 * @param {Stage} stage
 */
export async function devices(stage) {
    const { page } = stage;
    await page.goto(stage.link);
    await stage.go('/agents');
    for (const device of ['Fake 0', 'Fake 1']) {
        const tasks = page.getByRole('list', { name: `What ${device} renders` });
        await tasks.getByText(/sample \d+ of 400/).waitFor();
        await tasks.getByRole('link', { name: 'fake.blend' }).waitFor();
    }

    // How they did is drawn also for whoever opens the page right there, and goes on.
    await page.reload();
    for (const device of ['Fake 0', 'Fake 1']) {
        const name = new RegExp(`^${device} over the last minutes`);
        await page.getByRole('img', { name }).waitFor();
    }
    const canvas = page.locator('.chart canvas').first();
    await canvas.evaluate((element) => element.classList.add('first'));
    const doing = page.getByText(/sample \d+ of 400/).first();
    const earlier = await doing.textContent();
    await stage.eventually('another sample', async () => (await doing.textContent()) !== earlier);
    assert.equal(await page.locator('canvas.first').count(), 1, 'the chart was built anew');
    await stage.isAccessible('two devices');
    await stage.fitsAPhone('two devices');
    await stage.picture('devices');
    await stage.go('/jobs/1');
    const grid = page.getByRole('slider', { name: 'Frames' });
    await grid.hover({ position: { x: 4, y: 4 } });
    const where = /on meadow, Fake [01]/;
    await page.locator('.tip').getByText(where).waitFor();
    await grid.click({ position: { x: 4, y: 4 } });
    await page.getByRole('complementary', { name: 'Task' }).getByText(where).waitFor();

    // By a finger, too.
    const phone = await stage.device({ hasTouch: true, viewport: { width: 390, height: 844 } });
    await phone.goto(page.url());
    await phone.getByRole('slider', { name: 'Frames' }).tap({ position: { x: 4, y: 4 } });
    await phone.getByRole('complementary', { name: 'Task' }).getByText(where).waitFor();
}

/**
 * What is done to jobs, one and several, by mouse and keyboard.
 * @param {Stage} stage
 */
export async function acting(stage) {
    const { page } = stage;
    await page.goto(stage.link);
    const row = (/** @type {number} */ job) =>
        page.locator('tr', { has: page.locator(`a[href="#/jobs/${job}"]`) });
    await row(5).waitFor();
    await stage.isAccessible('jobs');
    await stage.fitsAPhone('jobs');

    // Shift takes all between.
    await page.getByRole('checkbox', { name: 'Choose job 5' }).click();
    await page.getByRole('checkbox', { name: 'Choose job 3' }).click({ modifiers: ['Shift'] });
    await page.getByText('3 chosen').waitFor();
    const acts = page.getByRole('toolbar');
    await stage.isAccessible('jobs, some chosen');
    await stage.picture('jobs');
    await acts.getByRole('button', { name: 'Pause' }).click();
    for (const job of [3, 4, 5]) await row(job).getByText('paused').waitFor();
    assert.equal(await row(2).getByText('paused').count(), 0);
    await acts.getByRole('spinbutton').fill('77');
    await acts.getByRole('button', { name: 'Set', exact: true }).click();
    for (const job of [3, 4, 5]) await row(job).getByRole('cell', { name: '77' }).waitFor();
    await acts.getByRole('button', { name: 'Resume' }).click();
    await stage.eventually(
        'none is paused',
        async () => (await page.getByText('paused').count()) === 0,
    );
    await acts.getByRole('button', { name: 'Cancel' }).click();
    for (const job of [3, 4, 5]) await row(job).getByText('canceled').waitFor();
    await page.getByText('Canceled 3 jobs.').waitFor();
    assert.ok(await acts.getByRole('button', { name: 'Set', exact: true }).isDisabled());
    assert.equal(await stage.ask('states'), 'failed,active,canceled,canceled,canceled');
    const pins = page.getByRole('img', { name: 'kept' });
    await acts.getByRole('button', { name: 'Keep' }).click();
    for (const job of [3, 4, 5]) await row(job).getByRole('img', { name: 'kept' }).waitFor();
    await stage.isAccessible('jobs, some kept');
    await stage.fitsAPhone('jobs, some kept');
    await stage.picture('kept');
    await acts.getByRole('button', { name: 'Release' }).click();
    await stage.eventually('none is kept', async () => (await pins.count()) === 0);
    await acts.getByRole('button', { name: 'Choose none' }).click();

    // Search and filter.
    await page.keyboard.press('/');
    await page.keyboard.type('#2');
    await stage.eventually('one is found', async () => (await page.getByRole('row').count()) === 2);
    await page.getByRole('searchbox').fill('');
    await page.getByRole('button', { name: /^Failed/ }).click();
    await stage.eventually(
        'one has failed',
        async () => (await page.getByRole('row').count()) === 2,
    );

    // One by its own page, which makes room for what follows.
    await stage.go('/jobs/2');
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('canceled', { exact: true }).first().waitFor();
    await stage.go('/jobs');
    await page.getByRole('button', { name: /^Failed/ }).click();

    // Why it failed, and once more.
    await page.locator('a[href="#/jobs/1"]').click();
    await page.getByRole('heading', { name: 'What failed' }).waitFor();
    await page.getByRole('button', { name: 'frame 2', exact: true }).click();
    const panel = page.getByRole('complementary', { name: 'Task' });
    await panel.getByRole('heading', { name: 'Failed attempts' }).waitFor();
    await panel.getByText('Cannot render, no camera').first().waitFor();
    await stage.isAccessible('a failed task');

    // Of another task nothing of this one is shown, however long nobody answers.
    let letOn = () => {};
    const held = new Promise((resolve) => {
        letOn = () => resolve(null);
    });
    await page.route('**/api/v1/jobs/1/tasks?*', async (route) => {
        await held;
        await route.continue();
    });
    await page.getByRole('slider', { name: 'Frames' }).focus();
    await page.keyboard.press('End');
    await panel.getByRole('heading', { name: 'frame 4' }).waitFor();
    assert.equal(await panel.getByRole('heading', { name: 'Failed attempts' }).count(), 0);
    assert.equal(await panel.locator('pre').count(), 0);
    letOn();
    await page.unrouteAll({ behavior: 'wait' });
    await stage.ask('remember');
    await page.getByRole('button', { name: 'Retry failed' }).click();
    await page.getByText('Failed tasks are tried again').waitFor();
    await stage.eventually(
        'it was tried again',
        async () => (await stage.ask('retried')) === 'yes',
    );

    // Those that have ended are deleted, once it is sure that this is meant.
    await stage.go('/jobs');
    await page.getByRole('checkbox', { name: 'Choose job 5' }).click();
    await page.getByRole('checkbox', { name: 'Choose job 4' }).click();
    page.once('dialog', (dialog) => void dialog.dismiss());
    await acts.getByRole('button', { name: 'Delete' }).click();
    assert.equal(await row(5).count(), 1);
    page.once('dialog', (dialog) => void dialog.accept());
    await acts.getByRole('button', { name: 'Delete' }).click();
    await stage.eventually(
        'both are gone',
        async () => (await row(5).count()) + (await row(4).count()) === 0,
    );
    await page.locator('a[href="#/jobs/3"]').click();
    await page.getByRole('button', { name: 'Keep' }).click();
    await pins.waitFor();
    await stage.isAccessible('a kept job');
    page.once('dialog', (dialog) => void dialog.accept());
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByText('Job 3 is kept').waitFor();
    await page.getByRole('button', { name: 'Release' }).click();
    await stage.eventually('it is kept no more', async () => (await pins.count()) === 0);
    page.once('dialog', (dialog) => void dialog.accept());
    await page.getByRole('button', { name: 'Delete' }).click();
    await row(2).waitFor();
    await stage.eventually('it is gone', async () => (await row(3).count()) === 0);

    // One that somebody else deletes says so, and has nothing more to press.
    await stage.go('/jobs/2');
    await page.getByRole('button', { name: 'Delete' }).waitFor();
    await stage.ask('delete 2');
    await page.getByRole('alert').getByText('Job 2 is gone').waitFor();
    assert.equal(await page.locator('main').getByRole('button').count(), 0);
    await stage.isAccessible('a job that is gone');

    // What succeeded in the end has not failed.
    await stage.go(`/jobs/${await stage.ask('stumble')}`);
    await page.getByRole('slider', { name: 'Frames' }).hover({ position: { x: 4, y: 4 } });
    await page
        .locator('.tip')
        .getByText(/completed, \d failed attempts/)
        .waitFor();
    assert.equal(await page.getByRole('heading', { name: 'What failed' }).count(), 0);

    // The host is drained, and takes tasks again.
    await stage.go('/agents');
    await page.getByRole('button', { name: 'Drain host' }).click();
    await page.getByText('draining', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Resume host' }).click();
    await page.getByText('online', { exact: true }).waitFor();
    await page.getByText('Tags and hours').click();
    await page.getByLabel('Tags', { exact: true }).fill('big, night');
    await page.getByLabel('Hours', { exact: true }).fill('by night');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('write hours as').first().waitFor();
    await page.getByLabel('Hours', { exact: true }).fill('mon-sun');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('takes tasks mon-sun').waitFor();
    await stage.isAccessible('an agent with tags');
    page.once('dialog', (dialog) => void dialog.accept());
    await page.getByRole('button', { name: 'Remove host' }).click();
    await stage.eventually(
        'it is gone',
        async () => (await page.getByRole('button', { name: 'Remove host' }).count()) === 0,
    );
}

/**
 * Whoever only looks sees everything and no button that would be refused.
 * @param {Stage} stage
 */
export async function viewing(stage) {
    const { page } = stage;
    await page.goto(stage.link.split('#')[0] ?? '');
    await page.getByLabel('Token').fill(await stage.ask('token viewer'));
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.locator('a[href="#/jobs/1"]').waitFor();
    assert.equal(await page.getByRole('checkbox').count(), 0);
    const allowed = [
        'Sign out',
        'All',
        'Open',
        'Completed',
        'Failed',
        'Canceled',
        'Colours',
    ].concat(
        // Of the history.
        ['Jobs', 'Agents', 'Farm', 'Older'],
    );
    /** Those that are not known to change nothing, as people hear of them who do not see them. */
    const buttons = async () => {
        const told = await page.locator('body').ariaSnapshot();
        const names = [...told.matchAll(/- '?button(?: "([^"]*)")?/g)].map(([, text]) => text);
        assert.ok(names.includes('Sign out'), told);
        return names.filter((text) => !text || !allowed.some((one) => text.startsWith(one)));
    };
    assert.deepEqual(await buttons(), []);
    await page.locator('a[href="#/jobs/1"]').click();
    await page.getByRole('slider', { name: 'Frames' }).waitFor();
    assert.deepEqual(await buttons(), []);
    assert.equal(await page.getByRole('spinbutton').count(), 0);
    await stage.go('/agents');
    await page.getByRole('heading', { name: 'host' }).waitFor();
    assert.deepEqual(await buttons(), []);
    assert.equal(await page.getByText('Tags and hours').count(), 0);
    await stage.go('/farm');
    await page.getByRole('table', { name: 'Versions' }).waitFor();
    const storage = page.getByRole('region', { name: 'Storage' });
    await storage.getByText('180 days').waitFor();
    await storage.getByText('Small pictures').waitFor();
    assert.deepEqual(await buttons(), []);
    await stage.isAccessible('a viewer');

    // Single keys are for those who want them.
    const keys = page.getByRole('checkbox', { name: /^Single keys/ });
    const heading = page.getByRole('heading', { level: 1 });
    await keys.uncheck();
    await heading.focus();
    await page.keyboard.press('3');
    assert.equal(new URL(page.url()).hash, '#/farm');
    await keys.check();
    await heading.focus();
    await page.keyboard.press('3');
    await page.getByRole('heading', { name: 'Agents', exact: true }).waitFor();

    // Not only not shown.
    const refused = await page.evaluate(async () => {
        const answers = ['jobs/1/cancel', 'jobs', 'tokens', 'join-tokens', 'blobs'].map(
            async (path) => (await fetch(`/api/v1/${path}`, { method: 'POST' })).status,
        );
        return Promise.all(answers);
    });
    assert.deepEqual(refused, [403, 403, 403, 403, 403]);
    const read = await page.evaluate(async () => (await fetch('/api/v1/jobs')).status);
    assert.equal(read, 200);

    // Whoever acts on jobs does not on hosts, nor lets others in.
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('Token').fill(await stage.ask('token submitter'));
    await page.getByRole('button', { name: 'Sign in' }).click();
    await stage.go('/agents');
    await page.getByRole('heading', { name: 'host' }).waitFor();
    assert.deepEqual(await buttons(), []);
    assert.equal(await page.getByText('Tags and hours').count(), 0);
    await stage.go('/farm');
    await storage.getByText('180 days').waitFor();
    assert.deepEqual(await buttons(), []);
}

/**
 * What happened is on the farm's page, and what happens shows up there by itself.
 * @param {Stage} stage
 */
export async function remembering(stage) {
    const { page } = stage;
    await page.goto(stage.link);
    await stage.go('/farm');
    const history = page.getByRole('region', { name: 'History' });
    const lines = history.getByRole('listitem');
    await history.getByText('is online').waitFor();
    const job = await stage.ask('submit');
    const subject = `job ${job} (fake.blend)`;
    await lines.filter({ hasText: `${subject} was submitted by` }).waitFor();
    await lines.filter({ hasText: `${subject} is completed` }).waitFor();
    const time = lines.first().locator('time');
    assert.match((await time.getAttribute('title')) ?? '', /20\d\d at \d\d:\d\d:\d\d$/);
    await stage.isAccessible('the history');
    await stage.fitsAPhone('the history');
    await stage.picture('history');

    // Of agents alone, then of jobs, of which there are more than a page.
    await history.getByRole('button', { name: 'Agents' }).click();
    await stage.eventually(
        'agents only',
        async () => (await lines.filter({ hasText: subject }).count()) === 0,
    );
    await lines.filter({ hasText: 'agent host is online' }).waitFor();
    await stage.ask('pause and resume');
    assert.equal(await lines.filter({ hasText: subject }).count(), 0);
    await history.getByRole('button', { name: 'Jobs' }).click();
    await lines.filter({ hasText: 'was resumed by' }).first().waitFor();
    const older = history.getByRole('button', { name: 'Older' });
    const submitted = lines.filter({ hasText: `${subject} was submitted by` });
    assert.equal(await submitted.count(), 0);
    while ((await submitted.count()) === 0) {
        const before = await lines.count();
        await older.click();
        await stage.eventually('older ones', async () => (await lines.count()) > before);
    }
    const texts = await lines.allTextContents();
    assert.equal(texts.filter((text) => text.includes('was paused by')).length, 12);

    // While the coordinator was away nothing is missed.
    await stage.ask('restart');
    await history.getByRole('button', { name: 'All' }).click();
    await stage.eventually(
        'both starts',
        async () => (await lines.filter({ hasText: 'the coordinator started' }).count()) >= 1,
    );

    // A job has its own.
    await stage.go(`/jobs/${job}`);
    await history.getByText('was submitted by').waitFor();
    assert.deepEqual(
        (await lines.locator('.text').allTextContents()).map((text) => text.split(' by ')[0]),
        ['is completed', 'has begun', 'was submitted'],
    );
    await stage.isAccessible('the history of a job');
    await stage.fitsAPhone('the history of a job');
}

/**
 * The coordinator goes away and comes back; the page says so, and misses nothing.
 * @param {Stage} stage
 */
export async function losing(stage) {
    const { page } = stage;
    await page.clock.install();
    await page.goto(stage.link);
    const alert = page.getByRole('alert');
    const isLive = () =>
        stage.eventually('all is live', async () => (await alert.getByText('live').count()) === 0);

    // One stream is lost, and the coordinator says why.
    const detail = 'the coordinator has too many watchers: try again in a moment';
    await page.route('**/api/v1/jobs/1/events*', (route) =>
        route.fulfill({ status: 503, json: { detail } }),
    );
    await stage.go('/jobs/1');
    await page.getByRole('slider', { name: 'Frames' }).waitFor();
    await alert.getByText(`This job is not live: ${detail}.`).waitFor();
    await stage.isAccessible('a job that is not live');
    await page.unroute('**/api/v1/jobs/1/events*');
    await isLive();

    // An answer that never comes is waited for only so long, and not at all once the network is back.
    await page.route('**/api/v1/jobs/1/events*', () => {});
    await page.evaluate(() => window.dispatchEvent(new Event('online')));
    await page.clock.fastForward(30_000);
    await alert.getByText('This job is not live').waitFor();
    await page.unroute('**/api/v1/jobs/1/events*');
    await page.evaluate(() => window.dispatchEvent(new Event('online')));
    await isLive();

    await page.getByRole('status').getByText('Live', { exact: true }).waitFor();
    await stage.ask('stop');
    await alert.getByText('Not live').waitFor();
    await page.getByRole('status').getByText('Not live').waitFor();
    await stage.isAccessible('not live');
    await page.getByRole('button', { name: 'Resume' }).click();
    await page.getByText('is the network up?').waitFor();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByText('You are still signed in').waitFor();
    await stage.ask('start');
    await stage.ask('go on');
    await page.getByRole('status').getByText('Live', { exact: true }).waitFor();
    await isLive();
    await page.getByText('completed', { exact: true }).first().waitFor();
    await stage.eventually('every cell', async () =>
        /^12 completed$/.test(
            (await page.locator('.legend').innerText()).trim().replaceAll(/\s+/g, ' '),
        ),
    );
    await stage.ask('revoke');
    await page.getByRole('heading', { name: 'Sign in to the farm' }).waitFor();
}

/**
 * A picture was fetched and decoded, and is not all of one colour.
 * @param {Stage} stage
 * @param {import('playwright-core').Locator} image
 */
async function isPainted(stage, image) {
    await stage.eventually('a picture', () =>
        image.evaluate((element) => {
            const picture = /** @type {HTMLImageElement} */ (element);
            if (!picture.complete || picture.naturalWidth < 32) return false;
            const canvas = document.createElement('canvas');
            canvas.width = 16;
            canvas.height = 16;
            const context = canvas.getContext('2d');
            context?.drawImage(picture, 0, 0, 16, 16);
            const pixels = new Uint32Array(context?.getImageData(0, 0, 16, 16).data.buffer ?? []);
            return new Set(pixels).size > 4;
        }),
    );
}
