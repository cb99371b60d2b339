//! Whether the kernel has killed somebody for want of memory: it counts, and does not say whom.

use std::fs;
use std::path::Path;

/// The kernel's counts of processes that it killed to get memory, since the system started and
/// since the control group was made. `None` where it cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OomKills {
    pub(crate) system: Option<u64>,
    /// Of the control group that this program is in, and those below it.
    pub(crate) group: Option<u64>,
}

impl OomKills {
    pub(crate) fn now() -> Self {
        Self::read(|path| fs::read_to_string(path).ok())
    }

    /// With files given by whoever asks.
    fn read(file: impl Fn(&Path) -> Option<String>) -> Self {
        let system = file(Path::new("/proc/vmstat")).and_then(|text| field(&text, "oom_kill"));
        let group = file(Path::new("/proc/self/cgroup")).and_then(|groups| {
            // Version 2 has one hierarchy, number 0 without a name.
            let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
            let events = Path::new("/sys/fs/cgroup").join(own).join("memory.events");
            field(&file(&events)?, "oom_kill")
        });
        Self { system, group }
    }

    /// Whether any were killed since `before`; `None` if nothing says so.
    pub(crate) fn since(self, before: Self) -> Option<bool> {
        let rose = |now: Option<u64>, before: Option<u64>| Some(now? > before?);
        let system = rose(self.system, before.system);
        let group = rose(self.group, before.group);
        match (system, group) {
            (None, None) => None,
            _ => Some(system == Some(true) || group == Some(true)),
        }
    }
}

/// The number behind a name, a pair in each line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, number) = line.split_once(' ')?;
        (found == name).then(|| number.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_where_the_kernel_has_them() {
        let vmstat = "pgfault 7\noom_kill 3\noom_kill_x 9\n";
        let read = |files: &[(&str, &str)]| {
            OomKills::read(|path| {
                let found = files.iter().find(|(name, _)| Path::new(name) == path);
                found.map(|(_, text)| (*text).into())
            })
        };
        let both = read(&[
            ("/proc/vmstat", vmstat),
            ("/proc/self/cgroup", "4:memory:/x\n0::/system.slice/agent.service\n"),
            (
                "/sys/fs/cgroup/system.slice/agent.service/memory.events",
                "low 0\noom 2\noom_kill 1\noom_group_kill 0\n",
            ),
        ]);
        assert_eq!(both, OomKills { system: Some(3), group: Some(1) });
        let first_version =
            read(&[("/proc/vmstat", vmstat), ("/proc/self/cgroup", "4:memory:/\n")]);
        assert_eq!(first_version, OomKills { system: Some(3), group: None });
        assert_eq!(read(&[]), OomKills::default());
        #[cfg(target_os = "linux")]
        assert!(OomKills::now().system.is_some());
    }

    #[test]
    fn one_count_that_rises_is_enough_and_none_at_all_says_nothing() {
        let kills = |system, group| OomKills { system, group };
        let before = kills(Some(3), Some(0));
        assert_eq!(before.since(before), Some(false));
        assert_eq!(kills(Some(4), Some(0)).since(before), Some(true));
        assert_eq!(kills(None, Some(1)).since(before), Some(true));
        assert_eq!(kills(Some(3), None).since(before), Some(false));
        assert_eq!(kills(None, None).since(before), None);
        assert_eq!(before.since(OomKills::default()), None);
    }
}
