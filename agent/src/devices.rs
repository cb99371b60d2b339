//! What renders on this host.

use std::num::NonZeroU16;
use std::str::FromStr;

use grange_protocol::agent::{DeviceInfo, DeviceKind};
use grange_protocol::shot::Label;
use serde::{Deserialize, Serialize};

use crate::host::{Host, cores};

/// One Blender with all cores is as fast as several with a share each until there are so many
/// cores that Blender cannot keep them busy.
const CORES_PER_INSTANCE: usize = 16;

/// How many Blenders a device runs at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub enum Instances {
    #[default]
    Auto,
    Fixed(NonZeroU16),
}

/// As a file may have it: `"auto"` or `3`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u16),
    Text(String),
}

impl TryFrom<Written> for Instances {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => number.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl FromStr for Instances {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            number => number.parse().map(Self::Fixed).map_err(|_| {
                format!("`{text}` is neither `auto` nor a number of instances from 1")
            }),
        }
    }
}

impl From<Instances> for String {
    fn from(instances: Instances) -> Self {
        match instances {
            Instances::Auto => "auto".into(),
            Instances::Fixed(number) => number.to_string(),
        }
    }
}

/// The devices of this host.
pub(crate) fn find(host: &Host, instances: Instances) -> Vec<DeviceInfo> {
    vec![cpu(host, instances)]
}

/// Threads for one instance on the device, so that all of them together use the host once.
pub(crate) fn threads_per_instance(device: &DeviceInfo) -> u16 {
    (cores() / usize::from(device.slots.max(1))).clamp(1, 1024) as u16
}

fn cpu(host: &Host, instances: Instances) -> DeviceInfo {
    let slots = match instances {
        Instances::Fixed(number) => number.get(),
        Instances::Auto => cores().div_ceil(CORES_PER_INSTANCE) as u16,
    };
    DeviceInfo {
        id: "cpu".parse().unwrap_or_default(),
        name: host.cpu_name().parse().unwrap_or_default(),
        kind: DeviceKind::Cpu,
        memory_mib: host.memory_total_mib(),
        slots,
        driver: Label::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_auto_or_a_number_in_flags_and_files() {
        #[derive(Deserialize)]
        struct File {
            instances: Instances,
        }
        let file = |text: &str| toml::from_str(text).map(|file: File| file.instances);
        assert_eq!("auto".parse(), Ok(Instances::Auto));
        assert_eq!("3".parse(), Ok(Instances::Fixed(NonZeroU16::new(3).unwrap())));
        assert!("0".parse::<Instances>().is_err());
        assert!("many".parse::<Instances>().is_err());
        assert_eq!(file("instances = 3").unwrap(), "3".parse().unwrap());
        assert_eq!(file("instances = 'auto'").unwrap(), Instances::Auto);
        assert!(file("instances = 0").is_err());
    }

    #[test]
    fn this_host_has_a_cpu() {
        let devices = find(&Host::open().unwrap(), "2".parse().unwrap());
        assert_eq!((devices.len(), devices[0].slots), (1, 2));
        assert!(devices[0].memory_mib > 100);
        assert!(threads_per_instance(&devices[0]) >= 1);
    }
}
