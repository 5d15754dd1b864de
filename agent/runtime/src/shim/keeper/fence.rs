//! What guards are told of a lease: bytes in a file, and what follows from them.
//!
//! A run by a lease has a file of one page in memory. The agent makes it before anything of the run is, and writes later fences
//! into it; the shim and the host guard read it at every wake:
//!
//! ```text
//! at 0      a fence       nine numbers of 64 bits, little endian: a mark, the boot (two), the token,
//! at 128    a fence       SIGTERM and SIGKILL by both clocks in nanoseconds (two each), a checksum
//! at 208    the end       five numbers, once the agent has asked the run to stop: a mark, the boot (two), the token, a checksum
//! at 256    the groups    the length of the text, its checksum, and the text: directories of the run's control groups
//! then      the network   the same: the name of its namespace, empty where it is not known
//! ```
//!
//! A later fence goes where the earlier of the two is. One that is read while it is written, or whose writer died over it, has
//! the wrong checksum, and the other one holds. The end stays: nobody takes it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::lease::State;
use super::numbers;

/// The whole file.
pub(crate) const PAGE_LEN: usize = 4096;

/// What is read at each wake: both fences and the end.
pub(crate) const FENCES_LEN: usize = GROUPS_AT;

const GROUPS_AT: usize = 256;

/// Before each text: its length and its checksum.
const HEAD_LEN: usize = 16;

/// Where the two fences are.
pub(crate) const SLOTS_AT: [usize; 2] = [0, 128];

/// The length of one.
pub(crate) const SLOT_LEN: usize = 9 * 8;

/// Another number when the layout is another: guards and agents of different builds meet here.
const MARK: u64 = u64::from_le_bytes(*b"meshfen1");

/// Where the end is.
pub(crate) const END_AT: usize = 208;

const END_MARK: u64 = u64::from_le_bytes(*b"meshend1");

/// A guard wakes at least this often: the tenth part of what the shortest lease leaves for a kill.
pub(crate) const WAKE_MS: u64 = 100;

/// While it kills, it looks this often whether that was enough.
const KILL_MS: u64 = 10;

/// A process that was killed ends in much less; one that is there after that hangs in the kernel, and trying often does not help.
pub(crate) const STUCK_MS: u64 = 2_000;

const NANOS_PER_MS: u64 = 1_000_000;

/// What the two steady clocks of the host show, in nanoseconds: the time since boot, and that of the raw oscillator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) boot: u64,
    pub(crate) raw: u64,
}

impl Moment {
    /// Whether `deadline` may have come: by either clock.
    pub(crate) const fn may_be_past(self, deadline: Self) -> bool {
        self.boot >= deadline.boot || self.raw >= deadline.raw
    }

    /// How many milliseconds it is at least until then, rounded down; 0 when it may have come.
    pub(crate) fn millis_until(self, deadline: Self) -> u64 {
        let boot = deadline.boot.saturating_sub(self.boot);
        boot.min(deadline.raw.saturating_sub(self.raw)) / NANOS_PER_MS
    }

    /// How many milliseconds have passed since then, rounded down.
    pub(crate) const fn millis_since(self, earlier: Self) -> u64 {
        self.boot.saturating_sub(earlier.boot) / NANOS_PER_MS
    }

    /// Whether it is earlier by neither clock.
    const fn is_not_before(self, other: Self) -> bool {
        self.boot >= other.boot && self.raw >= other.raw
    }
}

/// A fence of a certain boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) boot: u128,
    pub(crate) token: u64,
    pub(crate) stop: Moment,
    pub(crate) kill: Moment,
}

impl Told {
    /// As it is written.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { boot, token, stop, kill } = *self;
        let [high, low] = numbers::halves(boot);
        numbers::seal(&[MARK, high, low, token, stop.boot, stop.raw, kill.boot, kill.raw])
    }

    /// What was written; `None` when it was not written whole, or in another layout.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let [mark, high, low, token, stop_boot, stop_raw, kill_boot, kill_raw] =
            numbers::open(bytes)?;
        let boot = numbers::whole(high, low);
        let stop = Moment { boot: stop_boot, raw: stop_raw };
        let kill = Moment { boot: kill_boot, raw: kill_raw };
        (mark == MARK).then_some(Self { boot, token, stop, kill })
    }

    /// Whether it renews `earlier`: of the same lease, and earlier in nothing.
    pub(crate) fn renews(&self, earlier: &Self) -> bool {
        self.boot == earlier.boot
            && self.token == earlier.token
            && self.stop.is_not_before(earlier.stop)
            && self.kill.is_not_before(earlier.kill)
    }

    /// What is written when the agent asks the run by this lease to stop.
    pub(crate) fn encode_end(&self) -> Vec<u8> {
        let [high, low] = numbers::halves(self.boot);
        numbers::seal(&[END_MARK, high, low, self.token])
    }

    /// Whether the agent has asked the run by this lease to stop.
    fn is_ended_by(&self, page: &[u8]) -> bool {
        let end = page.get(END_AT..).and_then(numbers::open);
        let [high, low] = numbers::halves(self.boot);
        end == Some([END_MARK, high, low, self.token])
    }

    /// How much of it has passed.
    const fn passed(&self, now: Moment) -> u8 {
        if now.may_be_past(self.kill) {
            KILL_PASSED
        } else if now.may_be_past(self.stop) {
            STOP_PASSED
        } else {
            0
        }
    }
}

