import svelte from 'eslint-plugin-svelte';
import globals from 'globals';
import ts from 'typescript-eslint';
import config from './svelte.config.js';

export default ts.config(
    { ignores: ['dist', 'node_modules'] },
    ...ts.configs.strict,
    ...svelte.configs.recommended,
    { languageOptions: { globals: { ...globals.browser, ...globals.node } } },
    {
        files: ['**/*.svelte', '**/*.svelte.ts'],
        languageOptions: {
            parserOptions: {
                parser: ts.parser,
                extraFileExtensions: ['.svelte'],
                svelteConfig: config,
            },
        },
    },
    {
        rules: {
            eqeqeq: 'error',
            'no-console': 'error',
            // The page has one address; what it shows stands after the `#`.
            'svelte/no-navigation-without-resolve': 'off',
            // Maps here are values that are replaced whole.
            'svelte/prefer-svelte-reactivity': 'off',
        },
    },
);
