//! What a task renders.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::frames::FrameSet;
use crate::limits::LABEL_MAX;
use crate::name::{BadName, OutputName};

/// Pixels of a picture's side.
const SIDE_MAX: u32 = 65_536;

/// One picture, or one sequence of pictures, of a scene. What is `None` stays as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Shot {
    /// What people call it; empty for the plain animation of a file.
    #[serde(default)]
    pub name: Label,
    pub scene: Option<Label>,
    /// Render this view layer alone.
    pub view_layer: Option<Label>,
    pub camera: Option<Label>,
    pub frames: FrameSet,
    pub resolution: Option<Resolution>,
    /// Samples per pixel.
    pub samples: Option<u32>,
    pub output: OutputPattern,
    /// The folder for files that the scene writes besides the picture (File Output nodes). Shots
    /// of one job each have their own, because such files carry no shot's name.
    pub extras: Option<OutputName>,
}

/// Width and height in pixels, both at least 1; the scene's percentage is not applied to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(try_from = "Size")]
pub struct Resolution {
    pub width: u32,
    pub height: u32,
}

/// A [`Resolution`] that nobody has checked.
#[derive(Deserialize)]
struct Size {
    width: u32,
    height: u32,
}

/// The name of a thing in a .blend file or of a job: not empty unless documented, short, and
/// without control characters.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Label(String);

/// An output's name without its extension. A run of `#` stands for the frame number, padded with
/// zeros to the run's length; a pattern without one names a single picture.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OutputPattern(String);

impl Label {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl OutputPattern {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether frames are told apart by their number.
    pub fn is_numbered(&self) -> bool {
        self.0.contains('#')
    }

    /// The pattern with a frame number, as Blender adds one to an animation's names: `####` at
    /// the end unless the name has a run of `#` already.
    #[must_use]
    pub fn numbered(&self) -> Self {
        if self.is_numbered() { self.clone() } else { Self(format!("{}####", self.0)) }
    }

    /// The name for a frame, without extension. As in Blender the last run of `#` of the file
    /// name counts, and the sign of a negative frame comes before the zeros.
    pub fn expand(&self, frame: i32) -> String {
        let Some(end) = self.0.rfind('#').map(|at| at + 1) else {
            return self.0.clone();
        };
        let start = self.0[..end].trim_end_matches('#').len();
        let digits = end - start;
        let number = if frame < 0 {
            format!("-{:0digits$}", frame.unsigned_abs())
        } else {
            format!("{frame:0digits$}")
        };
        format!("{}{number}{}", &self.0[..start], &self.0[end..])
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for Resolution {
    type Err = BadShot;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('x')
            .and_then(|(width, height)| {
                Some((width.trim().parse().ok()?, height.trim().parse().ok()?))
            })
            .and_then(|(width, height)| Self::try_from(Size { width, height }).ok())
            .ok_or_else(|| BadShot::Resolution(text.into()))
    }
}

impl TryFrom<Size> for Resolution {
    type Error = BadShot;

    fn try_from(Size { width, height }: Size) -> Result<Self, BadShot> {
        let good = 1..=SIDE_MAX;
        if good.contains(&width) && good.contains(&height) {
            Ok(Self { width, height })
        } else {
            Err(BadShot::Resolution(format!("{width}x{height}")))
        }
    }
}

impl FromStr for Label {
    type Err = BadShot;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > LABEL_MAX || text.chars().any(char::is_control) {
            return Err(BadShot::Label(text.chars().take(80).collect()));
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for OutputPattern {
    type Err = BadShot;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name: OutputName = text.parse()?;
        Ok(Self(name.as_str().into()))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for OutputPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OutputPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for OutputPattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadShot {
    #[error("`{0}` is not a resolution: write it as 1920x1080")]
    Resolution(String),
    #[error("`{0}` is too long for a name, or has control characters in it")]
    Label(String),
    #[error(transparent)]
    Output(#[from] BadName),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_expand_as_blender_does() {
        let expand = |pattern: &str, frame| pattern.parse::<OutputPattern>().unwrap().expand(frame);
        assert_eq!(expand("####", 7), "0007");
        assert_eq!(expand("shot_##_v2", 123), "shot_123_v2");
        assert_eq!(expand("a#/b##", 5), "a#/b05");
        assert_eq!(expand("####", -7), "-0007");
        assert_eq!(expand("front", 7), "front");
        let plain: OutputPattern = "img_".parse().unwrap();
        assert_eq!(plain.numbered().expand(7), "img_0007");
    }
}
