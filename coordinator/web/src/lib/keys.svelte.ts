/** Whether single keys do something: who speaks to their computer may press some by accident. */

const KEY = 'grange-keys';

class Keys {
    on = $state(localStorage.getItem(KEY) !== 'off');

    set(on: boolean) {
        this.on = on;
        if (on) localStorage.removeItem(KEY);
        else localStorage.setItem(KEY, 'off');
    }
}

export const keys = new Keys();
