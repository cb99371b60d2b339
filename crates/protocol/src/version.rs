//! Blender's versions, as far as a farm cares: which runtime can open which file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Major and minor, such as 4.2. A file remembers this much, and compatibility goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BlenderVersion {
    pub major: u16,
    pub minor: u16,
}

impl BlenderVersion {
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// From the number in a .blend header and in `bpy.app.version`: 304 is 3.4, 500 is 5.0.
    pub const fn from_file_number(number: u16) -> Self {
        Self::new(number / 100, number % 100)
    }

    /// Whether a runtime of this version can open a file that `saved` wrote. A newer file can
    /// crash an older Blender, so newer is never tried.
    pub fn can_open(self, saved: Self) -> bool {
        self >= saved
    }

    /// Of the runtimes that can open the file, the one that changes it least: the oldest.
    pub fn best_for(saved: Self, runtimes: impl IntoIterator<Item = Self>) -> Option<Self> {
        runtimes.into_iter().filter(|runtime| runtime.can_open(saved)).min()
    }
}

impl fmt::Display for BlenderVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for BlenderVersion {
    type Err = BadVersion;

    /// Accepts `4.2` and `4.2.23`; what follows the minor is ignored.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.trim().split('.');
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        match (number(), number()) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(BadVersion(text.into())),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a Blender version such as 4.2")]
pub struct BadVersion(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_runtime_that_can_open_the_file_is_taken() {
        let saved = BlenderVersion::new(4, 1);
        let have = ["3.4.1", "4.5.15", "4.2", "5.0.1"].map(|v| v.parse().unwrap());
        assert_eq!(BlenderVersion::best_for(saved, have), Some(BlenderVersion::new(4, 2)));
        assert_eq!(BlenderVersion::best_for(BlenderVersion::new(5, 1), have), None);
        assert_eq!(BlenderVersion::from_file_number(304), BlenderVersion::new(3, 4));
    }
}
