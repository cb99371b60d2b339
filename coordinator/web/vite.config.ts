import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

const dist = fileURLToPath(new URL('dist/', import.meta.url));

export default defineConfig({
    plugins: [
        svelte(),
        {
            // Not the whole folder: it is there before anything was built, so that cargo can look.
            name: 'remove-what-was-built-before',
            apply: 'build',
            buildStart() {
                rmSync(`${dist}assets`, { recursive: true, force: true });
                rmSync(`${dist}index.html`, { force: true });
            },
        },
    ],
    build: {
        outDir: dist,
        emptyOutDir: false,
        // Nothing inline: the page's policy allows files of its own only.
        assetsInlineLimit: 0,
        modulePreload: { polyfill: false },
        target: 'es2022',
    },
});
