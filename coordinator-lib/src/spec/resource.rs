//! Amounts of a node's resources.

use std::fmt;

/// Processor time, in thousandths of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cpu {
    /// Thousandths of a core.
    pub millis: u64,
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.millis / 1000, self.millis % 1000)
    }
}

/// An amount of memory or of disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    /// In the largest binary unit in which the amount is at least one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let fitting = units.into_iter().find(|(_, size)| self.0 >= *size);
        match fitting {
            Some((unit, size)) if self.0.is_multiple_of(size) => {
                write!(f, "{} {unit}", self.0 / size)
            }
            Some((unit, size)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(size);
                write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
            }
            None => write!(f, "{} B", self.0),
        }
    }
}

/// What something sets aside on a node, or what a node has to set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reservation {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Bytes,
}

impl Reservation {
    /// Both amounts together; saturates.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            cpu: Cpu { millis: self.cpu.millis.saturating_add(other.cpu.millis) },
            memory: Bytes(self.memory.0.saturating_add(other.memory.0)),
        }
    }

    /// What is left after taking `other` away; never below zero.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            cpu: Cpu { millis: self.cpu.millis.saturating_sub(other.cpu.millis) },
            memory: Bytes(self.memory.0.saturating_sub(other.memory.0)),
        }
    }

    /// Whether this much is available in `room`.
    #[must_use]
    pub fn fits(self, room: Self) -> bool {
        self.cpu <= room.cpu && self.memory <= room.memory
    }
}