/// Both fences of a file, as far as they are whole.
pub(crate) fn fences(page: &[u8]) -> [Option<Told>; 2] {
    SLOTS_AT.map(|at| page.get(at..).and_then(Told::decode))
}

/// A new file. `None` when the texts have no room in it.
pub(crate) fn page(told: &Told, groups: &str, network: &str) -> Option<Vec<u8>> {
    let mut page = vec![0; PAGE_LEN];
    page.get_mut(..SLOT_LEN)?.copy_from_slice(&told.encode());
    let mut rest = page.get_mut(GROUPS_AT..)?;
    for text in [groups, network] {
        let (head, body) = rest.split_at_mut_checked(HEAD_LEN)?;
        let (len, sum) = head.split_at_mut_checked(8)?;
        len.copy_from_slice(&u64::try_from(text.len()).ok()?.to_le_bytes());
        sum.copy_from_slice(&numbers::checksum(text.as_bytes()).to_le_bytes());
        let (place, behind) = body.split_at_mut_checked(text.len())?;
        place.copy_from_slice(text.as_bytes());
        rest = behind;
    }
    Some(page)
}

/// The directories of the control groups, of a whole file.
pub(crate) fn groups(page: &[u8]) -> Option<&str> {
    Some(text(page.get(GROUPS_AT..)?)?.0)
}

/// The name of the network namespace; `None` when it is not known, as in the file of an agent that does not tell it.
pub(crate) fn network(page: &[u8]) -> Option<&str> {
    let (_, rest) = text(page.get(GROUPS_AT..)?)?;
    Some(text(rest)?.0).filter(|name| !name.is_empty())
}

/// A text, and what is behind it.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD_LEN)?;
    let (len, sum) = head.split_at_checked(8)?;
    let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
    let (text, rest) = rest.split_at_checked(usize::try_from(number(len)?).ok()?)?;
    let is_whole = numbers::checksum(text) == number(sum)?;
    Some((std::str::from_utf8(text).ok().filter(|_| is_whole)?, rest))
}

/// A boot's name, as the kernel writes it.
pub(crate) fn parse_boot(text: &str) -> Option<u128> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    if digits.len() == 32 { u128::from_str_radix(&digits, 16).ok() } else { None }
}

/// What a guard has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Whatever runs is killed, and nothing is heard any more.
    Kill,
    /// Nothing yet.
    Nothing,
    /// It is asked to stop. Said once.
    Stop,
}

/// The stop, and the kill: what has passed once has passed for good.
const STOP_PASSED: u8 = 1;
const KILL_PASSED: u8 = 2;

/// What a guard holds on to: the latest fence of the lease by which its run began.
#[derive(Debug)]
pub(crate) struct Held {
    told: Told,
    asked: bool,
    ended: bool,
    /// How much has passed, for all who hold on to the same lease. Nobody waits for another here.
    passed: Arc<AtomicU8>,
}

impl Held {
    /// Begins with what the file says. `None` when it says nothing, or nothing of this boot. If it speaks of two leases, which no
    /// agent writes, the one that ends first holds.
    pub(crate) fn begin(fences: [Option<Told>; 2], boot: u128) -> Option<Self> {
        let mut whole = fences.into_iter().flatten().filter(|told| told.boot == boot);
        let first = whole.next()?;
        let told = match whole.next() {
            Some(second) if second.renews(&first) => second,
            Some(second) if !first.renews(&second) && second.kill.boot < first.kill.boot => second,
            Some(_) | None => first,
        };
        Some(Self { told, asked: false, ended: false, passed: Arc::default() })
    }

    /// Another who holds on to the same lease, and speaks of it while the guard acts: neither goes back behind what the other saw.
    pub(crate) fn twin(&self) -> Self {
        Self { told: self.told, asked: false, ended: self.ended, passed: Arc::clone(&self.passed) }
    }

    /// Takes what the file says: what renews the lease, and that it ends; anything else changes nothing.
    pub(crate) fn take(&mut self, page: &[u8]) {
        for told in fences(page).into_iter().flatten() {
            if told.renews(&self.told) {
                self.told = told;
            }
        }
        self.ended |= self.told.is_ended_by(page);
    }

    fn passed(&self, now: Moment) -> u8 {
        let passed = self.told.passed(now);
        self.passed.fetch_max(passed, Ordering::Relaxed).max(passed)
    }

    /// What is due.
    pub(crate) fn due(&mut self, now: Moment) -> Due {
        match self.passed(now) {
            0 => Due::Nothing,
            STOP_PASSED if self.asked => Due::Nothing,
            STOP_PASSED => {
                self.asked = true;
                Due::Stop
            }
            _ => Due::Kill,
        }
    }

    /// In how many milliseconds to look again.
    pub(crate) fn wake_ms(&self, now: Moment) -> u64 {
        if self.passed.load(Ordering::Relaxed) >= KILL_PASSED {
            let late = now.boot.saturating_sub(self.told.kill.boot) / NANOS_PER_MS;
            return if late < STUCK_MS { KILL_MS } else { WAKE_MS };
        }
        let next = if self.asked { self.told.kill } else { self.told.stop };
        // Rounded up, so that one wake is enough.
        now.millis_until(next).min(WAKE_MS - 1) + 1
    }

    /// What it goes by.
    pub(crate) const fn told(&self) -> Told {
        self.told
    }

    /// What the workload is told.
    pub(crate) fn state(&self, now: Moment) -> State {
        match self.passed(now) {
            0 if !self.ended => State::Held,
            0 | STOP_PASSED => State::Ending,
            _ => State::Over,
        }
    }
}

#[cfg(test)]
mod tests;
