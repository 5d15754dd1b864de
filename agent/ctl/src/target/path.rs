//! Which file was probably meant by a path that leads nowhere.

use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::nearest;

/// The path that was probably meant: the first part that does not exist is taken for a neighbour of nearly that name.
/// Neighbours that `fits` refuses are not considered.
pub(crate) fn meant(path: &Path, fits: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut there = PathBuf::new();
    let mut parts = path.components();
    let wrong = loop {
        let part = parts.next()?;
        if !there.join(part).exists() {
            break part;
        }
        there.push(part);
    };
    let Component::Normal(wrong) = wrong else { return None };
    let folder = if there.as_os_str().is_empty() { Path::new(".") } else { &there };
    let mut names: Vec<String> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .filter(|name| folder.join(name).is_dir() || fits(&folder.join(name)))
        .collect();
    // The order of a directory is nobody's.
    names.sort();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let name = nearest(&wrong.to_string_lossy(), &names)?;
    let meant = there.join(name).join(parts.as_path());
    // An empty rest would add a slash.
    let meant: PathBuf = meant.components().collect();
    meant.exists().then_some(meant)
}

/// `: did you mean that?`, or nothing.
pub(crate) fn guess(path: &Path) -> String {
    let meant = meant(path, |_| true);
    meant.map_or_else(String::new, |meant| format!(": did you mean {}?", meant.display()))
}

/// Whether it is a file of that kind by its name.
pub(crate) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|own| extensions.contains(&own))
}

#[cfg(test)]
mod tests {
    //! Against a directory of its own.

    use super::{has_extension, meant};

    #[test]
    fn a_misspelt_part_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("examples/hello")).unwrap();
        std::fs::write(at("examples/hello/compose.yaml"), "").unwrap();
        let found = |path: &str| meant(&at(path), |file| has_extension(file, &["yaml"]));
        assert_eq!(found("examples/helo"), Some(at("examples/hello")));
        assert_eq!(found("exampels/hello"), Some(at("examples/hello")));
        assert_eq!(found("examples/hello/compsoe.yaml"), Some(at("examples/hello/compose.yaml")));
        assert_eq!(found("exampels/goodbye"), None, "what is suggested exists");
        assert_eq!(found("elsewhere"), None);
        assert_eq!(found("examples/hello"), None, "it leads somewhere");
        std::fs::write(at("examples/notes.txt"), "").unwrap();
        assert_eq!(found("examples/nots.txt"), None, "only what would be of use");
    }
}
