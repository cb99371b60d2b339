//! Names that come from outside and end as paths.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::PATH_MAX;

const COMPONENT_MAX: usize = 255;

/// The name of an output inside its job: a relative path with `/` between its parts.
///
/// Never absolute, never with `.` or `..`, never with control characters, backslashes or colons
/// (which mean something on other systems). Whoever turns it into a path still does so through a
/// directory handle.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OutputName(String);

impl OutputName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last `/`.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The name inside a folder.
    pub fn within(&self, folder: &Self) -> Result<Self, BadName> {
        format!("{}/{}", folder.0, self.0).parse()
    }
}

impl FromStr for OutputName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |why| Err(BadName { name: text.chars().take(200).collect(), why });
        if text.len() > PATH_MAX {
            return bad("it is too long");
        }
        if text.starts_with('/') {
            return bad("it leaves the job's folder");
        }
        if text.chars().any(|c| c.is_control() || matches!(c, '\\' | ':')) {
            return bad("it has a character that is not allowed in names");
        }
        for part in text.split('/') {
            match part {
                "" => return bad("a part of it is empty"),
                "." | ".." => return bad("it leaves the job's folder"),
                part if part.len() > COMPONENT_MAX => return bad("a part of it is too long"),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for OutputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OutputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<'de> Deserialize<'de> for OutputName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` cannot name an output: {why}")]
pub struct BadName {
    name: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for good in ["0001.png", "depth/0001.exr", "..a/b..", "Kamera Süd_L.png"] {
            assert_eq!(good.parse::<OutputName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "a/",
            "./a",
            "C:\\x",
            "a\\b",
            "a\0b",
            "a\nb",
            "C:x",
        ] {
            assert!(bad.parse::<OutputName>().is_err(), "{bad:?} passed");
        }
        assert!("x".repeat(256).parse::<OutputName>().is_err());
    }

    proptest! {
        #[test]
        fn no_name_ever_climbs(text in "[a./\\\\:]{0,12}") {
            if let Ok(name) = text.parse::<OutputName>() {
                let path = std::path::Path::new(name.as_str());
                prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            }
        }
    }
}
