//! Kernel settings of the calling thread's network namespace.
//!
//! `/proc/sys/net` shows the namespace of the thread that opens it, unlike `/sys`, which shows that of who mounted it.

use std::fs;

use super::step::StepError;

/// The value of the setting at `path` below `/proc/sys`.
pub(super) fn read(path: &str) -> Result<String, StepError> {
    fs::read_to_string(format!("/proc/sys/{path}"))
        .map(|text| text.trim().to_owned())
        .map_err(|error| StepError::refused(format!("read /proc/sys/{path}"), error))
}

/// Writes the setting at `path` below `/proc/sys`, if it is another. Says whether it was.
pub(super) fn ensure(path: &str, value: &str) -> Result<bool, StepError> {
    if read(path)? == value {
        return Ok(false);
    }
    fs::write(format!("/proc/sys/{path}"), value)
        .map_err(|error| StepError::refused(format!("write {value} to /proc/sys/{path}"), error))?;
    Ok(true)
}
