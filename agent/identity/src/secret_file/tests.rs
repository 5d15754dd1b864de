//! Secret files are whole, private and durable.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::{SecretFileError, read, replace, write_new};

#[test]
fn a_replaced_file_is_private_even_if_the_old_one_was_not() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("secret");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(read(&path), Err(SecretFileError::Open { mode: 0o644, .. })));
    replace(&path, b"new").unwrap();
    assert_eq!(read(&path).unwrap().as_str(), "new");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft stays");
}

#[test]
fn a_write_that_fails_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("missing/secret");
    let error = write_new(&missing, b"secret").unwrap_err().to_string();
    assert!(error.contains("missing/secret"), "{error}");
    let occupied = directory.path().join("occupied");
    fs::create_dir(&occupied).unwrap();
    replace(&occupied, b"secret").unwrap_err();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft stays");
}
