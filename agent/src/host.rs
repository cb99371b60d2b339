//! This host: its cores, its memory, and how busy it is.

use grange_protocol::agent::HostLoad;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// Looks at the whole host.
pub(crate) struct Host {
    system: System,
}

impl Host {
    pub(crate) fn open() -> anyhow::Result<Self> {
        let what = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(what).map_err(|error| {
            anyhow::anyhow!("this host's memory and load cannot be read: {error}")
        })?;
        Ok(Self { system })
    }

    pub(crate) fn cpu_name(&self) -> &str {
        self.system.cpus().first().map_or("CPU", |cpu| cpu.brand().trim())
    }

    fn memory_total_mib(&self) -> u64 {
        self.system.total_memory() >> 20
    }

    /// RAM in MiB: all of it, and what is available for new use now.
    pub(crate) fn memory_mib(&mut self) -> (u64, u64) {
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        (self.memory_total_mib(), self.system.available_memory() >> 20)
    }

    /// Load and memory now. CPU load is over the time since the call before.
    pub(crate) fn load(&mut self, instances: usize) -> HostLoad {
        self.system.refresh_cpu_usage();
        let (memory_total_mib, memory_available_mib) = self.memory_mib();
        HostLoad {
            cores: cores() as u16,
            cpu_percent: self.system.global_cpu_usage(),
            memory_total_mib,
            memory_available_mib,
            instances: instances as u16,
        }
    }
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Numbers of the cores that this process may use, in ascending order.
pub(crate) fn own_cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return (0..cores()).collect() };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}
