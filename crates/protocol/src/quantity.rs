//! Quantities with their units in the type or in the name.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A moment, in milliseconds since the Unix epoch.
///
/// Within one life of a process it advances with the monotonic clock (the shell adds elapsed
/// time to the wall clock read once at start), so differences are true even when clocks jump.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Millis(pub u64);

impl Millis {
    /// Time from `earlier` to `self` in milliseconds, 0 if `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Millis {
    type Output = Self;

    fn add(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// How urgent a job is: 0 to 100, higher first, 50 unless told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(maximum = 100))]
pub struct Priority(u8);

impl Priority {
    pub const DEFAULT: Self = Self(50);
    pub const MAX: u8 = 100;

    pub fn new(value: u8) -> Result<Self, BadPriority> {
        if value <= Self::MAX { Ok(Self(value)) } else { Err(BadPriority(value.to_string())) }
    }

    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Priority {
    type Err = BadPriority;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim()
            .parse::<u8>()
            .ok()
            .and_then(|value| Self::new(value).ok())
            .ok_or_else(|| BadPriority(text.into()))
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u8::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a priority: give a whole number from 0 (last) to 100 (first)")]
pub struct BadPriority(String);
