//! The clocks of this machine, which all hosts of a lab share: one that nothing slews, and how fast the other ones go.
#![expect(unsafe_code, reason = "there is no safe call for the rate of the clocks")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};

/// How far the kernel lets a daemon slew its clocks, in parts per million: 500.
const PPM_MAX: i64 = 500;
/// The kernel counts in parts per million with a fraction of 16 bits.
const PPM: i64 = 1 << 16;

/// The time of the raw oscillator.
///
/// # Errors
/// When the kernel has no such clock.
pub(crate) fn raw() -> Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_RAW).context("no raw clock")?;
    Ok(Duration::new(u64::try_from(time.tv_sec())?, u32::try_from(time.tv_nsec())?))
}

/// The clocks of this machine go faster or slower than they should, until this is dropped.
#[derive(Debug)]
pub(crate) struct Slew {
    file: PathBuf,
}

impl Slew {
    /// Begins. What was before is in a file of the lab, so that whoever cleans up after a killed process puts it back.
    pub(crate) fn begin(lab: &Path, is_faster: bool) -> Result<Self> {
        let file = lab.join(FILE);
        let before = frequency(None).context("cannot read the rate of the clocks")?;
        if !file.exists() {
            fs::write(&file, before.to_string())?;
        }
        let slew = Self { file };
        let ppm = if is_faster { PPM_MAX } else { -PPM_MAX };
        frequency(Some(ppm * PPM)).context("cannot slew the clocks")?;
        Ok(slew)
    }
}

impl Drop for Slew {
    fn drop(&mut self) {
        restore(&self.file);
    }
}

/// The file of a lab that says how fast the clocks went before.
const FILE: &str = "clock-rate";

/// Puts back what a lab has changed and not put back itself.
pub(crate) fn restore_of(lab: &Path) {
    restore(&lab.join(FILE));
}

fn restore(file: &Path) {
    let before = fs::read_to_string(file).ok().and_then(|text| text.parse().ok());
    if let Some(before) = before
        && frequency(Some(before)).is_ok()
    {
        let (Ok(()) | Err(_)) = fs::remove_file(file);
    }
}

/// Reads by how much the clocks are corrected, or sets it.
fn frequency(set: Option<i64>) -> io::Result<i64> {
    // SAFETY: all of it is numbers, for which zero is a value.
    let mut told: libc::timex = unsafe { std::mem::zeroed() };
    if let Some(value) = set {
        told.modes = libc::ADJ_FREQUENCY;
        told.freq = value;
    }
    // SAFETY: the kernel reads and writes this one structure.
    if unsafe { libc::adjtimex(&raw mut told) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(told.freq)
}
