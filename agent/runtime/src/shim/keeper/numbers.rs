//! A few numbers with a checksum, so that whoever reads them while they are written notices.

/// The numbers and their checksum, little endian.
pub(crate) fn seal(numbers: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// So many numbers from the beginning of `bytes`; `None` when they were not written whole.
pub(crate) fn open<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let (said, rest) = bytes.split_at_checked(N * 8)?;
    let sum = u64::from_le_bytes(rest.get(..8)?.try_into().ok()?);
    if checksum(said) != sum {
        return None;
    }
    let mut numbers = [0; N];
    for (number, place) in numbers.iter_mut().zip(said.chunks_exact(8)) {
        *number = u64::from_le_bytes(place.try_into().ok()?);
    }
    Some(numbers)
}

/// FNV-1a: it tells what is torn from what is whole, not what is forged from what is true.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The upper and the lower half of a long one.
pub(crate) fn halves(number: u128) -> [u64; 2] {
    let half = |number: u128| u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0);
    [half(number >> 64), half(number)]
}

/// A long one of its halves.
pub(crate) fn whole(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
