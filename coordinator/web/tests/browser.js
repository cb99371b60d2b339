/** Chromium without a window, as tests and measurements start it. */
import { chromium } from 'playwright-core';

const FLAGS = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
];

export function start() {
    const executablePath = process.env['GRANGE_CHROMIUM'] ?? '/usr/bin/chromium';
    return chromium.launch({ executablePath, args: FLAGS });
}

/** Trusts the farm's own authority as whoever has looked at it does; of the size of a laptop. */
export const CONTEXT = {
    ignoreHTTPSErrors: true,
    viewport: { width: 1360, height: 900 },
    permissions: ['clipboard-read', 'clipboard-write'],
};
