//! How many Blenders a device runs at once to begin with, and with how many threads.

use std::num::NonZeroU16;
use std::str::FromStr;

use grange_protocol::agent::DeviceKind;
use serde::{Deserialize, Serialize};

use crate::host::cores;

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

/// Blenders that a device runs at once until it is known how many are best.
pub(crate) fn slots(kind: DeviceKind, instances: Instances) -> u16 {
    match (instances, kind) {
        (Instances::Fixed(number), _) => number.get(),
        (Instances::Auto, DeviceKind::Cpu) => cores().div_ceil(CORES_PER_INSTANCE) as u16,
        (Instances::Auto, _) => 1,
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
    fn a_gpu_begins_with_one_instance_unless_somebody_says_otherwise() {
        assert_eq!(slots(DeviceKind::Cuda, Instances::Auto), 1);
        assert_eq!(slots(DeviceKind::Cuda, "3".parse().unwrap()), 3);
        assert_eq!(slots(DeviceKind::Cpu, "2".parse().unwrap()), 2);
        assert!(slots(DeviceKind::Cpu, Instances::Auto) >= 1);
    }
}
