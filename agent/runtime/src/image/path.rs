//! Paths in an archive, taken apart so that nothing in them can point outside of the root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use mesh_ports::runtime::ImageError;

use super::fault::invalid;

/// Linux's own bounds for a path and for one name in it.
const PATH_LEN_MAX: usize = 4096;
const NAME_LEN_MAX: usize = 255;

/// The names on the way from the root to the file; empty for the root itself. `.` and empty names are dropped.
///
/// A path that is absolute or contains `..` is refused even where it would stay inside: no tool that builds images writes one,
/// and guessing what was meant is how archives escape.
pub(super) fn components(raw: &[u8]) -> Result<Vec<&OsStr>, ImageError> {
    let refuse = |why: &str| invalid(format!("the path {} {why}", shown(raw)));
    if raw.is_empty() {
        return Err(refuse("is empty"));
    }
    if raw.len() > PATH_LEN_MAX {
        return Err(refuse("is too long"));
    }
    if raw.contains(&0) {
        return Err(refuse("contains a zero byte"));
    }
    if raw.starts_with(b"/") {
        return Err(refuse("is absolute"));
    }
    let mut names = Vec::new();
    for name in raw.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(refuse("leaves the root with ..")),
            _ if name.len() > NAME_LEN_MAX => {
                return Err(refuse("contains a name that is too long"));
            }
            _ => names.push(OsStr::from_bytes(name)),
        }
    }
    Ok(names)
}

/// The path in quotes for messages, shortened, whatever its bytes are.
pub(super) fn shown(raw: &[u8]) -> String {
    const SHOWN_LEN: usize = 120;
    let text = String::from_utf8_lossy(raw);
    let mut short: String = text.chars().take(SHOWN_LEN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    //! Whatever the bytes, nothing that comes out leads outside.

    use proptest::prelude::*;

    use super::components;

    fn joined(names: &[&std::ffi::OsStr]) -> Vec<u8> {
        names.iter().map(|name| name.as_encoded_bytes()).collect::<Vec<_>>().join(&b'/')
    }

    #[test]
    fn harmless_noise_is_dropped() {
        assert_eq!(joined(&components(b"./usr//bin/./sh").unwrap()), b"usr/bin/sh");
        assert_eq!(joined(&components(b"..a/b..").unwrap()), b"..a/b..");
        assert!(components(b"./").unwrap().is_empty());
    }

    #[test]
    fn paths_that_leave_the_root_are_refused() {
        for path in ["", "/", "/etc/passwd", "..", "a/..", "a/../../b", "./..", "../x", "a/../b"] {
            assert!(components(path.as_bytes()).is_err(), "{path}");
        }
        assert!(components(b"a\0b").is_err());
        assert!(components(&[b'a'; 256]).is_err());
        assert!(components(&b"a/".repeat(3000)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_accepted_stays_inside(raw in proptest::collection::vec(
            prop_oneof![Just(b'.'), Just(b'/'), Just(b'a'), any::<u8>()], 0..40,
        )) {
            let climbs = raw.split(|&byte| byte == b'/').any(|name| name == b"..");
            match components(&raw) {
                Ok(names) => {
                    prop_assert!(!climbs && !raw.starts_with(b"/") && !raw.contains(&0));
                    for name in &names {
                        let name = name.as_encoded_bytes();
                        prop_assert!(!name.is_empty() && name != b"." && !name.contains(&b'/'));
                    }
                    if !names.is_empty() {
                        let again = joined(&names);
                        prop_assert_eq!(components(&again).unwrap(), names);
                    }
                }
                Err(_) => prop_assert!(climbs || raw.is_empty() || raw.starts_with(b"/") || raw.contains(&0)),
            }
        }
    }
}
