//! Bars: how far something is, and who has a device's memory.

use grange_protocol::footprint::DeviceState;
use ratatui::style::Style;
use ratatui::text::Span;

use super::look::Look;

const FILLED: &str = "━";
const HALF: &str = "╸";
const EMPTY: &str = "─";

/// Rounded down to half a cell, so that a full bar means all.
pub(super) fn progress(fraction: f32, room: usize, style: Style, look: Look) -> [Span<'static>; 2] {
    let halves = (f64::from(fraction.clamp(0.0, 1.0)) * room as f64 * 2.0).floor() as usize;
    let (whole, half) = (halves / 2, halves % 2);
    let filled = FILLED.repeat(whole) + &HALF.repeat(half);
    let rest = EMPTY.repeat(room - whole - half);
    [Span::styled(filled, style), Span::styled(rest, look.soft())]
}

/// Whose memory a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Others,
    Instance,
    /// The last cell of an instance beside another.
    InstanceEnd,
    /// Set aside for instances, which have not taken it.
    Aside,
    Nobody,
}

/// Of a device's memory, from the left: others, each instance, what is set aside, what is free.
pub(super) fn memory(state: &DeviceState, room: usize, look: Look) -> Vec<Span<'static>> {
    let cells = cells(state, room);
    let mut spans = Vec::new();
    for run in cells.chunk_by(|a, b| a == b) {
        let (sign, style) = match run[0] {
            Whose::Others => ("▒", look.others()),
            Whose::Instance => ("█", look.good()),
            Whose::InstanceEnd => ("▌", look.good()),
            Whose::Aside => ("░", look.good()),
            Whose::Nobody => ("·", look.soft()),
        };
        spans.push(Span::styled(sign.repeat(run.len()), style));
    }
    spans
}

fn cells(state: &DeviceState, room: usize) -> Vec<Whose> {
    let total = state.total_mib.max(1) as f64;
    let ours = state.used_mib.saturating_sub(state.others_mib);
    let told = state.processes.iter().filter(|process| process.ours);
    let mut instances: Vec<u64> =
        told.filter_map(|process| process.mib.map(u64::from)).filter(|mib| *mib > 0).collect();
    if instances.is_empty() && ours > 0 {
        instances.push(ours);
    }
    let taken: u64 = instances.iter().sum();
    let mut cells = Vec::with_capacity(room);
    let mut until_mib = 0;
    // Ends are rounded and not lengths, so that errors do not add up.
    let mut fill = |cells: &mut Vec<Whose>, mib: u64, whose: Whose| {
        until_mib += mib;
        let end = (until_mib as f64 / total * room as f64).round() as usize;
        let end = end.min(room);
        if end > cells.len() {
            cells.resize(end, whose);
        }
    };
    fill(&mut cells, state.others_mib, Whose::Others);
    let last = instances.len().saturating_sub(1);
    for (at, mib) in instances.into_iter().enumerate() {
        let before = cells.len();
        fill(&mut cells, mib, Whose::Instance);
        if at < last && cells.len() > before {
            cells.pop();
            cells.push(Whose::InstanceEnd);
        }
    }
    fill(&mut cells, state.reserved_mib.saturating_sub(taken), Whose::Aside);
    cells.resize(room, Whose::Nobody);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use grange_protocol::footprint::ProcessUse;

    fn drawn(spans: &[Span<'_>]) -> String {
        spans.iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn a_full_bar_means_all() {
        let look = Look::new(false);
        let bar = |fraction| drawn(&progress(fraction, 10, look.plain(), look));
        assert_eq!(bar(0.0), "──────────");
        assert_eq!(bar(0.05), "╸─────────");
        assert_eq!(bar(0.5), "━━━━━─────");
        assert_eq!(bar(0.999), "━━━━━━━━━╸");
        assert_eq!(bar(1.0), "━━━━━━━━━━");
        assert_eq!(bar(7.0), "━━━━━━━━━━");
        assert_eq!(bar(f32::NAN), "──────────");
    }

    #[test]
    fn memory_is_others_then_each_instance_then_set_aside() {
        let process = |mib, ours| ProcessUse { pid: 1, mib, ours };
        let mut state = DeviceState {
            total_mib: 2_000,
            used_mib: 1_100,
            others_mib: 200,
            reserved_mib: 1_200,
            processes: vec![
                process(Some(500), true),
                process(Some(400), true),
                process(Some(200), false),
            ],
            ..DeviceState::default()
        };
        let bar = |state: &DeviceState| drawn(&memory(state, 20, Look::new(false)));
        assert_eq!(bar(&state), "▒▒████▌████░░░······");
        // Where the driver does not say which process has how much.
        state.processes.clear();
        assert_eq!(bar(&state), "▒▒█████████░░░······");
        // More than there is, and nothing at all.
        (state.others_mib, state.used_mib) = (900, 9_000);
        assert_eq!(bar(&state), "▒▒▒▒▒▒▒▒▒███████████");
        assert_eq!(bar(&DeviceState::default()), "····················");
        assert_eq!(memory(&state, 0, Look::new(false)), Vec::new());
    }
}
