//! Settings in layers: flags over environment over file over defaults.
//!
//! One struct serves flags, environment and file: its fields are options, clap fills it from flags
//! and environment, serde from the file, and [`layered`] puts the one over the other.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Table;

/// `flags` over the file. A file that is named must be there; `default_file` need not.
pub fn layered<S>(flags: &S, file: Option<&Path>, default_file: &Path) -> Result<S, SettingsError>
where
    S: Serialize + DeserializeOwned,
{
    let path = file.unwrap_or(default_file);
    let mut table = match std::fs::read_to_string(path) {
        Ok(text) => {
            // Read as S first: only then does an error name the line and the unknown key.
            toml::from_str::<S>(&text).map_err(|error| SettingsError::Bad(path.into(), error))?;
            text.parse().map_err(|error| SettingsError::Bad(path.into(), error))?
        }
        Err(_) if file.is_none() => Table::new(),
        Err(error) => return Err(SettingsError::Unreadable(path.into(), error)),
    };
    let flags = Table::try_from(flags).map_err(|error| SettingsError::Flags(error.to_string()))?;
    overlay(&mut table, flags);
    table.try_into().map_err(|error| SettingsError::Flags(error.to_string()))
}

fn overlay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => overlay(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// Where a daemon keeps its state unless told: where systemd says, below `/var/lib` for root, else
/// in the user's own state directory.
pub fn state_dir(name: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os("STATE_DIRECTORY").filter(|dir| !dir.is_empty()) {
        return dir.into();
    }
    match std::env::var_os("HOME").map(PathBuf::from) {
        Some(home) if home != Path::new("/root") => {
            let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
            base.unwrap_or_else(|| home.join(".local/state")).join(name)
        }
        _ => Path::new("/var/lib").join(name),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("the configuration file {0} cannot be read: {1}")]
    Unreadable(PathBuf, std::io::Error),
    #[error("the configuration file {0} is wrong: {1}")]
    Bad(PathBuf, toml::de::Error),
    #[error("a setting is wrong: {0}")]
    Flags(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: Option<String>,
        count: Option<u32>,
        list: Option<Vec<String>>,
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sample.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn flags_go_over_the_file() {
        let (_dir, path) = file("name = 'file'\ncount = 3\nlist = ['a']");
        let flags = Sample { count: Some(5), ..Sample::default() };
        let merged = layered(&flags, Some(&path), Path::new("/none")).unwrap();
        let expected =
            Sample { name: Some("file".into()), count: Some(5), list: Some(vec!["a".into()]) };
        assert_eq!(merged, expected);
    }

    #[test]
    fn a_default_file_may_be_absent_and_a_named_one_may_not() {
        let flags = Sample::default();
        assert_eq!(layered(&flags, None, Path::new("/none/x.toml")).unwrap(), flags);
        let error = layered(&flags, Some(Path::new("/none/x.toml")), Path::new("/")).unwrap_err();
        assert!(error.to_string().contains("/none/x.toml"), "{error}");
    }

    #[test]
    fn a_mistyped_key_is_named_with_its_line() {
        let (_dir, path) = file("name = 'x'\ncuont = 3");
        let error =
            layered(&Sample::default(), Some(&path), Path::new("/")).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("cuont"), "{error}");
    }
}
