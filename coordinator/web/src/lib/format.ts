/** Numbers as people read them. */

export function duration(seconds: number | null): string {
    if (seconds === null) return '–';
    const s = Math.round(seconds);
    if (s < 60) return `${s} s`;
    if (s < 3_600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, '0')} s`;
    if (s < 86_400) {
        return `${Math.floor(s / 3_600)} h ${String(Math.floor((s % 3_600) / 60)).padStart(2, '0')} min`;
    }
    return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3_600)} h`;
}

export function rate(perMinute: number): string {
    if (perMinute === 0) return '–';
    return perMinute >= 100 ? perMinute.toFixed(0) : perMinute.toFixed(perMinute >= 10 ? 1 : 2);
}

export function mib(value: number): string {
    return value >= 1_024 ? `${(value / 1_024).toFixed(1)} GiB` : `${Math.round(value)} MiB`;
}

export function bytes(value: number): string {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    let at = 0;
    let left = value;
    while (left >= 1_024 && at < units.length - 1) {
        left /= 1_024;
        at += 1;
    }
    return `${at === 0 ? left : left.toFixed(1)} ${units[at]}`;
}

export function percent(fraction: number): string {
    return `${(fraction * 100).toFixed(fraction >= 0.9995 || fraction === 0 ? 0 : 1)} %`;
}

export function count(value: number): string {
    return value.toLocaleString('en').replaceAll(',', ' ');
}

export function clock(millis: number): string {
    const date = new Date(millis);
    const time = date.toLocaleTimeString('en-GB');
    const today = new Date().toDateString() === date.toDateString();
    return today ? time : `${date.toLocaleDateString('en-CA')} ${time.slice(0, 5)}`;
}

export function ago(millis: number, now: number): string {
    const seconds = Math.max(0, (now - millis) / 1_000);
    if (seconds < 5) return 'now';
    return `${duration(seconds).split(' ').slice(0, 2).join(' ')} ago`;
}
