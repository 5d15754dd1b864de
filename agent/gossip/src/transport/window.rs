//! Which numbers of a sender were seen already.

/// How far a datagram may come late. A message has up to 52 packets and a few messages are under way at once.
const WIDTH: u64 = 1_024;

/// A sliding window over a sender's counter.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    /// The highest number seen; counters begin at one.
    top: u64,
    /// One bit for each of the last [`WIDTH`] numbers, at its remainder.
    seen: [u64; 16],
}

impl Window {
    pub(crate) const fn new() -> Self {
        Self { top: 0, seen: [0; 16] }
    }

    /// Whether `counter` is new; from now on it is not.
    pub(crate) fn admit(&mut self, counter: u64) -> bool {
        if counter == 0 || counter.saturating_add(WIDTH) <= self.top {
            return false;
        }
        if counter > self.top {
            if counter - self.top >= WIDTH {
                self.seen = [0; 16];
            } else {
                for skipped in (self.top + 1)..=counter {
                    self.with_bit(skipped, |word, bit| *word &= !bit);
                }
            }
            self.top = counter;
        }
        let mut fresh = false;
        self.with_bit(counter, |word, bit| {
            fresh = *word & bit == 0;
            *word |= bit;
        });
        fresh
    }

    fn with_bit(&mut self, counter: u64, change: impl FnOnce(&mut u64, u64)) {
        let place = counter % WIDTH;
        let word = usize::try_from(place / 64).ok().and_then(|index| self.seen.get_mut(index));
        if let Some(word) = word {
            change(word, 1 << (place % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    //! Every number passes once.

    use super::{WIDTH, Window};

    #[test]
    fn each_number_passes_once_in_any_order() {
        let mut window = Window::new();
        for counter in [1, 3, 2, 700, 5, 1_025, 900, 4_000, 3_999] {
            assert!(window.admit(counter), "{counter} is new");
        }
        for counter in [1, 3, 2, 700, 5, 1_025, 900, 4_000, 3_999] {
            assert!(!window.admit(counter), "{counter} was seen");
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_refused_unseen() {
        let mut window = Window::new();
        assert!(window.admit(WIDTH + 10));
        assert!(!window.admit(10));
        assert!(window.admit(11));
        assert!(!window.admit(0));
    }

    #[test]
    fn a_full_turn_forgets_the_numbers_of_the_turn_before() {
        let mut window = Window::new();
        for counter in 1..=(3 * WIDTH) {
            assert!(window.admit(counter));
            assert!(!window.admit(counter));
        }
        assert!(window.admit(u64::MAX));
        assert!(!window.admit(u64::MAX));
    }
}
