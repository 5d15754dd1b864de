//! The weighted rendezvous score, in integers: every build on every processor must come to the same order.

use crate::id::{Hash, NodeId};
use crate::prng::mix;

/// Fraction bits of the logarithm. 32 leave it exact to 10^-9, far below what a weight in percent can express.
const FRACTION_BITS: u32 = 32;

/// How much `node`, of `weight` percent, is drawn to `slot`: `weight / -log2(u)` for a `u` that is uniform in (0, 1) and
/// belongs to the pair. The highest score of several nodes falls on each with a probability proportional to its weight.
#[must_use]
pub fn score(slot: &Hash, node: NodeId, weight: u32) -> u64 {
    let bytes = node.as_bytes().iter().fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
    let [high, low] = [
        u64::try_from(bytes >> 40).unwrap_or(0),
        u64::try_from(bytes & 0xFF_FFFF_FFFF).unwrap_or(0),
    ];
    let uniform = mix(mix(slot.head() ^ high).wrapping_add(low));
    let distance = minus_log2(uniform);
    let scaled = (u128::from(weight) << (2 * FRACTION_BITS)) / u128::from(distance);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// `-log2((n + 1) / 2^64)` in fixed point, at least 1.
///
/// Bit by bit: squaring a number in [1, 2) doubles its logarithm, and a result of 2 or more yields a one bit
/// (Knuth, The Art of Computer Programming, 1.2.2 exercise 25, in base 2).
fn minus_log2(n: u64) -> u64 {
    let number = u128::from(n).saturating_add(1);
    let whole = 127_u32.saturating_sub(number.leading_zeros());
    // The mantissa in [1, 2) with 63 fraction bits. In 64 bits, for this is done for every node whenever a slot is ranked.
    let mantissa = if whole >= 63 { number >> (whole - 63) } else { number << (63 - whole) };
    let mut mantissa = u64::try_from(mantissa).unwrap_or(u64::MAX);
    let mut fraction = 0_u64;
    for _ in 0..FRACTION_BITS {
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63;
        let carry = u64::try_from(square >> 64).unwrap_or(0);
        fraction = (fraction << 1) | carry;
        mantissa = u64::try_from(square >> carry).unwrap_or(u64::MAX);
    }
    let log = (u64::from(whole) << FRACTION_BITS) | fraction;
    (64_u64 << FRACTION_BITS).saturating_sub(log).max(1)
}

#[cfg(test)]
mod tests {
    //! The fixed-point logarithm is right, and weights mean shares.

    use super::{FRACTION_BITS, minus_log2, score};
    use crate::id::{Hash, NodeId, PublicKey};

    #[test]
    fn logarithms_of_powers_of_two_are_exact() {
        for power in 0..64_u32 {
            assert_eq!(minus_log2((1_u64 << power) - 1), u64::from(64 - power) << FRACTION_BITS);
        }
    }

    #[test]
    fn the_logarithm_falls_as_its_argument_rises() {
        let mut last = u64::MAX;
        for step in 0..1000_u64 {
            let log = minus_log2(step * (u64::MAX / 1000));
            assert!(log <= last);
            last = log;
        }
    }

    #[test]
    fn a_node_of_twice_the_weight_wins_twice_as_often() {
        let [small, large] = [NodeId::of(&PublicKey([1; 32])), NodeId::of(&PublicKey([2; 32]))];
        let wins = (0..6000_u32).filter(|number| {
            let slot = Hash::of(&[&number.to_be_bytes()]);
            score(&slot, large, 200) > score(&slot, small, 100)
        });
        let share = wins.count();
        // 4000 expected; the standard deviation is 37.
        assert!((3800..4200).contains(&share), "{share}");
    }
}
