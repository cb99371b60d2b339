//! What must outlive the coordinator: `webhooks.json` in the state directory.
//!
//! It holds the events that somebody still waits for, and up to where in the history of the farm events
//! were noted. A coordinator that was killed finds in its journal what happened after that, so the
//! file may lag behind and nobody has to wait for the disk.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::event::Event;

const FILE: &str = "webhooks.json";
const VERSION: u32 = 2;
/// Earlier ones counted facts, and knew themselves who was there.
const VERSION_OLDEST: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) version: u32,
    /// The cursor of the latest event that is noted; `None` in an earlier version.
    pub(super) heard: Option<u64>,
    pub(super) events: Vec<Arc<Event>>,
    /// By a receiver's address: the ids of its events in their order, and failed attempts.
    pub(super) waiting: BTreeMap<String, Vec<(String, usize)>>,
}

/// Where it is.
#[derive(Clone, Debug)]
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn in_dir(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE))
    }

    /// `None` if there is nothing yet, or nothing that can be read.
    pub(super) fn read(&self) -> anyhow::Result<Option<Kept>> {
        let path = self.0.display();
        let bytes = match fs::read(&self.0) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("{path} cannot be read")),
        };
        match serde_json::from_slice::<Kept>(&bytes) {
            Ok(kept) if (VERSION_OLDEST..=VERSION).contains(&kept.version) => Ok(Some(kept)),
            _ => {
                // Messages are no reason for a farm to stand still.
                let aside = self.0.with_extension("json.unread");
                tracing::error!(
                    "{path} is not what this coordinator writes: it is moved to {}, and events that \
                     waited are lost",
                    aside.display()
                );
                fs::rename(&self.0, &aside).with_context(|| format!("{path} cannot be moved"))?;
                Ok(None)
            }
        }
    }

    /// All of it or nothing, durably.
    pub(super) fn write(&self, kept: Kept) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec(&Kept { version: VERSION, ..kept })?;
        let new = self.0.with_extension("json.new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, &self.0)?;
        if let Some(dir) = self.0.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }

    /// Nobody waits for anything.
    pub(super) fn forget(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let path = self.0.display();
                Err(error).with_context(|| format!("{path} cannot be removed"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_damaged_goes_aside() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::in_dir(dir.path());
        assert_eq!(place.read().unwrap(), None);
        let kept = Kept {
            version: VERSION,
            heard: Some(7),
            waiting: [("http://host/".into(), vec![("msg_1".into(), 2)])].into(),
            ..Kept::default()
        };
        place.write(kept.clone()).unwrap();
        assert_eq!(place.read().unwrap(), Some(kept));
        let earlier = r#"{"version":1,"seen":9,"started":[3],"online":[],"storage_full":false,
            "events":[],"waiting":{"http://host/":[["msg_1",2]]}}"#;
        fs::write(dir.path().join(FILE), earlier).unwrap();
        let read = place.read().unwrap().unwrap();
        assert_eq!((read.heard, read.waiting["http://host/"].len()), (None, 1));
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(place.read().unwrap(), None);
        assert_eq!(fs::read(dir.path().join("webhooks.json.unread")).unwrap(), b"{");
        place.write(Kept::default()).unwrap();
        place.forget().unwrap();
        place.forget().unwrap();
        assert_eq!(place.read().unwrap(), None);
    }
}
