//! Names of images: which manifest a name means on this node.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use mesh_ports::runtime::ImageError;
use tempfile::NamedTempFile;

use super::blobs::sync_dir;
use super::digest::Digest;
use super::fault::{host, invalid};

/// The longest name: a registry's host, a path and a tag as the distribution specification bounds them.
const NAME_LEN_MAX: usize = 512;

/// The most names of one archive; one image rarely has more than five.
const NAMES_MAX: usize = 1024;

/// The names of a store, in one file.
#[derive(Debug)]
pub(super) struct Names {
    dir: PathBuf,
    tmp: PathBuf,
    /// Held while the file is read, changed and replaced.
    changing: Mutex<()>,
}

impl Names {
    /// The names kept in `dir`, with temporary files in `tmp`.
    pub(super) fn new(dir: PathBuf, tmp: PathBuf) -> Self {
        Self { dir, tmp, changing: Mutex::new(()) }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("names.json")
    }

    /// All names with what they mean.
    pub(super) fn all(&self) -> Result<BTreeMap<String, Digest>, ImageError> {
        let attempt = || format!("read {}", self.path().display());
        let bytes = match fs::read(self.path()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(host(attempt(), error)),
        };
        serde_json::from_slice(&bytes).map_err(|error| host(attempt(), error))
    }

    /// Makes every one of `names` mean its digest; a name that meant another image means this one from now on.
    pub(super) fn add(&self, names: Vec<(String, Digest)>) -> Result<(), ImageError> {
        if names.is_empty() {
            return Ok(());
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.all()?;
        all.extend(names);
        let attempt = || format!("write {}", self.path().display());
        let bytes = serde_json::to_vec_pretty(&all).map_err(|error| host(attempt(), error))?;
        let mut file = NamedTempFile::new_in(&self.tmp).map_err(|error| host(attempt(), error))?;
        file.write_all(&bytes).map_err(|error| host(attempt(), error))?;
        file.as_file().sync_all().map_err(|error| host(attempt(), error))?;
        file.persist(self.path()).map_err(|error| host(attempt(), error.error))?;
        sync_dir(&self.dir)
    }
}

/// Checks names that came in an archive and makes them [`familiar`].
pub(super) fn checked(names: Vec<String>) -> Result<Vec<String>, ImageError> {
    if names.len() > NAMES_MAX {
        return Err(invalid(format!(
            "the archive has {} names, and {NAMES_MAX} are allowed",
            names.len()
        )));
    }
    let mut all = Vec::new();
    for name in names {
        if name.is_empty()
            || name.len() > NAME_LEN_MAX
            || !name.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(invalid(format!("{name:?} is not a name of an image")));
        }
        all.push(familiar(&name));
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// The form in which people write the name: `docker.io/library/redis` and `redis` are both `redis:latest`. Names are kept and
/// must be looked up in this form.
#[must_use]
pub fn familiar(name: &str) -> String {
    let rest = ["docker.io/", "index.docker.io/"]
        .iter()
        .find_map(|hub| name.strip_prefix(hub))
        .unwrap_or(name);
    let rest = rest.strip_prefix("library/").unwrap_or(rest);
    let last = rest.rsplit('/').next().unwrap_or(rest);
    if last.contains(':') || last.contains('@') {
        rest.to_owned()
    } else {
        format!("{rest}:latest")
    }
}

#[cfg(test)]
mod tests {
    //! The same image is found by all its spellings.

    use super::familiar;

    #[test]
    fn all_spellings_of_a_name_are_one() {
        for (given, meant) in [
            ("redis", "redis:latest"),
            ("docker.io/library/redis:7", "redis:7"),
            ("library/redis:7", "redis:7"),
            ("docker.io/acme/web", "acme/web:latest"),
            ("localhost:5000/web", "localhost:5000/web:latest"),
            ("ghcr.io/acme/web:1", "ghcr.io/acme/web:1"),
            ("web@sha256:00", "web@sha256:00"),
        ] {
            assert_eq!(familiar(given), meant);
            assert_eq!(familiar(meant), meant);
        }
    }
}
