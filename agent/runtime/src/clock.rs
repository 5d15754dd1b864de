//! The steady clocks of this host, by which leases end.

use std::io;
use std::time::Duration;

use mesh_coordinator::lease::exclusive::BootId;
use mesh_coordinator::time::Reading;
use mesh_ports::clock::LeaseClock;

use crate::shim::{self, Moment};

/// `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC_RAW`.
#[derive(Debug, Clone, Copy)]
pub struct SteadyClock {
    boot: BootId,
}

impl SteadyClock {
    /// The clocks of this boot.
    ///
    /// # Errors
    /// When the kernel does not tell which boot it is.
    pub fn of_this_boot() -> io::Result<Self> {
        Ok(Self { boot: BootId(shim::boot()?) })
    }
}

impl LeaseClock for SteadyClock {
    fn reading(&self) -> Reading {
        let Moment { boot, raw } = shim::now();
        Reading::new(Duration::from_nanos(boot), Duration::from_nanos(raw))
    }

    fn boot(&self) -> BootId {
        self.boot
    }
}

#[cfg(test)]
mod tests {
    //! They are the kernel's.

    use std::time::Duration;

    use mesh_ports::clock::LeaseClock as _;

    use super::SteadyClock;

    #[test]
    fn the_clocks_go_on_and_the_boot_stays() {
        let clock = SteadyClock::of_this_boot().expect("a boot");
        let (before, up) =
            (clock.reading(), std::fs::read_to_string("/proc/uptime").expect("read"));
        let seconds: f64 =
            up.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
        let after = clock.reading();
        assert!(after.boot() >= before.boot() && after.raw() >= before.raw());
        let shown = before.boot().abs_diff(Duration::from_secs_f64(seconds));
        assert!(shown < Duration::from_secs(10), "the time since boot is the kernel's: {shown:?}");
        assert_eq!(clock.boot(), SteadyClock::of_this_boot().expect("a boot").boot());
        assert_ne!(clock.boot().0, 0);
    }
}
